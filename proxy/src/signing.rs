//! Hops 5 to 9, the plot: announce, seal, enrol. Then, and only then, release.
//!
//! [`key_use`] is the whole story of a signature. It runs as a task of its own, so that a caller who
//! hangs up cannot cancel it between the device and the ledger; the task holds the request's slot, and
//! the daemon waits for it when it drains. Whatever the device does, the outcome is enrolled. What comes
//! back can be read, because it is [`Committed`]; whether it is released yet is decided by the rung its
//! key asks for.

mod anchored;
mod batch;
mod calls;
mod dialect;
pub mod pending;
mod policy;

use std::sync::Arc;
use std::time::{Duration, Instant};

use chancery_format::committed::{Committed, IssuedSignature, OutcomeKind};
use chancery_format::entry::KeyUse as Used;
use chancery_format::names::FailureCode;
use chancery_format::{DurableIntent, Intent, Outcome, OutcomeResult, Rung, SignatureAlgorithm};
use chancery_ledger::{Enrolled, RollError};

pub use self::batch::sign_batch;
pub(crate) use self::calls::not_halted;
pub use self::calls::{mac, sign};
pub(crate) use self::dialect::{Content, Made, OwnUse, Wanted, make, make_in_own_right, passes};
pub(crate) use self::policy::{may, may_with_key};
use crate::admission::allowance::Taken;
use crate::admission::{KeyUseRequest, Permit};
use crate::chancery::{Chancery, Slot};
use crate::config::Intents;
use crate::problem::Problem;
use crate::telemetry::Metrics;
use crate::{reading, response};

/// One admitted key use, ready to run.
#[derive(Debug)]
struct KeyUse {
    intent: Intent,
    /// What a MAC, or a signature over a message, is over; `None` for signatures over digests.
    message: Option<Vec<u8>>,
    intents: Intents,
    /// What it took of the limits; given back if no key is used.
    taken: Taken,
    /// When nobody waits for it any more, if that is before `sign_timeout`.
    until: Option<Instant>,
}

/// Why a key use has no outcome.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// The ledger did not take the intent or the outcome; its variants say what may have happened.
    #[error(transparent)]
    Roll(#[from] RollError),
    /// The task died. Our bug; the intent stays open and becomes an abandoned outcome at the next start.
    #[error("the signing task died")]
    TaskDied,
}

/// The plot.
async fn key_use(chancery: &Chancery, request: KeyUse) -> Result<Committed<OutcomeKind>, RollError> {
    let started = Instant::now();
    let latest = started + chancery.limits.sign_timeout;
    let deadline = request.until.map_or(latest, |until| until.min(latest));
    let intent = match announce(chancery, request.intent, request.intents).await {
        Ok(Enrolled::New(intent)) => intent,
        // Same Idempotency-Key, same request: the outcome it had, or will have had, is the answer.
        Ok(Enrolled::Already(outcome)) => {
            chancery.allowances.give_back(request.taken);
            return Ok(outcome);
        }
        Err(error) => {
            give_back_unless_written(chancery, request.taken, &error);
            return Err(error);
        }
    };
    let outcome = chancery.keyring.seal(intent, request.message, deadline).await;
    if uses_no_key(&outcome) {
        chancery.allowances.give_back(request.taken);
    }
    let tally = Tally::of(&outcome);
    let submitted = chancery.halts.release(outcome, |outcome| chancery.roll.enrol_outcome(outcome));
    let committed = submitted.await?;
    tally.count(&chancery.metrics, started.elapsed());
    Ok(committed)
}

/// An intent that was certainly not written takes nothing of the limits.
fn give_back_unless_written(chancery: &Chancery, taken: Taken, error: &RollError) {
    if !matches!(error, RollError::Fatal(_) | RollError::Closed) {
        chancery.allowances.give_back(taken);
    }
}

