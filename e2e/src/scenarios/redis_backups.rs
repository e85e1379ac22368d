//! Backups of a Redis into a real S3 server, and what they are good for: a new set, the way back in place, drills.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::jiff::Timestamp;
use mainstay_crds::backup::{BackupPhase, BackupStatus};
use mainstay_crds::common::backup::{DrillRecord, DrillResult};
use mainstay_crds::operation::OperationPhase;
use mainstay_crds::redis::Redis;
use mainstay_crds::restore::RestorePhase;
use mainstay_workload::ledger::{Entry, Outcome, Verdict};
use serde_json::{Value, json};

use super::backups::{RESTORED, backup_of, healthy_of, repository};
use super::drills::{damage, fails, holds_no_secret, next, nothing_is_left};
use super::failover::set_with_place;
use super::failures::node_of;
use super::kit::{self, INSTANCES, Sandbox};
use super::operations::{ask, over};
use super::redis_cli::Client;
use super::restores::{ask_of, owner_of, tell, until, until_claims};
use super::set::{self, Kind};
use super::writer::Writer;
use crate::chaos::fault::Place;

const KIND: Kind = Kind::Redis;
/// What is written so long before a backup is asked for is in it: it is of a second before, or of when its replica last
/// heard of the primary, which is some seconds at most.
const BEFORE: Duration = Duration::from_secs(15);
/// Keys of the writer's ledger begin so.
const LEDGER: &str = "mainstay:ledger:workload:";

impl Client<'_> {
    /// The numbers of the writer's ledger that are there.
    async fn numbers(&self) -> Result<BTreeSet<u64>> {
        self.numbers_at(&[]).await
    }

    /// Those that are where these options lead.
    async fn numbers_at(&self, options: &[&str]) -> Result<BTreeSet<u64>> {
        let pattern = format!("{LEDGER}*");
        let words = [options, &["--scan", "--pattern", &pattern]].concat();
        let text = self.ask(&words).await?;
        let keys = text.lines().filter_map(|key| key.strip_prefix(LEDGER));
        Ok(keys.map(str::parse).collect::<Result<_, _>>()?)
    }
}

fn acknowledged(ledger: &[Entry]) -> BTreeSet<u64> {
    let all = ledger.iter();
    let all = all.filter(|e| e.outcome == Outcome::Acknowledged);
    all.map(|e| e.id).collect()
}

/// A set of three with backups, and an application that writes, of whose writes replicas confirm each second one.
async fn written<'a>(s: &'a Sandbox<'a>) -> Result<(Writer<'a>, Value)> {
    let repository = repository(s).await?;
    let wanted = json!({
        "instances": 3,
        "durability": "bounded",
        "backup": {"repository": repository, "encryption": {"iAcceptKeyLoss": true}},
    });
    let (node, _) = set_with_place(s, KIND, &wanted, Place::WithReplica).await?;
    let writer = Writer::of_redis(s, &node).await?;
    healthy_of(s, KIND, "db").await?;
    Ok((writer, repository))
}

/// A replica makes a backup under load; and what was acknowledged before.
async fn backed_up(s: &Sandbox<'_>, writer: &Writer<'_>) -> Result<(BackupStatus, BTreeSet<u64>)> {
    let before = acknowledged(&writer.more(200).await?);
    let read = Timestamp::now();
    tokio::time::sleep(BEFORE).await;
    let done = backup_of(s, KIND, "now").await?;
    ensure!(done.phase == Some(BackupPhase::Succeeded), "{done:?}");
    let from = done.instance.clone().unwrap_or_default();
    ensure!(
        from != KIND.primary(s, "db").await?,
        "a replica should make it: {done:?}"
    );
    let moment = done.consistent_at.as_ref().context("of which moment?")?;
    ensure!(moment.0 > read, "{done:?} is of before {read}");
    let size = done.size.clone().unwrap_or_default();
    s.say(&format!("{size} from {from}, as of {}", moment.0));
    Ok((done, before))
}

/// What a new set holds is everything that was acknowledged before the backup was asked for, and nothing that nobody wrote.
fn whole(
    s: &Sandbox<'_>,
    held: &BTreeSet<u64>,
    before: &BTreeSet<u64>,
    all: &[Entry],
) -> Result<()> {
    let lost: Vec<_> = before.difference(held).collect();
    ensure!(
        lost.is_empty(),
        "acknowledged before the backup, and not there: {lost:?}"
    );
    let tried: BTreeSet<u64> = all.iter().map(|e| e.id).collect();
    let strange: Vec<_> = held.difference(&tried).collect();
    ensure!(strange.is_empty(), "there, and never written: {strange:?}");
    s.say(&format!(
        "{} keys, {} of them acknowledged before the backup was asked for",
        held.len(),
        before.len()
    ));
    Ok(())
}

