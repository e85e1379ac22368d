//! One slot on its way from its owner to another primary. Pure: what is known says what comes next.
//!
//! 1. The target imports it, then the source lets it go: in between, and from then on, each key is answered where it is
//!    (`ASK` leads to the target).
//! 2. Keys are moved, some at a time. A key that both have, because a move was broken off, is the source's: until the slot
//!    is given over, the source is who answers clients for a key that it has.
//! 3. When the source has none left, and is still a primary that lets the slot go, so that it takes no new ones, the target
//!    owns the slot, under a new epoch; then the source is told, then the other primaries.

use super::topology::NodeId;
use crate::resp::{Words, words};

/// How many keys are moved at once. The source answers nobody meanwhile.
pub const BATCH: u16 = 64;

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

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// At the target: import it.
    Import,
    /// At the source: let it go.
    Migrate,
    /// At the source: some of its keys go to the target, if there are any.
    Keys,
    /// At the target: it is its own.
    Take,
    /// At the source: it is the target's.
    Release,
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

/// What is sent for a step other than [`Next::Keys`].
pub fn command(next: Next, slot: u16, source: &NodeId, target: &NodeId) -> Words {
    let slot = slot.to_string();
    match next {
        Next::Import => words(["CLUSTER", "SETSLOT", &slot, "IMPORTING", source.as_str()]),
        Next::Migrate => words(["CLUSTER", "SETSLOT", &slot, "MIGRATING", target.as_str()]),
        Next::Keys => words(["CLUSTER", "GETKEYSINSLOT", &slot, &BATCH.to_string()]),
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

    proptest! {
        #[test]
        fn from_wherever_it_was_left_a_slot_arrives(mut way in ways()) {
            for _ in 0..6 {
                match next(way) {
                    Next::Import => way.importing = true,
                    Next::Migrate => way.migrating = true,
                    Next::Keys => way.emptied = true,
                    Next::Take => {
                        prop_assert!(way.importing && way.migrating && way.emptied);
                        way.arrived = true;
                    }
                    Next::Release => way.released = true,
                    Next::Tell => {
                        prop_assert!(way.arrived && way.released);
                        return Ok(());
                    }
                }
            }
            prop_assert!(false, "it does not arrive");
        }
    }
}
