//! How often a status is written. Values only.
//!
//! While a set hands over, every instance says something new many times a second. Each write of a status costs the API
//! server far more than anybody gains by it who reads, and costs most where it is noticed most.

use std::time::Duration;

use super::status::SetStatus;
use crate::events::Happening;

/// What only passes is told at most so often.
const PACE: Duration = Duration::from_millis(500);

/// How long to wait before `now` is written over `before`, which was written `since` ago; none where it is to be written
/// at once. `happenings`: what of the difference is worth an event.
///
/// At once is written what anything else may depend on: what is worth an event, another primary, what is pinned, and
/// what belongs to another generation.
pub fn pause(
    before: &SetStatus,
    now: &SetStatus,
    happenings: &[Happening],
    since: Duration,
) -> Option<Duration> {
    let rest = PACE.checked_sub(since).filter(|rest| !rest.is_zero())?;
    let passing = SetStatus {
        conditions: now.conditions.clone(),
        ready: now.ready.clone(),
        durability: now.durability,
        acknowledged: now.acknowledged.clone(),
        weakened: now.weakened.clone(),
        instances: now.instances.clone(),
        survives: now.survives.clone(),
        waiting_for: now.waiting_for.clone(),
        waiting: now.waiting.clone(),
        ..before.clone()
    };
    (passing == *now && happenings.is_empty()).then_some(rest)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::conditions::{READY, State, set};
    use crate::operator::status::happenings;

    fn status() -> SetStatus {
        SetStatus {
            observed_generation: Some(1),
            primary: Some("db-1".to_owned()),
            ..SetStatus::default()
        }
    }

    #[test]
    fn what_passes_waits_for_its_turn_and_all_else_is_told_at_once() {
        let before = status();
        let pause = |before: &SetStatus, now: &SetStatus, since| {
            super::pause(before, now, &happenings(before, now), since)
        };
        let just = Duration::from_millis(100);
        let passes = SetStatus {
            waiting: Some("db-2 to stream".to_owned()),
            ready: Some("2/3".to_owned()),
            ..status()
        };
        assert_eq!(pause(&before, &passes, just), PACE.checked_sub(just));
        assert_eq!(pause(&before, &passes, PACE), None);
        let mut ready = Vec::new();
        set(
            &mut ready,
            READY,
            State::True,
            "Serves",
            "",
            1,
            Timestamp::UNIX_EPOCH,
        );
        let told = [
            SetStatus {
                primary: Some("db-2".to_owned()),
                ..passes.clone()
            },
            SetStatus {
                observed_generation: Some(2),
                ..passes.clone()
            },
            SetStatus {
                system_identifier: Some("7".to_owned()),
                ..passes.clone()
            },
            SetStatus {
                conditions: ready,
                ..passes
            },
        ];
        for now in told {
            assert_eq!(pause(&before, &now, Duration::ZERO), None, "{now:?}");
        }
    }
}
