//! A small ledger writer: builds archives in memory with the format crate, good ones and, where asked,
//! bad ones that are signed all the same. Each test file uses some of it.
#![allow(dead_code, reason = "every test file compiles this and uses another part")]
#![allow(missing_docs, unreachable_pub, reason = "test support")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

pub mod keys;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use chancery_format::archive::{
    LATEST_CHECKPOINT, checkpoint_name, registry_name, registry_note_text, registry_signature_name,
};
use chancery_format::canonical::CanonicalJson;
use chancery_format::entry::{
    self, IntentParts, KeyUse, Operation, PolicyRef, ReplayKey, Rung, SignatureBytes,
};
use chancery_format::event::Placement;
use chancery_format::heads::{EnrolledHeads, HeadName, HeadsMap};
use chancery_format::merkle::Frontier;
use chancery_format::note::{NoteVerifier, assemble};
use chancery_format::registry::{KeyState, LedgerSection, SignerRecord};
use chancery_format::tile::{self, TilePath, TileTail, WIDTH};
use chancery_format::{
    AuditEvent, Checkpoint, Digest, EventDraft, EventId, Hash, Intent, Kid, LeafIndex, Origin, Outcome,
    Receipt, SignatureAlgorithm, SignersRegistry, Timestamp, TreeHead, TreeSize,
};
use chancery_verify::evidence::{Evidence, EvidenceError, Listed};
use chancery_verify::ledger::Options;
use chancery_verify::progress::Silent;
use chancery_verify::{Report, Trust, ledger};
use keys::TestKey;

pub const ORIGIN: &str = "log.example/chancery";

/// An archive in memory, and the registry an auditor would hold.
#[derive(Clone, Default)]
pub struct Archive {
    pub files: BTreeMap<String, Vec<u8>>,
    pub signers: Vec<u8>,
}

impl Archive {
    pub fn verify(&self) -> Report {
        self.verify_with(&Options { threads: Some(1), ..Options::default() })
    }

    pub fn verify_with(&self, options: &Options) -> Report {
        let trust = Trust::parse(&self.signers).unwrap();
        ledger::verify(self, &trust, options, &mut Silent)
    }

    pub fn write_to(&self, folder: &Path) {
        // A folder has its checkpoints where a bucket shows its newest.
        for (name, bytes) in self.files.iter().filter(|(name, _)| *name != LATEST_CHECKPOINT) {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }

    pub fn checkpoint(&self, epoch: u64) -> &[u8] {
        &self.files[&checkpoint_name(epoch)]
    }
}

impl Evidence for Archive {
    fn list(&self, prefix: &str, each: &mut dyn FnMut(Listed)) -> Result<(), EvidenceError> {
        self.files
            .iter()
            .filter(|(name, _)| name.starts_with(prefix))
            .for_each(|(name, bytes)| each(Listed::Object(name.clone(), bytes.len() as u64)));
        Ok(())
    }

    fn open(&self, name: &str, bytes_max: usize) -> Result<Vec<u8>, EvidenceError> {
        let bytes = self.files.get(name).ok_or(EvidenceError::NotFound)?;
        if bytes.len() > bytes_max { Err(EvidenceError::TooLarge(bytes_max)) } else { Ok(bytes.clone()) }
    }
}

/// Where the next event of a stream goes.
#[derive(Clone, Copy, Default)]
pub struct Next {
    pub seq: u64,
    pub prev: Option<Hash>,
}

/// Writes one ledger.
pub struct Writer {
    pub leaves: Vec<Vec<u8>>,
    pub streams: HashMap<String, Next>,
    pub files: BTreeMap<String, Vec<u8>>,
    pub records: Vec<SignerRecord>,
    pub ledger_key: TestKey,
    keys: HashMap<String, TestKey>,
    frontier: Frontier,
    tiles: TileTail,
    shipped: usize,
    epoch: u64,
    registry_version: u64,
    /// The heads of so many leaves.
    heads: (HeadsMap, usize),
    pub clock_ms: i64,
    /// What the next key activated says of its birth.
    pub next_birth: Option<entry::BirthRecord>,
    /// Whether others follow the archive by C2SP tlog-tiles.
    pub static_log: bool,
}

pub fn payload(json: &str) -> CanonicalJson {
    CanonicalJson::parse(json.as_bytes()).unwrap()
}

pub fn draft(event_type: &str, actor: &str, stream: &str, json: &str) -> EventDraft {
    EventDraft {
        event_type: event_type.parse().unwrap(),
        actor: actor.parse().unwrap(),
        stream: stream.parse().unwrap(),
        payload: payload(json),
        id: None,
        ts: None,
        manifest_signature_id: None,
        metadata: None,
    }
}

pub fn origin() -> Origin {
    ORIGIN.parse().unwrap()
}

pub fn id_of(index: u64) -> EventId {
    let [a, b, c, d, e, f, ..] = Hash::of(&[ORIGIN.as_bytes()]).0;
    EventId::from_index([a, b, c, d, e, f], LeafIndex(index))
}

impl Writer {
    /// Opens a ledger: its first entry, and the ledger key's activation.
    pub fn open() -> Self {
        Self::unopened().opened()
    }

