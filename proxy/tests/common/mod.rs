//! A throw-away certificate authority, a listener with a simple handler, and clients that see alerts.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use chancery_proxy::authenticate::{Authenticator, Directory, Peer};
use chancery_proxy::config::ServiceListener;
use chancery_proxy::limits::Limits;
use chancery_proxy::listener::{Drained, Listener};
use chancery_proxy::telemetry::Metrics;
use chancery_proxy::tls::Tls;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams, SanType,
    SerialNumber,
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Principal every test knows.
pub(crate) const ORDERS: &str = "spiffe://demo.example/service/orders";
/// Nothing here takes longer, unless something hangs.
pub(crate) const SOON: Duration = Duration::from_secs(20);

const HOUR: Duration = Duration::from_secs(3_600);

/// An authority and its key.
pub(crate) struct Authority {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key.
pub(crate) struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
    pub(crate) serial: u64,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key).unwrap();
        Self {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    pub(crate) fn issue(&self, serial: u64, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from(serial));
        params.not_before = (SystemTime::now() - HOUR).into();
        params.not_after = (SystemTime::now() + HOUR).into();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            chain: vec![certificate.der().clone()],
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            serial,
        }
    }

    pub(crate) fn client(&self, serial: u64, uri: &str) -> Identity {
        self.issue(serial, |params| {
            params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(uri).unwrap())]
        })
    }

    pub(crate) fn server(&self, serial: u64) -> Identity {
        self.issue(serial, |params| {
            params.subject_alt_names = vec![SanType::DnsName(Ia5String::try_from("localhost").unwrap())];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        })
    }

    pub(crate) fn crl(&self, revoked: &[u64], next_update: SystemTime) -> String {
        let revoked_certs = revoked.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: (SystemTime::now() - HOUR).into(),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: (SystemTime::now() - HOUR).into(),
            next_update: next_update.into(),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked_certs.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

pub(crate) fn later() -> SystemTime {
    SystemTime::now() + HOUR
}

/// A folder with the listener's files.
pub(crate) struct Files {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) authority: Authority,
}

impl Files {
    pub(crate) fn new() -> Self {
        let files = Self { folder: tempfile::tempdir().unwrap(), authority: Authority::new("test") };
        files.write("ca.crt", &files.authority.pem);
        files.write("crl.pem", &files.authority.crl(&[], later()));
        files.write_server(&files.authority.server(1));
        files
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces a file as careful operators do: whole, by renaming.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let new = self.path(&format!("{name}.new"));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.path(name)).unwrap();
    }

    pub(crate) fn write_server(&self, identity: &Identity) {
        self.write("server.key", &identity.key_pem);
        self.write("server.crt", &identity.certificate_pem);
    }

    pub(crate) fn listener(&self) -> ServiceListener {
        ServiceListener {
            address: "127.0.0.1:0".parse().unwrap(),
            certificate_file: self.path("server.crt"),
            key_file: self.path("server.key"),
            client_ca_file: self.path("ca.crt"),
            crl_file: Some(self.path("crl.pem")),
            allow_bearer_tokens_in_production: false,
        }
    }
}

pub(crate) fn directory(names: &[&str]) -> Directory {
    let names: Vec<chancery_format::PrincipalName> = names.iter().map(|name| name.parse().unwrap()).collect();
    Directory::new(names.iter().map(|name| (name, None)))
}

/// A listener whose handler answers with who asked. `/wait` answers when told to.
pub(crate) struct Served {
    pub(crate) files: Files,
    pub(crate) address: SocketAddr,
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) release: Arc<Notify>,
    pub(crate) waiting: watch::Receiver<usize>,
    stop: watch::Sender<bool>,
    serving: tokio::task::JoinHandle<Drained>,
}

impl Served {
    pub(crate) async fn start(limits: Limits) -> Self {
        Self::with(Files::new(), limits).await
    }

    pub(crate) async fn with(files: Files, limits: Limits) -> Self {
        let tls = Arc::new(Tls::load(&files.listener(), UnixTime::now()).unwrap());
        let authenticator = Arc::new(Authenticator::new(tls, directory(&[ORDERS])));
        let metrics = Arc::new(Metrics::new());
        let release = Arc::new(Notify::new());
        let (entered, waiting) = watch::channel(0);
        let handler = {
            let (release, entered) = (Arc::clone(&release), Arc::new(entered));
            move |peer: Peer, request: Request<Incoming>| {
                let (release, entered) = (Arc::clone(&release), Arc::clone(&entered));
                async move { answer(&peer, request, &release, &entered).await }
            }
        };
        let address = "127.0.0.1:0".parse().unwrap();
        let listener =
            Listener::bind(address, Arc::clone(&authenticator), handler, limits, Arc::clone(&metrics))
                .await
                .unwrap();
        let address = listener.address().unwrap();
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(listener.serve(stopped));
        Self { files, address, authenticator, metrics, release, waiting, stop, serving }
    }

