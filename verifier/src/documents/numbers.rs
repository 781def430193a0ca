//! Numbers that say more than was signed: writers that read them as doubles sign what a double can hold.

use chancery_format::chain::canonical::Mode;
use chancery_format::chain::json::Value;

/// The first number whose digits a double does not hold, as it is written.
pub(super) fn inexact<'t>(value: &Value<'t>) -> Option<&'t str> {
    match value {
        Value::Array(items) => items.iter().find_map(inexact),
        Value::Object(members) => members.iter().find_map(|(_, value)| inexact(value)),
        Value::Number(text) => (!is_exact(text)).then_some(text),
        _ => None,
    }
}

/// Whether the shortest text of the double is the same number.
fn is_exact(text: &str) -> bool {
    let shortest = Mode::GoRaw.write(&Value::Number(text));
    let shortest = shortest.and_then(|bytes| String::from_utf8(bytes).ok());
    shortest.is_some_and(|shortest| decimal(&shortest) == decimal(text))
}

/// Sign, significant digits and exponent of a JSON number: the same for the same value.
fn decimal(text: &str) -> Option<(bool, String, i64)> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, part].concat();
    let kept = digits.trim_end_matches('0');
    let exponent = exponent.parse::<i64>().ok()?.checked_sub(i64::try_from(part.len()).ok()?)?;
    let exponent = exponent.checked_add(i64::try_from(digits.len() - kept.len()).ok()?)?;
    let kept = kept.trim_start_matches('0');
    // Nothing has one spelling, whatever its exponent.
    Some((negative, kept.to_owned(), if kept.is_empty() { 0 } else { exponent }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_digits_that_are_lost_are_told() {
        for text in [
            "0",
            "-0",
            "-0.0",
            "1.0",
            "1e2",
            "100",
            "0.1",
            "1.10",
            "5e-324",
            "9007199254740992",
            "1e21",
            "123.456e-7",
            "0e999",
            "0.00",
        ] {
            assert!(is_exact(text), "{text}");
        }
        for text in ["9007199254740993", "0.1000000000000000001", "123456789012345678901234567890", "1e400"] {
            assert!(!is_exact(text), "{text}");
        }
    }
}
