//! Completeness against a real daemon: all entries of a stream and of a key, through its crash; a patched server that
//! hides one; a monitor that tells of each once; a canary.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use chancery_tests::rig::wire::{Ask, Reply, call};
use chancery_tests::rig::world::ORDERS;
use chancery_tests::rig::{Daemon, World, WorldOptions, binary, wait_for};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

/// The key `audited`, and `trap`, which nobody may use and the principal was granted by mistake.
fn world() -> World {
    let key = |kid: &str, purpose: &str| {
        format!(
            "[[keys]]\nkid = \"{kid}\"\nsigner_kid = \"{kid}-v1\"\nbackend = \"software\"\nalgorithm = \"ed25519\"\n\
             purpose = \"{purpose}\"\n\n"
        )
    };
    World::new(&WorldOptions {
        ledger: "checkpoint_interval_ms = 100\nheads_interval_ms = 100\nreserve_bytes = 1048576\n".into(),
        kids: &["audited", "trap"],
        more: key("audited", "test") + &key("trap", "canary"),
        ..WorldOptions::default()
    })
}

fn sign(world: &World, kid: &str, number: u64) -> Reply {
    let body = json!({ "kid": kid, "digest": format!("{number:064x}"), "digestAlgorithm": "sha256" });
    call(world, Some(&world.orders), &Ask::post("/v1/sign", body.to_string())).unwrap()
}

fn append(world: &World, stream: &str, number: u64) -> u64 {
    let event = json!({ "stream": stream, "eventType": "order.paid", "payload": { "n": number } });
    let reply = call(world, Some(&world.orders), &Ask::post("/v1/events", event.to_string())).unwrap();
    assert_eq!(reply.status, 201, "{}", reply.body);
    reply.json()["receipt"]["index"].as_u64().unwrap()
}

/// Waits until a map covers this entry.
fn covered(world: &World, name: &str, index: u64) {
    let path = format!("/v1/completeness/{name}");
    wait_for("a map of heads", || {
        let reply = call(world, Some(&world.orders), &Ask::get(&path)).ok()?;
        let heads = reply.json()["heads"]["event"]["payload"]["size"].as_u64()?;
        (heads > index).then_some(())
    });
}

/// Runs a command of the client against a service, which is the daemon or somebody between.
fn chancery(world: &World, url: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary("chancery"));
    command.args(arguments).arg("--json").arg("--signers").arg(world.path("signers.json"));
    command.envs(variables(world, url)).output().unwrap()
}

/// Fetches a proof into `proof.jsonl`.
fn fetch(world: &World, url: &str, name: &str) -> Output {
    let path = world.path("proof.jsonl");
    drop(std::fs::remove_file(&path));
    chancery(world, url, &["completeness", name, "--output", path.to_str().unwrap()])
}

fn verify(world: &World, whose: [&str; 2]) -> (Option<i32>, Value) {
    let path = world.path("proof.jsonl");
    let done = world.verify(&["completeness", path.to_str().unwrap(), whose[0], whose[1], "--json"]);
    (done.status.code(), told(&done))
}

fn told(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text} {output:?}"))
}

fn variables(world: &World, url: &str) -> [(&'static str, String); 4] {
    let path = |path: &std::path::Path| path.display().to_string();
    [
        ("CHANCERY_URL", url.to_owned()),
        ("CHANCERY_CA", path(&world.path("ca.crt"))),
        ("CHANCERY_CERT", path(&world.orders.certificate)),
        ("CHANCERY_KEY", path(&world.orders.key)),
    ]
}

/// A server that stands before the daemon and changes what it says. Stops when dropped.
struct Patched {
    port: u16,
    stop: Arc<Mutex<bool>>,
}

type Patch = fn(&str, String) -> String;

impl Patched {
    fn start(world: &Arc<World>, patch: Patch) -> Self {
        let chain = vec![CertificateDer::from_pem_file(world.path("server.crt")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(world.path("server.key")).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
        let config = Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let patched = Self { port: listener.local_addr().unwrap().port(), stop: Arc::default() };
        let (world, stop) = (Arc::clone(world), Arc::clone(&patched.stop));
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                if *stop.lock().unwrap() {
                    return;
                }
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = BufReader::new(StreamOwned::new(connection, socket));
                // A client that goes away in the middle is its own affair.
                drop(answer(&world, patch, &mut stream));
            }
        });
        patched
    }

    fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }
}

