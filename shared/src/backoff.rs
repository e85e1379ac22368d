//! How long a failing object is left alone: longer after each failure, at once again after success.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How the delays grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Delay after the first failure.
    pub first: Duration,
    /// Longest delay.
    pub longest: Duration,
}

impl Default for Policy {
    /// Half a second, doubling up to a minute: what no watch tells, a quota that was raised for
    /// example, is noticed within that minute.
    fn default() -> Self {
        Self {
            first: Duration::from_millis(500),
            longest: Duration::from_mins(1),
        }
    }
}

impl Policy {
    /// Delay after this many failures in a row (from 1), given a chance in `0.0..1.0`: between half
    /// and all of a time that doubles with each failure.
    pub fn delay(self, failures: u32, chance: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(30);
        let full = self.first.saturating_mul(1 << doublings).min(self.longest);
        full.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
    }
}

/// Failures in a row, per object.
///
/// Assumption: objects that are gone are reported with [`Backoffs::succeeded`], so it does not grow.
#[derive(Debug)]
pub struct Backoffs<K> {
    policy: Policy,
    failures: Mutex<HashMap<K, u32>>,
}

impl<K: Eq + Hash> Backoffs<K> {
    /// None have failed yet.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            failures: Mutex::new(HashMap::new()),
        }
    }

    /// A pass failed: how long to wait before the next.
    pub fn failed(&self, key: K) -> Duration {
        let count = {
            let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
            let count = failures.entry(key).or_default();
            *count = count.saturating_add(1);
            *count
        };
        self.policy.delay(count, chance())
    }

    /// A pass succeeded, or the object is gone.
    pub fn succeeded(&self, key: &K) {
        self.failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key);
    }

    /// How many objects fail at present.
    pub fn len(&self) -> usize {
        self.failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Whether none fails.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A chance in `0.0..1.0`; without random bytes always the same, which costs only the spread.
fn chance() -> f64 {
    getrandom::u32().map_or(0.5, |n| f64::from(n) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest() {
        let policy = Policy::default();
        let millis: Vec<u128> = (1..=9).map(|n| policy.delay(n, 1.0).as_millis()).collect();
        assert_eq!(
            millis,
            [500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000]
        );
        assert_eq!(policy.delay(u32::MAX, 1.0), policy.longest);
    }

    #[test]
    fn chance_spreads_over_half_of_the_delay() {
        let policy = Policy::default();
        assert_eq!(policy.delay(3, 0.0), Duration::from_secs(1));
        assert_eq!(policy.delay(3, 0.5), Duration::from_millis(1500));
    }

    #[test]
    fn objects_count_apart_and_success_resets() {
        let all = Backoffs::new(Policy::default());
        for _ in 0..5 {
            all.failed("a");
        }
        assert!(all.failed("a") >= Duration::from_secs(8));
        assert!(all.failed("b") <= Duration::from_secs(1));
        assert_eq!(all.len(), 2);
        all.succeeded(&"a");
        assert!(all.failed("a") <= Duration::from_secs(1));
    }
}
