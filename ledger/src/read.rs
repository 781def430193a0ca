//! Reading the tree: leaves, tiles, bundles, proofs and roots of any size up to the head.
//!
//! A reader sees one head for as long as it lives. Full tiles and leaves below that head are on disk and
//! never change; the partial tiles come from memory. All of this blocks: async callers go through
//! [`Roll`](crate::Roll).

use std::cmp::Ordering;
use std::sync::Arc;

use chancery_format::committed::Kind;
use chancery_format::merkle::{self, NodeSource, ProofError};
use chancery_format::tile::{self, NodePlace, WIDTH};
use chancery_format::{AuditEvent, Committed, DurableHead, EventId, Hash, LeafIndex, StreamName, TreeSize};

use crate::layout::StreamHead;
use crate::roll::StoredLeaf;
use crate::sequencer::Fatal;
use crate::shared::View;
use crate::store::{Store, StoreError};
use crate::tile_trees::TileTrees;

/// The tree under one head.
pub(crate) struct Reader<'a> {
    store: &'a Store,
    trees: &'a TileTrees,
    view: Arc<View>,
    origin_tag: [u8; 6],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(store: &'a Store, trees: &'a TileTrees, view: Arc<View>, origin_tag: [u8; 6]) -> Self {
        Self { store, trees, view, origin_tag }
    }

    pub(crate) fn head(&self) -> DurableHead {
        self.view.head
    }

    fn size(&self) -> TreeSize {
        self.view.head.head().size
    }

    /// The leaf at `index`; `None` beyond the head.
    pub(crate) fn leaf(&self, index: LeafIndex) -> Result<Option<StoredLeaf>, Fatal> {
        if !self.size().covers(index) {
            return Ok(None);
        }
        let missing = || StoreError::Corrupt(format!("entry {index} is missing"));
        let bytes = self.store.leaf(index)?.ok_or_else(missing)?;
        Ok(Some(StoredLeaf { index, bytes: bytes.into() }))
    }

    /// The event with this id, whether its author or the ledger made it.
    pub(crate) fn find_event(&self, id: &EventId) -> Result<Option<StoredLeaf>, Fatal> {
        let index = match id.index(self.origin_tag) {
            Some(index) => Some(index),
            None => self.store.event_id(id.as_str())?,
        };
        let Some(leaf) = index.map(|index| self.leaf(index)).transpose()?.flatten() else { return Ok(None) };
        // An event whose author named it does not answer to the name it would have got.
        let named = AuditEvent::read(&leaf.bytes).is_ok_and(|event| event.id == id.as_str());
        Ok(named.then_some(leaf))
    }

    pub(crate) fn stream_head(&self, stream: &StreamName) -> Result<Option<StreamHead>, Fatal> {
        Ok(self.store.stream(stream)?)
    }

    /// Events of a stream from `from_seq` on, at most `limit`, as far as the head goes.
    pub(crate) fn stream_page(
        &self,
        stream: &StreamName,
        from_seq: u64,
        limit: usize,
    ) -> Result<Vec<StoredLeaf>, Fatal> {
        let Some(head) = self.store.stream(stream)? else { return Ok(Vec::new()) };
        let indices = self.store.stream_indices(head.number, from_seq, limit)?;
        let leaves = indices.into_iter().map(|index| self.leaf(index));
        Ok(leaves.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    /// A hash tile: full, or its first `width` hashes; `None` if the tree does not have them.
    pub(crate) fn tile(&self, level: u8, number: u64, width: Option<u8>) -> Result<Option<Vec<u8>>, Fatal> {
        let wanted = width.map_or(WIDTH as usize, usize::from);
        if level >= tile::LEVELS || number > tile::full_tiles(level, self.size().0) || wanted == 0 {
            return Ok(None);
        }
        let hashes = self.hashes(level, number)?;
        Ok(hashes.get(..wanted).map(tile::encode_tile))
    }

    /// An entry bundle: full, or its first `width` entries; `None` if the tree does not have them.
    pub(crate) fn bundle(&self, number: u64, width: Option<u8>) -> Result<Option<Vec<u8>>, Fatal> {
        let wanted = width.map_or(WIDTH, u64::from);
        let end = number.checked_mul(WIDTH).and_then(|first| first.checked_add(wanted));
        if wanted == 0 || end.is_none_or(|end| end > self.size().0) {
            return Ok(None);
        }
        let leaves = self.store.leaves(number * WIDTH, wanted as usize)?;
        let bundle = tile::encode_bundle(leaves.iter().map(AsRef::as_ref));
        Ok(Some(bundle.map_err(|long| StoreError::Corrupt(long.to_string()))?))
    }

    /// Proof that the leaf at `index` is in the tree of `size` leaves.
    pub(crate) fn inclusion_proof(&self, index: LeafIndex, size: TreeSize) -> Result<Vec<Hash>, Fatal> {
        merkle::inclusion_proof(self, index, size)
    }

    /// Proof that the tree of `new` leaves begins with that of `old`.
    pub(crate) fn consistency_proof(&self, old: TreeSize, new: TreeSize) -> Result<Vec<Hash>, Fatal> {
        merkle::consistency_proof(self, old, new)
    }

    /// Root of the first `size` leaves.
    pub(crate) fn root_at(&self, size: TreeSize) -> Result<Hash, Fatal> {
        let mut joined: Option<Hash> = None;
        // From the smallest complete subtree up.
        for level in (0..64u8).filter(|level| size.0 >> level & 1 == 1) {
            let left = self.node(level, (size.0 >> level) - 1)?;
            joined = Some(joined.map_or(left, |right| merkle::node_hash(&left, &right)));
        }
        Ok(joined.unwrap_or_else(merkle::empty_root))
    }

    /// Reads a leaf back and proves it anew.
    pub(crate) fn committed<K: Kind>(&self, index: LeafIndex) -> Result<Committed<K>, Fatal> {
        let leaf = self.leaf(index)?.ok_or(ProofError::OutOfRange)?;
        let proof = self.inclusion_proof(index, self.size())?;
        let proven = Committed::verify(leaf.bytes, index, &proof, &self.view.head);
        proven.map_err(|cause| Fatal::Proof { index, cause })
    }

    /// The recorded checkpoint of exactly this size.
    pub(crate) fn checkpoint(&self, size: TreeSize) -> Result<Option<String>, Fatal> {
        let found = self.store.checkpoint_from(size.0)?;
        Ok(found.filter(|(found, _)| *found == size).map(|(_, note)| note))
    }

    /// The newest checkpoint of at most `size` leaves that enough witnesses cosigned.
    pub(crate) fn witnessed_up_to(&self, size: TreeSize) -> Result<Option<(TreeSize, String)>, Fatal> {
        Ok(self.store.witnessed_up_to(size.0)?)
    }

    /// A recorded version of `signers.json` and its note.
    pub(crate) fn registry(&self, version: u64) -> Result<Option<(Vec<u8>, String)>, Fatal> {
        Ok(self.store.registry(version)?)
    }

    /// The size an archive epoch was planned with.
    pub(crate) fn epoch(&self, epoch: u64) -> Result<Option<TreeSize>, Fatal> {
        Ok(self.store.epoch(epoch)?)
    }

    /// The last planned archive epoch.
    pub(crate) fn last_epoch(&self) -> Result<Option<u64>, Fatal> {
        Ok(self.store.last_epoch()?)
    }

    /// All hashes of a tile that the tree has.
    fn hashes(&self, level: u8, number: u64) -> Result<Vec<Hash>, Fatal> {
        match self.partial(level, number) {
            Some(hashes) => Ok(hashes.to_vec()),
            None => Ok(self.store.tile(level, number)?),
        }
    }

    /// What the tree has of a tile that is not full, which is nothing beyond its edge; `None` if it is full.
    fn partial(&self, level: u8, number: u64) -> Option<&[Hash]> {
        match number.cmp(&tile::full_tiles(level, self.size().0)) {
            Ordering::Less => None,
            Ordering::Equal => Some(self.view.tail.partial(level)),
            Ordering::Greater => Some(&[]),
        }
    }

    /// A proof from what is in memory, without a look at the disk; `None` if that is not enough.
    pub(crate) fn inclusion_proof_in_memory(&self, index: LeafIndex, size: TreeSize) -> Option<Vec<Hash>> {
        merkle::inclusion_proof(&InMemory(self), index, size).ok()
    }
}

impl NodeSource for Reader<'_> {
    type Error = Fatal;

    fn node(&self, level: u8, index: u64) -> Result<Hash, Fatal> {
        let place = NodePlace::of(level, index).ok_or(ProofError::OutOfRange)?;
        if let Some(known) = self.trees.node(&place) {
            return Ok(known);
        }
        let learnt = match self.partial(place.level, place.index) {
            Some(hashes) => self.trees.learn(&place, hashes),
            None => self.trees.learn(&place, &self.store.tile(place.level, place.index)?),
        };
        Ok(learnt.ok_or(ProofError::OutOfRange)?)
    }
}

/// The nodes of a tree that need no reading.
struct InMemory<'a>(&'a Reader<'a>);

impl NodeSource for InMemory<'_> {
    type Error = ProofError;

    fn node(&self, level: u8, index: u64) -> Result<Hash, ProofError> {
        let Self(reader) = self;
        let place = NodePlace::of(level, index).ok_or(ProofError::OutOfRange)?;
        let known = reader.trees.node(&place);
        let learn = || reader.trees.learn(&place, reader.partial(place.level, place.index)?);
        known.or_else(learn).ok_or(ProofError::OutOfRange)
    }
}
