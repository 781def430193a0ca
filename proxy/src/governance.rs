//! What people decided: halts, requests for approval, rotations. Kept on the ledger, and nowhere else.
//!
//! Promises: the state is the fold of [`chancery_format::governance`] over the ledger's own stream, so that it
//! survives every restart and cannot disagree with what auditors read; what breaks a rule is refused before it is
//! enrolled; one act at a time, so that nobody acts on a state that has just changed. A state that cannot be
//! read keeps the daemon from starting.
//!
//! Halting waits for nobody: the flag first, the entry after.

pub mod lifecycle;
mod succession;

use std::sync::Arc;

use arc_swap::ArcSwap;
use chancery_format::committed::{Committed, EventKind};
use chancery_format::event::EventError;
use chancery_format::governance::{
    Configured, Event, Fault, HaltState, KillSwitchChanged, REASON_CHARS_MAX, Scope, State,
};
use chancery_format::{AuditEvent, StreamName, Timestamp};
use chancery_hsm::Keyring;
use chancery_ledger::{Clock, Roll, RollError};
use tokio::sync::Mutex;

use crate::halts::Halts;
use crate::leaves::LeavesError;
pub use succession::{Succession, SuccessionError};

/// Events read at once when the state is recovered.
const PAGE: usize = 512;

/// Why an act was not recorded. Nothing has changed, unless it was a halt: that stands.
#[derive(Debug, thiserror::Error)]
pub enum GovernanceError {
    /// It breaks a rule. Whoever asked is at fault.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The ledger did not take it.
    #[error("the ledger: {0}")]
    Roll(#[from] RollError),
    /// An event of the stream cannot be read: the ledger is damaged, or another version wrote it.
    #[error("entry {index} of the governance stream: {cause}")]
    Unreadable {
        /// Where it stands.
        index: u64,
        /// What is wrong.
        cause: String,
    },
    /// The ledger has approvers, the configuration has none: somebody would do away with the quorum.
    #[error(
        "the ledger names approvers and the configuration none; keep [governance], or change who may approve"
    )]
    RosterGone,
}

/// The keeper of that state.
pub struct Governance {
    roll: Roll,
    keyring: Arc<Keyring>,
    halts: Arc<Halts>,
    clock: Arc<dyn Clock>,
    /// Held by whoever acts.
    acting: Mutex<()>,
    state: ArcSwap<State>,
}

