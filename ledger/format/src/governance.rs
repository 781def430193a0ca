//! Acts of people on the ledger: who may approve, what was asked for, who approved it, what was done.
//!
//! Every such act is an event of the appliance on the stream [`STREAM`], so that their order is a chain of its
//! own and [`State`] is a fold over it. The daemon enrols nothing that [`State::apply`] refuses, and the
//! verifier applies the same rules to what it reads: an act without its quorum is found by both. People are
//! named in the payload (`by`); the events' actor is the appliance, which checked who they are.

mod act;
mod approval;
mod state;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use act::{Act, Scope, ScopeError};
pub use approval::{ApprovalError, Approver, ApproverKey, Verdict, statement};
pub use state::{Fault, Halt, Proposal, ProposalStatus, Rotation, RotationStep, State};

use crate::algorithm::SignatureAlgorithm;
use crate::canonical::CanonicalJson;
use crate::event::EventDraft;
use crate::names::{EventType, Kid, Origin, PrincipalName, StreamName};
use crate::note::{Note, NoteVerifier};
use crate::public_key::PublicKey;
use crate::timestamp::Timestamp;

/// The stream these events stand in. Only the appliance writes it.
pub const STREAM: &str = "chancery/governance";

/// Approvers of one appliance; a roster is read by people.
pub const APPROVERS_MAX: usize = 64;

/// Characters of a reason or note: a paragraph.
pub const REASON_CHARS_MAX: usize = 1_000;

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident($payload:ident) $text:literal,)*) => {
        /// One act of governance.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Event { $($(#[$doc])* $name($payload),)* }

        impl Event {
            /// Every event type of the fold.
            pub const TYPES: &'static [&'static str] = &[$($text,)*];

            /// The event's type in leaves.
            pub const fn event_type(&self) -> &'static str {
                match self { $(Self::$name(_) => $text,)* }
            }

            /// Reads a leaf's payload; `None` if the type is not one of these.
            pub fn read(event_type: &str, payload: &str) -> Option<Result<Self, serde_json::Error>> {
                match event_type {
                    $($text => Some(serde_json::from_str(payload).map(Self::$name)),)*
                    _ => None,
                }
            }

            fn json(&self) -> Result<Vec<u8>, serde_json::Error> {
                match self { $(Self::$name(payload) => serde_json::to_vec(payload),)* }
            }
        }
    };
}

events! {
    /// Who may approve, and how many must.
    Configured(Configured) "governance.configured",
    /// Somebody asks for an act that needs a quorum.
    Requested(Requested) "governance.requested",
    /// An approver says yes.
    Given(Given) "governance.approved",
    /// An approver says no.
    Refused(Given) "governance.refused",
    /// Its time ran out.
    Expired(Closed) "governance.expired",
    /// The quorum is complete; the act follows.
    Executed(Executed) "governance.executed",
    /// A signature that was asked for stands where this says.
    Done(Done) "governance.done",
    /// The kill switch was pulled or reset for a scope.
    KillSwitch(KillSwitchChanged) "kill_switch.changed",
    /// A key is to be replaced by another.
    RotationRequested(RotationRequested) "signer.rotation.requested",
    /// The new key is about to be used for the first time, to try it.
    Testing(Testing) "signer.testing",
    /// The new key made a signature that verifies. Nobody asked for that signature.
    Tested(Tested) "signer.tested",
    /// The ledger's own key and the one to come say together that the one follows the other.
    Continued(Continued) "ledger.key.continued",
    /// From here on the new key answers to the name.
    RotationApplied(RotationApplied) "signer.rotation.applied",
    /// A key is in somebody else's hands.
    Compromised(Compromised) "signer.compromise",
    /// The whole ledger was verified again.
    Reverified(Reverified) "ledger.reverified",
}

impl Event {
    /// The leaf's draft.
    pub fn draft(&self) -> EventDraft {
        let json = self.json().expect("payloads hold text, numbers and lists of them");
        EventDraft {
            event_type: EventType::known(self.event_type()),
            actor: PrincipalName::appliance(),
            stream: StreamName::governance(),
            payload: CanonicalJson::parse(&json).expect("JSON written here is JSON"),
            id: None,
            ts: None,
            manifest_signature_id: None,
            metadata: None,
        }
    }
}

