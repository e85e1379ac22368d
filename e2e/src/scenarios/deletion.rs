//! The end of a set, wanted and not.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use mainstay_crds::postgres::Postgres;
use serde_json::json;

use super::kit::{Look, READY, Sandbox, Side};

/// Refused with a sentence while protected, which is the default.
pub async fn protected(s: &Sandbox<'_>) -> Result<()> {
    s.postgres("db", &json!({"deletion": {"protection": null}}))
        .await?;
    s.settled("db", READY).await?;
    let api = s.api::<Postgres>();
    let refusal = api.delete("db", &DeleteParams::default()).await;
    let refusal = format!("{:?}", refusal.err());
    ensure!(
        refusal.contains("deletion.protection"),
        "it was answered with {refusal}"
    );
    let pg = api.get("db").await?;
    ensure!(
        pg.metadata.deletion_timestamp.is_none(),
        "it is being deleted all the same"
    );
    s.change("db", &json!({"deletion": {"protection": false}}))
        .await?;
    s.delete::<Postgres>("db", READY).await
}

/// Everything but claims and credentials goes; a resource of the same name takes them up again.
pub async fn deletion_and_adoption(s: &Sandbox<'_>) -> Result<()> {
    let spec = json!({"instances": 3, "deletion": {"volumes": "Retain"}});
    s.postgres("db", &spec).await?;
    s.settled("db", READY).await?;
    let client = s.client("app", "db", true).await?;
    client
        .sql(
            Side::Primary,
            "create table t as select generate_series(1, 500) id",
        )
        .await?;
    let identifier = s
        .admin_sql("db-1", "select system_identifier from pg_control_system()")
        .await?;
    s.delete::<Postgres>("db", READY).await?;
    s.until("the pods to be gone", READY, || async {
        let left = s.pod_uids("db").await?;
        Ok(if left.is_empty() {
            Look::Done(())
        } else {
            Look::seen(&left)
        })
    })
    .await?;
    let claims = s
        .api::<PersistentVolumeClaim>()
        .list(&ListParams::default())
        .await?;
    ensure!(
        claims.items.len() == 3,
        "{} claims were kept",
        claims.items.len()
    );
    ensure!(
        s.api::<Secret>().get_opt("db-app").await?.is_some(),
        "the credentials were not kept"
    );

    s.postgres("db", &spec).await?;
    s.settled("db", READY).await?;
    let now = s
        .admin_sql("db-1", "select system_identifier from pg_control_system()")
        .await?;
    ensure!(
        now == identifier,
        "the data was not adopted: {now} instead of {identifier}"
    );
    // The application's mounted Secret, authority included, is still good.
    let n = client.sql(Side::Primary, "select count(*) from t").await?;
    ensure!(n == "500", "{n} rows are left");

    // And with `Delete` nothing is left.
    s.change("db", &json!({"deletion": {"volumes": "Delete"}}))
        .await?;
    s.settled("db", READY).await?;
    s.delete::<Postgres>("db", READY).await?;
    s.until("claims to be gone", READY, || async {
        let left = s
            .api::<PersistentVolumeClaim>()
            .list(&ListParams::default())
            .await?;
        let names: Vec<_> = left.iter().map(ResourceExt::name_any).collect();
        Ok(if names.is_empty() {
            Look::Done(())
        } else {
            Look::seen(&names)
        })
    })
    .await
}

/// The namespace goes although the resource in it is protected; nothing hangs.
pub async fn namespace_deleted(s: &Sandbox<'_>) -> Result<()> {
    s.postgres(
        "db",
        &json!({"instances": 2, "deletion": {"protection": true, "volumes": "Retain"}}),
    )
    .await?;
    s.settled("db", READY).await?;
    let n = s
        .api::<Pod>()
        .list(&ListParams::default())
        .await?
        .items
        .len();
    ensure!(n == 2, "{n} pods");
    s.remove().await
}
