//! What a run came to: a function of the ledgers and the rows.

use std::collections::BTreeSet;
use std::time::Duration;

use mainstay_workload::ledger::{Entry, Verdict};
use mainstay_workload::terms::{self, Loss, Violation};

use super::fault::Worth;
use super::readers::Reads;
use crate::scenarios::writer::Rows;

/// Name of the client's ledger, which writes through the Service.
pub const CLIENT: &str = "workload";
/// What a successor may lack of what was published last, in bytes, where commits wait for nobody.
const LAG: u64 = 16 << 20;
/// How long before a primary's end it has published last, in microseconds: it stops four seconds after
/// the last renewal that succeeded, and what it publishes was looked up at most two before.
const AGE: u64 = 6_000_000;
/// What nobody confirmed can be lost for so long, in microseconds, where a primary takes no write that some
/// replicas were not heard of for ten seconds: they report once a second, and Redis counts whole ones.
const UNHEARD: u64 = 12_000_000;

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Longest time between two acknowledgements, through the Service.
    pub gap: Duration,
    /// From the fault, or from when its cause was taken away, until everything was whole again.
    pub whole: Duration,
    /// Writes that were acknowledged, to all writers, with a promise or without.
    pub acknowledged: usize,
    /// Acknowledged writes that are gone, though it was promised that they stay.
    pub lost: usize,
    /// Those that are gone and were not promised: where commits wait for nobody, and what nobody confirmed.
    pub unpromised: usize,
    /// Writes that were refused and are there.
    pub resurrected: usize,
    /// Acknowledgements where another one was to give them.
    pub violations: usize,
    /// What readers saw.
    pub reads: Reads,
    /// Where something was lost that was not promised: how much, and how much may be.
    pub loss: Option<Loss>,
    /// Where a primary that is cut off may take writes beside its successor: for how long one did.
    pub window: Duration,
    /// Others were done at the same time, so that its times say less.
    pub beside: bool,
}

impl Run {
    /// Whether a promise was broken.
    pub fn broken(&self) -> bool {
        let much = self.loss.is_some_and(|loss| loss.bytes > loss.bound);
        self.lost > 0 || much || self.resurrected > 0 || self.violations > 0 || self.reads.back > 0
    }
}

/// What it came to.
pub fn judge(ledgers: &[(String, Vec<Entry>)], rows: &Rows, whole: Duration, worth: Worth) -> Run {
    let nothing = BTreeSet::new();
    let mut run = Run {
        whole,
        ..Run::default()
    };
    let mut lost = Vec::new();
    for (name, entries) in ledgers {
        let verdict = Verdict::new(entries, rows.get(name).unwrap_or(&nothing));
        if name == CLIENT {
            run.gap = verdict.gap();
        }
        run.acknowledged += verdict.acknowledged + verdict.taken;
        run.resurrected += verdict.resurrected.len();
        let mut unpromised: BTreeSet<u64> = verdict.forgotten.into_iter().collect();
        if worth == Worth::Async {
            unpromised.extend(verdict.lost);
        } else {
            run.lost += verdict.lost.len();
        }
        run.unpromised += unpromised.len();
        lost.push(unpromised);
    }
    let all: Vec<_> = ledgers.iter().map(|(_, entries)| entries.clone()).collect();
    let violations = terms::violations(&all);
    let (lag, age) = match worth {
        Worth::ByShard => {
            run.window = violations
                .iter()
                .filter_map(Violation::late)
                .max()
                .unwrap_or_default();
            let shared = violations.iter().filter(|v| v.late().is_none());
            run.violations = shared.count();
            return run;
        }
        Worth::Confirmed => (0, UNHEARD),
        Worth::Quorum | Worth::Async => (LAG, AGE),
    };
    run.violations = violations.len();
    run.loss = terms::loss(&all, &lost, lag, age);
    run
}

