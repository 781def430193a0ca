//! `POST /v1/sign/batch`: many digests, one group commit before and one after.
//!
//! Items stand for themselves: each has a result or a problem, in order, and a bad one takes nothing
//! from the others. A batch that is retried under the same `Idempotency-Key` gets the same results item
//! by item, because each item has a key of its own, derived from the batch's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use chancery_format::committed::{Committed, EventKind, OutcomeKind};
use chancery_format::entry::ReplayKey;
use chancery_format::{DurableIntent, Intent, Outcome, Rung};
use chancery_ledger::{Enrolled, RollError};
use futures_util::future::join_all;
use serde_json::value::RawValue;
use tokio::task::JoinSet;

use super::anchored::{self, Anchoring};
use super::calls::admit_sign;
use super::{KeyUse, SigningError, Tally, give_back_unless_written, release, skip, uses_no_key};
use crate::chancery::{Chancery, Lanes, Slot};
use crate::config::Intents;
use crate::problem::Problem;
use crate::request::{Mode, SignRequest, item_key, read_items};
use crate::response::{self, Reply};
use crate::routes::Caller;

/// What is known of one item so far.
type Item<T> = Result<T, Problem>;

/// `POST /v1/sign/batch`.
pub async fn sign_batch(chancery: &Arc<Chancery>, caller: Caller<'_>, body: &[u8]) -> Result<Reply, Problem> {
    let items = read_items(body, chancery.limits.batch_items_max)?;
    caller.grants.bucket().charge(items.len().saturating_sub(1));
    let admitted: Vec<_> = items
        .into_iter()
        .enumerate()
        .map(|(position, item)| admit_item(chancery, &caller, item, position))
        .collect();
    let shared = Arc::clone(chancery);
    let (request_id, grants) = (caller.request_id.clone(), Arc::clone(&caller.grants));
    let task = tokio::spawn(run(shared, caller.slot, admitted));
    let (outcomes, _slot) = task.await.map_err(|_| SigningError::TaskDied)?;
    let mut written = Vec::with_capacity(outcomes.len());
    for outcome in outcomes {
        let item = match outcome {
            Ok(Done::Outcome(outcome)) => release(chancery, &outcome, response::signed).await,
            Ok(Done::Would(outcome)) => Ok(response::would(outcome)),
            Ok(Done::Anchored(event, rung)) => anchored::release(chancery, &event, rung).await,
            Err(problem) => Err(problem),
        };
        written.push(item.unwrap_or_else(|problem| {
            chancery.note_refusal(&problem, Some(grants.principal()));
            problem.body(request_id.as_str())
        }));
    }
    Ok(Reply::json(response::items(&written)))
}

