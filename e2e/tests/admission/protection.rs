//! Deletion protection, as the chart installs it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use libtest_mimic::Trial;
use mainstay_crds::postgres::Postgres;
use mainstay_e2e::apiserver::ApiServer;
use mainstay_testkit::postgres_cases::patched;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{Server, render, trial};

/// Longest time until the API server heeds a new policy.
const HEEDED_WITHIN: Duration = Duration::from_secs(30);

pub fn trials(api: Option<&Arc<ApiServer>>) -> Vec<Trial> {
    vec![trial(
        "protection::of a resource by itself and with its namespace",
        api,
        protected,
    )]
}

async fn protected(server: Server) -> Result<()> {
    let policy = render(
        &server.api,
        "mainstay",
        &["templates/deletion-protection.yaml"],
    )
    .await?;
    server.api.apply(&policy).await?;
    server.api.kubectl(&["create", "namespace", "kept"]).await?;
    let postgreses: Api<Postgres> = Api::namespaced(server.client.clone(), "kept");
    for name in ["by-default", "said", "with-namespace"] {
        let mut resource = patched(&json!({ "metadata": { "name": name, "namespace": "kept" } }));
        if name == "said" {
            resource["spec"]["deletion"] = json!({ "protection": true });
        }
        let resource: Postgres = serde_json::from_value(resource)?;
        postgreses.create(&PostParams::default(), &resource).await?;
    }

    let sentence = refusal_of(&postgreses, "by-default").await?;
    ensure!(
        sentence.contains("Postgres kept/by-default is protected against deletion")
            && sentence.contains("first set `spec.deletion.protection: false` and apply that"),
        "{sentence}"
    );
    refusal_of(&postgreses, "said").await?;

    let lifted = json!({ "spec": { "deletion": { "protection": false } } });
    postgreses
        .patch("said", &PatchParams::default(), &Patch::Merge(&lifted))
        .await?;
    postgreses.delete("said", &DeleteParams::default()).await?;
    ensure!(
        postgreses.get_opt("said").await?.is_none(),
        "it is still there"
    );

    // A namespace that ends takes its resources with it, protected or not.
    server
        .api
        .kubectl(&["delete", "namespace", "kept", "--wait=false"])
        .await?;
    let deadline = Instant::now() + HEEDED_WITHIN;
    while let Err(error) = postgreses
        .delete("with-namespace", &DeleteParams::default())
        .await
    {
        // The policy sees the namespace through a cache.
        if Instant::now() > deadline {
            bail!("still protected in a namespace that ends: {error}");
        }
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// What a deletion is answered, as a dry run, once the policy is heeded.
async fn refusal_of(postgreses: &Api<Postgres>, name: &str) -> Result<String> {
    let dry_run = DeleteParams::default().dry_run();
    let deadline = Instant::now() + HEEDED_WITHIN;
    loop {
        match postgreses.delete(name, &dry_run).await {
            Err(kube::Error::Api(status)) => return Ok(status.message),
            Err(other) => return Err(other.into()),
            Ok(_) if Instant::now() > deadline => bail!("{name} could be deleted"),
            Ok(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}
