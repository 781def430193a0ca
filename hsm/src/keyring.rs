//! The keyring: which keys there are, and the only way to use one.
//!
//! [`Keyring::seal`] is hop 7 of a request. It takes a [`DurableIntent`], so no key is used that the
//! ledger does not already know about, and returns an [`Outcome`] whatever happens: a refusal, a dead
//! device and a wrong signature are outcomes too and are enrolled like any other. Signature bytes go into
//! the outcome only after they verified against the registered public key, and cannot be read from it.
//!
//! A MAC has no public key to verify with. Its self-check is recomputation: the device is asked twice
//! and both answers must agree and have the right length, which catches a device that computes wrongly
//! now and then but not one that uses another secret all the time.
//!
//! It refuses: two keys under one name, a device whose public key is not the registered one, the ledger's
//! keys for anything but the ledger's own notes and heads, and every request while the kill switch is pulled.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use chancery_format::checkpoint::Checkpoint;
use chancery_format::cose::{CoseAlgorithm, CoseReceipt, CoseStatement};
use chancery_format::cosignature::{CosignedAt, CosignerKey};
use chancery_format::entry::{Intent, KeyUse, Operation, SignatureBytes};
use chancery_format::ledger_keys::LedgerKeys;
use chancery_format::log_key::LogKey;
use chancery_format::note::{self, NoteVerifier};
use chancery_format::public_key::lower_s_secp256k1;
use chancery_format::{
    ConfirmedHead, Digest, DurableIntent, Hash, Kid, Origin, Outcome, PrincipalName, PublicKey,
    SignatureAlgorithm,
};

use crate::birth::Birth;
use crate::builder::{self, KeySpec, KeyringBuilder, KeyringError};
use crate::device_log::DeviceLog;
use crate::fair_queue::Flow;
use crate::health::BackendHealth;
use crate::kill_switch::KillSwitch;
use crate::self_check::{SelfCheck, Together};
use crate::shelf::Shelf;
use crate::signer::{SealInput, SignerError, SignerHandle};
use crate::switched::KeySwitches;
use crate::workers::{Lane, OwnedInput};

/// What is publicly known of a key.
#[derive(Debug, Clone)]
pub struct KeyInfo {
    /// The name callers use.
    pub kid: Kid,
    /// The key pair's own name, for ever.
    pub signer_kid: Kid,
    /// What it does.
    pub algorithm: SignatureAlgorithm,
    /// What the operator says it is for.
    pub purpose: String,
    /// Free text for people.
    pub description: String,
    /// Name of the backend that holds it.
    pub backend: String,
    /// The public half; `None` for a MAC key.
    pub public_key: Option<PublicKey>,
    /// What its backend calls it.
    pub label: String,
    /// What its device said of its birth, asked when it was not registered yet.
    pub birth: Birth,
}

impl KeyInfo {
    /// The one operation the key offers.
    pub const fn operation(&self) -> Operation {
        if self.algorithm.is_mac() { Operation::Mac } else { Operation::Sign }
    }
}

/// A key with all that using it takes.
pub(crate) struct Key {
    pub(crate) info: Arc<KeyInfo>,
    pub(crate) handle: Arc<dyn SignerHandle>,
    pub(crate) lane: Arc<Lane>,
    /// `None` exactly for MAC keys.
    pub(crate) check: Option<SelfCheck>,
    /// For Ed25519 keys that live in this process.
    pub(crate) together: Option<Together>,
    /// Stop this key alone; its handle asks them too.
    pub(crate) switches: KeySwitches,
}

/// All keys of the appliance. Made by [`Keyring::builder`]; shared by reference.
pub struct Keyring {
    pub(crate) shelf: ArcSwap<Shelf>,
    pub(crate) lanes: Vec<Arc<Lane>>,
    pub(crate) switch: Arc<KillSwitch>,
    /// Held by whoever changes the shelf.
    pub(crate) changing: Mutex<()>,
}

