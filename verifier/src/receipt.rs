//! One receipt, verified with the registry alone.

#![expect(
    clippy::indexing_slicing,
    reason = "serde_json's objects insert what is assigned to a missing member"
)]

use chancery_format::committed::IssuedPayload;
use chancery_format::entry::Operation;
use chancery_format::policy::{Policy, PolicyRefusal};
use chancery_format::receipt::{ReceiptError, VerifiedReceipt};
use chancery_format::{AuditEvent, Receipt};
use serde_json::{Value, json};

use crate::findings::{Finding, Findings, Kind};
use crate::ledger::verify_head;
use crate::report::{Report, head_json};
use crate::trust::Trust;

/// Verifies a receipt's JSON form. `message` is what was signed, if it is at hand: a signature over a message itself
/// can be verified with it alone. `policy`, if given, says which witnesses must have cosigned the checkpoint.
pub fn verify(json: &[u8], message: Option<&[u8]>, policy: Option<&Policy>, trust: &Trust) -> Report {
    let mut findings = Findings::default();
    let (checked, text) = match check(json, message, policy, trust) {
        Ok(told) => told,
        Err(finding) => {
            findings.push(finding);
            (json!({ "entries": 0, "signatures": 0 }), String::new())
        }
    };
    Report::of(findings, checked, text)
}

fn check(
    json: &[u8],
    message: Option<&[u8]>,
    policy: Option<&Policy>,
    trust: &Trust,
) -> Result<(Value, String), Finding> {
    let receipt = Receipt::parse(json).map_err(|error| finding(None, &error))?;
    let index = receipt.index().0;
    let verified =
        receipt.verify_with(trust.registry(), message).map_err(|error| finding(Some(index), &error))?;
    let signed = verify_head(trust, verified.checkpoint.note().as_bytes())?;
    check_ledger_key(&verified.event, index, trust)?;
    let event = &verified.event;
    let mut checked = head_json(signed.head.size.0, &signed.head.root);
    checked["entries"] = 1.into();
    checked["index"] = index.into();
    checked["id"] = event.id.into();
    checked["eventType"] = event.event_type.into();
    checked["signatures"] = verified.verified_signers.len().into();
    if let Some(anchored) = &verified.anchors {
        checked["anchored"] = anchored.digest.into();
    }
    let mut cosigned = String::new();
    if let Some(policy) = policy {
        let refused = |error: PolicyRefusal| Finding::entry(Kind::NotWitnessed, index, error.to_string());
        let judged = policy.judge(verified.checkpoint.clone(), None).map_err(refused)?;
        for (name, cosignature) in judged.counted() {
            let seconds = cosignature.timestamp.seconds();
            cosigned += &format!("cosigned by {name}, at {seconds} s of Unix time\n");
        }
        if policy.needs_no_witness() {
            cosigned += "the policy asks for no witness\n";
        }
        checked["cosignatures"] = judged.counted().len().into();
        judged.into_accepted().map_err(refused)?;
    }
    let text = format!(
        "entry {index}, {} {}, by {} at {}\nis under the checkpoint of {} entries, root {}\n{cosigned}{}",
        event.event_type,
        event.id,
        event.actor,
        event.ts,
        signed.head.size,
        signed.head.root,
        signature_text(&verified)
    );
    Ok((checked, text))
}

/// What a receipt's signature is and whether it verified, for people.
pub(crate) fn signature_text(verified: &VerifiedReceipt<'_>) -> String {
    let event = &verified.event;
    let mut signature: String =
        verified.verified_signers.iter().map(|name| format!("its signature by {name} verifies\n")).collect();
    if let Some(anchored) = &verified.anchors {
        signature = format!(
            "it anchors {} {} in the name of {}: this receipt is its signature, by {}\n",
            anchored.digest_algorithm, anchored.digest, anchored.kid, event.signer_kid
        );
    } else if signature.is_empty() {
        let over_message = IssuedPayload::parse(event.payload)
            .is_some_and(|payload| payload.operation == Operation::SignMessage.as_str());
        let said = match over_message {
            true => "its signature is over the message itself: give it with --message to verify it\n",
            false => "it holds no signature that outsiders can verify\n",
        };
        said.clone_into(&mut signature);
    }
    signature
}

/// The leaf stands under a ledger key of the registry, of which it may tell the retirement.
pub(crate) fn check_ledger_key(event: &AuditEvent<'_>, index: u64, trust: &Trust) -> Result<(), Finding> {
    let name = event.signer_kid;
    let signer = trust.find(name).map(|id| trust.signer(id)).filter(|signer| signer.is_ledger_key);
    let message = match signer {
        None => format!("{name} is not a ledger key of the registry"),
        Some(signer) if signer.record.retired_index.is_some_and(|retired| retired < index) => {
            format!("{name} had been retired before")
        }
        Some(_) => return Ok(()),
    };
    Err(Finding::entry(Kind::LedgerKey, index, message))
}

/// As a finding about the receipt of this entry.
pub(crate) fn finding(index: Option<u64>, error: &ReceiptError) -> Finding {
    let kind = match error {
        ReceiptError::TooLarge | ReceiptError::Shape(_) | ReceiptError::Canonical(_) => Kind::ReceiptInvalid,
        ReceiptError::TreeSize | ReceiptError::Registry(_) => Kind::ReceiptInvalid,
        ReceiptError::Event(_) => Kind::LeafInvalid,
        ReceiptError::Checkpoint(_) => Kind::CheckpointInvalid,
        ReceiptError::Proof(_) => Kind::InclusionInvalid,
        ReceiptError::UnknownSigner(_) => Kind::SignerUnknown,
        ReceiptError::SignerNotActive(_) => Kind::SignerNotActive,
        ReceiptError::Place(_) => Kind::ReservedEvent,
        ReceiptError::Signature(_) | ReceiptError::Message => Kind::SignatureInvalid,
    };
    Finding { index, ..Finding::new(kind, error.to_string()) }
}
