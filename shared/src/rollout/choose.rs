//! Choosing the one disruptive step of a pass.

use super::predicates::PREDICATES;
use crate::instances::Instance;
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
        let verb = match self.change {
            Change::Restart { .. } => "restart",
            Change::Replace { .. } => "replace",
            Change::Remove { .. } => "remove",
        };
        format!("{verb} {}", self.instance)
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
}

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
    let mut choice = Choice::default();
    for candidate in order {
        if let Some(chosen) = &choice.step {
            choice.refused.push(Wait {
                step: candidate.step(),
                predicate: "one_instance_at_a_time",
                reason: format!("{} is being changed", chosen.instance),
                after: None,
            });
            continue;
        }
        let refusal = PREDICATES.iter().find_map(|rule| {
            (rule.holds_back)(setting, candidate).map(|reason| (rule.name, reason))
        });
        match refusal {
            None => choice.step = Some(candidate.clone()),
            Some((predicate, reason)) => choice.refused.push(Wait {
                step: candidate.step(),
                predicate,
                reason,
                after: None,
            }),
        }
    }
    choice
}