/// Under load a replica makes a backup. A new set of two from the repository alone has every key that was acknowledged
/// before, and none that nobody wrote.
pub async fn redis_backup_and_recovery(s: &Sandbox<'_>) -> Result<()> {
    let (writer, repository) = written(s).await?;
    let (_, before) = backed_up(s, &writer).await?;
    writer.more(50).await?;

    let mut from = repository;
    from["prefix"] = json!(format!("{}/db", s.namespace));
    let restored = json!({
        "instances": 2,
        "bootstrap": {"recovery": {"repository": from, "keys": "db-backup-keys"}},
    });
    KIND.apply(s, "restored", &restored).await?;
    KIND.settled_within(s, "restored", RESTORED).await?;
    let held = Client::of(s, "restored").await?.numbers().await?;
    let all = writer.ledger().await?;
    whole(s, &held, &before, &all)?;
    let refused = Verdict::new(&all, &held).resurrected;
    ensure!(refused.is_empty(), "there, and refused: {refused:?}");
    let newest = acknowledged(&all).last().copied();
    ensure!(
        held.last().copied() < newest,
        "what came after the backup is there, up to {newest:?}"
    );
    // Another set's repository was read, and not written.
    ensure!(KIND.seen(s, "db").await?.is("BackupHealthy"), "of db");
    writer.holds().await.map(drop)
}

/// Under load a cluster is backed up, and the backup proven by a drill. A new one of as many shards from the repository alone has every key that was acknowledged
/// before, and none that nobody wrote.
pub async fn redis_cluster_backup(s: &Sandbox<'_>) -> Result<()> {
    let repository = repository(s).await?;
    let cluster = json!({"mode": "Cluster", "shards": 3, "replicas": 1});
    let mut wanted = cluster.clone();
    let backups = json!({"repository": repository, "encryption": {"iAcceptKeyLoss": true}});
    wanted["backup"] = backups.clone();
    s.apply::<Redis>("db", &wanted).await?;
    s.settled_of::<Redis>("db", RESTORED).await?;
    healthy_of(s, KIND, "db").await?;
    let writer = Writer::of_cluster(s, &node_of(s, "db-1").await?).await?;
    let before = acknowledged(&writer.more(300).await?);
    let done = backup_of(s, KIND, "now").await?;
    ensure!(done.phase == Some(BackupPhase::Succeeded), "{done:?}");
    writer.more(50).await?;
    let some = before.first().context("there are some")?;
    let some = format!("{LEDGER}{some}");
    let checks = json!([
        {"keys": {"atLeast": before.len()}},
        {"key": some},
        {"command": ["EXISTS", some]},
    ]);
    let proven = proves(s, &backups, &checks, &done).await?;
    // What every drill looks at of each shard as well.
    ensure!(proven.checks == Some(12), "{proven:?}");

    let mut from = repository;
    from["prefix"] = json!(format!("{}/db", s.namespace));
    let mut restored = cluster;
    let recovery = json!({"repository": from, "keys": "db-backup-keys", "backup": done.backup_id});
    restored["bootstrap"] = json!({"recovery": recovery});
    s.apply::<Redis>("restored", &restored).await?;
    s.settled_of::<Redis>("restored", RESTORED).await?;
    let now = set::cluster(s, "restored").await?;
    ensure!(
        now.formed && now.slots == 16_384 && now.shards.len() == 3,
        "{now:?}"
    );
    let client = Client::of(s, "restored").await?;
    let mut held = BTreeSet::new();
    for shard in &now.shards {
        let host = kit::host(&s.namespace, "restored", &shard.primary);
        held.extend(client.numbers_at(&["-h", &host]).await?);
    }
    whole(s, &held, &before, &writer.ledger().await?)?;
    writer.holds().await.map(drop)
}

/// Under load all keys are deleted. The set goes back to its newest backup, with the same Secret and Service; and back again
/// to the newest data.
pub async fn redis_restore_in_place(s: &Sandbox<'_>) -> Result<()> {
    let (writer, _) = written(s).await?;
    let (_, before) = backed_up(s, &writer).await?;
    let client = Client::of(s, "db").await?;
    let ours = owner_of(s, KIND).await?;
    client.ask(&["FLUSHALL"]).await?;
    client.ask(&["SET", "newest", "1"]).await?;

    ask_of(s, KIND, "back", None).await?;
    let status = until(s, "back", RestorePhase::Restored).await?;
    s.say(status.message.as_deref().unwrap_or_default());
    ensure!(
        status.reached.is_some(),
        "it does not say what was reached: {status:?}"
    );
    KIND.settled_within(s, "db", RESTORED).await?;
    let held = client.numbers().await?;
    let lost: Vec<_> = before.difference(&held).collect();
    ensure!(
        lost.is_empty(),
        "acknowledged before the backup, and not there: {lost:?}"
    );
    ensure!(
        client.ask(&["EXISTS", "newest"]).await? == "0",
        "what came later is there"
    );
    // The application goes on, and so do replicas and backups.
    writer.more(20).await?;
    let now = KIND.primary(s, "db").await?;
    ensure!(
        !INSTANCES.contains(&now.as_str()),
        "{now} has a volume from before"
    );
    healthy_of(s, KIND, "db").await?;
    let owner = owner_of(s, KIND).await?;
    ensure!(owner == ours, "the repository has another owner");
    let old = INSTANCES.map(|i| format!("{i}-data"));
    let mut both = old.to_vec();
    both.extend(["db-4", "db-5", "db-6"].map(|i| format!("{i}-data")));
    let both: Vec<&str> = both.iter().map(String::as_str).collect();
    until_claims(s, &both).await?;

    tell(s, "back", &json!({"revert": true})).await?;
    until(s, "back", RestorePhase::Reverted).await?;
    KIND.settled_within(s, "db", RESTORED).await?;
    ensure!(
        client.ask(&["GET", "newest"]).await? == "1",
        "the newest data is not back"
    );
    let first = *before.first().context("there are some")?;
    let first = format!("{LEDGER}{first}");
    ensure!(
        client.ask(&["EXISTS", &first]).await? == "0",
        "what was deleted is there"
    );
    writer.more(20).await?;
    healthy_of(s, KIND, "db").await?;
    let owner = owner_of(s, KIND).await?;
    ensure!(owner == ours, "the repository has another owner");
    tell(s, "back", &json!({"confirm": true})).await?;
    until_claims(s, &both[..INSTANCES.len()]).await
}

