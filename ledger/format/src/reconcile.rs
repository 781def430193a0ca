//! What the ledger says was done with each key, held against what devices say they did.
//!
//! A device or service that keeps its own record gives away every use of a key that did not come from us.
//! So each of its operations must have an entry: an issued signature, or one that says the key may have been
//! used although nothing came out (failed with `keyUse` `unknown`, abandoned, an intent that is still open).
//! One operation too many means that somebody used the key behind our back. One too few means that the
//! record is not whole.
//!
//! A MAC is computed twice, because nothing else can check it, so its entry accounts for two operations.

use std::collections::BTreeMap;

use crate::algorithm::SignatureAlgorithm;
use crate::committed::{CheckingPayload, FailedPayload, IssuedPayload};
use crate::entry::{Intent, KeyUse, event_type};
use crate::event::AuditEvent;
use crate::governance::Testing;

/// `signer.testing`
const TESTING: &str = "signer.testing";

/// What one entry accounts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Index of the entry; `None` for an open intent.
    pub index: Option<u64>,
    /// Milliseconds since 1970, by the ledger's clock, when the operation had ended; `None` for an open intent.
    pub ts_ms: Option<i64>,
    /// Operations it accounts for.
    pub operations: u64,
    /// Whether they must have happened, or only may have.
    pub certain: bool,
}

/// What the ledger claims of every key pair, in the ledger's order.
#[derive(Debug, Clone, Default)]
pub struct Claims {
    by_signer: BTreeMap<String, Vec<Claim>>,
}

/// A leaf that speaks of a key use and cannot be read. In a ledger: corruption; verify it first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("entry {0} speaks of a key use and cannot be read")]
pub struct Unreadable(pub u64);

impl Claims {
    /// Takes note of one leaf.
    pub fn read(&mut self, index: u64, event: &AuditEvent<'_>) -> Result<(), Unreadable> {
        let certain = match event.event_type {
            event_type::ISSUED => true,
            event_type::FAILED | event_type::ABANDONED | event_type::CHECKING | TESTING => false,
            _ => return Ok(()),
        };
        let uses = match event.event_type {
            event_type::ISSUED => issued(event.payload),
            event_type::CHECKING => checking(event.payload),
            TESTING => testing(event.payload),
            _ => failed(event.payload),
        };
        for (signer_kid, operations) in uses.ok_or(Unreadable(index))? {
            let (index, ts_ms) = (Some(index), Some(event.ts.unix_ms()));
            let claim = Claim { index, ts_ms, operations, certain };
            self.by_signer.entry(signer_kid).or_default().push(claim);
        }
        Ok(())
    }

    /// Takes note of a key use that was announced and has not ended.
    pub fn open(&mut self, intent: &Intent) {
        let parts = intent.parts();
        let second = parts.co_signer.as_ref().map(|second| (&second.signer_kid, second.algorithm));
        for (signer_kid, algorithm) in [(&parts.signer_kid, parts.algorithm)].into_iter().chain(second) {
            let claim = Claim { index: None, ts_ms: None, operations: operations(algorithm), certain: false };
            self.by_signer.entry(signer_kid.as_str().to_owned()).or_default().push(claim);
        }
    }

    /// What was claimed of one key pair.
    pub fn of(&self, signer_kid: &str) -> &[Claim] {
        self.by_signer.get(signer_kid).map(Vec::as_slice).unwrap_or_default()
    }

    /// Key pairs of which anything was claimed.
    pub fn signers(&self) -> impl Iterator<Item = &str> {
        self.by_signer.keys().map(String::as_str)
    }
}

/// How often a device is asked for one result of this algorithm.
const fn operations(algorithm: SignatureAlgorithm) -> u64 {
    if algorithm.is_mac() { 2 } else { 1 }
}

fn named(algorithm: &str, signer_kid: &str) -> Option<(String, u64)> {
    Some((signer_kid.to_owned(), operations(algorithm.parse().ok()?)))
}

