//! `cargo xtask test`: everything that must hold, from formatting to whole clusters.

mod compile;
mod demo;
mod gates;
mod lints;
mod report;
mod scenarios;
mod suites;

use std::time::Instant;

use clap::Parser;
use mainstay_e2e::scenarios::set::Kind;

use report::{Counts, Report, Row};

/// What to run.
#[derive(Debug, Parser)]
pub struct Args {
    /// Leave out tests with real engines and the scenarios on a cluster.
    #[arg(long)]
    fast: bool,
    /// Also run long scenarios, and every scenario three times.
    #[arg(long, conflicts_with = "fast")]
    full: bool,
    /// Leave out the tests and scenarios of every other engine: for who works on one.
    #[arg(long, value_enum)]
    engine: Option<Kind>,
    /// Run only the scenarios whose name contains one of these words, long ones too, and no
    /// other step.
    #[arg(long, value_name = "WORD")]
    only: Vec<String>,
    /// How many scenarios run at a time, on both clusters together.
    #[arg(long, value_name = "NUMBER", default_value_t = 3,
          value_parser = clap::value_parser!(u8).range(1..))]
    together: u8,
    /// Leave the clusters of the scenarios running afterwards.
    #[arg(long)]
    keep: bool,
    /// Name of the local cluster that scenarios share; that of those which share none is `<name>-alone`.
    #[arg(long, default_value = "test")]
    name: String,
}

/// Run it all, print a table of steps and one last line `N passed, N failed`.
///
/// # Errors
/// When anything failed; the table says what.
pub fn run(args: &Args) -> Result<(), Failed> {
    let mut report = Report::default();
    if args.only.is_empty() {
        for gate in gates::ALL {
            step(&mut report, gate.name, || gate.run());
        }
        step(&mut report, "lints (clippy) and compiling", lints::run);
        step(&mut report, "unit and property tests", || {
            suites::unit(args.engine)
        });
        let name = if args.fast {
            "integration tests (API server)"
        } else {
            "integration tests (API server, engines)"
        };
        step(&mut report, name, || {
            suites::integration(args.engine, !args.fast)
        });
    }
    if !args.fast {
        if args.only.is_empty() && args.engine.is_none_or(|engine| !engine.is_redis()) {
            step(&mut report, "the demo, with its images", || {
                demo::runs(&args.name)
            });
        }
        scenarios::run(args, &mut report);
    }
    print!("{report}");
    let Counts { passed, failures } = report.totals();
    let failed = failures.len();
    println!("{passed} passed, {failed} failed");
    if failed == 0 && passed > 0 {
        Ok(())
    } else {
        Err(Failed { failed })
    }
}

/// Something failed.
#[derive(Debug, thiserror::Error)]
#[error("{failed} failed; the lines after the table name them")]
pub struct Failed {
    failed: usize,
}

/// Run one step, with a line before and its time after.
fn step(report: &mut Report, name: &str, body: impl FnOnce() -> Counts) {
    println!("── {name}");
    let begun = Instant::now();
    let counts = body();
    report.add(Row {
        name: name.to_owned(),
        took: begun.elapsed(),
        counts,
    });
}
