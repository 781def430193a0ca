//! From a configuration to a service: each step needs the one before, and nothing is bound yet.

use std::sync::Arc;

use chancery_format::TreeSize;
use chancery_format::entry::policy_loaded;
use chancery_identity::PolicyHook;
use chancery_ledger::{Clock as _, OnFatal, Roll, RollLimits, RollOptions};
use rustls_pki_types::UnixTime;
use tokio::sync::mpsc;

use super::backends;
use super::failure::Failure;
use super::reloading::{directory, grants};
use super::{SystemClock, random};
use crate::admission::allowance::{Allowances, Rules};
use crate::admission::authority::Authority;
use crate::admission::policy::Policy;
use crate::archiving::Archiving;
use crate::authenticate::Authenticator;
use crate::chancery::{Chancery, KeyEntry, Parts};
use crate::checking::Checking;
use crate::config::{BackendConfig, BackendKind, Config, Variables};
use crate::cose::CoseHeads;
use crate::governance::{self, Governance, Succession};
use crate::guards::{self, Facts};
use crate::reconciling::LastRecords;
use crate::registry_publisher::{self, PublishError};
use crate::telemetry::Metrics;
use crate::tls::Tls;
use crate::witnessing;

/// What [`assemble`] made.
pub(super) struct Assembled {
    pub(super) chancery: Arc<Chancery>,
    pub(super) authenticator: Arc<Authenticator>,
    pub(super) archiving: Option<Archiving>,
    pub(super) checking: Arc<Checking>,
    /// Where devices' own records were taken up last.
    pub(super) last_records: LastRecords,
    /// Says once why the ledger can go on no longer.
    pub(super) fatal: mpsc::Receiver<String>,
}

/// Every reason this configuration must not run here, or nothing.
pub fn production_guards(config: &Config, variables: &Variables) -> Result<(), Failure> {
    let reasons = guards::reasons(config, variables, &Facts::gather(config));
    if reasons.is_empty() { Ok(()) } else { Err(Failure::Guards(reasons)) }
}

pub(super) async fn assemble(config: &Config, variables: &Variables) -> Result<Assembled, Failure> {
    production_guards(config, variables)?;
    let metrics = Arc::new(Metrics::new());
    let tls = Arc::new(Tls::load(&config.service, UnixTime::now())?);
    metrics.tls_files(&tls);
    let policy = Policy::compile(&self::grants(&config.principals), None).map_err(Failure::Policy)?;
    let grants = grants(&config.principals);
    let folder = config.policy.directory.clone();
    let authority = Authority::load(folder, config.environment.as_str(), &grants);
    let authority = authority.map_err(Failure::Policies)?;
    let authenticator = Arc::new(Authenticator::new(tls, directory(&config.principals)));

    let (roll, fatal) = open_ledger(config).await?;
    let known = registry_publisher::last(&roll).await?;
    let decided = governance::read(&roll).await?;
    let succession = Succession::plan(&config.keys, &decided, known.as_ref().map(|(_, registry)| registry))?;
    let ledger_key = succession.current.iter().find(|key| key.kid == config.ledger.signing_key);
    if let Some(key) = ledger_key {
        // A rotation may have brought another than the configuration names.
        roll.set_signer(key.signer_kid.clone());
    }
    let keeps_log = |backend: &BackendConfig| matches!(backend.kind, BackendKind::YubiHsm { .. });
    let last_records = match config.backends.iter().any(keeps_log) {
        true => LastRecords::find(&roll).await?,
        false => LastRecords::default(),
    };
    let opened = {
        let (config, variables) = (config.clone(), variables.clone());
        let last_records = last_records.clone();
        let (registry, succession) = (known.map(|(_, registry)| registry), succession.clone());
        blocking(move || {
            let opened = backends::open_all(&config, &variables, &last_records)?;
            backends::keyring(&config, &succession, &opened, registry.as_ref())
        })
    };
    let keyring = Arc::new(opened.await?);
    let witnesses = witnessing::configured_policy(config)?;
    let file = &config.ledger.signers_file;
    let registry = registry_publisher::publish(&roll, &keyring, &succession, &witnesses, file).await?;
    metrics.registry_published(registry.version);
    let governance = Governance::new(decided, &roll, &keyring, Arc::new(SystemClock));
    governance.configure(config.governance.as_ref().map(|it| &it.roster)).await?;
    let archiving = Archiving::start(config, &roll, Arc::clone(&metrics)).await?;
    let (archiving, shipped) = archiving.unzip();
    roll.enrol_event(policy_loaded(&policy.sha256()), None).await?;
    roll.enrol_event(policy_loaded(&authority.sha256()), None).await?;

    let allowances = Allowances::new(roll.head().head().size.0);
    let rules = Rules::compile(&grants, &config.key_limits, None).map_err(Failure::Limits)?;
    allowances.adopt(&roll, rules, SystemClock.now()).await?;

    let keys = succession.current.iter().filter_map(|key| {
        let (info, backend) = (keyring.lookup(&key.kid)?, config.backend_of(key)?);
        let co_signer = key.co_signer.as_ref().and_then(|kid| keyring.lookup(kid));
        Some(KeyEntry::new(
            &info,
            co_signer.as_deref(),
            key,
            &backend.kind,
            config.ledger.signs_with(&key.kid),
        ))
    });
    let keys = keys.collect();
    let hooks = config.policy.hooks.iter().map(|hook| {
        let opened = PolicyHook::new(hook.clone()).map_err(|error| Failure::System(error.to_string()))?;
        Ok((hook.name.clone(), opened))
    });
    let hooks = hooks.collect::<Result<_, Failure>>()?;
    let cose = match config.ledger.cose_receipts {
        true => Some(CoseHeads::restore(&roll, &registry.registry).await?),
        false => None,
    };
    let prefix = random().map_err(|error| Failure::System(error.to_string()))?;
    let chancery = Chancery::new(Parts {
        checkpointed: roll.latest_checkpoint().map_or(TreeSize(0), |latest| latest.size),
        witnessed: roll.latest_witnessed().await?.map_or(TreeSize(0), |latest| latest.size),
        archived: archiving.as_ref().map_or(TreeSize(0), Archiving::archived),
        cose,
        grease: config.ledger.grease,
        roll,
        keyring,
        keys,
        policy,
        allowances,
        authority,
        hooks,
        governance,
        registry,
        chains: config.chains.clone(),
        witness_kids: config.witness.iter().flat_map(|witness| witness.kids.clone()).collect(),
        limits: config.limits.clone(),
        metrics,
        clock: Arc::new(SystemClock),
        request_id_prefix: u64::from_be_bytes(prefix),
    });
    if chancery.authority.has_folder() {
        chancery.admission.let_policies_decide();
    }
    let chancery = Arc::new(chancery);
    let checking = Arc::new(Checking::new(Arc::clone(&chancery), shipped));
    Ok(Assembled { chancery, authenticator, archiving, checking, last_records, fatal })
}

