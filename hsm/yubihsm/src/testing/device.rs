//! The double's sessions, objects, and the order in which a command is checked.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use aws_lc_rs::rand;
use chancery_hsm::KeyShape;

use super::certificates::Attestation;
use super::keys::Material;
use super::log::{Event, Log};
use super::{AUTH_KEY_ID, DoubleError};
use crate::config::{SESSION_IDLE, SESSIONS_MAX};
use crate::provision::kind_of;
use crate::scp03::{CHALLENGE, Channel, StaticKeys};
use crate::wire::{self, ANSWER, Fields, LABEL_BYTES, command, device_error, object_type, padded_label};

/// Domains are sixteen; what is made here is in all of them.
const EVERY_DOMAIN: u16 = 0xFFFF;

/// One object.
pub(super) struct Object {
    pub(super) algorithm: u8,
    pub(super) capabilities: u64,
    pub(super) domains: u16,
    pub(super) sequence: u8,
    pub(super) origin: u8,
    pub(super) label: [u8; LABEL_BYTES],
    pub(super) material: Material,
}

struct Session {
    channel: Channel,
    auth_key: u16,
    authenticated: bool,
    last_used: Instant,
}

/// A device.
pub(super) struct Device {
    pub(super) serial: u32,
    pub(super) objects: BTreeMap<(u16, u8), Object>,
    pub(super) log: Log,
    pub(super) attestation: Attestation,
    pub(super) session_idle: Duration,
    /// How long the connector keeps each answer back.
    pub(super) delay: Duration,
    pub(super) key_use_delay: Duration,
    /// Whether the last message had a key used.
    pub(super) used_key: bool,
    pub(super) sessions_tried: usize,
    sessions: [Option<Session>; SESSIONS_MAX],
    password: String,
}

impl Device {
    pub(super) fn new(password: &str, serial: u32) -> Result<Self, DoubleError> {
        let mut device = Self {
            serial,
            objects: BTreeMap::new(),
            log: Log::new()?,
            attestation: Attestation::new(serial)?,
            session_idle: SESSION_IDLE,
            delay: Duration::ZERO,
            key_use_delay: Duration::ZERO,
            used_key: false,
            sessions_tried: 0,
            sessions: Default::default(),
            password: password.to_owned(),
        };
        device.furnish();
        Ok(device)
    }

    /// What a device has when it is delivered.
    fn furnish(&mut self) {
        let object = |material, algorithm, capabilities| Object {
            algorithm,
            capabilities,
            domains: EVERY_DOMAIN,
            sequence: 0,
            origin: 2,
            label: [0; LABEL_BYTES],
            material,
        };
        let keys = StaticKeys::from_password(self.password.as_bytes());
        let authentication = object(Material::Authentication(keys), 38, u64::MAX);
        self.objects.insert((AUTH_KEY_ID, object_type::AUTHENTICATION_KEY), authentication);
        let certificate = object(Material::Opaque(self.attestation.device_certificate()), 31, 0);
        self.objects.insert((0, object_type::OPAQUE), certificate);
    }

    pub(super) fn reset(&mut self) -> Result<(), DoubleError> {
        self.objects.clear();
        self.log = Log::new()?;
        self.furnish();
        Ok(())
    }

    pub(super) fn reboot(&mut self) {
        self.sessions = Default::default();
        self.log.start();
    }

    pub(super) fn open_sessions(&self) -> usize {
        let alive = |session: &&Session| session.last_used.elapsed() < self.session_idle;
        self.sessions.iter().flatten().filter(alive).count()
    }

    pub(super) fn restrict(&mut self, auth_key: u16, capabilities: u64) {
        if let Some(object) = self.objects.get_mut(&(auth_key, object_type::AUTHENTICATION_KEY)) {
            object.capabilities = capabilities;
        }
    }

    pub(super) fn add_key(
        &mut self,
        label: &str,
        shape: KeyShape,
        capabilities: Option<u64>,
    ) -> Result<u16, DoubleError> {
        let (algorithm, object_type, usual) =
            kind_of(shape).ok_or_else(|| DoubleError("no keys of this shape".to_owned()))?;
        let material = Material::generate(algorithm)?;
        let object = Object {
            algorithm,
            capabilities: capabilities.unwrap_or(usual),
            domains: EVERY_DOMAIN,
            sequence: 0,
            origin: 1,
            label: padded_label(label).ok_or_else(|| DoubleError("no such label".to_owned()))?,
            material: material.ok_or_else(|| DoubleError("no keys of this kind".to_owned()))?,
        };
        let id = self.free_id(object_type);
        self.objects.insert((id, object_type), object);
        Ok(id)
    }

    /// The lowest id from 0x0100 on that no object of the type has.
    pub(super) fn free_id(&self, object_type: u8) -> u16 {
        (0x0100..u16::MAX).find(|id| !self.objects.contains_key(&(*id, object_type))).unwrap_or(u16::MAX)
    }

    /// One message of the connector's, and the answer.
    pub(super) fn message(&mut self, message: &[u8]) -> Vec<u8> {
        self.used_key = false;
        let answer = match wire::parse(message) {
            Some((command::CREATE_SESSION, content)) => self.create_session(content),
            Some((command::AUTHENTICATE_SESSION, content)) => self.authenticate(content),
            Some((command::SESSION_MESSAGE, content)) => self.session_message(content),
            Some((command::ECHO, content)) => Ok(wire::message(command::ECHO | ANSWER, content)),
            Some((command::DEVICE_INFO, _)) => {
                Ok(wire::message(command::DEVICE_INFO | ANSWER, &self.device_info()))
            }
            _ => Err(device_error::INVALID_COMMAND),
        };
        answer.unwrap_or_else(error)
    }

