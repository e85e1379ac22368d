//! Where instances run, how many may be drained at once, and what can be lost right now.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm,
    PodAffinityTerm, PodAntiAffinity, Toleration, TopologySpreadConstraint,
    WeightedPodAffinityTerm,
};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use mainstay_crds::common::{
    Durability, Enforcement, InstanceRole, Placement, Requirement, Survives,
};

use crate::election::group::Group;
use crate::metadata::SetId;

/// Label of a node with its zone.
pub const ZONE: &str = "topology.kubernetes.io/zone";
/// Label of a node with its host name.
const HOST: &str = "kubernetes.io/hostname";

/// The parts of a pod that say where it runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scheduling {
    /// Affinity to nodes, and aversion to nodes where another instance runs.
    pub affinity: Affinity,
    /// Spreading over zones.
    pub spread: Vec<TopologySpreadConstraint>,
    /// Taints that are tolerated.
    pub tolerations: Vec<Toleration>,
    /// Name of the PriorityClass.
    pub priority_class: Option<String>,
}

/// Where the pods of a set run.
pub fn scheduling(set: &SetId, placement: Option<&Placement>) -> Scheduling {
    let dedicated = placement.and_then(|p| p.dedicated_nodes.as_ref());
    Scheduling {
        affinity: Affinity {
            node_affinity: node_affinity(placement),
            pod_anti_affinity: Some(one_per_node(set, Placement::nodes(placement))),
            pod_affinity: None,
        },
        spread: vec![over_zones(set, Placement::zones(placement))],
        tolerations: dedicated
            .map(|nodes| Toleration {
                key: Some(nodes.key.clone()),
                operator: Some("Equal".into()),
                value: Some(nodes.value.clone()),
                effect: Some("NoSchedule".into()),
                toleration_seconds: None,
            })
            .into_iter()
            .collect(),
        priority_class: placement.and_then(|p| p.priority_class.clone()),
    }
}

fn node_affinity(placement: Option<&Placement>) -> Option<NodeAffinity> {
    let placement = placement?;
    let mut labels: BTreeMap<&str, &str> = BTreeMap::new();
    for (key, value) in placement.node_labels.iter().flatten() {
        labels.insert(key, value);
    }
    if let Some(nodes) = &placement.dedicated_nodes {
        labels.insert(&nodes.key, &nodes.value);
    }
    let expressions: Vec<_> = labels
        .into_iter()
        .map(|(key, value)| NodeSelectorRequirement {
            key: key.to_owned(),
            operator: "In".into(),
            values: Some(vec![value.to_owned()]),
        })
        .collect();
    (!expressions.is_empty()).then(|| NodeAffinity {
        required_during_scheduling_ignored_during_execution: Some(NodeSelector {
            node_selector_terms: vec![NodeSelectorTerm {
                match_expressions: Some(expressions),
                match_fields: None,
            }],
        }),
        preferred_during_scheduling_ignored_during_execution: None,
    })
}

fn one_per_node(set: &SetId, requirement: Requirement) -> PodAntiAffinity {
    let term = PodAffinityTerm {
        label_selector: Some(set.label_selector()),
        topology_key: HOST.into(),
        ..PodAffinityTerm::default()
    };
    match requirement {
        Requirement::Required => PodAntiAffinity {
            required_during_scheduling_ignored_during_execution: Some(vec![term]),
            ..PodAntiAffinity::default()
        },
        Requirement::Preferred => PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![
                WeightedPodAffinityTerm {
                    pod_affinity_term: term,
                    weight: 100,
                },
            ]),
            ..PodAntiAffinity::default()
        },
    }
}

fn over_zones(set: &SetId, requirement: Requirement) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        label_selector: Some(set.label_selector()),
        max_skew: 1,
        // A zone whose nodes the pods cannot use must not count as an empty one.
        node_affinity_policy: Some("Honor".into()),
        node_taints_policy: Some("Honor".into()),
        topology_key: ZONE.into(),
        when_unsatisfiable: match requirement {
            Requirement::Required => "DoNotSchedule",
            Requirement::Preferred => "ScheduleAnyway",
        }
        .into(),
        ..TopologySpreadConstraint::default()
    }
}

