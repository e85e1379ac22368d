//! Slots on their way from their owner to another primary. Pure: what is known says what comes next.
//!
//! 1. The target imports a slot, then the source lets it go: in between, and from then on, each key is answered where it is
//!    (`ASK` leads to the target).
//! 2. Keys are moved, some at a time. A key that both have, because a move was broken off, is the source's: until the slot
//!    is given over, the source is who answers clients for a key that it has.
//! 3. When the source has none left, and is still a primary that lets the slot go, so that it takes no new ones, the target
//!    owns the slot, under a new epoch; then the source is told, then the other primaries.
//!
//! Slots with the same source and target go together, a step at a time, as many as have few keys together: each of these
//! steps costs every member a write of its `nodes.conf`, for one slot as for many.

use std::time::Duration;

use super::topology::NodeId;
use crate::resp::{Words, words};

/// Most keys that are moved at once. The source answers nobody meanwhile.
pub const BATCH: u16 = 64;
/// Most slots that go together.
pub const TOGETHER: usize = 128;
/// They go together while they have no more keys than these. Keys of a slot that is half moved, at its target, are unseen if both ends fail over.
const KEYS: u64 = 1024;
/// The source shall be held up no longer than this at a time.
const HELD_UP: Duration = Duration::from_millis(250);

/// What is known of a slot's way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent facts, not a state"
)]
pub struct Way {
    /// The target says that it owns it.
    pub arrived: bool,
    /// The target says that it imports it from the source.
    pub importing: bool,
    /// The source says that it lets it go to the target.
    pub migrating: bool,
    /// The source said after that that it has no key of it.
    pub emptied: bool,
    /// The source says that it is no more its own.
    pub released: bool,
}

/// What comes next. In this order, but that who was taken is let go before anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Next {
    /// At the source: it is the target's.
    Release,
    /// At the target: import it.
    Import,
    /// At the source: let it go.
    Migrate,
    /// At the source: some of its keys go to the target, if there are any.
    Keys,
    /// At the target: it is its own.
    Take,
    /// At the other primaries: it is the target's. Then nothing is left to do.
    Tell,
}

/// What comes next of what is known.
///
/// Guarantee: the target takes a slot only after the source, which lets it go to this target, has said that it has no key of it.
pub fn next(way: Way) -> Next {
    match way {
        Way {
            arrived: true,
            released: true,
            ..
        } => Next::Tell,
        Way { arrived: true, .. } => Next::Release,
        Way {
            importing: false, ..
        } => Next::Import,
        Way {
            migrating: false, ..
        } => Next::Migrate,
        Way { emptied: false, .. } => Next::Keys,
        _ => Next::Take,
    }
}

impl Way {
    /// With this step done. [`Next::Keys`] is when the source has said that it has none.
    pub fn done(&mut self, next: Next) {
        match next {
            Next::Import => self.importing = true,
            Next::Migrate => self.migrating = true,
            Next::Keys => self.emptied = true,
            Next::Take => self.arrived = true,
            Next::Release => self.released = true,
            Next::Tell => {}
        }
    }
}

/// What comes next of several that go together, and of which of them, by their place.
///
/// Guarantee: while one of them may have keys at the source, none is taken. So the source's word that it has none is of all of them at
/// once, and nothing long comes between it and the taking.
pub fn together(ways: &[Way]) -> Option<(Next, Vec<usize>)> {
    let all: Vec<Next> = ways.iter().copied().map(next).collect();
    let least = all.iter().copied().min()?;
    let which = all.iter().enumerate().filter(|(_, next)| **next == least);
    Some((least, which.map(|(at, _)| at).collect()))
}

/// How many of these go together, by how many keys each has: the first in any case.
pub fn fit(counts: &[u64]) -> usize {
    let mut sum: u64 = 0;
    let fits = counts
        .iter()
        .take(TOGETHER)
        .enumerate()
        .take_while(|(at, count)| {
            sum = sum.saturating_add(**count);
            *at == 0 || sum <= KEYS
        });
    fits.count()
}

