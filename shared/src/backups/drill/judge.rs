//! What came of a drill, by its pod and the last words in it.

use jiff::{SignedDuration, Timestamp};
use mainstay_backup::drill::{CHECKS, DrillReport};
use mainstay_backup::ids::BackupId;
use mainstay_crds::common::backup::{DrillRecord, DrillResult};
use serde::Deserialize;

use super::pod::{Ended, Phase, PodSeen};
use super::{Drill, seconds};
use crate::backups::words::{signed, whole};
use crate::names;

/// A pod that has not begun for so long is given up: there is no room.
pub const PATIENCE: SignedDuration = SignedDuration::from_mins(10);
/// Longest sentence in a status, in characters.
const LONGEST: usize = 400;
/// Kubernetes' word for a pod that took longer than it may.
const TOO_LONG: &str = "DeadlineExceeded";
/// Kubernetes' words for containers whose end nobody saw, as after a loss of the node's power.
const UNSEEN: [&str; 2] = ["ContainerStatusUnknown", "Unknown"];

/// What the restore tells as its last words, as far as it is of use here.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Restored {
    message: String,
    backup: Option<BackupId>,
    key: Option<String>,
    bytes: u64,
    ended: Option<Timestamp>,
}

/// What came of it; none while it goes on.
pub(super) fn judge(
    drill: &Drill,
    pod: &PodSeen,
    begun: Timestamp,
    limit: u32,
    now: Timestamp,
) -> Option<DrillRecord> {
    let report = words::<DrillReport>(pod, names::DRILL);
    if let Some(report) = report.as_ref().filter(|r| r.passed) {
        return Some(told(drill, report, now));
    }
    // Also when it has ended by then: told to stop, it says that it was.
    if pod.deleting {
        let why = "its pod was deleted, as when a node is drained, before it was over";
        return Some(skipped(drill, why, now));
    }
    if pod.phase == Phase::Going {
        if until(pod, begun, limit).is_none_or(|until| now < until) {
            return None;
        }
        if pod.started {
            // Else its node would have ended it.
            let why = "nothing is heard of its pod any more, as when its node is lost";
            return Some(skipped(drill, why, now));
        }
        let minutes = PATIENCE.as_mins();
        let why = pod.waiting.as_deref().unwrap_or("nobody says why");
        let why = if pod.placed {
            format!("it has not started within {minutes} minutes: {why}")
        } else {
            format!("no room: {why}")
        };
        return Some(skipped(drill, &why, now));
    }
    if let Some((reason, message)) = &pod.reason {
        if reason == TOO_LONG && pod.started {
            let what = pod.doing_last();
            let why = format!(
                "it took longer than {limit} s ({what}): raise timeoutSeconds, or ask for more of resources"
            );
            return Some(failed(drill, &why, now));
        }
        let why = pod.waiting.as_ref().filter(|_| reason == TOO_LONG);
        let why = why.unwrap_or(message);
        let why = format!("its pod was ended before it was over: {reason}: {why}");
        return Some(skipped(drill, &why, now));
    }
    let unseen = |e: &Ended| e.reason.as_deref().is_some_and(|r| UNSEEN.contains(&r));
    if report.is_none() && pod.ended.values().any(unseen) {
        let why = "nobody saw how its pod ended, as when its node is lost";
        return Some(skipped(drill, why, now));
    }
    if let Some(report) = report {
        return Some(told(drill, &report, now));
    }
    if let Some(restored) = words::<Restored>(pod, names::RESTORE).filter(|_| !restored(pod)) {
        let mut record = failed(drill, &restored.message, restored.ended.unwrap_or(now));
        record.backup = restored.backup.map(|id| id.to_string());
        record.key = restored.key;
        record.bytes = Some(signed(restored.bytes)).filter(|n| *n > 0);
        return Some(record);
    }
    Some(failed(drill, &speechless(pod), now))
}

/// Until when something should be heard of a pod that goes on: that it has begun, or that it is over.
pub(super) fn until(pod: &PodSeen, begun: Timestamp, limit: u32) -> Option<Timestamp> {
    let limit = SignedDuration::from_secs(limit.into());
    let time = if pod.started {
        PATIENCE + limit
    } else {
        PATIENCE
    };
    since(pod, begun).checked_add(time).ok()
}

