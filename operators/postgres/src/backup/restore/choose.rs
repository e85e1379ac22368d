//! Which backup and which log lead to a point, or why none does. Pure.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use mainstay_backup::catalogue::Catalogue;
use mainstay_backup::ids::BackupId;
use mainstay_backup::layout::Label;
use mainstay_backup::manifest::Manifest;
use mainstay_backup::pieces::{PieceKey, PieceKind};

use super::super::coverage::{Line, MAJOR, Part, Span, broken, diverged, span};
use super::super::lineage::timeline_of;
use super::super::settings::Target;
use super::super::wal::{Lsn, Segment, SegmentSize, history_file};

/// What a store's clock may differ from the database's before a moment counts as beyond what is stored.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// What leads to a point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The backups, the full one first.
    pub chain: Vec<Manifest>,
    /// Place of the last of them.
    pub span: Span,
    /// The timeline to recover along.
    pub timeline: u32,
    /// Segments from where recovery begins, in order, without a hole: name and piece.
    pub segments: Vec<(String, PieceKey)>,
    /// History files by name.
    pub histories: BTreeMap<String, PieceKey>,
    /// In words what ends the log, if it is a hole.
    pub hole: Option<String>,
}

impl Choice {
    /// The place where the log ends.
    pub fn until(&self) -> Lsn {
        let last = self.segments.last();
        let segment = last.and_then(|(name, _)| Segment::parse(name, self.span.size));
        segment.map_or(self.span.stop, |segment| segment.end(self.span.size))
    }
}

/// Why a point cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoWay(pub String);

/// A line of histories, with when its newest piece was stored.
struct Candidate {
    line: Line,
    stored: Option<Timestamp>,
}

/// Chooses. `now`: to tell what cannot have been stored yet.
///
/// # Errors
/// No backup and log that are there lead to the point.
pub fn choose(
    catalogue: &Catalogue,
    major: u32,
    backup: Option<&BackupId>,
    target: &Target,
    now: Timestamp,
) -> Result<Choice, NoWay> {
    let named = match backup {
        Some(id) => Some(
            catalogue
                .backups
                .iter()
                .find(|m| m.id == *id)
                .ok_or_else(|| missing(catalogue, id))?,
        ),
        None => None,
    };
    if catalogue.backups.is_empty() {
        return Err(NoWay(catalogue.unread.last().map_or_else(
            || "there is no backup in this repository".to_owned(),
            |unread| {
                let why = &unread.why;
                format!(
                    "there is no backup in this repository that can be used: of {}, {why}",
                    unread.id
                )
            },
        )));
    }
    if let Target::Time(time) = target
        && *time > now
    {
        return Err(NoWay(format!("{time} is in the future")));
    }
    let size = named
        .or(catalogue.backups.last())
        .and_then(span)
        .map(|span| span.size)
        .ok_or_else(|| NoWay("the backups are none of PostgreSQL".to_owned()))?;
    let mut candidates = candidates(catalogue, size);
    if let Some(named) = named {
        candidates.retain(|c| on(&c.line, named));
    }
    let Some(candidate) = candidates.into_iter().next() else {
        return Err(NoWay(
            "nothing says where the log of the backups goes: their histories are missing"
                .to_owned(),
        ));
    };
    let line = &candidate.line;
    if let Some(why) = diverged(catalogue, line) {
        return Err(NoWay(format!(
            "{why}: somebody has to find out which one counts, and remove the other"
        )));
    }
    let usable = usable(catalogue, line, major, named)?;
    let (manifest, span) = pick(&usable, target, named.is_some())?;
    let chain = catalogue.chain(&manifest.id).map_err(|missing| {
        NoWay(format!(
            "{} is based on {missing}, which is missing",
            manifest.id
        ))
    })?;
    let until = line.whole_until(catalogue, span.start).unwrap_or(span.stop);
    let gap = line.gaps(catalogue, span.start).into_iter().next();
    let hole = gap.map(|gap| {
        format!(
            "the log between {} and {} is missing",
            gap.after, gap.before
        )
    });
    reachable(target, &span, until, hole.as_deref(), candidate.stored)?;
    let last = if *target == Target::Immediate {
        Lsn(span.stop.0.saturating_sub(1))
    } else {
        Lsn(until.0.saturating_sub(1))
    };
    Ok(Choice {
        chain: chain.into_iter().cloned().collect(),
        span,
        timeline: if *target == Target::Immediate {
            span.timeline
        } else {
            line.parts
                .last()
                .map_or(span.timeline, |part| part.timeline)
        },
        segments: segments(catalogue, line, &span, last),
        histories: histories(catalogue, line),
        hole,
    })
}

