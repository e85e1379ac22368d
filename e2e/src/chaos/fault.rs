//! What a fault is, and what it is done to.

use std::net::IpAddr;
use std::time::Instant;

use anyhow::{Context as _, Result};
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::witness::Witnesses;
use crate::faults::link::Link;
use crate::faults::process::{self, PodProcess};
use crate::scenarios::Company;
use crate::scenarios::failures::faults;
use crate::scenarios::kit::{Look, READY, Sandbox};
use crate::scenarios::set::{Kind, shards};
use crate::scenarios::writer::Writer;

/// A fault.
pub struct Fault {
    /// Its name.
    pub name: &'static str,
    /// What happens, in a sentence.
    pub what: &'static str,
    /// To which kinds of sets it is done.
    pub kinds: &'static [Kind],
    /// What an acknowledgement is worth in the set, if it is a `Postgres`.
    pub worth: Worth,
    /// Where the client is.
    pub client: Place,
    /// Writers repeat what they do not know the outcome of in any case, not only if it is missing.
    pub sure: bool,
    /// Whether it may be done while others are, to sets of their own.
    pub company: Company,
    /// Do it, and wait until it has had its effect. Returns from when it counts that things get whole
    /// again.
    pub run: for<'a> fn(&'a Ground<'a>) -> BoxFuture<'a, Result<Instant>>,
}

/// What an acknowledgement is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// It is on the disks of several.
    Quorum,
    /// It is on the primary's disk.
    Async,
    /// So many replicas have confirmed it that one of them decides who is elected. What nobody confirmed is only
    /// taken: it may be lost, of the last seconds.
    Confirmed,
    /// A replica of its shard has confirmed it, and may be who is elected. What nobody confirmed is only taken; and a primary
    /// that is cut off takes that for some seconds beside its successor.
    ByShard,
}

/// Where the client is that writes through the Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On the node of a replica.
    WithReplica,
    /// On the primary's.
    WithPrimary,
}

impl Fault {
    /// One that touches nothing outside the set's own namespace.
    pub const fn new(
        name: &'static str,
        what: &'static str,
        run: for<'a> fn(&'a Ground<'a>) -> BoxFuture<'a, Result<Instant>>,
    ) -> Self {
        Self {
            name,
            what,
            kinds: &[Kind::Postgres],
            worth: Worth::Quorum,
            client: Place::WithReplica,
            sure: false,
            company: Company::Shares,
            run,
        }
    }

    /// To sets of each kind.
    #[must_use]
    pub const fn of_any(mut self) -> Self {
        self.kinds = &[Kind::Postgres, Kind::Redis];
        self
    }

    /// To sets of each kind, and to clusters.
    #[must_use]
    pub const fn of_every(mut self) -> Self {
        self.kinds = &[Kind::Postgres, Kind::Redis, Kind::RedisCluster];
        self
    }

    /// To a Redis only.
    #[must_use]
    pub const fn of_redis(mut self) -> Self {
        self.kinds = &[Kind::Redis];
        self
    }

    /// To a Redis only, and to clusters.
    #[must_use]
    pub const fn of_every_redis(mut self) -> Self {
        self.kinds = &[Kind::Redis, Kind::RedisCluster];
        self
    }

    /// To a cluster only.
    #[must_use]
    pub const fn of_cluster(mut self) -> Self {
        self.kinds = &[Kind::RedisCluster];
        self
    }

    /// During which nothing else may run.
    #[must_use]
    pub const fn alone(mut self, why: &'static str) -> Self {
        self.company = Company::Alone(why);
        self
    }

    /// With a client on the primary's node.
    #[must_use]
    pub const fn beside_the_primary(mut self) -> Self {
        self.client = Place::WithPrimary;
        self
    }

    /// With writers that take a row that is there for no promise.
    #[must_use]
    pub const fn retried_for_sure(mut self) -> Self {
        self.sure = true;
        self
    }

    /// To a set in which commits do not wait for replicas.
    #[must_use]
    pub const fn without_waiting(mut self) -> Self {
        self.worth = Worth::Async;
        self
    }

    /// Whether it may be done to the same set as another one, before the same client.
    pub fn goes_with(&self, other: &Self) -> bool {
        (self.worth, self.client, self.sure) == (other.worth, other.client, other.sure)
    }

    /// What an acknowledgement is worth in a set of that kind.
    pub fn worth(&self, kind: Kind) -> Worth {
        match kind {
            Kind::Postgres => self.worth,
            Kind::Redis => Worth::Confirmed,
            Kind::RedisCluster => Worth::ByShard,
        }
    }

    /// What the set is like.
    pub fn spec(&self, kind: Kind) -> Value {
        let durability = match self.worth(kind) {
            Worth::Quorum => "quorum",
            Worth::Async => "async",
            Worth::Confirmed => "bounded",
            Worth::ByShard => return json!({"mode": "Cluster", "shards": 3, "replicas": 1}),
        };
        json!({"instances": 3, "durability": durability})
    }
}

/// Name a function of a module as a fault.
macro_rules! fault {
    ($function:ident, $what:literal) => {
        $crate::chaos::fault::Fault::new(stringify!($function), $what, |ground| {
            Box::pin($function(ground))
        })
    };
}
pub(super) use fault;

