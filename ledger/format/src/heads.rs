//! Heads: how many entries each stream has, and each key, and a hash over all of them.
//!
//! A *head* sums up one chain: the events of a stream, or the events that tell of a key pair. All heads of one tree
//! size stand in a map, sorted by name; its root is the root of an RFC 6962 tree over the map's leaves and is enrolled
//! as `ledger.heads`. So somebody who has the entries of one chain, and one path in the map, knows that there are no
//! others below that size: anybody who verifies the whole ledger has derived the same map (FORMAT.md §5.1).
//!
//! Nothing here is believed: [`HeadsMap`] is derived from leaves, [`HeadProof`] leads to a root or is refused.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::canonical::ObjectWriter;
use crate::event::AuditEvent;
use crate::hash::{Hash, LeafIndex, TreeHead, TreeSize};
use crate::merkle::{self, ProofError, leaf_hash, node_hash};
use crate::names::{Kid, NameError, StreamName};

#[cfg(test)]
mod tests;

/// What a head's hash begins with, so that it is no other hash of ours.
const HEAD_PREFIX: &[u8] = b"chancery/head/v1\n";
/// Longest path in a map: as many names as a tree has leaves at most.
const PATH_MAX: usize = 63;
/// Largest number in JSON (FORMAT.md §11).
const COUNT_MAX: u64 = (1 << 53) - 1;
/// Most leaves between a map's size and the leaf that enrols it: whoever verifies a ledger keeps so many in mind.
pub const HEADS_LAG_MAX: u64 = 65_536;

/// Whose entries a head sums up: `stream:NAME` or `key:SIGNER_KID`. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeadName(Arc<str>);

impl HeadName {
    const STREAM: &'static str = "stream:";
    const KEY: &'static str = "key:";

    /// The events of one stream.
    pub fn of_stream(stream: &StreamName) -> Self {
        Self::join(Self::STREAM, stream.as_str())
    }

    /// The events that tell of one key pair; `signer_kid` is its name in the registry.
    pub fn of_key(signer_kid: &Kid) -> Self {
        Self::join(Self::KEY, signer_kid.as_str())
    }

    fn join(kind: &str, name: &str) -> Self {
        Self([kind, name].concat().into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The stream, if it is one's.
    pub fn stream(&self) -> Option<&str> {
        self.0.strip_prefix(Self::STREAM)
    }

    /// The key pair, if it is one's.
    pub fn key(&self) -> Option<&str> {
        self.0.strip_prefix(Self::KEY)
    }

    /// Every chain that an event is in: its stream's, and [those of keys](Self::keys_of).
    pub fn all_of(event: &AuditEvent<'_>) -> Vec<Self> {
        LeafChains::of(event).names()
    }

    /// The chains of the key pairs that an event tells of: its type begins `signing.` or `signer.`, and its payload
    /// has the pair as `signer_kid`, or as the `signer_kid` of its `coSigner`.
    pub fn keys_of(event: &AuditEvent<'_>) -> Vec<Self> {
        LeafChains::of(event).keys().collect()
    }
}

/// What of a leaf goes into heads, found without reading the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeafChains<'a> {
    /// Kind of event.
    pub event_type: &'a str,
    /// Its `hash`.
    pub hash: Hash,
    stream: &'a str,
    /// Of an event that may tell of keys.
    payload: Option<&'a str>,
}

impl<'a> LeafChains<'a> {
    /// Of a leaf that is known to be one: this process made it, or proved it. `None` shows that it is none; of other bytes
    /// than a leaf's, what is found means nothing. Several times as fast as [`AuditEvent::read`].
    ///
    /// Members stand in a fixed order, and names have no quotes: so from the front up to `id`, and from the back down to
    /// `prevHash`, the first text that looks like a member is that member, whatever the author's part between them says.
    pub fn of_leaf(leaf: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(leaf).ok()?;
        let (_, rest) = text.split_once(",\"eventType\":\"")?;
        let (event_type, rest) = rest.split_once("\",\"hash\":\"")?;
        let (hash, rest) = rest.split_at_checked(2 * size_of::<Hash>())?;
        let (rest, placed) = rest.rsplit_once(",\"prevHash\":")?;
        let (_, stream) = placed.split_once("\",\"stream\":\"")?;
        let (stream, _) = stream.split_once('"')?;
        let payload = if may_tell_of_keys(event_type) {
            let (_, rest) = rest.strip_prefix("\",\"id\":\"")?.split_once('"')?;
            match rest.strip_prefix(",\"payload\":") {
                Some(payload) => Some(payload),
                // What the author added stands before the payload, and may look like one.
                None => Some(AuditEvent::read(leaf).ok()?.payload),
            }
        } else {
            None
        };
        Some(Self { event_type, hash: Hash::from_hex(hash).ok()?, stream, payload })
    }

