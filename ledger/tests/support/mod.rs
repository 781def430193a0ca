//! What every test of the ledger needs: a clock that stands still, disks and archives that fail when told,
//! short ways to drafts and intents, and an audit that recomputes everything from the bytes.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};

use chancery_format::canonical::CanonicalJson;
use chancery_format::cose::{CoseAlgorithm, CoseStatement, VerifiedCoseHead};
use chancery_format::entry::{IntentParts, KeyUse, Operation, PolicyRef, ReplayKey, SignatureBytes};
use chancery_format::log_key::LogKey;
use chancery_format::names::FailureCode;
use chancery_format::note::{NoteVerifier, assemble};
use chancery_format::tile::{WIDTH, decode_bundle, decode_tile};
use chancery_format::{
    AuditEvent, Checkpoint, Digest, EventDraft, Hash, Intent, LeafIndex, Origin, Outcome, PrincipalName,
    Rung, SignatureAlgorithm, Timestamp, TreeHead, TreeSize, VerifiedCheckpoint, merkle,
};
use chancery_ledger::{
    Archive, ArchiveError, Clock, Disk, DiskError, Fatal, Put, RealDisk, Roll, RollLimits, RollOptions,
    ShipperOptions,
};
use ed25519_dalek::{Signer, SigningKey};

pub(crate) const ORIGIN: &str = "ledger.example/test";
pub(crate) const NOW_MS: i64 = 1_800_000_000_000;

pub(crate) fn origin() -> Origin {
    ORIGIN.parse().unwrap()
}

/// A clock that moves only when told.
#[derive(Debug)]
pub(crate) struct TestClock(pub(crate) AtomicU64);

impl Default for TestClock {
    fn default() -> Self {
        Self(AtomicU64::new(NOW_MS as u64))
    }
}

impl TestClock {
    pub(crate) fn advance(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_ms(self.0.load(Ordering::SeqCst) as i64).unwrap()
    }
}

/// Small buffers, so that tests reach flushes and file changes.
pub(crate) fn limits() -> RollLimits {
    RollLimits {
        reserve_bytes: 0,
        write_buffer_bytes: 2 << 20,
        block_cache_bytes: 1 << 20,
        streams_cached: 4,
        ..RollLimits::default()
    }
}

pub(crate) fn options(dir: &Path) -> RollOptions {
    let clock = Arc::new(TestClock::default());
    let on_fatal = Arc::new(|_: &Fatal| {});
    let mut options = RollOptions::new(dir, origin(), "ledger-v1".parse().unwrap(), clock, on_fatal);
    options.limits = limits();
    options
}

/// A directory that goes away with the test, and a name in it that does not exist yet.
pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn ledger(&self) -> std::path::PathBuf {
        self.dir.path().join("ledger")
    }

    pub(crate) fn options(&self) -> RollOptions {
        options(&self.ledger())
    }

    pub(crate) fn archive(&self) -> std::path::PathBuf {
        let archive = self.dir.path().join("archive");
        std::fs::create_dir_all(&archive).unwrap();
        archive
    }
}

/// Which side of the write a fault is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lose {
    /// The write never happened.
    Before,
    /// It happened, and its success was lost.
    After,
}

/// A disk that loses one write, once armed, and can be filled.
#[derive(Debug, Default)]
pub(crate) struct FaultyDisk {
    armed: Mutex<Option<(u32, Lose)>>,
    pub(crate) free: Mutex<Option<u64>>,
    pub(crate) commits: AtomicU64,
}

impl FaultyDisk {
    /// The `nth` write from now on (0 is the next) is lost.
    pub(crate) fn lose(&self, nth: u32, side: Lose) {
        *self.armed.lock().unwrap() = Some((nth, side));
    }

    pub(crate) fn set_free(&self, bytes: Option<u64>) {
        *self.free.lock().unwrap() = bytes;
    }

    fn fault_now(&self) -> Option<Lose> {
        let mut armed = self.armed.lock().unwrap();
        match &mut *armed {
            Some((0, side)) => {
                let side = *side;
                *armed = None;
                Some(side)
            }
            Some((nth, _)) => {
                *nth -= 1;
                None
            }
            None => None,
        }
    }
}

