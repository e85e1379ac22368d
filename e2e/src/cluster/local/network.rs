//! The cluster's network: scripts for a shell that already runs in the cluster's mount namespace
//! and outer network namespace. Nothing here touches the machine's own network.

use std::fmt::Write as _;

use super::layout::{Layout, OUTER, SERVICES};
use crate::cluster::context::NodeContext;

/// Host part of the kernel's settings that a kubelet insists on setting although they are not its
/// own but the machine's, and the values it wants.
///
/// A plain file with that value is mounted over each, in the cluster's mount namespace only: the
/// kubelet is content and the machine keeps its settings.
const TUNABLES: [(&str, u32); 6] = [
    ("vm/overcommit_memory", 1),
    ("vm/panic_on_oom", 0),
    ("kernel/panic", 10),
    ("kernel/panic_on_oops", 1),
    ("kernel/keys/root_maxkeys", 1_000_000),
    ("kernel/keys/root_maxbytes", 25_000_000),
];

/// The end of a node's link in the outer namespace.
pub fn link(node: &NodeContext) -> String {
    format!("v-{}", node.name)
}

/// Makes the folders where volumes are mounted known to both the kubelet, which has mounts of its own,
/// and the container runtime; sets up the outer namespace, one bridge, and a namespace, a link and routes per node.
pub fn script(layout: &Layout, nodes: &[NodeContext]) -> String {
    let mut s = String::from("set -eu\n");
    let _ = writeln!(
        s,
        "mkdir -p {0} {1}",
        layout.run().join("netns").display(),
        layout.run().join("sysctl").display()
    );
    for (path, value) in TUNABLES {
        let file = layout.run().join("sysctl").join(path.replace('/', "."));
        let _ = writeln!(
            s,
            "if [ -e /proc/sys/{path} ]; then echo {value} > {0}; mount --bind {0} /proc/sys/{path}; fi",
            file.display()
        );
    }
    for node in nodes {
        for folder in ["kubelet", "volumes"] {
            let _ = writeln!(
                s,
                "mkdir -p {0}\nmount --bind {0} {0}\nmount --make-shared {0}",
                node.dir.join(folder).display()
            );
        }
    }
    let outer = layout.netns("outer");
    let _ = writeln!(
        s,
        "touch {0}\nmount --bind /proc/self/ns/net {0}",
        outer.display()
    );
    let _ = writeln!(s, "echo 1 > /proc/sys/net/ipv4/ip_forward");
    for node in nodes {
        let _ = writeln!(
            s,
            "touch {0}\nunshare --net={0} sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'",
            node.netns.display()
        );
    }
    let mut batch = format!(
        "link set lo up\nlink add br-nodes type bridge\naddress add {OUTER}/24 dev br-nodes\nlink set br-nodes up\n"
    );
    // Where to is decided before the proxy's rules see a packet to a service: any way out will do.
    let _ = writeln!(batch, "route add {SERVICES} dev br-nodes src {OUTER}");
    for node in nodes {
        let link = link(node);
        let _ = writeln!(
            batch,
            "link add {link} type veth peer name eth0 netns {}",
            node.netns.display()
        );
        let _ = writeln!(batch, "link set {link} master br-nodes up");
        let _ = writeln!(batch, "route add {} via {}", node.pod_subnet, node.address);
    }
    let _ = write!(s, "ip -batch - <<EOF\n{batch}EOF\n");
    for node in nodes {
        let mut batch = format!(
            "link set lo up\naddress add {}/24 dev eth0\nlink set eth0 up\nroute add default via {OUTER}\n",
            node.address
        );
        for other in nodes.iter().filter(|other| other.name != node.name) {
            let _ = writeln!(
                batch,
                "route add {} via {}",
                other.pod_subnet, other.address
            );
        }
        let _ = write!(
            s,
            "nsenter --net={} ip -batch - <<EOF\n{batch}EOF\n",
            node.netns.display()
        );
    }
    s
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn each_node_reaches_the_pods_of_the_others_only() {
        let layout = Layout::new("x", Path::new("/s")).unwrap();
        let nodes = [layout.node(1), layout.node(2)];
        let script = script(&layout, &nodes);
        let second = script.rsplit("nsenter --net").next().unwrap();
        assert!(
            second.contains("route add 10.244.1.0/24 via 172.30.0.11"),
            "{second}"
        );
        assert!(!second.contains("10.244.2.0/24"), "{second}");
    }
}
