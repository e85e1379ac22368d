//! Questions of peers and their answers.

use super::{
    Answer, Ask, Ballot, Broken, Charter, Effect, Engine, Epoch, Machine, Member, Moment, Refusal,
    Role, stand::Promise,
};

impl Machine {
    pub(super) fn asked(&mut self, now: Moment, from: Member, ask: Ask, out: &mut Vec<Effect>) {
        match ask {
            Ask::Promise(ballot) => {
                if ballot.holder.member != from {
                    return;
                }
                if let Some(why) = self.refusal(now, &ballot) {
                    out.push(self.refuse(from, ballot, why));
                    return;
                }
                self.memory.promise = Some(ballot.clone());
                self.owed = Some(ballot);
                self.voted = Some(now);
                self.role = Role::Follower;
            }
            Ask::Adopt(charter) => {
                if charter.ballot.holder.member != from {
                    return;
                }
                if !self.serves(&charter.ballot) {
                    out.push(self.refuse(from, charter.ballot, Refusal::Promised));
                    return;
                }
                self.confirms = self.confirms.max(Some(charter.stamp()));
                self.memory.hear(&charter);
            }
            Ask::Hold { ballot, sent } => {
                let current = self.memory.charter.as_ref().map(|c| &c.ballot);
                let follows = current == Some(&ballot) && matches!(self.role, Role::Follower);
                if ballot.holder.member != from || !follows || !self.serves(&ballot) {
                    out.push(self.refuse(from, ballot, Refusal::Promised));
                    return;
                }
                self.bound = Some(now + self.policy.timing.duration);
                out.push(Effect::Answer(from, Answer::Holding { ballot, sent }));
            }
            Ask::Released { ballot, successor } => {
                if ballot.holder.member == from {
                    self.released = Some((ballot, successor));
                }
            }
            Ask::Stand(ballot) => {
                if self.memory.promise == Some(ballot) {
                    self.voted = None;
                    self.not_before = now;
                }
            }
        }
    }

    pub(super) fn answered(&mut self, now: Moment, from: &Member, answer: Answer) {
        match answer {
            Answer::Promised {
                ballot,
                position,
                timeline,
                room,
                charter,
            } => {
                self.heard(charter.as_ref());
                if let Role::Candidate(candidacy) = &mut self.role
                    && candidacy.ballot == ballot
                {
                    let promise = Promise {
                        position,
                        timeline,
                        fit: room.fits(),
                    };
                    candidacy.promises.insert(from.clone(), promise);
                }
            }
            Answer::Refused {
                ballot,
                epoch,
                charter,
                ..
            } => {
                self.heard(charter.as_ref());
                self.highest = self.highest.max(epoch);
                match &mut self.role {
                    Role::Candidate(candidacy)
                        if candidacy.ballot == ballot && epoch >= ballot.epoch =>
                    {
                        // The same epoch again would be refused again.
                        self.role = Role::Follower;
                        self.not_before = now + self.policy.timing.stagger;
                    }
                    Role::Holder(term)
                        if term.charter.ballot == ballot && epoch >= ballot.epoch =>
                    {
                        term.outranked.entry(from.clone()).or_insert(now);
                    }
                    _ => {}
                }
            }
            Answer::Adopted(ballot, stamp) => {
                if let Role::Holder(term) = &mut self.role
                    && term.charter.ballot == ballot
                    && term.charter.stamp() == stamp
                {
                    term.adopted.insert(from.clone());
                    term.outranked.remove(from);
                }
            }
            Answer::Holding { ballot, sent } => {
                if let Role::Holder(term) = &mut self.role
                    && term.charter.ballot == ballot
                {
                    let last = term.holds.entry(from.clone()).or_default();
                    *last = sent.max(*last);
                }
            }
        }
    }

