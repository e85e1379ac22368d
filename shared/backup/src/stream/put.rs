//! On the way in.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{ObjectStoreExt as _, PutMultipartOptions, PutPayload};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::codec::{Encode, FRAME};
use crate::crypto::{Digest, Protection};
use crate::hex::hex;
use crate::manifest::ObjectEntry;
use crate::store::{self, Budget, PART, PATIENCE, Store, StoreError, pause};

/// Frames that wait to be compressed. While one is compressed the next one is there, and the one after it is read: with
/// less, who reads and who compresses wait for each other.
const WAITING: usize = 1;

/// Plain bytes of an object, at most. A file that is larger is several objects, one after the other: so
/// no store's limit is met, a restore reads several at a time, and what breaks costs one object.
pub const SPLIT: u64 = 1 << 30;

/// Why content was not stored.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The store's answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The content could not be read to its end.
    #[error("reading what is to be stored: {0}")]
    Source(io::Error),
    /// Compression or encryption failed.
    #[error("compressing and encrypting: {0}")]
    Encode(io::Error),
    /// The content is another than the one that was to be stored: nothing is.
    #[error("what is to be stored has changed")]
    Changed,
    /// A task of ours ended.
    #[error("storing was broken off")]
    BrokenOff,
}

/// What was stored of one content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its size.
    pub size: u64,
    /// Digest of it.
    pub digest: Digest,
    /// The objects that hold it.
    pub objects: Vec<ObjectEntry>,
}

/// How far it is; may be looked at meanwhile.
#[derive(Debug, Default)]
pub struct Progress {
    /// Plain bytes read.
    pub plain: AtomicU64,
    /// Bytes stored.
    pub stored: AtomicU64,
}

/// Stores contents.
#[derive(Debug, Clone)]
pub struct Putting<'a> {
    /// Where to.
    pub store: &'a Store,
    /// How.
    pub protection: &'a Protection,
    /// Plain bytes of an object; [`SPLIT`] but in tests.
    pub split: u64,
    /// The digest that the content must have, where that is known. What has another is [`PutError::Changed`], and the
    /// object with its end is never there.
    pub expected: Option<Digest>,
    /// Told how far it is.
    pub progress: Arc<Progress>,
}

impl<'a> Putting<'a> {
    /// With the usual size of objects.
    pub fn new(store: &'a Store, protection: &'a Protection) -> Self {
        Self {
            store,
            protection,
            split: SPLIT,
            expected: None,
            progress: Arc::default(),
        }
    }

    /// Stores a content to its end, in objects of the keys that `next_key` gives.
    ///
    /// Objects that were stored before an error stay. Dropping the future ends an upload that is under way.
    pub async fn put(
        &self,
        content: &mut (dyn AsyncRead + Unpin + Send),
        next_key: &mut (dyn FnMut() -> String + Send),
    ) -> Result<Stored, PutError> {
        let mut digester = self.protection.digester();
        let (mut size, mut objects) = (0, Vec::new());
        let used = Used::default();
        let mut ahead = read_frame(content, FRAME, used.take()).await?;
        // An empty content is an object too: what is missing is then never taken for empty.
        loop {
            let mut taken = 0;
            let key = next_key();
            let (chunks, queue) = mpsc::channel::<Vec<u8>>(WAITING);
            let feed = async {
                while !ahead.is_empty() && taken < self.split {
                    digester.update(&ahead);
                    taken += ahead.len() as u64;
                    self.progress
                        .plain
                        .fetch_add(ahead.len() as u64, Ordering::Relaxed);
                    if chunks.send(std::mem::take(&mut ahead)).await.is_err() {
                        // Whoever hung up says why.
                        return Ok(());
                    }
                    let room = usize::try_from(self.split - taken.min(self.split)).unwrap_or(FRAME);
                    let room = if room == 0 { FRAME } else { room.min(FRAME) };
                    ahead = read_frame(content, room, used.take()).await?;
                }
                // Before the object is ended: an upload without its end leaves nothing.
                if ahead.is_empty()
                    && let Some(expected) = &self.expected
                    && digester.clone().finish() != *expected
                {
                    return Err(PutError::Changed);
                }
                drop(chunks);
                Ok::<(), PutError>(())
            };
            let object = self.object(key, queue, used.clone());
            let ((), entry) = futures::future::try_join(feed, object).await?;
            objects.push(entry);
            size += taken;
            if ahead.is_empty() {
                break;
            }
        }
        Ok(Stored {
            size,
            digest: digester.finish(),
            objects,
        })
    }

