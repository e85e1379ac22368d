//! Which shards stay, which go, and which come. Pure.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::picture::Picture;
use super::plan::Spec;
use super::topology::NodeId;

/// What becomes of shards.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    /// Primaries that shall have slots, among them those that have none yet.
    pub kept: Vec<NodeId>,
    /// Primaries that shall have none any more.
    pub drained: Vec<NodeId>,
    /// Shards that are asked for, have no primary, and cannot get one now.
    pub missing: usize,
}

impl Shape {
    /// By what was asked for.
    ///
    /// It is the same in each pass of a procedure: a shard that has begun to go has fewer slots, one that has begun to
    /// come has replicas, or slots that are on their way.
    pub fn of(spec: Spec, picture: &Picture<'_>) -> Self {
        let leaves = |id: &NodeId| {
            let member = picture.ids.get(id).and_then(|m| picture.members.get(*m));
            member.is_none_or(|m| m.leaving)
        };
        let mut with_slots: Vec<(usize, usize, NodeId)> = picture
            .shards
            .iter()
            .filter(|shard| !shard.slots.is_empty())
            .map(|shard| {
                let all = shard.replicas.iter().chain(&shard.absent);
                let gone = all.filter(|m| picture.members.get(**m).is_none_or(|m| m.leaving));
                let leaving = gone.count() + usize::from(leaves(&shard.primary));
                (leaving, shard.slots.len(), shard.primary.clone())
            })
            .collect();
        // Those that go come first: most members that leave, then fewest slots.
        with_slots.sort_by_key(|(leaving, slots, id)| (Reverse(*leaving), *slots, id.clone()));
        let mut drained: Vec<NodeId> = Vec::new();
        if spec.replicas == 0 {
            // Nobody else has what they have.
            let go = with_slots.iter().filter(|(_, _, id)| leaves(id));
            drained.extend(go.map(|(_, _, id)| id.clone()));
        }
        let mut kept: Vec<NodeId> = with_slots
            .into_iter()
            .map(|(_, _, id)| id)
            .filter(|id| !drained.contains(id))
            .collect();
        let over = kept.len().saturating_sub(spec.shards);
        drained.extend(kept.drain(..over));
        let want = spec.shards.saturating_sub(kept.len());
        let fresh = fresh(picture, &kept, want);
        let missing = want - fresh.len();
        kept.extend(fresh);
        Self {
            kept,
            drained,
            missing,
        }
    }
}

/// Who becomes the primary of a shard that comes: none before every member that stays has answered.
fn fresh(picture: &Picture<'_>, kept: &[NodeId], want: usize) -> Vec<NodeId> {
    let staying = picture
        .members
        .iter()
        .enumerate()
        .filter(|(_, m)| !m.leaving);
    let mut candidates = Vec::new();
    for (member, state) in staying {
        let Some(view) = picture.view(member) else {
            return Vec::new();
        };
        let owns = picture.owned.contains_key(&view.me);
        if view.is_primary() && !owns && view.keys_belong() {
            let followed = picture.shard(&view.me).map_or(0, |s| s.replicas.len());
            let importing = view.myself().map_or(0, |me| me.importing.len());
            let rank = (Reverse(importing), Reverse(followed));
            candidates.push((rank, state.zone.as_deref(), &state.name, view.me.clone()));
        }
    }
    let mut zones: BTreeMap<Option<&str>, usize> = BTreeMap::new();
    for id in kept {
        let zone = picture
            .ids
            .get(id)
            .and_then(|m| picture.members.get(*m)?.zone.as_deref());
        *zones.entry(zone).or_default() += 1;
    }
    let mut fresh = Vec::new();
    while fresh.len() < want {
        let next = candidates
            .iter()
            .enumerate()
            .min_by_key(|(_, (rank, zone, name, _))| {
                (*rank, zones.get(zone).copied().unwrap_or(0), *name)
            })
            .map(|(at, _)| at);
        let Some(at) = next else { break };
        let (_, zone, _, id) = candidates.swap_remove(at);
        *zones.entry(zone).or_default() += 1;
        fresh.push(id);
    }
    fresh
}
