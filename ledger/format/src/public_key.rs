//! Public keys, and verification by every algorithm that has one, in pure Rust.
//!
//! This is the auditors' side. The daemon checks its devices with another implementation before it
//! releases anything, so that one faulty library cannot vouch for itself.
//!
//! A key has one encoding (DER SubjectPublicKeyInfo, RFC 5280; PEM around it) and a second one is
//! refused, as are keys no honest device makes: Ed25519 points outside the prime-order group, RSA
//! outside 2048 to 4096 bits or with a small or even exponent.

use std::ops::RangeInclusive;

use ed25519_dalek::Signature as Ed25519Signature;
use ed25519_dalek::VerifyingKey as Ed25519Key;
use k256::ecdsa::VerifyingKey as Secp256k1Key;
use ml_dsa::{MlDsa44, MlDsa65, MlDsaParams, VerifyingKey as MlDsaKey};
use p256::ecdsa::VerifyingKey as P256Key;
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use p384::ecdsa::VerifyingKey as P384Key;
use rsa::traits::PublicKeyParts;
use rsa::{BoxedUint, Pkcs1v15Sign, Pss, RsaPublicKey};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use spki::{DecodePublicKey, EncodePublicKey};

use crate::algorithm::{KeyFamily, SignatureAlgorithm};
use crate::digest::{Digest, HashAlgorithm};

mod ed25519_batch;
mod ed25519_search;
#[cfg(test)]
mod tests;

pub use ed25519_batch::verify_ed25519_batch;
pub use ed25519_search::{Ed25519Search, Ed25519Tried};

/// Accepted RSA modulus lengths: below, factoring is in sight; above, verification becomes a way to
/// keep an auditor busy.
const RSA_BITS: RangeInclusive<u32> = 2048..=4096;
/// Smallest accepted RSA public exponent (FIPS 186-5 §5.1). The largest is 2^33 − 1, for the time
/// verification takes.
const RSA_EXPONENT_MIN: u64 = 65_537;

/// Length of a raw ML-DSA-44 public key.
pub const ML_DSA_44_KEY_BYTES: usize = 1312;

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
#[derive(Debug, Clone)]
pub struct PublicKey {
    algorithm: SignatureAlgorithm,
    key: Key,
    der: Vec<u8>,
}

/// Two keys are equal if they verify the same: a key has one encoding.
impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.algorithm == other.algorithm && self.der == other.der
    }
}

impl Eq for PublicKey {}

#[derive(Debug, Clone)]
enum Key {
    Ed25519(Ed25519Key),
    P256(P256Key),
    P384(P384Key),
    Secp256k1(Secp256k1Key),
    Rsa(RsaPublicKey),
    MlDsa44(Box<MlDsaKey<MlDsa44>>),
    MlDsa65(Box<MlDsaKey<MlDsa65>>),
}

