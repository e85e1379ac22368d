//! What a local cluster lacks otherwise: dynamic volumes and enforced network policies.

pub mod policy;
pub mod volumes;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::context::ControllersContext;

/// Why the controllers ended.
#[derive(Debug, thiserror::Error)]
pub enum ControllersError {
    /// The kubeconfig cannot be used.
    #[error("cannot use the kubeconfig of the cluster: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// The API server refused, or could not be asked.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// The provisioner of volumes.
    #[error("volumes: {0}")]
    Volumes(#[from] volumes::VolumeError),
    /// The enforcement of network policies.
    #[error("network policies: {0}")]
    Policies(#[from] policy::PolicyError),
}

/// Runs every controller of a local cluster until the process is killed.
///
/// # Errors
/// The cluster cannot be reached at the start; afterwards every step is tried again.
pub async fn run(ctx: ControllersContext) -> Result<(), ControllersError> {
    let kubeconfig = Kubeconfig::read_from(&ctx.kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let client = Client::try_from(config)?;
    let volumes = async { Ok(volumes::run(client.clone(), ctx.clone()).await?) };
    let policies = async { Ok(policy::run(client.clone(), ctx.clone()).await?) };
    futures::try_join!(volumes, policies).map(drop)
}
