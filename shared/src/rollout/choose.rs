//! Choosing the one disruptive step of a pass.
//!
//! A primary that serves is not disturbed where a replica can take over: handing over comes first,
//! and by the next pass it is a replica like the others. If it refuses again and again, for example
//! since no replica ever has nearly everything, it is disturbed all the same.

use super::predicates::{PREDICATES, lowers_a_limit};
use super::window::Door;
use crate::instances::{Instance, PodSeen};
use crate::outcome::Wait;

/// A step that disturbs, proposed by a planner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Instance that is disturbed.
    pub instance: String,
    /// What is done to it.
    pub change: Change,
    /// Why, in words.
    pub why: String,
}

/// What is done to an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Restart the engine in its pod.
    Restart {
        /// Nonce of the agent's status that the decision was made on.
        nonce: String,
    },
    /// Go on with another agent, beside the engine.
    Upgrade {
        /// As with a restart.
        nonce: String,
    },
    /// Let a replica take over from this primary.
    HandOver {
        /// The instance that takes over; none where the best one may.
        to: Option<String>,
    },
    /// Delete the pod; the next pass makes it anew on its volume.
    Replace {
        /// Uid of the pod, a precondition.
        uid: String,
        /// Resource version of the pod, a precondition.
        resource_version: String,
    },
    /// Delete the pod of an instance that leaves the set.
    Remove {
        /// Uid of the pod, a precondition.
        uid: String,
        /// Resource version of the pod, a precondition.
        resource_version: String,
    },
}

impl Candidate {
    /// The step in a few words, for example `restart db-2`.
    pub fn step(&self) -> String {
        let name = &self.instance;
        match &self.change {
            Change::Restart { .. } => format!("restart {name}"),
            Change::Upgrade { .. } => format!("upgrade the agent of {name}"),
            Change::Replace { .. } => format!("replace {name}"),
            Change::Remove { .. } => format!("remove {name}"),
            Change::HandOver { to: Some(to) } => format!("hand over from {name} to {to}"),
            Change::HandOver { to: None } => format!("hand over from {name}"),
        }
    }
}

/// What the predicates judge by.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// All instances that are seen, leaving ones too.
    pub instances: &'a [Instance],
    /// Names of the members; one without pod or claim counts as missing.
    pub members: &'a [String],
    /// All candidates of this pass.
    pub candidates: &'a [Candidate],
    /// Name of the instance that may be primary.
    pub seat: &'a str,
    /// Replicas that must confirm a commit; 0 when commits wait for nobody.
    pub confirmations: usize,
    /// Hash of the wanted configuration.
    pub config_hash: &'a str,
    /// Own writes that the caches do not show yet, in words.
    pub unseen: Option<&'a str>,
    /// How often in a row the primary refused to hand over.
    pub refusals: u32,
    /// Whether the set may be disturbed now.
    pub door: Door,
}

/// A primary that refuses to hand over so often is restarted or replaced as it is.
const REFUSALS: u32 = 6;

impl<'a> Setting<'a> {
    /// The instance called `name`, if it is seen.
    pub fn instance(&self, name: &str) -> Option<&'a Instance> {
        self.instances.iter().find(|i| i.name == name)
    }

    /// Whether the instance called `name` serves.
    pub fn serves(&self, name: &str) -> bool {
        self.instance(name).is_some_and(Instance::serves)
    }

    /// Whether it is certain that the instance called `name` does not serve.
    pub fn is_down(&self, name: &str) -> bool {
        self.instance(name).is_none_or(Instance::is_down)
    }

    /// Whether it may, by what the primary says: where commits wait, those may for whom they do, not
    /// who is new or in the primary's zone.
    fn may_take_over(&self, name: &String) -> bool {
        let status = self.instance(self.seat).and_then(Instance::agent);
        let told = status.and_then(|s| s.acknowledging.as_ref());
        told.is_none_or(|told| told.needed == 0 || told.of.contains(name))
    }

    /// Members that stream from the primary, as the primary says; empty when it does not answer.
    pub fn streaming(&self) -> &'a [String] {
        self.instance(self.seat)
            .and_then(Instance::agent)
            .map_or(&[], |status| &status.streaming)
    }
}

/// What a pass may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The one disruptive step, if every rule agrees.
    pub step: Option<Candidate>,
    /// The others, each with the first rule that holds it back.
    pub refused: Vec<Wait>,
}

