//! The dataset, received as a replica receives it, as a source of the repository. I/O.
//!
//! The engine forks and sends a snapshot of its memory over the connection: nothing is written to its volume, and
//! nobody but this instance is asked. It comes as a replica that wants the snapshot and nothing after it, so no writes
//! are kept for it meanwhile. What it costs is the fork: as long as it is sent, pages that are written are copied. Where
//! that takes the room that is left for it, and where the instance becomes something else, the backup is given up.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use mainstay_backup::ids::{BackupId, OwnerId};
use mainstay_backup::manifest::NativeSnapshot;
use mainstay_backup::source::{Snapshot, SnapshotSource, SourceError, SourceFile, Taken, Wish};
use mainstay_shared::backups::container::chunks::{Chunk, Chunks};
use mainstay_shared::backups::container::settings::ORDER;
use mainstay_shared::backups::container::{Ground, Job};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::engine::{Access, Bounds, Facts, facts};
use super::payload::{Frame, Line, Payload, line};
use super::shards::{Dataset, Shard, Slots};
use crate::resp::{Connection, words};
use crate::settings::Flavour;

/// The only shard of a set in replication.
pub const FILE: &str = "shard-0.rdb";
/// Bytes that are read at a time.
const CHUNK: usize = 128 << 10;
/// Chunks that may wait.
const WAITING: usize = 4;
/// Longest line before the payload.
const LINE: u64 = 1024;
/// So long it may take until it forks: an append-only file that is rewritten comes first.
const FORK: Duration = Duration::from_mins(10);
/// Longest wait for more of the payload. It hears of who reads nothing for 15 s, and so do we.
const SILENCE: Duration = Duration::from_secs(60);
/// How often the engine is looked at meanwhile.
const LOOK: Duration = Duration::from_secs(2);
/// A replica that has not heard of its primary for so many seconds has an old dataset.
const HEARD: u64 = 10;

/// Of a connection that ends early.
const BROKEN_OFF: &str = "Redis broke off in the middle of its dataset, as it does when its primary changes, or when nothing was \
     read for as long as its repl-timeout";

/// Takes the dataset of the engine in this pod.
pub struct Receiver {
    /// Where it is.
    pub ground: Ground,
    /// Whose the data has to be.
    pub owner: OwnerId,
    /// Told what is being done.
    pub job: Arc<Job>,
    /// Name and version, once it has answered.
    pub name: OnceLock<String>,
}

impl SnapshotSource for Receiver {
    fn name(&self) -> String {
        let name = self.name.get();
        name.cloned().unwrap_or_else(|| "Redis".to_owned())
    }

    fn begin<'a>(
        &'a self,
        _: &'a Wish<'a>,
    ) -> BoxFuture<'a, Result<Box<dyn Snapshot>, SourceError>> {
        Box::pin(async move {
            let begun = self.receive().await.map_err(SourceError::Later)?;
            Ok(Box::new(begun) as Box<dyn Snapshot>)
        })
    }

    fn forget<'a>(&'a self, _: &'a NativeSnapshot) -> BoxFuture<'a, Result<(), SourceError>> {
        // It has no repository of its own.
        Box::pin(async { Ok(()) })
    }
}

impl Receiver {
    async fn receive(&self) -> Result<Receiving, String> {
        let access = Access::read(&self.ground)?;
        let mut watched = access.connect().await?;
        let before = facts(&mut watched).await?;
        self.fit(&before)?;
        let _ = self.name.set(name(before.flavour, &before.vitals.version));
        self.job.step("waiting for a fork");
        // What was written before a replica heard of its primary is there; what is written from now on may be.
        let heard = before.vitals.heard.map_or(0, |seconds| seconds + 1);
        let asked = Timestamp::now();
        let heard = SignedDuration::from_secs(i64::try_from(heard).unwrap_or(i64::MAX));
        let consistent_at = asked.checked_sub(heard).unwrap_or(asked);
        let sending = async {
            let mut connection = access.connect().await?;
            // The snapshot, and nothing that is written after it.
            let capable = words(["REPLCONF", "rdb-only", "1", "capa", "eof"]);
            connection.call(capable).await.map_err(|e| e.to_string())?;
            let sent = connection.end_with(words(["PSYNC", "?", "-1"])).await;
            let (stream, read) = sent.map_err(|e| e.to_string())?;
            let stream = io::Cursor::new(read).chain(stream);
            begin(BufReader::with_capacity(CHUNK, stream)).await
        };
        let begun = timeout(FORK, sending).await;
        let begun = begun.map_err(|_| "Redis does not begin to send its dataset".to_owned())??;
        self.job.step("receiving the dataset");
        let (queue, chunks) = mpsc::channel(WAITING);
        let (ended, outcome) = oneshot::channel();
        let bounds = Bounds::of(&before);
        let pump = tokio::spawn(async move {
            let failed = queue.clone();
            let outcome = tokio::select! {
                outcome = pump(begun.stream, begun.frame, queue) => outcome,
                why = watch(&mut watched, &bounds) => Err(why),
            };
            if let Err(why) = &outcome {
                // Whoever still reads must not take this for the end.
                let _ = failed.send(Err(io::Error::other(why.clone()))).await;
            }
            drop(failed);
            let _ = ended.send(outcome.map(|()| watched));
        });
        Ok(Receiving {
            file: Some(Chunks::new(chunks)),
            part: None,
            outcome,
            pump,
            dataset: self.dataset(&before, begun.replid, begun.offset),
            consistent_at,
            job: Arc::clone(&self.job),
        })
    }

