//! `KmsDouble`: our own imitation of KMS at the wire, for what no other has.
//!
//! It is a double, written from AWS's documentation by the same people as the client, so it shows that the
//! client speaks as documented, not that AWS does. It has every algorithm, keys made when it starts and gone
//! when it ends, roles that may not do something, and answers made with another key. It speaks JSON 1.1 over
//! HTTP/1.1 on loopback, checks no request signature, and holds no more than these tests need.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chancery_format::{Digest, KeyFamily, SignatureAlgorithm};
use chancery_hsm::software::{DevelopmentOnly, SoftwareBackend};
use chancery_hsm::{Backend as _, KeyShape, RsaBits, SealInput};
use chancery_tests::servers::free_port;
use serde_json::{Value, json};

const ARN: &str = "arn:aws:kms:us-east-1:111122223333:key/";

/// A request to sign a digest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SignedDigest {
    pub(crate) algorithm: SignatureAlgorithm,
    pub(crate) bytes: usize,
}

struct Shared {
    folder: tempfile::TempDir,
    keys: SoftwareBackend,
    /// Label to the algorithm it was made for.
    made: Mutex<BTreeMap<String, SignatureAlgorithm>>,
    aliases: Mutex<BTreeMap<String, String>>,
    denied: Mutex<BTreeSet<String>>,
    signed: Mutex<Vec<SignedDigest>>,
    operations: Mutex<Vec<String>>,
    count: AtomicU64,
    stopping: AtomicBool,
}

/// A running double. Dropping it stops it.
pub(crate) struct KmsDouble {
    shared: Arc<Shared>,
    address: SocketAddr,
    acceptor: Option<JoinHandle<()>>,
}

impl KmsDouble {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let allowed = DevelopmentOnly::check(true, false).unwrap();
        let keys = SoftwareBackend::in_directory("double", &folder.path().join("keys"), allowed).unwrap();
        let shared = Arc::new(Shared {
            folder,
            keys,
            made: Mutex::default(),
            aliases: Mutex::default(),
            denied: Mutex::default(),
            signed: Mutex::default(),
            operations: Mutex::default(),
            count: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port().unwrap())).unwrap();
        let address = listener.local_addr().unwrap();
        let for_acceptor = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                if for_acceptor.stopping.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&for_acceptor);
                // Ends when the client closes.
                std::thread::spawn(move || serve(client, &shared));
            }
        });
        Self { shared, address, acceptor: Some(acceptor) }
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// A new key for the algorithm; its ARN.
    pub(crate) fn make_key(&self, algorithm: SignatureAlgorithm) -> String {
        let shape = match KeyShape::recommended(algorithm) {
            KeyShape::Rsa(_) => KeyShape::Rsa(RsaBits::B2048),
            shape => shape,
        };
        let label = self.name(algorithm);
        self.shared.keys.generate_key(&label, shape).unwrap();
        format!("{ARN}{label}")
    }

    /// A key for `hmac-sha256` with a secret the test knows.
    pub(crate) fn put_mac_key(&self, secret: &[u8]) -> String {
        let label = self.name(SignatureAlgorithm::HmacSha256);
        let path = self.shared.folder.path().join("keys").join(format!("{label}.mac"));
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        file.unwrap().write_all(secret).unwrap();
        format!("{ARN}{label}")
    }

    fn name(&self, algorithm: SignatureAlgorithm) -> String {
        let mut made = self.shared.made.lock().unwrap();
        let label = format!("key-{}", made.len());
        made.insert(label.clone(), algorithm);
        label
    }

    /// Points `alias/NAME` to a key, also if it pointed to another.
    pub(crate) fn set_alias(&self, alias: &str, arn: &str) {
        let label = arn.strip_prefix(ARN).unwrap().to_owned();
        self.shared.aliases.lock().unwrap().insert(alias.to_owned(), label);
    }

    /// The caller's role may not do this from now on.
    pub(crate) fn deny(&self, operation: &str) {
        self.shared.denied.lock().unwrap().insert(operation.to_owned());
    }

    /// Digests it was asked to sign.
    pub(crate) fn signed_digests(&self) -> Vec<SignedDigest> {
        self.shared.signed.lock().unwrap().clone()
    }

    /// Names of all operations it was asked for.
    pub(crate) fn operations(&self) -> Vec<String> {
        self.shared.operations.lock().unwrap().clone()
    }
}

