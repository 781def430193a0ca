//! Logs a person in at an OpenID provider, from a shell: the device flow (RFC 8628).
//!
//! Promises: the token is kept in a file only its owner can read, and is in no error and no `Debug` text; the
//! person is asked once, for at most [`LOGIN_SECONDS_MAX`]; the provider is asked no faster than it allows, and
//! slower when it says so or cannot be reached. [`access_token`] gives a token that is valid now, with a new one
//! fetched where that needs no person; of several processes that want one, one fetches.
//!
//! Refuses: token files that others can read; addresses to show a person that are not `https` (or this
//! machine); a provider that calls itself by another name.
//!
//! PKCE (RFC 7636) binds the answer to this process, at providers that apply it to this flow; others ignore it.

mod error;
mod grant;
mod pkce;
mod store;

use std::path::{Path, PathBuf};
use std::time::Duration;

use chancery_format::Timestamp;
use chancery_identity::discovery::Discovery;
use chancery_identity::outbound::{Outbound, OutboundConfig, RemoteUrl};
use tokio::time::Instant;
use zeroize::Zeroizing;

use grant::{Answer, DeviceCode};
use pkce::Pkce;

pub use error::LoginError;
pub use store::{StoredLogin, default_token_file};

/// Longest wait for a person, in seconds, whatever the provider says.
pub const LOGIN_SECONDS_MAX: u64 = 1_800;
/// Pause between questions if the provider names none, in seconds (RFC 8628, section 3.2).
const INTERVAL_SECONDS: u64 = 5;
/// What `slow_down` adds to it, in seconds (section 3.5).
const SLOW_DOWN_SECONDS: u64 = 5;
/// Longest pause between questions, in seconds.
const INTERVAL_SECONDS_MAX: u64 = 60;
/// A token that ends within this time counts as ended, in milliseconds: it must still reach the service.
const LEEWAY_MS: i64 = 30_000;
/// Time for one call to the provider.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the time comes from.
pub type Clock = fn() -> Timestamp;

/// The machine's clock. One that cannot be true tells the latest time there is: then every token has ended.
pub fn wall_clock() -> Timestamp {
    const LATEST: Timestamp = match Timestamp::from_unix_ms(253_402_300_799_999) {
        Ok(latest) => latest,
        Err(_) => panic!("the last millisecond of the year 9999 is a timestamp"),
    };
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok();
    let ms = since.and_then(|since| i64::try_from(since.as_millis()).ok());
    ms.and_then(|ms| Timestamp::from_unix_ms(ms).ok()).unwrap_or(LATEST)
}

/// Where to log in, and what for.
#[derive(Debug, Clone)]
pub struct LoginOptions {
    /// The provider's name for itself, a URL.
    pub issuer: String,
    /// Our name there: a public client with the device flow.
    pub client_id: String,
    /// What is asked for, separated by spaces; `offline_access` asks for a refresh token.
    pub scope: String,
    /// For whom the token is to be, in the way of some providers (`audience`).
    pub audience: Option<String>,
    /// For whom the token is to be (`resource`, RFC 8707).
    pub resource: Option<String>,
    /// PEM file of the authorities that may vouch for the provider; `None`: the machine's own.
    pub ca_file: Option<PathBuf>,
}

/// What a person must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// The page to open.
    pub verification_uri: String,
    /// The same with the code in it, if the provider offers that.
    pub verification_uri_complete: Option<String>,
    /// The code to type there: letters, digits, punctuation.
    pub user_code: String,
    /// Time to do it, in seconds.
    pub expires_in: u64,
}

/// A login under way.
pub struct DeviceLogin {
    options: LoginOptions,
    outbound: Outbound,
    token_endpoint: RemoteUrl,
    code: DeviceCode,
    pkce: Pkce,
}

impl DeviceLogin {
    /// Asks the provider for a code.
    pub async fn start(options: LoginOptions) -> Result<Self, LoginError> {
        let outbound = outbound(options.ca_file.as_deref())?;
        let discovery = Discovery::fetch(&outbound, &options.issuer).await?;
        let missing = || LoginError::NoDeviceFlow(options.issuer.clone());
        let token_endpoint = discovery.token_endpoint.ok_or_else(missing)?;
        let device_endpoint = discovery.device_authorization_endpoint.ok_or_else(missing)?;
        let pkce = Pkce::random()?;
        let code = grant::device_code(&outbound, &device_endpoint, &options, &pkce).await?;
        Ok(Self { options, outbound, token_endpoint, code, pkce })
    }

