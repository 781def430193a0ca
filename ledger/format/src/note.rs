//! C2SP signed notes: a text and signatures over it, as `golang.org/x/mod/sumdb/note` reads them.
//!
//! This file assembles and checks notes; it never holds a private key. Only Ed25519 signatures
//! (type 0x01) are over a note's text, so only they are made and understood here; those over what a
//! checkpoint says (types 0x04 and 0x06) are in [`crate::cosignature`]. Lines by unknown keys are ignored,
//! as the format demands, and a known key whose signature fails refuses the whole note.

use ed25519_dalek::{Signature, VerifyingKey};

use crate::entry::{decode_base64, encode_base64};
use crate::hash::Hash;
use crate::public_key::ed25519_key;

#[cfg(test)]
mod tests;

/// Largest note read, in bytes: room for sixteen post-quantum signature lines.
pub const NOTE_BYTES_MAX: usize = 1024 * 1024;
/// Most signature lines read.
pub const SIGNATURES_MAX: usize = 100;

/// Signature type of plain Ed25519 (C2SP signed-note).
const ED25519: u8 = 0x01;

/// Why a note or a verifier key was refused. Whoever supplied it is at fault; retrying cannot help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not a signed note: no blank line, a line that is no signature, control characters, too large, or two
    /// signatures by one known key.
    #[error("not a signed note")]
    Malformed,
    /// Not a verifier key `name+hash+base64` of Ed25519.
    #[error("not an Ed25519 note verifier key")]
    VerifierKey,
    /// No signature by any of the given keys.
    #[error("note carries no signature by a known key")]
    NoKnownSignature,
    /// A given key's signature does not verify.
    #[error("a known key's signature on the note does not verify")]
    BadSignature,
}

/// A key that may sign notes: name, key id and Ed25519 public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteVerifier {
    name: String,
    key_id: [u8; 4],
    key: VerifyingKey,
}

/// Note key names: not empty, no white space, no plus (C2SP signed-note).
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c == '+' || c.is_control())
}

/// First four bytes of SHA-256 over name, newline, type and key.
pub(crate) fn key_id(name: &str, kind: u8, key: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..] = Hash::of(&[name.as_bytes(), &[b'\n', kind], key]).0;
    [a, b, c, d]
}

/// `name+hex(key id)+base64(type ‖ key)`.
pub(crate) fn write_vkey(name: &str, kind: u8, key: &[u8]) -> String {
    let material = [&[kind], key].concat();
    format!("{name}+{}+{}", hex::encode(key_id(name, kind, key)), encode_base64(&material))
}

/// Name, type and key of a vkey; `None` unless it is spelled as [`write_vkey`] does.
pub(crate) fn read_vkey(vkey: &str) -> Option<(&str, u8, Vec<u8>)> {
    let mut parts = vkey.splitn(3, '+');
    let (name, _, material) = (parts.next()?, parts.next()?, parts.next()?);
    let material = decode_base64(material)?;
    let (kind, key) = material.split_first()?;
    let sane = is_name(name) && write_vkey(name, *kind, key) == vkey;
    sane.then(|| (name, *kind, key.to_vec()))
}

/// One signature line with its newline.
pub(crate) fn write_line(name: &str, key_id: [u8; 4], signature: &[u8]) -> String {
    format!("\u{2014} {name} {}\n", encode_base64(&[&key_id, signature].concat()))
}

impl NoteVerifier {
    /// From a name and a raw Ed25519 public key. Refuses the keys [`PublicKey`](crate::PublicKey) refuses.
    pub fn new(name: &str, key: &[u8; 32]) -> Result<Self, NoteError> {
        let verifying = ed25519_key(key).map_err(|_| NoteError::VerifierKey)?;
        if !is_name(name) {
            return Err(NoteError::VerifierKey);
        }
        Ok(Self { name: name.to_owned(), key_id: key_id(name, ED25519, key), key: verifying })
    }

    /// Reads `name+hex(key id)+base64(type ‖ key)`.
    ///
    /// ```
    /// use chancery_format::note::NoteVerifier;
    /// let vkey = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    /// assert_eq!(NoteVerifier::parse(vkey).unwrap().vkey(), vkey);
    /// ```
    pub fn parse(vkey: &str) -> Result<Self, NoteError> {
        match read_vkey(vkey) {
            Some((name, ED25519, key)) => {
                Self::new(name, key.as_slice().try_into().map_err(|_| NoteError::VerifierKey)?)
            }
            _ => Err(NoteError::VerifierKey),
        }
    }

    /// The text form.
    pub fn vkey(&self) -> String {
        write_vkey(&self.name, ED25519, self.key.as_bytes())
    }