/// `governance.configured`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Configured {
    /// Approvals an act needs, of people other than who asked.
    pub approvals_required: u32,
    /// Hours a request stays open.
    pub approval_hours: u32,
    /// Hours an emergency's request stays open.
    pub emergency_hours: u32,
    /// Who may approve; at most [`APPROVERS_MAX`].
    pub approvers: Vec<Approver>,
}

/// `governance.requested`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Requested {
    /// Names the request for ever.
    pub id: String,
    /// What is to be done.
    pub act: Act,
    /// SHA-256 of the act's canonical JSON, lower-case hex: what approvers approve.
    pub act_sha256: String,
    /// Who asked: a person or a service.
    pub by: String,
    /// Why, in their words.
    pub reason: String,
    /// Approvals needed.
    pub required: u32,
    /// No approval counts at or after this time.
    pub expires_ts: Timestamp,
    /// Whether it is an emergency, which expires sooner.
    pub emergency: bool,
}

/// `governance.approved`, `governance.refused`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Given {
    /// The request.
    pub id: String,
    /// What the approver saw.
    pub act_sha256: String,
    /// The approver.
    pub by: String,
    /// Base64 of the approver's signature over [`statement`]; absent for approvers without a registered key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// A note for the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// `governance.expired`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Closed {
    /// The request.
    pub id: String,
}

/// `governance.executed`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Executed {
    /// The request.
    pub id: String,
    /// What is done.
    pub act_sha256: String,
    /// Indices of the approvals that count.
    pub approvals: Vec<u64>,
}

/// `governance.done`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Done {
    /// The request.
    pub id: String,
    /// Where its outcome stands.
    pub index: u64,
}

/// Name of the rule under which a signature that approvers allowed is enrolled.
pub fn rule_of(id: &str) -> String {
    format!("approval/{id}")
}

/// `kill_switch.changed`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KillSwitchChanged {
    /// What is halted or goes on.
    pub scope: Scope,
    /// `halted` or `running`.
    pub state: HaltState,
    /// `environment`, `file`, `unreadable-file`, `admin` or `compromise`.
    pub source: String,
    /// Who, if a person did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why, in their words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The executed request that allows resuming.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<String>,
}

/// Whether a scope may sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HaltState {
    /// It may not.
    Halted,
    /// It may.
    Running,
}

/// `signer.rotation.requested`: the new key is published as staged with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RotationRequested {
    /// Names the rotation for ever.
    pub id: String,
    /// The name whose key changes.
    pub kid: Kid,
    /// The key pair in use.
    pub from: Kid,
    /// The key pair to come.
    pub to: Kid,
    /// What the new key does.
    pub algorithm: SignatureAlgorithm,
    /// Its public half; absent for a MAC key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_key_pem: Option<String>,
    /// The backend that holds it.
    pub backend: String,
    /// What its backend calls it.
    pub label: String,
    /// How long the old key stays published as deprecated after the switch.
    pub overlap_hours: u32,
    /// Who asked.
    pub by: String,
    /// Why, in their words.
    pub reason: String,
    /// The executed request that allows it; absent where no quorum is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<String>,
}

/// `signer.testing`: enrolled before each try, so that the device's own record finds its entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Testing {
    /// The rotation.
    pub rotation: String,
    /// The key pair.
    #[serde(rename = "signer_kid")]
    pub signer_kid: Kid,
    /// What it does.
    pub algorithm: SignatureAlgorithm,
}

/// `signer.tested`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tested {
    /// The rotation.
    pub rotation: String,
    /// The key pair.
    #[serde(rename = "signer_kid")]
    pub signer_kid: Kid,
    /// SHA-256 (or what the algorithm takes) of the test's text, lower-case hex; the text is in FORMAT.md.
    pub digest: String,
    /// Base64; absent for a MAC key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

/// `ledger.key.continued`: in the rotation of the key that signs checkpoints, before it is applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Continued {
    /// The rotation.
    pub rotation: String,
    /// Signed note over [`continuity_text`], by both keys under the ledger's origin.
    pub note: String,
}