/// The violations themselves, in words.
pub fn violations(ledgers: &[(String, Vec<Entry>)]) -> Vec<String> {
    let all: Vec<_> = ledgers.iter().map(|(_, entries)| entries.clone()).collect();
    let found = terms::violations(&all);
    found.iter().map(Violation::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios::writer::rows;
    use mainstay_workload::ledger::{Outcome, Term};

    fn entry(id: u64, epoch: u64, sent: u64, outcome: Outcome) -> Entry {
        Entry {
            id,
            sent,
            done: sent + 5,
            outcome,
            term: Some(Term {
                epoch,
                position: sent * 100,
                server: format!("s{epoch}"),
            }),
            detail: String::new(),
        }
    }

    fn two() -> Vec<(String, Vec<Entry>)> {
        use Outcome::{Acknowledged, Failed};
        let client = vec![
            entry(1, 1, 10, Acknowledged),
            entry(2, 2, 500, Acknowledged),
            entry(3, 2, 600, Failed),
        ];
        let inside = vec![entry(1, 1, 20, Acknowledged), entry(2, 1, 30, Acknowledged)];
        vec![(CLIENT.to_owned(), client), ("db-1-1".to_owned(), inside)]
    }

    fn judged(rows_: &str, worth: Worth) -> Run {
        judge(&two(), &rows(rows_).unwrap(), Duration::ZERO, worth)
    }

    #[test]
    fn every_ledger_counts_and_each_has_its_own_numbers() {
        let good = judged("workload 1\nworkload 2\ndb-1-1 1\ndb-1-1 2", Worth::Quorum);
        assert!(!good.broken(), "{good:?}");
        assert_eq!(
            (good.acknowledged, good.gap),
            (4, Duration::from_micros(490))
        );
        let lost = judged("workload 1\nworkload 2\ndb-1-1 1", Worth::Quorum);
        assert!(lost.broken() && lost.lost == 1, "{lost:?}");
        let there = judged(
            "workload 1\nworkload 2\nworkload 3\ndb-1-1 1\ndb-1-1 2",
            Worth::Quorum,
        );
        assert!(there.broken() && there.resurrected == 1, "{there:?}");
        assert_eq!(rows("nonsense"), None);
    }

    #[test]
    fn of_what_nobody_confirmed_some_may_be_lost_and_of_the_rest_nothing() {
        use Outcome::{Acknowledged, Taken};
        let client = |middle| {
            let entries = [
                entry(1, 1, 10, Acknowledged),
                entry(2, 1, 20, middle),
                entry(3, 1, 30, Taken),
                entry(4, 2, 500, Acknowledged),
            ];
            vec![(CLIENT.to_owned(), entries.to_vec())]
        };
        let there = rows("workload 1\nworkload 4").unwrap();
        let judged = |middle| judge(&client(middle), &there, Duration::ZERO, Worth::Confirmed);
        let within = judged(Taken);
        assert!(!within.broken() && within.unpromised == 2, "{within:?}");
        let loss = Loss {
            bytes: 2000,
            bound: 2000,
        };
        assert_eq!((within.loss, within.acknowledged), (Some(loss), 4));
        let promised = judged(Acknowledged);
        assert!(promised.broken() && promised.lost == 1, "{promised:?}");
    }

    #[test]
    fn where_commits_wait_for_nobody_a_loss_within_its_bound_is_none() {
        let lost = judged("workload 1\nworkload 2\ndb-1-1 1", Worth::Async);
        assert_eq!(lost.loss.map(|loss| loss.bytes), Some(1000));
        assert!(!lost.broken() && lost.unpromised == 1, "{lost:?}");
        let much = Run {
            loss: Some(Loss { bytes: 3, bound: 2 }),
            ..Run::default()
        };
        assert!(much.broken());
    }

    #[test]
    fn in_a_cluster_who_is_cut_off_goes_on_for_a_while_and_that_is_measured() {
        let mut ledgers = two();
        ledgers[1].1.push(entry(3, 1, 700, Outcome::Taken));
        let rows = rows("workload 1\nworkload 2\ndb-1-1 1\ndb-1-1 2").unwrap();
        let run = judge(&ledgers, &rows, Duration::ZERO, Worth::ByShard);
        assert!(!run.broken() && run.unpromised == 1, "{run:?}");
        // The later one had acknowledged at 505.
        assert_eq!(run.window, Duration::from_micros(195));
        let sure = judge(&two(), &Rows::new(), Duration::ZERO, Worth::ByShard);
        assert!(sure.broken() && sure.lost == 4, "{sure:?}");
    }

    #[test]
    fn a_second_writer_is_told_in_words() {
        let mut ledgers = two();
        ledgers[1].1.push(entry(3, 1, 700, Outcome::Acknowledged));
        let rows = rows("workload 1\nworkload 2\ndb-1-1 1\ndb-1-1 2\ndb-1-1 3").unwrap();
        let run = judge(&ledgers, &rows, Duration::ZERO, Worth::Quorum);
        assert!(run.broken() && run.violations == 1, "{run:?}");
        assert!(violations(&ledgers)[0].contains("s1 acknowledged under 1"));
    }
}
