//! What the daemon and its worker say to each other.
//!
//! A frame is `length:u32 | version:u8 | id:u64 | kind:u8 | fields`, numbers big-endian, `length` counting
//! what follows it and at most [`FRAME_BYTES_MAX`]. A field is a number, or bytes behind their `u32`
//! length. `id` ties a reply to its request; any number of requests may be under way. Nothing may be left
//! over after the last field: a frame that is not exactly right ends the conversation.
//!
//! The daemon believes the worker nothing but bytes: signatures are verified by the keyring.

use std::io::{Error, ErrorKind, Read, Result, Write};

use zeroize::Zeroizing;

use crate::limits::FRAME_BYTES_MAX;

/// Both halves are one build; this tells a worker of another build apart.
pub(crate) const VERSION: u8 = 1;

/// Bytes of version, id and kind.
const HEAD_BYTES: usize = 10;

/// One frame, without its length and version.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) id: u64,
    pub(crate) kind: u8,
    pub(crate) fields: Zeroizing<Vec<u8>>,
}

pub(crate) fn bad(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

/// Writes a frame in one piece.
pub(crate) fn write_frame(out: &mut impl Write, id: u64, kind: u8, fields: &[u8]) -> Result<()> {
    let length = HEAD_BYTES + fields.len();
    if length > FRAME_BYTES_MAX {
        return Err(bad("a frame too long"));
    }
    let length = u32::try_from(length).map_err(|_| bad("a frame too long"))?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(4 + HEAD_BYTES + fields.len()));
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.push(VERSION);
    bytes.extend_from_slice(&id.to_be_bytes());
    bytes.push(kind);
    bytes.extend_from_slice(fields);
    out.write_all(&bytes)
}

