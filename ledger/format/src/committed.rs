//! `Committed<T>`: the only way a signature can be read.
//!
//! [`Committed::verify`] is the one constructor. It checks the auditors' own arithmetic, an RFC 6962
//! inclusion proof, against a [`DurableHead`]: a tree head that was synced to disk. So "committed" is
//! earned by a proof, never asserted. Two small types say what arithmetic cannot: [`DurableHead`] and
//! [`DurableIntent`] are made by functions named for the moment they may be called, and a test over the
//! source tree checks that only the ledger's writer calls them. These types stop mistakes, not a
//! colleague with an editor.

use std::marker::PhantomData;
use std::sync::Arc;

use serde::Deserialize;

use crate::entry::{Intent, Rung, event_type};
use crate::event::{AuditEvent, EventError};
use crate::hash::{Hash, LeafIndex, TreeHead};
use crate::merkle::{self, ProofError};

/// A tree head that is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DurableHead(TreeHead);

impl DurableHead {
    /// Called by the ledger's writer after its sync returned, and by recovery for what it read back.
    pub const fn after_sync(head: TreeHead) -> Self {
        Self(head)
    }

    /// Size and root.
    pub const fn head(&self) -> TreeHead {
        self.0
    }

    /// With what was computed of the same leaves in another way; `None` if the two are not the same.
    pub fn confirmed_by(&self, other: TreeHead) -> Option<ConfirmedHead> {
        (self.0 == other).then_some(ConfirmedHead(other))
    }
}

/// A durable head to which a second way of computing it leads as well: the only one the ledger key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfirmedHead(TreeHead);

impl ConfirmedHead {
    /// Size and root.
    pub const fn head(&self) -> TreeHead {
        self.0
    }
}

/// An intent that is on disk: what a keyring wants to see before it touches a key.
#[derive(Debug)]
pub struct DurableIntent(Intent);

impl DurableIntent {
    /// Called by the ledger's writer after its sync returned.
    pub const fn after_sync(intent: Intent) -> Self {
        Self(intent)
    }

    /// For the software backend under `intents = "skip"`, which exists in development only: its key
    /// lives in this process, so a crash between intent and outcome leaves no use to account for.
    pub const fn skipped_for_software(intent: Intent) -> Self {
        Self(intent)
    }

    /// What was admitted.
    pub const fn intent(&self) -> &Intent {
        &self.0
    }

    /// Gives the intent to its outcome.
    pub fn into_intent(self) -> Intent {
        self.0
    }
}

/// Which leaves a [`Committed`] may hold.
pub trait Kind {
    /// Whether a leaf of this event type is of this kind.
    fn holds(event_type: &str) -> bool;
}

/// A key use that ended: issued, failed or abandoned.
#[derive(Debug, Clone, Copy)]
pub enum OutcomeKind {}

impl Kind for OutcomeKind {
    fn holds(event_type: &str) -> bool {
        matches!(event_type, event_type::ISSUED | event_type::FAILED | event_type::ABANDONED)
    }
}

/// Any event.
#[derive(Debug, Clone, Copy)]
pub enum EventKind {}

impl Kind for EventKind {
    fn holds(_: &str) -> bool {
        true
    }
}

