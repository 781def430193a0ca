//! `.evidence`: all that proves one entry, in one file that needs neither the ledger nor its issuer.
//!
//! It holds the entry, its C2SP tlog-proof, a COSE receipt if somebody gave one (only the ledger's keys can make one, so
//! whoever puts a bundle together without them has none), the registry of signers with the proof that the ledger
//! published it, the policy under which enough witnesses had cosigned, the versions of the archived objects that hold the
//! same, and renewals. Of the registry the ledger enrols the hash of the whole file, so the file is whole: of a part
//! nothing could be proven.
//!
//! A **renewal** is a later checkpoint of the same log, with the proofs that it covers the same entry and the same
//! registry and continues the checkpoint before. It is what RFC 4998 calls one: signatures that stand today are made over
//! what older ones had vouched for, before those fall. None of the issuer's keys is needed for it. The checkpoint comes
//! from a mirror, a witness or the log, and what makes it stronger are the cosignatures below it, of witnesses that were
//! not there before or sign with another algorithm (ML-DSA-44 beside Ed25519). Whoever then trusts these witnesses knows
//! that the entry stood at its place when they signed: a forger who can make signatures of the older algorithm afterwards
//! can make no entry that they saw. It renews signatures, not hashes: everything stands on SHA-256, because the tree does.
//! Where a checkpoint of the issuer is the last there will ever be, witnesses cosign that one: a renewal may be of the size
//! before, if its note is another.
//!
//! What nothing authenticates: the archive's versions, and the policies, which only tell what whoever made the file judged
//! by. Who verifies brings a registry or a policy of its own; a file that vouches for itself proves nothing.
//!
//! | file | does |
//! |---|---|
//! | `json.rs` | reads and writes the file |
//! | `parts.rs` | the registry's slice, policies, archived objects, renewals |
//! | `verify.rs` | proves each part against a registry |
//!
//! Refused: unknown versions and members, members without a value, a second spelling of anything but white space and
//! order, a registry that its entry does not publish, more than the bounds below.

use crate::canonical::CanonicalError;
use crate::checkpoint::{Checkpoint, CheckpointError, VerifiedCheckpoint};
use crate::cose::{CoseReceipt, CoseReceiptError};
use crate::event::EventError;
use crate::hash::TreeSize;
use crate::merkle::ProofError;
use crate::note::Note;
use crate::policy::{PolicyError, PolicyRefusal};
use crate::receipt::{Receipt, ReceiptError};
use crate::registry::RegistryError;
use crate::tlog_proof::{TlogProof, TlogProofError};

mod json;
mod parts;
mod verify;

pub use parts::{ArchivedObject, ArchivedObjects, BundledPolicy, RegistrySlice, Renewal, RenewalProofs};
pub use verify::{VerifiedEvidence, known_lines};

/// Largest file read, in bytes: the largest registry with all its quotes escaped, and renewals for a century.
pub const EVIDENCE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Largest registry put into one, in bytes: some 10,000 keys. The format's own bound is for ledgers, not for mail.
pub const BUNDLED_REGISTRY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most renewals: one a year outlives every algorithm there is.
pub const RENEWALS_MAX: usize = 64;
/// Most archived objects: an entry has a bundle, eight tiles, a registry and its note, and checkpoints.
pub const OBJECTS_MAX: usize = 64;
/// Media type of the file, whose name ends in `.evidence`.
pub const MEDIA_TYPE: &str = "application/vnd.chancery.evidence+json";

