//! A cluster as its backup takes it: its shards, their slots, and who gives each. Pure.
//!
//! A slot that moves while shards are taken one after the other would be in two of them, or in none. So each primary is asked what it
//! has before the first is taken, meanwhile, and when the last is there: the same slots under the same epoch, and none on its way.
//! Whoever takes a slot, or takes over, gets another epoch, so that what went and came back is seen as well.

use crate::shards::slots::SlotSet;
use crate::shards::topology::{self, Address, Health, Node, NodeId, Role};

use super::shards::SLOTS;

/// A shard of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its primary.
    pub primary: Giver,
    /// Under which it has its slots.
    pub epoch: u64,
    /// These.
    pub slots: SlotSet,
    /// Who may give it, the best first: its replicas, then the primary.
    pub givers: Vec<Giver>,
}

/// A member that may give its shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Giver {
    /// Its identity.
    pub node: NodeId,
    /// The name that its certificate bears.
    pub host: String,
    /// Where it is.
    pub address: Address,
}

impl Giver {
    fn of(node: &Node) -> Option<Self> {
        Some(Self {
            node: node.id.clone(),
            host: node.hostname.clone()?,
            address: node.address.clone()?,
        })
    }

    /// The instance's name.
    pub fn name(&self) -> &str {
        self.host.split('.').next().unwrap_or(&self.host)
    }
}

/// What `CLUSTER NODES` says of all.
///
/// # Errors
/// It is not understood: a sentence.
pub fn nodes(text: &str) -> Result<Vec<Node>, String> {
    let nodes = topology::nodes(text).map_err(|e| e.to_string())?;
    Ok(nodes.into_iter().filter(|n| !n.handshake).collect())
}

/// What `CLUSTER NODES` says of who was asked.
///
/// # Errors
/// It is not understood: a sentence.
pub fn myself(text: &str) -> Result<Node, String> {
    let me = nodes(text)?.into_iter().find(|node| node.myself);
    me.ok_or_else(|| "it does not say who it is".to_owned())
}

/// The shards of a cluster, in the order of their first slots, as one of its members knows them.
///
/// # Errors
/// It is not whole: a sentence.
pub fn parts(nodes: &[Node]) -> Result<Vec<Part>, String> {
    let mut free = SlotSet::all();
    let mut parts = Vec::new();
    for owner in nodes.iter().filter(|n| !n.slots.is_empty()) {
        free = free.without(&owner.slots);
        let unreached = || format!("the primary of slots {} is not reached", owner.slots);
        let there = is_there(owner) && owner.role == Role::Primary;
        let primary = Giver::of(owner).filter(|_| there).ok_or_else(unreached)?;
        let follows = Role::Replica(Some(owner.id.clone()));
        let replicas = nodes.iter().filter(|n| n.role == follows && is_there(n));
        let mut givers: Vec<Giver> = replicas.filter_map(Giver::of).collect();
        givers.sort_by(|a, b| a.host.cmp(&b.host));
        givers.push(primary.clone());
        parts.push(Part {
            primary,
            epoch: owner.epoch,
            slots: owner.slots.clone(),
            givers,
        });
    }
    if !free.is_empty() {
        return Err(format!("slots {free} have no owner"));
    }
    parts.sort_by_key(|part| part.slots.iter().next().unwrap_or(SLOTS));
    Ok(parts)
}

fn is_there(node: &Node) -> bool {
    node.health == Health::Fine && (node.linked || node.myself)
}

impl Part {
    /// Whether its primary has what it had, by what that one says of itself now.
    ///
    /// # Errors
    /// It is not so: a sentence.
    pub fn holds(&self, now: &Node) -> Result<(), String> {
        let name = self.primary.name();
        if now.id != self.primary.node {
            return Err(format!("{name} is another node now"));
        }
        if now.role != Role::Primary {
            return Err(format!("{name} is no primary any more"));
        }
        if let Some(slot) = now.migrating.keys().chain(now.importing.keys()).next() {
            return Err(format!("slot {slot} is on its way from {name} or to it"));
        }
        if now.slots != self.slots || now.epoch != self.epoch {
            return Err(format!("{name} has other slots now"));
        }
        Ok(())
    }

    /// Whether a member is of this shard, by what that one says of itself now.
    ///
    /// # Errors
    /// It is not so: a sentence.
    pub fn has(&self, giver: &Giver, now: &Node) -> Result<(), String> {
        let leads = now.id == self.primary.node && now.role == Role::Primary;
        let follows = now.role == Role::Replica(Some(self.primary.node.clone()));
        let same = now.id == giver.node;
        (same && (leads || follows)).then_some(()).ok_or_else(|| {
            let primary = self.primary.name();
            format!("{} does not follow {primary} any more", giver.name())
        })
    }
}

