//! One key pair after another behind the same name.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chancery_format::entry::Operation;
use chancery_format::governance::{
    Act, Continued, Event, RotationApplied, RotationRequested, RotationStep, State, Tested, Testing,
    continuity_text, hand_over_text, test_text,
};
use chancery_format::registry::{KeyState, SignerRecord};
use chancery_format::{Digest, Hash, HashAlgorithm, Kid, SignatureAlgorithm, Timestamp};

use super::super::succession::successor;
use super::{ARCHIVE_WAIT, Lifecycle, LifecycleError};
use crate::admission::{KeyUseRequest, Permit, policy::Grants};
use crate::chancery::KeyEntry;
use crate::config::KeyConfig;
use crate::registry_publisher::{self, new_key};
use crate::signing;

/// Between the look that a request was admitted by and its intent there is less than this.
const SETTLE: Duration = Duration::from_secs(1);

/// Longest wait for uses of the old key that are under way when it is retired.
const DRAIN_WAIT: Duration = Duration::from_secs(30);

const HOUR_MS: i64 = 3_600_000;

/// What is to replace what.
#[derive(Debug, Clone)]
pub struct RotateAsk {
    /// The name.
    pub kid: Kid,
    /// The key pair to come.
    pub to: Kid,
    /// The backend that holds it; `None`: the one of the present key.
    pub backend: Option<String>,
    /// What its backend calls it; `None`: as the key pair.
    pub label: Option<String>,
    /// How long the old key stays valid, in hours.
    pub overlap_hours: u32,
}

impl Lifecycle {
    /// The complete act of a request: every choice made, so that approvers see what will happen. Opens the new
    /// key to see that it is there; nobody can use it.
    pub async fn rotation_asked(&self, ask: &RotateAsk) -> Result<Act, LifecycleError> {
        let current =
            self.chancery.key(&ask.kid).ok_or_else(|| LifecycleError::UnknownKey(ask.kid.clone()))?;
        let configured = self.configured(&ask.kid)?;
        let published = self.chancery.registry.load_full();
        if published.registry.signer(ask.to.as_str()).is_some() {
            let words = format!("{} was published before: a new key needs a new name", ask.to);
            return Err(LifecycleError::WrongState(words));
        }
        let key = KeyConfig {
            signer_kid: ask.to.clone(),
            backend: ask.backend.clone().unwrap_or_else(|| configured.backend.clone()),
            label: ask.label.clone().unwrap_or_else(|| ask.to.as_str().to_owned()),
            ..configured.clone()
        };
        self.open(&key).await?;
        // It was only looked at; whether it comes is for others to say.
        self.chancery.keyring.remove(&ask.to);
        Ok(Act::Rotate {
            kid: ask.kid.clone(),
            from: current.signer_kid.clone(),
            to: ask.to.clone(),
            backend: key.backend,
            label: key.label,
            overlap_hours: ask.overlap_hours,
        })
    }

    /// Begins a rotation that was approved; the steps after it are done by [`Lifecycle::look`].
    pub async fn begin_rotation(
        &self,
        id: String,
        act: &Act,
        by: String,
        reason: String,
        approval: Option<String>,
    ) -> Result<(), LifecycleError> {
        let Act::Rotate { kid, from, to, backend, label, overlap_hours } = act else {
            return Err(LifecycleError::WrongState("the act is not a rotation".to_owned()));
        };
        let configured = self.configured(kid)?;
        let key = KeyConfig {
            signer_kid: to.clone(),
            backend: backend.clone(),
            label: label.clone(),
            ..configured.clone()
        };
        self.open(&key).await?;
        let ring = &self.chancery.keyring;
        let info = ring.lookup_signer(to).ok_or_else(|| LifecycleError::UnknownKey(to.clone()))?;
        let requested = RotationRequested {
            id,
            kid: kid.clone(),
            from: from.clone(),
            to: to.clone(),
            algorithm: info.algorithm,
            public_key_pem: info.public_key.as_ref().map(|key| key.to_pem()),
            backend: backend.clone(),
            label: label.clone(),
            overlap_hours: *overlap_hours,
            by,
            reason,
            approval,
        };
        self.chancery.governance.record(Event::RotationRequested(requested)).await?;
        Ok(())
    }

