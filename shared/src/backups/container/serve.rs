//! The interface of the backup container over HTTPS: see [`mainstay_backup::api`]. I/O.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use mainstay_backup::api::{ORDERS, Order, REPORT};
use tokio::time::timeout;

use super::Engine;
use super::orders::{self, Refusal};
use super::state::Shared;
use crate::agent::api::LIVEZ;
use crate::agent::listen::{Answer, Caller, Service, json, read, text};

/// Longest wait of a long poll.
const POLL: Duration = Duration::from_mins(5);

/// What is served.
pub struct Interface<E: Engine> {
    /// What the parts share.
    pub shared: Arc<Shared<E>>,
}

impl<E: Engine> Clone for Interface<E> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

/// Who may call which path.
fn allowed(caller: &Caller, path: &str) -> bool {
    match path {
        LIVEZ => true,
        REPORT => *caller != Caller::Anyone,
        _ => *caller == Caller::Operator,
    }
}

impl<E: Engine> Service for Interface<E> {
    fn keeps(&self, caller: &Caller) -> bool {
        *caller == Caller::Operator
    }

    async fn answer(self, request: Request<Incoming>, caller: Caller, _: SocketAddr) -> Answer {
        let path = request.uri().path().to_owned();
        if !allowed(&caller, &path) {
            let who = "this needs the operator's client certificate of this set";
            return text(StatusCode::FORBIDDEN, who);
        }
        match (request.method().clone(), path.as_str()) {
            (Method::GET, LIVEZ) => text(StatusCode::OK, "alive"),
            (Method::GET, REPORT) => {
                let query = request.uri().query().unwrap_or_default();
                self.report(value(query, "after"), value(query, "wait"))
                    .await
            }
            (Method::POST, ORDERS) => match read::<Order>(request).await {
                Ok(order) => taken(orders::take(&self.shared, order)),
                Err(refused) => *refused,
            },
            (_, LIVEZ | REPORT | ORDERS) => {
                text(StatusCode::METHOD_NOT_ALLOWED, "not with this method")
            }
            _ => text(StatusCode::NOT_FOUND, "there is nothing here"),
        }
    }
}

impl<E: Engine> Interface<E> {
    async fn report(&self, after: Option<u64>, wait: Option<u64>) -> Answer {
        let mut report = self.shared.report.subscribe();
        if let Some(after) = after {
            let wait = Duration::from_millis(wait.unwrap_or_default()).min(POLL);
            let _ = timeout(wait, report.wait_for(|r| r.sequence != after)).await;
        }
        let report = report.borrow().clone();
        json(&report)
    }
}

fn value(query: &str, key: &str) -> Option<u64> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(k, _)| *k == key)?.1.parse().ok()
}

fn taken(taken: Result<(), Refusal>) -> Answer {
    match taken {
        Ok(()) => text(StatusCode::ACCEPTED, "taken"),
        Err(Refusal::Busy(why)) => text(StatusCode::CONFLICT, &why),
        Err(Refusal::Away(why)) => text(StatusCode::SERVICE_UNAVAILABLE, &why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_the_operators_alone() {
        let member = Caller::Member("db-1".into());
        assert!(allowed(&Caller::Operator, ORDERS) && !allowed(&member, ORDERS));
        assert!(allowed(&member, REPORT) && !allowed(&Caller::Anyone, REPORT));
        assert!(allowed(&Caller::Anyone, LIVEZ) && !allowed(&member, "/anything"));
    }
}
