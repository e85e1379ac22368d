//! `kubectl mainstay drill`.

use std::io::Write;

use anyhow::{Context as _, Result};
use clap::Args;
use kube::api::{ObjectMeta, PostParams};
use mainstay_crds::operation::{Action, Operation, OperationPhase, OperationSpec, Target};

use crate::follow::{Look, Progress, follow};
use crate::{Output, Scene, json};

#[derive(Debug, Args)]
pub struct Options {
    /// Name of the set; it needs `spec.backup.drill`, which says what is checked.
    set: String,
    /// Only ask for it.
    #[arg(long)]
    no_wait: bool,
}

/// The object that asks for a drill.
fn wanted(set: &str) -> Operation {
    Operation {
        metadata: ObjectMeta {
            generate_name: Some(format!("{set}-drill-")),
            ..ObjectMeta::default()
        },
        spec: OperationSpec {
            target: Target {
                kind: "Postgres".into(),
                name: set.to_owned(),
            },
            action: Action::Drill,
            to: None,
            timeout_seconds: None,
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

pub async fn run(
    options: &Options,
    scene: &Scene,
    output: Output,
    out: &mut dyn Write,
) -> Result<()> {
    let operations = scene.api::<Operation>();
    let made = operations
        .create(&PostParams::default(), &wanted(&options.set))
        .await
        .context("the drill is not asked for")?;
    let name = made.metadata.name.clone().unwrap_or_default();
    let (made, message) = if options.no_wait {
        (made, "asked for".to_owned())
    } else {
        eprintln!("drill {name} is asked for; it goes on if you stop watching");
        follow(operations, &name, scene.bars, look).await?
    };
    match output {
        Output::Json => json(out, &made),
        Output::Text => Ok(writeln!(out, "{name}: {message}")?),
    }
}
