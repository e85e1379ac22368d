//! An instance's part of a store: who owns it, and writing to it.

use std::io;
use std::path::Path;
use std::pin::Pin;

use age::secrecy::ExposeSecret as _;
use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

use crate::crypto::{Digest, Digester, Protection, Recipient};
use crate::ids::OwnerId;
use crate::layout::{self, Label};
use crate::owner::{self, Claim, Record, Refusal, Verdict};
use crate::pieces::{self, Judgement, Origin, PieceDigest, PieceKey, PieceKind};
use crate::store::{Guard, Reason, Store, StoreError};
use crate::stream::{GetError, Getting, PutError, Putting};

/// Most bytes of a record of ours.
const RECORD: usize = 64 << 10;
/// How often a claim is judged again after somebody else was faster.
const RACES: usize = 3;
/// A piece of the log up to this size is held in memory, so that it is the same when it is stored as it was
/// when its digest was made. Several are stored at a time: what is larger is read twice, and compared afterwards.
const HELD: u64 = 1 << 20;

/// Why a repository is not written to.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// The store's answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another owns it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store does not guard what is written, and that is asked for.
    #[error(
        "the store does not keep to it that an object is written once ({why}), which immutable backups need: use another store, or do not ask for immutability"
    )]
    Unguarded {
        /// What it did.
        why: String,
    },
}

/// A repository, for reading.
#[derive(Debug)]
pub struct Repository {
    store: Store,
    protection: Protection,
}

/// What is known since a claim held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    /// Whose it is.
    pub owner: OwnerId,
    /// By which record.
    pub number: u32,
    /// Whether the store guards what is written.
    pub guard: Guard,
}

impl Repository {
    /// Of a store, with the keys that open it.
    pub fn new(store: Store, protection: Protection) -> Self {
        Self { store, protection }
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Its protection.
    pub fn protection(&self) -> &Protection {
        &self.protection
    }

    /// For bringing contents back.
    pub fn getting(&self) -> Getting<'_> {
        Getting {
            store: &self.store,
            protection: &self.protection,
        }
    }

    /// All ownership records.
    pub async fn owners(&self) -> Result<Vec<Record>, ClaimError> {
        let mut records = Vec::new();
        for found in self.store.list(layout::OWNER).await? {
            let broken = |what: String| ClaimError::Refused(Refusal::Broken { what });
            let Some(number) = layout::owner_number(&found.key) else {
                return Err(broken(format!("{} is not one", found.key)));
            };
            let record: Record = self
                .read_json(&found.key)
                .await?
                .ok_or_else(|| broken(format!("{} is not understood", found.key)))?;
            if record.number != number {
                return Err(broken(format!(
                    "{} says that it is number {}",
                    found.key, record.number
                )));
            }
            records.push(record);
        }
        Ok(records)
    }

    /// Claims the repository for writing. Where the claim does not hold, nothing was written.
    ///
    /// `random`: new each time. `immutable`: whether a store that does not guard is refused.
    pub async fn claim(
        &self,
        claim: &Claim,
        immutable: bool,
        now: Timestamp,
        random: [u8; 8],
    ) -> Result<Owned, ClaimError> {
        let mut guard = None;
        for _ in 0..RACES {
            let records = self.owners().await?;
            let foreign = if records.is_empty() {
                self.store.any_except(&[layout::OWNER, "probe/"]).await?
            } else {
                None
            };
            let record = match owner::judge(claim, &records, foreign.as_deref(), now) {
                Verdict::Refused(refusal) => return Err(refusal.into()),
                Verdict::Ours(number) => (number, None),
                Verdict::Write(record) => (record.number, Some(record)),
            };
            // Only now: who may not write does not probe either.
            let seen = match &guard {
                Some(seen) => seen,
                None => guard.insert(self.store.guard(&layout::probe(random)).await?),
            };
            if let (Guard::Unguarded { why }, true) = (seen, immutable) {
                return Err(ClaimError::Unguarded { why: why.clone() });
            }
            let owned = Owned {
                owner: claim.owner.clone(),
                number: record.0,
                guard: seen.clone(),
            };
            let Some(record) = record.1 else {
                return Ok(owned);
            };
            match self
                .write_json(&layout::owner(record.number), &record)
                .await
            {
                Ok(()) => return Ok(owned),
                Err(error) if error.reason == Reason::Exists => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Refusal::Broken {
            what: "others claim it at the same time".to_owned(),
        }
        .into())
    }

    /// A writer, for whoever owns it.
    pub fn writer(&self, owned: Owned) -> Writer<'_> {
        Writer {
            repository: self,
            owned,
        }
    }

