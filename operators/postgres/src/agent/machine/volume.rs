//! How much room the data's volume has.

use std::time::Duration;

use mainstay_shared::agent::api::Volume;
use mainstay_shared::agent::clock::boottime;
use tokio::time::timeout;

use super::Machine;
use crate::agent::recovery;

/// It is looked at so often,
const EVERY: Duration = Duration::from_secs(10);
/// and so often while a promotion would not fit.
const FULL: Duration = Duration::from_secs(1);
/// What a promotion writes besides a file of the log, and more than that.
const SPARE: u64 = 4 << 20;
/// Size of a file of the log where there is none to look at.
const FILE: u64 = 16 << 20;

/// What was seen last.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Its size; none before the first look.
    pub(super) volume: Option<Volume>,
    /// Size of a file of the log.
    file: Option<u64>,
    /// When it was looked at, as time since boot.
    at: Option<Duration>,
}

impl Room {
    /// Whether a promotion fits: it begins a new file of the log. Unknown is no reason to keep
    /// still, for the election asks the volume as well: a promise has to be written.
    pub(super) fn fits(&self) -> bool {
        let needed = self.file.unwrap_or(FILE) + SPARE;
        self.volume.is_none_or(|volume| volume.free >= needed)
    }

    /// The next turn looks again, however short ago the last was.
    pub(super) fn forget(&mut self) {
        self.at = None;
    }
}

impl Machine {
    /// Look, if it is time, and tell the election whether this instance could lead.
    pub(super) async fn look_at_volume(&mut self) {
        let now = boottime();
        let every = if self.room.fits() { EVERY } else { FULL };
        if self
            .room
            .at
            .is_some_and(|at| now.saturating_sub(at) <= every)
        {
            return;
        }
        self.room.at = Some(now);
        let (folder, log) = (self.place.volume(), self.place.data().join("pg_wal"));
        // In a thread: a volume that hangs must not stop the loop.
        let look = tokio::task::spawn_blocking(move || {
            (rustix::fs::statvfs(&folder), recovery::size(&log))
        });
        let Ok(Ok((Ok(v), file))) = timeout(Duration::from_secs(2), look).await else {
            return;
        };
        let before = self.room.fits();
        self.room.file = file;
        self.room.volume = Some(Volume {
            size: v.f_blocks * v.f_frsize,
            free: v.f_bavail * v.f_frsize,
        });
        let fits = self.room.fits();
        if fits != before {
            tracing::warn!(fits, "room on the volume for a promotion");
            self.set_up();
        }
        if fits && !before {
            self.pauses.forgive();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(free: u64, file: Option<u64>) -> Room {
        Room {
            volume: Some(Volume {
                size: 1 << 30,
                free,
            }),
            file,
            at: None,
        }
    }

    #[test]
    fn a_promotion_needs_a_file_of_the_log_and_a_little_more() {
        assert!(Room::default().fits(), "not looked at");
        assert!(!room(FILE, None).fits());
        assert!(room(FILE + SPARE, None).fits());
        assert!(room(FILE, Some(1 << 20)).fits(), "smaller files");
        assert!(!room(FILE + SPARE, Some(64 << 20)).fits(), "larger files");
    }
}
