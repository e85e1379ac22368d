//! Faults under load, again and again: what each costs, and whether a promise was broken.
//!
//! One run is a fresh set of three (or a cluster of three shards) in a namespace of its own, and a client that writes through the
//! primary Service and reconnects every 10 ms; besides, a writer and a reader in each member's own
//! network. The set is a `Postgres` or a `Redis`; of a cluster the faults are done to one shard, and those writers write to it alone. Then comes the fault, and the wait until all is whole again. At the end all ledgers are compared with the
//! rows, number by number, with each other (was there more than one who took writes?), and the rows of
//! all instances with each other.

pub mod fault;
pub mod faults;
pub mod readers;
pub mod record;
pub mod rows;
pub mod verdict;
pub mod witness;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{ListParams, LogParams};
use mainstay_workload::ledger::Entry;

use crate::scenarios::Context;
use crate::scenarios::failover::set_with_place;
use crate::scenarios::kit::Sandbox;
use crate::scenarios::set::Kind;
use crate::scenarios::writer::Writer;
use fault::{Fault, Ground, Worth};
pub use record::upper_bound;
pub use verdict::Run;
use witness::Witnesses;

/// Who tells of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oracle {
    /// The client, and a writer and a reader in each member's own network.
    Whole,
    /// The client alone: for figures where nobody else takes processor time. It proves little.
    ClientAlone,
}

/// Do it once to a set of that kind, in a namespace of its own whose name ends with this number. Its namespace is removed
/// afterwards, also after a failure; then what was seen is in a folder that the error names. So it is of every
/// run that is to be `kept`.
///
/// # Errors
/// What did not come about in time; a broken promise is none, but in the result.
pub async fn run(
    ctx: &Context,
    kind: Kind,
    fault: &Fault,
    number: usize,
    oracle: Oracle,
    kept: bool,
) -> Result<Run> {
    let sandbox = Sandbox::new(ctx, &format!("{}-{number}", fault.name)).await?;
    let outcome = run_in(&sandbox, kind, fault, oracle).await;
    // Of a broken promise it is there already, from before what followed; so it is of a failure.
    if let Ok(run) = &outcome
        && kept
        && !run.broken()
    {
        keep(&sandbox, &format!("{run:?}")).await;
    }
    match (outcome, sandbox.remove().await) {
        (Ok(_), Err(error)) => Err(error),
        (outcome, _) => outcome,
    }
}

/// Where what was seen of failures is kept.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/chaos")
}

/// Keep the error, the state, and all that the pods logged. What cannot be had is left out.
async fn keep(s: &Sandbox<'_>, error: &str) -> PathBuf {
    let folder = folder().join(&s.namespace);
    let put = |name: &str, text: &str| {
        let _ = std::fs::create_dir_all(&folder);
        let _ = std::fs::write(folder.join(name), text);
    };
    put("seen", &format!("{error}\n\n{}", s.diagnose().await));
    let pods = s.api::<Pod>();
    for pod in pods
        .list(&ListParams::default())
        .await
        .into_iter()
        .flatten()
    {
        let name = pod.name_any();
        for previous in [false, true] {
            let which = LogParams {
                previous,
                timestamps: true,
                ..LogParams::default()
            };
            if let Ok(text) = pods.logs(&name, &which).await {
                put(
                    &format!("{name}{}", if previous { ".before" } else { "" }),
                    &text,
                );
            }
        }
    }
    folder
}

/// Keep the ledgers of a run, for who asks why a pause was so long.
fn keep_ledgers(s: &Sandbox<'_>, ledgers: &[(String, Vec<Entry>)]) -> PathBuf {
    let folder = folder().join(&s.namespace);
    let _ = std::fs::create_dir_all(&folder);
    for (run, entries) in ledgers {
        let lines: Vec<String> = entries.iter().map(Entry::to_string).collect();
        let _ = std::fs::write(folder.join(format!("ledger-{run}")), lines.join("\n"));
    }
    folder
}

/// Do it once in an empty namespace, which is left as it is then.
///
/// # Errors
/// As [`run`].
pub async fn run_in(
    sandbox: &Sandbox<'_>,
    kind: Kind,
    fault: &Fault,
    oracle: Oracle,
) -> Result<Run> {
    one_after_another(sandbox, kind, &[fault], oracle).await
}

