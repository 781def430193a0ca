//! The requests and replies inside the frames of `wire.rs`.

use std::ffi::OsString;
use std::io::Result;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::time::Duration;

use chancery_format::{Digest, HashAlgorithm, SignatureAlgorithm};
use chancery_hsm::{KeyShape, RsaBits, SealInput, SignerError};
use zeroize::Zeroizing;

use crate::message_error::{put_error, put_provision_error, take_error, take_provision_error};
use crate::provision::ProvisionError;
use crate::sandbox_report::{SandboxReport, Wall};
use crate::selector::{KeyAddress, TokenSelector};
use crate::wire::{Fields, Frame, Taker, bad};

/// One version of the PIN file: inode, bytes, modification time in seconds and nanoseconds.
pub(crate) type PinVersion = [u64; 4];

/// First request of every worker: what to fence off, what to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setup {
    pub(crate) parent_pid: u64,
    pub(crate) network: bool,
    /// Files may be written anywhere: a token is being provisioned.
    pub(crate) provisioning: bool,
    pub(crate) writable: Vec<PathBuf>,
    pub(crate) module_file: PathBuf,
    pub(crate) token: TokenSelector,
    pub(crate) pin_file: PathBuf,
    /// The version of the PIN file that an earlier worker saw refused.
    pub(crate) pin_refused: Option<PinVersion>,
    pub(crate) sessions: usize,
}

/// What to sign, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    Digest(Digest),
    Message(Vec<u8>),
}

impl Input {
    pub(crate) fn of(input: SealInput<'_>) -> Self {
        match input {
            SealInput::Digest(digest) => Self::Digest(*digest),
            SealInput::Message(message) => Self::Message(message.to_vec()),
        }
    }

    pub(crate) fn borrow(&self) -> SealInput<'_> {
        match self {
            Self::Digest(digest) => SealInput::Digest(digest),
            Self::Message(message) => SealInput::Message(message),
        }
    }
}

/// What the daemon asks. Durations are what is left until the deadline.
#[derive(Debug)]
pub(crate) enum Request {
    Setup(Box<Setup>),
    WarmUp(Duration),
    OpenKey(KeyAddress),
    Sign(KeyAddress, Input, Duration),
    Probe(Vec<KeyAddress>, Duration),
    Generate(String, KeyShape),
    InitToken {
        label: String,
        so_pin: Zeroizing<String>,
        user_pin: Zeroizing<String>,
    },
    /// For tests: whether the fence around the worker holds. Tries to write the file.
    TryFence(PathBuf),
}

/// What the worker answers; the last four kinds are told unasked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Ready(SandboxReport),
    Done,
    /// The public key's SubjectPublicKeyInfo; `None` for a MAC key.
    Key(Option<Vec<u8>>),
    Signed(Vec<u8>),
    Failed(SignerError),
    NotProvisioned(ProvisionError),
    /// What a fence test found: name and whether it was let through.
    Fence(Vec<(String, bool)>),
    /// The device is about to be told to use the key of this request.
    Started,
    /// The device said that it did, and what it gave is no signature. [`Reply::Signed`] says it otherwise.
    Succeeded,
    /// The token refused the PIN in this version of its file.
    PinRefused(PinVersion),
}

impl Request {
    pub(crate) fn encode(&self) -> (u8, Zeroizing<Vec<u8>>) {
        let fields = Fields::default();
        let (kind, fields) = match self {
            Self::Setup(setup) => (1, put_setup(fields, setup)),
            Self::WarmUp(time) => (2, put_time(fields, *time)),
            Self::OpenKey(key) => (3, put_key(fields, key)),
            Self::Sign(key, input, time) => (4, put_time(put_input(put_key(fields, key), input), *time)),
            Self::Probe(keys, time) => (5, put_time(fields.list(keys, put_key), *time)),
            Self::Generate(label, shape) => (6, fields.text(label).byte(shape_tag(*shape))),
            Self::InitToken { label, so_pin, user_pin } => {
                (7, fields.text(label).text(so_pin).text(user_pin))
            }
            Self::TryFence(file) => (8, fields.bytes(file.as_os_str().as_bytes())),
        };
        (kind, fields.done())
    }

