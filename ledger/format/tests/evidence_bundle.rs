//! `.evidence` files: made and read back as they were, refused by name when anything in them is altered, and renewed by
//! witnesses of another algorithm after the issuer is gone.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed unwrap or index is the test's failure"
)]

use chancery_format::algorithm::SignatureAlgorithm;
use chancery_format::archive::ObjectName;
use chancery_format::cose::{CoseAlgorithm, CoseProof, CoseReceipt, CoseStatement};
use chancery_format::cosignature::{CosignedAt, CosignerKey};
use chancery_format::entry::{ledger_opened, registry_published};
use chancery_format::event::Placement;
use chancery_format::evidence::{
    ArchivedObject, ArchivedObjects, BundledPolicy, Evidence, EvidenceError, OBJECTS_MAX, RENEWALS_MAX,
    RegistrySlice, Renewal, RenewalProofs, known_lines,
};
use chancery_format::merkle::{
    Frontier, NodeSource, ProofError, consistency_proof, inclusion_proof, leaf_hash,
};
use chancery_format::note::{NoteVerifier, assemble};
use chancery_format::registry::{KeyState, LedgerSection, SignerRecord};
use chancery_format::tile::perfect_root;
use chancery_format::{
    Checkpoint, EventDraft, EventId, Hash, LeafIndex, Origin, PublicKey, Receipt, Rung, SignersRegistry,
    Timestamp, TreeHead, TreeSize, VerifiedCheckpoint,
};
use ed25519_dalek::{Signer as _, SigningKey};
use ml_dsa::{ExpandedSigningKey, MlDsa44};
use proptest::prelude::*;
use serde_json::{Value, json};

const ORIGIN: &str = "log.example/chancery";

fn origin() -> Origin {
    ORIGIN.parse().unwrap()
}

/// A ledger in memory: leaf 0 opens it, leaf 1 publishes its registry, the others are alike.
struct Log {
    key: SigningKey,
    leaves: Vec<Vec<u8>>,
    previous: Option<Hash>,
}

struct Nodes(Vec<Hash>);

impl NodeSource for Nodes {
    type Error = ProofError;
    fn node(&self, level: u8, index: u64) -> Result<Hash, ProofError> {
        let (width, from) = (1usize << level, (index as usize) << level);
        perfect_root(&self.0[from..from + width]).ok_or(ProofError::OutOfRange)
    }
}

impl Log {
    fn new(seed: u8) -> Self {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let mut log = Self { key, leaves: Vec::new(), previous: None };
        log.add(&ledger_opened(&origin()));
        log.publish(1);
        log
    }

    fn add(&mut self, draft: &EventDraft) -> u64 {
        let index = self.leaves.len() as u64;
        let [a, b, c, d, e, f, ..] = Hash::of(&[ORIGIN.as_bytes()]).0;
        let place = Placement {
            id: &EventId::from_index([a, b, c, d, e, f], LeafIndex(index)),
            seq: index,
            prev_hash: self.previous,
            signer_kid: &"ledger-v1".parse().unwrap(),
            ts: Timestamp::from_unix_ms(1_795_000_000_000 + index as i64).unwrap(),
            chain: None,
        };
        let leaf = draft.place(&place).unwrap();
        self.previous = Some(leaf.event_hash());
        self.leaves.push(leaf.into_bytes());
        index
    }

    fn publish(&mut self, version: u64) -> u64 {
        let sha256 = Hash::of(&[self.file(version).as_bytes()]);
        self.add(&registry_published(version, &sha256))
    }

    fn grow(&mut self, to: u64) {
        while (self.leaves.len() as u64) < to {
            self.publish(1);
        }
    }

    fn vkey(&self) -> NoteVerifier {
        NoteVerifier::new(ORIGIN, self.key.verifying_key().as_bytes()).unwrap()
    }

