//! A resource as it is meant, as far as every engine means it alike. Values only.

pub mod backup;
mod problem;
pub mod read;
pub mod repository;
pub mod syntax;

use kube::ResourceExt;
use mainstay_backup::retention::Policy;
use mainstay_crds::common::backup::{DrillTarget, OnFull};
use mainstay_crds::common::{AllowedClient, Durability, Enforcement, KeptVolumes, Placement};

pub use problem::Problem;

use super::engine::Engine;
use crate::backups::cron::Cron;
use crate::metadata::SetId;
use crate::names;
use crate::rollout::Windows;

/// Value of the annotation [`names::RECONCILE`] that pauses.
pub const PAUSED: &str = "paused";

/// Whether the annotation asks for no change, also when the resource is otherwise wrong.
pub fn is_paused<K: ResourceExt>(resource: &K) -> bool {
    let asked = resource.annotations().get(names::RECONCILE);
    asked.map(String::as_str) == Some(PAUSED)
}

/// What every engine has of a resource that is meant.
#[derive(Clone, Debug, PartialEq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent wishes, not a state"
)]
pub struct Common {
    /// Identity of the resource.
    pub set: SetId,
    /// Generation of the spec.
    pub generation: i64,
    /// Whether the user wants no change made (annotation `mainstay.dev/reconcile: paused`).
    pub paused: bool,
    /// Number of instances, at least 1.
    pub instances: i32,
    /// Image of the engine: the catalogue's or the user's.
    pub image: String,
    /// Whether the user names the image; else it is the catalogue's, which is pinned by the pods that run it.
    pub image_is_named: bool,
    /// Names of Secrets with registry credentials.
    pub image_pull_secrets: Vec<String>,
    /// Memory of each instance, in bytes.
    pub memory: i64,
    /// Processor time of each instance, in thousandths of a processor.
    pub cpu_milli: i64,
    /// When a write is acknowledged: the effective value.
    pub durability: Durability,
    /// What happens while too few replicas can acknowledge, with `quorum`.
    pub enforcement: Enforcement,
    /// Whether only replicas in other zones acknowledge, with `quorum` and instances in several.
    pub across_zones: bool,
    /// Most log, in bytes, that the replica which has most may lack, with `async`.
    pub max_lag: Option<u64>,
    /// Size of each volume, in bytes.
    pub storage: i64,
    /// StorageClass of the volumes; none: the cluster's default.
    pub storage_class: Option<String>,
    /// Hours that an instance's certificate is valid.
    pub certificate_hours: i64,
    /// When instances may be disturbed.
    pub windows: Windows,
    /// Where instances run.
    pub placement: Option<Placement>,
    /// Clients that may connect, besides labelled pods of the namespace.
    pub clients: Vec<AllowedClient>,
    /// Whether deletion is refused.
    pub protected: bool,
    /// What becomes of the volumes of a deleted resource.
    pub volumes: KeptVolumes,
    /// Backups, if they are asked for.
    pub backup: Option<Backups>,
    /// Its engines agree by themselves on who takes writes, of whom there may be several: nobody holds a Lease, no instance is
    /// the primary, and the engine says who may be disturbed ([`crate::operator::steer`]).
    pub self_led: bool,
}

impl Common {
    /// The set, unless the resource is not stored.
    pub fn stored(&self) -> Option<&SetId> {
        Some(&self.set).filter(|set| !set.uid.is_empty())
    }

    /// How many instances are wanted.
    pub fn count(&self) -> u32 {
        u32::try_from(self.instances).unwrap_or(1)
    }

    /// Replicas that must confirm a commit, and without which writes stop.
    pub fn confirmations(&self) -> usize {
        let kept = (self.durability, self.enforcement);
        usize::from(kept == (Durability::Quorum, Enforcement::Required))
    }
}

/// Backups. Defaults are applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Backups {
    /// Where they are, for people.
    pub place: String,
    /// When they are due.
    pub cron: Cron,
    /// Increments after a full backup.
    pub chain: u32,
    /// What is kept.
    pub policy: Policy,
    /// What gives way when log that waits has nearly filled a volume; none of an engine that keeps no log.
    pub on_full: Option<OnFull>,
    /// Drills, if they are asked for.
    pub drill: Option<Drills>,
}

/// Drills. Defaults are applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Drills {
    /// When they are due.
    pub cron: Cron,
    /// Which moment they recover.
    pub target: DrillTarget,
    /// Processor time, in thousandths of a processor; none: as an instance.
    pub cpu_milli: Option<i64>,
    /// Memory in bytes; none: as an instance.
    pub memory: Option<i64>,
    /// Whether the pod of one that failed stays for a while.
    pub keep: bool,
    /// Seconds that one may take.
    pub seconds: u32,
}

/// Longest time for one of a user's checks, in seconds, where the whole drill may take longer.
const CHECK_SECONDS: u32 = 1800;

impl Drills {
    /// Seconds that one of a user's checks may take.
    pub fn check_seconds(&self) -> u32 {
        CHECK_SECONDS.min(self.seconds)
    }

    /// Processor time and memory of the restored instance, of a set like this.
    pub fn size(&self, common: &Common) -> (i64, i64) {
        (
            self.cpu_milli.unwrap_or(common.cpu_milli),
            self.memory.unwrap_or(common.memory),
        )
    }
}

/// A resource as it is meant.
#[derive(Clone, Debug)]
pub struct Validated<E: Engine> {
    /// As the engine knows it.
    pub own: E::Validated,
    /// What every engine has of it.
    pub common: Common,
}

impl<E: Engine> Validated<E> {
    /// As the engine says.
    pub fn of(own: E::Validated) -> Self {
        let common = E::common(&own);
        Self { own, common }
    }
}
