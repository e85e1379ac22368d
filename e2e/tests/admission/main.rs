//! What the API server itself decides, tried on a real kube-apiserver and etcd with the charts as
//! they are installed: definitions, the table of bad resources, deletion protection, rights.
//!
//! One server serves every test; each has its own name in the list (`cargo test --test admission`).

mod accesses;
mod backups;
mod changes;
mod definition;
mod fake;
mod objects;
mod operations;
mod protection;
mod restores;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use kube::Client;
use libtest_mimic::{Arguments, Trial};
use mainstay_e2e::apiserver::ApiServer;
use mainstay_e2e::{process, tools};
use tokio::time::{Instant, sleep};

/// Longest time until a new kind is published.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(30);
/// The list of kinds as kubectl asks for it.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// What a test is given.
pub struct Server {
    /// The server.
    pub api: Arc<ApiServer>,
    /// A client of its own, as an administrator.
    pub client: Client,
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(None)).exit_code();
    }
    match block_on(start()) {
        Ok(api) => {
            let api = Arc::new(api);
            let conclusion = libtest_mimic::run(&arguments, trials(Some(&api)));
            let stopped = Arc::into_inner(api).context("a test still holds the server");
            match stopped.and_then(|api| block_on(async { Ok(api.stop().await?) })) {
                Ok(()) => conclusion.exit_code(),
                Err(error) => failed(&error),
            }
        }
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

/// Every test. Without a server they can only be listed.
fn trials(api: Option<&Arc<ApiServer>>) -> Vec<Trial> {
    let mut trials = Vec::new();
    trials.extend(table::trials(api));
    trials.extend(accesses::trials(api));
    trials.extend(backups::trials(api));
    trials.extend(definition::trials(api));
    trials.extend(fake::trials(api));
    trials.extend(objects::trials(api));
    trials.extend(operations::trials(api));
    trials.extend(restores::trials(api));
    trials.extend(protection::trials(api));
    trials
}

/// A test with a client in a runtime of its own, since tests run on several threads.
fn trial<F>(
    name: impl Into<String>,
    api: Option<&Arc<ApiServer>>,
    test: impl FnOnce(Server) -> F + Send + 'static,
) -> Trial
where
    F: Future<Output = Result<()>>,
{
    let api = api.cloned();
    Trial::test(name, move || {
        let api = api.ok_or("there is no server")?;
        block_on(async {
            let client = api.client().await?;
            test(Server { api, client }).await
        })
        .map_err(|error| format!("{error:#}").into())
    })
}

fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(future)
}

/// The server with the charts installed, and the namespace that the tests use.
async fn start() -> Result<ApiServer> {
    let api = ApiServer::start().await?;
    api.apply(&render(&api, "mainstay-crds", &[]).await?)
        .await?;
    api.kubectl(&[
        "wait",
        "--for=condition=Established",
        "--timeout=30s",
        "crd/postgreses.mainstay.dev",
        "crd/redises.mainstay.dev",
    ])
    .await?;
    until_published(&api.client().await?).await?;
    api.kubectl(&["create", "namespace", "shop"]).await?;
    Ok(api)
}

/// Waits until kubectl can learn of the new kind: the API server publishes its list of kinds and
/// their documentation a little after the definition is established.
async fn until_published(client: &Client) -> Result<()> {
    let deadline = Instant::now() + PUBLISHED_WITHIN;
    loop {
        let kinds = http::Request::get("/apis").header(http::header::ACCEPT, AGGREGATED);
        let kinds = client.request_text(kinds.body(Vec::new())?).await?;
        let documentation = http::Request::get("/openapi/v3").body(Vec::new())?;
        let documentation = client.request_text(documentation).await?;
        let published = ["postgreses", "redises"].iter().all(|k| kinds.contains(k));
        if published && documentation.contains("mainstay.dev/v1alpha1") {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "the API server does not publish the new kind"
        );
        sleep(Duration::from_millis(50)).await;
    }
}

/// A chart of this repository as Helm renders it.
pub async fn render(api: &ApiServer, chart: &str, show_only: &[&str]) -> Result<String> {
    render_with(api, chart, show_only, &[]).await
}

/// The same with values.
pub async fn render_with(
    api: &ApiServer,
    chart: &str,
    show_only: &[&str],
    values: &[&str],
) -> Result<String> {
    let version = api.client().await?.apiserver_version().await?.git_version;
    let mut command = process::command(tools::helm().await?);
    command
        .args(["template", "mainstay"])
        .arg(workspace()?.join("helm").join(chart))
        .args(["--namespace", "mainstay-system"])
        .args(["--kube-version", &version]);
    for template in show_only {
        command.args(["--show-only", template]);
    }
    for value in values {
        command.args(["--set", value]);
    }
    Ok(process::run(&mut command).await?)
}

/// The root of the repository.
pub fn workspace() -> Result<PathBuf> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = package.parent().ok_or_else(|| anyhow!("no workspace"))?;
    Ok(root.to_owned())
}
