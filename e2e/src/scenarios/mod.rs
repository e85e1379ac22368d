//! Scenarios: what users are promised, tried on a real cluster with real servers.
//!
//! Each is an async function that makes a namespace of its own, so they depend on nothing but the
//! installed operators, and in any order. A scenario fails with what it saw; nothing is retried.
//! [`list`] names them all, and says which may run next to others.

pub mod backups;
pub mod changes;
pub mod cluster;
pub mod deletion;
mod diagnose;
mod drills;
pub mod endurance;
pub mod failover;
pub mod failures;
pub mod kit;
mod last_backup;
pub mod list;
mod logins;
pub mod network;
mod object_store;
pub mod operations;
pub mod operators;
pub mod pooler;
mod redis_backups;
mod redis_cli;
mod redis_cluster;
mod restores;
mod sentinel;
pub mod service;
pub mod set;
mod versions;
pub mod writer;
pub mod zones;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use futures::future::BoxFuture;

use crate::cluster::Cluster;
pub use kit::Sandbox;
pub use list::ALL;
use set::Kind;

/// The cluster that scenarios run on, and what is installed there.
pub struct Context {
    /// The cluster.
    pub cluster: Arc<dyn Cluster>,
    /// A client of the API server as an administrator.
    pub client: kube::Client,
    /// File of that administrator.
    pub kubeconfig: PathBuf,
    /// Every Kubernetes program, `kubectl` among them, in one: the first argument says which.
    pub kube: PathBuf,
    /// Names of the images that the nodes hold.
    pub images: ImageNames,
}

/// Names of images, as pods ask for them.
pub struct ImageNames {
    /// PostgreSQL 17, the catalogue's.
    pub postgres: String,
    /// PostgreSQL 17 as well, a later build of it.
    pub postgres_next: String,
    /// Our operator and agent.
    pub operator: String,
    /// The same program under another name, as an upgrade brings it.
    pub operator_next: String,
    /// The workload with ledgers.
    pub workload: String,
    /// The connection pooler, the catalogue's.
    pub pgbouncer: String,
    /// Redis' operator and agent.
    pub redis_operator: String,
    /// Redis 8.0, the catalogue's.
    pub redis: String,
    /// Redis 7.0, the catalogue's.
    pub redis_7: String,
    /// Valkey 8.1, the catalogue's.
    pub valkey: String,
}

/// One scenario.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// Short name, as in docs/failure-modes.md.
    pub name: &'static str,
    /// What it shows, in a sentence.
    pub shows: &'static str,
    /// Whether only `--full` runs it.
    pub long: bool,
    /// Whether others may run at the same time.
    pub company: Company,
    /// Of which kind the sets are that it is about.
    pub engine: Kind,
    /// The faults of `cargo xtask chaos` that it is made of; none for others.
    pub faults: &'static [&'static str],
    /// The function.
    pub run: for<'a> fn(&'a Sandbox<'a>) -> BoxFuture<'a, Result<()>>,
}

/// Whether a scenario may run while others do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Company {
    /// It does nothing to anything outside its own namespaces, and what it waits for may take longer.
    Shares,
    /// Nothing else may run: it breaks or changes more than its own namespaces. Why. What ran before may
    /// still be removed meanwhile.
    Alone(&'static str),
    /// Not even that: it measures more than its own namespaces. Why.
    Still(&'static str),
    /// And it comes last, when no other cluster of the suite runs anything: it measures how fast something is. Why.
    Quiet(&'static str),
}

/// Run one scenario in a namespace of its own, which is to be removed when it succeeds: see
/// [`Sandbox::clean_up`].
///
/// # Errors
/// What the scenario saw, with what a person would look at next.
pub async fn run<'a>(ctx: &'a Context, scenario: &Scenario) -> Result<Sandbox<'a>> {
    let sandbox = Sandbox::new(ctx, scenario.name).await?;
    match (scenario.run)(&sandbox).await {
        Ok(()) => Ok(sandbox),
        Err(e) => {
            let seen = sandbox.diagnose().await;
            Err(e.context(format!("scenario {}\n{seen}\n", scenario.name)))
        }
    }
}
