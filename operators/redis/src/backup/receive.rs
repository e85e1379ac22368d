//! The dataset, received as a replica receives it, as a source of the repository. I/O.
//!
//! The engine forks and sends a snapshot of its memory over the connection: nothing is written to its volume, and
//! nobody but this instance is asked. It comes as a replica that wants the snapshot and nothing after it, so no writes
//! are kept for it meanwhile. What it costs is the fork: as long as it is sent, pages that are written are copied. Where
//! that takes the room that is left for it, and where the instance becomes something else, the backup is given up.
//!
//! A cluster's shards come one after the other, each from a member of its own: one fork at a time, and the container's memory is enough.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use mainstay_backup::ids::{BackupId, OwnerId};
use mainstay_backup::manifest::NativeSnapshot;
use mainstay_backup::source::{Snapshot, SnapshotSource, SourceError, SourceFile, Taken, Wish};
use mainstay_shared::backups::container::chunks::{Chunk, Chunks};
use mainstay_shared::backups::container::settings::ORDER;
use mainstay_shared::backups::container::{Ground, Job};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::engine::{Access, Bounds, Facts, facts};
use super::guard::{End, Guard, alarmed, tell};
use super::parts::{Giver, Part, myself, nodes, parts};
use super::payload::{Frame, Line, Payload, line};
use super::shards::{Dataset, Shard, Slots};
use crate::resp::{Connection, words};
use crate::settings::Flavour;
use crate::version::number;

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
/// A member that gives its shard has what its primary had within this time.
const CATCH_UP: Duration = Duration::from_secs(10);
/// Pause between looks whether it has.
const SOON: Duration = Duration::from_millis(100);
/// A replica that has not heard of its primary for so many seconds has an old dataset.
const HEARD: u64 = 10;

/// Of a connection that ends early.
const BROKEN_OFF: &str = "Redis broke off in the middle of its dataset, as it does when its primary changes, or when nothing was \
     read for as long as its repl-timeout";

/// Takes the dataset of the engine in this pod; of a cluster, from one member of each shard, one after the other.
pub struct Receiver {
    /// Where it is.
    pub ground: Ground,
    /// Whose the data has to be.
    pub owner: OwnerId,
    /// Told what is being done.
    pub job: Arc<Job>,
    /// Name and version, once it has answered.
    pub name: Arc<OnceLock<String>>,
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
            let begun = self.all().await.map_err(SourceError::Later)?;
            Ok(Box::new(begun) as Box<dyn Snapshot>)
        })
    }

    fn forget<'a>(&'a self, _: &'a NativeSnapshot) -> BoxFuture<'a, Result<(), SourceError>> {
        // It has no repository of its own.
        Box::pin(async { Ok(()) })
    }
}

/// A file of the backup that is to be taken.
struct Target {
    file: String,
    /// In a cluster, which shard it is, and how far that was.
    shard: Option<(Part, End)>,
}

impl Target {
    fn slots(&self) -> Vec<Slots> {
        let all = || vec![Slots::ALL];
        let part = self.shard.as_ref();
        part.map_or_else(all, |(part, _)| part.slots.ranges())
    }
}

/// What is taken, and from whom.
struct Taking {
    access: Access,
    owner: OwnerId,
    job: Arc<Job>,
    /// The instance in this pod.
    me: String,
    /// Waits for a reason to give it up.
    alarm: Option<watch::Receiver<Option<String>>>,
}

impl Receiver {
    /// Looks at what there is, and begins with the first.
    async fn all(&self) -> Result<Receiving, String> {
        let access = Access::read(&self.ground)?;
        let (targets, guard): (Vec<Target>, _) = if access.clustered {
            let mut connection = access.connect().await?;
            let told = tell(&mut connection, words(["CLUSTER", "NODES"])).await?;
            let parts = parts(&nodes(&told)?)?;
            let (guard, ends) = Guard::begin(&access, &parts).await?;
            let targets = parts.into_iter().zip(ends).enumerate();
            let targets = targets.map(|(n, (part, end))| Target {
                file: format!("shard-{n}.rdb"),
                shard: Some((part, end)),
            });
            (targets.collect(), Some(guard))
        } else {
            let all = Target {
                file: FILE.to_owned(),
                shard: None,
            };
            (vec![all], None)
        };
        let taking = Taking {
            access,
            owner: self.owner.clone(),
            job: Arc::clone(&self.job),
            me: self.ground.me.instance.clone(),
            alarm: guard.as_ref().map(Guard::alarm),
        };
        let mut receiving = Receiving {
            taking,
            targets: targets.into(),
            guard,
            current: None,
            taken: Vec::new(),
            name: Arc::clone(&self.name),
        };
        receiving.open().await?;
        Ok(receiving)
    }
}

