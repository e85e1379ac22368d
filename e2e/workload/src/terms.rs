//! One writer: nothing is acknowledged under a term once something was under a later one.
//!
//! A function of the ledgers of all who write: through the Service, and directly to each server. They
//! share a clock, since all run on one machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use super::ledger::{Entry, Outcome, Term};

/// Two who took writes where there may be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// Acknowledged under a term, though it was sent when a later one had acknowledged.
    Late {
        /// Who acknowledged it.
        term: Term,
        /// When it was sent.
        sent: u64,
        /// When the first acknowledgement under a later term had come.
        after: u64,
    },
    /// Several servers acknowledged under one term.
    Shared {
        /// The term.
        epoch: u64,
        /// The servers.
        servers: BTreeSet<String>,
    },
}

impl Violation {
    /// How long after the first acknowledgement under a later term it was sent.
    pub fn late(&self) -> Option<Duration> {
        match self {
            Self::Late { sent, after, .. } => {
                Some(Duration::from_micros(sent.saturating_sub(*after)))
            }
            Self::Shared { .. } => None,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late { term, sent, after } => write!(
                f,
                "{} acknowledged under {} what was sent {} µs after the first acknowledgement under a later term",
                term.server,
                term.epoch,
                sent.saturating_sub(*after)
            ),
            Self::Shared { epoch, servers } => {
                write!(f, "several acknowledged under {epoch}: {servers:?}")
            }
        }
    }
}

/// All acknowledgements of which is known who gave them, with a promise or without.
fn acknowledged(ledgers: &[Vec<Entry>]) -> impl Iterator<Item = (&Entry, &Term)> {
    ledgers.iter().flat_map(|ledger| given(ledger))
}

/// Those of one ledger.
fn given(ledger: &[Entry]) -> impl Iterator<Item = (&Entry, &Term)> {
    let all = ledger.iter();
    all.filter(|entry| entry.outcome >= Outcome::Taken)
        .filter_map(|entry| Some((entry, entry.term.as_ref()?)))
}

/// What breaks the promise of one writer, in the ledgers of all who wrote.
pub fn violations(ledgers: &[Vec<Entry>]) -> Vec<Violation> {
    let mut first: BTreeMap<u64, u64> = BTreeMap::new();
    let mut servers: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    for (entry, term) in acknowledged(ledgers) {
        let at = first.entry(term.epoch).or_insert(entry.done);
        *at = entry.done.min(*at);
        let of = servers.entry(term.epoch).or_default();
        of.insert(term.server.clone());
    }
    // The earliest acknowledgement under any later term, for each term.
    let mut later = BTreeMap::new();
    let mut earliest = u64::MAX;
    for (epoch, at) in first.iter().rev() {
        later.insert(*epoch, earliest);
        earliest = earliest.min(*at);
    }
    let late = acknowledged(ledgers).filter_map(|(entry, term)| {
        let after = *later.get(&term.epoch)?;
        (entry.sent > after).then(|| Violation::Late {
            term: term.clone(),
            sent: entry.sent,
            after,
        })
    });
    let shared = servers.into_iter().filter(|(_, servers)| servers.len() > 1);
    late.chain(shared.map(|(epoch, servers)| Violation::Shared { epoch, servers }))
        .collect()
}

/// What was lost of one history, in bytes, against what may be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Loss {
    /// From the last acknowledged write that is kept to the last that is lost.
    pub bytes: u64,
    /// What may be lost: what a successor may lack of what was published last, and what was
    /// acknowledged since.
    pub bound: u64,
}

/// The largest loss of a term. `lost` has for each ledger the numbers that were acknowledged and are
/// gone; a successor may lack `lag` bytes of what was published last, which is at most `age`
/// microseconds before the end.
pub fn loss(ledgers: &[Vec<Entry>], lost: &[BTreeSet<u64>], lag: u64, age: u64) -> Option<Loss> {
    let mut terms: BTreeMap<u64, Vec<Told>> = BTreeMap::new();
    for (ledger, lost) in ledgers.iter().zip(lost) {
        for (entry, term) in given(ledger) {
            terms.entry(term.epoch).or_default().push(Told {
                position: term.position,
                done: entry.done,
                gone: lost.contains(&entry.id),
            });
        }
    }
    let losses = terms.values().filter_map(|told| {
        let positions = |of: &dyn Fn(&&Told) -> bool| {
            told.iter()
                .filter(of)
                .map(|t| t.position)
                .collect::<Vec<_>>()
        };
        let gone = positions(&|t| t.gone);
        let (first, end) = (*gone.iter().min()?, *gone.iter().max()?);
        let kept = positions(&|t| !t.gone).into_iter().max().unwrap_or(first);
        let newest = told.iter().map(|t| t.done).max()?;
        let published = positions(&|t| t.done.saturating_add(age) <= newest);
        let published = published.into_iter().max();
        let published = published.or_else(|| told.iter().map(|t| t.position).min())?;
        Some(Loss {
            bytes: end.saturating_sub(kept),
            bound: lag.saturating_add(end.saturating_sub(published)),
        })
    });
    losses.max_by_key(|loss| loss.bytes)
}

