//! The application: it writes a row over verified TLS and reads it from a replica (I/O).

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, Client};
use mainstay_e2e::cluster::Steps;
use mainstay_e2e::process::{command, run};
use mainstay_e2e::tools;

use super::{NAMESPACE, Place};

/// The example's name.
const NAME: &str = "application";
/// How long it may take to start, and a replica to have the row.
const PATIENCE: Duration = Duration::from_mins(2);
/// How often things are looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Writes a row once; later runs find it.
const WRITE: &str = "create table if not exists greeting (id int primary key, text text);
    insert into greeting values (1, 'written by the application') on conflict do nothing;";
/// Reads it, with what the server says of the connection.
const READ: &str =
    "select g.text, s.version, case when pg_is_in_recovery() then 'replica' else 'primary' end
    from greeting g, pg_stat_ssl s where s.pid = pg_backend_pid() and s.ssl";

/// Waits for the application, lets it write and read, and says what it saw.
pub async fn show(place: &Place, client: &Client, steps: &Steps) -> Result<(), Box<dyn Error>> {
    until_available(client).await?;
    steps.done(
        "the application is connected: its Secret is mounted, the server's certificate verified",
    );
    let exists = psql(
        place,
        "primary",
        "select to_regclass('greeting') is not null",
    )
    .await?;
    if exists != "t" {
        psql(place, "primary", WRITE).await?;
    }
    let primary = psql(place, "primary", READ).await?;
    steps.done(&format!(
        "it wrote a row and reads it back: {}",
        words(&primary)
    ));
    let start = Instant::now();
    let replica = loop {
        match psql(place, "replica", READ).await {
            Ok(row) if !row.is_empty() => break row,
            // The replica has the row on disk, and shows it as soon as it is replayed.
            _ if start.elapsed() < PATIENCE => tokio::time::sleep(LOOK).await,
            Ok(_) => return Err("the replica does not show the row".into()),
            Err(error) => return Err(error),
        }
    };
    steps.done(&format!(
        "it reads the row from a replica: {}",
        words(&replica)
    ));
    Ok(())
}

fn words(row: &str) -> String {
    row.split('|').collect::<Vec<_>>().join(", ")
}

async fn until_available(client: &Client) -> Result<(), Box<dyn Error>> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let start = Instant::now();
    loop {
        let deployment = api.get(NAME).await?;
        let status = deployment.status.unwrap_or_default();
        let is_new = status.observed_generation == deployment.metadata.generation
            && status.updated_replicas == status.replicas;
        if is_new && status.available_replicas.unwrap_or(0) > 0 {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            return Err(format!(
                "the application does not connect; look at: kubectl --namespace {NAMESPACE} logs \
                 deployment/{NAME}, and describe pods"
            )
            .into());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The cached kubectl.
pub async fn kubectl() -> Result<PathBuf, tools::ToolError> {
    tools::kubectl().await
}

/// Runs SQL in the application's pod, over one of its two connections.
async fn psql(place: &Place, service: &str, sql: &str) -> Result<String, Box<dyn Error>> {
    let mut exec = command(kubectl().await?);
    exec.arg("--kubeconfig")
        .arg(place.kubeconfig())
        .args([
            "--namespace",
            NAMESPACE,
            "exec",
            &format!("deployment/{NAME}"),
            "--",
        ])
        .args(["psql", &format!("service={service}")])
        .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"])
        .args(["--set", "ON_ERROR_STOP=1", "--command", sql]);
    Ok(run(&mut exec).await?.trim().to_owned())
}
