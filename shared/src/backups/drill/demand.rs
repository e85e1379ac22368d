//! Drills that somebody asks for by an `Operation`: when it was made is when they were due.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use mainstay_crds::common::backup::DrillResult;
use mainstay_crds::operation::{Operation, OperationPhase};

use super::Setting;
use crate::operations::{self, Told, is_over};

/// The first drill that is asked for and neither begun nor over: when it was due.
pub(super) fn first(setting: &Setting<'_>) -> Option<Timestamp> {
    let mut waiting = setting.asked.iter().filter(|o| waits(o, setting));
    let first = waiting.find(|o| !o.spec.is_cancelled() && setting.now < deadline(o, setting.now));
    due(first?)
}

/// When to look again although nothing happens.
pub(super) fn wake<'a>(setting: &'a Setting<'_>) -> impl Iterator<Item = Timestamp> + 'a {
    let waiting = setting.asked.iter().filter(|o| waits(o, setting));
    waiting.map(|o| deadline(o, setting.now))
}

/// When it was made.
fn due(operation: &Operation) -> Option<Timestamp> {
    operation.creation_timestamp().map(|t| t.0)
}

/// Until when it may wait until it begins. From then on the drill's own time counts.
fn deadline(operation: &Operation, now: Timestamp) -> Timestamp {
    let status = operation.status.as_ref();
    let seen = status.and_then(|s| s.started_at.as_ref());
    let seconds = SignedDuration::from_secs(operation.spec.timeout_seconds().into());
    let begun = seen.map_or(now, |t| t.0);
    begun.checked_add(seconds).unwrap_or(Timestamp::MAX)
}

fn waits(operation: &Operation, setting: &Setting<'_>) -> bool {
    let due = due(operation);
    let known = setting.records.iter().map(|r| r.due.0);
    let mut known = known.chain(setting.begun.iter().map(|d| d.due));
    !is_over(operation) && !known.any(|known| Some(known) == due)
}

/// What is to be said of what is asked for, and is not said yet. `going` tells how far the drill is that goes on.
///
/// Guarantee: of what is over nothing is said again.
pub fn told(setting: &Setting<'_>, going: Option<&str>) -> Vec<Told> {
    if setting.paused {
        return Vec::new();
    }
    let mut all = Vec::new();
    for operation in setting.asked.iter().filter(|o| !is_over(o)) {
        let (phase, message) = judge(operation, setting, going);
        let status = operations::written(operation, setting.now, phase, message);
        if operation.status.as_ref() != Some(&status) {
            all.push(Told {
                operation: operation.clone(),
                status,
            });
        }
    }
    all
}

fn judge(
    operation: &Operation,
    setting: &Setting<'_>,
    going: Option<&str>,
) -> (OperationPhase, String) {
    let due = due(operation);
    if let Some(record) = setting.records.iter().find(|r| Some(r.due.0) == due) {
        return match record.result {
            DrillResult::Passed => (OperationPhase::Succeeded, record.message.clone()),
            DrillResult::Failed => (OperationPhase::Failed, record.message.clone()),
            DrillResult::Skipped => {
                let message = format!("it was skipped: {}", record.message);
                (OperationPhase::Failed, message)
            }
        };
    }
    if let Some(drill) = setting.begun.iter().find(|d| Some(d.due) == due) {
        let message = going.map_or_else(|| format!("{} goes on", drill.name), str::to_owned);
        return (OperationPhase::Running, message);
    }
    if operation.spec.is_cancelled() {
        return (OperationPhase::Cancelled, "it was cancelled".to_owned());
    }
    let why = held_back(setting);
    if setting.now >= deadline(operation, setting.now) {
        let seconds = operation.spec.timeout_seconds();
        let message = format!("given up after {seconds} s: {why}");
        return (OperationPhase::Failed, message);
    }
    (OperationPhase::Pending, why)
}

/// What one waits for that has not begun.
fn held_back(setting: &Setting<'_>) -> String {
    let set = setting.set;
    if setting.wish.is_none() {
        return format!("the {} {} has no spec.backup.drill", set.kind, set.name);
    }
    if let Some(other) = setting.begun.first() {
        return format!("the drill {} comes first", other.name);
    }
    match setting.ground {
        Ok(_) => "it is next".to_owned(),
        Err(why) => why.to_owned(),
    }
}
