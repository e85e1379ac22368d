//! Holding a Lease: who may act, and until when.
//!
//! [`machine`] is the rule, as a function of values; [`io`] is a thin loop around it for the
//! operators' leadership. Agents use the machine with their own durations and annotations.
//!
//! Guarantees, as long as clocks run at rates within `duration / deadline` of each other:
//! * No two holders at once. A candidate takes over only when it saw the Lease unchanged for a full
//!   `duration` on its own clock, and each write carries the resource version that the decision
//!   was made on. Wall clocks are compared with nothing.
//! * A holder knows itself when its time is over: `deadline`, counted from *before* it sent the
//!   last write that is known to have had effect.
//! * Each acquisition raises the epoch (the Lease's count of transitions), which is handed to the
//!   work as a fencing token.
//!
//! A Lease that someone deletes is made again by its live holder, or by a candidate: without holder,
//! and then all wait a full `duration`. So a first start takes that long unless whoever installs an
//! operator also makes its Lease, empty, which is taken at once.
//!
//! Caveats: the epoch starts anew when the Lease is deleted while nobody runs. Who deletes a Lease that
//! is held *and* makes an empty one invites two holders until the old one's next renewal.

pub mod clock;
pub mod io;
pub mod machine;

use std::time::Duration;

pub use io::{Config, End, Leadership, LostReason, lead};
pub use machine::{Action, Held, Input, Machine, Purpose, Seen, Write};

/// The three times of a Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// A candidate takes over a Lease that it saw unchanged for this long.
    pub duration: Duration,
    /// A holder stops when its last renewal was sent this long ago.
    pub deadline: Duration,
    /// A holder renews, and a candidate looks, this often.
    pub retry: Duration,
}

/// The times do not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// The holder would stop too late.
    #[error(
        "the deadline must leave at least a fifth of the duration for clocks that differ and for stopping"
    )]
    Deadline,
    /// One lost renewal would lose the Lease.
    #[error("the deadline must leave time for two attempts")]
    Retry,
    /// The API keeps whole seconds.
    #[error("the duration must be whole seconds, at least one")]
    Whole,
}

impl Timing {
    /// For the leadership among replicas of an operator.
    pub const OPERATOR: Self = Self {
        duration: Duration::from_secs(15),
        deadline: Duration::from_secs(10),
        retry: Duration::from_secs(2),
    };
    /// For the Lease of a set, held by an agent.
    pub const SET: Self = Self {
        duration: Duration::from_secs(6),
        deadline: Duration::from_secs(4),
        retry: Duration::from_secs(2),
    };

    /// Check that the times fit together.
    ///
    /// # Errors
    /// See [`TimingError`].
    pub fn check(self) -> Result<Self, TimingError> {
        if self.duration.subsec_nanos() != 0 || self.duration.is_zero() {
            Err(TimingError::Whole)
        } else if self.deadline > self.duration * 4 / 5 {
            Err(TimingError::Deadline)
        } else if self.retry * 2 > self.deadline {
            Err(TimingError::Retry)
        } else {
            Ok(self)
        }
    }
}

#[cfg(test)]
mod simulation;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_times_fit_together() {
        for timing in [Timing::OPERATOR, Timing::SET] {
            assert_eq!(timing.check(), Ok(timing));
        }
    }

    #[test]
    fn times_that_do_not_fit_are_refused() {
        let of = |duration: u64, deadline, retry| Timing {
            duration: Duration::from_millis(duration),
            deadline: Duration::from_millis(deadline),
            retry: Duration::from_millis(retry),
        };
        assert_eq!(of(1500, 1000, 100).check(), Err(TimingError::Whole));
        assert_eq!(of(5000, 4500, 100).check(), Err(TimingError::Deadline));
        assert_eq!(of(15000, 10000, 6000).check(), Err(TimingError::Retry));
    }
}
