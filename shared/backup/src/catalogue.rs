//! What is in a repository.

use std::collections::{BTreeMap, HashSet};

use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;

use crate::ids::BackupId;
use crate::layout::{self, Label};
use crate::manifest::{Begun, Manifest, ObjectEntry};
use crate::pieces::{Origin, PieceKey, PieceKind};
use crate::repository::Repository;
use crate::retention::{self, BackupFact, Facts, HistoryFact, PieceFact};
use crate::store::{Found, StoreError, Version};

/// Most bytes of a manifest: some hundred thousand objects.
const MANIFEST: usize = 64 << 20;
/// Manifests that are read at a time.
const AT_A_TIME: usize = 4;

/// A backup without a manifest: it is being made, or was left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// Which one.
    pub id: BackupId,
    /// Whose; none if nothing says so.
    pub begun: Option<Begun>,
    /// When its newest object was written, by the store's clock.
    pub last_written: Option<Timestamp>,
    /// How many objects it has.
    pub objects: usize,
}

/// A backup whose manifest is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// Which one.
    pub id: BackupId,
    /// Why.
    pub why: String,
}

/// A piece of the log that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Which one.
    pub key: PieceKey,
    /// Its size as stored.
    pub size: u64,
    /// When it was stored, by the store's clock.
    pub stored: Timestamp,
}

/// Everything that is in a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// Backups, the oldest first.
    pub backups: Vec<Manifest>,
    /// What is no backup yet, or never will be.
    pub unfinished: Vec<Unfinished>,
    /// What nobody should touch before a person has looked.
    pub unread: Vec<Unread>,
    /// Pieces of the log, by key.
    pub pieces: Vec<Piece>,
    /// Histories, and where they come from, where that is said.
    pub histories: BTreeMap<Label, Option<Origin>>,
}

impl Catalogue {
    /// Reads what is there. Manifests that `known` has are not read again: they are written once.
    pub async fn read(repository: &Repository, known: Option<&Self>) -> Result<Self, StoreError> {
        let mut catalogue = Self::default();
        catalogue.read_backups(repository, known).await?;
        catalogue.read_log(repository).await?;
        Ok(catalogue)
    }

    async fn read_backups(
        &mut self,
        repository: &Repository,
        known: Option<&Self>,
    ) -> Result<(), StoreError> {
        let mut folders: BTreeMap<BackupId, Vec<Found>> = BTreeMap::new();
        for found in repository.store().list(layout::BACKUPS).await? {
            // What has no name of ours is not ours: it is passed over, and never deleted.
            if let Some((id, _)) = layout::backup_of(&found.key) {
                folders.entry(id).or_default().push(found);
            }
        }
        let one = |(id, found): (BackupId, Vec<Found>)| async move {
            let key = layout::manifest(&id);
            if !found.iter().any(|object| object.key == key) {
                // Whoever may delete may have put a mark over it. So does retention of a process that does not know yet
                // that versions are kept, and then takes the objects.
                return Ok(match Self::older(repository, &id).await? {
                    Some(manifest) if Self::is_whole(repository, &manifest, &found).await? => {
                        Entry::Backup(Box::new(manifest))
                    }
                    _ => Entry::Unfinished(Self::unfinished(repository, id, &found).await?),
                });
            }
            let before =
                known.and_then(|known| known.backups.iter().find(|manifest| manifest.id == id));
            match before {
                Some(manifest) => Ok(Entry::Backup(Box::new(manifest.clone()))),
                None => Self::manifest(repository, id).await,
            }
        };
        let mut entries = futures::stream::iter(folders).map(one).buffered(AT_A_TIME);
        while let Some(entry) = entries.try_next().await? {
            match entry {
                Entry::Backup(manifest) => self.backups.push(*manifest),
                Entry::Unfinished(unfinished) => self.unfinished.push(unfinished),
                Entry::Unread(unread) => self.unread.push(unread),
            }
        }
        Ok(())
    }

    async fn manifest(repository: &Repository, id: BackupId) -> Result<Entry, StoreError> {
        use crate::store::Reason;
        let keyring = repository.protection().keyring();
        let key = layout::manifest(&id);
        let why = match repository.store().read(&key, None, MANIFEST).await {
            Ok((bytes, _)) => match Manifest::open(&bytes, &id, keyring) {
                Ok(manifest) => return Ok(Entry::Backup(Box::new(manifest))),
                Err(error) => error.to_string(),
            },
            Err(error) if matches!(error.reason, Reason::Damaged { .. } | Reason::NotFound) => {
                error.to_string()
            }
            Err(error) => return Err(error),
        };
        Ok(match Self::older(repository, &id).await? {
            Some(manifest) => Entry::Backup(Box::new(manifest)),
            None => Entry::Unread(Unread { id, why }),
        })
    }

    /// A manifest that is not the newest version any more, in a store that keeps versions.
    async fn older(repository: &Repository, id: &BackupId) -> Result<Option<Manifest>, StoreError> {
        let keyring = repository.protection().keyring();
        let taken = |bytes: &[u8]| Manifest::open(bytes, id, keyring).ok();
        let key = layout::manifest(id);
        repository.older(&key, MANIFEST, taken).await
    }

