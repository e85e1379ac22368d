//! The process in a data pod that runs PostgreSQL: wiring. [`decide`] says what to do, [`machine`]
//! does it.

pub mod configuration;
pub mod data;
pub mod decide;
pub mod history;
pub mod machine;
pub mod monitor;
pub mod mounts;
pub mod observe;
pub mod place;
pub mod poolers;
pub mod recovery;
pub mod render;
pub mod report;
pub mod source;
pub mod sql;
pub mod throttle;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use mainstay_shared::agent::api::Status;
use mainstay_shared::agent::clock::boottime;
use mainstay_shared::agent::init::client::InitClient;
use mainstay_shared::agent::paths;
use mainstay_shared::agent::program::Programs;
use mainstay_shared::agent::pulse::{beat, turns};
use mainstay_shared::agent::server::{Interface, serve};
use mainstay_shared::agent::state::Store;
use mainstay_shared::names::AGENT_PORT;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use machine::Machine;
use place::Place;

/// The agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The environment.
    #[error(transparent)]
    Place(#[from] place::PlaceError),
    /// The agent's durable state.
    #[error("the agent's state on the data volume: {0}")]
    State(std::io::Error),
    /// PID 1.
    #[error("PID 1: {0}")]
    Init(std::io::Error),
    /// The port.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    /// The run folder.
    #[error("the folder for rendered configuration: {0}")]
    Run(std::io::Error),
}

/// Run until PID 1 or the container ends.
pub async fn run() -> Result<(), AgentError> {
    let place = Arc::new(Place::from_environment()?);
    let init = InitClient::connect(&place.mount(paths::INIT_SOCKET))
        .await
        .map_err(AgentError::Init)?;
    let turned = Arc::new(AtomicU64::new(boottime().as_secs()));
    tokio::spawn(beat(init.clone(), Arc::clone(&turned)));
    let store = Store::open(&place.state()).map_err(AgentError::State)?;

    let (status, seen) = watch::channel(Status {
        instance: place.me.instance.clone(),
        pod_uid: place.me.pod_uid.clone(),
        nonce: place.me.nonce.clone(),
        ..Status::default()
    });
    let (orders, inbox) = mpsc::channel(8);
    let (tls, served) = watch::channel(None);
    let (door, entrance) = watch::channel(None);
    let address = place.address(AGENT_PORT);
    let listener = TcpListener::bind(address)
        .await
        .map_err(|e| AgentError::Listen(address, e))?;
    let alive = Arc::clone(&turned);
    let interface = Interface {
        status: seen,
        orders,
        alive: Arc::new(move || turns(&alive)),
        metrics: Arc::new(report::metrics),
        election: entrance,
        programs: Programs::new(place.mount(paths::BIN)),
    };
    tokio::spawn(serve(listener, served, interface));
    Machine::new(place, init, store, status, tls, door, turned)
        .run(inbox)
        .await
}
