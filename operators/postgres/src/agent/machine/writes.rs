//! Writes that are refused while log that is not stored has nearly filled the volume. I/O; when they are is
//! decided in [`crate::room`].

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mainstay_shared::agent::clock::boottime;
use mainstay_shared::agent::task::Task;
use mainstay_shared::election::message::Wanted;

use super::super::sql;
use super::Machine;
use crate::backup::local;
use crate::room::{Backlog, Marks, Seen, Writes};
use crate::settings::ArchiveSettings;

/// Sessions that write all the same are ended so often; and while there are any.
const END: Duration = Duration::from_millis(250);
const END_MORE: Duration = Duration::from_millis(100);

/// What was decided, and what is being done.
#[derive(Default)]
pub(super) struct Held {
    /// Whether writes are taken.
    pub(super) writes: Writes,
    /// Since when the store takes too little.
    backlog: Backlog,
    /// What may go of the log has gone, since it is stored.
    settled: bool,
    /// A checkpoint, with which it goes.
    pub(super) checkpoint: Option<Task<Result<(), String>>>,
    /// Sessions are being ended.
    pub(super) ending: Option<Task<Result<u64, String>>>,
    ended_at: Duration,
    /// The last time there were some.
    some: bool,
}

impl Held {
    /// Writes are taken; what was seen of the room stays.
    fn take(&mut self) {
        *self = Self {
            backlog: self.backlog,
            ..Self::default()
        };
    }
}

/// Bytes of the log that wait to be archived: PostgreSQL notes each file's name. None where that cannot be told.
pub(super) fn waiting(log: &Path, file: u64) -> Option<u64> {
    let count = local::ready_in(log).ok()?.len();
    Some(file.saturating_mul(u64::try_from(count).ok()?))
}

impl Machine {
    /// Whether log that waits is looked after at all.
    pub(super) fn may_refuse_writes(&self) -> bool {
        self.archive().is_some()
    }

    fn archive(&self) -> Option<ArchiveSettings> {
        let (config, _) = self.mounts.config.as_ref()?;
        config.engine.archive
    }

    /// What is done at which marks. Where the backup container is to let log go, it may be away, or too slow: a
    /// volume that is full ends the server, so writes are refused just before.
    fn marks(&self, seen: &Seen) -> Option<Marks> {
        let archive = self.archive()?;
        Some(if archive.stop_writes {
            seen.marks()
        } else {
            seen.marks().last_resort()
        })
    }

    /// What was seen of volume and log.
    fn filled(&self) -> Option<Seen> {
        let volume = self.disk.volume?;
        Some(Seen {
            size: volume.size,
            free: volume.free,
            waiting: self.disk.waiting?,
            file: self.disk.file?,
        })
    }

    /// Whether the volume has to be looked at again soon.
    pub(super) fn is_filling(&self) -> bool {
        self.held.writes != Writes::Taken
            || (self.may_refuse_writes() && self.filled().is_some_and(|seen| seen.is_close()))
    }

    /// Decide whether writes are taken, before the configuration is: an agent that starts beside a primary which
    /// refuses them goes on with it. What is not known changes nothing.
    pub(super) fn judge_writes(&mut self) {
        let before = self.held.writes;
        let now = boottime();
        let seen = self.filled();
        let judged = seen.and_then(|seen| {
            let marks = self.marks(&seen)?;
            Some((seen, marks, seen.is_crowded(&marks, 0)))
        });
        // Of a replica too: it may be promoted with log that waits.
        if let Some(seen) = &seen {
            self.held.backlog.look(seen, now);
        }
        let asked = match self.wanted() {
            Wanted::Primary { .. } => self.may_refuse_writes(),
            // Left as it is.
            Wanted::Unchanged => return,
            _ => false,
        };
        if !asked {
            if before != Writes::Taken {
                tracing::info!("writes are taken again: it is not asked for, or not the primary");
                self.held.take();
            }
            return;
        }
        let Some((seen, marks, crowded)) = judged else {
            return;
        };
        let crowded = crowded && (self.held.backlog.lasts(now) || seen.free < marks.at_once);
        let next = before.next(&seen, &marks, crowded, self.held.settled);
        if next == before {
            return;
        }
        let (free, waiting) = (seen.free >> 20, seen.waiting >> 20);
        tracing::warn!(
            now = ?next,
            free_mib = free,
            waiting_mib = waiting,
            "whether writes are taken changes"
        );
        if next == Writes::Taken {
            self.held.take();
        }
        self.held.writes = next;
        self.monitor.look.notify_one();
    }

    /// See to it that nobody writes while writes are refused, and that what is stored makes room.
    pub(super) fn refuse_writers(&mut self) {
        if self.held.writes == Writes::Taken {
            return;
        }
        self.end_writers();
        if let Some(seen) = self.filled() {
            self.let_log_go(&seen);
        }
    }

    /// A session may have asked for writes by itself, and one that began before may go on.
    fn end_writers(&mut self) {
        let now = boottime();
        let every = if self.held.some { END_MORE } else { END };
        if self.held.ending.is_some() || now.saturating_sub(self.held.ended_at) < every {
            return;
        }
        self.held.ended_at = now;
        let place = Arc::clone(&self.place);
        let all = self.held.writes == Writes::Closed;
        self.held.ending = Some(Box::pin(async move {
            let ended = sql::end_writers(&place, all).await;
            ended.map_err(|e| e.to_string())
        }));
    }

    pub(super) fn writers_ended(&mut self, done: Result<u64, String>) {
        self.held.ending = None;
        self.held.some = done.as_ref().is_ok_and(|ended| *ended > 0);
        match done {
            Ok(0) => {}
            Ok(ended) => tracing::info!(ended, "sessions that wrote were ended"),
            Err(why) => tracing::warn!(%why, "sessions that write are not ended"),
        }
    }

    /// What was stored is let go at a checkpoint, of which a server without writes makes none.
    fn let_log_go(&mut self, seen: &Seen) {
        if !seen.is_stored() {
            self.held.settled = false;
            return;
        }
        if self.held.settled || self.held.checkpoint.is_some() {
            return;
        }
        let place = Arc::clone(&self.place);
        self.held.checkpoint = Some(Box::pin(async move {
            sql::checkpoint(&place).await.map_err(|e| e.to_string())
        }));
    }

    pub(super) fn log_has_gone(&mut self, done: Result<(), String>) {
        self.held.checkpoint = None;
        match done {
            Ok(()) => {
                self.held.settled = true;
                self.disk.forget();
            }
            Err(why) => tracing::warn!(%why, "no checkpoint, so that log stays"),
        }
    }

    /// In a sentence why writes are refused; none where they are taken.
    pub(super) fn refuses_writes(&self) -> Option<String> {
        let first = match self.held.writes {
            Writes::Taken => return None,
            Writes::Refused => "it refuses writes",
            Writes::Closed => "it lets no client in",
        };
        Some(format!(
            "{first}, since log that the store does not take has nearly filled the volume: bring the store back, or \
             raise storage.size"
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_waits_is_told_by_the_names() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(waiting(folder.path(), 16), None, "there is no log yet");
        let notes = folder.path().join("archive_status");
        fs::create_dir(&notes).unwrap();
        assert_eq!(waiting(folder.path(), 16), Some(0));
        for name in ["1.ready", "2.ready", "3.done", "ready"] {
            fs::write(notes.join(name), "").unwrap();
        }
        assert_eq!(waiting(folder.path(), 16), Some(32));
    }
}
