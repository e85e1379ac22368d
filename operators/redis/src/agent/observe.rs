//! What the election is told of the engine; values only.

use std::time::Duration;

use mainstay_shared::election::charter::Charter;
use mainstay_shared::election::group::Group;
use mainstay_shared::election::member::{Ballot, Member, Position};
use mainstay_shared::election::message::{Engine, Primary};

use super::decide::Data;
use super::monitor::{Busy, LONGEST_SCRIPT, Sight};
use super::vitals::Vitals;

/// So long an engine whose memory was lost says nothing of its dataset while others may have more.
///
/// Longer than it takes them to see the Lease lapse and to elect: see `docs/adr/0020-redis-in-an-election.md`.
pub const GRACE: Duration = Duration::from_secs(15);

/// What it is made of.
#[derive(Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent facts, not a state"
)]
pub struct Facts<'a> {
    /// Time since boot.
    pub now: Duration,
    /// The engine's process is there.
    pub running: bool,
    /// What was seen of the engine.
    pub sight: &'a Sight,
    /// Whom it was told to receive from.
    pub upstream: Option<&'a Ballot>,
    /// Time since boot when it had done what it was last asked for.
    pub asked_at: Duration,
    /// What is known of its memory.
    pub memory: Memory,
    /// Time since boot since when the API server answers: without it nobody is elected.
    pub reached: Option<Duration>,
    /// Datasets live in memory only.
    pub memory_only: bool,
    /// The set has data, as far as is known.
    pub set_exists: bool,
    /// Highest timeline of data that was set aside; 0 where there is none.
    pub used: u64,
    /// For which ballot it was promoted, if its dataset says so.
    pub promoted: Option<&'a Ballot>,
    /// The engine that was elected for the term that is held has ended, no process of it is left, and none will be promoted in it.
    pub ended: bool,
    /// The group that is asked for, and the end of the history when that was first so.
    pub group: Option<(&'a Group, u64)>,
}

/// Whether what an engine has in memory is what it has acknowledged.
///
/// A replica acknowledges what it has in memory, so an engine that has ended has lost it, though a file on the volume may
/// have nearly all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// It is: it has followed a primary since it started, or it never had another. Or nobody else has any.
    Whole,
    /// It is: the engine before was stopped in order, and wrote it all, up to here.
    Kept(Position),
    /// It may have had more, before it started at this time since boot.
    LostAt(Duration),
}

impl Memory {
    /// Of an engine that starts now, after one that was stopped in order when it had gone so far, or after any other.
    pub fn at_start(kept: Option<Position>, alone: bool, now: Duration) -> Self {
        match kept {
            Some(position) => Self::Kept(position),
            None if alone => Self::Whole,
            None => Self::LostAt(now),
        }
    }
}

/// Whether nobody but the instance `me` can have any of the set's data: there is no other `instance`, nor does the charter name
/// one, and who is not named receives nothing.
pub fn is_alone(me: &str, instances: &[String], charter: Option<&Charter>) -> bool {
    let named = |c: &Charter| c.everybody().iter().all(|m| m.name.as_str() == me);
    instances.iter().all(|name| name == me) && charter.is_some_and(named)
}

/// Whether the charter names a member: it may stand where nobody was asked to acknowledge yet.
pub fn is_named(member: &Member, charter: Option<&Charter>) -> bool {
    charter.is_some_and(|c| c.everybody().contains(member))
}

/// What is in memory.
pub fn data(vitals: &Vitals) -> Data {
    match &vitals.mark {
        Some(mark) => Data::Of(mark.set.clone()),
        None if vitals.keys == 0 => Data::Empty,
        None => Data::Unmarked,
    }
}

/// How long others may have more than what is in memory after it was lost. Who has nothing waits longer, so that whoever
/// has anything goes first.
fn grace(vitals: &Vitals) -> Duration {
    if data(vitals) == Data::Empty {
        GRACE * 2
    } else {
        GRACE
    }
}

/// Whether an engine keeps silent, for others may have more: `grace` since its start, while they could be elected.
fn keeps_silent(memory: Memory, reached: Option<Duration>, now: Duration, grace: Duration) -> bool {
    match memory {
        Memory::Whole | Memory::Kept(_) => false,
        Memory::LostAt(start) => reached.is_none_or(|since| now < start.max(since) + grace),
    }
}

