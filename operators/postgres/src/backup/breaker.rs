//! Lets log go that waits for the store before it fills the volume, where a person said so. I/O; how much is decided
//! in [`crate::room`].
//!
//! Beside the archiver and who looks after the repository, who may be in the middle of a request that nobody
//! answers: this asks no store for anything.

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use mainstay_backup::api::{Archive, ArchiveState};
use mainstay_shared::agent::clock::boottime;
use mainstay_shared::agent::paths;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::local;
use super::settings::{BACKUP_FILE, Settings};
use super::state::{Shared, lock};
use crate::agent::place::Place;
use crate::agent::sql;
use crate::room::{self, Backlog, Seen};

/// How often the volume is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// And while log that waits is about to fill it.
const CLOSE: Duration = Duration::from_millis(250);
/// A store that takes nothing for so long, while more than a few files wait, is away, whatever it says.
const AWAY: Duration = Duration::from_secs(5);
/// Pause after a checkpoint that failed.
const PAUSE: Duration = Duration::from_secs(2);

/// Files that were let go without being stored, and are there until PostgreSQL removes them.
#[derive(Debug, Default)]
struct Leaving {
    files: HashSet<String>,
    /// Rises with each of them.
    count: u64,
    /// How many of them a checkpoint was made for.
    settled: u64,
    checkpoint: Option<JoinHandle<Result<u64, String>>>,
    /// When one may be tried again.
    next: Duration,
}

/// Looks until the process ends.
pub async fn run(shared: Arc<Shared>) {
    let mut leaving = Leaving::default();
    let mut backlog = Backlog::anew();
    let mut asked = false;
    loop {
        // What cannot be read is as it was.
        if let Some(now) = breaks_archive(&shared.engine.place) {
            asked = now;
        }
        let mut soon = None;
        if asked {
            leaving.seen_through().await;
            soon = look(&shared, &mut leaving, &mut backlog);
        } else {
            (leaving, backlog) = (Leaving::default(), Backlog::anew());
        }
        sleep(soon.unwrap_or(LOOK)).await;
    }
}

/// Whether it is asked for, as far as the settings that are mounted can be read.
fn breaks_archive(place: &Place) -> Option<bool> {
    let text = fs::read_to_string(place.mount(paths::CONFIG).join(BACKUP_FILE)).ok()?;
    let settings: Settings = serde_json::from_str(&text).ok()?;
    Some(settings.break_archive)
}

impl Leaving {
    /// What came of a checkpoint.
    async fn seen_through(&mut self) {
        let Some(task) = self.checkpoint.take_if(|task| task.is_finished()) else {
            return;
        };
        match task.await {
            Ok(Ok(settled)) => self.settled = settled,
            Ok(Err(error)) => {
                tracing::warn!(
                    error,
                    "no checkpoint, so that log which was let go stays: it is tried again"
                );
                self.next = boottime() + PAUSE;
            }
            Err(error) => tracing::warn!(%error, "the checkpoint"),
        }
    }

    /// PostgreSQL removes them at a checkpoint, once it knows of all.
    fn have_removed(&mut self, place: &Arc<Place>) {
        if self.files.is_empty()
            || self.settled == self.count
            || self.checkpoint.is_some()
            || boottime() < self.next
        {
            return;
        }
        let (place, count) = (Arc::clone(place), self.count);
        self.checkpoint = Some(tokio::spawn(async move {
            let done = sql::checkpoint(&place).await;
            done.map(|()| count).map_err(|e| e.to_string())
        }));
    }
}

/// One look. When the next one is due; none where it cannot be told, or later will do.
fn look(shared: &Arc<Shared>, leaving: &mut Leaving, backlog: &mut Backlog) -> Option<Duration> {
    // There may be no data yet, or it is being replaced.
    let look = local::look(&shared.engine.place).ok()?;
    leaving.files.retain(|name| look.log.contains(name));
    let waiting: Vec<&String> = {
        let stored = lock(&shared.engine.stored);
        let waits = |name: &&String| !stored.contains(*name) && look.is_whole(name);
        look.ready.iter().filter(waits).collect()
    };
    let bytes = |files: usize| look.file.saturating_mul(files as u64);
    let seen = Seen {
        size: look.size,
        free: look.free,
        waiting: bytes(waiting.len()),
        file: look.file,
    };
    let gone = bytes(leaving.files.len());
    let now = boottime();
    backlog.look(&seen, now);
    let waits = backlog.since().map(|since| now.saturating_sub(since));
    let away = waits.is_some_and(|waits| {
        let archive = &lock(&shared.engine.live).archive;
        is_away(archive, waits, Timestamp::now())
    });
    let count = room::let_go(&seen, gone, away);
    for name in waiting.into_iter().take(usize::try_from(count).ok()?) {
        tracing::error!(
            name,
            "let go without being archived, as it is set: log that waits has nearly filled the volume"
        );
        lock(&shared.engine.live).archive.let_go += 1;
        leaving.files.insert(name.clone());
        leaving.count += 1;
        shared.engine.let_go(name);
    }
    if leaving.files.iter().all(|name| !look.ready.contains(name)) {
        leaving.have_removed(&shared.engine.place);
    }
    seen.is_close().then_some(CLOSE)
}

/// Whether the store takes no log, and it is no matter of a moment. `waits`: for how long more than a few
/// files have waited.
fn is_away(archive: &Archive, waits: Duration, now: Timestamp) -> bool {
    let ago = |at: Option<Timestamp>| {
        let span: Option<SignedDuration> = at.map(|at| now.duration_since(at));
        span.and_then(|span| Duration::try_from(span).ok())
    };
    let known = matches!(
        archive.state,
        ArchiveState::Unreachable | ArchiveState::Broken
    );
    let said = known && ago(archive.since).is_some_and(|since| since >= AWAY);
    // Nothing at all was stored: as long as it waits.
    let idle = ago(archive.last_at).unwrap_or(Duration::MAX).min(waits);
    said || idle >= AWAY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_takes_log_is_not_away_for_what_waits_a_moment() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let before = |seconds| Some(now - SignedDuration::from_secs(seconds));
        let archive = |state, since, last_at| Archive {
            state,
            since: before(since),
            last_at: before(last_at),
            ..Archive::default()
        };
        let away = |archive: &Archive, waits| is_away(archive, Duration::from_secs(waits), now);
        let ok = archive(ArchiveState::Ok, 3600, 50);
        assert!(!away(&ok, 0), "a burst after quiet times");
        assert!(!away(&archive(ArchiveState::Behind, 60, 1), 60));
        assert!(away(&ok, 5), "it hangs, and nobody says so");
        let lost = |since| archive(ArchiveState::Unreachable, since, since);
        assert!(!away(&lost(1), 1), "it is just being opened");
        assert!(away(&lost(5), 0), "that is known");
        assert!(away(&archive(ArchiveState::Broken, 60, 60), 0));
        assert!(away(&Archive::default(), 5) && !away(&Archive::default(), 4));
    }
}
