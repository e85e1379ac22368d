//! Backups: the container beside PostgreSQL that stores its log and makes base backups, and restores.
//!
//! Decisions are in [`wal`], [`lineage`], [`coverage`], [`checked`], [`split`], [`tar`], [`owner`]; [`archiver`], [`beside`],
//! [`snapshot`], [`socket`] and [`push`] do I/O. The container itself is
//! [`mainstay_shared::backups::container`], as for every engine.

pub mod api;
pub mod archiver;
pub mod beside;
pub mod breaker;
pub mod checked;
pub mod coverage;
pub mod crc32c;
pub mod drill;
pub mod engine;
pub mod lineage;
pub mod local;
pub mod owner;
pub mod push;
pub mod restore;
pub mod settings;
pub mod snapshot;
pub mod socket;
pub mod split;
pub mod state;
pub mod tar;
pub mod wal;

use std::sync::Arc;

use mainstay_shared::backups::container::{self, ContainerError};
use tokio::sync::Notify;

use crate::agent::place::{Place, PlaceError};

/// The backup container cannot run.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The environment.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// As every engine's.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// The socket.
    #[error("the socket for the archiver: {0}")]
    Socket(std::io::Error),
}

/// Runs the backup container until it is told to stop.
///
/// # Errors
/// It cannot run.
pub async fn run() -> Result<(), BackupError> {
    let place = Arc::new(Place::from_environment()?);
    let reporter = Arc::new(Notify::new());
    let beside = state::Beside::new(Arc::clone(&place), Arc::clone(&reporter));
    let shared = Arc::new(container::Shared::new(beside, reporter));
    tokio::spawn(archiver::Archiver::new(Arc::clone(&shared)).run());
    tokio::spawn(breaker::run(Arc::clone(&shared)));
    let socket = place.mount(settings::SOCKET);
    let asked = socket::serve(&socket, Arc::clone(&shared));
    tokio::select! {
        ended = asked => ended.map_err(BackupError::Socket),
        ended = container::run(shared) => Ok(ended?),
    }
}
