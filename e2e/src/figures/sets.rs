//! An operator that looks after many sets, as a process of its own against the test kit's fakes.
//!
//! The API server, the nodes, the agents and the engines are fakes in one process
//! (`mainstay-fakes`), on loopback and without TLS between operator and API server; the operator is
//! the program of the image. Times include what the fakes need, which share the machine's
//! processors; the operator's own processor time is told beside them.

pub mod world;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use mainstay_crds::postgres::Postgres;
use serde_json::{Value, json};

use super::memory;
use super::requests::{Counts, difference};
use world::World;

/// Sets in one namespace.
const IN_NAMESPACE: usize = 10;
/// How often the sets are looked at while they settle.
const LOOK: Duration = Duration::from_millis(100);
/// Longest time for all sets to settle.
const PATIENCE: Duration = Duration::from_mins(10);
/// No request but lease renewals for this long: then it rests.
const REST: Duration = Duration::from_secs(3);
/// A clock tick is 10 ms on every kernel we support.
const TICK: Duration = Duration::from_millis(10);

/// What one run came to.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// From the first set applied to all settled, and after it.
    pub create: Work,
    /// From the first set changed to all settled again.
    pub change: Work,
    /// From a request to the operator to stop until a new one rests, with all sets settled.
    pub restart: Work,
    /// Resident memory of the operator with all sets settled, in KiB: anonymous, and all.
    pub memory: (u64, u64),
    /// The same of the operator that was started over the settled sets.
    pub memory_restarted: (u64, u64),
    /// Requests per minute by verb while all is settled.
    pub requests: Counts,
    /// Passes per minute while all is settled.
    pub passes: f64,
    /// Processor time while all is settled, in thousandths of a core.
    pub millicores: f64,
}

/// What something cost.
#[derive(Clone, Debug, Default)]
pub struct Work {
    /// Seconds.
    pub seconds: f64,
    /// The operator's processor time in seconds.
    pub processor: f64,
    /// Passes of the operator; 0 when it does not count them.
    pub passes: f64,
    /// Seconds of all passes together.
    pub in_passes: f64,
    /// Requests to the API server by verb.
    pub requests: Counts,
}

/// One run with `count` sets of three; idle for `window` in the middle.
///
/// Settled: the status is of the newest generation, 3/3 are ready, `Ready` is true after a round trip
/// through the Service, nothing is pending or waited for.
///
/// # Errors
/// When a program does not start, or the sets do not settle.
pub async fn run(world: &mut World, count: usize, window: Duration) -> Result<Run> {
    let create = measured(world, count, create).await?;

    let process = world.operator()?;
    let memory = (process.rss_anon_kib, process.rss_kib);
    let before = Look::at(world).await?;
    tokio::time::sleep(window).await;
    let after = Look::at(world).await?;
    let idle = after.since(&before, window);
    let scale = 60.0 / window.as_secs_f64();
    let requests = difference(&after.requests, &before.requests, scale);

    let change = measured(world, count, change).await?;

    let begin = Instant::now();
    world.restart_operator().await?;
    rest(world).await?;
    let took = begin.elapsed().saturating_sub(REST);
    let restart = Look::at(world).await?.since(&Look::default(), took);
    settled(world, count).await?;
    let process = world.operator()?;
    Ok(Run {
        create,
        change,
        restart,
        memory,
        memory_restarted: (process.rss_anon_kib, process.rss_kib),
        requests,
        passes: idle.passes * scale,
        millicores: idle.processor / window.as_secs_f64() * 1000.0,
    })
}

/// What the operator tells of itself at a moment.
#[derive(Debug, Default)]
struct Look {
    ticks: u64,
    passes: f64,
    in_passes: f64,
    /// By verb.
    requests: Counts,
}

impl Look {
    async fn at(world: &World) -> Result<Self> {
        let process: memory::Process = world.operator()?;
        let text = world.metrics().await?;
        Ok(Self {
            ticks: process.ticks,
            passes: sum(&text, "mainstay_reconciles_total"),
            in_passes: sum(&text, "mainstay_reconcile_duration_seconds_sum"),
            requests: by_label(&text, "mainstay_api_requests_total", "verb"),
        })
    }

    fn since(&self, before: &Self, took: Duration) -> Work {
        let ticks = u32::try_from(self.ticks.saturating_sub(before.ticks)).unwrap_or(u32::MAX);
        Work {
            seconds: took.as_secs_f64(),
            processor: (TICK * ticks).as_secs_f64(),
            passes: self.passes - before.passes,
            in_passes: self.in_passes - before.in_passes,
            requests: difference(&self.requests, &before.requests, 1.0),
        }
    }
}

fn api(world: &World, index: usize) -> Api<Postgres> {
    let namespace = format!("team-{}", index / IN_NAMESPACE);
    Api::namespaced(world.client().clone(), &namespace)
}

fn name(index: usize) -> String {
    format!("set{index}")
}

/// What it costs until all sets have settled after something was asked of them; then the operator
/// rests.
async fn measured(
    world: &World,
    count: usize,
    ask: impl AsyncFnOnce(&World, usize) -> Result<()>,
) -> Result<Work> {
    let before = Look::at(world).await?;
    let begin = Instant::now();
    ask(world, count).await?;
    settled(world, count).await?;
    let cost = Look::at(world).await?.since(&before, begin.elapsed());
    rest(world).await?;
    Ok(cost)
}

