//! The closed list of signature algorithms, by the names the registry publishes.

use std::fmt;
use std::str::FromStr;

use crate::digest::{Digest, HashAlgorithm};

/// What a key does to a digest. One key has one algorithm for ever.
///
/// | name | takes | signs | signature bytes |
/// |---|---|---|---|
/// | `ed25519` | any digest | its bytes as the message (RFC 8032, pure) | 64 |
/// | `ed25519ph` | `sha512` | its bytes as the message, which is hashed again (RFC 8032 §5.1, empty context), as AWS KMS does | 64 |
/// | `ecdsa-p256-sha256` | `sha256` | the digest, not hashed again (FIPS 186-5) | ASN.1 DER `SEQUENCE{r,s}` |
/// | `ecdsa-p384-sha384` | `sha384` | the same on P-384 | the same |
/// | `ecdsa-secp256k1-sha256` | `sha256` | the same on secp256k1 (SEC 2) | the same, `s` at most half the order |
/// | `rsa-sha256`, `-sha384`, `-sha512` | the named one | the digest in a DigestInfo, not hashed again (RFC 8017 §8.2, PKCS#1 v1.5) | modulus length |
/// | `rsa-pss-sha256`, `-sha384`, `-sha512` | the named one | the digest, not hashed again; MGF1 with the same hash, salt as long as the digest (RFC 8017 §8.1) | modulus length |
/// | `ml-dsa-44`, `ml-dsa-65` | any digest | its bytes as the message, empty context (FIPS 204 §5.2, pure) | 2420, 3309 |
/// | `hmac-sha256`, `-sha384`, `-sha512` | any digest, or a message | the message, or the digest's bytes as one (RFC 2104); cannot be verified by outsiders | 32, 48, 64 |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SignatureAlgorithm {
    /// RFC 8032 Ed25519, pure.
    Ed25519,
    /// RFC 8032 Ed25519ph over the bytes of a SHA-512 digest.
    Ed25519ph,
    /// ECDSA on P-256 over a SHA-256 digest.
    EcdsaP256Sha256,
    /// ECDSA on P-384 over a SHA-384 digest.
    EcdsaP384Sha384,
    /// ECDSA on secp256k1 over a SHA-256 digest, the lower of the two values of `s`.
    EcdsaSecp256k1Sha256,
    /// RSASSA-PKCS1-v1_5 over a SHA-256 digest, modulus 2048 to 4096 bits.
    RsaSha256,
    /// RSASSA-PKCS1-v1_5 over a SHA-384 digest.
    RsaSha384,
    /// RSASSA-PKCS1-v1_5 over a SHA-512 digest.
    RsaSha512,
    /// RSASSA-PSS over a SHA-256 digest, MGF1-SHA-256, salt of 32 bytes, modulus 2048 to 4096 bits.
    RsaPssSha256,
    /// RSASSA-PSS over a SHA-384 digest, MGF1-SHA-384, salt of 48 bytes.
    RsaPssSha384,
    /// RSASSA-PSS over a SHA-512 digest, MGF1-SHA-512, salt of 64 bytes.
    RsaPssSha512,
    /// ML-DSA-44, pure, empty context.
    MlDsa44,
    /// ML-DSA-65, pure, empty context.
    MlDsa65,
    /// HMAC-SHA-256.
    HmacSha256,
    /// HMAC-SHA-384.
    HmacSha384,
    /// HMAC-SHA-512.
    HmacSha512,
}

/// What kind of key an algorithm needs: all algorithms of a family can use the same key bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyFamily {
    /// A point on edwards25519.
    Ed25519,
    /// A point on NIST P-256.
    P256,
    /// A point on NIST P-384.
    P384,
    /// A point on secp256k1.
    Secp256k1,
    /// An RSA modulus and exponent.
    Rsa,
    /// ML-DSA-44.
    MlDsa44,
    /// ML-DSA-65.
    MlDsa65,
    /// Secret bytes for a MAC.
    Secret,
}

impl SignatureAlgorithm {
    /// Every algorithm, in the order of the table above.
    pub const ALL: [Self; 16] = [
        Self::Ed25519,
        Self::Ed25519ph,
        Self::EcdsaP256Sha256,
        Self::EcdsaP384Sha384,
        Self::EcdsaSecp256k1Sha256,
        Self::RsaSha256,
        Self::RsaSha384,
        Self::RsaSha512,
        Self::RsaPssSha256,
        Self::RsaPssSha384,
        Self::RsaPssSha512,
        Self::MlDsa44,
        Self::MlDsa65,
        Self::HmacSha256,
        Self::HmacSha384,
        Self::HmacSha512,
    ];

