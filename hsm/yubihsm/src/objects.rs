//! Finding objects on the device, by label or id, and reading what they are.

use chancery_format::{PublicKey, SignatureAlgorithm};
use chancery_hsm::Origin;

use crate::failure::{Failure, Kind};
use crate::session::Session;
use crate::wire::{Fields, LABEL_BYTES, command, object_algorithm, object_type, padded_label};

/// The public exponent of every RSA key a device makes.
const RSA_EXPONENT: [u8; 3] = [1, 0, 1];

/// Tags of what LIST OBJECTS may filter by.
const FILTER_TYPE: u8 = 0x02;
const FILTER_LABEL: u8 = 0x06;

/// What a device says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ObjectInfo {
    pub(crate) id: u16,
    pub(crate) object_type: u8,
    pub(crate) algorithm: u8,
    pub(crate) capabilities: u64,
    pub(crate) domains: u16,
    pub(crate) origin: u8,
}

impl ObjectInfo {
    pub(crate) fn read(session: &mut Session, id: u16, object_type: u8) -> Result<Self, Failure> {
        let [high, low] = id.to_be_bytes();
        let answer = session.command(command::GET_OBJECT_INFO, &[high, low, object_type])?;
        let nonsense =
            || Failure::nonsense(command::GET_OBJECT_INFO, "get-object-info: an answer of odd length");
        Self::parse(&answer).ok_or_else(nonsense)
    }

    fn parse(answer: &[u8]) -> Option<Self> {
        let mut fields = Fields(answer);
        let (capabilities, id) = (fields.u64()?, fields.u16()?);
        let (_length, domains) = (fields.u16()?, fields.u16()?);
        let [object_type, algorithm, _sequence, origin] = fields.take()?;
        let (_label, _delegated) = (fields.take::<LABEL_BYTES>()?, fields.u64()?);
        Some(Self { id, object_type, algorithm, capabilities, domains, origin })
    }

    /// How the key came to be. A key that left under a wrap key and came back was outside, encrypted; who
    /// holds the wrap key is not known here, so it counts as brought in.
    pub(crate) const fn origin(&self) -> Origin {
        match self.origin {
            0x01 => Origin::Generated,
            0x02 | 0x11 | 0x12 => Origin::Imported,
            _ => Origin::Unknown,
        }
    }
}

/// The type of object that keys of an algorithm are.
pub(crate) const fn type_for(algorithm: SignatureAlgorithm) -> u8 {
    if algorithm.is_mac() { object_type::HMAC_KEY } else { object_type::ASYMMETRIC_KEY }
}

/// The one object of this type and label, or of the id a label like `0x1234` names.
pub(crate) fn find(session: &mut Session, label: &str, object_type: u8) -> Result<ObjectInfo, Failure> {
    let kind = if object_type == object_type::HMAC_KEY { "HMAC key" } else { "asymmetric key" };
    let missing = || Failure::missing(format!("the device shows us no {kind} \"{label}\""));
    let ids = match id_in(label) {
        Some(id) => vec![id],
        None => {
            let label = padded_label(label).ok_or_else(missing)?;
            let filter = [&[FILTER_TYPE, object_type, FILTER_LABEL], label.as_slice()].concat();
            let listed = session.command(command::LIST_OBJECTS, &filter)?;
            listed
                .as_chunks::<4>()
                .0
                .iter()
                .map(|[high, low, ..]| u16::from_be_bytes([*high, *low]))
                .collect()
        }
    };
    match ids.as_slice() {
        [id] => ObjectInfo::read(session, *id, object_type).map_err(|failure| match failure.kind {
            Kind::Missing => missing(),
            _ => failure,
        }),
        [] => Err(missing()),
        _ => Err(Failure::refused(format!("the device has more than one {kind} labelled \"{label}\""))),
    }
}

/// An object id written as `0x` and four hex digits.
pub(crate) fn id_in(label: &str) -> Option<u16> {
    let digits = label.strip_prefix("0x").filter(|digits| digits.len() == 4)?;
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
}

/// The public half of a key pair.
pub(crate) fn public_key(
    session: &mut Session,
    id: u16,
    algorithm: SignatureAlgorithm,
) -> Result<PublicKey, Failure> {
    let answer = session.command(command::GET_PUBLIC_KEY, &id.to_be_bytes())?;
    let unusable = || Failure::refused(format!("the public key of 0x{id:04x} is not usable for {algorithm}"));
    let (kind, key) = answer.split_first().ok_or_else(unusable)?;
    let read = match *kind {
        object_algorithm::RSA_2048 | object_algorithm::RSA_3072 | object_algorithm::RSA_4096 => {
            PublicKey::from_rsa_parts(algorithm, key, &RSA_EXPONENT)
        }
        object_algorithm::ED25519 => PublicKey::from_point(algorithm, key),
        // The device leaves out the byte that says "uncompressed".
        _ => PublicKey::from_point(algorithm, &[&[4], key].concat()),
    };
    read.map_err(|_| unusable())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_four_hex_digits_are_an_id() {
        assert_eq!(id_in("0x12aF"), Some(0x12AF));
        for label in ["1234", "0x123", "0x12345", "0x+123", "0xghij", "key"] {
            assert_eq!(id_in(label), None, "{label}");
        }
    }
}
