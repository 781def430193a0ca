//! A bucket as an address: where `s3://BUCKET/PREFIX` is, and how a GET of an object there is signed (SigV4 in the query).
//!
//! Credentials come from the variables every S3 tool reads; without them requests are not signed, as for an open bucket.
//! Names are `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION` (or `AWS_DEFAULT_REGION`, else
//! `us-east-1`), `AWS_ENDPOINT_URL_S3` (or `AWS_ENDPOINT_URL`) for other servers than Amazon's, `AWS_CA_BUNDLE`.

use std::time::Duration;

use hyper::Uri;
use rusty_s3::actions::GetObject;
use rusty_s3::{Bucket, Credentials, S3Action as _, UrlStyle};

use super::error::MirrorError;

/// How long a signed request may be used: longer than any clock is wrong by that the server would accept.
const SIGNATURE_LIFETIME: Duration = Duration::from_secs(600);

/// The bucket of an address, and what signs for it.
pub(super) struct SignedBucket {
    bucket: Bucket,
    prefix: String,
    credentials: Option<Credentials>,
}

impl SignedBucket {
    /// Reads `s3://BUCKET/PREFIX` and the variables, which `variable` looks up. Nothing is sent.
    pub(super) fn new(address: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self, MirrorError> {
        let refuse = |why: &dyn std::fmt::Display| MirrorError::Usage(format!("{address}: {why}"));
        let rest = address.strip_prefix("s3://").unwrap_or_default();
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if name.is_empty() {
            return Err(refuse(&"is not s3://BUCKET or s3://BUCKET/PREFIX"));
        }
        let first =
            |names: &[&str]| names.iter().filter_map(|name| variable(name)).find(|value| !value.is_empty());
        let credentials = match (first(&["AWS_ACCESS_KEY_ID"]), first(&["AWS_SECRET_ACCESS_KEY"])) {
            (Some(key), Some(secret)) => Some(match first(&["AWS_SESSION_TOKEN"]) {
                Some(token) => Credentials::new_with_token(key, secret, token),
                None => Credentials::new(key, secret),
            }),
            (None, None) => None,
            _ => return Err(refuse(&"AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY must be set together")),
        };
        let region = first(&["AWS_REGION", "AWS_DEFAULT_REGION"]).unwrap_or_else(|| "us-east-1".to_owned());
        let (endpoint, style) = match first(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]) {
            Some(url) => (url, UrlStyle::Path),
            None => (format!("https://s3.{region}.amazonaws.com"), UrlStyle::VirtualHost),
        };
        let endpoint = endpoint.parse().map_err(|error| refuse(&format!("{endpoint}: {error}")))?;
        let bucket = Bucket::new(endpoint, style, name.to_owned(), region).map_err(|error| refuse(&error))?;
        let prefix = prefix.trim_matches('/').to_owned();
        Ok(Self { bucket, prefix, credentials })
    }

    /// The server's own address.
    pub(super) fn endpoint(&self) -> String {
        self.bucket.base_url().as_str().trim_end_matches('/').to_owned()
    }

    /// The target of a request for one object: path and signature.
    pub(super) fn target(&self, path: &str) -> Result<Uri, String> {
        let key = match self.prefix.is_empty() {
            true => path.to_owned(),
            false => format!("{}/{path}", self.prefix),
        };
        let url = GetObject::new(&self.bucket, self.credentials.as_ref(), &key).sign(SIGNATURE_LIFETIME);
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        format!("{}{query}", url.path()).parse().map_err(|error| format!("{key}: {error}"))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    fn of(address: &str, variables: &[(&str, &str)]) -> Result<SignedBucket, String> {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        SignedBucket::new(address, variable).map_err(|error| error.to_string())
    }

    #[test]
    fn without_credentials_nothing_is_signed() {
        let bucket = of("s3://audit-archive/prod/", &[("AWS_REGION", "eu-central-1")]).unwrap();
        assert_eq!(bucket.endpoint(), "https://audit-archive.s3.eu-central-1.amazonaws.com");
        assert_eq!(bucket.target("tile/0/x001/000").unwrap(), "/prod/tile/0/x001/000");
        let whole = of("s3://audit-archive", &[("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")]).unwrap();
        assert_eq!(whole.target("checkpoint").unwrap(), "/audit-archive/checkpoint");
    }

    #[test]
    fn with_credentials_each_request_is_signed_and_the_secret_is_not_in_it() {
        let variables =
            [("AWS_ACCESS_KEY_ID", "name"), ("AWS_SECRET_ACCESS_KEY", "hush"), ("AWS_SESSION_TOKEN", "t")];
        let bucket = of("s3://audit-archive/prod", &variables).unwrap();
        let target = bucket.target("checkpoint").unwrap().to_string();
        assert!(target.starts_with("/prod/checkpoint?"), "{target}");
        for part in ["X-Amz-Signature=", "X-Amz-Credential=name", "X-Amz-Security-Token=t", "us-east-1"] {
            assert!(target.contains(part), "{part} in {target}");
        }
        assert!(!target.contains("hush"));
    }

    #[test]
    fn what_cannot_work_is_refused() {
        assert!(of("s3://", &[]).err().unwrap().contains("s3://BUCKET"));
        assert!(of("s3:///prefix", &[]).is_err());
        let half = of("s3://a", &[("AWS_ACCESS_KEY_ID", "name")]).err().unwrap();
        assert!(half.contains("must be set together"), "{half}");
        assert!(of("s3://a", &[("AWS_ENDPOINT_URL", "nowhere")]).is_err());
    }
}
