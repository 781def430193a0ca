#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed unwrap or index is the test's failure"
)]

use proptest::prelude::*;

use super::*;
use crate::merkle::tests::{Memory, leaves};
use crate::merkle::{Frontier, NodeSource, leaf_hash};

#[test]
fn paths_are_spelled_as_the_specification_spells_them() {
    for (index, text) in [
        (0, "000"),
        (255, "255"),
        (999, "999"),
        (1000, "x001/000"),
        (1_234_067, "x001/x234/067"),
        ((1 << 40) - 1, "x001/x099/x511/x627/775"),
        (u64::MAX, "x018/x446/x744/x073/x709/x551/615"),
    ] {
        assert_eq!(TilePath::tile(63, index).to_string(), format!("tile/63/{text}"));
        let partial = TilePath { width: Some(112), ..TilePath::entries(index) };
        assert_eq!(partial.to_string(), format!("tile/entries/{text}.p/112"));
        assert_eq!(TilePath::parse(&partial.to_string()), Some(partial));
    }
}

#[test]
fn the_partial_tiles_of_a_size_are_those_of_the_specification() {
    let paths = |size| TilePath::partial_tiles(size).map(|path| path.to_string()).collect::<Vec<_>>();
    assert_eq!(paths(0), [""; 0]);
    assert_eq!(paths(256), ["tile/1/000.p/1"]);
    assert_eq!(paths(65_536), ["tile/2/000.p/1"]);
    assert_eq!(paths(70_000), ["tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"]);
    assert_eq!(paths(16_777_217), ["tile/0/x065/536.p/1", "tile/3/000.p/1"]);
}

#[test]
fn a_path_has_one_spelling() {
    for bad in [
        "",
        "tile",
        "tile/",
        "tile/0",
        "tile/0/",
        "tile/0/0",
        "tile/0/00",
        "tile/0/0000",
        "tile/00/000",
        "tile/64/000",
        "tile/256/000",
        "tile/-1/000",
        "tile/+0/000",
        "tile/0/+00",
        "tile/0/x000/000",
        "tile/0/x001",
        "tile/0/001/000",
        "tile/0/x001/x000",
        "tile/0/x1/000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/",
        "tile/0/000.p",
        "tile/0/000/",
        "/tile/0/000",
        "tile//000",
        "tile/Entries/000",
        "tile/entries/000.p/1.p/1",
        "tile/0/x018/x446/x744/x073/x709/x551/616",
        "tile/0/٠٠٠",
    ] {
        assert_eq!(TilePath::parse(bad), None, "{bad}");
    }
}

#[test]
fn full_and_partial_tiles_of_a_size() {
    let at = |size: u64| {
        (0..4).map(|level| (full_tiles(level, size), partial_width(level, size))).collect::<Vec<_>>()
    };
    assert_eq!(at(0), [(0, None); 4]);
    assert_eq!(at(256), [(1, None), (0, Some(1)), (0, None), (0, None)]);
    assert_eq!(at(65_537), [(256, Some(1)), (1, None), (0, Some(1)), (0, None)]);
    assert_eq!(at(70_000), [(273, Some(112)), (1, Some(17)), (0, Some(1)), (0, None)]);
    assert_eq!(at(16_777_217), [(65_536, Some(1)), (256, None), (1, None), (0, Some(1))]);
    assert_eq!((full_tiles(7, u64::MAX), partial_width(7, u64::MAX)), (0, Some(255)));
    assert_eq!((full_tiles(8, u64::MAX), partial_width(8, u64::MAX)), (0, None));
    assert_eq!((full_tiles(u8::MAX, u64::MAX), partial_width(u8::MAX, u64::MAX)), (0, None));
    assert_eq!(TilePath::tail_entries(512), None);
    assert_eq!(TilePath::tail_entries(70_000).unwrap().to_string(), "tile/entries/273.p/112");
}

#[test]
fn the_specification_s_bundle_and_tile() {
    let entries: [&[u8]; 3] = [b"", b"a", &[1; 300]];
    let bundle = encode_bundle(entries).unwrap();
    assert_eq!((bundle.len(), &bundle[..7]), (307, &[0, 0, 0, 1, 0x61, 1, 0x2c][..]));
    let sha256 = |bytes: &[u8]| Hash::of(&[bytes]).to_hex();
    assert_eq!(sha256(&bundle), "840f06f664eb2f5367014f45e963293633637fe745ad991134bd4d0ec8e898eb");
    let tile = encode_tile(&entries.map(leaf_hash));
    assert_eq!(sha256(&tile), "8a961e8893e0537a91d67fc95774ddf1420a19cd94c347a247ec135b355ca44a");
    assert_eq!(decode_tile(&tile).unwrap(), entries.map(leaf_hash));
    assert_eq!(decode_bundle(&bundle).collect::<Result<Vec<_>, _>>().unwrap(), entries);
}

fn read(bytes: &[u8]) -> Vec<Result<&[u8], BundleError>> {
    decode_bundle(bytes).collect()
}

#[test]
fn damaged_tiles_and_bundles_are_refused() {
    for length in [0, 31, 33, TILE_BYTES + 32] {
        assert_eq!(decode_tile(&vec![0; length]), None, "{length}");
    }
    assert_eq!(decode_tile(&[0; TILE_BYTES]).unwrap().len(), 256);
    assert_eq!(read(&[0, 1, 7, 0]), [Ok(&[7][..]), Err(BundleError::Truncated(3))]);
    assert_eq!(read(&[0, 2, 7]), [Err(BundleError::Truncated(0))]);
    assert_eq!(read(&[]), []);
    let crowded = read(&[0; 2 * 257]);
    assert_eq!((crowded.len(), crowded.last()), (257, Some(&Err(BundleError::TooManyEntries))));
    assert_eq!(read(&[0; 2 * 1000]).len(), 257);
    assert_eq!(encode_bundle(vec![&[][..]; 257]), Err(BundleError::TooManyEntries));
    assert_eq!(encode_bundle([&[0; 65_536][..]]), Err(BundleError::EntryTooLong(65_536)));
    assert!(encode_bundle(vec![&[9; 65_535][..]; 256]).is_ok());
}

