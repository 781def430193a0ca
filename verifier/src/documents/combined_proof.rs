//! Several signers over one digest, as memory-layer combines them.
//!
//! Its own verifier counts a signer as often as it stands there; here each signer counts once, and each key.

use std::collections::BTreeSet;

use super::read::{hash, list_of, number_of, others, text_of};
use super::signatures::{Claim, Keys, SIGNATURE, SIGNER, Signed};
use super::{Document, Refused};
use crate::findings::Kind;
use chancery_format::chain::json::Value;

pub(super) const DIGEST: &[&str] = &["digestHex", "digest_hex"];
const SIGNATURES: &[&str] = &["signatures"];
const THRESHOLD: &[&str] = &["threshold"];
const COUNT: &[&str] = &["okCount"];
const KID: &[&str] = &["kid"];

pub(super) fn check(
    root: &Value<'_>,
    quorum: Option<u64>,
    keys: &Keys<'_>,
    document: &mut Document<'_>,
) -> Result<(), Refused> {
    let digest = text_of(root, DIGEST).and_then(hash);
    let digest = digest.ok_or_else(|| Refused::shape("its digest is no SHA-256 in hexadecimal"))?;
    let signatures = list_of(root, SIGNATURES).ok_or_else(|| Refused::shape("has no signatures"))?;
    let (mut signers, mut used) = (BTreeSet::new(), BTreeSet::new());
    for signature in signatures {
        // The key's name, where it is given beside its holder's.
        let claim = Claim::read(signature, &["ts"]);
        let claim = Claim { signer: text_of(signature, KID).or(claim.signer), ..claim };
        let held =
            keys.check(&claim, document, |key, bytes| Signed::Digest(digest).holds(key, bytes).then_some(()));
        let Some((key, ())) = held else { continue };
        let who = text_of(signature, SIGNER).unwrap_or(&key.name).to_owned();
        document.says.push(format!("signed for {who} by {}", key.name));
        if !signers.insert(who.clone()) || !used.insert(key.name.clone()) {
            document.found(Kind::MemberMismatch, format!("{who} or its key signed twice, which counts once"));
        }
    }
    let count = signers.len().min(used.len()) as u64;
    document.tell("kind", "combined-proof");
    document.tell("digest", digest.to_hex());
    document.tell("signers", count);
    document.says.insert(0, format!("combined proof over {digest}"));
    enough(root, count, quorum, document);
    let mut unbound = others(root, &[DIGEST, SIGNATURES, THRESHOLD, COUNT]);
    if quorum.is_none() {
        unbound.push("threshold".to_owned());
    }
    let more = signatures.iter().flat_map(|it| others(it, &[KID, SIGNATURE]));
    let more: BTreeSet<String> = more.map(|name| format!("signatures[].{name}")).collect();
    unbound.extend(more);
    document.unbound(&unbound);
    Ok(())
}

/// At least as many as must, and as many as it says.
fn enough(root: &Value<'_>, count: u64, quorum: Option<u64>, document: &mut Document<'_>) {
    let wanted = quorum.or_else(|| number_of(root, THRESHOLD)).unwrap_or(1);
    if count < wanted {
        document.found(Kind::QuorumInvalid, format!("signatures of {count} signers hold, and {wanted} must"));
    }
    if let Some(said) = number_of(root, COUNT).filter(|said| *said != count) {
        document
            .found(Kind::MemberMismatch, format!("it counts {said} signatures, and {count} signers' hold"));
    }
}
