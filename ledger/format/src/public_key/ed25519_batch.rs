//! Many Ed25519 signatures of one key, checked together: a fraction of the cost, the same verdict.
//!
//! For each signature let `D = s·B − k·A − R`; `verify_strict` wants every `D` to be zero. Here the same
//! is asked of 128 random subsets: `Σ D = 0` over each. If any `D` is not zero, a random subset's sum is
//! zero with probability at most one half, in any group. So a batch passes with a bad signature in it
//! with probability at most 2^-128 (the random subset test of Bellare, Garay and Rabin, 1998).
//!
//! The usual equation with weights, `Σ z·D = 0`, costs a little less in large batches, but is sound only in a
//! group of prime order: a signer can add a point of order 2 to `R`, which an even weight hides, and
//! then the batch says yes where one by one says no. Subset sums do not have that gap; each is checked
//! without the cofactor, as `verify_strict` does.
//!
//! The subsets are a hash of the whole batch, so nobody can choose a batch to fit its subsets, and the
//! verdict is the same on every run.

use curve25519_dalek::constants::EIGHT_TORSION;
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::Identity;
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest as _, Sha512};

use super::ed25519_key;

#[cfg(test)]
pub(super) mod tests;

/// Below this many signatures the 128 subset checks cost more than checking one by one.
const ONE_BY_ONE_BELOW: usize = 192;

/// Membership of one signature in each of the 128 subsets, one bit per subset.
type Subsets = [u8; 16];

/// Whether every signature is one by `key` over its 32-byte digest, by the rules of `verify_strict`:
/// canonical `s` and `R`, neither `R` nor the key of small order, and `R = s·B − k·A` exactly.
///
/// `true`: each of them verifies, up to 2^-128. `false`: at least one does not, or the key is none that
/// [`PublicKey`](super::PublicKey) accepts; ask each to learn which. An empty batch is true. Batches of
/// about 16,000 are cheapest per signature; memory is about 250 bytes per signature.
pub fn verify_ed25519_batch(key: &[u8; 32], items: &[([u8; 32], [u8; 64])]) -> bool {
    let Ok(key) = ed25519_key(key) else { return false };
    if items.len() < ONE_BY_ONE_BELOW {
        return items.iter().all(|(digest, signature)| verify_one(&key, digest, signature));
    }
    let small = small_ys();
    let terms = items.iter().map(|item| Sums::of(&key, &small, item));
    let Some(terms) = terms.collect::<Option<Vec<_>>>() else {
        return false;
    };
    all_subsets_hold(&key, &terms, &choose_subsets(&key, items))
}

/// `verify_strict` of one signature.
pub(super) fn verify_one(key: &VerifyingKey, message: &[u8], signature: &[u8]) -> bool {
    Signature::from_slice(signature).is_ok_and(|signature| key.verify_strict(message, &signature).is_ok())
}

/// `R`, `s` and `k = SHA-512(R ‖ A ‖ M)` of one signature, or their sums over several.
#[derive(Clone)]
struct Sums {
    r: EdwardsPoint,
    s: Total,
    k: Total,
}

/// A sum of scalars that is not reduced yet: 64-bit words, the lowest first. Reducing costs more than adding, and
/// five words hold the sum of 2^67 scalars.
#[derive(Clone, Copy, Default)]
struct Total([u64; 5]);

impl Total {
    fn add(&mut self, other: &Self) {
        let mut carry = 0;
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            let sum = u128::from(*word) + u128::from(*other) + carry;
            // The lower half of it.
            *word = u64::try_from(sum & u128::from(u64::MAX)).unwrap_or_default();
            carry = sum >> 64;
        }
    }

    fn reduced(&self) -> Scalar {
        let mut bytes = [0; 64];
        let words = self.0.iter().flat_map(|word| word.to_be_bytes().into_iter().rev());
        bytes.iter_mut().zip(words).for_each(|(byte, of_word)| *byte = of_word);
        Scalar::from_bytes_mod_order_wide(&bytes)
    }
}

impl From<Scalar> for Total {
    fn from(scalar: Scalar) -> Self {
        let mut total = Self::default();
        let (words, _) = scalar.as_bytes().as_chunks::<8>();
        for (word, bytes) in total.0.iter_mut().zip(words) {
            *word = u64::from_be_bytes(*bytes).swap_bytes();
        }
        total
    }
}

impl Sums {
    fn zero() -> Self {
        Self { r: EdwardsPoint::identity(), s: Total::default(), k: Total::default() }
    }

