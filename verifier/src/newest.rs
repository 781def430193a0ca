//! An archive at its newest checkpoint that verifies: where every look at single entries begins.

use chancery_format::archive::checkpoint_name;
use chancery_format::entry::Rung;
use chancery_format::merkle;
use chancery_format::note::{NOTE_BYTES_MAX, Note, NoteVerifier};
use chancery_format::{Hash, LeafIndex, Receipt, TreeHead, VerifiedCheckpoint};

use crate::evidence::Evidence;
use crate::findings::{Finding, Findings, Kind, LISTED_MAX};
use crate::inventory::Inventory;
use crate::ledger::unread;
use crate::nodes::{ArchiveNodes, NodeError};
use crate::trust::Trust;

/// What an archive holds by name, and the head that speaks for it.
pub(crate) struct Newest {
    pub(crate) inventory: Inventory,
    /// Name of the checkpoint's object.
    pub(crate) name: String,
    pub(crate) checkpoint: VerifiedCheckpoint,
}

impl Newest {
    /// Lists the archive and finds its newest checkpoint that verifies. Names that no archive has go to `names`,
    /// checkpoints after it, which do not verify, to `findings`.
    pub(crate) fn open(
        evidence: &dyn Evidence,
        trust: &Trust,
        names: &mut Findings,
        findings: &mut Findings,
    ) -> Result<Self, Finding> {
        let inventory = Inventory::take(evidence, names).map_err(|error| {
            Finding::new(Kind::UnreadableFile, format!("the archive cannot be listed: {error}"))
        })?;
        for epoch in inventory.checkpoints.iter().rev().take(LISTED_MAX) {
            let name = checkpoint_name(*epoch);
            match read(evidence, trust, &name) {
                Ok(checkpoint) => return Ok(Self { inventory, name, checkpoint }),
                Err(finding) => findings.push(finding.in_file(name)),
            }
        }
        let message = "no checkpoint that can be trusted: nothing to check";
        Err(Finding::new(Kind::NoCheckpoint, message))
    }

    /// Size and root that were signed.
    pub(crate) const fn head(&self) -> TreeHead {
        self.checkpoint.head()
    }

    /// The receipt of one entry that the archive holds in pieces, not verified yet; and its inclusion proof.
    pub(crate) fn receipt(
        &self,
        nodes: &ArchiveNodes<'_>,
        index: u64,
    ) -> Result<(Receipt, Vec<Hash>), Finding> {
        let leaf = nodes.entry(index)?;
        let proof = merkle::inclusion_proof(nodes, LeafIndex(index), self.head().size)
            .map_err(|error: NodeError| error.into_finding(Kind::InclusionInvalid))?;
        let receipt = Receipt::new(leaf, LeafIndex(index), proof.clone(), &self.checkpoint, Rung::Archived);
        Ok((receipt, proof))
    }
}

fn read(evidence: &dyn Evidence, trust: &Trust, name: &str) -> Result<VerifiedCheckpoint, Finding> {
    let bytes = evidence.open(name, NOTE_BYTES_MAX).map_err(|error| unread(name, &error))?;
    verified(&bytes, trust)
}

/// A checkpoint of the ledger the registry names, from wherever it came.
pub(crate) fn verified(note: &[u8], trust: &Trust) -> Result<VerifiedCheckpoint, Finding> {
    let invalid = |reason: String| Finding::new(Kind::CheckpointInvalid, reason);
    let note = std::str::from_utf8(note).map_err(|_| invalid("not UTF-8".to_owned()))?;
    trust.ledger_keys().verify(note).map_err(|error| invalid(error.to_string()))
}

/// Who signed a checkpoint: the key's name in the registry, if it has one, and its id.
pub(crate) fn signer_names(note: &str, trust: &Trust) -> Vec<String> {
    let Ok(parsed) = Note::parse(note) else { return Vec::new() };
    let keys = parsed.verify(trust.ledger_keys().ed25519()).unwrap_or_default();
    let name = |key: &NoteVerifier| {
        let signer = trust.signer_of_key(key).map(|id| trust.signer(id).name().to_owned());
        let id: String = key.key_id().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{} (key id {id})", signer.as_deref().unwrap_or("a key of the registry"))
    };
    keys.into_iter().map(name).collect()
}
