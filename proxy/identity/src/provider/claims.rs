//! The token's inside: who, for whom, by whom, until when (RFC 7519, OpenID Connect Core 1.0, RFC 9068).

use std::time::Duration;

use serde_json::{Map, Value};

use super::{ProviderConfig, TokenError};
use crate::limits;

/// The claims of a token whose signature held; nothing else of them is checked yet.
pub(crate) struct Claims {
    issuer: String,
    audiences: Vec<String>,
    /// `azp` and `client_id`, where present.
    clients: Vec<String>,
    pub(crate) subject: String,
    pub(crate) expires: u64,
    not_before: Option<u64>,
    issued_at: u64,
    all: Map<String, Value>,
}

/// What claims are held to.
pub(crate) struct Rules<'a> {
    issuer: &'a str,
    audience: &'a str,
    client_ids: &'a [String],
    skew: u64,
    life_max: u64,
}

impl<'a> Rules<'a> {
    pub(crate) fn of(config: &'a ProviderConfig) -> Self {
        Self {
            issuer: &config.issuer,
            audience: &config.audience,
            client_ids: &config.client_ids,
            skew: seconds(config.clock_skew),
            life_max: seconds(config.token_life_max),
        }
    }
}

const fn seconds(duration: Duration) -> u64 {
    duration.as_secs()
}

impl Claims {
    pub(crate) fn read(all: &Map<String, Value>) -> Result<Self, TokenError> {
        let text = |name, otherwise| match all.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(TokenError::Malformed(otherwise)),
        };
        let issuer = text("iss", "iss is not a string")?.ok_or(TokenError::Malformed("iss is missing"))?;
        let subject = text("sub", "sub is not a string")?.ok_or(TokenError::Malformed("sub is missing"))?;
        if subject.is_empty() || subject.len() > limits::SUBJECT_BYTES_MAX {
            return Err(TokenError::Malformed("sub is empty or too long"));
        }
        let azp = text("azp", "azp is not a string")?;
        let client_id = text("client_id", "client_id is not a string")?;
        Ok(Self {
            issuer,
            audiences: audiences(all.get("aud"))?,
            clients: azp.into_iter().chain(client_id).collect(),
            subject,
            expires: time(all, "exp")?.ok_or(TokenError::Malformed("exp is missing"))?,
            not_before: time(all, "nbf")?,
            issued_at: time(all, "iat")?.ok_or(TokenError::Malformed("iat is missing"))?,
            all: all.clone(),
        })
    }

    /// `now`: seconds since 1970 (UTC).
    pub(crate) fn check(&self, rules: &Rules<'_>, now: u64) -> Result<(), TokenError> {
        if self.issuer != rules.issuer {
            return Err(TokenError::WrongIssuer);
        }
        if !self.audiences.iter().any(|audience| audience == rules.audience) {
            return Err(TokenError::WrongAudience);
        }
        let unnamed = self.clients.is_empty() && self.audiences.len() > 1;
        if unnamed || self.clients.iter().any(|client| !rules.client_ids.contains(client)) {
            return Err(TokenError::WrongClient);
        }
        if now >= self.expires.saturating_add(rules.skew) {
            return Err(TokenError::Expired);
        }
        let starts = self.not_before.unwrap_or(0).max(self.issued_at);
        if starts > now.saturating_add(rules.skew) {
            return Err(TokenError::NotYetValid);
        }
        // A token issued in the past may claim to be older than it is, but then it has expired.
        if self.expires.saturating_sub(self.issued_at) > rules.life_max {
            return Err(TokenError::TooLongLived);
        }
        Ok(())
    }

    /// A name for logs, without control characters, and not longer than they need.
    pub(crate) fn display(&self) -> Option<String> {
        let name = ["preferred_username", "email"].iter().find_map(|name| self.all.get(*name)?.as_str())?;
        let plain = name.chars().filter(|letter| !letter.is_control());
        Some(plain.take(limits::DISPLAY_CHARS_MAX).collect())
    }

    /// All strings at the paths, or in arrays there.
    pub(crate) fn values_at(&self, paths: &[String]) -> Vec<&str> {
        let mut values = Vec::new();
        for path in paths {
            let steps: Vec<&str> =
                if path.starts_with("https://") { vec![path] } else { path.split('.').collect() };
            collect(&self.all, &steps, &mut values);
        }
        values
    }
}