    /// Writes the plain content of a piece of the log to `out`; good only if this succeeds.
    ///
    /// `version`: as [`Self::good_version`] found it; else the newest.
    pub async fn read_piece(
        &self,
        key: &PieceKey,
        version: Option<&str>,
        out: &mut (dyn AsyncWrite + Unpin + Send),
    ) -> Result<u64, GetError> {
        let text = layout::piece(key);
        let digest_key = self
            .protection
            .keyring()
            .map(crate::crypto::Keyring::digest_key);
        if key.digest.keyed() && digest_key.is_none() {
            return Err(GetError::NoKey { key: text });
        }
        let mut digester = Digester::new(digest_key.as_ref().filter(|_| key.digest.keyed()));
        let size = self
            .getting()
            .plain(&text, version, &mut digester, out)
            .await?;
        if PieceDigest::new(digester.finish().bytes, key.digest.keyed()) != key.digest {
            return Err(GetError::Damaged {
                key: text,
                what: "its digest is not that of its key".to_owned(),
            });
        }
        Ok(size)
    }

    /// Of a piece that is damaged or deleted in a store that keeps versions: the oldest version that is whole.
    pub async fn good_version(&self, key: &PieceKey) -> Result<Option<String>, GetError> {
        let mut versions = self.store.versions(&layout::piece(key)).await?;
        versions.retain(|version| !version.marker);
        versions.sort_by_key(|version| version.modified);
        for version in versions {
            match self
                .read_piece(key, Some(&version.id), &mut tokio::io::sink())
                .await
            {
                Ok(_) => return Ok(Some(version.id)),
                Err(GetError::Damaged { .. }) => {}
                Err(other) => return Err(other),
            }
        }
        Ok(None)
    }

    /// Of an object that is written once, and was replaced in a store that keeps versions: what the oldest version says
    /// that `taken` takes.
    pub(crate) async fn older<T>(
        &self,
        key: &str,
        limit: usize,
        taken: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        // Who may not list versions reads what there is, as before.
        let told = async {
            if self.store.keeps_versions().await? {
                self.store.versions(key).await
            } else {
                Ok(Vec::new())
            }
        };
        let mut versions = match told.await {
            Ok(versions) => versions,
            Err(error) if error.reason.passes() => return Err(error),
            Err(_) => return Ok(None),
        };
        versions.retain(|version| !version.marker);
        versions.sort_by_key(|version| version.modified);
        for version in versions {
            match self.store.read(key, Some(&version.id), limit).await {
                Ok((bytes, _)) => {
                    if let Some(found) = taken(&bytes) {
                        tracing::warn!(
                            key,
                            version = version.id,
                            "it was replaced: the oldest version counts"
                        );
                        return Ok(Some(found));
                    }
                }
                Err(error) if error.reason.passes() => return Err(error),
                Err(_) => {}
            }
        }
        Ok(None)
    }

    /// Reads a record that is written once; none if it is not understood. Where the store keeps versions, one that was
    /// replaced by what is not understood is read all the same.
    pub(crate) async fn read_first<T: DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<Option<T>, StoreError> {
        match self.read_json(key).await? {
            Some(record) => Ok(Some(record)),
            None => {
                self.older(key, RECORD, |bytes| serde_json::from_slice(bytes).ok())
                    .await
            }
        }
    }

