//! The canonical forms that existing writers hash: one JSON value, eight texts.
//!
//! | mode | whose | names in the order of | numbers | escapes beyond the required |
//! |---|---|---|---|---|
//! | `jcs` | RFC 8785; JavaScript that concatenates | UTF-16 units | ECMAScript | none |
//! | `js-rebuild` | JavaScript that rebuilds objects | array indices first, then UTF-16 units | ECMAScript | none |
//! | `go-html` | `encoding/json` over float64 | bytes | ECMAScript, but `-0` | `<>&`, U+2028, U+2029 |
//! | `go-html-text` | the same over json.Number | bytes | as written | the same |
//! | `go-raw` | the same without HTML escapes | bytes | ECMAScript, but `-0` | U+2028, U+2029 |
//! | `py-default` | `json.dumps(sort_keys=True)` | code points | Python's | all but ASCII; `, ` and `: ` |
//! | `jq16` | `jq -cS`, version 1.6 | bytes | jq's | U+007F |
//!
//! A name that is repeated counts once, with its last value, as every one of those readers takes it.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use super::json::{Text, Value, first_point, points};

/// Members of an object that are put in order without asking for memory.
const FEW: usize = 32;

/// A canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// RFC 8785, and what it calls invalid as JavaScript writes it.
    Jcs,
    /// Integer-like names first.
    JsRebuild,
    /// The same in code that assigns members one by one: `__proto__` is lost.
    JsRebuildNoProto,
    /// Go, HTML-safe, numbers as doubles; since 1.22 with `\b` and `\f`.
    GoHtml,
    /// The same before Go 1.22.
    GoHtmlOld,
    /// Go, HTML-safe, numbers as written; since 1.22.
    GoHtmlText,
    /// The same before Go 1.22.
    GoHtmlTextOld,
    /// Go without HTML escapes; since 1.22.
    GoRaw,
    /// The same before Go 1.22.
    GoRawOld,
    /// Python's default.
    PyDefault,
    /// jq 1.6.
    Jq16,
}

impl Mode {
    /// Every mode, the likeliest of each family first.
    pub const ALL: [Self; 11] = [
        Self::Jcs,
        Self::JsRebuild,
        Self::JsRebuildNoProto,
        Self::GoHtmlText,
        Self::GoHtml,
        Self::GoHtmlTextOld,
        Self::GoHtmlOld,
        Self::GoRaw,
        Self::GoRawOld,
        Self::PyDefault,
        Self::Jq16,
    ];

