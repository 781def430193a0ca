//! Keys in the hands of people: replaced, ended, given up for lost.

use bytes::Bytes;
use chancery_format::{Kid, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::approvals::{self, Proposed};
use super::{Admin, Caller, acts, body};
use crate::governance::lifecycle::{CompromiseAsk, RotateAsk, Since};
use crate::problem::{Code, Problem};
use crate::response::Reply;

/// Longest overlap that can be asked for, in hours: ten years.
const OVERLAP_HOURS_MAX: u32 = 87_600;

pub(super) fn list(admin: &Admin) -> Result<Reply, Problem> {
    let published = admin.chancery.registry.load();
    let signers = serde_json::to_value(&published.registry.signers).map_err(Problem::internal)?;
    Ok(Reply::json(json!({ "version": published.version, "signers": signers }).to_string()))
}

fn kid(text: &str) -> Result<Kid, Problem> {
    text.parse().map_err(|_| Problem::plain(Code::UnknownKid))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RotateBody {
    to: Kid,
    backend: Option<String>,
    label: Option<String>,
    overlap_hours: Option<u32>,
    reason: String,
    #[serde(default)]
    emergency: bool,
    #[serde(default)]
    dry_run: bool,
}

pub(super) async fn rotate(
    admin: &Admin,
    caller: &Caller,
    parameter: &str,
    bytes: &Bytes,
) -> Result<Reply, Problem> {
    let asked: RotateBody = body::read(bytes)?;
    let reason = body::reason(&asked.reason)?;
    let overlap_hours = asked.overlap_hours.unwrap_or(admin.overlap_hours);
    if overlap_hours > OVERLAP_HOURS_MAX {
        return Err(Problem::new(
            Code::InvalidField,
            format!("overlapHours must be at most {OVERLAP_HOURS_MAX}"),
        ));
    }
    let ask = RotateAsk {
        kid: kid(parameter)?,
        to: asked.to,
        backend: asked.backend,
        label: asked.label,
        overlap_hours,
    };
    let act = admin.lifecycle.rotation_asked(&ask).await?;
    if asked.dry_run {
        return Ok(acts::would(&json!(act)));
    }
    let (by, emergency, approvals) = (caller.name(), asked.emergency, caller.approvals);
    approvals::propose(admin, Proposed { act, by, reason, emergency, approvals }).await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RetireBody {
    #[serde(rename = "signer_kid")]
    signer_kid: Kid,
    reason: String,
    #[serde(default)]
    dry_run: bool,
}

pub(super) async fn retire(
    admin: &Admin,
    caller: &Caller,
    parameter: &str,
    bytes: &Bytes,
) -> Result<Reply, Problem> {
    let asked: RetireBody = body::read(bytes)?;
    let reason = body::reason(&asked.reason)?;
    let (name, signer_kid) = (kid(parameter)?, asked.signer_kid);
    let of_name = {
        let published = admin.chancery.registry.load();
        let record = published.registry.signer(signer_kid.as_str());
        record.is_some_and(|record| record.kid.as_ref() == Some(&name))
    };
    if !of_name {
        return Err(Problem::new(Code::UnknownKid, format!("{signer_kid} is no key of {name}")));
    }
    if asked.dry_run {
        return Ok(acts::would(&json!({ "retire": signer_kid })));
    }
    tracing::warn!(%signer_kid, by = caller.name(), reason, "a person retires a key");
    admin.lifecycle.retire(&signer_kid).await?;
    Ok(Reply::json(json!({ "retired": signer_kid }).to_string()))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CompromiseBody {
    #[serde(rename = "signer_kid")]
    signer_kid: Option<Kid>,
    since_index: Option<u64>,
    since: Option<Timestamp>,
    reason: String,
    /// The key that takes over, if approvers agree.
    emergency: Option<Emergency>,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Emergency {
    to: Kid,
    backend: Option<String>,
    label: Option<String>,
}

pub(super) async fn compromise(
    admin: &Admin,
    caller: &Caller,
    parameter: &str,
    bytes: &Bytes,
) -> Result<Reply, Problem> {
    let asked: CompromiseBody = body::read(bytes)?;
    let reason = body::reason(&asked.reason)?;
    let since = match (asked.since_index, asked.since) {
        (Some(index), None) => Since::Index(index),
        (None, Some(ts)) => Since::Time(ts),
        // Nobody knows: nothing of this key can be believed.
        (None, None) => Since::Index(0),
        (Some(_), Some(_)) => {
            return Err(Problem::new(Code::InvalidField, "give since or sinceIndex, not both"));
        }
    };
    let ask = CompromiseAsk { kid: kid(parameter)?, signer_kid: asked.signer_kid, since, reason };
    if asked.dry_run {
        return Ok(acts::would(&json!({ "compromise": ask.kid, "signer_kid": ask.signer_kid })));
    }
    let (signer_kid, suspects) = admin.lifecycle.compromise(&ask, &caller.name()).await?;
    let reverify = std::sync::Arc::clone(&admin.lifecycle);
    let cause = format!("compromise of {signer_kid}");
    tokio::spawn(async move {
        if let Err(error) = reverify.reverify(cause).await {
            tracing::error!(%error, "the ledger could not be verified again");
        }
    });
    let emergency = match asked.emergency {
        None => Value::Null,
        Some(next) => emergency_key(admin, caller, &ask, next).await,
    };
    Ok(Reply::json(
        json!({
            "signer_kid": signer_kid, "state": "compromised", "compromisedSince": suspects.since_index,
            "suspectSignatures": suspects.count, "signatures": suspects.listed, "emergency": emergency,
        })
        .to_string(),
    ))
}

/// Asks for the key that takes over. The compromise stands whatever becomes of this.
async fn emergency_key(admin: &Admin, caller: &Caller, ask: &CompromiseAsk, next: Emergency) -> Value {
    let rotate = RotateAsk {
        kid: ask.kid.clone(),
        to: next.to,
        backend: next.backend,
        label: next.label,
        overlap_hours: 0,
    };
    let proposed = async {
        let act = admin.lifecycle.rotation_asked(&rotate).await?;
        let (by, reason) = (caller.name(), ask.reason.clone());
        let approvals = caller.approvals;
        approvals::propose(admin, Proposed { act, by, reason, emergency: true, approvals }).await
    };
    match proposed.await {
        Ok(reply) => serde_json::from_slice(&reply.body).unwrap_or(Value::Null),
        Err(problem) => json!({ "error": problem.detail(), "code": problem.code().as_str() }),
    }
}

pub(super) async fn signatures(
    admin: &Admin,
    parameter: &str,
    query: Option<&str>,
) -> Result<Reply, Problem> {
    let name = kid(parameter)?;
    let from = body::parameter(query, "from").map_or(Ok(0), str::parse::<u64>);
    let from = from.map_err(|_| Problem::new(Code::InvalidField, "from must be an index"))?;
    let signer_kid = match body::parameter(query, "signer_kid") {
        Some(text) => kid(text)?,
        None => {
            let current = admin.chancery.key(&name).ok_or_else(|| Problem::plain(Code::UnknownKid))?;
            current.signer_kid.clone()
        }
    };
    let found = admin.lifecycle.signatures(&signer_kid, from).await?;
    Ok(Reply::json(
        json!({ "signer_kid": signer_kid, "from": from, "count": found.count, "signatures": found.listed })
            .to_string(),
    ))
}
