//! One kept connection to each peer, on which messages go out and by which it is known who the peer
//! is. I/O.
//!
//! A message that cannot be delivered now is dropped: the machine asks again. Sending waits for
//! nothing.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::future::{Either, select};
use futures::stream::FuturesUnordered;
use http::{Method, StatusCode};
use hyper::body::Bytes;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::sync::{Notify, mpsc::UnboundedSender, watch};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::driver::Resolve;
use super::wire::{self, Envelope, Introduction};
use crate::agent::client::{ClientError, Link, body};
use crate::agent::clock::boottime;

/// Bound of connecting, finding the address included.
const CONNECT: Duration = Duration::from_secs(1);
/// Bound of an exchange.
const EXCHANGE: Duration = Duration::from_secs(1);
/// Bound of asking for the address.
const LOOKUP: Duration = Duration::from_millis(500);
/// The addresses that are told now are tried so long before those of earlier.
const HEAD_START: Duration = Duration::from_millis(100);
/// Messages that wait; the oldest are dropped.
const QUEUE: usize = 16;
/// Addresses of a peer that are kept: more is history.
const MOST_KNOWN: usize = 3;

/// What all connections need.
#[derive(Clone)]
pub(super) struct Means {
    /// Address of this instance.
    pub(super) own: IpAddr,
    /// Where instances are now.
    pub(super) resolve: Resolve,
    /// How this instance shows itself.
    pub(super) tls: watch::Receiver<Option<Arc<ClientConfig>>>,
    /// Where news go.
    pub(super) news: UnboundedSender<News>,
    /// The agents' port.
    pub(super) port: u16,
    /// How often a peer is asked who it is.
    pub(super) every: Duration,
}

/// A peer said who it is.
#[derive(Debug)]
pub(super) struct News {
    /// Who.
    pub(super) introduction: Introduction,
    /// Where it was reached.
    pub(super) address: IpAddr,
}

/// The way to one peer. Dropping it ends the connection.
pub(super) struct Peer {
    shared: Arc<Shared>,
    task: AbortHandle,
    began: Duration,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Envelope>,
    /// Addresses that it had, or was seen with; the latest last.
    known: Vec<IpAddr>,
    introduce: bool,
    /// Time since boot when it answered last.
    reached: Option<Duration>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Peer {
    /// To the instance `name`, whose certificate bears `host`.
    pub(super) fn new(name: &str, host: &str, means: Means) -> Self {
        let shared = Arc::new(Shared::default());
        let way = Way {
            name: name.to_owned(),
            host: ServerName::try_from(host.to_owned()).ok(),
            means,
            shared: Arc::clone(&shared),
            link: None,
        };
        let task = tokio::spawn(way.run()).abort_handle();
        Self {
            shared,
            task,
            began: boottime(),
        }
    }

    /// Send a message, now or never.
    pub(super) fn send(&self, envelope: Envelope) {
        let mut state = self.shared.lock();
        if state.queue.len() >= QUEUE {
            state.queue.pop_front();
        }
        state.queue.push_back(envelope);
        drop(state);
        self.shared.wake.notify_one();
    }

    /// It was seen at that address.
    pub(super) fn learn(&self, address: IpAddr) {
        let mut state = self.shared.lock();
        if state.known.last() != Some(&address) {
            state.known.retain(|a| *a != address);
            state.known.push(address);
            if state.known.len() > MOST_KNOWN {
                state.known.remove(0);
            }
        }
    }

    /// Somebody else met it there. What was seen here comes first.
    pub(super) fn hear_of(&self, address: IpAddr) {
        let mut state = self.shared.lock();
        if state.known.len() < MOST_KNOWN && !state.known.contains(&address) {
            state.known.insert(0, address);
            drop(state);
            self.introduce();
        }
    }

    /// Time since boot when it was learned of.
    pub(super) fn began(&self) -> Duration {
        self.began
    }

    /// Time since boot when it answered last.
    pub(super) fn reached(&self) -> Option<Duration> {
        self.shared.lock().reached
    }

    /// Ask it soon who it is.
    pub(super) fn introduce(&self) {
        self.shared.lock().introduce = true;
        self.shared.wake.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is whole, so a panic elsewhere leaves no half of one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A peer did not take a request.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("its host name is no DNS name")]
    NoName,
    #[error("there is no certificate to show to it yet")]
    NoCertificate,
    #[error("its address is not known: neither DNS nor the Lease tells it")]
    NoAddress,
    #[error("no connection to it within {CONNECT:?}")]
    Slow,
    #[error(transparent)]
    Client(ClientError),
}

struct Way {
    name: String,
    host: Option<ServerName<'static>>,
    means: Means,
    shared: Arc<Shared>,
    link: Option<Link>,
}

impl Way {
    async fn run(mut self) {
        let mut why = String::new();
        let mut asked: Option<tokio::time::Instant> = None;
        loop {
            let (envelope, introduce) = {
                let mut state = self.shared.lock();
                (
                    state.queue.pop_front(),
                    std::mem::take(&mut state.introduce),
                )
            };
            let every = self.means.every;
            let due = asked.is_none_or(|at| at.elapsed() >= every);
            let outcome = if let Some(envelope) = envelope {
                self.deliver(&envelope).await
            } else if introduce || due {
                asked = Some(tokio::time::Instant::now());
                self.ask_who().await
            } else {
                let left = asked.map_or(Duration::ZERO, |at| every.saturating_sub(at.elapsed()));
                // Longer or shorter is no matter.
                let _ = timeout(left, self.shared.wake.notified()).await;
                continue;
            };
            match outcome {
                Ok(()) => {
                    self.shared.lock().reached = Some(boottime());
                    why.clear();
                }
                // Said once, not at every try.
                Err(new) if new != why => {
                    tracing::info!(peer = %self.name, why = %new, "a peer is not reached");
                    why = new;
                }
                Err(_) => {}
            }
        }
    }

