//! The little DER that signing needs, written out; there is no parser.

use chancery_format::HashAlgorithm;

/// Object identifier of P-256, as CKA_EC_PARAMS.
pub(crate) const P256_PARAMS: [u8; 10] = [0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07];

/// Object identifier of P-384, as CKA_EC_PARAMS.
pub(crate) const P384_PARAMS: [u8; 7] = [0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x22];

/// Object identifier of secp256k1, as CKA_EC_PARAMS.
pub(crate) const SECP256K1_PARAMS: [u8; 7] = [0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x0A];

/// Object identifier of Ed25519, as CKA_EC_PARAMS.
pub(crate) const ED25519_PARAMS: [u8; 5] = [0x06, 0x03, 0x2B, 0x65, 0x70];

/// What precedes a digest in a DigestInfo (RFC 8017 §9.2 note 1).
const fn digest_info_prefix(hash: HashAlgorithm) -> [u8; 19] {
    let (total, oid, length) = match hash {
        HashAlgorithm::Sha256 => (0x31, 0x01, 0x20),
        HashAlgorithm::Sha384 => (0x41, 0x02, 0x30),
        HashAlgorithm::Sha512 => (0x51, 0x03, 0x40),
    };
    [
        0x30, total, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, oid, 0x05, 0x00,
        0x04, length,
    ]
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;

/// The DigestInfo that PKCS#1 v1.5 pads.
pub(crate) fn digest_info(hash: HashAlgorithm, digest: &[u8]) -> Vec<u8> {
    [digest_info_prefix(hash).as_slice(), digest].concat()
}

/// `r ‖ s` of `bytes` each to `SEQUENCE{r,s}`, each integer in its one shortest form. `None` if the
/// input is no such pair.
pub(crate) fn ecdsa_signature(raw: &[u8], bytes: usize) -> Option<Vec<u8>> {
    if raw.len() != 2 * bytes {
        return None;
    }
    let (r, s) = raw.split_at_checked(bytes)?;
    Some(tagged(SEQUENCE, &[integer(r), integer(s)].concat()))
}

/// A non-negative INTEGER without superfluous zeros.
fn integer(big_endian: &[u8]) -> Vec<u8> {
    let start = big_endian.iter().position(|byte| *byte != 0).unwrap_or(big_endian.len());
    let digits = big_endian.get(start..).unwrap_or_default();
    let needs_zero = digits.first().is_none_or(|byte| byte & 0x80 != 0);
    let sign: &[u8] = if needs_zero { &[0] } else { &[] };
    tagged(INTEGER, &[sign, digits].concat())
}

/// Content of at most 127 bytes; ours is at most 102 (P-384).
fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).unwrap_or(u8::MAX);
    debug_assert!(length < 0x80);
    [&[tag, length], content].concat()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    #[test]
    fn integers_have_one_form() {
        assert_eq!(integer(&[0, 0, 0]), [2, 1, 0]);
        assert_eq!(integer(&[0, 0x7F]), [2, 1, 0x7F]);
        assert_eq!(integer(&[0x80]), [2, 2, 0, 0x80]);
    }

    #[test]
    fn signatures_of_any_other_length_are_no_signatures() {
        let mut raw = [0u8; 64];
        raw[31] = 1;
        raw[32] = 0xFF;
        let der = ecdsa_signature(&raw, 32).unwrap();
        assert_eq!(der.first_chunk(), Some(&[0x30, 38, 2, 1, 1, 2, 33, 0, 0xFF]));
        assert_eq!(ecdsa_signature(&raw[..63], 32), None);
        assert_eq!(ecdsa_signature(&[1; 96], 32), None);
        assert_eq!(ecdsa_signature(&[1; 96], 48).unwrap().len(), 102);
    }
}
