//! One Ed25519 signature and the many messages it may be over: what the key costs is paid once, what the signature
//! costs is paid once, and a message costs a fraction of a verification.
//!
//! `verify_strict` wants `R = s·B − k·A`, and of that only `k` depends on the message. So `s·B − R` is found once and
//! held against `k·A`, which is a sum of 32 multiples of the key out of a table. Points are compared as points; that
//! encodings are the only ones there are is asked before, as in a batch.

use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::Identity;
use ed25519_dalek::VerifyingKey;
use sha2::{Digest as _, Sha512};

use super::ed25519_batch::{small_ys, take_apart};
use super::ed25519_key;

/// Multiples of the key for each byte of a scalar.
const PER_BYTE: usize = 256;

/// A key whose multiples are at hand: 1.3 MB.
pub struct Ed25519Search {
    key: VerifyingKey,
    small: [[u8; 32]; 8],
    /// For each byte of a scalar, the lowest first, what each of its values adds.
    multiples: Vec<EdwardsPoint>,
}

/// A signature taken apart.
pub struct Ed25519Tried<'a> {
    search: &'a Ed25519Search,
    r: [u8; 32],
    /// `s·B − R`.
    wanted: EdwardsPoint,
}

impl Ed25519Search {
    /// For a key's 32 bytes; `None` if they are none that [`PublicKey`](super::PublicKey) accepts.
    pub fn new(raw: &[u8; 32]) -> Option<Self> {
        let key = ed25519_key(raw).ok()?;
        let mut multiples = Vec::with_capacity(32 * PER_BYTE);
        let mut unit = key.to_edwards();
        for _ in 0..32 {
            let mut multiple = EdwardsPoint::identity();
            for _ in 0..PER_BYTE {
                multiples.push(multiple);
                multiple += unit;
            }
            unit = multiple;
        }
        Some(Self { key, small: small_ys(), multiples })
    }

    /// Takes a signature apart; `None` if it is one over no message at all.
    pub fn signature(&self, signature: &[u8]) -> Option<Ed25519Tried<'_>> {
        let (r, _) = signature.split_first_chunk::<32>()?;
        let (point, s) = take_apart(&self.small, signature.try_into().ok()?)?;
        Some(Ed25519Tried { search: self, r: *r, wanted: EdwardsPoint::mul_base(&s) - point })
    }
}

impl Ed25519Tried<'_> {
    /// Whether it is a signature over this message, by the rules of `verify_strict`.
    pub fn is_over(&self, message: &[u8]) -> bool {
        let hash = Sha512::new().chain_update(self.r).chain_update(self.search.key.as_bytes());
        let k = Scalar::from_bytes_mod_order_wide(&hash.chain_update(message).finalize().into());
        let rows = self.search.multiples.chunks_exact(PER_BYTE);
        let multiples = rows.zip(k.as_bytes()).filter_map(|(row, byte)| row.get(usize::from(*byte)));
        multiples.fold(EdwardsPoint::identity(), |sum, multiple| sum + multiple) == self.wanted
    }
}

impl std::fmt::Debug for Ed25519Search {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ed25519Search").field("key", &self.key).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Ed25519Tried<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ed25519Tried").field("key", &self.search.key).finish_non_exhaustive()
    }
}
