//! How often a principal may ask: one token bucket per principal, as a single atomic number.
//!
//! The number is the moment at which the bucket would be full again ("theoretical arrival time"). A
//! request is let in while that moment is at most one burst away, and then pushes it further by its
//! cost. A batch is let in as one request and then charged for its further items, which are paid off
//! afterwards: batches work with small bursts and the long-term rate still holds. The map is bounded
//! by the policy: a bucket exists only for a principal the operator wrote down.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Nanoseconds of one second.
const SECOND_NS: u64 = 1_000_000_000;

/// How many requests a second, and how many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Long-term requests per second; at least 1.
    pub per_second: u32,
    /// Requests that may come at once after a pause; at least 1.
    pub burst: u32,
}

/// The principal is over its rate. Its own fault; retry after the time given. Nothing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("over the rate of {} requests per second", rate.per_second)]
pub struct RateLimited {
    /// The rate that was exceeded.
    pub rate: Rate,
    /// When the next request has a chance.
    pub retry_after: Duration,
}

/// One principal's bucket. Times are nanoseconds since any fixed moment; they never go back.
#[derive(Debug)]
pub struct Bucket {
    rate: Rate,
    full_at_ns: AtomicU64,
}

impl Bucket {
    /// A full bucket.
    pub const fn new(rate: Rate) -> Self {
        Self { rate, full_at_ns: AtomicU64::new(0) }
    }

    /// The rate it enforces.
    pub const fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes a token, or says when to come back. A refusal takes nothing.
    pub fn take(&self, now_ns: u64) -> Result<(), RateLimited> {
        let burst_ns = self.token_ns().saturating_mul(u64::from(self.rate.burst.max(1)));
        let mut full_at = self.full_at_ns.load(Ordering::Relaxed);
        loop {
            let next = full_at.max(now_ns).saturating_add(self.token_ns());
            let earliest_ns = next.saturating_sub(burst_ns);
            if earliest_ns > now_ns {
                let retry_after = Duration::from_nanos(earliest_ns - now_ns);
                return Err(RateLimited { rate: self.rate, retry_after });
            }
            match self.full_at_ns.compare_exchange_weak(full_at, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(seen) => full_at = seen,
            }
        }
    }

    /// Charges tokens of a request that was let in already; later requests wait until they are paid.
    pub fn charge(&self, tokens: usize) {
        let tokens = u64::try_from(tokens).unwrap_or(u64::MAX);
        self.full_at_ns.fetch_add(self.token_ns().saturating_mul(tokens), Ordering::Relaxed);
    }

    fn token_ns(&self) -> u64 {
        SECOND_NS / u64::from(self.rate.per_second.max(1))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_burst_then_the_rate() {
        let bucket = Bucket::new(Rate { per_second: 10, burst: 3 });
        let now = 5 * SECOND_NS;
        for _ in 0..3 {
            bucket.take(now).unwrap();
        }
        assert_eq!(bucket.take(now).unwrap_err().retry_after, Duration::from_millis(100));
        assert!(bucket.take(now + 99 * MS).is_err());
        bucket.take(now + 100 * MS).unwrap();
        assert!(bucket.take(now + 100 * MS).is_err());
        // After a long pause the burst is back, and no more than the burst.
        let later = now + 60 * SECOND_NS;
        assert_eq!((0..10).filter(|_| bucket.take(later).is_ok()).count(), 3);
    }

    #[test]
    fn a_batch_is_let_in_whole_and_paid_off_afterwards() {
        let bucket = Bucket::new(Rate { per_second: 10, burst: 2 });
        bucket.take(SECOND_NS).unwrap();
        bucket.charge(99);
        let refused = bucket.take(SECOND_NS).unwrap_err();
        assert_eq!(refused.retry_after, Duration::from_millis(9_900));
        bucket.take(SECOND_NS + 9_900 * MS).unwrap();
    }

    #[test]
    fn concurrent_callers_never_get_more_than_the_burst() {
        let bucket = Bucket::new(Rate { per_second: 1, burst: 50 });
        let taken: usize = std::thread::scope(|scope| {
            let take = || (0..100).filter(|_| bucket.take(SECOND_NS).is_ok()).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(taken, 50);
    }
}
