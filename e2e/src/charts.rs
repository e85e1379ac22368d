//! The Helm charts on a cluster: installed, waited for, taken off (I/O).
//!
//! Guarantee: a release that already holds the same chart with the same values is left as it is,
//! so that installing again changes nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, Client};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::process::{ProcessError, command, run};
use crate::tools::{self, ToolError};

/// Namespace of the operators.
pub const NAMESPACE: &str = "mainstay-system";
/// Release and chart of the definitions.
pub const CRDS: &str = "mainstay-crds";
/// Release and chart of the operators.
pub const OPERATORS: &str = "mainstay";
/// Labels of the operators' Deployments.
const DEPLOYMENTS: &str = "app.kubernetes.io/part-of=mainstay,app.kubernetes.io/component=operator";
/// How often the Deployment is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// Why a chart is not on the cluster.
#[derive(Debug, thiserror::Error)]
pub enum ChartError {
    /// Helm is not to be had.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// Helm failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A chart or a temporary file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The API server's answer.
    #[error("the API server: {0}")]
    Api(#[from] Box<kube::Error>),
    /// Helm said something that is not understood.
    #[error("helm's answer is not understood: {0}")]
    Answer(#[from] serde_json::Error),
    /// The operator does not become available.
    #[error(
        "the operator is not available after {} s: {seen}\nlook at: kubectl --namespace {NAMESPACE} \
         describe pods", after.as_secs()
    )]
    Unavailable {
        /// How long was waited.
        after: Duration,
        /// The Deployment's own words.
        seen: String,
    },
}

/// Helm on one cluster.
pub struct Charts {
    helm: PathBuf,
    kubeconfig: PathBuf,
    client: Client,
}

/// Images to install the operators with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The operator's image.
    pub operator: String,
    /// PostgreSQL 17's image.
    pub postgres: String,
    /// The connection pooler's image.
    pub pgbouncer: String,
    /// Redis' images; none: its operator is not installed.
    pub redis: Option<RedisImages>,
}

/// Images of Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisImages {
    /// Its operator's.
    pub operator: String,
    /// Redis 8.0's.
    pub server: String,
    /// Redis 7.0's.
    pub older: String,
    /// Valkey 8.1's.
    pub valkey: String,
}

/// What was done with a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It was not there.
    Installed,
    /// It held another chart or other values.
    Upgraded,
    /// It was as wanted.
    Unchanged,
}

impl Charts {
    /// Helm for the cluster that `kubeconfig` leads to; built when the cache lacks it.
    ///
    /// # Errors
    /// When helm cannot be built.
    pub async fn new(kubeconfig: &Path, client: Client) -> Result<Self, ChartError> {
        Ok(Self {
            helm: tools::helm().await?,
            kubeconfig: kubeconfig.to_owned(),
            client,
        })
    }

    /// Installs or upgrades the definitions.
    ///
    /// # Errors
    /// When helm or the API server refuses.
    pub async fn definitions(&self) -> Result<Done, ChartError> {
        self.release(CRDS, &json!({})).await
    }

    /// Installs or upgrades the operators. It does not wait for them.
    ///
    /// # Errors
    /// When helm or the API server refuses.
    pub async fn operators(&self, images: &Installed) -> Result<Done, ChartError> {
        let ports = self.api_server_ports().await?;
        self.release(OPERATORS, &values(images, &ports)).await
    }

    /// Waits until every operator is available.
    ///
    /// # Errors
    /// [`ChartError::Unavailable`] after `within`.
    pub async fn available(&self, within: Duration) -> Result<(), ChartError> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), NAMESPACE);
        let start = Instant::now();
        loop {
            let operators = ListParams::default().labels(DEPLOYMENTS);
            let deployments = api.list(&operators).await.map_err(Box::new)?;
            let Err(seen) = are_available(&deployments.items) else {
                return Ok(());
            };
            if start.elapsed() > within {
                return Err(ChartError::Unavailable {
                    after: within,
                    seen,
                });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whether a release is on the cluster, in whatever state.
    ///
    /// # Errors
    /// When helm fails.
    pub async fn exists(&self, release: &str) -> Result<bool, ChartError> {
        Ok(self.status(release).await?.is_some())
    }

    /// Takes a release off; the definitions' objects stay. Nothing happens when it is not there.
    ///
    /// # Errors
    /// When helm fails.
    pub async fn uninstall(&self, release: &str) -> Result<(), ChartError> {
        let mut helm = self.helm();
        helm.args([
            "uninstall",
            release,
            "--ignore-not-found",
            "--wait",
            "--timeout",
            "2m",
        ]);
        run(&mut helm).await?;
        Ok(())
    }

    async fn release(&self, name: &str, values: &Value) -> Result<Done, ChartError> {
        let chart = chart(name);
        let content = format!("content {}", content(&chart, values)?);
        let status = self.status(name).await?;
        let before = status
            .as_ref()
            .map(|s| (text(s, "/info/status"), text(s, "/info/description")));
        match before {
            Some(("deployed", description)) if description == content => {
                return Ok(Done::Unchanged);
            }
            // Interrupted half-way: helm refuses to go on from there.
            Some(("pending-install" | "uninstalling", _)) => self.uninstall(name).await?,
            Some(("pending-upgrade" | "pending-rollback", _)) => {
                run(self.helm().args(["rollback", name])).await?;
            }
            _ => {}
        }
        let folder = tempfile::tempdir().map_err(at(&std::env::temp_dir()))?;
        let file = folder.path().join("values.json");
        fs::write(&file, serde_json::to_vec(values)?).map_err(at(&file))?;
        let mut helm = self.helm();
        helm.args(["upgrade", "--install", "--create-namespace", name])
            .arg(&chart)
            .arg("--values")
            .arg(&file)
            .args(["--description", &content]);
        run(&mut helm).await?;
        Ok(if status.is_some() {
            Done::Upgraded
        } else {
            Done::Installed
        })
    }

    /// What helm knows of a release.
    async fn status(&self, release: &str) -> Result<Option<Value>, ChartError> {
        let filter = format!("^{release}$");
        let mut list = self.helm();
        list.args(["list", "--all", "--short", "--filter", &filter]);
        if run(&mut list).await?.trim().is_empty() {
            return Ok(None);
        }
        let mut status = self.helm();
        status.args(["status", release, "--output", "json"]);
        Ok(Some(serde_json::from_str(&run(&mut status).await?)?))
    }

    fn helm(&self) -> tokio::process::Command {
        let mut helm = command(&self.helm);
        helm.arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(["--namespace", NAMESPACE]);
        helm
    }

    /// Ports at which the API server's own addresses listen: network policies speak of those.
    async fn api_server_ports(&self) -> Result<Vec<i32>, ChartError> {
        let slices: Api<EndpointSlice> = Api::namespaced(self.client.clone(), "default");
        let selected = ListParams::default().labels("kubernetes.io/service-name=kubernetes");
        let slices = slices.list(&selected).await.map_err(Box::new)?;
        let mut ports: Vec<i32> = slices
            .items
            .iter()
            .flat_map(|slice| slice.ports.iter().flatten())
            .filter_map(|port| port.port)
            .collect();
        // The Service's own port, for policies that are applied before its address is replaced.
        ports.push(443);
        ports.sort_unstable();
        ports.dedup();
        Ok(ports)
    }
}

/// The folder of a chart.
fn chart(name: &str) -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).join("helm").join(name)
}

