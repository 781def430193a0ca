//! Every reader of the format, fed mutated good input: none may panic, and what is accepted must be in the
//! one spelling it claims.
//!
//! Seeded and bounded, so that it runs everywhere: `CHANCERY_FUZZ_ROUNDS` (20,000 per reader),
//! `CHANCERY_FUZZ_SEED`. A failure prints the seed and leaves the input in the panic's message. Of JSON every second
//! input is mutated inside one member, so that mutations get past the JSON's own reader.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

#[path = "fuzz/proofs.rs"]
mod proofs;
#[path = "fuzz/samples.rs"]
mod samples;

use chancery_client::checksums;
use chancery_client::sidecar::Sidecar;
use chancery_format::archive::ObjectName;
use chancery_format::canonical::{CanonicalJson, ObjectWriter};
use chancery_format::event::{EventDraft, Placement};
use chancery_format::note::{Note, NoteVerifier};
use chancery_format::tile::{TilePath, decode_bundle, encode_bundle};
use chancery_format::{AuditEvent, Checkpoint, PublicKey, Receipt, SignatureAlgorithm, SignersRegistry};
use serde_json::Value;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % below.max(1) as u64).unwrap()
    }

    /// Flips, removes, repeats and inserts, one to four times.
    fn mutate(&mut self, good: &[u8]) -> Vec<u8> {
        const SPICE: &[&[u8]] = &[
            b"\"",
            b"\\u0000",
            b"\\ud800",
            b"{",
            b"[[[[",
            b"-0",
            b"1e999",
            b"\xff\xfe",
            b"\n\n",
            b"\r\n",
            b"x",
        ];
        let mut bytes = good.to_vec();
        for _ in 0..=self.roll(4) {
            let at = self.roll(bytes.len());
            match self.roll(5) {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << self.roll(8),
                1 if !bytes.is_empty() => drop(bytes.remove(at)),
                2 => bytes.truncate(at),
                3 => {
                    let tail = bytes[at..].to_vec();
                    bytes.extend_from_slice(&tail[..tail.len().min(64)]);
                }
                _ => drop(bytes.splice(at..at, SPICE[self.roll(SPICE.len())].iter().copied())),
            }
        }
        bytes
    }

    /// One member of a JSON document, mutated; `None` of what is no JSON, or has no members.
    fn mutate_member(&mut self, good: &[u8]) -> Option<Vec<u8>> {
        let mut document: Value = serde_json::from_slice(good).ok()?;
        let mut pointers = Vec::new();
        walk(&document, "", &mut pointers);
        let member = document.pointer_mut(pointers.get(self.roll(pointers.len()))?)?;
        *member = match &*member {
            // Half of the time a text stays a text of its kind: as long, of the same letters.
            Value::String(letters) if self.roll(2) == 0 && !letters.is_empty() => {
                let mut letters = letters.clone().into_bytes();
                let (from, to) = (self.roll(letters.len()), self.roll(letters.len()));
                letters.swap(from, to);
                text(&letters).into()
            }
            Value::String(letters) => text(&self.mutate(letters.as_bytes())).into(),
            Value::Number(_) => [0, 1, 2, 3, 6, 7, 1 << 53, u64::MAX][self.roll(8)].into(),
            Value::Array(items) if !items.is_empty() => {
                let mut items = items.clone();
                let item = items.remove(self.roll(items.len()));
                if self.roll(2) == 0 {
                    items.extend([item.clone(), item]);
                }
                items.into()
            }
            _ => Value::Null,
        };
        Some(document.to_string().into_bytes())
    }

    /// The next input.
    fn next(&mut self, good: &[u8]) -> Vec<u8> {
        let within = if self.roll(2) == 0 { self.mutate_member(good) } else { None };
        within.unwrap_or_else(|| self.mutate(good))
    }
}