impl Taking {
    /// Begins to receive one file, from the first that can give it.
    async fn begin(&self, target: Target) -> Result<Current, String> {
        let Some((part, end)) = &target.shard else {
            let (watched, before) = self.look(&self.access, None).await?;
            let (access, from) = (self.access.clone(), self.me.clone());
            return self.receive(&target, access, from, watched, before).await;
        };
        let mut refused = Vec::new();
        for giver in &part.givers {
            let access = self.access.at(giver)?;
            match self.look(&access, Some((part, giver, end))).await {
                Ok((watched, before)) => {
                    let from = giver.name().to_owned();
                    return self.receive(&target, access, from, watched, before).await;
                }
                Err(why) => refused.push(format!("{}: {why}", giver.name())),
            }
        }
        let refused = refused.join("; ");
        Err(format!("nobody can give slots {}: {refused}", part.slots))
    }

    /// Asks an engine whether it can give what is wanted.
    async fn look(
        &self,
        access: &Access,
        shard: Option<(&Part, &Giver, &End)>,
    ) -> Result<(Connection, Facts), String> {
        let mut watched = access.connect().await?;
        let mut before = facts(&mut watched).await?;
        self.fit(&before)?;
        let Some((part, giver, end)) = shard else {
            return Ok((watched, before));
        };
        let told = tell(&mut watched, words(["CLUSTER", "NODES"])).await?;
        part.has(giver, &myself(&told)?)?;
        // What was moved to its shard is there only when it has come so far.
        let begun = Instant::now();
        while !reaches(end, &before.vitals.replid, before.vitals.offset) {
            if begun.elapsed() > CATCH_UP {
                return Err("it lacks what its primary has".to_owned());
            }
            sleep(SOON).await;
            before = facts(&mut watched).await?;
        }
        Ok((watched, before))
    }

