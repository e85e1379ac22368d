//! An instance's part of a store: who owns it, and writing to it.

mod content;
mod versions;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Mutex;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncWrite;

use crate::crypto::Protection;
use crate::ids::OwnerId;
use crate::layout;
use crate::owner::{self, Claim, Record, Refusal, Verdict};
use crate::pieces::{PieceDigest, PieceKey};
use crate::store::{Guard, Reason, Store, StoreError};
use crate::stream::{GetError, Getting};

pub use content::Content;
pub use writer::{PieceOutcome, WriteError, Writer};

/// Most bytes of a record of ours.
const RECORD: usize = 64 << 10;
/// How often a claim is judged again after somebody else was faster.
const RACES: usize = 3;

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
    /// Keys of what was replaced, of which that was said.
    said: Mutex<HashSet<String>>,
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
        Self {
            store,
            protection,
            said: Mutex::default(),
        }
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
        Writer::new(self, owned)
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
        let Some(mut digester) = self.protection.digester_like(key.digest.keyed()) else {
            return Err(GetError::NoKey { key: text });
        };
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
