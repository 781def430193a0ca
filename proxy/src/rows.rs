//! Rows of streams that are set to the dialect of an existing writer: what today's verifiers of those chains read.
//!
//! Promises: a row's hash stands in its event's leaf, so it is on the ledger before anybody sees it; its signature is a
//! key use like every other, announced and enrolled, one for each event however often the row is asked for. The chain's
//! key signs rows and nothing else, so that no caller can have anything signed that looks like one.
//! Refuses: a `ts` of the author's own, because rows are ordered by it; an actor beside the one whose chain it is, where
//! the dialect has a chain for each.

use std::sync::Arc;

use chancery_format::chain::{Dialect, RowSignature, Signed};
use chancery_format::names::IdempotencyKey;
use chancery_format::{AuditEvent, Digest, EventDraft, StreamName};
use chancery_policy::{Act, What};
use futures_util::future::join_all;
use serde_json::json;

use crate::admission::policy::Grants;
use crate::admission::{check_payloads, check_stream};
use crate::chancery::Chancery;
use crate::config::ChainConfig;
use crate::problem::{Code, Problem};
use crate::response::Reply;
use crate::routes::Caller;
use crate::signing::{Content, OwnUse, make_in_own_right, may};
use crate::strict_json::Fields;

/// Fields of `POST /v1/rows`.
const ROWS_FIELDS: [&str; 3] = ["stream", "from", "limit"];

/// Whether an event fits the chain its stream is set to.
pub(crate) fn check_draft(chain: &ChainConfig, draft: &EventDraft) -> Result<(), Problem> {
    let refused = |detail: String| Err(Problem::new(Code::InvalidField, detail));
    let (stream, dialect) = (&chain.stream, chain.dialect);
    if draft.ts.is_some() {
        return refused(format!(
            "rows of stream {stream} are ordered by ts, which the ledger gives; put a time of your own into the payload"
        ));
    }
    if dialect == Dialect::Shared && draft.actor != chain.principal {
        return refused(format!("in dialect {dialect} stream {stream} is the chain of {}", chain.principal));
    }
    Ok(())
}

/// An event's row, signed if it was not yet; `None` if its stream has no chain with a key.
pub(crate) async fn row(
    chancery: &Arc<Chancery>,
    caller: &Caller<'_>,
    leaf: &[u8],
) -> Result<Option<String>, Problem> {
    if !chancery.has_chains() {
        return Ok(None);
    }
    let event = AuditEvent::read(leaf).map_err(Problem::internal)?;
    let (Some(link), Some(chain)) = (event.chain, chancery.chain(event.stream)) else { return Ok(None) };
    let key = chancery.key(&chain.kid).ok_or_else(|| Problem::internal("a chain without its key"))?;
    let content = match link.signed(event.ts) {
        Signed::Digest(hash) => Content::Digest(Digest::Sha256(hash.0)),
        Signed::Message(text) => Content::Message(text.into_bytes()),
    };
    let own = OwnUse {
        grants: Grants::of_chain(chain, caller.grants.policy()).map_err(Problem::internal)?,
        request_id: caller.request_id.clone(),
        idempotency_key: Some(once_for(event.id)?),
        slot: caller.slot.clone(),
        source: caller.source,
    };
    let about = json!({ "event": event.id, "stream": event.stream });
    let made = make_in_own_right(chancery, own, key, content, &about).await;
    let made = made.map_err(|problem| unsigned(problem, event.id))?;
    let signature = RowSignature { signer_kid: &made.signer_kid, signature: &made.signature };
    Ok(Some(link.dialect.row(&event, &link, signature)))
}

/// One event, one signature.
fn once_for(event_id: &str) -> Result<IdempotencyKey, Problem> {
    format!("row:{event_id}").parse().map_err(Problem::internal)
}

/// Says of a row that could not be signed that its event is on the ledger all the same.
fn unsigned(problem: Problem, id: &str) -> Problem {
    let detail = format!(
        "{} The event is appended as {id}; its row is not signed yet. Retry under the same Idempotency-Key, or ask \
         POST /v1/rows for it.",
        problem.detail()
    );
    problem.with_detail(detail)
}

/// `POST /v1/rows`: rows of a stream from `from` on, those signed now that were not yet.
pub(crate) async fn page(
    chancery: &Arc<Chancery>,
    caller: Caller<'_>,
    body: &[u8],
) -> Result<Reply, Problem> {
    let fields = Fields::read_body(body, &ROWS_FIELDS)?;
    let stream: StreamName = fields.parsed("stream")?;
    let limit_max = chancery.limits.batch_items_max as u64;
    let number = |name: &'static str, least: u64, most: u64, default: u64| match fields.raw(name) {
        None => Ok(default),
        Some(raw) => raw.get().parse().ok().filter(|it| (least..=most).contains(it)).ok_or_else(|| {
            Problem::from(fields.invalid(name, format!("must be a whole number from {least} to {most}")))
        }),
    };
    let from = number("from", 0, u64::MAX, 0)?;
    let limit = number("limit", 1, limit_max, limit_max.min(100))?;
    check_stream(&caller.grants, stream.as_str())?;
    check_payloads(&caller.grants)?;
    may(chancery, &caller, Act::Read, What::Stream(stream.clone()), None)?;
    let Some(chain) = chancery.chain(stream.as_str()) else {
        return Err(Problem::new(Code::NotFound, format!("stream {stream} is not set to a dialect")));
    };
    let found = chancery.roll.stream_page(stream.clone(), from, limit as usize).await?;
    let head = chancery.roll.stream_head(stream.clone()).await?;
    let next = from.saturating_add(found.len() as u64);
    let next = (!found.is_empty() && head.is_some_and(|head| next < head.next_seq)).then_some(next);
    if caller.simulate {
        return Ok(Reply::json(crate::response::would("signed")));
    }
    caller.grants.bucket().charge(found.len().saturating_sub(1));
    let rows = join_all(found.iter().map(|leaf| row(chancery, &caller, &leaf.bytes))).await;
    let rows = rows.into_iter().filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()?;
    let next = next.map_or_else(|| "null".to_owned(), |next| next.to_string());
    let (stream, dialect, rows) = (json!(stream.as_str()), chain.dialect, rows.join(","));
    Ok(Reply::json(format!(
        r#"{{"stream":{stream},"dialect":"{dialect}","from":{from},"next":{next},"items":[{rows}]}}"#
    )))
}
