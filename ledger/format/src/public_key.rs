//! Public keys, and verification by every algorithm that has one, in pure Rust.
//!
//! This is the auditors' side. The daemon checks its devices with another implementation before it
//! releases anything, so that one faulty library cannot vouch for itself.
//!
//! A key has one encoding (DER SubjectPublicKeyInfo, RFC 5280; PEM around it) and a second one is
//! refused, as are keys no honest device makes: Ed25519 points outside the prime-order group, RSA
//! outside 2048 to 4096 bits or with a small or even exponent.

use std::ops::RangeInclusive;

use ed25519_dalek::VerifyingKey as Ed25519Key;
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use p256::ecdsa::{DerSignature, VerifyingKey as P256Key};
use rsa::traits::PublicKeyParts;
use rsa::{BoxedUint, Pkcs1v15Sign, Pss, RsaPublicKey};
use sha2::Sha256;
use spki::{DecodePublicKey, EncodePublicKey};

use crate::algorithm::SignatureAlgorithm;
use crate::digest::Digest;

mod ed25519_batch;
#[cfg(test)]
mod tests;

pub use ed25519_batch::verify_ed25519_batch;

/// Accepted RSA modulus lengths: below, factoring is in sight; above, verification becomes a way to
/// keep an auditor busy.
const RSA_BITS: RangeInclusive<u32> = 2048..=4096;
/// Smallest accepted RSA public exponent (FIPS 186-5 §5.1). The largest is 2^33 − 1, for the time
/// verification takes.
const RSA_EXPONENT_MIN: u64 = 65_537;
/// Length of an RSASSA-PSS salt.
const PSS_SALT_BYTES: usize = 32;

/// Why a public key was refused. Whoever supplied it is at fault; retrying cannot help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// Not SPKI (RFC 5280) of this algorithm, or in a second spelling.
    #[error("not a public key of this algorithm in its one encoding")]
    Encoding,
    /// RSA outside 2048 to 4096 bits or with an exponent below 65537 or even; an Ed25519 point outside the
    /// prime-order group.
    #[error("public key is too weak or too large")]
    Strength,
    /// HMAC keys have no public half.
    #[error("a MAC key has no public half")]
    Mac,
}

/// A key that verifies, with the algorithm it verifies for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    algorithm: SignatureAlgorithm,
    key: Key,
    der: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Key {
    Ed25519(Ed25519Key),
    P256(P256Key),
    Rsa(RsaPublicKey),
}

impl PublicKey {
    /// From SPKI DER. The encoding must be the one this crate writes.
    pub fn from_der(algorithm: SignatureAlgorithm, der: &[u8]) -> Result<Self, PublicKeyError> {
        let encoding = |_| PublicKeyError::Encoding;
        let key = match algorithm {
            SignatureAlgorithm::Ed25519 => {
                let key = Ed25519Key::from_public_key_der(der).map_err(encoding)?;
                Key::Ed25519(ed25519_key(key.as_bytes())?)
            }
            SignatureAlgorithm::EcdsaP256Sha256 => {
                Key::P256(P256Key::from_public_key_der(der).map_err(encoding)?)
            }
            SignatureAlgorithm::RsaSha256 | SignatureAlgorithm::RsaPssSha256 => {
                Key::Rsa(RsaPublicKey::from_public_key_der(der).map_err(encoding)?)
            }
            SignatureAlgorithm::HmacSha256 => return Err(PublicKeyError::Mac),
        };
        let key = Self::checked(algorithm, key)?;
        if key.der == der { Ok(key) } else { Err(PublicKeyError::Encoding) }
    }

    /// From PEM (`-----BEGIN PUBLIC KEY-----`, lines of 64 characters ended by LF). Surrounding white space
    /// is ignored; any other difference from [`PublicKey::to_pem`] is refused.
    pub fn from_pem(algorithm: SignatureAlgorithm, pem: &str) -> Result<Self, PublicKeyError> {
        let pem = pem.trim_ascii();
        let (_, document) = spki::Document::from_pem(pem).map_err(|_| PublicKeyError::Encoding)?;
        let key = Self::from_der(algorithm, document.as_bytes())?;
        if key.to_pem().trim_ascii() == pem { Ok(key) } else { Err(PublicKeyError::Encoding) }
    }

    /// From the 32 raw bytes of an Ed25519 key.
    pub fn from_ed25519_raw(raw: &[u8; 32]) -> Result<Self, PublicKeyError> {
        Self::checked(SignatureAlgorithm::Ed25519, Key::Ed25519(ed25519_key(raw)?))
    }

    /// From a SEC 1 point (compressed or not) on P-256.
    pub fn from_p256_point(point: &[u8]) -> Result<Self, PublicKeyError> {
        let key = P256Key::from_sec1_bytes(point).map_err(|_| PublicKeyError::Encoding)?;
        Self::checked(SignatureAlgorithm::EcdsaP256Sha256, Key::P256(key))
    }

