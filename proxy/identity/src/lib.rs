//! Who a person is, by an OpenID Connect bearer token, and what the company's policy service says.
//!
//! Promises: a [`Person`] exists only if a token of the configured provider was verified, whole: signature,
//! issuer, audience, client, times. A forged token costs the provider nothing: keys are fetched at most once
//! per window, whatever callers send. Every call out has one deadline, a size limit, and goes to `https` or
//! to this machine. No part of a token is in any error, log line or `Debug` text.
//!
//! Refuses: unsigned and HMAC-signed tokens (there is no way to configure them), keys that do not fit the
//! algorithm, JSON that says a thing twice, redirects, proxies from the environment. When the provider is
//! away, known keys serve for a bounded time; then every token is refused.
//!
//! | file | promises |
//! |---|---|
//! | `provider.rs` | [`Provider::verify`]: a token becomes a [`Person`], or an error with a stable code |
//! | `provider/config.rs` | what can be configured, checked once |
//! | `provider/jws.rs` | the token's outside: its size, header and signature (RFC 7515) |
//! | `provider/claims.rs` | its inside: who, for whom, until when (RFC 7519, RFC 9068) |
//! | `provider/keys.rs` | the provider's keys (RFC 7517) |
//! | `provider/cache.rs` | fetched when, kept how long |
//! | `provider/error.rs` | why a token is refused, whose fault, whether to retry |
//! | `person.rs`, `role.rs` | the name that is recorded, and what a person may be |
//! | `discovery.rs` | what a provider says of itself, if it is the one we mean |
//! | `hook.rs`, `hook/` | [`PolicyHook::ask`]: may this be done? Asked of SentinelNet or OPA |
//! | `outbound.rs`, `outbound/` | the one HTTP client for calls out |
//! | `strict_json.rs` | JSON in which every member is said once |
//! | `limits.rs` | every bound, with its reason |
//!
//! Sits beside hop 2 of the request's path: `proxy/src/authenticate.rs` knows services by certificate, this
//! crate knows people by token. The clock is an argument, in seconds since 1970 (UTC).

pub mod discovery;
pub mod hook;
pub mod limits;
pub mod outbound;
mod percent;
mod person;
mod provider;
mod role;
mod strict_json;

pub use hook::{
    HookConfig, HookConfigError, HookDialect, HookFailure, HookQuestion, HookVerdict, PolicyDetails,
    PolicyHook,
};
pub use person::Person;
pub use provider::{ConfigError, Provider, ProviderConfig, TokenAlgorithm, TokenError};
pub use role::Role;
