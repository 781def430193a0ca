//! Idempotency: one key, one request, one answer.
//!
//! A replay record is written in the same batch as the leaf it points to, so it is trusted state, not a
//! cache. Only an issued signature or an enrolled event answers a retry. After a failure, or after a crash
//! that abandoned the attempt, the same request with the same key opens a new attempt, whose record
//! replaces the old one; a *different* request with that key is a conflict in either case.
//!
//! While an attempt runs, others with its key wait for it, at most a few, and get what it gets: its
//! failure too.

use std::collections::HashMap;

use chancery_format::committed::{EventKind, OutcomeKind};
use chancery_format::entry::ReplayKey;
use chancery_format::{Committed, Hash, LeafIndex, PrincipalName};
use tokio::sync::oneshot;

use crate::roll::RollError;
use crate::sequencer::{IntentReply, Reply};

/// Names one idempotency key of one principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ReplayId(pub(crate) Hash);

/// A key together with what was asked under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Replay {
    pub(crate) id: ReplayId,
    pub(crate) request_hash: Hash,
}

impl Replay {
    /// Neither name contains the NUL between them.
    pub(crate) fn new(principal: &PrincipalName, replay: &ReplayKey) -> Self {
        let id = Hash::of(&[principal.as_str().as_bytes(), &[0], replay.key.as_str().as_bytes()]);
        Self { id: ReplayId(id), request_hash: replay.request_hash }
    }
}

/// What the last attempt under a key ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A signature was issued: it answers every retry.
    Signature,
    /// A failed or abandoned key use: answers nobody who comes later.
    Nothing,
    /// An event: it answers every retry.
    Event,
}

impl Answer {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Signature => 1,
            Self::Nothing => 2,
            Self::Event => 3,
        }
    }

    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Signature),
            2 => Some(Self::Nothing),
            3 => Some(Self::Event),
            _ => None,
        }
    }
}

/// What is stored under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReplayRecord {
    pub(crate) answer: Answer,
    pub(crate) index: LeafIndex,
    pub(crate) request_hash: Hash,
}

/// What a stored record means for a new call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Earlier {
    /// Start a new attempt.
    None,
    /// Answer with this leaf.
    Answers(LeafIndex),
    /// Refuse.
    Conflict,
}

impl ReplayRecord {
    /// Reads the record for a call that can be answered by `wanted`.
    pub(crate) fn answers(record: Option<&Self>, request_hash: Hash, wanted: Answer) -> Earlier {
        match record {
            None => Earlier::None,
            Some(record) if record.request_hash != request_hash => Earlier::Conflict,
            Some(record) if record.answer == Answer::Nothing => Earlier::None,
            Some(record) if record.answer == wanted => Earlier::Answers(record.index),
            Some(_) => Earlier::Conflict,
        }
    }
}

/// Who waits for another's attempt.
pub(crate) enum Waiter {
    Intent(oneshot::Sender<Result<IntentReply, RollError>>),
    Outcome(oneshot::Sender<Result<Reply<OutcomeKind>, RollError>>),
    Event(oneshot::Sender<Result<Reply<EventKind>, RollError>>),
}

impl Waiter {
    fn is_gone(&self) -> bool {
        match self {
            Self::Intent(reply) => reply.is_closed(),
            Self::Outcome(reply) => reply.is_closed(),
            Self::Event(reply) => reply.is_closed(),
        }
    }

    /// Refuses the wait.
    pub(crate) fn refuse(self, error: RollError) {
        // A caller that went away needs no answer.
        match self {
            Self::Intent(reply) => drop(reply.send(Err(error))),
            Self::Outcome(reply) => drop(reply.send(Err(error))),
            Self::Event(reply) => drop(reply.send(Err(error))),
        }
    }

