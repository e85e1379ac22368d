//! What is seen of an instance: its pod, its claim, its agent.

use jiff::Timestamp;
use mainstay_crds::common::InstanceRole;

use super::plan::role;
use crate::agent::api::{self, Status};

/// Something that may not have answered. What is unreachable is never taken for healthy.
#[derive(Clone, Debug, PartialEq)]
pub enum Known<T> {
    /// The answer.
    Known(T),
    /// No answer, and why.
    Unreachable(String),
}

impl<T> Known<T> {
    /// The answer, if there is one.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unreachable(_) => None,
        }
    }
}

/// One instance of a set.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// Name of the instance and of its pod, for example `db-1`.
    pub name: String,
    /// Number in the name, from 1.
    pub ordinal: u32,
    /// Its pod, if there is one.
    pub pod: Option<PodSeen>,
    /// Its data claim, if there is one.
    pub claim: Option<ClaimSeen>,
    /// What its agent last said.
    pub agent: Known<Status>,
}

/// Phase of a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Not all of its containers have run yet.
    #[default]
    Pending,
    /// At least one container runs.
    Running,
    /// It ended and does not come back: evicted, or its node was shut down.
    Ended,
    /// The node does not tell.
    Unknown,
}

/// A pod as seen.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent facts, not a state"
)]
pub struct PodSeen {
    /// Uid, for preconditions.
    pub uid: String,
    /// Resource version, for preconditions.
    pub resource_version: String,
    /// Phase.
    pub phase: Phase,
    /// The kubelet's readiness.
    pub ready: bool,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Node it is bound to.
    pub node: Option<String>,
    /// Zone of that node.
    pub zone: Option<String>,
    /// Its address.
    pub ip: Option<String>,
    /// Image of its engine.
    pub image: Option<String>,
    /// Revision of the template it was made from.
    pub revision: Option<String>,
    /// Inputs of that template, to tell differences in words.
    pub template: Option<String>,
    /// The role that its labels say: by them the replicas' Service finds it.
    pub role: Option<String>,
    /// Hash of the configuration that its mounts were last told to hold.
    pub config_hash: Option<String>,
    /// Hash of the logins that they were last told to hold.
    pub users_hash: Option<String>,
    /// Why it does not start, if the scheduler or the kubelet says so.
    pub waiting: Option<Waiting>,
    /// Whether its data is being brought back from a repository, before its engine starts.
    pub restoring: bool,
    /// In words what that reached, once it has.
    pub restored: Option<String>,
    /// Whether its node takes no pods any more, so that it will have to move.
    pub cordoned: bool,
}

impl PodSeen {
    /// Whether it will have to move to another node, or is about to.
    pub fn must_move(&self) -> bool {
        self.cordoned || self.deleting
    }
}

/// A node as seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeSeen {
    /// Its zone, if it has one.
    pub zone: Option<String>,
    /// Whether it takes no pods any more.
    pub cordoned: bool,
}

/// Why a pod does not start.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    /// Kubernetes' word, for example `Unschedulable` or `ImagePullBackOff`.
    pub reason: String,
    /// Kubernetes' sentence.
    pub message: String,
    /// Since when, if it says.
    pub since: Option<Timestamp>,
}

/// A volume claim as seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimSeen {
    /// Uid, for preconditions.
    pub uid: String,
    /// Resource version, for preconditions.
    pub resource_version: String,
    /// Whether it is bound to a volume.
    pub bound: bool,
    /// Whether Kubernetes says that its volume is gone for good.
    pub lost: bool,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Bytes asked for.
    pub asked: i64,
    /// Bytes of the volume, once bound.
    pub got: Option<i64>,
    /// What is said about a resize that does not go on.
    pub resize: Option<String>,
    /// Identifier of the data it holds, as the operator noted it.
    pub system_identifier: Option<String>,
    /// Role of its instance as last noted.
    pub last_role: Option<String>,
    /// Epoch that was noted last.
    pub epoch: Option<u64>,
    /// Version of the engine that ran on it last, as noted.
    pub ran: Option<String>,
    /// Uid of the set it was made for.
    pub set_uid: Option<String>,
    /// Uid of the restore that has set it aside: no instance uses it then.
    pub set_aside: Option<String>,
}

impl Instance {
    /// Whether it serves, by what the kubelet and its agent both say.
    pub fn serves(&self) -> bool {
        self.unwell().is_none()
    }

    /// Whether it is certain that it does not serve, so that disturbing it costs nothing.
    ///
    /// Of a pod that runs, agent and kubelet have to agree: what an agent says may be of a moment, as
    /// in an election. One that does not answer proves nothing. Between [`Self::serves`] and this there
    /// is a gap, in which nothing is disturbed.
    pub fn is_down(&self) -> bool {
        let Some(pod) = &self.pod else {
            return true;
        };
        pod.deleting
            || pod.waiting.is_some()
            || pod.phase == Phase::Pending
            || pod.phase == Phase::Ended
            || (!pod.ready && self.agent().is_none_or(|status| !status.ready))
    }

