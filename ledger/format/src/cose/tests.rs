#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed unwrap or index is the test's failure"
)]

use proptest::prelude::*;

use super::*;
use crate::cosignature::tests::{LOG_VKEY, ORIGIN, TestCosigner, origin};
use crate::merkle::tests::{Memory, leaves};
use crate::merkle::{Frontier, consistency_proof, inclusion_proof, leaf_hash, node_hash};

/// The ledger's key of this algorithm, and what it would sign.
fn signer(algorithm: CoseAlgorithm) -> (TestCosigner, LogKey) {
    match algorithm {
        CoseAlgorithm::MlDsa44 => {
            let log = TestCosigner::ml_dsa(ORIGIN, 0x44);
            let key = LogKey::MlDsa44(log.key.clone());
            (log, key)
        }
        _ => (TestCosigner::ed25519(ORIGIN, 0x42), LogKey::parse(LOG_VKEY).unwrap()),
    }
}

fn signed(statement: CoseStatement, root: &Hash) -> CoseReceipt {
    let (log, _) = signer(statement.algorithm);
    let signature = log.sign(&statement.to_be_signed(root));
    statement.signed(signature)
}

fn head(count: u64) -> TreeHead {
    Frontier::new().extend(&leaves(count)).head()
}

fn inclusion(algorithm: CoseAlgorithm, index: u64, size: u64) -> CoseReceipt {
    let path = inclusion_proof(&Memory::of(&leaves(size)), LeafIndex(index), TreeSize(size)).unwrap();
    let proof = CoseProof::Inclusion { index: LeafIndex(index), path };
    signed(CoseStatement { algorithm, origin: origin(), size: TreeSize(size), proof }, &head(size).root)
}

fn consistency(algorithm: CoseAlgorithm, old: u64, size: u64) -> CoseReceipt {
    let path = consistency_proof(&Memory::of(&leaves(size)), TreeSize(old), TreeSize(size)).unwrap();
    let proof = CoseProof::Consistency { old: TreeSize(old), path };
    signed(CoseStatement { algorithm, origin: origin(), size: TreeSize(size), proof }, &head(size).root)
}

/// The tree of `""`, `"a"` and 300 times 0x01; its second leaf; written out by hand from RFC 9942.
#[test]
fn a_receipt_is_these_bytes() {
    let entries: [&[u8]; 3] = [b"", b"a", &[1; 300]];
    let tree = Frontier::new().extend(&entries.map(leaf_hash));
    let path = tree.proof(LeafIndex(1)).unwrap();
    let proof = CoseProof::Inclusion { index: LeafIndex(1), path: path.clone() };
    let statement =
        CoseStatement { algorithm: CoseAlgorithm::EdDsa, origin: origin(), size: TreeSize(3), proof };
    let origin_hex = hex::encode(ORIGIN);
    // {1: -8, 15: {1: "ledger.example/sign-log/1", -65537: 3}, 395: 1}, 43 bytes.
    let protected = format!("a301270fa2017819{origin_hex}3a000100000319018b01");
    let protected_bytes = format!("58{:02x}{protected}", protected.len() / 2);
    let root = tree.head().root;
    // ["Signature1", protected, h'', root]
    let to_be_signed = format!("846a5369676e617475726531{protected_bytes}405820{root}");
    assert_eq!(hex::encode(statement.to_be_signed(&root)), to_be_signed);
    let receipt = signed(statement, &root);
    let inner = format!("83030182{}", path.iter().map(|hash| format!("5820{hash}")).collect::<String>());
    // 18([protected, {396: {-1: [inner]}}, nil, signature])
    let expected = format!(
        "d284{protected_bytes}a119018ca1208158{:02x}{inner}f65840{}",
        inner.len() / 2,
        hex::encode(&receipt.signature)
    );
    assert_eq!(hex::encode(receipt.to_bytes()), expected);
    assert_eq!(CoseReceipt::parse(&receipt.to_bytes()), Ok(receipt.clone()));
    let keys = [LogKey::parse(LOG_VKEY).unwrap()];
    let verified = receipt.verify_inclusion(&leaf_hash(b"a"), &origin(), &keys);
    assert_eq!(verified, Ok((LeafIndex(1), tree.head())));
}

