//! The socket on which `push` asks whether PostgreSQL may let a file go. I/O.
//!
//! One line of JSON each way: [`Question`], then [`Answer`].

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mainstay_backup::api::ArchiveState;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::state::{Shared, lock};
use crate::agent::data::absent;

/// Longest question or answer.
const LINE: u64 = 64 << 10;
/// Longest time for a line.
const PATIENCE: Duration = Duration::from_secs(5);

/// What `push` asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Question {
    /// Name of the file.
    pub file: String,
    /// For how long it may wait, in milliseconds.
    pub patience_ms: u64,
}

/// What it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// PostgreSQL may let the file go.
    pub stored: bool,
    /// Why not, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Takes questions until the process ends.
///
/// # Errors
/// The socket cannot be made.
pub async fn serve(path: &Path, shared: Arc<Shared>) -> io::Result<()> {
    let listener = bind(path)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            if let Err(error) = answer(stream, &shared).await {
                tracing::debug!(%error, "a question broke off");
            }
        });
    }
}

/// Listens in place of who listened there before.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    absent(std::fs::remove_file(path))?;
    UnixListener::bind(path)
}

async fn answer(mut stream: UnixStream, shared: &Shared) -> io::Result<()> {
    let question: Question = line(&mut stream).await?;
    let answer = judge(&question, shared).await;
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    timeout(PATIENCE, stream.write_all(&text)).await?
}

async fn judge(question: &Question, shared: &Shared) -> Answer {
    let patience = Duration::from_millis(question.patience_ms);
    let mut moved = shared.engine.moved.subscribe();
    let there = || lock(&shared.engine.stored).contains(&question.file);
    let broken = || lock(&shared.engine.live).archive.state == ArchiveState::Broken;
    if !there() {
        shared.engine.archiver.notify_one();
        let _ = timeout(patience, moved.wait_for(|_| there() || broken())).await;
    }
    if there() {
        return Answer {
            stored: true,
            why: None,
        };
    }
    let reason = lock(&shared.engine.live).archive.reason.clone();
    Answer {
        stored: false,
        why: Some(reason.unwrap_or_else(|| "it is not stored yet".to_owned())),
    }
}

async fn line<T: serde::de::DeserializeOwned>(stream: &mut UnixStream) -> io::Result<T> {
    let mut text = String::new();
    let mut limited = BufReader::new(stream.take(LINE));
    timeout(PATIENCE, limited.read_line(&mut text)).await??;
    serde_json::from_str(&text).map_err(io::Error::from)
}

/// Asks.
///
/// # Errors
/// Nobody answers.
pub async fn ask(path: &Path, question: &Question) -> io::Result<Answer> {
    let mut stream = timeout(PATIENCE, UnixStream::connect(path)).await??;
    let mut text = serde_json::to_vec(question)?;
    text.push(b'\n');
    stream.write_all(&text).await?;
    let mut answer = String::new();
    let mut limited = BufReader::new((&mut stream).take(LINE));
    let patience = PATIENCE + Duration::from_millis(question.patience_ms);
    timeout(patience, limited.read_line(&mut answer)).await??;
    serde_json::from_str(&answer).map_err(io::Error::from)
}