/// Why a file was refused, or a part could not be added. Whoever supplied it is at fault; retrying cannot help.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// Larger than its bound.
    #[error("{0} is too large")]
    TooLarge(&'static str),
    /// Not JSON of this shape, or of another version.
    #[error("evidence is not valid: {0}")]
    Shape(String),
    /// Not JSON all readers agree on.
    #[error("evidence is not valid: {0}")]
    Canonical(#[from] CanonicalError),
    /// The entry, its proof, its checkpoint or its signature.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    /// A tlog-proof is not one.
    #[error(transparent)]
    TlogProof(#[from] TlogProofError),
    /// The COSE receipt.
    #[error(transparent)]
    Cose(#[from] CoseReceiptError),
    /// The COSE receipt is of another place than the entry's.
    #[error("COSE receipt is of another entry")]
    CosePlace,
    /// The registry in the file is not one.
    #[error("bundled registry: {0}")]
    Registry(#[from] RegistryError),
    /// The entry beside the registry is not an event.
    #[error("entry of the bundled registry: {0}")]
    RegistryEvent(#[from] EventError),
    /// The entry beside the registry does not publish it.
    #[error("the entry beside the bundled registry does not publish it")]
    NotPublished,
    /// The bundled registry and the trusted one, or an earlier one, tell different things of one key.
    #[error("registries disagree about {0}")]
    Conflict(String),
    /// A policy in the file is not one.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A policy in the file does not accept the checkpoint it stands beside.
    #[error("policy in the file: {0}")]
    Refused(#[from] PolicyRefusal),
    /// A checkpoint is not the ledger's.
    #[error("checkpoint: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The hashes do not lead from the entry, or from the registry's, to the checkpoint's root.
    #[error("{what}: {cause}")]
    Inclusion {
        /// Which proof.
        what: &'static str,
        /// What is wrong with it.
        cause: ProofError,
    },
    /// The checkpoint does not continue the one before.
    #[error("it does not continue the checkpoint before: {0}")]
    Consistency(ProofError),
    /// The checkpoint is the one before.
    #[error("it says no more than the checkpoint before")]
    Idle,
    /// Two checkpoints of one size have different roots: the log showed two histories.
    #[error("two checkpoints of {0} entries have different roots")]
    Fork(TreeSize),
    /// Something is wrong with a renewal.
    #[error("renewal {number}: {cause}")]
    Renewal {
        /// Which, counted from 1.
        number: usize,
        /// What.
        cause: Box<EvidenceError>,
    },
}

/// A bundle as read or made; nothing is proven until [`Evidence::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    receipt: Receipt,
    cose: Option<CoseReceipt>,
    registry: RegistrySlice,
    registry_note: String,
    policy: Option<BundledPolicy>,
    archive: Option<ArchivedObjects>,
    renewals: Vec<Renewal>,
}

impl Evidence {
    /// Of a receipt, with a registry that is proven under `checkpoint`.
    pub fn new(
        receipt: &Receipt,
        registry: RegistrySlice,
        checkpoint: &VerifiedCheckpoint,
    ) -> Result<Self, EvidenceError> {
        let proof = TlogProof::parse(&receipt.to_tlog_proof())?;
        Ok(Self {
            receipt: Receipt::from_tlog_proof(receipt.leaf().to_vec(), &proof)?,
            cose: None,
            registry,
            registry_note: checkpoint.note().to_owned(),
            policy: None,
            archive: None,
            renewals: Vec::new(),
        })
    }

    /// The same with a COSE receipt.
    #[must_use]
    pub fn with_cose(self, cose: CoseReceipt) -> Self {
        Self { cose: Some(cose), ..self }
    }

    /// The same with the policy that accepts the entry's own checkpoint.
    #[must_use]
    pub fn with_policy(self, policy: BundledPolicy) -> Self {
        Self { policy: Some(policy), ..self }
    }

    /// The same with the versions of archived objects.
    #[must_use]
    pub fn with_archive(self, archive: ArchivedObjects) -> Self {
        Self { archive: Some(archive), ..self }
    }

    /// The same renewed once more. What was there stays.
    pub fn with_renewal(mut self, renewal: Renewal) -> Result<Self, EvidenceError> {
        if self.renewals.len() >= RENEWALS_MAX {
            return Err(EvidenceError::TooLarge("the number of renewals"));
        }
        self.renewals.push(renewal);
        Ok(self)
    }

    /// The entry with its proof and checkpoint.
    pub const fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    /// The COSE receipt.
    pub const fn cose(&self) -> Option<&CoseReceipt> {
        self.cose.as_ref()
    }

    /// The registry the bundle was made with.
    pub const fn registry(&self) -> &RegistrySlice {
        &self.registry
    }

    /// Every registry in the file, the newest last.
    pub fn registries(&self) -> impl DoubleEndedIterator<Item = &RegistrySlice> {
        std::iter::once(&self.registry).chain(self.renewals.iter().filter_map(Renewal::registry))
    }

    /// The one that knows most.
    pub fn newest_registry(&self) -> &RegistrySlice {
        self.registries().next_back().unwrap_or(&self.registry)
    }

    /// The policy under which the entry's checkpoint was good.
    pub const fn policy(&self) -> Option<&BundledPolicy> {
        self.policy.as_ref()
    }

    /// The policy that was judged by last.
    pub fn newest_policy(&self) -> Option<&BundledPolicy> {
        let renewed = self.renewals.iter().rev().find_map(Renewal::policy);
        renewed.or(self.policy.as_ref())
    }

    /// Where else the same stands, as whoever made the file says.
    pub const fn archive(&self) -> Option<&ArchivedObjects> {
        self.archive.as_ref()
    }

    /// Later checkpoints, the oldest first.
    pub fn renewals(&self) -> &[Renewal] {
        &self.renewals
    }

    /// The proofs of a renewal by another note of the newest checkpoint, if that has this size and they are in the file
    /// already: then no tiles are needed.
    pub fn proofs_at(&self, size: TreeSize) -> Option<RenewalProofs> {
        let size_of = |note: &str| Some(Checkpoint::parse(Note::parse(note).ok()?.text)?.head().size);
        if size_of(self.newest_note()) != Some(size) {
            return None;
        }
        let (entry, registry) = match self.renewals.last() {
            Some(last) => (last.entry_path(), last.registry_path()),
            None if size_of(&self.registry_note) == Some(size) => {
                (self.receipt.proof(), self.registry.path())
            }
            None => return None,
        };
        Some(RenewalProofs { entry: entry.to_vec(), registry: registry.to_vec(), consistency: Vec::new() })
    }

    /// The note of the newest checkpoint over the entry.
    pub fn newest_note(&self) -> &str {
        self.renewals.last().map_or_else(|| self.receipt.checkpoint(), Renewal::note)
    }
}
