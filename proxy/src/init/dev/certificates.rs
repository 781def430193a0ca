//! A throw-away authority and what it issues.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};

use super::write;
use crate::daemon::{Failure, random};

/// SPIFFE id of the client certificate.
pub(super) const CLIENT: &str = "spiffe://demo.example/service/orders";
/// SPIFFE id of the auditor's certificate.
pub(super) const AUDITOR: &str = "spiffe://demo.example/service/auditor";

const DAY: Duration = Duration::from_secs(86_400);
const AUTHORITY_DAYS: u32 = 3_650;
/// The longest that common TLS clients accept of a server.
const CERTIFICATE_DAYS: u32 = 397;

/// Writes `ca`, `server`, `client`, `auditor` (`.crt`, `.key`) and an empty `crl.pem`.
pub(super) fn make(folder: &Path) -> Result<(), Failure> {
    let key = generate()?;
    let mut params = parameters("Chancery throw-away authority", AUTHORITY_DAYS)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key).map_err(failed)?;
    save(folder, "ca", &certificate, &key)?;
    let issuer = Issuer::new(params, key);
    issue(folder, "server", &issuer, server_names()?, ExtendedKeyUsagePurpose::ServerAuth)?;
    issue(folder, "client", &issuer, vec![uri(CLIENT)?], ExtendedKeyUsagePurpose::ClientAuth)?;
    issue(folder, "auditor", &issuer, vec![uri(AUDITOR)?], ExtendedKeyUsagePurpose::ClientAuth)?;
    write(&folder.join("crl.pem"), &empty_list(&issuer)?, false)
}

fn failed(error: rcgen::Error) -> Failure {
    Failure::Init { what: "certificates".to_owned(), reason: error.to_string() }
}

/// P-256, which every TLS client speaks.
fn generate() -> Result<KeyPair, Failure> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(failed)
}

fn parameters(name: &str, days: u32) -> Result<CertificateParams, Failure> {
    let mut serial: [u8; 16] = random().map_err(|error| Failure::System(error.to_string()))?;
    // Positive and of full length, as serial numbers must be.
    serial[0] = serial[0] & 0x7F | 0x40;
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = (SystemTime::now() - Duration::from_secs(300)).into();
    params.not_after = (SystemTime::now() + DAY * days).into();
    Ok(params)
}

fn issue(
    folder: &Path,
    name: &str,
    issuer: &Issuer<'_, KeyPair>,
    names: Vec<SanType>,
    usage: ExtendedKeyUsagePurpose,
) -> Result<(), Failure> {
    let key = generate()?;
    let mut params = parameters(name, CERTIFICATE_DAYS)?;
    params.subject_alt_names = names;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, issuer).map_err(failed)?;
    save(folder, name, &certificate, &key)
}

fn save(folder: &Path, name: &str, certificate: &Certificate, key: &KeyPair) -> Result<(), Failure> {
    write(&folder.join(format!("{name}.key")), &key.serialize_pem(), true)?;
    write(&folder.join(format!("{name}.crt")), &certificate.pem(), false)
}

fn server_names() -> Result<Vec<SanType>, Failure> {
    Ok(vec![
        SanType::DnsName(Ia5String::try_from("localhost").map_err(failed)?),
        SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()),
        SanType::IpAddress(std::net::Ipv6Addr::LOCALHOST.into()),
    ])
}

fn uri(text: &str) -> Result<SanType, Failure> {
    Ok(SanType::URI(Ia5String::try_from(text).map_err(failed)?))
}

fn empty_list(issuer: &Issuer<'_, KeyPair>) -> Result<String, Failure> {
    let params = CertificateRevocationListParams {
        this_update: (SystemTime::now() - Duration::from_secs(300)).into(),
        next_update: (SystemTime::now() + DAY * CERTIFICATE_DAYS).into(),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(issuer).and_then(|list| list.pem()).map_err(failed)
}
