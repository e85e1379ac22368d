//! Which of the log is there without a hole, and what can be recovered with it. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;
use mainstay_backup::api::Gap;
use mainstay_backup::catalogue::Catalogue;
use mainstay_backup::layout::Label;
use mainstay_backup::manifest::Manifest;
use mainstay_backup::pieces::PieceKind;

use super::lineage::{Lineage, timeline_of};
use super::wal::{Lsn, Segment, SegmentSize};

/// Key in a backup's details: size of a segment, in bytes.
pub const SEGMENT_SIZE: &str = "segmentSize";
/// Key in a backup's details: place in the log where recovery from it begins.
pub const START: &str = "start";
/// Key in a backup's details: place in the log without which it is not consistent.
pub const STOP: &str = "stop";
/// Key in a backup's details: its timeline.
pub const TIMELINE: &str = "timeline";
/// Key in a backup's details: major version of PostgreSQL.
pub const MAJOR: &str = "major";
/// Key in a backup's details: PostgreSQL's system identifier.
pub const SYSTEM_IDENTIFIER: &str = "systemIdentifier";

/// A line of histories, the oldest first, each with the place where it was left for the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The histories.
    pub parts: Vec<Part>,
    /// Size of segments.
    pub size: SegmentSize,
}

/// A history of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name.
    pub history: Label,
    /// Its timeline.
    pub timeline: u32,
    /// Where it was left; none for the last.
    pub left: Option<Lsn>,
}

impl Line {
    /// Of a lineage.
    pub fn of(
        lineage: &Lineage,
        owner: &mainstay_backup::ids::OwnerId,
        first: u32,
        size: SegmentSize,
    ) -> Self {
        let part = |timeline| {
            Some(Part {
                history: lineage.label(owner, timeline)?,
                timeline,
                left: lineage.holds(timeline)?,
            })
        };
        Self {
            parts: lineage.since(first).filter_map(part).collect(),
            size,
        }
    }

    /// The segments that recovery along the line reads: the newest timeline counts for one that two have.
    /// With the names of what is there.
    fn numbers(&self, catalogue: &Catalogue) -> Vec<(u64, usize)> {
        let mut all: Vec<(u64, usize)> = Vec::new();
        for (index, part) in self.parts.iter().enumerate() {
            for piece in &catalogue.pieces {
                if piece.key.history != part.history || piece.key.kind != PieceKind::Whole {
                    continue;
                }
                let Some(segment) = Segment::parse(piece.key.piece.as_str(), self.size) else {
                    continue;
                };
                if part.left.is_none_or(|at| segment.end(self.size) <= at) {
                    all.push((segment.number, index));
                }
            }
        }
        all.sort_unstable();
        all.dedup_by_key(|(number, _)| *number);
        all
    }

    /// Up to which place the log is there without a hole, from the segment that holds `from` on; none if not
    /// even that is there.
    pub fn whole_until(&self, catalogue: &Catalogue, from: Lsn) -> Option<Lsn> {
        let numbers = self.numbers(catalogue);
        let first = from.0 / self.size.bytes();
        let begin = numbers.partition_point(|(number, _)| *number < first);
        let run = numbers[begin..].iter().zip(first..);
        let last = run
            .take_while(|((number, _), expected)| number == expected)
            .last()?
            .0
            .0;
        Some(Lsn((last + 1) * self.size.bytes()))
    }

    /// Holes after a place.
    pub fn gaps(&self, catalogue: &Catalogue, from: Lsn) -> Vec<Gap> {
        let numbers = self.numbers(catalogue);
        let first = from.0 / self.size.bytes();
        let begin = numbers.partition_point(|(number, _)| *number < first);
        let name = |(number, index): (u64, usize)| {
            Segment {
                timeline: self.parts.get(index)?.timeline,
                number,
            }
            .label(self.size)
        };
        let holes = numbers[begin..]
            .windows(2)
            .filter(|pair| pair[1].0 != pair[0].0 + 1);
        holes
            .filter_map(|pair| {
                Some(Gap {
                    history: self.parts.get(pair[0].1)?.history.clone(),
                    after: name(pair[0])?,
                    before: name(pair[1])?,
                })
            })
            .collect()
    }

