//! From a request to its answer: who is it, may it, what does it say, who does it.
//!
//! [`handle`] is the service's one entrance; it knows nothing of sockets, so tests call it as the
//! listener does. Whatever happens behind it, the answer carries the request's id, one metric is counted
//! and one line is logged, here and nowhere else. Nothing is read from the body before the caller is
//! known, within its rate and granted the call.

pub mod table;

#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use chancery_format::names::IdempotencyKey;
use chancery_format::{Kid, LeafIndex, RequestId};
use http_body_util::Full;
use hyper::body::Body;
use hyper::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER,
};
use hyper::http::request;
use hyper::{Method, Request, Response};

use crate::admission::check_dialect;
use crate::admission::policy::Grants;
use crate::authenticate::Peer;
use crate::chancery::{Chancery, Slot};
use crate::dialects::{self, Dialect};
use crate::problem::{Code, MEDIA_TYPE, Problem};
use crate::reading::ReceiptForm;
use crate::request::{idempotency_key, peer_uid, read_json, request_id};
use crate::response::{Caching, HTML, JSON, Reply};
use crate::routes::table::{Access, Call, Route, Takes};
use crate::telemetry::RequestLine;
use crate::{completeness, events, keys, openapi, reading, rows, signing};

/// An admitted caller and what its request brought along.
#[derive(Debug, Clone)]
pub struct Caller<'r> {
    /// What it was granted.
    pub grants: Arc<Grants>,
    /// Correlates reply, log line and leaf.
    pub request_id: RequestId,
    /// Its `Idempotency-Key`.
    pub idempotency_key: Option<IdempotencyKey>,
    /// Its place among the requests under way.
    pub slot: Slot,
    /// Where it calls from.
    pub source: std::net::IpAddr,
    /// Whether to say what would happen and do nothing: `?simulate=true`.
    pub simulate: bool,
    /// The key it asked for and was granted, for the log line.
    pub kid: &'r OnceLock<Kid>,
    /// The language it speaks.
    pub dialect: Dialect,
    /// The local user behind an agent, as the agent says.
    pub peer_uid: Option<u32>,
}

/// Label of requests that found no route.
const NO_ROUTE: &str = "none";

/// Answers one request.
pub async fn handle<B>(chancery: Arc<Chancery>, peer: Peer, request: Request<B>) -> Response<Full<Bytes>>
where
    B: Body<Data = Bytes>,
{
    let started = Instant::now();
    let _under_way = chancery.metrics.request_started();
    let (parts, body) = request.into_parts();
    let request_id = request_id(&parts.headers).unwrap_or_else(|| chancery.new_request_id());
    let kid = OnceLock::new();
    let head = parts.method == Method::HEAD;
    let (answer, route, response) = match dialects::find(&parts.method, parts.uri.path(), &parts.headers) {
        Some(found) => {
            let asked = (&parts, &request_id, &kid);
            let answer = dialects::answer(&chancery, &peer, &found, asked, body).await;
            let told =
                answer.as_ref().map_or_else(|problem| found.refusal(problem, &request_id), Reply::clone);
            let response = write(&Ok(told), &request_id, head);
            (answer, found.call.name(), response)
        }
        None => {
            let found = table::find(parts.uri.path());
            let answer = match &found {
                Some((route, parameter)) => {
                    let asked = Asked { route, parameter, parts: &parts, request_id: &request_id, kid: &kid };
                    serve(&chancery, &peer, &asked, body).await
                }
                None => Err(Problem::plain(Code::NotFound)),
            };
            let response = write(&answer, &request_id, head);
            (answer, found.map_or(NO_ROUTE, |(route, _)| route.name), response)
        }
    };
    let status = response.status().as_u16();
    let told = Told { request_id: &request_id, route, status, kid: kid.get(), started };
    conclude(&chancery, &peer, &answer, &told);
    response
}

/// What a request asks, before anybody looked at its body.
struct Asked<'r> {
    route: &'static Route,
    parameter: &'r str,
    parts: &'r request::Parts,
    request_id: &'r RequestId,
    kid: &'r OnceLock<Kid>,
}

