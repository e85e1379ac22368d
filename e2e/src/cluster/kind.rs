//! A cluster of containers, made by kind, where a Docker engine runs.

use std::path::{Path, PathBuf};

use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::process::Command;

use super::{Cluster, ClusterError, Faults, Steps};
use crate::process;
use crate::tools;

/// A kind cluster with one worker per zone.
#[derive(Debug, Clone)]
pub struct KindCluster {
    name: String,
    workers: usize,
    base: PathBuf,
}

impl KindCluster {
    /// The cluster of a name; the name may exist already.
    pub fn new(name: &str, workers: usize) -> Self {
        let base = std::env::var_os("MAINSTAY_STATE").map_or_else(
            || tools::home().join(".local/state/mainstay"),
            PathBuf::from,
        );
        Self {
            name: name.to_owned(),
            workers,
            base,
        }
    }

    async fn kind(&self, arguments: &[String]) -> Result<String, ClusterError> {
        let program = tools::kind().await?;
        Ok(process::run(process::command(program).args(arguments)).await?)
    }
}

/// Whether a Docker engine answers. The client alone is not enough.
pub async fn engine_answers() -> bool {
    process::run(&mut engine_question())
        .await
        .is_ok_and(|version| !version.trim().is_empty())
}

fn engine_question() -> Command {
    let mut command = process::command("docker");
    command.args(["version", "--format", "{{.Server.Version}}"]);
    command
}

/// What kind is to make.
fn configuration(workers: usize) -> Value {
    let worker = |zone: usize| {
        json!({"role": "worker", "labels": {
            "topology.kubernetes.io/zone": format!("zone-{zone}"), "topology.kubernetes.io/region": "local",
        }})
    };
    let nodes: Vec<Value> = std::iter::once(json!({"role": "control-plane"}))
        .chain((1..=workers).map(worker))
        .collect();
    json!({"apiVersion": "kind.x-k8s.io/v1alpha4", "kind": "Cluster", "nodes": nodes})
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn create(name: &str, configuration: &Path, kubeconfig: &Path) -> Vec<String> {
    let (configuration, kubeconfig) = (
        configuration.display().to_string(),
        kubeconfig.display().to_string(),
    );
    words(&[
        "create",
        "cluster",
        "--name",
        name,
        "--config",
        &configuration,
        "--kubeconfig",
        &kubeconfig,
        "--wait",
        "5m",
    ])
}

fn delete(name: &str, kubeconfig: &Path) -> Vec<String> {
    words(&[
        "delete",
        "cluster",
        "--name",
        name,
        "--kubeconfig",
        &kubeconfig.display().to_string(),
    ])
}

fn load(name: &str, archive: &Path) -> Vec<String> {
    words(&[
        "load",
        "image-archive",
        &archive.display().to_string(),
        "--name",
        name,
    ])
}

/// Whether a name is in the list that `kind get clusters` prints, one a line.
fn listed(name: &str, list: &str) -> bool {
    list.lines().any(|line| line.trim() == name)
}

impl Cluster for KindCluster {
    fn name(&self) -> &str {
        &self.name
    }

    fn kubeconfig(&self) -> PathBuf {
        self.base.join(format!("kind-{}.kubeconfig", self.name))
    }

    fn up<'a>(&'a self, steps: &'a Steps) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(async move {
            if self.runs().await {
                steps.done(&format!("cluster {} runs already", self.name));
                return Ok(());
            }
            std::fs::create_dir_all(&self.base).map_err(tools::at(&self.base))?;
            let file = self.base.join(format!("kind-{}.json", self.name));
            std::fs::write(&file, configuration(self.workers).to_string())
                .map_err(tools::at(&file))?;
            self.kind(&create(&self.name, &file, &self.kubeconfig()))
                .await?;
            steps.done(&format!(
                "cluster {} is up: export KUBECONFIG={}",
                self.name,
                self.kubeconfig().display()
            ));
            Ok(())
        })
    }

    fn down<'a>(&'a self, steps: &'a Steps) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(async move {
            self.kind(&delete(&self.name, &self.kubeconfig())).await?;
            for file in [
                self.kubeconfig(),
                self.base.join(format!("kind-{}.json", self.name)),
            ] {
                match std::fs::remove_file(&file) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(tools::at(&file)(error).into());
                    }
                    _ => {}
                }
            }
            steps.done(&format!("cluster {} is gone", self.name));
            Ok(())
        })
    }

    fn runs(&self) -> BoxFuture<'_, bool> {
        Box::pin(async {
            let list = self.kind(&words(&["get", "clusters"])).await;
            list.is_ok_and(|list| listed(&self.name, &list)) && self.kubeconfig().exists()
        })
    }

    fn load<'a>(&'a self, archives: &'a [PathBuf]) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(async move {
            for archive in archives {
                self.kind(&load(&self.name, archive)).await?;
            }
            Ok(())
        })
    }

    fn faults(&self) -> Option<&dyn Faults> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_workers_in_three_zones() {
        let configuration = configuration(3);
        let nodes = configuration["nodes"].as_array().unwrap();
        assert_eq!(nodes.len(), 4);
        assert_eq!(nodes[0], json!({"role": "control-plane"}));
        let zones: std::collections::BTreeSet<_> = nodes[1..]
            .iter()
            .map(|node| {
                node["labels"]["topology.kubernetes.io/zone"]
                    .as_str()
                    .unwrap()
            })
            .collect();
        assert_eq!(zones.len(), 3);
        assert!(nodes[1..].iter().all(|node| node["role"] == "worker"));
    }

    #[test]
    fn commands_name_the_cluster_and_never_the_users_own_kubeconfig() {
        let (file, config) = (
            Path::new("/s/kind-x.json"),
            Path::new("/s/kind-x.kubeconfig"),
        );
        let create = create("x", file, config).join(" ");
        assert!(
            create.contains("--name x") && create.contains("--config /s/kind-x.json"),
            "{create}"
        );
        for command in [create, delete("x", config).join(" ")] {
            assert!(
                command.contains("--kubeconfig /s/kind-x.kubeconfig"),
                "{command}"
            );
        }
        assert_eq!(
            load("x", Path::new("/i.tar")),
            ["load", "image-archive", "/i.tar", "--name", "x"]
        );
    }

    #[test]
    fn the_engine_is_asked_not_the_client() {
        let question = engine_question();
        let arguments: Vec<_> = question
            .as_std()
            .get_args()
            .map(|arg| arg.to_string_lossy().into_owned())
            .collect();
        assert!(
            arguments
                .iter()
                .any(|argument| argument.contains(".Server.")),
            "{arguments:?}"
        );
    }

    #[test]
    fn names_are_compared_as_a_whole() {
        assert!(listed("a", "b\na\n"));
        assert!(!listed("a", "ab\nNo kind clusters found.\n"));
    }
}
