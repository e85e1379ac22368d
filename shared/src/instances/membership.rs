//! Which instances belong to a set.

use std::collections::BTreeSet;

use super::observed::Instance;

/// Ordinals of a set, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Those that stay or come.
    pub members: Vec<u32>,
    /// Those that exist and must go, the first to go first.
    pub leaving: Vec<u32>,
}

impl Membership {
    /// Membership of a set of `count` instances, given those that exist and the primary's seat.
    ///
    /// Guarantees: the seat is always a member, existing instances stay before new ones come, the
    /// highest ordinals leave first, and new ones take the lowest free ordinals.
    pub fn of(count: u32, seat: u32, existing: &[Instance]) -> Self {
        Self::beside(count, seat, existing, &BTreeSet::new())
    }

    /// The same, where new ones do not take the ordinals in `taken`.
    pub fn beside(count: u32, seat: u32, existing: &[Instance], taken: &BTreeSet<u32>) -> Self {
        let count = usize::try_from(count.max(1)).unwrap_or(1);
        let mut known: BTreeSet<u32> = existing
            .iter()
            .filter(|i| i.pod.is_some() || i.claim.is_some())
            .map(|i| i.ordinal)
            .collect();
        known.remove(&seat);
        let mut members = BTreeSet::from([seat]);
        members.extend(known.iter().copied().take(count - 1));
        members.extend(
            (1..)
                .filter(|o| *o != seat && !known.contains(o) && !taken.contains(o))
                .take(count - members.len()),
        );
        let leaving = known
            .iter()
            .rev()
            .copied()
            .filter(|o| !members.contains(o))
            .collect();
        Self {
            members: members.into_iter().collect(),
            leaving,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instances::observed::{ClaimSeen, Known};

    fn existing(ordinals: &[u32]) -> Vec<Instance> {
        ordinals
            .iter()
            .map(|o| Instance {
                name: format!("db-{o}"),
                ordinal: *o,
                pod: None,
                claim: Some(ClaimSeen::default()),
                agent: Known::Unreachable("no pod".into()),
            })
            .collect()
    }

    #[test]
    fn new_instances_take_the_lowest_free_ordinals() {
        assert_eq!(Membership::of(3, 1, &[]).members, [1, 2, 3]);
        assert_eq!(Membership::of(3, 4, &existing(&[4, 2])).members, [1, 2, 4]);
    }

    #[test]
    fn what_is_set_aside_keeps_its_numbers() {
        let taken = BTreeSet::from([1, 2, 3]);
        let members = |seat, existing| Membership::beside(3, seat, existing, &taken).members;
        assert_eq!(members(4, &[][..]), [4, 5, 6]);
        assert_eq!(members(4, &existing(&[4, 6])), [4, 5, 6]);
    }

    #[test]
    fn the_highest_that_is_not_the_primary_leaves_first() {
        let shrunk = Membership::of(1, 3, &existing(&[1, 2, 3, 4]));
        assert_eq!(shrunk.members, [3]);
        assert_eq!(shrunk.leaving, [4, 2, 1]);
    }
}