    /// Whether this dataset is one to be kept.
    fn fit(&self, facts: &Facts) -> Result<(), String> {
        if let Some(why) = facts.unfit() {
            return Err(format!("no backup is made of this instance: {why}"));
        }
        if facts.vitals.heard.is_some_and(|seconds| seconds > HEARD) {
            return Err("its primary was not heard of lately".to_owned());
        }
        if OwnerId::of(&facts.mark.set) != self.owner {
            return Err(format!(
                "the dataset is {}'s, and the repository was opened for another",
                facts.mark.set
            ));
        }
        Ok(())
    }

    fn dataset(&self, facts: &Facts, replid: String, offset: u64) -> Dataset {
        Dataset {
            set: facts.mark.set.clone(),
            epoch: facts.mark.epoch,
            timeline: facts.mark.timeline,
            flavour: facts.flavour,
            version: facts.vitals.version.clone(),
            shards: vec![Shard {
                file: FILE.to_owned(),
                slots: vec![Slots::ALL],
                from: self.ground.me.instance.clone(),
                replid,
                offset,
                keys: facts.keys.clone(),
            }],
        }
    }
}

/// A payload that is about to come.
struct Begun<S> {
    stream: S,
    replid: String,
    offset: u64,
    frame: Frame,
}

/// Reads what comes before the payload. Empty lines only say that it is still there.
async fn begin<S: AsyncRead + Unpin + Send>(
    mut stream: BufReader<S>,
) -> Result<Begun<BufReader<S>>, String> {
    let mut place = None;
    loop {
        let mut text = String::new();
        let mut limited = (&mut stream).take(LINE);
        let read = limited.read_line(&mut text).await;
        let read = read.map_err(|e| format!("the connection to Redis: {e}"))?;
        if read == 0 {
            return Err("Redis ended the connection before it sent its dataset".to_owned());
        }
        let text = text.trim_end();
        if text.is_empty() {
            continue;
        }
        match (line(text)?, place.take()) {
            (Line::Whole { replid, offset }, _) => place = Some((replid, offset)),
            (Line::Payload(frame), Some((replid, offset))) => {
                return Ok(Begun {
                    stream,
                    replid,
                    offset,
                    frame,
                });
            }
            (Line::Payload(_), None) => {
                return Err("Redis does not say of which moment its dataset is".to_owned());
            }
        }
    }
}

/// Passes the payload on.
async fn pump<S: AsyncRead + Unpin>(
    mut stream: S,
    frame: Frame,
    queue: mpsc::Sender<Chunk>,
) -> Result<(), String> {
    let mut payload = Payload::new(frame);
    let mut buffer = vec![0; CHUNK];
    while !payload.is_whole() {
        let read = timeout(SILENCE, stream.read(&mut buffer)).await;
        let read = read.map_err(|_| "Redis sends nothing any more".to_owned())?;
        let read = read.map_err(|e| format!("the connection to Redis: {e}"))?;
        if read == 0 {
            return Err(BROKEN_OFF.to_owned());
        }
        let given = payload.take(buffer.get(..read).unwrap_or_default())?;
        if !given.is_empty() {
            let sent = queue.send(Ok(given)).await;
            sent.map_err(|_| "storing it was broken off".to_owned())?;
        }
    }
    // Only now its end may be seen: what is no snapshot is not stored as one.
    payload.finish()
}

/// Looks at the engine until there is a reason to leave it alone.
async fn watch(connection: &mut Connection, before: &Bounds) -> String {
    loop {
        sleep(LOOK).await;
        match facts(connection).await {
            Err(why) => return why,
            Ok(now) => {
                if let Some(why) = before.left_by(&now) {
                    return why;
                }
            }
        }
    }
}

struct Receiving {
    file: Option<Chunks>,
    part: Option<Chunks>,
    outcome: oneshot::Receiver<Result<Connection, String>>,
    pump: JoinHandle<()>,
    dataset: Dataset,
    consistent_at: Timestamp,
    job: Arc<Job>,
}

impl Drop for Receiving {
    /// With the connection the fork ends.
    fn drop(&mut self) {
        self.pump.abort();
    }
}

impl Snapshot for Receiving {
    fn parent(&self) -> Option<BackupId> {
        None
    }

    fn estimate(&self) -> Option<u64> {
        None
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Option<SourceFile<'_>>, SourceError>> {
        Box::pin(async move {
            let Some(chunks) = self.file.take() else {
                return Ok(None);
            };
            Ok(Some(SourceFile {
                name: FILE.to_owned(),
                content: Box::new(self.part.insert(chunks)),
            }))
        })
    }

    fn finish(mut self: Box<Self>) -> BoxFuture<'static, Result<Taken, SourceError>> {
        Box::pin(async move {
            let later = |why: &str| SourceError::Later(why.to_owned());
            let outcome = (&mut self.outcome).await;
            let outcome = outcome.map_err(|_| later("receiving it was broken off"))?;
            let mut connection = outcome.map_err(SourceError::Later)?;
            let after = facts(&mut connection).await.map_err(SourceError::Later)?;
            let dataset = &self.dataset;
            if (after.mark.epoch, &after.mark.set) != (dataset.epoch, &dataset.set) {
                return Err(later("the primary changed while the dataset was read"));
            }
            self.job.step("sealing");
            let mut details = dataset.details().map_err(SourceError::Blocked)?;
            details.insert(ORDER.to_owned(), self.job.order.clone());
            Ok(Taken {
                consistent_at: self.consistent_at,
                log: None,
                native: None,
                details,
            })
        })
    }
}

/// What a backup says made it.
fn name(flavour: Flavour, version: &str) -> String {
    match flavour {
        Flavour::Redis => format!("Redis {version}"),
        Flavour::Valkey => format!("Valkey {version}"),
    }
}
