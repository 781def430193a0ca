//! A key use that was asked for in another language: the same plot, tried again while it may still help.
//!
//! Some clients fall back to a key of their own as soon as one request fails. So what passes by itself is waited for
//! here, up to `dialect_patience_ms`; each attempt that reached a device has its own entry. With an idempotency key no
//! second signature is made where there is one.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use chancery_format::canonical::CanonicalJson;
use chancery_format::entry::{Asked, Operation, ReplayKey};
use chancery_format::names::{DialectName, IdempotencyKey, Purpose};
use chancery_format::{
    Digest, Hash, HashAlgorithm, LeafIndex, RequestId, Rung, SignatureAlgorithm, Timestamp,
};
use chancery_policy::Act;

use super::calls::{ready, ready_for_us};
use super::policy::{self, Looked};
use super::{KeyUse, detached};
use crate::admission::policy::Grants;
use crate::admission::{KeyUseRequest, Permit};
use crate::chancery::{Chancery, KeyEntry, Slot};
use crate::dialects::Dialect;
use crate::problem::{Code, Problem};
use crate::reading;
use crate::response;
use crate::routes::Caller;

/// First and longest wait between two attempts.
const WAIT_MIN: Duration = Duration::from_millis(25);
const WAIT_MAX: Duration = Duration::from_millis(400);

/// What a key is asked for.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// The key, by whatever name.
    pub(crate) key: Arc<KeyEntry>,
    /// What is signed or authenticated.
    pub(crate) content: Content,
    /// The time inside it, where its clients keep another one.
    pub(crate) signed_ts: Option<Timestamp>,
    /// What it is for.
    pub(crate) purpose: Option<Purpose>,
    /// The caller's context.
    pub(crate) metadata: Option<CanonicalJson>,
    /// Whether to find out only whether it would be done.
    pub(crate) dry_run: bool,
    /// Whether the appliance uses the key in its own right, because its configuration says so: no policy is asked.
    pub(crate) in_own_right: bool,
}

impl Wanted {
    /// This key applied to this, and nothing more to say.
    pub(crate) const fn of(key: Arc<KeyEntry>, content: Content) -> Self {
        Self {
            key,
            content,
            signed_ts: None,
            purpose: None,
            metadata: None,
            dry_run: false,
            in_own_right: false,
        }
    }
}

/// What a key is applied to.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// A digest, not hashed again.
    Digest(Digest),
    /// A message: hashed first where the algorithm wants a digest.
    Message(Vec<u8>),
}

impl Content {
    /// As this algorithm takes it.
    fn fitted(&self, algorithm: SignatureAlgorithm) -> (Operation, Digest, Option<Vec<u8>>) {
        let recorded = |message: &[u8]| Digest::of(HashAlgorithm::Sha256, message);
        match (self, algorithm.digest()) {
            (Self::Message(message), _) if algorithm.is_mac() => {
                (Operation::Mac, recorded(message), Some(message.clone()))
            }
            (Self::Digest(digest), _) if algorithm.is_mac() => {
                let message = digest.as_bytes().to_vec();
                (Operation::Mac, recorded(&message), Some(message))
            }
            (Self::Message(message), Some(hash)) => (Operation::Sign, Digest::of(hash, message), None),
            (Self::Message(message), None) => {
                (Operation::SignMessage, recorded(message), Some(message.clone()))
            }
            (Self::Digest(digest), _) => (Operation::Sign, *digest, None),
        }
    }

    /// Names what is asked, for the idempotency key.
    fn hash_parts(&self) -> (&'static [u8], &[u8]) {
        match self {
            Self::Digest(digest) => (digest.algorithm().as_bytes(), digest.as_bytes()),
            Self::Message(message) => (b"message", message),
        }
    }
}

/// What came of it: enrolled, and released.
#[derive(Debug)]
pub(crate) struct Made {
    /// The event's id, a UUID.
    pub(crate) id: String,
    /// Its place on the ledger.
    pub(crate) index: LeafIndex,
    /// The key pair.
    pub(crate) signer_kid: String,
    /// What it did.
    pub(crate) algorithm: SignatureAlgorithm,
    /// Signature or MAC, in standard base64.
    pub(crate) signature: String,
    /// When it was enrolled.
    pub(crate) ts: Timestamp,
    /// The receipt, or the pointer to it, as JSON.
    pub(crate) receipt: String,
}

/// On whose behalf the appliance uses a key in its own right.
#[derive(Debug)]
pub(crate) struct OwnUse {
    /// What its configuration allows: this key, once.
    pub(crate) grants: Grants,
    /// Correlates the entry with the request that led to it.
    pub(crate) request_id: RequestId,
    /// Ties retries together.
    pub(crate) idempotency_key: Option<IdempotencyKey>,
    /// A place among the requests under way.
    pub(crate) slot: Slot,
    /// Where the request came from.
    pub(crate) source: IpAddr,
}

