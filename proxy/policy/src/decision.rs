//! What a decision says: no, yes, or yes once somebody else agrees.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::limits::POLICY_ID_BYTES_MAX;

/// Name of one policy: its `@id`. Starts with `a-z 0-9`, goes on with those and `. _ / -`, at most 64 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct PolicyId(Box<str>);

impl PolicyId {
    /// The text as it stands in leaves and replies.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is no policy id. Whoever wrote it is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id is 1 to 64 characters of a-z 0-9 . _ / -, the first of them a-z 0-9")]
pub struct PolicyIdError;

impl FromStr for PolicyId {
    type Err = PolicyIdError;
    fn from_str(text: &str) -> Result<Self, PolicyIdError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let fits = text.len() <= POLICY_ID_BYTES_MAX
            && text.bytes().next().is_some_and(plain)
            && text.bytes().all(|byte| plain(byte) || matches!(byte, b'.' | b'_' | b'/' | b'-'));
        if fits { Ok(Self(text.into())) } else { Err(PolicyIdError) }
    }
}

/// What to do when a hook gives no answer in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unreachable {
    /// Treat it as a no: the default.
    Refuse,
    /// Treat it as a yes: the operator prefers service to certainty, for this policy.
    Allow,
}

/// What lifts a forbid.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Lift {
    /// That many different persons holding the role, the asking one not among them.
    Quorum {
        /// How many, 1 to [`crate::limits::APPROVALS_MAX`].
        approvals: u8,
        /// Role each of them holds.
        approvers: Box<str>,
    },
    /// A yes of an external service.
    Hook {
        /// Name of the hook in the configuration.
        name: Box<str>,
        /// What silence means.
        when_unreachable: Unreachable,
    },
}

/// A forbid that stands in the way until it is lifted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Condition {
    /// The forbid.
    pub policy: PolicyId,
    /// What lifts it.
    pub lift: Lift,
}

/// Why something is denied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DenyReason {
    /// Nobody of this kind can do this to a thing of this kind. The caller of this crate is at fault.
    NoSuchAct,
    /// No policy permits it. This is the default.
    NothingPermits,
    /// A forbid that nothing lifts applies.
    Forbidden,
    /// A policy that applies could not be evaluated, so nobody knows what it would have said. The text is
    /// Cedar's, for the log. The policy's author is at fault.
    Failed(String),
}

impl fmt::Display for DenyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchAct => f.write_str("no such act of this principal on this resource"),
            Self::NothingPermits => f.write_str("no policy permits it"),
            Self::Forbidden => f.write_str("a policy forbids it"),
            Self::Failed(cause) => write!(f, "a policy could not be evaluated: {cause}"),
        }
    }
}

/// The answer to one question. Policies stand in the order of their files and lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "decision")]
#[must_use]
pub enum Decision {
    /// No, and nobody's approval changes it.
    Deny {
        /// The forbids, or the policies that failed; empty when nothing permits.
        policies: Vec<PolicyId>,
        /// Why.
        reason: DenyReason,
    },
    /// Yes.
    Allow {
        /// The permits.
        policies: Vec<PolicyId>,
    },
    /// Yes, once every condition is met.
    AllowIf {
        /// The permits.
        policies: Vec<PolicyId>,
        /// The forbids to be lifted; never empty.
        conditions: Vec<Condition>,
    },
}