    /// Give the answers that had to wait for the disk or the engine.
    pub(super) fn pay(&mut self, now: Moment, out: &mut Vec<Effect>) {
        if let Some(ballot) = self.owed.clone() {
            let decided = self.durable.charter.as_ref().map(|c| &c.ballot) == Some(&ballot);
            if self.memory.promise.as_ref() != Some(&ballot) || decided {
                // Nobody waits for it any more: another has been promised, or this one leads by now.
                self.owed = None;
            } else if self.durable.promise.as_ref() == Some(&ballot)
                && let Engine::Detached { position, timeline } = self.engine
            {
                self.owed = None;
                self.voted = Some(now);
                out.push(Effect::Answer(
                    ballot.holder.member.clone(),
                    Answer::Promised {
                        ballot,
                        position,
                        timeline,
                        room: self.room,
                        charter: self.memory.charter.clone(),
                    },
                ));
            }
        }
        if let Some(stamp) = self.confirms
            && let Some(charter) = self.durable.charter.as_ref()
            && charter.stamp() >= stamp
        {
            let ballot = charter.ballot.clone();
            self.confirms = None;
            if ballot.epoch == stamp.0 && self.serves(&ballot) {
                let to = ballot.holder.member.clone();
                out.push(Effect::Answer(to, Answer::Adopted(ballot, stamp)));
            }
        }
    }

    /// Why a promise is refused, if it is.
    fn refusal(&self, now: Moment, ballot: &Ballot) -> Option<Refusal> {
        let known = self.memory.charter.as_ref().map(|c| c.ballot.epoch);
        let excused = self.is_pod_of_holder(&ballot.holder) || self.is_released();
        if !ballot.admitted_by(self.memory.promise.as_ref()) || known >= Some(ballot.epoch) {
            Some(Refusal::Promised)
        } else if matches!(self.role, Role::Holder(_)) {
            Some(Refusal::Primary)
        } else if self.memory.promise.as_ref() == Some(ballot) {
            // Promised before: the answer was lost.
            None
        } else if self.is_bound(now) && !excused && self.rules.keep(Broken::FailSafeIgnored) {
            Some(Refusal::Holding)
        } else if self.has_just_started(now) && !excused {
            Some(Refusal::JustStarted)
        } else if !self.is_free(now, &ballot.holder) {
            Some(Refusal::LeaseLives)
        } else {
            None
        }
    }

    fn refuse(&self, to: Member, ballot: Ballot, why: Refusal) -> Effect {
        Effect::Answer(
            to,
            Answer::Refused {
                ballot,
                epoch: self.epoch(),
                why,
                charter: self.memory.charter.clone(),
            },
        )
    }

    /// Whether neither a promise nor a later charter stands against serving that ballot.
    pub(super) fn serves(&self, ballot: &Ballot) -> bool {
        let known = self.memory.charter.as_ref().map(|c| &c.ballot);
        ballot.admitted_by(self.memory.promise.as_ref()) && ballot.admitted_by(known)
    }

    fn heard(&mut self, charter: Option<&Charter>) {
        if let Some(charter) = charter {
            self.memory.hear(charter);
        }
    }

    /// Highest epoch that this member has promised or heard of.
    pub(super) fn epoch(&self) -> Epoch {
        self.memory.epoch().max(self.highest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::election::charter::Durable;
    use crate::election::machine::Start;
    use crate::election::member::Holder;
    use crate::election::message::Wanted;
    use crate::election::policy::{Durability, Policy, Timing};

    fn holder(name: &str) -> Holder {
        Holder {
            member: Member::new(name, "g"),
            pod: name.into(),
            nonce: "n".into(),
        }
    }

    /// Whoever cannot tell where its log ends, for example since its data is half rewound, would
    /// otherwise wait for ever, and never be made anew.
    #[test]
    fn a_vote_that_nobody_waits_for_any_more_is_not_owed() {
        let ballot = Ballot {
            epoch: Epoch(4),
            holder: holder("db-2"),
        };
        let mut machine = Machine::new(Start {
            me: holder("db-1"),
            policy: Policy {
                durability: Durability::Required,
                across_zones: false,
                max_lag: 0,
                timing: Timing::DEFAULT,
            },
            durable: Durable {
                promise: Some(ballot.clone()),
                charter: None,
            },
            now: Moment::default(),
        });
        machine.owed = Some(ballot.clone());
        let mut out = Vec::new();
        machine.pay(Moment::default(), &mut out);
        assert_eq!(
            machine.owed.as_ref(),
            Some(&ballot),
            "it may still be needed"
        );

        let charter = Charter {
            ballot: ballot.clone(),
            version: 1,
            groups: Vec::new(),
            members: [holder("db-1").member, holder("db-2").member].into(),
            timeline: 5,
            fork: 0,
            successor: None,
            identifier: None,
        };
        machine.memory.hear(&charter);
        machine.durable.hear(&charter);
        machine.pay(Moment::default(), &mut out);
        assert_eq!(machine.owed, None);
        assert_eq!(machine.wanted(), Wanted::Follow(ballot));
    }
}