    /// The name in options and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Jcs => "jcs",
            Self::JsRebuild => "js-rebuild",
            Self::JsRebuildNoProto => "js-rebuild-no-proto",
            Self::GoHtml => "go-html",
            Self::GoHtmlOld => "go-html-1.21",
            Self::GoHtmlText => "go-html-text",
            Self::GoHtmlTextOld => "go-html-text-1.21",
            Self::GoRaw => "go-raw",
            Self::GoRawOld => "go-raw-1.21",
            Self::PyDefault => "py-default",
            Self::Jq16 => "jq16",
        }
    }

    /// The canonical text, in bytes; `None` if this writer could not have written the value.
    pub fn write(self, value: &Value<'_>) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(256);
        self.append(value, &mut out)?;
        Some(out)
    }

    /// The same at the end of `out`, which is undefined after `None`.
    pub fn append(self, value: &Value<'_>, out: &mut Vec<u8>) -> Option<()> {
        match value {
            Value::Null => out.extend_from_slice(b"null"),
            Value::Bool(true) => out.extend_from_slice(b"true"),
            Value::Bool(false) => out.extend_from_slice(b"false"),
            Value::Number(text) => self.number(text, out)?,
            Value::Text(text) => self.text(text, out),
            Value::Array(items) => {
                out.push(b'[');
                for (position, item) in items.iter().enumerate() {
                    self.comma(position, out);
                    self.append(item, out)?;
                }
                out.push(b']');
            }
            Value::Object(members) => {
                out.push(b'{');
                let mut few = [0; FEW];
                let mut many = Vec::new();
                let order = match few.get_mut(..members.len()) {
                    Some(few) => few,
                    None => {
                        many.resize(members.len(), 0);
                        many.as_mut_slice()
                    }
                };
                self.members(members, order, out)?;
                out.push(b'}');
            }
        }
        Some(())
    }

    fn comma(self, position: usize, out: &mut Vec<u8>) {
        if position > 0 {
            out.extend_from_slice(if self == Self::PyDefault { b", " } else { b"," });
        }
    }

    const fn is_js(self) -> bool {
        matches!(self, Self::Jcs | Self::JsRebuild | Self::JsRebuildNoProto)
    }

    const fn is_go(self) -> bool {
        !self.is_js() && !matches!(self, Self::PyDefault | Self::Jq16)
    }

    /// Members as they are written: each name once, with its last value. `order` has room for their positions.
    fn members(
        self,
        members: &[(Text<'_>, Value<'_>)],
        order: &mut [usize],
        out: &mut Vec<u8>,
    ) -> Option<()> {
        for (position, place) in order.iter_mut().enumerate() {
            *place = position;
        }
        let name = |at: usize| members.get(at).map_or(&[][..], |(name, _)| name);
        // Equal names stay in their order, so the last of them is the last.
        order.sort_by(|one, other| self.order(name(*one), name(*other)));
        let mut written = 0;
        for (position, at) in order.iter().enumerate() {
            let (name, value) = members.get(*at)?;
            let next = order.get(position + 1).and_then(|next| members.get(*next));
            let is_last = next.is_none_or(|(next, _)| next != name);
            if !is_last || (self == Self::JsRebuildNoProto && **name == *b"__proto__") {
                continue;
            }
            self.comma(written, out);
            written += 1;
            self.text(name, out);
            out.extend_from_slice(if self == Self::PyDefault { b": " } else { b":" });
            self.append(value, out)?;
        }
        Some(())
    }

    fn order(self, one: &[u8], other: &[u8]) -> Ordering {
        match self {
            Self::JsRebuild | Self::JsRebuildNoProto => match (array_index(one), array_index(other)) {
                (Some(one), Some(other)) => one.cmp(&other),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => by_units(one, other),
            },
            Self::Jcs => by_units(one, other),
            // The order of bytes of UTF-8 is that of code points.
            _ => one.cmp(other),
        }
    }

    fn text(self, text: &[u8], out: &mut Vec<u8>) {
        out.push(b'"');
        let mut rest = text;
        loop {
            let special = |byte: &u8| !matches!(byte, b' '..=b'~') || b"\"\\<>&".contains(byte);
            let plain = rest.iter().position(special).unwrap_or(rest.len());
            let (before, from) = rest.split_at_checked(plain).unwrap_or((rest, &[]));
            out.extend_from_slice(before);
            let Some((point, after)) = first_point(from) else { break };
            self.point(point, out);
            rest = after;
        }
        out.push(b'"');
    }

    fn point(self, point: u32, out: &mut Vec<u8>) {
        let short_back = !matches!(self, Self::GoHtmlOld | Self::GoHtmlTextOld | Self::GoRawOld);
        let html = self.is_go() && !matches!(self, Self::GoRaw | Self::GoRawOld);
        let two = match point {
            0x22 => Some(b'"'),
            0x5c => Some(b'\\'),
            0x0a => Some(b'n'),
            0x0d => Some(b'r'),
            0x09 => Some(b't'),
            0x08 if short_back => Some(b'b'),
            0x0c if short_back => Some(b'f'),
            _ => None,
        };
        if let Some(letter) = two {
            return out.extend([b'\\', letter]);
        }
        let escaped = match point {
            0..0x20 => true,
            0x26 | 0x3c | 0x3e => html,
            0x7f => matches!(self, Self::PyDefault | Self::Jq16),
            0x2028 | 0x2029 => self.is_go() || self == Self::PyDefault,
            0xd800..0xe000 => self.is_js() || self == Self::PyDefault,
            0x80.. => self == Self::PyDefault,
            _ => false,
        };
        if !escaped {
            // Whoever decodes a lone surrogate to something else decodes it to this.
            let letter = char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER);
            return out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
        }
        let mut unit = |unit: u32| {
            let digit = |shift: u32| char::from_digit(unit >> shift & 15, 16).map_or(b'0', |it| it as u8);
            out.extend([b'\\', b'u', digit(12), digit(8), digit(4), digit(0)]);
        };
        match point.checked_sub(0x10000) {
            None => unit(point),
            Some(above) => {
                unit(0xd800 + (above >> 10));
                unit(0xdc00 + (above & 0x3ff));
            }
        }
    }

    fn number(self, text: &str, out: &mut Vec<u8>) -> Option<()> {
        if matches!(self, Self::GoHtmlText | Self::GoHtmlTextOld) {
            out.extend_from_slice(text.as_bytes());
            return Some(());
        }
        let whole = !text.contains(['.', 'e', 'E']);
        if self == Self::PyDefault && whole {
            // Whole numbers of any size; there is no negative zero among them.
            out.extend_from_slice(if text == "-0" { b"0" } else { text.as_bytes() });
            return Some(());
        }
        if is_shortest(text) {
            out.extend_from_slice(text.as_bytes());
            return Some(());
        }
        let double: f64 = text.parse().ok()?;
        if !double.is_finite() {
            // JavaScript reads infinity and writes null; the others do not write it.
            return self.is_js().then(|| out.extend_from_slice(b"null"));
        }
        let written = match self {
            _ if self.is_js() => ecmascript(if double == 0.0 { 0.0 } else { double }),
            Self::PyDefault => python(double),
            Self::Jq16 => jq(double),
            _ => ecmascript(double),
        };
        out.extend_from_slice(written.as_bytes());
        Some(())
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// There is no such mode. Whoever named it is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no canonical mode")]
pub struct UnknownMode(String);

impl FromStr for Mode {
    type Err = UnknownMode;
    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == text).ok_or_else(|| UnknownMode(text.to_owned()))
    }
}

