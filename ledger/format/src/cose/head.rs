//! A tree head that the ledger key signed for COSE receipts: one signature, under which every entry has its receipt.
//!
//! What is signed holds the origin, the size and the root, and nothing of an entry or a proof. So the key is used once for
//! each head, and a receipt is arithmetic from then on. Written down, a signed head is the consistency receipt of the tree
//! with itself: no second encoding.
//!
//! Promises: a [`VerifiedCoseHead`] has a signature by one of the ledger's keys over a head that was given, and every
//! receipt it makes leads from its leaf to that head. Refuses: leaves that are not where they are said to be.

use super::{CoseAlgorithm, CoseProof, CoseReceipt, CoseReceiptError, CoseStatement};
use crate::hash::{Hash, LeafIndex, TreeHead, TreeSize};
use crate::log_key::LogKey;
use crate::merkle::{ProofError, inclusion_root};
use crate::names::Origin;

impl CoseStatement {
    /// What the ledger key signs of a head, as the consistency receipt of the tree with itself.
    pub const fn of_head(algorithm: CoseAlgorithm, origin: Origin, size: TreeSize) -> Self {
        Self { algorithm, origin, size, proof: CoseProof::Consistency { old: size, path: Vec::new() } }
    }
}

/// A head with the ledger's signature over it, verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedCoseHead {
    algorithm: CoseAlgorithm,
    origin: Origin,
    head: TreeHead,
    signature: Vec<u8>,
}

impl VerifiedCoseHead {
    /// The only constructor: `signed` must be of the tree `head` with itself, and one of `keys` must have signed it in
    /// the ledger's name.
    pub fn verify(
        signed: CoseReceipt,
        head: &TreeHead,
        origin: &Origin,
        keys: &[LogKey],
    ) -> Result<Self, CoseReceiptError> {
        if signed.verify_consistency(head, origin, keys)? != *head {
            return Err(ProofError::OutOfRange.into());
        }
        let CoseReceipt { statement: CoseStatement { algorithm, origin, .. }, signature } = signed;
        Ok(Self { algorithm, origin, head: *head, signature })
    }

    /// Size and root.
    pub const fn head(&self) -> TreeHead {
        self.head
    }

    /// Which ledger.
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The consistency receipt of the tree with itself, to be kept; [`VerifiedCoseHead::verify`] reads it back.
    pub fn to_receipt(&self) -> CoseReceipt {
        CoseStatement::of_head(self.algorithm, self.origin.clone(), self.head.size)
            .signed(self.signature.clone())
    }

    /// The receipt of the leaf with this hash. `path` must lead from it to the head.
    pub fn inclusion(
        &self,
        leaf: &Hash,
        index: LeafIndex,
        path: Vec<Hash>,
    ) -> Result<CoseReceipt, ProofError> {
        if inclusion_root(leaf, index, &path, self.head.size)? != self.head.root {
            return Err(ProofError::RootMismatch);
        }
        let statement = CoseStatement {
            algorithm: self.algorithm,
            origin: self.origin.clone(),
            size: self.head.size,
            proof: CoseProof::Inclusion { index, path },
        };
        Ok(statement.signed(self.signature.clone()))
    }
}
