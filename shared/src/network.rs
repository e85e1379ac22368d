//! Who may talk to a set: nobody, but for the flows that are named here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
    NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use mainstay_crds::common::AllowedClient;

use crate::metadata::SetId;
use crate::names;

/// Label that Kubernetes puts on every namespace.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// Ports of DNS servers: the usual one, and the one behind the Service on some distributions.
const DNS_PORTS: [u16; 2] = [53, 5353];

/// What must be let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flows<'a> {
    /// The engine's port.
    pub engine_port: u16,
    /// Further ports on which clients reach instances.
    pub client_ports: &'a [u16],
    /// Further ports on which instances reach each other, and nobody else.
    pub peer_ports: &'a [u16],
    /// Namespace of the operator.
    pub operator_namespace: &'a str,
    /// Addresses and ports of the API servers, as the EndpointSlice `kubernetes` has them.
    pub api_servers: &'a BTreeSet<(IpAddr, u16)>,
    /// Clients that the resource names.
    pub clients: &'a [AllowedClient],
    /// Whether there are poolers: they connect to the engine, and agents talk to theirs.
    pub poolers: bool,
    /// Whether there are containers that make backups, which the operator talks to.
    pub backups: bool,
    /// Ports of stores with repositories. They may be anywhere: a policy knows no names.
    pub stores: &'a BTreeSet<u16>,
}

/// The policy of a set's pods. `None` while no API server's address is known: applying it then
/// would keep the agents from renewing their Lease, so the policy that exists stays.
///
/// Caveats: the kubelet's probes come from the node, which every network plugin lets through. DNS
/// may go anywhere, since caches on nodes have no pod that could be selected.
pub fn policy(set: &SetId, flows: &Flows<'_>) -> Option<NetworkPolicy> {
    if flows.api_servers.is_empty() {
        return None;
    }
    let agent_port = u16::try_from(names::AGENT_PORT).ok()?;
    let both = || Some(vec![tcp(flows.engine_port), tcp(agent_port)]);
    let among = || {
        let own = [flows.engine_port, agent_port].into_iter();
        let all = own.chain(flows.peer_ports.iter().copied());
        Some(all.map(tcp).collect::<Vec<_>>())
    };
    let members = || Some(vec![pods(None, set.selector())]);
    let of_clients = std::iter::once(flows.engine_port).chain(flows.client_ports.iter().copied());
    let mut ingress = vec![
        NetworkPolicyIngressRule {
            from: members(),
            ports: among(),
        },
        NetworkPolicyIngressRule {
            from: Some(vec![namespace(flows.operator_namespace)]),
            ports: both(),
        },
        NetworkPolicyIngressRule {
            from: Some(clients(set, flows.clients)),
            ports: Some(of_clients.map(tcp).collect()),
        },
    ];
    let mut egress = vec![
        NetworkPolicyEgressRule {
            to: members(),
            ports: among(),
        },
        NetworkPolicyEgressRule {
            to: None,
            ports: Some(dns()),
        },
    ];
    egress.extend(api_servers(flows.api_servers));
    if flows.backups {
        let backup_port = u16::try_from(names::BACKUP_PORT).ok()?;
        ingress.push(NetworkPolicyIngressRule {
            from: Some(vec![namespace(flows.operator_namespace)]),
            ports: Some(vec![tcp(backup_port)]),
        });
    }
    if !flows.stores.is_empty() {
        egress.push(NetworkPolicyEgressRule {
            to: None,
            ports: Some(flows.stores.iter().map(|p| tcp(*p)).collect()),
        });
    }
    if flows.poolers {
        let poolers = || Some(vec![pods(None, set.pooler_selector())]);
        ingress.push(NetworkPolicyIngressRule {
            from: poolers(),
            ports: Some(vec![tcp(flows.engine_port)]),
        });
        egress.push(NetworkPolicyEgressRule {
            to: poolers(),
            ports: Some(vec![tcp(agent_port)]),
        });
    }
    Some(NetworkPolicy {
        metadata: set.owned(&set.name),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(set.label_selector()),
            policy_types: Some(vec!["Ingress".into(), "Egress".into()]),
            ingress: Some(ingress),
            egress: Some(egress),
        }),
    })
}

