//! Verification of every algorithm, in pure Rust, and the one-key Ed25519 batch equation.
//!
//! This is the auditors' side. The daemon checks its devices with another implementation before it
//! releases anything, so that one faulty library cannot vouch for itself.

use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{IsIdentity, VartimeMultiscalarMul};
use ed25519_dalek::VerifyingKey as Ed25519Key;
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use p256::ecdsa::{DerSignature, VerifyingKey as P256Key};
use rsa::traits::PublicKeyParts;
use rsa::{Pkcs1v15Sign, Pss, RsaPublicKey};
use sha2::{Digest as _, Sha256, Sha512};
use spki::{DecodePublicKey, EncodePublicKey};

use crate::algorithm::SignatureAlgorithm;
use crate::digest::Digest;

/// Why a public key was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// Not SPKI (RFC 5280) of this algorithm, or in a second spelling.
    #[error("not a public key of this algorithm in its one encoding")]
    Encoding,
    /// RSA outside 2048 to 4096 bits, or an Ed25519 key of small order.
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
                Key::Ed25519(Ed25519Key::from_public_key_der(der).map_err(encoding)?)
            }
            SignatureAlgorithm::EcdsaP256Sha256 => {
                Key::P256(P256Key::from_public_key_der(der).map_err(encoding)?)
            }
            SignatureAlgorithm::RsaSha256 | SignatureAlgorithm::RsaPssSha256 => {
                Key::Rsa(RsaPublicKey::from_public_key_der(der).map_err(encoding)?)
            }
            SignatureAlgorithm::HmacSha256 => return Err(PublicKeyError::Mac),
        };
        Self::checked(algorithm, key)
            .and_then(|key| if key.der == der { Ok(key) } else { Err(PublicKeyError::Encoding) })
    }

    /// From PEM (`-----BEGIN PUBLIC KEY-----`); surrounding white space is ignored.
    pub fn from_pem(algorithm: SignatureAlgorithm, pem: &str) -> Result<Self, PublicKeyError> {
        let (label, document) =
            spki::Document::from_pem(pem.trim_ascii()).map_err(|_| PublicKeyError::Encoding)?;
        if label == "PUBLIC KEY" {
            Self::from_der(algorithm, document.as_bytes())
        } else {
            Err(PublicKeyError::Encoding)
        }
    }

    /// From the 32 raw bytes of an Ed25519 key.
    pub fn from_ed25519_raw(raw: &[u8; 32]) -> Result<Self, PublicKeyError> {
        let key = Ed25519Key::from_bytes(raw).map_err(|_| PublicKeyError::Encoding)?;
        Self::checked(SignatureAlgorithm::Ed25519, Key::Ed25519(key))
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
        let number = rsa::BoxedUint::from_be_slice_vartime;
        let key =
            RsaPublicKey::new(number(modulus), number(exponent)).map_err(|_| PublicKeyError::Strength)?;
        Self::checked(algorithm, Key::Rsa(key))
    }

    fn checked(algorithm: SignatureAlgorithm, key: Key) -> Result<Self, PublicKeyError> {
        let strong = match &key {
            Key::Ed25519(key) => !key.is_weak(),
            Key::P256(_) => true,
            Key::Rsa(key) => (2048..=4096).contains(&(key.size() * 8)),
        };
        if !strong {
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
    /// Ed25519: RFC 8032 over the digest's bytes, `verify_strict` rules (canonical encodings, no small
    /// order). ECDSA: strict DER; both `s` and `n - s` verify, as FIPS 186-5 has it: the ledger binds the
    /// exact bytes, so malleability changes nothing here. RSA: exactly the modulus' length.
    pub fn verify(&self, digest: &Digest, signature: &[u8]) -> bool {
        let digest = digest.as_bytes();
        match (&self.key, self.algorithm) {
            (Key::Ed25519(key), _) => ed25519_dalek::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(digest, &signature).is_ok()),
            (Key::P256(key), _) => DerSignature::from_bytes(signature)
                .is_ok_and(|signature| key.verify_prehash(digest, &signature).is_ok()),
            (Key::Rsa(key), SignatureAlgorithm::RsaPssSha256) => {
                key.verify(Pss::<Sha256>::new_with_salt(32), digest, signature).is_ok()
            }
            (Key::Rsa(key), _) => key.verify(Pkcs1v15Sign::new::<Sha256>(), digest, signature).is_ok(),
        }
    }
}

