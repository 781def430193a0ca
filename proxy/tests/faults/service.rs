//! The service, assembled as `daemon/assemble.rs` does, over a [`World`] that may break.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chancery_format::entry::policy_loaded;
use chancery_format::policy::Policy as WitnessPolicy;
use chancery_format::{LeafIndex, TreeSize};
use chancery_hsm::BackendHealth;
use chancery_ledger::{OpenError, Roll, Shipper, ShipperOptions};
use chancery_proxy::admission::allowance::Allowances;
use chancery_proxy::admission::authority::Authority;
use chancery_proxy::admission::policy::{Grant, Operation, Policy};
use chancery_proxy::admission::rate_limit::Rate;
use chancery_proxy::archiving::Archiving;
use chancery_proxy::chancery::{Chancery, KeyEntry, Lanes, Parts};
use chancery_proxy::checkpointer::Checkpointer;
use chancery_proxy::config::Intents;
use chancery_proxy::daemon::SystemClock;
use chancery_proxy::governance::{Governance, Succession};
use chancery_proxy::limits::Limits;
use chancery_proxy::telemetry::Metrics;
use chancery_proxy::{refusals, registry_publisher, routes};
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::common::{ORDERS, SOON, until};
use crate::words::Asked;
use crate::world::{World, keys};

/// Checkpoints and epochs come this often; nothing waits for longer than it must.
const CADENCE: Duration = Duration::from_millis(5);

pub(crate) struct Service {
    world: Arc<World>,
    pub(crate) chancery: Arc<Chancery>,
    archiving: Archiving,
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
    fatal: mpsc::Receiver<String>,
    /// Intents that were found open.
    pub(crate) abandoned: Vec<LeafIndex>,
}

/// A reply, read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self.status, 200 | 201)
    }
}

impl Service {
    /// Starts the daemon, with the late key or without; the error says why it does not start.
    pub(crate) async fn start(world: &Arc<World>, late: bool, limits: Limits) -> Result<Self, String> {
        let (report, fatal) = mpsc::channel(1);
        let (roll, recovered) = open(world, report).await.map_err(|error| error.to_string())?;
        match assemble(world, roll.clone(), late, limits).await {
            Ok((chancery, archiving)) => {
                Ok(Self::serve(Arc::clone(world), chancery, archiving, fatal, recovered.abandoned))
            }
            Err(reason) => {
                roll.close().await;
                Err(reason)
            }
        }
    }

    /// Starts what runs on a cadence.
    fn serve(
        world: Arc<World>,
        chancery: Chancery,
        archiving: Archiving,
        fatal: mpsc::Receiver<String>,
        abandoned: Vec<LeafIndex>,
    ) -> Self {
        let (chancery, stop) = (Arc::new(chancery), watch::Sender::new(false));
        let mut tasks = JoinSet::new();
        let (checkpointer, stopped) = (Checkpointer::new(Arc::clone(&chancery), CADENCE), stop.subscribe());
        tasks.spawn(async move { checkpointer.run(stopped).await });
        tasks.spawn(refusals::run(Arc::clone(&chancery)));
        tasks.spawn(archiving.watch_lag(Arc::clone(&chancery), stop.subscribe()));
        Self { world, chancery, archiving, tasks, stop, fatal, abandoned }
    }

    /// Asks as the listener does. What is acknowledged is remembered.
    pub(crate) async fn ask(&self, asked: Asked, number: u64, key: &str) -> Answer {
        let (path, body) = asked.request(number);
        self.send(path, &body, key).await
    }

    pub(crate) async fn send(&self, path: &str, body: &Value, key: &str) -> Answer {
        send(Arc::clone(&self.world), Arc::clone(&self.chancery), post(path, body, key)).await
    }