    pub(crate) fn decode(frame: &Frame) -> Result<Self> {
        let mut taker = Taker(&frame.fields);
        let request = match frame.kind {
            1 => Self::Setup(Box::new(take_setup(&mut taker)?)),
            2 => Self::WarmUp(take_time(&mut taker)?),
            3 => Self::OpenKey(take_key(&mut taker)?),
            4 => Self::Sign(take_key(&mut taker)?, take_input(&mut taker)?, take_time(&mut taker)?),
            5 => Self::Probe(taker.list(take_key)?, take_time(&mut taker)?),
            6 => Self::Generate(taker.text()?, shape_of(taker.byte()?)?),
            7 => Self::InitToken {
                label: taker.text()?,
                so_pin: Zeroizing::new(taker.text()?),
                user_pin: Zeroizing::new(taker.text()?),
            },
            8 => Self::TryFence(take_path(&mut taker)?),
            _ => return Err(bad("an unknown request")),
        };
        taker.end()?;
        Ok(request)
    }
}

impl Reply {
    pub(crate) fn encode(&self) -> (u8, Zeroizing<Vec<u8>>) {
        let fields = Fields::default();
        let (kind, fields) = match self {
            Self::Ready(report) => (101, put_report(fields, report)),
            Self::Done => (102, fields),
            Self::Key(key) => (103, fields.maybe(key.as_deref())),
            Self::Signed(signature) => (104, fields.bytes(signature)),
            Self::Failed(error) => (105, put_error(fields, error)),
            Self::NotProvisioned(error) => (106, put_provision_error(fields, error)),
            Self::Fence(found) => {
                let each =
                    |fields: Fields, (name, open): &(String, bool)| fields.text(name).byte((*open).into());
                (107, fields.list(found, each))
            }
            Self::Started => (108, fields),
            Self::Succeeded => (109, fields),
            Self::PinRefused(version) => (110, version.iter().fold(fields, |fields, it| fields.number(*it))),
        };
        (kind, fields.done())
    }

    pub(crate) fn decode(frame: &Frame) -> Result<Self> {
        let mut taker = Taker(&frame.fields);
        let reply = match frame.kind {
            101 => Self::Ready(take_report(&mut taker)?),
            102 => Self::Done,
            103 => Self::Key(taker.maybe()?.map(<[u8]>::to_vec)),
            104 => Self::Signed(taker.bytes()?.to_vec()),
            105 => Self::Failed(take_error(&mut taker)?),
            106 => Self::NotProvisioned(take_provision_error(&mut taker)?),
            107 => Self::Fence(taker.list(|taker| Ok((taker.text()?, taker.flag()?)))?),
            108 => Self::Started,
            109 => Self::Succeeded,
            110 => Self::PinRefused(take_version(&mut taker)?),
            _ => return Err(bad("an unknown reply")),
        };
        taker.end()?;
        Ok(reply)
    }
}

fn put_setup(fields: Fields, setup: &Setup) -> Fields {
    let fields = fields
        .number(setup.parent_pid)
        .byte(setup.network.into())
        .byte(setup.provisioning.into())
        .list(&setup.writable, |fields, path| fields.bytes(path.as_os_str().as_bytes()))
        .bytes(setup.module_file.as_os_str().as_bytes());
    let token = &setup.token;
    let fields = [&token.label, &token.serial, &token.manufacturer, &token.model]
        .into_iter()
        .fold(fields, |fields, text| fields.maybe(text.as_deref().map(str::as_bytes)));
    let slot = token.slot_id.map(u64::to_be_bytes);
    let fields = fields.maybe(slot.as_ref().map(<[u8; 8]>::as_slice));
    let fields = fields.bytes(setup.pin_file.as_os_str().as_bytes());
    let fields = match &setup.pin_refused {
        Some(version) => version.iter().fold(fields.byte(1), |fields, it| fields.number(*it)),
        None => fields.byte(0),
    };
    fields.number(setup.sessions as u64)
}

