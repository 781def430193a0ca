#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed unwrap or index is the test's failure"
)]

use proptest::prelude::*;

use super::*;
use crate::cosignature::CosignedAt;
use crate::cosignature::tests::{
    AT, LOG_LINE, LOG_VKEY, ORIGIN, TEXT, TestCosigner, WITNESS_LINE, WITNESS_VKEY, checkpoint, origin,
};
use crate::note::NoteVerifier;

/// The log of torchwood's witness tests (`cmd/litewitness/testdata/litewitness.txt`), whose leaf hashes are
/// `2a 00 00…`, `2a 01 00…` and so on, and its checkpoints.
const SIGSUM: &str = "sigsum.org/v1/tree/4d6d8825a6bb689d459628312889dfbb0bcd41b5211d9e1ce768b0ff0309e562";
const SIGSUM_KEY: &str = "ffdc2d4d98e4124d3feaf788c0c2f9abfd796083d1f0495437f302ec79cf100f";
const SIGSUM_SIZE_1: (u64, &str, &str) = (
    1,
    "KgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "UgIom7fPZTqpxWWhyjWduBvTvGVqsokMbqTArsQilegKoFBJQjUFAmQ0+YeSPM3wfUQMFSzVnnNuWRTYrajXpNUbIQY=",
);
const SIGSUM_SIZE_3: (u64, &str, &str) = (
    3,
    "RcCI1Nk56ZcSmIEfIn0SleqtV7uvrlXNccFx595Iwl0=",
    "UgIom2VbtIcdFbwFAy1n7s6IkAxIY6J/GQOTuZF2ORV39d75cbAj2aQYwyJre36kezNobZs4SUUdrcawfAB8WVrx6go=",
);
const SIGSUM_SIZE_5: (u64, &str, &str) = (
    5,
    "QrtXrQZCCvpIgsSmOsah7HdICzMLLyDfxToMql9WTjY=",
    "UgIomw/EOJmWi0i1FQsOj+etB7F8IccFam/jgd6wzRns4QPVmyEZtdvl1U2KEmLOZ/ASRcWJi0tW90dJWAShei7sDww=",
);
const FROM_1_TO_3: [&str; 2] =
    ["KgEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "KgIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="];
const FROM_1_TO_5: [&str; 3] = [
    "KgEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "+fUDV+k970B4I3uKrqJM4aP1lloPZP8mvr2Z4wRw2LI=",
    "KgQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
];
const FROM_3_TO_5: [&str; 4] = [
    "KgIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "KgMAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "wgiIFdZfYNv6WU1OllBKsWnLYIS/DBMqt8Uh/S4OukE=",
    "KgQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
];

fn body(old: u64, proof: &[&str], origin: &str, (size, root, signature): (u64, &str, &str)) -> String {
    let proof: String = proof.iter().map(|hash| format!("{hash}\n")).collect();
    format!("old {old}\n{proof}\n{origin}\n{size}\n{root}\n\n\u{2014} {origin} {signature}\n")
}

/// A witness as far as it is format: it keeps the head it cosigned last.
struct Witness(WitnessedLog);

impl Witness {
    fn of_sigsum() -> Self {
        let key = hex::decode(SIGSUM_KEY).unwrap().try_into().unwrap();
        let key = LogKey::Ed25519(NoteVerifier::new(SIGSUM, &key).unwrap());
        assert!(key.vkey().contains("+5202289b+"));
        Self(WitnessedLog { origin: SIGSUM.parse().unwrap(), keys: vec![key], latest: None })
    }

    /// Status and body of the answer; 200 stands for a cosignature.
    fn post(&mut self, body: &str) -> (u16, String) {
        let decided = AddCheckpoint::parse(body.as_bytes()).map_err(Refusal::from);
        match decided.and_then(|request| decide(&request, Some(&self.0))) {
            Ok(checkpoint) => {
                self.0.latest = Some(checkpoint.head());
                (200, String::new())
            }
            Err(refusal) => (refusal.status(), refusal.body()),
        }
    }
}

#[test]
fn torchwood_s_requests_get_the_answers_its_witness_gives() {
    let mut witness = Witness::of_sigsum();
    let mut post = |old, proof: &[&str], checkpoint| witness.post(&body(old, proof, SIGSUM, checkpoint));
    let wrong = |root| (SIGSUM_SIZE_3.0, root, SIGSUM_SIZE_3.2);
    assert_eq!(post(0, &[], SIGSUM_SIZE_1).0, 200);
    assert_eq!(post(1, &FROM_1_TO_3, wrong(SIGSUM_SIZE_5.1)).0, 403, "signature over another root");
    assert_eq!(post(1, &[], SIGSUM_SIZE_3).0, 422);
    let wrong = [FROM_1_TO_3[0], "KgIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABA="];
    assert_eq!(post(1, &wrong, SIGSUM_SIZE_3).0, 422);
    assert_eq!(post(1, &FROM_1_TO_3, SIGSUM_SIZE_3).0, 200);
    assert_eq!(post(1, &FROM_1_TO_5, SIGSUM_SIZE_5), (409, "3\n".into()));
    assert_eq!(post(3, &FROM_3_TO_5, SIGSUM_SIZE_5).0, 200);
    assert_eq!(post(0, &[], SIGSUM_SIZE_5), (409, "5\n".into()));
    assert_eq!(post(5, &[], SIGSUM_SIZE_5).0, 200, "the same again");
    assert_eq!(post(5, &FROM_1_TO_3[..1], SIGSUM_SIZE_5).0, 422, "superfluous proof");
    assert_eq!(post(5, &[], SIGSUM_SIZE_3).0, 400, "old above new");
    let other = SIGSUM.replace("e562", "e563");
    assert_eq!(witness.post(&body(1, &FROM_1_TO_3, &other, SIGSUM_SIZE_3)).0, 404);
    assert_eq!(witness.0.latest.unwrap().size, TreeSize(5));
    let known = AddCheckpoint::parse(body(5, &[], SIGSUM, SIGSUM_SIZE_5).as_bytes()).unwrap();
    assert_eq!(decide(&known, None), Err(Refusal::UnknownLog));
    assert_eq!(Refusal::Stale(TreeSize(3)).content_type(), "text/x.tlog.size");
    assert_eq!(Refusal::Consistency.content_type(), "text/plain; charset=utf-8");
}

/// torchwood's own false signature has set bits after its last byte; its base64 reader does not mind.
#[test]
fn a_signature_in_a_second_spelling_is_malformed() {
    let spelled = SIGSUM_SIZE_3.2.replace("6go=", "6gx=");
    let mut witness = Witness::of_sigsum();
    assert_eq!(witness.post(&body(0, &[], SIGSUM, (3, SIGSUM_SIZE_3.1, &spelled))).0, 400);
    let false_one = SIGSUM_SIZE_3.2.replace("6go=", "6gw=");
    assert_eq!(witness.post(&body(0, &[], SIGSUM, (3, SIGSUM_SIZE_3.1, &false_one))).0, 403);
}

/// A log that signs whatever the test needs, with ML-DSA-44 alone.
fn signed(log: &TestCosigner, size: u64, root: Hash) -> String {
    let checkpoint = Checkpoint::new(origin(), TreeHead { size: TreeSize(size), root });
    format!("{}\n{}", checkpoint.text(), log.line(&checkpoint, CosignedAt::UNSTATED))
}

#[test]
fn the_empty_tree_has_one_root_and_needs_no_proof() {
    let log = TestCosigner::ml_dsa(ORIGIN, 0x44);
    let keys = vec![LogKey::MlDsa44(log.key.clone())];
    let known = WitnessedLog { origin: origin(), keys, latest: None };
    let ask = |old: u64, proof: Vec<Hash>, size: u64, root: Hash, latest: Option<TreeHead>| {
        let request = AddCheckpoint::new(TreeSize(old), proof, &signed(&log, size, root)).unwrap();
        decide(&request, Some(&WitnessedLog { latest, ..known.clone() })).map(|found| found.head().size.0)
    };
    let root = Hash([7; 32]);
    let head = |size: u64, root: Hash| Some(TreeHead { size: TreeSize(size), root });
    assert_eq!(ask(0, Vec::new(), 0, empty_root(), None), Ok(0));
    assert_eq!(ask(0, Vec::new(), 0, root, None), Err(Refusal::Consistency), "wrong empty root");
    assert_eq!(ask(0, Vec::new(), 5, root, head(0, empty_root())), Ok(5));
    assert_eq!(ask(5, Vec::new(), 5, root, head(5, root)), Ok(5));
    assert_eq!(ask(5, Vec::new(), 5, root, head(5, Hash([8; 32]))), Err(Refusal::Consistency));
    assert_eq!(ask(5, vec![root], 5, root, head(5, root)), Err(Refusal::Consistency));
    assert_eq!(ask(6, Vec::new(), 5, root, head(6, root)), Err(Refusal::OldAboveNew));
    assert_eq!(ask(0, Vec::new(), 5, root, head(3, root)), Err(Refusal::Stale(TreeSize(3))));
}

#[test]
fn checkpoints_with_extension_lines_are_malformed() {
    let log = TestCosigner::ed25519(ORIGIN, 0x42);
    let text = format!("{TEXT}extension\n");
    let key = NoteVerifier::parse(LOG_VKEY).unwrap();
    let note = crate::note::assemble(&text, &key, &log.sign(text.as_bytes()).try_into().unwrap()).unwrap();
    let refused = AddCheckpoint::new(TreeSize(0), Vec::new(), &note);
    assert_eq!(refused, Err(RequestError::Malformed));
    assert_eq!(Refusal::from(RequestError::Malformed).status(), 400);
}

#[test]
fn a_request_has_one_spelling_and_limits() {
    let note = format!("{TEXT}\n{LOG_LINE}");
    let hash = Hash([7; 32]);
    let full = AddCheckpoint::new(TreeSize(9), vec![hash; 63], &note).unwrap();
    assert_eq!(AddCheckpoint::parse(full.to_body().as_bytes()), Ok(full.clone()));
    assert_eq!((full.old(), full.proof().len(), full.note()), (TreeSize(9), 63, note.as_str()));
    assert_eq!(AddCheckpoint::new(TreeSize(9), vec![hash; 64], &note), Err(RequestError::Malformed));
    assert_eq!(AddCheckpoint::new(TreeSize(0), vec![hash], &note), Err(RequestError::ProofFromEmpty));
    assert_eq!(Refusal::from(RequestError::ProofFromEmpty).status(), 422);
    let grease = format!("\u{2014} grease {}\n", encode_base64(&vec![1; REQUEST_BYTES_MAX]));
    let large = format!("{note}{grease}");
    assert_eq!(AddCheckpoint::new(TreeSize(0), Vec::new(), &large), Err(RequestError::TooLarge));
    assert_eq!(AddCheckpoint::parse(format!("old 0\n\n{large}").as_bytes()), Err(RequestError::TooLarge));
    let line = encode_base64(&hash.0);
    for bad in [
        String::new(),
        format!("old 0\n{note}"),
        format!("old\n\n{note}"),
        format!("old 00\n\n{note}"),
        format!("old +1\n\n{note}"),
        format!("old 1 \n\n{note}"),
        format!("Old 1\n\n{note}"),
        format!("old 9223372036854775808\n\n{note}"),
        format!("old 18446744073709551616\n\n{note}"),
        format!("old 1\r\n\r\n{note}"),
        format!("old 1\n{line}{note}"),
        format!("old 1\nAAAA\n\n{note}"),
        format!("old 1\n{} \n\n{note}", line),
        format!("old 1\n{}\n\n{note}", line.trim_end_matches('=')),
        format!("old 1\n\n\n{note}"),
        format!("old 1\n{}\n{note}", format!("{line}\n").repeat(64)),
        format!("old 1\n\n{TEXT}"),
        format!("old 1\n\n{note}\n"),
    ] {
        assert_eq!(AddCheckpoint::parse(bad.as_bytes()), Err(RequestError::Malformed), "{bad:.60?}");
    }
    assert_eq!(AddCheckpoint::parse(b"old 0\n\n\xff"), Err(RequestError::Malformed));
}

/// The specification's example: its hashes do not verify, its shape is right.
#[test]
fn the_specification_s_request_parses() {
    let example = "old 20852014\nPlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\njrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n\nexample.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n";
    let request = AddCheckpoint::parse(example.as_bytes()).unwrap();
    assert_eq!((request.old(), request.proof().len()), (TreeSize(20_852_014), 4));
    assert_eq!(request.to_body(), example);
}

#[test]
fn answers_of_deployed_witnesses_are_understood() {
    let keys = [CosignerKey::parse(WITNESS_VKEY).unwrap()];
    let read = |status: u16, body: &str| WitnessAnswer::read(status, body.as_bytes(), &checkpoint(), &keys);
    assert_eq!(read(409, "3\n"), Ok(WitnessAnswer::Stale(TreeSize(3))));
    assert_eq!(read(409, "70000"), Ok(WitnessAnswer::Stale(TreeSize(70_000))), "no newline");
    assert_eq!(read(409, ""), Ok(WitnessAnswer::Conflict), "OmniWitness, another root");
    assert_eq!(read(409, "conflict\n"), Ok(WitnessAnswer::Conflict));
    assert_eq!(read(429, "slow down"), Ok(WitnessAnswer::SlowDown), "OmniWitness");
    assert_eq!(read(403, "unknown log\n"), Ok(WitnessAnswer::Refused(403)), "litewitness");
    assert_eq!(read(404, ""), Ok(WitnessAnswer::UnknownLog));
    assert_eq!(read(422, ""), Ok(WitnessAnswer::Inconsistent));
    assert_eq!(read(400, ""), Ok(WitnessAnswer::Refused(400)));
    for status in [204, 301, 500, 502, 503] {
        assert_eq!(read(status, WITNESS_LINE), Ok(WitnessAnswer::Unavailable(status)));
    }
    let Ok(WitnessAnswer::Cosigned(found)) = read(200, WITNESS_LINE) else { panic!("not cosigned") };
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].0.name.as_str(), found[0].0.timestamp, found[0].1.as_str()),
        ("witness.example/w1", AT, WITNESS_LINE)
    );
    for bad in [
        "",
        "\n",
        "no line\n",
        WITNESS_LINE.trim_end(),
        &format!("\n{WITNESS_LINE}"),
        &format!("{WITNESS_LINE}\n"),
    ] {
        assert_eq!(read(200, bad), Err(AnswerError::Malformed), "{bad:?}");
    }
    assert_eq!(read(200, &WITNESS_LINE.repeat(2)), Err(AnswerError::Malformed), "twice");
    assert_eq!(read(200, LOG_LINE), Err(AnswerError::NoKnownKey));
    let other = TestCosigner::ed25519("witness.example/w1", 0x43).line(&checkpoint(), CosignedAt::UNSTATED);
    let signature_of_another_time = format!("{}{}", &WITNESS_LINE[..40], &other[40..]);
    assert_eq!(read(200, &signature_of_another_time), Err(AnswerError::BadSignature));
}

