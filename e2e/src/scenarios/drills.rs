//! Drills on a cluster: backups are restored where nobody uses them, and damage is noticed before it matters.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Volume};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt as _;
use kube::api::ListParams;
use mainstay_crds::backup::BackupPhase;
use mainstay_crds::common::backup::{DrillRecord, DrillResult};
use mainstay_crds::postgres::Postgres;
use serde_json::json;

use super::backups::{backup, healthy, repository, value};
use super::kit::{Look, READY, Sandbox, condition};
use super::set::Kind;

/// A drill each minute, and how long one takes.
const DRILLED: Duration = Duration::from_mins(5);
/// Drills within which a new commit is stored.
const ROUNDS: usize = 4;

/// The newest drill that is told of, once there is another one than that.
pub(super) async fn next(
    s: &Sandbox<'_>,
    kind: Kind,
    after: Option<&DrillRecord>,
) -> Result<DrillRecord> {
    s.until("a drill to be over", DRILLED, || async {
        let recovery = kind.seen(s, "db").await?.recovery;
        let newest = recovery.drills.into_iter().next();
        Ok(match newest {
            Some(newest) if after.is_none_or(|a| a.due.0 < newest.due.0) => Look::Done(newest),
            other => Look::seen(&other),
        })
    })
    .await
}

/// Objects below a folder that are larger than anything but a backup's data.
fn objects(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if entry.metadata()?.len() > 1 << 20 {
                all.push(entry.path());
            }
        }
    }
    Ok(all)
}

/// Pods of drills; whoever runs statements must hold no secret.
async fn drilling(s: &Sandbox<'_>) -> Result<Vec<Pod>> {
    let pods = s.api::<Pod>().list(&ListParams::default()).await?;
    let is_drill = |p: &Pod| p.name_any().starts_with("db-drill-");
    Ok(pods.items.into_iter().filter(is_drill).collect())
}

/// A backup is proven by a drill that asks a statement of the user's; the store's copy of it is damaged, and the
/// next drill says so. Nothing is left of either.
pub async fn drill(s: &Sandbox<'_>) -> Result<()> {
    let repository = repository(s).await?;
    let backups = json!({"repository": repository, "encryption": {"iAcceptKeyLoss": true}});
    s.postgres("db", &json!({"instances": 1, "backup": backups}))
        .await?;
    s.settled("db", READY).await?;
    healthy(s, "db").await?;
    let table = "create table proof as select n from generate_series(1, 1000) n; grant select on proof to app";
    value(s, "db", table).await?;
    let done = backup(s, "now").await?;
    ensure!(done.phase == Some(BackupPhase::Succeeded), "{done:?}");

    let mut drilled = backups.clone();
    drilled["drill"] = json!({
        "schedule": "* * * * *",
        "timeoutSeconds": 300,
        "checks": [
            {"sql": "select count(*) from proof", "expect": "1000"},
            {"sql": "select max(n) = 1000 from proof"},
        ],
    });
    s.change("db", &json!({"backup": drilled})).await?;
    holds_no_secret(s).await?;
    let passed = passes(s).await?;
    damage(s).await?;
    fails(s, Kind::Postgres, &passed).await?;

    nothing_is_left(s, Kind::Postgres).await
}

/// Without drills again.
pub(super) async fn nothing_is_left(s: &Sandbox<'_>, kind: Kind) -> Result<()> {
    kind.change(s, "db", &json!({"backup": {"drill": null}}))
        .await?;
    s.until("nothing to be left of drills", DRILLED, || async {
        let pods = drilling(s).await?.len();
        let claims = s
            .api::<PersistentVolumeClaim>()
            .list(&ListParams::default())
            .await?;
        let left = claims
            .iter()
            .filter(|c| c.name_any().contains("drill"))
            .count();
        let maps = s.api::<ConfigMap>().list(&ListParams::default()).await?;
        let policies = s
            .api::<NetworkPolicy>()
            .list(&ListParams::default())
            .await?;
        let maps = maps.iter().map(kube::ResourceExt::name_any);
        let policies = policies.iter().map(kube::ResourceExt::name_any);
        let told = maps
            .chain(policies)
            .filter(|name| name.contains("drill"))
            .count();
        let seen = kind.seen(s, "db").await?;
        let says = seen.condition("RecoveryProven").is_some();
        Ok(if pods + left + told == 0 && !says {
            Look::Done(())
        } else {
            Look::seen(&(pods, left, told, says))
        })
    })
    .await
}

