//! Members that do not reach the holder say so through the Lease, where alone it can learn that. I/O.
//!
//! A holder that reaches the API server and none of its voters acknowledges nothing, and would keep
//! the Lease for ever. It lets go while enough of them say that they could elect another one. They say
//! it again and again with another number: a word that stands still says nothing of now. To a holder
//! that does not renew nothing is said: it would not read it, and whoever is about to acquire the Lease
//! would have to read it again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::{lease, leases};
use super::{Loop, Peer};
use crate::agent::clock::boottime;
use crate::election::member::Epoch;

/// What is said and heard.
#[derive(Default)]
pub(super) struct Words {
    /// What this member said last: of which epoch, and when.
    said: Option<(Epoch, Duration)>,
    count: u64,
    /// The number of each other, and when it was seen to change.
    heard: BTreeMap<String, (u64, Option<Duration>)>,
    /// Of whom the machine knows that they say it now.
    told: BTreeSet<String>,
}

impl Words {
    /// The Lease was seen.
    pub(super) fn hear(&mut self, stranded: &BTreeMap<String, u64>) {
        let now = boottime();
        for (name, count) in stranded {
            let heard = self.heard.entry(name.clone()).or_insert((*count, None));
            if heard.0 != *count {
                *heard = (*count, Some(now));
            }
        }
        self.heard.retain(|name, _| stranded.contains_key(name));
    }

    /// Who has said it lately.
    fn now(&self, patience: Duration) -> BTreeSet<String> {
        let now = boottime();
        let fresh = |at: &Option<Duration>| at.is_some_and(|at| now < at + patience);
        let heard = self.heard.iter().filter(|(_, (_, at))| fresh(at));
        heard.map(|(name, _)| name.clone()).collect()
    }
}

impl Loop {
    /// Who says now that another holder could be elected; for the machine.
    pub(super) fn connected(&mut self) -> BTreeSet<String> {
        self.words.told = self.words.now(self.setup.policy.timing.patience);
        self.words.told.clone()
    }

    /// Time has passed: say it if it is so, and have the machine know who does.
    pub(super) fn turn_words(&mut self) {
        self.tell_if_stranded();
        if self.words.now(self.setup.policy.timing.patience) != self.words.told {
            self.gather();
        }
    }

    fn tell_if_stranded(&mut self) {
        let Some(epoch) = self.stranded() else {
            self.words.said = None;
            return;
        };
        let now = boottime();
        let again = self.setup.policy.timing.patience / 2;
        let said = self.words.said;
        let said = said.is_some_and(|(of, at)| of == epoch && now < at + again);
        let (Some(seen), Some(api), false) = (&self.lease, self.api(), said) else {
            return;
        };
        self.words.said = Some((epoch, now));
        let place = &self.config.place;
        // Whatever a process before said last, this is another number.
        let last = self
            .look
            .as_ref()
            .and_then(|l| l.stranded.get(&place.instance));
        self.words.count = last.copied().unwrap_or(0).max(self.words.count) + 1;
        let lease = lease::stranded(seen, &place.instance, epoch, self.words.count);
        let (name, bound) = (place.set.clone(), self.setup.policy.timing.renew);
        tokio::spawn(async move { leases::say(api, &name, &lease, bound).await });
    }

    /// Under which epoch this member is stranded, if it is.
    fn stranded(&self) -> Option<Epoch> {
        let look = self.look.as_ref()?;
        let charter = look.seen.charter.as_ref()?;
        let group = charter.last().filter(|g| g.acks > 0)?;
        let me = &self.me;
        let leads = look.seen.holder.as_ref() == Some(&charter.ballot.holder);
        let follows = self.machine.holds().is_none() && charter.ballot.holder.member != *me;
        if !leads || !follows || !group.voters.contains(me) {
            return None;
        }
        let timing = &self.setup.policy.timing;
        let now = boottime();
        if now > self.machine.lease_since() + timing.renew * 2 {
            return None;
        }
        let holder = self.peers.get(charter.ballot.holder.member.name.as_str())?;
        if now < holder.reached().unwrap_or(holder.began()) + timing.patience {
            return None;
        }
        let lately = |peer: &Peer| peer.reached().is_some_and(|at| now < at + timing.renew * 2);
        let reached = group
            .voters
            .iter()
            .filter(|v| *v == me || self.peers.get(v.name.as_str()).is_some_and(lately));
        (reached.count() >= group.needed()).then_some(charter.ballot.epoch)
    }
}