impl Disk for FaultyDisk {
    fn commit(&self, write: &mut dyn FnMut() -> Result<(), DiskError>) -> Result<(), DiskError> {
        self.commits.fetch_add(1, Ordering::SeqCst);
        let lost = || Err(DiskError("injected fault".into()));
        match self.fault_now() {
            None => write(),
            Some(Lose::Before) => lost(),
            Some(Lose::After) => write().and_then(|()| lost()),
        }
    }

    fn free_bytes(&self, dir: &Path) -> Result<u64, DiskError> {
        match *self.free.lock().unwrap() {
            Some(bytes) => Ok(bytes),
            None => RealDisk.free_bytes(dir),
        }
    }
}

/// A disk whose commits wait at a gate, so that a test can decide what is in one batch.
#[derive(Debug, Default)]
pub(crate) struct GatedDisk {
    closed: std::sync::atomic::AtomicBool,
    closed_behind: std::sync::atomic::AtomicBool,
    pub(crate) arrivals: AtomicU64,
    pub(crate) commits: AtomicU64,
}

impl GatedDisk {
    /// Holds every commit until the gate opens.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Lets commits reach the disk, and holds the writer right after.
    pub(crate) fn close_behind(&self) {
        self.closed_behind.store(true, Ordering::SeqCst);
    }

    pub(crate) fn open(&self) {
        self.closed.store(false, Ordering::SeqCst);
        self.closed_behind.store(false, Ordering::SeqCst);
    }
}

impl Disk for GatedDisk {
    fn commit(&self, write: &mut dyn FnMut() -> Result<(), DiskError>) -> Result<(), DiskError> {
        self.arrivals.fetch_add(1, Ordering::SeqCst);
        wait_until("the gate is open", || !self.closed.load(Ordering::SeqCst));
        let written = write();
        self.commits.fetch_add(1, Ordering::SeqCst);
        wait_until("the gate behind is open", || !self.closed_behind.load(Ordering::SeqCst));
        written
    }

    fn free_bytes(&self, _: &Path) -> Result<u64, DiskError> {
        Ok(u64::MAX)
    }
}

pub(crate) fn principal(name: &str) -> PrincipalName {
    format!("spiffe://test.example/{name}").parse().unwrap()
}

pub(crate) fn draft(stream: &str, payload: &str) -> EventDraft {
    EventDraft {
        event_type: "test.happened".parse().unwrap(),
        actor: principal("writer"),
        stream: stream.parse().unwrap(),
        payload: CanonicalJson::parse(payload.as_bytes()).unwrap(),
        id: None,
        ts: None,
        manifest_signature_id: None,
        metadata: None,
    }
}

pub(crate) fn numbered(stream: &str, number: u64) -> EventDraft {
    draft(stream, &format!("{{\"n\":{number}}}"))
}

pub(crate) fn with_id(stream: &str, id: &str) -> EventDraft {
    EventDraft { id: Some(id.parse().unwrap()), ..draft(stream, "{}") }
}

/// `key` under which `request` was asked.
pub(crate) fn replay(key: &str, request: u8) -> ReplayKey {
    ReplayKey { key: key.parse().unwrap(), request_hash: Hash([request; 32]) }
}

pub(crate) fn keyed(key: &str, request: u8) -> Option<(PrincipalName, ReplayKey)> {
    Some((principal("writer"), replay(key, request)))
}

pub(crate) fn intent(request_id: &str, replay: Option<ReplayKey>) -> Intent {
    Intent::new(IntentParts {
        co_signer: None,
        kid: "orders".parse().unwrap(),
        signer_kid: "orders-v1".parse().unwrap(),
        algorithm: SignatureAlgorithm::Ed25519,
        asked: None,
        operation: Operation::Sign,
        digest: Digest::Sha256([7; 32]),
        principal: principal("writer"),
        request_id: request_id.parse().unwrap(),
        stream: "orders".parse().unwrap(),
        purpose: None,
        metadata: None,
        policy: PolicyRef { rule: "grant/orders".into(), sha256: Hash([1; 32]) },
        release: Rung::Durable,
        replay,
    })
}

pub(crate) fn signed(intent: Intent, byte: u8) -> Outcome {
    Outcome::signed(intent, SignatureBytes::new(vec![byte; 64]), None)
}

