//! A set whose repository is on a volume, and what it leaves when it is deleted together with its data.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::{ListParams, PostParams};
use mainstay_crds::backup::{Backup, BackupPhase};
use mainstay_crds::postgres::Postgres;
use serde_json::{Value, json};

use super::backups::{RESTORED, healthy, value};
use super::kit::{Look, READY, Sandbox};

/// How long a set may take to leave: a backup is made first.
const LEFT: Duration = Duration::from_mins(6);
/// The claim of the repository. It is of one node, so all that mount it run there.
const CLAIM: &str = "backups";

async fn claim(s: &Sandbox<'_>) -> Result<()> {
    let claim: PersistentVolumeClaim = serde_json::from_value(json!({
        "metadata": {"name": CLAIM},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }))?;
    let claims = s.api::<PersistentVolumeClaim>();
    claims.create(&PostParams::default(), &claim).await?;
    Ok(())
}

/// Claims that are there.
async fn claims(s: &Sandbox<'_>) -> Result<Vec<String>> {
    let all = s.api::<PersistentVolumeClaim>();
    let all = all.list(&ListParams::default()).await?;
    Ok(all.iter().map(ResourceExt::name_any).collect())
}

/// The last backup of `db`, and what was told of it.
async fn left(s: &Sandbox<'_>) -> Result<(Backup, String)> {
    let backups = s.api::<Backup>().list(&ListParams::default()).await?;
    let mut last = backups
        .into_iter()
        .filter(|b| b.name_any().starts_with("db-final-"));
    let backup = last.next().context("there is no last backup")?;
    ensure!(last.next().is_none(), "there are several");
    let events = s.api::<Event>().list(&ListParams::default()).await?;
    let told = events
        .into_iter()
        .find(|e| e.reason.as_deref() == Some("LastBackup"));
    let note = told.and_then(|e| e.note).context("nothing was told")?;
    Ok((backup, note))
}

/// A set with its repository on a volume is deleted, its data with it: a last backup is made before, and a new set
/// is made of what it left.
pub async fn last_backup(s: &Sandbox<'_>) -> Result<()> {
    claim(s).await?;
    let repository = json!({"volume": {"claimName": CLAIM, "path": "postgres"}});
    let wanted = json!({
        "instances": 1,
        "backup": {"repository": repository, "encryption": {"iAcceptKeyLoss": true}},
    });
    s.postgres("db", &wanted).await?;
    s.settled("db", READY).await?;
    healthy(s, "db").await?;
    let pg = s.api::<Postgres>().get("db").await?;
    let recovery = pg.status.and_then(|status| status.recovery);
    let recovery = recovery.context("nothing is said of backups")?;
    ensure!(
        recovery.guarded == Some(true),
        "the volume should keep two writers apart: {recovery:?}"
    );
    // After the first backup, so that only the last one, and the log up to it, has them.
    let rows = "create table kept as select generate_series(1, 1000) as id";
    value(s, "db", rows).await?;

    s.delete::<Postgres>("db", LEFT).await?;
    s.until("the data to be gone, and nothing else", READY, || async {
        let now = claims(s).await?;
        ensure!(
            now.iter().any(|name| name == CLAIM),
            "the repository went: {now:?}"
        );
        Ok(if now == [CLAIM] {
            Look::Done(())
        } else {
            Look::seen(&now)
        })
    })
    .await?;
    let (backup, note) = left(s).await?;
    let status = backup.status.unwrap_or_default();
    ensure!(status.phase == Some(BackupPhase::Succeeded), "{status:?}");
    let id = status.backup_id.context("it has no id")?;
    let place = format!("volume://{CLAIM}/postgres/{}/db", s.namespace);
    for word in [id.as_str(), place.as_str(), "db-backup-keys"] {
        ensure!(note.contains(word), "{word} is not in: {note}");
    }
    s.say(&note);
    let keys = s.api::<Secret>().get_opt("db-backup-keys").await?;
    ensure!(keys.is_some(), "what opens it went");

    // From that one, and no other, so that it is shown to be whole.
    let mut from: Value = repository;
    from["prefix"] = json!(format!("{}/db", s.namespace));
    let restored = json!({
        "instances": 1,
        "bootstrap": {"recovery": {"repository": from, "keys": "db-backup-keys", "backup": id}},
    });
    s.postgres("restored", &restored).await?;
    s.settled("restored", RESTORED).await?;
    let count = "select count(*) || ' ' || sum(id) from kept";
    let held = value(s, "restored", count).await?;
    ensure!(
        held.trim() == "1000 500500",
        "{held} of 1000 rows are there"
    );
    Ok(())
}