/// An item that was admitted.
enum Admitted {
    Use(KeyUse, Lanes),
    Anchor(Anchoring),
    /// To be tried and no more.
    Would(&'static str),
}

/// An item that is on the ledger.
enum Done {
    Outcome(Committed<OutcomeKind>),
    Anchored(Committed<EventKind>, Rung),
    /// Nothing: it was only tried.
    Would(&'static str),
}

fn admit_item(chancery: &Chancery, caller: &Caller<'_>, item: &RawValue, position: usize) -> Item<Admitted> {
    let mut request = SignRequest::read_item(item, position)?;
    request.dry_run |= caller.simulate;
    let dry_run = request.dry_run;
    let lanes = chancery.key(&request.kid).map_or(Lanes::Cores, |key| key.lanes);
    let key = caller.idempotency_key.as_ref().and_then(|batch| item_key(batch, position));
    let replay = key.map(|key| ReplayKey { key, request_hash: request.hash });
    if request.mode == Mode::Anchored {
        let anchoring = anchored::admit(chancery, caller, request, replay)?;
        if dry_run {
            chancery.allowances.give_back(anchoring.taken);
            return Ok(Admitted::Would("anchored"));
        }
        return Ok(Admitted::Anchor(anchoring));
    }
    let admitted = admit_sign(chancery, caller, request, replay)?;
    Ok(admitted.map_or(Admitted::Would("signed"), |one| Admitted::Use(one, lanes)))
}

/// The plot for many: announce all, seal all, enrol all. Runs detached.
async fn run(chancery: Arc<Chancery>, slot: Slot, admitted: Vec<Item<Admitted>>) -> (Vec<Item<Done>>, Slot) {
    let started = Instant::now();
    let deadline = started + chancery.limits.sign_timeout;
    let mut done: Vec<Option<Item<Done>>> = Vec::with_capacity(admitted.len());
    done.resize_with(admitted.len(), || None);
    let (mut uses, mut anchors) = (Vec::with_capacity(admitted.len()), Vec::new());
    // By position; what is left in it at the end was used.
    let mut taken = BTreeMap::new();
    for (position, item) in admitted.into_iter().enumerate() {
        match item {
            Ok(Admitted::Use(KeyUse { intent, intents, taken: one, .. }, lanes)) => {
                taken.insert(position, one);
                uses.push((position, intent, intents, lanes));
            }
            Ok(Admitted::Would(outcome)) => settle(&mut done, position, Ok(Done::Would(outcome))),
            Ok(Admitted::Anchor(anchoring)) => anchors.push((position, anchoring)),
            Err(problem) => settle(&mut done, position, Err(problem)),
        }
    }
    let (announced, anchored) = tokio::join!(announce_all(&chancery, uses), anchor_all(&chancery, anchors));
    for (position, item) in anchored {
        settle(&mut done, position, item);
    }
    let mut ready = Vec::with_capacity(announced.len());
    for (position, item, lanes) in announced {
        match item {
            Ok(Enrolled::New(intent)) => ready.push((position, intent, lanes)),
            Ok(Enrolled::Already(outcome)) => {
                taken.remove(&position).into_iter().for_each(|one| chancery.allowances.give_back(one));
                settle(&mut done, position, Ok(Done::Outcome(outcome)));
            }
            Err(error) => {
                let one = taken.remove(&position).into_iter();
                one.for_each(|one| give_back_unless_written(&chancery, one, &error));
                settle(&mut done, position, Err(error.into()));
            }
        }
    }
    let sealed = seal_all(&chancery, ready, deadline).await;
    for (position, _) in sealed.iter().filter(|(_, outcome)| uses_no_key(outcome)) {
        taken.remove(position).into_iter().for_each(|one| chancery.allowances.give_back(one));
    }
    let (positions, outcomes): (Vec<_>, Vec<_>) = sealed.into_iter().unzip();
    let tallies: Vec<_> = outcomes.iter().map(Tally::of).collect();
    let submitted = chancery.halts.release_all(outcomes, |outcomes| chancery.roll.enrol_outcomes(outcomes));
    let enrolled = submitted.await;
    tallies.into_iter().for_each(|tally| tally.count(&chancery.metrics, started.elapsed()));
    for (position, outcome) in positions.into_iter().zip(enrolled) {
        settle(&mut done, position, outcome.map(Done::Outcome).map_err(Problem::from));
    }
    // An item without a result lost its sealing task; its intent is closed as abandoned at the next start.
    let lost = || Err(SigningError::TaskDied.into());
    (done.into_iter().map(|item| item.unwrap_or_else(lost)).collect(), slot)
}

fn settle<T>(done: &mut [Option<T>], position: usize, result: T) {
    if let Some(slot) = done.get_mut(position) {
        *slot = Some(result);
    }
}

/// Makes all intents durable in one group commit.
async fn announce_all(
    chancery: &Chancery,
    uses: Vec<(usize, Intent, Intents, Lanes)>,
) -> Vec<(usize, Result<Enrolled, RollError>, Lanes)> {
    let mut announced = Vec::with_capacity(uses.len());
    let (mut waiting, mut intents) = (Vec::new(), Vec::new());
    for (position, intent, how, lanes) in uses {
        match how {
            Intents::Skip => announced.push((position, Ok(skip(intent)), lanes)),
            Intents::Always => {
                waiting.push((position, lanes));
                intents.push(intent);
            }
        }
    }
    let enrolled = chancery.roll.enrol_intents(intents).await;
    let together = waiting.into_iter().zip(enrolled);
    announced.extend(together.map(|((position, lanes), result)| (position, result, lanes)));
    announced
}

/// Enrols all digests whose receipt is their signature, in one group commit.
async fn anchor_all(chancery: &Chancery, anchors: Vec<(usize, Anchoring)>) -> Vec<(usize, Item<Done>)> {
    let (mut places, mut events) = (Vec::with_capacity(anchors.len()), Vec::with_capacity(anchors.len()));
    let mut refused = Vec::new();
    let mut first = None;
    for (position, Anchoring { draft, replay, rung, one, taken: _ }) in anchors {
        match one.submit(chancery, || ()) {
            Ok(()) => {
                places.push((position, rung));
                events.push((draft, replay));
                first = first.or(Some(one));
            }
            Err(problem) => refused.push((position, Err(problem))),
        }
    }
    let submitted = match first {
        None => Ok(None),
        Some(one) => one.submit(chancery, || Some(chancery.roll.enrol_events(events))),
    };
    let enrolled = match submitted {
        Ok(None) => Vec::new(),
        Ok(Some(waiting)) => waiting.await.into_iter().map(|event| event.map_err(Problem::from)).collect(),
        Err(problem) => places.iter().map(|_| Err(problem.clone())).collect(),
    };
    let together = places.into_iter().zip(enrolled);
    let done =
        together.map(|((position, rung), event)| (position, event.map(|event| Done::Anchored(event, rung))));
    done.chain(refused).collect()
}

/// Uses the keys: computing in one chunk per core off the I/O threads, devices with two requests in wait
/// for each session.
async fn seal_all(
    chancery: &Arc<Chancery>,
    ready: Vec<(usize, DurableIntent, Lanes)>,
    deadline: Instant,
) -> Vec<(usize, Outcome)> {
    let mut sealed = Vec::with_capacity(ready.len());
    let mut by_lanes: BTreeMap<Lanes, Vec<(usize, DurableIntent)>> = BTreeMap::new();
    for (position, intent, lanes) in ready {
        by_lanes.entry(lanes).or_default().push((position, intent));
    }
    let mut chunks = JoinSet::new();
    let runtime = tokio::runtime::Handle::current();
    for (lanes, work) in by_lanes {
        for chunk in spread(work, lanes.width()) {
            let shared = Arc::clone(chancery);
            match lanes {
                Lanes::Cores => {
                    let runtime = runtime.clone();
                    chunks.spawn_blocking(move || runtime.block_on(compute(shared, chunk, deadline)))
                }
                Lanes::Sessions(_) => chunks.spawn(ask_device(shared, chunk, deadline)),
            };
        }
    }
    while let Some(chunk) = chunks.join_next().await {
        sealed.extend(chunk.unwrap_or_default());
    }
    sealed
}

/// Deals work out to at most `width` hands.
fn spread<T>(work: Vec<T>, width: usize) -> Vec<Vec<T>> {
    let each = work.len().div_ceil(width.max(1)).max(1);
    let mut hands = Vec::with_capacity(width);
    let mut work = work.into_iter().peekable();
    while work.peek().is_some() {
        hands.push(work.by_ref().take(each).collect());
    }
    hands
}

/// Keys of this process: all under way at once, so that their signatures are checked together.
async fn compute(
    chancery: Arc<Chancery>,
    chunk: Vec<(usize, DurableIntent)>,
    deadline: Instant,
) -> Vec<(usize, Outcome)> {
    let seal = |(position, intent)| {
        let sealed = chancery.keyring.seal(intent, None, deadline);
        async move { (position, sealed.await) }
    };
    join_all(chunk.into_iter().map(seal)).await
}

/// Keys of a device: one after the other, so that a batch cannot fill the device's queue.
async fn ask_device(
    chancery: Arc<Chancery>,
    chunk: Vec<(usize, DurableIntent)>,
    deadline: Instant,
) -> Vec<(usize, Outcome)> {
    let mut sealed = Vec::with_capacity(chunk.len());
    for (position, intent) in chunk {
        sealed.push((position, chancery.keyring.seal(intent, None, deadline).await));
    }
    sealed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_spread_evenly_and_nothing_is_lost() {
        for (items, width, hands) in [(0, 2, 0), (1, 2, 1), (2, 2, 2), (5, 2, 2), (256, 4, 4), (3, 0, 1)] {
            let dealt = spread((0..items).collect(), width);
            assert_eq!(dealt.len(), hands, "{items} over {width}");
            assert_eq!(dealt.into_iter().flatten().collect::<Vec<_>>(), (0..items).collect::<Vec<_>>());
        }
    }
}
