//! The proof of a fork: what is kept of two histories so that anybody can check it with the registry alone
//! (FORMAT.md §9.4). `chancery mirror` keeps the same form.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chancery_format::merkle::{leaf_hash, verify_consistency, verify_inclusion};
use chancery_format::{Hash, LeafIndex, TreeHead, VerifiedCheckpoint};
use serde::Deserialize;
use serde_json::{Value, json};

use super::history::Entry;
use crate::findings::{Finding, Kind};
use crate::newest::verified;
use crate::trust::Trust;

/// Largest proof read: two notes of 1 MiB as JSON, two entries in base64, some hundred hashes.
pub const PROOF_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest proof a tree can need, twice over.
const HASHES_MAX: usize = 128;

/// Two signed checkpoints, and why they exclude each other.
pub(super) struct Fork {
    pub(super) held: VerifiedCheckpoint,
    pub(super) shown: VerifiedCheckpoint,
    /// The root of the larger tree at the smaller size, and the proof that it is; `None` if the sizes are alike.
    pub(super) beginning: Option<(Hash, Vec<Hash>)>,
    /// An entry of one index in both trees.
    pub(super) differing: Option<Differing>,
}

/// What stands at one index under each checkpoint.
pub(super) struct Differing {
    pub(super) index: u64,
    pub(super) held: Entry,
    pub(super) shown: Entry,
}

/// What two checkpoints, both signed, are to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    /// They cannot both be of one growing ledger.
    Exclude,
    /// The larger continues the smaller, or they are the same.
    Continue,
    /// What is here shows neither.
    Unproven,
}

impl Fork {
    /// Decides by hashing: the two signatures were checked when the checkpoints were read.
    pub(super) fn relation(&self) -> Relation {
        let (held, shown) = (self.held.head(), self.shown.head());
        if self.differing.as_ref().is_some_and(|differing| differing.excludes(&held, &shown)) {
            return Relation::Exclude;
        }
        let (smaller, larger) = if held.size <= shown.size { (held, shown) } else { (shown, held) };
        let root = match &self.beginning {
            None if held.size == shown.size => larger.root,
            None => return Relation::Unproven,
            Some((root, proof)) => {
                let then = TreeHead { size: smaller.size, root: *root };
                if verify_consistency(&then, &larger, proof).is_err() {
                    return Relation::Unproven;
                }
                *root
            }
        };
        if root == smaller.root { Relation::Continue } else { Relation::Exclude }
    }

    /// As it is kept.
    pub(super) fn to_json(&self) -> String {
        let note = |checkpoint: &VerifiedCheckpoint| {
            let TreeHead { size, root } = checkpoint.head();
            json!({ "size": size.0, "root": root.to_hex(), "note": checkpoint.note() })
        };
        let mut json =
            json!({ "version": 1, "kind": "fork", "held": note(&self.held), "shown": note(&self.shown) });
        if let Value::Object(members) = &mut json {
            if let Some((root, proof)) = &self.beginning {
                let size = self.held.head().size.min(self.shown.head().size).0;
                let beginning =
                    json!({ "size": size, "root": root.to_hex(), "consistencyProof": hexes(proof) });
                members.insert("beginningOfLarger".to_owned(), beginning);
            }
            if let Some(Differing { index, held, shown }) = &self.differing {
                let entry = |entry: &Entry| {
                    let leaf = STANDARD.encode(&entry.leaf);
                    json!({ "leaf": leaf, "inclusionProof": hexes(&entry.proof) })
                };
                let differing = json!({ "index": index, "held": entry(held), "shown": entry(shown) });
                members.insert("differing".to_owned(), differing);
            }
        }
        format!("{json}\n")
    }

    /// Reads a proof that somebody kept, and checks the signatures of its checkpoints.
    pub(super) fn parse(json: &[u8], trust: &Trust) -> Result<Self, Finding> {
        let invalid = |reason: String| Finding::new(Kind::DocumentInvalid, format!("not a proof: {reason}"));
        if json.len() > PROOF_BYTES_MAX {
            return Err(invalid(format!("larger than {PROOF_BYTES_MAX} bytes")));
        }
        let read: ForkJson = serde_json::from_slice(json).map_err(|error| invalid(error.to_string()))?;
        if (read.version, read.kind.as_str()) != (1, "fork") {
            return Err(invalid(format!("version {} of a {}", read.version, read.kind)));
        }
        let checkpoint = |which: &str, signed: &NoteJson| {
            verified(signed.note.as_bytes(), trust).map_err(|finding| finding.in_file(which.to_owned()))
        };
        let (held, shown) = (checkpoint("held", &read.held)?, checkpoint("shown", &read.shown)?);
        let proof = |hashes: &[String]| match hashes.len() {
            ..=HASHES_MAX => hashes.iter().map(|hash| Hash::from_hex(hash).ok()).collect::<Option<Vec<_>>>(),
            _ => None,
        };
        let beginning = read.beginning_of_larger.map(|beginning| {
            Some((Hash::from_hex(&beginning.root).ok()?, proof(&beginning.consistency_proof)?))
        });
        let entry = |entry: &EntryJson| {
            Some(Entry { leaf: STANDARD.decode(&entry.leaf).ok()?, proof: proof(&entry.inclusion_proof)? })
        };
        let differing = read.differing.map(|differing| {
            let (held, shown) = (entry(&differing.held)?, entry(&differing.shown)?);
            Some(Differing { index: differing.index, held, shown })
        });
        let unreadable = || invalid("a hash or a leaf cannot be read".to_owned());
        let beginning = beginning.map(|read| read.ok_or_else(unreadable)).transpose()?;
        let differing = differing.map(|read| read.ok_or_else(unreadable)).transpose()?;
        Ok(Self { held, shown, beginning, differing })
    }
}

impl Differing {
    /// Whether each entry stands at the index in its tree, and they are not the same.
    fn excludes(&self, held: &TreeHead, shown: &TreeHead) -> bool {
        let stands = |entry: &Entry, head: &TreeHead| {
            verify_inclusion(&leaf_hash(&entry.leaf), LeafIndex(self.index), &entry.proof, head).is_ok()
        };
        self.held.leaf != self.shown.leaf && stands(&self.held, held) && stands(&self.shown, shown)
    }
}

fn hexes(hashes: &[Hash]) -> Vec<String> {
    hashes.iter().map(Hash::to_hex).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ForkJson {
    version: u64,
    kind: String,
    held: NoteJson,
    shown: NoteJson,
    beginning_of_larger: Option<BeginningJson>,
    differing: Option<DifferingJson>,
}

#[derive(Deserialize)]
struct NoteJson {
    note: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BeginningJson {
    root: String,
    consistency_proof: Vec<String>,
}

#[derive(Deserialize)]
struct DifferingJson {
    index: u64,
    held: EntryJson,
    shown: EntryJson,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EntryJson {
    leaf: String,
    inclusion_proof: Vec<String>,
}
