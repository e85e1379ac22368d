//! What one member says of the cluster: `CLUSTER NODES`, `CLUSTER INFO` and `INFO`. Pure.
//!
//! `CLUSTER SHARDS` is not asked: it leaves out which slots are half moved, which is what a procedure that was broken off
//! has to know. What each member says is kept as its own: that they differ is a finding.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::slots::SlotSet;
use crate::agent::vitals::Vitals;
use crate::backup::shards::{SLOTS, Slots};
use crate::version::number;

/// What was said is no topology.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopologyError {
    /// A line of `CLUSTER NODES`.
    #[error("a node of the cluster is not understood: `{0}`")]
    Line(String),
    /// The member does not name itself.
    #[error("no node of the cluster is called `myself`")]
    Nobody,
    /// `INFO` says no role.
    #[error("INFO says no role")]
    Info,
}

/// Identity of a node: 40 hexadecimal digits, which it keeps on its volume.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(String);

impl NodeId {
    /// It.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for NodeId {
    type Err = TopologyError;

    fn from_str(text: &str) -> Result<Self, TopologyError> {
        let digits = text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let line = || TopologyError::Line(text.to_owned());
        digits.then(|| Self(text.to_owned())).ok_or_else(line)
    }
}

/// Where a node listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// An IP address.
    pub host: String,
    /// For clients.
    pub port: u16,
    /// For other nodes.
    pub bus: u16,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// It may own slots.
    Primary,
    /// It receives from a primary; from which one is not always known.
    Replica(Option<NodeId>),
    /// Nobody knows yet.
    Unknown,
}

/// What others think of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// Nothing is said against it.
    Fine,
    /// This member does not reach it (`fail?`).
    Suspected,
    /// A majority does not (`fail`).
    Failed,
}

/// A node as one member knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its identity; in a handshake a preliminary one.
    pub id: NodeId,
    /// Where it is, if that is known.
    pub address: Option<Address>,
    /// As what it announces itself: an instance's name.
    pub hostname: Option<String>,
    /// It is the member that says this.
    pub myself: bool,
    /// What it is.
    pub role: Role,
    /// What is thought of it.
    pub health: Health,
    /// It is not known yet who it is.
    pub handshake: bool,
    /// Config epoch; a replica has its primary's.
    pub epoch: u64,
    /// There is a link to it.
    pub linked: bool,
    /// Slots it owns.
    pub slots: SlotSet,
    /// Slots that are on their way from it, and to whom. Only said of oneself.
    pub migrating: BTreeMap<u16, NodeId>,
    /// Slots that are on their way to it, and from whom. Only said of oneself.
    pub importing: BTreeMap<u16, NodeId>,
}

impl FromStr for Node {
    type Err = TopologyError;

    fn from_str(line: &str) -> Result<Self, TopologyError> {
        read(line).ok_or_else(|| TopologyError::Line(line.to_owned()))
    }
}

/// `<id> <ip>:<port>@<bus>[,<hostname>[,<more>=<…>]] <flags> <primary> <ping> <pong> <epoch> <link> <slot>…`
fn read(line: &str) -> Option<Node> {
    let mut words = line.split_ascii_whitespace();
    let id = words.next()?.parse().ok()?;
    let (address, hostname) = place(words.next()?)?;
    let flags: Vec<&str> = words.next()?.split(',').collect();
    let is = |flag: &str| flags.contains(&flag);
    let primary = match words.next()? {
        "-" => None,
        id => Some(id.parse().ok()?),
    };
    let mut words = words.skip(2);
    let epoch = words.next()?.parse().ok()?;
    let linked = words.next()? == "connected";
    let role = match (is("master"), is("slave")) {
        (true, _) => Role::Primary,
        (_, true) => Role::Replica(primary),
        _ => Role::Unknown,
    };
    let health = match (is("fail"), is("fail?")) {
        (true, _) => Health::Failed,
        (_, true) => Health::Suspected,
        _ => Health::Fine,
    };
    let mut node = Node {
        id,
        address: address.filter(|_| !is("noaddr")),
        hostname,
        myself: is("myself"),
        role,
        health,
        handshake: is("handshake"),
        epoch,
        linked,
        slots: SlotSet::default(),
        migrating: BTreeMap::new(),
        importing: BTreeMap::new(),
    };
    for word in words {
        let open = |word: &str, arrow: &str| -> Option<(u16, NodeId)> {
            let (slot, id) = word.strip_suffix(']')?.split_once(arrow)?;
            let slot = slot.parse().ok().filter(|slot| *slot < SLOTS)?;
            Some((slot, id.parse().ok()?))
        };
        match word.strip_prefix('[') {
            Some(word) if word.contains("->-") => {
                node.migrating.extend([open(word, "->-")?]);
            }
            Some(word) => node.importing.extend([open(word, "-<-")?]),
            None => node.slots.insert_range(word.parse::<Slots>().ok()?),
        }
    }
    Some(node)
}

