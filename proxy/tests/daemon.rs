//! The daemon as an operator meets it: the binary, its exit codes, signals, reloads and restarts.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

mod common;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Client, SOON, get, until};
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::http1::SendRequest;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const DIGEST: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

/// `chanceryd` with no variable of ours inherited.
fn chanceryd(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chanceryd"));
    for name in
        ["CHANCERY_ENV", "NODE_ENV", "REQUIRE_MTLS", "REQUIRE_KMS", "DEV_SKIP_MTLS", "CHANCERY_ENABLE"]
    {
        command.env_remove(name);
    }
    // These instances keep software keys.
    command.env("DEV_ALLOW_EPHEMERAL", "true");
    command.args(arguments);
    command
}

fn output(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A throw-away instance with software keys, on free ports.
struct Instance {
    folder: tempfile::TempDir,
}

impl Instance {
    fn new() -> Self {
        let instance = Self { folder: tempfile::tempdir().unwrap() };
        let (code, _, errors) =
            output(chanceryd(&["init", "--software", "--dev"]).arg(instance.path("i")).args([
                "--address",
                "127.0.0.1:0",
                "--ops-address",
                "127.0.0.1:0",
            ]));
        assert_eq!(code, 0, "{errors}");
        instance
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path("i").join(name)
    }

    fn config(&self) -> PathBuf {
        self.file("chancery.toml")
    }

    /// Replaces text of the configuration, which must be there.
    fn edit(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.config()).unwrap();
        assert!(text.contains(from), "{from} in {text}");
        let new = self.file("new.toml");
        std::fs::write(&new, text.replace(from, to)).unwrap();
        std::fs::rename(new, self.config()).unwrap();
    }

    fn command(&self, name: &str) -> Command {
        let mut command = chanceryd(&[name, "--config"]);
        command.arg(self.config());
        command
    }

    fn run(&self) -> Running {
        self.run_with(&[])
    }

    fn run_with(&self, variables: &[(&str, &str)]) -> Running {
        Running::start(self.command("run").envs(variables.iter().copied()), &self.file(""), &self.path("log"))
    }
}

/// A daemon under way; killed when dropped.
struct Running {
    child: Child,
    address: SocketAddr,
    ops: SocketAddr,
    folder: PathBuf,
    log: PathBuf,
}

