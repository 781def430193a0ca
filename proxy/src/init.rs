//! Makes a ledger where there was none; never touches one that is there.
//!
//! Promises: after `init` the ledger is open to `run`: `ledger.opened` is its first entry, every configured
//! key is activated, the registry is published, a first checkpoint stands over all of it. Refuses: a
//! ledger directory that is not empty, and to generate keys unless told to.

pub mod dev;

use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chancery_format::cosignature::CosignedAt;
use chancery_format::policy::Policy;
use chancery_format::{Kid, SignatureAlgorithm, TreeSize};
use chancery_hsm::Keyring;
use chancery_ledger::{Clock as _, OnFatal, Roll, SecondOpinion};

use crate::config::{ArchiveKind, BackendKind, Config, KeyConfig, Variables};
use crate::daemon::{Failure, SystemClock, backends, ledger_options, production_guards};
use crate::governance::Succession;
use crate::reconciling::LastRecords;
use crate::registry_publisher::{self, PublishError};
use crate::tls::Tls;
use crate::witnessing;

/// Patience with the ledger key's device.
const SIGN_TIMEOUT: Duration = Duration::from_secs(30);

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The ledger's folder.
    pub ledger: PathBuf,
    /// Keys that were generated, by kid.
    pub generated: Vec<String>,
    /// Where the registry was published.
    pub signers_file: PathBuf,
    /// Entries of the new ledger, all under its first checkpoint.
    pub entries: TreeSize,
}

/// Makes what `config` describes. Blocks; call it outside of async threads.
pub fn create(config: &Config, variables: &Variables, generate_keys: bool) -> Result<Made, Failure> {
    production_guards(config, variables)?;
    Tls::load(&config.service, rustls_pki_types::UnixTime::now())?;
    refuse_to_overwrite(config)?;
    let opened = backends::open_all(config, variables, &LastRecords::default())?;
    let generated = if generate_keys { generate(config, &opened)? } else { Vec::new() };
    // Keys first: a ledger whose keys are missing would have to be removed by hand.
    let keys = first_keys(config);
    let keyring = Arc::new(backends::keyring(config, &keys, &opened, None)?);
    make_folders(config)?;
    let on_fatal: OnFatal = Arc::new(|reason| tracing::error!(%reason, "the new ledger stopped"));
    let roll = Roll::create(ledger_options(config, on_fatal)?)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::System(error.to_string()))?;
    let entries = runtime.block_on(fill(config, roll, &keyring))?;
    Ok(Made {
        ledger: config.ledger.directory.clone(),
        generated,
        signers_file: config.ledger.signers_file.clone(),
        entries,
    })
}

fn refuse_to_overwrite(config: &Config) -> Result<(), Failure> {
    let folder = &config.ledger.directory;
    let occupied = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    if occupied {
        return Err(Failure::Exists(format!(
            "{} is not empty: a ledger is never overwritten",
            folder.display()
        )));
    }
    Ok(())
}

fn generate(config: &Config, opened: &[(String, backends::Opened)]) -> Result<Vec<String>, Failure> {
    let mut generated = Vec::new();
    for key in &config.keys {
        let Some((_, backend)) = opened.iter().find(|(name, _)| *name == key.backend) else { continue };
        if backend.generate(key)? {
            generated.push(key.kid.as_str().to_owned());
        }
    }
    Ok(generated)
}

/// Which key to make.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// The name it is for: it gets the algorithm of the present key, and its backend unless there is another.
    pub kid: Kid,
    /// What its backend is to call it.
    pub label: String,
    /// Another backend.
    pub backend: Option<String>,
}

/// Makes one key in its device, beside whatever daemon runs, which cannot: it gets to know the key by a rotation.
/// Gives name and algorithm of what was made. Refuses a label that is taken.
pub fn generate_key(
    config: &Config,
    variables: &Variables,
    new: &NewKey,
) -> Result<(String, SignatureAlgorithm), Failure> {
    production_guards(config, variables)?;
    let failed = |reason: &str| Failure::Init { what: new.kid.to_string(), reason: reason.to_owned() };
    let present = config.keys.iter().find(|key| key.kid == new.kid);
    let present = present.ok_or_else(|| failed("there is no key of that name in the configuration"))?;
    let name = new.backend.as_ref().unwrap_or(&present.backend);
    let backend = config.backends.iter().find(|backend| backend.name == *name);
    let backend = backend.ok_or_else(|| failed("there is no backend of that name in the configuration"))?;
    if matches!(backend.kind, BackendKind::AwsKms { .. }) {
        return Err(failed("keys of AWS KMS are made there, by somebody who may: aws kms create-key"));
    }
    let key = KeyConfig { label: new.label.clone(), backend: name.clone(), ..present.clone() };
    match backends::open(backend, config, variables, &LastRecords::default())?.generate(&key)? {
        true => Ok((name.clone(), key.algorithm)),
        false => Err(Failure::Exists(format!("{name} has a key {:?} already", new.label))),
    }
}

/// Ledger and archive hold what callers sent: for the daemon's eyes only, unless the operator made the
/// folders otherwise beforehand.
fn make_folders(config: &Config) -> Result<(), Failure> {
    let archive = config.archive.as_ref().and_then(|archive| match &archive.kind {
        ArchiveKind::Directory { directory } => Some(directory),
        ArchiveKind::S3 { .. } => None,
    });
    for folder in archive.into_iter().chain([&config.ledger.directory]) {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| Failure::Init {
            what: folder.display().to_string(),
            reason: error.to_string(),
        })?;
    }
    Ok(())
}

fn first_keys(config: &Config) -> Succession {
    Succession { current: config.keys.clone(), ..Succession::default() }
}

/// The first entries, and a checkpoint over them.
async fn fill(config: &Config, roll: Roll, keyring: &Arc<Keyring>) -> Result<TreeSize, Failure> {
    let keys = first_keys(config);
    let witnesses = match witnessing::configured_policy(config) {
        // It names the verifier key that is only made here; the first start publishes it.
        Err(error) if error.is_missing_file() => Policy::default(),
        read => read?,
    };
    registry_publisher::publish(&roll, keyring, &keys, &witnesses, &config.ledger.signers_file).await?;
    let head = SecondOpinion::new(roll.clone()).confirm(roll.head()).await?;
    let (at, deadline) = (CosignedAt::from(SystemClock.now()), Instant::now() + SIGN_TIMEOUT);
    let note = keyring.sign_checkpoint(&head, roll.origin(), at, deadline).await;
    let note = note.map_err(PublishError::from)?;
    let keys = keyring.ledger_keys(roll.origin()).ok_or(PublishError::NoKey)?;
    let verified = keys
        .verify(&note)
        .map_err(|error| Failure::Init { what: "first checkpoint".into(), reason: error.to_string() })?;
    roll.record_checkpoint(verified).await?;
    roll.close().await;
    Ok(head.head().size)
}
