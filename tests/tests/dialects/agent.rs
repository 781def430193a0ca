//! `chancery agent`: the door for programs that cannot show a certificate.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chancery_tests::rig::world::ORDERS;
use chancery_tests::rig::{binary, evidence, wait_for};
use chancery_tests::servers::{Fault, FaultProxy, go_client, node_client, python_client};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::*;

/// A running agent; ended by its process id.
struct Agent {
    child: Child,
    door: String,
}

impl Agent {
    fn start(world: &World, door: &[&str]) -> Self {
        let mut child = Command::new(binary("chancery"))
            .arg("agent")
            .args(door)
            .args(["--url", &world.url(), "--ca"])
            .arg(world.path("ca.crt"))
            .arg("--cert")
            .arg(&world.orders.certificate)
            .arg("--key")
            .arg(&world.orders.key)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let door = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("{line}")).to_owned();
        Self { child, door }
    }

    fn address(&self) -> SocketAddr {
        self.door.strip_prefix("http://").unwrap().parse().unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        if !std::thread::panicking() {
            assert!(status.success(), "the agent ended with {status}");
        }
    }
}

/// One plain request on a connection of its own; status and body.
fn plain(mut stream: impl std::io::Read + std::io::Write, path: &str, body: &str) -> (u16, Value) {
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: signing\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{reply:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_default())
}

#[test]
fn what_comes_in_is_signed_in_the_workloads_name_and_says_which_user_asked() {
    let (world, _daemon) = started(ALL);
    let agent = Agent::start(&world, &["--listen", "127.0.0.1:0"]);
    let body = json!({ "payload_b64": "aGVsbG8=", "key_id": "ed" }).to_string();
    let (status, said) = plain(TcpStream::connect(agent.address()).unwrap(), "/sign", &body);
    assert_eq!(status, 200, "{said}");
    let me = rustix::process::getuid().as_raw();
    let entry = |said: &Value| leaf(&world, said["receipt"]["index"].as_u64().unwrap());
    let event = entry(&said);
    assert_eq!(
        (event["actor"].as_str(), &event["payload"]["dialect"]["peerUid"]),
        (Some(ORDERS), &json!(me))
    );
    assert!(event["payload"]["idempotencyKey"].is_string(), "{event}");
    drop(agent);

    // The same by a Unix socket, and natively: a program cannot say that it is somebody else.
    let socket = world.path("agent.sock");
    let agent = Agent::start(&world, &["--socket", socket.to_str().unwrap()]);
    let mut stream = UnixStream::connect(&socket).unwrap();
    let native = json!({ "kid": "ed", "digest": "00".repeat(32), "digestAlgorithm": "sha256" }).to_string();
    let length = native.len();
    write!(
        stream,
        "POST /v1/sign HTTP/1.1\r\nhost: x\r\nchancery-peer-uid: 4242\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{native}"
    )
    .unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    let said: Value = serde_json::from_str(reply.split_once("\r\n\r\n").unwrap().1).unwrap();
    let dialect = entry(&said)["payload"]["dialect"].clone();
    assert_eq!(dialect, json!({ "name": "native", "peerUid": me }));
    drop(agent);
    assert!(!socket.exists());
}

