//! What the tests share: password files, backends, and drained logs.

#![allow(dead_code, reason = "each test target uses a part of it")]

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chancery_format::{Digest, Hash, HashAlgorithm, SignatureAlgorithm};
use chancery_hsm::{Backend, SealInput};
use chancery_hsm::{DeviceLog, DeviceOperation, KeyShape, RsaBits, SignerError, SignerHandle};
use chancery_yubihsm::testing::{AUTH_KEY_ID, YubiHsmDouble};
use chancery_yubihsm::{Connector, YubiHsmBackend, YubiHsmConfig};

use SignatureAlgorithm::{
    EcdsaP256Sha256, EcdsaP384Sha384, EcdsaSecp256k1Sha256, Ed25519, HmacSha256, HmacSha384, HmacSha512,
    RsaPssSha256, RsaPssSha384, RsaPssSha512, RsaSha256, RsaSha384, RsaSha512,
};

/// A key of each shape with every algorithm it serves.
pub(crate) const KEYS: [(&str, KeyShape, &[SignatureAlgorithm]); 9] = [
    ("ed", KeyShape::Ed25519, &[Ed25519]),
    ("p256", KeyShape::P256, &[EcdsaP256Sha256]),
    ("p384", KeyShape::P384, &[EcdsaP384Sha384]),
    ("k256", KeyShape::Secp256k1, &[EcdsaSecp256k1Sha256]),
    ("rsa-2048", KeyShape::Rsa(RsaBits::B2048), &[RsaSha256, RsaPssSha384, RsaPssSha256]),
    ("rsa-3072", KeyShape::Rsa(RsaBits::B3072), &[RsaSha384, RsaSha512, RsaPssSha512]),
    ("mac-256", KeyShape::Hmac(HashAlgorithm::Sha256), &[HmacSha256]),
    ("mac-384", KeyShape::Hmac(HashAlgorithm::Sha384), &[HmacSha384]),
    ("mac-512", KeyShape::Hmac(HashAlgorithm::Sha512), &[HmacSha512]),
];

/// Made anew for each run; nothing secret is written down.
pub(crate) fn password() -> String {
    let seed = format!("{:?} {}", std::thread::current().id(), std::process::id());
    hex::encode(Hash::of(&[seed.as_bytes()]).0)
}

/// A double, its password file, and a configuration for it.
pub(crate) struct World {
    pub(crate) double: YubiHsmDouble,
    pub(crate) config: YubiHsmConfig,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) password: String,
}

impl World {
    pub(crate) fn new() -> Self {
        let password = password();
        let double = YubiHsmDouble::start(&password).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let file = write_password(&directory, &password);
        let config = YubiHsmConfig { sessions: 2, ..config(double.address(), file) };
        Self { double, config, directory, password }
    }

    pub(crate) fn backend(&self) -> YubiHsmBackend {
        YubiHsmBackend::open(&self.config).unwrap()
    }

    /// The `yubihsm` crate's own client, logged in: somebody past us.
    pub(crate) fn other_client(&self) -> yubihsm::Client {
        other_client(self.double.address(), &self.password)
    }
}

pub(crate) fn config(address: SocketAddr, password_file: PathBuf) -> YubiHsmConfig {
    let connector = Connector::Http { host: address.ip().to_string(), port: address.port() };
    YubiHsmConfig::new("hsm", connector, AUTH_KEY_ID, password_file)
}

pub(crate) fn other_client(address: SocketAddr, password: &str) -> yubihsm::Client {
    let config = yubihsm::HttpConfig {
        addr: address.ip().to_string(),
        port: address.port(),
        ..yubihsm::HttpConfig::default()
    };
    let credentials = yubihsm::Credentials::from_password(AUTH_KEY_ID, password.as_bytes());
    yubihsm::Client::open(yubihsm::Connector::http(&config), credentials, true).unwrap()
}

pub(crate) fn write_password(directory: &tempfile::TempDir, password: &str) -> PathBuf {
    let file = directory.path().join("password");
    std::fs::write(&file, password).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    file
}

pub(crate) fn later() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

pub(crate) const DIGEST: Digest = Digest::Sha256([7; 32]);

pub(crate) fn sign(key: &Arc<dyn SignerHandle>) -> Result<Vec<u8>, SignerError> {
    key.sign(SealInput::Digest(&DIGEST), later())
}

/// Everything in the log, which is then consumed.
pub(crate) fn drain(log: &Arc<dyn DeviceLog>) -> Vec<DeviceOperation> {
    let operations = log.read(100, later()).unwrap();
    if let Some(last) = operations.last() {
        log.consume(last.number, later()).unwrap();
    }
    operations
}

pub(crate) fn log_of(backend: &YubiHsmBackend) -> Arc<dyn DeviceLog> {
    backend.device_log().unwrap()
}