fn issued(payload: &str) -> Option<Vec<(String, u64)>> {
    let payload = IssuedPayload::parse(payload)?;
    let mut uses = vec![named(payload.algorithm, payload.signer_kid)?];
    if let Some(second) = &payload.co_signer {
        uses.push(named(second.algorithm, second.signer_kid)?);
    }
    Some(uses)
}

/// A MAC is checked by computing it once.
fn checking(payload: &str) -> Option<Vec<(String, u64)>> {
    let payload: CheckingPayload<'_> = serde_json::from_str(payload).ok()?;
    Some(vec![(payload.signer_kid.to_owned(), 1)])
}

/// A key that is tried before it goes into use.
fn testing(payload: &str) -> Option<Vec<(String, u64)>> {
    let payload: Testing = serde_json::from_str(payload).ok()?;
    Some(vec![(payload.signer_kid.as_str().to_owned(), operations(payload.algorithm))])
}

fn failed(payload: &str) -> Option<Vec<(String, u64)>> {
    let payload = FailedPayload::parse(payload)?;
    if payload.key_use == KeyUse::None.as_str() {
        return Some(Vec::new());
    }
    let mut uses = vec![named(payload.algorithm, payload.signer_kid)?];
    if let Some(second) = &payload.co_signer {
        uses.push(named(second.algorithm, second.signer_kid)?);
    }
    Some(uses)
}

/// How a device's record and the ledger agree about one key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Balance {
    /// Operations of the device.
    pub operations: u64,
    /// Operations with an entry that says they happened.
    pub matched: u64,
    /// Operations with an entry that says they may have happened.
    pub explained: u64,
    /// Operations without an entry: positions in the device's record. Somebody else used the key.
    pub surplus: Vec<usize>,
    /// Entries that say an operation happened which the device's record does not have.
    pub missing: Vec<u64>,
}

impl Balance {
    /// Whether every operation has an entry and every issued signature an operation.
    pub fn is_even(&self) -> bool {
        self.surplus.is_empty() && self.missing.is_empty()
    }
}

/// Close enough to be the same moment: a device's clock in whole seconds, and an outcome enrolled within one.
const NEAR_MS: i64 = 1_000;

/// Matches operations that carry a time to claims, one to one, in order, none further than
/// `window_ms` away. Claims outside the time the record covers are no business of it.
///
/// `times` are milliseconds since 1970, ascending; `covers` is the first and last time the record speaks of.
pub fn match_by_time(claims: &[Claim], times: &[i64], covers: (i64, i64), window_ms: i64) -> Balance {
    let mut taken: Vec<u64> = claims.iter().map(|_| 0).collect();
    let mut balance = Balance { operations: times.len() as u64, ..Balance::default() };
    let mut unmatched: Vec<usize> = (0..times.len()).collect();
    // What must have happened comes first, and what is close before what is only within the window; what may
    // have happened is left for what remains.
    let near_ms = NEAR_MS.min(window_ms);
    for (certain, reach_ms) in [(true, near_ms), (true, window_ms), (false, near_ms), (false, window_ms)] {
        let mut from = 0;
        let mut left = Vec::new();
        for position in unmatched {
            let Some(time) = times.get(position).copied() else { continue };
            let (earliest, latest) = (time.saturating_sub(reach_ms), time.saturating_add(reach_ms));
            // Behind `from` nothing can match this operation or a later one.
            while let (Some(claim), Some(used)) = (claims.get(from), taken.get(from)) {
                let is_past = claim.ts_ms.is_some_and(|ts| ts < earliest);
                if !is_past && claim.certain == certain && *used < claim.operations {
                    break;
                }
                from += 1;
            }
            let in_reach = claims.get(from).filter(|claim| claim.ts_ms.is_none_or(|ts| ts <= latest));
            match in_reach.and(taken.get_mut(from)) {
                Some(used) => {
                    *used += 1;
                    let count = if certain { &mut balance.matched } else { &mut balance.explained };
                    *count += 1;
                }
                None => left.push(position),
            }
        }
        unmatched = left;
    }
    balance.surplus = unmatched;
    let (first, last) = (covers.0.saturating_add(window_ms), covers.1.saturating_sub(window_ms));
    let lost = claims.iter().zip(&taken).filter(|(claim, taken)| {
        claim.certain
            && **taken < claim.operations
            && claim.ts_ms.is_some_and(|ts| (first..=last).contains(&ts))
    });
    balance.missing = lost.filter_map(|(claim, _)| claim.index).collect();
    balance
}

