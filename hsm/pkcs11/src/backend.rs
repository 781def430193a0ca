//! A token as a backend: the daemon's half. Every device call is a request to the worker.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use chancery_format::{PublicKey, SignatureAlgorithm};
use chancery_hsm::{Backend, Cost, KeyShape, SESSIONS_MAX, SealInput, SignerError, SignerHandle};

use crate::config::{NEXT_IN_LINE, Pkcs11Config, Pkcs11Error};
use crate::limits::OPEN_TIME;
use crate::message::{Input, Reply, Request};
use crate::parent::counters::Operations;
use crate::parent::link::Link;
use crate::provision::{ProvisionError, provision};
use crate::sandbox_report::SandboxReport;
use crate::selector::KeyAddress;

/// A token; see [`Backend`].
pub struct Pkcs11Backend {
    config: Pkcs11Config,
    link: Arc<Link>,
    next_number: AtomicUsize,
    /// Keys that were opened, for the probe.
    opened: Mutex<Vec<KeyAddress>>,
}

impl Pkcs11Backend {
    /// Starts the worker, which loads the module, finds the token and logs in.
    pub fn open(config: &Pkcs11Config) -> Result<Self, Pkcs11Error> {
        let failed = |source| Pkcs11Error { token: config.token.to_string(), source };
        let refused = |cause: String| failed(SignerError::Refused { cause });
        if !(1..=SESSIONS_MAX).contains(&config.sessions) {
            return Err(refused(format!("sessions must be 1 to {SESSIONS_MAX}")));
        }
        if !config.token.names_a_token() {
            return Err(refused("name the token by its label, serial number or slot".to_owned()));
        }
        let link = Arc::new(Link::start(config, false).map_err(failed)?);
        let deadline = Instant::now() + OPEN_TIME;
        match link.call(Request::WarmUp, None, Some(deadline), OPEN_TIME).map_err(failed)? {
            Reply::Done => {}
            Reply::Failed(error) => return Err(failed(error)),
            _ => return Err(failed(confused())),
        }
        Ok(Self { config: config.clone(), link, next_number: AtomicUsize::new(0), opened: Mutex::default() })
    }

    /// Generates a key inside the token: sensitive, never extractable, able to sign and nothing else.
    ///
    /// Done by a worker of its own that may write files; the one that signs is then started anew, since
    /// some modules look at their store only once.
    pub fn generate_key(&self, label: &str, shape: KeyShape) -> Result<(), ProvisionError> {
        provision(&self.config, Request::Generate(label.to_owned(), shape))?;
        self.link.renew();
        Ok(())
    }

    /// What keeps the worker in, as it reported when it was started last.
    pub fn sandbox(&self) -> SandboxReport {
        self.link.sandbox()
    }

    /// How often each key was used, by its label as configured, since this backend was opened.
    ///
    /// Counted by our own worker around C_Sign, not by the token: no module tried keeps such a count. A
    /// use by anybody else does not show here.
    pub fn operation_counters(&self) -> BTreeMap<String, Operations> {
        self.link.operations()
    }

    /// The worker's process id; `None` while there is none.
    pub fn worker_pid(&self) -> Option<u32> {
        self.link.pid()
    }

    /// For tests of the fence: lets the worker try what it must not be able to do, `write` to this file
    /// among it. By name: whether it could.
    #[doc(hidden)]
    pub fn try_fence(&self, file: &std::path::Path) -> Result<BTreeMap<String, bool>, SignerError> {
        let request = |_| Request::TryFence(file.to_owned());
        match self.link.call(request, None, Some(Instant::now() + OPEN_TIME), OPEN_TIME)? {
            Reply::Fence(found) => Ok(found.into_iter().collect()),
            Reply::Failed(error) => Err(error),
            _ => Err(confused()),
        }
    }
}

fn confused() -> SignerError {
    SignerError::unavailable("the worker gave another answer than was asked for")
}

impl Backend for Pkcs11Backend {
    fn name(&self) -> &str {
        &self.config.name
    }