/// Where the user's statements run.
pub(super) async fn holds_no_secret(s: &Sandbox<'_>) -> Result<()> {
    let seen = s
        .until("a drill's pod", DRILLED, || async {
            let pods = drilling(s).await?;
            let bound = pods.into_iter().find(|p| p.status.is_some());
            Ok(bound.map_or_else(|| Look::NotYet("there is none".into()), Look::Done))
        })
        .await?;
    let spec = seen.spec.context("a pod without spec")?;
    let drill = spec.containers.first().context("no container")?;
    let mounts = drill.volume_mounts.iter().flatten();
    let mounted: Vec<&str> = mounts.map(|m| m.name.as_str()).collect();
    let opens = |v: &&Volume| v.secret.is_some() || v.projected.is_some() || v.csi.is_some();
    let volumes = spec.volumes.iter().flatten().filter(opens);
    let secret: Vec<_> = volumes
        .filter(|v| mounted.contains(&v.name.as_str()))
        .collect();
    let env = serde_json::to_string(&(&drill.env, &drill.env_from))?;
    ensure!(
        secret.is_empty() && !env.to_lowercase().contains("secret"),
        "where statements run there are secrets: {secret:?} {env}"
    );
    ensure!(
        spec.automount_service_account_token == Some(false),
        "where statements run there is a token"
    );
    Ok(())
}

/// A drill with all its figures.
async fn passes(s: &Sandbox<'_>) -> Result<DrillRecord> {
    let kind = Kind::Postgres;
    let mut passed = next(s, kind, None).await?;
    ensure!(passed.result == DrillResult::Passed, "{passed:?}");
    ensure!(
        passed.checks >= Some(4) && passed.failed.is_empty(),
        "{passed:?}"
    );
    let time = passed.recovery_seconds.context("no recovery time")?;
    s.say(&format!("{}; recovery time {time} s", passed.message));
    // What is recovered at first may be the backup alone, and that no commit yet: the next file of the log is
    // stored within a minute.
    for _ in 0..ROUNDS {
        if passed.recovery_point_seconds.is_none() {
            passed = next(s, kind, Some(&passed)).await?;
            ensure!(passed.result == DrillResult::Passed, "{passed:?}");
        }
    }
    let point = passed.recovery_point_seconds;
    let point = point.context("no recovery point")?;
    // 75 s are promised from a commit until it is stored; here the drill's own beginning comes to it.
    ensure!((0..=180).contains(&point), "{passed:?}");
    s.say(&format!("recovery point {point} s"));
    let pg = s.api::<Postgres>().get("db").await?;
    ensure!(
        condition(&pg, "RecoveryProven") == Some("True"),
        "{:?}",
        pg.status
    );
    Ok(passed)
}

/// All backups in the store.
pub(super) async fn damage(s: &Sandbox<'_>) -> Result<()> {
    let store = s.ctx.cluster.object_store().await?;
    let large = objects(&store.data.join(&s.namespace))?;
    ensure!(!large.is_empty(), "no backup's data is in the bucket");
    for path in large {
        let mut content = std::fs::read(&path)?;
        let middle = content.len() / 2;
        content[middle] ^= 1;
        std::fs::write(&path, content)?;
    }
    Ok(())
}

/// A drill after one that passed, and what the set says.
pub(super) async fn fails(s: &Sandbox<'_>, kind: Kind, passed: &DrillRecord) -> Result<()> {
    let mut failed = next(s, kind, Some(passed)).await?;
    // One that had read it before it was damaged.
    if failed.result == DrillResult::Passed {
        failed = next(s, kind, Some(&failed)).await?;
    }
    ensure!(failed.result == DrillResult::Failed, "{failed:?}");
    ensure!(failed.message.contains("damaged"), "{failed:?}");
    s.say(&failed.message);
    let seen = kind.seen(s, "db").await?;
    let (proven, why) = seen.condition("RecoveryProven").unwrap_or_default();
    ensure!(
        proven == "False" && why.contains("damaged"),
        "{}",
        seen.told
    );
    // Those who use the database notice nothing of it.
    ensure!(seen.is("Ready"), "{}", seen.told);
    Ok(())
}
