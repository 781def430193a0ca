//! What is sent: the bodies of the admin listener's calls. What is left out is the service's to choose.

use std::net::IpAddr;

use chancery_format::Timestamp;
use chancery_format::names::{Kid, PrincipalName, StreamName};
use serde::Serialize;

/// A key replaced by another.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rotate {
    /// The key pair to come.
    pub to: Kid,
    /// The backend that holds it; left out, that of the old one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// What its backend calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// How long the old key stays valid after the switch, in hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlap_hours: Option<u32>,
    /// Why.
    pub reason: String,
    /// Whether the request expires sooner.
    pub emergency: bool,
    /// Whether only to say what would be done.
    pub dry_run: bool,
}

/// A key given up for lost. Without a moment nothing it ever signed is believed; at most one moment is given.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Compromise {
    /// Which key pair; left out, the one in use.
    #[serde(rename = "signer_kid", skip_serializing_if = "Option::is_none")]
    pub signer_kid: Option<Kid>,
    /// Signatures at or after this index are suspect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_index: Option<u64>,
    /// Signatures at or after this time are suspect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Why.
    pub reason: String,
    /// The key that takes over, if approvers agree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emergency: Option<Emergency>,
    /// Whether only to say what would be done.
    pub dry_run: bool,
}

/// The key that takes over from one that is lost.
#[derive(Debug, Clone, Serialize)]
pub struct Emergency {
    /// The key pair to come.
    pub to: Kid,
    /// The backend that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// What its backend calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// A question to the policies in force: of a service or of a person, one of them.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Explain {
    /// The service that asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<PrincipalName>,
    /// The person who asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub person: Option<PrincipalName>,
    /// Groups of the service.
    pub groups: Vec<String>,
    /// Roles of the person.
    pub roles: Vec<String>,
    /// To do what: a word of the policies.
    pub act: String,
    /// To which key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kid: Option<Kid>,
    /// To which stream, or into which the outcome goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamName>,
    /// What the caller says it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// Through which surface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dialect: Option<String>,
    /// From where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// Hour of the day in UTC; left out, now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hour: Option<u8>,
    /// Day of the week, 1 is Monday; left out, today.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weekday: Option<u8>,
}

/// An approver's word.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Word<'a> {
    pub(super) act_sha256: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) signature: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) note: Option<&'a str>,
}
