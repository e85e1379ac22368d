//! Slots without an owner that runs: who takes over, or why nobody does. And the first owners of all. Pure.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::picture::{Member, Picture, Presence, Shard};
use super::plan::{Act, Failover, Plan, Spec};
use super::rebalance::part;
use super::slots::SlotSet;
use super::topology::{Health, View};

/// The engine has so many seconds for an election of its own.
pub const ELECTS: u64 = 15;
/// A primary that yields is succeeded by who received from it until so many seconds ago.
const LATELY: u64 = 6;

/// Shards whose primary does not run. Says whether anything else has to wait for it.
///
/// The engine elects by itself where a majority of primaries is left. A replica is told to take over only when the
/// primary surely does not run, and only the one with most data of all that may have more: at once where the primary's
/// agent waits for that, else when the engine had the time to elect.
pub fn elect(picture: &Picture<'_>, plan: &mut Plan) -> bool {
    let mut stop = false;
    for shard in picture.shards.iter().filter(|s| !s.slots.is_empty()) {
        stop |= elect_in(picture, shard, plan);
    }
    stop
}

/// A primary that does not run.
struct Lost {
    /// For how long, in seconds.
    seconds: u64,
    /// It has its data still, and may come back with it.
    may_return: bool,
    /// Its agent says so, and gives others the time to take over before they vote by themselves.
    yields: bool,
}

/// Whether a shard is without its primary; else what is waited for, if anything.
fn lost(picture: &Picture<'_>, shard: &Shard, step: &str, plan: &mut Plan) -> Result<Lost, bool> {
    let called = picture.called(&shard.primary);
    let member = picture.ids.get(&shard.primary).copied();
    let state = member.and_then(|m| Some((m, picture.members.get(m)?)));
    let mut wait = |rule: &'static str, why: String| {
        plan.wait(step, rule, why);
        Err(true)
    };
    let Some((m, state)) = state else {
        return match picture.announced(&shard.primary) {
            // It announced itself as a member that is another node now, or that has lost its volume.
            Some(Some(member)) if !picture.may_run(member) => Ok(Lost {
                seconds: ELECTS,
                may_return: false,
                yields: false,
            }),
            _ => wait(
                "know_that_it_does_not_run",
                format!("nobody knows whose {called} is, nor whether it runs"),
            ),
        };
    };
    match &state.presence {
        Presence::Seen(_) if picture.view(m).is_none() => wait(
            "never_join_another_cluster",
            format!("{called} is not let in, and others believe that it owns them"),
        ),
        Presence::Seen(view) if view.loading => {
            wait("read_first", format!("{called} reads its dataset"))
        }
        Presence::Seen(view) if view.is_primary() => Err(false),
        Presence::Seen(_) => wait(
            "agree_first",
            format!("{called} is a replica, and others do not know that yet"),
        ),
        Presence::Unreachable(why) => wait(
            "know_that_it_does_not_run",
            format!(
                "{called} does not answer ({why}), and may run: the others elect if a majority of primaries is left"
            ),
        ),
        Presence::Gone { seconds, data } => Ok(Lost {
            seconds: *seconds,
            may_return: *data,
            yields: false,
        }),
        Presence::Ended(_) => Ok(Lost {
            seconds: 0,
            may_return: true,
            yields: true,
        }),
    }
}

