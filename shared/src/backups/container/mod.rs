//! The container beside an engine that makes its backups, and what restoring has in common with it. I/O.
//!
//! What differs from engine to engine is behind [`Engine`]: whose the data is, how a backup is made of it, and what is
//! told of its log, if it keeps one. [`keeper`] opens and claims the repository, [`orders`] carries orders out,
//! [`reporter`] tells, [`serve`] is the interface ([`mainstay_backup::api`]), [`restoring`] the frame of a restore, [`drill`]
//! that of a drill, and [`shred`] removes copies of destroyed keys.

pub mod allocator;
pub mod chunks;
pub mod drill;
pub mod keeper;
pub mod orders;
pub mod reporter;
pub mod restoring;
pub mod serve;
pub mod settings;
pub mod shred;
pub mod state;

use std::fmt::Debug;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use mainstay_backup::api::{Outcome, Report};
use mainstay_backup::catalogue::Catalogue;
use mainstay_backup::ids::OwnerId;
use mainstay_backup::layout::Label;
use mainstay_backup::manifest::Manifest;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::agent::listen::listen;
use crate::agent::mounts::{fingerprint, read_identity};
use crate::agent::paths;
use crate::names::BACKUP_PORT;
use crate::pki::{ClientAuth, server_config};

pub use orders::Wish;
pub use state::{Away, Ground, Job, Repo, Shared, lock};

/// An engine, as its backups need to know it.
pub trait Engine: Send + Sync + Sized + 'static {
    /// What is known of whose the data is, besides the owner's id.
    type Data: Clone + Debug + Send + Sync + 'static;

    /// Its name, for people.
    const NAME: &'static str;

    /// Where this runs.
    fn ground(&self) -> &Ground;

    /// Whose the data is. The id is minted with the data and goes with it, to replicas and into backups.
    ///
    /// # Errors
    /// It cannot be told now: a sentence.
    fn owner(&self) -> impl Future<Output = Result<(OwnerId, Self::Data), String>> + Send;

    /// Makes a backup: mostly [`orders::store`] with the engine's source.
    fn make(
        shared: &Arc<Shared<Self>>,
        repo: &Arc<Repo<Self::Data>>,
        job: &Arc<Job>,
        wish: Wish,
    ) -> impl Future<Output = Outcome> + Send;

    /// Adds to the report what the engine alone knows: of its log, and which moments can be recovered. `repo`: none
    /// while there is none to write to.
    fn tell(&self, repo: Option<&Repo<Self::Data>>, now: Timestamp, report: &mut Report);

    /// Why a backup cannot be restored, if that is known. Default: what is sealed can.
    fn broken(_catalogue: &Catalogue, _manifest: &Manifest) -> Option<String> {
        None
    }

    /// The history of the log that this instance writes now. Default: none, it keeps no log.
    fn live(&self) -> Option<Label> {
        None
    }

    /// The repository was opened or read, or is away. Default: nobody waits for that.
    fn looked(&self) {}
}

/// The backup container cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// The port.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    /// Signals.
    #[error("cannot listen for signals: {0}")]
    Signal(std::io::Error),
}

/// How often the certificate is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Runs the backup container until it is told to stop. What an engine does besides it does in tasks of its own.
///
/// # Errors
/// It cannot run.
pub async fn run<E: Engine>(shared: Arc<Shared<E>>) -> Result<(), ContainerError> {
    let ground = shared.engine.ground();
    let address = ground.address(BACKUP_PORT);
    let listener = TcpListener::bind(address)
        .await
        .map_err(|e| ContainerError::Listen(address, e))?;
    let folder = ground.mount(paths::TLS);
    let (tls, served) = watch::channel(None);
    let interface = serve::Interface {
        shared: Arc::clone(&shared),
    };
    tokio::spawn(listen(listener, served, interface));
    tokio::spawn(reporter::run(Arc::clone(&shared)));
    tokio::spawn(keeper::Keeper::new(Arc::clone(&shared)).run());
    let told = told_to_stop().map_err(ContainerError::Signal)?;
    tokio::select! {
        () = certificate(folder, &tls) => Ok(()),
        () = told => Ok(()),
    }
}

/// Ends when the container is to stop. What an image says is sent then counts for all containers made of it, and
/// some say `SIGINT`; the first process of a container gets neither unless it asks.
///
/// # Errors
/// The system's.
pub fn told_to_stop() -> std::io::Result<impl Future<Output = ()>> {
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
async fn certificate(folder: PathBuf, tls: &watch::Sender<Option<Arc<rustls::ServerConfig>>>) {
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