/// As deep as the configured path is long.
fn collect<'a>(object: &'a Map<String, Value>, steps: &[&str], values: &mut Vec<&'a str>) {
    let Some((step, rest)) = steps.split_first() else { return };
    let chosen = object.iter().filter(|(name, _)| *step == "*" || name.as_str() == *step);
    for (_, value) in chosen {
        match value {
            Value::Object(inner) => collect(inner, rest, values),
            Value::String(text) if rest.is_empty() => values.push(text),
            Value::Array(texts) if rest.is_empty() => values.extend(texts.iter().filter_map(Value::as_str)),
            _ => (),
        }
    }
}

fn audiences(claim: Option<&Value>) -> Result<Vec<String>, TokenError> {
    match claim {
        None => Err(TokenError::Malformed("aud is missing")),
        Some(Value::String(one)) => Ok(vec![one.clone()]),
        Some(Value::Array(several)) => {
            let texts: Option<Vec<_>> = several.iter().map(|one| Some(one.as_str()?.to_owned())).collect();
            texts.ok_or(TokenError::Malformed("aud is not made of strings"))
        }
        Some(_) => Err(TokenError::Malformed("aud is neither a string nor an array")),
    }
}

/// A time (RFC 7519, section 2): a number, maybe with a fraction, which is dropped.
fn time(all: &Map<String, Value>, name: &str) -> Result<Option<u64>, TokenError> {
    let Some(value) = all.get(name) else { return Ok(None) };
    let bad = TokenError::Malformed("a time is not a number of seconds since 1970");
    if let Some(whole) = value.as_u64() {
        return Ok(Some(whole));
    }
    let fraction = value.as_f64().filter(|it| (0.0..=9e15).contains(it)).ok_or(bad)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked a line above")]
    Ok(Some(fraction as u64))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    /// The claims of a good token with some of them replaced; `null` removes one.
    fn verdict(changes: &Value) -> Result<(), TokenError> {
        let mut claims = json!({
            "iss": "https://login.example", "aud": "chancery", "sub": "alice", "azp": "cli",
            "iat": NOW - 10, "exp": NOW + 290,
        });
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => claims.as_object_mut().unwrap().remove(name),
                value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
            };
        }
        let config = ProviderConfig::new("https://login.example", "chancery", vec!["cli".into()]);
        Claims::read(claims.as_object().unwrap())?.check(&Rules::of(&config), NOW)
    }

    #[test]
    fn who_for_whom_and_through_whom() {
        for (changes, code) in [
            (json!({}), None),
            (json!({"iss": "https://login.example/"}), Some("wrong-issuer")),
            (json!({"iss": "https://LOGIN.example"}), Some("wrong-issuer")),
            (json!({"iss": null}), Some("malformed-token")),
            (json!({"iss": ["https://login.example"]}), Some("malformed-token")),
            (json!({"aud": ["other", "chancery"]}), None),
            (json!({"aud": ["chancery"], "azp": null}), None),
            (json!({"aud": "chancery2"}), Some("wrong-audience")),
            (json!({"aud": []}), Some("wrong-audience")),
            (json!({"aud": null}), Some("malformed-token")),
            (json!({"aud": ["chancery", 7]}), Some("malformed-token")),
            (json!({"aud": {"chancery": true}}), Some("malformed-token")),
            (json!({"azp": "other"}), Some("wrong-client")),
            (json!({"client_id": "other"}), Some("wrong-client")),
            (json!({"azp": "other", "client_id": "cli"}), Some("wrong-client")),
            (json!({"azp": null, "client_id": "cli", "aud": ["chancery", "other"]}), None),
            (json!({"azp": null, "aud": ["chancery", "other"]}), Some("wrong-client")),
            (json!({"azp": 7}), Some("malformed-token")),
            (json!({"sub": ""}), Some("malformed-token")),
            (json!({"sub": null}), Some("malformed-token")),
            (json!({"sub": 7}), Some("malformed-token")),
            (json!({"sub": "a".repeat(255)}), None),
            (json!({"sub": "a".repeat(256)}), Some("malformed-token")),
        ] {
            assert_eq!(verdict(&changes).err().map(TokenError::code), code, "{changes}");
        }
    }

    #[test]
    fn from_when_until_when() {
        for (changes, code) in [
            (json!({"exp": NOW - 59}), None),
            (json!({"exp": NOW - 60}), Some("expired")),
            (json!({"exp": 0}), Some("expired")),
            (json!({"exp": null}), Some("malformed-token")),
            (json!({"exp": "1800000290"}), Some("malformed-token")),
            (json!({"exp": -1}), Some("malformed-token")),
            (json!({"exp": 1e300}), Some("malformed-token")),
            (json!({"exp": NOW as f64 + 100.5}), None),
            (json!({"exp": u64::MAX}), Some("too-long-lived")),
            (json!({"exp": NOW + 12 * 3600 - 10}), None),
            (json!({"exp": NOW + 12 * 3600 - 9}), Some("too-long-lived")),
            (json!({"nbf": NOW + 60}), None),
            (json!({"nbf": NOW + 61}), Some("not-yet-valid")),
            (json!({"nbf": "soon"}), Some("malformed-token")),
            (json!({"iat": NOW + 60}), None),
            (json!({"iat": NOW + 61}), Some("not-yet-valid")),
            (json!({"iat": null}), Some("malformed-token")),
            (json!({"iat": 0}), Some("too-long-lived")),
        ] {
            assert_eq!(verdict(&changes).err().map(TokenError::code), code, "{changes}");
        }
    }

    #[test]
    fn roles_are_read_at_the_configured_paths_alone() {
        let claims = json!({
            "iss": "i", "aud": "a", "sub": "s", "iat": 0, "exp": 0,
            "roles": "auditor", "groups": ["g1", 7, "g2"],
            "realm_access": {"roles": ["r"], "other": ["no"]},
            "resource_access": {"x": {"roles": ["x1"]}, "y": {"roles": "y1"}, "z": "no"},
            "scope": "openid superadmin", "https://corp.example/roles": ["c"],
        });
        let claims = Claims::read(claims.as_object().unwrap()).unwrap();
        let mut config = ProviderConfig::new("i", "a", vec!["x".into(), "y.z".into()]);
        assert_eq!(claims.values_at(&config.roles_claims), ["auditor", "g1", "g2", "r", "x1"]);
        config.roles_claims = vec!["https://corp.example/roles".into(), "resource_access.y.roles".into()];
        assert_eq!(claims.values_at(&config.roles_claims), ["c", "y1"]);
    }

    #[test]
    fn a_display_name_is_fit_for_a_log_line() {
        let display = |claims: Value| {
            let mut all = json!({"iss": "i", "aud": "a", "sub": "s", "iat": 0, "exp": 0});
            all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
            Claims::read(all.as_object().unwrap()).unwrap().display()
        };
        assert_eq!(
            display(json!({"preferred_username": "al\nice", "email": "a@b"})).as_deref(),
            Some("alice")
        );
        assert_eq!(display(json!({"email": "a@b"})).as_deref(), Some("a@b"));
        assert_eq!(display(json!({"name": "Alice"})), None);
        assert_eq!(display(json!({"email": "x".repeat(500)})).map(|name| name.len()), Some(128));
    }
}