    /// Takes a rotation as far as it goes.
    pub(super) async fn advance_rotation(&self, id: &str) -> Result<(), LifecycleError> {
        let _alone = self.changing.lock().await;
        let state = self.chancery.governance.state();
        let halfway = state.rotations.get(id).filter(|rotation| rotation.step < RotationStep::Applied);
        let Some(rotation) = halfway else { return Ok(()) };
        let key = successor(self.configured(&rotation.requested.kid)?, &rotation.requested);
        self.open(&key).await?;
        if rotation.step == RotationStep::Requested {
            self.stage(&key, &rotation.requested).await?;
            self.try_out(&key, &rotation.requested).await?;
        }
        self.switch(&key, &rotation.requested).await
    }

    /// Publishes the new key, before anybody uses it.
    async fn stage(&self, key: &KeyConfig, requested: &RotationRequested) -> Result<(), LifecycleError> {
        let now = self.chancery.now();
        let staged = SignerRecord {
            signer_kid: key.signer_kid.clone(),
            kid: Some(key.kid.clone()),
            algorithm: key.algorithm,
            public_key_pem: requested.public_key_pem.clone(),
            purpose: key.purpose.as_str().to_owned(),
            state: KeyState::Staged,
            deployed_at: now,
            retired_at: None,
            activated_index: None,
            retired_index: None,
            compromised_since: None,
            description: key.description.clone(),
        };
        let to_come = match self.config.ledger.signs_with(&key.kid) {
            true => self.chancery.keyring.log_key_of(&key.signer_kid, self.chancery.roll.origin()),
            false => None,
        };
        let index = self
            .republish_with(to_come, |records| {
                if !records.iter().any(|record| record.signer_kid == staged.signer_kid) {
                    records.push(staged);
                }
            })
            .await?;
        if self.config.archive.is_some() && !self.chancery.progress.wait_archived(index, ARCHIVE_WAIT).await {
            return Err(LifecycleError::ArchiveBehind);
        }
        Ok(())
    }

    /// Lets the new key sign a text nobody asked for, and verifies it.
    async fn try_out(&self, key: &KeyConfig, requested: &RotationRequested) -> Result<(), LifecycleError> {
        let chancery = &self.chancery;
        let (rotation, signer_kid) = (requested.id.clone(), requested.to.clone());
        let testing = Testing { rotation, signer_kid, algorithm: key.algorithm };
        chancery.governance.record(Event::Testing(testing)).await?;
        let text = test_text(chancery.roll.origin(), &requested.id, &requested.to);
        let digest = digest_of(key.algorithm, &text);
        let deadline = Instant::now() + chancery.limits.sign_timeout;
        let signature = chancery.keyring.try_staged(&requested.to, digest, deadline).await?;
        let signature = (!key.algorithm.is_mac()).then(|| STANDARD.encode(signature));
        let tested = Tested {
            rotation: requested.id.clone(),
            signer_kid: requested.to.clone(),
            digest: digest.to_hex(),
            signature,
        };
        chancery.governance.record(Event::Tested(tested)).await?;
        Ok(())
    }

