//! Strict reading of one JSON object whose members are known when the code is written.
//!
//! serde_json checks the grammar; this file decides about the members, and says which one is wrong: a
//! name we do not know, a name given twice, a name missing, a value of the wrong type. Nothing is
//! copied: values stay slices of the body until a typed field is taken. It refuses nothing silently
//! and accepts nothing twice.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Longest part of a caller's own text repeated in an error, in characters.
const ECHO_CHARS_MAX: usize = 64;

/// Why a body was refused. The caller is at fault each time; nothing has happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON, or not UTF-8.
    #[error("the body is not valid JSON (line {line}, column {column})")]
    Syntax {
        /// Line, from 1; 0 when unknown.
        line: usize,
        /// Column, from 1; 0 when unknown.
        column: usize,
    },
    /// Valid JSON, but not an object.
    #[error("{at} must be a JSON object")]
    NotAnObject {
        /// The place, such as `the body` or `items[3]`.
        at: String,
    },
    /// A member we do not know. Refused, so that a misspelt option never passes unnoticed.
    #[error("unknown field {field}")]
    UnknownField {
        /// The member's path.
        field: String,
    },
    /// A member given twice: readers disagree which one counts.
    #[error("field {field} occurs more than once")]
    DuplicateKey {
        /// The member's path.
        field: String,
    },
    /// A required member is not there.
    #[error("field {field} is missing")]
    MissingField {
        /// The member's path.
        field: String,
    },
    /// A member has the wrong type or is outside its rule.
    #[error("field {field} {rule}")]
    InvalidField {
        /// The member's path.
        field: String,
        /// What it must be, as a half sentence starting with `must`.
        rule: Cow<'static, str>,
    },
}

/// Where an object stands in the body, for error texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The body itself.
    Body,
    /// An element of the body's `items`.
    Item(usize),
}

impl Place {
    /// The path of a member, such as `digest` or `items[3].digest`.
    pub(crate) fn path(self, name: &str) -> String {
        match self {
            Self::Body => name.to_owned(),
            Self::Item(position) => format!("items[{position}].{name}"),
        }
    }

    fn describe(self) -> String {
        match self {
            Self::Body => "the body".to_owned(),
            Self::Item(position) => format!("items[{position}]"),
        }
    }
}

/// The members of one object, by their position in the list of known names.
#[derive(Debug)]
pub(crate) struct Fields<'a, const N: usize> {
    names: &'static [&'static str; N],
    values: [Option<&'a RawValue>; N],
    place: Place,
}

impl<'a, const N: usize> Fields<'a, N> {
    /// Reads a whole body.
    pub(crate) fn read_body(body: &'a [u8], names: &'static [&'static str; N]) -> Result<Self, JsonError> {
        let text = std::str::from_utf8(body).map_err(|_| JsonError::Syntax { line: 0, column: 0 })?;
        Self::read(text, names, Place::Body)
    }

    /// Reads one object.
    pub(crate) fn read(
        text: &'a str,
        names: &'static [&'static str; N],
        place: Place,
    ) -> Result<Self, JsonError> {
        let first = text.trim_ascii_start().as_bytes().first();
        if first.is_some_and(|byte| *byte != b'{') {
            return Err(not_an_object(text, place));
        }
        let mut refused = None;
        let mut reader = serde_json::Deserializer::from_str(text);
        let members = Members { names, place, refused: &mut refused };
        let values = members.deserialize(&mut reader).and_then(|values| reader.end().map(|()| values));
        match (values, refused) {
            (_, Some(refused)) => Err(refused),
            (Ok(values), None) => Ok(Self { names, values, place }),
            (Err(error), None) => Err(JsonError::Syntax { line: error.line(), column: error.column() }),
        }
    }

    /// The path of a member, for errors found later.
    pub(crate) fn path(&self, name: &str) -> String {
        self.place.path(name)
    }

