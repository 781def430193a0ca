//! What a policy service says for its reasons, cut to a size that fits a record.

use serde_json::{Map, Value};

use crate::limits;

/// Reasons, as given: for people, and to be recorded. Names have at most
/// [`limits::POLICY_NAME_CHARS_MAX`] characters, the rationale at most [`limits::RATIONALE_CHARS_MAX`]; longer
/// ones are cut, control characters become spaces.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PolicyDetails {
    /// The policy that decided.
    pub policy_id: Option<String>,
    /// Its version.
    pub policy_version: Option<String>,
    /// The rule of it.
    pub rule_id: Option<String>,
    /// Why.
    pub rationale: Option<String>,
}

impl PolicyDetails {
    /// From the members of an answer, in any of the spellings in use.
    pub(crate) fn read(members: &Map<String, Value>) -> Self {
        let name = |names: &[&str]| text(members, names, limits::POLICY_NAME_CHARS_MAX);
        Self {
            policy_id: name(&["policyId", "policy_id"]),
            policy_version: name(&["policyVersion", "policy_version"]),
            rule_id: name(&["ruleId", "rule_id"]),
            rationale: text(members, &["rationale", "reason"], limits::RATIONALE_CHARS_MAX),
        }
    }
}

/// The first member of these names that is text, a number, or an array of texts.
fn text(members: &Map<String, Value>, names: &[&str], chars_max: usize) -> Option<String> {
    let whole = names.iter().find_map(|name| match members.get(*name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Array(several) => {
            Some(several.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("; "))
        }
        _ => None,
    })?;
    let plain = whole.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    Some(plain.take(chars_max).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn details_are_read_in_every_spelling_and_cut() {
        let read = |value: Value| value.as_object().map(PolicyDetails::read).unwrap_or_default();
        let details = read(json!({
            "policyId": "p", "policyVersion": 3, "ruleId": "r", "rationale": ["a\nb", "c"],
        }));
        assert_eq!(details.policy_id.as_deref(), Some("p"));
        assert_eq!(details.policy_version.as_deref(), Some("3"));
        assert_eq!(details.rationale.as_deref(), Some("a b; c"));
        let details = read(json!({
            "policy_id": "x".repeat(1000), "rule_id": {"no": 1}, "reason": "é".repeat(1000),
        }));
        assert_eq!(details.policy_id.map(|text| text.len()), Some(limits::POLICY_NAME_CHARS_MAX));
        assert_eq!(details.rule_id, None);
        assert_eq!(details.rationale.map(|text| text.chars().count()), Some(limits::RATIONALE_CHARS_MAX));
        assert_eq!(read(json!({})), PolicyDetails::default());
    }
}
