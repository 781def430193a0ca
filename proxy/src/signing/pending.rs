//! One signature that people must agree to: asked for, waited for, made once.

use std::sync::Arc;

use chancery_format::canonical::CanonicalJson;
use chancery_format::committed::{Committed, OutcomeKind};
use chancery_format::entry::{Operation, PolicyRef, ReplayKey};
use chancery_format::governance::{Act, Done, Event, Fault, Proposal, ProposalStatus, Requested, rule_of};
use chancery_format::{Digest, Hash, Timestamp};
use hyper::StatusCode;
use serde_json::{Value, json};

use super::{once, release};
use crate::admission::{KeyUseRequest, Permit};
use crate::chancery::Chancery;
use crate::problem::{Code, Problem};
use crate::request::SignRequest;
use crate::response::{self, Reply};
use crate::routes::Caller;

const HOUR_MS: i64 = 3_600_000;

/// Asks approvers for one signature: 202 and where to look. The same request again, under its idempotency key or
/// without, asks again only if none is open.
pub(super) async fn ask(
    chancery: &Arc<Chancery>,
    caller: &Caller<'_>,
    request: SignRequest,
    approvals: u32,
    policy: String,
) -> Result<Reply, Problem> {
    let principal = caller.grants.principal();
    let request_sha256 = request.hash.to_hex();
    let state = chancery.governance.state();
    let same = |it: &&Proposal| {
        it.status == ProposalStatus::Open
            && matches!(&it.requested.act, Act::Sign { principal: who, request_sha256: what, .. }
                if who == principal && *what == request_sha256)
    };
    if let Some(open) = state.proposals.values().find(same) {
        return Ok(accepted(open));
    }
    let metadata = request.metadata.as_ref().map(|text| serde_json::from_str(text.as_str()));
    let act = Act::Sign {
        kid: request.kid,
        principal: principal.clone(),
        digest_algorithm: request.digest.algorithm().to_owned(),
        digest: request.digest.to_hex(),
        request_sha256,
        purpose: request.purpose,
        metadata: metadata.transpose().map_err(Problem::internal)?,
        policy: policy.clone(),
    };
    let id = chancery.new_request_id().as_str().to_owned();
    let (named, by) = (id.clone(), principal.as_str().to_owned());
    let recorded = chancery.governance.act(move |state, now| {
        let roster = state.roster.as_ref().ok_or(Fault::NoRoster)?;
        let expires = now.unix_ms() + i64::from(roster.approval_hours) * HOUR_MS;
        Ok(Event::Requested(Requested {
            id: named,
            act_sha256: act.sha256().to_hex(),
            act,
            by,
            reason: format!("asked by policy {policy}"),
            required: roster.approvals_required.max(approvals),
            expires_ts: Timestamp::from_unix_ms(expires).unwrap_or(now),
            emergency: false,
        }))
    });
    recorded.await?;
    let state = chancery.governance.state();
    let proposal =
        state.proposals.get(&id).ok_or_else(|| Problem::internal("a request just made is gone"))?;
    Ok(accepted(proposal))
}

fn accepted(proposal: &Proposal) -> Reply {
    Reply { status: StatusCode::ACCEPTED, ..Reply::json(describe(proposal).to_string()) }
}

fn describe(proposal: &Proposal) -> Value {
    let requested = &proposal.requested;
    let status = match proposal.status {
        ProposalStatus::Open => "pending_multisig",
        other => other.as_str(),
    };
    json!({
        "id": requested.id, "status": status, "url": format!("/v1/pending/{}", requested.id),
        "approvals": proposal.approvals.len(), "required": requested.required,
        "expiresAt": requested.expires_ts.to_string(),
    })
}

/// `GET /v1/pending/{id}`: for the service that asked.
pub async fn look(chancery: &Arc<Chancery>, caller: &Caller<'_>, id: &str) -> Result<Reply, Problem> {
    let state = chancery.governance.state();
    let own = |it: &&Proposal| it.requested.by == caller.grants.principal().as_str();
    let proposal = state.proposals.get(id).filter(own).ok_or_else(|| Problem::plain(Code::NotFound))?;
    match (proposal.status, proposal.outcome) {
        (ProposalStatus::Open, _) | (ProposalStatus::Executed, None) => Ok(accepted(proposal)),
        (ProposalStatus::Executed, Some(_)) => {
            let outcome = signature(chancery, proposal).await?;
            let result = release(chancery, &outcome, response::signed).await?;
            let mut reply = describe(proposal);
            if let Value::Object(members) = &mut reply {
                let result = serde_json::from_str(&result).map_err(Problem::internal)?;
                members.insert("result".to_owned(), result);
            }
            Ok(Reply::json(reply.to_string()))
        }
        (ProposalStatus::Refused | ProposalStatus::Expired, _) => {
            let words = format!("the request is {}", proposal.status.as_str());
            Err(Problem::new(Code::ApprovalRefused, words))
        }
    }
}

/// Makes the signature that an executed request allows, and says on the ledger where it stands.
pub async fn carry_out(chancery: &Chancery, proposal: &Proposal) -> Result<(), Problem> {
    let index = signature(chancery, proposal).await?.index().0;
    chancery.governance.record(Event::Done(Done { id: proposal.requested.id.clone(), index })).await?;
    Ok(())
}

/// The signature that an executed request allows: made now, or found if it was made before, by its own key.
async fn signature(chancery: &Chancery, proposal: &Proposal) -> Result<Committed<OutcomeKind>, Problem> {
    let requested = &proposal.requested;
    let Act::Sign { kid, principal, digest_algorithm, digest, purpose, metadata, .. } = &requested.act else {
        return Err(Problem::internal("the act is not a signature"));
    };
    let policy = chancery.admission.policy();
    let grants = policy.grants(principal).ok_or_else(|| Problem::plain(Code::UnknownPrincipal))?;
    let key = chancery.key(kid).ok_or_else(|| Problem::plain(Code::UnknownKid))?;
    let act_sha256 = Hash::from_hex(&requested.act_sha256).map_err(Problem::internal)?;
    let by = PolicyRef { rule: rule_of(&requested.id), sha256: act_sha256 };
    let permit = Permit::admit_by(grants, key, Operation::Sign, by)?;
    let metadata = metadata.as_ref().map(|value| CanonicalJson::parse(value.to_string().as_bytes()));
    let request = KeyUseRequest {
        digest: Digest::recorded(digest_algorithm, digest).ok_or_else(|| Problem::internal("no digest"))?,
        purpose: purpose.clone(),
        metadata: metadata.transpose().map_err(Problem::internal)?,
        request_id: requested.id.parse().map_err(Problem::internal)?,
        replay: Some(ReplayKey {
            key: rule_of(&requested.id).parse().map_err(Problem::internal)?,
            request_hash: act_sha256,
        }),
        asked: None,
    };
    once(chancery, permit, request).await
}
