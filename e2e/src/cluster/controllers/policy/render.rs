//! The rules of a node as a script for `nft -f`.
//!
//! Everything is in one table of our own, replaced in one transaction. Pods are routed, so every
//! flow of theirs passes the `forward` hook of their node, after the translation of Service
//! addresses (`prerouting`) and before that of sources (`postrouting`): with the real addresses of
//! both ends. What the node itself sends to its pods, such as probes, passes other hooks.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use super::rules::{Allow, Block, NodeRules, Peers, Ports, Protocol};

/// Name of the table.
pub const TABLE: &str = "mainstay-policy";

/// The whole script.
pub fn script(rules: &NodeRules) -> String {
    let mut chains: Vec<(String, &[Allow], &str)> = Vec::new();
    let ingress = assign(&rules.ingress, "ingress", "saddr", &mut chains);
    let egress = assign(&rules.egress, "egress", "daddr", &mut chains);

    // Declared first, so that deleting it does not fail where there is none.
    let mut s = format!("table ip {TABLE}\ndelete table ip {TABLE}\ntable ip {TABLE} {{\n");
    for (name, allowed, other) in &chains {
        let _ = writeln!(s, "  chain {name} {{");
        for allow in *allowed {
            for line in lines(allow, other) {
                let _ = writeln!(s, "    {line}return");
            }
        }
        s.push_str("    counter drop\n  }\n");
    }
    s.push_str("  chain forward {\n    type filter hook forward priority filter; policy accept;\n");
    s.push_str("    ct state established,related accept\n");
    let own: std::collections::BTreeSet<_> =
        rules.ingress.keys().chain(rules.egress.keys()).collect();
    if !own.is_empty() {
        let pairs: Vec<_> = own
            .iter()
            .map(|address| format!("{address} . {address}"))
            .collect();
        let _ = writeln!(
            s,
            "    ip saddr . ip daddr {{ {} }} accept",
            pairs.join(", ")
        );
    }
    for (field, map) in [("saddr", egress), ("daddr", ingress)] {
        if !map.is_empty() {
            let _ = writeln!(s, "    ip {field} vmap {{ {} }}", map.join(", "));
        }
    }
    s.push_str("  }\n}\n");
    s
}

/// Gives pods with the same rules the same chain; returns the elements of the verdict map.
fn assign<'a>(
    pods: &'a BTreeMap<Ipv4Addr, Vec<Allow>>,
    way: &str,
    other: &'static str,
    chains: &mut Vec<(String, &'a [Allow], &'static str)>,
) -> Vec<String> {
    let mut elements = Vec::new();
    for (address, allowed) in pods {
        let known = chains
            .iter()
            .find(|(_, has, side)| *side == other && *has == allowed.as_slice());
        let name = known.map_or_else(
            || format!("{way}-{}", chains.len()),
            |(name, _, _)| name.clone(),
        );
        if known.is_none() {
            chains.push((name.clone(), allowed, other));
        }
        elements.push(format!("{address} : jump {name}"));
    }
    elements
}

/// The conditions of an allowance, one line for each protocol, each ending with a blank.
fn lines(allow: &Allow, other: &str) -> Vec<String> {
    let peers = match &allow.peers {
        Peers::Any => String::new(),
        Peers::Addresses(addresses) => {
            let list: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            format!("ip {other} {{ {} }} ", list.join(", "))
        }
        Peers::Block(block, except) => {
            let mut text = String::new();
            if block.prefix > 0 {
                let _ = write!(text, "ip {other} {} ", cidr(*block));
            }
            for hole in except {
                // A hole of everything leaves nothing: a condition that is never true.
                let _ = match hole.prefix {
                    0 => write!(text, "ip {other} != 0.0.0.0-255.255.255.255 "),
                    _ => write!(text, "ip {other} != {} ", cidr(*hole)),
                };
            }
            text
        }
    };
    match &allow.ports {
        None => vec![peers],
        Some(ports) => conditions(ports)
            .into_iter()
            .map(|ports| format!("{peers}{ports}"))
            .collect(),
    }
}

