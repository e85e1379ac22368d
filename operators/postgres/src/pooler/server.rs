//! A pooler's HTTPS interface: see [`super::api`]. I/O.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use mainstay_shared::agent::api::{LIVEZ, METRICS, READYZ};
use mainstay_shared::agent::listen::{Answer, Caller, Service, json, read, text};
use mainstay_shared::names;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::api::{PAUSE, Pause, Paused, RESUME};
use super::config::Side;
use super::console::{Console, ConsoleError};
use super::metrics::{Counts, metrics};
use super::state::Phase;

/// Longest limit that is taken.
const LIMIT: Duration = Duration::from_mins(1);

/// What an agent asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Hold clients back, and wait for so long for their transactions.
    Pause(Duration),
    /// Somebody leads.
    Resume,
}

/// What the server needs of the pooler.
#[derive(Clone)]
pub struct Interface {
    /// Name of the set.
    pub set: Arc<str>,
    /// Where it leads to.
    pub side: Side,
    /// PgBouncer's console.
    pub console: Console,
    /// Where orders go.
    pub orders: mpsc::Sender<Order>,
    /// What clients see.
    pub phase: watch::Receiver<Phase>,
    /// The container is being stopped.
    pub leaving: Arc<AtomicBool>,
}

impl Service for Interface {
    /// Nobody does: hand-overs are rare.
    fn keeps(&self, _: &Caller) -> bool {
        false
    }

    async fn answer(self, request: Request<Incoming>, caller: Caller, _: SocketAddr) -> Answer {
        let path = request.uri().path().to_owned();
        if !allowed(&self.set, &caller, &path) {
            let who = "this needs the client certificate of an instance of this set";
            return text(StatusCode::FORBIDDEN, who);
        }
        match (request.method().clone(), path.as_str()) {
            (Method::GET, LIVEZ) => text(StatusCode::OK, "alive"),
            (Method::GET, READYZ) => self.ready().await,
            (Method::GET, METRICS) => match self.counts().await {
                Ok(counts) => {
                    let phase = *self.phase.borrow();
                    text(
                        StatusCode::OK,
                        metrics(self.side.word(), phase, &counts).trim_end(),
                    )
                }
                Err(error) => text(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
            },
            (Method::POST, PAUSE) => match read::<Pause>(request).await {
                Ok(wish) => self.pause(wish).await,
                Err(refused) => *refused,
            },
            (Method::POST, RESUME) => {
                if self.orders.send(Order::Resume).await.is_err() {
                    return ending();
                }
                text(StatusCode::ACCEPTED, "taken")
            }
            (_, LIVEZ | READYZ | METRICS | PAUSE | RESUME) => {
                text(StatusCode::METHOD_NOT_ALLOWED, "not with this method")
            }
            _ => text(StatusCode::NOT_FOUND, "there is nothing here"),
        }
    }
}

/// Who may call which path: only the set's own instances hold its clients back.
fn allowed(set: &str, caller: &Caller, path: &str) -> bool {
    match path {
        LIVEZ | READYZ => true,
        METRICS => *caller != Caller::Anyone,
        _ => match caller {
            Caller::Member(name) => names::ordinal(set, name).is_some(),
            Caller::Anyone | Caller::Operator => false,
        },
    }
}

fn ending() -> Answer {
    text(StatusCode::SERVICE_UNAVAILABLE, "the pooler is ending")
}

impl Interface {
    async fn ready(&self) -> Answer {
        if self.leaving.load(Ordering::Relaxed) {
            return ending();
        }
        match self.console.ask("SHOW VERSION").await {
            Ok(_) => text(StatusCode::OK, "ready"),
            Err(error) => text(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
        }
    }

    async fn pause(mut self, wish: Pause) -> Answer {
        let limit = Duration::from_millis(wish.limit_ms).min(LIMIT);
        if self.orders.send(Order::Pause(limit)).await.is_err() {
            return ending();
        }
        let quiet = self.phase.wait_for(|phase| *phase == Phase::Closed);
        let quiet = matches!(timeout(limit, quiet).await, Ok(Ok(_)));
        json(&Paused { quiet })
    }

    async fn counts(&self) -> Result<Counts, ConsoleError> {
        Ok(Counts {
            pools: self.console.ask("SHOW POOLS").await?,
            stats: self.console.ask("SHOW STATS").await?,
            lists: self.console.ask("SHOW LISTS").await?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_instances_of_the_set_hold_clients_back() {
        let member = |name: &str| Caller::Member(name.into());
        let may = |caller: &Caller, path| allowed("db", caller, path);
        for path in [PAUSE, RESUME, "/anything"] {
            assert!(may(&member("db-3"), path));
            for other in [
                Caller::Anyone,
                Caller::Operator,
                member("pooler.mainstay"),
                member("probe.mainstay"),
                member("other-1"),
            ] {
                assert!(!may(&other, path), "{other:?}");
            }
        }
        assert!(may(&Caller::Anyone, READYZ) && !may(&Caller::Anyone, METRICS));
        assert!(may(&Caller::Operator, METRICS));
    }
}
