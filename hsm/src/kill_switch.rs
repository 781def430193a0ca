//! The kill switch: after it is pulled no key is used, and pulling it can wait until none is in use.
//!
//! One atomic word holds the flag and the number of key uses under way, so a use either counted itself
//! in before the flag was set, and is waited for, or sees the flag. There is nothing in between and no
//! lock on the signing path. The switch does not know why or for how long; whoever pulls it records that.
//!
//! The ledger's own key is exempt: checkpoints keep proving what happened, above all while halted.

use std::fmt;
use std::future::Future;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// The flag is the highest bit; the rest counts guards.
const HALTED: usize = 1 << (usize::BITS - 1);

/// Signing is halted; nothing was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("signing is halted")]
pub struct Halted;

/// What was still running when waiting for a halt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HaltReport {
    /// Key uses that had begun before the flag and had not ended when the wait did. Zero means that
    /// from now on nothing uses a key.
    pub still_in_use: usize,
}

/// Stops every key of a keyring at once.
#[derive(Default)]
pub struct KillSwitch {
    state: AtomicUsize,
    idle: Notify,
    reason: Mutex<Option<String>>,
}

/// Permission to use one key once; while it lives, [`KillSwitch::halt`] waits.
///
/// Made only by [`KillSwitch::armed`].
#[must_use = "the key may be used only while the guard lives"]
pub struct Armed<'a>(&'a KillSwitch);

impl KillSwitch {
    /// A switch that is not pulled.
    pub fn new() -> Self {
        Self::default()
    }

    /// A guard for one key use, or [`Halted`]. Costs one atomic load and one addition.
    pub fn armed(&self) -> Result<Armed<'_>, Halted> {
        if self.is_halted() {
            return Err(Halted); // spares a waiting halt the sight of an attempt that cannot succeed
        }
        // The addition reads the flag too: either the halt sees this guard or this guard sees the halt.
        let guard = Armed(self);
        let before = self.state.fetch_add(1, Ordering::AcqRel);
        if before & HALTED == 0 { Ok(guard) } else { Err(Halted) } // dropping the guard counts it out
    }

    /// Pulls the switch. It is pulled when this function returns; the future it returns only waits, at
    /// most `wait`, for uses already under way. Pulling twice is harmless and keeps the first reason.
    pub fn halt(&self, reason: &str, wait: Duration) -> impl Future<Output = HaltReport> + '_ {
        self.state.fetch_or(HALTED, Ordering::AcqRel);
        self.lock_reason().get_or_insert_with(|| reason.to_owned());
        async move {
            // A timeout is no error: the report says what is left.
            let _ = tokio::time::timeout(wait, self.drained()).await;
            HaltReport { still_in_use: self.in_use() }
        }
    }

    async fn drained(&self) {
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable(); // before the look, so that a guard ending now is not missed
            if self.in_use() == 0 {
                return;
            }
            idle.await;
        }
    }

    /// Resets the switch.
    pub fn resume(&self) {
        let mut reason = self.lock_reason();
        *reason = None;
        self.state.fetch_and(!HALTED, Ordering::AcqRel);
    }

    /// Whether the switch is pulled: the cheap look at admission. Binding is only [`KillSwitch::armed`].
    pub fn is_halted(&self) -> bool {
        self.state.load(Ordering::Acquire) & HALTED != 0
    }

    /// Why it was pulled, or `None` if it is not.
    pub fn reason(&self) -> Option<String> {
        let reason = self.lock_reason();
        self.is_halted().then(|| reason.clone().unwrap_or_default())
    }

    /// Guards alive now.
    pub fn in_use(&self) -> usize {
        self.state.load(Ordering::Acquire) & !HALTED
    }

    fn lock_reason(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        // A text cannot be left half changed.
        self.reason.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Armed<'_> {
    fn drop(&mut self) {
        let before = self.0.state.fetch_sub(1, Ordering::AcqRel);
        if before == HALTED | 1 {
            self.0.idle.notify_waiters();
        }
    }
}

impl fmt::Debug for Armed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Armed")
    }
}

impl fmt::Debug for KillSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KillSwitch")
            .field("halted", &self.is_halted())
            .field("in_use", &self.in_use())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;
    use std::sync::Arc;

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn halting_waits_for_uses_under_way_and_lets_none_begin() {
        let switch = Arc::new(KillSwitch::new());
        let guard = switch.armed().unwrap();
        let other = Arc::clone(&switch);
        let halting = tokio::spawn(async move { other.halt("drill", LONG).await });
        while !switch.is_halted() {
            tokio::task::yield_now().await;
        }
        assert_eq!(switch.armed().unwrap_err(), Halted);
        assert!(!halting.is_finished());
        assert_eq!(switch.reason().as_deref(), Some("drill"));
        drop(guard);
        assert_eq!(halting.await.unwrap(), HaltReport { still_in_use: 0 });
        switch.resume();
        assert_eq!(switch.reason(), None);
        assert!(switch.armed().is_ok());
    }

    #[tokio::test]
    async fn the_flag_is_set_before_anything_is_awaited_and_the_wait_is_bounded() {
        let switch = KillSwitch::new();
        let _guard = switch.armed().unwrap();
        let waiting = switch.halt("first", Duration::from_millis(1));
        assert!(switch.is_halted());
        assert_eq!(waiting.await, HaltReport { still_in_use: 1 });
        drop(switch.halt("second", LONG));
        assert_eq!(switch.reason().as_deref(), Some("first"));
    }

    #[tokio::test]
    async fn no_use_begins_after_a_halt_that_found_none() {
        let switch = Arc::new(KillSwitch::new());
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        // `inside` counts uses by hand; if a use could slip past the flag it would be seen non-zero.
        let inside = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (switch, stop, inside) = (Arc::clone(&switch), Arc::clone(&stop), Arc::clone(&inside));
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Acquire) {
                        if let Ok(_guard) = switch.armed() {
                            inside.fetch_add(1, Ordering::AcqRel);
                            inside.fetch_sub(1, Ordering::AcqRel);
                        }
                    }
                })
            })
            .collect();
        for _ in 0..500 {
            // A refused attempt counts itself in for an instant; the halt waits that out too.
            while switch.halt("race", LONG).await.still_in_use != 0 {}
            for _ in 0..20 {
                assert_eq!(inside.load(Ordering::Acquire), 0);
            }
            switch.resume();
        }
        stop.store(true, Ordering::Release);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}
