//! Scenarios: what users are promised, tried on a real cluster with real servers.
//!
//! Each is an async function that makes a namespace of its own, so they depend on nothing but the
//! installed operators, and in any order. A scenario fails with what it saw; nothing is retried.

pub mod changes;
pub mod cluster;
pub mod deletion;
pub mod endurance;
pub mod failover;
pub mod failures;
pub mod kit;
pub mod network;
pub mod operations;
pub mod operators;
pub mod service;
pub mod writer;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use futures::future::BoxFuture;

use crate::cluster::Cluster;
use kit::Sandbox;

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
    /// The function.
    pub run: for<'a> fn(&'a Sandbox<'a>) -> BoxFuture<'a, Result<()>>,
}

/// Name a scenario function: `scenario!(module::function, "what it shows")`; with `long` in front
/// only `--full` runs it.
macro_rules! scenario {
    (long $module:ident :: $function:ident, $shows:literal) => {
        Scenario {
            long: true,
            ..scenario!($module::$function, $shows)
        }
    };
    ($module:ident :: $function:ident, $shows:literal) => {
        Scenario {
            name: stringify!($function),
            shows: $shows,
            long: false,
            run: |sandbox| Box::pin($module::$function(sandbox)),
        }
    };
}

/// Every scenario for one set of installed operators, in the order in which they run.
pub const ALL: &[Scenario] = &[
    scenario!(
        service::application_connects,
        "a developer's resource becomes a database in three zones that an application uses over verified TLS"
    ),
    scenario!(
        service::connections_are_refused,
        "plain text, a wrong authority and clients that are not allowed are refused"
    ),
    scenario!(
        service::a_settled_set_is_quiet,
        "a settled set causes no writes but lease renewals"
    ),
    scenario!(
        service::two_in_one_namespace,
        "two databases in one namespace do not meet"
    ),
    scenario!(
        network::network_policy,
        "network policies let pass and drop as the API says, within a node and across nodes"
    ),
    scenario!(changes::scale, "1 to 3 to 2 instances"),
    scenario!(
        changes::parameters,
        "a live parameter is reloaded, another restarts one instance at a time"
    ),
    scenario!(
        changes::resources_and_image,
        "memory and image change by replacing replicas first"
    ),
    scenario!(changes::volume_grows, "a volume grows while in use"),
    scenario!(
        changes::credentials_and_certificates,
        "a password and a certificate are renewed without a restart"
    ),
    scenario!(changes::paused, "a paused resource is left alone"),
    scenario!(
        changes::impossible_wishes_stall,
        "what only the cluster can tell becomes Stalled with a sentence"
    ),
    scenario!(
        failover::primary_leaves,
        "a primary that is told to go hands over, and nothing acknowledged is lost"
    ),
    scenario!(
        failover::primary_killed,
        "a primary that is killed is succeeded, and nothing acknowledged is lost"
    ),
    scenario!(
        failover::primary_cut_off,
        "a primary that is cut off stops, is succeeded, and comes back as a replica"
    ),
    scenario!(
        failover::api_server_away,
        "without the API server the primary goes on, and nothing changes role"
    ),
    scenario!(
        operations::switchover,
        "another instance takes over on request, and nothing acknowledged is lost"
    ),
    scenario!(
        operations::switchover_refused,
        "a switchover that cannot be is refused, waits with a reason, is cancelled or given up"
    ),
    scenario!(
        operations::cordoned,
        "a primary on a node that takes no pods any more hands over"
    ),
    scenario!(
        failures::pod_deleted,
        "a deleted pod comes back on its volume, of a replica and of the primary"
    ),
    scenario!(
        failures::engine_killed,
        "a killed engine is started again in place, nothing acknowledged is lost"
    ),
    scenario!(
        failures::agent_killed,
        "a killed agent comes back, the engine keeps running; a hung one is caught by the watchdog"
    ),
    scenario!(
        failures::replica_volume_lost,
        "a replica's lost volume is made anew and cloned"
    ),
    scenario!(
        failures::primary_volume_lost,
        "a primary's lost volume: a replica takes over, and it is cloned anew"
    ),
    scenario!(
        failures::only_volume_lost,
        "the only instance's lost volume is Stalled and never initialised again"
    ),
    scenario!(
        failures::node_rebooted,
        "a node loses power and comes back, with a replica on it and with the primary"
    ),
    scenario!(
        failures::replica_cut_off,
        "with a replica's node cut off writes go on, and it streams again afterwards"
    ),
    scenario!(
        operators::operator_restarted,
        "the operator may die in the middle of a change"
    ),
    scenario!(
        operators::operator_upgraded,
        "upgrading the operator restarts no data pod"
    ),
    scenario!(
        deletion::protected,
        "a protected resource is not deleted, and the refusal says what to do"
    ),
    scenario!(
        deletion::deletion_and_adoption,
        "deleted with volumes kept, a resource of the same name adopts them"
    ),
    scenario!(
        deletion::namespace_deleted,
        "a namespace goes with everything inside"
    ),
    scenario!(
        endurance::chaos_in_short,
        "six faults of the chaos suite under load: nothing acknowledged is lost"
    ),
    scenario!(
        long endurance::failures_under_load,
        "failure after failure while an application writes: nothing acknowledged is lost"
    ),
];

/// Run one scenario in a namespace of its own, which is removed when it succeeds.
///
/// # Errors
/// What the scenario saw, with what a person would look at next.
pub async fn run(ctx: &Context, scenario: &Scenario) -> Result<()> {
    let sandbox = Sandbox::new(ctx, scenario.name).await?;
    match (scenario.run)(&sandbox).await {
        Ok(()) => sandbox.clean_up().await,
        Err(e) => {
            let seen = sandbox.diagnose().await;
            Err(e.context(format!("scenario {}\n{seen}\n", scenario.name)))
        }
    }
}
