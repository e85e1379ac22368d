//! The scenarios: several at a time on a cluster that they share, the others one by one on another, at the same
//! time.

use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use mainstay_e2e::cluster::Steps;
use mainstay_e2e::scenarios::{self, Company, Context, Sandbox, Scenario, cluster};
use mainstay_e2e::stage;
use tokio::sync::{Semaphore, oneshot};

use super::Args;
use super::report::{Counts, Report, Row};

/// How often `--full` runs each scenario.
const ROUNDS: usize = 3;

/// Those about clusters; then two clusters of our own, images, charts, and all the others on them.
pub fn run(args: &Args, report: &mut Report) {
    let runtime = match crate::runtime() {
        Ok(runtime) => runtime,
        Err(e) => {
            let why = format!("no runtime: {e}");
            return add(report, "scenarios", Instant::now(), Counts::failed(&why));
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
    let chosen = scenarios::ALL
        .iter()
        .filter(|s| {
            args.engine
                .is_none_or(|engine| engine.is_redis() == s.engine.is_redis())
        })
        .filter(|s| chosen(args, s.name, s.long));
    let (sharing, alone): (Vec<&Scenario>, Vec<&Scenario>) =
        chosen.partition(|s| s.company == Company::Shares);
    if sharing.is_empty() && alone.is_empty() {
        return;
    }
    let (quiet, alone): (Vec<_>, Vec<_>) = alone
        .into_iter()
        .partition(|s| matches!(s.company, Company::Quiet(_)));
    let begun = Instant::now();
    let told = Mutex::new(report);
    // Who is alone has a place for itself, which the others take when the last of them has ended.
    let beside = args.together > 1 && !alone.is_empty();
    let seats = Semaphore::new((args.together - u8::from(beside)).into());
    let (go, may_go) = oneshot::channel();
    let shared = async {
        let mut go = Some(go);
        let ctx = prepared(&args.name, !sharing.is_empty(), &told).await;
        if beside {
            drop(go.take());
        }
        if let Some(ctx) = ctx {
            for _ in 0..rounds {
                side_by_side(&ctx, &sharing, &seats, &told).await;
            }
            down(args, ctx, &told).await;
        }
        drop(go);
    };
    let by_themselves = async {
        // It is never sent: the first cluster is up, with the images that this one needs too, or it is over.
        let _: Result<(), _> = may_go.await;
        let wanted = !alone.is_empty() || !quiet.is_empty();
        let ctx = prepared(&format!("{}-alone", args.name), wanted, &told).await;
        if let Some(ctx) = &ctx {
            for _ in 0..rounds {
                one_by_one(ctx, &alone, &told).await;
            }
        }
        seats.add_permits(usize::from(beside));
        ctx
    };
    let ((), ctx) = tokio::join!(shared, by_themselves);
    if let Some(ctx) = ctx {
        for _ in 0..rounds {
            one_by_one(&ctx, &quiet, &told).await;
        }
        down(args, ctx, &told).await;
    }
    add_row(
        &told,
        Row {
            name: "clusters and scenarios, by the clock".to_owned(),
            took: begun.elapsed(),
            counts: Counts::default(),
        },
    );
}

/// Where both clusters' scenarios are told.
type Told<'a> = Mutex<&'a mut Report>;

fn add_row(told: &Told<'_>, row: Row) {
    told.lock().unwrap_or_else(PoisonError::into_inner).add(row);
}

fn tell(told: &Told<'_>, ended: Ended) {
    ended.tell(&mut told.lock().unwrap_or_else(PoisonError::into_inner));
}

fn add_step(told: &Told<'_>, name: &str, begun: Instant, counts: Counts) {
    let mut report = told.lock().unwrap_or_else(PoisonError::into_inner);
    add(&mut report, name, begun, counts);
}

/// The cluster of that name, ready for scenarios; none where none is wanted, or it failed.
async fn prepared(name: &str, wanted: bool, told: &Told<'_>) -> Option<Context> {
    if !wanted {
        return None;
    }
    let step = format!("cluster {name:?} and installation");
    println!("── {step}");
    let begun = Instant::now();
    let prepared = stage::local(name, &Steps::shown()).await;
    add_step(told, &step, begun, outcome(prepared.as_ref().err()));
    prepared.ok()
}

async fn down(args: &Args, ctx: Context, told: &Told<'_>) {
    if args.keep {
        return;
    }
    let step = format!("cluster {:?} down", ctx.cluster.name());
    println!("── {step}");
    let begun = Instant::now();
    let down = ctx.cluster.down(&Steps::shown()).await;
    let down = down.map_err(anyhow::Error::from);
    add_step(told, &step, begun, outcome(down.as_ref().err()));
}

/// Each of those that share their cluster, as soon as it has a seat.
async fn side_by_side(ctx: &Context, sharing: &[&Scenario], seats: &Semaphore, told: &Told<'_>) {
    let mut running: FuturesUnordered<_> = sharing
        .iter()
        .map(|s| async move {
            let seat = seats.acquire().await;
            let left = once(ctx, s).await;
            drop(seat);
            left.removed().await
        })
        .collect();
    tell_all(&mut running, told).await;
}

/// Each of those that need their cluster for themselves. The namespace of one is removed while the next one
/// runs, unless that one has to have the cluster still.
async fn one_by_one(ctx: &Context, alone: &[&Scenario], told: &Told<'_>) {
    let mut leaving = FuturesUnordered::new();
    for scenario in alone {
        if matches!(scenario.company, Company::Still(_) | Company::Quiet(_)) {
            tell_all(&mut leaving, told).await;
        }
        let mut this = pin!(once(ctx, scenario));
        let left = loop {
            tokio::select! {
                left = &mut this => break left,
                Some(ended) = leaving.next() => tell(told, ended),
            }
        };
        leaving.push(left.removed());
    }
    tell_all(&mut leaving, told).await;
}

/// Wait until all of these have ended, and tell each as it does.
async fn tell_all<F>(running: &mut FuturesUnordered<F>, told: &Told<'_>)
where
    F: Future<Output = Ended>,
{
    while let Some(ended) = running.next().await {
        tell(told, ended);
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
        if self.outcome.is_ok() {
            let seconds = self.took.as_secs_f64();
            let removal = self.removal.map_or_else(String::new, |r| {
                format!(", {:.1} s of them to remove it", r.as_secs_f64())
            });
            println!("   {}: done after {seconds:.1} s{removal}", self.name);
        }
        report.add(Row {
            name: self.name.to_owned(),
            took: self.took,
            counts: outcome(self.outcome.as_ref().err()),
        });
    }
}

fn add(report: &mut Report, name: &str, begun: Instant, counts: Counts) {
    report.add(Row {
        name: name.to_owned(),
        took: begun.elapsed(),
        counts,
    });
}

/// One check that held, or the error that it ended with: all of it is shown at once, its cause is kept.
fn outcome(error: Option<&anyhow::Error>) -> Counts {
    let Some(error) = error else {
        return Counts::held(1);
    };
    eprintln!("{error:#}");
    // The outermost of several is what was seen around it, pages long.
    let causes: Vec<_> = error.chain().map(ToString::to_string).collect();
    let cause = causes
        .get(1..)
        .filter(|rest| !rest.is_empty())
        .unwrap_or(&causes);
    Counts::failed(&cause.join(": "))
}
