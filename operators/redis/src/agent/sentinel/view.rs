//! What is answered, and what is published when it changes; values only.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use mainstay_crds::common::InstanceRole;
use mainstay_shared::agent::api::Status;
use mainstay_shared::election::member::Ballot;
use mainstay_shared::names::instance_host;

use crate::settings::PORT;

/// What a primary was heard to say is believed for so long after it was asked: the time in which one that cannot renew its
/// Lease stops.
pub const FRESH: Duration = Duration::from_secs(4);
/// Channel on which another primary is told.
const SWITCH: &str = "+switch-master";

/// The set, as far as answers name it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// Its name: that of the primary, for clients.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The instance whose agent answers.
    pub me: String,
    /// All instances.
    pub members: Vec<String>,
    /// Version of Redis.
    pub version: String,
}

impl Set {
    /// The name of an instance, by which clients reach it and its certificate is verified.
    pub fn host(&self, instance: &str) -> String {
        instance_host(instance, &self.name, &self.namespace)
    }

    /// The other instances, whose agents answer as well.
    pub fn others(&self) -> impl Iterator<Item = &String> {
        self.members.iter().filter(|name| **name != self.me)
    }
}

/// What an agent said of its engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// When it was asked, as time since boot.
    pub at: Duration,
    /// Its instance.
    pub instance: String,
    /// The epoch under which its door is open to clients, if it is.
    pub open: Option<u64>,
    /// Who streams from it.
    pub replicas: BTreeSet<String>,
}

impl Heard {
    /// From a status of `instance` that was asked for at `at`. None where it says nothing of the engine: an agent that has
    /// just started does not know yet, beside an engine that went on.
    pub fn read(instance: &str, at: Duration, status: &Status) -> Option<Self> {
        let known = status.role != InstanceRole::Unknown;
        known.then(|| Self {
            at,
            instance: instance.to_owned(),
            open: status.open_epoch,
            replicas: status.streaming.iter().cloned().collect(),
        })
    }
}

/// A primary whose door is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lead {
    /// Its instance.
    pub instance: String,
    /// The epoch of its term.
    pub epoch: u64,
    /// Who streams from it.
    pub replicas: BTreeSet<String>,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The set.
    pub set: Arc<Set>,
    /// The primary, if one is known whose door is open.
    pub now: Option<Lead>,
    /// The last one that was, by which changes are told.
    pub last: Option<Lead>,
}

impl View {
    /// What is known at `now`: who leads by the newest ballot heard of, if that one itself says that it does, under that
    /// ballot or a newer one of its own, and said so lately. `last`: the last that was known before.
    pub fn of(
        set: &Arc<Set>,
        ballot: Option<&Ballot>,
        heard: Option<&Heard>,
        last: Option<Lead>,
        now: Duration,
    ) -> Self {
        let leads = ballot.zip(heard).and_then(|(ballot, heard)| {
            let epoch = heard.open.filter(|epoch| *epoch >= ballot.epoch.0)?;
            let same = ballot.holder.member.name.as_str() == heard.instance;
            (same && now <= heard.at + FRESH).then(|| Lead {
                instance: heard.instance.clone(),
                epoch,
                replicas: heard.replicas.clone(),
            })
        });
        Self {
            set: Arc::clone(set),
            last: leads.clone().or(last),
            now: leads,
        }
    }
}

/// Something that is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its channel.
    pub channel: &'static str,
    /// What is said.
    pub text: String,
}

/// What has happened between two views, in the words of a Sentinel. Whoever was too slow for one in between hears what it
/// comes to.
pub fn events(before: &View, after: &View) -> Vec<Event> {
    let mut events = Vec::new();
    let mut say = |channel, text| events.push(Event { channel, text });
    let set = &after.set;
    let at = |lead: &Lead| format!("{} {PORT}", set.host(&lead.instance));
    let master = |lead: &Lead| format!("{} {}", set.name, at(lead));
    let slave = |name: &str, of: &Lead| {
        let host = set.host(name);
        format!("slave {host}:{PORT} {host} {PORT} @ {}", master(of))
    };
    let Some(was) = &before.last else {
        // Nothing was told before that could have changed.
        return events;
    };
    let Some(is) = &after.now else {
        if before.now.is_some() {
            say("+sdown", format!("master {}", master(was)));
        }
        return events;
    };
    if is.instance != was.instance {
        say(SWITCH, format!("{} {}", master(was), at(is)));
    } else if before.now.is_none() {
        say("-sdown", format!("master {}", master(is)));
    }
    for name in is.replicas.difference(&was.replicas) {
        say("+slave", slave(name, is));
    }
    let gone = was.replicas.difference(&is.replicas);
    for name in gone.filter(|name| **name != is.instance) {
        say("+sdown", slave(name, is));
    }
    events
}