impl Governance {
    /// Reads the state from the ledger and pulls every switch that was pulled. Call it before the first request.
    pub async fn recover(
        roll: &Roll,
        keyring: &Arc<Keyring>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, GovernanceError> {
        Ok(Self::new(read(roll).await?, roll, keyring, clock))
    }

    /// The same from the state as it was just read.
    pub fn new(state: State, roll: &Roll, keyring: &Arc<Keyring>, clock: Arc<dyn Clock>) -> Self {
        let halts = Arc::new(Halts::default());
        for (scope, halt) in &state.halts {
            halts.halt(keyring, scope, halt.reason.as_deref().unwrap_or(&halt.source));
            tracing::error!(%scope, source = halt.source, "stays halted");
        }
        Self {
            roll: roll.clone(),
            keyring: Arc::clone(keyring),
            halts,
            clock,
            acting: Mutex::new(()),
            state: ArcSwap::from_pointee(state),
        }
    }

    /// What is halted.
    pub const fn halts(&self) -> &Arc<Halts> {
        &self.halts
    }

    /// The state after the last act.
    pub fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// Whether acts need a quorum.
    pub fn has_roster(&self) -> bool {
        self.state.load().roster.is_some()
    }

    /// Records who may approve, if that changed.
    pub async fn configure(&self, roster: Option<&Configured>) -> Result<(), GovernanceError> {
        match (roster, self.state().roster.as_ref()) {
            (None, None) => Ok(()),
            (None, Some(_)) => Err(GovernanceError::RosterGone),
            (Some(new), Some(known)) if new == known => Ok(()),
            (Some(new), _) => self.record(Event::Configured(new.clone())).await.map(|_| ()),
        }
    }

    /// Records one act as it is.
    pub async fn record(&self, event: Event) -> Result<Committed<EventKind>, GovernanceError> {
        self.act(|_, _| Ok(event)).await
    }

    /// Whether the rules would let an act happen now. Records nothing.
    pub fn check(&self, event: &Event) -> Result<(), Fault> {
        State::clone(&self.state()).apply(event, u64::MAX, self.clock.now())
    }

    /// Records the act that `make` decides on, knowing the state and the time.
    pub async fn act(
        &self,
        make: impl FnOnce(&State, Timestamp) -> Result<Event, Fault>,
    ) -> Result<Committed<EventKind>, GovernanceError> {
        let _alone = self.acting.lock().await;
        let before = self.state();
        let now = self.clock.now();
        let event = make(&before, now)?;
        // The rules first, on a copy: what breaks them never reaches the ledger.
        State::clone(&before).apply(&event, u64::MAX, now)?;
        let committed = self.roll.enrol_event(event.draft(), None).await?;
        let ts = unreadable(committed.index().0, committed.event())?.ts;
        let mut after = State::clone(&before);
        after.apply(&event, committed.index().0, ts)?;
        self.state.store(Arc::new(after));
        Ok(committed)
    }

    /// Halts a scope now and records it.
    pub async fn halt(
        &self,
        scope: Scope,
        source: &str,
        by: Option<String>,
        reason: Option<String>,
    ) -> Result<Committed<EventKind>, GovernanceError> {
        self.halts.halt(&self.keyring, &scope, reason.as_deref().unwrap_or(source));
        let change = KillSwitchChanged {
            scope,
            state: HaltState::Halted,
            source: source.to_owned(),
            by,
            reason: reason.map(|text| text.chars().take(REASON_CHARS_MAX).collect()),
            approval: None,
        };
        self.record(Event::KillSwitch(change)).await
    }

    /// Records that a scope goes on, then lets it. The rules say whether that needs a quorum.
    pub async fn resume(
        &self,
        scope: Scope,
        source: &str,
        by: Option<String>,
        approval: Option<String>,
    ) -> Result<Committed<EventKind>, GovernanceError> {
        let change = KillSwitchChanged {
            scope: scope.clone(),
            state: HaltState::Running,
            source: source.to_owned(),
            by,
            reason: None,
            approval,
        };
        let committed = self.record(Event::KillSwitch(change)).await?;
        self.halts.resume(&self.keyring, &scope);
        Ok(committed)
    }
}

impl std::fmt::Debug for Governance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Governance").field("state", &self.state.load()).finish_non_exhaustive()
    }
}

impl From<LeavesError> for GovernanceError {
    fn from(error: LeavesError) -> Self {
        match error {
            LeavesError::Roll(error) => Self::Roll(error),
            LeavesError::Unreadable { index, cause } => Self::Unreadable { index, cause },
        }
    }
}

fn unreadable<T>(index: u64, result: Result<T, EventError>) -> Result<T, GovernanceError> {
    result.map_err(|error| GovernanceError::Unreadable { index, cause: error.to_string() })
}

/// Folds the whole stream.
pub async fn read(roll: &Roll) -> Result<State, GovernanceError> {
    let mut state = State::new(roll.origin().clone());
    let mut from = 0;
    loop {
        let page = roll.stream_page(StreamName::governance(), from, PAGE).await?;
        if page.is_empty() {
            return Ok(state);
        }
        for stored in &page {
            let index = stored.index.0;
            let event = unreadable(index, AuditEvent::parse(&stored.bytes))?;
            from = event.seq + 1;
            take_up(&mut state, &event, index)
                .map_err(|cause| GovernanceError::Unreadable { index, cause })?;
        }
    }
}

fn take_up(state: &mut State, event: &AuditEvent<'_>, index: u64) -> Result<(), String> {
    let read = Event::read(event.event_type, event.payload);
    let act = read.ok_or("not an act of governance")?.map_err(|error| error.to_string())?;
    state.apply(&act, index, event.ts).map_err(|fault| fault.to_string())
}
