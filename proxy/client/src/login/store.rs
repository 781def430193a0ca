//! The token file: JSON, for its owner alone.
//!
//! `{"issuer", "clientId", "scope", "audience"?, "resource"?, "caFile"?, "accessToken", "expiresAt",
//! "refreshToken"?}`; `expiresAt` is RFC 3339 in UTC. Replaced whole, never half written.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use chancery_format::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::grant::Grant;
use super::{LEEWAY_MS, LoginError, LoginOptions};

/// Largest token file read, in bytes: two tokens and their names.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Permissions of group and others.
const OTHERS: u32 = 0o077;

/// A login as it is kept.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StoredLogin {
    /// The provider.
    pub issuer: String,
    /// Our name there.
    pub client_id: String,
    scope: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    audience: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_file: Option<PathBuf>,
    access_token: Zeroizing<String>,
    /// When the access token ends.
    pub expires_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<Zeroizing<String>>,
}

impl std::fmt::Debug for StoredLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { issuer, client_id, expires_at, .. } = self;
        write!(f, "StoredLogin {{ issuer: {issuer:?}, client_id: {client_id:?}, expires_at: {expires_at} }}")
    }
}

impl StoredLogin {
    pub(crate) fn new(options: &LoginOptions, grant: Grant, now: Timestamp) -> Self {
        let life_ms = i64::try_from(grant.expires_in).unwrap_or(0).saturating_mul(1_000);
        let options = options.clone();
        Self {
            issuer: options.issuer,
            client_id: options.client_id,
            scope: options.scope,
            audience: options.audience,
            resource: options.resource,
            ca_file: options.ca_file,
            access_token: grant.access_token,
            expires_at: Timestamp::from_unix_ms(now.unix_ms().saturating_add(life_ms)).unwrap_or(now),
            refresh_token: grant.refresh_token,
        }
    }

    /// Whether the access token is good for a while yet.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        now.unix_ms().saturating_add(LEEWAY_MS) < self.expires_at.unix_ms()
    }

    /// Whether a new access token can be had without the person.
    pub const fn is_refreshable(&self) -> bool {
        self.refresh_token.is_some()
    }

    /// Reads a login. Refuses a file that others can read.
    pub fn read(path: &Path) -> Result<Self, LoginError> {
        let failed = |cause: String| LoginError::File { path: path.to_owned(), cause };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(LoginError::NoLogin(path.to_owned()));
            }
            Err(error) => return Err(failed(error.to_string())),
        };
        // Of the file that is open, not of what the name means by now.
        let metadata = file.metadata().map_err(|error| failed(error.to_string()))?;
        if !metadata.is_file() {
            return Err(failed("not a file".to_owned()));
        }
        let mode = metadata.permissions().mode() & 0o777;
        if mode & OTHERS != 0 {
            return Err(LoginError::Exposed { path: path.to_owned(), mode });
        }
        let mut bytes = Zeroizing::new(Vec::new());
        let read = file.take(FILE_BYTES_MAX).read_to_end(&mut bytes);
        read.map_err(|error| failed(error.to_string()))?;
        // The parser's own words may repeat what it read.
        serde_json::from_slice(&bytes).map_err(|_| failed("not a login; log in again".to_owned()))
    }

    /// Writes the login, readable by its owner alone, in the place of what was there. Makes the folder.
    pub fn keep(&self, path: &Path) -> Result<(), LoginError> {
        let failed =
            |error: std::io::Error| LoginError::File { path: path.to_owned(), cause: error.to_string() };
        make_folder(path).map_err(failed)?;
        let text = serde_json::to_vec(self).map(Zeroizing::new).map_err(|error| failed(error.into()))?;
        let fresh = beside(path, &format!(".{}.new", std::process::id()));
        let written = write_new(&fresh, &text).and_then(|()| fs::rename(&fresh, path));
        written.map_err(|error| {
            // What is half written has no use; that it cannot be removed is not the trouble to be told.
            let _ = fs::remove_file(&fresh);
            failed(error)
        })
    }

    pub(crate) fn access_token(&self) -> Zeroizing<String> {
        self.access_token.clone()
    }

    pub(crate) fn refresh_token(&self) -> Option<Zeroizing<String>> {
        self.refresh_token.clone()
    }

    pub(crate) fn options(&self) -> LoginOptions {
        LoginOptions {
            issuer: self.issuer.clone(),
            client_id: self.client_id.clone(),
            scope: self.scope.clone(),
            audience: self.audience.clone(),
            resource: self.resource.clone(),
            ca_file: self.ca_file.clone(),
        }
    }
}

