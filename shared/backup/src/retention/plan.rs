//! Making the plan.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::{BackupFact, Facts, PieceFact, Plan, Policy, Stays};
use crate::catalogue::Unfinished;
use crate::ids::BackupId;
use crate::layout::Label;
use crate::owner::{Record, ever_owned};
use crate::pieces::PieceKind;

/// What goes, and what stays and why.
pub fn plan(policy: &Policy, now: Timestamp, facts: &Facts) -> Plan {
    let tree = Tree::new(facts);
    let chains = Chains::new(&facts.backups);
    let reasons = reasons(policy, now, facts, &tree, &chains);
    let kept: BTreeSet<&BackupId> = reasons.keys().copied().collect();

    let mut keep: Vec<(BackupId, Stays)> = Vec::new();
    let mut expire: Vec<&BackupFact> = Vec::new();
    for backup in &facts.backups {
        match reasons.get(&backup.id) {
            Some(why) => keep.push((backup.id.clone(), why.clone())),
            None => expire.push(backup),
        }
    }
    keep.sort_by(|a, b| a.0.cmp(&b.0));
    // Those that lean on others first: a plan that is cut short leaves no backup without its base.
    expire.sort_by_key(|backup| {
        (
            std::cmp::Reverse(chains.depth(&backup.id)),
            backup.id.clone(),
        )
    });

    let needs: Vec<&BackupFact> = facts
        .backups
        .iter()
        .filter(|b| kept.contains(&b.id))
        .collect();
    let (going, staying): (Vec<&PieceFact>, Vec<&PieceFact>) = facts
        .pieces
        .iter()
        .partition(|piece| tree.expendable(piece, &needs));
    Plan {
        expire: expire.into_iter().map(|backup| backup.id.clone()).collect(),
        keep,
        pieces: going.into_iter().map(|piece| piece.key.clone()).collect(),
        pieces_kept: staying.len(),
    }
}

/// Whether a backup may be recovered through a piece, as long as every backup stays. What is not known counts as
/// needed.
pub fn needs(facts: &Facts, history: &Label, piece: &Label, kind: PieceKind) -> bool {
    let all: Vec<&BackupFact> = facts.backups.iter().collect();
    !Tree::new(facts).unneeded(history, piece, kind, &all)
}

fn reasons<'a>(
    policy: &Policy,
    now: Timestamp,
    facts: &'a Facts,
    tree: &Tree<'_>,
    chains: &Chains<'a>,
) -> BTreeMap<&'a BackupId, Stays> {
    let mut reasons: BTreeMap<&BackupId, Stays> = BTreeMap::new();
    if policy.window.is_none() && policy.count.is_none() {
        return facts
            .backups
            .iter()
            .map(|b| (&b.id, Stays::NoPolicy))
            .collect();
    }
    let whole: Vec<&BackupFact> = facts
        .backups
        .iter()
        .filter(|backup| chains.missing(&backup.id).is_none())
        .collect();
    if let Some(window) = policy.window {
        let begins = now
            .checked_sub(window.max(SignedDuration::ZERO))
            .unwrap_or(Timestamp::MIN);
        for backup in whole.iter().filter(|b| b.consistent_at > begins) {
            reasons.insert(&backup.id, Stays::InWindow);
        }
        for line in tree.lines(facts, begins) {
            let before = |b: &&&BackupFact| b.consistent_at <= begins && line.passes(b);
            if let Some(first) = whole
                .iter()
                .filter(before)
                .max_by_key(|b| (b.consistent_at, &b.id))
            {
                reasons.entry(&first.id).or_insert(Stays::BeginsWindow);
            }
        }
    }
    if let Some(count) = policy.count {
        let mut newest = whole.clone();
        newest.sort_by_key(|backup| std::cmp::Reverse((backup.consistent_at, &backup.id)));
        for backup in newest
            .into_iter()
            .take(usize::try_from(count).unwrap_or(usize::MAX))
        {
            reasons.entry(&backup.id).or_insert(Stays::Newest);
        }
    }
    // A chain is one thing: its root with all that leans on it.
    let alive: BTreeMap<&BackupId, &BackupId> =
        reasons.keys().map(|id| (chains.root(id), *id)).collect();
    for backup in &facts.backups {
        if let Some(missing) = chains.missing(&backup.id) {
            reasons.insert(&backup.id, Stays::Broken(missing.clone()));
        } else if let Some(other) = alive.get(chains.root(&backup.id)) {
            reasons
                .entry(&backup.id)
                .or_insert_with(|| Stays::Chain((*other).clone()));
        }
    }
    reasons
}

/// Backups that lean on others.
struct Chains<'a> {
    by_id: BTreeMap<&'a BackupId, &'a BackupFact>,
}

impl<'a> Chains<'a> {
    fn new(backups: &'a [BackupFact]) -> Self {
        Self {
            by_id: backups.iter().map(|backup| (&backup.id, backup)).collect(),
        }
    }

    /// The backup, what it leans on, and so on. Ends at a missing one, and where a circle closes.
    fn up(&self, id: &BackupId) -> Vec<&'a BackupFact> {
        let mut path: Vec<&BackupFact> = Vec::new();
        let mut next = self.by_id.get(id).copied();
        while let Some(backup) = next.filter(|b| path.iter().all(|seen| seen.id != b.id)) {
            path.push(backup);
            next = backup
                .parent
                .as_ref()
                .and_then(|parent| self.by_id.get(parent).copied());
        }
        path
    }

    fn depth(&self, id: &BackupId) -> usize {
        self.up(id).len()
    }

    fn root<'b>(&self, id: &'b BackupId) -> &'b BackupId
    where
        'a: 'b,
    {
        self.up(id).last().map_or(id, |root| &root.id)
    }

    /// The one that is missing up the chain. In a circle that is the one where it closes.
    fn missing(&self, id: &BackupId) -> Option<&'a BackupId> {
        self.up(id).last().and_then(|root| root.parent.as_ref())
    }
}

