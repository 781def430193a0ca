//! COSE receipts (RFC 9942): inclusion and consistency proofs in CBOR, from the same tree.
//!
//! A receipt is a tagged COSE_Sign1 (RFC 9052). Its payload is the root, and is not in it: the verifier
//! computes it from the leaf, or from the older tree, and the proof. Protected headers:
//!
//! | label | value |
//! |---|---|
//! | 1 (alg) | −8 EdDSA or −19 Ed25519, −48 ML-DSA-44: by the ledger key |
//! | 15 (CWT claims, RFC 9597) | {1 (iss): origin, −65537 (ours, from the private range): size of the tree} |
//! | 395 (vds) | 1: the tree of RFC 9162 with SHA-256 |
//!
//! Unprotected: {396 (vdp): {−1: \[inclusion\]}} or {396: {−2: \[consistency\]}}, one proof.
//!
//! The issuer is the ledger's origin because RFC 9942 alone signs a bare root: with one key for two ledgers, a
//! receipt of one would pass for the other's. The size is signed because without it a leaf's index means
//! nothing: the last of three leaves is also "proven" to be the second of two. Readers that know neither
//! claim verify these receipts nevertheless.
//!
//! This file tells what is to be signed; it never holds a private key. What is signed begins with a byte that no
//! text begins with, so no signature of a note or a cosignature is one of a receipt. Refused: every encoding but
//! the one that is written (RFC 8949 §4.2.1), other headers, several proofs.

use coset::cbor::value::Value;
use coset::{
    CborSerializable, CoseSign1, CoseSign1Builder, Header, HeaderBuilder, Label, ProtectedHeader,
    TaggedCborSerializable, iana,
};

use crate::hash::{Hash, LeafIndex, TreeHead, TreeSize};
use crate::log_key::LogKey;
use crate::merkle::{ProofError, consistency_root, inclusion_root};
use crate::names::Origin;
use crate::witness::PROOF_HASHES_MAX;

mod head;
#[cfg(test)]
mod tests;

pub use self::head::VerifiedCoseHead;

/// Media type of a receipt (RFC 9052 §11.2).
pub const COSE_MEDIA_TYPE: &str = r#"application/cose; cose-type="cose-sign1""#;

/// Largest receipt read, in bytes: 63 hashes and an ML-DSA-44 signature fit three times.
pub const COSE_RECEIPT_BYTES_MAX: usize = 16 * 1024;

/// Header of CWT claims.
const CWT_CLAIMS: i64 = 15;
/// Claim: issuer.
const ISSUER: i64 = 1;
/// Claim of ours, from the range for private use: number of leaves.
const SIZE: i64 = -65_537;
/// Header: which verifiable data structure.
const VDS: i64 = 395;
/// RFC 9162 with SHA-256.
const RFC9162_SHA256: i64 = 1;
/// Header: proofs in it.
const VDP: i64 = 396;
/// Proof of inclusion.
const INCLUSION: i64 = -1;
/// Proof of consistency.
const CONSISTENCY: i64 = -2;

/// Why a receipt was refused. Whoever supplied it is at fault; retrying cannot help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CoseReceiptError {
    /// Larger than [`COSE_RECEIPT_BYTES_MAX`].
    #[error("COSE receipt is too large")]
    TooLarge,
    /// Not a receipt as this file writes it, byte for byte.
    #[error("not a COSE receipt of a ledger")]
    Malformed,
    /// It proves the other thing: consistency rather than inclusion, or the reverse.
    #[error("COSE receipt proves something else")]
    Kind,
    /// It is of another ledger.
    #[error("COSE receipt is of another origin")]
    Origin,
    /// Its proof does not fit the place it claims.
    #[error("COSE receipt's proof: {0}")]
    Proof(#[from] ProofError),
    /// No given key of this origin signed it over this root.
    #[error("COSE receipt's signature does not verify")]
    Signature,
}

/// How a receipt is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CoseAlgorithm {
    /// −8, under which most readers know Ed25519.
    EdDsa,
    /// −19, its successor (RFC 9864), which says the curve as well.
    Ed25519,
    /// −48.
    MlDsa44,
}

