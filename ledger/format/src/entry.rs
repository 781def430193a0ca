//! What the appliance itself enrols: intents, outcomes of key use, refusals, its own life.
//!
//! An [`Intent`] is durable before a device key is used but is no leaf; its [`Outcome`] is one, and
//! carries everything the intent said. Payload members stand in canonical order here, in FORMAT.md §5
//! and in the ledger.

use serde::Deserialize;

use crate::algorithm::SignatureAlgorithm;
use crate::canonical::{CanonicalJson, ObjectWriter};
use crate::digest::Digest;
use crate::event::EventDraft;
use crate::hash::Hash;
use crate::names::{
    EventType, FailureCode, IdempotencyKey, Kid, Origin, PrincipalName, Purpose, RequestId, StreamName,
};
use crate::timestamp::Timestamp;

/// Event types of the appliance.
pub mod event_type {
    /// A signature was made; the payload holds it.
    pub const ISSUED: &str = "signing.signature.issued";
    /// A key operation failed; no signature exists or none was released.
    pub const FAILED: &str = "signing.signature.failed";
    /// A crash came between intent and outcome: the key may have been used, nothing was released.
    pub const ABANDONED: &str = "signing.signature.abandoned";
    /// First entry of every ledger.
    pub const OPENED: &str = "ledger.opened";
    /// A key may sign from this index on.
    pub const ACTIVATED: &str = "signer.activated";
    /// A key may no longer sign from this index on.
    pub const RETIRED: &str = "signer.retired";
    /// A version of `signers.json` was published.
    pub const REGISTRY: &str = "registry.published";
    /// Requests were refused (coalesced per principal and code).
    pub const REFUSED: &str = "request.refused";
    /// Grants were loaded.
    pub const POLICY: &str = "policy.loaded";
    /// The kill switch was pulled or reset.
    pub const KILL_SWITCH: &str = "kill_switch.changed";
}

/// Base64 as it stands in leaves: standard alphabet, padded, decoded strictly.
pub(crate) fn encode_base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Strict inverse of [`encode_base64`]: a second spelling of the same bytes is refused.
pub(crate) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

/// What must hold before signature bytes are released. Ordered: each rung includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    /// Synced to disk and proven under the persisted tree head.
    Durable,
    /// Under a checkpoint signed by the ledger key.
    Checkpointed,
    /// In an archived epoch that was read back.
    Archived,
}

impl Rung {
    /// The word in leaves, replies and configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Durable => "durable",
            Self::Checkpointed => "checkpointed",
            Self::Archived => "archived",
        }
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Durable, Self::Checkpointed, Self::Archived].into_iter().find(|rung| rung.as_str() == text)
    }
}

/// What is asked of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A signature over a digest.
    Sign,
    /// A message authentication code over a message; the digest recorded is the message's SHA-256.
    Mac,
}

impl Operation {
    /// The word in leaves.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sign => "sign",
            Self::Mac => "mac",
        }
    }
}

/// Which rule of which policy allowed a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRef {
    /// Name of the rule or grant.
    pub rule: String,
    /// SHA-256 of the policy as loaded.
    pub sha256: Hash,
}

/// Ties retries of one request together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayKey {
    /// The caller's `Idempotency-Key`.
    pub key: IdempotencyKey,
    /// SHA-256 over what the request asks; a retry must ask the same.
    pub request_hash: Hash,
}

/// Everything known about a key use before it happens.
#[derive(Debug, Clone)]
pub struct IntentParts {
    /// The key's logical name.
    pub kid: Kid,
    /// The key pair.
    pub signer_kid: Kid,
    /// What the key does.
    pub algorithm: SignatureAlgorithm,
    /// Signature or MAC.
    pub operation: Operation,
    /// What is signed; for a MAC, SHA-256 of the message.
    pub digest: Digest,
    /// Who asked.
    pub principal: PrincipalName,
    /// Correlation with logs.
    pub request_id: RequestId,
    /// Chain the outcome joins.
    pub stream: StreamName,
    /// What the caller says it is for.
    pub purpose: Option<Purpose>,
    /// The caller's context, an object; recorded.
    pub metadata: Option<CanonicalJson>,
    /// Why it was allowed.
    pub policy: PolicyRef,
    /// What must hold before release.
    pub release: Rung,
    /// Set if the caller sent an `Idempotency-Key`.
    pub replay: Option<ReplayKey>,
}

