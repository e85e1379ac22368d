//! On the way out.

use std::io::{self, Read};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use futures::{StreamExt as _, TryFutureExt as _};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::codec::{Decode, NoKey};
use super::{CHUNK, WAITING};
use crate::crypto::{Digester, Protection};
use crate::hex::hex;
use crate::layout::Coding;
use crate::manifest::{FileEntry, ObjectEntry};
use crate::store::{self, PATIENCE, Reason, Resume, Store, StoreError, find, pause};

/// How long the store may send nothing in the middle of an object.
const SILENCE: Duration = Duration::from_secs(30);

/// Why content did not come back.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// The store's answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What came is not what was stored.
    #[error("{key} is damaged: {what}")]
    Damaged {
        /// The object or file.
        key: String,
        /// What differs.
        what: String,
    },
    /// It is encrypted to other keys.
    #[error(
        "no key at hand opens {key}: it was encrypted for another instance, or before these keys; give the keys that are in escrow"
    )]
    NoKey {
        /// The object.
        key: String,
    },
    /// What came could not be written where it was to go.
    #[error("writing what was read: {0}")]
    Output(io::Error),
    /// A task of ours ended.
    #[error("reading was broken off")]
    BrokenOff,
}

/// Brings contents back.
#[derive(Debug, Clone, Copy)]
pub struct Getting<'a> {
    /// Where from.
    pub store: &'a Store,
    /// How.
    pub protection: &'a Protection,
}

impl Getting<'_> {
    /// Writes a file of a manifest to `out`.
    ///
    /// What was written is good only if this succeeds: digests are known at the end.
    pub async fn file(
        &self,
        file: &FileEntry,
        out: &mut (dyn AsyncWrite + Unpin + Send),
    ) -> Result<(), GetError> {
        let damaged = |what: String| GetError::Damaged {
            key: file.name.clone(),
            what,
        };
        let digester = self.protection.digester_like(file.digest.keyed);
        let mut digester = digester.ok_or_else(|| GetError::NoKey {
            key: file.name.clone(),
        })?;
        let mut size = 0;
        for object in &file.objects {
            size += self.object(object, &mut digester, out).await?;
        }
        if size != file.size {
            return Err(damaged(format!(
                "it has {size} bytes, and had {}",
                file.size
            )));
        }
        if digester.finish() != file.digest {
            return Err(damaged("its digest is another".to_owned()));
        }
        out.flush().await.map_err(GetError::Output)
    }

    /// Writes the plain content of an object to `out`, and adds it to a digest. Returns its size.
    async fn object(
        &self,
        object: &ObjectEntry,
        digester: &mut Digester,
        out: &mut (dyn AsyncWrite + Unpin + Send),
    ) -> Result<u64, GetError> {
        let expected = Expected {
            size: Some(object.size),
            sha256: Some(&object.sha256),
        };
        self.decoded(
            &object.key,
            object.version.as_deref(),
            &expected,
            digester,
            out,
        )
        .await
    }

    /// Writes the plain content of an object of which only the key is known; its digest is the caller's to
    /// compare.
    pub async fn plain(
        &self,
        key: &str,
        version: Option<&str>,
        digester: &mut Digester,
        out: &mut (dyn AsyncWrite + Unpin + Send),
    ) -> Result<u64, GetError> {
        self.decoded(key, version, &Expected::default(), digester, out)
            .await
    }

    async fn decoded(
        &self,
        key: &str,
        version: Option<&str>,
        expected: &Expected<'_>,
        digester: &mut Digester,
        out: &mut (dyn AsyncWrite + Unpin + Send),
    ) -> Result<u64, GetError> {
        let encrypted = match Coding::strip(key) {
            Some((_, coding)) => coding == Coding::ZstdAge,
            None => {
                return Err(GetError::Damaged {
                    key: key.to_owned(),
                    what: "its key does not say how it is stored".to_owned(),
                });
            }
        };
        let (stored, queue) = mpsc::channel(WAITING);
        let (plain, mut chunks) = mpsc::channel::<Bytes>(WAITING);
        let protection = self.protection.clone();
        let decoding =
            tokio::task::spawn_blocking(move || decode(encrypted, &protection, queue, &plain));
        let decoding = decoding.map_err(|_| io::Error::other("it was broken off"));
        let writing = async {
            let mut size = 0;
            while let Some(chunk) = chunks.recv().await {
                digester.update(&chunk);
                size += chunk.len() as u64;
                if let Err(error) = out.write_all(&chunk).await {
                    // Whoever sends must not wait for us for ever.
                    chunks.close();
                    return Err(GetError::Output(error));
                }
            }
            Ok(size)
        };
        let (downloaded, decoded, written) = futures::join!(
            self.download(key, version, expected, stored),
            decoding,
            writing
        );
        let size = written?;
        let decoded = decoded.and_then(|decoded| decoded);
        match (downloaded, decoded) {
            (Err(error), _) => Err(error),
            (Ok(()), Ok(())) => Ok(size),
            (Ok(()), Err(error)) if find::<NoKey>(&error).is_some() => Err(GetError::NoKey {
                key: key.to_owned(),
            }),
            (Ok(()), Err(error)) => Err(GetError::Damaged {
                key: key.to_owned(),
                what: error.to_string(),
            }),
        }
    }

    /// Sends an object's stored bytes on, taking up a broken connection where it broke.
    async fn download(
        &self,
        key: &str,
        version: Option<&str>,
        expected: &Expected<'_>,
        stored: mpsc::Sender<Bytes>,
    ) -> Result<(), GetError> {
        let damaged = |what: String| GetError::Damaged {
            key: key.to_owned(),
            what,
        };
        let _turn = self.store.budget().turn().await;
        let mut hash = Sha256::new();
        let (mut from, mut total, mut e_tag, mut attempt) = (0_u64, None::<u64>, None, 0);
        loop {
            let resume = (from > 0).then(|| Resume {
                from,
                e_tag: e_tag.clone(),
            });
            let broken = match self.store.open_at(key, version, resume).await {
                Ok((mut stream, meta)) => {
                    if expected.size.is_some_and(|size| size != meta.size) {
                        let size = expected.size.unwrap_or_default();
                        return Err(damaged(format!(
                            "it has {} bytes, and had {size}",
                            meta.size
                        )));
                    }
                    total = Some(meta.size);
                    e_tag = meta.e_tag;
                    loop {
                        if from >= meta.size {
                            break None;
                        }
                        match tokio::time::timeout(SILENCE, stream.next()).await {
                            Ok(Some(Ok(chunk))) => {
                                attempt = 0;
                                from += chunk.len() as u64;
                                hash.update(&chunk);
                                self.store.budget().pass(chunk.len()).await;
                                if stored.send(chunk).await.is_err() {
                                    // The decoder has seen enough: it says why, unless this is the end.
                                    return Ok(());
                                }
                            }
                            Ok(Some(Err(error))) => {
                                break Some(store::failed("reading", key, &error));
                            }
                            Ok(None) => break Some(interrupted(key, "it ended early")),
                            Err(_) => break Some(interrupted(key, "nothing came for too long")),
                        }
                    }
                }
                // Its content has changed between two attempts.
                Err(error) if from > 0 && error.reason == Reason::Exists => {
                    return Err(damaged("it was replaced while it was read".to_owned()));
                }
                Err(error) => Some(error),
            };
            let Some(error) = broken else { break };
            attempt += 1;
            if attempt > PATIENCE || !error.reason.passes() {
                return Err(error.into());
            }
            tracing::info!(%error, from, "reading goes on where it broke off");
            tokio::time::sleep(pause(attempt)).await;
        }
        if total != Some(from) {
            return Err(damaged(format!(
                "{from} bytes came of {}",
                total.unwrap_or_default()
            )));
        }
        if expected
            .sha256
            .is_some_and(|sha256| hex(&hash.finalize()) != sha256)
        {
            return Err(damaged("its SHA-256 is another".to_owned()));
        }
        Ok(())
    }
}

