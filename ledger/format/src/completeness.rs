//! The proof that these entries of a stream, or of a key, are all there are below a size.
//!
//! JSON Lines, so that memory does not grow with it: first an [`Opening`], which says where the chain stood and
//! proves it by an enrolled map of heads ([`crate::heads`]), then one line an entry, in order. Of k entries in a ledger
//! of n it is k leaves and two paths of some log n hashes.
//!
//! What it proves: that the ledger itself said so, in a leaf under a signed checkpoint. That the ledger said the
//! truth is what verifying the whole ledger proves, once for everybody (FORMAT.md §5.1, §10): nobody can be told
//! another map than everybody else.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::canonical::{CanonicalError, CanonicalJson};
use crate::checkpoint::VerifiedCheckpoint;
use crate::entry::event_type;
use crate::event::{AuditEvent, EventError, LEAF_BYTES_MAX};
use crate::hash::{Hash, LeafIndex, TreeSize};
use crate::heads::{EnrolledHeads, Head, HeadName, HeadProof, HeadsError, ProofJson};
use crate::receipt::{RECEIPT_BYTES_MAX, Receipt, ReceiptError, check_place, verify_issued};
use crate::registry::SignersRegistry;

/// Longest line: the opening holds a receipt and two paths, an entry a leaf and its index.
pub const LINE_BYTES_MAX: usize = RECEIPT_BYTES_MAX + LEAF_BYTES_MAX;