/// The place of every member and item.
fn walk(value: &Value, at: &str, pointers: &mut Vec<String>) {
    let members: Vec<(String, &Value)> = match value {
        Value::Object(members) => members.iter().map(|(name, member)| (name.clone(), member)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(at, item)| (at.to_string(), item)).collect(),
        _ => return,
    };
    for (name, member) in members {
        let pointer = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
        walk(member, &pointer, pointers);
        pointers.push(pointer);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn leaf() -> Vec<u8> {
    let payload = ObjectWriter::new().string("a", "é\"\n").integer("b", 7).finish();
    let draft = EventDraft {
        event_type: "order.paid".parse().unwrap(),
        actor: "spiffe://demo.example/a".parse().unwrap(),
        stream: "orders".parse().unwrap(),
        metadata: Some(payload.clone()),
        payload,
        id: None,
        ts: None,
        manifest_signature_id: None,
    };
    let (id, kid) = ("e-1".parse().unwrap(), "ledger-v1".parse().unwrap());
    let ts = "2026-11-21T03:46:35.120Z".parse().unwrap();
    draft
        .place(&Placement { id: &id, seq: 0, prev_hash: None, signer_kid: &kid, ts, chain: None })
        .unwrap()
        .into_bytes()
}

const NOTE: &str = "ledger.example/sign-log/1\n3\nsgbG5Jjy2NPw+6xDsP5UZIjKceiOnsIxHH2iJbNfFYo=\n\n\u{2014} ledger.example/sign-log/1 Bg9pyNM8D6g+01uj1dWDqKcmgncbev8Pob5TQq/B2Gl7gEj9lvnyZsKi4tey7sUS90e8zrYSzXcYeP7AnlQblfW+wwI=\n";
const VKEY: &str = "ledger.example/sign-log/1+060f69c8+ASFS+NGbeR0kRTJC4V8uq2y3z/p7al7TAJeWDgaYgdsS";

const SIDECAR: &str = r#"{"version":1,"digestAlgorithm":"sha256","digest":"ab","kid":"k","signer_kid":"k-1",
"algorithm":"ed25519","signature":"AA==","ts":"2026-11-21T03:46:35.120Z","provenance":{"artifact":"a","bytes":1,
"commit":"c","dirty":true},"receipt":{"version":1}}"#;

/// One reader: its name, good input, and what must hold of whatever it is given.
type Reader = (&'static str, Vec<u8>, Box<dyn Fn(&[u8])>);

fn readers() -> Vec<Reader> {
    let leaf = leaf();
    let bundle = encode_bundle([leaf.as_slice(), b"", &leaf]).unwrap();
    let receipt = format!(
        "{{\"version\":1,\"event\":{},\"index\":0,\"treeSize\":1,\"inclusionProof\":[],\"checkpoint\":{},\"rung\":\"durable\"}}",
        String::from_utf8(leaf.clone()).unwrap(),
        serde_json::to_string(NOTE).unwrap()
    );
    let registry = format!(
        "{{\"version\":1,\"ledger\":{{\"origin\":\"ledger.example/sign-log/1\",\"vkeys\":[\"{VKEY}\"]}},\"signers\":[]}}"
    );
    let pem = PublicKey::from_ed25519_raw(&NoteVerifier::parse(VKEY).unwrap().public_key()).unwrap().to_pem();
    vec![
        (
            "canonical JSON",
            leaf.clone(),
            Box::new(|bytes| {
                if let Ok(value) = CanonicalJson::parse(bytes) {
                    assert_eq!(CanonicalJson::parse(value.as_bytes()).unwrap(), value);
                }
            }),
        ),
        (
            "leaf",
            leaf.clone(),
            Box::new(move |bytes| {
                if AuditEvent::parse(bytes).is_ok() {
                    assert_eq!(CanonicalJson::parse(bytes).unwrap().as_bytes(), bytes);
                }
            }),
        ),
        (
            "note",
            NOTE.into(),
            Box::new(move |bytes| {
                let keys = [NoteVerifier::parse(VKEY).unwrap()];
                let note = text(bytes);
                let verdict = Note::parse(&note)
                    .and_then(|parsed| parsed.verify(&keys).map(|_| parsed.text.to_owned()));
                if let Ok(signed) = verdict {
                    assert!(NOTE.starts_with(&signed), "another text was accepted: {signed:?}");
                }
                let origin = "ledger.example/sign-log/1".parse().unwrap();
                if let Ok(checkpoint) = Checkpoint::verify(&note, &origin, &keys) {
                    assert_eq!(checkpoint.head().size.0, 3);
                }
            }),
        ),
        (
            "verifier key",
            VKEY.into(),
            Box::new(move |bytes| {
                if let Ok(key) = NoteVerifier::parse(&text(bytes)) {
                    assert_eq!(key.vkey(), text(bytes));
                }
            }),
        ),
        (
            "public key",
            pem.into(),
            Box::new(move |bytes| {
                for algorithm in SignatureAlgorithm::ALL {
                    drop(PublicKey::from_pem(algorithm, &text(bytes)));
                }
            }),
        ),
        ("receipt", receipt.into(), Box::new(|bytes| drop(Receipt::parse(bytes)))),
        ("registry", registry.into(), Box::new(|bytes| drop(SignersRegistry::parse(bytes)))),
        (
            "bundle",
            bundle,
            Box::new(|bytes| {
                let entries: Result<Vec<_>, _> = decode_bundle(bytes).collect();
                if let Ok(entries) = entries {
                    assert_eq!(encode_bundle(entries).unwrap(), bytes);
                }
            }),
        ),
        (
            "sidecar",
            SIDECAR.into(),
            Box::new(|bytes| {
                if let Ok(sidecar) = Sidecar::parse(bytes) {
                    let json = sidecar.to_json().unwrap();
                    assert_eq!(Sidecar::parse(&json).unwrap().to_json().unwrap(), json);
                }
            }),
        ),
        (
            "checksums",
            format!("{0}  a\n\\{0} *b\\nc\nSHA256 (d) = {0}\n", "ab".repeat(32)).into(),
            Box::new(move |bytes| {
                if let Ok(listed) = checksums::parse(&text(bytes)) {
                    assert!(
                        listed.iter().all(|file| !file.name.is_empty() && file.digest.as_bytes().len() == 32)
                    );
                }
            }),
        ),
        (
            "object name",
            b"tile/entries/x001/234.p/17".to_vec(),
            Box::new(move |bytes| {
                if let Some(name) = ObjectName::parse(&text(bytes)) {
                    assert_eq!(name.to_string(), text(bytes));
                }
                if let Some(path) = TilePath::parse(&text(bytes)) {
                    assert_eq!(path.to_string(), text(bytes));
                }
            }),
        ),
    ]
}

#[test]
fn no_reader_panics_and_what_is_accepted_has_one_spelling() {
    let rounds = number("CHANCERY_FUZZ_ROUNDS", 20_000);
    let seed = number("CHANCERY_FUZZ_SEED", u64::from(std::process::id()));
    println!("CHANCERY_FUZZ_ROUNDS={rounds} CHANCERY_FUZZ_SEED={seed}");
    let all = [readers(), proofs::proofs(), proofs::witnessing(), proofs::parts()];
    for (name, good, check) in all.into_iter().flatten() {
        check(&good);
        let mut dice = Dice(seed);
        for _ in 0..rounds {
            check(&dice.next(&good));
        }
        println!("{name}: {rounds} inputs");
    }
}
