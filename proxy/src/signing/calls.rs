//! `POST /v1/sign` and `POST /v1/mac`: body in, reply out.

use std::sync::Arc;

use chancery_format::Kid;
use chancery_format::entry::{Operation, ReplayKey};
use chancery_policy::Act;

use super::anchored::{self, Anchoring};
use super::policy::{self, Cleared, Looked};
use super::{KeyUse, detached, pending, release};
use crate::admission::{KeyUseRequest, Permit, Refusal, check_dialect, check_is_somebodys, check_key};
use crate::chancery::{Chancery, KeyEntry};
use crate::halts::Use;
use crate::problem::Problem;
use crate::request::{MacRequest, Mode, SignRequest};
use crate::response::{self, Reply};
use crate::routes::Caller;

/// `POST /v1/sign`. With `dryRun`, nothing happens and the answer says what would.
pub async fn sign(chancery: &Arc<Chancery>, caller: Caller<'_>, body: &[u8]) -> Result<Reply, Problem> {
    let mut request = SignRequest::read(body)?;
    request.dry_run |= caller.simulate;
    let replay = caller.idempotency_key.clone().map(|key| ReplayKey { key, request_hash: request.hash });
    if request.mode == Mode::Anchored {
        let dry_run = request.dry_run;
        let Anchoring { draft, replay, rung, one, taken } =
            anchored::admit(chancery, &caller, request, replay)?;
        if dry_run {
            chancery.allowances.give_back(taken);
            return Ok(would("anchored"));
        }
        let submitted = one.submit(chancery, || chancery.roll.enrol_event(draft, replay))?;
        let event = submitted.await?;
        return Ok(Reply::json(anchored::release(chancery, &event, rung).await?));
    }
    let key = ready(chancery, &caller, &request.kid)?;
    let looked = Looked { act: Act::Sign, purpose: request.purpose.as_ref(), dry_run: request.dry_run };
    let permit = match policy::clear(chancery, &caller, key, Operation::Sign, looked).await? {
        Cleared::Now(permit) => permit,
        Cleared::Service => return Ok(would("policy_service")),
        Cleared::Quorum(..) if request.dry_run => return Ok(would("pending_multisig")),
        Cleared::Quorum(approvals, policy) => {
            return pending::ask(chancery, &caller, request, approvals, policy).await;
        }
    };
    permit.takes(&request.digest)?;
    if request.dry_run {
        chancery.allowances.look(&permit, chancery.now())?;
        return Ok(would("signed"));
    }
    let admitted = key_use(chancery, permit, &caller, request, replay)?;
    let (outcome, _slot) = detached(chancery, caller.slot, admitted).await?;
    Ok(Reply::json(release(chancery, &outcome, response::signed).await?))
}

/// What a dry run answers: nothing was enrolled, no key was used.
pub(super) fn would(outcome: &str) -> Reply {
    Reply::json(response::would(outcome))
}

/// `POST /v1/mac`.
pub async fn mac(chancery: &Arc<Chancery>, caller: Caller<'_>, body: &[u8]) -> Result<Reply, Problem> {
    let request = MacRequest::read(body)?;
    let replay = caller.idempotency_key.clone().map(|key| ReplayKey { key, request_hash: request.hash });
    let key = ready(chancery, &caller, &request.kid)?;
    let looked = Looked { act: Act::Mac, purpose: None, dry_run: request.dry_run || caller.simulate };
    let permit = policy::clear_at_once(chancery, &caller, key, Operation::Mac, looked)?;
    if request.dry_run || caller.simulate {
        chancery.allowances.look(&permit, chancery.now())?;
        return Ok(would("authenticated"));
    }
    let taken = chancery.allowances.take(&permit, chancery.monotonic_ns(), chancery.now())?;
    let intents = permit.intents();
    let intent = permit.into_intent(KeyUseRequest {
        digest: request.digest,
        purpose: None,
        metadata: None,
        request_id: caller.request_id.clone(),
        replay,
        asked: caller.asked(None),
    });
    let admitted = KeyUse { intent, message: Some(request.message), intents, taken, until: None };
    let (outcome, _slot) = detached(chancery, caller.slot, admitted).await?;
    Ok(Reply::json(release(chancery, &outcome, response::authenticated).await?))
}

/// Admits one digest of a batch: the permit is used up here. `None` if it was only to be tried.
pub(super) fn admit_sign(
    chancery: &Chancery,
    caller: &Caller<'_>,
    request: SignRequest,
    replay: Option<ReplayKey>,
) -> Result<Option<KeyUse>, Problem> {
    let key = ready(chancery, caller, &request.kid)?;
    let looked = Looked { act: Act::Sign, purpose: request.purpose.as_ref(), dry_run: request.dry_run };
    let permit = policy::clear_at_once(chancery, caller, key, Operation::Sign, looked)?;
    permit.takes(&request.digest)?;
    if request.dry_run {
        chancery.allowances.look(&permit, chancery.now())?;
        return Ok(None);
    }
    key_use(chancery, permit, caller, request, replay).map(Some)
}

fn key_use(
    chancery: &Chancery,
    permit: Permit<'_>,
    caller: &Caller<'_>,
    request: SignRequest,
    replay: Option<ReplayKey>,
) -> Result<KeyUse, Problem> {
    let taken = chancery.allowances.take(&permit, chancery.monotonic_ns(), chancery.now())?;
    let intents = permit.intents();
    let intent = permit.into_intent(KeyUseRequest {
        digest: request.digest,
        purpose: request.purpose,
        metadata: request.metadata,
        request_id: caller.request_id.clone(),
        replay,
        asked: caller.asked(None),
    });
    Ok(KeyUse { intent, message: None, intents, taken, until: None })
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

/// The key of that name, unless it is halted or its device is known to be dead: then the caller learns that at
/// once. A key that the appliance uses in its own right is no caller's, whatever grants and policies say.
pub(super) fn ready(chancery: &Chancery, caller: &Caller<'_>, kid: &Kid) -> Result<Arc<KeyEntry>, Problem> {
    check_is_somebodys(&caller.grants, kid, chancery.is_nobodys(kid))?;
    ready_for_us(chancery, caller, kid)
}

/// The same for what the appliance does in its own right.
pub(super) fn ready_for_us(
    chancery: &Chancery,
    caller: &Caller<'_>,
    kid: &Kid,
) -> Result<Arc<KeyEntry>, Problem> {
    let key = chancery.key(kid).ok_or_else(|| Refusal::UnknownKid { kid: kid.clone() })?;
    check_dialect(&caller.grants, caller.dialect, Some(&key))?;
    let by_grant = !chancery.authority.has_folder();
    if by_grant {
        check_key(&caller.grants, kid, Some(Arc::clone(&key)))?;
    }
    not_halted(chancery, caller, &key)?;
    // The first key of a batch stands for it.
    let _ = caller.kid.set(kid.clone());
    let principal = caller.grants.principal();
    chancery.keyring.available_to(principal, kid)?;
    if let Some(second) = &key.co_signer {
        chancery.keyring.available_to(principal, &second.kid)?;
    }
    Ok(key)
}
