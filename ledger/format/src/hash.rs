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
    // Without a branch for each character: rows and leaves are full of hashes.
    const NO_DIGIT: u8 = 0xff;
    const DIGITS: [u8; 256] = {
        let mut digits = [NO_DIGIT; 256];
        let mut value = 0;
        while value < 16 {
            #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which would refuse")]
            {
                digits[b"0123456789abcdef"[value] as usize] = value as u8;
            }
            value += 1;
        }
        digits
    };
    let value = |digit: u8| DIGITS.get(usize::from(digit)).copied().unwrap_or(NO_DIGIT);
    let mut bytes = [0u8; N];
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let mut wrong = rest.iter().fold(0, |wrong, digit| wrong | value(*digit));
    let mut places = bytes.iter_mut();
    for [high, low] in pairs {
        let (high, low) = (value(*high), value(*low));
        wrong |= high | low;
        if let Some(place) = places.next() {
            *place = high << 4 | low & 15;
        }
    }
    match wrong & 0xf0 {
        0 if text.len() == 2 * N => Ok(bytes),
        0 => Err(HexError::Length),
        _ => Err(HexError::Alphabet),
    }
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
