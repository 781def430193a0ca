//! Archived cosigned checkpoints: verified like everything else, and judged by a policy if the auditor has one.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

mod support;

use chancery_format::archive::witnessed_name;
use chancery_format::cosignature::{CosignedAt, CosignerKey};
use chancery_format::policy::Policy;
use chancery_format::{Checkpoint, PublicKey, TreeHead};
use chancery_verify::html::{self, Setting};
use chancery_verify::ledger::{self, Options};
use chancery_verify::progress::Silent;
use chancery_verify::{Report, Trust};
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::json;
use support::{Archive, Writer, origin};

struct Witness {
    name: &'static str,
    key: SigningKey,
}

impl Witness {
    fn new(name: &'static str, seed: u8) -> Self {
        Self { name, key: SigningKey::from_bytes(&[seed; 32]) }
    }

    fn cosigner(&self) -> CosignerKey {
        let key = PublicKey::from_ed25519_raw(self.key.verifying_key().as_bytes()).unwrap();
        CosignerKey::new(&format!("{}.example/witness", self.name), key).unwrap()
    }

    fn line(&self, checkpoint: &Checkpoint) -> String {
        let at = CosignedAt::new(1_795_000_000).unwrap();
        let cosigner = self.cosigner();
        let signature = self.key.sign(&cosigner.message(checkpoint, at));
        cosigner.line(at, &signature.to_bytes()).unwrap()
    }
}

fn witnesses() -> [Witness; 3] {
    [Witness::new("one", 1), Witness::new("two", 2), Witness::new("three", 3)]
}

/// Two of the three.
fn policy(writer: &Writer) -> Policy {
    let lines =
        witnesses().map(|witness| format!("witness {} {}\n", witness.name, witness.cosigner().vkey()));
    let log = writer.ledger_key.vkey().vkey();
    let file = format!("log {log}\n{}group most 2 one two three\nquorum most\n", lines.concat());
    Policy::parse(file.as_bytes()).unwrap()
}

/// The ledger's note of a head with the lines of these.
fn note(writer: &Writer, head: TreeHead, by: &[&Witness]) -> String {
    let checkpoint = Checkpoint::new(origin(), head);
    let lines: String = by.iter().map(|witness| witness.line(&checkpoint)).collect();
    writer.note(&checkpoint.text()) + &lines
}

fn events(writer: &mut Writer, count: u64) {
    for _ in 0..count {
        writer.event("orders");
    }
}

/// Three epochs; beside the first nothing, beside the second a checkpoint between the two, beside the third its own.
struct World {
    writer: Writer,
    between: TreeHead,
}

fn world() -> World {
    let [one, two, three] = witnesses();
    let mut writer = Writer::open();
    writer.publish();
    writer.event("orders");
    writer.epoch();
    events(&mut writer, 300);
    let between = writer.head();
    let second = note(&writer, between, &[&one, &two, &three]);
    events(&mut writer, 20);
    writer.epoch();
    writer.files.insert(witnessed_name(1), second.into_bytes());
    events(&mut writer, 20);
    writer.epoch();
    let third = note(&writer, writer.head(), &[&one, &three]);
    writer.files.insert(witnessed_name(2), third.into_bytes());
    World { writer, between }
}

fn judged(archive: &Archive, policy: Option<&Policy>) -> Report {
    archive.verify_with(&Options { threads: Some(2), policy: policy.cloned(), ..Options::default() })
}

/// `weight kind file` of each finding.
fn told(report: &Report) -> Vec<String> {
    let findings = report.findings().listed().iter();
    let told =
        findings.map(|it| format!("{:?} {} {}", it.weight, it.kind, it.file.as_deref().unwrap_or("-")));
    told.collect()
}

