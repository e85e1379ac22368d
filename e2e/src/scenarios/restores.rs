//! Back in time in place: same name, same Services, same Secret; and back again to the volumes from before.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use mainstay_crds::backup::BackupPhase;
use mainstay_crds::restore::{Restore, RestorePhase, RestoreStatus};
use serde_json::{Value, json};

use super::backups::{RESTORED, backup, healthy, kept, repository, value};
use super::failover::{primary, written_as};
use super::kit::{Look, READY, Sandbox, Side};
use super::set::Kind;
use crate::chaos::fault::Place;

/// The moment that the primary's clock shows.
const CLOCK: &str =
    "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
/// How long it may take until a restore is as far as that: first everything up to then has to be in the repository.
const BEGUN: Duration = Duration::from_mins(12);

async fn ask(s: &Sandbox<'_>, name: &str, moment: Option<&str>) -> Result<()> {
    ask_of(s, Kind::Postgres, name, moment).await
}

/// Ask that the set `db` goes back to a moment, or to the latest.
pub(super) async fn ask_of(
    s: &Sandbox<'_>,
    kind: Kind,
    name: &str,
    moment: Option<&str>,
) -> Result<()> {
    let mut whole = json!({"target": {"kind": kind.name(), "name": "db"}});
    if let Some(time) = moment {
        whole["moment"] = json!({"time": time});
    }
    let object: Restore = serde_json::from_value(json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "Restore", "metadata": {"name": name},
        "spec": whole,
    }))?;
    let restores = s.api::<Restore>();
    restores.create(&PostParams::default(), &object).await?;
    Ok(())
}

/// Say more of a restore.
pub(super) async fn tell(s: &Sandbox<'_>, name: &str, spec: &Value) -> Result<()> {
    let body = Patch::Merge(json!({"spec": spec}));
    let restores = s.api::<Restore>();
    restores.patch(name, &PatchParams::default(), &body).await?;
    Ok(())
}

/// Wait until a restore is so far.
pub(super) async fn until(
    s: &Sandbox<'_>,
    name: &str,
    phase: RestorePhase,
) -> Result<RestoreStatus> {
    let restores = s.api::<Restore>();
    s.until(
        &format!("restore {name} to be {phase:?}"),
        BEGUN,
        || async {
            let status = restores.get(name).await?.status.unwrap_or_default();
            let now = status.phase.unwrap_or_default();
            ensure!(
                now == phase || now != RestorePhase::Failed,
                "it failed: {:?}",
                status.message
            );
            Ok(if now == phase {
                Look::Done(status)
            } else {
                Look::seen(&(now, status.message))
            })
        },
    )
    .await
}

/// Claims of instances, sorted.
async fn claims(s: &Sandbox<'_>) -> Result<Vec<String>> {
    let all = s.api::<PersistentVolumeClaim>();
    let all = all.list(&ListParams::default()).await?;
    let mut names: Vec<String> = all.iter().map(ResourceExt::name_any).collect();
    names.sort();
    Ok(names)
}

/// Wait until these claims are there, and no others.
pub(super) async fn until_claims(s: &Sandbox<'_>, wanted: &[&str]) -> Result<()> {
    s.until(&format!("the claims to be {wanted:?}"), READY, || async {
        let now = claims(s).await?;
        Ok(if now == wanted {
            Look::Done(())
        } else {
            Look::seen(&now)
        })
    })
    .await
}

/// The id by which the set owns its repository.
async fn owner(s: &Sandbox<'_>) -> Result<String> {
    owner_of(s, Kind::Postgres).await
}

/// The id by which a set of that kind owns its repository.
pub(super) async fn owner_of(s: &Sandbox<'_>, kind: Kind) -> Result<String> {
    let owner = kind.seen(s, "db").await?.recovery.owner;
    owner.context("nobody says whose the repository is")
}

async fn timeline(s: &Sandbox<'_>) -> Result<u32> {
    let text = value(
        s,
        "db",
        "select ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int",
    )
    .await?;
    Ok(text.trim().parse()?)
}

