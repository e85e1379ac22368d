//! A kube-apiserver with its etcd, and nothing else of Kubernetes: for tests of what the API server
//! itself decides (definitions, rules, admission policies, rights). It is there in seconds, on free
//! ports of the loopback interface.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::cluster::local::{LocalError, pki};
use crate::process::{self, ProcessError};
use crate::tools::{self, ToolError};

/// Longest time until the API server is ready; usually three seconds.
const READY_WITHIN: Duration = Duration::from_mins(1);
/// How often it is asked.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// Longest time for the processes to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// Runs the arguments after the first as a child, kills it when standard input ends, and removes
/// the folder that the first names, if it names one. A test that is killed leaves nothing behind:
/// its end of the pipe closes with it.
pub(crate) const KEEPER: &str = r#"trap '' INT
folder=$1
shift
"$@" </dev/null &
child=$!
cat >/dev/null
kill -KILL "$child"
wait "$child"
[ -z "$folder" ] || rm -rf "$folder"
exit 0"#;

/// Why there is no API server.
#[derive(Debug, thiserror::Error)]
pub enum ApiServerError {
    /// The programs cannot be had.
    #[error("kube-apiserver and etcd are needed: {0}")]
    Tool(#[from] ToolError),
    /// The certificates cannot be made.
    #[error(transparent)]
    Certificates(#[from] LocalError),
    /// A file, port or process cannot be had.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Its own administrator's file cannot be read.
    #[error(transparent)]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// A client cannot be made.
    #[error(transparent)]
    Client(#[from] kube::Error),
    /// It was not ready in time.
    #[error("the API server was not ready within {} s; the end of its log:\n{log}", READY_WITHIN.as_secs())]
    NotReady {
        /// What it wrote last.
        log: String,
    },
    /// A process would not go.
    #[error("a process of the API server did not end within {} s", GONE_WITHIN.as_secs())]
    NotGone,
}

/// A running API server.
///
/// Guarantee: its processes end and its folder is removed with [`ApiServer::stop`], soon after it is
/// dropped, and soon after this process is killed.
pub struct ApiServer {
    program: PathBuf,
    folder: TempDir,
    // In this order they are stopped: the API server first.
    keepers: Vec<Child>,
}

impl ApiServer {
    /// Starts etcd and the API server, and waits until it is ready.
    ///
    /// # Errors
    /// The programs cannot be had, or the server is not ready in time.
    pub async fn start() -> Result<Self, ApiServerError> {
        let program = tools::kube().await?;
        let folder = tempfile::Builder::new()
            .prefix("mainstay-api-")
            .tempdir()
            .map_err(io("make a folder"))?;
        for (name, text) in pki::issue(&[])? {
            std::fs::write(folder.path().join(name), text).map_err(io("write a certificate"))?;
        }
        let [etcd, peer, api] = free_ports()?;
        let mut this = Self {
            program,
            folder,
            keepers: Vec::new(),
        };
        this.write_kubeconfig(api)?;
        let store = etcd_arguments(&this.file("etcd"), etcd, peer);
        let store = this.keep("etcd", &store, Some(this.folder.path()))?;
        let server = this.keep("kube-apiserver", &this.api_arguments(api, etcd), None)?;
        this.keepers = vec![server, store];
        this.wait_until_ready().await?;
        Ok(this)
    }

    /// A client as an administrator.
    ///
    /// # Errors
    /// The kubeconfig cannot be read, which was written at the start.
    pub async fn client(&self) -> Result<Client, ApiServerError> {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig())?;
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
        Ok(Client::try_from(config)?)
    }

    /// File of an administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.file("kubeconfig")
    }

    /// From now on it answers nobody, and keeps connections open; or it goes on.
    ///
    /// # Errors
    /// A process is gone.
    pub fn freeze(&self, frozen: bool) -> Result<(), ApiServerError> {
        let signal = if frozen {
            nix::sys::signal::Signal::SIGSTOP
        } else {
            nix::sys::signal::Signal::SIGCONT
        };
        for keeper in self.keepers.iter().filter_map(Child::id) {
            let children =
                std::fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children"))
                    .map_err(io("find a process"))?;
            for pid in children.split_whitespace().filter_map(|p| p.parse().ok()) {
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal)
                    .map_err(std::io::Error::from)
                    .map_err(io("signal a process"))?;
            }
        }
        Ok(())
    }

