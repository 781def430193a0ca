//! What each part of a bundle proves, by a registry that the caller trusts. Each can be asked alone, so that a report can
//! say what held although something else did not; [`Evidence::verify`] asks them all.

use std::collections::BTreeMap;

use crate::checkpoint::{Checkpoint, CheckpointError, VerifiedCheckpoint};
use crate::hash::{Hash, LeafIndex, TreeHead, TreeSize};
use crate::merkle::{self, leaf_hash};
use crate::note::{Note, NoteSignature};
use crate::policy::Policy;
use crate::receipt::{ReceiptError, VerifiedReceipt};
use crate::registry::SignersRegistry;

use super::{Evidence, EvidenceError, RegistrySlice, Renewal};

/// What a bundle that holds altogether proves.
#[derive(Debug)]
pub struct VerifiedEvidence<'a> {
    /// The entry under its own checkpoint.
    pub entry: VerifiedReceipt<'a>,
    /// The checkpoint under which the registry is proven.
    pub registry: VerifiedCheckpoint,
    /// The checkpoint of each renewal.
    pub renewals: Vec<VerifiedCheckpoint>,
}

impl Evidence {
    /// Checks every part by this registry, and that they are of one history. `message` as for a receipt.
    pub fn verify<'a>(
        &'a self,
        registry: &SignersRegistry,
        message: Option<&[u8]>,
    ) -> Result<VerifiedEvidence<'a>, EvidenceError> {
        let entry = self.verify_entry(registry, message)?;
        self.verify_cose(registry)?;
        self.verify_policy(&entry.checkpoint)?;
        let slice = self.verify_registry(registry)?;
        let renewals = (0..self.renewals.len()).map(|number| self.verify_renewal(number, registry));
        let renewals = renewals.collect::<Result<_, _>>()?;
        self.verify_one_history()?;
        Ok(VerifiedEvidence { entry, registry: slice, renewals })
    }

    /// The entry, its proof, its own checkpoint and the signature in it.
    pub fn verify_entry<'a>(
        &'a self,
        registry: &SignersRegistry,
        message: Option<&[u8]>,
    ) -> Result<VerifiedReceipt<'a>, ReceiptError> {
        self.receipt.verify_with(registry, message)
    }

    /// The COSE receipt: signed by the ledger, of this entry, at this place. `None` if there is none.
    pub fn verify_cose(&self, registry: &SignersRegistry) -> Result<Option<TreeHead>, EvidenceError> {
        let Some(cose) = &self.cose else { return Ok(None) };
        let leaf = leaf_hash(self.receipt.leaf());
        let keys = registry.ledger_keys()?;
        let (index, head) = cose.verify_inclusion(&leaf, keys.origin(), &keys.log_keys())?;
        if cose.verify_inclusion(&leaf, keys.origin(), &keys.log_keys_at(head.size)).is_err() {
            return Err(CheckpointError::NotStanding.into());
        }
        if index == self.receipt.index() { Ok(Some(head)) } else { Err(EvidenceError::CosePlace) }
    }

    /// That the policy in the file, if there is one, accepts the entry's checkpoint, and no line of it is false.
    pub fn verify_policy(&self, checkpoint: &VerifiedCheckpoint) -> Result<(), EvidenceError> {
        self.no_false_line(checkpoint)?;
        self.policy.as_ref().map_or(Ok(()), |policy| accepts(policy.policy(), checkpoint))
    }

    /// Whoever the file names as a witness has cosigned what its lines say, wherever they stand.
    fn no_false_line(&self, checkpoint: &VerifiedCheckpoint) -> Result<(), EvidenceError> {
        let renewed = self.renewals.iter().filter_map(Renewal::policy);
        for policy in self.policy.iter().chain(renewed) {
            policy.policy().judge(checkpoint.clone(), None)?;
        }
        Ok(())
    }

    /// That the ledger published the registry in the file, under which checkpoint; and that no registry in the file
    /// tells something else of a key than the one given.
    pub fn verify_registry(&self, registry: &SignersRegistry) -> Result<VerifiedCheckpoint, EvidenceError> {
        for slice in self.registries() {
            agree(slice.registry(), registry)?;
        }
        let checkpoint = verify_note(&self.registry_note, registry)?;
        includes(&checkpoint, &self.registry, self.registry.path(), "proof of the registry")?;
        self.no_false_line(&checkpoint)?;
        Ok(checkpoint)
    }

    /// One renewal, counted from 0: its checkpoint is the ledger's, covers the entry and the registries, and continues
    /// the one before, which is for the caller to verify. Its policy, if it has one, accepts it.
    pub fn verify_renewal(
        &self,
        number: usize,
        registry: &SignersRegistry,
    ) -> Result<VerifiedCheckpoint, EvidenceError> {
        let before = match number.checked_sub(1) {
            Some(before) => self.renewals.get(before).map(Renewal::note),
            None => Some(self.receipt.checkpoint()),
        };
        let pair = before.zip(self.renewals.get(number));
        let (before, renewal) = pair.ok_or_else(|| EvidenceError::Shape("no such renewal".into()))?;
        let named = |cause| EvidenceError::Renewal { number: number + 1, cause: Box::new(cause) };
        self.check_renewal(before, renewal, registry).map_err(named)
    }

    fn check_renewal(
        &self,
        before: &str,
        renewal: &Renewal,
        registry: &SignersRegistry,
    ) -> Result<VerifiedCheckpoint, EvidenceError> {
        if before == renewal.note() {
            return Err(EvidenceError::Idle);
        }
        let checkpoint = verify_note(renewal.note(), registry)?;
        let consistent =
            merkle::verify_consistency(&claimed(before)?, &checkpoint.head(), renewal.consistency());
        consistent.map_err(EvidenceError::Consistency)?;
        let (leaf, index) = (leaf_hash(self.receipt.leaf()), self.receipt.index());
        leads(&checkpoint, &leaf, index, renewal.entry_path(), "proof of the entry")?;
        includes(&checkpoint, &self.registry, renewal.registry_path(), "proof of the registry")?;
        if let Some(newer) = renewal.registry() {
            includes(&checkpoint, newer, newer.path(), "proof of the newer registry")?;
        }
        self.no_false_line(&checkpoint)?;
        if let Some(policy) = renewal.policy() {
            accepts(policy.policy(), &checkpoint)?;
        }
        Ok(checkpoint)
    }

    /// That no two checkpoints in the file are of one size and have different roots. Those of renewals continue each
    /// other; the registry's stands beside them.
    pub fn verify_one_history(&self) -> Result<(), EvidenceError> {
        let mut roots: BTreeMap<TreeSize, Hash> = BTreeMap::new();
        let notes = [self.receipt.checkpoint(), self.registry_note.as_str()];
        for note in notes.into_iter().chain(self.renewals.iter().map(Renewal::note)) {
            let TreeHead { size, root } = claimed(note)?;
            if *roots.entry(size).or_insert(root) != root {
                return Err(EvidenceError::Fork(size));
            }
        }
        Ok(())
    }
}