impl Keyring {
    /// Starts a keyring.
    pub fn builder() -> KeyringBuilder {
        KeyringBuilder::new()
    }

    /// The key callers know as `kid`.
    pub fn lookup(&self, kid: &Kid) -> Option<Arc<KeyInfo>> {
        self.shelf.load().by_kid.get(kid).map(|key| Arc::clone(&key.info))
    }

    /// The key pair named `signer_kid`, whether or not callers can ask for it.
    pub fn lookup_signer(&self, signer_kid: &Kid) -> Option<Arc<KeyInfo>> {
        self.shelf.load().by_signer_kid.get(signer_kid).map(|key| Arc::clone(&key.info))
    }

    /// Every key pair, in no particular order: those callers can ask for, and those staged or being replaced.
    pub fn keys(&self) -> Vec<Arc<KeyInfo>> {
        self.shelf.load().by_signer_kid.values().map(|key| Arc::clone(&key.info)).collect()
    }

    /// The key that signs checkpoints.
    pub fn ledger_key(&self) -> Option<Arc<KeyInfo>> {
        self.shelf.load().ledger.as_ref().map(|key| Arc::clone(&key.info))
    }

    /// Whether the key signs checkpoints, and so nothing else.
    pub fn signs_checkpoints(&self, kid: &Kid) -> bool {
        self.shelf.load().is_ledgers(kid)
    }

    /// Opens one more key pair. Callers cannot ask for it before [`Keyring::promote`]. Talks to a device: not
    /// for async threads.
    pub fn add(&self, spec: KeySpec) -> Result<Arc<KeyInfo>, KeyringError> {
        let key = Arc::new(builder::open_key(&self.lanes, spec, true)?);
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut shelf = Shelf::clone(&self.shelf.load());
        if shelf.by_signer_kid.contains_key(&key.info.signer_kid) {
            return Err(KeyringError::DuplicateSignerKid(key.info.signer_kid.clone()));
        }
        let info = Arc::clone(&key.info);
        shelf.put(key, false);
        self.shelf.store(Arc::new(shelf));
        Ok(info)
    }

    /// Gives a key pair's `kid` to it: callers get it from now on, in one step. What was admitted before still
    /// finds the pair it was admitted for. `false` if there is no such pair.
    pub fn promote(&self, signer_kid: &Kid) -> bool {
        self.change(|shelf| shelf.promote(signer_kid))
    }

    /// Closes a key pair. `false` if callers can still ask for it, or if there is none of that name.
    pub fn remove(&self, signer_kid: &Kid) -> bool {
        self.change(|shelf| shelf.remove(signer_kid))
    }

    fn change(&self, change: impl FnOnce(&mut Shelf) -> bool) -> bool {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut shelf = Shelf::clone(&self.shelf.load());
        let changed = change(&mut shelf);
        if changed {
            self.shelf.store(Arc::new(shelf));
        }
        changed
    }

    fn current(&self, kid: &Kid) -> Result<Arc<Key>, SignerError> {
        self.shelf.load().by_kid.get(kid).map(Arc::clone).ok_or(SignerError::UnknownKey)
    }

    /// The switch that stops every key but the ledger's.
    pub fn kill_switch(&self) -> &Arc<KillSwitch> {
        &self.switch
    }

    /// Whether a request for `kid` that came now would reach its device, as far as one can tell without
    /// asking it: the cheap look at admission, so that a dead device answers at once. For a caller nobody
    /// names: a full queue is full for it.
    pub fn available(&self, kid: &Kid) -> Result<(), SignerError> {
        self.look(kid, None)
    }

    /// [`Keyring::available`] for a principal: a full queue still has room for it if another caller has more
    /// than its share of the places.
    pub fn available_to(&self, principal: &PrincipalName, kid: &Kid) -> Result<(), SignerError> {
        self.look(kid, Some(Flow::of(principal)))
    }