/// Values of the operators' chart.
fn values(images: &Installed, api_server_ports: &[i32]) -> Value {
    let mut values = json!({
        "postgres": {"image": images.operator},
        "catalogue": {"postgres": {"17": images.postgres}, "pgbouncer": images.pgbouncer},
        "networkPolicy": {"apiServerPorts": api_server_ports},
    });
    if let Some(redis) = &images.redis {
        values["redis"] = json!({"enabled": true, "image": redis.operator});
        values["catalogue"]["redis"] = json!({"7.0": redis.older, "8.0": redis.server});
        values["catalogue"]["valkey"] = json!({"8.1": redis.valkey});
    }
    values
}

/// Hash of a chart's files and of values.
fn content(chart: &Path, values: &Value) -> Result<String, ChartError> {
    let mut files = Vec::new();
    collect(chart, &mut files)?;
    files.sort();
    let mut digest = Sha256::new();
    for file in files {
        let text = fs::read(&file).map_err(at(&file))?;
        let name = file.strip_prefix(chart).unwrap_or(&file);
        digest.update(name.as_os_str().as_encoded_bytes());
        digest.update([0]);
        digest.update((text.len() as u64).to_be_bytes());
        digest.update(text);
    }
    digest.update(serde_json::to_vec(values)?);
    Ok(tools::hex(&digest.finalize()[..8]))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), ChartError> {
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let path = entry.map_err(at(folder))?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn text<'a>(status: &'a Value, pointer: &str) -> &'a str {
    status
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or("")
}

/// Whether there are operators, and each is available; else in words what is.
fn are_available(deployments: &[Deployment]) -> Result<(), String> {
    if deployments.is_empty() {
        return Err("there is no Deployment".to_owned());
    }
    deployments.iter().try_for_each(is_available)
}

/// Whether every pod of the newest template is available; else in words what is.
fn is_available(deployment: &Deployment) -> Result<(), String> {
    let wanted = deployment
        .spec
        .as_ref()
        .and_then(|s| s.replicas)
        .unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    let observed = status.observed_generation == deployment.metadata.generation;
    let updated = status.updated_replicas.unwrap_or(0);
    let available = status.available_replicas.unwrap_or(0);
    let all = status.replicas.unwrap_or(0);
    if observed && updated == wanted && available == wanted && all == wanted {
        return Ok(());
    }
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    Err(format!(
        "{name}: {available} of {wanted} pods available, {updated} of the newest template"
    ))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> ChartError + use<> {
    let path = path.to_owned();
    move |source| ChartError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_tells_charts_and_values_apart() {
        let of = |name: &str, value: &Value| content(&chart(name), value).unwrap();
        assert_eq!(of(CRDS, &json!({})), of(CRDS, &json!({})));
        assert_ne!(of(CRDS, &json!({})), of(OPERATORS, &json!({})));
        assert_ne!(of(CRDS, &json!({})), of(CRDS, &json!({"a": 1})));
    }

    #[test]
    fn a_deployment_is_available_when_all_of_the_newest_is() {
        let deployment = |generation: i64, updated: i32| -> Deployment {
            serde_json::from_value(json!({
                "metadata": {"generation": 2},
                "spec": {"replicas": 1, "selector": {}, "template": {}},
                "status": {"observedGeneration": generation, "replicas": 1,
                           "updatedReplicas": updated, "availableReplicas": 1},
            }))
            .unwrap()
        };
        let good = deployment(2, 1);
        assert!(are_available(std::slice::from_ref(&good)).is_ok());
        assert!(are_available(&[good.clone(), deployment(1, 1)]).is_err());
        assert!(are_available(&[deployment(2, 0), good]).is_err());
        assert!(are_available(&[]).is_err());
    }
}
