//! The process in a data pod that runs Redis: wiring. [`decide`] says what to do, [`machine`] does it.
//!
//! Why it is so: `docs/adr/0020-redis-in-an-election.md`.

pub mod decide;
pub mod heir;
pub mod leader;
pub mod machine;
pub mod mark;
pub mod member;
pub mod monitor;
pub mod observe;
pub mod past;
pub mod place;
pub mod render;
pub mod report;
pub mod sentinel;
pub mod session;
pub mod vitals;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use mainstay_shared::agent::api::Status;
use mainstay_shared::agent::clock::boottime;
use mainstay_shared::agent::init::client::InitClient;
use mainstay_shared::agent::mounts::place_file;
use mainstay_shared::agent::paths;
use mainstay_shared::agent::place::{PlaceError, long_nonce};
use mainstay_shared::agent::program::Programs;
use mainstay_shared::agent::pulse::{beat, turns};
use mainstay_shared::agent::server::{Interface, serve};
use mainstay_shared::agent::state::Store;
use mainstay_shared::names::AGENT_PORT;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use machine::{Channels, Machine};
use place::Place;
use sentinel::{Known, Sources};
use session::Access;

use crate::settings::SENTINEL_PORT;

/// The agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The environment.
    #[error(transparent)]
    Place(#[from] PlaceError),
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
///
/// # Errors
/// See [`AgentError`].
pub async fn run() -> Result<(), AgentError> {
    let place = Arc::new(Place::from_environment()?);
    let init = InitClient::connect(&place.mount(paths::INIT_SOCKET))
        .await
        .map_err(AgentError::Init)?;
    let turned = Arc::new(AtomicU64::new(boottime().as_secs()));
    tokio::spawn(beat(init.clone(), Arc::clone(&turned)));
    let store = Store::open(&place.state()).map_err(AgentError::State)?;
    let access = Access {
        socket: place.socket(),
        password: password(&place)?,
    };

    let (status, seen) = watch::channel(Status {
        instance: place.me.instance.clone(),
        pod_uid: place.me.pod_uid.clone(),
        nonce: place.me.nonce.clone(),
        ..Status::default()
    });
    let (orders, inbox) = mpsc::channel(8);
    let (tls, served) = watch::channel(None);
    let (door, entrance) = watch::channel(None);
    let (known, heard) = watch::channel(Known::default());
    let (client_tls, shown) = watch::channel(None);
    let trouble = sentinel::start(
        place.address(i32::from(SENTINEL_PORT)),
        served.clone(),
        Sources {
            known: heard,
            status: seen.clone(),
            turned: Arc::clone(&turned),
            tls: shown,
        },
    );
    let monitor = monitor::monitor(access.clone());
    let address = place.address(AGENT_PORT);
    let listener = TcpListener::bind(address)
        .await
        .map_err(|e| AgentError::Listen(address, e))?;
    let alive = Arc::clone(&turned);
    let sight = monitor.sight.clone();
    let interface = Interface {
        status: seen,
        orders,
        alive: Arc::new(move || turns(&alive)),
        metrics: Arc::new(move |status| report::metrics(status, &sight.borrow())),
        election: entrance,
        programs: Programs::new(place.mount(paths::BIN)),
    };
    tokio::spawn(serve(listener, served, interface));
    let channels = Channels {
        status,
        tls,
        client_tls,
        door,
        turned,
        known,
        trouble,
    };
    Machine::new(place, init, store, channels, access, monitor)
        .run(inbox)
        .await
}

/// With which the agent logs in: for the next process beside the same engine too, so it is kept in memory.
fn password(place: &Place) -> Result<String, AgentError> {
    let file = place.run().join("agent.password");
    if let Ok(password) = std::fs::read_to_string(&file)
        && !password.is_empty()
    {
        return Ok(password);
    }
    let password = long_nonce().map_err(PlaceError::Random)?;
    place_file(&file, &password, 0o600).map_err(AgentError::Run)?;
    Ok(password)
}
