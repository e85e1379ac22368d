//! The local cluster behind the providers' common face.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use rustix::process::Signal;
use tokio::process::Command;

use super::control_plane::Starter;
use super::launch::Launch;
use super::layout::{self, Layout};
use super::load::Archive;
use super::lock::Lock;
use super::records::Record;
use super::template::{self, Template};
use super::{Description, LocalError, Programs, cgroups, down, load, network, object_store, up};
use crate::cluster::context::NodeContext;
use crate::cluster::steps::Steps;
use crate::cluster::{Cluster, ClusterError, Faults, NodeProcess};
use crate::object_store::ObjectStore;
use crate::process;
use crate::tools;

/// How long a containerd that runs nothing may take to end by itself.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// A cluster of processes on this machine.
#[derive(Debug, Clone)]
pub struct LocalCluster {
    layout: Layout,
    nodes: Vec<NodeContext>,
}

impl LocalCluster {
    /// The cluster of a name below `$MAINSTAY_STATE`, else `~/.local/state/mainstay`.
    ///
    /// `nodes` is how many it is started with; a cluster that runs keeps the number it has.
    ///
    /// # Errors
    /// The name or the number cannot be.
    pub fn new(name: &str, nodes: usize) -> Result<Self, LocalError> {
        let base = std::env::var_os("MAINSTAY_STATE").map_or_else(
            || tools::home().join(".local/state/mainstay"),
            PathBuf::from,
        );
        Self::below(&base, name, nodes)
    }

    /// The cluster of a name below a folder.
    ///
    /// # Errors
    /// The name or the number cannot be.
    pub fn below(base: &Path, name: &str, nodes: usize) -> Result<Self, LocalError> {
        let layout = Layout::new(name, base)?;
        let found = Description::read(&layout).filter(|found| found.complete);
        let count = found.map_or(nodes, |found| found.nodes);
        let nodes = layout::numbers(count)?
            .map(|index| layout.node(index))
            .collect();
        Ok(Self { layout, nodes })
    }

    /// Its paths and names.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Its nodes.
    pub fn node_contexts(&self) -> &[NodeContext] {
        &self.nodes
    }

    fn anchor(&self) -> Result<Record, LocalError> {
        Record::read(&self.layout.record("anchor"))
            .filter(|record| record.alive())
            .ok_or_else(|| LocalError::Down {
                name: self.layout.name().to_owned(),
            })
    }

    fn node(&self, name: &str) -> Result<&NodeContext, LocalError> {
        self.nodes
            .iter()
            .find(|node| node.name == name)
            .ok_or_else(|| LocalError::NoNode {
                node: name.to_owned(),
            })
    }

    fn inside(&self, net: &str, program: &str) -> Result<Launch, LocalError> {
        Ok(Launch::new(&self.layout, "outer", program).inside(&self.layout, self.anchor()?, net))
    }

    async fn set_link(&self, node: &str, state: &str) -> Result<(), LocalError> {
        let link = network::link(self.node(node)?);
        let command = self
            .inside("outer", "ip")?
            .args(["link", "set", &link, state]);
        process::run(&mut command.command(&super::helper()?)).await?;
        Ok(())
    }

    async fn load_all(&self, paths: &[PathBuf]) -> Result<(), LocalError> {
        let programs = Programs::get().await?;
        let anchor = self.anchor()?;
        let _lock = Lock::take(&self.layout).await?;
        let archives = &load::archives(paths).await?;
        let starter = Starter {
            layout: &self.layout,
            programs: &programs,
            anchor,
        };
        self.use_template(&starter, archives).await?;
        let each = self
            .nodes
            .iter()
            .map(|node| load::into_node(&self.layout, &programs, anchor, node, archives));
        futures::future::try_join_all(each).await?;
        Ok(())
    }

    /// Gives nodes that lack a large image, and run nothing yet, a containerd root that has it.
    async fn use_template(
        &self,
        starter: &Starter<'_>,
        archives: &[Archive],
    ) -> Result<(), LocalError> {
        let mut large = template::large(archives);
        let lacks = |node: &&NodeContext| {
            let known = load::known(node);
            large.iter().any(|archive| !known.contains(&archive.hash))
        };
        let mut idle = Vec::new();
        for node in self.nodes.iter().filter(lacks) {
            let containers = load::ctr(
                &self.layout.containerd(&node.name),
                &["containers", "ls", "-q"],
            )
            .await?;
            if containers.trim().is_empty() {
                idle.push(node);
            }
        }
        if idle.is_empty() {
            return Ok(());
        }
        large.extend(load::archives(std::slice::from_ref(&starter.programs.pause)).await?);
        let template = Template::with(starter, &large).await?;
        let idle = idle
            .into_iter()
            .filter(|node| template.replaces(&load::known(node), archives));
        futures::future::try_join_all(idle.map(|node| self.replace_root(starter, &template, node)))
            .await?;
        Ok(())
    }

