//! From objects to the rules of one node.
//!
//! Semantics of the API: a pod that no policy selects for a direction is open in it; otherwise the
//! union of what its policies allow passes. Replies, a pod's flows to itself and flows between a
//! node and its own pods pass in any case and are no matter of these rules.
//!
//! Decided where the API leaves it open: pods on the host network are neither isolated nor found by
//! selectors, for they are their node; a named port of an egress rule is looked up at the pods that
//! the rule selects, all pods where it selects by nothing, and no pod where it names a block.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use kube::core::{Selector, SelectorExt};

use super::rules::{Allow, Block, NodeRules, Peers, Ports, Protocol};

/// Everything that decides about flows.
pub struct World<'a> {
    /// Every policy.
    pub policies: Vec<&'a NetworkPolicy>,
    /// Every pod.
    pub pods: Vec<&'a Pod>,
    /// Every namespace.
    pub namespaces: Vec<&'a Namespace>,
}

/// A pod with an address of its own.
struct Member<'a> {
    pod: &'a Pod,
    namespace: String,
    address: Ipv4Addr,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Ingress,
    Egress,
}

/// The rules that `node` must enforce.
pub fn node_rules(world: &World<'_>, node: &str) -> NodeRules {
    let members = members(&world.pods);
    let labels: BTreeMap<String, &BTreeMap<String, String>> = world
        .namespaces
        .iter()
        .map(|namespace| (namespace.name_any(), namespace.labels()))
        .collect();
    let cluster = Cluster {
        members: &members,
        labels,
    };
    let mut rules = NodeRules::default();
    for member in members.iter().filter(|member| runs_on(member.pod, node)) {
        let mine: Vec<&NetworkPolicy> = world
            .policies
            .iter()
            .copied()
            .filter(|policy| {
                policy.namespace().as_deref() == Some(&member.namespace)
                    && selects(policy, member.pod)
            })
            .collect();
        if let Some(allowed) = cluster.direction(&mine, member, Way::Ingress) {
            rules.ingress.insert(member.address, allowed);
        }
        if let Some(allowed) = cluster.direction(&mine, member, Way::Egress) {
            rules.egress.insert(member.address, allowed);
        }
    }
    rules
}

fn runs_on(pod: &Pod, node: &str) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node)
}

/// Pods that own their address now. The address of an ended pod may be another's already.
fn members<'a>(pods: &[&'a Pod]) -> Vec<Member<'a>> {
    pods.iter()
        .filter_map(|pod| {
            let spec = pod.spec.as_ref()?;
            let status = pod.status.as_ref()?;
            let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
            if ended || spec.host_network == Some(true) {
                return None;
            }
            let address = status.pod_ip.as_ref()?.parse().ok()?;
            Some(Member {
                pod,
                namespace: pod.namespace()?,
                address,
            })
        })
        .collect()
}

fn selects(policy: &NetworkPolicy, pod: &Pod) -> bool {
    let selector = policy
        .spec
        .as_ref()
        .and_then(|spec| spec.pod_selector.as_ref());
    selector.is_none_or(|selector| matches(selector, pod.labels()))
}

/// A selector that cannot be understood selects nothing.
fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(labels))
}

/// Whether a policy isolates in a direction. Without `policyTypes`, every policy isolates ingress,
/// and those with egress rules egress as well.
fn isolates(spec: &NetworkPolicySpec, way: Way) -> bool {
    match (&spec.policy_types, way) {
        (Some(types), Way::Ingress) if !types.is_empty() => {
            types.iter().any(|word| word == "Ingress")
        }
        (Some(types), Way::Egress) if !types.is_empty() => {
            types.iter().any(|word| word == "Egress")
        }
        (_, Way::Ingress) => true,
        (_, Way::Egress) => spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()),
    }
}

struct Cluster<'a> {
    members: &'a [Member<'a>],
    labels: BTreeMap<String, &'a BTreeMap<String, String>>,
}

