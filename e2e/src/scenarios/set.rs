//! Sets of every engine, as far as scenarios see the same in them.

use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource;
use kube::core::NamespaceResourceScope;
use mainstay_crds::common::{InstanceStatus, RecoveryStatus};
use mainstay_crds::postgres::Postgres;
use mainstay_crds::redis::{ClusterStatus, Redis, ShardStatus};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::kit::{INSTANCES, Look, READY, Sandbox};

/// A resource that is a set.
pub trait Set:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned
{
    /// Fields besides those that a scenario asks for: a version, a small volume, little memory, no protection.
    fn base() -> Value;
    /// As it is now.
    fn seen(&self) -> Seen;
}

/// A set as it is now, by its status.
pub struct Seen {
    /// The status speaks of the newest spec, it is `Ready`, has as many ready instances as asked for, and
    /// nothing is left to do.
    pub whole: bool,
    /// Who takes writes.
    pub primary: Option<String>,
    /// What a person would look at.
    pub told: String,
    /// What is said of it.
    pub conditions: Vec<Condition>,
    /// What is said of its backups.
    pub recovery: RecoveryStatus,
}

impl Seen {
    /// A condition: its status, and its message.
    pub fn condition(&self, kind: &str) -> Option<(&str, &str)> {
        let found = self.conditions.iter().find(|c| c.type_ == kind)?;
        Some((&found.status, &found.message))
    }

    /// Whether a condition is `True`.
    pub fn is(&self, kind: &str) -> bool {
        self.condition(kind)
            .is_some_and(|(status, _)| status == "True")
    }
}

/// What statuses of all engines have.
struct Status {
    generation: Option<i64>,
    wanted: i32,
    observed: Option<i64>,
    conditions: Vec<Condition>,
    instances: Vec<InstanceStatus>,
    primary: Option<String>,
    pending: Vec<String>,
    ready: Option<String>,
    waiting: Option<String>,
    recovery: Option<RecoveryStatus>,
}

impl Status {
    fn seen(self) -> Seen {
        let is = |kind: &str| {
            let found = self.conditions.iter().find(|c| c.type_ == kind);
            found.is_some_and(|c| c.status == "True")
        };
        let ready = self.instances.iter().filter(|i| i.ready).count();
        let whole = self.observed == self.generation
            && is("Ready")
            && !is("Reconciling")
            && i32::try_from(ready) == Ok(self.wanted)
            && self.instances.len() == ready
            && self.pending.is_empty();
        let told = self.conditions.iter();
        let told = told.map(|c| (&c.type_, &c.status, &c.message));
        let instances = self.instances.iter();
        let instances = instances.map(|i| (&i.name, i.role, i.ready, &i.state));
        Seen {
            told: format!(
                "ready {:?}, waiting {:?}, conditions {:?}, instances {:?}",
                self.ready,
                self.waiting,
                told.collect::<Vec<_>>(),
                instances.collect::<Vec<_>>()
            ),
            whole,
            primary: self.primary,
            conditions: self.conditions,
            recovery: self.recovery.unwrap_or_default(),
        }
    }
}

/// Their statuses have the same fields, and no type in common.
macro_rules! set {
    ($kind:ty, $base:tt) => {
        impl Set for $kind {
            fn base() -> Value {
                json!($base)
            }

            fn seen(&self) -> Seen {
                let status = self.status.clone().unwrap_or_default();
                let all = Status {
                    generation: self.metadata.generation,
                    wanted: self.spec.instances(),
                    observed: status.observed_generation,
                    conditions: status.conditions,
                    instances: status.instances,
                    primary: status.primary,
                    pending: status.pending_changes,
                    ready: status.ready,
                    waiting: status.waiting,
                    recovery: status.recovery,
                };
                all.seen()
            }
        }
    };
}

set!(Postgres, {
    "version": "17",
    "storage": {"size": "1Gi"},
    "resources": {"cpu": "100m", "memory": "256Mi"},
    "deletion": {"protection": false, "volumes": "Delete"},
});
set!(Redis, {
    "version": "8.0",
    "storage": {"size": "1Gi"},
    "resources": {"cpu": "50m", "memory": "256Mi"},
    "deletion": {"protection": false, "volumes": "Delete"},
});

/// Which of them, where that is not known before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// PostgreSQL.
    Postgres,
    /// Redis, one primary with replicas.
    Redis,
    /// Redis Cluster: three primaries with a replica each, which share the keys.
    RedisCluster,
}

