//! From which timelines a timeline descends, and by which names their log is kept. Pure.
//!
//! PostgreSQL numbers timelines one after the other, so two instances may begin one with the same number. In
//! the repository a timeline is a *history* named `<timeline>-<id>`. The id is a digest of whose data it is
//! and of the whole descent of the timeline, as its history file tells it: every member of a set has that
//! file and finds the same name by itself, and whoever began another timeline of that number finds another.

use std::fmt::Write as _;

use mainstay_backup::crypto::sha256;
use mainstay_backup::ids::OwnerId;
use mainstay_backup::layout::Label;
use mainstay_backup::pieces::{Origin, Parent, PieceKind};

use super::wal::{Lsn, Segment, SegmentSize, WalFile, history_piece};

/// A timeline that was left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which one.
    pub timeline: u32,
    /// Where.
    pub at: Lsn,
    /// In PostgreSQL's words why.
    pub why: String,
}

/// A timeline and all that it descends from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// Its number.
    pub timeline: u32,
    /// Those before it, the first one first.
    pub steps: Vec<Step>,
}

/// A history file that is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the history of timeline {timeline} is not understood: line `{line}`")]
pub struct NotAHistory {
    timeline: u32,
    line: String,
}

impl Lineage {
    /// The first timeline, which descends from nothing.
    pub fn first() -> Self {
        Self {
            timeline: 1,
            steps: Vec::new(),
        }
    }

    /// By its history file.
    ///
    /// # Errors
    /// A line is none, or they are not in order.
    pub fn parse(timeline: u32, text: &str) -> Result<Self, NotAHistory> {
        let mut steps: Vec<Step> = Vec::new();
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut words = line.splitn(3, '\t');
            let number = words.next().and_then(|word| word.trim().parse().ok());
            let at = words.next().and_then(|word| word.trim().parse().ok());
            let step = number.zip(at).map(|(timeline, at)| Step {
                timeline,
                at,
                why: words.next().unwrap_or_default().trim().to_owned(),
            });
            let after = steps.last().map_or(0, |last| last.timeline);
            match step.filter(|step| step.timeline > after && step.timeline < timeline) {
                Some(step) => steps.push(step),
                None => {
                    return Err(NotAHistory {
                        timeline,
                        line: line.chars().take(80).collect(),
                    });
                }
            }
        }
        Ok(Self { timeline, steps })
    }

    /// A number that somebody claimed before his promotion and never served under: its file says that it left
    /// the first timeline at its very beginning, where no log is.
    pub fn only_claimed(&self) -> bool {
        self.steps.first().is_some_and(|step| step.at == Lsn(0))
    }

    /// Whether it is, or descends from, a timeline; and where that was left, if it was.
    pub fn holds(&self, timeline: u32) -> Option<Option<Lsn>> {
        if timeline == self.timeline {
            return Some(None);
        }
        let step = self.steps.iter().find(|step| step.timeline == timeline)?;
        Some(Some(step.at))
    }

    /// Its timelines from one on, the oldest first.
    pub fn since(&self, first: u32) -> impl Iterator<Item = u32> {
        let before = self.steps.iter().map(|step| step.timeline);
        before.chain([self.timeline]).filter(move |t| *t >= first)
    }

    /// The name under which the log of a timeline of it is kept; none if it is no timeline of it.
    pub fn label(&self, owner: &OwnerId, timeline: u32) -> Option<Label> {
        self.holds(timeline)?;
        let mut told = format!("mainstay history {owner}\n");
        for step in self.steps.iter().filter(|step| step.timeline < timeline) {
            // Writing to a String cannot fail.
            let _ = writeln!(told, "{}\t{}\t{}", step.timeline, step.at, step.why);
        }
        let digest = sha256(told.as_bytes());
        let id = mainstay_shared::hex::hex(&digest[..4]);
        format!("{timeline:08X}-{id}").parse().ok()
    }

    /// Where the history of a timeline parts from its parent. `first`: the timeline with which the data's own
    /// log begins.
    pub fn origin(
        &self,
        owner: &OwnerId,
        timeline: u32,
        first: u32,
        size: SegmentSize,
    ) -> Option<Origin> {
        self.holds(timeline)?;
        let before = |step: &&Step| step.timeline < timeline && step.timeline >= first;
        let Some(step) = self.steps.iter().rfind(before) else {
            return Some(Origin { parent: None });
        };
        Some(Origin {
            parent: Some(Parent {
                history: self.label(owner, step.timeline)?,
                at: Segment::at(step.timeline, step.at, size).label(size)?,
            }),
        })
    }
}

