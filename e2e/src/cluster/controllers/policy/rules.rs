//! What one node must let pass: addresses and ports, without objects and selectors.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// Protocols that a policy can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// From the words of the API; absent means TCP.
    pub fn parse(text: Option<&str>) -> Option<Self> {
        match text.unwrap_or("TCP") {
            "TCP" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            "SCTP" => Some(Self::Sctp),
            _ => None,
        }
    }
}

/// A block of IPv4 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Block {
    /// First address.
    pub network: Ipv4Addr,
    /// Length of the prefix, 0 to 32.
    pub prefix: u8,
}

impl Block {
    /// Parses `10.0.0.0/8`; host bits are cleared. `None` for anything else, IPv6 included.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let address: Ipv4Addr = address.parse().ok()?;
        let prefix: u8 = prefix.parse().ok().filter(|prefix| *prefix <= 32)?;
        let network = Ipv4Addr::from(u32::from(address) & Self::mask(prefix));
        Some(Self { network, prefix })
    }

    fn mask(prefix: u8) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
    }

    /// Whether `address` lies in it.
    #[cfg(test)]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & Self::mask(self.prefix) == u32::from(self.network)
    }
}

/// The other end of a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peers {
    /// Whoever it is.
    Any,
    /// One of these pods.
    Addresses(BTreeSet<Ipv4Addr>),
    /// An address of a block, with exceptions.
    Block(Block, Vec<Block>),
}

#[cfg(test)]
impl Peers {
    /// Whether `address` is one of them.
    pub fn contain(&self, address: Ipv4Addr) -> bool {
        match self {
            Self::Any => true,
            Self::Addresses(addresses) => addresses.contains(&address),
            Self::Block(block, except) => {
                block.contains(address) && !except.iter().any(|hole| hole.contains(address))
            }
        }
    }
}

/// Destination ports per protocol, as disjoint ascending ranges (first and last).
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ports(BTreeMap<Protocol, Vec<(u16, u16)>>);

impl Ports {
    /// Adds a range, both ends included; ranges that touch become one.
    pub fn add(&mut self, protocol: Protocol, first: u16, last: u16) {
        let ranges = self.0.entry(protocol).or_default();
        ranges.push((first, last));
        ranges.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::new();
        for &(first, last) in ranges.iter() {
            match merged.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    before.1 = before.1.max(last);
                }
                _ => merged.push((first, last)),
            }
        }
        *ranges = merged;
    }

    /// Whether no port is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Protocols with their ranges.
    pub fn iter(&self) -> impl Iterator<Item = (Protocol, &[(u16, u16)])> {
        self.0
            .iter()
            .map(|(protocol, ranges)| (*protocol, ranges.as_slice()))
    }

    /// Whether a packet to `port` is one of them.
    #[cfg(test)]
    pub fn contain(&self, protocol: Protocol, port: u16) -> bool {
        let ranges = self.0.get(&protocol).map(Vec::as_slice).unwrap_or_default();
        ranges
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&port))
    }
}

/// Flows that are let pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allow {
    /// The other end.
    pub peers: Peers,
    /// Ports at the destination; `None`: everything, also protocols without ports.
    pub ports: Option<Ports>,
}

/// What a node must enforce for the pods that it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeRules {
    /// Isolated pods of this node by address: what may reach them.
    pub ingress: BTreeMap<Ipv4Addr, Vec<Allow>>,
    /// Isolated pods of this node by address: what they may reach.
    pub egress: BTreeMap<Ipv4Addr, Vec<Allow>>,
}

#[cfg(test)]
impl NodeRules {
    /// The verdict of this node on a new flow that it forwards. `port` is `None` for protocols
    /// without ports.
    pub fn pass(&self, from: Ipv4Addr, to: Ipv4Addr, port: Option<(Protocol, u16)>) -> bool {
        let side = |rules: &BTreeMap<Ipv4Addr, Vec<Allow>>, own: Ipv4Addr, other: Ipv4Addr| {
            rules.get(&own).is_none_or(|allowed| {
                allowed.iter().any(|allow| {
                    let ports = match (&allow.ports, port) {
                        (None, _) => true,
                        (Some(ports), Some((protocol, port))) => ports.contain(protocol, port),
                        (Some(_), None) => false,
                    };
                    ports && allow.peers.contain(other)
                })
            })
        };
        from == to || (side(&self.egress, from, to) && side(&self.ingress, to, from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_hold_their_addresses() {
        let block = Block::parse("10.1.2.3/16").unwrap();
        assert_eq!(block.network, Ipv4Addr::new(10, 1, 0, 0));
        assert!(block.contains(Ipv4Addr::new(10, 1, 255, 255)));
        assert!(!block.contains(Ipv4Addr::new(10, 2, 0, 0)));
        assert!(
            Block::parse("0.0.0.0/0")
                .unwrap()
                .contains(Ipv4Addr::new(8, 8, 8, 8))
        );
        assert!(
            Block::parse("1.2.3.4/32")
                .unwrap()
                .contains(Ipv4Addr::new(1, 2, 3, 4))
        );
        for bad in ["10.0.0.0", "10.0.0.0/33", "::/0", "x/8"] {
            assert_eq!(Block::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn ranges_that_touch_become_one() {
        let mut ports = Ports::default();
        for (first, last) in [
            (80, 80),
            (90, 100),
            (81, 85),
            (95, 110),
            (65535, 65535),
            (1, 1),
        ] {
            ports.add(Protocol::Tcp, first, last);
        }
        let (_, ranges) = ports.iter().next().unwrap();
        assert_eq!(ranges, [(1, 1), (80, 85), (90, 110), (65535, 65535)]);
        assert!(ports.contain(Protocol::Tcp, 82) && !ports.contain(Protocol::Udp, 82));
    }
}