    fn look(&self, kid: &Kid, flow: Option<Flow>) -> Result<(), SignerError> {
        if self.switch.is_halted() {
            return Err(SignerError::Halted);
        }
        let key = self.current(kid)?;
        key.check_not_halted()?;
        key.lane.look(flow)
    }

    /// Halts one key pair for as long as this process lives: no use of it begins after this returns. For a key
    /// that somebody else seems to use. `false` if there is none of that name.
    pub fn halt_key(&self, signer_kid: &Kid, reason: &str) -> bool {
        self.pull(signer_kid, reason, |switches| &switches.alarm)
    }

    /// The same because people say so, until they say otherwise: see [`Keyring::resume_key`].
    pub fn halt_key_by_order(&self, signer_kid: &Kid, reason: &str) -> bool {
        self.pull(signer_kid, reason, |switches| &switches.order)
    }

    /// Ends [`Keyring::halt_key_by_order`], and nothing else.
    pub fn resume_key(&self, signer_kid: &Kid) {
        if let Some(key) = self.shelf.load().by_signer_kid.get(signer_kid) {
            key.switches.order.resume();
        }
    }

    fn pull(&self, signer_kid: &Kid, reason: &str, which: impl Fn(&KeySwitches) -> &Arc<KillSwitch>) -> bool {
        let shelf = self.shelf.load();
        let key = shelf.by_signer_kid.get(signer_kid);
        if let Some(key) = key {
            // Pulled when this returns; uses under way are not waited for.
            drop(which(&key.switches).halt(reason, Duration::ZERO));
        }
        key.is_some()
    }

    /// The backends that keep a record of their own, by name.
    pub fn device_logs(&self) -> Vec<(String, Arc<dyn DeviceLog>)> {
        let log = |lane: &Arc<Lane>| Some((lane.backend.name().to_owned(), lane.backend.device_log()?));
        self.lanes.iter().filter_map(log).collect()
    }

    /// Uses counted by the backends that count them: by backend, then by label.
    pub fn operation_counts(&self) -> BTreeMap<String, BTreeMap<String, u64>> {
        let counts =
            |lane: &Arc<Lane>| Some((lane.backend.name().to_owned(), lane.backend.operation_counts()?));
        self.lanes.iter().filter_map(counts).collect()
    }

    /// How each backend is doing, in the order they were added.
    pub fn health(&self) -> Vec<BackendHealth> {
        self.lanes.iter().map(|lane| lane.health()).collect()
    }

    /// Asks every backend for a sign of life, one after the other, without using a key of this ring.
    /// Ends outages that are over; the results show in [`Keyring::health`].
    pub async fn probe(&self, each: std::time::Duration) {
        for lane in &self.lanes {
            // The lane records the result.
            let _ = lane.probe(Instant::now() + each).await;
        }
    }

    /// Uses the key an intent names, once. Always returns an outcome, at the latest a little after
    /// `deadline`.
    ///
    /// `message` is what a MAC key authenticates, or what is signed where the intent says so; its SHA-256 must be
    /// the intent's digest. Without one a MAC key authenticates the digest's bytes. Dropping the future takes back
    /// what no device thread has begun. Principals take turns at a device, each in order of arrival.
    pub async fn seal(&self, intent: DurableIntent, message: Option<Vec<u8>>, deadline: Instant) -> Outcome {
        let intent = intent.into_intent();
        let flow = Flow::of(&intent.parts().principal);
        let (signature, co_signature) = match self.prepare(&intent, message) {
            Ok(Uses { key, input, second: None }) => (key.sign_checked(input, deadline, flow).await, None),
            Ok(Uses { key, input, second: Some((second, again)) }) => {
                let both = tokio::join!(
                    key.sign_checked(input, deadline, flow),
                    second.sign_checked(again, deadline, flow),
                );
                (both.0, Some(both.1))
            }
            Err(error) => (Err(error), None),
        };
        match (signature, co_signature) {
            (Ok(signature), None) => Outcome::signed(intent, SignatureBytes::new(signature), None),
            (Ok(signature), Some(Ok(second))) => {
                let second = SignatureBytes::new(second);
                Outcome::signed(intent, SignatureBytes::new(signature), Some(second))
            }
            // One key was used, and its signature dies here: both or neither is released.
            (Ok(_), Some(Err(error))) | (Err(error), Some(Ok(_))) => {
                Outcome::failed(intent, error.failure_code(), KeyUse::Unknown)
            }
            (Err(error), None) => Outcome::failed(intent, error.failure_code(), error.key_use()),
            (Err(error), Some(Err(second))) => {
                let used = [error.key_use(), second.key_use()].contains(&KeyUse::Unknown);
                let key_use = if used { KeyUse::Unknown } else { KeyUse::None };
                Outcome::failed(intent, error.failure_code(), key_use)
            }
        }
    }