    /// Whether a history is of the line.
    pub fn holds(&self, history: &Label) -> bool {
        self.parts.iter().any(|part| part.history == *history)
    }
}

/// What a backup says of its place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where recovery begins.
    pub start: Lsn,
    /// Where it is consistent.
    pub stop: Lsn,
    /// On which timeline.
    pub timeline: u32,
    /// Size of segments.
    pub size: SegmentSize,
}

/// The place of a backup in the log; none if it does not say so, so that it is not PostgreSQL's.
pub fn span(manifest: &Manifest) -> Option<Span> {
    let text = |key: &str| manifest.details.get(key);
    Some(Span {
        start: text(START)?.parse().ok()?,
        stop: text(STOP)?.parse().ok()?,
        timeline: text(TIMELINE)?.parse().ok()?,
        size: SegmentSize::new(text(SEGMENT_SIZE)?.parse().ok()?)?,
    })
}

/// Why a backup cannot be restored; none if it can.
pub fn broken(catalogue: &Catalogue, manifest: &Manifest) -> Option<String> {
    if let Err(missing) = catalogue.chain(&manifest.id) {
        return Some(format!("{missing}, which it is based on, is missing"));
    }
    let Some(span) = span(manifest) else {
        return Some("it does not say its place in the log".to_owned());
    };
    let Some(log) = &manifest.log else {
        return Some("it does not say which log it needs".to_owned());
    };
    let line = Line {
        parts: vec![Part {
            history: log.history.clone(),
            timeline: timeline_of(&log.history)?,
            left: None,
        }],
        size: span.size,
    };
    let until = line.whole_until(catalogue, span.start);
    (until.is_none_or(|until| until < span.stop)).then(|| {
        format!(
            "of the log that it needs, {} to {}, not everything is there",
            log.from, log.until
        )
    })
}

/// What can be recovered along a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// The first moment.
    pub earliest: Option<Timestamp>,
    /// Up to where, from the newest backup on.
    pub until: Option<Lsn>,
    /// Holes since the oldest backup.
    pub gaps: Vec<Gap>,
}

/// What can be recovered along a line.
pub fn window(catalogue: &Catalogue, line: &Line) -> Window {
    let usable: Vec<(&Manifest, Span)> = catalogue
        .backups
        .iter()
        .filter(|m| m.log.as_ref().is_some_and(|log| line.holds(&log.history)))
        .filter(|m| broken(catalogue, m).is_none())
        .filter_map(|m| Some((m, span(m)?)))
        .collect();
    let oldest = usable.iter().min_by_key(|(m, _)| m.consistent_at);
    let newest = usable.iter().max_by_key(|(_, span)| span.stop);
    Window {
        earliest: oldest.map(|(m, _)| m.consistent_at),
        until: newest.and_then(|(_, span)| line.whole_until(catalogue, span.start)),
        gaps: oldest.map_or_else(Vec::new, |(_, span)| line.gaps(catalogue, span.start)),
    }
}

/// Pieces of a line of which two contents are there: somebody wrote where he should not have.
pub fn diverged(catalogue: &Catalogue, line: &Line) -> Option<String> {
    let mut seen = BTreeSet::new();
    let ours = |history: &Label| line.holds(history);
    for piece in catalogue.pieces.iter().map(|piece| &piece.key) {
        if piece.kind == PieceKind::Partial || !ours(&piece.history) {
            continue;
        }
        let of_kind = (
            &piece.history,
            &piece.piece,
            piece.kind,
            piece.digest.keyed(),
        );
        if !seen.insert(of_kind) {
            return Some(format!(
                "log {}/{} is there twice with different contents",
                piece.history, piece.piece
            ));
        }
    }
    None
}

/// A moment and the place that the log had then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The moment: before the last commit up to the place.
    pub at: Timestamp,
    /// The place.
    pub lsn: Lsn,
}

