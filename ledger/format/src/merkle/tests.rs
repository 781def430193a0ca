#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed unwrap or index is the test's failure"
)]

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use proptest::prelude::*;
use sha2::Sha256;

use super::*;

/// A tree kept whole: every complete node, and the definition of RFC 6962 §2.1 beside them.
pub(crate) struct Memory {
    levels: Vec<Vec<Hash>>,
}

impl Memory {
    pub(crate) fn of(leaves: &[Hash]) -> Self {
        let mut levels = vec![leaves.to_vec()];
        while levels.last().unwrap().len() > 1 {
            let (pairs, _) = levels.last().unwrap().as_chunks::<2>();
            levels.push(pairs.iter().map(|[left, right]| node_hash(left, right)).collect());
        }
        Self { levels }
    }

    fn root(&self, size: u64) -> Hash {
        defined_root(&self.levels[0][..size as usize])
    }

    fn head(&self, size: u64) -> TreeHead {
        TreeHead { size: TreeSize(size), root: self.root(size) }
    }
}

impl NodeSource for Memory {
    type Error = ProofError;
    fn node(&self, level: u8, index: u64) -> Result<Hash, ProofError> {
        Ok(self.levels[usize::from(level)][index as usize])
    }
}

/// `MTH` as RFC 6962 writes it.
fn defined_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [leaf] => *leaf,
        _ => {
            let split = (1..).map(|level| 1 << level).take_while(|k| *k < leaves.len()).last().unwrap_or(1);
            node_hash(&defined_root(&leaves[..split]), &defined_root(&leaves[split..]))
        }
    }
}

pub(crate) fn leaves(count: u64) -> Vec<Hash> {
    (0..count).map(|number| leaf_hash(&number.to_be_bytes())).collect()
}

fn hex_hash(text: &str) -> Hash {
    Hash::from_hex(text).unwrap()
}

/// Leaves and roots of the certificate transparency test tree.
const CT_ENTRIES: [&str; 8] =
    ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
const CT_ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

#[test]
fn the_transparency_test_tree_has_its_known_root_at_each_size() {
    let entries = CT_ENTRIES.map(|entry| leaf_hash(&hex::decode(entry).unwrap()));
    let mut pushed = Frontier::new();
    for (size, root) in CT_ROOTS.iter().enumerate() {
        assert_eq!(pushed.root(), hex_hash(root));
        assert_eq!(Frontier::new().extend(&entries[..size]).head().root, hex_hash(root));
        pushed.push(entries[size.min(7)]);
    }
}

#[test]
fn a_published_inclusion_proof_is_made_and_verifies() {
    let base64 = |text: &str| Hash(crate::entry::decode_base64(text).unwrap().try_into().unwrap());
    let entries: [&[u8]; 3] = [b"", b"a", &[1; 300]];
    let tree = Frontier::new().extend(&entries.map(leaf_hash));
    assert_eq!(tree.head().root, base64("sgbG5Jjy2NPw+6xDsP5UZIjKceiOnsIxHH2iJbNfFYo="));
    let proof = tree.proof(LeafIndex(1)).unwrap();
    assert_eq!(
        proof,
        [
            base64("bjQLnP+zepicpUTmu3gKLHiQHT+zNzh2hRGjBhevoB0="),
            base64("tJstIsZG3MA/boPS3QHi7pBPQFJ/Rb/NRU+nAWmMa9I=")
        ]
    );
    assert_eq!(verify_inclusion(&leaf_hash(b"a"), LeafIndex(1), &proof, &tree.head()), Ok(()));
}

#[test]
fn every_leaf_of_every_small_tree_is_proven_and_its_neighbour_is_not() {
    let leaves = leaves(301);
    let memory = Memory::of(&leaves);
    for size in 1..=300 {
        let head = memory.head(size);
        for index in 0..size {
            let proof = inclusion_proof(&memory, LeafIndex(index), TreeSize(size)).unwrap();
            let check = |leaf: u64, index: u64, proof: &[Hash]| {
                verify_inclusion(&leaves[leaf as usize], LeafIndex(index), proof, &head)
            };
            assert_eq!(check(index, index, &proof), Ok(()), "{index} of {size}");
            assert_eq!(check(index + 1, index, &proof), Err(ProofError::RootMismatch), "{index} of {size}");
            assert!(check(index, index ^ 1, &proof).is_err(), "{index} of {size} as its neighbour");
            let longer = [proof.as_slice(), &[leaves[0]]].concat();
            assert_eq!(check(index, index, &longer), Err(ProofError::WrongLength));
            if let Some((_, shorter)) = proof.split_last() {
                assert_eq!(check(index, index, shorter), Err(ProofError::WrongLength));
            }
        }
        assert_eq!(inclusion_proof(&memory, LeafIndex(size), TreeSize(size)), Err(ProofError::OutOfRange));
        let outside = verify_inclusion(&leaves[0], LeafIndex(size), &[], &head);
        assert_eq!(outside, Err(ProofError::OutOfRange));
    }
}

