//! Hop 4: may this principal do this, now? A [`Permit`], or a [`Refusal`] that says why not.
//!
//! In this order: is the principal known · is the kill switch pulled · are we shutting down · can the
//! ledger and the archive take more · is the principal within its rate · was it granted the operation ·
//! the key · the stream. Each step is cheap and changes nothing but the rate's bucket. An intent is born
//! only in [`Permit::into_intent`], so what was not admitted cannot even be written down as an intent.
//! Who is refused is recorded by `refusals.rs`, without waiting.

pub mod allowance;
pub mod authority;
pub mod policy;
pub mod quota;
pub mod rate_limit;
pub mod recount;
mod refusal;
mod stream_pattern;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use chancery_format::canonical::CanonicalJson;
use chancery_format::entry::{
    AnchoredParts, Asked, IntentParts, Operation, PolicyRef, ReplayKey, digest_anchored,
};
use chancery_format::governance::Scope;
use chancery_format::names::Purpose;
use chancery_format::registry::CANARY;
use chancery_format::{
    Digest, EventDraft, Hash, HashAlgorithm, Intent, Kid, PrincipalName, RequestId, StreamName,
};

pub use self::refusal::Refusal;
use crate::admission::policy::{Grants, Policy};
use crate::chancery::KeyEntry;
use crate::config::Intents;
use crate::dialects::Dialect;

/// What a call needs before its body is worth reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// The grant.
    pub operation: policy::Operation,
    /// Whether it uses a key, which the kill switch stops.
    pub uses_key: bool,
    /// Whether it writes to the ledger, which shutting down, a full disk and archive lag stop.
    pub writes: bool,
}

impl Needs {
    /// A call that uses a key and records it.
    pub const fn key_use(operation: policy::Operation) -> Self {
        Self { operation, uses_key: true, writes: true }
    }

    /// A call that writes but uses no key.
    pub const fn write(operation: policy::Operation) -> Self {
        Self { operation, uses_key: false, writes: true }
    }

    /// A call that changes nothing.
    pub const fn read(operation: policy::Operation) -> Self {
        Self { operation, uses_key: false, writes: false }
    }

    /// A call that uses a key and changes nothing.
    pub const fn key_read(operation: policy::Operation) -> Self {
        Self { operation, uses_key: true, writes: false }
    }
}

/// The state admission decides on. Its switches are flipped by those who watch: the daemon's drain, the
/// archive's shipper, the ledger.
#[derive(Debug)]
pub struct Admission {
    policy: ArcSwap<Policy>,
    draining: AtomicBool,
    archive_lag: AtomicBool,
    ledger_full: AtomicBool,
    policies_decide: AtomicBool,
}