    /// Reads a record; none if it is not understood.
    pub(crate) async fn read_json<T: DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<Option<T>, StoreError> {
        match self.store.read(key, None, RECORD).await {
            Ok((bytes, _)) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(StoreError {
                reason: Reason::Damaged { .. },
                ..
            }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn write_json<T: Serialize>(
        &self,
        key: &str,
        value: &T,
    ) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(value).map_err(|error| StoreError {
            doing: "writing",
            key: key.to_owned(),
            reason: Reason::Other {
                told: error.to_string(),
            },
        })?;
        self.store.create(key, bytes.into()).await.map(drop)
    }
}

/// Why a writer stopped.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Storing it failed.
    #[error(transparent)]
    Put(#[from] PutError),
    /// Reading what is there failed.
    #[error(transparent)]
    Get(#[from] GetError),
    /// It is no longer ours, or that cannot be told.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// What was to be stored could not be read.
    #[error("reading what is to be stored: {0}")]
    Source(io::Error),
    /// What was to be stored changed while it was.
    #[error("{what} changed while it was stored: it is stored again when it is asked for again")]
    Changed {
        /// What it was.
        what: String,
    },
    /// The keys could not be encrypted.
    #[error("encrypting the keys for escrow: {0}")]
    Escrow(String),
}

impl From<StoreError> for WriteError {
    fn from(error: StoreError) -> Self {
        Self::Put(PutError::Store(error))
    }
}

/// What became of a piece of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PieceOutcome {
    /// It is stored.
    Stored(PieceKey),
    /// It was there already.
    There(PieceKey),
    /// It is stored beside another content of its name: shipping must stop, and a person must look.
    Diverged {
        /// The one that is stored now.
        new: PieceKey,
        /// The one that was there.
        old: PieceKey,
    },
}

/// What to store as a piece.
#[derive(Debug, Clone)]
pub enum Content<'a> {
    /// A file, which nobody changes any more.
    File(&'a Path),
    /// Bytes.
    Bytes(Bytes),
}

type Reading = Pin<Box<dyn AsyncRead + Send>>;

impl Content<'_> {
    /// Small files become bytes, so that they are read once.
    async fn held(self) -> io::Result<Self> {
        match self {
            Self::File(path) if tokio::fs::metadata(path).await?.len() <= HELD => {
                Ok(Self::Bytes(tokio::fs::read(path).await?.into()))
            }
            other => Ok(other),
        }
    }

    async fn open(&self) -> io::Result<Reading> {
        Ok(match self {
            Self::File(path) => Box::pin(tokio::fs::File::open(path).await?),
            Self::Bytes(bytes) => Box::pin(io::Cursor::new(bytes.clone())),
        })
    }

    async fn digest(&self, mut digester: Digester) -> io::Result<Digest> {
        let mut reading = self.open().await?;
        let mut chunk = vec![0; 128 << 10];
        loop {
            match reading.read(&mut chunk).await? {
                0 => return Ok(digester.finish()),
                read => digester.update(&chunk[..read]),
            }
        }
    }
}

/// Writes to a repository that it owns.
#[derive(Debug)]
pub struct Writer<'a> {
    repository: &'a Repository,
    owned: Owned,
}