    /// The same of one that was not opened yet.
    pub fn opened(mut self) -> Self {
        self.add(&entry::ledger_opened(&origin()));
        self.activate_key(self.ledger_key.clone());
        self
    }

    /// Without any entry.
    pub fn unopened() -> Self {
        Self {
            leaves: Vec::new(),
            streams: HashMap::new(),
            files: BTreeMap::new(),
            records: Vec::new(),
            ledger_key: TestKey::new("ledger", "ledger-v1", SignatureAlgorithm::Ed25519),
            keys: HashMap::new(),
            frontier: Frontier::new(),
            tiles: TileTail::new(),
            shipped: 0,
            epoch: 0,
            registry_version: 0,
            heads: (HeadsMap::default(), 0),
            clock_ms: 1_795_000_000_000,
            next_birth: None,
            static_log: false,
        }
    }

    pub fn next_index(&self) -> u64 {
        self.leaves.len() as u64
    }

    pub fn tick(&mut self) -> Timestamp {
        self.clock_ms += 7;
        Timestamp::from_unix_ms(self.clock_ms).unwrap()
    }

    /// Puts an event where it belongs.
    pub fn add(&mut self, draft: &EventDraft) -> u64 {
        let next = self.streams.get(draft.stream.as_str()).copied().unwrap_or_default();
        let kid = self.ledger_key.signer_kid.clone();
        self.add_at(draft, next, &id_of(self.next_index()), &kid)
    }

    /// Puts an event where it is told to.
    pub fn add_at(&mut self, draft: &EventDraft, next: Next, id: &EventId, signer_kid: &Kid) -> u64 {
        let ts = self.tick();
        let place = Placement { id, seq: next.seq, prev_hash: next.prev, signer_kid, ts, chain: None };
        let leaf = draft.place(&place).unwrap();
        let after = Next { seq: next.seq + 1, prev: Some(leaf.event_hash()) };
        self.streams.insert(draft.stream.as_str().to_owned(), after);
        self.add_raw(leaf.into_bytes())
    }

    /// Any bytes as a leaf.
    pub fn add_raw(&mut self, leaf: Vec<u8>) -> u64 {
        self.leaves.push(leaf);
        self.leaves.len() as u64 - 1
    }