impl Choice {
    /// Of candidates in this order the first that `judge` lets pass: what is done for it, or the rule that holds it back and
    /// its reason. Whoever comes after it waits.
    pub fn of<'a>(
        order: impl IntoIterator<Item = &'a Candidate>,
        judge: impl Fn(&Candidate) -> Result<Candidate, (&'static str, String)>,
    ) -> Self {
        let mut choice = Self::default();
        for candidate in order {
            let outcome = match &choice.step {
                Some(chosen) => Err((
                    "one_instance_at_a_time",
                    format!("{} is being changed", chosen.instance),
                )),
                None => judge(candidate),
            };
            match outcome {
                Ok(step) => choice.step = Some(step),
                Err((predicate, reason)) => choice.refused.push(Wait {
                    step: candidate.step(),
                    predicate,
                    reason,
                    after: None,
                }),
            }
        }
        choice
    }
}

/// Choose at most one of the candidates.
///
/// Instances that do not serve anyway are asked first, since disturbing them costs nothing; then
/// replicas, the highest name first; the primary last.
pub fn choose(setting: &Setting<'_>) -> Choice {
    let mut order: Vec<&Candidate> = setting.candidates.iter().collect();
    order.sort_by_key(|c| {
        (
            !setting.is_down(&c.instance),
            c.instance == setting.seat,
            std::cmp::Reverse(&c.instance),
        )
    });
    Choice::of(order, |candidate| judge(setting, candidate))
}

/// What is done for a candidate, or the rule that holds it back and its reason.
fn judge(
    setting: &Setting<'_>,
    candidate: &Candidate,
) -> Result<Candidate, (&'static str, String)> {
    let refusal = PREDICATES
        .iter()
        .find_map(|rule| Some((rule.name, (rule.holds_back)(setting, candidate)?)));
    match refusal {
        Some(refusal) => Err(refusal),
        None => gently(setting, candidate)
            .map_err(|reason| ("wait_until_somebody_can_take_over", reason)),
    }
}

/// The candidate itself, or what comes before it: a primary that serves hands over first. Why not,
/// where a hand-over was asked for and nobody can take over.
fn gently(setting: &Setting<'_>, candidate: &Candidate) -> Result<Candidate, String> {
    let hand_over = |to: String, why: String| Candidate {
        instance: candidate.instance.clone(),
        change: Change::HandOver { to: Some(to) },
        why,
    };
    let leads = candidate.instance == setting.seat && setting.serves(setting.seat);
    match &candidate.change {
        Change::HandOver { to: None } => {
            let to = successor(setting).ok_or("no replica that streams can take over")?;
            Ok(hand_over(to, candidate.why.clone()))
        }
        Change::HandOver { to: Some(to) }
            if !(setting.streaming().contains(to) && setting.serves(to)) =>
        {
            Err(format!("{to} does not stream from {}", setting.seat))
        }
        Change::Restart { .. } | Change::Replace { .. }
            if leads && !lowers_a_limit(setting) && setting.refusals < REFUSALS =>
        {
            // With nobody who could take over it is a short interruption.
            Ok(successor(setting).map_or_else(
                || candidate.clone(),
                |to| hand_over(to, format!("{}: {}", candidate.step(), candidate.why)),
            ))
        }
        _ => Ok(candidate.clone()),
    }
}

/// Who takes over best: a replica that streams, of which nothing is to be changed, on a node that
/// takes pods, and that lacks least.
fn successor(setting: &Setting<'_>) -> Option<String> {
    let streams = setting.streaming().iter();
    let able = streams.filter(|name| {
        **name != setting.seat
            && setting.members.contains(name)
            && setting.serves(name)
            && setting.may_take_over(name)
    });
    let rank = |name: &&String| {
        let instance = setting.instance(name);
        let pod = instance.and_then(|i| i.pod.as_ref());
        let lag = instance.and_then(Instance::agent).and_then(|s| s.lag_bytes);
        (
            setting.candidates.iter().any(|c| c.instance == **name),
            pod.is_some_and(PodSeen::must_move),
            lag.unwrap_or(u64::MAX) >> 20,
            (*name).clone(),
        )
    };
    able.min_by_key(rank).cloned()
}

#[cfg(test)]
#[path = "choose_tests.rs"]
mod tests;
