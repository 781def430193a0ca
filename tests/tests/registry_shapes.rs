//! The registry in the shapes of existing verifiers: each is read again by ours, and by a program in the language of
//! those who read it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chancery_format::{RegistryShape, SignersRegistry};
use chancery_tests::rig::wire::{Ask, call};
use chancery_tests::rig::{Daemon, World, WorldOptions, binary};
use chancery_verify::events::signers::Signers;
use serde_json::Value;

const READERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/readers");

/// Algorithms of the keys that each shape's readers know.
fn known(shape: RegistryShape) -> &'static [&'static str] {
    match shape {
        RegistryShape::Signers | RegistryShape::SignerIds => {
            &["ed25519", "rsa-sha256", "rsa-pss-sha256", "ecdsa-p256-sha256"]
        }
        RegistryShape::PemMap | RegistryShape::Pem => &["ed25519", "rsa-sha256", "ecdsa-p256-sha256"],
        RegistryShape::KernelKeys => &["ed25519", "rsa-sha256"],
        RegistryShape::RawIds | RegistryShape::SpkiMap | RegistryShape::SecurityStatus => &["ed25519"],
        RegistryShape::Policy => &[],
    }
}

/// Those that hold keys of signers.
fn shapes() -> impl Iterator<Item = RegistryShape> {
    RegistryShape::ALL.into_iter().filter(|shape| !shape.is_policy())
}

/// Name and SPKI of what a shape must have; a PEM file has positions for names.
fn expected(registry: &SignersRegistry, shape: RegistryShape) -> BTreeMap<String, String> {
    let kept = registry.signers.iter().filter(|it| known(shape).contains(&it.algorithm.as_str()));
    let named = kept.enumerate().map(|(at, record)| {
        let key = record.public_key().unwrap().unwrap();
        let name = if shape.is_pem() { format!("#{at}") } else { record.signer_kid.to_string() };
        (name, STANDARD.encode(key.spki_der()))
    });
    named.collect()
}

fn export(world: &World, arguments: &[&str]) -> Output {
    let mut chancery = Command::new(binary("chancery"));
    chancery.args(["signers", "export"]).args(arguments).current_dir(world.folder()).env_clear();
    chancery.output().unwrap()
}

