//! Sessions: a fixed number of seats, each with at most one session, each session with one operation.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

use chancery_format::entry::KeyUse;
use chancery_hsm::SignerError;
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;

use crate::worker::module::Driver;

/// A logged-in session and the handles it knows.
pub(crate) struct DeviceSession {
    /// Opened so that dropping it calls nothing: see [`DeviceSession::close`].
    pub(crate) session: Session,
    pub(crate) generation: u64,
    /// By the key's number within the backend.
    pub(crate) handles: HashMap<usize, ObjectHandle>,
}

impl DeviceSession {
    pub(crate) fn new(session: Session, generation: u64) -> Self {
        Self { session, generation, handles: HashMap::new() }
    }

    /// Closes the session, unless the driver was initialised since: then its number means nothing, or
    /// somebody else's session.
    pub(crate) fn close(self, driver: &Driver) {
        if self.generation == driver.generation {
            // A session that cannot be closed is gone already.
            let _ = self.session.close();
        }
    }
}

/// All seats of a backend.
pub(crate) struct Pool {
    free: Mutex<Vec<Option<DeviceSession>>>,
    returned: Condvar,
    seats: usize,
}

impl Pool {
    pub(crate) fn new(seats: usize) -> Self {
        Self { free: Mutex::new((0..seats).map(|_| None).collect()), returned: Condvar::new(), seats }
    }

    pub(crate) const fn seats(&self) -> usize {
        self.seats
    }

    /// Takes a seat, preferring one whose session is open; waits for one until the deadline.
    pub(crate) fn sit(&self, deadline: Instant) -> Result<Seat<'_>, SignerError> {
        let mut free = self.lock();
        loop {
            let now = Instant::now();
            if now >= deadline {
                return Err(SignerError::Deadline(KeyUse::None));
            }
            let open = free.iter().rposition(Option::is_some);
            let place = open.or_else(|| free.len().checked_sub(1));
            if let Some(place) = place {
                let session = free.swap_remove(place);
                return Ok(Seat { pool: self, session });
            }
            let waited = self.returned.wait_timeout(free, deadline.saturating_duration_since(now));
            free = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes every session out of the free seats.
    pub(crate) fn take_free(&self) -> Vec<DeviceSession> {
        self.lock().iter_mut().filter_map(Option::take).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Option<DeviceSession>>> {
        // A list of sessions; nobody leaves it half changed.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A seat while it is taken; goes back when dropped.
pub(crate) struct Seat<'a> {
    pool: &'a Pool,
    pub(crate) session: Option<DeviceSession>,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        // After a panic nobody knows what operation the session is in; it is left to the driver.
        let session = self.session.take().filter(|_| !std::thread::panicking());
        self.pool.lock().push(session);
        self.pool.returned.notify_one();
    }
}
