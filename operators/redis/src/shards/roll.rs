//! What disturbs, one thing at a time: slots that move, restarts, members that go. Pure.

use std::collections::BTreeSet;

use super::picture::{Member, Picture, Presence, Shard};
use super::placement::{is_found, is_heir, wait_for_name};
use super::plan::{Act, Failover, MOVES, Move, Plan, Spec};
use super::rebalance::shifts;
use super::repair::needed;
use super::shape::Shape;
use super::topology::{NodeId, View};

/// Slots that were left half-way come first. Says whether anything else has to wait for them.
pub fn resume(picture: &Picture<'_>, shape: &Shape, plan: &mut Plan) -> bool {
    let open: BTreeSet<u16> = picture.views().flat_map(|(_, view)| view.open()).collect();
    let mut moves = Vec::new();
    let mut held = 0;
    for slot in open.iter().copied() {
        match resume_one(picture, shape, slot, plan) {
            Some(step) if !is_read(picture, &step.from, &step.to) => {
                let restarts = |m: &Member| m.name == step.to && m.outdated;
                if picture.members.iter().any(restarts) {
                    // It waits for that, and that not for it.
                    held += 1;
                } else {
                    let why = format!(
                        "{} is older than {}, and has to be made anew first",
                        step.to, step.from
                    );
                    plan.wait(&format!("move slot {slot}"), "same_version_first", why);
                }
            }
            step => moves.extend(step),
        }
    }
    moves.sort_by(|a, b| (&a.from, &a.to, a.slot).cmp(&(&b.from, &b.to, b.slot)));
    moves.truncate(MOVES);
    if !moves.is_empty() {
        plan.disturb(Act::Moves(moves));
    }
    open.len() > held
}

/// Whether what the first gives away is read by the second: not where that is older.
fn is_read(picture: &Picture<'_>, from: &str, to: &str) -> bool {
    let place = |name: &str| picture.members.iter().position(|m| m.name == name);
    let both = place(from).zip(place(to));
    both.is_none_or(|(from, to)| !picture.is_older(to, from))
}

fn resume_one(picture: &Picture<'_>, shape: &Shape, slot: u16, plan: &mut Plan) -> Option<Move> {
    let step = format!("move slot {slot}");
    let owner = picture.owned.iter().find(|(_, slots)| slots.contains(slot));
    let owner = owner.map(|(id, _)| id);
    let Some((from, source)) = owner.and_then(|id| picture.seen(id)) else {
        let why = "its owner does not answer".to_owned();
        plan.wait(&step, "see_its_owner", why);
        return None;
    };
    let mut holders = Vec::new();
    let mut importers = Vec::new();
    let primaries = picture
        .views()
        .filter(|(_, v)| v.is_primary() && v.me != source.me);
    for (member, view) in primaries {
        let Some(keys) = view.counted.get(&slot) else {
            let why = format!("{} was not asked for its keys", picture.name(member));
            plan.wait(&step, "know_where_keys_are", why);
            return None;
        };
        if *keys > 0 {
            holders.push((member, view));
        }
        if view
            .myself()
            .is_some_and(|me| me.importing.contains_key(&slot))
        {
            importers.push((member, view));
        }
    }
    let target = match holders.as_slice() {
        [one] => Some(*one),
        [] => {
            let told = source.myself().and_then(|me| me.migrating.get(&slot));
            let told = told.and_then(|id| picture.seen(id));
            let told = told.filter(|(_, v)| v.is_primary() && v.me != source.me);
            let target = importers.first().copied().or(told);
            target.filter(|(_, view)| shape.kept.contains(&view.me))
        }
        [(one, _), (other, _), ..] => {
            let why = format!(
                "{} and {} have keys of it, and {} owns it: move what belongs there by hand",
                picture.name(*one),
                picture.name(*other),
                picture.name(from)
            );
            plan.wait(&step, "know_where_keys_are", why);
            return None;
        }
    };
    // Whoever else says something of it is wrong by now, and has no key of it.
    for (member, view) in picture.views() {
        let part = target.is_some_and(|(target, _)| member == target || member == from);
        if !part && view.open().contains(&slot) {
            plan.harmless.push(Act::Stable {
                at: picture.name(member).to_owned(),
                slot,
            });
        }
    }
    let (to, _) = target?;
    Some(Move {
        slot,
        from: picture.name(from).to_owned(),
        to: picture.name(to).to_owned(),
    })
}

