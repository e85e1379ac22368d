//! What can be wrong with a resource, each with what to write instead.

use mainstay_crds::common::sentences;
use mainstay_crds::postgres::{pooler, rules};
use mainstay_shared::operator::validated;

/// Something that is wrong with a resource. Its text begins with the field.
///
/// The API server refuses nearly all of these itself, with the same sentence; they come up here
/// when a resource was written before the rule, or when only the operator can know (the image
/// catalogue, values of parameters, what fits into memory).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// What can be wrong with a resource of any engine.
    #[error(transparent)]
    Common(#[from] validated::Problem),
    /// No major version that Mainstay runs.
    #[error("spec.version: {}", rules::VERSION)]
    Version,
    /// Too few or too many instances.
    #[error("spec.instances: {}", rules::INSTANCES)]
    Instances,
    /// Quorum with fewer than three instances.
    #[error("spec.durability: {}", sentences::QUORUM)]
    Quorum,
    /// How a quorum is kept that there is none of.
    #[error("spec.quorum: {}", sentences::ENFORCEMENT)]
    Enforcement,
    /// How far replicas may be behind that there are none of, or that commits wait for.
    #[error("spec.async: {}", sentences::ASYNCHRONOUS)]
    Asynchronous,
    /// How far replicas may be behind, out of bounds.
    #[error("spec.async.maxLagBytes: {}", sentences::MAX_LAG)]
    MaxLag,
    /// A parameter that is not the user's to set.
    #[error("spec.parameters: {name}: {sentence}")]
    ParameterRefused {
        /// Its name.
        name: String,
        /// Why, and what to write instead.
        sentence: &'static str,
    },
    /// A parameter that this version does not have.
    #[error("spec.parameters: {}", rules::unknown(name, version))]
    ParameterUnknown {
        /// Its name.
        name: String,
        /// The version.
        version: String,
    },
    /// A name that is too long or of more than one line.
    #[error("spec.parameters: {}", rules::PARAMETER_NAME)]
    ParameterName,
    /// A parameter under two spellings.
    #[error("spec.parameters: {0} is there twice under two spellings: write it once")]
    ParameterTwice(String),
    /// A value of more than one line.
    #[error("spec.parameters: {0}: {sentence}", sentence = rules::ONE_LINE)]
    ParameterLines(String),
    /// A value that PostgreSQL would refuse.
    #[error("spec.parameters: {name}: write {expected}")]
    ParameterValue {
        /// The parameter's name.
        name: String,
        /// What would be taken.
        expected: String,
    },
    /// Too few or too many connections.
    #[error("spec.parameters: {}", rules::MAX_CONNECTIONS)]
    MaxConnections,
    /// Too few connections besides the reserved ones.
    #[error(
        "spec.parameters: superuser_reserved_connections and reserved_connections leave none of {max_connections} \
             connections: write a larger max_connections, or reserve fewer"
    )]
    ReservedConnections {
        /// The effective `max_connections`.
        max_connections: u32,
    },
    /// Too few WAL senders or replication slots.
    #[error("spec.parameters: {0}: {sentence}", sentence = rules::STREAMS)]
    Streams(String),
    /// A protocol that is no longer safe.
    #[error("spec.parameters: {}", rules::OLD_TLS)]
    OldTls,
    /// Commits that would not wait although quorum is promised.
    #[error("spec.parameters: {}", rules::SYNCHRONOUS_COMMIT)]
    SynchronousCommit,
    /// Shared buffers that do not fit.
    #[error(
        "spec.parameters: shared_buffers: does not fit into the instance's memory: write at most {most_mib}MB (three \
             quarters of it), or a larger resources.memory"
    )]
    SharedBuffers {
        /// The most that fits, in MiB.
        most_mib: i64,
    },
    /// A number of a pooler that makes no sense.
    #[error("spec.pooler.{0}: {1}")]
    Pooler(&'static str, &'static str),
    /// A pooler for replicas that are not there.
    #[error("spec.pooler.replicas: {}", pooler::REPLICAS)]
    PoolerReplicas,
    /// Neither the catalogue nor the resource has an image of the pooler.
    #[error(
        "spec.pooler: the operator's image catalogue has no image of PgBouncer: write pooler.image, or have the \
         platform add pgbouncer to the catalogue"
    )]
    NoPoolerImage,
    /// More server connections than PostgreSQL takes.
    #[error(
        "spec.pooler.poolSize: {pods} pods with {size} connections each would use more of PostgreSQL's \
         {max_connections} connections than it has for clients: write a smaller poolSize, or a larger max_connections"
    )]
    PoolerTooLarge {
        /// Its pods.
        pods: i32,
        /// Connections of each.
        size: i32,
        /// The effective `max_connections`.
        max_connections: u32,
    },
    /// No name of a database that an application can have.
    #[error("spec.application.database: {}", rules::DATABASE)]
    Database,
    /// No name of a role that an application can have.
    #[error("spec.application.owner: {}", rules::OWNER)]
    Owner,
}

impl Problem {
    /// A stable name of the kind of problem, as conditions and events carry it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Common(problem) => problem.reason(),
            Self::Version => "InvalidVersion",
            Self::Instances => "InvalidInstances",
            Self::Quorum => "QuorumNeedsThree",
            Self::Enforcement => "QuorumNeedsDurability",
            Self::Asynchronous => "AsyncNeedsDurability",
            Self::MaxLag => "InvalidMaxLag",
            Self::ParameterRefused { .. } => "ParameterManaged",
            Self::ParameterUnknown { .. } => "ParameterUnknown",
            Self::ParameterName => "InvalidParameterName",
            Self::ParameterTwice(_) => "ParameterTwice",
            Self::ParameterLines(_) | Self::ParameterValue { .. } => "InvalidParameterValue",
            Self::MaxConnections | Self::ReservedConnections { .. } => "InvalidConnections",
            Self::Streams(_) => "TooFewStreams",
            Self::OldTls => "UnsafeProtocol",
            Self::SynchronousCommit => "QuorumNeedsSynchronousCommit",
            Self::SharedBuffers { .. } => "SharedBuffersTooLarge",
            Self::Pooler(..) => "InvalidPooler",
            Self::PoolerReplicas => "PoolerNeedsReplicas",
            Self::NoPoolerImage => "NoImageForPooler",
            Self::PoolerTooLarge { .. } => "PoolerTooLarge",
            Self::Database => "InvalidDatabase",
            Self::Owner => "InvalidOwner",
        }
    }
}