    /// Lets a key pair that callers cannot ask for yet sign a digest that nobody asked for, to see that it works.
    /// That it is about to is on the ledger already.
    pub async fn try_staged(
        &self,
        signer_kid: &Kid,
        digest: Digest,
        deadline: Instant,
    ) -> Result<Vec<u8>, SignerError> {
        let key = {
            let shelf = self.shelf.load();
            let key = shelf.by_signer_kid.get(signer_kid).ok_or(SignerError::UnknownKey)?;
            if shelf.by_kid.get(&key.info.kid).is_some_and(|current| Arc::ptr_eq(current, key)) {
                return Err(SignerError::WrongInput);
            }
            Arc::clone(key)
        };
        key.sign_checked(OwnedInput::Digest(digest), deadline, Flow::Trial).await
    }

    /// Finds the keys and what they sign, before any is used.
    fn prepare(&self, intent: &Intent, message: Option<Vec<u8>>) -> Result<Uses, SignerError> {
        if self.switch.is_halted() {
            return Err(SignerError::Halted);
        }
        let parts = intent.parts();
        let key = self.key_of(&parts.kid, &parts.signer_kid, parts.algorithm, parts.operation)?;
        let input = input_of(intent, message)?;
        let second = match &parts.co_signer {
            Some(second) if parts.operation != Operation::Mac => {
                let operation = parts.operation;
                let key = self.key_of(&second.kid, &second.signer_kid, second.algorithm, operation)?;
                Some((key, input.duplicate()))
            }
            Some(_) => return Err(SignerError::WrongInput),
            None => None,
        };
        Ok(Uses { key, input, second })
    }

    fn key_of(
        &self,
        kid: &Kid,
        signer_kid: &Kid,
        algorithm: SignatureAlgorithm,
        operation: Operation,
    ) -> Result<Arc<Key>, SignerError> {
        let shelf = self.shelf.load();
        let key = shelf.by_signer_kid.get(signer_kid).ok_or(SignerError::UnknownKey)?;
        if key.info.kid != *kid {
            return Err(SignerError::UnknownKey);
        }
        key.check_not_halted()?;
        if shelf.is_ledgers(&key.info.kid) {
            return Err(SignerError::LedgerKey);
        }
        if key.info.algorithm != algorithm || !operation.is_by(algorithm) {
            return Err(SignerError::WrongInput);
        }
        Ok(Arc::clone(key))
    }

