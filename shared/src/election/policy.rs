//! What is asked of a set, and its times.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What an acknowledgement is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Durability {
    /// W voters have flushed it. When too few are there, writes wait.
    Required,
    /// The same; when too few are there, the promise is suspended, which is recorded first.
    Preferred,
    /// The primary has flushed it.
    Async,
}

/// The times of an election. All are counted on the own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// A Lease that was seen unchanged for so long is free. Also how long a fail-safe promise
    /// binds the one who gave it, and how long a restarted agent keeps still.
    pub duration: Duration,
    /// A holder stops so long after it sent its last successful renewal. Also how long it counts on
    /// a fail-safe promise.
    pub deadline: Duration,
    /// Renewals, and questions to peers, are sent so often.
    pub renew: Duration,
    /// A local health check older than this renews nothing.
    pub health: Duration,
    /// The candidate of rank n waits n times as long before it stands.
    pub stagger: Duration,
    /// How long replicas may be missing before `Preferred` suspends, or `Required` yields to
    /// voters that reach one another.
    pub patience: Duration,
    /// How long a planned hand-over may take to stop the engine in order.
    pub stop: Duration,
}

/// The times do not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// The holder would stop too late for clocks that differ.
    #[error("the deadline must be at most three quarters of the lease's duration")]
    Deadline,
    /// One lost renewal would lose the Lease.
    #[error("the deadline must leave time for two renewals")]
    Renew,
    /// A holder would renew on a health check from before the time it may hold.
    #[error("the age of a health check must not exceed the deadline")]
    Health,
    /// The API keeps whole seconds.
    #[error("the lease's duration must be whole seconds, at least one")]
    Whole,
}

impl Timing {
    /// The defaults.
    pub const DEFAULT: Self = Self {
        duration: Duration::from_secs(6),
        deadline: Duration::from_secs(4),
        renew: Duration::from_secs(2),
        health: Duration::from_secs(4),
        stagger: Duration::from_millis(150),
        patience: Duration::from_secs(10),
        stop: Duration::from_secs(30),
    };

    /// Check that they fit together.
    ///
    /// # Errors
    /// See [`TimingError`].
    pub fn check(self) -> Result<Self, TimingError> {
        if self.duration.subsec_nanos() != 0 || self.duration.is_zero() {
            Err(TimingError::Whole)
        } else if self.deadline * 4 > self.duration * 3 {
            Err(TimingError::Deadline)
        } else if self.renew * 2 > self.deadline || self.renew.is_zero() {
            Err(TimingError::Renew)
        } else if self.health > self.deadline {
            Err(TimingError::Health)
        } else {
            Ok(self)
        }
    }
}

/// What is asked of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// What an acknowledgement is worth.
    pub durability: Durability,
    /// Whether voters must be in another zone than the primary.
    pub across_zones: bool,
    /// Where commits do not wait: a candidate further behind the last published position than
    /// this does not stand. Bytes.
    pub max_lag: u64,
    /// The times.
    pub timing: Timing,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_fit_together_and_bad_times_are_refused() {
        assert!(Timing::DEFAULT.check().is_ok());
        let with = |change: fn(&mut Timing)| {
            let mut timing = Timing::DEFAULT;
            change(&mut timing);
            timing.check().unwrap_err()
        };
        let second = Duration::from_secs;
        assert_eq!(with(|t| t.deadline = second_5()), TimingError::Deadline);
        assert_eq!(with(|t| t.renew = second_5()), TimingError::Renew);
        assert_eq!(with(|t| t.health = second_5()), TimingError::Health);
        assert_eq!(with(|t| t.duration = Duration::ZERO), TimingError::Whole);
        assert_eq!(second(5), second_5());
    }

    fn second_5() -> Duration {
        Duration::from_secs(5)
    }
}
