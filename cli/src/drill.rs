//! `kubectl mainstay drill`.

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use kube::api::PostParams;
use mainstay_crds::operation::{Action, Operation, OperationPhase, OperationSpec, Target};

use crate::Asked;
use crate::follow::{Look, Progress};
use crate::sets::{Set, generated, one};

#[derive(Debug, Args)]
pub struct Options {
    /// Name of the set; it needs `spec.backup.drill`, which says what is checked.
    set: String,
    /// Seconds after which it is given up if it has not begun, as when another one goes on; 300 unless said.
    #[arg(long)]
    timeout: Option<i32>,
    /// Only ask for it.
    #[arg(long)]
    no_wait: bool,
}

/// The object that asks for a drill.
fn wanted(set: &Set, timeout: Option<i32>) -> Operation {
    Operation {
        metadata: generated(&set.name, "drill"),
        spec: OperationSpec {
            target: Target {
                kind: set.kind.clone(),
                name: set.name.clone(),
            },
            action: Action::Drill,
            to: None,
            destroy_keys: None,
            rotate_password: None,
            timeout_seconds: timeout,
            cancel: None,
        },
        status: None,
    }
}

fn look(operation: &Operation) -> Look {
    let status = operation.status.clone().unwrap_or_default();
    let message = status.message.unwrap_or_default();
    match status.phase.unwrap_or_default() {
        OperationPhase::Pending | OperationPhase::Running => Look::On(Progress {
            message,
            bytes: None,
        }),
        OperationPhase::Succeeded => Look::Done(message),
        OperationPhase::Failed => Look::Failed(format!("the drill failed: {message}")),
        OperationPhase::Cancelled => Look::Failed(format!("the drill was cancelled: {message}")),
    }
}

pub async fn run(options: &Options, mut asked: Asked<'_>) -> Result<()> {
    let scene = asked.scene;
    let set = one(scene, &options.set).await?;
    let drill = set.backups.as_ref().and_then(|b| b.drill.as_ref());
    ensure!(
        drill.is_some(),
        "{} has no drills: set its `spec.backup.drill`, if only to `{{}}`",
        options.set
    );
    let made = scene
        .api::<Operation>()
        .create(&PostParams::default(), &wanted(&set, options.timeout))
        .await
        .context("the drill is not asked for")?;
    let name = made.metadata.name.clone().unwrap_or_default();
    let told = format!("drill {name} is asked for");
    asked.conclude(made, &told, options.no_wait, look).await
}
