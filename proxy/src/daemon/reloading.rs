//! Certificates, revocation lists, grants and the list of logs to cosign change without a restart and without closing
//! connections.
//!
//! Looked at every [`crate::limits::Limits::reload_poll`] and on SIGHUP. What does not load does not
//! replace what did: the mistake is logged, counted, and the old stays in force.

use std::sync::Arc;
use std::time::SystemTime;

use chancery_format::entry::policy_loaded;
use chancery_policy::PolicyProblem;
use rustls_pki_types::UnixTime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::admission::allowance::Rules;
use crate::admission::policy::{Grant, Policy, PolicyError};
use crate::admission::rate_limit::DuplicateRate;
use crate::authenticate::{Authenticator, Directory};
use crate::chancery::Chancery;
use crate::config::{self, Config, PrincipalConfig, Variables};
use crate::leaves::LeavesError;
use crate::stop::stopped;
use crate::tls::{self, Reload};
use crate::witness::Witness;

/// Why grants and limits do not replace those in force. The operator's, but for the ledger.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error("grants: {0:?}")]
    Grants(Vec<PolicyError>),
    #[error("policies do not load with the new grants: {0:?}")]
    Policies(Vec<PolicyProblem>),
    #[error("limits: {0:?}")]
    Limits(Vec<DuplicateRate>),
    #[error("uses cannot be counted: {0}")]
    Recount(#[from] LeavesError),
}

impl From<Vec<PolicyError>> for ReloadError {
    fn from(errors: Vec<PolicyError>) -> Self {
        Self::Grants(errors)
    }
}

impl From<Vec<PolicyProblem>> for ReloadError {
    fn from(problems: Vec<PolicyProblem>) -> Self {
        Self::Policies(problems)
    }
}

impl From<Vec<DuplicateRate>> for ReloadError {
    fn from(twice: Vec<DuplicateRate>) -> Self {
        Self::Limits(twice)
    }
}

/// Watches the files of a running daemon.
pub struct Reloader {
    chancery: Arc<Chancery>,
    authenticator: Arc<Authenticator>,
    config: Config,
    variables: Variables,
    seen: Option<(SystemTime, u64, u64)>,
    witness: Option<Arc<Witness>>,
}

impl Reloader {
    /// For the daemon that runs under `config`.
    pub fn new(
        chancery: Arc<Chancery>,
        authenticator: Arc<Authenticator>,
        config: Config,
        variables: Variables,
    ) -> Self {
        let seen = tls::stamp(&config.file);
        Self { chancery, authenticator, config, variables, seen, witness: None }
    }

    /// Also reads the list of logs that this witness cosigns.
    pub fn with_witness(self, witness: Option<Arc<Witness>>) -> Self {
        Self { witness, ..self }
    }

    /// Runs until `stop`.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> std::io::Result<()> {
        let mut hangup: Signal = signal(SignalKind::hangup())?;
        let mut tick = tokio::time::interval(self.chancery.limits.reload_poll);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let forced = tokio::select! {
                () = stopped(&mut stop) => return Ok(()),
                _ = tick.tick() => false,
                _ = hangup.recv() => true,
            };
            self.look(forced).await;
        }
    }

    /// Looks at every file once; `forced` reads them even if they seem unchanged.
    pub async fn look(&mut self, forced: bool) {
        self.reload_tls(forced);
        if let Some(witness) = &self.witness {
            witness.reload(forced).await;
        }
        let stamp = tls::stamp(&self.config.file);
        if forced || stamp != self.seen {
            self.seen = stamp;
            self.reload_grants().await;
        }
    }

    fn reload_tls(&self, forced: bool) {
        let metrics = &self.chancery.metrics;
        match self.authenticator.tls().reload(UnixTime::now(), forced) {
            Ok(Reload::Unchanged) => {}
            Ok(Reload::Applied) => {
                metrics.reload("tls", true);
                tracing::info!("certificates and revocation lists reloaded");
            }
            Err(error) => {
                metrics.reload("tls", false);
                tracing::error!(%error, "certificates or revocation lists not reloaded: the old ones stay in force");
            }
        }
        metrics.tls_files(self.authenticator.tls());
    }

    async fn reload_grants(&mut self) {
        let metrics = Arc::clone(&self.chancery.metrics);
        let config = match config::load(&self.config.file, &self.variables) {
            Ok(config) => config,
            Err(mistakes) => {
                metrics.reload("grants", false);
                tracing::error!(%mistakes, "configuration not reloaded: the old grants stay in force");
                return;
            }
        };
        if config.effective_without_grants() != self.config.effective_without_grants() {
            tracing::warn!(
                "the configuration changed outside [[principals]] and [[key_limits]]: that takes effect with a \
                 restart"
            );
        }
        match self.apply_grants(&config).await {
            Ok(()) => {
                metrics.reload("grants", true);
                self.config.principals = config.principals;
                self.config.key_limits = config.key_limits;
            }
            Err(error) => {
                metrics.reload("grants", false);
                tracing::error!(?error, "grants not reloaded: the old ones stay in force");
            }
        }
    }

    async fn apply_grants(&self, config: &Config) -> Result<(), ReloadError> {
        let principals = &config.principals;
        let before = self.chancery.admission.policy();
        let policy = Policy::compile(&grants(principals), Some(&before))?;
        let sha256 = policy.sha256();
        let allowances = &self.chancery.allowances;
        let rules = Rules::compile(&grants(principals), &config.key_limits, Some(&allowances.rules()))?;
        let policies = self.chancery.authority.set_grants(&grants(principals))?;
        allowances.adopt(&self.chancery.roll, rules, self.chancery.now()).await?;
        // Identities first: nobody may act for a moment under new grants and an old name.
        self.authenticator.replace_directory(directory(principals));
        self.chancery.admission.replace_policy(policy);
        let grants = (sha256 != before.sha256()).then_some(sha256);
        for loaded in grants.into_iter().chain(policies) {
            tracing::info!(policy = %loaded, principals = principals.len(), "grants or policies reloaded");
            if let Err(error) = self.chancery.roll.enrol_event(policy_loaded(&loaded), None).await {
                tracing::error!(%error, "the reload of grants or policies could not be enrolled");
            }
        }
        Ok(())
    }
}

/// The grants of the configured principals.
pub fn grants(principals: &[PrincipalConfig]) -> Vec<Grant> {
    principals.iter().map(|principal| principal.grant.clone()).collect()
}

/// The names certificates may carry, and the tokens.
pub fn directory(principals: &[PrincipalConfig]) -> Directory {
    let tokens = principals
        .iter()
        .flat_map(|it| it.token_sha256.iter().map(|hash| (*hash, it.grant.principal.clone())));
    Directory::new(principals.iter().map(|it| (&it.grant.principal, it.common_name.as_deref())))
        .with_tokens(tokens)
}
