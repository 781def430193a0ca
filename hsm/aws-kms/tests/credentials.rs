//! What happens before anything is sent: no credentials, none to be had now, nobody listening.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future;
use aws_sdk_kms::config::{Credentials, ProvideCredentials, SharedCredentialsProvider};
use chancery_aws_kms::{KmsBackend, KmsConfig, KmsFault};
use chancery_format::SignatureAlgorithm::EcdsaP256Sha256;
use chancery_format::entry::KeyUse;
use chancery_hsm::Backend as _;

/// Says this, each time.
#[derive(Debug)]
struct Source(fn() -> Result<Credentials, CredentialsError>);

impl ProvideCredentials for Source {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready((self.0)())
    }
}

fn made_up() -> Result<Credentials, CredentialsError> {
    Ok(Credentials::new("test", "test", None, None, "tests"))
}

/// A backend on a port where nobody listens.
fn backend(source: fn() -> Result<Credentials, CredentialsError>) -> KmsBackend {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let config = KmsConfig {
        region: Some("us-east-1".to_owned()),
        endpoint_url: Some(format!("http://127.0.0.1:{port}")),
        credentials: Some(SharedCredentialsProvider::new(Source(source))),
        ..KmsConfig::new("kms")
    };
    KmsBackend::open(&config).unwrap()
}

fn probed(source: fn() -> Result<Credentials, CredentialsError>) -> (&'static str, KeyUse) {
    let error = backend(source).probe(Instant::now() + Duration::from_millis(400)).unwrap_err();
    (error.code(), error.key_use())
}

#[test]
fn missing_credentials_are_the_operators_and_not_an_outage() {
    assert_eq!(probed(|| Err(CredentialsError::not_loaded("none here"))), ("backend-refused", KeyUse::None));
    assert_eq!(
        probed(|| Err(CredentialsError::invalid_configuration("not so"))),
        ("backend-refused", KeyUse::None)
    );
}

#[test]
fn credentials_that_cannot_be_had_now_and_a_service_that_is_gone_are_outages() {
    assert_eq!(
        probed(|| Err(CredentialsError::provider_error("later"))),
        ("backend-unavailable", KeyUse::None)
    );
    assert_eq!(probed(made_up), ("backend-unavailable", KeyUse::None));
}

#[test]
fn a_passed_deadline_asks_nobody() {
    let error = backend(made_up).probe(Instant::now()).unwrap_err();
    assert_eq!((error.code(), error.key_use()), ("deadline-exceeded", KeyUse::None));
}

#[test]
fn a_wrong_configuration_opens_nothing() {
    let config = KmsConfig { sessions: 0, ..KmsConfig::new("kms") };
    assert_eq!(KmsBackend::open(&config).err(), Some(KmsFault::SessionsOutOfRange));
    assert_eq!(backend(made_up).algorithms().len(), 16);
    // Another algorithm's label rules are the same: nothing is asked for an empty label.
    assert_eq!(
        backend(made_up).open_key("", EcdsaP256Sha256).err().map(|error| error.code()),
        Some("backend-refused")
    );
}
