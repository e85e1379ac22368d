//! The ledger: what was attempted, what was acknowledged, and what must therefore be there.
//!
//! Nothing here knows an engine. One attempt is one line; a row, a key or a message bears its number.
//! What nobody knows the outcome of is tried again under the same number, as applications do: such a
//! number has several lines.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What became of an attempt, as its client can know it; of several attempts for one number the
/// highest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was not sent, or the server refused it. It must not be there.
    Failed,
    /// It was sent, and nobody knows: both are right.
    Unknown,
    /// The server has it, and neither waited for others nor said that it stays: it may go with the server.
    Taken,
    /// The server promised that the write stays. It must be there ever after.
    Acknowledged,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Acknowledged => "acknowledged",
            Self::Taken => "taken",
            Self::Unknown => "unknown",
            Self::Failed => "failed",
        })
    }
}

/// Who answered a write, and as what. The server says so itself, in the transaction that writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// The number of its term: a later one is higher.
    pub epoch: u64,
    /// Where its history was when it wrote, in bytes.
    pub position: u64,
    /// Which server: another one of the same name is another. Neither blanks nor slashes.
    pub server: String,
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.epoch, self.position, self.server)
    }
}

impl Term {
    fn parse(word: &str) -> Option<Self> {
        let mut parts = word.splitn(3, '/');
        Some(Self {
            epoch: parts.next()?.parse().ok()?,
            position: parts.next()?.parse().ok()?,
            server: parts.next()?.to_owned(),
        })
    }
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number, from 1; several attempts have it where the outcome of the first was unknown.
    pub id: u64,
    /// When it was sent: microseconds since the machine started, by the clock that all processes of a
    /// machine share, also those in containers.
    pub sent: u64,
    /// When its outcome was known, likewise.
    pub done: u64,
    /// What became of it.
    pub outcome: Outcome,
    /// Who acknowledged it.
    pub term: Option<Term>,
    /// Why, in words; empty where there is nothing to say.
    pub detail: String,
}

/// First word of every line, by which lines are found among other output.
const MARK: &str = "LEDGER";

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            id,
            sent,
            done,
            outcome,
            term,
            detail,
        } = self;
        write!(f, "{MARK} {id} {sent} {done} {outcome}")?;
        match term {
            Some(term) => write!(f, " {term}")?,
            None => f.write_str(" -")?,
        }
        if !detail.is_empty() {
            write!(f, " {}", detail.replace(['\n', '\r'], " "))?;
        }
        Ok(())
    }
}

/// How many attempts came to that, or to more.
pub fn reached(entries: &[Entry], outcome: Outcome) -> usize {
    entries.iter().filter(|e| e.outcome >= outcome).count()
}

/// A line is no entry of a ledger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no line of a ledger: {0:?}")]
pub struct NoEntry(pub String);

impl FromStr for Entry {
    type Err = NoEntry;

    fn from_str(line: &str) -> Result<Self, NoEntry> {
        let read = || {
            let mut words = line.splitn(7, ' ');
            if words.next()? != MARK {
                return None;
            }
            let mut number = || words.next()?.parse().ok();
            let (id, sent, done) = (number()?, number()?, number()?);
            let outcome = match words.next()? {
                "acknowledged" => Outcome::Acknowledged,
                "taken" => Outcome::Taken,
                "unknown" => Outcome::Unknown,
                "failed" => Outcome::Failed,
                _ => return None,
            };
            let term = match words.next()? {
                "-" => None,
                word => Some(Term::parse(word)?),
            };
            let detail = words.next().unwrap_or_default().to_owned();
            Some(Self {
                id,
                sent,
                done,
                outcome,
                term,
                detail,
            })
        };
        read().ok_or_else(|| NoEntry(line.to_owned()))
    }
}

/// Reads a ledger among other output. A last line without its end is what a killed client was
/// writing: no outcome was recorded, so there is none.
///
/// # Errors
/// A whole line that begins like an entry and is none.
pub fn parse(text: &str) -> Result<Vec<Entry>, NoEntry> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .filter(|line| line.split(' ').next() == Some(MARK))
        .map(str::parse)
        .collect()
}