/// How histories descend from each other.
struct Tree<'a> {
    /// Parent and the piece of it within which the history parts; `None`: a first history.
    parents: BTreeMap<&'a Label, Option<(&'a Label, &'a Label)>>,
}

/// A way through histories, from one back to its first ancestor.
struct Line<'a> {
    /// Each history, and the last piece of it that the way uses.
    steps: BTreeMap<&'a Label, Option<&'a Label>>,
    /// Whether the way back is known to its end.
    known: bool,
}

impl Line<'_> {
    /// Whether a backup's state lies on the way. Backups without a log lie on every way.
    fn passes(&self, backup: &BackupFact) -> bool {
        let Some(need) = &backup.log else {
            return true;
        };
        match self.steps.get(&need.history) {
            Some(Some(at)) => need.until <= **at,
            Some(None) => true,
            None => false,
        }
    }
}

impl<'a> Tree<'a> {
    fn new(facts: &'a Facts) -> Self {
        let parents = facts
            .histories
            .iter()
            .filter_map(|fact| {
                let parent = fact.origin.as_ref()?.parent.as_ref();
                Some((
                    &fact.history,
                    parent.map(|parent| (&parent.history, &parent.at)),
                ))
            })
            .collect();
        Self { parents }
    }

    fn line(&self, from: &'a Label) -> Line<'a> {
        let mut line = Line {
            steps: BTreeMap::from([(from, None)]),
            known: false,
        };
        let mut here = from;
        loop {
            match self.parents.get(here) {
                Some(Some((parent, at))) if !line.steps.contains_key(parent) => {
                    line.steps.insert(parent, Some(at));
                    here = parent;
                }
                Some(None) => {
                    line.known = true;
                    return line;
                }
                _ => return line,
            }
        }
    }

    /// The ways on which a promised moment may lie: those of the history that is written now, and of every
    /// history in which anything happened within the window.
    fn lines(&self, facts: &'a Facts, begins: Timestamp) -> Vec<Line<'a>> {
        let mut ends: BTreeSet<&Label> = BTreeSet::new();
        let all = facts.histories.iter().map(|fact| &fact.history);
        let of_backups = facts
            .backups
            .iter()
            .filter_map(|b| Some(&b.log.as_ref()?.history));
        let of_pieces = facts.pieces.iter().map(|piece| &piece.history);
        match &facts.live {
            Some(live) => {
                ends.insert(live);
                ends.extend(
                    facts
                        .pieces
                        .iter()
                        .filter(|p| p.stored >= begins)
                        .map(|p| &p.history),
                );
                let recent = facts.backups.iter().filter(|b| b.consistent_at >= begins);
                ends.extend(recent.filter_map(|b| Some(&b.log.as_ref()?.history)));
            }
            None => ends.extend(all.chain(of_backups).chain(of_pieces)),
        }
        let mut lines: Vec<Line<'_>> = ends.into_iter().map(|end| self.line(end)).collect();
        if lines.is_empty() {
            // An engine without a log.
            lines.push(Line {
                steps: BTreeMap::new(),
                known: true,
            });
        }
        lines
    }

    /// Whether no backup that stays may be recovered through a piece.
    fn expendable(&self, piece: &PieceFact, needs: &[&BackupFact]) -> bool {
        self.unneeded(&piece.history, &piece.piece, piece.kind, needs)
    }

    fn unneeded(
        &self,
        history: &Label,
        piece: &Label,
        kind: PieceKind,
        needs: &[&BackupFact],
    ) -> bool {
        // Without any backup nothing says what the log is good for.
        if needs.iter().all(|backup| backup.log.is_none()) {
            return false;
        }
        let line = self.line(history);
        let needed = |backup: &&BackupFact| {
            backup.log.as_ref().is_some_and(|need| {
                if need.history == *history {
                    // What tells of descent has a name of its own kind, and no place in the order.
                    kind == PieceKind::Lineage || need.from <= *piece
                } else {
                    // Of a later history all of it, for it may be followed from the backup on.
                    line.steps.contains_key(&need.history)
                }
            })
        };
        line.known && !needs.iter().any(needed)
    }
}

/// The unfinished backups that may be cleared away: those that an owner of this repository began, of
/// which nothing was written for longer than `after`. `busy`: the one that is being made.
pub fn leftovers(
    unfinished: &[Unfinished],
    owners: &[Record],
    busy: Option<&BackupId>,
    after: SignedDuration,
    now: Timestamp,
) -> Vec<BackupId> {
    unfinished
        .iter()
        .filter(|backup| busy != Some(&backup.id))
        .filter(|backup| {
            let ours = |begun: &crate::manifest::Begun| {
                begun.id == backup.id && ever_owned(owners, &begun.owner)
            };
            backup.begun.as_ref().is_some_and(ours)
                && backup
                    .last_written
                    .is_some_and(|at| now.duration_since(at) > after)
        })
        .map(|backup| backup.id.clone())
        .collect()
}