#[test]
fn every_small_tree_is_proven_to_begin_with_every_smaller_one() {
    let leaves = leaves(300);
    let memory = Memory::of(&leaves);
    let heads: Vec<TreeHead> = (0..=300).map(|size| memory.head(size)).collect();
    for (old, new) in (0..=300).flat_map(|new| (0..=new).map(move |old| (old, new))) {
        let proof = consistency_proof(&memory, TreeSize(old), TreeSize(new)).unwrap();
        let (old_head, new_head) = (heads[old as usize], heads[new as usize]);
        assert_eq!(verify_consistency(&old_head, &new_head, &proof), Ok(()), "{old} to {new}");
        let forged = |head: TreeHead| TreeHead { root: leaf_hash(b"forged"), ..head };
        assert!(verify_consistency(&forged(old_head), &new_head, &proof).is_err(), "{old} to {new}");
        if old > 0 {
            assert!(verify_consistency(&old_head, &forged(new_head), &proof).is_err(), "{old} to {new}");
        }
        let longer = [proof.as_slice(), &[leaves[0]]].concat();
        assert!(verify_consistency(&old_head, &new_head, &longer).is_err(), "{old} to {new}, longer");
        if let Some((_, shorter)) = proof.split_last() {
            assert!(verify_consistency(&old_head, &new_head, shorter).is_err(), "{old} to {new}, shorter");
        }
        if old < new {
            assert_eq!(verify_consistency(&new_head, &old_head, &proof), Err(ProofError::OutOfRange));
        }
    }
    assert_eq!(consistency_proof(&memory, TreeSize(2), TreeSize(1)), Err(ProofError::OutOfRange));
}

#[test]
fn an_empty_tree_has_one_root() {
    let empty = TreeHead { size: TreeSize(0), root: empty_root() };
    let false_empty = TreeHead { size: TreeSize(0), root: leaf_hash(b"") };
    let other = TreeHead { size: TreeSize(5), root: leaf_hash(b"") };
    assert_eq!(verify_consistency(&empty, &empty, &[]), Ok(()));
    assert_eq!(verify_consistency(&empty, &other, &[]), Ok(()));
    assert_eq!(verify_consistency(&false_empty, &false_empty, &[]), Err(ProofError::RootMismatch));
    assert_eq!(verify_consistency(&false_empty, &other, &[]), Err(ProofError::RootMismatch));
}

#[test]
fn an_independent_implementation_makes_the_same_roots_and_proofs() {
    let entries: Vec<[u8; 8]> = (0..70u64).map(u64::to_be_bytes).collect();
    let leaves = leaves(70);
    let memory = Memory::of(&leaves);
    let mut theirs = MemoryBackedTree::<Sha256, [u8; 8]>::new();
    for size in 1..=70u64 {
        theirs.push(entries[size as usize - 1]);
        assert_eq!(theirs.root().as_bytes().as_slice(), memory.root(size).0);
        for index in 0..size {
            let ours = inclusion_proof(&memory, LeafIndex(index), TreeSize(size)).unwrap();
            let bytes: Vec<u8> = ours.iter().flat_map(|hash| hash.0).collect();
            assert_eq!(theirs.prove_inclusion(index as usize).as_bytes(), bytes, "{index} of {size}");
        }
        for old in 1..size {
            let ours = consistency_proof(&memory, TreeSize(old), TreeSize(size)).unwrap();
            let bytes: Vec<u8> = ours.iter().flat_map(|hash| hash.0).collect();
            assert_eq!(theirs.prove_consistency((size - old) as usize).as_bytes(), bytes, "{old} to {size}");
        }
    }
}