#[test]
fn a_ledger_says_how_far_it_is_witnessed_and_by_whom() {
    let World { mut writer, between } = world();
    let (archive, policy) = (writer.archive(), policy(&writer));
    let size = writer.next_index();
    let report = judged(&archive, Some(&policy));
    assert_eq!((report.exit_code(), told(&report)), (0, Vec::new()), "{}", report.to_text());
    assert!(report.to_text().contains(&format!("witnessed up to {size} of {size} entries by one, three\n")));
    let expected = json!({ "notes": 2, "upTo": size, "of": size, "byPolicy": true, "by": ["one", "three"] });
    assert_eq!(report.checked()["witnessed"], expected);
    // Without a policy nobody says whose lines count.
    let unjudged = judged(&archive, None);
    assert_eq!(unjudged.exit_code(), 0);
    assert_eq!(unjudged.checked()["witnessed"]["byPolicy"], false);
    assert!(unjudged.to_text().contains("2 cosigned checkpoints up to"), "{}", unjudged.to_text());
    // It goes on unwitnessed: said, and no fault.
    events(&mut writer, 30);
    writer.epoch();
    let mut archive = writer.archive();
    archive.files.remove(&witnessed_name(2)).unwrap();
    let report = judged(&archive, Some(&policy));
    let expected = format!("witnessed up to {} of {} entries by one, three, two\n", between.size, size + 30);
    assert!(report.exit_code() == 0 && report.to_text().contains(&expected), "{}", report.to_text());

    let trust = Trust::parse(&archive.signers).unwrap();
    let options = Options { policy: Some(policy), ..Options::default() };
    let (report, told) = ledger::survey(&archive, &trust, &options, &mut Silent);
    let setting = Setting {
        archive: "./archive".to_owned(),
        signers: "signers.json".to_owned(),
        since: None,
        strict: false,
        began: "2026-11-22T06:00:00.000Z".parse().unwrap(),
        took_ms: 1,
    };
    let page = html::render(&report, &told, &trust, &setting);
    let expected = format!("<dt>Witnessed</dt><dd>up to {} of", between.size);
    assert!(page.contains(&expected), "{page}");
    assert!(page.contains("<code>three</code>"), "{page}");
}

#[test]
fn what_is_not_witnessed_enough_or_at_all_is_bad() {
    let World { writer, between } = world();
    let policy = policy(&writer);
    let [one, ..] = witnesses();
    let mut archive = writer.archive();
    archive.files.insert(witnessed_name(1), note(&writer, between, &[&one]).into_bytes());
    let report = judged(&archive, Some(&policy));
    assert_eq!(told(&report), ["Bad not-witnessed witnessed/000000000001"]);
    assert_eq!(report.checked()["witnessed"]["notes"], 1, "the other still counts");
    assert_eq!(judged(&archive, None).exit_code(), 0);
    for epoch in [1, 2] {
        archive.files.remove(&witnessed_name(epoch)).unwrap();
    }
    let report = judged(&archive, Some(&policy));
    assert_eq!((report.exit_code(), told(&report)), (1, vec!["Bad not-witnessed -".to_owned()]));
    assert!(report.to_text().contains("not witnessed\n"), "{}", report.to_text());
    assert!(judged(&archive, None).checked().get("witnessed").is_none());
}

#[test]
fn false_notes_are_bad_with_and_without_a_policy() {
    let World { writer, between } = world();
    let (archive, policy) = (writer.archive(), policy(&writer));
    let [one, two, _] = witnesses();
    let by = [&one, &two];
    let last = writer.head();
    let wrong_root = TreeHead { root: last.root, ..between };
    let with = |epoch: u64, note: String| {
        let mut archive = archive.clone();
        archive.files.insert(witnessed_name(epoch), note.into_bytes());
        archive
    };
    let beside = |epoch: u64| format!("Bad witnessed-checkpoint-invalid {}", witnessed_name(epoch));
    for (archive, expected, what) in [
        (with(1, note(&writer, wrong_root, &by)), beside(1), "of another tree"),
        (with(1, note(&writer, last, &by)), beside(1), "larger than its epoch"),
        (with(2, note(&writer, between, &by)), beside(2), "not larger than the one before"),
        (with(1, "noise".to_owned()), beside(1), "no note"),
        (
            with(7, note(&writer, last, &by)),
            "Missing uncovered-file witnessed/000000000007".to_owned(),
            "beside no epoch",
        ),
    ] {
        for policy in [None, Some(&policy)] {
            let report = judged(&archive, policy);
            assert!(told(&report).contains(&expected), "{what}: {:?}", told(&report));
            assert_ne!(report.exit_code(), 0, "{what}");
        }
    }
    // A line that claims to be a witness' and is not: only who has its key sees it.
    let good = note(&writer, between, &by);
    let flipped = good.trim_end().to_owned();
    let at = flipped.len() - 10;
    let letter = if flipped.as_bytes()[at] == b'A' { "B" } else { "A" };
    let forged = with(1, format!("{}{letter}{}\n", &flipped[..at], &flipped[at + 1..]));
    assert_eq!(told(&judged(&forged, Some(&policy))), [beside(1)]);
    assert_eq!(judged(&forged, None).exit_code(), 0);
    // Each byte of the ledger's own part counts, whoever reads it.
    let signed = good.split("\n\u{2014} one.").next().unwrap().len();
    for at in (0..signed).step_by(5) {
        let mut bytes = good.clone().into_bytes();
        bytes[at] ^= 1;
        let mut archive = archive.clone();
        archive.files.insert(witnessed_name(1), bytes);
        assert_eq!(judged(&archive, None).exit_code(), 1, "byte {at}");
    }
}
