//! Counts over time in at most [`BUCKETS_MAX`] buckets, whatever the span: when it grows, buckets are joined.
//!
//! Widths are those that people read (seconds, minutes, hours, a day, then days doubled); each divides the next, so
//! joining loses nothing but resolution.

use std::collections::BTreeMap;

use crate::trust::SignerId;

/// Buckets of a timeline: one for each two or three points of a chart across a page.
pub(crate) const BUCKETS_MAX: usize = 240;

const DAY_S: i64 = 86_400;
/// Widths up to a day, in seconds.
const WIDTHS_S: [i64; 11] = [1, 5, 15, 60, 300, 900, 3_600, 10_800, 21_600, 43_200, DAY_S];

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Series {
    /// Signatures of one key pair.
    Key(SignerId),
    /// Of key pairs that have no row of their own.
    OtherKeys,
    /// Key uses without signature.
    Failed,
    /// Requests refused.
    Refused,
}

/// Rows over the same buckets.
#[derive(Debug, Clone, Default)]
pub(crate) struct Timeline {
    step: u32,
    /// Number of the first bucket: its time divided by the width.
    start: i64,
    len: usize,
    /// A row may be shorter than `len`: what is not there is 0.
    rows: BTreeMap<Series, Vec<u64>>,
}

impl Timeline {
    /// Seconds of one bucket.
    pub(crate) fn width_s(&self) -> i64 {
        let longest = WIDTHS_S.len() - 1;
        let at = usize::try_from(self.step).unwrap_or(longest);
        WIDTHS_S.get(at).copied().unwrap_or_else(|| DAY_S << (at - longest).min(32))
    }

    /// Number of buckets.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Unix milliseconds at which the first bucket begins.
    pub(crate) fn start_ms(&self) -> i64 {
        self.start * self.width_s() * 1_000
    }

    /// One row, with a count for every bucket.
    pub(crate) fn row(&self, series: Series) -> Vec<u64> {
        let mut row = self.rows.get(&series).cloned().unwrap_or_default();
        row.resize(self.len, 0);
        row
    }

    /// All rows of signatures together.
    pub(crate) fn signatures(&self) -> Vec<u64> {
        let mut sum = vec![0; self.len];
        for (series, row) in &self.rows {
            if matches!(series, Series::Key(_) | Series::OtherKeys) {
                sum.iter_mut().zip(row).for_each(|(sum, count)| *sum += count);
            }
        }
        sum
    }

    /// Counts `count` at a time.
    pub(crate) fn add(&mut self, series: Series, ms: i64, count: u64) {
        if let Some(cell) = self.cell(series, ms) {
            *cell += count;
        }
    }

    /// Takes back one that was counted.
    pub(crate) fn take_back(&mut self, series: Series, ms: i64) {
        if let Some(cell) = self.cell(series, ms) {
            *cell = cell.saturating_sub(1);
        }
    }

    /// Adds everything another has counted.
    pub(crate) fn absorb(&mut self, mut other: Self) {
        if other.len == 0 {
            return;
        }
        if self.len == 0 {
            *self = other;
            return;
        }
        while other.step < self.step {
            other.widen();
        }
        let width_ms = other.width_s() * 1_000;
        for (series, row) in other.rows {
            for (bucket, count) in (other.start..).zip(row).filter(|(_, count)| *count > 0) {
                self.add(series, bucket * width_ms, count);
            }
        }
    }

    fn cell(&mut self, series: Series, ms: i64) -> Option<&mut u64> {
        self.make_room(ms);
        let at = usize::try_from(self.bucket(ms) - self.start).ok()?;
        let row = self.rows.entry(series).or_default();
        if row.len() <= at {
            row.resize(at + 1, 0);
        }
        row.get_mut(at)
    }

    fn bucket(&self, ms: i64) -> i64 {
        ms.div_euclid(self.width_s() * 1_000)
    }

    /// Extends the buckets to this time, and joins them if they become too many.
    fn make_room(&mut self, ms: i64) {
        if self.len == 0 {
            (self.start, self.len) = (self.bucket(ms), 1);
            return;
        }
        loop {
            let (bucket, end) = (self.bucket(ms), self.start + i64::try_from(self.len).unwrap_or(i64::MAX));
            let (from, to) = (self.start.min(bucket), end.max(bucket + 1));
            match usize::try_from(to - from) {
                Ok(len) if len <= BUCKETS_MAX => {
                    let before = usize::try_from(self.start - from).unwrap_or(0);
                    if before > 0 {
                        for row in self.rows.values_mut() {
                            row.splice(0..0, std::iter::repeat_n(0, before));
                        }
                    }
                    (self.start, self.len) = (from, len);
                    return;
                }
                _ => self.widen(),
            }
        }
    }

    fn widen(&mut self) {
        let old = self.width_s();
        self.step += 1;
        let ratio = self.width_s() / old;
        let start = self.start.div_euclid(ratio);
        let place = |at: usize| {
            let bucket = self.start + i64::try_from(at).unwrap_or(0);
            usize::try_from(bucket.div_euclid(ratio) - start).unwrap_or(0)
        };
        for row in self.rows.values_mut() {
            let mut joined = vec![0; row.len().checked_sub(1).map_or(0, |last| place(last) + 1)];
            for (at, count) in row.iter().enumerate() {
                if let Some(cell) = joined.get_mut(place(at)) {
                    *cell += count;
                }
            }
            *row = joined;
        }
        self.len = place(self.len.saturating_sub(1)) + 1;
        self.start = start;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts by hand, with the width that the timeline chose.
    fn expected(times: &[i64], line: &Timeline) -> Vec<u64> {
        let width = line.width_s() * 1_000;
        let bucket = |at: usize| line.start_ms() + i64::try_from(at).unwrap_or(0) * width;
        let count = |from: i64| times.iter().filter(|ms| (from..from + width).contains(ms)).count() as u64;
        (0..line.len()).map(|at| count(bucket(at))).collect()
    }

    #[test]
    fn nothing_is_lost_when_buckets_are_joined_or_begin_earlier() {
        let mut seed = 7u64;
        for (span_ms, pieces) in [(1_000, 1), (400_000, 3), (90_000_000, 5), (40_000_000_000, 7)] {
            let mut whole = Timeline::default();
            let mut parts: Vec<Timeline> = vec![Timeline::default(); pieces];
            let mut times = Vec::new();
            for number in 0..2_000usize {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let ms = 1_795_000_000_123 + i64::try_from(seed >> 33).unwrap_or(0) % span_ms;
                times.push(ms);
                whole.add(Series::Failed, ms, 1);
                if let Some(part) = parts.get_mut(number % pieces) {
                    part.add(Series::Failed, ms, 1);
                }
            }
            let mut sum = Timeline::default();
            parts.into_iter().for_each(|part| sum.absorb(part));
            for line in [&whole, &sum] {
                assert!(line.len() <= BUCKETS_MAX);
                assert_eq!(line.row(Series::Failed), expected(&times, line), "{span_ms}");
            }
        }
    }

    #[test]
    fn eight_thousand_years_fit_and_what_was_counted_can_be_taken_back() {
        let mut line = Timeline::default();
        line.add(Series::OtherKeys, 253_402_300_799_999, 5);
        line.add(Series::OtherKeys, 0, 2);
        line.take_back(Series::OtherKeys, 0);
        assert!(line.len() <= BUCKETS_MAX);
        assert_eq!(line.signatures().iter().sum::<u64>(), 6);
        assert_eq!(line.signatures().first(), Some(&1));
    }
}
