//! The drawings, as inline SVG: signatures over time, and a row for each key with its life, use, rotations and halts.
//!
//! Coordinates are whole tenths of a pixel at most, so that a row of 240 buckets stays under 4 KB.

use chancery_format::Timestamp;

use super::text::{esc, num, put};
use crate::ledger::{HaltMark, Series, Timeline};

const WIDTH: f64 = 720.0;
/// Room for the scale at the left of the large drawing.
const LEFT: f64 = 52.0;

/// A span of time across a drawing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    from_ms: i64,
    to_ms: i64,
    left: f64,
    width: f64,
}

impl Axis {
    /// From the first to the last moment of a report, and over all buckets.
    pub(super) fn over(from: Timestamp, to: Timestamp, timeline: &Timeline) -> Self {
        let (mut from_ms, mut to_ms) = (from.unix_ms(), to.unix_ms());
        if timeline.len() > 0 {
            let length_ms = timeline.width_s() * 1_000 * i64::try_from(timeline.len()).unwrap_or(0);
            from_ms = from_ms.min(timeline.start_ms());
            to_ms = to_ms.max(timeline.start_ms() + length_ms);
        }
        Self { from_ms, to_ms: to_ms.max(from_ms + 1_000), left: 0.0, width: WIDTH }
    }

    fn with_scale(self) -> Self {
        Self { left: LEFT, width: WIDTH - LEFT, ..self }
    }

    pub(super) const fn ends(&self) -> (i64, i64) {
        (self.from_ms, self.to_ms)
    }

    fn x(&self, ms: i64) -> f64 {
        let span = (self.to_ms - self.from_ms) as f64;
        let at = (ms.clamp(self.from_ms, self.to_ms) - self.from_ms) as f64;
        round(self.left + self.width * at / span)
    }
}

fn round(x: f64) -> f64 {
    (x * 10.0).round() / 10.0
}

/// Bars of one row, as the path of one shape.
fn bars(axis: &Axis, timeline: &Timeline, row: &[u64], base: f64, height: f64) -> String {
    let most = row.iter().copied().max().unwrap_or(0).max(1) as f64;
    let mut path = String::new();
    let width_ms = timeline.width_s() * 1_000;
    for (at, count) in (0..).zip(row).filter(|(_, count)| **count > 0) {
        let from = timeline.start_ms() + at * width_ms;
        let (x, end) = (axis.x(from), axis.x(from + width_ms));
        // What happened at all is seen: half a pixel at least.
        let top = round(base - (height * *count as f64 / most).max(0.5));
        put!(&mut path, "M{x} {base}V{top}H{}V{base}z", round(end.max(x + 0.5)));
    }
    path
}

/// Times at which to draw a line, and what to write there.
fn ticks(axis: &Axis) -> Vec<(i64, String)> {
    let span_s = (axis.to_ms - axis.from_ms) / 1_000;
    if span_s > 100 * 86_400 {
        return months(axis, span_s);
    }
    const STEPS_S: [i64; 17] = [
        1, 5, 15, 60, 300, 900, 1_800, 3_600, 7_200, 14_400, 28_800, 43_200, 86_400, 172_800, 345_600,
        604_800, 1_209_600,
    ];
    let step_ms = STEPS_S.into_iter().find(|step| span_s / step < 8).unwrap_or(1_209_600) * 1_000;
    let first = axis.from_ms.div_euclid(step_ms) + i64::from(axis.from_ms % step_ms != 0);
    let times = (first..).map(|at| at * step_ms).take_while(|ms| *ms <= axis.to_ms).take(10);
    let label = |ms: i64| {
        let text = Timestamp::from_unix_ms(ms).map(|ts| ts.to_string()).unwrap_or_default();
        let (from, to) = match step_ms {
            86_400_000.. => (5, 10),
            60_000.. if ms.rem_euclid(86_400_000) == 0 => (5, 10),
            60_000.. => (11, 16),
            _ => (11, 19),
        };
        text.get(from..to).unwrap_or_default().to_owned()
    };
    times.map(|ms| (ms, label(ms))).collect()
}

/// The first days of months or years.
fn months(axis: &Axis, span_s: i64) -> Vec<(i64, String)> {
    let months = span_s / 2_629_746;
    let step = [1, 2, 3, 6, 12, 24, 60, 120, 600, 1_200].into_iter().find(|step| months / step < 8);
    let step = step.unwrap_or(12_000);
    let start = Timestamp::from_unix_ms(axis.from_ms).map(|ts| ts.to_string()).unwrap_or_default();
    let year: i64 = start.get(..4).and_then(|text| text.parse().ok()).unwrap_or(1970);
    let mut month = year * 12;
    let mut told = Vec::new();
    // At most as many steps before the first shown as a year has, and ten shown.
    for _ in 0..24 {
        let text = format!("{:04}-{:02}", month / 12, month % 12 + 1);
        let Ok(ts) = format!("{text}-01T00:00:00.000Z").parse::<Timestamp>() else { break };
        if ts.unix_ms() > axis.to_ms {
            break;
        }
        if ts.unix_ms() >= axis.from_ms {
            let label = if step >= 12 { text.get(..4).unwrap_or_default().to_owned() } else { text };
            told.push((ts.unix_ms(), label));
        }
        month += step;
    }
    told
}

