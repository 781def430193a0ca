//! `POST /v1/sign` and `POST /v1/mac`: body in, reply out.

use std::sync::Arc;

use chancery_format::Kid;
use chancery_format::entry::{Operation, ReplayKey};

use super::anchored::{self, Anchoring};
use super::{KeyUse, detached, release};
use crate::admission::{KeyUseRequest, Permit, Refusal};
use crate::chancery::{Chancery, KeyEntry};
use crate::halts::Use;
use crate::problem::Problem;
use crate::request::{MacRequest, Mode, SignRequest};
use crate::response::{self, Reply};
use crate::routes::Caller;

/// `POST /v1/sign`.
pub async fn sign(chancery: &Arc<Chancery>, caller: Caller<'_>, body: &[u8]) -> Result<Reply, Problem> {
    let request = SignRequest::read(body)?;
    let replay = caller.idempotency_key.clone().map(|key| ReplayKey { key, request_hash: request.hash });
    if request.mode == Mode::Anchored {
        let Anchoring { draft, replay, rung } = anchored::admit(chancery, &caller, request, replay)?;
        let event = chancery.roll.enrol_event(draft, replay).await?;
        return Ok(Reply::json(anchored::release(chancery, &event, rung).await?));
    }
    let admitted = admit_sign(chancery, &caller, request, replay)?;
    let (outcome, _slot) = detached(chancery, caller.slot, admitted).await?;
    Ok(Reply::json(release(chancery, &outcome, response::signed).await?))
}

/// `POST /v1/mac`.
pub async fn mac(chancery: &Arc<Chancery>, caller: Caller<'_>, body: &[u8]) -> Result<Reply, Problem> {
    let request = MacRequest::read(body)?;
    let replay = caller.idempotency_key.clone().map(|key| ReplayKey { key, request_hash: request.hash });
    let (permit, intents) = permit(chancery, &caller, &request.kid, Operation::Mac)?;
    let intent = permit.into_intent(KeyUseRequest {
        digest: request.digest,
        purpose: None,
        metadata: None,
        request_id: caller.request_id.clone(),
        replay,
    });
    let admitted = KeyUse { intent, message: Some(request.message), intents };
    let (outcome, _slot) = detached(chancery, caller.slot, admitted).await?;
    Ok(Reply::json(release(chancery, &outcome, response::authenticated).await?))
}

/// Admits one digest: the permit is used up here.
pub(super) fn admit_sign(
    chancery: &Chancery,
    caller: &Caller<'_>,
    request: SignRequest,
    replay: Option<ReplayKey>,
) -> Result<KeyUse, Problem> {
    let (permit, intents) = permit(chancery, caller, &request.kid, Operation::Sign)?;
    permit.takes(&request.digest)?;
    let intent = permit.into_intent(KeyUseRequest {
        digest: request.digest,
        purpose: request.purpose,
        metadata: request.metadata,
        request_id: caller.request_id.clone(),
        replay,
    });
    Ok(KeyUse { intent, message: None, intents })
}

/// Refuses a use of a key that is halted, for this caller or for all.
pub(crate) fn not_halted(chancery: &Chancery, caller: &Caller<'_>, key: &KeyEntry) -> Result<(), Refusal> {
    let one = Use {
        kid: &key.kid,
        signer_kid: &key.signer_kid,
        principal: caller.grants.principal(),
        stream: caller.grants.own_stream(),
    };
    chancery.halts.look(&one).map_or(Ok(()), |scope| Err(Refusal::Halted(scope)))
}

/// A permit for `kid`, unless its device is known to be dead: then the caller learns that at once.
fn permit<'a>(
    chancery: &'a Chancery,
    caller: &'a Caller<'_>,
    kid: &Kid,
    operation: Operation,
) -> Result<(Permit<'a>, crate::config::Intents), Problem> {
    let key = chancery.key(kid);
    if let Some(key) = &key {
        not_halted(chancery, caller, key)?;
    }
    let permit = Permit::admit(&caller.grants, kid, key, operation)?;
    // The first key of a batch stands for it.
    let _ = caller.kid.set(kid.clone());
    chancery.keyring.available(kid)?;
    if let Some(second) = chancery.key(kid).and_then(|key| key.co_signer.clone()) {
        chancery.keyring.available(&second.kid)?;
    }
    let intents = permit.intents();
    Ok((permit, intents))
}