    /// `signers.json`; a later version has one key more.
    fn registry(&self, version: u64) -> SignersRegistry {
        let public = PublicKey::from_ed25519_raw(self.key.verifying_key().as_bytes()).unwrap();
        let record = |name: &str, algorithm, pem: Option<String>| SignerRecord {
            signer_kid: name.parse().unwrap(),
            kid: None,
            algorithm,
            public_key_pem: pem,
            purpose: "test".into(),
            state: KeyState::Active,
            deployed_at: Timestamp::from_unix_ms(1_795_000_000_000).unwrap(),
            retired_at: None,
            activated_index: Some(0),
            retired_index: None,
            compromised_since: None,
            description: String::new(),
        };
        let mut signers = vec![record("ledger-v1", SignatureAlgorithm::Ed25519, Some(public.to_pem()))];
        if version > 1 {
            signers.push(record("hooks-v1", SignatureAlgorithm::HmacSha256, None));
        }
        let ledger = LedgerSection { origin: origin(), vkeys: vec![self.vkey().vkey()], policy: None };
        SignersRegistry::new(ledger, signers).unwrap()
    }

    fn file(&self, version: u64) -> String {
        String::from_utf8(self.registry(version).to_json().unwrap()).unwrap()
    }

    fn nodes(&self) -> Nodes {
        Nodes(self.leaves.iter().map(|leaf| leaf_hash(leaf)).collect())
    }

    fn head(&self, size: u64) -> TreeHead {
        let mut frontier = Frontier::new();
        self.leaves.iter().take(size as usize).for_each(|leaf| frontier.push(leaf_hash(leaf)));
        frontier.head()
    }

    fn path(&self, index: u64, size: u64) -> Vec<Hash> {
        inclusion_proof(&self.nodes(), LeafIndex(index), TreeSize(size)).unwrap()
    }

    fn note(&self, size: u64, witnesses: &[Witness]) -> String {
        let checkpoint = Checkpoint::new(origin(), self.head(size));
        let text = checkpoint.text();
        let note = assemble(&text, &self.vkey(), &self.key.sign(text.as_bytes()).to_bytes()).unwrap();
        witnesses.iter().fold(note, |note, witness| note + &witness.line(&checkpoint))
    }

    fn checkpoint(&self, size: u64, witnesses: &[Witness]) -> VerifiedCheckpoint {
        Checkpoint::verify(&self.note(size, witnesses), &origin(), &[self.vkey()]).unwrap()
    }

    fn slice(&self, version: u64, index: u64, size: u64) -> RegistrySlice {
        let leaf = self.leaves[index as usize].clone();
        RegistrySlice::new(self.file(version), leaf, LeafIndex(index), self.path(index, size)).unwrap()
    }

    fn bundle(&self, index: u64, size: u64, witnesses: &[Witness]) -> Evidence {
        let checkpoint = self.checkpoint(size, witnesses);
        let leaf = self.leaves[index as usize].clone();
        let receipt =
            Receipt::new(leaf, LeafIndex(index), self.path(index, size), &checkpoint, Rung::Archived);
        Evidence::new(&receipt, self.slice(1, 1, size), &checkpoint).unwrap()
    }

    fn renewal(&self, index: u64, old: u64, new: u64, witnesses: &[Witness]) -> Renewal {
        let proofs = RenewalProofs {
            entry: self.path(index, new),
            registry: self.path(1, new),
            consistency: consistency_proof(&self.nodes(), TreeSize(old), TreeSize(new)).unwrap(),
        };
        Renewal::new(self.note(new, witnesses), proofs).unwrap()
    }

    fn cose(&self, index: u64, size: u64) -> CoseReceipt {
        let statement = CoseStatement {
            algorithm: CoseAlgorithm::EdDsa,
            origin: origin(),
            size: TreeSize(size),
            proof: CoseProof::Inclusion { index: LeafIndex(index), path: self.path(index, size) },
        };
        let signature = self.key.sign(&statement.to_be_signed(&self.head(size).root)).to_bytes().to_vec();
        statement.signed(signature)
    }
}

/// Signs what it is shown, with Ed25519 or ML-DSA-44.
#[derive(Clone)]
struct Witness {
    name: &'static str,
    seed: [u8; 32],
    quantum: bool,
}

const CLASSICAL: Witness = Witness { name: "witness.example/classical", seed: [0x51; 32], quantum: false };
const QUANTUM: Witness = Witness { name: "witness.example/quantum", seed: [0x52; 32], quantum: true };

impl Witness {
    fn key(&self) -> CosignerKey {
        let public = if self.quantum {
            let raw = ExpandedSigningKey::<MlDsa44>::from_seed(&self.seed.into()).verifying_key().encode();
            PublicKey::from_ml_dsa_44_raw(&raw.as_slice().try_into().unwrap())
        } else {
            PublicKey::from_ed25519_raw(SigningKey::from_bytes(&self.seed).verifying_key().as_bytes())
        };
        CosignerKey::new(self.name, public.unwrap()).unwrap()
    }

