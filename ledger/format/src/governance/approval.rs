//! Who may approve, what they sign, and whether they did.

use serde::{Deserialize, Serialize};

use super::Given;
use crate::algorithm::SignatureAlgorithm;
use crate::digest::Digest;
use crate::entry::decode_base64;
use crate::hash::Hash;
use crate::names::Origin;
use crate::public_key::PublicKey;

/// One person who may approve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Approver {
    /// The person's name, as in `by`.
    pub name: String,
    /// The key this person approves with. With one, a session alone is no approval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_key: Option<ApproverKey>,
}

/// An approver's own key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApproverKey {
    /// What the key does.
    pub algorithm: SignatureAlgorithm,
    /// SubjectPublicKeyInfo.
    pub pem: String,
}

/// Yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The act may be done.
    Approve,
    /// It may not.
    Refuse,
}

impl Verdict {
    /// The word in the statement.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Refuse => "refuse",
        }
    }
}

/// Why an approval does not count. The approver's side is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ApprovalError {
    /// The approver has a key and did not use it.
    #[error("this approver has a registered key, and a session alone is no approval: sign the statement")]
    Unsigned,
    /// There is a signature, but no key to verify it with.
    #[error("this approver has no registered key, so a signature means nothing")]
    NoKey,
    /// The signature is not one of the statement by the registered key.
    #[error("the signature is not one of the statement by the approver's registered key")]
    BadSignature,
}

/// The text an approver signs: five lines, each ended by a newline. Its SHA-256 is the digest that is signed.
pub fn statement(origin: &Origin, id: &str, act_sha256: &str, verdict: Verdict) -> String {
    format!("chancery-approval/v1\n{}\n{id}\n{act_sha256}\n{}\n", origin.as_str(), verdict.as_str())
}

impl Approver {
    /// Whether `given` is this person's word, as far as a key can tell.
    pub fn check(&self, origin: &Origin, given: &Given, verdict: Verdict) -> Result<(), ApprovalError> {
        let (key, signature) = match (&self.public_key, &given.signature) {
            (None, None) => return Ok(()),
            (None, Some(_)) => return Err(ApprovalError::NoKey),
            (Some(_), None) => return Err(ApprovalError::Unsigned),
            (Some(key), Some(signature)) => (key, signature),
        };
        let text = statement(origin, &given.id, &given.act_sha256, verdict);
        let digest = Digest::Sha256(Hash::of(&[text.as_bytes()]).0);
        let verified = PublicKey::from_pem(key.algorithm, &key.pem)
            .ok()
            .zip(decode_base64(signature))
            .is_some_and(|(public, signature)| public.verify(&digest, &signature));
        if verified { Ok(()) } else { Err(ApprovalError::BadSignature) }
    }
}
