//! Reading back: receipts, events, streams, and the log's public face.
//!
//! What may be read is decided twice: the event's stream must be granted, and its payload is shown only
//! to principals with `read_payloads`; others see where it stands and its hashes. Hash tiles and
//! checkpoints hold no payloads; entry bundles and receipts do. One exception: an author is owed the
//! receipts of what it did itself. A receipt is built under the *first* checkpoint that covers its leaf; in COSE, under
//! the newest head that was signed for those (`cose.rs`).

use std::sync::Arc;

use chancery_format::checkpoint::VerifiedCheckpoint;
use chancery_format::tile::TilePath;
use chancery_format::{AuditEvent, EventId, LeafIndex, Receipt, Rung, StreamName};
use chancery_ledger::{StoredCheckpoint, StoredLeaf};
use chancery_policy::{Act, What};

use crate::admission::policy::Grants;
use crate::admission::{check_payloads, check_stream};
use crate::chancery::Chancery;
use crate::cose;
use crate::grease::greased;
use crate::problem::{Code, Problem};
use crate::request::RequestError;
use crate::response::{self, BYTES, Caching, Reply, TEXT, TLOG_PROOF};
use crate::routes::Caller;
use crate::signing::may;

/// Events of a page when the caller does not say.
const PAGE_DEFAULT: usize = 100;

/// The form a receipt is asked for in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiptForm {
    /// Our JSON, with the event.
    Json,
    /// C2SP `tlog-proof`, without it.
    TlogProof,
    /// COSE (RFC 9942), without it.
    Cose,
}

/// `GET /v1/receipts/{index}`.
pub async fn receipt(
    chancery: &Chancery,
    caller: &Caller<'_>,
    index: LeafIndex,
    form: ReceiptForm,
) -> Result<Reply, Problem> {
    let leaf = chancery.roll.leaf(index).await?.ok_or_else(|| not_found("entry"))?.bytes;
    let event = read_event(&leaf)?;
    check_stream(&caller.grants, event.stream)?;
    if form == ReceiptForm::Json && !is_author(&caller.grants, &event) {
        check_payloads(&caller.grants)?;
    }
    if form == ReceiptForm::Cose {
        return cose::receipt(chancery, index, &leaf).await;
    }
    let progress = &chancery.progress;
    let rung = match (progress.archived_size().covers(index), progress.witnessed_size().covers(index)) {
        (true, _) => Rung::Archived,
        (false, true) => Rung::Witnessed,
        (false, false) => Rung::Checkpointed,
    };
    let receipt = build_receipt(chancery, index, &leaf, rung).await?;
    Ok(match form == ReceiptForm::TlogProof {
        true => Reply::other(TLOG_PROOF, Caching::Briefly, receipt.to_tlog_proof()),
        false => Reply::json(receipt_json(&receipt)?),
    })
}

/// The whole receipt of a reply whose key asks for more than `durable`. Waits for the rung.
pub async fn full_receipt(
    chancery: &Chancery,
    index: LeafIndex,
    leaf: &[u8],
    rung: Rung,
) -> Result<String, Problem> {
    let at_most = chancery.limits.release_timeout;
    let holds = match rung {
        Rung::Archived => chancery.progress.wait_archived(index, at_most).await,
        Rung::Witnessed => chancery.progress.wait_witnessed(index, at_most).await,
        Rung::Durable | Rung::Checkpointed => true,
    };
    if !holds {
        return Err(Problem::plain(Code::ReleasePending));
    }
    receipt_json(&build_receipt(chancery, index, leaf, rung).await?)
}

fn receipt_json(receipt: &Receipt) -> Result<String, Problem> {
    receipt.to_json().map_err(Problem::internal)
}

