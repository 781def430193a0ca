//! What outlives the daemon: disk, archive, devices, and the memory of what callers were told.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex};

use bytes::Bytes;
use chancery_format::{Hash, HashAlgorithm, Kid, Origin, Rung, SignatureAlgorithm, TreeHead};
use chancery_hsm::software::{DevelopmentOnly, SoftwareBackend};
use chancery_hsm::testing::{Fault, FaultyDevice};
use chancery_hsm::{Cost, KeyShape, KeySpec, Keyring};
use chancery_ledger::{OnFatal, Roll, RollOptions};
use chancery_proxy::authenticate::{Authenticator, Peer, Session};
use chancery_proxy::config::KeyConfig;
use chancery_proxy::daemon::SystemClock;
use chancery_proxy::registry_publisher::Known;
use chancery_proxy::tls::Tls;
use rustls_pki_types::UnixTime;

use crate::broken::{BrokenArchive, BrokenDisk};
use crate::common::{Files, ORDERS, directory};
use crate::words::Fails;

/// Name, algorithm, shape, release. The last is new at the start that a row may break.
const KEYS: [(&str, SignatureAlgorithm, KeyShape, Rung); 6] = [
    ("ledger", SignatureAlgorithm::Ed25519, KeyShape::Ed25519, Rung::Durable),
    ("orders", SignatureAlgorithm::EcdsaP256Sha256, KeyShape::P256, Rung::Durable),
    ("sealed", SignatureAlgorithm::Ed25519, KeyShape::Ed25519, Rung::Checkpointed),
    ("kept", SignatureAlgorithm::Ed25519, KeyShape::Ed25519, Rung::Archived),
    ("tags", SignatureAlgorithm::HmacSha256, KeyShape::Hmac(HashAlgorithm::Sha256), Rung::Durable),
    ("late", SignatureAlgorithm::Ed25519, KeyShape::Ed25519, Rung::Durable),
];

/// The caller, as TLS verified it.
static CALLER: LazyLock<Peer> = LazyLock::new(|| {
    let files = Files::new();
    let tls = Arc::new(Tls::load(&files.listener(), UnixTime::now()).unwrap());
    let authenticator = Arc::new(Authenticator::new(tls, directory(&[ORDERS])));
    let chain = files.authority.client(100, ORDERS).chain;
    Session::new(authenticator, "127.0.0.1:40000".parse().unwrap(), chain).peer(UnixTime::now())
});

pub(crate) struct World {
    folder: tempfile::TempDir,
    pub(crate) disk: Arc<BrokenDisk>,
    pub(crate) archive: Arc<BrokenArchive>,
    /// Holds the callers' keys: one session.
    device: Arc<FaultyDevice>,
    /// Holds the ledger's key.
    safe: Arc<FaultyDevice>,
    /// Every 200 and 201 that was sent.
    pub(crate) acknowledged: Mutex<Vec<Bytes>>,
    /// Every tree head that was seen.
    pub(crate) heads: Mutex<Vec<TreeHead>>,
}

impl World {
    /// A new ledger, an empty archive.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("archive");
        std::fs::create_dir(&archive).unwrap();
        let world = Self {
            disk: Arc::default(),
            archive: Arc::new(BrokenArchive::new(archive)),
            device: device("device", |kid| kid != "ledger"),
            safe: device("safe", |kid| kid == "ledger"),
            acknowledged: Mutex::default(),
            heads: Mutex::default(),
            folder,
        };
        drop(Roll::create(world.roll_options(Arc::new(|fatal| panic!("{fatal}")))).unwrap());
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn caller(&self) -> Peer {
        CALLER.clone()
    }

    pub(crate) fn break_it(&self, fails: Fails) {
        match fails {
            Fails::Store(write, side) => self.disk.lose(write, side),
            Fails::Key(fault) => self.device.faults().set(fault),
            Fails::KeyOnce(fault) => self.device.faults().set_once(fault),
            Fails::KeyBusy => self.device.faults().set(Fault::Hang),
            Fails::LedgerKey(fault) => self.safe.faults().set(fault),
            _ => self.archive.break_it(fails),
        }
    }

