//! The API's semantics a second time, per flow and as plainly as possible, and the compiler against
//! it in generated worlds.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::compile::{World, node_rules};
use super::rules::Protocol;

/// A world as JSON, read by field names rather than through the types that the compiler uses.
#[derive(Debug, Clone)]
struct Plain {
    policies: Vec<Value>,
    pods: Vec<Value>,
    namespaces: Vec<Value>,
}

struct Flow {
    from: Ipv4Addr,
    to: Ipv4Addr,
    protocol: &'static str,
    port: u16,
}

fn labels_match(selector: &Value, labels: &Value) -> bool {
    let equal = selector["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .all(|(key, value)| &labels[key] == value);
    let expressions = selector["matchExpressions"]
        .as_array()
        .into_iter()
        .flatten()
        .all(|expression| {
            let has = &labels[expression["key"].as_str().unwrap()];
            let listed = expression["values"]
                .as_array()
                .is_some_and(|values| values.contains(has));
            match expression["operator"].as_str().unwrap() {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => !has.is_null(),
                _ => has.is_null(),
            }
        });
    equal && expressions
}

fn in_cidr(cidr: &str, address: Ipv4Addr) -> bool {
    let (network, prefix) = cidr.split_once('/').unwrap();
    let network: Ipv4Addr = network.parse().unwrap();
    let keep: u32 = prefix.parse().unwrap();
    (0..keep).all(|bit| {
        let bit = 31 - bit;
        u32::from(network) >> bit & 1 == u32::from(address) >> bit & 1
    })
}

impl Plain {
    fn pod(&self, address: Ipv4Addr) -> Option<&Value> {
        self.pods.iter().find(|pod| {
            pod["status"]["podIP"] == address.to_string().as_str()
                && pod["spec"]["hostNetwork"] != true
                && pod["status"]["phase"] == "Running"
        })
    }

    fn namespace_labels(&self, name: &Value) -> &Value {
        &self
            .namespaces
            .iter()
            .find(|namespace| &namespace["metadata"]["name"] == name)
            .unwrap()["metadata"]["labels"]
    }

    fn allowed(&self, flow: &Flow) -> bool {
        flow.from == flow.to || (self.side(flow, "Egress") && self.side(flow, "Ingress"))
    }

    fn side(&self, flow: &Flow, way: &str) -> bool {
        let (own, other, rules, peers) = match way {
            "Ingress" => (flow.to, flow.from, "ingress", "from"),
            _ => (flow.from, flow.to, "egress", "to"),
        };
        let Some(pod) = self.pod(own) else {
            return true;
        };
        let mut isolated = false;
        for policy in &self.policies {
            let spec = &policy["spec"];
            let of_type = match spec["policyTypes"].as_array() {
                Some(types) => types.contains(&json!(way)),
                None => {
                    way == "Ingress"
                        || spec["egress"]
                            .as_array()
                            .is_some_and(|rules| !rules.is_empty())
                }
            };
            if policy["metadata"]["namespace"] != pod["metadata"]["namespace"]
                || !of_type
                || !labels_match(&spec["podSelector"], &pod["metadata"]["labels"])
            {
                continue;
            }
            isolated = true;
            for rule in spec[rules].as_array().into_iter().flatten() {
                if self.rule(rule, peers, policy, flow, other, way) {
                    return true;
                }
            }
        }
        !isolated
    }

    fn rule(
        &self,
        rule: &Value,
        peers: &str,
        policy: &Value,
        flow: &Flow,
        other: Ipv4Addr,
        way: &str,
    ) -> bool {
        let ports = rule["ports"].as_array().cloned().unwrap_or_default();
        let peers = rule[peers].as_array().cloned().unwrap_or_default();
        if peers.is_empty() {
            return self.ports(&ports, flow, true);
        }
        peers.iter().any(|peer| {
            if let Some(block) = peer.get("ipBlock") {
                let except = block["except"].as_array().cloned().unwrap_or_default();
                return in_cidr(block["cidr"].as_str().unwrap(), other)
                    && !except
                        .iter()
                        .any(|hole| in_cidr(hole.as_str().unwrap(), other))
                    && self.ports(&ports, flow, way == "Ingress");
            }
            let Some(pod) = self.pod(other) else {
                return false;
            };
            let namespace = match peer.get("namespaceSelector") {
                None => pod["metadata"]["namespace"] == policy["metadata"]["namespace"],
                Some(selector) => labels_match(
                    selector,
                    self.namespace_labels(&pod["metadata"]["namespace"]),
                ),
            };
            let selected = peer
                .get("podSelector")
                .is_none_or(|selector| labels_match(selector, &pod["metadata"]["labels"]));
            namespace && selected && self.ports(&ports, flow, true)
        })
    }

    /// Names are those of the pod at the destination.
    fn ports(&self, ports: &[Value], flow: &Flow, names: bool) -> bool {
        ports.is_empty()
            || ports.iter().any(|port| {
                let protocol = port["protocol"].as_str().unwrap_or("TCP");
                let first = match &port["port"] {
                    Value::Null => return protocol == flow.protocol,
                    Value::String(name) if names => self.pod(flow.to).and_then(|pod| {
                        let ports = pod["spec"]["containers"][0]["ports"].as_array()?;
                        let found = ports.iter().find(|port| {
                            port["name"] == name.as_str()
                                && port["protocol"].as_str().unwrap_or("TCP") == protocol
                        })?;
                        found["containerPort"].as_u64()
                    }),
                    number => number.as_u64(),
                };
                let last = port["endPort"].as_u64().or(first);
                protocol == flow.protocol
                    && first.is_some_and(|first| first <= flow.port.into())
                    && last.is_some_and(|last| u64::from(flow.port) <= last)
            })
    }
}

fn typed<K: serde::de::DeserializeOwned>(values: &[Value]) -> Vec<K> {
    values
        .iter()
        .map(|value| serde_json::from_value(value.clone()).unwrap())
        .collect()
}

const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 1);

