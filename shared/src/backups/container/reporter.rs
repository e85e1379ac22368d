//! Makes the report of what the parts know.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use mainstay_backup::api::{BackupEntry, OwnerState, Ownership, Report, Running, Unread};
use mainstay_backup::catalogue::Catalogue;
use mainstay_backup::manifest::Manifest;
use mainstay_backup::store::Guard;
use tokio::time::{sleep, timeout};

use super::Engine;
use super::settings::ORDER;
use super::state::{Job, Shared, lock};

/// Shortest time between two reports.
const REST: Duration = Duration::from_millis(300);
/// Longest one: figures of what runs, and the newest moment.
const MOST: Duration = Duration::from_secs(5);
/// Backups that are told.
const TOLD: usize = 200;

/// Reports until the process ends.
pub async fn run<E: Engine>(shared: Arc<Shared<E>>) {
    loop {
        let _ = timeout(MOST, shared.reporter.notified()).await;
        let next = make(&shared, Timestamp::now());
        shared.report.send_if_modified(|told| {
            let (changed, news) = changes(told, &next);
            if changed {
                let sequence = told.sequence + u64::from(news);
                *told = Report { sequence, ..next };
            }
            // Who polls is woken by news only.
            news
        });
        sleep(REST).await;
    }
}

/// Whether anything differs, and whether anything does that counts.
fn changes(told: &Report, next: &Report) -> (bool, bool) {
    let figures = |report: &Report| {
        let mut report = report.clone();
        report.sequence = 0;
        report
    };
    let without = |report: &Report| {
        let mut report = figures(report);
        report.latest = None;
        report.archive.last_at = None;
        report.archive.last_piece = None;
        report.archive.waiting_pieces = 0;
        report.archive.waiting_bytes = 0;
        // That there is any counts.
        report.archive.let_go = report.archive.let_go.min(1);
        if let Some(running) = &mut report.running {
            running.plain_bytes = 0;
            running.stored_bytes = 0;
            running.rate = 0;
        }
        report
    };
    (
        figures(told) != figures(next),
        without(told) != without(next),
    )
}

fn make<E: Engine>(shared: &Shared<E>, now: Timestamp) -> Report {
    let me = &shared.engine.ground().me;
    let mut report = Report {
        instance: me.instance.clone(),
        nonce: me.nonce.clone(),
        settings_hash: lock(&shared.settings_hash).clone(),
        ..Report::default()
    };
    {
        let jobs = lock(&shared.jobs);
        report.running = jobs.running.as_ref().map(|job| running(job, now));
        report.results = jobs.results.iter().cloned().collect();
        report.prune.clone_from(&jobs.prune);
    }
    let repo = match shared.repo() {
        Ok(repo) => repo,
        Err(away) => {
            report.ownership = Ownership {
                state: if away.refused {
                    OwnerState::Refused
                } else {
                    OwnerState::Unknown
                },
                owner: away.owner,
                reason: Some(away.reason),
                unguarded: None,
            };
            shared.engine.tell(None, now, &mut report);
            return report;
        }
    };
    report.ownership = Ownership {
        state: OwnerState::Ours,
        owner: Some(repo.owner.clone()),
        reason: None,
        unguarded: match &repo.owned.guard {
            Guard::Guarded => None,
            Guard::Unguarded { why } => Some(why.clone()),
        },
    };
    report.catalogue_at = *lock(&repo.read_at);
    shared.engine.tell(Some(&*repo), now, &mut report);
    let catalogue = repo.catalogue();
    let skip = catalogue.backups.len().saturating_sub(TOLD);
    let entries = catalogue.backups.iter().skip(skip);
    report.catalogue = entries.map(|m| entry::<E>(&catalogue, m)).collect();
    report.unread = catalogue
        .unread
        .iter()
        .take(TOLD)
        .map(|unread| Unread {
            id: unread.id.clone(),
            why: unread.why.clone(),
        })
        .collect();
    report
}

fn entry<E: Engine>(catalogue: &Catalogue, manifest: &Manifest) -> BackupEntry {
    BackupEntry {
        id: manifest.id.clone(),
        parent: manifest.parent.clone(),
        order: manifest.details.get(ORDER).cloned(),
        begun: manifest.begun,
        ended: manifest.ended,
        consistent_at: manifest.consistent_at,
        plain_bytes: manifest.files.iter().map(|file| file.size).sum(),
        stored_bytes: manifest.objects().map(|object| object.size).sum(),
        log_from: manifest.log.as_ref().map(|log| log.from.clone()),
        history: manifest.log.as_ref().map(|log| log.history.clone()),
        broken: E::broken(catalogue, manifest),
    }
}

fn running(job: &Job, now: Timestamp) -> Running {
    let plain = job.progress.plain.load(Ordering::Relaxed);
    let seconds = u64::try_from(now.duration_since(job.begun).as_secs()).unwrap_or_default();
    let total = job.total.load(Ordering::Relaxed);
    let incremental = job.incremental.load(Ordering::Relaxed);
    Running {
        order: job.order.clone(),
        id: job.id.clone(),
        begun: job.begun,
        step: lock(&job.step).clone(),
        incremental,
        plain_bytes: plain,
        stored_bytes: job.progress.stored.load(Ordering::Relaxed),
        // Nobody knows how much has changed.
        total_bytes: (total > 0 && !incremental).then_some(total.max(plain)),
        rate: plain / seconds.max(1),
    }
}
