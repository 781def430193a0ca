//! Individual signatures, gathered by key and verified many at a time.
//!
//! Ed25519 signatures of one key go into one equation, which is four times faster than one by one. If it
//! does not hold, halves are tried until each bad signature stands alone, and only the strict single
//! check, never the equation, calls a signature bad.

use chancery_format::public_key::verify_ed25519_batch;
use chancery_format::{Digest, PublicKey};

use super::event::{Issued, Signature};
use super::survey::Mark;
use crate::findings::{Finding, Kind};
use crate::trust::{SignerId, Trust};

/// Signatures in one equation: beyond this it gets no cheaper.
const BATCH_MAX: usize = 4_096;
/// Signatures in one job when each is checked alone.
const SINGLES_MAX: usize = 64;
/// Ed25519 signatures waiting over all keys: bounds memory when there are thousands of keys.
const WAITING_MAX: usize = 32_768;

/// A SHA-256 digest and the Ed25519 signature over it.
type Item = ([u8; 32], [u8; 64]);
/// A digest and the signature over it, checked alone.
type Single = (Digest, Box<[u8]>);

/// Signatures of one key, ready to verify.
#[derive(Debug)]
pub(crate) struct SignatureJob {
    signer: SignerId,
    /// Index of the entry each is in.
    indices: Vec<u64>,
    /// How each was counted, if it was; the same order.
    marks: Vec<Option<Mark>>,
    work: Work,
}

#[derive(Debug)]
enum Work {
    Ed25519 { items: Vec<Item>, strict: bool },
    Alone(Vec<Single>),
}

/// What became of a job.
#[derive(Debug)]
pub(crate) struct SignatureReport {
    pub(crate) signer: SignerId,
    pub(crate) verified: u64,
    pub(crate) findings: Vec<Finding>,
    /// Those that do not verify and were counted: where, and how.
    pub(crate) counted: Vec<(u64, Mark)>,
}

/// What waits of one key: Ed25519 over SHA-256 digests for an equation, everything else to be checked alone.
#[derive(Debug, Default)]
struct Waiting {
    together: (Vec<Place>, Vec<Item>),
    alone: (Vec<Place>, Vec<Single>),
}

/// Where a signature is, and how it was counted.
type Place = (u64, Option<Mark>);

impl Waiting {
    fn len(&self) -> usize {
        self.together.0.len() + self.alone.0.len()
    }

    /// Whether that list is now long enough for a job.
    fn add_alone(&mut self, index: Place, digest: Digest, signature: Box<[u8]>) -> bool {
        self.alone.0.push(index);
        self.alone.1.push((digest, signature));
        self.alone.0.len() >= SINGLES_MAX
    }
}

/// Gathers signatures by key.
#[derive(Debug)]
pub(crate) struct Gathering {
    strict: bool,
    by_signer: Vec<Waiting>,
    waiting: usize,
    /// MACs seen: nobody outside can verify them.
    pub(crate) macs: u64,
    /// Signatures over messages that are not on the ledger.
    pub(crate) over_messages: u64,
}

impl Gathering {
    pub(crate) fn new(trust: &Trust, strict: bool) -> Self {
        let by_signer = (0..trust.signer_count()).map(|_| Waiting::default()).collect();
        Self { strict, by_signer, waiting: 0, macs: 0, over_messages: 0 }
    }

    /// Adds one; gives a job when enough of its key have come together.
    pub(crate) fn add(&mut self, index: u64, issued: Issued, mark: Option<Mark>) -> Option<SignatureJob> {
        let waiting = self.by_signer.get_mut(issued.signer.0)?;
        let full = match (issued.signature, issued.digest) {
            (Signature::Mac, _) => {
                self.macs += 1;
                return None;
            }
            (Signature::OverMessage, _) => {
                self.over_messages += 1;
                return None;
            }
            (Signature::Ed25519(bytes), Digest::Sha256(digest)) => {
                waiting.together.0.push((index, mark));
                waiting.together.1.push((digest, bytes));
                waiting.together.0.len() >= if self.strict { SINGLES_MAX } else { BATCH_MAX }
            }
            (Signature::Ed25519(bytes), digest) => waiting.add_alone((index, mark), digest, bytes.into()),
            (Signature::Other(bytes), digest) => waiting.add_alone((index, mark), digest, bytes),
        };
        self.waiting += 1;
        if full {
            return self.take(issued.signer);
        }
        if self.waiting >= WAITING_MAX {
            let longest = self.by_signer.iter().enumerate().max_by_key(|(_, waiting)| waiting.len())?.0;
            return self.take(SignerId(longest));
        }
        None
    }

