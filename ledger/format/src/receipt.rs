//! The proof a client keeps: one leaf, its inclusion proof, and the signed checkpoint above it.
//!
//! A receipt is checked with the signers registry alone, years later, without the ledger.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::canonical::{CanonicalError, CanonicalJson};
use crate::checkpoint::{Checkpoint, CheckpointError, VerifiedCheckpoint};
use crate::committed::{AnchoredPayload, IssuedPayload};
use crate::digest::Digest;
use crate::entry::{Operation, Rung, event_type, is_appliances_type};
use crate::event::{AuditEvent, EventError};
use crate::hash::{Hash, LeafIndex, TreeSize};
use crate::merkle::{self, ProofError};
use crate::names::{EventId, Origin};
use crate::note::Note;
use crate::registry::{RegistryError, SignerRecord, SignersRegistry};
use crate::tlog_proof::TlogProof;

/// Largest receipt read, in bytes: a full leaf, 63 hashes and a checkpoint fit many times.
pub const RECEIPT_BYTES_MAX: usize = 1024 * 1024;

/// A receipt as read or made; nothing is proven until [`Receipt::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    leaf: Vec<u8>,
    index: LeafIndex,
    proof: Vec<Hash>,
    size: TreeSize,
    checkpoint: String,
    rung: Rung,
}

#[derive(Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ReceiptJson {
    version: u64,
    event: Box<RawValue>,
    index: u64,
    tree_size: u64,
    inclusion_proof: Vec<String>,
    checkpoint: String,
    rung: String,
}

