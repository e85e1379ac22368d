//! What can be wrong with a resource, each with what to write instead.

use mainstay_crds::redis::rules;
use mainstay_shared::operator::validated;

use crate::version::{Server, number};

/// A version as `spec.version` has it.
fn written(server: &Server) -> String {
    let (major, minor) = number(&server.version);
    format!("{major}.{minor}")
}

/// Something that is wrong with a resource. Its text begins with the field.
///
/// The API server refuses nearly all of these itself, with the same sentence; they come up here
/// when a resource was written before the rule, or when only the operator can know (the image
/// catalogue, values of parameters).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// What can be wrong with a resource of any engine.
    #[error(transparent)]
    Common(#[from] validated::Problem),
    /// Neither Redis nor Valkey.
    #[error("spec.engine: {}", rules::ENGINE)]
    Engine,
    /// No version that Mainstay runs.
    #[error("spec.version: {}", rules::VERSION)]
    Version,
    /// A version that does not read what the primary has written.
    #[error(
        "spec.version: {wanted} does not read what {wrote} has written, and {primary}, which is primary, runs it already or has run it: \
         write {}. For an older version make a new resource, and have an application copy the data",
        written(.wrote)
    )]
    Older {
        /// The primary.
        primary: String,
        /// What wrote its data.
        wrote: Server,
        /// What would have to read it.
        wanted: Server,
    },
    /// An image holds another version than the resource says.
    #[error(
        "spec.image: {image} holds {holds}, and version says {version}: write an image of {version}, or version: \"{}\"",
        written(.holds)
    )]
    ImageVersion {
        /// The image.
        image: String,
        /// What it holds.
        holds: Server,
        /// What is written.
        version: String,
    },
    /// No mode that is offered.
    #[error("spec.mode: {}", rules::MODE)]
    Mode,
    /// No number of shards that is offered.
    #[error("spec.shards: {}", rules::SHARDS)]
    Shards,
    /// No number of replicas that is offered.
    #[error("spec.replicas: {}", rules::REPLICAS)]
    Replicas,
    /// Shards without a cluster.
    #[error("spec.shards: {}", rules::ONLY_IN_CLUSTERS)]
    OnlyInClusters,
    /// What a cluster does not have.
    #[error("spec.mode: {}", rules::NOT_IN_CLUSTERS)]
    NotInClusters,
    /// A cluster without persistence.
    #[error("spec.persistence: {}", rules::KEPT_IN_CLUSTERS)]
    KeptInClusters,
    /// Too few or too many instances.
    #[error("spec.instances: {}", rules::INSTANCES)]
    Instances,
    /// What Redis cannot promise.
    #[error("spec.durability: {}", rules::DURABILITY)]
    Durability,
    /// A bound with fewer than three instances.
    #[error("spec.durability: {}", rules::BOUNDED)]
    Bounded,
    /// How a bound is kept that there is none of.
    #[error("spec.bounded: {}", rules::BOUNDED_BLOCK)]
    BoundedBlock,
    /// No replica, or all of them.
    #[error("spec.bounded.minReplicasToWrite: {}", rules::MIN_REPLICAS)]
    MinReplicas,
    /// A lag out of bounds.
    #[error("spec.bounded.maxLagSeconds: {}", rules::MAX_LAG)]
    MaxLag,
    /// No kind of persistence.
    #[error("spec.persistence: {}", rules::PERSISTENCE)]
    Persistence,
    /// Replicas of a dataset that no restart outlasts.
    #[error("spec.persistence: {}", rules::NONE_WITH_REPLICAS)]
    NoneWithReplicas,
    /// No policy of Redis'.
    #[error("spec.maxmemoryPolicy: {}", rules::POLICY)]
    Policy,
    /// A parameter that is not the user's to set.
    #[error("spec.parameters: {name}: {sentence}")]
    ParameterRefused {
        /// Its name.
        name: String,
        /// Why, and what to write instead.
        sentence: &'static str,
    },
    /// A parameter that Mainstay does not take.
    #[error("spec.parameters: {}", rules::unknown(.0))]
    ParameterUnknown(String),
    /// A name that is too long or of more than one line.
    #[error("spec.parameters: {}", rules::PARAMETER_NAME)]
    ParameterName,
    /// A value of more than one line.
    #[error("spec.parameters: {0}: {sentence}", sentence = rules::ONE_LINE)]
    ParameterLines(String),
    /// A value that Redis would refuse.
    #[error("spec.parameters: {name}: write {expected}")]
    ParameterValue {
        /// The parameter's name.
        name: String,
        /// What would be taken.
        expected: String,
    },
    /// A parameter of another version.
    #[error("spec.parameters: {0}")]
    ParameterLacking(&'static str),
    /// A parameter of another persistence.
    #[error("spec.parameters: {0}")]
    ParameterElsewhere(&'static str),
}

impl Problem {
    /// A stable name of the kind of problem, as conditions and events carry it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Common(problem) => problem.reason(),
            Self::Engine => "InvalidEngine",
            Self::Version => "InvalidVersion",
            Self::Older { .. } => "OlderVersion",
            Self::ImageVersion { .. } => "ImageOfAnotherVersion",
            Self::Mode => "InvalidMode",
            Self::Shards => "InvalidShards",
            Self::Replicas => "InvalidReplicas",
            Self::OnlyInClusters => "ShardsNeedCluster",
            Self::NotInClusters => "NotInClusters",
            Self::KeptInClusters => "ClusterNeedsPersistence",
            Self::Instances => "InvalidInstances",
            Self::Durability => "InvalidDurability",
            Self::Bounded => "BoundedNeedsThree",
            Self::BoundedBlock => "BoundedNeedsDurability",
            Self::MinReplicas => "InvalidMinReplicas",
            Self::MaxLag => "InvalidMaxLag",
            Self::Persistence => "InvalidPersistence",
            Self::NoneWithReplicas => "ReplicasNeedPersistence",
            Self::Policy => "InvalidMaxmemoryPolicy",
            Self::ParameterRefused { .. } => "ParameterManaged",
            Self::ParameterUnknown(_) => "ParameterUnknown",
            Self::ParameterName => "InvalidParameterName",
            Self::ParameterLines(_) | Self::ParameterValue { .. } => "InvalidParameterValue",
            Self::ParameterLacking(_) => "ParameterNeedsVersion",
            Self::ParameterElsewhere(_) => "ParameterNeedsPersistence",
        }
    }
}
