//! A Kubernetes cluster of processes on this machine, in namespaces of its own.
//!
//! One process, the anchor, holds a mount namespace and the outer network namespace of a cluster;
//! the nodes' network namespaces are pinned inside that mount namespace. All processes are in one
//! cgroup. So when those processes are killed nothing of the cluster is left but folders, and
//! whatever they changed about mounts, routes, settings and packet filters never reached the machine.

pub mod cgroups;
mod config;
mod control_plane;
pub mod down;
pub mod forward;
pub mod helper;
pub mod launch;
pub mod layout;
mod load;
mod lock;
mod network;
mod object_store;
pub(crate) mod pki;
mod provider;
pub mod records;
mod resolve;
mod template;
mod up;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::process::ProcessError;
use crate::tools::{self, ToolError};
use layout::Layout;

pub use provider::LocalCluster;

/// Why a local cluster cannot do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The name cannot be part of paths.
    #[error(
        "`{name}` cannot be a cluster's name: use up to 30 lowercase letters, digits and `-`, not `-` first"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The number of nodes is out of range.
    #[error("a local cluster has 1 to {most} nodes, not {nodes}")]
    Nodes {
        /// What was asked for.
        nodes: usize,
        /// The limit.
        most: usize,
    },
    /// The cluster does not run.
    #[error("cluster {name} does not run; start it with `cargo xtask cluster up --name {name}`")]
    Down {
        /// The cluster.
        name: String,
    },
    /// There is no such node.
    #[error("there is no node {node}")]
    NoNode {
        /// The name asked for.
        node: String,
    },
    /// Only root may make namespaces and mounts.
    #[error("a local cluster needs root: run as root, or give a cluster with --kubeconfig")]
    NotRoot,
    /// The kernel's limit on watched files is reached.
    #[error(
        "a cluster needs {needed} inotify instances and the kernel gives no more: remove another cluster, \
         or run `sysctl fs.inotify.max_user_instances=1024`"
    )]
    Watches {
        /// How many it needs.
        needed: usize,
    },
    /// A process ended that must not.
    #[error("{process} ended ({how}); the end of {log}:\n{output}", log = log.display())]
    Ended {
        /// Which one.
        process: String,
        /// Exit code or signal.
        how: String,
        /// Its log.
        log: PathBuf,
        /// The end of it.
        output: String,
    },
    /// Something took too long.
    #[error("waited {} s for {what} in vain", after.as_secs())]
    Late {
        /// What was waited for.
        what: String,
        /// How long.
        after: Duration,
    },
    /// Killed processes do not go.
    #[error("processes {pids:?} were killed and are still there")]
    Undead {
        /// Their ids.
        pids: Vec<i32>,
    },
    /// A cgroup cannot be removed.
    #[error("cgroup {} cannot be removed: something runs in it", path.display())]
    Cgroup {
        /// The folder.
        path: PathBuf,
    },
    /// A program without our hidden commands was taken for one with them.
    #[error(
        "this program does not know `cluster-helper`; set MAINSTAY_XTASK to the path of a built xtask"
    )]
    NotHelper,
    /// The controllers ended.
    #[error("the cluster's controllers ended: {0}")]
    Controllers(String),
    /// This process cannot describe itself, or was given nothing to start.
    #[error("a helper was started wrongly")]
    Record,
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A program failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A program is not to be had.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// A certificate cannot be made.
    #[error("certificates: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The API server's answer.
    #[error(transparent)]
    Api(#[from] Box<kube::Error>),
    /// The kubeconfig written is not understood.
    #[error(transparent)]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// A value cannot be written as JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

impl From<kube::Error> for LocalError {
    fn from(error: kube::Error) -> Self {
        Self::Api(Box::new(error))
    }
}

/// Adds the path to an input or output error.
fn at(path: &Path) -> impl FnOnce(std::io::Error) -> LocalError {
    let path = path.to_owned();
    move |source| LocalError::Io { path, source }
}

/// The programs that a cluster consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    /// Kubernetes.
    pub kube: PathBuf,
    /// DNS.
    pub coredns: PathBuf,
    /// The archive of the image that holds pods' namespaces.
    pub pause: PathBuf,
    /// The program with our hidden commands.
    pub helper: PathBuf,
}

impl Programs {
    /// Fetches or builds what is missing.
    pub async fn get() -> Result<Self, LocalError> {
        tools::require(tools::CLUSTER).await?;
        Ok(Self {
            kube: tools::kube().await?,
            coredns: tools::coredns().await?,
            pause: tools::pause().await?,
            helper: helper()?,
        })
    }
}

/// Set for a helper that is to become another program, so that a program that does not know our
/// hidden commands, and would do its usual work instead, cannot start helpers without end.
const LAUNCHED: &str = "MAINSTAY_LAUNCHED";

/// The program with the hidden commands: `$MAINSTAY_XTASK`, else the one that runs.
///
/// # Errors
/// [`LocalError::NotHelper`]: the program that runs was started as a helper and did not see it.
pub fn helper() -> Result<PathBuf, LocalError> {
    if std::env::var_os(LAUNCHED).is_some() {
        return Err(LocalError::NotHelper);
    }
    let own = || std::env::current_exe().map_err(at(Path::new("/proc/self/exe")));
    std::env::var_os("MAINSTAY_XTASK").map_or_else(own, |path| Ok(PathBuf::from(path)))
}

/// What the state folder says about the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Description {
    nodes: usize,
    /// Whether starting it came to its end.
    complete: bool,
}

impl Description {
    fn read(layout: &Layout) -> Option<Self> {
        serde_json::from_str(&std::fs::read_to_string(layout.file("cluster.json")).ok()?).ok()
    }

    fn write(self, layout: &Layout) -> Result<(), LocalError> {
        let path = layout.file("cluster.json");
        let draft = path.with_extension("draft");
        std::fs::write(&draft, serde_json::to_string(&self)?).map_err(at(&draft))?;
        std::fs::rename(&draft, &path).map_err(at(&path))
    }
}