    /// Whether its pod cannot run as it is, by the kubelet's word.
    pub fn is_stuck(&self) -> bool {
        let pod = self.pod.as_ref();
        pod.is_none_or(|p| p.waiting.is_some() || p.phase == Phase::Ended)
    }

    /// Why it is on its way to serve, or to its end, in a sentence; none when it serves or is stuck.
    pub fn in_flight(&self) -> Option<String> {
        let name = &self.name;
        let Some(pod) = &self.pod else {
            let claim = self.claim.as_ref().filter(|c| !c.deleting && !c.lost);
            return claim.map(|_| format!("{name} has no pod yet"));
        };
        if pod.deleting {
            return Some(format!("the pod of {name} is being deleted"));
        }
        if pod.waiting.is_some() {
            return None;
        }
        if pod.phase == Phase::Pending {
            return Some(pending(name, pod));
        }
        let going = |phase| {
            use api::Phase::{Cloning, Initialising, Recovering, Starting, Stopping};
            matches!(
                phase,
                Starting | Initialising | Cloning | Recovering | Stopping
            )
        };
        let status = self.agent().filter(|s| !s.ready && going(s.phase))?;
        let what = status.message.as_deref().unwrap_or("it is on its way");
        Some(format!("{name}: {what}"))
    }

    /// Whether its agent says of this pod that its engine has ended, and that it starts none before others had time to take
    /// over.
    pub fn yields(&self) -> bool {
        match (&self.agent, &self.pod) {
            (Known::Known(status), Some(pod)) => status.yields && status.pod_uid == pod.uid,
            _ => false,
        }
    }

    /// Whether it is known to be a primary: its agent says so or, where that says nothing, it was one when that was noted
    /// last.
    pub fn leads(&self) -> bool {
        match self.agent().map(|status| status.role) {
            Some(InstanceRole::Primary) => true,
            Some(InstanceRole::Replica) => false,
            Some(InstanceRole::Unknown) | None => {
                let noted = self.claim.as_ref().and_then(|c| c.last_role.as_deref());
                noted == Some(role(true))
            }
        }
    }

    /// Why it does not serve, in a sentence; none when it does.
    pub fn unwell(&self) -> Option<String> {
        let name = &self.name;
        let Some(pod) = &self.pod else {
            return Some(format!("{name} has no pod yet"));
        };
        if pod.deleting {
            return Some(format!("the pod of {name} is being deleted"));
        }
        if let Some(waiting) = &pod.waiting {
            return Some(format!(
                "the pod of {name} does not start: {}",
                waiting.message
            ));
        }
        match &self.agent {
            _ if pod.phase != Phase::Running => Some(pending(name, pod)),
            Known::Unreachable(why) => Some(format!("{name} does not answer: {why}")),
            Known::Known(status) if status.pod_uid != pod.uid => {
                Some(format!("the new pod of {name} has not answered yet"))
            }
            Known::Known(status) if !status.ready => {
                Some(match (&status.last_error, &status.message) {
                    (Some(error), _) => format!("{name} reports: {error}"),
                    (None, Some(message)) => format!("{name}: {message}"),
                    (None, None) => format!("{name} is not ready"),
                })
            }
            Known::Known(_) if !pod.ready => Some(format!(
                "{name} is ready and the kubelet has not seen it yet"
            )),
            Known::Known(_) => None,
        }
    }

    /// The agent's answer, if it is of the pod that is there now.
    pub fn agent(&self) -> Option<&Status> {
        let pod = self.pod.as_ref()?;
        self.agent
            .known()
            .filter(|status| status.pod_uid == pod.uid)
    }
}

/// What a pod does that does not run yet.
fn pending(name: &str, pod: &PodSeen) -> String {
    if pod.restoring {
        format!(
            "the data of {name} is being brought back from its repository; kubectl logs {name} -c {} tells how far it is",
            crate::names::RESTORE
        )
    } else {
        format!("the pod of {name} does not run yet")
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{status, three};
    use super::*;

    #[test]
    fn who_leads_is_what_its_agent_says_or_what_was_noted_last() {
        let mut all = three("db-1");
        assert!(all[0].leads() && !all[1].leads());
        status(&mut all, "db-1").role = InstanceRole::Unknown;
        assert!(!all[0].leads());
        for one in &mut all {
            one.claim = Some(ClaimSeen {
                last_role: Some("primary".into()),
                ..ClaimSeen::default()
            });
        }
        assert!(all[0].leads(), "also without a pod");
        assert!(!all[1].leads(), "it says that it follows");
        all[0].pod = None;
        assert!(all[0].leads());
    }
}