    fn line(&self, checkpoint: &Checkpoint) -> String {
        let (key, at) = (self.key(), CosignedAt::new(1_795_000_000).unwrap());
        let message = key.message(checkpoint, at);
        let signature = if self.quantum {
            let secret = ExpandedSigningKey::<MlDsa44>::from_seed(&self.seed.into());
            secret.sign_deterministic(&message, &[]).unwrap().encode().to_vec()
        } else {
            SigningKey::from_bytes(&self.seed).sign(&message).to_bytes().to_vec()
        };
        key.line(at, &signature).unwrap()
    }
}

fn policy(log: &Log, witness: &Witness) -> BundledPolicy {
    let (log, key) = (log.vkey().vkey(), witness.key().vkey());
    BundledPolicy::parse(format!("log {log}\nwitness w {key}\nquorum w\n")).unwrap()
}

fn objects() -> ArchivedObjects {
    let object = |name: &str, version: &str| ArchivedObject {
        name: ObjectName::parse(name).unwrap(),
        version_id: version.into(),
    };
    let objects = vec![object("tile/entries/000", "v.2"), object("checkpoint/000000000001", "v_1")];
    ArchivedObjects::new("s3://bucket/prefix".into(), objects).unwrap()
}

/// A bundle with everything a bundle can have.
fn full() -> (Log, Evidence) {
    let mut log = Log::new(0x42);
    log.grow(9);
    let newer = log.publish(2);
    log.grow(14);
    let mut evidence = log.bundle(4, 7, &[CLASSICAL]);
    evidence =
        evidence.with_cose(log.cose(4, 6)).with_policy(policy(&log, &CLASSICAL)).with_archive(objects());
    evidence = evidence.with_renewal(log.renewal(4, 7, 12, &[CLASSICAL])).unwrap();
    let last = log.renewal(4, 12, 12, &[QUANTUM]);
    let last = last.with_registry(log.slice(2, newer, 12)).with_policy(policy(&log, &QUANTUM));
    (log, evidence.with_renewal(last).unwrap())
}

#[test]
fn a_full_bundle_is_read_back_as_it_was_and_holds() {
    let (log, evidence) = full();
    let json = evidence.to_json().unwrap();
    let read = Evidence::parse(json.as_bytes()).unwrap();
    assert_eq!((&read, read.to_json().unwrap()), (&evidence, json.clone()));
    for registry in [log.registry(1), log.registry(2)] {
        let verified = read.verify(&registry, None).unwrap();
        assert_eq!(verified.entry.index, LeafIndex(4));
        assert_eq!(verified.registry.head(), log.head(7));
        assert_eq!(
            verified.renewals.iter().map(VerifiedCheckpoint::head).collect::<Vec<_>>(),
            [log.head(12); 2]
        );
    }
    assert_eq!(read.verify_cose(&log.registry(1)).unwrap(), Some(log.head(6)));
    assert_eq!((read.registry().version(), read.newest_registry().version()), (1, 2));
    assert_eq!(read.newest_policy().unwrap().text(), policy(&log, &QUANTUM).text());
    // What it is made of stands for itself.
    let file: Value = serde_json::from_str(&json).unwrap();
    let names: Vec<&String> = file.as_object().unwrap().keys().collect();
    assert_eq!(names, ["version", "event", "proof", "cose", "registry", "policy", "archive", "renewals"]);
    assert!(file["proof"].as_str().unwrap().starts_with("c2sp.org/tlog-proof@v1\nindex 4\n"));
    let pretty = serde_json::to_string_pretty(&file).unwrap();
    assert_eq!(Evidence::parse(pretty.as_bytes()).unwrap(), evidence);
}

