//! A whole service in this process: a real ledger in a temporary folder, real keys in software, faults
//! on command. Requests enter where the listener hands them over.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chancery_format::entry::CoSigner;
use chancery_format::registry::{KeyState, LedgerSection, SignerRecord};
use chancery_format::{
    HashAlgorithm, Kid, LeafIndex, Origin, Rung, SignatureAlgorithm, SignersRegistry, Timestamp, TreeSize,
};
use chancery_hsm::software::{DevelopmentOnly, SoftwareBackend};
use chancery_hsm::testing::{Fault, Faults, FaultyDevice};
use chancery_hsm::{Cost, KeyShape, KeySpec, Keyring, Registered, RsaBits};
use chancery_ledger::{Clock, Roll, RollOptions, SecondOpinion};
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, Response};
use serde_json::Value;

use crate::admission::allowance::Allowances;
use crate::admission::authority::Authority;
use crate::admission::policy::{Grant, Operation, Policy};
use crate::admission::rate_limit::Rate;
use crate::authenticate::{IdentityError, Peer, Principal};
use crate::chancery::{Chancery, KeyEntry, Lanes, Parts, PublishedRegistry};
use crate::config::Intents;
use crate::cose::CoseHeads;
use crate::governance::Governance;
use crate::limits::Limits;
use crate::telemetry::Metrics;

/// A principal that may do everything with most keys.
pub(super) const ORDERS: &str = "spiffe://demo.example/service/orders";
/// One that may sign, write and read, but sees no payloads of others.
pub(super) const CLERK: &str = "spiffe://demo.example/service/clerk";
/// One that may read everything, payloads included.
pub(super) const AUDITOR: &str = "spiffe://demo.example/person/auditor";
/// One that may sign with one key, twice.
pub(super) const HASTY: &str = "spiffe://demo.example/service/hasty";

const ORIGIN: &str = "log.example/test";
const DEADLINE: Duration = Duration::from_secs(20);

/// kid, algorithm, shape.
const KEYS: [(&str, SignatureAlgorithm, KeyShape); 9] = [
    ("ledger", SignatureAlgorithm::Ed25519, KeyShape::Ed25519),
    ("orders", SignatureAlgorithm::Ed25519, KeyShape::Ed25519),
    ("orders-p256", SignatureAlgorithm::EcdsaP256Sha256, KeyShape::P256),
    ("orders-pss", SignatureAlgorithm::RsaPssSha256, KeyShape::Rsa(RsaBits::B2048)),
    ("tags", SignatureAlgorithm::HmacSha256, KeyShape::Hmac(HashAlgorithm::Sha256)),
    ("dual", SignatureAlgorithm::EcdsaP256Sha256, KeyShape::P256),
    ("dual-pq", SignatureAlgorithm::MlDsa65, KeyShape::MlDsa65),
    ("sealed", SignatureAlgorithm::Ed25519, KeyShape::Ed25519),
    ("private", SignatureAlgorithm::Ed25519, KeyShape::Ed25519),
];

/// A clock that moves a millisecond each time it is read.
struct Ticking(AtomicI64);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_ms(self.0.fetch_add(1, Ordering::Relaxed)).unwrap()
    }
}

/// What a test may want otherwise.
pub(super) struct Choices {
    pub(super) limits: Limits,
    pub(super) intents: Intents,
    pub(super) lanes: Lanes,
    pub(super) cost: Cost,
    pub(super) checkpointer: bool,
    pub(super) cose: bool,
    pub(super) grease: bool,
}

impl Default for Choices {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            intents: Intents::Always,
            lanes: Lanes::Cores,
            cost: Cost::Inline,
            checkpointer: true,
            cose: false,
            grease: false,
        }
    }
}

pub(super) struct Rig {
    pub(super) chancery: Arc<Chancery>,
    pub(super) faults: Arc<Faults>,
    _stop: tokio::sync::watch::Sender<bool>,
    _folder: tempfile::TempDir,
}

