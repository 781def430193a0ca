//! Bodies of people's calls: small JSON objects, read strictly.

use bytes::Bytes;
use chancery_format::governance::REASON_CHARS_MAX;
use serde::de::DeserializeOwned;

use crate::problem::{Code, Problem};

/// Reads a body; unknown fields are refused. An empty one counts as `{}`.
pub(super) fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Problem> {
    let bytes: &[u8] = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(bytes).map_err(|error| {
        let code = if error.is_data() { Code::InvalidField } else { Code::InvalidJson };
        Problem::new(code, error.to_string())
    })
}

/// The same body, asking only what would happen: for `?simulate=true`.
pub(super) fn simulated(body: &Bytes) -> Result<Bytes, Problem> {
    let mut object: serde_json::Map<String, serde_json::Value> = read(body)?;
    object.insert("dryRun".to_owned(), true.into());
    Ok(serde_json::Value::Object(object).to_string().into())
}

/// A reason: people must say why, and not at length.
pub(super) fn reason(text: &str) -> Result<String, Problem> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > REASON_CHARS_MAX || text.chars().any(char::is_control) {
        let rule = format!("reason must be 1 to {REASON_CHARS_MAX} characters on one line");
        return Err(Problem::new(Code::InvalidField, rule));
    }
    Ok(text.to_owned())
}

/// The value of one query parameter, percent-decoding not being needed for what is asked here.
pub(super) fn parameter<'q>(query: Option<&'q str>, name: &str) -> Option<&'q str> {
    query?.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, it)| it)
}
