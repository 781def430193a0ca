//! One key: signs and computes MACs.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{MacAlgorithmSpec, MessageType, SigningAlgorithmSpec};
use chancery_format::entry::KeyUse;
use chancery_format::{Digest, PublicKey, SignatureAlgorithm};
use chancery_hsm::{SealInput, SignerError, SignerHandle};

use crate::attempt::{Call, Service};
use crate::failure::{Failure, Kind};
use crate::limits::MESSAGE_BYTES_MAX;
use crate::names::{Wording, is_key_arn, same_key, wording};

/// A key in KMS; see [`SignerHandle`].
pub(crate) struct KmsKey {
    pub(crate) service: Arc<Service>,
    pub(crate) label: String,
    pub(crate) algorithm: SignatureAlgorithm,
    pub(crate) public_key: Option<PublicKey>,
    /// The key itself, as KMS named it; unknown for a MAC key nobody may describe, until its first use.
    pub(crate) key_id: OnceLock<String>,
}

impl SignerHandle for KmsKey {
    fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }

    fn public_key(&self) -> Option<&PublicKey> {
        self.public_key.as_ref()
    }

    /// KMS takes 1 to 4096 bytes where it hashes itself; anything else is refused here.
    fn sign(&self, input: SealInput<'_>, deadline: Instant) -> Result<Vec<u8>, SignerError> {
        if Instant::now() >= deadline {
            return Err(SignerError::Deadline(KeyUse::None));
        }
        let bytes = input.for_algorithm(self.algorithm)?;
        if !(1..=MESSAGE_BYTES_MAX).contains(&bytes.len()) {
            return Err(SignerError::WrongInput);
        }
        let message = Blob::new(bytes);
        let (used, result) = match wording(self.algorithm) {
            Wording::Sign(theirs, _) if matches!(input, SealInput::Digest(Digest::Mu(_))) => {
                self.signature(message, theirs, MessageType::ExternalMu, deadline)
            }
            Wording::Sign(theirs, kind) => self.signature(message, theirs, kind, deadline),
            Wording::Mac(theirs) => self.mac(message, theirs, deadline),
        }
        .map_err(Failure::into_signer_error)?;
        self.ensure_same_key(used.as_deref())?;
        match result {
            Some(bytes) => Ok(bytes.into_inner()),
            None => {
                Err(Failure::new(Kind::Transient, format!("\"{}\": an answer without result", self.label))
                    .with_use(KeyUse::Unknown)
                    .into_signer_error())
            }
        }
    }
}

/// The key KMS says it used, and what came out.
type Answer = (Option<String>, Option<Blob>);

impl KmsKey {
    fn signature(
        &self,
        message: Blob,
        theirs: SigningAlgorithmSpec,
        kind: MessageType,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let key_id = self.address();
        let answer = self.service.call(self.call("Sign"), deadline, move |client| {
            client
                .sign()
                .key_id(&key_id)
                .message(message.clone())
                .message_type(kind.clone())
                .signing_algorithm(theirs.clone())
                .send()
        })?;
        Ok((answer.key_id, answer.signature))
    }

    fn mac(&self, message: Blob, theirs: MacAlgorithmSpec, deadline: Instant) -> Result<Answer, Failure> {
        let key_id = self.address();
        let answer = self.service.call(self.call("GenerateMac"), deadline, move |client| {
            client
                .generate_mac()
                .key_id(&key_id)
                .message(message.clone())
                .mac_algorithm(theirs.clone())
                .send()
        })?;
        Ok((answer.key_id, answer.mac))
    }

    fn call(&self, operation: &'static str) -> Call {
        Call { operation, label: self.label.clone(), uses_key: true }
    }

    fn address(&self) -> String {
        self.key_id.get().unwrap_or(&self.label).clone()
    }

    /// A MAC has no public key that would show another key's work, so the key's own name must do: an alias
    /// moved to another key is found out.
    fn ensure_same_key(&self, used: Option<&str>) -> Result<(), SignerError> {
        let Some(used) = used.filter(|used| is_key_arn(used)) else { return Ok(()) };
        let known = self.key_id.get_or_init(|| used.to_owned());
        if same_key(known, used) {
            return Ok(());
        }
        tracing::error!(label = %self.label, opened = %known, used, "KMS used another key than the one opened");
        Err(SignerError::BadSignature)
    }
}
