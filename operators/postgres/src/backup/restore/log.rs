//! Bringing the log back while PostgreSQL replays it: some segments ahead of it. I/O.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay_backup::pieces::PieceKey;
use mainstay_backup::repository::Repository;
use mainstay_backup::store::Reason;
use mainstay_backup::stream::GetError;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::super::socket::bind;
use super::super::state::lock;

/// Segments that are fetched ahead.
const AHEAD: usize = 6;
/// Longest time for a question.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest time for an answer: a slow store, and a large segment.
const ANSWER: Duration = Duration::from_mins(30);
/// What ends PostgreSQL's recovery, where a file that is missing would only end the log.
pub const FATAL: u8 = 200;

/// Where in a segment's name its number is, behind the timeline: sixteen hexadecimal digits, that sort as numbers do.
const SEGMENT: std::ops::Range<usize> = 8..24;

/// What PostgreSQL asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Question {
    /// Name of the file.
    file: String,
    /// Where it is to be, relative to the data directory.
    path: PathBuf,
}

/// What it gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Answer {
    /// It is there.
    Fetched,
    /// There is none.
    None,
    /// There is one, and it cannot be had: why.
    Fatal(String),
}

/// The log of one recovery.
pub struct Log {
    repository: Arc<Repository>,
    segments: Vec<(String, PieceKey)>,
    index: HashMap<String, usize>,
    histories: BTreeMap<String, PieceKey>,
    scratch: PathBuf,
    data: PathBuf,
    under_way: Mutex<HashMap<usize, JoinHandle<Result<PathBuf, String>>>>,
    /// Why recovery was ended.
    pub fatal: Mutex<Option<String>>,
    /// The last segment that PostgreSQL got.
    pub last: Mutex<Option<String>>,
    /// It was asked for a segment that would follow the last one: the rest has been replayed.
    pub exhausted: Notify,
}

impl Log {
    /// Of these segments, in order; `scratch` is on the volume of `data`.
    pub fn new(
        repository: Arc<Repository>,
        segments: Vec<(String, PieceKey)>,
        histories: BTreeMap<String, PieceKey>,
        scratch: PathBuf,
        data: PathBuf,
    ) -> Self {
        let names = segments.iter().map(|(name, _)| name.clone());
        Self {
            repository,
            index: names.zip(0..).collect(),
            segments,
            histories,
            scratch,
            data,
            under_way: Mutex::default(),
            fatal: Mutex::default(),
            last: Mutex::default(),
            exhausted: Notify::new(),
        }
    }

    /// Answers until it is dropped.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub async fn serve(self: Arc<Self>, socket: &Path) -> io::Result<()> {
        let listener = bind(socket)?;
        loop {
            let (stream, _) = listener.accept().await?;
            if let Err(error) = self.answer(stream).await {
                tracing::debug!(%error, "a question broke off");
            }
        }
    }

    async fn answer(&self, stream: UnixStream) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        let mut text = String::new();
        timeout(PATIENCE, stream.read_line(&mut text)).await??;
        let question: Question = serde_json::from_str(&text)?;
        let answer = self.fetch(&question).await;
        if let Answer::Fatal(why) = &answer {
            lock(&self.fatal).get_or_insert_with(|| why.clone());
        }
        let mut text = serde_json::to_vec(&answer)?;
        text.push(b'\n');
        stream.write_all(&text).await
    }

    async fn fetch(&self, question: &Question) -> Answer {
        let to = self.data.join(&question.path);
        let fetched = if let Some(at) = self.index.get(&question.file) {
            self.segment(*at, &to).await
        } else if let Some(key) = self.histories.get(&question.file) {
            get(&self.repository, key, &to).await
        } else {
            if self.is_after_all(&question.file) {
                self.exhausted.notify_one();
            }
            return Answer::None;
        };
        match fetched {
            Ok(()) => Answer::Fetched,
            Err(why) => Answer::Fatal(why),
        }
    }

    /// Whether a file is a segment beyond all that there are. Of newer timelines older ones are asked for too.
    fn is_after_all(&self, file: &str) -> bool {
        let last = self.segments.last().and_then(|(name, _)| name.get(SEGMENT));
        let asked = file.get(SEGMENT).filter(|_| file.len() == SEGMENT.end);
        asked.is_some_and(|asked| last.is_none_or(|last| asked > last))
    }

    async fn segment(&self, at: usize, to: &Path) -> Result<(), String> {
        let task = {
            let mut under_way = lock(&self.under_way);
            for ahead in at..(at + AHEAD).min(self.segments.len()) {
                under_way.entry(ahead).or_insert_with(|| self.begin(ahead));
            }
            under_way.remove(&at)
        };
        let (name, _) = &self.segments[at];
        let path = match task {
            Some(task) => task
                .await
                .map_err(|_| format!("fetching {name} was broken off"))??,
            None => return Err(format!("{name} was not fetched")),
        };
        tokio::fs::rename(&path, to)
            .await
            .map_err(|e| format!("{name} cannot be put in place: {e}"))?;
        *lock(&self.last) = Some(name.clone());
        Ok(())
    }

    fn begin(&self, at: usize) -> JoinHandle<Result<PathBuf, String>> {
        let (name, key) = self.segments[at].clone();
        let (path, repository) = (self.scratch.join(name), Arc::clone(&self.repository));
        tokio::spawn(async move {
            get(&repository, &key, &path).await?;
            Ok(path)
        })
    }
}

/// Fetches a piece; where the store keeps versions and the newest is no good, an older one that is.
async fn get(repository: &Repository, key: &PieceKey, to: &Path) -> Result<(), String> {
    let error = match get_version(repository, key, None, to).await {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    let worse = match &error {
        GetError::Damaged { .. } => true,
        GetError::Store(error) => error.reason == Reason::NotFound,
        _ => false,
    };
    if worse
        && let Ok(Some(version)) = repository.good_version(key).await
        && get_version(repository, key, Some(&version), to)
            .await
            .is_ok()
    {
        tracing::warn!(%error, version, "an older version of it is whole, and was taken");
        return Ok(());
    }
    Err(format!("the log cannot be brought back: {error}"))
}

async fn get_version(
    repository: &Repository,
    key: &PieceKey,
    version: Option<&str>,
    to: &Path,
) -> Result<(), GetError> {
    let mut file = tokio::fs::File::create(to)
        .await
        .map_err(GetError::Output)?;
    repository.read_piece(key, version, &mut file).await?;
    file.flush().await.map_err(GetError::Output)
}

/// Asks for a file as PostgreSQL's `restore_command` does, from its data directory. Returns the exit code.
///
/// # Errors
/// Nobody answers: what that means is for the caller to say, and it does not mean that there is no file.
pub async fn ask(socket: &Path, file: &str, path: &Path) -> io::Result<u8> {
    let mut stream = BufReader::new(timeout(PATIENCE, UnixStream::connect(socket)).await??);
    let question = Question {
        file: file.to_owned(),
        path: path.to_owned(),
    };
    let mut text = serde_json::to_vec(&question)?;
    text.push(b'\n');
    stream.write_all(&text).await?;
    let mut answer = String::new();
    timeout(ANSWER, stream.read_line(&mut answer)).await??;
    Ok(match serde_json::from_str(&answer)? {
        Answer::Fetched => 0,
        Answer::None => 1,
        Answer::Fatal(_) => FATAL,
    })
}
