#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

use proptest::prelude::*;

use super::*;
use crate::cosignature::tests::{
    AT, LOG_LINE, LOG_VKEY, ORIGIN, TEXT, TestCosigner, WITNESS_VKEY, checkpoint,
};

fn parse(file: &str) -> Result<Policy, (usize, PolicyFlaw)> {
    Policy::parse(file.as_bytes()).map_err(|error| (error.line, error.flaw))
}

/// The witnesses X1, X2, X3, Y1, Y2, Y3 of the specification's example, and one more that no group has; every
/// second has an ML-DSA-44 key.
fn witnesses() -> Vec<(&'static str, TestCosigner)> {
    let names = ["X1", "X2", "X3", "Y1", "Y2", "Y3", "Z"];
    let witness = |(name, seed): (&'static str, u8)| {
        let vkey_name = format!("witness.example/{}", name.to_lowercase());
        let make = if seed % 2 == 0 { TestCosigner::ml_dsa } else { TestCosigner::ed25519 };
        (name, make(&vkey_name, seed))
    };
    names.into_iter().zip(0x51..).map(witness).collect()
}

/// The specification's example, with keys.
fn example() -> String {
    let keys: Vec<_> = witnesses().into_iter().map(|(name, witness)| (name, witness.key.vkey())).collect();
    let lines = |from: char| -> String {
        let of = keys.iter().filter(|(name, _)| name.starts_with(from));
        of.map(|(name, vkey)| format!("witness {name} {vkey}\n")).collect()
    };
    format!(
        "log {LOG_VKEY}\n{}group X-witnesses 2 X1 X2 X3\n{}group Y-witnesses any Y1 Y2 Y3\n{}group X-and-Y all X-witnesses Y-witnesses\nquorum X-and-Y\n",
        lines('X'),
        lines('Y'),
        lines('Z'),
    )
}

/// The checkpoint, cosigned by these.
fn cosigned(by: &[&str]) -> String {
    let lines = witnesses().into_iter().filter(|(name, _)| by.contains(name));
    let lines: String = lines.map(|(_, witness)| witness.line(&checkpoint(), AT)).collect();
    format!("{TEXT}\n{LOG_LINE}{lines}")
}

#[test]
fn the_logs_of_a_policy_can_be_others_under_the_same_witnesses() {
    let policy = parse(&example().replace(LOG_VKEY, &format!("{LOG_VKEY} https://log.example/"))).unwrap();
    let (known, next) = (LogKey::parse(LOG_VKEY).unwrap(), TestCosigner::ml_dsa(ORIGIN, 0x44).key);
    let next = LogKey::MlDsa44(next);
    let both = policy.with_logs(&[next.clone(), known.clone()]).unwrap();
    let lines = format!("log {}\nlog {LOG_VKEY} https://log.example/\n", next.vkey());
    assert_eq!(
        String::from_utf8(both.to_bytes()).unwrap(),
        example().replace(&format!("log {LOG_VKEY}\n"), &lines)
    );
    assert_eq!(both.with_logs(std::slice::from_ref(&known)).unwrap(), policy);
    assert_eq!(
        Policy::default().with_logs(std::slice::from_ref(&known)).unwrap(),
        parse(&format!("log {LOG_VKEY}\nquorum none\n")).unwrap()
    );
    assert_eq!(policy.with_logs(&[known.clone(), known]).unwrap_err().flaw, PolicyFlaw::DuplicateKey);
}

#[test]
fn the_specification_s_example_needs_two_of_x_and_one_of_y() {
    let policy = parse(&example()).unwrap();
    assert_eq!((policy.logs().len(), policy.witnesses().count()), (1, 7));
    assert!(!policy.needs_no_witness());
    for (by, met) in [
        (vec![], false),
        (vec!["X1", "X2", "X3"], false),
        (vec!["Y1", "Y2", "Y3"], false),
        (vec!["X1", "Y1"], false),
        (vec!["X1", "Y1", "Z"], false),
        (vec!["X1", "X3", "Y2"], true),
        (vec!["X2", "X3", "Y1", "Z"], true),
        (vec!["X1", "X2", "X3", "Y1", "Y2", "Y3"], true),
    ] {
        let judged = policy.verify(&cosigned(&by), None).unwrap();
        let counted: Vec<_> = judged.counted().iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!((counted, judged.quorum_met()), (by.iter().map(ToString::to_string).collect(), met));
        assert_eq!(judged.into_accepted().is_ok(), met);
    }
}