/// What JavaScript takes for a position of an array: ECMA-262 6.1.7, 0 to 2^32 − 2 in its one spelling.
fn array_index(name: &[u8]) -> Option<u32> {
    if !matches!(name, [b'0'] | [b'1'..=b'9', ..]) {
        return None;
    }
    let index: u32 = std::str::from_utf8(name).ok()?.parse().ok()?;
    (index < u32::MAX).then_some(index)
}

/// By UTF-16 units: letters beyond the first plane come before U+E000.
fn by_units(one: &[u8], other: &[u8]) -> Ordering {
    if one.is_ascii() && other.is_ascii() {
        return one.cmp(other);
    }
    let units = |text| {
        points(text).flat_map(|point| match point.checked_sub(0x10000) {
            None => [Some(point), None],
            Some(above) => [Some(0xd800 + (above >> 10)), Some(0xdc00 + (above & 0x3ff))],
        })
    };
    units(one).flatten().cmp(units(other).flatten())
}

/// Whether every one of these writers reads a number and writes the same text again: a decimal of at most fifteen
/// digits, which no other decimal of that length shares a double with, neither padded nor small enough for an
/// exponent.
fn is_shortest(text: &str) -> bool {
    const DIGITS_MAX: usize = 15;
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits == "0" {
        return text == digits;
    }
    let decimal = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    match digits.split_once('.') {
        None => digits.len() <= DIGITS_MAX && decimal(digits),
        Some((whole, part)) => {
            digits.len() <= DIGITS_MAX
                && decimal(whole)
                && decimal(part)
                && !part.ends_with('0')
                && (whole != "0" || !part.starts_with("0000"))
        }
    }
}

/// Sign, shortest digits that read back as the double, and the exponent of the first of them.
fn shortest(double: f64) -> (&'static str, String, i32) {
    let text = format!("{:e}", double.abs());
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let sign = if double.is_sign_negative() { "-" } else { "" };
    (sign, digits.replace('.', ""), exponent.parse().unwrap_or_default())
}

