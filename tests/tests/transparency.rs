//! Logs, witnesses and monitors that we did not write, beside ours: each reads what the other writes.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use chancery_format::PublicKey;
use chancery_format::cosignature::CosignerKey;
use chancery_format::merkle::{NodeSource, ProofError, consistency_proof, leaf_hash};
use chancery_format::tile::{decode_bundle, perfect_root};
use chancery_format::{Hash, TreeSize};
use chancery_tests::rig::wire::{Ask, call};
use chancery_tests::rig::{Daemon, World, WorldOptions, binary, wait_for};
use chancery_tests::servers::{NoteKey, Omniwitness, TesseraLog, fsck};
use serde_json::Value;

const ORIGIN: &str = "tessera.example/log";

fn log_key() -> NoteKey {
    NoteKey::new(ORIGIN, [0x42; 32])
}

/// The status and the body of a plain HTTP request.
fn http(url: &str, method: &str, path: &str, body: &[u8]) -> (u16, String) {
    let authority = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(authority).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Adds entries, many at a time, and waits until the log has published them.
fn add(log: &TesseraLog, from: u64, to: u64) -> String {
    let numbers: Vec<u64> = (from..to).collect();
    for several in numbers.chunks(64) {
        std::thread::scope(|scope| {
            for n in several {
                scope.spawn(move || {
                    assert_eq!(http(&log.url(), "POST", "/add", format!("entry {n}").as_bytes()).0, 200)
                });
            }
        });
    }
    wait_for("the log publishes", || {
        let (_, note) = http(&log.url(), "GET", "/checkpoint", b"");
        note.starts_with(&format!("{ORIGIN}\n{to}\n")).then_some(note)
    })
}

fn mirror(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("chancery"));
    command.arg("mirror").args(arguments).stdin(Stdio::null());
    command
}

