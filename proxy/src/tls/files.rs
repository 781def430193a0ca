//! The files behind TLS: read whole, checked, and watched by their stamps.

use std::path::Path;
use std::time::SystemTime;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, X509Certificate};

use super::TlsError;
use crate::config::ServiceListener;

/// Longest file read. Revocation lists of large authorities are a few megabytes.
const FILE_BYTES_MAX: u64 = 32 << 20;

/// Everything the files hold, parsed.
pub(super) struct Material {
    pub(super) certificates: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) authorities: Vec<CertificateDer<'static>>,
    pub(super) revocations: Vec<CertificateRevocationListDer<'static>>,
    pub(super) server_not_after_unix_s: i64,
    pub(super) crl_next_update_unix_s: Option<i64>,
    server_file: String,
    crl_file: String,
}

impl Material {
    pub(super) fn read(files: &ServiceListener) -> Result<Self, TlsError> {
        let certificates = certificates_of(&files.certificate_file)?;
        let authorities = certificates_of(&files.client_ca_file)?;
        let key_bytes = read(&files.key_file)?;
        // The parser's own error would quote the key's surroundings; say only which file.
        let key = PrivateKeyDer::from_pem_slice(&key_bytes)
            .map_err(|_| content(&files.key_file, "holds no PEM private key (PKCS#8, SEC1 or PKCS#1)"))?;
        let revocations = match &files.crl_file {
            Some(file) => revocations(file)?,
            None => Vec::new(),
        };
        let next_updates =
            revocations.iter().map(|crl| next_update(files, crl)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            server_not_after_unix_s: not_after(&files.certificate_file, &certificates)?,
            certificates,
            key,
            authorities,
            revocations,
            crl_next_update_unix_s: next_updates.into_iter().flatten().min(),
            server_file: files.certificate_file.display().to_string(),
            crl_file: files.crl_file.as_deref().unwrap_or(Path::new("")).display().to_string(),
        })
    }

    /// A server certificate nobody would accept, or a list that would make us refuse everybody, is a bad
    /// file.
    pub(super) fn check_times(&self, now: UnixTime) -> Result<(), TlsError> {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let error =
            |file: &str, reason: &str| TlsError::Content { file: file.to_owned(), reason: reason.to_owned() };
        if self.server_not_after_unix_s < now {
            return Err(error(&self.server_file, "the server certificate has expired"));
        }
        if self.crl_next_update_unix_s.is_some_and(|next| next < now) {
            return Err(error(
                &self.crl_file,
                "a revocation list is past its next update: publish a new one",
            ));
        }
        Ok(())
    }
}

fn content(file: &Path, reason: impl Into<String>) -> TlsError {
    TlsError::Content { file: file.display().to_string(), reason: reason.into() }
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |cause| TlsError::Read { file: file.display().to_string(), cause };
    if std::fs::metadata(file).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(content(file, format!("is longer than {FILE_BYTES_MAX} bytes")));
    }
    std::fs::read(file).map_err(failed)
}

fn certificates_of(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(file)?;
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let certificates = parsed.map_err(|error| content(file, format!("is not PEM: {error}")))?;
    if certificates.is_empty() {
        return Err(content(file, "holds no PEM certificate"));
    }
    Ok(certificates)
}

/// Revocation lists, PEM or one in DER.
fn revocations(file: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let bytes = read(file)?;
    if bytes.first() == Some(&0x30) {
        return Ok(vec![CertificateRevocationListDer::from(bytes)]);
    }
    let parsed: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
    let lists = parsed.map_err(|error| content(file, format!("is not PEM: {error}")))?;
    if lists.is_empty() {
        return Err(content(file, "holds no revocation list"));
    }
    Ok(lists)
}

fn not_after(file: &Path, certificates: &[CertificateDer<'_>]) -> Result<i64, TlsError> {
    let leaf = certificates.first().ok_or_else(|| content(file, "holds no certificate"))?;
    let (_, parsed) =
        X509Certificate::from_der(leaf).map_err(|_| content(file, "the first certificate cannot be read"))?;
    Ok(parsed.validity().not_after.timestamp())
}

fn next_update(
    files: &ServiceListener,
    crl: &CertificateRevocationListDer<'_>,
) -> Result<Option<i64>, TlsError> {
    let file = files.crl_file.as_deref().unwrap_or(Path::new(""));
    let (_, parsed) = CertificateRevocationList::from_der(crl)
        .map_err(|_| content(file, "a revocation list cannot be read"))?;
    Ok(parsed.next_update().map(|time| time.timestamp()))
}

/// What the file system says about each file; a change means: read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamps(Vec<Option<(SystemTime, u64, u64)>>);

impl Stamps {
    pub(super) fn of(files: &ServiceListener) -> Self {
        let named = [&files.certificate_file, &files.key_file, &files.client_ca_file].into_iter();
        Self(named.chain(&files.crl_file).map(|file| stamp(file)).collect())
    }
}

/// Time of change, length and inode, through links, so that a swapped link counts as a change.
pub(crate) fn stamp(file: &Path) -> Option<(SystemTime, u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    let found = std::fs::metadata(file).ok()?;
    Some((found.modified().ok()?, found.len(), found.ino()))
}
