//! The encrypted session: keys from a password, the mutual proof of knowing them, and messages that are
//! encrypted, authenticated and chained (GlobalPlatform SCP03 with AES-128, as the YubiHSM 2 uses it).
//!
//! Both ends are here: the daemon speaks the host's, the double in `testing` the device's. That both agree
//! with others is tested against the `yubihsm` crate: its mock device answers our host, its client talks to
//! our double.
//!
//! The vendor fixed the MACs at 8 bytes. A session carries few messages before it is replaced
//! ([`MESSAGES_MAX`]), so guessing one has no chance.

use aws_lc_rs::cipher::{
    AES_128, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext, UnboundCipherKey,
};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{cmac, pbkdf2};
use std::num::NonZeroU32;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::wire::{self, ANSWER, command};

/// Messages after which a session is replaced.
pub(crate) const MESSAGES_MAX: u32 = 1 << 20;

/// Rounds and salt the vendor's tools derive keys from passwords with.
const PASSWORD_ROUNDS: NonZeroU32 = NonZeroU32::new(10_000).unwrap();
const PASSWORD_SALT: &[u8] = b"Yubico";

const BLOCK: usize = 16;
const MAC: usize = 8;

/// Length of either side's challenge.
pub(crate) const CHALLENGE: usize = 8;

/// Something does not fit: keys, MAC, padding, length. The session is worthless from here on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mismatch;

impl From<Unspecified> for Mismatch {
    fn from(_: Unspecified) -> Self {
        Self
    }
}

/// The long-lived keys of an authentication key object.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct StaticKeys {
    encryption: [u8; BLOCK],
    mac: [u8; BLOCK],
}

impl StaticKeys {
    pub(crate) fn from_password(password: &[u8]) -> Self {
        let mut both = [0; 2 * BLOCK];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, PASSWORD_ROUNDS, PASSWORD_SALT, password, &mut both);
        let mut keys = Self { encryption: [0; BLOCK], mac: [0; BLOCK] };
        let (encryption, mac) = both.split_at(BLOCK);
        keys.encryption.copy_from_slice(encryption);
        keys.mac.copy_from_slice(mac);
        both.zeroize();
        keys
    }
}

/// One end of a session.
#[derive(ZeroizeOnDrop)]
pub(crate) struct Channel {
    id: u8,
    encryption: [u8; BLOCK],
    mac: [u8; BLOCK],
    answer_mac: [u8; BLOCK],
    context: [u8; 2 * CHALLENGE],
    chain: [u8; BLOCK],
    counter: u32,
}

impl Channel {
    pub(crate) fn new(
        id: u8,
        keys: &StaticKeys,
        host: [u8; CHALLENGE],
        device: [u8; CHALLENGE],
    ) -> Result<Self, Mismatch> {
        let mut context = [0; 2 * CHALLENGE];
        context.iter_mut().zip(host.into_iter().chain(device)).for_each(|(to, from)| *to = from);
        Ok(Self {
            id,
            encryption: derive(&keys.encryption, 4, &context)?,
            mac: derive(&keys.mac, 6, &context)?,
            answer_mac: derive(&keys.mac, 7, &context)?,
            context,
            chain: [0; BLOCK],
            counter: 1,
        })
    }

    /// Messages exchanged so far.
    pub(crate) const fn messages(&self) -> u32 {
        self.counter
    }

    /// What only a device with the same keys could have sent.
    pub(crate) fn device_cryptogram(&self) -> Result<[u8; MAC], Mismatch> {
        derive(&self.mac, 0, &self.context)
    }

    fn host_cryptogram(&self) -> Result<[u8; MAC], Mismatch> {
        derive(&self.mac, 1, &self.context)
    }

    /// Host: whether the device knows the keys.
    pub(crate) fn device_is_genuine(&self, cryptogram: [u8; MAC]) -> bool {
        self.device_cryptogram().is_ok_and(|own| verify_slices_are_equal(&own, &cryptogram).is_ok())
    }

