//! `kubectl mainstay backup`.

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use mainstay_crds::backup::{Backup, BackupPhase, BackupSpec};
use mainstay_crds::common::Target;

use crate::Asked;
use crate::follow::{Look, Progress};
use crate::sets::one;
use crate::words::size;

#[derive(Debug, Args)]
pub struct Options {
    /// Name of the set.
    set: String,
    /// Name of the backup; with the present time unless said.
    #[arg(long)]
    name: Option<String>,
    /// Only what has changed since the newest backup, where the engine can do that.
    #[arg(long)]
    incremental: bool,
    /// Only ask for it.
    #[arg(long)]
    no_wait: bool,
}

/// The object that asks for a backup.
fn wanted(options: &Options, kind: &str, now: Timestamp) -> Backup {
    let name = options
        .name
        .clone()
        .unwrap_or_else(|| format!("{}-{}", options.set, now.strftime("%Y%m%d%H%M%S")));
    let spec = BackupSpec {
        target: Target {
            kind: kind.to_owned(),
            name: options.set.clone(),
        },
        incremental: options.incremental.then_some(true),
        timeout_seconds: None,
        cancel: None,
    };
    Backup {
        metadata: ObjectMeta {
            name: Some(name),
            ..ObjectMeta::default()
        },
        spec,
        status: None,
    }
}

fn look(backup: &Backup) -> Look {
    let status = backup.status.clone().unwrap_or_default();
    let message = status.message.unwrap_or_default();
    match status.phase.unwrap_or_default() {
        BackupPhase::Pending | BackupPhase::Running => {
            let count = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok());
            Look::On(Progress {
                message,
                bytes: count(status.bytes).zip(count(status.total_bytes)),
            })
        }
        BackupPhase::Succeeded => Look::Done(format!(
            "{} backup {} in {}, {} as stored",
            status.kind.unwrap_or_default(),
            status.backup_id.unwrap_or_default(),
            status.repository.unwrap_or_default(),
            size(status.stored_bytes.unwrap_or_default()),
        )),
        BackupPhase::Failed => Look::Failed(format!("the backup failed: {message}")),
        BackupPhase::Cancelled => Look::Failed(format!("the backup was cancelled: {message}")),
        BackupPhase::Expired => Look::Failed("the backup was removed again".to_owned()),
    }
}

pub async fn run(options: &Options, mut asked: Asked<'_>) -> Result<()> {
    let scene = asked.scene;
    let set = one(scene, &options.set).await?;
    ensure!(
        set.backups.is_some(),
        "{} has no backups: its `spec.backup` is not set",
        options.set
    );
    let made = scene
        .api::<Backup>()
        .create(
            &PostParams::default(),
            &wanted(options, &set.kind, Timestamp::now()),
        )
        .await
        .context("the backup is not asked for")?;
    let name = made.metadata.name.clone().unwrap_or_default();
    let told = format!("backup {name} is asked for");
    asked.conclude(made, &told, options.no_wait, look).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_crds::backup::BackupStatus;

    fn seen(status: BackupStatus) -> Look {
        let options = Options {
            set: "db".into(),
            name: None,
            incremental: false,
            no_wait: false,
        };
        let mut backup = wanted(&options, "Postgres", Timestamp::UNIX_EPOCH);
        assert_eq!(backup.metadata.name.as_deref(), Some("db-19700101000000"));
        assert_eq!(backup.spec.incremental, None);
        backup.status = Some(status);
        look(&backup)
    }

    #[test]
    fn it_is_followed_until_it_is_over() {
        let running = seen(BackupStatus {
            phase: Some(BackupPhase::Running),
            message: Some("copying".into()),
            bytes: Some(3),
            total_bytes: Some(9),
            ..BackupStatus::default()
        });
        let bytes = Some((3, 9));
        let message = "copying".to_owned();
        assert_eq!(running, Look::On(Progress { message, bytes }));
        assert_eq!(seen(BackupStatus::default()), Look::On(Progress::default()));
        let over = |phase| {
            seen(BackupStatus {
                phase: Some(phase),
                message: Some("no room".into()),
                kind: Some("Full".into()),
                backup_id: Some("b1".into()),
                repository: Some("s3://a/b".into()),
                stored_bytes: Some(2048),
                ..BackupStatus::default()
            })
        };
        let done = "Full backup b1 in s3://a/b, 2.00 KiB as stored".to_owned();
        assert_eq!(over(BackupPhase::Succeeded), Look::Done(done));
        let failed = "the backup failed: no room".to_owned();
        assert_eq!(over(BackupPhase::Failed), Look::Failed(failed));
        assert!(matches!(over(BackupPhase::Cancelled), Look::Failed(_)));
    }
}
