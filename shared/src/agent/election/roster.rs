//! Who is in the set, as members: values only.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::driver::Setup;
use crate::agent::state::Met;
use crate::election::charter::Charter;
use crate::election::group::Group;
use crate::election::member::{Member, Text};
use crate::election::message::{Peer, Room};

/// What is known of the set's instances.
#[derive(Clone, Debug)]
pub(super) struct Roster {
    me: Member,
    /// Who introduced itself to this process, by name.
    heard: BTreeMap<String, Member>,
    /// Who did to a process before, and where everybody was.
    met: BTreeMap<String, Met>,
    /// Room on the others' volumes, as they said last.
    rooms: BTreeMap<String, Room>,
}

impl Roster {
    /// What is remembered, as `me`.
    pub(super) fn new(me: Member, met: BTreeMap<String, Met>) -> Self {
        Self {
            me,
            heard: BTreeMap::new(),
            met,
            rooms: BTreeMap::new(),
        }
    }

    /// Be somebody else from now on.
    pub(super) fn become_member(&mut self, me: Member) {
        self.me = me;
    }

    /// A peer introduced itself. Says whether that is news.
    pub(super) fn meet(
        &mut self,
        member: &Member,
        address: Option<IpAddr>,
        zone: Option<&Text>,
    ) -> bool {
        let name = member.name.to_string();
        if member.name == self.me.name {
            return false;
        }
        let met = Met {
            generation: member.generation.to_string(),
            address: address.or_else(|| self.address(&name)),
            zone: zone.map(ToString::to_string),
        };
        let heard = self.heard.insert(name.clone(), member.clone());
        let remembered = self.met.insert(name, met.clone());
        heard.as_ref() != Some(member) || remembered != Some(met)
    }

    /// An instance told the room on its volume. Says whether that is news.
    pub(super) fn hear_room(&mut self, name: &str, room: Room) -> bool {
        self.rooms.insert(name.to_owned(), room) != Some(room)
    }

    /// Whether that is the member by whose name it introduced itself last.
    pub(super) fn has_heard(&self, member: &Member) -> bool {
        self.heard.get(member.name.as_str()) == Some(member)
    }

    /// Where an instance was last.
    pub(super) fn address(&self, name: &str) -> Option<IpAddr> {
        self.met.get(name)?.address
    }

    /// Where everybody was last.
    pub(super) fn addresses(&self) -> BTreeMap<String, IpAddr> {
        let known = self.met.iter();
        known
            .filter_map(|(name, met)| Some((name.clone(), met.address?)))
            .collect()
    }

    /// What to remember.
    pub(super) fn met(&self) -> &BTreeMap<String, Met> {
        &self.met
    }

    /// All members of the set that exist, or existed last under their name. An instance of which
    /// nobody ever told is none. `connected` say through the Lease that they could elect another holder.
    pub(super) fn members(
        &self,
        setup: &Setup,
        charter: Option<&Charter>,
        connected: &BTreeSet<String>,
    ) -> BTreeMap<Member, Peer> {
        let others = setup.members.iter().filter(|n| *n != self.me.name.as_str());
        let others = others.filter_map(|name| self.latest(name, charter));
        std::iter::once(self.me.clone())
            .chain(others)
            .map(|member| {
                let name = member.name.as_str();
                let zone = if member == self.me {
                    setup.zone.as_ref()
                } else {
                    // One that is away is where it was: its volume is.
                    self.met.get(name).and_then(|met| met.zone.as_ref())
                };
                let peer = Peer {
                    zone: zone.map(|z| Text::from(z.as_str())),
                    connected: connected.contains(name),
                    room: self.rooms.get(name).copied().unwrap_or_default(),
                };
                (member, peer)
            })
            .collect()
    }

    /// By what was heard; else by what the set agreed on, which a holder heard; else by memory.
    fn latest(&self, name: &str, charter: Option<&Charter>) -> Option<Member> {
        let agreed = || {
            let charter = charter?;
            let grouped = charter.groups.iter().rev().flat_map(Group::everybody);
            let mut all = charter.members.iter().rev().chain(grouped);
            all.find(|m| m.name.as_str() == name).cloned()
        };
        let remembered = || {
            let met = self.met.get(name)?;
            Some(Member::new(name, met.generation.as_str()))
        };
        let heard = self.heard.get(name).cloned();
        heard.or_else(agreed).or_else(remembered)
    }

    /// Names of everybody that may have to be talked to.
    pub(super) fn names(&self, setup: &Setup, charter: Option<&Charter>) -> BTreeSet<String> {
        let agreed = charter.map(Charter::everybody).unwrap_or_default();
        let agreed = agreed.into_iter().map(|m| m.name.to_string());
        let mut names: BTreeSet<String> = setup.members.iter().cloned().chain(agreed).collect();
        names.remove(self.me.name.as_str());
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::election::member::{Ballot, Epoch, Holder};
    use crate::election::policy::{Durability, Policy, Timing};

    fn setup() -> Setup {
        Setup {
            policy: Policy {
                durability: Durability::Required,
                across_zones: false,
                max_lag: 0,
                timing: Timing::DEFAULT,
            },
            members: ["a", "b", "c", "d"].map(str::to_owned).into(),
            zone: Some("own".to_owned()),
            room: Room::default(),
        }
    }

    fn charter(members: &[Member]) -> Charter {
        Charter {
            ballot: Ballot {
                epoch: Epoch(1),
                holder: Holder {
                    member: members[0].clone(),
                    pod: "p".into(),
                    nonce: "n".into(),
                },
            },
            version: 0,
            groups: vec![],
            members: members.iter().cloned().collect(),
            timeline: 1,
            fork: 0,
            successor: None,
            identifier: None,
        }
    }

    #[test]
    fn what_is_heard_counts_before_what_was_agreed_and_that_before_memory() {
        let met = |generation: &str| Met {
            generation: generation.into(),
            address: None,
            zone: Some("z".into()),
        };
        let remembered = ["b", "c", "gone"].map(|n| (n.to_owned(), met("old")));
        let mut roster = Roster::new(Member::new("a", "1"), remembered.into());
        let agreed = charter(&[Member::new("b", "agreed")]);
        let members = |r: &Roster| -> Vec<Member> {
            r.members(&setup(), Some(&agreed), &BTreeSet::new())
                .into_keys()
                .collect()
        };
        let (b, c) = (Member::new("b", "agreed"), Member::new("c", "old"));
        assert_eq!(members(&roster), [Member::new("a", "1"), b, c.clone()]);
        let b = Member::new("b", "new");
        let zone = Text::from("z");
        assert!(roster.meet(&b, Some([10, 0, 0, 1].into()), Some(&zone)));
        assert!(!roster.meet(&b, None, Some(&zone)), "no news");
        assert_eq!(roster.address("b"), Some([10, 0, 0, 1].into()));
        assert_eq!(members(&roster), [Member::new("a", "1"), b, c]);
        let all = roster.members(&setup(), None, &BTreeSet::new());
        assert_eq!(all[&Member::new("b", "new")].zone, Some("z".into()));
        assert_eq!(all[&Member::new("c", "old")].zone, Some("z".into()));
        assert_eq!(all[&Member::new("a", "1")].zone, Some("own".into()));
        let b = Member::new("b", "new");
        assert!(roster.meet(&b, None, None), "its new pod may be elsewhere");
        let all = roster.members(&setup(), None, &BTreeSet::new());
        assert_eq!(all[&b].zone, None);
    }
}