impl Admission {
    /// Open, under `policy`.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy: ArcSwap::from_pointee(policy),
            draining: AtomicBool::new(false),
            archive_lag: AtomicBool::new(false),
            ledger_full: AtomicBool::new(false),
            policies_decide: AtomicBool::new(false),
        }
    }

    /// The policy in force.
    pub fn policy(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    /// Swaps the policy whole. Requests under way keep the one they were admitted by.
    pub fn replace_policy(&self, policy: Policy) {
        self.policy.store(Arc::new(policy));
    }

    /// Closes admission for good; what was admitted goes on.
    pub fn start_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether this instance is shutting down.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Closes or reopens admission because of the archive.
    pub fn set_archive_lag(&self, behind: bool) {
        self.archive_lag.store(behind, Ordering::Release);
    }

    /// Whether the archive closes admission.
    pub fn is_archive_behind(&self) -> bool {
        self.archive_lag.load(Ordering::Acquire)
    }

    /// Closes or reopens admission because of the ledger's disk.
    pub fn set_ledger_full(&self, full: bool) {
        self.ledger_full.store(full, Ordering::Release);
    }

    /// Whether the ledger's disk closes admission.
    pub fn is_ledger_full(&self) -> bool {
        self.ledger_full.load(Ordering::Acquire)
    }

    /// Everything that can be decided before a body is read. Takes one token of the principal's rate.
    pub fn enter(
        &self,
        principal: &PrincipalName,
        needs: Needs,
        halted: bool,
        now_ns: u64,
    ) -> Result<Arc<Grants>, Refusal> {
        let policy = self.policy.load();
        let grants = policy.grants(principal).ok_or(Refusal::UnknownPrincipal)?;
        if needs.uses_key && halted {
            return Err(Refusal::Halted(Scope::Global));
        }
        if needs.writes {
            self.check_writable()?;
        }
        grants.bucket().take(now_ns)?;
        if !grants.allows(needs.operation) && !self.decided_by_policies(needs) {
            let (rule, policy) = named(grants);
            return Err(Refusal::OperationNotGranted { operation: needs.operation, rule, policy });
        }
        Ok(Arc::clone(grants))
    }

    /// Whether policies decide on this call when its body was read: on each one that uses a key and records it.
    /// All others need their grant, whatever policies say.
    fn decided_by_policies(&self, needs: Needs) -> bool {
        self.policies_decide.load(Ordering::Relaxed) && needs.uses_key && needs.writes
    }

    /// Lets policies decide what grants decided alone.
    pub fn let_policies_decide(&self) {
        self.policies_decide.store(true, Ordering::Relaxed);
    }

    /// For calls that need no grant: known, and within its rate.
    pub fn recognise(&self, principal: &PrincipalName, now_ns: u64) -> Result<Arc<Grants>, Refusal> {
        let policy = self.policy.load();
        let grants = policy.grants(principal).ok_or(Refusal::UnknownPrincipal)?;
        grants.bucket().take(now_ns)?;
        Ok(Arc::clone(grants))
    }

    fn check_writable(&self) -> Result<(), Refusal> {
        if self.is_draining() {
            Err(Refusal::Draining)
        } else if self.is_ledger_full() {
            Err(Refusal::LedgerFull)
        } else if self.is_archive_behind() {
            Err(Refusal::ArchiveLag)
        } else {
            Ok(())
        }
    }
}

/// The rule and policy a refusal names.
fn named(grants: &Grants) -> (String, Hash) {
    (grants.rule().to_owned(), grants.policy())
}

/// Whether the principal may speak this language, and, if it is known, use this key by it. A key that is meant for some
/// languages signs nothing by another, so that no message of one can be taken for one of the other.
pub fn check_dialect(grants: &Grants, dialect: Dialect, key: Option<&KeyEntry>) -> Result<(), Refusal> {
    let refused = |rule: Option<String>| {
        let (own, policy) = named(grants);
        Err(Refusal::DialectNotGranted { dialect, rule: rule.unwrap_or(own), policy })
    };
    if !grants.speaks(dialect) {
        return refused(None);
    }
    match key.filter(|key| !key.dialects.is_empty() && !key.dialects.contains(&dialect)) {
        Some(key) => refused(Some(format!("key {}", key.kid))),
        None => Ok(()),
    }
}

/// Whether the principal may write and read `stream`.
pub fn check_stream(grants: &Grants, stream: &str) -> Result<(), Refusal> {
    if grants.allows_stream(stream) {
        return Ok(());
    }
    let (rule, policy) = named(grants);
    Err(Refusal::StreamNotGranted { stream: stream.to_owned(), rule, policy })
}

/// Whether the principal may read payloads written by others.
pub fn check_payloads(grants: &Grants) -> Result<(), Refusal> {
    if grants.reads_payloads() {
        return Ok(());
    }
    let (rule, policy) = named(grants);
    Err(Refusal::PayloadNotGranted { rule, policy })
}

/// Whether the key exists and the principal may use it; `key` is what the keyring knows under `kid`. The
/// ledger's own key is nobody's, whatever the policy says.
pub fn check_key(grants: &Grants, kid: &Kid, key: Option<Arc<KeyEntry>>) -> Result<Arc<KeyEntry>, Refusal> {
    let key = key.ok_or_else(|| Refusal::UnknownKid { kid: kid.clone() })?;
    if grants.allows_kid(kid) && !key.is_ledger_key {
        return Ok(key);
    }
    let (rule, policy) = named(grants);
    Err(Refusal::KidNotGranted { kid: kid.clone(), rule, policy })
}