fn missing(catalogue: &Catalogue, id: &BackupId) -> NoWay {
    let unread = catalogue.unread.iter().find(|unread| unread.id == *id);
    NoWay(match unread {
        Some(unread) => format!("backup {id} cannot be used: {}", unread.why),
        None if catalogue.unfinished.iter().any(|u| u.id == *id) => {
            format!("backup {id} was never completed")
        }
        None => format!("there is no backup {id} in this repository"),
    })
}

/// The lines of the repository: the one that counts first. That is the newest timeline; of two of one number
/// the one that was written last.
fn candidates(catalogue: &Catalogue, size: SegmentSize) -> Vec<Candidate> {
    let parent_of = |history: &Label| {
        let origin = catalogue.histories.get(history)?.as_ref()?;
        origin.parent.clone()
    };
    let has_child = |history: &Label| {
        catalogue
            .histories
            .keys()
            .any(|other| parent_of(other).is_some_and(|parent| parent.history == *history))
    };
    let mut all: Vec<Candidate> = catalogue
        .histories
        .keys()
        .filter(|history| !has_child(history))
        .filter_map(|leaf| {
            let (mut parts, mut next, mut left) = (Vec::new(), Some(leaf.clone()), None);
            while let Some(history) = next.filter(|h| parts.iter().all(|p: &Part| p.history != *h))
            {
                let parent = parent_of(&history);
                parts.push(Part {
                    timeline: timeline_of(&history)?,
                    history,
                    left,
                });
                left = parent
                    .as_ref()
                    .and_then(|p| Segment::parse(p.at.as_str(), size))
                    .map(|segment| segment.begin(size));
                next = parent.map(|parent| parent.history);
            }
            parts.reverse();
            let line = Line { parts, size };
            let of_leaf = catalogue.pieces.iter().filter(|p| p.key.history == *leaf);
            let stored = of_leaf.map(|piece| piece.stored).max();
            Some(Candidate { line, stored })
        })
        .collect();
    all.sort_by_key(|c| {
        let timeline = c.line.parts.last().map(|part| part.timeline);
        std::cmp::Reverse((timeline, c.stored))
    });
    all
}

/// Whether a backup leads along a line: it was made in one of its histories, before that was left.
fn on(line: &Line, manifest: &Manifest) -> bool {
    let Some((log, span)) = manifest.log.as_ref().zip(span(manifest)) else {
        return false;
    };
    let part = line.parts.iter().find(|part| part.history == log.history);
    part.is_some_and(|part| part.left.is_none_or(|left| span.stop <= left))
}

fn usable<'a>(
    catalogue: &'a Catalogue,
    line: &Line,
    major: u32,
    named: Option<&'a Manifest>,
) -> Result<Vec<(&'a Manifest, Span)>, NoWay> {
    let all: Vec<&Manifest> = match named {
        Some(named) => vec![named],
        None => catalogue.backups.iter().filter(|m| on(line, m)).collect(),
    };
    let mut why = None;
    let mut usable = Vec::new();
    for manifest in all {
        let of = manifest.details.get(MAJOR);
        if of != Some(&major.to_string()) {
            let of = of.map_or("another engine", String::as_str);
            why = Some(format!(
                "backup {} is of PostgreSQL {of}, and this set is of {major}: use that version",
                manifest.id
            ));
        } else if let Some(broken) = broken(catalogue, manifest) {
            why = Some(format!(
                "backup {} cannot be restored: {broken}",
                manifest.id
            ));
        } else if let Some(span) = span(manifest) {
            usable.push((manifest, span));
        }
    }
    if usable.is_empty() {
        let none = "no backup leads along the newest history of this repository";
        return Err(NoWay(why.unwrap_or_else(|| none.to_owned())));
    }
    Ok(usable)
}

