//! What policies say of one key use, and what they want done first: a policy service asked, people asked.
//!
//! Promises: where policies are configured they decide, grants being some of them; a policy service's every word is
//! on the ledger before anything follows from it; no answer is a no, unless that one policy says otherwise.

use std::sync::Arc;

use chancery_format::canonical::CanonicalJson;
use chancery_format::entry::{Operation, PolicyRef, policy_verdict};
use chancery_format::names::Purpose;
use chancery_format::{Hash, Kid, SignatureAlgorithm};
use chancery_identity::{HookFailure, HookQuestion, HookVerdict, PolicyDetails};
use chancery_policy::{
    Act, Circumstances, Condition, Decision, DenyReason, Lift, Moment, PolicyId, Question, Unreachable, What,
    Who,
};
use serde_json::{Value, json};

use crate::admission::{Permit, Refusal};
use crate::chancery::{Chancery, KeyEntry};
use crate::problem::{Code, Problem};
use crate::routes::Caller;

/// Characters of the rule that is recorded: names of policies, the first ones if there are many.
const RULE_CHARS_MAX: usize = 200;

/// A permit, or what it takes to get one.
#[derive(Debug)]
pub(super) enum Cleared<'a> {
    /// The key may be used now.
    Now(Permit<'a>),
    /// People must agree first: how many, and for which policies.
    Quorum(u32, String),
    /// A policy service is to be asked, which a dry run does not: its every word is recorded.
    Service,
}

/// What is to be signed, as far as policies look at it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Looked<'r> {
    pub(super) act: Act,
    pub(super) purpose: Option<&'r Purpose>,
    /// Whether nothing is to happen.
    pub(super) dry_run: bool,
}

/// Asks policies, and whom they want asked.
pub(super) async fn clear<'a>(
    chancery: &Chancery,
    caller: &'a Caller<'_>,
    key: Arc<KeyEntry>,
    operation: Operation,
    looked: Looked<'_>,
) -> Result<Cleared<'a>, Problem> {
    let (policy, conditions) = match decide(chancery, caller, &key, looked)? {
        None => {
            let kid = key.kid.clone();
            return Ok(Cleared::Now(Permit::admit(&caller.grants, &kid, Some(key), operation)?));
        }
        Some(decided) => decided,
    };
    let mut approvals = 0;
    let mut wanted = Vec::new();
    for condition in &conditions {
        match &condition.lift {
            Lift::Quorum { approvals: count, .. } => {
                approvals = approvals.max(u32::from(*count));
                wanted.push(condition.policy.as_str());
            }
            Lift::Hook { .. } if looked.dry_run => return Ok(Cleared::Service),
            Lift::Hook { name, when_unreachable } => {
                let asked = Asked { chancery, caller, key: &key, looked, condition };
                if ask(&asked, name, *when_unreachable).await? {
                    approvals = approvals.max(1);
                    wanted.push(condition.policy.as_str());
                }
            }
        }
    }
    if approvals > 0 {
        return Ok(Cleared::Quorum(approvals, wanted.join(", ")));
    }
    Ok(Cleared::Now(Permit::admit_by(&caller.grants, key, operation, policy)?))
}

/// The same where nobody can be waited for: what wants somebody asked is refused.
pub(super) fn clear_at_once<'a>(
    chancery: &Chancery,
    caller: &'a Caller<'_>,
    key: Arc<KeyEntry>,
    operation: Operation,
    looked: Looked<'_>,
) -> Result<Permit<'a>, Problem> {
    match decide(chancery, caller, &key, looked)? {
        None => {
            let kid = key.kid.clone();
            Ok(Permit::admit(&caller.grants, &kid, Some(key), operation)?)
        }
        Some((policy, conditions)) if conditions.is_empty() => {
            Ok(Permit::admit_by(&caller.grants, key, operation, policy)?)
        }
        Some((_, conditions)) => Err(asks(&conditions)),
    }
}