/// A canary is used by nobody, whoever grants it.
pub fn check_no_canary(key: &KeyEntry) -> Result<(), Refusal> {
    match key.purpose.as_str() {
        CANARY => Err(Refusal::Canary { kid: key.kid.clone() }),
        _ => Ok(()),
    }
}

/// A key that the appliance uses in its own right is granted to nobody.
pub fn check_is_somebodys(grants: &Grants, kid: &Kid, is_nobodys: bool) -> Result<(), Refusal> {
    if !is_nobodys {
        return Ok(());
    }
    let (rule, policy) = named(grants);
    Err(Refusal::KidNotGranted { kid: kid.clone(), rule, policy })
}

/// One admitted key use. Made only here; becomes an intent and is gone.
#[derive(Debug)]
pub struct Permit<'a> {
    grants: &'a Grants,
    key: Arc<KeyEntry>,
    operation: Operation,
    policy: PolicyRef,
}

/// What an admitted key use is about.
#[derive(Debug)]
pub struct KeyUseRequest {
    /// What is signed, or SHA-256 of the message of a MAC.
    pub digest: Digest,
    /// What it is for.
    pub purpose: Option<Purpose>,
    /// The caller's context.
    pub metadata: Option<CanonicalJson>,
    /// Correlation with logs.
    pub request_id: RequestId,
    /// Set if the caller sent an `Idempotency-Key`.
    pub replay: Option<ReplayKey>,
    /// How it was asked for, if not by the native API.
    pub asked: Option<Asked>,
}

impl<'a> Permit<'a> {
    /// Grants one use of one key, for `operation`.
    pub fn admit(
        grants: &'a Grants,
        kid: &Kid,
        key: Option<Arc<KeyEntry>>,
        operation: Operation,
    ) -> Result<Self, Refusal> {
        let key = check_key(grants, kid, key)?;
        let policy = PolicyRef { rule: grants.rule().to_owned(), sha256: grants.policy() };
        Self::new(grants, key, operation, policy)
    }

    /// The same, where policies decided whether the key may be used.
    pub fn admit_by(
        grants: &'a Grants,
        key: Arc<KeyEntry>,
        operation: Operation,
        policy: PolicyRef,
    ) -> Result<Self, Refusal> {
        match key.is_ledger_key {
            true => {
                Err(Refusal::KidNotGranted { kid: key.kid.clone(), rule: policy.rule, policy: policy.sha256 })
            }
            false => Self::new(grants, key, operation, policy),
        }
    }

    fn new(
        grants: &'a Grants,
        key: Arc<KeyEntry>,
        operation: Operation,
        policy: PolicyRef,
    ) -> Result<Self, Refusal> {
        check_no_canary(&key)?;
        let second = key.co_signer.as_ref();
        if !operation.is_by(key.algorithm) || second.is_some_and(|second| !operation.is_by(second.algorithm))
        {
            let (kid, algorithm) = (key.kid.clone(), key.algorithm);
            return Err(Refusal::AlgorithmMismatch { kid, algorithm, operation });
        }
        Ok(Self { grants, key, operation, policy })
    }

    /// Whether the key, and its co-signer, take this kind of digest.
    pub fn takes(&self, digest: &Digest) -> Result<(), Refusal> {
        let second = self.key.co_signer.as_ref().map(|second| (&second.kid, second.algorithm));
        for (kid, algorithm) in [(&self.key.kid, self.key.algorithm)].into_iter().chain(second) {
            // µ is made for one key pair: a co-signer's signature over it would be of no message.
            let shared = digest.hash().is_none() && self.key.co_signer.is_some();
            if shared || !algorithm.takes(digest) {
                let (wanted, got) =
                    (algorithm.digest().map_or("plain", HashAlgorithm::as_str), digest.algorithm());
                return Err(Refusal::DigestMismatch { kid: kid.clone(), algorithm, wanted, got });
            }
        }
        Ok(())
    }

