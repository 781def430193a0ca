//! How much may be used at all: so much a day per principal or key, so much in a key pair's whole life.
//!
//! A day is a UTC day. Day and count of a name are one atomic number, so that however many ask at once, no
//! more than the limit get a yes, and midnight is one step. A clock that is set back, or a request that was
//! late for midnight, gives nobody a second day: it counts for the later one.
//!
//! Nothing here is stored. Whoever starts the daemon counts again what the ledger has, and says so by
//! `restore`; that adds to what was taken meanwhile, so a use may count twice but never not at all. Limits
//! come with each call: a new policy needs nothing moved.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use chancery_format::Timestamp;

const MS_PER_DAY: u64 = 86_400_000;
/// The count is the lower part of the number, the day the rest: 4·10¹² uses, and days beyond the year 9999.
const COUNT_BITS: u32 = 42;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;

/// The quota of the day is used up, or there is no room to count one more name today. The caller's fault, or
/// the operator's who set it; retry when the next day begins. Nothing was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the daily quota of {limit} is used up")]
pub struct QuotaExceeded {
    /// Uses per day.
    pub limit: u64,
    /// Seconds until there is a new quota, rounded up; more than a day if the clock was set back.
    pub resets_in_s: u64,
}

/// More names are counted than there may be. The operator's fault: the bound is below what is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no more than {names_max} names can have a daily quota")]
pub struct TooManyNames {
    /// The bound.
    pub names_max: usize,
}

/// The key pair has been used as often as it may ever be. The operator's fault; do not retry: the key must be
/// rotated, or its limit raised. Nothing was taken, and the key was not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key pair's limit of {limit} uses is reached")]
pub struct KeyExhausted {
    /// Uses in its whole life.
    pub limit: u64,
}

/// A UTC day, counted from 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(u64);

impl Day {
    /// The day a moment is in.
    pub fn of(moment: Timestamp) -> Self {
        Self(unix_ms(moment) / MS_PER_DAY)
    }

    /// Seconds from `now` to its end, rounded up.
    fn ends_in_s(self, now: Timestamp) -> u64 {
        ((self.0 + 1) * MS_PER_DAY).saturating_sub(unix_ms(now)).div_ceil(1_000)
    }
}

fn unix_ms(moment: Timestamp) -> u64 {
    u64::try_from(moment.unix_ms()).unwrap_or(0) // no timestamp is before 1970
}

/// Uses of the day, per name: of principals in one, of keys in another.
#[derive(Debug)]
pub struct Quotas<N> {
    names_max: usize,
    /// Written to only when a name is new. Counts change under the read lock, so that none is changed while
    /// its name is being removed.
    counts: RwLock<Counts<N>>,
}

#[derive(Debug)]
struct Counts<N> {
    by_name: HashMap<N, DayCount>,
    /// Counts of days before this one may have been removed, so nothing new is counted there.
    since: Day,
}

impl<N: Hash + Eq + Clone> Quotas<N> {
    /// Nothing used. At most `names_max` names are counted in one day.
    pub fn new(names_max: usize) -> Self {
        let counts = Counts { by_name: HashMap::new(), since: Day(0) };
        Self { names_max, counts: RwLock::new(counts) }
    }

    /// Takes one use of the day, or says when the next day begins. A refusal takes nothing.
    pub fn take_daily(&self, name: &N, limit: u64, now: Timestamp) -> Result<(), QuotaExceeded> {
        let today = Day::of(now);
        let taken = self.with(name, today, |count| count.take(today, limit));
        match taken {
            Ok(Ok(())) => Ok(()),
            Ok(Err(day)) => Err(QuotaExceeded { limit, resets_in_s: day.ends_in_s(now) }),
            Err(TooManyNames { .. }) => Err(QuotaExceeded { limit, resets_in_s: today.ends_in_s(now) }),
        }
    }

    /// Gives back a use that did not happen, of the day it was taken on. Once per use.
    pub fn give_back(&self, name: &N, taken_on: Day) {
        if let Some(count) = self.read().by_name.get(name) {
            count.give_back(taken_on);
        }
    }

    /// Adds what the ledger says was used on `day` before this started. Once per name.
    pub fn restore(&self, name: &N, day: Day, count: u64) -> Result<(), TooManyNames> {
        self.with(name, day, |counter| counter.add(day, count))
    }

