//! The two processes: fakes, and an operator that takes them for a cluster (I/O).

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use kube::config::Config;
use kube::{Api, Client};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

use crate::figures::memory::{self, Process};
use crate::process;

/// Namespace of the operator.
const NAMESPACE: &str = "mainstay-system";
/// Longest time for the operator to lead, or to end.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often it is asked.
const LOOK: Duration = Duration::from_millis(20);
/// Characters of the operator's log that an error repeats.
const TAIL: usize = 3000;

/// Both processes. They end when this is dropped, and the fakes also when this process is killed.
pub struct World {
    client: Client,
    health: Client,
    health_port: u16,
    program: PathBuf,
    operator: Child,
    // Its input is held open: the program ends when that closes.
    _fakes: Child,
    folder: TempDir,
}

impl World {
    /// Start the fakes and an operator, and wait until it leads.
    ///
    /// # Errors
    /// When one does not start.
    pub async fn start(fakes: &Path, operator: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("mainstay-sets-")
            .tempdir()?;
        let mut fakes = process::command(fakes)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the fakes")?;
        let out = fakes.stdout.take().context("the fakes' output")?;
        let mut address = String::new();
        BufReader::new(out).read_line(&mut address).await?;
        let address = address.trim();
        ensure!(!address.is_empty(), "the fakes did not start");
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "fakes",
            "clusters": [{"name": "fakes", "cluster": {"server": address}}],
            "users": [{"name": "nobody", "user": {}}],
            "contexts": [{"name": "fakes", "context": {"cluster": "fakes", "user": "nobody"}}],
        });
        fs::write(folder.path().join("kubeconfig"), kubeconfig.to_string())?;
        let catalogue = json!({"postgres": {"17": "postgres:17.12"}});
        fs::write(folder.path().join("catalogue.json"), catalogue.to_string())?;
        let client = connect(address)?;
        // As the chart makes it: empty, to be taken at once.
        let lease = serde_json::from_value(json!({"metadata": {"name": "mainstay-postgres"}}))?;
        let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
        leases.create(&PostParams::default(), &lease).await?;
        let health_port = free_port()?;
        let child = spawn(operator, folder.path(), health_port)?;
        let world = Self {
            client,
            health: connect(&format!("http://127.0.0.1:{health_port}"))?,
            health_port,
            program: operator.to_owned(),
            operator: child,
            _fakes: fakes,
            folder,
        };
        world.leads().await?;
        Ok(world)
    }

    /// A client of the fake API server.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The operator's process.
    ///
    /// # Errors
    /// When it has ended.
    pub fn operator(&self) -> Result<Process> {
        let pid = self.operator.id();
        pid.and_then(|pid| memory::process(pid, "operator"))
            .with_context(|| format!("the operator has ended:\n{}", self.log()))
    }

    /// What the operator tells of itself.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metrics(&self) -> Result<String> {
        let request = http::Request::get("/metrics").body(Vec::new())?;
        Ok(self.health.request_text(request).await?)
    }

    /// The end of the operator's log.
    pub fn log(&self) -> String {
        let text = fs::read_to_string(self.folder.path().join("operator.log")).unwrap_or_default();
        process::tail(&text, TAIL).to_owned()
    }

    /// Ask the operator to stop, and start another one.
    ///
    /// # Errors
    /// When it does not end, or the new one does not lead.
    pub async fn restart_operator(&mut self) -> Result<()> {
        let pid = self.operator.id().context("the operator has ended")?;
        kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGTERM)?;
        tokio::time::timeout(PATIENCE, self.operator.wait())
            .await
            .context("the operator does not end")??;
        self.operator = spawn(&self.program, self.folder.path(), self.health_port)?;
        self.leads().await
    }

    async fn leads(&self) -> Result<()> {
        let begin = Instant::now();
        loop {
            let text = self.metrics().await.unwrap_or_default();
            if text.lines().any(|line| line == "mainstay_leader 1") {
                return Ok(());
            }
            ensure!(
                begin.elapsed() < PATIENCE,
                "the operator does not lead:\n{}",
                self.log()
            );
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn spawn(program: &Path, folder: &Path, health_port: u16) -> Result<Child> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(folder.join("operator.log"))?;
    // As the chart starts it.
    let mut command = process::command(program);
    command
        .arg("operator")
        .arg("--catalogue")
        .arg(folder.join("catalogue.json"))
        .args(["--health", &format!("127.0.0.1:{health_port}")])
        .env("KUBECONFIG", folder.join("kubeconfig"))
        .env("POD_NAMESPACE", NAMESPACE)
        .env("POD_NAME", "operator-0")
        .env("MAINSTAY_IMAGE", "mainstay/postgres-operator:0.1.0")
        .stdout(log.try_clone()?)
        .stderr(log);
    command.spawn().context("starting the operator")
}

fn connect(address: &str) -> Result<Client> {
    Ok(Client::try_from(Config::new(address.parse()?))?)
}

/// A port that nobody listens on now.
fn free_port() -> Result<u16> {
    let held = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok(held.local_addr()?.port())
}
