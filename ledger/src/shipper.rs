//! The shipper: a thread that copies the roll to the archive, one epoch after the other.
//!
//! An archive that cannot be reached is tried again for ever, ever more slowly; what was missed is then
//! shipped in one epoch. An archive that is wrong stops the shipper, and its lag grows until admission
//! closes. What stands beside an epoch (the newest checkpoint for everybody, a cosigned one) is tried again with every
//! attempt, and stops nothing. Nothing here ever blocks enrolment directly.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use chancery_format::{AuditEvent, LeafIndex, TreeSize};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use tokio::sync::watch;

use crate::archive::Archive;
use crate::epochs::Epochs;
pub use crate::epochs::ShipError;
use crate::options::Clock;
use crate::roll::Roll;

/// How a shipper behaves.
#[derive(Clone)]
pub struct ShipperOptions {
    /// Time between epochs, if there is anything new.
    pub epoch_interval: Duration,
    /// First wait after a failure; doubles with each further one.
    pub backoff_first: Duration,
    /// Longest wait after a failure.
    pub backoff_max: Duration,
    /// Seed of the jitter that keeps daemons from retrying together. From the daemon's randomness.
    pub jitter_seed: u64,
    /// For the age of what is not archived yet.
    pub clock: Arc<dyn Clock>,
    /// Whether others follow the archive by C2SP tlog-tiles: then it gets partial hash tiles, and shows its newest
    /// checkpoint under a name that is replaced. Not every archive can do that.
    pub static_log: bool,
}

impl ShipperOptions {
    /// An epoch every 10 s, retries after 0.5 s to 60 s, no static log.
    pub fn new(clock: Arc<dyn Clock>, jitter_seed: u64) -> Self {
        Self {
            epoch_interval: Duration::from_secs(10),
            backoff_first: Duration::from_millis(500),
            backoff_max: Duration::from_secs(60),
            jitter_seed,
            clock,
            static_log: false,
        }
    }
}

impl std::fmt::Debug for ShipperOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShipperOptions")
            .field("epoch_interval", &self.epoch_interval)
            .field("backoff_first", &self.backoff_first)
            .field("backoff_max", &self.backoff_max)
            .field("static_log", &self.static_log)
            .finish_non_exhaustive()
    }
}

/// Where the archive is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShipperStatus {
    /// Entries under the archive's last checkpoint. An entry below has the rung `archived`.
    pub archived: TreeSize,
    /// Epochs the archive has.
    pub epochs: u64,
    /// Attempts that failed since the last success.
    pub failures: u32,
    /// What the last of them said.
    pub failure: Option<String>,
    /// The archive is wrong, and the shipper has given up: somebody must act.
    pub stopped: bool,
}

/// What is enrolled but not archived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// Entries.
    pub entries: u64,
    /// Age of the oldest of them, in ms; counted at most from the start of this shipper, or from when the
    /// last epoch was shipped.
    pub age_ms: u64,
}

enum Signal {
    ShipNow,
    Stop,
}

/// A running shipper. Dropping it ends the thread without a last epoch.
pub struct Shipper {
    signals: Sender<Signal>,
    thread: Option<JoinHandle<()>>,
    status: watch::Receiver<ShipperStatus>,
    roll: Roll,
    clock: Arc<dyn Clock>,
    age: Arc<Mutex<Age>>,
}

/// Since when the oldest unarchived entry is there.
struct Age {
    /// Entries before this are archived.
    archived: TreeSize,
    /// No entry beyond them is counted as older than this, whatever its author says.
    floor_ms: i64,
    /// When the first of them was enrolled, once looked up.
    since_ms: Option<i64>,
}