#[test]
fn cosignatures_of_the_future_do_not_count() {
    let policy = parse(&example()).unwrap();
    let note = cosigned(&["X1", "X2", "Y1"]);
    let before = CosignedAt::new(AT.seconds() - 1);
    assert!(policy.verify(&note, Some(AT)).unwrap().quorum_met());
    let judged = policy.verify(&note, before).unwrap();
    assert_eq!((judged.counted().len(), judged.of_the_future().len(), judged.quorum_met()), (0, 3, false));
}

#[test]
fn only_logs_of_the_policy_and_true_signatures_are_accepted() {
    let policy = parse(&example()).unwrap();
    let full = cosigned(&["X1", "X2", "Y1"]);
    assert!(policy.verify(&full, None).unwrap().into_accepted().is_ok());
    let without_log = full.replacen(LOG_LINE, "", 1);
    let none = PolicyRefusal::Checkpoint(CheckpointError::Note(crate::note::NoteError::NoKnownSignature));
    assert_eq!(policy.verify(&without_log, None), Err(none));
    let bad = PolicyRefusal::Checkpoint(CheckpointError::Note(crate::note::NoteError::BadSignature));
    let (_, other) = witnesses().into_iter().find(|(name, _)| *name == "Z").unwrap();
    let elsewhere = Checkpoint::new("ledger.example/b".parse().unwrap(), checkpoint().head());
    let false_line = format!("{full}{}", other.line(&elsewhere, AT));
    assert_eq!(policy.verify(&false_line, None), Err(bad), "even of a witness that is not needed");
    let (_, x1) = witnesses().into_iter().next().unwrap();
    let foreign = format!("{}\n{}", elsewhere.text(), x1.line(&elsewhere, AT));
    assert_eq!(policy.verify(&foreign, None), Err(PolicyRefusal::UnknownLog));
    assert_eq!(
        policy.verify("no note", None).unwrap_err(),
        PolicyRefusal::Checkpoint(CheckpointError::Note(crate::note::NoteError::Malformed))
    );
    let without_logs = parse(&example().replacen(&format!("log {LOG_VKEY}\n"), "", 1)).unwrap();
    assert_eq!(without_logs.verify(&full, None), Err(PolicyRefusal::UnknownLog));
    let known = crate::note::NoteVerifier::parse(LOG_VKEY).unwrap();
    let verified = Checkpoint::verify(&full, &ORIGIN.parse().unwrap(), &[known]).unwrap();
    assert!(without_logs.judge(verified, None).unwrap().quorum_met());
}

#[test]
fn a_log_may_sign_with_either_of_its_keys() {
    let log = TestCosigner::ml_dsa(ORIGIN, 0x44);
    let policy = parse(&format!("log {LOG_VKEY}\nlog {}\nquorum none\n", log.key.vkey())).unwrap();
    assert!(policy.needs_no_witness());
    let line = log.line(&checkpoint(), CosignedAt::UNSTATED);
    for note in [cosigned(&[]), format!("{TEXT}\n{line}"), format!("{}{line}", cosigned(&[]))] {
        let judged = policy.verify(&note, None).unwrap();
        assert_eq!(judged.checkpoint().is_hybrid(), note.contains(&line));
        assert!(judged.into_accepted().is_ok());
    }
}

