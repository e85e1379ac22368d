//! What the tests are made of.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::future::BoxFuture;
use jiff::Timestamp;
use mainstay_backup::crypto::{EncryptionSpec, Keyring, Protection};
use mainstay_backup::ids::{BackupId, OwnerId};
use mainstay_backup::manifest::{FileEntry, LogNeed, Manifest, NativeSnapshot};
use mainstay_backup::owner::Claim;
use mainstay_backup::repository::{Owned, Repository, Writer};
use mainstay_backup::run::{Order, RunError, run};
use mainstay_backup::source::{Snapshot, SnapshotSource, SourceError, SourceFile, Taken, Wish};
use mainstay_backup::store::{Limits, Place, S3, Settings, Store};
use mainstay_e2e::object_store::{ObjectStore, Server};

/// A bucket as it comes.
pub const PLAIN: &str = "plain";
/// A bucket that keeps versions and can lock them.
pub const LOCKS: &str = "locks";

/// Where a test's repository is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Where {
    /// In a folder.
    Path,
    /// In a bucket.
    S3,
    /// In a bucket with locks.
    Locks,
}

impl Where {
    pub fn name(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::S3 => "s3",
            Self::Locks => "s3_with_locks",
        }
    }
}

/// A prefix of its own in a store.
pub struct Kit {
    pub place: Where,
    pub server: Arc<Server>,
    pub folder: tempfile::TempDir,
    pub prefix: String,
}

static NEXT: AtomicU32 = AtomicU32::new(1);

pub fn number() -> u32 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Kit {
    pub fn new(server: &Arc<Server>, place: Where) -> Self {
        Self {
            place,
            server: Arc::clone(server),
            folder: tempfile::tempdir().unwrap(),
            prefix: format!("shop/db-{}", number()),
        }
    }

    pub fn settings(&self) -> Settings {
        let place = match self.place {
            Where::Path => Place::Path(self.folder.path().to_owned()),
            Where::S3 => s3(self.server.store(), PLAIN),
            Where::Locks => s3(self.server.store(), LOCKS),
        };
        Settings {
            place,
            prefix: self.prefix.clone(),
            authority: Some(authority(self.server.store())),
            limits: Limits::default(),
        }
    }

    pub fn store(&self) -> Store {
        Store::open(&self.settings()).unwrap()
    }

    pub fn repository(&self, protection: Protection) -> Repository {
        Repository::new(self.store(), protection)
    }

    /// The bucket, or the folder of objects, as a folder. The server's objects are files.
    pub fn files(&self) -> PathBuf {
        let data = &self.server.store().data;
        let base = match self.place {
            Where::Path => self.folder.path().to_owned(),
            Where::S3 => data.join(PLAIN),
            Where::Locks => data.join(LOCKS),
        };
        base.join(&self.prefix)
    }

    /// Everything that is there, with when it was written.
    pub async fn everything(&self) -> Vec<mainstay_backup::store::Found> {
        let mut all = self.store().list("").await.unwrap();
        all.sort_by(|a, b| a.key.cmp(&b.key));
        all
    }

    /// A repository that was claimed, and what it was claimed as.
    pub async fn owned(&self, protection: Protection) -> (Repository, Owned) {
        let repository = self.repository(protection);
        let owned = repository
            .claim(&claim(1), true, Timestamp::now(), random())
            .await
            .unwrap();
        (repository, owned)
    }
}

pub fn authority(store: &ObjectStore) -> String {
    std::fs::read_to_string(&store.authority).unwrap()
}

pub fn s3(store: &ObjectStore, bucket: &str) -> Place {
    Place::S3(S3 {
        endpoint: Some(store.endpoint.clone()),
        region: mainstay_e2e::object_store::REGION.into(),
        bucket: bucket.into(),
        virtual_hosted: false,
        access_key_id: store.access_key_id.clone(),
        secret_access_key: store.secret_access_key.clone().into(),
        session_token: None,
    })
}

pub fn claim(n: u8) -> Claim {
    Claim {
        owner: OwnerId::new([n; 16]),
        resource: format!("shop/db{n}"),
        adopt: None,
    }
}

