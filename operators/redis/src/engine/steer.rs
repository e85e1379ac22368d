//! A cluster in a pass: members are looked at, what is next is done, and what was found is said. I/O at the end; the rest is
//! values. What is next is decided in [`crate::shards`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mainstay_crds::common::Survives;
use mainstay_crds::redis::{ClusterStatus, RedisStatus, ShardStatus};
use mainstay_shared::access::Password;
use mainstay_shared::instances::Instance;
use mainstay_shared::names::instance_host;
use mainstay_shared::operator::steer::{Rider, Steered, Steering};
use mainstay_shared::outcome::Wait;
use rustls::pki_types::ServerName;
use tokio::time::timeout;

use super::RedisEngine;
use crate::settings::{BUS_PORT, CLUSTER_PASSWORD, Flavour, PORT, Persistence};
use crate::shards::link::{Access, LinkError, Links, Place};
use crate::shards::picture::{Member, Picture, Presence};
use crate::shards::plan::{Act, Failover, Plan, Spec, plan};
use crate::shards::rebalance::shifts;
use crate::shards::repair::{needed, unowned};
use crate::shards::shape::Shape;
use crate::shards::topology::{Address, View};
use crate::validate::Validated;
use crate::version::{Server, number};

/// What was found of a primary that yields holds for so long.
const PROMPT: Duration = Duration::from_secs(3);
/// Longest time that a pass does things for; what is half done then is found by the next.
const BOUND: Duration = Duration::from_secs(15);
/// Until the next look: when something was done, when something waits, and when nothing is left to do.
const LOOKS: [Duration; 3] = [
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(10),
];
/// What was done is known to all members by then, unless something is wrong: what waits for that is looked at as soon as
/// when something was done.
const GOES_ROUND: Duration = Duration::from_secs(3);

/// Who asks for a name may be told the address of before for as long: CoreDNS keeps an answer for 30 s as it is usually set up, and
/// the slice with the new one is written a moment after the pod has it.
const KEPT: Duration = Duration::from_secs(35);

/// What is kept between passes.
#[derive(Debug, Default)]
pub struct Helm {
    links: Option<Links>,
    /// Since when members do not run.
    gone: BTreeMap<String, Instant>,
    /// Where members are, since when as far as this process has seen.
    since: BTreeMap<String, (Address, Instant)>,
    found: Option<Found>,
    /// When something was done last.
    done: Option<Instant>,
}

/// What was found last.
#[derive(Clone, Debug, Default, PartialEq)]
struct Found {
    cluster: ClusterStatus,
    survives: Survives,
}

/// Look, plan, do.
pub async fn steer(helm: &mut Helm, asked: Steering<'_, RedisEngine>) -> Steered {
    let v = asked.validated;
    let password = asked.internal.and_then(|all| all.get(CLUSTER_PASSWORD));
    let password = password.and_then(|p| Password::from_bytes(&p.0));
    let (Some(shards), Some(password)) = (v.shards, password) else {
        return waiting(
            "make the set's own passwords",
            "the Secret with them is not seen yet".to_owned(),
        );
    };
    let access = Access {
        tls: Arc::clone(&asked.tls),
        password,
    };
    let links = links(&mut helm.links, access);
    let places: Vec<Place> = asked
        .riders
        .iter()
        .filter_map(|rider| place(v, rider))
        .collect();
    let looked = Instant::now();
    let seen = links.observe(&places).await;
    let mut members = members(&mut helm.gone, &asked.riders, seen, shards.replicas > 0);
    tell_moved(&mut helm.since, &mut members, Instant::now());
    let formed = helm.found.as_ref().is_some_and(|f| f.cluster.formed);
    let before = asked.before.cluster.as_ref();
    let spec = Spec {
        shards: shards.count,
        replicas: shards.replicas,
        persistent: v.persistence != Persistence::None
            && !asked.riders.iter().any(Rider::loses_data),
        formed: formed || before.is_some_and(|c| c.formed),
        restores: v.recovery.is_some(),
    };
    let ahead = ahead(&members, &v.version);
    let superseded = match ahead {
        None => supersede(&mut members, v.flavour),
        Some(_) => BTreeMap::new(),
    };
    let mut planned = plan(spec, &members);
    let mut spared = spared(spec, &members, &asked.riders, &superseded, &mut planned);
    if let Some(wait) = ahead {
        // Its agent may not have said so yet: until it has, nobody is made anew.
        planned
            .disruptive
            .take_if(|act| matches!(act, Act::Restart { .. }));
        planned.waits.push(wait);
        spared.clear();
    }
    let found = found(spec, &members, &asked.riders);
    let mut steered = carry_out(
        links,
        (planned, looked),
        asked.may_disturb,
        &found.cluster,
        &mut helm.done,
    )
    .await;
    steered.spared = spared;
    steered.superseded = superseded;
    helm.found = Some(found);
    steered
}

