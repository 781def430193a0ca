//! Backends and keyrings on a KMS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chancery_aws_kms::{KmsBackend, KmsConfig};
use chancery_format::committed::DurableIntent;
use chancery_format::entry::{Intent, IntentParts, KeyUse, Operation, PolicyRef};
use chancery_format::{Digest, Hash, HashAlgorithm, Outcome, OutcomeResult, Rung, SignatureAlgorithm};
use chancery_hsm::{KeySpec, Registered, SignerError};
use chancery_tests::rig::{KmsAccount, kms_credentials};

pub(crate) const NAME: &str = "kms";

pub(crate) fn backend_of(account: &KmsAccount) -> Arc<KmsBackend> {
    backend_at(account.address)
}

pub(crate) fn config(address: SocketAddr) -> KmsConfig {
    KmsConfig {
        region: Some("us-east-1".to_owned()),
        endpoint_url: Some(format!("http://{address}")),
        credentials: Some(kms_credentials()),
        // The machine may be busy; tests of time-outs choose their own.
        attempt_timeout: Duration::from_secs(20),
        ..KmsConfig::new(NAME)
    }
}

pub(crate) fn backend_at(address: SocketAddr) -> Arc<KmsBackend> {
    Arc::new(KmsBackend::open(&config(address)).unwrap())
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
        asked: None,
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
