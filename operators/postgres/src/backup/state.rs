//! What the parts of the backup container share, as far as it is PostgreSQL's own.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use mainstay_backup::api::Archive;
use mainstay_shared::backups::container::{self, Ground};
use tokio::sync::{Notify, watch};

use super::coverage::{Line, Sample};
use crate::agent::place::Place;

pub use container::{Job, lock};

/// What the parts share.
pub type Shared = container::Shared<Beside>;
/// A repository that is this instance's.
pub type Repo = container::Repo<Own>;

/// What is known of whose the data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Own {
    /// The timeline with which the data's own log begins.
    pub first: u32,
}

/// What is known of the engine and its log now.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// It writes the log.
    pub writes: bool,
    /// The line of its log, once it is known.
    pub line: Option<Line>,
    /// Moments and the places that the log had then, in order.
    pub samples: VecDeque<Sample>,
    /// How far the log is stored.
    pub archive: Archive,
    /// What the store is being asked, if it is.
    pub asking: Option<Asking>,
}

/// A turn of storing that is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asking {
    /// Since when.
    pub since: Timestamp,
    /// So long it may take until the next piece is stored.
    pub most: SignedDuration,
}

impl Asking {
    /// Since when nothing was answered, if that is too long.
    pub fn silent(&self, last: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
        let since = self.since.max(last.unwrap_or(self.since));
        (now.duration_since(since) > self.most).then_some(since)
    }
}

/// PostgreSQL, beside which backups are made.
pub struct Beside {
    /// Where this runs.
    pub place: Arc<Place>,
    /// The same, as any engine's.
    pub ground: Ground,
    /// Files that PostgreSQL may let go.
    pub stored: Mutex<HashSet<String>>,
    /// Changes whenever `stored` or the archive's state does.
    pub moved: watch::Sender<u64>,
    /// PostgreSQL and its log.
    pub live: Mutex<Live>,
    /// Wakes who stores the log.
    pub archiver: Notify,
    reporter: Arc<Notify>,
}

impl Beside {
    /// Nothing is known. `reporter`: wakes who reports.
    pub fn new(place: Arc<Place>, reporter: Arc<Notify>) -> Self {
        Self {
            ground: Ground {
                me: place.me.clone(),
                listen: place.listen.clone(),
                root: place.root.clone(),
            },
            place,
            stored: Mutex::default(),
            moved: watch::channel(0).0,
            live: Mutex::default(),
            archiver: Notify::new(),
            reporter,
        }
    }

    /// PostgreSQL may let a file go that is not stored.
    pub fn let_go(&self, name: &str) {
        lock(&self.stored).insert(name.to_owned());
        self.moved();
    }

    /// Somebody may wait for what changed.
    pub fn moved(&self) {
        self.moved.send_modify(|n| *n += 1);
        self.reporter.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stores_a_piece_now_and_then_is_not_silent() {
        let begun: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let at = |seconds| begun + SignedDuration::from_secs(seconds);
        let asking = Asking {
            since: begun,
            most: SignedDuration::from_secs(60),
        };
        assert_eq!(asking.silent(None, at(60)), None);
        assert_eq!(asking.silent(None, at(61)), Some(begun));
        assert_eq!(asking.silent(Some(at(-500)), at(61)), Some(begun));
        assert_eq!(asking.silent(Some(at(50)), at(110)), None);
        assert_eq!(asking.silent(Some(at(50)), at(111)), Some(at(50)));
    }
}
