//! Sets that lead themselves ([`Common::self_led`](super::validated::Common::self_led)): several instances take writes, and
//! the engines agree on who. The operator asks the engine what to do next, and disturbs only whom it grants. Values only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::ByteString;
use rustls::ClientConfig;

use super::engine::Engine;
use crate::instances::{self, Instance, Phase, Wanted};
use crate::metadata::SetId;
use crate::outcome::Wait;
use crate::rollout::{Candidate, Change, Choice, Door, Setting, held_back, unseen};

/// An instance, and what shall become of it.
#[derive(Clone, Debug)]
pub struct Rider<'a> {
    /// As it is seen.
    pub instance: &'a Instance,
    /// It shall leave.
    pub leaving: bool,
    /// It shall be restarted or replaced, and nothing but its turn is waited for.
    pub outdated: bool,
    /// What is on its volume is nothing that the wanted engine can use.
    pub unusable: bool,
}

impl Rider<'_> {
    /// Whether it is certain that its engine does not run: its pod is gone, or has not begun or has ended.
    ///
    /// What an agent says is not enough: it may be of a moment.
    pub fn is_gone(&self) -> bool {
        let pod = self.instance.pod.as_ref();
        pod.is_none_or(|p| !p.deleting && matches!(p.phase, Phase::Pending | Phase::Ended))
    }

    /// Whether what it had can come back with it.
    pub fn keeps_data(&self) -> bool {
        let claim = self.instance.claim.as_ref();
        claim.is_some_and(|c| !c.lost)
    }

    /// Whether its volume is gone for good.
    pub fn has_lost(&self) -> bool {
        let claim = self.instance.claim.as_ref();
        claim.is_some_and(|c| c.lost)
    }

    /// Whether its volume goes with its pod.
    pub fn loses_data(&self) -> bool {
        let claim = self.instance.claim.as_ref();
        claim.is_none_or(|c| c.deleting || c.lost)
    }
}

/// What an engine is asked with.
pub struct Steering<'a, E: Engine> {
    /// The set.
    pub set: &'a SetId,
    /// As it is meant.
    pub validated: &'a E::Validated,
    /// The status as it stands.
    pub before: &'a E::Status,
    /// Instances: members, and those that leave.
    pub riders: Vec<Rider<'a>>,
    /// Trust in the set's authority.
    pub tls: Arc<ClientConfig>,
    /// The set's own passwords ([`crate::names::internal_secret`]).
    pub internal: Option<&'a BTreeMap<String, ByteString>>,
    /// Whether anybody may be disturbed: not while what was done last is not seen yet.
    pub may_disturb: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Steered {
    /// Who may be restarted, replaced or removed now.
    pub granted: Option<String>,
    /// Whose volume is gone for good or cannot be used, and has nothing that nobody else has.
    pub spared: BTreeSet<String>,
    /// Who cannot go on with what it has, being a replica of a newer engine, and why, in words: it gets a new volume, and
    /// waits for no window, since it is no copy any more.
    pub superseded: BTreeMap<String, String>,
    /// What waits.
    pub waits: Vec<Wait>,
    /// Something was done.
    pub works: bool,
    /// Nothing is left to do but what is granted.
    pub calm: bool,
    /// What is left to do, in words.
    pub pending: Vec<String>,
    /// When to look again.
    pub again: Option<Duration>,
}

/// What is waited for where nobody was asked.
pub const NOT_ITS_TURN: &str = "wait_for_its_turn";

/// Instances with what shall become of them. One that the user's windows hold back is left as it is.
pub fn riders<'a>(wanted: &Wanted, found: &'a [Instance], door: Door) -> Vec<Rider<'a>> {
    let steps = instances::plan(wanted, found);
    let members = &steps.membership;
    let mut riders = Vec::new();
    for instance in found {
        let stays = members.members.contains(&instance.ordinal);
        let leaving = members.leaving.contains(&instance.ordinal);
        let candidate = steps
            .candidates
            .iter()
            .find(|c| c.instance == instance.name);
        let outdated = candidate.is_some_and(|c| {
            let changes = matches!(c.change, Change::Restart { .. } | Change::Replace { .. });
            changes && (door == Door::Open || instance.is_down())
        });
        if stays || leaving {
            riders.push(Rider {
                instance,
                leaving,
                outdated,
                unusable: wanted.unusable.contains_key(&instance.ordinal),
            });
        }
    }
    riders
}

/// The one step of a pass, of those that are proposed: what the engine grants, if nothing else holds it back. An agent is
/// upgraded when all is calm and everybody serves.
pub fn choose(setting: &Setting<'_>, steered: &Steered) -> Choice {
    Choice::of(setting.candidates, |candidate| {
        judge(setting, steered, candidate).map(|()| candidate.clone())
    })
}

fn judge(
    setting: &Setting<'_>,
    steered: &Steered,
    candidate: &Candidate,
) -> Result<(), (&'static str, String)> {
    let granted = steered.granted.as_ref() == Some(&candidate.instance);
    match &candidate.change {
        Change::Upgrade { .. } => {
            let unwell = setting.members.iter().find_map(|name| {
                let unknown = || Some(format!("{name} is not there yet"));
                setting
                    .instance(name)
                    .map_or_else(unknown, Instance::unwell)
            });
            if let Some(unwell) = unwell {
                return Err(("one_instance_at_a_time", unwell));
            }
            if !steered.calm || steered.granted.is_some() {
                return Err((NOT_ITS_TURN, "the set is being changed".to_owned()));
            }
        }
        Change::HandOver { .. } => {
            return Err((NOT_ITS_TURN, "the set leads itself".to_owned()));
        }
        Change::Replace { .. }
            if granted && steered.superseded.contains_key(&candidate.instance) =>
        {
            return unseen(setting, candidate).map_or(Ok(()), Err);
        }
        // It does not run, so nobody is disturbed: else what made it so could not be mended.
        Change::Replace { .. } if is_stuck(setting, &candidate.instance) => {}
        Change::Restart { .. } | Change::Replace { .. } | Change::Remove { .. } if !granted => {
            let why = steered.waits.first().map_or_else(
                || "another step comes first".to_owned(),
                |wait| wait.reason.clone(),
            );
            return Err(held_back(setting, candidate).unwrap_or((NOT_ITS_TURN, why)));
        }
        _ => {}
    }
    held_back(setting, candidate).map_or(Ok(()), Err)
}

fn is_stuck(setting: &Setting<'_>, name: &str) -> bool {
    let seen = setting.instance(name);
    seen.is_some_and(|i| i.pod.is_some() && i.is_stuck())
}

#[cfg(test)]
#[path = "steer_tests.rs"]
mod tests;
