//! The suites: cargo's tests, and the scenarios on a cluster.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use mainstay_e2e::cluster::Steps;
use mainstay_e2e::{scenarios, stage};

use super::Args;
use super::report::{Counts, Report, Row};

/// How often `--full` runs each scenario.
const ROUNDS: usize = 3;

/// Unit and property tests of every package.
pub fn unit() -> Counts {
    cargo_test(&["test", "--workspace", "--lib", "--bins"])
}

/// Tests against a real kube-apiserver and etcd.
pub fn integration() -> Counts {
    cargo_test(&["test", "--workspace", "--test", "*"])
}

/// Run `cargo test …`, show its output as it comes, and count.
fn cargo_test(args: &[&str]) -> Counts {
    let child = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(args)
        .args(["--quiet", "--no-fail-fast"])
        .stdout(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(e) => {
            eprintln!("cargo could not be started: {e}");
            return Counts::one(false);
        }
    };
    let mut output = String::new();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            println!("{line}");
            output.push_str(&line);
            output.push('\n');
        }
    }
    let succeeded = child.wait().is_ok_and(|status| status.success());
    Counts::of_cargo_test(&output, succeeded)
}

/// The scenarios: a cluster of our own (or the given one), images, charts, then one by one.
pub fn scenarios(args: &Args, report: &mut Report) {
    let runtime = match crate::runtime() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("no runtime: {e}");
            return add(report, "scenarios", Instant::now(), false);
        }
    };
    runtime.block_on(run_scenarios(args, report));
}

async fn run_scenarios(args: &Args, report: &mut Report) {
    let rounds = if args.full { ROUNDS } else { 1 };
    for scenario in scenarios::cluster::ALL
        .iter()
        .filter(|s| chosen(args, s.name, s.long))
    {
        for _ in 0..rounds {
            println!("── {}: {}", scenario.name, scenario.shows);
            let begun = Instant::now();
            let outcome = (scenario.run)().await;
            finish(report, scenario.name, begun, &outcome);
        }
    }
    println!("── cluster and installation");
    let begun = Instant::now();
    let prepared = stage::local(&args.name, &Steps::shown()).await;
    add(report, "cluster and installation", begun, prepared.is_ok());
    let ctx = match prepared {
        Ok(ctx) => ctx,
        Err(e) => return eprintln!("{e:#}"),
    };
    for scenario in scenarios::ALL
        .iter()
        .filter(|s| chosen(args, s.name, s.long))
    {
        for _ in 0..rounds {
            println!("── {}: {}", scenario.name, scenario.shows);
            let begun = Instant::now();
            let outcome = scenarios::run(&ctx, scenario).await;
            finish(report, scenario.name, begun, &outcome);
        }
    }
    if !args.keep {
        println!("── cluster down");
        let begun = Instant::now();
        let down = ctx.cluster.down(&Steps::shown()).await;
        if let Err(e) = &down {
            eprintln!("{e}");
        }
        add(report, "cluster down", begun, down.is_ok());
    }
}

/// Whether a scenario is asked for: a long one by `--full` or by name.
fn chosen(args: &Args, name: &str, long: bool) -> bool {
    let named = args.only.is_empty() || args.only.iter().any(|word| name.contains(word.as_str()));
    named && (args.full || !long || !args.only.is_empty())
}

/// A scenario has ended: what it saw if it failed, and its row.
fn finish(report: &mut Report, name: &str, begun: Instant, outcome: &anyhow::Result<()>) {
    if let Err(e) = outcome {
        eprintln!("{e:#}");
    }
    add(report, name, begun, outcome.is_ok());
}

fn add(report: &mut Report, name: &str, begun: Instant, held: bool) {
    report.add(Row {
        name: name.to_owned(),
        took: begun.elapsed(),
        counts: Counts::one(held),
    });
}
