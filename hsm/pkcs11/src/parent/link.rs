//! The way to whatever worker there is: waits for one, asks it, and asks the next one if it died before
//! it began.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chancery_format::entry::KeyUse;
use chancery_hsm::SignerError;

use super::child::{Child, Died, Notes, no_start};
use super::counters::Operations;
use super::supervisor;
use crate::config::{NEXT_IN_LINE, Pkcs11Config};
use crate::limits::{HAND_OVERS_MAX, SETUP_TIME};
use crate::message::{Reply, Request};
use crate::sandbox_report::SandboxReport;

/// The worker of one backend, under whatever process id.
pub(crate) struct Link {
    shared: Arc<Shared>,
}

/// What the supervisor and those who ask share.
pub(crate) struct Shared {
    pub(crate) config: Pkcs11Config,
    pub(crate) provisioning: bool,
    pub(crate) state: Mutex<State>,
    pub(crate) changed: Condvar,
    pub(crate) notes: Arc<Notes>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) child: Option<Arc<Child>>,
    /// Somebody waits for a worker.
    pub(crate) wanted: bool,
    /// The worker is to be replaced.
    pub(crate) renew: bool,
    /// The backend is gone.
    pub(crate) closing: bool,
    /// Starts that failed, and why the last one did.
    pub(crate) failures: u64,
    pub(crate) failure: Option<SignerError>,
    pub(crate) sandbox: SandboxReport,
    /// Requests now with a worker; at most [`NEXT_IN_LINE`] more than there are sessions.
    busy: usize,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // Changed in single steps; nobody leaves it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    /// Starts the supervisor and the first worker.
    pub(crate) fn start(config: &Pkcs11Config, provisioning: bool) -> Result<Self, SignerError> {
        let shared = Arc::new(Shared {
            config: config.clone(),
            provisioning,
            state: Mutex::default(),
            changed: Condvar::new(),
            notes: Arc::default(),
        });
        let supervised = Arc::clone(&shared);
        let name = format!("p11-sup-{}", config.name);
        let spawned = std::thread::Builder::new().name(name).spawn(move || supervisor::run(&supervised));
        spawned.map_err(|error| no_start(&error))?;
        let link = Self { shared };
        link.child(Instant::now() + SETUP_TIME * 2)?;
        Ok(link)
    }

    /// Asks the worker. `make` gets the time left until the deadline. A worker that is at it for longer
    /// than `limit` is killed, which ends the request. Without a deadline, the first worker's death is the
    /// request's end.
    pub(crate) fn call(
        &self,
        mut make: impl FnMut(Duration) -> Request,
        label: Option<&str>,
        deadline: Option<Instant>,
        limit: Duration,
    ) -> Result<Reply, SignerError> {
        let wait_until = deadline.unwrap_or_else(|| Instant::now() + limit);
        let _seat = self.sit(wait_until)?;
        for _ in 0..HAND_OVERS_MAX {
            let child = self.child(wait_until)?;
            let left = wait_until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(SignerError::Deadline(KeyUse::None));
            }
            match child.ask(&make(left), label, limit) {
                Ok(reply) => return Ok(reply),
                Err(Died { started: false }) if deadline.is_some() => {}
                Err(Died { started }) => {
                    return Err(SignerError::Unavailable {
                        cause: "the PKCS#11 worker ended during the request".to_owned(),
                        key_use: if started { KeyUse::Unknown } else { KeyUse::None },
                    });
                }
            }
        }
        Err(SignerError::unavailable("one PKCS#11 worker after another ends before it has begun"))
    }

    /// Replaces the worker by a new one, letting it close its sessions.
    pub(crate) fn renew(&self) {
        let mut state = self.shared.lock();
        state.renew = true;
        state.child = None;
        self.shared.changed.notify_all();
    }

    pub(crate) fn sandbox(&self) -> SandboxReport {
        self.shared.lock().sandbox.clone()
    }

    pub(crate) fn operations(&self) -> BTreeMap<String, Operations> {
        self.shared.notes.counters.all()
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.shared.lock().child.as_ref().map(|child| child.pid)
    }

    pub(crate) fn stuck_after(&self) -> Duration {
        self.shared.config.launch.stuck_after
    }

    /// A worker that was alive a moment ago.
    fn child(&self, deadline: Instant) -> Result<Arc<Child>, SignerError> {
        let mut state = self.shared.lock();
        let failures_before = state.failures;
        loop {
            if let Some(child) = state.child.as_ref().filter(|child| !child.is_gone()) {
                return Ok(Arc::clone(child));
            }
            if let Some(failure) = state.failure.as_ref().filter(|_| state.failures > failures_before) {
                return Err(failure.clone());
            }
            state.wanted = true;
            self.shared.changed.notify_all();
            state = self.wait(state, deadline)?;
        }
    }

    /// Waits for one of the worker's sessions, or to be among those that are next: no session then waits for us.
    fn sit(&self, deadline: Instant) -> Result<Seat<'_>, SignerError> {
        let mut state = self.shared.lock();
        if Instant::now() >= deadline {
            return Err(SignerError::Deadline(KeyUse::None));
        }
        while state.busy >= self.shared.config.sessions.saturating_add(NEXT_IN_LINE) {
            state = self.wait(state, deadline)?;
        }
        state.busy += 1;
        Ok(Seat(&self.shared))
    }

    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        deadline: Instant,
    ) -> Result<MutexGuard<'a, State>, SignerError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(SignerError::Deadline(KeyUse::None));
        }
        let waited = self.shared.changed.wait_timeout(state, left);
        Ok(waited.unwrap_or_else(PoisonError::into_inner).0)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.changed.notify_all();
    }
}

struct Seat<'a>(&'a Shared);

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.lock().busy -= 1;
        self.0.changed.notify_all();
    }
}
