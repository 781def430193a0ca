//! Hop 10: what a client is told when the answer is yes.
//!
//! Each reply about a leaf is a pure function of its index and bytes, so a retry gets the same bytes
//! whatever happened in between. A signature is read here and nowhere else, through
//! [`Committed<OutcomeKind>`], which exists only for what is proven to be on disk. Names in leaves need
//! no escaping, so replies are put together from text.

use bytes::Bytes;
use chancery_format::committed::{
    AnchoredPayload, Committed, EventKind, FailedPayload, IssuedSignature, OutcomeKind,
};
use chancery_format::cose::COSE_MEDIA_TYPE;
use chancery_format::{AuditEvent, LeafIndex, Receipt, Rung};
use hyper::StatusCode;

/// Media type of every native reply.
pub const JSON: &str = "application/json";
/// Media type of JSON Lines: one value a line.
pub const JSONL: &str = "application/jsonl";
/// Media type of a C2SP proof.
pub const TLOG_PROOF: &str = "application/tlog-proof";
/// Media type of a COSE receipt.
pub const COSE: &str = COSE_MEDIA_TYPE;
/// Media type of checkpoints, notes and PEM.
pub const TEXT: &str = "text/plain; charset=utf-8";
/// Media type of pages.
pub const HTML: &str = "text/html; charset=utf-8";
/// Media type of PEM keys.
pub const PEM: &str = "application/x-pem-file";
/// Media type of tiles and entry bundles.
pub const BYTES: &str = "application/octet-stream";

/// How long, and by whom, a reply may be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caching {
    /// Not at all: it is about this moment, or holds what others may not see.
    Never,
    /// For a second: it moves on by itself.
    Briefly,
    /// For ever, by anybody: it can never change and holds hashes only.
    Immutable,
    /// For ever, but only by the one who asked: it can never change and holds payloads.
    ImmutablePrivate,
}

impl Caching {
    /// Value of `Cache-Control`.
    pub const fn header(self) -> &'static str {
        match self {
            Self::Never => "no-store",
            Self::Briefly => "private, max-age=1",
            Self::Immutable => "public, max-age=31536000, immutable",
            Self::ImmutablePrivate => "private, max-age=31536000, immutable",
        }
    }
}

/// A good answer on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// 200, or 201 for an appended event.
    pub status: StatusCode,
    /// `Content-Type`.
    pub media_type: &'static str,
    /// `Cache-Control`.
    pub caching: Caching,
    /// Header fields of its own.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Bytes,
}

impl Reply {
    /// 200 with JSON that is not kept.
    pub fn json(body: impl Into<Bytes>) -> Self {
        Self::other(JSON, Caching::Never, body)
    }

    /// 201 with JSON.
    pub fn created(body: impl Into<Bytes>) -> Self {
        Self { status: StatusCode::CREATED, ..Self::json(body) }
    }

    /// With the header fields that go with a refusal: when to try again, and how.
    #[must_use]
    pub fn with_retry(mut self, problem: &crate::problem::Problem) -> Self {
        self.headers.extend(problem.retry_after_s().map(|seconds| ("retry-after", seconds.to_string())));
        self.headers.extend(problem.allow().map(|methods| ("allow", methods.to_owned())));
        self
    }

    /// 200 with another media type.
    pub fn other(media_type: &'static str, caching: Caching, body: impl Into<Bytes>) -> Self {
        Self { status: StatusCode::OK, media_type, caching, headers: Vec::new(), body: body.into() }
    }
}

