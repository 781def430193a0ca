//! How often one may ask: one token bucket per principal, and per key where the operator wants it, each a
//! single atomic number.
//!
//! The number is the moment at which the bucket would be full again ("theoretical arrival time"). A
//! request is let in while that moment is at most one burst away, and then pushes it further by its
//! cost. A batch is let in as one request and then charged for its further items, which are paid off
//! afterwards: batches work with small bursts and the long-term rate still holds. The maps are bounded
//! by the policy: a bucket exists only for a principal or key the operator wrote down.
//!
//! | bucket | whose requests | charged |
//! |---|---|---|
//! | the principal's | all of one principal's | always |
//! | the key's | everybody's for one key, together | if the key has a rate, and the principal none of its own for it |
//! | the pair's | one principal's for one key | instead of the key's |

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chancery_format::{Kid, PrincipalName};

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

/// Whose requests a bucket counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// All of one principal's.
    Principal,
    /// Everybody's for one key.
    Key,
    /// One principal's for one key.
    Pair,
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Principal => "over the rate",
            Self::Key => "the callers of this key are together over its rate",
            Self::Pair => "over the rate for this key",
        })
    }
}

/// A bucket is empty. The fault of the principal, or of those who use the key with it; retry after the time
/// given. Nothing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{whose} of {} requests per second", rate.per_second)]
pub struct RateLimited {
    /// Whose rate it is.
    pub whose: Whose,
    /// The rate that was exceeded.
    pub rate: Rate,
    /// When the next request has a chance.
    pub retry_after: Duration,
}

/// One bucket. Times are nanoseconds since any fixed moment; they never go back.
#[derive(Debug)]
pub struct Bucket {
    rate: Rate,
    whose: Whose,
    full_at_ns: AtomicU64,
}

impl Bucket {
    /// A principal's, full.
    pub const fn new(rate: Rate) -> Self {
        Self::counting(Whose::Principal, rate)
    }

    /// Full, for these requests.
    pub const fn counting(whose: Whose, rate: Rate) -> Self {
        Self { rate, whose, full_at_ns: AtomicU64::new(0) }
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
                return Err(RateLimited { whose: self.whose, rate: self.rate, retry_after });
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

/// How often a key may be used, as the operator wrote it down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRate {
    /// The key.
    pub kid: Kid,
    /// For this principal instead of what holds for everybody together; `None` is everybody.
    pub principal: Option<PrincipalName>,
    /// How often.
    pub rate: Rate,
}

/// One key's rate for the same principal, or for everybody, is written down twice. The operator is at fault;
/// the rates in force stay.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("two rates for key {kid}{}", principal.as_ref().map(|name| format!(" and principal {name}")).unwrap_or_default())]
pub struct DuplicateRate {
    /// The key.
    pub kid: Kid,
    /// The principal, if it is a rate of its own.
    pub principal: Option<PrincipalName>,
}

/// The buckets of keys: immutable but for what is in them, swapped whole.
#[derive(Debug, Default)]
pub struct KeyBuckets {
    by_kid: HashMap<Kid, OfKey>,
}

#[derive(Debug, Default)]
struct OfKey {
    everybody: Option<Arc<Bucket>>,
    own: HashMap<PrincipalName, Arc<Bucket>>,
}

impl KeyBuckets {
    /// Makes the buckets; says every rate that is written down twice. Those whose rate did not change are
    /// taken over from before, so a reload gives nobody a fresh burst.
    pub fn compile(rates: &[KeyRate], before: Option<&Self>) -> Result<Self, Vec<DuplicateRate>> {
        let mut buckets = Self::default();
        let mut twice = Vec::new();
        for KeyRate { kid, principal, rate } in rates {
            let carried = before.and_then(|before| before.at(kid, principal.as_ref()));
            let carried = carried.filter(|bucket| bucket.rate == *rate).map(Arc::clone);
            let whose = if principal.is_some() { Whose::Pair } else { Whose::Key };
            let bucket = carried.unwrap_or_else(|| Arc::new(Bucket::counting(whose, *rate)));
            let of_key = buckets.by_kid.entry(kid.clone()).or_default();
            let other = match principal {
                Some(principal) => of_key.own.insert(principal.clone(), bucket),
                None => of_key.everybody.replace(bucket),
            };
            if other.is_some() {
                twice.push(DuplicateRate { kid: kid.clone(), principal: principal.clone() });
            }
        }
        if twice.is_empty() { Ok(buckets) } else { Err(twice) }
    }

