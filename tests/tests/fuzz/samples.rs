//! Good input for the readers: a ledger of seven entries in memory, and one of each thing that can be said of it.
//!
//! What is signed is signed by a key made of a constant, so that a seed gives the same inputs on every machine.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chancery_format::algorithm::SignatureAlgorithm;
use chancery_format::archive::ObjectName;
use chancery_format::canonical::{CanonicalJson, ObjectWriter};
use chancery_format::completeness::{Opening, entry_line};
use chancery_format::cose::{CoseAlgorithm, CoseProof, CoseReceipt, CoseStatement};
use chancery_format::cosignature::{CosignedAt, CosignerKey};
use chancery_format::entry::{
    IntentParts, Operation, PolicyRef, ReplayKey, SignatureBytes, heads_enrolled, ledger_opened,
    registry_published,
};
use chancery_format::event::{EventDraft, Placement};
use chancery_format::evidence::{
    ArchivedObject, ArchivedObjects, BundledPolicy, Evidence, RegistrySlice, Renewal, RenewalProofs,
};
use chancery_format::heads::{EnrolledHeads, HeadName, HeadsMap};
use chancery_format::merkle::{Frontier, NodeSource, ProofError, consistency_proof, leaf_hash};
use chancery_format::note::{NoteVerifier, assemble};
use chancery_format::registry::{KeyState, LedgerSection, SignerRecord};
use chancery_format::tile::perfect_root;
use chancery_format::witness::AddCheckpoint;
use chancery_format::{
    AuditEvent, Checkpoint, Digest, EventId, Hash, Intent, LeafIndex, Origin, Outcome, PublicKey, Receipt,
    Rung, SignersRegistry, Timestamp, TreeHead, TreeSize, VerifiedCheckpoint,
};
use serde_json::json;

const ORIGIN: &str = "ledger.example/samples";
/// Whose chain is proven complete: entries 2 to 4 are its own.
pub(crate) const CHAIN: &str = "stream:orders";
/// The entry that has receipts.
const ENTRY: usize = 3;
/// Entries under the map of heads, and under the checkpoint before the last.
const BELOW: usize = 5;

/// A ledger and its keys.
pub(crate) struct Samples {
    key: Ed25519KeyPair,
    witness: Ed25519KeyPair,
    pub(crate) leaves: Vec<Vec<u8>>,
    previous: Vec<(String, u64, Hash)>,
}

struct Nodes(Vec<Hash>);

impl NodeSource for Nodes {
    type Error = ProofError;
    fn node(&self, level: u8, index: u64) -> Result<Hash, ProofError> {
        let (width, from) = (1 << level, usize::try_from(index << level).unwrap());
        perfect_root(&self.0[from..from + width]).ok_or(ProofError::OutOfRange)
    }
}

fn moment() -> Timestamp {
    Timestamp::from_unix_ms(1_795_000_000_000).unwrap()
}

fn public(pair: &Ed25519KeyPair) -> [u8; 32] {
    pair.public_key().as_ref().try_into().unwrap()
}