/// Without exponent: `point` digits stand before the point, which may be none or beyond the last.
fn positional(sign: &str, digits: &str, point: i32) -> String {
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or_default());
    if point <= 0 {
        return format!("{sign}0.{}{digits}", zeros(-point));
    }
    match usize::try_from(point).ok().and_then(|point| digits.split_at_checked(point)) {
        Some((whole, part)) if !part.is_empty() => format!("{sign}{whole}.{part}"),
        _ => format!("{sign}{digits}{}", zeros(point - count)),
    }
}

/// With exponent, of at least so many digits.
fn exponential(sign: &str, digits: &str, exponent: i32, width: usize) -> String {
    let (first, rest) = digits.split_at_checked(1).unwrap_or((digits, ""));
    let point = if rest.is_empty() { "" } else { "." };
    let direction = if exponent < 0 { '-' } else { '+' };
    format!("{sign}{first}{point}{rest}e{direction}{:0width$}", exponent.unsigned_abs())
}

/// ECMA-262 6.1.6.1.20, but `-0` keeps its sign, as Go writes it.
fn ecmascript(double: f64) -> String {
    let (sign, digits, exponent) = shortest(double);
    match exponent + 1 {
        point @ -5..=21 => positional(sign, &digits, point),
        _ => exponential(sign, &digits, exponent, 1),
    }
}

/// CPython's `repr`.
fn python(double: f64) -> String {
    let (sign, digits, exponent) = shortest(double);
    match exponent {
        -4..=15 => {
            let text = positional(sign, &digits, exponent + 1);
            if text.contains('.') { text } else { text + ".0" }
        }
        _ => exponential(sign, &digits, exponent, 2),
    }
}