/// Under load a table is dropped. The set goes back to just before, with the same Secret and Service; and back again
/// to the newest data.
pub async fn restore_in_place(s: &Sandbox<'_>) -> Result<()> {
    let repository = repository(s).await?;
    let wanted = json!({
        "instances": 3,
        "backup": {"repository": repository, "encryption": {"iAcceptKeyLoss": true}},
    });
    let (writer, _) = written_as(s, &wanted, Place::WithReplica, false).await?;
    healthy(s, "db").await?;
    let done = backup(s, "now").await?;
    ensure!(done.phase == Some(BackupPhase::Succeeded), "{done:?}");
    let client = s.client("client", "db", true).await?;
    let ours = owner(s).await?;

    let before = writer.more(200).await?;
    let moment = value(s, "db", CLOCK).await?;
    writer.more(50).await?;
    let last = "select max(id) from mainstay_ledger where run = 'workload'";
    let last = value(s, "db", last).await?;
    value(s, "db", "drop table mainstay_ledger").await?;
    let newest = "create table newest as select generate_series(1, 500) as id";
    client.sql(Side::Primary, newest).await?;

    ask(s, "back", Some(moment.trim())).await?;
    let status = until(s, "back", RestorePhase::Restored).await?;
    s.say(status.message.as_deref().unwrap_or_default());
    ensure!(
        status.reached.is_some(),
        "it does not say what was reached: {status:?}"
    );
    s.settled("db", RESTORED).await?;
    let (acknowledged, held) = kept(s, "db", &before).await?;
    ensure!(
        acknowledged == held,
        "{held} of {acknowledged} rows that were acknowledged before {moment} are there"
    );
    let last: u64 = last.trim().parse()?;
    let most =
        format!("select max(id) from mainstay_ledger where run = 'workload' and id <= {last}");
    let most: u64 = value(s, "db", &most).await?.trim().parse()?;
    ensure!(
        most < last,
        "rows of after {moment} are there, up to {most}"
    );
    let there = "select count(*) from pg_tables where tablename = 'newest'";
    let there = client.sql(Side::Primary, there).await?;
    ensure!(there.trim() == "0", "what came later is there");
    // The application goes on, and so do replicas and the archive.
    writer.more(20).await?;
    let now = primary(s, "db").await?;
    ensure!(
        !["db-1", "db-2", "db-3"].contains(&now.as_str()),
        "{now} has a volume from before"
    );
    healthy(s, "db").await?;
    ensure!(owner(s).await? == ours, "the repository has another owner");
    let restored_on = timeline(s).await?;
    until_claims(
        s,
        &[
            "db-1-data",
            "db-2-data",
            "db-3-data",
            "db-4-data",
            "db-5-data",
            "db-6-data",
        ],
    )
    .await?;

    tell(s, "back", &json!({"revert": true})).await?;
    until(s, "back", RestorePhase::Reverted).await?;
    s.settled("db", RESTORED).await?;
    let rows = client
        .sql(
            Side::Primary,
            "select count(*) || ' ' || sum(id) from newest",
        )
        .await?;
    ensure!(rows.trim() == "500 125250", "{rows} of the newest rows");
    client
        .sql(Side::Primary, "insert into newest values (501)")
        .await?;
    let reverted_on = timeline(s).await?;
    ensure!(
        reverted_on > restored_on,
        "timeline {reverted_on} is not above {restored_on}"
    );
    healthy(s, "db").await?;
    ensure!(owner(s).await? == ours, "the repository has another owner");
    tell(s, "back", &json!({"confirm": true})).await?;
    until_claims(s, &["db-1-data", "db-2-data", "db-3-data"]).await
}

/// What cannot be is refused and stops nothing. To the latest moment and confirmed: the volumes from before are gone,
/// and what was committed before it was asked for is there.
pub async fn restore_confirmed(s: &Sandbox<'_>) -> Result<()> {
    let repository = repository(s).await?;
    let wanted = json!({
        "instances": 1,
        "backup": {"repository": repository, "encryption": {"iAcceptKeyLoss": true}},
    });
    s.postgres("db", &wanted).await?;
    s.settled("db", READY).await?;
    healthy(s, "db").await?;
    let pods = s.pod_uids("db").await?;
    ask(s, "long-ago", Some("2020-01-01T00:00:00Z")).await?;
    let restores = s.api::<Restore>();
    s.until("it to be refused", READY, || async {
        let status = restores.get("long-ago").await?.status.unwrap_or_default();
        let says = status.message.clone().unwrap_or_default();
        Ok(
            if status.phase == Some(RestorePhase::Failed) && says.contains("earliest") {
                Look::Done(())
            } else {
                Look::seen(&status)
            },
        )
    })
    .await?;
    ensure!(pods == s.pod_uids("db").await?, "something was stopped");

    // After the first backup, so that the log has them alone.
    value(
        s,
        "db",
        "create table kept as select generate_series(1, 1000) as id",
    )
    .await?;
    ask(s, "latest", None).await?;
    until(s, "latest", RestorePhase::Restored).await?;
    s.settled("db", RESTORED).await?;
    let rows = value(s, "db", "select count(*) || ' ' || sum(id) from kept").await?;
    ensure!(
        rows.trim() == "1000 500500",
        "{rows} of 1000 rows are there"
    );
    until_claims(s, &["db-1-data", "db-2-data"]).await?;
    tell(s, "latest", &json!({"confirm": true})).await?;
    until(s, "latest", RestorePhase::Confirmed).await?;
    until_claims(s, &["db-2-data"]).await?;

    // Once more, onto the number that is free again, along the history that it has now.
    healthy(s, "db").await?;
    value(s, "db", "insert into kept values (1001)").await?;
    ask(s, "again", None).await?;
    until(s, "again", RestorePhase::Restored).await?;
    s.settled("db", RESTORED).await?;
    let rows = value(s, "db", "select count(*) || ' ' || sum(id) from kept").await?;
    ensure!(
        rows.trim() == "1001 501501",
        "{rows} of 1001 rows are there"
    );
    until_claims(s, &["db-1-data", "db-2-data"]).await
}
