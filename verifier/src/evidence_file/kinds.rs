//! Errors of a file as findings.

use chancery_format::evidence::EvidenceError;
use chancery_format::receipt::ReceiptError;

use crate::findings::{Finding, Kind};
use crate::receipt::finding;

/// Errors of the signature in the entry, which is looked at last.
pub(super) const fn is_of_signature(error: &ReceiptError) -> bool {
    matches!(
        error,
        ReceiptError::Signature(_)
            | ReceiptError::Message
            | ReceiptError::UnknownSigner(_)
            | ReceiptError::SignerNotActive(_)
    )
}

pub(super) fn as_finding(error: &EvidenceError, index: Option<u64>) -> Finding {
    Finding { index, ..Finding::new(kind_of(error), error.to_string()) }
}

fn kind_of(error: &EvidenceError) -> Kind {
    match error {
        EvidenceError::Receipt(error) => finding(None, error).kind,
        EvidenceError::Registry(_)
        | EvidenceError::RegistryEvent(_)
        | EvidenceError::NotPublished
        | EvidenceError::Conflict(_) => Kind::RegistryMismatch,
        EvidenceError::Checkpoint(_) => Kind::CheckpointInvalid,
        EvidenceError::Inclusion { .. } => Kind::InclusionInvalid,
        EvidenceError::Consistency(_) | EvidenceError::Idle => Kind::ConsistencyInvalid,
        EvidenceError::Fork(_) => Kind::NotConsistent,
        EvidenceError::Refused(_) => Kind::NotWitnessed,
        EvidenceError::Renewal { cause, .. } => kind_of(cause),
        EvidenceError::TooLarge(_)
        | EvidenceError::Shape(_)
        | EvidenceError::Canonical(_)
        | EvidenceError::TlogProof(_)
        | EvidenceError::Cose(_)
        | EvidenceError::CosePlace
        | EvidenceError::Policy(_) => Kind::EvidenceInvalid,
    }
}