/// One answer, from a route that exists.
async fn serve<B>(chancery: &Arc<Chancery>, peer: &Peer, asked: &Asked<'_>, body: B) -> Result<Reply, Problem>
where
    B: Body<Data = Bytes>,
{
    let Asked { route, parts, .. } = asked;
    if !route.answers(&parts.method) {
        return Err(Problem::plain(Code::MethodNotAllowed).allowing(route.allow()));
    }
    if route.access == Access::Open {
        return Ok(open(route.call));
    }
    let caller = Caller {
        grants: admit(chancery, peer, route.access)?,
        request_id: asked.request_id.clone(),
        idempotency_key: idempotency_key(&parts.headers)?,
        slot: chancery.slot().ok_or_else(|| Problem::plain(Code::Overloaded))?,
        source: peer.remote().ip(),
        simulate: route.takes != Takes::Nothing && simulates(parts.uri.query())?,
        kid: asked.kid,
        dialect: Dialect::Native,
        peer_uid: peer_uid(&parts.headers)?,
    };
    if matches!(route.access, Access::Granted(needs) if needs.uses_key || needs.writes) {
        check_dialect(&caller.grants, Dialect::Native, None)?;
    }
    let bytes_max = match route.takes {
        Takes::Nothing => return read(chancery, caller, asked).await,
        Takes::One => chancery.limits.body_bytes_max,
        Takes::Many => chancery.limits.batch_body_bytes_max,
    };
    let body = read_json(&parts.headers, body, bytes_max, chancery.limits.body_timeout).await?;
    write_call(chancery, caller, route.call, &body).await
}

/// Hops 2 and 4: the principal the certificate names, as far as it is admitted without its body.
fn admit(chancery: &Chancery, peer: &Peer, access: Access) -> Result<Arc<Grants>, Problem> {
    let principal = peer.principal()?;
    match access {
        Access::Granted(needs) => {
            let halted = chancery.keyring.kill_switch().is_halted();
            Ok(chancery.admission.enter(principal.name(), needs, halted, chancery.monotonic_ns())?)
        }
        Access::Known | Access::Open => {
            Ok(chancery.admission.recognise(principal.name(), chancery.monotonic_ns())?)
        }
    }
}

/// Whether the query of a call that writes asks for a simulation. Anything else in it is refused: nobody is to believe
/// that something was only tried.
pub(crate) fn simulates(query: Option<&str>) -> Result<bool, Problem> {
    match query {
        None | Some("" | "simulate=false") => Ok(false),
        Some("simulate=true") => Ok(true),
        Some(_) => Err(Problem::new(Code::InvalidField, "the query may say simulate=true and nothing else")),
    }
}

/// What anybody may ask.
fn open(call: Call) -> Reply {
    const INDEX: &str = concat!(r#"{"name":"chancery","version":""#, env!("CARGO_PKG_VERSION"), r#""}"#);
    match call {
        Call::VerifyPage => verify_page(),
        Call::Index => Reply::json(INDEX),
        _ => Reply::json(r#"{"status":"ok"}"#),
    }
}

/// The browser's verifier, under the policy that it states itself: its own script and style, and no request.
fn verify_page() -> Reply {
    const PAGE: &str = include_str!("../../verifier/web/index.html");
    const STATED: &str = "http-equiv=\"Content-Security-Policy\" content=\"";
    let stated = PAGE.split_once(STATED).and_then(|(_, rest)| rest.split_once('"'));
    let policy = stated.map_or("default-src 'none'", |(policy, _)| policy);
    let mut reply = Reply::other(HTML, Caching::Never, PAGE);
    reply.headers.push(("content-security-policy", format!("{policy}; frame-ancestors 'none'")));
    reply.headers.push(("x-content-type-options", "nosniff".to_owned()));
    reply.headers.push(("referrer-policy", "no-referrer".to_owned()));
    reply
}

/// Calls without a body.
async fn read(chancery: &Arc<Chancery>, caller: Caller<'_>, asked: &Asked<'_>) -> Result<Reply, Problem> {
    let Asked { parameter, parts, .. } = asked;
    match asked.route.call {
        Call::Event => reading::event(chancery, &caller, parameter).await,
        Call::Stream => reading::stream(chancery, &caller, parameter, parts.uri.query()).await,
        Call::Pending => signing::pending::look(chancery, &caller, parameter).await,
        Call::Receipt => {
            let index = receipt_index(parameter)?;
            reading::receipt(chancery, &caller, index, receipt_form(&parts.headers)).await
        }
        Call::Completeness => completeness::read(chancery, &caller, parameter, parts.uri.query()).await,
        Call::Checkpoint => reading::checkpoint(chancery).await,
        Call::Tile => reading::tile(chancery, &caller, parameter).await,
        Call::Keys => keys::list(chancery, &caller),
        Call::Key => keys::detail(chancery, &caller, parameter),
        Call::KeyPublic => keys::public(chancery, &caller, parameter),
        Call::Registry => keys::registry(chancery, parts.uri.query()),
        Call::RegistryNote => Ok(keys::registry_note(chancery)),
        Call::OpenApi => Ok(Reply::other(JSON, Caching::Briefly, openapi::document_text())),
        _ => Err(Problem::internal("a call with a body was routed as one without")),
    }
}

/// Calls with a body.
async fn write_call(
    chancery: &Arc<Chancery>,
    caller: Caller<'_>,
    call: Call,
    body: &[u8],
) -> Result<Reply, Problem> {
    match call {
        Call::Sign => signing::sign(chancery, caller, body).await,
        Call::SignBatch => signing::sign_batch(chancery, caller, body).await,
        Call::Mac => signing::mac(chancery, caller, body).await,
        Call::Events => events::append(chancery, caller, body).await,
        Call::EventsBatch => events::append_batch(chancery, caller, body).await,
        Call::Rows => rows::page(chancery, caller, body).await,
        Call::Verify => keys::verify(chancery, &caller, body),
        Call::MacVerify => keys::mac_verify(chancery, &caller, body).await,
        _ => Err(Problem::internal("a call without a body was routed as one with")),
    }
}

fn receipt_index(text: &str) -> Result<LeafIndex, Problem> {
    let index = text.parse::<u64>().ok().filter(|index| index.to_string() == text);
    index.map(LeafIndex).ok_or_else(|| Problem::new(Code::NotFound, "receipts are named by a decimal index"))
}

fn receipt_form(headers: &HeaderMap) -> ReceiptForm {
    let asked = || headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    if asked().any(|text| text.contains("application/tlog-proof")) {
        ReceiptForm::TlogProof
    } else if asked().flat_map(|text| text.split(',')).any(is_cose) {
        ReceiptForm::Cose
    } else {
        ReceiptForm::Json
    }
}

/// `application/cose`, alone or as the one type that a receipt has (RFC 9052 §11.2).
fn is_cose(range: &str) -> bool {
    let mut parts = range.split(';').map(str::trim);
    let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("application/cose"));
    named
        && parts.filter_map(|parameter| parameter.split_once('=')).all(|(name, value)| {
            !name.trim_end().eq_ignore_ascii_case("cose-type")
                || value.trim().trim_matches('"').eq_ignore_ascii_case("cose-sign1")
        })
}

/// Puts an answer into HTTP. A `HEAD` gets the headers of its `GET`.
pub(crate) fn write(
    answer: &Result<Reply, Problem>,
    request_id: &RequestId,
    head: bool,
) -> Response<Full<Bytes>> {
    let (status, media_type, caching, body) = match answer {
        Ok(reply) => (reply.status, reply.media_type, reply.caching, reply.body.clone()),
        Err(problem) => {
            (problem.status(), MEDIA_TYPE, Caching::Never, Bytes::from(problem.body(request_id.as_str())))
        }
    };
    let bytes = body.len();
    let mut response = Response::new(Full::new(if head { Bytes::new() } else { body }));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.reserve(6);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching.header()));
    if head {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes));
    }
    if let Ok(id) = HeaderValue::from_str(request_id.as_str()) {
        headers.insert("x-request-id", id);
    }
    for (name, value) in answer.iter().flat_map(|reply| &reply.headers) {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(*name, value);
        }
    }
    if let Err(problem) = answer {
        if let Some(seconds) = problem.retry_after_s() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(methods) = problem.allow() {
            headers.insert(ALLOW, HeaderValue::from_static(methods));
        }
    }
    response
}

/// What the log line says beside the answer.
struct Told<'r> {
    request_id: &'r RequestId,
    route: &'static str,
    status: u16,
    kid: Option<&'r Kid>,
    started: Instant,
}

/// The one place where a request is counted, its refusal noted and its line written.
fn conclude(chancery: &Chancery, peer: &Peer, answer: &Result<Reply, Problem>, told: &Told<'_>) {
    let Told { request_id, route, status, kid, started } = told;
    let status = *status;
    let request_id = request_id.as_str();
    let principal = peer.principal().ok().map(|principal| principal.name());
    if let Err(problem) = answer {
        chancery.note_refusal(problem, principal);
        if let Some(cause) = problem.cause() {
            tracing::error!(target: "chancery::request", request_id, route, cause, "request failed");
        }
    }
    let elapsed = started.elapsed();
    chancery.metrics.request(route, status, elapsed);
    let code = answer.as_ref().err().map(|problem| problem.code().as_str());
    let (principal, kid) = (principal.map(|name| name.as_str()), kid.map(Kid::as_str));
    RequestLine { request_id, route, status, elapsed, code, principal, kid }.write();
}
