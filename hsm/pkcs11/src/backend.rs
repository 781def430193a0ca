//! A token as a backend: sessions on demand, the recovery ladder, opening keys, the probe.
//!
//! The ladder: a failed step names what may help; the step is then done again, each time after a
//! stronger remedy, at most three times and never past the deadline. Looking a handle up again heals a
//! token that went away and came back; a new session heals one that was reset; initialising the module
//! again heals a lost device. Trying again is safe: whatever the device did before, at most one signature
//! leaves this function, and the ledger already knows that the key may be used.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chancery_format::SignatureAlgorithm;
use chancery_format::entry::KeyUse;
use chancery_hsm::{Backend, Cost, SESSIONS_MAX, SignerError, SignerHandle};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, KeyType, ObjectClass};
use cryptoki::session::{Session, UserType};

use crate::failure::{Failure, Kind, Remedy};
use crate::key::{KeyAddress, Pkcs11Key};
use crate::module::{Driver, Module};
use crate::pin::PinFile;
use crate::public_key;
use crate::session::{DeviceSession, Pool, Seat};

/// Time opening a token or a key may take.
const OPEN_TIME: Duration = Duration::from_secs(30);

/// Which token, and how to use it.
#[derive(Debug, Clone)]
pub struct Pkcs11Config {
    /// The operator's name for it.
    pub name: String,
    /// The driver, a shared library.
    pub module_file: PathBuf,
    /// CKA_LABEL of the token; must be unique among the module's slots.
    pub token_label: String,
    /// File with the user PIN; must not be readable by the world.
    pub pin_file: PathBuf,
    /// Sessions, and so operations under way at once; 1 to [`SESSIONS_MAX`].
    pub sessions: usize,
}

/// Why a token was not opened. The message names the file or label to correct, never the PIN.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("token \"{token_label}\": {source}")]
pub struct Pkcs11Error {
    token_label: String,
    /// What went wrong; [`SignerError::retryable`] says whether waiting may help.
    pub source: SignerError,
}

/// A token; see [`Backend`].
pub struct Pkcs11Backend {
    name: String,
    pub(crate) token: Arc<Token>,
    next_number: AtomicUsize,
    /// Keys that were opened, for the probe.
    opened: Mutex<Vec<KeyAddress>>,
}

impl Pkcs11Backend {
    /// Loads the module, finds the token, logs in.
    pub fn open(config: &Pkcs11Config) -> Result<Self, Pkcs11Error> {
        let failed = |source| Pkcs11Error { token_label: config.token_label.clone(), source };
        let token = Token::new(config).map_err(|failure| failed(failure.when_opening()))?;
        token.warm_up().map_err(failed)?;
        Ok(Self {
            name: config.name.clone(),
            token: Arc::new(token),
            next_number: AtomicUsize::new(0),
            opened: Mutex::default(),
        })
    }
}

impl Backend for Pkcs11Backend {
    fn name(&self) -> &str {
        &self.name
    }

    fn cost(&self) -> Cost {
        Cost::Blocking
    }

    fn sessions(&self) -> usize {
        self.token.pool.seats()
    }

    fn open_key(
        &self,
        label: &str,
        algorithm: SignatureAlgorithm,
    ) -> Result<Arc<dyn SignerHandle>, SignerError> {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let address = KeyAddress { number, label: label.to_owned(), algorithm };
        let public_key = self.token.with_session_at_start(|device| {
            let handle = address.find(&device.session, address.class())?;
            may_sign(&device.session, handle, &address)?;
            device.handles.insert(number, handle);
            if algorithm.is_mac() { Ok(None) } else { public_key::read(&device.session, &address).map(Some) }
        })?;
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).push(address.clone());
        Ok(Arc::new(Pkcs11Key { token: Arc::clone(&self.token), address, public_key }))
    }

    fn algorithms(&self) -> &'static [SignatureAlgorithm] {
        crate::key::ALGORITHMS
    }

    /// Finds every opened key on the token and lets the token compute a MAC with a key made for the
    /// occasion, which lives and dies in the session. A token that cannot make one is believed after the
    /// search alone.
    fn probe(&self, deadline: Instant) -> Result<(), SignerError> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.token.with_session(deadline, |device| {
            for address in &opened {
                let handle = address.find(&device.session, address.class())?;
                device.handles.insert(address.number, handle);
            }
            compute(&device.session)
        })
    }
}

fn may_sign(
    session: &Session,
    handle: cryptoki::object::ObjectHandle,
    address: &KeyAddress,
) -> Result<(), Failure> {
    use cryptoki::object::AttributeType;
    let attributes = session.get_attributes(handle, &[AttributeType::Sign])?;
    if attributes.contains(&Attribute::Sign(false)) {
        return Err(Failure::refused(format!("the key labelled \"{}\" may not sign", address.label)));
    }
    Ok(())
}

/// A computation on the device that uses no key of anybody's.
fn compute(session: &Session) -> Result<(), Failure> {
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::Token(false),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        Attribute::ValueLen(32.into()),
    ];
    let made = session.generate_key(&Mechanism::GenericSecretKeyGen, &template);
    let computed = made.and_then(|key| {
        let mac = session.sign(&Mechanism::Sha256Hmac, key, b"probe");
        session.destroy_object(key).and(mac)
    });
    match computed.map_err(Failure::from) {
        Err(failure) if failure.remedy != Remedy::Hopeless => Err(failure),
        _ => Ok(()), // it answered, if only to say that it does not do this
    }
}

/// The token behind the keys.
pub(crate) struct Token {
    pub(crate) module: Arc<Module>,
    pub(crate) label: String,
    pub(crate) pin: PinFile,
    pool: Pool,
}