/// Every text, number and list of the file, altered one at a time, is refused when read or when verified; but what the
/// format says nothing vouches for, and the name of a line, which then is nobody's.
#[test]
fn every_member_that_is_altered_is_refused() {
    let (log, evidence) = full();
    let registry = log.registry(2);
    let file: Value = serde_json::from_str(&evidence.to_json().unwrap()).unwrap();
    let mut pointers = Vec::new();
    walk(&file, "", &mut pointers);
    assert!(pointers.len() > 60, "{pointers:?}");
    for pointer in pointers {
        let claimed = pointer.starts_with("/archive/");
        for altered in alterations(&file, &pointer) {
            let json = altered.to_string();
            let refused = match Evidence::parse(json.as_bytes()) {
                Ok(read) => read.verify(&registry, None).is_err(),
                Err(_) => true,
            };
            let nobodys = is_nobodys(&evidence, &altered, &pointer);
            assert!(refused || claimed || nobodys, "{pointer}: {}", altered.pointer(&pointer).unwrap());
        }
        let mut without = file.clone();
        remove(&mut without, &pointer);
        let read = Evidence::parse(without.to_string().as_bytes());
        let optional = ["/cose", "/policy", "/archive", "/archive/objects/0", "/archive/objects/1"];
        let optional = optional.contains(&pointer.as_str())
            || pointer == "/renewals/1"
            || pointer.starts_with("/renewals/1/policy")
            || pointer == "/renewals/1/registry";
        assert!(
            optional || read.is_err() || read.unwrap().verify(&registry, None).is_err(),
            "without {pointer}"
        );
    }
}

/// Whether only the name or the key id of a cosignature was altered that no policy asks for there.
fn is_nobodys(evidence: &Evidence, altered: &Value, pointer: &str) -> bool {
    let note = match pointer {
        "/registry/proof" => evidence.registry_proof().note().to_owned(),
        "/renewals/0/checkpoint" => evidence.renewals()[0].note().to_owned(),
        _ => return false,
    };
    let text = altered.pointer(pointer).unwrap().as_str().unwrap();
    let head = note.split(CLASSICAL.name).next().unwrap();
    let named = text.contains(&format!(
        "\u{2014} {} {}",
        CLASSICAL.name,
        &note.split(CLASSICAL.name).nth(1).unwrap()[1..7]
    ));
    text.contains(head) && !named
}

fn walk(value: &Value, at: &str, pointers: &mut Vec<String>) {
    if !at.is_empty() {
        pointers.push(at.to_owned());
    }
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| walk(value, &format!("{at}/{name}"), pointers));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(n, item)| walk(item, &format!("{at}/{n}"), pointers));
        }
        _ => {}
    }
}

fn remove(file: &mut Value, pointer: &str) {
    let (above, name) = pointer.rsplit_once('/').unwrap();
    match file.pointer_mut(above).unwrap() {
        Value::Object(members) => drop(members.remove(name)),
        Value::Array(items) => drop(items.remove(name.parse().unwrap())),
        other => panic!("{other}"),
    }
}

/// The file with this member altered: a text in every place of some, a number by one, a list by one item.
fn alterations(file: &Value, pointer: &str) -> Vec<Value> {
    let put = |value: Value| {
        let mut altered = file.clone();
        *altered.pointer_mut(pointer).unwrap() = value;
        altered
    };
    match file.pointer(pointer).unwrap() {
        Value::String(text) => {
            let step = (text.len() / 40).max(1);
            let places = (0..text.len()).step_by(step).filter(|at| text.is_char_boundary(*at));
            let replaced = places.filter_map(|at| {
                let old = text[at..].chars().next()?;
                let new = if old == 'A' { 'B' } else { 'A' };
                Some(format!("{}{new}{}", &text[..at], &text[at + old.len_utf8()..]))
            });
            // Comments and addresses of a policy are nobody's statement; ours have none.
            replaced.chain([String::new(), format!("{text}x")]).map(|text| put(json!(text))).collect()
        }
        Value::Number(number) => vec![put(json!(number.as_u64().unwrap() + 1)), put(json!("1"))],
        Value::Array(items) if !items.is_empty() => {
            let twice = [items.as_slice(), &items[..1]].concat();
            vec![put(json!(twice)), put(Value::Null)]
        }
        Value::Object(members) => {
            let mut more = members.clone();
            more.insert("more".into(), json!(1));
            vec![put(Value::Object(more)), put(Value::Null)]
        }
        _ => vec![put(json!({}))],
    }
}

