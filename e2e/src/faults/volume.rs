//! Volumes that are full, that hang, and that are lost. For the volumes of the local cluster.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::{FaultError, Undo};
use crate::cluster::Faults;
use crate::cluster::controllers::volumes;
use crate::process;

/// File that takes the space of a full volume.
const FILLER: &str = ".filler";

/// Takes what is left, in ever smaller pieces, until not one block is free.
const FILL: &str = r#"
file="$1"
piece=$(df -B1 --output=avail "$(dirname "$file")" | tail -n 1)
while [ "$piece" -ge 4096 ]; do
  from=$(stat -c %s "$file" 2>/dev/null || echo 0)
  fallocate -o "$from" -l "$piece" "$file" 2>/dev/null || piece=$((piece / 2))
done
"#;

/// A volume with its mount on its node.
#[derive(Clone)]
pub struct Volume {
    client: Client,
    object: PersistentVolume,
    claim: PersistentVolumeClaim,
    mount: String,
}

impl Volume {
    /// The volume that a claim is bound to.
    ///
    /// # Errors
    /// The claim is not bound, or not to a volume of the local cluster.
    pub async fn of_claim(
        client: &Client,
        namespace: &str,
        claim: &str,
    ) -> Result<Self, FaultError> {
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
        let claim = claims.get(claim).await?;
        let name = claim
            .spec
            .as_ref()
            .and_then(|spec| spec.volume_name.clone());
        let name = name.ok_or_else(|| {
            FaultError::Nothing(format!("claim {} is not bound", claim.name_any()))
        })?;
        let volume = Api::<PersistentVolume>::all(client.clone())
            .get(&name)
            .await?;
        let mount = volumes::place(&volume).map(|(mount, _)| mount.display().to_string());
        let mount = mount
            .ok_or_else(|| FaultError::Nothing(format!("volume {name} is not a local one")))?;
        Ok(Self {
            client: client.clone(),
            object: volume,
            claim,
            mount,
        })
    }

    /// Fills it to the last block, until undone.
    ///
    /// # Errors
    /// It cannot be written to.
    pub async fn fill<'a>(&self, cluster: &'a dyn Faults) -> Result<Undo<'a>, FaultError> {
        let file = format!("{}/{FILLER}", self.mount);
        let remove = file.clone();
        let guard = Undo::new(format!("{} is full", self.mount), move || {
            Box::pin(async move {
                process::run(&mut cluster.command(None, "rm", &["-f", &remove])?).await?;
                Ok(())
            })
        });
        process::run(&mut cluster.command(None, "sh", &["-c", FILL, "fill", &file])?).await?;
        Ok(guard)
    }

    /// Makes every write to it hang, until undone: a dead disk under a live kernel.
    ///
    /// # Errors
    /// It cannot be frozen.
    pub async fn freeze<'a>(&self, cluster: &'a dyn Faults) -> Result<Undo<'a>, FaultError> {
        process::run(&mut cluster.command(None, "fsfreeze", &["--freeze", &self.mount])?).await?;
        let mount = self.mount.clone();
        Ok(Undo::new(format!("{mount} is frozen"), move || {
            Box::pin(async move {
                process::run(&mut cluster.command(None, "fsfreeze", &["--unfreeze", &mount])?)
                    .await?;
                Ok(())
            })
        }))
    }

    /// Overwrites the beginning of a file with zeros, as a broken disk does.
    ///
    /// # Errors
    /// There is no such file.
    pub async fn damage(&self, cluster: &dyn Faults, file: &str) -> Result<(), FaultError> {
        let file = format!("of={}/{file}", self.mount);
        let words = [
            "if=/dev/zero",
            &file,
            "bs=4096",
            "count=1",
            "conv=notrunc,nocreat,fsync",
        ];
        process::run(&mut cluster.command(None, "dd", &words)?).await?;
        Ok(())
    }

    /// Deletes claim and data, for good. Pods that use it must be deleted as well: Kubernetes keeps
    /// the claim until then.
    ///
    /// # Errors
    /// Claim or volume has changed since it was looked up, or is gone.
    pub async fn lose(self) -> Result<(), FaultError> {
        let patch = Patch::Merge(json!({
            "metadata": {"resourceVersion": self.object.resource_version()},
            "spec": {"persistentVolumeReclaimPolicy": "Delete"},
        }));
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        volumes
            .patch(&self.object.name_any(), &PatchParams::default(), &patch)
            .await?;
        let exactly = Preconditions {
            uid: self.claim.uid(),
            resource_version: None,
        };
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(
            self.client.clone(),
            &self.claim.namespace().unwrap_or_default(),
        );
        claims
            .delete(
                &self.claim.name_any(),
                &DeleteParams::default().preconditions(exactly),
            )
            .await?;
        Ok(())
    }
}
