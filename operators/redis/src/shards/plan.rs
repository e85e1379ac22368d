//! What is done next. Pure: what was asked for and what was found → a plan.
//!
//! A pass does harmless things at once, and at most one that disturbs. What holds the next step back is said.

use std::collections::BTreeSet;
use std::time::Duration;

use mainstay_shared::outcome::Wait;

use super::founders::founders;
use super::marks;
use super::picture::{Member, Picture};
use super::placement;
use super::repair;
use super::roll;
use super::shape::Shape;
use super::topology::{Address, Health, NodeId};
use crate::backup::shards::Slots;

/// How many slots are moved in one step, if there is time for so many.
pub const MOVES: usize = 1024;
/// Rule: a set that is made from a backup begins with all shards of it.
const RESTORED_FIRST: &str = "every_shard_first";
/// Until another look.
const LOOK: Duration = Duration::from_secs(1);

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Shards.
    pub shards: usize,
    /// Replicas of each.
    pub replicas: usize,
    /// A member that restarts has its data again.
    pub persistent: bool,
    /// Every slot has had an owner once: what has none any more is lost, and not new.
    pub formed: bool,
    /// Its first members are restored from a backup, each with a shard of it.
    pub restores: bool,
}

/// How a replica becomes primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failover {
    /// The primary holds writers back until the replica has everything.
    Planned,
    /// The primary yields, and is not started for some seconds yet; a majority of the others votes.
    Yielded,
    /// The primary is gone; a majority of the others votes.
    Force,
    /// There is no majority either.
    Takeover,
}

/// A slot that goes from one member to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The slot.
    pub slot: u16,
    /// Its owner.
    pub from: String,
    /// Its next owner.
    pub to: String,
}

/// Something to do. Members are called by their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// `at` makes the acquaintance of who is at this address.
    Meet {
        /// Who is told.
        at: String,
        /// Whom it meets.
        address: Address,
    },
    /// `at` forgets a node that is no more.
    Forget {
        /// Who is told.
        at: String,
        /// Who is no more.
        node: NodeId,
    },
    /// `at` owns slots that nobody owns.
    Claim {
        /// Who is told.
        at: String,
        /// The slots.
        slots: Vec<Slots>,
    },
    /// `at` notes in its dataset whose it is.
    Mark {
        /// Who is told.
        at: String,
        /// The set's identifier.
        set: String,
    },
    /// `at` follows a primary.
    Replicate {
        /// Who is told.
        at: String,
        /// Whom it follows.
        primary: NodeId,
    },
    /// `at` neither imports nor lets go this slot any more.
    Stable {
        /// Who is told.
        at: String,
        /// The slot.
        slot: u16,
    },
    /// `at` takes over from its primary.
    Failover {
        /// Who is told.
        at: String,
        /// How.
        how: Failover,
    },
    /// Slots go from one member to another, in this order, those of the same two together.
    Moves(Vec<Move>),
    /// A member may be restarted now.
    Restart {
        /// Which.
        member: String,
    },
    /// A member may be ended for good now.
    Remove {
        /// Which.
        member: String,
    },
}

/// What is done in a pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What harms nobody, in this order.
    pub harmless: Vec<Act>,
    /// What disturbs, after that.
    pub disruptive: Option<Act>,
    /// What the rest waits for.
    pub waits: Vec<Wait>,
}

impl Plan {
    /// Nothing is left to do.
    pub fn is_settled(&self) -> bool {
        self.harmless.is_empty() && self.disruptive.is_none() && self.waits.is_empty()
    }

    /// Something waits.
    pub(super) fn wait(&mut self, step: &str, predicate: &'static str, reason: String) {
        self.waits.push(Wait {
            step: step.to_owned(),
            predicate,
            reason,
            after: Some(LOOK),
        });
    }

    /// Something disturbs; only the first does.
    pub(super) fn disturb(&mut self, act: Act) {
        self.disruptive.get_or_insert(act);
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.harmless.is_empty() || self.disruptive.is_some()
    }
}

/// What is done next.
///
/// Guarantees, of values: at most one act disturbs; nobody is met who has a past elsewhere, but shards of one backup that have
/// all slots between them, in a set that is made of it and was not formed yet; a node that owns slots is neither forgotten
/// nor removed; a replica takes over by force only from a primary that surely does not run.
pub fn plan(spec: Spec, members: &[Member]) -> Plan {
    let mut plan = Plan::default();
    let begins = spec.restores && !spec.formed;
    let restored = if begins {
        founders(members)
    } else {
        Ok(BTreeSet::new())
    };
    let restored = match restored {
        Ok(restored) => restored,
        Err(why) => {
            // Half a dataset is not made acquainted with anybody.
            plan.wait("put the restored shards together", RESTORED_FIRST, why);
            return plan;
        }
    };
    let picture = Picture::with(members, &restored);
    decide(spec, &picture, begins, &mut plan);
    let whole = picture.differ.is_none() && repair::unowned(&picture).is_empty();
    if whole && !plan.is_busy() {
        marks::mark(&picture, &mut plan);
    }
    plan
}