    /// Who asked.
    pub fn principal(&self) -> &PrincipalName {
        self.grants.principal()
    }

    /// The key's name.
    pub fn kid(&self) -> &Kid {
        &self.key.kid
    }

    /// Name and key pair of the key and of its co-signer.
    pub fn key_pairs(&self) -> impl Iterator<Item = (&Kid, &Kid)> {
        let second = self.key.co_signer.as_ref().map(|second| (&second.kid, &second.signer_kid));
        [(&self.key.kid, &self.key.signer_kid)].into_iter().chain(second)
    }

    /// Whether the key's backend wants intents.
    pub fn intents(&self) -> Intents {
        self.key.intents
    }

    /// Whether digests may be anchored in the key's name.
    pub fn anchors(&self) -> Result<(), Refusal> {
        match self.key.anchored {
            true => Ok(()),
            false => Err(Refusal::NotAnchored { kid: self.key.kid.clone() }),
        }
    }

    /// The event that anchors a digest in the key's name, and what makes its retries safe. The key is not
    /// used, so there is no intent.
    pub fn into_anchored(self, request: KeyUseRequest) -> (EventDraft, Option<(PrincipalName, ReplayKey)>) {
        let principal = self.grants.principal().clone();
        let replay = request.replay.map(|replay| (principal.clone(), replay));
        let draft = digest_anchored(AnchoredParts {
            kid: self.key.kid.clone(),
            digest: request.digest,
            principal,
            request_id: request.request_id,
            stream: self.grants.own_stream().clone(),
            purpose: request.purpose,
            metadata: request.metadata,
            policy: self.policy,
        });
        (draft, replay)
    }

