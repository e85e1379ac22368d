//! What an engine does so that it can be backed up. Its snapshots come as files, one after the other, each
//! read once from its beginning to its end; or they stay with the engine, where it has a repository of its
//! own, and only their name comes here.
//!
//! | engine | snapshot |
//! |---|---|
//! | one with base copies and a log | a file for each part of the copy; [`Taken::log`] names what of the log it needs; may be the changes since a parent |
//! | one with a dump of its memory | one file, or one for each shard |
//! | one whose definitions are what matters | one small file |
//! | one with a snapshot repository | no file; [`Taken::native`]; [`SnapshotSource::forget`] lets one go |

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::io::AsyncRead;

use crate::ids::BackupId;
use crate::manifest::{LogNeed, Manifest, NativeSnapshot};

/// Why an engine gives no snapshot, in a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Trying again later may help: the engine is busy, restarts, or was reached badly.
    #[error("{0}")]
    Later(String),
    /// Somebody has to do something first.
    #[error("{0}")]
    Blocked(String),
}

/// What is asked of an engine.
#[derive(Debug, Clone)]
pub struct Wish<'a> {
    /// The backup that this will be, for names within the engine.
    pub id: &'a BackupId,
    /// The backup whose changes since would do. The engine may give everything all the same.
    pub parent: Option<&'a Manifest>,
    /// Where the engine may keep a repository of its own: everything below this key, which is whole.
    pub native: String,
}

/// An engine that can be backed up.
pub trait SnapshotSource: Send + Sync {
    /// Its name and version, for example `engine 8.0`.
    fn name(&self) -> String;

    /// Begins a snapshot.
    fn begin<'a>(
        &'a self,
        wish: &'a Wish<'a>,
    ) -> BoxFuture<'a, Result<Box<dyn Snapshot>, SourceError>>;

    /// Lets a snapshot of the engine's own repository go. One that is gone already is a success.
    fn forget<'a>(&'a self, native: &'a NativeSnapshot) -> BoxFuture<'a, Result<(), SourceError>>;
}

/// A snapshot that is being taken. Dropped before its end, it is given up.
pub trait Snapshot: Send {
    /// The backup that it holds only the changes since.
    fn parent(&self) -> Option<BackupId>;

    /// Its plain bytes, about, where the engine can tell.
    fn estimate(&self) -> Option<u64>;

    /// The next file; none at the end.
    fn next(&mut self) -> BoxFuture<'_, Result<Option<SourceFile<'_>>, SourceError>>;

    /// Ends it: only now the engine says that what it gave is good.
    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<Taken, SourceError>>;
}

/// A file of a snapshot.
pub struct SourceFile<'a> {
    /// Its name: a relative path.
    pub name: String,
    /// Its content. An error while it is read fails the backup.
    pub content: Box<dyn AsyncRead + Send + Unpin + 'a>,
}

/// What the engine says of a snapshot that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The moment whose state it is.
    pub consistent_at: Timestamp,
    /// What of the log it needs.
    pub log: Option<LogNeed>,
    /// Where it is, if it stayed with the engine.
    pub native: Option<NativeSnapshot>,
    /// The engine's own words, given back to it at a restore.
    pub details: BTreeMap<String, String>,
}
