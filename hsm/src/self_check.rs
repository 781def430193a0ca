//! The keyring's own opinion of a signature, before anyone else sees it.
//!
//! Verification runs on aws-lc-rs with the public key parsed once, when the keyring is built: about
//! 40 µs for Ed25519, 70 for P-256, 20 to 80 for RSA. Auditors verify with other code (the format crate),
//! so an error in either shows. Where theirs is stricter, so is this: a point `R` of small order, which
//! only whoever holds the private key can bring about, is no Ed25519 signature here either. Ed25519 keys
//! that live in this process are checked several at a time (`together.rs`). MAC keys have no public half
//! and no [`SelfCheck`]; the keyring asks the device a second time instead and compares. For Ed25519ph
//! and for µ made outside aws-lc-rs has nothing to offer, so there the auditors' code is asked.

use aws_lc_rs::digest::{self, SHA256, SHA384, SHA512};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256K1_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, ML_DSA_44, ML_DSA_65,
    ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, VerificationAlgorithm,
};
use chancery_format::{Digest, PublicKey, SignatureAlgorithm};

pub(crate) use self::together::Together;
use crate::signer::SealInput;

mod together;

/// A public key that does not parse under its algorithm. Operator's fault: the device or the registry
/// holds something else than configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the public key does not parse as the key's algorithm")]
pub struct Unparsable;

/// One parsed public key.
#[derive(Debug)]
pub struct SelfCheck {
    algorithm: SignatureAlgorithm,
    key: Parsed,
    /// The auditors' opinion of ML-DSA signatures over µ.
    over_mu: Option<PublicKey>,
}

#[derive(Debug)]
enum Parsed {
    Here(ParsedPublicKey),
    Auditors(PublicKey),
}

impl SelfCheck {
    /// Parses the key. There is none for a MAC algorithm.
    pub fn new(algorithm: SignatureAlgorithm, key: &PublicKey) -> Result<Self, Unparsable> {
        let verification: &'static dyn VerificationAlgorithm = match algorithm {
            SignatureAlgorithm::Ed25519 => &ED25519,
            SignatureAlgorithm::Ed25519ph => {
                let same = key.algorithm() == algorithm;
                return same
                    .then(|| Self { algorithm, key: Parsed::Auditors(key.clone()), over_mu: None })
                    .ok_or(Unparsable);
            }
            SignatureAlgorithm::EcdsaP256Sha256 => &ECDSA_P256_SHA256_ASN1,
            SignatureAlgorithm::EcdsaP384Sha384 => &ECDSA_P384_SHA384_ASN1,
            SignatureAlgorithm::EcdsaSecp256k1Sha256 => &ECDSA_P256K1_SHA256_ASN1,
            SignatureAlgorithm::RsaSha256 => &RSA_PKCS1_2048_8192_SHA256,
            SignatureAlgorithm::RsaSha384 => &RSA_PKCS1_2048_8192_SHA384,
            SignatureAlgorithm::RsaSha512 => &RSA_PKCS1_2048_8192_SHA512,
            SignatureAlgorithm::RsaPssSha256 => &RSA_PSS_2048_8192_SHA256,
            SignatureAlgorithm::RsaPssSha384 => &RSA_PSS_2048_8192_SHA384,
            SignatureAlgorithm::RsaPssSha512 => &RSA_PSS_2048_8192_SHA512,
            SignatureAlgorithm::MlDsa44 => &ML_DSA_44,
            SignatureAlgorithm::MlDsa65 => &ML_DSA_65,
            SignatureAlgorithm::HmacSha256
            | SignatureAlgorithm::HmacSha384
            | SignatureAlgorithm::HmacSha512 => return Err(Unparsable),
        };
        let takes_mu = matches!(algorithm, SignatureAlgorithm::MlDsa44 | SignatureAlgorithm::MlDsa65);
        let over_mu = takes_mu.then(|| key.clone());
        let key = ParsedPublicKey::new(verification, key.spki_der()).map_err(|_| Unparsable)?;
        Ok(Self { algorithm, key: Parsed::Here(key), over_mu })
    }

    /// Whether the signature is this key's over this input. Input that the algorithm does not take has no
    /// signature.
    pub fn holds(&self, input: SealInput<'_>, signature: &[u8]) -> bool {
        let Ok(bytes) = input.for_algorithm(self.algorithm) else { return false };
        match (&self.key, input) {
            (_, SealInput::Digest(mu @ Digest::Mu(_))) => {
                self.over_mu.as_ref().is_some_and(|key| key.verify(mu, signature))
            }
            (Parsed::Here(_), _) if self.algorithm.takes_messages() => self.verifies(bytes, signature),
            (Parsed::Here(key), SealInput::Digest(digest)) => {
                imported(digest).is_ok_and(|digest| key.verify_digest_sig(&digest, signature).is_ok())
            }
            (Parsed::Auditors(key), SealInput::Digest(digest)) => key.verify(digest, signature),
            (_, SealInput::Message(_)) => false,
        }
    }

    /// Ed25519 and ML-DSA, over a message.
    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let Parsed::Here(key) = &self.key else { return false };
        let strong = self.algorithm != SignatureAlgorithm::Ed25519 || !has_small_order(signature);
        strong && key.verify_sig(message, signature).is_ok()
    }
}

