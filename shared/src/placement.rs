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
    Durability, Enforcement, InstanceRole, Outlives, Placement, Requirement, Survives,
};

use crate::agent::api::Acknowledging;
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

/// Where a pod runs that is no instance and may wait: on nodes where instances may run, better on one where none of
/// them does, and without the right to push anybody out.
pub fn aside(set: &SetId, placement: Option<&Placement>) -> Scheduling {
    let of_instances = scheduling(set, placement);
    Scheduling {
        affinity: Affinity {
            pod_anti_affinity: Some(one_per_node(set, Requirement::Preferred)),
            ..of_instances.affinity
        },
        spread: Vec::new(),
        tolerations: of_instances.tolerations,
        priority_class: None,
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

/// What is promised of acknowledged writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise<'a> {
    /// When a write is acknowledged.
    pub durability: Durability,
    /// What happens when too few replicas can.
    pub enforcement: Enforcement,
    /// Whether they must be in another zone than the primary, where there is one.
    pub across_zones: bool,
    /// Who acknowledges now, as the primary says.
    pub now: Option<&'a Acknowledging>,
}

impl Promise<'_> {
    /// How many acknowledge, and of whom; where the primary does not say so, as it will be.
    fn acknowledging(&self, members: &[Running], primary: &Running) -> (usize, Vec<String>) {
        match self.now {
            Some(now) => (
                usize::try_from(now.needed).unwrap_or(usize::MAX),
                now.of.clone(),
            ),
            None if self.durability == Durability::Async => (0, Vec::new()),
            None => self.voters(members, primary),
        }
    }

    /// How many would acknowledge under that primary, and of whom.
    fn voters(&self, members: &[Running], primary: &Running) -> (usize, Vec<String>) {
        let elsewhere = |m: &&Running| m.zone.is_some() && m.zone != primary.zone;
        let zones =
            self.across_zones && primary.zone.is_some() && members.iter().any(|m| elsewhere(&m));
        let others = members.iter().filter(|m| m.name != primary.name);
        let of: Vec<String> = others
            .filter(|m| !zones || elsewhere(m))
            .map(|m| m.name.clone())
            .collect();
        (Group::usual_acks(of.len()), of)
    }
}

/// Whether any one node, and any one zone, can be lost with reads and writes going on.
///
/// Guarantee: what is not known counts as lost.
pub fn survives(members: &[Running], promise: Promise<'_>) -> Survives {
    let node = lose_any(members, promise, "node", |m| m.node.as_deref());
    let zone = lose_any(members, promise, "zone", |m| m.zone.as_deref());
    Survives {
        node: node.is_ok(),
        zone: zone.is_ok(),
        reason: node.err().or(zone.err()),
    }
}

/// The largest part of the cluster that can be lost, whichever it is, without losing a write that is
/// acknowledged now; none when the primary alone may have it.
///
/// Guarantee: a replica of which node or zone is not known counts as lost with the primary.
pub fn outlives(members: &[Running], promise: Promise<'_>) -> Outlives {
    let primary = members
        .iter()
        .find(|m| m.ready && m.role == InstanceRole::Primary);
    let Some(primary) = primary else {
        return Outlives::Nothing;
    };
    let (needed, of) = promise.acknowledging(members, primary);
    let apart = |domain: &dyn Fn(&Running) -> Option<String>| {
        let own = domain(primary);
        let near = of.iter().filter(|name| {
            let there = members.iter().find(|m| m.name == **name).and_then(domain);
            own.is_none() || there.is_none() || there == own
        });
        // Whoever they are, one of so many is elsewhere.
        needed > near.count()
    };
    if !apart(&|m| m.node.clone()) {
        Outlives::Nothing
    } else if apart(&|m| m.zone.clone()) {
        Outlives::Zone
    } else {
        Outlives::Node
    }
}