/// A key use that admission allowed and that has not happened yet.
#[derive(Debug, Clone)]
pub struct Intent(IntentParts);

impl Intent {
    /// Only `Permit::into_intent` calls this outside tests; a test over the source tree checks it.
    pub const fn new(parts: IntentParts) -> Self {
        Self(parts)
    }

    /// What was admitted.
    pub const fn parts(&self) -> &IntentParts {
        &self.0
    }

    /// The durable record: canonical JSON of all parts.
    pub fn encode(&self) -> Vec<u8> {
        let parts = &self.0;
        let writer = ObjectWriter::new().string("actor", parts.principal.as_str());
        let writer = writer.string("algorithm", parts.algorithm.as_str());
        let payload = self.write_middle(writer, None).string("signer_kid", parts.signer_kid.as_str());
        payload.string("stream", parts.stream.as_str()).finish().as_bytes().to_vec()
    }

    /// Reads what [`Intent::encode`] wrote; `None` is corruption.
    pub fn decode(record: &[u8]) -> Option<Self> {
        let record: IntentRecord = serde_json::from_slice(record).ok()?;
        let replay = match (record.idempotency_key, record.request_sha256) {
            (Some(key), Some(hash)) => {
                Some(ReplayKey { key: key.parse().ok()?, request_hash: Hash::from_hex(&hash).ok()? })
            }
            (None, None) => None,
            _ => return None,
        };
        let metadata = match record.metadata {
            Some(raw) => Some(CanonicalJson::parse(raw.get().as_bytes()).ok()?),
            None => None,
        };
        Some(Self(IntentParts {
            kid: record.kid.parse().ok()?,
            signer_kid: record.signer_kid.parse().ok()?,
            algorithm: record.algorithm.parse().ok()?,
            operation: match record.operation.as_str() {
                "sign" => Operation::Sign,
                "mac" => Operation::Mac,
                _ => return None,
            },
            digest: Digest::parse(&record.digest_algorithm, &record.digest).ok()?,
            principal: record.actor.parse().ok()?,
            request_id: record.request_id.parse().ok()?,
            stream: record.stream.parse().ok()?,
            purpose: record.purpose.map(|text| text.parse()).transpose().ok()?,
            metadata,
            policy: PolicyRef {
                rule: record.policy.rule,
                sha256: Hash::from_hex(&record.policy.sha256).ok()?,
            },
            release: Rung::parse(&record.release)?,
            replay,
        }))
    }

    /// Members from `code` to `requestSha256`, shared by the intent and every outcome.
    fn write_middle(&self, writer: ObjectWriter, failure: Option<(&FailureCode, KeyUse)>) -> ObjectWriter {
        let parts = &self.0;
        let policy = ObjectWriter::new()
            .string("rule", &parts.policy.rule)
            .string("sha256", &parts.policy.sha256.to_hex())
            .finish();
        let replay = parts.replay.as_ref();
        writer
            .string_if("code", failure.map(|(code, _)| code.as_str()))
            .string("digest", &parts.digest.to_hex())
            .string("digestAlgorithm", parts.digest.algorithm())
            .string_if("idempotencyKey", replay.map(|replay| replay.key.as_str()))
            .string_if("keyUse", failure.map(|(_, key_use)| key_use.as_str()))
            .string("kid", parts.kid.as_str())
            .json_if("metadata", parts.metadata.as_ref())
            .string("operation", parts.operation.as_str())
            .json("policy", &policy)
            .string_if("purpose", parts.purpose.as_ref().map(Purpose::as_str))
            .string("release", parts.release.as_str())
            .string("requestId", parts.request_id.as_str())
            .string_if("requestSha256", replay.map(|replay| replay.request_hash.to_hex()).as_deref())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct IntentRecord {
    actor: String,
    algorithm: String,
    digest: String,
    digest_algorithm: String,
    idempotency_key: Option<String>,
    kid: String,
    metadata: Option<Box<serde_json::value::RawValue>>,
    operation: String,
    policy: PolicyRecord,
    purpose: Option<String>,
    release: String,
    request_id: String,
    request_sha256: Option<String>,
    #[serde(rename = "signer_kid")]
    signer_kid: String,
    stream: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyRecord {
    rule: String,
    sha256: String,
}

/// Signature bytes nobody can read: they go in when a keyring makes them and come out only through
/// [`crate::Committed`].
#[derive(Clone)]
pub struct SignatureBytes(Vec<u8>);

impl SignatureBytes {
    /// Takes what a device returned, after it was verified.
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl std::fmt::Debug for SignatureBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SignatureBytes(unreleased)")
    }
}

/// Whether the key may have been used by an operation that gave no signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyUse {
    /// The request never reached the device.
    None,
    /// It may have.
    Unknown,
}

impl KeyUse {
    /// The word in leaves.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Unknown => "unknown",
        }
    }
}

