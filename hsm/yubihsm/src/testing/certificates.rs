//! The double's attestation certificates: a root, one below it, the device's own, and one per attested key. X.509 in DER,
//! written out, as far as a reader of chains needs it.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

use super::DoubleError;

const ROOT: &str = "Double of the vendor's attestation root";
const INTERMEDIATE: &str = "Double of the vendor's attestation authority";

/// The vendor's arc for attestations.
const VENDOR_ARC: [u8; 9] = [0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0xC4, 0x0A, 0x04];
const ECDSA_WITH_SHA256: [u8; 8] = [0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x02];
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];

/// Everything a device attests with.
pub(crate) struct Attestation {
    serial: u32,
    root_certificate: Vec<u8>,
    intermediate_certificate: Vec<u8>,
    device_certificate: Vec<u8>,
    device_key: EcdsaKeyPair,
}

impl Attestation {
    pub(crate) fn new(serial: u32) -> Result<Self, DoubleError> {
        let (root_key, intermediate_key, device_key) = (new_key()?, new_key()?, new_key()?);
        let failed = || DoubleError("no attestation certificate".to_owned());
        let spki = |key: &EcdsaKeyPair| key.public_key().as_der().ok().map(|der| der.as_ref().to_vec());
        let root_spki = spki(&root_key).ok_or_else(failed)?;
        let intermediate_spki = spki(&intermediate_key).ok_or_else(failed)?;
        let device_spki = spki(&device_key).ok_or_else(failed)?;
        let root_certificate = certificate(ROOT, &root_key, ROOT, &root_spki, &[]).ok_or_else(failed)?;
        let intermediate_certificate = certificate(ROOT, &root_key, INTERMEDIATE, &intermediate_spki, &[]);
        let intermediate_certificate = intermediate_certificate.ok_or_else(failed)?;
        let (name, extensions) = (subject(serial), serial_extension(serial));
        let device_certificate =
            certificate(INTERMEDIATE, &intermediate_key, &name, &device_spki, &extensions);
        let device_certificate = device_certificate.ok_or_else(failed)?;
        Ok(Self { serial, root_certificate, intermediate_certificate, device_certificate, device_key })
    }

    pub(crate) fn replace_key(&mut self) -> Result<(), DoubleError> {
        self.device_key = new_key()?;
        Ok(())
    }

    pub(crate) fn device_certificate(&self) -> Vec<u8> {
        self.device_certificate.clone()
    }

    /// Root and authority, PEM.
    pub(crate) fn roots_pem(&self) -> String {
        [&self.intermediate_certificate, &self.root_certificate].map(|der| pem(der)).concat()
    }

    /// A statement about the key of this id.
    pub(crate) fn attest(&self, id: u16, spki: &[u8]) -> Option<Vec<u8>> {
        let name = format!("YubiHSM Attestation id 0x{id:04x}");
        let object = extension(6, &tagged(0x02, &[&[0], id.to_be_bytes().as_slice()].concat()));
        let extensions = [serial_extension(self.serial), object].concat();
        certificate(&subject(self.serial), &self.device_key, &name, spki, &extensions)
    }
}

fn new_key() -> Result<EcdsaKeyPair, DoubleError> {
    let made = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING);
    made.map_err(|_| DoubleError("a key could not be made".to_owned()))
}

fn subject(serial: u32) -> String {
    format!("YubiHSM Attestation ({serial})")
}

fn certificate(
    issuer: &str,
    issuer_key: &EcdsaKeyPair,
    subject: &str,
    spki: &[u8],
    extensions: &[u8],
) -> Option<Vec<u8>> {
    let algorithm = tagged(0x30, &tagged(0x06, &ECDSA_WITH_SHA256));
    let version = tagged(0xA0, &tagged(0x02, &[2]));
    let serial = tagged(0x02, &[1]);
    let date = |text: &str| tagged(0x17, text.as_bytes());
    let validity = tagged(0x30, &[date("170101000000Z"), date("491231235959Z")].concat());
    let mut parts =
        vec![version, serial, algorithm.clone(), name(issuer), validity, name(subject), spki.to_vec()];
    if !extensions.is_empty() {
        parts.push(tagged(0xA3, &tagged(0x30, extensions)));
    }
    let statement = tagged(0x30, &parts.concat());
    let signature = issuer_key.sign(&SystemRandom::new(), &statement).ok()?;
    let signature = tagged(0x03, &[&[0], signature.as_ref()].concat());
    Some(tagged(0x30, &[statement, algorithm, signature].concat()))
}

fn name(common: &str) -> Vec<u8> {
    let attribute = [tagged(0x06, &COMMON_NAME), tagged(0x0C, common.as_bytes())].concat();
    tagged(0x30, &tagged(0x31, &tagged(0x30, &attribute)))
}

/// The device's serial number, as the vendor puts it.
fn serial_extension(serial: u32) -> Vec<u8> {
    extension(2, &tagged(0x02, &[&[0], serial.to_be_bytes().as_slice()].concat()))
}

fn extension(number: u8, value: &[u8]) -> Vec<u8> {
    let oid = tagged(0x06, &[VENDOR_ARC.as_slice(), &[number]].concat());
    tagged(0x30, &[oid, tagged(0x04, value)].concat())
}

fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let [.., high, low] = content.len().to_be_bytes();
    let length = match (high, low) {
        (0, ..=0x7F) => vec![low],
        (0, _) => vec![0x81, low],
        _ => vec![0x82, high, low],
    };
    [&[tag], length.as_slice(), content].concat()
}

fn pem(der: &[u8]) -> String {
    let body = base64(der);
    let lines = body.as_bytes().chunks(64).map(String::from_utf8_lossy).collect::<Vec<_>>().join("\n");
    format!("-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n")
}

fn base64(bytes: &[u8]) -> String {
    let sextet = |value: u32| match u8::try_from(value & 0x3F).unwrap_or(0) {
        value @ 0..=25 => char::from(b'A' + value),
        value @ 26..=51 => char::from(b'a' + value - 26),
        value @ 52..=61 => char::from(b'0' + value - 52),
        62 => '+',
        _ => '/',
    };
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().chain(&[0, 0]).take(3).fold(0, |group, byte| group << 8 | u32::from(*byte));
        for place in 0..4_usize {
            let shown = place <= chunk.len();
            text.push(if shown { sextet(group >> (18 - 6 * place)) } else { '=' });
        }
    }
    text
}
