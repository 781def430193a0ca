//! The shapes of requests and replies. Members this version does not know are ignored in replies: the
//! service may add some. [`Answer::body`] keeps the bytes as they came.

use bytes::Bytes;
use chancery_format::names::{EventId, EventType, Kid, PrincipalName, Purpose, StreamName};
use chancery_format::{Digest, LeafIndex};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::problem::Problem;

/// A reply as read, beside its bytes.
#[derive(Debug, Clone)]
pub struct Answer<T> {
    /// What this client understood.
    pub value: T,
    /// The body exactly as it came.
    pub body: Bytes,
    /// The service's `x-request-id`; finds the call in its log.
    pub request_id: Option<String>,
}

/// What to sign, with which key.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SignRequest {
    kid: Kid,
    digest: String,
    digest_algorithm: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purpose: Option<Purpose>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Box<RawValue>>,
}

impl SignRequest {
    /// Asks for a signature over `digest` with the key named `kid`.
    pub fn new(kid: Kid, digest: &Digest) -> Self {
        let digest_algorithm = digest.algorithm();
        Self { kid, digest: digest.to_hex(), digest_algorithm, mode: None, purpose: None, metadata: None }
    }

    /// Asks for no signature of the key: the receipt, under a signed checkpoint, is the signature.
    #[must_use]
    pub const fn anchored(mut self) -> Self {
        self.mode = Some("anchored");
        self
    }

    /// Says what the signature is for; recorded on the ledger.
    #[must_use]
    pub fn purpose(mut self, purpose: Purpose) -> Self {
        self.purpose = Some(purpose);
        self
    }

    /// Adds context, a JSON object; recorded on the ledger.
    #[must_use]
    pub fn metadata(mut self, metadata: Box<RawValue>) -> Self {
        self.metadata = Some(metadata);
        self
    }

    /// The key asked for.
    pub const fn kid(&self) -> &Kid {
        &self.kid
    }

    /// Lower-case hex of the digest to sign.
    pub fn digest_hex(&self) -> &str {
        &self.digest
    }
}

/// A second key's signature over the same digest.
#[derive(Debug, Clone, Deserialize)]
pub struct CoSignature {
    /// The key.
    pub kid: Kid,
    /// The key pair.
    pub signer_kid: Kid,
    /// Registry name of the algorithm.
    pub algorithm: String,
    /// Standard base64.
    pub signature: String,
}

/// A signature that is on the ledger.
#[derive(Debug, Clone, Deserialize)]
pub struct SignReply {
    /// Name of the event that holds it.
    pub id: EventId,
    /// The key asked for.
    pub kid: Kid,
    /// The key pair that signed.
    pub signer_kid: Kid,
    /// Registry name of the algorithm; empty where the digest was anchored.
    #[serde(default)]
    pub algorithm: String,
    /// Lower-case hex.
    pub digest: String,
    /// Standard base64; empty where the digest was anchored: then the receipt is the signature.
    #[serde(default)]
    pub signature: String,
    /// The second signature, if the key has a co-signer.
    #[serde(default, rename = "coSigner")]
    pub co_signer: Option<CoSignature>,
    /// When it was enrolled, RFC 3339.
    pub ts: String,
    /// What held before the signature was released: `durable`, `checkpointed`, `archived`.
    pub rung: String,
    /// Where the proof is, or the proof itself.
    pub receipt: Box<RawValue>,
}

/// The part every receipt has, whole or not.
#[derive(Debug, Clone, Deserialize)]
pub struct ReceiptPointer {
    /// Position on the ledger.
    pub index: u64,
}

impl SignReply {
    /// Whether the reply is about this request.
    pub(crate) fn answers(&self, request: &SignRequest) -> bool {
        self.kid == request.kid && self.digest == request.digest
    }

    /// Position on the ledger; `None` if the service named none.
    pub fn index(&self) -> Option<LeafIndex> {
        index_of(&self.receipt)
    }
}

fn index_of(receipt: &RawValue) -> Option<LeafIndex> {
    serde_json::from_str(receipt.get()).ok().map(|pointer: ReceiptPointer| LeafIndex(pointer.index))
}

/// Replies of a batch, in the order of its requests.
#[derive(Debug, Clone, Deserialize)]
pub struct BatchReply {
    /// One per request.
    pub items: Vec<BatchItem>,
}

/// What became of one request of a batch.
#[derive(Debug, Clone)]
pub enum BatchItem {
    /// Signed.
    Signed(Box<SignReply>),
    /// Refused or failed.
    Refused(Problem),
}

impl<'de> Deserialize<'de> for BatchItem {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let item = Box::<RawValue>::deserialize(deserializer)?;
        if let Ok(signed) = serde_json::from_str(item.get()) {
            return Ok(Self::Signed(Box::new(signed)));
        }
        serde_json::from_str(item.get()).map(Self::Refused).map_err(serde::de::Error::custom)
    }
}

