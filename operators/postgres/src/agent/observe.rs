//! What the election is told of the engine; values only.

use std::collections::BTreeMap;
use std::time::Duration;

use mainstay_shared::election::group::Group;
use mainstay_shared::election::member::{Ballot, Epoch, Position};
use mainstay_shared::election::message::{Engine, Primary};

use super::decide::{Data, Role};
use super::monitor::Sight;
use super::render;
use super::sql::Vitals;

/// What it is made of.
#[derive(Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent facts, not a state"
)]
pub struct Facts<'a> {
    /// The engine's process is there.
    pub running: bool,
    /// The volume.
    pub data: &'a Data,
    /// What was seen of the engine.
    pub sight: &'a Sight,
    /// Time since boot when it was decided to receive from nobody.
    pub detached_since: Duration,
    /// A configuration was put in place and is not loaded yet.
    pub loading: bool,
    /// Whom the configuration in place names to receive from.
    pub upstream: Option<&'a Ballot>,
    /// Which epoch claimed which timeline.
    pub promotions: &'a BTreeMap<u64, u64>,
    /// The timeline that the data began with: later than the first where it was restored.
    pub first: u64,
    /// Highest timeline of other data of the set: a promotion takes a higher one.
    pub used: u64,
    /// For which ballot the data was promoted last, if its last timeline is its own.
    pub promoted: Option<&'a Ballot>,
    /// Roles and slots are there: others can receive from it.
    pub tended: bool,
    /// Where its recovery ended, as seen first.
    pub recovered: Option<u64>,
    /// The group that every session waits for, and the end of the log when that was first seen.
    pub in_force: Option<(&'a Group, u64)>,
    /// It was stopped in order, to be handed over, and shall stay so.
    pub handing_over: bool,
}

/// The engine as the election sees it. What is not certain is `Unknown`.
pub fn engine(f: &Facts<'_>) -> Engine {
    if !f.running {
        return stopped(f);
    }
    let Sight::Up { at, vitals, .. } = f.sight else {
        return Engine::Unknown;
    };
    if vitals.in_recovery {
        return replica(f, *at, vitals);
    }
    // What an earlier primary made need not be looked after before others follow.
    let others_can_follow = f.tended || (vitals.roles && f.promotions.len() > 1);
    let (Some(ballot), Some(recovered), true) = (f.promoted, f.recovered, others_can_follow) else {
        return Engine::Unknown;
    };
    let flushed = vitals.flushed.iter();
    Engine::Primary(Primary {
        ballot: ballot.clone(),
        recovered,
        lsn: vitals.position,
        in_force: f.in_force.map(|(group, _)| group.clone()),
        since: f.in_force.map_or(vitals.position, |(_, since)| since),
        flushed: flushed
            .filter_map(|(name, end)| Some((render::member(name)?, *end)))
            .collect(),
        healthy_at: *at,
    })
}

fn stopped(f: &Facts<'_>) -> Engine {
    match f.data {
        Data::None => Engine::Empty,
        Data::Present {
            timeline,
            end: Some(end),
            role: Role::Primary,
            ..
        } if f.handing_over => {
            position(f, *timeline, *end).map_or(Engine::Unknown, |position| Engine::Detached {
                position,
                timeline: *timeline,
            })
        }
        _ => Engine::Unknown,
    }
}

fn replica(f: &Facts<'_>, at: Duration, vitals: &Vitals) -> Engine {
    if let Some(ballot) = f.upstream {
        return Engine::Following(ballot.clone());
    }
    if at <= f.detached_since || f.loading {
        // It may have received more since that look.
        return Engine::Unknown;
    }
    let place = end(vitals).and_then(|end| position(f, vitals.timeline, end));
    match place {
        Some(position) => Engine::Detached {
            position,
            timeline: vitals.timeline.max(vitals.newest_timeline).max(f.used),
        },
        None => Engine::Unknown,
    }
}

/// End of a replica's log, once it receives from nobody.
///
/// What it received since its start is known exactly. Without that the log was read to its end when
/// the startup process waits for more. Replay that is behind lowers nothing.
pub fn end(vitals: &Vitals) -> Option<u64> {
    if vitals.attached || !vitals.heeds {
        return None;
    }
    match vitals.received {
        Some(received) => Some(received.max(vitals.position)),
        None => vitals.at_end.then_some(vitals.position),
    }
}

/// None when it is not known which epoch claimed the timeline: only that with which the data began, and those
/// that it was restored from, are nobody's.
fn position(f: &Facts<'_>, timeline: u64, lsn: u64) -> Option<Position> {
    let claimed = f.promotions.get(&timeline).copied();
    let epoch = Epoch(claimed.or((timeline <= f.first).then_some(0))?);
    Some(Position { epoch, lsn })
}

