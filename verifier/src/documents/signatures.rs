//! Whose signature it is, over what, and whether the key was in use then.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chancery_format::{Digest, Hash, KeyFamily, PublicKey, SignatureAlgorithm, Timestamp};

use super::Document;
use super::read::{moment, text_of};
use crate::events::signers::{Signer, Signers};
use crate::findings::{Finding, Kind, Weight};
use chancery_format::chain::json::Value;

/// Names of the member that says whose signature it is.
pub(super) const SIGNER: &[&str] =
    &["signer_kid", "signerKid", "signer_id", "signerId", "kid", "keyId", "signer"];
/// Names of the member that holds it.
pub(super) const SIGNATURE: &[&str] = &["signature", "signature_b64", "signatureB64", "sig"];

/// What a key signed, if it signed this.
#[derive(Debug, Clone, Copy)]
pub(super) enum Signed<'m> {
    /// A digest, which RSA and ECDSA do not hash again and Ed25519 takes as its message.
    Digest(Hash),
    /// A digest that was taken for a message, and hashed again.
    DigestAsMessage(Hash),
    /// A text.
    Message(&'m [u8]),
    /// A text, by RSA with PSS whatever the registry calls the key.
    MessageByPss(&'m [u8]),
}

impl Signed<'_> {
    /// Whether `signature` is one of `key` over it.
    pub(super) fn holds(self, key: &PublicKey, signature: &[u8]) -> bool {
        match self {
            Self::Digest(hash) => key.verify(&Digest::Sha256(hash.0), signature),
            Self::DigestAsMessage(hash) => {
                key.algorithm().family() == KeyFamily::Rsa && key.verify_message(&hash.0, signature)
            }
            Self::Message(message) => key.verify_message(message, signature),
            Self::MessageByPss(message) => {
                let pss = PublicKey::from_der(SignatureAlgorithm::RsaPssSha256, key.spki_der());
                pss.is_ok_and(|key| key.verify_message(message, signature))
            }
        }
    }
}

/// A signature as a document claims it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim<'v> {
    pub(super) signer: Option<&'v str>,
    pub(super) signature: Option<&'v str>,
    pub(super) moment: Option<Timestamp>,
}

impl<'v> Claim<'v> {
    /// Reads it from where it stands; the time from the first of `times` that is one.
    pub(super) fn read(value: &'v Value<'_>, times: &[&str]) -> Self {
        Self {
            signer: text_of(value, SIGNER),
            signature: text_of(value, SIGNATURE),
            moment: text_of(value, times).and_then(moment),
        }
    }
}

/// The given keys.
pub(super) struct Keys<'s> {
    pub(super) signers: &'s Signers,
}

impl<'s> Keys<'s> {
    /// The key that made the claimed signature, and what `holds` says it is a signature over. What is wrong is said in
    /// `document`.
    pub(super) fn check<T>(
        &self,
        claim: &Claim<'_>,
        document: &mut Document<'_>,
        holds: impl Fn(&PublicKey, &[u8]) -> Option<T>,
    ) -> Option<(&'s Signer, T)> {
        let Some(text) = claim.signature else {
            document.found(Kind::Unsigned, "has no signature");
            return None;
        };
        let keys = self.named(claim, document)?;
        let whose = claim.signer.unwrap_or("any given key");
        let Ok(signature) = STANDARD.decode(text) else {
            document.found(Kind::SignatureInvalid, format!("the signature of {whose} is not base64"));
            return None;
        };
        let held =
            keys.into_iter().find_map(|signer| Some((signer, holds(signer.key.as_ref()?, &signature)?)));
        let Some((signer, what)) = held else {
            let why = format!("the signature is not one of {whose} over this content, in any form there is");
            document.found(Kind::SignatureInvalid, why);
            return None;
        };
        if let Some(why) = claim.moment.and_then(|moment| out_of_use(signer, moment)) {
            document.found(Kind::KeyNotValidThen, why);
            return None;
        }
        if claim.signer != Some(signer.name.as_str()) {
            let why = "nothing says whose key this is; a given key verifies the signature";
            document.found(Kind::SignerResolved, why);
        }
        document.signatures += 1;
        Some((signer, what))
    }

    /// The keys a claim can be about.
    fn named(&self, claim: &Claim<'_>, document: &mut Document<'_>) -> Option<Vec<&'s Signer>> {
        let candidates = self.signers.candidates(claim.signer).iter();
        let keys: Vec<&Signer> = candidates.filter_map(|at| self.signers.get(*at)).collect();
        let whose = claim.signer.unwrap_or("its signer");
        if keys.is_empty() {
            document.found(Kind::UnknownSigner, format!("{whose} is not among the given keys"));
            return None;
        }
        if keys.iter().all(|signer| signer.key.is_none()) {
            // Elsewhere a warning; here it was all there is to verify.
            let why = format!("{whose} makes MACs: only who holds the key can verify them");
            let finding = Finding::file(Kind::MacNotVerifiable, document.name.clone(), why);
            document.findings.push(Finding { weight: Weight::Missing, ..finding });
            return None;
        }
        Some(keys)
    }
}

fn out_of_use(signer: &Signer, moment: Timestamp) -> Option<String> {
    let name = &signer.name;
    if let Some(from) = signer.from.filter(|from| moment < *from) {
        return Some(format!("{name} was not deployed before {from}, and the document says {moment}"));
    }
    let until = signer.until.filter(|until| moment >= *until)?;
    Some(format!("{name} was retired {until}, and the document says {moment}"))
}
