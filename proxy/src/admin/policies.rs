//! The policies in force, for those who look after them.

use std::sync::Arc;

use bytes::Bytes;
use chancery_format::entry::policy_loaded;
use chancery_format::{Kid, PrincipalName, StreamName};
use chancery_policy::{Act, Circumstances, Moment, Question, What, Who};
use serde::Deserialize;
use serde_json::json;

use super::{Admin, Caller, acts, body};
use crate::problem::{Code, Problem};
use crate::response::Reply;

pub(super) fn shown(admin: &Admin) -> Reply {
    let sha256 = admin.authority.sha256().to_hex();
    let grants = admin.chancery.admission.policy().sha256().to_hex();
    let shown = json!({ "sha256": sha256, "policies": admin.authority.ids(), "grantsSha256": grants });
    Reply::json(shown.to_string())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ReloadBody {
    #[serde(default)]
    dry_run: bool,
}

/// Reads the folder again. What is wrong with it is told, and the old policies stay.
pub(super) async fn reload(admin: &Admin, caller: &Caller, bytes: &Bytes) -> Result<Reply, Problem> {
    let asked: ReloadBody = body::read(bytes)?;
    if asked.dry_run {
        return Ok(acts::would(&json!({ "reload": admin.authority.has_folder() })));
    }
    let authority = Arc::clone(&admin.authority);
    let read = tokio::task::spawn_blocking(move || authority.reload()).await;
    let read = read.map_err(|_| Problem::internal("the task that read policies died"))?;
    match read {
        Err(problems) => {
            admin.chancery.metrics.reload("policy", false);
            let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
            Err(Problem::new(Code::WrongState, format!("the old policies stay: {}", told.join("; "))))
        }
        Ok(changed) => {
            admin.chancery.metrics.reload("policy", true);
            if let Some(sha256) = changed {
                admin.chancery.roll.enrol_event(policy_loaded(&sha256), None).await?;
                tracing::warn!(policy = %sha256, by = caller.name(), "policies reloaded by a person");
            }
            let sha256 = admin.authority.sha256().to_hex();
            Ok(Reply::json(json!({ "sha256": sha256, "changed": changed.is_some() }).to_string()))
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ExplainBody {
    /// A service, or a person.
    service: Option<PrincipalName>,
    person: Option<PrincipalName>,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    roles: Vec<String>,
    act: String,
    kid: Option<Kid>,
    stream: Option<StreamName>,
    purpose: Option<String>,
    dialect: Option<String>,
    source: Option<std::net::IpAddr>,
    hour: Option<u8>,
    weekday: Option<u8>,
}

pub(super) fn explain(admin: &Admin, bytes: &Bytes) -> Result<Reply, Problem> {
    let asked: ExplainBody = body::read(bytes)?;
    let invalid = |words: String| Problem::new(Code::InvalidField, words);
    let who = match (asked.service, asked.person) {
        (Some(name), None) => Who::Service { name, groups: asked.groups },
        (None, Some(name)) => Who::Person { name, roles: asked.roles },
        _ => return Err(invalid("give service or person, one of them".to_owned())),
    };
    let act: Act = asked.act.parse().map_err(|error| invalid(format!("act: {error}")))?;
    let what = match (asked.kid, asked.stream.clone()) {
        (Some(kid), _) => {
            let key = admin.authority.key(&kid).ok_or_else(|| Problem::plain(Code::UnknownKid))?;
            What::Key(key)
        }
        (None, Some(stream)) if matches!(who, Who::Service { .. }) => What::Stream(stream),
        _ => What::Appliance,
    };
    let seconds = u64::try_from(admin.chancery.now().unix_ms() / 1_000).unwrap_or_default();
    let now = Moment::from_unix_seconds(seconds);
    let moment = Moment::new(asked.hour.unwrap_or(now.hour()), asked.weekday.unwrap_or(now.weekday()))
        .ok_or_else(|| invalid("hour is 0 to 23, weekday 1 (Monday) to 7".to_owned()))?;
    let circumstances = Circumstances {
        moment,
        environment: admin.authority.environment().to_owned(),
        source: asked.source,
        purpose: asked.purpose,
        dialect: asked.dialect,
        algorithm: None,
        stream: asked.stream.map(|stream| stream.as_str().to_owned()),
    };
    let explained = admin.authority.explain(&Question { who, act, what, circumstances });
    let json = serde_json::to_string(&explained).map_err(Problem::internal)?;
    Ok(Reply::json(json))
}
