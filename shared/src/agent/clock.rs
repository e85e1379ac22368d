//! The clock of leases and watchdogs. I/O.

use std::time::Duration;

/// Time since the machine's boot, time asleep included. It never goes back.
pub fn boottime() -> Duration {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(
        u64::try_from(t.tv_sec).unwrap_or(0),
        u32::try_from(t.tv_nsec).unwrap_or(0),
    )
}
