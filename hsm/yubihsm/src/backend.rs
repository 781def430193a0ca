//! A device as a backend: opening it, opening keys, the probe.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use chancery_format::SignatureAlgorithm;
use chancery_hsm::{Backend, Birth, Cost, DeviceLog, SignerError, SignerHandle};

use crate::attestation::{self, Roots};
use crate::audit;
use crate::config::{ForceAudit, YubiHsmConfig, YubiHsmError};
use crate::device::{Device, DeviceInfo, Keeper};
use crate::device_log::YubiHsmLog;
use crate::failure::{Failure, Kind};
use crate::key::{self, YubiHsmKey};
use crate::objects::{self, type_for};
use crate::wire::command;

/// Labels of opened keys, by object id and type: what a log entry's target is called.
pub(crate) type Labels = Arc<Mutex<HashMap<(u16, u8), String>>>;

/// A YubiHSM 2; see [`Backend`].
pub struct YubiHsmBackend {
    pub(crate) device: Arc<Device>,
    info: DeviceInfo,
    roots: Option<Roots>,
    labels: Labels,
    log: Arc<YubiHsmLog>,
    /// What is still to be asked of the log's settings before any key is opened.
    audit: Mutex<ForceAudit>,
    /// Ends when the backend does.
    _keeper: Option<Keeper>,
}

impl YubiHsmBackend {
    /// Opens every session, checks that this is the device that was meant, and what its log is set to. A log
    /// that is full with forced auditing does not keep the device from being opened, only its keys.
    /// Writes nothing to the device, except with [`ForceAudit::Set`].
    pub fn open(config: &YubiHsmConfig) -> Result<Self, YubiHsmError> {
        let failed = |source| YubiHsmError { name: config.name.clone(), source };
        Self::try_open(config).map_err(failed)
    }

    fn try_open(config: &YubiHsmConfig) -> Result<Self, SignerError> {
        let roots = config.attestation_roots.as_deref().map(Roots::read).transpose();
        let roots = roots.map_err(Failure::when_opening)?;
        let device = Arc::new(Device::new(config).map_err(Failure::when_opening)?);
        device.warm_up()?;
        let info = device.info()?;
        if let Some(wanted) = &config.serial
            && wanted.trim_start_matches('0') != info.serial.trim_start_matches('0')
        {
            return Err(SignerError::refused(format!("this device is {}, not {wanted}", info.serial)));
        }
        let keeper = config.keep_alive.map(|idle| Keeper::start(&device, idle)).transpose();
        let keeper = keeper.map_err(|error| SignerError::unavailable(format!("no thread: {error}")))?;
        let labels = Labels::default();
        let log = YubiHsmLog::new(
            Arc::clone(&device),
            info.serial.clone(),
            Arc::clone(&labels),
            config.log_position,
        );
        let audit = Mutex::new(config.force_audit);
        let backend = Self { device, info, roots, labels, log: Arc::new(log), audit, _keeper: keeper };
        match backend.check_audit() {
            // Otherwise nobody could empty it: it is checked again before a key is opened.
            Err(failure) if failure.kind == Kind::LogFull => {
                tracing::warn!(device = %config.name, "the device's log is full; it has to be consumed first");
                Ok(backend)
            }
            result => result.map_err(Failure::when_opening).map(|()| backend),
        }
    }

    /// Asks the device what it logs, until the answer was good once.
    fn check_audit(&self) -> Result<(), Failure> {
        let mut audit = self.audit.lock().unwrap_or_else(PoisonError::into_inner);
        if *audit != ForceAudit::Ignore {
            self.device.try_at_start(|session| audit::ensure(session, *audit))?;
            *audit = ForceAudit::Ignore;
        }
        Ok(())
    }

    /// The device's serial number: ten digits.
    pub fn serial(&self) -> &str {
        &self.info.serial
    }

    /// The device's firmware, as `2.3.2`.
    pub fn firmware(&self) -> &str {
        &self.info.firmware
    }
}

impl Backend for YubiHsmBackend {
    fn name(&self) -> &str {
        &self.device.name
    }

    fn cost(&self) -> Cost {
        Cost::Blocking
    }

    fn sessions(&self) -> usize {
        self.device.sessions()
    }

    fn open_key(
        &self,
        label: &str,
        algorithm: SignatureAlgorithm,
    ) -> Result<Arc<dyn SignerHandle>, SignerError> {
        self.check_audit().map_err(Failure::when_opening)?;
        let (info, public_key) = self.device.with_session_at_start(|session| {
            let info = objects::find(session, label, type_for(algorithm))?;
            key::check(&info, label, algorithm)?;
            let public_key = match algorithm.is_mac() {
                true => None,
                false => Some(objects::public_key(session, info.id, algorithm)?),
            };
            Ok((info, public_key))
        })?;
        let mut labels = self.labels.lock().unwrap_or_else(PoisonError::into_inner);
        labels.insert((info.id, info.object_type), label.to_owned());
        drop(labels);
        Ok(Arc::new(YubiHsmKey { device: Arc::clone(&self.device), id: info.id, algorithm, public_key }))
    }

    /// Lets the device decrypt, answer and authenticate a few bytes in a session. It asks for nothing that
    /// the device logs as delivered: a probe that filled the log would stop what it watches.
    fn probe(&self, deadline: Instant) -> Result<(), SignerError> {
        self.device.with_session(deadline, |session| {
            let answer = session.command(command::ECHO, b"probe")?;
            if answer == b"probe" {
                Ok(())
            } else {
                Err(Failure::nonsense(command::ECHO, "echo: other bytes"))
            }
        })
    }

    fn algorithms(&self) -> &'static [SignatureAlgorithm] {
        key::ALGORITHMS
    }

    /// The attestation is missing for MAC keys, which have none, and where the authentication key may not
    /// ask for it. A wrong one is an error.
    fn birth(&self, label: &str, algorithm: SignatureAlgorithm) -> Result<Birth, SignerError> {
        let (info, chain) = self.device.with_session_at_start(|session| {
            let info = objects::find(session, label, type_for(algorithm))?;
            key::check(&info, label, algorithm)?;
            if algorithm.is_mac() {
                return Ok((info, None));
            }
            let public_key = objects::public_key(session, info.id, algorithm)?;
            let serial = &self.info.serial;
            let chain = attestation::fetch(session, info.id, &public_key, serial, self.roots.as_ref())?;
            Ok((info, chain))
        })?;
        let (attestation, attestation_anchored) = chain.unwrap_or_default();
        Ok(Birth {
            origin: info.origin(),
            device: Some("yubihsm2".to_owned()),
            serial: Some(self.info.serial.clone()),
            attestation,
            attestation_anchored,
        })
    }

    fn device_log(&self) -> Option<Arc<dyn DeviceLog>> {
        Some(Arc::clone(&self.log) as Arc<dyn DeviceLog>)
    }
}
