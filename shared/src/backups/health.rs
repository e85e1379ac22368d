//! What a set's status says of its backups. Values only.

use jiff::SignedDuration;
use mainstay_backup::api::{ArchiveState, OwnerState, Report};
use mainstay_crds::backup::{Backup, BackupPhase};
use mainstay_crds::common::backup::{LastBackup, RecoveryStatus};

use super::cron::Cron;
use super::plan::phase;
use super::schedule::{newest, uncovered};
use super::setting::Setting;
use super::words::{signed, whole};
use crate::conditions::{State, reasons};

/// The latest moment moves with every piece of the log: it is written anew when it has moved so far.
pub const LATEST: SignedDuration = SignedDuration::from_mins(5);
/// Most entries of lists.
const MOST: usize = 16;

/// What can be recovered, by what is known now and by the status before: what is not known stays as it was.
pub fn recovery(
    repository: &str,
    cron: &Cron,
    before: Option<&RecoveryStatus>,
    setting: &Setting<'_>,
) -> RecoveryStatus {
    let mut now = before.cloned().unwrap_or_default();
    now.repository = Some(repository.to_owned());
    now.next_backup = cron.next(setting.now).map(whole);
    let Some(report) = setting.primary_report() else {
        return now;
    };
    now.owner = report.ownership.owner.as_ref().map(ToString::to_string);
    if report.ownership.state == OwnerState::Ours {
        now.guarded = Some(report.ownership.unguarded.is_none());
    }
    if let Some(prune) = &report.prune {
        now.kept_by_locks = prune.waits.iter().take(MOST).cloned().collect();
    }
    if report.catalogue_at.is_none() {
        return now;
    }
    now.earliest = report.earliest.map(whole);
    now.backups = i32::try_from(report.catalogue.len()).ok();
    let stored: u64 = report.catalogue.iter().map(|b| b.stored_bytes).sum();
    now.stored_bytes = Some(signed(stored));
    now.last_backup = newest(report).map(|b| LastBackup {
        id: b.id.to_string(),
        at: Some(whole(b.ended)),
        incremental: b.parent.is_some(),
        bytes: Some(signed(b.plain_bytes)),
        stored_bytes: Some(signed(b.stored_bytes)),
    });
    if let Some(latest) = report.latest {
        let moved = |was: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Time| {
            latest < was.0 || latest.duration_since(was.0) >= LATEST
        };
        if now.latest.as_ref().is_none_or(moved) {
            now.latest = Some(whole(latest));
        }
    } else if report.earliest.is_none() {
        now.latest = None;
    }
    now
}

/// The condition `BackupHealthy`.
pub fn condition(
    cron: &Cron,
    backups: &[Backup],
    setting: &Setting<'_>,
) -> (State, &'static str, String) {
    let seat = setting.seat;
    let report = match setting.primary().map(|m| m.report) {
        Some(Ok(report)) => report,
        Some(Err(why)) => {
            let message = format!("The backup container of {seat} does not answer: {why}.");
            return (State::Unknown, reasons::UNKNOWN, message);
        }
        None => {
            let message = format!("The primary {seat} has no backup container yet.");
            return (State::Unknown, reasons::UNKNOWN, message);
        }
    };
    if report.ownership.state == OwnerState::Refused {
        let why = report.ownership.reason.clone().unwrap_or_default();
        let message = format!("Nothing is written to the repository: {why}.");
        return (State::False, reasons::REPOSITORY_REFUSED, message);
    }
    let reason = || report.archive.reason.clone().unwrap_or_default();
    if report.archive.let_go > 0 {
        let message = format!(
            "Log was let go that the store did not take, before it filled the volume: its moments cannot be \
             recovered, and a full backup is made as soon as the store is back. {}.",
            sentence(&reason())
        );
        return (State::False, reasons::ARCHIVE_GAP, message);
    }
    match report.archive.state {
        ArchiveState::Broken => {
            let message = format!(
                "The log is not archived until a person has looked: {}.",
                reason()
            );
            return (State::False, reasons::ARCHIVE_BROKEN, message);
        }
        ArchiveState::Unreachable => {
            let message = format!("The store does not take the log: {}.", reason());
            return (State::False, reasons::STORE_UNREACHABLE, message);
        }
        ArchiveState::Unknown | ArchiveState::Ok | ArchiveState::Behind => {}
    }
    if report.catalogue_at.is_none() || report.ownership.state == OwnerState::Unknown {
        let why = report.ownership.reason.clone();
        let why = why.unwrap_or_else(|| "the repository has not been read yet".to_owned());
        let message = format!("What the repository holds is not known: {why}.");
        return (State::Unknown, reasons::UNKNOWN, message);
    }
    backed_up(cron, backups, report, setting)
}

/// With a capital, and something to say in any case.
fn sentence(reason: &str) -> String {
    let mut letters = reason.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => "The store takes the log again".to_owned(),
    }
}

/// The same of a repository that can be read and written.
fn backed_up(
    cron: &Cron,
    backups: &[Backup],
    report: &Report,
    setting: &Setting<'_>,
) -> (State, &'static str, String) {
    let failed = backups
        .iter()
        .rev()
        .find(|b| matches!(phase(b), BackupPhase::Failed | BackupPhase::Succeeded));
    let failed = failed.filter(|b| phase(b) == BackupPhase::Failed);
    let why = |backup: &Backup| {
        let name = backup.metadata.name.as_deref().unwrap_or_default();
        let status = backup.status.as_ref();
        let message = status
            .and_then(|s| s.message.as_deref())
            .unwrap_or_default();
        format!("The backup {name} failed: {message}.")
    };
    let Some(last) = newest(report) else {
        let message = failed.map_or_else(|| "There is no backup yet.".to_owned(), why);
        return (State::False, reasons::NO_BACKUP, message);
    };
    if let Some(gap) = uncovered(report) {
        let message = format!(
            "The log has a gap between {} and {} that no backup was made after: a full one is made.",
            gap.after, gap.before
        );
        return (State::False, reasons::ARCHIVE_GAP, message);
    }
    if let Some(failed) = failed {
        let since = failed.status.as_ref().and_then(|s| s.finished_at.as_ref());
        if since.is_none_or(|since| since.0 > last.ended) {
            return (State::False, reasons::BACKUP_FAILED, why(failed));
        }
    }
    // One moment may be being made up for; two are too many.
    let moment = cron.last(setting.now);
    let before = moment.and_then(|m| cron.last(m - SignedDuration::from_secs(1)));
    if before.is_some_and(|before| last.begun < before) {
        let message = format!(
            "The last backup is of {}, and others were due since.",
            whole(last.begun).0
        );
        return (State::False, reasons::BACKUP_OVERDUE, message);
    }
    if let Some(unread) = report.unread.first() {
        let message = format!("The backup {} cannot be read: {}.", unread.id, unread.why);
        return (State::False, reasons::BACKUP_DAMAGED, message);
    }
    if let Some((id, why)) = report
        .catalogue
        .iter()
        .find_map(|b| Some((&b.id, b.broken.as_ref()?)))
    {
        let message = format!("The backup {id} cannot be restored: {why}.");
        return (State::False, reasons::BACKUP_DAMAGED, message);
    }
    let message = match report.archive.state {
        ArchiveState::Behind => "The archive is behind, and catches up.",
        _ => "",
    };
    (State::True, reasons::BACKED_UP, message.to_owned())
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
