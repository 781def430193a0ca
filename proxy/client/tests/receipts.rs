//! A receipt proves the reply it came with, and no other. Made here as a ledger of three entries would.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed step is a failed test")]

use base64::Engine as _;
use chancery_client::{ReceiptMismatch, SignReply, check_issued, check_receipt};
use chancery_format::entry::{IntentParts, Operation, PolicyRef, SignatureBytes};
use chancery_format::event::Placement;
use chancery_format::merkle::Frontier;
use chancery_format::note::{NoteVerifier, assemble};
use chancery_format::registry::{KeyState, LedgerSection, SignerRecord};
use chancery_format::{
    Checkpoint, Digest, EventId, Hash, Intent, LeafIndex, Outcome, PublicKey, Receipt, Rung,
    SignatureAlgorithm, SignersRegistry, Timestamp,
};
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::json;

const ORIGIN: &str = "log.example/client-test";

struct World {
    registry: SignersRegistry,
    reply: SignReply,
    receipt: Vec<u8>,
}

/// The id that the entry at index 1 has, having none of its own.
fn own_id() -> EventId {
    let [a, b, c, d, e, f, ..] = Hash::of(&[ORIGIN.as_bytes()]).0;
    EventId::from_index([a, b, c, d, e, f], LeafIndex(1))
}

/// One signature at index 1, between two other entries.
fn world() -> World {
    let (ledger_key, signing_key) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
    let digest = Digest::Sha256([0xab; 32]);
    let signature = signing_key.sign(digest.as_bytes()).to_bytes();
    let intent = Intent::new(IntentParts {
        co_signer: None,
        kid: "orders".parse().unwrap(),
        signer_kid: "orders-v1".parse().unwrap(),
        algorithm: SignatureAlgorithm::Ed25519,
        asked: None,
        operation: Operation::Sign,
        digest,
        principal: "spiffe://demo.example/orders".parse().unwrap(),
        request_id: "request-1".parse().unwrap(),
        stream: "spiffe://demo.example/orders".parse().unwrap(),
        purpose: None,
        metadata: None,
        policy: PolicyRef { rule: "grant".into(), sha256: Hash([3; 32]) },
        release: Rung::Durable,
        replay: None,
    });
    let id = own_id();
    let ledger_kid = "ledger-v1".parse().unwrap();
    let place = Placement {
        id: &id,
        seq: 0,
        prev_hash: None,
        signer_kid: &ledger_kid,
        ts: Timestamp::from_unix_ms(0).unwrap(),
        chain: None,
    };
    let leaf =
        Outcome::signed(intent, SignatureBytes::new(signature.to_vec()), None).draft().place(&place).unwrap();

    let batch = Frontier::new().extend(&[Hash([7; 32]), leaf.leaf_hash(), Hash([8; 32])]);
    let verifier = NoteVerifier::new(ORIGIN, ledger_key.verifying_key().as_bytes()).unwrap();
    let text = Checkpoint::new(ORIGIN.parse().unwrap(), batch.head()).text();
    let note = assemble(&text, &verifier, &ledger_key.sign(text.as_bytes()).to_bytes()).unwrap();
    let vkeys = vec![verifier.vkey()];
    let checkpoint = Checkpoint::verify(&note, &ORIGIN.parse().unwrap(), &[verifier]).unwrap();
    let proof = batch.proof(LeafIndex(1)).unwrap();
    let receipt = Receipt::new(leaf.into_bytes(), LeafIndex(1), proof, &checkpoint, Rung::Checkpointed);

    let signer = SignerRecord {
        signer_kid: "orders-v1".parse().unwrap(),
        kid: Some("orders".parse().unwrap()),
        algorithm: SignatureAlgorithm::Ed25519,
        public_key_pem: Some(
            PublicKey::from_ed25519_raw(signing_key.verifying_key().as_bytes()).unwrap().to_pem(),
        ),
        purpose: "orders".into(),
        state: KeyState::Active,
        deployed_at: Timestamp::from_unix_ms(0).unwrap(),
        retired_at: None,
        activated_index: Some(0),
        retired_index: None,
        compromised_since: None,
        description: String::new(),
    };
    let ledger = LedgerSection { origin: ORIGIN.parse().unwrap(), vkeys, policy: None };
    let reply = json!({
        "id": own_id(), "kid": "orders", "signer_kid": "orders-v1", "algorithm": "ed25519", "digest": digest.to_hex(),
        "signature": base64::engine::general_purpose::STANDARD.encode(signature), "ts": "1970-01-01T00:00:00.000Z",
        "rung": "durable", "receipt": {"version": 1, "index": 1, "rung": "durable", "url": "/v1/receipts/1"},
    });
    World {
        registry: SignersRegistry::new(ledger, vec![signer]).unwrap(),
        reply: serde_json::from_value(reply).unwrap(),
        receipt: receipt.to_json().unwrap().into_bytes(),
    }
}

#[test]
fn a_receipt_proves_its_reply() {
    let World { registry, reply, receipt } = world();
    let checked = check_issued(&reply, &receipt, &registry).unwrap();
    assert_eq!(checked, check_receipt(&receipt, &registry).unwrap());
    assert_eq!((checked.index, checked.tree_size, checked.origin.as_str()), (LeafIndex(1), 3, ORIGIN));
    assert_eq!(
        (checked.signers.as_slice(), checked.id.as_str()),
        (&["orders-v1".to_owned()][..], own_id().as_str())
    );
}

#[test]
fn a_good_receipt_of_another_signature_is_told_apart() {
    let World { registry, reply, receipt } = world();
    type Change = fn(&mut SignReply);
    let changes: [(&str, Change); 6] = [
        ("id", |reply| reply.id = "event-2".parse().unwrap()),
        ("kid", |reply| reply.kid = "invoices".parse().unwrap()),
        ("signer_kid", |reply| reply.signer_kid = "orders-v2".parse().unwrap()),
        ("algorithm", |reply| reply.algorithm = "rsa-sha256".into()),
        ("digest", |reply| reply.digest = "00".repeat(32)),
        ("signature", |reply| reply.signature = "AAAA".into()),
    ];
    for (member, change) in changes {
        let mut other = reply.clone();
        change(&mut other);
        let error = check_issued(&other, &receipt, &registry).unwrap_err();
        assert!(matches!(error, ReceiptMismatch::Other(named) if named == member), "{member}: {error}");
    }
}

#[test]
fn no_receipt_with_a_flipped_bit_is_taken() {
    let World { registry, reply, receipt } = world();
    for at in 0..receipt.len() {
        for bit in 0..8 {
            let mut altered = receipt.clone();
            altered[at] ^= 1 << bit;
            if let Ok(checked) = check_issued(&reply, &altered, &registry) {
                panic!("byte {at} bit {bit} passed: {checked:?}");
            }
        }
    }
}
