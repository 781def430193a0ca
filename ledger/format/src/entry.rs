//! What the appliance itself enrols: intents, outcomes of key use, refusals, its own life.
//!
//! An [`Intent`] is durable before a device key is used but is no leaf; its [`Outcome`] is one, and
//! carries everything the intent said. Payload members stand in canonical order here, in FORMAT.md §5
//! and in the ledger.

use serde::Deserialize;

use crate::algorithm::SignatureAlgorithm;
use crate::canonical::{CanonicalJson, ObjectWriter};
use crate::digest::Digest;
use crate::event::{AuditEvent, EventDraft};
use crate::governance;
use crate::hash::Hash;
use crate::heads::EnrolledHeads;
use crate::names::{
    DialectName, EventType, FailureCode, IdempotencyKey, Kid, Origin, PrincipalName, Purpose, RequestId,
    StreamName,
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
    /// A digest was enrolled whose signature is its receipt: no key was used for it alone.
    pub const ANCHORED: &str = "signing.signature.anchored";
    /// First entry of every ledger.
    pub const OPENED: &str = "ledger.opened";
    /// How many entries each stream and each key has, below a size: the root of a map.
    pub const HEADS: &str = "ledger.heads";
    /// A key may sign from this index on.
    pub const ACTIVATED: &str = "signer.activated";
    /// A key may no longer sign from this index on.
    pub const RETIRED: &str = "signer.retired";
    /// What a device itself recorded of its operations.
    pub const OPERATIONS: &str = "signer.operations.recorded";
    /// A device did something with a key that the ledger knows nothing of; the key was halted.
    pub const SURPLUS: &str = "signer.operations.surplus";
    /// A MAC key is about to be used to check a MAC.
    pub const CHECKING: &str = "signing.signature.checking";
    /// A version of `signers.json` was published.
    pub const REGISTRY: &str = "registry.published";
    /// Requests were refused (coalesced per principal and code).
    pub const REFUSED: &str = "request.refused";
    /// What an external policy service said, or that it said nothing.
    pub const VERDICT: &str = "policy.verdict";
    /// Grants were loaded.
    pub const POLICY: &str = "policy.loaded";
    /// The archive got back what it lacked.
    pub const RESHIPPED: &str = "archive.reshipped";
}

/// Whether only the appliance itself writes events of this type: families, so that what a later version adds is
/// nobody else's today.
pub fn is_appliances_type(name: &str) -> bool {
    let families = ["signing.", "signer.", "ledger.", "kill_switch.", "governance."];
    let exact = [event_type::REGISTRY, event_type::REFUSED, event_type::POLICY, event_type::VERDICT];
    families.iter().any(|family| name.starts_with(family)) || exact.contains(&name)
}

/// Whether a leaf of this type tells of one key use, in the caller's name.
fn is_outcome(name: &str) -> bool {
    use event_type::{ABANDONED, ANCHORED, CHECKING, FAILED, ISSUED};
    [ISSUED, FAILED, ABANDONED, ANCHORED, CHECKING].contains(&name)
}

impl AuditEvent<'_> {
    /// Whether the event stands where its type belongs: the appliance's own kinds in its own streams and under its
    /// own name, outcomes of key use in the caller's, everything else in neither. Names below `chancery/` are kept.
    pub fn is_in_place(&self) -> bool {
        let governed = governance::Event::TYPES.contains(&self.event_type);
        let appliance = PrincipalName::appliance();
        let (log, acts) = (StreamName::appliance(), StreamName::governance());
        let home = if governed { &acts } else { &log };
        let own = self.stream == home.as_str() && self.actor == appliance.as_str();
        let kept = self.stream == log.as_str() || self.stream.starts_with("chancery/");
        let half = kept || self.actor == appliance.as_str();
        match is_outcome(self.event_type) {
            true => !half,
            false => own || (!half && !is_appliances_type(self.event_type)),
        }
    }
}

/// Base64 as it stands in leaves: standard alphabet, padded, decoded strictly.
pub(crate) fn encode_base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Strict inverse of [`encode_base64`]: a second spelling of the same bytes is refused.
pub fn decode_base64(text: &str) -> Option<Vec<u8>> {
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
    /// Under a checkpoint that enough witnesses cosigned.
    Witnessed,
    /// In an archived epoch that was read back. Says nothing of witnesses.
    Archived,
}

