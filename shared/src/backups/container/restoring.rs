//! The frame of a restore: what it tells, why it fails, and the repository that it reads. I/O.
//!
//! It runs before the agent of a new set's founder, and only where there is no data. What an engine brings back gets
//! the name by which it counts as data last of all: whatever breaks before leaves nothing that could be taken for some.

use std::fs;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use jiff::Timestamp;
use mainstay_backup::crypto::{Keyring, Protection};
use mainstay_backup::escrow;
use mainstay_backup::ids::{BackupId, OwnerId};
use mainstay_backup::repository::Repository;
use mainstay_backup::spec::{self, RepositorySpec};
use mainstay_backup::store::{Store, StoreError};
use mainstay_backup::stream::GetError;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::settings::{
    ESCROW_KEYS, INSTANCE_KEYS, RESTORE_REPOSITORY, RESTORE_SECRETS, RESTORE_STATUS,
    TERMINATION_MESSAGE,
};
use super::state::lock;
use super::told_to_stop;
use crate::agent::paths::under;
use crate::agent::state::absent;

/// What a restore tells: in the container's termination message, and while it runs on the first line of
/// [`RESTORE_STATUS`]. `R`: what was reached, in the engine's terms.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    rename_all = "camelCase",
    default,
    bound(deserialize = "R: DeserializeOwned + Default")
)]
pub struct RestoreReport<R> {
    /// What is being done.
    pub step: RestoreStep,
    /// In a sentence what is being done; after a failure why, and what was reached.
    pub message: String,
    /// Whether the same may succeed later by itself; of a failure.
    pub retryable: bool,
    /// The backup that is restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupId>,
    /// Public part of the newest key that opens it; none if it is not encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Plain bytes that were brought back.
    pub bytes: u64,
    /// Plain bytes that there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<u64>,
    /// The last piece of the log that was replayed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_piece: Option<String>,
    /// What was reached; once it is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reached: Option<R>,
    /// The id that the restored data bears from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerId>,
    /// When it was begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub begun: Option<Timestamp>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
}

/// Steps of a restore, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestoreStep {
    /// The repository is read, and whether it can be done is judged.
    #[default]
    Choosing,
    /// The backup is brought back.
    Fetching,
    /// It is checked, and combined if it is a chain.
    Checking,
    /// The log is replayed, or the data read by the engine.
    Replaying,
    /// What was reached is checked, and the data made ready.
    Finishing,
    /// It is done.
    Done,
    /// It failed: nothing is left that could be taken for data.
    Failed,
}

/// Why there is no data.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Somebody has to change something first.
    #[error("{0}")]
    Refused(String),
    /// The same may succeed later.
    #[error("{0}")]
    Later(String),
    /// What is in the repository is damaged, or the target was not reached.
    #[error("{0}")]
    Failed(String),
    /// The volume.
    #[error("the data volume: {0}")]
    Volume(#[from] io::Error),
}

impl From<StoreError> for RestoreError {
    fn from(error: StoreError) -> Self {
        if error.reason.passes() {
            Self::Later(error.to_string())
        } else {
            Self::Refused(error.to_string())
        }
    }
}

impl RestoreError {
    /// Why a file of this backup could not be brought back.
    pub fn of_get(backup: &BackupId, error: GetError) -> Self {
        match error {
            GetError::Store(error) if error.reason.passes() => Self::Later(error.to_string()),
            GetError::Output(error) => Self::Volume(error),
            other => Self::Failed(format!("backup {backup}: {other}")),
        }
    }
}

/// Somebody has to change something first.
pub fn refused(error: impl std::fmt::Display) -> RestoreError {
    RestoreError::Refused(error.to_string())
}

/// What it does is told while it does it.
pub struct Teller<R> {
    report: Mutex<RestoreReport<R>>,
    status: PathBuf,
    last_words: PathBuf,
}

impl<R: Serialize + Default> Teller<R> {
    /// A restore begins now, below `root`.
    pub fn begin(root: &Path) -> Self {
        Self {
            report: Mutex::new(RestoreReport {
                begun: Some(Timestamp::now()),
                ..RestoreReport::default()
            }),
            status: under(root, RESTORE_STATUS),
            last_words: under(root, TERMINATION_MESSAGE),
        }
    }

