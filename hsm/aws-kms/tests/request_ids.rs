//! Every answer's request id is logged beside the key's label, so that CloudTrail's records find their attempt.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};

use aws_sdk_kms::config::{Credentials, SharedCredentialsProvider};
use chancery_aws_kms::{KmsBackend, KmsConfig};
use chancery_format::SignatureAlgorithm::Ed25519;
use chancery_hsm::Backend as _;
use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Answers one request after another with these, then ends.
fn answer(listener: &TcpListener, answers: &[(u16, &str, &str)]) {
    for (status, request_id, body) in answers {
        let (mut client, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(client.try_clone().unwrap());
        let (mut line, mut length) = (String::new(), 0);
        while reader.read_line(&mut line).unwrap() > 2 {
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            line.clear();
        }
        reader.read_exact(&mut vec![0; length]).unwrap();
        let length = body.len();
        write!(
            client,
            "HTTP/1.1 {status} Made Up\r\nContent-Type: application/x-amz-json-1.1\r\n\
             x-amzn-RequestId: {request_id}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
        .unwrap();
    }
}

#[test]
fn they_stand_in_the_log_whether_it_worked_or_not() {
    let log = Log::default();
    // The SDK has a thread of its own, so the log is the whole process's.
    let subscriber = tracing_subscriber::fmt().json().with_max_level(tracing::Level::DEBUG);
    tracing::subscriber::set_global_default(subscriber.with_writer(log.clone()).finish()).unwrap();

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let credentials = Credentials::new("test", "test", None, None, "tests");
    let backend = KmsBackend::open(&KmsConfig {
        region: Some("us-east-1".to_owned()),
        endpoint_url: Some(format!("http://{}", listener.local_addr().unwrap())),
        credentials: Some(SharedCredentialsProvider::new(credentials)),
        ..KmsConfig::new("kms")
    })
    .unwrap();
    let answers = [
        (400, "id-of-throttling", r#"{"__type":"ThrottlingException"}"#),
        (200, "id-of-success", r#"{"KeyUsage":"ENCRYPT_DECRYPT"}"#),
    ];
    std::thread::scope(|scope| {
        scope.spawn(|| answer(&listener, &answers));
        let refused = backend.open_key("orders", Ed25519).err().map(|error| error.code());
        assert_eq!(refused, Some("backend-refused"));
    });
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    for (attempt, id) in [(1, "id-of-throttling"), (2, "id-of-success")] {
        let ours = |line: &&str| line.contains("chancery_aws_kms") && line.contains(id);
        let line = log.lines().find(ours).unwrap();
        for part in
            ["\"label\":\"orders\"", "\"operation\":\"GetPublicKey\"", &format!("\"attempt\":{attempt}")]
        {
            assert!(line.contains(part), "{part} in {line}");
        }
    }
}
