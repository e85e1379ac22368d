//! Stores the log: what PostgreSQL has finished goes into the repository. I/O; what becomes of a file is
//! decided by [`super::lineage::fate`].
//!
//! PostgreSQL marks what is finished in `archive_status`, and asks `push` for one file after the other. All
//! marked files are stored at once, several at a time, so that the way to the store is no limit; an answer
//! to `push` is then a look at what is stored. On a replica nothing is written: a file may go when the
//! repository shows it. So whoever is promoted still has what its predecessor had not stored, and stores it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use mainstay_backup::api::{Archive, ArchiveState};
use mainstay_backup::catalogue::Piece;
use mainstay_backup::layout::{self, Label};
use mainstay_backup::pieces::{PieceKey, PieceKind};
use mainstay_backup::repository::{ClaimError, Content, PieceOutcome, WriteError};
use mainstay_backup::store::{Found, StoreError};
use mainstay_backup::stream::{GetError, PutError};
use tokio::time::{Instant, sleep_until};

use super::coverage::{Line, diverged};
use super::engine::{Engine, Facts};
use super::lineage::{Fate, Lineage, fate};
use super::local;
use super::state::{Asking, Repo, Shared, lock};
use super::wal::{WalFile, history_file, history_piece};

/// How often it is looked when nobody asks and nothing waits.
const IDLE: Duration = Duration::from_secs(5);
/// How often it is looked while something waits.
const BUSY: Duration = Duration::from_secs(1);
/// Longest pause after a failure.
const PAUSE: Duration = Duration::from_secs(10);
/// Files that are stored at a time: as many as requests of a store. Each takes some 5 MiB to be compressed, beside a backup.
const AT_A_TIME: usize = 3;
/// So long a store may take for that besides what a limit of its speed makes of it, until it counts as one that
/// does not answer. Requests have limits of their own, but the system's to a file server has none.
const SILENT: SignedDuration = SignedDuration::from_mins(1);
/// Files in one go, so that what was stored is told in between.
const GO: usize = 64;
/// More files than these waiting are told as being behind.
const BEHIND: usize = 3;
/// How long a replica waits for a file of the log before the catalogue is read again.
const STUCK: Duration = Duration::from_mins(1);
/// How often a commit that changes nothing is made. The last moment that can be recovered is that of a commit
/// that is stored: with a file of the log each minute it is 75 s old at most.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Moments that are remembered: a day.
const SAMPLES: usize = 17_280;

/// What one look came to.
#[derive(Debug, Default)]
struct Turn {
    /// Files that wait.
    waiting: usize,
    /// Why, if not only because they have just come.
    reason: Option<String>,
    /// State that the reason stands for.
    state: ArchiveState,
    /// Something failed that may pass.
    failed: bool,
}

/// Stores the log until the process ends.
pub struct Archiver {
    shared: Arc<Shared>,
    engine: Engine,
    /// Histories and history files that are known to be in the repository of this owner.
    begun: HashSet<String>,
    /// The repository that `begun` speaks of.
    of: Option<Arc<Repo>>,
    heartbeat: Instant,
    pause: Duration,
    /// What a replica has waited for longest, and since when the catalogue was not read again for it.
    stuck: Option<(String, Instant)>,
}

impl Archiver {
    /// Nothing is known.
    pub fn new(shared: Arc<Shared>) -> Self {
        let engine = Engine::new(Arc::clone(&shared.engine.place));
        Self {
            shared,
            engine,
            begun: HashSet::new(),
            of: None,
            heartbeat: Instant::now(),
            pause: BUSY,
            stuck: None,
        }
    }

    /// Runs until the process ends.
    pub async fn run(mut self) {
        loop {
            let turn = self.turn().await;
            let next = if turn.failed {
                self.pause = (self.pause * 2).min(PAUSE);
                self.pause
            } else {
                self.pause = BUSY;
                if turn.waiting > 0 { BUSY } else { IDLE }
            };
            let failed = turn.failed;
            self.tell(turn);
            let until = Instant::now() + next;
            if failed {
                sleep_until(until).await;
            } else {
                tokio::select! {
                    () = self.shared.engine.archiver.notified() => {}
                    () = sleep_until(until) => {}
                }
            }
        }
    }