/// A reply, read to its end.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HashMap<String, String>,
    pub(super) bytes: Bytes,
}

impl Answer {
    pub(super) async fn read(response: Response<Full<Bytes>>) -> Self {
        let (parts, body) = response.into_parts();
        let headers = parts.headers.iter();
        Self {
            status: parts.status.as_u16(),
            headers: headers
                .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
                .collect(),
            bytes: body.collect().await.unwrap().to_bytes(),
        }
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|_| panic!("not JSON: {:?}", self.bytes))
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap()
    }

    #[track_caller]
    pub(super) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:?}", self.bytes);
        self
    }

    #[track_caller]
    pub(super) fn expect_code(self, status: u16, code: &str) -> Self {
        let answer = self.expect(status);
        let problem = answer.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], format!("urn:chancery:problem:{code}"));
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert_eq!(problem["requestId"], answer.headers["x-request-id"]);
        assert_eq!(answer.headers.contains_key("retry-after"), matches!(status, 429 | 503));
        answer
    }
}

impl Rig {
    pub(super) async fn start() -> Self {
        Self::start_with(Choices::default()).await
    }

    pub(super) async fn start_with(choices: Choices) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (keyring, faults) = keyring(&choices);
        let origin: Origin = ORIGIN.parse().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(Ticking(AtomicI64::new(1_790_000_000_000)));
        let registry = registry(&keyring, &origin);
        let dir = folder.path().join("ledger");
        let signer_kid = "ledger-v1".parse().unwrap();
        let on_fatal = Arc::new(|fatal: &chancery_ledger::Fatal| panic!("{fatal}"));
        let mut options = RollOptions::new(&dir, origin.clone(), signer_kid, Arc::clone(&clock), on_fatal);
        options.limits.reserve_bytes = 1 << 20;
        let roll = Roll::create(options).unwrap();
        let keys = entries(&keyring, &choices);
        let keyring = Arc::new(keyring);
        let governance = Governance::recover(&roll, &keyring, Arc::clone(&clock)).await.unwrap();
        let chancery = Arc::new(Chancery::new(Parts {
            allowances: Allowances::new(0),
            governance,
            hooks: Default::default(),
            authority: Authority::built_in("development").unwrap(),
            roll,
            keyring,
            keys,
            policy: policy(),
            registry,
            chains: Vec::new(),
            checkpointed: TreeSize(0),
            witnessed: TreeSize(0),
            witness_kids: Vec::new(),
            archived: TreeSize(0),
            cose: choices.cose.then(|| CoseHeads::new(None)),
            grease: choices.grease,
            limits: choices.limits,
            metrics: Arc::new(Metrics::new()),
            clock,
            request_id_prefix: 0x0123_4567_89ab_cdef,
        }));
        let (stop, stopped) = tokio::sync::watch::channel(false);
        tokio::spawn(crate::cose::run(Arc::clone(&chancery), Duration::from_millis(5), stopped));
        if choices.checkpointer {
            tokio::spawn(checkpoint_on_demand(Arc::clone(&chancery), origin));
        }
        Self { chancery, faults, _stop: stop, _folder: folder }
    }

    /// Leaves on the ledger.
    pub(super) fn size(&self) -> u64 {
        self.chancery.roll.head().head().size.0
    }

    pub(super) async fn send(&self, who: Option<&str>, request: Request<Full<Bytes>>) -> Answer {
        let peer = peer(who);
        Answer::read(crate::routes::handle(Arc::clone(&self.chancery), peer, request).await).await
    }

    pub(super) async fn get(&self, who: &str, path: &str) -> Answer {
        self.send(Some(who), request(Method::GET, path, "", &[])).await
    }

    pub(super) async fn post(&self, who: &str, path: &str, body: &Value) -> Answer {
        self.send(Some(who), post(path, body, &[])).await
    }

    pub(super) async fn post_with_key(&self, who: &str, path: &str, body: &Value, key: &str) -> Answer {
        self.send(Some(who), post(path, body, &[("idempotency-key", key)])).await
    }

    /// Every leaf from `from` on, as JSON.
    pub(super) async fn leaves_from(&self, from: u64) -> Vec<Value> {
        let mut leaves = Vec::new();
        for index in from..self.size() {
            let leaf = self.chancery.roll.leaf(LeafIndex(index)).await.unwrap().unwrap();
            leaves.push(serde_json::from_slice(&leaf.bytes).unwrap());
        }
        leaves
    }

    /// Waits, within a deadline, until the ledger has this many leaves.
    pub(super) async fn wait_for_size(&self, size: u64) {
        wait_until(|| self.size() >= size).await;
    }
}

