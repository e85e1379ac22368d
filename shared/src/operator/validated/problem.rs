//! What can be wrong with a resource of any engine, each with what to write instead.

use mainstay_crds::common::sentences;

use crate::rollout::window::WindowProblem;

/// Something that is wrong with a resource. Its text begins with the field. An engine's own problems wrap it.
///
/// The API server refuses nearly all of these itself, with the same sentence; they come up here
/// when a resource was written before the rule, or when only the operator can know (the image
/// catalogue).
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
    /// Neither the catalogue nor the resource has an image.
    #[error(
        "spec.version: the operator's image catalogue has {available} and not {version}: write one it has, write image, or have the platform add {version} to the catalogue"
    )]
    NoImage {
        /// The version that is asked for.
        version: String,
        /// Versions that the catalogue has.
        available: String,
    },
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
    /// Something of backups, or of a beginning from one, that cannot be.
    #[error("spec.{field}: {sentence}")]
    Backup {
        /// The field.
        field: String,
        /// What to write instead.
        sentence: &'static str,
    },
}

impl Problem {
    /// A stable name of the kind of problem, as conditions and events carry it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotStored => "NotStored",
            Self::Name => "InvalidName",
            Self::Pause(_) => "InvalidPause",
            Self::NoImage { .. } => "NoImageForVersion",
            Self::Image => "InvalidImage",
            Self::PullSecret | Self::PullSecretTwice(_) => "InvalidPullSecret",
            Self::Cpu => "InvalidCpu",
            Self::Memory => "InvalidMemory",
            Self::StorageSize => "InvalidStorageSize",
            Self::StorageClass => "InvalidStorageClass",
            Self::CertificateHours => "InvalidCertificateHours",
            Self::Window(_) => "InvalidMaintenanceWindow",
            Self::ClientSelects(_) => "ClientWithoutLabels",
            Self::Labels(_) => "InvalidLabels",
            Self::DedicatedKey | Self::DedicatedValue => "InvalidDedicatedNodes",
            Self::PriorityClass => "InvalidPriorityClass",
            Self::Backup { .. } => "InvalidBackup",
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
