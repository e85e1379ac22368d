//! A member of the model: what an engine knows, has and does when it hears of others.

use std::collections::{BTreeMap, BTreeSet};

use crate::shards::slots::SlotSet;
use crate::shards::topology::{Address, Bears, Health, Node, NodeId, Role, View};

#[allow(
    clippy::struct_excessive_bools,
    reason = "independent facts, not a state"
)]
pub(in crate::shards) struct Engine {
    pub(in crate::shards) name: String,
    pub(in crate::shards) zone: &'static str,
    pub(in crate::shards) id: NodeId,
    pub(in crate::shards) address: Address,
    pub(in crate::shards) runs: bool,
    pub(in crate::shards) leaving: bool,
    pub(in crate::shards) outdated: bool,
    /// Everybody it knows, itself among them.
    pub(in crate::shards) knows: BTreeMap<NodeId, Node>,
    pub(in crate::shards) banned: BTreeSet<NodeId>,
    pub(in crate::shards) keys: BTreeMap<u16, BTreeSet<u8>>,
    pub(in crate::shards) offset: u64,
    pub(in crate::shards) synced: bool,
    pub(in crate::shards) bears: Bears,
    pub(in crate::shards) version: (u32, u32),
}

fn id(n: u32) -> NodeId {
    format!("{n:040x}").parse().unwrap()
}

impl Engine {
    pub(in crate::shards) fn new(n: u32, address: u32, zone: &'static str) -> Self {
        let address = Address {
            host: format!("10.0.{}.{}", address / 250, address % 250),
            port: 6379,
            bus: 16379,
        };
        let mut it = Self {
            name: format!("db-{n}"),
            zone,
            id: id(n),
            address,
            runs: true,
            leaving: false,
            outdated: false,
            knows: BTreeMap::new(),
            banned: BTreeSet::new(),
            keys: BTreeMap::new(),
            offset: 1,
            synced: false,
            bears: Bears::Nothing,
            version: (7, 0),
        };
        let me = Node {
            myself: true,
            ..it.introduced()
        };
        it.knows.insert(it.id.clone(), me);
        it
    }

    /// The same member on a new volume: somebody else for the others.
    pub(in crate::shards) fn anew(&self, n: u32) -> Self {
        let mut it = Self {
            name: self.name.clone(),
            address: self.address.clone(),
            leaving: self.leaving,
            ..Self::new(n, n, self.zone)
        };
        let me = Node {
            myself: true,
            ..it.introduced()
        };
        it.knows = BTreeMap::from([(it.id.clone(), me)]);
        it
    }

    /// As others come to know it.
    pub(in crate::shards) fn introduced(&self) -> Node {
        Node {
            id: self.id.clone(),
            address: Some(self.address.clone()),
            hostname: Some(self.name.clone()),
            myself: false,
            role: Role::Primary,
            health: Health::Fine,
            handshake: false,
            epoch: 0,
            linked: true,
            slots: SlotSet::default(),
            migrating: BTreeMap::new(),
            importing: BTreeMap::new(),
        }
    }

    pub(in crate::shards) fn me(&self) -> &Node {
        &self.knows[&self.id]
    }

    pub(in crate::shards) fn me_mut(&mut self) -> &mut Node {
        self.knows.get_mut(&self.id).unwrap()
    }

    pub(in crate::shards) fn is_primary(&self) -> bool {
        self.me().role == Role::Primary
    }

    pub(in crate::shards) fn primary(&self) -> Option<&NodeId> {
        match &self.me().role {
            Role::Replica(primary) => primary.as_ref(),
            _ => None,
        }
    }

    pub(in crate::shards) fn owns(&self, slot: u16) -> bool {
        self.is_primary() && self.me().slots.contains(slot)
    }

    pub(in crate::shards) fn view(&self, open: &BTreeSet<u16>) -> View {
        let count = |slot: &u16| self.keys.get(slot).map_or(0, BTreeSet::len) as u64;
        View {
            me: self.id.clone(),
            nodes: self.knows.clone(),
            keys: self.keys.values().map(|keys| keys.len() as u64).sum(),
            synced: self.synced,
            apart: Some(0),
            offset: self.offset,
            loading: false,
            foreign: false,
            counted: open.iter().map(|slot| (*slot, count(slot))).collect(),
            bears: self.bears.clone(),
            version: Some(self.version),
        }
    }

    pub(in crate::shards) fn follow(&mut self, primary: &NodeId) {
        let me = self.me_mut();
        me.role = Role::Replica(Some(primary.clone()));
        me.slots = SlotSet::default();
        me.migrating.clear();
        me.importing.clear();
        self.synced = false;
    }

    /// It hears what another says of itself.
    pub(in crate::shards) fn hear(&mut self, other: &Node, address: &Address) {
        let Some(known) = self.knows.get_mut(&other.id) else {
            return;
        };
        let old = known.role == other.role && known.epoch == other.epoch;
        if old && known.slots == other.slots && known.address.as_ref() == Some(address) {
            return;
        }
        let was_mine = known.role == Role::Replica(Some(self.id.clone()));
        known.role = other.role.clone();
        known.epoch = other.epoch;
        known.address = Some(address.clone());
        known.linked = true;
        known.health = Health::Fine;
        if other.role != Role::Primary {
            known.slots = SlotSet::default();
            return;
        }
        let mut taken = SlotSet::default();
        let importing = self.me().importing.clone();
        let mine = self.id.clone();
        let boss = self.primary().cloned().unwrap_or_else(|| mine.clone());
        let (mut lost_all, mut dirty) = (false, false);
        for (who, node) in &mut self.knows {
            if *who == other.id {
                continue;
            }
            let both = other.slots.and(&node.slots);
            if both.is_empty() || node.epoch >= other.epoch {
                continue;
            }
            for slot in both.iter().filter(|slot| !importing.contains_key(slot)) {
                node.slots.remove(slot);
                if *who == boss {
                    taken.insert(slot);
                    lost_all = node.slots.is_empty();
                }
                let some = self.keys.get(&slot).is_some_and(|keys| !keys.is_empty());
                dirty |= *who == mine && some;
            }
        }
        let mut claims = other.slots.clone();
        for (who, node) in &self.knows {
            if *who != other.id {
                claims = claims.without(&node.slots);
            }
        }
        self.knows.get_mut(&other.id).unwrap().slots = claims;
        if lost_all && taken == other.slots {
            self.follow(&other.id);
        } else if was_mine && lost_all {
            // It was succeeded while it was away, by one that has what it had and more slots since.
            self.keys.retain(|slot, _| !taken.contains(*slot));
        } else {
            assert!(!dirty, "{} deletes keys of slots that it lost", self.name);
        }
    }
}
