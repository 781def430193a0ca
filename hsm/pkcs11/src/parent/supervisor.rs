//! The thread that starts a backend's worker, notices its end, and starts the next one when it is wanted.
//!
//! It lives as long as the backend, because the kernel ends a worker with the thread that started it. A
//! worker that ends is replaced at once; one that keeps ending is replaced ever more slowly, up to a bound.

use std::net::Shutdown;
use std::process;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use chancery_format::entry::KeyUse;
use chancery_hsm::SignerError;

use super::child::{self, Child};
use super::link::Shared;
use crate::limits::{GOODBYE_TIME, RESTART_WAIT_MAX, RESTART_WAIT_MIN, WATCH_INTERVAL, WELL_AFTER};
use crate::message::Setup;

/// Ends in a row, and so how long to wait before the next start.
#[derive(Default)]
struct Backoff {
    in_a_row: u32,
    not_before: Option<Instant>,
}

impl Backoff {
    fn ended(&mut self, lived: Duration) {
        if lived >= WELL_AFTER {
            self.in_a_row = 0;
        }
        self.not_before = Some(Instant::now() + Self::wait(self.in_a_row));
        self.in_a_row = self.in_a_row.saturating_add(1);
    }

    /// None, then doubling from the least to the longest.
    fn wait(in_a_row: u32) -> Duration {
        match in_a_row {
            0 => Duration::ZERO,
            many => RESTART_WAIT_MIN.saturating_mul(1 << (many - 1).min(10)).min(RESTART_WAIT_MAX),
        }
    }

    fn left(&self) -> Duration {
        self.not_before.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()))
    }
}

struct Running {
    process: process::Child,
    child: Arc<Child>,
}

/// Runs until the backend is dropped.
pub(crate) fn run(shared: &Arc<Shared>) {
    let mut running: Option<Running> = None;
    let mut backoff = Backoff::default();
    let mut first = true;
    loop {
        let (closing, renew, wanted) = {
            let mut state = shared.lock();
            (state.closing, std::mem::take(&mut state.renew), state.wanted)
        };
        if closing || renew {
            if let Some(running) = running.take() {
                dismiss(shared, running);
            }
            if closing {
                return;
            }
        }
        if running.as_mut().is_some_and(|running| has_ended(shared, running)) {
            let lived = running.take().map_or(Duration::ZERO, |ended| ended.child.born.elapsed());
            shared.lock().child = None;
            backoff.ended(lived);
        }
        if running.is_none() && wanted && backoff.left().is_zero() {
            match start(shared) {
                Ok(started) => {
                    introduce(shared, &started.child, first);
                    running = Some(started);
                    first = false;
                }
                Err(error) => {
                    backoff.ended(Duration::ZERO);
                    refuse(shared, error, first);
                }
            }
            continue;
        }
        let wait = if running.is_none() && wanted { backoff.left() } else { WATCH_INTERVAL };
        let state = shared.lock();
        if !state.closing && !state.renew {
            let wait = wait.clamp(Duration::from_millis(1), WATCH_INTERVAL);
            drop(shared.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner));
        }
    }
}

fn start(shared: &Arc<Shared>) -> Result<Running, SignerError> {
    let config = &shared.config;
    let setup = Setup {
        parent_pid: process::id().into(),
        network: config.launch.network,
        provisioning: shared.provisioning,
        writable: config.launch.writable.clone(),
        module_file: config.module_file.clone(),
        token: config.token.clone(),
        pin_file: config.pin_file.clone(),
        pin_refused: *shared.notes.pin_refused.lock().unwrap_or_else(PoisonError::into_inner),
        sessions: config.sessions,
    };
    let (mut process, child, stream) = child::start(&config.name, &config.launch, &setup)?;
    let child = Arc::new(child);
    let told = Arc::clone(shared);
    let listening = child::listen(&config.name, &child, stream, &shared.notes, move || {
        // Under the lock, so that the supervisor cannot miss it between looking and waiting.
        let _state = told.lock();
        told.changed.notify_all();
    });
    if let Err(error) = listening {
        let _ = process.kill();
        let _ = process.wait();
        return Err(child::no_start(&error));
    }
    Ok(Running { process, child })
}

fn introduce(shared: &Shared, child: &Arc<Child>, first: bool) {
    let (backend, pid, sandbox) = (shared.config.name.as_str(), child.pid, &child.sandbox);
    let fence = sandbox.to_string();
    if shared.provisioning {
        tracing::debug!(backend, pid, "PKCS#11 worker for provisioning started");
    } else if first && !sandbox.complete() {
        tracing::warn!(backend, pid, fence, "PKCS#11 worker started; part of its sandbox is missing");
    } else {
        tracing::info!(backend, pid, fence, "PKCS#11 worker started");
    }
    let mut state = shared.lock();
    state.sandbox = sandbox.clone();
    state.child = Some(Arc::clone(child));
    state.wanted = false;
    shared.changed.notify_all();
}

/// What is the operator's mistake at the first start is an outage later: it worked before.
fn refuse(shared: &Shared, error: SignerError, first: bool) {
    let error = match error {
        SignerError::Refused { cause } | SignerError::KeyMissing { cause } if !first => {
            SignerError::Unavailable { cause, key_use: KeyUse::None }
        }
        error => error,
    };
    let mut state = shared.lock();
    state.failures += 1;
    state.failure = Some(error);
    state.wanted = false;
    shared.changed.notify_all();
}

/// Whether the worker is no more; a stuck one is made so. Its end is waited for.
fn has_ended(shared: &Shared, running: &mut Running) -> bool {
    let backend = shared.config.name.as_str();
    let pid = running.child.pid;
    let status = match running.process.try_wait() {
        Ok(None) if running.child.is_stuck() => {
            tracing::error!(backend, pid, "the PKCS#11 worker hangs and is killed");
            kill(running)
        }
        Ok(None) if running.child.is_gone() => kill(running),
        Ok(None) => return false,
        Ok(Some(status)) => Some(status),
        Err(_) => kill(running),
    };
    let status = status.map_or_else(|| "unknown".to_owned(), |status| status.to_string());
    tracing::error!(backend, pid, status, "the PKCS#11 worker ended; the next request starts another");
    // What it had already said is still read; then its requests are told.
    running.child.hang_up(Shutdown::Write);
    true
}

fn kill(running: &mut Running) -> Option<process::ExitStatus> {
    let _ = running.process.kill();
    running.process.wait().ok()
}

/// Asks a worker to end, and sees to it.
fn dismiss(shared: &Shared, mut running: Running) {
    running.child.hang_up(Shutdown::Write);
    let limit = Instant::now() + GOODBYE_TIME * 2;
    let mut state = shared.lock();
    while !running.child.is_gone() && Instant::now() < limit {
        let waited = shared.changed.wait_timeout(state, WATCH_INTERVAL);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
    drop(state);
    kill(&mut running);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_start_after_an_end_is_immediate_and_the_later_ones_are_not() {
        let waits: Vec<_> = (0..7).map(|it| Backoff::wait(it).as_millis()).collect();
        assert_eq!(waits, [0, 100, 200, 400, 800, 1000, 1000]);
        assert_eq!(Backoff::wait(u32::MAX), RESTART_WAIT_MAX);
        let mut backoff = Backoff { in_a_row: 5, not_before: None };
        backoff.ended(WELL_AFTER);
        assert_eq!((backoff.in_a_row, backoff.left()), (1, Duration::ZERO));
    }
}