impl Drop for KmsDouble {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address); // wakes the acceptor
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// Requests of one connection, until it ends.
fn serve(client: TcpStream, shared: &Shared) {
    let mut reader = BufReader::new(client.try_clone().unwrap());
    while let Some((operation, body, last)) = read_request(&mut reader) {
        if shared.stopping.load(Ordering::SeqCst) {
            break;
        }
        shared.operations.lock().unwrap().push(operation.clone());
        let (status, body) = match answer(shared, &operation, &body) {
            Ok(body) => (200, body),
            Err((code, message)) => (400, json!({"__type": code, "message": message})),
        };
        let (body, number) = (body.to_string(), shared.count.fetch_add(1, Ordering::Relaxed));
        let head = format!(
            "HTTP/1.1 {status} Double\r\nContent-Type: application/x-amz-json-1.1\r\n\
             x-amzn-RequestId: 00000000-0000-4000-8000-{number:012}\r\nContent-Length: {}\r\n\
             Connection: {}\r\n\r\n",
            body.len(),
            if last { "close" } else { "keep-alive" }
        );
        if (&client).write_all(format!("{head}{body}").as_bytes()).is_err() || last {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
}

/// The operation, its parameters, and whether the connection ends with it; `None` if it has ended.
fn read_request(reader: &mut BufReader<TcpStream>) -> Option<(String, Value, bool)> {
    let (mut operation, mut length, mut last, mut line) = (String::new(), 0, false, String::new());
    loop {
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let Some((name, value)) = line.trim().split_once(':') else {
            if line.trim().is_empty() {
                break;
            }
            continue; // the request line
        };
        match name.to_ascii_lowercase().as_str() {
            "x-amz-target" => operation = value.trim().strip_prefix("TrentService.")?.to_owned(),
            "content-length" => length = value.trim().parse().ok()?,
            "connection" => last = value.trim().eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((operation, serde_json::from_slice(&body).ok()?, last))
}

type Refusal = (&'static str, String);

fn refusal<T>(code: &'static str, message: impl Into<String>) -> Result<T, Refusal> {
    Err((code, message.into()))
}

fn answer(shared: &Shared, operation: &str, asked: &Value) -> Result<Value, Refusal> {
    if shared.denied.lock().unwrap().contains(operation) {
        return refusal("AccessDeniedException", format!("not authorized to perform: kms:{operation}"));
    }
    let name = asked["KeyId"].as_str().unwrap_or_default();
    let alias = shared.aliases.lock().unwrap().get(name).cloned();
    let label = alias.unwrap_or_else(|| name.strip_prefix(ARN).unwrap_or(name).to_owned());
    let Some(made_for) = shared.made.lock().unwrap().get(&label).copied() else {
        return refusal("NotFoundException", format!("Key '{name}' does not exist"));
    };
    let arn = format!("{ARN}{label}");
    match operation {
        "GetPublicKey" => public_key(shared, &label, &arn, made_for),
        "DescribeKey" => Ok(json!({"KeyMetadata": metadata(&label, &arn, made_for)})),
        "Sign" => sign(shared, &label, &arn, made_for, asked),
        "GenerateMac" => mac(shared, &label, &arn, made_for, asked),
        _ => refusal("UnsupportedOperationException", operation),
    }
}

fn public_key(
    shared: &Shared,
    label: &str,
    arn: &str,
    made_for: SignatureAlgorithm,
) -> Result<Value, Refusal> {
    if made_for.is_mac() {
        return refusal("UnsupportedOperationException", format!("{arn} is not asymmetric"));
    }
    let key = shared.keys.open_key(label, made_for).unwrap();
    Ok(json!({
        "KeyId": arn,
        "PublicKey": STANDARD.encode(key.public_key().unwrap().spki_der()),
        "KeySpec": key_spec(made_for),
        "KeyUsage": "SIGN_VERIFY",
        "SigningAlgorithms": their_names(made_for),
    }))
}

fn metadata(label: &str, arn: &str, made_for: SignatureAlgorithm) -> Value {
    let (usage, field) = match made_for.is_mac() {
        true => ("GENERATE_VERIFY_MAC", "MacAlgorithms"),
        false => ("SIGN_VERIFY", "SigningAlgorithms"),
    };
    json!({
        "KeyId": label,
        "Arn": arn,
        "KeyUsage": usage,
        "KeyState": "Enabled",
        "Origin": "AWS_KMS",
        "KeySpec": key_spec(made_for),
        field: their_names(made_for),
    })
}

fn sign(
    shared: &Shared,
    label: &str,
    arn: &str,
    made_for: SignatureAlgorithm,
    asked: &Value,
) -> Result<Value, Refusal> {
    let name = asked["SigningAlgorithm"].as_str().unwrap_or_default();
    let mut siblings = SignatureAlgorithm::ALL.into_iter().filter(|one| one.family() == made_for.family());
    let Some(algorithm) = siblings.find(|one| !one.is_mac() && their_name(*one) == name) else {
        return refusal("InvalidKeyUsageException", format!("Algorithm {name} is incompatible with the key"));
    };
    let message = STANDARD.decode(asked["Message"].as_str().unwrap_or_default()).unwrap();
    // Which kind goes with which algorithm is what AWS's table says.
    let wanted = if algorithm.takes_messages() { "RAW" } else { "DIGEST" };
    let mu = <[u8; 64]>::try_from(message.as_slice()).ok().map(Digest::Mu);
    let mu = mu.filter(|mu| asked["MessageType"] == "EXTERNAL_MU" && algorithm.takes(mu));
    if mu.is_none() && (asked["MessageType"] != wanted || !(1..=4096).contains(&message.len())) {
        return refusal("ValidationException", format!("{name} takes MessageType {wanted}"));
    }
    let key = shared.keys.open_key(label, algorithm).unwrap();
    let digest;
    let input = if let Some(mu) = &mu {
        SealInput::Digest(mu)
    } else if wanted == "RAW" {
        SealInput::Message(&message)
    } else {
        shared.signed.lock().unwrap().push(SignedDigest { algorithm, bytes: message.len() });
        let bytes = message.as_slice();
        digest = match bytes.len() {
            32 => Digest::Sha256(bytes.try_into().unwrap()),
            48 => Digest::Sha384(bytes.try_into().unwrap()),
            64 => Digest::Sha512(bytes.try_into().unwrap()),
            _ => {
                return refusal(
                    "ValidationException",
                    format!("Digest is invalid length for algorithm {name}."),
                );
            }
        };
        SealInput::Digest(&digest)
    };
    match key.sign(input, soon()) {
        Ok(signature) => {
            Ok(json!({"KeyId": arn, "Signature": STANDARD.encode(signature), "SigningAlgorithm": name}))
        }
        Err(error) => refusal("ValidationException", error.to_string()),
    }
}

fn mac(
    shared: &Shared,
    label: &str,
    arn: &str,
    made_for: SignatureAlgorithm,
    asked: &Value,
) -> Result<Value, Refusal> {
    let name = asked["MacAlgorithm"].as_str().unwrap_or_default();
    if !made_for.is_mac() || their_name(made_for) != name {
        return refusal("InvalidKeyUsageException", format!("Algorithm {name} is incompatible with the key"));
    }
    let message = STANDARD.decode(asked["Message"].as_str().unwrap_or_default()).unwrap();
    if !(1..=4096).contains(&message.len()) {
        return refusal("ValidationException", "Message has 1 to 4096 bytes");
    }
    let mac = shared.keys.open_key(label, made_for).unwrap().sign(SealInput::Message(&message), soon());
    Ok(json!({"KeyId": arn, "Mac": STANDARD.encode(mac.unwrap()), "MacAlgorithm": name}))
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn key_spec(algorithm: SignatureAlgorithm) -> &'static str {
    match algorithm.family() {
        KeyFamily::Ed25519 => "ECC_NIST_EDWARDS25519",
        KeyFamily::P256 => "ECC_NIST_P256",
        KeyFamily::P384 => "ECC_NIST_P384",
        KeyFamily::Secp256k1 => "ECC_SECG_P256K1",
        KeyFamily::Rsa => "RSA_2048",
        KeyFamily::MlDsa44 => "ML_DSA_44",
        KeyFamily::MlDsa65 => "ML_DSA_65",
        KeyFamily::Secret => match algorithm {
            SignatureAlgorithm::HmacSha384 => "HMAC_384",
            SignatureAlgorithm::HmacSha512 => "HMAC_512",
            _ => "HMAC_256",
        },
    }
}

fn their_names(made_for: SignatureAlgorithm) -> Vec<&'static str> {
    if made_for.is_mac() {
        return vec![their_name(made_for)];
    }
    let siblings = SignatureAlgorithm::ALL.into_iter().filter(|one| one.family() == made_for.family());
    siblings.map(their_name).collect()
}

fn their_name(algorithm: SignatureAlgorithm) -> &'static str {
    use SignatureAlgorithm as Ours;
    match algorithm {
        Ours::Ed25519 => "ED25519_SHA_512",
        Ours::Ed25519ph => "ED25519_PH_SHA_512",
        Ours::EcdsaP256Sha256 | Ours::EcdsaSecp256k1Sha256 => "ECDSA_SHA_256",
        Ours::EcdsaP384Sha384 => "ECDSA_SHA_384",
        Ours::RsaSha256 => "RSASSA_PKCS1_V1_5_SHA_256",
        Ours::RsaSha384 => "RSASSA_PKCS1_V1_5_SHA_384",
        Ours::RsaSha512 => "RSASSA_PKCS1_V1_5_SHA_512",
        Ours::RsaPssSha256 => "RSASSA_PSS_SHA_256",
        Ours::RsaPssSha384 => "RSASSA_PSS_SHA_384",
        Ours::RsaPssSha512 => "RSASSA_PSS_SHA_512",
        Ours::MlDsa44 | Ours::MlDsa65 => "ML_DSA_SHAKE_256",
        Ours::HmacSha256 => "HMAC_SHA_256",
        Ours::HmacSha384 => "HMAC_SHA_384",
        Ours::HmacSha512 => "HMAC_SHA_512",
    }
}
