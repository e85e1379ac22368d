//! The local cluster itself: it comes, breaks as told, and goes without a trace.
//!
//! These make clusters of their own, so they need nothing installed.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;

use crate::cluster::local::{self, LocalError, down};
use crate::cluster::{self, Cluster as _, Faults as _, LocalCluster, NodeProcess, Steps};
use crate::process;

/// One scenario about clusters.
#[derive(Clone, Copy)]
pub struct ClusterScenario {
    /// Short name.
    pub name: &'static str,
    /// What it shows, in a sentence.
    pub shows: &'static str,
    /// Whether only `--full` runs it.
    pub long: bool,
    /// The function.
    pub run: fn() -> BoxFuture<'static, Result<()>>,
}

/// Every scenario about clusters, in the order in which they run.
pub const ALL: &[ClusterScenario] = &[
    ClusterScenario {
        name: "cluster_leaves_nothing",
        shows: "a cluster that ran pods and volumes goes without a trace and never touched the machine's settings",
        long: false,
        run: || Box::pin(cluster_leaves_nothing()),
    },
    ClusterScenario {
        name: "cluster_interrupted",
        shows: "a start that was killed at any moment leaves nothing after down, and does not hinder the next",
        long: false,
        run: || Box::pin(cluster_interrupted()),
    },
    ClusterScenario {
        name: "cluster_side_by_side",
        shows: "two clusters start at once and live side by side",
        long: false,
        run: || Box::pin(cluster_side_by_side()),
    },
    ClusterScenario {
        name: "cluster_object_store",
        shows: "pods reach the cluster's object store over verified TLS; it refuses a second write, and keeps what is locked",
        long: false,
        run: || Box::pin(super::object_store::cluster_object_store()),
    },
    ClusterScenario {
        name: "cluster_faults",
        shows: "a cut or crashed node is not Ready, and comes back when healed or booted",
        long: true,
        run: || Box::pin(cluster_faults()),
    },
];

/// How long a node may take to be seen as lost or back: the controller manager waits 50 s.
const NODE_LIMIT: Duration = Duration::from_secs(90);

async fn cluster_leaves_nothing() -> Result<()> {
    let machine = Machine::look().await?;
    let cluster = LocalCluster::new("try-clean", 1)?;
    let used = use_it(&cluster, &machine).await;
    cluster.down(&Steps::quiet()).await?;
    gone(&cluster)?;
    cluster
        .down(&Steps::quiet())
        .await
        .context("down must be possible twice")?;
    gone(&cluster)?;
    machine.same("the removed cluster").await?;
    used
}

async fn use_it(cluster: &LocalCluster, machine: &Machine) -> Result<()> {
    cluster.up(&Steps::quiet()).await?;
    machine.same("the running cluster").await?;
    run_pod(cluster).await?;
    machine.same("the cluster with a pod").await?;
    let seen = down::leftovers(cluster.layout())?;
    for kind in ["process", "mount", "cgroup", "/dev/loop", "/run/"] {
        ensure!(
            seen.iter().any(|line| line.contains(kind)),
            "a running cluster's {kind} is not seen: {seen:?}"
        );
    }
    let again = Instant::now();
    cluster.up(&Steps::quiet()).await?;
    ensure!(
        again.elapsed() < Duration::from_secs(5),
        "up on a running cluster must do nothing"
    );
    Ok(())
}