/// Whether each domain can be lost, or why one cannot.
fn lose_any(
    members: &[Running],
    promise: Promise<'_>,
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
    let (acks, voters) = promise.acknowledging(members, primary);
    let waits = promise.durability == Durability::Quorum;
    let required = waits && promise.enforcement == Enforcement::Required;
    let domains: BTreeSet<&str> = ready.iter().filter_map(|m| domain(m)).collect();
    for lost in domains {
        let left: Vec<&&Running> = ready.iter().filter(|m| domain(m) != Some(lost)).collect();
        let among = |of: &[String]| left.iter().filter(|m| of.contains(&m.name)).count();
        let enough = |have: usize, needed: usize, of: &[String]| {
            if have >= needed {
                return Ok(());
            }
            Err(format!(
                "without {what} {lost} {have} of {} would be ready, and {needed} needed",
                of.join(", ")
            ))
        };
        if domain(primary) != Some(lost) {
            // It goes on as long as enough of them acknowledge, or without if it need not be.
            enough(among(&voters), if required { acks } else { 0 }, &voters)?;
            continue;
        }
        if left.is_empty() {
            return Err(format!("every instance that is ready is on {what} {lost}"));
        }
        if !waits || acks == 0 {
            continue;
        }
        // So many elect one of them, and whoever that is needs somebody to acknowledge its writes.
        enough(
            among(&voters),
            (voters.len() + 1).saturating_sub(acks),
            &voters,
        )?;
        for next in left.iter().filter(|m| required && voters.contains(&m.name)) {
            let (acks, of) = promise.voters(members, next);
            enough(among(&of), acks, &of)?;
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

    fn promise(durability: Durability, enforcement: Enforcement) -> Promise<'static> {
        Promise {
            durability,
            enforcement,
            across_zones: true,
            now: None,
        }
    }

    const REQUIRED: Promise<'static> = Promise {
        durability: Durability::Quorum,
        enforcement: Enforcement::Required,
        across_zones: true,
        now: None,
    };

    const SPREAD: &[(&str, &str)] = &[("n1", "a"), ("n2", "b"), ("n3", "c")];

    #[test]
    fn three_in_three_zones_survive_one_of_them() {
        let all = running(SPREAD);
        assert_eq!(outlives(&all, REQUIRED), Outlives::Zone);
        assert_eq!(
            survives(&all, REQUIRED),
            Survives {
                node: true,
                zone: true,
                reason: None
            }
        );
    }

    #[test]
    fn two_in_one_zone_lose_nothing_with_a_zone_but_may_have_to_wait() {
        let all = running(&[("n1", "a"), ("n2", "b"), ("n3", "b")]);
        // The primary alone in its zone: both others acknowledge for it. Without it one of them leads,
        // and nobody is left in another zone.
        let alone = survives(&all, REQUIRED);
        assert!(!alone.node && !alone.zone);
        assert!(alone.reason.unwrap().contains("node n1"));
        assert_eq!(outlives(&all, REQUIRED), Outlives::Zone);
        let preferred = promise(Durability::Quorum, Enforcement::Preferred);
        assert!(survives(&all, preferred).node && survives(&all, preferred).zone);

        let anywhere = Promise {
            across_zones: false,
            ..REQUIRED
        };
        let half = survives(&all, anywhere);
        assert!(half.node && !half.zone);
        assert!(half.reason.unwrap().contains("zone b"));
        let asynchronous = promise(Durability::Async, Enforcement::Required);
        assert!(survives(&all, asynchronous).zone);
        assert_eq!(outlives(&all, asynchronous), Outlives::Nothing);
    }

    #[test]
    fn a_write_outlives_what_whoever_acknowledges_outlives() {
        let all = running(&[("n1", "a"), ("n2", "a"), ("n3", "b")]);
        assert_eq!(
            outlives(&all, REQUIRED),
            Outlives::Zone,
            "only db-3 acknowledges"
        );
        let told = |needed, of: &[&str]| Acknowledging {
            needed,
            of: of.iter().map(|n| (*n).to_owned()).collect(),
        };
        let by = |now: &Acknowledging| {
            outlives(
                &all,
                Promise {
                    now: Some(now),
                    ..REQUIRED
                },
            )
        };
        assert_eq!(by(&told(1, &["db-3"])), Outlives::Zone);
        assert_eq!(
            by(&told(1, &["db-2", "db-3"])),
            Outlives::Node,
            "db-2 may be it"
        );
        assert_eq!(by(&told(2, &["db-2", "db-3"])), Outlives::Zone);
        assert_eq!(by(&told(0, &["db-3"])), Outlives::Nothing);
        assert_eq!(by(&told(1, &["db-9"])), Outlives::Nothing, "it is not seen");
        let shared = running(&[("n1", "a"), ("n1", "a"), ("n3", "b")]);
        let anywhere = Promise {
            across_zones: false,
            ..REQUIRED
        };
        assert_eq!(
            outlives(&shared, anywhere),
            Outlives::Nothing,
            "two on one node"
        );
    }

    #[test]
    fn who_is_not_ready_is_not_counted_on() {
        let mut all = running(SPREAD);
        all[2].ready = false;
        assert!(!survives(&all, REQUIRED).node);
        all[0].ready = false;
        let none = survives(&all, promise(Durability::Async, Enforcement::Required));
        assert_eq!(none.reason.as_deref(), Some("no primary is ready"));
    }

    #[test]
    fn what_is_not_known_counts_as_lost() {
        let all = running(&[("n1", "a"), ("n2", ""), ("n3", "c")]);
        let anywhere = Promise {
            across_zones: false,
            ..REQUIRED
        };
        let unknown = survives(&all, anywhere);
        assert!(unknown.node && !unknown.zone);
        assert_eq!(
            unknown.reason.as_deref(),
            Some("the zone of db-2 is not known")
        );
        assert!(!survives(&[], REQUIRED).node);
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
        let kept = |enforcement| survives(&two, promise(Durability::Quorum, enforcement)).node;
        assert!(kept(Enforcement::Preferred));
        assert!(!kept(Enforcement::Required));
    }
}
