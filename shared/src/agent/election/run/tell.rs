//! What the loop tells the rest of the agent.

use super::super::disk::Job;
use super::super::driver::Leader;
use super::super::wire::Introduction;
use super::Loop;
use crate::agent::tell::set;
use crate::election::member::{Ballot, Text};
use crate::election::message::Wanted;

impl Loop {
    pub(super) fn publish(&mut self) {
        if self.renewing.is_some() {
            return;
        }
        let held = self.machine.holds().cloned();
        if held.as_ref().map(|b| b.epoch) != self.told.held.borrow().as_ref().map(|b| b.epoch) {
            if let Some(ballot) = &held {
                tracing::info!(epoch = %ballot.epoch, "the Lease is held");
            } else {
                tracing::info!("the Lease is not held any more");
            }
        }
        self.tenure.keep(self.machine.tenure());
        let wanted = self.shown();
        // Before the door is open: what leads clients takes its time, and until then they are refused
        // here as they are where they were led before.
        let pointed = match &wanted {
            Wanted::Primary { ballot, .. } if held.is_some() => Some(ballot.epoch.0),
            _ => None,
        };
        let charter = self.machine.charter().cloned();
        let leader = charter.as_ref().map(|c| self.leader(&c.ballot));
        let wait = self.machine.wait().map(ToString::to_string);
        let wait = match (wait, &self.trouble) {
            (Some(wait), Some(trouble)) => Some(format!("{wait} ({trouble})")),
            (wait, trouble) => wait.or_else(|| trouble.clone()),
        };
        set(&self.told.introduction, self.introduction());
        set(&self.told.me, self.me.clone());
        set(&self.told.charter, charter);
        set(&self.told.leader, leader);
        set(&self.told.held, held);
        set(&self.told.wait, wait);
        set(&self.told.wanted, wanted);
        set(&self.pointed, pointed);
    }

    /// How the engine should be, once it is durable which epoch claims the timeline.
    fn shown(&mut self) -> Wanted {
        let wanted = self.machine.wanted();
        let Wanted::Primary {
            ballot, timeline, ..
        } = &wanted
        else {
            return wanted;
        };
        let claim = (*timeline, ballot.epoch.0);
        if self.claims.contains(&claim) {
            return wanted;
        }
        if self.claiming != Some(claim) {
            self.claiming = Some(claim);
            let (timeline, epoch) = claim;
            self.job(Job::Claim { timeline, epoch });
        }
        Wanted::Detached
    }

    fn leader(&self, ballot: &Ballot) -> Leader {
        let name = ballot.holder.member.name.as_str();
        let by_lease = self.look.as_ref().filter(|look| {
            let charter = look.seen.charter.as_ref();
            charter.is_some_and(|c| c.ballot == *ballot)
        });
        let address = if name == self.config.place.instance {
            Some(self.config.place.address)
        } else {
            let by_lease = by_lease.and_then(|look| look.address);
            by_lease.or_else(|| self.roster.address(name))
        };
        Leader {
            ballot: ballot.clone(),
            address,
        }
    }

    fn introduction(&self) -> Introduction {
        let place = &self.config.place;
        Introduction {
            member: self.me.clone(),
            zone: self.setup.zone.as_deref().map(Text::from),
            position: self.position,
            room: self.setup.room,
            address: place.address.to_string(),
            peers: self.roster.addresses(),
        }
    }
}