/// How a key use ended.
#[derive(Debug, Clone)]
pub enum OutcomeResult {
    /// The device signed and the signature verified.
    Signed(SignatureBytes),
    /// It did not, or the signature was wrong.
    Failed(FailureCode, KeyUse),
    /// The process died between intent and outcome.
    Abandoned,
}

/// An intent and how it ended: one leaf.
#[derive(Debug, Clone)]
pub struct Outcome {
    intent: Intent,
    result: OutcomeResult,
}

impl Outcome {
    /// A verified signature.
    pub const fn signed(intent: Intent, signature: SignatureBytes) -> Self {
        Self { intent, result: OutcomeResult::Signed(signature) }
    }

    /// A failure; nothing was released.
    pub const fn failed(intent: Intent, code: FailureCode, key_use: KeyUse) -> Self {
        Self { intent, result: OutcomeResult::Failed(code, key_use) }
    }

    /// An intent found open at start.
    pub const fn abandoned(intent: Intent) -> Self {
        Self { intent, result: OutcomeResult::Abandoned }
    }

    /// What was admitted.
    pub const fn intent(&self) -> &Intent {
        &self.intent
    }

    /// How it ended.
    pub const fn result(&self) -> &OutcomeResult {
        &self.result
    }

    /// The leaf's draft.
    pub fn draft(&self) -> EventDraft {
        let parts = self.intent.parts();
        let abandoned = FailureCode::known("abandoned");
        let (event_type, failure, signature) = match &self.result {
            OutcomeResult::Signed(signature) => (event_type::ISSUED, None, Some(encode_base64(&signature.0))),
            OutcomeResult::Failed(code, key_use) => (event_type::FAILED, Some((code, *key_use)), None),
            OutcomeResult::Abandoned => (event_type::ABANDONED, Some((&abandoned, KeyUse::Unknown)), None),
        };
        let writer = ObjectWriter::new().string("algorithm", parts.algorithm.as_str());
        let payload = self
            .intent
            .write_middle(writer, failure)
            .string_if("signature", signature.as_deref())
            .string("signer_kid", parts.signer_kid.as_str())
            .finish();
        draft(event_type, parts.principal.clone(), parts.stream.clone(), payload)
    }
}

fn draft(
    event_type: &'static str,
    actor: PrincipalName,
    stream: StreamName,
    payload: CanonicalJson,
) -> EventDraft {
    EventDraft {
        event_type: EventType::known(event_type),
        actor,
        stream,
        payload,
        id: None,
        ts: None,
        manifest_signature_id: None,
        metadata: None,
    }
}

fn appliance(event_type: &'static str, payload: CanonicalJson) -> EventDraft {
    draft(event_type, PrincipalName::appliance(), StreamName::appliance(), payload)
}

/// First entry of a ledger.
pub fn ledger_opened(origin: &Origin) -> EventDraft {
    let payload = ObjectWriter::new().integer("formatVersion", 1).string("origin", origin.as_str());
    appliance(event_type::OPENED, payload.finish())
}

/// A key may sign from here on. `public_key_pem` is `None` for MAC keys.
pub fn signer_activated(
    kid: &Kid,
    signer_kid: &Kid,
    algorithm: SignatureAlgorithm,
    public_key_pem: Option<&str>,
    purpose: &str,
) -> EventDraft {
    let payload = ObjectWriter::new()
        .string("algorithm", algorithm.as_str())
        .string("kid", kid.as_str())
        .string_if("public_key_pem", public_key_pem)
        .string("purpose", purpose)
        .string("signer_kid", signer_kid.as_str());
    appliance(event_type::ACTIVATED, payload.finish())
}

