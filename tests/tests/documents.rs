//! Documents signed by small writers in the languages of the services that sign them: good, and with each of their
//! members damaged. What is damaged is an error, or was said beforehand to be bound by nothing.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

use std::path::{Path, PathBuf};
use std::process::Command;

use chancery_format::Hash;
use chancery_tests::rig::binary;
use chancery_tests::servers::python_with_cryptography;
use chancery_verify::Report;
use chancery_verify::documents::{self, Documents, Form};
use chancery_verify::events::signers::Signers;
use serde_json::{Value, json};

const WRITERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/writers");

/// Documents of one writer, and the keys to them.
struct Desk {
    folder: tempfile::TempDir,
    signers: Signers,
}

impl Desk {
    fn javascript() -> Self {
        Self::of(Command::new("node"), "documents.mjs")
    }

    fn go() -> Self {
        Self::of(Command::new(python_with_cryptography().unwrap()), "documents.py")
    }

    fn of(mut program: Command, writer: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let done = program.arg(Path::new(WRITERS).join(writer)).arg(folder.path()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let signers = std::fs::read_to_string(folder.path().join("signers.json")).unwrap();
        Self { folder, signers: Signers::parse(&signers).unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_str(&std::fs::read_to_string(self.path(name)).unwrap()).unwrap()
    }

    fn verify(&self, name: &str, documents: &Documents) -> Report {
        documents::verify(&[self.path(name)], documents, &self.signers)
    }

    /// The report on another document in the place of the named one: what stands beside it stays.
    fn verify_as(&self, name: &str, document: &Value, documents: &Documents) -> Report {
        let before = std::fs::read(self.path(name)).unwrap();
        std::fs::write(self.path(name), document.to_string()).unwrap();
        let report = self.verify(name, documents);
        std::fs::write(self.path(name), before).unwrap();
        report
    }

    /// Damages each member by itself, and takes each out.
    fn damage_each(&self, name: &str, documents: &Documents) {
        let good = self.json(name);
        let told = self.verify_as(name, &good, documents);
        assert_eq!(told.exit_code(), 0, "{name}: {}", told.to_text());
        let free = messages(&told, "unbound-field").join("\n");
        for place in places(&good) {
            for damaged in [altered(&good, &place), without(&good, &place)].into_iter().flatten() {
                let report = self.verify_as(name, &damaged, documents);
                let said = is_named(&free, &place) || is_told(&report, &place);
                assert!(
                    report.exit_code() != 0 || said,
                    "{name}: {place:?} went unnoticed:\n{}",
                    report.to_text()
                );
                // What binds nothing is no error either, unless it names the key or contradicts what is bound.
                let is_fine = !said || report.exit_code() == 0 || contradicts(&report);
                assert!(is_fine, "{name}: {place:?}:\n{}", report.to_text());
            }
        }
    }
}

/// Names and positions from the root to a value.
type Place = Vec<String>;

/// Every place of a document; of long arrays the first, the last and one between.
fn places(value: &Value) -> Vec<Place> {
    let step = |name: String, inner: &Value| {
        let deeper = places(inner).into_iter().map(|rest| [vec![name.clone()], rest].concat());
        std::iter::once(vec![name.clone()]).chain(deeper).collect::<Vec<Place>>()
    };
    match value {
        Value::Object(members) => {
            members.iter().flat_map(|(name, inner)| step(name.clone(), inner)).collect()
        }
        Value::Array(items) => {
            let shown = [0, items.len() / 2, items.len().saturating_sub(1)];
            let shown = items.iter().enumerate().filter(|(at, _)| shown.contains(at));
            shown.flat_map(|(at, inner)| step(at.to_string(), inner)).collect()
        }
        _ => Vec::new(),
    }
}

fn at<'v>(value: &'v mut Value, place: &[String]) -> &'v mut Value {
    place.iter().fold(value, |value, name| match value {
        Value::Array(items) => &mut items[name.parse::<usize>().unwrap()],
        other => &mut other[name],
    })
}

