//! A digest whose length is right by construction. Chancery signs digests, never documents.

use crate::hash::{HexError, from_lower_hex};

/// A hash function of FIPS 180-4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HashAlgorithm {
    /// SHA-256, 32 bytes.
    Sha256,
    /// SHA-384, 48 bytes.
    Sha384,
    /// SHA-512, 64 bytes.
    Sha512,
}

impl HashAlgorithm {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    /// The name as `digestAlgorithm` carries it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// Length of its digests in bytes.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Reads the name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hash| hash.as_str() == text)
    }
}

/// The name in leaves of what ML-DSA itself makes of a message, µ (FIPS 204 algorithm 7, line 6).
const MU: &str = "ml-dsa-mu";

/// A digest together with the algorithm that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Digest {
    /// SHA-256, 32 bytes.
    Sha256([u8; 32]),
    /// SHA-384, 48 bytes.
    Sha384([u8; 48]),
    /// SHA-512, 64 bytes.
    Sha512([u8; 64]),
    /// µ of FIPS 204, 64 bytes: SHAKE256 over the hash of one ML-DSA public key and a message. Made outside, by
    /// whoever has the message; the signature over it is the key's pure signature over that message.
    Mu([u8; 64]),
}

/// Why a digest was refused. The caller is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// No such hash function here.
    #[error("unknown digestAlgorithm; one of \"sha256\", \"sha384\", \"sha512\"")]
    UnknownAlgorithm,
    /// Right alphabet, wrong length.
    #[error("a {} digest has {} hexadecimal characters, this has {got}", algorithm.as_str(), 2 * algorithm.bytes())]
    WrongLength {
        /// The algorithm named.
        algorithm: HashAlgorithm,
        /// Characters sent.
        got: usize,
    },
    /// Not lower-case hexadecimal.
    #[error("digest must be lower-case hexadecimal")]
    NotHex,
}

impl Digest {
    /// Of these bytes.
    pub fn of(algorithm: HashAlgorithm, bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        match algorithm {
            HashAlgorithm::Sha256 => Self::Sha256(sha2::Sha256::digest(bytes).into()),
            HashAlgorithm::Sha384 => Self::Sha384(sha2::Sha384::digest(bytes).into()),
            HashAlgorithm::Sha512 => Self::Sha512(sha2::Sha512::digest(bytes).into()),
        }
    }

    /// These bytes as a digest; `None` if they are not as long as one.
    pub fn from_bytes(algorithm: HashAlgorithm, bytes: &[u8]) -> Option<Self> {
        match algorithm {
            HashAlgorithm::Sha256 => bytes.try_into().ok().map(Self::Sha256),
            HashAlgorithm::Sha384 => bytes.try_into().ok().map(Self::Sha384),
            HashAlgorithm::Sha512 => bytes.try_into().ok().map(Self::Sha512),
        }
    }

    /// Reads `digestAlgorithm` and lower-case hex `digest` as a request carries them.
    pub fn parse(algorithm: &str, hex: &str) -> Result<Self, DigestError> {
        let algorithm = HashAlgorithm::parse(algorithm).ok_or(DigestError::UnknownAlgorithm)?;
        let digest = match algorithm {
            HashAlgorithm::Sha256 => from_lower_hex(hex).map(Self::Sha256),
            HashAlgorithm::Sha384 => from_lower_hex(hex).map(Self::Sha384),
            HashAlgorithm::Sha512 => from_lower_hex(hex).map(Self::Sha512),
        };
        digest.map_err(|error| match error {
            HexError::Length => DigestError::WrongLength { algorithm, got: hex.len() },
            HexError::Alphabet => DigestError::NotHex,
        })
    }

    /// Reads what a leaf says a key was applied to: a digest, or µ. `None` if it is neither.
    pub fn recorded(algorithm: &str, hex: &str) -> Option<Self> {
        match algorithm {
            MU => from_lower_hex(hex).ok().map(Self::Mu),
            hash => Self::parse(hash, hex).ok(),
        }
    }

    /// The hash function that made it; none made µ.
    pub const fn hash(&self) -> Option<HashAlgorithm> {
        match self {
            Self::Sha256(_) => Some(HashAlgorithm::Sha256),
            Self::Sha384(_) => Some(HashAlgorithm::Sha384),
            Self::Sha512(_) => Some(HashAlgorithm::Sha512),
            Self::Mu(_) => None,
        }
    }

    /// The name of the algorithm in leaves and replies.
    pub const fn algorithm(&self) -> &'static str {
        match self.hash() {
            Some(hash) => hash.as_str(),
            None => MU,
        }
    }

    /// The digest's bytes.
    pub const fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Sha256(bytes) => bytes,
            Self::Sha384(bytes) => bytes,
            Self::Sha512(bytes) | Self::Mu(bytes) => bytes,
        }
    }

    /// Lower-case hex.
    pub fn to_hex(&self) -> String {
        hex::encode(self.as_bytes())
    }
}
