//! `cargo xtask install`: the charts onto a cluster, with the images that are built here.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use mainstay_e2e::charts::{self, Charts, Done, Installed};
use mainstay_e2e::cluster::{self, Cluster, LocalCluster, Steps};
use mainstay_e2e::images::{self, Image};

/// How long the operator may take to become available.
const AVAILABLE: Duration = Duration::from_mins(3);

#[derive(clap::Args)]
pub struct Args {
    /// The local cluster's name.
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
        let cluster = LocalCluster::new(&args.name, 3)?;
        let target = Target {
            cluster: args.kubeconfig.is_none().then_some(&cluster),
            kubeconfig: args
                .kubeconfig
                .clone()
                .unwrap_or_else(|| cluster.kubeconfig()),
        };
        if let Some(cluster) = target.cluster
            && !cluster.runs().await
        {
            return Err(format!(
                "cluster {0} does not run: cargo xtask cluster up --name {0}",
                args.name
            )
            .into());
        }
        let images = images(&steps).await?;
        install(&target, &images, &steps).await?;
        Ok(())
    })
}

/// Where to install.
pub struct Target<'a> {
    /// The cluster whose nodes are given the images; none when they are there, or pulled.
    pub cluster: Option<&'a LocalCluster>,
    /// How it is reached.
    pub kubeconfig: PathBuf,
}

/// The images of the operator and of PostgreSQL.
pub async fn images(steps: &Steps) -> Result<Vec<images::Built>, images::Error> {
    let wanted = [
        Image::PostgresOperator { revision: 1 },
        Image::Postgres { revision: 1 },
    ];
    images::build(&wanted, steps).await
}

/// Loads the images, installs or upgrades the charts, and waits for the operator.
pub async fn install(
    target: &Target<'_>,
    built: &[images::Built],
    steps: &Steps,
) -> Result<(), Box<dyn Error>> {
    let [operator, postgres] = built else {
        return Err("the operator's image and PostgreSQL's are needed".into());
    };
    if let Some(cluster) = target.cluster {
        let archives = [operator.archive.clone(), postgres.archive.clone()];
        cluster.load(&archives).await?;
        steps.done("every node holds the images");
    }
    let client = client(&target.kubeconfig).await?;
    let charts = Charts::new(&target.kubeconfig, client).await?;
    let definitions = charts.definitions().await?;
    steps.done(&say(charts::CRDS, definitions));
    let names = Installed {
        operator: operator.name.clone(),
        postgres: postgres.name.clone(),
    };
    let operators = charts.operators(&names).await?;
    steps.done(&say(charts::OPERATORS, operators));
    charts.available(AVAILABLE).await?;
    steps.done("the operator is available");
    Ok(())
}

/// A client for a kubeconfig.
pub async fn client(kubeconfig: &std::path::Path) -> Result<kube::Client, cluster::ClusterError> {
    let read = kube::config::Kubeconfig::read_from(kubeconfig)?;
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(read, &options).await?;
    Ok(kube::Client::try_from(config)?)
}

fn say(chart: &str, done: Done) -> String {
    match done {
        Done::Installed => format!("installed chart {chart}"),
        Done::Upgraded => format!("upgraded chart {chart}"),
        Done::Unchanged => format!("chart {chart} is as it should be"),
    }
}