impl Token {
    fn new(config: &Pkcs11Config) -> Result<Self, Failure> {
        if !(1..=SESSIONS_MAX).contains(&config.sessions) {
            return Err(Failure::refused(format!("sessions must be 1 to {SESSIONS_MAX}")));
        }
        Ok(Self {
            module: Module::load(&config.module_file)?,
            label: config.token_label.clone(),
            pin: PinFile::new(&config.pin_file),
            pool: Pool::new(config.sessions),
        })
    }

    /// Opens every session, so that a token with too few of them is found out at start and not under
    /// load.
    fn warm_up(&self) -> Result<(), SignerError> {
        self.with_session_at_start(|_| Ok(()))?;
        let deadline = Instant::now() + OPEN_TIME;
        let mut seats = Vec::with_capacity(self.pool.seats());
        for _ in 0..self.pool.seats() {
            let mut seat = self.pool.sit(deadline)?;
            self.attempt(&mut seat, &mut |_| Ok(())).1.map_err(Failure::when_opening)?;
            seats.push(seat); // kept, so that the next one is another
        }
        Ok(())
    }

    /// Does `work` in a session, climbing the ladder on failure.
    pub(crate) fn with_session<T>(
        &self,
        deadline: Instant,
        work: impl FnMut(&mut DeviceSession) -> Result<T, Failure>,
    ) -> Result<T, SignerError> {
        self.climb(deadline, work)?.map_err(Failure::when_using)
    }

    fn with_session_at_start<T>(
        &self,
        work: impl FnMut(&mut DeviceSession) -> Result<T, Failure>,
    ) -> Result<T, SignerError> {
        self.climb(Instant::now() + OPEN_TIME, work)?.map_err(Failure::when_opening)
    }

    /// The outer error is the deadline's, the inner one the device's.
    fn climb<T>(
        &self,
        deadline: Instant,
        mut work: impl FnMut(&mut DeviceSession) -> Result<T, Failure>,
    ) -> Result<Result<T, Failure>, SignerError> {
        let mut seat = self.pool.sit(deadline)?;
        let mut weakest = Remedy::FindAgain;
        let mut key_use = KeyUse::None;
        loop {
            let (generation, failure) = match self.attempt(&mut seat, &mut work) {
                (_, Ok(value)) => return Ok(Ok(value)),
                (generation, Err(failure)) => (generation, failure),
            };
            if failure.key_use == KeyUse::Unknown {
                key_use = KeyUse::Unknown;
            }
            let remedy = failure.remedy.max(weakest);
            weakest = remedy.next();
            if failure.kind == Kind::Missing && remedy >= Remedy::Reinitialise {
                // The token is well and the key is gone: no reason to take everybody's sessions.
                return Ok(Err(Failure { key_use, ..failure }));
            }
            if Instant::now() >= deadline && remedy != Remedy::Hopeless {
                return Err(SignerError::Deadline(key_use));
            }
            if !self.apply(remedy, &mut seat, generation, deadline) {
                return Ok(Err(Failure { key_use, ..failure }));
            }
            tracing::debug!(token = %self.label, ?remedy, cause = %failure.cause, "trying the token again");
        }
    }

    fn attempt<T>(
        &self,
        seat: &mut Seat<'_>,
        work: &mut impl FnMut(&mut DeviceSession) -> Result<T, Failure>,
    ) -> (u64, Result<T, Failure>) {
        let driver = self.module.enter();
        let result = self.open_session(seat, &driver).and_then(work);
        (driver.generation, result)
    }

    /// The seat's session, opened and logged in if there is none of this generation.
    fn open_session<'s>(
        &self,
        seat: &'s mut Seat<'_>,
        driver: &Driver,
    ) -> Result<&'s mut DeviceSession, Failure> {
        let current = seat.session.take().filter(|session| session.generation == driver.generation);
        let device = match current {
            Some(device) => device,
            None => {
                let session = driver.pkcs11.open_ro_session_no_drop(driver.slot_of(&self.label)?)?;
                let device = DeviceSession::new(session, driver.generation);
                if let Err(failure) = self.log_in(&device.session) {
                    device.close(driver);
                    return Err(failure);
                }
                device
            }
        };
        Ok(seat.session.insert(device))
    }

    /// Logging in is per process and token, so another session may have done it.
    pub(crate) fn log_in(&self, session: &Session) -> Result<(), Failure> {
        let pin = self.pin.read()?;
        match session.login(UserType::User, Some(&pin)) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
            Err(Error::Pkcs11(
                code @ (RvError::PinIncorrect | RvError::PinLenRange | RvError::PinLocked),
                _,
            )) => {
                self.pin.mark_refused();
                let file = self.pin.path().display();
                Err(Failure::logged_out(format!(
                    "the token refused the PIN in {file} ({code:?}); correct that file"
                )))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether trying again makes sense.
    fn apply(&self, remedy: Remedy, seat: &mut Seat<'_>, generation: u64, deadline: Instant) -> bool {
        match remedy {
            Remedy::FindAgain => {
                if let Some(device) = &mut seat.session {
                    device.handles.clear();
                }
                true
            }
            Remedy::Reopen => {
                self.close_seat(seat);
                true
            }
            Remedy::Reinitialise => {
                self.close_seat(seat);
                self.module.reinitialise(generation, deadline)
            }
            Remedy::Hopeless => false,
        }
    }

    fn close_seat(&self, seat: &mut Seat<'_>) {
        if let Some(device) = seat.session.take() {
            device.close(&self.module.enter());
        }
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        let driver = self.module.enter();
        for device in self.pool.take_free() {
            device.close(&driver);
        }
    }
}
