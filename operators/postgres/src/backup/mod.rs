//! Backups: the container beside PostgreSQL that stores its log and makes base backups, and restores.
//!
//! Decisions are in [`wal`], [`lineage`], [`coverage`], [`checked`], [`tar`], [`owner`]; [`archiver`], [`keeper`],
//! [`snapshot`], [`orders`], [`socket`], [`push`] and [`serve`] do I/O.

pub mod allocator;
pub mod api;
pub mod archiver;
pub mod breaker;
pub mod checked;
pub mod chunks;
pub mod coverage;
pub mod crc32c;
pub mod drill;
pub mod engine;
pub mod keeper;
pub mod lineage;
pub mod local;
pub mod orders;
pub mod owner;
pub mod push;
pub mod reporter;
pub mod restore;
pub mod serve;
pub mod settings;
pub mod shred;
pub mod snapshot;
pub mod socket;
pub mod state;
pub mod tar;
pub mod wal;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mainstay_shared::agent::listen::listen;
use mainstay_shared::agent::paths;
use mainstay_shared::names::BACKUP_PORT;
use mainstay_shared::pki::{ClientAuth, server_config};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::agent::mounts::{fingerprint, read_identity};
use crate::agent::place::{Place, PlaceError};

/// The backup container cannot run.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The environment.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The port.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    /// The socket.
    #[error("the socket for the archiver: {0}")]
    Socket(std::io::Error),
    /// Signals.
    #[error("cannot listen for signals: {0}")]
    Signal(std::io::Error),
}

/// How often the certificate is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Runs the backup container until it is told to stop.
///
/// # Errors
/// It cannot run.
pub async fn run() -> Result<(), BackupError> {
    let place = Arc::new(Place::from_environment()?);
    let address = place.address(BACKUP_PORT);
    let listener = TcpListener::bind(address)
        .await
        .map_err(|e| BackupError::Listen(address, e))?;
    let shared = Arc::new(state::Shared::new(Arc::clone(&place)));
    let (tls, served) = watch::channel(None);
    let interface = serve::Interface {
        shared: Arc::clone(&shared),
    };
    tokio::spawn(listen(listener, served, interface));
    tokio::spawn(reporter::run(Arc::clone(&shared)));
    tokio::spawn(keeper::Keeper::new(Arc::clone(&shared)).run());
    tokio::spawn(archiver::Archiver::new(Arc::clone(&shared)).run());
    tokio::spawn(breaker::run(Arc::clone(&shared)));
    let socket = place.mount(settings::SOCKET);
    let asked = socket::serve(&socket, Arc::clone(&shared));
    let told = told_to_stop().map_err(BackupError::Signal)?;
    tokio::select! {
        ended = asked => ended.map_err(BackupError::Socket),
        () = certificate(&place, &tls) => Ok(()),
        () = told => Ok(()),
    }
}

/// Ends when the container is to stop. What an image says is sent then counts for all containers made of it,
/// and PostgreSQL's says `SIGINT`; the first process of a container gets neither unless it asks.
///
/// # Errors
/// The system's.
pub(crate) fn told_to_stop() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Serves the certificate that is mounted, as it changes.
async fn certificate(place: &Place, tls: &watch::Sender<Option<Arc<rustls::ServerConfig>>>) {
    let folder = place.mount(paths::TLS);
    let mut seen = Vec::new();
    loop {
        let now = fingerprint(&folder);
        if now != seen {
            let read = read_identity(&folder).and_then(|pair| {
                server_config(&pair, ClientAuth::Optional).map_err(|e| e.to_string())
            });
            match read {
                Ok(config) => {
                    tls.send_replace(Some(Arc::new(config)));
                    seen = now;
                }
                Err(error) => tracing::warn!(error, "the certificate cannot be used"),
            }
        }
        sleep(LOOK).await;
    }
}
