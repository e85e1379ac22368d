//! Carrying orders out: one backup at a time, and retention. I/O.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use mainstay_backup::api::{Order, OrderResult, Outcome, PruneReport};
use mainstay_backup::ids::BackupId;
use mainstay_backup::manifest::Manifest;
use mainstay_backup::prune::prune;
use mainstay_backup::retention::{Policy, leftovers, plan};
use mainstay_backup::run::{self, RunError, run};
use mainstay_backup::source::{SnapshotSource, SourceError};
use mainstay_backup::stream::{PutError, SPLIT};

use super::Engine;
use super::keeper::{random, read};
use super::settings::ORDER;
use super::state::{Job, Repo, Shared, lock};

/// A chain is not longer than so many increments, unless an order says so.
const CHAIN: u32 = 6;
/// How old an unfinished backup is before it is cleared away.
const LEFT: SignedDuration = SignedDuration::from_hours(24);
/// Keys that are told as kept by locks.
const TOLD: usize = 20;

/// Why an order is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Another one is being carried out.
    Busy(String),
    /// There is no repository to write to, or another reason that may pass.
    Away(String),
}

/// Which backup is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The changes since the newest one would do.
    pub incremental: bool,
    /// A chain is not longer than so many increments.
    pub chain: u32,
}

/// Takes an order. What comes of it is in the report.
///
/// # Errors
/// It is not taken.
pub fn take<E: Engine>(shared: &Arc<Shared<E>>, order: Order) -> Result<(), Refusal> {
    match order {
        Order::Refresh => {
            shared.keeper.notify_one();
            Ok(())
        }
        Order::Cancel { order } => {
            let running = lock(&shared.jobs).running.clone();
            if let Some(job) = running.filter(|job| job.order == order) {
                job.cancel.notify_one();
            }
            Ok(())
        }
        Order::Take {
            order,
            incremental,
            chain,
        } => {
            let chain = chain.unwrap_or(CHAIN);
            begin(shared, order, Wish { incremental, chain })
        }
        Order::Prune { policy } => {
            let repo = repo(shared)?;
            {
                let mut jobs = lock(&shared.jobs);
                if jobs.pruning {
                    return Err(Refusal::Busy("retention is at work".to_owned()));
                }
                jobs.pruning = true;
            }
            let shared = Arc::clone(shared);
            tokio::spawn(async move {
                let report = retain(&shared, &repo, &policy).await;
                let mut jobs = lock(&shared.jobs);
                jobs.pruning = false;
                jobs.prune = Some(report);
                drop(jobs);
                shared.reporter.notify_one();
            });
            Ok(())
        }
    }
}

fn repo<E: Engine>(shared: &Shared<E>) -> Result<Arc<Repo<E::Data>>, Refusal> {
    shared.repo().map_err(|away| Refusal::Away(away.reason))
}

fn begin<E: Engine>(shared: &Arc<Shared<E>>, order: String, wish: Wish) -> Result<(), Refusal> {
    let repo = repo(shared)?;
    let made = |m: &Manifest| m.details.get(ORDER) == Some(&order);
    if repo.catalogue().backups.iter().any(made) {
        return Ok(());
    }
    let bytes = random().map_err(|e| Refusal::Away(format!("no random numbers: {e}")))?;
    let begun = Timestamp::now();
    let mut jobs = lock(&shared.jobs);
    if let Some(running) = &jobs.running {
        return if running.order == order {
            Ok(())
        } else {
            Err(Refusal::Busy(format!(
                "the backup for order {} is being made",
                running.order
            )))
        };
    }
    let job = Arc::new(Job {
        order,
        id: BackupId::new(begun, bytes),
        begun,
        step: std::sync::Mutex::new("beginning".to_owned()),
        incremental: false.into(),
        progress: Arc::default(),
        total: 0.into(),
        cancel: tokio::sync::Notify::new(),
    });
    jobs.running = Some(Arc::clone(&job));
    drop(jobs);
    shared.reporter.notify_one();
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let outcome = tokio::select! {
            made = E::make(&shared, &repo, &job, wish) => made,
            () = job.cancel.notified() => Outcome::Cancelled,
        };
        tracing::info!(order = job.order, ?outcome, "backup");
        lock(&shared.jobs).ended(OrderResult {
            order: job.order.clone(),
            at: Timestamp::now(),
            outcome,
        });
        shared.reporter.notify_one();
    });
    Ok(())
}

