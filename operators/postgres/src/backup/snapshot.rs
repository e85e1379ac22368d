//! A base backup, as a source of the repository. I/O.
//!
//! `pg_basebackup` writes one archive to its standard output: PostgreSQL's files, and last its
//! `backup_manifest`. The archive without the manifest becomes [`ARCHIVE`], the manifest [`MANIFEST`], which an
//! increment needs by itself. Every file is checked against the manifest on its way.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use mainstay_backup::ids::BackupId;
use mainstay_backup::layout;
use mainstay_backup::manifest::{LogNeed, Manifest, NativeSnapshot};
use mainstay_backup::source::{Snapshot, SnapshotSource, SourceError, SourceFile, Taken, Wish};
use mainstay_shared::backups::container::chunks::{Chunk, Chunks};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::archiver::note_found;
use super::checked::Range;
use super::coverage::{Line, MAJOR, Part, SEGMENT_SIZE, START, STOP, SYSTEM_IDENTIFIER, TIMELINE};
use super::engine::Facts;
use super::lineage::Lineage;
use super::settings::{ORDER, RUN};
use super::split::{MANIFEST, Split};
use super::state::{Job, Repo};
use super::wal::{Lsn, Segment};
use crate::agent::place::Place;
use crate::settings::PORT;

/// A backup's file with PostgreSQL's files, in the tar format.
pub const ARCHIVE: &str = "base.tar";

/// Bytes that are handed on at a time.
const CHUNK: usize = 256 << 10;
/// Chunks that may wait.
const WAITING: usize = 4;
/// Bytes that the program may write before they are read: as much as everybody may ask for. With the usual 64 KiB
/// both wake each other all the time.
const PIPE: usize = 1 << 20;
/// How long it may take until the log that a backup needs is stored.
const LOG: Duration = Duration::from_mins(30);
/// How often it is looked whether it is.
const LOOK: Duration = Duration::from_secs(2);

/// Makes base backups.
pub struct BaseBackup {
    /// Where PostgreSQL is.
    pub place: Arc<Place>,
    /// Where the parent's manifest is, and the log.
    pub repo: Arc<Repo>,
    /// What PostgreSQL said of itself.
    pub facts: Facts,
    /// Of its log.
    pub lineage: Lineage,
    /// Told what is being done.
    pub job: Arc<Job>,
}

impl BaseBackup {
    /// The parent's own manifest, as a file.
    async fn parent(&self, parent: &Manifest) -> Result<Option<PathBuf>, SourceError> {
        let Some(entry) = parent.files.iter().find(|file| file.name == MANIFEST) else {
            return Ok(None);
        };
        let path = self.place.mount(RUN).join("parent.manifest");
        let later = |e: &dyn std::fmt::Display| {
            SourceError::Later(format!("the manifest of {}: {e}", parent.id))
        };
        let mut file = tokio::fs::File::create(&path)
            .await
            .map_err(|e| later(&e))?;
        let got = self.repo.repository.getting().file(entry, &mut file).await;
        got.map_err(|e| later(&e))?;
        file.flush().await.map_err(|e| later(&e))?;
        Ok(Some(path))
    }

    fn command(&self, id: &BackupId, parent: Option<&PathBuf>) -> Command {
        let mut command = Command::new(self.place.program("pg_basebackup"));
        command
            .arg("--host")
            .arg(self.place.sockets())
            .args(["--port", &PORT.to_string(), "--username", "postgres"])
            .args(["--pgdata", "-", "--format", "tar", "--wal-method", "none"])
            .args(["--checkpoint", "fast", "--manifest-checksums", "CRC32C"])
            .args(["--no-password", "--no-estimate-size"])
            .args(["--label", &format!("mainstay {id}")]);
        if let Some(parent) = parent {
            command.arg(format!("--incremental={}", parent.display()));
        }
        command
            .env("LC_ALL", "C")
            .env("PGAPPNAME", "mainstay backup")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Starts it, and waits for its first bytes: what PostgreSQL refuses, it refuses before.
    async fn start(&self, id: &BackupId, parent: Option<&PathBuf>) -> Result<Started, SourceError> {
        let later = |e: io::Error| SourceError::Later(format!("pg_basebackup: {e}"));
        let mut child = self.command(id, parent).spawn().map_err(later)?;
        let stderr = child.stderr.take();
        let said = tokio::spawn(async move {
            let Some(stderr) = stderr else {
                return String::new();
            };
            let (mut lines, mut last) = (BufReader::new(stderr).lines(), String::new());
            while let Ok(Some(line)) = lines.next_line().await {
                let line = line.trim().trim_start_matches("pg_basebackup: ");
                tracing::debug!(line, "pg_basebackup");
                // Hints and details come after what went wrong.
                if line.starts_with("error") || last.is_empty() || !last.starts_with("error") {
                    line.clone_into(&mut last);
                }
            }
            last
        });
        let mut stdout = child
            .stdout
            .take()
            .ok_or_else(|| SourceError::Later("pg_basebackup has no output".to_owned()))?;
        if let Err(error) = rustix::pipe::fcntl_setpipe_size(&stdout, PIPE) {
            // It is slower, and nothing else.
            tracing::debug!(%error, "the pipe stays as it is");
        }
        let mut first = Vec::with_capacity(CHUNK);
        let read = stdout.read_buf(&mut first).await.map_err(later)?;
        if read == 0 {
            let status = child.wait().await.map_err(later)?;
            let said = said.await.unwrap_or_default();
            return Err(SourceError::Later(format!(
                "pg_basebackup ended ({status}): {said}"
            )));
        }
        Ok(Started {
            child,
            stdout: stdout.into_owned_fd().map_err(later)?,
            first,
            said,
        })
    }
}

struct Started {
    child: Child,
    stdout: OwnedFd,
    first: Vec<u8>,
    said: JoinHandle<String>,
}

impl SnapshotSource for BaseBackup {
    fn name(&self) -> String {
        format!("PostgreSQL {}", self.facts.version)
    }

