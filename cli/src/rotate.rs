//! `kubectl mainstay rotate-password`.

use anyhow::{Result, bail};
use clap::Args;
use mainstay_crds::common::sentences::ONE_PASSWORD;
use mainstay_crds::operation::{Action, RotatePassword};

use crate::Asked;
use crate::operations::Wish;
use crate::sets::one;

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

pub async fn run(options: &Options, asked: Asked<'_>) -> Result<()> {
    let set = one(asked.scene, &options.set).await?;
    if set.kind == "Postgres" {
        bail!(ONE_PASSWORD);
    }
    let access = options.access.clone();
    let wish = Wish {
        action: Action::RotatePassword,
        rotate_password: access.map(|access| RotatePassword {
            access: Some(access),
        }),
        timeout: options.timeout,
        purpose: "password",
        refused: "the password is not changed",
        failed: "the password was not changed",
        cancelled: "the password stays",
    };
    let told = |name: &str| format!("another password is asked for by {name}");
    wish.ask(&set, asked, options.no_wait, told).await
}