impl Rung {
    /// The word in leaves, replies and configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Durable => "durable",
            Self::Checkpointed => "checkpointed",
            Self::Witnessed => "witnessed",
            Self::Archived => "archived",
        }
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Durable, Self::Checkpointed, Self::Witnessed, Self::Archived]
            .into_iter()
            .find(|rung| rung.as_str() == text)
    }
}

/// What is asked of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A signature over a digest.
    Sign,
    /// A signature over a message itself, by an algorithm that hashes none beforehand; the digest recorded is the
    /// message's SHA-256, and only whoever has the message can verify the signature.
    SignMessage,
    /// A message authentication code over a message; the digest recorded is the message's SHA-256.
    Mac,
}

impl Operation {
    /// The word in leaves.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sign => "sign",
            Self::SignMessage => "sign-message",
            Self::Mac => "mac",
        }
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Sign, Self::SignMessage, Self::Mac].into_iter().find(|operation| operation.as_str() == text)
    }

    /// Whether a key of this algorithm does this.
    pub const fn is_by(self, algorithm: SignatureAlgorithm) -> bool {
        match self {
            Self::Sign => !algorithm.is_mac(),
            Self::SignMessage => !algorithm.is_mac() && algorithm.takes_messages(),
            Self::Mac => algorithm.is_mac(),
        }
    }

    /// Whether a key of this algorithm does this to what a leaf records: µ is only ever signed, and by ML-DSA.
    pub fn is_recorded_of(self, algorithm: SignatureAlgorithm, digest: &Digest) -> bool {
        let over_mu = digest.hash().is_none();
        self.is_by(algorithm) && (!over_mu || self == Self::Sign && algorithm.takes(digest))
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

impl PolicyRef {
    fn to_json(&self) -> CanonicalJson {
        ObjectWriter::new().string("rule", &self.rule).string("sha256", &self.sha256.to_hex()).finish()
    }
}

/// Ties retries of one request together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayKey {
    /// The caller's `Idempotency-Key`.
    pub key: IdempotencyKey,
    /// SHA-256 over what the request asks; a retry must ask the same.
    pub request_hash: Hash,
}

/// A second key pair that signs the same digest: a post-quantum one beside a classical one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoSigner {
    /// The key's logical name.
    pub kid: Kid,
    /// The key pair.
    pub signer_kid: Kid,
    /// What the key does.
    pub algorithm: SignatureAlgorithm,
}

/// In which of the languages the proxy speaks a key use was asked for, and what that language leaves unrecorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The dialect.
    pub dialect: DialectName,
    /// The local user behind an agent, as the agent says.
    pub peer_uid: Option<u32>,
    /// The time inside the signed bytes, where the dialect's clients keep another one.
    pub signed_ts: Option<Timestamp>,
}