fn selector() -> impl Strategy<Value = Value> {
    prop_oneof![
        2 => Just(json!({})),
        3 => prop::sample::select(vec!["web", "db"]).prop_map(|app| json!({"matchLabels": {"app": app}})),
        1 => prop::sample::select(vec!["In", "NotIn"]).prop_map(|operator| json!({"matchExpressions": [{"key": "app", "operator": operator, "values": ["db", "none"]}]})),
        1 => prop::sample::select(vec!["Exists", "DoesNotExist"]).prop_map(|operator| json!({"matchExpressions": [{"key": "extra", "operator": operator}]})),
    ]
}

fn peer() -> impl Strategy<Value = Value> {
    let cidrs = || {
        prop::sample::select(vec![
            "0.0.0.0/0",
            "10.244.0.0/16",
            "10.244.1.0/24",
            "10.244.1.2/32",
            "192.168.0.0/16",
        ])
    };
    prop_oneof![
        selector().prop_map(|pods| json!({"podSelector": pods})),
        selector().prop_map(|namespaces| json!({"namespaceSelector": namespaces})),
        (selector(), selector()).prop_map(
            |(namespaces, pods)| json!({"namespaceSelector": namespaces, "podSelector": pods})
        ),
        (cidrs(), prop::collection::vec(cidrs(), 0..3))
            .prop_map(|(cidr, except)| json!({"ipBlock": {"cidr": cidr, "except": except}})),
    ]
}

fn port() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({})),
        Just(json!({"protocol": "UDP"})),
        Just(json!({"port": 5432})),
        Just(json!({"port": 5000, "endPort": 5432})),
        Just(json!({"port": "main"})),
        Just(json!({"port": "main", "protocol": "UDP"})),
    ]
}

fn rules(peers: &'static str) -> impl Strategy<Value = Value> {
    let rule = (
        prop::collection::vec(peer(), 0..3),
        prop::collection::vec(port(), 0..3),
    )
        .prop_map(move |(ends, ports)| json!({peers: ends, "ports": ports}));
    prop::collection::vec(rule, 0..3).prop_map(Value::Array)
}