#[cfg(test)]
#[path = "parts_model.rs"]
mod model;

#[cfg(test)]
mod tests {
    use super::*;

    /// Three shards of a primary and a replica each, as the first replica says it.
    const CLUSTER: &str = "\
        0000000000000000000000000000000000000001 10.0.0.1:6379@16379,db-1.db-peers.shop.svc master - 0 0 1 connected 0-5460\n\
        0000000000000000000000000000000000000002 10.0.0.2:6379@16379,db-2.db-peers.shop.svc master - 0 0 2 connected 5461-10922\n\
        0000000000000000000000000000000000000003 10.0.0.3:6379@16379,db-3.db-peers.shop.svc master - 0 0 3 connected 10923-16383\n\
        0000000000000000000000000000000000000004 10.0.0.4:6379@16379,db-4.db-peers.shop.svc myself,slave \
        0000000000000000000000000000000000000001 0 0 1 connected\n\
        0000000000000000000000000000000000000005 10.0.0.5:6379@16379,db-5.db-peers.shop.svc slave \
        0000000000000000000000000000000000000002 0 0 2 connected\n";

    fn parts_of(from: &str, to: &str) -> Result<Vec<Part>, String> {
        assert!(CLUSTER.contains(from));
        parts(&nodes(&CLUSTER.replacen(from, to, 1)).unwrap())
    }

    #[test]
    fn each_shard_is_given_by_its_replica_or_else_by_its_primary() {
        let parts = parts_of("", "").unwrap();
        let names = |part: &Part| -> Vec<String> {
            part.givers.iter().map(|g| g.name().to_owned()).collect()
        };
        let all: Vec<_> = parts.iter().map(names).collect();
        assert_eq!(
            all,
            [vec!["db-4", "db-1"], vec!["db-5", "db-2"], vec!["db-3"]]
        );
        assert_eq!(
            myself(CLUSTER).unwrap().hostname.unwrap(),
            "db-4.db-peers.shop.svc"
        );
    }

    #[test]
    fn what_is_not_whole_is_not_taken() {
        let why = parts_of("5461-10922", "5461-10000").unwrap_err();
        assert!(why.contains("10001-10922"), "{why}");
        let why = parts_of("master - 0 0 3", "master,fail - 0 0 3").unwrap_err();
        assert!(why.contains("10923-16383"), "{why}");
        let why = parts_of("0 0 2 connected 5461", "0 0 2 disconnected 5461").unwrap_err();
        assert!(why.contains("not reached"), "{why}");
        // A replica that is not reached is passed over.
        let parts = parts_of("0 0 2 connected\n", "0 0 2 disconnected\n").unwrap();
        assert_eq!(parts[1].givers.len(), 1);
    }

    #[test]
    fn whatever_moves_is_seen() {
        let parts = parts_of("", "").unwrap();
        let first = nodes(CLUSTER).unwrap()[0].clone();
        assert_eq!(parts[0].holds(&first), Ok(()));
        let changed = |change: &dyn Fn(&mut Node)| {
            let mut now = first.clone();
            change(&mut now);
            parts[0].holds(&now).unwrap_err()
        };
        let other = parts[1].primary.node.clone();
        changed(&|n| n.slots.remove(7));
        changed(&|n| n.slots.insert(6_000));
        // It went, and came back.
        changed(&|n| n.epoch = 9);
        changed(&|n| n.role = Role::Replica(Some(other.clone())));
        changed(&|n| n.id = other.clone());
        let why = changed(&|n| drop(n.migrating.insert(7, other.clone())));
        assert!(why.contains("slot 7"), "{why}");
        changed(&|n| drop(n.importing.insert(6_000, other.clone())));
    }

    #[test]
    fn who_follows_another_does_not_give_this_shard() {
        let parts = parts_of("", "").unwrap();
        let all = nodes(CLUSTER).unwrap();
        let [replica, primary] = &parts[0].givers[..] else {
            panic!("two");
        };
        assert_eq!(parts[0].has(replica, &all[3]), Ok(()));
        assert_eq!(parts[0].has(primary, &all[0]), Ok(()));
        assert!(parts[0].has(replica, &all[4]).is_err(), "another node");
        let mut moved = all[3].clone();
        moved.role = Role::Replica(Some(parts[1].primary.node.clone()));
        assert!(parts[0].has(replica, &moved).is_err());
    }
}
