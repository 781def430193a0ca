//! A digest whose length is right by construction. Chancery signs digests, never documents.

use crate::hash::{HexError, from_lower_hex};

/// A digest together with the algorithm that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Digest {
    /// SHA-256, 32 bytes.
    Sha256([u8; 32]),
}

/// Why a digest was refused. The caller is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// Only `sha256` is known.
    #[error("unknown digestAlgorithm; only \"sha256\" is supported")]
    UnknownAlgorithm,
    /// Right alphabet, wrong length.
    #[error("a sha256 digest has 64 hexadecimal characters, this has {0}")]
    WrongLength(usize),
    /// Not lower-case hexadecimal.
    #[error("digest must be lower-case hexadecimal")]
    NotHex,
}

impl Digest {
    /// Reads `digestAlgorithm` and lower-case hex `digest` as a request carries them.
    pub fn parse(algorithm: &str, hex: &str) -> Result<Self, DigestError> {
        if algorithm != "sha256" {
            return Err(DigestError::UnknownAlgorithm);
        }
        match from_lower_hex::<32>(hex) {
            Ok(bytes) => Ok(Self::Sha256(bytes)),
            Err(HexError::Length) => Err(DigestError::WrongLength(hex.len())),
            Err(HexError::Alphabet) => Err(DigestError::NotHex),
        }
    }

    /// The name of the algorithm in leaves and replies.
    pub const fn algorithm(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "sha256",
        }
    }

    /// The digest's bytes.
    pub const fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Sha256(bytes) => bytes,
        }
    }

    /// Lower-case hex.
    pub fn to_hex(&self) -> String {
        hex::encode(self.as_bytes())
    }
}