#[test]
fn every_algorithm_signs_both_proofs() {
    for (algorithm, number) in
        [(CoseAlgorithm::EdDsa, "27"), (CoseAlgorithm::Ed25519, "32"), (CoseAlgorithm::MlDsa44, "382f")]
    {
        let (_, key) = signer(algorithm);
        let keys = [key];
        for (index, size) in [(0, 1), (0, 2), (6, 7), (255, 300)] {
            let receipt = CoseReceipt::parse(&inclusion(algorithm, index, size).to_bytes()).unwrap();
            let protected = hex::encode(receipt.to_bytes());
            assert!(protected.contains(&format!("a301{number}0fa201")), "{algorithm:?}");
            let leaf = leaves(size)[index as usize];
            let verified = receipt.verify_inclusion(&leaf, &origin(), &keys);
            assert_eq!(verified, Ok((LeafIndex(index), head(size))));
            assert_eq!(receipt.verify_consistency(&head(1), &origin(), &keys), Err(CoseReceiptError::Kind));
        }
        for (old, size) in [(1, 1), (1, 2), (3, 7), (4, 7), (256, 300), (300, 300)] {
            let receipt = CoseReceipt::parse(&consistency(algorithm, old, size).to_bytes()).unwrap();
            assert_eq!(receipt.verify_consistency(&head(old), &origin(), &keys), Ok(head(size)));
            let kind = receipt.verify_inclusion(&leaves(1)[0], &origin(), &keys);
            assert_eq!(kind, Err(CoseReceiptError::Kind));
        }
    }
}

#[test]
fn what_was_not_signed_does_not_verify() {
    let receipt = inclusion(CoseAlgorithm::EdDsa, 5, 7);
    let (keys, leaf) = ([LogKey::parse(LOG_VKEY).unwrap()], leaves(7)[5]);
    let verdict = |receipt: &CoseReceipt| receipt.verify_inclusion(&leaf, &origin(), &keys).map(|_| ());
    assert_eq!(verdict(&receipt), Ok(()));
    let no_signature = Err(CoseReceiptError::Signature);
    let with = |change: &dyn Fn(&mut CoseStatement)| {
        let mut changed = receipt.clone();
        change(&mut changed.statement);
        changed
    };
    assert_eq!(verdict(&with(&|statement| statement.algorithm = CoseAlgorithm::Ed25519)), no_signature);
    assert_eq!(verdict(&with(&|statement| statement.algorithm = CoseAlgorithm::MlDsa44)), no_signature);
    assert_eq!(verdict(&with(&|statement| statement.size = TreeSize(8))), no_signature);
    let wrong_length = Err(CoseReceiptError::Proof(ProofError::WrongLength));
    assert_eq!(verdict(&with(&|statement| statement.size = TreeSize(9))), wrong_length);
    let elsewhere = "ledger.example/other";
    let moved = with(&|statement| statement.origin = elsewhere.parse().unwrap());
    assert_eq!(verdict(&moved), Err(CoseReceiptError::Origin));
    let other_key =
        [LogKey::parse(&crate::note::NoteVerifier::new(elsewhere, &raw_key()).unwrap().vkey()).unwrap()];
    let there = moved.verify_inclusion(&leaf, &elsewhere.parse().unwrap(), &other_key);
    assert_eq!(there.map(drop), no_signature, "the same key in another ledger");
    assert_eq!(receipt.verify_inclusion(&leaf, &origin(), &other_key).map(drop), no_signature);
    assert_eq!(receipt.verify_inclusion(&leaf, &origin(), &[]).map(drop), no_signature);
    assert_eq!(receipt.verify_inclusion(&leaves(7)[4], &origin(), &keys).map(drop), no_signature);
    let old = consistency(CoseAlgorithm::EdDsa, 3, 7);
    let check = |old_head: &TreeHead| old.verify_consistency(old_head, &origin(), &keys);
    assert_eq!(check(&head(4)), Err(CoseReceiptError::Proof(ProofError::OutOfRange)));
    let mismatch = Err(CoseReceiptError::Proof(ProofError::RootMismatch));
    assert_eq!(check(&TreeHead { root: Hash([1; 32]), ..head(3) }), mismatch);
}

fn raw_key() -> [u8; 32] {
    crate::note::NoteVerifier::parse(LOG_VKEY).unwrap().public_key()
}

/// Why the size is signed: the bare root would let the last of three leaves be the second of two.
#[test]
fn a_leaf_cannot_be_moved_by_telling_another_size() {
    let all = leaves(3);
    let receipt = inclusion(CoseAlgorithm::EdDsa, 2, 3);
    let path = vec![node_hash(&all[0], &all[1])];
    let moved = CoseProof::Inclusion { index: LeafIndex(1), path };
    let root = inclusion_root(&all[2], LeafIndex(1), &[node_hash(&all[0], &all[1])], TreeSize(2));
    assert_eq!(root, Ok(head(3).root), "the root is the same");
    let statement = CoseStatement { size: TreeSize(2), proof: moved, ..receipt.statement.clone() };
    let forged = statement.signed(receipt.signature);
    let keys = [LogKey::parse(LOG_VKEY).unwrap()];
    assert_eq!(forged.verify_inclusion(&all[2], &origin(), &keys), Err(CoseReceiptError::Signature));
}

