//! Requests for approval: asked for, spoken about, carried out.

use bytes::Bytes;
use chancery_format::Timestamp;
use chancery_format::governance::{Act, Event, Fault, Given, Proposal, Requested, Verdict, statement};
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Admin, Caller, acts, body};
use crate::governance::GovernanceError;
use crate::problem::{Code, Problem};
use crate::response::Reply;

const HOUR_MS: i64 = 3_600_000;

/// What somebody asks for.
pub(super) struct Proposed {
    pub(super) act: Act,
    pub(super) by: String,
    pub(super) reason: String,
    pub(super) emergency: bool,
    /// Approvals that policies ask for; the roster may ask for more.
    pub(super) approvals: u32,
}

/// Asks for an act. Where nobody approves anything, it is done at once; otherwise 202 and a URL.
pub(super) async fn propose(admin: &Admin, asked: Proposed) -> Result<Reply, Problem> {
    let governance = &admin.chancery.governance;
    let id = admin.chancery.new_request_id().as_str().to_owned();
    if !governance.has_roster() {
        if asked.approvals > 0 {
            let words = "a policy asks for approvals and no approvers are configured: [governance]";
            return Err(Problem::new(Code::WrongState, words));
        }
        return at_once(admin, asked, id).await;
    }
    let request_id = id.clone();
    let recorded = governance.act(move |state, now| {
        let roster = state.roster.as_ref().ok_or(Fault::NoRoster)?;
        let hours = if asked.emergency { roster.emergency_hours } else { roster.approval_hours };
        let expires = Timestamp::from_unix_ms(now.unix_ms() + i64::from(hours) * HOUR_MS);
        let act_sha256 = asked.act.sha256().to_hex();
        Ok(Event::Requested(Requested {
            id: request_id,
            act: asked.act,
            act_sha256,
            by: asked.by,
            reason: asked.reason,
            required: roster.approvals_required.max(asked.approvals),
            // The ledger's clock may be a little behind ours; never later than allowed.
            expires_ts: expires.unwrap_or(now),
            emergency: asked.emergency,
        }))
    });
    recorded.await?;
    tracing::warn!(id, "an act waits for approval");
    let mut reply = one(admin, &id)?;
    reply.status = StatusCode::ACCEPTED;
    Ok(reply)
}

/// Nobody has to agree.
async fn at_once(admin: &Admin, asked: Proposed, id: String) -> Result<Reply, Problem> {
    let governance = &admin.chancery.governance;
    match &asked.act {
        Act::Resume { scope } => {
            governance.resume(scope.clone(), "admin", Some(asked.by), None).await?;
            admin.chancery.metrics.halted(admin.chancery.halts.is_global());
        }
        act @ Act::Rotate { .. } => {
            let rotation = format!("rotation-{id}");
            admin.lifecycle.begin_rotation(rotation, act, asked.by, asked.reason, None).await?;
        }
        Act::Sign { .. } => return Err(Problem::internal("a signature was asked for here")),
    }
    Ok(Reply::json(json!({ "status": "executed", "act": asked.act }).to_string()))
}

pub(super) fn list(admin: &Admin, query: Option<&str>) -> Result<Reply, Problem> {
    let wanted = body::parameter(query, "status");
    let state = admin.chancery.governance.state();
    let fits = |it: &&Proposal| wanted.is_none_or(|wanted| it.status.as_str() == wanted);
    let found: Vec<_> = state.proposals.values().filter(fits).map(|it| describe(admin, it)).collect();
    Ok(Reply::json(json!({ "approvals": found }).to_string()))
}

pub(super) fn one(admin: &Admin, id: &str) -> Result<Reply, Problem> {
    let state = admin.chancery.governance.state();
    let proposal = state.proposals.get(id).ok_or_else(|| Problem::plain(Code::NotFound))?;
    Ok(Reply::json(describe(admin, proposal).to_string()))
}

fn describe(admin: &Admin, proposal: &Proposal) -> Value {
    let Requested { id, act, act_sha256, by, reason, required, expires_ts, emergency } = &proposal.requested;
    let text = |verdict| statement(admin.chancery.roll.origin(), id, act_sha256, verdict);
    json!({
        "id": id, "act": act, "actSha256": act_sha256, "by": by, "reason": reason, "required": required,
        "expiresAt": expires_ts.to_string(), "emergency": emergency, "status": proposal.status.as_str(),
        "index": proposal.index, "requestedAt": proposal.ts.to_string(),
        "approvedBy": proposal.approvals, "refusedBy": proposal.refusals,
        "executedIndex": proposal.executed_index,
        "url": format!("/admin/v1/approvals/{id}"),
        "statement": { "approve": text(Verdict::Approve), "refuse": text(Verdict::Refuse) },
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WordBody {
    /// What the approver saw; another act is another request.
    act_sha256: String,
    /// Base64, for approvers with a registered key.
    signature: Option<String>,
    note: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

impl WordBody {
    fn given(self, id: &str, caller: &Caller) -> Result<Given, Problem> {
        let note = self.note.as_deref().map(body::reason).transpose()?;
        let (id, by) = (id.to_owned(), caller.name());
        Ok(Given { id, act_sha256: self.act_sha256, by, signature: self.signature, note })
    }
}

/// An approver's word, for it or against it.
pub(super) async fn speak(
    admin: &Admin,
    caller: &Caller,
    id: &str,
    bytes: &Bytes,
    verdict: Verdict,
) -> Result<Reply, Problem> {
    let word: WordBody = body::read(bytes)?;
    exists(admin, id)?;
    let dry_run = word.dry_run;
    let given = word.given(id, caller)?;
    let (event, name) = match verdict {
        Verdict::Approve => (Event::Given(given), "approve"),
        Verdict::Refuse => (Event::Refused(given), "reject"),
    };
    let governance = &admin.chancery.governance;
    if dry_run {
        governance.check(&event).map_err(GovernanceError::from)?;
        return Ok(acts::would(&json!({ name: id })));
    }
    governance.record(event).await?;
    if verdict == Verdict::Approve {
        admin.lifecycle.complete(id).await?;
    }
    one(admin, id)
}

fn exists(admin: &Admin, id: &str) -> Result<(), Problem> {
    let known = admin.chancery.governance.state().proposals.contains_key(id);
    if known { Ok(()) } else { Err(Problem::plain(Code::NotFound)) }
}
