//! Why a question gets the answer it gets, for a person.
//!
//! Looks at every policy, not only at those the index offers, and is therefore slow: not for the path of a
//! request.

use std::collections::BTreeMap;
use std::fmt;

use cedar_policy::{Authorizer, Effect};
use serde::Serialize;

use crate::ask::{Asked, Needs, Verdict};
use crate::decision::{Condition, Decision, PolicyId};
use crate::limits::NEARLY_MAX;
use crate::parse::Compiled;
use crate::question::Question;
use crate::set::PolicySet;

/// One policy as shown to a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// Its id.
    pub id: PolicyId,
    /// `permit` or `forbid`.
    pub effect: &'static str,
    /// File it stands in.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Its annotations but the id.
    pub annotations: BTreeMap<String, String>,
    /// Its text as written.
    pub text: String,
}

/// Why an answer is what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The question, in words.
    pub question: String,
    /// The answer, as [`PolicySet::decide`] gives it.
    pub outcome: Decision,
    /// The policies the answer names: permits, forbids, conditions.
    pub decided: Vec<Told>,
    /// Policies whose scope covers the question but whose conditions are false, by file and line.
    pub nearly: Vec<Told>,
    /// How many more of those there are, beyond [`NEARLY_MAX`].
    pub nearly_left_off: usize,
}

impl PolicySet {
    /// Decides the question and says why. Takes time with the number of policies.
    pub fn explain(&self, question: &Question) -> Explanation {
        let outcome = self.decide(question);
        let named = named(&outcome);
        let decided = self.policies().iter().filter(|policy| named.contains(&&policy.id)).map(told).collect();
        let close = if question.fits() { self.close(question) } else { Vec::new() };
        Explanation {
            question: question.to_string(),
            decided,
            nearly_left_off: close.len().saturating_sub(NEARLY_MAX),
            nearly: close.into_iter().take(NEARLY_MAX).map(told).collect(),
            outcome,
        }
    }

    /// Policies in scope that do not apply.
    fn close(&self, question: &Question) -> Vec<&Compiled> {
        let Ok(asked) = Asked::of(question, Needs::ALL) else { return Vec::new() };
        let authorizer = Authorizer::new();
        self.policies()
            .iter()
            .filter(|policy| policy.scope.covers(question))
            .filter(|policy| asked.verdict(&authorizer, &policy.alone) == Verdict::DoesNotApply)
            .collect()
    }
}

/// Every policy an answer names.
fn named(outcome: &Decision) -> Vec<&PolicyId> {
    match outcome {
        Decision::Deny { policies, .. } | Decision::Allow { policies } => policies.iter().collect(),
        Decision::AllowIf { policies, conditions } => {
            policies.iter().chain(conditions.iter().map(|condition| &condition.policy)).collect()
        }
    }
}

fn told(policy: &Compiled) -> Told {
    let annotations = policy.policy.annotations().filter(|(name, _)| *name != "id");
    Told {
        id: policy.id.clone(),
        effect: match policy.policy.effect() {
            Effect::Permit => "permit",
            Effect::Forbid => "forbid",
        },
        file: policy.file.to_string(),
        line: policy.at.line,
        annotations: annotations.map(|(name, text)| (name.to_owned(), text.to_owned())).collect(),
        text: policy.text.to_string(),
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deny { reason, .. } => write!(f, "denied: {reason}"),
            Self::Allow { .. } => f.write_str("allowed"),
            Self::AllowIf { conditions, .. } => {
                f.write_str("allowed, if")?;
                for (position, condition) in conditions.iter().enumerate() {
                    write!(f, "{} {condition}", if position == 0 { "" } else { " and" })?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use crate::decision::{Lift, Unreachable};
        match &self.lift {
            Lift::Quorum { approvals, approvers } => write!(f, "{approvals} of role {approvers} approve"),
            Lift::Hook { name, when_unreachable: Unreachable::Refuse } => write!(f, "hook {name} agrees"),
            Lift::Hook { name, when_unreachable: Unreachable::Allow } => {
                write!(f, "hook {name} agrees or is away")
            }
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.question, self.outcome)?;
        tell(f, "decided by", &self.decided)?;
        tell(f, "in scope, but the condition is false", &self.nearly)?;
        if self.nearly_left_off > 0 {
            writeln!(f, "  and {} more", self.nearly_left_off)?;
        }
        Ok(())
    }
}

fn tell(f: &mut fmt::Formatter<'_>, title: &str, policies: &[Told]) -> fmt::Result {
    if policies.is_empty() {
        return Ok(());
    }
    writeln!(f, "{title}:")?;
    for policy in policies {
        writeln!(f, "  {} {} ({}:{})", policy.effect, policy.id, policy.file, policy.line)?;
        for (name, text) in &policy.annotations {
            writeln!(f, "    @{name} {text}")?;
        }
        for line in policy.text.lines() {
            writeln!(f, "    | {line}")?;
        }
    }
    Ok(())
}