pub fn random() -> [u8; 8] {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

pub fn backup_id() -> BackupId {
    BackupId::new(Timestamp::now(), random())
}

/// Encrypted, with these escrow recipients.
pub fn encrypted(keyring: Keyring, escrow: &[String]) -> Protection {
    let spec = EncryptionSpec {
        recipients: escrow.to_vec(),
        i_accept_key_loss: escrow.is_empty(),
    };
    Protection::encrypted(keyring, &spec).unwrap()
}

/// Bytes that differ with the seed, half of which compress.
pub fn content(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..size)
        .map(|at| {
            if at / 4096 % 2 == 0 {
                return u8::try_from(at % 64).unwrap();
            }
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        })
        .collect()
}

/// An engine that has files, and fails when told to.
#[derive(Debug, Default)]
pub struct TestEngine {
    pub files: BTreeMap<String, Vec<u8>>,
    pub log: Option<LogNeed>,
    pub consistent_at: Option<Timestamp>,
    /// Fails after so many files.
    pub fails_after: Option<usize>,
    /// Whether a backup may be based on another.
    pub increments: bool,
    pub forgotten: std::sync::Mutex<Vec<NativeSnapshot>>,
}

impl TestEngine {
    pub fn with(files: &[(&str, Vec<u8>)]) -> Self {
        Self {
            files: files
                .iter()
                .map(|(name, content)| ((*name).to_owned(), content.clone()))
                .collect(),
            ..Self::default()
        }
    }
}

struct TestSnapshot {
    files: Vec<(String, Vec<u8>)>,
    given: usize,
    fails_after: Option<usize>,
    parent: Option<BackupId>,
    taken: Taken,
}

impl SnapshotSource for TestEngine {
    fn name(&self) -> String {
        "test 1.0".into()
    }

    fn begin<'a>(
        &'a self,
        wish: &'a Wish<'a>,
    ) -> BoxFuture<'a, Result<Box<dyn Snapshot>, SourceError>> {
        Box::pin(async move {
            let parent = wish
                .parent
                .filter(|_| self.increments)
                .map(|parent| parent.id.clone());
            let mut files: Vec<(String, Vec<u8>)> = self.files.clone().into_iter().collect();
            files.reverse();
            Ok(Box::new(TestSnapshot {
                files,
                given: 0,
                fails_after: self.fails_after,
                parent,
                taken: Taken {
                    consistent_at: self.consistent_at.unwrap_or_else(Timestamp::now),
                    log: self.log.clone(),
                    native: None,
                    details: BTreeMap::from([("words".into(), "of the engine".into())]),
                },
            }) as Box<dyn Snapshot>)
        })
    }

    fn forget<'a>(&'a self, native: &'a NativeSnapshot) -> BoxFuture<'a, Result<(), SourceError>> {
        self.forgotten.lock().unwrap().push(native.clone());
        Box::pin(async { Ok(()) })
    }
}

impl Snapshot for TestSnapshot {
    fn parent(&self) -> Option<BackupId> {
        self.parent.clone()
    }

    fn estimate(&self) -> Option<u64> {
        Some(
            self.files
                .iter()
                .map(|(_, content)| content.len() as u64)
                .sum(),
        )
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Option<SourceFile<'_>>, SourceError>> {
        Box::pin(async move {
            if self.fails_after == Some(self.given) {
                return Err(SourceError::Later("it was told to fail".into()));
            }
            self.given += 1;
            Ok(self.files.pop().map(|(name, content)| SourceFile {
                name,
                content: Box::new(io::Cursor::new(content)),
            }))
        })
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<Taken, SourceError>> {
        Box::pin(async move { Ok(self.taken) })
    }
}

/// Objects of at most 3 MiB of plain content, so that files are cut.
pub const SPLIT: u64 = 3 << 20;

pub async fn back_up(
    writer: &Writer<'_>,
    engine: &TestEngine,
    parent: Option<&Manifest>,
) -> Result<Manifest, RunError> {
    let mut order = Order::full(backup_id());
    order.parent = parent;
    order.split = SPLIT;
    run(writer, engine, order, &Timestamp::now).await
}

/// A file's content as it comes back.
pub async fn restore(
    repository: &Repository,
    file: &FileEntry,
) -> Result<Vec<u8>, mainstay_backup::stream::GetError> {
    let mut out = Vec::new();
    repository.getting().file(file, &mut out).await?;
    Ok(out)
}