/// Do the same with either.
macro_rules! either {
    ($kind:expr, $type:ident => $what:expr) => {
        match $kind {
            Kind::Postgres => {
                type $type = Postgres;
                $what
            }
            Kind::Redis | Kind::RedisCluster => {
                type $type = Redis;
                $what
            }
        }
    };
}

/// What the status says of a cluster.
///
/// # Errors
/// There is no such cluster.
pub async fn cluster(s: &Sandbox<'_>, name: &str) -> Result<ClusterStatus> {
    let status = s.api::<Redis>().get(name).await?.status.unwrap_or_default();
    status.cluster.context("the status tells of no cluster")
}

/// Shards of a cluster that own slots, by the status.
///
/// # Errors
/// There is no such cluster.
pub async fn shards(s: &Sandbox<'_>, name: &str) -> Result<Vec<ShardStatus>> {
    let own = cluster(s, name)
        .await?
        .shards
        .into_iter()
        .filter(|shard| shard.slots > 0);
    Ok(own.collect())
}

impl Kind {
    /// As `kind` says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "Postgres",
            Self::Redis | Self::RedisCluster => "Redis",
        }
    }

    /// As commands say it: the workload's, and the project's own.
    pub fn word(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Redis | Self::RedisCluster => "redis",
        }
    }

    /// Command line of the first process of an engine.
    pub fn process(self) -> &'static str {
        match self {
            Self::Postgres => "bin/postgres -D",
            Self::Redis | Self::RedisCluster => "redis-server",
        }
    }

    /// Names of the instances of a set called `db` that faults are done to.
    pub fn instances(self) -> &'static [&'static str] {
        match self {
            Self::Postgres | Self::Redis => &INSTANCES,
            Self::RedisCluster => &["db-1", "db-2", "db-3", "db-4", "db-5", "db-6"],
        }
    }

    /// Which tests and scenarios it is one of.
    pub fn is_redis(self) -> bool {
        self != Self::Postgres
    }

    /// Apply one with these fields besides [`Set::base`].
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn apply(self, s: &Sandbox<'_>, name: &str, spec: &Value) -> Result<()> {
        either!(self, K => s.apply::<K>(name, spec).await.map(drop))
    }

    /// Merge-patch its spec.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn change(self, s: &Sandbox<'_>, name: &str, spec: &Value) -> Result<()> {
        either!(self, K => s.change_of::<K>(name, spec).await.map(drop))
    }

    /// Wait until it is whole: see [`Seen::whole`].
    ///
    /// # Errors
    /// It is not in time, with the status as last seen.
    pub async fn settled(self, s: &Sandbox<'_>, name: &str) -> Result<()> {
        self.settled_within(s, name, READY).await
    }

    /// The same within another time.
    ///
    /// # Errors
    /// It is not in time, with the status as last seen.
    pub async fn settled_within(self, s: &Sandbox<'_>, name: &str, within: Duration) -> Result<()> {
        either!(self, K => s.settled_of::<K>(name, within).await.map(drop))
    }

    /// One as it is now.
    ///
    /// # Errors
    /// There is none.
    pub async fn seen(self, s: &Sandbox<'_>, name: &str) -> Result<Seen> {
        Ok(either!(self, K => s.api::<K>().get(name).await?.seen()))
    }

    /// Who takes writes, by the status; of a cluster in its first shard.
    ///
    /// # Errors
    /// It names nobody.
    pub async fn primary(self, s: &Sandbox<'_>, name: &str) -> Result<String> {
        if self == Self::RedisCluster {
            let first = shards(s, name).await?.into_iter().next();
            return Ok(first.context("the status names no shard")?.primary);
        }
        let seen = self.seen(s, name).await?;
        seen.primary.context("the status names no primary")
    }

    /// Who receives from that primary of the set `db`.
    ///
    /// # Errors
    /// It is no primary.
    pub async fn replicas(self, s: &Sandbox<'_>, primary: &str) -> Result<Vec<String>> {
        if self == Self::RedisCluster {
            let all = shards(s, "db").await?;
            let own = all.into_iter().find(|shard| shard.primary == primary);
            let own = own.with_context(|| format!("{primary} is no primary"))?;
            return Ok(own.replicas);
        }
        let others = self.instances().iter().filter(|i| **i != primary);
        Ok(others.map(|i| (*i).to_owned()).collect())
    }

    /// Wait until another instance of the set `db` is primary.
    ///
    /// # Errors
    /// None is in time.
    pub async fn another_primary(self, s: &Sandbox<'_>, before: &str) -> Result<String> {
        s.until("another primary", READY, || async {
            Ok(match self.primary(s, "db").await {
                Ok(now) if now != before => Look::Done(now),
                other => Look::seen(&other),
            })
        })
        .await
    }
}