    /// Asks, and does not wait for the answer.
    pub(crate) fn begin(&self, asked: Asked, number: u64) -> JoinHandle<Answer> {
        let (path, body) = asked.request(number);
        let request = post(path, &body, &format!("k-{number}"));
        tokio::spawn(send(Arc::clone(&self.world), Arc::clone(&self.chancery), request))
    }

    /// The device of the callers' keys, as an operator sees it.
    pub(crate) fn device(&self) -> BackendHealth {
        let devices = self.chancery.keyring.health();
        devices.into_iter().find(|device| device.name == "device").unwrap()
    }

    /// The same, again and again while the answer says "retry".
    pub(crate) async fn ask_patiently(&self, asked: Asked, number: u64, key: &str) -> Answer {
        let patience = async {
            loop {
                let answer = self.ask(asked, number, key).await;
                if answer.status != 503 {
                    return answer;
                }
                tokio::time::sleep(CADENCE).await;
            }
        };
        tokio::time::timeout(SOON, patience).await.unwrap()
    }

    /// Waits until everything is under a checkpoint and in the archive. Backends are asked for signs of
    /// life, as the daemon does every few seconds.
    pub(crate) async fn settle(&self) {
        self.chancery.keyring.probe(SOON).await;
        let (progress, roll) = (&self.chancery.progress, &self.chancery.roll);
        until(|| {
            let size = roll.head().head().size;
            progress.checkpointed_size() == size && progress.archived_size() == size
        })
        .await;
        self.world.heads.lock().unwrap().push(roll.head().head());
    }

    /// Waits until admission has closed.
    pub(crate) async fn closed(&self) {
        until(|| self.chancery.admission.is_archive_behind()).await;
    }

    /// Why the ledger stopped, which ends the daemon.
    pub(crate) async fn stopped(&mut self) -> String {
        tokio::time::timeout(SOON, self.fatal.recv()).await.unwrap().unwrap()
    }

    /// Whether the ledger can go on.
    pub(crate) fn is_alive(&self) -> bool {
        self.chancery.roll.fatal().is_none()
    }

    /// The process is gone, without drain, last checkpoint or last epoch.
    pub(crate) async fn die(self) {
        let Self { chancery, archiving, mut tasks, stop, .. } = self;
        stop.send_replace(true);
        tasks.shutdown().await;
        drop(tokio::task::spawn_blocking(move || drop(archiving)).await);
        let roll = chancery.roll.clone();
        drop(chancery);
        roll.close().await;
    }
}

fn post(path: &str, body: &Value, key: &str) -> Request<Full<Bytes>> {
    let request = Request::post(path).header("content-type", "application/json");
    request.header("idempotency-key", key).body(Full::new(Bytes::from(body.to_string()))).unwrap()
}

async fn send(world: Arc<World>, chancery: Arc<Chancery>, request: Request<Full<Bytes>>) -> Answer {
    let reply = routes::handle(Arc::clone(&chancery), world.caller(), request);
    let (parts, body) = tokio::time::timeout(SOON, reply).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let answer = Answer { status: parts.status.as_u16(), body };
    if answer.is_done() {
        world.acknowledged.lock().unwrap().push(answer.body.clone());
    }
    world.heads.lock().unwrap().push(chancery.roll.head().head());
    answer
}

/// Opens the ledger. A thread of the process before may still hold it for a moment.
async fn open(
    world: &Arc<World>,
    report: mpsc::Sender<String>,
) -> Result<(Roll, chancery_ledger::Recovered), OpenError> {
    let patience = async {
        loop {
            let (world, report) = (Arc::clone(world), report.clone());
            let opened = tokio::task::spawn_blocking(move || {
                Roll::open(
                    world.roll_options(Arc::new(move |fatal| drop(report.try_send(fatal.to_string())))),
                )
            });
            match opened.await.unwrap() {
                Err(OpenError::Locked(_)) => tokio::time::sleep(CADENCE).await,
                opened => return opened,
            }
        }
    };
    tokio::time::timeout(SOON, patience).await.unwrap()
}

