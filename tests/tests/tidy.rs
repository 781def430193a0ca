//! House rules, each a test: who may import whom, which function may be called from where, and that the
//! documents point at things that exist. A rule that cannot be a type is a line here.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Package name → names of everything it links outside tests, transitively.
fn linked() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--locked",
            "--format-version",
            "1",
            "--filter-platform",
            "x86_64-unknown-linux-gnu",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let name_of: BTreeMap<&str, &str> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| (package["id"].as_str().unwrap(), package["name"].as_str().unwrap()))
        .collect();
    let mut edges: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for node in metadata["resolve"]["nodes"].as_array().unwrap() {
        let normal = node["deps"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|dep| dep["dep_kinds"].as_array().unwrap().iter().any(|kind| kind["kind"].is_null()));
        edges.insert(node["id"].as_str().unwrap(), normal.map(|dep| dep["pkg"].as_str().unwrap()).collect());
    }
    name_of
        .iter()
        .filter(|(_, name)| name.starts_with("chancery-"))
        .map(|(id, name)| {
            let mut seen = BTreeSet::new();
            let mut queue = edges[id].clone();
            while let Some(next) = queue.pop() {
                if seen.insert(next) {
                    queue.extend(&edges[next]);
                }
            }
            ((*name).to_owned(), seen.into_iter().map(|id| name_of[id].to_owned()).collect())
        })
        .collect()
}

/// Our crates among those a crate links.
fn ours(linked: &BTreeSet<String>) -> Vec<&str> {
    linked.iter().map(String::as_str).filter(|name| name.starts_with("chancery-")).collect()
}

#[test]
fn crates_import_only_what_the_architecture_allows() {
    let linked = linked();
    assert_eq!(ours(&linked["chancery-format"]), Vec::<&str>::new());
    for alone_on_format in
        ["chancery-hsm", "chancery-ledger", "chancery-verify", "chancery-identity", "chancery-policy"]
    {
        assert_eq!(ours(&linked[alone_on_format]), ["chancery-format"], "{alone_on_format}");
    }
    let client = ours(&linked["chancery-client"]);
    assert_eq!(client, ["chancery-format", "chancery-identity", "chancery-policy"]);
    for device in ["chancery-pkcs11", "chancery-aws-kms", "chancery-yubihsm"] {
        assert_eq!(ours(&linked[device]), ["chancery-format", "chancery-hsm"], "{device}");
    }
    assert_eq!(ours(&linked["chancery-archive-s3"]), ["chancery-format", "chancery-ledger"]);
    for (name, links) in &linked {
        let ours = ours(links);
        if name != "chancery-tests" {
            assert!(!ours.contains(&"chancery-proxy"), "{name} imports the proxy");
        }
        if links.contains("rocksdb") {
            assert!(
                name == "chancery-ledger" || ours.contains(&"chancery-ledger"),
                "{name} brings its own RocksDB"
            );
        }
        if links.iter().any(|link| link.starts_with("aws-sdk-") || link == "aws-config") {
            // The tests make and break keys, which no crate of the daemon may.
            let through = ["chancery-archive-s3", "chancery-aws-kms", "chancery-tests"];
            assert!(
                through.iter().any(|door| name == door || ours.contains(door)),
                "{name} brings its own AWS SDK"
            );
        }
    }
}

#[test]
fn the_verifier_links_neither_database_nor_cloud_nor_runtime() {
    let linked = linked();
    for link in &linked["chancery-verify"] {
        let banned = ["rocksdb", "librocksdb-sys", "tokio", "hyper"].contains(&link.as_str())
            || link.starts_with("aws-sdk")
            || link.starts_with("aws-smithy")
            || link.starts_with("aws-config");
        assert!(!banned, "chancery-verify links {link}");
    }
    for link in &linked["chancery-format"] {
        assert!(
            !["tokio", "rocksdb", "ureq", "hyper", "aws-lc-rs"].contains(&link.as_str()),
            "format links {link}"
        );
    }
}

/// Every file git knows, relative to the root.
fn tracked() -> Vec<String> {
    let output =
        Command::new("git").args(["ls-files", "-co", "--exclude-standard"]).current_dir(root()).output();
    let output = output.unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// Production Rust sources with their text up to the first test module.
fn sources() -> Vec<(String, String)> {
    tracked()
        .into_iter()
        .filter(|path| path.ends_with(".rs") && !path.contains("tests/") && !path.contains("examples/"))
        .map(|path| {
            let text = std::fs::read_to_string(root().join(&path)).unwrap();
            let production = text.split("#[cfg(test)]").next().unwrap().to_owned();
            (path, production)
        })
        .collect()
}

fn callers(call: &str) -> Vec<String> {
    let calls =
        |text: &str| text.lines().any(|line| line.contains(call) && !line.trim_start().starts_with("//"));
    sources().into_iter().filter(|(_, text)| calls(text)).map(|(path, _)| path).collect()
}

#[test]
fn proof_types_are_made_where_their_names_say() {
    assert_eq!(callers("Intent::new("), ["proxy/src/admission.rs"]);
    for (call, folder) in
        [("DurableHead::after_sync(", "ledger/src/"), ("DurableIntent::after_sync(", "ledger/src/")]
    {
        let callers = callers(call);
        assert!(
            !callers.is_empty() && callers.iter().all(|path| path.starts_with(folder)),
            "{call} in {callers:?}"
        );
    }
    assert_eq!(callers("DurableIntent::skipped_for_software("), ["proxy/src/signing.rs"]);
    // A head is confirmed by the second opinion alone, and the ledger key signs it for checkpoints and COSE receipts.
    assert_eq!(callers(".confirmed_by("), ["ledger/src/second_opinion.rs"]);
    assert_eq!(callers(".sign_cose_head("), ["proxy/src/cose.rs"]);
}

#[test]
fn the_clock_and_randomness_are_born_in_few_places() {
    for call in ["SystemTime::now()"] {
        for path in callers(call) {
            let allowed =
                ["clock.rs", "daemon.rs", "proxy/src/init/dev/certificates.rs", "telemetry.rs", "main.rs"];
            assert!(
                allowed.iter().any(|name| path.ends_with(name)) || path.starts_with("proxy/client/"),
                "{call} in {path}"
            );
        }
    }
}

#[test]
fn nothing_is_left_for_later_without_saying_why() {
    for (path, text) in sources() {
        for word in ["TODO", "FIXME", "XXX", "unimplemented!", "todo!(", "#[ignore"] {
            assert!(!text.contains(word), "{word} in {path}");
        }
    }
}

#[test]
fn the_layout_tells_the_story() {
    let allowed = [
        "proxy",
        "ledger",
        "verifier",
        "hsm",
        "deploy",
        "runbooks",
        "tests",
        ".ci",
        "Cargo.toml",
        "Cargo.lock",
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "SECURITY.md",
        "LICENSE",
        "Makefile",
        ".gitignore",
        ".gitattributes",
        "rustfmt.toml",
        "clippy.toml",
        "deny.toml",
    ];
    for path in tracked() {
        let top = path.split('/').next().unwrap();
        assert!(allowed.contains(&top), "{path} is not a place in this house");
    }
}

#[test]
fn links_in_documents_lead_somewhere() {
    for path in tracked().into_iter().filter(|path| path.ends_with(".md")) {
        let text = std::fs::read_to_string(root().join(&path)).unwrap();
        let here = root().join(&path).parent().unwrap().to_path_buf();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap();
            if !target.is_empty() && !target.contains("://") && !target.contains(' ') {
                assert!(here.join(target).exists(), "{path} links to {target}");
            }
        }
    }
}