/// Which keys are moved at once, of slots with so many each: a slot, and how many of its keys. They are taken off `left`.
pub fn pack(left: &mut Vec<(u16, u64)>, most: u16) -> Vec<(u16, u16)> {
    let mut room = most.max(1);
    let mut pack = Vec::new();
    left.retain_mut(|(slot, count)| {
        let some = u16::try_from(*count).unwrap_or(u16::MAX).min(room);
        if some > 0 {
            pack.push((*slot, some));
        }
        room -= some;
        *count -= u64::from(some);
        *count > 0
    });
    pack
}

/// How many keys are moved at once after so many took so long.
pub fn pace(keys: u16, took: Duration) -> u16 {
    if took > HELD_UP {
        (keys / 2).max(1)
    } else if took < HELD_UP / 2 {
        keys.saturating_mul(2).min(BATCH)
    } else {
        keys
    }
}

/// What is sent for a step, of one slot; for [`Next::Keys`] the question how many it has.
pub fn command(next: Next, slot: u16, source: &NodeId, target: &NodeId) -> Words {
    let slot = slot.to_string();
    match next {
        Next::Import => words(["CLUSTER", "SETSLOT", &slot, "IMPORTING", source.as_str()]),
        Next::Migrate => words(["CLUSTER", "SETSLOT", &slot, "MIGRATING", target.as_str()]),
        Next::Keys => words(["CLUSTER", "COUNTKEYSINSLOT", &slot]),
        Next::Take | Next::Release | Next::Tell => {
            words(["CLUSTER", "SETSLOT", &slot, "NODE", target.as_str()])
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ways() -> impl Strategy<Value = Way> {
        let bit = any::<bool>;
        (bit(), bit(), bit(), bit(), bit()).prop_map(
            |(arrived, importing, migrating, emptied, released)| Way {
                arrived,
                importing,
                migrating,
                emptied,
                released,
            },
        )
    }

    #[test]
    fn full_slots_go_alone_and_empty_ones_by_the_hundred() {
        assert_eq!(fit(&[0; 1000]), TOGETHER);
        assert_eq!(fit(&[5000, 0]), 1);
        assert_eq!(fit(&[0, 5000]), 1);
        assert_eq!(fit(&[300; 9]), 3);
        assert_eq!(fit(&[]), 0);
    }

    #[test]
    fn large_keys_are_moved_by_fewer_and_small_ones_by_as_many_as_may_be() {
        let ms = Duration::from_millis;
        assert_eq!(pace(64, ms(5)), 64);
        assert_eq!(pace(64, ms(900)), 32);
        assert_eq!(pace(1, ms(900)), 1);
        assert_eq!(pace(8, ms(200)), 8);
        assert_eq!(pace(8, ms(5)), 16);
    }

    proptest! {
        #[test]
        fn from_wherever_they_were_left_all_arrive(mut all in prop::collection::vec(ways(), 1..6)) {
            for _ in 0..8 {
                let (step, which) = together(&all).unwrap();
                prop_assert!(!which.is_empty());
                if step == Next::Tell {
                    prop_assert!(which.len() == all.len());
                    prop_assert!(all.iter().all(|way| way.arrived && way.released));
                    return Ok(());
                }
                if step == Next::Take {
                    // Who was taken before has none at the source.
                    let sure = |way: &Way| way.arrived || (way.importing && way.migrating && way.emptied);
                    prop_assert!(all.iter().all(sure));
                }
                for at in which {
                    prop_assert_eq!(next(all[at]), step);
                    all[at].done(step);
                }
            }
            prop_assert!(false, "they do not arrive: {:?}", all);
        }

        #[test]
        fn every_key_is_in_one_pack(counts in prop::collection::vec(0u64..400, 0..40), most in 1u16..100) {
            let mut left: Vec<(u16, u64)> = (0..).zip(counts.iter().copied()).collect();
            let mut moved = vec![0u64; counts.len()];
            loop {
                let pack = pack(&mut left, most);
                let sum: u64 = pack.iter().map(|(_, n)| u64::from(*n)).sum();
                prop_assert!(sum <= u64::from(most));
                if pack.is_empty() {
                    break;
                }
                prop_assert!(left.is_empty() || sum == u64::from(most), "there was room for more");
                for (slot, n) in pack {
                    moved[usize::from(slot)] += u64::from(n);
                }
            }
            prop_assert_eq!(moved, counts);
        }
    }
}
