//! Going back in time in place: which restore goes on, what is done next for it, and what is said. Values only.
//!
//! All instances are stopped, their claims are set aside by a label, and the Lease goes; then the set is made once
//! more from its repository, as a new one is, by instances with other numbers. Going back to the volumes from before
//! is the same with the claims changed over. What is decided stands in the `Restore`'s status before anything is done
//! for it, and each step is seen by what is there: so an operator that starts anew goes on where the one before was.
//!
//! Guarantees, which the tests of this module try out for any order of events: no instance of one side runs while
//! claims are changed over; a claim is deleted only if it bears the label of a restore that was confirmed, and while
//! the set serves from others; nothing is begun while another restore goes on or its volumes are kept.

pub mod check;
mod plan;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use kube::ResourceExt;
use mainstay_backup::api::Report;
use mainstay_crds::restore::{Restore, RestorePhase, RestoreStatus};

pub use self::plan::decide;
use crate::events::Happening;
use crate::instances::Instance;
use crate::names;

/// The set as it is.
#[derive(Clone, Copy, Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent facts, not a state"
)]
pub struct Setting<'a> {
    /// Now.
    pub now: Timestamp,
    /// Name of the set.
    pub set: &'a str,
    /// Name of the instance that is primary, by the Lease.
    pub seat: &'a str,
    /// The Lease, or why it cannot be read.
    pub lease: Result<Option<Lease>, &'a str>,
    /// Instances in use, or that would be.
    pub instances: &'a [Instance],
    /// Those whose claims are set aside.
    pub aside: &'a [Instance],
    /// What the primary's backup container says.
    pub report: Option<&'a Report>,
    /// Whether sets of its engine go back in place at all.
    pub possible: bool,
    /// Whether its repository has what is written as it comes; else the moments are those of backups.
    pub logged: bool,
    /// Whether the set has a repository.
    pub has_repository: bool,
    /// The API server has no pod of the set any more: asked, since a cache may be late.
    pub stopped: bool,
    /// What goes on in instances and is waited for, in a sentence.
    pub busy: Option<&'a str>,
    /// Whether the set is being deleted.
    pub deleting: bool,
    /// Whether nothing may be changed.
    pub paused: bool,
}

/// What a Lease says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Epoch of the last acquisition.
    pub epoch: u64,
    /// Highest number of a history (PostgreSQL's timeline, or the engine's like) that was claimed.
    pub timeline: u64,
    /// Whether the set has data.
    pub initialised: bool,
}

/// What is decided about the set's instances besides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stance<'a> {
    /// They are looked after as ever.
    Usual,
    /// Nothing is made, and nothing is disturbed: this restore stops them.
    Held(&'a Restore),
    /// The set has no data, and its first instance is made as this restore says.
    Founding(&'a Restore),
}

/// What is decided about the set's instances besides.
pub fn stance(restores: &[Restore]) -> Stance<'_> {
    match active(restores) {
        None => Stance::Usual,
        Some(restore) if phase(restore) == RestorePhase::Restoring => Stance::Founding(restore),
        Some(restore) => Stance::Held(restore),
    }
}

/// Below or at this is what the set has had under other circumstances: epoch, and number of a history.
pub fn floors(restores: &[Restore]) -> (u64, u64) {
    let highest = |of: fn(&RestoreStatus) -> Option<i64>| {
        let all = restores.iter().filter_map(|r| of(r.status.as_ref()?));
        all.filter_map(|n| u64::try_from(n).ok()).max().unwrap_or(0)
    };
    (highest(|s| s.epoch), highest(|s| s.timeline))
}

/// Restores in the order in which they are done.
pub fn ordered(mut restores: Vec<Restore>) -> Vec<Restore> {
    restores.sort_by_key(|r| (r.creation_timestamp().map(|t| t.0), r.name_any()));
    restores
}

/// How far one is.
pub fn phase(restore: &Restore) -> RestorePhase {
    let status = restore.status.as_ref();
    status.and_then(|s| s.phase).unwrap_or_default()
}

/// The one that stops instances, or makes the first.
pub fn active(restores: &[Restore]) -> Option<&Restore> {
    restores.iter().find(|r| phase(r).is_active())
}

/// Number of the instance that a restore makes from the repository.
pub fn first(restore: &Restore, set: &str) -> Option<u32> {
    names::ordinal(set, restore.status.as_ref()?.first.as_deref()?)
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// What is to be said, before anything else.
    pub says: Vec<Told>,
    /// What is done. Nothing while something is to be said of the restore that it is done for.
    pub step: Option<Step>,
}

/// A status to write.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// The restore, as it was seen.
    pub restore: Restore,
    /// What is to be said of it.
    pub status: RestoreStatus,
}

/// A step.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Keep the object from going while it is needed.
    Hold(Box<Restore>),
    /// Let it go.
    Release(Box<Restore>),
    /// Delete an instance's pod.
    DeletePod {
        /// Name of the instance.
        instance: String,
        /// Uid of its pod.
        uid: String,
    },
    /// Label a claim, so that no instance uses it; or take the label away.
    Label {
        /// Name of the instance.
        instance: String,
        /// Uid of the claim.
        uid: String,
        /// Resource version of the claim.
        resource_version: String,
        /// Uid of the restore; none: no label.
        aside: Option<String>,
    },
    /// Delete the Lease, and with it where clients are led to.
    DeleteLease,
    /// Delete a claim that is set aside.
    DeleteClaim {
        /// Name of the instance.
        instance: String,
        /// Uid of the claim.
        uid: String,
    },
}

/// What is to be said of restores whose target is not there, and is not said yet.
pub fn without_target(restores: &[Restore], now: Timestamp) -> Vec<Told> {
    let waiting = restores
        .iter()
        .filter(|r| phase(r) == RestorePhase::Pending);
    let said = waiting.map(|restore| {
        let target = &restore.spec.target;
        let status = if restore.spec.is_cancelled() {
            plan::status(
                restore,
                now,
                RestorePhase::Cancelled,
                "it was cancelled".to_owned(),
            )
        } else {
            let message = format!(
                "there is no {} called {} in this namespace",
                target.kind, target.name
            );
            plan::status(restore, now, RestorePhase::Failed, message)
        };
        Told {
            restore: restore.clone(),
            status,
        }
    });
    said.filter(|told| told.restore.status.as_ref() != Some(&told.status))
        .collect()
}

/// What happened to a restore, for an event.
pub fn happening(told: &Told) -> Option<Happening> {
    let phase = told.status.phase.unwrap_or_default();
    if phase == self::phase(&told.restore) {
        return None;
    }
    let reason = match phase {
        RestorePhase::Pending => return None,
        RestorePhase::Stopping => "Stopping",
        RestorePhase::Restoring => "Restoring",
        RestorePhase::Restored => "Restored",
        RestorePhase::Confirmed => "Confirmed",
        RestorePhase::Reverting => "Reverting",
        RestorePhase::Reverted => "Reverted",
        RestorePhase::Failed => "Failed",
        RestorePhase::Cancelled => "Cancelled",
    };
    Some(Happening {
        warning: phase == RestorePhase::Failed,
        reason,
        action: "Restore",
        note: told.status.message.clone().unwrap_or_default(),
    })
}

/// When a restore is to be looked at again although nothing happens.
pub fn due(restores: &[Restore], setting: &Setting<'_>) -> Option<Timestamp> {
    let waiting = restores.iter().find(|r| phase(r) == RestorePhase::Pending);
    waiting.map(|restore| plan::deadline(restore, setting.now))
}
