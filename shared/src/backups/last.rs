//! The last backup of a set that is being deleted. Values only.
//!
//! It is an object like the others, and made like them. Its name has the set's uid, so that the last backup of
//! a set that had the same name is none of this one's. It stays when the set is gone.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use mainstay_crds::backup::{Backup, BackupPhase};

use super::plan::phase;
use super::schedule;
use crate::metadata::SetId;

/// How far it is.
#[derive(Clone, Debug, PartialEq)]
pub enum Last {
    /// There is no such object yet: this one.
    Missing(Box<Backup>),
    /// It is being made; how far, in words.
    Goes(String),
    /// It came to nothing; why, in words.
    Failed(String),
    /// It is there; what can be recovered with it, in a sentence.
    Kept(String),
}

/// Clocks of several API servers differ by no more: between the moment of the deletion and that of the object.
const CLOCKS: SignedDuration = SignedDuration::from_secs(5);
/// Letters of the uid in the name.
const UID: usize = 8;

/// Its name.
pub fn name(set: &SetId) -> String {
    let uid: String = set.uid.chars().take(UID).collect();
    format!("{}-final-{uid}", set.name)
}

/// How far it is, of a set that is being deleted since `since`. An object that was made before does not count,
/// whoever made it: what was written since might not be in it. It is judged by when the object was made, which the
/// API server says of both, rather than by when the backup was begun by another clock.
pub fn last(set: &SetId, backups: &[Backup], keys: &str, since: Option<Timestamp>) -> Last {
    let name = name(set);
    let Some(backup) = backups.iter().find(|b| b.name_any() == name) else {
        return Last::Missing(Box::new(schedule::asked(set, name, false)));
    };
    let made = backup.creation_timestamp().map(|made| made.0);
    if let (Some(since), Some(made)) = (since, made)
        && made < since - CLOCKS
    {
        return Last::Failed(format!("{name} is older than the deletion"));
    }
    let status = backup.status.clone().unwrap_or_default();
    let message = status.message.unwrap_or_else(|| "it was not begun".into());
    match phase(backup) {
        BackupPhase::Pending | BackupPhase::Running => Last::Goes(format!("{name}: {message}")),
        BackupPhase::Failed | BackupPhase::Cancelled => Last::Failed(format!("{name}: {message}")),
        BackupPhase::Expired => Last::Failed(format!("{name}: it has expired, and is not kept")),
        BackupPhase::Succeeded => match (status.backup_id, status.repository, status.ended) {
            (Some(id), Some(place), Some(ended)) => Last::Kept(format!(
                "everything up to {} is kept in {place}: backup {id}, which the Secret {keys} and the escrow \
                 identities open",
                status.consistent_at.unwrap_or(ended).0
            )),
            _ => Last::Failed(format!("{name}: it does not say what is kept, and where")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{backup, noon};
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use mainstay_crds::backup::BackupStatus;
    use serde_json::json;

    fn set() -> SetId {
        SetId {
            api_version: "mainstay.dev/v1alpha1".into(),
            kind: "Postgres".into(),
            namespace: "shop".into(),
            name: "db".into(),
            uid: "0a1b2c3d-0000-1111-2222-333344445555".into(),
        }
    }

    fn with(phase: BackupPhase) -> Vec<Backup> {
        let mut made = backup("db-final-0a1b2c3d", &json!({}));
        made.status = Some(BackupStatus {
            phase: Some(phase),
            message: Some("the store is away".into()),
            backup_id: Some("20260301t115900z-0011223344556677".into()),
            repository: Some("s3://bucket/shop/db".into()),
            ended: Some(Time(noon())),
            ..BackupStatus::default()
        });
        vec![backup("db-202603010000", &json!({})), made]
    }

    #[test]
    fn it_is_made_once_and_waited_for() {
        let look = |backups: &[Backup]| last(&set(), backups, "db-backup-keys", None);
        let Last::Missing(made) = look(&[]) else {
            panic!("{:?}", look(&[]));
        };
        assert_eq!(made.name_any(), name(&set()));
        assert!(!made.spec.is_incremental() && made.spec.target.name == "db");
        let scheduled = made.labels().contains_key(crate::names::SCHEDULED);
        assert!(!scheduled, "nobody clears it away");
        let of = |phase| look(&with(phase));
        for phase in [BackupPhase::Pending, BackupPhase::Running] {
            assert!(matches!(of(phase), Last::Goes(why) if why.contains("store is away")));
        }
        for phase in [
            BackupPhase::Failed,
            BackupPhase::Cancelled,
            BackupPhase::Expired,
        ] {
            assert!(matches!(of(phase), Last::Failed(why) if why.contains("db-final-0a1b2c3d")));
        }
        let Last::Kept(words) = of(BackupPhase::Succeeded) else {
            panic!("{:?}", of(BackupPhase::Succeeded));
        };
        for word in [
            "2026-03-01T12:00:00Z",
            "s3://bucket/shop/db",
            "20260301t115900z-0011223344556677",
            "db-backup-keys",
        ] {
            assert!(words.contains(word), "{word}: {words}");
        }
    }

    #[test]
    fn where_there_is_no_log_it_goes_as_far_as_the_backup() {
        let mut backups = with(BackupPhase::Succeeded);
        let status = backups[1].status.as_mut().unwrap();
        let before = noon() - jiff::SignedDuration::from_secs(90);
        status.consistent_at = Some(Time(before));
        let Last::Kept(words) = last(&set(), &backups, "db-backup-keys", None) else {
            panic!("it is kept");
        };
        assert!(words.contains("up to 2026-03-01T11:58:30Z"), "{words}");
    }

    #[test]
    fn what_does_not_say_what_is_kept_is_no_backup() {
        let cut: [fn(&mut BackupStatus); 3] = [
            |status| status.backup_id = None,
            |status| status.repository = None,
            |status| status.ended = None,
        ];
        for cut in cut {
            let mut all = with(BackupPhase::Succeeded);
            cut(all[1].status.as_mut().unwrap());
            let look = last(&set(), &all, "db-backup-keys", None);
            assert!(matches!(look, Last::Failed(_)), "{look:?}");
        }
    }

    #[test]
    fn one_that_was_made_before_the_deletion_does_not_count() {
        let made: Timestamp = "2026-03-01T11:00:00Z".parse().unwrap();
        let look = |seconds| {
            let since = made + SignedDuration::from_secs(seconds);
            let all = with(BackupPhase::Succeeded);
            last(&set(), &all, "db-backup-keys", Some(since))
        };
        assert!(matches!(look(6), Last::Failed(why) if why.contains("older than the deletion")));
        assert!(matches!(look(-60), Last::Kept(_)));
        assert!(matches!(look(1), Last::Kept(_)), "two clocks");
    }

    #[test]
    fn that_of_another_set_of_the_same_name_does_not_count() {
        let other = SetId {
            uid: "ffffffff-0000-1111-2222-333344445555".into(),
            ..set()
        };
        let look = last(
            &other,
            &with(BackupPhase::Succeeded),
            "db-backup-keys",
            None,
        );
        assert!(matches!(look, Last::Missing(_)));
    }
}