/// Where a receipt can be fetched: what replies at rung `durable` carry in its place.
pub fn receipt_pointer(index: LeafIndex) -> String {
    format!(r#"{{"version":1,"index":{index},"rung":"durable","url":"/v1/receipts/{index}"}}"#)
}

/// What became of a key use.
#[expect(clippy::large_enum_variant, reason = "the large variant is the common one, and moves once")]
#[derive(Debug)]
pub enum Released<'a> {
    /// There is a signature.
    Issued(IssuedSignature<'a>),
    /// There is none, and this is why.
    Failed(FailedPayload<'a>),
}

/// Reads an outcome: the only place where a signature leaves its leaf. `None` is corruption.
pub fn release(outcome: &Committed<OutcomeKind>) -> Option<Released<'_>> {
    match outcome.issued() {
        Some(issued) => Some(Released::Issued(issued)),
        None => outcome.failed().map(Released::Failed),
    }
}

/// Reply of `POST /v1/sign`. `receipt` is the whole receipt, or the pointer to it.
pub fn signed(issued: &IssuedSignature<'_>, receipt: &str) -> String {
    let IssuedSignature { event, payload } = issued;
    let mut out = String::with_capacity(512 + receipt.len());
    push(&mut out, &["{\"id\":\"", event.id, "\",\"kid\":\"", payload.kid]);
    push(&mut out, &["\",\"signer_kid\":\"", payload.signer_kid, "\",\"algorithm\":\"", payload.algorithm]);
    push(
        &mut out,
        &["\",\"digest\":\"", payload.digest, "\",\"digestAlgorithm\":\"", payload.digest_algorithm],
    );
    push(&mut out, &["\",\"signature\":\"", payload.signature, "\",\"ts\":\"", &event.ts.to_string()]);
    if let Some(second) = &payload.co_signer {
        push(
            &mut out,
            &["\",\"coSigner\":{\"kid\":\"", second.kid, "\",\"signer_kid\":\"", second.signer_kid],
        );
        push(&mut out, &["\",\"algorithm\":\"", second.algorithm]);
        push(&mut out, &["\",\"signature\":\"", second.signature.unwrap_or_default(), "\"},\"rung\":\""]);
    } else {
        out.push_str("\",\"rung\":\"");
    }
    push(&mut out, &[payload.release, "\",\"receipt\":", receipt, "}"]);
    out
}

/// Reply of an anchored `POST /v1/sign`: `receipt` is the signature, so there is no other.
pub fn anchored(event: &AuditEvent<'_>, payload: &AnchoredPayload<'_>, rung: Rung, receipt: &str) -> String {
    let mut out = String::with_capacity(384 + receipt.len());
    push(&mut out, &["{\"id\":\"", event.id, "\",\"kid\":\"", payload.kid, "\",\"mode\":\"anchored"]);
    push(&mut out, &["\",\"signer_kid\":\"", event.signer_kid, "\",\"digest\":\"", payload.digest]);
    push(&mut out, &["\",\"digestAlgorithm\":\"", payload.digest_algorithm]);
    push(&mut out, &["\",\"ts\":\"", &event.ts.to_string(), "\",\"rung\":\"", rung.as_str()]);
    push(&mut out, &["\",\"receipt\":", receipt, "}"]);
    out
}

/// Reply of `POST /v1/mac`: as a signature's, with `mac` in its place.
pub fn authenticated(issued: &IssuedSignature<'_>, receipt: &str) -> String {
    let IssuedSignature { event, payload } = issued;
    let mut out = String::with_capacity(512 + receipt.len());
    push(
        &mut out,
        &["{\"mac\":\"", payload.signature, "\",\"id\":\"", event.id, "\",\"kid\":\"", payload.kid],
    );
    push(&mut out, &["\",\"signer_kid\":\"", payload.signer_kid, "\",\"algorithm\":\"", payload.algorithm]);
    push(
        &mut out,
        &["\",\"digest\":\"", payload.digest, "\",\"digestAlgorithm\":\"", payload.digest_algorithm],
    );
    push(&mut out, &["\",\"ts\":\"", &event.ts.to_string(), "\",\"rung\":\"", payload.release]);
    push(&mut out, &["\",\"receipt\":", receipt, "}"]);
    out
}

/// Reply of `POST /v1/events`: the leaf as it is on the ledger, with a pointer to its receipt, and with its row in its
/// dialect's chain if it has one.
pub fn appended(event: &Committed<EventKind>, row: Option<&str>) -> String {
    let mut out = with_receipt_pointer(event.leaf(), event.index());
    if let Some(row) = row {
        out.truncate(out.len().saturating_sub(1));
        push(&mut out, &[",\"row\":", row, "}"]);
    }
    out
}

/// A leaf with its payload, as `GET /v1/events/{id}` and stream pages show it.
pub fn with_receipt_pointer(leaf: &[u8], index: LeafIndex) -> String {
    let pointer = receipt_pointer(index);
    let members = leaf.strip_suffix(b"}").unwrap_or(leaf);
    let mut out = String::with_capacity(members.len() + pointer.len() + 16);
    push(&mut out, &[&String::from_utf8_lossy(members), ",\"receipt\":", &pointer, "}"]);
    out
}

/// A leaf without payload and metadata, for readers who were not granted payloads. `hash` still covers
/// what is left out; the receipt shows it to whoever may see it.
pub fn redacted(event: &AuditEvent<'_>, index: LeafIndex) -> String {
    let prev_hash = event.prev_hash.map_or_else(|| "null".to_owned(), |hash| format!("\"{hash}\""));
    let mut out = String::with_capacity(768);
    push(&mut out, &["{\"actor\":\"", event.actor, "\",\"eventType\":\"", event.event_type]);
    push(&mut out, &["\",\"hash\":\"", &event.hash.to_hex(), "\",\"id\":\"", event.id, "\""]);
    if let Some(id) = event.manifest_signature_id {
        push(&mut out, &[",\"manifestSignatureId\":\"", id, "\""]);
    }
    push(&mut out, &[",\"prevHash\":", &prev_hash, ",\"seq\":", &event.seq.to_string()]);
    push(&mut out, &[",\"signer_kid\":\"", event.signer_kid, "\",\"stream\":\"", event.stream]);
    push(
        &mut out,
        &["\",\"ts\":\"", &event.ts.to_string(), "\",\"version\":1,\"redacted\":true,\"receipt\":"],
    );
    push(&mut out, &[&receipt_pointer(index), "}"]);
    out
}

/// A receipt as JSON; `None` is corruption.
pub fn receipt(receipt: &Receipt) -> Option<String> {
    receipt.to_json().ok()
}

/// The rung a leaf's outcome had to reach before release.
pub fn required_rung(issued: &IssuedSignature<'_>) -> Rung {
    issued.payload.rung().unwrap_or(Rung::Durable)
}

/// What a dry run answers: what would have happened. Nothing did.
pub fn would(outcome: &str) -> String {
    format!(r#"{{"dryRun":true,"allowed":true,"outcome":"{outcome}"}}"#)
}

/// `{"items":[…]}` of texts that are JSON already.
pub fn items(items: &[String]) -> String {
    let mut out = String::with_capacity(16 + items.iter().map(|item| item.len() + 1).sum::<usize>());
    out.push_str("{\"items\":[");
    for (position, item) in items.iter().enumerate() {
        if position > 0 {
            out.push(',');
        }
        out.push_str(item);
    }
    out.push_str("]}");
    out
}

fn push(out: &mut String, parts: &[&str]) {
    for part in parts {
        out.push_str(part);
    }
}