#[test]
fn one_witness_can_be_the_quorum_and_groups_nest() {
    let [a, b] = [TestCosigner::ed25519("w/a", 0x61), TestCosigner::ed25519("w/b", 0x63)];
    let head = format!("log {LOG_VKEY}\nwitness a {}\nwitness b {}\n", a.key.vkey(), b.key.vkey());
    let note = |by: &[&TestCosigner]| {
        let lines: String = by.iter().map(|witness| witness.line(&checkpoint(), AT)).collect();
        format!("{TEXT}\n{LOG_LINE}{lines}")
    };
    let met = |tail: &str, by: &[&TestCosigner]| {
        parse(&format!("{head}{tail}")).unwrap().verify(&note(by), None).unwrap().quorum_met()
    };
    assert!(met("quorum a\n", &[&a]) && !met("quorum a\n", &[&b]));
    let nested = "group 1 any a\ngroup 2 1 1\ngroup both 2 2 b\nquorum both\n";
    assert!(met(nested, &[&a, &b]) && !met(nested, &[&a]) && !met(nested, &[&b]));
    assert!(met("quorum b\ngroup later any a b\n", &[&b]), "definitions may follow the quorum");
}

#[test]
fn the_rules_of_the_format_are_held() {
    let vkey = |seed: u8| TestCosigner::ed25519(&format!("w/{seed}"), seed).key.vkey();
    let (a, b) = (format!("witness a {}\n", vkey(0x61)), format!("witness b {}\n", vkey(0x63)));
    let same_key = TestCosigner::ed25519("w/other", 0x61).key.vkey();
    let log = format!("log {LOG_VKEY}\n");
    let ml_dsa_log = TestCosigner::ml_dsa(ORIGIN, 0x44).key.vkey();
    let not_an_origin = TestCosigner::ml_dsa("ledger\"", 0x44).key.vkey();
    use PolicyFlaw::*;
    for (file, line, flaw) in [
        (String::new(), 1, NoQuorum),
        (format!("{a}{b}"), 3, NoQuorum),
        ("quorum none\nquorum none\n".into(), 2, SecondQuorum),
        ("quorum none".into(), 1, Cut),
        ("quorum none\n ".into(), 2, Cut),
        ("quorum a\n".into(), 1, UnknownName),
        (format!("quorum a\n{a}"), 1, UnknownName),
        (format!("group g any a\n{a}quorum g\n"), 1, UnknownName),
        (format!("{a}group g any a none\nquorum g\n"), 2, UnknownName),
        ("group g any g\nquorum g\n".into(), 1, UnknownName),
        (format!("{a}{}quorum a\n", a.replace("witness a", "witness c")), 2, DuplicateKey),
        (format!("{a}witness c {same_key}\nquorum a\n"), 2, DuplicateKey),
        (format!("{log}{log}quorum none\n"), 2, DuplicateKey),
        (format!("log {ml_dsa_log}\nlog {ml_dsa_log} https://b.example/\nquorum none\n"), 2, DuplicateKey),
        (format!("{a}{}quorum a\n", b.replace("witness b", "witness a")), 2, DuplicateName),
        (format!("{a}group a any a\nquorum a\n"), 2, DuplicateName),
        (a.replace("witness a", "witness none"), 1, DuplicateName),
        (format!("{a}group none any a\nquorum a\n"), 2, DuplicateName),
        (format!("{a}group g any a\ngroup h any a\nquorum g\n"), 3, DuplicateMember),
        (format!("{a}group g any a a\nquorum g\n"), 2, DuplicateMember),
        (format!("{a}group g 0 a\nquorum g\n"), 2, Threshold),
        (format!("{a}group g 2 a\nquorum g\n"), 2, Threshold),
        (format!("{a}group g 01 a\nquorum g\n"), 2, Threshold),
        (format!("{a}group g ALL a\nquorum g\n"), 2, Threshold),
        (format!("{a}group g any\nquorum a\n"), 2, Shape),
        ("log\nquorum none\n".into(), 1, Shape),
        (format!("log {LOG_VKEY} https://a.example/ more\nquorum none\n"), 1, Shape),
        (format!("witness {}\nquorum none\n", vkey(0x61)), 1, Shape),
        ("quorum\n".into(), 1, Shape),
        ("quorum none none\n".into(), 1, Shape),
        ("mirror none\nquorum none\n".into(), 1, Shape),
        ("Quorum none\n".into(), 1, Shape),
        (format!("log {WITNESS_VKEY}\nquorum none\n"), 1, Key),
        (format!("log {not_an_origin}\nquorum none\n"), 1, Key),
        (format!("witness a {LOG_VKEY}\nquorum none\n"), 1, Key),
        ("witness a key\nquorum none\n".into(), 1, Key),
        ("quorum none\r\n".into(), 1, Control),
        ("# \0\nquorum none\n".into(), 1, Control),
        ("# \x7f\nquorum none\n".into(), 1, Control),
        ("#".repeat(POLICY_BYTES_MAX + 1), 1, TooLarge),
    ] {
        assert_eq!(parse(&file), Err((line, flaw)), "{file:.200}");
    }
}

