//! Attestation: the device's signed statement about a key in it, and whether to believe it.
//!
//! The chain is: a certificate over the key's public half, made on demand; the device's own certificate,
//! which it carries since it was made; the vendor's certificates above, which the operator configures.
//! Dates are not looked at: a statement about a key's birth does not expire, and there is no clock here.

use std::path::Path;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, UnparsedPublicKey, VerificationAlgorithm,
};
use chancery_format::PublicKey;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::failure::{Failure, Kind};
use crate::session::Session;
use crate::wire::command;

/// The key the device attests with unless told otherwise, and the object that holds its certificate.
const DEVICE_KEY: u16 = 0;

/// Most certificates between the device's and a root.
const CHAIN_MAX: usize = 4;

/// Largest file of roots, in bytes.
const ROOTS_BYTES_MAX: u64 = 1 << 20;

/// The vendor's extension with the device's serial number.
const SERIAL_EXTENSION: &str = "1.3.6.1.4.1.41482.4.2";

/// A checked chain, DER, the key's certificate first, and whether it ended at a configured root.
pub(crate) type Chain = (Vec<Vec<u8>>, bool);

/// Certificates the operator trusts: roots, and whatever is between them and devices.
pub(crate) struct Roots(Vec<Vec<u8>>);

impl Roots {
    pub(crate) fn read(file: &Path) -> Result<Self, Failure> {
        let failed =
            |cause: String| Failure::refused(format!("attestation roots {}: {cause}", file.display()));
        let length = std::fs::metadata(file).map_err(|error| failed(error.to_string()))?.len();
        if length > ROOTS_BYTES_MAX {
            return Err(failed("the file is too large".to_owned()));
        }
        let text = std::fs::read(file).map_err(|error| failed(error.to_string()))?;
        Self::parse(&text).map_err(failed)
    }

    fn parse(pem: &[u8]) -> Result<Self, String> {
        let mut roots = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| format!("{error:?}"))?;
            parse(&certificate)?;
            roots.push(certificate.to_vec());
        }
        if roots.is_empty() { Err("it holds no certificate".to_owned()) } else { Ok(Self(roots)) }
    }
}

/// Asks the device for its statement and checks it. `None` where we may not ask.
pub(crate) fn fetch(
    session: &mut Session,
    id: u16,
    public_key: &PublicKey,
    serial: &str,
    roots: Option<&Roots>,
) -> Result<Option<Chain>, Failure> {
    let request = [id.to_be_bytes(), DEVICE_KEY.to_be_bytes()].concat();
    let mut ask = |code, content: &[u8]| match session.command(code, content) {
        Ok(certificate) => Ok(Some(certificate)),
        Err(failure) if matches!(failure.kind, Kind::Refused | Kind::Missing) => {
            tracing::warn!(cause = %failure.cause, "the device does not attest this key to us");
            Ok(None)
        }
        Err(failure) => Err(failure),
    };
    let Some(key) = ask(command::SIGN_ATTESTATION_CERTIFICATE, &request)? else { return Ok(None) };
    let Some(device) = ask(command::GET_OPAQUE, &DEVICE_KEY.to_be_bytes())? else { return Ok(None) };
    let checked = check(key, device, public_key, serial, roots);
    checked.map(Some).map_err(|cause| Failure::refused(format!("attestation of 0x{id:04x}: {cause}")))
}

fn check(
    key: Vec<u8>,
    device: Vec<u8>,
    public_key: &PublicKey,
    serial: &str,
    roots: Option<&Roots>,
) -> Result<Chain, String> {
    let key_certificate = parse(&key)?;
    if key_certificate.public_key().raw != public_key.spki_der() {
        return Err("it is about another key".to_owned());
    }
    if let Some(attested) = serial_in(&key_certificate)
        && serial.parse() != Ok(attested)
    {
        return Err(format!("it is of device {attested}"));
    }
    let device_certificate = parse(&device)?;
    if !is_signed_by(&key_certificate, &device_certificate) {
        return Err("the device's own certificate does not vouch for it".to_owned());
    }
    let mut above = Vec::new();
    if let Some(roots) = roots {
        above = path_to_root(&device_certificate, &roots.0)?;
    }
    let mut chain = vec![key.clone(), device.clone()];
    chain.extend(above);
    Ok((chain, roots.is_some()))
}

/// The certificates between the device's and a self-signed one of the operator's, which is left out.
fn path_to_root(device: &X509Certificate<'_>, trusted: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, String> {
    let mut path: Vec<Vec<u8>> = Vec::new();
    while path.len() <= CHAIN_MAX {
        let last = path.last().map(|der| parse(der)).transpose()?;
        let current = last.as_ref().unwrap_or(device);
        let issuer = trusted.iter().find(|der| parse(der).is_ok_and(|issuer| is_signed_by(current, &issuer)));
        let issuer = issuer.ok_or("it does not lead to a configured root")?;
        let certificate = parse(issuer)?;
        if is_signed_by(&certificate, &certificate) {
            return Ok(path);
        }
        path.push(issuer.clone());
    }
    Err("the chain is too long".to_owned())
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, String> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err("this is not one certificate".to_owned()),
    }
}

