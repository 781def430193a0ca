//! Where the service is and who we are. Files are read once, when the client is made.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use zeroize::Zeroizing;

use crate::limits;

/// Which HTTP to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HttpVersion {
    /// HTTP/2 if the service offers it, else HTTP/1.1.
    #[default]
    Negotiate,
    /// HTTP/1.1 only: one connection per call in flight.
    Http1,
}

/// How to reach the service.
#[derive(Debug, Clone)]
pub struct Options {
    /// `https://HOST[:PORT]`; the default port is 8443, that of people's acts 8444.
    pub url: String,
    /// PEM file of the authorities that may vouch for the service.
    pub ca: PathBuf,
    /// PEM file of our certificate chain, and of its key. `None` reaches the public routes only.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Which HTTP to speak.
    pub http: HttpVersion,
    /// Time for a whole call with its attempts, in milliseconds.
    pub call_timeout_ms: u64,
    /// Time for TCP and TLS together, in milliseconds.
    pub connect_timeout_ms: u64,
    /// Attempts of one call, the first included; at least one is made.
    pub attempts_max: u32,
}

impl Options {
    /// The defaults of [`limits`], without a client certificate.
    pub fn new(url: impl Into<String>, ca: impl Into<PathBuf>) -> Self {
        Self {
            url: url.into(),
            ca: ca.into(),
            identity: None,
            http: HttpVersion::Negotiate,
            call_timeout_ms: limits::CALL_TIMEOUT_MS,
            connect_timeout_ms: limits::CONNECT_TIMEOUT_MS,
            attempts_max: limits::ATTEMPTS_MAX,
        }
    }

    /// Adds the client certificate and its key.
    #[must_use]
    pub fn identity(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity = Some((certificate.into(), key.into()));
        self
    }
}

/// Why the options cannot be used. The configuration is at fault; nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// The URL is not `https://HOST[:PORT]`.
    #[error("{0:?} is not a service address; write https://HOST:PORT")]
    Url(String),
    /// A file cannot be read or holds no such PEM block.
    #[error("{path}: {cause}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// Certificate and key do not belong together, or neither is usable.
    #[error("certificate and key cannot be used: {0}")]
    Identity(String),
}

/// The options, parsed: what the connection needs.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) authority: String,
    pub(crate) server_name: ServerName<'static>,
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) connect_timeout: Duration,
}

impl Endpoint {
    pub(crate) fn parse(options: &Options, default_port: u16) -> Result<Self, OptionsError> {
        let (host, port) = host_and_port(&options.url, default_port)?;
        let server_name =
            ServerName::try_from(host.clone()).map_err(|_| OptionsError::Url(options.url.clone()))?;
        let shown = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        Ok(Self {
            authority: format!("{shown}:{port}"),
            host,
            port,
            server_name,
            tls: Arc::new(tls_config(options)?),
            connect_timeout: Duration::from_millis(options.connect_timeout_ms),
        })
    }
}

fn host_and_port(url: &str, default_port: u16) -> Result<(String, u16), OptionsError> {
    let refuse = || OptionsError::Url(url.to_owned());
    let uri: hyper::Uri = url.parse().map_err(|_| refuse())?;
    let bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
    let authority =
        uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(refuse)?;
    if uri.scheme_str() != Some("https") || !bare || authority.host().is_empty() {
        return Err(refuse());
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    Ok((host.to_owned(), authority.port_u16().unwrap_or(default_port)))
}

/// TLS 1.3 only, no resumption: each connection shows its certificate.
fn tls_config(options: &Options) -> Result<ClientConfig, OptionsError> {
    tls_of(options, false)
}

/// The same; where `machine` says so, the machine's own authorities may vouch, and no file is read.
pub(crate) fn tls_of(options: &Options, machine: bool) -> Result<ClientConfig, OptionsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| OptionsError::Identity(error.to_string()))?
        .with_root_certificates(if machine { machine_roots() } else { roots(&options.ca)? });
    let mut config = match &options.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
            .map_err(|error| OptionsError::Identity(error.to_string()))?,
    };
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = match options.http {
        HttpVersion::Negotiate => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        HttpVersion::Http1 => vec![b"http/1.1".to_vec()],
    };
    Ok(config)
}

fn roots(path: &Path) -> Result<RootCertStore, OptionsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| file_error(path, &error))?;
    }
    Ok(roots)
}

/// Certificates of the machine that cannot be read are passed over, as every other program does.
fn machine_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, OptionsError> {
    let pem = read_pem(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(file_error(path, &"holds no CERTIFICATE block")),
        Err(error) => Err(file_error(path, &error)),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, OptionsError> {
    PrivateKeyDer::from_pem_slice(&read_pem(path)?).map_err(|error| file_error(path, &error))
}

/// The file's bytes, wiped when dropped: one of the files is a private key.
fn read_pem(path: &Path) -> Result<Zeroizing<Vec<u8>>, OptionsError> {
    let read = || {
        let mut bytes = Zeroizing::new(Vec::new());
        std::fs::File::open(path)?.take(limits::PEM_BYTES_MAX).read_to_end(&mut bytes)?;
        std::io::Result::Ok(bytes)
    };
    read().map_err(|error| file_error(path, &error))
}

fn file_error(path: &Path, cause: &dyn std::fmt::Display) -> OptionsError {
    OptionsError::File { path: path.to_owned(), cause: cause.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bare_https_address_is_a_service() {
        for (url, host, port) in [
            ("https://127.0.0.1:9001", "127.0.0.1", 9001),
            ("https://sign.example/", "sign.example", 8443),
            ("https://[::1]:8443", "::1", 8443),
        ] {
            assert_eq!(host_and_port(url, 8443).ok(), Some((host.to_owned(), port)), "{url}");
        }
        for url in [
            "http://sign.example",
            "https://",
            "sign.example:8443",
            "https://a/b",
            "https://a/?q=1",
            "https://u:p@a/",
            "",
        ] {
            assert!(host_and_port(url, 8443).is_err(), "{url}");
        }
    }

    #[test]
    fn a_missing_or_empty_file_is_named() {
        let missing = roots(Path::new("/nonexistent/ca.crt")).err().map(|error| error.to_string());
        assert!(missing.is_some_and(|text| text.starts_with("/nonexistent/ca.crt: ")));
        let none = certificates(Path::new("/dev/null")).err().map(|error| error.to_string());
        assert_eq!(none.as_deref(), Some("/dev/null: holds no CERTIFICATE block"));
    }
}
