//! Whether data can follow a primary's history as it is; values only.

use std::collections::BTreeMap;

use mainstay_shared::election::charter::Charter;

/// What is known of the data's own past.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// Timeline of its last checkpoint, or of what it received last.
    pub timeline: u64,
    /// Known end of its log; none while only a lower bound is known.
    pub end: Option<u64>,
    /// It ended as a primary: it may hold what nobody else has.
    pub was_primary: bool,
}

/// What data needs before it can follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parting {
    /// Nothing that is known.
    None,
    /// What it wrote after the histories parted has to be taken back.
    Rewind,
    /// Two histories bear the same number, which rewinding cannot tell apart.
    Copy,
}

/// Compare the data's past with the primary's charter. `promotions` says which epoch claimed which
/// timeline in this data.
///
/// Guarantee: data whose end is beyond the fork, or that was a primary under another epoch, never
/// follows as it is.
pub fn parting(past: Past, promotions: &BTreeMap<u64, u64>, charter: &Charter) -> Parting {
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
    let beyond = past.end.is_some_and(|end| end > charter.fork);
    if past.timeline > charter.timeline || past.was_primary || beyond {
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
            parting(past(2, Some(100), false), &known, &now),
            Parting::None
        );
        assert_eq!(
            parting(past(2, Some(101), false), &known, &now),
            Parting::Rewind
        );
        assert_eq!(parting(past(2, None, false), &known, &now), Parting::None);
        assert_eq!(
            parting(past(4, Some(10), false), &known, &now),
            Parting::Rewind
        );
    }

    #[test]
    fn a_former_primary_is_always_rewound() {
        let known = BTreeMap::from([(2, 1)]);
        assert_eq!(
            parting(past(2, None, true), &known, &charter(2, 3, 100)),
            Parting::Rewind
        );
    }

    #[test]
    fn the_same_number_with_another_epoch_is_copied() {
        let known = BTreeMap::from([(3, 2)]);
        assert_eq!(
            parting(past(3, Some(1), false), &known, &charter(3, 3, 100)),
            Parting::Copy
        );
        assert_eq!(
            parting(past(3, Some(1), false), &known, &charter(2, 3, 100)),
            Parting::None
        );
        assert_eq!(
            parting(past(3, None, true), &BTreeMap::new(), &charter(2, 3, 100)),
            Parting::Copy
        );
    }
}
