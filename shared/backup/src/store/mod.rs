//! A store of objects, of which each is written once.

mod error;
mod folder;
mod http;
mod limits;
mod settings;
mod versions;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use age::secrecy::ExposeSecret as _;
use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{
    GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload,
    RetryConfig,
};

pub(crate) use error::find;
pub use error::{Answer, Reason, StoreError};
pub use limits::{Budget, Limits, PART};
pub use settings::{Place, S3, Settings};
pub use versions::{Bucket, Version};

use folder::Folder;
use http::Connector;
use versions::Versions;

/// How often a request is repeated, and how long in all, before whoever asked is told.
const RETRIES: usize = 4;
const RETRY_LIMIT: Duration = Duration::from_secs(40);
/// How often something is begun anew after all that, while what hinders it may pass by itself.
pub(crate) const PATIENCE: u32 = 5;

/// How long to wait before that.
pub(crate) fn pause(attempt: u32) -> Duration {
    Duration::from_millis(250) * 2_u32.saturating_pow(attempt.min(6))
}

/// How often a write that met another one of the same key is repeated.
const CONFLICTS: usize = 3;

/// Where objects are.
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    /// Uploads in parts; a folder has none, for there a file just grows.
    parts: Option<Arc<dyn MultipartStore>>,
    versions: Option<Versions>,
    /// The folder, where it is one.
    folder: Option<Folder>,
    prefix: String,
    budget: Arc<Budget>,
    /// Whether the store understands the condition of a write at all.
    conditional: AtomicBool,
    /// What the bucket does with versions and locks, asked for once.
    bucket: tokio::sync::OnceCell<Bucket>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({}, {})", self.objects, self.prefix)
    }
}

/// An object in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its key.
    pub key: String,
    /// Its size.
    pub size: u64,
    /// When it was written, by the store's clock.
    pub modified: Timestamp,
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// Its version, in a store that keeps versions.
    pub version: Option<String>,
}

/// Whether the store holds to it that an object is written once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// It refused the second write of a key.
    Guarded,
    /// It did not. Nothing of ours overwrites, but two writers would not be kept apart.
    Unguarded {
        /// What it did.
        why: String,
    },
}

/// Where reading an object broke off, and of which content.
#[derive(Debug, Clone)]
pub(crate) struct Resume {
    pub(crate) from: u64,
    pub(crate) e_tag: Option<String>,
}

/// What became of an object that was to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone, or was not there.
    Gone,
    /// A lock keeps it; until when, if that is known.
    Locked(Option<Timestamp>),
}

impl Store {
    /// Opens a store. Nothing is asked of it yet.
    ///
    /// # Errors
    /// The settings cannot be.
    pub fn open(settings: &Settings) -> Result<Self, StoreError> {
        let failed = |reason| StoreError {
            doing: "opening the store",
            key: String::new(),
            reason,
        };
        if let Some(what) = settings.problem() {
            return Err(failed(Reason::Settings { what }));
        }
        let connector = || Connector::new(settings.authority.as_deref()).map_err(failed);
        let wrong = |error: object_store::Error| {
            failed(Reason::Settings {
                what: error.to_string(),
            })
        };
        let retry = RetryConfig {
            max_retries: RETRIES,
            retry_timeout: RETRY_LIMIT,
            ..RetryConfig::default()
        };
        let (mut parts, mut versions): (Option<Arc<dyn MultipartStore>>, _) = (None, None);
        let mut folder = None;
        let objects: Arc<dyn ObjectStore> = match &settings.place {
            Place::S3(s3) => {
                let connector = connector()?;
                versions = Some(Versions::new(connector.client(), s3));
                let store = Arc::new(Self::s3(s3, connector, retry).map_err(wrong)?);
                parts = Some(Arc::clone(&store) as _);
                store
            }
            Place::Gcs {
                bucket,
                service_account,
            } => {
                let store = object_store::gcp::GoogleCloudStorageBuilder::new()
                    .with_bucket_name(bucket)
                    .with_service_account_key(service_account.expose_secret())
                    .with_retry(retry)
                    .with_http_connector(connector()?);
                let store = Arc::new(store.build().map_err(wrong)?);
                parts = Some(Arc::clone(&store) as _);
                store
            }
            Place::Azure {
                account,
                container,
                access_key,
            } => {
                let store = object_store::azure::MicrosoftAzureBuilder::new()
                    .with_account(account)
                    .with_container_name(container)
                    .with_access_key(access_key.expose_secret())
                    .with_retry(retry)
                    .with_http_connector(connector()?);
                let store = Arc::new(store.build().map_err(wrong)?);
                parts = Some(Arc::clone(&store) as _);
                store
            }
            Place::Path(path) => {
                let store =
                    object_store::local::LocalFileSystem::new_with_prefix(path).map_err(wrong)?;
                folder = Some(Folder::new(path));
                // A backup that a power cut takes back is none.
                Arc::new(store.with_fsync(true).with_automatic_cleanup(true))
            }
        };
        Ok(Self {
            objects,
            parts,
            versions,
            folder,
            prefix: settings.prefix.clone(),
            budget: Arc::new(Budget::new(settings.limits)),
            conditional: AtomicBool::new(true),
            bucket: tokio::sync::OnceCell::new(),
        })
    }