impl Running {
    fn start(command: &mut Command, folder: &Path, log: &Path) -> Self {
        let errors = std::fs::File::create(log).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(errors).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = |after: &str| {
            let rest = line
                .split_once(after)
                .unwrap_or_else(|| panic!("{}", std::fs::read_to_string(log).unwrap()))
                .1;
            rest.split([' ', ')', '\n']).next().unwrap().parse().unwrap()
        };
        let (service, ops) = (address("https://"), address("http://"));
        Self { child, address: service, ops, folder: folder.to_owned(), log: log.to_owned() }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end; the exit code.
    async fn ended(&mut self) -> Option<i32> {
        let deadline = Instant::now() + SOON * 3;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "does not end: {}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn terminated(mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.ended().await
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until so many lines with this text are in the log, which has a thread of its own and may come
    /// after what it tells of.
    async fn until_logged(&self, text: &str, lines: usize) {
        until(|| {
            self.log().lines().filter(|line| line.ends_with('}') && line.contains(text)).count() >= lines
        })
        .await;
    }

    async fn client(&self) -> Http {
        self.client_named("client").await
    }

    async fn client_named(&self, name: &str) -> Http {
        Http(Client::of_folder(self.address, &self.folder, name).http1().await.unwrap())
    }

    /// Status and body of a path of the ops listener.
    fn ops(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.ops).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn check(&self, name: &str) -> Value {
        let report: Value = serde_json::from_str(&self.ops("/readyz").1).unwrap();
        let checks = report["checks"].as_array().unwrap();
        checks
            .iter()
            .find(|check| check["name"] == name)
            .unwrap_or_else(|| panic!("{name} in {report}"))
            .clone()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One connection.
struct Http(SendRequest<Full<Bytes>>);

impl Http {
    async fn get(&mut self, path: &str) -> (u16, Value) {
        self.send(get(path)).await.unwrap()
    }

    async fn sign(&mut self, kid: &str, key: &str) -> (u16, Value) {
        self.try_sign(kid, key).await.unwrap()
    }

    async fn try_sign(&mut self, kid: &str, key: &str) -> Result<(u16, Value), hyper::Error> {
        let body = json!({"kid": kid, "digest": DIGEST, "digestAlgorithm": "sha256"}).to_string();
        let request = Request::post("/v1/sign")
            .header("host", "localhost")
            .header("content-type", "application/json")
            .header("idempotency-key", key)
            .body(Full::new(body.into()));
        self.send(request.unwrap()).await
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<(u16, Value), hyper::Error> {
        self.0.ready().await?;
        let response = self.0.send_request(request).await?;
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await?.to_bytes();
        Ok((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    }
}

#[test]
fn init_makes_a_whole_instance_with_private_secrets_and_never_overwrites_it() {
    let instance = Instance::new();
    for name in
        ["ca.crt", "client.crt", "server.crt", "crl.pem", "signers.json", "signers.json.sig", "ledger/db"]
    {
        assert!(instance.file(name).exists(), "{name}");
    }
    for name in ["ca.key", "client.key", "server.key", "auditor.key", "ledger", "archive", "keys"] {
        let mode = std::fs::metadata(instance.file(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}: {mode:o}");
    }
    let (code, _, errors) = output(chanceryd(&["init", "--software", "--dev"]).arg(instance.path("i")));
    assert_eq!(code, 1, "{errors}");
    assert!(errors.contains("never overwritten"), "{errors}");
    let (code, _, errors) = output(&mut instance.command("init"));
    assert_eq!(code, 1, "{errors}");
    assert!(errors.contains("a ledger is never overwritten"), "{errors}");
}

#[test]
fn check_prints_what_is_in_force_or_everything_that_is_wrong() {
    let instance = Instance::new();
    let (code, effective, _) = output(&mut instance.command("check"));
    assert_eq!(code, 0);
    assert!(
        effective.contains("handshake_timeout_ms = 5000") && !effective.contains("PRIVATE"),
        "{effective}"
    );

    let production =
        [("CHANCERY_ENV", "production"), ("DEV_SKIP_MTLS", "Yes"), ("DEV_ALLOW_EPHEMERAL", "on")];
    for name in ["check", "run"] {
        let (code, _, errors) = output(instance.command(name).envs(production));
        assert_eq!(code, 2, "{errors}");
        for reason in
            ["DEV_SKIP_MTLS", "DEV_ALLOW_EPHEMERAL", "\"orders\" is a software key", "without Object Lock"]
        {
            assert!(errors.contains(reason), "{reason}: {errors}");
        }
    }

    std::fs::write(instance.file("server.crt"), "junk").unwrap();
    let (code, _, errors) = output(instance.command("check").envs(production));
    assert!(code == 2 && errors.contains("server.crt") && errors.contains("Object Lock"), "{errors}");

    instance.edit("signing_key = \"ledger\"", "signing_key = \"absent\"\ncolour = \"red\"");
    let (code, _, errors) = output(&mut instance.command("check"));
    assert!(code == 2 && errors.contains("absent") && errors.contains("ledger.colour"), "{errors}");
}

#[test]
fn usage_and_documents() {
    assert_eq!(output(&mut chanceryd(&[])).0, 2);
    assert_eq!(output(&mut chanceryd(&["run"])).0, 2);
    assert_eq!(output(&mut chanceryd(&["run", "--config", "/nonexistent/chancery.toml"])).0, 2);
    let (code, help, _) = output(&mut chanceryd(&["--help"]));
    assert!(code == 0 && help.contains("chanceryd init --dev ./dev"), "{help}");
    let (code, document, _) = output(&mut chanceryd(&["openapi"]));
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!((code, &document["openapi"]), (0, &json!("3.1.0")));
}

#[tokio::test]
async fn a_retry_after_a_restart_gets_the_same_bytes() {
    let instance = Instance::new();
    let running = instance.run();
    assert_eq!(running.ops("/readyz").0, 200);
    let mut client = running.client().await;
    let mut first = Vec::new();
    for kid in ["orders", "invoices", "releases"] {
        let (status, reply) = client.sign(kid, &format!("k-{kid}")).await;
        assert_eq!(status, 200, "{reply}");
        first.push(reply);
    }
    assert_eq!(running.terminated().await, Some(0));

    let running = instance.run();
    running.until_logged("\"abandoned\":0", 1).await;
    let mut client = running.client().await;
    for (kid, first) in ["orders", "invoices", "releases"].iter().zip(&first) {
        assert_eq!(client.sign(kid, &format!("k-{kid}")).await, (200, first.clone()));
    }
    assert_eq!(running.terminated().await, Some(0));
}

/// Signs on many connections until the daemon refuses or is gone; the replies that arrived.
async fn pound(running: &Running, connections: usize) -> Vec<tokio::task::JoinHandle<Vec<(String, Value)>>> {
    let mut tasks = Vec::new();
    for connection in 0..connections {
        let mut client = running.client().await;
        tasks.push(tokio::spawn(async move {
            let mut answered = Vec::new();
            for number in 0.. {
                let (kid, key) = (["orders", "invoices"][number % 2], format!("{connection}-{number}"));
                match client.try_sign(kid, &key).await {
                    Ok((200, reply)) => answered.push((key, reply)),
                    Ok((503, _)) | Err(_) => break,
                    Ok(other) => panic!("{other:?}"),
                }
            }
            answered
        }));
    }
    tasks
}

/// Every reply that arrived is on the ledger, and a retry of its request gets it again.
async fn all_there(running: &Running, tasks: Vec<tokio::task::JoinHandle<Vec<(String, Value)>>>) {
    let mut client = running.client().await;
    let mut count = 0;
    for task in tasks {
        for (key, reply) in task.await.unwrap() {
            let kid = reply["kid"].as_str().unwrap().to_owned();
            assert_eq!(client.sign(&kid, &key).await, (200, reply));
            count += 1;
        }
    }
    assert!(count > 0, "nothing was answered");
}

#[tokio::test]
async fn sigterm_loses_nothing_that_was_accepted() {
    let instance = Instance::new();
    let mut running = instance.run();
    let tasks = pound(&running, 8).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    running.signal(Signal::TERM);
    assert_eq!(running.ended().await, Some(0));
    assert!(!running.log().contains("\"level\":\"ERROR\""), "{}", running.log());

    let running = instance.run();
    // Whatever was begun was also finished: recovery has nothing to close.
    running.until_logged("\"abandoned\":0", 1).await;
    all_there(&running, tasks).await;
}

#[tokio::test]
async fn kill_nine_loses_nothing_that_was_answered() {
    let instance = Instance::new();
    let mut running = instance.run();
    for round in 0..3 {
        let tasks = pound(&running, 4).await;
        tokio::time::sleep(Duration::from_millis(150 + 70 * round)).await;
        running.signal(Signal::KILL);
        running.ended().await;
        running = instance.run();
        all_there(&running, tasks).await;
    }
    assert_eq!(running.terminated().await, Some(0));
}

#[tokio::test]
async fn the_sentinel_file_halts_and_its_removal_resumes() {
    let instance = Instance::new();
    let running = instance.run();
    let mut client = running.client().await;
    assert_eq!(client.sign("orders", "a").await.0, 200);

    std::fs::write(instance.file("halt"), "").unwrap();
    let pulled = Instant::now();
    let mut number = 0;
    while client.sign("orders", &format!("b-{number}")).await.0 == 200 {
        number += 1;
        assert!(pulled.elapsed() < SOON, "does not halt");
    }
    assert!(pulled.elapsed() < Duration::from_millis(1_000), "{:?}", pulled.elapsed());
    let (status, problem) = client.sign("orders", "c").await;
    assert_eq!((status, &problem["code"]), (503, &json!("halted")));
    assert_eq!(running.ops("/readyz").0, 503);
    assert_eq!(running.check("kill-switch")["ok"], false);
    assert!(running.ops("/metrics").1.contains("chancery_halted 1"));
    // Reading goes on.
    assert_eq!(client.get("/v1/keys").await.0, 200);

    std::fs::remove_file(instance.file("halt")).unwrap();
    let resumed = Instant::now();
    while client.sign("orders", "c").await.0 != 200 {
        assert!(resumed.elapsed() < SOON, "does not resume");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut auditor = running.client_named("auditor").await;
    let states = async {
        let (_, page) = auditor.get("/v1/streams/chancery/governance").await;
        page.to_string().matches("kill_switch.changed").count()
    };
    assert!(states.await >= 2);
}

#[tokio::test]
async fn the_variable_halts_from_the_start() {
    let instance = Instance::new();
    let running = instance.run_with(&[("CHANCERY_ENABLE", "OFF")]);
    let mut client = running.client().await;
    assert_eq!(client.sign("orders", "a").await.1["code"], "halted");
    assert_eq!(running.ops("/livez").0, 200);
    assert_eq!(running.terminated().await, Some(0));
    let running = instance.run_with(&[("CHANCERY_ENABLE", "on")]);
    assert_eq!(running.client().await.sign("orders", "a").await.0, 200);
}

#[tokio::test]
async fn grants_reload_on_open_connections_and_a_broken_file_changes_nothing() {
    let instance = Instance::new();
    let running = instance.run();
    let mut client = running.client().await;
    assert_eq!(client.sign("orders", "a").await.0, 200);

    instance.edit("kids = [\"orders\", ", "kids = [");
    let edited = Instant::now();
    while client.sign("orders", "a").await.0 == 200 {
        assert!(edited.elapsed() < SOON, "does not reload");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(client.sign("orders", "b").await.1["code"], "kid-not-granted");
    assert_eq!(client.sign("invoices", "c").await.0, 200);

    instance.edit("kids = [", "kids = [[");
    running.signal(Signal::HUP);
    until(|| {
        running.ops("/metrics").1.contains("chancery_reloads_total{result=\"error\",what=\"grants\"} 1")
    })
    .await;
    running.until_logged("the old grants stay in force", 1).await;
    assert_eq!(client.sign("invoices", "d").await.0, 200);

    instance.edit("kids = [[", "kids = [\"orders\", ");
    running.signal(Signal::HUP);
    until(|| running.ops("/metrics").1.contains("chancery_reloads_total{result=\"ok\",what=\"grants\"} 2"))
        .await;
    assert_eq!(client.sign("orders", "e").await.0, 200);
    assert_eq!(running.terminated().await, Some(0));
}

#[tokio::test]
async fn an_older_disk_under_the_same_archive_is_refused() {
    let instance = Instance::new();
    let running = instance.run();
    assert_eq!(running.client().await.sign("orders", "a").await.0, 200);
    assert_eq!(running.terminated().await, Some(0));
    copy(&instance.file("ledger"), &instance.path("backup"));

    let running = instance.run();
    assert_eq!(running.client().await.sign("releases", "b").await.0, 200);
    assert_eq!(running.terminated().await, Some(0));

    std::fs::remove_dir_all(instance.file("ledger")).unwrap();
    std::fs::rename(instance.path("backup"), instance.file("ledger")).unwrap();
    let (code, _, errors) = output(&mut instance.command("run"));
    assert_eq!(code, 1, "{errors}");
    assert!(errors.contains("an older disk was restored"), "{errors}");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn what_is_missing_or_taken_has_its_exit_code() {
    let instance = Instance::new();
    let running = instance.run();
    // The ledger is in use by the first.
    let (code, _, errors) = output(&mut instance.command("run"));
    assert!(code == 4 && errors.contains("in use by another process"), "{code} {errors}");

    let other = Instance::new();
    other.edit(
        "address = \"127.0.0.1:0\"\ncertificate",
        &format!("address = \"{}\"\ncertificate", running.address),
    );
    let (code, _, errors) = output(&mut other.command("run"));
    assert!(code == 4 && errors.contains("cannot listen"), "{code} {errors}");

    std::fs::remove_dir_all(other.file("ledger")).unwrap();
    let (code, _, errors) = output(&mut other.command("run"));
    assert!(code == 3 && errors.contains("chanceryd init"), "{code} {errors}");
}

#[tokio::test]
async fn a_key_that_is_no_longer_configured_is_retired_and_stays_so() {
    let instance = Instance::new();
    let text = std::fs::read_to_string(instance.config()).unwrap();
    let start = text.find("[[keys]]\nkid = \"webhooks\"").unwrap();
    let end = start + text[start..].find("\n\n").unwrap();
    let section = text[start..end].to_owned();
    instance.edit(&section, "");
    instance.edit(", \"webhooks\"]", "]");
    let running = instance.run();
    assert_eq!(running.terminated().await, Some(0));
    let registry: Value =
        serde_json::from_slice(&std::fs::read(instance.file("signers.json")).unwrap()).unwrap();
    let signers = registry["signers"].as_array().unwrap();
    let webhooks = signers.iter().find(|signer| signer["kid"] == "webhooks").unwrap();
    assert_eq!(webhooks["state"], "retired");
    assert!(webhooks["retiredIndex"].is_u64() && webhooks["retiredAt"].is_string(), "{webhooks}");

    // A published file that was lost is written again, with nothing new in it.
    let published = std::fs::read(instance.file("signers.json")).unwrap();
    std::fs::remove_file(instance.file("signers.json")).unwrap();
    let running = instance.run();
    assert!(running.ops("/metrics").1.contains("chancery_registry_version 2"));
    assert_eq!(running.terminated().await, Some(0));
    assert_eq!(std::fs::read(instance.file("signers.json")).unwrap(), published);

    instance.edit(
        "[[principals]]\nname = \"spiffe://demo.example/service/orders\"",
        &format!("{section}\n\n[[principals]]\nname = \"spiffe://demo.example/service/orders\""),
    );
    let (code, _, errors) = output(&mut instance.command("run"));
    assert!(code == 2 && errors.contains("is retired in the registry"), "{code} {errors}");
}

#[tokio::test]
async fn what_is_seen_from_outside_is_well_formed_and_tells_no_secrets() {
    let instance = Instance::new();
    let running = instance.run();
    let mut client = running.client().await;
    let (_, reply) = client.sign("orders", "a").await;
    let signature = reply["signature"].as_str().unwrap();
    assert_eq!(client.sign("ledger", "b").await.0, 403);

    let metrics = running.ops("/metrics").1;
    let mut samples = 0;
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let family =
            ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(metrics.contains(&format!("# HELP {family} ")), "{family}");
        assert!(metrics.contains(&format!("# TYPE {family} ")), "{family}");
        samples += 1;
    }
    assert!(samples > 50, "{metrics}");
    for part in [
        "chancery_requests_total{route=\"sign\",status=\"200\"} 1",
        "chancery_ready 1",
        "chancery_build_info",
    ] {
        assert!(metrics.contains(part), "{part} in {metrics}");
    }
    assert_eq!(running.ops("/elsewhere").0, 404);

    running.until_logged("\"message\":\"request\"", 2).await;
    let log = running.log();
    let mut requests = 0;
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
        requests += u32::from(line["message"] == "request");
    }
    assert_eq!(requests, 2, "{log}");
    assert!(!log.contains(DIGEST) && !log.contains(signature), "{log}");
    assert_eq!(running.terminated().await, Some(0));
}