    /// Name of the key; for a ledger, its origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The raw Ed25519 key.
    pub fn public_key(&self) -> [u8; 32] {
        self.key.to_bytes()
    }

    /// The four bytes that stand before each signature.
    pub const fn key_id(&self) -> [u8; 4] {
        self.key_id
    }

    /// Whether a line of a note bears this key's name and id.
    pub fn is_named_by(&self, line: &NoteSignature<'_>) -> bool {
        self.name == line.name && self.key_id == line.key_id
    }
}

/// Puts a note together from its text (which ends in a newline) and this key's signature over it.
///
/// The caller signed `text` itself, byte for byte.
pub fn assemble(text: &str, key: &NoteVerifier, signature: &[u8; 64]) -> Result<String, NoteError> {
    if !is_text(text) {
        return Err(NoteError::Malformed);
    }
    Ok(format!("{text}\n{}", write_line(&key.name, key.key_id, signature)))
}

/// The same with several signatures, in this order.
pub fn assemble_all(text: &str, signatures: &[(&NoteVerifier, &[u8; 64])]) -> Result<String, NoteError> {
    let mut note = format!("{text}\n");
    for (key, signature) in signatures {
        let one = assemble(text, key, signature)?;
        note += one.get(text.len() + 1..).ok_or(NoteError::Malformed)?;
    }
    Ok(note)
}

/// Note text: ends in a newline, no control characters but newline.
fn is_text(text: &str) -> bool {
    text.ends_with('\n') && !text.chars().any(|c| c < ' ' && c != '\n')
}

/// One signature line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature<'a> {
    /// Name of the key.
    pub name: &'a str,
    /// Which key of that name.
    pub key_id: [u8; 4],
    /// What follows the key id.
    pub signature: Vec<u8>,
}

/// A note as read; nothing is proven until [`Note::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note<'a> {
    /// The signed text, with its final newline.
    pub text: &'a str,
    /// Its signatures, in order.
    pub signatures: Vec<NoteSignature<'a>>,
}

impl<'a> Note<'a> {
    /// Splits a note at its last empty line.
    pub fn parse(note: &'a str) -> Result<Self, NoteError> {
        if note.len() > NOTE_BYTES_MAX || !is_text(note) {
            return Err(NoteError::Malformed);
        }
        let at = note.rfind("\n\n").ok_or(NoteError::Malformed)? + 1;
        let (text, rest) = note.split_at(at);
        let lines = rest.strip_prefix('\n').and_then(|lines| lines.strip_suffix('\n'));
        let lines: Vec<&str> = lines.ok_or(NoteError::Malformed)?.split('\n').collect();
        if lines.len() > SIGNATURES_MAX {
            return Err(NoteError::Malformed);
        }
        let signatures = lines.into_iter().map(signature_line).collect::<Option<_>>();
        Ok(Self { text, signatures: signatures.ok_or(NoteError::Malformed)? })
    }

    /// The note with those of its signature lines that `keep` wants, in their order.
    pub fn with_lines(&self, keep: impl Fn(&NoteSignature<'a>) -> bool) -> String {
        let kept = self.signatures.iter().filter(|line| keep(line));
        let lines: String = kept.map(|line| write_line(line.name, line.key_id, &line.signature)).collect();
        format!("{}\n{lines}", self.text)
    }

    /// Names of the given keys that signed; at least one must, and none of theirs may fail.
    pub fn verify<'k>(&self, keys: &'k [NoteVerifier]) -> Result<Vec<&'k NoteVerifier>, NoteError> {
        let mut signed = Vec::new();
        for line in &self.signatures {
            let Some(key) = keys.iter().find(|key| key.is_named_by(line)) else { continue };
            let signature = Signature::from_slice(&line.signature).map_err(|_| NoteError::BadSignature)?;
            let verdict = key.key.verify_strict(self.text.as_bytes(), &signature);
            verdict.map_err(|_| NoteError::BadSignature)?;
            if signed.contains(&key) {
                return Err(NoteError::Malformed);
            }
            signed.push(key);
        }
        if signed.is_empty() { Err(NoteError::NoKnownSignature) } else { Ok(signed) }
    }
}

/// Reads one signature line, without its newline.
pub(crate) fn signature_line(line: &str) -> Option<NoteSignature<'_>> {
    let (name, material) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
    let material = decode_base64(material)?;
    let (key_id, signature) = material.split_first_chunk::<4>()?;
    let sane = is_name(name) && !signature.is_empty();
    sane.then(|| NoteSignature { name, key_id: *key_id, signature: signature.to_vec() })
}