/// What a ledger and the server say together. A number counts once, whatever it took.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// Writes that were acknowledged.
    pub acknowledged: usize,
    /// Writes that a server took without a promise.
    pub taken: usize,
    /// Those of them that are not there.
    pub forgotten: Vec<u64>,
    /// Writes of which the client does not know what became.
    pub unknown: usize,
    /// Those of them that are there.
    pub unknown_present: usize,
    /// Writes that failed.
    pub failed: usize,
    /// Acknowledged, and not there: broken promises.
    pub lost: Vec<u64>,
    /// Failed, and there nevertheless.
    pub resurrected: Vec<u64>,
    /// There without an entry: what was under way when the client was killed, or was written since
    /// the ledger was read.
    pub unrecorded: usize,
    /// Longest time in which no server took or acknowledged a write, in microseconds.
    pub longest_gap: u64,
    /// When the longest gap began: microseconds since the machine started.
    pub gap_from: u64,
}

impl Verdict {
    /// Compares the entries with the numbers that the server has.
    pub fn new(entries: &[Entry], present: &BTreeSet<u64>) -> Self {
        let mut verdict = Self::default();
        let mut known: BTreeMap<u64, Outcome> = BTreeMap::new();
        let mut last = None;
        for entry in entries {
            let outcome = known.entry(entry.id).or_insert(entry.outcome);
            *outcome = entry.outcome.max(*outcome);
            if entry.outcome >= Outcome::Taken {
                let gap = last.map_or(0, |last| entry.done.saturating_sub(last));
                if gap > verdict.longest_gap {
                    verdict.longest_gap = gap;
                    verdict.gap_from = last.unwrap_or_default();
                }
                last = Some(entry.done);
            }
        }
        for (id, outcome) in &known {
            let there = present.contains(id);
            match outcome {
                Outcome::Acknowledged => {
                    verdict.acknowledged += 1;
                    if !there {
                        verdict.lost.push(*id);
                    }
                }
                Outcome::Taken => {
                    verdict.taken += 1;
                    if !there {
                        verdict.forgotten.push(*id);
                    }
                }
                Outcome::Unknown => {
                    verdict.unknown += 1;
                    verdict.unknown_present += usize::from(there);
                }
                Outcome::Failed => {
                    verdict.failed += 1;
                    if there {
                        verdict.resurrected.push(*id);
                    }
                }
            }
        }
        verdict.unrecorded = present.iter().filter(|id| !known.contains_key(id)).count();
        verdict
    }

    /// Whether every promise was kept, of at least one.
    pub fn holds(&self) -> bool {
        self.lost.is_empty() && self.resurrected.is_empty() && self.acknowledged > 0
    }