    fn tell(&self, turn: Turn) {
        let size = lock(&self.shared.engine.live)
            .line
            .as_ref()
            .map_or(0, |line| line.size.bytes());
        let mut live = lock(&self.shared.engine.live);
        let archive = &mut live.archive;
        let before = archive.clone();
        archive.state = match turn.state {
            ArchiveState::Unknown if turn.reason.is_none() && turn.waiting > BEHIND => {
                ArchiveState::Behind
            }
            ArchiveState::Unknown if turn.reason.is_none() => ArchiveState::Ok,
            other => other,
        };
        archive.reason = turn.reason.or_else(|| {
            (archive.state == ArchiveState::Behind)
                .then(|| format!("{} files of the log wait for the store", turn.waiting))
        });
        // What comes after is in the repository without a hole again, up to a gap that the catalogue shows.
        if archive.state == ArchiveState::Ok && turn.waiting == 0 {
            archive.let_go = 0;
        }
        archive.waiting_pieces = u32::try_from(turn.waiting).unwrap_or(u32::MAX);
        archive.waiting_bytes = size.saturating_mul(turn.waiting as u64);
        if archive.state != before.state {
            archive.since = Some(Timestamp::now());
            let (state, reason) = (archive.state, archive.reason.as_deref());
            tracing::info!(?state, reason, "archive");
        }
        if *archive != before {
            drop(live);
            self.shared.engine.moved();
        }
    }

    async fn turn(&mut self) -> Turn {
        let mut turn = Turn::default();
        let names = match local::ready(&self.shared.engine.place) {
            Ok(names) => names,
            Err(error) => {
                // There is no data yet, or it is being replaced.
                turn.reason = Some(format!("the log's folder cannot be read: {error}"));
                return turn;
            }
        };
        let waiting: Vec<String> = {
            let there: HashSet<&String> = names.iter().collect();
            let mut stored = lock(&self.shared.engine.stored);
            stored.retain(|name| there.contains(name));
            names
                .iter()
                .filter(|name| !stored.contains(*name))
                .cloned()
                .collect()
        };
        turn.waiting = waiting.len();
        let repo = match self.shared.repo() {
            Ok(repo) => repo,
            Err(away) => {
                turn.state = if away.refused {
                    ArchiveState::Broken
                } else {
                    ArchiveState::Unreachable
                };
                turn.reason = Some(away.reason);
                return turn;
            }
        };
        if self.of.as_ref().is_none_or(|of| !Arc::ptr_eq(of, &repo)) {
            self.begun.clear();
            self.of = Some(Arc::clone(&repo));
        }
        let facts = match self.engine.facts().await {
            Ok(facts) => facts,
            Err(why) => {
                turn.reason = Some(why);
                turn.failed = !waiting.is_empty();
                return turn;
            }
        };
        let lineage = match self.lineage(&facts) {
            Ok(lineage) => lineage,
            Err(why) => {
                turn.reason = Some(why);
                turn.failed = true;
                return turn;
            }
        };
        let line = Line::of(&lineage, &repo.owner, repo.data.first, facts.size);
        {
            let mut shown = lock(&self.shared.engine.live);
            shown.writes = !facts.in_recovery;
            if facts.in_recovery {
                shown.samples.clear();
            }
            shown.line = Some(line.clone());
        }
        if let Some(why) = diverged(&repo.catalogue(), &line) {
            turn.state = ArchiveState::Broken;
            turn.reason = Some(format!(
                "{why}: two instances wrote it. Nothing is stored until one of the two objects is removed, or another prefix is set"
            ));
            return turn;
        }
        let work = Work {
            repo: &repo,
            facts: &facts,
            lineage: &lineage,
        };
        lock(&self.shared.engine.live).asking = Some(Asking {
            since: Timestamp::now(),
            most: most(
                facts.size.bytes(),
                repo.settings.repository.bytes_per_second,
            ),
        });
        let done = if facts.in_recovery {
            self.look(&work, waiting, &mut turn).await
        } else {
            self.store(&work, waiting, &mut turn).await
        };
        lock(&self.shared.engine.live).asking = None;
        if let Err(error) = done {
            let (state, passes) = meaning(&error);
            turn.state = state;
            turn.reason = Some(error.to_string());
            turn.failed = passes;
            if matches!(error, WriteError::Claim(ClaimError::Refused(_))) {
                self.shared.keeper.notify_one();
            }
        }
        if !facts.in_recovery && turn.reason.is_none() {
            self.beat().await;
        }
        turn
    }

