//! The way of one foreign request: known, admitted, read, done, and answered in its own voice.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use chancery_format::names::IdempotencyKey;
use chancery_format::{Kid, RequestId};
use hyper::body::Body;
use hyper::header::HeaderMap;
use hyper::http::request;

use super::table::{Foreign, Found};
use super::{Dialect, aws_kms, platform, vault};
use crate::admission::Needs;
use crate::admission::policy::Grants;
use crate::authenticate::Peer;
use crate::chancery::{Chancery, Slot};
use crate::problem::{Code, Problem};
use crate::request::{idempotency_key, peer_uid, read_any};
use crate::response::Reply;
use crate::routes::Caller;
use crate::signing::passes;

/// How long to wait before knocking again, while the way in is closed for a moment.
const KNOCK_AGAIN: std::time::Duration = std::time::Duration::from_millis(50);

/// What a foreign call is given.
pub(super) struct Asked<'r> {
    pub(super) parameter: &'r str,
    pub(super) parts: &'r request::Parts,
    pub(super) body: Bytes,
}

/// Answers one request, or says why not.
pub(crate) async fn answer<B>(
    chancery: &Arc<Chancery>,
    peer: &Peer,
    found: &Found<'_>,
    (parts, request_id, kid): (&request::Parts, &RequestId, &OnceLock<Kid>),
    body: B,
) -> Result<Reply, Problem>
where
    B: Body<Data = Bytes>,
{
    let call = found.call;
    if !call.answers(&parts.method) {
        return Err(Problem::plain(Code::MethodNotAllowed).allowing(call.allow()));
    }
    let Some(needs) = call.needs() else { return open(chancery, call) };
    let (grants, slot) = admitted(chancery, peer, needs).await?;
    let caller = Caller {
        grants,
        request_id: request_id.clone(),
        idempotency_key: retried_by(call, &parts.headers)?,
        slot,
        source: peer_address(peer),
        simulate: false,
        kid,
        dialect: spoken(call),
        peer_uid: peer_uid(&parts.headers)?,
    };
    let body = match call.takes_body() {
        true => {
            let limits = &chancery.limits;
            read_any(&parts.headers, body, limits.body_bytes_max, limits.body_timeout).await?
        }
        false => Bytes::new(),
    };
    let asked = Asked { parameter: &found.parameter, parts, body };
    match call {
        Foreign::Platform(call) => platform::answer(chancery, caller, call, &asked).await,
        Foreign::Kms(target) => aws_kms::answer(chancery, caller, target, &asked).await,
        Foreign::Vault(call) => vault::answer(chancery, peer, caller, call, &asked).await,
    }
}

impl Found<'_> {
    /// A refusal as its clients read it.
    pub(crate) fn refusal(&self, problem: &Problem, request_id: &RequestId) -> Reply {
        match self.call {
            Foreign::Platform(_) => platform::refusal(problem, request_id),
            Foreign::Kms(_) => aws_kms::refusal(problem, request_id),
            Foreign::Vault(_) => vault::refusal(problem),
        }
    }
}

/// What anybody may ask.
fn open(chancery: &Chancery, call: Foreign) -> Result<Reply, Problem> {
    match call {
        Foreign::Vault(_) => Ok(vault::health(chancery)),
        _ => Ok(Reply::json(r#"{"status":"ok"}"#)),
    }
}

/// The language of a call. That of the platform's `/sign` is told by its body, later.
const fn spoken(call: Foreign) -> Dialect {
    match call {
        Foreign::Platform(call) => call.dialect(),
        Foreign::Kms(_) => Dialect::AwsKms,
        Foreign::Vault(_) => Dialect::VaultTransit,
    }
}

fn peer_address(peer: &Peer) -> IpAddr {
    peer.remote().ip()
}

/// Hops 2 and 4, tried again for a while where only time is missing.
async fn admitted(
    chancery: &Arc<Chancery>,
    peer: &Peer,
    needs: Needs,
) -> Result<(Arc<Grants>, Slot), Problem> {
    let principal = peer.principal()?;
    let until = Instant::now() + chancery.limits.dialect_patience;
    loop {
        let halted = chancery.keyring.kill_switch().is_halted();
        let entered = chancery.admission.enter(principal.name(), needs, halted, chancery.monotonic_ns());
        let problem = match (entered, chancery.slot()) {
            (Ok(grants), Some(slot)) => return Ok((grants, slot)),
            (Ok(_), None) => Problem::plain(Code::Overloaded),
            (Err(refusal), _) => refusal.into(),
        };
        if !passes(&problem) || Instant::now() + KNOCK_AGAIN >= until {
            return Err(problem);
        }
        tokio::time::sleep(KNOCK_AGAIN).await;
    }
}

/// What ties retries together: the header that clients set for it, or the id an AWS SDK keeps for all attempts of one
/// call.
fn retried_by(call: Foreign, headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Problem> {
    let given = idempotency_key(headers)?;
    if given.is_some() || !matches!(call, Foreign::Kms(_)) {
        return Ok(given);
    }
    let Some(id) = headers.get("amz-sdk-invocation-id") else { return Ok(None) };
    let text = id.to_str().unwrap_or_default();
    let key = format!("amz-sdk-invocation-id/{text}").parse();
    let refused = |_| Problem::new(Code::InvalidField, "amz-sdk-invocation-id must be a UUID");
    key.map(Some).map_err(refused)
}
