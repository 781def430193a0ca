#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

use proptest::prelude::*;

use super::*;
use crate::cosignature::CosignerKey;
use crate::cosignature::tests::{AT, LOG_LINE, TEXT, TestCosigner, origin};
use crate::hash::{TreeHead, TreeSize};
use crate::merkle::{Frontier, NodeSource, ProofError, leaf_hash, subtree_proof};
use crate::tile::perfect_root;

const NAME: &str = "witness.example/w1";

struct Leaves(Vec<Hash>);

impl NodeSource for Leaves {
    type Error = ProofError;
    fn node(&self, level: u8, index: u64) -> Result<Hash, ProofError> {
        let at = |index: u64| usize::try_from(index << level).unwrap();
        perfect_root(self.0.get(at(index)..at(index + 1)).unwrap()).ok_or(ProofError::OutOfRange)
    }
}

fn leaves(count: u64) -> Vec<Hash> {
    (0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect()
}

fn root(leaves: &[Hash]) -> Hash {
    Frontier::new().extend(leaves).head().root
}

/// The checkpoint of 14 leaves, the root of 8..13 and its proof: the shape of the specification's example.
fn example() -> (Checkpoint, Hash, Vec<Hash>) {
    let all = leaves(14);
    let head = TreeHead { size: TreeSize(14), root: root(&all) };
    let part = root(all.get(8..13).unwrap());
    let range = Subtree::new(8, 13).unwrap();
    let proof = subtree_proof(&Leaves(all), range, head.size).unwrap();
    assert_eq!(proof.len(), 4);
    (Checkpoint::new(origin(), head), part, proof)
}

fn body(range: &str, root: &Hash, others: &str, proof: &[Hash], note: &str) -> String {
    let line = |hash: &Hash| encode_base64(&hash.0) + "\n";
    let proof: String = proof.iter().map(line).collect();
    format!("subtree {range}\n{}{others}{proof}\n{note}", line(root))
}

fn post(body: &str, keys: &[CosignerKey]) -> Result<Subtree, (u16, Refusal)> {
    let decided = SignSubtree::parse(body.as_bytes()).map_err(Refusal::from);
    let decided = decided.and_then(|request| decide_subtree(&request, keys));
    decided.map_err(|refusal| (refusal.status(), refusal))
}

#[test]
fn a_part_of_a_tree_that_we_cosigned_is_cosigned() {
    let (classical, quantum) = (TestCosigner::ed25519(NAME, 0x43), TestCosigner::ml_dsa(NAME, 0x45));
    let keys = [classical.key.clone(), quantum.key.clone()];
    let (checkpoint, part, proof) = example();
    let text = checkpoint.text();
    for by in [&classical, &quantum] {
        let note = format!("{text}\n{}", by.line(&checkpoint, AT));
        let request = body("8 13", &part, "", &proof, &note);
        let subtree = post(&request, &keys).unwrap();
        assert_eq!((subtree.start(), subtree.end()), (8, 13));
        let read = SignSubtree::parse(request.as_bytes()).unwrap();
        assert_eq!(read.to_body(), request);
        assert_eq!(SignSubtree::new(subtree, part, proof.clone(), &note).unwrap(), read);
        assert_eq!((read.origin(), read.root(), read.checkpoint()), (&origin(), &part, &checkpoint));
    }
    // Others' cosignatures of the subtree are for other witnesses.
    let note = format!("{text}\n{LOG_LINE}{}", quantum.line(&checkpoint, AT));
    assert!(post(&body("8 13", &part, &LOG_LINE.repeat(8), &proof, &note), &keys).is_ok());
    // What is signed does not depend on the checkpoint by which it was proven.
    let message = quantum.key.subtree_message(&origin(), 8, 13, &part).unwrap();
    assert!(quantum.key.public_key().verify_message(&message, &quantum.sign(&message)));
    assert_eq!(classical.key.subtree_message(&origin(), 8, 13, &part), None);
}

#[test]
fn all_else_is_refused_by_the_status_for_it() {
    let quantum = TestCosigner::ml_dsa(NAME, 0x45);
    let keys = [quantum.key.clone()];
    let (checkpoint, part, proof) = example();
    let text = checkpoint.text();
    let note = format!("{text}\n{}", quantum.line(&checkpoint, AT));
    let ask = |range: &str, proof: &[Hash], note: &str| post(&body(range, &part, "", proof, note), &keys);
    assert!(ask("8 13", &proof, &note).is_ok());
    for range in ["8 8", "9 8", "8 15", "9 13", "6 13", "4 13", "0 0"] {
        assert_eq!(ask(range, &proof, &note), Err((400, Refusal::Subtree)), "{range}");
    }
    for range in ["08 13", "8  13", "8 13 ", "8", "8 +13", "-8 13", "8 13 14", ""] {
        assert_eq!(ask(range, &proof, &note), Err((400, Refusal::Malformed)), "{range}");
    }
    let nine = LOG_LINE.repeat(9);
    for bad in [
        body("8 13", &part, &nine, &proof, &note),
        body("8 13", &part, "", &[part; PROOF_HASHES_MAX + 1], &note),
        body("8 13", &part, "", &proof, &note).replace("subtree", "old"),
        body("8 13", &part, "", &[], &note)
            .replace("\n\n", &format!("\n{}{LOG_LINE}\n", encode_base64(&part.0) + "\n")),
        body("8 13", &part, "", &proof, &note.replace("\n14\n", "\n014\n")),
        body("8 13", &part, "", &proof, &note.replacen("\n\n", "\nextension\n\n", 1)),
        body("8 13", &part, "", &proof, ""),
        String::new(),
    ] {
        assert_eq!(post(&bad, &keys), Err((400, Refusal::Malformed)), "{bad:.200}");
    }
    let big = body("8 13", &part, "", &proof, &note) + &" ".repeat(REQUEST_BYTES_MAX);
    assert_eq!(SignSubtree::parse(big.as_bytes()), Err(RequestError::TooLarge));

    let stranger = TestCosigner::ml_dsa("witness.example/w9", 0x49);
    let untimed = quantum.line(&checkpoint, CosignedAt::UNSTATED);
    let other = Checkpoint::parse(TEXT).unwrap();
    for unsigned in [
        text.clone(),
        format!("{text}\n{LOG_LINE}"),
        format!("{text}\n{}", stranger.line(&checkpoint, AT)),
        format!("{text}\n{}", quantum.line(&other, AT)),
        format!("{text}\n{untimed}"),
    ] {
        assert_eq!(ask("8 13", &proof, &unsigned), Err((403, Refusal::NotCosigned)), "{unsigned:.200}");
    }
    assert_eq!(post(&body("8 13", &part, "", &proof, &note), &[]), Err((403, Refusal::NotCosigned)));

    let unproven = Err((422, Refusal::Consistency));
    let mut altered = proof.clone();
    altered.swap(0, 1);
    assert_eq!(ask("8 13", &altered, &note), unproven);
    assert_eq!(ask("8 13", proof.get(1..).unwrap(), &note), unproven);
    assert_eq!(ask("8 13", &[proof.as_slice(), &[part]].concat(), &note), unproven);
    assert_eq!(ask("8 12", &proof, &note), unproven);
    assert_eq!(ask("8 14", &proof, &note), unproven);
}

proptest! {
    #[test]
    fn reading_a_request_never_panics_and_takes_only_what_is_written(
        range in "[0-9]{1,3} [0-9]{1,3}", hashes in "([A-Za-z0-9+/=]{44}\n|\n){0,3}", cut in 0usize..40, at in 0usize..300,
        bit in 0u8..8
    ) {
        let mut bytes = format!("subtree {range}\n{hashes}\n{TEXT}\n{LOG_LINE}").into_bytes();
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << bit;
        }
        bytes.truncate(bytes.len() - cut.saturating_sub(20));
        if let Ok(request) = SignSubtree::parse(&bytes) {
            prop_assert_eq!(request.to_body().into_bytes(), bytes);
        }
    }
}