    fn of(event: &AuditEvent<'a>) -> Self {
        let payload = may_tell_of_keys(event.event_type).then_some(event.payload);
        Self { event_type: event.event_type, hash: event.hash, stream: event.stream, payload }
    }

    /// Every chain that it is in.
    pub fn names(&self) -> Vec<HeadName> {
        self.keys().chain([HeadName::join(HeadName::STREAM, self.stream)]).collect()
    }

    fn keys(&self) -> impl Iterator<Item = HeadName> {
        let told = self.payload.and_then(|payload| serde_json::from_str::<Told<'a>>(payload).ok());
        let (first, second) = told.map_or((None, None), |told| (told.signer_kid, told.co_signer));
        let second = second.and_then(|it| it.signer_kid).filter(|it| first.as_ref() != Some(it));
        let kids = [first, second].into_iter().flatten();
        kids.filter(|kid| Kid::check(kid).is_ok()).map(|kid| HeadName::join(HeadName::KEY, &kid))
    }
}

fn may_tell_of_keys(event_type: &str) -> bool {
    event_type.starts_with("signing.") || event_type.starts_with("signer.")
}

/// What a payload says of keys.
#[derive(Deserialize)]
struct Told<'a> {
    #[serde(borrow)]
    signer_kid: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "coSigner")]
    co_signer: Option<ToldOfSecond<'a>>,
}

#[derive(Deserialize)]
struct ToldOfSecond<'a> {
    #[serde(borrow)]
    signer_kid: Option<Cow<'a, str>>,
}

impl fmt::Display for HeadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Neither `stream:NAME` nor `key:SIGNER_KID`. Whoever wrote it is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadNameError {
    /// Another kind, or none.
    #[error("must begin with stream: or key:")]
    Kind,
    /// What follows is not a name.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl FromStr for HeadName {
    type Err = HeadNameError;
    fn from_str(text: &str) -> Result<Self, HeadNameError> {
        match (text.strip_prefix(Self::STREAM), text.strip_prefix(Self::KEY)) {
            (Some(stream), _) => StreamName::check(stream)?,
            (_, Some(kid)) => Kid::check(kid)?,
            _ => return Err(HeadNameError::Kind),
        }
        Ok(Self(text.into()))
    }
}

/// Where a chain stands after its last entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Entries so far; at least one.
    pub count: u64,
    /// Over all of them: H(`chancery/head/v1` 0x0A ‖ the hash before, or 32 zero bytes ‖ index:8 ‖ the event's `hash`).
    pub hash: Hash,
    /// Index of the last one.
    pub last: LeafIndex,
}

impl Head {
    /// As it was written down; `None` if the numbers are none that are written.
    pub fn checked(count: u64, hash: Hash, last: u64) -> Option<Self> {
        let fits = (1..=COUNT_MAX).contains(&count) && last <= COUNT_MAX;
        fits.then_some(Self { count, hash, last: LeafIndex(last) })
    }

    /// With one entry more.
    pub fn after(before: Option<&Self>, index: LeafIndex, event_hash: &Hash) -> Self {
        let previous = before.map_or([0; 32], |head| head.hash.0);
        let hash = Hash::of(&[HEAD_PREFIX, &previous, &index.0.to_be_bytes(), &event_hash.0]);
        Self { count: before.map_or(0, |head| head.count) + 1, hash, last: index }
    }