    fn begin<'a>(
        &'a self,
        wish: &'a Wish<'a>,
    ) -> BoxFuture<'a, Result<Box<dyn Snapshot>, SourceError>> {
        Box::pin(async move {
            self.job.step("waiting for a checkpoint");
            let mut parent = match wish.parent {
                Some(manifest) => self.parent(manifest).await?.map(|path| (manifest, path)),
                None => None,
            };
            let started = match self
                .start(wish.id, parent.as_ref().map(|(_, path)| path))
                .await
            {
                Err(error) if parent.is_some() => {
                    // For example because what it needs of the log is not kept any more.
                    tracing::warn!(%error, "no increment: everything is taken");
                    parent = None;
                    self.start(wish.id, None).await?
                }
                other => other?,
            };
            let incremental = std::sync::atomic::Ordering::Relaxed;
            self.job.incremental.store(parent.is_some(), incremental);
            self.job.step("copying");
            let (archive, one) = mpsc::channel(WAITING);
            let (manifest, two) = mpsc::channel(WAITING);
            let (ended, outcome) = oneshot::channel();
            let pump = tokio::spawn(pump(started, archive, manifest, ended));
            Ok(Box::new(Running {
                parent: parent.map(|(manifest, _)| manifest.id.clone()),
                parts: vec![(MANIFEST, Chunks::new(two)), (ARCHIVE, Chunks::new(one))],
                part: None,
                outcome,
                pump,
                repo: Arc::clone(&self.repo),
                facts: self.facts.clone(),
                lineage: self.lineage.clone(),
                job: Arc::clone(&self.job),
            }) as Box<dyn Snapshot>)
        })
    }

    fn forget<'a>(&'a self, _: &'a NativeSnapshot) -> BoxFuture<'a, Result<(), SourceError>> {
        // It has no repository of its own.
        Box::pin(async { Ok(()) })
    }
}

struct Running {
    parent: Option<BackupId>,
    /// The next one last.
    parts: Vec<(&'static str, Chunks)>,
    part: Option<Chunks>,
    outcome: oneshot::Receiver<Result<Vec<Range>, String>>,
    pump: JoinHandle<()>,
    repo: Arc<Repo>,
    facts: Facts,
    lineage: Lineage,
    job: Arc<Job>,
}

impl Drop for Running {
    /// With the task the program ends.
    fn drop(&mut self) {
        self.pump.abort();
    }
}

impl Snapshot for Running {
    fn parent(&self) -> Option<BackupId> {
        self.parent.clone()
    }

    fn estimate(&self) -> Option<u64> {
        None
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Option<SourceFile<'_>>, SourceError>> {
        Box::pin(async move {
            let Some((name, chunks)) = self.parts.pop() else {
                return Ok(None);
            };
            Ok(Some(SourceFile {
                name: name.to_owned(),
                content: Box::new(self.part.insert(chunks)),
            }))
        })
    }

    fn finish(mut self: Box<Self>) -> BoxFuture<'static, Result<Taken, SourceError>> {
        Box::pin(async move {
            let ranges = (&mut self.outcome)
                .await
                .map_err(|_| SourceError::Later("the copy was broken off".to_owned()))?
                .map_err(SourceError::Later)?;
            let consistent_at = Timestamp::now();
            let [range] = ranges[..] else {
                return Err(SourceError::Later(
                    "the timeline changed while the copy was made".to_owned(),
                ));
            };
            let size = self.facts.size;
            let none = || SourceError::Later(format!("timeline {} is not known", range.timeline));
            let history = self
                .lineage
                .label(&self.repo.owner, range.timeline)
                .ok_or_else(none)?;
            let label = |lsn| {
                Segment::at(range.timeline, lsn, size)
                    .label(size)
                    .ok_or_else(none)
            };
            let log = LogNeed {
                history,
                from: label(range.start)?,
                until: label(Lsn(range.end.0.saturating_sub(1)))?,
            };
            self.job
                .step("waiting until the log that it needs is stored");
            wait_for(&self.repo, &log, range, size).await?;
            self.job.step("sealing");
            let details = BTreeMap::from(
                [
                    (SEGMENT_SIZE, size.bytes().to_string()),
                    (START, range.start.to_string()),
                    (STOP, range.end.to_string()),
                    (TIMELINE, range.timeline.to_string()),
                    (MAJOR, self.facts.major.to_string()),
                    (SYSTEM_IDENTIFIER, self.facts.system_identifier.clone()),
                    (ORDER, self.job.order.clone()),
                ]
                .map(|(key, value)| (key.to_owned(), value)),
            );
            Ok(Taken {
                consistent_at,
                log: Some(log),
                native: None,
                details,
            })
        })
    }
}

