//! Raw HTTPS/1.1 calls: statuses, headers, bodies and TLS alerts as they come.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{Identity, World};

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Header lines, lower-case names.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: String,
}

impl Reply {
    /// First value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; `Null` if it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// `code` of a problem.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// One request.
#[derive(Debug, Clone, Default)]
pub struct Ask<'a> {
    /// `POST`, `GET`, …
    pub method: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// Header lines beside host and length.
    pub headers: Vec<(&'a str, String)>,
    /// Body.
    pub body: Vec<u8>,
}

impl<'a> Ask<'a> {
    /// A POST of JSON.
    pub fn post(path: &'a str, body: impl Into<String>) -> Self {
        let headers = vec![("content-type", "application/json".to_owned())];
        Self { method: "POST", path, headers, body: body.into().into_bytes() }
    }

    /// A GET.
    pub fn get(path: &'a str) -> Self {
        Self { method: "GET", path, ..Self::default() }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &'a str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

/// A TLS client configuration that trusts `world` and shows `identity`.
pub fn tls(world: &World, identity: Option<&Identity>) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(world.authority.pem.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match identity {
        Some(identity) => {
            let chain = vec![CertificateDer::from_pem_file(&identity.certificate).unwrap()];
            builder
                .with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&identity.key).unwrap())
                .unwrap()
        }
        None => builder.with_no_client_auth(),
    })
}

/// Makes one call on a connection of its own. An `Err` is a TLS or transport failure, as text.
pub fn call(world: &World, identity: Option<&Identity>, ask: &Ask<'_>) -> Result<Reply, String> {
    call_at(world, world.service_port, identity, ask)
}

/// The same at another port of the world's.
pub fn call_at(
    world: &World,
    port: u16,
    identity: Option<&Identity>,
    ask: &Ask<'_>,
) -> Result<Reply, String> {
    let socket = TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())?;
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    socket.set_nodelay(true).unwrap();
    let connection = ClientConnection::new(tls(world, identity), "localhost".try_into().unwrap()).unwrap();
    let mut stream = StreamOwned::new(connection, socket);
    let mut request =
        format!("{} {} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n", ask.method, ask.path);
    for (name, value) in &ask.headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += &format!("content-length: {}\r\n\r\n", ask.body.len());
    let mut bytes = request.into_bytes();
    bytes.extend_from_slice(&ask.body);
    // A server that answers before it read everything may close: what it said still counts.
    let written = stream.write_all(&bytes).and_then(|()| stream.flush());
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    parse(&answer).ok_or_else(|| format!("{written:?} {read:?}"))
}

fn parse(answer: &[u8]) -> Option<Reply> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.split_whitespace().nth(1)?.parse().ok()?;
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    Some(Reply { status, headers, body: body.to_owned() })
}