    async fn object(
        &self,
        key: String,
        queue: mpsc::Receiver<Vec<u8>>,
        used: Used,
    ) -> Result<ObjectEntry, PutError> {
        let (parts, ready) = mpsc::channel(1);
        let protection = self.protection.clone();
        let budget = Arc::clone(self.store.budget());
        let handle = tokio::runtime::Handle::current();
        let encoding = tokio::task::spawn_blocking(move || {
            let sink = Parts {
                full: parts,
                budget,
                handle,
                buffer: None,
                size: 0,
                hash: Sha256::new(),
            };
            encode(&protection, sink, queue, &used)
        });
        let encoding = async { encoding.await.map_err(|_| PutError::BrokenOff)? };
        // Of two errors the upload's counts: it is why the other one was hung up on.
        let (uploaded, encoded) = futures::future::join(self.upload(&key, ready), encoding).await;
        let version = match (uploaded, &encoded) {
            (Err(PutError::BrokenOff), Err(_)) => None,
            (uploaded, _) => uploaded?,
        };
        let (size, sha256) = encoded?;
        Ok(ObjectEntry {
            key,
            size,
            sha256,
            version,
        })
    }

    async fn upload(
        &self,
        key: &str,
        mut ready: mpsc::Receiver<Part>,
    ) -> Result<Option<String>, PutError> {
        let first = ready.recv().await.ok_or(PutError::BrokenOff)?;
        if first.last {
            let size = first.bytes.len() as u64;
            let written = self.store.create(key, first.bytes.clone()).await?;
            self.progress.stored.fetch_add(size, Ordering::Relaxed);
            return Ok(written.version);
        }
        match self.store.parts() {
            Some(parts) => self.in_parts(key, Arc::clone(parts), first, ready).await,
            None => self.growing(key, first, ready).await,
        }
    }

    async fn in_parts(
        &self,
        key: &str,
        parts: Arc<dyn MultipartStore>,
        first: Part,
        mut ready: mpsc::Receiver<Part>,
    ) -> Result<Option<String>, PutError> {
        let path = self.store.whole_path(key);
        let id = parts
            .create_multipart(&path)
            .await
            .map_err(|error| store::failed("writing", key, &error))?;
        let mut upload = Upload {
            parts,
            path,
            id: Some(id),
        };
        let (mut next, mut index, mut size) = (Some(first), 0, 0_u64);
        let mut under_way = FuturesUnordered::new();
        let mut done: Vec<(usize, PartId)> = Vec::new();
        let mut ended = false;
        loop {
            if let Some(part) = next.take() {
                size += part.bytes.len() as u64;
                ended = part.last;
                under_way.push(self.part(key, &upload, index, part));
                index += 1;
            }
            tokio::select! {
                // Parts come only when there is room for them: taking them all is no risk.
                part = ready.recv(), if !ended => match part {
                    Some(part) => next = Some(part),
                    // The encoder ended without a last part: it says why.
                    None => return Err(PutError::BrokenOff),
                },
                Some(stored) = under_way.next() => done.push(stored?),
                else => break,
            }
        }
        drop(under_way);
        done.sort_by_key(|(index, _)| *index);
        let ids = done.into_iter().map(|(_, id)| id).collect();
        self.complete(key, &mut upload, ids, size).await
    }

    async fn part(
        &self,
        key: &str,
        upload: &Upload,
        index: usize,
        part: Part,
    ) -> Result<(usize, PartId), StoreError> {
        let id = upload.id.clone().unwrap_or_default();
        let mut attempt = 0;
        loop {
            let sent = {
                let _turn = self.store.budget().turn().await;
                self.store.budget().pass(part.bytes.len()).await;
                let payload = PutPayload::from(part.bytes.clone());
                upload
                    .parts
                    .put_part(&upload.path, &id, index, payload)
                    .await
            };
            let error = match sent {
                Ok(sent) => {
                    self.progress
                        .stored
                        .fetch_add(part.bytes.len() as u64, Ordering::Relaxed);
                    return Ok((index, sent));
                }
                Err(error) => store::failed("writing", key, &error),
            };
            attempt += 1;
            if attempt > PATIENCE || !error.reason.passes() {
                return Err(error);
            }
            tracing::info!(%error, part = index, "a part is sent again");
            tokio::time::sleep(pause(attempt)).await;
        }
    }

    async fn complete(
        &self,
        key: &str,
        upload: &mut Upload,
        ids: Vec<PartId>,
        size: u64,
    ) -> Result<Option<String>, PutError> {
        let id = upload.id.clone().unwrap_or_default();
        let mut attempt = 0;
        loop {
            let done = upload
                .parts
                .complete_multipart(&upload.path, &id, ids.clone())
                .await;
            let error = match done {
                Ok(put) => {
                    upload.id = None;
                    return Ok(put.version);
                }
                Err(error) => store::failed("writing", key, &error),
            };
            // The answer may have been lost, and the request been repeated.
            if let Ok(meta) = self.store.objects().head(&upload.path).await
                && meta.size == size
            {
                upload.id = None;
                return Ok(meta.version);
            }
            attempt += 1;
            if attempt > PATIENCE || !error.reason.passes() {
                return Err(error.into());
            }
            tokio::time::sleep(pause(attempt)).await;
        }
    }

