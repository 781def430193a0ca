#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

use proptest::prelude::*;

use super::*;
use crate::cosignature::tests::{LOG_LINE, LOG_VKEY, TEXT, TestCosigner, WITNESS_LINE, WITNESS_VKEY, origin};
use crate::merkle::leaf_hash;
use crate::note::NoteError;

const HASHES: [&str; 2] =
    ["bjQLnP+zepicpUTmu3gKLHiQHT+zNzh2hRGjBhevoB0=", "tJstIsZG3MA/boPS3QHi7pBPQFJ/Rb/NRU+nAWmMa9I="];

fn note() -> String {
    format!("{TEXT}\n{LOG_LINE}{WITNESS_LINE}")
}

/// Of the entry `a`, which is the second of three.
fn published() -> TlogProof {
    TlogProof::new(LeafIndex(1), HASHES.map(|hash| hash_line(hash).unwrap()).to_vec(), &note()).unwrap()
}

fn policy(quorum: &str) -> Policy {
    let other = TestCosigner::ed25519("w/2", 0x61).key.vkey();
    let file = format!(
        "log {LOG_VKEY}\nwitness w1 {WITNESS_VKEY}\nwitness w2 {other}\ngroup both all w1 w2\nquorum {quorum}\n"
    );
    Policy::parse(file.as_bytes()).unwrap()
}

#[test]
fn the_published_proof_is_made_and_verifies() {
    let file = published().to_string();
    let sha256 = Hash::of(&[file.as_bytes()]).to_hex();
    assert_eq!(sha256, "08ff58dbecd76be78f5a832804842d677a53e1139456669e7a9074b05b3f8534");
    let read = TlogProof::parse(&file).unwrap();
    assert_eq!(read, published());
    let leaf = leaf_hash(b"a");
    for quorum in ["none", "w1"] {
        assert_eq!(read.verify(&leaf, &policy(quorum), None).unwrap().head().size.0, 3);
    }
    assert!(read.verify_by_log(&leaf, &origin(), &[LogKey::parse(LOG_VKEY).unwrap()]).is_ok());
    let quorum = Err(TlogProofError::Policy(PolicyRefusal::Quorum));
    assert_eq!(read.verify(&leaf, &policy("w2"), None), quorum);
    assert_eq!(read.verify(&leaf, &policy("both"), None), quorum);
    assert_eq!(read.verify(&leaf, &policy("w1"), CosignedAt::new(1)), quorum);
    let mismatch = Err(TlogProofError::Inclusion(ProofError::RootMismatch));
    assert_eq!(read.verify(&leaf_hash(b"b"), &policy("w1"), None), mismatch);
    for (index, error) in
        [(0, ProofError::RootMismatch), (2, ProofError::WrongLength), (3, ProofError::OutOfRange)]
    {
        let moved = TlogProof { index: LeafIndex(index), ..published() };
        assert_eq!(moved.verify(&leaf, &policy("w1"), None), Err(TlogProofError::Inclusion(error)));
    }
}

#[test]
fn extra_is_carried_and_trusted_by_nobody() {
    let with = published().with_extra(b"where it came from".to_vec()).unwrap();
    let file = with.to_string();
    assert!(file.starts_with("c2sp.org/tlog-proof@v1\nextra d2hlcmUgaXQgY2FtZSBmcm9t\nindex 1\n"));
    let read = TlogProof::parse(&file).unwrap();
    assert_eq!(read.extra(), Some(b"where it came from".as_slice()));
    assert!(read.verify(&leaf_hash(b"a"), &policy("w1"), None).is_ok());
    assert_eq!(published().extra(), None);
    let full = published().with_extra(vec![7; EXTRA_BYTES_MAX]).unwrap();
    assert_eq!(TlogProof::parse(&full.to_string()), Ok(full));
    assert_eq!(published().with_extra(vec![7; EXTRA_BYTES_MAX + 1]), Err(TlogProofError::TooLarge));
    assert_eq!(published().with_extra(Vec::new()), Err(TlogProofError::Malformed));
}

#[test]
fn a_proof_has_one_spelling() {
    let good = published().to_string();
    let grease = "x".repeat(TLOG_PROOF_BYTES_MAX);
    assert_eq!(TlogProof::parse(&format!("{good}{grease}")), Err(TlogProofError::TooLarge));
    let head = "c2sp.org/tlog-proof@v1\n";
    for bad in [
        String::new(),
        head.into(),
        good.replace("@v1", "@v2"),
        good.replace("index 1", "index 01"),
        good.replace("index 1", "index +1"),
        good.replace("index 1", "index  1"),
        good.replace("index 1", "index 18446744073709551616"),
        good.replace("index 1", "index"),
        good.replace("index 1\n", ""),
        good.replace("index 1\n", "extra \nindex 1\n"),
        good.replace("index 1\n", "extra ????\nindex 1\n"),
        good.replace("index 1\n", "extra AAB=\nindex 1\n"),
        good.replace("index 1\n", "extra AAAA\nextra AAAA\nindex 1\n"),
        good.replace("index 1\n", "index 1\nextra AAAA\n"),
        good.replace("index 1\n", "index 1\nindex 1\n"),
        good.replace("index 1\n", "index 1\nAAAA\n"),
        good.replace(
            "index 1\n",
            &format!("index 1\n{}", format!("{}\n", HASHES.concat().get(..44).unwrap()).repeat(62)),
        ),
        good.replace("BhevoB0=", "BhevoB0"),
        good.replace("BhevoB0=", "BhevoB1="),
        good.replace('\n', "\r\n"),
        good.replacen("\n\n", "\n", 1),
        format!("\n{good}"),
    ] {
        assert_ne!(bad, good);
        assert_eq!(TlogProof::parse(&bad), Err(TlogProofError::Malformed), "{bad:.80?}");
    }
    let too_many = TlogProof::new(LeafIndex(0), vec![Hash([1; 32]); 64], &note());
    assert_eq!(too_many, Err(TlogProofError::Malformed));
    let broken_note = TlogProof::parse(&good.replacen("\n\nledger", "\n\n\nledger", 1)).unwrap();
    let not_a_checkpoint = TlogProofError::Policy(PolicyRefusal::Checkpoint(CheckpointError::Malformed));
    assert_eq!(broken_note.verify(&leaf_hash(b"a"), &policy("none"), None), Err(not_a_checkpoint));
    let unsigned = TlogProof::parse(&good.replacen(LOG_LINE, "", 1)).unwrap();
    let none =
        TlogProofError::Policy(PolicyRefusal::Checkpoint(CheckpointError::Note(NoteError::NoKnownSignature)));
    assert_eq!(unsigned.verify(&leaf_hash(b"a"), &policy("none"), None), Err(none));
}

proptest! {
    #[test]
    fn reading_never_panics_and_takes_only_what_is_written(
        at in 0usize..400, bit in 0u8..7, insert in "[a-zA-Z0-9 \n=]{0,3}"
    ) {
        let mut file = published().with_extra(vec![1, 2, 3]).unwrap().to_string().into_bytes();
        if let Some(byte) = file.get_mut(at) {
            *byte ^= 1 << bit;
        }
        drop(file.splice(at..at, insert.into_bytes()));
        if let Ok(Ok(read)) = std::str::from_utf8(&file).map(TlogProof::parse) {
            prop_assert_eq!(read.to_string().into_bytes(), file);
        }
    }
}