#[test]
fn several_lines_from_one_witness_are_kept_apart() {
    let witnesses =
        [TestCosigner::ed25519("witness.example/w1", 0x43), TestCosigner::ml_dsa("witness.example/w1", 0x45)];
    let lines = witnesses.each_ref().map(|witness| witness.line(&checkpoint(), AT));
    let stranger = TestCosigner::ed25519("witness.example/w9", 0x49).line(&checkpoint(), AT);
    let body = format!("{}{stranger}{}", lines[1], lines[0]);
    let keys = witnesses.map(|witness| witness.key);
    let Ok(WitnessAnswer::Cosigned(found)) = WitnessAnswer::read(200, body.as_bytes(), &checkpoint(), &keys)
    else {
        panic!("not cosigned")
    };
    let kept: Vec<_> = found.into_iter().map(|(_, line)| line).collect();
    assert_eq!(kept, [lines[1].clone(), lines[0].clone()]);
    let note = format!("{TEXT}\n{LOG_LINE}{}", kept.concat());
    assert_eq!(cosignatures(&Note::parse(&note).unwrap(), &checkpoint(), &keys).unwrap().len(), 2);
}

proptest! {
    #[test]
    fn reading_a_request_never_panics_and_takes_only_what_is_written(
        head in "(old [0-9]{1,3}\n)([A-Za-z0-9+/=]{44}\n|\n){0,3}", cut in 0usize..40, at in 0usize..300, bit in 0u8..8
    ) {
        let mut bytes = format!("{head}\n{TEXT}\n{LOG_LINE}").into_bytes();
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << bit;
        }
        bytes.truncate(bytes.len() - cut.saturating_sub(20));
        if let Ok(request) = AddCheckpoint::parse(&bytes) {
            prop_assert_eq!(request.to_body().into_bytes(), bytes);
        }
    }

    #[test]
    fn reading_an_answer_never_panics(status in 190u16..600, body in "[a-z\u{2014} +/=0-9\n]{0,80}") {
        let keys = [CosignerKey::parse(WITNESS_VKEY).unwrap()];
        let read = WitnessAnswer::read(status, body.as_bytes(), &checkpoint(), &keys);
        prop_assert!(!matches!(read, Ok(WitnessAnswer::Cosigned(_))));
    }
}
