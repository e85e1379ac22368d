//! Breaking things: processes, pods, nodes, links, volumes and clocks.
//!
//! What can be undone is undone when its guard is dropped, so that a failed test does not leave a
//! frozen disk or a cut node behind. `undo` does it where the outcome matters.

pub mod clock;
pub mod delay;
pub mod guard;
pub mod inside;
pub mod link;
pub mod node;
pub mod pod;
pub mod process;
pub mod volume;

pub use guard::Undo;

use crate::cluster::ClusterError;
use crate::process::ProcessError;

/// Why something could not be broken, or mended.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// The cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A program.
    #[error(transparent)]
    Program(#[from] ProcessError),
    /// The API server.
    #[error("the API server: {0}")]
    Api(#[from] Box<kube::Error>),
    /// A process.
    #[error("{what}: {source}")]
    Process {
        /// What was tried.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// There is nothing to break.
    #[error("{0}")]
    Nothing(String),
}

impl From<kube::Error> for FaultError {
    fn from(error: kube::Error) -> Self {
        Self::Api(Box::new(error))
    }
}