fn is_signed_by(certificate: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> bool {
    let named = certificate.issuer().as_raw() == issuer.subject().as_raw();
    // The algorithm stands twice, once outside of what is signed (RFC 5280 §4.1.1.2).
    let same_algorithm = certificate.signature_algorithm == certificate.tbs_certificate.signature;
    if !named || !same_algorithm || certificate.signature_value.unused_bits != 0 {
        return false;
    }
    let key = issuer.public_key();
    let curve = key.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
    let curve = curve.map(|oid| oid.to_id_string()).unwrap_or_default();
    let algorithm = certificate.signature_algorithm.algorithm.to_id_string();
    let verification: &'static dyn VerificationAlgorithm = match (algorithm.as_str(), curve.as_str()) {
        ("1.2.840.113549.1.1.11", _) => &RSA_PKCS1_2048_8192_SHA256,
        ("1.2.840.113549.1.1.12", _) => &RSA_PKCS1_2048_8192_SHA384,
        ("1.2.840.113549.1.1.13", _) => &RSA_PKCS1_2048_8192_SHA512,
        ("1.2.840.10045.4.3.2", "1.2.840.10045.3.1.7") => &ECDSA_P256_SHA256_ASN1,
        ("1.2.840.10045.4.3.2", "1.3.132.0.34") => &ECDSA_P384_SHA256_ASN1,
        ("1.2.840.10045.4.3.3", "1.3.132.0.34") => &ECDSA_P384_SHA384_ASN1,
        _ => return false,
    };
    UnparsedPublicKey::new(verification, &key.subject_public_key.data)
        .verify(certificate.tbs_certificate.as_ref(), &certificate.signature_value.data)
        .is_ok()
}

/// The serial number a certificate names: a short DER INTEGER.
fn serial_in(certificate: &X509Certificate<'_>) -> Option<u64> {
    let extensions = certificate.extensions().iter();
    let mut serials = extensions.filter(|extension| extension.oid.to_id_string() == SERIAL_EXTENSION);
    match serials.next()?.value {
        [0x02, length, digits @ ..] if usize::from(*length) == digits.len() && digits.len() <= 8 => {
            Some(digits.iter().fold(0, |number, digit| number << 8 | u64::from(*digit)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;
    use crate::testing::certificates::Attestation;
    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
    use chancery_format::SignatureAlgorithm::Ed25519;

    const SERIAL: &str = "0000000300";

    fn key() -> (Vec<u8>, PublicKey) {
        let spki = Ed25519KeyPair::generate().unwrap().public_key().as_der().unwrap().as_ref().to_vec();
        let public = PublicKey::from_der(Ed25519, &spki).unwrap();
        (spki, public)
    }

    #[test]
    fn a_statement_is_about_one_key_of_one_device() {
        let device = Attestation::new(300).unwrap();
        let ((spki, public), (_, other)) = (key(), key());
        let roots = Roots::parse(device.roots_pem().as_bytes()).unwrap();
        let statement = device.attest(7, &spki).unwrap();
        let certificate = device.device_certificate();
        let try_with = |public, serial| {
            check(statement.clone(), certificate.clone(), public, serial, Some(&roots))
                .map(|chain| chain.0.len())
        };
        assert_eq!(try_with(&public, SERIAL), Ok(3));
        assert!(try_with(&other, SERIAL).unwrap_err().contains("another key"));
        assert!(try_with(&public, "0000000301").unwrap_err().contains("device 300"));
        let foreign = Attestation::new(300).unwrap().device_certificate();
        let swapped = check(statement.clone(), foreign, &public, SERIAL, None);
        assert!(swapped.unwrap_err().contains("vouch"));
        assert!(check(certificate.clone(), statement.clone(), &public, SERIAL, None).is_err());
    }

    /// The parser takes another tag for the algorithm's name outside of what is signed; nothing hangs on it.
    #[test]
    fn every_changed_byte_of_what_is_signed_is_noticed() {
        let device = Attestation::new(300).unwrap();
        let (spki, public) = key();
        let roots = Roots::parse(device.roots_pem().as_bytes()).unwrap();
        let (statement, certificate) = (device.attest(7, &spki).unwrap(), device.device_certificate());
        for (der, is_statement) in [(&statement, true), (&certificate, false)] {
            for place in 0..4 + parse(der).unwrap().tbs_certificate.as_ref().len() {
                let mut changed = der.clone();
                *changed.get_mut(place).unwrap() ^= 1;
                let (key, device) = match is_statement {
                    true => (changed, certificate.clone()),
                    false => (statement.clone(), changed),
                };
                assert!(check(key, device, &public, SERIAL, Some(&roots)).is_err(), "{place}");
            }
        }
    }

    #[test]
    fn an_authority_without_its_root_anchors_nothing() {
        let device = Attestation::new(300).unwrap();
        let (spki, public) = key();
        let pem = device.roots_pem();
        let authority = pem.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap();
        let roots = Roots::parse(authority.as_bytes()).unwrap();
        let (statement, certificate) = (device.attest(7, &spki).unwrap(), device.device_certificate());
        let refused = check(statement, certificate, &public, SERIAL, Some(&roots));
        assert!(refused.unwrap_err().contains("configured root"));
        assert!(Roots::parse(b"").is_err());
    }
}