#[test]
fn every_node_is_found_in_its_tile() {
    let leaves = leaves(70_000);
    let memory = Memory::of(&leaves);
    let tile = |level: u8, index: u64| -> Vec<Hash> {
        let nodes = index * WIDTH..((index + 1) * WIDTH).min(leaves.len() as u64 >> (level * 8));
        nodes.map(|node| memory.node(level * 8, node).unwrap()).collect()
    };
    for level in 0..=16 {
        for index in (0..leaves.len() as u64 >> level).step_by(if level == 0 { 97 } else { 7 }) {
            let place = NodePlace::of(level, index).unwrap();
            let hashes = tile(place.level, place.index);
            assert_eq!(place.root_in(&hashes), memory.node(level, index).ok(), "level {level} index {index}");
        }
    }
    let beyond = NodePlace::of(0, 70_000).unwrap();
    assert_eq!(beyond.root_in(&tile(0, beyond.index)), None);
    assert_eq!(tile_root(&tile(0, 3)), memory.node(8, 3).ok());
    assert_eq!(tile_root(&tile(0, 273)), None);
    assert_eq!(tile_root(&[]), None);
    assert_eq!(NodePlace::of(64, 0), None);
    assert_eq!(NodePlace::of(63, 2), None);
    assert_eq!(NodePlace::of(1, u64::MAX), None);
    assert_eq!(NodePlace::of(63, 1).unwrap(), NodePlace { level: 7, index: 0, first: 128, count: 128 });
}

/// Feeds `counts` leaves batch by batch; checks every tile that pops out and the tail after each batch.
fn grow(counts: &[u64]) {
    let leaves = leaves(counts.iter().sum());
    let memory = Memory::of(&leaves);
    let (mut frontier, mut tail, mut size) = (Frontier::new(), TileTail::new(), 0);
    let mut seen = [0u64; LEVELS as usize];
    for count in counts {
        let batch = frontier.extend(&leaves[size as usize..(size + count) as usize]);
        for tile in tail.extend(&batch) {
            let slot = &mut seen[usize::from(tile.level)];
            assert_eq!((tile.index, tile.hashes.len()), (*slot, 256));
            *slot += 1;
            for (number, hash) in (tile.index * WIDTH..).zip(&tile.hashes) {
                assert_eq!(memory.node(tile.level * 8, number).unwrap(), *hash);
            }
        }
        size += count;
        assert!(tail.is_at(size), "at {size}");
        assert!(!tail.is_at(size + 1) && (size == 0 || !tail.is_at(size - 1)));
        for level in 0..LEVELS {
            assert_eq!(seen[usize::from(level)], full_tiles(level, size));
            assert_eq!(tail.partial(level).len(), partial_width(level, size).map_or(0, usize::from));
        }
        frontier = batch.into_frontier();
    }
    assert_eq!(rebuilt(&memory, size), tail);
}

/// The tail of a stored tree, as recovery makes it.
fn rebuilt(memory: &Memory, size: u64) -> TileTail {
    let mut tail = TileTail::new();
    for level in (0..LEVELS).take_while(|level| size >> (level * 8) > 0) {
        let full = full_tiles(level, size);
        tail.resume(level, full);
        for node in full * WIDTH..size >> (level * 8) {
            assert_eq!(tail.push(level, memory.node(level * 8, node).unwrap()), None);
        }
    }
    tail
}

#[test]
fn tiles_pop_out_across_levels() {
    grow(&[255, 1, 1, 65_279, 1, 4_463]);
    grow(&[65_535, 2, 0, 65_536]);
}

#[test]
fn a_tile_fills_by_single_nodes() {
    let mut tail = TileTail::new();
    tail.resume(0, 7);
    let full: Vec<FullTile> = leaves(257).into_iter().filter_map(|leaf| tail.push(0, leaf)).collect();
    assert_eq!(full, [FullTile { level: 0, index: 7, hashes: leaves(256) }]);
    assert_eq!(tail.partial(0), &leaves(257)[256..]);
    assert_eq!(tail.partial(1), []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn tiles_do_not_depend_on_the_batches(counts in prop::collection::vec(0u64..700, 1..8)) {
        grow(&counts);
    }

    #[test]
    fn parsing_a_path_undoes_writing_it(level in 0u8..64, entries: bool, index: u64, width: Option<u8>) {
        let width = width.filter(|width| *width != 0);
        let path = TilePath { level: (!entries).then_some(level), index, width };
        prop_assert_eq!(TilePath::parse(&path.to_string()), Some(path));
    }

    #[test]
    fn any_text_parses_to_itself_or_not_at_all(text in "(tile/)?([0-9]{1,3}|entries)/(x[0-9]{3}/){0,3}[0-9]{2,4}(\\.p/[0-9]{0,3})?") {
        if let Some(path) = TilePath::parse(&text) {
            prop_assert_eq!(path.to_string(), text);
        }
    }

    #[test]
    fn any_bytes_read_as_a_bundle_end(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let entries: Vec<_> = decode_bundle(&bytes).collect();
        prop_assert!(entries.len() <= 257);
        if let Ok(whole) = entries.into_iter().collect::<Result<Vec<_>, _>>() {
            prop_assert_eq!(encode_bundle(whole).unwrap(), bytes);
        }
    }
}