impl CoseAlgorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::EdDsa, Self::Ed25519, Self::MlDsa44];

    /// The one a key signs with; for Ed25519 the one more readers know.
    pub const fn of(key: &LogKey) -> Self {
        match key {
            LogKey::Ed25519(_) => Self::EdDsa,
            LogKey::MlDsa44(_) => Self::MlDsa44,
        }
    }

    const fn is_for(self, key: &LogKey) -> bool {
        matches!(
            (self, key),
            (Self::EdDsa | Self::Ed25519, LogKey::Ed25519(_)) | (Self::MlDsa44, LogKey::MlDsa44(_))
        )
    }

    const fn registered(self) -> iana::Algorithm {
        match self {
            Self::EdDsa => iana::Algorithm::EdDSA,
            Self::Ed25519 => iana::Algorithm::Ed25519,
            Self::MlDsa44 => iana::Algorithm::ML_DSA_44,
        }
    }
}

/// What a receipt proves of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CoseProof {
    /// That it has a leaf.
    Inclusion {
        /// Where.
        index: LeafIndex,
        /// From the leaf's sibling to the root's child.
        path: Vec<Hash>,
    },
    /// That it begins with an older tree.
    Consistency {
        /// Size of the older, at least 1: from the empty tree nothing is proven.
        old: TreeSize,
        /// RFC 6962 §2.1.2.
        path: Vec<Hash>,
    },
}

/// A receipt to be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoseStatement {
    /// By what.
    pub algorithm: CoseAlgorithm,
    /// Which ledger.
    pub origin: Origin,
    /// Size of the tree whose root is signed.
    pub size: TreeSize,
    /// What is proven of it.
    pub proof: CoseProof,
}

impl CoseStatement {
    /// What the ledger key signs: the `Sig_structure` of RFC 9052 §4.4 around this root.
    pub fn to_be_signed(&self, root: &Hash) -> Vec<u8> {
        self.envelope(Vec::new()).tbs_detached_data(&root.0, &[])
    }

    /// The receipt, with a signature over [`CoseStatement::to_be_signed`], which is not checked.
    pub fn signed(self, signature: Vec<u8>) -> CoseReceipt {
        CoseReceipt { statement: self, signature }
    }

    fn envelope(&self, signature: Vec<u8>) -> CoseSign1 {
        let claims = Value::Map(vec![
            (Value::from(ISSUER), Value::from(self.origin.as_str())),
            (Value::from(SIZE), Value::from(self.size.0)),
        ]);
        let protected = HeaderBuilder::new()
            .algorithm(self.algorithm.registered())
            .value(CWT_CLAIMS, claims)
            .value(VDS, Value::from(RFC9162_SHA256))
            .build();
        let (kind, proof) = self.encoded_proof();
        let proofs = Value::Map(vec![(Value::from(kind), Value::Array(vec![Value::Bytes(proof)]))]);
        let unprotected = HeaderBuilder::new().value(VDP, proofs).build();
        CoseSign1Builder::new().protected(protected).unprotected(unprotected).signature(signature).build()
    }

    fn encoded_proof(&self) -> (i64, Vec<u8>) {
        let (kind, numbers, path) = match &self.proof {
            CoseProof::Inclusion { index, path } => (INCLUSION, [self.size.0, index.0], path),
            CoseProof::Consistency { old, path } => (CONSISTENCY, [old.0, self.size.0], path),
        };
        let path = Value::Array(path.iter().map(|hash| Value::Bytes(hash.0.to_vec())).collect());
        let [first, second] = numbers.map(Value::from);
        // Writing numbers and bytes into memory does not fail; empty bytes would not be read back.
        (kind, Value::Array(vec![first, second, path]).to_vec().unwrap_or_default())
    }
}

/// A receipt as read or made; nothing is proven until it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoseReceipt {
    statement: CoseStatement,
    signature: Vec<u8>,
}

impl CoseReceipt {
    /// Reads a receipt. Its encoding must be the one this file writes.
    pub fn parse(bytes: &[u8]) -> Result<Self, CoseReceiptError> {
        if bytes.len() > COSE_RECEIPT_BYTES_MAX {
            return Err(CoseReceiptError::TooLarge);
        }
        let bad = || CoseReceiptError::Malformed;
        let envelope = CoseSign1::from_tagged_slice(bytes).map_err(|_| bad())?;
        let receipt = read(envelope).ok_or_else(bad)?;
        if receipt.to_bytes() == bytes { Ok(receipt) } else { Err(bad()) }
    }

