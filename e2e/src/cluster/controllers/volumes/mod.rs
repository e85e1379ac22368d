//! Dynamic volumes of their real size: sparse files with a file system, on the node that the
//! scheduler chose, growable while in use.
//!
//! Guarantees: a volume's data is removed only after its object is being deleted with reclaim
//! policy `Delete`, so nobody can claim it any more; every step can be repeated after a crash.

mod disk;
mod mounts;
mod objects;
mod plan;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::Controller;
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;

use crate::cluster::context::ControllersContext;

pub use disk::{DiskError, cleanup, file_of};
pub use objects::{PROVISIONER, STORAGE_CLASS, place};
use plan::{ClaimPlan, VolumePlan};

/// Why a step on a volume failed; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The API server refused, or could not be asked.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// The disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// An object could not be built.
    #[error("cannot build the volume: {0}")]
    Build(#[from] serde_json::Error),
    /// The scheduler chose a node that the cluster does not have.
    #[error("the cluster has no node {0}")]
    NoNode(String),
}

/// Time until a failed step is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// Claims, and volumes, that are worked on at once.
const CONCURRENCY: u16 = 8;

struct Provisioner {
    client: Client,
    context: ControllersContext,
    disks: disk::Disks,
    recorder: Recorder,
}

/// Makes the storage class, then serves claims and volumes until the process ends.
///
/// # Errors
/// The storage class cannot be made.
pub async fn run(client: Client, context: ControllersContext) -> Result<(), VolumeError> {
    let classes: Api<StorageClass> = Api::all(client.clone());
    let parameters = PatchParams::apply(PROVISIONER).force();
    classes
        .patch(
            STORAGE_CLASS,
            &parameters,
            &Patch::Apply(objects::storage_class()),
        )
        .await?;

    let reporter = Reporter {
        controller: PROVISIONER.into(),
        instance: None,
    };
    let recorder = Recorder::new(client.clone(), reporter);
    let provisioner = Arc::new(Provisioner {
        client: client.clone(),
        context,
        disks: disk::Disks::default(),
        recorder,
    });
    let parallel = kube::runtime::controller::Config::default().concurrency(CONCURRENCY);
    let claims = Controller::new(
        Api::<PersistentVolumeClaim>::all(client.clone()),
        watcher::Config::default(),
    )
    .with_config(parallel.clone())
    .run(serve_claim, |_, error, _| again(error), provisioner.clone())
    .for_each(|_| std::future::ready(()));
    let volumes = Controller::new(
        Api::<PersistentVolume>::all(client),
        watcher::Config::default(),
    )
    .with_config(parallel)
    .run(serve_volume, |_, error, _| again(error), provisioner)
    .for_each(|_| std::future::ready(()));
    futures::join!(claims, volumes);
    Ok(())
}

fn again(error: &VolumeError) -> Action {
    tracing::warn!(%error, "a step on a volume failed and is tried again");
    Action::requeue(RETRY)
}

async fn serve_claim(
    claim: Arc<PersistentVolumeClaim>,
    on: Arc<Provisioner>,
) -> Result<Action, VolumeError> {
    let volumes: Api<PersistentVolume> = Api::all(on.client.clone());
    let name = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_name.clone())
        .filter(|name| !name.is_empty());
    let name = name.unwrap_or_else(|| plan::volume_name(&claim.uid().unwrap_or_default()));
    // The answer of the API server, not of a cache: a volume must not be made twice.
    let volume = volumes.get_opt(&name).await?;
    match (plan::claim(&claim, volume.as_ref()), volume) {
        (ClaimPlan::Provision { node, bytes }, _) => on.provision(&claim, &node, bytes).await?,
        (ClaimPlan::Grow { bytes }, Some(volume)) => on.grow(&claim, &volume, bytes).await?,
        (ClaimPlan::Refuse(sentence), _) => on.warn(&claim, "ProvisioningFailed", sentence).await?,
        (ClaimPlan::Nothing | ClaimPlan::Grow { .. }, _) => {}
    }
    Ok(Action::await_change())
}