    async fn deliver(&mut self, envelope: &Envelope) -> Result<(), String> {
        let content = body(envelope).map_err(|e| e.to_string())?;
        match self.call(Method::POST, wire::ELECTION, content).await {
            Ok(_) => Ok(()),
            // It has other data now.
            Err(Failure::Client(ClientError::Refused(StatusCode::CONFLICT, _))) => {
                self.ask_who().await
            }
            Err(error) => Err(error.to_string()),
        }
    }

    async fn ask_who(&mut self) -> Result<(), String> {
        // From where it is answered may be another address than the one to answer to.
        let path = format!("{}?address={}", wire::MEMBER, self.means.own);
        let answer = self.call(Method::GET, &path, Bytes::new()).await;
        let answer = answer.map_err(|e| e.to_string())?;
        let introduction: Introduction =
            serde_json::from_slice(&answer).map_err(|e| e.to_string())?;
        if introduction.member.name.as_str() != self.name {
            return Err(format!("it says that it is {}", introduction.member));
        }
        if let Some(link) = &self.link {
            let address = link.address().ip();
            // Nobody listens any more when the driver has ended.
            let _ = self.means.news.send(News {
                introduction,
                address,
            });
        }
        Ok(())
    }

    /// Over the connection that is there; if that has gone stale, over a new one.
    async fn call(&mut self, method: Method, path: &str, content: Bytes) -> Result<Bytes, Failure> {
        if let Some(link) = self.link.take().filter(Link::is_ready) {
            match self.exchange(link, &method, path, &content).await {
                Err(ClientError::Broken(..)) => {}
                // A silent one costs its bound only once: the next call connects anew.
                other => return other.map_err(Failure::Client),
            }
        }
        let link = self.connect().await?;
        let answer = self.exchange(link, &method, path, &content).await;
        answer.map_err(Failure::Client)
    }

    async fn exchange(
        &mut self,
        mut link: Link,
        method: &Method,
        path: &str,
        content: &Bytes,
    ) -> Result<Bytes, ClientError> {
        let address = link.address();
        let answer = link.exchange(method.clone(), path, content.clone());
        let answer = timeout(EXCHANGE, answer)
            .await
            .map_err(|_| ClientError::Timeout(address))?;
        if matches!(answer, Ok(_) | Err(ClientError::Refused(..))) {
            self.link = Some(link);
        }
        answer
    }

    async fn connect(&self) -> Result<Link, Failure> {
        let host = self.host.clone().ok_or(Failure::NoName)?;
        let tls = self.means.tls.borrow().clone();
        let tls = tls.ok_or(Failure::NoCertificate)?;
        let known: Vec<SocketAddr> = {
            let state = self.shared.lock();
            let all = state.known.iter().rev();
            all.map(|ip| SocketAddr::new(*ip, self.means.port))
                .collect()
        };
        let now = async {
            let found = timeout(LOOKUP, (self.means.resolve)(self.name.clone())).await;
            first(found.unwrap_or_default(), &host, &tls).await
        };
        let before = async {
            sleep(HEAD_START).await;
            first(known, &host, &tls).await
        };
        let both = async {
            match select(std::pin::pin!(now), std::pin::pin!(before)).await {
                Either::Left((Ok(link), _)) | Either::Right((Ok(link), _)) => Ok(link),
                // Why the addresses of now do not work is what helps, if there are any.
                Either::Left((Err(why), other)) => other.await.map_err(|w| why.or(w)),
                Either::Right((Err(why), other)) => other.await.map_err(|w| w.or(why)),
            }
        };
        match timeout(CONNECT, both).await {
            Ok(Ok(link)) => Ok(link),
            Ok(Err(why)) => Err(why.map_or(Failure::NoAddress, Failure::Client)),
            Err(_) => Err(Failure::Slow),
        }
    }
}

/// A connection to whichever of the addresses answers first as the one meant. The error is none
/// where there is no address.
async fn first(
    addresses: Vec<SocketAddr>,
    host: &ServerName<'static>,
    tls: &Arc<ClientConfig>,
) -> Result<Link, Option<ClientError>> {
    let connect = |a| Link::connect(a, host.clone(), Arc::clone(tls));
    let mut all: FuturesUnordered<_> = addresses.into_iter().map(connect).collect();
    let mut last = None;
    while let Some(result) = all.next().await {
        match result {
            Ok(link) => return Ok(link),
            Err(error) => last = Some(error),
        }
    }
    Err(last)
}