    /// The member's JSON text, if it is there.
    pub(crate) fn raw(&self, name: &'static str) -> Option<&'a RawValue> {
        let position = self.names.iter().position(|known| *known == name);
        debug_assert!(position.is_some(), "{name} is not in the list of known names");
        self.values.get(position?).copied().flatten()
    }

    /// A text that must be there.
    pub(crate) fn text(&self, name: &'static str) -> Result<Cow<'a, str>, JsonError> {
        self.optional_text(name)?.ok_or_else(|| JsonError::MissingField { field: self.path(name) })
    }

    /// A text that may be absent; `null` is not absence.
    pub(crate) fn optional_text(&self, name: &'static str) -> Result<Option<Cow<'a, str>>, JsonError> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        let inner = raw.get().strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        match inner {
            Some(plain) if !plain.contains('\\') => Ok(Some(Cow::Borrowed(plain))),
            Some(_) => match serde_json::from_str::<String>(raw.get()) {
                Ok(text) => Ok(Some(Cow::Owned(text))),
                Err(_) => Err(self.invalid(name, "must be a string of Unicode characters")),
            },
            None => Err(self.invalid(name, "must be a string")),
        }
    }

    /// A text that must be there and parse as `T`.
    pub(crate) fn parsed<T: std::str::FromStr<Err: fmt::Display>>(
        &self,
        name: &'static str,
    ) -> Result<T, JsonError> {
        let text = self.text(name)?;
        self.parse(name, &text)
    }

    /// A text that may be absent and otherwise must parse as `T`.
    pub(crate) fn optional_parsed<T>(&self, name: &'static str) -> Result<Option<T>, JsonError>
    where
        T: std::str::FromStr<Err: fmt::Display>,
    {
        self.optional_text(name)?.map(|text| self.parse(name, &text)).transpose()
    }

    fn parse<T: std::str::FromStr<Err: fmt::Display>>(
        &self,
        name: &'static str,
        text: &str,
    ) -> Result<T, JsonError> {
        text.parse().map_err(|error: T::Err| self.invalid(name, format!("is refused: {error}")))
    }

    /// The elements of a member that must be an array.
    /// A member that is `true` or `false`; `false` if it is not there.
    pub(crate) fn flag(&self, name: &'static str) -> Result<bool, JsonError> {
        match self.raw(name).map(RawValue::get) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(self.invalid(name, "must be true or false")),
        }
    }

    pub(crate) fn array(&self, name: &'static str) -> Result<Vec<&'a RawValue>, JsonError> {
        let raw = self.raw(name).ok_or_else(|| JsonError::MissingField { field: self.path(name) })?;
        serde_json::from_str(raw.get()).map_err(|_| self.invalid(name, "must be an array"))
    }

    /// An [`JsonError::InvalidField`] about a member of this object.
    pub(crate) fn invalid(&self, name: &str, rule: impl Into<Cow<'static, str>>) -> JsonError {
        JsonError::InvalidField { field: self.path(name), rule: rule.into() }
    }
}

/// Tells "not JSON at all" from "JSON of another type".
fn not_an_object(text: &str, place: Place) -> JsonError {
    match serde_json::from_str::<serde::de::IgnoredAny>(text) {
        Ok(_) => JsonError::NotAnObject { at: place.describe() },
        Err(error) => JsonError::Syntax { line: error.line(), column: error.column() },
    }
}

/// Collects the members; leaves the reason in `refused` because serde errors carry only text.
struct Members<'e, const N: usize> {
    names: &'static [&'static str; N],
    place: Place,
    refused: &'e mut Option<JsonError>,
}

impl<'de, const N: usize> DeserializeSeed<'de> for Members<'_, N> {
    type Value = [Option<&'de RawValue>; N];
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Members<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = [None; N];
        while let Some(known) = map.next_key_seed(Name { names: self.names })? {
            let position = match known {
                Ok(position) => position,
                Err(unknown) => {
                    *self.refused = Some(JsonError::UnknownField { field: self.place.path(&unknown) });
                    return Err(A::Error::custom("unknown field"));
                }
            };
            let (Some(slot), Some(name)) = (values.get_mut(position), self.names.get(position)) else {
                return Err(A::Error::custom("position out of range"));
            };
            if slot.is_some() {
                *self.refused = Some(JsonError::DuplicateKey { field: self.place.path(name) });
                return Err(A::Error::custom("duplicate field"));
            }
            *slot = Some(map.next_value::<&'de RawValue>()?);
        }
        Ok(values)
    }
}

/// A member name: its position among the known ones, or the (shortened) unknown text.
struct Name<const N: usize> {
    names: &'static [&'static str; N],
}

