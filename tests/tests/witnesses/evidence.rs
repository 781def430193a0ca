//! Evidence that outlives its issuer: a receipt becomes a bundle while nobody witnesses, and is renewed from a mirror by
//! the cosignatures of witnesses who came later, one of them with ML-DSA-44, when the daemon is gone.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Output, Stdio};

use chancery_tests::rig::binary;
use chancery_tests::servers::page_tests;

use super::*;

/// As the party's client, or as somebody who knows no service.
fn chancery(party: Option<&Party>, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("chancery"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    if let Some(Party { world, .. }) = party {
        command.env("CHANCERY_URL", world.url()).env("CHANCERY_CA", world.path("ca.crt"));
        command.env("CHANCERY_CERT", &world.orders.certificate).env("CHANCERY_KEY", &world.orders.key);
    }
    command
}

/// What was printed as JSON by a command that ended so.
fn told(mut command: Command, code: i32) -> Value {
    let output: Output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What the auditor's program says of a file, and its exit code.
fn judged(arguments: &[&str], code: i32) -> Value {
    let mut command = Command::new(binary("chancery-verify"));
    command.arg("evidence").args(arguments).arg("--json");
    told(command, code)
}

fn mirror(party: &Party) -> PathBuf {
    let (copy, log) = (party.world.path("copy"), format!("{}/log", party.world.url()));
    let vkey = party.vkey();
    let copied = copy.to_str().unwrap();
    let follow = ["mirror", "follow", &log, "--vkey", &vkey, "--to", copied, "--once", "--json"];
    told(chancery(Some(party), &follow), 0);
    copy
}

struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn serve(copy: &Path) -> (Served, String) {
    let mut command = chancery(None, &["mirror", "serve", copy.to_str().unwrap(), "--listen", "127.0.0.1:0"]);
    let mut child = Served(command.stderr(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(child.0.stderr.take().unwrap()).read_line(&mut line).unwrap();
    (child, line.trim().strip_prefix("listening on ").unwrap().to_owned())
}

#[test]
fn a_receipt_is_renewed_by_later_witnesses_when_its_issuer_is_gone() {
    let (a, b) = two();
    let path = |name: &str| a.world.path(name).to_str().unwrap().to_owned();
    let (receipt, file, signers) = (path("receipt.json"), path("invoice.evidence"), path("signers.json"));
    let policy = path("witnesses.policy");
    let upgrade = |more: &[&str], code: i32| {
        let command = [&["receipt", "upgrade", file.as_str(), "--json"], more].concat();
        told(chancery(None, &command), code)
    };

    // Nobody has witnessed anything yet.
    let daemon = Daemon::start(&a.world);
    let signed = a.sign("ed", 7);
    assert_eq!(signed.status, 200, "{}", signed.body);
    let index = signed.json()["receipt"]["index"].as_u64().unwrap();
    let number = index.to_string();
    told(chancery(Some(&a), &["receipt", "get", &number, "-o", &receipt, "--json"]), 0);
    let objects = ["--archive", "s3://audit/prod", "--object", "tile/entries/000.p/9=v.1", "--json"];
    let bundle = [&["receipt", "bundle", receipt.as_str(), "--out", &file], objects.as_slice()].concat();
    let made = told(chancery(Some(&a), &bundle), 0);
    assert_eq!((&made["event"], &made["index"]), (&json!("bundled"), &json!(index)), "{made}");
    let report = judged(&[&file, "--signers", &signers], 0);
    let ways = json!({
        "log": "held", "cose": "absent", "signature": "held", "witnesses": "absent", "renewals": "absent",
    });
    assert_eq!(
        (&report["checked"]["ways"], &report["checked"]["archiveObjects"]),
        (&ways, &json!(1)),
        "{report}"
    );
    assert_eq!(judged(&[&file], 3)["findings"][0]["kind"], "no-trust-anchor");
    let report = judged(&[&file, "--signers", &signers, "--policy", &policy], 1);
    assert_eq!(report["findings"][0]["kind"], "not-witnessed", "{report}");
    let unmet = chancery(Some(&a), &[&bundle[..], &["--policy", &policy]].concat());
    let unmet = told(unmet, 1)["error"]["message"].as_str().unwrap().to_owned();
    assert!(unmet.contains("too few witnesses"), "{unmet}");

    // Witnesses come, the ledger grows, somebody mirrors it, and then the issuer is gone.
    let witness = Daemon::start(&b.world);
    wait_for("witnessed", || (daemon.metric("chancery_witnessed_entries") > index + 1).then_some(()));
    for digest in 1..6 {
        assert_eq!(a.sign("seen", digest).status, 200);
    }
    let (copy, other) = (mirror(&a), mirror(&b));
    assert!(daemon.stop().success() && witness.stop().success());
    let (copy, other) = (copy.to_str().unwrap(), other.to_str().unwrap());
    let before = std::fs::read(&file).unwrap();

    // What does not hold changes nothing.
    let unchanged = || assert_eq!(std::fs::read(&file).unwrap(), before);
    assert!(upgrade(&[], 2)["error"]["message"].as_str().unwrap().contains("--log"));
    let foreign = upgrade(&["--log", other], 1);
    assert!(foreign["error"]["message"].as_str().unwrap().contains("origin"), "{foreign}");
    let strangers = b.world.path("witnesses.policy");
    let refused = upgrade(&["--log", copy, "--policy", strangers.to_str().unwrap()], 1);
    assert!(refused["error"]["message"].as_str().unwrap().contains("too few witnesses"), "{refused}");
    let checkpoint = std::fs::read_to_string(a.world.path("copy/checkpoint")).unwrap();
    let forged = path("forged.txt");
    let line = checkpoint.lines().find(|line| line.starts_with("\u{2014} a.example/log")).unwrap();
    let at = checkpoint.find(line).unwrap() + line.len() - 40;
    let letter = if checkpoint.as_bytes()[at] == b'A' { "B" } else { "A" };
    std::fs::write(&forged, format!("{}{letter}{}", &checkpoint[..at], &checkpoint[at + 1..])).unwrap();
    upgrade(&["--log", copy, "--policy", &policy, "--checkpoint", &forged], 1);
    unchanged();

    // Over HTTP into another file, and from the folder in place: the same.
    let (_served, url) = serve(&a.world.path("copy"));
    let second = path("second.evidence");
    let renewed = upgrade(&["--log", &url, "--policy", &policy, "--out", &second], 0);
    let mut cosigners: Vec<&str> =
        renewed["cosigners"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    // The lines of a note have no order.
    cosigners.sort_unstable();
    assert_eq!((&renewed["event"], cosigners), (&json!("renewed"), vec!["classical", "quantum"]));
    unchanged();
    let renewed = upgrade(&["--log", copy, "--policy", &policy], 0);
    assert_eq!((&renewed["event"], &renewed["renewals"]), (&json!("renewed"), &json!(1)), "{renewed}");
    assert_eq!(std::fs::read(&file).unwrap(), std::fs::read(&second).unwrap());
    assert_eq!(upgrade(&["--log", copy], 0)["event"], "unchanged");
    assert_eq!(std::fs::read(&file).unwrap(), std::fs::read(&second).unwrap());

    // By the witnesses alone, without a word of the issuer's.
    for (arguments, by) in [
        (vec![file.as_str(), "--policy", &policy], "policy"),
        (vec![file.as_str(), "--policy", &policy, "--signers", &signers], "signers"),
    ] {
        let report = judged(&arguments, 0);
        let ways = json!({
            "log": "held", "cose": "absent", "signature": "held", "witnesses": "held", "renewals": "held",
        });
        assert_eq!(
            (&report["checked"]["ways"], &report["checked"]["trustedBy"]),
            (&ways, &json!(by)),
            "{report}"
        );
        assert_eq!(report["checked"]["cosignatures"], 2, "{report}");
    }
    let strangers = b.world.path("signers.json");
    judged(&[&file, "--signers", strangers.to_str().unwrap()], 1);
    the_page_agrees(&file, &signers, &policy);
    altered_members_are_refused(&file, &path("altered.evidence"), &[&signers, &policy]);
}

/// The page in a browser, which shares no code with ours, believes the file by the registry and by the witnesses, one of
/// whom signed with ML-DSA-44.
fn the_page_agrees(file: &str, signers: &str, policy: &str) {
    let (tests, evidence) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (from, name) in [(file, "renewed.evidence"), (signers, "signers.json"), (policy, "witnesses.policy")]
    {
        std::fs::copy(from, evidence.path().join(name)).unwrap();
    }
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../verifier/web/index.html");
    let mut command = page_tests(tests.path()).unwrap();
    command.arg("--page").arg(page).arg("--evidence").arg(evidence.path());
    let output = command.args(["--only", "from the daemon: renewed.evidence"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("\"cases\":1,"), "{told}{output:?}");
}

/// The ledger ended before anybody witnessed it: its last checkpoint is cosigned years later, with both algorithms, for
/// whoever has a mirror.
#[test]
fn witnesses_cosign_the_last_checkpoint_of_a_ledger_that_is_gone() {
    let (a, b) = two();
    let path = |name: &str| a.world.path(name).to_str().unwrap().to_owned();
    let (receipt, file, authority) = (path("receipt.json"), path("order.evidence"), path("witnesses.crt"));
    let policy = path("witnesses.policy");
    let daemon = Daemon::start(&a.world);
    let index = a.sign("ed", 7).json()["receipt"]["index"].as_u64().unwrap();
    told(chancery(Some(&a), &["receipt", "get", &index.to_string(), "-o", &receipt, "--json"]), 0);
    told(chancery(Some(&a), &["receipt", "bundle", &receipt, "--out", &file, "--json"]), 0);
    let copy = mirror(&a).to_str().unwrap().to_owned();
    assert!(daemon.stop().success());

    let command = [
        &["receipt", "upgrade", &file, "--log", &copy, "--policy", &policy, "--ca", &authority][..],
        &["--ask-witnesses", "--json"],
    ]
    .concat();
    let away = told(chancery(None, &command), 1);
    assert!(away["error"]["message"].as_str().unwrap().contains("too few witnesses"), "{away}");
    let witness = Daemon::start(&b.world);
    let renewed = told(chancery(None, &command), 0);
    assert_eq!(
        (&renewed["event"], &renewed["cosigners"]),
        (&json!("renewed"), &json!(["classical", "quantum"]))
    );
    assert_eq!(renewed["asked"][0]["answer"], "cosigned", "{renewed}");
    assert_eq!(renewed["asked"].as_array().unwrap().len(), 1, "one address, one question: {renewed}");
    let note = std::fs::read_to_string(a.world.path("copy/checkpoint")).unwrap();
    assert!(!note.contains("witness.b.example"), "the mirror has no cosignature: {note}");
    assert_eq!(judged(&[&file, "--policy", &policy], 0)["checked"]["trustedBy"], "policy");
    let again = told(chancery(None, &command), 0);
    assert_eq!((&again["event"], &again["renewals"]), (&json!("unchanged"), &json!(1)), "{again}");
    assert!(witness.stop().success());
}

fn altered_members_are_refused(file: &str, altered: &str, [signers, policy]: &[&str; 2]) {
    let good: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    for pointer in [
        "/version",
        "/event/payload/signature",
        "/event/seq",
        "/proof",
        "/registry/file",
        "/registry/event/payload/sha256",
        "/registry/proof",
        "/renewals/0/checkpoint",
        "/renewals/0/inclusionProof/0",
        "/renewals/0/registryProof/0",
        "/renewals/0/consistencyProof/0",
        "/renewals/0/policy",
    ] {
        let mut bad = good.clone();
        let member = bad.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}"));
        *member = match member {
            Value::String(text) => {
                let at = text.len() - 12;
                let letter = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
                json!(format!("{}{letter}{}", &text[..at], &text[at + 1..]))
            }
            ref number => json!(number.as_u64().unwrap() + 1),
        };
        std::fs::write(altered, bad.to_string()).unwrap();
        let report = judged(&[altered, "--signers", signers, "--policy", policy], 1);
        assert_eq!(report["valid"], false, "{pointer}: {report}");
    }
}