/// jq 1.6's `jvp_dtoa_fmt`.
fn jq(double: f64) -> String {
    let (sign, digits, exponent) = shortest(double);
    let (point, count) = (exponent + 1, i32::try_from(digits.len()).unwrap_or(i32::MAX));
    match point <= -4 || point > count + 15 {
        false => positional(sign, &digits, point),
        true => exponential(sign, &digits, exponent, 2),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use crate::Hash;

    use super::*;

    const JS: [Mode; 2] = [Mode::Jcs, Mode::JsRebuild];
    const GO_DOUBLE: [Mode; 4] = [Mode::GoHtml, Mode::GoHtmlOld, Mode::GoRaw, Mode::GoRawOld];
    const GO_TEXT: [Mode; 2] = [Mode::GoHtmlText, Mode::GoHtmlTextOld];

    /// Every mode's hash of a text must be the one that is said, each mode at most once.
    #[track_caller]
    fn hashes(text: &str, said: &[(&[Mode], &str)]) {
        let value = Value::parse(text).unwrap();
        for (modes, sha256) in said {
            for mode in *modes {
                let written = mode.write(&value).unwrap();
                let found = Hash::of(&[&written]).to_hex();
                assert_eq!(found, *sha256, "{mode}: {}", String::from_utf8_lossy(&written));
            }
        }
    }

    /// Hashes of what the writers themselves printed.
    #[test]
    fn each_mode_writes_what_its_writers_wrote() {
        let go = [GO_DOUBLE.as_slice(), &GO_TEXT].concat();
        let but_python: Vec<Mode> = Mode::ALL.into_iter().filter(|mode| *mode != Mode::PyDefault).collect();
        let python: &[Mode] = &[Mode::PyDefault];
        hashes(
            r#"{"b":1,"a":{"z":"last","m":["x",{"c":3,"a":1}]}}"#,
            &[
                (&but_python, "3588b9925fbfd8c10b308c5dcd2bc8cde4d29031baf0a71b18d4ff32a216ac5f"),
                (python, "756787d911f26aeb67b7d7fcc1071f22c9d44de9115a1047c80d4677d3057e05"),
            ],
        );
        hashes(
            r#"{"10":"ten","9":"nine","a":1,"1":"one"}"#,
            &[
                (
                    &[Mode::Jcs, Mode::Jq16],
                    "d0a7a72c8533ccecbe5df62965f970811058ec8127c287f81f8c8c10ebadf6ec",
                ),
                (&go, "d0a7a72c8533ccecbe5df62965f970811058ec8127c287f81f8c8c10ebadf6ec"),
                (&[Mode::JsRebuild], "72e92906783747c69d2b3fa70d62e8c7b9e52c930c27a2f5be750d0f1d1448f2"),
            ],
        );
        hashes(
            r#"{"a":1.0,"b":1e2,"c":0.1,"d":1e21,"e":1e-7,"f":-0,"g":123456789012345678901234567890,"h":5e-324,"i":1.10}"#,
            &[
                (&JS, "a5821aa564569ba8e4413892a635cbb38b662f99ca66349c89d065e91c5c15cc"),
                (&GO_DOUBLE, "3357f3ebde0156e0bc92c82b30222d5bfdf40e647aea959e3aa5506389eecad2"),
                (&GO_TEXT, "0f3e8dedced9298c5b0f3bcd17ce735e221f0778a74f0100fbb54f1cbc917313"),
                (python, "27a3dc03afa0f3028401eb23374bb31104bc083215fa79f89404de6e187daf67"),
                (&[Mode::Jq16], "8ff4a334ba279d43817540f792ce9477fa479f2ba6f86f5b92bac5f4e1bff094"),
            ],
        );
        hashes(
            "{\"h\":\"<script>&</script>\",\"s\":\"\u{2028}\u{2029}\"}",
            &[
                (&JS, "fb06c4f98d8715916378e5cd75c92a243847f8d9012295275973ee17834def74"),
                (&[Mode::Jq16], "fb06c4f98d8715916378e5cd75c92a243847f8d9012295275973ee17834def74"),
                (
                    &[Mode::GoHtml, Mode::GoHtmlText],
                    "744baaf4da2f3c154c140b88abce83efb5017b2bea7a5c73d91a672727d1fdc5",
                ),
                (&[Mode::GoRaw], "a823b0d8f3f3579e24de63bf2d1a257c9cea77d7badc29dd9e820e7221573cba"),
                (python, "07b52b8a201fc38552c649550089f4a9a7c6eddfac33fc198811d19871df52a1"),
            ],
        );
        hashes(
            r#"{"t":"tab\tnl\nq\"bs\\ctl\u0001\u007f\u001f/\/\b\f"}"#,
            &[
                (&JS, "1b42c631ca70aa5051ccb766ea28ce0239703cc19a6f4434afacd7467f18ba2f"),
                (
                    &[Mode::GoHtmlOld, Mode::GoHtmlTextOld, Mode::GoRawOld],
                    "0365080b2a640d87bde9588bc6b80312a80214fc07095dfd1b47903ff2605fcb",
                ),
                (
                    &[Mode::GoHtml, Mode::GoRaw],
                    "1b42c631ca70aa5051ccb766ea28ce0239703cc19a6f4434afacd7467f18ba2f",
                ),
                (&[Mode::Jq16], "52b4dafeaffeee39344941ddfef2c960580c315531665ca497c4f9d87ad61c36"),
                (python, "78dc52af8018bc0c8c216814055d4ec785c288beea222ffe5a516fa3338d20d8"),
            ],
        );
        hashes(
            "{\"text\":\"Hello 世界\",\"emoji\":\"👋\",\"é\":\"e\u{301}\"}",
            &[
                (&but_python, "886272321957bbf35125b85b480506e5e5b57ef2565f2b6c7515db18c046bde1"),
                (python, "accdbb682fbdae5f390d5ff0fb74c66400d9b311792b76de7da45fd9171d8d59"),
            ],
        );
        hashes(
            r#"{"\ud83d\ude00":1,"\ufb33":2,"\u20ac":3,"\r":4,"1":5,"\u0080":6,"\u00f6":7}"#,
            &[
                (&[Mode::Jcs], "aa64b47304d63a6111b144c048a88f30a28dc700b3217e0889d175cd328b87c0"),
                (&[Mode::JsRebuild], "1e6387c82f5b9adb395f92284440f245594cb43a5861702f3685a51d87e175ac"),
                (&go, "e71b5024b415853a0731afdd6d3ce70fbf3ec4ff99e44755e8ad616641bcfb52"),
                (&[Mode::Jq16], "e71b5024b415853a0731afdd6d3ce70fbf3ec4ff99e44755e8ad616641bcfb52"),
                (python, "175768dd185695a50c19ea14b293698b1cb219e6fc98c0ccace0f2fa21479caa"),
            ],
        );
        let with_proto = [JS.as_slice(), &go, &[Mode::Jq16]].concat();
        hashes(
            r#"{"__proto__":{"x":1},"a":1}"#,
            &[
                (&with_proto, "16f0a6f5823c7470398e5edfba59dfbde97abf692bcffed62a946ee9587d1271"),
                (
                    &[Mode::JsRebuildNoProto],
                    "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862",
                ),
            ],
        );
        hashes(
            r#"{"n":null,"t":true,"f":false,"e":{},"l":[],"s":""}"#,
            &[(&but_python, "ac5aff62fcd2f0a02b8fa442947d19c2f9b0ca3e0d3036747a184ff4df98d6d8")],
        );
        hashes(
            r#"{"s":"\ud800"}"#,
            &[
                (&JS, "d06a70a1ca4d3ac4099cd5f35ecbb551be652247e0950c05790e8f0c58010851"),
                (&go, "7513ecfd87d7bd3c5671d16e2a24074dc15ea73c79a51ffda3ffc1cd8ede8389"),
            ],
        );
        hashes(
            r#"{"n":9007199254740993}"#,
            &[
                (&JS, "66c87d9cb3014e05a11baa97df62282d89d425f22ee15816577c84534e2ef1bb"),
                (&GO_DOUBLE, "66c87d9cb3014e05a11baa97df62282d89d425f22ee15816577c84534e2ef1bb"),
                (&GO_TEXT, "4ac8309cc76123ef6c5325ef925fc873e9b5856ec4f844ef1462f9303960378a"),
            ],
        );
    }

    /// Vectors of the platform's own tests. The text of the third there leaves `author` out, which no writer does: the
    /// hash here is of what they all write.
    #[test]
    fn nodes_of_the_reasoning_graph_have_one_form_in_all_but_one_mode() {
        let all: Vec<Mode> = Mode::ALL.into_iter().filter(|mode| *mode != Mode::PyDefault).collect();
        for (text, sha256) in [
            (
                r#"{"id":"node-1","type":"Decision","actor":"service:eval","ts":"2025-11-17T12:00:00Z","payload":
                {"score":0.95,"reason":"improved","details":{"a":1,"b":2}},"metadata":{"foo":"bar","z":"last"}}"#,
                "bc9f84c046532abe09db2fa95ab2d2cf3476b7394847cf2b7aeb8daee2e09721",
            ),
            (
                r#"{"id":"node-2","type":"Recommendation","payload":{"items":[{"name":"x","value":10},{"value":5,
                "name":"y"}],"meta":{"z":[3,2,1],"a":{"k2":"v2","k1":"v1"}}},"ts":"2025-11-17T12:05:00Z"}"#,
                "f0abc213df84dcda20e0f80b1076318040277fdeb94df370a89235cffb3e09dc",
            ),
            (
                r#"{"id":"ann-1","type":"Annotation","author":null,"payload":{"note":"Checked","flag":true,
                "extra":null},"ts":"2025-11-17T12:10:00Z"}"#,
                "9f1d42f71767437001db5adf2038b749f798c2f8e71c71e49a267048f1a52e11",
            ),
        ] {
            hashes(text, &[(&all, sha256)]);
        }
    }

    #[test]
    fn many_members_are_in_order_as_few_are() {
        let names: Vec<usize> = (0..2 * FEW).map(|number| number * 37 % (2 * FEW)).collect();
        let text = names.iter().map(|name| format!("\"n{name:03}\":{name}")).collect::<Vec<_>>().join(",");
        let value = format!("{{{text},\"n007\":true}}");
        let written = Mode::Jcs.write(&Value::parse(&value).unwrap()).unwrap();
        let wanted: Vec<String> = (0..2 * FEW)
            .map(|name| if name == 7 { "\"n007\":true".to_owned() } else { format!("\"n{name:03}\":{name}") })
            .collect();
        assert_eq!(String::from_utf8(written).unwrap(), format!("{{{}}}", wanted.join(",")));
    }

    #[test]
    fn what_is_taken_over_is_what_would_be_written() {
        for (text, is_taken_over) in [
            ("0", true),
            ("-0", false),
            ("7", true),
            ("-12.5", true),
            ("0.0001", true),
            ("0.00001", false),
            ("-0.00002", false),
            ("1.50", false),
            ("1.0", false),
            ("0.0", false),
            ("123456789012345", true),
            ("1234567890123456", false),
            ("0.1234567890123", true),
            ("0.12345678901234", false),
            ("1e3", false),
            ("1.5E2", false),
        ] {
            assert_eq!(is_shortest(text), is_taken_over, "{text}");
            let double: f64 = text.parse().unwrap();
            if is_taken_over {
                assert_eq!(ecmascript(double), text);
                assert_eq!(jq(double), text);
                assert_eq!(python(double).trim_end_matches(".0"), text);
            }
        }
    }

    #[test]
    fn a_repeated_name_counts_once_with_its_last_value() {
        let value = Value::parse(r#"{"a":1,"b":0,"a":2}"#).unwrap();
        for mode in Mode::ALL {
            let spaced = mode == Mode::PyDefault;
            let wanted: &[u8] = if spaced { br#"{"a": 2, "b": 0}"# } else { br#"{"a":2,"b":0}"# };
            assert_eq!(mode.write(&value).unwrap(), wanted, "{mode}");
        }
    }

    #[test]
    fn positions_of_arrays_are_few() {
        for (name, index) in [("0", Some(0)), ("4294967294", Some(4_294_967_294)), ("4294967295", None)] {
            assert_eq!(array_index(name.as_bytes()), index, "{name}");
        }
        for name in ["", "-1", "01", "1.0", "+1", "1e3", " 1"] {
            assert_eq!(array_index(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn modes_have_one_name_each() {
        for mode in Mode::ALL {
            assert_eq!(mode.as_str().parse::<Mode>().unwrap(), mode);
        }
        assert!("nothing".parse::<Mode>().is_err());
    }

    #[test]
    fn numbers_at_the_edges() {
        for (text, js, py, jq) in [
            ("1e-6", "0.000001", "1e-06", "1e-06"),
            ("0.0001", "0.0001", "0.0001", "0.0001"),
            ("0.00001", "0.00001", "1e-05", "1e-05"),
            ("1e16", "10000000000000000", "1e+16", "1e+16"),
            ("1e15", "1000000000000000", "1000000000000000.0", "1000000000000000"),
            ("1.5e300", "1.5e+300", "1.5e+300", "1.5e+300"),
            ("-0.0", "0", "-0.0", "-0"),
            ("1e17", "100000000000000000", "1e+17", "1e+17"),
        ] {
            let value = Value::Number(text);
            let written = |mode: Mode| String::from_utf8(mode.write(&value).unwrap()).unwrap();
            assert_eq!(written(Mode::Jcs), js, "{text}");
            assert_eq!(written(Mode::PyDefault), py, "{text}");
            assert_eq!(written(Mode::Jq16), jq, "{text}");
        }
        assert_eq!(Mode::GoHtml.write(&Value::Number("1e999")), None);
        assert_eq!(Mode::Jcs.write(&Value::Number("1e999")).unwrap(), b"null");
    }
}