/// The policy of a set's poolers: clients and the set's agents reach them, and they reach the engines.
pub fn pooler_policy(set: &SetId, flows: &Flows<'_>) -> Option<NetworkPolicy> {
    let agent_port = u16::try_from(names::AGENT_PORT).ok()?;
    let members = || Some(vec![pods(None, set.selector())]);
    let ingress = vec![
        NetworkPolicyIngressRule {
            from: Some(clients(set, flows.clients)),
            ports: Some(vec![tcp(flows.engine_port)]),
        },
        NetworkPolicyIngressRule {
            from: members(),
            ports: Some(vec![tcp(agent_port)]),
        },
        NetworkPolicyIngressRule {
            from: Some(vec![namespace(flows.operator_namespace)]),
            ports: Some(vec![tcp(flows.engine_port), tcp(agent_port)]),
        },
    ];
    let egress = vec![
        NetworkPolicyEgressRule {
            to: members(),
            ports: Some(vec![tcp(flows.engine_port)]),
        },
        NetworkPolicyEgressRule {
            to: None,
            ports: Some(dns()),
        },
    ];
    Some(NetworkPolicy {
        metadata: set.owned(names::pooler(&set.name)),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(selector(set.pooler_selector())),
            policy_types: Some(vec!["Ingress".into(), "Egress".into()]),
            ingress: Some(ingress),
            egress: Some(egress),
        }),
    })
}

/// The policy of a set's drills: nothing reaches them, and they reach names and the store, if there is one still.
pub fn drill_policy(set: &SetId, store: Option<u16>) -> NetworkPolicy {
    let metadata = set.owned(names::drill_policy(&set.name));
    aside(metadata, set.drill_selector(), store)
}

/// A policy of pods with these labels that nothing reaches, and that reach names and a store.
pub fn aside(
    metadata: ObjectMeta,
    pods: BTreeMap<String, String>,
    store: Option<u16>,
) -> NetworkPolicy {
    let store = store.map(|port| vec![tcp(port)]);
    let ports = std::iter::once(dns()).chain(store);
    let egress = ports.map(|ports| NetworkPolicyEgressRule {
        to: None,
        ports: Some(ports),
    });
    NetworkPolicy {
        metadata,
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(selector(pods)),
            policy_types: Some(vec!["Ingress".into(), "Egress".into()]),
            ingress: None,
            egress: Some(egress.collect()),
        }),
    }
}

/// Pods of the same namespace with the access label, and those that the resource names.
fn clients(set: &SetId, named: &[AllowedClient]) -> Vec<NetworkPolicyPeer> {
    let label = BTreeMap::from([(names::access_label(&set.name), "allow".to_owned())]);
    let named = named.iter().map(|client| {
        pods(
            client.namespace_labels.clone(),
            client.pod_labels.clone().unwrap_or_default(),
        )
    });
    std::iter::once(pods(None, label)).chain(named).collect()
}

/// One rule for each port, so that no address is opened on another's port.
fn api_servers(all: &BTreeSet<(IpAddr, u16)>) -> Vec<NetworkPolicyEgressRule> {
    let mut by_port: BTreeMap<u16, Vec<NetworkPolicyPeer>> = BTreeMap::new();
    for (address, port) in all {
        let length = if address.is_ipv4() { 32 } else { 128 };
        by_port.entry(*port).or_default().push(NetworkPolicyPeer {
            ip_block: Some(IPBlock {
                cidr: format!("{address}/{length}"),
                except: None,
            }),
            ..NetworkPolicyPeer::default()
        });
    }
    by_port
        .into_iter()
        .map(|(port, to)| NetworkPolicyEgressRule {
            to: Some(to),
            ports: Some(vec![tcp(port)]),
        })
        .collect()
}