/// Why a receipt was refused.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    /// Larger than [`RECEIPT_BYTES_MAX`].
    #[error("receipt is larger than 1 MiB")]
    TooLarge,
    /// Not JSON of this shape, or of another version.
    #[error("receipt is not valid: {0}")]
    Shape(String),
    /// The event in it is not JSON all readers agree on.
    #[error("receipt's event: {0}")]
    Canonical(#[from] CanonicalError),
    /// The event in it is not one, or was altered.
    #[error("receipt's event: {0}")]
    Event(#[from] EventError),
    /// The checkpoint is not signed by the ledger the registry names.
    #[error("receipt's checkpoint: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The proof does not lead from the event to the checkpoint's root.
    #[error("receipt's inclusion proof: {0}")]
    Proof(#[from] ProofError),
    /// `treeSize` is not the checkpoint's.
    #[error("receipt's treeSize differs from its checkpoint's")]
    TreeSize,
    /// The registry itself is not usable.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The signature's key is not in the registry.
    #[error("signer {0} is not in the registry")]
    UnknownSigner(String),
    /// The key was not active at this index.
    #[error("signer {0} was not active at this index")]
    SignerNotActive(String),
    /// The event is of a kind, stream, actor or id that the ledger never writes together.
    #[error("an event {0} does not stand like this on any ledger")]
    Place(String),
    /// The message given is not the one whose digest was recorded.
    #[error("the message is not the one that was signed")]
    Message,
    /// The individual signature does not verify.
    #[error("signature of {0} does not verify")]
    Signature(String),
}

/// What a verified receipt proves.
#[derive(Debug)]
pub struct VerifiedReceipt<'a> {
    /// The event, unaltered since it was enrolled.
    pub event: AuditEvent<'a>,
    /// Its position.
    pub index: LeafIndex,
    /// The checkpoint it is under.
    pub checkpoint: VerifiedCheckpoint,
    /// The keys whose individual signatures were verified: none, one, or with a co-signer two.
    pub verified_signers: Vec<&'a str>,
    /// Whether this receipt itself is a signature: the event anchors a digest.
    pub anchors: Option<AnchoredPayload<'a>>,
}

impl Receipt {
    /// Puts a receipt together. `proof` leads from the leaf to the checkpoint's root.
    pub fn new(
        leaf: Vec<u8>,
        index: LeafIndex,
        proof: Vec<Hash>,
        checkpoint: &VerifiedCheckpoint,
        rung: Rung,
    ) -> Self {
        let size = checkpoint.head().size;
        Self { leaf, index, proof, size, checkpoint: checkpoint.note().to_owned(), rung }
    }

    /// Reads the JSON form. The event may be indented or reordered: its canonical form is the leaf.
    pub fn parse(json: &[u8]) -> Result<Self, ReceiptError> {
        if json.len() > RECEIPT_BYTES_MAX {
            return Err(ReceiptError::TooLarge);
        }
        let shape = |reason: String| ReceiptError::Shape(reason);
        let parsed: ReceiptJson = serde_json::from_slice(json).map_err(|error| shape(error.to_string()))?;
        if parsed.version != 1 {
            return Err(shape(format!("version {} is not known", parsed.version)));
        }
        let proof = parsed.inclusion_proof.iter().map(|hash| Hash::from_hex(hash)).collect::<Result<_, _>>();
        Ok(Self {
            leaf: CanonicalJson::parse_around(parsed.event.get().as_bytes())?.as_bytes().to_vec(),
            index: LeafIndex(parsed.index),
            proof: proof.map_err(|error| shape(format!("inclusionProof: {error}")))?,
            size: TreeSize(parsed.tree_size),
            checkpoint: parsed.checkpoint,
            rung: Rung::parse(&parsed.rung).ok_or_else(|| shape("unknown rung".into()))?,
        })
    }

    /// The JSON form on one line.
    pub fn to_json(&self) -> Result<String, ReceiptError> {
        let shape = |error: serde_json::Error| ReceiptError::Shape(error.to_string());
        let event = String::from_utf8_lossy(&self.leaf).into_owned();
        serde_json::to_string(&ReceiptJson {
            version: 1,
            event: RawValue::from_string(event).map_err(shape)?,
            index: self.index.0,
            tree_size: self.size.0,
            inclusion_proof: self.proof.iter().map(Hash::to_hex).collect(),
            checkpoint: self.checkpoint.clone(),
            rung: self.rung.as_str().into(),
        })
        .map_err(shape)
    }

    /// The C2SP `tlog-proof` form: index, proof and checkpoint; the entry travels separately.
    pub fn to_tlog_proof(&self) -> String {
        TlogProof::unchecked(self.index, self.proof.clone(), self.checkpoint.clone()).to_string()
    }

    /// From the C2SP `tlog-proof` form and the leaf, of which no more is said than that a checkpoint covers it.
    pub fn from_tlog_proof(leaf: Vec<u8>, proof: &TlogProof) -> Result<Self, ReceiptError> {
        let text = Note::parse(proof.note()).map_err(CheckpointError::from)?.text;
        let size = Checkpoint::parse(text).ok_or(CheckpointError::Malformed)?.head().size;
        let (index, path, checkpoint) = (proof.index(), proof.proof().to_vec(), proof.note().to_owned());
        Ok(Self { leaf, index, proof: path, size, checkpoint, rung: Rung::Checkpointed })
    }

    /// From the leaf's sibling to the root's child.
    pub fn proof(&self) -> &[Hash] {
        &self.proof
    }

    /// The checkpoint's note.
    pub fn checkpoint(&self) -> &str {
        &self.checkpoint
    }

    /// The leaf's bytes.
    pub fn leaf(&self) -> &[u8] {
        &self.leaf
    }

    /// Position in the ledger, as claimed.
    pub const fn index(&self) -> LeafIndex {
        self.index
    }

    /// Checks everything: checkpoint signature, inclusion, the event's own hash, and, if the event is
    /// an issued signature, that signature and its key's state at the index. A signature over a message cannot be
    /// checked without it: see [`Receipt::verify_with`].
    pub fn verify<'a>(&'a self, registry: &SignersRegistry) -> Result<VerifiedReceipt<'a>, ReceiptError> {
        self.verify_with(registry, None)
    }

    /// [`Receipt::verify`], with the message that was signed or hashed: it must be the one whose digest was recorded.
    pub fn verify_with<'a>(
        &'a self,
        registry: &SignersRegistry,
        message: Option<&[u8]>,
    ) -> Result<VerifiedReceipt<'a>, ReceiptError> {
        let checkpoint = registry.ledger_keys()?.verify_standing(&self.checkpoint)?;
        if checkpoint.head().size != self.size {
            return Err(ReceiptError::TreeSize);
        }
        let leaf_hash = merkle::leaf_hash(&self.leaf);
        merkle::verify_inclusion(&leaf_hash, self.index, &self.proof, &checkpoint.head())?;
        let event = AuditEvent::parse(&self.leaf)?;
        check_place(&event, self.index, &registry.ledger.origin)?;
        let (mut verified_signers, mut anchors) = (Vec::new(), None);
        match event.event_type {
            event_type::ISSUED => {
                verified_signers = verify_issued(event.payload, self.index, registry, message)?;
            }
            event_type::ANCHORED => anchors = Some(read_anchored(event.payload, registry)?),
            _ => {}
        }
        Ok(VerifiedReceipt { event, index: self.index, checkpoint, verified_signers, anchors })
    }
}