#[test]
fn what_has_a_second_spelling_is_refused() {
    let (_, evidence) = full();
    let good = evidence.to_json().unwrap();
    let shape = |json: &str| match Evidence::parse(json.as_bytes()) {
        Err(EvidenceError::Shape(reason)) => reason,
        Err(error) => error.to_string(),
        Ok(_) => panic!("was read: {json}"),
    };
    assert!(shape("{}").contains("missing field"));
    assert!(
        shape(&good.replace("{\"version\":1,\"event\"", "{\"version\":2,\"event\"")).contains("version 2")
    );
    assert!(
        shape(&good.replace("{\"version\":1,\"event\"", "{\"version\":1,\"x\":1,\"event\""))
            .contains("unknown field")
    );
    let without = good.replace("\"cose\":\"", "\"cosy\":\"");
    assert!(shape(&without).contains("unknown field"));
    let mut file: Value = serde_json::from_str(&good).unwrap();
    file["cose"] = Value::Null;
    assert_eq!(shape(&file.to_string()), "a member has a second spelling");
    let twice = format!("{},\"version\":1}}", good.trim_end_matches('}'));
    assert!(Evidence::parse(twice.as_bytes()).is_err());
    let large = format!("{good}{}", " ".repeat(16 * 1024 * 1024));
    assert!(matches!(Evidence::parse(large.as_bytes()), Err(EvidenceError::TooLarge("evidence"))));
    let mut file: Value = serde_json::from_str(&good).unwrap();
    let extra = file["proof"].as_str().unwrap().replace("@v1\n", "@v1\nextra eA==\n");
    file["proof"] = json!(extra);
    assert_eq!(shape(&file.to_string()), "a proof has extra bytes");
}

#[test]
fn what_is_another_s_is_refused_by_name() {
    let (log, _) = full();
    let registry = log.registry(1);
    let bundle = || log.bundle(4, 7, &[CLASSICAL]);
    let refused = |evidence: Evidence| {
        let read = Evidence::parse(evidence.to_json().unwrap().as_bytes()).unwrap();
        read.verify(&registry, None).unwrap_err()
    };
    assert!(matches!(refused(bundle().with_cose(log.cose(5, 7))), EvidenceError::Cose(_)));
    let quorum = refused(bundle().with_policy(policy(&log, &QUANTUM)));
    assert!(matches!(quorum, EvidenceError::Refused(_)), "{quorum}");
    // A renewal that goes back, that says nothing new, that is of another log.
    let renewal = |evidence: EvidenceError| match evidence {
        EvidenceError::Renewal { number: 1, cause } => cause,
        other => panic!("{other}"),
    };
    let back = Renewal::new(log.note(6, &[]), RenewalProofs::default()).unwrap();
    let back = renewal(refused(bundle().with_renewal(back).unwrap()));
    assert!(matches!(*back, EvidenceError::Consistency(ProofError::OutOfRange)), "{back}");
    let idle = log.renewal(4, 7, 7, &[CLASSICAL]);
    assert!(matches!(*renewal(refused(bundle().with_renewal(idle).unwrap())), EvidenceError::Idle));
    let mut other = Log::new(0x61);
    other.grow(12);
    let foreign = other.renewal(4, 7, 12, &[QUANTUM]);
    let foreign = renewal(refused(bundle().with_renewal(foreign).unwrap()));
    assert!(matches!(*foreign, EvidenceError::Checkpoint(_)), "{foreign}");
    // The same key over another history: only the proof of consistency tells.
    let mut fork = Log::new(0x42);
    fork.grow(6);
    fork.publish(2);
    fork.grow(12);
    let forked = fork.renewal(4, 7, 12, &[]);
    let forked = renewal(refused(bundle().with_renewal(forked).unwrap()));
    assert!(matches!(*forked, EvidenceError::Consistency(_)), "{forked}");
    // And of the registry's checkpoint, that there is another root of its size.
    let checkpoint = log.checkpoint(7, &[]);
    let receipt =
        Receipt::new(log.leaves[4].clone(), LeafIndex(4), log.path(4, 7), &checkpoint, Rung::Durable);
    let two = Evidence::new(&receipt, fork.slice(1, 1, 7), &fork.checkpoint(7, &[])).unwrap();
    assert!(matches!(refused(two), EvidenceError::Fork(TreeSize(7))));
    // A registry that its entry does not publish, and one that contradicts the trusted one.
    let unpublished = RegistrySlice::new(log.file(2), log.leaves[1].clone(), LeafIndex(1), Vec::new());
    assert!(matches!(unpublished, Err(EvidenceError::NotPublished)));
    let moved = RegistrySlice::new(log.file(1), log.leaves[1].clone(), LeafIndex(2), Vec::new());
    assert!(matches!(moved, Err(EvidenceError::Receipt(_))));
    let stranger = bundle().verify(&other.registry(1), None).unwrap_err();
    assert!(matches!(stranger, EvidenceError::Receipt(_)), "{stranger}");
    let mut contradicting = log.registry(1);
    contradicting.signers[0].activated_index = Some(1);
    let conflict = bundle().verify(&contradicting, None).unwrap_err();
    assert!(matches!(conflict, EvidenceError::Conflict(_)), "{conflict}");
}