    fn s3(
        s3: &S3,
        connector: Connector,
        retry: RetryConfig,
    ) -> object_store::Result<object_store::aws::AmazonS3> {
        let mut store = object_store::aws::AmazonS3Builder::new()
            .with_region(&s3.region)
            .with_bucket_name(&s3.bucket)
            .with_access_key_id(&s3.access_key_id)
            .with_secret_access_key(s3.secret_access_key.expose_secret())
            .with_virtual_hosted_style_request(s3.virtual_hosted)
            // Buckets with locks ask for checksums.
            .with_checksum_algorithm(object_store::aws::Checksum::SHA256)
            .with_retry(retry)
            .with_http_connector(connector);
        if let Some(endpoint) = &s3.endpoint {
            store = store.with_endpoint(endpoint);
        }
        if let Some(token) = &s3.session_token {
            store = store.with_token(token.expose_secret());
        }
        store.build()
    }

    /// The limits that it keeps to.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    fn path(&self, key: &str) -> Path {
        Path::from(format!("{}/{key}", self.prefix))
    }

    fn key(&self, path: &Path) -> Option<String> {
        Some(
            path.as_ref()
                .strip_prefix(&self.prefix)?
                .strip_prefix('/')?
                .to_owned(),
        )
    }

    /// Writes a small object, once: an object of that key is never overwritten, and is
    /// [`Reason::Exists`], unless its content is the same.
    pub async fn create(&self, key: &str, content: Bytes) -> Result<Written, StoreError> {
        let failed = |reason| StoreError {
            doing: "writing",
            key: key.to_owned(),
            reason,
        };
        let (mut conflicts, mut attempt) = (0, 0);
        while conflicts < CONFLICTS {
            match self.put(key, content.clone()).await {
                Ok(written) => {
                    self.settle_names(key).await?;
                    return Ok(written);
                }
                Err(Reason::Exists) => conflicts += 1,
                Err(passes) if passes.passes() && attempt < PATIENCE => {
                    attempt += 1;
                    tracing::info!(key, %passes, "it is written again");
                    tokio::time::sleep(pause(attempt)).await;
                    continue;
                }
                Err(other) => return Err(failed(other)),
            }
            // Perhaps it was this very request: an answer may be lost, and the request repeated.
            match self.read(key, None, content.len()).await {
                Ok((there, version)) if there == content => {
                    self.settle(key).await?;
                    return Ok(Written { version });
                }
                // Nothing: somebody else's write of this key was under way, and failed.
                Err(error) if error.reason == Reason::NotFound => {}
                _ => break,
            }
        }
        Err(failed(Reason::Exists))
    }

    /// Makes sure that what was found under a key outlives a power cut. What a store of objects shows does; a
    /// folder shows a file before its name is on the disk, and who wrote it may have ended in between.
    ///
    /// # Errors
    /// The disk does not take it.
    pub async fn settle(&self, key: &str) -> Result<(), StoreError> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        let path = self.path(key);
        let settled = folder.settle(path.as_ref()).await;
        settled.map_err(|error| not_settled(key, &error))
    }

    /// Makes sure that the folders on the way to a key outlive a power cut, and with them that it was written, or
    /// deleted. Who writes a file sees to its own folder only, and one above may be of a process that ended before
    /// it had seen to it.
    ///
    /// # Errors
    /// The disk does not take it.
    pub(crate) async fn settle_names(&self, key: &str) -> Result<(), StoreError> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        let path = self.path(key);
        let settled = folder.settle_names(path.as_ref()).await;
        settled.map_err(|error| not_settled(key, &error))
    }

    async fn put(&self, key: &str, content: Bytes) -> Result<Written, Reason> {
        let mode = if self.conditional.load(Ordering::Relaxed) {
            PutMode::Create
        } else {
            match self.objects.head(&self.path(key)).await {
                Ok(_) => return Err(Reason::Exists),
                Err(object_store::Error::NotFound { .. }) => PutMode::Overwrite,
                Err(error) => return Err(error::reason(&error)),
            }
        };
        self.put_as(key, content, mode).await
    }

    async fn put_as(&self, key: &str, content: Bytes, mode: PutMode) -> Result<Written, Reason> {
        let _turn = self.budget.turn().await;
        self.budget.pass(content.len()).await;
        let options = PutOptions::from(mode);
        let put = self
            .objects
            .put_opts(&self.path(key), PutPayload::from(content), options)
            .await;
        put.map(|put| Written {
            version: put.version,
        })
        .map_err(|error| error::reason(&error))
    }

    /// Reads a small object, and its version where the store keeps any. `limit`: the most it may hold.
    pub async fn read(
        &self,
        key: &str,
        version: Option<&str>,
        limit: usize,
    ) -> Result<(Bytes, Option<String>), StoreError> {
        let failed = |reason| StoreError {
            doing: "reading",
            key: key.to_owned(),
            reason,
        };
        let (mut stream, meta) = self.open_at(key, version, None).await?;
        if meta.size > limit as u64 {
            return Err(failed(Reason::Damaged {
                what: format!(
                    "it has {} bytes, and should have at most {limit}",
                    meta.size
                ),
            }));
        }
        let mut content = BytesMut::new();
        while let Some(chunk) = stream
            .try_next()
            .await
            .map_err(|error| failed(error::reason(&error)))?
        {
            content.extend_from_slice(&chunk);
        }
        Ok((content.freeze(), meta.version))
    }

    /// An object's content, from its beginning or from where reading it broke off.
    pub(crate) async fn open_at(
        &self,
        key: &str,
        version: Option<&str>,
        resume: Option<Resume>,
    ) -> Result<(BoxStream<'static, object_store::Result<Bytes>>, ObjectMeta), StoreError> {
        let options = GetOptions {
            version: version.map(str::to_owned),
            range: resume
                .as_ref()
                .map(|resume| object_store::GetRange::Offset(resume.from)),
            if_match: resume.and_then(|resume| resume.e_tag),
            ..GetOptions::default()
        };
        match self.objects.get_opts(&self.path(key), options).await {
            Ok(found) => {
                let meta = found.meta.clone();
                Ok((found.into_stream(), meta))
            }
            Err(error) => Err(failed("reading", key, &error)),
        }
    }

    /// Every object whose key begins with `folder`, which ends with `/` or is empty.
    pub async fn list(&self, folder: &str) -> Result<Vec<Found>, StoreError> {
        self.list_stream(folder).try_collect().await
    }

    /// As [`Self::list`], one by one.
    pub fn list_stream<'a>(&'a self, folder: &'a str) -> BoxStream<'a, Result<Found, StoreError>> {
        let list = self
            .objects
            .list(Some(&self.path(folder.trim_end_matches('/'))));
        self.found(folder, list)
    }

    fn found<'a>(
        &'a self,
        folder: &'a str,
        list: BoxStream<'static, object_store::Result<ObjectMeta>>,
    ) -> BoxStream<'a, Result<Found, StoreError>> {
        let found = move |meta: ObjectMeta| {
            Some(Found {
                key: self.key(&meta.location)?,
                size: meta.size,
                modified: Timestamp::new(
                    meta.last_modified.timestamp(),
                    i32::try_from(meta.last_modified.timestamp_subsec_nanos()).unwrap_or(0),
                )
                .unwrap_or(Timestamp::UNIX_EPOCH),
            })
        };
        list.map_err(move |error| failed("listing", folder, &error))
            .try_filter_map(move |meta| std::future::ready(Ok(found(meta))))
            .boxed()
    }

    /// Every object of a folder, which ends with `/`, whose key begins with `start`, which need not end a word.
    /// What is in folders of that folder does not count.
    pub async fn list_beginning(
        &self,
        folder: &str,
        start: &str,
    ) -> Result<Vec<Found>, StoreError> {
        if let Some(files) = &self.folder {
            // A list of the whole folder would look at every file in it.
            let name = start.strip_prefix(folder).unwrap_or_default();
            let list = files.beginning(self.path(folder).as_ref(), name).await;
            let names = list.map_err(|error| StoreError {
                doing: "listing",
                key: folder.to_owned(),
                reason: error::of_io(&error),
            })?;
            let found = |(name, size, modified)| Found {
                key: format!("{folder}{name}"),
                size,
                modified,
            };
            return Ok(names.into_iter().map(found).collect());
        }
        let folder_path = self.path(folder.trim_end_matches('/'));
        let list = self
            .objects
            .list_with_offset(Some(&folder_path), &self.path(start));
        let mut all = self.found(folder, list);
        let mut beginning = Vec::new();
        while let Some(found) = all.try_next().await? {
            if !found.key.starts_with(start) {
                // Lists come in order.
                break;
            }
            beginning.push(found);
        }
        Ok(beginning)
    }

    /// The names of the folders in a folder, which ends with `/`.
    pub async fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let path = self.path(folder.trim_end_matches('/'));
        let list = self.objects.list_with_delimiter(Some(&path)).await;
        let list = list.map_err(|error| failed("listing", folder, &error))?;
        Ok(list
            .common_prefixes
            .iter()
            .filter_map(|path| Some(path.filename()?.to_owned()))
            .collect())
    }

    /// Any key of the instance's part that does not begin with one of these.
    pub async fn any_except(&self, folders: &[&str]) -> Result<Option<String>, StoreError> {
        let mut all = self.list_stream("");
        while let Some(found) = all.try_next().await? {
            if !folders.iter().any(|folder| found.key.starts_with(folder)) {
                return Ok(Some(found.key));
            }
        }
        Ok(None)
    }

    /// Deletes an object: that version of it, or where none is named all that there are and no lock keeps.
    pub async fn delete(&self, key: &str, version: Option<&str>) -> Result<Deleted, StoreError> {
        self.delete_versions(key, version, false).await
    }

    /// Deletes all versions of an object, the oldest last, and stops at the first that a lock keeps: what the object
    /// holds by the oldest that is whole, it holds until nothing is left of it.
    pub async fn delete_oldest_last(&self, key: &str) -> Result<Deleted, StoreError> {
        self.delete_versions(key, None, true).await
    }

    async fn delete_versions(
        &self,
        key: &str,
        version: Option<&str>,
        stop: bool,
    ) -> Result<Deleted, StoreError> {
        let failed = |reason| StoreError {
            doing: "deleting",
            key: key.to_owned(),
            reason,
        };
        let _turn = self.budget.turn().await;
        let whole = self.path(key).to_string();
        let outcome = match (&self.versions, version) {
            (Some(versions), Some(version)) => versions.delete(&whole, version).await,
            (Some(versions), None) if self.keeps_versions().await? => {
                let mut outcome = Ok(());
                for found in self.versions(key).await? {
                    outcome = outcome.and(versions.delete(&whole, &found.id).await);
                    if stop && outcome.is_err() {
                        break;
                    }
                }
                outcome
            }
            _ => match self.objects.delete(&self.path(key)).await {
                Err(object_store::Error::NotFound { .. }) | Ok(()) => Ok(()),
                Err(error) => Err(error::reason(&error)),
            },
        };
        match outcome {
            Ok(()) | Err(Reason::NotFound) => Ok(Deleted::Gone),
            Err(Reason::Locked { until }) => Ok(Deleted::Locked(until)),
            Err(other) => Err(failed(other)),
        }
    }

    pub(crate) async fn keeps_versions(&self) -> Result<bool, StoreError> {
        Ok(self.bucket().await?.is_some_and(|bucket| bucket.versions))
    }

    /// What the bucket does with versions and locks; none where the store is not S3.
    pub async fn bucket(&self) -> Result<Option<Bucket>, StoreError> {
        let Some(versions) = &self.versions else {
            return Ok(None);
        };
        let bucket = self
            .bucket
            .get_or_try_init(|| versions.bucket())
            .await
            .map_err(|reason| StoreError {
                doing: "asking for the bucket's settings",
                key: String::new(),
                reason,
            })?;
        Ok(Some(*bucket))
    }

    /// Every version of an object, where the store tells, the newest first.
    pub async fn versions(&self, key: &str) -> Result<Vec<Version>, StoreError> {
        let Some(versions) = &self.versions else {
            return Ok(Vec::new());
        };
        let whole = self.path(key).to_string();
        let mut all = versions.list(&whole).await.map_err(|reason| StoreError {
            doing: "listing versions of",
            key: key.to_owned(),
            reason,
        })?;
        all.retain(|version| version.key == whole);
        versions::newest_first(&mut all);
        Ok(all)
    }

    /// Every version of every object in a folder, which ends with `/`, where the store tells: also of objects that
    /// were deleted.
    ///
    /// # Errors
    /// The store's answer.
    pub async fn versions_below(&self, folder: &str) -> Result<Vec<Version>, StoreError> {
        let Some(versions) = &self.versions else {
            return Ok(Vec::new());
        };
        if !self.keeps_versions().await? {
            return Ok(Vec::new());
        }
        let whole = format!("{}/", self.path(folder.trim_end_matches('/')));
        let all = versions.list(&whole).await.map_err(|reason| StoreError {
            doing: "listing versions in",
            key: folder.to_owned(),
            reason,
        })?;
        let ours = all.into_iter().filter_map(|version| {
            let key = version.key.strip_prefix(&self.prefix)?.strip_prefix('/')?;
            Some(Version {
                key: key.to_owned(),
                ..version
            })
        });
        Ok(ours.collect())
    }

    /// Tries whether an object can be written twice. `key`: of a probe, new each time.
    pub async fn guard(&self, key: &str) -> Result<Guard, StoreError> {
        let failed = |reason| StoreError {
            doing: "probing",
            key: key.to_owned(),
            reason,
        };
        let text = |which| Bytes::from_static(if which == 1 { b"first\n" } else { b"second\n" });
        self.conditional.store(true, Ordering::Relaxed);
        match self.put_as(key, text(1), PutMode::Create).await {
            Ok(_) => {}
            Err(Reason::Unsupported { what }) => {
                self.conditional.store(false, Ordering::Relaxed);
                self.put_as(key, text(1), PutMode::Overwrite)
                    .await
                    .map_err(failed)?;
                self.delete_quietly(key).await;
                return Ok(Guard::Unguarded {
                    why: format!("it does not know conditional writes: {what}"),
                });
            }
            Err(other) => return Err(failed(other)),
        }
        let second = self.put_as(key, text(2), PutMode::Create).await;
        let there = self.read(key, None, 64).await;
        self.delete_quietly(key).await;
        match second {
            Err(Reason::Exists) if there?.0 == text(1) => Ok(Guard::Guarded),
            Err(Reason::Exists) => Ok(Guard::Unguarded {
                why: "it refused a second write of a key and did it all the same".to_owned(),
            }),
            Ok(_) => Ok(Guard::Unguarded {
                why: "it let a key be written twice".to_owned(),
            }),
            Err(other) => Err(failed(other)),
        }
    }

    /// A probe that stays, in a bucket with locks, harms nobody.
    async fn delete_quietly(&self, key: &str) {
        if let Err(error) = self.delete(key, None).await {
            tracing::debug!(%error, "a probe stays");
        }
    }

    pub(crate) fn parts(&self) -> Option<&Arc<dyn MultipartStore>> {
        self.parts.as_ref()
    }

    pub(crate) fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.objects
    }

    pub(crate) fn whole_path(&self, key: &str) -> Path {
        self.path(key)
    }
}

#[cfg(test)]
impl Store {
    /// Of what a test makes.
    pub(crate) fn of(
        objects: Arc<dyn ObjectStore>,
        parts: Option<Arc<dyn MultipartStore>>,
    ) -> Self {
        Self {
            objects,
            parts,
            versions: None,
            folder: None,
            prefix: "p".into(),
            budget: Arc::new(Budget::new(Limits::default())),
            conditional: AtomicBool::new(true),
            bucket: tokio::sync::OnceCell::new(),
        }
    }
}

fn not_settled(key: &str, error: &std::io::Error) -> StoreError {
    StoreError {
        doing: "writing",
        key: key.to_owned(),
        reason: error::of_io(error),
    }
}

/// An error of `object_store`, in our words.
pub(crate) fn failed(doing: &'static str, key: &str, error: &object_store::Error) -> StoreError {
    StoreError {
        doing,
        key: key.to_owned(),
        reason: error::reason(error),
    }
}
