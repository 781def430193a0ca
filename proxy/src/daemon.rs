//! Builds the service, wires its parts, and takes it down without losing what it accepted.
//!
//! The only place where the real clock and real randomness are born. Nothing is bound before everything
//! else is known to be right: keys are the registered ones, the ledger lost nothing, the archive is not
//! ahead of it.
//!
//! Taking down, in this order: no new connections and no new work · requests under way are answered ·
//! key uses that run detached are waited for · what was coalesced is enrolled · one last checkpoint · one
//! last attempt to archive it · the ledger is closed.

mod assemble;
pub mod backends;
pub mod failure;
pub mod halting;
mod notify;
pub mod reloading;
pub mod seclusion;
pub mod status;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chancery_format::Timestamp;
use chancery_identity::Provider;
use chancery_ledger::Clock;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::admin::{Admin, AdminHandler};
use crate::archiving::Archiving;
use crate::authenticate::Authenticator;
use crate::chancery::Chancery;
use crate::checkpointer::Checkpointer;
use crate::config::{Config, Variables};
use crate::governance::lifecycle::Lifecycle;
use crate::listener::{Drained, Listener};
use crate::ops::Ops;
use crate::reconciling::Reconciler;
use crate::stop::stopped;
use crate::telemetry::LogGuard;
use crate::witness::{Witness, WitnessHandler};
use crate::witnessing::Witnessing;
use crate::{completeness, cose, listener, refusals};
use assemble::Assembled;
pub use assemble::{ledger_options, production_guards};
pub use failure::Failure;
pub(crate) use failure::opening;
use halting::Sentinels;
use reloading::Reloader;
use status::DaemonStatus;

/// How long a replaced key stays valid where the configuration says nothing, in hours: a week.
const OVERLAP_HOURS: u32 = 168;

/// The wall clock of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let clamped = i64::try_from(ms).unwrap_or(i64::MAX);
        Timestamp::from_unix_ms(clamped)
            .unwrap_or_else(|_| Timestamp::from_unix_ms(0).expect("zero is a time"))
    }
}

/// Random bytes from the system.
pub fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    use std::io::Read as _;
    let mut bytes = [0; N];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Runs the daemon until it is told to stop (SIGTERM, SIGINT) or the ledger stops.
///
/// `ready_file` gets one line, the base URL, once requests are answered.
pub async fn run(
    config: Config,
    variables: Variables,
    log: LogGuard,
    ready_file: Option<PathBuf>,
) -> Result<(), Failure> {
    let assembled = assemble::assemble(&config, &variables).await?;
    let bound = Daemon::bind(config, variables, assembled, log).await?;
    bound.serve(ready_file).await
}

/// Everything built and bound, not yet serving.
struct Daemon {
    config: Config,
    variables: Variables,
    assembled: Assembled,
    log: Arc<LogGuard>,
    service: Listener<Service>,
    admin: Option<Listener<AdminHandler>>,
    witness: Option<(Listener<WitnessHandler>, Arc<Witness>)>,
    witnessing: Option<Witnessing>,
    lifecycle: Arc<Lifecycle>,
    ops: Ops,
}

/// Hands requests to the routes.
#[derive(Clone)]
struct Service(Arc<Chancery>, Arc<Authenticator>);

impl listener::Handler for Service {
    async fn handle(
        &self,
        peer: crate::authenticate::Peer,
        request: hyper::Request<hyper::body::Incoming>,
    ) -> hyper::Response<http_body_util::Full<bytes::Bytes>> {
        let peer = peer.or_bearer(&self.1, request.headers());
        crate::routes::handle(Arc::clone(&self.0), peer, request).await
    }
}

/// Tells the parts when to stop, each at its time.
struct Stops {
    /// The listener: no new connections, finish requests.
    listener: watch::Sender<bool>,
    /// Everything that runs on a cadence.
    background: watch::Sender<bool>,
    /// The ops listener, which reports until the end.
    ops: watch::Sender<bool>,
}