/// What a program in the readers' own language makes of it.
fn read_elsewhere(shape: RegistryShape, file: &Path) -> BTreeMap<String, String> {
    let mut program = match shape {
        RegistryShape::RawIds | RegistryShape::SecurityStatus | RegistryShape::Pem => {
            let mut go = Command::new("go");
            go.arg("run").arg(Path::new(READERS).join("go/registry.go")).env("GOTOOLCHAIN", "local");
            go.env("GOFLAGS", "-buildvcs=false").env("CGO_ENABLED", "0");
            go
        }
        _ => {
            let mut node = Command::new("node");
            node.arg(Path::new(READERS).join("registry.mjs"));
            node
        }
    };
    let output = program.arg(shape.as_str()).arg(file).output().unwrap();
    assert!(output.status.success(), "{shape}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .collect()
}

#[test]
fn every_shape_is_read_by_ours_and_by_those_it_is_for() {
    let world = World::new(&WorldOptions::default());
    let registry = world.registry();
    for shape in shapes() {
        let wanted = expected(&registry, shape);
        assert!(!wanted.is_empty());
        let file = world.path(&format!("{shape}.export"));
        let arguments = ["--format", shape.as_str(), "--signers", "signers.json", "-o"];
        let done = export(&world, &[&arguments[..], &[file.to_str().unwrap(), "--json"]].concat());
        assert!(done.status.success(), "{shape}: {}", String::from_utf8_lossy(&done.stdout));
        let told: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(told["signers"], wanted.len(), "{told:#}");
        let left_out = told["leftOut"].as_array().unwrap().len();
        assert_eq!(left_out + wanted.len(), registry.signers.len(), "each key is there or told: {told:#}");

        let ours = Signers::parse(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let ours = ours.all().iter().map(|signer| {
            let key = signer.key.as_ref().unwrap();
            let record = registry.signer(&signer.name);
            if let (Some(record), RegistryShape::Signers | RegistryShape::SignerIds) = (record, shape) {
                assert_eq!(key.algorithm(), record.algorithm, "{shape}: {}", signer.name);
                assert_eq!(signer.from, Some(record.deployed_at), "{shape}: {}", signer.name);
            }
            (signer.name.clone(), STANDARD.encode(key.spki_der()))
        });
        assert_eq!(ours.collect::<BTreeMap<_, _>>(), wanted, "{shape}: ours");
        assert_eq!(read_elsewhere(shape, &file), wanted, "{shape}: theirs");
    }
    let wrong = export(&world, &["--format", "toml", "--signers", "signers.json"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert_eq!(export(&world, &["--format", "pem", "--signers", "nowhere.json"]).status.code(), Some(3));
}

/// No older shape can say that a key is compromised, so it does not have it; a retired key's time it says.
#[test]
fn a_compromised_key_is_in_no_older_shape_and_a_retired_one_has_its_time() {
    let world = World::new(&WorldOptions::default());
    let mut json: Value =
        serde_json::from_slice(&std::fs::read(world.path("signers.json")).unwrap()).unwrap();
    for signer in json["signers"].as_array_mut().unwrap() {
        match signer["kid"].as_str() {
            Some("ed") => {
                signer["state"] = "compromised".into();
                signer["compromisedSince"] = 3.into();
            }
            Some("rsa") => {
                signer["state"] = "retired".into();
                signer["retiredAt"] = "2026-03-01T00:00:00.000Z".into();
                signer["retiredIndex"] = 9.into();
            }
            _ => {}
        }
    }
    let registry = SignersRegistry::parse(json.to_string().as_bytes()).unwrap();
    for shape in shapes() {
        let exported = registry.export(shape).unwrap();
        let text = String::from_utf8(exported.bytes).unwrap();
        let compromised =
            registry.signers.iter().find(|it| it.kid.as_ref().unwrap().as_str() == "ed").unwrap();
        assert!(!text.contains(compromised.signer_kid.as_str()), "{shape}");
        assert!(exported.left_out.iter().any(|it| it.signer_kid == compromised.signer_kid), "{shape}");
        let retired = Signers::parse(&text).unwrap();
        let retired = retired.all().iter().find(|it| it.name.starts_with("rsa-"));
        let has_time = matches!(shape, RegistryShape::Signers | RegistryShape::SignerIds);
        assert_eq!(retired.is_some_and(|it| it.until.is_some()), has_time, "{shape}");
    }
}

#[test]
fn the_daemon_serves_the_same_shapes() {
    let world = World::new(&WorldOptions::default());
    let _daemon = Daemon::start(&world);
    let registry = world.registry();
    for shape in RegistryShape::ALL {
        let path = format!("/v1/signers.json?format={shape}");
        let reply = call(&world, Some(&world.orders), &Ask::get(&path)).unwrap();
        assert_eq!(reply.status, 200, "{shape}: {}", reply.body);
        assert_eq!(reply.body.as_bytes(), registry.export(shape).unwrap().bytes, "{shape}");
        let kind = reply.header("content-type").unwrap();
        assert_eq!(kind.contains("pem"), shape.is_pem(), "{kind}");
        assert_eq!(kind.starts_with("text/plain"), shape.is_policy(), "{kind}");
    }
    let wrong = call(&world, Some(&world.orders), &Ask::get("/v1/signers.json?format=toml")).unwrap();
    assert_eq!((wrong.status, wrong.code().as_str()), (400, "invalid-field"), "{}", wrong.body);
    // Fetched, and on standard output.
    let mut chancery = Command::new(binary("chancery"));
    chancery.args(["signers", "export", "--format", "spki-map"]).env("CHANCERY_URL", world.url());
    chancery.env("CHANCERY_CA", world.path("ca.crt")).env("CHANCERY_CERT", &world.orders.certificate);
    let output = chancery.env("CHANCERY_KEY", &world.orders.key).output().unwrap();
    assert_eq!(output.stdout, registry.export(RegistryShape::SpkiMap).unwrap().bytes);
    assert!(String::from_utf8_lossy(&output.stderr).contains("left out: "));
}

/// The ledger's own policy is a file that any reader of C2SP tlog-policy takes.
#[test]
fn the_policy_is_the_ledger_s_own() {
    let world = World::new(&WorldOptions::default());
    let logs: String = world.registry().ledger.vkeys.iter().map(|vkey| format!("log {vkey}\n")).collect();
    let file = world.path("ledger.policy");
    let arguments = ["--format", "policy", "--signers", "signers.json", "-o", file.to_str().unwrap()];
    let done = export(&world, &arguments);
    assert!(done.status.success());
    assert!(String::from_utf8_lossy(&done.stdout).starts_with("the ledger's policy, kept in "));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), logs + "quorum none\n");
    assert_eq!(Some(std::fs::read_to_string(&file).unwrap()), world.registry().ledger.policy);
}
