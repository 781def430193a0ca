//! `mode: "anchored"`: no key is used for the digest; its receipt is its signature.
//!
//! The digest joins the ledger as an event. The next checkpoint, signed by the ledger key, covers it and
//! every other digest that came in meanwhile, so that one operation of a slow device signs thousands. The
//! reply waits for that checkpoint and carries the whole receipt; whoever keeps it can show, with the
//! registry alone, that the digest was admitted in the name of its key and stands under the ledger key.

use std::sync::Arc;

use chancery_format::committed::{AnchoredPayload, Committed, EventKind};
use chancery_format::entry::{Operation, ReplayKey};
use chancery_format::{EventDraft, PrincipalName, Rung, StreamName};
use chancery_policy::Act;

use super::policy::{self, Looked};
use crate::admission::allowance::Taken;
use crate::admission::{KeyUseRequest, Refusal, check_dialect};
use crate::chancery::{Chancery, KeyEntry};
use crate::halts::Use;
use crate::problem::Problem;
use crate::reading;
use crate::request::SignRequest;
use crate::response;
use crate::routes::Caller;

/// One admitted digest.
#[derive(Debug)]
pub(super) struct Anchoring {
    pub(super) draft: EventDraft,
    pub(super) replay: Option<(PrincipalName, ReplayKey)>,
    /// What must hold before the reply: under a checkpoint, or more if the key asks for it.
    pub(super) rung: Rung,
    /// In whose name, for the kill switch.
    pub(super) one: InTheNameOf,
    /// What it took of the quotas. A retry takes it again.
    pub(super) taken: Taken,
}

/// What the kill switch looks at.
#[derive(Debug)]
pub(super) struct InTheNameOf {
    key: Arc<KeyEntry>,
    principal: PrincipalName,
    stream: StreamName,
}

impl InTheNameOf {
    /// Calls `submit` unless it is halted, so that nothing is anchored behind the entry that says so.
    pub(super) fn submit<T>(&self, chancery: &Chancery, submit: impl FnOnce() -> T) -> Result<T, Problem> {
        let Self { key, principal, stream } = self;
        let one = Use { kid: &key.kid, signer_kid: &key.signer_kid, principal, stream };
        Ok(chancery.halts.unless_halted(&one, submit).map_err(Refusal::Halted)?)
    }
}

/// Admits one digest: the permit is used up here. A dead device is no obstacle.
pub(super) fn admit(
    chancery: &Chancery,
    caller: &Caller<'_>,
    request: SignRequest,
    replay: Option<ReplayKey>,
) -> Result<Anchoring, Problem> {
    let key = chancery.key(&request.kid);
    let rung = key.as_ref().map_or(Rung::Checkpointed, |key| key.release.max(Rung::Checkpointed));
    let key = key.ok_or_else(|| Refusal::UnknownKid { kid: request.kid.clone() })?;
    check_dialect(&caller.grants, caller.dialect, Some(&key))?;
    let one = InTheNameOf {
        key: Arc::clone(&key),
        principal: caller.grants.principal().clone(),
        stream: caller.grants.own_stream().clone(),
    };
    let looked = Looked { act: Act::Anchor, purpose: request.purpose.as_ref(), dry_run: request.dry_run };
    let permit = policy::clear_at_once(chancery, caller, key, Operation::Sign, looked)?;
    permit.anchors()?;
    let taken = chancery.allowances.take_anchored(&permit, chancery.monotonic_ns(), chancery.now())?;
    // The first key of a batch stands for it.
    let _ = caller.kid.set(request.kid.clone());
    let (draft, replay) = permit.into_anchored(KeyUseRequest {
        digest: request.digest,
        purpose: request.purpose,
        metadata: request.metadata,
        request_id: caller.request_id.clone(),
        replay,
        asked: None,
    });
    Ok(Anchoring { draft, replay, rung, one, taken })
}

/// Waits until the digest is under a checkpoint, then writes the reply.
pub(super) async fn release(
    chancery: &Chancery,
    anchored: &Committed<EventKind>,
    rung: Rung,
) -> Result<String, Problem> {
    let receipt = reading::full_receipt(chancery, anchored.index(), anchored.leaf(), rung).await?;
    let event = anchored.event().map_err(Problem::internal)?;
    let payload = AnchoredPayload::parse(event.payload);
    let payload = payload.ok_or_else(|| Problem::internal("an anchored digest cannot be read"))?;
    Ok(response::anchored(&event, &payload, rung, &receipt))
}