/// Opening and proving a ledger reads disks, and opening keys talks to devices: neither belongs on the
/// async threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Failure::System(error.to_string()))?
}

async fn open_ledger(config: &Config) -> Result<(Roll, mpsc::Receiver<String>), Failure> {
    let (report, fatal) = mpsc::channel(1);
    let on_fatal: OnFatal = Arc::new(move |reason| {
        tracing::error!(%reason, "the ledger stopped");
        // The first reason is the one that counts.
        let _ = report.try_send(reason.to_string());
    });
    let options = ledger_options(config, on_fatal)?;
    let (roll, recovered) = blocking(move || Ok(Roll::open(options)?)).await?;
    let size = recovered.head.size;
    tracing::info!(entries = %size, abandoned = recovered.abandoned.len(), "ledger opened");
    if !recovered.abandoned.is_empty() {
        tracing::warn!(
            count = recovered.abandoned.len(),
            "key uses without outcome were found and closed as abandoned: the keys may have been used"
        );
    }
    Ok((roll, fatal))
}

/// How the configured ledger is opened, or made.
pub fn ledger_options(config: &Config, on_fatal: OnFatal) -> Result<RollOptions, Failure> {
    let key = config.ledger_key().ok_or(PublishError::NoKey)?;
    let mut options = RollOptions::new(
        &config.ledger.directory,
        config.ledger.origin.clone(),
        key.signer_kid.clone(),
        Arc::new(SystemClock),
        on_fatal,
    );
    options.limits = RollLimits {
        queue: config.limits.ledger_queue_max,
        batch_entries_max: config.limits.ledger_batch_entries_max,
        batch_bytes_max: config.limits.ledger_batch_bytes_max,
        reserve_bytes: config.ledger.reserve_bytes,
        streams_cached: config.limits.ledger_streams_cached,
        page_entries_max: config.limits.stream_page_max,
        ..RollLimits::default()
    };
    options.chains =
        Arc::new(config.chains.iter().map(|chain| (chain.stream.clone(), chain.after())).collect());
    Ok(options)
}
