#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
use std::sync::Barrier;
use std::sync::atomic::AtomicUsize;

use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn on_day(day: u64) -> Timestamp {
    Timestamp::from_unix_ms(i64::try_from(day * MS_PER_DAY).unwrap()).unwrap()
}

#[test]
fn a_quota_is_for_a_utc_day_and_says_when_the_next_begins() {
    let quotas = Quotas::new(4);
    let late = at("2026-11-21T23:59:58.500Z");
    assert_eq!(quotas.take_daily(&"svc", 2, at("2026-11-21T00:00:00.000Z")), Ok(()));
    assert_eq!(quotas.take_daily(&"svc", 2, late), Ok(()));
    assert_eq!(quotas.take_daily(&"svc", 2, late), Err(QuotaExceeded { limit: 2, resets_in_s: 2 }));
    assert_eq!((quotas.used(&"svc", late), quotas.used(&"other", late)), (2, 0));
    assert_eq!(quotas.take_daily(&"other", 1, late), Ok(()), "each name has its own");
    assert_eq!(quotas.take_daily(&"svc", 3, late), Ok(()), "a raised limit holds at once");
    let midnight = at("2026-11-22T00:00:00.000Z");
    assert_eq!(quotas.used(&"svc", midnight), 0);
    assert_eq!(quotas.take_daily(&"svc", 1, midnight), Ok(()));
    let none = quotas.take_daily(&"svc", 0, midnight);
    assert_eq!(none, Err(QuotaExceeded { limit: 0, resets_in_s: 86_400 }));
}

#[test]
fn a_clock_set_back_gives_nobody_a_second_day() {
    let quotas = Quotas::new(4);
    let today = at("2026-11-22T00:00:10.000Z");
    quotas.take_daily(&"svc", 1, today).unwrap();
    let before = at("2026-11-21T23:59:50.000Z");
    let refused = quotas.take_daily(&"svc", 1, before).unwrap_err();
    assert_eq!(refused.resets_in_s, 86_410);
    quotas.restore(&"svc", Day::of(before), 7).unwrap();
    assert_eq!(quotas.used(&"svc", today), 1);
}

#[test]
fn what_the_ledger_counted_is_added_and_uses_come_back_on_their_day() {
    let (quotas, now) = (Quotas::new(4), on_day(20_000));
    quotas.take_daily(&"svc", 10, now).unwrap();
    quotas.restore(&"svc", Day::of(now), 8).unwrap();
    quotas.take_daily(&"svc", 10, now).unwrap();
    quotas.take_daily(&"svc", 10, now).unwrap_err();
    quotas.give_back(&"svc", Day::of(now));
    quotas.give_back(&"svc", Day::of(on_day(19_999)));
    quotas.give_back(&"nobody", Day::of(now));
    quotas.take_daily(&"svc", 10, now).unwrap();
    quotas.take_daily(&"svc", 10, now).unwrap_err();
    quotas.restore(&"svc", Day::of(now), u64::MAX).unwrap();
    quotas.take_daily(&"svc", u64::MAX, now).unwrap_err();
    assert_eq!(quotas.used(&"svc", on_day(20_001)), 0);
}

#[test]
fn names_are_bounded_and_those_of_yesterday_make_room() {
    let (quotas, today, tomorrow) = (Quotas::new(2), on_day(20_000), on_day(20_001));
    quotas.take_daily(&1, 5, today).unwrap();
    quotas.take_daily(&2, 5, today).unwrap();
    assert_eq!(quotas.take_daily(&3, 5, today).unwrap_err().resets_in_s, 86_400);
    assert_eq!(quotas.restore(&3, Day::of(today), 1), Err(TooManyNames { names_max: 2 }));
    quotas.take_daily(&1, 5, tomorrow).unwrap();
    quotas.take_daily(&3, 5, tomorrow).unwrap();
    quotas.take_daily(&2, 5, tomorrow).unwrap_err();
    assert_eq!((quotas.used(&1, tomorrow), quotas.used(&2, tomorrow)), (1, 0));
}

/// Lets `threads` call at the same moment; how many got a yes.
fn at_once(threads: usize, each: usize, take: impl Fn(usize) -> bool + Sync) -> usize {
    let (start, taken) = (Barrier::new(threads), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                start.wait();
                taken.fetch_add((0..each).filter(|nth| take(*nth)).count(), Ordering::Relaxed);
            });
        }
    });
    taken.into_inner()
}

#[test]
fn a_crowd_at_midnight_gets_the_limit_of_each_day_and_no_more() {
    let (quotas, limit) = (Quotas::new(1), 300);
    let taken = at_once(8, 1_000, |nth| {
        // Each thread crosses midnight in the middle, at its own time.
        quotas.take_daily(&"svc", limit, on_day(20_000 + nth as u64 / 500)).is_ok()
    });
    assert_eq!(quotas.used(&"svc", on_day(20_001)), limit);
    assert!(taken as u64 <= 2 * limit, "{taken}");
    let other = Quotas::new(1);
    let full = at_once(8, 1_000, |_| other.take_daily(&"svc", limit, on_day(20_000)).is_ok());
    assert_eq!(full as u64, limit);
}

