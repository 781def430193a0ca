//! The vendor's connector: `POST /connector/api` with a message as its body, over one kept connection.
//!
//! Only as much HTTP/1.1 as that needs, with time limits on connecting and on every read and write. A
//! connection the other side closed meanwhile is found out before anything is sent on it.

use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::transport::{Broken, Transport};
use crate::wire::MESSAGE_BYTES_MAX;

/// Longest head of an answer, in bytes; the vendor's has about 150.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Longest body: a message of newer firmware may be longer than we send.
const BODY_BYTES_MAX: usize = 4 * MESSAGE_BYTES_MAX;
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// Where the connector listens.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// For connecting, and for each read and write.
    pub(crate) timeout: Duration,
}

/// One connection, opened when it is needed.
pub(crate) struct Line {
    address: Address,
    stream: Option<TcpStream>,
}

impl Line {
    pub(crate) const fn new(address: Address) -> Self {
        Self { address, stream: None }
    }

    fn connected(&mut self) -> Result<TcpStream, String> {
        match self.stream.take().filter(is_open) {
            Some(stream) => Ok(stream),
            None => self.connect(),
        }
    }

    fn connect(&self) -> Result<TcpStream, String> {
        let Address { host, port, timeout } = &self.address;
        let failed = |error: std::io::Error| format!("connector {host}:{port}: {error}");
        let mut last = format!("connector {host}:{port}: no address");
        for address in (host.as_str(), *port).to_socket_addrs().map_err(failed)? {
            match TcpStream::connect_timeout(&address, *timeout) {
                Ok(stream) => {
                    stream.set_nodelay(true).map_err(failed)?;
                    stream.set_read_timeout(Some(*timeout)).map_err(failed)?;
                    stream.set_write_timeout(Some(*timeout)).map_err(failed)?;
                    return Ok(stream);
                }
                Err(error) => last = failed(error),
            }
        }
        Err(last)
    }
}

impl Transport for Line {
    fn exchange(&mut self, message: &[u8]) -> Result<Vec<u8>, Broken> {
        let mut stream = self.connected().map_err(|cause| Broken { sent: false, cause })?;
        let Address { host, port, .. } = &self.address;
        let mut request = String::new();
        let length = message.len();
        // Writing to a string cannot fail.
        let _ = write!(
            request,
            "POST /connector/api HTTP/1.1\r\nHost: {host}:{port}\r\n\
             Content-Type: application/octet-stream\r\nContent-Length: {length}\r\n\r\n"
        );
        let mut request = request.into_bytes();
        request.extend_from_slice(message);
        let broken =
            |cause: String| Broken { sent: true, cause: format!("connector {host}:{port}: {cause}") };
        stream.write_all(&request).map_err(|error| broken(error.to_string()))?;
        let (answer, reusable) = read_answer(&mut stream).map_err(broken)?;
        if reusable {
            self.stream = Some(stream);
        }
        Ok(answer)
    }
}

/// Whether the other side still listens, as far as can be told without sending anything. Bytes nobody asked
/// for make a connection as useless as its end.
fn is_open(stream: &TcpStream) -> bool {
    let mut byte = [0];
    if stream.set_nonblocking(true).is_err() {
        return false;
    }
    let quiet = matches!(stream.peek(&mut byte), Err(error) if error.kind() == ErrorKind::WouldBlock);
    stream.set_nonblocking(false).is_ok() && quiet
}

/// The body of one answer, and whether the connection may be used again.
fn read_answer(stream: &mut impl Read) -> Result<(Vec<u8>, bool), String> {
    let mut bytes = Vec::with_capacity(1024);
    let end = loop {
        if let Some(end) = bytes.windows(END_OF_HEAD.len()).position(|window| window == END_OF_HEAD) {
            break end;
        }
        if bytes.len() > HEAD_BYTES_MAX {
            return Err("the answer's head does not end".to_owned());
        }
        read_some(stream, &mut bytes)?;
    };
    let mut body = bytes.split_off(end + END_OF_HEAD.len());
    let head = Head::parse(&bytes)?;
    while body.len() < head.length {
        read_some(stream, &mut body)?;
    }
    if head.status != 200 {
        // The vendor's connector answers so when it has lost the device.
        return Err(format!("status {}", head.status));
    }
    if body.len() > head.length {
        return Err("more came than the answer".to_owned());
    }
    Ok((body, head.reusable))
}

fn read_some(stream: &mut impl Read, bytes: &mut Vec<u8>) -> Result<(), String> {
    let mut buffer = [0; 4096];
    match stream.read(&mut buffer) {
        Ok(0) => Err("closed before the answer was complete".to_owned()),
        Ok(count) => {
            bytes.extend_from_slice(buffer.get(..count).unwrap_or_default());
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

struct Head {
    status: u16,
    length: usize,
    reusable: bool,
}

impl Head {
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "the answer's head is no text")?;
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1."));
        let status = status.and_then(|rest| rest.get(2..5)?.parse().ok()).ok_or("this is not HTTP")?;
        let (mut length, mut reusable) = (None, text.starts_with("HTTP/1.1"));
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                length = value.parse().ok();
            } else if name.eq_ignore_ascii_case("connection") && value.eq_ignore_ascii_case("close") {
                reusable = false;
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                return Err("the answer has no plain length".to_owned());
            }
        }
        let length = length.filter(|length| *length <= BODY_BYTES_MAX);
        Ok(Self { status, length: length.ok_or("the answer's length is missing or too large")?, reusable })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream that gives one byte at a time.
    struct Slowly<'a>(&'a [u8]);

    impl Read for Slowly<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let mut one = self.0.take(1);
            let count = one.read(buffer)?;
            self.0 = self.0.get(count..).unwrap_or_default();
            Ok(count)
        }
    }

    #[test]
    fn answers_are_read_however_they_are_cut() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 3\r\nServer: x\r\n\r\nabc";
        assert_eq!(read_answer(&mut Slowly(answer)), Ok((b"abc".to_vec(), true)));
        let closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(read_answer(&mut Slowly(closing)), Ok((Vec::new(), false)));
    }

    #[test]
    fn anything_else_is_no_answer() {
        for bytes in [
            b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc".as_slice(),
            b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"SSH-2.0-OpenSSH\r\n\r\n",
            b"",
        ] {
            assert!(read_answer(&mut Slowly(bytes)).is_err());
        }
    }
}
