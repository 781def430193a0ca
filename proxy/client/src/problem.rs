//! What the service says when it refuses: RFC 9457, with our stable `code`.

use serde::{Deserialize, Serialize};

/// An `application/problem+json` body. Unknown members are ignored: the service may add some.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// HTTP status.
    pub status: u16,
    /// Stable, kebab-case; what programs decide by.
    pub code: String,
    /// One line for people.
    #[serde(default)]
    pub title: String,
    /// What was wrong with this request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Finds the request in the service's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// When the service says that asking again makes sense, in seconds; of whole replies, not of a batch's items.
    #[serde(skip)]
    pub retry_after_s: Option<u64>,
}

/// Refusals where the same request, with the same `Idempotency-Key`, may pass a moment later. A failed
/// key use is not among them: its outcome stands under that key for good.
const PASSING: [&str; 5] = ["overloaded", "draining", "rate-limited", "body-timeout", "release-pending"];

impl Problem {
    /// Reads a refusal; a body that is no problem keeps its status under the code `unexpected-reply`.
    pub(crate) fn read(status: u16, body: &[u8], request_id: Option<&str>) -> Self {
        serde_json::from_slice(body).unwrap_or_else(|_| Self {
            status,
            code: "unexpected-reply".into(),
            title: "the service refused without a problem document".into(),
            detail: None,
            request_id: request_id.map(str::to_owned),
            retry_after_s: None,
        })
    }

    /// Whether the same request, unchanged, may be let through soon.
    pub fn passing(&self) -> bool {
        PASSING.contains(&self.code.as_str())
    }

    /// Whether the service could not serve, as opposed to would not.
    pub fn unavailable(&self) -> bool {
        self.status >= 500
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.status, self.code)?;
        if let Some(detail) = self.detail.as_deref().or(Some(&self.title)).filter(|text| !text.is_empty()) {
            write!(f, ": {detail}")?;
        }
        match &self.request_id {
            Some(id) => write!(f, " (request {id})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Problem;

    #[test]
    fn a_problem_is_read_and_anything_else_keeps_its_status() {
        let body = br#"{"type":"about:blank","title":"No","status":403,"detail":"why","code":"kid-not-granted","requestId":"r1","new":1}"#;
        let problem = Problem::read(403, body, None);
        assert_eq!((problem.status, problem.code.as_str()), (403, "kid-not-granted"));
        assert_eq!(problem.to_string(), "403 kid-not-granted: why (request r1)");
        assert!(!problem.passing() && !problem.unavailable());

        let other = Problem::read(502, b"<html>", Some("r2"));
        assert_eq!((other.status, other.code.as_str()), (502, "unexpected-reply"));
        assert!(other.unavailable());
    }
}
