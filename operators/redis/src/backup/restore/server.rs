//! A Redis of its own, which reads a snapshot and writes what the set's engine will start from, or in a drill starts from
//! that: nobody outside this container reaches it. I/O.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::super::engine::{keys, number};
use crate::agent::mark::{LIBRARY, Mark};
use crate::agent::session::mark_in;
use crate::agent::vitals::Vitals;
use crate::resp::{Connection, RespError, Value, Words, words};
use crate::settings::Persistence;

/// The snapshot that it reads, in its folder; and the one that it writes.
pub const SNAPSHOT: &str = "dump.rdb";
/// Folder and files of an append-only file, as Redis names them by itself: the list of its parts, and the first part.
const LOG: &str = "appendonlydir";
const PARTS: &str = "appendonly.aof.manifest";
const FIRST: &str = "appendonly.aof.1.base.rdb";
/// Longest wait for one answer; it is asked nothing that takes long.
const ANSWER: Duration = Duration::from_secs(30);
/// How often it is looked whether something is done.
const LOOK: Duration = Duration::from_millis(100);
/// Longest time from the wish to end until it has ended: it may write all it has.
const STOP: Duration = Duration::from_mins(60);
/// About how many keys are told at once: an answer is of bounded length, and names may be long.
const SCANNED: &str = "100";
/// Lines of its log that say why it ended.
const LINES: usize = 3;

/// What it has in memory.
#[derive(Clone, Debug)]
pub struct Held {
    /// As its agent would see it.
    pub vitals: Vitals,
    /// The dataset's mark.
    pub mark: Option<Mark>,
    /// Keys by database.
    pub keys: BTreeMap<u32, u64>,
}

/// What it starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// A snapshot, as it came from the repository. Its checksum has to be right.
    Snapshot,
    /// The same as the first part of an append-only file.
    Beginning,
    /// What was written for an engine with such persistence. Every value is gone through as well, not only the checksum,
    /// and nothing that is cut off is passed over.
    Kept(Persistence),
}

/// Makes the snapshot in this folder the first part of an append-only file, whose next parts are what is written from then
/// on. Redis makes such a first part itself when it rewrites its file.
///
/// # Errors
/// The folder cannot be written.
pub fn begin_log(data: &Path) -> std::io::Result<()> {
    let log = data.join(LOG);
    fs::create_dir(&log)?;
    fs::rename(data.join(SNAPSHOT), log.join(FIRST))?;
    fs::write(log.join(PARTS), format!("file {FIRST} seq 1 type b\n"))
}

/// A server that runs.
pub struct Server {
    child: Child,
    log: PathBuf,
    socket: PathBuf,
}