    /// Signs the checkpoint of a tree head that is on disk and to which two ways lead, with the ledger key, and with
    /// the second one beside it if there is one: both or none. Goes on while signing is halted: what happened must stay
    /// provable. `at` is the time that the second signature states.
    pub async fn sign_checkpoint(
        &self,
        head: &ConfirmedHead,
        origin: &Origin,
        at: CosignedAt,
        deadline: Instant,
    ) -> Result<String, SignerError> {
        let checkpoint = Checkpoint::new(origin.clone(), head.head());
        let text = checkpoint.text();
        let note = self.sign_note_text(&text, origin, deadline);
        let second = self.shelf.load().second.as_ref().map(Arc::clone);
        let Some(second) = second else { return note.await };
        let cosigner = cosigner_of(&second.info, origin).ok_or(SignerError::WrongInput)?;
        let input = OwnedInput::Message(cosigner.message(&checkpoint, at).into());
        let (note, signature) = tokio::join!(note, second.sign_checked(input, deadline, Flow::Ledger));
        let line = cosigner.line(at, &signature?).map_err(|_| SignerError::BadSignature)?;
        Ok(note? + &line)
    }

    /// Signs the same of such a head for COSE receipts (RFC 9942), with the same key and whatever is halted: once for a
    /// head, not for each entry. Gives the consistency receipt of the tree with itself.
    pub async fn sign_cose_head(
        &self,
        head: &ConfirmedHead,
        origin: &Origin,
        deadline: Instant,
    ) -> Result<CoseReceipt, SignerError> {
        let key = self.shelf.load().ledger.as_ref().map(Arc::clone).ok_or(SignerError::UnknownKey)?;
        if verifier_of(&key.info, origin).is_none() {
            return Err(SignerError::WrongInput);
        }
        let head = head.head();
        let statement = CoseStatement::of_head(CoseAlgorithm::EdDsa, origin.clone(), head.size);
        let input = OwnedInput::Message(statement.to_be_signed(&head.root).into());
        let signature = key.sign_checked(input, deadline, Flow::Ledger).await?;
        Ok(statement.signed(signature))
    }

    /// Signs the text of a note (it ends with a newline) with the ledger key, under the origin's name:
    /// checkpoints and the published registry. Nothing a caller sends may reach this function.
    pub async fn sign_note_text(
        &self,
        text: &str,
        origin: &Origin,
        deadline: Instant,
    ) -> Result<String, SignerError> {
        let key = self.shelf.load().ledger.as_ref().map(Arc::clone).ok_or(SignerError::UnknownKey)?;
        let verifier = self.note_verifier(origin).ok_or(SignerError::WrongInput)?;
        let input = OwnedInput::Message(text.as_bytes().into());
        let signature = key.sign_checked(input, deadline, Flow::Ledger).await?;
        let signature = signature.as_slice().try_into().map_err(|_| SignerError::BadSignature)?;
        note::assemble(text, &verifier, signature).map_err(|_| SignerError::WrongInput)
    }

    /// Lets the ledger key and the staged one that is to follow it sign a note together, under the origin's name.
    /// Nothing a caller sends may reach this function.
    pub async fn sign_continuity(
        &self,
        staged: &Kid,
        text: &str,
        origin: &Origin,
        deadline: Instant,
    ) -> Result<String, SignerError> {
        let (old, new) = {
            let shelf = self.shelf.load();
            let old = shelf.ledger.as_ref().ok_or(SignerError::UnknownKey)?;
            let new = shelf.by_signer_kid.get(staged).ok_or(SignerError::UnknownKey)?;
            if old.info.kid != new.info.kid || Arc::ptr_eq(old, new) {
                return Err(SignerError::WrongInput);
            }
            (Arc::clone(old), Arc::clone(new))
        };
        let mut signatures = Vec::with_capacity(2);
        for key in [old, new] {
            let verifier = verifier_of(&key.info, origin).ok_or(SignerError::WrongInput)?;
            let input = OwnedInput::Message(text.as_bytes().into());
            let signature = key.sign_checked(input, deadline, Flow::Ledger).await?;
            let signature: [u8; 64] = signature.try_into().map_err(|_| SignerError::BadSignature)?;
            signatures.push((verifier, signature));
        }
        let signatures: Vec<_> = signatures.iter().map(|(key, signature)| (key, signature)).collect();
        note::assemble_all(text, &signatures).map_err(|_| SignerError::WrongInput)
    }

