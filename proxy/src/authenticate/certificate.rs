//! Reads the names of a certificate strictly: what two readers could read differently is refused.

use chancery_format::Hash;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::IdentityError;

/// What a verified certificate says about its owner, read once per connection.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    pub(super) sha256: Hash,
    not_after_unix_s: i64,
    pub(super) names: Result<CertificateNames, IdentityError>,
}

/// The names of a certificate, by kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CertificateNames {
    pub(super) uri: Option<String>,
    pub(super) dns: Vec<String>,
    pub(super) common_name: Option<String>,
}

impl ClientCertificate {
    /// Reads the end-entity certificate that TLS verified.
    pub fn read(certificate: &CertificateDer<'_>) -> Self {
        let sha256 = Hash::of(&[certificate.as_ref()]);
        match X509Certificate::from_der(certificate.as_ref()) {
            Ok(([], parsed)) => Self {
                sha256,
                not_after_unix_s: parsed.validity().not_after.timestamp(),
                names: CertificateNames::read(&parsed),
            },
            _ => Self { sha256, not_after_unix_s: 0, names: Err(IdentityError::Malformed) },
        }
    }

    /// Whether the certificate had run out at `unix_s`.
    pub const fn expired_at(&self, unix_s: i64) -> bool {
        unix_s > self.not_after_unix_s
    }
}

impl CertificateNames {
    fn read(certificate: &X509Certificate<'_>) -> Result<Self, IdentityError> {
        let mut uris = Vec::new();
        let mut dns = Vec::new();
        let names = certificate.subject_alternative_name().map_err(|_| IdentityError::Malformed)?;
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::URI(uri) => uris.push(plain(uri)?),
                GeneralName::DNSName(name) => dns.push(plain(name)?),
                GeneralName::Invalid(..) => return Err(IdentityError::Malformed),
                _ => {}
            }
        }
        if uris.len() > 1 {
            return Err(IdentityError::ManyUris);
        }
        if uris.iter().chain(&dns).any(|name| name.contains('*')) {
            return Err(IdentityError::Wildcard);
        }
        Ok(Self { uri: uris.pop(), dns, common_name: common_name(certificate)? })
    }
}

/// Text without anything a second reader could read differently.
fn plain(text: &str) -> Result<String, IdentityError> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err(IdentityError::Malformed)
    }
}

/// The one common name, if there is one. A common name may hold spaces, but no control character.
fn common_name(certificate: &X509Certificate<'_>) -> Result<Option<String>, IdentityError> {
    let mut names = certificate.subject().iter_common_name();
    let Some(first) = names.next() else { return Ok(None) };
    if names.next().is_some() {
        return Err(IdentityError::ManyCommonNames);
    }
    let text = first.as_str().map_err(|_| IdentityError::Malformed)?;
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(IdentityError::Malformed);
    }
    Ok(Some(text.to_owned()))
}
