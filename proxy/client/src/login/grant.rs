//! What is said to the provider, and how its answers are read (RFC 8628, RFC 6749, RFC 7009).

use chancery_identity::outbound::{Outbound, RemoteUrl, Reply};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{INTERVAL_SECONDS, INTERVAL_SECONDS_MAX, LOGIN_SECONDS_MAX};
use super::{LoginError, LoginOptions, Pkce, Prompt};

/// Longest token taken, in bytes: the service takes no longer ones.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Longest code to type, in characters.
const USER_CODE_CHARS_MAX: usize = 64;
/// Life of a token whose provider does not say, in seconds.
const TOKEN_SECONDS: u64 = 300;
/// Longest life of a token that is believed, in seconds; it only decides when a new one is fetched.
const TOKEN_SECONDS_MAX: u64 = 86_400;

/// What the provider gave us to wait with.
pub(crate) struct DeviceCode {
    code: Zeroizing<String>,
    pub(crate) prompt: Prompt,
    pub(crate) interval_seconds: u64,
}

/// Tokens.
pub(crate) struct Grant {
    pub(crate) access_token: Zeroizing<String>,
    pub(crate) refresh_token: Option<Zeroizing<String>>,
    /// Life of the access token, in seconds.
    pub(crate) expires_in: u64,
}

impl Grant {
    /// A provider that gives no new refresh token means the old one to stay (RFC 6749, section 6).
    pub(crate) fn or_keep(mut self, refresh_token: Zeroizing<String>) -> Self {
        self.refresh_token.get_or_insert(refresh_token);
        self
    }
}

/// What the provider says while a person decides.
pub(crate) enum Answer {
    Granted(Grant),
    Pending,
    SlowDown,
}

#[derive(Deserialize)]
struct DeviceReply {
    device_code: Zeroizing<String>,
    user_code: String,
    verification_uri: String,
    verification_uri_complete: Option<String>,
    expires_in: u64,
    interval: Option<u64>,
}

#[derive(Deserialize)]
struct TokenReply {
    access_token: Zeroizing<String>,
    token_type: String,
    expires_in: Option<u64>,
    refresh_token: Option<Zeroizing<String>>,
}

#[derive(Deserialize)]
struct ErrorReply {
    error: String,
}

pub(crate) async fn device_code(
    outbound: &Outbound,
    endpoint: &RemoteUrl,
    options: &LoginOptions,
    pkce: &Pkce,
) -> Result<DeviceCode, LoginError> {
    let challenge = pkce.challenge();
    let mut fields = vec![
        ("client_id", options.client_id.as_str()),
        ("scope", &options.scope),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ];
    fields.extend(target(options));
    let reply = outbound.post_form(endpoint, &fields).await.map_err(LoginError::Provider)?;
    if reply.status != 200 {
        return Err(refusal(&reply));
    }
    let told: DeviceReply = reply.read().map_err(LoginError::Provider)?;
    let prompt = Prompt {
        verification_uri: to_be_shown(told.verification_uri)?,
        verification_uri_complete: told.verification_uri_complete.map(to_be_shown).transpose()?,
        user_code: told.user_code,
        expires_in: told.expires_in.min(LOGIN_SECONDS_MAX),
    };
    if !is_plain(&prompt.user_code, USER_CODE_CHARS_MAX) {
        return Err(LoginError::BadAnswer("has a code that nobody can type"));
    }
    let interval = told.interval.unwrap_or(INTERVAL_SECONDS);
    let interval_seconds = interval.clamp(1, INTERVAL_SECONDS_MAX);
    Ok(DeviceCode { code: told.device_code, prompt, interval_seconds })
}

