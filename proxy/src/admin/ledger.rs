//! The check of store and archive: begin one, see what it finds.

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::acts::would;
use super::{Admin, Caller, body};
use crate::checking::Asked;
use crate::problem::{Code, Problem};
use crate::response::Reply;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CheckBody {
    #[serde(default)]
    dry_run: bool,
}

pub(super) fn state(admin: &Admin) -> Reply {
    Reply::json(admin.checking.state().to_string())
}

/// Begins a check, with or without repair; what repairs has a route, and an act, of its own.
pub(super) fn begin(admin: &Admin, caller: &Caller, bytes: &Bytes, repair: bool) -> Result<Reply, Problem> {
    let asked: CheckBody = body::read(bytes)?;
    if asked.dry_run {
        return Ok(would(&json!({ "check": "ledger", "repair": repair })));
    }
    let asked =
        Asked { by: caller.name(), repair, request_id: caller.request_id.clone(), ts: admin.chancery.now() };
    match Arc::clone(&admin.checking).begin(asked) {
        true => Ok(state(admin)),
        false => Err(Problem::new(Code::WrongState, "a check of the ledger is under way")),
    }
}
