//! A login of its own for one application: what it may do, another password, and its end.

use anyhow::{Context as _, Result, ensure};
use kube::api::PostParams;
use mainstay_crds::access::Access;
use mainstay_crds::operation::OperationPhase;
use mainstay_crds::redis::Redis;
use serde_json::{Value, json};

use super::kit::{Look, READY, Sandbox};
use super::operations::{ask, over};
use super::redis_cli::Client;

/// The login, its `Access` and its Secret.
const LOGIN: &str = "reports";

/// In one Redis.
pub async fn redis_login(s: &Sandbox<'_>) -> Result<()> {
    login(s, &json!({"instances": 2}), &[]).await
}

/// In a cluster, of which each member knows it.
pub async fn redis_cluster_login(s: &Sandbox<'_>) -> Result<()> {
    let spec = json!({"mode": "Cluster", "shards": 3, "replicas": 1});
    // It goes where it is led.
    login(s, &spec, &["-c"]).await
}

/// Wait until every instance knows it.
async fn known(s: &Sandbox<'_>) -> Result<()> {
    s.until("the login to be known", READY, || async {
        let seen = s.api::<Access>().get(LOGIN).await?;
        let status = seen.status.unwrap_or_default();
        let ready = status
            .conditions
            .iter()
            .any(|c| c.type_ == "Ready" && c.status == "True");
        Ok(
            if ready && status.observed_generation == seen.metadata.generation {
                Look::Done(())
            } else {
                Look::seen(&status)
            },
        )
    })
    .await
}

async fn login(s: &Sandbox<'_>, spec: &Value, options: &[&str]) -> Result<()> {
    s.apply::<Redis>("db", spec).await?;
    s.settled_of::<Redis>("db", READY).await?;
    let access: Access = serde_json::from_value(json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "Access",
        "metadata": {"name": LOGIN},
        "spec": {
            "target": {"kind": "Redis", "name": "db"},
            "redis": {"keys": ["reports:*"], "readOnlyKeys": ["shop:*"], "categories": ["read", "write"]},
        },
    }))?;
    s.api::<Access>()
        .create(&PostParams::default(), &access)
        .await?;
    known(s).await?;
    let (shop, reports) = (
        Client::of(s, "db").await?,
        Client::by(s, "db", LOGIN).await?,
    );
    let all = |words: &[&'static str]| [options, words].concat();
    // Their slots are in different shards of a cluster.
    for key in ["shop:1", "shop:2", "shop:3", "shop:4"] {
        shop.ask(&[options, &["SET", key, "sold"]].concat()).await?;
        let read = reports.ask(&[options, &["GET", key]].concat()).await?;
        ensure!(read == "sold", "{key} is {read:?} for it");
    }
    reports.ask(&all(&["SET", "reports:1", "good"])).await?;
    for refused in [
        all(&["SET", "shop:1", "stolen"]),
        all(&["GET", "other:1"]),
        all(&["CONFIG", "GET", "maxmemory"]),
        all(&["FLUSHALL"]),
    ] {
        let why = reports.ask(&refused).await.err();
        let why = why.with_context(|| format!("it may {refused:?}"))?;
        ensure!(
            format!("{why:#}").contains("NOPERM"),
            "{refused:?}: {why:#}"
        );
    }

    // Who reads the Secret is let in with what it says, before and after.
    let before = s.password(LOGIN).await?;
    let what = json!({
        "target": {"kind": "Redis", "name": "db"}, "action": "RotatePassword",
        "rotatePassword": {"access": LOGIN},
    });
    ask(s, "another-password", &what).await?;
    let done = over(s, "another-password").await?;
    ensure!(done.phase == Some(OperationPhase::Succeeded), "{done:?}");
    ensure!(
        s.password(LOGIN).await? != before,
        "the password is the same"
    );
    reports.ask(&all(&["GET", "reports:1"])).await?;
    let newcomer = Client::named(s, "newcomer", "db", LOGIN).await?;
    let read = newcomer.ask(&all(&["GET", "reports:1"])).await?;
    ensure!(read == "good", "reports:1 is {read:?}");

    s.delete::<Access>(LOGIN, READY).await?;
    s.until("the login to end", READY, || async {
        Ok(match newcomer.ask(&all(&["GET", "reports:1"])).await {
            Err(refused) if format!("{refused:#}").contains("WRONGPASS") => Look::Done(()),
            other => Look::seen(&other.map_err(|e| format!("{e:#}"))),
        })
    })
    .await?;
    shop.ask(&all(&["GET", "shop:1"])).await?;
    Ok(())
}
