//! Why a request was not admitted, each reason naming the rule that decided.

use chancery_format::entry::Operation;
use chancery_format::governance::Scope;
use chancery_format::{Hash, Kid, SignatureAlgorithm};

use super::policy;
use super::quota::{KeyExhausted, QuotaExceeded};
use super::rate_limit::RateLimited;
use crate::dialects::Dialect;

/// Why a request was not admitted. Nothing has happened but the refusal record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody the operator wrote down. Ask the operator.
    #[error("nothing was granted to this principal")]
    UnknownPrincipal,
    /// The kill switch is pulled. Retry when the operator has resumed.
    #[error("the kill switch is pulled ({0}): no key is used")]
    Halted(Scope),
    /// This instance is shutting down. Retry on another connection.
    #[error("this instance is shutting down")]
    Draining,
    /// The archive is too far behind. Retry later.
    #[error("the archive is too far behind the ledger")]
    ArchiveLag,
    /// The ledger's disk is at its reserve. Retry when the operator has made room.
    #[error("the ledger's disk has no room above its reserve")]
    LedgerFull,
    /// Over the principal's own rate. Retry after the time given.
    #[error(transparent)]
    RateLimited(#[from] RateLimited),
    /// The quota of the day is used up. Retry tomorrow, or ask the operator.
    #[error("{of}: {exceeded}")]
    QuotaExceeded {
        /// Whose quota it is.
        of: String,
        /// How much, and until when.
        exceeded: QuotaExceeded,
    },
    /// The key pair was used as often as it may ever be. The operator must rotate it.
    #[error("key pair {signer_kid}: {exhausted}")]
    KeyExhausted {
        /// Which.
        signer_kid: Kid,
        /// How often.
        exhausted: KeyExhausted,
    },
    /// The operation was not granted. Ask the operator.
    #[error("operation {} is not granted by {rule} of policy {policy}", operation.as_str())]
    OperationNotGranted {
        /// What was asked.
        operation: policy::Operation,
        /// The rule that speaks of the principal.
        rule: String,
        /// The policy it is part of.
        policy: Hash,
    },
    /// No key has this name. The caller is at fault.
    #[error("there is no key {kid}")]
    UnknownKid {
        /// The name asked for.
        kid: Kid,
    },
    /// The key was not granted. Ask the operator.
    #[error("key {kid} is not granted by {rule} of policy {policy}")]
    KidNotGranted {
        /// The key asked for.
        kid: Kid,
        /// The rule that speaks of the principal.
        rule: String,
        /// The policy it is part of.
        policy: Hash,
    },
    /// A canary key: nobody may use it, whatever is granted. Somebody tries keys out.
    #[error("key {kid} is for nobody's use")]
    Canary {
        /// The key asked for.
        kid: Kid,
    },
    /// The stream was not granted. Ask the operator.
    #[error("stream {stream} is not granted by {rule} of policy {policy}")]
    StreamNotGranted {
        /// The stream asked for.
        stream: String,
        /// The rule that speaks of the principal.
        rule: String,
        /// The policy it is part of.
        policy: Hash,
    },
    /// Payloads written by others were not granted. Ask the operator.
    #[error("reading payloads of others is not granted by {rule} of policy {policy}")]
    PayloadNotGranted {
        /// The rule that speaks of the principal.
        rule: String,
        /// The policy it is part of.
        policy: Hash,
    },
    /// The principal, or the key, is not for this language. Ask the operator.
    #[error("the dialect {} is not granted by {rule} of policy {policy}", dialect.as_str())]
    DialectNotGranted {
        /// The language spoken.
        dialect: Dialect,
        /// The rule that speaks of the principal, or the key that is not for it.
        rule: String,
        /// The policy it is part of.
        policy: Hash,
    },
    /// A MAC key was asked to sign, or a signing key for a MAC. The caller is at fault.
    #[error("key {kid} is for {algorithm}, which does not {}", operation.as_str())]
    AlgorithmMismatch {
        /// The key asked for.
        kid: Kid,
        /// What it does.
        algorithm: SignatureAlgorithm,
        /// What was asked.
        operation: Operation,
    },
    /// Nothing may be anchored in the key's name. Ask the operator, or sign individually.
    #[error("digests are not anchored in the name of key {kid}; use \"individual\"")]
    NotAnchored {
        /// The key asked for.
        kid: Kid,
    },
    /// The key takes digests of another kind. The caller is at fault.
    #[error("key {kid} is for {algorithm}, which takes a {wanted} digest, not {got}")]
    DigestMismatch {
        /// The key asked for.
        kid: Kid,
        /// What it does.
        algorithm: SignatureAlgorithm,
        /// What it takes.
        wanted: &'static str,
        /// What was sent.
        got: &'static str,
    },
}
