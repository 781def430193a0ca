//! Ed25519 signatures made in this process, checked in groups: a third of the cost at sixteen.
//!
//! A request leaves its fresh signature here and lets the other requests that are ready go first. Whoever
//! comes back first checks everything that gathered, for all of them; so groups grow with load, nobody
//! waits for a timer, and an idle daemon checks one by one.
//!
//! The group's equation is `Σ z·(s·B − k·A − R) = 0` with 128-bit weights `z`, a hash of the whole group.
//! A wrong signature passes with probability 2^-128, except one made wrong on purpose by the holder of the
//! private key with points of small order. So only keys whose holder is this process are checked this way;
//! a device's signatures are checked one by one ([`SelfCheck::holds`]). If the group fails, each of it is
//! asked alone.

use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{Context, SHA512};
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{IsIdentity as _, VartimeMultiscalarMul as _};
use tokio::sync::oneshot;

use super::SelfCheck;

/// Below this many, asking each alone is cheaper.
const GROUP_MIN: usize = 3;

/// Signatures of one key that wait to be checked.
pub(crate) struct Together {
    public: [u8; 32],
    key: EdwardsPoint,
    /// At most one per request under way.
    waiting: Mutex<Vec<Waiting>>,
}

struct Waiting {
    message: [u8; 32],
    signature: [u8; 64],
    verdict: oneshot::Sender<bool>,
}

impl Together {
    /// `None` if `public` is no point.
    pub(crate) fn new(public: [u8; 32]) -> Option<Self> {
        let key = CompressedEdwardsY(public).decompress()?;
        Some(Self { public, key, waiting: Mutex::default() })
    }

    /// Whether the signature is this key's over these 32 bytes; `alone` checks one by one.
    pub(crate) async fn holds(&self, alone: &SelfCheck, message: [u8; 32], signature: &[u8]) -> bool {
        let Ok(signature) = signature.try_into() else { return false };
        let (verdict, told) = oneshot::channel();
        self.waiting().push(Waiting { message, signature, verdict });
        tokio::task::yield_now().await;
        self.settle(alone);
        // Either told above, or being checked by whoever came first. If that one panicked: no.
        told.await.unwrap_or(false)
    }

    /// Checks all that wait, and tells each. Does not pause, so nobody can be left without an answer.
    fn settle(&self, alone: &SelfCheck) {
        let group = std::mem::take(&mut *self.waiting());
        let all_hold = group.len() >= GROUP_MIN && self.equation_holds(&group);
        for Waiting { message, signature, verdict } in group {
            // Whoever does not listen any more went away.
            let _ = verdict.send(all_hold || alone.verifies(&message, &signature));
        }
    }

    fn equation_holds(&self, group: &[Waiting]) -> bool {
        let mut scalars = Vec::with_capacity(group.len() + 2);
        let mut points = Vec::with_capacity(group.len() + 2);
        let (mut of_base, mut of_key) = (Scalar::ZERO, Scalar::ZERO);
        for (item, z) in group.iter().zip(weights(&self.public, group)) {
            let Some((r, s, k)) = self.parts(item) else { return false };
            of_base += z * s;
            of_key -= z * k;
            scalars.push(-z);
            points.push(r);
        }
        scalars.extend([of_base, of_key]);
        points.extend([curve25519_dalek::constants::ED25519_BASEPOINT_POINT, self.key]);
        EdwardsPoint::vartime_multiscalar_mul(&scalars, &points).is_identity()
    }

    /// `R`, `s` and `k` (RFC 8032 §5.1.7); `None` if one is not in its one encoding or `R` has small order.
    fn parts(&self, item: &Waiting) -> Option<(EdwardsPoint, Scalar, Scalar)> {
        let (r_bytes, s_bytes) = item.signature.split_first_chunk::<32>()?;
        let s = Option::from(Scalar::from_canonical_bytes(s_bytes.try_into().ok()?))?;
        let r = CompressedEdwardsY(*r_bytes).decompress()?;
        let k = Scalar::from_bytes_mod_order_wide(&sha512(&[r_bytes, &self.public, &item.message]));
        (!super::has_small_order(&item.signature) && is_canonical(r_bytes)).then_some((r, s, k))
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether `y` is below 2^255 − 19.
fn is_canonical(point: &[u8; 32]) -> bool {
    let [first, middle @ .., last] = point;
    last & 0x7F != 0x7F || middle.iter().any(|byte| *byte != 0xFF) || *first < 0xED
}

/// One weight of 128 bits for each, out of a hash of everything: nobody can choose a group to fit its
/// weights.
fn weights(public: &[u8; 32], group: &[Waiting]) -> Vec<Scalar> {
    let mut everything = Context::new(&SHA512);
    everything.update(b"chancery group check v1\n");
    everything.update(public);
    for Waiting { message, signature, .. } in group {
        everything.update(message);
        everything.update(signature);
    }
    let seed = everything.finish();
    let mut weights = Vec::with_capacity(group.len() + 3);
    for block in 0..group.len().div_ceil(4) as u64 {
        let bits = sha512(&[seed.as_ref(), &block.to_be_bytes()]);
        weights.extend(bits.as_chunks::<16>().0.iter().map(|bits| Scalar::from(u128::from_be_bytes(*bits))));
    }
    weights
}

fn sha512(parts: &[&[u8]]) -> [u8; 64] {
    let mut hash = Context::new(&SHA512);
    parts.iter().for_each(|part| hash.update(part));
    let mut bytes = [0; 64];
    bytes.copy_from_slice(hash.finish().as_ref());
    bytes
}

#[cfg(test)]
mod tests;