async fn assemble(
    world: &Arc<World>,
    roll: Roll,
    late: bool,
    limits: Limits,
) -> Result<(Chancery, Archiving), String> {
    let metrics = Arc::new(Metrics::new());
    let policy = policy();
    let known = registry_publisher::last(&roll).await.map_err(|error| error.to_string())?;
    let keyring = Arc::new(world.keyring(known.as_ref().map(|(_, registry)| registry), late));
    let succession = Succession { current: keys(late), ..Succession::default() };
    let published = registry_publisher::publish(
        &roll,
        &keyring,
        &succession,
        &WitnessPolicy::default(),
        &world.path("signers.json"),
    )
    .await;
    let registry = published.map_err(|error| error.to_string())?;
    let archiving = archiving(world, &roll, &metrics).await?;
    roll.enrol_event(policy_loaded(&policy.sha256()), None).await.map_err(|error| error.to_string())?;
    let keys = keys(late).into_iter().map(|key| {
        let info = keyring.lookup(&key.kid).unwrap();
        KeyEntry {
            co_signer: None,
            anchored: false,
            dialects: Vec::new(),
            aliases: Vec::new(),
            is_ledger_key: key.kid.as_str() == "ledger",
            public_key_pem: info.public_key.as_ref().map(|key| key.to_pem()),
            kid: key.kid,
            signer_kid: key.signer_kid,
            algorithm: key.algorithm,
            purpose: key.purpose,
            description: key.description,
            release: key.release,
            intents: Intents::Always,
            lanes: Lanes::Sessions(1),
        }
    });
    let keys = keys.collect();
    let governance = Governance::recover(&roll, &keyring, Arc::new(SystemClock)).await;
    let chancery = Chancery::new(Parts {
        allowances: Allowances::new(0),
        chains: Vec::new(),
        hooks: Default::default(),
        authority: Authority::built_in("development").unwrap(),
        governance: governance.map_err(|error| error.to_string())?,
        checkpointed: roll.latest_checkpoint().map_or(TreeSize(0), |latest| latest.size),
        witnessed: TreeSize(0),
        witness_kids: Vec::new(),
        archived: archiving.archived(),
        cose: None,
        grease: false,
        roll,
        keyring,
        keys,
        policy,
        registry,
        limits,
        metrics,
        clock: Arc::new(SystemClock),
        request_id_prefix: 1,
    });
    Ok((chancery, archiving))
}

/// Compares the archive with the ledger and starts shipping.
async fn archiving(world: &Arc<World>, roll: &Roll, metrics: &Arc<Metrics>) -> Result<Archiving, String> {
    let mut options = ShipperOptions::new(Arc::new(SystemClock), 7);
    options.epoch_interval = CADENCE;
    (options.backoff_first, options.backoff_max) = (CADENCE, 4 * CADENCE);
    let (roll, archive) = (roll.clone(), world.archive.clone());
    let shipper = tokio::task::spawn_blocking(move || Shipper::start(roll, archive, options));
    let shipper = shipper.await.unwrap().map_err(|error| error.to_string())?;
    Ok(Archiving::over(shipper, 1_000_000, SOON * 100, Arc::clone(metrics)))
}

/// One caller that may do everything.
fn policy() -> Policy {
    let kids = ["orders", "sealed", "kept", "tags"];
    let grant = Grant {
        principal: ORDERS.parse().unwrap(),
        kids: kids.iter().map(|kid| kid.parse().unwrap()).collect(),
        operations: Operation::ALL.to_vec(),
        streams: Vec::new(),
        read_payloads: true,
        rate: Rate { per_second: 1_000_000, burst: 1_000_000 },
        groups: Vec::new(),
        daily_quota: None,
        dialects: chancery_proxy::dialects::Dialect::ALL.to_vec(),
        default_kid: None,
    };
    Policy::compile(&[grant], None).unwrap()
}
