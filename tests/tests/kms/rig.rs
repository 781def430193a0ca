//! A KMS, a raw client that makes and breaks keys there, backends and keyrings on it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_kms::Client;
use aws_sdk_kms::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider};
use aws_sdk_kms::types::{KeySpec as TheirSpec, KeyUsageType};
use chancery_aws_kms::{KmsBackend, KmsConfig};
use chancery_format::committed::DurableIntent;
use chancery_format::entry::{Intent, IntentParts, KeyUse, Operation, PolicyRef};
use chancery_format::{
    Digest, Hash, HashAlgorithm, KeyFamily, Outcome, OutcomeResult, Rung, SignatureAlgorithm,
};
use chancery_hsm::{KeySpec, Registered, SignerError};
use chancery_tests::servers::ObjectStore;

pub(crate) const NAME: &str = "kms";

pub(crate) struct Rig {
    pub(crate) address: SocketAddr,
    /// For making and breaking keys.
    pub(crate) raw: Client,
    runtime: tokio::runtime::Runtime,
}

impl Rig {
    pub(crate) fn new(server: ObjectStore) -> Self {
        Self::at(server.shared().unwrap_or_else(|error| panic!("{error}")).address())
    }

    pub(crate) fn at(address: SocketAddr) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let config = aws_sdk_kms::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("us-east-1"))
            .credentials_provider(credentials())
            .endpoint_url(format!("http://{address}"))
            .build();
        Self { address, raw: Client::from_conf(config), runtime }
    }

    /// Waits for a call of the raw client.
    pub(crate) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// A new key for the algorithm; its ARN.
    pub(crate) fn make_key(&self, algorithm: SignatureAlgorithm) -> String {
        let usage =
            if algorithm.is_mac() { KeyUsageType::GenerateVerifyMac } else { KeyUsageType::SignVerify };
        self.make(their_spec(algorithm), usage)
    }

    pub(crate) fn make(&self, spec: TheirSpec, usage: KeyUsageType) -> String {
        let made = self.wait(self.raw.create_key().key_spec(spec).key_usage(usage).send()).unwrap();
        made.key_metadata.unwrap().arn.unwrap()
    }

    pub(crate) fn backend(&self) -> Arc<KmsBackend> {
        backend_at(self.address)
    }

    pub(crate) fn disable(&self, key: &str) {
        self.wait(self.raw.disable_key().key_id(key).send()).unwrap();
    }

    pub(crate) fn enable(&self, key: &str) {
        self.wait(self.raw.enable_key().key_id(key).send()).unwrap();
    }
}

pub(crate) fn config(address: SocketAddr) -> KmsConfig {
    KmsConfig {
        region: Some("us-east-1".to_owned()),
        endpoint_url: Some(format!("http://{address}")),
        credentials: Some(SharedCredentialsProvider::new(credentials())),
        // The machine may be busy; tests of time-outs choose their own.
        attempt_timeout: Duration::from_secs(20),
        ..KmsConfig::new(NAME)
    }
}

pub(crate) fn backend_at(address: SocketAddr) -> Arc<KmsBackend> {
    Arc::new(KmsBackend::open(&config(address)).unwrap())
}

/// Nobody's: neither imitation looks at them.
fn credentials() -> Credentials {
    Credentials::builder().access_key_id("test").secret_access_key("test").provider_name("tests").build()
}

fn their_spec(algorithm: SignatureAlgorithm) -> TheirSpec {
    match (algorithm.family(), algorithm.hash()) {
        (KeyFamily::Ed25519, _) => TheirSpec::EccNistEdwards25519,
        (KeyFamily::P256, _) => TheirSpec::EccNistP256,
        (KeyFamily::P384, _) => TheirSpec::EccNistP384,
        (KeyFamily::Secp256k1, _) => TheirSpec::EccSecgP256K1,
        (KeyFamily::Rsa, _) => TheirSpec::Rsa2048,
        (KeyFamily::MlDsa44, _) => TheirSpec::MlDsa44,
        (KeyFamily::MlDsa65, _) => TheirSpec::MlDsa65,
        (KeyFamily::Secret, Some(HashAlgorithm::Sha384)) => TheirSpec::Hmac384,
        (KeyFamily::Secret, Some(HashAlgorithm::Sha512)) => TheirSpec::Hmac512,
        (KeyFamily::Secret, _) => TheirSpec::Hmac256,
    }
}

pub(crate) fn later() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// A digest of the kind the algorithm takes.
pub(crate) fn digest_for(algorithm: SignatureAlgorithm, number: u8) -> Digest {
    match algorithm.digest() {
        None | Some(HashAlgorithm::Sha256) => Digest::Sha256([number; 32]),
        Some(HashAlgorithm::Sha384) => Digest::Sha384([number; 48]),
        Some(HashAlgorithm::Sha512) => Digest::Sha512([number; 64]),
    }
}

pub(crate) fn spec(kid: &str, label: &str, algorithm: SignatureAlgorithm) -> KeySpec {
    KeySpec {
        kid: kid.parse().unwrap(),
        signer_kid: format!("{kid}-v1").parse().unwrap(),
        backend: NAME.to_owned(),
        label: label.to_owned(),
        algorithm,
        purpose: "test".to_owned(),
        description: String::new(),
        registered: Registered::No,
    }
}

/// An intent as the ledger hands it out.
pub(crate) fn intent(kid: &str, algorithm: SignatureAlgorithm, digest: Digest) -> DurableIntent {
    let operation = if algorithm.is_mac() { Operation::Mac } else { Operation::Sign };
    DurableIntent::after_sync(Intent::new(IntentParts {
        co_signer: None,
        kid: kid.parse().unwrap(),
        signer_kid: format!("{kid}-v1").parse().unwrap(),
        algorithm,
        operation,
        digest,
        principal: "tester".parse().unwrap(),
        request_id: "r-1".parse().unwrap(),
        stream: "tester".parse().unwrap(),
        purpose: None,
        metadata: None,
        policy: PolicyRef { rule: "test".to_owned(), sha256: Hash([0; 32]) },
        release: Rung::Durable,
        replay: None,
    }))
}

/// How an outcome ended, and its leaf.
pub(crate) fn ending(outcome: &Outcome) -> Result<(), (String, KeyUse)> {
    match outcome.result() {
        OutcomeResult::Signed(..) => Ok(()),
        OutcomeResult::Failed(code, key_use) => Err((code.as_str().to_owned(), *key_use)),
        OutcomeResult::Abandoned => panic!("a keyring abandons nothing"),
    }
}

/// Code and key use of a failure; `Ok` with how many bytes came out.
pub(crate) fn told(result: Result<Vec<u8>, SignerError>) -> Result<usize, (&'static str, KeyUse)> {
    result.map(|bytes| bytes.len()).map_err(|error| (error.code(), error.key_use()))
}
