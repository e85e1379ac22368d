//! What the parts of the backup container share.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use mainstay_backup::api::{Archive, OrderResult, PruneReport, RESULTS, Report};
use mainstay_backup::catalogue::Catalogue;
use mainstay_backup::ids::{BackupId, OwnerId};
use mainstay_backup::repository::{Owned, Repository, Writer};
use mainstay_backup::stream::Progress;
use tokio::sync::{Notify, watch};

use super::coverage::{Line, Sample};
use super::settings::Settings;
use crate::agent::place::Place;

/// A repository that is this instance's.
#[derive(Debug)]
pub struct Repo {
    /// The repository.
    pub repository: Repository,
    /// By which record it is ours.
    pub owned: Owned,
    /// The settings that it was opened with.
    pub settings: Settings,
    /// Whose the data is.
    pub owner: OwnerId,
    /// The timeline with which the data's own log begins.
    pub first: u32,
    /// What is in it, as far as it was read or written.
    pub catalogue: Mutex<Catalogue>,
    /// When it was read.
    pub read_at: Mutex<Option<Timestamp>>,
}

impl Repo {
    /// A writer.
    pub fn writer(&self) -> Writer<'_> {
        self.repository.writer(self.owned.clone())
    }

    /// What is in it.
    pub fn catalogue(&self) -> MutexGuard<'_, Catalogue> {
        lock(&self.catalogue)
    }
}

/// Why there is no repository to write to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Away {
    /// In a sentence.
    pub reason: String,
    /// It is another's.
    pub refused: bool,
    /// Whose this data is, if that is known.
    pub owner: Option<OwnerId>,
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

/// A backup that is being made.
#[derive(Debug)]
pub struct Job {
    /// The order.
    pub order: String,
    /// The backup.
    pub id: BackupId,
    /// Since when.
    pub begun: Timestamp,
    /// What is being done.
    pub step: Mutex<String>,
    /// Whether it holds only the changes since another.
    pub incremental: std::sync::atomic::AtomicBool,
    /// How far it is.
    pub progress: Arc<Progress>,
    /// Plain bytes that there are, about; 0: not known.
    pub total: std::sync::atomic::AtomicU64,
    /// Told to give it up.
    pub cancel: Notify,
}

/// What came of orders.
#[derive(Debug, Default)]
pub struct Jobs {
    /// The one that is being made.
    pub running: Option<Arc<Job>>,
    /// Whether retention is at work.
    pub pruning: bool,
    /// The last ones.
    pub results: VecDeque<OrderResult>,
    /// What retention did last.
    pub prune: Option<PruneReport>,
}

impl Jobs {
    /// Remembers what came of an order.
    pub fn ended(&mut self, result: OrderResult) {
        self.running = None;
        self.results.retain(|old| old.order != result.order);
        self.results.push_back(result);
        while self.results.len() > RESULTS {
            self.results.pop_front();
        }
    }
}

/// What the parts share.
pub struct Shared {
    /// Where this runs.
    pub place: Arc<Place>,
    /// The repository, or why there is none.
    pub repo: watch::Sender<Result<Arc<Repo>, Away>>,
    /// Hash of the settings in force.
    pub settings_hash: Mutex<Option<String>>,
    /// What is told.
    pub report: watch::Sender<Report>,
    /// Files that the engine may let go.
    pub stored: Mutex<HashSet<String>>,
    /// Changes whenever `stored` or the archive's state does.
    pub moved: watch::Sender<u64>,
    /// The engine and its log.
    pub live: Mutex<Live>,
    /// Orders.
    pub jobs: Mutex<Jobs>,
    /// Wakes who stores the log.
    pub archiver: Notify,
    /// Wakes who looks after the repository, who reads the catalogue then.
    pub keeper: Notify,
    /// Wakes who reports.
    pub reporter: Notify,
}

impl Shared {
    /// Nothing is known.
    pub fn new(place: Arc<Place>) -> Self {
        let report = Report {
            instance: place.me.instance.clone(),
            nonce: place.me.nonce.clone(),
            ..Report::default()
        };
        Self {
            place,
            repo: watch::channel(Err(Away {
                reason: "the repository has not been opened yet".to_owned(),
                ..Away::default()
            }))
            .0,
            settings_hash: Mutex::default(),
            report: watch::channel(report).0,
            stored: Mutex::default(),
            moved: watch::channel(0).0,
            live: Mutex::default(),
            jobs: Mutex::default(),
            archiver: Notify::new(),
            keeper: Notify::new(),
            reporter: Notify::new(),
        }
    }

    /// The repository.
    ///
    /// # Errors
    /// Why there is none.
    pub fn repo(&self) -> Result<Arc<Repo>, Away> {
        self.repo.borrow().clone()
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

/// A lock whose last holder may have ended badly: what it guards is whole all the same.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