    /// The map's leaf: RFC 8785 JSON with `count`, `hash`, `last`, `name`.
    fn leaf(&self, name: &HeadName) -> Hash {
        let json = ObjectWriter::new()
            .integer("count", self.count)
            .string("hash", &self.hash.to_hex())
            .integer("last", self.last.0)
            .string("name", name.as_str())
            .finish();
        leaf_hash(json.as_bytes())
    }
}

/// All heads of one tree size, and the tree over them. Memory: about 200 bytes a name.
#[derive(Debug, Clone, Default)]
pub struct HeadsMap {
    /// As of the last [`root`](Self::root), sorted by name.
    settled: Vec<(HeadName, Head)>,
    /// The tree over `settled`, leaves first; a last node without neighbour moves up unchanged.
    levels: Vec<Vec<Hash>>,
    /// What changed since.
    pending: BTreeMap<HeadName, Head>,
    /// Of those, names that `settled` lacks.
    new: usize,
}

impl HeadsMap {
    /// From heads as they were stored, in any order.
    pub fn of(heads: impl IntoIterator<Item = (HeadName, Head)>) -> Self {
        let pending: BTreeMap<_, _> = heads.into_iter().collect();
        Self { new: pending.len(), pending, ..Self::default() }
    }

    /// How many names.
    pub fn len(&self) -> usize {
        self.settled.len() + self.new
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where a chain stands.
    pub fn get(&self, name: &HeadName) -> Option<&Head> {
        self.pending.get(name).or_else(|| self.settled(name))
    }

    /// Takes an event in: of these chains ([`HeadName::all_of`]), at this index, with this `hash`.
    pub fn add(&mut self, names: impl IntoIterator<Item = HeadName>, index: LeafIndex, event_hash: &Hash) {
        for name in names {
            self.follow(&name, index, event_hash);
        }
    }

    /// Takes an event into one chain. How many entries came before it; `None` if the chain is known up to this index, and
    /// nothing changes.
    pub fn follow(&mut self, name: &HeadName, index: LeafIndex, event_hash: &Hash) -> Option<u64> {
        let before = self.get(name).copied();
        if before.is_some_and(|head| head.last >= index) {
            return None;
        }
        let head = Head::after(before.as_ref(), index, event_hash);
        match self.pending.get_mut(name) {
            Some(pending) => *pending = head,
            None => {
                self.new += usize::from(before.is_none());
                self.pending.insert(name.clone(), head);
            }
        }
        Some(head.count - 1)
    }

    /// The root over all names, and how many there are. Costs a few hashes for each head that changed, and the
    /// whole tree again where names are new. Until the next one, [`settled`](Self::settled) and
    /// [`proof`](Self::proof) speak of this map, whatever is added.
    pub fn root(&mut self) -> (u64, Hash) {
        self.settle();
        let root = self.levels.last().and_then(|top| top.first()).copied();
        (self.settled.len() as u64, root.unwrap_or_else(merkle::empty_root))
    }

    /// Every head as it stands now.
    pub fn all(&self) -> impl Iterator<Item = (&HeadName, &Head)> {
        let unchanged = self.settled.iter().filter(|(name, _)| !self.pending.contains_key(name));
        self.pending.iter().chain(unchanged.map(|(name, head)| (name, head)))
    }

    /// The heads that changed since the last root.
    pub fn pending(&self) -> impl Iterator<Item = (&HeadName, &Head)> {
        self.pending.iter()
    }

    /// Where a chain stood at the last root.
    pub fn settled(&self, name: &HeadName) -> Option<&Head> {
        self.settled_at(name).and_then(|at| Some(&self.settled.get(at)?.1))
    }

    /// The proof, under the last root, that a chain stood where it stood, or that there was none of this name.
    pub fn proof(&self, name: &HeadName) -> HeadProof {
        match self.settled.binary_search_by(|(known, _)| known.cmp(name)) {
            Ok(at) => HeadProof::Present { position: at as u64, path: self.path(at) },
            Err(at) => HeadProof::Absent {
                before: at.checked_sub(1).and_then(|at| self.neighbour(at)),
                after: self.neighbour(at),
            },
        }
    }

    fn settled_at(&self, name: &HeadName) -> Option<usize> {
        self.settled.binary_search_by(|(known, _)| known.cmp(name)).ok()
    }

    fn settle(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        if std::mem::take(&mut self.new) > 0 {
            let mut new = Vec::new();
            for (name, head) in pending {
                match self.settled_at(&name).and_then(|at| self.settled.get_mut(at)) {
                    Some(known) => known.1 = head,
                    None => new.push((name, head)),
                }
            }
            self.settled.append(&mut new);
            // Two sorted runs, which this merges.
            self.settled.sort_by(|(one, _), (other, _)| one.cmp(other));
            self.levels = vec![self.settled.iter().map(|(name, head)| head.leaf(name)).collect()];
            while let Some(below) = self.levels.last().filter(|level| level.len() > 1) {
                let above = below.chunks(2).map(join).collect();
                self.levels.push(above);
            }
            return;
        }
        for (name, head) in pending {
            let Some(at) = self.settled_at(&name) else { continue };
            if let Some(known) = self.settled.get_mut(at) {
                known.1 = head;
            }
            self.climb(at, head.leaf(&name));
        }
    }

    /// Replaces a leaf, and every node above it.
    fn climb(&mut self, mut at: usize, mut node: Hash) {
        for level in &mut self.levels {
            if let Some(place) = level.get_mut(at) {
                *place = node;
            }
            at /= 2;
            node = level.chunks(2).nth(at).map_or(node, join);
        }
    }

    /// From the leaf's sibling to the root's child.
    fn path(&self, at: usize) -> Vec<Hash> {
        let siblings = self.levels.iter().scan(at, |at, nodes| {
            let sibling = nodes.get(*at ^ 1).copied();
            *at /= 2;
            Some(sibling)
        });
        siblings.flatten().collect()
    }

    fn neighbour(&self, at: usize) -> Option<Neighbour> {
        let (name, head) = self.settled.get(at)?;
        Some(Neighbour { name: name.clone(), head: *head, position: at as u64, path: self.path(at) })
    }
}

/// The node above one or two.
fn join(pair: &[Hash]) -> Hash {
    match pair {
        [left, right] => node_hash(left, right),
        [alone, ..] => *alone,
        [] => merkle::empty_root(),
    }
}

/// The root of a map as it is enrolled: the payload of `ledger.heads`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnrolledHeads {
    /// Names in the map.
    pub names: u64,
    /// Its root.
    pub root: Hash,
    /// Leaves that it sums up: those below this size.
    pub size: TreeSize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EnrolledJson<'a> {
    names: u64,
    root: &'a str,
    size: u64,
}