    /// The name goes over.
    async fn switch(&self, key: &KeyConfig, requested: &RotationRequested) -> Result<(), LifecycleError> {
        let chancery = &self.chancery;
        let hand_over = if self.opens_leaves(&key.kid) {
            Some(self.continue_ledger(requested).await?)
        } else if self.config.ledger.signs_with(&key.kid) {
            // It signs checkpoints and nothing else; the registry that names it is signed by the first ledger key.
            None
        } else {
            self.hand_over(requested).await
        };
        let info = chancery.keyring.lookup_signer(&requested.to);
        let info = info.ok_or_else(|| LifecycleError::UnknownKey(requested.to.clone()))?;
        let (ts, index) = registry_publisher::activate(&chancery.roll, new_key(key, &info)).await?;
        self.republish(|records| {
            for record in records.iter_mut() {
                if record.signer_kid == requested.to {
                    record.state = KeyState::Active;
                    record.deployed_at = ts;
                    record.activated_index = Some(index);
                } else if record.signer_kid == requested.from && record.state == KeyState::Active {
                    record.state = KeyState::Deprecated;
                }
            }
        })
        .await?;
        let entry = self.entry(key).ok_or_else(|| LifecycleError::UnknownKey(requested.kid.clone()))?;
        let retire_ms = chancery.now().unix_ms() + i64::from(requested.overlap_hours) * HOUR_MS;
        let applied = RotationApplied {
            rotation: requested.id.clone(),
            kid: requested.kid.clone(),
            from: requested.from.clone(),
            to: requested.to.clone(),
            hand_over,
            retire_ts: Timestamp::from_unix_ms(retire_ms).unwrap_or_else(|_| chancery.now()),
        };
        chancery.governance.record(Event::RotationApplied(applied)).await?;
        chancery.keyring.promote(&requested.to);
        if self.opens_leaves(&key.kid) {
            chancery.roll.set_signer(requested.to.clone());
        }
        chancery.replace_key(entry);
        chancery.halts.halt_new_keys(&chancery.keyring);
        tracing::warn!(
            kid = %requested.kid, from = %requested.from, to = %requested.to, rotation = requested.id,
            "the name answers to another key pair"
        );
        Ok(())
    }

    /// Whether it is the ledger's first key, under which leaves stand.
    fn opens_leaves(&self, kid: &Kid) -> bool {
        *kid == self.config.ledger.signing_key
    }

    /// Both keys' word that the ledger goes on under the new one: the index where it stands. Without it the new
    /// key does not sign.
    async fn continue_ledger(&self, requested: &RotationRequested) -> Result<u64, LifecycleError> {
        let chancery = &self.chancery;
        let origin = chancery.roll.origin();
        let no_note = || LifecycleError::HandOver("checkpoints are signed with ed25519 alone".to_owned());
        let verifier = |signer_kid| chancery.keyring.note_verifier_of(signer_kid, origin).ok_or_else(no_note);
        let text = continuity_text(origin, requested, &verifier(&requested.from)?, &verifier(&requested.to)?);
        let deadline = Instant::now() + chancery.limits.sign_timeout;
        let note = chancery.keyring.sign_continuity(&requested.to, &text, origin, deadline).await?;
        let continued = Continued { rotation: requested.id.clone(), note };
        let committed = chancery.governance.record(Event::Continued(continued)).await?;
        Ok(committed.index().0)
    }

    /// The old key's word that the new one may take its name, if it can give it: the index where it stands.
    async fn hand_over(&self, requested: &RotationRequested) -> Option<u64> {
        let current = self.chancery.key(&requested.kid).filter(|key| key.signer_kid == requested.from)?;
        if current.algorithm.is_mac() || self.is_compromised(&requested.from) {
            return None;
        }
        match self.sign_hand_over(&current, requested).await {
            Ok(index) => Some(index),
            Err(error) => {
                tracing::warn!(%error, rotation = requested.id, "the old key does not sign the hand-over");
                None
            }
        }
    }

    async fn sign_hand_over(
        &self,
        current: &std::sync::Arc<KeyEntry>,
        requested: &RotationRequested,
    ) -> Result<u64, LifecycleError> {
        let chancery = &self.chancery;
        let text = hand_over_text(chancery.roll.origin(), requested);
        let failed = |words: String| LifecycleError::HandOver(words);
        let by = requested.by.parse().map_err(|_| failed(format!("{:?} is no name", requested.by)))?;
        let rule = format!("rotation/{}", requested.id);
        let grants = Grants::of_one_act(by, &requested.kid, rule, Hash::of(&[text.as_bytes()]))
            .map_err(|error| failed(error.to_string()))?;
        let key = Some(std::sync::Arc::clone(current));
        let permit = Permit::admit(&grants, &requested.kid, key, Operation::Sign)
            .map_err(|refusal| failed(refusal.to_string()))?;
        let request = KeyUseRequest {
            digest: digest_of(current.algorithm, &text),
            purpose: "key-hand-over".parse().ok(),
            metadata: None,
            request_id: chancery.new_request_id(),
            replay: None,
            asked: None,
        };
        let signed = signing::once(chancery, permit, request).await;
        signed.map(|outcome| outcome.index().0).map_err(|problem| failed(problem.detail().to_owned()))
    }

