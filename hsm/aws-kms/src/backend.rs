//! KMS as a backend: opening keys, the probe, a key's birth.
//!
//! Opening a key uses none: the public half comes from `GetPublicKey`, a MAC key's kind from `DescribeKey`.
//! A role without `kms:DescribeKey` opens MAC keys as far as `GetPublicKey` can tell that they exist and are
//! not signing keys; what is wrong beyond that shows at the first use, since computing a MAC to find out
//! would be a use nobody asked for.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use aws_sdk_kms::operation::describe_key::DescribeKeyOutput;
use aws_sdk_kms::operation::get_public_key::GetPublicKeyOutput;
use aws_sdk_kms::types::{KeyMetadata, KeyState, KeyUsageType, OriginType};
use chancery_format::{PublicKey, SignatureAlgorithm};
use chancery_hsm::{Backend, Birth, Cost, Origin, SignerError, SignerHandle};

use crate::attempt::{Call, Service};
use crate::config::{KmsConfig, KmsFault};
use crate::failure::{Failure, Kind};
use crate::key::KmsKey;
use crate::limits::{LABEL_BYTES_MAX, OPEN_TIME};
use crate::names::{Wording, is_key_arn, wording};

/// What the probe asks for while no key is open. That it does not exist is an answer too.
const NOBODYS_KEY: &str = "alias/chancery-probe";

/// What KMS can be asked for. A region or an imitation may offer less; opening the key tells.
pub const ALGORITHMS: &[SignatureAlgorithm] = &SignatureAlgorithm::ALL;

/// The keys of one region; see [`Backend`].
#[derive(Debug)]
pub struct KmsBackend {
    name: String,
    sessions: usize,
    service: Arc<Service>,
    /// The first signing key that was opened, for the probe.
    probed: OnceLock<String>,
}

impl KmsBackend {
    /// Reads the SDK's configuration and prepares to call. Asks KMS nothing: a role may do nothing without
    /// naming a key.
    pub fn open(config: &KmsConfig) -> Result<Self, KmsFault> {
        let service = Arc::new(Service::start(config)?);
        Ok(Self { name: config.name.clone(), sessions: config.sessions, service, probed: OnceLock::new() })
    }

    fn public_key_of(&self, label: &str, deadline: Instant) -> Result<GetPublicKeyOutput, Failure> {
        let call = Call { operation: "GetPublicKey", label: label.to_owned(), uses_key: false };
        let key_id = label.to_owned();
        self.service.call(call, deadline, move |client| client.get_public_key().key_id(&key_id).send())
    }

