//! What all members say, as one picture: who is ours, who owns which slots, who follows whom. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::slots::SlotSet;
use super::topology::{Address, Health, Node, NodeId, Role, View};

/// A member of the set, as it shall be and as it was found.
#[derive(Clone, Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent facts, not a state"
)]
pub struct Member {
    /// The instance's name. It announces itself so, or as a host whose first label it is.
    pub name: String,
    /// Zone of its node, where zones are known.
    pub zone: Option<String>,
    /// Where it is now.
    pub address: Address,
    /// It is there for so short a time that who asks for its name may be told where it was before.
    pub moved: bool,
    /// It shall be removed, or its pod is told to go.
    pub leaving: bool,
    /// Its pod is told to go, and another one takes its place: it answers until it ends.
    pub going: bool,
    /// It shall be restarted or replaced.
    pub outdated: bool,
    /// Major and minor number of the version that it runs, or ran last, as far as is known.
    pub version: Option<(u32, u32)>,
    /// How it was found.
    pub presence: Presence,
}

/// How a member was found.
#[derive(Clone, Debug)]
pub enum Presence {
    /// It answered.
    Seen(Box<View>),
    /// It did not, and may run all the same.
    Unreachable(String),
    /// Nobody listens at its address, and its agent says that its process has ended and that it starts none before others
    /// had time to take over; how the connection failed. Its volume is there.
    Ended(String),
    /// It does not run: its pod is gone, or its agent says that the process has ended.
    Gone {
        /// For so many seconds.
        seconds: u64,
        /// Its volume is there, so it can come back with what it had.
        data: bool,
    },
}

/// A primary with slots or replicas, and whoever follows it.
#[derive(Clone, Debug)]
pub struct Shard {
    /// The primary.
    pub primary: NodeId,
    /// Its slots.
    pub slots: SlotSet,
    /// Members that say that they follow it.
    pub replicas: Vec<usize>,
    /// Members that did not answer, of which others say so.
    pub absent: Vec<usize>,
}

/// All of it.
#[derive(Debug)]
pub struct Picture<'a> {
    /// Members as they were given; others name them by their place here.
    pub members: &'a [Member],
    /// Members that know each other.
    pub core: BTreeSet<usize>,
    /// Members that answered and may not be met, and why.
    pub strangers: BTreeMap<usize, String>,
    /// Whose identity is whose.
    pub ids: BTreeMap<NodeId, usize>,
    /// Who owns what, by the latest claims.
    pub owned: BTreeMap<NodeId, SlotSet>,
    /// Shards in the order of their members' names.
    pub shards: Vec<Shard>,
    /// Members of the core that see it differently: a sentence.
    pub differ: Option<String>,
}

impl<'a> Picture<'a> {
    /// Of what was found.
    pub fn of(members: &'a [Member]) -> Self {
        Self::with(members, &BTreeSet::new())
    }

    /// The same, with these let in whatever they have: of them is known that they belong together.
    pub fn with(members: &'a [Member], founders: &BTreeSet<usize>) -> Self {
        let mut it = Self {
            members,
            core: core(members),
            strangers: BTreeMap::new(),
            ids: BTreeMap::new(),
            owned: BTreeMap::new(),
            shards: Vec::new(),
            differ: None,
        };
        it.strangers = it.strangers();
        it.strangers.retain(|member, _| !founders.contains(member));
        it.ids = it.identities();
        it.owned = it.owners();
        it.shards = it.shards();
        it.differ = it.differ();
        it
    }

