//! Certificates of a Redis that are issued anew beneath engines that go on.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{DeleteParams, LogParams};
use mainstay_crds::redis::Redis;

use crate::chaos::fault::Ground;
use crate::scenarios::kit::{Look, READY};

/// What an engine logs when it connects to its primary, whatever its make calls that.
const CONNECTS: &str = "<-> REPLICA sync started";

/// As whom instances serve, which processes do, and how often they have connected to their primaries.
pub struct Identities {
    served: BTreeMap<String, String>,
    engines: Vec<i32>,
    connected: BTreeMap<String, usize>,
}

impl Identities {
    /// As it is.
    pub async fn of(g: &Ground<'_>) -> Result<Self> {
        let (served, engines) = (served(g).await?, engines(g).await?);
        let connected = connected(g).await?;
        ensure!(
            served.len() == g.kind.instances().len(),
            "the status has certificates of {served:?}"
        );
        ensure!(
            connected.values().any(|often| *often > 0),
            "no engine logs that it connects to its primary: {connected:?}"
        );
        Ok(Self {
            served,
            engines,
            connected,
        })
    }

    /// Wait until each serves another certificate than then.
    pub async fn until_others(&self, g: &Ground<'_>) -> Result<()> {
        g.sandbox
            .until("other certificates to be served", READY, || async {
                let now = served(g).await?;
                let other = |(instance, serial): (&String, &String)| {
                    now.get(instance).is_some_and(|now| now != serial)
                };
                Ok(if self.served.iter().all(other) {
                    Look::Done(())
                } else {
                    Look::seen(&now)
                })
            })
            .await
    }

    /// No engine was started again since then, and no replica connected anew.
    pub async fn of_same_engines(&self, g: &Ground<'_>) -> Result<()> {
        ensure!(
            self.engines == engines(g).await?,
            "an engine was started again"
        );
        let connected = connected(g).await?;
        ensure!(
            self.connected == connected,
            "replicas connected anew: {:?} before, {connected:?} now",
            self.connected
        );
        Ok(())
    }
}

/// All certificates are taken away, so that others are issued.
pub async fn issue_anew(g: &Ground<'_>) -> Result<()> {
    let secrets = g.sandbox.api::<Secret>();
    for instance in g.kind.instances() {
        let secret = format!("{instance}-tls");
        secrets.delete(&secret, &DeleteParams::default()).await?;
    }
    Ok(())
}

/// The serial numbers that are served, by instance.
async fn served(g: &Ground<'_>) -> Result<BTreeMap<String, String>> {
    let redis = g.sandbox.api::<Redis>().get("db").await?;
    let certificates = redis.status.unwrap_or_default().certificates.into_iter();
    Ok(certificates.map(|c| (c.name, c.served_serial)).collect())
}

/// Ids of the engines' processes.
async fn engines(g: &Ground<'_>) -> Result<Vec<i32>> {
    let mut all = Vec::new();
    for instance in g.kind.instances() {
        all.push(g.engine(instance).await?.pid);
    }
    Ok(all)
}

/// How often engines have connected to their primaries, by instance.
async fn connected(g: &Ground<'_>) -> Result<BTreeMap<String, usize>> {
    let pods = g.sandbox.api::<Pod>();
    let mut all = BTreeMap::new();
    for instance in g.kind.instances() {
        let log = pods.logs(instance, &LogParams::default()).await?;
        let often = log.lines().filter(|l| l.contains(CONNECTS)).count();
        all.insert((*instance).to_owned(), often);
    }
    Ok(all)
}