impl Cluster<'_> {
    fn direction(
        &self,
        policies: &[&NetworkPolicy],
        of: &Member<'_>,
        way: Way,
    ) -> Option<Vec<Allow>> {
        let specs: Vec<&NetworkPolicySpec> = policies
            .iter()
            .filter_map(|policy| policy.spec.as_ref())
            .filter(|spec| isolates(spec, way))
            .collect();
        if specs.is_empty() {
            return None;
        }
        let mut allowed = Vec::new();
        for spec in specs {
            let rules: Vec<(&[NetworkPolicyPeer], &[NetworkPolicyPort])> = match way {
                Way::Ingress => spec
                    .ingress
                    .iter()
                    .flatten()
                    .map(|rule| {
                        (
                            rule.from.as_deref().unwrap_or_default(),
                            rule.ports.as_deref().unwrap_or_default(),
                        )
                    })
                    .collect(),
                Way::Egress => spec
                    .egress
                    .iter()
                    .flatten()
                    .map(|rule| {
                        (
                            rule.to.as_deref().unwrap_or_default(),
                            rule.ports.as_deref().unwrap_or_default(),
                        )
                    })
                    .collect(),
            };
            for (peers, ports) in rules {
                self.rule(peers, ports, of, way, &mut allowed);
            }
        }
        let mut distinct = Vec::new();
        for allow in allowed {
            if !distinct.contains(&allow) {
                distinct.push(allow);
            }
        }
        Some(distinct)
    }

    /// One rule of a policy. No peers stands for everybody, no ports for everything.
    fn rule(
        &self,
        peers: &[NetworkPolicyPeer],
        ports: &[NetworkPolicyPort],
        of: &Member<'_>,
        way: Way,
        into: &mut Vec<Allow>,
    ) {
        let pods: Vec<&Member<'_>> = self
            .members
            .iter()
            .filter(|member| {
                peers
                    .iter()
                    .any(|peer| self.is_peer(peer, member, &of.namespace))
            })
            .collect();
        let mut ends: Vec<Peers> = peers.iter().filter_map(block).collect();
        if peers.is_empty() {
            ends.push(Peers::Any);
        }
        if ports.is_empty() {
            ends.extend(addresses(pods.iter().map(|pod| pod.address)));
            into.extend(ends.into_iter().map(|peers| Allow { peers, ports: None }));
            return;
        }
        match way {
            // Names are those of the pod itself.
            Way::Ingress => {
                let open = resolve(ports, Some(of.pod));
                ends.extend(addresses(pods.iter().map(|pod| pod.address)));
                into.extend(with_ports(ends, &open));
            }
            // Names are those of each destination.
            Way::Egress => {
                into.extend(with_ports(ends, &resolve(ports, None)));
                let candidates: Vec<&Member<'_>> = if peers.is_empty() {
                    self.members.iter().collect()
                } else {
                    pods
                };
                let mut by_ports: BTreeMap<Ports, BTreeSet<Ipv4Addr>> = BTreeMap::new();
                for pod in candidates {
                    by_ports
                        .entry(resolve(ports, Some(pod.pod)))
                        .or_default()
                        .insert(pod.address);
                }
                for (open, pods) in by_ports {
                    into.extend(with_ports(vec![Peers::Addresses(pods)], &open));
                }
            }
        }
    }

    fn is_peer(&self, peer: &NetworkPolicyPeer, member: &Member<'_>, home: &str) -> bool {
        if peer.ip_block.is_some() {
            return false;
        }
        let namespace = match &peer.namespace_selector {
            None => peer.pod_selector.is_some() && member.namespace == home,
            Some(selector) => self
                .labels
                .get(&member.namespace)
                .is_some_and(|labels| matches(selector, labels)),
        };
        let pod = peer
            .pod_selector
            .as_ref()
            .is_none_or(|selector| matches(selector, member.pod.labels()));
        namespace && pod
    }
}

fn with_ports(ends: Vec<Peers>, ports: &Ports) -> impl Iterator<Item = Allow> {
    let ports = (!ports.is_empty()).then(|| ports.clone());
    ends.into_iter().filter_map(move |peers| {
        Some(Allow {
            peers,
            ports: Some(ports.clone()?),
        })
    })
}

fn addresses(of: impl Iterator<Item = Ipv4Addr>) -> Option<Peers> {
    let set: BTreeSet<Ipv4Addr> = of.collect();
    (!set.is_empty()).then_some(Peers::Addresses(set))
}

fn block(peer: &NetworkPolicyPeer) -> Option<Peers> {
    let block = peer.ip_block.as_ref()?;
    let except = block
        .except
        .iter()
        .flatten()
        .filter_map(|text| Block::parse(text))
        .collect();
    Some(Peers::Block(Block::parse(&block.cidr)?, except))
}

/// Numbers of ports; names are looked up in `pod`, and stand for nothing without one.
fn resolve(ports: &[NetworkPolicyPort], pod: Option<&Pod>) -> Ports {
    let mut open = Ports::default();
    for port in ports {
        let Some(protocol) = Protocol::parse(port.protocol.as_deref()) else {
            continue;
        };
        let first = match &port.port {
            None => {
                open.add(protocol, 0, u16::MAX);
                continue;
            }
            Some(IntOrString::Int(number)) => u16::try_from(*number).ok(),
            Some(IntOrString::String(name)) => pod.and_then(|pod| named(pod, name, protocol)),
        };
        if let Some(first) = first {
            let last = port
                .end_port
                .and_then(|last| u16::try_from(last).ok())
                .unwrap_or(first);
            if first <= last {
                open.add(protocol, first, last);
            }
        }
    }
    open
}

fn named(pod: &Pod, name: &str, protocol: Protocol) -> Option<u16> {
    let spec = pod.spec.as_ref()?;
    // Sidecars are init containers that stay.
    let containers = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten());
    let port = containers
        .flat_map(|container| container.ports.iter().flatten())
        .find(|port| {
            port.name.as_deref() == Some(name)
                && Protocol::parse(port.protocol.as_deref()) == Some(protocol)
        })?;
    u16::try_from(port.container_port).ok()
}
