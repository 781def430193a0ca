//! A small HTTP server on loopback that serves documents, counts who asks, and misbehaves when told to.

#![allow(dead_code, reason = "each test file uses its part of the server")]
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What the server does with every request from now on.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Serves its documents.
    Serve,
    /// Answers with this status and JSON.
    Status(u16),
    /// Answers with this status, content type and body.
    Body(u16, &'static str, String),
    /// Leads elsewhere.
    Redirect(String),
    /// Answers with text where JSON is expected.
    Text,
    /// Closes the connection.
    Vanish,
    /// Reads and never answers.
    Hang,
    /// Answers, one byte each this often.
    Drip(Duration),
}

struct State {
    act: Act,
    documents: BTreeMap<String, String>,
    asked: Vec<String>,
    connections: usize,
}

/// A running server. Stops with its runtime.
pub(crate) struct Server {
    address: SocketAddr,
    scheme: &'static str,
    state: Arc<Mutex<State>>,
    _dir: tempfile::TempDir,
}

/// An address at which nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    // Dropped at once: the system does not give the port away again soon.
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Server {
    /// Plain HTTP.
    pub(crate) async fn start() -> Self {
        Self::start_with(None, tempfile::tempdir().unwrap()).await
    }

    /// HTTPS, with the file of its authority and of another one.
    pub(crate) async fn start_tls() -> (Self, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let (ours, others) = (dir.path().join("ca.crt"), dir.path().join("stranger.crt"));
        let authority = authority();
        std::fs::write(&ours, authority.pem()).unwrap();
        std::fs::write(&others, self::authority().pem()).unwrap();
        (Self::start_with(Some(acceptor(&authority)), dir).await, ours, others)
    }

    async fn start_with(tls: Option<TlsAcceptor>, dir: tempfile::TempDir) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let documents = BTreeMap::new();
        let state = State { act: Act::Serve, documents, asked: Vec::new(), connections: 0 };
        let state = Arc::new(Mutex::new(state));
        let scheme = if tls.is_some() { "https" } else { "http" };
        tokio::spawn(accept(listener, tls, Arc::clone(&state)));
        Self { address, scheme, state, _dir: dir }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn act(&self, act: Act) {
        self.state.lock().unwrap().act = act;
    }

    pub(crate) fn document(&self, path: &str, document: &Value) {
        self.state.lock().unwrap().documents.insert(path.to_owned(), document.to_string());
    }

    /// Discovery, and these keys.
    pub(crate) fn publish(&self, keys: &[&super::tokens::Key]) {
        let keys: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
        let url = self.url();
        self.document(
            "/.well-known/openid-configuration",
            &json!({"issuer": url, "jwks_uri": format!("{url}/jwks")}),
        );
        self.document("/jwks", &json!({"keys": keys}));
    }

    /// How often a path was asked for.
    pub(crate) fn count(&self, path: &str) -> usize {
        let line = format!(" {path} ");
        self.state.lock().unwrap().asked.iter().filter(|asked| asked.contains(&line)).count()
    }

    /// The last request, head and body.
    pub(crate) fn last(&self) -> String {
        self.state.lock().unwrap().asked.last().cloned().unwrap()
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn acceptor(authority: &CertifiedIssuer<'static, KeyPair>) -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<Mutex<State>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (tls, state) = (tls.clone(), Arc::clone(&state));
        state.lock().unwrap().connections += 1;
        tokio::spawn(async move {
            match tls {
                None => serve(stream, state).await,
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => serve(stream, state).await,
                    Err(_) => None,
                },
            }
        });
    }
}

/// Answers requests of one connection until it ends: HTTP/1.1, written by hand so that it can be done badly.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, state: Arc<Mutex<State>>) -> Option<()> {
    loop {
        let request = read_request(&mut stream).await?;
        let path = request.split(' ').nth(1)?.to_owned();
        let (act, document) = {
            let mut state = state.lock().unwrap();
            state.asked.push(request);
            (state.act.clone(), state.documents.get(&path).cloned())
        };
        let json = |status: u16, body: &str| answer(status, "application/json", body, "");
        let reply = match (act, document) {
            (Act::Serve | Act::Drip(_), None) => json(404, "{}"),
            (Act::Serve, Some(document)) => json(200, &document),
            (Act::Status(status), _) => json(status, "{}"),
            (Act::Body(status, content_type, body), _) => answer(status, content_type, &body, ""),
            (Act::Redirect(to), _) => answer(302, "application/json", "{}", &format!("location: {to}\r\n")),
            (Act::Text, document) => answer(200, "text/html", &document.unwrap_or_default(), ""),
            (Act::Vanish, _) => return None,
            (Act::Hang, _) => std::future::pending().await,
            (Act::Drip(pause), Some(document)) => {
                for byte in json(200, &document).into_bytes() {
                    stream.write_all(&[byte]).await.ok()?;
                    tokio::time::sleep(pause).await;
                }
                continue;
            }
        };
        stream.write_all(reply.as_bytes()).await.ok()?;
    }
}

fn answer(status: u16, content_type: &str, body: &str, header: &str) -> String {
    format!(
        "HTTP/1.1 {status} x\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n{header}\r\n{body}",
        body.len()
    )
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return Some(text);
            }
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer).await.ok()? {
            0 => return None,
            count => bytes.extend_from_slice(buffer.get(..count)?),
        }
    }
}
