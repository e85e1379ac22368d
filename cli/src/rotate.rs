//! `kubectl mainstay rotate-password`.

use anyhow::{Context as _, Result, bail};
use clap::Args;
use kube::api::PostParams;
use mainstay_crds::common::sentences::ONE_PASSWORD;
use mainstay_crds::operation::{
    Action, Operation, OperationPhase, OperationSpec, RotatePassword, Target,
};

use crate::Asked;
use crate::follow::{Look, Progress};
use crate::sets::{Set, generated, one};

#[derive(Debug, Args)]
pub struct Options {
    /// Name of the set.
    set: String,
    /// Name of the `Access` whose password it is; that of `app`, in the Secret `<set>-app`, unless said.
    #[arg(long)]
    access: Option<String>,
    /// Seconds after which it is given up; 300 unless said.
    #[arg(long)]
    timeout: Option<i32>,
    /// Only ask for it.
    #[arg(long)]
    no_wait: bool,
}

/// The object that asks for it.
fn wanted(set: &Set, options: &Options) -> Operation {
    let access = options.access.clone();
    Operation {
        metadata: generated(&set.name, "password"),
        spec: OperationSpec {
            target: Target {
                kind: set.kind.clone(),
                name: set.name.clone(),
            },
            action: Action::RotatePassword,
            to: None,
            destroy_keys: None,
            rotate_password: access.map(|access| RotatePassword {
                access: Some(access),
            }),
            timeout_seconds: options.timeout,
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
        OperationPhase::Failed => Look::Failed(format!("the password was not changed: {message}")),
        OperationPhase::Cancelled => Look::Failed(format!("the password stays: {message}")),
    }
}

pub async fn run(options: &Options, mut asked: Asked<'_>) -> Result<()> {
    let scene = asked.scene;
    let set = one(scene, &options.set).await?;
    if set.kind == "Postgres" {
        bail!(ONE_PASSWORD);
    }
    let made = scene
        .api::<Operation>()
        .create(&PostParams::default(), &wanted(&set, options))
        .await
        .context("the password is not changed")?;
    let name = made.metadata.name.clone().unwrap_or_default();
    let told = format!("another password is asked for by {name}");
    asked.conclude(made, &told, options.no_wait, look).await
}