    /// What to show the person.
    pub const fn prompt(&self) -> &Prompt {
        &self.code.prompt
    }

    /// Waits until the person has agreed or refused, or the time is over. Keeps nothing: see
    /// [`StoredLogin::keep`].
    pub async fn wait(self, clock: Clock) -> Result<StoredLogin, LoginError> {
        let deadline = Instant::now() + Duration::from_secs(self.code.prompt.expires_in);
        let mut interval = self.code.interval_seconds;
        loop {
            let next = Instant::now() + Duration::from_secs(interval);
            if next >= deadline {
                tokio::time::sleep_until(deadline).await;
                return Err(LoginError::TooLate);
            }
            tokio::time::sleep_until(next).await;
            let answer =
                grant::redeem(&self.outbound, &self.token_endpoint, &self.options, &self.code, &self.pkce)
                    .await;
            match answer {
                Ok(Answer::Granted(grant)) => return Ok(StoredLogin::new(&self.options, grant, clock())),
                Ok(Answer::Pending) => (),
                Ok(Answer::SlowDown) => interval += SLOW_DOWN_SECONDS,
                // Section 3.5: one that does not answer is asked less often.
                Err(LoginError::Provider(_)) => interval *= 2,
                Err(error) => return Err(error),
            }
            interval = interval.min(INTERVAL_SECONDS_MAX);
        }
    }
}

fn outbound(ca_file: Option<&Path>) -> Result<Outbound, LoginError> {
    Ok(Outbound::new(&OutboundConfig {
        ca_file: ca_file.map(Path::to_owned),
        connect_timeout: CALL_TIMEOUT,
        total_timeout: CALL_TIMEOUT,
    })?)
}

/// The access token of the login kept in `file`, valid for a while yet: the one that is there, or a new one, which
/// is then kept too. Needs a tokio runtime; asks the provider only if the token has ended.
pub async fn access_token(file: &Path, clock: Clock) -> Result<Zeroizing<String>, LoginError> {
    let kept = StoredLogin::read(file)?;
    if kept.is_valid(clock()) {
        return Ok(kept.access_token());
    }
    // One of all processes asks: a refresh token is good once, and a second use looks like theft.
    let _lock = store::lock(file).await?;
    let kept = StoredLogin::read(file)?;
    if kept.is_valid(clock()) {
        return Ok(kept.access_token());
    }
    let refreshed = refresh(&kept, clock).await?;
    refreshed.keep(file)?;
    Ok(refreshed.access_token())
}

async fn refresh(kept: &StoredLogin, clock: Clock) -> Result<StoredLogin, LoginError> {
    let options = kept.options();
    let refresh_token = kept.refresh_token().ok_or(LoginError::LoginNeeded)?;
    let outbound = outbound(options.ca_file.as_deref())?;
    let discovery = Discovery::fetch(&outbound, &options.issuer).await?;
    let endpoint = discovery.token_endpoint.ok_or(LoginError::LoginNeeded)?;
    let grant = grant::refresh(&outbound, &endpoint, &options, &refresh_token).await?;
    Ok(StoredLogin::new(&options, grant.or_keep(refresh_token), clock()))
}

/// Forgets the login kept in `file`, and asks the provider to withdraw its refresh token (RFC 7009). The file is
/// gone whatever the provider says. `Ok(false)`: there was none. An `Err` after the file is gone is
/// [`LoginError::NotWithdrawn`].
pub async fn logout(file: &Path) -> Result<bool, LoginError> {
    let _lock = store::lock(file).await?;
    let kept = match StoredLogin::read(file) {
        Err(LoginError::NoLogin(_)) => return Ok(false),
        // A file that cannot be read or believed is removed all the same.
        kept => kept.ok(),
    };
    store::remove(file)?;
    let Some((kept, token)) = kept.and_then(|kept| kept.refresh_token().map(|token| (kept, token))) else {
        return Ok(true);
    };
    let options = kept.options();
    let withdraw = async {
        let outbound = outbound(options.ca_file.as_deref())?;
        match Discovery::fetch(&outbound, &options.issuer).await?.revocation_endpoint {
            Some(endpoint) => grant::revoke(&outbound, &endpoint, &options, &token).await,
            None => Ok(()),
        }
    };
    withdraw.await.map_err(|error| LoginError::NotWithdrawn(error.to_string()))?;
    Ok(true)
}