impl EnrolledHeads {
    /// Reads a payload; `None` if it is none.
    pub fn parse(payload: &str) -> Option<Self> {
        let json: EnrolledJson<'_> = serde_json::from_str(payload).ok()?;
        Some(Self { names: json.names, root: Hash::from_hex(json.root).ok()?, size: TreeSize(json.size) })
    }

    const fn tree(&self) -> TreeHead {
        TreeHead { size: TreeSize(self.names), root: self.root }
    }
}

/// What a map says of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadProof {
    /// It has a head, at this position.
    Present {
        /// From 0, in the order of names.
        position: u64,
        /// From the leaf's sibling to the root's child.
        path: Vec<Hash>,
    },
    /// It has none: the names it would stand between are neighbours.
    Absent {
        /// The greatest name before it; none if it would be the first.
        before: Option<Neighbour>,
        /// The smallest name after it; none if it would be the last.
        after: Option<Neighbour>,
    },
}

/// A name of a map, with its proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// Whose.
    pub name: HeadName,
    /// Where it stands.
    pub head: Head,
    /// From 0, in the order of names.
    pub position: u64,
    /// From the leaf's sibling to the root's child.
    pub path: Vec<Hash>,
}

/// Why the heads do not say what was claimed. Whoever made the proof is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadsError {
    /// The path does not lead from this head to the enrolled root.
    #[error("the head is not the one in the enrolled map: {0}")]
    Head(#[from] ProofError),
    /// Entries were given of a chain that is said to have none, or the other way round.
    #[error("the proof is of another number of entries")]
    Count,
    /// The names do not surround the one in question.
    #[error("the names given do not stand next to each other around it")]
    Neighbours,
}