    /// Longest time in which no server took or acknowledged a write.
    pub fn gap(&self) -> Duration {
        Duration::from_micros(self.longest_gap)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "acknowledged {}, of which lost {}",
            self.acknowledged,
            self.lost.len()
        )?;
        if self.taken > 0 {
            writeln!(
                f,
                "taken without a promise {}, of which gone {}",
                self.taken,
                self.forgotten.len()
            )?;
        }
        writeln!(
            f,
            "unknown {}, of which present {}",
            self.unknown, self.unknown_present
        )?;
        writeln!(
            f,
            "failed {}, of which present {}",
            self.failed,
            self.resurrected.len()
        )?;
        writeln!(f, "present without an entry {}", self.unrecorded)?;
        write!(f, "longest gap between acknowledgements {:?}", self.gap())?;
        for (what, ids) in [
            ("lost", &self.lost),
            ("failed, but present", &self.resurrected),
        ] {
            if !ids.is_empty() {
                write!(f, "\n{what}: {ids:?}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(id: u64, done: u64, outcome: Outcome) -> Entry {
        Entry {
            id,
            sent: done - 1,
            done,
            outcome,
            term: None,
            detail: String::new(),
        }
    }

    #[test]
    fn what_is_tried_again_counts_once_and_is_owed_once_it_was_acknowledged() {
        use Outcome::{Acknowledged, Failed, Unknown};
        let entries = [
            entry(1, 10, Unknown),
            entry(1, 20, Failed),
            entry(1, 30, Acknowledged),
            entry(2, 40, Unknown),
            entry(2, 50, Failed),
        ];
        let verdict = Verdict::new(&entries, &BTreeSet::from([1, 2]));
        assert!(verdict.holds(), "{verdict}");
        let counts = (verdict.acknowledged, verdict.unknown, verdict.failed);
        assert_eq!(counts, (1, 1, 0));
        assert_eq!(Verdict::new(&entries, &BTreeSet::new()).lost, [1]);
    }

    #[test]
    fn promises_are_counted_and_broken_ones_are_named() {
        let entries = [
            entry(1, 100, Outcome::Acknowledged),
            entry(2, 200, Outcome::Unknown),
            entry(3, 300, Outcome::Failed),
            entry(4, 900, Outcome::Acknowledged),
            entry(5, 950, Outcome::Unknown),
            entry(6, 1000, Outcome::Acknowledged),
        ];
        let good = Verdict::new(&entries, &BTreeSet::from([1, 2, 4, 6, 7]));
        assert!(good.holds(), "{good}");
        assert_eq!(
            (
                good.acknowledged,
                good.unknown,
                good.unknown_present,
                good.failed
            ),
            (3, 2, 1, 1)
        );
        assert_eq!(
            (good.longest_gap, good.gap_from, good.unrecorded),
            (800, 100, 1)
        );

        let lost = Verdict::new(&entries, &BTreeSet::from([1, 6]));
        assert!(!lost.holds());
        assert_eq!(lost.lost, [4]);
        let back = Verdict::new(&entries, &BTreeSet::from([1, 3, 4, 6]));
        assert!(!back.holds());
        assert_eq!(back.resurrected, [3]);
    }

    #[test]
    fn what_was_taken_without_a_promise_may_go_and_is_counted() {
        let entries = [
            entry(1, 100, Outcome::Acknowledged),
            entry(2, 200, Outcome::Taken),
            entry(3, 300, Outcome::Taken),
        ];
        let verdict = Verdict::new(&entries, &BTreeSet::from([1, 3]));
        assert!(verdict.holds(), "{verdict}");
        assert_eq!((verdict.taken, &*verdict.forgotten), (2, &[2][..]));
        assert_eq!(verdict.longest_gap, 100, "it was served");
    }

    #[test]
    fn a_ledger_without_an_acknowledgement_shows_nothing() {
        assert!(!Verdict::new(&[], &BTreeSet::new()).holds());
        assert!(!Verdict::new(&[entry(1, 10, Outcome::Unknown)], &BTreeSet::from([1])).holds());
    }

    #[test]
    fn other_output_and_a_torn_last_line_are_no_entries() {
        let text = "starting\nLEDGER 1 10 20 acknowledged 3/77/db-1@5\nLEDGERS are fine\nLEDGER 2 20 30 failed - no route to host\nLEDGER 3 30 4";
        let entries = parse(text).unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[1].detail, "no route to host");
        assert_eq!(
            entries[0].term.as_ref().map(|t| (t.epoch, t.position)),
            Some((3, 77))
        );
        assert!(parse("LEDGER 1 10 20 acknowledged 3/77\n").is_err());
        assert_eq!(parse("LEDGER 1 10"), Ok(Vec::new()));
        assert!(parse("LEDGER 1 10 20 perhaps -\n").is_err());
        assert!(parse("LEDGER 1 10\n").is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(id: u64, sent: u64, done: u64, outcome in 0..4_u8,
            term in proptest::option::of((0..9_u64, 0..9_u64, "[a-z0-9@-]{0,9}")), detail in "[^\\x00-\\x1f]{0,40}") {
            let outcome = [Outcome::Acknowledged, Outcome::Taken, Outcome::Unknown, Outcome::Failed][usize::from(outcome)];
            // Unicode has more line ends than a ledger.
            prop_assume!(!detail.contains(['\u{85}', '\u{2028}', '\u{2029}']));
            let term = term.map(|(epoch, position, server)| Term { epoch, position, server });
            let entry = Entry { id, sent, done, outcome, term, detail };
            prop_assert_eq!(parse(&format!("{entry}\n")), Ok(vec![entry]));
        }
    }
}
