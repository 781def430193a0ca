//! When a step that failed is tried again: each on its own, later each time, so that one that cannot be done now
//! neither holds up the others nor fills the log. Pure; the clock is the caller's.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

/// Wait after the first failure; doubles with each.
const FIRST: Duration = Duration::from_secs(1);
/// Longest wait: whoever mends the cause sees the step done within it.
const LONGEST: Duration = Duration::from_secs(30);

/// The steps that failed last time.
#[derive(Debug, Default)]
pub(super) struct Patience(BTreeMap<String, Wait>);

#[derive(Debug)]
struct Wait {
    delay: Duration,
    until: Instant,
}

impl Patience {
    /// Whether a step may be tried now.
    pub(super) fn allows(&self, step: &str, now: Instant) -> bool {
        self.0.get(step).is_none_or(|wait| wait.until <= now)
    }

    /// A step was done.
    pub(super) fn done(&mut self, step: &str) {
        self.0.remove(step);
    }

    /// A step failed. `true` if it had not failed before.
    pub(super) fn failed(&mut self, step: &str, now: Instant) -> bool {
        let known = self.0.get(step).map(|wait| wait.delay);
        let delay = known.map_or(FIRST, |delay| (delay * 2).min(LONGEST));
        self.0.insert(step.to_owned(), Wait { delay, until: now + delay });
        known.is_none()
    }

    /// Forgets steps that are not due any more.
    pub(super) fn keep(&mut self, due: &HashSet<String>) {
        self.0.retain(|step, _| due.contains(step));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_fails_waits_longer_each_time_and_alone() {
        let (mut patience, start) = (Patience::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(patience.failed("a", start), "the first time");
        assert!(!patience.allows("a", start) && patience.allows("b", start));
        assert!(patience.allows("a", at(1)));
        assert!(!patience.failed("a", at(1)), "not the first time");
        assert!(!patience.allows("a", at(2)) && patience.allows("a", at(3)));
        for _ in 0..9 {
            patience.failed("a", at(3));
        }
        assert!(!patience.allows("a", at(32)) && patience.allows("a", at(33)), "30 s at most");
        patience.keep(&HashSet::from(["a".to_owned()]));
        assert!(!patience.allows("a", at(3)));
        patience.done("a");
        assert!(patience.allows("a", at(3)));
        patience.failed("a", at(3));
        patience.keep(&HashSet::new());
        assert!(patience.allows("a", at(3)) && patience.failed("a", at(3)));
    }
}
