//! Who follows whom, and in which zones primaries are. Pure.

use std::collections::BTreeMap;

use super::picture::{Picture, Presence};
use super::plan::{Act, Failover, Plan, Spec};
use super::shape::Shape;
use super::topology::NodeId;

/// A shard that stays, and its members that stay.
struct Group {
    primary: NodeId,
    /// The primary, if it stays, and replicas, also those that do not answer.
    members: Vec<usize>,
    /// How many of them are replicas.
    replicas: usize,
    /// How many of those have everything.
    synced: usize,
}

/// Shards that stay, as they are.
fn groups(picture: &Picture<'_>, shape: &Shape) -> Vec<Group> {
    let stays = |m: &usize| picture.members.get(*m).is_some_and(|m| !m.leaving);
    let returns = |m: &usize| {
        let member = picture.members.get(*m);
        !member.is_some_and(|m| matches!(m.presence, Presence::Gone { data: false, .. }))
    };
    let group = |id: &NodeId| {
        let primary = picture.ids.get(id).copied().filter(|m| stays(m));
        let (here, away) = match picture.shard(id) {
            Some(shard) => (shard.replicas.as_slice(), shard.absent.as_slice()),
            None => (&[][..], &[][..]),
        };
        let here: Vec<usize> = here.iter().copied().filter(stays).collect();
        let away = away.iter().copied().filter(|m| stays(m) && returns(m));
        let synced = here.iter().filter(|m| picture.is_copy(**m)).count();
        let replicas: Vec<usize> = here.iter().copied().chain(away).collect();
        Group {
            primary: id.clone(),
            replicas: replicas.len(),
            synced,
            members: primary.into_iter().chain(replicas).collect(),
        }
    };
    shape.kept.iter().map(group).collect()
}

/// How many members are in a zone that another of them is in.
fn crowded(picture: &Picture<'_>, members: impl Iterator<Item = usize>) -> usize {
    let mut zones: BTreeMap<&str, usize> = BTreeMap::new();
    for member in members {
        if let Some(zone) = picture.members.get(member).and_then(|m| m.zone.as_deref()) {
            *zones.entry(zone).or_default() += 1;
        }
    }
    zones.values().map(|n| n - 1).sum()
}

impl Group {
    fn with(&self, picture: &Picture<'_>, member: usize) -> usize {
        crowded(picture, self.members.iter().copied().chain([member]))
    }

    fn without(&self, picture: &Picture<'_>, member: usize) -> usize {
        crowded(
            picture,
            self.members.iter().copied().filter(|m| *m != member),
        )
    }

    /// One of its replicas may go: enough are left that have everything.
    fn spares(&self, spec: Spec) -> bool {
        self.synced == self.replicas && self.replicas > spec.replicas
    }
}

/// Members without a shard become replicas, where they are missed most, in a zone where the shard is not yet. What a
/// shard has too many goes where one is missing.
pub fn assign(spec: Spec, picture: &Picture<'_>, shape: &Shape, plan: &mut Plan) {
    let mut groups = groups(picture, shape);
    let mut loose = loose(picture, shape);
    if shape.missing > 0 {
        let why = "it takes a member that has nothing yet, and every member has to answer first"
            .to_owned();
        plan.wait("make another shard", "every_member_first", why);
        loose.clear();
    }
    let follow = |plan: &mut Plan, member: usize, primary: &NodeId| {
        plan.harmless.push(Act::Replicate {
            at: picture.name(member).to_owned(),
            primary: primary.clone(),
        });
    };
    loop {
        let needy = groups
            .iter()
            .enumerate()
            .filter(|(_, g)| g.replicas < spec.replicas);
        let neediest = needy.min_by_key(|(at, group)| (group.replicas, *at));
        let Some(to) = neediest.map(|(at, _)| at) else {
            break;
        };
        let Some(group) = groups.get(to) else { break };
        let nearest = loose.iter().enumerate();
        let nearest = nearest.min_by_key(|(_, m)| (group.with(picture, **m), **m));
        if let Some(at) = nearest.map(|(at, _)| at) {
            let member = loose.remove(at);
            follow(plan, member, &group.primary);
            if let Some(group) = groups.get_mut(to) {
                group.members.push(member);
                group.replicas += 1;
            }
            continue;
        }
        let mut spare = Vec::new();
        for (from, other) in groups.iter().enumerate().filter(|(_, g)| g.spares(spec)) {
            for member in other.members.iter().copied() {
                let reads = picture.reads(member, &group.primary);
                let follows = picture
                    .view(member)
                    .is_some_and(|v| v.follows() == Some(&other.primary));
                if follows && reads {
                    let crowd = group.with(picture, member) + other.without(picture, member);
                    spare.push((crowd, member, from));
                }
            }
        }
        let Some((_, member, from)) = spare.into_iter().min() else {
            break;
        };
        follow(plan, member, &group.primary);
        if let Some(group) = groups.get_mut(to) {
            group.members.push(member);
            group.replicas += 1;
        }
        if let Some(group) = groups.get_mut(from) {
            group.members.retain(|m| *m != member);
            group.replicas -= 1;
            group.synced -= 1;
        }
    }
    for member in loose {
        let least = groups.iter_mut().min_by_key(|g| g.replicas);
        if let Some(group) = least {
            follow(plan, member, &group.primary);
            group.replicas += 1;
        }
    }
}