/// Why the entries given are not proven to be all there are.
#[derive(Debug, thiserror::Error)]
pub enum CompletenessError {
    /// Not a line of this format. Whoever wrote it is at fault.
    #[error("not a completeness proof: {0}")]
    Shape(String),
    /// The event that enrolled the map is not proven.
    #[error("the enrolled map of heads: {0}")]
    Heads(ReceiptError),
    /// The receipt is of something else.
    #[error("the event that should enrol a map of heads is {0}")]
    NotHeads(String),
    /// The map does not say what is claimed of this chain.
    #[error(transparent)]
    Map(#[from] HeadsError),
    /// An entry is not JSON all readers agree on.
    #[error("entry {at}: {source}")]
    Canonical {
        /// Its place among those given, from 0.
        at: u64,
        /// What is wrong.
        source: CanonicalError,
    },
    /// An entry is no event, or was altered.
    #[error("entry {at}: {source}")]
    Event {
        /// Its place among those given, from 0.
        at: u64,
        /// What is wrong.
        source: EventError,
    },
    /// An entry's place on the ledger, its key or its signature is not right.
    #[error("entry {at}: {source}")]
    Entry {
        /// Its place among those given, from 0.
        at: u64,
        /// What is wrong.
        source: ReceiptError,
    },
    /// An entry of another stream or key.
    #[error("entry {at}, at index {index}, is not of {name}")]
    Foreign {
        /// Its place among those given, from 0.
        at: u64,
        /// Where it says it is.
        index: LeafIndex,
        /// Whose entries were asked for.
        name: HeadName,
    },
    /// Not in order, or not below the size.
    #[error("entry {at}, at index {index}, is out of order or beyond the map's size")]
    Order {
        /// Its place among those given, from 0.
        at: u64,
        /// Where it says it is.
        index: LeafIndex,
    },
    /// A stream's events do not follow each other.
    #[error("of the stream, the event with seq {missing} is missing or altered")]
    Gap {
        /// The first that is not there.
        missing: u64,
    },
    /// Fewer, or more, than the ledger says there are.
    #[error("the ledger has {there} entries of {name} below size {size}, and {given} were given")]
    Count {
        /// Whose.
        name: HeadName,
        /// By the enrolled map.
        there: u64,
        /// In this proof.
        given: u64,
        /// The map's size.
        size: TreeSize,
    },
    /// As many as there are, and not the same.
    #[error("the entries given are not those that the ledger has of {0}: one was hidden, altered or moved")]
    Other(HeadName),
}

fn shape(error: impl std::fmt::Display) -> CompletenessError {
    CompletenessError::Shape(error.to_string())
}

/// The first line: where a chain stands, and the proof of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// Whose entries follow.
    pub name: HeadName,
    /// Where the chain stands at the map's size; none if it has no entries.
    pub head: Option<Head>,
    /// Of the head, or of its absence.
    pub proof: HeadProof,
    /// Of the event that enrolled the map.
    pub heads: Receipt,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct OpeningJson {
    version: u64,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    head: Option<HeadJson>,
    proof: ProofJson,
    heads: Box<RawValue>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HeadJson {
    count: u64,
    hash: String,
    last: u64,
}

impl Opening {
    /// Reads the line.
    pub fn parse(line: &[u8]) -> Result<Self, CompletenessError> {
        if line.len() > LINE_BYTES_MAX {
            return Err(shape("the first line is too long"));
        }
        let json: OpeningJson = serde_json::from_slice(line).map_err(shape)?;
        if json.version != 1 {
            return Err(shape(format!("version {} is not known", json.version)));
        }
        let head = json.head.map(|head| {
            let hash = Hash::from_hex(&head.hash).map_err(shape)?;
            Head::checked(head.count, hash, head.last).ok_or_else(|| shape("head"))
        });
        Ok(Self {
            name: json.name.parse().map_err(shape)?,
            head: head.transpose()?,
            proof: json.proof.read().map_err(shape)?,
            heads: Receipt::parse(json.heads.get().as_bytes()).map_err(CompletenessError::Heads)?,
        })
    }

    /// The line, without its end.
    pub fn to_json(&self) -> Result<String, CompletenessError> {
        let heads = self.heads.to_json().map_err(CompletenessError::Heads)?;
        let head =
            self.head.map(|head| HeadJson { count: head.count, hash: head.hash.to_hex(), last: head.last.0 });
        serde_json::to_string(&OpeningJson {
            version: 1,
            name: self.name.to_string(),
            head,
            proof: (&self.proof).into(),
            heads: RawValue::from_string(heads).map_err(shape)?,
        })
        .map_err(shape)
    }

    /// Checks the enrolled map and the head; the entries follow.
    pub fn begin(self, registry: &SignersRegistry) -> Result<Check<'_>, CompletenessError> {
        let verified = self.heads.verify(registry).map_err(CompletenessError::Heads)?;
        let enrolled = (verified.event.event_type == event_type::HEADS)
            .then(|| EnrolledHeads::parse(verified.event.payload))
            .flatten()
            .filter(|enrolled| enrolled.size.0 <= verified.index.0)
            .ok_or_else(|| CompletenessError::NotHeads(verified.event.event_type.to_owned()))?;
        let (index, checkpoint) = (verified.index, verified.checkpoint);
        self.proof.verify(&self.name, self.head.as_ref(), &enrolled)?;
        let Self { name, head, .. } = self;
        let last_hash = None;
        Ok(Check {
            name,
            head,
            enrolled,
            index,
            checkpoint,
            registry,
            so_far: None,
            last_hash,
            signatures: 0,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryJson<'a> {
    index: u64,
    #[serde(borrow)]
    event: &'a RawValue,
}

/// An entry's line, without its end.
pub fn entry_line(index: LeafIndex, leaf: &[u8]) -> String {
    format!("{{\"index\":{index},\"event\":{}}}", String::from_utf8_lossy(leaf))
}

/// A proof that is being read: its opening holds.
#[derive(Debug)]
pub struct Check<'r> {
    name: HeadName,
    head: Option<Head>,
    enrolled: EnrolledHeads,
    index: LeafIndex,
    checkpoint: VerifiedCheckpoint,
    registry: &'r SignersRegistry,
    so_far: Option<Head>,
    /// `hash` of the event before.
    last_hash: Option<Hash>,
    signatures: u64,
}

/// How far a proof was read: what a later proof of the same chain must continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Over the entries so far.
    pub head: Head,
    /// `hash` of the last of them.
    pub last_hash: Hash,
}

/// An entry that is in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedEntry {
    /// Where it is on the ledger.
    pub index: LeafIndex,
    /// The leaf.
    pub leaf: Vec<u8>,
}

/// These entries, and no others.
#[derive(Debug)]
pub struct Complete {
    /// Whose.
    pub name: HeadName,
    /// How many.
    pub entries: u64,
    /// Below this size; what came later is not spoken of.
    pub size: TreeSize,
    /// Where the map was enrolled.
    pub index: LeafIndex,
    /// The checkpoint it is under.
    pub checkpoint: VerifiedCheckpoint,
    /// Individual signatures among the entries that were verified.
    pub signatures: u64,
}

impl Check<'_> {
    /// Whose entries these are.
    pub const fn name(&self) -> &HeadName {
        &self.name
    }

