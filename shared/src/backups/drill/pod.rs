//! The pod of a drill, and its ConfigMap, as they are seen.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, ContainerStatus, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Drill;
use crate::names;

/// How far a pod is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Something in it has not begun yet, or goes on.
    #[default]
    Going,
    /// It has ended, and all was well.
    Succeeded,
    /// It has ended.
    Failed,
}

/// A pod that runs to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodSeen {
    /// How far it is.
    pub phase: Phase,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Why Kubernetes has ended it, in a word and in a sentence.
    pub reason: Option<(String, String)>,
    /// Whether it has begun to restore.
    pub started: bool,
    /// Whether it has a node.
    pub placed: bool,
    /// What it waits for as long as nothing has begun.
    pub waiting: Option<String>,
    /// When it was placed on a node, or was found to have none.
    pub scheduled: Option<Timestamp>,
    /// Containers that run.
    pub running: Vec<String>,
    /// Containers that have ended.
    pub ended: BTreeMap<String, Ended>,
}

/// A container that has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// With which code.
    pub code: i32,
    /// Why, in Kubernetes' word.
    pub reason: Option<String>,
    /// Its last words.
    pub words: Option<String>,
}

impl PodSeen {
    /// In a sentence what it does.
    pub(super) fn doing(&self) -> String {
        let runs = |name: &str| self.running.iter().any(|r| r == name);
        if runs(names::DRILL) {
            "looks at what was restored".to_owned()
        } else if runs(names::RESTORE) {
            "restores a backup".to_owned()
        } else if self.started {
            "starts".to_owned()
        } else {
            let waiting = self.waiting.as_deref();
            format!(
                "has not begun: {}",
                waiting.unwrap_or("its pod was just made")
            )
        }
    }
}

/// Read a pod.
pub fn seen(pod: &Pod) -> PodSeen {
    let status = pod.status.clone().unwrap_or_default();
    let mut seen = PodSeen {
        phase: match status.phase.as_deref() {
            Some("Succeeded") => Phase::Succeeded,
            Some("Failed") => Phase::Failed,
            _ => Phase::Going,
        },
        deleting: pod.metadata.deletion_timestamp.is_some(),
        reason: status
            .reason
            .map(|reason| (reason, status.message.unwrap_or_default())),
        ..PodSeen::default()
    };
    let conditions: Vec<_> = status.conditions.into_iter().flatten().collect();
    // It is ended for another's sake, as when a node is drained or has no room.
    let ends = |c: &&PodCondition| c.type_ == "DisruptionTarget" && c.status == "True";
    if let (None, Some(why)) = (&seen.reason, conditions.iter().find(ends)) {
        let word = why.reason.clone().unwrap_or_default();
        seen.reason = Some((word, why.message.clone().unwrap_or_default()));
    }
    if let Some(placed) = conditions.into_iter().find(|c| c.type_ == "PodScheduled") {
        seen.scheduled = placed.last_transition_time.map(|t| t.0);
        seen.placed = placed.status == "True";
        if !seen.placed {
            seen.waiting = placed.message.or(placed.reason);
        }
    }
    let first = status.init_container_statuses.into_iter().flatten();
    for container in first.chain(status.container_statuses.into_iter().flatten()) {
        take(&mut seen, container);
    }
    seen
}

fn take(seen: &mut PodSeen, container: ContainerStatus) {
    let state = container.state.unwrap_or_default();
    // The one before these needs no more than the operator's own image.
    let counts = [names::RESTORE, names::DRILL].contains(&container.name.as_str());
    if let Some(ended) = state.terminated {
        seen.started |= counts;
        let ended = Ended {
            code: ended.exit_code,
            reason: ended.reason,
            words: ended.message.filter(|m| !m.trim().is_empty()),
        };
        seen.ended.insert(container.name, ended);
    } else if state.running.is_some() {
        seen.started |= counts;
        seen.running.push(container.name);
    } else if let Some(waiting) = state.waiting
        // That it waits for the one before it is no trouble.
        && waiting.reason.as_deref() != Some("PodInitializing")
    {
        let why = waiting.message.or(waiting.reason).unwrap_or_default();
        let why = format!("container {}: {why}", container.name);
        seen.waiting.get_or_insert(why);
    }
}

/// The drills that these objects belong to. Others than those of drills are passed over.
pub fn drills(maps: &[ConfigMap], pods: &[Pod]) -> Vec<Drill> {
    let mut all: BTreeMap<String, Drill> = BTreeMap::new();
    for map in maps {
        let part = map
            .metadata
            .labels
            .as_ref()
            .and_then(|l| l.get(names::PART));
        let mine = part.is_some_and(|part| part == names::DRILL);
        if let Some(drill) =
            of(&map.metadata).filter(|_| mine && map.metadata.deletion_timestamp.is_none())
        {
            let told = Drill {
                told: true,
                begun: time(&map.metadata, names::DRILL_BEGUN),
                ..drill
            };
            all.insert(told.name.clone(), told);
        }
    }
    for pod in pods {
        if let Some(drill) = of(&pod.metadata).filter(|_| is_of_drill(&pod.metadata)) {
            let drill = all.entry(drill.name.clone()).or_insert(drill);
            drill.pod = Some(seen(pod));
        }
    }
    all.into_values().collect()
}

/// Whether a pod is one of a drill.
pub fn is_of_drill(metadata: &ObjectMeta) -> bool {
    let labels = metadata.labels.as_ref();
    labels
        .and_then(|l| l.get(names::COMPONENT))
        .is_some_and(|c| c == names::DRILL)
}

fn of(metadata: &ObjectMeta) -> Option<Drill> {
    Some(Drill {
        name: metadata.name.clone()?,
        due: time(metadata, names::DRILL_DUE)?,
        moment: time(metadata, names::DRILL_MOMENT),
        ..Drill::default()
    })
}

fn time(metadata: &ObjectMeta, key: &str) -> Option<Timestamp> {
    metadata.annotations.as_ref()?.get(key)?.parse().ok()
}
