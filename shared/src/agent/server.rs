//! The agent's HTTPS interface: see [`super::api`] for paths and bodies. I/O.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::api::{self, HandOver, Reload, Restart, Status, Upgrade};
use super::election::door::{self, Door};
use super::election::wire;
use super::listen::{Caller, Service, body, json, listen, read, text};
use super::program::{self, ProgramError, Programs};

/// Longest wait of a long poll.
const POLL_MAX: Duration = Duration::from_mins(5);
/// How long a reload waits for the mounts.
const RELOAD: Duration = Duration::from_mins(1);
/// How long a restart may take before the caller is told so.
const RESTART: Duration = Duration::from_secs(170);
/// How long a hand-over may take before the caller is told so: a checkpoint comes first.
const HAND_OVER: Duration = Duration::from_secs(170);
/// How long an agent may take to say whether it makes room for another program.
const UPGRADE: Duration = Duration::from_secs(10);

/// What a person or the operator asks for. The answer goes to the sender.
#[derive(Debug)]
pub enum Order {
    /// Look at the mounts now; the status tells when the configuration is in force.
    Look,
    /// Restart the engine, if the nonce is still that of the status. The answer comes when it
    /// runs again.
    Restart(Restart, Answer),
    /// Let another instance take over, if the nonce is still that of the status. The answer comes
    /// when it has, or when this one is primary again.
    HandOver(HandOver, Answer),
    /// Make room for another program of the agent, if the nonce is still that of the status. The answer
    /// comes before that.
    Upgrade(Upgrade, PathBuf, Answer),
}

/// Where the answer to an order goes.
pub type Answer = oneshot::Sender<Result<(), Refusal>>;

/// Why an order is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The decision was made on an outdated status.
    Outdated,
    /// It cannot be done now, in a sentence.
    Impossible(String),
}

/// Metrics of a status as text.
pub type Metrics = Arc<dyn Fn(&Status) -> String + Send + Sync>;

/// What the server needs of the agent.
#[derive(Clone)]
pub struct Interface {
    /// The status as it changes.
    pub status: watch::Receiver<Status>,
    /// Where orders go.
    pub orders: mpsc::Sender<Order>,
    /// Whether the agent's own loop turns.
    pub alive: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Metrics of a status as text.
    pub metrics: Metrics,
    /// Where peers talk to the election's driver, if there is one.
    pub election: watch::Receiver<Option<Door>>,
    /// Where programs of the agent are kept.
    pub programs: Programs,
}

/// Serve until the process ends: see [`listen`].
pub async fn serve(
    listener: TcpListener,
    tls: watch::Receiver<Option<Arc<ServerConfig>>>,
    interface: Interface,
) {
    listen(listener, tls, interface).await;
}

impl Service for Interface {
    /// The operator and peers do.
    fn keeps(&self, caller: &Caller) -> bool {
        match caller {
            Caller::Operator => true,
            Caller::Member(name) => {
                let door = self.election.borrow();
                door.as_ref().is_some_and(|d| d.knows(name))
            }
            Caller::Anyone => false,
        }
    }

    async fn answer(
        self,
        request: Request<Incoming>,
        caller: Caller,
        peer: SocketAddr,
    ) -> Response<Full<Bytes>> {
        answer(request, caller, peer, self).await
    }
}

/// Who may call which path.
fn allowed(caller: &Caller, path: &str) -> bool {
    match path {
        api::LIVEZ | api::READYZ => true,
        // They tell no secret, and change nothing.
        api::METRICS | api::STATUS | wire::MEMBER => *caller != Caller::Anyone,
        wire::ELECTION => matches!(caller, Caller::Member(_)),
        _ => *caller == Caller::Operator,
    }
}

