//! What bounds the service: bare cryptography, bare syncs, the ledger alone, an echo on the same stack.

use std::convert::Infallible;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use bytes::Bytes;
use chancery_format::canonical::ObjectWriter;
use chancery_format::committed::DurableIntent;
use chancery_format::entry::{Intent, IntentParts, Operation, PolicyRef, SignatureBytes};
use chancery_format::{Digest, EventDraft, Hash, Outcome, Rung, SignatureAlgorithm};
use chancery_hsm::software::{DevelopmentOnly, SoftwareBackend};
use chancery_hsm::testing::SlowDevice;
use chancery_hsm::{KeyShape, KeySpec, Keyring, Registered};
use chancery_ledger::Roll;
use chancery_tests::rig::{Identity, World, WorldOptions, cpu_of, roll_options, wire};
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::load::drive;
use crate::table::Table;

/// Microseconds of one call, over half a second.
fn micros(mut call: impl FnMut()) -> f64 {
    let (started, mut calls) = (Instant::now(), 0u32);
    while started.elapsed() < Duration::from_millis(500) {
        call();
        calls += 1;
    }
    started.elapsed().as_secs_f64() * 1e6 / f64::from(calls)
}

/// Bare signatures, verifications and syncs.
pub(crate) fn primitives(table: &mut Table) {
    let digest = [7u8; 32];
    let ed = Ed25519KeyPair::generate().unwrap();
    let signed = ed.sign(&digest);
    let public = UnparsedPublicKey::new(&signature::ED25519, ed.public_key().as_ref().to_vec());
    table.add(
        "Ed25519 sign",
        micros(|| {
            std::hint::black_box(ed.sign(&digest));
        }),
        "µs",
    );
    table.add("Ed25519 verify", micros(|| public.verify(&digest, signed.as_ref()).unwrap()), "µs");
    let rng = aws_lc_rs::rand::SystemRandom::new();
    let ec = EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let signed = ec.sign(&rng, &digest).unwrap();
    let public =
        UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_ASN1, ec.public_key().as_ref().to_vec());
    table.add(
        "P-256 sign",
        micros(|| {
            std::hint::black_box(ec.sign(&rng, &digest).unwrap());
        }),
        "µs",
    );
    table.add("P-256 verify", micros(|| public.verify(&digest, signed.as_ref()).unwrap()), "µs");
    let mut file = tempfile::tempfile_in("target").unwrap();
    let block = [1u8; 4096];
    let sync = micros(|| {
        file.write_all(&block).unwrap();
        file.sync_data().unwrap();
    });
    table.add("sync of 4 KiB", sync / 1_000.0, "ms");
}

fn roll(folder: &std::path::Path) -> Roll {
    Roll::create(roll_options(folder.join("ledger"), "log.example/bench".parse().unwrap(), "ledger-v1"))
        .unwrap()
}

fn draft(number: u64) -> EventDraft {
    let payload = ObjectWriter::new().integer("number", number).string("text", &"x".repeat(8)).finish();
    EventDraft {
        event_type: "bench".parse().unwrap(),
        actor: "bench".parse().unwrap(),
        stream: "bench".parse().unwrap(),
        payload,
        id: None,
        ts: None,
        manifest_signature_id: None,
        metadata: None,
    }
}

/// An intent as the service makes it.
pub(crate) fn intent(kid: &str, number: u64) -> Intent {
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&number.to_be_bytes());
    Intent::new(IntentParts {
        co_signer: None,
        kid: kid.parse().unwrap(),
        signer_kid: format!("{kid}-v1").parse().unwrap(),
        algorithm: SignatureAlgorithm::Ed25519,
        asked: None,
        operation: Operation::Sign,
        digest: Digest::Sha256(digest),
        principal: "spiffe://demo.example/service/orders".parse().unwrap(),
        request_id: "b1f7c7d4-7b0a-4a9e-8a55-000000000000".parse().unwrap(),
        stream: "spiffe://demo.example/service/orders".parse().unwrap(),
        purpose: None,
        metadata: None,
        policy: PolicyRef {
            rule: "grant/spiffe://demo.example/service/orders".into(),
            sha256: Hash([3; 32]),
        },
        release: Rung::Durable,
        replay: None,
    })
}

