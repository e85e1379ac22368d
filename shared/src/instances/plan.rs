//! What to do next for the instances of a set.
//!
//! Steps that disturb nobody go at once and all together, each instance for itself: one sick
//! instance never holds up another. What disturbs is only proposed here, as candidates;
//! [`crate::rollout`] chooses at most one of them per pass.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use mainstay_crds::common::InstanceRole;

use super::membership::Membership;
use super::observed::{ClaimSeen, Instance, Phase, PodSeen};
use super::template::first_difference;
use crate::agent::api;
use crate::names;
use crate::rollout::{Candidate, Change};

/// What the set should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Name of the set.
    pub set: String,
    /// Number of instances.
    pub count: u32,
    /// Ordinal of the instance that is primary, or will be first.
    pub seat: u32,
    /// Ordinals of claims that are set aside: no new instance gets one.
    pub taken: BTreeSet<u32>,
    /// Ordinals of instances whose data the wanted engine cannot use, and why, in words: they get a new volume, except
    /// the primary. Of a set whose engines agree by themselves: those that are in `spared` too.
    pub unusable: BTreeMap<u32, String>,
    /// Whether the set has data: then it is never initialised again.
    pub initialised: bool,
    /// Revision of the pod template.
    pub revision: String,
    /// Inputs of that template, to tell differences in words.
    pub template: String,
    /// Hash of the configuration.
    pub config_hash: String,
    /// Hash of the logins that agents find in their Secret; none while there is no Secret.
    pub users_hash: Option<String>,
    /// Bytes of each volume.
    pub storage: i64,
    /// The agents' program.
    pub agent: api::Program,
    /// Its engines agree by themselves on who takes writes: nobody has the seat, and all begin at once.
    pub self_led: bool,
    /// Of such a set: instances that have left and have nothing that anybody needs.
    pub released: BTreeSet<String>,
    /// Of such a set: instances whose volume has, or had, nothing that others have not.
    pub spared: BTreeSet<String>,
}

impl Wanted {
    /// Whether an instance is the one that may be primary.
    fn is_seat(&self, instance: &Instance) -> bool {
        !self.self_led && instance.ordinal == self.seat
    }

    /// Whether instances other than the first may begin.
    fn is_begun(&self) -> bool {
        self.self_led || self.initialised
    }
}

/// A step that disturbs nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make the instance's claim.
    CreateClaim { instance: String },
    /// Make the instance's pod from the wanted template.
    CreatePod { instance: String },
    /// Ask for a larger volume.
    GrowClaim {
        instance: String,
        uid: String,
        resource_version: String,
        to: i64,
    },
    /// Delete a claim: of an instance that left, or one whose volume is gone.
    DeleteClaim {
        instance: String,
        uid: String,
        resource_version: String,
        why: String,
    },
    /// Delete a pod that has ended and never comes back by itself.
    ClearPod {
        instance: String,
        uid: String,
        resource_version: String,
        why: String,
    },
    /// Label the pod with its role, by which the replicas' Service finds it.
    SetRole {
        instance: String,
        uid: String,
        role: &'static str,
    },
    /// Tell the kubelet to refresh the pod's mounts, by touching an annotation.
    RefreshMounts {
        instance: String,
        uid: String,
        config_hash: String,
        users_hash: Option<String>,
    },
    /// Ask the agent to take over the configuration.
    Reload {
        instance: String,
        config_hash: String,
    },
}

/// Something that does not get better by itself, or not soon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Instance that has it.
    pub instance: String,
    /// What it is.
    pub kind: TroubleKind,
    /// In a sentence, with what can be done.
    pub sentence: String,
    /// Since when, if known.
    pub since: Option<Timestamp>,
}

/// Kinds of [`Trouble`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TroubleKind {
    /// The primary's volume is gone: nothing is made in its place.
    PrimaryVolumeLost,
    /// The primary's claim is being deleted and lives as long as its pod.
    PrimaryVolumeLeaving,
    /// No node takes the pod.
    Unschedulable,
    /// The kubelet cannot start the pod.
    NotStarting,
    /// A resize does not go on.
    Resize,
    /// The agent says that a person is needed.
    Failed,
    /// A new agent did not work and was given up: nobody else gets it.
    AgentGivenUp,
}

/// What to do next.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Who belongs to the set.
    pub membership: Membership,
    /// Steps to make now.
    pub steps: Vec<Step>,
    /// Steps that disturb, of which [`crate::rollout::choose`] takes at most one.
    pub candidates: Vec<Candidate>,
    /// What does not get better by itself.
    pub troubles: Vec<Trouble>,
    /// What was asked for already and goes on without us, in sentences.
    pub unfinished: Vec<String>,
}