/// An acknowledgement, as far as losses matter.
struct Told {
    position: u64,
    done: u64,
    gone: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn acknowledged_by(server: &str, epoch: u64, sent: u64, done: u64) -> Entry {
        Entry {
            id: sent,
            sent,
            done,
            outcome: Outcome::Acknowledged,
            term: Some(Term {
                epoch,
                position: sent * 10,
                server: server.to_owned(),
            }),
            detail: String::new(),
        }
    }

    #[test]
    fn what_was_under_way_may_still_be_acknowledged_what_is_sent_later_may_not() {
        let later = vec![acknowledged_by("b", 2, 100, 110)];
        let under_way = vec![acknowledged_by("a", 1, 105, 200)];
        assert_eq!(violations(&[later.clone(), under_way]), []);
        let at_once = vec![acknowledged_by("a", 1, 110, 200)];
        assert_eq!(violations(&[later.clone(), at_once]), []);
        let after = vec![acknowledged_by("a", 1, 111, 120)];
        let found = violations(&[later, after]);
        assert!(
            matches!(
                found.as_slice(),
                [Violation::Late {
                    sent: 111,
                    after: 110,
                    ..
                }]
            ),
            "{found:?}"
        );
        assert!(found[0].to_string().contains("1 µs after"), "{}", found[0]);
    }

    #[test]
    fn any_later_term_counts_not_only_the_next() {
        let ledgers = [
            vec![
                acknowledged_by("c", 3, 10, 20),
                acknowledged_by("b", 2, 15, 40),
            ],
            vec![acknowledged_by("a", 1, 25, 30)],
        ];
        assert_eq!(violations(&ledgers).len(), 1);
    }

    #[test]
    fn two_servers_under_one_term_are_two_writers() {
        let ledgers = [
            vec![acknowledged_by("a", 1, 10, 20)],
            vec![acknowledged_by("b", 1, 30, 40)],
        ];
        let found = violations(&ledgers);
        assert!(
            matches!(found.as_slice(), [Violation::Shared { epoch: 1, .. }]),
            "{found:?}"
        );
    }

    #[test]
    fn who_did_not_acknowledge_or_is_not_known_breaks_nothing() {
        let mut refused = acknowledged_by("a", 1, 50, 60);
        refused.outcome = Outcome::Failed;
        let mut nobodys = acknowledged_by("a", 1, 50, 60);
        nobodys.term = None;
        let ledgers = [
            vec![acknowledged_by("b", 2, 10, 20)],
            vec![refused, nobodys],
        ];
        assert_eq!(violations(&ledgers), []);
    }

    #[test]
    fn a_loss_is_measured_from_what_is_kept_and_bound_by_what_was_published() {
        let mine: Vec<_> = (1..=10)
            .map(|n| acknowledged_by("a", 1, n * 100, n * 100 + 1))
            .collect();
        let next = vec![acknowledged_by("b", 2, 2000, 2001)];
        let ledgers = [mine, next];
        let nothing = [BTreeSet::new(), BTreeSet::new()];
        assert_eq!(loss(&ledgers, &nothing, 5, 300), None);
        // What was published is at most 300 old: that of 700.
        let lost = [BTreeSet::from([800, 900, 1000]), BTreeSet::new()];
        let found = loss(&ledgers, &lost, 5, 300).unwrap();
        assert_eq!(
            found,
            Loss {
                bytes: 3000,
                bound: 3005
            }
        );
    }

    /// The promise, word for word.
    fn by_the_word(entries: &[Entry]) -> usize {
        let late = |a: &Entry| {
            let under = a.term.as_ref().unwrap().epoch;
            entries
                .iter()
                .any(|b| b.term.as_ref().unwrap().epoch > under && a.sent > b.done)
        };
        entries.iter().filter(|a| late(a)).count()
    }

    proptest! {
        #[test]
        fn it_is_the_promise_word_for_word(
            all in proptest::collection::vec((0..4_u64, 0..50_u64, 0..20_u64), 0..30), split in 0..30_usize,
        ) {
            // One server for each term, so that only what is late is found.
            let entries: Vec<_> = all
                .into_iter()
                .map(|(epoch, sent, took)| acknowledged_by(&format!("s{epoch}"), epoch, sent, sent + took))
                .collect();
            let (one, two) = entries.split_at(split.min(entries.len()));
            let found = violations(&[one.to_vec(), two.to_vec()]).len();
            prop_assert_eq!(found, by_the_word(&entries));
        }

        #[test]
        fn terms_that_follow_each_other_break_nothing(lengths in proptest::collection::vec(1..20_u64, 1..6)) {
            let mut at = 0;
            let mut entries = Vec::new();
            for (epoch, length) in (1..).zip(&lengths) {
                for _ in 0..*length {
                    entries.push(acknowledged_by(&format!("s{epoch}"), epoch, at, at + 5));
                    at += 7;
                }
            }
            prop_assert_eq!(violations(std::slice::from_ref(&entries)), []);
            // One more under the first term breaks it, unless there is no other.
            entries.push(acknowledged_by("s1", 1, at, at + 1));
            prop_assert_eq!(violations(&[entries]).len(), usize::from(lengths.len() > 1));
        }
    }
}
