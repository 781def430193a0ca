//! Who gets through TLS, with which alert the others are told, and what a reload changes.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

mod common;

use std::time::{Duration, SystemTime};

use chancery_proxy::limits::Limits;
use chancery_proxy::tls::{Reload, Tls, TlsError};
use common::{Authority, Files, ORDERS, SOON, Served, directory, get, get_h2, later, text};
use rustls::HandshakeKind;
use rustls_pki_types::UnixTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[tokio::test]
async fn a_certificate_names_its_principal_and_none_is_no_obstacle_for_tls() {
    let served = Served::start(Limits::default()).await;
    let orders = served.orders();
    assert_eq!(served.client(Some(&orders)).once("/").await.unwrap(), ORDERS);
    assert_eq!(served.client(None).once("/").await.unwrap(), "no-certificate");
    let other = served.files.authority.client(101, "spiffe://demo.example/service/other");
    assert_eq!(served.client(Some(&other)).once("/").await.unwrap(), "unknown");
}

#[tokio::test]
async fn the_key_exchange_is_post_quantum_and_nothing_is_resumed() {
    let served = Served::start(Limits::default()).await;
    let orders = served.orders();
    let client = served.client(Some(&orders));
    for _ in 0..3 {
        let mut stream = client.tls().await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut reply = [0; 512];
        assert!(stream.read(&mut reply).await.unwrap() > 0);
        let (_, tls) = stream.get_ref();
        assert_eq!(tls.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
        let group = tls.negotiated_key_exchange_group().unwrap().name();
        assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
        assert_eq!(tls.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(tls.tls13_tickets_received(), 0);
    }
}

#[tokio::test]
async fn bad_certificates_fail_the_handshake_with_the_alert_that_says_why() {
    let served = Served::start(Limits::default()).await;
    let authority = &served.files.authority;
    let revoked = authority.client(7, ORDERS);
    served.files.write("crl.pem", &authority.crl(&[7], later()));
    assert_eq!(served.authenticator.tls().reload(UnixTime::now(), false).unwrap(), Reload::Applied);
    let hour = Duration::from_secs(3_600);
    let expired = authority.issue(8, |params| {
        params.not_before = (SystemTime::now() - 2 * hour).into();
        params.not_after = (SystemTime::now() - hour).into();
    });
    let early = authority.issue(9, |params| params.not_before = (SystemTime::now() + hour / 2).into());
    let strange = Authority::new("somebody else").client(10, ORDERS);
    let impostor = Authority::new("test").client(12, ORDERS);
    let server = authority.server(11);
    for (what, identity, alert, reason) in [
        ("revoked", &revoked, "CertificateRevoked", "revoked"),
        ("expired", &expired, "CertificateExpired", "expired"),
        ("not yet valid", &early, "CertificateExpired", "not-yet-valid"),
        ("wrong authority", &strange, "UnknownCA", "unknown-issuer"),
        ("an authority of the same name", &impostor, "", "bad-certificate"),
        ("a server certificate", &server, "UnsupportedCertificate", "wrong-purpose"),
    ] {
        let error = served.client(Some(identity)).once("/").await.unwrap_err();
        assert!(error.contains("alert") && error.contains(alert), "{what}: {error}");
        served.until_metric(&format!("chancery_tls_handshake_failures_total{{reason=\"{reason}\"}}")).await;
    }
    let good = served.orders();
    assert_eq!(served.client(Some(&good)).once("/").await.unwrap(), ORDERS);
}

/// A TLS 1.2 ClientHello as an old client would send it: no `supported_versions`.
const TLS12_HELLO: &[u8] = &[
    0x16, 0x03, 0x01, 0x00, 0x45, 0x01, 0x00, 0x00, 0x41, 0x03, 0x03, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
    13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 0x00, 0x00, 0x04, 0xc0,
    0x2b, 0xc0, 0x2f, 0x01, 0x00, 0x00, 0x14, 0x00, 0x0a, 0x00, 0x04, 0x00, 0x02, 0x00, 0x17, 0x00, 0x0d,
    0x00, 0x04, 0x00, 0x02, 0x04, 0x03, 0x00, 0x17, 0x00, 0x00,
];

#[tokio::test]
async fn older_versions_are_told_so() {
    let served = Served::start(Limits::default()).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(TLS12_HELLO).await.unwrap();
    let mut reply = Vec::new();
    tokio::time::timeout(SOON, stream.read_to_end(&mut reply)).await.unwrap().unwrap();
    // Record of type alert (21): fatal (2), protocol_version (70).
    assert_eq!((reply.first(), reply.get(5..7)), (Some(&21), Some([2, 70].as_slice())), "{reply:?}");
    served.until_metric("chancery_tls_handshake_failures_total{reason=\"version\"} 1").await;
}

#[tokio::test]
async fn plain_http_is_not_answered() {
    let served = Served::start(Limits::default()).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut reply = Vec::new();
    tokio::time::timeout(SOON, stream.read_to_end(&mut reply)).await.unwrap().unwrap();
    assert!(!reply.starts_with(b"HTTP"), "{reply:?}");
    served.until_metric("reason=\"not-tls\"} 1").await;
}

#[tokio::test]
async fn a_new_server_certificate_is_served_and_open_connections_stay() {
    let served = Served::start(Limits::default()).await;
    let orders = served.orders();
    let client = served.client(Some(&orders));
    let mut open = client.http1().await.unwrap();
    assert_eq!(text(open.send_request(get("/")).await.unwrap()).await, ORDERS);

    let next = served.files.authority.server(2);
    served.files.write_server(&next);
    assert_eq!(served.authenticator.tls().reload(UnixTime::now(), false).unwrap(), Reload::Applied);
    assert_eq!(served.authenticator.tls().reload(UnixTime::now(), false).unwrap(), Reload::Unchanged);

    let fresh = client.tls().await.unwrap();
    assert_eq!(fresh.get_ref().1.peer_certificates().unwrap(), next.chain);
    assert_eq!(text(open.send_request(get("/")).await.unwrap()).await, ORDERS);
}

#[tokio::test]
async fn a_revocation_reaches_connections_that_are_open() {
    let served = Served::start(Limits::default()).await;
    let authority = &served.files.authority;
    let (bad, good) = (authority.client(7, ORDERS), authority.client(8, ORDERS));
    let mut bad1 = served.client(Some(&bad)).http1().await.unwrap();
    let mut bad2 = served.client(Some(&bad)).h2().await;
    let mut fine = served.client(Some(&good)).http1().await.unwrap();
    assert_eq!(text(bad1.send_request(get("/")).await.unwrap()).await, ORDERS);
    assert_eq!(text(bad2.send_request(get_h2("/")).await.unwrap()).await, ORDERS);
    assert_eq!(text(fine.send_request(get("/")).await.unwrap()).await, ORDERS);

    served.files.write("crl.pem", &authority.crl(&[7], later()));
    served.authenticator.tls().reload(UnixTime::now(), false).unwrap();

    assert_eq!(text(bad1.send_request(get("/")).await.unwrap()).await, "withdrawn");
    assert_eq!(text(bad2.send_request(get_h2("/")).await.unwrap()).await, "withdrawn");
    assert_eq!(text(fine.send_request(get("/")).await.unwrap()).await, ORDERS);
    // Nothing on them can succeed any more, so they are closed.
    common::until(|| bad1.is_closed() && bad2.is_closed()).await;
    assert_eq!(text(fine.send_request(get("/")).await.unwrap()).await, ORDERS);
}

#[tokio::test]
async fn changed_grants_reach_connections_that_are_open() {
    let served = Served::start(Limits::default()).await;
    let orders = served.orders();
    let mut open = served.client(Some(&orders)).http1().await.unwrap();
    assert_eq!(text(open.send_request(get("/")).await.unwrap()).await, ORDERS);
    served.authenticator.replace_directory(directory(&["spiffe://demo.example/service/other"]));
    assert_eq!(text(open.send_request(get("/")).await.unwrap()).await, "unknown");
    served.authenticator.replace_directory(directory(&[ORDERS]));
    assert_eq!(text(open.send_request(get("/")).await.unwrap()).await, ORDERS);
}

#[tokio::test]
async fn an_authority_that_was_removed_is_no_authority_for_open_connections_either() {
    let served = Served::start(Limits::default()).await;
    let orders = served.orders();
    let mut open = served.client(Some(&orders)).http1().await.unwrap();
    assert_eq!(text(open.send_request(get("/")).await.unwrap()).await, ORDERS);
    let other = Authority::new("other");
    served.files.write("ca.crt", &other.pem);
    served.files.write("crl.pem", &other.crl(&[], later()));
    served.authenticator.tls().reload(UnixTime::now(), false).unwrap();
    assert_eq!(text(open.send_request(get("/")).await.unwrap()).await, "withdrawn");
}

#[tokio::test]
async fn a_certificate_that_runs_out_ends_its_connection() {
    let served = Served::start(Limits::default()).await;
    let brief = served.files.authority.issue(7, |params| {
        params.subject_alt_names = served.orders_san();
        params.not_after = (SystemTime::now() + Duration::from_secs(3)).into();
    });
    let mut open = served.client(Some(&brief)).http1().await.unwrap();
    let mut last = text(open.send_request(get("/")).await.unwrap()).await;
    assert_eq!(last, ORDERS);
    let deadline = std::time::Instant::now() + SOON;
    while last == ORDERS && std::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
        last = text(open.send_request(get("/")).await.unwrap()).await;
    }
    assert_eq!(last, "expired");
}

#[tokio::test]
async fn a_bad_file_never_replaces_a_good_one() {
    let served = Served::start(Limits::default()).await;
    let orders = served.orders();
    let client = served.client(Some(&orders));
    let tls = served.authenticator.tls();
    let before = tls.generation();
    let authority = &served.files.authority;
    let good_crl = authority.crl(&[], later());
    let server = authority.server(1);
    let past = SystemTime::now() - Duration::from_secs(60);
    let expired = authority.issue(3, |params| params.not_after = past.into());
    for (file, content) in [
        ("server.crt", "not a certificate".to_owned()),
        ("server.crt", authority.server(2).certificate_pem), // of another key
        ("server.crt", expired.certificate_pem.clone()),
        ("server.key", String::new()),
        ("ca.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned()),
        ("crl.pem", "junk".to_owned()),
        ("crl.pem", authority.crl(&[], past)),
    ] {
        served.files.write_server(&server);
        served.files.write("ca.crt", &authority.pem);
        served.files.write("crl.pem", &good_crl);
        served.files.write(file, &content);
        let error = tls.reload(UnixTime::now(), false).unwrap_err();
        assert!(!error.to_string().contains("PRIVATE"), "{error}");
        // The same bad files are not tried, and complained about, twice.
        assert_eq!(tls.reload(UnixTime::now(), false).unwrap(), Reload::Unchanged);
        assert!(tls.reload(UnixTime::now(), true).is_err());
    }
    assert_eq!(tls.generation(), before);
    assert_eq!(client.once("/").await.unwrap(), ORDERS);
    std::fs::remove_file(served.files.path("crl.pem")).unwrap();
    assert!(matches!(tls.reload(UnixTime::now(), false), Err(TlsError::Read { .. })));
    assert_eq!(client.once("/").await.unwrap(), ORDERS);
}

#[tokio::test]
async fn where_revocation_lists_are_configured_silence_is_no_good_news() {
    let files = Files::new();
    let second = Authority::new("second");
    files.write("ca.crt", &format!("{}{}", files.authority.pem, second.pem));
    let served = Served::with(files, Limits::default()).await;
    let unlisted = second.client(5, ORDERS);
    let error = served.client(Some(&unlisted)).once("/").await.unwrap_err();
    assert!(error.contains("alert"), "{error}");
    served.until_metric("reason=\"unknown-revocation-status\"} 1").await;
    let both = format!("{}{}", served.files.authority.crl(&[], later()), second.crl(&[], later()));
    served.files.write("crl.pem", &both);
    served.authenticator.tls().reload(UnixTime::now(), false).unwrap();
    assert_eq!(served.client(Some(&unlisted)).once("/").await.unwrap(), ORDERS);
}

#[tokio::test]
async fn at_start_each_missing_or_wrong_file_is_named() {
    for name in ["server.crt", "server.key", "ca.crt", "crl.pem"] {
        let files = Files::new();
        files.write(name, "nothing of use");
        let error = Tls::load(&files.listener(), UnixTime::now()).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
        std::fs::remove_file(files.path(name)).unwrap();
        let error = Tls::load(&files.listener(), UnixTime::now()).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
}
