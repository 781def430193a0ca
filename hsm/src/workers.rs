//! Bounded threads in front of a blocking device: one per session, one operation each.
//!
//! Callers take turns (`fair_queue.rs`). A request that finds no place is refused at once, and so is one that
//! must make room for another caller's. One whose deadline passes, or whose caller goes away, before a
//! thread took it is dropped without touching the key; the caller is told which of the two happened
//! ([`KeyUse`]). A device call cannot be interrupted: when the deadline passes during
//! it, the caller stops waiting, the thread stays until the device answers, and the answer is thrown
//! away. A panic inside a backend costs that one request.
//!
//! The kill switch is asked on the thread, right before the device: requests waiting in the queue when it
//! is pulled are refused, and pulling it waits for device calls even if their callers gave up.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chancery_format::Digest;
use chancery_format::entry::KeyUse;
use tokio::sync::oneshot;

use crate::fair_queue::{Flow, Receiver, SendError, Sender, Waiter, bounded};
use crate::health::{BackendHealth, BackendState, Pulse, STUCK_AFTER};
use crate::kill_switch::KillSwitch;
use crate::signer::{Backend, Cost, SealInput, SignerError, SignerHandle};

/// Most sessions a backend may have; each is a thread.
pub const SESSIONS_MAX: usize = 256;

/// What to sign, owned so that it can cross to another thread.
#[derive(Debug)]
pub(crate) enum OwnedInput {
    Digest(Digest),
    Message(Arc<[u8]>),
}

impl OwnedInput {
    /// The same input again; a message is shared, not copied.
    pub(crate) fn duplicate(&self) -> Self {
        match self {
            Self::Digest(digest) => Self::Digest(*digest),
            Self::Message(message) => Self::Message(Arc::clone(message)),
        }
    }

    pub(crate) fn borrow(&self) -> SealInput<'_> {
        match self {
            Self::Digest(digest) => SealInput::Digest(digest),
            Self::Message(message) => SealInput::Message(message),
        }
    }
}

/// A backend with its record and, if it blocks, its threads.
pub(crate) struct Lane {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) pulse: Arc<Pulse>,
    switch: Arc<KillSwitch>,
    crew: Option<Crew>,
}

struct Crew {
    /// Dropping it ends the threads.
    queue: Sender<Job>,
    queue_max: usize,
    /// Per thread: when its device call began, in milliseconds of the pulse plus 1; 0 is idle.
    busy_since_ms: Arc<[AtomicU64]>,
    stuck_after: Duration,
}

struct Job {
    work: Work,
    deadline: Instant,
    flow: Flow,
    claim: Arc<AtomicU8>,
    reply: oneshot::Sender<Result<Vec<u8>, SignerError>>,
}

enum Work {
    Sign(Arc<dyn SignerHandle>, OwnedInput),
    Probe,
}

impl Waiter for Job {
    fn is_given_up(&self) -> bool {
        self.claim.load(Ordering::Acquire) == GIVEN_UP
    }

