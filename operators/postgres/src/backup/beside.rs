//! PostgreSQL as the container beside it has to know it: whose the data is, how a backup of it is made, and what is
//! told of its log. I/O.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use mainstay_backup::api::{ArchiveState, Outcome, Report};
use mainstay_backup::catalogue::Catalogue;
use mainstay_backup::ids::OwnerId;
use mainstay_backup::layout::Label;
use mainstay_backup::manifest::Manifest;
use mainstay_shared::backups::container::{self, Ground, Wish, keeper, orders};

use super::coverage::{Line, SYSTEM_IDENTIFIER, broken, latest, window};
use super::engine::{Engine, Facts};
use super::local;
use super::snapshot::BaseBackup;
use super::split::MANIFEST;
use super::state::{Beside, Job, Live, Own, Repo, Shared, lock};

/// Major version from which on there are increments.
const INCREMENTS: u32 = 17;

impl container::Engine for Beside {
    type Data = Own;

    const NAME: &'static str = "PostgreSQL";

    fn ground(&self) -> &Ground {
        &self.ground
    }

    async fn owner(&self) -> Result<(OwnerId, Own), String> {
        let facts = Engine::new(Arc::clone(&self.place)).facts().await?;
        let (owner, first) = local::owner(&self.place, &facts.system_identifier)?;
        Ok((owner, Own { first }))
    }

    async fn make(shared: &Arc<Shared>, repo: &Arc<Repo>, job: &Arc<Job>, wish: Wish) -> Outcome {
        match begin(&shared.engine.place, repo, job, wish).await {
            Ok((source, parent)) => orders::store(repo, &source, job, parent.as_ref()).await,
            Err(why) => Outcome::Failed {
                why,
                retryable: true,
            },
        }
    }

    fn tell(&self, repo: Option<&Repo>, now: Timestamp, report: &mut Report) {
        let mut live = lock(&self.live).clone();
        self.hanging(&mut live, now);
        report.writes_log = live.writes;
        report.archive = live.archive;
        if let (Some(repo), Some(line)) = (repo, &live.line) {
            let window = window(&repo.catalogue(), line);
            report.earliest = window.earliest;
            report.gaps = window.gaps;
            let samples: Vec<_> = live.samples.into_iter().collect();
            report.latest = latest(&samples, window.until).filter(|_| live.writes);
        }
    }

    fn broken(catalogue: &Catalogue, manifest: &Manifest) -> Option<String> {
        broken(catalogue, manifest)
    }

    fn live(&self) -> Option<Label> {
        let live = lock(&self.live);
        let last = live.line.as_ref().and_then(|line| line.parts.last());
        last.filter(|_| live.writes)
            .map(|part| part.history.clone())
    }

    fn looked(&self) {
        self.archiver.notify_one();
    }
}

/// What a backup is made from, and the one that it may hold the changes since.
async fn begin(
    place: &Arc<crate::agent::place::Place>,
    repo: &Arc<Repo>,
    job: &Arc<Job>,
    wish: Wish,
) -> Result<(BaseBackup, Option<Manifest>), String> {
    let mut engine = Engine::new(Arc::clone(place));
    let facts = engine.facts().await?;
    let lineage = local::lineage(place, facts.timeline)?;
    job.total
        .store(engine.bytes().await.unwrap_or_default(), Ordering::Relaxed);
    let line = Line::of(&lineage, &repo.owner, repo.data.first, facts.size);
    if wish.incremental {
        keeper::read(repo).await.map_err(|e| e.to_string())?;
    }
    let parent = if wish.incremental && facts.major >= INCREMENTS && facts.summarizes {
        parent(&repo.catalogue(), &line, &facts, wish.chain).cloned()
    } else {
        None
    };
    let source = BaseBackup {
        place: Arc::clone(place),
        repo: Arc::clone(repo),
        facts,
        lineage,
        job: Arc::clone(job),
    };
    Ok((source, parent))
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

impl Beside {
    /// A store that does not answer is no store that is well: who asks it has nothing to tell, so it is told here.
    fn hanging(&self, live: &mut Live, now: Timestamp) {
        let silent = live
            .asking
            .and_then(|a| a.silent(live.archive.last_at, now));
        let Some(since) = silent else { return };
        let archive = &mut live.archive;
        archive.state = ArchiveState::Unreachable;
        archive.since = Some(since);
        archive.reason = Some(format!("the store does not answer since {}", whole(since)));
        let Ok(names) = local::ready(&self.place) else {
            return;
        };
        let stored = lock(&self.stored);
        let waiting = names.iter().filter(|name| !stored.contains(*name)).count();
        let size = live.line.as_ref().map_or(0, |line| line.size.bytes());
        archive.waiting_pieces = u32::try_from(waiting).unwrap_or(u32::MAX);
        archive.waiting_bytes = size.saturating_mul(waiting as u64);
    }
}

/// To the second.
fn whole(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}
