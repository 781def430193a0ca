//! TLS of calls out: version 1.3, one cryptographic library, authorities from a file or from the machine.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::OutboundConfigError;
use crate::limits;

/// The provider of cryptography is named: the process default may be set by nobody, or by somebody else.
pub(crate) fn client_config(ca_file: Option<&Path>) -> Result<ClientConfig, OutboundConfigError> {
    let roots = match ca_file {
        Some(path) => {
            from_file(path).map_err(|cause| OutboundConfigError::CaFile { path: path.into(), cause })?
        }
        None => from_machine()?,
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| OutboundConfigError::NoAuthorities(error.to_string()))?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn from_file(path: &Path) -> Result<RootCertStore, String> {
    let mut pem = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(limits::CA_BYTES_MAX).read_to_end(&mut pem).map_err(|error| error.to_string())?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() { Err("holds no CERTIFICATE block".to_owned()) } else { Ok(roots) }
}

/// Certificates of the machine that cannot be read are passed over, as every other program does.
fn from_machine() -> Result<RootCertStore, OutboundConfigError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let errors: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        return Err(OutboundConfigError::NoAuthorities(errors.join("; ")));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::client_config;

    #[test]
    fn a_file_without_certificates_is_named() {
        let refusal = |path| client_config(Some(Path::new(path))).err().map(|error| error.to_string());
        assert_eq!(refusal("/dev/null").as_deref(), Some("/dev/null: holds no CERTIFICATE block"));
        assert!(refusal("/nonexistent/ca").is_some_and(|text| text.starts_with("/nonexistent/ca: ")));
    }
}
