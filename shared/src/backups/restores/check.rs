//! What can be told before anything is stopped: whether a moment can be recovered.

use jiff::Timestamp;
use mainstay_backup::api::{BackupEntry, Report};
use mainstay_crds::common::backup::RecoveryTarget;
use mainstay_crds::restore::RestoreSpec;

use crate::backups::drill::ground;

/// Backups that a report holds at most: one that is not among so many may be older.
const MOST: usize = 200;

/// Why nothing is stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// It can never be: in a sentence why.
    Refused(String),
    /// Not yet: in a sentence what is waited for.
    Waits(String),
}

/// What is known of a moment that can be recovered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The id by which the set owns its repository.
    pub owner: String,
    /// Everything that was committed up to here is in the repository: the moment of the newest backup, where there is
    /// no log.
    pub stored_until: Timestamp,
}

/// Judges what is asked for. `asked`: when the operator first saw it. `report`: what the primary's backup container
/// says. `logged`: whether the repository has what is written as it comes.
///
/// A place in the log, a transaction and a named point are found only by replaying the log: the restore ends there, or
/// fails and says what it reached.
///
/// # Errors
/// It can never be recovered, or not yet: the log up to when it was asked for has to be in the repository, so that
/// going back loses nothing that was committed before. Without a log it begins with the backups that there are: what was
/// written since is on the volumes from before, which are kept.
pub fn check(
    spec: &RestoreSpec,
    asked: Timestamp,
    report: Option<&Report>,
    logged: bool,
) -> Result<Known, Held> {
    let ground = ground(report).map_err(Held::Waits)?;
    let waits = |why: &str| Held::Waits(why.to_owned());
    let report =
        report.ok_or_else(|| waits("it waits until the primary's backup container answers"))?;
    let owner = report.ownership.owner.as_ref();
    let owner = owner.ok_or_else(|| waits("it waits until it is known whose the repository is"))?;
    let named = spec.backup.as_deref();
    let named = named.map(|id| backup(id, report)).transpose()?.flatten();
    if let Some(moment) = spec.moment.as_ref().filter(|_| !logged) {
        of_a_backup(moment, named)?;
    }
    if let Some(text) = spec.moment.as_ref().and_then(|m| m.time.as_deref()) {
        time(text, asked, ground.earliest(), named)?;
    }
    let latest = ground.latest();
    let latest =
        latest.ok_or_else(|| waits("it waits until it is known up to when the log is stored"))?;
    if logged && latest < asked {
        return Err(Held::Waits(format!(
            "it waits until everything that was committed before {asked} is in the repository, which has all up to {latest}"
        )));
    }
    Ok(Known {
        owner: owner.to_string(),
        stored_until: latest,
    })
}

/// A moment where there is no log: the state of the newest backup from before a time.
fn of_a_backup(moment: &RecoveryTarget, named: Option<&BackupEntry>) -> Result<(), Held> {
    if moment.time.is_none() {
        return Err(Held::Refused(
            "no log is kept between backups: moment.time takes the newest backup from before it, and backup names one"
                .to_owned(),
        ));
    }
    match named {
        Some(named) => Err(Held::Refused(format!(
            "backup {} is of {} and of no other moment: leave moment out, or backup for the newest one from before it",
            named.id, named.consistent_at
        ))),
        None => Ok(()),
    }
}

/// A backup that is named; none where the report does not go back so far.
fn backup<'a>(id: &str, report: &'a Report) -> Result<Option<&'a BackupEntry>, Held> {
    let Some(entry) = report.catalogue.iter().find(|b| b.id.as_str() == id) else {
        if report.catalogue.len() >= MOST {
            return Ok(None);
        }
        return Err(Held::Refused(format!(
            "there is no backup {id} in the repository: kubectl get backups -o wide shows their ids"
        )));
    };
    match &entry.broken {
        Some(why) => Err(Held::Refused(format!(
            "backup {id} cannot be restored: {why}"
        ))),
        None => Ok(Some(entry)),
    }
}

fn time(
    text: &str,
    asked: Timestamp,
    earliest: Option<Timestamp>,
    named: Option<&BackupEntry>,
) -> Result<(), Held> {
    let refused = |why: String| Err(Held::Refused(why));
    let Ok(time) = text.parse::<Timestamp>() else {
        return refused(format!("{text} is no time"));
    };
    if time > asked {
        return refused(format!(
            "{time} is after {asked}, when this was asked for: leave moment out for the latest one"
        ));
    }
    if let Some(named) = named.filter(|named| time < named.consistent_at) {
        return refused(format!(
            "{time} is before {}, the first moment that can be recovered with backup {}",
            named.consistent_at, named.id
        ));
    }
    match earliest {
        Some(earliest) if named.is_none() && time < earliest => refused(format!(
            "{time} is before {earliest}, the earliest moment that can be recovered (status.recovery.earliest)"
        )),
        _ => Ok(()),
    }
}
