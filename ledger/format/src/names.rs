//! Names, parsed at the edge and believed afterwards.
//!
//! Each is a short ASCII text with a fixed alphabet and length, so none needs escaping in canonical
//! JSON, in a path segment of the archive or in a log line, and no two spellings mean the same thing.

use std::fmt;
use std::str::FromStr;

/// A text was not a valid name. The caller is at fault; retrying the same text cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} must be {rule}")]
pub struct NameError {
    kind: &'static str,
    rule: &'static str,
}

/// Printable ASCII without space, quote and backslash: safe unescaped in JSON and in a log line.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'"' && byte != b'\\'
}

fn is_slug(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-')
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $max:literal, $allowed:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Box<str>);

        impl $name {
            /// Longest accepted text, in bytes.
            pub const BYTES_MAX: usize = $max;

            /// The text as it stands in leaves and replies.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Whether `text` would parse, without keeping it.
            pub fn check(text: &str) -> Result<(), NameError> {
                let allowed: fn(u8) -> bool = $allowed;
                let fits = !text.is_empty() && text.len() <= $max && text.bytes().all(allowed);
                if fits { Ok(()) } else { Err(NameError { kind: $kind, rule: $rule }) }
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::check(text)?;
                Ok(Self(text.into()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &self.0)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    /// Name of a key. `kid` is what callers ask for; `signer_kid` names one key pair for ever and
    /// changes whenever the key does. Both have this shape.
    Kid, "kid", 64, is_slug, "1 to 64 characters of a-z 0-9 . _ -"
);
name!(
    /// Who asked, as recorded: a SPIFFE URI, a DNS name, or a name the operator configured.
    PrincipalName, "principal", 256, is_plain, "1 to 256 printable ASCII characters without space, \" and \\"
);
name!(
    /// A hash chain of events inside the ledger. Default: one per principal, by the principal's name.
    StreamName, "stream", 256, is_plain, "1 to 256 printable ASCII characters without space, \" and \\"
);
name!(
    /// Kind of event, by convention dotted lower-case (`signing.signature.issued`).
    EventType, "eventType", 128, is_plain, "1 to 128 printable ASCII characters without space, \" and \\"
);
name!(
    /// Name of one event: the caller's own, or made from its index (see [`EventId::from_index`]).
    EventId, "id", 128, is_plain, "1 to 128 printable ASCII characters without space, \" and \\"
);
name!(
    /// Correlates a request with log lines and leaves (`x-request-id`).
    RequestId, "request id", 128, is_plain, "1 to 128 printable ASCII characters without space, \" and \\"
);
name!(
    /// The caller's `Idempotency-Key`.
    IdempotencyKey, "Idempotency-Key", 128, is_plain, "1 to 128 printable ASCII characters without space, \" and \\"
);
name!(
    /// Identity of one ledger (C2SP tlog-checkpoint origin): a scheme-less URL such as `log.example/chancery`.
    Origin, "origin", 200, |b| is_plain(b) && b != b'+',
    "1 to 200 printable ASCII characters without space, + \" and \\"
);
name!(
    /// Why a key operation failed: a stable word such as `backend-unavailable`, never free text.
    FailureCode, "failure code", 64, is_slug, "1 to 64 characters of a-z 0-9 . _ -"
);
name!(
    /// One of the languages the proxy speaks, such as `aws-kms`.
    DialectName, "dialect", 64, is_slug, "1 to 64 characters of a-z 0-9 . _ -"
);
name!(
    /// What a caller says a signature is for; recorded, never interpreted.
    Purpose, "purpose", 128, is_plain, "1 to 128 printable ASCII characters without space, \" and \\"
);

impl StreamName {
    /// The stream of the appliance's own acts (`ledger.opened`, `signer.activated`, …).
    pub fn appliance() -> Self {
        Self("chancery".into())
    }

    /// The stream of acts of governance; see [`crate::governance`].
    pub fn governance() -> Self {
        Self(crate::governance::STREAM.into())
    }

    /// Whether only the appliance may write it.
    pub fn is_appliances(&self) -> bool {
        &*self.0 == "chancery" || self.0.starts_with("chancery/")
    }
}

impl PrincipalName {
    /// The appliance itself, as actor of its own acts.
    pub fn appliance() -> Self {
        Self("chancery".into())
    }
}

impl FailureCode {
    /// A code named in our source; text from outside goes through `parse`.
    pub fn known(text: &'static str) -> Self {
        debug_assert!(Self::check(text).is_ok());
        Self(text.into())
    }
}

impl DialectName {
    /// A dialect named in our source; text from outside goes through `parse`.
    pub fn known(text: &'static str) -> Self {
        debug_assert!(Self::check(text).is_ok());
        Self(text.into())
    }
}

impl EventType {
    /// A type named in this crate's source.
    ///
    /// Only for literals: text from outside goes through `parse`.
    pub(crate) fn known(text: &'static str) -> Self {
        debug_assert!(text.parse::<Self>().is_ok());
        Self(text.into())
    }
}

impl EventId {
    /// The id of the event at `index` when its author gave none: a UUID version 8 (RFC 9562 §5.8)
    /// holding the first 6 bytes of SHA-256(origin) and the index, so that it can be found without
    /// an extra lookup key.
    ///
    /// ```
    /// use chancery_format::{EventId, LeafIndex};
    /// let id = EventId::from_index([1, 2, 3, 4, 5, 6], LeafIndex(5));
    /// assert_eq!(id.as_str(), "01020304-0506-8000-8000-000000000005");
    /// assert_eq!(id.index([1, 2, 3, 4, 5, 6]), Some(LeafIndex(5)));
    /// ```
    pub fn from_index(origin_tag: [u8; 6], index: crate::LeafIndex) -> Self {
        let [a, b, c, d, e, f] = origin_tag;
        let low = index.0 & 0x0000_FFFF_FFFF_FFFF;
        let high = (index.0 >> 48) & 0x3FFF;
        Self(
            format!("{a:02x}{b:02x}{c:02x}{d:02x}-{e:02x}{f:02x}-8000-{:04x}-{low:012x}", 0x8000 | high)
                .into(),
        )
    }

    /// The index inside an id made by [`EventId::from_index`] for this origin, else `None`.
    pub fn index(&self, origin_tag: [u8; 6]) -> Option<crate::LeafIndex> {
        let high = u64::from_str_radix(self.0.get(19..23)?, 16).ok()? & 0x3FFF;
        let low = u64::from_str_radix(self.0.get(24..36)?, 16).ok()?;
        let index = crate::LeafIndex(high << 48 | low);
        (Self::from_index(origin_tag, index) == *self).then_some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_refuse_what_would_need_escaping_or_has_two_spellings() {
        for bad in ["", "a b", "a\"b", "a\\b", "é", "a\n", "a\0"] {
            assert!(bad.parse::<PrincipalName>().is_err(), "{bad:?}");
        }
        assert!("A".parse::<Kid>().is_err());
        assert!("a".repeat(65).parse::<Kid>().is_err());
        assert!("orders-ed25519.v1".parse::<Kid>().is_ok());
        assert!("spiffe://prod.example/ns/pay/sa/orders".parse::<PrincipalName>().is_ok());
        assert!("log.example/a+b".parse::<Origin>().is_err());
    }

    #[test]
    fn a_foreign_or_altered_id_carries_no_index() {
        let id = EventId::from_index([1; 6], crate::LeafIndex(u64::from(u32::MAX) * 3));
        assert_eq!(id.index([1; 6]), Some(crate::LeafIndex(u64::from(u32::MAX) * 3)));
        assert_eq!(id.index([2; 6]), None);
        assert_eq!("order-1".parse::<EventId>().ok().and_then(|id| id.index([1; 6])), None);
    }
}