    async fn replace_root(
        &self,
        starter: &Starter<'_>,
        template: &Template,
        node: &NodeContext,
    ) -> Result<(), LocalError> {
        let record = Record::read(&self.layout.record(&format!("containerd-{}", node.name)));
        if let Some(record) = record {
            record.signal(Signal::TERM);
            let start = Instant::now();
            while record.alive() {
                if start.elapsed() > STOP_LIMIT {
                    record.signal(Signal::KILL);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        template.copy_to(starter, node).await?;
        starter.containerd(node)?;
        load::answers(&self.layout.containerd(&node.name)).await
    }

    async fn crash(&self, node: &str) -> Result<(), LocalError> {
        let node = self.node(node)?;
        // The kubelet and the runtime first, or they would start again what is killed.
        for part in [format!("{}-system", node.name), node.name.clone()] {
            cgroups::kill(&format!("{}/{part}", self.layout.cgroup())).await?;
        }
        Ok(())
    }

    async fn boot(&self, node: &str) -> Result<(), LocalError> {
        let node = self.node(node)?;
        let programs = Programs::get().await?;
        let starter = Starter {
            layout: &self.layout,
            programs: &programs,
            anchor: self.anchor()?,
        };
        starter.containerd(node)?;
        load::answers(&self.layout.containerd(&node.name)).await?;
        starter.kubelet(node)?;
        starter.node_proxy(node)?;
        Ok(())
    }
}

impl Cluster for LocalCluster {
    fn name(&self) -> &str {
        self.layout.name()
    }

    fn kubeconfig(&self) -> PathBuf {
        self.layout.kubeconfig()
    }

    fn up<'a>(&'a self, steps: &'a Steps) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(async move {
            if !rustix::process::geteuid().is_root() {
                return Err(LocalError::NotRoot.into());
            }
            let programs = Programs::get().await?;
            Ok(up::up(&self.layout, &self.nodes, &programs, steps).await?)
        })
    }

    fn down<'a>(&'a self, steps: &'a Steps) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(async move {
            down::down(&self.layout, &super::helper()?).await?;
            steps.done(&format!("cluster {} is gone", self.name()));
            Ok(())
        })
    }

    fn runs(&self) -> BoxFuture<'_, bool> {
        Box::pin(async {
            Description::read(&self.layout).is_some_and(|found| found.complete)
                && self.anchor().is_ok()
        })
    }

    fn load<'a>(&'a self, archives: &'a [PathBuf]) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(async move { Ok(self.load_all(archives).await?) })
    }

    fn faults(&self) -> Option<&dyn Faults> {
        Some(self)
    }

    fn object_store(&self) -> BoxFuture<'_, Result<ObjectStore, ClusterError>> {
        Box::pin(async move {
            let anchor = self.anchor()?;
            let _lock = Lock::take(&self.layout).await?;
            object_store::start(&self.layout, anchor).await
        })
    }
}

impl Faults for LocalCluster {
    fn cut<'a>(&'a self, node: &'a str) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(async move { Ok(self.set_link(node, "down").await?) })
    }

    fn heal<'a>(&'a self, node: &'a str) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(async move { Ok(self.set_link(node, "up").await?) })
    }

    fn crash<'a>(&'a self, node: &'a str) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(async move { Ok(self.crash(node).await?) })
    }

    fn boot<'a>(&'a self, node: &'a str) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(async move { Ok(self.boot(node).await?) })
    }

    fn command(
        &self,
        node: Option<&str>,
        program: &str,
        args: &[&str],
    ) -> Result<Command, ClusterError> {
        let net = node.map_or(Ok("outer"), |node| {
            self.node(node).map(|node| node.name.as_str())
        })?;
        Ok(self
            .inside(net, program)?
            .args(args)
            .command(&super::helper()?))
    }

    fn process(&self, node: &str, process: NodeProcess) -> Result<i32, ClusterError> {
        let node = self.node(node)?;
        let name = match process {
            NodeProcess::Kubelet => "kubelet",
            NodeProcess::Containerd => "containerd",
            NodeProcess::Proxy => "proxy",
        };
        Ok(self.recorded(&format!("{name}-{}", node.name))?)
    }

    fn api_server(&self) -> Result<i32, ClusterError> {
        Ok(self.recorded("apiserver")?)
    }
}

impl LocalCluster {
    /// The process id of a daemon that runs.
    fn recorded(&self, daemon: &str) -> Result<i32, LocalError> {
        let record = Record::read(&self.layout.record(daemon)).filter(|record| record.alive());
        let down = || LocalError::Down {
            name: self.layout.name().to_owned(),
        };
        Ok(record.ok_or_else(down)?.pid)
    }
}
