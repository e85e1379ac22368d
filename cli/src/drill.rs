//! `kubectl mainstay drill`.

use anyhow::{Result, ensure};
use clap::Args;
use mainstay_crds::operation::Action;

use crate::Asked;
use crate::operations::Wish;
use crate::sets::one;

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

pub async fn run(options: &Options, asked: Asked<'_>) -> Result<()> {
    let set = one(asked.scene, &options.set).await?;
    let drill = set.backups.as_ref().and_then(|b| b.drill.as_ref());
    ensure!(
        drill.is_some(),
        "{} has no drills: set its `spec.backup.drill`, if only to `{{}}`",
        options.set
    );
    let wish = Wish {
        action: Action::Drill,
        rotate_password: None,
        timeout: options.timeout,
        purpose: "drill",
        refused: "the drill is not asked for",
        failed: "the drill failed",
        cancelled: "the drill was cancelled",
    };
    let told = |name: &str| format!("drill {name} is asked for");
    wish.ask(&set, asked, options.no_wait, told).await
}