/// A digest as aws-lc-rs has it.
pub(crate) fn imported(digest: &Digest) -> Result<digest::Digest, Unspecified> {
    let algorithm = match digest {
        Digest::Sha256(_) => &SHA256,
        Digest::Sha384(_) => &SHA384,
        Digest::Sha512(_) => &SHA512,
        Digest::Mu(_) => return Err(Unspecified),
    };
    digest::Digest::import_less_safe(digest.as_bytes(), algorithm)
}

/// y-coordinates, sign bit cleared, of the eight points of small order in their only valid encodings.
const SMALL_ORDER: [[u8; 32]; 5] = [
    ends(0x01, 0x00, 0x00),
    ends(0x00, 0x00, 0x00),
    ends(0xEC, 0xFF, 0x7F),
    [
        0x26, 0xE8, 0x95, 0x8F, 0xC2, 0xB2, 0x27, 0xB0, 0x45, 0xC3, 0xF4, 0x89, 0xF2, 0xEF, 0x98, 0xF0, 0xD5,
        0xDF, 0xAC, 0x05, 0xD3, 0xC6, 0x33, 0x39, 0xB1, 0x38, 0x02, 0x88, 0x6D, 0x53, 0xFC, 0x05,
    ],
    [
        0xC7, 0x17, 0x6A, 0x70, 0x3D, 0x4D, 0xD8, 0x4F, 0xBA, 0x3C, 0x0B, 0x76, 0x0D, 0x10, 0x67, 0x0F, 0x2A,
        0x20, 0x53, 0xFA, 0x2C, 0x39, 0xCC, 0xC6, 0x4E, 0xC7, 0xFD, 0x77, 0x92, 0xAC, 0x03, 0x7A,
    ],
];

const fn ends(first: u8, middle: u8, last: u8) -> [u8; 32] {
    let mut bytes = [middle; 32];
    bytes[0] = first;
    bytes[31] = last;
    bytes
}

/// Whether the signature's `R` is one of those points. Both are public, so time may tell.
fn has_small_order(signature: &[u8]) -> bool {
    let Some(mut r) = signature.first_chunk::<32>().copied() else { return false };
    if let Some(last) = r.last_mut() {
        *last &= 0x7F;
    }
    SMALL_ORDER.contains(&r)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
    use curve25519_dalek::constants::EIGHT_TORSION;
    use curve25519_dalek::scalar::{Scalar, clamp_integer};

    fn sha512(parts: &[&[u8]]) -> [u8; 64] {
        digest::digest(&SHA512, &parts.concat()).as_ref().try_into().unwrap()
    }

    #[test]
    fn the_list_is_all_points_of_small_order() {
        for point in EIGHT_TORSION {
            assert!(has_small_order(&point.compress().to_bytes()));
        }
        let mut distinct: Vec<_> = EIGHT_TORSION.iter().map(|point| point.compress().to_bytes()).collect();
        distinct.iter_mut().for_each(|bytes| bytes[31] &= 0x7F);
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), SMALL_ORDER.len());
    }

    /// What a malicious device could return: valid for libraries that do not look at `R`'s order.
    #[test]
    fn a_signature_auditors_would_reject_is_rejected_here() {
        let seed = [7u8; 32];
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        let public = pair.public_key().as_ref();
        let digest = Digest::Sha256([3; 32]);
        let r = EIGHT_TORSION[0].compress().to_bytes();
        let secret = clamp_integer(*sha512(&[&seed]).first_chunk().unwrap());
        let secret = Scalar::from_bytes_mod_order(secret);
        let k = Scalar::from_bytes_mod_order_wide(&sha512(&[&r, public, digest.as_bytes()]));
        let crafted = [r, (k * secret).to_bytes()].concat();

        let key = PublicKey::from_ed25519_raw(public.try_into().unwrap()).unwrap();
        let check = SelfCheck::new(SignatureAlgorithm::Ed25519, &key).unwrap();
        let Parsed::Here(alone) = &check.key else { panic!("parsed by the library") };
        assert!(alone.verify_sig(digest.as_bytes(), &crafted).is_ok(), "the library alone accepts it");
        assert!(!key.verify(&digest, &crafted), "auditors do not");
        assert!(!check.holds(SealInput::Digest(&digest), &crafted));
        let honest = pair.sign(digest.as_bytes());
        assert!(check.holds(SealInput::Digest(&digest), honest.as_ref()));
    }
}
