//! The closed list of signature algorithms, by the names the registry publishes.

use std::fmt;
use std::str::FromStr;

/// What a key does to a digest. One key has one algorithm for ever.
///
/// | name | signs | signature bytes |
/// |---|---|---|
/// | `ed25519` | the digest's bytes as its message (RFC 8032, pure) | 64 |
/// | `ecdsa-p256-sha256` | the digest, not hashed again (FIPS 186-5) | ASN.1 DER `SEQUENCE{r,s}` |
/// | `rsa-sha256` | the digest in a DigestInfo, not hashed again (RFC 8017 §8.2, PKCS#1 v1.5) | modulus length |
/// | `rsa-pss-sha256` | the digest, not hashed again; MGF1-SHA-256, salt 32 (RFC 8017 §8.1) | modulus length |
/// | `hmac-sha256` | the message given (RFC 2104); cannot be verified by outsiders | 32 |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SignatureAlgorithm {
    /// RFC 8032 Ed25519, pure.
    Ed25519,
    /// ECDSA on P-256 over a SHA-256 digest.
    EcdsaP256Sha256,
    /// RSASSA-PKCS1-v1_5 over a SHA-256 digest, modulus 2048 to 4096 bits.
    RsaSha256,
    /// RSASSA-PSS over a SHA-256 digest, MGF1-SHA-256, salt of 32 bytes, modulus 2048 to 4096 bits.
    RsaPssSha256,
    /// HMAC-SHA-256.
    HmacSha256,
}

impl SignatureAlgorithm {
    /// Every algorithm, in the order of the table above.
    pub const ALL: [Self; 5] =
        [Self::Ed25519, Self::EcdsaP256Sha256, Self::RsaSha256, Self::RsaPssSha256, Self::HmacSha256];

    /// The name in `signers.json`, leaves, replies and configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::EcdsaP256Sha256 => "ecdsa-p256-sha256",
            Self::RsaSha256 => "rsa-sha256",
            Self::RsaPssSha256 => "rsa-pss-sha256",
            Self::HmacSha256 => "hmac-sha256",
        }
    }

    /// Whether the algorithm is a message authentication code: no public key, no outside verification.
    pub const fn is_mac(self) -> bool {
        matches!(self, Self::HmacSha256)
    }
}

/// The text names no algorithm of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown algorithm; one of ed25519, ecdsa-p256-sha256, rsa-sha256, rsa-pss-sha256, hmac-sha256")]
pub struct UnknownAlgorithm;

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
