//! Part of a chain: rows of some time, or the last so many.

use chancery_format::Timestamp;

use chancery_format::chain::dialect::{moment, read_moment};
use chancery_format::chain::json::Value;

/// Which rows are looked at. What is not bounded is open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Window {
    /// Rows written then or later.
    pub from: Option<Timestamp>,
    /// Rows written then or earlier.
    pub to: Option<Timestamp>,
    /// Of these, the last so many.
    pub limit: Option<u64>,
}

/// The text is neither a day nor a time. Whoever gave it is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a day, as 2026-01-31, nor a time, as 2026-01-31T12:00:00Z")]
pub struct BoundError(String);

impl Window {
    /// Whether all rows are in it.
    pub fn is_all(self) -> bool {
        self == Self::default()
    }

    /// Whether a row of that moment is within the times.
    pub fn holds(self, moment: Timestamp) -> bool {
        self.from.is_none_or(|from| moment >= from) && self.to.is_none_or(|to| moment <= to)
    }

    /// Whether a row's text is within the times; one that says no time is, and is told of later.
    pub(super) fn holds_row(self, text: &[u8]) -> bool {
        if self.from.is_none() && self.to.is_none() {
            return true;
        }
        let row = std::str::from_utf8(text).ok().and_then(|text| Value::parse(text.trim()).ok());
        row.and_then(|row| moment(&row).ok()).is_none_or(|moment| self.holds(moment))
    }

    /// Reads the earlier bound: of a day, its beginning.
    pub fn read_from(text: &str) -> Result<Timestamp, BoundError> {
        bound(text, "T00:00:00.000Z")
    }

    /// Reads the later bound: of a day, its end.
    pub fn read_to(text: &str) -> Result<Timestamp, BoundError> {
        bound(text, "T23:59:59.999Z")
    }
}

fn bound(text: &str, of_day: &str) -> Result<Timestamp, BoundError> {
    let full = if text.len() == 10 { format!("{text}{of_day}") } else { text.to_owned() };
    read_moment(&full).ok_or_else(|| BoundError(text.to_owned()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    #[test]
    fn a_day_is_meant_as_a_whole() {
        let day = Window {
            from: Some(Window::read_from("2026-01-31").unwrap()),
            to: Some(Window::read_to("2026-01-31").unwrap()),
            limit: None,
        };
        for (moment, inside) in [
            ("2026-01-30T23:59:59.999Z", false),
            ("2026-01-31T00:00:00.000Z", true),
            ("2026-01-31T23:59:59.999Z", true),
            ("2026-02-01T00:00:00.000Z", false),
        ] {
            assert_eq!(day.holds(moment.parse().unwrap()), inside, "{moment}");
        }
        let exact = Window::read_from("2026-01-31T13:00:00+01:00").unwrap();
        assert_eq!(exact.to_string(), "2026-01-31T12:00:00.000Z");
        for text in ["", "yesterday", "2026-13-01", "2026-01-31T25:00:00Z"] {
            assert!(Window::read_from(text).is_err() && Window::read_to(text).is_err(), "{text}");
        }
    }
}
