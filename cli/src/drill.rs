//! `kubectl mainstay drill`.

use std::io::Write;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use kube::api::{ObjectMeta, PostParams};
use mainstay_crds::operation::{Action, Operation, OperationPhase, OperationSpec, Target};
use mainstay_crds::postgres::Postgres;

use crate::follow::{Look, Progress, follow};
use crate::{Output, Scene, json};

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

/// So much of a set's name is in that of the object, of 50 characters at most.
const NAME: usize = 38;

/// The object that asks for a drill.
fn wanted(set: &str, timeout: Option<i32>) -> Operation {
    let short: String = set.chars().take(NAME).collect();
    Operation {
        metadata: ObjectMeta {
            generate_name: Some(format!("{short}-drill-")),
            ..ObjectMeta::default()
        },
        spec: OperationSpec {
            target: Target {
                kind: "Postgres".into(),
                name: set.to_owned(),
            },
            action: Action::Drill,
            to: None,
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

pub async fn run(
    options: &Options,
    scene: &Scene,
    output: Output,
    out: &mut dyn Write,
) -> Result<()> {
    let set = scene.api::<Postgres>().get(&options.set).await?;
    let drill = set.spec.backup.and_then(|b| b.drill);
    ensure!(
        drill.is_some(),
        "{} has no drills: set its `spec.backup.drill`, if only to `{{}}`",
        options.set
    );
    let operations = scene.api::<Operation>();
    let made = operations
        .create(
            &PostParams::default(),
            &wanted(&options.set, options.timeout),
        )
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