/// Uses a key that is nobody's, because the configuration says what for; `about` stands in the entry.
pub(crate) async fn make_in_own_right(
    chancery: &Arc<Chancery>,
    own: OwnUse,
    key: Arc<KeyEntry>,
    content: Content,
    about: &serde_json::Value,
) -> Result<Made, Problem> {
    let about = CanonicalJson::parse(about.to_string().as_bytes()).map_err(Problem::internal)?;
    let wanted = Wanted { metadata: Some(about), in_own_right: true, ..Wanted::of(key, content) };
    let used = OnceLock::new();
    let caller = Caller {
        grants: Arc::new(own.grants),
        request_id: own.request_id,
        idempotency_key: own.idempotency_key,
        slot: own.slot,
        source: own.source,
        simulate: false,
        kid: &used,
        dialect: Dialect::Native,
        peer_uid: None,
    };
    let made = make(chancery, &caller, &wanted).await?;
    made.ok_or_else(|| Problem::internal("a key use of our own was only tried"))
}

/// Uses the key and waits until the result may leave. `None` for a dry run that would succeed.
pub(crate) async fn make(
    chancery: &Arc<Chancery>,
    caller: &Caller<'_>,
    wanted: &Wanted,
) -> Result<Option<Made>, Problem> {
    let until = Instant::now() + chancery.limits.dialect_patience;
    let mut wait = WAIT_MIN;
    loop {
        let problem = match attempt(chancery, caller, wanted, until).await {
            Ok(made) => return Ok(made),
            Err(problem) => problem,
        };
        if !passes(&problem) || Instant::now() + wait >= until {
            return Err(problem);
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(WAIT_MAX);
    }
}

/// Whether a problem may be over within seconds.
pub(crate) const fn passes(problem: &Problem) -> bool {
    matches!(
        problem.code(),
        Code::BackendUnavailable | Code::Overloaded | Code::RequestInFlight | Code::RateLimited
    )
}

async fn attempt(
    chancery: &Arc<Chancery>,
    caller: &Caller<'_>,
    wanted: &Wanted,
    until: Instant,
) -> Result<Option<Made>, Problem> {
    // A rotation may have come between two attempts.
    let key = match wanted.in_own_right {
        true => ready_for_us(chancery, caller, &wanted.key.kid)?,
        false => ready(chancery, caller, &wanted.key.kid)?,
    };
    let (operation, digest, message) = wanted.content.fitted(key.algorithm);
    let act = if operation == Operation::Mac { Act::Mac } else { Act::Sign };
    let looked = Looked { act, purpose: wanted.purpose.as_ref(), dry_run: wanted.dry_run };
    let permit = match wanted.in_own_right {
        true => Permit::admit(&caller.grants, &key.kid, Some(Arc::clone(&key)), operation)?,
        false => policy::clear_at_once(chancery, caller, Arc::clone(&key), operation, looked)?,
    };
    if operation == Operation::Sign {
        permit.takes(&digest)?;
    }
    if wanted.dry_run {
        chancery.allowances.look(&permit, chancery.now())?;
        return Ok(None);
    }
    let taken = chancery.allowances.take(&permit, chancery.monotonic_ns(), chancery.now())?;
    let intents = permit.intents();
    let intent = permit.into_intent(KeyUseRequest {
        digest,
        purpose: wanted.purpose.clone(),
        metadata: wanted.metadata.clone(),
        request_id: caller.request_id.clone(),
        replay: replay(caller, wanted, &key),
        asked: caller.asked(wanted.signed_ts),
    });
    let admitted = KeyUse { intent, message, intents, taken, until: Some(until) };
    let (outcome, _slot) = detached(chancery, caller.slot.clone(), admitted).await?;
    let issued = match response::release(&outcome) {
        Some(response::Released::Issued(issued)) => issued,
        Some(response::Released::Failed(failed)) => return Err(Problem::key_use_failed(failed.code)),
        None => return Err(Problem::internal("a committed outcome cannot be read")),
    };
    let receipt = match response::required_rung(&issued) {
        Rung::Durable => response::receipt_pointer(outcome.index()),
        rung => reading::full_receipt(chancery, outcome.index(), outcome.leaf(), rung).await?,
    };
    let algorithm = issued.payload.algorithm.parse().map_err(Problem::internal)?;
    Ok(Some(Made {
        id: issued.event.id.to_owned(),
        index: outcome.index(),
        signer_kid: issued.payload.signer_kid.to_owned(),
        algorithm,
        signature: issued.payload.signature.to_owned(),
        ts: issued.event.ts,
        receipt,
    }))
}

fn replay(caller: &Caller<'_>, wanted: &Wanted, key: &KeyEntry) -> Option<ReplayKey> {
    let idempotency_key = caller.idempotency_key.clone()?;
    let (kind, bytes) = wanted.content.hash_parts();
    let request_hash = Hash::of(&[
        b"chancery/dialect\0",
        caller.dialect.as_str().as_bytes(),
        b"\0",
        key.kid.as_str().as_bytes(),
        b"\0",
        kind,
        b"\0",
        wanted.metadata.as_ref().map_or(b"", CanonicalJson::as_bytes),
        b"\0",
        bytes,
    ]);
    Some(ReplayKey { key: idempotency_key, request_hash })
}

impl Caller<'_> {
    /// What an entry says of how it was asked for; `None` for the native API spoken directly.
    pub(crate) fn asked(&self, signed_ts: Option<Timestamp>) -> Option<Asked> {
        let plain = self.dialect == Dialect::Native && self.peer_uid.is_none();
        (!plain).then(|| Asked {
            dialect: DialectName::known(self.dialect.as_str()),
            peer_uid: self.peer_uid,
            signed_ts,
        })
    }
}