fn cidr(block: Block) -> String {
    format!("{}/{}", block.network, block.prefix)
}

fn conditions(ports: &Ports) -> Vec<String> {
    ports
        .iter()
        .map(|(protocol, ranges)| {
            let word = match protocol {
                Protocol::Tcp => "tcp",
                Protocol::Udp => "udp",
                Protocol::Sctp => "sctp",
            };
            if ranges == [(0, u16::MAX)] {
                return format!("ip protocol {word} ");
            }
            let list: Vec<_> = ranges
                .iter()
                .map(|(first, last)| {
                    if first == last {
                        first.to_string()
                    } else {
                        format!("{first}-{last}")
                    }
                })
                .collect();
            format!("{word} dport {{ {} }} ", list.join(", "))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    pub fn sample() -> NodeRules {
        let mut ports = Ports::default();
        ports.add(Protocol::Tcp, 5432, 5432);
        ports.add(Protocol::Tcp, 8000, 8100);
        ports.add(Protocol::Udp, 0, u16::MAX);
        let peer = Ipv4Addr::new(10, 244, 2, 9);
        let allow = vec![
            Allow {
                peers: Peers::Addresses(BTreeSet::from([peer])),
                ports: Some(ports),
            },
            Allow {
                peers: Peers::Block(
                    Block::parse("10.0.0.0/8").unwrap(),
                    vec![
                        Block::parse("10.1.0.0/16").unwrap(),
                        Block::parse("10.1.2.0/24").unwrap(),
                    ],
                ),
                ports: None,
            },
            Allow {
                peers: Peers::Block(
                    Block::parse("0.0.0.0/0").unwrap(),
                    vec![Block::parse("0.0.0.0/0").unwrap()],
                ),
                ports: None,
            },
            Allow {
                peers: Peers::Any,
                ports: None,
            },
        ];
        let pod = |last| Ipv4Addr::new(10, 244, 1, last);
        NodeRules {
            ingress: BTreeMap::from([
                (pod(2), allow.clone()),
                (pod(3), allow),
                (pod(4), Vec::new()),
            ]),
            egress: BTreeMap::from([(pod(2), Vec::new())]),
        }
    }

    #[test]
    fn pods_with_the_same_rules_share_a_chain() {
        let script = script(&sample());
        assert_eq!(script.matches("\n  chain ").count(), 4, "{script}");
        assert!(script.contains("10.244.1.2 : jump ingress-0, 10.244.1.3 : jump ingress-0, 10.244.1.4 : jump ingress-1"), "{script}");
        assert!(
            script.contains("ip saddr { 10.244.2.9 } tcp dport { 5432, 8000-8100 } return"),
            "{script}"
        );
        assert!(
            script.contains("ip saddr { 10.244.2.9 } ip protocol udp return"),
            "{script}"
        );
        assert!(
            script.contains(
                "ip saddr 10.0.0.0/8 ip saddr != 10.1.0.0/16 ip saddr != 10.1.2.0/24 return"
            ),
            "{script}"
        );
    }

    #[test]
    fn without_policies_everything_passes() {
        let script = script(&NodeRules::default());
        assert!(
            !script.contains("drop") && !script.contains("vmap"),
            "{script}"
        );
    }

    #[test]
    #[ignore = "needs root for a network namespace; the scenarios on a local cluster run the same script"]
    fn nft_takes_the_script() {
        for rules in [sample(), NodeRules::default()] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), script(&rules)).unwrap();
            let done = std::process::Command::new("unshare")
                .args(["--net", "nft", "-f"])
                .arg(file.path())
                .output()
                .unwrap();
            assert!(
                done.status.success(),
                "{}",
                String::from_utf8_lossy(&done.stderr)
            );
        }
    }
}
