//! Reads an archive folder with the format crate alone: what an auditor would see.

use std::collections::BTreeMap;
use std::path::Path;

use chancery_format::archive::checkpoint_name;
use chancery_format::merkle::Frontier;
use chancery_format::tile::{TilePath, WIDTH, decode_bundle};
use chancery_format::{AuditEvent, Hash, SignersRegistry, VerifiedCheckpoint, merkle};

/// Every leaf under the last archived checkpoint, in order.
pub fn leaves(archive: &Path, registry: &SignersRegistry) -> Vec<Vec<u8>> {
    let Some(last) = checkpoints(archive, registry).pop() else { return Vec::new() };
    let size = last.head().size.0;
    let mut leaves = Vec::new();
    for bundle in 0..size / WIDTH {
        read_bundle(archive, TilePath::entries(bundle), &mut leaves);
    }
    if let Some(tail) = TilePath::tail_entries(size) {
        read_bundle(archive, tail, &mut leaves);
    }
    assert_eq!(leaves.len() as u64, size);
    leaves
}

fn read_bundle(archive: &Path, path: TilePath, leaves: &mut Vec<Vec<u8>>) {
    let bundle = std::fs::read(archive.join(path.to_string())).unwrap();
    leaves.extend(decode_bundle(&bundle).map(|leaf| leaf.unwrap().to_vec()));
}

/// Every archived checkpoint, in order, each verified.
pub fn checkpoints(archive: &Path, registry: &SignersRegistry) -> Vec<VerifiedCheckpoint> {
    let keys = registry.ledger_keys().unwrap();
    let read = |epoch| std::fs::read_to_string(archive.join(checkpoint_name(epoch))).ok();
    let notes = (0..).map_while(read);
    notes.map(|note| keys.verify(&note).unwrap()).collect()
}

/// Root of the tree after each of the given sizes.
pub fn roots(leaves: &[Vec<u8>], sizes: &[u64]) -> BTreeMap<u64, Hash> {
    let mut frontier = Frontier::new();
    let mut roots = BTreeMap::new();
    for leaf in leaves {
        if sizes.contains(&frontier.size().0) {
            roots.insert(frontier.size().0, frontier.root());
        }
        frontier.push(merkle::leaf_hash(leaf));
    }
    roots.insert(frontier.size().0, frontier.root());
    roots
}

/// Checks that every stream is one chain without fork or gap; gives the number of events by type.
pub fn count_chained(leaves: &[Vec<u8>]) -> BTreeMap<String, u64> {
    let mut heads: BTreeMap<String, (u64, Hash)> = BTreeMap::new();
    let mut counts = BTreeMap::new();
    for (index, leaf) in leaves.iter().enumerate() {
        let event = AuditEvent::parse(leaf).unwrap();
        let head = heads.get(event.stream).copied();
        assert_eq!(
            event.seq,
            head.map_or(0, |(seq, _)| seq + 1),
            "leaf {index}: gap or fork in {}",
            event.stream
        );
        assert_eq!(
            event.prev_hash,
            head.map(|(_, hash)| hash),
            "leaf {index}: broken chain in {}",
            event.stream
        );
        heads.insert(event.stream.to_owned(), (event.seq, event.hash));
        *counts.entry(event.event_type.to_owned()).or_insert(0) += 1;
    }
    counts
}