    /// Host: the message that proves knowledge of the keys.
    pub(crate) fn authenticate(&mut self) -> Result<Vec<u8>, Mismatch> {
        let cryptogram = self.host_cryptogram()?;
        self.with_command_mac(command::AUTHENTICATE_SESSION, &cryptogram)
    }

    /// Host: wraps a whole command.
    pub(crate) fn seal_command(&mut self, plain: &[u8]) -> Result<Vec<u8>, Mismatch> {
        let encrypted = self.encrypt(plain)?;
        self.with_command_mac(command::SESSION_MESSAGE, &encrypted)
    }

    /// Host: unwraps a whole answer.
    pub(crate) fn open_answer(&mut self, content: &[u8]) -> Result<Vec<u8>, Mismatch> {
        let code = command::SESSION_MESSAGE | ANSWER;
        let (encrypted, mac) = self.split(content)?;
        let expected = self.tag(&self.answer_mac, code, encrypted)?;
        verify_slices_are_equal(expected.first_chunk::<MAC>().ok_or(Mismatch)?, &mac)?;
        let plain = self.decrypt(encrypted)?;
        self.counter += 1;
        Ok(plain)
    }

    /// Device: checks the host's proof.
    pub(crate) fn accept_authentication(&mut self, content: &[u8]) -> Result<(), Mismatch> {
        let cryptogram = self.check_command_mac(command::AUTHENTICATE_SESSION, content)?;
        verify_slices_are_equal(&cryptogram, &self.host_cryptogram()?)?;
        Ok(())
    }

    /// Device: unwraps a whole command.
    pub(crate) fn open_command(&mut self, content: &[u8]) -> Result<Vec<u8>, Mismatch> {
        let encrypted = self.check_command_mac(command::SESSION_MESSAGE, content)?;
        self.decrypt(&encrypted)
    }

    /// Device: wraps a whole answer.
    pub(crate) fn seal_answer(&mut self, plain: &[u8]) -> Result<Vec<u8>, Mismatch> {
        let encrypted = self.encrypt(plain)?;
        let code = command::SESSION_MESSAGE | ANSWER;
        let mac = self.tag(&self.answer_mac, code, &encrypted)?;
        self.counter += 1;
        Ok(wire::message(code, &self.joined(&encrypted, &mac)))
    }

    fn with_command_mac(&mut self, code: u8, content: &[u8]) -> Result<Vec<u8>, Mismatch> {
        self.chain = self.tag(&self.mac, code, content)?;
        Ok(wire::message(code, &self.joined(content, &self.chain)))
    }

    fn check_command_mac(&mut self, code: u8, content: &[u8]) -> Result<Vec<u8>, Mismatch> {
        let (content, mac) = self.split(content)?;
        let chain = self.tag(&self.mac, code, content)?;
        verify_slices_are_equal(chain.first_chunk::<MAC>().ok_or(Mismatch)?, &mac)?;
        self.chain = chain;
        Ok(content.to_vec())
    }

    /// Session number, content, and as much of the tag as travels.
    fn joined(&self, content: &[u8], tag: &[u8; BLOCK]) -> Vec<u8> {
        let mac = tag.get(..MAC).unwrap_or_default();
        [&[self.id], content, mac].concat()
    }

