//! The hidden commands with which a cluster's processes begin.

use clap::Subcommand;

use super::forward::{self, Forward};
use super::launch::{self, Launch};
use super::resolve::{self, Resolve};
use super::{LocalError, at};
use crate::cluster::context::ControllersContext;
use crate::cluster::controllers;

/// `xtask cluster-helper …`. Not for people.
#[derive(Debug, Subcommand)]
pub enum Helper {
    /// Enters namespaces and becomes a program.
    Launch(Launch),
    /// Forwards a loopback port into a namespace.
    Forward(Forward),
    /// Asks the cluster's DNS.
    Resolve(Resolve),
    /// Serves volumes and network policies.
    Controllers {
        /// A file with a [`ControllersContext`].
        #[arg(long)]
        context: std::path::PathBuf,
    },
}

/// Runs one of them. Must be called before the process has a second thread.
pub fn run(helper: &Helper) -> Result<(), LocalError> {
    match helper {
        Helper::Launch(launch) => launch::run(launch),
        Helper::Forward(forward) => forward::run(forward),
        Helper::Resolve(resolve) => resolve::run(resolve),
        Helper::Controllers { context } => {
            let text = std::fs::read_to_string(context).map_err(at(context))?;
            let ctx: ControllersContext = serde_json::from_str(&text)?;
            tracing_subscriber::fmt()
                .with_ansi(false)
                .with_writer(std::io::stderr)
                .init();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(at(context))?;
            runtime
                .block_on(controllers::run(ctx))
                .map_err(|error| LocalError::Controllers(error.to_string()))
        }
    }
}