/// The newest moment up to which everything is stored, given samples in order.
pub fn latest(samples: &[Sample], until: Option<Lsn>) -> Option<Timestamp> {
    let until = until?;
    let stored = samples.iter().rfind(|sample| sample.lsn <= until)?;
    // A recovery to a moment ends at the first commit after it, so there has to be one.
    let nanos = stored.at.as_nanosecond() - 1;
    Timestamp::from_second(i64::try_from(nanos.div_euclid(1_000_000_000)).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_backup::catalogue::Piece;
    use mainstay_backup::layout::Coding;
    use mainstay_backup::pieces::{PieceDigest, PieceKey};

    const SIZE: SegmentSize = SegmentSize::DEFAULT;

    fn label(text: &str) -> Label {
        text.parse().unwrap()
    }

    fn piece(history: &str, timeline: u32, number: u64, content: u8) -> Piece {
        Piece {
            key: PieceKey {
                history: label(history),
                piece: Segment { timeline, number }.label(SIZE).unwrap(),
                digest: PieceDigest::new([content; 32], false),
                kind: PieceKind::Whole,
                coding: Coding::Zstd,
            },
            size: 1,
            stored: Timestamp::UNIX_EPOCH,
        }
    }

    fn line() -> Line {
        let part = |history: &str, timeline, left| Part {
            history: label(history),
            timeline,
            left,
        };
        Line {
            parts: vec![
                part("00000001-a", 1, Some(Lsn(3 * SIZE.bytes() + 0x100))),
                part("00000002-b", 2, None),
            ],
            size: SIZE,
        }
    }

    fn catalogue(pieces: Vec<Piece>) -> Catalogue {
        Catalogue {
            pieces,
            ..Catalogue::default()
        }
    }

    fn at(number: u64) -> Lsn {
        Lsn(number * SIZE.bytes())
    }

    #[test]
    fn a_line_goes_on_over_a_fork() {
        let of = |timeline, number| {
            let history = if timeline == 1 {
                "00000001-a"
            } else {
                "00000002-b"
            };
            piece(history, timeline, number, 0)
        };
        let there = catalogue(vec![of(1, 1), of(1, 2), of(2, 3), of(2, 4)]);
        assert_eq!(line().whole_until(&there, at(1)), Some(at(5)));
        assert_eq!(line().whole_until(&there, at(0)), None);
        assert!(line().gaps(&there, at(0)).is_empty());
        // What the deposed primary wrote beyond the fork is none of it.
        let stale = catalogue(vec![of(1, 1), of(1, 2), of(1, 3), of(1, 4)]);
        assert_eq!(line().whole_until(&stale, at(1)), Some(at(3)));
        let hole = catalogue(vec![of(1, 1), of(2, 3), of(2, 4)]);
        assert_eq!(line().whole_until(&hole, at(1)), Some(at(2)));
        let gaps = line().gaps(&hole, at(1));
        assert_eq!(gaps.len(), 1);
        assert_eq!(gaps[0].after.as_str(), "000000010000000000000001");
        assert_eq!(gaps[0].before.as_str(), "000000020000000000000003");
        assert!(line().gaps(&hole, at(3)).is_empty());
    }

    #[test]
    fn two_contents_are_seen_in_our_line_only() {
        let twice = |history: &str, timeline| {
            catalogue(vec![
                piece(history, timeline, 1, 0),
                piece(history, timeline, 1, 1),
            ])
        };
        assert!(diverged(&twice("00000001-a", 1), &line()).is_some());
        assert_eq!(diverged(&twice("00000001-c", 1), &line()), None);
        assert_eq!(
            diverged(&catalogue(vec![piece("00000001-a", 1, 1, 0)]), &line()),
            None
        );
    }

    #[test]
    fn the_latest_moment_is_before_a_commit_that_is_stored() {
        let sample = |millis, number| Sample {
            at: Timestamp::from_millisecond(millis).unwrap(),
            lsn: at(number),
        };
        let samples = [sample(1000, 1), sample(2500, 2), sample(9000, 3)];
        let second = |s| Some(Timestamp::from_second(s).unwrap());
        assert_eq!(latest(&samples, Some(at(2))), second(2));
        assert_eq!(
            latest(&samples, Some(at(1))),
            second(0),
            "not the moment itself"
        );
        assert_eq!(latest(&samples, Some(at(0))), None);
        assert_eq!(latest(&samples, None), None);
    }
}