/// Durable entries per second without a service around, at several group sizes.
pub(crate) async fn ledger_alone(table: &mut Table, seconds: Duration) {
    for group in [1u64, 16, 64, 256, 1024] {
        let folder = tempfile::tempdir_in("target").unwrap();
        let roll = roll(folder.path());
        let (started, mut entries) = (Instant::now(), 0u64);
        while started.elapsed() < seconds {
            let events = (0..group).map(|number| (draft(entries + number), None)).collect();
            for committed in roll.enrol_events(events).await {
                committed.unwrap();
            }
            entries += group;
        }
        let rate = entries as f64 / started.elapsed().as_secs_f64();
        table.add(format!("ledger alone, groups of {group}"), rate, "entries/s");
        roll.close().await;
    }
    let folder = tempfile::tempdir_in("target").unwrap();
    let roll = roll(folder.path());
    let (started, before, mut entries) = (Instant::now(), cpu_of(std::process::id()), 0u64);
    while started.elapsed() < seconds {
        let signed =
            |number| Outcome::signed(intent("ed", entries + number), SignatureBytes::new(vec![7; 64]), None);
        for committed in roll.enrol_outcomes((0..64).map(signed).collect()).await {
            committed.unwrap();
        }
        entries += 64;
    }
    let cpu = (cpu_of(std::process::id()) - before).as_secs_f64() * 1e6 / entries as f64;
    table.add("ledger CPU per outcome", cpu, "µs");
    roll.close().await;
}

fn server_tls(world: &World) -> Arc<ServerConfig> {
    let identity =
        Identity { certificate: world.path("server.crt"), key: world.path("server.key"), serial: 1 };
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(world.authority.pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let chain = vec![CertificateDer::from_pem_file(&identity.certificate).unwrap()];
    let key = PrivateKeyDer::from_pem_file(&identity.key).unwrap();
    let builder = ServerConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
    Arc::new(builder.with_client_cert_verifier(verifier).with_single_cert(chain, key).unwrap())
}

async fn answer(request: Request<hyper::body::Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let mut reply = body.to_vec();
    reply.resize(600, b' ');
    Ok(Response::new(Full::new(reply.into())))
}

/// mTLS echo on the same HTTP stack, 128 connections: rate, and CPU of both ends per request.
pub(crate) async fn echo(table: &mut Table, seconds: Duration) {
    let world = World::uninitialised(&WorldOptions::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(server_tls(&world));
    let server = tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                socket.set_nodelay(true).unwrap();
                let Ok(stream) = acceptor.accept(socket).await else { return };
                let http = hyper::server::conn::http1::Builder::new();
                // A client that hangs up ends its connection; nothing else depends on it.
                let _ended = http.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
            });
        }
    });
    let before = cpu_of(std::process::id());
    let tls = wire::tls(&world, Some(&world.orders));
    let body = Arc::new(|_, _| {
        "{\"kid\":\"ed\",\"digest\":\"0000000000000000000000000000000000000000000000000000000000000000\"}"
            .to_owned()
    });
    let load = drive(port, tls, "/", 128, seconds, body).await;
    // The warm-up's share of CPU counts as requests too.
    let share = seconds.as_secs_f64() / (seconds.as_secs_f64() + 0.3);
    let cpu = (cpu_of(std::process::id()) - before).as_secs_f64() * share * 1e6 / load.requests as f64;
    table.add("mTLS echo, 128 callers, rate", load.rate(), "requests/s");
    table.add("echo CPU per request", cpu, "µs");
    server.abort();
}

/// A device of 5 ms behind two sessions: does the pool keep it busy?
pub(crate) async fn slow_device(table: &mut Table, seconds: Duration) {
    let allowed = DevelopmentOnly::check(true, false).unwrap();
    let software = SoftwareBackend::ephemeral("slow", allowed);
    software.generate_key("ed", KeyShape::Ed25519).unwrap();
    let device = SlowDevice::new(Arc::new(software), 2, Duration::from_millis(5));
    let spec = KeySpec {
        kid: "ed".parse().unwrap(),
        signer_kid: "ed-v1".parse().unwrap(),
        backend: "slow".into(),
        label: "ed".into(),
        algorithm: SignatureAlgorithm::Ed25519,
        purpose: "bench".into(),
        description: String::new(),
        registered: Registered::No,
    };
    let ring = Arc::new(Keyring::builder().backend(Arc::new(device)).key(spec).build().unwrap());
    let end = Instant::now() + seconds;
    let callers: Vec<_> = (0..128u64)
        .map(|caller| {
            let ring = Arc::clone(&ring);
            tokio::spawn(async move {
                let mut signed = 0u64;
                while Instant::now() < end {
                    let intent = DurableIntent::skipped_for_software(intent("ed", caller));
                    let outcome = ring.seal(intent, None, Instant::now() + Duration::from_secs(10)).await;
                    signed +=
                        u64::from(matches!(outcome.result(), chancery_format::OutcomeResult::Signed(..)));
                }
                signed
            })
        })
        .collect();
    let started = end - seconds;
    let mut signed = 0;
    for caller in callers {
        signed += caller.await.unwrap();
    }
    table.add(
        "slow device, 2 sessions of 5 ms, rate",
        signed as f64 / started.elapsed().as_secs_f64(),
        "signs/s",
    );
}
