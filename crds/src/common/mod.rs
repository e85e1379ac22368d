//! The blocks that every add-on has in the same form.

pub mod backup;
pub(crate) mod cel;
pub mod deletion;
pub mod durability;
pub mod maintenance;
pub mod network;
pub mod placement;
pub mod quantity;
pub mod rejoin;
pub mod resources;
pub mod rules;
pub mod sentences;
pub mod status;
pub mod storage;
pub mod target;
pub mod tls;

pub use backup::{Backups, Bootstrap, RecoveryStatus};
pub use deletion::{Deletion, KeptVolumes};
pub use durability::{Asynchronous, Durability, Enforcement, Quorum};
pub use maintenance::{Day, Maintenance};
pub use network::{AllowedClient, Network};
pub use placement::{DedicatedNodes, Placement, Requirement};
pub use rejoin::Rejoin;
pub use resources::Resources;
pub use status::{
    Acknowledged, CertificateStatus, Endpoints, InstanceRole, InstanceStatus, Outlives, SecretRef,
    Survives, WaitingFor, Weakened,
};
pub use storage::Storage;
pub use target::Target;
pub use tls::Tls;
