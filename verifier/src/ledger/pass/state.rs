//! The shape of a pass that was written down: JSON, hashes in hex.

use std::collections::BTreeMap;

use chancery_format::chain::{self, dialect::Dialect};
use chancery_format::heads::{Head, HeadName, HeadsMap};
use chancery_format::tile::LEVELS;
use chancery_format::{Hash, LeafIndex, Timestamp, TreeHead, TreeSize};
use serde::{Deserialize, Serialize};

use super::witnessed::{CosignedNotes, Waiting as WaitingNote};
use super::{SignedHead, Target};
use crate::findings::{Finding, Kind, Weight};
use crate::ledger::chains::Last;
use crate::ledger::heads::{Heads, Waiting};
use crate::trust::Trust;

/// A pass, written down.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct State {
    pub(super) version: u32,
    pub(super) program: String,
    pub(super) origin: String,
    pub(super) registry: String,
    pub(super) options: String,
    /// The last checkpoint, as it was.
    pub(super) last: KeptHead,
    /// Names below what was verified.
    pub(super) names: String,
    /// Entries verified; a multiple of 256.
    pub(super) size: u64,
    pub(super) frontier: Vec<String>,
    pub(super) tiles: Vec<Vec<String>>,
    pub(super) streams: BTreeMap<String, KeptStream>,
    pub(super) heads: KeptHeads,
    pub(super) acts: Vec<(u64, String)>,
    pub(super) epochs: Epochs,
    pub(super) cosigned: KeptCosigned,
    pub(super) counts: Counts,
    pub(super) findings: Vec<KeptFinding>,
    pub(super) findings_total: [u64; 3],
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct KeptHead {
    pub(super) epoch: u64,
    pub(super) size: u64,
    pub(super) root: String,
    /// Names of the signers; `null` is a key that the registry does not list as one.
    pub(super) signers: Vec<Option<String>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Epochs {
    /// The last one that was read.
    pub(super) read: Option<u64>,
    /// Size of the newest one accepted.
    pub(super) until: Option<u64>,
    pub(super) incomplete: bool,
    pub(super) tails_seen: u64,
    /// Partial tiles by level: how many were explained, and where the one compared last ends.
    pub(super) partials_seen: [u64; LEVELS as usize],
    pub(super) partials_compared: [u64; LEVELS as usize],
    /// Those read ahead, whose entries are to come.
    pub(super) ahead: Vec<KeptHead>,
}

/// Cosigned checkpoints.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct KeptCosigned {
    /// The epoch of the last one that was read.
    pub(super) read: Option<u64>,
    /// Size of the newest one accepted.
    pub(super) until: Option<u64>,
    pub(super) epoch_held: Option<u64>,
    /// Those whose entries are to come: epoch, size, root, and who cosigned.
    pub(super) ahead: Vec<(u64, u64, String, Option<Vec<String>>)>,
    pub(super) notes: u64,
    pub(super) up_to: u64,
    pub(super) by: Vec<String>,
}

impl KeptCosigned {
    pub(super) fn of(notes: &CosignedNotes<'_>, read: Option<u64>) -> Self {
        let ahead =
            notes.waiting.iter().map(|it| (it.epoch, it.head.size.0, it.head.root.to_hex(), it.by.clone()));
        Self {
            read,
            until: notes.until,
            epoch_held: notes.epoch_held,
            ahead: ahead.collect(),
            notes: notes.told.notes,
            up_to: notes.told.up_to,
            by: notes.told.by.clone(),
        }
    }