    /// Changes the report, and tells it.
    pub fn change(&self, change: impl FnOnce(&mut RestoreReport<R>)) {
        let mut report = lock(&self.report);
        change(&mut report);
        let Ok(text) = serde_json::to_string(&*report) else {
            return;
        };
        let new = self.status.with_extension("new");
        // Who looks must never see half of it; that nobody can look is no reason to stop.
        if let Err(error) = fs::write(&new, &text).and_then(|()| fs::rename(&new, &self.status)) {
            tracing::debug!(%error, "the status of the restore cannot be written");
        }
        if report.ended.is_some()
            && let Err(error) = fs::write(&self.last_words, &text)
        {
            tracing::debug!(%error, "no last words");
        }
    }

    /// Says what is being done.
    pub fn step(&self, step: RestoreStep, message: &str) {
        tracing::info!(?step, message, "restore");
        self.change(|report| {
            report.step = step;
            message.clone_into(&mut report.message);
        });
    }

    /// From which backup it is made, with which key, and how much there is to bring back.
    pub fn chosen(&self, backup: &BackupId, repository: &Repository, total_bytes: u64) {
        let keyring = repository.protection().keyring();
        let key = keyring.and_then(Keyring::recipient).map(|r| r.to_string());
        self.change(|report| {
            report.backup = Some(backup.clone());
            report.key = key;
            report.total_bytes = Some(total_bytes);
        });
    }

    /// It failed, for this reason.
    pub fn failed(&self, message: String, retryable: bool) {
        self.change(|report| {
            report.step = RestoreStep::Failed;
            report.message = message;
            report.retryable = retryable;
            report.ended = Some(Timestamp::now());
        });
    }
}

/// Does the work until it ends or is told to stop, tells why it failed, and clears away what is half made in `work`.
///
/// # Errors
/// There is no data.
pub async fn told<R: Serialize + Default>(
    teller: &Teller<R>,
    work: &Path,
    doing: impl Future<Output = Result<(), RestoreError>>,
) -> Result<(), RestoreError> {
    let told = told_to_stop()?;
    let outcome = tokio::select! {
        outcome = doing => outcome,
        () = told => Err(RestoreError::Later("the restore was told to stop".to_owned())),
    };
    if let Err(error) = &outcome {
        teller.failed(error.to_string(), matches!(error, RestoreError::Later(_)));
        // A half-made folder is only in the way.
        if let Err(error) = absent(fs::remove_dir_all(work)) {
            tracing::warn!(%error, "what is left of the restore cannot be removed");
        }
    }
    outcome
}

/// A folder that nobody else looks into.
///
/// # Errors
/// The volume.
pub fn make(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

/// Whether a volume has room for `needed` bytes.
///
/// # Errors
/// It has not: how much it needs, and has.
pub fn room(volume: &Path, needed: u64) -> Result<(), RestoreError> {
    let stat = rustix::fs::statvfs(volume).map_err(io::Error::from)?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free < needed {
        return Err(refused(format!(
            "restoring needs {} MiB on the data volume, and {} MiB are free: make it larger",
            needed >> 20,
            free >> 20
        )));
    }
    Ok(())
}

/// Settings in a mounted file, by their name.
///
/// # Errors
/// It cannot be read or understood.
pub fn settings<T: DeserializeOwned>(folder: &Path, file: &str) -> Result<T, RestoreError> {
    let text =
        fs::read_to_string(folder.join(file)).map_err(|e| refused(format!("{file}: {e}")))?;
    serde_json::from_str(&text).map_err(|e| refused(format!("{file}: {e}")))
}

/// The repository, with the keys that open it: the instance's own, or those that escrow opens.
///
/// # Errors
/// It cannot be opened; the store's answer.
pub async fn open(root: &Path, of: &RepositorySpec) -> Result<Repository, RestoreError> {
    let secrets = under(root, RESTORE_SECRETS);
    let volume = under(root, RESTORE_REPOSITORY);
    let opened = of.settings(&secrets, &volume).map_err(refused)?;
    let store = Store::open(&opened)?;
    if of.encryption.is_none() {
        return Ok(Repository::new(store, Protection::Plain));
    }
    let own = spec::read(&secrets, INSTANCE_KEYS).map_err(refused)?;
    let keyring = match (own, spec::read(&secrets, ESCROW_KEYS).map_err(refused)?) {
        (Some(text), _) => Keyring::parse(&text).map_err(refused)?,
        (None, Some(identity)) => escrow::keys(&store, &identity).await.map_err(refused)?,
        (None, None) => {
            return Err(refused(format!(
                "the repository is encrypted: give `{INSTANCE_KEYS}`, or an escrow key as `{ESCROW_KEYS}`"
            )));
        }
    };
    Ok(Repository::new(store, Protection::opening(keyring)))
}