    /// The size below which they are all there are.
    pub const fn size(&self) -> TreeSize {
        self.enrolled.size
    }

    /// Goes on behind entries that were checked before; none of them need be given again. That the chain still has
    /// them is what the last line decides.
    #[must_use]
    pub fn after(self, place: Place) -> Self {
        Self { so_far: Some(place.head), last_hash: Some(place.last_hash), ..self }
    }

    /// Where it stands; none before the first entry.
    pub fn place(&self) -> Option<Place> {
        self.so_far.zip(self.last_hash).map(|(head, last_hash)| Place { head, last_hash })
    }

    /// The checkpoint under which it is all said.
    pub const fn checkpoint(&self) -> &VerifiedCheckpoint {
        &self.checkpoint
    }

    /// How many there must be.
    pub fn expected(&self) -> u64 {
        self.head.map_or(0, |head| head.count)
    }

    /// Takes the next line.
    pub fn entry(&mut self, line: &[u8]) -> Result<CheckedEntry, CompletenessError> {
        if line.len() > LINE_BYTES_MAX {
            return Err(shape("a line is too long"));
        }
        let at = self.so_far.map_or(0, |head| head.count);
        let json: EntryJson<'_> = serde_json::from_slice(line).map_err(shape)?;
        let leaf = CanonicalJson::parse_around(json.event.get().as_bytes())
            .map_err(|source| CompletenessError::Canonical { at, source })?;
        let leaf = leaf.as_bytes().to_vec();
        let index = LeafIndex(json.index);
        let event = AuditEvent::parse(&leaf).map_err(|source| CompletenessError::Event { at, source })?;
        self.take(at, index, &event)?;
        Ok(CheckedEntry { index, leaf })
    }

    fn take(&mut self, at: u64, index: LeafIndex, event: &AuditEvent<'_>) -> Result<(), CompletenessError> {
        if !HeadName::all_of(event).contains(&self.name) {
            return Err(CompletenessError::Foreign { at, index, name: self.name.clone() });
        }
        if !self.enrolled.size.covers(index) || self.so_far.is_some_and(|head| head.last >= index) {
            return Err(CompletenessError::Order { at, index });
        }
        if self.name.stream().is_some() && (event.seq != at || event.prev_hash != self.last_hash) {
            return Err(CompletenessError::Gap { missing: at.min(event.seq) });
        }
        let wrong = |source| CompletenessError::Entry { at, source };
        check_place(event, index, &self.registry.ledger.origin).map_err(wrong)?;
        if event.event_type == event_type::ISSUED {
            let verified = verify_issued(event.payload, index, self.registry, None).map_err(wrong)?;
            self.signatures += verified.len() as u64;
        }
        self.last_hash = Some(event.hash);
        self.so_far = Some(Head::after(self.so_far.as_ref(), index, &event.hash));
        Ok(())
    }

    /// After the last line: whether these were all.
    pub fn finish(self) -> Result<Complete, CompletenessError> {
        let (given, there) = (self.so_far.map_or(0, |head| head.count), self.expected());
        if given != there {
            let (name, size) = (self.name, self.enrolled.size);
            return Err(CompletenessError::Count { name, there, given, size });
        }
        if self.so_far != self.head {
            return Err(CompletenessError::Other(self.name));
        }
        let Self { name, enrolled, index, checkpoint, signatures, .. } = self;
        Ok(Complete { name, entries: given, size: enrolled.size, index, checkpoint, signatures })
    }
}
