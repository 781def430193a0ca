//! Opens the configured backends and builds the keyring over them.
//!
//! Adding a kind of backend is one arm of the match in [`open`] and one in [`Opened::generate`].

use std::sync::Arc;

use chancery_aws_kms::{KmsBackend, KmsConfig};
use chancery_format::SignersRegistry;
use chancery_hsm::software::{DevelopmentOnly, SoftwareBackend, SoftwareError};
use chancery_hsm::{Backend, KeyShape, KeySpec, Keyring, Registered};
use chancery_pkcs11::{Launch, Pkcs11Backend, Pkcs11Config, ProvisionError};
use chancery_yubihsm::{LogPosition, YubiHsmBackend, YubiHsmConfig};

use super::failure::Failure;
use crate::config::{BackendConfig, BackendKind, Config, Environment, KeyConfig, Variables, WorkerConfig};
use crate::governance::Succession;
use crate::reconciling::LastRecords;
use crate::registry_publisher;

/// A backend, opened; kept by its kind because only some can generate keys.
pub enum Opened {
    /// A device behind PKCS#11.
    Pkcs11(Arc<Pkcs11Backend>),
    /// AWS KMS.
    AwsKms(Arc<KmsBackend>),
    /// A YubiHSM 2.
    YubiHsm(Arc<YubiHsmBackend>),
    /// Keys in this process.
    Software(Arc<SoftwareBackend>),
}

impl Opened {
    fn backend(&self) -> Arc<dyn Backend> {
        match self {
            Self::Pkcs11(backend) => Arc::clone(backend) as _,
            Self::AwsKms(backend) => Arc::clone(backend) as _,
            Self::YubiHsm(backend) => Arc::clone(backend) as _,
            Self::Software(backend) => Arc::clone(backend) as _,
        }
    }

    /// Makes the key if the backend has none of that label; `true` if it did.
    pub fn generate(&self, key: &KeyConfig) -> Result<bool, Failure> {
        let shape = KeyShape::recommended(key.algorithm);
        let reason = match self {
            Self::Pkcs11(backend) => match backend.generate_key(&key.label, shape) {
                Ok(()) => return Ok(true),
                Err(ProvisionError::KeyExists(_)) => return Ok(false),
                Err(error) => error.to_string(),
            },
            Self::YubiHsm(backend) => match backend.generate_key(&key.label, shape) {
                Ok(_) => return Ok(true),
                Err(chancery_yubihsm::ProvisionError::KeyExists(_)) => return Ok(false),
                Err(error) => error.to_string(),
            },
            // Who may make keys in an account is not who may use them; they are made beforehand.
            Self::AwsKms(_) => return Ok(false),
            Self::Software(backend) => match backend.generate_key(&key.label, shape) {
                Ok(()) => return Ok(true),
                Err(SoftwareError::Exists(_)) => return Ok(false),
                Err(error) => error.to_string(),
            },
        };
        Err(Failure::Init { what: format!("key {:?} (label {:?})", key.kid, key.label), reason })
    }
}

/// Opens every configured backend.
pub fn open_all(
    config: &Config,
    variables: &Variables,
    last_records: &LastRecords,
) -> Result<Vec<(String, Opened)>, Failure> {
    let opened = config
        .backends
        .iter()
        .map(|backend| Ok((backend.name.clone(), open(backend, config, variables, last_records)?)));
    opened.collect()
}

