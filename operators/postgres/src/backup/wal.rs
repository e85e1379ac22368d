//! Names of PostgreSQL's log files. Pure.

use std::fmt;
use std::str::FromStr;

use mainstay_backup::layout::Label;

use crate::agent::history::position;

/// A place in the log, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// A text that is no place in the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a place in the log: write it as PostgreSQL does, for example 0/3000148")]
pub struct NotAnLsn(String);

impl FromStr for Lsn {
    type Err = NotAnLsn;

    fn from_str(text: &str) -> Result<Self, NotAnLsn> {
        let half = |part: &str| {
            !part.is_empty() && part.len() <= 8 && part.bytes().all(|b| b.is_ascii_hexdigit())
        };
        text.split_once('/')
            .filter(|(high, low)| half(high) && half(low))
            .and_then(|_| position(text))
            .map(Self)
            .ok_or_else(|| NotAnLsn(text.to_owned()))
    }
}

/// Size of a segment, in bytes: a power of two between 1 MiB and 1 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentSize(u64);

impl SegmentSize {
    /// PostgreSQL's own default.
    pub const DEFAULT: Self = Self(16 << 20);

    /// Of so many bytes, where that can be.
    pub fn new(bytes: u64) -> Option<Self> {
        (bytes.is_power_of_two() && (1 << 20..=1 << 30).contains(&bytes)).then_some(Self(bytes))
    }

    /// In bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }

    fn per_id(self) -> u64 {
        (1 << 32) / self.0
    }
}

/// A segment of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Segment {
    /// Timeline.
    pub timeline: u32,
    /// Number, counted from the beginning of the log.
    pub number: u64,
}

impl Segment {
    /// The segment of a timeline that holds a place.
    pub fn at(timeline: u32, lsn: Lsn, size: SegmentSize) -> Self {
        Self {
            timeline,
            number: lsn.0 / size.0,
        }
    }

    /// The place where it begins.
    pub fn begin(self, size: SegmentSize) -> Lsn {
        Lsn(self.number * size.0)
    }

    /// The place behind its end.
    pub fn end(self, size: SegmentSize) -> Lsn {
        Lsn((self.number + 1) * size.0)
    }

    /// Its file's name.
    pub fn name(self, size: SegmentSize) -> String {
        let per_id = size.per_id();
        format!(
            "{:08X}{:08X}{:08X}",
            self.timeline,
            self.number / per_id,
            self.number % per_id
        )
    }

    /// Its name as a piece of the log.
    pub fn label(self, size: SegmentSize) -> Option<Label> {
        self.name(size).parse().ok()
    }

    /// By its file's name.
    pub fn parse(name: &str, size: SegmentSize) -> Option<Self> {
        let hex = |b: u8| b.is_ascii_digit() || (b'A'..=b'F').contains(&b);
        if name.len() != 24 || !name.bytes().all(hex) {
            return None;
        }
        let part = |from: usize| u32::from_str_radix(&name[from..from + 8], 16).ok();
        let (timeline, id, within) = (part(0)?, u64::from(part(8)?), u64::from(part(16)?));
        (timeline > 0 && within < size.per_id()).then_some(Self {
            timeline,
            number: id * size.per_id() + within,
        })
    }
}

/// A file that PostgreSQL wants archived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WalFile {
    /// How a timeline descends from others. These come first.
    History(u32),
    /// A segment that is full.
    Segment(Segment),
    /// The beginning of a segment, as far as its timeline got.
    Partial(Segment),
    /// Where a base backup began and ended: for people, recovery does not read it.
    Note,
}

impl WalFile {
    /// By its name; none if PostgreSQL makes no such file.
    pub fn parse(name: &str, size: SegmentSize) -> Option<Self> {
        if let Some(timeline) = name.strip_suffix(".history") {
            let hex = timeline.len() == 8 && timeline.bytes().all(|b| b.is_ascii_hexdigit());
            let number = u32::from_str_radix(timeline, 16).ok();
            return number.filter(|n| hex && *n > 0).map(Self::History);
        }
        if let Some(name) = name.strip_suffix(".partial") {
            return Segment::parse(name, size).map(Self::Partial);
        }
        if let Some((name, rest)) = name.split_once('.') {
            let note = rest.ends_with(".backup") && Segment::parse(name, size).is_some();
            return note.then_some(Self::Note);
        }
        Segment::parse(name, size).map(Self::Segment)
    }
}

/// Name of a timeline's history file, without its ending: also its name as a piece of the log.
pub fn history_piece(timeline: u32) -> String {
    format!("{timeline:08X}")
}

/// Name of a timeline's history file.
pub fn history_file(timeline: u32) -> String {
    format!("{timeline:08X}.history")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZE: SegmentSize = SegmentSize::DEFAULT;

    #[test]
    fn files_by_their_names() {
        let segment = Segment {
            timeline: 1,
            number: 0x105,
        };
        assert_eq!(segment.name(SIZE), "000000010000000100000005");
        for (name, file) in [
            ("000000010000000100000005", Some(WalFile::Segment(segment))),
            (
                "000000010000000100000005.partial",
                Some(WalFile::Partial(segment)),
            ),
            ("0000000A.history", Some(WalFile::History(10))),
            (
                "000000010000000100000005.00000028.backup",
                Some(WalFile::Note),
            ),
            ("000000010000000100000105", None),
            ("00000000.history", None),
            ("archive_status", None),
            ("00000001000000010000000a", None),
            ("x.00000028.backup", None),
        ] {
            assert_eq!(WalFile::parse(name, SIZE), file, "{name}");
        }
    }

    #[test]
    fn places_are_written_as_postgresql_does() {
        assert_eq!("1/A0".parse::<Lsn>().unwrap(), Lsn((1 << 32) + 0xA0));
        assert_eq!(Lsn((1 << 32) + 0xA0).to_string(), "1/A0");
        for bad in ["", "1", "1/", "/1", "1/2/3", "g/0", "123456789/0"] {
            assert!(bad.parse::<Lsn>().is_err(), "{bad}");
        }
        assert_eq!(SegmentSize::new(3 << 20), None);
    }

    proptest! {
        #[test]
        fn a_segment_is_found_by_its_name_and_names_sort_as_the_log(
            a in any::<u32>(), b in any::<u32>(), bits in 20_u32..=30,
        ) {
            let size = SegmentSize::new(1 << bits).unwrap();
            let [one, two] = [a, b].map(|n| Segment { timeline: 7, number: u64::from(n) });
            prop_assert_eq!(Segment::parse(&one.name(size), size), Some(one));
            prop_assert_eq!(one.cmp(&two), one.name(size).cmp(&two.name(size)));
            prop_assert_eq!(Segment::at(7, one.begin(size), size), one);
            prop_assert_eq!(Segment::at(7, Lsn(one.end(size).0 - 1), size), one);
        }
    }
}
