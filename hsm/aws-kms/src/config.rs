//! Which KMS, and how patiently.

use std::time::Duration;

use aws_sdk_kms::config::SharedCredentialsProvider;
use chancery_hsm::SESSIONS_MAX;

use crate::limits::ATTEMPT_TIMEOUT_MAX;

/// Which KMS, and how to use it.
#[derive(Debug, Clone)]
pub struct KmsConfig {
    /// The operator's name for it.
    pub name: String,
    /// Region, as `eu-central-1`; `None` for the SDK's default chain (environment, profile, EC2).
    pub region: Option<String>,
    /// Another endpoint than AWS's public one: a VPC endpoint, a double. Plain `http://` only to this
    /// machine. `None` for AWS, or what `AWS_ENDPOINT_URL_KMS` says.
    pub endpoint_url: Option<String>,
    /// Calls under way at once; 1 to [`SESSIONS_MAX`]. 16.
    pub sessions: usize,
    /// For a connection, TLS included. 1 s.
    pub connect_timeout: Duration,
    /// For one attempt, connecting included, cut short by the caller's deadline. 2 s; at most 60 s.
    pub attempt_timeout: Duration,
    /// Credentials; `None` for the SDK's default chain (environment, profile, web identity, ECS, EC2).
    pub credentials: Option<SharedCredentialsProvider>,
}

/// Why a KMS cannot be used as configured. The operator's fault, but for [`KmsFault::Runtime`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KmsFault {
    /// The backend has no name.
    #[error("name must not be empty")]
    NameEmpty,
    /// An empty region was named.
    #[error("region must not be empty")]
    RegionEmpty,
    /// No region was named, and the SDK's default chain knows none.
    #[error("no region: name one, or set AWS_REGION or a profile")]
    RegionUnknown,
    /// Neither https nor plain http to this machine.
    #[error("endpoint_url must be https://, or http:// to a loopback address")]
    EndpointNotPrivate,
    /// No session, or more than there may be threads.
    #[error("sessions must be 1 to {SESSIONS_MAX}")]
    SessionsOutOfRange,
    /// Zero, or longer than anybody waits.
    #[error("connect_timeout and attempt_timeout must be more than 0 and at most {} s", ATTEMPT_TIMEOUT_MAX.as_secs())]
    TimeoutOutOfRange,
    /// The thread of the SDK could not be started; the system's fault, may pass.
    #[error("cannot start the thread for KMS: {0}")]
    Runtime(String),
}

impl KmsConfig {
    /// AWS in the default region with default credentials.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            region: None,
            endpoint_url: None,
            sessions: 16,
            connect_timeout: Duration::from_secs(1),
            attempt_timeout: Duration::from_secs(2),
            credentials: None,
        }
    }

    /// The first thing wrong, if anything is. Asks nobody.
    pub fn check(&self) -> Result<(), KmsFault> {
        if self.name.is_empty() {
            return Err(KmsFault::NameEmpty);
        }
        if self.region.as_deref().is_some_and(str::is_empty) {
            return Err(KmsFault::RegionEmpty);
        }
        if self.endpoint_url.as_deref().is_some_and(|url| !is_private_endpoint(url)) {
            return Err(KmsFault::EndpointNotPrivate);
        }
        if !(1..=SESSIONS_MAX).contains(&self.sessions) {
            return Err(KmsFault::SessionsOutOfRange);
        }
        let sane = |time: Duration| !time.is_zero() && time <= ATTEMPT_TIMEOUT_MAX;
        if !sane(self.connect_timeout) || !sane(self.attempt_timeout) {
            return Err(KmsFault::TimeoutOutOfRange);
        }
        Ok(())
    }
}

/// What is to be signed does not cross a network in clear.
fn is_private_endpoint(url: &str) -> bool {
    if url.starts_with("https://") {
        return true;
    }
    let Some(rest) = url.strip_prefix("http://") else { return false };
    let authority = rest.split('/').next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next().unwrap_or_default(),
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mistake_is_named() {
        let good = KmsConfig { region: Some("eu-central-1".to_owned()), ..KmsConfig::new("kms") };
        assert_eq!(good.check(), Ok(()));
        let with = |change: fn(&mut KmsConfig)| {
            let mut config = good.clone();
            change(&mut config);
            config.check()
        };
        assert_eq!(with(|c| c.name.clear()), Err(KmsFault::NameEmpty));
        assert_eq!(with(|c| c.region = Some(String::new())), Err(KmsFault::RegionEmpty));
        assert_eq!(with(|c| c.region = None), Ok(()));
        assert_eq!(with(|c| c.sessions = 0), Err(KmsFault::SessionsOutOfRange));
        assert_eq!(with(|c| c.sessions = SESSIONS_MAX + 1), Err(KmsFault::SessionsOutOfRange));
        assert_eq!(with(|c| c.attempt_timeout = Duration::ZERO), Err(KmsFault::TimeoutOutOfRange));
        assert_eq!(with(|c| c.connect_timeout = Duration::from_secs(61)), Err(KmsFault::TimeoutOutOfRange));
        for url in ["http://kms.example", "http://127.0.0.1.example:80", "http://localhost@kms.example", "x"]
        {
            let config = KmsConfig { endpoint_url: Some(url.to_owned()), ..good.clone() };
            assert_eq!(config.check(), Err(KmsFault::EndpointNotPrivate), "{url}");
        }
        for url in ["https://kms.example", "http://127.0.0.1:4567", "http://localhost:1", "http://[::1]:80/"]
        {
            let config = KmsConfig { endpoint_url: Some(url.to_owned()), ..good.clone() };
            assert_eq!(config.check(), Ok(()), "{url}");
        }
    }
}