impl Stops {
    fn new() -> Self {
        Self {
            listener: watch::Sender::new(false),
            background: watch::Sender::new(false),
            ops: watch::Sender::new(false),
        }
    }
}

impl Daemon {
    async fn bind(
        config: Config,
        variables: Variables,
        assembled: Assembled,
        log: LogGuard,
    ) -> Result<Self, Failure> {
        let chancery = &assembled.chancery;
        let failed = |address, cause| Failure::Bind { address, cause };
        let service = Listener::bind(
            config.service.address,
            Arc::clone(&assembled.authenticator),
            Service(Arc::clone(chancery), Arc::clone(&assembled.authenticator)),
            config.limits.clone(),
            Arc::clone(&chancery.metrics),
        );
        let service = service.await.map_err(|cause| failed(config.service.address, cause))?;
        let ops = Ops::bind(config.ops_address).await.map_err(|cause| failed(config.ops_address, cause))?;
        let lifecycle = Arc::new(Lifecycle::new(Arc::clone(chancery), &config));
        let admin = match (config.admin_address, &config.identity) {
            (Some(address), Some(identity)) => {
                let admin = Admin::new(
                    Arc::clone(chancery),
                    Arc::clone(&lifecycle),
                    Arc::clone(&assembled.checking),
                    Provider::new(identity.clone())?,
                    config.governance.as_ref().map_or(OVERLAP_HOURS, |it| it.overlap_hours),
                );
                let bound = Listener::bind(
                    address,
                    Arc::clone(&assembled.authenticator),
                    AdminHandler(Arc::new(admin)),
                    config.limits.clone(),
                    Arc::clone(&chancery.metrics),
                );
                Some(bound.await.map_err(|cause| failed(address, cause))?)
            }
            _ => None,
        };
        let witness = match &config.witness {
            Some(settings) => {
                let witness = Arc::new(Witness::open(Arc::clone(chancery), settings)?);
                let bound = Listener::bind(
                    settings.address,
                    Arc::clone(&assembled.authenticator),
                    WitnessHandler(Arc::clone(&witness)),
                    config.limits.clone(),
                    Arc::clone(&chancery.metrics),
                );
                Some((bound.await.map_err(|cause| failed(settings.address, cause))?, witness))
            }
            None => None,
        };
        let witnessing = config.witnessing.as_ref();
        let witnessing =
            witnessing.map(|settings| Witnessing::open(Arc::clone(chancery), settings)).transpose()?;
        let log = Arc::new(log);
        Ok(Self { config, variables, assembled, log, service, admin, witness, witnessing, lifecycle, ops })
    }