/// Makes the backup of a job from what the engine gives. Its details have the order ([`ORDER`]), by which it is found
/// again.
pub async fn store<D>(
    repo: &Repo<D>,
    source: &dyn SnapshotSource,
    job: &Job,
    parent: Option<&Manifest>,
) -> Outcome {
    let order = run::Order {
        id: job.id.clone(),
        parent,
        progress: Arc::clone(&job.progress),
        split: SPLIT,
    };
    match run(&repo.writer(), source, order, &Timestamp::now).await {
        Ok(manifest) => {
            let id = manifest.id.clone();
            repo.catalogue().backups.push(manifest);
            Outcome::Done { id }
        }
        Err(error) => Outcome::Failed {
            retryable: retryable(&error),
            why: error.to_string(),
        },
    }
}

fn retryable(error: &RunError) -> bool {
    match error {
        RunError::Put(PutError::Store(error)) => error.reason.passes(),
        RunError::Source(SourceError::Later(_)) | RunError::Put(_) => true,
        RunError::Source(SourceError::Blocked(_)) | RunError::Claim(_) | RunError::Manifest(_) => {
            false
        }
    }
}

/// What no engine has whose backups are files: it is only there so that retention knows one.
struct NoNative(&'static str);

impl mainstay_backup::source::SnapshotSource for NoNative {
    fn name(&self) -> String {
        self.0.to_owned()
    }

    fn begin<'a>(
        &'a self,
        _: &'a mainstay_backup::source::Wish<'a>,
    ) -> futures::future::BoxFuture<
        'a,
        Result<Box<dyn mainstay_backup::source::Snapshot>, SourceError>,
    > {
        Box::pin(async {
            Err(SourceError::Blocked(
                "retention takes no backups".to_owned(),
            ))
        })
    }

    fn forget<'a>(
        &'a self,
        _: &'a mainstay_backup::manifest::NativeSnapshot,
    ) -> futures::future::BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(async { Ok(()) })
    }
}

async fn retain<E: Engine>(
    shared: &Shared<E>,
    repo: &Repo<E::Data>,
    policy: &Policy,
) -> PruneReport {
    let mut report = PruneReport {
        at: Timestamp::now(),
        backups: Vec::new(),
        pieces: 0,
        waits: Vec::new(),
        error: None,
        plan: String::new(),
    };
    let outcome: Result<(), String> = async {
        read(repo).await.map_err(|e| e.to_string())?;
        let owners = repo.repository.owners().await.map_err(|e| e.to_string())?;
        let catalogue = repo.catalogue().clone();
        let live = shared.engine.live();
        let busy = lock(&shared.jobs)
            .running
            .as_ref()
            .map(|job| job.id.clone());
        let now = Timestamp::now();
        let planned = plan(policy, now, &catalogue.facts(live));
        report.plan = planned.to_string().chars().take(16_000).collect();
        let left = leftovers(&catalogue.unfinished, &owners, busy.as_ref(), LEFT, now);
        let pruned = prune(
            &repo.writer(),
            &NoNative(E::NAME),
            &catalogue,
            &planned,
            &left,
        )
        .await;
        let pruned = pruned.map_err(|e| e.to_string())?;
        report.backups = pruned.backups;
        report.pieces = pruned.pieces as u64;
        report.waits = pruned
            .waits
            .iter()
            .take(TOLD)
            .map(|wait| match wait.until {
                Some(until) => format!("{} until {until}", wait.key),
                None => wait.key.clone(),
            })
            .collect();
        forget_deleted(repo, &planned.pieces, &report.backups);
        Ok(())
    }
    .await;
    report.error = outcome.err();
    report
}

/// What is gone is not in the catalogue any more, whatever was stored meanwhile.
fn forget_deleted<D>(repo: &Repo<D>, pieces: &[String], backups: &[BackupId]) {
    let gone: std::collections::HashSet<&String> = pieces.iter().collect();
    let mut catalogue = repo.catalogue();
    let key =
        |piece: &mainstay_backup::catalogue::Piece| mainstay_backup::layout::piece(&piece.key);
    catalogue.pieces.retain(|piece| !gone.contains(&key(piece)));
    catalogue
        .backups
        .retain(|manifest| !backups.contains(&manifest.id));
}