/// `<ip>:<port>@<bus>[,<hostname>[,<more>]]`, where the ip may be missing, or have colons of its own.
fn place(word: &str) -> Option<(Option<Address>, Option<String>)> {
    let mut fields = word.split(',');
    let (host, ports) = fields.next()?.rsplit_once(':')?;
    let (port, bus) = ports.split_once('@')?;
    let address = Address {
        host: host.to_owned(),
        port: port.parse().ok()?,
        bus: bus.parse().ok()?,
    };
    let hostname = fields.next().filter(|name| !name.is_empty());
    let known = !address.host.is_empty();
    Some((known.then_some(address), hostname.map(str::to_owned)))
}

/// All that `CLUSTER NODES` tells of.
///
/// # Errors
/// A line of it is not understood.
pub fn nodes(text: &str) -> Result<Vec<Node>, TopologyError> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(str::parse).collect()
}

/// Whose data a member has, by the mark in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Bears {
    /// It was not asked, or did not say.
    #[default]
    Unknown,
    /// There is no mark in it.
    Nothing,
    /// That of a set with this identifier.
    Set(String),
}

/// What a member says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Who says it.
    pub me: NodeId,
    /// All that it knows of, itself among them; without those in a handshake.
    pub nodes: BTreeMap<NodeId, Node>,
    /// Keys that it has.
    pub keys: u64,
    /// As a replica: the link to its primary stands, and the dataset was received.
    pub synced: bool,
    /// As a replica: for so many seconds it has not been in sync; none where it never was since it was started.
    pub apart: Option<u64>,
    /// Where it is in its history.
    pub offset: u64,
    /// It reads its dataset.
    pub loading: bool,
    /// It has keys, and none of a slot of the primary that it follows: it has not received from that one yet, and what it
    /// has is of another shard. Only asked of a replica that is not in sync.
    pub foreign: bool,
    /// Keys that it has in slots that are half moved, as far as that was asked.
    pub counted: BTreeMap<u16, u64>,
    /// Whose data it has.
    pub bears: Bears,
    /// Major and minor number of its version, if it says it.
    pub version: Option<(u32, u32)>,
}

impl View {
    /// Of what `CLUSTER NODES` and `INFO` say.
    ///
    /// # Errors
    /// See [`TopologyError`].
    pub fn read(nodes: &str, info: &str) -> Result<Self, TopologyError> {
        let vitals = Vitals::read(info, None, 0).ok_or(TopologyError::Info)?;
        let nodes = self::nodes(nodes)?;
        let me = nodes.iter().find(|node| node.myself);
        let me = me.ok_or(TopologyError::Nobody)?.id.clone();
        let known = nodes.into_iter().filter(|node| !node.handshake);
        let synced = vitals.link_up && !vitals.syncing;
        Ok(Self {
            me,
            nodes: known.map(|node| (node.id.clone(), node)).collect(),
            keys: vitals.keys,
            synced,
            apart: if synced { Some(0) } else { vitals.apart },
            offset: vitals.offset,
            loading: vitals.loading,
            foreign: false,
            counted: BTreeMap::new(),
            bears: Bears::Unknown,
            version: (!vitals.version.is_empty()).then(|| number(&vitals.version)),
        })
    }

    /// What it says of itself.
    pub fn myself(&self) -> Option<&Node> {
        self.nodes.get(&self.me)
    }

    /// Whether it says that it is a primary.
    pub fn is_primary(&self) -> bool {
        self.myself().is_some_and(|node| node.role == Role::Primary)
    }

    /// Whom it says that it follows.
    pub fn follows(&self) -> Option<&NodeId> {
        match &self.myself()?.role {
            Role::Replica(primary) => primary.as_ref(),
            Role::Primary | Role::Unknown => None,
        }
    }

    /// It has nothing, and knows nobody: it may become anybody's.
    pub fn is_blank(&self) -> bool {
        let alone = self.nodes.keys().all(|id| *id == self.me);
        let bare = |node: &Node| node.role == Role::Primary && node.slots.is_empty();
        alone && self.keys == 0 && !self.loading && self.myself().is_some_and(bare)
    }

    /// It has no key, unless of a slot that is half moved. A primary without slots that has some is not to be made a
    /// replica, which would lose them.
    pub fn keys_belong(&self) -> bool {
        self.keys == 0 || !self.open().is_empty()
    }

    /// Slots that are half moved, to it or from it.
    pub fn open(&self) -> Vec<u16> {
        let Some(me) = self.myself().filter(|me| me.role == Role::Primary) else {
            return Vec::new();
        };
        let open = me.migrating.keys().chain(me.importing.keys());
        open.copied().collect()
    }
}

#[cfg(test)]
#[path = "topology_tests.rs"]
mod tests;