/// Checks many Ed25519 signatures of one key over 32-byte digests in one equation:
/// `Σ zᵢsᵢ·B − Σ zᵢ·Rᵢ − (Σ zᵢkᵢ)·A = 0`, with 128-bit weights `zᵢ` hashed from the whole batch.
///
/// About four times faster than one by one. `true`: every signature verifies, up to 2^-128, with one
/// exception: somebody who holds the private key can craft signatures with a small-order component that
/// this accepts and `verify_strict` refuses. He could have signed properly instead, so nothing is gained;
/// where even that matters, verify one by one. `false`: at least one does not verify; ask each.
/// Refuses, as `verify_strict` does: non-canonical `s`, non-canonical or small-order `R`, small-order `A`.
pub fn verify_ed25519_batch(key: &[u8; 32], items: &[([u8; 32], [u8; 64])]) -> bool {
    let Some(public) = CompressedEdwardsY(*key).decompress().filter(|point| !point.is_small_order()) else {
        return false;
    };
    let Some(parsed) = items.iter().map(|item| parse_item(key, item)).collect::<Option<Vec<_>>>() else {
        return false;
    };
    let seed = batch_seed(key, items);
    let (mut base, mut own) = (Scalar::ZERO, Scalar::ZERO);
    let mut scalars = Vec::with_capacity(items.len() + 2);
    for (number, item) in (0u64..).zip(&parsed) {
        let weight = weight(&seed, number);
        base += weight * item.s;
        own += weight * item.k;
        scalars.push(-weight);
    }
    scalars.push(base);
    scalars.push(-own);
    let points = parsed.iter().map(|item| item.r);
    let fixed = [curve25519_dalek::constants::ED25519_BASEPOINT_POINT, public];
    EdwardsPoint::vartime_multiscalar_mul(scalars, points.chain(fixed)).is_identity()
}

/// A signature taken apart: `R`, `s`, and `k = SHA-512(R ‖ A ‖ M)`.
struct BatchItem {
    r: EdwardsPoint,
    s: Scalar,
    k: Scalar,
}

fn parse_item(key: &[u8; 32], (digest, signature): &([u8; 32], [u8; 64])) -> Option<BatchItem> {
    let (r_bytes, s_bytes) = signature.split_first_chunk::<32>()?;
    let s = Option::from(Scalar::from_canonical_bytes(s_bytes.try_into().ok()?))?;
    if !is_canonical_y(r_bytes) {
        return None;
    }
    let r = CompressedEdwardsY(*r_bytes).decompress().filter(|point| !point.is_small_order())?;
    let mut hasher = Sha512::new();
    hasher.update(r_bytes);
    hasher.update(key);
    hasher.update(digest);
    let k = Scalar::from_bytes_mod_order_wide(&hasher.finalize().into());
    Some(BatchItem { r, s, k })
}

/// Whether the y coordinate is below 2^255 - 19. (x = 0 with its sign bit set is small order, refused
/// elsewhere.)
fn is_canonical_y(bytes: &[u8; 32]) -> bool {
    let [first, middle @ .., last] = bytes;
    last & 0x7f != 0x7f || middle.iter().any(|byte| *byte != 0xff) || *first < 0xed
}

