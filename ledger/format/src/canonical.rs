//! RFC 8785 JSON (JCS): strict reading, canonical writing, canonical checking.
//!
//! One recursive reader does all three: it re-emits what it reads in canonical form, so text is
//! canonical exactly if what comes out equals what went in. It refuses what JSON readers disagree on:
//! duplicate member names, lone surrogates, integers a double cannot hold, nesting beyond
//! [`DEPTH_MAX`]. It accepts white space and any member order, because callers write JSON by hand.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::ops::Range;

/// Deepest nesting of arrays and objects; bounds the reader's stack.
pub const DEPTH_MAX: usize = 64;

/// Why a text was refused, and at which byte. The author of the text is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at byte {at}")]
pub struct CanonicalError {
    /// What is wrong.
    pub reason: Reason,
    /// Offset into the text, in bytes.
    pub at: usize,
}

/// What is wrong with a JSON text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Not JSON (RFC 8259).
    #[error("not valid JSON")]
    Syntax,
    /// Bytes that are not UTF-8.
    #[error("not valid UTF-8")]
    Utf8,
    /// A member name occurs twice in one object; readers disagree which counts.
    #[error("duplicate member name")]
    DuplicateName,
    /// `\ud800` to `\udfff` without its partner: not a character.
    #[error("lone surrogate in a string")]
    LoneSurrogate,
    /// A number that a double cannot hold exactly, or that is not finite.
    #[error("number outside the range every JSON reader agrees on")]
    NumberRange,
    /// Nested deeper than [`DEPTH_MAX`].
    #[error("nested too deeply")]
    Depth,
    /// Valid JSON, but not its canonical text.
    #[error("not in canonical form (RFC 8785)")]
    NotCanonical,
}

/// One JSON value as its canonical bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct CanonicalJson(Box<str>);

impl CanonicalJson {
    /// Reads any JSON text strictly and keeps its canonical form.
    ///
    /// ```
    /// use chancery_format::canonical::CanonicalJson;
    /// let value = CanonicalJson::parse(br#"{ "b": 1.0, "a": "\u00e9" }"#).unwrap();
    /// assert_eq!(value.as_str(), r#"{"a":"é","b":1}"#);
    /// ```
    pub fn parse(text: &[u8]) -> Result<Self, CanonicalError> {
        Reader::new(text)?.whole()
    }

    /// [`CanonicalJson::parse`] for an object around values that were accepted by themselves: one level deeper.
    pub(crate) fn parse_around(text: &[u8]) -> Result<Self, CanonicalError> {
        Self::parse_enclosing(text, 1)
    }

    /// The same for an object around a leaf, which is itself around such values: two levels deeper.
    pub(crate) fn parse_around_leaf(text: &[u8]) -> Result<Self, CanonicalError> {
        Self::parse_enclosing(text, 2)
    }

    fn parse_enclosing(text: &[u8], levels: usize) -> Result<Self, CanonicalError> {
        let mut reader = Reader::new(text)?;
        reader.depth_max += levels;
        reader.whole()
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The canonical bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Whether the value is an object.
    pub fn is_object(&self) -> bool {
        self.0.starts_with('{')
    }
}

/// Payloads may hold personal data: only the length is shown.
impl std::fmt::Debug for CanonicalJson {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CanonicalJson({} bytes)", self.0.len())
    }
}

/// Writes one object whose member names are given in canonical order.
///
/// For our own shapes, whose order is known when the code is written; a wrong order fails in tests.
#[derive(Debug)]
pub struct ObjectWriter {
    out: String,
    #[cfg(debug_assertions)]
    last: &'static str,
}

impl Default for ObjectWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl ObjectWriter {
    /// An object without members yet.
    pub fn new() -> Self {
        let mut out = String::with_capacity(512);
        out.push('{');
        Self {
            out,
            #[cfg(debug_assertions)]
            last: "",
        }
    }

    fn name(&mut self, name: &'static str) {
        #[cfg(debug_assertions)]
        {
            assert!(self.last < name, "member {name} must come before {}", self.last);
            self.last = name;
        }
        if self.out.len() > 1 {
            self.out.push(',');
        }
        self.out.push('"');
        self.out.push_str(name);
        self.out.push_str("\":");
    }

    /// A string member; escaped as needed.
    #[must_use]
    pub fn string(mut self, name: &'static str, value: &str) -> Self {
        self.name(name);
        write_string(&mut self.out, value);
        self
    }

