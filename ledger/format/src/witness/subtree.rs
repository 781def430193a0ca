//! `POST …/sign-subtree`: a witness' cosignature over a part of a tree that it has cosigned.
//!
//! The checkpoint proves by the witness' own line that its tree was found consistent, and the subtree consistency
//! proof that the part is one of that tree. So nothing is asked of what the witness has stored, and nothing is
//! stored. Only ML-DSA-44 can say this; the line tells no time.
//!
//! Cosignatures of the subtree by others, which a request may carry for witnesses that want them, are bounded and
//! otherwise ignored. A checkpoint without signatures, which a witness that knows it from elsewhere could take, is
//! refused as not cosigned.

use super::{
    Checkpoint, CosignerKey, Hash, Note, Origin, PROOF_HASHES_MAX, REQUEST_BYTES_MAX, Refusal, RequestError,
    decimal, hash_line,
};
use crate::cosignature::{CosignedAt, cosignatures};
use crate::entry::encode_base64;
use crate::merkle::{Subtree, verify_subtree};

#[cfg(test)]
mod tests;

/// Most cosignatures of the subtree that a request may carry.
const COSIGNATURES_MAX: usize = 8;
/// Such a line begins with this; no line in base64 does.
const SIGNATURE: &str = "\u{2014} ";

/// A request to cosign a subtree; nothing in it is proven until [`decide_subtree`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignSubtree {
    start: u64,
    end: u64,
    root: Hash,
    proof: Vec<Hash>,
    claimed: Checkpoint,
    note: String,
}

impl SignSubtree {
    /// A request for the subtree with this root, with the proof that it is part of the tree of `note`, which the
    /// witness has cosigned.
    pub fn new(subtree: Subtree, root: Hash, proof: Vec<Hash>, note: &str) -> Result<Self, RequestError> {
        Self::of((subtree.start(), subtree.end()), root, proof, note)
    }

    fn of((start, end): (u64, u64), root: Hash, proof: Vec<Hash>, note: &str) -> Result<Self, RequestError> {
        let bad = RequestError::Malformed;
        // Without signatures it is the text alone, without an empty line.
        let text = if note.contains("\n\n") { Note::parse(note).map_err(|_| bad)?.text } else { note };
        let claimed = Checkpoint::parse(text).ok_or(bad)?;
        if proof.len() > PROOF_HASHES_MAX {
            return Err(bad);
        }
        let request = Self { start, end, root, proof, claimed, note: note.to_owned() };
        if request.to_body().len() > REQUEST_BYTES_MAX { Err(RequestError::TooLarge) } else { Ok(request) }
    }

    /// Reads a request's body.
    pub fn parse(body: &[u8]) -> Result<Self, RequestError> {
        if body.len() > REQUEST_BYTES_MAX {
            return Err(RequestError::TooLarge);
        }
        let bad = RequestError::Malformed;
        let body = std::str::from_utf8(body).map_err(|_| bad)?;
        let (head, note) = body.split_once("\n\n").ok_or(bad)?;
        let mut lines = head.split('\n').peekable();
        let range = lines.next().and_then(|line| line.strip_prefix("subtree ")).ok_or(bad)?;
        let (start, end) = range.split_once(' ').ok_or(bad)?;
        let range = decimal(start).zip(decimal(end)).ok_or(bad)?;
        let root = lines.next().and_then(hash_line).ok_or(bad)?;
        let mut others = 0;
        while lines.next_if(|line| line.starts_with(SIGNATURE)).is_some() {
            others += 1;
        }
        if others > COSIGNATURES_MAX {
            return Err(bad);
        }
        let proof = lines.map(hash_line).take(PROOF_HASHES_MAX + 1).collect::<Option<_>>().ok_or(bad)?;
        Self::of(range, root, proof, note)
    }

    /// The request's body, without cosignatures of others.
    pub fn to_body(&self) -> String {
        let hashes: String = self.proof.iter().map(|hash| encode_base64(&hash.0) + "\n").collect();
        let root = encode_base64(&self.root.0);
        format!("subtree {} {}\n{root}\n{hashes}\n{}", self.start, self.end, self.note)
    }

    /// The origin the checkpoint claims, by which the witness knows whether it witnesses that log.
    pub const fn origin(&self) -> &Origin {
        self.claimed.origin()
    }

    /// Root of the subtree, as claimed.
    pub const fn root(&self) -> &Hash {
        &self.root
    }

    /// The checkpoint, as claimed.
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.claimed
    }
}

/// Whether a witness with these keys cosigns, for a log that it knows. If it does, it signs
/// [`CosignerKey::subtree_message`] and answers 200 with the line, which tells no time.
pub fn decide_subtree(request: &SignSubtree, keys: &[CosignerKey]) -> Result<Subtree, Refusal> {
    let head = request.claimed.head();
    let subtree = Subtree::new(request.start, request.end).ok_or(Refusal::Subtree)?;
    if subtree.end() > head.size.0 {
        return Err(Refusal::Subtree);
    }
    let note = Note::parse(&request.note).map_err(|_| Refusal::NotCosigned)?;
    let ours = cosignatures(&note, &request.claimed, keys).map_err(|_| Refusal::NotCosigned)?;
    // A line of ours without a time is over a subtree that begins with the tree; it is no checkpoint's.
    if !ours.iter().any(|(_, ours)| ours.timestamp != CosignedAt::UNSTATED) {
        return Err(Refusal::NotCosigned);
    }
    verify_subtree(subtree, &request.root, &head, &request.proof).map_err(|_| Refusal::Consistency)?;
    Ok(subtree)
}
