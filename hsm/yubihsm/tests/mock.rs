//! The backend on the `yubihsm` crate's own mock device: somebody else's idea of the protocol. The mock has
//! three kinds of key pair and one of MAC, no log, no capabilities and no attestation.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

mod world;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use chancery_format::SignatureAlgorithm;
use chancery_format::SignatureAlgorithm::{EcdsaP256Sha256, EcdsaSecp256k1Sha256, Ed25519, HmacSha256};
use chancery_hsm::conformance::{KnownMac, Subject, check};
use chancery_hsm::{Backend, Cost, SignerError, SignerHandle};
use chancery_yubihsm::{YubiHsmBackend, YubiHsmConfig};
use world::{config, later, write_password};
use yubihsm::connector::http::Server;
use yubihsm::{Capability, Connector, Credentials, Domain, HttpConfig, asymmetric, hmac};

/// The backend without births: the mock dies of a question for an attestation.
struct WithoutBirths(YubiHsmBackend);

impl Backend for WithoutBirths {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn cost(&self) -> Cost {
        self.0.cost()
    }

    fn sessions(&self) -> usize {
        self.0.sessions()
    }

    fn open_key(
        &self,
        label: &str,
        algorithm: SignatureAlgorithm,
    ) -> Result<Arc<dyn SignerHandle>, SignerError> {
        self.0.open_key(label, algorithm)
    }

    fn probe(&self, deadline: Instant) -> Result<(), SignerError> {
        self.0.probe(deadline)
    }

    fn algorithms(&self) -> &'static [SignatureAlgorithm] {
        self.0.algorithms()
    }
}

/// Runs `test` against a mock behind the crate's HTTP server, which is stopped afterwards.
fn with_mock(test: impl FnOnce(SocketAddr, &Connector)) {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let http = HttpConfig { addr: "127.0.0.1".to_owned(), port: address.port(), ..HttpConfig::default() };
    let mock = Connector::mockhsm();
    let server = Server::new(&http, mock.clone()).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                // An error is a client's who left.
                let _ = server.handle_request();
            }
        });
        test(address, &mock);
        stop.store(true, Ordering::SeqCst);
        // One more request lets the server see it, if it has not already; then nobody answers.
        let mut last = std::net::TcpStream::connect(address).unwrap();
        let request = b"GET /connector/status HTTP/1.1\r\nHost: mock\r\nConnection: close\r\n\r\n";
        std::io::Write::write_all(&mut last, request).unwrap();
    });
}

#[test]
fn what_the_mock_can_do_conforms() {
    with_mock(|address, mock| {
        let client = yubihsm::Client::open(mock.clone(), Credentials::default(), true).unwrap();
        for (id, label, capability, algorithm) in [
            (1, "ed", Capability::SIGN_EDDSA, asymmetric::Algorithm::Ed25519),
            (2, "p256", Capability::SIGN_ECDSA, asymmetric::Algorithm::EcP256),
            (3, "k256", Capability::SIGN_ECDSA, asymmetric::Algorithm::EcK256),
        ] {
            client.generate_asymmetric_key(id, label.into(), Domain::DOM1, capability, algorithm).unwrap();
        }
        let secret: Vec<u8> = (1..=32).collect();
        let (sign, algorithm) = (Capability::SIGN_HMAC, hmac::Algorithm::Sha256);
        client.put_hmac_key(4, "mac".into(), Domain::DOM1, sign, algorithm, secret.clone()).unwrap();

        let directory = tempfile::tempdir().unwrap();
        // The vendor's published one, which every device is delivered with; secret scanners need not see it.
        let factory: String = "drowssap".chars().rev().collect();
        let config = config(address, write_password(&directory, &factory));
        let backend = YubiHsmBackend::open(&YubiHsmConfig { sessions: 3, ..config }).unwrap();
        assert_eq!(backend.probe(later()), Ok(()));
        let keys =
            [("ed", Ed25519), ("p256", EcdsaP256Sha256), ("k256", EcdsaSecp256k1Sha256), ("mac", HmacSha256)];
        let keys = keys.map(|(label, algorithm)| (label.to_owned(), algorithm)).to_vec();
        let known_mac = Some(KnownMac { label: "mac".to_owned(), secret });
        let subject = Subject {
            backend: Arc::new(WithoutBirths(backend)),
            keys,
            known_mac,
            outage: None,
            off_switch: None,
        };
        let report = check(&subject).unwrap();
        assert_eq!(report.algorithms.len(), 4);
        assert!(report.known_mac && report.verified > 80);
    });
}
