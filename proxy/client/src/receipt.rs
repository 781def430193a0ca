//! Checks a receipt on the caller's machine, with the code auditors use, and that it is about the reply
//! the caller got. Nothing here asks the service.

use chancery_format::committed::IssuedPayload;
use chancery_format::cose::{CoseReceipt, CoseReceiptError};
use chancery_format::merkle::leaf_hash;
use chancery_format::receipt::{ReceiptError, VerifiedReceipt};
use chancery_format::registry::RegistryError;
use chancery_format::{LeafIndex, Receipt, SignersRegistry};

use crate::api::SignReply;

/// What a receipt proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedReceipt {
    /// Position on the ledger.
    pub index: LeafIndex,
    /// Number of leaves under the checkpoint.
    pub tree_size: u64,
    /// The ledger's name.
    pub origin: String,
    /// What happened.
    pub event_type: String,
    /// The event's name.
    pub id: String,
    /// The keys whose individual signatures verified; none where the event holds none.
    pub signers: Vec<String>,
    /// Whether the receipt itself is the signature: the event anchors a digest.
    pub is_signature: bool,
}

/// Why a receipt does not prove the reply. The service is at fault or was impersonated: keep both.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptMismatch {
    /// The receipt itself is bad.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    /// The receipt is good, but about something else.
    #[error("the receipt proves another signature: {0} differs")]
    Other(&'static str),
}

/// Checks a receipt against the signers registry: checkpoint signature, inclusion, the event's own hash,
/// the individual signature and its key's state.
pub fn check_receipt(receipt: &[u8], registry: &SignersRegistry) -> Result<CheckedReceipt, ReceiptError> {
    Ok(summary(&Receipt::parse(receipt)?.verify(registry)?))
}

/// As [`check_receipt`], and that the receipt is about exactly this signature.
pub fn check_issued(
    reply: &SignReply,
    receipt: &[u8],
    registry: &SignersRegistry,
) -> Result<CheckedReceipt, ReceiptMismatch> {
    let receipt = Receipt::parse(receipt)?;
    let verified = receipt.verify(registry)?;
    let checked = summary(&verified);
    let mut pairs =
        vec![("index", reply.index() == Some(checked.index)), ("id", reply.id.as_str() == checked.id)];
    if let Some(anchored) = &verified.anchors {
        pairs.extend([
            ("kid", reply.kid.as_str() == anchored.kid),
            ("signer_kid", reply.signer_kid.as_str() == verified.event.signer_kid),
            ("digest", reply.digest == anchored.digest),
            ("signature", reply.signature.is_empty()),
        ]);
    } else {
        let payload = IssuedPayload::parse(verified.event.payload);
        let payload = payload.ok_or(ReceiptMismatch::Other("event type"))?;
        let second = reply.co_signer.as_ref().map(|it| (it.signer_kid.as_str(), it.signature.as_str()));
        let recorded = payload.co_signer.as_ref().map(|it| (it.signer_kid, it.signature.unwrap_or_default()));
        pairs.extend([
            ("kid", reply.kid.as_str() == payload.kid),
            ("signer_kid", reply.signer_kid.as_str() == payload.signer_kid),
            ("algorithm", reply.algorithm == payload.algorithm),
            ("digest", reply.digest == payload.digest),
            ("signature", reply.signature == payload.signature),
            ("coSigner", second == recorded),
        ]);
    }
    match pairs.into_iter().find(|(_, same)| !same) {
        Some((member, _)) => Err(ReceiptMismatch::Other(member)),
        None => Ok(checked),
    }
}

/// Why a COSE receipt does not prove an entry. The service is at fault or was impersonated: keep both.
#[derive(Debug, thiserror::Error)]
pub enum CoseMismatch {
    /// The entry's own receipt is bad.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    /// The COSE receipt is bad, or of another entry than this.
    #[error(transparent)]
    Cose(#[from] CoseReceiptError),
    /// It is of the same entry, and says that it stands elsewhere.
    #[error("COSE receipt is of another index")]
    Index,
    /// The registry's keys cannot be read. Whoever supplied it is at fault.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// Checks a COSE receipt (RFC 9942) with the entry it does not hold itself: the entry by its own receipt, then the proof
/// from it to a head that a ledger key of the registry signed. Tells of that head.
pub fn check_cose(
    cose: &CoseReceipt,
    entry: &Receipt,
    registry: &SignersRegistry,
) -> Result<CheckedReceipt, CoseMismatch> {
    let verified = entry.verify(registry)?;
    let leaf = leaf_hash(entry.leaf());
    let (index, head) = cose.verify_inclusion(&leaf, &registry.ledger.origin, &registry.log_keys()?)?;
    if index != verified.index {
        return Err(CoseMismatch::Index);
    }
    Ok(CheckedReceipt { tree_size: head.size.0, ..summary(&verified) })
}

fn summary(verified: &VerifiedReceipt<'_>) -> CheckedReceipt {
    CheckedReceipt {
        index: verified.index,
        tree_size: verified.checkpoint.head().size.0,
        origin: verified.checkpoint.origin().to_string(),
        event_type: verified.event.event_type.to_owned(),
        id: verified.event.id.to_owned(),
        signers: verified.verified_signers.iter().map(|name| (*name).to_owned()).collect(),
        is_signature: verified.anchors.is_some(),
    }
}
