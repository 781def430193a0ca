//! May this be done? Asked of the company's policy service before it is.
//!
//! Promises: an answer or a failure within [`HookConfig::timeout`], over connecting, head and body; asked once;
//! never more than [`HookConfig::max_in_flight`] questions at a time. [`HookVerdict::Allow`] means that the
//! service said so in as many words; whatever cannot be read is a failure, and what a failure means is the
//! caller's to decide, not ours.
//!
//! Whoever owns the policy service can allow and deny what he likes; he cannot make us wait, grow, or write
//! control characters into a record.

mod details;
mod opa;
mod sentinelnet;

use std::path::PathBuf;
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::limits;
use crate::outbound::{
    Outbound, OutboundConfig, OutboundConfigError, OutboundError, RemoteUrl, Reply, UrlError,
};

pub use details::PolicyDetails;

/// How the policy service wants to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookDialect {
    /// `POST /sentinelnet/check`: the question itself; answers `decision`.
    Sentinelnet,
    /// Open Policy Agent's data API: the question as `input`; answers `result`.
    Opa,
}

/// Where and how to ask.
#[derive(Debug, Clone)]
pub struct HookConfig {
    /// What logs and records call it.
    pub name: String,
    /// `https`, or `http` on this machine.
    pub url: String,
    /// How it wants to be asked.
    pub dialect: HookDialect,
    /// Time for a whole answer; 1 ms to 2 s, default 250 ms.
    pub timeout: Duration,
    /// Questions under way at once; 1 to 4,096, default 64. One more is [`HookFailure::Busy`].
    pub max_in_flight: usize,
    /// Value of `x-sentinel-roles`, sent in SentinelNet's dialect; default `kernel-service`.
    pub sentinel_roles: String,
    /// PEM file of the authorities that may vouch for the service; `None`: the machine's own.
    pub ca_file: Option<PathBuf>,
}

impl HookConfig {
    /// The defaults.
    pub fn new(name: impl Into<String>, url: impl Into<String>, dialect: HookDialect) -> Self {
        Self {
            name: name.into(),
            url: url.into(),
            dialect,
            timeout: limits::HOOK_TIMEOUT,
            max_in_flight: limits::HOOK_IN_FLIGHT,
            sentinel_roles: "kernel-service".to_owned(),
            ca_file: None,
        }
    }
}

/// Why a hook cannot be configured so. The operator is at fault; nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum HookConfigError {
    /// The URL may not be called.
    #[error("url: {0}")]
    Url(#[from] UrlError),
    /// A field is outside its limits.
    #[error("{0}")]
    OutOfRange(&'static str),
    /// The authorities cannot be read.
    #[error(transparent)]
    Outbound(#[from] OutboundConfigError),
}

/// What is to be done, by whom, to what. Sent as it is: put no secret in it.
#[derive(Debug, Clone, PartialEq)]
pub struct HookQuestion {
    /// The act, such as `signing.sign`.
    pub action: String,
    /// Who wants it.
    pub actor: Value,
    /// What it is done to.
    pub resource: Value,
    /// What else may matter.
    pub context: Value,
    /// Ties the question to our log, and the answer to theirs.
    pub request_id: String,
}

impl HookQuestion {
    fn to_json(&self) -> Value {
        serde_json::json!({
            "action": self.action,
            "actor": self.actor,
            "resource": self.resource,
            "context": self.context,
            "requestId": self.request_id,
        })
    }
}

/// The policy service's answer, with what it said for its reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookVerdict {
    /// Do it.
    Allow(PolicyDetails),
    /// Do not. SentinelNet's `quarantine` and `remediate` too: the policy service does those, not we.
    Deny(PolicyDetails),
    /// Only with several people's approval.
    RequiresMultisig(PolicyDetails),
}

/// Why there is no answer. Nothing was tried again; asking again later is safe, for a question changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HookFailure {
    /// No whole answer in time. The service or the network is at fault.
    #[error("the policy service gave no answer in time")]
    Timeout,
    /// No connection, or it was lost. The service or the network is at fault.
    #[error("the policy service cannot be reached")]
    Unreachable,
    /// Another status than 200. The service is at fault, or our configuration (401, 403, 404).
    #[error("the policy service answered with status {0}")]
    Status(u16),
    /// An answer that cannot be read, or is too large, or says a thing twice. The service is at fault.
    #[error("the policy service's answer cannot be read")]
    Garbage,
    /// As many questions are under way as are allowed. The service is slow, or we are under load.
    #[error("too many questions to the policy service are under way")]
    Busy,
}