impl Drop for Patched {
    fn drop(&mut self) {
        *self.stop.lock().unwrap() = true;
        drop(std::net::TcpStream::connect(("127.0.0.1", self.port)));
    }
}

type Secure = BufReader<StreamOwned<ServerConnection, std::net::TcpStream>>;

fn answer(world: &World, patch: Patch, stream: &mut Secure) -> std::io::Result<()> {
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") {
        if stream.read_line(&mut request)? == 0 {
            return Ok(());
        }
    }
    let path = request.split_whitespace().nth(1).unwrap_or_default();
    let reply = call(world, Some(&world.orders), &Ask::get(path)).unwrap();
    let body = patch(path, reply.body);
    let head =
        format!("HTTP/1.1 {} -\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", reply.status, body.len());
    stream.get_mut().write_all(head.as_bytes())?;
    stream.get_mut().write_all(body.as_bytes())?;
    stream.get_mut().conn.send_close_notify();
    stream.get_mut().flush()
}

#[test]
fn all_entries_of_a_stream_and_of_a_key_are_proven_through_a_crash() {
    let world = world();
    let mut daemon = Daemon::start(&world);
    let mut last = 0;
    for round in 0..3 {
        for number in 0..7 {
            assert_eq!(sign(&world, "audited", round * 7 + number).status, 200);
            last = append(&world, "orders/eu", number);
        }
        if round < 2 {
            daemon.kill();
            daemon = Daemon::start(&world);
        }
    }
    covered(&world, "stream:orders/eu", last);
    // 21 signatures and the key's activation.
    for (name, whose, entries) in
        [("stream:orders/eu", ["--stream", "orders/eu"], 21), ("key:audited-v1", ["--key", "audited-v1"], 22)]
    {
        let fetched = fetch(&world, &world.url(), name);
        assert_eq!(
            (fetched.status.code(), &told(&fetched)["entries"]),
            (Some(0), &json!(entries)),
            "{fetched:?}"
        );
        let (code, report) = verify(&world, whose);
        assert_eq!((code, &report["checked"]["entries"]), (Some(0), &json!(entries)), "{report:#}");
        assert_eq!(verify(&world, ["--stream", "orders/us"]).0, Some(1));
    }
    let (_, report) = verify(&world, ["--key", "audited-v1"]);
    assert_eq!(report["checked"]["signatures"], 21);
    let nothing = fetch(&world, &world.url(), "key:nobody-v1");
    assert_eq!(told(&nothing)["entries"], 0);
    // Another's stream is not shown, and a name that is none is not found.
    assert_eq!(fetch(&world, &world.url(), "stream:spiffe://demo.example/other").status.code(), Some(1));
    let reply = call(&world, Some(&world.orders), &Ask::get("/v1/completeness/orders")).unwrap();
    assert_eq!((reply.status, reply.code().as_str()), (404, "not-found"));
    daemon.stop();
    let whole = world.verify(&["ledger", world.path("archive").to_str().unwrap(), "--json"]);
    assert_eq!(whole.status.code(), Some(0), "{}", String::from_utf8_lossy(&whole.stdout));
    assert!(told(&whole)["checked"]["headsMaps"].as_u64().unwrap() >= 1);
}

#[test]
fn a_patched_server_that_hides_an_entry_is_found_out() {
    let world = Arc::new(world());
    let _daemon = Daemon::start(&world);
    let mut last = 0;
    for number in 0..9 {
        assert_eq!(sign(&world, "audited", number).status, 200);
        last = append(&world, "orders/eu", number);
    }
    covered(&world, "stream:orders/eu", last);
    let hide_one: Patch = |path, body| match path.contains("?from=") {
        true => {
            body.lines().enumerate().filter(|(at, _)| *at != 4).map(|(_, line)| format!("{line}\n")).collect()
        }
        false => body,
    };
    let count_less: Patch = |path, body| match path.contains('?') {
        true => body,
        false => body.replacen("\"count\":9", "\"count\":8", 1).replacen("\"count\":10", "\"count\":9", 1),
    };
    let deny: Patch = |path, body| match path.contains('?') {
        true => String::new(),
        false => body,
    };
    for (patch, says) in [
        (hide_one, ["the event with seq 4 is missing", "is out of order"].as_slice()),
        (count_less, &["not the one in the enrolled map"]),
        (deny, &["and 0 were given"]),
    ] {
        let patched = Patched::start(&world, patch);
        for name in ["stream:orders/eu", "key:audited-v1"] {
            let refused = fetch(&world, &patched.url(), name);
            assert_eq!(refused.status.code(), Some(1), "{refused:?}");
            let message = told(&refused)["error"]["message"].as_str().unwrap().to_owned();
            assert!(says.iter().any(|says| message.contains(says)), "{message}");
            assert!(!world.path("proof.jsonl").exists(), "no half proof is left");
        }
    }
    let honest: Patch = |_, body| body;
    let patched = Patched::start(&world, honest);
    assert_eq!(fetch(&world, &patched.url(), "key:audited-v1").status.code(), Some(0));
}

