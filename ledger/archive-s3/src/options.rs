//! Where the archive is and how long it locks.

use std::time::Duration;

use aws_sdk_s3::config::SharedCredentialsProvider;

use crate::limits::RETENTION_DAYS_MAX;

/// Which bucket, and how.
#[derive(Debug, Clone)]
pub struct S3Options {
    /// Bucket with versioning and Object Lock.
    pub bucket: String,
    /// Put before every object name; empty, or ends with `/` (added if missing).
    pub prefix: String,
    /// Region, as `eu-central-1`.
    pub region: String,
    /// Another S3 server than AWS's; `None` for AWS. Plain `http://` only to this machine.
    pub endpoint_url: Option<String>,
    /// Bucket in the path instead of the host name; most servers other than AWS want it.
    pub path_style: bool,
    /// Days each object is locked from the moment it is written. 400.
    pub retention_days: u32,
    /// Credentials; `None` for the SDK's default chain (environment, profile, web identity, ECS, EC2).
    pub credentials: Option<SharedCredentialsProvider>,
    /// Time-outs and retries.
    pub patience: Patience,
}

/// How long to wait for a server and how often to ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For a connection, TLS included. 3 s.
    pub connect_timeout: Duration,
    /// For one request with its whole body, both ways. 30 s.
    pub request_timeout: Duration,
    /// Attempts of one archive call before it is given up as unavailable; at least 1. 4.
    pub attempts: u32,
    /// First pause; doubles with each attempt, and the pause taken is random below it. 200 ms.
    pub backoff: Duration,
    /// Longest pause. 5 s.
    pub backoff_max: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_secs(30),
            attempts: 4,
            backoff: Duration::from_millis(200),
            backoff_max: Duration::from_secs(5),
        }
    }
}

/// What is wrong with [`S3Options`]. The operator's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsFault {
    /// No bucket was named.
    #[error("bucket must not be empty")]
    BucketEmpty,
    /// No region was named.
    #[error("region must not be empty")]
    RegionEmpty,
    /// Zero days, or more than a hundred years.
    #[error("retention_days must be from 1 to {RETENTION_DAYS_MAX}")]
    RetentionOutOfRange,
    /// A prefix that would give keys with empty or dotted parts.
    #[error("prefix must be made of non-empty parts of A-Z a-z 0-9 - _ . joined by /, none of them . or ..")]
    PrefixMalformed,
    /// Neither https nor plain http to this machine.
    #[error("endpoint_url must be https://, or http:// to a loopback address")]
    EndpointNotPrivate,
    /// No attempt at all.
    #[error("attempts must be at least 1")]
    NoAttempts,
    /// The runtime of the archive could not be started; the system's fault.
    #[error("cannot start the archive's threads: {0}")]
    Runtime(String),
}

impl S3Options {
    /// AWS, 400 days, no prefix, default credentials.
    pub fn new(bucket: impl Into<String>, region: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            prefix: String::new(),
            region: region.into(),
            endpoint_url: None,
            path_style: false,
            retention_days: 400,
            credentials: None,
            patience: Patience::default(),
        }
    }

    /// The first thing wrong, if anything is.
    pub fn check(&self) -> Result<(), OptionsFault> {
        if self.bucket.is_empty() {
            return Err(OptionsFault::BucketEmpty);
        }
        if self.region.is_empty() {
            return Err(OptionsFault::RegionEmpty);
        }
        if self.retention_days == 0 || self.retention_days > RETENTION_DAYS_MAX {
            return Err(OptionsFault::RetentionOutOfRange);
        }
        if !is_prefix(&self.prefix) {
            return Err(OptionsFault::PrefixMalformed);
        }
        if self.endpoint_url.as_deref().is_some_and(|url| !is_private_endpoint(url)) {
            return Err(OptionsFault::EndpointNotPrivate);
        }
        if self.patience.attempts == 0 {
            return Err(OptionsFault::NoAttempts);
        }
        Ok(())
    }

    /// The prefix, empty or with its slash.
    pub(crate) fn key_prefix(&self) -> String {
        if self.prefix.is_empty() || self.prefix.ends_with('/') {
            self.prefix.clone()
        } else {
            format!("{}/", self.prefix)
        }
    }
}

fn is_prefix(prefix: &str) -> bool {
    let part_is_plain = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    let inner = prefix.strip_suffix('/').unwrap_or(prefix);
    prefix.is_empty() || (prefix.len() <= 512 && inner.split('/').all(part_is_plain))
}

/// Objects hold what happened; they do not cross a network in clear.
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
        let good = S3Options::new("bucket", "eu-central-1");
        assert_eq!(good.check(), Ok(()));
        let with = |change: fn(&mut S3Options)| {
            let mut options = good.clone();
            change(&mut options);
            options.check()
        };
        assert_eq!(with(|o| o.bucket.clear()), Err(OptionsFault::BucketEmpty));
        assert_eq!(with(|o| o.region.clear()), Err(OptionsFault::RegionEmpty));
        assert_eq!(with(|o| o.retention_days = 0), Err(OptionsFault::RetentionOutOfRange));
        assert_eq!(with(|o| o.retention_days = 36_501), Err(OptionsFault::RetentionOutOfRange));
        assert_eq!(with(|o| o.patience.attempts = 0), Err(OptionsFault::NoAttempts));
        for prefix in ["/", "a//b", "/a", "../a", "a b", "a/./b"] {
            let options = S3Options { prefix: prefix.into(), ..good.clone() };
            assert_eq!(options.check(), Err(OptionsFault::PrefixMalformed), "{prefix}");
        }
    }

    #[test]
    fn a_prefix_gets_its_slash_once() {
        for (given, used) in [("", ""), ("a", "a/"), ("a/", "a/"), ("a/b.c", "a/b.c/")] {
            let options = S3Options { prefix: given.into(), ..S3Options::new("b", "r") };
            assert_eq!((options.check(), options.key_prefix().as_str()), (Ok(()), used));
        }
    }

    #[test]
    fn plain_http_stays_on_this_machine() {
        for url in ["https://s3.example", "http://127.0.0.1:4567", "http://localhost:1", "http://[::1]:80/x"]
        {
            assert!(is_private_endpoint(url), "{url}");
        }
        for url in
            ["http://s3.example", "http://127.0.0.1.example:80", "http://localhost@s3.example", "ftp://x", ""]
        {
            assert!(!is_private_endpoint(url), "{url}");
        }
    }
}
