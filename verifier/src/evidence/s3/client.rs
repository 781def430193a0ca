//! The two requests this program makes: list versions, get one version.

use std::sync::Arc;
use std::time::Duration;

use rusty_s3::actions::GetObject;
use rusty_s3::{Bucket, Credentials, S3Action as _, UrlStyle};
use ureq::Agent;
use ureq::tls::{PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

use super::versions::{Marker, Page, parse_page};
use crate::evidence::EvidenceError;

/// How long a signed request may be used.
const SIGNATURE_LIFETIME: Duration = Duration::from_secs(600);
/// Longest a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest one request may take as a whole: 16 MiB on a slow line.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
/// Attempts per request, and the wait before the second; each later wait is twice as long.
const ATTEMPTS_MAX: u32 = 4;
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// Largest listing page read; 1,000 keys of 1,024 bytes with their frame fit many times.
const PAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Where the bucket is and how to reach it.
#[derive(Clone)]
pub struct S3Config {
    /// Name of the bucket.
    pub bucket: String,
    /// Key prefix of the archive, with or without slashes around it.
    pub prefix: String,
    /// Region to sign for.
    pub region: String,
    /// Another server than Amazon's, as a URL; its buckets are addressed by path.
    pub endpoint: Option<String>,
    /// Access key, secret and session token; `None` sends unsigned requests.
    pub credentials: Option<(String, String, Option<String>)>,
    /// PEM of certificate authorities to trust instead of the built-in ones.
    pub ca_bundle: Option<Vec<u8>>,
}

/// The configuration cannot work. The caller is at fault; nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum S3ConfigError {
    /// Not `s3://bucket` or `s3://bucket/prefix`.
    #[error("{0:?} is not s3://bucket or s3://bucket/prefix")]
    Location(String),
    /// The endpoint is no URL, or the bucket name cannot be part of one.
    #[error("S3 endpoint or bucket name: {0}")]
    Endpoint(String),
    /// The CA bundle is unreadable or holds no certificate.
    #[error("CA bundle: {0}")]
    CaBundle(String),
    /// An access key without its secret, or the reverse.
    #[error("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY must be set together")]
    HalfCredentials,
}