impl HeadProof {
    /// Checks that in the enrolled map `name` has exactly this head, or none.
    pub fn verify(
        &self,
        name: &HeadName,
        head: Option<&Head>,
        enrolled: &EnrolledHeads,
    ) -> Result<(), HeadsError> {
        match (self, head) {
            (Self::Present { position, path }, Some(head)) => {
                Ok(verify_path(name, head, *position, path, enrolled)?)
            }
            (Self::Absent { before, after }, None) => absent(name, before.as_ref(), after.as_ref(), enrolled),
            _ => Err(HeadsError::Count),
        }
    }
}

fn verify_path(
    name: &HeadName,
    head: &Head,
    position: u64,
    path: &[Hash],
    enrolled: &EnrolledHeads,
) -> Result<(), ProofError> {
    merkle::verify_inclusion(&head.leaf(name), LeafIndex(position), path, &enrolled.tree())
}

fn absent(
    name: &HeadName,
    before: Option<&Neighbour>,
    after: Option<&Neighbour>,
    enrolled: &EnrolledHeads,
) -> Result<(), HeadsError> {
    for neighbour in [before, after].into_iter().flatten() {
        verify_path(&neighbour.name, &neighbour.head, neighbour.position, &neighbour.path, enrolled)?;
    }
    let next = match before {
        Some(before) if before.name < *name => {
            before.position.checked_add(1).ok_or(HeadsError::Neighbours)?
        }
        None => 0,
        Some(_) => return Err(HeadsError::Neighbours),
    };
    let is_next = match after {
        Some(after) => after.name > *name && after.position == next,
        None => enrolled.names == next && (next > 0 || enrolled.root == merkle::empty_root()),
    };
    if is_next { Ok(()) } else { Err(HeadsError::Neighbours) }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NeighbourJson {
    name: String,
    count: u64,
    hash: String,
    last: u64,
    position: u64,
    path: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PresentJson {
    position: u64,
    path: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AbsentJson {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<NeighbourJson>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<NeighbourJson>,
}

/// A proof in JSON: `{"present":{…}}` or `{"absent":{…}}`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) enum ProofJson {
    Present(PresentJson),
    Absent(AbsentJson),
}

impl From<&HeadProof> for ProofJson {
    fn from(proof: &HeadProof) -> Self {
        match proof {
            HeadProof::Present { position, path } => {
                Self::Present(PresentJson { position: *position, path: hex(path) })
            }
            HeadProof::Absent { before, after } => Self::Absent(AbsentJson {
                before: before.as_ref().map(NeighbourJson::from),
                after: after.as_ref().map(NeighbourJson::from),
            }),
        }
    }
}

impl From<&Neighbour> for NeighbourJson {
    fn from(it: &Neighbour) -> Self {
        Self {
            name: it.name.to_string(),
            count: it.head.count,
            hash: it.head.hash.to_hex(),
            last: it.head.last.0,
            position: it.position,
            path: hex(&it.path),
        }
    }
}

impl ProofJson {
    /// The proof, or which part of it is none.
    pub(crate) fn read(self) -> Result<HeadProof, &'static str> {
        Ok(match self {
            Self::Present(it) => HeadProof::Present { position: it.position, path: unhex(&it.path)? },
            Self::Absent(it) => HeadProof::Absent {
                before: it.before.map(NeighbourJson::read).transpose()?,
                after: it.after.map(NeighbourJson::read).transpose()?,
            },
        })
    }
}

impl NeighbourJson {
    fn read(self) -> Result<Neighbour, &'static str> {
        let hash = Hash::from_hex(&self.hash).map_err(|_| "hash")?;
        Ok(Neighbour {
            name: self.name.parse().map_err(|_| "name")?,
            head: Head::checked(self.count, hash, self.last).ok_or("count or last")?,
            position: self.position,
            path: unhex(&self.path)?,
        })
    }
}

fn hex(path: &[Hash]) -> Vec<String> {
    path.iter().map(Hash::to_hex).collect()
}

fn unhex(path: &[String]) -> Result<Vec<Hash>, &'static str> {
    if path.len() > PATH_MAX {
        return Err("path");
    }
    path.iter().map(|hash| Hash::from_hex(hash).map_err(|_| "path")).collect()
}