impl PublicKey {
    /// From SPKI DER. The encoding must be the one this crate writes.
    pub fn from_der(algorithm: SignatureAlgorithm, der: &[u8]) -> Result<Self, PublicKeyError> {
        let key = match algorithm.family() {
            KeyFamily::Ed25519 => Key::Ed25519(ed25519_key(parse::<Ed25519Key>(der)?.as_bytes())?),
            KeyFamily::P256 => Key::P256(parse(der)?),
            KeyFamily::P384 => Key::P384(parse(der)?),
            KeyFamily::Secp256k1 => Key::Secp256k1(parse(der)?),
            KeyFamily::Rsa => Key::Rsa(parse(der)?),
            KeyFamily::MlDsa44 => Key::MlDsa44(Box::new(parse(der)?)),
            KeyFamily::MlDsa65 => Key::MlDsa65(Box::new(parse(der)?)),
            KeyFamily::Secret => return Err(PublicKeyError::Mac),
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

    /// From the 32 raw bytes of an Ed25519 key, for pure Ed25519.
    pub fn from_ed25519_raw(raw: &[u8; 32]) -> Result<Self, PublicKeyError> {
        Self::checked(SignatureAlgorithm::Ed25519, Key::Ed25519(ed25519_key(raw)?))
    }

    /// From the 1,312 raw bytes of an ML-DSA-44 key (FIPS 204 `pkEncode`); every such text is a key.
    pub fn from_ml_dsa_44_raw(raw: &[u8; ML_DSA_44_KEY_BYTES]) -> Result<Self, PublicKeyError> {
        let key = MlDsaKey::decode(&(*raw).into());
        Self::checked(SignatureAlgorithm::MlDsa44, Key::MlDsa44(Box::new(key)))
    }

    /// From what devices show of a key on a curve: a SEC 1 point (compressed or not), or the 32 bytes of an
    /// Ed25519 key.
    pub fn from_point(algorithm: SignatureAlgorithm, point: &[u8]) -> Result<Self, PublicKeyError> {
        let key = match algorithm.family() {
            KeyFamily::Ed25519 => {
                Key::Ed25519(ed25519_key(point.try_into().map_err(|_| PublicKeyError::Encoding)?)?)
            }
            KeyFamily::P256 => Key::P256(encoding(P256Key::from_sec1_bytes(point))?),
            KeyFamily::P384 => Key::P384(encoding(P384Key::from_sec1_bytes(point))?),
            KeyFamily::Secp256k1 => Key::Secp256k1(encoding(Secp256k1Key::from_sec1_bytes(point))?),
            _ => return Err(PublicKeyError::Encoding),
        };
        Self::checked(algorithm, key)
    }

    /// From an RSA modulus and public exponent, big-endian.
    pub fn from_rsa_parts(
        algorithm: SignatureAlgorithm,
        modulus: &[u8],
        exponent: &[u8],
    ) -> Result<Self, PublicKeyError> {
        if algorithm.family() != KeyFamily::Rsa {
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
            Key::P384(key) => key.to_public_key_der(),
            Key::Secp256k1(key) => key.to_public_key_der(),
            Key::Rsa(key) => key.to_public_key_der(),
            Key::MlDsa44(key) => key.to_public_key_der(),
            Key::MlDsa65(key) => key.to_public_key_der(),
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

    /// The raw key, if it is for pure Ed25519: what note verifier keys and batches are made of.
    pub fn ed25519_raw(&self) -> Option<[u8; 32]> {
        match &self.key {
            Key::Ed25519(key) if self.algorithm == SignatureAlgorithm::Ed25519 => Some(key.to_bytes()),
            _ => None,
        }
    }

    /// The raw key, if it is for ML-DSA-44: what cosigners' verifier keys are made of.
    pub fn ml_dsa_44_raw(&self) -> Option<Vec<u8>> {
        match &self.key {
            Key::MlDsa44(key) => Some(key.encode().to_vec()),
            _ => None,
        }
    }

    /// Whether `signature` is one over `digest`. A digest of a length the algorithm does not take has none.
    ///
    /// - Ed25519: RFC 8032 over the digest's bytes by the rules of `verify_strict`: canonical encodings,
    ///   nothing of small order, the equation without the cofactor. Ed25519ph likewise, with its prefix.
    /// - ECDSA: minimal DER, nothing after it. On P-256 and P-384 both `s` and `n − s` verify, as FIPS 186-5
    ///   has it: devices return either, and to refuse half of their signatures would leave key uses without
    ///   a signature. That anybody can turn one into the other gains nothing here, because the ledger binds
    ///   the very bytes that were issued and nothing is keyed by signature bytes. On secp256k1 only the
    ///   lower `s` does, as everyone expects who uses that curve.
    /// - RSA: exactly the modulus' length; PSS with MGF1 of the same hash and a salt exactly as long.
    /// - ML-DSA: FIPS 204 algorithm 3, pure, with an empty context, over the digest's bytes; over the message µ was
    ///   made of (algorithm 8 from line 7) where the digest is µ.
    pub fn verify(&self, digest: &Digest, signature: &[u8]) -> bool {
        if !self.algorithm.takes(digest) {
            return false;
        }
        let bytes = digest.as_bytes();
        match &self.key {
            Key::Ed25519(key) if self.algorithm == SignatureAlgorithm::Ed25519ph => {
                verify_ed25519ph(key, bytes, signature)
            }
            Key::Ed25519(key) => ed25519_batch::verify_one(key, bytes, signature),
            Key::P256(key) => p256::ecdsa::DerSignature::from_bytes(signature).is_ok_and(|parsed| {
                parsed.as_bytes() == signature && key.verify_prehash(bytes, &parsed).is_ok()
            }),
            Key::P384(key) => p384::ecdsa::DerSignature::from_bytes(signature).is_ok_and(|parsed| {
                parsed.as_bytes() == signature && key.verify_prehash(bytes, &parsed).is_ok()
            }),
            Key::Secp256k1(key) => verify_secp256k1(key, bytes, signature),
            Key::Rsa(key) => signature.len() == key.size() && self.verify_rsa(key, digest, signature),
            Key::MlDsa44(key) => verify_ml_dsa(key, digest, signature),
            Key::MlDsa65(key) => verify_ml_dsa(key, digest, signature),
        }
    }

    /// Whether `signature` is one over a whole message, which algorithms that take digests of one kind hash first.
    pub fn verify_message(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.key {
            Key::Ed25519(key) if self.algorithm == SignatureAlgorithm::Ed25519 => {
                ed25519_batch::verify_one(key, message, signature)
            }
            Key::MlDsa44(key) => verify_ml_dsa_message(key, message, signature),
            Key::MlDsa65(key) => verify_ml_dsa_message(key, message, signature),
            _ => {
                let hash = self.algorithm.digest().unwrap_or(HashAlgorithm::Sha256);
                self.verify(&Digest::of(hash, message), signature)
            }
        }
    }

    /// What ML-DSA makes of a message before it signs it with this key, µ (FIPS 204 algorithm 7, line 6; empty context);
    /// `None` for other algorithms.
    pub fn mu(&self, message: &[u8]) -> Option<Digest> {
        match &self.key {
            Key::MlDsa44(key) => mu(key, message),
            Key::MlDsa65(key) => mu(key, message),
            _ => None,
        }
    }

    fn verify_rsa(&self, key: &RsaPublicKey, digest: &Digest, signature: &[u8]) -> bool {
        let Some(hash) = digest.hash() else { return false };
        let bytes = digest.as_bytes();
        let salt = hash.bytes();
        let verdict = match (self.algorithm.is_pss(), hash) {
            (true, HashAlgorithm::Sha256) => key.verify(Pss::<Sha256>::new_with_salt(salt), bytes, signature),
            (true, HashAlgorithm::Sha384) => key.verify(Pss::<Sha384>::new_with_salt(salt), bytes, signature),
            (true, HashAlgorithm::Sha512) => key.verify(Pss::<Sha512>::new_with_salt(salt), bytes, signature),
            (false, HashAlgorithm::Sha256) => key.verify(Pkcs1v15Sign::new::<Sha256>(), bytes, signature),
            (false, HashAlgorithm::Sha384) => key.verify(Pkcs1v15Sign::new::<Sha384>(), bytes, signature),
            (false, HashAlgorithm::Sha512) => key.verify(Pkcs1v15Sign::new::<Sha512>(), bytes, signature),
        };
        verdict.is_ok()
    }
}

fn encoding<T, E>(result: Result<T, E>) -> Result<T, PublicKeyError> {
    result.map_err(|_| PublicKeyError::Encoding)
}

fn parse<K: DecodePublicKey>(der: &[u8]) -> Result<K, PublicKeyError> {
    encoding(K::from_public_key_der(der))
}

fn verify_ed25519ph(key: &Ed25519Key, message: &[u8], signature: &[u8]) -> bool {
    let Ok(signature) = Ed25519Signature::from_slice(signature) else { return false };
    key.verify_prehashed_strict(Sha512::new_with_prefix(message), None, &signature).is_ok()
}

fn verify_ml_dsa<P: MlDsaParams>(key: &MlDsaKey<P>, digest: &Digest, signature: &[u8]) -> bool {
    let Digest::Mu(mu) = digest else { return verify_ml_dsa_message(key, digest.as_bytes(), signature) };
    signature.try_into().is_ok_and(|parsed| key.verify_mu(&(*mu).into(), &parsed))
}

fn mu<P: MlDsaParams>(key: &MlDsaKey<P>, message: &[u8]) -> Option<Digest> {
    let absorb = |shake: &mut _| {
        sha2::digest::Update::update(shake, message);
        Ok(())
    };
    key.compute_mu(absorb, &[]).ok().map(|mu| Digest::Mu(mu.into()))
}

fn verify_ml_dsa_message<P: MlDsaParams>(key: &MlDsaKey<P>, message: &[u8], signature: &[u8]) -> bool {
    signature.try_into().is_ok_and(|parsed| key.verify_with_context(message, &[], &parsed))
}

/// Either `s` is a signature by the standard; the curve's users accept the lower one only.
fn verify_secp256k1(key: &Secp256k1Key, digest: &[u8], signature: &[u8]) -> bool {
    let Ok(parsed) = k256::ecdsa::DerSignature::from_bytes(signature) else { return false };
    let Ok(scalars) = k256::ecdsa::Signature::from_der(signature) else { return false };
    parsed.as_bytes() == signature
        && scalars.normalize_s() == scalars
        && key.verify_prehash(digest, &scalars).is_ok()
}

/// A signature on secp256k1 with the lower of its two values of `s`; devices return either, and everyone can
/// turn one into the other. `None` if the bytes are no DER signature.
pub fn lower_s_secp256k1(signature: &[u8]) -> Option<Vec<u8>> {
    let scalars = k256::ecdsa::Signature::from_der(signature).ok()?;
    Some(scalars.normalize_s().to_der().as_bytes().to_vec())
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