pub(crate) fn failed(intent: Intent) -> Outcome {
    let code: FailureCode = "backend-unavailable".parse().unwrap();
    Outcome::failed(intent, code, KeyUse::None)
}

fn checkpoint_key() -> (SigningKey, NoteVerifier) {
    let signer = SigningKey::from_bytes(&[0x24; 32]);
    let verifier = NoteVerifier::new(ORIGIN, signer.verifying_key().as_bytes()).unwrap();
    (signer, verifier)
}

pub(crate) fn checkpoint_verifier() -> NoteVerifier {
    checkpoint_key().1
}

/// A checkpoint as the ledger key would sign it.
pub(crate) fn checkpoint_of(head: TreeHead) -> VerifiedCheckpoint {
    let (signer, verifier) = checkpoint_key();
    let text = Checkpoint::new(origin(), head).text();
    let note = assemble(&text, &verifier, &signer.sign(text.as_bytes()).to_bytes()).unwrap();
    Checkpoint::verify(&note, &origin(), &[verifier]).unwrap()
}

/// A head as the ledger key would sign it for COSE receipts.
pub(crate) fn cose_head_of(head: TreeHead) -> VerifiedCoseHead {
    let (signer, verifier) = checkpoint_key();
    let statement = CoseStatement::of_head(CoseAlgorithm::EdDsa, origin(), head.size);
    let signature = signer.sign(&statement.to_be_signed(&head.root)).to_bytes();
    let keys = [LogKey::Ed25519(verifier)];
    VerifiedCoseHead::verify(statement.signed(signature.to_vec()), &head, &origin(), &keys).unwrap()
}

/// Signs and records the head as it is.
pub(crate) async fn checkpoint(roll: &Roll) -> TreeSize {
    let head = roll.head().head();
    roll.record_checkpoint(checkpoint_of(head)).await.unwrap();
    head.size
}

/// RFC 6962 §2.1, word for word, sharing nothing with the tree under test but SHA-256.
pub(crate) fn tree_hash(leaves: &[Vec<u8>]) -> Hash {
    match leaves {
        [] => Hash::of(&[]),
        [leaf] => Hash::of(&[&[0], leaf]),
        _ => {
            let split = leaves.len().next_power_of_two() / 2;
            let (left, right) = leaves.split_at(split);
            Hash::of(&[&[1], &tree_hash(left).0, &tree_hash(right).0])
        }
    }
}

/// One event, as far as tests look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) index: u64,
    pub(crate) id: String,
    pub(crate) event_type: String,
    pub(crate) stream: String,
    pub(crate) seq: u64,
    pub(crate) payload: String,
}

/// Reads the whole roll and recomputes everything that can be: leaves, streams, root, tiles, proofs, ids.
pub(crate) async fn audit(roll: &Roll) -> Vec<Seen> {
    let head = roll.head().head();
    let leaves = all_leaves(roll, head.size).await;
    assert_eq!(tree_hash(&leaves), head.root, "root of {} leaves", head.size);
    let seen = check_streams(&leaves);
    check_tiles(roll, &leaves).await;
    for (index, leaf) in (0..).zip(&leaves).step_by(1 + leaves.len() / 50) {
        let proof = roll.inclusion_proof(LeafIndex(index), head.size).await.unwrap();
        merkle::verify_inclusion(&merkle::leaf_hash(leaf), LeafIndex(index), &proof, &head).unwrap();
        let found = roll.find_event(seen[index as usize].id.parse().unwrap()).await.unwrap().unwrap();
        assert_eq!((found.index.0, &*found.bytes), (index, leaf.as_slice()));
        let size = TreeSize(index);
        let old = TreeHead { size, root: roll.root_at(size).await.unwrap() };
        assert_eq!(old.root, tree_hash(&leaves[..index as usize]));
        let proof = roll.consistency_proof(size, head.size).await.unwrap();
        merkle::verify_consistency(&old, &head, &proof).unwrap();
    }
    seen
}

async fn all_leaves(roll: &Roll, size: TreeSize) -> Vec<Vec<u8>> {
    let mut leaves = Vec::new();
    for number in 0..size.0.div_ceil(WIDTH) {
        let width = u8::try_from(size.0 - number * WIDTH).ok();
        let bundle = roll.bundle(number, width).await.unwrap().unwrap();
        leaves.extend(decode_bundle(&bundle).map(|leaf| leaf.unwrap().to_vec()));
    }
    assert_eq!(leaves.len() as u64, size.0);
    assert_eq!(roll.leaf(LeafIndex(size.0)).await.unwrap(), None);
    leaves
}