/// A note with only the lines that somebody here can check: by the registry's ledger keys, or by a policy's witnesses.
/// The others are left out and counted. No line is verified here.
pub fn known_lines<'p>(
    note: &str,
    registry: &SignersRegistry,
    policies: impl IntoIterator<Item = &'p Policy>,
) -> Result<(String, usize), EvidenceError> {
    let note = Note::parse(note).map_err(CheckpointError::from)?;
    let keys = registry.ledger_keys()?;
    let witnesses: Vec<_> = policies.into_iter().flat_map(Policy::witnesses).collect();
    let known = |line: &NoteSignature<'_>| {
        keys.are_named_by(line) || witnesses.iter().any(|witness| witness.key.is_named_by(line))
    };
    let kept = note.with_lines(known);
    let left_out = note.signatures.iter().filter(|line| !known(line)).count();
    Ok((kept, left_out))
}

fn verify_note(note: &str, registry: &SignersRegistry) -> Result<VerifiedCheckpoint, EvidenceError> {
    Ok(registry.ledger_keys()?.verify_standing(note)?)
}

/// What a note says, whoever signed it.
fn claimed(note: &str) -> Result<TreeHead, EvidenceError> {
    let text = Note::parse(note).map_err(CheckpointError::from)?.text;
    Ok(Checkpoint::parse(text).ok_or(CheckpointError::Malformed)?.head())
}

fn leads(
    checkpoint: &VerifiedCheckpoint,
    leaf: &Hash,
    index: LeafIndex,
    path: &[Hash],
    what: &'static str,
) -> Result<(), EvidenceError> {
    let led = merkle::verify_inclusion(leaf, index, path, &checkpoint.head());
    led.map_err(|cause| EvidenceError::Inclusion { what, cause })
}

fn includes(
    checkpoint: &VerifiedCheckpoint,
    slice: &RegistrySlice,
    path: &[Hash],
    what: &'static str,
) -> Result<(), EvidenceError> {
    leads(checkpoint, &leaf_hash(slice.leaf()), slice.index(), path, what)
}

fn accepts(policy: &Policy, checkpoint: &VerifiedCheckpoint) -> Result<(), EvidenceError> {
    policy.judge(checkpoint.clone(), None)?.into_accepted()?;
    Ok(())
}

/// Two registries of one ledger may differ in what became of a key later, and in nothing else.
fn agree(one: &SignersRegistry, two: &SignersRegistry) -> Result<(), EvidenceError> {
    if one.ledger.origin != two.ledger.origin {
        return Err(EvidenceError::Conflict("the ledger's origin".into()));
    }
    for signer in &one.signers {
        let Some(other) = two.signer(signer.signer_kid.as_str()) else { continue };
        let same_key = signer.algorithm == other.algorithm && signer.public_key()? == other.public_key()?;
        let since = signer.activated_index.zip(other.activated_index);
        if !same_key || since.is_some_and(|(one, two)| one != two) {
            return Err(EvidenceError::Conflict(signer.signer_kid.to_string()));
        }
    }
    Ok(())
}