/// What only a forger with the ledger key could have: an event of the appliance's in somebody else's name or stream, a
/// signature in the appliance's, an id that is another entry's.
pub(crate) fn check_place(
    event: &AuditEvent<'_>,
    index: LeafIndex,
    origin: &Origin,
) -> Result<(), ReceiptError> {
    let [a, b, c, d, e, f, ..] = Hash::of(&[origin.as_str().as_bytes()]).0;
    let named = event.id.parse::<EventId>().ok().and_then(|id| id.index([a, b, c, d, e, f]));
    let own_id = named.map_or(!is_appliances_type(event.event_type), |named| named == index);
    let opens = (event.event_type == event_type::OPENED) == (index.0 == 0);
    if event.is_in_place() && own_id && opens {
        Ok(())
    } else {
        Err(ReceiptError::Place(event.event_type.to_owned()))
    }
}

/// A digest is anchored in the name of a key that the registry knows.
fn read_anchored<'a>(
    payload: &'a str,
    registry: &SignersRegistry,
) -> Result<AnchoredPayload<'a>, ReceiptError> {
    let bad = || ReceiptError::Shape("payload of signing.signature.anchored".into());
    let payload = AnchoredPayload::parse(payload).ok_or_else(bad)?;
    Digest::parse(payload.digest_algorithm, payload.digest).map_err(|_| bad())?;
    let names = |signer: &SignerRecord| signer.kid.as_ref().is_some_and(|kid| kid.as_str() == payload.kid);
    match registry.signers.iter().any(names) {
        true => Ok(payload),
        false => Err(ReceiptError::UnknownSigner(payload.kid.to_owned())),
    }
}

/// The signers whose signatures verified; none for a MAC, which outsiders cannot verify.
pub(crate) fn verify_issued<'a>(
    payload: &'a str,
    index: LeafIndex,
    registry: &SignersRegistry,
    message: Option<&[u8]>,
) -> Result<Vec<&'a str>, ReceiptError> {
    let bad = || ReceiptError::Shape("payload of signing.signature.issued".into());
    let payload = IssuedPayload::parse(payload).ok_or_else(bad)?;
    let digest = Digest::recorded(payload.digest_algorithm, payload.digest).ok_or_else(bad)?;
    // What µ was made of shows when the signature is checked over the message.
    let of_it = |message| digest.hash().is_none_or(|hash| Digest::of(hash, message) == digest);
    if !message.is_none_or(of_it) {
        return Err(ReceiptError::Message);
    }
    let operation = Operation::parse(payload.operation).ok_or_else(bad)?;
    let signature = payload.signature_bytes().ok_or_else(bad)?;
    let mut uses = vec![(payload.kid, payload.signer_kid, payload.algorithm, signature)];
    if let Some(second) = &payload.co_signer {
        let signature = second.signature_bytes().ok_or_else(bad)?;
        uses.push((second.kid, second.signer_kid, second.algorithm, signature));
    }
    let mut verified = Vec::with_capacity(uses.len());
    for (kid, name, algorithm, signature) in uses {
        let signer = registry.signer(name).ok_or_else(|| ReceiptError::UnknownSigner(name.to_owned()))?;
        let named = signer.kid.as_ref().is_none_or(|known| known.as_str() == kid);
        if signer.algorithm.as_str() != algorithm
            || !operation.is_recorded_of(signer.algorithm, &digest)
            || !named
        {
            return Err(ReceiptError::Signature(name.to_owned()));
        }
        if !signer.valid_at(index) {
            return Err(ReceiptError::SignerNotActive(name.to_owned()));
        }
        let Some(key) = signer.public_key()? else { continue };
        let holds = match (operation, message) {
            (Operation::SignMessage, None) => continue,
            (Operation::SignMessage, Some(message)) => key.verify_message(message, &signature),
            (_, Some(message)) if digest.hash().is_none() => {
                key.verify(&digest, &signature) && key.verify_message(message, &signature)
            }
            _ => key.verify(&digest, &signature),
        };
        if !holds {
            return Err(ReceiptError::Signature(name.to_owned()));
        }
        verified.push(name);
    }
    Ok(verified)
}