impl S3Config {
    /// From `s3://bucket/prefix` and the usual variables, which `variable` looks up:
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION` (or
    /// `AWS_DEFAULT_REGION`, else `us-east-1`), `AWS_ENDPOINT_URL_S3` (or `AWS_ENDPOINT_URL`),
    /// `AWS_CA_BUNDLE`.
    pub fn from_environment(
        location: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, S3ConfigError> {
        let bad = || S3ConfigError::Location(location.to_owned());
        let rest = location.strip_prefix("s3://").ok_or_else(bad)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(bad());
        }
        let first =
            |names: [&str; 2]| names.into_iter().filter_map(&variable).find(|value| !value.is_empty());
        let keys = (
            first(["AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID"]),
            first(["AWS_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY"]),
        );
        let credentials = match keys {
            (Some(key), Some(secret)) => {
                Some((key, secret, first(["AWS_SESSION_TOKEN", "AWS_SESSION_TOKEN"])))
            }
            (None, None) => None,
            _ => return Err(S3ConfigError::HalfCredentials),
        };
        let ca_bundle = match first(["AWS_CA_BUNDLE", "AWS_CA_BUNDLE"]) {
            Some(path) => Some(
                std::fs::read(&path).map_err(|error| S3ConfigError::CaBundle(format!("{path}: {error}")))?,
            ),
            None => None,
        };
        Ok(Self {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            region: first(["AWS_REGION", "AWS_DEFAULT_REGION"]).unwrap_or_else(|| "us-east-1".to_owned()),
            endpoint: first(["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]),
            credentials,
            ca_bundle,
        })
    }
}

/// Secrets are not shown.
impl std::fmt::Debug for S3Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Config")
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .field("region", &self.region)
            .field("endpoint", &self.endpoint)
            .field("signed", &self.credentials.is_some())
            .finish_non_exhaustive()
    }
}

pub(super) struct Client {
    agent: Agent,
    bucket: Bucket,
    credentials: Option<Credentials>,
}

impl Client {
    pub(super) fn new(config: S3Config) -> Result<Self, S3ConfigError> {
        let bad = |error: &dyn std::fmt::Display| S3ConfigError::Endpoint(error.to_string());
        let (url, style) = match config.endpoint {
            Some(url) => (url, UrlStyle::Path),
            None => (format!("https://s3.{}.amazonaws.com", config.region), UrlStyle::VirtualHost),
        };
        let url = url.parse().map_err(|error| bad(&error))?;
        let bucket = Bucket::new(url, style, config.bucket, config.region).map_err(|error| bad(&error))?;
        let credentials = config.credentials.map(|(key, secret, token)| match token {
            Some(token) => Credentials::new_with_token(key, secret, token),
            None => Credentials::new(key, secret),
        });
        Ok(Self { agent: agent(config.ca_bundle)?, bucket, credentials })
    }

    /// One page of versions of keys that begin with `prefix`.
    pub(super) fn list_versions(&self, prefix: &str, from: Option<&Marker>) -> Result<Page, EvidenceError> {
        let mut query = vec![("versions", ""), ("prefix", prefix)];
        if let Some(marker) = from {
            query.push(("key-marker", &marker.key));
            query.extend(marker.version.as_deref().map(|version| ("version-id-marker", version)));
        }
        let body = self.request("", &query, PAGE_BYTES_MAX)?;
        let text = String::from_utf8(body).ok();
        text.as_deref()
            .and_then(parse_page)
            .ok_or_else(|| EvidenceError::Unreadable("the server's list of versions is not one".to_owned()))
    }

    /// One version of one object; the current one if `version` is `None`.
    pub(super) fn get(
        &self,
        key: &str,
        version: Option<&str>,
        bytes_max: usize,
    ) -> Result<Vec<u8>, EvidenceError> {
        let query: Vec<_> = version.map(|version| ("versionId", version)).into_iter().collect();
        self.request(key, &query, bytes_max)
    }

    /// Sends a GET, again after failures that may pass.
    fn request(&self, key: &str, query: &[(&str, &str)], bytes_max: usize) -> Result<Vec<u8>, EvidenceError> {
        let mut wait = FIRST_WAIT;
        let mut attempt = 1;
        loop {
            match self.attempt(key, query, bytes_max) {
                Err(Failure::Passing(_)) if attempt < ATTEMPTS_MAX => {
                    std::thread::sleep(wait);
                    wait *= 2;
                    attempt += 1;
                }
                Err(Failure::Passing(message)) => return Err(EvidenceError::Unreadable(message)),
                Err(Failure::Final(error)) => return Err(error),
                Ok(bytes) => return Ok(bytes),
            }
        }
    }

    fn attempt(&self, key: &str, query: &[(&str, &str)], bytes_max: usize) -> Result<Vec<u8>, Failure> {
        let mut action = GetObject::new(&self.bucket, self.credentials.as_ref(), key);
        for (name, value) in query {
            action.query_mut().insert(*name, *value);
        }
        let url = action.sign(SIGNATURE_LIFETIME);
        let passing = |error: ureq::Error| Failure::Passing(error.to_string());
        let mut response = self.agent.get(url.as_str()).call().map_err(passing)?;
        match response.status().as_u16() {
            200 => {}
            404 => return Err(Failure::Final(EvidenceError::NotFound)),
            status @ (429 | 500..) => return Err(Failure::Passing(format!("the server answers {status}"))),
            status => {
                let message =
                    format!("the server answers {status}; are bucket, region and credentials right?");
                return Err(Failure::Final(EvidenceError::Unreadable(message)));
            }
        }
        // ureq refuses a body as long as its limit, too; ours is the last that is allowed.
        let limit = bytes_max as u64 + 1;
        response.body_mut().with_config().limit(limit).read_to_vec().map_err(|error| match error {
            ureq::Error::BodyExceedsLimit(_) => Failure::Final(EvidenceError::TooLarge(bytes_max)),
            error => passing(error),
        })
    }
}

enum Failure {
    /// Trying again may help.
    Passing(String),
    Final(EvidenceError),
}

fn agent(ca_bundle: Option<Vec<u8>>) -> Result<Agent, S3ConfigError> {
    let roots = match ca_bundle {
        None => RootCerts::WebPki,
        Some(pem) => {
            let certificates: Vec<_> = parse_pem(&pem)
                .filter_map(|item| match item {
                    Ok(PemItem::Certificate(certificate)) => Some(certificate),
                    _ => None,
                })
                .collect();
            if certificates.is_empty() {
                return Err(S3ConfigError::CaBundle("holds no certificate".to_owned()));
            }
            RootCerts::new_with_certs(&certificates)
        }
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(provider)
        .root_certs(roots)
        .build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_global(Some(REQUEST_TIMEOUT))
        .build();
    Ok(Agent::new_with_config(config))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    #[test]
    fn the_usual_variables_configure_it_and_secrets_do_not_show() {
        let variable = |name: &str| {
            let value = match name {
                "AWS_ACCESS_KEY_ID" => "id",
                "AWS_SECRET_ACCESS_KEY" => "hush",
                "AWS_DEFAULT_REGION" => "eu-central-1",
                "AWS_ENDPOINT_URL" => "http://127.0.0.1:4567",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let config = S3Config::from_environment("s3://bucket/a/b/", variable).unwrap();
        assert_eq!((config.bucket.as_str(), config.prefix.as_str()), ("bucket", "a/b/"));
        assert_eq!(config.region, "eu-central-1");
        assert!(!format!("{config:?}").contains("hush"));
        assert!(Client::new(config).is_ok());
        for bad in ["s3://", "s3:///x", "http://x"] {
            assert!(matches!(S3Config::from_environment(bad, |_| None), Err(S3ConfigError::Location(_))));
        }
        let half = |name: &str| (name == "AWS_ACCESS_KEY_ID").then(|| "id".to_owned());
        assert!(matches!(S3Config::from_environment("s3://b", half), Err(S3ConfigError::HalfCredentials)));
    }
}
