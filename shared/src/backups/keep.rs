//! What is kept: when retention is to look, and which `Backup` objects stay as records. Values only.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use mainstay_backup::api::{Order, OwnerState, Report};
use mainstay_backup::retention::Policy;
use mainstay_crds::backup::{Backup, BackupPhase};

use super::plan::{Step, is_over, phase};
use super::setting::{Ask, Setting};
use crate::names;

/// How often retention looks, besides after each backup.
const EVERY: SignedDuration = SignedDuration::from_hours(24);
/// When it looks again after it could not go to its end.
const AGAIN: SignedDuration = SignedDuration::from_hours(1);
/// A backup that is not in a catalogue that was read so long after it was complete is not there: clocks may
/// differ, and lists may be late.
const SETTLED: SignedDuration = SignedDuration::from_hours(1);
/// Clocks of two containers differ by less than this.
const SKEW: SignedDuration = SignedDuration::from_mins(10);
/// A catalogue shows so many backups, the newest.
const SHOWN: usize = 200;
/// Records of scheduled backups that came to nothing which stay.
const FAILURES: usize = 5;

/// Have retention look, if it is time; and who makes backups read the catalogue if another one has added
/// to it.
pub fn asks(policy: &Policy, backups: &[Backup], setting: &Setting<'_>) -> Vec<Ask> {
    let (Some(member), Some(report)) = (setting.primary(), setting.primary_report()) else {
        return Vec::new();
    };
    if !setting.wanted() {
        return Vec::new();
    }
    let mut asks = Vec::new();
    if let Some(id) = unread(report, setting) {
        asks.push(Ask::of(member, "refresh", &id, Order::Refresh));
    }
    let busy = backups.iter().any(|b| phase(b) == BackupPhase::Running);
    let running = setting.reports().any(|r| r.running.is_some());
    let ours = report.ownership.state == OwnerState::Ours;
    let any = report.catalogue_at.is_some() && !report.catalogue.is_empty();
    if ours && any && !busy && !running {
        let due = due(report).is_none_or(|due| setting.now >= due);
        if due {
            let newest = report.catalogue.last().map(|b| b.id.to_string());
            let last = report.prune.as_ref().map(|p| p.at.to_string());
            let token = format!(
                "{} {} {policy:?}",
                newest.unwrap_or_default(),
                last.unwrap_or_default()
            );
            let order = Order::Prune { policy: *policy };
            asks.push(Ask::of(member, "prune", &token, order));
        }
    }
    asks
}

/// When retention looks next; none: now.
pub fn due(report: &Report) -> Option<Timestamp> {
    let last = report.prune.as_ref()?;
    if report.catalogue.iter().any(|b| b.ended > last.at) {
        return None;
    }
    let pause = if last.error.is_some() { AGAIN } else { EVERY };
    last.at.checked_add(pause).ok()
}

/// A backup that another one's catalogue shows and the primary's does not, since it was read before.
fn unread(primary: &Report, setting: &Setting<'_>) -> Option<String> {
    let read = primary.catalogue_at?;
    let known = |id| primary.catalogue.iter().any(|b| b.id == id);
    let mut all = setting.reports().flat_map(|r| &r.catalogue);
    let missing = all.find(|b| b.ended > read - SKEW && !known(b.id.clone()))?;
    Some(missing.id.to_string())
}

/// Records that are not needed any more, and what is to be said of others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records {
    /// Objects of users whose backup is not in the repository any more.
    pub expired: Vec<Step>,
    /// Objects of the schedule to delete.
    pub delete: Vec<Backup>,
}

/// Look through the records.
///
/// Guarantee: an object that a user made is never deleted, and one whose backup may be there neither.
pub fn records(backups: &[Backup], setting: &Setting<'_>) -> Records {
    let mut records = Records::default();
    if let Some(report) = setting.primary_report().filter(|_| setting.wanted()) {
        for backup in backups
            .iter()
            .filter(|b| is_gone(b, report, setting.repository))
        {
            if is_scheduled(backup) {
                records.delete.push(backup.clone());
            } else if phase(backup) == BackupPhase::Succeeded {
                let mut status = backup.status.clone().unwrap_or_default();
                status.phase = Some(BackupPhase::Expired);
                status.message = Some("it has been removed from the repository".to_owned());
                records.expired.push(Step {
                    backup: backup.clone(),
                    status: Some(status),
                    asks: Vec::new(),
                });
            }
        }
    }
    let came_to_nothing = |b: &&Backup| {
        let phase = phase(b);
        is_scheduled(b) && is_over(b) && phase != BackupPhase::Succeeded
    };
    // The newest come last.
    let nothing: Vec<&Backup> = backups.iter().filter(came_to_nothing).collect();
    let many = nothing.len().saturating_sub(FAILURES);
    for backup in &nothing[..many] {
        if !records.delete.contains(backup) {
            records.delete.push((*backup).clone());
        }
    }
    records
}

/// Whether the schedule made the object.
pub fn is_scheduled(backup: &Backup) -> bool {
    backup.labels().contains_key(names::SCHEDULED)
}

/// Whether it is certain that what the object made is not in the repository.
fn is_gone(backup: &Backup, report: &Report, repository: Option<&str>) -> bool {
    let Some(status) = &backup.status else {
        return false;
    };
    // It may be in another one, which the set had before.
    if status.repository.as_deref() != repository {
        return false;
    }
    if !matches!(
        status.phase,
        Some(BackupPhase::Succeeded | BackupPhase::Expired)
    ) {
        return false;
    }
    let Some(id) = &status.backup_id else {
        return false;
    };
    if report.catalogue.iter().any(|b| b.id.as_str() == id) {
        return false;
    }
    let pruned = report
        .prune
        .as_ref()
        .is_some_and(|p| p.backups.iter().any(|b| b.as_str() == id));
    if pruned {
        return true;
    }
    // What cannot be read is there, and what is older than what is shown may be.
    let unread = report.unread.iter().any(|u| u.id.as_str() == id);
    let oldest = report.catalogue.first().map(|b| b.id.as_str());
    let beyond =
        report.catalogue.len() >= SHOWN && oldest.is_none_or(|oldest| id.as_str() < oldest);
    let read_since = status.finished_at.as_ref().zip(report.catalogue_at);
    let settled = read_since.is_some_and(|(end, read)| read.duration_since(end.0) >= SETTLED);
    settled && !unread && !beyond && report.ownership.state == OwnerState::Ours
}

#[cfg(test)]
#[path = "keep_tests.rs"]
mod tests;