#[test]
fn no_flipped_bit_verifies_or_is_read_as_something_else() {
    for receipt in [inclusion(CoseAlgorithm::EdDsa, 5, 7), consistency(CoseAlgorithm::Ed25519, 3, 7)] {
        let good = receipt.to_bytes();
        let keys = [LogKey::parse(LOG_VKEY).unwrap()];
        for (at, bit) in (0..good.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << bit;
            let Ok(read) = CoseReceipt::parse(&bytes) else { continue };
            assert_eq!(read.to_bytes(), bytes);
            let included = read.verify_inclusion(&leaves(7)[5], &origin(), &keys).is_ok();
            let consistent = read.verify_consistency(&head(3), &origin(), &keys).is_ok();
            assert!(!included && !consistent, "byte {at} bit {bit}");
        }
    }
}

#[test]
fn a_receipt_has_one_encoding() {
    let good = hex::encode(inclusion(CoseAlgorithm::EdDsa, 0, 2).to_bytes());
    let parse = |text: &str| CoseReceipt::parse(&hex::decode(text).unwrap());
    assert!(parse(&good).is_ok());
    let bad = |text: String, why: &str| {
        assert_ne!(text, good, "{why}");
        assert_eq!(parse(&text), Err(CoseReceiptError::Malformed), "{why}");
    };
    bad(String::new(), "nothing");
    bad(format!("{good}00"), "more after it");
    bad(good[..good.len() - 2].into(), "cut");
    bad(good[2..].into(), "no tag");
    bad(good.replacen("d284", "d18440", 1), "another tag");
    bad(good.replacen("f65840", "405840", 1), "payload there");
    bad(good.replacen("f65840", "f6590040", 1), "longer length");
    bad(good.replacen("a119018c", "a2044019018c", 1), "another unprotected header");
    bad(good.replacen("a119018c", "a119018d", 1), "no proof");
    bad(good.replacen("a12081", "a12280", 1), "no known proof");
    bad(good.replacen("d284", "d29f", 1), "indefinite length");
    assert_eq!(CoseReceipt::parse(&[0; COSE_RECEIPT_BYTES_MAX + 1]), Err(CoseReceiptError::TooLarge));
}

proptest! {
    #[test]
    fn reading_never_panics_and_takes_only_what_is_written(at in 0usize..200, byte in any::<u8>(), cut in 0usize..200) {
        let mut bytes = inclusion(CoseAlgorithm::Ed25519, 2, 5).to_bytes();
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        bytes.truncate(bytes.len() - cut.saturating_sub(180));
        if let Ok(read) = CoseReceipt::parse(&bytes) {
            prop_assert_eq!(read.to_bytes(), bytes);
        }
    }

    #[test]
    fn reading_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        prop_assert!(CoseReceipt::parse(&bytes).is_err());
    }
}

/// One signature over a head: under it every leaf has a receipt, as if the key had signed that one.
#[test]
fn one_signed_head_serves_every_leaf() {
    for algorithm in CoseAlgorithm::ALL {
        let (log, key) = signer(algorithm);
        let (keys, head, tree) = ([key], head(7), leaves(7));
        let statement = CoseStatement::of_head(algorithm, origin(), head.size);
        let signature = log.sign(&statement.to_be_signed(&head.root));
        let kept = statement.signed(signature).to_bytes();
        let read = || CoseReceipt::parse(&kept).unwrap();
        let signed = VerifiedCoseHead::verify(read(), &head, &origin(), &keys).unwrap();
        assert_eq!((signed.head(), signed.origin()), (head, &origin()));
        assert_eq!(signed.to_receipt().to_bytes(), kept);
        for index in 0..7 {
            let path = inclusion_proof(&Memory::of(&tree), LeafIndex(index), TreeSize(7)).unwrap();
            let (at, leaf) = (LeafIndex(index), &tree[index as usize]);
            let receipt = signed.inclusion(leaf, at, path.clone()).unwrap();
            let receipt = CoseReceipt::parse(&receipt.to_bytes()).unwrap();
            assert_eq!(receipt.verify_inclusion(leaf, &origin(), &keys), Ok((at, head)));
            let other = &tree[(index as usize + 1) % 7];
            assert_eq!(signed.inclusion(other, at, path), Err(ProofError::RootMismatch));
        }
        // Another root, another size, another ledger's key, another proof.
        let other = TreeHead { root: Hash([1; 32]), ..head };
        let refused = |signed, head: &TreeHead, keys: &[LogKey]| {
            VerifiedCoseHead::verify(signed, head, &origin(), keys).map(|_| ()).unwrap_err()
        };
        assert_eq!(refused(read(), &other, &keys), CoseReceiptError::Signature);
        assert_eq!(refused(read(), &super::tests::head(6), &keys), ProofError::OutOfRange.into());
        assert_eq!(refused(read(), &head, &[]), CoseReceiptError::Signature);
        assert_eq!(
            refused(consistency(algorithm, 6, 7), &super::tests::head(6), &keys),
            ProofError::OutOfRange.into()
        );
        assert_eq!(refused(inclusion(algorithm, 3, 7), &head, &keys), CoseReceiptError::Kind);
    }
}