impl<'de, const N: usize> DeserializeSeed<'de> for Name<N> {
    type Value = Result<usize, String>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<const N: usize> Visitor<'_> for Name<N> {
    type Value = Result<usize, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member name")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        let position = self.names.iter().position(|name| *name == text);
        Ok(position.ok_or_else(|| text.chars().take(ECHO_CHARS_MAX).collect()))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    const NAMES: [&str; 3] = ["kid", "digest", "metadata"];

    fn read(text: &str) -> Result<Fields<'_, 3>, JsonError> {
        Fields::read_body(text.as_bytes(), &NAMES)
    }

    #[test]
    fn takes_known_members_in_any_order_without_copying() {
        let fields =
            read(r#" { "digest" : "ab", "metadata": {"a": [1, "}"]}, "k\u0069d": "x\u0041" } "#).unwrap();
        assert!(matches!(fields.text("digest").unwrap(), Cow::Borrowed("ab")));
        assert_eq!(fields.text("kid").unwrap(), "xA");
        assert_eq!(fields.raw("metadata").unwrap().get(), r#"{"a": [1, "}"]}"#);
    }

    #[test]
    fn every_fault_has_its_own_error_naming_the_field() {
        let field = |name: &str| name.to_owned();
        assert_eq!(
            read(r#"{"kid":"a","kidd":1}"#).unwrap_err(),
            JsonError::UnknownField { field: field("kidd") }
        );
        assert_eq!(
            read(r#"{"kid":"a","k\u0069d":"b"}"#).unwrap_err(),
            JsonError::DuplicateKey { field: field("kid") }
        );
        assert_eq!(
            read(r#"{"kid":"a"}"#).unwrap().text("digest").unwrap_err(),
            JsonError::MissingField { field: field("digest") }
        );
        for wrong in [r#"{"kid":1}"#, r#"{"kid":null}"#, r#"{"kid":{}}"#, r#"{"kid":"\ud800"}"#] {
            let error = read(wrong).unwrap().text("kid").unwrap_err();
            assert!(matches!(error, JsonError::InvalidField { ref field, .. } if field == "kid"), "{wrong}");
        }
        for not_json in [
            "",
            " ",
            "{",
            "{]",
            r#"{"kid":"a",}"#,
            r#"{"kid":"a"} x"#,
            "nul",
            r#"{"kid":01}"#,
            "{\"kid\":\"\n\"}",
        ] {
            assert!(matches!(read(not_json).unwrap_err(), JsonError::Syntax { .. }), "{not_json}");
        }
        for other in ["[]", "1", "null", "\"a\""] {
            assert!(matches!(read(other).unwrap_err(), JsonError::NotAnObject { .. }), "{other}");
        }
        assert!(matches!(
            Fields::read_body(b"{\"kid\":\"\xff\"}", &NAMES).unwrap_err(),
            JsonError::Syntax { .. }
        ));
    }

    #[test]
    fn places_name_the_item() {
        let error = Fields::read(r#"{"x":1}"#, &NAMES, Place::Item(3)).unwrap_err();
        assert_eq!(error, JsonError::UnknownField { field: "items[3].x".to_owned() });
    }

    #[test]
    fn an_unknown_name_is_repeated_only_in_part() {
        let long = "y".repeat(5_000);
        let JsonError::UnknownField { field } = read(&format!("{{\"{long}\":1}}")).unwrap_err() else {
            unreachable!()
        };
        assert_eq!(field.len(), ECHO_CHARS_MAX);
    }
}