#[cfg(test)]
pub(super) mod tests {
    use mainstay_shared::election::member::{Epoch, Holder, Member};
    use proptest::prelude::*;

    use super::*;

    pub(in super::super) fn set() -> Arc<Set> {
        Arc::new(Set {
            name: "cache".into(),
            namespace: "shop".into(),
            me: "cache-2".into(),
            members: ["cache-1", "cache-2", "cache-3"].map(str::to_owned).into(),
            version: "8.0".into(),
        })
    }

    pub(in super::super) fn lead(instance: &str, epoch: u64, replicas: &[&str]) -> Lead {
        Lead {
            instance: instance.into(),
            epoch,
            replicas: replicas.iter().map(|r| (*r).to_owned()).collect(),
        }
    }

    pub(in super::super) fn view(now: Option<Lead>, last: Option<Lead>) -> View {
        View {
            set: set(),
            last: now.clone().or(last),
            now,
        }
    }

    fn ballot(instance: &str, epoch: u64) -> Ballot {
        Ballot {
            epoch: Epoch(epoch),
            holder: Holder {
                member: Member::new(instance, "g"),
                pod: "p".into(),
                nonce: "n".into(),
            },
        }
    }

    fn heard(instance: &str, open: Option<u64>) -> Heard {
        Heard {
            at: Duration::from_secs(10),
            instance: instance.into(),
            open,
            replicas: BTreeSet::new(),
        }
    }

    fn known(ballot: &Ballot, heard: &Heard, now: u64) -> Option<String> {
        let view = View::of(
            &set(),
            Some(ballot),
            Some(heard),
            None,
            Duration::from_secs(now),
        );
        view.now.map(|lead| lead.instance)
    }

    #[test]
    fn the_primary_is_who_leads_and_says_that_its_door_is_open() {
        let ballot = ballot("cache-1", 4);
        let of = |heard: &Heard| known(&ballot, heard, 11);
        assert_eq!(of(&heard("cache-1", Some(4))).as_deref(), Some("cache-1"));
        assert_eq!(of(&heard("cache-1", None)), None, "its door is shut");
        assert_eq!(
            of(&heard("cache-1", Some(3))),
            None,
            "it says that of a term before"
        );
        assert_eq!(of(&heard("cache-1", Some(5))).as_deref(), Some("cache-1"));
        assert_eq!(of(&heard("cache-3", Some(4))), None, "it was another one");
        assert_eq!(of(&heard("cache-3", Some(9))), None);
        let nobody = View::of(
            &set(),
            None,
            Some(&heard("cache-1", Some(4))),
            None,
            Duration::from_secs(10),
        );
        assert_eq!(nobody.now, None);
    }

    #[test]
    fn what_was_heard_is_believed_for_a_while_only() {
        let (ballot, heard) = (ballot("cache-1", 4), heard("cache-1", Some(4)));
        assert!(known(&ballot, &heard, 14).is_some());
        assert_eq!(known(&ballot, &heard, 15), None);
    }

    #[test]
    fn an_agent_that_knows_nothing_yet_says_nothing() {
        let at = Duration::from_secs(1);
        let mut status = Status::default();
        assert_eq!(Heard::read("cache-1", at, &status), None);
        status.role = InstanceRole::Primary;
        status.open_epoch = Some(4);
        status.streaming = vec!["cache-2".into()];
        let heard = Heard::read("cache-1", at, &status).unwrap();
        assert_eq!((heard.open, heard.replicas.len()), (Some(4), 1));
    }