/// Polls within a deadline.
pub(super) async fn wait_until(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !done() {
        assert!(Instant::now() < deadline, "it did not happen in time");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub(super) fn peer(who: Option<&str>) -> Peer {
    let remote = "127.0.0.1:40000".parse().unwrap();
    match who {
        Some(name) => Peer::new(remote, Ok(Arc::new(Principal::for_test(name)))),
        None => Peer::new(remote, Err(IdentityError::NoCertificate)),
    }
}

pub(super) fn request(
    method: Method,
    path: &str,
    body: &str,
    headers: &[(&str, &str)],
) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap()
}

pub(super) fn post(path: &str, body: &Value, headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let headers = [&[("content-type", "application/json")], headers].concat();
    request(Method::POST, path, &body.to_string(), &headers)
}

/// A digest that is told apart by its number.
pub(super) fn digest(number: u64) -> String {
    format!("{number:064x}")
}

pub(super) fn sign_body(kid: &str, number: u64) -> Value {
    serde_json::json!({ "kid": kid, "digest": digest(number), "digestAlgorithm": "sha256" })
}

/// Base64 as the API has it.
pub(super) fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn keyring(choices: &Choices) -> (Keyring, Arc<Faults>) {
    let allowed = DevelopmentOnly::check(true, false).unwrap();
    let software = |name: &str, ledger: bool| {
        let backend = SoftwareBackend::ephemeral(name, allowed);
        for (kid, _, shape) in KEYS.iter().filter(|(kid, ..)| (*kid == "ledger") == ledger) {
            backend.generate_key(kid, *shape).unwrap();
        }
        Arc::new(backend)
    };
    // The ledger's key is on a device of its own, which no test breaks.
    let device = FaultyDevice::new(software("device", false), choices.cost, 2);
    let faults = device.faults();
    let mut builder = Keyring::builder().backend(Arc::new(device)).backend(software("safe", true));
    for (kid, algorithm, _) in KEYS {
        builder = builder.key(KeySpec {
            kid: kid.parse().unwrap(),
            signer_kid: format!("{kid}-v1").parse().unwrap(),
            backend: if kid == "ledger" { "safe" } else { "device" }.to_owned(),
            label: kid.to_owned(),
            algorithm,
            purpose: "test".to_owned(),
            description: "a test key".to_owned(),
            registered: Registered::No,
        });
    }
    (builder.ledger_key("ledger".parse().unwrap()).build().unwrap(), faults)
}

fn entries(keyring: &Keyring, choices: &Choices) -> Vec<KeyEntry> {
    let entry = |(kid, algorithm, _): (&str, SignatureAlgorithm, KeyShape)| {
        let kid: Kid = kid.parse().unwrap();
        let info = keyring.lookup(&kid).unwrap();
        KeyEntry {
            co_signer: (kid.as_str() == "dual").then(|| CoSigner {
                kid: "dual-pq".parse().unwrap(),
                signer_kid: "dual-pq-v1".parse().unwrap(),
                algorithm: SignatureAlgorithm::MlDsa65,
            }),
            anchored: kid.as_str() == "sealed",
            dialects: Vec::new(),
            aliases: Vec::new(),
            signer_kid: info.signer_kid.clone(),
            algorithm,
            purpose: "test".parse().unwrap(),
            description: "a test key".to_owned(),
            release: if kid.as_str() == "sealed" { Rung::Checkpointed } else { Rung::Durable },
            intents: choices.intents,
            lanes: choices.lanes,
            is_ledger_key: kid.as_str() == "ledger",
            public_key_pem: info.public_key.as_ref().map(|key| key.to_pem()),
            kid,
        }
    };
    KEYS.into_iter().map(entry).collect()
}

fn registry(keyring: &Keyring, origin: &Origin) -> PublishedRegistry {
    let signers = KEYS.iter().map(|(kid, algorithm, _)| {
        let kid: Kid = kid.parse().unwrap();
        let info = keyring.lookup(&kid).unwrap();
        SignerRecord {
            signer_kid: info.signer_kid.clone(),
            kid: Some(kid),
            algorithm: *algorithm,
            public_key_pem: info.public_key.as_ref().map(|key| key.to_pem()),
            purpose: "test".to_owned(),
            state: KeyState::Active,
            deployed_at: Timestamp::from_unix_ms(1_790_000_000_000).unwrap(),
            retired_at: None,
            activated_index: Some(0),
            retired_index: None,
            compromised_since: None,
            description: "a test key".to_owned(),
        }
    });
    let vkeys = vec![keyring.note_verifier(origin).unwrap().vkey()];
    let ledger = LedgerSection { origin: origin.clone(), vkeys, policy: None };
    let registry = SignersRegistry::new(ledger, signers.collect()).unwrap();
    PublishedRegistry::read(1, registry.to_json().unwrap(), "a note\n".to_owned()).unwrap()
}

fn policy() -> Policy {
    let grant =
        |name: &str, kids: &[&str], operations: &[Operation], streams: &[&str], read_payloads, rate| Grant {
            principal: name.parse().unwrap(),
            kids: kids.iter().map(|kid| kid.parse().unwrap()).collect(),
            operations: operations.to_vec(),
            streams: streams.iter().map(|stream| stream.parse().unwrap()).collect(),
            read_payloads,
            rate,
            groups: Vec::new(),
            daily_quota: None,
            dialects: crate::dialects::Dialect::ALL.to_vec(),
            default_kid: None,
        };
    let fast = Rate { per_second: 1_000_000, burst: 1_000_000 };
    let slow = Rate { per_second: 1, burst: 2 };
    let all_kids = ["ledger", "orders", "orders-p256", "orders-pss", "tags", "dual", "sealed", "missing"];
    let clerk = [Operation::Sign, Operation::Events, Operation::Read];
    let auditor = [Operation::Read, Operation::Keys];
    let grants = [
        grant(ORDERS, &all_kids, &Operation::ALL, &["orders/*"], false, fast),
        grant(CLERK, &["orders"], &clerk, &["orders/eu"], false, fast),
        grant(AUDITOR, &[], &auditor, &["*"], true, fast),
        grant(HASTY, &["orders"], &[Operation::Sign], &[], false, slow),
    ];
    Policy::compile(&grants, None).unwrap()
}

/// What the daemon's checkpointer does when asked.
async fn checkpoint_on_demand(chancery: Arc<Chancery>, origin: Origin) {
    loop {
        chancery.progress.checkpoint_wanted().await;
        let head = SecondOpinion::new(chancery.roll.clone()).confirm(chancery.roll.head()).await.unwrap();
        let deadline = Instant::now() + DEADLINE;
        let at = chancery.now().into();
        let note = chancery.keyring.sign_checkpoint(&head, &origin, at, deadline).await.unwrap();
        let keys = chancery.keyring.ledger_keys(&origin).unwrap();
        let checkpoint = keys.verify(&note).unwrap();
        chancery.roll.record_checkpoint(checkpoint).await.unwrap();
        if let Some(cose) = &chancery.cose {
            cose.offer(head, keys);
        }
        chancery.progress.checkpointed(head.head().size);
    }
}

/// Makes the device do this from now on.
pub(super) fn break_device(rig: &Rig, fault: Fault) {
    rig.faults.set(fault);
}
