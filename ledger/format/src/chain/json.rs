//! JSON as it was written: numbers keep their text, strings every UTF-16 unit, objects their order and repetitions.
//!
//! Existing writers disagree on exactly these things, so nothing may be lost before it is known who wrote. Texts are
//! kept as WTF-8: UTF-8 in which a surrogate that stands alone has three bytes. Refuses what RFC 8259 refuses, and
//! what is nested deeper than [`DEPTH_MAX`]. A byte order mark at the start is skipped, as those writers' readers do.

use std::borrow::Cow;

/// Deepest nesting read; the writers' own readers stop later, and no event comes near.
pub const DEPTH_MAX: usize = 128;

/// A text in WTF-8.
pub type Text<'t> = Cow<'t, [u8]>;

/// A JSON value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'t> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// As written.
    Number(&'t str),
    /// Unescaped.
    Text(Text<'t>),
    /// In order.
    Array(Vec<Value<'t>>),
    /// In order, repetitions included.
    Object(Vec<(Text<'t>, Value<'t>)>),
}

/// The text is not JSON. Whoever wrote it is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct JsonError {
    /// The rule it breaks.
    pub what: &'static str,
    /// Where, in bytes.
    pub at: usize,
}

impl<'t> Value<'t> {
    /// Reads one value and nothing after it.
    pub fn parse(text: &'t str) -> Result<Self, JsonError> {
        let mut reader = Reader::at_start(text);
        let value = reader.value(0)?;
        reader.end()?;
        Ok(value)
    }

    /// A member of an object; the last one if it is repeated, as everybody's reader takes it.
    pub fn get(&self, name: &str) -> Option<&Self> {
        let Self::Object(members) = self else { return None };
        members.iter().rev().find(|(key, _)| **key == *name.as_bytes()).map(|(_, value)| value)
    }

    /// The text, if it is one and well-formed.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => std::str::from_utf8(text).ok(),
            _ => None,
        }
    }

    /// A name that one of its objects has twice.
    pub fn repeated(&self) -> Option<String> {
        match self {
            Self::Array(items) => items.iter().find_map(Self::repeated),
            Self::Object(members) => {
                let twice = twice(members).map(|name| String::from_utf8_lossy(name).into_owned());
                twice.or_else(|| members.iter().find_map(|(_, value)| value.repeated()))
            }
            _ => None,
        }
    }
}

/// A name that stands twice among these. Few are compared with each other, many are sorted.
fn twice<'v>(members: &'v [(Text<'_>, Value<'_>)]) -> Option<&'v [u8]> {
    const FEW: usize = 24;
    if members.len() <= FEW {
        let mut rest = members.iter();
        while let Some((name, _)) = rest.next() {
            if rest.clone().any(|(other, _)| other == name) {
                return Some(name);
            }
        }
        return None;
    }
    let mut names: Vec<&[u8]> = members.iter().map(|(name, _)| &**name).collect();
    names.sort_unstable();
    names.windows(2).find_map(|pair| match pair {
        [one, other] if one == other => Some(*one),
        _ => None,
    })
}

/// The texts of an array's elements, in order.
pub fn elements(text: &str) -> Result<Vec<&str>, JsonError> {
    let mut reader = Reader::at_start(text);
    if reader.peek() != Some(b'[') {
        return Err(reader.wrong("not an array"));
    }
    let elements = reader.list(b']', Reader::slice)?;
    reader.end()?;
    Ok(elements)
}