#[test]
fn bounds_hold() {
    let (log, evidence) = full();
    let mut renewed = log.bundle(4, 7, &[]);
    for _ in 0..RENEWALS_MAX {
        renewed = renewed.with_renewal(log.renewal(4, 7, 12, &[])).unwrap();
    }
    assert!(matches!(renewed.with_renewal(log.renewal(4, 7, 12, &[])), Err(EvidenceError::TooLarge(_))));
    let object = |n: u64| ArchivedObject { name: ObjectName::Checkpoint(n), version_id: "v".into() };
    let many = |count: u64| ArchivedObjects::new("s3://b".into(), (0..count).map(object).collect());
    assert!(many(OBJECTS_MAX as u64).is_ok() && many(OBJECTS_MAX as u64 + 1).is_err() && many(0).is_err());
    let archive = evidence.archive().unwrap().clone();
    let same = archive.objects()[0].clone();
    assert_eq!(archive.clone().with(vec![same.clone()]).unwrap(), archive, "once is enough");
    let other = ArchivedObject { version_id: "another".into(), ..same };
    assert!(archive.with(vec![other]).is_err(), "nothing is written twice");
    let proofs = RenewalProofs { entry: vec![Hash([0; 32]); 64], ..RenewalProofs::default() };
    assert!(matches!(Renewal::new(log.note(12, &[]), proofs), Err(EvidenceError::TooLarge(_))));
}

#[test]
fn lines_that_nobody_can_check_are_left_out() {
    let (log, _) = full();
    let note = log.note(7, &[CLASSICAL, QUANTUM]);
    let known = |policies: &[&BundledPolicy]| {
        known_lines(&note, &log.registry(1), policies.iter().map(|policy| policy.policy())).unwrap()
    };
    assert_eq!(known(&[]), (log.note(7, &[]), 2));
    let (classical, quantum) = (policy(&log, &CLASSICAL), policy(&log, &QUANTUM));
    assert_eq!(known(&[&quantum]), (log.note(7, &[QUANTUM]), 1));
    assert_eq!(known(&[&quantum, &classical]), (note.clone(), 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is put together holds and is read back as it was; and moved elsewhere it does not hold.
    #[test]
    fn what_is_made_is_read_back(
        index in 0u64..20,
        more in prop::collection::vec(1u64..40, 0..4),
        first in 2u64..20,
        cosigned in any::<(bool, bool)>(),
        (cose, archive) in any::<(bool, bool)>(),
    ) {
        let mut log = Log::new(0x42);
        let mut size = first.max(index + 1);
        log.grow(size + more.iter().sum::<u64>());
        let witnesses: Vec<Witness> =
            [(cosigned.0, CLASSICAL), (cosigned.1, QUANTUM)].into_iter().filter(|it| it.0).map(|it| it.1).collect();
        let mut evidence = log.bundle(index, size, &witnesses);
        if cosigned.0 { evidence = evidence.with_policy(policy(&log, &CLASSICAL)); }
        if cose { evidence = evidence.with_cose(log.cose(index, size)); }
        if archive { evidence = evidence.with_archive(objects()); }
        for step in more {
            evidence = evidence.with_renewal(log.renewal(index, size, size + step, &witnesses)).unwrap();
            size += step;
        }
        let json = evidence.to_json().unwrap();
        let read = Evidence::parse(json.as_bytes()).unwrap();
        prop_assert_eq!(&read, &evidence);
        read.verify(&log.registry(1), None).unwrap();
        prop_assert_eq!(read.to_json().unwrap(), json.clone());
        let moved = json.replacen(&format!("index {index}\\n"), &format!("index {}\\n", index + 1), 1);
        let refused = Evidence::parse(moved.as_bytes()).map_or(true, |it| it.verify(&log.registry(1), None).is_err());
        prop_assert!(refused);
    }
}
