//! `POST /v1/events` and `/v1/events/batch`: a caller's own events join the ledger.
//!
//! The reply is the leaf as it stands, with its place in the stream's chain. A caller writes into its own
//! stream and those granted to it; it names who acted, but may not speak as another principal or as the
//! appliance. Once the ledger's writer has an event, a hang-up changes nothing: it is appended.

use std::sync::Arc;

use chancery_format::committed::{Committed, EventKind};
use chancery_format::entry::ReplayKey;
use chancery_format::names::IdempotencyKey;
use chancery_format::{EventDraft, PrincipalName};
use chancery_policy::{Act, What};
use futures_util::future::join_all;
use serde_json::value::RawValue;

use crate::admission::check_stream;
use crate::chancery::Chancery;
use crate::problem::Problem;
use crate::request::{EventRequest, RequestError, item_key, read_items};
use crate::response::{self, Reply};
use crate::routes::Caller;
use crate::rows;
use crate::signing::may;

/// What a dry run says that would have happened.
const APPENDED: &str = "appended";

/// An event with what makes its retries safe.
type Appending = (EventDraft, Option<(PrincipalName, ReplayKey)>);

/// `POST /v1/events`.
pub async fn append(chancery: &Arc<Chancery>, caller: Caller<'_>, body: &[u8]) -> Result<Reply, Problem> {
    let grants = &caller.grants;
    let request = EventRequest::read(body, grants.principal(), grants.own_stream())?;
    let dry_run = request.dry_run || caller.simulate;
    let (draft, replay) = admit(chancery, &caller, request, caller.idempotency_key.clone())?;
    if dry_run {
        return Ok(Reply::json(response::would(APPENDED)));
    }
    let event = chancery.roll.enrol_event(draft, replay).await?;
    Ok(Reply::created(appended(chancery, &caller, &event).await?))
}

/// The reply to one appended event.
async fn appended(
    chancery: &Arc<Chancery>,
    caller: &Caller<'_>,
    event: &Committed<EventKind>,
) -> Result<String, Problem> {
    let row = rows::row(chancery, caller, event.leaf()).await?;
    Ok(response::appended(event, row.as_deref()))
}

/// `POST /v1/events/batch`: items stand for themselves and keep their order, also in their streams. 201 if
/// any was appended.
pub async fn append_batch(
    chancery: &Arc<Chancery>,
    caller: Caller<'_>,
    body: &[u8],
) -> Result<Reply, Problem> {
    let items = read_items(body, chancery.limits.batch_items_max)?;
    caller.grants.bucket().charge(items.len().saturating_sub(1));
    let mut written = Vec::with_capacity(items.len());
    let mut events = Vec::with_capacity(items.len());
    for (position, item) in items.into_iter().enumerate() {
        match admit_item(chancery, &caller, item, position) {
            Ok(None) => written.push(response::would(APPENDED)),
            Ok(Some(event)) => {
                written.push(String::new());
                events.push((position, event));
            }
            Err(problem) => written.push(refused(chancery, &caller, &problem)),
        }
    }
    let (positions, events): (Vec<_>, Vec<_>) = events.into_iter().unzip();
    let enrolled = chancery.roll.enrol_events(events).await;
    let any = enrolled.iter().any(Result::is_ok);
    let replies = enrolled.into_iter().map(|event| async { appended(chancery, &caller, &event?).await });
    for (position, reply) in positions.into_iter().zip(join_all(replies).await) {
        let text = reply.unwrap_or_else(|problem| refused(chancery, &caller, &problem));
        if let Some(slot) = written.get_mut(position) {
            *slot = text;
        }
    }
    let written = response::items(&written);
    Ok(if any { Reply::created(written) } else { Reply::json(written) })
}

/// `None` for an item that was only to be tried.
fn admit_item(
    chancery: &Chancery,
    caller: &Caller<'_>,
    item: &RawValue,
    position: usize,
) -> Result<Option<Appending>, Problem> {
    let grants = &caller.grants;
    let request = EventRequest::read_item(item, position, grants.principal(), grants.own_stream())?;
    let key = caller.idempotency_key.as_ref().and_then(|batch| item_key(batch, position));
    let dry_run = request.dry_run || caller.simulate;
    let event = admit(chancery, caller, request, key)?;
    Ok((!dry_run).then_some(event))
}

fn admit(
    chancery: &Chancery,
    caller: &Caller<'_>,
    request: EventRequest,
    key: Option<IdempotencyKey>,
) -> Result<Appending, Problem> {
    let principal = caller.grants.principal();
    check_stream(&caller.grants, request.draft.stream.as_str())?;
    may(chancery, caller, Act::Append, What::Stream(request.draft.stream.clone()), None)?;
    if let Some(chain) = chancery.chain(request.draft.stream.as_str()) {
        rows::check_draft(chain, &request.draft)?;
    }
    let actor = &request.draft.actor;
    if actor != principal && chancery.admission.policy().grants(actor).is_some() {
        let error = RequestError::Reserved { field: "actor".to_owned(), name: actor.as_str().to_owned() };
        return Err(error.into());
    }
    let replay = key.map(|key| (principal.clone(), ReplayKey { key, request_hash: request.hash }));
    Ok((request.draft, replay))
}

/// Records an item's refusal like a request's, and writes it.
fn refused(chancery: &Chancery, caller: &Caller<'_>, problem: &Problem) -> String {
    chancery.note_refusal(problem, Some(caller.grants.principal()));
    problem.body(caller.request_id.as_str())
}
