//! The conditions of a resource's status: types, reasons, and how one is set.
//!
//! `Ready`, `Reconciling` and `Stalled` have the meaning that kstatus gives them, so that
//! `kubectl wait`, Argo CD and Flux understand every Mainstay resource: the last two are abnormal,
//! present and `True` only while they hold.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// `True` once a real client round trip through the resource's own endpoint succeeded.
pub const READY: &str = "Ready";
/// `True` while Mainstay works on the difference between what is asked for and what runs.
pub const RECONCILING: &str = "Reconciling";
/// `True` when no progress is possible without a person; the message says what to do.
pub const STALLED: &str = "Stalled";
/// `True` when it serves, but less than was asked for runs.
pub const DEGRADED: &str = "Degraded";
/// `True` when every volume has room.
pub const STORAGE_HEALTHY: &str = "StorageHealthy";
/// `True` when every certificate, as served, is valid and not about to end.
pub const CERTIFICATES_VALID: &str = "CertificatesValid";
/// `True` when the log is archived, and backups are made as often as they should. Absent where no backups are
/// asked for.
pub const BACKUP_HEALTHY: &str = "BackupHealthy";

/// `True` when the last drill has restored a backup and found it good, not too long ago. Absent where no drills are
/// asked for.
pub const RECOVERY_PROVEN: &str = "RecoveryProven";

/// Reasons that are the same for every add-on. They are an interface: alerts select by them.
pub mod reasons {
    /// All is as asked for.
    pub const SETTLED: &str = "Settled";
    /// A round trip through the endpoint succeeded.
    pub const SERVING: &str = "Serving";
    /// The round trip through the endpoint failed.
    pub const NOT_SERVING: &str = "NotServing";
    /// It can be read, and refuses writes.
    pub const WRITES_REFUSED: &str = "WritesRefused";
    /// It could not be found out.
    pub const UNKNOWN: &str = "Unknown";
    /// A step runs.
    pub const PROGRESSING: &str = "Progressing";
    /// A rule holds the next step back.
    pub const WAITING: &str = "Waiting";
    /// The first instance is being made.
    pub const CREATING: &str = "Creating";
    /// The resource is being deleted.
    pub const DELETING: &str = "Deleting";
    /// The annotation `mainstay.dev/reconcile: paused` is set.
    pub const PAUSED: &str = "Paused";
    /// The specification asks for what cannot be.
    pub const INVALID: &str = "InvalidSpec";
    /// A set of another kind has the name.
    pub const NAME_TAKEN: &str = "NameTaken";
    /// The namespace's quota is used up.
    pub const QUOTA: &str = "QuotaExceeded";
    /// An admission policy or webhook refused an object.
    pub const REFUSED: &str = "AdmissionRefused";
    /// The operator lacks a right.
    pub const FORBIDDEN: &str = "Forbidden";
    /// No node takes an instance.
    pub const UNSCHEDULABLE: &str = "Unschedulable";
    /// A volume cannot be provided.
    pub const NO_VOLUME: &str = "VolumeUnavailable";
    /// A pass failed and is tried again.
    pub const FAILED: &str = "Failed";
    /// A new agent did not work and was given up.
    pub const AGENT_GIVEN_UP: &str = "AgentGivenUp";
    /// Fewer instances are ready than asked for.
    pub const INSTANCES_MISSING: &str = "InstancesMissing";
    /// Commits wait for no replica though they should.
    pub const DURABILITY_SUSPENDED: &str = "DurabilitySuspended";
    /// Roles or databases have settings by which their commits wait for less.
    pub const ACKNOWLEDGEMENT_WEAKENED: &str = "AcknowledgementWeakened";
    /// Every instance is ready.
    pub const ALL_READY: &str = "AllInstancesReady";
    /// A volume is nearly full.
    pub const VOLUME_FULL: &str = "VolumeNearlyFull";
    /// Every volume has room.
    pub const VOLUMES_OK: &str = "VolumesHaveRoom";
    /// Every certificate is valid.
    pub const CERTIFICATES_OK: &str = "Valid";
    /// A certificate as served ends soon, or has ended.
    pub const CERTIFICATE_EXPIRING: &str = "Expiring";
    /// The log is archived and backups are made.
    pub const BACKED_UP: &str = "BackedUp";
    /// The repository is another's, or cannot be used as was asked for.
    pub const REPOSITORY_REFUSED: &str = "RepositoryRefused";
    /// Nothing is archived until a person has looked.
    pub const ARCHIVE_BROKEN: &str = "ArchiveBroken";
    /// The store takes nothing now.
    pub const STORE_UNREACHABLE: &str = "StoreUnreachable";
    /// The log has a gap after the newest backup.
    pub const ARCHIVE_GAP: &str = "ArchiveGap";
    /// There is no backup.
    pub const NO_BACKUP: &str = "NoBackup";
    /// The last backup failed.
    pub const BACKUP_FAILED: &str = "BackupFailed";
    /// The last backup is too old.
    pub const BACKUP_OVERDUE: &str = "BackupOverdue";
    /// A backup cannot be restored.
    pub const BACKUP_DAMAGED: &str = "BackupDamaged";
    /// A drill has restored a backup, and all its checks hold.
    pub const PROVEN: &str = "Proven";
    /// There was no drill yet.
    pub const NO_DRILL: &str = "NoDrill";
    /// The last drill failed.
    pub const DRILL_FAILED: &str = "DrillFailed";
    /// The last drill that was made is too old.
    pub const DRILL_OVERDUE: &str = "DrillOverdue";
}