#[test]
fn space_comments_and_foreign_bytes_are_allowed() {
    let vkey = TestCosigner::ed25519("w/a", 0x61).key.vkey();
    let loose = [
        b"# caf\xe9\n\n \t\n\t# log nothing\n  log\t".as_slice(),
        LOG_VKEY.as_bytes(),
        b" https://\xc3\xa9.example/ \t\nwitness \xff\xfe# ",
        vkey.as_bytes(),
        b"\ngroup K any \xff\xfe#\nquorum K\n# end\n",
    ]
    .concat();
    let strict = [
        b"log ".as_slice(),
        LOG_VKEY.as_bytes(),
        b" https://\xc3\xa9.example/\nwitness \xff\xfe# ",
        vkey.as_bytes(),
        b"\ngroup K all \xff\xfe#\nquorum K\n",
    ]
    .concat();
    let policy = Policy::parse(&loose).unwrap();
    assert_eq!(policy.to_bytes(), strict);
    assert_eq!(Policy::parse(&strict).unwrap(), policy);
    let kelvin = format!("witness \u{212a} {vkey}\nquorum K\n");
    assert_eq!(parse(&kelvin), Err((2, PolicyFlaw::UnknownName)), "names are bytes");
}

#[test]
fn thirty_two_of_each_and_more_are_read_up_to_the_limit() {
    let file = |count: usize| {
        let mut file = String::new();
        for number in 0..count {
            let seed: [u8; 32] = crate::hash::Hash::of(&[&number.to_be_bytes()]).0;
            let raw = ed25519_dalek::SigningKey::from_bytes(&seed).verifying_key().to_bytes();
            let key = crate::PublicKey::from_ed25519_raw(&raw).unwrap();
            let log = crate::note::NoteVerifier::new(&format!("log/{number}"), &raw).unwrap().vkey();
            let witness = CosignerKey::new(&format!("witness/{number}"), key).unwrap().vkey();
            let previous = if number == 0 { String::new() } else { format!(" g{}", number - 1) };
            file +=
                &format!("log {log}\nwitness w{number} {witness}\ngroup g{number} all w{number}{previous}\n");
        }
        file + &format!("quorum g{}\n", count - 1)
    };
    for count in [32, DEFINITIONS_MAX] {
        let policy = parse(&file(count)).unwrap();
        assert_eq!((policy.logs().len(), policy.witnesses().count()), (count, count));
        assert_eq!(Policy::parse(&policy.to_bytes()), Ok(policy));
    }
    assert_eq!(parse(&file(DEFINITIONS_MAX + 1)).unwrap_err().1, PolicyFlaw::TooLarge);
}

proptest! {
    #[test]
    fn reading_never_panics_and_what_is_written_reads_back(
        lines in proptest::collection::vec(
            (0usize..9, "[abcg12]", "(any|all|[0-3])", "[abcg12]( [abcg12]){0,2}"),
            0..12,
        )
    ) {
        let keys = [0x61u8, 0x63, 0x65].map(|seed| TestCosigner::ed25519("w", seed).key.vkey());
        let mut file = String::new();
        for (kind, name, threshold, members) in lines {
            file += &match kind {
                at @ 0..3 => format!("witness {name} {}\n", keys.get(at).unwrap()),
                3..7 => format!("group  {name} {threshold} {members}\n"),
                7 => format!("quorum {name}\n"),
                _ => "quorum none\n".to_owned(),
            };
        }
        if let Ok(policy) = Policy::parse(file.as_bytes()) {
            prop_assert_eq!(Policy::parse(&policy.to_bytes()).unwrap(), policy);
        }
    }

    #[test]
    fn reading_bytes_never_panics(file in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Policy::parse(&file).is_err());
    }
}