    /// How auditors verify the Ed25519 notes of a key pair, as the ledger's key; `None` if it is of another algorithm.
    pub fn note_verifier_of(&self, signer_kid: &Kid, origin: &Origin) -> Option<NoteVerifier> {
        verifier_of(&*self.lookup_signer(signer_kid)?, origin)
    }

    /// How auditors verify checkpoints by a key pair, as one of the ledger's; `None` if it cannot be one.
    pub fn log_key_of(&self, signer_kid: &Kid, origin: &Origin) -> Option<LogKey> {
        let info = self.lookup_signer(signer_kid)?;
        let note = verifier_of(&info, origin).map(LogKey::Ed25519);
        note.or_else(|| cosigner_of(&info, origin).map(LogKey::MlDsa44))
    }

    /// How auditors verify the ledger key's notes; `None` without an Ed25519 ledger key.
    pub fn note_verifier(&self, origin: &Origin) -> Option<NoteVerifier> {
        verifier_of(&*self.ledger_key()?, origin)
    }

    /// How auditors verify the checkpoints that are signed now; `None` without an Ed25519 ledger key.
    pub fn ledger_keys(&self, origin: &Origin) -> Option<LedgerKeys> {
        let shelf = self.shelf.load();
        let first = verifier_of(&shelf.ledger.as_ref()?.info, origin)?;
        let second = match &shelf.second {
            Some(key) => Some(cosigner_of(&key.info, origin)?),
            None => None,
        };
        Some(LedgerKeys::of_signers(origin.clone(), first, second))
    }

    /// Whether a signature is the key's over the digest. Uses the public key; never the device.
    pub fn verify(&self, kid: &Kid, digest: &Digest, signature: &[u8]) -> Result<bool, SignerError> {
        let key = self.current(kid)?;
        let check = key.check.as_ref().ok_or(SignerError::WrongInput)?;
        Ok(check.holds(SealInput::Digest(digest), signature))
    }

    /// Whether a MAC is the key's over the message. The device recomputes it, since only it has the
    /// secret; the comparison takes the same time wherever the two differ. Nothing but the answer leaves,
    /// so no intent is needed, but the kill switch holds. For a caller nobody names.
    pub async fn mac_verify(
        &self,
        kid: &Kid,
        message: MacMessage,
        mac: &[u8],
        deadline: Instant,
    ) -> Result<bool, SignerError> {
        self.mac_verify_in(Flow::Unnamed, kid, message, mac, deadline).await
    }

    /// [`Keyring::mac_verify`] in the turn of a principal.
    pub async fn mac_verify_for(
        &self,
        principal: &PrincipalName,
        kid: &Kid,
        message: MacMessage,
        mac: &[u8],
        deadline: Instant,
    ) -> Result<bool, SignerError> {
        self.mac_verify_in(Flow::of(principal), kid, message, mac, deadline).await
    }

    async fn mac_verify_in(
        &self,
        flow: Flow,
        kid: &Kid,
        message: MacMessage,
        mac: &[u8],
        deadline: Instant,
    ) -> Result<bool, SignerError> {
        let key = self.current(kid)?;
        key.check_not_halted()?;
        if !key.info.algorithm.is_mac() {
            return Err(SignerError::WrongInput);
        }
        let input = match message {
            MacMessage::Message(message) => OwnedInput::Message(message.into()),
            MacMessage::Digest(digest) => OwnedInput::Digest(digest),
        };
        let expected = key.lane.sign(&key.handle, input, deadline, flow).await?;
        Ok(Some(expected.len()) == key.info.algorithm.signature_bytes() && same(&expected, mac))
    }
}

fn cosigner_of(info: &KeyInfo, origin: &Origin) -> Option<CosignerKey> {
    let cosigner = CosignerKey::new(origin.as_str(), info.public_key.clone()?).ok();
    cosigner.filter(CosignerKey::is_ml_dsa)
}