/// Whether a signature is valid, and what state its key is in.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifyReply {
    /// Whether the signature verifies.
    pub valid: bool,
    /// The key asked about.
    pub kid: Kid,
    /// `active`, `retired`, …
    pub key_state: String,
}

/// An event to append.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewEvent {
    event_type: EventType,
    payload: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<StreamName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<EventId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<PrincipalName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Box<RawValue>>,
}

impl NewEvent {
    /// An event of this type; `payload` is any JSON value the service accepts, sent as written.
    pub const fn new(event_type: EventType, payload: Box<RawValue>) -> Self {
        Self { event_type, payload, stream: None, id: None, actor: None, metadata: None }
    }

    /// Puts it in a stream other than the caller's own.
    #[must_use]
    pub fn stream(mut self, stream: Option<StreamName>) -> Self {
        self.stream = stream;
        self
    }

    /// Names it; a name can be used once.
    #[must_use]
    pub fn id(mut self, id: Option<EventId>) -> Self {
        self.id = id;
        self
    }

    /// Says who acted, if not the caller.
    #[must_use]
    pub fn actor(mut self, actor: Option<PrincipalName>) -> Self {
        self.actor = actor;
        self
    }

    /// Adds context, a JSON object.
    #[must_use]
    pub fn metadata(mut self, metadata: Option<Box<RawValue>>) -> Self {
        self.metadata = metadata;
        self
    }
}

/// An appended event, the part callers need; the whole is in [`Answer::body`].
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventReply {
    /// Its name.
    pub id: EventId,
    /// Its position in its stream.
    pub seq: u64,
    /// Its stream.
    pub stream: StreamName,
    /// When it was enrolled, RFC 3339.
    pub ts: String,
    /// Lower-case hex; the next event of the stream names it.
    pub hash: String,
    /// Where the proof is, or the proof itself.
    pub receipt: Box<RawValue>,
    /// Its row, if its stream is set to the dialect of an existing writer: JSON with the names of its columns.
    #[serde(default)]
    pub row: Option<Box<RawValue>>,
}

impl EventReply {
    /// Position on the ledger; `None` if the service named none.
    pub fn index(&self) -> Option<LeafIndex> {
        index_of(&self.receipt)
    }
}

/// `POST /v1/rows`.
#[derive(Debug, Serialize)]
pub(crate) struct RowsRequest<'a> {
    pub(crate) stream: &'a StreamName,
    pub(crate) from: u64,
}

/// Rows of a stream that is set to an existing writer's dialect.
#[derive(Debug, Clone, Deserialize)]
pub struct RowsPage {
    /// Whose rows they are.
    pub dialect: String,
    /// Where the next page begins; `None` at the end.
    pub next: Option<u64>,
    /// The rows, as JSON with the names of the writer's columns.
    pub items: Vec<Box<RawValue>>,
}

/// The keys the caller may see.
#[derive(Debug, Clone, Deserialize)]
pub struct KeyList {
    /// One per key.
    pub keys: Vec<KeyInfo>,
}

/// One key.
#[derive(Debug, Clone, Deserialize)]
pub struct KeyInfo {
    /// What callers ask for.
    pub kid: Kid,
    /// The key pair.
    pub signer_kid: Kid,
    /// Registry name of the algorithm.
    pub algorithm: String,
    /// `active`, `retired`, …
    pub state: String,
    /// What the key is for.
    #[serde(default)]
    pub purpose: Option<String>,
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

    use super::*;

    #[test]
    fn a_sign_request_has_exactly_the_members_asked_for() {
        let request = SignRequest::new("orders".parse().unwrap(), &Digest::Sha256([0xab; 32]));
        let text = serde_json::to_string(&request).unwrap();
        let hex = "ab".repeat(32);
        assert_eq!(text, format!(r#"{{"kid":"orders","digest":"{hex}","digestAlgorithm":"sha256"}}"#));
        let raw = RawValue::from_string("{\"b\":1.0}".to_owned()).unwrap();
        let request = request.purpose("ship".parse().unwrap()).metadata(raw);
        let text = serde_json::to_string(&request).unwrap();
        assert!(text.ends_with(r#""purpose":"ship","metadata":{"b":1.0}}"#), "{text}");
    }

    #[test]
    fn a_batch_item_is_a_signature_or_a_problem() {
        let signed = r#"{"id":"e","kid":"k","signer_kid":"k-1","algorithm":"ed25519","digest":"00","signature":"AA==",
            "ts":"2026-01-01T00:00:00.000Z","rung":"durable","receipt":{"version":1,"index":7,"rung":"durable"},"later":1}"#;
        let refused = r#"{"type":"about:blank","title":"t","status":403,"code":"kid-not-granted"}"#;
        let reply: BatchReply =
            serde_json::from_str(&format!(r#"{{"items":[{signed},{refused}]}}"#)).unwrap();
        assert!(matches!(&reply.items[..], [BatchItem::Signed(s), BatchItem::Refused(p)]
            if s.index() == Some(LeafIndex(7)) && p.code == "kid-not-granted"));
    }
}
