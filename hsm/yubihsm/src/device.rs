//! The device behind the keys: sessions on demand, one new session where an old one had died, and a thread
//! that keeps idle sessions from dying.
//!
//! A command is given a second time only if the first certainly was not executed. Anything else would be an
//! operation in the device's log with no entry on the ledger.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chancery_format::entry::KeyUse;
use chancery_hsm::SignerError;

use crate::config::YubiHsmConfig;
use crate::failure::{Failure, Remains};
use crate::password::PasswordFile;
use crate::session::{NotOpened, Pool, Seat, Session, Turn};
use crate::transport::Way;
use crate::wire::{Fields, command};

/// Time opening a device or a key may take.
const OPEN_TIME: Duration = Duration::from_secs(30);

/// Times a command is given, at most, where each earlier one found a dead session.
const ATTEMPTS: u32 = 3;

/// A device.
pub(crate) struct Device {
    pub(crate) name: String,
    way: Way,
    auth_key_id: u16,
    password: PasswordFile,
    pool: Pool,
}

/// What a device says of itself.
pub(crate) struct DeviceInfo {
    /// Ten digits, as printed on it.
    pub(crate) serial: String,
    /// `2.3.2`
    pub(crate) firmware: String,
}

impl Device {
    pub(crate) fn new(config: &YubiHsmConfig) -> Result<Self, Failure> {
        config.check().map_err(Failure::refused)?;
        Ok(Self {
            name: config.name.clone(),
            way: Way::new(config)?,
            auth_key_id: config.auth_key_id,
            password: PasswordFile::new(&config.password_file),
            pool: Pool::new(config.sessions),
        })
    }

    pub(crate) const fn auth_key_id(&self) -> u16 {
        self.auth_key_id
    }

    pub(crate) const fn sessions(&self) -> usize {
        self.pool.seats()
    }

    /// Opens every session, so that a device with too few of them left is found out at start and not under
    /// load.
    pub(crate) fn warm_up(&self) -> Result<(), SignerError> {
        let deadline = Instant::now() + OPEN_TIME;
        let mut seats = Vec::with_capacity(self.sessions());
        for _ in 0..self.sessions() {
            let mut seat = self.pool.sit(deadline, Turn::Any)?;
            self.session(&mut seat).map_err(Failure::when_opening)?;
            seats.push(seat); // kept, so that the next one is another
        }
        Ok(())
    }

    /// Does `work` in a session, and once more in a new one if the old one was dead.
    pub(crate) fn with_session<T>(
        &self,
        deadline: Instant,
        work: impl FnMut(&mut Session) -> Result<T, Failure>,
    ) -> Result<T, SignerError> {
        self.attempt(deadline, Turn::Any, work)?.map_err(Failure::when_using)
    }

    /// The same, before everybody who waits for a session.
    pub(crate) fn with_next_session<T>(
        &self,
        deadline: Instant,
        work: impl FnMut(&mut Session) -> Result<T, Failure>,
    ) -> Result<T, SignerError> {
        self.attempt(deadline, Turn::Next, work)?.map_err(Failure::when_using)
    }

    /// The same where nothing but opening is under way.
    pub(crate) fn with_session_at_start<T>(
        &self,
        work: impl FnMut(&mut Session) -> Result<T, Failure>,
    ) -> Result<T, SignerError> {
        self.try_at_start(work).map_err(Failure::when_opening)
    }

    /// The same for those who want to know what failed.
    pub(crate) fn try_at_start<T>(
        &self,
        work: impl FnMut(&mut Session) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let attempted = self.attempt(Instant::now() + OPEN_TIME, Turn::Any, work);
        attempted.unwrap_or_else(|_| Err(Failure::transient("no session was free in time")))
    }

    /// The outer error is the deadline's, the inner one the device's.
    fn attempt<T>(
        &self,
        deadline: Instant,
        turn: Turn,
        mut work: impl FnMut(&mut Session) -> Result<T, Failure>,
    ) -> Result<Result<T, Failure>, SignerError> {
        let mut seat = self.pool.sit(deadline, turn)?;
        let mut attempt = 1;
        loop {
            let session = match self.session(&mut seat) {
                Ok(session) => session,
                Err(failure) => return Ok(Err(failure)),
            };
            if Instant::now() >= deadline {
                return Err(SignerError::Deadline(KeyUse::None));
            }
            let failure = match work(session) {
                Ok(value) => return Ok(Ok(value)),
                Err(failure) => failure,
            };
            if failure.session != Remains::Usable {
                seat.session = None;
            }
            if failure.session != Remains::GoneBefore || attempt == ATTEMPTS {
                return Ok(Err(failure));
            }
            attempt += 1;
            tracing::debug!(device = %self.name, cause = %failure.cause, "opening a new session");
        }
    }

    /// The seat's session, opened if there is none.
    fn session<'s>(&self, seat: &'s mut Seat<'_>) -> Result<&'s mut Session, Failure> {
        let session = match seat.session.take() {
            Some(session) => session,
            None => self.open_session()?,
        };
        Ok(seat.session.insert(session))
    }

    fn open_session(&self) -> Result<Session, Failure> {
        let keys = self.password.keys()?;
        match Session::open(self.way.line(), self.auth_key_id, &keys) {
            Ok(session) => Ok(session),
            Err(NotOpened::Failed(failure)) => Err(failure),
            Err(NotOpened::WrongCredentials(cause)) => {
                self.password.mark_refused();
                let file = self.password.path().display();
                Err(Failure::logged_out(format!("{cause}; correct {file}")))
            }
        }
    }

    pub(crate) fn info(&self) -> Result<DeviceInfo, SignerError> {
        self.with_session_at_start(|session| {
            let answer = session.command(command::DEVICE_INFO, &[])?;
            let mut fields = Fields(&answer);
            let read = fields.take::<3>().zip(fields.u32());
            let ([major, minor, build], serial) =
                read.ok_or_else(|| Failure::nonsense(command::DEVICE_INFO, "device-info: too short"))?;
            Ok(DeviceInfo { serial: format!("{serial:010}"), firmware: format!("{major}.{minor}.{build}") })
        })
    }

    /// Speaks once in every session idle for at least `time`. Those that died are forgotten.
    fn refresh(&self, time: Duration) {
        for _ in 0..self.sessions() {
            let Some(mut seat) = self.pool.sit_with_idle(time) else { return };
            if let Some(session) = &mut seat.session
                && let Err(failure) = session.command(command::ECHO, b"keep-alive")
            {
                tracing::debug!(device = %self.name, cause = %failure.cause, "an idle session is gone");
                seat.session = None;
            }
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.pool.take_free().into_iter().for_each(Session::close);
    }
}

/// A thread that keeps sessions alive, ended when dropped.
pub(crate) struct Keeper {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Refreshes what has been idle for `idle`; looks four times as often, so that nothing is ever idle
    /// for much longer.
    pub(crate) fn start(device: &Arc<Device>, idle: Duration) -> std::io::Result<Self> {
        let (stop, stopped) = sync_channel(1);
        let weak = Arc::downgrade(device);
        let name = format!("hsm-{}-keep", device.name);
        let thread = std::thread::Builder::new().name(name).spawn(move || keep(&weak, &stopped, idle))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A panic there has ended the keeping, not the device.
            let _ = thread.join();
        }
    }
}

fn keep(device: &Weak<Device>, stopped: &Receiver<()>, idle: Duration) {
    while stopped.recv_timeout(idle / 4) == Err(RecvTimeoutError::Timeout) {
        let Some(device) = device.upgrade() else { return };
        device.refresh(idle);
    }
}
