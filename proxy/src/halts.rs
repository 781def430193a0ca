//! What is halted, and the order between halting and releasing.
//!
//! Promises: once [`Halts::halt`] has returned, no key use for that scope begins, and no outcome of one that had
//! begun reaches the ledger as a signature. An entry submitted after that stands behind every signature that
//! still came out. Both follow from one lock: a release looks and takes its place in the ledger's queue in one
//! step. Nothing waits under the lock.
//!
//! The keyring's switches, asked on the thread that uses a key, are pulled with it: globally and per key.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use chancery_format::entry::IntentParts;
use chancery_format::governance::Scope;
use chancery_format::names::FailureCode;
use chancery_format::{Kid, Outcome, PrincipalName, StreamName};
use chancery_hsm::Keyring;

/// What one use of a key belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Use<'a> {
    /// What was asked for.
    pub kid: &'a Kid,
    /// The key pair behind it.
    pub signer_kid: &'a Kid,
    /// Who asked.
    pub principal: &'a PrincipalName,
    /// The chain its outcome joins.
    pub stream: &'a StreamName,
}

impl<'a> Use<'a> {
    /// Of an intent.
    pub const fn of(parts: &'a IntentParts) -> Self {
        Self {
            kid: &parts.kid,
            signer_kid: &parts.signer_kid,
            principal: &parts.principal,
            stream: &parts.stream,
        }
    }

    fn is_in(&self, scope: &Scope) -> bool {
        match scope {
            Scope::Global => true,
            Scope::Key(name) => name == self.kid || name == self.signer_kid,
            Scope::Principal(name) => name == self.principal,
            Scope::Stream(name) => name == self.stream,
        }
    }
}

/// The scopes that are halted, and why, in words for callers.
#[derive(Debug, Default)]
pub struct Halts {
    scopes: RwLock<BTreeMap<Scope, String>>,
    any: AtomicBool,
}

impl Halts {
    /// The scope that halts this use, if one does: the cheap look at admission.
    pub fn look(&self, one: &Use<'_>) -> Option<Scope> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        halting(&self.read(), one)
    }

    /// Whether everything is halted.
    pub fn is_global(&self) -> bool {
        self.any.load(Ordering::Acquire) && self.read().contains_key(&Scope::Global)
    }

    /// What is halted, and why.
    pub fn all(&self) -> BTreeMap<Scope, String> {
        self.read().clone()
    }

    /// Gives an outcome to `submit`, which takes its place in the ledger's queue. A signature of a halted scope is
    /// withheld for ever.
    pub fn release<T>(&self, outcome: Outcome, submit: impl FnOnce(Outcome) -> T) -> T {
        let scopes = self.read();
        submit(withhold(&scopes, outcome))
    }

    /// The same for several that take their places together.
    pub fn release_all<T>(&self, outcomes: Vec<Outcome>, submit: impl FnOnce(Vec<Outcome>) -> T) -> T {
        let scopes = self.read();
        submit(outcomes.into_iter().map(|outcome| withhold(&scopes, outcome)).collect())
    }

    /// Calls `submit` unless the use is halted; otherwise gives the scope that halts it.
    pub fn unless_halted<T>(&self, one: &Use<'_>, submit: impl FnOnce() -> T) -> Result<T, Scope> {
        let scopes = self.read();
        match halting(&scopes, one) {
            Some(scope) => Err(scope),
            None => Ok(submit()),
        }
    }

    /// Halts a scope: in the keyring first, then for every release. Halting twice is harmless and keeps the
    /// first reason.
    pub fn halt(&self, keyring: &Keyring, scope: &Scope, reason: &str) {
        self.any.store(true, Ordering::Release);
        set_switch(keyring, scope, Some(reason));
        let mut scopes = self.scopes.write().unwrap_or_else(PoisonError::into_inner);
        scopes.entry(scope.clone()).or_insert_with(|| reason.to_owned());
    }

    /// Pulls the switches of key pairs that came after their name was halted.
    pub fn halt_new_keys(&self, keyring: &Keyring) {
        for (scope, reason) in self.read().iter() {
            set_switch(keyring, scope, Some(reason));
        }
    }

    /// Lets a scope go on. Call it when the entry that says so is durable.
    pub fn resume(&self, keyring: &Keyring, scope: &Scope) {
        let mut scopes = self.scopes.write().unwrap_or_else(PoisonError::into_inner);
        if scopes.remove(scope).is_some() {
            set_switch(keyring, scope, None);
        }
        self.any.store(!scopes.is_empty(), Ordering::Release);
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<Scope, String>> {
        // A map of scopes; nobody leaves it half changed.
        self.scopes.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn withhold(scopes: &BTreeMap<Scope, String>, outcome: Outcome) -> Outcome {
    match halting(scopes, &Use::of(outcome.intent().parts())) {
        Some(_) => outcome.withheld(FailureCode::known("halted")),
        None => outcome,
    }
}

fn halting(scopes: &BTreeMap<Scope, String>, one: &Use<'_>) -> Option<Scope> {
    scopes.keys().find(|scope| one.is_in(scope)).cloned()
}

/// The switches the devices' threads ask. Principals and streams are unknown to them: their outcomes are
/// withheld.
fn set_switch(keyring: &Keyring, scope: &Scope, reason: Option<&str>) {
    match (scope, reason) {
        (Scope::Global, Some(reason)) => {
            drop(keyring.kill_switch().halt(reason, std::time::Duration::ZERO));
        }
        (Scope::Global, None) => keyring.kill_switch().resume(),
        (Scope::Key(name), reason) => {
            let named = keyring.keys().into_iter().filter(|key| key.kid == *name || key.signer_kid == *name);
            for key in named {
                match reason {
                    Some(reason) => drop(keyring.halt_key_by_order(&key.signer_kid, reason)),
                    None => keyring.resume_key(&key.signer_kid),
                }
            }
        }
        (Scope::Principal(_) | Scope::Stream(_), _) => {}
    }
}
