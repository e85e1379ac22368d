//! The condition `RecoveryProven`.

use jiff::{SignedDuration, Timestamp};
use mainstay_crds::common::backup::{DrillRecord, DrillResult};

use super::Wish;
use super::judge::PATIENCE;
use crate::conditions::{State, reasons};

/// The condition: what the last drill that was made says, and for how long it counts.
pub fn condition(
    wish: &Wish<'_>,
    now: Timestamp,
    records: &[DrillRecord],
) -> (State, &'static str, String) {
    let skipped = records.first().filter(|r| r.result == DrillResult::Skipped);
    let skipped = skipped.map(|r| format!(" The one of {} was skipped: {}.", r.due.0, r.message));
    let skipped = skipped.unwrap_or_default();
    let Some(last) = made(records) else {
        let message = format!("No backup was restored for proof yet.{skipped}");
        return (State::Unknown, reasons::NO_DRILL, message);
    };
    let due = last.due.0;
    if last.result == DrillResult::Failed {
        let message = format!("The drill of {due} failed: {}.{skipped}", last.message);
        return (State::False, reasons::DRILL_FAILED, message);
    }
    if until(wish, records).is_none_or(|until| until <= now) {
        let message = format!(
            "The last drill that passed is of {due}, and at least one more should have been made since.{skipped}"
        );
        return (State::False, reasons::DRILL_OVERDUE, message);
    }
    let figures = match (last.recovery_point_seconds, last.recovery_seconds) {
        (Some(point), Some(time)) => {
            format!(", with a recovery point of {point} s and a recovery time of {time} s")
        }
        (None, Some(time)) => format!(", with a recovery time of {time} s"),
        _ => String::new(),
    };
    let message = format!("The drill of {due} passed{figures}.{skipped}");
    (State::True, reasons::PROVEN, message)
}

/// Until when the last drill that was made counts, if it passed: until the one after the next could have been over.
/// However uneven the schedule is, one that is missed is none too many, and two are.
pub(super) fn until(wish: &Wish<'_>, records: &[DrillRecord]) -> Option<Timestamp> {
    let last = made(records).filter(|r| r.result == DrillResult::Passed)?;
    let ended = last.ended.as_ref().unwrap_or(&last.due).0;
    let after_next = wish.cron.next(wish.cron.next(ended)?)?;
    let time = PATIENCE + SignedDuration::from_secs(wish.seconds.into());
    after_next.checked_add(time).ok()
}

/// The last one that was made.
fn made(records: &[DrillRecord]) -> Option<&DrillRecord> {
    records.iter().find(|r| r.result != DrillResult::Skipped)
}