/// Members that stay and belong to no shard: primaries without slots that nobody follows, and who follows somebody
/// without slots.
fn loose(picture: &Picture<'_>, shape: &Shape) -> Vec<usize> {
    let used = |id: &NodeId| shape.kept.contains(id) || shape.drained.contains(id);
    let mut loose = Vec::new();
    for (member, view) in picture.views() {
        if picture.members.get(member).is_none_or(|m| m.leaving) || view.loading {
            continue;
        }
        let free = if let Some(primary) = view.follows() {
            !used(primary) && !picture.owned.contains_key(primary)
        } else {
            let stays = |m: &usize| picture.members.get(*m).is_some_and(|m| !m.leaving);
            let followed = picture
                .shard(&view.me)
                .is_some_and(|s| s.replicas.iter().any(stays));
            let half = !view.open().is_empty();
            view.is_primary() && !used(&view.me) && !followed && !half && view.keys_belong()
        };
        if free {
            loose.push(member);
        }
    }
    loose
}

/// Primaries in the same zone: one hands over to a replica where fewer are, if that makes it more even.
pub fn spread(_: Spec, picture: &Picture<'_>, shape: &Shape, plan: &mut Plan) {
    let zone = |m: usize| picture.members.get(m).and_then(|m| m.zone.as_deref());
    let mut primaries: BTreeMap<&str, usize> = BTreeMap::new();
    for id in &shape.kept {
        if let Some(zone) = picture.ids.get(id).and_then(|m| zone(*m)) {
            *primaries.entry(zone).or_default() += 1;
        }
    }
    let mut best: Option<(usize, usize)> = None;
    for shard in picture
        .shards
        .iter()
        .filter(|s| shape.kept.contains(&s.primary))
    {
        let Some(from) = picture.ids.get(&shard.primary).and_then(|m| zone(*m)) else {
            continue;
        };
        for member in shard.replicas.iter().copied() {
            let Some(to) = zone(member).filter(|_| is_heir(picture, member)) else {
                continue;
            };
            let here = primaries.get(from).copied().unwrap_or(0);
            let there = primaries.get(to).copied().unwrap_or(0);
            let gain = here.saturating_sub(there);
            if gain >= 2 && best.is_none_or(|(most, _)| gain > most) {
                best = Some((gain, member));
            }
        }
    }
    if let Some((_, member)) = best {
        if !is_found(picture, member) {
            let step = format!("make {} primary", picture.name(member));
            return wait_for_name(picture, member, &step, plan);
        }
        plan.disturb(Act::Failover {
            at: picture.name(member).to_owned(),
            how: Failover::Planned,
        });
    }
}

/// What is said where the clients of a shard would be sent to who is not found yet.
const NAMES_KNOWN: &str = "wait_until_names_are_known";

/// Whether clients that are sent to this one find it: they are told its name. Whoever hands over without need waits for that.
pub fn is_found(picture: &Picture<'_>, member: usize) -> bool {
    picture.members.get(member).is_some_and(|m| !m.moved)
}

/// That it is waited for, in words.
pub fn wait_for_name(picture: &Picture<'_>, member: usize, step: &str, plan: &mut Plan) {
    let why = format!(
        "{} has its address since a moment ago: clients may still be told the one before",
        picture.name(member)
    );
    plan.wait(step, NAMES_KNOWN, why);
}

/// A replica that may become primary by a planned hand-over.
pub fn is_heir(picture: &Picture<'_>, member: usize) -> bool {
    let stays = picture.members.get(member).is_some_and(|m| !m.leaving);
    stays && picture.is_copy(member) && picture.view(member).is_some_and(|v| !v.loading)
}

/// Members of a shard in the same zone: a replica goes to a shard where it stands better, which then has one too many
/// to give back. Only if another of that shard's replicas makes both better.
pub fn swap(_: Spec, picture: &Picture<'_>, shape: &Shape, plan: &mut Plan) {
    let groups = groups(picture, shape);
    let replicas = |group: &Group| -> Vec<usize> {
        let follows = |m: &usize| {
            picture
                .view(*m)
                .is_some_and(|v| v.follows() == Some(&group.primary))
        };
        group.members.iter().copied().filter(follows).collect()
    };
    for group in &groups {
        let now = crowded(picture, group.members.iter().copied());
        if now == 0 {
            continue;
        }
        for other in groups.iter().filter(|g| g.primary != group.primary) {
            let theirs = crowded(picture, other.members.iter().copied());
            for mine in replicas(group) {
                for given in replicas(other) {
                    let both =
                        picture.reads(mine, &other.primary) && picture.reads(given, &group.primary);
                    if !both {
                        continue;
                    }
                    let rest = |g: &Group, less: usize, more: usize| {
                        let members = g.members.iter().copied().filter(|m| *m != less);
                        crowded(picture, members.chain([more]))
                    };
                    if rest(group, mine, given) + rest(other, given, mine) < now + theirs {
                        plan.disturb(Act::Replicate {
                            at: picture.name(mine).to_owned(),
                            primary: other.primary.clone(),
                        });
                        return;
                    }
                }
            }
        }
    }
}