fn batch_seed(key: &[u8; 32], items: &[([u8; 32], [u8; 64])]) -> [u8; 64] {
    let mut hasher = Sha512::new();
    hasher.update(b"chancery ed25519 batch v1\n");
    hasher.update(key);
    for (digest, signature) in items {
        hasher.update(digest);
        hasher.update(signature);
    }
    hasher.finalize().into()
}

/// 128 bits, never zero.
fn weight(seed: &[u8; 64], number: u64) -> Scalar {
    let mut hasher = Sha256::new();
    hasher.update(seed);
    hasher.update(number.to_be_bytes());
    let hash: [u8; 32] = hasher.finalize().into();
    let (low, _) = hash.split_first_chunk::<16>().unwrap_or((&[1; 16], &[]));
    Scalar::from(u128::from_be_bytes(*low) | 1)
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a failed unwrap is the test's failure"
    )]
    use super::*;
    use ed25519_dalek::{Signer, SigningKey};

    fn batch(count: u8) -> ([u8; 32], Vec<([u8; 32], [u8; 64])>) {
        let signer = SigningKey::from_bytes(&[5; 32]);
        let items = (0..count).map(|n| ([n; 32], signer.sign(&[n; 32]).to_bytes())).collect();
        (signer.verifying_key().to_bytes(), items)
    }

    #[test]
    fn the_batch_agrees_with_one_by_one_on_every_flipped_bit() {
        let (key, good) = batch(5);
        let single = PublicKey::from_ed25519_raw(&key).unwrap();
        assert!(verify_ed25519_batch(&key, &good));
        assert!(verify_ed25519_batch(&key, &[]));
        for bit in 0..512 {
            let mut items = good.clone();
            items[2].1[bit / 8] ^= 1 << (bit % 8);
            assert!(!verify_ed25519_batch(&key, &items), "bit {bit}");
            assert!(!single.verify(&Digest::Sha256(items[2].0), &items[2].1));
        }
        let mut swapped = good.clone();
        swapped.swap(0, 1);
        assert!(verify_ed25519_batch(&key, &swapped));
        let digest = swapped[0].0;
        swapped[0].0 = swapped[1].0;
        swapped[1].0 = digest;
        assert!(!verify_ed25519_batch(&key, &swapped));
    }

    #[test]
    fn second_encodings_and_small_orders_are_refused() {
        let (key, mut items) = batch(2);
        // s + l encodes the same scalar.
        let order = hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010").unwrap();
        let mut carry = 0u16;
        for at in 0..32 {
            let sum = u16::from(items[0].1[32 + at]) + u16::from(order[at]) + carry;
            items[0].1[32 + at] = u8::try_from(sum & 0xff).unwrap();
            carry = sum >> 8;
        }
        assert!(!verify_ed25519_batch(&key, &items));
        // The identity as A, R and s = 0 satisfies the equation for every message.
        let mut identity = [0u8; 32];
        identity[0] = 1;
        let mut signature = [0u8; 64];
        signature[0] = 1;
        assert!(!verify_ed25519_batch(&identity, &[([9; 32], signature)]));
        assert!(PublicKey::from_ed25519_raw(&identity).is_err());
        assert!(!is_canonical_y(&[0xff; 32]));
        assert!(is_canonical_y(&[0x7f; 32]));
    }

    #[test]
    fn pem_has_one_spelling_and_knows_its_algorithm() {
        let (raw, items) = batch(1);
        let key = PublicKey::from_ed25519_raw(&raw).unwrap();
        let again = PublicKey::from_pem(SignatureAlgorithm::Ed25519, &key.to_pem()).unwrap();
        assert_eq!(again, key);
        assert!(again.verify(&Digest::Sha256(items[0].0), &items[0].1));
        for other in [
            SignatureAlgorithm::EcdsaP256Sha256,
            SignatureAlgorithm::RsaSha256,
            SignatureAlgorithm::HmacSha256,
        ] {
            assert!(PublicKey::from_pem(other, &key.to_pem()).is_err());
        }
    }
}
