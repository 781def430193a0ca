//! Which request is which call of which language.

use std::borrow::Cow;

use hyper::Method;
use hyper::header::HeaderMap;

use super::aws_kms::Target;
use super::platform::Call as PlatformCall;
use super::vault::Call as VaultCall;
use crate::admission::Needs;
use crate::admission::policy::Operation;

/// One call of a language that is not our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Foreign {
    /// The platform's own routes.
    Platform(PlatformCall),
    /// AWS KMS; `None`: the request names no operation, or one there is not.
    Kms(Option<Target>),
    /// Vault.
    Vault(VaultCall),
}

/// A call, and what the path says beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found<'p> {
    /// What is called.
    pub(crate) call: Foreign,
    /// The rest of the path, percent-decoded.
    pub(crate) parameter: Cow<'p, str>,
}

impl Foreign {
    /// Label of metrics and log lines.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Platform(call) => call.name(),
            Self::Kms(Some(target)) => target.name(),
            Self::Kms(None) => "kms",
            Self::Vault(call) => call.name(),
        }
    }

    /// What it takes to be heard; `None`: nothing, not even a certificate.
    pub(super) const fn needs(self) -> Option<Needs> {
        match self {
            Self::Platform(call) => call.needs(),
            Self::Kms(Some(target)) => Some(target.needs()),
            Self::Kms(None) => Some(Needs::read(Operation::Keys)),
            Self::Vault(call) => call.needs(),
        }
    }

    /// Whether it is called by this method.
    pub(super) fn answers(self, method: &Method) -> bool {
        let reads = method == Method::GET || method == Method::HEAD;
        match self {
            Self::Platform(call) if call.takes_body() => method == Method::POST,
            Self::Platform(_) => reads,
            Self::Kms(_) => method == Method::POST,
            Self::Vault(VaultCall::Keys) => reads || method.as_str() == "LIST",
            Self::Vault(call) if call.takes_body() => method == Method::POST || method == Method::PUT,
            Self::Vault(_) => reads,
        }
    }

    /// Value of `Allow`.
    pub(super) const fn allow(self) -> &'static str {
        match self {
            Self::Platform(call) if call.takes_body() => "POST",
            Self::Kms(_) => "POST",
            Self::Vault(VaultCall::Keys) => "GET, HEAD, LIST",
            Self::Vault(call) if call.takes_body() => "POST, PUT",
            Self::Platform(_) | Self::Vault(_) => "GET, HEAD",
        }
    }

    /// Whether it has a body.
    pub(super) const fn takes_body(self) -> bool {
        match self {
            Self::Platform(call) => call.takes_body(),
            Self::Kms(_) => true,
            Self::Vault(call) => call.takes_body(),
        }
    }
}

/// The call a request makes in another language; `None`: it is native, or nothing.
pub(crate) fn find<'p>(method: &Method, path: &'p str, headers: &HeaderMap) -> Option<Found<'p>> {
    if path == "/" {
        let posted = *method == Method::POST;
        return posted.then(|| found(Foreign::Kms(Target::of(headers)), Cow::Borrowed("")));
    }
    // Who reads there asks for the page that verifies receipts; signatures are posted.
    if path == "/verify" && [Method::GET, Method::HEAD].contains(method) {
        return None;
    }
    if let Some((call, parameter)) = PlatformCall::find(path) {
        return Some(found(Foreign::Platform(call), parameter));
    }
    let (call, parameter) = VaultCall::find(path)?;
    Some(found(Foreign::Vault(call), parameter))
}

const fn found(call: Foreign, parameter: Cow<'_, str>) -> Found<'_> {
    Found { call, parameter }
}
