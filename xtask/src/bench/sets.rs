//! `cargo xtask bench sets`: an operator with many sets.

use std::collections::BTreeSet;
use std::time::Duration;

use mainstay_e2e::cluster::Steps;
use mainstay_e2e::figures::Spread;
use mainstay_e2e::figures::requests::Counts;
use mainstay_e2e::figures::sets::world::World;
use mainstay_e2e::figures::sets::{self, Run, Work};
use mainstay_e2e::images;

use super::mib;

/// Measure and print.
pub async fn measure(count: usize, runs: usize, window: Duration) -> anyhow::Result<()> {
    let steps = Steps::shown();
    let operator = images::program("mainstay-postgres", &steps).await?;
    let fakes = images::program("mainstay-fakes", &steps).await?;
    let mut all = Vec::new();
    for run in 1..=runs {
        let mut world = World::start(&fakes, &operator).await?;
        all.push(sets::run(&mut world, count, window).await?);
        steps.done(&format!("run {run} of {runs}"));
    }
    println!("{count} sets of three with fake agents and engines (min / median / max):");
    line("memory, RssAnon MiB", &all, |r| mib(r.memory.0));
    line("memory, VmRSS MiB", &all, |r| mib(r.memory.1));
    line("  after a restart, RssAnon MiB", &all, |r| {
        mib(r.memory_restarted.0)
    });
    line("  after a restart, VmRSS MiB", &all, |r| {
        mib(r.memory_restarted.1)
    });
    work("all applied → all settled", &all, |r| &r.create);
    work("a parameter of all → all settled", &all, |r| &r.change);
    work("operator stopped → a new one rests", &all, |r| &r.restart);
    line("idle: processor, mcore", &all, |r| r.millicores);
    line("idle: passes a minute", &all, |r| r.passes);
    requests("idle: requests a minute", &all, |r| &r.requests);
    Ok(())
}

fn work(what: &str, all: &[Run], of: impl Fn(&Run) -> &Work) {
    line(&format!("{what}, s"), all, |r| of(r).seconds);
    line("  the operator's processor time, s", all, |r| {
        of(r).processor
    });
    requests("  requests to the API server", all, |r| &of(r).requests);
    if all.iter().all(|r| of(r).passes > 0.0) {
        line("  passes", all, |r| of(r).passes);
        line("  mean time of a pass, ms", all, |r| {
            of(r).in_passes / of(r).passes * 1000.0
        });
    } else {
        println!("    passes: this operator does not count them");
    }
}

/// All of them, then those of each verb.
fn requests(what: &str, all: &[Run], of: impl Fn(&Run) -> &Counts) {
    line(what, all, |r| of(r).values().sum());
    let verbs: BTreeSet<&String> = all.iter().flat_map(|r| of(r).keys()).collect();
    for verb in verbs {
        line(&format!("    {verb}"), all, |r| {
            of(r).get(verb).copied().unwrap_or_default()
        });
    }
}

fn line(what: &str, all: &[Run], of: impl Fn(&Run) -> f64) {
    show(what, &all.iter().map(of).collect::<Vec<_>>());
}

fn show(what: &str, values: &[f64]) {
    if let Some(spread) = Spread::of(values) {
        println!("  {what}: {spread}");
    }
}