/// Why a leaf is not committed. In a running ledger each of these is corruption.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The proof does not lead from the leaf to the root.
    #[error("inclusion proof fails: {0}")]
    Proof(#[from] ProofError),
    /// The leaf is no event.
    #[error(transparent)]
    Event(#[from] EventError),
    /// The leaf is an event of another kind.
    #[error("leaf is not of the expected kind")]
    Kind,
}

/// A leaf proven to be in a tree that is on disk.
#[derive(Debug)]
pub struct Committed<K> {
    leaf: Arc<[u8]>,
    index: LeafIndex,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Committed<K> {
    fn clone(&self) -> Self {
        Self { leaf: Arc::clone(&self.leaf), index: self.index, kind: PhantomData }
    }
}

impl<K: Kind> Committed<K> {
    /// The only constructor: `proof` must lead from the leaf at `index` to the durable root.
    pub fn verify(
        leaf: Arc<[u8]>,
        index: LeafIndex,
        proof: &[Hash],
        head: &DurableHead,
    ) -> Result<Self, CommitError> {
        merkle::verify_inclusion(&merkle::leaf_hash(&leaf), index, proof, &head.head())?;
        if !K::holds(event_type_of(&leaf)) {
            return Err(CommitError::Kind);
        }
        Ok(Self { leaf, index, kind: PhantomData })
    }
}

impl<K> Committed<K> {
    /// Position in the ledger.
    pub const fn index(&self) -> LeafIndex {
        self.index
    }

    /// The leaf's bytes. For an issued signature they contain it: they are committed, so they may.
    pub fn leaf(&self) -> &Arc<[u8]> {
        &self.leaf
    }

    /// The event inside.
    pub fn event(&self) -> Result<AuditEvent<'_>, EventError> {
        AuditEvent::read(&self.leaf)
    }
}

/// The event type, by its member's first appearance: before it stand names alone, which hold no quote.
fn event_type_of(leaf: &[u8]) -> &str {
    const MEMBER: &[u8] = b",\"eventType\":\"";
    let at = leaf.windows(MEMBER.len()).position(|window| window == MEMBER);
    let rest = at.and_then(|at| leaf.get(at + MEMBER.len()..)).unwrap_or_default();
    let name = rest.split(|byte| *byte == b'"').next().unwrap_or_default();
    std::str::from_utf8(name).unwrap_or_default()
}

/// An issued signature, readable because it is committed.
#[derive(Debug)]
pub struct IssuedSignature<'a> {
    /// The event around it.
    pub event: AuditEvent<'a>,
    /// Its payload.
    pub payload: IssuedPayload<'a>,
}

/// Payload of `signing.signature.issued`, as text; see FORMAT.md §5.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IssuedPayload<'a> {
    /// Registry name of the algorithm.
    pub algorithm: &'a str,
    /// The second key's signature, if the key has a co-signer.
    #[serde(default, borrow)]
    pub co_signer: Option<CoSignerPayload<'a>>,
    /// How it was asked for, if not by the native API.
    #[serde(default, borrow)]
    pub dialect: Option<&'a serde_json::value::RawValue>,
    /// Lower-case hex.
    pub digest: &'a str,
    /// `sha256`, `sha384` or `sha512`.
    pub digest_algorithm: &'a str,
    /// The caller's `Idempotency-Key`.
    #[serde(default, borrow)]
    pub idempotency_key: Option<&'a str>,
    /// The key's logical name.
    pub kid: &'a str,
    /// The caller's context.
    #[serde(default, borrow)]
    pub metadata: Option<&'a serde_json::value::RawValue>,
    /// `sign`, `sign-message` or `mac`.
    pub operation: &'a str,
    /// Which rule allowed it.
    #[serde(borrow)]
    pub policy: &'a serde_json::value::RawValue,
    /// What the caller said it is for.
    #[serde(default, borrow)]
    pub purpose: Option<&'a str>,
    /// The rung that had to hold.
    pub release: &'a str,
    /// Correlation with logs.
    pub request_id: &'a str,
    /// SHA-256 over what was asked.
    #[serde(default, borrow)]
    pub request_sha256: Option<&'a str>,
    /// Standard base64.
    pub signature: &'a str,
    /// The key pair.
    #[serde(rename = "signer_kid")]
    pub signer_kid: &'a str,
}

/// A co-signer inside a payload.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoSignerPayload<'a> {
    /// Registry name of the algorithm.
    pub algorithm: &'a str,
    /// The key's logical name.
    pub kid: &'a str,
    /// Standard base64; there exactly if the signature was issued.
    #[serde(default, borrow)]
    pub signature: Option<&'a str>,
    /// The key pair.
    pub signer_kid: &'a str,
}

impl CoSignerPayload<'_> {
    /// The signature's bytes; `None` if there are none or the base64 is not the one spelling.
    pub fn signature_bytes(&self) -> Option<Vec<u8>> {
        crate::entry::decode_base64(self.signature?)
    }
}

/// Payload of `signing.signature.checking`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CheckingPayload<'a> {
    /// Registry name of the algorithm.
    pub algorithm: &'a str,
    /// Lower-case hex of the message's SHA-256.
    pub digest: &'a str,
    /// `sha256`.
    pub digest_algorithm: &'a str,
    /// The logical key.
    pub kid: &'a str,
    /// Which rule allowed it.
    #[serde(borrow)]
    pub policy: &'a serde_json::value::RawValue,
    /// Correlation with logs.
    pub request_id: &'a str,
    /// The key pair.
    #[serde(rename = "signer_kid")]
    pub signer_kid: &'a str,
}

