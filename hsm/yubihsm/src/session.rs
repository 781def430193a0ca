//! One authenticated session, and the pool of them: a fixed number of seats, each with at most one session,
//! each session with one operation and one line to the device.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::rand;
use chancery_format::entry::KeyUse;
use chancery_hsm::SignerError;

use crate::config::SESSION_IDLE;
use crate::failure::{Failure, Remains};
use crate::scp03::{CHALLENGE, Channel, MESSAGES_MAX, Mismatch, StaticKeys};
use crate::transport::Transport;
use crate::wire::{self, ANSWER, Fields, command, device_error};

/// A session this long unused is taken for dead although the device might still have it.
const STALE: Duration = SESSION_IDLE.saturating_sub(Duration::from_secs(1));

/// Why no session came about.
pub(crate) enum NotOpened {
    /// The device does not know the authentication key, or knows another password for it.
    WrongCredentials(String),
    /// Anything else.
    Failed(Failure),
}

impl From<Failure> for NotOpened {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// An authenticated session.
pub(crate) struct Session {
    line: Box<dyn Transport>,
    channel: Channel,
    last_used: Instant,
}

impl Session {
    pub(crate) fn open(
        mut line: Box<dyn Transport>,
        auth_key_id: u16,
        keys: &StaticKeys,
    ) -> Result<Self, NotOpened> {
        let host: [u8; CHALLENGE] = rand::generate(&rand::SystemRandom::new())
            .map_err(|_| Failure::transient("no random numbers"))?
            .expose();
        let content = [auth_key_id.to_be_bytes().as_slice(), &host].concat();
        let request = wire::message(command::CREATE_SESSION, &content);
        let answer = exchange(line.as_mut(), command::CREATE_SESSION, command::CREATE_SESSION, &request);
        let answer = match answer {
            Err(Step::Device(device_error::OBJECT_NOT_FOUND)) => {
                let cause = format!("the device has no authentication key 0x{auth_key_id:04x}");
                return Err(NotOpened::WrongCredentials(cause));
            }
            answer => answer.map_err(|step| step.during(command::CREATE_SESSION))?,
        };
        let mut fields = Fields(&answer);
        let nonsense =
            || Failure::nonsense(command::CREATE_SESSION, "create-session: an answer of odd length");
        let id = fields.u8().ok_or_else(nonsense)?;
        let device: [u8; CHALLENGE] = fields.take().ok_or_else(nonsense)?;
        let cryptogram = fields.take().ok_or_else(nonsense)?;
        let unusable = |_: Mismatch| Failure::transient("no session keys could be derived");
        let mut channel = Channel::new(id, keys, host, device).map_err(unusable)?;
        let wrong = || {
            let cause = format!("authentication key 0x{auth_key_id:04x} has another password");
            NotOpened::WrongCredentials(cause)
        };
        if !channel.device_is_genuine(cryptogram) {
            return Err(wrong());
        }
        let proof = channel.authenticate().map_err(unusable)?;
        let code = command::AUTHENTICATE_SESSION;
        match exchange(line.as_mut(), code, code, &proof) {
            Ok(_) => Ok(Self { line, channel, last_used: Instant::now() }),
            Err(Step::Device(device_error::AUTHENTICATION_FAILED)) => Err(wrong()),
            Err(step) => Err(step.during(code).into()),
        }
    }

    /// Gives a command and returns the content of its answer.
    pub(crate) fn command(&mut self, code: u8, content: &[u8]) -> Result<Vec<u8>, Failure> {
        let gone = |cause: &str| {
            let cause = format!("{}: {cause}", command::name(code));
            Failure::nonsense(code, cause)
        };
        let sealed = self.channel.seal_command(&wire::message(code, content));
        let sealed =
            sealed.map_err(|_| Failure { key_use: KeyUse::None, ..gone("it could not be encrypted") })?;
        self.last_used = Instant::now();
        let answer = exchange(self.line.as_mut(), code, command::SESSION_MESSAGE, &sealed);
        let answer = answer.map_err(|step| step.during(code))?;
        let plain = self.channel.open_answer(&answer);
        let plain = plain.map_err(|Mismatch| gone("the answer is not the device's, or was changed"))?;
        match wire::parse(&plain) {
            Some((answered, content)) if answered == code | ANSWER => Ok(content.to_vec()),
            Some((command::ERROR, [error])) => Err(Failure::by_device(code, *error)),
            _ => Err(gone("the answer is to something else")),
        }
    }

    pub(crate) fn idle(&self) -> Duration {
        self.last_used.elapsed()
    }

    fn is_worn_out(&self) -> bool {
        self.idle() >= STALE || self.channel.messages() >= MESSAGES_MAX
    }