    /// Runs `kubectl` as an administrator and returns what it prints.
    ///
    /// # Errors
    /// It failed; the error holds what it said.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String, ProcessError> {
        // What kubectl remembers of the server's kinds would be wrong after the next definition.
        let cache =
            tempfile::tempdir_in(self.folder.path()).map_err(|source| ProcessError::Start {
                program: "kubectl".to_owned(),
                source,
            })?;
        let mut command = process::command(&self.program);
        command
            .arg("kubectl")
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .arg("--cache-dir")
            .arg(cache.path())
            .args(arguments);
        process::run(&mut command).await
    }

    /// Applies manifests given as text, as `kubectl apply --server-side` does.
    ///
    /// # Errors
    /// A file cannot be written, or kubectl failed; the error holds what it said.
    pub async fn apply(&self, manifests: &str) -> Result<String, ProcessError> {
        let write = || -> std::io::Result<tempfile::NamedTempFile> {
            let mut file = tempfile::NamedTempFile::new_in(self.folder.path())?;
            file.write_all(manifests.as_bytes())?;
            Ok(file)
        };
        let file = write().map_err(|source| ProcessError::Start {
            program: "kubectl".to_owned(),
            source,
        })?;
        let path = file.path().to_string_lossy();
        self.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", &path])
            .await
    }

    /// Stops the processes, waits until they are gone and removes the folder.
    ///
    /// # Errors
    /// A process did not end.
    pub async fn stop(mut self) -> Result<(), ApiServerError> {
        for keeper in &mut self.keepers {
            drop(keeper.stdin.take());
            tokio::time::timeout(GONE_WITHIN, keeper.wait())
                .await
                .map_err(|_| ApiServerError::NotGone)?
                .map_err(io("wait for a process"))?;
        }
        Ok(())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts one of the processes; its log is beside its data.
    fn keep(
        &self,
        name: &str,
        arguments: &[String],
        folder: Option<&Path>,
    ) -> Result<Child, ApiServerError> {
        let log = std::fs::File::create(self.file(&format!("{name}.log")))
            .map_err(io("make a log file"))?;
        let errors = log.try_clone().map_err(io("make a log file"))?;
        Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(folder.unwrap_or(Path::new("")))
            .arg(&self.program)
            .arg(name)
            .args(arguments)
            .env(process::COLLECTS_SELDOM.0, process::COLLECTS_SELDOM.1)
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(io("start a process"))
    }

    fn api_arguments(&self, port: u16, etcd: u16) -> Vec<String> {
        let file = |name| self.file(name).display().to_string();
        vec![
            format!("--etcd-servers=http://127.0.0.1:{etcd}"),
            "--bind-address=127.0.0.1".into(),
            "--advertise-address=127.0.0.1".into(),
            format!("--secure-port={port}"),
            "--service-cluster-ip-range=10.0.0.0/24".into(),
            format!("--client-ca-file={}", file("ca.crt")),
            format!("--tls-cert-file={}", file("apiserver.crt")),
            format!("--tls-private-key-file={}", file("apiserver.key")),
            format!("--service-account-key-file={}", file("sa.pub")),
            format!("--service-account-signing-key-file={}", file("sa.key")),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            "--authorization-mode=RBAC".into(),
            // Nothing makes service accounts here, and no pod is run.
            "--disable-admission-plugins=ServiceAccount".into(),
        ]
    }

    fn write_kubeconfig(&self, port: u16) -> Result<(), ApiServerError> {
        let file = |name| self.file(name).display().to_string();
        let text = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "api",
            "clusters": [{ "name": "api", "cluster": {
                "server": format!("https://127.0.0.1:{port}"),
                "certificate-authority": file("ca.crt"),
            } }],
            "users": [{ "name": "admin", "user": {
                "client-certificate": file("admin.crt"), "client-key": file("admin.key"),
            } }],
            "contexts": [{ "name": "api", "context": { "cluster": "api", "user": "admin" } }],
        });
        std::fs::write(self.kubeconfig(), text.to_string()).map_err(io("write the kubeconfig"))
    }

    async fn wait_until_ready(&mut self) -> Result<(), ApiServerError> {
        let client = self.client().await?;
        let deadline = Instant::now() + READY_WITHIN;
        while !is_ready(&client).await {
            if Instant::now() > deadline || self.has_ended() {
                let log = ["etcd.log", "kube-apiserver.log"]
                    .map(|name| std::fs::read_to_string(self.file(name)).unwrap_or_default());
                return Err(ApiServerError::NotReady {
                    log: log
                        .map(|text| process::tail(&text, 2000).to_owned())
                        .concat(),
                });
            }
            sleep(ASK_EVERY).await;
        }
        Ok(())
    }

    fn has_ended(&mut self) -> bool {
        self.keepers
            .iter_mut()
            .any(|keeper| !matches!(keeper.try_wait(), Ok(None)))
    }
}

fn etcd_arguments(data: &Path, client: u16, peer: u16) -> Vec<String> {
    let url = |port| format!("http://127.0.0.1:{port}");
    vec![
        format!("--data-dir={}", data.display()),
        format!("--listen-client-urls={}", url(client)),
        format!("--advertise-client-urls={}", url(client)),
        format!("--listen-peer-urls={}", url(peer)),
        format!("--initial-advertise-peer-urls={}", url(peer)),
        format!("--initial-cluster=default={}", url(peer)),
        // What a crash of the machine would lose is thrown away anyway.
        "--unsafe-no-fsync".into(),
    ]
}

async fn is_ready(client: &Client) -> bool {
    let Ok(request) = http::Request::get("/readyz").body(Vec::new()) else {
        return false;
    };
    client
        .request_text(request)
        .await
        .is_ok_and(|text| text == "ok")
}

/// Ports that nobody listens on now.
fn free_ports<const N: usize>() -> Result<[u16; N], ApiServerError> {
    let mut held = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(io("find a free port"))?;
        *port = listener
            .local_addr()
            .map_err(io("find a free port"))?
            .port();
        // Held until all are found, so that no two are the same.
        held.push(listener);
    }
    Ok(ports)
}

fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> ApiServerError {
    move |source| ApiServerError::Io { what, source }
}
