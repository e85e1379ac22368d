//! `cargo xtask chaos`: faults against a set under load, and what they cost.

use std::error::Error;

use anyhow::{Context as _, bail};
use clap::Args as ClapArgs;
use mainstay_e2e::chaos::faults::ALL;
use mainstay_e2e::chaos::record::{self, Runs};
use mainstay_e2e::chaos::run as run_once;
use mainstay_e2e::cluster::Steps;
use mainstay_e2e::stage;

#[derive(ClapArgs)]
pub struct Args {
    /// Only faults whose name contains one of these words.
    #[arg(long, value_name = "WORD")]
    scenario: Vec<String>,
    /// How often each.
    #[arg(long, default_value_t = 1)]
    runs: usize,
    /// Add the runs to docs/chaos.csv, and show all that are there.
    #[arg(long)]
    record: bool,
    /// Name of the local cluster; it is left running.
    #[arg(long, default_value = "chaos")]
    name: String,
}

/// Break things, and print what it came to.
pub fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    Ok(crate::runtime()?.block_on(break_things(args))?)
}

async fn break_things(args: &Args) -> anyhow::Result<()> {
    let asked = |name: &str| {
        let words = &args.scenario;
        words.is_empty() || words.iter().any(|w| name.contains(w.as_str()))
    };
    let faults: Vec<_> = ALL.iter().filter(|f| asked(f.name)).collect();
    if faults.is_empty() {
        let names: Vec<_> = ALL.iter().map(|f| f.name).collect();
        bail!("no fault is called so; there are {}", names.join(", "));
    }
    let version = record::version()?;
    let file = record::file();
    let mut runs = Runs::new();
    if args.record {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        runs = record::read(&text, &version).context("docs/chaos.csv")?;
    }
    let ctx = stage::local(&args.name, &Steps::shown()).await?;
    let mut broken = false;
    let mut unfinished = Vec::new();
    for round in 1..=args.runs {
        for fault in &faults {
            println!(
                "── {}, run {round} of {}: {}",
                fault.name, args.runs, fault.what
            );
            let run = match run_once(&ctx, fault).await {
                Ok(run) => run,
                Err(error) => {
                    println!("   did not end: {error:#}");
                    unfinished.push(fault.name);
                    runs.entry(fault.name.to_owned()).or_default().push(None);
                    keep(args, &runs, &version)?;
                    continue;
                }
            };
            println!(
                "   writes paused for {:?} at most, whole again after {:?}; {} acknowledged, {} lost, {} refused but there",
                run.gap, run.whole, run.acknowledged, run.lost, run.resurrected
            );
            broken |= run.lost + run.resurrected > 0;
            runs.entry(fault.name.to_owned())
                .or_default()
                .push(Some(run));
            keep(args, &runs, &version)?;
        }
    }
    println!("\n{}", record::table(&runs));
    if broken {
        bail!("a promise was broken");
    }
    if !unfinished.is_empty() {
        bail!("did not end: {}", unfinished.join(", "));
    }
    Ok(())
}

/// After each run, so that none is lost.
fn keep(args: &Args, runs: &Runs, version: &str) -> std::io::Result<()> {
    if args.record {
        std::fs::write(record::file(), record::write(runs, version))?;
    }
    Ok(())
}
