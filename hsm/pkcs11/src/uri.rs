//! PKCS#11 URIs (RFC 7512), as far as a signing service needs them.
//!
//! Read strictly: an attribute may come once, percent-encoding must be whole, characters the RFC does not
//! allow unencoded are refused. Understood are the path attributes `token`, `serial`, `slot-id`,
//! `manufacturer`, `model`, `object`, `id`, `type`, and the query attributes `module-path` and `pin-source`.
//! `pin-value` is refused, because a PIN has no place in a configuration. The library's and slot's
//! descriptions and `module-name` are refused by name, since ignoring a condition would widen what matches;
//! `x-` attributes of vendors may be ignored by the RFC, and are refused for the same reason.

use std::path::PathBuf;
use std::str::FromStr;

use crate::limits::URI_BYTES_MAX;

/// What every such URI begins with.
pub(crate) const SCHEME: &str = "pkcs11:";

/// Kind of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectType {
    /// `type=private`
    Private,
    /// `type=public`
    Public,
    /// `type=secret-key`
    SecretKey,
    /// `type=cert`
    Certificate,
    /// `type=data`
    Data,
}

/// A URI taken apart. Texts are decoded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Uri {
    /// CKA_LABEL of the token.
    pub token: Option<String>,
    /// Serial number of the token.
    pub serial: Option<String>,
    /// Number of the slot.
    pub slot_id: Option<u64>,
    /// Manufacturer of the token.
    pub manufacturer: Option<String>,
    /// Model of the token.
    pub model: Option<String>,
    /// CKA_LABEL of the object.
    pub object: Option<String>,
    /// CKA_ID of the object.
    pub id: Option<Vec<u8>>,
    /// Kind of the object.
    pub object_type: Option<ObjectType>,
    /// The module's file.
    pub module_path: Option<PathBuf>,
    /// The file with the PIN; `file:/path` and `/path` are the same.
    pub pin_source: Option<PathBuf>,
}

/// Why a URI is refused; the operator's fault, always. Never holds a PIN: values are not shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// Not `pkcs11:`, or far too long.
    #[error("a PKCS#11 URI begins with pkcs11: and has at most 2048 bytes")]
    NotOne,
    /// An attribute without `=`.
    #[error("\"{0}\" is not name=value")]
    NotAnAttribute(String),
    /// An attribute that stands twice.
    #[error("{0} is given twice")]
    Twice(String),
    /// An attribute this service does not look at.
    #[error("{0} is not understood here")]
    Unknown(String),
    /// `pin-value`.
    #[error("pin-value puts a PIN into the configuration; name a file with pin-source")]
    PinValue,
    /// A `%` without two hexadecimal digits, a character that must be encoded, or no UTF-8.
    #[error("the value of {0} is not encoded as RFC 7512 asks")]
    Encoding(String),
    /// A value that is none for this attribute.
    #[error("the value of {0} is not one it can have")]
    Value(String),
    /// None, or more than one, of token, serial and slot-id.
    #[error("name the token by exactly one of token, serial and slot-id")]
    TokenNotNamed,
    /// A key's URI without `object` or `id`.
    #[error("name the key by object or id")]
    KeyNotNamed,
    /// A key's URI whose `type` is not what the algorithm needs.
    #[error("type is not the kind of key the algorithm needs")]
    WrongType,
    /// A key's URI that names another token than its backend's.
    #[error("it names another token than its backend has")]
    OtherToken,
    /// An attribute of the module or the PIN in a key's URI, where it has no effect.
    #[error("module-path and pin-source belong to the backend")]
    NotForKeys,
}

impl Uri {
    /// Whether this can name a signing key.
    pub(crate) fn check_key(&self, mac: bool) -> Result<(), UriError> {
        if self.object.is_none() && self.id.is_none() {
            return Err(UriError::KeyNotNamed);
        }
        if self.module_path.is_some() || self.pin_source.is_some() {
            return Err(UriError::NotForKeys);
        }
        let wanted = if mac { ObjectType::SecretKey } else { ObjectType::Private };
        match self.object_type {
            Some(found) if found != wanted => Err(UriError::WrongType),
            _ => Ok(()),
        }
    }

