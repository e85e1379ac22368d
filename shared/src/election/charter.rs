//! What a set has agreed on: who holds it, under which epoch, and who must be asked next time.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::group::Group;
use super::member::{Ballot, Epoch, Member, Text};

/// The agreement, as the holder wrote it. It stands in the Lease, and durably with the members:
/// they, not the Lease, carry the guarantee in `quorum`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Charter {
    /// The epoch, and whose it is. Only that holder writes charters of that epoch.
    pub ballot: Ballot,
    /// Grows with every charter of this epoch.
    pub version: u64,
    /// An election must satisfy each of them. One when settled; more while a change goes on: the
    /// one in force before, and the one that replaces it.
    pub groups: Vec<Group>,
    /// All registered members, voters or not, the holder too.
    pub members: BTreeSet<Member>,
    /// Highest timeline (or the engine's like) ever claimed. It is not used again.
    pub timeline: u64,
    /// Where this epoch's history leaves the one before, in bytes.
    pub fork: u64,
    /// Whom the holder released the set to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub successor: Option<Member>,
    /// Identifier of the set's data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identifier: Option<Text>,
}

/// The order of charters. One stamp has one content, since an epoch has one holder.
pub type Stamp = (Epoch, u64);

impl Charter {
    /// Its place in the order.
    pub fn stamp(&self) -> Stamp {
        (self.ballot.epoch, self.version)
    }

    /// Whether no change is going on.
    pub fn is_settled(&self) -> bool {
        self.groups.len() == 1
    }

    /// The group that is in force, or will be.
    pub fn last(&self) -> Option<&Group> {
        self.groups.last()
    }

    /// Whether a commit may have been acknowledged by the primary alone under it.
    pub fn is_suspended(&self) -> bool {
        self.groups.iter().any(|g| g.acks == 0)
    }

    /// Everybody that an election has to ask.
    pub fn everybody(&self) -> BTreeSet<Member> {
        self.groups
            .iter()
            .flat_map(Group::everybody)
            .chain(&self.members)
            .cloned()
            .collect()
    }

    /// Whether a member is in a list by which it may stand: a voter or the primary; any registered
    /// member where commits do not wait.
    pub fn may_name(&self, member: &Member) -> bool {
        self.groups.iter().any(|g| g.has(member))
            || (self.is_suspended() && self.members.contains(member))
    }

    /// Whether these members' promises satisfy every group, where the data of those that are `gone`
    /// does not exist any more. Where commits do not wait, `overdue` says whether the rule of `async`
    /// is satisfied.
    pub fn is_decided_by(
        &self,
        set: &BTreeSet<Member>,
        gone: &BTreeSet<Member>,
        overdue: bool,
    ) -> bool {
        self.groups
            .iter()
            .all(|g| g.is_decided_without(set, gone) || (g.acks == 0 && overdue))
    }
}

/// What a member keeps on its volume, outside the engine's folder: fsynced before it is relied on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Durable {
    /// It serves nobody below this ballot, and no other of its epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promise: Option<Ballot>,
    /// The latest charter it has heard of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charter: Option<Charter>,
}

impl Durable {
    /// Highest epoch in it.
    pub fn epoch(&self) -> Epoch {
        let promised = self.promise.as_ref().map(|p| p.epoch);
        let heard = self.charter.as_ref().map(|c| c.ballot.epoch);
        promised.max(heard).unwrap_or_default()
    }

    /// Take over a charter if it is later; says whether it was.
    pub fn hear(&mut self, charter: &Charter) -> bool {
        let later = self.stamp().is_none_or(|own| charter.stamp() > own);
        if later {
            self.charter = Some(charter.clone());
        }
        later
    }

    /// Stamp of the charter.
    pub fn stamp(&self) -> Option<Stamp> {
        self.charter.as_ref().map(Charter::stamp)
    }
}