/// Whether policies let a caller do what its grant allows, where nobody can be waited for: append, read, verify,
/// list. What wants somebody asked is a no here.
pub(crate) fn may(
    chancery: &Chancery,
    caller: &Caller<'_>,
    act: Act,
    what: What,
    algorithm: Option<SignatureAlgorithm>,
) -> Result<(), Problem> {
    if !chancery.authority.has_folder() {
        return Ok(());
    }
    let everyday = circumstances(chancery, caller);
    let stream = match &what {
        What::Stream(name) => Some(name.as_str().to_owned()),
        _ => everyday.stream.clone(),
    };
    let algorithm = algorithm.map(|algorithm| algorithm.as_str().to_owned());
    let circumstances = Circumstances { algorithm, stream, ..everyday };
    match chancery.authority.decide(&Question { who: who(caller), act, what, circumstances }) {
        (Decision::Allow { .. }, _) => Ok(()),
        (Decision::AllowIf { conditions, .. }, _) => Err(asks(&conditions)),
        (Decision::Deny { policies, reason }, sha256) => Err(denied(&policies, &reason, sha256)),
    }
}

/// [`may`] for a key that is only looked at or checked against.
pub(crate) fn may_with_key(
    chancery: &Chancery,
    caller: &Caller<'_>,
    act: Act,
    kid: &Kid,
    algorithm: SignatureAlgorithm,
) -> Result<(), Problem> {
    match chancery.authority.key(kid) {
        Some(key) => may(chancery, caller, act, What::Key(key), Some(algorithm)),
        None => Err(Refusal::UnknownKid { kid: kid.clone() }.into()),
    }
}

fn who(caller: &Caller<'_>) -> Who {
    let grants = &caller.grants;
    Who::Service { name: grants.principal().clone(), groups: grants.groups().to_vec() }
}

fn circumstances(chancery: &Chancery, caller: &Caller<'_>) -> Circumstances {
    let seconds = u64::try_from(chancery.now().unix_ms() / 1_000).unwrap_or_default();
    Circumstances {
        moment: Moment::from_unix_seconds(seconds),
        environment: chancery.authority.environment().to_owned(),
        source: Some(caller.source),
        purpose: None,
        dialect: Some(caller.dialect.as_str().to_owned()),
        algorithm: None,
        stream: Some(caller.grants.own_stream().as_str().to_owned()),
    }
}

fn denied(policies: &[PolicyId], reason: &DenyReason, sha256: Hash) -> Problem {
    let by = if policies.is_empty() { "no policy".to_owned() } else { rule(policies) };
    Problem::new(Code::PolicyDenied, format!("{by}: {reason}; policy {sha256}"))
}

fn asks(conditions: &[Condition]) -> Problem {
    let named: Vec<_> = conditions.iter().map(|condition| condition.policy.as_str()).collect();
    let words = format!("{} wants somebody asked first: send it alone", named.join(", "));
    Problem::new(Code::PolicyDenied, words)
}

type Decided = (PolicyRef, Vec<Condition>);

/// `None` where grants alone decide.
fn decide(
    chancery: &Chancery,
    caller: &Caller<'_>,
    key: &KeyEntry,
    looked: Looked<'_>,
) -> Result<Option<Decided>, Problem> {
    let authority = &chancery.authority;
    if !authority.has_folder() {
        return Ok(None);
    }
    let what = authority.key(&key.kid).map(What::Key);
    let what = what.ok_or_else(|| Refusal::UnknownKid { kid: key.kid.clone() })?;
    let question = Question {
        who: who(caller),
        act: looked.act,
        what,
        circumstances: Circumstances {
            purpose: looked.purpose.map(|purpose| purpose.as_str().to_owned()),
            algorithm: Some(key.algorithm.as_str().to_owned()),
            ..circumstances(chancery, caller)
        },
    };
    let (decision, sha256) = authority.decide(&question);
    match decision {
        Decision::Allow { policies } => Ok(Some((PolicyRef { rule: rule(&policies), sha256 }, Vec::new()))),
        Decision::AllowIf { policies, conditions } => {
            Ok(Some((PolicyRef { rule: rule(&policies), sha256 }, conditions)))
        }
        Decision::Deny { policies, reason } => Err(denied(&policies, &reason, sha256)),
    }
}

fn rule(policies: &[PolicyId]) -> String {
    let mut text = String::new();
    for policy in policies {
        if text.len() + policy.as_str().len() > RULE_CHARS_MAX {
            break;
        }
        text += if text.is_empty() { "" } else { "," };
        text += policy.as_str();
    }
    text
}