/// `$XDG_CONFIG_HOME/chancery/token.json`, or below `~/.config`.
pub fn default_token_file() -> Result<PathBuf, LoginError> {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = folder("XDG_CONFIG_HOME").or_else(|| folder("HOME").map(|home| home.join(".config")));
    Ok(config.ok_or(LoginError::NoHome)?.join("chancery/token.json"))
}

/// Held by whoever replaces or removes the login at `path`; released when dropped. Waits for others.
pub(crate) async fn lock(path: &Path) -> Result<File, LoginError> {
    let (path, lock) = (path.to_owned(), beside(path, ".lock"));
    let taken = tokio::task::spawn_blocking(move || {
        make_folder(&lock)?;
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&lock)?;
        file.lock()?;
        Ok(file)
    });
    let taken = taken.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    taken.map_err(|error| LoginError::File { path, cause: error.to_string() })
}

pub(crate) fn remove(path: &Path) -> Result<(), LoginError> {
    fs::remove_file(path)
        .map_err(|error| LoginError::File { path: path.to_owned(), cause: error.to_string() })
}

fn make_folder(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)
        }
        _ => Ok(()),
    }
}

/// Into a file of our own making: nobody can have left one, or a link, for us to write through.
fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

    use super::*;

    fn login(expires_in: u64) -> StoredLogin {
        let options = LoginOptions {
            issuer: "https://login.example".into(),
            client_id: "cli".into(),
            scope: "openid".into(),
            audience: None,
            resource: None,
            ca_file: None,
        };
        let access_token = "secret-a".to_owned().into();
        let refresh_token = Some("secret-r".to_owned().into());
        let now = Timestamp::from_unix_ms(1_800_000_000_000).unwrap();
        StoredLogin::new(&options, Grant { access_token, refresh_token, expires_in }, now)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_login_is_kept_for_its_owner_and_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/chancery/token.json");
        assert!(matches!(StoredLogin::read(&path), Err(LoginError::NoLogin(_))));
        login(300).keep(&path).unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(r#""expiresAt":"2027-01-15T08:05:00.000Z""#), "{text}");
        let read = StoredLogin::read(&path).unwrap();
        assert_eq!(read.access_token().as_str(), "secret-a");
        assert!(!format!("{read:?}").contains("secret"));
        // Replaced, and nothing left beside it.
        login(600).keep(&path).unwrap();
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token.json");
        login(300).keep(&path).unwrap();
        for exposed in [0o640, 0o604, 0o660, 0o610] {
            fs::set_permissions(&path, fs::Permissions::from_mode(exposed)).unwrap();
            let refusal = StoredLogin::read(&path).unwrap_err();
            assert!(matches!(refusal, LoginError::Exposed { mode, .. } if mode == exposed), "{refusal}");
        }
    }

    #[test]
    fn what_is_not_a_login_is_told_without_repeating_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token.json");
        write_new(&path, br#"{"issuer":"https://a","accessToken":7,"secret-x":"secret-y"}"#).unwrap();
        let refusal = StoredLogin::read(&path).unwrap_err().to_string();
        assert!(refusal.ends_with("not a login; log in again") && !refusal.contains("secret"), "{refusal}");
    }

    #[test]
    fn a_token_about_to_end_counts_as_ended() {
        let now = Timestamp::from_unix_ms(1_800_000_000_000).unwrap();
        assert!(login(31).is_valid(now));
        assert!(!login(30).is_valid(now));
    }
}