    /// A non-negative integer member, below 2^53.
    #[must_use]
    pub fn integer(mut self, name: &'static str, value: u64) -> Self {
        debug_assert!(value < 1 << 53);
        self.name(name);
        self.out.push_str(&value.to_string());
        self
    }

    /// A member whose value is canonical already.
    #[must_use]
    pub fn json(mut self, name: &'static str, value: &CanonicalJson) -> Self {
        self.name(name);
        self.out.push_str(value.as_str());
        self
    }

    /// A string member, left out if `None`.
    #[must_use]
    pub fn string_if(self, name: &'static str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.string(name, value),
            None => self,
        }
    }

    /// A member that is a list of strings.
    #[must_use]
    pub fn strings(mut self, name: &'static str, values: &[String]) -> Self {
        self.name(name);
        self.out.push('[');
        for (position, value) in values.iter().enumerate() {
            if position > 0 {
                self.out.push(',');
            }
            write_string(&mut self.out, value);
        }
        self.out.push(']');
        self
    }

    /// `true` or `false`.
    #[must_use]
    pub fn boolean(mut self, name: &'static str, value: bool) -> Self {
        self.name(name);
        self.out.push_str(if value { "true" } else { "false" });
        self
    }

    /// A canonical member, left out if `None`.
    #[must_use]
    pub fn json_if(self, name: &'static str, value: Option<&CanonicalJson>) -> Self {
        match value {
            Some(value) => self.json(name, value),
            None => self,
        }
    }

    /// The finished object.
    pub fn finish(mut self) -> CanonicalJson {
        self.out.push('}');
        CanonicalJson(self.out.into())
    }
}

/// Writes a JSON string the one canonical way (RFC 8785 §3.2.2.2).
pub(crate) fn write_string(out: &mut String, text: &str) {
    out.push('"');
    let mut clean_from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let short = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            0x08 => "\\b",
            b'\t' => "\\t",
            b'\n' => "\\n",
            0x0c => "\\f",
            b'\r' => "\\r",
            0..0x20 => "",
            _ => continue,
        };
        out.push_str(text.get(clean_from..at).unwrap_or_default());
        if short.is_empty() {
            out.push_str(&format!("\\u{byte:04x}"));
        } else {
            out.push_str(short);
        }
        clean_from = at + 1;
    }
    out.push_str(text.get(clean_from..).unwrap_or_default());
    out.push('"');
}

/// Order of member names: by UTF-16 code units (RFC 8785 §3.2.3), which for ASCII is byte order.
fn name_order(a: &str, b: &str) -> Ordering {
    if a.is_ascii() && b.is_ascii() { a.cmp(b) } else { a.encode_utf16().cmp(b.encode_utf16()) }
}

