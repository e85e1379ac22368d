//! Certificates of a Redis that are issued anew beneath engines that go on.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::api::DeleteParams;
use mainstay_crds::redis::Redis;

use crate::chaos::fault::Ground;
use crate::scenarios::kit::{Look, READY};

/// As whom instances serve, and which processes do.
pub struct Identities {
    served: BTreeMap<String, String>,
    engines: Vec<i32>,
}

impl Identities {
    /// As it is.
    pub async fn of(g: &Ground<'_>) -> Result<Self> {
        let (served, engines) = (served(g).await?, engines(g).await?);
        ensure!(
            served.len() == g.kind.instances().len(),
            "the status has certificates of {served:?}"
        );
        Ok(Self { served, engines })
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

    /// No engine was started again since then.
    pub async fn of_same_engines(&self, g: &Ground<'_>) -> Result<()> {
        ensure!(
            self.engines == engines(g).await?,
            "an engine was started again"
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