    /// Puts them back, over all that the archive has; `None` if it is not such a state.
    pub(super) fn restore<'a>(&self, notes: &mut CosignedNotes<'a>, all: &'a [u64]) -> Option<()> {
        let past = self.read.map_or(0, |read| all.partition_point(|epoch| *epoch <= read));
        notes.left = all.get(past..).unwrap_or_default().iter();
        (notes.until, notes.epoch_held) = (self.until, self.epoch_held);
        for (epoch, size, root, by) in &self.ahead {
            let head = TreeHead { size: TreeSize(*size), root: Hash::from_hex(root).ok()? };
            notes.waiting.push_back(WaitingNote { epoch: *epoch, head, by: by.clone() });
        }
        (notes.told.notes, notes.told.up_to) = (self.notes, self.up_to);
        notes.told.by.clone_from(&self.by);
        Some(())
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct KeptStream {
    pub(super) seq: u64,
    pub(super) hash: String,
    pub(super) chain: Option<(String, String, Option<String>, String)>,
}

/// Heads of streams and keys, to hold enrolled maps against.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct KeptHeads {
    /// Name: count, hash, last index.
    pub(super) map: BTreeMap<String, (u64, String, u64)>,
    /// Entries that are not in it yet: index, names, hash.
    pub(super) waiting: Vec<(u64, Vec<String>, String)>,
    pub(super) last: Option<u64>,
    pub(super) checked: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Counts {
    pub(super) entries: u64,
    pub(super) bytes: u64,
    pub(super) bundles: u64,
    pub(super) tail_bundles: u64,
    pub(super) tiles: u64,
    pub(super) partial_tiles: u64,
    pub(super) checkpoints: u64,
    pub(super) signatures: u64,
    pub(super) macs: u64,
    pub(super) over_messages: u64,
    pub(super) anchored: u64,
    pub(super) head: Option<(u64, String)>,
    pub(super) continues_older: Option<bool>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct KeptFinding {
    pub(super) kind: String,
    pub(super) weight: u8,
    pub(super) index: Option<u64>,
    pub(super) file: Option<String>,
    pub(super) message: String,
}

impl State {
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl KeptHead {
    pub(super) fn read(&self, trust: &Trust) -> Option<Target> {
        let signers = self.signers.iter().map(|name| match name {
            Some(name) => trust.find(name).map(Some),
            None => Some(None),
        });
        let head = TreeHead { size: TreeSize(self.size), root: Hash::from_hex(&self.root).ok()? };
        Some(Target {
            epoch: self.epoch,
            signed: SignedHead { head, signers: signers.collect::<Option<_>>()? },
        })
    }
}

impl KeptHeads {
    pub(super) fn of(heads: &Heads) -> Self {
        let (map, waiting, last) = heads.parts();
        let kept = |(name, head): (&HeadName, &Head)| {
            (name.to_string(), (head.count, head.hash.to_hex(), head.last.0))
        };
        let waits = |(index, names, hash): &Waiting| {
            (index.0, names.iter().map(HeadName::to_string).collect(), hash.to_hex())
        };
        Self {
            map: map.all().map(kept).collect(),
            waiting: waiting.iter().map(waits).collect(),
            last,
            checked: heads.checked,
        }
    }

    pub(super) fn read(&self) -> Option<Heads> {
        let hash = |hex: &String| Hash::from_hex(hex).ok();
        let kept = |(name, (count, hex, last)): (&String, &(u64, String, u64))| {
            Some((name.parse().ok()?, Head::checked(*count, hash(hex)?, *last)?))
        };
        let waits = |(index, names, hex): &(u64, Vec<String>, String)| {
            let names = names.iter().map(|name| name.parse().ok()).collect::<Option<_>>()?;
            Some((LeafIndex(*index), names, hash(hex)?))
        };
        let map = HeadsMap::of(self.map.iter().map(kept).collect::<Option<Vec<_>>>()?);
        let waiting = self.waiting.iter().map(waits).collect::<Option<_>>()?;
        Some(Heads::resume(map, waiting, self.last, self.checked))
    }
}

impl KeptStream {
    pub(super) fn read(&self) -> Option<Last> {
        let hash = |hex: &String| Hash::from_hex(hex).ok();
        let chain = match &self.chain {
            None => None,
            Some((dialect, own, previous, ts)) => {
                let dialect = dialect.parse::<Dialect>().ok()?;
                let previous = match previous {
                    Some(previous) => Some(hash(previous)?),
                    None => None,
                };
                let link = chain::Link { dialect, hash: hash(own)?, previous };
                Some((link, ts.parse::<Timestamp>().ok()?))
            }
        };
        Some(Last { seq: self.seq, hash: hash(&self.hash)?, chain })
    }
}

impl KeptFinding {
    pub(super) fn read(&self) -> Option<Finding> {
        let kind = *Kind::ALL.iter().find(|kind| kind.as_str() == self.kind)?;
        let weights = [Weight::Bad, Weight::Missing, Weight::Warning];
        let weight = *weights.iter().find(|weight| **weight as u8 == self.weight)?;
        Some(Finding {
            kind,
            weight,
            index: self.index,
            file: self.file.clone(),
            message: self.message.clone(),
        })
    }
}