/// It makes room for an instance of the set.
pub(super) fn gives_way(drill: &Drill, who: &str, why: &str, now: Timestamp) -> DrillRecord {
    skipped(drill, &format!("no room: {who} needs it: {why}"), now)
}

/// Since when a pod might have begun.
fn since(pod: &PodSeen, begun: Timestamp) -> Timestamp {
    pod.scheduled
        .map_or(begun, |scheduled| scheduled.max(begun))
}

/// Its pod is gone, and nothing was heard of it.
pub fn gone(drill: &Drill, now: Timestamp) -> DrillRecord {
    let why = "its pod is gone without last words, as when its node is lost";
    skipped(drill, why, now)
}

/// Its pod was refused.
pub fn refused(drill: &Drill, why: &str, now: Timestamp) -> DrillRecord {
    skipped(drill, &format!("no room: {why}"), now)
}

impl PodSeen {
    fn doing_last(&self) -> &'static str {
        if restored(self) {
            "while what was restored was looked at"
        } else {
            "while the backup was restored"
        }
    }
}

/// Whether the data was brought back.
fn restored(pod: &PodSeen) -> bool {
    pod.ended.get(names::RESTORE).is_some_and(|e| e.code == 0)
}

fn words<T: serde::de::DeserializeOwned>(pod: &PodSeen, container: &str) -> Option<T> {
    let words = pod.ended.get(container)?.words.as_ref()?;
    serde_json::from_str(words.trim()).ok()
}

/// Something ended without words that can be read.
fn speechless(pod: &PodSeen) -> String {
    let bad = |(_, ended): &(&String, &Ended)| ended.code != 0;
    let Some((name, ended)) = pod.ended.iter().find(bad) else {
        return "it ended without last words".to_owned();
    };
    let reason = ended.reason.as_deref().unwrap_or("Error");
    let words = ended.words.as_deref().map(|w| format!(": {}", w.trim()));
    let words = words.unwrap_or_default();
    let more = if reason == "OOMKilled" {
        ": write more memory in resources"
    } else {
        ""
    };
    format!(
        "container {name} ended with {reason}, exit code {}{words}{more}",
        ended.code
    )
}

fn told(drill: &Drill, report: &DrillReport, now: Timestamp) -> DrillRecord {
    let result = if report.passed {
        DrillResult::Passed
    } else {
        DrillResult::Failed
    };
    let text = |id: &BackupId| id.to_string();
    DrillRecord {
        backup: report.backup.as_ref().map(text),
        key: report.key.as_deref().map(shorten),
        history: report.history.as_deref().map(shorten),
        position: report.position.as_deref().map(shorten),
        last_commit: report.last_commit.map(whole),
        recovery_point_seconds: seconds(report.last_commit, drill.asked()),
        recovery_seconds: seconds(report.begun, report.answered),
        bytes: Some(signed(report.bytes)),
        checks: i32::try_from(report.checks).ok(),
        failed: report
            .failed
            .iter()
            .take(CHECKS)
            .map(|check| shorten(&format!("{}: {}", check.what, check.found)))
            .collect(),
        ..over(drill, result, &report.message, report.ended.unwrap_or(now))
    }
}

fn failed(drill: &Drill, why: &str, ended: Timestamp) -> DrillRecord {
    over(drill, DrillResult::Failed, why, ended)
}

fn skipped(drill: &Drill, why: &str, now: Timestamp) -> DrillRecord {
    over(drill, DrillResult::Skipped, why, now)
}

fn over(drill: &Drill, result: DrillResult, message: &str, ended: Timestamp) -> DrillRecord {
    DrillRecord {
        due: whole(drill.due),
        begun: drill.begun.map(whole),
        ended: Some(whole(ended)),
        result,
        message: shorten(message),
        backup: None,
        key: None,
        history: None,
        target: drill.moment.map(whole),
        position: None,
        last_commit: None,
        recovery_point_seconds: None,
        recovery_seconds: None,
        bytes: None,
        checks: None,
        failed: Vec::new(),
    }
}

/// Sentences of others have no bound; those in a status do.
fn shorten(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}