/// What is waited for where a primary runs a newer version than what is asked for, if one does.
fn ahead(members: &[Member], wanted: &str) -> Option<Wait> {
    let newer = |m: &&Member| match &m.presence {
        Presence::Seen(view) => {
            let serves = view.myself().is_some_and(|me| !me.slots.is_empty());
            serves && view.version.is_some_and(|runs| runs > number(wanted))
        }
        Presence::Unreachable(_) | Presence::Ended(_) | Presence::Gone { .. } => false,
    };
    let name = &members.iter().find(newer)?.name;
    Some(Wait {
        step: format!("go to version {wanted}"),
        predicate: "never_go_back_after_a_hand_over",
        reason: format!("{name} is primary, and has written data that {wanted} does not read"),
        after: Some(LOOKS[1]),
    })
}

/// Who is a replica of a newer version and does not read what that one writes, and why, in words. It is to be replaced,
/// also where that is not its turn otherwise.
fn supersede(members: &mut [Member], flavour: Flavour) -> BTreeMap<String, String> {
    let picture = Picture::of(members);
    let server = |m: &Member| {
        let (major, minor) = m.version?;
        let version = format!("{major}.{minor}");
        Some(Server { flavour, version })
    };
    let why = |(member, state): (usize, &Member)| {
        let primary = picture.members.get(picture.superseded_by(member)?)?;
        let why = server(state)?.cannot_follow(&server(primary)?, &primary.name)?;
        Some((state.name.clone(), why))
    };
    let superseded: BTreeMap<String, String> = members.iter().enumerate().filter_map(why).collect();
    for member in members.iter_mut() {
        member.outdated |= superseded.contains_key(&member.name);
    }
    superseded
}