/// A key use with everything a caller can say.
pub(crate) fn intent() -> Intent {
    Intent::new(IntentParts {
        co_signer: None,
        kid: "orders".parse().unwrap(),
        signer_kid: "orders-v1".parse().unwrap(),
        algorithm: SignatureAlgorithm::Ed25519,
        asked: None,
        operation: Operation::Sign,
        digest: Digest::Sha256([7; 32]),
        principal: "spiffe://demo.example/a".parse().unwrap(),
        request_id: "r-1".parse().unwrap(),
        stream: "orders".parse().unwrap(),
        purpose: Some("release".parse().unwrap()),
        metadata: Some(CanonicalJson::parse(br#"{"a":"\u00e9\n"}"#).unwrap()),
        policy: PolicyRef { rule: "grant/orders".into(), sha256: Hash([1; 32]) },
        release: Rung::Durable,
        replay: Some(ReplayKey { key: "k-1".parse().unwrap(), request_hash: Hash([2; 32]) }),
    })
}

impl Samples {
    pub(crate) fn new() -> Self {
        Self::with_last_stream("last")
    }

    fn with_last_stream(last: &str) -> Self {
        let key = |seed| Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let mut ledger =
            Self { key: key(0x42), witness: key(0x51), leaves: Vec::new(), previous: Vec::new() };
        ledger.add(&ledger_opened(&ledger.origin()));
        ledger.add(&registry_published(1, &Hash::of(&[ledger.registry_file().as_bytes()])));
        let digest = intent().parts().digest;
        let signature = ledger.key.sign(digest.as_bytes()).as_ref().to_vec();
        ledger.add(&Outcome::signed(intent(), SignatureBytes::new(signature), None).draft());
        for number in 0..2 {
            ledger.add(&happened("orders", number));
        }
        ledger.add(&heads_enrolled(&ledger.heads().1));
        ledger.add(&happened(last, 0));
        ledger
    }

    fn origin(&self) -> Origin {
        ORIGIN.parse().unwrap()
    }

    fn add(&mut self, draft: &EventDraft) {
        let index = LeafIndex(self.leaves.len() as u64);
        let [a, b, c, d, e, f, ..] = Hash::of(&[ORIGIN.as_bytes()]).0;
        let stream = draft.stream.to_string();
        let before = self.previous.iter().rev().find(|(name, ..)| *name == stream);
        let (seq, prev_hash) = before.map_or((0, None), |(_, seq, hash)| (seq + 1, Some(*hash)));
        let place = Placement {
            id: &EventId::from_index([a, b, c, d, e, f], index),
            seq,
            prev_hash,
            signer_kid: &"ledger-v1".parse().unwrap(),
            ts: moment(),
            chain: None,
        };
        let leaf = draft.place(&place).unwrap();
        self.previous.push((stream, seq, leaf.event_hash()));
        self.leaves.push(leaf.into_bytes());
    }

    fn key(&self) -> NoteVerifier {
        NoteVerifier::new(ORIGIN, &public(&self.key)).unwrap()
    }

    pub(crate) fn registry(&self) -> SignersRegistry {
        let record = |name: &str, index| SignerRecord {
            signer_kid: format!("{name}-v1").parse().unwrap(),
            kid: Some(name.parse().unwrap()),
            algorithm: SignatureAlgorithm::Ed25519,
            public_key_pem: Some(PublicKey::from_ed25519_raw(&public(&self.key)).unwrap().to_pem()),
            purpose: "test".into(),
            state: KeyState::Active,
            deployed_at: moment(),
            retired_at: None,
            activated_index: Some(index),
            retired_index: None,
            compromised_since: None,
            description: String::new(),
        };
        let ledger = LedgerSection { origin: self.origin(), vkeys: vec![self.key().vkey()], policy: None };
        SignersRegistry::new(ledger, vec![record("ledger", 0), record("orders", 1)]).unwrap()
    }

    pub(crate) fn registry_file(&self) -> String {
        String::from_utf8(self.registry().to_json().unwrap()).unwrap()
    }

    fn hashes(&self) -> Vec<Hash> {
        self.leaves.iter().map(|leaf| leaf_hash(leaf)).collect()
    }

    fn head(&self, size: usize) -> TreeHead {
        Frontier::new().extend(&self.hashes()[..size]).head()
    }

    fn path(&self, index: usize, size: usize) -> Vec<Hash> {
        Frontier::new().extend(&self.hashes()[..size]).proof(LeafIndex(index as u64)).unwrap()
    }

    /// From the tree without the map of heads to the whole.
    fn continuation(&self) -> Vec<Hash> {
        let (old, new) = (TreeSize(BELOW as u64), TreeSize(self.leaves.len() as u64));
        consistency_proof(&Nodes(self.hashes()), old, new).unwrap()
    }

    fn note(&self, size: usize) -> String {
        let text = Checkpoint::new(self.origin(), self.head(size)).text();
        let signature = self.key.sign(text.as_bytes()).as_ref().try_into().unwrap();
        assemble(&text, &self.key(), &signature).unwrap()
    }

    /// The whole ledger's, verified.
    pub(crate) fn checkpoint(&self) -> VerifiedCheckpoint {
        self.verified(self.leaves.len())
    }

    fn verified(&self, size: usize) -> VerifiedCheckpoint {
        Checkpoint::verify(&self.note(size), &self.origin(), &[self.key()]).unwrap()
    }

    fn receipt(&self, index: usize, size: usize) -> Receipt {
        let (leaf, path) = (self.leaves[index].clone(), self.path(index, size));
        Receipt::new(leaf, LeafIndex(index as u64), path, &self.verified(size), Rung::Checkpointed)
    }

    /// The leaf that receipts are of.
    pub(crate) fn entry(&self) -> &[u8] {
        &self.leaves[ENTRY]
    }

    pub(crate) fn witness(&self) -> CosignerKey {
        let key = PublicKey::from_ed25519_raw(&public(&self.witness)).unwrap();
        CosignerKey::new("witness.example/w1", key).unwrap()
    }

    /// What a witness adds below the whole ledger's checkpoint.
    pub(crate) fn cosignature(&self) -> String {
        let checkpoint = Checkpoint::new(self.origin(), self.head(self.leaves.len()));
        let (key, at) = (self.witness(), CosignedAt::new(1_795_000_000).unwrap());
        let signature = self.witness.sign(&key.message(&checkpoint, at));
        key.line(at, signature.as_ref()).unwrap()
    }

    pub(crate) fn policy(&self) -> String {
        let (log, witness) = (self.key().vkey(), self.witness().vkey());
        format!(
            "# who must\nlog {log} https://log.example/\nwitness w1 {witness} https://w1.example/\n\
             group all-of-them all w1\nquorum all-of-them\n"
        )
    }

    pub(crate) fn witness_request(&self) -> String {
        let note = self.note(self.leaves.len());
        AddCheckpoint::new(TreeSize(BELOW as u64), self.continuation(), &note).unwrap().to_body()
    }

    pub(crate) fn tlog_proof(&self) -> String {
        self.receipt(ENTRY, self.leaves.len()).to_tlog_proof()
    }

    fn cose_statement(&self) -> CoseStatement {
        let (size, path) = (self.leaves.len(), self.path(ENTRY, self.leaves.len()));
        CoseStatement {
            algorithm: CoseAlgorithm::EdDsa,
            origin: self.origin(),
            size: TreeSize(size as u64),
            proof: CoseProof::Inclusion { index: LeafIndex(ENTRY as u64), path },
        }
    }

    fn cose_signed(&self, statement: CoseStatement) -> CoseReceipt {
        let signed = statement.to_be_signed(&self.head(self.leaves.len()).root);
        let signature = self.key.sign(&signed).as_ref().to_vec();
        statement.signed(signature)
    }

    pub(crate) fn cose(&self) -> CoseReceipt {
        self.cose_signed(self.cose_statement())
    }

    /// What the ledger keeps beside its checkpoint.
    pub(crate) fn cose_head(&self) -> CoseReceipt {
        let size = TreeSize(self.leaves.len() as u64);
        self.cose_signed(CoseStatement::of_head(CoseAlgorithm::EdDsa, self.origin(), size))
    }

    /// Everything a bundle can have.
    pub(crate) fn evidence(&self) -> Evidence {
        let slice = |size| {
            let (leaf, path) = (self.leaves[1].clone(), self.path(1, size));
            RegistrySlice::new(self.registry_file(), leaf, LeafIndex(1), path).unwrap()
        };
        let policy = || BundledPolicy::parse(self.policy()).unwrap();
        let object =
            |name: &str| ArchivedObject { name: ObjectName::parse(name).unwrap(), version_id: "v.2".into() };
        let objects = vec![object("tile/entries/000"), object("checkpoint/000000000001")];
        let size = self.leaves.len();
        let proofs = RenewalProofs {
            entry: self.path(ENTRY, size),
            registry: self.path(1, size),
            consistency: self.continuation(),
        };
        let renewal = Renewal::new(self.note(size) + &self.cosignature(), proofs).unwrap();
        Evidence::new(&self.receipt(ENTRY, BELOW), slice(BELOW), &self.verified(BELOW))
            .unwrap()
            .with_cose(self.cose())
            .with_archive(ArchivedObjects::new("s3://bucket/prefix".into(), objects).unwrap())
            .with_renewal(renewal.with_registry(slice(size)).with_policy(policy()))
            .unwrap()
    }

    fn heads(&self) -> (HeadsMap, EnrolledHeads) {
        let mut map = HeadsMap::default();
        for (index, leaf) in (0..).map(LeafIndex).zip(&self.leaves[..BELOW]) {
            let event = AuditEvent::read(leaf).unwrap();
            map.add(HeadName::all_of(&event), index, &event.hash);
        }
        let (names, root) = map.root();
        (map, EnrolledHeads { names, root, size: TreeSize(BELOW as u64) })
    }

    /// The first line of a completeness proof: of a chain that is there, or of one that is not.
    pub(crate) fn opening(&self, name: &str) -> Opening {
        let (map, _) = self.heads();
        let name: HeadName = name.parse().unwrap();
        Opening {
            head: map.settled(&name).copied(),
            proof: map.proof(&name),
            heads: self.receipt(BELOW, self.leaves.len()),
            name,
        }
    }

    /// The first of the chain's entries, as its line.
    pub(crate) fn first_entry(&self) -> String {
        entry_line(LeafIndex(2), &self.leaves[2])
    }

    /// Two histories of one key, with everything that can prove it.
    pub(crate) fn fork(&self) -> String {
        let other = Self::with_last_stream("other");
        let size = self.leaves.len();
        let note = |ledger: &Self, size: usize| {
            let TreeHead { size: of, root } = ledger.head(size);
            json!({ "size": of.0, "root": root.to_hex(), "note": ledger.note(size) })
        };
        let entry = |ledger: &Self| {
            let path: Vec<String> = ledger.path(size - 1, size).iter().map(Hash::to_hex).collect();
            json!({ "leaf": STANDARD.encode(&ledger.leaves[size - 1]), "inclusionProof": path })
        };
        json!({
            "version": 1, "kind": "fork", "held": note(self, size), "shown": note(&other, size),
            "differing": { "index": size - 1, "held": entry(self), "shown": entry(&other) },
        })
        .to_string()
    }
}

fn happened(stream: &str, number: u64) -> EventDraft {
    EventDraft {
        event_type: "order.paid".parse().unwrap(),
        actor: "spiffe://demo.example/a".parse().unwrap(),
        stream: stream.parse().unwrap(),
        payload: ObjectWriter::new().integer("n", number).finish(),
        id: None,
        ts: None,
        manifest_signature_id: None,
        metadata: None,
    }
}
