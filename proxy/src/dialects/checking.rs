//! Whether a signature is a key's: by the published registry, and by no device.

use chancery_format::registry::{KeyState, SignerRecord};
use chancery_policy::Act;

use crate::admission::{check_dialect, check_key};
use crate::chancery::{Chancery, KeyEntry};
use crate::problem::Problem;
use crate::routes::Caller;
use crate::signing::{Content, may_with_key};

/// Whether the caller may check signatures of this key.
pub(super) fn may_check(
    chancery: &Chancery,
    caller: &Caller<'_>,
    key: &std::sync::Arc<KeyEntry>,
) -> Result<(), Problem> {
    check_dialect(&caller.grants, caller.dialect, Some(key))?;
    let key = check_key(&caller.grants, &key.kid, Some(std::sync::Arc::clone(key)))?;
    may_with_key(chancery, caller, Act::Verify, &key.kid, key.algorithm)
}

/// The key pair of this key that made the signature, if one did. Pairs that left use still count; one that was
/// compromised vouches for nothing, because these languages can answer yes or no only.
pub(super) fn signed_by(
    chancery: &Chancery,
    key: &KeyEntry,
    content: &Content,
    signature: &[u8],
) -> Option<String> {
    let published = chancery.registry.load();
    let of_key = |record: &&SignerRecord| record.kid.as_ref() == Some(&key.kid);
    let mut pairs = published.registry.signers.iter().filter(of_key);
    pairs.find(|record| holds(record, content, signature)).map(|record| record.signer_kid.as_str().to_owned())
}

/// Whether it is this key pair's.
pub(super) fn holds(record: &SignerRecord, content: &Content, signature: &[u8]) -> bool {
    let vouches = !matches!(record.state, KeyState::Staged | KeyState::Compromised);
    let Some(key) = record.public_key().ok().flatten().filter(|_| vouches) else { return false };
    match content {
        Content::Digest(digest) => key.verify(digest, signature),
        Content::Message(message) => key.verify_message(message, signature),
    }
}