    pub(crate) fn begin_drain(&self) {
        self.stop.send_replace(true);
    }

    pub(crate) async fn drained(self) -> Drained {
        self.begin_drain();
        tokio::time::timeout(SOON, self.serving).await.unwrap().unwrap()
    }

    pub(crate) fn client(&self, identity: Option<&Identity>) -> Client {
        Client::new(self.address, &self.files.authority, identity)
    }

    pub(crate) fn orders_san(&self) -> Vec<SanType> {
        vec![SanType::URI(Ia5String::try_from(ORDERS).unwrap())]
    }

    pub(crate) fn orders(&self) -> Identity {
        self.files.authority.client(100, ORDERS)
    }

    /// Waits until `text` is in the metrics.
    pub(crate) async fn until_metric(&self, text: &str) {
        until(|| self.metrics.render().contains(text)).await;
    }

    /// Waits until this many requests are inside `/wait`.
    pub(crate) async fn until_waiting(&self, requests: usize) {
        let mut waiting = self.waiting.clone();
        tokio::time::timeout(SOON, waiting.wait_for(|count| *count >= requests)).await.unwrap().unwrap();
    }
}

async fn answer(
    peer: &Peer,
    request: Request<Incoming>,
    release: &Notify,
    entered: &watch::Sender<usize>,
) -> Response<Full<Bytes>> {
    if request.uri().path() == "/wait" {
        let released = release.notified();
        entered.send_modify(|count| *count += 1);
        released.await;
    }
    let text = match peer.principal() {
        Ok(principal) => principal.name().as_str().to_owned(),
        Err(error) => error.as_str().to_owned(),
    };
    Response::new(Full::new(text.into()))
}

pub(crate) async fn until(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !done() {
        assert!(Instant::now() < deadline, "did not happen in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Makes connections as one client.
#[derive(Clone)]
pub(crate) struct Client {
    address: SocketAddr,
    pub(crate) config: Arc<ClientConfig>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr, authority: &Authority, identity: Option<&Identity>) -> Self {
        Self::trusting(address, authority.certificate.clone(), identity)
    }

    fn trusting(
        address: SocketAddr,
        authority: CertificateDer<'static>,
        identity: Option<&Identity>,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some(it) => builder.with_client_auth_cert(it.chain.clone(), it.key.clone_key()).unwrap(),
        };
        Self { address, config: Arc::new(config) }
    }

    /// The client of a folder made by `chanceryd init --dev`.
    pub(crate) fn of_folder(address: SocketAddr, folder: &std::path::Path, name: &str) -> Self {
        let read = |file: String| std::fs::read(folder.join(file)).unwrap();
        let chain = CertificateDer::pem_slice_iter(&read(format!("{name}.crt")))
            .collect::<Result<Vec<_>, _>>()
            .unwrap();
        let identity = Identity {
            chain,
            key: PrivateKeyDer::from_pem_slice(&read(format!("{name}.key"))).unwrap(),
            certificate_pem: String::new(),
            key_pem: String::new(),
            serial: 0,
        };
        let authority = CertificateDer::from_pem_slice(&read("ca.crt".to_owned())).unwrap();
        Self::trusting(address, authority, Some(&identity))
    }

    pub(crate) fn http2(&self) -> Self {
        let mut config = (*self.config).clone();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self { address: self.address, config: Arc::new(config) }
    }

    pub(crate) async fn tls(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::clone(&self.config)).connect(name, stream).await
    }

    pub(crate) async fn http1(&self) -> Result<hyper::client::conn::http1::SendRequest<Full<Bytes>>, String> {
        let stream = self.tls().await.map_err(|error| error.to_string())?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Ok(sender)
    }

    pub(crate) async fn h2(&self) -> hyper::client::conn::http2::SendRequest<Full<Bytes>> {
        let stream = self.http2().tls().await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// One request on a connection of its own; the error holds the alert.
    pub(crate) async fn once(&self, path: &str) -> Result<String, String> {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = self.tls().await.map_err(|error| error.to_string())?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.map_err(|error| error.to_string())?;
        Ok(text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or(text))
    }
}

pub(crate) fn get(path: &str) -> Request<Full<Bytes>> {
    let request = Request::get(path).header("host", "localhost");
    request.body(Full::default()).unwrap()
}

pub(crate) fn get_h2(path: &str) -> Request<Full<Bytes>> {
    Request::get(format!("https://localhost{path}")).body(Full::default()).unwrap()
}

pub(crate) async fn text(response: Response<Incoming>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}
