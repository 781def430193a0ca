//! A proxy on loopback that breaks HTTP calls in the ways networks and servers break.
//!
//! One request per connection (it asks both sides to close), bodies of known length or ended by closing. A
//! rule looks at each request's head and says what happens to it; the default rule passes everything.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::error::ServerError;
use super::process::free_port;

/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// How long a connection may be silent, and so how long a hang lasts at most.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How often a hanging connection looks whether it still has to.
const HANG_LOOK: Duration = Duration::from_millis(50);

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It is passed on and the reply comes back.
    Pass,
    /// It is taken and not answered; the server does not see it. The next rule closes the connection.
    Hang,
    /// The connection is closed at once; the server does not see it.
    Close,
    /// The server handles it, but nothing of the reply comes back: the caller cannot know.
    LoseReply,
    /// Only so many bytes of the reply come back, head included, then the connection closes.
    CutReply(usize),
    /// It is passed on this much later.
    Delay(Duration),
    /// It is passed on without these headers (lower case).
    Strip(Vec<&'static str>),
    /// The server does not see it; this status and S3 error code come back.
    Reply(u16, &'static str),
    /// The server does not see it; this body comes back as XML with status 200.
    ReplyXml(String),
    /// The server does not see it; this status and error come back as AWS's JSON services say them.
    ReplyJson(u16, &'static str),
}

/// The head of a request.
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// `PUT`.
    pub method: String,
    /// Path and query as sent.
    pub target: String,
    /// Header lines as sent, without the request line.
    pub headers: Vec<String>,
}

impl RequestHead {
    /// The value of a header, whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let named =
            |line: &&String| line.split(':').next().is_some_and(|found| found.eq_ignore_ascii_case(name));
        Some(self.headers.iter().find(named)?.split_once(':')?.1.trim())
    }
}

type Rule = Box<dyn FnMut(&RequestHead) -> Fault + Send>;

struct Shared {
    upstream: SocketAddr,
    /// The rule and how many there were before it.
    rule: Mutex<(u64, Rule)>,
    stopping: AtomicBool,
    requests: AtomicU64,
}

impl Shared {
    fn rule(&self) -> MutexGuard<'_, (u64, Rule)> {
        self.rule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running proxy. Dropping it stops it.
pub struct FaultProxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    acceptor: Option<JoinHandle<()>>,
}

impl FaultProxy {
    /// Starts one in front of `upstream`, passing everything.
    pub fn start(upstream: SocketAddr) -> Result<Self, ServerError> {
        let mut proxy = Self {
            shared: Arc::new(Shared {
                upstream,
                rule: Mutex::new((0, Box::new(|_| Fault::Pass))),
                stopping: AtomicBool::new(false),
                requests: AtomicU64::new(0),
            }),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?)),
            acceptor: None,
        };
        proxy.listen()?;
        Ok(proxy)
    }

    /// Where clients connect.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests seen so far, whatever happened to them.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// The rule from now on.
    pub fn rule(&self, rule: impl FnMut(&RequestHead) -> Fault + Send + 'static) {
        let mut current = self.shared.rule();
        *current = (current.0 + 1, Box::new(rule));
    }

    /// The same for every request from now on.
    pub fn all(&self, fault: Fault) {
        self.rule(move |_| fault.clone());
    }

    /// From now on nobody listens: connections are refused.
    pub fn refuse_connections(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the acceptor.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }

    /// Listens again, on the same address.
    pub fn listen(&mut self) -> Result<(), ServerError> {
        let listener = TcpListener::bind(self.address).map_err(ServerError::io("binding the fault proxy"))?;
        self.shared.stopping.store(false, Ordering::SeqCst);
        let shared = Arc::clone(&self.shared);
        self.acceptor = Some(std::thread::spawn(move || accept(&listener, &shared)));
        Ok(())
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.refuse_connections();
    }
}

impl std::fmt::Debug for FaultProxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultProxy").field("address", &self.address).finish_non_exhaustive()
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((client, _)) = listener.accept() {
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            // A broken connection is what this proxy is for.
            let _ = serve(client, &shared);
        });
    }
}

