//! Whether data can follow a primary's history as it is; values only.

use std::collections::BTreeMap;

use mainstay_shared::election::charter::Charter;

/// What is known of the data's own past.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// Timeline of its last checkpoint, or of what it received last.
    pub timeline: u64,
    /// Known end of its log; none while only a lower bound is known. Of one that was shut down in order as a primary: where
    /// its last record, that of the shutdown, begins.
    pub end: Option<u64>,
    /// It ended as a primary: it may hold what nobody else has.
    pub was_primary: bool,
}

/// What data needs before it can follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parting {
    /// Nothing that is known.
    None,
    /// It was stopped in order where the histories parted: rewinding takes nothing back but the record of that.
    Behind,
    /// What it wrote after the histories parted has to be taken back.
    Rewind,
    /// Two histories bear the same number, which rewinding cannot tell apart.
    Copy,
    /// It holds nothing of its own, and what comes next in the log is not to be had any more.
    Outdated,
}

/// A place in the log as PostgreSQL writes it, in bytes.
pub fn position(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    let part = |t: &str| u64::from_str_radix(t, 16).ok();
    Some(part(high)? << 32 | part(low)?)
}

/// What a timeline's history file says: the timelines that it descends from, each with the place
/// where it was left.
pub fn ancestors(file: &str) -> Vec<(u64, u64)> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.parse().ok()?, position(words.next()?)?))
    };
    file.lines().filter_map(line).collect()
}

/// Compare the data's past with the primary's charter. `promotions` says which epoch claimed which
/// timeline in this data; `ancestors` from which timelines the primary's descends, once that is known.
///
/// Guarantee: data whose end is beyond where its timeline was left, or that was a primary under
/// another epoch, never follows as it is for longer than it takes to learn the ancestors. Only one that was stopped in
/// order does, when all that it wrote lies before that place.
pub fn parting(
    past: Past,
    promotions: &BTreeMap<u64, u64>,
    charter: &Charter,
    ancestors: &[(u64, u64)],
) -> Parting {
    let own = promotions.get(&past.timeline).copied();
    let same = own == Some(charter.ballot.epoch.0);
    if past.timeline == charter.timeline {
        // Unknown: it has received under this number without being told whose it is, which is what
        // a copy of a primary looks like.
        return match own {
            Some(_) if !same => Parting::Copy,
            _ if past.was_primary && !same => Parting::Copy,
            _ => Parting::None,
        };
    }
    let left = ancestors.iter().find(|(t, _)| *t == past.timeline);
    let stranger = !ancestors.is_empty() && left.is_none();
    let left = left.map_or(charter.fork, |(_, at)| *at);
    let beyond = past.end.is_some_and(|end| end > left);
    let within = past.end.is_some() && past.timeline < charter.timeline && !stranger && !beyond;
    if past.was_primary && within {
        // Records are whole: what begins before is there to its end.
        if past.end == Some(left) {
            Parting::Behind
        } else {
            Parting::None
        }
    } else if past.timeline > charter.timeline || past.was_primary || stranger || beyond {
        Parting::Rewind
    } else {
        Parting::None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use mainstay_shared::election::member::{Ballot, Epoch, Holder, Member};

    use super::*;

    fn charter(epoch: u64, timeline: u64, fork: u64) -> Charter {
        let member = Member::new("db-2", "g");
        Charter {
            ballot: Ballot {
                epoch: Epoch(epoch),
                holder: Holder {
                    member,
                    pod: "p".into(),
                    nonce: "n".into(),
                },
            },
            version: 0,
            groups: vec![],
            members: BTreeSet::new(),
            timeline,
            fork,
            successor: None,
            identifier: None,
        }
    }

    fn past(timeline: u64, end: Option<u64>, was_primary: bool) -> Past {
        Past {
            timeline,
            end,
            was_primary,
        }
    }

    #[test]
    fn a_replica_follows_unless_it_went_beyond_the_fork() {
        let known = BTreeMap::from([(2, 1)]);
        let now = charter(2, 3, 100);
        assert_eq!(
            parting(past(2, Some(100), false), &known, &now, &[]),
            Parting::None
        );
        assert_eq!(
            parting(past(2, Some(101), false), &known, &now, &[]),
            Parting::Rewind
        );
        assert_eq!(
            parting(past(2, None, false), &known, &now, &[]),
            Parting::None
        );
        assert_eq!(
            parting(past(4, Some(10), false), &known, &now, &[]),
            Parting::Rewind
        );
    }

    #[test]
    fn a_former_primary_is_rewound_unless_all_that_it_wrote_was_taken_over() {
        let known = BTreeMap::from([(2, 1)]);
        assert_eq!(
            parting(past(2, None, true), &known, &charter(2, 3, 100), &[]),
            Parting::Rewind
        );
        // Stopped in order before the fork, it has nothing that would be lost, and the record of that perhaps.
        let part = |end| parting(past(2, Some(end), true), &known, &charter(2, 3, 100), &[]);
        assert_eq!(part(99), Parting::None);
        assert_eq!(part(100), Parting::Behind);
        assert_eq!(part(101), Parting::Rewind);
    }

    #[test]
    fn the_same_number_with_another_epoch_is_copied() {
        let known = BTreeMap::from([(3, 2)]);
        assert_eq!(
            parting(past(3, Some(1), false), &known, &charter(3, 3, 100), &[]),
            Parting::Copy
        );
        assert_eq!(
            parting(past(3, Some(1), false), &known, &charter(2, 3, 100), &[]),
            Parting::None
        );
        assert_eq!(
            parting(
                past(3, None, true),
                &BTreeMap::new(),
                &charter(2, 3, 100),
                &[]
            ),
            Parting::Copy
        );
    }

    #[test]
    fn data_that_missed_a_term_is_compared_with_where_its_own_timeline_was_left() {
        let known = BTreeMap::from([(2, 1)]);
        let now = charter(10, 4, 300);
        let file = "1\t0/10\tno recovery target specified\n\n2\t0/64\tno recovery target specified\n3\t0/12C\tx\n";
        let before = ancestors(file);
        assert_eq!(before, [(1, 16), (2, 100), (3, 300)]);
        let part = |timeline, end| parting(past(timeline, Some(end), false), &known, &now, &before);
        assert_eq!(part(2, 100), Parting::None);
        assert_eq!(part(2, 101), Parting::Rewind, "beyond where it was left");
        assert_eq!(part(3, 300), Parting::None);
        let elsewhere = [(1, 16), (2, 100)];
        let part = parting(past(3, Some(90), false), &known, &now, &elsewhere);
        assert_eq!(
            part,
            Parting::Rewind,
            "a timeline that it does not descend from"
        );
    }

    #[test]
    fn places_are_read_as_postgresql_writes_them() {
        assert_eq!(position("0/403F2B0"), Some(0x0403_F2B0));
        assert_eq!(position("1/0"), Some(1 << 32));
        assert_eq!(position("nonsense"), None);
    }
}