/// The timeline of a history's name.
pub fn timeline_of(history: &Label) -> Option<u32> {
    let (number, _) = history.as_str().split_once('-')?;
    u32::from_str_radix(number, 16).ok()
}

/// What becomes of a file that PostgreSQL wants archived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It belongs into the repository.
    Keep {
        /// Its timeline.
        timeline: u32,
        /// Its history.
        history: Label,
        /// Its name as a piece of the log.
        piece: Label,
        /// What it is.
        kind: PieceKind,
    },
    /// Nobody ever needs it: why.
    Drop(&'static str),
    /// It cannot be told yet: why.
    Wait(String),
}

/// Decides what becomes of a file, in data whose log goes along a lineage. `first`: the timeline with which
/// the data's own log begins.
///
/// Guarantee: nothing is dropped that the lineage, or what may descend from it, needs in a recovery.
pub fn fate(
    file: WalFile,
    lineage: &Lineage,
    owner: &OwnerId,
    first: u32,
    size: SegmentSize,
) -> Fate {
    let (timeline, piece, kind) = match file {
        WalFile::Note => return Fate::Drop("it is a note about a base backup"),
        WalFile::History(timeline) => (timeline, history_piece(timeline), PieceKind::Lineage),
        WalFile::Segment(s) => (s.timeline, s.name(size), PieceKind::Whole),
        WalFile::Partial(s) => (s.timeline, s.name(size), PieceKind::Partial),
    };
    if timeline < first {
        return Fate::Drop("it is of the data that this was restored from");
    }
    let Some(left) = lineage.holds(timeline) else {
        return if timeline < lineage.timeline {
            Fate::Drop("its timeline is none that this data descends from")
        } else {
            Fate::Wait(format!(
                "timeline {timeline} is not known to this instance yet, which is on {}",
                lineage.timeline
            ))
        };
    };
    if let (WalFile::Segment(segment), Some(at)) = (file, left)
        && segment.end(size) > at
    {
        // What of it counts is in the first segment of the next timeline.
        return Fate::Drop("its timeline was left before its end");
    }
    let names = lineage.label(owner, timeline).zip(piece.parse().ok());
    match names {
        Some((history, piece)) => Fate::Keep {
            timeline,
            history,
            piece,
            kind,
        },
        None => Fate::Wait(format!("{piece} has no name in the repository")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZE: SegmentSize = SegmentSize::DEFAULT;
    const FILE: &str = "1\t0/3000148\tno recovery target specified\n\n3\t0/50000A0\tno recovery target specified\n";

    fn owner(n: u8) -> OwnerId {
        OwnerId::new([n; 16])
    }

    fn lineage() -> Lineage {
        Lineage::parse(4, FILE).unwrap()
    }

    fn segment(timeline: u32, number: u64) -> WalFile {
        WalFile::Segment(Segment { timeline, number })
    }

    #[test]
    fn a_history_file_is_read() {
        let lineage = lineage();
        assert_eq!(lineage.holds(1), Some(Some(Lsn(0x0300_0148))));
        assert_eq!((lineage.holds(4), lineage.holds(2)), (Some(None), None));
        assert_eq!(lineage.since(2).collect::<Vec<_>>(), [3, 4]);
        for bad in [
            "x",
            "1",
            "1\tnowhere\twhy",
            "4\t0/0\tx",
            "2\t0/1\tx\n1\t0/2\tx",
        ] {
            assert!(Lineage::parse(4, bad).is_err(), "{bad}");
        }
        assert!(
            Lineage::parse(2, "1\t0/0\tclaimed by another instance\n")
                .unwrap()
                .only_claimed()
        );
        assert!(!lineage.only_claimed() && !Lineage::first().only_claimed());
    }

    #[test]
    fn a_timeline_has_one_name_however_far_its_children_got() {
        // The file of timeline 3 is the beginning of that of timeline 4.
        let third = Lineage::parse(3, FILE.lines().next().unwrap()).unwrap();
        for timeline in [1, 3] {
            assert_eq!(
                third.label(&owner(1), timeline),
                lineage().label(&owner(1), timeline)
            );
        }
        assert_eq!(
            Lineage::first().label(&owner(1), 1),
            lineage().label(&owner(1), 1)
        );
        assert_ne!(lineage().label(&owner(1), 4), lineage().label(&owner(2), 4));
        let other = Lineage::parse(3, "1\t0/3000200\tno recovery target specified\n").unwrap();
        assert_ne!(other.label(&owner(1), 3), third.label(&owner(1), 3));
        assert_eq!(timeline_of(&third.label(&owner(1), 3).unwrap()), Some(3));
    }

    #[test]
    fn origins_lead_back_to_where_the_own_log_begins() {
        let of = |timeline, first| {
            lineage()
                .origin(&owner(1), timeline, first, SIZE)
                .unwrap()
                .parent
        };
        assert_eq!(of(1, 1), None);
        let parent = of(4, 1).unwrap();
        assert_eq!(Some(parent.history), lineage().label(&owner(1), 3));
        assert_eq!(parent.at.as_str(), "000000030000000000000005");
        assert_eq!(of(3, 3), None, "what was restored has no parent here");
    }

    #[test]
    fn what_becomes_of_files() {
        let lineage = lineage();
        let of = |file, first| fate(file, &lineage, &owner(1), first, SIZE);
        let kept = |file| matches!(of(file, 1), Fate::Keep { .. });
        assert!(kept(segment(1, 2)) && kept(segment(3, 3)) && kept(segment(4, 5)));
        assert!(
            kept(WalFile::History(3))
                && kept(WalFile::Partial(Segment {
                    timeline: 1,
                    number: 3
                }))
        );
        // Beyond where timeline 1 was left: what a primary wrote that was deposed.
        assert!(matches!(of(segment(1, 3), 1), Fate::Drop(_)));
        assert!(matches!(of(segment(2, 9), 1), Fate::Drop(_)));
        assert!(matches!(of(WalFile::History(2), 1), Fate::Drop(_)));
        assert!(matches!(of(WalFile::Note, 1), Fate::Drop(_)));
        assert!(matches!(of(segment(5, 9), 1), Fate::Wait(_)));
        assert!(matches!(of(segment(1, 2), 3), Fate::Drop(_)));
    }

    proptest! {
        #[test]
        fn what_recovery_along_the_lineage_reads_is_never_dropped(place in 0_u64..0x0800_0000) {
            let lineage = lineage();
            // The timeline that a place belongs to, as recovery sees it.
            let timeline = lineage.steps.iter().find(|s| place < s.at.0).map_or(4, |s| s.timeline);
            let number = place / SIZE.bytes();
            let this = fate(segment(timeline, number), &lineage, &owner(1), 1, SIZE);
            let next = lineage.since(timeline + 1).next();
            let next = next.map(|t| fate(segment(t, number), &lineage, &owner(1), 1, SIZE));
            let kept = |f: &Fate| matches!(f, Fate::Keep { .. });
            prop_assert!(kept(&this) || next.as_ref().is_some_and(kept));
        }

        #[test]
        fn any_text_is_a_history_or_none(text in ".{0,80}") {
            let _ = Lineage::parse(3, &text);
        }
    }
}