/// Asks for a drill.
async fn drill(s: &Sandbox<'_>, name: &str) -> Result<()> {
    let of = json!({"target": {"kind": KIND.name(), "name": "db"}, "action": "Drill"});
    ask(s, name, &of).await
}

/// A drill on demand of these backups passes, by these checks, with all its figures; it is of the backup that was made.
async fn proves(
    s: &Sandbox<'_>,
    backups: &Value,
    checks: &Value,
    done: &BackupStatus,
) -> Result<DrillRecord> {
    let mut drilled = backups.clone();
    drilled["drill"] = json!({"timeoutSeconds": 300, "checks": checks});
    KIND.change(s, "db", &json!({"backup": drilled})).await?;
    drill(s, "prove").await?;
    holds_no_secret(s).await?;
    let passed = next(s, KIND, None).await?;
    ensure!(
        passed.result == DrillResult::Passed && passed.failed.is_empty(),
        "{passed:?}"
    );
    ensure!(passed.backup == done.backup_id, "{passed:?} {done:?}");
    let time = passed.recovery_seconds.context("no recovery time")?;
    let point = passed.recovery_point_seconds;
    s.say(&format!(
        "{}; recovery time {time} s, recovery point {point:?} s",
        passed.message
    ));
    let proven = over(s, "prove").await?;
    ensure!(
        proven.phase == Some(OperationPhase::Succeeded),
        "{proven:?}"
    );
    let seen = KIND.seen(s, "db").await?;
    ensure!(seen.is("RecoveryProven"), "{}", seen.told);
    Ok(passed)
}

/// A backup is proven by a drill on demand that counts keys, looks at some and asks a command; the store's copy of it is
/// damaged, and the next one says so. Nothing is left of either.
pub async fn redis_drill(s: &Sandbox<'_>) -> Result<()> {
    let repository = repository(s).await?;
    let backups = json!({"repository": repository, "encryption": {"iAcceptKeyLoss": true}});
    KIND.apply(s, "db", &json!({"instances": 1, "backup": backups}))
        .await?;
    KIND.settled(s, "db").await?;
    healthy_of(s, KIND, "db").await?;
    let client = Client::of(s, "db").await?;
    // Some that do not get small, so that a backup's data is found by its size.
    // Not all at once: a script that takes seconds, as it may on a busy machine, is a Redis that does not answer.
    let fill = "for i = ARGV[1] + 1, ARGV[1] + 300 do local v = {} for j = 1, 26 do v[j] = redis.sha1hex(i * 100 + j) end \
         redis.call('SET', 'noise:' .. i, table.concat(v)) redis.call('SET', 'order:' .. i, i) end return 1";
    for part in 0..20 {
        let from = (part * 300).to_string();
        client.ask(&["EVAL", fill, "0", &from]).await?;
    }
    client.ask(&["HSET", "proof", "state", "paid"]).await?;
    let done = backup_of(s, KIND, "now").await?;
    ensure!(done.phase == Some(BackupPhase::Succeeded), "{done:?}");

    let checks = json!([
        {"keys": {"atLeast": 12001}},
        {"key": "proof", "type": "hash"},
        {"key": "order:6000", "expect": "6000"},
        {"command": ["HGET", "proof", "state"], "expect": "paid"},
    ]);
    let passed = proves(s, &backups, &checks, &done).await?;
    ensure!(passed.checks >= Some(4), "{passed:?}");

    damage(s).await?;
    drill(s, "again").await?;
    fails(s, KIND, &passed).await?;
    let failed = over(s, "again").await?;
    ensure!(failed.phase == Some(OperationPhase::Failed), "{failed:?}");
    nothing_is_left(s, KIND).await
}