    /// Takes a signature apart; `None` if `verify_strict` would refuse it for its encoding alone.
    fn of(
        key: &VerifyingKey,
        small: &[[u8; 32]; 8],
        (digest, signature): &([u8; 32], [u8; 64]),
    ) -> Option<Self> {
        let (r, s) = take_apart(small, signature)?;
        let (r_bytes, _) = signature.split_first_chunk::<32>()?;
        let hash = Sha512::new().chain_update(r_bytes).chain_update(key.as_bytes()).chain_update(digest);
        let k = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
        Some(Self { r, s: s.into(), k: k.into() })
    }

    fn add(&mut self, other: &Self) {
        self.r += other.r;
        self.s.add(&other.s);
        self.k.add(&other.k);
    }
}

/// Whether the y coordinate is below 2^255 − 19. The other second spelling, x = 0 with its sign bit set,
/// is a point of small order.
pub(super) fn is_canonical_y(bytes: &[u8; 32]) -> bool {
    let [first, middle @ .., last] = bytes;
    last & 0x7f != 0x7f || middle.iter().any(|byte| *byte != 0xff) || *first < 0xed
}

/// `R` and `s` of a signature; `None` if `verify_strict` would refuse it for its encoding or a small `R`.
pub(super) fn take_apart(small: &[[u8; 32]; 8], signature: &[u8; 64]) -> Option<(EdwardsPoint, Scalar)> {
    let (r, s) = signature.split_first_chunk::<32>()?;
    let s = Option::<Scalar>::from(Scalar::from_canonical_bytes(s.try_into().ok()?))?;
    if !is_canonical_y(r) || small.contains(&y(r)) {
        return None;
    }
    Some((CompressedEdwardsY(*r).decompress()?, s))
}

/// What y is of each of the eight points of small order. Of a point and its negative it is the same, so a canonical
/// y among these is that of a point of small order, whatever its sign bit says.
pub(super) fn small_ys() -> [[u8; 32]; 8] {
    EIGHT_TORSION.map(|point| y(point.compress().as_bytes()))
}

/// An encoded point without its sign bit.
fn y(encoded: &[u8; 32]) -> [u8; 32] {
    let mut y = *encoded;
    if let Some(last) = y.last_mut() {
        *last &= 0x7f;
    }
    y
}

/// 128 bits per signature out of a hash of everything.
fn choose_subsets(key: &VerifyingKey, items: &[([u8; 32], [u8; 64])]) -> Vec<Subsets> {
    let mut hasher = Sha512::new();
    hasher.update(b"chancery ed25519 batch v1\n");
    hasher.update(key.as_bytes());
    for (digest, signature) in items {
        hasher.update(digest);
        hasher.update(signature);
    }
    let seed = hasher.finalize();
    let mut subsets = Vec::with_capacity(items.len() + 3);
    for block in 0..items.len().div_ceil(4) as u64 {
        let bits = Sha512::new().chain_update(seed).chain_update(block.to_be_bytes()).finalize();
        subsets.extend(bits.as_chunks::<16>().0);
    }
    subsets
}

/// The subsets eight at a time. Signatures with the same eight membership bits are added up once, in one
/// of 256 buckets; halving the buckets bit by bit then gives the eight sums.
fn all_subsets_hold(key: &VerifyingKey, terms: &[Sums], subsets: &[Subsets]) -> bool {
    let minus_key = -key.to_edwards();
    (0..size_of::<Subsets>()).all(|byte| {
        let mut buckets = vec![Sums::zero(); 256];
        for (term, bits) in terms.iter().zip(subsets) {
            let bucket = bits.get(byte).and_then(|bits| buckets.get_mut(usize::from(*bits)));
            if let Some(bucket) = bucket {
                bucket.add(term);
            }
        }
        buckets_hold(&minus_key, &mut buckets)
    })
}

/// Checks the sum over each bit of the bucket number, highest bit first.
fn buckets_hold(minus_key: &EdwardsPoint, buckets: &mut [Sums]) -> bool {
    let mut rest = buckets;
    while rest.len() > 1 {
        let (without, with) = rest.split_at_mut(rest.len() / 2);
        let mut sum = Sums::zero();
        for (lower, upper) in without.iter_mut().zip(with.iter()) {
            sum.add(upper);
            lower.add(upper);
        }
        let expected =
            EdwardsPoint::vartime_double_scalar_mul_basepoint(&sum.k.reduced(), minus_key, &sum.s.reduced());
        if expected != sum.r {
            return false;
        }
        rest = without;
    }
    true
}