async fn cluster_interrupted() -> Result<()> {
    let cluster = LocalCluster::new("try-killed", 1)?;
    for after in [10, 60, 150, 300, 700, 1500, 3000, 5000] {
        let mut up = process::command(local::helper()?)
            .args(["cluster", "up", "--nodes", "1", "--name", cluster.name()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        tokio::time::sleep(Duration::from_millis(after)).await;
        up.kill().await?;
        cluster
            .down(&Steps::quiet())
            .await
            .with_context(|| format!("killed after {after} ms"))?;
        gone(&cluster).with_context(|| format!("killed after {after} ms"))?;
    }
    // A start may also follow such an end directly.
    let mut up = process::command(local::helper()?)
        .args(["cluster", "up", "--nodes", "1", "--name", cluster.name()])
        .stdout(Stdio::null())
        .spawn()?;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    up.kill().await?;
    cluster.up(&Steps::quiet()).await?;
    let result = all_ready(&cluster).await;
    cluster.down(&Steps::quiet()).await?;
    gone(&cluster)?;
    result
}

async fn cluster_side_by_side() -> Result<()> {
    let (left, right) = (
        LocalCluster::new("try-left", 1)?,
        LocalCluster::new("try-right", 2)?,
    );
    let (quiet, also) = (Steps::quiet(), Steps::quiet());
    let started = futures::future::try_join(left.up(&quiet), right.up(&also)).await;
    let outcome = async {
        started?;
        all_ready(&left).await?;
        all_ready(&right).await?;
        ensure!(
            identity(&left).await? != identity(&right).await?,
            "both kubeconfigs lead to the same cluster"
        );
        left.down(&quiet).await?;
        gone(&left)?;
        all_ready(&right)
            .await
            .context("one cluster's end must not touch the other")
    }
    .await;
    for cluster in [&left, &right] {
        cluster.down(&quiet).await?;
        gone(cluster)?;
    }
    outcome
}

async fn cluster_faults() -> Result<()> {
    let cluster = LocalCluster::new("try-faults", 2)?;
    cluster.up(&Steps::quiet()).await?;
    let outcome = async {
        let pid = cluster.process("node2", NodeProcess::Kubelet)?;
        let name = std::fs::read_to_string(format!("/proc/{pid}/cmdline"))?;
        ensure!(name.contains("kubelet"), "process {pid} is {name}");
        ensure!(cluster.cut("node9").await.is_err(), "there is no node9");
        cluster.cut("node2").await?;
        let mut ping = cluster.command(None, "ip", &["neighbour", "show"])?;
        process::run(&mut ping).await?;
        await_node(&cluster, "node2", false).await?;
        cluster.heal("node2").await?;
        await_node(&cluster, "node2", true).await?;
        cluster.crash("node2").await?;
        ensure!(
            cluster.process("node2", NodeProcess::Kubelet).is_err(),
            "the crashed kubelet still runs"
        );
        await_node(&cluster, "node2", false).await?;
        cluster.boot("node2").await?;
        await_node(&cluster, "node2", true).await
    }
    .await;
    cluster.down(&Steps::quiet()).await?;
    gone(&cluster)?;
    outcome
}

/// What of the machine a cluster must not change.
#[derive(Debug, PartialEq, Eq)]
struct Machine {
    routes: String,
    links: Vec<String>,
    filters: String,
    settings: Vec<(&'static str, String)>,
}

/// Settings that Kubernetes' programs are known to change.
const SETTINGS: &[&str] = &[
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/route_localnet",
    "net/netfilter/nf_conntrack_max",
    "net/netfilter/nf_conntrack_tcp_timeout_established",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

impl Machine {
    async fn same(&self, what: &str) -> Result<()> {
        let now = Self::look().await?;
        ensure!(
            *self == now,
            "{what} changed the machine: {self:?} became {now:?}"
        );
        Ok(())
    }

    async fn look() -> Result<Self> {
        let links = process::run(process::command("ip").args(["-brief", "link"])).await?;
        let setting = |name: &'static str| {
            let value =
                std::fs::read_to_string(Path::new("/proc/sys").join(name)).unwrap_or_default();
            (name, value.trim().to_owned())
        };
        Ok(Self {
            routes: process::run(process::command("ip").args(["route", "show", "table", "all"]))
                .await?,
            links: links
                .lines()
                .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
                .collect(),
            filters: process::run(process::command("nft").args(["--stateless", "list", "ruleset"]))
                .await?,
            settings: SETTINGS.iter().copied().map(setting).collect(),
        })
    }
}

/// Runs a pod with a volume, of the only image that every cluster has.
pub(super) async fn run_pod(cluster: &LocalCluster) -> Result<()> {
    let client = cluster::client(cluster).await?;
    let claims: Api<k8s_openapi::api::core::v1::PersistentVolumeClaim> =
        Api::default_namespaced(client.clone());
    let claim = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "try"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}},
    }))?;
    claims
        .create(&kube::api::PostParams::default(), &claim)
        .await?;
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::default_namespaced(client);
    let pod = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "try"},
        "spec": {
            "automountServiceAccountToken": false,
            "containers": [{
                "name": "try", "image": crate::tools::PAUSE_IMAGE, "imagePullPolicy": "Never",
                "volumeMounts": [{"name": "try", "mountPath": "/try"}],
            }],
            "volumes": [{"name": "try", "persistentVolumeClaim": {"claimName": "try"}}],
        },
    }))?;
    // The service account that a pod must have is made a moment after the namespace.
    let start = Instant::now();
    while let Err(error) = pods.create(&kube::api::PostParams::default(), &pod).await {
        ensure!(
            start.elapsed() < Duration::from_secs(20),
            "no pod can be made: {error}"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let running = kube::runtime::conditions::is_pod_running();
    let wait = kube::runtime::wait::await_condition(pods, "try", running);
    tokio::time::timeout(Duration::from_mins(1), wait)
        .await
        .context("the pod does not run")??;
    Ok(())
}

pub(super) fn gone(cluster: &LocalCluster) -> Result<()> {
    let left = down::leftovers(cluster.layout())?;
    ensure!(
        left.is_empty(),
        "cluster {} left: {}",
        cluster.name(),
        left.join(", ")
    );
    Ok(())
}

async fn all_ready(cluster: &LocalCluster) -> Result<()> {
    let nodes = cluster::nodes(&cluster::client(cluster).await?).await?;
    let wanted = cluster.node_contexts().len();
    let zones: std::collections::BTreeSet<_> =
        nodes.iter().filter_map(|node| node.zone.clone()).collect();
    ensure!(
        nodes.len() == wanted && zones.len() == wanted && nodes.iter().all(|node| node.ready),
        "nodes: {nodes:?}"
    );
    Ok(())
}

/// What tells one cluster from another.
async fn identity(cluster: &LocalCluster) -> Result<Option<String>> {
    let namespaces: Api<Namespace> = Api::all(cluster::client(cluster).await?);
    Ok(namespaces.get("kube-system").await?.metadata.uid)
}

async fn await_node(cluster: &LocalCluster, name: &str, ready: bool) -> Result<()> {
    let client = cluster::client(cluster).await?;
    let start = Instant::now();
    while start.elapsed() < NODE_LIMIT {
        let nodes = cluster::nodes(&client).await?;
        if nodes
            .iter()
            .any(|node| node.name == name && node.ready == ready)
        {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    bail!(LocalError::Late {
        what: format!("{name} to be ready={ready}"),
        after: NODE_LIMIT
    })
}