#[test]
fn it_listens_on_this_machine_alone() {
    let (world, _daemon) = started(ALL);
    for door in ["0.0.0.0:0", "[::]:0", "192.0.2.7:8200"] {
        let output = Command::new(binary("chancery"))
            .args(["agent", "--listen", door, "--url", &world.url(), "--ca"])
            .arg(world.path("ca.crt"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("is not a loopback address"), "{said}");
    }
}

/// Every SDK needs one variable, and no certificate.
#[test]
fn sdks_need_one_variable() {
    let (world, _daemon) = started(ALL);
    let agent = Agent::start(&world, &["--listen", "127.0.0.1:0"]);
    let variables =
        [("KMS_URL", agent.door.as_str()), ("AWS_ACCESS_KEY_ID", "any"), ("AWS_SECRET_ACCESS_KEY", "any")];
    let mut boto = python_client("boto").unwrap();
    let told = lines(boto.arg("all").args(SIGNING).envs(variables));
    assert_eq!(verify_kms(&world, &told), 2 * 6 + 1 + 1);
    for mut client in [node_client().unwrap(), go_client().unwrap()] {
        let told = lines(client.args(["p256", "ed"]).envs(variables));
        assert_eq!(verify_kms(&world, &told), 2 + 1);
    }
}

/// The reply is lost after the key was used: the client asks again, and gets the same bytes of the same entry.
#[test]
fn a_lost_reply_is_one_signature() {
    let (world, daemon) = started(ALL);
    let agent = Agent::start(&world, &["--listen", "127.0.0.1:0"]);
    let (mut boto, mut hvac) = (python_client("boto").unwrap(), python_client("vault").unwrap());
    let (mut node, mut go) = (node_client().unwrap(), go_client().unwrap());
    boto.arg("once");
    for (client, by) in [
        (&mut boto, "amz-sdk-invocation-id/"),
        (&mut node, "amz-sdk-invocation-id/"),
        (&mut go, "amz-sdk-invocation-id/"),
        (&mut hvac, "once-1"),
    ] {
        let between = FaultProxy::start(agent.address()).unwrap();
        let seen = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&seen);
        between.rule(move |_| match count.fetch_add(1, Ordering::Relaxed) {
            0 => Fault::LoseReply,
            _ => Fault::Pass,
        });
        let before = daemon.metric("chancery_ledger_entries");
        client.env("KMS_URL", between.endpoint_url()).env("VAULT_ADDR", between.endpoint_url());
        client.env("KMS_ONCE", "1").env("VAULT_ONCE", "1").env("VAULT_CACERT", world.path("ca.crt"));
        let told = lines(client.envs([("AWS_ACCESS_KEY_ID", "any"), ("AWS_SECRET_ACCESS_KEY", "any")]));
        let told = told.last().unwrap();
        assert_eq!(seen.load(Ordering::Relaxed), 2, "asked twice: {told}");
        assert!(told["retries"].is_null() || told["retries"] == 1, "{told}");
        assert_eq!(daemon.metric("chancery_ledger_entries"), before + 1, "{told}");
        let event = leaf(&world, before);
        assert_eq!(event["payload"]["signature"], told["signature"]);
        let key = event["payload"]["idempotencyKey"].as_str().unwrap();
        assert!(key.starts_with(by), "{key}");
    }
}

/// 10,000 requests while the service is restarted five times and the certificate is renewed twice.
#[test]
fn restarts_and_renewals_lose_nothing_and_double_nothing() {
    const REQUESTS: u64 = 10_000;
    const CALLERS: u64 = 32;
    let (world, mut daemon) = started(ALL);
    let agent = Agent::start(&world, &["--listen", "127.0.0.1:0"]);
    let address = agent.address();
    let (next, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let mut callers = Vec::new();
        for _ in 0..CALLERS {
            callers.push(scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= REQUESTS {
                        return;
                    }
                    let payload = STANDARD.encode(format!("request {number}"));
                    let body = json!({ "payload_b64": payload, "key_id": "ed" }).to_string();
                    let (status, said) = plain(TcpStream::connect(address).unwrap(), "/sign", &body);
                    if status != 200 {
                        failed.fetch_add(1, Ordering::Relaxed);
                        eprintln!("request {number}: {status} {said}");
                    }
                }
            }));
        }
        for restart in 1..=5u64 {
            let reached = REQUESTS * restart / 6;
            wait_for("more requests", || (next.load(Ordering::Relaxed) >= reached).then_some(()));
            if restart == 2 || restart == 4 {
                // As a certificate manager does it: another certificate of the same workload, under the same names.
                let renewed = world.authority.client(world.folder(), "renewed", 90 + restart, ORDERS);
                std::fs::rename(&renewed.key, &world.orders.key).unwrap();
                std::fs::rename(&renewed.certificate, &world.orders.certificate).unwrap();
                if restart == 4 {
                    // The first is good for nothing any more.
                    std::fs::write(world.path("ca.crl"), world.authority.revocation_list(&[2])).unwrap();
                }
            }
            // Every other time without warning.
            daemon.signal(if restart % 2 == 0 { Signal::KILL } else { Signal::TERM });
            daemon.wait();
            daemon = Daemon::start(&world);
        }
        for caller in callers {
            caller.join().unwrap();
        }
    });
    drop(agent);
    assert_eq!(failed.into_inner(), 0);
    daemon.stop();
    let issued = evidence::leaves(&world.path("archive"), &world.registry());
    let issued: Vec<Value> = issued
        .iter()
        .map(|leaf| serde_json::from_slice::<Value>(leaf).unwrap())
        .filter(|event| event["eventType"] == "signing.signature.issued")
        .collect();
    let digests: std::collections::BTreeSet<String> =
        issued.iter().map(|event| event["payload"]["digest"].as_str().unwrap().to_owned()).collect();
    assert_eq!((issued.len(), digests.len()), (REQUESTS as usize, REQUESTS as usize));
    for number in 0..REQUESTS {
        assert!(digests.contains(&sha256(format!("request {number}").as_bytes()).to_hex()), "{number}");
    }
}