/// Opens one configured backend.
pub fn open(
    backend: &BackendConfig,
    config: &Config,
    variables: &Variables,
    last_records: &LastRecords,
) -> Result<Opened, Failure> {
    let failed =
        |reason: String, retryable| Failure::Backend { name: backend.name.clone(), reason, retryable };
    match &backend.kind {
        BackendKind::Pkcs11 { module_file, token, pin_file, sessions, worker, .. } => {
            let settings = Pkcs11Config {
                name: backend.name.clone(),
                module_file: module_file.clone(),
                token: token.clone(),
                pin_file: pin_file.clone(),
                sessions: *sessions,
                launch: launch(worker),
            };
            let opened = Pkcs11Backend::open(&settings);
            let opened = opened.map_err(|error| failed(error.to_string(), error.source.retryable()))?;
            Ok(Opened::Pkcs11(Arc::new(opened)))
        }
        BackendKind::AwsKms { region, endpoint_url, sessions, connect_timeout, attempt_timeout } => {
            let mut settings = KmsConfig::new(&backend.name);
            settings.region.clone_from(region);
            settings.endpoint_url.clone_from(endpoint_url);
            settings.sessions = *sessions;
            settings.connect_timeout = *connect_timeout;
            settings.attempt_timeout = *attempt_timeout;
            let opened = KmsBackend::open(&settings).map_err(|error| failed(error.to_string(), false))?;
            Ok(Opened::AwsKms(Arc::new(opened)))
        }
        BackendKind::YubiHsm {
            connector,
            serial,
            auth_key_id,
            password_file,
            sessions,
            timeout,
            force_audit,
            attestation_roots,
        } => {
            let mut settings =
                YubiHsmConfig::new(&backend.name, connector.clone(), *auth_key_id, password_file.clone());
            settings.serial.clone_from(serial);
            settings.sessions = *sessions;
            settings.timeout = *timeout;
            settings.force_audit = *force_audit;
            settings.attestation_roots.clone_from(attestation_roots);
            let last = last_records.position(&backend.name);
            settings.log_position =
                last.and_then(|(number, evidence)| LogPosition::from_evidence(number, evidence));
            let opened = YubiHsmBackend::open(&settings);
            let opened = opened.map_err(|error| failed(error.to_string(), error.source.retryable()))?;
            Ok(Opened::YubiHsm(Arc::new(opened)))
        }
        BackendKind::Software { directory, .. } => {
            // Naming the backend is not enough: keys that anyone with the disk can copy need a second word.
            let allowed = variables.flag("DEV_ALLOW_EPHEMERAL") == Some(true);
            let production = config.environment == Environment::Production;
            let allowed = DevelopmentOnly::check(allowed, production)
                .map_err(|error| failed(error.to_string(), false))?;
            let opened = SoftwareBackend::in_directory(&backend.name, directory, allowed);
            Ok(Opened::Software(Arc::new(opened.map_err(|error| failed(error.to_string(), false))?)))
        }
    }
}

/// How the worker of a PKCS#11 module is started: this executable again, with its hidden subcommand.
fn launch(worker: &WorkerConfig) -> Launch {
    let variables = worker.module_environment.iter();
    Launch {
        environment: variables.map(|it| (it.name.clone(), it.value.clone().into())).collect(),
        environment_passed: worker.env.clone(),
        network: worker.network,
        writable: worker.writable.clone(),
        stuck_after: worker.stuck_after,
        ..Launch::default()
    }
}

/// The keyring over the opened backends. Each device must hold the key that was registered before under
/// its `signer_kid`.
pub fn keyring(
    config: &Config,
    keys: &Succession,
    backends: &[(String, Opened)],
    registry: Option<&SignersRegistry>,
) -> Result<Keyring, Failure> {
    let mut builder = Keyring::builder()
        .ledger_key(config.ledger.signing_key.clone())
        .second_ledger_key(config.ledger.second_signing_key.clone());
    for (_, opened) in backends {
        builder = builder.backend(opened.backend());
    }
    let known = registry_publisher::Known::of(registry).map_err(registry_publisher::PublishError::from)?;
    for key in &keys.current {
        builder = builder.key(spec(key, known.key(&key.signer_kid)));
    }
    let ring = builder.build()?;
    for key in keys.staged.iter().chain(&keys.deprecated) {
        // Neither is in use: one that is away now keeps nobody from signing.
        if let Err(error) = ring.add(spec(key, known.key(&key.signer_kid))) {
            tracing::warn!(signer_kid = %key.signer_kid, %error, "a key that is not in use cannot be opened");
        }
    }
    Ok(ring)
}

/// How the keyring opens a configured key.
pub fn spec(key: &KeyConfig, registered: Registered) -> KeySpec {
    KeySpec {
        kid: key.kid.clone(),
        signer_kid: key.signer_kid.clone(),
        backend: key.backend.clone(),
        label: key.label.clone(),
        algorithm: key.algorithm,
        purpose: key.purpose.as_str().to_owned(),
        description: key.description.clone(),
        registered,
    }
}