/// Plan the next steps.
///
/// Guarantees: a second call on a settled set returns no step and no candidate; the volume of a
/// primary with data is never replaced; no pod is made for an instance that leaves; a claim is
/// deleted only after its instance left, or when Kubernetes says that its volume is gone.
pub fn plan(wanted: &Wanted, instances: &[Instance]) -> Plan {
    let membership = Membership::beside(wanted.count, wanted.seat, instances, &wanted.taken);
    let seat_serves = instances.iter().any(|i| wanted.is_seat(i) && i.serves());
    let mut plan = Plan::default();
    let absent = Instance {
        name: String::new(),
        ordinal: 0,
        pod: None,
        claim: None,
        agent: super::observed::Known::Unreachable("it has no pod".to_owned()),
    };
    let refuge = refuge(wanted, &membership, instances);
    let given_up = given_up(wanted, instances);
    let copies = instances.iter().any(|i| {
        let whole = |claim: &ClaimSeen| !claim.lost && !claim.deleting;
        !wanted.is_seat(i) && i.claim.as_ref().is_some_and(whole)
    });
    let others = Others {
        copies,
        seat_serves,
    };
    for ordinal in &membership.members {
        let seen = instances.iter().find(|i| i.ordinal == *ordinal).cloned();
        let instance = seen.unwrap_or_else(|| Instance {
            name: names::instance(&wanted.set, *ordinal),
            ordinal: *ordinal,
            ..absent.clone()
        });
        member(wanted, &instance, others, &mut plan);
        leave_node(wanted, &instance, refuge, &mut plan);
        if given_up.is_none() {
            upgrade(wanted, &instance, &mut plan);
        }
    }
    plan.troubles.extend(given_up);
    let leaving: BTreeSet<u32> = membership.leaving.iter().copied().collect();
    for ordinal in &membership.leaving {
        for instance in instances.iter().filter(|i| i.ordinal == *ordinal) {
            let spared = seat_serves || wanted.released.contains(&instance.name);
            leaver(instance, spared, &mut plan);
        }
    }
    debug_assert!(!leaving.contains(&wanted.seat));
    plan.membership = membership;
    plan
}

/// What the plan of a member has to know of the others.
#[derive(Clone, Copy)]
struct Others {
    /// One that may not be primary has a volume.
    copies: bool,
    /// The primary serves.
    seat_serves: bool,
}

fn member(wanted: &Wanted, instance: &Instance, others: Others, plan: &mut Plan) {
    let is_seat = wanted.is_seat(instance);
    let keeps_data = is_seat && wanted.initialised;
    let usable_claim = claim(wanted, instance, keeps_data, others.copies, plan)
        && !(is_left_behind(wanted, instance, is_seat)
            && leave_behind(wanted, instance, others.seat_serves, plan));
    match &instance.pod {
        Some(pod) => running(wanted, instance, pod, is_seat, plan),
        // The first instance alone until the set has data, then all of them.
        None if usable_claim && (is_seat || wanted.is_begun()) => {
            plan.steps.push(Step::CreatePod {
                instance: instance.name.clone(),
            });
        }
        None => {}
    }
}

/// A replica that serves, on a node that takes pods.
fn refuge<'a>(
    wanted: &Wanted,
    membership: &Membership,
    instances: &'a [Instance],
) -> Option<&'a str> {
    let able = instances.iter().filter(|i| {
        let stays = i.pod.as_ref().is_some_and(|p| !p.must_move());
        membership.members.contains(&i.ordinal) && !wanted.is_seat(i) && stays && i.serves()
            // It gets a new volume: what it wrote is not to be everybody's.
            && !wanted.unusable.contains_key(&i.ordinal)
    });
    let lag = |i: &&Instance| i.agent().and_then(|s| s.lag_bytes).unwrap_or(u64::MAX) >> 20;
    able.min_by_key(lag).map(|i| i.name.as_str())
}

/// A primary on a node that takes no pods any more hands over before the node is drained.
fn leave_node(wanted: &Wanted, instance: &Instance, refuge: Option<&str>, plan: &mut Plan) {
    let (Some(pod), Some(to)) = (&instance.pod, refuge) else {
        return;
    };
    let leads = wanted.is_seat(instance) && instance.serves();
    if !(leads && pod.cordoned) || pod.deleting || is_proposed(plan, &instance.name) {
        return;
    }
    let node = pod.node.as_deref().unwrap_or("its node");
    plan.candidates.push(Candidate {
        instance: instance.name.clone(),
        change: Change::HandOver {
            to: Some(to.to_owned()),
        },
        why: format!("{node} takes no pods any more"),
    });
}