fn check_streams(leaves: &[Vec<u8>]) -> Vec<Seen> {
    let mut last: HashMap<String, (u64, Hash)> = HashMap::new();
    let mut seen = Vec::new();
    for (index, leaf) in (0..).zip(leaves) {
        let event = AuditEvent::parse(leaf).unwrap();
        let before = last.insert(event.stream.to_owned(), (event.seq, event.hash));
        let expected = before.map_or((0, None), |(seq, hash)| (seq + 1, Some(hash)));
        assert_eq!((event.seq, event.prev_hash), expected, "stream {} at {index}", event.stream);
        seen.push(Seen {
            index,
            id: event.id.into(),
            event_type: event.event_type.into(),
            stream: event.stream.into(),
            seq: event.seq,
            payload: event.payload.into(),
        });
    }
    seen
}

async fn check_tiles(roll: &Roll, leaves: &[Vec<u8>]) {
    let hashes: Vec<Hash> = leaves.iter().map(|leaf| merkle::leaf_hash(leaf)).collect();
    for (number, chunk) in (0..).zip(hashes.chunks(256)) {
        let width = u8::try_from(chunk.len()).ok();
        let tile = roll.tile(0, number, width).await.unwrap().unwrap();
        assert_eq!(decode_tile(&tile).unwrap(), chunk, "tile 0/{number}");
        let parent = (chunk.len() == 256).then(|| tree_hash(&leaves[number as usize * 256..][..256]));
        if let Some(parent) = parent {
            let width = u8::try_from(number % 256 + 1).ok();
            let above = roll.tile(1, number / 256, width).await.unwrap().unwrap();
            assert_eq!(decode_tile(&above).unwrap().last(), Some(&parent), "tile 1 over 0/{number}");
        }
    }
    let past = hashes.len() as u64 / 256;
    assert_eq!(roll.tile(0, past, None).await.unwrap(), None, "no full tile beyond the tree");
    assert_eq!(roll.tile(0, past + 1, Some(1)).await.unwrap(), None);
}

/// Starts a call: it has been handed to the writer and waits.
pub(crate) async fn begun<F: Future>(call: F) -> Pin<Box<F>> {
    let mut call = Box::pin(call);
    std::future::poll_fn(|context| {
        assert!(call.as_mut().poll(context).is_pending(), "the call should wait");
        Poll::Ready(())
    })
    .await;
    call
}

/// Waits for a condition, at most 20 s.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "still waiting for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Copies a directory as it lies on disk: what a sudden death leaves. The store tidies up in the background, and
/// a copy across that would be of no moment: it is taken again until nothing moved meanwhile.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    for _ in 0..500 {
        let before = listing(from);
        if before.iter().all(|(path, ..)| copy(from, to, path).is_ok()) && listing(from) == before {
            return;
        }
        std::fs::remove_dir_all(to).unwrap();
        std::fs::create_dir(to).unwrap();
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{} never rests", from.display());
}

/// Every file below, with its length and time.
fn listing(folder: &Path) -> Vec<(PathBuf, u64, Option<std::time::SystemTime>)> {
    let mut found = Vec::new();
    // What vanishes between two looks differs between two listings.
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            found.extend(listing(&entry.path()));
        } else {
            found.push((entry.path(), metadata.len(), metadata.modified().ok()));
        }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path, file: &Path) -> std::io::Result<()> {
    let target = to.join(file.strip_prefix(from).unwrap());
    std::fs::create_dir_all(target.parent().unwrap())?;
    std::fs::copy(file, target).map(|_| ())
}

/// An archive in memory that fails when told.
#[derive(Debug, Default)]
pub(crate) struct FaultyArchive {
    pub(crate) objects: Mutex<std::collections::BTreeMap<String, Vec<u8>>>,
    armed: Mutex<Option<(u32, Lose)>>,
    pub(crate) down: std::sync::atomic::AtomicBool,
    pub(crate) corrupt_reads_of: Mutex<Option<String>>,
    pub(crate) puts: AtomicU64,
    pub(crate) refuses_latest: std::sync::atomic::AtomicBool,
}

