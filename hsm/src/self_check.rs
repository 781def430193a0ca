//! The keyring's own opinion of a signature, before anyone else sees it.
//!
//! Verification runs on aws-lc-rs with the public key parsed once, when the keyring is built: about
//! 40 µs for Ed25519, 70 for P-256, 20 to 80 for RSA. Auditors verify with other code (the format crate),
//! so an error in either shows. MAC keys have no public half and no [`SelfCheck`]; the keyring asks the
//! device a second time instead and compares.

use aws_lc_rs::digest::{self, SHA256};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
    VerificationAlgorithm,
};
use chancery_format::{Digest, PublicKey, SignatureAlgorithm};

use crate::signer::SealInput;

/// A public key that does not parse under its algorithm. Operator's fault: the device or the registry
/// holds something else than configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the public key does not parse as the key's algorithm")]
pub struct Unparsable;

/// One parsed public key.
#[derive(Debug)]
pub struct SelfCheck {
    algorithm: SignatureAlgorithm,
    key: ParsedPublicKey,
}

impl SelfCheck {
    /// Parses the key. There is none for a MAC algorithm.
    pub fn new(algorithm: SignatureAlgorithm, key: &PublicKey) -> Result<Self, Unparsable> {
        let verification: &'static dyn VerificationAlgorithm = match algorithm {
            SignatureAlgorithm::Ed25519 => &ED25519,
            SignatureAlgorithm::EcdsaP256Sha256 => &ECDSA_P256_SHA256_ASN1,
            SignatureAlgorithm::RsaSha256 => &RSA_PKCS1_2048_8192_SHA256,
            SignatureAlgorithm::RsaPssSha256 => &RSA_PSS_2048_8192_SHA256,
            SignatureAlgorithm::HmacSha256 => return Err(Unparsable),
        };
        let key = ParsedPublicKey::new(verification, key.spki_der()).map_err(|_| Unparsable)?;
        Ok(Self { algorithm, key })
    }

    /// Whether the signature is this key's over this input. A message that is no digest can be checked
    /// for Ed25519 only, as nothing else signs one.
    pub fn holds(&self, input: SealInput<'_>, signature: &[u8]) -> bool {
        if self.algorithm == SignatureAlgorithm::Ed25519 {
            return self.key.verify_sig(input.bytes(), signature).is_ok();
        }
        input.digest().is_ok_and(|digest| self.holds_digest(digest, signature))
    }

    fn holds_digest(&self, digest: &Digest, signature: &[u8]) -> bool {
        digest::Digest::import_less_safe(digest.as_bytes(), &SHA256)
            .is_ok_and(|digest| self.key.verify_digest_sig(&digest, signature).is_ok())
    }
}