    /// The one bucket for a principal's use of a key: its own if it has one, else the key's; `None` if the key
    /// is not limited.
    pub fn bucket(&self, principal: &PrincipalName, kid: &Kid) -> Option<&Bucket> {
        let of_key = self.by_kid.get(kid)?;
        of_key.own.get(principal).or(of_key.everybody.as_ref()).map(Arc::as_ref)
    }

    /// Takes a token of that bucket, beside the principal's own, or says when to come back.
    pub fn take(&self, principal: &PrincipalName, kid: &Kid, now_ns: u64) -> Result<(), RateLimited> {
        self.bucket(principal, kid).map_or(Ok(()), |bucket| bucket.take(now_ns))
    }

    /// Exactly what is written down for a key, by whose it is.
    fn at(&self, kid: &Kid, principal: Option<&PrincipalName>) -> Option<&Arc<Bucket>> {
        let of_key = self.by_kid.get(kid)?;
        match principal {
            Some(principal) => of_key.own.get(principal),
            None => of_key.everybody.as_ref(),
        }
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

    fn rate(kid: &str, principal: Option<&str>, per_second: u32) -> KeyRate {
        let principal = principal.map(|name| name.parse().unwrap());
        KeyRate { kid: kid.parse().unwrap(), principal, rate: Rate { per_second, burst: per_second } }
    }

    /// How many of a hundred at once get through.
    fn burst(buckets: &KeyBuckets, principal: &str, kid: &str, now_ns: u64) -> usize {
        let (principal, kid) = (principal.parse().unwrap(), kid.parse().unwrap());
        (0..100).filter(|_| buckets.take(&principal, &kid, now_ns).is_ok()).count()
    }

    #[test]
    fn a_key_is_shared_by_all_but_those_with_a_rate_of_their_own() {
        let rates =
            [rate("orders", None, 10), rate("orders", Some("big"), 30), rate("tags", Some("small"), 2)];
        let buckets = KeyBuckets::compile(&rates, None).unwrap();
        let at = |principal, kid| burst(&buckets, principal, kid, SECOND_NS);
        assert_eq!(at("a", "orders"), 10);
        assert_eq!(at("b", "orders"), 0, "the key's bucket is everybody's");
        assert_eq!(at("big", "orders"), 30, "which others have emptied does not matter to it");
        assert_eq!((at("small", "tags"), at("a", "tags"), at("a", "other")), (2, 100, 100));
        let told = |principal: &str, kid: &str| {
            let refused =
                buckets.take(&principal.parse().unwrap(), &kid.parse().unwrap(), SECOND_NS).unwrap_err();
            (refused.whose, refused.to_string())
        };
        let of_key = "the callers of this key are together over its rate of 10 requests per second";
        assert_eq!(told("a", "orders"), (Whose::Key, of_key.to_owned()));
        assert_eq!(
            told("big", "orders"),
            (Whose::Pair, "over the rate for this key of 30 requests per second".to_owned())
        );
        let principal = Bucket::new(Rate { per_second: 1, burst: 1 });
        principal.take(SECOND_NS).unwrap();
        let refused = principal.take(SECOND_NS).unwrap_err();
        assert_eq!(refused.to_string(), "over the rate of 1 requests per second");
    }

    #[test]
    fn a_reload_keeps_what_did_not_change_and_refuses_two_rates_for_one() {
        let (same, changed) = (rate("orders", None, 10), rate("orders", Some("big"), 30));
        let before = KeyBuckets::compile(&[same.clone(), changed], None).unwrap();
        assert_eq!(
            (burst(&before, "a", "orders", SECOND_NS), burst(&before, "big", "orders", SECOND_NS)),
            (10, 30)
        );
        let rates = [same.clone(), rate("orders", Some("big"), 40), rate("tags", None, 5)];
        let after = KeyBuckets::compile(&rates, Some(&before)).unwrap();
        let at = |principal, kid| burst(&after, principal, kid, SECOND_NS);
        assert_eq!((at("a", "orders"), at("big", "orders"), at("a", "tags")), (0, 40, 5));
        // The pair's bucket is not the key's, whatever their rates.
        let own = KeyBuckets::compile(&[rate("orders", Some("a"), 10)], Some(&before)).unwrap();
        assert_eq!(burst(&own, "a", "orders", SECOND_NS), 10);
        let big = rate("tags", Some("big"), 1);
        let twice =
            KeyBuckets::compile(&[same.clone(), big.clone(), same, big.clone(), big], None).unwrap_err();
        let said: Vec<String> = twice.iter().map(ToString::to_string).collect();
        let of_pair = "two rates for key tags and principal big";
        assert_eq!(said, ["two rates for key orders", of_pair, of_pair]);
    }
}