impl Shipper {
    /// Compares the archive with the ledger and starts the thread. Blocks while comparing. An error that is
    /// not transient means this disk must not be signed with.
    pub fn start(roll: Roll, archive: Arc<dyn Archive>, options: ShipperOptions) -> Result<Self, ShipError> {
        let epochs = Epochs::compare(roll.clone(), archive, options.static_log)?;
        let (signals, inbox) = crossbeam_channel::bounded(4);
        let status = watch::Sender::new(status_of(&epochs));
        let floor_ms = options.clock.now().unix_ms();
        let age = Age { archived: epochs.archived(), floor_ms, since_ms: None };
        let (age, clock) = (Arc::new(Mutex::new(age)), Arc::clone(&options.clock));
        let receiver = status.subscribe();
        let jitter = Jitter(options.jitter_seed | 1);
        let age_too = Arc::clone(&age);
        let mut worker = Worker { epochs, options, inbox, status, age: age_too, jitter, beside_failures: 0 };
        let spawned = std::thread::Builder::new().name("archive-shipper".into()).spawn(move || worker.run());
        let thread = spawned.map_err(|error| {
            ShipError::Archive(crate::archive::ArchiveError::Unavailable(format!("no thread: {error}")))
        })?;
        Ok(Self { signals, thread: Some(thread), status: receiver, roll, clock, age })
    }

    /// Where the archive is now, and every change.
    pub fn subscribe(&self) -> watch::Receiver<ShipperStatus> {
        self.status.clone()
    }

    /// Where the archive is now.
    pub fn status(&self) -> ShipperStatus {
        self.status.borrow().clone()
    }

    /// What is enrolled but not archived. May read one leaf from disk per epoch.
    pub fn lag(&self) -> Lag {
        let mut age = self.age.lock().unwrap_or_else(PoisonError::into_inner);
        let head = self.roll.head().head().size;
        let entries = head.0.saturating_sub(age.archived.0);
        if entries == 0 {
            return Lag { entries, age_ms: 0 };
        }
        let since = match age.since_ms {
            Some(since) => since,
            None => self.enrolled_at(age.archived).unwrap_or(age.floor_ms).max(age.floor_ms),
        };
        age.since_ms = Some(since);
        let age_ms = u64::try_from(self.clock.now().unix_ms().saturating_sub(since)).unwrap_or(0);
        Lag { entries, age_ms }
    }

    /// When the first leaf beyond `archived` says it happened.
    fn enrolled_at(&self, archived: TreeSize) -> Option<i64> {
        let leaf = self.roll.shared().reader().leaf(LeafIndex(archived.0)).ok().flatten()?;
        AuditEvent::read(&leaf.bytes).ok().map(|event| event.ts.unix_ms())
    }

    /// Asks for an epoch now. Returns at once; does nothing if one is asked for already.
    pub fn ship_now(&self) {
        // A full inbox means the shipper is about to look anyway.
        drop(self.signals.try_send(Signal::ShipNow));
    }

    /// Ships what is under the newest checkpoint, once, and ends. Blocks until done; the result is in the
    /// returned status.
    pub fn stop(mut self) -> ShipperStatus {
        // The thread may have ended before: then there is nobody to tell.
        drop(self.signals.send(Signal::Stop));
        self.join();
        self.status()
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic of the shipper has been reported by its own thread.
            drop(thread.join());
        }
    }
}

impl Drop for Shipper {
    fn drop(&mut self) {
        // Without a sender the thread ends.
        self.signals = crossbeam_channel::bounded(0).0;
        self.join();
    }
}

impl std::fmt::Debug for Shipper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shipper").field("status", &self.status()).finish_non_exhaustive()
    }
}

fn status_of(epochs: &Epochs) -> ShipperStatus {
    let (archived, epochs) = (epochs.archived(), epochs.next());
    ShipperStatus { archived, epochs, failures: 0, failure: None, stopped: false }
}

/// The thread's side.
struct Worker {
    epochs: Epochs,
    options: ShipperOptions,
    inbox: Receiver<Signal>,
    status: watch::Sender<ShipperStatus>,
    age: Arc<Mutex<Age>>,
    jitter: Jitter,
    /// Attempts in a row that shipped what there was, and failed at what stands beside it.
    beside_failures: u32,
}

