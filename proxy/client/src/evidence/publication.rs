//! Finds the entry that published a registry.
//!
//! A registry names the indices of what became of its keys, and the ledger publishes it after the last of them, mostly at
//! once: so the search begins there.

use chancery_format::evidence::RegistrySlice;
use chancery_format::tile::WIDTH;
use chancery_format::{Hash, LeafIndex, SignersRegistry, TreeSize};

use super::{BundleError, read_registry};
use crate::limits;
use crate::mirror::{Progress, Prover, Watcher};

/// The registry with the entry that published it, proven at `size`.
pub(super) async fn find(
    prover: &mut Prover,
    file: String,
    size: TreeSize,
    known: Option<LeafIndex>,
    watcher: &mut dyn Watcher,
) -> Result<RegistrySlice, BundleError> {
    let sha256 = Hash::of(&[file.as_bytes()]);
    let begin = known.map_or_else(|| read_registry(&file).map(|it| last_index(&it)), |at| Ok(at.0))?;
    let first = begin / WIDTH;
    let bundles = match known {
        Some(_) => 1,
        None => size.0.div_ceil(WIDTH).saturating_sub(first).min(limits::REGISTRY_SEARCH_BUNDLES_MAX),
    };
    let mut progress = Progress { done: 0, total: bundles, bytes: 0 };
    let mut to = begin;
    for bundle in first..first.saturating_add(bundles) {
        if bundle.saturating_mul(WIDTH) >= size.0 {
            break;
        }
        let entries = prover.entries(bundle).await?;
        progress.bytes += entries.iter().map(|entry| entry.len() as u64).sum::<u64>();
        progress.done += 1;
        watcher.at(&progress);
        for (index, leaf) in (bundle.saturating_mul(WIDTH)..size.0).zip(entries) {
            to = index + 1;
            if RegistrySlice::is_published_by(&sha256, &leaf) {
                let path = prover.inclusion(LeafIndex(index), size).await?;
                return Ok(RegistrySlice::new(file, leaf, LeafIndex(index), path)?);
            }
        }
    }
    Err(BundleError::Unpublished { from: first.saturating_mul(WIDTH), to })
}

/// The last index that a registry speaks of.
fn last_index(registry: &SignersRegistry) -> u64 {
    let of = |signer: &chancery_format::registry::SignerRecord| {
        [signer.activated_index, signer.retired_index, signer.compromised_since].into_iter().flatten().max()
    };
    registry.signers.iter().filter_map(of).max().unwrap_or(0)
}