/// What a fault is done to.
pub struct Ground<'a> {
    /// The namespace.
    pub sandbox: &'a Sandbox<'a>,
    /// Of which kind the set is.
    pub kind: Kind,
    /// Who is primary before; of a cluster, in the shard that it is done to.
    pub primary: String,
    /// The others, or those of that shard.
    pub replicas: Vec<String>,
    /// The client.
    pub writer: &'a Writer<'a>,
    /// Those who write in each member's own network.
    pub witnesses: &'a Witnesses,
}

/// Command line of an agent.
pub const AGENT: &str = "mainstay agent";
/// Of the first process of a container.
pub const INIT: &str = "mainstay init";

impl<'a> Ground<'a> {
    /// A set with that primary.
    ///
    /// # Errors
    /// It is none any more.
    pub async fn new(
        sandbox: &'a Sandbox<'a>,
        kind: Kind,
        primary: String,
        writer: &'a Writer<'a>,
        witnesses: &'a Witnesses,
    ) -> Result<Self> {
        Ok(Self {
            sandbox,
            kind,
            replicas: kind.replicas(sandbox, &primary).await?,
            primary,
            writer,
            witnesses,
        })
    }

    /// All is whole again, and this one leads now.
    ///
    /// # Errors
    /// It does not any more.
    pub async fn is_led_by(&mut self, primary: String) -> Result<()> {
        self.replicas = self.kind.replicas(self.sandbox, &primary).await?;
        self.primary = primary;
        Ok(())
    }

    /// Who is primary now, by the status; of a cluster, whoever of those that had the shard's data before.
    ///
    /// # Errors
    /// It names nobody.
    pub async fn leads(&self) -> Result<String> {
        if self.kind != Kind::RedisCluster {
            return self.kind.primary(self.sandbox, "db").await;
        }
        let all = shards(self.sandbox, "db").await?;
        let primaries: Vec<String> = all.into_iter().map(|shard| shard.primary).collect();
        // A replica that has taken over first: the former primary may be put elsewhere.
        let had = self.replicas.iter().chain([&self.primary]);
        let mut had = had.filter(|member| primaries.contains(member));
        let found = had.next().cloned();
        found.with_context(|| format!("of {primaries:?} none had the shard of {}", self.primary))
    }

    /// Wait until another one is primary than was before.
    ///
    /// # Errors
    /// None is in time.
    pub async fn succeeded(&self) -> Result<String> {
        let what = format!("another primary than {}", self.primary);
        self.sandbox
            .until(&what, READY, || async {
                Ok(match self.leads().await {
                    Ok(now) if now != self.primary => Look::Done(now),
                    other => Look::seen(&other),
                })
            })
            .await
    }

    /// Wait until the set is whole.
    ///
    /// # Errors
    /// It is not in time.
    pub async fn settled(&self) -> Result<()> {
        self.kind.settled(self.sandbox, "db").await
    }

    /// The first of the replicas.
    ///
    /// # Errors
    /// There is none.
    pub fn replica(&self) -> Result<&str> {
        self.replicas
            .first()
            .map(String::as_str)
            .context("a replica")
    }

    /// The pod of an instance.
    ///
    /// # Errors
    /// There is none.
    pub async fn pod(&self, instance: &str) -> Result<Pod> {
        Ok(self.sandbox.api::<Pod>().get(instance).await?)
    }

    /// Address of an instance's pod.
    ///
    /// # Errors
    /// It does not run.
    pub async fn address(&self, instance: &str) -> Result<IpAddr> {
        let ip = self.pod(instance).await?.status.and_then(|s| s.pod_ip);
        Ok(ip.context("a pod that runs has an address")?.parse()?)
    }

    /// The first process of an instance's engine.
    ///
    /// # Errors
    /// It does not run.
    pub async fn engine(&self, instance: &str) -> Result<PodProcess> {
        self.process(instance, self.kind.process()).await
    }

    /// The processes of an instance's pod whose command line contains `part`.
    ///
    /// # Errors
    /// There is no such pod.
    pub async fn processes(&self, instance: &str, part: &str) -> Result<Vec<PodProcess>> {
        let uid = self.pod(instance).await?.uid().context("a pod has a uid")?;
        Ok(process::of_pod(&uid, part)?)
    }

    /// The first of them.
    ///
    /// # Errors
    /// There is none.
    pub async fn process(&self, instance: &str, part: &str) -> Result<PodProcess> {
        let first = self.processes(instance, part).await?.into_iter().next();
        first.with_context(|| format!("no process of {instance} is called {part:?}"))
    }

    /// The links of the primary's pod, which runs on `node`; `table` is to hold the fault.
    ///
    /// # Errors
    /// The cluster has no faults, or the pod does not run.
    pub async fn links<'b>(&'b self, node: &'b str, table: &'b str) -> Result<Link<'b>>
    where
        'a: 'b,
    {
        Ok(Link {
            cluster: faults(self.sandbox)?,
            node,
            table,
            pod: self.address(&self.primary).await?,
        })
    }

    /// A name for what is made outside the namespace: nobody else has it.
    pub fn unique(&self) -> String {
        format!("mainstay-fault-{}", self.sandbox.namespace)
    }
}