fn follow(log: &str, copy: &Path) -> Value {
    let vkey = log_key().vkey;
    let copy = copy.to_str().unwrap();
    let output =
        mirror(&["follow", log, "--vkey", &vkey, "--to", copy, "--once", "--json"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn serve(copy: &Path) -> (Running, String) {
    let mut command = mirror(&["serve", copy.to_str().unwrap(), "--listen", "127.0.0.1:0"]);
    let mut child = Running(command.stderr(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(child.0.stderr.take().unwrap()).read_line(&mut line).unwrap();
    (child, line.trim().strip_prefix("listening on ").unwrap().to_owned())
}

#[test]
fn our_mirror_follows_a_tessera_log_and_tessera_s_checker_reads_the_mirror() {
    let log = TesseraLog::start(&log_key()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (copy, second) = (folder.path().join("copy"), folder.path().join("second"));
    assert_eq!(follow(&log.url(), &copy)["size"], 0);
    for (from, to) in [(0, 5), (5, 300), (300, 700)] {
        let note = add(&log, from, to);
        assert_eq!(follow(&log.url(), &copy)["size"], to);
        assert_eq!(std::fs::read_to_string(copy.join("checkpoint")).unwrap(), note);
        let (_child, url) = serve(&copy);
        let told = fsck(&format!("{url}/"), &log_key().vkey).unwrap();
        assert!(told.contains("OK"), "{told}");
    }
    // The log's folder is what a bucket would hold; both ways lead to the same copy.
    follow(log.folder().to_str().unwrap(), &second);
    let path = "tile/entries/001";
    assert_eq!(std::fs::read(copy.join(path)).unwrap(), std::fs::read(second.join(path)).unwrap());
    // The checker is one that finds something.
    std::fs::write(copy.join(path), b"\0\x01x").unwrap();
    let (_child, url) = serve(&copy);
    fsck(&format!("{url}/"), &log_key().vkey).unwrap_err();
}

#[test]
fn a_witness_cosigns_what_is_consistent() {
    let key = log_key();
    let log = TesseraLog::start(&key).unwrap();
    let witness =
        Omniwitness::start(&NoteKey::new("witness.example/w1", [0x43; 32]), &[(ORIGIN, &key.vkey)]).unwrap();
    let show = |old: u64, proof: &[Hash], note: &str| {
        use base64::Engine as _;
        let line = |hash: &Hash| base64::engine::general_purpose::STANDARD.encode(hash.0) + "\n";
        let proof: String = proof.iter().map(line).collect();
        http(&witness.url(), "POST", "/add-checkpoint", format!("old {old}\n{proof}\n{note}").as_bytes())
    };
    let first = add(&log, 0, 5);
    let (status, lines) = show(0, &[], &first);
    assert_eq!(status, 200, "{lines}");
    assert!(lines.starts_with("\u{2014} witness.example/w1 IA+xq"), "{lines}");
    assert_eq!(show(0, &[], &first), (409, "5\n".to_owned()), "it says what it has");
    assert_eq!(show(5, &[], &first).0, 200);
    let second = add(&log, 5, 8);
    assert_eq!(show(5, &[], &second).0, 422, "without the proof it does not sign");
    let proof = consistency_proof(&Entries(entries(&log)), TreeSize(5), TreeSize(8)).unwrap();
    let (status, lines) = show(5, &proof, &second);
    assert_eq!(status, 200, "{lines}");
    // 403 by the specification; this one says 500.
    let forged = show(8, &[], &second.replace("\n8\n", "\n9\n"));
    assert!(matches!(forged.0, 403 | 500), "{forged:?}");
}

/// Our daemon, cosigned by a witness that knows nothing of us but our name and key; and its log, mirrored and read by a
/// monitor that knows nothing of us either.
#[test]
fn our_daemon_is_cosigned_by_omniwitness_and_read_by_tessera_s_checker() {
    let witnessing = "[witnessing]\npolicy_file = \"{dir}/witnesses.policy\"\ninterval_ms = 200\n\n\
                      [[keys]]\nkid = \"seen\"\nsigner_kid = \"seen-v1\"\nbackend = \"software\"\n\
                      algorithm = \"ed25519\"\npurpose = \"test\"\nrelease = \"witnessed\"\n";
    let options = WorldOptions {
        origin: "chancery.example/log",
        kids: &["seen"],
        more: witnessing.into(),
        ..WorldOptions::default()
    };
    let world = World::new(&options);
    let vkey = world.registry().ledger.vkeys.first().unwrap().clone();
    let key = NoteKey::new("witness.example/w1", [0x43; 32]);
    let witness = Omniwitness::start(&key, &[(options.origin, &vkey)]).unwrap();
    let raw = chancery_format::note::NoteVerifier::parse(&key.vkey).unwrap().public_key();
    let cosigner =
        CosignerKey::new("witness.example/w1", PublicKey::from_ed25519_raw(&raw).unwrap()).unwrap();
    let policy = format!("log {vkey}\nwitness w1 {} {}\nquorum w1\n", cosigner.vkey(), witness.url());
    std::fs::write(world.path("witnesses.policy"), &policy).unwrap();

    let daemon = Daemon::start(&world);
    let events = (0..300).map(|n| serde_json::json!({ "eventType": "a.b", "payload": { "number": n } }));
    let body = serde_json::json!({ "items": events.collect::<Vec<_>>() }).to_string();
    assert_eq!(call(&world, Some(&world.orders), &Ask::post("/v1/events/batch", &body)).unwrap().status, 201);
    let body = serde_json::json!({ "kid": "seen", "digest": "07".repeat(32), "digestAlgorithm": "sha256" })
        .to_string();
    let reply = call(&world, Some(&world.orders), &Ask::post("/v1/sign", &body));
    let reply = reply.unwrap_or_else(|error| panic!("{error}: {}", daemon.log_tail()));
    assert_eq!((reply.status, reply.json()["rung"].as_str()), (200, Some("witnessed")), "{}", reply.body);
    let note = reply.json()["receipt"]["checkpoint"].as_str().unwrap().to_owned();
    assert!(note.contains("\n\u{2014} witness.example/w1 "), "{note}");

    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    let log = format!("{}/log", world.url());
    let mut follow = mirror(&["follow", &log, "--vkey", &vkey, "--once", "--json", "--to"]);
    follow.arg(&copy).arg("--ca").arg(world.path("ca.crt"));
    let followed =
        follow.arg("--cert").arg(&world.orders.certificate).arg("--key").arg(&world.orders.key).output();
    let followed = followed.unwrap();
    assert!(followed.status.success(), "{followed:?}");
    let (_child, url) = serve(&copy);
    let told = fsck(&format!("{url}/"), &vkey).unwrap();
    assert!(told.contains("OK"), "{told}");
    assert!(daemon.stop().success());
}

/// The archive as it is, of 300 and some entries: followed from its folder, and read by Tessera's checker over HTTP.
#[test]
fn our_archive_is_a_log_that_others_read() {
    let world = World::new(&WorldOptions { origin: "chancery.example/log", ..WorldOptions::default() });
    let vkey = world.registry().ledger.vkeys.first().unwrap().clone();
    let archive = world.path("archive");
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    let mut sizes = Vec::new();
    for events in [3, 300] {
        let daemon = Daemon::start(&world);
        let events =
            (0..events).map(|n| serde_json::json!({ "eventType": "a.b", "payload": { "number": n } }));
        let body = serde_json::json!({ "items": events.collect::<Vec<_>>() }).to_string();
        let ask = Ask::post("/v1/events/batch", &body);
        assert_eq!(call(&world, Some(&world.orders), &ask).unwrap().status, 201);
        assert!(daemon.stop().success());
        let before: Vec<_> = walk(&archive);
        let output =
            mirror(&["follow", archive.to_str().unwrap(), "--vkey", &vkey, "--once", "--json", "--to"])
                .arg(&copy)
                .output()
                .unwrap();
        assert!(output.status.success(), "{output:?}");
        let followed: Value = serde_json::from_slice(&output.stdout).unwrap();
        sizes.push(followed["size"].as_u64().unwrap());
        let (_child, url) = serve(&archive);
        let told = fsck(&format!("{url}/"), &vkey).unwrap();
        assert!(told.contains("OK"), "{told}");
        assert_eq!(http(&url, "GET", "/checkpoint", b"").1, followed["checkpoint"].as_str().unwrap());
        assert_eq!(http(&url, "GET", "/registry/00000001.json", b"").0, 404, "a log has no such thing");
        assert_eq!(walk(&archive), before, "an archive is only read");
    }
    assert!(sizes[0] < 256 && sizes[1] > 300, "{sizes:?}");
    // The checker is one that finds something.
    let bundle = archive.join("tile/entries/000");
    std::fs::remove_file(&bundle).unwrap();
    std::fs::write(&bundle, b"\0\x01x").unwrap();
    let (_child, url) = serve(&archive);
    fsck(&format!("{url}/"), &vkey).unwrap_err();
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// The leaf hashes of a log's first bundle.
fn entries(log: &TesseraLog) -> Vec<Hash> {
    let bundle = std::fs::read(log.folder().join("tile/entries/000.p/8")).unwrap();
    decode_bundle(&bundle).map(|entry| leaf_hash(entry.unwrap())).collect()
}

struct Entries(Vec<Hash>);

impl NodeSource for Entries {
    type Error = ProofError;

    fn node(&self, level: u8, index: u64) -> Result<Hash, ProofError> {
        let at = |index: u64| usize::try_from(index << level).unwrap();
        perfect_root(self.0.get(at(index)..at(index + 1)).unwrap()).ok_or(ProofError::OutOfRange)
    }
}
