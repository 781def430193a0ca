//! One entry of a log, with the proof that it stands under the checkpoint the log signed.
//!
//! Read are the checkpoint, the tiles at the right edge, those on the entry's path and one bundle. Each tile is believed
//! once the signed root vouches for it, and the entry once its tile does.

use std::sync::Arc;

use chancery_format::merkle::verify_inclusion;
use chancery_format::tile::{WIDTH, decode_bundle};
use chancery_format::{Hash, LeafIndex};

use super::edge::{Remote, fetch_or_wider};
use super::error::MirrorError;
use super::head::{LogKeys, SignedHead};
use super::replica::bundle_path;
use super::round::ask;
use super::source::Source;
use super::tree::sound_bundle;
use crate::limits;

/// An entry that stands under a signed checkpoint; [`entry`] is the only way to one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenEntry {
    head: SignedHead,
    index: LeafIndex,
    leaf: Vec<u8>,
    proof: Vec<Hash>,
}

impl ProvenEntry {
    /// The checkpoint it stands under.
    pub const fn head(&self) -> &SignedHead {
        &self.head
    }

    /// Its position.
    pub const fn index(&self) -> LeafIndex {
        self.index
    }

    /// Its bytes, as they were hashed.
    pub fn leaf(&self) -> &[u8] {
        &self.leaf
    }

    /// The RFC 6962 inclusion proof, from the leaf's sibling to the root's child.
    pub fn proof(&self) -> &[Hash] {
        &self.proof
    }
}

/// Reads the entry at `index`, and proves it under the checkpoint that the log shows now.
pub async fn entry(source: &Arc<Source>, keys: &LogKeys, index: u64) -> Result<ProvenEntry, MirrorError> {
    let head = ask(source, keys).await?;
    let size = head.size();
    if index >= size {
        let what = format!("entry {index}: its checkpoint covers {size}, the first of which is 0");
        return Err(MirrorError::Missing(what));
    }
    let mut remote = Remote::open(source, head.head()).await?;
    let (proof, leaves) = remote.proof(index).await?;
    let path = bundle_path(index / WIDTH, size);
    let bytes = fetch_or_wider(source, path, limits::MIRROR_BUNDLE_BYTES_MAX).await?;
    let unsound = || MirrorError::bad(path, "its entries are not those of the tile");
    let bundle = sound_bundle(&bytes, &leaves).ok_or_else(unsound)?;
    let within = usize::try_from(index % WIDTH).unwrap_or(usize::MAX);
    let leaf = decode_bundle(&bundle).nth(within).and_then(Result::ok).ok_or_else(unsound)?.to_vec();
    let index = LeafIndex(index);
    verify_inclusion(&chancery_format::merkle::leaf_hash(&leaf), index, &proof, &head.head())
        .map_err(|error| MirrorError::bad(path, error))?;
    Ok(ProvenEntry { head, index, leaf, proof })
}
