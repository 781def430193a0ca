//! `chancery ledger`: single entries of logs that are honest, and of those that are not.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use chancery_format::merkle::{inclusion_root, leaf_hash};
use chancery_format::{Hash, LeafIndex, TreeSize};
use serde_json::Value;

use super::log::{Act, LogServer, entries, log, log_with, other_vkey, vkey, write};

fn ledger(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chancery"));
    command.arg("ledger").args(arguments).env_clear().stdin(Stdio::null()).output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

fn message(output: &Output, exit: i32) -> String {
    assert_eq!(output.status.code(), Some(exit), "{output:?}");
    json(output)["error"]["message"].as_str().unwrap().to_owned()
}

#[test]
fn every_entry_is_fetched_proven_and_drawn_whatever_the_size_of_the_log() {
    let all = entries(1, 66_000);
    let server = LogServer::start(log(&all[..0]));
    let folder = tempfile::tempdir().unwrap();
    for (size, indices) in [
        (1, vec![0]),
        (5, vec![0, 3, 4]),
        (256, vec![0, 255]),
        (257, vec![0, 255, 256]),
        (700, vec![1, 511, 512, 699]),
        (66_000, vec![0, 8, 65_535, 65_536, 65_999]),
    ] {
        let files = log(&all[..size]);
        server.show(files.clone());
        let copy = folder.path().join(size.to_string());
        write(&copy, &files);
        for index in indices {
            let (number, url, vkey) = (index.to_string(), server.url(), vkey());
            for address in [url.as_str(), copy.to_str().unwrap()] {
                let told = |words: &[&str]| {
                    let given = [words, &[&*number, "--log", address, "--vkey", &vkey]].concat();
                    let output = ledger(&given);
                    assert_eq!(output.status.code(), Some(0), "{given:?} {output:?}");
                    output
                };
                let entry = &all[index];
                assert_eq!(&told(&["get", "--raw"]).stdout, entry, "byte for byte, and nothing else");
                let read = json(&told(&["explain", "--json"]));
                let hash = |value: &Value| Hash::from_hex(value.as_str().unwrap()).unwrap();
                let proof: Vec<Hash> = read["inclusionProof"].as_array().unwrap().iter().map(hash).collect();
                let at = LeafIndex(index as u64);
                let root = inclusion_root(&leaf_hash(entry), at, &proof, TreeSize(size as u64)).unwrap();
                assert_eq!(root, hash(&read["root"]));
                assert_eq!(read["path"].as_array().unwrap().len(), proof.len());
                assert!(read["event"].is_null() && read["signatures"].is_null(), "{read}");
                let text = String::from_utf8(told(&["explain"]).stdout).unwrap();
                assert!(text.contains(&root.to_hex()) && text.contains("\n  root\n"), "{text}");
                assert!(text.contains("not an event of a Chancery ledger"), "{text}");
            }
        }
    }
    // Few of the log's resources are asked for.
    server.asked();
    let (url, vkey) = (server.url(), vkey());
    assert!(ledger(&["get", "5", "--log", &url, "--vkey", &vkey]).status.success());
    let asked = server.asked();
    assert!(asked.len() <= 8, "{asked:?}");
}

#[test]
fn what_the_signed_root_does_not_vouch_for_is_not_shown() {
    let all = entries(1, 700);
    let files = log(&all);
    let server = LogServer::start(files.clone());
    let get =
        |index: &str, vkey: &str| ledger(&["get", index, "--log", &server.url(), "--vkey", vkey, "--json"]);
    for path in ["tile/entries/001", "tile/0/001", "tile/0/002.p/188", "tile/1/000.p/2"] {
        let mut bytes = files[path].clone();
        *bytes.last_mut().unwrap() ^= 1;
        server.act(path, Act::Says(bytes));
        assert!(!message(&get("300", &vkey()), 1).is_empty(), "{path}");
        server.act(path, Act::Status(404));
        assert!(message(&get("300", &vkey()), 3).contains(path), "{path}");
        server.honest();
    }
    // An entry that the others' bundle hides is not needed; another log's, or one that is not there yet, is.
    server.act("tile/entries/000", Act::Status(404));
    assert_eq!(get("300", &vkey()).status.code(), Some(0));
    server.honest();
    assert!(message(&get("700", &vkey()), 3).contains("covers 700"));
    message(&get("300", &other_vkey()), 1);
    server.show(log_with(&all, "other.example", ""));
    message(&get("300", &vkey()), 1);
    server.act("checkpoint", Act::Status(403));
    assert!(message(&get("300", &vkey()), 1).contains("403"));
}

#[test]
fn what_was_typed_wrongly_is_said() {
    let vkey = vkey();
    for arguments in [
        &["get", "5"][..],
        &["get", "5", "--vkey", &vkey],
        &["get", "5", "--vkey", "x", "--log", "http://127.0.0.1:9"],
        &["get", "5", "--vkey", &vkey, "--log", "/nowhere"],
        &["get", "--vkey", &vkey, "--log", "http://127.0.0.1:9", "5", "--raw", "--json"],
        &["get", "5", "--vkey", &vkey, "--signers", "x.json"],
    ] {
        assert_eq!(ledger(arguments).status.code(), Some(2), "{arguments:?}");
    }
    assert!(!Path::new("x.json").exists());
    let missing = ledger(&["get", "5", "--log", "http://127.0.0.1:9", "--signers", "x.json"]);
    assert_eq!(missing.status.code(), Some(3));
    for command in ["get", "explain"] {
        let help = ledger(&[command, "--help"]);
        assert!(String::from_utf8(help.stdout).unwrap().contains("Example:"));
    }
}