/// Do these to one set of that kind in an empty namespace, which is left as it is then: each when all is whole again after the one
/// before, and the ledgers of all that time are judged at the end. `whole` is the longest of those times.
///
/// # Errors
/// As [`run`]; when the faults are not for the same kind of set and client.
pub async fn one_after_another(
    sandbox: &Sandbox<'_>,
    kind: Kind,
    faults: &[&Fault],
    oracle: Oracle,
) -> Result<Run> {
    let outcome = judged(sandbox, kind, faults, oracle).await;
    let Err(error) = outcome else { return outcome };
    let folder = keep(sandbox, &format!("{error:#}")).await;
    Err(error.context(format!("see {}", folder.display())))
}

/// Who leads now, as soon as it was seen from inside. In a cluster that is whoever takes the writers' keys: slots move.
async fn heard(ground: &Ground<'_>) -> Result<String> {
    match ground.kind {
        Kind::RedisCluster if ground.witnesses.are_there() => {
            ground.witnesses.hear_any(ground.sandbox).await
        }
        _ => {
            let leads = || ground.leads();
            ground.witnesses.hear_leader(ground.sandbox, leads).await
        }
    }
}

async fn judged(
    sandbox: &Sandbox<'_>,
    kind: Kind,
    faults: &[&Fault],
    oracle: Oracle,
) -> Result<Run> {
    let fault = faults.first().context("there is no fault")?;
    for other in faults {
        ensure!(
            other.goes_with(fault),
            "{} and {} are not for the same set and client",
            fault.name,
            other.name
        );
        ensure!(
            other.kinds.contains(&kind),
            "{} is no fault of a {}",
            other.name,
            kind.name()
        );
    }
    let spec = fault.spec(kind);
    let (node, primary_before) = set_with_place(sandbox, kind, &spec, fault.client).await?;
    let writer = match kind {
        Kind::Postgres => Writer::start(sandbox, &node, fault.sure).await?,
        Kind::Redis => Writer::of_redis(sandbox, &node).await?,
        Kind::RedisCluster => Writer::of_cluster(sandbox, &node).await?,
    };
    let witnesses = match (oracle, kind) {
        (Oracle::Whole, Kind::RedisCluster) => {
            let tag = writer.tag_of(&primary_before).await?;
            Witnesses::of_shard(sandbox, kind, &tag).await?
        }
        (Oracle::Whole, _) => Witnesses::start(sandbox, kind, fault.sure).await?,
        (Oracle::ClientAlone, _) => Witnesses::none()?,
    };
    witnesses.hear(sandbox, &primary_before).await?;
    let ground = Ground::new(sandbox, kind, primary_before, &writer, &witnesses);
    let mut ground = ground.await?;
    let mut whole = Duration::ZERO;
    for fault in faults {
        if faults.len() > 1 {
            sandbox.say(fault.what);
        }
        let since: Instant = (fault.run)(&ground)
            .await
            .with_context(|| format!("the fault {}", fault.name))?;
        ground.settled().await?;
        whole = whole.max(since.elapsed());
        ground.writer.more(50).await?;
        // Whoever leads now is seen from inside as well: else what it did would not have been judged. The
        // status may still name the one before, whole as it was. And to be whole may take one hand-over more, as where
        // two primaries of a cluster are in one zone.
        let mut leads = heard(&ground).await?;
        loop {
            ground.settled().await?;
            let still = heard(&ground).await?;
            if still == leads {
                break;
            }
            leads = still;
        }
        ground.is_led_by(leads).await?;
    }
    let client = writer.ledger().await?;
    let (testimonies, shown) = witnesses.end()?;
    let mut ledgers = vec![(verdict::CLIENT.to_owned(), client)];
    ledgers.extend(testimonies.into_iter().map(|t| (t.run, t.entries)));
    let folder = keep_ledgers(sandbox, &ledgers);
    let rows = rows::all(sandbox, kind, &writer).await?;
    let worth = fault.worth(kind);
    let told = match worth {
        Worth::Confirmed => readers::confirmed(&ledgers[0].1),
        Worth::Quorum | Worth::Async | Worth::ByShard => Vec::new(),
    };
    let run = Run {
        reads: readers::judge(&shown, &told),
        ..verdict::judge(&ledgers, &rows, whole, worth)
    };
    if run.broken() {
        sandbox.say(&format!(
            "a promise was broken: the ledgers are in {}",
            folder.display()
        ));
        for violation in verdict::violations(&ledgers).iter().take(5) {
            sandbox.say(violation);
        }
        keep(sandbox, &format!("{run:?}")).await;
    }
    rows::equal(sandbox, kind, &writer).await?;
    Ok(run)
}