/// A key may no longer sign.
pub fn signer_retired(signer_kid: &Kid) -> EventDraft {
    appliance(event_type::RETIRED, ObjectWriter::new().string("signer_kid", signer_kid.as_str()).finish())
}

/// A version of `signers.json` was published.
pub fn registry_published(version: u64, sha256: &Hash) -> EventDraft {
    let payload = ObjectWriter::new().string("sha256", &sha256.to_hex()).integer("version", version);
    appliance(event_type::REGISTRY, payload.finish())
}

/// Grants were loaded.
pub fn policy_loaded(sha256: &Hash) -> EventDraft {
    appliance(event_type::POLICY, ObjectWriter::new().string("sha256", &sha256.to_hex()).finish())
}

/// The kill switch was pulled (`halted`) or reset; `source` says by what (`environment`, `file`).
pub fn kill_switch_changed(halted: bool, source: &str) -> EventDraft {
    let state = if halted { "halted" } else { "running" };
    let payload = ObjectWriter::new().string("source", source).string("state", state);
    appliance(event_type::KILL_SWITCH, payload.finish())
}

/// `count` refusals of one code to one principal, coalesced. `principal` is `None` before authentication.
pub fn request_refused(
    code: &str,
    principal: Option<&PrincipalName>,
    count: u64,
    first: Timestamp,
    last: Timestamp,
) -> EventDraft {
    let payload = ObjectWriter::new()
        .string("code", code)
        .integer("count", count)
        .string("firstTs", &first.to_string())
        .string("lastTs", &last.to_string())
        .string_if("principal", principal.map(PrincipalName::as_str));
    appliance(event_type::REFUSED, payload.finish())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    fn intent(replay: bool) -> Intent {
        Intent::new(IntentParts {
            kid: "orders".parse().unwrap(),
            signer_kid: "orders-ed25519-v1".parse().unwrap(),
            algorithm: SignatureAlgorithm::Ed25519,
            operation: Operation::Sign,
            digest: Digest::Sha256([7; 32]),
            principal: "spiffe://demo.example/service/orders".parse().unwrap(),
            request_id: "r-1".parse().unwrap(),
            stream: "orders".parse().unwrap(),
            purpose: Some("invoice".parse().unwrap()),
            metadata: Some(CanonicalJson::parse(b"{\"b\":1}").unwrap()),
            policy: PolicyRef { rule: "grant/orders".into(), sha256: Hash([1; 32]) },
            release: Rung::Durable,
            replay: replay.then(|| ReplayKey { key: "k-1".parse().unwrap(), request_hash: Hash([2; 32]) }),
        })
    }

    #[test]
    fn an_intent_survives_the_disk() {
        for replay in [false, true] {
            let record = intent(replay).encode();
            assert_eq!(CanonicalJson::parse(&record).unwrap().as_bytes(), record);
            assert_eq!(Intent::decode(&record).unwrap().encode(), record);
        }
        assert!(Intent::decode(b"{}").is_none());
    }

    #[test]
    fn outcomes_are_canonical_and_name_the_key_use() {
        let code: FailureCode = "backend-unavailable".parse().unwrap();
        for (outcome, event_type, has) in [
            (
                Outcome::signed(intent(true), SignatureBytes::new(vec![1; 64])),
                event_type::ISSUED,
                "\"signature\":\"AQEB",
            ),
            (Outcome::failed(intent(true), code, KeyUse::None), event_type::FAILED, "\"keyUse\":\"none\""),
            (Outcome::abandoned(intent(false)), event_type::ABANDONED, "\"keyUse\":\"unknown\""),
        ] {
            let draft = outcome.draft();
            assert_eq!(draft.event_type.as_str(), event_type);
            assert_eq!(CanonicalJson::parse(draft.payload.as_bytes()).unwrap(), draft.payload);
            assert!(draft.payload.as_str().contains(has));
        }
    }

    #[test]
    fn an_unreleased_signature_does_not_show() {
        let outcome = Outcome::signed(intent(false), SignatureBytes::new(vec![0xAB; 64]));
        assert!(format!("{outcome:?}").contains("unreleased"));
    }
}