/// Under the first witnessed checkpoint that covers the leaf; without one, under the first that was recorded; and under the
/// newest if that one was signed by a key that is compromised since. Asks for one if there is none yet.
pub(crate) async fn build_receipt(
    chancery: &Chancery,
    index: LeafIndex,
    leaf: &[u8],
    rung: Rung,
) -> Result<Receipt, Problem> {
    if !chancery.progress.wait_checkpointed(index, chancery.limits.release_timeout).await {
        return Err(Problem::plain(Code::ReleasePending));
    }
    let checkpoint = match chancery.progress.witnessed_size().covers(index) {
        true => Arc::new(verified(chancery, chancery.roll.first_witnessed_covering(index).await?)?),
        false => match chancery.checkpoints.first_covering(index) {
            Some(recent) => recent,
            None => Arc::new(verified(chancery, chancery.roll.first_checkpoint_covering(index).await?)?),
        },
    };
    let checkpoint = standing(chancery, checkpoint)?;
    let proof = chancery.roll.inclusion_proof(index, checkpoint.head().size).await?;
    let checkpoint = match chancery.grease {
        true => Arc::new(verified_note(chancery, &greased(checkpoint.note()))?),
        false => checkpoint,
    };
    Ok(Receipt::new(leaf.to_vec(), index, proof, &checkpoint, rung))
}

/// This checkpoint, or the newest if no key that signed this one may be believed by now.
fn standing(chancery: &Chancery, first: Arc<VerifiedCheckpoint>) -> Result<Arc<VerifiedCheckpoint>, Problem> {
    match chancery.registry.load().ledger_keys.stands(&first) {
        true => Ok(first),
        false => Ok(Arc::new(verified(chancery, chancery.roll.latest_checkpoint())?)),
    }
}

/// A checkpoint that was read back, verified.
fn verified(chancery: &Chancery, stored: Option<StoredCheckpoint>) -> Result<VerifiedCheckpoint, Problem> {
    let first = stored.ok_or_else(|| Problem::plain(Code::ReleasePending))?;
    verified_note(chancery, &first.note)
}

fn verified_note(chancery: &Chancery, note: &str) -> Result<VerifiedCheckpoint, Problem> {
    chancery.registry.load().ledger_keys.verify(note).map_err(Problem::internal)
}

/// `GET /v1/events/{id}`.
pub async fn event(chancery: &Chancery, caller: &Caller<'_>, id: &str) -> Result<Reply, Problem> {
    let id: EventId = id.parse().map_err(|_| not_found("event"))?;
    let leaf = chancery.roll.find_event(id).await?.ok_or_else(|| not_found("event"))?;
    let stream = read_event(&leaf.bytes)?.stream;
    check_stream(&caller.grants, stream)?;
    let what = What::Stream(stream.parse().map_err(Problem::internal)?);
    may(chancery, caller, Act::Read, what, None)?;
    Ok(Reply::json(show(&caller.grants, &leaf)?))
}