impl HookFailure {
    /// A stable word for records and metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Timeout => "policy-timeout",
            Self::Unreachable => "policy-unreachable",
            Self::Status(_) => "policy-status",
            Self::Garbage => "policy-garbage",
            Self::Busy => "policy-busy",
        }
    }
}

/// One policy service. To be shared by all requests.
pub struct PolicyHook {
    name: String,
    url: RemoteUrl,
    dialect: HookDialect,
    headers: Vec<(HeaderName, HeaderValue)>,
    outbound: Outbound,
    places: Semaphore,
}

impl PolicyHook {
    /// Checks the configuration; asks nobody yet.
    pub fn new(config: HookConfig) -> Result<Self, HookConfigError> {
        if config.timeout.is_zero() || config.timeout > limits::HOOK_TIMEOUT_MAX {
            return Err(HookConfigError::OutOfRange("timeout must be 1 ms to 2 s"));
        }
        if config.max_in_flight == 0 || config.max_in_flight > limits::HOOK_IN_FLIGHT_MAX {
            return Err(HookConfigError::OutOfRange("max_in_flight must be 1 to 4096"));
        }
        let roles = HeaderValue::from_str(&config.sentinel_roles)
            .map_err(|_| HookConfigError::OutOfRange("sentinel_roles cannot stand in a header"))?;
        let headers = match config.dialect {
            HookDialect::Sentinelnet => vec![(HeaderName::from_static("x-sentinel-roles"), roles)],
            HookDialect::Opa => Vec::new(),
        };
        let outbound = Outbound::new(&OutboundConfig {
            ca_file: config.ca_file,
            connect_timeout: config.timeout,
            total_timeout: config.timeout,
        })?;
        Ok(Self {
            url: config.url.parse()?,
            name: config.name,
            dialect: config.dialect,
            headers,
            outbound,
            places: Semaphore::new(config.max_in_flight),
        })
    }

    /// What logs and records call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks once. May be called by many at once; dropping the future closes its connection.
    pub async fn ask(&self, question: &HookQuestion) -> Result<HookVerdict, HookFailure> {
        let _place = self.places.try_acquire().map_err(|_| HookFailure::Busy)?;
        let reply = self.send(question).await.map_err(|error| {
            tracing::warn!(hook = %self.name, cause = %error, "the policy service gave no answer");
            failure(&error)
        })?;
        let verdict = match self.dialect {
            HookDialect::Sentinelnet => sentinelnet::read(&reply),
            HookDialect::Opa => opa::read(&reply),
        };
        verdict.inspect_err(|failure| {
            tracing::warn!(hook = %self.name, status = reply.status, cause = %failure, "no verdict");
        })
    }

    async fn send(&self, question: &HookQuestion) -> Result<Reply, OutboundError> {
        let question = question.to_json();
        let body = match self.dialect {
            HookDialect::Sentinelnet => question,
            HookDialect::Opa => serde_json::json!({ "input": question }),
        };
        self.outbound.post_json(&self.url, &self.headers, body.to_string().into_bytes()).await
    }
}

fn failure(error: &OutboundError) -> HookFailure {
    match error {
        OutboundError::Unreachable(_) => HookFailure::Unreachable,
        OutboundError::Timeout(_) => HookFailure::Timeout,
        OutboundError::Status(status) => HookFailure::Status(*status),
        OutboundError::TooLarge | OutboundError::NotJson(_) => HookFailure::Garbage,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_is_refused() {
        let hook = |change: fn(&mut HookConfig)| {
            let mut config = HookConfig::new("policy", "http://127.0.0.1:1/", HookDialect::Sentinelnet);
            config.ca_file = None;
            change(&mut config);
            PolicyHook::new(config).err().map(|error| error.to_string())
        };
        let refusal = |change| hook(change).unwrap_or_default();
        assert_eq!(refusal(|config| config.timeout = Duration::ZERO), "timeout must be 1 ms to 2 s");
        assert_eq!(refusal(|config| config.timeout = Duration::from_secs(3)), "timeout must be 1 ms to 2 s");
        assert_eq!(refusal(|config| config.max_in_flight = 0), "max_in_flight must be 1 to 4096");
        assert!(refusal(|config| config.sentinel_roles = "a\nb".into()).contains("sentinel_roles"));
        assert!(refusal(|config| config.url = "http://policy.example/".into()).starts_with("url: "));
    }
}
