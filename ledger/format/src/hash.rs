//! Hashes, indices and sizes of the tree, each its own type so that none is taken for another.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// A SHA-256 value: a leaf hash, a node, a root, or a link of a stream's chain.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// SHA-256 of the parts, one after the other.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }

    /// Lower-case hex, 64 characters.
    pub fn to_hex(&self) -> String {
        let mut digits = [0; 64];
        // Twice the length, so it fits. `hex::encode` goes character by character, and every leaf has many.
        let fits = hex::encode_to_slice(self.0, &mut digits);
        debug_assert!(fits.is_ok());
        String::from_utf8_lossy(&digits).into_owned()
    }

    /// Reads 64 lower-case hex characters.
    pub fn from_hex(text: &str) -> Result<Self, HexError> {
        from_lower_hex(text).map(Self)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

/// Why a hex text was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HexError {
    /// Not the expected number of characters.
    #[error("wrong number of hexadecimal characters")]
    Length,
    /// A character outside `0-9a-f`. Upper case is refused so that one value has one spelling.
    #[error("not lower-case hexadecimal")]
    Alphabet,
}

/// Reads exactly `2·N` lower-case hex characters.
pub fn from_lower_hex<const N: usize>(text: &str) -> Result<[u8; N], HexError> {
    if text.bytes().any(|byte| !matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(HexError::Alphabet);
    }
    let mut bytes = [0u8; N];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| HexError::Length)?;
    Ok(bytes)
}

/// Position of a leaf, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeafIndex(pub u64);

/// Number of leaves of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TreeSize(pub u64);

impl TreeSize {
    /// Whether the tree holds the leaf at `index`.
    pub const fn covers(self, index: LeafIndex) -> bool {
        index.0 < self.0
    }
}

impl fmt::Display for LeafIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for TreeSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Size and root of a tree: what a checkpoint signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeHead {
    /// Number of leaves.
    pub size: TreeSize,
    /// RFC 6962 Merkle tree hash of those leaves.
    pub root: Hash,
}
