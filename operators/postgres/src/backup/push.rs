//! What PostgreSQL runs as its `archive_command`: success only when the file is in the repository, or when
//! nobody ever needs it. I/O.
//!
//! It waits for a store that is away, since PostgreSQL itself pauses for a minute after three failures: the
//! log would lie there for as long after the store is back. It does not wait when PostgreSQL stops, which
//! waits for its archiver, nor when PostgreSQL is gone, whose archiver would keep its memory from the next one.

use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::socket::{Question, ask};

/// How long a file is waited for before PostgreSQL is told, and writes into its log, that it is kept.
const PATIENCE: Duration = Duration::from_mins(5);
/// How long one question may take.
const TURN: Duration = Duration::from_secs(20);
/// Between two questions, when the first is answered at once.
const PAUSE: Duration = Duration::from_millis(500);
/// The wait while PostgreSQL stops, which waits for us: an orderly stop, and with it a hand-over, must not
/// wait for a store. What is not stored then, the next primary stores.
const STOPPING: Duration = Duration::from_secs(1);
/// How often PostgreSQL is looked after.
const LOOK: Duration = Duration::from_millis(200);
/// What ends PostgreSQL's archiver at once: above 125 it does not try again.
pub const GIVE_UP: u8 = 200;

/// Why the file has to stay.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Kept {
    /// In a sentence; PostgreSQL writes it into its log.
    pub why: String,
    /// Whether PostgreSQL should not try again now.
    pub give_up: bool,
}

/// What the server is doing for which we run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    Runs,
    Stops,
    Gone,
}

/// Asks for a file, by its path as PostgreSQL gives it: relative to the data directory, where this runs.
///
/// # Errors
/// It has to stay.
pub async fn push(socket: &Path, path: &Path, data: &Path) -> Result<(), Kept> {
    wait(socket, path, data, PATIENCE).await
}

async fn wait(socket: &Path, path: &Path, data: &Path, patience: Duration) -> Result<(), Kept> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| Kept {
        why: format!("{} is no file of the log", path.display()),
        give_up: false,
    })?;
    let mut why = "it is not stored yet".to_owned();
    let stored = tokio::select! {
        biased;
        stored = timeout(patience, stored(socket, name, &mut why)) => stored.is_ok(),
        () = ending(data) => false,
    };
    if stored {
        return Ok(());
    }
    Err(Kept {
        why: format!("{name} is kept: {why}"),
        give_up: server(data) != Server::Runs,
    })
}

/// Asks until the file is stored; why it is not yet.
async fn stored(socket: &Path, name: &str, why: &mut String) {
    let question = Question {
        file: name.to_owned(),
        patience_ms: u64::try_from(TURN.as_millis()).unwrap_or_default(),
    };
    loop {
        let begun = Instant::now();
        match ask(socket, &question).await {
            Ok(answer) if answer.stored => return,
            Ok(answer) => {
                if let Some(reason) = answer.why {
                    *why = reason;
                }
            }
            Err(error) => *why = format!("the backup container does not answer: {error}"),
        }
        sleep(PAUSE.saturating_sub(begun.elapsed())).await;
    }
}

/// Ends when PostgreSQL can wait no longer.
async fn ending(data: &Path) {
    loop {
        match server(data) {
            Server::Runs => sleep(LOOK).await,
            Server::Stops => return sleep(STOPPING).await,
            Server::Gone => return,
        }
    }
}

/// Its lock file has its process on the first line, and on the eighth whether it has been told to stop. That
/// the file is not there says nothing: an orderly stop waits for us before it takes it away.
fn server(data: &Path) -> Server {
    let text = std::fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    let mut lines = text.lines();
    let pid = lines.next().and_then(|pid| pid.trim().parse::<u32>().ok());
    if pid.is_some_and(|pid| !lives(pid)) {
        return Server::Gone;
    }
    if lines.nth(6).is_some_and(|line| line.trim() == "stopping") {
        return Server::Stops;
    }
    Server::Runs
}

/// A process that has ended and was not waited for yet does not live.
fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.trim_start().chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "pg_wal/000000010000000000000001";

    fn lock_file(data: &Path, pid: u32, status: &str) {
        let text = format!("{pid}\n/data\n2\n5432\n/run\n*\n  3 4\n{status}\n");
        std::fs::write(data.join("postmaster.pid"), text).unwrap();
    }

    #[test]
    fn a_stop_is_seen_in_the_lock_file() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(server(folder.path()), Server::Runs);
        for (status, expected) in [
            ("ready   ", Server::Runs),
            ("stopping", Server::Stops),
            ("standby ", Server::Runs),
        ] {
            lock_file(folder.path(), std::process::id(), status);
            assert_eq!(server(folder.path()), expected, "{status}");
        }
    }

    #[test]
    fn a_server_that_is_gone_is_seen_whether_or_not_it_was_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        lock_file(folder.path(), child.id(), "ready");
        let begun = std::time::Instant::now();
        while server(folder.path()) != Server::Gone {
            assert!(begun.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(10));
        }
        child.wait().unwrap();
        assert_eq!(server(folder.path()), Server::Gone);
    }

    #[tokio::test]
    async fn without_anybody_who_answers_the_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let patience = Duration::from_millis(700);
        let kept = wait(&socket, Path::new(FILE), folder.path(), patience).await;
        let kept = kept.unwrap_err();
        assert!(
            kept.why.contains("000000010000000000000001 is kept")
                && kept.why.contains("does not answer"),
            "{kept}"
        );
        assert!(!kept.give_up);
    }

    #[tokio::test]
    async fn a_stop_ends_a_wait_that_has_begun() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().to_owned();
        lock_file(&data, std::process::id(), "ready");
        let waits = tokio::spawn({
            let data = data.clone();
            async move { push(&data.join("socket"), Path::new(FILE), &data).await }
        });
        sleep(Duration::from_millis(300)).await;
        assert!(!waits.is_finished());
        lock_file(&data, std::process::id(), "stopping");
        let kept = timeout(Duration::from_secs(10), waits).await.unwrap();
        assert!(kept.unwrap().unwrap_err().give_up);
    }

    #[tokio::test]
    async fn who_answers_later_is_waited_for() {
        use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let waits = tokio::spawn({
            let (socket, data) = (socket.clone(), folder.path().to_owned());
            async move { push(&socket, Path::new(FILE), &data).await }
        });
        sleep(Duration::from_millis(300)).await;
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        for answer in [
            "{\"stored\":false,\"why\":\"away\"}\n",
            "{\"stored\":true}\n",
        ] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut question = String::new();
            let mut reader = BufReader::new(&mut stream);
            reader.read_line(&mut question).await.unwrap();
            assert!(question.contains("000000010000000000000001"), "{question}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        assert_eq!(waits.await.unwrap(), Ok(()));
    }
}