#[test]
fn a_name_that_was_removed_gets_no_second_day() {
    let (quotas, today, tomorrow) = (Quotas::new(3), on_day(20_000), on_day(20_001));
    for name in 0..3 {
        quotas.take_daily(&name, 1, today).unwrap();
    }
    quotas.take_daily(&3, 1, tomorrow).unwrap();
    quotas.take_daily(&0, 1, today).unwrap();
    assert_eq!(quotas.used(&0, tomorrow), 1, "late for midnight, it counts for the day that has begun");
    assert!(quotas.take_daily(&0, 1, today).is_err() && quotas.take_daily(&0, 1, tomorrow).is_err());
}

#[test]
fn names_that_come_and_go_at_once_lose_no_use() {
    const DAYS: usize = 100;
    let quotas = Quotas::new(2);
    let taken: Vec<AtomicU64> = (0..3).map(|_| AtomicU64::new(0)).collect();
    at_once(8, DAYS * 10, |nth| {
        let day = 20_000 + (nth / 10) as u64;
        let yes = quotas.take_daily(&(nth % 3), 2, on_day(day)).is_ok();
        taken.get(nth % 3).unwrap().fetch_add(u64::from(yes), Ordering::Relaxed);
        yes
    });
    assert!(taken.into_iter().all(|taken| taken.into_inner() <= 2 * DAYS as u64));
}

#[test]
fn a_key_pairs_uses_end_at_its_limit_and_come_back_if_they_did_not_happen() {
    let usage = KeyUsage::default();
    usage.restore(7);
    let unused = usage.take(8).unwrap();
    assert_eq!(usage.take(8).unwrap_err(), KeyExhausted { limit: 8 });
    usage.give_back(unused);
    assert!(usage.take(8).is_ok() && usage.take(8).is_err() && usage.take(9).is_ok());
    assert_eq!(usage.used(), 9);
    usage.restore(u64::MAX);
    assert!(usage.take(u64::MAX).is_err());
}

proptest! {
    /// Against the plainest model: a map of name and day to count, and a day that never goes back.
    #[test]
    fn days_and_counts_are_those_of_the_model(
        steps in prop::collection::vec((0..3u8, 0..4u64, 0..4u64, 0..4u8), 1..200)
    ) {
        let quotas = Quotas::new(3);
        let mut model: HashMap<u8, (u64, u64)> = HashMap::new();
        for (name, day, number, step) in steps {
            let (now, entry) = (on_day(20_000 + day), model.entry(name).or_insert((0, 0)));
            let in_force = if entry.0 < day { (day, 0) } else { *entry };
            match step {
                0 | 1 => {
                    let taken = quotas.take_daily(&name, number, now);
                    prop_assert_eq!(taken.is_ok(), in_force.1 < number);
                    if taken.is_ok() {
                        *entry = (in_force.0, in_force.1 + 1);
                    }
                }
                2 => {
                    quotas.restore(&name, Day::of(now), number).unwrap();
                    if in_force.0 == day {
                        *entry = (day, in_force.1 + number);
                    }
                }
                _ => {
                    quotas.give_back(&name, Day::of(now));
                    if entry.0 == day {
                        entry.1 = entry.1.saturating_sub(1);
                    }
                }
            }
            let used = if entry.0 < day { 0 } else { entry.1 };
            prop_assert_eq!(quotas.used(&name, now), used);
        }
    }

    #[test]
    fn any_crowd_gets_exactly_what_is_left(
        threads in 2..6usize, each in 1..60usize, limit in 0..200u64, before in 0..100u64
    ) {
        let (quotas, usage, now) = (Quotas::new(1), KeyUsage::default(), on_day(20_000));
        quotas.restore(&"svc", Day::of(now), before).unwrap();
        usage.restore(before);
        let expected = (threads * each).min(usize::try_from(limit.saturating_sub(before)).unwrap());
        prop_assert_eq!(at_once(threads, each, |_| quotas.take_daily(&"svc", limit, now).is_ok()), expected);
        // Every third use does not happen and is given back; never more than the limit are out at once.
        let out = AtomicU64::new(before);
        let kept = at_once(threads, each, |nth| match usage.take(limit) {
            Ok(unused) if nth % 3 == 0 => {
                usage.give_back(unused);
                false
            }
            Ok(_) => out.fetch_add(1, Ordering::Relaxed) < limit,
            Err(_) => false,
        });
        prop_assert_eq!(usage.used(), before + kept as u64);
        prop_assert!(usage.used() <= limit.max(before));
    }
}
