//! Writing to a repository: pieces of the log, histories, copies of the keys.

use std::io;

use age::secrecy::ExposeSecret as _;
use jiff::Timestamp;

use super::{ClaimError, Content, Owned, Repository};
use crate::crypto::{Digest, Protection, Recipient};
use crate::layout::{self, Label};
use crate::owner::{self, Claim, Refusal, Verdict};
use crate::pieces::{self, Judgement, Origin, PieceDigest, PieceKey, PieceKind};
use crate::store::{Reason, StoreError};
use crate::stream::{GetError, PutError, Putting};

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

/// Writes to a repository that it owns.
#[derive(Debug)]
pub struct Writer<'a> {
    repository: &'a Repository,
    owned: Owned,
}

impl<'a> Writer<'a> {
    /// For whoever owns it.
    pub(super) fn new(repository: &'a Repository, owned: Owned) -> Self {
        Self { repository, owned }
    }

    /// The repository.
    pub fn repository(&self) -> &'a Repository {
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
        // Its path may hold something else by now. What is stored under a digest counts as archived, and may be locked
        // from then on: another content must not get there.
        putting.expected = Some(digest.clone());
        match putting.put(&mut reading, &mut || key.clone()).await {
            Ok(_) => Ok(()),
            // Somebody of ours stored the same meanwhile: what the name says is there.
            Err(PutError::Store(error)) if error.reason == Reason::Exists => {
                Ok(repository.store.settle(&key).await?)
            }
            Err(PutError::Changed) => Err(WriteError::Changed {
                what: new.piece.to_string(),
            }),
            Err(other) => Err(other.into()),
        }
    }

    /// Whether a piece that is there, of which only a digest of another kind is known, has this content.
    async fn same_content(
        &self,
        old: &PieceKey,
        content: &Content<'_>,
    ) -> Result<bool, WriteError> {
        let protection = &self.repository.protection;
        let digester = protection.digester_like(old.digest.keyed());
        let digester = digester.ok_or_else(|| GetError::NoKey {
            key: layout::piece(old),
        })?;
        let digest = content.digest(digester).await.map_err(WriteError::Source)?;
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
