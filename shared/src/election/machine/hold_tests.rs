//! A term that goes on in another process.

use super::*;
use crate::election::charter::Durable;
use crate::election::machine::{Start, Tenure};
use crate::election::member::{Ballot, Epoch, Holder, Position};
use crate::election::message::{Input, Seen, Sight};
use crate::election::policy::{Durability, Policy, Timing};

const TIMING: Timing = Timing::DEFAULT;
/// When the process before renewed last.
const SENT: Moment = Duration::from_secs(100);

/// A holder alone, and what it wrote 100 s after the machine's start.
fn tenure() -> Tenure {
    let holder = Holder {
        member: Member::new("db-1", "g"),
        pod: "p".into(),
        nonce: "n".into(),
    };
    let charter = Charter {
        ballot: Ballot {
            epoch: Epoch(3),
            holder: holder.clone(),
        },
        version: 1,
        groups: vec![Group::alone(holder.member.clone())],
        members: [holder.member.clone()].into(),
        timeline: 2,
        fork: 0,
        successor: None,
        identifier: None,
    };
    Tenure {
        holder,
        applied: charter.last().cloned(),
        charter,
        until: SENT + TIMING.deadline,
        mark: 7,
        opened: Some(1),
    }
}

fn sight(tenure: &Tenure) -> Sight {
    Sight::Seen(Seen {
        version: "1/1".into(),
        holder: Some(tenure.holder.clone()),
        charter: Some(tenure.charter.clone()),
        published: Position::default(),
        mark: tenure.mark,
        transitions: 1,
    })
}

fn engine(tenure: &Tenure, now: Moment) -> Engine {
    Engine::Primary(Primary {
        ballot: tenure.charter.ballot.clone(),
        recovered: 1,
        lsn: 2,
        in_force: tenure.applied.clone(),
        since: 1,
        flushed: BTreeMap::new(),
        healthy_at: now,
    })
}

/// However long after the last renewal the next process begins, it renews as soon as that is due and
/// it knows how its engine is.
#[test]
fn the_next_process_renews_when_that_of_before_would_have() {
    for age in (0..3900).step_by(100).map(Duration::from_millis) {
        let tenure = tenure();

        let began = SENT + age;
        let start = Start {
            me: tenure.holder.clone(),
            policy: Policy {
                durability: Durability::Required,
                across_zones: false,
                max_lag: 0,
                timing: TIMING,
            },
            durable: Durable {
                promise: None,
                charter: Some(tenure.charter.clone()),
            },
            now: began,
        };
        let mut machine = Machine::resume(start, tenure.clone());
        assert!(machine.holds().is_some());
        let due = began.max(SENT + TIMING.renew);
        let mut written = None;
        for millis in (0..5000).step_by(50).map(Duration::from_millis) {
            let now = began + millis;
            let input = match millis.as_millis() {
                0 => Input::Engine(engine(&tenure, now)),
                50 => Input::Lease(sight(&tenure)),
                _ => Input::Tick,
            };
            for effect in machine.step(now, input) {
                assert_ne!(effect, Effect::HardStop, "{age:?} after the renewal");
                if matches!(effect, Effect::WriteLease(_)) {
                    written.get_or_insert(now);
                }
            }
            if written.is_some() {
                break;
            }
        }
        let written = written.expect("it renews");
        assert!(
            written <= due + Duration::from_millis(50),
            "{age:?}: {written:?}"
        );
        assert!(written >= SENT + TIMING.renew, "{age:?}: too often");
    }
}
