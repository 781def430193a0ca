//! Bodies of foreign languages: one JSON object, read by name.
//!
//! Their clients send members we have no use for, so unknown names pass, unlike in native calls. A name given twice, or
//! one of the wrong type, does not.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chancery_format::canonical::{CanonicalJson, Reason};
use serde_json::{Map, Value};

use crate::problem::{Code, Problem};

/// The members of a body.
#[derive(Debug, Default)]
pub(super) struct Body(Map<String, Value>);

impl Body {
    /// Reads an object whose meaning no two readers disagree about.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Problem> {
        let canonical = CanonicalJson::parse(bytes).map_err(|error| {
            let code =
                if error.reason == Reason::DuplicateName { Code::DuplicateKey } else { Code::InvalidJson };
            Problem::new(code, format!("the body is refused: {error}"))
        })?;
        match serde_json::from_slice(canonical.as_bytes()) {
            Ok(Value::Object(members)) => Ok(Self(members)),
            Ok(_) => Err(Problem::new(Code::InvalidJson, "the body must be a JSON object")),
            Err(error) => Err(Problem::internal(error)),
        }
    }

    /// One object inside a body.
    pub(super) fn of(value: &Value) -> Result<Self, Problem> {
        match value {
            Value::Object(members) => Ok(Self(members.clone())),
            _ => Err(Problem::new(Code::InvalidField, "each item of the batch must be an object")),
        }
    }

    /// A member that is there and not null.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// A text under the first of these names that is there.
    pub(super) fn text(&self, names: &[&str]) -> Result<Option<&str>, Problem> {
        let Some((name, value)) = names.iter().find_map(|name| Some((name, self.get(name)?))) else {
            return Ok(None);
        };
        match value {
            Value::String(text) => Ok(Some(text)),
            _ => Err(invalid(name, "must be a text")),
        }
    }

    /// The same, which must be there.
    pub(super) fn required(&self, names: &[&str]) -> Result<&str, Problem> {
        self.text(names)?.ok_or_else(|| missing(names.first().copied().unwrap_or_default()))
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(invalid(name, "must be true or false")),
        }
    }

    /// Bytes in padded standard base64.
    pub(super) fn base64(&self, names: &[&str]) -> Result<Option<Vec<u8>>, Problem> {
        let name = names.first().copied().unwrap_or_default();
        self.text(names)?.map(|text| decode(name, text)).transpose()
    }

    /// The same, which must be there.
    pub(super) fn required_base64(&self, names: &[&str]) -> Result<Vec<u8>, Problem> {
        self.base64(names)?.ok_or_else(|| missing(names.first().copied().unwrap_or_default()))
    }

    /// Everything, as canonical JSON text.
    pub(super) fn canonical(&self) -> Result<CanonicalJson, Problem> {
        CanonicalJson::parse(Value::Object(self.0.clone()).to_string().as_bytes()).map_err(Problem::internal)
    }
}

/// Strict: one spelling, padded.
pub(super) fn decode(name: &str, text: &str) -> Result<Vec<u8>, Problem> {
    let problem =
        || Problem::new(Code::InvalidBase64, format!("field {name} must be standard base64 with padding"));
    STANDARD.decode(text).map_err(|_| problem())
}

pub(super) fn missing(name: &str) -> Problem {
    Problem::new(Code::MissingField, format!("field {name} is missing"))
}

pub(super) fn invalid(name: &str, rule: &str) -> Problem {
    Problem::new(Code::InvalidField, format!("field {name} {rule}"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    #[test]
    fn a_body_has_one_meaning() {
        let body = Body::read(br#"{"a":"x","b":null,"c":1,"d":"AQI="}"#).unwrap();
        assert_eq!(body.text(&["z", "a"]).unwrap(), Some("x"));
        assert_eq!(body.text(&["b"]).unwrap(), None);
        assert_eq!(body.text(&["c"]).unwrap_err().code(), Code::InvalidField);
        assert_eq!(body.required(&["z"]).unwrap_err().code(), Code::MissingField);
        assert_eq!(body.required_base64(&["d"]).unwrap(), [1, 2]);
        assert_eq!(body.base64(&["a"]).unwrap_err().code(), Code::InvalidBase64);
        for (bad, code) in [
            (&br#"{"a":1,"a":2}"#[..], Code::DuplicateKey),
            (b"[]", Code::InvalidJson),
            (b"{", Code::InvalidJson),
            (b"\xff", Code::InvalidJson),
        ] {
            assert_eq!(Body::read(bad).unwrap_err().code(), code);
        }
    }
}