    /// What a member says, if it answered and is ours.
    pub fn view(&self, member: usize) -> Option<&'a View> {
        let ours = !self.strangers.contains_key(&member);
        seen(self.members.get(member)?).filter(|_| ours)
    }

    /// Members that answered and are ours.
    pub fn views(&self) -> impl Iterator<Item = (usize, &'a View)> + '_ {
        let members = 0..self.members.len();
        members.filter_map(move |member| Some((member, self.view(member)?)))
    }

    /// What members of the core say.
    fn told(&self) -> impl Iterator<Item = (usize, &'a View)> + '_ {
        self.views()
            .filter(move |(member, _)| self.core.contains(member))
    }

    /// A member's name.
    pub fn name(&self, member: usize) -> &'a str {
        self.members.get(member).map_or("", |m| &m.name)
    }

    /// Whose identity this is, in words.
    pub fn called(&self, id: &NodeId) -> String {
        let member = self.ids.get(id).map(|member| self.name(*member).to_owned());
        member.unwrap_or_else(|| format!("node {id}"))
    }

    /// The member with this identity, and what it says.
    pub fn seen(&self, id: &NodeId) -> Option<(usize, &'a View)> {
        let member = *self.ids.get(id)?;
        Some((member, self.view(member)?))
    }

    /// What is said of a node, by each member of the core.
    pub fn opinions<'b>(&'b self, id: &'b NodeId) -> impl Iterator<Item = &'a Node> + 'b {
        self.told().filter_map(move |(_, view)| view.nodes.get(id))
    }

    /// The member as which a node announces itself.
    pub fn announced(&self, id: &NodeId) -> Option<Option<usize>> {
        let mut names = self.opinions(id).filter_map(|n| n.hostname.as_deref());
        let label = names.next()?.split('.').next()?;
        Some(self.members.iter().position(|m| m.name == label))
    }

    /// Whether a member may run as somebody of whom is not known that it is that one: it did not say who it is.
    pub fn may_run(&self, member: usize) -> bool {
        let state = self.members.get(member).map(|m| &m.presence);
        matches!(
            state,
            Some(Presence::Unreachable(_) | Presence::Ended(_) | Presence::Gone { data: true, .. })
        )
    }

    /// Whose data, and what comes of it, this member does not read, being a replica of it: a primary that serves and runs a newer version.
    ///
    /// The engine lets it go on from where it is; it leaves out commands that it does not know, without a word, and gives
    /// its own data up for a snapshot that it does not read. So it is no copy, and what it has is worth nothing.
    pub fn superseded_by(&self, member: usize) -> Option<usize> {
        let follows = |s: &&Shard| s.replicas.contains(&member) || s.absent.contains(&member);
        let (primary, view) = self.seen(&self.shards.iter().find(follows)?.primary)?;
        let older = self.is_older(member, primary);
        (older && view.is_primary() && !view.loading).then_some(primary)
    }

    /// Whether a member, a replica, has everything that its primary has, and reads what comes.
    pub fn is_copy(&self, member: usize) -> bool {
        let synced = self.view(member).is_some_and(|view| view.synced);
        synced && self.superseded_by(member).is_none()
    }

    /// Whether a member reads what this primary writes: not where that is known to be of a newer version.
    pub fn reads(&self, member: usize, primary: &NodeId) -> bool {
        let primary = self.ids.get(primary);
        !primary.is_some_and(|primary| self.is_older(member, *primary))
    }

    /// Whether the first is known to be of an older version than the second.
    pub fn is_older(&self, member: usize, other: usize) -> bool {
        let version = |m: usize| self.members.get(m)?.version;
        let (one, other) = (version(member), version(other));
        one.zip(other).is_some_and(|(one, other)| one < other)
    }

    /// Whether nobody in the core is anybody's: no slot has an owner.
    pub fn is_new(&self) -> bool {
        self.owned.is_empty()
    }

    /// The shard of this primary.
    pub fn shard(&self, primary: &NodeId) -> Option<&Shard> {
        self.shards.iter().find(|shard| shard.primary == *primary)
    }

    fn strangers(&self) -> BTreeMap<usize, String> {
        let core: Vec<&View> = self
            .core
            .iter()
            .filter_map(|m| seen(self.members.get(*m)?))
            .collect();
        let mut known: BTreeSet<&NodeId> = core.iter().flat_map(|v| v.nodes.keys()).collect();
        let answered = self.members.iter().filter_map(seen).map(|view| &view.me);
        let met: BTreeSet<&NodeId> = answered.collect();
        known.extend(core.iter().map(|v| &v.me));
        let mut strangers = BTreeMap::new();
        for (member, state) in self.members.iter().enumerate() {
            let Some(view) = seen(state).filter(|_| !self.core.contains(&member)) else {
                continue;
            };
            let bare = view.keys == 0 && view.myself().is_some_and(|me| me.slots.is_empty());
            let mut others = view.nodes.keys();
            let familiar = others.all(|id| known.contains(id) || met.contains(id));
            if view.is_blank() || known.contains(&view.me) || (bare && familiar) {
                continue;
            }
            let why = if familiar {
                "was forgotten by this set and has slots or keys of its own"
            } else {
                "belongs to another cluster, or did"
            };
            let why = format!(
                "{} {why}; it is not let in, and what it has is left alone: give it an empty volume",
                state.name
            );
            strangers.insert(member, why);
        }
        strangers
    }

    fn identities(&self) -> BTreeMap<NodeId, usize> {
        let mut ids: BTreeMap<NodeId, usize> = self
            .views()
            .map(|(member, view)| (view.me.clone(), member))
            .collect();
        let mut said: BTreeMap<usize, (u64, NodeId)> = BTreeMap::new();
        let nodes: BTreeSet<&NodeId> = self.told().flat_map(|(_, v)| v.nodes.keys()).collect();
        for id in nodes {
            let Some(Some(member)) = self.announced(id) else {
                continue;
            };
            let without_data =
                |m: &Member| matches!(m.presence, Presence::Gone { data: false, .. });
            let answered = self.members.get(member).is_none_or(|m| seen(m).is_some());
            if answered || self.members.get(member).is_some_and(without_data) {
                continue;
            }
            let epoch = self.opinions(id).map(|n| n.epoch).max().unwrap_or(0);
            let entry = said.entry(member).or_insert((epoch, id.clone()));
            if epoch > entry.0 {
                *entry = (epoch, id.clone());
            }
        }
        ids.extend(said.into_iter().map(|(member, (_, id))| (id, member)));
        ids
    }

    fn owners(&self) -> BTreeMap<NodeId, SlotSet> {
        let mut claims: Vec<(u64, bool, &NodeId, &SlotSet)> = self
            .told()
            .flat_map(|(_, view)| view.nodes.values())
            .filter(|node| !node.slots.is_empty())
            .map(|node| (node.epoch, node.myself, &node.id, &node.slots))
            .collect();
        claims.sort_by_key(|(epoch, own, id, _)| (*epoch, *own, *id));
        let mut owned: BTreeMap<NodeId, SlotSet> = BTreeMap::new();
        for (_, _, id, slots) in claims {
            for (other, theirs) in &mut owned {
                if other != id {
                    *theirs = theirs.without(slots);
                }
            }
            owned.entry(id.clone()).or_default().extend(slots);
        }
        owned.retain(|_, slots| !slots.is_empty());
        owned
    }

    fn shards(&self) -> Vec<Shard> {
        let mut shards: BTreeMap<NodeId, Shard> = BTreeMap::new();
        let new = |primary: &NodeId| Shard {
            primary: primary.clone(),
            slots: self.owned.get(primary).cloned().unwrap_or_default(),
            replicas: Vec::new(),
            absent: Vec::new(),
        };
        for primary in self.owned.keys() {
            shards.insert(primary.clone(), new(primary));
        }
        for (member, view) in self.views() {
            if let Some(primary) = view.follows() {
                let shard = shards
                    .entry(primary.clone())
                    .or_insert_with(|| new(primary));
                shard.replicas.push(member);
            }
        }
        for (id, member) in &self.ids {
            let mut roles = self.opinions(id).map(|node| &node.role);
            let followed = roles.find_map(|role| match role {
                Role::Replica(primary) => primary.as_ref(),
                Role::Primary | Role::Unknown => None,
            });
            if let Some(primary) = followed.filter(|_| self.view(*member).is_none()) {
                let shard = shards
                    .entry(primary.clone())
                    .or_insert_with(|| new(primary));
                shard.absent.push(*member);
            }
        }
        let mut shards: Vec<Shard> = shards.into_values().collect();
        shards.sort_by_key(|shard| {
            let primary = self.ids.get(&shard.primary).copied();
            let all = shard.replicas.iter().chain(&shard.absent).copied();
            all.chain(primary).min()
        });
        shards
    }

    fn differ(&self) -> Option<String> {
        let mut told = self.told();
        let (first, one) = told.next()?;
        let owners = |view: &'a View| -> Vec<(&'a NodeId, &'a SlotSet)> {
            let nodes = view.nodes.values().filter(|n| !n.slots.is_empty());
            nodes.map(|node| (&node.id, &node.slots)).collect()
        };
        let claims = owners(one);
        for (member, view) in told {
            if owners(view) != claims {
                return Some(format!(
                    "{} and {} do not agree yet on who owns which slots",
                    self.name(first),
                    self.name(member)
                ));
            }
        }
        for (member, view) in self.told() {
            for (other, theirs) in self.views().filter(|(other, _)| *other != member) {
                let Some(node) = view.nodes.get(&theirs.me) else {
                    continue;
                };
                if theirs.myself().is_some_and(|me| me.role != node.role) {
                    return Some(format!(
                        "{} does not know yet what {} is",
                        self.name(member),
                        self.name(other)
                    ));
                }
            }
        }
        None
    }

    /// Whether all members that answered are in the core, know each other, and reach each other.
    pub fn is_acquainted(&self) -> bool {
        let ids: Vec<&NodeId> = self.views().map(|(_, view)| &view.me).collect();
        self.views().all(|(member, view)| {
            let fine = |id: &&NodeId| {
                let node = view.nodes.get(*id);
                node.is_some_and(|n| n.myself || (n.linked && n.health == Health::Fine))
            };
            self.core.contains(&member) && ids.iter().all(fine)
        })
    }
}

