//! A small TLS server that does what a test tells it, request by request.

#![allow(dead_code, reason = "each test file uses its part of the server")]
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// What the server does with the next request.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Answers.
    Reply { status: u16, content_type: &'static str, headers: Vec<(&'static str, String)>, body: String },
    /// Answers a sign request as the service would.
    Sign,
    /// Reads the request and closes the connection.
    Vanish,
    /// Reads the request and never answers.
    Hang,
}

impl Act {
    pub(crate) fn json(status: u16, body: &str) -> Self {
        Self::Reply { status, content_type: "application/json", headers: vec![], body: body.to_owned() }
    }

    pub(crate) fn problem(status: u16, code: &str, retry_after: Option<u32>) -> Self {
        let body = format!(
            r#"{{"type":"https://chancery.example/problems/{code}","title":"t","status":{status},"detail":"d","code":"{code}","requestId":"req-1"}}"#
        );
        let headers = retry_after.map(|seconds| ("retry-after", seconds.to_string())).into_iter().collect();
        Self::Reply { status, content_type: "application/problem+json", headers, body }
    }
}

/// What the server saw.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) line: String,
    /// What stands behind the question mark.
    pub(crate) query: Option<String>,
    pub(crate) authorization: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) accept: Option<String>,
    pub(crate) version: hyper::Version,
    pub(crate) body: String,
}

#[derive(Default)]
struct Script {
    acts: VecDeque<Act>,
    always: Option<Act>,
    seen: Vec<Seen>,
    connections: usize,
}

/// A running server and the files a client needs. Stops with its runtime.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) dir: tempfile::TempDir,
    script: Arc<Mutex<Script>>,
}

/// One certificate authority and what it issued.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self { issuer: CertifiedIssuer::self_signed(params, key).unwrap() }
    }

    pub(crate) fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    pub(crate) fn write_ca(&self, path: &Path) {
        std::fs::write(path, self.issuer.pem()).unwrap();
    }

    pub(crate) fn write_identity(&self, dir: &Path, stem: &str) {
        let (certificate, key) = self.issue("client.example");
        std::fs::write(dir.join(format!("{stem}.crt")), certificate.pem()).unwrap();
        std::fs::write(dir.join(format!("{stem}.key")), key.serialize_pem()).unwrap();
    }
}

impl Server {
    /// Starts a server that requires a client certificate of its own authority.
    pub(crate) async fn start() -> Self {
        Self::start_with(false).await
    }

    /// Starts a server for people: whoever comes without a certificate is let in.
    pub(crate) async fn for_people() -> Self {
        Self::start_with(true).await
    }

    async fn start_with(open: bool) -> Self {
        let authority = Authority::new();
        let dir = tempfile::tempdir().unwrap();
        authority.write_ca(&dir.path().join("ca.crt"));
        authority.write_identity(dir.path(), "client");
        let stranger = Authority::new();
        stranger.write_ca(&dir.path().join("stranger-ca.crt"));
        stranger.write_identity(dir.path(), "stranger");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let script = Arc::new(Mutex::new(Script::default()));
        tokio::spawn(accept(listener, acceptor(&authority, open), Arc::clone(&script)));
        Self { url, dir, script }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What to do with the next requests, in order; afterwards `always`.
    pub(crate) fn script(&self, acts: &[Act], always: Act) {
        let mut script = self.script.lock().unwrap();
        script.acts = acts.iter().cloned().collect();
        script.always = Some(always);
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.script.lock().unwrap().seen.clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.script.lock().unwrap().connections
    }
}

fn acceptor(authority: &Authority, open: bool) -> TlsAcceptor {
    let (certificate, key) = authority.issue("127.0.0.1");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.issuer.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let verifier = if open { verifier.allow_unauthenticated() } else { verifier };
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, script: Arc<Mutex<Script>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(serve(stream, acceptor.clone(), Arc::clone(&script)));
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, script: Arc<Mutex<Script>>) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    script.lock().unwrap().connections += 1;
    let vanish = Arc::new(tokio::sync::Notify::new());
    let service = {
        let (script, vanish) = (Arc::clone(&script), Arc::clone(&vanish));
        hyper::service::service_fn(move |request| answer(request, Arc::clone(&script), Arc::clone(&vanish)))
    };
    let builder = auto::Builder::new(TokioExecutor::new());
    tokio::select! {
        _ = builder.serve_connection(TokioIo::new(stream), service) => (),
        () = vanish.notified() => (),
    }
}

async fn answer(
    request: Request<Incoming>,
    script: Arc<Mutex<Script>>,
    vanish: Arc<tokio::sync::Notify>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    let header = |name: &str| parts.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let act = {
        let mut script = script.lock().unwrap();
        script.seen.push(Seen {
            line: format!("{} {}", parts.method, parts.uri.path()),
            query: parts.uri.query().map(str::to_owned),
            authorization: header("authorization"),
            key: header("idempotency-key"),
            accept: header("accept"),
            version: parts.version,
            body: body.clone(),
        });
        script.acts.pop_front().or_else(|| script.always.clone()).unwrap()
    };
    Ok(match act {
        Act::Reply { status, content_type, headers, body } => {
            let mut response = Response::builder().status(status).header("content-type", content_type);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            response.body(Full::new(body.into())).unwrap()
        }
        Act::Sign => Response::new(Full::new(signed(&body).into())),
        Act::Vanish => {
            vanish.notify_one();
            std::future::pending().await
        }
        Act::Hang => std::future::pending().await,
    })
}

/// The reply of a service that signs everything with the byte 7.
fn signed(request: &str) -> String {
    let request: serde_json::Value = serde_json::from_str(request).unwrap();
    serde_json::json!({
        "id": "00000000-0000-8000-8000-000000000005", "kid": request["kid"], "signer_kid": "orders-v1",
        "algorithm": "ed25519", "digest": request["digest"], "signature": "Bwc=", "ts": "2026-01-01T00:00:00.000Z",
        "rung": "durable", "receipt": {"version": 1, "index": 5, "rung": "durable", "url": "/v1/receipts/5"},
    })
    .to_string()
}