/// `GET /v1/streams/{stream}?from=&limit=`.
pub async fn stream(
    chancery: &Chancery,
    caller: &Caller<'_>,
    stream: &str,
    query: Option<&str>,
) -> Result<Reply, Problem> {
    let stream: StreamName = stream.parse().map_err(|_| not_found("stream"))?;
    check_stream(&caller.grants, stream.as_str())?;
    may(chancery, caller, Act::Read, What::Stream(stream.clone()), None)?;
    let Page { from, limit } = Page::read(query, chancery.limits.stream_page_max)?;
    let found = chancery.roll.stream_page(stream.clone(), from, limit).await?;
    let head = chancery.roll.stream_head(stream.clone()).await?;
    let items = found.iter().map(|leaf| show(&caller.grants, leaf)).collect::<Result<Vec<_>, _>>()?;
    let next = from.saturating_add(found.len() as u64);
    let more = !found.is_empty() && head.is_some_and(|head| next < head.next_seq);
    let next = if more { next.to_string() } else { "null".to_owned() };
    let list = response::items(&items);
    let members = list.strip_prefix('{').unwrap_or_default();
    Ok(Reply::json(format!(r#"{{"stream":"{stream}","from":{from},"next":{next},{members}"#)))
}

/// Which part of a stream is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) from: u64,
    pub(crate) limit: usize,
}

impl Page {
    /// Reads `from` and `limit` strictly; a limit above the bound is cut, and `next` leads on.
    pub(crate) fn read(query: Option<&str>, limit_max: usize) -> Result<Self, RequestError> {
        let mut page = Self { from: 0, limit: PAGE_DEFAULT.min(limit_max) };
        let mut seen = Vec::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if seen.contains(&name) {
                return Err(parameter("query", &format!("has {name:?} more than once")));
            }
            seen.push(name);
            match name {
                "from" => page.from = natural("from", value)?,
                "limit" => {
                    let limit = usize::try_from(natural("limit", value)?).unwrap_or(usize::MAX);
                    page.limit = limit.min(limit_max);
                }
                _ => return Err(parameter("query", "knows only \"from\" and \"limit\"")),
            }
        }
        if page.limit == 0 { Err(parameter("limit", "must be at least 1")) } else { Ok(page) }
    }
}

/// A decimal number below 2^53 in its one spelling.
fn natural(name: &'static str, text: &str) -> Result<u64, RequestError> {
    let number = text.parse::<u64>().ok().filter(|number| *number < 1 << 53 && number.to_string() == text);
    number.ok_or_else(|| parameter(name, "must be a decimal number"))
}

fn parameter(name: &'static str, rule: &str) -> RequestError {
    RequestError::Parameter { name, rule: rule.to_owned() }
}

/// `GET /log/checkpoint`.
pub async fn checkpoint(chancery: &Chancery) -> Result<Reply, Problem> {
    let latest = match chancery.progress.witnessed_size().0 {
        0 => chancery.roll.latest_checkpoint(),
        _ => chancery.roll.latest_witnessed().await?,
    };
    let latest = latest.ok_or_else(|| not_found("checkpoint"))?;
    let note = if chancery.grease { greased(&latest.note) } else { latest.note.to_string() };
    Ok(Reply::other(TEXT, Caching::Briefly, note))
}

/// `GET /log/tile/…`; `path` starts with `tile/`.
pub async fn tile(chancery: &Chancery, caller: &Caller<'_>, path: &str) -> Result<Reply, Problem> {
    let path = TilePath::parse(path).ok_or_else(|| not_found("tile"))?;
    let (found, caching) = match path.level {
        Some(level) => (chancery.roll.tile(level, path.index, path.width).await?, Caching::Immutable),
        None => {
            check_payloads(&caller.grants)?;
            (chancery.roll.bundle(path.index, path.width).await?, Caching::ImmutablePrivate)
        }
    };
    let bytes = found.ok_or_else(|| not_found("tile"))?;
    Ok(Reply::other(BYTES, caching, bytes))
}

pub(crate) fn read_event(leaf: &[u8]) -> Result<AuditEvent<'_>, Problem> {
    AuditEvent::read(leaf).map_err(Problem::internal)
}

/// The event as this reader may see it.
fn show(grants: &Grants, leaf: &StoredLeaf) -> Result<String, Problem> {
    Ok(match grants.reads_payloads() {
        true => response::with_receipt_pointer(&leaf.bytes, leaf.index),
        false => response::redacted(&read_event(&leaf.bytes)?, leaf.index),
    })
}

/// Whether the event is the principal's own: it acted, or it is in its own stream.
pub(crate) fn is_author(grants: &Grants, event: &AuditEvent<'_>) -> bool {
    event.actor == grants.principal().as_str() || event.stream == grants.own_stream().as_str()
}

pub(crate) fn not_found(what: &str) -> Problem {
    Problem::new(Code::NotFound, format!("there is no such {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_read_strictly_and_bounded() {
        let read = |query| Page::read(query, 256);
        assert_eq!(read(None), Ok(Page { from: 0, limit: 100 }));
        assert_eq!(read(Some("from=7&limit=3")), Ok(Page { from: 7, limit: 3 }));
        assert_eq!(read(Some("limit=1000")), Ok(Page { from: 0, limit: 256 }));
        for bad in [
            "from=-1",
            "from=01",
            "from=",
            "from=a",
            "limit=0",
            "x=1",
            "from=1&from=2",
            "from=9007199254740992",
        ] {
            assert!(read(Some(bad)).is_err(), "{bad}");
        }
    }
}
