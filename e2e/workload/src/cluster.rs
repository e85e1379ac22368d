//! Redis Cluster as an application sees it: by the cluster's own protocol, over verified TLS, as the application's user.
//!
//! The client is the crate's own for clusters, which goes where it is led; the seed is the binding's host.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use ::redis::cluster::{ClusterClient, ClusterClientBuilder};
use ::redis::cluster_async::ClusterConnection;
use ::redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use ::redis::{RedisError as Refused, TlsCertificates, Value};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::binding::{Binding, BindingError};
use super::ledger::Outcome;
use super::redis::{CONFIRMED_BY, Confirm};
use super::writer::{Again, Attempt, Engine, Session};

/// Keys of ledgers begin so; the ledger's name and the number follow.
const LEDGER: &str = "mainstay:ledger:";
/// Longest wait for a connection to one node.
const CONNECT: Duration = Duration::from_millis(500);
/// Longest wait for one node's answer, besides what replicas may take.
const ANSWER: Duration = Duration::from_secs(1);
/// How often the client tries, as applications have it: while a primary is being elected it goes on trying.
const RETRIES: u32 = 100;
/// Shortest and longest pause between tries, in milliseconds.
const PAUSE: (u64, u64) = (10, 100);
/// Keys that are asked for at a time.
const SOME: usize = 32;

/// Why a cluster could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The binding.
    #[error(transparent)]
    Binding(#[from] BindingError),
    /// The cluster's answer, or none.
    #[error("the cluster: {0}")]
    Cluster(#[from] Refused),
}

/// The cluster behind a binding, for one ledger.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Folder of the binding; read again for each connection.
    pub binding: PathBuf,
    /// Name of the ledger.
    pub run: String,
    /// What makes a write an acknowledged one.
    pub confirm: Confirm,
    /// Each write has a connection of its own.
    pub fresh: bool,
}

/// An open connection, to all members.
pub struct Connection {
    cluster: ClusterConnection,
    run: String,
    confirm: Confirm,
    fresh: bool,
}

impl Cluster {
    fn client(&self) -> Result<ClusterClient, ClusterError> {
        let binding = Binding::read(&self.binding)?;
        let seed = format!("rediss://{}:{}", binding.host, binding.port);
        let client = ClusterClientBuilder::new([seed])
            .username(binding.username)
            .password(binding.password)
            .certs(TlsCertificates {
                client_tls: None,
                root_cert: Some(binding.ca.into_bytes()),
            })
            .connection_timeout(CONNECT)
            .response_timeout(ANSWER + self.confirm.within)
            .retries(RETRIES)
            .min_retry_wait(PAUSE.0)
            .max_retry_wait(PAUSE.1)
            .build()?;
        Ok(client)
    }

    async fn open(&self) -> Result<ClusterConnection, ClusterError> {
        Ok(self.client()?.get_async_connection().await?)
    }

    fn key(&self, id: u64) -> String {
        key(&self.run, id)
    }

    /// Which of the numbers up to `last` the cluster has.
    ///
    /// # Errors
    /// It cannot be asked.
    pub async fn present(&self, last: u64) -> Result<BTreeSet<u64>, ClusterError> {
        let open = self.open().await?;
        let asked = stream::iter(1..=last).map(|id| {
            let (mut open, key) = (open.clone(), self.key(id));
            async move {
                let there: bool = ::redis::cmd("EXISTS")
                    .arg(key)
                    .query_async(&mut open)
                    .await?;
                Ok::<_, ClusterError>(there.then_some(id))
            }
        });
        let all: Vec<Option<u64>> = asked.buffer_unordered(SOME).try_collect().await?;
        Ok(all.into_iter().flatten().collect())
    }
}

fn key(run: &str, id: u64) -> String {
    format!("{LEDGER}{run}:{id}")
}

impl Engine for Cluster {
    type Session = Connection;

    async fn connect(&self) -> Result<Connection, String> {
        Ok(Connection {
            cluster: self.open().await.map_err(|e| e.to_string())?,
            run: self.run.clone(),
            confirm: self.confirm,
            fresh: self.fresh,
        })
    }
}

impl Connection {
    /// Ask the replicas of the shard that has a key for all that was written to it before.
    async fn wait(&mut self, key: &str, replicas: u32) -> Result<Value, Refused> {
        let within = u64::try_from(self.confirm.within.as_millis()).unwrap_or(u64::MAX);
        let mut wait = ::redis::cmd("WAIT");
        wait.arg(replicas).arg(within);
        let route = Route::with_key(key, SlotAddr::Master);
        let there = SingleNodeRoutingInfo::SpecificNode(route);
        self.cluster
            .route_command(wait, RoutingInfo::SingleNode(there))
            .await
    }
}

impl Session for Connection {
    async fn write(&mut self, id: u64, _: Again) -> Attempt {
        let attempt = self.set(id).await;
        Attempt {
            usable: attempt.usable && !self.fresh,
            ..attempt
        }
    }
}

impl Connection {
    /// One write.
    async fn set(&mut self, id: u64) -> Attempt {
        let key = key(&self.run, id);
        let mut set = ::redis::cmd("SET");
        set.arg(&key).arg(id);
        let written: Result<(), Refused> = set.query_async(&mut self.cluster).await;
        if let Err(error) = written {
            // The client may have tried several members: nobody knows what became of it at which.
            return attempt(Outcome::Unknown, error.to_string(), !error.is_io_error());
        }
        let Some(replicas) = self.confirm.of(id) else {
            return attempt(Outcome::Taken, String::new(), true);
        };
        match self.wait(&key, replicas).await {
            Ok(Value::Int(n)) if n >= i64::from(replicas) => {
                attempt(Outcome::Acknowledged, format!("by {n}"), true)
            }
            // The server has it, as one that nobody was asked about: a shard's only replica may be away.
            Ok(Value::Int(n)) => attempt(Outcome::Taken, format!("{CONFIRMED_BY} {n}"), true),
            Ok(other) => attempt(
                Outcome::Unknown,
                format!("WAIT was answered {other:?}"),
                true,
            ),
            Err(error) => attempt(Outcome::Unknown, error.to_string(), !error.is_io_error()),
        }
    }
}

fn attempt(outcome: Outcome, detail: String, usable: bool) -> Attempt {
    Attempt {
        outcome,
        alone: false,
        term: None,
        detail,
        usable,
    }
}
