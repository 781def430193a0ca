//! The service in this process, put together as the daemon does it, on a disk, a device and an archive that
//! can be told to fail. Stopping it and starting it again is a restart: nothing but the folder stays.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chancery_format::event::AuditEvent;
use chancery_format::{LeafIndex, TreeSize, merkle};
use chancery_hsm::software::{DevelopmentOnly, SoftwareBackend};
use chancery_hsm::testing::{Faults, FaultyDevice};
use chancery_hsm::{Cost, KeySpec, Keyring};
use chancery_ledger::{Archive, DirectoryArchive, Roll, ShipError, Shipper, ShipperOptions};
use chancery_proxy::admission::policy::Policy;
use chancery_proxy::authenticate::{Authenticator, Peer, Session};
use chancery_proxy::chancery::{Chancery, KeyEntry, Parts};
use chancery_proxy::checkpointer::Checkpointer;
use chancery_proxy::config::{self, Config, Variables};
use chancery_proxy::daemon::SystemClock;
use chancery_proxy::daemon::reloading::{directory, grants};
use chancery_proxy::init::dev::{self, DevOptions};
use chancery_proxy::telemetry::Metrics;
use chancery_proxy::tls::Tls;
use chancery_proxy::{daemon, registry_publisher, routes};
use chancery_tests::rig::{binary, wait_for};
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde_json::Value;

use super::broken::{BrokenArchive, BrokenDisk};

/// How long a device may take; short, because one row lets it hang.
const SIGN_TIMEOUT: Duration = Duration::from_millis(300);

/// The folder of an installation, between restarts.
pub(crate) struct Installation {
    folder: tempfile::TempDir,
    config: Config,
}

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn is_good(&self) -> bool {
        self.status < 300
    }

    /// The problem's code; empty for a good reply.
    pub(crate) fn code(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap();
        body["code"].as_str().unwrap_or("").to_owned()
    }

    /// Where the ledger has what a good reply is about.
    fn index(&self) -> LeafIndex {
        let body: Value = serde_json::from_str(&self.body).unwrap();
        LeafIndex(body["receipt"]["index"].as_u64().unwrap())
    }

    /// What a good reply promised: the signature, the MAC or the event's hash.
    fn promise(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap();
        ["signature", "mac", "hash"].iter().find_map(|name| body[*name].as_str()).unwrap().to_owned()
    }
}

impl Installation {
    pub(crate) async fn new() -> Self {
        tokio::task::spawn_blocking(Self::make).await.unwrap()
    }

    fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = DevOptions {
            folder: folder.path().join("i"),
            address: "127.0.0.1:0".parse().unwrap(),
            ops_address: "127.0.0.1:0".parse().unwrap(),
            software: true,
        };
        let variables = Variables::of(&[("DEV_ALLOW_EPHEMERAL", "true")]);
        dev::make(&options, &variables).unwrap();
        let mut config = config::load(&options.folder.join("chancery.toml"), &variables).unwrap();
        config.limits.sign_timeout = SIGN_TIMEOUT;
        std::fs::create_dir_all(folder.path().join("i/archive")).unwrap();
        Self { folder, config }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("i").join(name)
    }

    pub(crate) fn archive(&self) -> Arc<dyn Archive> {
        Arc::new(DirectoryArchive::new(self.path("archive")))
    }

    /// Starts it; recovery has then closed what was open.
    pub(crate) async fn start(&self) -> Appliance {
        let config = &self.config;
        let disk = Arc::new(BrokenDisk::default());
        let mut options = daemon::ledger_options(config, Arc::new(|_| {})).unwrap();
        options.disk = Arc::clone(&disk) as _;
        let (roll, _) = tokio::task::block_in_place(|| Roll::open(options)).unwrap();

        let allowed = DevelopmentOnly::check(true, false).unwrap();
        let backend = &config.backends[0].name;
        let keys = SoftwareBackend::in_directory(backend, &self.path("keys"), allowed).unwrap();
        let device = FaultyDevice::new(Arc::new(keys), Cost::Blocking, 2);
        let faults = device.faults();
        let mut builder =
            Keyring::builder().ledger_key(config.ledger.signing_key.clone()).backend(Arc::new(device));
        for key in &config.keys {
            builder = builder.key(KeySpec {
                kid: key.kid.clone(),
                signer_kid: key.signer_kid.clone(),
                backend: key.backend.clone(),
                label: key.label.clone(),
                algorithm: key.algorithm,
                purpose: key.purpose.as_str().to_owned(),
                description: key.description.clone(),
                registered: None,
            });
        }
        let keyring = Arc::new(builder.build().unwrap());
        let signers = &config.ledger.signers_file;
        let registry = registry_publisher::publish(&roll, &keyring, &config.keys, signers).await.unwrap();
        let entries = config.keys.iter().map(|key| {
            let backend = &config.backend_of(key).unwrap().kind;
            KeyEntry::new(
                keyring.lookup(&key.kid).unwrap(),
                key,
                backend,
                key.kid == config.ledger.signing_key,
            )
        });
        let chancery = Arc::new(Chancery::new(Parts {
            checkpointed: TreeSize(0),
            archived: TreeSize(0),
            keys: entries.collect(),
            policy: Policy::compile(&grants(&config.principals), None).unwrap(),
            roll,
            keyring,
            registry,
            limits: config.limits.clone(),
            metrics: Arc::new(Metrics::new()),
            clock: Arc::new(SystemClock),
            request_id_prefix: 7,
        }));
        let tls = Arc::new(Tls::load(&config.service, UnixTime::now()).unwrap());
        let authenticator = Arc::new(Authenticator::new(tls, directory(&config.principals)));
        let chain = vec![CertificateDer::from_pem_file(self.path("client.crt")).unwrap()];
        let peer = Session::new(authenticator, "127.0.0.1:1".parse().unwrap(), chain).peer(UnixTime::now());
        let checkpointer = Checkpointer::new(Arc::clone(&chancery), Duration::from_secs(3_600));
        Appliance { chancery, checkpointer, disk, faults, peer }
    }

    /// Ships everything and has the auditors' own program look at all of it.
    pub(crate) async fn audit(&self, appliance: &Appliance) {
        appliance.checkpointer.once().await.unwrap();
        let shipper = tokio::task::block_in_place(|| appliance.ship(self.archive())).unwrap();
        let newest = appliance.chancery.roll.latest_checkpoint().unwrap().size;
        tokio::task::block_in_place(|| {
            wait_for("everything archived", || (shipper.status().archived >= newest).then_some(()));
        });
        drop(shipper);
        let mut verify = Command::new(binary("chancery-verify"));
        verify.arg("ledger").arg(self.path("archive")).arg("--signers").arg(self.path("signers.json"));
        let output = verify.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

/// A running service.
pub(crate) struct Appliance {
    pub(crate) chancery: Arc<Chancery>,
    pub(crate) checkpointer: Checkpointer,
    pub(crate) disk: Arc<BrokenDisk>,
    pub(crate) faults: Arc<Faults>,
    peer: Peer,
}

impl Appliance {
    /// One request, as the listener hands it over.
    pub(crate) async fn ask(&self, path: &str, key: &str, body: &str) -> Reply {
        let request = Request::post(path).header("content-type", "application/json");
        let request = request.header("idempotency-key", key).body(Full::new(Bytes::from(body.to_owned())));
        let response = routes::handle(Arc::clone(&self.chancery), self.peer.clone(), request.unwrap()).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Reply { status, body: String::from_utf8(body.to_vec()).unwrap() }
    }

    /// A shipper that tries again at once.
    pub(crate) fn ship(&self, archive: Arc<dyn Archive>) -> Result<Shipper, ShipError> {
        let options = ShipperOptions {
            epoch_interval: Duration::from_millis(5),
            backoff_first: Duration::from_millis(2),
            backoff_max: Duration::from_millis(10),
            ..ShipperOptions::new(Arc::new(SystemClock), 7)
        };
        Shipper::start(self.chancery.roll.clone(), archive, options)
    }

    pub(crate) fn ship_through(&self, archive: &Arc<BrokenArchive>) -> Result<Shipper, ShipError> {
        self.ship(Arc::clone(archive) as _)
    }

    /// Whether it would go on: the ledger has not stopped.
    pub(crate) fn goes_on(&self) -> bool {
        self.chancery.roll.fatal().is_none()
    }

    /// Ends it, so that the folder can be opened again.
    pub(crate) async fn end(self) {
        let Self { chancery, checkpointer, .. } = self;
        let roll = chancery.roll.clone();
        drop((chancery, checkpointer));
        roll.close().await;
    }

    /// What the ledger says of the request with this idempotency key: how its leaves ended, in order.
    pub(crate) async fn says_of(&self, key: &str) -> String {
        let (quoted, mut said) = (format!("\"{key}\""), Vec::new());
        for (_, leaf) in self.leaves().await {
            let event = AuditEvent::parse(&leaf).unwrap();
            if event.payload.contains(&quoted) {
                said.push(event.event_type.rsplit('.').next().unwrap().to_owned());
            }
        }
        said.join(" ")
    }

    async fn leaves(&self) -> Vec<(LeafIndex, Vec<u8>)> {
        let roll = &self.chancery.roll;
        let mut leaves = Vec::new();
        for index in (0..roll.head().head().size.0).map(LeafIndex) {
            leaves.push((index, roll.leaf(index).await.unwrap().unwrap().bytes.to_vec()));
        }
        leaves
    }

    /// The promises: all that was acknowledged is there, no intent is open, no stream has a gap or a fork,
    /// and the tree is the one of these leaves.
    pub(crate) async fn check(&self, acknowledged: &[Reply]) {
        let leaves = self.leaves().await;
        for reply in acknowledged {
            let (_, leaf) = &leaves[usize::try_from(reply.index().0).unwrap()];
            let text = String::from_utf8(leaf.clone()).unwrap();
            assert!(text.contains(&reply.promise()), "{} is not in {text}", reply.body);
        }
        assert_eq!(self.chancery.roll.open_intents(), 0);
        let mut heads = std::collections::HashMap::new();
        for (_, leaf) in &leaves {
            let event = AuditEvent::parse(leaf).unwrap();
            let before = heads.insert(event.stream.to_owned(), (event.seq, event.hash));
            assert_eq!(event.prev_hash, before.map(|(_, hash)| hash));
            assert_eq!(event.seq, before.map_or(0, |(seq, _)| seq + 1));
        }
        let hashes: Vec<_> = leaves.iter().map(|(_, leaf)| merkle::leaf_hash(leaf)).collect();
        let tree = merkle::Frontier::new().extend(&hashes);
        assert_eq!(tree.head(), self.chancery.roll.head().head());
    }
}