    fn take(&self) -> bool {
        self.claim.compare_exchange(WAITING, TAKEN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl Job {
    /// Tells the caller of a job that no thread took. It still waits: if it gives up now, no key was used.
    fn make_room(self, pulse: &Pulse) {
        if self.reply.send(Err(SignerError::Busy)).is_ok() {
            pulse.record_failure(&SignerError::Busy);
        }
    }
}

const WAITING: u8 = 0;
const TAKEN: u8 = 1;
const GIVEN_UP: u8 = 2;

/// The caller's side of a job: giving up, or going away, takes back what no thread has begun.
struct Claim(Arc<AtomicU8>);

impl Claim {
    fn give_up(&self) -> KeyUse {
        match self.0.compare_exchange(WAITING, GIVEN_UP, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) | Err(GIVEN_UP) => KeyUse::None,
            Err(_) => KeyUse::Unknown,
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl Lane {
    /// Starts the threads, if the backend needs any.
    pub(crate) fn start(
        backend: Arc<dyn Backend>,
        switch: Arc<KillSwitch>,
        queue_max: usize,
    ) -> std::io::Result<Self> {
        let pulse = Arc::new(Pulse::new(backend.name()));
        let crew = match backend.cost() {
            Cost::Inline => None,
            Cost::Blocking => Some(Crew::start(&backend, &switch, &pulse, queue_max)?),
        };
        Ok(Self { backend, pulse, switch, crew })
    }

    /// Uses a key once, in place or on a thread. The bytes returned are unverified.
    pub(crate) async fn sign(
        &self,
        handle: &Arc<dyn SignerHandle>,
        input: OwnedInput,
        deadline: Instant,
        flow: Flow,
    ) -> Result<Vec<u8>, SignerError> {
        let result = match (&self.crew, self.pulse.admit()) {
            (_, Err(down)) => return Err(down), // an outage already on record
            (None, Ok(())) => sign_now(handle.as_ref(), input.borrow(), deadline, flow, &self.switch),
            (Some(crew), Ok(())) => {
                return crew.submit(Work::Sign(Arc::clone(handle), input), deadline, flow, &self.pulse).await;
            }
        };
        self.pulse.record(&result);
        result
    }

    /// Asks the device for a sign of life, on one of its own sessions.
    pub(crate) async fn probe(&self, deadline: Instant) -> Result<(), SignerError> {
        match &self.crew {
            Some(crew) => crew.submit(Work::Probe, deadline, Flow::Probe, &self.pulse).await.map(|_| ()),
            None => {
                let result = self.backend.probe(deadline);
                self.pulse.record(&result);
                result
            }
        }
    }

    /// Whether a request of `flow` that came now would reach the device, as far as one can tell without
    /// asking. Without a flow, there must be a free place.
    pub(crate) fn look(&self, flow: Option<Flow>) -> Result<(), SignerError> {
        self.pulse.look()?;
        let Some(crew) = &self.crew else { return Ok(()) };
        if crew.is_stuck(&self.pulse) {
            return Err(stuck());
        }
        let has_room = flow.map_or_else(|| !crew.queue.is_full(), |flow| crew.queue.has_room(flow));
        if has_room { Ok(()) } else { Err(SignerError::Busy) }
    }

    /// What an operator sees.
    pub(crate) fn health(&self) -> BackendHealth {
        let mut health = self.pulse.report();
        if let Some(crew) = &self.crew {
            crew.report(&self.pulse, &mut health);
        }
        health
    }
}

impl Crew {
    fn start(
        backend: &Arc<dyn Backend>,
        switch: &Arc<KillSwitch>,
        pulse: &Arc<Pulse>,
        queue_max: usize,
    ) -> std::io::Result<Self> {
        let sessions = backend.sessions().clamp(1, SESSIONS_MAX);
        let (queue, jobs) = bounded(queue_max.max(1));
        let busy_since_ms: Arc<[AtomicU64]> = (0..sessions).map(|_| AtomicU64::new(0)).collect();
        for seat in 0..sessions {
            let worker = Worker {
                jobs: jobs.clone(),
                backend: Arc::clone(backend),
                switch: Arc::clone(switch),
                pulse: Arc::clone(pulse),
                busy_since_ms: Arc::clone(&busy_since_ms),
                seat,
            };
            // Never joined: a thread inside a hung driver must not hold up the end of the process.
            // It ends by itself once the queue's only sender is dropped.
            let name = format!("hsm-{}-{seat}", backend.name());
            std::thread::Builder::new().name(name).spawn(move || worker.run())?;
        }
        Ok(Self { queue, queue_max: queue_max.max(1), busy_since_ms, stuck_after: STUCK_AFTER })
    }

    async fn submit(
        &self,
        work: Work,
        deadline: Instant,
        flow: Flow,
        pulse: &Pulse,
    ) -> Result<Vec<u8>, SignerError> {
        if self.is_stuck(pulse) {
            return Err(stuck());
        }
        let claim = Claim(Arc::new(AtomicU8::new(WAITING)));
        let (reply, answer) = oneshot::channel();
        let job = Job { work, deadline, flow, claim: Arc::clone(&claim.0), reply };
        let error = match self.queue.try_send(flow, job) {
            Ok(made_room) => {
                if let Some(newest) = made_room {
                    newest.make_room(pulse);
                }
                match tokio::time::timeout_at(deadline.into(), answer).await {
                    Ok(Ok(result)) => return result,     // whoever answered has recorded it
                    Ok(Err(_)) => SignerError::Panicked, // the thread died; it should not be able to
                    Err(_) => SignerError::Deadline(claim.give_up()),
                }
            }
            Err(SendError::Full) => SignerError::Busy,
            Err(SendError::NoReceiver) => SignerError::unavailable("no worker thread is left"),
        };
        pulse.record_failure(&error);
        Err(error)
    }

    fn report(&self, pulse: &Pulse, health: &mut BackendHealth) {
        health.sessions = self.busy_since_ms.len();
        health.in_flight = self.ages(pulse).count();
        health.oldest_in_flight = self.ages(pulse).max();
        health.queue_depth = self.queue.len();
        health.queue_max = self.queue_max;
        if self.is_stuck(pulse) {
            health.state = BackendState::Stuck;
        }
    }

    /// How long each busy thread has been inside its device call.
    fn ages(&self, pulse: &Pulse) -> impl Iterator<Item = Duration> {
        let now = pulse.now_ms();
        self.busy_since_ms.iter().filter_map(move |since| {
            let since = since.load(Ordering::Relaxed).checked_sub(1)?;
            Some(Duration::from_millis(now.saturating_sub(since)))
        })
    }

    fn is_stuck(&self, pulse: &Pulse) -> bool {
        self.ages(pulse).filter(|age| *age > self.stuck_after).count() == self.busy_since_ms.len()
    }
}

fn stuck() -> SignerError {
    SignerError::unavailable("every session is inside a device call that does not end")
}

struct Worker {
    jobs: Receiver<Job>,
    backend: Arc<dyn Backend>,
    switch: Arc<KillSwitch>,
    pulse: Arc<Pulse>,
    busy_since_ms: Arc<[AtomicU64]>,
    seat: usize,
}

impl Worker {
    fn run(self) {
        while let Some(job) = self.jobs.recv() {
            self.mark(self.pulse.now_ms() + 1);
            let result = self.do_job(&job);
            self.mark(0);
            self.pulse.record(&result);
            // A caller that gave up during the device call no longer listens; the bytes die here.
            let _ = job.reply.send(result);
        }
    }

    fn do_job(&self, job: &Job) -> Result<Vec<u8>, SignerError> {
        match &job.work {
            Work::Sign(handle, input) => {
                sign_now(handle.as_ref(), input.borrow(), job.deadline, job.flow, &self.switch)
            }
            Work::Probe => guarded(|| self.backend.probe(job.deadline)).map(|()| Vec::new()),
        }
    }

    fn mark(&self, since_ms: u64) {
        if let Some(since) = self.busy_since_ms.get(self.seat) {
            since.store(since_ms, Ordering::Relaxed);
        }
    }
}

/// The one place where a key is used: deadline, kill switch, device, in this order.
fn sign_now(
    handle: &dyn SignerHandle,
    input: SealInput<'_>,
    deadline: Instant,
    flow: Flow,
    switch: &KillSwitch,
) -> Result<Vec<u8>, SignerError> {
    if Instant::now() >= deadline {
        return Err(SignerError::Deadline(KeyUse::None));
    }
    let _armed = match flow {
        Flow::Ledger => None, // what happened must stay provable
        _ => Some(switch.armed().map_err(|_| SignerError::Halted)?),
    };
    guarded(|| handle.sign(input, deadline))
}

/// Runs a backend's code so that its panic costs one request and no thread.
fn guarded<T>(call: impl FnOnce() -> Result<T, SignerError>) -> Result<T, SignerError> {
    // Nothing of ours is left half changed: backends keep their own state consistent or rebuild it.
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        tracing::error!("a signing backend panicked; the request failed, the key may have been used");
        Err(SignerError::Panicked)
    })
}

#[cfg(test)]
mod tests;