    fn split<'a>(&self, content: &'a [u8]) -> Result<(&'a [u8], [u8; MAC]), Mismatch> {
        match content.split_last_chunk::<MAC>() {
            Some(([id, content @ ..], mac)) if *id == self.id => Ok((content, *mac)),
            _ => Err(Mismatch),
        }
    }

    fn tag(&self, key: &[u8; BLOCK], code: u8, content: &[u8]) -> Result<[u8; BLOCK], Mismatch> {
        let length = u16::try_from(1 + content.len() + MAC).map_err(|_| Mismatch)?.to_be_bytes();
        cmac_of(key, &[self.chain.as_slice(), &[code], &length, &[self.id], content].concat())
    }

    fn encrypt(&self, plain: &[u8]) -> Result<Vec<u8>, Mismatch> {
        let mut text = [plain, &[0x80]].concat();
        text.resize(text.len().next_multiple_of(BLOCK), 0);
        let key = EncryptingKey::cbc(UnboundCipherKey::new(&AES_128, &self.encryption)?)?;
        key.less_safe_encrypt(&mut text, EncryptionContext::Iv128(self.vector()?))?;
        Ok(text)
    }

    fn decrypt(&self, encrypted: &[u8]) -> Result<Vec<u8>, Mismatch> {
        let mut text = encrypted.to_vec();
        let key = DecryptingKey::cbc(UnboundCipherKey::new(&AES_128, &self.encryption)?)?;
        key.decrypt(&mut text, DecryptionContext::Iv128(self.vector()?))?;
        let end = text.iter().rposition(|byte| *byte != 0).ok_or(Mismatch)?;
        if text.get(end) != Some(&0x80) {
            return Err(Mismatch);
        }
        text.truncate(end);
        Ok(text)
    }

    /// The initial vector of a command and of its answer: the encrypted number of the message.
    fn vector(&self) -> Result<FixedLength<BLOCK>, Mismatch> {
        let mut block = [0; BLOCK];
        block.iter_mut().skip(12).zip(self.counter.to_be_bytes()).for_each(|(to, from)| *to = from);
        let key = EncryptingKey::ecb(UnboundCipherKey::new(&AES_128, &self.encryption)?)?;
        key.less_safe_encrypt(&mut block, EncryptionContext::None)?;
        Ok(FixedLength::from(block))
    }
}

/// SP 800-108 in counter mode with CMAC, with SCP03's input.
fn derive<const N: usize>(
    key: &[u8; BLOCK],
    constant: u8,
    context: &[u8; 2 * CHALLENGE],
) -> Result<[u8; N], Mismatch> {
    let bits = u16::try_from(8 * N).map_err(|_| Mismatch)?.to_be_bytes();
    let input = [&[0; 11], [constant, 0].as_slice(), &bits, &[1], context].concat();
    cmac_of(key, &input)?.first_chunk::<N>().copied().ok_or(Mismatch)
}

fn cmac_of(key: &[u8; BLOCK], data: &[u8]) -> Result<[u8; BLOCK], Mismatch> {
    let tag = cmac::sign(&cmac::Key::new(cmac::AES_128, key)?, data)?;
    tag.as_ref().first_chunk::<BLOCK>().copied().ok_or(Mismatch)
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a failed unwrap is the test's failure"
    )]
    use super::*;

    fn pair() -> (Channel, Channel) {
        let keys = StaticKeys::from_password(b"one of the tests'");
        let end = || Channel::new(3, &keys, [1; 8], [2; 8]).unwrap();
        (end(), end())
    }

    fn content(message: &[u8]) -> &[u8] {
        wire::parse(message).unwrap().1
    }

    #[test]
    fn both_ends_agree_message_after_message() {
        let (mut host, mut device) = pair();
        assert!(host.device_is_genuine(device.device_cryptogram().unwrap()));
        let proof = host.authenticate().unwrap();
        device.accept_authentication(content(&proof)).unwrap();
        for length in 0..50 {
            let text = vec![0x80; length];
            let command = host.seal_command(&text).unwrap();
            assert_eq!(device.open_command(content(&command)).unwrap(), text);
            let answer = device.seal_answer(&text).unwrap();
            assert_eq!(host.open_answer(content(&answer)).unwrap(), text);
        }
    }

    #[test]
    fn a_changed_repeated_or_foreign_message_is_noticed() {
        let (mut host, mut device) = pair();
        let proof = host.authenticate().unwrap();
        device.accept_authentication(content(&proof)).unwrap();
        let command = host.seal_command(b"text").unwrap();
        device.open_command(content(&command)).unwrap();
        let answer = device.seal_answer(b"answer").unwrap();
        for place in 3..answer.len() {
            let mut changed = answer.clone();
            changed[place] ^= 1;
            assert!(host.open_answer(content(&changed)).is_err());
        }
        assert!(device.open_command(content(&command)).is_err());
        let other = Channel::new(3, &StaticKeys::from_password(b"another"), [1; 8], [2; 8]).unwrap();
        assert!(!other.device_is_genuine(host.device_cryptogram().unwrap()));
    }
}
