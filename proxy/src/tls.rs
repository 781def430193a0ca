//! TLS 1.3 with post-quantum key exchange, and everything that can be reloaded about it.
//!
//! Promises: TLS 1.3 only, X25519MLKEM768 first; a client certificate is requested, and if one is shown
//! it must lead to a configured authority and be neither expired nor revoked, or the handshake fails
//! with the alert that says so. No tickets and no resumption, which would skip that check. A file that
//! does not load never replaces one that did.
//!
//! Requests on connections that are already open are checked again whenever the files change: see
//! [`Tls::still_accepts`] and `authenticate/session.rs`.

mod files;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::config::ServiceListener;
pub(crate) use files::stamp;
use files::{Material, Stamps};

/// Why certificates could not be loaded. The operator is at fault; what was in force stays in force.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read.
    #[error("{file}: {cause}")]
    Read {
        /// The file.
        file: String,
        /// What the system said.
        cause: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{file}: {reason}")]
    Content {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// Certificate and key do not belong together, or the key's type is not supported.
    #[error("server certificate and key: {0}")]
    Server(rustls::Error),
    /// Authorities and revocation lists do not make a verifier.
    #[error("client authorities and revocation lists: {0}")]
    Client(rustls::server::VerifierBuilderError),
}

/// What one generation of the files says.
struct Loaded {
    config: Arc<ServerConfig>,
    verifier: Arc<dyn ClientCertVerifier>,
    server_not_after_unix_s: i64,
    crl_next_update_unix_s: Option<i64>,
}

/// The listener's certificates, in force and reloadable.
pub struct Tls {
    files: ServiceListener,
    loaded: ArcSwap<Loaded>,
    generation: AtomicU64,
    seen: std::sync::Mutex<Stamps>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

/// What a look at the files led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// They are what they were.
    Unchanged,
    /// They changed and are in force.
    Applied,
}

impl Tls {
    /// Loads all files; `now` decides what has expired.
    pub fn load(files: &ServiceListener, now: UnixTime) -> Result<Self, TlsError> {
        let stamps = Stamps::of(files);
        let loaded = Loaded::from(&Material::read(files)?, now)?;
        Ok(Self {
            files: files.clone(),
            loaded: ArcSwap::from_pointee(loaded),
            generation: AtomicU64::new(0),
            seen: std::sync::Mutex::new(stamps),
        })
    }

    /// Loads the files again if one of them changed, or always if `forced`. A set of files that failed
    /// is not tried again until one changes.
    pub fn reload(&self, now: UnixTime, forced: bool) -> Result<Reload, TlsError> {
        let stamps = Stamps::of(&self.files);
        {
            let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if *seen == stamps && !forced {
                return Ok(Reload::Unchanged);
            }
            *seen = stamps;
        }
        let loaded = Loaded::from(&Material::read(&self.files)?, now)?;
        self.loaded.store(Arc::new(loaded));
        self.generation.fetch_add(1, Ordering::Release);
        Ok(Reload::Applied)
    }

    /// What new connections are served with.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.loaded.load().config)
    }

    /// Grows with every reload that was applied.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether a chain that was accepted in a handshake would be accepted now.
    pub fn still_accepts(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> bool {
        let Some((leaf, intermediates)) = chain.split_first() else { return false };
        self.loaded.load().verifier.verify_client_cert(leaf, intermediates, now).is_ok()
    }

    /// When the server certificate expires, in Unix seconds.
    pub fn server_not_after_unix_s(&self) -> i64 {
        self.loaded.load().server_not_after_unix_s
    }

    /// When the first of the revocation lists goes stale, in Unix seconds.
    pub fn crl_next_update_unix_s(&self) -> Option<i64> {
        self.loaded.load().crl_next_update_unix_s
    }
}

impl Loaded {
    fn from(material: &Material, now: UnixTime) -> Result<Self, TlsError> {
        material.check_times(now)?;
        let provider = Arc::new(provider());
        let verifier = verifier(material, &provider)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Server)?
            .with_client_cert_verifier(Arc::clone(&verifier))
            .with_single_cert(material.certificates.clone(), material.key.clone_key())
            .map_err(TlsError::Server)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.max_early_data_size = 0;
        Ok(Self {
            config: Arc::new(config),
            verifier,
            server_not_after_unix_s: material.server_not_after_unix_s,
            crl_next_update_unix_s: material.crl_next_update_unix_s,
        })
    }
}

/// The primitives we offer, best first.
fn provider() -> CryptoProvider {
    use aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768};
    CryptoProvider {
        kx_groups: vec![X25519MLKEM768, X25519, SECP256R1, SECP384R1],
        ..aws_lc_rs::default_provider()
    }
}

/// Certificates are requested, not required, because health checks have none. Where revocation lists are
/// configured, a chain whose authority has none, or a stale one, is refused: silence is not good news.
fn verifier(
    material: &Material,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in &material.authorities {
        roots.add(authority.clone()).map_err(TlsError::Server)?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .with_crls(material.revocations.iter().cloned())
        .enforce_revocation_expiration()
        .allow_unauthenticated()
        .build()
        .map_err(TlsError::Client)
}

/// Why a handshake failed, from a closed list for metrics and logs.
pub fn failure_reason(error: &std::io::Error) -> &'static str {
    use rustls::{CertificateError as Certificate, Error, PeerIncompatible};
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return "connection";
    };
    match error {
        Error::InvalidCertificate(reason) => match reason {
            Certificate::Revoked => "revoked",
            Certificate::Expired | Certificate::ExpiredContext { .. } => "expired",
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => "not-yet-valid",
            Certificate::UnknownIssuer => "unknown-issuer",
            Certificate::UnknownRevocationStatus => "unknown-revocation-status",
            Certificate::ExpiredRevocationList | Certificate::ExpiredRevocationListContext { .. } => {
                "stale-crl"
            }
            Certificate::InvalidPurpose | Certificate::InvalidPurposeContext { .. } => "wrong-purpose",
            _ => "bad-certificate",
        },
        Error::PeerIncompatible(PeerIncompatible::SupportedVersionsExtensionRequired)
        | Error::PeerIncompatible(PeerIncompatible::Tls13RequiredForQuic) => "version",
        Error::PeerIncompatible(_) => "incompatible",
        Error::AlertReceived(_) => "client-alert",
        Error::InvalidMessage(_)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. } => "not-tls",
        _ => "other",
    }
}