impl Writer<'_> {
    /// The repository.
    pub fn repository(&self) -> &Repository {
        self.repository
    }

    /// What was found when it was claimed.
    pub fn owned(&self) -> &Owned {
        &self.owned
    }

    /// Whether nobody has adopted the repository meanwhile. To be asked before anything that counts.
    pub async fn still_ours(&self) -> Result<(), ClaimError> {
        let claim = Claim {
            owner: self.owned.owner.clone(),
            resource: String::new(),
            adopt: None,
        };
        match owner::judge(
            &claim,
            &self.repository.owners().await?,
            None,
            Timestamp::UNIX_EPOCH,
        ) {
            Verdict::Ours(_) => Ok(()),
            Verdict::Refused(refusal) => Err(refusal.into()),
            Verdict::Write(_) => Err(Refusal::Broken {
                what: "they are gone".to_owned(),
            }
            .into()),
        }
    }

    /// Keeps the instance's keys in the repository, encrypted to escrow. Returns the key; none where
    /// nothing is encrypted, or nobody is in escrow.
    pub async fn keep_keys(&self) -> Result<Option<String>, WriteError> {
        let Protection::Encrypted(encrypted) = self.repository.protection() else {
            return Ok(None);
        };
        let Some(own) = encrypted
            .keyring()
            .recipient()
            .filter(|_| !encrypted.escrow().is_empty())
        else {
            return Ok(None);
        };
        let names: Vec<String> = encrypted.escrow().iter().map(ToString::to_string).collect();
        let key = layout::keys(&own.to_string(), &names);
        let text = encrypted.keyring().to_text();
        let sealed = encrypt(encrypted.escrow(), text.expose_secret().as_bytes());
        let sealed = sealed.map_err(|error| WriteError::Escrow(error.to_string()))?;
        match self.repository.store.create(&key, sealed.into()).await {
            // The name says what it holds; encrypted twice it never is the same bytes.
            Err(error) if error.reason != Reason::Exists => Err(error.into()),
            _ => Ok(Some(key)),
        }
    }

    /// Says where a history comes from; saying it again is a success.
    pub async fn begin_history(&self, history: &Label, origin: &Origin) -> Result<(), WriteError> {
        Ok(self
            .repository
            .write_json(&layout::origin(history), origin)
            .await?)
    }

    /// Stores a piece of the log, unless it is there.
    pub async fn put_piece(
        &self,
        history: &Label,
        piece: &Label,
        kind: PieceKind,
        content: Content<'_>,
    ) -> Result<PieceOutcome, WriteError> {
        let repository = self.repository;
        let content = content.held().await.map_err(WriteError::Source)?;
        let digest = content
            .digest(repository.protection.digester())
            .await
            .map_err(WriteError::Source)?;
        let new = PieceKey {
            history: history.clone(),
            piece: piece.clone(),
            digest: PieceDigest::new(digest.bytes, digest.keyed),
            kind,
            coding: repository.protection.coding(),
        };
        let there: Vec<PieceKey> = repository
            .store
            .list_beginning(
                &layout::history(history),
                &layout::piece_prefix(history, piece),
            )
            .await?
            .iter()
            .filter_map(|found| layout::piece_of(&found.key))
            .filter(|found| found.piece == *piece)
            .collect();
        let diverged = match pieces::judge(&new, &there) {
            Judgement::There => return Ok(PieceOutcome::There(new)),
            Judgement::New => None,
            Judgement::Diverged(old) => Some(old),
            Judgement::Compare(old) => {
                if self.same_content(&old, &content).await? {
                    return Ok(PieceOutcome::There(old));
                }
                Some(old)
            }
        };
        self.store_piece(&new, &content, &digest).await?;
        Ok(match diverged {
            Some(old) => PieceOutcome::Diverged { new, old },
            None => PieceOutcome::Stored(new),
        })
    }

    async fn store_piece(
        &self,
        new: &PieceKey,
        content: &Content<'_>,
        digest: &Digest,
    ) -> Result<(), WriteError> {
        let repository = self.repository;
        let key = layout::piece(new);
        let mut reading = content.open().await.map_err(WriteError::Source)?;
        let mut putting = Putting::new(&repository.store, &repository.protection);
        // A piece is one object, however large.
        putting.split = u64::MAX;
        let stored = match putting.put(&mut reading, &mut || key.clone()).await {
            // Somebody of ours stored the same meanwhile: what the name says is there.
            Err(PutError::Store(error)) if error.reason == Reason::Exists => {
                return Ok(repository.store.settle(&key).await?);
            }
            other => other?,
        };
        if stored.digest != *digest {
            repository.store.delete(&key, None).await?;
            return Err(WriteError::Changed {
                what: new.piece.to_string(),
            });
        }
        Ok(())
    }

    /// Whether a piece that is there, of which only a digest of another kind is known, has this content.
    async fn same_content(
        &self,
        old: &PieceKey,
        content: &Content<'_>,
    ) -> Result<bool, WriteError> {
        let of_both = |keyed: bool| {
            let key = self
                .repository
                .protection
                .keyring()
                .map(crate::crypto::Keyring::digest_key);
            Digester::new(key.as_ref().filter(|_| keyed))
        };
        if old.digest.keyed() && !self.repository.protection.keyed() {
            return Err(GetError::NoKey {
                key: layout::piece(old),
            }
            .into());
        }
        let digest = content
            .digest(of_both(old.digest.keyed()))
            .await
            .map_err(WriteError::Source)?;
        Ok(PieceDigest::new(digest.bytes, digest.keyed) == old.digest)
    }
}

fn encrypt(recipients: &[Recipient], bytes: &[u8]) -> io::Result<Vec<u8>> {
    use std::io::Write as _;
    let recipients = recipients.iter().map(Recipient::as_age);
    let encryptor = age::Encryptor::with_recipients(recipients).map_err(io::Error::other)?;
    let mut out = encryptor.wrap_output(Vec::new())?;
    out.write_all(bytes)?;
    out.finish()
}