    /// The lineage of the newest timeline that this data has log of.
    fn lineage(&self, facts: &Facts) -> Result<Lineage, String> {
        local::lineage(&self.shared.engine.place, facts.timeline)
    }

    /// What becomes of a file; what nobody needs is let go.
    fn fates(&self, work: &Work<'_>, names: Vec<String>, turn: &mut Turn) -> Vec<Item> {
        let mut items = Vec::new();
        for name in names {
            let Some(file) = WalFile::parse(&name, work.facts.size) else {
                turn.reason = Some(format!("`{name}` is no file of the log that is known"));
                continue;
            };
            let claimed = matches!(file, WalFile::History(timeline)
                if local::only_claimed(&self.shared.engine.place, timeline));
            let fate = if claimed {
                Fate::Drop("its timeline was claimed and never served")
            } else {
                fate(
                    file,
                    work.lineage,
                    &work.repo.owner,
                    work.repo.data.first,
                    work.facts.size,
                )
            };
            match fate {
                Fate::Keep {
                    history,
                    piece,
                    kind,
                    ..
                } => items.push(Item {
                    file,
                    name,
                    history,
                    piece,
                    kind,
                }),
                Fate::Drop(why) => {
                    tracing::info!(name, why, "not archived");
                    self.shared.engine.let_go(&name);
                }
                Fate::Wait(why) => turn.reason = Some(why),
            }
        }
        // Histories before what is in them.
        items.sort_by_key(|item| item.file);
        items
    }

    /// On a primary.
    async fn store(
        &mut self,
        work: &Work<'_>,
        names: Vec<String>,
        turn: &mut Turn,
    ) -> Result<(), WriteError> {
        self.histories(work).await?;
        let items = self.fates(work, names, turn);
        turn.waiting = items.len();
        let this = &*self;
        for go in items.chunks(GO) {
            let puts: Vec<_> = go.iter().map(|item| this.put(work, item)).collect();
            let mut all = futures::stream::iter(puts).buffer_unordered(AT_A_TIME);
            while let Some(put) = all.next().await {
                let (item, key) = put?;
                this.stored(work, item, key);
                turn.waiting -= 1;
            }
            if diverged_in(work) {
                break;
            }
        }
        Ok(())
    }