/// A backup counts only when it can be restored: with the log up to its end.
async fn wait_for(
    repo: &Repo,
    log: &LogNeed,
    range: Range,
    size: super::wal::SegmentSize,
) -> Result<(), SourceError> {
    let line = Line {
        parts: vec![Part {
            history: log.history.clone(),
            timeline: range.timeline,
            left: None,
        }],
        size,
    };
    let whole = || {
        line.whole_until(&repo.catalogue(), range.start)
            .is_some_and(|until| until >= range.end)
    };
    let (from, until) = (log.from.as_str(), log.until.as_str());
    let common = from
        .bytes()
        .zip(until.bytes())
        .take_while(|(a, b)| a == b)
        .count();
    let folder = layout::history(&log.history);
    let begun = Instant::now();
    loop {
        if whole() {
            return Ok(());
        }
        // Another instance may store it.
        let start = format!("{folder}{}", &from[..common]);
        match repo
            .repository
            .store()
            .list_beginning(&folder, &start)
            .await
        {
            Ok(found) => note_found(repo, &found),
            Err(error) if begun.elapsed() > LOG => {
                return Err(SourceError::Later(error.to_string()));
            }
            Err(_) => {}
        }
        if whole() {
            return Ok(());
        }
        if begun.elapsed() > LOG {
            return Err(SourceError::Later(format!(
                "the log that it needs, {from} to {until}, was not stored within {LOG:?}"
            )));
        }
        sleep(LOOK).await;
    }
}

/// Brings the program's output on its way, in two parts, and checks it.
async fn pump(
    started: Started,
    archive: mpsc::Sender<Chunk>,
    manifest: mpsc::Sender<Chunk>,
    ended: oneshot::Sender<Result<Vec<Range>, String>>,
) {
    let Started {
        mut child,
        stdout,
        first,
        said,
    } = started;
    let mut outputs = Outputs {
        archive: Some(archive),
        manifest,
    };
    // It ends with the program, and when nobody takes what it reads.
    let dividing = tokio::task::spawn_blocking(move || {
        let divided = divide(&stdout, first, &mut outputs);
        (outputs, divided)
    });
    let outcome = match dividing.await {
        Err(error) => Err(error.to_string()),
        Ok((outputs, divided)) => {
            let outcome = async {
                let split = divided?;
                let status = child.wait().await.map_err(|e| e.to_string())?;
                let said = said.await.unwrap_or_default();
                if !status.success() {
                    return Err(format!("pg_basebackup ended ({status}): {said}"));
                }
                split.finish()
            };
            let outcome = outcome.await;
            if let Err(why) = &outcome {
                outputs.broken(why).await;
            }
            outcome
        }
    };
    let _ = ended.send(outcome);
}

/// Where the two parts go.
struct Outputs {
    /// None once it is whole: who stores it has to see its end.
    archive: Option<mpsc::Sender<Chunk>>,
    manifest: mpsc::Sender<Chunk>,
}

impl Outputs {
    /// Whoever still reads must not take this for the end.
    async fn broken(self, why: &str) {
        for output in self.archive.into_iter().chain([self.manifest]) {
            let _ = output.send(Err(io::Error::other(why.to_owned()))).await;
        }
    }
}

/// Reads all that the program writes, waiting for it. A thread of its own takes what there is, while another compresses
/// and the third, which does everything else, is not held up.
fn divide(stdout: &OwnedFd, first: Vec<u8>, outputs: &mut Outputs) -> Result<Split, String> {
    let (mut split, mut chunk) = (Split::default(), first);
    loop {
        let ended = fill(stdout, &mut chunk).map_err(|e| e.to_string())?;
        let parts = split.take(chunk)?;
        let hung_up = |_| "storing it was broken off".to_owned();
        if let Some(archive) = &outputs.archive
            && !parts.archive.is_empty()
        {
            archive.blocking_send(Ok(parts.archive)).map_err(hung_up)?;
        }
        if split.is_whole() {
            // Only then is the list read, which may be long.
            outputs.archive = None;
        }
        if !parts.manifest.is_empty() {
            let sent = outputs.manifest.blocking_send(Ok(parts.manifest));
            sent.map_err(hung_up)?;
        }
        if ended {
            return Ok(split);
        }
        chunk = Vec::with_capacity(CHUNK);
    }
}

/// Reads until a chunk is full; whether it has ended.
fn fill(stdout: &OwnedFd, chunk: &mut Vec<u8>) -> io::Result<bool> {
    while chunk.len() < chunk.capacity() {
        match rustix::io::read(stdout, rustix::buffer::spare_capacity(chunk)) {
            Ok(0) => return Ok(true),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}