/// An agent that is not the operator's own program is upgraded in place, one at a time.
fn upgrade(wanted: &Wanted, instance: &Instance, plan: &mut Plan) {
    let Some(status) = instance.agent().filter(|_| instance.serves()) else {
        return;
    };
    let (Some(runs), false) = (&status.program, is_proposed(plan, &instance.name)) else {
        return;
    };
    let offered = &wanted.agent;
    // A program for other processors would only be given up: that agent stays until its pod is made anew.
    if runs.sha256 == offered.sha256 || runs.architecture != offered.architecture {
        return;
    }
    plan.candidates.push(Candidate {
        instance: instance.name.clone(),
        change: Change::Upgrade {
            nonce: status.nonce.clone(),
        },
        why: "its agent is not that of this operator; the engine keeps running".to_owned(),
    });
}

/// The first instance that has tried out this operator's agent in vain.
fn given_up(wanted: &Wanted, instances: &[Instance]) -> Option<Trouble> {
    instances.iter().find_map(|instance| {
        let given_up = instance.agent()?.given_up.as_ref()?;
        (given_up.sha256 == wanted.agent.sha256).then(|| Trouble {
            instance: instance.name.clone(),
            kind: TroubleKind::AgentGivenUp,
            sentence: format!(
                "The agent of this operator does not work in {}, which went back to the one before ({}). The others keep theirs: install another release of the operator, or delete the pod to try again.",
                instance.name, given_up.why
            ),
            since: None,
        })
    })
}

/// What a person is told whose primary's volume is gone; `copies` says whether others have theirs.
fn volume_lost(name: &str, what: &str, copies: bool) -> Trouble {
    let then = if copies {
        "A replica with all that was acknowledged takes over by itself. If none does"
    } else {
        "So that it goes on"
    };
    Trouble {
        instance: name.to_owned(),
        kind: TroubleKind::PrimaryVolumeLost,
        sentence: format!(
            "{what} of the primary {name} is gone, and the set has data: it is not initialised again. {then}, give it back, or delete this resource and restore a backup into a new one."
        ),
        since: None,
    }
}

/// What a person is told where members lead themselves: whether others have what was on it is not known here.
fn member_lost(name: &str) -> Trouble {
    Trouble {
        instance: name.to_owned(),
        kind: TroubleKind::PrimaryVolumeLost,
        sentence: format!(
            "The volume of {name} is gone, and it may have been the only copy: nothing is made in its place before another member is seen to lead with its data. Give it back, or delete the claim {} and its pod: an empty one takes its place.",
            names::data_claim(name)
        ),
        since: None,
    }
}

/// Steps for the claim of a member; whether a pod may be made on it. `copies`: others have volumes.
fn claim(
    wanted: &Wanted,
    instance: &Instance,
    keeps_data: bool,
    copies: bool,
    plan: &mut Plan,
) -> bool {
    let name = &instance.name;
    let Some(claim) = &instance.claim else {
        if keeps_data {
            let what = format!("The volume claim {}", names::data_claim(name));
            plan.troubles.push(volume_lost(name, &what, copies));
            return false;
        }
        let wanted_now = wanted.is_seat(instance) || wanted.is_begun();
        if wanted_now {
            plan.steps.push(Step::CreateClaim {
                instance: name.clone(),
            });
        }
        return wanted_now;
    };
    if claim.lost {
        if wanted.self_led && !wanted.spared.contains(name) {
            plan.troubles.push(member_lost(name));
            return false;
        }
        lost(instance, claim, keeps_data, copies, plan);
        return false;
    }
    if claim.deleting {
        leaving_claim(instance, keeps_data, plan);
        return false;
    }
    if claim.bound && claim.asked < wanted.storage {
        plan.steps.push(Step::GrowClaim {
            instance: name.clone(),
            uid: claim.uid.clone(),
            resource_version: claim.resource_version.clone(),
            to: wanted.storage,
        });
    }
    let smaller = claim.got.is_some_and(|got| got < wanted.storage);
    if claim.bound && claim.asked >= wanted.storage && smaller {
        plan.unfinished
            .push(format!("The volume of {name} is being enlarged."));
    }
    if let Some(resize) = &claim.resize {
        plan.troubles.push(Trouble {
            instance: name.clone(),
            kind: TroubleKind::Resize,
            sentence: format!("The volume of {name} does not grow: {resize}"),
            since: None,
        });
    }
    true
}