/// The document with another value there; `None` for what has members of its own.
fn altered(document: &Value, place: &[String]) -> Option<Value> {
    let mut document = document.clone();
    let value = at(&mut document, place);
    *value = match value.clone() {
        Value::Null => json!("something"),
        Value::Bool(is) => json!(!is),
        Value::Number(number) => match number.as_u64() {
            Some(whole) => json!(whole + 1),
            None => json!(number.as_f64().unwrap() + 1.0),
        },
        Value::String(text) => json!(match text.chars().next() {
            Some('a') => text.replacen('a', "b", 1),
            Some(first) => text.replacen(first, "a", 1),
            None => "a".to_owned(),
        }),
        Value::Array(_) | Value::Object(_) => return None,
    };
    Some(document)
}

fn without(document: &Value, place: &[String]) -> Option<Value> {
    let mut document = document.clone();
    let (last, before) = place.split_last()?;
    match at(&mut document, before) {
        Value::Object(members) => {
            // Null is as good as nothing where nothing is signed, and something else where it is.
            members.remove(last)?;
        }
        Value::Array(items) => drop(items.remove(last.parse().unwrap())),
        _ => return None,
    }
    Some(document)
}

/// Whether a warning names the place.
fn is_named(free: &str, place: &[String]) -> bool {
    let plain: Vec<&str> = place.iter().map(String::as_str).collect();
    // `no signature binds A, B: …`
    let listed = free.lines().filter_map(|line| line.split_once("binds ")).map(|(_, rest)| rest);
    let names: Vec<&str> = listed.flat_map(|rest| rest.split([' ', ',', ':'])).collect();
    match plain.as_slice() {
        ["signature_record", name, ..] => names.contains(name),
        ["signatures", _, name, ..] => names.contains(&format!("signatures[].{name}").as_str()),
        // Which ones had to sign is nowhere said.
        ["signatures", _] => free.contains("--roles"),
        [name, ..] => names.contains(name),
        [] => false,
    }
}

/// Whether it is gone, and either that is told or it was derived from the rest.
fn is_told(report: &Report, place: &[String]) -> bool {
    if messages(report, "unbound-field").iter().any(|it| it.contains("last digits")) {
        return place.last().is_some_and(|name| name == "big");
    }
    let unnamed = !messages(report, "signer-resolved").is_empty();
    let last = place.last().map(String::as_str);
    let signer = matches!(last, Some("kid" | "keyId" | "signer_id" | "signerId" | "signer_kid"));
    (unnamed && signer) || (report.exit_code() == 0 && matches!(last, Some("okCount" | "num_rows")))
}

fn contradicts(report: &Report) -> bool {
    let known =
        ["member-mismatch", "unknown-signer", "quorum-invalid", "document-invalid", "key-not-valid-then"];
    kinds(report).iter().all(|kind| known.contains(&kind.as_str()))
}

fn messages(report: &Report, kind: &str) -> Vec<String> {
    let findings = report.findings().listed().iter().filter(|it| it.kind.as_str() == kind);
    findings.map(|finding| finding.message.clone()).collect()
}

