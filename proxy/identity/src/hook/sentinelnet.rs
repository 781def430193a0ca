//! SentinelNet's answers: `{decision, allowed, policyId, policyVersion, ruleId, rationale, …}`; or, with status
//! 403, `{error: "policy.denied", decision: {…}}`, which can only deny.

use serde_json::{Map, Value};

use super::{HookFailure, HookVerdict, PolicyDetails};
use crate::outbound::Reply;

pub(crate) fn read(reply: &Reply) -> Result<HookVerdict, HookFailure> {
    if reply.status == 403
        && let Ok(answer) = reply.object()
        && answer.get("error").and_then(Value::as_str) == Some("policy.denied")
    {
        let details = answer.get("decision").and_then(Value::as_object).map(PolicyDetails::read);
        return Ok(HookVerdict::Deny(details.unwrap_or_default()));
    }
    reply.success().map_err(|_| HookFailure::Status(reply.status))?;
    verdict(&reply.object().map_err(|_| HookFailure::Garbage)?)
}

/// A word we do not know is no answer; `allowed` can only take back what `decision` gives.
fn verdict(answer: &Map<String, Value>) -> Result<HookVerdict, HookFailure> {
    let decision = answer.get("decision").and_then(Value::as_str).ok_or(HookFailure::Garbage)?;
    let disallowed = match answer.get("allowed") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(allowed)) => !allowed,
        Some(_) => return Err(HookFailure::Garbage),
    };
    let details = PolicyDetails::read(answer);
    match decision {
        "allow" if disallowed => Ok(HookVerdict::Deny(details)),
        "allow" => Ok(HookVerdict::Allow(details)),
        "deny" | "quarantine" | "remediate" => Ok(HookVerdict::Deny(details)),
        "requires_multisig" => Ok(HookVerdict::RequiresMultisig(details)),
        _ => Err(HookFailure::Garbage),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_plain_allow_allows() {
        let none = PolicyDetails::default;
        for (answer, expected) in [
            (json!({"decision": "allow"}), Ok(HookVerdict::Allow(none()))),
            (json!({"decision": "allow", "allowed": true}), Ok(HookVerdict::Allow(none()))),
            (json!({"decision": "allow", "allowed": false}), Ok(HookVerdict::Deny(none()))),
            (json!({"decision": "allow", "allowed": "true"}), Err(HookFailure::Garbage)),
            (json!({"decision": "deny", "allowed": true}), Ok(HookVerdict::Deny(none()))),
            (json!({"decision": "quarantine"}), Ok(HookVerdict::Deny(none()))),
            (json!({"decision": "remediate"}), Ok(HookVerdict::Deny(none()))),
            // Its `allowed` is false as a rule: several approvals may still allow it.
            (
                json!({"decision": "requires_multisig", "allowed": false}),
                Ok(HookVerdict::RequiresMultisig(none())),
            ),
            (json!({"decision": "Allow"}), Err(HookFailure::Garbage)),
            (json!({"decision": "maybe"}), Err(HookFailure::Garbage)),
            (json!({"decision": true}), Err(HookFailure::Garbage)),
            (json!({"allowed": true}), Err(HookFailure::Garbage)),
            (json!({}), Err(HookFailure::Garbage)),
        ] {
            assert_eq!(answer.as_object().map(verdict), Some(expected), "{answer}");
        }
    }
}
