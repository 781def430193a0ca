//! A token: sessions on demand, the recovery ladder, opening keys, the probe.
//!
//! The ladder: a failed step names what may help; the step is then done again, each time after a
//! stronger remedy, at most three times and never past the deadline. Looking a handle up again heals a
//! token that went away and came back; a new session heals one that was reset; initialising the module
//! again heals a lost device. Trying again is safe: whatever the device did before, at most one signature
//! leaves this function, and the ledger already knows that the key may be used.

use std::sync::Arc;
use std::time::Instant;

use chancery_format::PublicKey;
use chancery_format::entry::KeyUse;
use chancery_hsm::SignerError;
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, KeyType, ObjectClass};
use cryptoki::session::{Session, UserType};

use crate::limits::OPEN_TIME;
use crate::message::Setup;
use crate::selector::{KeyAddress, TokenSelector};
use crate::worker::failure::{Failure, Kind, Remedy};
use crate::worker::key::{class, find, mechanism};
use crate::worker::module::{Driver, Module};
use crate::worker::pin::PinFile;
use crate::worker::public_key;
use crate::worker::session::{DeviceSession, Pool, Seat};

impl Token {
    /// Finds a key and reads its public half.
    pub(crate) fn open_key(&self, address: &KeyAddress) -> Result<Option<PublicKey>, SignerError> {
        self.with_session_at_start(|device| {
            let handle = find(&device.session, address, class(address.algorithm))?;
            may_sign(&device.session, handle, address)?;
            self.offers(address)?;
            device.handles.insert(address.number, handle);
            if address.algorithm.is_mac() {
                Ok(None)
            } else {
                public_key::read(&device.session, address).map(Some)
            }
        })
    }

    /// Whether the token has the mechanism at all: better told when the key is opened than at its first use.
    fn offers(&self, address: &KeyAddress) -> Result<(), Failure> {
        let driver = self.module.enter();
        let mechanism = mechanism(address.algorithm).map_err(|error| Failure::refused(error.to_string()))?;
        let offered = driver.pkcs11.get_mechanism_list(driver.slot_of(&self.selector)?)?;
        if offered.contains(&mechanism.mechanism_type()) {
            return Ok(());
        }
        let kind = mechanism.mechanism_type();
        Err(Failure::refused(format!("the token has no {kind}, which {} needs", address.algorithm)))
    }

    /// Finds every opened key on the token and lets the token compute a MAC with a key made for the
    /// occasion, which lives and dies in the session. A token that cannot make one is believed after the
    /// search alone.
    pub(crate) fn probe(&self, opened: &[KeyAddress], deadline: Instant) -> Result<(), SignerError> {
        self.with_session(deadline, |device| {
            for address in opened {
                let handle = find(&device.session, address, class(address.algorithm))?;
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
    pub(crate) selector: TokenSelector,
    pub(crate) pin: PinFile,
    pool: Pool,
}

impl Token {
    pub(crate) fn new(setup: &Setup) -> Result<Self, Failure> {
        Ok(Self {
            module: Module::load(&setup.module_file)?,
            selector: setup.token.clone(),
            pin: PinFile::new(&setup.pin_file, setup.pin_refused),
            pool: Pool::new(setup.sessions),
        })
    }

    /// Opens every session, so that a token with too few of them is found out at start and not under
    /// load.
    pub(crate) fn warm_up(&self, deadline: Instant) -> Result<(), SignerError> {
        self.with_session_at_start(|_| Ok(()))?;
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
                let session = driver.pkcs11.open_ro_session_no_drop(driver.slot_of(&self.selector)?)?;
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
        match session.login(UserType::User, Some(pin.pin())) {
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

    /// Closes the sessions nobody uses, then the driver.
    pub(crate) fn close(&self) {
        let driver = self.module.enter();
        for device in self.pool.take_free() {
            device.close(&driver);
        }
        let _ = driver.pkcs11.clone().finalize();
    }
}
