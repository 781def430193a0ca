//! Clients that exist already, unmodified: every one of them gets its signatures, and every refusal in its own words.
//!
//! Each signature is verified here, by the public key the client was given, and stands on the ledger under its dialect.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

mod agent;
mod bodies;
mod fuzz;
mod kms;
mod tokens;
mod vault;

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chancery_format::{Digest, HashAlgorithm, PublicKey, SignatureAlgorithm};
use chancery_tests::rig::wire::{Ask, Reply, call};
use chancery_tests::rig::{Daemon, World, WorldOptions};
use serde_json::Value;

/// Everything is granted, and `ed` is meant where no key is named.
const ALL: &str = "dialects = [\"native\", \"kernel\", \"payload\", \"digest\", \"marketplace\", \"platform\", \
                   \"control-panel\", \"aws-kms\", \"vault-transit\"]\ndefault_kid = \"ed\"";
/// Keys that sign, of a world.
const SIGNING: [&str; 7] = ["ed", "p256", "rsa", "pss", "p384", "k1", "pq"];

fn started(grants: &'static str) -> (World, Daemon) {
    let world = World::new(&WorldOptions { grants, ..WorldOptions::default() });
    let daemon = Daemon::start(&world);
    (world, daemon)
}

fn ask(world: &World, ask: &Ask<'_>) -> Reply {
    call(world, Some(&world.orders), ask).unwrap()
}

fn post(world: &World, path: &str, body: &str) -> Reply {
    ask(world, &Ask::post(path, body))
}

/// The leaf at an index.
fn leaf(world: &World, index: u64) -> Value {
    let receipt = ask(world, &Ask::get(&format!("/v1/receipts/{index}")));
    assert_eq!(receipt.status, 200, "{}", receipt.body);
    receipt.json()["event"].clone()
}

fn decode(text: &Value) -> Vec<u8> {
    STANDARD.decode(text.as_str().unwrap()).unwrap()
}

/// A key of the world, as the registry publishes it.
fn key(world: &World, kid: &str) -> PublicKey {
    let registry = world.registry();
    let of_kid = |signer: &&chancery_format::registry::SignerRecord| {
        signer.kid.as_ref().is_some_and(|known| known.as_str() == kid)
    };
    registry.signers.iter().find(of_kid).unwrap().public_key().unwrap().unwrap()
}

fn sha256(bytes: &[u8]) -> Digest {
    Digest::of(HashAlgorithm::Sha256, bytes)
}

/// Runs a client to its end; its lines, each a JSON object.
fn lines(command: &mut Command) -> Vec<Value> {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {text}\n{}", String::from_utf8_lossy(&output.stderr));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Verifies what an AWS client says it was given; how many signatures there were.
fn verify_kms(world: &World, lines: &[Value]) -> usize {
    let signed: Vec<&Value> = lines.iter().filter(|line| line["signature"].is_string()).collect();
    for line in &signed {
        let kid = line["key"].as_str().unwrap();
        let known = key(world, kid);
        let spki = decode(&line["public"]);
        assert_eq!(spki, known.spki_der(), "{kid}");
        let (message, signature) = (decode(&line["message"]), decode(&line["signature"]));
        let holds = match (line["kind"].as_str().unwrap(), known.algorithm().digest()) {
            ("DIGEST", Some(HashAlgorithm::Sha384)) => {
                known.verify(&Digest::Sha384(message.try_into().unwrap()), &signature)
            }
            ("DIGEST", Some(_)) => known.verify(&Digest::Sha256(message.try_into().unwrap()), &signature),
            // Made outside, so as good as the message: the same signature is one over both.
            ("EXTERNAL_MU", _) => {
                known.verify(&Digest::Mu(message.try_into().unwrap()), &signature)
                    && known.verify_message(format!("a message for {kid}").as_bytes(), &signature)
            }
            _ => known.verify_message(&message, &signature),
        };
        assert!(holds, "{line}");
        let Some(index) = line["index"].as_u64() else { continue };
        let event = leaf(world, index);
        assert_eq!(event["payload"]["dialect"]["name"], "aws-kms", "{event}");
        assert_eq!(event["payload"]["signature"], line["signature"], "{event}");
        let over_mu = event["payload"]["digestAlgorithm"] == "ml-dsa-mu";
        assert_eq!(over_mu, line["kind"] == "EXTERNAL_MU", "{event}");
    }
    signed.len()
}

/// Whether a signature over a message needs the message to be checked.
fn hashes_nothing(algorithm: SignatureAlgorithm) -> bool {
    algorithm.takes_messages() && !algorithm.is_mac()
}