/// Reads a frame; `None` if the other side closed between two frames.
pub(crate) fn read_frame(input: &mut impl Read) -> Result<Option<Frame>> {
    let mut first = [0; 1];
    loop {
        match input.read(&mut first) {
            Ok(0) => return Ok(None),
            Ok(_) => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let mut rest = [0; 3];
    input.read_exact(&mut rest)?;
    let length = u32::from_be_bytes([first[0], rest[0], rest[1], rest[2]]) as usize;
    if !(HEAD_BYTES..=FRAME_BYTES_MAX).contains(&length) {
        return Err(bad("a frame of impossible length"));
    }
    let mut head = [0; HEAD_BYTES];
    input.read_exact(&mut head)?;
    let [version, id @ .., kind] = head;
    if version != VERSION {
        return Err(bad("another version of the worker's language"));
    }
    let mut fields = Zeroizing::new(vec![0; length - HEAD_BYTES]);
    input.read_exact(&mut fields)?;
    Ok(Some(Frame { id: u64::from_be_bytes(id), kind, fields }))
}

/// Builds the fields of a frame.
#[derive(Default)]
pub(crate) struct Fields(Zeroizing<Vec<u8>>);

impl Fields {
    pub(crate) fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    pub(crate) fn number(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        // Longer than a u32 is longer than a frame, which `write_frame` refuses.
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    /// Bytes that may be absent.
    pub(crate) fn maybe(self, bytes: Option<&[u8]>) -> Self {
        match bytes {
            Some(bytes) => self.byte(1).bytes(bytes),
            None => self.byte(0),
        }
    }

    pub(crate) fn list<T>(self, items: &[T], each: impl Fn(Self, &T) -> Self) -> Self {
        items.iter().fold(self.number(items.len() as u64), each)
    }

    pub(crate) fn done(self) -> Zeroizing<Vec<u8>> {
        self.0
    }
}

/// Takes the fields of a frame apart.
pub(crate) struct Taker<'a>(pub(crate) &'a [u8]);

impl<'a> Taker<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count).ok_or_else(|| bad("a field is cut off"))?;
        self.0 = rest;
        Ok(head)
    }

    pub(crate) fn byte(&mut self) -> Result<u8> {
        self.take(1)?.first().copied().ok_or_else(|| bad("a field is cut off"))
    }

    pub(crate) fn flag(&mut self) -> Result<bool> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(bad("a flag is neither 0 nor 1")),
        }
    }

    pub(crate) fn number(&mut self) -> Result<u64> {
        let bytes = self.take(8)?.try_into().map_err(|_| bad("a field is cut off"))?;
        Ok(u64::from_be_bytes(bytes))
    }

    pub(crate) fn size(&mut self) -> Result<usize> {
        usize::try_from(self.number()?).map_err(|_| bad("a number too large"))
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.take(4)?.try_into().map_err(|_| bad("a field is cut off"))?;
        self.take(u32::from_be_bytes(length) as usize)
    }

    pub(crate) fn text(&mut self) -> Result<String> {
        std::str::from_utf8(self.bytes()?).map(str::to_owned).map_err(|_| bad("a text is not UTF-8"))
    }

    pub(crate) fn maybe(&mut self) -> Result<Option<&'a [u8]>> {
        if self.flag()? { self.bytes().map(Some) } else { Ok(None) }
    }

    pub(crate) fn maybe_text(&mut self) -> Result<Option<String>> {
        if self.flag()? { self.text().map(Some) } else { Ok(None) }
    }

    /// Every item takes at least a byte, so a count cannot ask for more memory than the frame has.
    pub(crate) fn list<T>(&mut self, mut each: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let count = self.size()?;
        if count > self.0.len() {
            return Err(bad("a list longer than its frame"));
        }
        (0..count).map(|_| each(self)).collect()
    }

    /// Nothing may be left.
    pub(crate) fn end(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(bad("something follows the last field")) }
    }
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a failed unwrap is the test's failure"
    )]
    use super::*;

    #[test]
    fn frames_come_back_as_they_went() {
        let fields = Fields::default().byte(7).number(9).text("t").maybe(None).maybe(Some(b"x"));
        let fields = fields.list(&["a", "b"], |fields, item| fields.text(item)).done();
        let mut pipe = Vec::new();
        write_frame(&mut pipe, 42, 3, &fields).unwrap();
        let mut input = pipe.as_slice();
        let frame = read_frame(&mut input).unwrap().unwrap();
        assert_eq!((frame.id, frame.kind), (42, 3));
        let mut taker = Taker(&frame.fields);
        assert_eq!(
            (taker.byte().unwrap(), taker.number().unwrap(), taker.text().unwrap()),
            (7, 9, "t".into())
        );
        assert_eq!((taker.maybe_text().unwrap(), taker.maybe().unwrap()), (None, Some(&b"x"[..])));
        assert_eq!(taker.list(Taker::text).unwrap(), ["a", "b"]);
        taker.end().unwrap();
        assert!(read_frame(&mut input).unwrap().is_none());
    }

    #[test]
    fn whatever_is_not_exactly_a_frame_is_an_error() {
        let mut pipe = Vec::new();
        write_frame(&mut pipe, 1, 2, b"abc").unwrap();
        for cut in 1..pipe.len() {
            assert!(read_frame(&mut &pipe[..cut]).is_err(), "{cut}");
        }
        let mut other = pipe.clone();
        other[4] = VERSION + 1;
        assert!(read_frame(&mut other.as_slice()).is_err());
        for length in [0, 9, u32::MAX, u32::try_from(FRAME_BYTES_MAX).unwrap() + 1] {
            let mut wrong = pipe.clone();
            wrong[..4].copy_from_slice(&length.to_be_bytes());
            assert!(read_frame(&mut wrong.as_slice()).is_err(), "{length}");
        }
        assert!(write_frame(&mut Vec::new(), 1, 2, &vec![0; FRAME_BYTES_MAX]).is_err());
        assert!(Taker(&[0, 0, 0, 9, 1]).bytes().is_err());
        assert!(Taker(&[2]).flag().is_err());
        assert!(Taker(&[0xFF; 8]).list(Taker::byte).is_err());
        assert!(Taker(&[1]).end().is_err());
    }
}