    fn is_compromised(&self, signer_kid: &Kid) -> bool {
        self.chancery.governance.state().compromised.contains_key(signer_kid)
    }

    /// The old key pairs whose overlap is over, and that are not retired.
    pub(super) fn overlaps_over<'a>(
        &self,
        state: &'a State,
        now: Timestamp,
    ) -> impl Iterator<Item = Kid> + use<'a> {
        let published = self.chancery.registry.load_full();
        let over = state.rotations.values().filter(move |it| it.retire_ts.is_some_and(|at| at <= now));
        let old = over.map(|rotation| rotation.requested.from.clone());
        old.filter(move |signer_kid| {
            let record = published.registry.signer(signer_kid.as_str());
            record.is_some_and(|record| record.retired_index.is_none())
        })
    }

    /// Retires a key pair that no name leads to any more: nothing of it is under way when the entry is made.
    pub async fn retire(&self, signer_kid: &Kid) -> Result<(), LifecycleError> {
        let _alone = self.changing.lock().await;
        let chancery = &self.chancery;
        if chancery.keys().iter().any(|key| key.signer_kid == *signer_kid) {
            let words = format!("{signer_kid} is in use: rotate its name to another key first");
            return Err(LifecycleError::WrongState(words));
        }
        let published = chancery.registry.load_full();
        match published.registry.signer(signer_kid.as_str()) {
            None => return Err(LifecycleError::UnknownKey(signer_kid.clone())),
            Some(record) if record.retired_index.is_some() => return Ok(()),
            Some(record) if record.activated_index.is_none() => {
                let words = format!("{signer_kid} is staged and has signed nothing");
                return Err(LifecycleError::WrongState(words));
            }
            Some(_) => {}
        }
        // What was admitted just before the name went over has its intent by then, and is signed.
        tokio::time::sleep(SETTLE).await;
        self.wait_for_open_intents(signer_kid).await?;
        chancery.keyring.halt_key(signer_kid, "it is being retired");
        self.wait_for_open_intents(signer_kid).await?;
        let (ts, index) = registry_publisher::retire(&chancery.roll, signer_kid).await?;
        self.republish(|records| {
            for record in records.iter_mut().filter(|record| record.signer_kid == *signer_kid) {
                if record.state != KeyState::Compromised {
                    record.state = KeyState::Retired;
                }
                record.retired_at = Some(ts);
                record.retired_index = Some(index);
            }
        })
        .await?;
        chancery.keyring.remove(signer_kid);
        tracing::warn!(%signer_kid, "retired");
        Ok(())
    }

    /// Until nothing that was announced for this key is without outcome.
    async fn wait_for_open_intents(&self, signer_kid: &Kid) -> Result<(), LifecycleError> {
        let limit = Instant::now() + DRAIN_WAIT;
        loop {
            let open = self.chancery.roll.open_intent_list(usize::MAX).await;
            let open = open.map_err(super::GovernanceError::from)?;
            let named = |parts: &chancery_format::entry::IntentParts| {
                parts.signer_kid == *signer_kid
                    || parts.co_signer.as_ref().is_some_and(|second| second.signer_kid == *signer_kid)
            };
            if !open.iter().any(|intent| named(intent.parts())) {
                return Ok(());
            }
            if Instant::now() > limit {
                let words = format!("uses of {signer_kid} are under way");
                return Err(LifecycleError::WrongState(words));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The digest of a text that an algorithm takes.
fn digest_of(algorithm: SignatureAlgorithm, text: &str) -> Digest {
    Digest::of(algorithm.digest().unwrap_or(HashAlgorithm::Sha256), text.as_bytes())
}