const fn uses_no_key(outcome: &Outcome) -> bool {
    matches!(outcome.result(), OutcomeResult::Failed(_, Used::None))
}

/// One key use that people decided on, to its end: a signature on the ledger. Limits count it and do not stop it.
pub async fn once(
    chancery: &Chancery,
    permit: Permit<'_>,
    request: KeyUseRequest,
) -> Result<Committed<OutcomeKind>, Problem> {
    permit.takes(&request.digest)?;
    let intents = permit.intents();
    let taken = chancery.allowances.count(&permit, chancery.now());
    let use_once = KeyUse { intent: permit.into_intent(request), message: None, intents, taken, until: None };
    let outcome = key_use(chancery, use_once).await.map_err(SigningError::from)?;
    match response::release(&outcome) {
        Some(response::Released::Issued(_)) => Ok(outcome),
        Some(response::Released::Failed(failed)) => Err(Problem::key_use_failed(failed.code)),
        None => Err(Problem::internal("a committed outcome cannot be read")),
    }
}

/// Makes the intent durable, unless its backend lives in this process and was told to skip that.
async fn announce(chancery: &Chancery, intent: Intent, intents: Intents) -> Result<Enrolled, RollError> {
    match intents {
        Intents::Always => chancery.roll.enrol_intent(intent).await,
        Intents::Skip => Ok(skip(intent)),
    }
}

/// Only for keys of the software backend whose operator said `intents = "skip"`.
const fn skip(intent: Intent) -> Enrolled {
    Enrolled::New(DurableIntent::skipped_for_software(intent))
}

/// Runs a key use to its end, whether or not the caller stays. The slot comes back with the outcome, or is
/// given up when the task ends and nobody waits any more.
async fn detached(
    chancery: &Arc<Chancery>,
    slot: Slot,
    request: KeyUse,
) -> Result<(Committed<OutcomeKind>, Slot), SigningError> {
    let shared = Arc::clone(chancery);
    let task = tokio::spawn(async move { (key_use(&shared, request).await, slot) });
    let (outcome, slot) = task.await.map_err(|_| SigningError::TaskDied)?;
    Ok((outcome?, slot))
}

/// How a reply is written from an issued signature and its receipt (or the pointer to it).
type Write = fn(&IssuedSignature<'_>, &str) -> String;

/// Waits until the outcome may leave, then writes the reply.
async fn release(
    chancery: &Chancery,
    outcome: &Committed<OutcomeKind>,
    write: Write,
) -> Result<String, Problem> {
    let issued = match response::release(outcome) {
        Some(response::Released::Issued(issued)) => issued,
        Some(response::Released::Failed(failed)) => return Err(Problem::key_use_failed(failed.code)),
        None => return Err(Problem::internal("a committed outcome cannot be read")),
    };
    let receipt = match response::required_rung(&issued) {
        Rung::Durable => response::receipt_pointer(outcome.index()),
        rung => reading::full_receipt(chancery, outcome.index(), outcome.leaf(), rung).await?,
    };
    Ok(write(&issued, &receipt))
}

/// What there is to count of an outcome, kept while the ledger has it.
#[derive(Debug)]
enum Tally {
    Signed(SignatureAlgorithm),
    Failed(FailureCode),
    Abandoned,
}

impl Tally {
    fn of(outcome: &Outcome) -> Self {
        match outcome.result() {
            OutcomeResult::Signed(..) => Self::Signed(outcome.intent().parts().algorithm),
            OutcomeResult::Failed(code, _) => Self::Failed(code.clone()),
            OutcomeResult::Abandoned => Self::Abandoned,
        }
    }

    fn count(self, metrics: &Metrics, elapsed: Duration) {
        match self {
            Self::Signed(algorithm) => metrics.signature(algorithm, elapsed),
            Self::Failed(code) => metrics.signature_failed(code.as_str()),
            Self::Abandoned => metrics.signature_failed("abandoned"),
        }
    }
}
