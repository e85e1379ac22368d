//! The process in a pooler's pod: PgBouncer as its child, held back by agents around planned hand-overs.

pub mod api;
pub mod config;
pub mod console;
pub mod keeper;
pub mod metrics;
pub mod mounts;
pub mod process;
pub mod reach;
pub mod render;
pub mod server;
pub mod state;

use std::env;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mainstay_shared::agent::listen::listen;
use mainstay_shared::agent::paths::{self, under};
use mainstay_shared::names::AGENT_PORT;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use config::Side;
use console::Console;
use keeper::{Keeper, Place};
use mounts::Mounts;
use server::Interface;
use state::Phase;

/// What a pod gets to end.
pub const GRACE_SECONDS: i64 = 30;
/// By then no Service leads here any more.
const LED_AWAY: Duration = Duration::from_secs(4);
/// How long transactions may go on after that.
const LAST: Duration = Duration::from_secs(22);

/// The pooler cannot run.
#[derive(Debug, thiserror::Error)]
pub enum PoolerError {
    /// What is mounted.
    #[error("{0}")]
    Mounts(String),
    /// The port.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    /// Signals.
    #[error("the system refuses: {0}")]
    System(#[from] std::io::Error),
}

/// Run until the container is told to stop.
///
/// # Errors
/// When it cannot begin.
pub async fn run(side: Side) -> Result<(), PoolerError> {
    let root = crate::agent::place::root();
    let tls_folder = under(&root, paths::TLS);
    let place = Place {
        run: under(&root, paths::RUN),
        tls: tls_folder.clone(),
        listen: env::var("MAINSTAY_LISTEN").unwrap_or_else(|_| "*".to_owned()),
        side,
    };
    let mut terminate = signal(SignalKind::terminate())?;
    let console = Console::new(place.run.clone());
    let mounts = Mounts::new(under(&root, paths::CONFIG), tls_folder);
    let (tls, served) = watch::channel(None);
    let (phase, seen) = watch::channel(Phase::Open);
    let (orders, inbox) = mpsc::channel(8);
    let file = place.file();
    let ip = place.listen.parse();
    let ip = ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let mut keeper = Keeper::new(place, console.clone(), mounts, tls, phase);
    let set = keeper.look().map_err(PoolerError::Mounts)?;
    let address = SocketAddr::new(ip, u16::try_from(AGENT_PORT).unwrap_or_default());
    let listener = TcpListener::bind(address)
        .await
        .map_err(|e| PoolerError::Listen(address, e))?;
    let leaving = Arc::new(AtomicBool::new(false));
    let interface = Interface {
        set: set.into(),
        side,
        console,
        orders,
        phase: seen,
        leaving: Arc::clone(&leaving),
    };
    tokio::spawn(listen(listener, served, interface));
    let process = process::start(file);
    let starts = process.starts.clone();
    // It goes on to the end: a hand-over may come before that.
    tokio::spawn(keeper.run(inbox, starts));
    terminate.recv().await;
    tracing::info!("the pooler is being stopped");
    leaving.store(true, Ordering::Relaxed);
    // As long as a Service leads here, clients are taken.
    sleep(LED_AWAY).await;
    process.stop(LAST).await;
    Ok(())
}