/// Reads JSON text and re-emits it canonically. Also reads leaves, whose shape is fixed.
pub(crate) struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth_max: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Result<Self, CanonicalError> {
        let text = std::str::from_utf8(text)
            .map_err(|error| CanonicalError { reason: Reason::Utf8, at: error.valid_up_to() })?;
        Ok(Self { text, at: 0, depth_max: DEPTH_MAX })
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn fail<T>(&self, reason: Reason) -> Result<T, CanonicalError> {
        Err(CanonicalError { reason, at: self.at })
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn since(&self, from: usize) -> &'a str {
        self.text.get(from..self.at).unwrap_or_default()
    }

    fn skip_white(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Takes `literal` if it comes next.
    pub(crate) fn take(&mut self, literal: &str) -> bool {
        let here = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let found = here.starts_with(literal.as_bytes());
        if found {
            self.at += literal.len();
        }
        found
    }

    pub(crate) fn expect(&mut self, literal: &str) -> Result<(), CanonicalError> {
        if self.take(literal) { Ok(()) } else { self.fail(Reason::Syntax) }
    }

    pub(crate) fn expect_end(&self) -> Result<(), CanonicalError> {
        if self.at == self.text.len() { Ok(()) } else { self.fail(Reason::Syntax) }
    }

    /// Takes bytes up to the next quote; for names and hex, which never hold an escape.
    pub(crate) fn plain_until_quote(&mut self) -> Result<&'a str, CanonicalError> {
        let from = self.at;
        while self.peek().is_some_and(|byte| byte != b'"' && byte != b'\\' && byte >= 0x20) {
            self.at += 1;
        }
        if self.peek() == Some(b'"') { Ok(self.since(from)) } else { self.fail(Reason::Syntax) }
    }

    /// Takes decimal digits without sign or leading zero.
    pub(crate) fn natural(&mut self) -> Result<u64, CanonicalError> {
        let from = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        let digits = self.since(from);
        let number = digits.parse::<u64>().ok().filter(|n| *n < 1 << 53 && n.to_string() == digits);
        number.ok_or(CanonicalError { reason: Reason::NumberRange, at: from })
    }

    /// Takes one value that must already be canonical; `scratch` is only working space.
    pub(crate) fn canonical_value(&mut self, scratch: &mut String) -> Result<&'a str, CanonicalError> {
        let from = self.at;
        scratch.clear();
        self.value(scratch, 0)?;
        if self.since(from) == scratch {
            Ok(self.since(from))
        } else {
            Err(CanonicalError { reason: Reason::NotCanonical, at: from })
        }
    }

    /// One value and nothing else.
    fn whole(mut self) -> Result<CanonicalJson, CanonicalError> {
        let mut out = String::with_capacity(self.text.len());
        self.skip_white();
        self.value(&mut out, 0)?;
        self.skip_white();
        self.expect_end()?;
        Ok(CanonicalJson(out.into()))
    }

    fn value(&mut self, out: &mut String, depth: usize) -> Result<(), CanonicalError> {
        if depth > self.depth_max {
            return self.fail(Reason::Depth);
        }
        match self.peek() {
            Some(b'{') => self.object(out, depth),
            Some(b'[') => self.array(out, depth),
            Some(b'"') => {
                let text = self.string()?;
                write_string(out, &text);
                Ok(())
            }
            Some(b'-' | b'0'..=b'9') => self.number(out),
            _ => self.word(out),
        }
    }

    fn word(&mut self, out: &mut String) -> Result<(), CanonicalError> {
        for word in ["true", "false", "null"] {
            if self.take(word) {
                out.push_str(word);
                return Ok(());
            }
        }
        self.fail(Reason::Syntax)
    }

    fn array(&mut self, out: &mut String, depth: usize) -> Result<(), CanonicalError> {
        self.expect("[")?;
        out.push('[');
        self.skip_white();
        if !self.take("]") {
            loop {
                self.skip_white();
                self.value(out, depth + 1)?;
                self.skip_white();
                if self.take("]") {
                    break;
                }
                self.expect(",")?;
                out.push(',');
            }
        }
        out.push(']');
        Ok(())
    }

    fn object(&mut self, out: &mut String, depth: usize) -> Result<(), CanonicalError> {
        self.expect("{")?;
        out.push('{');
        let body = out.len();
        let mut members: Vec<(Cow<'a, str>, Range<usize>)> = Vec::new();
        self.skip_white();
        if !self.take("}") {
            loop {
                self.skip_white();
                let from = out.len();
                let name = self.string()?;
                write_string(out, &name);
                self.skip_white();
                self.expect(":")?;
                out.push(':');
                self.skip_white();
                self.value(out, depth + 1)?;
                members.push((name, from..out.len()));
                self.skip_white();
                if self.take("}") {
                    break;
                }
                self.expect(",")?;
                out.push(',');
            }
        }
        self.sort_members(out, body, members)?;
        out.push('}');
        Ok(())
    }

    /// Puts the members written since `body` into canonical order; mostly they already are.
    fn sort_members(
        &self,
        out: &mut String,
        body: usize,
        mut members: Vec<(Cow<'a, str>, Range<usize>)>,
    ) -> Result<(), CanonicalError> {
        if members.is_sorted_by(|a, b| name_order(&a.0, &b.0) == Ordering::Less) {
            return Ok(());
        }
        members.sort_by(|a, b| name_order(&a.0, &b.0));
        if members.windows(2).any(|pair| matches!(pair, [a, b] if a.0 == b.0)) {
            return self.fail(Reason::DuplicateName);
        }
        let sorted: Vec<&str> = members.iter().filter_map(|(_, range)| out.get(range.clone())).collect();
        let sorted = sorted.join(",");
        out.truncate(body);
        out.push_str(&sorted);
        Ok(())
    }

    fn string(&mut self) -> Result<Cow<'a, str>, CanonicalError> {
        self.expect("\"")?;
        let mut decoded: Option<String> = None;
        let mut clean_from = self.at;
        loop {
            match self.peek() {
                Some(b'"') => {
                    let rest = self.since(clean_from);
                    self.at += 1;
                    return Ok(match decoded {
                        None => Cow::Borrowed(rest),
                        Some(text) => Cow::Owned(text + rest),
                    });
                }
                Some(b'\\') => {
                    let text = decoded.get_or_insert_default();
                    text.push_str(self.text.get(clean_from..self.at).unwrap_or_default());
                    self.at += 1;
                    let character = self.escape()?;
                    decoded.get_or_insert_default().push(character);
                    clean_from = self.at;
                }
                Some(0x20..) => self.at += 1,
                _ => return self.fail(Reason::Syntax),
            }
        }
    }

    fn escape(&mut self) -> Result<char, CanonicalError> {
        let byte = self.peek();
        self.at += 1;
        Ok(match byte {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            _ => return self.fail(Reason::Syntax),
        })
    }

    fn unicode_escape(&mut self) -> Result<char, CanonicalError> {
        let first = self.four_hex()?;
        let unit = if (0xD800..0xDC00).contains(&first) {
            if !self.take("\\u") {
                return self.fail(Reason::LoneSurrogate);
            }
            let second = self.four_hex()?;
            if !(0xDC00..0xE000).contains(&second) {
                return self.fail(Reason::LoneSurrogate);
            }
            0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)
        } else {
            first
        };
        char::from_u32(unit).ok_or(CanonicalError { reason: Reason::LoneSurrogate, at: self.at })
    }

    fn four_hex(&mut self) -> Result<u32, CanonicalError> {
        let digits = self.text.get(self.at..self.at + 4).unwrap_or_default();
        if digits.len() != 4 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return self.fail(Reason::Syntax);
        }
        self.at += 4;
        u32::from_str_radix(digits, 16).or_else(|_| self.fail(Reason::Syntax))
    }

    fn digits(&mut self) -> usize {
        let from = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        self.at - from
    }

    /// RFC 8259 §6 number, re-emitted as ECMAScript writes it.
    fn number(&mut self, out: &mut String) -> Result<(), CanonicalError> {
        let from = self.at;
        self.take("-");
        let leading_zero = self.peek() == Some(b'0');
        let whole = self.digits();
        if whole == 0 || (leading_zero && whole > 1) {
            return self.fail(Reason::Syntax);
        }
        let mut integer = true;
        if self.take(".") {
            integer = false;
            if self.digits() == 0 {
                return self.fail(Reason::Syntax);
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            integer = false;
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if self.digits() == 0 {
                return self.fail(Reason::Syntax);
            }
        }
        self.emit_number(from, integer, out)
    }

    fn emit_number(&self, from: usize, integer: bool, out: &mut String) -> Result<(), CanonicalError> {
        let literal = self.since(from);
        if integer && literal.len() <= 15 && literal != "-0" {
            out.push_str(literal); // below 10^15: exact in a double, and already the canonical text
            return Ok(());
        }
        let range = CanonicalError { reason: Reason::NumberRange, at: from };
        let value: f64 = literal.parse().map_err(|_| range.clone())?;
        if !value.is_finite() {
            return Err(range);
        }
        let mut buffer = ryu_js::Buffer::new();
        let canonical = buffer.format_finite(value);
        if integer && canonical != literal && literal != "-0" {
            return Err(range);
        }
        out.push_str(canonical);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    fn canonical(text: &str) -> Result<String, Reason> {
        CanonicalJson::parse(text.as_bytes()).map(|value| value.as_str().to_owned()).map_err(|e| e.reason)
    }

    #[test]
    fn writes_what_rfc_8785_and_the_field_write() {
        let sha = |text: &str| crate::Hash::of(&[canonical(text).unwrap().as_bytes()]).to_hex();
        for (text, hash) in [
            (
                r#"{"b":1,"a":{"z":"last","m":["x",{"c":3,"a":1}]}}"#,
                "3588b9925fbfd8c10b308c5dcd2bc8cde4d29031baf0a71b18d4ff32a216ac5f",
            ),
            (
                r#"{"10":"ten","9":"nine","a":1,"1":"one"}"#,
                "d0a7a72c8533ccecbe5df62965f970811058ec8127c287f81f8c8c10ebadf6ec",
            ),
            (
                "{\"h\":\"<script>&</script>\",\"s\":\"\u{2028}\u{2029}\"}",
                "fb06c4f98d8715916378e5cd75c92a243847f8d9012295275973ee17834def74",
            ),
            (
                r#"{"t":"tab\tnl\nq\"bs\\ctl\u0001\u007f\u001f/\/\b\f"}"#,
                "1b42c631ca70aa5051ccb766ea28ce0239703cc19a6f4434afacd7467f18ba2f",
            ),
            (
                r#"{"\ud83d\ude00":1,"\ufb33":2,"\u20ac":3,"\r":4,"1":5,"\u0080":6,"\u00f6":7}"#,
                "aa64b47304d63a6111b144c048a88f30a28dc700b3217e0889d175cd328b87c0",
            ),
            (
                r#"{"n":null,"t":true,"f":false,"e":{},"l":[],"s":""}"#,
                "ac5aff62fcd2f0a02b8fa442947d19c2f9b0ca3e0d3036747a184ff4df98d6d8",
            ),
            (
                r#"{"__proto__":{"x":1},"a":1}"#,
                "16f0a6f5823c7470398e5edfba59dfbde97abf692bcffed62a946ee9587d1271",
            ),
        ] {
            assert_eq!(sha(text), hash, "{text}");
        }
        assert_eq!(
            canonical(r#"{"a":1.0,"b":1e2,"c":0.1,"d":1e21,"e":1e-7,"f":-0,"h":5e-324,"i":1.10}"#).unwrap(),
            r#"{"a":1,"b":100,"c":0.1,"d":1e+21,"e":1e-7,"f":0,"h":5e-324,"i":1.1}"#
        );
    }

    #[test]
    fn refuses_what_readers_disagree_on() {
        for (text, reason) in [
            (r#"{"a":1,"a":2}"#, Reason::DuplicateName),
            (r#"{"b":1,"a":1,"b":1}"#, Reason::DuplicateName),
            (r#"{"a":1,"\u0061":2}"#, Reason::DuplicateName),
            (r#"{"s":"\ud800"}"#, Reason::LoneSurrogate),
            (r#"{"s":"\ud800\u0041"}"#, Reason::LoneSurrogate),
            (r#"{"s":"\udc00"}"#, Reason::LoneSurrogate),
            (r#"{"n":9007199254740993}"#, Reason::NumberRange),
            (r#"{"n":1e400}"#, Reason::NumberRange),
            ("[01]", Reason::Syntax),
            ("[1.]", Reason::Syntax),
            ("[1,]", Reason::Syntax),
            ("[+1]", Reason::Syntax),
            ("{\"a\":\"\n\"}", Reason::Syntax),
            ("{} {}", Reason::Syntax),
            ("", Reason::Syntax),
            ("nul", Reason::Syntax),
        ] {
            assert_eq!(canonical(text), Err(reason), "{text}");
        }
        assert_eq!(CanonicalJson::parse(b"\"\xff\"").unwrap_err().reason, Reason::Utf8);
        let deep = "[".repeat(100) + &"]".repeat(100);
        assert_eq!(canonical(&deep), Err(Reason::Depth));
        // What was accepted by itself is still read with one object around it, and no more than that.
        let deepest = format!("{}{}", "[".repeat(DEPTH_MAX + 1), "]".repeat(DEPTH_MAX + 1));
        assert!(CanonicalJson::parse(deepest.as_bytes()).is_ok());
        let around = |levels: usize| format!("{}{deepest}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(CanonicalJson::parse_around(around(1).as_bytes()).is_ok());
        assert!(CanonicalJson::parse_around(around(2).as_bytes()).is_err());
        assert!(CanonicalJson::parse_around_leaf(around(2).as_bytes()).is_ok());
        assert!(CanonicalJson::parse_around_leaf(around(3).as_bytes()).is_err());
    }

    #[test]
    fn agrees_with_an_independent_canonicaliser_and_is_a_fixed_point() {
        let texts = [
            r#"[1e20,123456789012345680000,0.000001,1e-6,333333333.3333333,-1.5e300,4.35,0.1e1]"#,
            r#"{"é":1,"e\u0301":"\u0000\u001f\u007f","€":{"😀":[],"\uffff":{}}, "a":[true,false,null]}"#,
            r#" [ { "k" : [ ] } , "" , "\u0022\u005c\/" ] "#,
        ];
        for text in texts {
            let ours = canonical(text).unwrap();
            let theirs =
                serde_jcs::to_string(&serde_json::from_str::<serde_json::Value>(text).unwrap()).unwrap();
            assert_eq!(ours, theirs);
            assert_eq!(canonical(&ours).unwrap(), ours);
        }
    }

    #[test]
    fn object_writer_emits_canonical_text() {
        let value = ObjectWriter::new().string("a", "\"\u{1}").integer("b", 7).string_if("c", None).finish();
        assert_eq!(CanonicalJson::parse(value.as_bytes()).unwrap(), value);
    }
}