struct Asked<'a> {
    chancery: &'a Chancery,
    caller: &'a Caller<'a>,
    key: &'a KeyEntry,
    looked: Looked<'a>,
    condition: &'a Condition,
}

/// Asks a policy service and enrols what it said. `true` if it wants people asked.
async fn ask(asked: &Asked<'_>, name: &str, when_unreachable: Unreachable) -> Result<bool, Problem> {
    let Asked { chancery, caller, key, looked, condition } = asked;
    let hook = chancery.hooks.get(name).ok_or_else(|| {
        let words = format!(
            "{} names the policy service {name:?}, which is not configured",
            condition.policy.as_str()
        );
        Problem::new(Code::HookUnavailable, words)
    })?;
    let question = HookQuestion {
        action: format!("signing.{}", looked.act.as_str()),
        actor: json!({ "id": caller.grants.principal(), "type": "service" }),
        resource: json!({ "kid": key.kid, "signer_kid": key.signer_kid, "algorithm": key.algorithm.as_str() }),
        context: json!({ "purpose": looked.purpose, "environment": chancery.authority.environment() }),
        request_id: caller.request_id.as_str().to_owned(),
    };
    let verdict = hook.ask(&question).await;
    let (word, details) = match &verdict {
        Ok(HookVerdict::Allow(details)) => ("allow".to_owned(), Some(details)),
        Ok(HookVerdict::Deny(details)) => ("deny".to_owned(), Some(details)),
        Ok(HookVerdict::RequiresMultisig(details)) => ("requires-multisig".to_owned(), Some(details)),
        Err(failure) => (failure_word(failure), None),
    };
    enrol(asked, name, &word, details).await?;
    let refused = |code, words: String| Err(Problem::new(code, words));
    match verdict {
        Ok(HookVerdict::Allow(_)) => Ok(false),
        Ok(HookVerdict::RequiresMultisig(_)) => Ok(true),
        Ok(HookVerdict::Deny(details)) => {
            let details = described(&details);
            refused(
                Code::HookDenied,
                format!("{name} denies it, asked for {}: {details}", condition.policy.as_str()),
            )
        }
        Err(_) if when_unreachable == Unreachable::Allow => {
            tracing::warn!(
                hook = name,
                word,
                "a policy service gave no answer, and its policy goes on without"
            );
            Ok(false)
        }
        Err(failure) => refused(
            Code::HookUnavailable,
            format!(
                "{name} gave no answer ({}), asked for {}",
                failure_word(&failure),
                condition.policy.as_str()
            ),
        ),
    }
}

fn failure_word(failure: &HookFailure) -> String {
    match failure {
        HookFailure::Status(status) => format!("status-{status}"),
        HookFailure::Timeout => "timeout".to_owned(),
        HookFailure::Unreachable => "unreachable".to_owned(),
        HookFailure::Busy => "busy".to_owned(),
        _ => "garbage".to_owned(),
    }
}

fn described(details: &PolicyDetails) -> String {
    serde_json::to_string(&to_json(details)).unwrap_or_default()
}

fn to_json(details: &PolicyDetails) -> Value {
    let members = [
        ("policyId", &details.policy_id),
        ("policyVersion", &details.policy_version),
        ("ruleId", &details.rule_id),
        ("rationale", &details.rationale),
    ];
    let given = members.into_iter().filter_map(|(name, text)| Some((name.to_owned(), json!(text.as_ref()?))));
    Value::Object(given.collect())
}

async fn enrol(
    asked: &Asked<'_>,
    hook: &str,
    verdict: &str,
    details: Option<&PolicyDetails>,
) -> Result<(), Problem> {
    let Asked { chancery, caller, key, condition, .. } = asked;
    let mut payload = json!({
        "hook": hook,
        "kid": key.kid,
        "policy": condition.policy.as_str(),
        "principal": caller.grants.principal(),
        "requestId": caller.request_id.as_str(),
        "verdict": verdict,
    });
    if let (Some(details), Value::Object(members)) = (details, &mut payload) {
        members.insert("details".to_owned(), to_json(details));
    }
    let payload = CanonicalJson::parse(payload.to_string().as_bytes()).map_err(Problem::internal)?;
    chancery.roll.enrol_event(policy_verdict(payload), None).await?;
    Ok(())
}
