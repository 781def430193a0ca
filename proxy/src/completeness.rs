//! Completeness: heads of all chains enrolled on a cadence, and the proofs that are made from them.
//!
//! `GET /v1/completeness/{name}` gives the first line of a proof, `?from=` its entries
//! ([`chancery_format::completeness`]). Whoever may use a key sees all that tells of it, wherever it stands; for what
//! others did `read_payloads` is needed, as everywhere. Nothing here is on the way of a signature.

use std::sync::Arc;
use std::time::Duration;

use chancery_format::completeness::{Opening, entry_line};
use chancery_format::heads::HeadName;
use chancery_format::{AuditEvent, Rung, TreeSize};
use chancery_ledger::{HeadsOutcome, ProvenHead, RollError};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::admission::{check_payloads, check_stream};
use crate::chancery::Chancery;
use crate::problem::{Code, Problem};
use crate::reading::{Page, build_receipt, is_author, not_found, read_event};
use crate::response::{Caching, JSONL, Reply};
use crate::routes::Caller;
use crate::stop::stopped;

/// Follows the checkpoints until `stop`, and enrols the map of heads at most once every `interval`. What fails is
/// tried again at the next checkpoint, and told once.
pub async fn enrol_heads(chancery: Arc<Chancery>, interval: Duration, mut stop: watch::Receiver<bool>) {
    let mut checkpoints = chancery.roll.subscribe_checkpoints();
    let (mut due, mut told) = (Instant::now() + interval, false);
    // Whether the newest checkpoint came before the next map was due.
    let mut waits = false;
    loop {
        tokio::select! {
            () = stopped(&mut stop) => return,
            changed = checkpoints.changed() => if changed.is_err() { return },
            () = tokio::time::sleep_until(due), if waits => {}
        }
        let Some(size) = checkpoints.borrow_and_update().as_ref().map(|it| it.size) else { continue };
        let is_due = Instant::now() >= due;
        waits = !is_due;
        match once(&chancery, size, is_due).await {
            Ok(HeadsOutcome::Enrolled(_)) => (due, told) = (Instant::now() + interval, false),
            Ok(HeadsOutcome::Nothing | HeadsOutcome::Behind) => {}
            Ok(HeadsOutcome::TooMany(names)) => {
                chancery.metrics.heads_failed();
                if !std::mem::replace(&mut told, true) {
                    tracing::error!(names, "more streams and keys than heads are kept of: none are enrolled");
                }
            }
            Err(error) => {
                chancery.metrics.heads_failed();
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%error, "heads could not be enrolled; trying again");
                }
            }
        }
    }
}

async fn once(chancery: &Chancery, size: TreeSize, is_due: bool) -> Result<HeadsOutcome, RollError> {
    chancery.heads.follow(size).await?;
    if is_due { chancery.heads.enrol().await } else { Ok(HeadsOutcome::Nothing) }
}

/// `GET /v1/completeness/{name}[?from=&limit=]`.
pub async fn read(
    chancery: &Chancery,
    caller: &Caller<'_>,
    name: &str,
    query: Option<&str>,
) -> Result<Reply, Problem> {
    let name: HeadName = name.parse().map_err(|_| not_found("stream or key"))?;
    match name.stream() {
        Some(stream) => check_stream(&caller.grants, stream)?,
        None => check_payloads(&caller.grants)?,
    }
    match query.filter(|query| !query.is_empty()) {
        None => opening(chancery, name).await,
        Some(query) => entries(chancery, caller, name, query).await,
    }
}

async fn opening(chancery: &Chancery, name: HeadName) -> Result<Reply, Problem> {
    let proven = chancery.heads.proven(name.clone()).await?;
    let Some(ProvenHead { head, proof, enrolled }) = proven else {
        return Err(Problem::new(Code::ReleasePending, "no map of heads is enrolled yet"));
    };
    let leaf = chancery.roll.leaf(enrolled.index).await?.ok_or_else(|| not_found("entry"))?.bytes;
    let heads = build_receipt(chancery, enrolled.index, &leaf, Rung::Checkpointed).await?;
    let opening = Opening { name, head, proof, heads };
    Ok(Reply::json(opening.to_json().map_err(Problem::internal)?))
}

/// Whether the caller may use this key: then what was done with it is shown, in whatever stream it stands.
fn owns_key(chancery: &Chancery, caller: &Caller<'_>, name: &HeadName) -> bool {
    let published = chancery.registry.load();
    let signer = name.key().and_then(|pair| published.registry.signer(pair));
    signer.and_then(|signer| signer.kid.as_ref()).is_some_and(|kid| caller.grants.allows_kid(kid))
}

/// One line an entry.
async fn entries(
    chancery: &Chancery,
    caller: &Caller<'_>,
    name: HeadName,
    query: &str,
) -> Result<Reply, Problem> {
    let Page { from, limit } = Page::read(Some(query), chancery.limits.stream_page_max)?;
    let owns = owns_key(chancery, caller, &name);
    let leaves = chancery.heads.entries(name, from, limit).await?;
    let mut lines = String::new();
    for leaf in &leaves {
        let event: AuditEvent<'_> = read_event(&leaf.bytes)?;
        if !owns {
            check_stream(&caller.grants, event.stream)?;
        }
        if !is_author(&caller.grants, &event) {
            check_payloads(&caller.grants)?;
        }
        lines.push_str(&entry_line(leaf.index, &leaf.bytes));
        lines.push('\n');
    }
    Ok(Reply::other(JSONL, Caching::Never, lines))
}
