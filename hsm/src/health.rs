//! How a backend is doing, and whether it is worth asking.
//!
//! A backend that answered "unavailable" is *down*: requests for its keys are refused at once, so that
//! callers learn in microseconds what they would otherwise learn at their deadline. Once every
//! [`TRIAL_INTERVAL`] one request is let through, and a probe may run at any time; the first success ends
//! the outage. Trials are real, recorded requests, because a key is never used for a health check.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::signer::SignerError;

/// While a backend is down, one request per interval may try it.
pub const TRIAL_INTERVAL: Duration = Duration::from_millis(500);

/// A device call longer than this counts as stuck. Above any honest signature, below any patience.
pub const STUCK_AFTER: Duration = Duration::from_secs(10);

/// What an operator sees of one backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendHealth {
    /// The operator's name for it.
    pub name: String,
    /// Whether requests reach it.
    pub state: BackendState,
    /// Code of the last failure that was the backend's, and how long ago.
    pub last_error: Option<(&'static str, Duration)>,
    /// Text of that failure, for people; never in a label.
    pub last_cause: Option<String>,
    /// How long since it last did what it should; `None` if it never did.
    pub last_success: Option<Duration>,
    /// Operations on the device now.
    pub in_flight: usize,
    /// Age of the oldest of those.
    pub oldest_in_flight: Option<Duration>,
    /// Operations waiting.
    pub queue_depth: usize,
    /// How many may wait; 0 for an inline backend, which has no queue.
    pub queue_max: usize,
    /// How many operations it does at the same time; 0 for an inline backend, which has no limit.
    pub sessions: usize,
    /// Operations that succeeded since start.
    pub succeeded: u64,
    /// Operations that failed since start, whoever's fault.
    pub failed: u64,
}

/// Whether requests reach a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendState {
    /// The last thing it was asked for worked, or it was never asked.
    Up,
    /// The last thing it was asked for failed; requests are refused but for trials.
    Down,
    /// Every session has been inside one device call for longer than [`STUCK_AFTER`].
    Stuck,
}

impl BackendState {
    /// The word in `/readyz` and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Stuck => "stuck",
        }
    }
}

/// The record behind a [`BackendHealth`]. Successes cost two relaxed atomic writes.
#[derive(Debug)]
pub(crate) struct Pulse {
    name: String,
    born: Instant,
    down: AtomicBool,
    last_trial_ms: AtomicU64,
    /// Milliseconds since `born`, plus 1; 0 is never.
    last_success_ms: AtomicU64,
    succeeded: AtomicU64,
    failed: AtomicU64,
    last_error: Mutex<Option<LastError>>,
}

#[derive(Debug, Clone)]
struct LastError {
    code: &'static str,
    cause: String,
    at: Instant,
}