fn policy() -> impl Strategy<Value = Value> {
    let types = prop_oneof![
        Just(None),
        Just(Some(json!(["Ingress"]))),
        Just(Some(json!(["Egress"]))),
        Just(Some(json!(["Ingress", "Egress"]))),
    ];
    (
        prop::sample::select(vec!["a", "b"]),
        selector(),
        types,
        rules("from"),
        rules("to"),
    )
        .prop_map(|(namespace, pods, types, ingress, egress)| {
            let mut spec = json!({"podSelector": pods, "ingress": ingress, "egress": egress});
            if let Some(types) = types {
                spec["policyTypes"] = types;
            }
            json!({"metadata": {"namespace": namespace, "name": "p"}, "spec": spec})
        })
}

fn pod(index: u8) -> impl Strategy<Value = Value> {
    let words = |words: &[&'static str]| prop::sample::select(words.to_vec());
    (words(&["a", "b"]), words(&["web", "db"]), any::<bool>(), words(&["5432", "5433"]), words(&["TCP", "UDP"]), 0..8_u8).prop_map(
        move |(namespace, app, extra, port, protocol, odd)| {
            let node = if index.is_multiple_of(2) { "node1" } else { "node2" };
            let subnet = if index.is_multiple_of(2) { 1 } else { 2 };
            let mut labels = BTreeMap::from([("app", app)]);
            if extra {
                labels.insert("extra", "yes");
            }
            json!({
                "metadata": {"namespace": namespace, "name": format!("p{index}"), "labels": labels},
                "spec": {
                    "nodeName": node,
                    "hostNetwork": odd == 0,
                    "containers": [{"name": "c", "ports": [{"name": "main", "containerPort": port.parse::<u16>().unwrap(), "protocol": protocol}]}],
                },
                "status": {"podIP": format!("10.244.{subnet}.{index}"), "phase": if odd == 1 { "Succeeded" } else { "Running" }},
            })
        },
    )
}

fn world() -> impl Strategy<Value = Plain> {
    let pods = (2..7_u8).map(pod).collect::<Vec<_>>();
    let extra = any::<bool>();
    (prop::collection::vec(policy(), 0..4), pods, extra).prop_map(|(policies, pods, extra)| {
        let mut b = json!({"app": "db"});
        if extra {
            b["extra"] = json!("yes");
        }
        let namespaces = vec![
            json!({"metadata": {"name": "a", "labels": {"app": "web"}}}),
            json!({"metadata": {"name": "b", "labels": b}}),
        ];
        Plain {
            policies,
            pods,
            namespaces,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_flow_has_the_verdict_of_the_api(plain in world()) {
        let (policies, pods, namespaces) = (
            typed::<NetworkPolicy>(&plain.policies),
            typed::<Pod>(&plain.pods),
            typed::<Namespace>(&plain.namespaces),
        );
        let world = World { policies: policies.iter().collect(), pods: pods.iter().collect(), namespaces: namespaces.iter().collect() };
        let nodes = [node_rules(&world, "node1"), node_rules(&world, "node2")];
        let mut ends: Vec<Ipv4Addr> = plain.pods.iter().map(|pod| pod["status"]["podIP"].as_str().unwrap().parse().unwrap()).collect();
        ends.push(OUTSIDE);
        for &from in &ends {
            for &to in &ends {
                for (protocol, word) in [(Protocol::Tcp, "TCP"), (Protocol::Udp, "UDP"), (Protocol::Sctp, "SCTP")] {
                    for port in [5432, 5433, 80] {
                        let meant = plain.allowed(&Flow { from, to, protocol: word, port });
                        let passes = nodes.iter().all(|node| node.pass(from, to, Some((protocol, port))));
                        prop_assert_eq!(meant, passes, "{} to {} {} {}", from, to, word, port);
                    }
                }
            }
        }
    }
}
