//! The table of steps.

use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

/// Which checks of a step held, and which did not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// How many held.
    pub passed: usize,
    /// A sentence for each that did not hold, or could not be run.
    pub failures: Vec<String>,
}

/// How much of a failure the summary shows.
const SHOWN: usize = 400;

impl Counts {
    /// Checks that held.
    pub fn held(passed: usize) -> Self {
        Self {
            passed,
            failures: Vec::new(),
        }
    }

    /// One check that did not hold, and why; of that the beginning is kept.
    pub fn failed(why: &str) -> Self {
        let words = why.split_whitespace().collect::<Vec<_>>().join(" ");
        Self {
            passed: 0,
            failures: vec![words.chars().take(SHOWN).collect()],
        }
    }

    /// One check that held or not; `name` tells it from others.
    pub fn one(name: &str, held: bool) -> Self {
        if held {
            Self::held(1)
        } else {
            Self::failed(name)
        }
    }

    /// What the test program `name` said. One that ended badly without saying which tests failed (it crashed, say)
    /// counts as one failure; so does one without a result.
    pub fn of_tests(name: &str, output: &str, succeeded: bool) -> Self {
        let mut counts = Self::default();
        let mut told = None;
        for line in output.lines() {
            if let Some(rest) = line.trim().strip_prefix("test result: ") {
                counts.passed += number_before(rest, " passed");
                told = Some(told.unwrap_or(0) + number_before(rest, " failed"));
            }
        }
        for block in output.split("\n---- ").skip(1) {
            if let Some((test, said)) = block.split_once(" stdout ----\n") {
                counts += Self::failed(&format!("{name}: {test}: {}", reason(said)));
            }
        }
        let why = match told {
            None => "it ended without a result",
            Some(_) => "it failed without a word",
        };
        let at_least = told
            .unwrap_or(0)
            .max(usize::from(told.is_none() || !succeeded));
        while counts.failures.len() < at_least {
            counts += Self::failed(&format!("{name}: {why}"));
        }
        counts
    }
}

/// The place and the message of the panic in what a test said.
fn reason(said: &str) -> String {
    let lines = said
        .lines()
        .skip_while(|line| !line.contains("panicked at"));
    let lines = lines
        .take_while(|line| !line.starts_with("stack backtrace") && !line.starts_with("note: "));
    let text = lines.collect::<Vec<_>>().join(" ");
    let place = text
        .find("panicked at")
        .map_or(0, |at| at + "panicked at ".len());
    text[place.min(text.len())..].to_owned()
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failures.extend(other.failures);
    }
}

/// The number that stands right before `word` in `text`; 0 if there is none.
fn number_before(text: &str, word: &str) -> usize {
    text.find(word)
        .and_then(|at| text[..at].rsplit(|c: char| !c.is_ascii_digit()).next())
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0)
}

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// The step.
    pub name: String,
    /// How long it took.
    pub took: Duration,
    /// What came of it.
    pub counts: Counts,
}

/// All steps so far.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Add a step, and say at once if it failed.
    pub fn add(&mut self, row: Row) {
        if !row.counts.failures.is_empty() {
            println!("   FAILED: {}", row.name);
        }
        self.rows.push(row);
    }

    /// What held and what did not in all steps.
    pub fn totals(&self) -> Counts {
        let mut sum = Counts::default();
        for row in &self.rows {
            sum += row.counts.clone();
        }
        sum
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<48} {:>8} {:>7} {:>7}",
            "step", "seconds", "passed", "failed"
        )?;
        for row in &self.rows {
            let failed = row.counts.failures.len();
            let mark = if failed > 0 { "✗" } else { "" };
            writeln!(
                f,
                "{:<48} {:>8.1} {:>7} {:>7} {mark}",
                row.name,
                row.took.as_secs_f64(),
                row.counts.passed,
                failed
            )?;
        }
        // Last, since of a long output the end is what is kept.
        for row in &self.rows {
            for why in &row.counts.failures {
                writeln!(f, "✗ {}: {why}", row.name)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_summed_and_failures_named() {
        let output = "x\ntest result: ok. 3 passed; 0 failed; 0 ignored;\n\
                      \nfailures:\n\n---- a::b stdout ----\n\nthread 'a::b' (7) panicked at src/a.rs:5:1:\n\
                      one is not\n  two\nstack backtrace:\n 0: x\n\
                      \n---- c stdout ----\nError: \"none\"\n\n\nfailures:\n    a::b\n    c\n\n\
                      test result: FAILED. 4 passed; 2 failed; 0 ignored;";
        let counts = Counts::of_tests("shared: lib", output, false);
        assert_eq!(counts.passed, 7);
        let expected = [
            "shared: lib: a::b: src/a.rs:5:1: one is not two",
            "shared: lib: c:",
        ];
        assert_eq!(counts.failures, expected);
    }

    #[test]
    fn a_run_that_crashed_is_a_failure() {
        let counts = Counts::of_tests("x", "thread panicked", false);
        assert_eq!(counts.failures, ["x: it ended without a result"]);
    }

    #[test]
    fn a_program_may_hold_no_test() {
        let output = "test result: ok. 0 passed; 0 failed; 0 ignored;";
        assert_eq!(Counts::of_tests("x", output, true), Counts::default());
    }

    #[test]
    fn a_run_without_a_result_is_a_failure() {
        assert_eq!(Counts::of_tests("x", "", true).failures.len(), 1);
    }

    #[test]
    fn what_failed_stands_at_the_end() {
        let mut report = Report::default();
        for (name, counts) in [
            ("one", Counts::held(2)),
            ("two", Counts::failed("two\n is  not")),
        ] {
            report.add(Row {
                name: name.to_owned(),
                took: Duration::from_secs(1),
                counts,
            });
        }
        assert!(
            report.to_string().ends_with("✗ two: two is not\n"),
            "{report}"
        );
        assert_eq!(report.totals().passed, 2);
    }
}
