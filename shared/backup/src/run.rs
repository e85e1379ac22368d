//! Making one backup.

use std::sync::Arc;

use jiff::Timestamp;

use crate::crypto::Protection;
use crate::ids::BackupId;
use crate::layout;
use crate::manifest::{Begun, FORMAT, FileEntry, Manifest, ManifestError};
use crate::repository::{ClaimError, Writer};
use crate::source::{SnapshotSource, SourceError, Wish};
use crate::store::StoreError;
use crate::stream::{Progress, PutError, Putting, SPLIT};

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The engine gives none.
    #[error("the engine: {0}")]
    Source(#[from] SourceError),
    /// Storing it failed.
    #[error(transparent)]
    Put(#[from] PutError),
    /// The repository is not ours any more.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// What came of it cannot be a backup.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

impl From<StoreError> for RunError {
    fn from(error: StoreError) -> Self {
        Self::Put(PutError::Store(error))
    }
}

/// What is to be made.
#[derive(Debug)]
pub struct Order<'a> {
    /// Its id, new.
    pub id: BackupId,
    /// The backup whose changes since would do.
    pub parent: Option<&'a Manifest>,
    /// Told how far it is.
    pub progress: Arc<Progress>,
    /// Plain bytes of an object, at most; [`SPLIT`] by default.
    pub split: u64,
}

impl Order<'_> {
    /// Everything, with a new id.
    pub fn full(id: BackupId) -> Self {
        Self {
            id,
            parent: None,
            progress: Arc::default(),
            split: SPLIT,
        }
    }
}

/// Makes a backup: says that it is begun, stores the engine's files, and seals the manifest. Until then it is
/// none. Dropping the future gives it up; what was stored is cleared away later.
pub async fn run(
    writer: &Writer<'_>,
    source: &dyn SnapshotSource,
    order: Order<'_>,
    clock: &(dyn Fn() -> Timestamp + Sync),
) -> Result<Manifest, RunError> {
    let repository = writer.repository();
    let (store, protection) = (repository.store(), repository.protection());
    writer.still_ours().await?;
    let begun = clock();
    let id = order.id;
    let record = Begun {
        id: id.clone(),
        owner: writer.owned().owner.clone(),
        at: begun,
    };
    repository.write_json(&layout::begun(&id), &record).await?;

    let wish = Wish {
        id: &id,
        parent: order.parent,
        native: store.whole_path("native").to_string(),
    };
    let mut snapshot = source.begin(&wish).await?;
    let parent = snapshot.parent();
    let putting = Putting {
        store,
        protection,
        split: order.split,
        expected: None,
        progress: order.progress,
    };
    let mut object = 0;
    let mut next_key = || {
        object += 1;
        layout::data(&id, object, protection.coding())
    };
    let mut files = Vec::new();
    while let Some(mut file) = snapshot.next().await? {
        let stored = putting.put(&mut *file.content, &mut next_key).await?;
        files.push(FileEntry {
            name: file.name,
            size: stored.size,
            digest: stored.digest,
            objects: stored.objects,
        });
    }
    let taken = snapshot.finish().await?;
    let manifest = Manifest {
        format: FORMAT,
        id: id.clone(),
        owner: writer.owned().owner.clone(),
        parent,
        source: source.name(),
        begun,
        ended: clock(),
        consistent_at: taken.consistent_at,
        log: taken.log,
        recipients: match protection {
            Protection::Plain => Vec::new(),
            Protection::Encrypted(encrypted) => encrypted
                .recipients()
                .iter()
                .map(ToString::to_string)
                .collect(),
        },
        files,
        native: taken.native,
        details: taken.details,
    };
    let sealed = manifest.seal(protection.keyring())?;
    // Somebody may have adopted the repository in the hours that this may have taken.
    writer.still_ours().await?;
    store.create(&layout::manifest(&id), sealed.into()).await?;
    Ok(manifest)
}
