//! How often checkpoints of a log, and parts of its tree, are cosigned: tokens that come back evenly over the day.
//!
//! Counted is what costs a key use. Nobody but the log can bring a checkpoint that is new, so nobody else can use up what
//! it may; the same checkpoint again is answered with the same lines for as long as a token takes to come back. Parts of
//! a tree anybody may ask for who has seen a checkpoint that we cosigned, so they are counted apart.

use std::time::{Duration, Instant};

const DAY: Duration = Duration::from_secs(86_400);
/// Checkpoints a day of a listed log whose list says nothing: one in ten seconds.
const CHECKPOINTS_PER_DAY: u64 = 8_640;
/// Subtrees a day of one log, unless its list says otherwise: for two with every checkpoint of one in ten seconds.
const SUBTREES_PER_DAY: u64 = 17_280;
/// Tokens that are there at once after a pause, at least; above that, those of an hour.
const BURST_MIN: u64 = 4;
/// How long the same checkpoint is answered with the same lines, at least.
const SAME_LINES_FOR: Duration = Duration::from_secs(60);

/// Tokens of one kind.
#[derive(Debug)]
struct Rate {
    interval: Duration,
    burst: Duration,
    /// When all tokens will be there again; `None` if they are.
    full_at: Option<Instant>,
}

impl Rate {
    fn per_day(tokens: u64) -> Self {
        let interval = DAY / u32::try_from(tokens.max(1)).unwrap_or(u32::MAX);
        let burst = u32::try_from((tokens / 24).max(BURST_MIN)).unwrap_or(u32::MAX);
        Self { interval, burst: interval.saturating_mul(burst), full_at: None }
    }

    /// Takes a token, or says when there will be one.
    fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let next = self.full_at.map_or(now, |at| at.max(now)) + self.interval;
        let wait = next.saturating_duration_since(now).saturating_sub(self.burst);
        if !wait.is_zero() {
            return Err(wait);
        }
        self.full_at = Some(next);
        Ok(())
    }
}

/// Where a log is known from, and what follows for how often it is cosigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The operator named it: its checkpoints are cosigned as they come.
    Configured,
    /// A list names it, with requests a day.
    Listed(Option<u64>),
}

/// What one log may have cosigned.
#[derive(Debug)]
pub(super) struct Allowance {
    source: Source,
    checkpoints: Option<Rate>,
    subtrees: Rate,
}

impl Allowance {
    pub(super) fn new(source: Source) -> Self {
        let (checkpoints, subtrees) = match source {
            Source::Configured => (None, None),
            Source::Listed(requests) => (Some(requests.unwrap_or(CHECKPOINTS_PER_DAY)), requests),
        };
        Self {
            source,
            checkpoints: checkpoints.map(Rate::per_day),
            subtrees: Rate::per_day(subtrees.unwrap_or(SUBTREES_PER_DAY)),
        }
    }

    /// Goes by this from now on; what was used stays used if it is the same.
    pub(super) fn adopt(&mut self, source: Source) {
        if self.source != source {
            *self = Self::new(source);
        }
    }

    /// Whether a new checkpoint may be cosigned now, or when.
    pub(super) fn take_checkpoint(&mut self, now: Instant) -> Result<(), Duration> {
        self.checkpoints.as_mut().map_or(Ok(()), |rate| rate.take(now))
    }

    /// Whether a subtree may be cosigned now, or when.
    pub(super) fn take_subtree(&mut self, now: Instant) -> Result<(), Duration> {
        self.subtrees.take(now)
    }

    /// How long the same checkpoint is answered with the same lines.
    pub(super) fn same_lines_for(&self) -> Duration {
        self.checkpoints.as_ref().map_or(SAME_LINES_FOR, |rate| rate.interval.max(SAME_LINES_FOR))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(rate: &mut Rate, at: Instant) -> u32 {
        let mut count = 0;
        while count < 100_000 && rate.take(at).is_ok() {
            count += 1;
        }
        count
    }

    #[test]
    fn a_day_has_its_number_beside_what_was_there_at_once() {
        for (per_day, burst) in [(1, 4), (24, 4), (96, 4), (8_640, 360), (86_400, 3_600)] {
            let mut rate = Rate::per_day(per_day);
            let start = Instant::now();
            assert_eq!(taken(&mut rate, start), burst, "{per_day}");
            let step = DAY / u32::try_from(per_day).unwrap_or(u32::MAX);
            assert_eq!(rate.take(start + step / 2), Err(step - step / 2));
            assert_eq!(taken(&mut rate, start + step), 1);
            // After a long pause there is no more than at first.
            assert_eq!(taken(&mut rate, start + DAY * 9), burst, "{per_day}");
        }
        let mut fastest = Rate::per_day(chancery_format::log_list::REQUESTS_PER_DAY_MAX);
        assert_eq!(fastest.take(Instant::now()), Ok(()));
    }

    #[test]
    fn listed_logs_are_bounded_and_configured_ones_only_in_subtrees() {
        let now = Instant::now();
        let count = |take: &mut dyn FnMut() -> Result<(), Duration>| {
            (0..100_000).take_while(|_| take().is_ok()).count()
        };
        let mut configured = Allowance::new(Source::Configured);
        assert_eq!(count(&mut || configured.take_checkpoint(now)), 100_000);
        assert_eq!(count(&mut || configured.take_subtree(now)), 720);
        assert_eq!(configured.same_lines_for(), SAME_LINES_FOR);
        let mut listed = Allowance::new(Source::Listed(Some(24)));
        assert_eq!(count(&mut || listed.take_checkpoint(now)), 4);
        assert_eq!(count(&mut || listed.take_subtree(now)), 4);
        assert_eq!(listed.same_lines_for(), DAY / 24);
        listed.adopt(Source::Listed(Some(24)));
        assert_eq!(listed.take_checkpoint(now), Err(DAY / 24), "read again, it is the same");
        listed.adopt(Source::Listed(None));
        assert_eq!(count(&mut || listed.take_checkpoint(now)), 360);
    }
}