/// Payload of `signing.signature.anchored`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AnchoredPayload<'a> {
    /// Lower-case hex.
    pub digest: &'a str,
    /// `sha256`, `sha384` or `sha512`.
    pub digest_algorithm: &'a str,
    /// The logical key in whose name it was allowed.
    pub kid: &'a str,
    /// The caller's context.
    #[serde(default, borrow)]
    pub metadata: Option<&'a serde_json::value::RawValue>,
    /// Which rule allowed it.
    #[serde(borrow)]
    pub policy: &'a serde_json::value::RawValue,
    /// What the caller said it is for.
    #[serde(default, borrow)]
    pub purpose: Option<&'a str>,
    /// Correlation with logs.
    pub request_id: &'a str,
}

impl<'a> AnchoredPayload<'a> {
    /// Reads the payload strictly.
    pub fn parse(payload: &'a str) -> Option<Self> {
        serde_json::from_str(payload).ok()
    }
}

impl<'a> IssuedPayload<'a> {
    /// Reads the payload strictly.
    pub fn parse(payload: &'a str) -> Option<Self> {
        serde_json::from_str(payload).ok()
    }

    /// The signature's bytes; `None` if the base64 is not the one spelling.
    pub fn signature_bytes(&self) -> Option<Vec<u8>> {
        crate::entry::decode_base64(self.signature)
    }

    /// The rung that had to hold before release.
    pub fn rung(&self) -> Option<Rung> {
        Rung::parse(self.release)
    }
}

/// Payload of `signing.signature.failed` and `.abandoned`: the same members, with `code` and `keyUse`
/// in place of `signature`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FailedPayload<'a> {
    /// Registry name of the algorithm.
    pub algorithm: &'a str,
    /// Why.
    pub code: &'a str,
    /// The second key, if the key has a co-signer; without signature.
    #[serde(default, borrow)]
    pub co_signer: Option<CoSignerPayload<'a>>,
    /// How it was asked for, if not by the native API.
    #[serde(default, borrow)]
    pub dialect: Option<&'a serde_json::value::RawValue>,
    /// Lower-case hex.
    pub digest: &'a str,
    /// `sha256`, `sha384` or `sha512`.
    pub digest_algorithm: &'a str,
    /// The caller's `Idempotency-Key`.
    #[serde(default, borrow)]
    pub idempotency_key: Option<&'a str>,
    /// `none` or `unknown`.
    pub key_use: &'a str,
    /// The key's logical name.
    pub kid: &'a str,
    /// The caller's context.
    #[serde(default, borrow)]
    pub metadata: Option<&'a serde_json::value::RawValue>,
    /// `sign`, `sign-message` or `mac`.
    pub operation: &'a str,
    /// Which rule allowed it.
    #[serde(borrow)]
    pub policy: &'a serde_json::value::RawValue,
    /// What the caller said it is for.
    #[serde(default, borrow)]
    pub purpose: Option<&'a str>,
    /// The rung that would have had to hold.
    pub release: &'a str,
    /// Correlation with logs.
    pub request_id: &'a str,
    /// SHA-256 over what was asked.
    #[serde(default, borrow)]
    pub request_sha256: Option<&'a str>,
    /// The key pair.
    #[serde(rename = "signer_kid")]
    pub signer_kid: &'a str,
}

impl<'a> FailedPayload<'a> {
    /// Reads the payload strictly.
    pub fn parse(payload: &'a str) -> Option<Self> {
        serde_json::from_str(payload).ok()
    }
}

impl Committed<OutcomeKind> {
    /// The signature, or `None` if the key use failed or was abandoned.
    pub fn issued(&self) -> Option<IssuedSignature<'_>> {
        let event = self.event().ok().filter(|event| event.event_type == event_type::ISSUED)?;
        let payload = IssuedPayload::parse(event.payload)?;
        Some(IssuedSignature { event, payload })
    }

    /// Why there is no signature, or `None` if there is one.
    pub fn failed(&self) -> Option<FailedPayload<'_>> {
        let event = self.event().ok().filter(|event| event.event_type != event_type::ISSUED)?;
        FailedPayload::parse(event.payload)
    }
}
