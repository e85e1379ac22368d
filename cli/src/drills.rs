//! `kubectl mainstay drills`.

use anyhow::{Result, bail};
use clap::Args;
use mainstay_crds::common::backup::DrillRecord;

use crate::sets::one;
use crate::words::{condition, moment, or_none, size, span};
use crate::{Asked, Output, json, table};

#[derive(Debug, Args)]
pub struct Options {
    /// Name of the set.
    set: String,
}

const HEAD: [&str; 7] = [
    "DUE",
    "RESULT",
    "RECOVERY TIME",
    "RECOVERY POINT",
    "SIZE",
    "BACKUP",
    "MESSAGE",
];

fn row(drill: &DrillRecord) -> Vec<String> {
    vec![
        moment(&drill.due),
        format!("{:?}", drill.result),
        or_none(drill.recovery_seconds.map(span)),
        or_none(drill.recovery_point_seconds.map(span)),
        or_none(drill.bytes.map(size)),
        or_none(drill.backup.clone()),
        drill.message.clone(),
    ]
}

pub async fn run(options: &Options, asked: Asked<'_>) -> Result<()> {
    let Asked { scene, output, out } = asked;
    let set = one(scene, &options.set).await?;
    let wanted = set.backups.is_some_and(|b| b.drill.is_some());
    let recovery = set.said.recovery.unwrap_or_default();
    if !wanted && recovery.drills.is_empty() {
        bail!(
            "{} has no drills: its `spec.backup.drill` is not set",
            options.set
        );
    }
    if output == Output::Json {
        return json(out, &recovery.drills);
    }
    match condition(&set.said.conditions, "RecoveryProven") {
        Some(proven) => writeln!(
            out,
            "RecoveryProven: {} ({})",
            proven.status, proven.message
        )?,
        None if wanted => writeln!(out, "RecoveryProven: not said yet")?,
        None => writeln!(out, "{} has no drills any more", options.set)?,
    }
    if let Some(drill) = &recovery.drill {
        writeln!(out, "{drill}")?;
    }
    if let Some(next) = &recovery.next_drill {
        writeln!(out, "next drill: {}", moment(next))?;
    }
    if recovery.drills.is_empty() {
        return Ok(());
    }
    let rows: Vec<Vec<String>> = recovery.drills.iter().map(row).collect();
    table(out, &HEAD, &rows)
}