/// Members that leave and have nothing that anybody needs, whatever else is not in order.
pub fn remove_bare(picture: &Picture<'_>, shape: &Shape, plan: &mut Plan) {
    for (member, state) in picture
        .members
        .iter()
        .enumerate()
        .filter(|(_, m)| m.leaving)
    {
        let bare = if let Some(view) = picture.view(member) {
            match view.follows() {
                Some(primary) => {
                    !shape.kept.contains(primary) && !picture.owned.contains_key(primary)
                }
                None => is_bare(picture, view),
            }
        } else {
            let mut ids = picture.ids.iter().filter(|(_, m)| **m == member);
            let owns = ids
                .next()
                .is_some_and(|(id, _)| picture.owned.contains_key(id));
            matches!(state.presence, Presence::Gone { .. }) && !owns
        };
        if bare {
            plan.disturb(Act::Remove {
                member: state.name.clone(),
            });
        }
    }
}

/// A primary without slots, keys, or anybody who follows it.
fn is_bare(picture: &Picture<'_>, view: &View) -> bool {
    let followed = picture
        .shard(&view.me)
        .is_some_and(|s| !s.replicas.is_empty());
    let owns = picture.owned.contains_key(&view.me);
    view.is_primary()
        && !owns
        && !followed
        && view.keys == 0
        && view.open().is_empty()
        && !view.loading
}

/// What is said of a shard that stays and has too few replicas.
pub const ALL_REPLICAS: &str = "all_replicas_first";

/// Whether every shard has all its replicas, and they have everything. Nothing else is disturbed before.
pub fn is_whole(spec: Spec, picture: &Picture<'_>, shape: &Shape, plan: &mut Plan) -> bool {
    let step = "disturb anybody";
    for (member, state) in picture.members.iter().enumerate() {
        let gone = matches!(state.presence, Presence::Gone { .. });
        if picture.view(member).is_none() && !(state.leaving && gone) {
            let why = match &state.presence {
                Presence::Seen(_) => format!("{} is not let in", state.name),
                Presence::Unreachable(why) => format!("{} does not answer: {why}", state.name),
                Presence::Ended(_) | Presence::Gone { .. } => {
                    format!("{} does not run", state.name)
                }
            };
            plan.wait(step, "all_members_first", why);
        }
    }
    for (member, view) in picture.views() {
        // Who does not read what its primary has never will.
        let waits = view.follows().is_some() && !view.synced;
        if (view.loading || waits) && picture.superseded_by(member).is_none() {
            let why = format!("{} has not everything yet", picture.name(member));
            plan.wait(step, "replicas_in_sync_first", why);
        }
    }
    for id in &shape.kept {
        // Those that leave count until others can take their place.
        let replicas = picture.shard(id).map_or(0, |shard| shard.replicas.len());
        if replicas < spec.replicas {
            let why = format!(
                "the shard of {} has {replicas} of {} replicas",
                picture.called(id),
                spec.replicas
            );
            plan.wait(step, ALL_REPLICAS, why);
        }
    }
    plan.waits.is_empty()
}

/// Replicas that may become primary.
fn heirs(picture: &Picture<'_>, shard: &Shard) -> Vec<usize> {
    let heirs = shard.replicas.iter().copied();
    heirs.filter(|m| is_heir(picture, *m)).collect()
}

/// The heir to hand over to: one that need not be restarted itself, then one that clients find, then the one with most data.
fn heir(picture: &Picture<'_>, shard: &Shard) -> Option<usize> {
    let outdated = |m: usize| picture.members.get(m).is_some_and(|m| m.outdated);
    let offset = |m: usize| picture.view(m).map_or(0, |v| v.offset);
    let heirs = heirs(picture, shard).into_iter();
    let found = |m: usize| is_found(picture, m);
    heirs.max_by_key(|m| (!outdated(*m), found(*m), offset(*m), std::cmp::Reverse(*m)))
}

/// One whose pod is told to go answers until it ends, and hands over where it is a primary. Nobody else is disturbed before it is back: the
/// primary of its shard may have no other replica.
pub fn let_go(spec: Spec, picture: &Picture<'_>, shape: &Shape, plan: &mut Plan) {
    let Some(going) = picture.members.iter().find(|m| m.going) else {
        return;
    };
    hand_over_leaving(spec, picture, shape, plan);
    if !plan.is_busy() && plan.waits.is_empty() {
        let why = format!("{} is told to go, and is not back yet", going.name);
        plan.wait("disturb anybody", "one_at_a_time", why);
    }
}

/// Who has become a replica of a newer version is made anew, whatever else is not in order: it is no copy, and its shard
/// has one less until then. Not where what it has may be needed.
pub fn renew(spec: Spec, picture: &Picture<'_>, plan: &mut Plan) {
    let superseded = |m: &usize| picture.superseded_by(*m).is_some();
    let outdated = picture.views().map(|(member, _)| member);
    let mut outdated = outdated.filter(|m| picture.members.get(*m).is_some_and(|m| m.outdated));
    let spared = outdated.find(|m| superseded(m) && needed(spec, picture, *m).is_none());
    if let Some(member) = spared {
        plan.disturb(Act::Restart {
            member: picture.name(member).to_owned(),
        });
    }
}