/// What both keys of a ledger sign when one follows the other; the last two lines are their verifier keys.
pub fn continuity_text(
    origin: &Origin,
    requested: &RotationRequested,
    old: &NoteVerifier,
    new: &NoteVerifier,
) -> String {
    let RotationRequested { id, from, to, .. } = requested;
    let (origin, from, to) = (origin.as_str(), from.as_str(), to.as_str());
    format!("chancery-ledger-key/v1\n{origin}\n{id}\n{from}\n{to}\n{}\n{}\n", old.vkey(), new.vkey())
}

/// The two keys that a continuity note names, if it is one for this rotation and both signed it.
pub fn continuity_keys(
    origin: &Origin,
    requested: &RotationRequested,
    note: &str,
) -> Option<(NoteVerifier, NoteVerifier)> {
    let parsed = Note::parse(note).ok()?;
    let mut lines = parsed.text.lines().skip(5);
    let (old, new) = (NoteVerifier::parse(lines.next()?).ok()?, NoteVerifier::parse(lines.next()?).ok()?);
    let is_ours = [&old, &new].into_iter().all(|key| key.name() == origin.as_str());
    let raw =
        PublicKey::from_pem(requested.algorithm, requested.public_key_pem.as_ref()?).ok()?.ed25519_raw();
    let fits = parsed.text == continuity_text(origin, requested, &old, &new) && raw == Some(new.public_key());
    let signed = |key: &NoteVerifier| parsed.verify(std::slice::from_ref(key)).is_ok();
    (is_ours && fits && signed(&old) && signed(&new)).then_some((old, new))
}

/// `signer.rotation.applied`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RotationApplied {
    /// The rotation.
    pub rotation: String,
    /// The name whose key changed.
    pub kid: Kid,
    /// The key pair before.
    pub from: Kid,
    /// The key pair from here on.
    pub to: Kid,
    /// Index of the old key's signature over the hand-over ([`hand_over_text`]); absent if it could not sign:
    /// compromised, halted, gone, a MAC key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hand_over: Option<u64>,
    /// When the old key is to be retired.
    pub retire_ts: Timestamp,
}

/// What the new key signs to show that it works: its SHA-256 (or the digest its algorithm takes) is in
/// `signer.tested`.
pub fn test_text(origin: &Origin, rotation: &str, signer_kid: &Kid) -> String {
    format!("chancery-key-test/v1\n{}\n{rotation}\n{}\n", origin.as_str(), signer_kid.as_str())
}

/// What the old key signs to hand over its name; the last line is the new public key's SHA-256, or empty.
pub fn hand_over_text(origin: &Origin, requested: &RotationRequested) -> String {
    let key = requested.public_key_pem.as_ref().map(|pem| crate::hash::Hash::of(&[pem.as_bytes()]).to_hex());
    let RotationRequested { id, kid, from, to, .. } = requested;
    let (kid, from, to) = (kid.as_str(), from.as_str(), to.as_str());
    let (origin, key) = (origin.as_str(), key.unwrap_or_default());
    format!("chancery-hand-over/v1\n{origin}\n{id}\n{kid}\n{from}\n{to}\n{key}\n")
}

/// `signer.compromise`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Compromised {
    /// The name callers use.
    pub kid: Kid,
    /// The key pair.
    #[serde(rename = "signer_kid")]
    pub signer_kid: Kid,
    /// Signatures at or after this index are suspect.
    pub since_index: u64,
    /// What the operator gave as the moment, if it was a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_ts: Option<Timestamp>,
    /// Signatures on the ledger at or after the index when this was enrolled.
    pub suspect_signatures: u64,
    /// Who said so.
    pub by: String,
    /// Why, in their words.
    pub reason: String,
}

/// `ledger.reverified`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Reverified {
    /// Leaves read again.
    pub size: u64,
    /// The root they lead to, lower-case hex.
    pub root: String,
    /// Whether it is the root the ledger had.
    pub valid: bool,
    /// Why: the compromise or request that led to it.
    pub cause: String,
}