/// What it says, if it answered.
fn seen(member: &Member) -> Option<&View> {
    match &member.presence {
        Presence::Seen(view) => Some(view),
        Presence::Unreachable(_) | Presence::Ended(_) | Presence::Gone { .. } => None,
    }
}

/// The members that know each other: of all such groups the one with most slots, then most members.
///
/// To know somebody who does not know one back is not enough: a member that was forgotten while it was away comes back
/// with a picture of the past.
fn core(members: &[Member]) -> BTreeSet<usize> {
    let views: Vec<(usize, &View)> = members
        .iter()
        .enumerate()
        .filter_map(|(member, state)| Some((member, seen(state)?)))
        .collect();
    let mut left: BTreeMap<usize, &View> = views.into_iter().collect();
    let mut groups: Vec<(usize, BTreeSet<usize>)> = Vec::new();
    while let Some((first, view)) = left.pop_first() {
        let mut group = vec![(first, view)];
        let mut next = 0;
        while let Some((_, one)) = group.get(next).copied() {
            let mutual = |other: &View| {
                one.nodes.contains_key(&other.me) && other.nodes.contains_key(&one.me)
            };
            let friends: Vec<usize> = left
                .iter()
                .filter(|(_, other)| mutual(other))
                .map(|(member, _)| *member)
                .collect();
            for friend in friends {
                group.extend(left.remove(&friend).map(|view| (friend, view)));
            }
            next += 1;
        }
        let mut slots = SlotSet::default();
        for me in group.iter().filter_map(|(_, view)| view.myself()) {
            slots.extend(&me.slots);
        }
        groups.push((slots.len(), group.into_iter().map(|(m, _)| m).collect()));
    }
    let best = groups
        .into_iter()
        .rev()
        .max_by_key(|(slots, group)| (*slots, group.len()));
    best.map(|(_, group)| group).unwrap_or_default()
}