    async fn put<'i>(
        &self,
        work: &Work<'_>,
        item: &'i Item,
    ) -> Result<(&'i Item, PieceKey), WriteError> {
        let path = local::wal(&self.shared.engine.place).join(&item.name);
        let outcome = work
            .repo
            .writer()
            .put_piece(&item.history, &item.piece, item.kind, Content::File(&path))
            .await?;
        let key = match outcome {
            PieceOutcome::Stored(key) | PieceOutcome::There(key) => key,
            PieceOutcome::Diverged { new, old } => {
                // The next look sees both, and stops.
                tracing::error!(new = %layout::piece(&new), old = %layout::piece(&old), "two contents of a piece of the log");
                note(work.repo, old);
                new
            }
        };
        Ok((item, key))
    }

    fn stored(&self, work: &Work<'_>, item: &Item, key: PieceKey) {
        note(work.repo, key);
        lock(&self.shared.engine.stored).insert(item.name.clone());
        {
            let mut live = lock(&self.shared.engine.live);
            told_last(&mut live.archive, &item.name);
        }
        tracing::debug!(name = item.name, "archived");
        self.shared.engine.moved();
    }

    /// The descent of the own timeline, which PostgreSQL may not have marked: after a restore nobody did.
    async fn histories(&mut self, work: &Work<'_>) -> Result<(), WriteError> {
        let (repo, lineage) = (work.repo, work.lineage);
        for timeline in lineage.since(repo.data.first) {
            let Some(history) = lineage.label(&repo.owner, timeline) else {
                continue;
            };
            if self.begun.contains(history.as_str()) {
                continue;
            }
            if let Some(origin) =
                lineage.origin(&repo.owner, timeline, repo.data.first, work.facts.size)
            {
                repo.writer().begin_history(&history, &origin).await?;
                repo.catalogue()
                    .histories
                    .insert(history.clone(), Some(origin));
            }
            let path = local::wal(&self.shared.engine.place).join(history_file(timeline));
            if timeline > 1
                && path.exists()
                && let Ok(piece) = history_piece(timeline).parse::<Label>()
            {
                let put = repo
                    .writer()
                    .put_piece(&history, &piece, PieceKind::Lineage, Content::File(&path))
                    .await?;
                if let PieceOutcome::Stored(key) | PieceOutcome::There(key) = put {
                    note(repo, key);
                }
            }
            self.begun.insert(history.to_string());
        }
        Ok(())
    }

    /// On a replica.
    async fn look(
        &mut self,
        work: &Work<'_>,
        names: Vec<String>,
        turn: &mut Turn,
    ) -> Result<(), WriteError> {
        let items = self.fates(work, names, turn);
        turn.waiting = items.len();
        // One question for up to 256 segments.
        let mut groups: BTreeMap<(Label, String), Vec<&Item>> = BTreeMap::new();
        for item in &items {
            let piece = item.piece.as_str();
            let start = if item.kind == PieceKind::Whole {
                &piece[..piece.len().saturating_sub(2)]
            } else {
                piece
            };
            let group = (item.history.clone(), start.to_owned());
            groups.entry(group).or_default().push(item);
        }
        for ((history, start), items) in groups {
            let folder = layout::history(&history);
            let store = work.repo.repository.store();
            let found = store
                .list_beginning(&folder, &format!("{folder}{start}"))
                .await?;
            note_found(work.repo, &found);
            for item in items {
                let there = others_to_store(item.file, work.lineage)
                    || found
                        .iter()
                        .filter_map(|f| layout::piece_of(&f.key))
                        .any(|key| key.piece == item.piece && key.kind == item.kind)
                    || expendable(work.repo, item);
                if there {
                    lock(&self.shared.engine.stored).insert(item.name.clone());
                    let mut live = lock(&self.shared.engine.live);
                    told_last(&mut live.archive, &item.name);
                    drop(live);
                    self.shared.engine.moved();
                    turn.waiting -= 1;
                }
            }
        }
        self.read_again(&items);
        if turn.waiting > BEHIND {
            turn.state = ArchiveState::Behind;
            turn.reason = Some(format!(
                "{} files of the log wait until the primary has stored them",
                turn.waiting
            ));
        }
        Ok(())
    }

    /// What is not there for long may have been stored and let go again by retention, which only a newer look
    /// at the catalogue tells.
    fn read_again(&mut self, items: &[Item]) {
        let first = {
            let stored = lock(&self.shared.engine.stored);
            items.iter().find(|item| !stored.contains(&item.name))
        };
        let Some(first) = first else {
            self.stuck = None;
            return;
        };
        match &mut self.stuck {
            Some((name, since)) if *name == first.name => {
                if since.elapsed() >= STUCK {
                    *since = Instant::now();
                    self.shared.keeper.notify_one();
                }
            }
            other => *other = Some((first.name.clone(), Instant::now())),
        }
    }

    async fn beat(&mut self) {
        if Instant::now() < self.heartbeat {
            return;
        }
        self.heartbeat = Instant::now() + HEARTBEAT;
        match self.engine.heartbeat().await {
            Ok(sample) => {
                let mut live = lock(&self.shared.engine.live);
                live.samples.push_back(sample);
                while live.samples.len() > SAMPLES {
                    live.samples.pop_front();
                }
            }
            Err(error) => tracing::debug!(error, "no heartbeat"),
        }
    }
}

/// What a look is about.
struct Work<'a> {
    repo: &'a Repo,
    facts: &'a Facts,
    lineage: &'a Lineage,
}

/// A file that belongs into the repository.
struct Item {
    file: WalFile,
    name: String,
    history: Label,
    piece: Label,
    kind: PieceKind,
}

/// Whether no backup needs a piece, so that retention lets it go, or has.
fn expendable(repo: &Repo, item: &Item) -> bool {
    let catalogue = repo.catalogue();
    !catalogue.needs(&item.history, &item.piece, item.kind)
}