fn dns() -> Vec<NetworkPolicyPort> {
    DNS_PORTS
        .iter()
        .flat_map(|p| [port("UDP", *p), port("TCP", *p)])
        .collect()
}

/// Pods with these labels: of namespaces with those labels, or of the policy's own namespace.
fn pods(
    namespaces: Option<BTreeMap<String, String>>,
    labels: BTreeMap<String, String>,
) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        namespace_selector: namespaces.map(selector),
        pod_selector: Some(selector(labels)),
        ip_block: None,
    }
}

fn namespace(name: &str) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        namespace_selector: Some(selector(BTreeMap::from([(
            NAMESPACE_NAME.to_owned(),
            name.to_owned(),
        )]))),
        ..NetworkPolicyPeer::default()
    }
}

fn selector(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector {
        match_labels: (!labels.is_empty()).then_some(labels),
        ..LabelSelector::default()
    }
}

fn tcp(number: u16) -> NetworkPolicyPort {
    port("TCP", number)
}

fn port(protocol: &str, number: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::Int(number.into())),
        protocol: Some(protocol.into()),
        end_port: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::tests::db;

    fn rendered(api_servers: &[(&str, u16)], clients: &[AllowedClient]) -> serde_json::Value {
        let api_servers = api_servers
            .iter()
            .map(|(a, p)| (a.parse().unwrap(), *p))
            .collect();
        let flows = Flows {
            engine_port: 5432,
            client_ports: &[],
            peer_ports: &[],
            operator_namespace: "mainstay",
            api_servers: &api_servers,
            clients,
            poolers: false,
            backups: false,
            stores: &BTreeSet::new(),
        };
        serde_json::to_value(policy(&db(), &flows)).unwrap()
    }

    #[test]
    fn poolers_reach_engines_and_agents_reach_poolers() {
        let api_servers = [([10, 0, 0, 1].into(), 6443)].into();
        let none = &BTreeSet::new();
        let flows = |poolers| Flows {
            engine_port: 5432,
            client_ports: &[],
            peer_ports: &[],
            operator_namespace: "mainstay",
            api_servers: &api_servers,
            clients: &[],
            poolers,
            backups: false,
            stores: none,
        };
        let without = serde_json::to_value(policy(&db(), &flows(false))).unwrap();
        let with = serde_json::to_value(policy(&db(), &flows(true))).unwrap();
        let rules = |of: &serde_json::Value, way: &str| of["spec"][way].as_array().unwrap().clone();
        let poolers = serde_json::json!({"matchLabels": db().pooler_selector()});
        for (way, side, port) in [("ingress", "from", 5432), ("egress", "to", 8443)] {
            let (before, after) = (rules(&without, way), rules(&with, way));
            assert_eq!(after[..before.len()], before[..]);
            assert_eq!(after.len(), before.len() + 1);
            let added = after.last().unwrap();
            assert_eq!(added[side][0]["podSelector"], poolers);
            assert_eq!(added["ports"].as_array().unwrap().len(), 1);
            assert_eq!(added["ports"][0]["port"], port);
        }
        let own = serde_json::to_value(pooler_policy(&db(), &flows(true))).unwrap();
        assert_eq!(own["spec"]["podSelector"], poolers);
        let clients = &rules(&own, "ingress")[0];
        assert_eq!(
            clients["ports"].as_array().unwrap().len(),
            1,
            "no client reaches a pooler's agent"
        );
        assert_ne!(db().pooler_selector(), db().selector());
    }

    #[test]
    fn backups_reach_their_stores_and_only_the_operator_reaches_backups() {
        let api_servers = [([10, 0, 0, 1].into(), 6443)].into();
        let stores = BTreeSet::from([443, 9000]);
        let flows = Flows {
            engine_port: 5432,
            client_ports: &[],
            peer_ports: &[],
            operator_namespace: "mainstay",
            api_servers: &api_servers,
            clients: &[],
            poolers: false,
            backups: true,
            stores: &stores,
        };
        let policy = serde_json::to_value(policy(&db(), &flows)).unwrap();
        let last = |way: &str| {
            policy["spec"][way]
                .as_array()
                .unwrap()
                .last()
                .unwrap()
                .clone()
        };
        let out = last("egress");
        assert!(out["to"].is_null());
        let ports: Vec<_> = out["ports"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| p["port"].as_i64())
            .collect();
        assert_eq!(ports, [Some(443), Some(9000)]);
        let into = last("ingress");
        assert_eq!(into["ports"][0]["port"], names::BACKUP_PORT);
        let who = &into["from"][0]["namespaceSelector"]["matchLabels"];
        assert_eq!(who[NAMESPACE_NAME], "mainstay");
    }

    #[test]
    fn nothing_reaches_a_drill_and_it_reaches_the_store_alone() {
        let policy = serde_json::to_value(drill_policy(&db(), Some(9000))).unwrap();
        let spec = &policy["spec"];
        assert_eq!(
            spec["podSelector"]["matchLabels"][names::APP_NAME],
            "postgres-drill"
        );
        assert_eq!(
            spec["policyTypes"],
            serde_json::json!(["Ingress", "Egress"])
        );
        assert!(spec["ingress"].is_null());
        let out = spec["egress"].as_array().unwrap();
        assert_eq!(out.len(), 2);
        assert_eq!(out[1]["ports"].as_array().unwrap().len(), 1);
        assert_eq!(out[1]["ports"][0]["port"], 9000);
    }

    #[test]
    fn without_a_known_api_server_there_is_no_policy() {
        assert!(rendered(&[], &[]).is_null());
    }

    #[test]
    fn each_api_server_is_open_on_its_own_port_only() {
        let policy = rendered(
            &[("10.0.0.1", 6443), ("10.0.0.2", 6443), ("fd00::1", 443)],
            &[],
        );
        let rules = policy["spec"]["egress"].as_array().unwrap();
        assert_eq!(rules.len(), 4);
        assert_eq!(rules[2]["to"][0]["ipBlock"]["cidr"], "fd00::1/128");
        assert_eq!(rules[2]["ports"][0]["port"], 443);
        assert_eq!(rules[3]["to"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn further_ports_are_open_to_clients_alone() {
        let api_servers = [([10, 0, 0, 1].into(), 6443)].into();
        let flows = Flows {
            engine_port: 6379,
            client_ports: &[26379],
            peer_ports: &[16379],
            operator_namespace: "mainstay",
            api_servers: &api_servers,
            clients: &[],
            poolers: false,
            backups: false,
            stores: &BTreeSet::new(),
        };
        let policy = serde_json::to_value(policy(&db(), &flows)).unwrap();
        let all = policy["spec"]["ingress"].as_array().unwrap();
        let open = |rule: &serde_json::Value| {
            let mut ports = rule["ports"].as_array().unwrap().iter();
            ports.any(|p| p["port"] == 26379)
        };
        let to: Vec<usize> = (0..all.len()).filter(|n| open(&all[*n])).collect();
        assert_eq!(to, [2]);
        assert_eq!(all[2]["ports"][0]["port"], 6379);
        assert!(!policy["spec"]["egress"].to_string().contains("26379"));
    }

    #[test]
    fn clients_reach_the_engine_and_never_the_agents() {
        let monitoring = AllowedClient {
            namespace_labels: Some(BTreeMap::from([("team".into(), "web".into())])),
            pod_labels: None,
        };
        let policy = rendered(&[("10.0.0.1", 6443)], &[monitoring]);
        let rule = &policy["spec"]["ingress"][2];
        assert_eq!(rule["ports"].as_array().unwrap().len(), 1);
        assert_eq!(rule["ports"][0]["port"], 5432);
        let own = &rule["from"][0];
        assert_eq!(
            own["podSelector"]["matchLabels"]["access.mainstay.dev/db"],
            "allow"
        );
        assert!(own["namespaceSelector"].is_null());
        let named = &rule["from"][1];
        assert_eq!(named["namespaceSelector"]["matchLabels"]["team"], "web");
        assert_eq!(named["podSelector"], serde_json::json!({}));
    }
}