    /// Everything still waiting: two jobs a key at most.
    pub(crate) fn finish(&mut self) -> Vec<SignatureJob> {
        (0..2 * self.by_signer.len()).filter_map(|at| self.take(SignerId(at / 2))).collect()
    }

    /// The longer of the key's two lists.
    fn take(&mut self, signer: SignerId) -> Option<SignatureJob> {
        let waiting = self.by_signer.get_mut(signer.0)?;
        let strict = self.strict;
        let (places, work) = if waiting.together.0.len() >= waiting.alone.0.len() {
            let (places, items) = std::mem::take(&mut waiting.together);
            (places, Work::Ed25519 { items, strict })
        } else {
            let (places, items) = std::mem::take(&mut waiting.alone);
            (places, Work::Alone(items))
        };
        self.waiting -= places.len();
        let (indices, marks): (Vec<_>, Vec<_>) = places.into_iter().unzip();
        (!indices.is_empty()).then_some(SignatureJob { signer, indices, marks, work })
    }
}

/// Verifies one job, on any thread.
pub(crate) fn verify(trust: &Trust, job: &SignatureJob) -> SignatureReport {
    let signer = trust.signer(job.signer);
    let mut bad = Vec::new();
    match (&job.work, &signer.key) {
        (Work::Ed25519 { items, strict }, Some(key)) => {
            find_bad(key, *strict, &job.indices, items, &mut bad);
        }
        (Work::Alone(items), Some(key)) => {
            let fails = |(digest, bytes): &Single| !key.verify(digest, bytes);
            bad = job.indices.iter().zip(items).filter(|(_, item)| fails(item)).map(|(i, _)| *i).collect();
        }
        (_, None) => bad.clone_from(&job.indices),
    }
    let message = |index| {
        let message = format!("signature of {} does not verify", signer.name());
        Finding::entry(Kind::SignatureInvalid, index, message)
    };
    let verified = (job.indices.len() - bad.len()) as u64;
    let is_bad = |index: &u64| bad.binary_search(index).is_ok();
    let places = job.indices.iter().zip(&job.marks).filter(|(index, _)| !bad.is_empty() && is_bad(index));
    let counted = places.filter_map(|(index, mark)| Some((*index, (*mark)?))).collect();
    let findings = bad.iter().copied().map(message).collect();
    SignatureReport { signer: job.signer, verified, findings, counted }
}

/// Indices of the signatures that do not verify.
pub(crate) fn find_bad(key: &PublicKey, strict: bool, indices: &[u64], items: &[Item], bad: &mut Vec<u64>) {
    if let ([index], [(digest, bytes)]) = (indices, items) {
        if !key.verify(&Digest::Sha256(*digest), bytes) {
            bad.push(*index);
        }
        return;
    }
    let holds = || key.ed25519_raw().is_some_and(|raw| verify_ed25519_batch(&raw, items));
    if items.is_empty() || (!strict && holds()) {
        return;
    }
    let middle = items.len() / 2;
    let ((indices, indices_after), (items, items_after)) = (indices.split_at(middle), items.split_at(middle));
    find_bad(key, strict, indices, items, bad);
    find_bad(key, strict, indices_after, items_after, bad);
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;
    use ed25519_dalek::{Signer as _, SigningKey};

    #[test]
    fn every_bad_signature_is_named_and_no_good_one() {
        let signing = SigningKey::from_bytes(&[3; 32]);
        let key = PublicKey::from_ed25519_raw(signing.verifying_key().as_bytes()).unwrap();
        let indices: Vec<u64> = (1_000..1_037).collect();
        for strict in [false, true] {
            for wrong in [vec![], vec![0], vec![36], vec![5, 6, 30], (0..37).collect::<Vec<_>>()] {
                let items: Vec<Item> = (0u8..37)
                    .map(|n| {
                        let digest = [n; 32];
                        let mut bytes = signing.sign(&digest).to_bytes();
                        if wrong.contains(&usize::from(n)) {
                            *bytes.last_mut().unwrap() ^= 1;
                        }
                        (digest, bytes)
                    })
                    .collect();
                let mut bad = Vec::new();
                find_bad(&key, strict, &indices, &items, &mut bad);
                let expected: Vec<u64> = wrong.iter().map(|at| 1_000 + *at as u64).collect();
                assert_eq!(bad, expected);
            }
        }
    }
}
