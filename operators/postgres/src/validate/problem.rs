//! What can be wrong with a resource, each with what to write instead.

use mainstay_crds::common::sentences;
use mainstay_crds::postgres::{pooler, rules};
use mainstay_shared::rollout::window::WindowProblem;

/// Something that is wrong with a resource. Its text begins with the field.
///
/// The API server refuses nearly all of these itself, with the same sentence; they come up here
/// when a resource was written before the rule, or when only the operator can know (the image
/// catalogue, values of parameters, what fits into memory).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The resource did not come from an API server.
    #[error("metadata.uid: the resource is not stored: apply it with kubectl")]
    NotStored,
    /// The name cannot be part of DNS names.
    #[error("{}", sentences::NAME)]
    Name,
    /// The annotation that pauses has another value.
    #[error(
        "metadata.annotations[mainstay.dev/reconcile]: write paused, or remove the annotation; {0:?} means nothing"
    )]
    Pause(String),
    /// No major version that Mainstay runs.
    #[error("spec.version: {}", rules::VERSION)]
    Version,
    /// Neither the catalogue nor the resource has an image.
    #[error(
        "spec.version: the operator's image catalogue has {available} and not {major}: write one it has, write image, or have the platform add {major} to the catalogue"
    )]
    NoImage {
        /// The version that is asked for.
        major: u32,
        /// Versions that the catalogue has.
        available: String,
    },
    /// Too few or too many instances.
    #[error("spec.instances: {}", rules::INSTANCES)]
    Instances,
    /// An image without a fixed tag or digest.
    #[error("spec.image: {}", sentences::IMAGE)]
    Image,
    /// No name of a Secret.
    #[error("spec.imagePullSecrets: {}", sentences::PULL_SECRETS)]
    PullSecret,
    /// A Secret named twice.
    #[error("spec.imagePullSecrets: {0} is there twice: write it once")]
    PullSecretTwice(String),
    /// Processor time that makes no sense.
    #[error("spec.resources.cpu: {}", sentences::CPU)]
    Cpu,
    /// Memory that makes no sense.
    #[error("spec.resources.memory: {}", sentences::MEMORY)]
    Memory,
    /// A volume that makes no sense.
    #[error("spec.storage.size: {}", sentences::STORAGE_SIZE)]
    StorageSize,
    /// No name of a StorageClass.
    #[error("spec.storage.class: {}", sentences::STORAGE_CLASS)]
    StorageClass,
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
    /// A validity that makes no sense.
    #[error("spec.tls.certificateHours: {}", sentences::CERTIFICATE_HOURS)]
    CertificateHours,
    /// A maintenance window that is none.
    #[error("{}", window(*.0))]
    Window(WindowProblem),
    /// A client chosen by nothing.
    #[error("spec.network.clients[{0}]: {sentence}", sentence = sentences::CLIENT_SELECTS)]
    ClientSelects(usize),
    /// Labels that Kubernetes does not know.
    #[error("{0}: {sentence}", sentence = sentences::LABELS)]
    Labels(String),
    /// No key of a label and taint.
    #[error("spec.placement.dedicatedNodes.key: {}", sentences::DEDICATED_KEY)]
    DedicatedKey,
    /// No value of a label and taint.
    #[error("spec.placement.dedicatedNodes.value: {}", sentences::DEDICATED_VALUE)]
    DedicatedValue,
    /// No name of a PriorityClass.
    #[error("spec.placement.priorityClass: {}", sentences::PRIORITY_CLASS)]
    PriorityClass,
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
    /// Something of backups, or of a beginning from one, that cannot be.
    #[error("spec.{field}: {sentence}")]
    Backup {
        /// The field.
        field: String,
        /// What to write instead.
        sentence: &'static str,
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
            Self::NotStored => "NotStored",
            Self::Name => "InvalidName",
            Self::Pause(_) => "InvalidPause",
            Self::Version => "InvalidVersion",
            Self::NoImage { .. } => "NoImageForVersion",
            Self::Instances => "InvalidInstances",
            Self::Image => "InvalidImage",
            Self::PullSecret | Self::PullSecretTwice(_) => "InvalidPullSecret",
            Self::Cpu => "InvalidCpu",
            Self::Memory => "InvalidMemory",
            Self::StorageSize => "InvalidStorageSize",
            Self::StorageClass => "InvalidStorageClass",
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
            Self::CertificateHours => "InvalidCertificateHours",
            Self::Window(_) => "InvalidMaintenanceWindow",
            Self::ClientSelects(_) => "ClientWithoutLabels",
            Self::Labels(_) => "InvalidLabels",
            Self::DedicatedKey | Self::DedicatedValue => "InvalidDedicatedNodes",
            Self::PriorityClass => "InvalidPriorityClass",
            Self::Pooler(..) => "InvalidPooler",
            Self::PoolerReplicas => "PoolerNeedsReplicas",
            Self::NoPoolerImage => "NoImageForPooler",
            Self::PoolerTooLarge { .. } => "PoolerTooLarge",
            Self::Backup { .. } => "InvalidBackup",
            Self::Database => "InvalidDatabase",
            Self::Owner => "InvalidOwner",
        }
    }
}

fn window(problem: WindowProblem) -> String {
    let (at, field, sentence) = match problem {
        WindowProblem::Start(at) => (at, "start", sentences::WINDOW_START),
        WindowProblem::Hours(at) => (at, "hours", sentences::WINDOW_HOURS),
    };
    format!("spec.maintenance.windows[{at}].{field}: {sentence}")
}
