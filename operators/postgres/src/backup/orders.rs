//! Carrying orders out: one backup at a time, and retention. I/O.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::{SignedDuration, Timestamp};
use mainstay_backup::api::{Order, OrderResult, Outcome, PruneReport};
use mainstay_backup::catalogue::Catalogue;
use mainstay_backup::ids::BackupId;
use mainstay_backup::manifest::Manifest;
use mainstay_backup::prune::prune;
use mainstay_backup::retention::{Policy, leftovers, plan};
use mainstay_backup::run::{self, RunError, run};
use mainstay_backup::source::SourceError;
use mainstay_backup::stream::{PutError, SPLIT};

use super::coverage::{Line, ORDER, SYSTEM_IDENTIFIER, broken};
use super::engine::{Engine, Facts};
use super::keeper::{random, read};
use super::local;
use super::snapshot::{BaseBackup, MANIFEST};
use super::state::{Job, Repo, Shared, lock};

/// Major version from which on there are increments.
const INCREMENTS: u32 = 17;
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

/// Takes an order. What comes of it is in the report.
///
/// # Errors
/// It is not taken.
pub fn take(shared: &Arc<Shared>, order: Order) -> Result<(), Refusal> {
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
        } => begin(shared, order, incremental, chain.unwrap_or(CHAIN)),
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

fn repo(shared: &Shared) -> Result<Arc<Repo>, Refusal> {
    shared.repo().map_err(|away| Refusal::Away(away.reason))
}

fn begin(
    shared: &Arc<Shared>,
    order: String,
    incremental: bool,
    chain: u32,
) -> Result<(), Refusal> {
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
            made = make(&shared, &repo, &job, incremental, chain) => made,
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

async fn make(
    shared: &Arc<Shared>,
    repo: &Arc<Repo>,
    job: &Arc<Job>,
    incremental: bool,
    chain: u32,
) -> Outcome {
    let later = |why: String| Outcome::Failed {
        why,
        retryable: true,
    };
    let mut engine = Engine::new(Arc::clone(&shared.place));
    let facts = match engine.facts().await {
        Ok(facts) => facts,
        Err(why) => return later(why),
    };
    let lineage = match local::lineage(&shared.place, facts.timeline) {
        Ok(lineage) => lineage,
        Err(why) => return later(why),
    };
    job.total
        .store(engine.bytes().await.unwrap_or_default(), Ordering::Relaxed);
    let line = Line::of(&lineage, &repo.owner, repo.first, facts.size);
    if incremental && let Err(error) = read(repo).await {
        return later(error.to_string());
    }
    let parent = if incremental && facts.major >= INCREMENTS && facts.summarizes {
        parent(&repo.catalogue(), &line, &facts, chain).cloned()
    } else {
        None
    };
    let source = BaseBackup {
        place: Arc::clone(&shared.place),
        repo: Arc::clone(repo),
        facts,
        lineage,
        job: Arc::clone(job),
    };
    let order = run::Order {
        id: job.id.clone(),
        parent: parent.as_ref(),
        progress: Arc::clone(&job.progress),
        split: SPLIT,
    };
    match run(&repo.writer(), &source, order, &Timestamp::now).await {
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

/// The backup that an increment holds the changes since: the newest of this line that can be restored, unless
/// its chain is long enough.
fn parent<'a>(
    catalogue: &'a Catalogue,
    line: &Line,
    facts: &Facts,
    chain: u32,
) -> Option<&'a Manifest> {
    let newest = catalogue
        .backups
        .iter()
        .filter(|m| m.log.as_ref().is_some_and(|log| line.holds(&log.history)))
        .filter(|m| m.details.get(SYSTEM_IDENTIFIER) == Some(&facts.system_identifier))
        .max_by_key(|m| m.consistent_at)?;
    let whole = newest.files.iter().any(|file| file.name == MANIFEST);
    let increments = catalogue.chain(&newest.id).ok()?.len() - 1;
    let room = u32::try_from(increments).is_ok_and(|n| n < chain);
    (whole && room && broken(catalogue, newest).is_none()).then_some(newest)
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

/// What nobody has: it is only there so that retention knows an engine.
struct NoNative;

impl mainstay_backup::source::SnapshotSource for NoNative {
    fn name(&self) -> String {
        "PostgreSQL".to_owned()
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

async fn retain(shared: &Shared, repo: &Repo, policy: &Policy) -> PruneReport {
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
        let live = {
            let live = lock(&shared.live);
            let last = live.line.as_ref().and_then(|line| line.parts.last());
            last.filter(|_| live.writes)
                .map(|part| part.history.clone())
        };
        let busy = lock(&shared.jobs)
            .running
            .as_ref()
            .map(|job| job.id.clone());
        let now = Timestamp::now();
        let planned = plan(policy, now, &catalogue.facts(live));
        report.plan = planned.to_string().chars().take(16_000).collect();
        let left = leftovers(&catalogue.unfinished, &owners, busy.as_ref(), LEFT, now);
        let pruned = prune(&repo.writer(), &NoNative, &catalogue, &planned, &left).await;
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
fn forget_deleted(repo: &Repo, pieces: &[String], backups: &[BackupId]) {
    let gone: std::collections::HashSet<&String> = pieces.iter().collect();
    let mut catalogue = repo.catalogue();
    let key =
        |piece: &mainstay_backup::catalogue::Piece| mainstay_backup::layout::piece(&piece.key);
    catalogue.pieces.retain(|piece| !gone.contains(&key(piece)));
    catalogue
        .backups
        .retain(|manifest| !backups.contains(&manifest.id));
}