/// Whose volume is gone for good, or has nothing that can be used, and had nothing that nobody else has; what the others
/// wait for.
fn spared(
    spec: Spec,
    members: &[Member],
    riders: &[Rider<'_>],
    superseded: &BTreeMap<String, String>,
    plan: &mut Plan,
) -> BTreeSet<String> {
    let is_useless = |r: &Rider<'_>| r.unusable || superseded.contains_key(&r.instance.name);
    let asked = riders.iter().enumerate();
    let mut asked = asked
        .filter(|(_, r)| r.has_lost() || is_useless(r))
        .peekable();
    let mut spared = BTreeSet::new();
    if asked.peek().is_none() {
        return spared;
    }
    let picture = Picture::of(members);
    for (member, rider) in asked {
        let (name, useless) = (&rider.instance.name, is_useless(rider));
        match needed(spec, &picture, member) {
            None => {
                spared.insert(name.clone());
            }
            // As long as it runs, nothing of it is replaced.
            Some(_) if useless && !rider.is_gone() => {}
            Some(reason) => plan.waits.push(Wait {
                step: format!("replace the volume of {name}"),
                predicate: "keep_the_last_copy",
                reason,
                after: Some(LOOKS[1]),
            }),
        }
    }
    spared
}

fn waiting(step: &str, reason: String) -> Steered {
    Steered {
        waits: vec![Wait {
            step: step.to_owned(),
            predicate: "wait_for_the_cache_to_catch_up",
            reason,
            after: Some(LOOKS[1]),
        }],
        ..Steered::default()
    }
}

/// The connections that are there, if they were made as who asks now.
fn links(kept: &mut Option<Links>, access: Access) -> &mut Links {
    if !kept.as_ref().is_some_and(|links| links.are_of(&access)) {
        *kept = None;
    }
    kept.get_or_insert_with(|| Links::new(access))
}

fn address(rider: &Rider<'_>) -> Option<Address> {
    let pod = rider.instance.pod.as_ref()?;
    Some(Address {
        host: pod.ip.clone()?,
        port: PORT,
        bus: BUS_PORT,
    })
}

/// Where a member is asked; none of one whose pod does not run.
fn place(v: &Validated, rider: &Rider<'_>) -> Option<Place> {
    let instance = rider.instance;
    instance.pod.as_ref().filter(|_| !rider.is_gone())?;
    let set = &v.common.set;
    let host = instance_host(&instance.name, &set.name, &set.namespace);
    Some(Place {
        name: instance.name.clone(),
        address: address(rider)?,
        host: ServerName::try_from(host).ok()?,
    })
}

/// Members as they were found.
fn members(
    gone: &mut BTreeMap<String, Instant>,
    riders: &[Rider<'_>],
    mut seen: BTreeMap<String, Result<View, LinkError>>,
    may_hand_over: bool,
) -> Vec<Member> {
    let mut members = Vec::new();
    for rider in riders {
        let instance = rider.instance;
        let name = &instance.name;
        let pod = instance.pod.as_ref();
        let presence = if rider.is_gone() {
            let since = gone.entry(name.clone()).or_insert_with(Instant::now);
            Presence::Gone {
                seconds: since.elapsed().as_secs(),
                data: rider.keeps_data(),
            }
        } else {
            gone.remove(name);
            match seen.remove(name) {
                Some(Ok(view)) => Presence::Seen(Box::new(view)),
                // One is not enough: what the agent says may be of a moment.
                Some(Err(error)) if instance.yields() && error.nobody_listens() => {
                    Presence::Ended(error.to_string())
                }
                Some(Err(error)) => Presence::Unreachable(error.to_string()),
                None => Presence::Unreachable(instance.unwell().unwrap_or_default()),
            }
        };
        members.push(Member {
            name: name.clone(),
            // Where zones are not known, nodes are what can be lost.
            zone: pod.and_then(|p| p.zone.clone().or_else(|| p.node.clone())),
            address: address(rider).unwrap_or(Address {
                host: String::new(),
                port: PORT,
                bus: BUS_PORT,
            }),
            // See `tell_moved`.
            moved: false,
            // One whose pod is told to go hands over as one that leaves: its agent waits for that.
            leaving: rider.leaving || (may_hand_over && pod.is_some_and(|p| p.deleting)),
            going: !rider.leaving && pod.is_some_and(|p| p.deleting),
            // What it has goes with its process: another one takes over before.
            outdated: rider.outdated || (rider.has_lost() && !rider.is_gone()),
            version: version(instance, &presence),
            presence,
        });
    }
    gone.retain(|name, _| riders.iter().any(|r| r.instance.name == *name));
    members
}

/// What it runs, by its own word, else its agent's, or what was noted last on its volume.
fn version(instance: &Instance, presence: &Presence) -> Option<(u32, u32)> {
    if let Presence::Seen(view) = presence
        && view.version.is_some()
    {
        return view.version;
    }
    let runs = instance.agent().and_then(|s| s.engine_version.as_deref());
    let noted = || instance.claim.as_ref()?.ran.as_deref();
    runs.or_else(noted).map(number)
}

/// Notes where members are, and who is there since a short time only.
fn tell_moved(
    since: &mut BTreeMap<String, (Address, Instant)>,
    members: &mut [Member],
    now: Instant,
) {
    for member in members.iter_mut() {
        let known = since.entry(member.name.clone());
        let known = known.or_insert_with(|| (member.address.clone(), now));
        if known.0 != member.address {
            *known = (member.address.clone(), now);
        }
        member.moved = now.duration_since(known.1) < KEPT;
    }
    since.retain(|name, _| members.iter().any(|m| m.name == *name));
}

/// What the members are as one.
fn found(spec: Spec, members: &[Member], riders: &[Rider<'_>]) -> Found {
    let picture = Picture::of(members);
    let shape = Shape::of(spec, &picture);
    let number = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let served = |id| picture.seen(id).is_some_and(|(_, v)| v.is_primary());
    let owned = picture.owned.iter().filter(|(id, _)| served(id));
    let slots: usize = owned.map(|(_, slots)| slots.len()).sum();
    let formed = spec.formed || unowned(&picture).is_empty();
    let to_move = if formed {
        shifts(&picture.owned, &shape.kept).len()
    } else {
        0
    };
    let names = |all: &[usize]| -> Vec<String> {
        all.iter().map(|m| picture.name(*m).to_owned()).collect()
    };
    let shards = picture.shards.iter().map(|shard| ShardStatus {
        primary: picture.called(&shard.primary),
        replicas: names(&shard.replicas),
        slots: number(shard.slots.len()),
    });
    Found {
        cluster: ClusterStatus {
            formed,
            slots: number(slots),
            slots_to_move: number(to_move),
            shards: shards.collect(),
        },
        survives: survives(&picture, riders),
    }
}

/// What can be lost: each shard has a member elsewhere that has everything, and most primaries are left to vote.
fn survives(picture: &Picture<'_>, riders: &[Rider<'_>]) -> Survives {
    let node = |m: usize| riders.get(m)?.instance.pod.as_ref()?.node.as_deref();
    let zone = |m: usize| riders.get(m)?.instance.pod.as_ref()?.zone.as_deref();
    let node = lose_any(picture, "node", &node);
    let zone = lose_any(picture, "zone", &zone);
    Survives {
        node: node.is_ok(),
        zone: zone.is_ok(),
        reason: node.err().or(zone.err()),
    }
}

/// Whether each domain can be lost, or why one cannot.
fn lose_any<'a>(
    picture: &Picture<'_>,
    what: &str,
    domain: &dyn Fn(usize) -> Option<&'a str>,
) -> Result<(), String> {
    let shards: Vec<(usize, Vec<usize>)> = picture
        .shards
        .iter()
        .filter(|s| !s.slots.is_empty())
        .filter_map(|s| {
            let copies = s.replicas.iter().filter(|m| picture.is_copy(**m));
            let replicas = copies.copied().collect();
            Some((*picture.ids.get(&s.primary)?, replicas))
        })
        .collect();
    if shards.is_empty() {
        return Err("the cluster is not formed yet".to_owned());
    }
    let members = 0..picture.members.len();
    let domains: BTreeSet<&str> = members.filter_map(domain).collect();
    if domains.len() < 2 {
        return Err(format!("all members are in one {what}, as far as is known"));
    }
    for lost in domains {
        let mut primaries = 0;
        for (primary, replicas) in &shards {
            if domain(*primary) != Some(lost) {
                continue;
            }
            primaries += 1;
            let stays = |m: &usize| domain(*m).is_some_and(|d| d != lost);
            if !replicas.iter().any(stays) {
                let name = picture.name(*primary);
                return Err(format!(
                    "the shard of {name} has no replica with everything outside {what} {lost}"
                ));
            }
        }
        if primaries * 2 >= shards.len() && primaries > 0 {
            return Err(format!(
                "{what} {lost} has {primaries} of {} primaries: the others are no majority that elects",
                shards.len()
            ));
        }
    }
    Ok(())
}

/// Do it, within a bound.
async fn carry_out(
    links: &mut Links,
    (planned, looked): (Plan, Instant),
    may_disturb: bool,
    found: &ClusterStatus,
    done: &mut Option<Instant>,
) -> Steered {
    let mut steered = Steered {
        calm: planned.is_settled(),
        waits: planned.waits,
        pending: pending(found),
        ..Steered::default()
    };
    let disturbs = planned.disruptive.filter(|_| may_disturb);
    let (mut moves, mut failed) = (false, false);
    let work = async {
        for act in planned.harmless.into_iter().chain(disturbs) {
            match &act {
                Act::Restart { member } | Act::Remove { member } => {
                    steered.granted = Some(member.clone());
                    continue;
                }
                Act::Moves(_) => moves = true,
                // Whoever yields does not for long: it is looked at anew.
                Act::Failover {
                    how: Failover::Yielded,
                    ..
                } if looked.elapsed() > PROMPT => {
                    failed = true;
                    return;
                }
                other => tracing::info!(act = ?other, "members are told"),
            }
            steered.works = true;
            if let Err(error) = links.carry_out(&act).await {
                tracing::warn!(%error, ?act, "a member did not do what it was told");
                steered.waits.push(Wait {
                    step: "do what is next for the cluster".to_owned(),
                    predicate: "wait_until_members_do_it",
                    reason: error.to_string(),
                    after: Some(LOOKS[1]),
                });
                failed = true;
                return;
            }
        }
    };
    // Given up anywhere, it goes on in the next pass.
    let whole = timeout(BOUND, work).await.is_ok();
    if steered.works {
        *done = Some(Instant::now());
    }
    let just = done.is_some_and(|at| at.elapsed() < GOES_ROUND);
    let waits = !steered.waits.is_empty() || steered.granted.is_some();
    steered.again = Some(match (steered.works, waits) {
        (true, _) if failed => LOOKS[1],
        (true, _) if whole && moves => Duration::ZERO,
        (true, _) => LOOKS[0],
        (false, true) if just => LOOKS[0],
        (false, true) => LOOKS[1],
        (false, false) => LOOKS[2],
    });
    steered
}

fn pending(found: &ClusterStatus) -> Vec<String> {
    if !found.formed {
        return vec!["form the cluster".to_owned()];
    }
    let moves = (found.slots_to_move > 0).then(|| format!("move {} slots", found.slots_to_move));
    moves.into_iter().collect()
}

/// Put what was found in the status.
pub fn found_out(status: &mut RedisStatus, before: &RedisStatus, helm: &Helm) {
    match &helm.found {
        Some(found) => {
            status.cluster = Some(found.cluster.clone());
            status.survives = Some(found.survives.clone());
        }
        // Nobody was asked by this process yet.
        None if before.cluster.is_some() => {
            status.cluster.clone_from(&before.cluster);
            status.survives.clone_from(&before.survives);
        }
        None => {}
    }
}

#[cfg(test)]
#[path = "steer_tests.rs"]
mod tests;