/// A batch grown out of `memory`'s first `old` leaves agrees with the whole tree in everything it says.
fn check_batch(memory: &Memory, old: &Frontier, batch: &BatchTree, new: u64) {
    assert_eq!(batch.head(), memory.head(new));
    assert_eq!(batch.old_head(), memory.head(old.size().0));
    for index in old.size().0..new {
        let expected = inclusion_proof(memory, LeafIndex(index), TreeSize(new)).unwrap();
        assert_eq!(batch.proof(LeafIndex(index)).unwrap(), expected, "{index} of {new}");
    }
    assert_eq!(batch.proof(LeafIndex(new)), None);
    if let Some(before) = old.size().0.checked_sub(1) {
        assert_eq!(batch.proof(LeafIndex(before)), None);
    }
    for level in 0..=u8::MAX {
        let shifted = |size: u64| size.checked_shr(u32::from(level)).unwrap_or(0) as usize;
        let (from, to) = (shifted(old.size().0), shifted(new));
        let expected = memory.levels.get(usize::from(level)).map_or(&[][..], |nodes| &nodes[from..to]);
        assert_eq!(batch.complete_nodes(level), (from as u64, expected), "level {level}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_tree_grown_in_batches_is_the_tree(batches in prop::collection::vec(0u64..90, 1..9)) {
        let leaves = leaves(batches.iter().sum());
        let memory = Memory::of(&leaves);
        let (mut grown, mut pushed, mut size) = (Frontier::new(), Frontier::new(), 0);
        for count in batches {
            let added = &leaves[size as usize..(size + count) as usize];
            let batch = grown.extend(added);
            check_batch(&memory, &grown, &batch, size + count);
            added.iter().for_each(|leaf| pushed.push(*leaf));
            size += count;
            grown = batch.into_frontier();
            prop_assert_eq!(&grown, &pushed);
            prop_assert_eq!(grown.root(), memory.root(size));
            let stored = Frontier::from_parts(grown.size(), grown.nodes().to_vec());
            prop_assert_eq!(stored.as_ref(), Ok(&grown));
        }
    }

    /// Old nodes are opaque, so a frontier of any size behaves as if its tree had been built.
    #[test]
    fn a_huge_tree_grows_and_proves(size in 0..=TREE_SIZE_MAX - 64, count in 1u64..64) {
        let nodes = (0..size.count_ones()).map(|number| leaf_hash(&number.to_be_bytes())).collect();
        let old = Frontier::from_parts(TreeSize(size), nodes).unwrap();
        let leaves = leaves(count);
        let batch = old.extend(&leaves);
        for (number, leaf) in (0..).zip(&leaves) {
            let index = LeafIndex(size + number);
            let proof = batch.proof(index).unwrap();
            prop_assert_eq!(verify_inclusion(leaf, index, &proof, &batch.head()), Ok(()));
        }
        let head = batch.head();
        let new = batch.into_frontier();
        prop_assert_eq!(new.head(), head);
        let mut pushed = old;
        leaves.iter().for_each(|leaf| pushed.push(*leaf));
        prop_assert_eq!(pushed, new);
    }

    #[test]
    fn no_made_up_proof_verifies_or_panics(
        index: u64, old: u64, size: u64, hashes in prop::collection::vec(any::<[u8; 32]>(), 0..70), near in 0u64..3
    ) {
        let proof: Vec<Hash> = hashes.into_iter().map(Hash).collect();
        let head = TreeHead { size: TreeSize(size), root: leaf_hash(b"root") };
        for index in [index, size.wrapping_sub(near), near, u64::MAX - near] {
            prop_assert!(verify_inclusion(&leaf_hash(b"leaf"), LeafIndex(index), &proof, &head).is_err());
        }
        for old in [old, size.wrapping_sub(near + 1), near + 1, u64::MAX - near, 1 << 63] {
            let old = TreeHead { size: TreeSize(old), root: leaf_hash(b"old root") };
            prop_assert!(verify_consistency(&old, &head, &proof).is_err());
        }
    }

    #[test]
    fn a_frontier_with_the_wrong_number_of_nodes_is_refused(size: u64, nodes in 0usize..70) {
        let parts = Frontier::from_parts(TreeSize(size), vec![leaf_hash(b""); nodes]);
        let fits = size <= TREE_SIZE_MAX && size.count_ones() as usize == nodes;
        prop_assert_eq!(parts.is_ok(), fits);
    }
}
