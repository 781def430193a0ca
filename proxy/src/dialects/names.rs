//! What clients call keys: the key's own name, its key pair's, an alias, an AWS id, ARN or alias.

use std::collections::HashMap;
use std::sync::Arc;

use chancery_format::{Hash, Kid};

use crate::admission::Refusal;
use crate::chancery::{Chancery, KeyEntry};
use crate::problem::{Code, Problem};
use crate::routes::Caller;

/// Longest name of a key that is looked up: AWS has the same bound.
const NAME_CHARS_MAX: usize = 2048;

/// Names that do not change while the daemon runs.
#[derive(Debug, Default)]
pub(crate) struct Names(HashMap<String, Kid>);

impl Names {
    /// Of these keys: their aliases, and their AWS ids.
    pub(crate) fn of<'k>(keys: impl Iterator<Item = &'k KeyEntry>) -> Self {
        let mut names = HashMap::new();
        for key in keys {
            names.insert(uuid(&key.kid), key.kid.clone());
            names.extend(key.aliases.iter().map(|alias| (alias.clone(), key.kid.clone())));
        }
        Self(names)
    }
}

/// The id of a key in AWS form: a UUID of version 8 (RFC 9562 §5.8) from its name, so that it outlives its key pairs.
pub(super) fn uuid(kid: &Kid) -> String {
    let hash = Hash::of(&[b"chancery/kms-key\0", kid.as_str().as_bytes()]).to_hex();
    let part = |from: usize, to: usize| hash.get(from..to).unwrap_or_default();
    format!("{}-{}-8{}-8{}-{}", part(0, 8), part(8, 12), part(13, 16), part(17, 20), part(20, 32))
}

/// The key that a client means; without a name, the one its principal was given for that.
pub(super) fn resolve(
    chancery: &Chancery,
    caller: &Caller<'_>,
    name: Option<&str>,
) -> Result<Arc<KeyEntry>, Problem> {
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        let kid = caller.grants.default_kid().ok_or_else(|| {
            Problem::new(Code::MissingField, "the request names no key, and its principal has no default_kid")
        })?;
        return chancery.key(kid).ok_or_else(|| Refusal::UnknownKid { kid: kid.clone() }.into());
    };
    named(chancery, name).ok_or_else(|| Problem::new(Code::UnknownKid, "no key has this name"))
}

/// The key of that name, now.
pub(super) fn named(chancery: &Chancery, name: &str) -> Option<Arc<KeyEntry>> {
    if name.len() > NAME_CHARS_MAX {
        return None;
    }
    let kid = match name.parse::<Kid>() {
        Ok(kid) => match chancery.key(&kid) {
            Some(key) => return Some(key),
            None => of_pair(chancery, &kid).or_else(|| known(chancery, name))?,
        },
        Err(_) => known(chancery, name)?,
    };
    chancery.key(&kid)
}

/// A key pair's name means its key, as long as it is the pair in use.
fn of_pair(chancery: &Chancery, signer_kid: &Kid) -> Option<Kid> {
    let published = chancery.registry.load();
    let kid = published.registry.signer(signer_kid.as_str())?.kid.clone()?;
    chancery.key(&kid).filter(|key| key.signer_kid == *signer_kid).map(|_| kid)
}

fn known(chancery: &Chancery, name: &str) -> Option<Kid> {
    let Names(names) = &chancery.names;
    if let Some(kid) = names.get(name) {
        return Some(kid.clone());
    }
    // `arn:aws:kms:region:account:key/…` and `…:alias/…`, `alias/…`.
    let resource = match name.strip_prefix("arn:") {
        Some(rest) => rest.splitn(5, ':').nth(4)?,
        None => name,
    };
    if let Some(alias) = resource.strip_prefix("alias/") {
        let own = alias.parse().ok().filter(|kid| chancery.key(kid).is_some());
        return own.or_else(|| names.get(resource).or_else(|| names.get(alias)).cloned());
    }
    names.get(resource.strip_prefix("key/")?).cloned()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    #[test]
    fn an_aws_id_is_a_uuid_of_version_8_and_differs_by_key() {
        let of = |kid: &str| uuid(&kid.parse().unwrap());
        assert_ne!(of("orders"), of("tags"));
        let id = of("orders");
        assert_eq!(id, of("orders"));
        let lengths: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12], "{id}");
        assert!(
            id.split('-').nth(2).unwrap().starts_with('8') && id.split('-').nth(3).unwrap().starts_with('8')
        );
    }
}