/// Value of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Not known. Never taken for healthy.
    Unknown,
}

impl State {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for State {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// Set one condition.
///
/// Guarantees: the transition time changes only when the status does; every field is present, the
/// message and the generation too (under server-side apply an omitted field is left as it was, and
/// the next pass would find a difference again); the list is ordered by type, so that a settled
/// pass computes the same bytes. Times are cut to whole seconds, as the API keeps them.
pub fn set(
    conditions: &mut Vec<Condition>,
    type_: &str,
    status: State,
    reason: &str,
    message: &str,
    generation: i64,
    now: Timestamp,
) {
    let whole = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let before = find(conditions, type_).filter(|c| c.status == status.as_str());
    let since = before.map_or(Time(whole), |c| c.last_transition_time.clone());
    let condition = Condition {
        type_: type_.to_owned(),
        status: status.as_str().to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: Some(generation),
        last_transition_time: since,
    };
    match conditions.iter_mut().find(|c| c.type_ == type_) {
        Some(slot) => *slot = condition,
        None => conditions.push(condition),
    }
    conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
}

/// The condition of that type, if it was ever set.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

/// Whether the condition is `True`; absent and unknown are not.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|c| c.status == State::True.as_str())
}

/// The three conditions of kstatus as one value, so that they never contradict each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// Everything asked for is made.
    Settled,
    /// Work goes on.
    Reconciling {
        /// See [`reasons`].
        reason: &'a str,
        /// A sentence.
        message: &'a str,
    },
    /// A person is needed.
    Stalled {
        /// See [`reasons`].
        reason: &'a str,
        /// A sentence that says what to do.
        message: &'a str,
    },
}

/// Set `Reconciling` and `Stalled` from one value: at most one of them is `True`.
pub fn set_progress(
    conditions: &mut Vec<Condition>,
    progress: &Progress<'_>,
    generation: i64,
    now: Timestamp,
) {
    let settled = (State::False, reasons::SETTLED, "");
    let (reconciling, stalled) = match *progress {
        Progress::Settled => (settled, settled),
        Progress::Reconciling { reason, message } => ((State::True, reason, message), settled),
        Progress::Stalled { reason, message } => (
            (State::False, reason, message),
            (State::True, reason, message),
        ),
    };
    for (type_, (state, reason, message)) in [(RECONCILING, reconciling), (STALLED, stalled)] {
        set(conditions, type_, state, reason, message, generation, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_transition_time_stays_while_the_status_does() {
        let mut all = vec![];
        set(
            &mut all,
            READY,
            State::False,
            reasons::CREATING,
            "first",
            1,
            at(10),
        );
        set(
            &mut all,
            READY,
            State::False,
            reasons::NOT_SERVING,
            "second",
            2,
            at(20),
        );
        assert_eq!(all[0].last_transition_time, Time(at(10)));
        assert_eq!(
            (all[0].message.as_str(), all[0].observed_generation),
            ("second", Some(2))
        );
        set(
            &mut all,
            READY,
            State::True,
            reasons::SERVING,
            "",
            2,
            at(30),
        );
        assert_eq!(all[0].last_transition_time, Time(at(30)));
        assert!(is_true(&all, READY));
    }

    #[test]
    fn every_field_is_serialised_even_when_empty() {
        let mut all = vec![];
        set(
            &mut all,
            READY,
            State::True,
            reasons::SERVING,
            "",
            3,
            at(10),
        );
        let wire = serde_json::to_value(&all[0]).unwrap();
        for field in [
            "type",
            "status",
            "reason",
            "message",
            "observedGeneration",
            "lastTransitionTime",
        ] {
            assert!(wire.get(field).is_some(), "{field} is missing");
        }
    }

    #[test]
    fn the_order_does_not_depend_on_who_was_set_first() {
        let (mut a, mut b) = (vec![], vec![]);
        for type_ in [STALLED, READY] {
            set(&mut a, type_, State::False, reasons::SETTLED, "", 1, at(1));
        }
        for type_ in [READY, STALLED] {
            set(&mut b, type_, State::False, reasons::SETTLED, "", 1, at(1));
        }
        assert_eq!(a, b);
    }

    #[test]
    fn reconciling_and_stalled_are_never_both_true() {
        let mut all = vec![];
        let going = Progress::Reconciling {
            reason: reasons::PROGRESSING,
            message: "m",
        };
        set_progress(&mut all, &going, 1, at(1));
        assert!(is_true(&all, RECONCILING) && !is_true(&all, STALLED));
        let stuck = Progress::Stalled {
            reason: reasons::QUOTA,
            message: "m",
        };
        set_progress(&mut all, &stuck, 1, at(2));
        assert!(!is_true(&all, RECONCILING) && is_true(&all, STALLED));
        set_progress(&mut all, &Progress::Settled, 1, at(3));
        assert!(!is_true(&all, RECONCILING) && !is_true(&all, STALLED));
    }

    #[test]
    fn sub_seconds_are_cut_off_as_the_api_server_would() {
        let mut all = vec![];
        let now = Timestamp::from_millisecond(1999).unwrap();
        set(&mut all, READY, State::True, reasons::SERVING, "", 1, now);
        let back: Condition =
            serde_json::from_value(serde_json::to_value(&all[0]).unwrap()).unwrap();
        assert_eq!(back, all[0]);
    }
}