fn serve(mut client: TcpStream, shared: &Shared) -> std::io::Result<()> {
    client.set_read_timeout(Some(SILENCE_MAX))?;
    let Some((head, body_start)) = read_head(&mut client)? else { return Ok(()) };
    shared.requests.fetch_add(1, Ordering::Relaxed);
    let (number, fault) = {
        let mut rule = shared.rule();
        (rule.0, (rule.1)(&head))
    };
    match fault {
        Fault::Close => Ok(()),
        Fault::Hang => hang(client, || shared.rule().0 == number),
        Fault::Reply(status, code) => {
            let body = format!(
                "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>made up</Message></Error>"
            );
            answer(client, &head, status, "application/xml", &body)
        }
        Fault::ReplyXml(body) => answer(client, &head, 200, "application/xml", &body),
        Fault::ReplyJson(status, code) => {
            let body = format!("{{\"__type\":\"{code}\",\"message\":\"made up\"}}");
            answer(client, &head, status, "application/x-amz-json-1.1", &body)
        }
        Fault::Pass => pass(client, shared.upstream, &head, &body_start, &[], usize::MAX),
        Fault::LoseReply => pass(client, shared.upstream, &head, &body_start, &[], 0),
        Fault::CutReply(bytes) => pass(client, shared.upstream, &head, &body_start, &[], bytes),
        Fault::Strip(headers) => pass(client, shared.upstream, &head, &body_start, &headers, usize::MAX),
        Fault::Delay(time) => {
            std::thread::sleep(time.min(SILENCE_MAX));
            pass(client, shared.upstream, &head, &body_start, &[], usize::MAX)
        }
    }
}

/// Reads whatever still comes and says nothing, until the client gives up or `go_on` says no.
fn hang(mut client: TcpStream, go_on: impl Fn() -> bool) -> std::io::Result<()> {
    client.set_read_timeout(Some(HANG_LOOK))?;
    let (mut sink, deadline) = ([0; 8192], Instant::now() + SILENCE_MAX);
    while go_on() && Instant::now() < deadline {
        match client.read(&mut sink) {
            Ok(0) => break,
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Takes the whole request, so that the client is not reset while it still sends, then answers.
fn answer(
    mut client: TcpStream,
    head: &RequestHead,
    status: u16,
    content_type: &str,
    body: &str,
) -> std::io::Result<()> {
    write!(
        client,
        "HTTP/1.1 {status} Made Up\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    if head.method != "HEAD" {
        client.write_all(body.as_bytes())?;
    }
    client.shutdown(Shutdown::Write)?;
    let deadline = Instant::now() + Duration::from_secs(2);
    hang(client, || Instant::now() < deadline)
}

/// Passes one request on and at most `reply_bytes` of the reply back.
fn pass(
    mut client: TcpStream,
    upstream: SocketAddr,
    head: &RequestHead,
    body_start: &[u8],
    strip: &[&str],
    reply_bytes: usize,
) -> std::io::Result<()> {
    let mut server = TcpStream::connect(upstream)?;
    server.set_read_timeout(Some(SILENCE_MAX))?;
    server.write_all(&rewritten(head, strip))?;
    server.write_all(body_start)?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    let sender = std::thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
    // The server closes after its reply, so reading to the end is reading the whole reply.
    let mut left = reply_bytes;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = server.read(&mut buffer)?;
        let shown = count.min(left);
        client.write_all(buffer.get(..shown).unwrap_or_default())?;
        left -= shown;
        if count == 0 {
            break;
        }
    }
    client.shutdown(Shutdown::Both)?;
    let _ = sender.join();
    Ok(())
}

/// The head without the stripped headers, asking the server to close afterwards.
fn rewritten(head: &RequestHead, strip: &[&str]) -> Vec<u8> {
    let mut text = format!("{} {} HTTP/1.1\r\n", head.method, head.target);
    for line in &head.headers {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        if name != "connection" && !strip.contains(&name.as_str()) {
            text.push_str(line);
            text.push_str("\r\n");
        }
    }
    text.push_str("Connection: close\r\n\r\n");
    text.into_bytes()
}

/// The head and the first bytes of the body that came with it; `None` if the client went away.
fn read_head(client: &mut TcpStream) -> std::io::Result<Option<(RequestHead, Vec<u8>)>> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while bytes.len() < HEAD_BYTES_MAX {
        let count = client.read(&mut buffer)?;
        if count == 0 {
            return Ok(None);
        }
        bytes.extend_from_slice(buffer.get(..count).unwrap_or_default());
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let body_start = bytes.split_off(end + 4);
            return Ok(parse_head(&String::from_utf8_lossy(&bytes)).map(|head| (head, body_start)));
        }
    }
    Ok(None)
}

fn parse_head(text: &str) -> Option<RequestHead> {
    let mut lines = text.split("\r\n").filter(|line| !line.is_empty());
    let mut request_line = lines.next()?.split(' ');
    Some(RequestHead {
        method: request_line.next()?.to_owned(),
        target: request_line.next()?.to_owned(),
        headers: lines.map(str::to_owned).collect(),
    })
}