/// Kubernetes says that the volume behind the claim is gone.
fn lost(instance: &Instance, claim: &ClaimSeen, keeps_data: bool, copies: bool, plan: &mut Plan) {
    let name = &instance.name;
    if keeps_data {
        plan.troubles.push(volume_lost(name, "The volume", copies));
    } else if !claim.deleting {
        plan.steps.push(Step::DeleteClaim {
            instance: name.clone(),
            uid: claim.uid.clone(),
            resource_version: claim.resource_version.clone(),
            why: format!("the volume of {name} is gone; it is cloned anew"),
        });
    }
    if let Some(pod) = instance.pod.as_ref().filter(|p| !p.deleting && !keeps_data) {
        plan.candidates.push(replace(
            instance,
            pod,
            format!("the volume of {name} is gone"),
        ));
    }
}

/// Whether the data of a replica is nothing that the wanted engine can use.
fn is_left_behind(wanted: &Wanted, instance: &Instance, is_seat: bool) -> bool {
    !is_seat && wanted.unusable.contains_key(&instance.ordinal)
}

/// A replica whose data the wanted engine cannot use gets a new volume, as long as the primary works; whether its claim is not
/// to be used any more.
fn leave_behind(wanted: &Wanted, instance: &Instance, seat_serves: bool, plan: &mut Plan) -> bool {
    let name = &instance.name;
    let spared = seat_serves || wanted.spared.contains(name);
    let (Some(claim), Some(why)) = (&instance.claim, wanted.unusable.get(&instance.ordinal)) else {
        return false;
    };
    match &instance.pod {
        Some(pod) if !pod.deleting => plan.candidates.push(replace(
            instance,
            pod,
            format!("{why}; {name} is cloned anew"),
        )),
        Some(_) => {}
        None if spared => plan.steps.push(Step::DeleteClaim {
            instance: name.clone(),
            uid: claim.uid.clone(),
            resource_version: claim.resource_version.clone(),
            why: format!("{why}; it is cloned anew"),
        }),
        None => plan.unfinished.push(format!(
            "{name} gets a new volume once its primary serves: {why}."
        )),
    }
    true
}

/// The claim is being deleted: it goes when no pod uses it any more.
fn leaving_claim(instance: &Instance, keeps_data: bool, plan: &mut Plan) {
    let name = &instance.name;
    let Some(pod) = instance.pod.as_ref().filter(|p| !p.deleting) else {
        return;
    };
    if keeps_data {
        plan.troubles.push(Trouble {
            instance: name.clone(),
            kind: TroubleKind::PrimaryVolumeLeaving,
            sentence: format!(
                "Somebody deleted the volume claim {} of the primary. It lives as long as its pod runs, so nothing restarts that pod: save the data now.",
                names::data_claim(name)
            ),
            since: None,
        });
    } else {
        plan.candidates.push(replace(
            instance,
            pod,
            format!("the volume claim of {name} was deleted"),
        ));
    }
}