    /// The intent: the only one made outside tests.
    pub fn into_intent(self, request: KeyUseRequest) -> Intent {
        let stream: &StreamName = self.grants.own_stream();
        Intent::new(IntentParts {
            kid: self.key.kid.clone(),
            signer_kid: self.key.signer_kid.clone(),
            algorithm: self.key.algorithm,
            co_signer: self.key.co_signer.clone(),
            asked: request.asked,
            operation: self.operation,
            digest: request.digest,
            principal: self.grants.principal().clone(),
            request_id: request.request_id,
            stream: stream.clone(),
            purpose: request.purpose,
            metadata: request.metadata,
            policy: self.policy,
            release: self.key.release,
            replay: request.replay,
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use chancery_format::{Rung, SignatureAlgorithm};

    use super::*;
    use crate::admission::policy::{Grant, Operation as Granted};
    use crate::admission::rate_limit::Rate;
    use crate::chancery::Lanes;

    fn admission(operations: &[Granted]) -> Admission {
        let grant = Grant {
            principal: "svc".parse().unwrap(),
            kids: vec!["orders".parse().unwrap(), "tags".parse().unwrap()],
            operations: operations.to_vec(),
            streams: vec!["orders/*".parse().unwrap()],
            read_payloads: false,
            rate: Rate { per_second: 1, burst: 2 },
            groups: Vec::new(),
            daily_quota: None,
            dialects: crate::dialects::Dialect::ALL.to_vec(),
            default_kid: None,
        };
        Admission::new(Policy::compile(&[grant], None).unwrap())
    }

    fn key(kid: &str, algorithm: SignatureAlgorithm) -> Arc<KeyEntry> {
        Arc::new(KeyEntry {
            kid: kid.parse().unwrap(),
            signer_kid: format!("{kid}-v1").parse().unwrap(),
            algorithm,
            purpose: "test".parse().unwrap(),
            description: String::new(),
            release: Rung::Durable,
            intents: Intents::Always,
            lanes: Lanes::Cores,
            is_ledger_key: false,
            public_key_pem: None,
            co_signer: None,
            anchored: false,
            dialects: Vec::new(),
            aliases: Vec::new(),
        })
    }

    const SIGN: Needs = Needs::key_use(Granted::Sign);
    const NOW: u64 = 1_000_000_000;

    #[test]
    fn each_switch_closes_what_it_should_and_in_order() {
        let admission = admission(&[Granted::Sign, Granted::Events, Granted::Read]);
        let svc: PrincipalName = "svc".parse().unwrap();
        let stranger = "stranger".parse().unwrap();
        let enter = |needs, halted| admission.enter(&svc, needs, halted, NOW).map(|_| ());
        assert_eq!(admission.enter(&stranger, SIGN, true, NOW).unwrap_err(), Refusal::UnknownPrincipal);
        assert_eq!(enter(SIGN, true), Err(Refusal::Halted(Scope::Global)));
        admission.set_archive_lag(true);
        assert_eq!(enter(SIGN, false), Err(Refusal::ArchiveLag));
        admission.set_ledger_full(true);
        assert_eq!(enter(SIGN, false), Err(Refusal::LedgerFull));
        admission.start_draining();
        assert_eq!(enter(SIGN, false), Err(Refusal::Draining));
        assert_eq!(enter(Needs::write(Granted::Events), false), Err(Refusal::Draining));
        // None of the refusals took a token: both of the burst are still there for readers.
        assert_eq!(enter(Needs::read(Granted::Read), true), Ok(()));
        assert_eq!(enter(Needs::read(Granted::Read), true), Ok(()));
        assert!(matches!(enter(Needs::read(Granted::Read), true), Err(Refusal::RateLimited(_))));
    }

    #[test]
    fn operations_keys_and_streams_are_denied_by_name() {
        let admission = admission(&[Granted::Sign]);
        let svc = "svc".parse().unwrap();
        let grants = admission.enter(&svc, SIGN, false, NOW).unwrap();
        let denied = admission.enter(&svc, Needs::key_use(Granted::Mac), false, NOW).unwrap_err();
        assert!(matches!(denied, Refusal::OperationNotGranted { operation: Granted::Mac, .. }));
        let kid = |text: &str| text.parse::<Kid>().unwrap();
        let orders = key("orders", SignatureAlgorithm::Ed25519);
        let tags = key("tags", SignatureAlgorithm::HmacSha256);
        let other = key("other", SignatureAlgorithm::Ed25519);
        assert!(Permit::admit(&grants, &kid("orders"), Some(Arc::clone(&orders)), Operation::Sign).is_ok());
        assert!(Permit::admit(&grants, &kid("tags"), Some(Arc::clone(&tags)), Operation::Mac).is_ok());
        let refused =
            |name: &str, key, operation| Permit::admit(&grants, &kid(name), key, operation).unwrap_err();
        assert!(matches!(refused("orders", None, Operation::Sign), Refusal::UnknownKid { .. }));
        assert!(matches!(
            refused("other", Some(Arc::clone(&other)), Operation::Sign),
            Refusal::KidNotGranted { .. }
        ));
        assert!(matches!(
            refused("tags", Some(Arc::clone(&tags)), Operation::Sign),
            Refusal::AlgorithmMismatch { .. }
        ));
        assert!(matches!(
            refused("orders", Some(Arc::clone(&orders)), Operation::Mac),
            Refusal::AlgorithmMismatch { .. }
        ));
        let canary = KeyEntry { purpose: CANARY.parse().unwrap(), ..KeyEntry::clone(&orders) };
        assert!(matches!(refused("orders", Some(Arc::new(canary)), Operation::Sign), Refusal::Canary { .. }));
        let ledger = KeyEntry { is_ledger_key: true, ..KeyEntry::clone(&orders) };
        assert!(matches!(
            refused("orders", Some(Arc::new(ledger)), Operation::Sign),
            Refusal::KidNotGranted { .. }
        ));
        assert!(check_stream(&grants, "orders/eu").is_ok());
        assert!(check_stream(&grants, "svc").is_ok());
        assert!(matches!(check_stream(&grants, "chancery"), Err(Refusal::StreamNotGranted { .. })));
        assert!(matches!(check_payloads(&grants), Err(Refusal::PayloadNotGranted { .. })));
    }
}
