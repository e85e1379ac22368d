//! `cargo xtask install`: the charts onto a cluster, with the images that are built here.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use mainstay_e2e::charts::{self, Charts, Done, Installed};
use mainstay_e2e::cluster::{self, Cluster, Steps};
use mainstay_e2e::images::{self, Image};

/// How long the operator may take to become available.
const AVAILABLE: Duration = Duration::from_mins(3);

#[derive(clap::Args)]
pub struct Args {
    /// Name of the project's own cluster.
    #[arg(long, default_value = "mainstay")]
    name: String,
    /// A cluster of yours instead. Its nodes must hold the images, or be able to pull them.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

/// Builds and loads the images, installs or upgrades the charts, and waits for the operator.
pub fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    crate::runtime()?.block_on(async {
        let steps = Steps::shown();
        let given = args.kubeconfig.is_some();
        let cluster = cluster::choose(&args.name, args.kubeconfig.clone()).await?;
        if !cluster.runs().await {
            return Err(no_cluster(cluster.as_ref(), given).into());
        }
        let images = images(&steps).await?;
        install(cluster.as_ref(), !given, &images, &steps).await
    })
}

/// What to do where there is no cluster.
pub fn no_cluster(cluster: &dyn Cluster, given: bool) -> String {
    let name = cluster.name();
    if given {
        format!("cluster {name} does not answer")
    } else {
        format!("cluster {name} does not run: cargo xtask cluster up --name {name}")
    }
}

/// The images of the operator, of PostgreSQL and of its pooler.
pub async fn images(steps: &Steps) -> Result<[images::Built; 3], images::Error> {
    let wanted = [
        Image::PostgresOperator { revision: 1 },
        Image::Postgres { revision: 1 },
        Image::PgBouncer,
    ];
    images::build(&wanted, steps).await
}

/// Loads the images if asked to, installs or upgrades the charts, and waits for the operator.
pub async fn install(
    cluster: &dyn Cluster,
    load: bool,
    built: &[images::Built; 3],
    steps: &Steps,
) -> Result<(), Box<dyn Error>> {
    let [operator, postgres, pgbouncer] = built;
    if load {
        let archives: Vec<_> = built.iter().map(|b| b.archive.clone()).collect();
        cluster.load(&archives).await?;
        steps.done("every node holds the images");
    }
    let client = cluster::client(cluster).await?;
    let charts = Charts::new(&cluster.kubeconfig(), client).await?;
    let definitions = charts.definitions().await?;
    steps.done(&say(charts::CRDS, definitions));
    let names = Installed {
        operator: operator.name.clone(),
        postgres: postgres.name.clone(),
        pgbouncer: pgbouncer.name.clone(),
        redis: None,
    };
    let operators = charts.operators(&names).await?;
    steps.done(&say(charts::OPERATORS, operators));
    charts.available(AVAILABLE).await?;
    steps.done("the operator is available");
    Ok(())
}

fn say(chart: &str, done: Done) -> String {
    match done {
        Done::Installed => format!("installed chart {chart}"),
        Done::Upgraded => format!("upgraded chart {chart}"),
        Done::Unchanged => format!("chart {chart} is as it should be"),
    }
}