    /// Whether every object that a manifest names can be read: it is `found`, or the version that is named is there
    /// below a mark of deletion.
    async fn is_whole(
        repository: &Repository,
        manifest: &Manifest,
        found: &[Found],
    ) -> Result<bool, StoreError> {
        let missing = missing(manifest, found);
        if missing.is_empty() {
            return Ok(true);
        }
        let folder = layout::backup(&manifest.id);
        let versions = repository.store().versions_below(&folder).await?;
        Ok(are_there(&missing, &versions))
    }

    async fn unfinished(
        repository: &Repository,
        id: BackupId,
        found: &[Found],
    ) -> Result<Unfinished, StoreError> {
        let key = layout::begun(&id);
        let begun = if found.iter().any(|object| object.key == key) {
            repository.read_json(&key).await?
        } else {
            None
        };
        Ok(Unfinished {
            id,
            begun,
            last_written: found.iter().map(|object| object.modified).max(),
            objects: found.len(),
        })
    }

    async fn read_log(&mut self, repository: &Repository) -> Result<(), StoreError> {
        let mut origins = Vec::new();
        let mut all = repository.store().list_stream(layout::LOG);
        while let Some(found) = all.try_next().await? {
            if let Some(key) = layout::piece_of(&found.key) {
                self.histories.entry(key.history.clone()).or_default();
                self.pieces.push(Piece {
                    key,
                    size: found.size,
                    stored: found.modified,
                });
            } else if let Some(history) = layout::origin_of(&found.key) {
                origins.push((history, found.key));
            }
        }
        for (history, key) in origins {
            let origin = repository.read_first(&key).await?;
            self.histories.insert(history, origin);
        }
        self.pieces.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(())
    }

    /// Whether a backup that is here, or one that is still to be made, may be recovered through a piece. One that
    /// is not needed may have been let go again.
    pub fn needs(&self, history: &Label, piece: &Label, kind: PieceKind) -> bool {
        let backups = self.backups.iter().map(backup_fact).collect();
        let facts = Facts {
            backups,
            pieces: Vec::new(),
            histories: self.history_facts(),
            live: None,
        };
        retention::needs(&facts, history, piece, kind)
    }

    fn history_facts(&self) -> Vec<HistoryFact> {
        let fact = |(history, origin): (&Label, &Option<Origin>)| HistoryFact {
            history: history.clone(),
            origin: origin.clone(),
        };
        self.histories.iter().map(fact).collect()
    }

    /// What retention looks at. `live`: the history that is written now, where the caller knows.
    pub fn facts(&self, live: Option<Label>) -> Facts {
        let piece = |piece: &Piece| PieceFact {
            key: layout::piece(&piece.key),
            history: piece.key.history.clone(),
            piece: piece.key.piece.clone(),
            kind: piece.key.kind,
            stored: piece.stored,
        };
        Facts {
            backups: self.backups.iter().map(backup_fact).collect(),
            pieces: self.pieces.iter().map(piece).collect(),
            histories: self.history_facts(),
            live,
        }
    }

    /// The manifests that a restore of a backup reads, from the full one on.
    ///
    /// # Errors
    /// The id of the backup that is missing.
    pub fn chain(&self, id: &BackupId) -> Result<Vec<&Manifest>, BackupId> {
        let mut chain: Vec<&Manifest> = Vec::new();
        let mut next = Some(id);
        while let Some(id) = next {
            let found = self.backups.iter().find(|manifest| manifest.id == *id);
            let manifest = found
                .filter(|m| chain.iter().all(|seen| seen.id != m.id))
                .ok_or_else(|| id.clone())?;
            chain.push(manifest);
            next = manifest.parent.as_ref();
        }
        chain.reverse();
        Ok(chain)
    }
}

enum Entry {
    Backup(Box<Manifest>),
    Unfinished(Unfinished),
    Unread(Unread),
}

/// Objects of a manifest that were not found.
fn missing<'a>(manifest: &'a Manifest, found: &[Found]) -> Vec<&'a ObjectEntry> {
    let there: HashSet<&str> = found.iter().map(|object| object.key.as_str()).collect();
    let objects = manifest.objects();
    objects
        .filter(|object| !there.contains(object.key.as_str()))
        .collect()
}

/// Whether these are among the versions, each as the one that is named.
fn are_there(objects: &[&ObjectEntry], versions: &[Version]) -> bool {
    let there: HashSet<(&str, &str)> = versions
        .iter()
        .filter(|version| !version.marker)
        .map(|version| (version.key.as_str(), version.id.as_str()))
        .collect();
    let is_there = |object: &&ObjectEntry| {
        let version = object.version.as_deref();
        version.is_some_and(|version| there.contains(&(object.key.as_str(), version)))
    };
    objects.iter().all(is_there)
}

fn backup_fact(manifest: &Manifest) -> BackupFact {
    BackupFact {
        id: manifest.id.clone(),
        parent: manifest.parent.clone(),
        consistent_at: manifest.consistent_at,
        log: manifest.log.clone(),
    }
}