/// Whether a replica may let a file go that nobody has stored: the beginning of a segment of a timeline that
/// was left. It is in the next timeline too, and was this instance's to store only while it was primary. That
/// the timeline was left has to be known: PostgreSQL hands the file over just before its promotion is done, and
/// then it is to be stored.
fn others_to_store(file: WalFile, lineage: &Lineage) -> bool {
    matches!(file, WalFile::Partial(segment) if matches!(lineage.holds(segment.timeline), Some(Some(_))))
}

fn diverged_in(work: &Work<'_>) -> bool {
    let line = Line::of(
        work.lineage,
        &work.repo.owner,
        work.repo.data.first,
        work.facts.size,
    );
    diverged(&work.repo.catalogue(), &line).is_some()
}

/// How long it may take until one of the files that are stored at a time is.
fn most(file: u64, bytes_per_second: Option<u64>) -> SignedDuration {
    let all = file.saturating_mul(AT_A_TIME as u64);
    let seconds = bytes_per_second.and_then(|limit| all.checked_div(limit));
    let seconds = i64::try_from(seconds.unwrap_or_default()).unwrap_or(i64::MAX);
    SILENT.saturating_add(SignedDuration::from_secs(seconds))
}

/// Several are stored at a time: the newest counts.
fn told_last(archive: &mut Archive, name: &str) {
    if archive.last_piece.as_deref() < Some(name) {
        archive.last_piece = Some(name.to_owned());
    }
    archive.last_at = Some(Timestamp::now());
}

/// Remembers a piece that is there.
fn note(repo: &Repo, key: PieceKey) {
    let mut catalogue = repo.catalogue();
    catalogue.histories.entry(key.history.clone()).or_default();
    if let Err(at) = catalogue
        .pieces
        .binary_search_by(|piece| piece.key.cmp(&key))
    {
        let piece = Piece {
            key,
            size: 0,
            stored: Timestamp::now(),
        };
        catalogue.pieces.insert(at, piece);
    }
}

/// Remembers pieces that were found.
pub fn note_found(repo: &Repo, found: &[Found]) {
    for key in found
        .iter()
        .filter_map(|found| layout::piece_of(&found.key))
    {
        note(repo, key);
    }
}

/// The store's own error within one of writing.
fn store_error(error: &WriteError) -> Option<&StoreError> {
    match error {
        WriteError::Put(PutError::Store(error))
        | WriteError::Get(GetError::Store(error))
        | WriteError::Claim(ClaimError::Store(error)) => Some(error),
        _ => None,
    }
}

/// What an error says of the archive, and whether it may pass.
fn meaning(error: &WriteError) -> (ArchiveState, bool) {
    match error {
        WriteError::Claim(ClaimError::Refused(_)) => (ArchiveState::Broken, false),
        error if store_error(error).is_some() => (ArchiveState::Unreachable, true),
        _ => (ArchiveState::Behind, true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::wal::SegmentSize;

    #[test]
    fn a_store_that_is_slowed_down_has_more_time() {
        let file = 16 << 20;
        // As many files as are stored at a time share what is allowed.
        let slow = SignedDuration::from_secs(16 * i64::try_from(AT_A_TIME).unwrap());
        assert_eq!(most(file, None), SILENT);
        assert_eq!(most(file, Some(0)), SILENT);
        assert_eq!(most(file, Some(1 << 20)), SILENT + slow);
    }

    #[test]
    fn the_beginning_of_a_segment_is_let_go_only_when_its_timeline_is_known_to_be_left() {
        let size = SegmentSize::DEFAULT;
        let file = |name: &str| WalFile::parse(name, size).unwrap();
        let partial = file("000000010000000000000003.partial");
        // While it is being promoted, it is still on the timeline that it leaves.
        assert!(!others_to_store(partial, &Lineage::first()));
        let next = Lineage::parse(2, "1\t0/3000148\tno recovery target specified\n").unwrap();
        assert!(others_to_store(partial, &next));
        assert!(!others_to_store(file("000000010000000000000002"), &next));
        assert!(!others_to_store(
            file("000000020000000000000003.partial"),
            &next
        ));
    }
}