    async fn receive(
        &self,
        target: &Target,
        access: Access,
        from: String,
        mut watched: Connection,
        before: Facts,
    ) -> Result<Current, String> {
        let what = target.shard.as_ref().map_or_else(String::new, |(part, _)| {
            format!(" of {from} with slots {}", part.slots)
        });
        self.job.step(&format!("waiting for a fork{what}"));
        // What was written before a replica heard of its primary is there; what is written from now on may be.
        let heard = before.vitals.heard.map_or(0, |seconds| seconds + 1);
        let asked = Timestamp::now();
        let heard = SignedDuration::from_secs(i64::try_from(heard).unwrap_or(i64::MAX));
        let moment = asked.checked_sub(heard).unwrap_or(asked);
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
        if let Some((_, end)) = &target.shard
            && !reaches(end, &begun.replid, begun.offset)
        {
            return Err(format!("{from} began another history while it was asked"));
        }
        self.job.step(&format!("receiving the dataset{what}"));
        let (queue, chunks) = mpsc::channel(WAITING);
        let (ended, outcome) = oneshot::channel();
        let bounds = Bounds::of(&before);
        let alarm = self.alarm.clone();
        let pump = tokio::spawn(async move {
            let failed = queue.clone();
            let alarmed = async {
                match alarm {
                    Some(alarm) => alarmed(alarm).await,
                    None => std::future::pending().await,
                }
            };
            let outcome = tokio::select! {
                outcome = pump(begun.stream, begun.frame, queue) => outcome,
                why = stay(&mut watched, &bounds) => Err(why),
                why = alarmed => Err(why),
            };
            if let Err(why) = &outcome {
                // Whoever still reads must not take this for the end.
                let _ = failed.send(Err(io::Error::other(why.clone()))).await;
            }
            drop(failed);
            let _ = ended.send(outcome.map(|()| watched));
        });
        Ok(Current {
            file: Some(Chunks::new(chunks)),
            part: None,
            outcome,
            pump,
            taken: Shard {
                file: target.file.clone(),
                slots: target.slots(),
                from,
                replid: begun.replid,
                offset: begun.offset,
                keys: before.keys.clone(),
                moment: Some(moment),
            },
            before,
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
}

/// Whether a history goes so far.
fn reaches(end: &End, replid: &str, offset: u64) -> bool {
    end.replid == replid && offset >= end.offset
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
async fn stay(connection: &mut Connection, before: &Bounds) -> String {
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

/// A file that is being received.
struct Current {
    file: Option<Chunks>,
    part: Option<Chunks>,
    outcome: oneshot::Receiver<Result<Connection, String>>,
    pump: JoinHandle<()>,
    before: Facts,
    taken: Shard,
}

impl Drop for Current {
    /// With the connection the fork ends.
    fn drop(&mut self) {
        self.pump.abort();
    }
}

impl Current {
    /// Waits for its end, and looks whether it was good.
    async fn close(mut self) -> Result<(Facts, Shard), String> {
        let outcome = (&mut self.outcome).await;
        let outcome = outcome.map_err(|_| "receiving it was broken off".to_owned())?;
        let mut connection = outcome?;
        let after = facts(&mut connection).await?;
        if (after.mark.epoch, &after.mark.set) != (self.before.mark.epoch, &self.before.mark.set) {
            return Err("the primary changed while the dataset was read".to_owned());
        }
        Ok((self.before.clone(), self.taken.clone()))
    }
}

struct Receiving {
    taking: Taking,
    targets: VecDeque<Target>,
    guard: Option<Guard>,
    current: Option<Current>,
    taken: Vec<(Facts, Shard)>,
    name: Arc<OnceLock<String>>,
}

impl Receiving {
    /// Begins with the next file, if there is one.
    async fn open(&mut self) -> Result<(), String> {
        if let Some(target) = self.targets.pop_front() {
            let current = self.taking.begin(target).await?;
            let Facts {
                vitals, flavour, ..
            } = &current.before;
            let _ = self.name.set(name(*flavour, &vitals.version));
            self.current = Some(current);
        }
        Ok(())
    }

    /// Ends the one that is received.
    async fn close(&mut self) -> Result<(), String> {
        if let Some(current) = self.current.take() {
            let taken = current.close().await?;
            self.taken.push(taken);
        }
        Ok(())
    }

    /// What all of it is.
    fn dataset(taken: Vec<(Facts, Shard)>) -> Result<Dataset, String> {
        let mut taken = taken.into_iter();
        let (first, shard) = taken.next().ok_or("nothing was taken")?;
        let mut dataset = Dataset {
            set: first.mark.set,
            epoch: first.mark.epoch,
            timeline: first.mark.timeline,
            flavour: first.flavour,
            version: first.vitals.version,
            shards: vec![shard],
        };
        for (facts, shard) in taken {
            if (&facts.mark.set, facts.flavour) != (&dataset.set, dataset.flavour) {
                return Err("its shards are of different sets".to_owned());
            }
            if number(&facts.vitals.version) > number(&dataset.version) {
                dataset.version = facts.vitals.version;
            }
            dataset.shards.push(shard);
        }
        Ok(dataset)
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
            let begun = |current: &Current| current.file.is_none();
            if self.current.as_ref().is_some_and(begun) {
                self.close().await.map_err(SourceError::Later)?;
                self.open().await.map_err(SourceError::Later)?;
            }
            let Some(current) = &mut self.current else {
                return Ok(None);
            };
            let Some(chunks) = current.file.take() else {
                return Ok(None);
            };
            Ok(Some(SourceFile {
                name: current.taken.file.clone(),
                content: Box::new(current.part.insert(chunks)),
            }))
        })
    }

    fn finish(mut self: Box<Self>) -> BoxFuture<'static, Result<Taken, SourceError>> {
        Box::pin(async move {
            self.close().await.map_err(SourceError::Later)?;
            if let Some(guard) = self.guard.take() {
                guard.finish().await.map_err(SourceError::Later)?;
            }
            self.taking.job.step("sealing");
            let dataset = Self::dataset(std::mem::take(&mut self.taken));
            let dataset = dataset.map_err(SourceError::Later)?;
            let mut details = dataset.details().map_err(SourceError::Blocked)?;
            details.insert(ORDER.to_owned(), self.taking.job.order.clone());
            let moments = dataset.shards.iter().filter_map(|shard| shard.moment);
            Ok(Taken {
                // Each shard has a moment of its own: what was written before the first of them is in all.
                consistent_at: moments.min().unwrap_or_else(Timestamp::now),
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
