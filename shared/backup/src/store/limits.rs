//! How much of the network, and of memory, a repository may use at a time.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Bytes of a part of an upload. S3 asks for 5 MiB at least, and takes 10 000 parts of an object.
pub const PART: usize = 6 << 20;

/// What is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes in a second, both ways together. `None`: as fast as it goes.
    pub bytes_per_second: Option<NonZeroU64>,
    /// Requests that carry contents, at a time.
    pub concurrency: usize,
}

impl Limits {
    /// Parts in memory at a time: those on their way, and one that is being filled.
    ///
    /// With the default concurrency that is 24 MiB, which leaves the rest of the 64 MiB that a repository may
    /// take for compression, and for what the network holds.
    pub fn buffers(&self) -> usize {
        self.concurrency.max(1) + 1
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes_per_second: None,
            concurrency: 3,
        }
    }
}

/// Keeps to the limits, for everything that uses one store.
#[derive(Debug)]
pub struct Budget {
    rate: Option<Mutex<Bucket>>,
    requests: Arc<Semaphore>,
    buffers: Arc<Semaphore>,
}

impl Budget {
    /// With these limits.
    pub fn new(limits: Limits) -> Self {
        let bucket = |rate| Mutex::new(Bucket::new(rate, Instant::now()));
        Self {
            rate: limits.bytes_per_second.map(bucket),
            requests: Arc::new(Semaphore::new(limits.concurrency.max(1))),
            buffers: Arc::new(Semaphore::new(limits.buffers())),
        }
    }

    /// Waits until so many bytes may pass.
    pub async fn pass(&self, bytes: usize) {
        let Some(rate) = &self.rate else { return };
        let wait = rate.lock().await.take(bytes as u64, Instant::now());
        tokio::time::sleep(wait).await;
    }

    /// Waits for the turn to make a request; held until it is answered.
    pub async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.requests).acquire_owned().await.ok()
    }

    /// Waits for room for a part; held until the part is stored.
    ///
    /// Nobody who holds a part waits for another before the first is full and on its way, so this ends.
    pub async fn buffer(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.buffers).acquire_owned().await.ok()
    }
}

/// A bucket of tokens: who takes more than there are waits until they would have come.
#[derive(Debug)]
struct Bucket {
    rate: NonZeroU64,
    /// When the last byte that was let pass will have been paid for.
    paid_until: Instant,
}

impl Bucket {
    fn new(rate: NonZeroU64, now: Instant) -> Self {
        Self {
            rate,
            paid_until: now,
        }
    }

    /// How long to wait before these bytes may pass. They count from here on.
    fn take(&mut self, bytes: u64, now: Instant) -> Duration {
        // What was not used is not saved up: a pause is no reason for a burst.
        let from = self.paid_until.max(now);
        #[expect(
            clippy::cast_precision_loss,
            reason = "of bytes in a second, the first 52 bits are enough"
        )]
        let price = Duration::from_secs_f64(bytes as f64 / self.rate.get() as f64);
        self.paid_until = from + price;
        from - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(bytes: u64) -> NonZeroU64 {
        NonZeroU64::new(bytes).unwrap()
    }

    #[test]
    fn the_first_passes_at_once_and_the_next_waits() {
        let now = Instant::now();
        let mut bucket = Bucket::new(rate(100), now);
        assert_eq!(bucket.take(50, now), Duration::ZERO);
        assert_eq!(bucket.take(50, now), Duration::from_millis(500));
        let later = now + Duration::from_secs(60);
        assert_eq!(bucket.take(100, later), Duration::ZERO, "nothing is owed");
        assert_eq!(
            bucket.take(1, later),
            Duration::from_secs(1),
            "nothing was saved up"
        );
    }

    proptest! {
        #[test]
        fn never_faster_than_allowed(sizes in prop::collection::vec((1_u64..1000, 0_u64..300), 2..50)) {
            let begin = Instant::now();
            let (mut now, mut bucket, mut passed) = (begin, Bucket::new(rate(1000), begin), 0);
            for (bytes, pause) in sizes {
                now += Duration::from_millis(pause);
                now += bucket.take(bytes, now);
                // When these bytes begin to pass, all before them have had their time.
                prop_assert!(now - begin + Duration::from_millis(1) >= Duration::from_millis(passed));
                passed += bytes;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_budget_holds_for_all_that_share_it() {
        let budget = Arc::new(Budget::new(Limits {
            bytes_per_second: Some(rate(1000)),
            concurrency: 2,
        }));
        let begin = Instant::now();
        let all = (0..5).map(|_| {
            let budget = Arc::clone(&budget);
            tokio::spawn(async move { budget.pass(1000).await })
        });
        futures::future::join_all(all).await;
        assert_eq!(
            begin.elapsed().as_secs(),
            4,
            "the first second is paid by those who come next"
        );
        let (_first, _second) = (budget.turn().await, budget.turn().await);
        let third = tokio::time::timeout(Duration::from_secs(1), budget.turn()).await;
        assert!(third.is_err(), "a third request at a time");
    }
}