    /// Gives the place back to the device's other clients; whether that works is not waited for twice.
    pub(crate) fn close(mut self) {
        let _ = self.command(command::CLOSE_SESSION, &[]);
    }
}

/// A step outside the encrypted channel that failed.
enum Step {
    Failed(Failure),
    Device(u8),
}

impl Step {
    fn during(self, code: u8) -> Failure {
        match self {
            Self::Failed(failure) => failure,
            Self::Device(error) => match Failure::by_device(code, error) {
                failure if failure.session == Remains::Usable => {
                    Failure { session: Remains::Gone, ..failure }
                }
                failure => failure,
            },
        }
    }
}

/// One exchange: `code` is what is done, `outer` the message it travels in.
fn exchange(line: &mut dyn Transport, code: u8, outer: u8, message: &[u8]) -> Result<Vec<u8>, Step> {
    let answer = line.exchange(message).map_err(|broken| Step::Failed(Failure::broken(code, broken)))?;
    match wire::parse(&answer) {
        Some((answered, content)) if answered == outer | ANSWER => Ok(content.to_vec()),
        Some((command::ERROR, [error])) => Err(Step::Device(*error)),
        _ => {
            let cause = format!("{}: the connector's answer is no message", command::name(code));
            Err(Step::Failed(Failure::nonsense(code, cause)))
        }
    }
}

/// All seats of a device.
pub(crate) struct Pool {
    inside: Mutex<Seats>,
    returned: Condvar,
    seats: usize,
}

struct Seats {
    free: Vec<Option<Session>>,
    /// Those who wait and get the next seat.
    first_in_line: usize,
}

impl Seats {
    /// A seat with an open session, or any.
    fn place(&self) -> Option<usize> {
        let open = self.free.iter().rposition(Option::is_some);
        open.or_else(|| self.free.len().checked_sub(1))
    }
}

/// Who gets a seat when many wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Whoever comes.
    Any,
    /// The next one that is free: for what must not starve beside callers, the log.
    Next,
}

impl Pool {
    pub(crate) fn new(seats: usize) -> Self {
        let inside = Seats { free: (0..seats).map(|_| None).collect(), first_in_line: 0 };
        Self { inside: Mutex::new(inside), returned: Condvar::new(), seats }
    }

    pub(crate) const fn seats(&self) -> usize {
        self.seats
    }

    /// Takes a seat, preferring one whose session is open; waits for one until the deadline. A session too
    /// old to be trusted is left behind.
    pub(crate) fn sit(&self, deadline: Instant, turn: Turn) -> Result<Seat<'_>, SignerError> {
        let mut seats = self.lock();
        let mut waiting = false;
        loop {
            let now = Instant::now();
            let place = seats.place().filter(|_| turn == Turn::Next || seats.first_in_line == 0);
            if waiting && (place.is_some() || now >= deadline) {
                seats.first_in_line = seats.first_in_line.saturating_sub(1);
                waiting = false;
            }
            if now >= deadline {
                drop(seats);
                // Those who let it pass may go on.
                self.returned.notify_all();
                return Err(SignerError::Deadline(KeyUse::None));
            }
            if let Some(place) = place {
                let session = seats.free.swap_remove(place).filter(|session| !session.is_worn_out());
                drop(seats);
                self.returned.notify_all();
                return Ok(Seat { pool: self, session });
            }
            if turn == Turn::Next && !waiting {
                seats.first_in_line += 1;
                waiting = true;
            }
            let waited = self.returned.wait_timeout(seats, deadline.saturating_duration_since(now));
            seats = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A free seat whose session has been idle for at least `time`, if there is one.
    pub(crate) fn sit_with_idle(&self, time: Duration) -> Option<Seat<'_>> {
        let mut seats = self.lock();
        let idle = |session: &Option<Session>| session.as_ref().is_some_and(|session| session.idle() >= time);
        let place = seats.free.iter().position(idle)?;
        let session = seats.free.swap_remove(place);
        Some(Seat { pool: self, session })
    }

    /// Takes every session out of the free seats.
    pub(crate) fn take_free(&self) -> Vec<Session> {
        self.lock().free.iter_mut().filter_map(Option::take).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seats> {
        // A list of sessions and a count; nobody leaves them half changed.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A seat while it is taken; goes back when dropped.
pub(crate) struct Seat<'a> {
    pool: &'a Pool,
    pub(crate) session: Option<Session>,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        // After a panic nobody knows what the session was doing; the device forgets it by itself.
        let session = self.session.take().filter(|_| !std::thread::panicking());
        self.pool.lock().free.push(session);
        self.pool.returned.notify_all();
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn who_is_next_comes_before_all_who_wait() {
        let pool = Pool::new(1);
        let later = Instant::now() + Duration::from_secs(60);
        let (tell, told) = sync_channel(3);
        std::thread::scope(|scope| {
            let taken = pool.sit(later, Turn::Any).unwrap();
            let wait = |turn| {
                let (pool, tell) = (&pool, tell.clone());
                move || {
                    let _seat = pool.sit(later, turn).unwrap();
                    tell.send(turn).unwrap();
                }
            };
            scope.spawn(wait(Turn::Any));
            scope.spawn(wait(Turn::Any));
            scope.spawn(wait(Turn::Next));
            while pool.lock().first_in_line == 0 {
                std::thread::yield_now();
            }
            drop(taken);
        });
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [Turn::Next, Turn::Any, Turn::Any]);
        // One who gave up leaves no trace.
        let taken = pool.sit(later, Turn::Any).unwrap();
        let soon = Instant::now() + Duration::from_millis(10);
        assert!(matches!(pool.sit(soon, Turn::Next), Err(SignerError::Deadline(KeyUse::None))));
        drop(taken);
        assert!(pool.sit(later, Turn::Any).is_ok());
    }
}
