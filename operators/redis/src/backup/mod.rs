//! Backups: the container beside Redis that receives the dataset as a replica does, restores, and drills.
//!
//! Decisions are in [`payload`], [`shards`], [`parts`] and [`choose`]; [`beside`], [`engine`], [`guard`], [`receive`], [`restore`] and
//! [`drill`] do I/O.
//! The container itself is [`mainstay_shared::backups::container`], as for every engine. Why it is so:
//! `docs/adr/0021-redis-backups.md`.

pub mod beside;
pub mod choose;
pub mod drill;
pub mod engine;
pub mod guard;
pub mod parts;
pub mod payload;
pub mod receive;
pub mod restore;
pub mod settings;
pub mod shards;

use std::sync::Arc;

use mainstay_shared::agent::place::PlaceError;
use mainstay_shared::backups::container::{self, ContainerError, Ground};
use tokio::sync::Notify;

/// The backup container cannot run.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The environment.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// As every engine's.
    #[error(transparent)]
    Container(#[from] ContainerError),
}

/// Runs the backup container until it is told to stop.
///
/// # Errors
/// It cannot run.
pub async fn run() -> Result<(), BackupError> {
    let beside = beside::Beside {
        ground: Ground::from_environment()?,
    };
    let shared = Arc::new(container::Shared::new(beside, Arc::new(Notify::new())));
    Ok(container::run(shared).await?)
}
