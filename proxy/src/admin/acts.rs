//! Who you are, what is going on, stop, go on.

use bytes::Bytes;
use chancery_format::governance::{Act, ProposalStatus, RotationStep, Scope, State};
use chancery_format::{AuditEvent, StreamName};
use serde::Deserialize;
use serde_json::{Value, json};

use super::approvals::{self, Proposed};
use super::{Admin, Caller, body};
use crate::problem::{Code, Problem};
use crate::response::Reply;

/// Events of one page of the audit trail.
const PAGE: usize = 200;

pub(super) fn who_am_i(caller: &Caller) -> Reply {
    let person = &caller.person;
    let roles: Vec<_> = person.roles().iter().map(|role| role.as_str()).collect();
    Reply::json(
        json!({
            "name": person.name().as_str(), "issuer": person.issuer(), "subject": person.subject(),
            "roles": roles, "expires": person.expires(),
        })
        .to_string(),
    )
}

pub(super) fn status(admin: &Admin) -> Reply {
    let state = admin.chancery.governance.state();
    let mut status = describe(&state);
    if let Value::Object(members) = &mut status {
        members.insert("policy".into(), json!({ "sha256": admin.authority.sha256().to_hex() }));
        members.insert("entries".into(), json!(admin.chancery.roll.head().head().size.0));
    }
    Reply::json(status.to_string())
}

fn describe(state: &State) -> Value {
    let halted = state.halts.iter().map(|(scope, halt)| {
        json!({
            "scope": scope.to_string(), "since": halt.ts.to_string(), "index": halt.index,
            "source": halt.source, "by": halt.by, "reason": halt.reason,
        })
    });
    let rotations = state.rotations.values().map(|it| {
        let step = match it.step {
            RotationStep::Requested => "requested",
            RotationStep::Tested => "tested",
            RotationStep::Applied => "applied",
        };
        json!({
            "id": it.requested.id, "kid": it.requested.kid, "from": it.requested.from, "to": it.requested.to,
            "step": step, "indices": it.indices, "retireAt": it.retire_ts.map(|ts| ts.to_string()),
        })
    });
    let pending = state.proposals.values().filter(|it| it.status == ProposalStatus::Open).count();
    let roster = state.roster.as_ref().map(|roster| {
        let names: Vec<_> = roster.approvers.iter().map(|approver| approver.name.as_str()).collect();
        json!({ "approvalsRequired": roster.approvals_required, "approvers": names })
    });
    json!({
        "halted": halted.collect::<Vec<_>>(),
        "rotations": rotations.collect::<Vec<_>>(),
        "pendingApprovals": pending,
        "roster": roster,
        "compromised": state.compromised,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HaltBody {
    #[serde(default = "global")]
    scope: Scope,
    reason: String,
    #[serde(default)]
    dry_run: bool,
}

const fn global() -> Scope {
    Scope::Global
}

pub(super) async fn halt(admin: &Admin, caller: &Caller, bytes: &Bytes) -> Result<Reply, Problem> {
    let asked: HaltBody = body::read(bytes)?;
    let reason = body::reason(&asked.reason)?;
    if asked.dry_run {
        return Ok(would(&json!({ "halt": asked.scope.to_string() })));
    }
    let governance = &admin.chancery.governance;
    let recorded = governance.halt(asked.scope.clone(), "admin", Some(caller.name()), Some(reason)).await;
    // Halted it is, whatever became of the entry.
    admin.chancery.metrics.halted(admin.chancery.halts.is_global());
    let index = recorded?.index().0;
    tracing::error!(scope = %asked.scope, by = caller.name(), "kill switch pulled by a person");
    Ok(Reply::json(
        json!({ "state": "halted", "scope": asked.scope.to_string(), "index": index }).to_string(),
    ))
}

/// What a call would have done.
pub(super) fn would(what: &Value) -> Reply {
    Reply::json(json!({ "dryRun": true, "allowed": true, "would": what }).to_string())
}

pub(super) async fn resume(admin: &Admin, caller: &Caller, bytes: &Bytes) -> Result<Reply, Problem> {
    let asked: HaltBody = body::read(bytes)?;
    let reason = body::reason(&asked.reason)?;
    if !admin.chancery.governance.state().halts.contains_key(&asked.scope) {
        return Err(Problem::new(Code::WrongState, format!("{} is not halted", asked.scope)));
    }
    let act = Act::Resume { scope: asked.scope };
    if asked.dry_run {
        return Ok(would(&json!(act)));
    }
    approvals::propose(
        admin,
        Proposed { act, by: caller.name(), reason, emergency: false, approvals: caller.approvals },
    )
    .await
}

/// Acts of people as they stand on the ledger, a page from a position on.
pub(super) async fn audit(admin: &Admin, query: Option<&str>) -> Result<Reply, Problem> {
    let from = match body::parameter(query, "from") {
        None => 0,
        Some(text) => text
            .parse::<u64>()
            .map_err(|_| Problem::new(Code::InvalidField, "from must be a position, a decimal number"))?,
    };
    let page = admin.chancery.roll.stream_page(StreamName::governance(), from, PAGE).await?;
    let mut events = Vec::with_capacity(page.len());
    for stored in &page {
        let event = AuditEvent::parse(&stored.bytes).map_err(Problem::internal)?;
        let payload: Value = serde_json::from_str(event.payload).map_err(Problem::internal)?;
        events.push(json!({
            "index": stored.index.0, "seq": event.seq, "ts": event.ts.to_string(),
            "eventType": event.event_type, "payload": payload,
        }));
    }
    let next = events.last().and_then(|event| event["seq"].as_u64()).map(|seq| seq + 1);
    Ok(Reply::json(json!({ "events": events, "next": next }).to_string()))
}