async fn serve_volume(
    volume: Arc<PersistentVolume>,
    on: Arc<Provisioner>,
) -> Result<Action, VolumeError> {
    let plan = plan::volume(&volume);
    let Some((mount, _)) = place(&volume) else {
        return Ok(Action::await_change());
    };
    match plan {
        VolumePlan::Nothing => {}
        VolumePlan::Mount => on.disks.mount(mount).await?,
        VolumePlan::Delete => on.delete(&volume).await?,
        VolumePlan::Destroy => {
            on.disks.destroy(mount).await?;
            on.let_go(&volume).await?;
        }
        VolumePlan::LetGo => {
            on.disks.unmount(mount).await?;
            on.let_go(&volume).await?;
        }
    }
    Ok(Action::await_change())
}

impl Provisioner {
    async fn provision(
        &self,
        claim: &PersistentVolumeClaim,
        node: &str,
        bytes: u64,
    ) -> Result<(), VolumeError> {
        let name = claim
            .spec
            .as_ref()
            .and_then(|spec| spec.storage_class_name.clone())
            .unwrap_or_default();
        let class = Api::<StorageClass>::all(self.client.clone())
            .get(&name)
            .await?;
        let mount = self.mount_of(node, &plan::volume_name(&claim.uid().unwrap_or_default()))?;
        if let Err(error) = self.disks.create(&mount, bytes).await {
            self.warn(claim, "ProvisioningFailed", error.to_string())
                .await?;
            return Err(error.into());
        }
        let volume: PersistentVolume =
            serde_json::from_value(objects::volume(claim, &class, node, &mount))?;
        match Api::all(self.client.clone())
            .create(&PostParams::default(), &volume)
            .await
        {
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(()),
        }
    }

    /// File system first, claim next, volume last: while the volume says less than the claim asks
    /// for, an interrupted growth is begun again; and the kubelet never sees a volume larger than
    /// its claim, which would make it resize the file system as well.
    async fn grow(
        &self,
        claim: &PersistentVolumeClaim,
        volume: &PersistentVolume,
        bytes: u64,
    ) -> Result<(), VolumeError> {
        let Some((mount, _)) = place(volume) else {
            return Ok(());
        };
        self.disks.mount(mount).await?;
        if let Err(error) = self.disks.grow(mount, bytes).await {
            self.warn(claim, "VolumeResizeFailed", error.to_string())
                .await?;
            return Err(error.into());
        }
        let size = objects::size_in_words(claim, volume, bytes);
        let claims: Api<PersistentVolumeClaim> =
            Api::namespaced(self.client.clone(), &claim.namespace().unwrap_or_default());
        let patch = Patch::Merge(objects::grown_status(claim, &size));
        claims
            .patch_status(&claim.name_any(), &PatchParams::default(), &patch)
            .await?;
        let patch = Patch::Merge(json!({
            "metadata": {"resourceVersion": volume.resource_version()},
            "spec": {"capacity": {"storage": size}},
        }));
        Api::<PersistentVolume>::all(self.client.clone())
            .patch(&volume.name_any(), &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }

    async fn delete(&self, volume: &PersistentVolume) -> Result<(), VolumeError> {
        let exactly = Preconditions {
            uid: volume.uid(),
            resource_version: volume.resource_version(),
        };
        let parameters = DeleteParams::background().preconditions(exactly);
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        match volumes.delete(&volume.name_any(), &parameters).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(()),
        }
    }

    async fn let_go(&self, volume: &PersistentVolume) -> Result<(), VolumeError> {
        let others: Vec<_> = volume
            .finalizers()
            .iter()
            .filter(|name| *name != objects::FINALIZER)
            .collect();
        let patch = Patch::Merge(json!({
            "metadata": {"resourceVersion": volume.resource_version(), "finalizers": others},
        }));
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        match volumes
            .patch(&volume.name_any(), &PatchParams::default(), &patch)
            .await
        {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(()),
        }
    }

    fn mount_of(&self, node: &str, volume: &str) -> Result<PathBuf, VolumeError> {
        let found = self.context.nodes.iter().find(|known| known.name == node);
        let node = found.ok_or_else(|| VolumeError::NoNode(node.to_owned()))?;
        Ok(node.dir.join("volumes").join(volume))
    }

    async fn warn(
        &self,
        claim: &PersistentVolumeClaim,
        reason: &str,
        note: String,
    ) -> Result<(), kube::Error> {
        let event = Event {
            type_: EventType::Warning,
            reason: reason.into(),
            note: Some(note),
            action: "Provision".into(),
            secondary: None,
        };
        self.recorder.publish(&event, &claim.object_ref(&())).await
    }
}
