//! An account at a key service: what makes and breaks keys there, which the daemon may not.

use std::net::SocketAddr;

use aws_sdk_kms::Client;
use aws_sdk_kms::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider};
use aws_sdk_kms::types::{KeySpec, KeyUsageType};
use chancery_format::{HashAlgorithm, KeyFamily, SignatureAlgorithm};
use chancery_hsm::conformance::OffSwitch;

use super::World;
use crate::servers::ObjectStore;

/// A raw client, and a thread of its own to run it on.
#[derive(Debug)]
pub struct KmsAccount {
    /// Where the service listens.
    pub address: SocketAddr,
    /// Everything the service can be asked.
    pub raw: Client,
    runtime: tokio::runtime::Runtime,
}

impl KmsAccount {
    /// At a server shared by the tests of this process.
    pub fn new(server: ObjectStore) -> Self {
        Self::at(server.shared().unwrap_or_else(|error| panic!("{error}")).address())
    }

    /// At this one.
    pub fn at(address: SocketAddr) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let config = aws_sdk_kms::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("us-east-1"))
            .credentials_provider(kms_credentials())
            .endpoint_url(format!("http://{address}"))
            .build();
        Self { address, raw: Client::from_conf(config), runtime }
    }

    /// Waits for a call of the raw client.
    pub fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// A new key for the algorithm; its ARN.
    pub fn make_key(&self, algorithm: SignatureAlgorithm) -> String {
        let usage =
            if algorithm.is_mac() { KeyUsageType::GenerateVerifyMac } else { KeyUsageType::SignVerify };
        self.make(their_spec(algorithm), usage)
    }

    /// A new key of this kind and for this use; its ARN.
    pub fn make(&self, spec: KeySpec, usage: KeyUsageType) -> String {
        let made = self.wait(self.raw.create_key().key_spec(spec).key_usage(usage).send()).unwrap();
        made.key_metadata.unwrap().arn.unwrap()
    }

    /// Switches a key off.
    pub fn disable(&self, key: &str) {
        self.wait(self.raw.disable_key().key_id(key).send()).unwrap();
    }

    /// Switches it on again.
    pub fn enable(&self, key: &str) {
        self.wait(self.raw.enable_key().key_id(key).send()).unwrap();
    }

    /// The daemon's tables of a backend `cloud` with `sessions` calls at once, and one key in it by kid, ARN
    /// and algorithm, to be used with [`KmsAccount::lend`].
    pub fn tables(&self, sessions: usize, keys: &[(&str, &str, SignatureAlgorithm)]) -> String {
        let backend = format!(
            "\n[[backends]]\nname = \"cloud\"\nkind = \"aws-kms\"\nregion = \"us-east-1\"\n\
             endpoint_url = \"http://{}\"\nsessions = {sessions}\n\n",
            self.address
        );
        let key = |(kid, arn, algorithm): &(&str, &str, SignatureAlgorithm)| {
            format!(
                "[[keys]]\nkid = \"{kid}\"\nsigner_kid = \"{kid}-v1\"\nbackend = \"cloud\"\nlabel = \"{arn}\"\n\
                 algorithm = \"{}\"\npurpose = \"test\"\n\n",
                algorithm.as_str()
            )
        };
        backend + &keys.iter().map(key).collect::<String>()
    }

    /// Gives the daemons of this world the account's credentials, as the SDK looks for them.
    pub fn lend(&self, world: &mut World) {
        world.set_variable("AWS_ACCESS_KEY_ID", "test");
        world.set_variable("AWS_SECRET_ACCESS_KEY", "test");
        world.set_variable("AWS_EC2_METADATA_DISABLED", "true");
    }
}

impl OffSwitch for KmsAccount {
    fn off(&self, label: &str) {
        self.disable(label);
    }

    fn on(&self, label: &str) {
        self.enable(label);
    }
}

/// Nobody's: no imitation looks at them.
pub fn kms_credentials() -> SharedCredentialsProvider {
    let nobody = Credentials::builder().access_key_id("test").secret_access_key("test");
    SharedCredentialsProvider::new(nobody.provider_name("tests").build())
}

fn their_spec(algorithm: SignatureAlgorithm) -> KeySpec {
    match (algorithm.family(), algorithm.hash()) {
        (KeyFamily::Ed25519, _) => KeySpec::EccNistEdwards25519,
        (KeyFamily::P256, _) => KeySpec::EccNistP256,
        (KeyFamily::P384, _) => KeySpec::EccNistP384,
        (KeyFamily::Secp256k1, _) => KeySpec::EccSecgP256K1,
        (KeyFamily::Rsa, _) => KeySpec::Rsa2048,
        (KeyFamily::MlDsa44, _) => KeySpec::MlDsa44,
        (KeyFamily::MlDsa65, _) => KeySpec::MlDsa65,
        (KeyFamily::Secret, Some(HashAlgorithm::Sha384)) => KeySpec::Hmac384,
        (KeyFamily::Secret, Some(HashAlgorithm::Sha512)) => KeySpec::Hmac512,
        (KeyFamily::Secret, _) => KeySpec::Hmac256,
    }
}