fn elect_in(picture: &Picture<'_>, shard: &Shard, plan: &mut Plan) -> bool {
    let called = picture.called(&shard.primary);
    let step = format!("have a primary for slots {}", shard.slots);
    let Lost {
        seconds,
        may_return,
        yields,
    } = match lost(picture, shard, &step, plan) {
        Ok(lost) => lost,
        Err(waits) => return waits,
    };
    // What started anew has no offset, and may have its data all the same.
    let has = |v: &&View| !v.loading && !v.foreign && (v.offset > 0 || v.keys > 0);
    // Who does not read what it was sent may have given up all for it.
    let reads = |m: &usize| !may_return || picture.reads(*m, &shard.primary);
    let has_data = |m: &usize| picture.view(*m).filter(has).filter(|_| reads(m));
    let copies = shard
        .replicas
        .iter()
        .filter_map(|m| Some((*m, has_data(m)?)));
    // Of equal ones the first.
    let best = copies.max_by_key(|(m, view)| (view.offset, view.keys, Reverse(*m)));
    let absent = |is: fn(&Member) -> bool| {
        let all = shard.absent.iter().filter(|m| reads(m));
        let mut all = all.filter_map(|m| picture.members.get(*m));
        all.find(|m| is(m)).map(|m| m.name.as_str())
    };
    let unknown = absent(|m| matches!(m.presence, Presence::Unreachable(_) | Presence::Ended(_)));
    let returns = absent(|m| matches!(m.presence, Presence::Gone { data: true, .. }));
    let Some((best, view)) = best else {
        let may_have = unknown.or(returns);
        let why = no_copy(picture, shard, may_return, may_have);
        plan.wait(&step, "keep_the_last_copy", why);
        return true;
    };
    if let Some(name) = unknown {
        let why = format!(
            "{name} does not answer, and may have more than {}",
            picture.name(best)
        );
        plan.wait(&step, "most_data_first", why);
        return true;
    }
    let noticed = view
        .nodes
        .get(&shard.primary)
        .is_none_or(|n| n.health != Health::Fine);
    let lately = view.apart.is_some_and(|seconds| seconds <= LATELY);
    let elects = |plan: &mut Plan| {
        let why = format!("{called} does not run; the others elect by themselves first");
        plan.wait(&step, "the_engine_elects", why);
        true
    };
    if !yields && (seconds < ELECTS || !noticed) {
        return elects(plan);
    }
    // What yields comes back with what it has: that is not given up for less, nor is a vote that goes on disturbed.
    let tells = |m: &usize| has_data(m).is_some() || !reads(m);
    let all_tell = shard.absent.is_empty() && shard.replicas.iter().all(tells);
    if yields && (noticed || !lately || !all_tell) {
        return elects(plan);
    }
    // It claims what it believes to be its primary's: of a slot that just moved it may not have heard.
    let believed = view.nodes.get(&shard.primary).map(|n| &n.slots);
    if yields && believed != Some(&shard.slots) {
        let name = picture.name(best);
        let why = format!("{name} has not heard yet which slots {called} had");
        plan.wait(&step, "agree_first", why);
        return true;
    }
    let primaries = picture.shards.iter().filter(|s| !s.slots.is_empty());
    let alive = |s: &&Shard| {
        picture
            .seen(&s.primary)
            .is_some_and(|(_, v)| v.is_primary())
    };
    let (all, alive) = (primaries.clone().count(), primaries.filter(alive).count());
    let how = if alive * 2 > all {
        if yields {
            Failover::Yielded
        } else {
            Failover::Force
        }
    } else if yields {
        // Nobody can vote, and it comes back soon.
        return elects(plan);
    } else {
        Failover::Takeover
    };
    plan.disturb(Act::Failover {
        at: picture.name(best).to_owned(),
        how,
    });
    true
}

/// Why nobody takes over where no member has the shard's data; `may_have` did not answer, and is one of its replicas.
fn no_copy(
    picture: &Picture<'_>,
    shard: &Shard,
    may_return: bool,
    may_have: Option<&str>,
) -> String {
    let called = picture.called(&shard.primary);
    let reads = |m: &&usize| picture.view(**m).is_some_and(|v| v.loading);
    let loading = shard.replicas.iter().find(reads);
    if may_return {
        format!("{called} does not run, and nobody else has its data: it has to come back")
    } else if let Some(name) = loading.map(|m| picture.name(*m)).or(may_have) {
        format!("{name} may have the only copy that is left: it has to come back")
    } else {
        format!(
            "every copy of slots {} is gone. Nothing is made in their place: restore a backup into a new resource",
            shard.slots
        )
    }
}

