//! A cluster that somebody else made and keeps.

use std::path::PathBuf;

use futures::future::BoxFuture;

use super::{Cluster, ClusterError, Faults, Steps};

/// The cluster of a kubeconfig. Nothing here starts, changes or removes it.
#[derive(Debug, Clone)]
pub struct GivenCluster {
    kubeconfig: PathBuf,
    name: String,
}

impl GivenCluster {
    /// The cluster of a file's current context.
    pub fn new(kubeconfig: PathBuf) -> Result<Self, ClusterError> {
        let read = kube::config::Kubeconfig::read_from(&kubeconfig)?;
        let name = read.current_context.unwrap_or_else(|| "default".to_owned());
        Ok(Self { kubeconfig, name })
    }
}

impl Cluster for GivenCluster {
    fn name(&self) -> &str {
        &self.name
    }

    fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig.clone()
    }

    fn up<'a>(&'a self, steps: &'a Steps) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(async move {
            let nodes = super::nodes(&super::client(self).await?).await?;
            let ready = nodes.iter().filter(|node| node.ready).count();
            steps.done(&format!(
                "cluster {} answers, {ready} of {} nodes Ready",
                self.name,
                nodes.len()
            ));
            Ok(())
        })
    }

    /// Leaves it as it is.
    fn down<'a>(&'a self, steps: &'a Steps) -> BoxFuture<'a, Result<(), ClusterError>> {
        steps.done(&format!(
            "cluster {} was given and is left running",
            self.name
        ));
        Box::pin(std::future::ready(Ok(())))
    }

    fn runs(&self) -> BoxFuture<'_, bool> {
        Box::pin(async {
            match super::client(self).await {
                Ok(client) => client.apiserver_version().await.is_ok(),
                Err(_) => false,
            }
        })
    }

    fn load<'a>(&'a self, archives: &'a [PathBuf]) -> BoxFuture<'a, Result<(), ClusterError>> {
        let outcome = if archives.is_empty() {
            Ok(())
        } else {
            Err(ClusterError::NoLoading {
                cluster: self.name.clone(),
            })
        };
        Box::pin(std::future::ready(outcome))
    }

    fn faults(&self) -> Option<&dyn Faults> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn images_are_not_pretended_to_be_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config");
        std::fs::write(
            &file,
            "apiVersion: v1\nkind: Config\ncurrent-context: theirs\n",
        )
        .unwrap();
        let cluster = GivenCluster::new(file).unwrap();
        assert_eq!(cluster.name(), "theirs");
        assert!(cluster.load(&["x.tar".into()]).await.is_err());
        assert!(cluster.load(&[]).await.is_ok());
        assert!(!cluster.runs().await);
    }
}
