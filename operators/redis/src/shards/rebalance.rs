//! Which slots go where. Pure.

use std::collections::BTreeMap;

use super::slots::SlotSet;
use super::topology::NodeId;
use crate::backup::shards::{SLOTS, Slots};

/// The `number`-th of so many equal parts of all slots.
pub fn part(number: usize, of: usize) -> Slots {
    let of = of.max(1);
    let at = |n: usize| n * usize::from(SLOTS) / of;
    let slot = |n: usize| u16::try_from(n).unwrap_or(SLOTS - 1);
    Slots {
        first: slot(at(number)),
        last: slot(at(number + 1) - 1),
    }
}

/// A slot that goes from one primary to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shift {
    /// The slot.
    pub slot: u16,
    /// Its owner.
    pub from: NodeId,
    /// Its next owner.
    pub to: NodeId,
}

/// What has to move so that those in `kept` have equally many, or one more, and nobody else has any. No more moves than that takes.
///
/// It is the same again after some of them, so it may be broken off anywhere.
pub fn shifts(owned: &BTreeMap<NodeId, SlotSet>, kept: &[NodeId]) -> Vec<Shift> {
    let has = |id: &NodeId| owned.get(id).map_or(0, SlotSet::len);
    let total: usize = owned.values().map(SlotSet::len).sum();
    let Some(each) = total.checked_div(kept.len()) else {
        return Vec::new();
    };
    // Who has most keeps one more.
    let mut order: Vec<&NodeId> = kept.iter().collect();
    order.sort_by_key(|id| (std::cmp::Reverse(has(id)), *id));
    let more = total % kept.len();
    let goal: BTreeMap<&NodeId, usize> = order
        .iter()
        .enumerate()
        .map(|(place, id)| (*id, each + usize::from(place < more)))
        .collect();
    let mut spare: Vec<(u16, &NodeId)> = Vec::new();
    for (id, slots) in owned {
        let over = slots
            .len()
            .saturating_sub(goal.get(id).copied().unwrap_or(0));
        spare.extend(slots.iter().rev().take(over).map(|slot| (slot, id)));
    }
    let mut spare = spare.into_iter();
    let mut shifts = Vec::new();
    for id in order {
        let under = goal.get(id).copied().unwrap_or(0).saturating_sub(has(id));
        shifts.extend(spare.by_ref().take(under).map(|(slot, from)| Shift {
            slot,
            from: from.clone(),
            to: id.clone(),
        }));
    }
    shifts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(n: usize) -> NodeId {
        format!("{n:040x}").parse().unwrap()
    }

    #[test]
    fn equal_parts_are_all_there_is() {
        for of in 1..20 {
            let mut all = SlotSet::default();
            for number in 0..of {
                let part = part(number, of);
                assert!(!all.contains(part.first) && !all.contains(part.last));
                all.insert_range(part);
            }
            assert_eq!(all, SlotSet::all());
        }
    }

    #[test]
    fn nobody_that_is_kept_moves_nothing() {
        let owned = BTreeMap::from([(id(1), SlotSet::all())]);
        assert_eq!(shifts(&owned, &[]), []);
    }

    proptest! {
        #[test]
        fn slots_end_evenly_with_no_move_too_many(
            dealt in prop::collection::vec(0usize..6, 64),
            kept in prop::collection::btree_set(0usize..8, 1..7),
            broken_off in 0usize..20_000,
        ) {
            let mut owned: BTreeMap<NodeId, SlotSet> = BTreeMap::new();
            for slot in 0..SLOTS {
                // Ranges and scattered slots alike.
                let whose = dealt[usize::from(slot / 256)] + usize::from(slot % 7 == 0);
                owned.entry(id(whose)).or_default().insert(slot);
            }
            let kept: Vec<NodeId> = kept.into_iter().map(id).collect();
            let all = shifts(&owned, &kept);
            let share = usize::from(SLOTS) / kept.len();
            let more = usize::from(SLOTS) % kept.len();
            let least: usize = {
                let mut over: Vec<usize> = owned.iter().map(|(who, slots)| {
                    if kept.contains(who) { slots.len().saturating_sub(share) } else { slots.len() }
                }).collect();
                // Each of the larger shares spares one move, where there is one over.
                let spared = owned.iter().filter(|(who, slots)| kept.contains(who) && slots.len() > share).count().min(more);
                over.push(0);
                over.iter().sum::<usize>() - spared
            };
            prop_assert_eq!(all.len(), least);
            for shift in all.iter().take(broken_off) {
                prop_assert!(owned.get_mut(&shift.from).is_some_and(|s| s.contains(shift.slot)));
                owned.get_mut(&shift.from).unwrap().remove(shift.slot);
                owned.entry(shift.to.clone()).or_default().insert(shift.slot);
            }
            let rest = shifts(&owned, &kept);
            prop_assert_eq!(rest.len(), all.len().saturating_sub(broken_off));
            for shift in rest {
                owned.get_mut(&shift.from).unwrap().remove(shift.slot);
                owned.entry(shift.to.clone()).or_default().insert(shift.slot);
            }
            let mut union = SlotSet::default();
            let mut count = 0;
            for (who, slots) in &owned {
                let few = if kept.contains(who) { share..=share + usize::from(more > 0) } else { 0..=0 };
                prop_assert!(few.contains(&slots.len()), "{} of {:?}", slots.len(), few);
                count += slots.len();
                union.extend(slots);
            }
            prop_assert_eq!((union, count), (SlotSet::all(), usize::from(SLOTS)));
            prop_assert_eq!(shifts(&owned, &kept), []);
        }
    }
}
