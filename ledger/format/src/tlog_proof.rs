//! C2SP tlog-proof: the `.tlog-proof` file, which proves one entry without the ledger and without us.
//!
//! It holds the entry's index, its inclusion proof, and the checkpoint with whatever cosignatures it has. The
//! entry itself travels separately: who verifies brings its leaf hash. `extra` is the bearer's, and nothing
//! authenticates it. A proof is verified from the outside in: the log and its signature, the witnesses, and
//! only then the inclusion. Refused: a second spelling of anything, and an empty `extra`.

use std::fmt;

use crate::checkpoint::{Checkpoint, CheckpointError, VerifiedCheckpoint};
use crate::cosignature::CosignedAt;
use crate::entry::{decode_base64, encode_base64};
use crate::hash::{Hash, LeafIndex};
use crate::log_key::LogKey;
use crate::merkle::{ProofError, verify_inclusion};
use crate::names::Origin;
use crate::note::NOTE_BYTES_MAX;
use crate::policy::{Policy, PolicyRefusal};
use crate::witness::{PROOF_HASHES_MAX, decimal, hash_line};

#[cfg(test)]
mod tests;

/// Most `extra` bytes: their line stays below the 64 KiB at which Go's reader gives up.
pub const EXTRA_BYTES_MAX: usize = 32 * 1024;
/// Largest proof read, in bytes: the largest note, `extra` and 63 hashes fit.
pub const TLOG_PROOF_BYTES_MAX: usize = NOTE_BYTES_MAX + 2 * EXTRA_BYTES_MAX;

const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// Why a proof was refused. Whoever supplied it is at fault; retrying cannot help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TlogProofError {
    /// Larger than [`TLOG_PROOF_BYTES_MAX`], or `extra` larger than [`EXTRA_BYTES_MAX`].
    #[error("proof is too large")]
    TooLarge,
    /// Not the format's lines, each in its one spelling.
    #[error("not a tlog-proof")]
    Malformed,
    /// The checkpoint is not the log's.
    #[error("proof's checkpoint: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The policy does not accept the checkpoint.
    #[error("proof's checkpoint: {0}")]
    Policy(#[from] PolicyRefusal),
    /// The hashes do not lead from the leaf to the checkpoint's root.
    #[error("proof's hashes: {0}")]
    Inclusion(#[from] ProofError),
}

/// A proof as read or made; nothing is proven until [`TlogProof::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlogProof {
    extra: Option<Vec<u8>>,
    index: LeafIndex,
    proof: Vec<Hash>,
    note: String,
}

impl TlogProof {
    /// Of the leaf at `index`, by a proof that leads to the root of the checkpoint in `note`.
    pub fn new(index: LeafIndex, proof: Vec<Hash>, note: &str) -> Result<Self, TlogProofError> {
        let made = Self::unchecked(index, proof, note.to_owned());
        if made.proof.len() > PROOF_HASHES_MAX { Err(TlogProofError::Malformed) } else { Ok(made) }
    }

    /// Of a receipt, whose parts are checked when it is.
    pub(crate) const fn unchecked(index: LeafIndex, proof: Vec<Hash>, note: String) -> Self {
        Self { extra: None, index, proof, note }
    }

    /// The same with bytes of the bearer's, at least one.
    pub fn with_extra(self, extra: Vec<u8>) -> Result<Self, TlogProofError> {
        match extra.len() {
            0 => Err(TlogProofError::Malformed),
            1..=EXTRA_BYTES_MAX => Ok(Self { extra: Some(extra), ..self }),
            _ => Err(TlogProofError::TooLarge),
        }
    }

    /// Reads a file.
    pub fn parse(file: &str) -> Result<Self, TlogProofError> {
        if file.len() > TLOG_PROOF_BYTES_MAX {
            return Err(TlogProofError::TooLarge);
        }
        Self::read(file).filter(|read| read.to_string() == file).ok_or(TlogProofError::Malformed)?.checked()
    }

    fn read(file: &str) -> Option<Self> {
        let (head, note) = file.split_once("\n\n")?;
        let mut lines = head.split('\n').peekable();
        if lines.next()? != HEADER {
            return None;
        }
        let extra = match lines.peek()?.strip_prefix("extra ") {
            Some(extra) => {
                lines.next();
                Some(decode_base64(extra)?)
            }
            None => None,
        };
        let index = LeafIndex(decimal(lines.next()?.strip_prefix("index ")?)?);
        let proof = lines.take(PROOF_HASHES_MAX + 1).map(hash_line).collect::<Option<_>>()?;
        Some(Self { extra, index, proof, note: note.to_owned() })
    }

    /// What the constructors check, for what was read.
    fn checked(mut self) -> Result<Self, TlogProofError> {
        let extra = self.extra.take();
        let made = Self::new(self.index, self.proof, &self.note)?;
        match extra {
            Some(extra) => made.with_extra(extra),
            None => Ok(made),
        }
    }

    /// Where the leaf is, as claimed.
    pub const fn index(&self) -> LeafIndex {
        self.index
    }

    /// From the leaf's sibling to the root's child.
    pub fn proof(&self) -> &[Hash] {
        &self.proof
    }

    /// The checkpoint's note.
    pub fn note(&self) -> &str {
        &self.note
    }

    /// The bearer's bytes. Nothing authenticates them.
    pub fn extra(&self) -> Option<&[u8]> {
        self.extra.as_deref()
    }

    /// Checks that a log of the policy has this leaf at [`TlogProof::index`], under a checkpoint that enough
    /// witnesses cosigned.
    pub fn verify(
        &self,
        leaf: &Hash,
        policy: &Policy,
        now: Option<CosignedAt>,
    ) -> Result<VerifiedCheckpoint, TlogProofError> {
        self.includes(leaf, policy.verify(&self.note, now)?.into_accepted()?)
    }

    /// Checks that this log has this leaf, whoever cosigned.
    pub fn verify_by_log(
        &self,
        leaf: &Hash,
        origin: &Origin,
        keys: &[LogKey],
    ) -> Result<VerifiedCheckpoint, TlogProofError> {
        self.includes(leaf, Checkpoint::verify_by_any(&self.note, origin, keys)?)
    }

    fn includes(
        &self,
        leaf: &Hash,
        checkpoint: VerifiedCheckpoint,
    ) -> Result<VerifiedCheckpoint, TlogProofError> {
        verify_inclusion(leaf, self.index, &self.proof, &checkpoint.head())?;
        Ok(checkpoint)
    }
}

/// The file.
impl fmt::Display for TlogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", encode_base64(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        for hash in &self.proof {
            writeln!(f, "{}", encode_base64(&hash.0))?;
        }
        write!(f, "\n{}", self.note)
    }
}