    /// Uses of the day so far.
    pub fn used(&self, name: &N, now: Timestamp) -> u64 {
        self.read().by_name.get(name).map_or(0, |count| count.used(Day::of(now)))
    }

    fn read(&self) -> RwLockReadGuard<'_, Counts<N>> {
        self.counts.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on the count of a name, making one if there is none. Counts of days gone by make room.
    fn with<T>(&self, name: &N, today: Day, work: impl FnOnce(&DayCount) -> T) -> Result<T, TooManyNames> {
        let counts = self.read();
        if let Some(count) = counts.by_name.get(name) {
            return Ok(work(count));
        }
        drop(counts);
        let mut counts = self.counts.write().unwrap_or_else(PoisonError::into_inner);
        let Counts { by_name, since } = &mut *counts;
        if by_name.len() >= self.names_max && !by_name.contains_key(name) {
            *since = today.max(*since);
            by_name.retain(|_, count| count.day() >= *since);
            if by_name.len() >= self.names_max {
                return Err(TooManyNames { names_max: self.names_max });
            }
        }
        Ok(work(by_name.entry(name.clone()).or_insert_with(|| DayCount::starting(*since))))
    }
}

/// A day and how much was used on it, in one number. The day never goes back.
#[derive(Debug)]
struct DayCount(AtomicU64);

const fn packed(day: Day, count: u64) -> u64 {
    day.0 << COUNT_BITS | if count < COUNT_MAX { count } else { COUNT_MAX }
}

const fn unpacked(number: u64) -> (Day, u64) {
    (Day(number >> COUNT_BITS), number & COUNT_MAX)
}

impl DayCount {
    const fn starting(day: Day) -> Self {
        Self(AtomicU64::new(packed(day, 0)))
    }

    fn day(&self) -> Day {
        unpacked(self.0.load(Ordering::Relaxed)).0
    }

    fn used(&self, today: Day) -> u64 {
        let (day, count) = unpacked(self.0.load(Ordering::Relaxed));
        if day >= today { count } else { 0 }
    }

    /// `Err` is the day whose quota is used up.
    fn take(&self, today: Day, limit: u64) -> Result<(), Day> {
        let one_more = |number| {
            let (day, count) = at_least(today, number);
            (count < limit.min(COUNT_MAX)).then(|| packed(day, count + 1))
        };
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.map(|_| ()).map_err(|number| at_least(today, number).0)
    }

    fn give_back(&self, taken_on: Day) {
        let one_less = |number| {
            let (day, count) = unpacked(number);
            (day == taken_on && count > 0).then(|| packed(day, count - 1))
        };
        // Of another day, it changes nothing any more.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
    }

    fn add(&self, of: Day, more: u64) {
        let sum = |number| {
            let (day, count) = at_least(of, number);
            (day == of).then(|| packed(day, count.saturating_add(more)))
        };
        // An earlier day than the one being counted is over.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum);
    }
}

/// The number's day and count, or the start of `today` if that is later.
fn at_least(today: Day, number: u64) -> (Day, u64) {
    let (day, count) = unpacked(number);
    if day < today { (today, 0) } else { (day, count) }
}

/// Uses of one key pair in its whole life. Whoever knows a `signer_kid` holds one for it.
#[derive(Debug, Default)]
pub struct KeyUsage(AtomicU64);

/// One use that was taken. Keeping or dropping it changes nothing; a use that did not happen is given back.
#[derive(Debug)]
#[must_use = "a use that does not happen must be given back"]
pub struct TakenUse(());

impl KeyUsage {
    /// Takes one use, before the key is asked.
    pub fn take(&self, limit: u64) -> Result<TakenUse, KeyExhausted> {
        let one_more = |used| (used < limit).then(|| used + 1);
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.map(|_| TakenUse(())).map_err(|_| KeyExhausted { limit })
    }

    /// Gives back a use of this key pair that certainly did not happen. One that may have happened stays taken.
    pub fn give_back(&self, _unused: TakenUse) {
        let one_less = |used: u64| used.checked_sub(1);
        // It was taken here, so there is one to give back.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
    }

    /// Adds what the ledger says was used before this started. Once.
    pub fn restore(&self, count: u64) {
        let sum = |used: u64| Some(used.saturating_add(count));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum);
    }

    /// Uses so far.
    pub fn used(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