    /// All is sound again. A lost commit needs no repair: it happens once.
    pub(crate) fn repair(&self) {
        self.device.faults().set(Fault::None);
        self.safe.faults().set(Fault::None);
        self.archive.repair();
    }

    /// Whether the fault was met: a row that breaks nothing proves nothing.
    pub(crate) fn was_met(&self, fails: Fails) -> bool {
        match fails {
            Fails::Store(..) => !self.disk.is_armed(),
            Fails::Key(_) | Fails::KeyOnce(_) | Fails::KeyBusy => self.device.faults().asked() > 0,
            Fails::LedgerKey(_) => self.safe.faults().asked() > 0,
            _ => self.archive.failed() > 0,
        }
    }

    pub(crate) fn roll_options(&self, on_fatal: OnFatal) -> RollOptions {
        let (origin, signer) = (origin(), "ledger-v1".parse().unwrap());
        let mut options =
            RollOptions::new(self.path("ledger"), origin, signer, Arc::new(SystemClock), on_fatal);
        options.limits.reserve_bytes = 1 << 20;
        options.disk = self.disk.clone();
        options
    }

    pub(crate) fn keyring(&self, known: Option<&chancery_format::SignersRegistry>, late: bool) -> Keyring {
        let known = Known::of(known).unwrap();
        let mut builder = Keyring::builder()
            .backend_with_queue(self.device.clone(), 1)
            .backend(self.safe.clone())
            .ledger_key("ledger".parse().unwrap());
        for key in keys(late) {
            builder = builder.key(KeySpec {
                registered: known.key(&key.signer_kid),
                purpose: key.purpose.as_str().to_owned(),
                kid: key.kid,
                signer_kid: key.signer_kid,
                backend: key.backend,
                label: key.label,
                algorithm: key.algorithm,
                description: key.description,
            });
        }
        builder.build().unwrap()
    }
}

pub(crate) fn origin() -> Origin {
    "log.example/faults".parse().unwrap()
}

/// The configured keys, with the new one or without.
pub(crate) fn keys(late: bool) -> Vec<KeyConfig> {
    let configured = KEYS.into_iter().filter(|(kid, ..)| late || *kid != "late");
    let configured = configured.map(|(kid, algorithm, _, release)| KeyConfig {
        co_signer: None,
        anchored: false,
        dialects: Vec::new(),
        aliases: Vec::new(),
        requested_by: None,
        kid: kid.parse::<Kid>().unwrap(),
        signer_kid: format!("{kid}-v1").parse().unwrap(),
        backend: if kid == "ledger" { "safe" } else { "device" }.to_owned(),
        label: kid.to_owned(),
        algorithm,
        purpose: "test".parse().unwrap(),
        description: String::new(),
        release,
    });
    configured.collect()
}

/// A device whose driver blocks, with the keys it is to hold.
fn device(name: &str, holds: impl Fn(&str) -> bool) -> Arc<FaultyDevice> {
    let keys = SoftwareBackend::ephemeral(name, DevelopmentOnly::check(true, false).unwrap());
    for (kid, _, shape, _) in KEYS.iter().filter(|(kid, ..)| holds(kid)) {
        keys.generate_key(kid, *shape).unwrap();
    }
    Arc::new(FaultyDevice::new(Arc::new(keys), Cost::Blocking, 1))
}

/// Roots of the tree over `leaves`, by size.
pub(crate) fn roots(leaves: &[Vec<u8>]) -> Vec<Hash> {
    let mut frontier = chancery_format::merkle::Frontier::new();
    let mut roots = vec![frontier.root()];
    for leaf in leaves {
        frontier.push(chancery_format::merkle::leaf_hash(leaf));
        roots.push(frontier.root());
    }
    roots
}