    fn cost(&self) -> Cost {
        Cost::Blocking
    }

    fn sessions(&self) -> usize {
        self.config.sessions.saturating_add(NEXT_IN_LINE)
    }

    fn operation_counts(&self) -> Option<BTreeMap<String, u64>> {
        let counts = self.operation_counters().into_iter();
        Some(counts.map(|(label, operations)| (label, operations.succeeded)).collect())
    }

    fn open_key(
        &self,
        label: &str,
        algorithm: SignatureAlgorithm,
    ) -> Result<Arc<dyn SignerHandle>, SignerError> {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let refused = |cause: String| SignerError::Refused { cause };
        let address = KeyAddress::parse(number, label, algorithm, &self.config.token)
            .map_err(|error| refused(format!("key \"{label}\": {error}")))?;
        let request = |_| Request::OpenKey(address.clone());
        let found = match self.link.call(request, None, Some(Instant::now() + OPEN_TIME), OPEN_TIME)? {
            Reply::Key(found) => found,
            Reply::Failed(error) => return Err(error),
            _ => return Err(confused()),
        };
        let public_key = match found {
            Some(_) if algorithm.is_mac() => return Err(confused()),
            None if !algorithm.is_mac() => return Err(confused()),
            Some(der) => {
                Some(PublicKey::from_der(algorithm, &der).map_err(|error| refused(error.to_string()))?)
            }
            None => None,
        };
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).push(address.clone());
        Ok(Arc::new(Pkcs11Key { link: Arc::clone(&self.link), address, public_key }))
    }

    fn algorithms(&self) -> &'static [SignatureAlgorithm] {
        ALGORITHMS
    }

    /// Finds every opened key on the token and lets the token compute a MAC with a key made for the
    /// occasion, which lives and dies in the session. A token that cannot make one is believed after the
    /// search alone.
    fn probe(&self, deadline: Instant) -> Result<(), SignerError> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let request = |left| Request::Probe(opened.clone(), left);
        match self.link.call(request, None, Some(deadline), self.config.launch.stuck_after)? {
            Reply::Done => Ok(()),
            Reply::Failed(error) => Err(error),
            _ => Err(confused()),
        }
    }
}

/// A key as the keyring holds it.
struct Pkcs11Key {
    link: Arc<Link>,
    address: KeyAddress,
    public_key: Option<PublicKey>,
}

impl SignerHandle for Pkcs11Key {
    fn algorithm(&self) -> SignatureAlgorithm {
        self.address.algorithm
    }

    fn public_key(&self) -> Option<&PublicKey> {
        self.public_key.as_ref()
    }

    fn sign(&self, input: SealInput<'_>, deadline: Instant) -> Result<Vec<u8>, SignerError> {
        input.for_algorithm(self.address.algorithm)?;
        let input = Input::of(input);
        let request = |left| Request::Sign(self.address.clone(), input.clone(), left);
        let stuck_after = self.link.stuck_after();
        match self.link.call(request, Some(&self.address.label), Some(deadline), stuck_after)? {
            Reply::Signed(signature) => Ok(signature),
            Reply::Failed(error) => Err(error),
            _ => Err(confused()),
        }
    }
}

/// What a PKCS#11 token can be asked for. A token may offer less; opening the key tells.
pub const ALGORITHMS: &[SignatureAlgorithm] = &[
    SignatureAlgorithm::Ed25519,
    SignatureAlgorithm::EcdsaP256Sha256,
    SignatureAlgorithm::EcdsaP384Sha384,
    SignatureAlgorithm::EcdsaSecp256k1Sha256,
    SignatureAlgorithm::RsaSha256,
    SignatureAlgorithm::RsaSha384,
    SignatureAlgorithm::RsaSha512,
    SignatureAlgorithm::RsaPssSha256,
    SignatureAlgorithm::RsaPssSha384,
    SignatureAlgorithm::RsaPssSha512,
    SignatureAlgorithm::HmacSha256,
    SignatureAlgorithm::HmacSha384,
    SignatureAlgorithm::HmacSha512,
];