    /// `None` if the role may not describe the key.
    fn describe(&self, label: &str, deadline: Instant) -> Result<Option<KeyMetadata>, Failure> {
        let call = Call { operation: "DescribeKey", label: label.to_owned(), uses_key: false };
        let key_id = label.to_owned();
        let described: Result<DescribeKeyOutput, Failure> =
            self.service.call(call, deadline, move |client| client.describe_key().key_id(&key_id).send());
        match described {
            Ok(answer) => Ok(answer.key_metadata),
            Err(failure) if failure.kind == Kind::Denied => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    fn open_signing_key(&self, label: &str, algorithm: SignatureAlgorithm) -> Result<KmsKey, Failure> {
        let found = self.public_key_of(label, Instant::now() + OPEN_TIME)?;
        let wrong =
            |what: &str| Failure::new(Kind::Refused, format!("\"{label}\" holds no {algorithm} key: {what}"));
        if found.key_usage != Some(KeyUsageType::SignVerify) {
            return Err(wrong("KMS does not use it for signatures"));
        }
        let Wording::Sign(theirs, _) = wording(algorithm) else { return Err(wrong("it has a public half")) };
        if !found.signing_algorithms().contains(&theirs) {
            return Err(wrong(&format!("KMS does not sign {} with it", theirs.as_str())));
        }
        let der = found.public_key().ok_or_else(|| wrong("KMS told no public key"))?;
        let public_key =
            PublicKey::from_der(algorithm, der.as_ref()).map_err(|error| wrong(&error.to_string()))?;
        let key_id = found.key_id.unwrap_or_else(|| label.to_owned());
        let _ = self.probed.set(key_id.clone()); // the first one stays
        Ok(self.key(label, algorithm, Some(public_key), Some(key_id)))
    }

    fn open_mac_key(&self, label: &str, algorithm: SignatureAlgorithm) -> Result<KmsKey, Failure> {
        let deadline = Instant::now() + OPEN_TIME;
        let wrong =
            |what: &str| Failure::new(Kind::Refused, format!("\"{label}\" holds no {algorithm} key: {what}"));
        let Some(metadata) = self.describe(label, deadline)? else {
            return match self.public_key_of(label, deadline) {
                Ok(_) => Err(wrong("it has a public half")),
                // It exists and has no public half, or we may not know.
                Err(failure) if matches!(failure.kind, Kind::Refused | Kind::Denied) => {
                    tracing::info!(label, "without kms:DescribeKey a MAC key's kind shows at its first use");
                    Ok(self.key(label, algorithm, None, None))
                }
                Err(failure) => Err(failure),
            };
        };
        let Wording::Mac(theirs) = wording(algorithm) else { return Err(wrong("it has no public half")) };
        if !metadata.mac_algorithms().contains(&theirs) {
            return Err(wrong(&format!("KMS does not compute {} with it", theirs.as_str())));
        }
        match metadata.key_state() {
            None | Some(KeyState::Enabled) => Ok(self.key(label, algorithm, None, metadata.arn)),
            Some(state) => {
                Err(Failure::new(Kind::Disabled, format!("\"{label}\": its state is {}", state.as_str())))
            }
        }
    }

    fn key(
        &self,
        label: &str,
        algorithm: SignatureAlgorithm,
        public_key: Option<PublicKey>,
        key_id: Option<String>,
    ) -> KmsKey {
        let key_id = key_id.map_or_else(OnceLock::new, OnceLock::from);
        KmsKey { service: Arc::clone(&self.service), label: label.to_owned(), algorithm, public_key, key_id }
    }
}

impl Backend for KmsBackend {
    fn name(&self) -> &str {
        &self.name
    }

    fn cost(&self) -> Cost {
        Cost::Blocking
    }

    fn sessions(&self) -> usize {
        self.sessions
    }

    fn open_key(
        &self,
        label: &str,
        algorithm: SignatureAlgorithm,
    ) -> Result<Arc<dyn SignerHandle>, SignerError> {
        if !(1..=LABEL_BYTES_MAX).contains(&label.len()) {
            return Err(SignerError::refused(format!("a key's label has 1 to {LABEL_BYTES_MAX} bytes")));
        }
        let opened = if algorithm.is_mac() {
            self.open_mac_key(label, algorithm)
        } else {
            self.open_signing_key(label, algorithm)
        };
        opened.map(|key| Arc::new(key) as Arc<dyn SignerHandle>).map_err(Failure::into_signer_error)
    }

    /// Reads the public key of the first signing key that was opened: KMS looks it up and answers, and no
    /// key is used. Where none was, or that key is gone or switched off, any answer in KMS's own words is a
    /// sign of life; only refused credentials are not.
    fn probe(&self, deadline: Instant) -> Result<(), SignerError> {
        let label = self.probed.get().map_or(NOBODYS_KEY, String::as_str);
        match self.public_key_of(label, deadline) {
            Ok(_) => Ok(()),
            Err(failure) if matches!(failure.kind, Kind::Missing | Kind::Disabled | Kind::Denied) => Ok(()),
            Err(failure) => Err(failure.into_signer_error()),
        }
    }

    fn algorithms(&self) -> &'static [SignatureAlgorithm] {
        ALGORITHMS
    }

    /// Told by `DescribeKey`. A role that may not ask learns nothing but the ARN, if that is the label.
    fn birth(&self, label: &str, _algorithm: SignatureAlgorithm) -> Result<Birth, SignerError> {
        let described =
            self.describe(label, Instant::now() + OPEN_TIME).map_err(Failure::into_signer_error)?;
        let (origin, serial) = match described {
            Some(metadata) => (origin_of(metadata.origin()), metadata.arn),
            None => (Origin::Unknown, is_key_arn(label).then(|| label.to_owned())),
        };
        Ok(Birth { origin, device: Some("aws-kms".to_owned()), serial, ..Birth::default() })
    }
}

/// A CloudHSM key store generates its keys inside; what an external key store does, KMS does not know.
fn origin_of(origin: Option<&OriginType>) -> Origin {
    match origin {
        Some(OriginType::AwsKms | OriginType::AwsCloudhsm) => Origin::Generated,
        Some(OriginType::External) => Origin::Imported,
        _ => Origin::Unknown,
    }
}