    fn outcome(self, committed: Committed<OutcomeKind>) {
        match self {
            Self::Intent(reply) => drop(reply.send(Ok(IntentReply::Already(Reply::Now(committed))))),
            Self::Outcome(reply) => drop(reply.send(Ok(Reply::Now(committed)))),
            Self::Event(_) => self.refuse(RollError::ReplayConflict),
        }
    }

    fn event(self, committed: Committed<EventKind>) {
        match self {
            Self::Event(reply) => drop(reply.send(Ok(Reply::Now(committed)))),
            other => other.refuse(RollError::ReplayConflict),
        }
    }
}

/// An attempt that has not ended.
struct Flight {
    request_hash: Hash,
    waiters: Vec<Waiter>,
}

/// Every attempt that has not ended; bounded by open intents and the batch at hand.
#[derive(Default)]
pub(crate) struct Flights(HashMap<ReplayId, Flight>);

impl Flights {
    /// Whether an attempt under this key runs.
    pub(crate) fn is_running(&self, id: ReplayId) -> bool {
        self.0.contains_key(&id)
    }

    /// Joins the running attempt, or refuses the waiter.
    pub(crate) fn wait(&mut self, replay: Replay, waiter: Waiter, waiters_max: usize) {
        let Some(flight) = self.0.get_mut(&replay.id) else {
            return waiter.refuse(RollError::InFlight);
        };
        if flight.request_hash != replay.request_hash {
            return waiter.refuse(RollError::ReplayConflict);
        }
        flight.waiters.retain(|waiter| !waiter.is_gone());
        if flight.waiters.len() >= waiters_max {
            return waiter.refuse(RollError::InFlight);
        }
        flight.waiters.push(waiter);
    }

    /// An attempt begins, under a key or without one.
    pub(crate) fn begin(&mut self, replay: Option<Replay>) {
        let Some(Replay { id, request_hash }) = replay else { return };
        self.0.insert(id, Flight { request_hash, waiters: Vec::new() });
    }

    fn end(&mut self, id: ReplayId) -> Vec<Waiter> {
        self.0.remove(&id).map(|flight| flight.waiters).unwrap_or_default()
    }

    /// The attempt ended with this outcome.
    pub(crate) fn end_with_outcome(&mut self, id: ReplayId, committed: &Committed<OutcomeKind>) {
        self.end(id).into_iter().for_each(|waiter| waiter.outcome(committed.clone()));
    }

    /// The attempt ended with this event.
    pub(crate) fn end_with_event(&mut self, id: ReplayId, committed: &Committed<EventKind>) {
        self.end(id).into_iter().for_each(|waiter| waiter.event(committed.clone()));
    }

    /// The attempt ended before anything was written.
    pub(crate) fn end_with_error(&mut self, id: ReplayId, error: &RollError) {
        self.end(id).into_iter().for_each(|waiter| waiter.refuse(error.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_success_answers_and_another_request_always_conflicts() {
        let (asked, other) = (Hash([1; 32]), Hash([2; 32]));
        let index = LeafIndex(7);
        let table = [
            (Answer::Signature, asked, Answer::Signature, Earlier::Answers(index)),
            (Answer::Signature, other, Answer::Signature, Earlier::Conflict),
            (Answer::Signature, asked, Answer::Event, Earlier::Conflict),
            (Answer::Nothing, asked, Answer::Signature, Earlier::None),
            (Answer::Nothing, other, Answer::Signature, Earlier::Conflict),
            (Answer::Event, asked, Answer::Event, Earlier::Answers(index)),
            (Answer::Event, asked, Answer::Signature, Earlier::Conflict),
            (Answer::Event, other, Answer::Event, Earlier::Conflict),
        ];
        for (answer, request_hash, wanted, expected) in table {
            let record = ReplayRecord { answer, index, request_hash: asked };
            assert_eq!(ReplayRecord::answers(Some(&record), request_hash, wanted), expected, "{answer:?}");
        }
        assert_eq!(ReplayRecord::answers(None, asked, Answer::Event), Earlier::None);
    }
}