/// Whether every session waits for that group: the configuration is loaded, and whoever sends to
/// replicas knows it.
///
/// A sender does if it began after the load. For the first group after a promotion (`first`) also if
/// it counts its replica: before, as a replica's, its configuration named nobody.
///
/// Where commits need not wait, whatever they wait for is more.
pub fn is_in_force(vitals: &Vitals, group: &Group, first: bool) -> bool {
    if group.acks == 0 {
        return true;
    }
    let renewed = vitals
        .oldest_sender
        .is_none_or(|began| began > vitals.loaded_at);
    let votes = |name: &String| render::member(name).is_some_and(|m| group.voters.contains(&m));
    let known = renewed || (first && !vitals.uncounted.iter().any(votes));
    vitals.standby_names == render::standby_names(Some(group)) && known
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts<'a>(sight: &'a Sight, data: &'a Data, known: &'a BTreeMap<u64, u64>) -> Facts<'a> {
        Facts {
            running: true,
            data,
            sight,
            detached_since: Duration::ZERO,
            loading: false,
            upstream: None,
            promotions: known,
            first: 1,
            used: 0,
            promoted: None,
            tended: true,
            recovered: Some(5),
            in_force: None,
            handing_over: false,
        }
    }

    fn up(vitals: Vitals) -> Sight {
        Sight::Up {
            at: Duration::from_secs(1),
            vitals: Box::new(vitals),
            pending_restart: vec![],
            configuration_error: None,
            settings_of: 0.0,
        }
    }

    fn replica() -> Vitals {
        Vitals {
            in_recovery: true,
            timeline: 2,
            position: 90,
            ..Vitals::default()
        }
    }

    #[test]
    fn a_replica_is_detached_only_when_the_end_of_its_log_is_known() {
        let known = BTreeMap::from([(2, 7)]);
        let data = Data::None;
        let see = |vitals| engine(&facts(&up(vitals), &data, &known));
        assert_eq!(see(replica()), Engine::Unknown, "it may still read");
        let at_end = Vitals {
            at_end: true,
            heeds: true,
            ..replica()
        };
        let at = |lsn| Engine::Detached {
            position: Position {
                epoch: Epoch(7),
                lsn,
            },
            timeline: 2,
        };
        assert_eq!(see(at_end.clone()), at(90));
        let received = |heeds| Vitals {
            received: Some(100),
            heeds,
            ..replica()
        };
        assert_eq!(see(received(true)), at(100), "replay behind lowers nothing");
        assert_eq!(see(received(false)), Engine::Unknown, "it may receive more");
        assert_eq!(
            see(Vitals {
                attached: true,
                ..at_end
            }),
            Engine::Unknown
        );
    }

    #[test]
    fn a_look_from_before_and_a_timeline_that_nobody_claimed_tell_nothing() {
        let data = Data::None;
        let sight = up(Vitals {
            at_end: true,
            heeds: true,
            ..replica()
        });
        let known = BTreeMap::from([(2, 7)]);
        let old = Facts {
            detached_since: Duration::from_secs(1),
            ..facts(&sight, &data, &known)
        };
        assert_eq!(engine(&old), Engine::Unknown);
        let loading = Facts {
            loading: true,
            ..facts(&sight, &data, &known)
        };
        assert_eq!(engine(&loading), Engine::Unknown);
        let restored = BTreeMap::new();
        let began = |first| Facts {
            first,
            ..facts(&sight, &data, &restored)
        };
        assert_eq!(engine(&began(1)), Engine::Unknown);
        let at = Engine::Detached {
            position: Position {
                epoch: Epoch(0),
                lsn: 90,
            },
            timeline: 2,
        };
        assert_eq!(engine(&began(2)), at, "as what a restore has made");
        // Data that was set aside has higher timelines: none of them is taken again.
        let beside = Facts {
            used: 7,
            ..began(2)
        };
        assert!(matches!(
            engine(&beside),
            Engine::Detached { timeline: 7, .. }
        ));
        let nobodys = BTreeMap::from([(3, 8)]);
        assert_eq!(engine(&facts(&sight, &data, &nobodys)), Engine::Unknown);
    }

    #[test]
    fn a_primary_nobody_knows_the_ballot_of_is_unknown() {
        let known = BTreeMap::new();
        let data = Data::None;
        assert_eq!(
            engine(&facts(&up(Vitals::default()), &data, &known)),
            Engine::Unknown
        );
    }

    #[test]
    fn a_group_is_in_force_only_for_senders_that_began_after_the_load() {
        let group = Group {
            primary: render::member("db-1.a").unwrap(),
            voters: [render::member("db-2.b").unwrap()].into(),
            acks: 1,
        };
        let vitals = |oldest_sender| Vitals {
            standby_names: "ANY 1 (\"db-2.b\")".into(),
            loaded_at: 10.0,
            oldest_sender,
            ..Vitals::default()
        };
        for first in [false, true] {
            assert!(is_in_force(&vitals(None), &group, first));
            assert!(is_in_force(&vitals(Some(10.5)), &group, first));
        }
        assert!(!is_in_force(&vitals(Some(9.0)), &group, false));
        let early = Vitals {
            uncounted: vec!["db-2.b".into(), "db-3.c".into()],
            ..vitals(Some(9.0))
        };
        assert!(!is_in_force(&early, &group, true), "it may not have loaded");
        let counted = Vitals {
            uncounted: vec!["db-3.c".into()],
            ..early
        };
        assert!(
            is_in_force(&counted, &group, true),
            "the other does not vote"
        );
        assert!(!is_in_force(&counted, &group, false), "by which group?");
    }
}
