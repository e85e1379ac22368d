//! Where everything of a cluster is: all of it derives from the cluster's name.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use super::LocalError;
use crate::cluster::context::NodeContext;

/// Longest name: paths of Unix sockets below `/run` must stay within 107 bytes.
const LONGEST_NAME: usize = 30;
/// Most nodes: their addresses are 172.30.0.11 and upwards.
const MOST_NODES: usize = 9;

/// The cgroup of all clusters.
pub const CLUSTERS: &str = "mainstay";
/// Address of the outer namespace, which plays the machine outside the nodes.
pub const OUTER: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);
/// The services' subnet.
pub const SERVICES: &str = "10.96.0.0/16";
/// The pods' subnet; node N has 10.244.N.0/24 of it.
pub const PODS: &str = "10.244.0.0/16";
/// Service address of the cluster's DNS.
pub const DNS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// Service address of the API server.
pub const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

/// Paths and names of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    name: String,
    base: PathBuf,
}

impl Layout {
    /// # Errors
    /// The name is empty, too long, or holds something else than lowercase letters, digits and `-`.
    pub fn new(name: &str, base: &Path) -> Result<Self, LocalError> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty()
            || name.len() > LONGEST_NAME
            || name.starts_with('-')
            || !name.chars().all(allowed)
        {
            return Err(LocalError::Name {
                name: name.to_owned(),
            });
        }
        Ok(Self {
            name: name.to_owned(),
            base: base.to_owned(),
        })
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Held while a cluster is started or removed; beside the state folder, so that it outlives it.
    pub fn lock(&self) -> PathBuf {
        self.base.join(format!(".{}.lock", self.name))
    }

    /// Everything that lasts as long as the cluster.
    pub fn state(&self) -> PathBuf {
        self.base.join(&self.name)
    }

    /// Sockets, and the pins of namespaces (which only the cluster's mount namespace shows).
    pub fn run(&self) -> PathBuf {
        Path::new("/run/mainstay").join(&self.name)
    }

    /// The pin of a network namespace: `outer` or a node's name.
    pub fn netns(&self, name: &str) -> PathBuf {
        self.run().join("netns").join(name)
    }

    /// The cgroup of all of the cluster's processes, from the root of each hierarchy.
    pub fn cgroup(&self) -> String {
        format!("{CLUSTERS}/{}", self.name)
    }

    /// A file of the state folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.state().join(name)
    }

    /// What a process wrote.
    pub fn log(&self, process: &str) -> PathBuf {
        self.state().join("log").join(format!("{process}.log"))
    }

    /// The record of a process.
    pub fn record(&self, process: &str) -> PathBuf {
        self.state().join("pids").join(process)
    }

    /// A file of the certificates' folder.
    pub fn pki(&self, name: &str) -> PathBuf {
        self.state().join("pki").join(name)
    }

    /// A kubeconfig for use in the outer namespace and in the nodes.
    pub fn inner_kubeconfig(&self, user: &str) -> PathBuf {
        self.state().join("conf").join(format!("{user}.conf"))
    }

    /// The administrator's kubeconfig for use outside, through the forward.
    pub fn kubeconfig(&self) -> PathBuf {
        self.state().join("kubeconfig")
    }

    /// Node `index`, from 1.
    pub fn node(&self, index: u8) -> NodeContext {
        let name = format!("node{index}");
        NodeContext {
            zone: format!("zone-{index}"),
            netns: self.netns(&name),
            address: Ipv4Addr::new(172, 30, 0, 10 + index),
            pod_subnet: format!("10.244.{index}.0/24"),
            dir: self.state().join(&name),
            name,
        }
    }

    /// A node's containerd socket.
    pub fn containerd(&self, node: &str) -> PathBuf {
        self.run().join(format!("{node}.sock"))
    }
}

/// The nodes' numbers.
///
/// # Errors
/// None, or more than their addresses allow.
pub fn numbers(nodes: usize) -> Result<impl Iterator<Item = u8> + Clone, LocalError> {
    if nodes == 0 || nodes > MOST_NODES {
        return Err(LocalError::Nodes {
            nodes,
            most: MOST_NODES,
        });
    }
    Ok(1..=u8::try_from(nodes).unwrap_or(u8::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cannot_escape() {
        for bad in ["", "a/b", "..", "-x", "A", &"a".repeat(31)] {
            assert!(Layout::new(bad, Path::new("/s")).is_err(), "{bad}");
        }
        let layout = Layout::new("demo-1", Path::new("/s")).unwrap();
        assert_eq!(layout.state(), Path::new("/s/demo-1"));
        assert!(layout.containerd("node9").as_os_str().len() < 100);
    }

    #[test]
    fn nodes_are_apart() {
        let layout = Layout::new("x", Path::new("/s")).unwrap();
        let nodes: Vec<_> = numbers(3)
            .unwrap()
            .map(|index| layout.node(index))
            .collect();
        assert_eq!(nodes[2].name, "node3");
        assert_eq!(nodes[2].address, Ipv4Addr::new(172, 30, 0, 13));
        assert_eq!(nodes[2].pod_subnet, "10.244.3.0/24");
        assert!(numbers(0).is_err() && numbers(10).is_err());
    }
}
