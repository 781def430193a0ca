//! A certificate authority that lives as long as one test.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams, SanType,
    SerialNumber,
};

const HOUR: Duration = Duration::from_secs(3_600);

/// An authority and its key, in memory only.
pub struct Authority {
    /// Its certificate.
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// Files of one certificate and its key.
#[derive(Debug, Clone)]
pub struct Identity {
    /// PEM certificate.
    pub certificate: PathBuf,
    /// PEM key, 0600.
    pub key: PathBuf,
    /// Serial number.
    pub serial: u64,
}

impl Authority {
    /// A new authority of this name.
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn issue(
        &self,
        folder: &Path,
        file: &str,
        serial: u64,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from(serial));
        params.not_before = (SystemTime::now() - HOUR).into();
        params.not_after = (SystemTime::now() + 24 * HOUR).into();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Python from 3.13 on insists on it.
        params.use_authority_key_identifier_extension = true;
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let identity = Identity {
            certificate: folder.join(format!("{file}.crt")),
            key: folder.join(format!("{file}.key")),
            serial,
        };
        std::fs::write(&identity.certificate, certificate.pem()).unwrap();
        write_secret(&identity.key, &key.serialize_pem());
        identity
    }

    /// A server certificate for `localhost` and 127.0.0.1.
    pub fn server(&self, folder: &Path) -> Identity {
        self.server_as(folder, "server", 1)
    }

    /// The same under another file name and serial number.
    pub fn server_as(&self, folder: &Path, file: &str, serial: u64) -> Identity {
        self.issue(folder, file, serial, |params| {
            let names = ["localhost", "127.0.0.1"].map(String::from);
            params.subject_alt_names = CertificateParams::new(names).unwrap().subject_alt_names;
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            params.not_after = (SystemTime::now() + 30 * 24 * HOUR).into();
        })
    }

    /// A client certificate with this SPIFFE URI.
    pub fn client(&self, folder: &Path, file: &str, serial: u64, uri: &str) -> Identity {
        self.issue(folder, file, serial, |params| client(params, uri))
    }

    /// The same, expired an hour ago.
    pub fn expired_client(&self, folder: &Path, file: &str, serial: u64, uri: &str) -> Identity {
        self.issue(folder, file, serial, |params| {
            client(params, uri);
            params.not_before = (SystemTime::now() - 3 * HOUR).into();
            params.not_after = (SystemTime::now() - HOUR).into();
        })
    }

    /// A revocation list naming these serials, PEM.
    pub fn revocation_list(&self, serials: &[u64]) -> String {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: (SystemTime::now() - HOUR).into(),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: (SystemTime::now() - HOUR).into(),
            next_update: (SystemTime::now() + 24 * HOUR).into(),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

fn client(params: &mut CertificateParams, uri: &str) {
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
}

/// Writes a file only its owner can read.
pub fn write_secret(path: &Path, text: &str) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}