pub(crate) async fn redeem(
    outbound: &Outbound,
    endpoint: &RemoteUrl,
    options: &LoginOptions,
    code: &DeviceCode,
    pkce: &Pkce,
) -> Result<Answer, LoginError> {
    let mut fields = vec![
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("device_code", &code.code),
        ("client_id", &options.client_id),
        ("code_verifier", pkce.verifier()),
    ];
    fields.extend(target(options));
    let reply = outbound.post_form(endpoint, &fields).await.map_err(LoginError::Provider)?;
    if reply.status == 200 {
        return granted(&reply).map(Answer::Granted);
    }
    match refusal(&reply) {
        LoginError::Refused(word) if word == "authorization_pending" => Ok(Answer::Pending),
        LoginError::Refused(word) if word == "slow_down" => Ok(Answer::SlowDown),
        LoginError::Refused(word) if word == "expired_token" => Err(LoginError::TooLate),
        other => Err(other),
    }
}

pub(crate) async fn refresh(
    outbound: &Outbound,
    endpoint: &RemoteUrl,
    options: &LoginOptions,
    refresh_token: &str,
) -> Result<Grant, LoginError> {
    let mut fields = vec![
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh_token),
        ("client_id", &options.client_id),
    ];
    fields.extend(target(options));
    let reply = outbound.post_form(endpoint, &fields).await.map_err(LoginError::Provider)?;
    if reply.status == 200 {
        return granted(&reply);
    }
    match refusal(&reply) {
        LoginError::Refused(word) if word == "invalid_grant" => Err(LoginError::LoginNeeded),
        other => Err(other),
    }
}

pub(crate) async fn revoke(
    outbound: &Outbound,
    endpoint: &RemoteUrl,
    options: &LoginOptions,
    refresh_token: &str,
) -> Result<(), LoginError> {
    let fields = [
        ("token", refresh_token),
        ("token_type_hint", "refresh_token"),
        ("client_id", options.client_id.as_str()),
    ];
    let reply = outbound.post_form(endpoint, &fields).await.map_err(LoginError::Provider)?;
    if reply.status == 200 { Ok(()) } else { Err(refusal(&reply)) }
}

/// For whom the token is to be.
fn target(options: &LoginOptions) -> impl Iterator<Item = (&'static str, &str)> {
    let audience = options.audience.as_deref().map(|audience| ("audience", audience));
    audience.into_iter().chain(options.resource.as_deref().map(|resource| ("resource", resource)))
}

fn granted(reply: &Reply) -> Result<Grant, LoginError> {
    let told: TokenReply = reply.read().map_err(LoginError::Provider)?;
    if !told.token_type.eq_ignore_ascii_case("bearer") {
        return Err(LoginError::BadAnswer("is a token of another type than Bearer"));
    }
    let refresh_token = told.refresh_token;
    for token in std::iter::once(&told.access_token).chain(&refresh_token) {
        if !is_plain(token, TOKEN_BYTES_MAX) {
            return Err(LoginError::BadAnswer("is a token that cannot stand in a header"));
        }
    }
    let expires_in = told.expires_in.unwrap_or(TOKEN_SECONDS).min(TOKEN_SECONDS_MAX);
    Ok(Grant { access_token: told.access_token, refresh_token, expires_in })
}

/// OAuth's word for the refusal, if the answer has one.
fn refusal(reply: &Reply) -> LoginError {
    let overloaded = reply.status >= 500 || reply.status == 429;
    match reply.read::<ErrorReply>() {
        Ok(told) if !overloaded && is_plain(&told.error, 64) => LoginError::Refused(told.error),
        _ => LoginError::Provider(chancery_identity::outbound::OutboundError::Status(reply.status)),
    }
}

/// An address fit to be opened, and to be printed on a terminal.
fn to_be_shown(text: String) -> Result<String, LoginError> {
    let fit = is_plain(&text, 2048) && text.parse::<RemoteUrl>().is_ok();
    if fit { Ok(text) } else { Err(LoginError::BadAnswer("leads to a page that is not https")) }
}

/// Printable ASCII without spaces.
fn is_plain(text: &str, bytes_max: usize) -> bool {
    !text.is_empty() && text.len() <= bytes_max && text.bytes().all(|byte| byte.is_ascii_graphic())
}