impl Worker {
    fn run(&mut self) {
        loop {
            let wait = match self.ship() {
                Some(wait) => wait,
                None => return,
            };
            match self.inbox.recv_timeout(wait) {
                Err(RecvTimeoutError::Timeout) | Ok(Signal::ShipNow) => {}
                Ok(Signal::Stop) => {
                    self.ship();
                    // What was cosigned until now: there may be no next epoch for long.
                    if let Err(error) = self.epochs.ship_witnessed(true) {
                        tracing::warn!(cause = %error, "the cosigned checkpoint was not archived");
                    }
                    return;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// One attempt; gives the time until the next, or `None` to give up.
    fn ship(&mut self) -> Option<Duration> {
        let asked = self.options.clock.now().unix_ms();
        // Before the next epoch: afterwards it would be beside that one.
        let before = if self.epochs.has_more() { self.epochs.ship_witnessed(true) } else { Ok(()) };
        let shipped = self.epochs.ship_next().and_then(|new| Ok((new, self.epochs.is_behind_plan()?)));
        match shipped {
            Ok((new, behind)) => {
                if new {
                    let mut age = self.age.lock().unwrap_or_else(PoisonError::into_inner);
                    *age = Age { archived: self.epochs.archived(), floor_ms: asked, since_ms: None };
                }
                self.say(None);
                let wait = if behind { Duration::ZERO } else { self.options.epoch_interval };
                let beside = before.and_then(|()| self.epochs.ship_witnessed(false));
                // Each by itself: one that fails does not hold up the other.
                Some(match self.epochs.show_latest().and(beside) {
                    Ok(()) => self.beside_done(wait),
                    Err(error) => self.beside_failed(&error, wait),
                })
            }
            Err(error) => self.failed(&error),
        }
    }

    /// How far the archive is; what failed beside it stays said until it is done.
    fn say(&self, failure: Option<String>) {
        let (archived, epochs, failures) = (self.epochs.archived(), self.epochs.next(), self.beside_failures);
        self.status.send_modify(|status| {
            let failure = failure.or_else(|| status.failure.take()).filter(|_| failures > 0);
            *status = ShipperStatus { archived, epochs, failures, failure, stopped: false };
        });
    }

    fn beside_done(&mut self, wait: Duration) -> Duration {
        if std::mem::take(&mut self.beside_failures) > 0 {
            self.say(None);
        }
        wait
    }

    /// The epoch stays archived; what failed beside it is tried again with the next attempt.
    fn beside_failed(&mut self, error: &ShipError, wait: Duration) -> Duration {
        tracing::warn!(cause = %error, "what stands beside an archive epoch failed and will be tried again");
        self.beside_failures = self.beside_failures.saturating_add(1);
        self.say(Some(error.to_string()));
        wait.min(self.jitter.spread(backoff(&self.options, self.beside_failures)))
    }

    fn failed(&mut self, error: &ShipError) -> Option<Duration> {
        let transient = error.is_transient();
        if transient {
            tracing::warn!(cause = %error, "an archive epoch failed and will be tried again");
        } else {
            tracing::error!(cause = %error, "archiving has stopped: somebody must act");
        }
        self.status.send_modify(|status| {
            status.failures = status.failures.saturating_add(1);
            status.failure = Some(error.to_string());
            status.stopped = !transient;
        });
        let failures = self.status.borrow().failures;
        transient.then(|| self.jitter.spread(backoff(&self.options, failures)))
    }
}

/// Doubles with each failure, up to the longest wait.
fn backoff(options: &ShipperOptions, failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    options.backoff_first.saturating_mul(1 << doublings).min(options.backoff_max)
}

/// A small generator: spreads retries, decides nothing.
struct Jitter(u64);

impl Jitter {
    /// Between half of `wait` and all of it.
    fn spread(&mut self, wait: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let half = wait / 2;
        half + half.mul_f64((self.0 >> 11) as f64 / (1u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    struct NoClock;
    impl Clock for NoClock {
        fn now(&self) -> chancery_format::Timestamp {
            chancery_format::Timestamp::from_unix_ms(0).unwrap()
        }
    }

    #[test]
    fn waits_double_stay_bounded_and_are_spread() {
        let options = ShipperOptions::new(Arc::new(NoClock), 1);
        let waits: Vec<_> = (1..=9).map(|failures| backoff(&options, failures).as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(backoff(&options, u32::MAX), options.backoff_max);
        let mut jitter = Jitter(7);
        let spread: Vec<_> = (0..100).map(|_| jitter.spread(Duration::from_secs(1))).collect();
        assert!(spread.iter().all(|wait| (500..=1000).contains(&wait.as_millis())));
        assert!(spread.iter().max().unwrap().as_millis() - spread.iter().min().unwrap().as_millis() > 200);
    }
}
