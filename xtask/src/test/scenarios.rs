//! The scenarios on a cluster: several at a time where they may share it, the others one by one.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use mainstay_e2e::cluster::Steps;
use mainstay_e2e::scenarios::{self, Company, Context, Scenario, cluster};
use mainstay_e2e::stage;
use tokio::sync::Semaphore;

use super::Args;
use super::report::{Counts, Report, Row};

/// How often `--full` runs each scenario.
const ROUNDS: usize = 3;

/// Those about clusters; then a cluster of our own, images, charts, and all the others on it.
pub fn run(args: &Args, report: &mut Report) {
    let runtime = match crate::runtime() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("no runtime: {e}");
            return add(report, "scenarios", Instant::now(), false);
        }
    };
    runtime.block_on(run_all(args, report));
}

async fn run_all(args: &Args, report: &mut Report) {
    let rounds = if args.full { ROUNDS } else { 1 };
    for scenario in cluster::ALL.iter().filter(|s| chosen(args, s.name, s.long)) {
        for _ in 0..rounds {
            begins(scenario.name, scenario.shows);
            let begun = Instant::now();
            let outcome = (scenario.run)().await;
            let took = begun.elapsed();
            Ended {
                name: scenario.name,
                took,
                removal: None,
                outcome,
            }
            .tell(report);
        }
    }
    if !scenarios::ALL.iter().any(|s| chosen(args, s.name, s.long)) {
        return;
    }
    println!("── cluster and installation");
    let begun = Instant::now();
    let prepared = stage::local(&args.name, &Steps::shown()).await;
    add(report, "cluster and installation", begun, prepared.is_ok());
    let ctx = match prepared {
        Ok(ctx) => ctx,
        Err(e) => return eprintln!("{e:#}"),
    };
    let begun = Instant::now();
    for _ in 0..rounds {
        round(args, &ctx, report).await;
    }
    report.add(Row {
        name: "all scenarios on this cluster, by the clock".to_owned(),
        took: begun.elapsed(),
        counts: Counts::default(),
    });
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

/// Each scenario that is asked for once: those that share the cluster, then those that are alone.
async fn round(args: &Args, ctx: &Context, report: &mut Report) {
    let (sharing, alone): (Vec<_>, Vec<_>) = scenarios::ALL
        .iter()
        .filter(|s| chosen(args, s.name, s.long))
        .partition(|s| s.company == Company::Shares);
    let seats = Semaphore::new(args.together.into());
    let mut running: FuturesUnordered<_> =
        sharing.into_iter().map(|s| once(ctx, &seats, s)).collect();
    while let Some(ended) = running.next().await {
        ended.tell(report);
    }
    for scenario in alone {
        once(ctx, &seats, scenario).await.tell(report);
    }
}

/// Run one when there is a seat for it. Its namespace is removed when it has left the seat to the
/// next one; that it goes is part of its success.
async fn once(ctx: &Context, seats: &Semaphore, scenario: &Scenario) -> Ended {
    let seat = seats.acquire().await;
    begins(scenario.name, scenario.shows);
    let begun = Instant::now();
    let outcome = scenarios::run(ctx, scenario).await;
    let left = Instant::now();
    drop(seat);
    let outcome = match outcome {
        Ok(sandbox) => sandbox.clean_up().await,
        Err(e) => Err(e),
    };
    Ended {
        name: scenario.name,
        took: begun.elapsed(),
        removal: Some(left.elapsed()),
        outcome,
    }
}

/// Whether a scenario is asked for: a long one by `--full` or by name.
fn chosen(args: &Args, name: &str, long: bool) -> bool {
    let named = args.only.is_empty() || args.only.iter().any(|word| name.contains(word.as_str()));
    named && (args.full || !long || !args.only.is_empty())
}

fn begins(name: &str, shows: &str) {
    println!("── {name}: {shows}");
}

/// A scenario that is over.
struct Ended {
    name: &'static str,
    took: Duration,
    /// What of that time was spent until its namespace was gone.
    removal: Option<Duration>,
    outcome: anyhow::Result<()>,
}

impl Ended {
    /// Say so, with all that was seen if it failed, and add its row.
    fn tell(self, report: &mut Report) {
        match &self.outcome {
            Ok(()) => {
                let seconds = self.took.as_secs_f64();
                let removal = self.removal.map_or_else(String::new, |r| {
                    format!(", {:.1} s of them to remove it", r.as_secs_f64())
                });
                println!("   {}: done after {seconds:.1} s{removal}", self.name);
            }
            Err(e) => eprintln!("{e:#}"),
        }
        report.add(Row {
            name: self.name.to_owned(),
            took: self.took,
            counts: Counts::one(self.outcome.is_ok()),
        });
    }
}

fn add(report: &mut Report, name: &str, begun: Instant, held: bool) {
    report.add(Row {
        name: name.to_owned(),
        took: begun.elapsed(),
        counts: Counts::one(held),
    });
}