/// The texts of an object's members, in order.
pub fn members(text: &str) -> Result<Vec<(Text<'_>, &str)>, JsonError> {
    let mut reader = Reader::at_start(text);
    if reader.peek() != Some(b'{') {
        return Err(reader.wrong("not an object"));
    }
    let members = reader.list(b'}', |reader| Ok((reader.name()?, reader.slice()?)))?;
    reader.end()?;
    Ok(members)
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    /// Behind a byte order mark and white space.
    fn at_start(text: &'t str) -> Self {
        let mut reader = Self { text: text.strip_prefix('\u{feff}').unwrap_or(text), at: 0 };
        reader.skip();
        reader
    }

    const fn wrong(&self, what: &'static str) -> JsonError {
        JsonError { what, at: self.at }
    }

    /// The text of the next value.
    fn slice(&mut self) -> Result<&'t str, JsonError> {
        let from = self.at;
        self.value(1)?;
        self.text.get(from..self.at).ok_or_else(|| self.wrong("not a value"))
    }

    /// A member's name, and the colon after it.
    fn name(&mut self) -> Result<Text<'t>, JsonError> {
        if self.peek() != Some(b'"') {
            return Err(self.wrong("a member has no name"));
        }
        let name = self.string()?;
        self.skip();
        if !self.take(b':') {
            return Err(self.wrong("no : after a name"));
        }
        self.skip();
        Ok(name)
    }

    fn end(&mut self) -> Result<(), JsonError> {
        self.skip();
        if self.at < self.text.len() { Err(self.wrong("something after the value")) } else { Ok(()) }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn word(&mut self, word: &'static str, value: Value<'t>) -> Result<Value<'t>, JsonError> {
        if !self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            return Err(self.wrong("not a value"));
        }
        self.at += word.len();
        Ok(value)
    }

    fn value(&mut self, depth: usize) -> Result<Value<'t>, JsonError> {
        if depth > DEPTH_MAX {
            return Err(self.wrong("nested too deeply"));
        }
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string().map(Value::Text),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            Some(b'-' | b'0'..=b'9') => self.number().map(Value::Number),
            _ => Err(self.wrong("not a value")),
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value<'t>, JsonError> {
        self.list(b']', |reader| reader.value(depth + 1)).map(Value::Array)
    }

    fn object(&mut self, depth: usize) -> Result<Value<'t>, JsonError> {
        self.list(b'}', |reader| Ok((reader.name()?, reader.value(depth + 1)?))).map(Value::Object)
    }

    /// From the opening bracket, which stands here, past the closing one.
    fn list<T>(
        &mut self,
        close: u8,
        mut item: impl FnMut(&mut Self) -> Result<T, JsonError>,
    ) -> Result<Vec<T>, JsonError> {
        self.at += 1;
        let mut items = Vec::new();
        self.skip();
        if self.take(close) {
            return Ok(items);
        }
        loop {
            self.skip();
            items.push(item(self)?);
            self.skip();
            if self.take(close) {
                return Ok(items);
            }
            if !self.take(b',') {
                return Err(self.wrong(if close == b']' { "neither , nor ]" } else { "neither , nor }" }));
            }
        }
    }

    fn digits(&mut self) -> usize {
        let from = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at - from
    }

    fn number(&mut self) -> Result<&'t str, JsonError> {
        let from = self.at;
        self.take(b'-');
        if !self.take(b'0') && self.digits() == 0 {
            return Err(self.wrong("a number without digits"));
        }
        if self.take(b'.') && self.digits() == 0 {
            return Err(self.wrong("a number without digits"));
        }
        if self.take(b'e') || self.take(b'E') {
            let _sign = self.take(b'+') || self.take(b'-');
            if self.digits() == 0 {
                return Err(self.wrong("an exponent without digits"));
            }
        }
        self.text.get(from..self.at).ok_or_else(|| self.wrong("not a number"))
    }

    fn string(&mut self) -> Result<Text<'t>, JsonError> {
        self.at += 1;
        let bytes = self.text.as_bytes();
        let from = self.at;
        // Most texts have no escape and are borrowed.
        self.at += plain(bytes.get(from..).unwrap_or_default());
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    let plain = bytes.get(from..self.at).unwrap_or_default();
                    self.at += 1;
                    return Ok(Cow::Borrowed(plain));
                }
                b'\\' => return self.escaped(from).map(Cow::Owned),
                0..0x20 => return Err(self.wrong("a control character in a text")),
                _ => self.at += 1,
            }
        }
        Err(self.wrong("a text without end"))
    }

    fn escaped(&mut self, from: usize) -> Result<Vec<u8>, JsonError> {
        let bytes = self.text.as_bytes();
        let mut out = bytes.get(from..self.at).unwrap_or_default().to_vec();
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    self.at += 1;
                    return Ok(out);
                }
                b'\\' => self.escape(&mut out)?,
                0..0x20 => return Err(self.wrong("a control character in a text")),
                _ => {
                    out.push(byte);
                    self.at += 1;
                }
            }
        }
        Err(self.wrong("a text without end"))
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Result<(), JsonError> {
        self.at += 1;
        let plain = match self.peek() {
            Some(byte @ (b'"' | b'\\' | b'/')) => byte,
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                self.at += 1;
                let unit = self.unit()?;
                return self.code_point(unit, out);
            }
            _ => return Err(self.wrong("an escape nobody knows")),
        };
        self.at += 1;
        out.push(plain);
        Ok(())
    }

    /// Four hexadecimal digits.
    fn unit(&mut self) -> Result<u32, JsonError> {
        let digits =
            self.text.get(self.at..self.at + 4).filter(|it| it.bytes().all(|b| b.is_ascii_hexdigit()));
        let unit = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let unit = unit.ok_or_else(|| self.wrong("an escape without four digits"))?;
        self.at += 4;
        Ok(unit)
    }

    /// A unit, with the low surrogate that follows a high one.
    fn code_point(&mut self, unit: u32, out: &mut Vec<u8>) -> Result<(), JsonError> {
        let mut point = unit;
        if (0xd800..0xdc00).contains(&unit)
            && self.text.get(self.at..).is_some_and(|it| it.starts_with("\\u"))
        {
            let before = self.at;
            self.at += 2;
            let low = self.unit()?;
            if (0xdc00..0xe000).contains(&low) {
                point = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
            } else {
                self.at = before;
            }
        }
        match char::from_u32(point) {
            Some(letter) => out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
            // A surrogate alone: three bytes, as if it were a letter.
            None => {
                let byte = |value: u32| u8::try_from(value & 0xff).unwrap_or_default();
                out.extend([
                    byte(0xe0 | point >> 12),
                    byte(0x80 | point >> 6 & 0x3f),
                    byte(0x80 | point & 0x3f),
                ]);
            }
        }
        Ok(())
    }
}

