//! Backups into a real S3 server, and back: a new set is as the old one was at a moment.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use mainstay_crds::backup::{Backup, BackupPhase, BackupStatus};
use mainstay_crds::postgres::Postgres;
use mainstay_workload::ledger::{Entry, Outcome};
use serde_json::{Value, json};

use super::failover::{primary, written_as};
use super::failures::lose;
use super::kit::{Look, READY, Sandbox, condition, condition_message};
use super::set::Kind;
use super::writer::Writer;
use crate::chaos::fault::Place;

/// How long a set may take that is made from a repository.
pub(super) const RESTORED: Duration = Duration::from_mins(6);

/// A bucket of its own for this scenario, and the Secret with the store's credentials. Returns the repository
/// as a resource has it.
pub(super) async fn repository(s: &Sandbox<'_>) -> Result<Value> {
    let store = s.ctx.cluster.object_store().await?;
    let bucket = s.namespace.clone();
    // Where this process runs the store may not be reached; a bucket is a folder.
    let folder = store.data.join(&bucket);
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let secret: Secret = serde_json::from_value(json!({
        "metadata": {"name": "store"},
        "stringData": {
            "accessKeyId": store.access_key_id,
            "secretAccessKey": store.secret_access_key,
        },
    }))?;
    s.api::<Secret>()
        .create(&PostParams::default(), &secret)
        .await?;
    let authority = std::fs::read_to_string(&store.authority)?;
    Ok(json!({
        "s3": {"bucket": bucket, "endpoint": store.endpoint},
        "credentials": "store",
        "authority": {"certificate": authority},
    }))
}

/// Wait until the backups of a `Postgres` are healthy.
pub(super) async fn healthy(s: &Sandbox<'_>, set: &str) -> Result<()> {
    healthy_of(s, Kind::Postgres, set).await
}

/// Wait until a set's backups are healthy.
pub(super) async fn healthy_of(s: &Sandbox<'_>, kind: Kind, set: &str) -> Result<()> {
    s.until("backups to be healthy", READY, || async {
        let seen = kind.seen(s, set).await?;
        Ok(if seen.is("BackupHealthy") {
            Look::Done(())
        } else {
            Look::seen(&seen.condition("BackupHealthy"))
        })
    })
    .await
}

/// Ask for a backup of the `Postgres` `db`, and wait until it is over.
pub(super) async fn backup(s: &Sandbox<'_>, name: &str) -> Result<BackupStatus> {
    backup_of(s, Kind::Postgres, name).await
}

/// Ask for a backup of the set `db`, and wait until it is over.
pub(super) async fn backup_of(s: &Sandbox<'_>, kind: Kind, name: &str) -> Result<BackupStatus> {
    let object: Backup = serde_json::from_value(json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "Backup", "metadata": {"name": name},
        "spec": {"target": {"kind": kind.name(), "name": "db"}},
    }))?;
    let backups = s.api::<Backup>();
    backups.create(&PostParams::default(), &object).await?;
    s.until(&format!("backup {name} to end"), READY, || async {
        let status = backups.get(name).await?.status.unwrap_or_default();
        Ok(if status.phase.is_some_and(BackupPhase::is_over) {
            Look::Done(status)
        } else {
            Look::seen(&status)
        })
    })
    .await
}

/// One value of the primary, in the application's database.
pub(super) async fn value(s: &Sandbox<'_>, set: &str, sql: &str) -> Result<String> {
    let now = primary(s, set).await?;
    s.admin_sql_in(&now, "app", sql).await
}

/// Rows of the ledger that were acknowledged, and how many of them the set holds.
pub(super) async fn kept(s: &Sandbox<'_>, set: &str, ledger: &[Entry]) -> Result<(usize, usize)> {
    let acknowledged = ledger.iter().filter(|e| e.outcome == Outcome::Acknowledged);
    let acknowledged: BTreeSet<u64> = acknowledged.map(|e| e.id).collect();
    // What is there is read rather than asked for by number: a question goes by a URL, and has an end.
    let rows = "select id from mainstay_ledger where run = 'workload'";
    let held = value(s, set, rows).await?;
    let held: BTreeSet<u64> = held.lines().map(str::parse).collect::<Result<_, _>>()?;
    let kept = acknowledged.intersection(&held).count();
    Ok((acknowledged.len(), kept))
}

/// The primary goes with its volume, and with what it had not stored yet: another one leads, under load.
async fn lose_primary(s: &Sandbox<'_>, writer: &Writer<'_>) -> Result<()> {
    let lost = primary(s, "db").await?;
    lose(s, &lost).await?;
    s.until("another primary", READY, || async {
        // Meanwhile the status names nobody.
        let now = primary(s, "db").await;
        Ok(match now {
            Ok(now) if now != lost => Look::Done(()),
            other => Look::seen(&other),
        })
    })
    .await?;
    writer.more(100).await?;
    s.settled("db", READY).await?;
    Ok(())
}