async fn answer(
    request: Request<Incoming>,
    caller: Caller,
    peer: SocketAddr,
    mut interface: Interface,
) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    if !allowed(&caller, &path) {
        let who = if path == wire::ELECTION {
            "this needs the client certificate of an instance of this set"
        } else {
            "this needs the operator's client certificate of this set"
        };
        return text(StatusCode::FORBIDDEN, who);
    }
    let door = interface.election.borrow().clone();
    match (request.method().clone(), path.as_str()) {
        (Method::GET, api::LIVEZ) if (interface.alive)() => text(StatusCode::OK, "alive"),
        (Method::GET, api::LIVEZ) => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the agent's loop does not turn",
        ),
        (Method::GET, api::READYZ) => ready(&interface.status.borrow()),
        (Method::GET, api::METRICS) => {
            let body = (interface.metrics)(&interface.status.borrow());
            text(StatusCode::OK, &body)
        }
        (Method::GET, api::STATUS) => {
            let (after, wait) = poll_query(request.uri().query().unwrap_or_default());
            if let Some(after) = after {
                // A sequence that is ahead is of an agent before: answer at once.
                let newer = |s: &Status| s.sequence != after;
                let _ = timeout(wait.min(POLL_MAX), interface.status.wait_for(newer)).await;
            }
            status(&interface)
        }
        (Method::POST, api::RELOAD) => match read::<Reload>(request).await {
            Ok(reload) => reloaded(&reload, &mut interface).await,
            Err(refused) => *refused,
        },
        (Method::POST, api::RESTART) => match read::<Restart>(request).await {
            Ok(restart) => done(&interface, RESTART, |to| Order::Restart(restart, to)).await,
            Err(refused) => *refused,
        },
        (Method::POST, api::HAND_OVER) => match read::<HandOver>(request).await {
            Ok(wish) => done(&interface, HAND_OVER, |to| Order::HandOver(wish, to)).await,
            Err(refused) => *refused,
        },
        (Method::PUT, api::PROGRAM) => keep(request, &interface).await,
        (Method::POST, api::UPGRADE) => match read::<Upgrade>(request).await {
            Ok(wish) => upgrade(wish, &interface).await,
            Err(refused) => *refused,
        },
        (Method::GET, wire::MEMBER) => match &door {
            Some(door) => {
                if let Caller::Member(name) = &caller {
                    let told = request
                        .uri()
                        .query()
                        .and_then(|q| q.strip_prefix("address="));
                    let address = told.and_then(|a| a.parse().ok());
                    door.called(name, address.unwrap_or_else(|| peer.ip()));
                }
                json(&*door.introduction.borrow())
            }
            None => no_election(),
        },
        (Method::POST, wire::ELECTION) => match (&door, caller) {
            (Some(door), Caller::Member(name)) => match read(request).await {
                Ok(envelope) => told(door.take(&name, peer.ip(), envelope)),
                Err(refused) => *refused,
            },
            _ => no_election(),
        },
        (
            _,
            api::LIVEZ
            | api::READYZ
            | api::METRICS
            | api::STATUS
            | api::RELOAD
            | api::RESTART
            | api::HAND_OVER
            | api::PROGRAM
            | api::UPGRADE
            | wire::MEMBER
            | wire::ELECTION,
        ) => text(StatusCode::METHOD_NOT_ALLOWED, "not with this method"),
        _ => text(StatusCode::NOT_FOUND, "there is nothing here"),
    }
}

fn ready(status: &Status) -> Response<Full<Bytes>> {
    if status.ready {
        return text(StatusCode::OK, "ready");
    }
    let why = status.message.as_deref().unwrap_or("not ready");
    text(StatusCode::SERVICE_UNAVAILABLE, why)
}

/// The value of a key in a query; what cannot be read counts as absent.
fn value<T: FromStr>(query: &str, key: &str) -> Option<T> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(k, _)| *k == key)?.1.parse().ok()
}

/// `after` and `wait` of a long poll.
fn poll_query(query: &str) -> (Option<u64>, Duration) {
    let wait = value(query, "wait").unwrap_or(0);
    (value(query, "after"), Duration::from_millis(wait))
}

/// A piece of a program.
async fn keep(request: Request<Incoming>, interface: &Interface) -> Response<Full<Bytes>> {
    let query = request.uri().query().unwrap_or_default();
    let sha256: String = value(query, "sha256").unwrap_or_default();
    let Some(offset) = value(query, "offset") else {
        return text(StatusCode::BAD_REQUEST, "the query says no offset");
    };
    let piece = match body(request, program::PIECE).await {
        Ok(piece) => piece,
        Err(refused) => return *refused,
    };
    let programs = interface.programs.clone();
    match blocking(move || programs.keep(&sha256, offset, &piece)).await {
        Ok(()) => status(interface),
        Err(refused) => *refused,
    }
}

async fn upgrade(wish: Upgrade, interface: &Interface) -> Response<Full<Bytes>> {
    let (programs, sha256) = (interface.programs.clone(), wish.sha256.clone());
    match blocking(move || programs.complete(&sha256)).await {
        Ok(path) => done(interface, UPGRADE, |to| Order::Upgrade(wish, path, to)).await,
        Err(refused) => *refused,
    }
}

