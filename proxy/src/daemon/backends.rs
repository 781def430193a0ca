//! Opens the configured backends and builds the keyring over them.
//!
//! Adding a kind of backend is one arm of the match in [`open`] and one in [`Opened::generate`].

use std::sync::Arc;

use chancery_format::SignersRegistry;
use chancery_hsm::software::{DevelopmentOnly, SoftwareBackend, SoftwareError};
use chancery_hsm::{Backend, KeyShape, KeySpec, Keyring};
use chancery_pkcs11::{Pkcs11Backend, Pkcs11Config, ProvisionError};

use super::failure::Failure;
use crate::config::{BackendConfig, BackendKind, Config, Environment, KeyConfig, Variables};
use crate::registry_publisher;

/// A backend, opened; kept by its kind because only some can generate keys.
pub enum Opened {
    /// A device behind PKCS#11.
    Pkcs11(Arc<Pkcs11Backend>),
    /// Keys in this process.
    Software(Arc<SoftwareBackend>),
}

impl Opened {
    fn backend(&self) -> Arc<dyn Backend> {
        match self {
            Self::Pkcs11(backend) => Arc::clone(backend) as _,
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
pub fn open_all(config: &Config, variables: &Variables) -> Result<Vec<(String, Opened)>, Failure> {
    let opened =
        config.backends.iter().map(|backend| Ok((backend.name.clone(), open(backend, config, variables)?)));
    opened.collect()
}

fn open(backend: &BackendConfig, config: &Config, variables: &Variables) -> Result<Opened, Failure> {
    let failed =
        |reason: String, retryable| Failure::Backend { name: backend.name.clone(), reason, retryable };
    match &backend.kind {
        BackendKind::Pkcs11 { module_file, token_label, pin_file, sessions, .. } => {
            let settings = Pkcs11Config {
                name: backend.name.clone(),
                module_file: module_file.clone(),
                token_label: token_label.clone(),
                pin_file: pin_file.clone(),
                sessions: *sessions,
            };
            let opened = Pkcs11Backend::open(&settings);
            let opened = opened.map_err(|error| failed(error.to_string(), error.source.retryable()))?;
            Ok(Opened::Pkcs11(Arc::new(opened)))
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

/// The keyring over the opened backends. Each device must hold the key that was registered before under
/// its `signer_kid`.
pub fn keyring(
    config: &Config,
    backends: &[(String, Opened)],
    registry: Option<&SignersRegistry>,
) -> Result<Keyring, Failure> {
    let mut builder = Keyring::builder().ledger_key(config.ledger.signing_key.clone());
    for (_, opened) in backends {
        builder = builder.backend(opened.backend());
    }
    let known = registry_publisher::Known::of(registry).map_err(registry_publisher::PublishError::from)?;
    for key in &config.keys {
        builder = builder.key(KeySpec {
            kid: key.kid.clone(),
            signer_kid: key.signer_kid.clone(),
            backend: key.backend.clone(),
            label: key.label.clone(),
            algorithm: key.algorithm,
            purpose: key.purpose.as_str().to_owned(),
            description: key.description.clone(),
            registered: known.key(&key.signer_kid),
        });
    }
    Ok(builder.build()?)
}
