//! What a set gives: a database, reached safely, that costs nothing when nothing happens.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use serde_json::json;

use super::kit::{READY, Sandbox, Side, condition};
use crate::figures::requests;
use mainstay_crds::common::{Durability, InstanceRole};
use mainstay_crds::postgres::Postgres;

/// Three instances in three zones; an application writes, reads, and reads from a replica.
pub async fn application_connects(s: &Sandbox<'_>) -> Result<()> {
    s.postgres("db", &json!({"instances": 3})).await?;
    let pg = s.settled("db", READY).await?;
    let status = pg.status.unwrap_or_default();
    let zones: BTreeSet<_> = status
        .instances
        .iter()
        .filter_map(|i| i.zone.clone())
        .collect();
    ensure!(
        zones.len() == 3,
        "instances are in {zones:?}, not in three zones"
    );
    ensure!(
        status.durability == Some(Durability::Quorum),
        "durability is {:?}",
        status.durability
    );
    let survives = status.survives.unwrap_or_default();
    ensure!(
        survives.node == survives.zone,
        "with one node per zone both are the same: {survives:?}"
    );
    let primaries = status
        .instances
        .iter()
        .filter(|i| i.role == InstanceRole::Primary)
        .count();
    ensure!(primaries == 1, "{primaries} primaries");

    let client = s.client("app", "db", true).await?;
    client
        .sql(
            Side::Primary,
            "create table t (id int primary key, note text)",
        )
        .await?;
    client
        .sql(Side::Primary, "insert into t values (1, 'kept')")
        .await?;
    let row = client
        .sql(Side::Primary, "select note from t where id = 1")
        .await?;
    ensure!(row == "kept", "the primary answered {row:?}");
    let replica = client.sql(
        Side::Replicas,
        "select pg_is_in_recovery(), note from t where id = 1",
    );
    // Quorum: one of two replicas has the row when the insert returns; give the other a moment.
    let row = s.until("the row on a replica", Duration::from_secs(10), {
        let mut first = Some(replica);
        let client = &client;
        move || {
            let again = first.take();
            async move {
                let got = match again {
                    Some(query) => query.await,
                    None => {
                        client
                            .sql(
                                Side::Replicas,
                                "select pg_is_in_recovery(), note from t where id = 1",
                            )
                            .await
                    }
                };
                Ok(match got {
                    Ok(row) if row == "t|kept" => super::kit::Look::Done(row),
                    other => super::kit::Look::seen(&other),
                })
            }
        }
    });
    row.await?;
    let tls = client
        .sql(
            Side::Primary,
            "select version from pg_stat_ssl where pid = pg_backend_pid()",
        )
        .await?;
    ensure!(tls == "TLSv1.3", "the connection speaks {tls:?}");

    let facts = s.admin_sql(
        "db-1",
        "select (select count(*) from pg_authid where rolsuper and rolpassword is not null), \
                current_setting('data_checksums'), current_setting('server_encoding'), \
                current_setting('password_encryption')",
    );
    let facts = facts.await?;
    ensure!(
        facts == "0|on|UTF8|scram-sha-256",
        "the database was made with {facts}"
    );
    Ok(())
}

/// Whoever should not get in does not, and each is refused for its own reason.
pub async fn connections_are_refused(s: &Sandbox<'_>) -> Result<()> {
    s.postgres("db", &json!({})).await?;
    s.settled("db", READY).await?;
    let client = s.client("app", "db", true).await?;
    client
        .try_with("sslmode=verify-full sslrootcert=/binding/ca.crt")
        .await?;
    let plain = client.try_with("sslmode=disable").await;
    let plain = format!("{:?}", plain.err());
    ensure!(
        plain.contains("no encryption"),
        "plain text was answered with {plain}"
    );
    let system = client
        .try_with("sslmode=verify-full sslrootcert=system")
        .await;
    let system = format!("{:?}", system.err());
    ensure!(
        system.contains("certificate verify failed"),
        "a foreign authority was answered with {system}"
    );
    let superuser = client
        .try_with("user=postgres sslmode=verify-full sslrootcert=/binding/ca.crt")
        .await;
    ensure!(superuser.is_err(), "the superuser got in over the network");
    let stranger = s.client("stranger", "db", false).await?;
    let refused = stranger.try_with("sslmode=require").await;
    let refused = format!("{:?}", refused.err());
    ensure!(
        refused.contains("timeout") || refused.contains("timed out"),
        "a pod that is not allowed was answered with {refused}"
    );
    Ok(())
}

/// Half a minute in which nobody asks for anything, seen from the API server's own metrics.
pub async fn a_settled_set_is_quiet(s: &Sandbox<'_>) -> Result<()> {
    s.postgres("db", &json!({"instances": 3})).await?;
    s.settled("db", READY).await?;
    // Let what the last transition caused come to an end.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = s.api::<Postgres>().get("db").await?.status;
    let mut grown = requests::per_minute(&s.ctx.client, Duration::from_secs(30)).await?;
    // Kubelets report nodes, and leases are promised; every other write would be ours.
    grown.retain(|key, _| {
        let write = ["POST", "PUT", "PATCH", "APPLY", "DELETE"]
            .iter()
            .any(|verb| key.starts_with(verb));
        let allowed =
            key.ends_with(" leases") || key.ends_with(" nodes") || key.ends_with("reviews");
        write && !allowed
    });
    if !grown.is_empty() {
        let after = s.api::<Postgres>().get("db").await?.status;
        bail!(
            "a settled set causes writes per minute: {grown:?}; it was {before:?}, it is {after:?}"
        );
    }
    Ok(())
}

/// Two sets, one namespace: each its own data, credentials and authority.
pub async fn two_in_one_namespace(s: &Sandbox<'_>) -> Result<()> {
    s.postgres("one", &json!({})).await?;
    s.postgres("two", &json!({"instances": 2})).await?;
    s.settled("one", READY).await?;
    let two = s.settled("two", READY).await?;
    ensure!(condition(&two, "Ready") == Some("True"));
    let a = s.client("app-one", "one", true).await?;
    let b = s.client("app-two", "two", true).await?;
    a.sql(Side::Primary, "create table only_in_one ()").await?;
    let missing = b
        .sql(Side::Primary, "select to_regclass('only_in_one') is null")
        .await?;
    ensure!(
        missing == "t",
        "the second database has the first one's table"
    );
    let ids: BTreeSet<_> = [
        s.admin_sql("one-1", "select system_identifier from pg_control_system()")
            .await?,
        s.admin_sql("two-1", "select system_identifier from pg_control_system()")
            .await?,
    ]
    .into();
    ensure!(ids.len() == 2, "both have the system identifier {ids:?}");
    let other = a
        .try_with("host=two-rw sslmode=verify-ca sslrootcert=/binding/ca.crt")
        .await;
    ensure!(other.is_err(), "a client of one got into the other");
    Ok(())
}
