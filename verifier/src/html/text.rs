//! Pieces of text in HTML. Whatever comes from a ledger goes through [`esc`]: names and payloads are a stranger's.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use chancery_format::Timestamp;

use crate::ledger::Top;

/// Text in which nothing is markup, between tags and inside quoted attributes.
pub(super) struct Esc<'a>(&'a str);

/// Makes any text harmless. Control and direction characters are shown as their numbers: they could make a name look
/// like another.
pub(super) const fn esc(text: &str) -> Esc<'_> {
    Esc(text)
}

impl fmt::Display for Esc<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for char in self.0.chars() {
            match char {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\n' => f.write_char(char)?,
                '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' => {
                    write!(f, "\\u{{{:x}}}", u32::from(char))?;
                }
                char if char.is_control() => write!(f, "\\u{{{:x}}}", u32::from(char))?,
                char => f.write_char(char)?,
            }
        }
        Ok(())
    }
}

/// A number in groups of three digits.
pub(super) fn num(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A number, or nothing at all for zero: tables of zeros are hard to read.
pub(super) fn num_or_dash(number: u64) -> String {
    if number == 0 { "–".to_owned() } else { num(number) }
}

/// A cell with a number; where there is no room for a table's head, its label stands beside it and zeros are left out.
pub(super) fn count_cell(out: &mut String, label: &str, number: u64) {
    let zero = if number == 0 { " z" } else { "" };
    put!(out, "<td class=\"n{zero}\" data-l=\"{label}\">{}", num_or_dash(number));
}

/// `one entry`, `2 entries`.
pub(super) fn plural(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", num(number), if number == 1 { one } else { many })
}

/// A time to the second.
pub(super) fn when(ts: Timestamp) -> String {
    let text = ts.to_string();
    let (day, time) = text.split_once('T').unwrap_or((&text, ""));
    format!("{day} {}", time.get(..8).unwrap_or(time))
}

/// The day alone.
pub(super) fn day(ts: Timestamp) -> String {
    ts.to_string().chars().take(10).collect()
}

/// How long, in the two largest units.
pub(super) fn span(ms: i64) -> String {
    let seconds = ms.max(0) / 1_000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) if seconds < 10 => format!("{}.{:03} s", seconds, ms.max(0) % 1_000),
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => two(minutes, "min", seconds % 60, "s"),
        (0, _, _) => two(hours, "h", minutes, "min"),
        _ => two(days, "d", hours, "h"),
    }
}

fn two(large: i64, unit: &str, small: i64, smaller: &str) -> String {
    if small == 0 { format!("{large} {unit}") } else { format!("{large} {unit} {small} {smaller}") }
}

/// Which entries have a section, so that a link leads somewhere.
#[derive(Debug, Default)]
pub(super) struct Links(pub(super) BTreeSet<u64>);

impl Links {
    /// The number of an entry, as a link where it has a section.
    pub(super) fn entry(&self, index: u64) -> String {
        match self.0.contains(&index) {
            true => format!("<a href=\"#entry-{index}\">{}</a>", num(index)),
            false => num(index),
        }
    }

    /// An entry and its day.
    pub(super) fn entry_on(&self, index: u64, ts: Timestamp) -> String {
        format!("{} <span class=d>{}</span>", self.entry(index), day(ts))
    }
}

/// The most frequent names with their counts.
pub(super) fn top(top: &Top) -> String {
    let mut named: Vec<_> = top
        .named
        .iter()
        .map(|(name, count)| format!("<span class=m>{}</span> {}", esc(name), num(*count)))
        .collect();
    if top.more > 0 {
        named.push(format!("and {} more", top.more));
    }
    named.join("<br>")
}

/// Adds a formatted piece; writing to a string cannot fail.
macro_rules! put {
    ($out:expr, $($arguments:tt)*) => {{
        let _ = ::std::fmt::Write::write_fmt($out, format_args!($($arguments)*));
    }};
}
pub(super) use put;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    #[test]
    fn no_text_is_markup() {
        let text = esc("<script>alert('x')</script> & \"q\" \u{202e}\u{0}").to_string();
        assert_eq!(
            text,
            "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &quot;q&quot; \\u{202e}\\u{0}"
        );
    }

    #[test]
    fn numbers_times_and_spans_read_well() {
        assert_eq!((num(0), num(999)), ("0".into(), "999".into()));
        assert_eq!(num(1_234_567), "1\u{202f}234\u{202f}567");
        let ts: Timestamp = "2026-11-21T03:46:35.120Z".parse().unwrap();
        assert_eq!((when(ts), day(ts)), ("2026-11-21 03:46:35".into(), "2026-11-21".into()));
        let told = [1_500, 61_000, 3_600_000, 90_000_000].map(span);
        assert_eq!(told, ["1.500 s", "1 min 1 s", "1 h", "1 d 1 h"]);
    }
}
