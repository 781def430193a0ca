//! The shape of one case in JSON, parsed into a question.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use chancery_format::{Kid, PrincipalName, SignatureAlgorithm, StreamName};
use serde::Deserialize;

use crate::question::{Act, Circumstances, Key, KeyFacts, Moment, Question, What, Who};

/// What a case expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Expected {
    Allow,
    Deny,
    Quorum,
    Hook,
    QuorumAndHook,
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Quorum => "quorum",
            Self::Hook => "hook",
            Self::QuorumAndHook => "quorum-and-hook",
        })
    }
}

/// One case, parsed.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Written")]
pub(crate) struct CaseText {
    pub(crate) name: String,
    pub(crate) question: Question,
    pub(crate) expect: Expected,
    pub(crate) by: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    who: WhoWritten,
    act: String,
    key: Option<KeyWritten>,
    stream: Option<StreamName>,
    #[serde(default)]
    context: ContextWritten,
    expect: Expected,
    by: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WhoWritten {
    service: Option<PrincipalName>,
    groups: Option<Vec<String>>,
    person: Option<PrincipalName>,
    roles: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct KeyWritten {
    name: Kid,
    algorithm: SignatureAlgorithm,
    purpose: String,
    backend: String,
    #[serde(default)]
    is_ledger_key: bool,
}

/// A case that says nothing of the time is asked at noon on a Wednesday.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ContextWritten {
    hour: u8,
    weekday: u8,
    environment: String,
    source: Option<IpAddr>,
    purpose: Option<String>,
    dialect: Option<String>,
    algorithm: Option<String>,
    stream: Option<String>,
}

impl Default for ContextWritten {
    fn default() -> Self {
        Self {
            hour: 12,
            weekday: 3,
            environment: "test".to_owned(),
            source: None,
            purpose: None,
            dialect: None,
            algorithm: None,
            stream: None,
        }
    }
}

impl TryFrom<Written> for CaseText {
    type Error = String;
    fn try_from(written: Written) -> Result<Self, String> {
        let Written { name, who, act, key, stream, context, expect, by } = written;
        let question =
            question(who, &act, key, stream, context).map_err(|cause| format!("case {name:?}: {cause}"))?;
        Ok(Self { name, question, expect, by })
    }
}

fn question(
    who: WhoWritten,
    act: &str,
    key: Option<KeyWritten>,
    stream: Option<StreamName>,
    context: ContextWritten,
) -> Result<Question, String> {
    let who = match who {
        WhoWritten { service: Some(name), groups, person: None, roles: None } => {
            Who::Service { name, groups: groups.unwrap_or_default() }
        }
        WhoWritten { service: None, groups: None, person: Some(name), roles } => {
            Who::Person { name, roles: roles.unwrap_or_default() }
        }
        _ => return Err("who is a service with groups or a person with roles".to_owned()),
    };
    let what = match (key, stream) {
        (Some(key), None) => What::Key(Arc::new(key.ready())),
        (None, Some(stream)) => What::Stream(stream),
        (None, None) => What::Appliance,
        (Some(_), Some(_)) => return Err("an act is on a key or on a stream, not on both".to_owned()),
    };
    let question = Question {
        who,
        act: act.parse::<Act>().map_err(|error| error.to_string())?,
        what,
        circumstances: context.ready()?,
    };
    if question.fits() { Ok(question) } else { Err(format!("there is no such act: {question}")) }
}

impl KeyWritten {
    fn ready(self) -> Key {
        let facts = KeyFacts {
            algorithm: self.algorithm,
            purpose: self.purpose,
            backend: self.backend,
            is_ledger_key: self.is_ledger_key,
        };
        Key::new(self.name, facts)
    }
}

impl ContextWritten {
    fn ready(self) -> Result<Circumstances, String> {
        let moment = Moment::new(self.hour, self.weekday)
            .ok_or("hour is 0 to 23, and weekday 1 (Monday) to 7 (Sunday)")?;
        Ok(Circumstances {
            moment,
            environment: self.environment,
            source: self.source,
            purpose: self.purpose,
            dialect: self.dialect,
            algorithm: self.algorithm,
            stream: self.stream,
        })
    }
}