    fn said(before: &View, after: &View) -> Vec<String> {
        let events = events(before, after).into_iter();
        events
            .map(|e| format!("{} {}", e.channel, e.text))
            .collect()
    }

    const ONE: &str = "cache-1.cache-peers.shop.svc";
    const TWO: &str = "cache-2.cache-peers.shop.svc";
    const THREE: &str = "cache-3.cache-peers.shop.svc";

    #[test]
    fn a_switch_is_told_once_the_next_one_is_known_however_long_nobody_was() {
        let one = lead("cache-1", 4, &["cache-2", "cache-3"]);
        let two = lead("cache-2", 5, &["cache-3"]);
        let before = view(Some(one.clone()), None);
        let between = view(None, Some(one.clone()));
        let after = view(Some(two), None);
        let switch = format!("+switch-master cache {ONE} 6379 {TWO} 6379");
        assert_eq!(
            said(&before, &between),
            [format!("+sdown master cache {ONE} 6379")]
        );
        assert_eq!(said(&between, &after), std::slice::from_ref(&switch));
        assert_eq!(said(&before, &after), [switch]);
        // Nobody was known before: nothing has changed for anybody.
        assert!(said(&view(None, None), &after).is_empty());
    }

    #[test]
    fn who_is_back_is_told_and_another_term_of_the_same_is_no_news() {
        let one = lead("cache-1", 4, &[]);
        let again = view(Some(lead("cache-1", 6, &[])), None);
        let back = said(&view(None, Some(one.clone())), &again);
        assert_eq!(back, [format!("-sdown master cache {ONE} 6379")]);
        assert!(said(&view(Some(one), None), &again).is_empty());
    }

    #[test]
    fn replicas_come_and_go_by_the_word_of_the_primary() {
        let with = |replicas: &[&str]| view(Some(lead("cache-1", 4, replicas)), None);
        assert_eq!(
            said(&with(&["cache-2"]), &with(&["cache-3"])),
            [
                format!("+slave slave {THREE}:6379 {THREE} 6379 @ cache {ONE} 6379"),
                format!("+sdown slave {TWO}:6379 {TWO} 6379 @ cache {ONE} 6379"),
            ]
        );
    }

    fn any_lead() -> impl Strategy<Value = Option<Lead>> {
        let instance = prop::sample::select(vec!["cache-1", "cache-2", "cache-3"]);
        let replicas = prop::sample::subsequence(vec!["cache-1", "cache-2", "cache-3"], 0..3);
        let lead = (instance, 1..5_u64, replicas).prop_map(|(instance, epoch, replicas)| {
            let replicas: Vec<&str> = replicas.into_iter().filter(|r| *r != instance).collect();
            lead(instance, epoch, &replicas)
        });
        prop::option::of(lead)
    }

    proptest! {
        #[test]
        fn who_follows_switches_ends_at_the_primary_that_is_known(all in prop::collection::vec(any_lead(), 1..12)) {
            let mut told: Option<String> = None;
            let mut before = view(all[0].clone(), None);
            if let Some(lead) = &before.now {
                told = Some(before.set.host(&lead.instance));
            }
            for now in &all[1..] {
                let after = view(now.clone(), before.last.clone());
                let published = events(&before, &after);
                let switches: Vec<_> = published.iter().filter(|e| e.channel == SWITCH).collect();
                prop_assert!(switches.len() <= 1);
                for event in switches {
                    let words: Vec<&str> = event.text.split(' ').collect();
                    prop_assert_eq!(words.len(), 5);
                    prop_assert_eq!(told.as_deref(), Some(words[1]), "it begins where the last one ended");
                    prop_assert_ne!(words[1], words[3]);
                    told = Some(words[3].to_owned());
                }
                if let Some(lead) = &after.now {
                    let host = after.set.host(&lead.instance);
                    // Whoever asked when nobody was known has not been told anything yet.
                    let told = told.get_or_insert(host.clone());
                    prop_assert_eq!(&*told, &host);
                }
                prop_assert!(events(&after, &after).is_empty());
                before = after;
            }
        }
    }
}