/// Times between a halt and what ended it, of the scopes that `concerns` picks.
fn halted(halts: &[HaltMark], end_ms: i64, concerns: impl Fn(&str) -> bool) -> Vec<(i64, i64)> {
    let mut open: Vec<(&str, i64)> = Vec::new();
    let mut bands = Vec::new();
    for mark in halts.iter().filter(|mark| concerns(&mark.scope)) {
        let known = open.iter().position(|(scope, _)| *scope == mark.scope);
        match (mark.halted, known) {
            (true, None) => open.push((mark.scope.as_str(), mark.at.ts.unix_ms())),
            (false, Some(at)) => bands.push((open.swap_remove(at).1, mark.at.ts.unix_ms())),
            _ => {}
        }
    }
    bands.extend(open.into_iter().map(|(_, from)| (from, end_ms)));
    bands
}

fn bands(out: &mut String, axis: &Axis, bands: &[(i64, i64)], top: f64, height: f64) {
    for (from, to) in bands {
        let (x, end) = (axis.x(*from), axis.x(*to));
        let width = round((end - x).max(1.0));
        put!(out, "<rect class=halt x=\"{x}\" y=\"{top}\" width=\"{width}\" height=\"{height}\"/>");
    }
}

/// Signatures of all keys over time; halts of everything behind them, failures and refusals below.
pub(super) fn signatures(out: &mut String, axis: &Axis, timeline: &Timeline, halts: &[HaltMark]) {
    let axis = axis.with_scale();
    let (top, base) = (8.0, 120.0);
    let row = timeline.signatures();
    let most = row.iter().copied().max().unwrap_or(0);
    let strips = [("failed", "fail", Series::Failed), ("refused", "refuse", Series::Refused)];
    let strips: Vec<_> = strips
        .into_iter()
        .map(|(name, class, series)| (name, class, timeline.row(series)))
        .filter(|(_, _, row)| row.iter().any(|count| *count > 0))
        .collect();
    let height = 140 + 24 * strips.len();
    put!(
        out,
        "<div class=wide tabindex=0 role=region aria-label=\"Signatures over time\"><svg class=line \
         viewBox=\"0 0 {WIDTH} {height}\" role=img aria-label=\"Signatures over time, at most {} in one of {} \
         buckets\">",
        num(most),
        timeline.len()
    );
    bands(out, &axis, &halted(halts, axis.to_ms, |scope| scope == "global"), top, base - top);
    for (ms, label) in ticks(&axis) {
        let x = axis.x(ms);
        put!(out, "<path class=tick d=\"M{x} {top}V{base}\"/>");
        put!(out, "<text x=\"{x}\" y=\"{}\" text-anchor=middle>{}</text>", base + 14.0, esc(&label));
    }
    put!(out, "<path class=tick d=\"M{LEFT} {base}H{WIDTH}M{LEFT} {top}H{WIDTH}\"/>");
    put!(out, "<text x=\"{}\" y=\"{}\" text-anchor=end>{}</text>", LEFT - 6.0, top + 8.0, num(most));
    put!(out, "<text x=\"{}\" y=\"{base}\" text-anchor=end>0</text>", LEFT - 6.0);
    put!(out, "<path class=bar d=\"{}\"/>", bars(&axis, timeline, &row, base, base - top));
    let mut at = base + 40.0;
    for (name, class, row) in strips {
        put!(out, "<text x=\"{}\" y=\"{at}\" text-anchor=end>{name}</text>", LEFT - 6.0);
        put!(out, "<path class=tick d=\"M{LEFT} {at}H{WIDTH}\"/>");
        put!(out, "<path class={class} d=\"{}\"/>", bars(&axis, timeline, &row, at, 16.0));
        at += 24.0;
    }
    out.push_str("</svg></div>");
}

/// What is drawn of one key pair.
#[derive(Debug)]
pub(super) struct KeyRow<'a> {
    pub(super) signer_kid: &'a str,
    pub(super) kid: Option<&'a str>,
    pub(super) born_ms: i64,
    /// `None`: still alive.
    pub(super) retired_ms: Option<i64>,
    /// Times at which its name went from or to this pair.
    pub(super) rotated_ms: Vec<i64>,
    pub(super) compromised_ms: Option<i64>,
    pub(super) series: Option<Series>,
}

/// One key pair: its use above, its life below.
pub(super) fn key(out: &mut String, axis: &Axis, timeline: &Timeline, halts: &[HaltMark], row: &KeyRow<'_>) {
    put!(out, "<svg class=row viewBox=\"0 0 {WIDTH} 36\" preserveAspectRatio=none aria-hidden=true>");
    let end_ms = row.retired_ms.unwrap_or(axis.to_ms);
    let concerns = |scope: &str| {
        scope == "global"
            || scope.strip_prefix("key:").is_some_and(|name| name == row.signer_kid || Some(name) == row.kid)
    };
    let life = |from: i64, to: i64| (from.max(row.born_ms), to.min(end_ms));
    let halted: Vec<_> = halted(halts, axis.to_ms, concerns)
        .into_iter()
        .map(|(from, to)| life(from, to))
        .filter(|(from, to)| from < to)
        .collect();
    bands(out, axis, &halted, 0.0, 35.0);
    for (ms, _) in ticks(axis) {
        put!(out, "<path class=tick d=\"M{} 0V36\"/>", axis.x(ms));
    }
    if let Some(series) = row.series {
        put!(out, "<path class=bar d=\"{}\"/>", bars(axis, timeline, &timeline.row(series), 28.0, 26.0));
    }
    let (x, end) = (axis.x(row.born_ms), axis.x(end_ms));
    let width = round((end - x).max(2.0));
    put!(out, "<rect class=life x=\"{x}\" y=30 width=\"{width}\" height=5 />");
    for ms in &row.rotated_ms {
        put!(out, "<path class=mark d=\"M{} 26V36\"/>", axis.x(*ms));
    }
    if let Some(ms) = row.compromised_ms {
        put!(out, "<path class=broken d=\"M{} 0V36\"/>", axis.x(ms));
    }
    out.push_str("</svg>");
}