    /// An event of a service.
    pub fn event(&mut self, stream: &str) -> u64 {
        let json = format!(r#"{{"n":{},"name":"é\"\n"}}"#, self.leaves.len());
        self.add(&draft("order.paid", "spiffe://demo.example/service/orders", stream, &json))
    }

    pub fn activate(&mut self, kid: &str, signer_kid: &str, algorithm: SignatureAlgorithm) -> u64 {
        self.activate_key(TestKey::new(kid, signer_kid, algorithm))
    }

    pub fn activate_key(&mut self, key: TestKey) -> u64 {
        let pem = key.public_key_pem();
        let draft = entry::signer_activated(&entry::Activation {
            kid: &key.kid,
            signer_kid: &key.signer_kid,
            algorithm: key.algorithm,
            public_key_pem: pem.as_deref(),
            purpose: "testing",
            birth: self.next_birth.take().unwrap_or_default(),
            requested_by: None,
        });
        let index = self.add(&draft);
        let deployed_at = self.tick();
        self.records.push(SignerRecord {
            signer_kid: key.signer_kid.clone(),
            kid: Some(key.kid.clone()),
            algorithm: key.algorithm,
            public_key_pem: pem,
            purpose: "testing".into(),
            state: KeyState::Active,
            deployed_at,
            retired_at: None,
            activated_index: Some(index),
            retired_index: None,
            compromised_since: None,
            description: String::new(),
        });
        self.keys.insert(key.signer_kid.as_str().to_owned(), key);
        index
    }

    pub fn retire(&mut self, signer_kid: &str) -> u64 {
        let index = self.add(&entry::signer_retired(&signer_kid.parse().unwrap()));
        let now = self.tick();
        let record = self.record(signer_kid);
        (record.state, record.retired_at, record.retired_index) = (KeyState::Retired, Some(now), Some(index));
        index
    }

    pub fn record(&mut self, signer_kid: &str) -> &mut SignerRecord {
        self.records.iter_mut().find(|record| record.signer_kid.as_str() == signer_kid).unwrap()
    }

    pub fn key(&self, signer_kid: &str) -> TestKey {
        self.keys[signer_kid].clone()
    }

    fn intent(&self, signer_kid: &str, stream: &str, message: &[u8]) -> Intent {
        let key = &self.keys[signer_kid];
        let is_mac = key.algorithm.is_mac();
        Intent::new(IntentParts {
            co_signer: None,
            kid: key.kid.clone(),
            signer_kid: key.signer_kid.clone(),
            algorithm: key.algorithm,
            asked: None,
            operation: if is_mac { Operation::Mac } else { Operation::Sign },
            digest: Digest::Sha256(Hash::of(&[message]).0),
            principal: "spiffe://demo.example/service/orders".parse().unwrap(),
            request_id: "r-1".parse().unwrap(),
            stream: stream.parse().unwrap(),
            purpose: Some("invoice".parse().unwrap()),
            metadata: Some(payload(r#"{"a":["\u0001",1.5]}"#)),
            policy: PolicyRef { rule: "grant/orders".into(), sha256: Hash([1; 32]) },
            release: Rung::Durable,
            replay: Some(ReplayKey { key: "k-1".parse().unwrap(), request_hash: Hash([2; 32]) }),
        })
    }

    /// A signature over a message's digest, by the key of that name.
    pub fn sign(&mut self, signer_kid: &str, stream: &str, message: &[u8]) -> u64 {
        let signature = self.keys[signer_kid].sign_message(message);
        self.issue(signer_kid, stream, message, signature)
    }

    /// A signature event with any signature bytes.
    pub fn issue(&mut self, signer_kid: &str, stream: &str, message: &[u8], signature: Vec<u8>) -> u64 {
        let intent = self.intent(signer_kid, stream, message);
        self.add(&Outcome::signed(intent, SignatureBytes::new(signature), None).draft())
    }

    /// A signature that another rule allowed.
    pub fn sign_under(&mut self, rule: &str, signer_kid: &str, message: &[u8]) -> u64 {
        let mut parts = self.intent(signer_kid, "orders", message).parts().clone();
        parts.policy.rule = rule.to_owned();
        let signature = SignatureBytes::new(self.keys[signer_kid].sign_message(message));
        self.add(&Outcome::signed(Intent::new(parts), signature, None).draft())
    }

    /// The same with a co-signer and any bytes of its own.
    pub fn issue_two(&mut self, first: (&str, Vec<u8>), second: (&str, Vec<u8>), message: &[u8]) -> u64 {
        let mut parts = self.intent(first.0, "orders", message).parts().clone();
        let key = self.key(second.0);
        parts.co_signer = Some(entry::CoSigner {
            kid: key.kid.clone(),
            signer_kid: key.signer_kid.clone(),
            algorithm: key.algorithm,
        });
        let second = Some(SignatureBytes::new(second.1));
        self.add(&Outcome::signed(Intent::new(parts), SignatureBytes::new(first.1), second).draft())
    }

    /// A digest whose receipt is its signature.
    pub fn anchor(&mut self, kid: &str) -> u64 {
        self.add(&entry::digest_anchored(entry::AnchoredParts {
            kid: kid.parse().unwrap(),
            digest: Digest::Sha256([4; 32]),
            principal: "spiffe://demo.example/service/orders".parse().unwrap(),
            request_id: "r-1".parse().unwrap(),
            stream: "orders".parse().unwrap(),
            purpose: None,
            metadata: None,
            policy: PolicyRef { rule: "grant".into(), sha256: Hash([1; 32]) },
        }))
    }

    pub fn fail(&mut self, signer_kid: &str, stream: &str) -> u64 {
        let code = "backend-unavailable".parse().unwrap();
        let intent = self.intent(signer_kid, stream, b"failed");
        self.add(&Outcome::failed(intent, code, KeyUse::Unknown).draft())
    }

    pub fn abandon(&mut self, signer_kid: &str, stream: &str) -> u64 {
        let intent = self.intent(signer_kid, stream, b"abandoned");
        self.add(&Outcome::abandoned(intent).draft())
    }

    /// A MAC, and an attempt that failed, by a key of their own.
    fn sign_mac_and_fail(&mut self) {
        self.activate("hooks", "hooks-v1", SignatureAlgorithm::HmacSha256);
        self.sign("hooks-v1", "orders", b"second");
        self.fail("hooks-v1", "orders/eu");
    }

    pub fn refuse(&mut self) -> u64 {
        let now = self.tick();
        let principal = "spiffe://demo.example/service/orders".parse().unwrap();
        self.add(&entry::request_refused("kid-not-granted", Some(&principal), 3, now, now))
    }

    /// The map of the heads of everything so far.
    pub fn enrol_heads(&mut self) -> u64 {
        let (map, size) = &mut self.heads;
        for leaf in &self.leaves[*size..] {
            let event = AuditEvent::parse(leaf).unwrap();
            map.add(HeadName::all_of(&event), LeafIndex(*size as u64), &event.hash);
            *size += 1;
        }
        let ((names, root), size) = (map.root(), TreeSize(*size as u64));
        self.add(&entry::heads_enrolled(&EnrolledHeads { names, root, size }))
    }

    pub fn registry_json(&self) -> Vec<u8> {
        let ledger =
            LedgerSection { origin: origin(), vkeys: vec![self.ledger_key.vkey().vkey()], policy: None };
        SignersRegistry::new(ledger, self.records.clone()).unwrap().to_json().unwrap()
    }

    /// Publishes the registry as it stands.
    pub fn publish(&mut self) -> u64 {
        let json = self.registry_json();
        let version = self.registry_version + 1;
        self.registry_version = version;
        let sha256 = Hash::of(&[&json]);
        let note = self.note(&registry_note_text(&origin(), version, &sha256));
        self.files.insert(registry_name(version), json);
        self.files.insert(registry_signature_name(version), note.into_bytes());
        self.add(&entry::registry_published(version, &sha256))
    }

    pub fn note(&self, text: &str) -> String {
        let vkey: NoteVerifier = self.ledger_key.vkey();
        let signature: [u8; 64] = self.ledger_key.sign_message_raw(text.as_bytes()).try_into().unwrap();
        assemble(text, &vkey, &signature).unwrap()
    }

    /// The head over everything added so far.
    pub fn head(&self) -> TreeHead {
        let mut frontier = Frontier::new();
        self.leaves.iter().for_each(|leaf| frontier.push(chancery_format::merkle::leaf_hash(leaf)));
        frontier.head()
    }

    /// Ships everything so far as one epoch.
    pub fn epoch(&mut self) {
        self.epoch_under(self.head());
    }

    /// The same, under any head.
    pub fn epoch_under(&mut self, head: TreeHead) {
        let new: Vec<Hash> =
            self.leaves[self.shipped..].iter().map(|leaf| chancery_format::merkle::leaf_hash(leaf)).collect();
        let batch = self.frontier.extend(&new);
        for full in self.tiles.extend(&batch) {
            let name = TilePath::tile(full.level, full.index).to_string();
            self.files.insert(name, tile::encode_tile(&full.hashes));
        }
        self.frontier = batch.into_frontier();
        let size = self.leaves.len();
        let width = usize::try_from(WIDTH).unwrap();
        for number in self.shipped / width..size / width {
            let bundle = bundle(&self.leaves[number * width..(number + 1) * width]);
            self.files.insert(TilePath::entries(number as u64).to_string(), bundle);
        }
        if let Some(tail) = TilePath::tail_entries(size as u64) {
            let from = size / width * width;
            self.files.insert(tail.to_string(), bundle(&self.leaves[from..]));
        }
        let note = self.note(&Checkpoint::new(origin(), head).text());
        if self.static_log {
            for path in TilePath::partial_tiles(size as u64) {
                let hashes = self.tiles.partial(path.level.unwrap());
                self.files.insert(path.to_string(), tile::encode_tile(hashes));
            }
            self.files.insert(LATEST_CHECKPOINT.to_owned(), note.clone().into_bytes());
        }
        self.files.insert(checkpoint_name(self.epoch), note.into_bytes());
        self.epoch += 1;
        self.shipped = size;
    }

    /// What an auditor gets.
    pub fn archive(&self) -> Archive {
        Archive { files: self.files.clone(), signers: self.registry_json() }
    }

    /// A receipt for one entry under the newest head.
    pub fn receipt(&self, index: u64) -> Receipt {
        let hashes: Vec<Hash> =
            self.leaves.iter().map(|leaf| chancery_format::merkle::leaf_hash(leaf)).collect();
        let batch = Frontier::new().extend(&hashes);
        let note = self.note(&Checkpoint::new(origin(), batch.head()).text());
        let verified = Checkpoint::verify(&note, &origin(), &[self.ledger_key.vkey()]).unwrap();
        let leaf = self.leaves[usize::try_from(index).unwrap()].clone();
        let proof = batch.proof(LeafIndex(index)).unwrap();
        Receipt::new(leaf, LeafIndex(index), proof, &verified, Rung::Checkpointed)
    }
}

fn bundle(leaves: &[Vec<u8>]) -> Vec<u8> {
    tile::encode_bundle(leaves.iter().map(Vec::as_slice)).unwrap()
}

/// A ledger small enough to flip every bit of: two algorithms, two streams, two epochs.
pub fn tiny() -> Writer {
    let mut writer = Writer::open();
    writer.activate("orders", "orders-v1", SignatureAlgorithm::Ed25519);
    writer.publish();
    writer.sign("orders-v1", "orders", b"first");
    writer.epoch();
    writer.event("orders/eu");
    writer.retire("orders-v1");
    writer.sign_mac_and_fail();
    writer.publish();
    writer.epoch();
    writer
}

/// A ledger with everything: all algorithms, several streams, rotation, refusals,
/// failures, two registry versions, three epochs.
pub fn small() -> Writer {
    let mut writer = Writer::open();
    writer.activate("orders", "orders-v1", SignatureAlgorithm::Ed25519);
    writer.activate("invoices", "invoices-p256-v1", SignatureAlgorithm::EcdsaP256Sha256);
    writer.publish();
    writer.sign("orders-v1", "orders", b"first");
    writer.event("orders/eu");
    writer.epoch();
    writer.activate("legacy", "legacy-rsa-v1", SignatureAlgorithm::RsaPssSha256);
    writer.activate("hooks", "hooks-hmac-v1", SignatureAlgorithm::HmacSha256);
    writer.sign("invoices-p256-v1", "orders", b"second");
    writer.sign("legacy-rsa-v1", "orders", b"third");
    writer.sign("hooks-hmac-v1", "orders/eu", b"fourth");
    writer.epoch();
    writer.refuse();
    writer.retire("orders-v1");
    writer.activate("orders", "orders-v2", SignatureAlgorithm::Ed25519);
    writer.sign("orders-v2", "orders", b"fifth");
    writer.fail("orders-v2", "orders");
    writer.abandon("legacy-rsa-v1", "orders");
    writer.publish();
    writer.epoch();
    writer
}

/// A ledger with full bundles and tiles; `entries` leaves at least, an epoch at each given size.
pub fn long(entries: u64, epochs_at: &[u64]) -> Writer {
    long_by(Writer::open(), entries, epochs_at)
}

/// The same, archived as a static log.
pub fn static_log(entries: u64, epochs_at: &[u64]) -> Writer {
    long_by(Writer { static_log: true, ..Writer::unopened() }.opened(), entries, epochs_at)
}

fn long_by(mut writer: Writer, entries: u64, epochs_at: &[u64]) -> Writer {
    writer.activate("orders", "orders-v1", SignatureAlgorithm::Ed25519);
    writer.activate("legacy", "legacy-rsa-v1", SignatureAlgorithm::RsaSha256);
    writer.publish();
    while writer.next_index() < entries {
        if epochs_at.contains(&writer.next_index()) {
            writer.epoch();
        }
        match writer.next_index() % 50 {
            0 => writer.sign("legacy-rsa-v1", "legacy", b"rsa"),
            n if n % 5 == 0 => writer.sign("orders-v1", "orders", &n.to_be_bytes()),
            n => writer.event(&format!("orders/{}", n % 7)),
        };
    }
    writer.epoch();
    writer
}
