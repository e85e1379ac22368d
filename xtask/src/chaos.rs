//! `cargo xtask chaos`: faults against a set under load, and what they cost.

use std::error::Error;

use anyhow::{Context as _, bail};
use clap::Args as ClapArgs;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use mainstay_e2e::chaos::fault::Fault;
use mainstay_e2e::chaos::record::{self, Runs};
use mainstay_e2e::chaos::{Oracle, Run, faults, run as run_once};
use mainstay_e2e::cluster::Steps;
use mainstay_e2e::scenarios::set::Kind;
use mainstay_e2e::scenarios::{Company, Context};
use mainstay_e2e::stage;
use tokio::sync::Semaphore;

#[derive(ClapArgs)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent flags, not a state"
)]
pub struct Args {
    /// What kind of set is broken.
    #[arg(long, value_enum, default_value = "postgres")]
    engine: Kind,
    /// Only faults called so, or else all whose name contains one of these words.
    #[arg(long, value_name = "WORD")]
    scenario: Vec<String>,
    /// How often each.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    runs: usize,
    /// How many that touch only their own sets are done at a time. Then their times are in no figure.
    #[arg(long, value_name = "NUMBER", default_value_t = 1,
          value_parser = clap::value_parser!(u8).range(1..))]
    together: u8,
    /// Add the runs to docs/chaos.csv (of a Redis: docs/chaos-redis.csv or docs/chaos-redis-cluster.csv), and show all that are there.
    #[arg(long)]
    record: bool,
    /// Without the writers and readers inside the pods, which take processor time: for figures of what a
    /// client sees. Such a run proves little and is never recorded.
    #[arg(long, conflicts_with = "record")]
    client_alone: bool,
    /// Keep the state and what all pods logged of every run, in target/chaos, as of those that fail.
    #[arg(long)]
    keep: bool,
    /// Only say what there is.
    #[arg(long)]
    list: bool,
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
        words.is_empty()
            || words.iter().any(|word| match faults::called(word) {
                Some(fault) => fault.name == name,
                None => name.contains(word.as_str()),
            })
    };
    let kind = args.engine;
    let chosen: Vec<_> = faults::of(kind).filter(|f| asked(f.name)).collect();
    if chosen.is_empty() {
        let names: Vec<_> = faults::of(kind).map(|f| f.name).collect();
        bail!("no fault is called so; there are {}", names.join(", "));
    }
    if args.list {
        for fault in chosen {
            println!("{}: {}", fault.name, fault.what);
        }
        return Ok(());
    }
    let mut book = Book::open(kind, args.record)?;
    let ctx = stage::local(&args.name, &Steps::shown()).await?;
    let together = usize::from(args.together);
    let (sharing, alone): (Vec<_>, Vec<_>) = (1..=args.runs)
        .flat_map(|number| chosen.iter().map(move |fault| (*fault, number)))
        .partition(|(fault, _)| together > 1 && fault.company == Company::Shares);
    let seats = Semaphore::new(together);
    let once = |fault, number| once(args, &ctx, &seats, fault, number);
    let mut running: FuturesUnordered<_> = sharing
        .iter()
        .map(|(fault, number)| once(fault, *number))
        .collect();
    while let Some((fault, outcome)) = running.next().await {
        let beside = |run| Run {
            beside: sharing.len() > 1,
            ..run
        };
        book.add(fault, outcome.map(beside))?;
    }
    for (fault, number) in alone {
        let (fault, outcome) = once(fault, number).await;
        book.add(fault, outcome)?;
    }
    book.close()
}

/// One run, when there is a seat for it.
async fn once<'a>(
    args: &Args,
    ctx: &Context,
    seats: &Semaphore,
    fault: &'a Fault,
    number: usize,
) -> (&'a Fault, anyhow::Result<Run>) {
    let _seat = seats.acquire().await;
    println!(
        "── {}, run {number} of {}: {}",
        fault.name, args.runs, fault.what
    );
    let oracle = if args.client_alone {
        Oracle::ClientAlone
    } else {
        Oracle::Whole
    };
    let ran = run_once(ctx, args.engine, fault, number, oracle, args.keep).await;
    (fault, ran)
}

/// What all runs came to.
struct Book {
    kind: Kind,
    version: String,
    runs: Runs,
    kept: bool,
    broken: Vec<&'static str>,
    unfinished: Vec<&'static str>,
}

impl Book {
    /// With what is kept of this version, if it is to be kept.
    fn open(kind: Kind, kept: bool) -> anyhow::Result<Self> {
        let version = record::version()?;
        let mut runs = Runs::new();
        if kept {
            let text = std::fs::read_to_string(record::file(kind)).unwrap_or_default();
            runs = record::read(&text, kind, &version).context(record::name(kind))?;
        }
        Ok(Self {
            kind,
            version,
            runs,
            kept,
            broken: Vec::new(),
            unfinished: Vec::new(),
        })
    }

    /// Say what a run came to, and write it down at once, so that none is lost.
    fn add(&mut self, fault: &Fault, outcome: anyhow::Result<Run>) -> anyhow::Result<()> {
        let name = fault.name;
        let run = match outcome {
            Ok(run) => {
                println!(
                    "   {name}: writes paused for {:?} at most, whole again after {:?}; {} acknowledged, {} lost, {} refused but there, {} by a second writer; no reads for {:?} at most, {} showed less",
                    run.gap,
                    run.whole,
                    run.acknowledged,
                    run.lost,
                    run.resurrected,
                    run.violations,
                    run.reads.gap,
                    run.reads.back
                );
                if let Some(loss) = run.loss {
                    println!(
                        "   {name}: lost {} writes that were no promise, {} bytes of at most {}",
                        run.unpromised, loss.bytes, loss.bound
                    );
                }
                if self.kind == Kind::RedisCluster {
                    println!(
                        "   {name}: two took writes of the shard for {:?} at most; lost {} writes that nobody confirmed",
                        run.window, run.unpromised
                    );
                }
                if run.broken() {
                    self.broken.push(name);
                }
                Some(run)
            }
            Err(error) => {
                println!("   {name}: did not end: {error:#}");
                self.unfinished.push(name);
                None
            }
        };
        self.runs.entry(name.to_owned()).or_default().push(run);
        if self.kept {
            let text = record::write(&self.runs, self.kind, &self.version);
            std::fs::write(record::file(self.kind), text)?;
        }
        Ok(())
    }

    /// Show the table, and say whether all is well.
    fn close(self) -> anyhow::Result<()> {
        println!("\n{}", record::table(&self.runs));
        if !self.broken.is_empty() {
            bail!("a promise was broken: {}", self.broken.join(", "));
        }
        if !self.unfinished.is_empty() {
            bail!("did not end: {}", self.unfinished.join(", "));
        }
        Ok(())
    }
}
