//! Kubernetes clusters to test and to demonstrate on.

pub mod context;
pub mod controllers;
mod given;
mod kind;
pub mod local;
pub mod steps;

use std::path::PathBuf;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::{Api, Client};
use tokio::process::Command;

pub use given::GivenCluster;
pub use kind::KindCluster;
pub use local::LocalCluster;
pub use steps::Steps;

use crate::object_store::{ObjectStore, ObjectStoreError};
use crate::process::ProcessError;

/// Why a cluster cannot do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Of the local provider.
    #[error(transparent)]
    Local(#[from] local::LocalError),
    /// A program is not to be had.
    #[error(transparent)]
    Tool(#[from] crate::tools::ToolError),
    /// A cluster that is not ours takes images from registries only.
    #[error(
        "images cannot be put into the given cluster {cluster}: push them to a registry that it reaches, \
         and name them in the charts' values"
    )]
    NoLoading {
        /// The cluster.
        cluster: String,
    },
    /// Only a local cluster has an object store of its own.
    #[error("cluster {cluster} has no object store of ours: use a local one")]
    NoObjectStore {
        /// The cluster.
        cluster: String,
    },
    /// Its object store.
    #[error(transparent)]
    ObjectStore(#[from] ObjectStoreError),
    /// A program failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The API server's answer.
    #[error("the API server: {0}")]
    Api(#[from] Box<kube::Error>),
    /// The kubeconfig is not understood.
    #[error("kubeconfig: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
}

impl From<kube::Error> for ClusterError {
    fn from(error: kube::Error) -> Self {
        Self::Api(Box::new(error))
    }
}

/// A node as the API server shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeState {
    /// Its name.
    pub name: String,
    /// Its label `topology.kubernetes.io/zone`.
    pub zone: Option<String>,
    /// Whether it says that it is Ready. Unknown is not.
    pub ready: bool,
}

/// Where a cluster comes from.
pub trait Cluster: Send + Sync {
    /// Its name.
    fn name(&self) -> &str;

    /// A kubeconfig of an administrator. The file exists once the cluster is up.
    fn kubeconfig(&self) -> PathBuf;

    /// Starts it and waits until its nodes are Ready; does nothing if it runs.
    fn up<'a>(&'a self, steps: &'a Steps) -> BoxFuture<'a, Result<(), ClusterError>>;

    /// Removes it; does nothing if there is none.
    fn down<'a>(&'a self, steps: &'a Steps) -> BoxFuture<'a, Result<(), ClusterError>>;

    /// Whether it was started and not removed.
    fn runs(&self) -> BoxFuture<'_, bool>;

    /// Puts image archives, as `docker save` makes them, into every node. What a node has, by
    /// content, is left out.
    fn load<'a>(&'a self, archives: &'a [PathBuf]) -> BoxFuture<'a, Result<(), ClusterError>>;

    /// What can be broken in it, where anything can.
    fn faults(&self) -> Option<&dyn Faults>;

    /// An S3 server that pods reach, started when it is first asked for; it ends with the cluster.
    fn object_store(&self) -> BoxFuture<'_, Result<ObjectStore, ClusterError>> {
        let cluster = self.name().to_owned();
        Box::pin(async { Err(ClusterError::NoObjectStore { cluster }) })
    }
}

/// Programs that every node runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeProcess {
    /// The kubelet.
    Kubelet,
    /// The container runtime.
    Containerd,
    /// The service proxy.
    Proxy,
}

/// Breaking parts of a cluster. Nothing heals by itself.
pub trait Faults: Send + Sync {
    /// Takes a node's link down: nothing reaches it, it reaches nothing.
    fn cut<'a>(&'a self, node: &'a str) -> BoxFuture<'a, Result<(), ClusterError>>;

    /// Takes it up again.
    fn heal<'a>(&'a self, node: &'a str) -> BoxFuture<'a, Result<(), ClusterError>>;

    /// Kills everything on a node at once, as a power cut does.
    fn crash<'a>(&'a self, node: &'a str) -> BoxFuture<'a, Result<(), ClusterError>>;

    /// Starts a crashed node again.
    fn boot<'a>(&'a self, node: &'a str) -> BoxFuture<'a, Result<(), ClusterError>>;

    /// A command that runs where a node's own processes do: its network, its mounts, all host
    /// privileges. `None` stands for the machine outside the nodes, which reaches pods and services.
    ///
    /// # Errors
    /// The cluster does not run, or has no such node.
    fn command(
        &self,
        node: Option<&str>,
        program: &str,
        args: &[&str],
    ) -> Result<Command, ClusterError>;

    /// The process id, on this machine, of a node's program.
    ///
    /// # Errors
    /// The cluster does not run, or has no such node.
    fn process(&self, node: &str, process: NodeProcess) -> Result<i32, ClusterError>;

    /// The process id, on this machine, of the API server.
    ///
    /// # Errors
    /// The cluster does not run.
    fn api_server(&self) -> Result<i32, ClusterError>;
}

/// The cluster to work on: that of a kubeconfig if one is given; else of kind if a Docker engine
/// answers; else a local one. The last two have three nodes in three zones.
pub async fn choose(
    name: &str,
    kubeconfig: Option<PathBuf>,
) -> Result<Box<dyn Cluster>, ClusterError> {
    if let Some(path) = kubeconfig {
        return Ok(Box::new(GivenCluster::new(path)?));
    }
    if kind::engine_answers().await {
        return Ok(Box::new(KindCluster::new(name, NODES)));
    }
    Ok(Box::new(LocalCluster::new(name, NODES)?))
}

/// Nodes, each in a zone of its own, of a cluster that we make.
pub const NODES: usize = 3;

/// A client of a cluster's API server.
pub async fn client(cluster: &dyn Cluster) -> Result<Client, ClusterError> {
    let kubeconfig = kube::config::Kubeconfig::read_from(cluster.kubeconfig())?;
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    Ok(Client::try_from(config)?)
}

/// The nodes that the API server knows, by name.
pub async fn nodes(client: &Client) -> Result<Vec<NodeState>, ClusterError> {
    let list = Api::<Node>::all(client.clone())
        .list(&ListParams::default())
        .await?;
    let mut nodes: Vec<NodeState> = list.items.iter().map(state).collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(nodes)
}

fn state(node: &Node) -> NodeState {
    let conditions = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    let ready = |condition: &k8s_openapi::api::core::v1::NodeCondition| {
        condition.type_ == "Ready" && condition.status == "True"
    };
    NodeState {
        name: node.metadata.name.clone().unwrap_or_default(),
        zone: node
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get("topology.kubernetes.io/zone").cloned()),
        ready: conditions.into_iter().flatten().any(ready),
    }
}