impl Pulse {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            born: Instant::now(),
            down: AtomicBool::new(false),
            last_trial_ms: AtomicU64::new(0),
            last_success_ms: AtomicU64::new(0),
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            last_error: Mutex::new(None),
        }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Takes note of how an operation ended.
    pub(crate) fn record<T>(&self, result: &Result<T, SignerError>) {
        match result {
            Ok(_) => {
                self.succeeded.fetch_add(1, Ordering::Relaxed);
                self.last_success_ms.store(self.now_ms() + 1, Ordering::Relaxed);
                self.come_up();
            }
            Err(error) => self.record_failure(error),
        }
    }

    pub(crate) fn record_failure(&self, error: &SignerError) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        if matches!(error.fault(), crate::signer::Fault::Caller | crate::signer::Fault::Load) {
            return;
        }
        if matches!(error, SignerError::Halted) {
            return;
        }
        let last = LastError { code: error.code(), cause: error.to_string(), at: Instant::now() };
        *self.lock_error() = Some(last);
        match error {
            SignerError::Unavailable { .. } => {
                self.last_trial_ms.store(self.now_ms(), Ordering::Release);
                if !self.down.swap(true, Ordering::AcqRel) {
                    tracing::error!(backend = %self.name, %error, "signing backend is down");
                }
            }
            // Not what was asked for, but an answer: the device is there.
            SignerError::KeyMissing { .. }
            | SignerError::KeyDisabled { .. }
            | SignerError::Refused { .. }
            | SignerError::BadSignature => self.come_up(),
            _ => {}
        }
    }

    fn come_up(&self) {
        // A plain look first: most calls find it up and need not write.
        if self.is_down() && self.down.swap(false, Ordering::AcqRel) {
            tracing::info!(backend = %self.name, "signing backend answers again");
        }
    }

    pub(crate) fn is_down(&self) -> bool {
        self.down.load(Ordering::Acquire)
    }

    /// Whether a request that came now would be let through; consumes no trial.
    pub(crate) fn look(&self) -> Result<(), SignerError> {
        if !self.is_down() || self.trial_due(self.last_trial_ms.load(Ordering::Acquire)) {
            return Ok(());
        }
        Err(SignerError::unavailable("backend is down; it is tried twice a second"))
    }

    /// Lets a request through if the backend is up or a trial is due, which it then consumes.
    pub(crate) fn admit(&self) -> Result<(), SignerError> {
        if !self.is_down() {
            return Ok(());
        }
        let last = self.last_trial_ms.load(Ordering::Acquire);
        let mine = self.trial_due(last)
            && self
                .last_trial_ms
                .compare_exchange(last, self.now_ms(), Ordering::AcqRel, Ordering::Acquire)
                .is_ok();
        if mine {
            Ok(())
        } else {
            Err(SignerError::unavailable("backend is down; it is tried twice a second"))
        }
    }

    fn trial_due(&self, last_ms: u64) -> bool {
        u128::from(self.now_ms().saturating_sub(last_ms)) >= TRIAL_INTERVAL.as_millis()
    }

    /// Fills in all but what the queue knows.
    pub(crate) fn report(&self) -> BackendHealth {
        let last = self.lock_error().clone();
        let success = self.last_success_ms.load(Ordering::Relaxed).checked_sub(1);
        BackendHealth {
            name: self.name.clone(),
            state: if self.is_down() { BackendState::Down } else { BackendState::Up },
            last_error: last.as_ref().map(|error| (error.code, error.at.elapsed())),
            last_cause: last.map(|error| error.cause),
            last_success: success.map(|ms| Duration::from_millis(self.now_ms().saturating_sub(ms))),
            in_flight: 0,
            oldest_in_flight: None,
            queue_depth: 0,
            queue_max: 0,
            sessions: 0,
            succeeded: self.succeeded.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }

    fn lock_error(&self) -> std::sync::MutexGuard<'_, Option<LastError>> {
        // Written whole or not at all.
        self.last_error.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_refuses_at_once_and_ends_with_the_first_success() {
        let pulse = Pulse::new("b");
        assert!(pulse.admit().is_ok());
        pulse.record::<()>(&Err(SignerError::unavailable("gone")));
        assert_eq!(pulse.admit().map_err(|error| error.code()), Err("backend-unavailable"));
        assert!(pulse.look().is_err());
        assert_eq!(pulse.report().state, BackendState::Down);
        pulse.record(&Ok(()));
        assert!(pulse.admit().is_ok());
        let report = pulse.report();
        assert_eq!((report.state, report.succeeded, report.failed), (BackendState::Up, 1, 1));
        assert_eq!(report.last_error.map(|(code, _)| code), Some("backend-unavailable"));
    }

    #[test]
    fn one_trial_per_interval() {
        let pulse = Pulse { born: Instant::now() - TRIAL_INTERVAL * 3, ..Pulse::new("b") };
        pulse.down.store(true, Ordering::Release);
        assert!(pulse.look().is_ok());
        assert!(pulse.admit().is_ok());
        assert!(pulse.look().is_err());
        assert!(pulse.admit().is_err());
    }

    #[test]
    fn a_callers_mistake_or_a_full_queue_is_no_outage() {
        let pulse = Pulse::new("b");
        for error in
            [SignerError::WrongInput, SignerError::Busy, SignerError::Halted, SignerError::BadSignature]
        {
            pulse.record::<()>(&Err(error));
            assert!(pulse.admit().is_ok());
        }
        assert_eq!(pulse.report().last_error.map(|(code, _)| code), Some("bad-signature"));
    }

    #[test]
    fn an_answer_that_helps_nobody_still_ends_an_outage() {
        let pulse = Pulse::new("b");
        pulse.record::<()>(&Err(SignerError::unavailable("gone")));
        pulse.record::<()>(&Err(SignerError::KeyMissing { cause: "one of them".into() }));
        assert!(!pulse.is_down());
    }

    #[test]
    fn a_key_switched_off_says_nothing_about_the_others() {
        let pulse = Pulse::new("b");
        let disabled = || SignerError::KeyDisabled { cause: "one of them".into() };
        pulse.record::<()>(&Err(disabled()));
        assert!(pulse.admit().is_ok());
        assert_eq!(pulse.report().last_error.map(|(code, _)| code), Some("key-disabled"));
        pulse.record::<()>(&Err(SignerError::unavailable("gone")));
        pulse.record::<()>(&Err(disabled()));
        assert!(!pulse.is_down());
    }
}
