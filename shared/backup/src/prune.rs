//! Carrying out a plan of [`crate::retention`].
//!
//! A manifest goes first: a backup is then none any more, and what is left of it is cleared away as any
//! other unfinished one, should this be broken off. What a lock keeps stays, and is told.

use jiff::Timestamp;

use crate::catalogue::Catalogue;
use crate::ids::BackupId;
use crate::layout;
use crate::manifest::Manifest;
use crate::repository::{ClaimError, Writer};
use crate::retention::Plan;
use crate::source::{SnapshotSource, SourceError};
use crate::store::{Deleted, StoreError};

/// Why a plan was not carried out to its end.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// The store's answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The repository is not ours any more.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The engine does not let a snapshot of its own repository go.
    #[error("the engine: {0}")]
    Source(#[from] SourceError),
}

/// Something that a lock keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waits {
    /// Its key.
    pub key: String,
    /// Until when, if that is known.
    pub until: Option<Timestamp>,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Backups that are gone.
    pub backups: Vec<BackupId>,
    /// How many pieces of the log are gone.
    pub pieces: usize,
    /// What waits for a lock to end: it is tried again with the next plan.
    pub waits: Vec<Waits>,
}

/// Carries a plan out. `leftovers`: as [`crate::retention::leftovers`] chose them.
pub async fn prune(
    writer: &Writer<'_>,
    source: &dyn SnapshotSource,
    catalogue: &Catalogue,
    plan: &Plan,
    leftovers: &[BackupId],
) -> Result<Pruned, PruneError> {
    writer.still_ours().await?;
    let mut pruned = Pruned::default();
    let mut locked: Vec<&BackupId> = Vec::new();
    for id in &plan.expire {
        let Some(manifest) = catalogue.backups.iter().find(|manifest| manifest.id == *id) else {
            continue;
        };
        // While an increment is kept by a lock, what it leans on stays.
        let leaned_on = |other: &&BackupId| {
            let child = catalogue
                .backups
                .iter()
                .find(|manifest| manifest.id == **other);
            child.is_some_and(|child| child.parent.as_ref() == Some(id))
        };
        if locked.iter().any(leaned_on) || !expire(writer, source, manifest, &mut pruned).await? {
            locked.push(id);
        }
    }
    for id in leftovers {
        clear(writer, id, None, &mut pruned).await?;
    }
    for key in &plan.pieces {
        match writer.repository().store().delete(key, None).await? {
            Deleted::Gone => pruned.pieces += 1,
            Deleted::Locked(until) => pruned.waits.push(Waits {
                key: key.clone(),
                until,
            }),
        }
    }
    Ok(pruned)
}

/// Whether it is gone as a backup.
async fn expire(
    writer: &Writer<'_>,
    source: &dyn SnapshotSource,
    manifest: &Manifest,
    pruned: &mut Pruned,
) -> Result<bool, PruneError> {
    let key = layout::manifest(&manifest.id);
    if let Deleted::Locked(until) = writer.repository().store().delete_oldest_last(&key).await? {
        pruned.waits.push(Waits { key, until });
        return Ok(false);
    }
    // A manifest must not come back, after a power cut, without what it names.
    writer.repository().store().settle_names(&key).await?;
    if let Some(native) = &manifest.native {
        source.forget(native).await?;
    }
    clear(writer, &manifest.id, Some(manifest), pruned).await?;
    pruned.backups.push(manifest.id.clone());
    Ok(true)
}

/// Deletes the objects of a backup without a manifest; last the record of whose it was.
async fn clear(
    writer: &Writer<'_>,
    id: &BackupId,
    manifest: Option<&Manifest>,
    pruned: &mut Pruned,
) -> Result<(), PruneError> {
    let store = writer.repository().store();
    let begun = layout::begun(id);
    for object in manifest.into_iter().flat_map(Manifest::objects) {
        // What a lock keeps is still there, and told below.
        store.delete(&object.key, object.version.as_deref()).await?;
    }
    let mut waits = Vec::new();
    // Whatever else is there, also other versions of the same objects.
    for found in store.list(&layout::backup(id)).await? {
        if found.key != begun
            && let Deleted::Locked(until) = store.delete(&found.key, None).await?
        {
            waits.push(Waits {
                key: found.key,
                until,
            });
        }
    }
    if waits.is_empty()
        && let Deleted::Locked(until) = store.delete(&begun, None).await?
    {
        waits.push(Waits { key: begun, until });
    }
    pruned.waits.extend(waits);
    Ok(())
}
