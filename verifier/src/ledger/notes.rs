//! Signed notes of the archive: checkpoints, and the notes beside registry versions.

use std::collections::BTreeMap;

use chancery_format::archive::{checkpoint_name, registry_name, registry_note_text, registry_signature_name};
use chancery_format::note::{NOTE_BYTES_MAX, Note, NoteSignature};
use chancery_format::registry::REGISTRY_BYTES_MAX;
use chancery_format::{Hash, SignersRegistry, TreeHead};

use super::bundle::unread;
use crate::evidence::Evidence;
use crate::findings::{Finding, Findings, Kind};
use crate::inventory::Inventory;
use crate::trust::{SignerId, Trust};

/// A verified head and who signed it by Ed25519; `None` is a checkpoint key that the registry does not list as a
/// signer, and whose life is therefore not known. Where a signature by ML-DSA-44 is due beside theirs, it is there.
#[derive(Debug, Clone)]
pub(crate) struct SignedHead {
    pub(crate) head: TreeHead,
    pub(crate) signers: Vec<Option<SignerId>>,
}

/// Reads and verifies the checkpoint that closes `epoch`.
pub(crate) fn read_checkpoint(
    evidence: &dyn Evidence,
    trust: &Trust,
    epoch: u64,
) -> Result<SignedHead, Finding> {
    let name = checkpoint_name(epoch);
    let bytes = evidence.open(&name, NOTE_BYTES_MAX).map_err(|error| unread(&name, &error))?;
    let signed = verify_head(trust, &bytes);
    let signed = signed.and_then(|signed| checkpoint_by_nobody_else(&bytes, trust).map(|()| signed));
    signed.map_err(|finding| finding.in_file(name))
}

/// Verifies a checkpoint from wherever it came. It may bear lines of others: witnesses cosign what is served.
pub(crate) fn verify_head(trust: &Trust, bytes: &[u8]) -> Result<SignedHead, Finding> {
    let invalid = |reason: String| Finding::new(Kind::CheckpointInvalid, reason);
    let note = std::str::from_utf8(bytes).map_err(|_| invalid("not UTF-8".into()))?;
    let verified = trust.ledger_keys().verify(note).map_err(|error| invalid(error.to_string()))?;
    let signers = known_signers(trust, note)?;
    Ok(SignedHead { head: verified.head(), signers })
}

/// Who signed a note that verified by Ed25519, as far as the registry knows them.
fn known_signers(trust: &Trust, note: &str) -> Result<Vec<Option<SignerId>>, Finding> {
    let invalid = |error| Finding::new(Kind::CheckpointInvalid, format!("{error}"));
    let signed =
        Note::parse(note).and_then(|note| note.verify(trust.ledger_keys().ed25519())).map_err(invalid)?;
    Ok(signed.into_iter().map(|key| trust.signer_of_key(key)).collect())
}

/// In an archive nothing is written that nobody can check, so a line by an unknown key was put there by somebody else.
fn checkpoint_by_nobody_else(note: &[u8], trust: &Trust) -> Result<(), Finding> {
    by_nobody_else(note, |line| trust.ledger_keys().are_named_by(line))
}

fn by_nobody_else(note: &[u8], is_known: impl Fn(&NoteSignature<'_>) -> bool) -> Result<(), Finding> {
    let note = std::str::from_utf8(note).ok().and_then(|note| Note::parse(note).ok());
    if note.is_some_and(|note| note.signatures.iter().all(is_known)) {
        return Ok(());
    }
    let message = "carries a signature line by a key that the registry does not know";
    Err(Finding::new(Kind::UnknownSignature, message))
}

/// The archived registry versions: content hashes, by version, of those whose files are there.
pub(crate) fn read_registries(
    evidence: &dyn Evidence,
    trust: &Trust,
    inventory: &Inventory,
    findings: &mut Findings,
) -> BTreeMap<u64, Hash> {
    let mut hashes = BTreeMap::new();
    for version in &inventory.registries {
        match read_registry(evidence, trust, *version, inventory) {
            Ok(hash) => drop(hashes.insert(*version, hash)),
            Err((hash, finding)) => {
                findings.push(finding);
                hash.map(|hash| hashes.insert(*version, hash));
            }
        }
    }
    for version in inventory.registry_notes.iter().filter(|v| inventory.registries.binary_search(v).is_err())
    {
        let message = format!("its note {} is there", registry_signature_name(*version));
        findings.push(Finding::file(Kind::MissingFile, registry_name(*version), message));
    }
    hashes
}

/// The hash of one version's file; beside a finding, if the file at least could be read.
fn read_registry(
    evidence: &dyn Evidence,
    trust: &Trust,
    version: u64,
    inventory: &Inventory,
) -> Result<Hash, (Option<Hash>, Finding)> {
    let name = registry_name(version);
    let json = evidence.open(&name, REGISTRY_BYTES_MAX).map_err(|error| (None, unread(&name, &error)))?;
    let sha256 = Hash::of(&[&json]);
    let bad = |reason: String| (Some(sha256), Finding::file(Kind::RegistryMismatch, name.clone(), reason));
    let registry = SignersRegistry::parse(&json).map_err(|error| bad(error.to_string()))?;
    drop(json);
    if registry.ledger.origin != *trust.origin() {
        return Err(bad(format!("is of {}", registry.ledger.origin)));
    }
    let note_name = registry_signature_name(version);
    if inventory.registry_notes.binary_search(&version).is_err() {
        let message = format!("{name} is there, its note is not");
        return Err((Some(sha256), Finding::file(Kind::MissingFile, note_name, message)));
    }
    let note = evidence.open(&note_name, NOTE_BYTES_MAX);
    let note = note.map_err(|error| (Some(sha256), unread(&note_name, &error)))?;
    verify_registry_note(trust, version, &sha256, &note)
        .map_err(|reason| (Some(sha256), Finding::file(Kind::RegistrySignature, note_name, reason)))?;
    Ok(sha256)
}

fn verify_registry_note(trust: &Trust, version: u64, sha256: &Hash, note: &[u8]) -> Result<(), String> {
    let note = std::str::from_utf8(note).map_err(|_| "not UTF-8".to_owned())?;
    let parsed = Note::parse(note).map_err(|error| error.to_string())?;
    if parsed.text != registry_note_text(trust.origin(), version, sha256) {
        return Err("does not speak of this file".into());
    }
    let is_known =
        |line: &NoteSignature<'_>| trust.ledger_keys().ed25519().iter().any(|key| key.is_named_by(line));
    let signed = known_signers(trust, note).and_then(|_| by_nobody_else(note.as_bytes(), is_known));
    signed.map_err(|finding| finding.message)
}