/// What is known of an object's stored bytes.
#[derive(Debug, Default)]
struct Expected<'a> {
    size: Option<u64>,
    sha256: Option<&'a str>,
}

fn interrupted(key: &str, why: &str) -> StoreError {
    StoreError {
        doing: "reading",
        key: key.to_owned(),
        reason: Reason::Interrupted {
            why: why.to_owned(),
        },
    }
}

/// Chunks as a reader.
struct Queue {
    queue: mpsc::Receiver<Bytes>,
    chunk: Bytes,
}

impl Read for Queue {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.queue.blocking_recv() {
                Some(chunk) => self.chunk = chunk,
                None => return Ok(0),
            }
        }
        let take = into.len().min(self.chunk.len());
        self.chunk.copy_to_slice(&mut into[..take]);
        Ok(take)
    }
}

fn decode(
    encrypted: bool,
    protection: &Protection,
    queue: mpsc::Receiver<Bytes>,
    plain: &mpsc::Sender<Bytes>,
) -> io::Result<()> {
    let stored = Queue {
        queue,
        chunk: Bytes::new(),
    };
    let mut decode = Decode::new(encrypted, protection, stored)?;
    loop {
        let mut chunk = BytesMut::zeroed(CHUNK);
        let read = decode.read(&mut chunk)?;
        if read == 0 {
            return Ok(());
        }
        chunk.truncate(read);
        if plain.blocking_send(chunk.freeze()).is_err() {
            return Ok(());
        }
    }
}