/// How far a dataset goes that receives nothing any more; none while others may have more, and are waited for.
pub fn position(
    vitals: &Vitals,
    memory: Memory,
    reached: Option<Duration>,
    now: Duration,
) -> Option<Position> {
    if keeps_silent(memory, reached, now, grace(vitals)) {
        return None;
    }
    let told = vitals
        .mark
        .as_ref()
        .map(|mark| mark.position(&vitals.replid, vitals.offset));
    // Without a mark it is behind everybody who has one.
    let told = told.unwrap_or_default();
    Some(match memory {
        // It cannot go further than what was read from the file; only the mark in it may be behind.
        Memory::Kept(end) if end.epoch == told.epoch => told.max(end),
        _ => told,
    })
}

/// The engine as the election sees it. What is not certain is `Unknown`.
pub fn engine(f: &Facts<'_>) -> Engine {
    if f.ended {
        return Engine::Ended;
    }
    let Sight::Up { at, vitals, busy } = f.sight else {
        return Engine::Unknown;
    };
    if !f.running {
        return Engine::Unknown;
    }
    if busy.is_some() && (!vitals.is_primary || *at <= f.asked_at) {
        // It would bind others to itself, and can do nothing for them; or is another by now.
        return Engine::Unknown;
    }
    if vitals.is_primary {
        return primary(f, (*at, *busy), vitals);
    }
    if let Some(ballot) = f.upstream {
        // Who follows may stand, and binds others to itself; one that could not say what it has would do so in vain.
        return if keeps_silent(f.memory, f.reached, f.now, GRACE) {
            Engine::Unknown
        } else {
            Engine::Following(ballot.clone())
        };
    }
    if !vitals.is_detached() || *at <= f.asked_at {
        // It may have received more since that look.
        return Engine::Unknown;
    }
    let empty = data(vitals) == Data::Empty;
    if empty && !(f.memory_only && f.set_exists) {
        // A set that keeps its data never begins anew with nothing.
        return Engine::Empty;
    }
    let timeline = vitals.mark.as_ref().map_or(0, |m| m.timeline);
    // Of none of two sides of a set is a number taken again.
    let timeline = timeline.max(f.used);
    match position(vitals, f.memory, f.reached, f.now) {
        Some(position) => Engine::Detached { position, timeline },
        None => Engine::Unknown,
    }
}

fn primary(f: &Facts<'_>, (at, busy): (Duration, Option<Busy>), vitals: &Vitals) -> Engine {
    let (Some(ballot), Some(mark)) = (f.promoted, &vitals.mark) else {
        return Engine::Unknown;
    };
    Engine::Primary(Primary {
        ballot: ballot.clone(),
        recovered: mark.base,
        lsn: vitals.offset,
        in_force: f.group.map(|(group, _)| group.clone()),
        since: f.group.map_or(vitals.offset, |(_, since)| since),
        flushed: vitals.flushed(),
        healthy_at: busy.map_or(at, |b| b.at.min(b.since + LONGEST_SCRIPT)),
    })
}

#[cfg(test)]
mod tests {
    use mainstay_shared::election::member::{Epoch, Holder};

    use super::*;
    use crate::agent::mark::Mark;
    use crate::agent::vitals::NOBODY;

    const SECOND: Duration = Duration::from_secs(1);

    fn mark() -> Mark {
        Mark {
            set: "s".into(),
            epoch: 4,
            timeline: 2,
            replid: "aa".into(),
            base: 10,
            offset: 50,
        }
    }

    fn detached(mark: Option<Mark>, replid: &str, offset: u64) -> Sight {
        Sight::Up {
            at: SECOND * 10,
            busy: None,
            vitals: Box::new(Vitals {
                upstream: Some((NOBODY.0.into(), NOBODY.1)),
                replid: replid.into(),
                offset,
                mark,
                ..Vitals::default()
            }),
        }
    }

