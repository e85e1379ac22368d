//! What clients of a Sentinel are answered (`spec.sentinel`): wiring. There is no Sentinel, and nothing is decided here.
//!
//! [`follow`] asks the agent of whoever leads, [`view`] says what that comes to and what has changed, [`session`] what a client
//! is answered, [`reply`] how that is written, [`serve`] has the port. Why it is so: `docs/adr/0022-sentinel-endpoint.md`.

pub mod follow;
mod pattern;
pub mod reply;
pub mod serve;
pub mod session;
pub mod view;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use mainstay_shared::agent::api::Status;
use mainstay_shared::agent::config::Role;
use mainstay_shared::agent::election::driver::Leader;
use rustls::{ClientConfig, ServerConfig};
use tokio::sync::watch;

use view::Set;

/// What the agent's loop knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The set; none while clients are not to be answered.
    pub set: Option<Arc<Set>>,
    /// Users, with what checks their passwords.
    pub roles: Vec<Role>,
    /// Who leads by the newest ballot heard of, and where that is.
    pub leader: Option<Leader>,
}

/// Where it looks.
#[derive(Clone)]
pub struct Sources {
    /// What the agent's loop knows.
    pub known: watch::Receiver<Known>,
    /// What this agent says of itself.
    pub status: watch::Receiver<Status>,
    /// When its loop turned last.
    pub turned: Arc<AtomicU64>,
    /// As which other agents are asked.
    pub tls: watch::Receiver<Option<Arc<ClientConfig>>>,
}

/// Begin, for the life of the process. Gives what is wrong with it, if something is.
pub fn start(
    address: SocketAddr,
    tls: watch::Receiver<Option<Arc<ServerConfig>>>,
    sources: Sources,
) -> watch::Receiver<Option<String>> {
    let (tell, view) = watch::channel(None);
    let (trouble, wrong) = watch::channel(None);
    let known = sources.known.clone();
    tokio::spawn(follow::follow(sources, tell));
    tokio::spawn(serve::serve(address, tls, known, view, trouble));
    wrong
}