    fn set(&mut self, name: &str, value: &str, in_query: bool) -> Result<(), UriError> {
        let twice = |free: bool| if free { Ok(()) } else { Err(UriError::Twice(name.to_owned())) };
        let text = || decoded_text(name, value, in_query);
        match (name, in_query) {
            ("token", false) => twice(self.token.replace(text()?).is_none()),
            ("serial", false) => twice(self.serial.replace(text()?).is_none()),
            ("manufacturer", false) => twice(self.manufacturer.replace(text()?).is_none()),
            ("model", false) => twice(self.model.replace(text()?).is_none()),
            ("object", false) => twice(self.object.replace(text()?).is_none()),
            ("id", false) => twice(self.id.replace(decoded(name, value, in_query)?).is_none()),
            ("slot-id", false) => {
                let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
                let number = value.parse().ok().filter(|_| digits);
                let number = number.ok_or_else(|| UriError::Value(name.to_owned()))?;
                twice(self.slot_id.replace(number).is_none())
            }
            ("type", false) => {
                let found = match value {
                    "private" => ObjectType::Private,
                    "public" => ObjectType::Public,
                    "secret-key" => ObjectType::SecretKey,
                    "cert" => ObjectType::Certificate,
                    "data" => ObjectType::Data,
                    _ => return Err(UriError::Value(name.to_owned())),
                };
                twice(self.object_type.replace(found).is_none())
            }
            ("module-path", true) => twice(self.module_path.replace(absolute(name, &text()?)?).is_none()),
            ("pin-source", true) => {
                let text = text()?;
                let path = text.strip_prefix("file:").unwrap_or(&text);
                // file:///path has an empty host; any other host is not this machine.
                let path = match path.strip_prefix("//") {
                    Some(rest) if rest.starts_with('/') => rest,
                    Some(_) => return Err(UriError::Value(name.to_owned())),
                    None => path,
                };
                twice(self.pin_source.replace(absolute(name, path)?).is_none())
            }
            ("pin-value", true) => Err(UriError::PinValue),
            _ => Err(UriError::Unknown(name.to_owned())),
        }
    }
}

impl FromStr for Uri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let rest =
            text.strip_prefix(SCHEME).filter(|_| text.len() <= URI_BYTES_MAX).ok_or(UriError::NotOne)?;
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        let mut uri = Self::default();
        let path = path.split(';').filter(|_| !path.is_empty()).map(|attribute| (attribute, false));
        let query = query.into_iter().flat_map(|query| query.split('&')).map(|attribute| (attribute, true));
        for (attribute, in_query) in path.chain(query) {
            // Not shown whole: behind a missing `=` there may be anything.
            let Some((name, value)) = attribute.split_once('=') else {
                return Err(UriError::NotAnAttribute(attribute.chars().take(16).collect()));
            };
            uri.set(name, value, in_query)?;
        }
        Ok(uri)
    }
}

fn absolute(name: &str, path: &str) -> Result<PathBuf, UriError> {
    let path = PathBuf::from(path);
    if path.is_absolute() { Ok(path) } else { Err(UriError::Value(name.to_owned())) }
}

fn decoded_text(name: &str, value: &str, in_query: bool) -> Result<String, UriError> {
    String::from_utf8(decoded(name, value, in_query)?).map_err(|_| UriError::Encoding(name.to_owned()))
}

fn decoded(name: &str, value: &str, in_query: bool) -> Result<Vec<u8>, UriError> {
    let wrong = || UriError::Encoding(name.to_owned());
    let mut bytes = value.bytes();
    let mut out = Vec::with_capacity(value.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16));
                let (high, low) = (digit().ok_or_else(wrong)?, digit().ok_or_else(wrong)?);
                u8::try_from(high * 16 + low).map_err(|_| wrong())?
            }
            plain if allowed(plain, in_query) => plain,
            _ => return Err(wrong()),
        });
    }
    Ok(out)
}