    /// The receipt's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        // As above: nothing in it can fail to be written.
        self.statement.envelope(self.signature.clone()).to_tagged_vec().unwrap_or_default()
    }

    /// What it claims.
    pub const fn statement(&self) -> &CoseStatement {
        &self.statement
    }

    /// Checks that the ledger `origin`, by one of `keys`, has this leaf where the receipt says; gives the place
    /// and the tree it has it in.
    pub fn verify_inclusion(
        &self,
        leaf: &Hash,
        origin: &Origin,
        keys: &[LogKey],
    ) -> Result<(LeafIndex, TreeHead), CoseReceiptError> {
        let CoseProof::Inclusion { index, path } = &self.statement.proof else {
            return Err(CoseReceiptError::Kind);
        };
        let root = inclusion_root(leaf, *index, path, self.statement.size)?;
        Ok((*index, self.verify_root(root, origin, keys)?))
    }

    /// Checks that the ledger `origin`, by one of `keys`, has a tree that begins with `old`; gives that tree.
    pub fn verify_consistency(
        &self,
        old: &TreeHead,
        origin: &Origin,
        keys: &[LogKey],
    ) -> Result<TreeHead, CoseReceiptError> {
        let path = match &self.statement.proof {
            CoseProof::Consistency { old: size, path } if *size == old.size => path,
            CoseProof::Consistency { .. } => return Err(ProofError::OutOfRange.into()),
            CoseProof::Inclusion { .. } => return Err(CoseReceiptError::Kind),
        };
        self.verify_root(consistency_root(old, self.statement.size, path)?, origin, keys)
    }

    fn verify_root(
        &self,
        root: Hash,
        origin: &Origin,
        keys: &[LogKey],
    ) -> Result<TreeHead, CoseReceiptError> {
        if self.statement.origin != *origin {
            return Err(CoseReceiptError::Origin);
        }
        let signed = self.statement.to_be_signed(&root);
        let by = |key: &LogKey| {
            key.name() == origin.as_str()
                && self.statement.algorithm.is_for(key)
                && key.public_key().is_some_and(|key| key.verify_message(&signed, &self.signature))
        };
        if keys.iter().any(by) {
            Ok(TreeHead { size: self.statement.size, root })
        } else {
            Err(CoseReceiptError::Signature)
        }
    }
}

/// Takes what we know from an envelope. What is left out here is found missing when it is written again.
fn read(envelope: CoseSign1) -> Option<CoseReceipt> {
    let ProtectedHeader { header, .. } = &envelope.protected;
    let algorithm = CoseAlgorithm::ALL
        .into_iter()
        .find(|algorithm| header.alg.as_ref() == Some(&coset::Algorithm::Assigned(algorithm.registered())))?;
    let claims = value(header, CWT_CLAIMS)?;
    let origin = member(claims, ISSUER)?.as_text()?.parse().ok()?;
    let size = number(member(claims, SIZE)?)?;
    let proofs = value(&envelope.unprotected, VDP)?;
    let (kind, proof) = [INCLUSION, CONSISTENCY].into_iter().find_map(|kind| {
        let [proof] = member(proofs, kind)?.as_array()?.as_slice() else { return None };
        Some((kind, Value::from_slice(proof.as_bytes()?).ok()?))
    })?;
    let [first, second, path] = proof.as_array()?.as_slice() else { return None };
    let (first, second, path) = (number(first)?, number(second)?, hashes(path)?);
    let proof = match kind {
        INCLUSION if first == size => CoseProof::Inclusion { index: LeafIndex(second), path },
        CONSISTENCY if second == size => CoseProof::Consistency { old: TreeSize(first), path },
        _ => return None,
    };
    let statement = CoseStatement { algorithm, origin, size: TreeSize(size), proof };
    Some(CoseReceipt { statement, signature: envelope.signature })
}

fn value(header: &Header, label: i64) -> Option<&Value> {
    header.rest.iter().find(|(known, _)| *known == Label::Int(label)).map(|(_, value)| value)
}

fn member(map: &Value, key: i64) -> Option<&Value> {
    map.as_map()?.iter().find(|(known, _)| *known == Value::from(key)).map(|(_, value)| value)
}

fn number(value: &Value) -> Option<u64> {
    value.as_integer()?.try_into().ok()
}

fn hashes(path: &Value) -> Option<Vec<Hash>> {
    let path = path.as_array().filter(|path| path.len() <= PROOF_HASHES_MAX)?;
    path.iter().map(|hash| Some(Hash(hash.as_bytes()?.as_slice().try_into().ok()?))).collect()
}