/// Work on the folder of programs, which may wait for a disk.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ProgramError> + Send + 'static,
) -> Result<T, Box<Response<Full<Bytes>>>> {
    let outcome = match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(ProgramError::Io(error.into())),
    };
    outcome.map_err(|error| {
        let code = match error {
            ProgramError::NoHash(_) | ProgramError::TooLarge | ProgramError::Other(_) => {
                StatusCode::BAD_REQUEST
            }
            ProgramError::Gap { .. } => StatusCode::CONFLICT,
            ProgramError::Io(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Box::new(text(code, &error.to_string()))
    })
}

async fn reloaded(reload: &Reload, interface: &mut Interface) -> Response<Full<Bytes>> {
    let _ = interface.orders.send(Order::Look).await;
    let in_force = |s: &Status| s.config_hash.as_deref() == Some(&reload.config_hash);
    if timeout(RELOAD, interface.status.wait_for(in_force))
        .await
        .is_ok()
    {
        return status(interface);
    }
    let now = interface.status.borrow().clone();
    let why = now.last_error.or(now.message).unwrap_or_default();
    let held = now.config_hash.as_deref().unwrap_or("none");
    text(
        StatusCode::GATEWAY_TIMEOUT,
        &format!(
            "configuration {} is not in force after {RELOAD:?}; in force is {held}. {why}",
            reload.config_hash,
        ),
    )
}

/// Give an order and wait for what comes of it.
async fn done(
    interface: &Interface,
    bound: Duration,
    order: impl FnOnce(Answer) -> Order,
) -> Response<Full<Bytes>> {
    let (to, answer) = oneshot::channel();
    if interface.orders.send(order(to)).await.is_err() {
        return text(StatusCode::SERVICE_UNAVAILABLE, "the agent is ending");
    }
    match timeout(bound, answer).await {
        Ok(Ok(Ok(()))) => status(interface),
        Ok(Ok(Err(Refusal::Outdated))) => text(
            StatusCode::CONFLICT,
            "the engine was started since that status: look again",
        ),
        Ok(Ok(Err(Refusal::Impossible(why)))) => text(StatusCode::SERVICE_UNAVAILABLE, &why),
        Ok(Err(_)) => text(StatusCode::SERVICE_UNAVAILABLE, "the agent gave it up"),
        Err(_) => text(
            StatusCode::GATEWAY_TIMEOUT,
            "it goes on, and is not finished yet",
        ),
    }
}

fn no_election() -> Response<Full<Bytes>> {
    text(
        StatusCode::NOT_FOUND,
        "this agent takes part in no election yet",
    )
}

fn told(taken: Result<(), door::Refusal>) -> Response<Full<Bytes>> {
    match taken {
        Ok(()) => text(StatusCode::ACCEPTED, "taken"),
        Err(why @ door::Refusal::NotYou { .. }) => text(StatusCode::FORBIDDEN, &why.to_string()),
        Err(why @ door::Refusal::NotMe(_)) => text(StatusCode::CONFLICT, &why.to_string()),
        Err(why @ door::Refusal::Full) => text(StatusCode::SERVICE_UNAVAILABLE, &why.to_string()),
    }
}

fn status(interface: &Interface) -> Response<Full<Bytes>> {
    json(&*interface.status.borrow())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_probes_are_open_to_everyone() {
        use Caller::{Anyone, Member, Operator};
        for caller in [Anyone, Member("db-1".into()), Operator] {
            let may = |path| allowed(&caller, path);
            assert!(may(api::LIVEZ) && may(api::READYZ));
            for path in [api::METRICS, api::STATUS, wire::MEMBER] {
                assert_eq!(may(path), caller != Anyone);
            }
            assert_eq!(may(wire::ELECTION), caller == Member("db-1".into()));
            for path in [
                api::RELOAD,
                api::RESTART,
                api::HAND_OVER,
                api::PROGRAM,
                api::UPGRADE,
                "/anything",
            ] {
                assert_eq!(may(path), caller == Operator);
            }
        }
    }

    #[test]
    fn a_poll_without_numbers_does_not_wait() {
        assert_eq!(
            poll_query("after=7&wait=2500"),
            (Some(7), Duration::from_millis(2500))
        );
        assert_eq!(poll_query("after=x&wait="), (None, Duration::ZERO));
    }
}
