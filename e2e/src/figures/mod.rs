//! Figures of docs/benchmarks.md, measured on a cluster with the operators installed.
//!
//! Nothing here asserts a time: figures are printed with the number of runs and their spread.

pub mod memory;
pub mod requests;
pub mod sets;

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use crate::scenarios::Context;
use crate::scenarios::kit::{READY, Sandbox};

/// Minimum, median and maximum of several runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Number of runs.
    pub runs: usize,
    /// Smallest.
    pub min: f64,
    /// Middle one; of an even number the lower of the two.
    pub median: f64,
    /// Largest.
    pub max: f64,
}

impl Spread {
    /// Of these values; `None` when there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            runs: sorted.len(),
            min: *sorted.first()?,
            median: *sorted.get((sorted.len() - 1) / 2)?,
            max: *sorted.last()?,
        })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.1} / {:.1} / {:.1} (n={})",
            self.min, self.median, self.max, self.runs
        )
    }
}

/// Seconds from applying a `Postgres` with three instances to `Ready=True` with all of them ready;
/// and to its first acknowledged write through the Service is not included.
///
/// # Errors
/// When a run does not become ready.
pub async fn creation(ctx: &Context, runs: usize) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    for run in 0..runs {
        let sandbox = Sandbox::new(ctx, &format!("figure-create-{run}")).await?;
        let begun = Instant::now();
        sandbox.postgres("db", &json!({"instances": 3})).await?;
        sandbox.settled("db", READY).await?;
        times.push(begun.elapsed());
        sandbox.remove().await?;
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_odd_number_is_the_middle_one() {
        let spread = Spread::of(&[3.0, 1.0, 2.0]);
        assert_eq!(
            spread,
            Some(Spread {
                runs: 3,
                min: 1.0,
                median: 2.0,
                max: 3.0
            })
        );
        assert_eq!(Spread::of(&[]), None);
    }
}