fn running(wanted: &Wanted, instance: &Instance, pod: &PodSeen, is_seat: bool, plan: &mut Plan) {
    let name = &instance.name;
    if let Some(waiting) = &pod.waiting {
        let unschedulable = waiting.reason == "Unschedulable";
        plan.troubles.push(Trouble {
            instance: name.clone(),
            kind: if unschedulable {
                TroubleKind::Unschedulable
            } else {
                TroubleKind::NotStarting
            },
            sentence: if unschedulable {
                format!("No node takes the pod of {name}: {}", waiting.message)
            } else {
                format!(
                    "The pod of {name} does not start ({}): {}",
                    waiting.reason, waiting.message
                )
            },
            since: waiting.since,
        });
    }
    if pod.deleting {
        return;
    }
    if pod.phase == Phase::Ended {
        plan.steps.push(Step::ClearPod {
            instance: name.clone(),
            uid: pod.uid.clone(),
            resource_version: pod.resource_version.clone(),
            why: format!("the pod of {name} has ended"),
        });
        return;
    }
    let told = instance.agent().map(|status| status.role);
    let leads = is_seat || (wanted.self_led && told == Some(InstanceRole::Primary));
    let role = role(leads);
    // Once it is so, not as soon as it shall be: by these labels the replicas' Service changes, and
    // what leads clients follows one change a second; the primary's comes first.
    let is_so = instance.agent().is_some_and(|status| {
        let primary = status.role == InstanceRole::Primary;
        status.ready && status.role != InstanceRole::Unknown && primary == leads
    });
    if pod.role.as_deref() != Some(role) && is_so {
        plan.steps.push(Step::SetRole {
            instance: name.clone(),
            uid: pod.uid.clone(),
            role,
        });
    }
    let other_users = wanted.users_hash.is_some() && pod.users_hash != wanted.users_hash;
    if pod.config_hash.as_ref() != Some(&wanted.config_hash) || other_users {
        plan.steps.push(Step::RefreshMounts {
            instance: name.clone(),
            uid: pod.uid.clone(),
            config_hash: wanted.config_hash.clone(),
            users_hash: wanted.users_hash.clone(),
        });
    }
    let claim_leaves = instance.claim.as_ref().is_none_or(|c| c.deleting || c.lost);
    let safe_to_replace = !(is_seat && wanted.initialised && claim_leaves);
    let outdated = pod.revision.as_ref() != Some(&wanted.revision);
    if outdated && safe_to_replace && !is_proposed(plan, name) {
        let difference = pod
            .template
            .as_deref()
            .and_then(|made_from| first_difference(made_from, &wanted.template));
        let why = difference.unwrap_or_else(|| format!("{name} runs an older pod template"));
        plan.candidates.push(replace(instance, pod, why));
    }
    // One that is going to be replaced still takes over configuration: the list of members in it
    // is what others wait for.
    if let Some(status) = instance.agent() {
        engine(wanted, instance, pod, status, plan);
    }
}

/// What the label of a pod says.
pub fn role(is_seat: bool) -> &'static str {
    if is_seat { "primary" } else { "replica" }
}

fn is_proposed(plan: &Plan, name: &str) -> bool {
    plan.candidates.iter().any(|c| c.instance == name)
}

fn engine(
    wanted: &Wanted,
    instance: &Instance,
    pod: &PodSeen,
    status: &api::Status,
    plan: &mut Plan,
) {
    let name = &instance.name;
    match status.phase {
        api::Phase::Running => {}
        api::Phase::Failed => {
            let why = status.last_error.as_ref().or(status.message.as_ref());
            plan.troubles.push(Trouble {
                instance: name.clone(),
                kind: TroubleKind::Failed,
                sentence: format!(
                    "{name} cannot go on without a person: {}",
                    why.map_or("its agent gives no reason", String::as_str)
                ),
                since: None,
            });
            return;
        }
        _ => return,
    }
    let told = pod.config_hash.as_ref() == Some(&wanted.config_hash);
    if told && status.config_hash.as_ref() != Some(&wanted.config_hash) {
        plan.steps.push(Step::Reload {
            instance: name.clone(),
            config_hash: wanted.config_hash.clone(),
        });
        return;
    }
    if !status.held_back.is_empty() {
        plan.unfinished.push(format!(
            "{name} keeps {} until the primary's new value has reached it.",
            status.held_back.join(", ")
        ));
    }
    if told && !status.pending_restart.is_empty() && !is_proposed(plan, name) {
        plan.candidates.push(Candidate {
            instance: name.clone(),
            change: Change::Restart {
                nonce: status.nonce.clone(),
            },
            why: format!(
                "{} take effect only at a restart",
                status.pending_restart.join(", ")
            ),
        });
    }
}

fn replace(instance: &Instance, pod: &PodSeen, why: String) -> Candidate {
    Candidate {
        instance: instance.name.clone(),
        change: Change::Replace {
            uid: pod.uid.clone(),
            resource_version: pod.resource_version.clone(),
        },
        why,
    }
}

fn leaver(instance: &Instance, spared: bool, plan: &mut Plan) {
    let name = &instance.name;
    match (&instance.pod, &instance.claim) {
        (Some(pod), _) if !pod.deleting => plan.candidates.push(Candidate {
            instance: name.clone(),
            change: Change::Remove {
                uid: pod.uid.clone(),
                resource_version: pod.resource_version.clone(),
            },
            why: format!("{name} is one more than the instances asked for"),
        }),
        // A copy of the data is given up only while the original is seen to work.
        (None, Some(claim)) if !claim.deleting && spared => {
            plan.steps.push(Step::DeleteClaim {
                instance: name.clone(),
                uid: claim.uid.clone(),
                resource_version: claim.resource_version.clone(),
                why: format!("{name} left the set"),
            });
        }
        _ => {}
    }
}
