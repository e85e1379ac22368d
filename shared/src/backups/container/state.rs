//! What the parts of the backup container share.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use mainstay_backup::api::{OrderResult, PruneReport, RESULTS, Report};
use mainstay_backup::catalogue::Catalogue;
use mainstay_backup::ids::{BackupId, OwnerId};
use mainstay_backup::repository::{Owned, Repository, Writer};
use mainstay_backup::stream::Progress;
use tokio::sync::{Notify, watch};

use super::Engine;
use super::settings::Settings;
use crate::agent::paths::under;
use crate::agent::place::{self, Me, PlaceError, address, listen};

/// Where this runs.
#[derive(Clone, Debug)]
pub struct Ground {
    /// Name of the instance.
    pub me: Me,
    /// Addresses to listen on.
    pub listen: String,
    /// Folder under which all others are; `/` in a container.
    pub root: PathBuf,
}

impl Ground {
    /// From the environment.
    ///
    /// # Errors
    /// See [`PlaceError`].
    pub fn from_environment() -> Result<Self, PlaceError> {
        Ok(Self {
            me: Me::from_environment()?,
            listen: listen(),
            root: place::root(),
        })
    }

    /// Where one of our own servers listens.
    pub fn address(&self, port: i32) -> SocketAddr {
        address(&self.listen, port)
    }

    /// A mount.
    pub fn mount(&self, path: &str) -> PathBuf {
        under(&self.root, path)
    }
}

/// A repository that is this instance's.
#[derive(Debug)]
pub struct Repo<D> {
    /// The repository.
    pub repository: Repository,
    /// By which record it is ours.
    pub owned: Owned,
    /// The settings that it was opened with.
    pub settings: Settings,
    /// Whose the data is.
    pub owner: OwnerId,
    /// What else was known of it then.
    pub data: D,
    /// What is in it, as far as it was read or written.
    pub catalogue: Mutex<Catalogue>,
    /// When it was read.
    pub read_at: Mutex<Option<Timestamp>>,
}

impl<D> Repo<D> {
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

impl Job {
    /// Says what is being done.
    pub fn step(&self, step: &str) {
        step.clone_into(&mut lock(&self.step));
    }
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
pub struct Shared<E: Engine> {
    /// The engine.
    pub engine: E,
    /// The repository, or why there is none.
    pub repo: watch::Sender<Result<Arc<Repo<E::Data>>, Away>>,
    /// Hash of the settings in force.
    pub settings_hash: Mutex<Option<String>>,
    /// What is told.
    pub report: watch::Sender<Report>,
    /// Orders.
    pub jobs: Mutex<Jobs>,
    /// Wakes who looks after the repository, who reads the catalogue then.
    pub keeper: Notify,
    /// Wakes who reports.
    pub reporter: Arc<Notify>,
}

impl<E: Engine> Shared<E> {
    /// Nothing is known. `reporter`: whoever has news for the report wakes it.
    pub fn new(engine: E, reporter: Arc<Notify>) -> Self {
        let me = &engine.ground().me;
        let report = Report {
            instance: me.instance.clone(),
            nonce: me.nonce.clone(),
            ..Report::default()
        };
        Self {
            repo: watch::channel(Err(Away {
                reason: "the repository has not been opened yet".to_owned(),
                ..Away::default()
            }))
            .0,
            settings_hash: Mutex::default(),
            report: watch::channel(report).0,
            jobs: Mutex::default(),
            keeper: Notify::new(),
            reporter,
            engine,
        }
    }

    /// The repository.
    ///
    /// # Errors
    /// Why there is none.
    pub fn repo(&self) -> Result<Arc<Repo<E::Data>>, Away> {
        self.repo.borrow().clone()
    }
}

/// A lock whose last holder may have ended badly: what it guards is whole all the same.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
