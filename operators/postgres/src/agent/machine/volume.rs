//! How much room the data's volume has.

use std::time::Duration;

use mainstay_shared::agent::api::Volume;
use mainstay_shared::agent::clock::boottime;
use mainstay_shared::election::message::Room;
use tokio::time::timeout;

use super::{Machine, writes};
use crate::agent::recovery;

/// It is looked at so often.
const EVERY: Duration = Duration::from_secs(2);
/// While log that waits fills it, in each turn but for those that follow at once.
const CLOSELY: Duration = Duration::from_millis(100);
/// What a promotion writes besides a file of the log, and more than that.
const SPARE: u64 = 4 << 20;
/// So many times what a promotion needs is ample.
const AMPLE: u64 = 8;
/// Size of a file of the log where there is none to look at.
const FILE: u64 = 16 << 20;

/// What was seen last.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// Its size; none before the first look.
    pub(super) volume: Option<Volume>,
    /// Size of a file of the log.
    pub(super) file: Option<u64>,
    /// Log that waits for the store, where that matters.
    pub(super) waiting: Option<u64>,
    /// When it was looked at, as time since boot.
    at: Option<Duration>,
}

impl Disk {
    /// What the election is told: a promotion begins a new file of the log. That it is not known is no reason
    /// to keep still, for the election asks the volume as well: a promise has to be written.
    pub(super) fn room(&self) -> Room {
        let needed = self.file.unwrap_or(FILE) + SPARE;
        match self.volume {
            Some(volume) if volume.free < needed => Room::Short,
            Some(volume) if volume.free >= needed.saturating_mul(AMPLE) => Room::Ample,
            _ => Room::Enough,
        }
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
        let every = if self.is_filling() { CLOSELY } else { EVERY };
        let lately = |at: Duration| now.saturating_sub(at) <= every;
        if self.disk.at.is_some_and(lately) {
            return;
        }
        self.disk.at = Some(now);
        let (folder, log) = (self.place.volume(), self.place.data().join("pg_wal"));
        // In a thread: a volume that hangs must not stop the loop.
        let counts = self.may_refuse_writes();
        let look = tokio::task::spawn_blocking(move || {
            let file = recovery::size(&log);
            let waiting = file.filter(|_| counts);
            let waiting = waiting.and_then(|file| writes::waiting(&log, file));
            (rustix::fs::statvfs(&folder), file, waiting)
        });
        let Ok(Ok((Ok(v), file, waiting))) = timeout(Duration::from_secs(2), look).await else {
            return;
        };
        let before = self.disk.room();
        self.disk.file = file;
        self.disk.waiting = waiting;
        self.disk.volume = Some(Volume {
            size: v.f_blocks * v.f_frsize,
            free: v.f_bavail * v.f_frsize,
        });
        let room = self.disk.room();
        if room != before {
            self.set_up();
        }
        match (before.fits(), room.fits()) {
            (true, false) => tracing::warn!("the volume has no room for a promotion any more"),
            (false, true) => {
                tracing::info!("the volume has room for a promotion again");
                self.engine.pauses.forgive();
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(free: u64, file: Option<u64>) -> Disk {
        Disk {
            volume: Some(Volume {
                size: 1 << 30,
                free,
            }),
            file,
            waiting: None,
            at: None,
        }
    }

    #[test]
    fn a_promotion_needs_a_file_of_the_log_and_a_little_more() {
        let room = |free, file| disk(free, file).room();
        assert_eq!(Disk::default().room(), Room::Enough, "not looked at");
        assert_eq!(room(FILE, None), Room::Short);
        assert_eq!(room(FILE + SPARE, None), Room::Enough);
        assert_eq!(room(FILE, Some(1 << 20)), Room::Enough, "smaller files");
        assert_eq!(
            room(FILE + SPARE, Some(64 << 20)),
            Room::Short,
            "larger files"
        );
        assert_eq!(room(8 * (FILE + SPARE), None), Room::Ample);
    }
}