/// The budget of a set: one instance may be drained at a time. None for one instance, which could
/// then never be drained; the status says that a drain interrupts it.
///
/// Its number is written when the set is scaled, so it is right while the operator is away.
pub fn disruption_budget(set: &SetId, instances: i32) -> Option<PodDisruptionBudget> {
    (instances > 1).then(|| PodDisruptionBudget {
        metadata: set.owned(&set.name),
        spec: Some(PodDisruptionBudgetSpec {
            min_available: Some(IntOrString::Int(instances - 1)),
            selector: Some(set.label_selector()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    })
}

/// An instance as it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its name.
    pub name: String,
    /// Its node, if it is on one.
    pub node: Option<String>,
    /// Zone of that node, if it says so.
    pub zone: Option<String>,
    /// What it does.
    pub role: InstanceRole,
    /// Whether it serves: only a member that does is counted on.
    pub ready: bool,
}

/// Whether any one node, and any one zone, can be lost with reads and writes going on.
///
/// Guarantee: what is not known counts as lost.
pub fn survives(members: &[Running], durability: Durability, enforcement: Enforcement) -> Survives {
    let kept = (durability, enforcement);
    let node = lose_any(members, kept, "node", |m| m.node.as_deref());
    let zone = lose_any(members, kept, "zone", |m| m.zone.as_deref());
    Survives {
        node: node.is_ok(),
        zone: zone.is_ok(),
        reason: node.err().or(zone.err()),
    }
}

/// Whether each domain can be lost, or why one cannot.
fn lose_any(
    members: &[Running],
    kept: (Durability, Enforcement),
    what: &str,
    domain: impl Fn(&Running) -> Option<&str>,
) -> Result<(), String> {
    let ready: Vec<&Running> = members.iter().filter(|m| m.ready).collect();
    let Some(primary) = ready.iter().find(|m| m.role == InstanceRole::Primary) else {
        return Err("no primary is ready".into());
    };
    if let Some(lost) = ready.iter().find(|m| domain(m).is_none()) {
        return Err(format!("the {what} of {} is not known", lost.name));
    }
    let voters = members.len().saturating_sub(1);
    let acks = Group::usual_acks(voters);
    let domains: BTreeSet<&str> = ready.iter().filter_map(|m| domain(m)).collect();
    for lost in domains {
        let left = ready.iter().filter(|m| domain(m) != Some(lost)).count();
        let needed = match kept {
            // Without the primary so many of the others elect one of them; with it, it goes on as
            // long as enough of them acknowledge, or without if it need not be.
            (Durability::Quorum, _) if domain(primary) == Some(lost) => voters - acks + 1,
            (Durability::Quorum, Enforcement::Required) => acks + 1,
            (Durability::Quorum, Enforcement::Preferred) | (Durability::Async, _) => 1,
        };
        if left < needed {
            return Err(format!(
                "without {what} {lost} {left} of {} instances would be ready, and {needed} needed",
                members.len()
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::tests::db;
    use mainstay_crds::common::DedicatedNodes;

    /// Three instances; each given as node and zone. The first is the primary.
    fn running(places: &[(&str, &str)]) -> Vec<Running> {
        let named = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let members = places.iter().enumerate();
        members
            .map(|(i, (node, zone))| Running {
                name: format!("db-{}", i + 1),
                node: named(node),
                zone: named(zone),
                role: if i == 0 {
                    InstanceRole::Primary
                } else {
                    InstanceRole::Replica
                },
                ready: true,
            })
            .collect()
    }

    const SPREAD: &[(&str, &str)] = &[("n1", "a"), ("n2", "b"), ("n3", "c")];

    #[test]
    fn three_in_three_zones_survive_one_of_them() {
        let all = running(SPREAD);
        let good = survives(&all, Durability::Quorum, Enforcement::Required);
        assert_eq!(
            good,
            Survives {
                node: true,
                zone: true,
                reason: None
            }
        );
    }

    #[test]
    fn two_in_one_zone_survive_a_node_and_not_that_zone() {
        let all = running(&[("n1", "a"), ("n2", "b"), ("n3", "b")]);
        let half = survives(&all, Durability::Quorum, Enforcement::Required);
        assert!(half.node && !half.zone);
        assert!(half.reason.unwrap().contains("zone b"));
        assert!(survives(&all, Durability::Async, Enforcement::Required).zone);
    }

    #[test]
    fn who_is_not_ready_is_not_counted_on() {
        let mut all = running(SPREAD);
        all[2].ready = false;
        assert!(!survives(&all, Durability::Quorum, Enforcement::Required).node);
        all[0].ready = false;
        let none = survives(&all, Durability::Async, Enforcement::Required);
        assert_eq!(none.reason.as_deref(), Some("no primary is ready"));
    }

    #[test]
    fn what_is_not_known_counts_as_lost() {
        let all = running(&[("n1", "a"), ("n2", ""), ("n3", "c")]);
        let unknown = survives(&all, Durability::Quorum, Enforcement::Required);
        assert!(unknown.node && !unknown.zone);
        assert_eq!(
            unknown.reason.as_deref(),
            Some("the zone of db-2 is not known")
        );
        assert!(!survives(&[], Durability::Async, Enforcement::Required).node);
    }

    #[test]
    fn the_budget_lets_one_go_and_one_instance_has_none() {
        assert_eq!(disruption_budget(&db(), 1), None);
        let spec = disruption_budget(&db(), 3).unwrap().spec.unwrap();
        assert_eq!(spec.min_available, Some(IntOrString::Int(2)));
        assert_eq!(
            spec.selector.unwrap().match_labels.unwrap(),
            db().selector()
        );
    }

    #[test]
    fn wishes_become_rules_of_the_scheduler() {
        let plain = scheduling(&db(), None);
        let anti = plain.affinity.pod_anti_affinity.unwrap();
        assert!(
            anti.required_during_scheduling_ignored_during_execution
                .is_some()
        );
        assert_eq!(plain.spread[0].when_unsatisfiable, "ScheduleAnyway");
        assert_eq!(plain.affinity.node_affinity, None);

        let placement = Placement {
            zones: Some(Requirement::Required),
            nodes: Some(Requirement::Preferred),
            dedicated_nodes: Some(DedicatedNodes {
                key: "for".into(),
                value: "db".into(),
            }),
            node_labels: Some(BTreeMap::from([("disk".into(), "fast".into())])),
            priority_class: Some("high".into()),
        };
        let wished = scheduling(&db(), Some(&placement));
        let anti = wished.affinity.pod_anti_affinity.unwrap();
        assert!(
            anti.required_during_scheduling_ignored_during_execution
                .is_none()
        );
        assert_eq!(wished.spread[0].when_unsatisfiable, "DoNotSchedule");
        assert_eq!(wished.tolerations[0].key.as_deref(), Some("for"));
        assert_eq!(wished.priority_class.as_deref(), Some("high"));
        let nodes = wished.affinity.node_affinity.unwrap();
        let terms = nodes
            .required_during_scheduling_ignored_during_execution
            .unwrap();
        let keys = terms.node_selector_terms[0]
            .match_expressions
            .as_ref()
            .unwrap();
        assert_eq!(keys.len(), 2);
    }

    #[test]
    fn two_survive_a_node_where_the_quorum_is_only_preferred() {
        let two = running(&[("n1", "a"), ("n2", "b")]);
        let kept = |enforcement| survives(&two, Durability::Quorum, enforcement).node;
        assert!(kept(Enforcement::Preferred));
        assert!(!kept(Enforcement::Required));
    }
}
