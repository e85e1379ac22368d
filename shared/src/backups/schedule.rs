//! Which backup is due by itself: by the schedule, or since the log has a gap. Values only.
//!
//! What is due is known by its name, which the moment or the gap decides: so it is made once, by whichever
//! operator. A moment that was missed is made up for once, at the next occasion, unless there has been a
//! backup since; a set without any backup has just missed its last moment.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use mainstay_backup::api::{BackupEntry, Gap, OwnerState, Report};
use mainstay_crds::backup::{Backup, BackupPhase, BackupSpec};
use mainstay_crds::common::Target;
use sha2::{Digest, Sha256};

use super::cron::Cron;
use super::plan::{is_over, phase};
use super::setting::Setting;
use crate::hex::hex;
use crate::metadata::SetId;
use crate::names;

/// The backup that is due now; none while another one is not over, or it is not known what there is.
pub fn due(set: &SetId, cron: &Cron, backups: &[Backup], setting: &Setting<'_>) -> Option<Backup> {
    let report = setting.primary_report().filter(|_| setting.wanted())?;
    // Who cannot tell what there is makes no backup either; the status says why.
    let known = report.catalogue_at.is_some() && report.ownership.state == OwnerState::Ours;
    if !known || backups.iter().any(|b| !is_over(b)) {
        return None;
    }
    let absent = |name: &String| !backups.iter().any(|b| b.name_any() == *name);
    let gap = uncovered(report);
    // Only a full backup does without what is missing. It is made once: where it came to nothing, or the
    // report does not show it yet, the schedule goes on.
    if let Some(name) = gap.map(|gap| of_gap(&set.name, gap)).filter(absent) {
        return Some(object(set, name, false));
    }
    let moment = cron.last(setting.now)?;
    let name = of_moment(&set.name, moment);
    let made_up_for = newest(report).is_some_and(|b| b.begun >= moment)
        || backups.iter().any(|b| made_since(b, moment));
    let incremental = setting.chain > 0 && gap.is_none();
    (!made_up_for && absent(&name)).then(|| object(set, name, incremental))
}

/// Whether an object's backup was begun since, though the report may not show it yet.
fn made_since(backup: &Backup, moment: Timestamp) -> bool {
    let begun = backup.status.as_ref().and_then(|s| s.begun.as_ref());
    phase(backup) == BackupPhase::Succeeded && begun.is_some_and(|begun| begun.0 >= moment)
}

/// The newest backup that can be restored.
pub fn newest(report: &Report) -> Option<&BackupEntry> {
    let whole = report.catalogue.iter().filter(|b| b.broken.is_none());
    whole.max_by_key(|b| b.begun)
}

/// A gap of the log that no backup was begun after.
pub fn uncovered(report: &Report) -> Option<&Gap> {
    let newest = newest(report)?;
    let place = newest.history.as_ref().zip(newest.log_from.as_ref());
    // Names of histories and pieces sort as the log goes.
    let behind = |gap: &&Gap| place.is_some_and(|place| place < (&gap.history, &gap.before));
    report.gaps.iter().find(behind)
}

fn of_moment(set: &str, moment: Timestamp) -> String {
    format!("{set}-{}", moment.strftime("%Y%m%d%H%M"))
}

fn of_gap(set: &str, gap: &Gap) -> String {
    let digest = Sha256::digest(format!("{} {}", gap.history, gap.before).as_bytes());
    format!("{set}-gap-{}", hex(&digest[..4]))
}

fn object(set: &SetId, name: String, incremental: bool) -> Backup {
    let mut backup = asked(set, name, incremental);
    let scheduled = (names::SCHEDULED.to_owned(), "true".to_owned());
    backup.labels_mut().extend([scheduled]);
    backup
}

/// An object that is the schedule's in nothing but how it is made: its record stays.
pub(super) fn asked(set: &SetId, name: String, incremental: bool) -> Backup {
    let labels: BTreeMap<String, String> = set.labels();
    let spec = BackupSpec {
        target: Target {
            kind: set.kind.clone(),
            name: set.name.clone(),
        },
        incremental: incremental.then_some(true),
        timeout_seconds: None,
        cancel: None,
    };
    Backup {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(set.namespace.clone()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        spec,
        status: None,
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
