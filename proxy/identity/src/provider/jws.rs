//! The token's outside: three parts in base64url, of which the first says how it was signed (RFC 7515).
//!
//! Only `alg`, `kid`, `typ` and `crit` of the header are looked at. Keys or addresses of keys that a token
//! brings itself (`jwk`, `jku`, `x5c`, `x5u`) are never used.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde_json::{Map, Value};

use super::{TokenAlgorithm, TokenError};
use crate::{limits, strict_json};

/// A token whose header is in order and whose signature nobody has checked.
pub(crate) struct Jws<'a> {
    /// Header and payload as they were signed.
    signed: &'a str,
    payload: &'a str,
    signature: &'a str,
    header: Map<String, Value>,
}

impl<'a> Jws<'a> {
    pub(crate) fn read(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > limits::TOKEN_BYTES_MAX {
            return Err(TokenError::TooLarge);
        }
        let parts = || {
            let (signed, signature) = token.rsplit_once('.')?;
            let (header, payload) = signed.split_once('.')?;
            (!payload.contains('.')).then_some((signed, header, payload, signature))
        };
        let (signed, header, payload, signature) = parts().ok_or(TokenError::Malformed("not three parts"))?;
        let header = object(header, "its header is not one JSON object, or says a thing twice")?;
        let jws = Self { signed, payload, signature, header };
        jws.check_header()?;
        Ok(jws)
    }

    fn check_header(&self) -> Result<(), TokenError> {
        if self.header.contains_key("crit") {
            return Err(TokenError::CriticalHeader);
        }
        // Some providers leave `typ` out; RFC 7515 allows that.
        match self.header.get("typ") {
            None => (),
            Some(Value::String(text)) => {
                let text = text.to_ascii_lowercase();
                if !matches!(text.strip_prefix("application/").unwrap_or(&text), "jwt" | "at+jwt") {
                    return Err(TokenError::WrongType);
                }
            }
            Some(_) => return Err(TokenError::Malformed("typ is not a string")),
        }
        match self.header.get("kid") {
            None | Some(Value::String(_)) => Ok(()),
            Some(_) => Err(TokenError::Malformed("kid is not a string")),
        }
    }

    /// The header's algorithm, if it is one of those allowed.
    pub(crate) fn algorithm(&self, allowed: &[TokenAlgorithm]) -> Result<TokenAlgorithm, TokenError> {
        let name = self.header.get("alg").and_then(Value::as_str);
        let name = name.ok_or(TokenError::Malformed("alg is missing"))?;
        let known = TokenAlgorithm::parse(name).filter(|algorithm| allowed.contains(algorithm));
        known.ok_or(TokenError::AlgorithmNotAllowed)
    }

    pub(crate) fn kid(&self) -> Option<&str> {
        self.header.get("kid").and_then(Value::as_str)
    }

    /// The payload, if `key` signed it.
    pub(crate) fn verified_payload(
        &self,
        key: &DecodingKey,
        algorithm: TokenAlgorithm,
    ) -> Result<Map<String, Value>, TokenError> {
        let message = self.signed.as_bytes();
        match jsonwebtoken::crypto::verify(self.signature, message, key, algorithm.in_library()) {
            Ok(true) => object(self.payload, "its payload is not one JSON object, or says a thing twice"),
            Ok(false) | Err(_) => Err(TokenError::BadSignature),
        }
    }
}

/// A part that is a JSON object. Base64url without padding, as RFC 7515 has it and no other way.
fn object(part: &str, otherwise: &'static str) -> Result<Map<String, Value>, TokenError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed("not base64url"))?;
    strict_json::object(&bytes).map_err(|_| TokenError::Malformed(otherwise))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str) -> String {
        format!("{}.e30.AA", URL_SAFE_NO_PAD.encode(header))
    }

    fn refusal(token: &str) -> Option<TokenError> {
        Jws::read(token).err()
    }

    #[test]
    fn a_header_is_held_to_its_rules() {
        for header in [
            r#"{"alg":"ES256"}"#,
            r#"{"alg":"ES256","typ":"JWT","kid":"a","jku":"https://evil.example/"}"#,
            r#"{"alg":"ES256","typ":"application/at+JWT"}"#,
        ] {
            assert_eq!(refusal(&token(header)), None, "{header}");
        }
        for (header, code) in [
            (r#"{"alg":"ES256","crit":["exp"]}"#, "critical-header"),
            (r#"{"alg":"ES256","crit":null}"#, "critical-header"),
            (r#"{"alg":"ES256","typ":"logout+jwt"}"#, "wrong-token-type"),
            (r#"{"alg":"ES256","typ":7}"#, "malformed-token"),
            (r#"{"alg":"ES256","kid":7}"#, "malformed-token"),
            (r#"{"alg":"none","alg":"ES256"}"#, "malformed-token"),
            ("[]", "malformed-token"),
        ] {
            assert_eq!(refusal(&token(header)).map(TokenError::code), Some(code), "{header}");
        }
    }

    #[test]
    fn only_configured_algorithms_pass_by_their_exact_name() {
        let allowed = [TokenAlgorithm::Rs256, TokenAlgorithm::Es256];
        for (name, passes) in [
            ("RS256", true),
            ("ES256", true),
            ("EdDSA", false),
            ("PS256", false),
            ("HS256", false),
            ("none", false),
            ("None", false),
            ("rs256", false),
            ("", false),
        ] {
            let token = token(&format!(r#"{{"alg":"{name}"}}"#));
            let algorithm = Jws::read(&token).and_then(|jws| jws.algorithm(&allowed));
            assert_eq!(algorithm.is_ok(), passes, "{name}");
        }
        let missing = token("{}");
        let algorithm = Jws::read(&missing).and_then(|jws| jws.algorithm(&allowed));
        assert_eq!(algorithm, Err(TokenError::Malformed("alg is missing")));
    }

    #[test]
    fn what_is_not_three_parts_of_base64url_is_malformed() {
        let good = token(r#"{"alg":"ES256"}"#);
        let header = good.split('.').next().unwrap_or_default();
        for text in ["", ".", "..", "a.b", &format!("{good}.AA"), &format!("{header}=.e30.AA"), "é.é.é"] {
            assert_eq!(refusal(text).map(TokenError::code), Some("malformed-token"), "{text}");
        }
        assert_eq!(refusal(&"a".repeat(limits::TOKEN_BYTES_MAX + 1)), Some(TokenError::TooLarge));
    }
}