impl FaultyArchive {
    pub(crate) fn lose(&self, nth: u32, side: Lose) {
        *self.armed.lock().unwrap() = Some((nth, side));
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.objects.lock().unwrap().keys().cloned().collect()
    }

    fn reachable(&self) -> Result<(), ArchiveError> {
        match self.down.load(Ordering::SeqCst) {
            true => Err(ArchiveError::Unavailable("injected outage".into())),
            false => Ok(()),
        }
    }

    fn fault_now(&self) -> Option<Lose> {
        let mut armed = self.armed.lock().unwrap();
        let (nth, side) = (*armed)?;
        *armed = (nth > 0).then(|| (nth - 1, side));
        (nth == 0).then_some(side)
    }

    fn store(&self, name: &str, bytes: &[u8]) -> Result<Put, ArchiveError> {
        let mut objects = self.objects.lock().unwrap();
        match objects.get(name) {
            Some(there) if there == bytes => Ok(Put::AlreadyThere),
            Some(_) => Err(ArchiveError::Conflict(name.into())),
            None => {
                objects.insert(name.into(), bytes.into());
                Ok(Put::Stored)
            }
        }
    }
}

impl Archive for FaultyArchive {
    fn check_at_start(&self) -> Result<(), ArchiveError> {
        self.reachable()
    }

    fn put_latest(&self, before: Option<&[u8]>, bytes: &[u8]) -> Result<(), ArchiveError> {
        const NAME: &str = "checkpoint";
        self.reachable()?;
        if self.refuses_latest.load(Ordering::SeqCst) {
            return Err(ArchiveError::Refused("injected refusal".into()));
        }
        self.puts.fetch_add(1, Ordering::SeqCst);
        let fault = self.fault_now();
        if fault != Some(Lose::Before) {
            let mut objects = self.objects.lock().unwrap();
            if objects.get(NAME).map(Vec::as_slice) != before {
                return Err(ArchiveError::Conflict(NAME.into()));
            }
            objects.insert(NAME.into(), bytes.into());
        }
        fault.map_or(Ok(()), |_| Err(ArchiveError::Unavailable("injected fault".into())))
    }

    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<Put, ArchiveError> {
        self.reachable()?;
        self.puts.fetch_add(1, Ordering::SeqCst);
        let lost = || Err(ArchiveError::Unavailable("injected fault".into()));
        match self.fault_now() {
            None => self.store(name, bytes),
            Some(Lose::Before) => lost(),
            Some(Lose::After) => self.store(name, bytes).and_then(|_| lost()),
        }
    }

    fn get(&self, name: &str) -> Result<Vec<u8>, ArchiveError> {
        self.reachable()?;
        let objects = self.objects.lock().unwrap();
        let bytes = objects.get(name).cloned().ok_or_else(|| ArchiveError::NotFound(name.into()))?;
        match self.corrupt_reads_of.lock().unwrap().as_deref() == Some(name) {
            true => Ok(bytes.iter().map(|byte| byte ^ 1).collect()),
            false => Ok(bytes),
        }
    }

    fn list_after(&self, prefix: &str, after: Option<&str>, max: usize) -> Result<Vec<String>, ArchiveError> {
        self.reachable()?;
        let names = self.names().into_iter().filter(|name| name.starts_with(prefix));
        Ok(names.filter(|name| after.is_none_or(|after| name.as_str() > after)).take(max).collect())
    }
}

/// An epoch and a retry every few milliseconds.
pub(crate) fn ship_options() -> ShipperOptions {
    ShipperOptions {
        epoch_interval: Duration::from_millis(20),
        backoff_first: Duration::from_millis(2),
        backoff_max: Duration::from_millis(10),
        ..ShipperOptions::new(Arc::new(TestClock::default()), 7)
    }
}

/// Enrols so many events in three streams, and has a checkpoint made.
pub(crate) async fn grow(roll: &Roll, entries: u64) -> TreeSize {
    for start in (0..entries).step_by(1000) {
        let batch = (start..entries.min(start + 1000)).map(|n| (numbered(&format!("s/{}", n % 3), n), None));
        roll.enrol_events(batch.collect()).await.into_iter().for_each(|result| drop(result.unwrap()));
    }
    checkpoint(roll).await
}