impl Server {
    /// Starts one on what is in `data`; its socket and log are in `scratch`.
    ///
    /// # Errors
    /// It cannot be started; a sentence.
    pub fn start(
        program: &Path,
        data: &Path,
        scratch: &Path,
        databases: Option<u32>,
        reads: Reads,
    ) -> Result<Self, String> {
        let failed = |e: std::io::Error| format!("{}: {e}", program.display());
        let (log, socket) = (scratch.join("log"), scratch.join("redis.sock"));
        let output = fs::File::create(&log).map_err(failed)?;
        let mut command = Command::new(program);
        let mut set = |name: &str, value: &str| {
            command.args([&format!("--{name}"), value]);
        };
        set("port", "0");
        set("unixsocket", &socket.display().to_string());
        set("unixsocketperm", "700");
        set("dir", &data.display().to_string());
        set("dbfilename", SNAPSHOT);
        match reads {
            // It is read only where there is no append-only file yet.
            Reads::Snapshot => set("appendonly", "no"),
            Reads::Beginning => {
                set("appendonly", "yes");
                set("auto-aof-rewrite-percentage", "0");
                set("aof-load-truncated", "no");
            }
            Reads::Kept(persistence) => {
                let is_log = persistence == Persistence::Aof;
                set("appendonly", if is_log { "yes" } else { "no" });
                set("auto-aof-rewrite-percentage", "0");
                set("aof-load-truncated", "no");
                set("sanitize-dump-payload", "yes");
            }
        }
        set("save", "");
        set("daemonize", "no");
        set("maxmemory", "0");
        if let Some(databases) = databases {
            set("databases", &databases.to_string());
        }
        command
            .env("LANG", "C.UTF-8")
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(failed)?)
            .stderr(output)
            .kill_on_drop(true);
        let child = command.spawn().map_err(failed)?;
        Ok(Self { child, log, socket })
    }

    /// What it said last.
    fn words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        // What it says of the node at each start is no reason.
        let lines = text.lines().filter(|line| !line.contains("overcommit"));
        let lines: Vec<&str> = lines.collect();
        // A process and the time come before what is said: `1:M 02 Jan 2026 03:04:05.678 # …`.
        let said = |line: &&str| {
            let at = line.find(" # ").or_else(|| line.find(" * "));
            at.map_or((*line).to_owned(), |at| line[at + 3..].to_owned())
        };
        let last = lines.len().saturating_sub(LINES);
        let last: Vec<String> = lines.iter().skip(last).map(said).collect();
        last.join("; ")
    }

    /// Waits until it has read the snapshot; `progress` is told the bytes it has read.
    ///
    /// # Errors
    /// It refuses it: what it said.
    pub async fn read(&mut self, mut progress: impl FnMut(u64)) -> Result<(), String> {
        loop {
            if let Some(status) = self.child.try_wait().map_err(|e| e.to_string())? {
                return Err(format!("Redis ended ({status}): {}", self.words()));
            }
            match self.call(words(["INFO", "persistence"])).await {
                Ok(info) => {
                    let info = info.text().unwrap_or_default();
                    if number(&info, "loading") == Some(0) {
                        return Ok(());
                    }
                    progress(number(&info, "loading_loaded_bytes").unwrap_or(0));
                }
                // It does not listen yet, or is about to end.
                Err(error) => tracing::debug!(%error, "Redis does not answer yet"),
            }
            sleep(LOOK).await;
        }
    }

    /// A connection that may do everything.
    ///
    /// # Errors
    /// It does not listen.
    pub async fn connect(&self) -> Result<Connection, RespError> {
        Connection::unix(&self.socket).await
    }

    /// One command, by who may do everything, and its answer.
    ///
    /// # Errors
    /// It is refused, or not answered in time; a sentence.
    pub async fn call(&self, command: Words) -> Result<Value, String> {
        let asked = async {
            let mut connection = self.connect().await?;
            connection.call(command).await
        };
        let answer = timeout(ANSWER, asked).await;
        let answer = answer.map_err(|_| "Redis does not answer in time".to_owned())?;
        answer.map_err(|e| e.to_string())
    }

    /// What it has.
    ///
    /// # Errors
    /// No answer; a sentence.
    pub async fn held(&self) -> Result<Held, String> {
        let info = self.call(words(["INFO"])).await?;
        let info = info.text().unwrap_or_default();
        let list = words(["FUNCTION", "LIST", "LIBRARYNAME", LIBRARY, "WITHCODE"]);
        let mark = mark_in(&self.call(list).await?);
        let vitals = Vitals::read(&info, mark.clone(), 0);
        Ok(Held {
            vitals: vitals.ok_or_else(|| "Redis does not say what it is".to_owned())?,
            mark,
            keys: keys(&info),
        })
    }

    /// Goes through the names of all keys of the first database.
    ///
    /// # Errors
    /// No answer; a sentence.
    pub async fn keys(&self, mut each: impl FnMut(&[u8])) -> Result<(), String> {
        let mut connection = self.connect().await.map_err(|e| e.to_string())?;
        let mut cursor = "0".to_owned();
        loop {
            let scan = words(["SCAN", &cursor, "COUNT", SCANNED]);
            let answer = timeout(ANSWER, connection.call(scan)).await;
            let answer = answer.map_err(|_| "Redis does not answer in time".to_owned())?;
            let answer = answer.map_err(|e| e.to_string())?;
            let [next, keys] = answer.items() else {
                return Err("Redis does not say which keys there are".to_owned());
            };
            for key in keys.items() {
                if let Value::Bulk(key) = key {
                    each(key);
                }
            }
            cursor = next.text().unwrap_or_default();
            if cursor == "0" {
                return Ok(());
            }
        }
    }

    /// Gives the dataset this mark.
    ///
    /// # Errors
    /// It refuses; a sentence.
    pub async fn mark(&self, mark: &Mark) -> Result<(), String> {
        let load = words(["FUNCTION", "LOAD", "REPLACE", &mark.code()]);
        self.call(load).await.map(drop)
    }

    /// Has it end when everything is in the file that it has read, or in another one in its place.
    ///
    /// # Errors
    /// It did not; what it said.
    pub async fn leave(self, reads: Reads) -> Result<(), String> {
        let last = match reads {
            // It syncs its append-only file when it ends.
            Reads::Beginning | Reads::Kept(_) => "NOSAVE",
            Reads::Snapshot => "SAVE",
        };
        self.end(last).await
    }

    /// Has it end, by `SHUTDOWN` with this word.
    ///
    /// # Errors
    /// It does not, or not in order; what it said.
    pub async fn end(mut self, last: &str) -> Result<(), String> {
        // It says nothing when it does: its connections end.
        let mut connection = self.connect().await.map_err(|e| e.to_string())?;
        let end = timeout(STOP, connection.call(words(["SHUTDOWN", last])));
        if let Ok(Err(RespError::Refused(why))) = end.await {
            return Err(format!("Redis does not end: {why}; {}", self.words()));
        }
        let ended = timeout(STOP, self.child.wait()).await;
        match ended {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(format!("Redis ended ({status}): {}", self.words())),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("Redis does not end".to_owned()),
        }
    }
}