/// Under load: a backup on demand; the primary is lost with its volume; a table is dropped. A new set of two from the
/// repository holds every row that was acknowledged before the drop, and none of later.
pub async fn backup_and_recovery(s: &Sandbox<'_>) -> Result<()> {
    let repository = repository(s).await?;
    let wanted = json!({
        "instances": 3,
        "backup": {"repository": repository, "encryption": {"iAcceptKeyLoss": true}},
    });
    let (writer, _) = written_as(s, &wanted, Place::WithReplica, false).await?;
    healthy(s, "db").await?;
    let done = backup(s, "now").await?;
    ensure!(done.phase == Some(BackupPhase::Succeeded), "{done:?}");
    let from = done.instance.clone().unwrap_or_default();
    ensure!(
        from != primary(s, "db").await?,
        "a replica should make it: {done:?}"
    );
    s.say(&format!(
        "{} from {from}",
        done.size.clone().unwrap_or_default()
    ));

    lose_primary(s, &writer).await?;
    let before = writer.more(200).await?;
    let clock =
        "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
    let moment = value(s, "db", clock).await?;
    writer.more(50).await?;
    let last = value(
        s,
        "db",
        "select max(id) from mainstay_ledger where run = 'workload'",
    )
    .await?;
    value(s, "db", "drop table mainstay_ledger").await?;
    let end =
        "select pg_walfile_name(pg_current_wal_lsn()) from (select pg_switch_wal()) as switched";
    let piece = value(s, "db", end).await?;
    s.until("the log to be archived", READY, || async {
        let seen = value(
            s,
            "db",
            "select coalesce(last_archived_wal, '') from pg_stat_archiver",
        )
        .await?;
        Ok(if seen.trim() >= piece.trim() {
            Look::Done(())
        } else {
            Look::NotYet(format!("{seen}, and not {piece}"))
        })
    })
    .await?;

    let mut from = repository.clone();
    from["prefix"] = json!(format!("{}/db", s.namespace));
    let restored = json!({
        "instances": 2,
        "bootstrap": {"recovery": {
            "repository": from, "keys": "db-backup-keys", "target": {"time": moment.trim()},
        }},
    });
    s.postgres("restored", &restored).await?;
    s.settled("restored", RESTORED).await?;
    let (acknowledged, held) = kept(s, "restored", &before).await?;
    ensure!(
        acknowledged == held,
        "{held} of {acknowledged} rows that were acknowledged before {moment} are there"
    );
    let newest = value(
        s,
        "restored",
        "select max(id) from mainstay_ledger where run = 'workload'",
    )
    .await?;
    let (newest, last): (u64, u64) = (newest.trim().parse()?, last.trim().parse()?);
    ensure!(
        newest < last,
        "rows of after {moment} are there, up to {newest}"
    );
    s.say(&format!(
        "{held} rows up to {moment}, none of {} later ones",
        last - newest
    ));
    // Replicas keep what is not stored, and let go what is, also what retention has removed since.
    for instance in ["db-1", "db-2", "db-3"] {
        let ready = "select count(*) from pg_ls_archive_statusdir() where name like '%.ready'";
        s.until(&format!("{instance} to let its log go"), READY, || async {
            let kept = s.admin_sql_in(instance, "postgres", ready).await?;
            Ok(if kept.trim().parse::<u32>()? <= 1 {
                Look::Done(())
            } else {
                Look::NotYet(format!("{kept} files wait"))
            })
        })
        .await?;
    }
    // Another set's repository was read, and not written.
    let pg = s.api::<Postgres>().get("db").await?;
    ensure!(
        condition(&pg, "BackupHealthy") == Some("True"),
        "{:?}",
        pg.status
    );
    Ok(())
}

/// A wrong secret: the database comes up and serves, and the status says what is wrong, until it is put right.
pub async fn backup_credentials(s: &Sandbox<'_>) -> Result<()> {
    let repository = repository(s).await?;
    let secrets = s.api::<Secret>();
    let good = secrets.get("store").await?;
    s.delete::<Secret>("store", READY).await?;
    let wanted = json!({
        "instances": 1,
        "backup": {"repository": repository, "encryption": {"iAcceptKeyLoss": true}},
    });
    s.postgres("db", &wanted).await?;
    s.until("the database to serve without its store", READY, || async {
        let pg = s.api::<Postgres>().get("db").await?;
        let healthy = condition(&pg, "BackupHealthy");
        let says = condition_message(&pg, "BackupHealthy").unwrap_or_default();
        let serves = condition(&pg, "Ready") == Some("True");
        Ok(
            if serves && healthy != Some("True") && says.contains("accessKeyId") {
                Look::Done(())
            } else {
                Look::seen(&(serves, healthy, says))
            },
        )
    })
    .await?;
    let again: Secret = serde_json::from_value(json!({
        "metadata": {"name": "store"}, "data": good.data,
    }))?;
    secrets.create(&PostParams::default(), &again).await?;
    healthy(s, "db").await
}
