//! The scenarios on a cluster: several at a time where they may share it, the others one by one.

use std::pin::pin;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use mainstay_e2e::cluster::Steps;
use mainstay_e2e::scenarios::{self, Company, Context, Sandbox, Scenario, cluster};
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

/// Each scenario that is asked for once: those that share the cluster, then those that are alone. The
/// namespace of one is removed while the next one runs, unless that one has to have it still.
async fn round(args: &Args, ctx: &Context, report: &mut Report) {
    let (sharing, alone): (Vec<_>, Vec<_>) = scenarios::ALL
        .iter()
        .filter(|s| chosen(args, s.name, s.long))
        .partition(|s| s.company == Company::Shares);
    let seats = Semaphore::new(args.together.into());
    let mut running: FuturesUnordered<_> = sharing
        .into_iter()
        .map(|s| {
            let seats = &seats;
            async move {
                let seat = seats.acquire().await;
                let left = once(ctx, s).await;
                drop(seat);
                left.removed().await
            }
        })
        .collect();
    tell_all(&mut running, report).await;
    let mut leaving = FuturesUnordered::new();
    for scenario in alone {
        if matches!(scenario.company, Company::Still(_)) {
            tell_all(&mut leaving, report).await;
        }
        let mut this = pin!(once(ctx, scenario));
        let left = loop {
            tokio::select! {
                left = &mut this => break left,
                Some(ended) = leaving.next() => Ended::tell(ended, report),
            }
        };
        leaving.push(left.removed());
    }
    tell_all(&mut leaving, report).await;
}

/// Wait until all of these have ended, and tell each as it does.
async fn tell_all<F>(running: &mut FuturesUnordered<F>, report: &mut Report)
where
    F: Future<Output = Ended>,
{
    while let Some(ended) = running.next().await {
        ended.tell(report);
    }
}

/// Run one. That its namespace goes afterwards is part of its success.
async fn once<'a>(ctx: &'a Context, scenario: &Scenario) -> Left<'a> {
    begins(scenario.name, scenario.shows);
    let begun = Instant::now();
    let outcome = scenarios::run(ctx, scenario).await;
    Left {
        name: scenario.name,
        took: begun.elapsed(),
        outcome,
    }
}

/// A scenario that is over but for what it has left on the cluster.
struct Left<'a> {
    name: &'static str,
    took: Duration,
    outcome: anyhow::Result<Sandbox<'a>>,
}

impl Left<'_> {
    async fn removed(self) -> Ended {
        let begun = Instant::now();
        let outcome = match self.outcome {
            Ok(sandbox) => sandbox.clean_up().await,
            Err(e) => Err(e),
        };
        let removal = begun.elapsed();
        Ended {
            name: self.name,
            took: self.took + removal,
            removal: Some(removal),
            outcome,
        }
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