/// Members are restarted shard by shard, replicas first; a primary hands over before.
pub fn restart(spec: Spec, picture: &Picture<'_>, _: &Shape, plan: &mut Plan) {
    let outdated = |m: &usize| picture.members.get(*m).is_some_and(|m| m.outdated);
    let turn = |m: &usize| outdated(m) && picture.superseded_by(*m).is_none();
    let mut in_shards = BTreeSet::new();
    for shard in &picture.shards {
        let primary = picture.ids.get(&shard.primary).copied();
        in_shards.extend(shard.replicas.iter().copied().chain(primary));
        if let Some(replica) = shard.replicas.iter().find(|m| turn(m)) {
            plan.disturb(Act::Restart {
                member: picture.name(*replica).to_owned(),
            });
            return;
        }
        let Some(primary) = primary.filter(outdated) else {
            continue;
        };
        let name = picture.name(primary).to_owned();
        // Nobody takes over from one without slots.
        let heir = heir(picture, shard).filter(|_| !shard.slots.is_empty());
        match heir {
            Some(heir) if !is_found(picture, heir) => {
                wait_for_name(picture, heir, &format!("restart {name}"), plan);
            }
            Some(heir) => plan.disturb(Act::Failover {
                at: picture.name(heir).to_owned(),
                how: Failover::Planned,
            }),
            None if spec.persistent || is_empty(picture, shard) => {
                plan.disturb(Act::Restart { member: name });
            }
            None => {
                let why = format!(
                    "{name} has the only copy of its shard, in memory: ask for replicas, or for persistence"
                );
                plan.wait(&format!("restart {name}"), "keep_the_last_copy", why);
            }
        }
        return;
    }
    let rest = (0..picture.members.len()).find(|m| outdated(m) && !in_shards.contains(m));
    if let Some(member) = rest {
        plan.disturb(Act::Restart {
            member: picture.name(member).to_owned(),
        });
    }
}

/// Whether its primary has nothing that could be lost.
fn is_empty(picture: &Picture<'_>, shard: &Shard) -> bool {
    let seen = picture.seen(&shard.primary);
    shard.slots.is_empty() && seen.is_some_and(|(_, view)| view.keys == 0)
}

/// Slots move until each shard that stays has its share.
pub fn rebalance(_: Spec, picture: &Picture<'_>, shape: &Shape, plan: &mut Plan) {
    if shape.missing > 0 {
        return;
    }
    let shifts = shifts(&picture.owned, &shape.kept);
    let name = |id: &NodeId| Some(picture.name(picture.seen(id)?.0).to_owned());
    let moves: Vec<Move> = shifts
        .into_iter()
        .take(MOVES)
        .filter_map(|shift| {
            Some(Move {
                slot: shift.slot,
                from: name(&shift.from)?,
                to: name(&shift.to)?,
            })
        })
        .filter(|step| is_read(picture, &step.from, &step.to))
        .collect();
    if !moves.is_empty() {
        plan.disturb(Act::Moves(moves));
    }
}

/// A primary that leaves hands over to a replica that stays.
pub fn hand_over_leaving(_: Spec, picture: &Picture<'_>, shape: &Shape, plan: &mut Plan) {
    for shard in picture
        .shards
        .iter()
        .filter(|s| shape.kept.contains(&s.primary))
    {
        let primary = picture
            .ids
            .get(&shard.primary)
            .and_then(|m| picture.members.get(*m));
        let Some(primary) = primary.filter(|m| m.leaving) else {
            continue;
        };
        if let Some(heir) = heir(picture, shard) {
            plan.disturb(Act::Failover {
                at: picture.name(heir).to_owned(),
                how: Failover::Planned,
            });
        } else {
            let why = format!("nobody that stays has what {} has", primary.name);
            plan.wait(
                &format!("remove {}", primary.name),
                "keep_the_last_copy",
                why,
            );
        }
        return;
    }
}

/// A replica that leaves goes when its shard is whole without it.
pub fn remove(spec: Spec, picture: &Picture<'_>, _: &Shape, plan: &mut Plan) {
    for (member, state) in picture
        .members
        .iter()
        .enumerate()
        .filter(|(_, m)| m.leaving)
    {
        let Some(primary) = picture.view(member).and_then(View::follows) else {
            continue;
        };
        let left = picture
            .shard(primary)
            .map_or(0, |shard| heirs(picture, shard).len());
        if left >= spec.replicas {
            plan.disturb(Act::Remove {
                member: state.name.clone(),
            });
            return;
        }
    }
}