    /// From an RSA modulus and public exponent, big-endian.
    pub fn from_rsa_parts(
        algorithm: SignatureAlgorithm,
        modulus: &[u8],
        exponent: &[u8],
    ) -> Result<Self, PublicKeyError> {
        if !matches!(algorithm, SignatureAlgorithm::RsaSha256 | SignatureAlgorithm::RsaPssSha256) {
            return Err(PublicKeyError::Encoding);
        }
        let number = BoxedUint::from_be_slice_vartime;
        let key =
            RsaPublicKey::new(number(modulus), number(exponent)).map_err(|_| PublicKeyError::Strength)?;
        Self::checked(algorithm, Key::Rsa(key))
    }

    fn checked(algorithm: SignatureAlgorithm, key: Key) -> Result<Self, PublicKeyError> {
        if let Key::Rsa(key) = &key
            && !is_strong(key)
        {
            return Err(PublicKeyError::Strength);
        }
        let der = match &key {
            Key::Ed25519(key) => key.to_public_key_der(),
            Key::P256(key) => key.to_public_key_der(),
            Key::Rsa(key) => key.to_public_key_der(),
        };
        let der = der.map_err(|_| PublicKeyError::Encoding)?.as_bytes().to_vec();
        Ok(Self { algorithm, key, der })
    }

    /// What it verifies.
    pub const fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }

    /// SPKI DER.
    pub fn spki_der(&self) -> &[u8] {
        &self.der
    }

    /// SPKI PEM with LF line ends.
    pub fn to_pem(&self) -> String {
        let body = crate::entry::encode_base64(&self.der);
        let lines = body.as_bytes().chunks(64).map(String::from_utf8_lossy).collect::<Vec<_>>().join("\n");
        format!("-----BEGIN PUBLIC KEY-----\n{lines}\n-----END PUBLIC KEY-----\n")
    }

    /// The raw key, if it is Ed25519: what note verifier keys and batches are made of.
    pub fn ed25519_raw(&self) -> Option<[u8; 32]> {
        match &self.key {
            Key::Ed25519(key) => Some(key.to_bytes()),
            _ => None,
        }
    }

    /// Whether `signature` is one over `digest`.
    ///
    /// - Ed25519: RFC 8032 over the digest's bytes by the rules of `verify_strict`: canonical encodings,
    ///   nothing of small order, the equation without the cofactor.
    /// - ECDSA: minimal DER, nothing after it. Both `s` and `n − s` verify, as FIPS 186-5 has it: devices
    ///   return either, and to refuse half of their signatures would leave key uses without a signature.
    ///   That anybody can turn one into the other gains nothing here, because the ledger binds the very
    ///   bytes that were issued and nothing is keyed by signature bytes.
    /// - RSA: exactly the modulus' length; PSS with MGF1-SHA-256 and a salt of exactly 32 bytes.
    pub fn verify(&self, digest: &Digest, signature: &[u8]) -> bool {
        let digest = digest.as_bytes();
        match &self.key {
            Key::Ed25519(key) => ed25519_batch::verify_one(key, digest, signature),
            Key::P256(key) => verify_p256(key, digest, signature),
            Key::Rsa(key) => signature.len() == key.size() && self.verify_rsa(key, digest, signature),
        }
    }

    fn verify_rsa(&self, key: &RsaPublicKey, digest: &[u8], signature: &[u8]) -> bool {
        let verdict = match self.algorithm {
            SignatureAlgorithm::RsaPssSha256 => {
                key.verify(Pss::<Sha256>::new_with_salt(PSS_SALT_BYTES), digest, signature)
            }
            _ => key.verify(Pkcs1v15Sign::new::<Sha256>(), digest, signature),
        };
        verdict.is_ok()
    }
}

fn verify_p256(key: &P256Key, digest: &[u8], signature: &[u8]) -> bool {
    let Ok(parsed) = DerSignature::from_bytes(signature) else { return false };
    parsed.as_bytes() == signature && key.verify_prehash(digest, &parsed).is_ok()
}

/// An Ed25519 key in its one encoding and in the prime-order group, so not of small order either.
pub(crate) fn ed25519_key(raw: &[u8; 32]) -> Result<Ed25519Key, PublicKeyError> {
    let key = Ed25519Key::from_bytes(raw).map_err(|_| PublicKeyError::Encoding)?;
    if !ed25519_batch::is_canonical_y(raw) {
        return Err(PublicKeyError::Encoding);
    }
    let strong = !key.is_weak() && key.to_edwards().is_torsion_free();
    if strong { Ok(key) } else { Err(PublicKeyError::Strength) }
}

/// The upper bound of the exponent is the `rsa` crate's own.
fn is_strong(key: &RsaPublicKey) -> bool {
    let odd = key.e_bytes().last().is_some_and(|byte| byte & 1 == 1);
    RSA_BITS.contains(&key.n().bits_vartime()) && odd && *key.e() >= BoxedUint::from(RSA_EXPONENT_MIN)
}