/// Kinds of errors, sorted.
fn kinds(report: &Report) -> Vec<String> {
    let json = report.to_json();
    let errors = json["findings"].as_array().unwrap().iter().filter(|it| it["severity"] == "error");
    let mut kinds: Vec<String> = errors.map(|it| it["kind"].as_str().unwrap().to_owned()).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

const ANY: Documents = Documents::Manifests { manifest: None, form: None };

fn proofs() -> Documents {
    Documents::Proofs { rows: None, roles: Vec::new(), quorum: None }
}

fn told(report: &Report, member: &str) -> Value {
    report.checked()["documents"][0][member].clone()
}

#[test]
fn manifests_of_every_kernel_are_verified_in_their_form() {
    let (javascript, go) = (Desk::javascript(), Desk::go());
    for (desk, name, form, accepted) in [
        (&javascript, "kernel-ed25519.json", "kernel", false),
        (&javascript, "kernel-rsa.json", "kernel", false),
        (&javascript, "consumer-rsa.json", "consumer", true),
        (&go, "go.json", "go", false), // agent-manager writes 1.0 and < otherwise
        (&go, "go-derived.json", "go", false),
    ] {
        let report = desk.verify(name, &ANY);
        assert_eq!(report.exit_code(), 0, "{name}: {}", report.to_text());
        assert_eq!(told(&report, "form"), form, "{name}");
        assert_eq!(told(&report, "acceptedByConsumer"), accepted, "{name}");
        let strict = Documents::Manifests { manifest: None, form: Some(Form::Consumer) };
        let report = desk.verify(name, &strict);
        assert_eq!(report.exit_code() == 0, accepted, "{name}: {}", report.to_text());
        // Held against its own form alone: each bad signature of the kernel costs five thousand tries for its time.
        let form = Documents::Manifests { manifest: None, form: Some(form.parse().unwrap()) };
        if name != "kernel-rsa.json" {
            desk.damage_each(name, &form);
        }
    }
    let mut damaged = javascript.json("kernel-rsa.json");
    damaged["manifest"]["limits"]["strict"] = json!(false);
    let report = javascript.verify_as("kernel-rsa.json", &damaged, &ANY);
    assert_eq!(kinds(&report), ["signature-invalid"]);
    // Where canonical forms agree, the Go kernel's is the consumer's.
    let report = javascript.verify("consumer-ed25519.json", &ANY);
    assert_eq!(
        (report.exit_code(), told(&report, "acceptedByConsumer")),
        (0, json!(true)),
        "{}",
        report.to_text()
    );
    javascript.damage_each("consumer-ed25519.json", &ANY);
}

#[test]
fn a_signature_may_be_in_another_file_than_its_manifest() {
    for (desk, name, manifest, form) in [
        (Desk::javascript(), "kernel-row.json", "manifest.json", Form::Kernel),
        (Desk::go(), "go-reply.json", "go-manifest.json", Form::Go),
    ] {
        let beside = Documents::Manifests { manifest: Some(desk.path(manifest)), form: Some(form) };
        assert_eq!(desk.verify(name, &beside).exit_code(), 0, "{}", desk.verify(name, &beside).to_text());
        desk.damage_each(name, &beside);
        assert_eq!(kinds(&desk.verify(name, &ANY)), ["document-invalid"]);
        let nowhere = Documents::Manifests { manifest: Some(desk.path("nowhere.json")), form: None };
        assert_eq!(desk.verify(name, &nowhere).exit_code(), 3);
    }
}

#[test]
fn what_a_manifests_form_cannot_protect_is_said() {
    let desk = Desk::javascript();
    let late = desk.verify("kernel-late.json", &ANY);
    assert_eq!(late.exit_code(), 0, "{}", late.to_text());
    assert_eq!(told(&late, "signedTs"), "2026-02-03T04:05:06.789Z");
    assert!(
        !messages(&late, "signing-time-searched").is_empty()
            && messages(&late, "unbound-field")[0].contains("ts")
    );
    let mut too_late = desk.json("kernel-late.json");
    too_late["signature_record"]["ts"] = json!("2026-02-03T04:05:12.000Z");
    assert_eq!(kinds(&desk.verify_as("kernel-late.json", &too_late, &ANY)), ["signature-invalid"]);

    let with_proto = desk.verify("kernel-proto.json", &ANY);
    assert_eq!(with_proto.exit_code(), 0, "{}", with_proto.to_text());
    assert!(messages(&with_proto, "unbound-field").iter().any(|it| it.contains("__proto__")));

    // 2^53 and the number after it are one double, and so one signature.
    let text = std::fs::read_to_string(desk.path("kernel-ed25519.json")).unwrap();
    std::fs::write(desk.path("digits.json"), text.replace("9007199254740992", "9007199254740993")).unwrap();
    let digits = desk.verify("digits.json", &ANY);
    assert_eq!(digits.exit_code(), 0, "{}", digits.to_text());
    let warned = messages(&digits, "unbound-field");
    assert!(warned.iter().any(|it| it.contains("9007199254740993")), "{warned:?}");
    let whole = desk.verify("kernel-ed25519.json", &ANY);
    assert!(!messages(&whole, "unbound-field").iter().any(|it| it.contains("digits")), "{}", whole.to_text());

    let mac = desk.verify("mac.json", &ANY);
    assert_eq!(
        (kinds(&mac), mac.exit_code()),
        (vec!["mac-not-verifiable".to_owned()], 3),
        "nothing was verified"
    );
}

#[test]
fn keys_are_found_by_name_and_held_to_their_time() {
    let mut desk = Desk::javascript();
    let text = std::fs::read_to_string(desk.path("signers.json")).unwrap();
    let report = |desk: &Desk| desk.verify("kernel-ed25519.json", &ANY);
    desk.signers = Signers::parse(&text.replace("kernel-ed25519-v1", "somebody-else")).unwrap();
    assert_eq!((kinds(&report(&desk)), report(&desk).exit_code()), (vec!["unknown-signer".to_owned()], 3));
    for (with, kind) in [("2026-02-03T00:00:00Z", 1), ("2026-03-01T00:00:00Z", 0)] {
        let mut registry: Value = serde_json::from_str(&text).unwrap();
        registry["signers"][0]["retiredAt"] = json!(with);
        desk.signers = Signers::parse(&registry.to_string()).unwrap();
        assert_eq!(report(&desk).exit_code(), kind, "{}", report(&desk).to_text());
    }
    // A PEM file gives keys without names: a key that verifies is found, and that nobody named it is said.
    let registry: Value = serde_json::from_str(&text).unwrap();
    let pems: String = registry["signers"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|it| it["public_key_pem"].as_str())
        .collect();
    desk.signers = Signers::parse(&pems).unwrap();
    let named = report(&desk);
    assert_eq!(named.exit_code(), 0, "{}", named.to_text());
    assert_eq!(messages(&named, "signer-resolved").len(), 1);
}

#[test]
fn ledger_proofs_are_held_against_their_rows() {
    let desk = Desk::javascript();
    for (name, signed) in [
        ("proof-ed25519.json", "digest"),
        ("proof-rsa.json", "digest"),
        ("proof-kms.json", "digest-as-message"),
    ] {
        let rows = Documents::Proofs { rows: Some(desk.path("rows.jsonl")), roles: vec![], quorum: None };
        let report = desk.verify(name, &rows);
        assert_eq!(report.exit_code(), 0, "{name}: {}", report.to_text());
        assert_eq!((told(&report, "signed"), told(&report, "rows")), (json!(signed), json!(40)), "{name}");
        desk.damage_each(name, &rows);
    }
    // Those beside the proof are found.
    assert_eq!(told(&desk.verify("proof-rsa.json", &proofs()), "rows"), 40);
    let alone = desk.verify("proof-kms.json", &proofs());
    assert_eq!((alone.exit_code(), messages(&alone, "rows-not-given").len()), (0, 1), "{}", alone.to_text());

    let text = std::fs::read_to_string(desk.path("rows.jsonl")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let cut = lines[1..].join("\n") + "\n";
    let swapped =
        [lines[1], lines[0]].into_iter().chain(lines[2..].iter().copied()).collect::<Vec<_>>().join("\n");
    let altered = text.replacen("\"amount_cents\":700", "\"amount_cents\":701", 1);
    for rows in [cut, swapped + "\n", altered, text.clone() + lines[0] + "\n", String::new()] {
        std::fs::write(desk.path("other.jsonl"), rows).unwrap();
        let rows = Documents::Proofs { rows: Some(desk.path("other.jsonl")), roles: vec![], quorum: None };
        assert!(kinds(&desk.verify("proof-rsa.json", &rows)).contains(&"hash-mismatch".to_owned()));
    }
    // Rows that were written anew, with their members in another order, are the same rows.
    let anew: String = text
        .lines()
        .map(|line| {
            let row: Value = serde_json::from_str(line).unwrap();
            let members = row.as_object().unwrap().iter().rev();
            let members: Vec<String> = members.map(|(name, value)| format!("\"{name}\": {value}")).collect();
            format!("{{ {} }}\n", members.join(", "))
        })
        .collect();
    std::fs::write(desk.path("anew.jsonl"), anew).unwrap();
    let rows = Documents::Proofs { rows: Some(desk.path("anew.jsonl")), roles: vec![], quorum: None };
    assert_eq!(desk.verify("proof-rsa.json", &rows).exit_code(), 0);
    let nowhere = Documents::Proofs { rows: Some(desk.path("nowhere.jsonl")), roles: vec![], quorum: None };
    assert_eq!(desk.verify("proof-rsa.json", &nowhere).exit_code(), 3);
}

#[test]
fn proof_packages_are_checked_line_by_line_and_role_by_role() {
    let desk = Desk::javascript();
    for name in ["package.json", "package-small.json"] {
        let report = desk.verify(name, &proofs());
        assert_eq!(report.exit_code(), 0, "{name}: {}", report.to_text());
        assert_eq!(told(&report, "roles"), json!(["FinanceLead", "SecurityEngineer"]));
        desk.damage_each(name, &proofs());
    }
    let both = ["FinanceLead", "SecurityEngineer"].map(str::to_owned).to_vec();
    let wanted = |roles: &[String], quorum| Documents::Proofs { rows: None, roles: roles.to_vec(), quorum };
    assert_eq!(desk.verify("package-small.json", &wanted(&both, Some(2))).exit_code(), 0);
    // With the roles named, a signature that was taken out is missed.
    let mut one = desk.json("package-small.json");
    one["signatures"].as_array_mut().unwrap().pop();
    assert_eq!(
        desk.verify_as("package-small.json", &one, &proofs()).exit_code(),
        0,
        "nothing says who had to sign"
    );
    for documents in [wanted(&both, None), wanted(&[], Some(2))] {
        assert_eq!(kinds(&desk.verify_as("package-small.json", &one, &documents)), ["quorum-invalid"]);
    }
    // The same role twice is one role.
    let mut twice = desk.json("package-small.json");
    twice["signatures"][1] = twice["signatures"][0].clone();
    let found = kinds(&desk.verify_as("package-small.json", &twice, &wanted(&[], Some(2))));
    assert_eq!(found, ["member-mismatch", "quorum-invalid"]);
    let one_key = desk.verify("package-one-key.json", &wanted(&both, Some(2)));
    assert_eq!((one_key.exit_code(), messages(&one_key, "roles-share-key").len()), (0, 1));
}

#[test]
fn lines_outside_the_last_chunk_can_be_exchanged_and_that_is_said() {
    let desk = Desk::javascript();
    let mut package = desk.json("package.json");
    // Somebody who may write the file exchanges a line of the first chunk, and the links over it.
    package["ledgerLines"][3] = json!("{\"journalId\":\"somebody else's\"}");
    let lines = package["ledgerLines"].as_array().unwrap();
    let lines: Vec<&str> = lines[..500].iter().map(|line| line.as_str().unwrap()).collect();
    let exchanged = Hash::of(&[lines.join("\n").as_bytes()]).to_hex();
    package["hashChain"][0]["hash"] = json!(exchanged);
    package["hashChain"][1]["prev"] = json!(exchanged);
    let report = desk.verify_as("package.json", &package, &proofs());
    assert_eq!(report.exit_code(), 0, "nothing in this form can tell: {}", report.to_text());
    let warned = messages(&report, "unbound-field");
    assert!(
        warned.iter().any(|it| it.contains("prev is not hashed") && it.contains("0 to 999")),
        "{warned:?}"
    );
    // In the last chunk it is found.
    let mut package = desk.json("package.json");
    package["ledgerLines"][1100] = json!("{\"journalId\":\"somebody else's\"}");
    let lines = package["ledgerLines"].as_array().unwrap();
    let lines: Vec<&str> = lines[1000..].iter().map(|line| line.as_str().unwrap()).collect();
    package["hashChain"][2]["hash"] = json!(Hash::of(&[lines.join("\n").as_bytes()]).to_hex());
    let found = kinds(&desk.verify_as("package.json", &package, &proofs()));
    assert_eq!(found, ["quorum-invalid", "root-mismatch", "signature-invalid"]);
    let small = desk.verify("package-small.json", &proofs());
    assert!(!messages(&small, "unbound-field").iter().any(|it| it.contains("prev is not hashed")));
}

#[test]
fn each_signer_of_a_combined_proof_counts_once() {
    let desk = Desk::javascript();
    let quorum = |quorum| Documents::Proofs { rows: None, roles: Vec::new(), quorum };
    let report = desk.verify("combined.json", &proofs());
    assert_eq!((report.exit_code(), told(&report, "signers")), (0, json!(3)), "{}", report.to_text());
    desk.damage_each("combined.json", &proofs());
    assert_eq!(desk.verify("combined.json", &quorum(Some(3))).exit_code(), 0);
    assert_eq!(kinds(&desk.verify("combined.json", &quorum(Some(4)))), ["quorum-invalid"]);
    // The platform's own verifier takes this for three signers.
    let mut doubled = desk.json("combined.json");
    for at in [1, 2] {
        doubled["signatures"][at] = doubled["signatures"][0].clone();
    }
    let found = kinds(&desk.verify_as("combined.json", &doubled, &proofs()));
    assert_eq!(found, ["member-mismatch", "quorum-invalid"]);
    // A threshold that was lowered is a warning, unless it is known.
    let mut lowered = desk.json("combined.json");
    lowered["threshold"] = json!(1);
    lowered["okCount"] = json!(1);
    lowered["signatures"].as_array_mut().unwrap().truncate(1);
    assert_eq!(desk.verify_as("combined.json", &lowered, &proofs()).exit_code(), 0);
    assert_eq!(desk.verify_as("combined.json", &lowered, &quorum(Some(2))).exit_code(), 1);
}

#[test]
fn snapshots_are_verified_in_both_forms() {
    let desk = Desk::go();
    for (name, form, signed) in [
        ("sealed.json", "sealed", "hash"),
        ("sealed-bound.json", "sealed", "hash"),
        ("graph.json", "graph", "text"),
        ("graph-older.json", "graph", "hash"),
    ] {
        let report = desk.verify(name, &Documents::Snapshots);
        assert_eq!(report.exit_code(), 0, "{name}: {}", report.to_text());
        assert_eq!((told(&report, "form"), told(&report, "signed")), (json!(form), json!(signed)), "{name}");
        // The members of the older form are in an order that our JSON does not keep.
        if name != "graph-older.json" {
            desk.damage_each(name, &Documents::Snapshots);
        }
    }
    let text = std::fs::read_to_string(desk.path("graph-older.json")).unwrap();
    for (from, to) in [("decision", "decisive"), ("\"hash\": \"", "\"hash\": \"0"), ("causal", "casual")] {
        std::fs::write(desk.path("damaged.json"), text.replacen(from, to, 1)).unwrap();
        assert_eq!(desk.verify("damaged.json", &Documents::Snapshots).exit_code(), 1, "{from}");
    }
}

/// The program: its exit codes, its JSON, and what it does with what is no document.
#[test]
fn the_program_says_it_with_its_exit_code() {
    let (desk, go) = (Desk::javascript(), Desk::go());
    let run = |desk: &Desk, arguments: &[&str]| {
        let mut verify = Command::new(binary("chancery-verify"));
        verify.current_dir(desk.folder.path()).args(arguments).args(["--signers", "signers.json", "--json"]);
        let output = verify.output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code().unwrap(), report)
    };
    for (desk, arguments) in [
        (&desk, &["manifest", "kernel-ed25519.json", "kernel-rsa.json", "consumer-rsa.json"][..]),
        (&desk, &["manifest", "kernel-row.json", "--manifest", "manifest.json", "--form", "kernel"]),
        (&desk, &["proof", "proof-kms.json", "--rows", "rows.jsonl"]),
        (&desk, &["proof", "package.json", "--roles", "FinanceLead,SecurityEngineer", "--quorum", "2"]),
        (&go, &["snapshot", "sealed.json", "graph.json"]),
    ] {
        let (code, report) = run(desk, arguments);
        assert_eq!((code, &report["valid"]), (0, &json!(true)), "{arguments:?}: {report:#}");
        assert!(report["checked"]["signatures"].as_u64().unwrap() > 0, "{report:#}");
    }
    std::fs::write(desk.path("half.json"), "{\"manifest\":").unwrap();
    std::fs::write(desk.path("empty.json"), "{}").unwrap();
    for (arguments, code) in [
        (&["manifest", "half.json"][..], 1),
        (&["manifest", "empty.json"], 1),
        (&["snapshot", "empty.json"], 1),
        (&["proof", "empty.json"], 1),
        (&["proof", "nowhere.json"], 3),
        (&["manifest", "kernel-rsa.json", "nowhere.json"], 3),
        (&["manifest", "kernel-rsa.json", "--form", "klingon"], 2),
        (&["manifest"], 2),
    ] {
        let (found, report) = run(&desk, arguments);
        assert_eq!(found, code, "{arguments:?}: {report:#}");
    }
    // One bad file among good ones is found, and named.
    let damaged =
        std::fs::read_to_string(desk.path("consumer-rsa.json")).unwrap().replace("reporter", "deporter");
    std::fs::write(desk.path("damaged.json"), damaged).unwrap();
    let (code, report) = run(&desk, &["manifest", "kernel-rsa.json", "damaged.json"]);
    assert_eq!((code, &report["findings"][0]["file"]), (1, &json!("damaged.json")), "{report:#}");
}
