//! The poolers in front of the set, as an agent talks to them. I/O.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use mainstay_shared::agent::client::{ClientError, post};
use mainstay_shared::names::{self, AGENT_PORT};
use rustls::ClientConfig;
use tokio::time::{sleep, timeout};

use crate::pooler::api::{PAUSE, Pause, Paused, RESUME};

/// Bound of asking where they are.
const LOOKUP: Duration = Duration::from_millis(500);
/// Bound of connecting: one that is gone holds a hand-over up for no longer.
const CONNECT: Duration = Duration::from_millis(800);
/// Bound of an answer beyond the limit.
const ANSWER: Duration = Duration::from_millis(700);
/// How often, and with which pause, one that does not answer is told that somebody leads. It finds out
/// by itself later.
const TELLS: (u32, Duration) = (5, Duration::from_millis(500));

/// All poolers of a set.
#[derive(Clone)]
pub struct Poolers {
    host: String,
    limit: Duration,
    tls: Arc<ClientConfig>,
}

impl Poolers {
    /// Of a set whose hand-overs wait so many seconds for transactions, as an instance of it.
    pub fn new(set: &str, namespace: &str, pause_seconds: u32, tls: Arc<ClientConfig>) -> Self {
        Self {
            host: names::pooler_host(set, namespace),
            limit: Duration::from_secs(pause_seconds.into()),
            tls,
        }
    }

    async fn all(&self) -> Vec<SocketAddr> {
        let port = u16::try_from(AGENT_PORT).unwrap_or_default();
        let found = timeout(LOOKUP, tokio::net::lookup_host((self.host.as_str(), port))).await;
        match found {
            Ok(Ok(addresses)) => addresses.collect(),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the poolers are not found");
                Vec::new()
            }
            Err(_) => {
                tracing::warn!("the poolers are not found in time");
                Vec::new()
            }
        }
    }

    /// Have all of them hold new transactions back, together, and return when those that run have ended
    /// or the limit is over. Whoever does not answer is left.
    pub async fn pause(&self) {
        let wish = Pause {
            limit_ms: u64::try_from(self.limit.as_millis()).unwrap_or(u64::MAX),
        };
        let all = self.all().await;
        let bounds = (CONNECT, self.limit + ANSWER);
        let asked = all.iter().map(|address| async move {
            let tls = Arc::clone(&self.tls);
            let answer = post(*address, &self.host, tls, (PAUSE, &wish), bounds).await?;
            serde_json::from_slice::<Paused>(&answer)
                .map_err(|e| ClientError::Unreadable(e.to_string()))
        });
        for outcome in join_all(asked).await {
            match outcome {
                Ok(Paused { quiet: true }) => tracing::info!("a pooler holds its clients back"),
                Ok(Paused { quiet: false }) => {
                    tracing::warn!(limit = ?self.limit, "transactions through a pooler outlast the limit");
                }
                Err(error) => tracing::warn!(%error, "a pooler does not hold its clients back"),
            }
        }
    }

    /// Tell all of them that this instance leads and lets clients in.
    pub async fn resume(&self) {
        let mut left = self.all().await;
        for _ in 0..TELLS.0 {
            let asked = left.iter().map(|address| async move {
                let tls = Arc::clone(&self.tls);
                let told = post(*address, &self.host, tls, (RESUME, &()), (CONNECT, ANSWER)).await;
                told.err().map(|error| {
                    tracing::warn!(%error, "a pooler was not told that its clients may go on");
                    *address
                })
            });
            left = join_all(asked).await.into_iter().flatten().collect();
            if left.is_empty() {
                return;
            }
            sleep(TELLS.1).await;
        }
    }
}
