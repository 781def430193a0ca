//! Open Policy Agent's answers: `{"result": …}`, a truth value or `{allow, requires_multisig, reason,
//! policy_id, …}`. No result, and no `allow` in it, is how OPA says that nothing allows: a denial.

use serde_json::{Map, Value};

use super::{HookFailure, HookVerdict, PolicyDetails};
use crate::outbound::Reply;

pub(crate) fn read(reply: &Reply) -> Result<HookVerdict, HookFailure> {
    reply.success().map_err(|_| HookFailure::Status(reply.status))?;
    verdict(&reply.object().map_err(|_| HookFailure::Garbage)?)
}

fn verdict(answer: &Map<String, Value>) -> Result<HookVerdict, HookFailure> {
    let members = match answer.get("result") {
        None | Some(Value::Bool(false)) => return Ok(HookVerdict::Deny(PolicyDetails::default())),
        Some(Value::Bool(true)) => return Ok(HookVerdict::Allow(PolicyDetails::default())),
        Some(Value::Object(members)) => members,
        Some(_) => return Err(HookFailure::Garbage),
    };
    let details = PolicyDetails::read(members);
    Ok(match (truth(members, "allow")?, truth(members, "requires_multisig")?) {
        (false, _) => HookVerdict::Deny(details),
        (true, true) => HookVerdict::RequiresMultisig(details),
        (true, false) => HookVerdict::Allow(details),
    })
}

/// A truth value; undefined is false.
fn truth(members: &Map<String, Value>, name: &str) -> Result<bool, HookFailure> {
    match members.get(name) {
        None => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(_) => Err(HookFailure::Garbage),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_true_allows() {
        let none = PolicyDetails::default;
        for (answer, expected) in [
            (json!({"result": true}), Ok(HookVerdict::Allow(none()))),
            (json!({"result": false}), Ok(HookVerdict::Deny(none()))),
            (json!({}), Ok(HookVerdict::Deny(none()))),
            (json!({"result": {}}), Ok(HookVerdict::Deny(none()))),
            (json!({"result": {"allow": true}}), Ok(HookVerdict::Allow(none()))),
            (json!({"result": {"allow": false}}), Ok(HookVerdict::Deny(none()))),
            (
                json!({"result": {"allow": true, "requires_multisig": true}}),
                Ok(HookVerdict::RequiresMultisig(none())),
            ),
            (json!({"result": {"requires_multisig": true}}), Ok(HookVerdict::Deny(none()))),
            (json!({"result": {"allow": "true"}}), Err(HookFailure::Garbage)),
            (json!({"result": {"allow": true, "requires_multisig": 0}}), Err(HookFailure::Garbage)),
            (json!({"result": "true"}), Err(HookFailure::Garbage)),
            (json!({"result": null}), Err(HookFailure::Garbage)),
            (json!({"result": [true]}), Err(HookFailure::Garbage)),
        ] {
            assert_eq!(answer.as_object().map(verdict), Some(expected), "{answer}");
        }
        let answer = json!({"result": {"allow": false, "reason": "weekend", "policy_id": "p7"}});
        let Some(Ok(HookVerdict::Deny(details))) = answer.as_object().map(verdict) else { return };
        assert_eq!(
            (details.rationale.as_deref(), details.policy_id.as_deref()),
            (Some("weekend"), Some("p7"))
        );
    }
}