    async fn serve(self, ready_file: Option<PathBuf>) -> Result<(), Failure> {
        let system = |error: std::io::Error| Failure::System(error.to_string());
        let mut terminate = signal(SignalKind::terminate()).map_err(system)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(system)?;
        let address = self.service.address().map_err(system)?;
        let ops_address = self.ops.address().map_err(system)?;
        let Self { config, variables, assembled, log, service, admin, witness, witnessing, lifecycle, ops } =
            self;
        let Assembled { chancery, authenticator, archiving, checking, last_records, mut fatal } = assembled;

        let stops = Stops::new();
        let checkpointer =
            Arc::new(Checkpointer::new(Arc::clone(&chancery), config.ledger.checkpoint_interval));
        let status = DaemonStatus::new(
            Arc::clone(&chancery),
            checkpointer.lag(),
            config.ledger.checkpoint_interval,
            archiving.as_ref().map(Archiving::watch),
            witnessing.as_ref().map(Witnessing::watch),
            Arc::clone(&log),
        );
        let ops_task = tokio::spawn(ops.serve(Arc::new(status), stops.ops.subscribe()));
        let sentinels = Sentinels::new(&variables, config.kill_switch_file.clone());
        // Before the first request, not at the first tick.
        halting::apply(&chancery, &sentinels).await;
        let findings = config.surplus_directory.clone();
        let reconciler = Reconciler::start(Arc::clone(&chancery), &last_records, findings).await?;
        let (witness, cosigner) = witness.unzip();
        let reloader = Reloader::new(Arc::clone(&chancery), authenticator, config.clone(), variables);
        let reloader = reloader.with_witness(cosigner);
        let mut background = background(
            &chancery,
            &checkpointer,
            archiving.as_ref(),
            sentinels,
            reloader,
            reconciler,
            &stops.background,
        );
        background.spawn(Arc::clone(&lifecycle).run(stops.background.subscribe()));
        let heads_interval = config.ledger.heads_interval;
        let enrolling =
            completeness::enrol_heads(Arc::clone(&chancery), heads_interval, stops.background.subscribe());
        background.spawn(enrolling);
        let cadence = config.ledger.checkpoint_interval;
        background.spawn(cose::run(Arc::clone(&chancery), cadence, stops.background.subscribe()));
        background.spawn(checking.end_with(stops.background.subscribe()));
        if let Some(witnessing) = witnessing {
            background.spawn(witnessing.run(stops.background.subscribe()));
        }
        drop(lifecycle);
        let mut serving = tokio::spawn(service.serve(stops.listener.subscribe()));
        let admin_address = admin.as_ref().map(Listener::address).transpose().map_err(system)?;
        let witness_address = witness.as_ref().map(Listener::address).transpose().map_err(system)?;
        let people = admin.map(|admin| tokio::spawn(admin.serve(stops.listener.subscribe())));
        let logs = witness.map(|witness| tokio::spawn(witness.serve(stops.listener.subscribe())));
        let others = people.into_iter().chain(logs).collect();
        announce([address, ops_address], admin_address, witness_address, ready_file.as_deref())?;

        let stopped = tokio::select! {
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
            reason = fatal.recv() => Some(reason.unwrap_or_default()),
            ended = &mut serving => Some(format!("the listener ended: {ended:?}")),
        };
        let parts = Parts { chancery, checkpointer, archiving, background, stops, config };
        let finished = parts.take_down(serving, others, stopped.is_some()).await;
        let _ = ops_task.await;
        // The log's thread ends with its last holder: only now is there nothing left to say.
        drop(log);
        match stopped {
            Some(reason) => Err(Failure::LedgerStopped(reason)),
            None => finished,
        }
    }
}

fn announce(
    [address, ops]: [std::net::SocketAddr; 2],
    admin: Option<std::net::SocketAddr>,
    witness: Option<std::net::SocketAddr>,
    ready_file: Option<&std::path::Path>,
) -> Result<(), Failure> {
    let url = format!("https://{address}");
    tracing::info!(%address, %ops, version = env!("CARGO_PKG_VERSION"), "serving");
    println!("serving {url} (health and metrics on http://{ops})");
    if let Some(admin) = admin {
        println!("people: https://{admin}");
    }
    if let Some(witness) = witness {
        println!("logs to be cosigned: https://{witness}");
    }
    if let Some(file) = ready_file {
        let failed = |error: std::io::Error| Failure::Init {
            what: file.display().to_string(),
            reason: error.to_string(),
        };
        std::fs::write(file, format!("{url}\n")).map_err(failed)?;
    }
    notify::ready();
    Ok(())
}