impl Asked {
    fn to_json(&self) -> CanonicalJson {
        let writer = ObjectWriter::new().string("name", self.dialect.as_str());
        let writer = match self.peer_uid {
            Some(uid) => writer.integer("peerUid", u64::from(uid)),
            None => writer,
        };
        writer.string_if("ts", self.signed_ts.map(|ts| ts.to_string()).as_deref()).finish()
    }
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
    /// The key that signs the same digest beside it; both or neither is released.
    pub co_signer: Option<CoSigner>,
    /// How it was asked for; `None`: by the native API, by nobody behind an agent.
    pub asked: Option<Asked>,
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
        let payload = self.write_middle(writer, None, None).string("signer_kid", parts.signer_kid.as_str());
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
        let co_signer = match record.co_signer {
            Some(record) => Some(CoSigner {
                kid: record.kid.parse().ok()?,
                signer_kid: record.signer_kid.parse().ok()?,
                algorithm: record.algorithm.parse().ok()?,
            }),
            None => None,
        };
        Some(Self(IntentParts {
            co_signer,
            asked: match record.dialect {
                Some(record) => Some(Asked {
                    dialect: record.name.parse().ok()?,
                    peer_uid: record.peer_uid,
                    signed_ts: record.ts.map(|text| text.parse()).transpose().ok()?,
                }),
                None => None,
            },
            kid: record.kid.parse().ok()?,
            signer_kid: record.signer_kid.parse().ok()?,
            algorithm: record.algorithm.parse().ok()?,
            operation: Operation::parse(&record.operation)?,
            digest: Digest::recorded(&record.digest_algorithm, &record.digest)?,
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

    /// Members from `coSigner` to `requestSha256`, shared by the intent and every outcome.
    fn write_middle(
        &self,
        writer: ObjectWriter,
        failure: Option<(&FailureCode, KeyUse)>,
        co_signature: Option<&str>,
    ) -> ObjectWriter {
        let parts = &self.0;
        let policy = parts.policy.to_json();
        let replay = parts.replay.as_ref();
        let co_signer = parts.co_signer.as_ref().map(|co_signer| {
            ObjectWriter::new()
                .string("algorithm", co_signer.algorithm.as_str())
                .string("kid", co_signer.kid.as_str())
                .string_if("signature", co_signature)
                .string("signer_kid", co_signer.signer_kid.as_str())
                .finish()
        });
        writer
            .json_if("coSigner", co_signer.as_ref())
            .string_if("code", failure.map(|(code, _)| code.as_str()))
            .json_if("dialect", parts.asked.as_ref().map(Asked::to_json).as_ref())
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
    co_signer: Option<CoSignerRecord>,
    dialect: Option<AskedRecord>,
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
struct CoSignerRecord {
    algorithm: String,
    kid: String,
    signer_kid: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AskedRecord {
    name: String,
    peer_uid: Option<u32>,
    ts: Option<String>,
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
    /// The device signed and the signature verified; so did the co-signer's, if there is one.
    Signed(SignatureBytes, Option<SignatureBytes>),
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
    /// A verified signature, and the co-signer's exactly if the intent names one.
    pub const fn signed(
        intent: Intent,
        signature: SignatureBytes,
        co_signature: Option<SignatureBytes>,
    ) -> Self {
        Self { intent, result: OutcomeResult::Signed(signature, co_signature) }
    }

    /// A failure; nothing was released.
    pub const fn failed(intent: Intent, code: FailureCode, key_use: KeyUse) -> Self {
        Self { intent, result: OutcomeResult::Failed(code, key_use) }
    }

    /// The same, but a signature stays here for ever: what was made after somebody pulled the kill switch.
    #[must_use]
    pub fn withheld(self, code: FailureCode) -> Self {
        match self.result {
            OutcomeResult::Signed(..) => Self::failed(self.intent, code, KeyUse::Unknown),
            _ => self,
        }
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
        let text = |signature: &SignatureBytes| encode_base64(&signature.0);
        let (event_type, failure, signature, co_signature) = match &self.result {
            OutcomeResult::Signed(signature, co_signature) => {
                (event_type::ISSUED, None, Some(text(signature)), co_signature.as_ref().map(text))
            }
            OutcomeResult::Failed(code, key_use) => (event_type::FAILED, Some((code, *key_use)), None, None),
            OutcomeResult::Abandoned => {
                (event_type::ABANDONED, Some((&abandoned, KeyUse::Unknown)), None, None)
            }
        };
        let writer = ObjectWriter::new().string("algorithm", parts.algorithm.as_str());
        let payload = self
            .intent
            .write_middle(writer, failure, co_signature.as_deref())
            .string_if("signature", signature.as_deref())
            .string("signer_kid", parts.signer_kid.as_str())
            .finish();
        draft(event_type, parts.principal.clone(), parts.stream.clone(), payload)
    }
}

/// A digest whose signature is its receipt, as admission allowed it.
#[derive(Debug, Clone)]
pub struct AnchoredParts {
    /// The key's logical name, in whose name it was allowed. The key itself is not used.
    pub kid: Kid,
    /// What is anchored.
    pub digest: Digest,
    /// Who asked.
    pub principal: PrincipalName,
    /// Correlation with logs.
    pub request_id: RequestId,
    /// Chain it joins.
    pub stream: StreamName,
    /// What the caller says it is for.
    pub purpose: Option<Purpose>,
    /// The caller's context, an object; recorded.
    pub metadata: Option<CanonicalJson>,
    /// Why it was allowed.
    pub policy: PolicyRef,
}

/// A digest joins the ledger; the checkpoint that covers it, signed by the ledger key, is its signature.
pub fn digest_anchored(parts: AnchoredParts) -> EventDraft {
    let payload = ObjectWriter::new()
        .string("digest", &parts.digest.to_hex())
        .string("digestAlgorithm", parts.digest.algorithm())
        .string("kid", parts.kid.as_str())
        .json_if("metadata", parts.metadata.as_ref())
        .json("policy", &parts.policy.to_json())
        .string_if("purpose", parts.purpose.as_ref().map(Purpose::as_str))
        .string("requestId", parts.request_id.as_str());
    draft(event_type::ANCHORED, parts.principal, parts.stream, payload.finish())
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

/// The root of all heads below a checkpoint's size.
pub fn heads_enrolled(heads: &EnrolledHeads) -> EventDraft {
    let payload = ObjectWriter::new()
        .integer("names", heads.names)
        .string("root", &heads.root.to_hex())
        .integer("size", heads.size.0);
    appliance(event_type::HEADS, payload.finish())
}

/// What is recorded of a key when it is registered.
#[derive(Debug, Clone)]
pub struct Activation<'a> {
    /// The key's logical name.
    pub kid: &'a Kid,
    /// The key pair.
    pub signer_kid: &'a Kid,
    /// What the key does.
    pub algorithm: SignatureAlgorithm,
    /// `None` for MAC keys.
    pub public_key_pem: Option<&'a str>,
    /// What the operator says it is for.
    pub purpose: &'a str,
    /// Where it comes from.
    pub birth: BirthRecord,
    /// Who asked for it to be registered, if the operator said.
    pub requested_by: Option<&'a str>,
}

/// What the device that holds a key said of its birth.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BirthRecord {
    /// `generated`, `imported` or `unknown`.
    pub origin: &'static str,
    /// Kind of device or service.
    pub device: Option<String>,
    /// The device's serial number, or the key's full name in a service.
    pub serial: Option<String>,
    /// Attestation certificates, DER, the key's own first.
    pub attestation: Vec<Vec<u8>>,
    /// Whether their chain ends in a root the operator configured.
    pub attestation_anchored: bool,
}

impl BirthRecord {
    fn to_json(&self) -> CanonicalJson {
        let attestation = self.attestation.iter().map(|der| encode_base64(der)).collect::<Vec<_>>();
        let writer = match attestation.is_empty() {
            true => ObjectWriter::new(),
            false => ObjectWriter::new()
                .strings("attestation", &attestation)
                .boolean("attestationAnchored", self.attestation_anchored),
        };
        writer
            .string_if("device", self.device.as_deref())
            .string("origin", if self.origin.is_empty() { "unknown" } else { self.origin })
            .string_if("serial", self.serial.as_deref())
            .finish()
    }
}

/// A key may sign from here on.
pub fn signer_activated(activation: &Activation<'_>) -> EventDraft {
    let payload = ObjectWriter::new()
        .string("algorithm", activation.algorithm.as_str())
        .json("birth", &activation.birth.to_json())
        .string("kid", activation.kid.as_str())
        .string_if("public_key_pem", activation.public_key_pem)
        .string("purpose", activation.purpose)
        .string_if("requestedBy", activation.requested_by)
        .string("signer_kid", activation.signer_kid.as_str());
    appliance(event_type::ACTIVATED, payload.finish())
}

/// A key may no longer sign.
pub fn signer_retired(signer_kid: &Kid) -> EventDraft {
    appliance(event_type::RETIRED, ObjectWriter::new().string("signer_kid", signer_kid.as_str()).finish())
}

/// What a device recorded, and how that stands against the ledger: canonical JSON, see FORMAT.md §5.
pub fn operations_recorded(payload: CanonicalJson) -> EventDraft {
    appliance(event_type::OPERATIONS, payload)
}

/// `count` operations of a key without an entry.
pub fn operations_surplus(backend: &str, serial: &str, signer_kid: &str, count: u64) -> EventDraft {
    let payload = ObjectWriter::new()
        .string("backend", backend)
        .integer("count", count)
        .string("serial", serial)
        .string("signer_kid", signer_kid);
    appliance(event_type::SURPLUS, payload.finish())
}

/// A MAC key is about to be used to check a MAC: nothing but yes or no comes of it, but its device records it.
#[derive(Debug, Clone)]
pub struct CheckingParts {
    /// The key's logical name.
    pub kid: Kid,
    /// The key pair.
    pub signer_kid: Kid,
    /// What the key does.
    pub algorithm: SignatureAlgorithm,
    /// SHA-256 of the message.
    pub digest: Digest,
    /// Who asked.
    pub principal: PrincipalName,
    /// Correlation with logs.
    pub request_id: RequestId,
    /// Chain it joins.
    pub stream: StreamName,
    /// Why it was allowed.
    pub policy: PolicyRef,
}

/// Enrolled before the key is used.
pub fn mac_checking(parts: CheckingParts) -> EventDraft {
    let payload = ObjectWriter::new()
        .string("algorithm", parts.algorithm.as_str())
        .string("digest", &parts.digest.to_hex())
        .string("digestAlgorithm", parts.digest.algorithm())
        .string("kid", parts.kid.as_str())
        .json("policy", &parts.policy.to_json())
        .string("requestId", parts.request_id.as_str())
        .string("signer_kid", parts.signer_kid.as_str());
    draft(event_type::CHECKING, parts.principal, parts.stream, payload.finish())
}

/// A version of `signers.json` was published.
pub fn registry_published(version: u64, sha256: &Hash) -> EventDraft {
    let payload = ObjectWriter::new().string("sha256", &sha256.to_hex()).integer("version", version);
    appliance(event_type::REGISTRY, payload.finish())
}

/// Objects that the archive lacked were shipped again: canonical JSON, see FORMAT.md §5.
pub fn archive_reshipped(payload: CanonicalJson) -> EventDraft {
    appliance(event_type::RESHIPPED, payload)
}

/// What an external policy service said of one key use: canonical JSON, see FORMAT.md §5.
pub fn policy_verdict(payload: CanonicalJson) -> EventDraft {
    appliance(event_type::VERDICT, payload)
}

/// Grants were loaded.
pub fn policy_loaded(sha256: &Hash) -> EventDraft {
    appliance(event_type::POLICY, ObjectWriter::new().string("sha256", &sha256.to_hex()).finish())
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
            co_signer: replay.then(|| CoSigner {
                kid: "orders-pq".parse().unwrap(),
                signer_kid: "orders-pq-v1".parse().unwrap(),
                algorithm: SignatureAlgorithm::MlDsa65,
            }),
            asked: replay.then(|| Asked {
                dialect: DialectName::known("kernel"),
                peer_uid: Some(1_000),
                signed_ts: Some(Timestamp::from_unix_ms(1).unwrap()),
            }),
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
                Outcome::signed(
                    intent(true),
                    SignatureBytes::new(vec![1; 64]),
                    Some(SignatureBytes::new(vec![2; 64])),
                ),
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
    fn an_event_stands_where_its_type_belongs() {
        for (event_type, actor, stream, fine) in [
            (event_type::ISSUED, "svc", "svc", true),
            (event_type::ISSUED, "chancery", "svc", false),
            (event_type::ISSUED, "svc", "chancery", false),
            (event_type::ISSUED, "svc", "chancery/governance", false),
            (event_type::OPENED, "chancery", "chancery", true),
            (event_type::OPENED, "svc", "svc", false),
            (event_type::OPENED, "chancery", "chancery/governance", false),
            ("kill_switch.changed", "chancery", "chancery/governance", true),
            ("order.paid", "svc", "orders", true),
            ("order.paid", "svc", "chancery", false),
        ] {
            let event = AuditEvent {
                actor,
                chain: None,
                event_type,
                hash: Hash([0; 32]),
                id: "x",
                manifest_signature_id: None,
                metadata: None,
                payload: "{}",
                prev_hash: None,
                seq: 0,
                signer_kid: "ledger-v1",
                stream,
                ts: Timestamp::from_unix_ms(0).unwrap(),
            };
            assert_eq!(event.is_in_place(), fine, "{event_type} {actor} {stream}");
        }
    }

    #[test]
    fn an_unreleased_signature_does_not_show() {
        let outcome = Outcome::signed(intent(false), SignatureBytes::new(vec![0xAB; 64]), None);
        assert!(format!("{outcome:?}").contains("unreleased"));
    }
}
