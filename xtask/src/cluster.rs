//! `cargo xtask cluster`: clusters to work on by hand.

use std::error::Error;
use std::path::PathBuf;

use clap::Subcommand;
use mainstay_e2e::cluster::local::helper::{self, Helper};
use mainstay_e2e::cluster::{self, Cluster as _, LocalCluster, Steps};
use mainstay_e2e::scenarios::cluster::ALL;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

/// Which cluster.
#[derive(clap::Args)]
struct Which {
    /// The cluster's name.
    #[arg(long, default_value = "mainstay")]
    name: String,
}

#[derive(Subcommand)]
enum Command {
    /// Starts a cluster, or says that it runs.
    Up {
        #[command(flatten)]
        which: Which,
        /// How many nodes, each in a zone of its own.
        #[arg(long, default_value_t = 3)]
        nodes: usize,
    },
    /// Removes a cluster and everything of it.
    Down(Which),
    /// Shows the nodes of a cluster; fails if it does not run.
    Status(Which),
    /// Tries the local cluster itself: that it comes, breaks as told, and goes without a trace.
    Check {
        /// Only scenarios whose name holds one of these words.
        only: Vec<String>,
    },
    /// Puts image archives into every node.
    Load {
        #[command(flatten)]
        which: Which,
        /// Archives as `docker save` makes them.
        #[arg(required = true)]
        archives: Vec<PathBuf>,
    },
    /// Prints the path of a cluster's kubeconfig.
    Kubeconfig(Which),
}

/// The hidden commands of a cluster's processes.
#[derive(clap::Args)]
pub struct HelperArgs {
    #[command(subcommand)]
    helper: Helper,
}

/// Runs one of the commands.
pub fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match &args.command {
            Command::Up { which, nodes } => Ok(LocalCluster::new(&which.name, *nodes)?
                .up(&Steps::shown())
                .await?),
            Command::Down(which) => Ok(local(which)?.down(&Steps::shown()).await?),
            Command::Status(which) => status(&local(which)?).await,
            Command::Check { only } => check(only).await,
            Command::Load { which, archives } => {
                let steps = Steps::shown();
                local(which)?.load(archives).await?;
                steps.done("loaded");
                Ok(())
            }
            Command::Kubeconfig(which) => {
                println!("{}", local(which)?.kubeconfig().display());
                Ok(())
            }
        }
    })
}

/// Runs a hidden command.
pub fn run_helper(args: &HelperArgs) -> Result<(), Box<dyn Error>> {
    Ok(helper::run(&args.helper)?)
}

fn local(which: &Which) -> Result<LocalCluster, Box<dyn Error>> {
    Ok(LocalCluster::new(&which.name, 3)?)
}

async fn check(only: &[String]) -> Result<(), Box<dyn Error>> {
    let steps = Steps::shown();
    let mut failed = 0;
    let chosen =
        |name: &str| only.is_empty() || only.iter().any(|word| name.contains(word.as_str()));
    for scenario in ALL.iter().filter(|scenario| chosen(scenario.name)) {
        match (scenario.run)().await {
            Ok(()) => steps.done(&format!("passed  {}: {}", scenario.name, scenario.shows)),
            Err(error) => {
                failed += 1;
                steps.done(&format!("FAILED  {}: {error:#}", scenario.name));
            }
        }
    }
    if failed == 0 {
        Ok(())
    } else {
        Err(format!("{failed} failed").into())
    }
}

async fn status(local: &LocalCluster) -> Result<(), Box<dyn Error>> {
    if !local.runs().await {
        return Err(format!("cluster {} does not run", local.name()).into());
    }
    for node in cluster::nodes(&cluster::client(local).await?).await? {
        let state = if node.ready { "Ready" } else { "not Ready" };
        println!(
            "{:<10} {:<10} {state}",
            node.name,
            node.zone.as_deref().unwrap_or("-")
        );
    }
    println!("kubeconfig {}", local.kubeconfig().display());
    Ok(())
}