    fn facts(sight: &Sight) -> Facts<'_> {
        Facts {
            now: SECOND * 10,
            running: true,
            sight,
            upstream: None,
            asked_at: SECOND,
            memory: Memory::Whole,
            reached: Some(SECOND),
            memory_only: false,
            set_exists: true,
            used: 0,
            promoted: None,
            ended: false,
            group: None,
        }
    }

    fn at(lsn: u64) -> Engine {
        Engine::Detached {
            position: Position {
                epoch: Epoch(4),
                lsn,
            },
            timeline: 2,
        }
    }

    #[test]
    fn an_engine_that_lost_its_memory_says_nothing_until_others_had_their_turn() {
        // As after a start from the append-only file: another id, and no offset.
        let sight = detached(Some(mark()), "bb", 0);
        let lost = Facts {
            memory: Memory::LostAt(SECOND),
            ..facts(&sight)
        };
        assert_eq!(engine(&lost), Engine::Unknown);
        let later = Facts {
            now: SECOND + GRACE,
            ..lost
        };
        assert_eq!(engine(&later), at(50));
        // While the API server is away nobody has a turn.
        for reached in [None, Some(SECOND * 9)] {
            let away = Facts { reached, ..later };
            assert_eq!(engine(&away), Engine::Unknown);
        }
        let back = Facts {
            reached: Some(SECOND * 9),
            now: SECOND * 9 + GRACE,
            ..later
        };
        assert_eq!(engine(&back), at(50));
    }

    #[test]
    fn an_orderly_stop_is_remembered_only_of_the_same_history() {
        let sight = detached(Some(mark()), "bb", 0);
        let kept = |epoch, lsn| Facts {
            memory: Memory::Kept(Position {
                epoch: Epoch(epoch),
                lsn,
            }),
            ..facts(&sight)
        };
        assert_eq!(engine(&kept(4, 70)), at(70));
        assert_eq!(engine(&kept(3, 70)), at(50));
        assert_eq!(
            engine(&kept(5, 70)),
            at(50),
            "the file on the volume is older"
        );
    }

    #[test]
    fn no_timeline_of_data_that_was_set_aside_is_taken_again() {
        // As a restore made it: for nobody's promotion.
        let made = Mark {
            epoch: 0,
            timeline: 0,
            ..mark()
        };
        let sight = detached(Some(made), "aa", 60);
        let told = |used| {
            engine(&Facts {
                used,
                ..facts(&sight)
            })
        };
        let at = |timeline| Engine::Detached {
            position: Position {
                epoch: Epoch(0),
                lsn: 60,
            },
            timeline,
        };
        assert_eq!((told(0), told(7)), (at(0), at(7)));
        let sight = detached(Some(mark()), "aa", 60);
        let own = Facts {
            used: 1,
            ..facts(&sight)
        };
        assert!(matches!(engine(&own), Engine::Detached { timeline: 2, .. }));
    }

    #[test]
    fn a_look_from_before_tells_nothing() {
        let sight = detached(Some(mark()), "aa", 60);
        assert_eq!(engine(&facts(&sight)), at(60));
        let old = Facts {
            asked_at: SECOND * 10,
            ..facts(&sight)
        };
        assert_eq!(engine(&old), Engine::Unknown);
        let stopped = Facts {
            running: false,
            ..facts(&sight)
        };
        assert_eq!(engine(&stopped), Engine::Unknown);
    }

    #[test]
    fn nothing_is_never_a_dataset_unless_the_set_keeps_none() {
        let sight = detached(None, "bb", 0);
        assert_eq!(engine(&facts(&sight)), Engine::Empty);
        let cache = |memory| Facts {
            memory_only: true,
            memory,
            ..facts(&sight)
        };
        assert_eq!(engine(&cache(Memory::LostAt(SECOND))), Engine::Unknown);
        let nothing = Engine::Detached {
            position: Position::default(),
            timeline: 0,
        };
        let later = |after| Facts {
            now: SECOND + after,
            ..cache(Memory::LostAt(SECOND))
        };
        assert_eq!(engine(&later(GRACE)), Engine::Unknown, "others go first");
        assert_eq!(engine(&later(GRACE * 2)), nothing);
        let new = Facts {
            set_exists: false,
            ..cache(Memory::Whole)
        };
        assert_eq!(engine(&new), Engine::Empty, "it may be founded");
    }

    fn ballot() -> Ballot {
        Ballot {
            epoch: Epoch(4),
            holder: Holder {
                member: Member::new("db-1", "g"),
                pod: "p".into(),
                nonce: "n".into(),
            },
        }
    }

    #[test]
    fn nobody_waits_for_others_where_there_never_was_one() {
        let charter = |members: &[&str]| Charter {
            ballot: ballot(),
            version: 0,
            groups: vec![Group::alone(Member::new("db-1", "g"))],
            members: members.iter().map(|m| Member::new(*m, "g")).collect(),
            timeline: 1,
            fork: 0,
            successor: None,
            identifier: None,
        };
        let (one, two) = (["db-1".to_owned()], ["db-1".to_owned(), "db-2".to_owned()]);
        let (own, both) = (charter(&["db-1"]), charter(&["db-1", "db-2"]));
        assert!(is_alone("db-1", &one, Some(&own)));
        assert!(!is_alone("db-1", &one, Some(&both)), "it is leaving");
        assert!(!is_alone("db-1", &two, Some(&own)), "it may have come");
        assert!(!is_alone("db-1", &one, None), "too little is known");
        let position = Position {
            epoch: Epoch(4),
            lsn: 9,
        };
        let starts = |kept, alone| Memory::at_start(kept, alone, SECOND);
        assert_eq!(starts(Some(position), true), Memory::Kept(position));
        assert_eq!(starts(None, true), Memory::Whole);
        assert_eq!(starts(None, false), Memory::LostAt(SECOND));

        let other = Member::new("db-2", "g");
        assert!(is_named(&other, Some(&both)));
        assert!(!is_named(&other, Some(&own)) && !is_named(&other, None));
        assert!(!is_named(&Member::new("db-2", "new data"), Some(&both)));
    }

    #[test]
    fn who_follows_and_lost_its_memory_does_not_stand_yet() {
        let ballot = ballot();
        let sight = detached(Some(mark()), "aa", 60);
        let follows = |memory| Facts {
            upstream: Some(&ballot),
            memory,
            ..facts(&sight)
        };
        assert_eq!(engine(&follows(Memory::LostAt(SECOND))), Engine::Unknown);
        assert_eq!(
            engine(&follows(Memory::Whole)),
            Engine::Following(ballot.clone())
        );
        let later = Facts {
            now: SECOND + GRACE,
            ..follows(Memory::LostAt(SECOND))
        };
        assert_eq!(engine(&later), Engine::Following(ballot.clone()));
    }

    #[test]
    fn an_engine_that_was_elected_and_has_ended_is_told_until_its_term_is_over() {
        let sight = Sight::Dark("it does not run".into());
        let gone = Facts {
            running: false,
            ended: true,
            ..facts(&sight)
        };
        assert_eq!(engine(&gone), Engine::Ended);
        // What runs by now may have everything: nobody knows.
        let sight = detached(Some(mark()), "aa", 60);
        let next = Facts {
            ended: true,
            ..facts(&sight)
        };
        assert_eq!(engine(&next), Engine::Ended);
    }

    #[test]
    fn a_primary_whose_dataset_does_not_say_so_is_unknown() {
        let ballot = ballot();
        let sight = Sight::Up {
            at: SECOND * 10,
            busy: None,
            vitals: Box::new(Vitals {
                is_primary: true,
                offset: 90,
                mark: Some(mark()),
                ..Vitals::default()
            }),
        };
        assert_eq!(engine(&facts(&sight)), Engine::Unknown);
        let promoted = Facts {
            promoted: Some(&ballot),
            ..facts(&sight)
        };
        match engine(&promoted) {
            Engine::Primary(p) => assert_eq!((p.recovered, p.lsn), (10, 90)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_script_that_holds_everybody_up_is_a_sign_of_life_for_a_while() {
        let ballot = ballot();
        let healthy_at = |after: u32| {
            let busy = Busy {
                since: SECOND * 12,
                at: SECOND * (12 + after),
            };
            let sight = Sight::Up {
                at: SECOND * 10,
                busy: Some(busy),
                vitals: Box::new(Vitals {
                    is_primary: true,
                    mark: Some(mark()),
                    ..Vitals::default()
                }),
            };
            let led = Facts {
                promoted: Some(&ballot),
                ..facts(&sight)
            };
            match engine(&led) {
                Engine::Primary(p) => p.healthy_at,
                other => panic!("{other:?}"),
            }
        };
        let sight = detached(Some(mark()), "aa", 60);
        let Sight::Up { at, vitals, .. } = sight else {
            panic!("{sight:?}")
        };
        let busy = Some(Busy { since: at, at });
        let sight = Sight::Up { at, vitals, busy };
        assert_eq!(engine(&facts(&sight)), Engine::Unknown, "it cannot lead");

        assert_eq!(healthy_at(0), SECOND * 12);
        assert_eq!(healthy_at(9), SECOND * 21);
        assert_eq!(healthy_at(99), SECOND * 12 + LONGEST_SCRIPT);
    }
}