/// `pk11-pchar` and `pk11-qchar` of RFC 7512 §2.3.
fn allowed(byte: u8, in_query: bool) -> bool {
    byte.is_ascii_alphanumeric()
        || b"-._~:[]@!$'()*+,=".contains(&byte)
        || if in_query { b"/?|".contains(&byte) } else { byte == b'&' }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    fn parsed(text: &str) -> Result<Uri, UriError> {
        text.parse()
    }

    #[test]
    fn the_examples_of_the_rfc() {
        // RFC 7512 §3, in order. What this service refuses, it refuses by name.
        let unknown = |name: &str| Err(UriError::Unknown(name.to_owned()));
        let rows: [(&str, Result<Uri, UriError>); 12] = [
            ("pkcs11:", Ok(Uri::default())),
            (
                "pkcs11:object=my-pubkey;type=public",
                Ok(Uri {
                    object: Some("my-pubkey".into()),
                    object_type: Some(ObjectType::Public),
                    ..Uri::default()
                }),
            ),
            (
                "pkcs11:object=my-key;type=private?pin-source=file:/etc/token",
                Ok(Uri {
                    object: Some("my-key".into()),
                    object_type: Some(ObjectType::Private),
                    pin_source: Some("/etc/token".into()),
                    ..Uri::default()
                }),
            ),
            (
                "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=Snake%20Oil,%20Inc.;model=1.0;object=my-certificate;type=cert;id=%69%95%3E%5C%F4%BD%EC%91;serial=?pin-source=file:/etc/token_pin",
                Ok(Uri {
                    token: Some("The Software PKCS#11 Softtoken".into()),
                    manufacturer: Some("Snake Oil, Inc.".into()),
                    model: Some("1.0".into()),
                    object: Some("my-certificate".into()),
                    object_type: Some(ObjectType::Certificate),
                    id: Some(vec![0x69, 0x95, 0x3E, 0x5C, 0xF4, 0xBD, 0xEC, 0x91]),
                    serial: Some(String::new()),
                    pin_source: Some("/etc/token_pin".into()),
                    ..Uri::default()
                }),
            ),
            ("pkcs11:object=my-sign-key;type=private?module-name=mypkcs11", unknown("module-name")),
            (
                "pkcs11:object=my-sign-key;type=private?module-path=/mnt/libmypkcs11.so.1",
                Ok(Uri {
                    object: Some("my-sign-key".into()),
                    object_type: Some(ObjectType::Private),
                    module_path: Some("/mnt/libmypkcs11.so.1".into()),
                    ..Uri::default()
                }),
            ),
            (
                "pkcs11:token=Software%20PKCS%2311%20softtoken;manufacturer=Snake%20Oil,%20Inc.?pin-value=the-pin",
                Err(UriError::PinValue),
            ),
            ("pkcs11:slot-description=Sun%20Metaslot", unknown("slot-description")),
            (
                "pkcs11:library-manufacturer=Snake%20Oil,%20Inc.;library-description=Soft%20Token%20Library;library-version=1.23",
                unknown("library-manufacturer"),
            ),
            (
                "pkcs11:token=My%20token%25%20created%20by%20Joe;library-version=3;id=%01%02%03%Ba%dd%Ca%fe%04%05%06",
                unknown("library-version"),
            ),
            (
                "pkcs11:token=A%20name%20with%20a%20substring%20%25%3B;object=my-certificate;type=cert",
                Ok(Uri {
                    token: Some("A name with a substring %;".into()),
                    object: Some("my-certificate".into()),
                    object_type: Some(ObjectType::Certificate),
                    ..Uri::default()
                }),
            ),
            (
                "pkcs11:token=Name%20with%20a%20small%20A%20with%20acute:%20%C3%A1;object=my-certificate;type=cert",
                Ok(Uri {
                    token: Some("Name with a small A with acute: \u{e1}".into()),
                    object: Some("my-certificate".into()),
                    object_type: Some(ObjectType::Certificate),
                    ..Uri::default()
                }),
            ),
        ];
        for (text, expected) in rows {
            assert_eq!(parsed(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_strictly_right_is_refused() {
        let encoding = |name: &str| UriError::Encoding(name.to_owned());
        let value = |name: &str| UriError::Value(name.to_owned());
        for (text, expected) in [
            ("PKCS11:token=a", UriError::NotOne),
            ("token=a", UriError::NotOne),
            ("pkcs11:token", UriError::NotAnAttribute("token".into())),
            ("pkcs11:token=a;", UriError::NotAnAttribute(String::new())),
            ("pkcs11:token=a;token=b", UriError::Twice("token".into())),
            ("pkcs11:token=a;x-vendor=b", UriError::Unknown("x-vendor".into())),
            ("pkcs11:pin-source=/a", UriError::Unknown("pin-source".into())),
            ("pkcs11:?token=a", UriError::Unknown("token".into())),
            ("pkcs11:token=%4", encoding("token")),
            ("pkcs11:token=%zz", encoding("token")),
            ("pkcs11:token=%+1", encoding("token")),
            ("pkcs11:token=a b", encoding("token")),
            ("pkcs11:token=a/b", encoding("token")),
            ("pkcs11:token=%FF", encoding("token")),
            ("pkcs11:token=\u{e1}", encoding("token")),
            ("pkcs11:slot-id=+1", value("slot-id")),
            ("pkcs11:slot-id=", value("slot-id")),
            ("pkcs11:slot-id=99999999999999999999", value("slot-id")),
            ("pkcs11:type=key", value("type")),
            ("pkcs11:?module-path=lib.so", value("module-path")),
            ("pkcs11:?pin-source=%7C/usr/bin/program", value("pin-source")),
            ("pkcs11:?pin-source=file://host/pin", value("pin-source")),
        ] {
            assert_eq!(parsed(text), Err(expected), "{text}");
        }
        assert_eq!(parsed(&format!("pkcs11:token={}", "a".repeat(URI_BYTES_MAX))), Err(UriError::NotOne));
        assert_eq!(parsed("pkcs11:?pin-source=file:///p").unwrap().pin_source, Some("/p".into()));
    }

    #[test]
    fn tokens_and_keys_are_named_once() {
        use crate::selector::{KeyAddress, TokenSelector};
        use chancery_format::SignatureAlgorithm::{Ed25519, HmacSha256};
        for (text, good) in [
            ("pkcs11:token=a", true),
            ("pkcs11:serial=1;model=m", true),
            ("pkcs11:slot-id=3", true),
            ("pkcs11:token=a;serial=1", false),
            ("pkcs11:manufacturer=m;model=m", false),
        ] {
            assert_eq!(TokenSelector::of_uri(&parsed(text).unwrap()).is_ok(), good, "{text}");
        }
        let token = TokenSelector::labelled("a");
        let key = |text: &str, algorithm| KeyAddress::parse(0, text, algorithm, &token);
        assert_eq!(key("orders", Ed25519).unwrap().object.as_deref(), Some("orders"));
        let by_id = key("pkcs11:token=a;id=%01;type=private", Ed25519).unwrap();
        assert_eq!((by_id.object, by_id.id), (None, Some(vec![1])));
        assert!(key("pkcs11:object=k;type=secret-key", HmacSha256).is_ok());
        assert_eq!(key("pkcs11:object=k;type=secret-key", Ed25519), Err(UriError::WrongType));
        assert_eq!(key("pkcs11:type=private", Ed25519), Err(UriError::KeyNotNamed));
        assert_eq!(key("pkcs11:object=k;token=b", Ed25519), Err(UriError::OtherToken));
        assert_eq!(key("pkcs11:object=k?module-path=/m", Ed25519), Err(UriError::NotForKeys));
    }
}