async fn create(world: &World, count: usize) -> Result<()> {
    let make = |index: usize| async move {
        let postgres: Postgres = serde_json::from_value(json!({
            "apiVersion": "mainstay.dev/v1alpha1",
            "kind": "Postgres",
            "metadata": {"name": name(index)},
            "spec": {"version": "17", "instances": 3, "storage": {"size": "1Gi"}},
        }))?;
        let (api, how) = (api(world, index), PostParams::default());
        anyhow::Ok(api.create(&how, &postgres).await.map(drop)?)
    };
    try_join_all((0..count).map(make)).await.map(drop)
}

async fn change(world: &World, count: usize) -> Result<()> {
    let parameter = json!({"spec": {"parameters": {"work_mem": "8MB"}}});
    let patch = |index: usize| {
        let patch: Patch<Value> = Patch::Merge(parameter.clone());
        async move {
            let (api, how) = (api(world, index), PatchParams::default());
            anyhow::Ok(api.patch(&name(index), &how, &patch).await.map(drop)?)
        }
    };
    try_join_all((0..count).map(patch)).await.map(drop)
}

async fn settled(world: &World, count: usize) -> Result<()> {
    let all: Api<Postgres> = Api::all(world.client().clone());
    let begin = Instant::now();
    loop {
        let sets = all.list(&ListParams::default()).await?.items;
        let done = sets.iter().filter(|set| is_settled(set)).count();
        if done == count {
            return Ok(());
        }
        // One that lost its lease has ended, and nothing would ever settle.
        world.operator()?;
        if begin.elapsed() > PATIENCE {
            let first = sets.iter().find(|set| !is_settled(set));
            let status = first.and_then(|set| set.status.as_ref());
            let status = serde_json::to_string_pretty(&status)?;
            let log = world.log();
            anyhow::bail!(
                "{done} of {count} sets have settled; one of the others:\n{status}\n{log}"
            );
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn is_settled(set: &Postgres) -> bool {
    let Some(status) = &set.status else {
        return false;
    };
    let is = |kind: &str| {
        let found = status.conditions.iter().find(|c| c.type_ == kind);
        found.is_some_and(|c| c.status == "True")
    };
    status.observed_generation == set.metadata.generation
        && status.ready.as_deref() == Some("3/3")
        && is("Ready")
        && !is("Reconciling")
        && status.pending_changes.is_empty()
        && status.waiting_for.is_empty()
}

/// Until the operator makes no request but renewals of its lease.
async fn rest(world: &World) -> Result<()> {
    let quiet = |text: &str| {
        let mut requests = by_label(text, "mainstay_api_requests_total", "verb");
        requests.remove("update");
        requests.values().sum::<f64>()
    };
    let begin = Instant::now();
    let mut last = (quiet(&world.metrics().await?), Instant::now());
    while last.1.elapsed() < REST || last.0 == 0.0 {
        ensure!(
            begin.elapsed() < PATIENCE,
            "the operator does not rest:\n{}",
            world.log()
        );
        tokio::time::sleep(LOOK).await;
        let now = quiet(&world.metrics().await?);
        if (now - last.0).abs() > 0.5 {
            last = (now, Instant::now());
        }
    }
    Ok(())
}

/// The samples of a metric, all labels added up.
fn sum(text: &str, metric: &str) -> f64 {
    samples(text, metric).map(|(_, value)| value).sum()
}

/// The samples of a metric by one label.
fn by_label(text: &str, metric: &str, label: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for (labels, value) in samples(text, metric) {
        let key = labels
            .split_once(&format!("{label}=\""))
            .and_then(|(_, rest)| rest.split('"').next())
            .unwrap_or_default();
        *sums.entry(key.to_owned()).or_insert(0.0) += value;
    }
    sums
}

fn samples<'a>(text: &'a str, metric: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
    text.lines().filter_map(move |line| {
        let rest = line.strip_prefix(metric)?;
        let (labels, value) = rest.rsplit_once(' ')?;
        let whole = labels.is_empty() || labels.starts_with('{');
        Some((labels, value.parse().ok()?)).filter(|_| whole)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# TYPE mainstay_api_requests counter\n\
        mainstay_api_requests_total{verb=\"patch\",code=\"200\"} 3\n\
        mainstay_api_requests_total{verb=\"patch\",code=\"409\"} 1\n\
        mainstay_api_requests_total{verb=\"get\",code=\"200\"} 2\n\
        mainstay_api_requests_total_more 9\n";

    #[test]
    fn samples_of_one_metric_are_added_up() {
        assert!((sum(TEXT, "mainstay_api_requests_total") - 6.0).abs() < 1e-9);
        let verbs = by_label(TEXT, "mainstay_api_requests_total", "verb");
        assert_eq!(verbs.keys().collect::<Vec<_>>(), ["get", "patch"]);
        assert!((verbs["patch"] - 4.0).abs() < 1e-9);
    }

    #[test]
    fn a_set_without_a_round_trip_is_not_settled() {
        let set = |ready: &str| -> Postgres {
            serde_json::from_value(json!({
                "apiVersion": "mainstay.dev/v1alpha1", "kind": "Postgres",
                "metadata": {"name": "db", "generation": 2},
                "spec": {"version": "17", "instances": 3, "storage": {"size": "1Gi"}},
                "status": {"observedGeneration": 2, "ready": "3/3", "conditions": [
                    {"type": "Ready", "status": ready, "reason": "R", "message": "m",
                     "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
            }))
            .unwrap()
        };
        assert!(is_settled(&set("True")));
        assert!(!is_settled(&set("Unknown")));
    }
}