/// Starts what runs on a cadence.
fn background(
    chancery: &Arc<Chancery>,
    checkpointer: &Arc<Checkpointer>,
    archiving: Option<&Archiving>,
    sentinels: Sentinels,
    reloader: Reloader,
    reconciler: Reconciler,
    stop: &watch::Sender<bool>,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let (checkpointer, stopped) = (Arc::clone(checkpointer), stop.subscribe());
    tasks.spawn(async move { checkpointer.run(stopped).await });
    tasks.spawn(halting::watch(Arc::clone(chancery), sentinels, stop.subscribe()));
    let stopped = stop.subscribe();
    tasks.spawn(async move {
        if let Err(error) = reloader.run(stopped).await {
            tracing::error!(%error, "files are not watched: the system gives no signal handler");
        }
    });
    tasks.spawn(until(refusals::run(Arc::clone(chancery)), stop.subscribe()));
    tasks.spawn(probe_backends(Arc::clone(chancery), stop.subscribe()));
    tasks.spawn(reconciler.run(stop.subscribe()));
    tasks.spawn(watch_disk(Arc::clone(chancery), stop.subscribe()));
    if let Some(archiving) = archiving {
        tasks.spawn(archiving.watch_lag(Arc::clone(chancery), stop.subscribe()));
    }
    tasks
}

/// Runs `work` every `interval` until `stop`.
async fn every<F: Future<Output = ()>>(
    interval: Duration,
    mut stop: watch::Receiver<bool>,
    mut work: impl FnMut() -> F,
) {
    let mut tick = tokio::time::interval(interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stopped(&mut stop) => return,
            _ = tick.tick() => work().await,
        }
    }
}

/// Runs `work` until `stop`.
async fn until(work: impl Future<Output = ()>, mut stop: watch::Receiver<bool>) {
    tokio::select! {
        () = work => {}
        () = stopped(&mut stop) => {}
    }
}

/// Signs of life of the backends, so that an outage ends also when nobody asks.
async fn probe_backends(chancery: Arc<Chancery>, stop: watch::Receiver<bool>) {
    const EVERY: Duration = Duration::from_secs(5);
    every(EVERY, stop, || chancery.keyring.probe(EVERY)).await;
}

/// Closes admission before the ledger has to refuse, and reopens it when there is room again.
async fn watch_disk(chancery: Arc<Chancery>, stop: watch::Receiver<bool>) {
    every(Duration::from_secs(1), stop, || async {
        let full = chancery.roll.disk_is_low();
        if full != chancery.admission.is_ledger_full() {
            tracing::error!(full, "free disk space crossed reserve_bytes");
            chancery.admission.set_ledger_full(full);
        }
    })
    .await;
}

/// What is left to take down.
struct Parts {
    chancery: Arc<Chancery>,
    checkpointer: Arc<Checkpointer>,
    archiving: Option<Archiving>,
    background: JoinSet<()>,
    stops: Stops,
    config: Config,
}

impl Parts {
    /// The drain; `dead` if the ledger stopped and there is nothing left to record.
    async fn take_down(
        self,
        serving: tokio::task::JoinHandle<Drained>,
        others: Vec<tokio::task::JoinHandle<Drained>>,
        dead: bool,
    ) -> Result<(), Failure> {
        let Self { chancery, checkpointer, archiving, mut background, stops, config } = self;
        notify::stopping();
        tracing::info!("shutting down: answering what is under way");
        chancery.admission.start_draining();
        stops.listener.send_replace(true);
        if let Ok(drained) = serving.await
            && drained.cut > 0
        {
            tracing::error!(connections = drained.cut, "connections were cut: their requests took too long");
        }
        for other in others {
            let _ = other.await;
        }
        if !chancery.idle(config.limits.drain_timeout).await {
            tracing::error!("key uses were still under way: recovery will close them as abandoned");
        }
        stops.background.send_replace(true);
        while background.join_next().await.is_some() {}
        if !dead {
            if let Err(error) = refusals::flush(&chancery).await {
                tracing::error!(%error, "the last refusals could not be enrolled");
            }
            checkpointer.attempt().await;
        }
        if let Some(archiving) = archiving {
            let flushed = !dead && archiving.flush(config.limits.archive_flush_timeout).await;
            tracing::info!(flushed, "archive stopped; what is missing is shipped at the next start");
        }
        stops.ops.send_replace(true);
        let roll = chancery.roll.clone();
        drop((chancery, checkpointer));
        roll.close().await;
        tracing::info!("stopped");
        Ok(())
    }
}
