//! The one thing of a certificate that is wanted here: whose key it is about, in SubjectPublicKeyInfo.
//!
//! Nothing of the certificate is believed or checked: that it stands in the auditor's own file is what makes its key
//! count. The fields before the key are stepped over (RFC 5280 §4.1), and the key's reader is as strict as ever.

/// Tags of DER.
const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
/// The version, which the oldest certificates do not have.
const VERSION: u8 = 0xa0;

/// The SubjectPublicKeyInfo in a certificate's DER; `None` if it is none.
pub(super) fn subject_public_key(certificate: &[u8]) -> Option<&[u8]> {
    let (outer, _) = element(certificate, SEQUENCE)?;
    let (mut fields, _) = element(outer.content, SEQUENCE).map(|(it, rest)| (it.content, rest))?;
    if fields.first() == Some(&VERSION) {
        (_, fields) = element(fields, VERSION)?;
    }
    // Serial number, signature algorithm, issuer, validity, subject.
    for tag in [INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE] {
        (_, fields) = element(fields, tag)?;
    }
    element(fields, SEQUENCE).map(|(key, _)| key.whole)
}

struct Element<'d> {
    /// With tag and length.
    whole: &'d [u8],
    content: &'d [u8],
}

/// The first element, which must have that tag, and what comes after it.
fn element(der: &[u8], tag: u8) -> Option<(Element<'_>, &[u8])> {
    let (first, rest) = der.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        ..=0x7f => (usize::from(*length), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, after) = rest.split_at_checked(length)?;
    let whole = der.get(..der.len() - after.len())?;
    (*first == tag).then_some((Element { whole, content }, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seventh_field_is_found_and_half_a_certificate_has_none() {
        let key = [SEQUENCE, 2, 5, 0];
        let before = [INTEGER, 1, 1, SEQUENCE, 0, SEQUENCE, 0, SEQUENCE, 0, SEQUENCE, 1, 7];
        let version = [VERSION, 3, INTEGER, 1, 2];
        for version in [&version[..], &[]] {
            let fields = [version, &before, &key, &[SEQUENCE, 0]].concat();
            let length = |of: &[u8]| u8::try_from(of.len()).unwrap_or_default();
            // Lengths in their long form, too.
            let inner = [&[SEQUENCE, 0x82, 0, length(&fields)][..], &fields].concat();
            let certificate = [&[SEQUENCE, 0x81, length(&inner)][..], &inner].concat();
            assert_eq!(subject_public_key(&certificate), Some(&key[..]));
            for end in 0..certificate.len() {
                assert_eq!(subject_public_key(certificate.get(..end).unwrap_or_default()), None, "{end}");
            }
        }
        assert_eq!(subject_public_key(&[SEQUENCE, 0x80, 0, 0]), None);
    }
}
