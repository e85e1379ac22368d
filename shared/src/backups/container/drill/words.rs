//! What was found, in words. Pure.

use jiff::Timestamp;
use mainstay_backup::drill::{CHECKS, DrillReport, FailedCheck, SENTENCE};

/// Most that Kubernetes keeps of a container's last words, in bytes.
const LAST_WORDS: usize = 4096;
/// So much of a statement stands in a sentence about it, in characters.
const HINT: usize = 80;

/// What checks found, in their order.
#[derive(Debug, Default)]
pub struct Findings {
    all: usize,
    failed: Vec<FailedCheck>,
}

impl Findings {
    /// Notes what a check found: nothing, or what does not hold.
    pub fn add(&mut self, what: &str, found: Result<(), String>) {
        tracing::info!(what, ?found, "a check");
        self.all += 1;
        if let Err(found) = found {
            self.failed.push(FailedCheck {
                what: cut(what),
                found: cut(&found),
            });
        }
    }

    /// Notes by `what` whether the engine starts on the data, and since when it answers. None if it does not: then nothing
    /// can be asked.
    pub fn start<T>(
        &mut self,
        what: &str,
        started: Result<T, String>,
        report: &mut DrillReport,
    ) -> Option<T> {
        let (server, found) = match started {
            Ok(server) => (Some(server), Ok(())),
            Err(why) => (None, Err(why)),
        };
        if server.is_some() {
            report.answered = Some(Timestamp::now());
        }
        self.add(what, found);
        server
    }

    /// Says so.
    pub fn into_report(self, report: &mut DrillReport) {
        report.checks = u32::try_from(self.all).unwrap_or(u32::MAX);
        report.passed = self.failed.is_empty();
        report.message = match &self.failed[..] {
            [] => format!("restored and answering; all {} checks hold", self.all),
            [one] => format!("{}: {}", cut_to(&one.what, HINT), one.found),
            [first, rest @ ..] => format!(
                "{}: {}; {} more of {} checks do not hold",
                cut_to(&first.what, HINT),
                first.found,
                rest.len(),
                self.all
            ),
        };
        report.failed = self.failed;
        report.failed.truncate(CHECKS);
    }
}

/// Whether a value is what was expected: without an expectation, `truth`, by which the engine says that something is
/// true, or a number other than zero.
///
/// # Errors
/// What was found instead.
pub fn holds(expect: Option<&str>, value: Option<&str>, truth: &str) -> Result<(), String> {
    let good = match (expect, value) {
        (Some(expect), Some(value)) => expect == value,
        (None, Some(value)) => {
            value == truth || value.parse().is_ok_and(|n: f64| n.is_finite() && n != 0.0)
        }
        (_, None) => false,
    };
    if good {
        return Ok(());
    }
    let found = value.map_or_else(|| "null".to_owned(), |v| format!("`{v}`"));
    Err(expect.map_or_else(
        || format!("{found}, where `{truth}` or a number other than 0 was expected"),
        |expect| format!("{found}, where `{expect}` was expected"),
    ))
}

/// The report as last words: with fewer of the checks that failed, where all are too long.
pub fn last_words(report: &mut DrillReport) -> String {
    report.message = cut(&report.message);
    loop {
        let text = serde_json::to_string(report).unwrap_or_default();
        if text.len() <= LAST_WORDS || report.failed.pop().is_none() {
            return text;
        }
    }
}

fn cut(text: &str) -> String {
    cut_to(text, SENTENCE)
}

fn cut_to(text: &str, longest: usize) -> String {
    // In one line, as statuses have them.
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    if line.chars().count() <= longest {
        return line;
    }
    let mut short: String = line.chars().take(longest - 1).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_expectation_is_met_by_its_text_alone() {
        let holds = |expect, value| holds(expect, value, "t");
        assert_eq!(holds(Some("42"), Some("42")), Ok(()));
        for value in [None, Some("41"), Some("42 ")] {
            assert!(holds(Some("42"), value).is_err(), "{value:?}");
        }
        assert_eq!(
            holds(Some("42"), Some("41")).unwrap_err(),
            "`41`, where `42` was expected"
        );
        for good in ["t", "1", "-3", "0.5"] {
            assert_eq!(holds(None, Some(good)), Ok(()), "{good}");
        }
        for bad in [None, Some("f"), Some("0"), Some(""), Some("x"), Some("nan")] {
            assert!(holds(None, bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn it_passes_only_if_every_check_holds() {
        let report = |found: Vec<Result<(), String>>| {
            let mut findings = Findings::default();
            for (number, found) in found.into_iter().enumerate() {
                findings.add(&format!("check {number}"), found);
            }
            let mut report = DrillReport::default();
            findings.into_report(&mut report);
            report
        };
        let all = report(vec![Ok(()), Ok(())]);
        assert!(all.passed && all.failed.is_empty());
        assert_eq!(all.checks, 2);
        let one = report(vec![Ok(()), Err("it is empty".into()), Ok(())]);
        assert!(!one.passed);
        assert_eq!(one.message, "check 1: it is empty");
        let two = report(vec![Err("a".into()), Ok(()), Err("b".into())]);
        assert_eq!(two.message, "check 0: a; 1 more of 3 checks do not hold");
        let mut findings = Findings::default();
        findings.add(&"select ".repeat(60), Err("it is empty".into()));
        let mut long = DrillReport::default();
        findings.into_report(&mut long);
        assert!(long.message.ends_with("…: it is empty"), "{}", long.message);
    }

    proptest! {
        /// Whatever is found: it is readable afterwards, and says whether it passed.
        #[test]
        fn last_words_are_never_cut_off(
            failed in prop::collection::vec((".{0,400}", ".{0,400}"), 0..12),
            message in ".{0,9000}",
        ) {
            let mut findings = Findings::default();
            for (what, found) in &failed {
                findings.add(what, Err(found.clone()));
            }
            let mut report = DrillReport::default();
            findings.into_report(&mut report);
            prop_assert_eq!(report.passed, failed.is_empty());
            if failed.is_empty() {
                report.message = message;
            }
            let text = last_words(&mut report);
            prop_assert!(text.len() <= LAST_WORDS, "{} bytes", text.len());
            let read: DrillReport = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(read, report);
        }
    }
}