    /// In a folder a file grows beside its place and is moved there at the end.
    async fn growing(
        &self,
        key: &str,
        first: Part,
        mut ready: mpsc::Receiver<Part>,
    ) -> Result<Option<String>, PutError> {
        let failed =
            |error: &object_store::Error| PutError::Store(store::failed("writing", key, error));
        let path = self.store.whole_path(key);
        let opened = self
            .store
            .objects()
            .put_multipart_opts(&path, PutMultipartOptions::default())
            .await;
        let mut file = opened.map_err(|error| failed(&error))?;
        let mut next = Some(first);
        while let Some(part) = next {
            self.store.budget().pass(part.bytes.len()).await;
            let size = part.bytes.len() as u64;
            let sent = file.put_part(PutPayload::from(part.bytes)).await;
            if let Err(error) = sent {
                let _ = file.abort().await;
                return Err(failed(&error));
            }
            self.progress.stored.fetch_add(size, Ordering::Relaxed);
            if part.last {
                let put = file.complete().await.map_err(|error| failed(&error))?;
                self.store.settle_names(key).await?;
                return Ok(put.version);
            }
            next = ready.recv().await;
        }
        let _ = file.abort().await;
        Err(PutError::BrokenOff)
    }
}

/// Frames that were compressed, to be filled again: memory that is given back has to be asked for page by page.
#[derive(Debug, Clone, Default)]
struct Used(Arc<Mutex<Vec<Vec<u8>>>>);

impl Used {
    /// One that is empty.
    fn take(&self) -> Vec<u8> {
        let mut frames = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        frames.pop().unwrap_or_else(|| Vec::with_capacity(FRAME))
    }

    fn give(&self, mut frame: Vec<u8>) {
        frame.clear();
        let mut frames = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        frames.push(frame);
    }
}

/// Reads until a frame is full or the content ends, so that frames do not depend on how it comes.
async fn read_frame(
    content: &mut (dyn AsyncRead + Unpin + Send),
    size: usize,
    mut frame: Vec<u8>,
) -> Result<Vec<u8>, PutError> {
    while frame.len() < size {
        let mut room = (&mut *content).take((size - frame.len()) as u64);
        if room.read_buf(&mut frame).await.map_err(PutError::Source)? == 0 {
            break;
        }
    }
    Ok(frame)
}

/// An upload in parts. Dropped before its end, it is given up in the store too.
struct Upload {
    parts: Arc<dyn MultipartStore>,
    path: Path,
    /// None once it is complete.
    id: Option<String>,
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(id) = self.id.take() else { return };
        let (parts, path) = (Arc::clone(&self.parts), self.path.clone());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = parts.abort_multipart(&path, &id).await {
                    tracing::info!(%path, %error, "an upload that was given up stays in the store until its lifecycle rule removes it");
                }
            });
        }
    }
}

/// Bytes to store, with the room that they take.
struct Part {
    bytes: Bytes,
    last: bool,
    _room: Option<OwnedSemaphorePermit>,
}

/// Cuts stored bytes into parts.
struct Parts {
    full: mpsc::Sender<Part>,
    budget: Arc<Budget>,
    handle: tokio::runtime::Handle,
    buffer: Option<(BytesMut, Option<OwnedSemaphorePermit>)>,
    size: u64,
    hash: Sha256,
}

impl Parts {
    fn send(&mut self, last: bool) -> io::Result<()> {
        let (bytes, room) = self.buffer.take().unwrap_or_default();
        let part = Part {
            bytes: bytes.freeze(),
            last,
            _room: room,
        };
        self.full
            .blocking_send(part)
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self
            .buffer
            .as_ref()
            .is_some_and(|(buffer, _)| buffer.len() == PART)
        {
            self.send(false)?;
        }
        let (budget, handle) = (&self.budget, &self.handle);
        let (buffer, _) = self.buffer.get_or_insert_with(|| {
            let room = handle.block_on(budget.buffer());
            // Only what is written to takes memory.
            (BytesMut::with_capacity(PART), room)
        });
        let take = bytes.len().min(PART - buffer.len());
        buffer.extend_from_slice(&bytes[..take]);
        self.hash.update(&bytes[..take]);
        self.size += take as u64;
        Ok(take)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn encode(
    protection: &Protection,
    sink: Parts,
    mut queue: mpsc::Receiver<Vec<u8>>,
    used: &Used,
) -> Result<(u64, String), PutError> {
    let work = || {
        let mut encode = Encode::new(protection, sink)?;
        while let Some(frame) = queue.blocking_recv() {
            encode.write(&frame)?;
            used.give(frame);
        }
        let mut sink = encode.finish()?;
        sink.send(true)?;
        Ok((sink.size, hex(&sink.hash.finalize())))
    };
    work().map_err(PutError::Encode)
}