fn verifier_of(info: &KeyInfo, origin: &Origin) -> Option<NoteVerifier> {
    NoteVerifier::new(origin.as_str(), &info.public_key.as_ref()?.ed25519_raw()?).ok()
}

/// What one intent uses.
struct Uses {
    key: Arc<Key>,
    input: OwnedInput,
    /// The co-signer, and the same input again.
    second: Option<(Arc<Key>, OwnedInput)>,
}

/// What a MAC is over.
#[derive(Debug, Clone)]
pub enum MacMessage {
    /// The message itself.
    Message(Vec<u8>),
    /// The bytes of a digest, as the message.
    Digest(Digest),
}

impl Key {
    fn check_not_halted(&self) -> Result<(), SignerError> {
        self.switches.check()
    }

    /// Uses the key and verifies what came back; only verified bytes get out.
    pub(crate) async fn sign_checked(
        &self,
        input: OwnedInput,
        deadline: Instant,
        flow: Flow,
    ) -> Result<Vec<u8>, SignerError> {
        let again = input.duplicate();
        let algorithm = self.info.algorithm;
        let mut signature = self.lane.sign(&self.handle, input, deadline, flow).await?;
        if algorithm == SignatureAlgorithm::EcdsaSecp256k1Sha256 {
            // What is no signature stays as it is and fails below.
            signature = lower_s_secp256k1(&signature).unwrap_or(signature);
        }
        let holds = match (&self.check, &self.together, &again) {
            (Some(check), Some(together), OwnedInput::Digest(Digest::Sha256(digest))) => {
                together.holds(check, *digest, &signature).await
            }
            (Some(check), ..) => check.holds(again.borrow(), &signature),
            (None, ..) => {
                let repeated = self.lane.sign(&self.handle, again, deadline, flow).await;
                let repeated = repeated.map_err(after_first_use)?;
                Some(signature.len()) == algorithm.signature_bytes() && same(&signature, &repeated)
            }
        };
        if holds {
            return Ok(signature);
        }
        let error = SignerError::BadSignature;
        self.lane.pulse.record_failure(&error);
        tracing::error!(
            signer_kid = %self.info.signer_kid,
            backend = %self.info.backend,
            "a device returned a signature that does not verify; nothing was released"
        );
        Err(error)
    }
}

/// The first computation used the key, so a failure of the second cannot say it was not.
fn after_first_use(error: SignerError) -> SignerError {
    match error {
        SignerError::Unavailable { cause, .. } => {
            SignerError::Unavailable { cause, key_use: KeyUse::Unknown }
        }
        SignerError::Deadline(_) => SignerError::Deadline(KeyUse::Unknown),
        SignerError::Halted
        | SignerError::Busy
        | SignerError::KeyMissing { .. }
        | SignerError::KeyDisabled { .. }
        | SignerError::Refused { .. } => SignerError::Unavailable {
            cause: format!("self-check of a MAC could not run: {error}"),
            key_use: KeyUse::Unknown,
        },
        other => other,
    }
}

fn input_of(intent: &Intent, message: Option<Vec<u8>>) -> Result<OwnedInput, SignerError> {
    let parts = intent.parts();
    match (parts.operation, message) {
        (Operation::Sign | Operation::Mac, None) => Ok(OwnedInput::Digest(parts.digest)),
        (Operation::Sign, Some(_)) | (Operation::SignMessage, None) => Err(SignerError::WrongInput),
        (Operation::SignMessage | Operation::Mac, Some(message)) => {
            // What the ledger recorded must be what the key is applied to.
            let recorded = Hash::of(&[&message]).0.as_slice() == parts.digest.as_bytes();
            recorded.then(|| OwnedInput::Message(message.into())).ok_or(SignerError::WrongInput)
        }
    }
}

/// Equality in time that depends on the lengths alone.
fn same(a: &[u8], b: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a, b).is_ok()
}
