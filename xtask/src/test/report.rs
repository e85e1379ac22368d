//! The table of steps.

use std::fmt;
use std::ops::{Add, AddAssign};
use std::time::Duration;

/// How many checks of a step held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Held.
    pub passed: usize,
    /// Did not hold, or could not be run.
    pub failed: usize,
}

impl Counts {
    /// One check that held or not.
    pub fn one(held: bool) -> Self {
        Self {
            passed: usize::from(held),
            failed: usize::from(!held),
        }
    }

    /// The counts in the result lines of a test program. One that failed without saying how many tests failed
    /// (it crashed, say) counts as one failure; so does one without a result.
    pub fn of_tests(output: &str, succeeded: bool) -> Self {
        let mut counts = Self::default();
        let mut told = false;
        for line in output.lines() {
            let Some(rest) = line.trim().strip_prefix("test result: ") else {
                continue;
            };
            told = true;
            counts.passed += number_before(rest, " passed");
            counts.failed += number_before(rest, " failed");
        }
        if !told || (!succeeded && counts.failed == 0) {
            counts.failed += 1;
        }
        counts
    }
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
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
        if row.counts.failed > 0 {
            println!("   FAILED: {}", row.name);
        }
        self.rows.push(row);
    }

    /// Sums of all steps.
    pub fn totals(&self) -> Counts {
        let counts = self.rows.iter().map(|row| row.counts);
        counts.fold(Counts::default(), |sum, counts| sum + counts)
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
            let mark = if row.counts.failed > 0 { "✗" } else { "" };
            writeln!(
                f,
                "{:<48} {:>8.1} {:>7} {:>7} {mark}",
                row.name,
                row.took.as_secs_f64(),
                row.counts.passed,
                row.counts.failed
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_summed() {
        let output = "x\ntest result: ok. 3 passed; 0 failed; 0 ignored;\n\
                      test result: FAILED. 4 passed; 2 failed; 0 ignored;";
        assert_eq!(
            Counts::of_tests(output, false),
            Counts {
                passed: 7,
                failed: 2
            }
        );
    }

    #[test]
    fn a_run_that_crashed_is_a_failure() {
        assert_eq!(Counts::of_tests("thread panicked", false).failed, 1);
    }

    #[test]
    fn a_program_may_hold_no_test() {
        let output = "test result: ok. 0 passed; 0 failed; 0 ignored;";
        assert_eq!(Counts::of_tests(output, true), Counts::default());
    }

    #[test]
    fn a_run_without_a_result_is_a_failure() {
        assert_eq!(Counts::of_tests("", true).failed, 1);
    }
}
