//! What a process that serves one local cluster from inside its namespaces must know.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Handed to [`super::controllers::run`].
///
/// The process that gets it already lives in the cluster's own mount namespace and in its outer
/// network namespace: mounts it makes are seen by the kubelets and by nobody else, and vanish with
/// the cluster; the API server answers at the address in `kubeconfig` without a forward.
/// It is ended by SIGKILL, at any moment, and started again if it ends by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControllersContext {
    /// The cluster's name.
    pub cluster: String,
    /// The cluster's state folder, on a real file system; removed by `down`. `state/controllers/`
    /// exists and belongs to the controllers.
    pub state: PathBuf,
    /// A kubeconfig of an administrator that works from the outer network namespace.
    pub kubeconfig: PathBuf,
    /// Every node, in order.
    pub nodes: Vec<NodeContext>,
}

/// One node of a local cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeContext {
    /// The Kubernetes node name, for example `node1`.
    pub name: String,
    /// Value of the label `topology.kubernetes.io/zone`.
    pub zone: String,
    /// The node's network namespace, for `nsenter --net=PATH` or `setns`. Readable only inside the
    /// cluster's mount namespace.
    pub netns: PathBuf,
    /// The node's address on the bridge between nodes.
    pub address: Ipv4Addr,
    /// The node's pod subnet in CIDR notation. Each pod hangs off a veth of its own in `netns` (CNI
    /// plugin `ptp`, no bridge), so also traffic between two pods of one node is routed there and
    /// passes the `forward` hook.
    pub pod_subnet: String,
    /// The node's own folder below the state folder; `dir/volumes` is for volumes.
    pub dir: PathBuf,
}
