//! Sets for tests: all instances serve, and the others stream from the primary.

use mainstay_crds::common::InstanceRole;

use super::observed::{Instance, Known, Phase, PodSeen};
use crate::agent::api;

/// Names of the members of a set of three.
pub(crate) fn members() -> Vec<String> {
    names(3)
}

fn names(count: u32) -> Vec<String> {
    (1..=count).map(|n| format!("db-{n}")).collect()
}

/// A set of three, of which `seat` is primary.
pub(crate) fn three(seat: &str) -> Vec<Instance> {
    set(3, seat)
}

/// A set of so many, of which `seat` is primary.
pub(crate) fn set(count: u32, seat: &str) -> Vec<Instance> {
    let members = names(count);
    let instance = |(ordinal, name): (u32, &String)| {
        let primary = name == seat;
        let others = members.iter().filter(|m| *m != name).cloned();
        Instance {
            name: name.clone(),
            ordinal,
            pod: Some(PodSeen {
                uid: name.clone(),
                phase: Phase::Running,
                ready: true,
                ..PodSeen::default()
            }),
            claim: None,
            agent: Known::Known(api::Status {
                pod_uid: name.clone(),
                instance: name.clone(),
                nonce: format!("{name}.1"),
                phase: api::Phase::Running,
                role: if primary {
                    InstanceRole::Primary
                } else {
                    InstanceRole::Replica
                },
                ready: true,
                streaming: if primary { others.collect() } else { vec![] },
                ..api::Status::default()
            }),
        }
    };
    (1..).zip(&members).map(instance).collect()
}

/// The status that an instance's agent gives.
pub(crate) fn status<'a>(instances: &'a mut [Instance], name: &str) -> &'a mut api::Status {
    let instance = instances.iter_mut().find(|i| i.name == name);
    match instance.map(|i| &mut i.agent) {
        Some(Known::Known(status)) => status,
        other => panic!("{name}: {other:?}"),
    }
}
