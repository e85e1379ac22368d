//! `kubectl mainstay backups`.

use anyhow::Result;
use clap::Args;
use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::ListParams;
use mainstay_crds::backup::Backup;

use crate::words::{age, moment, or_none};
use crate::{Asked, Output, json, table};

#[derive(Debug, Args)]
pub struct Options {
    /// Name of the set; all of the namespace unless said.
    set: Option<String>,
}

const HEAD: [&str; 8] = [
    "NAME", "SET", "PHASE", "KIND", "SIZE", "ENDED", "AGE", "MESSAGE",
];

fn row(backup: &Backup, now: Timestamp) -> Vec<String> {
    let status = backup.status.clone().unwrap_or_default();
    let made = backup.creation_timestamp();
    vec![
        backup.name_any(),
        backup.spec.target.name.clone(),
        format!("{:?}", status.phase.unwrap_or_default()),
        or_none(status.kind),
        or_none(status.size.or(status.progress)),
        or_none(status.ended.as_ref().map(moment)),
        or_none(made.as_ref().map(|m| age(m, now))),
        or_none(status.message),
    ]
}

pub async fn run(options: &Options, asked: Asked<'_>) -> Result<()> {
    let Asked { scene, output, out } = asked;
    let params = options
        .set
        .as_ref()
        .map_or_else(ListParams::default, |set| {
            ListParams::default().fields(&format!("spec.target.name={set}"))
        });
    let mut all = scene.api::<Backup>().list(&params).await?.items;
    // The newest first.
    all.sort_by_key(|b| std::cmp::Reverse(b.creation_timestamp().map(|t| t.0)));
    if output == Output::Json {
        return json(out, &all);
    }
    if all.is_empty() {
        eprintln!("no backups in namespace {}", scene.namespace);
        return Ok(());
    }
    let now = Timestamp::now();
    let rows: Vec<Vec<String>> = all.iter().map(|b| row(b, now)).collect();
    table(out, &HEAD, &rows)
}