/// Why a member whose volume is gone for good is not replaced by an empty one yet; none when nobody needs what it had.
///
/// It takes positive evidence: the cluster was formed, every slot has an owner that answers as a primary with its dataset read, all
/// who answer agree on that, and none of these owners is the member itself, under whatever identity it had.
pub fn needed(spec: Spec, picture: &Picture<'_>, member: usize) -> Option<String> {
    let name = picture.name(member);
    if !spec.formed {
        return Some("the cluster was not formed yet".to_owned());
    }
    let free = unowned(picture);
    if !free.is_empty() {
        return Some(format!("slots {free} have no owner"));
    }
    for (id, slots) in &picture.owned {
        let called = picture.called(id);
        let owner = picture.seen(id).filter(|(at, _)| *at != member);
        let serves = owner.is_some_and(|(_, view)| view.is_primary() && !view.loading);
        if !serves {
            return Some(format!(
                "{called} owns slots {slots}, and no other member has taken over what {name} may have of them"
            ));
        }
    }
    picture.differ.clone()
}

/// Slots that nobody owns.
pub fn unowned(picture: &Picture<'_>) -> SlotSet {
    let mut free = SlotSet::all();
    for slots in picture.owned.values() {
        free = free.without(slots);
    }
    free
}

/// Slots get their first owners. Only when every member was asked and none has a key: a slot without an owner is a
/// new cluster's, or a loss.
pub fn form(spec: Spec, picture: &Picture<'_>, plan: &mut Plan) {
    let step = "give slots their first owners";
    if spec.formed {
        let why = format!(
            "slots {} had an owner once, and nobody knows of one: something was lost, and nothing is made in its place",
            unowned(picture)
        );
        plan.wait(step, "keep_the_last_copy", why);
        return;
    }
    let staying: Vec<(usize, &Member)> = picture
        .members
        .iter()
        .enumerate()
        .filter(|(_, m)| !m.leaving)
        .collect();
    let want = spec.shards * (1 + spec.replicas);
    if staying.len() < want {
        let why = format!(
            "{} members are asked for, {} are there",
            want,
            staying.len()
        );
        plan.wait(step, "every_member_first", why);
        return;
    }
    for (member, state) in picture.members.iter().enumerate() {
        let why = match picture.view(member) {
            None => format!("{} does not answer, or is not let in", state.name),
            Some(view) if view.keys > 0 => format!(
                "slots {} have no owner, and {} has keys: something was lost, and nothing is made in its place",
                unowned(picture),
                state.name
            ),
            Some(_) => continue,
        };
        plan.wait(step, "only_without_data", why);
        return;
    }
    if !picture.is_acquainted() {
        return;
    }
    let free = unowned(picture);
    let primaries = first(spec.shards, &staying);
    for (number, member) in primaries.iter().enumerate() {
        let mut mine = SlotSet::default();
        let part = part(number, primaries.len());
        for slot in (part.first..=part.last).filter(|slot| free.contains(*slot)) {
            mine.insert(slot);
        }
        if !mine.is_empty() {
            plan.harmless.push(Act::Claim {
                at: picture.name(*member).to_owned(),
                slots: mine.ranges(),
            });
        }
    }
}

/// The first primaries: as evenly over zones as can be.
fn first(shards: usize, staying: &[(usize, &Member)]) -> Vec<usize> {
    let mut left: Vec<&(usize, &Member)> = staying.iter().collect();
    let mut zones: BTreeMap<Option<&str>, usize> = BTreeMap::new();
    let mut chosen = Vec::new();
    while chosen.len() < shards {
        let next = left.iter().enumerate().min_by_key(|(_, (member, state))| {
            let taken = zones.get(&state.zone.as_deref()).copied();
            (taken.unwrap_or(0), *member)
        });
        let Some(at) = next.map(|(at, _)| at) else {
            break;
        };
        let (member, state) = left.remove(at);
        *zones.entry(state.zone.as_deref()).or_default() += 1;
        chosen.push(*member);
    }
    chosen
}