/// The newest backup from which the point can be reached.
fn pick<'a>(
    usable: &[(&'a Manifest, Span)],
    target: &Target,
    named: bool,
) -> Result<(&'a Manifest, Span), NoWay> {
    let lsn = match target {
        Target::Lsn(text) => Some(text.parse::<Lsn>().map_err(|e| NoWay(e.to_string()))?),
        _ => None,
    };
    let before = |(manifest, span): &&(&Manifest, Span)| match target {
        Target::Time(time) => manifest.consistent_at <= *time,
        Target::Lsn(_) => lsn.is_some_and(|lsn| span.stop <= lsn),
        Target::Latest | Target::Immediate | Target::Xid(_) | Target::Name(_) => true,
    };
    let best = usable
        .iter()
        .filter(before)
        .max_by_key(|(_, span)| span.stop);
    best.copied().ok_or_else(|| {
        let first = usable.iter().min_by_key(|(_, span)| span.stop);
        let (time, stop) = first.map_or((String::new(), String::new()), |(m, span)| {
            (m.consistent_at.to_string(), span.stop.to_string())
        });
        let which = if named {
            "that backup"
        } else {
            "this repository"
        };
        NoWay(match target {
            Target::Lsn(lsn) => {
                format!(
                    "{lsn} is before {stop}, the first place that can be recovered with {which}"
                )
            }
            Target::Time(at) => {
                format!(
                    "{at} is before {time}, the first moment that can be recovered with {which}"
                )
            }
            _ => "no backup leads there".to_owned(),
        })
    })
}

/// What can be told without replaying.
fn reachable(
    target: &Target,
    span: &Span,
    until: Lsn,
    hole: Option<&str>,
    stored: Option<Timestamp>,
) -> Result<(), NoWay> {
    let hole_words = |hole: &str| {
        format!(
            "{hole}: the log can be recovered up to {until}; ask for a place or moment before that"
        )
    };
    match target {
        Target::Latest => match hole {
            Some(hole) => Err(NoWay(hole_words(hole))),
            None => Ok(()),
        },
        Target::Lsn(text) => {
            let lsn: Lsn = text
                .parse()
                .map_err(|e: super::super::wal::NotAnLsn| NoWay(e.to_string()))?;
            if lsn <= until {
                return Ok(());
            }
            Err(NoWay(match hole {
                Some(hole) => hole_words(hole),
                None => format!("{lsn} is beyond {until}, where the log that is stored ends"),
            }))
        }
        Target::Time(time) => match stored.filter(|stored| *time > *stored + SKEW) {
            Some(stored) => Err(NoWay(format!(
                "the last log was stored at {stored}, which is before {time}: ask for `latest` if that is what is meant"
            ))),
            None => Ok(()),
        },
        Target::Immediate => (span.stop <= until)
            .then_some(())
            .ok_or_else(|| NoWay("the log that the backup needs is not whole".to_owned())),
        Target::Xid(_) | Target::Name(_) => Ok(()),
    }
}

/// The pieces from where recovery begins to the segment that holds `last`.
fn segments(catalogue: &Catalogue, line: &Line, span: &Span, last: Lsn) -> Vec<(String, PieceKey)> {
    let size = span.size;
    let (from, to) = (span.start.0 / size.bytes(), last.0 / size.bytes());
    let mut by_number: BTreeMap<u64, (String, PieceKey)> = BTreeMap::new();
    // The newest timeline counts: it comes last.
    for part in &line.parts {
        for piece in &catalogue.pieces {
            if piece.key.history != part.history || piece.key.kind != PieceKind::Whole {
                continue;
            }
            let Some(segment) = Segment::parse(piece.key.piece.as_str(), size) else {
                continue;
            };
            let within = part.left.is_none_or(|left| segment.end(size) <= left);
            if within && (from..=to).contains(&segment.number) {
                by_number.insert(segment.number, (segment.name(size), piece.key.clone()));
            }
        }
    }
    by_number.into_values().collect()
}

/// History files: of the line, and of every other number, so that PostgreSQL takes one that nobody has.
fn histories(catalogue: &Catalogue, line: &Line) -> BTreeMap<String, PieceKey> {
    let mut all = BTreeMap::new();
    let lineages = catalogue
        .pieces
        .iter()
        .filter(|p| p.key.kind == PieceKind::Lineage);
    for piece in lineages {
        let Some(timeline) = timeline_of(&piece.key.history) else {
            continue;
        };
        let name = history_file(timeline);
        if line.holds(&piece.key.history) || !all.contains_key(&name) {
            all.insert(name, piece.key.clone());
        }
    }
    all
}

#[cfg(test)]
#[path = "choose_tests.rs"]
mod tests;
