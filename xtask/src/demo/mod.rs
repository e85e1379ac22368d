//! `cargo xtask demo`: from nothing to an application that uses a PostgreSQL, and back.

mod application;
mod down;
mod given;
mod progress;
mod record;

use std::error::Error;
use std::path::PathBuf;

use kube::Client;
use mainstay_e2e::cluster::{self, Cluster, Steps};

use crate::install;

/// Namespace of what the demo makes.
const NAMESPACE: &str = "demo";
/// Name of the `Postgres` in the example.
const SET: &str = "db";

#[derive(clap::Args)]
pub struct Args {
    /// A cluster of yours instead of one of its own. Its nodes must hold the images, or be able to
    /// pull them.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Name of the demo's own cluster.
    #[arg(long, default_value = "demo", conflicts_with = "kubeconfig")]
    name: String,
    /// Removes everything that the demo made, its data and its own cluster included.
    #[arg(long)]
    down: bool,
    /// Does not ask before it changes a cluster of yours.
    #[arg(long)]
    yes: bool,
}

/// Runs the demo, or removes it.
pub fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    crate::runtime()?.block_on(async {
        let place = Place {
            cluster: cluster::choose(&args.name, args.kubeconfig.clone()).await?,
            given: args.kubeconfig.is_some(),
            asked: args.yes,
        };
        if args.down {
            down::down(&place).await
        } else {
            up(&place).await
        }
    })
}

/// Where the demo runs.
struct Place {
    /// The demo's own cluster, or the user's.
    cluster: Box<dyn Cluster>,
    /// Whether it is the user's.
    given: bool,
    /// Whether the user has agreed already.
    asked: bool,
}

impl Place {
    fn kubeconfig(&self) -> PathBuf {
        self.cluster.kubeconfig()
    }

    async fn client(&self) -> Result<Client, Box<dyn Error>> {
        Ok(cluster::client(self.cluster.as_ref()).await?)
    }

    /// Asks before a cluster that is not ours is changed.
    fn agree(&self, question: &str) -> Result<(), Box<dyn Error>> {
        if !self.given || self.asked {
            return Ok(());
        }
        eprint!("{question} on cluster {}? [y/N] ", self.cluster.name());
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        if answer.trim().eq_ignore_ascii_case("y") {
            return Ok(());
        }
        Err("nothing was changed; `--yes` answers beforehand".into())
    }
}

async fn up(place: &Place) -> Result<(), Box<dyn Error>> {
    place.agree("Install Mainstay and the demo")?;
    let steps = Steps::shown();
    place.cluster.up(&steps).await?;
    let built = install::images(&steps).await?;
    let [_, postgres, _] = &built;
    let client = place.client().await?;
    record::remember(&client, place).await?;
    install::install(place.cluster.as_ref(), !place.given, &built, &steps).await?;

    let applied = given::postgres(&client).await?;
    steps.done(&format!(
        "{applied} examples/postgres.yaml in namespace {NAMESPACE}"
    ));
    let ready = progress::until_ready(&client, &steps).await?;
    let applied = given::application(&client, &postgres.name).await?;
    steps.done(&format!("{applied} examples/application.yaml"));
    application::show(place, &client, &steps).await?;
    farewell(place, &ready).await
}

/// Says what runs and what to try.
async fn farewell(place: &Place, ready: &progress::Ready) -> Result<(), Box<dyn Error>> {
    let kubectl = application::kubectl().await?;
    let own = match (place.given, place.cluster.name()) {
        (true, _) => format!(" --kubeconfig {}", place.kubeconfig().display()),
        (false, "demo") => String::new(),
        (false, name) => format!(" --name {name}"),
    };
    println!(
        "
PostgreSQL {version} runs with {instances} instances; {primary} is the primary.

Try:
  export KUBECONFIG={kubeconfig}
  alias kubectl={kubectl}
  kubectl -n {NAMESPACE} get postgres
  kubectl -n {NAMESPACE} get postgres {SET} -o yaml           # the status: endpoints, survives, certificates
  kubectl explain postgres.spec
  kubectl -n {NAMESPACE} exec deployment/application -it -- psql service=primary
  kubectl -n {NAMESPACE} delete pod {SET}-2                    # a replica comes back by itself
  kubectl -n {NAMESPACE} delete postgres {SET}                 # refused, with the reason
  kubectl -n {NAMESPACE} patch postgres {SET} --type merge -p '{{\"spec\":{{\"parameters\":{{\"work_mem\":\"8MB\"}}}}}}'

Remove it all: cargo xtask demo --down{own}",
        version = ready.version,
        instances = ready.instances,
        primary = ready.primary,
        kubeconfig = place.kubeconfig().display(),
        kubectl = kubectl.display(),
    );
    Ok(())
}
