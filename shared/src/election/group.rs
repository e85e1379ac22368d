//! Who must flush a write before it is acknowledged, and who must be asked before anybody else may
//! write: two sides of one rule.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::member::Member;

/// A primary with the standbys it waits for.
///
/// A write is acknowledged when the primary and `acks` of the `voters` have flushed it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Group {
    /// Who writes.
    pub primary: Member,
    /// Standbys that count; the primary is not among them.
    pub voters: BTreeSet<Member>,
    /// W: how many of them a commit waits for. 0: none, the promise is suspended, or `async`.
    pub acks: usize,
}

impl Group {
    /// A primary that waits for nobody.
    pub fn alone(primary: Member) -> Self {
        Self {
            primary,
            voters: BTreeSet::new(),
            acks: 0,
        }
    }

    /// R = N − W + 1: so many voters leave fewer than W others.
    pub fn needed(&self) -> usize {
        (self.voters.len() + 1).saturating_sub(self.acks)
    }

    /// W when nothing else is asked for: with the primary, more than half of all.
    pub fn usual_acks(voters: usize) -> usize {
        voters.div_ceil(2)
    }

    /// How many voters are in a set.
    pub fn count(&self, set: &BTreeSet<Member>) -> usize {
        self.voters.intersection(set).count()
    }

    /// Whether these members' promises decide for this group: R voters, or the primary itself and W
    /// voters.
    ///
    /// Guarantees, for W ≥ 1 and W ≤ (N + 1) / 2: whoever acknowledged a write is in every such set;
    /// once such a set has promised, the primary finds no W voters that still serve it, or has
    /// itself stopped; two such sets share a member, so that one epoch is not acquired twice.
    pub fn is_decided_by(&self, set: &BTreeSet<Member>) -> bool {
        let voters = self.count(set);
        voters >= self.needed() || (set.contains(&self.primary) && voters >= self.acks)
    }

    /// Whether nobody but the primary can decide any more: the data of so many voters is gone that
    /// neither R of them exist, nor W beside the primary.
    ///
    /// Guarantee: the primary itself has all that was acknowledged in this group, and whoever could
    /// decide without it does not exist. That a voter's data is gone is for the caller to know.
    pub fn is_orphaned(&self, gone: &BTreeSet<Member>) -> bool {
        let left = self.voters.difference(gone).count();
        left < self.acks && left < self.needed()
    }

    /// As [`Self::is_decided_by`], with voters whose data is `gone`. Of an orphaned group the primary
    /// decides with all voters that are left.
    pub fn is_decided_without(&self, set: &BTreeSet<Member>, gone: &BTreeSet<Member>) -> bool {
        let mut left = self.voters.difference(gone);
        self.is_decided_by(set)
            || (self.is_orphaned(gone)
                && set.contains(&self.primary)
                && left.all(|v| set.contains(v)))
    }

    /// Whether enough voters are in a set for a write to be acknowledged.
    pub fn is_acknowledged_by(&self, set: &BTreeSet<Member>) -> bool {
        self.count(set) >= self.acks
    }

    /// Everybody in it.
    pub fn everybody(&self) -> impl Iterator<Item = &Member> {
        std::iter::once(&self.primary).chain(&self.voters)
    }

    /// Whether somebody is in it.
    pub fn has(&self, member: &Member) -> bool {
        self.primary == *member || self.voters.contains(member)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every subset of the first `n` members, the primary being the last.
    fn subsets(all: &[Member]) -> Vec<BTreeSet<Member>> {
        (0..1_usize << all.len())
            .map(|bits| {
                let has = |i: usize| bits >> i & 1 == 1;
                (0..all.len())
                    .filter(|i| has(*i))
                    .map(|i| all[i].clone())
                    .collect()
            })
            .collect()
    }

    #[test]
    fn deciding_sets_meet_each_other_and_every_acknowledgement() {
        for n in 1..=5_usize {
            for acks in 1..=n.div_ceil(2) {
                let all: Vec<Member> = (0..=n)
                    .map(|i| Member::new(format!("db-{i}"), "g"))
                    .collect();
                let group = Group {
                    primary: all[n].clone(),
                    voters: all[..n].iter().cloned().collect(),
                    acks,
                };
                let sets = subsets(&all);
                let deciding: Vec<_> = sets.iter().filter(|s| group.is_decided_by(s)).collect();
                assert!(!deciding.is_empty());
                for one in &deciding {
                    for other in &deciding {
                        assert!(!one.is_disjoint(other), "N={n} W={acks}: {one:?} {other:?}");
                    }
                    for set in &sets {
                        if set.contains(&group.primary) && group.is_acknowledged_by(set) {
                            assert!(!one.is_disjoint(set), "N={n} W={acks}: {one:?} {set:?}");
                        }
                        // The primary cannot go on with those that did not promise.
                        if !one.contains(&group.primary) && one.is_disjoint(set) {
                            assert!(!group.is_acknowledged_by(set), "N={n} W={acks}: {set:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_primary_decides_without_voters_only_when_no_others_can() {
        for n in 1..=4_usize {
            for acks in 1..=n.div_ceil(2) {
                let all: Vec<Member> = (0..=n)
                    .map(|i| Member::new(format!("db-{i}"), "g"))
                    .collect();
                let group = Group {
                    primary: all[n].clone(),
                    voters: all[..n].iter().cloned().collect(),
                    acks,
                };
                let sets = subsets(&all);
                for gone in subsets(&all[..n]) {
                    let exists = |set: &&BTreeSet<Member>| set.is_disjoint(&gone);
                    let by_itself = group.is_decided_without(&[all[n].clone()].into(), &gone);
                    assert_eq!(by_itself, gone.len() == n, "N={n} W={acks}: {gone:?}");
                    let mut deciding = sets.iter().filter(exists);
                    if group.is_orphaned(&gone) {
                        assert!(!deciding.any(|s| group.is_decided_by(s)), "{gone:?}");
                    }
                    // Whoever decides, two of them meet, and one has what was acknowledged.
                    let decide: Vec<_> = sets
                        .iter()
                        .filter(exists)
                        .filter(|s| group.is_decided_without(s, &gone))
                        .collect();
                    for (one, other) in decide
                        .iter()
                        .flat_map(|o| decide.iter().map(move |p| (o, p)))
                    {
                        assert!(!one.is_disjoint(other), "N={n} W={acks}: {one:?} {other:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn suspended_only_the_primary_decides_by_itself() {
        let (a, b) = (Member::new("a", "1"), Member::new("b", "1"));
        let group = Group {
            primary: a.clone(),
            voters: [b.clone()].into(),
            acks: 0,
        };
        assert!(group.is_decided_by(&[a].into()));
        assert!(!group.is_decided_by(&[b].into()));
    }
}