/// Matches a device that only counts. Says how many are too many or too few, not which.
pub fn match_by_count(claims: &[Claim], operations: u64) -> Count {
    let sum = |certain: bool| {
        claims.iter().filter(|claim| claim.certain == certain).map(|claim| claim.operations).sum::<u64>()
    };
    let (certain, possible) = (sum(true), sum(false));
    Count {
        operations,
        certain,
        possible,
        surplus: operations.saturating_sub(certain + possible),
        missing: certain.saturating_sub(operations),
    }
}

/// How a device's count and the ledger agree about one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Operations of the device.
    pub operations: u64,
    /// Operations that must have happened, says the ledger.
    pub certain: u64,
    /// Further ones that may have.
    pub possible: u64,
    /// Operations above both.
    pub surplus: u64,
    /// Operations below what must have been.
    pub missing: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(index: u64, ts_ms: i64, certain: bool) -> Claim {
        Claim { index: Some(index), ts_ms: Some(ts_ms), operations: 1, certain }
    }

    const ALL: (i64, i64) = (i64::MIN, i64::MAX);

    #[test]
    fn one_operation_too_many_is_found_and_named() {
        let claims = [claim(1, 1_000, true), claim(2, 2_000, true), claim(3, 3_000, true)];
        let even = match_by_time(&claims, &[1_010, 1_990, 3_000], ALL, 100);
        assert_eq!((even.matched, even.is_even()), (3, true));
        let odd = match_by_time(&claims, &[1_010, 1_500, 1_990, 3_000], ALL, 100);
        assert_eq!((odd.surplus.as_slice(), odd.matched), (&[1][..], 3));
        let doubled = match_by_time(&claims, &[1_000, 1_000, 2_000, 3_000], ALL, 100);
        assert_eq!(doubled.surplus, [1], "one entry accounts for one operation");
    }

    #[test]
    fn one_too_few_is_missing_unless_the_record_does_not_reach_there() {
        let claims = [claim(1, 1_000, true), claim(2, 2_000, true), claim(3, 9_000, true)];
        assert_eq!(match_by_time(&claims, &[1_000], (500, 5_000), 100).missing, [2]);
        assert_eq!(match_by_time(&claims, &[1_000], ALL, 100).missing, [2, 3]);
    }

    #[test]
    fn what_may_have_happened_explains_and_is_not_missed() {
        let claims = [claim(1, 1_000, false), claim(2, 1_050, true)];
        let both = match_by_time(&claims, &[990, 1_040], ALL, 100);
        assert_eq!((both.matched, both.explained, both.is_even()), (1, 1, true));
        let one = match_by_time(&claims, &[1_040], ALL, 100);
        assert_eq!((one.matched, one.explained, one.is_even()), (1, 0, true));
        let open = Claim { index: None, ts_ms: None, operations: 1, certain: false };
        assert!(match_by_time(&[open], &[77], ALL, 100).is_even());
        assert!(!match_by_time(&[open], &[77, 78], ALL, 100).is_even());
    }

    #[test]
    fn a_count_says_how_many() {
        let mac = Claim { operations: 2, ..claim(1, 0, true) };
        let claims = [mac, claim(2, 0, true), claim(3, 0, false)];
        let told = |operations| {
            let count = match_by_count(&claims, operations);
            (count.surplus, count.missing)
        };
        assert_eq!([2, 3, 4, 5].map(told), [(0, 1), (0, 0), (0, 0), (1, 0)]);
    }
}