#[test]
fn a_monitor_tells_of_each_signature_once_and_of_a_lie() {
    let world = Arc::new(world());
    let _daemon = Daemon::start(&world);
    let state = world.path("state.json");
    let once = |url: &str, more: &[&str]| {
        let state = state.to_str().unwrap();
        let arguments = ["monitor", "key:audited-v1", "--once", "--state", state];
        chancery(&world, url, &[&arguments, more].concat())
    };
    let types = |output: &Output| -> Vec<String> {
        let lines = String::from_utf8_lossy(&output.stdout);
        let read = |line| serde_json::from_str::<Value>(line).unwrap();
        lines
            .lines()
            .filter_map(|line| read(line)["event"]["eventType"].as_str().map(str::to_owned))
            .collect()
    };
    let covered_again = |number| {
        assert_eq!(sign(&world, "audited", number).status, 200);
        covered(&world, "stream:orders/eu", append(&world, "orders/eu", number));
    };
    covered_again(1);
    let first = once(&world.url(), &[]);
    assert_eq!(types(&first), ["signer.activated", "signing.signature.issued"], "{first:?}");
    assert!(types(&once(&world.url(), &[])).is_empty(), "nothing is told twice");
    // A program that fails is run again: the entry was not told yet.
    covered_again(2);
    let failed = once(&world.url(), &["--exec", "/bin/false"]);
    assert_eq!(failed.status.code(), Some(4), "{failed:?}");
    let program = world.path("tell");
    std::fs::write(&program, format!("#!/bin/sh\ncat >> {}\n", world.path("told").display())).unwrap();
    Command::new("chmod").arg("700").arg(&program).status().unwrap();
    assert_eq!(types(&once(&world.url(), &["--exec", program.to_str().unwrap()])).len(), 1);
    assert!(std::fs::read_to_string(world.path("told")).unwrap().contains("signing.signature.issued"));
    // Somebody who takes back what was shown is found out, even though each proof for itself could be made.
    covered_again(3);
    let kept = std::fs::read_to_string(&state).unwrap();
    let hash = serde_json::from_str::<Value>(&kept).unwrap()["hash"].as_str().unwrap().to_owned();
    std::fs::write(&state, kept.replace(&hash, &"ab".repeat(32))).unwrap();
    let lied = once(&world.url(), &[]);
    assert_eq!(lied.status.code(), Some(1), "{lied:?}");
    std::fs::write(&state, kept).unwrap();
    let used = once(&world.url(), &["--canary"]);
    assert_eq!((used.status.code(), types(&used).len()), (Some(1), 1), "{used:?}");
}

#[test]
fn a_canary_signs_for_nobody_and_the_attempt_is_told() {
    let world = world();
    let daemon = Daemon::start(&world);
    let refused = sign(&world, "trap", 1);
    assert_eq!((refused.status, refused.code().as_str()), (403, "canary-key"));
    assert_eq!(daemon.metric("chancery_refusals_total{code=\"canary-key\"}"), 1);
    assert_eq!(sign(&world, "audited", 1).status, 200);
    daemon.stop();
    let leaves = chancery_tests::rig::evidence::leaves(&world.path("archive"), &world.registry());
    let all: Vec<String> = leaves.iter().map(|leaf| String::from_utf8_lossy(leaf).into_owned()).collect();
    let refusal = all.iter().find(|leaf| leaf.contains("request.refused")).unwrap();
    assert!(refusal.contains("\"code\":\"canary-key\"") && refusal.contains(ORDERS), "{refusal}");
    assert!(!all.iter().any(|leaf| leaf.contains("issued") && leaf.contains("trap")));
}