/// So many bytes at the start, in eights, are neither quotation marks, backslashes nor control characters.
fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGHS: u64 = ONES << 7;
    let zero_in = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let (words, _) = bytes.as_chunks::<8>();
    let stop = words.iter().position(|word| {
        let word = u64::from_be_bytes(*word);
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        (control | zero_in(word ^ (ONES * u64::from(b'"'))) | zero_in(word ^ (ONES * u64::from(b'\\')))) != 0
    });
    stop.unwrap_or(words.len()) * 8
}

/// The code points of a text, lone surrogates among them.
pub fn points(text: &[u8]) -> impl Iterator<Item = u32> + '_ {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (point, more) = first_point(rest)?;
        rest = more;
        Some(point)
    })
}

/// The first code point of a text, and what comes after it.
pub fn first_point(text: &[u8]) -> Option<(u32, &[u8])> {
    let (first, _) = text.split_first()?;
    let width = match first {
        0..0x80 => 1,
        0x80..0xe0 => 2,
        0xe0..0xf0 => 3,
        _ => 4,
    };
    let (one, more) = text.split_at_checked(width)?;
    let lead = match width {
        1 => u32::from(*first),
        2 => u32::from(*first & 0x1f),
        3 => u32::from(*first & 0x0f),
        _ => u32::from(*first & 0x07),
    };
    Some((one.iter().skip(1).fold(lead, |point, byte| point << 6 | u32::from(*byte & 0x3f)), more))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    #[test]
    fn nothing_is_lost() {
        let text = r#"{"b":1.10,"a":[true,null,-0,1e2],"b":"\ud83d\ude00 \ud800 \u0041é\/"}"#;
        let value = Value::parse(text).unwrap();
        let Value::Object(members) = &value else { panic!() };
        assert_eq!(members.len(), 3);
        assert_eq!(members.first().unwrap().1, Value::Number("1.10"));
        let points: Vec<u32> = match value.get("b").unwrap() {
            Value::Text(text) => points(text).collect(),
            _ => panic!(),
        };
        assert_eq!(points, [0x1f600, 0x20, 0xd800, 0x20, 0x41, 0xe9, 0x2f]);
        assert_eq!(value.repeated().as_deref(), Some("b"));
        assert_eq!(value.get("b").unwrap().as_str(), None, "a lone surrogate is no text of ours");
        assert_eq!(Value::parse("[[{\"x\":1,\"x\":2}]]").unwrap().repeated().as_deref(), Some("x"));
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in [
            "",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "tru",
            "\"\u{1}\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"abc",
            "{\"a\" 1}",
            "{a:1}",
            "[1] 2",
            "nul",
            "-",
            "\"\\",
            "NaN",
            "'a'",
        ] {
            assert!(Value::parse(text).is_err(), "{text:?}");
        }
        let deep = "[".repeat(DEPTH_MAX + 2) + &"]".repeat(DEPTH_MAX + 2);
        assert_eq!(Value::parse(&deep).unwrap_err().what, "nested too deeply");
        assert!(Value::parse(" \n\t[ ] \r").is_ok() && Value::parse("\u{feff}{}").is_ok());
    }
}