    /// The name in `signers.json`, leaves, replies and configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::Ed25519ph => "ed25519ph",
            Self::EcdsaP256Sha256 => "ecdsa-p256-sha256",
            Self::EcdsaP384Sha384 => "ecdsa-p384-sha384",
            Self::EcdsaSecp256k1Sha256 => "ecdsa-secp256k1-sha256",
            Self::RsaSha256 => "rsa-sha256",
            Self::RsaSha384 => "rsa-sha384",
            Self::RsaSha512 => "rsa-sha512",
            Self::RsaPssSha256 => "rsa-pss-sha256",
            Self::RsaPssSha384 => "rsa-pss-sha384",
            Self::RsaPssSha512 => "rsa-pss-sha512",
            Self::MlDsa44 => "ml-dsa-44",
            Self::MlDsa65 => "ml-dsa-65",
            Self::HmacSha256 => "hmac-sha256",
            Self::HmacSha384 => "hmac-sha384",
            Self::HmacSha512 => "hmac-sha512",
        }
    }

    /// The kind of key it needs.
    pub const fn family(self) -> KeyFamily {
        match self {
            Self::Ed25519 | Self::Ed25519ph => KeyFamily::Ed25519,
            Self::EcdsaP256Sha256 => KeyFamily::P256,
            Self::EcdsaP384Sha384 => KeyFamily::P384,
            Self::EcdsaSecp256k1Sha256 => KeyFamily::Secp256k1,
            Self::RsaSha256
            | Self::RsaSha384
            | Self::RsaSha512
            | Self::RsaPssSha256
            | Self::RsaPssSha384
            | Self::RsaPssSha512 => KeyFamily::Rsa,
            Self::MlDsa44 => KeyFamily::MlDsa44,
            Self::MlDsa65 => KeyFamily::MlDsa65,
            Self::HmacSha256 | Self::HmacSha384 | Self::HmacSha512 => KeyFamily::Secret,
        }
    }

    /// The hash inside the algorithm, where it has a choice of its own: that of a padding, of ECDSA's name
    /// or of a MAC.
    pub const fn hash(self) -> Option<HashAlgorithm> {
        match self {
            Self::Ed25519 | Self::MlDsa44 | Self::MlDsa65 => None,
            Self::EcdsaP256Sha256
            | Self::EcdsaSecp256k1Sha256
            | Self::RsaSha256
            | Self::RsaPssSha256
            | Self::HmacSha256 => Some(HashAlgorithm::Sha256),
            Self::EcdsaP384Sha384 | Self::RsaSha384 | Self::RsaPssSha384 | Self::HmacSha384 => {
                Some(HashAlgorithm::Sha384)
            }
            Self::Ed25519ph | Self::RsaSha512 | Self::RsaPssSha512 | Self::HmacSha512 => {
                Some(HashAlgorithm::Sha512)
            }
        }
    }

    /// The only digest algorithm it takes; `None` if it signs any digest's bytes as its message.
    pub const fn digest(self) -> Option<HashAlgorithm> {
        if self.is_mac() { None } else { self.hash() }
    }

    /// Whether it takes this digest: one of its only kind, or any; µ is taken by ML-DSA alone.
    pub const fn takes(self, digest: &Digest) -> bool {
        match (digest.hash(), self.digest()) {
            (None, _) => matches!(self, Self::MlDsa44 | Self::MlDsa65),
            (Some(_), None) => true,
            (Some(given), Some(wanted)) => given as u8 == wanted as u8,
        }
    }

    /// Whether the algorithm is a message authentication code: no public key, no outside verification.
    pub const fn is_mac(self) -> bool {
        matches!(self.family(), KeyFamily::Secret)
    }

    /// Whether it signs messages of any length as well as digests.
    pub const fn takes_messages(self) -> bool {
        self.digest().is_none()
    }

    /// Whether RSA pads by PSS rather than by PKCS#1 v1.5.
    pub const fn is_pss(self) -> bool {
        matches!(self, Self::RsaPssSha256 | Self::RsaPssSha384 | Self::RsaPssSha512)
    }

    /// Length of a signature in bytes, where the algorithm alone decides it.
    pub const fn signature_bytes(self) -> Option<usize> {
        match self {
            Self::Ed25519 | Self::Ed25519ph | Self::HmacSha512 => Some(64),
            Self::MlDsa44 => Some(2420),
            Self::MlDsa65 => Some(3309),
            Self::HmacSha256 => Some(32),
            Self::HmacSha384 => Some(48),
            _ => None,
        }
    }
}

/// The text names no algorithm of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown algorithm; one of {}", Self::known())]
pub struct UnknownAlgorithm;

impl UnknownAlgorithm {
    fn known() -> String {
        SignatureAlgorithm::ALL.map(SignatureAlgorithm::as_str).join(", ")
    }
}

impl FromStr for SignatureAlgorithm {
    type Err = UnknownAlgorithm;
    fn from_str(text: &str) -> Result<Self, UnknownAlgorithm> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == text).ok_or(UnknownAlgorithm)
    }
}

impl fmt::Display for SignatureAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for SignatureAlgorithm {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for SignatureAlgorithm {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
