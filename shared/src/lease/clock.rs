//! The clock that leases are measured on.

use std::time::Duration;

use jiff::Timestamp;

/// A moment on one's own clock: time since an origin that never changes. Moments of different
/// machines are never compared.
pub type Moment = Duration;

/// Where a holder reads the time.
pub trait Clock: Send + Sync {
    /// Now, on a clock that never steps and goes on while the machine sleeps.
    fn now(&self) -> Moment;
    /// Now, for people to read. No decision depends on it.
    fn wall(&self) -> Timestamp;
}

/// The machine's clock: `CLOCK_BOOTTIME`, since a machine that slept must not believe that its
/// lease did too.
#[derive(Clone, Copy, Debug, Default)]
pub struct Boottime;

impl Clock for Boottime {
    fn now(&self) -> Moment {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
        Duration::new(seconds, nanos)
    }

    fn wall(&self) -> Timestamp {
        Timestamp::now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_runs_forward() {
        let first = Boottime.now();
        std::thread::sleep(Duration::from_millis(2));
        assert!(Boottime.now() >= first + Duration::from_millis(2));
    }
}