/// What is next for members that are known to be ours.
fn decide(spec: Spec, picture: &Picture<'_>, begins: bool, plan: &mut Plan) {
    for why in picture.strangers.values() {
        plan.wait("let a member in", "never_join_another_cluster", why.clone());
    }
    if picture.views().next().is_none() {
        let why = "no member of the cluster answers".to_owned();
        plan.wait("look at the cluster", "see_somebody", why);
        return;
    }
    introduce(picture, plan);
    forget(picture, plan);
    if repair::elect(picture, plan) {
        return;
    }
    if picture.is_new() || !repair::unowned(picture).is_empty() {
        if begins {
            let why = "not all know all of them yet".to_owned();
            plan.wait("put the restored shards together", RESTORED_FIRST, why);
            return;
        }
        repair::form(spec, picture, plan);
        return;
    }
    if let Some(why) = picture.differ.clone() {
        plan.wait("go on", "agree_first", why);
        return;
    }
    if begins {
        // From then on what they have is told by the engines alone.
        let why = "it is noted first that all are".to_owned();
        plan.wait("put the restored shards together", RESTORED_FIRST, why);
        return;
    }
    if plan.is_busy() {
        return;
    }
    let shape = Shape::of(spec, picture);
    placement::assign(spec, picture, &shape, plan);
    if plan.is_busy() {
        return;
    }
    if roll::resume(picture, &shape, plan) {
        return;
    }
    roll::renew(spec, picture, plan);
    roll::remove_bare(picture, &shape, plan);
    if plan.is_busy() {
        return;
    }
    if !roll::is_whole(spec, picture, &shape, plan) {
        let only_replicas = |w: &Wait| w.predicate == roll::ALL_REPLICAS;
        // Who could be one follows a shard that goes, and is free when that has no slots: to wait would have no end.
        if !shape.drained.is_empty() && plan.waits.iter().all(only_replicas) {
            roll::rebalance(spec, picture, &shape, plan);
        }
        return;
    }
    // In this order: each begins only when those before it have nothing left to do.
    let steps: [fn(Spec, &Picture<'_>, &Shape, &mut Plan); 7] = [
        roll::let_go,
        roll::restart,
        roll::rebalance,
        roll::hand_over_leaving,
        roll::remove,
        placement::spread,
        placement::swap,
    ];
    for step in steps {
        step(spec, picture, &shape, plan);
        if plan.is_busy() || !plan.waits.is_empty() {
            break;
        }
    }
}

/// Members make each other's acquaintance; also again, after addresses have changed.
///
/// Who is new is met by one of the core, and the others hear of it. Who is known but not at its address, or not
/// reached, is met by each who does not.
fn introduce(picture: &Picture<'_>, plan: &mut Plan) {
    let hub = picture.core.first().copied();
    let mut missing = Vec::new();
    for (at, view) in picture.views() {
        for (other, theirs) in picture.views().filter(|(other, _)| *other != at) {
            let Some(address) = picture.members.get(other).map(|m| &m.address) else {
                continue;
            };
            let meets = match view.nodes.get(&theirs.me) {
                None => hub == Some(at),
                Some(node) => {
                    let there = node.address.as_ref() == Some(address);
                    let down = !node.linked && node.health != Health::Fine;
                    !there || down
                }
            };
            if meets {
                plan.harmless.push(Act::Meet {
                    at: picture.name(at).to_owned(),
                    address: address.clone(),
                });
                missing.push(picture.name(other));
            }
        }
    }
    if !missing.is_empty() || !picture.is_acquainted() {
        missing.sort_unstable();
        missing.dedup();
        let why = if missing.is_empty() {
            "members do not all know and reach each other yet".to_owned()
        } else {
            format!("{} shall be known to all others", missing.join(", "))
        };
        plan.wait("make members acquainted", "know_each_other", why);
    }
}

/// Nodes that are no more are forgotten by all who know them, at once: who does not forget tells the others again
/// after a minute.
fn forget(picture: &Picture<'_>, plan: &mut Plan) {
    for (node, why) in ghosts(picture) {
        match why {
            Some(why) => plan.wait(&format!("forget node {node}"), "know_who_it_is", why),
            None => {
                for (at, view) in picture.views() {
                    if view.nodes.contains_key(&node) && view.me != node {
                        plan.harmless.push(Act::Forget {
                            at: picture.name(at).to_owned(),
                            node: node.clone(),
                        });
                    }
                }
            }
        }
    }
}

/// Nodes that are nobody's; with the reason if they cannot be forgotten yet.
fn ghosts(picture: &Picture<'_>) -> Vec<(NodeId, Option<String>)> {
    let mut nodes: Vec<&NodeId> = picture
        .views()
        .filter(|(member, _)| picture.core.contains(member))
        .flat_map(|(_, view)| view.nodes.keys())
        .collect();
    nodes.sort_unstable();
    nodes.dedup();
    // A stranger's identity may be one that members know: it is not forgotten because it was let in by nobody.
    let all_seen = picture
        .members
        .iter()
        .enumerate()
        .all(|(m, _)| picture.view(m).is_some());
    let mut ghosts = Vec::new();
    for node in nodes {
        if picture.ids.contains_key(node) || picture.owned.contains_key(node) {
            continue;
        }
        let why = if picture.announced(node).is_none() && !all_seen {
            Some("it did not say its name, and may be a member that does not answer".to_owned())
        } else if let Some((follower, _)) = picture.views().find(|(_, v)| v.follows() == Some(node))
        {
            Some(format!("{} still follows it", picture.name(follower)))
        } else {
            None
        };
        ghosts.push((node.clone(), why));
    }
    ghosts
}