    fn create_session(&mut self, content: &[u8]) -> Result<Vec<u8>, u8> {
        self.sessions_tried += 1;
        let mut fields = Fields(content);
        let (auth_key, host) = fields.u16().zip(fields.take()).ok_or(device_error::WRONG_LENGTH)?;
        let idle = self.session_idle;
        let free = |session: &Option<Session>| {
            session.as_ref().is_none_or(|session| session.last_used.elapsed() >= idle)
        };
        let place = self.sessions.iter().position(free).ok_or(device_error::SESSIONS_FULL)?;
        let key = self.objects.get(&(auth_key, object_type::AUTHENTICATION_KEY));
        let Some(Material::Authentication(keys)) = key.map(|object| &object.material) else {
            return Err(device_error::OBJECT_NOT_FOUND);
        };
        let device: [u8; CHALLENGE] =
            rand::generate(&rand::SystemRandom::new()).map_err(|_| device_error::SESSION_FAILED)?.expose();
        let id = u8::try_from(place).map_err(|_| device_error::SESSIONS_FULL)?;
        let channel = Channel::new(id, keys, host, device).map_err(|_| device_error::SESSION_FAILED)?;
        let cryptogram = channel.device_cryptogram().map_err(|_| device_error::SESSION_FAILED)?;
        let session = Session { channel, auth_key, authenticated: false, last_used: Instant::now() };
        if let Some(seat) = self.sessions.get_mut(place) {
            *seat = Some(session);
        }
        self.note(command::CREATE_SESSION, 10, 0xFFFF, (auth_key, 0xFFFF), Ok(()));
        let content = [&[id], device.as_slice(), &cryptogram].concat();
        Ok(wire::message(command::CREATE_SESSION | ANSWER, &content))
    }

    fn authenticate(&mut self, content: &[u8]) -> Result<Vec<u8>, u8> {
        let session = self.session(content)?;
        let auth_key = session.auth_key;
        let accepted = !session.authenticated && session.channel.accept_authentication(content).is_ok();
        session.authenticated = accepted;
        let result = if accepted { Ok(()) } else { Err(device_error::AUTHENTICATION_FAILED) };
        self.note(command::AUTHENTICATE_SESSION, 17, 0xFFFF, (auth_key, 0xFFFF), result);
        if !accepted {
            self.forget(content);
        }
        result.map(|()| wire::message(command::AUTHENTICATE_SESSION | ANSWER, &[]))
    }

    fn session_message(&mut self, content: &[u8]) -> Result<Vec<u8>, u8> {
        let session = self.session(content)?;
        if !session.authenticated {
            return Err(device_error::INVALID_SESSION);
        }
        let auth_key = session.auth_key;
        let Ok(plain) = session.channel.open_command(content) else {
            self.forget(content);
            return Err(device_error::AUTHENTICATION_FAILED);
        };
        let (code, command) = wire::parse(&plain).ok_or(device_error::INVALID_DATA)?;
        let answer = match self.execute(auth_key, code, command) {
            Ok(answer) => wire::message(code | ANSWER, &answer),
            Err(number) => error(number),
        };
        // After a reset the answer still leaves in the old session.
        let sealed = self.session(content)?.channel.seal_answer(&answer);
        if matches!(code, command::CLOSE_SESSION | command::RESET_DEVICE) {
            self.forget(content);
        }
        sealed.map_err(|_| device_error::SESSION_FAILED)
    }

    /// Room in the log, permission, the command itself, the log.
    fn execute(&mut self, auth_key: u16, code: u8, content: &[u8]) -> Result<Vec<u8>, u8> {
        if self.log.stops(code) {
            return Err(device_error::LOG_FULL);
        }
        let allowed = self
            .objects
            .get(&(auth_key, object_type::AUTHENTICATION_KEY))
            .map_or((0, 0), |object| (object.capabilities, object.domains));
        let mut keys = (0xFFFF, 0xFFFF);
        let answer = self.command(allowed, code, content, &mut keys);
        self.used_key = command::USING_KEYS.contains(&code);
        let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
        self.note(code, length, auth_key, keys, answer.as_ref().map(|_| ()).map_err(|number| *number));
        answer
    }

    fn note(&mut self, code: u8, length: u16, session_key: u16, keys: (u16, u16), result: Result<(), u8>) {
        let result = result.map_or_else(|number| number, |()| code | ANSWER);
        let (target, second) = keys;
        self.log.record(Event { command: code, length, session_key, target, second, result });
    }

    /// The session a message is for, if it is alive.
    fn session(&mut self, content: &[u8]) -> Result<&mut Session, u8> {
        let idle = self.session_idle;
        let place = content.first().map_or(SESSIONS_MAX, |id| usize::from(*id));
        let seat = self.sessions.get_mut(place).ok_or(device_error::INVALID_SESSION)?;
        if seat.as_ref().is_some_and(|session| session.last_used.elapsed() >= idle) {
            *seat = None;
        }
        let session = seat.as_mut().ok_or(device_error::INVALID_SESSION)?;
        session.last_used = Instant::now();
        Ok(session)
    }

    fn forget(&mut self, content: &[u8]) {
        if let Some(seat) = content.first().and_then(|id| self.sessions.get_mut(usize::from(*id))) {
            *seat = None;
        }
    }
}

fn error(number: u8) -> Vec<u8> {
    wire::message(command::ERROR, &[number])
}