fn take_setup(taker: &mut Taker<'_>) -> Result<Setup> {
    Ok(Setup {
        parent_pid: taker.number()?,
        network: taker.flag()?,
        provisioning: taker.flag()?,
        writable: taker.list(take_path)?,
        module_file: take_path(taker)?,
        token: TokenSelector {
            label: taker.maybe_text()?,
            serial: taker.maybe_text()?,
            manufacturer: taker.maybe_text()?,
            model: taker.maybe_text()?,
            slot_id: match taker.maybe()? {
                Some(slot) => {
                    Some(u64::from_be_bytes(slot.try_into().map_err(|_| bad("a slot of odd length"))?))
                }
                None => None,
            },
        },
        pin_file: take_path(taker)?,
        pin_refused: if taker.flag()? { Some(take_version(taker)?) } else { None },
        sessions: taker.size()?,
    })
}

fn take_version(taker: &mut Taker<'_>) -> Result<PinVersion> {
    Ok([taker.number()?, taker.number()?, taker.number()?, taker.number()?])
}

fn take_path(taker: &mut Taker<'_>) -> Result<PathBuf> {
    Ok(OsString::from_vec(taker.bytes()?.to_vec()).into())
}

fn put_time(fields: Fields, time: Duration) -> Fields {
    fields.number(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}

fn take_time(taker: &mut Taker<'_>) -> Result<Duration> {
    Ok(Duration::from_micros(taker.number()?))
}

fn put_key(fields: Fields, key: &KeyAddress) -> Fields {
    fields
        .number(key.number as u64)
        .text(&key.label)
        .maybe(key.object.as_deref().map(str::as_bytes))
        .maybe(key.id.as_deref())
        .text(key.algorithm.as_str())
}

fn take_key(taker: &mut Taker<'_>) -> Result<KeyAddress> {
    Ok(KeyAddress {
        number: taker.size()?,
        label: taker.text()?,
        object: taker.maybe_text()?,
        id: taker.maybe()?.map(<[u8]>::to_vec),
        algorithm: {
            let name = taker.text()?;
            let found = SignatureAlgorithm::ALL.into_iter().find(|algorithm| algorithm.as_str() == name);
            found.ok_or_else(|| bad("an unknown algorithm"))?
        },
    })
}

fn put_input(fields: Fields, input: &Input) -> Fields {
    match input {
        Input::Message(message) => fields.byte(0).bytes(message),
        Input::Digest(digest) => {
            let tag = match digest {
                Digest::Sha256(_) => 1,
                Digest::Sha384(_) => 2,
                Digest::Sha512(_) => 3,
                Digest::Mu(_) => 4,
            };
            fields.byte(tag).bytes(digest.as_bytes())
        }
    }
}

fn take_input(taker: &mut Taker<'_>) -> Result<Input> {
    let (tag, bytes) = (taker.byte()?, taker.bytes()?);
    let wrong = |_| bad("a digest of the wrong length");
    Ok(match tag {
        0 => Input::Message(bytes.to_vec()),
        1 => Input::Digest(Digest::Sha256(bytes.try_into().map_err(wrong)?)),
        2 => Input::Digest(Digest::Sha384(bytes.try_into().map_err(wrong)?)),
        3 => Input::Digest(Digest::Sha512(bytes.try_into().map_err(wrong)?)),
        4 => Input::Digest(Digest::Mu(bytes.try_into().map_err(wrong)?)),
        _ => return Err(bad("an unknown input")),
    })
}

/// Every shape with its number on the wire.
const SHAPES: [(u8, KeyShape); 12] = [
    (1, KeyShape::Ed25519),
    (2, KeyShape::P256),
    (3, KeyShape::P384),
    (4, KeyShape::Secp256k1),
    (5, KeyShape::Rsa(RsaBits::B2048)),
    (6, KeyShape::Rsa(RsaBits::B3072)),
    (7, KeyShape::Rsa(RsaBits::B4096)),
    (8, KeyShape::MlDsa44),
    (9, KeyShape::MlDsa65),
    (10, KeyShape::Hmac(HashAlgorithm::Sha256)),
    (11, KeyShape::Hmac(HashAlgorithm::Sha384)),
    (12, KeyShape::Hmac(HashAlgorithm::Sha512)),
];

fn shape_tag(shape: KeyShape) -> u8 {
    // 0 is no shape; the worker refuses it. The test below shows that every shape has a tag.
    SHAPES.into_iter().find(|(_, known)| *known == shape).map_or(0, |(tag, _)| tag)
}

fn shape_of(tag: u8) -> Result<KeyShape> {
    let found = SHAPES.into_iter().find(|(known, _)| *known == tag);
    found.map(|(_, shape)| shape).ok_or_else(|| bad("an unknown shape"))
}

fn put_report(fields: Fields, report: &SandboxReport) -> Fields {
    fields.list(&report.walls, |fields, wall| {
        fields.text(&wall.name).maybe(wall.missing.as_deref().map(str::as_bytes))
    })
}

fn take_report(taker: &mut Taker<'_>) -> Result<SandboxReport> {
    let walls = taker.list(|taker| Ok(Wall { name: taker.text()?, missing: taker.maybe_text()? }))?;
    Ok(SandboxReport { walls })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;
    use chancery_format::entry::KeyUse;

    fn reply(reply: &Reply) -> Reply {
        let (kind, fields) = reply.encode();
        Reply::decode(&Frame { id: 0, kind, fields }).unwrap()
    }

    #[test]
    fn what_is_said_is_what_is_heard() {
        let unknown = SignerError::Unavailable { cause: "c".into(), key_use: KeyUse::Unknown };
        for said in [
            Reply::Ready(SandboxReport { walls: vec![Wall { name: "n".into(), missing: Some("m".into()) }] }),
            Reply::Done,
            Reply::Key(None),
            Reply::Key(Some(vec![1])),
            Reply::Signed(vec![2; 64]),
            Reply::Failed(unknown.clone()),
            Reply::Failed(SignerError::Deadline(KeyUse::None)),
            Reply::Failed(SignerError::WrongInput),
            Reply::Failed(SignerError::KeyMissing { cause: "k".into() }),
            Reply::NotProvisioned(ProvisionError::Device(unknown)),
            Reply::NotProvisioned(ProvisionError::KeyExists("k".into())),
            Reply::Fence(vec![("socket".into(), true)]),
            Reply::PinRefused([1, 2, 3, 4]),
        ] {
            let (kind, fields) = said.encode();
            assert_eq!(Reply::decode(&Frame { id: 0, kind, fields }).unwrap(), said);
        }
        assert_eq!(reply(&Reply::Started), Reply::Started);
    }

    #[test]
    fn every_shape_has_its_own_tag() {
        for algorithm in SignatureAlgorithm::ALL {
            let shape = KeyShape::recommended(algorithm);
            assert_eq!(shape_of(shape_tag(shape)).unwrap(), shape);
        }
        assert!(shape_of(0).is_err());
    }

    #[test]
    fn a_setup_survives_the_way() {
        let setup = Setup {
            parent_pid: 7,
            network: true,
            provisioning: false,
            writable: vec!["/a".into()],
            module_file: "/m.so".into(),
            token: TokenSelector { slot_id: Some(9), model: Some("m".into()), ..TokenSelector::default() },
            pin_file: "/p".into(),
            pin_refused: Some([1, 2, 3, 4]),
            sessions: 3,
        };
        let (kind, fields) = Request::Setup(Box::new(setup.clone())).encode();
        match Request::decode(&Frame { id: 1, kind, fields }).unwrap() {
            Request::Setup(heard) => assert_eq!(*heard, setup),
            other => panic!("{other:?}"),
        }
    }
}
