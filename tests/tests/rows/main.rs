//! Streams that are set to the dialect of an existing writer, with the real daemon: what the writer's own verifiers
//! check holds, ours agree, and the ledger binds what those rows leave open.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use chancery_format::AuditEvent;
use chancery_format::chain::{After, Bound, Dialect, Link};
use chancery_tests::rig::wire::{self, Ask, Reply};
use chancery_tests::rig::world::ORDERS;
use chancery_tests::rig::{Daemon, World, WorldOptions, binary, evidence, wait_for};
use chancery_tests::servers::python_with_cryptography;
use serde_json::{Value, json};

/// Dialects with the keys their verifiers know.
const CHAINS: [(&str, &str); 7] = [
    ("kernel", "rows-ed"),
    ("kernel-go", "rows-ed"),
    ("kernel-server", "rows-rsa"),
    ("agent-manager", "rows-ed"),
    ("agent-manager", "rows-rsa"),
    ("memory-layer", "rows-ed"),
    ("shared", "rows-ed"),
];

fn stream(dialect: &str, kid: &str) -> String {
    format!("orders/{dialect}/{kid}")
}

fn keys() -> String {
    let key = |kid: &str, algorithm: &str| {
        format!(
            "\n[[keys]]\nkid = \"{kid}\"\nsigner_kid = \"{kid}-v1\"\nbackend = \"software\"\n\
             algorithm = \"{algorithm}\"\npurpose = \"audit\"\n"
        )
    };
    key("rows-ed", "ed25519") + &key("rows-rsa", "rsa-sha256")
}

fn chain(dialect: &str, kid: &str, more: &str) -> String {
    let stream = stream(dialect, kid);
    format!(
        "\n[[chains]]\nstream = \"{stream}\"\ndialect = \"{dialect}\"\nkid = \"{kid}\"\nprincipal = \"{ORDERS}\"\n{more}"
    )
}

fn options(chains: &str) -> WorldOptions {
    WorldOptions { more: keys() + chains, ..WorldOptions::default() }
}

fn all() -> World {
    World::new(&options(&CHAINS.map(|(dialect, kid)| chain(dialect, kid, "")).concat()))
}

fn post(world: &World, path: &str, body: &Value, key: Option<&str>) -> Reply {
    let ask = Ask::post(path, body.to_string());
    let ask = match key {
        Some(key) => ask.header("idempotency-key", key),
        None => ask,
    };
    wire::call(world, Some(&world.orders), &ask).unwrap()
}

fn event(stream: &str, number: usize) -> Value {
    // What canonical forms differ in: whole numbers as names, order beyond the BMP, escapes, numbers, markup.
    let payload = json!({
        "10": number, "9": [1.5, 1e21, -0.0, null, true], "\u{1f600}": "<a & b>", "\u{fb33}": "\u{2028}",
        "nested": { "b": "\u{8}\u{1}", "a": {} },
    });
    json!({ "eventType": "order.paid", "payload": payload, "stream": stream, "metadata": { "n": number } })
}

/// The stream's rows, as the command line gives them.
fn export(world: &World, stream: &str, folder: &Path, more: &[&str]) -> Output {
    let mut chancery = Command::new(binary("chancery"));
    chancery
        .args(["event", "export", "--json", "--stream", stream, "--output", "rows.ndjson"])
        .args(more)
        .current_dir(folder)
        .env("CHANCERY_URL", world.url())
        .env("CHANCERY_CA", world.path("ca.crt"))
        .env("CHANCERY_CERT", &world.orders.certificate)
        .env("CHANCERY_KEY", &world.orders.key);
    chancery.output().unwrap()
}

fn exported(world: &World, stream: &str) -> (tempfile::TempDir, Value) {
    let folder = tempfile::tempdir().unwrap();
    let output = export(world, stream, folder.path(), &[]);
    assert_eq!(output.status.code(), Some(0), "{stream}: {}", String::from_utf8_lossy(&output.stderr));
    (folder, serde_json::from_slice(&output.stdout).unwrap())
}

/// What a verifier of the platform makes of it.
fn theirs(world: &World, dialect: &str, rows: &Path) -> Output {
    let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/rows/verify_rows.mjs");
    let mut node = Command::new("node");
    node.arg(program).arg(dialect).arg(rows).arg(world.path("signers.json"));
    node.output().unwrap()
}

fn ours(world: &World, rows: &Path) -> (i32, Value) {
    let mut command = Command::new(binary("chancery-verify"));
    command.arg("events").arg(rows).arg("--signers").arg(world.path("signers.json")).arg("--json");
    let output = command.output().unwrap();
    let said = serde_json::from_slice(&output.stdout);
    let report = said.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), report)
}

/// Verified offline, by our verifier; then what it says.
fn ledger(world: &World) -> (i32, Value) {
    let mut command = Command::new(binary("chancery-verify"));
    command.arg("ledger").arg(world.path("archive")).arg("--signers").arg(world.path("signers.json"));
    let output = command.arg("--json").output().unwrap();
    (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap())
}

fn leaves(world: &World) -> Vec<Vec<u8>> {
    evidence::leaves(&world.path("archive"), &world.registry())
}

#[test]
fn rows_verify_by_the_platforms_rules_and_by_ours_and_the_ledger_binds_them() {
    const SINGLE: usize = 30;
    let world = all();
    let daemon = Daemon::start(&world);
    for (dialect, kid) in CHAINS {
        let stream = stream(dialect, kid);
        // Thirty at once: by this, the writers of these tables make forks.
        std::thread::scope(|scope| {
            for number in 0..SINGLE {
                let (world, stream) = (&world, &stream);
                scope.spawn(move || {
                    let reply = post(world, "/v1/events", &event(stream, number), None);
                    assert_eq!(reply.status, 201, "{}", reply.body);
                    let reply = reply.json();
                    assert_eq!(reply["row"]["id"], reply["id"]);
                    assert_eq!(reply["chain"]["prevHash"], reply["row"]["prev_hash"]);
                });
            }
        });
        let items: Vec<Value> = (0..20).map(|number| event(&stream, number)).collect();
        let reply = post(&world, "/v1/events/batch", &json!({ "items": items }), None).json();
        let batched: Vec<&Value> = reply["items"].as_array().unwrap().iter().map(|it| &it["row"]).collect();

        let (folder, told) = exported(&world, &stream);
        let file = folder.path().join("rows.ndjson");
        let text = std::fs::read_to_string(&file).unwrap();
        let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((rows.len(), told["rows"].as_u64()), (SINGLE + 20, Some(SINGLE as u64 + 20)));
        // The same row, whenever it is asked for.
        assert_eq!(rows[SINGLE..].iter().collect::<Vec<_>>(), batched, "{dialect}");

        let verdict = theirs(&world, dialect, &file);
        let said = String::from_utf8_lossy(&verdict.stdout).into_owned();
        assert!(verdict.status.success(), "{dialect} {kid}: {}", String::from_utf8_lossy(&verdict.stderr));
        assert!(said.contains(told["head"].as_str().unwrap()), "{said}");
        let (code, report) = ours(&world, &file);
        assert_eq!(code, 0, "{dialect} {kid}: {report:#}");
        assert_eq!(report["checked"]["signatures"], SINGLE + 20, "{report:#}");

        // Neither takes a row that is not the service's.
        let mut tampered = rows;
        tampered[7]["payload"]["10"] = json!("other");
        let text: String = tampered.iter().map(|row| format!("{row}\n")).collect();
        let other = folder.path().join("tampered.ndjson");
        std::fs::write(&other, text).unwrap();
        assert!(
            !theirs(&world, dialect, &other).status.success() && ours(&world, &other).0 == 1,
            "{dialect}"
        );
        // A file that is there is not written over.
        assert_eq!(export(&world, &stream, folder.path(), &[]).status.code(), Some(2));
    }
    assert!(daemon.stop().success());
    let (code, report) = ledger(&world);
    assert_eq!(code, 0, "{report:#}");
    // So does the verifier that was written from the format's description.
    let mut python = Command::new(python_with_cryptography().unwrap());
    python.arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("reference/verify.py"));
    let told =
        python.arg(world.path("archive")).arg("--signers").arg(world.path("signers.json")).output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stdout));
    let counts = evidence::count_chained(&leaves(&world));
    let events = (CHAINS.len() * (SINGLE + 20)) as u64;
    assert_eq!(
        (counts["order.paid"], counts["signing.signature.issued"]),
        (events, events),
        "one signature a row"
    );
}

#[test]
fn a_row_that_could_not_be_signed_is_signed_later_and_once() {
    let world = World::new(&options(&chain("kernel", "rows-ed", "")));
    let daemon = Daemon::start(&world);
    let stream = stream("kernel", "rows-ed");
    assert_eq!(post(&world, "/v1/events", &event(&stream, 0), None).status, 201);
    std::fs::write(world.path("halt"), "").unwrap();
    let halted = wait_for("the kill switch", || {
        let reply = post(&world, "/v1/events", &event(&stream, 1), Some("one"));
        (reply.status != 201).then_some(reply)
    });
    assert_eq!((halted.status, halted.code().as_str()), (503, "halted"), "{}", halted.body);
    std::fs::remove_file(world.path("halt")).unwrap();
    let appended = wait_for("the kill switch's end", || {
        let reply = post(&world, "/v1/events", &event(&stream, 1), Some("one"));
        (reply.status == 201).then(|| reply.json())
    });
    let again = post(&world, "/v1/events", &event(&stream, 1), Some("one")).json();
    assert_eq!(appended["row"], again["row"]);
    let rows = post(&world, "/v1/rows", &json!({ "stream": stream, "from": 1 }), None).json();
    assert_eq!(rows["items"], json!([appended["row"]]), "{rows:#}");
    assert!(daemon.stop().success());
    let counts = evidence::count_chained(&leaves(&world));
    assert_eq!((counts["order.paid"], counts["signing.signature.issued"]), (2, 2));
}

#[test]
fn what_would_break_a_chain_is_refused() {
    let world = all();
    let _daemon = Daemon::start(&world);
    let kernel = stream("kernel", "rows-ed");
    let with = |stream: &str, name: &str, value: Value| {
        let mut event = event(stream, 0);
        event[name] = value;
        let reply = post(&world, "/v1/events", &event, None);
        (reply.status, reply.code())
    };
    let invalid = (400, "invalid-field".to_owned());
    assert_eq!(with(&kernel, "ts", json!("2026-11-21T00:00:00.000Z")), invalid);
    assert_eq!(with(&stream("shared", "rows-ed"), "actor", json!("alice")), invalid);
    assert_eq!(with(&kernel, "actor", json!("alice")).0, 201);
    for (body, status) in [
        (json!({ "stream": "orders/none" }), 404),
        (json!({ "stream": "elsewhere" }), 403),
        (json!({ "stream": kernel, "from": -1 }), 400),
        (json!({ "stream": kernel, "limit": 0 }), 400),
        (json!({ "stream": kernel, "other": 1 }), 400),
    ] {
        assert_eq!(post(&world, "/v1/rows", &body, None).status, status, "{body}");
    }
    // The chain's key is nobody's, whatever is asked.
    let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let sign = json!({ "kid": "rows-ed", "digest": digest, "digestAlgorithm": "sha256" });
    assert_eq!(post(&world, "/v1/sign", &sign, None).status, 403);
}

#[test]
fn a_chain_goes_on_after_another_writers_and_for_ever() {
    let previous = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let configured = options(&chain("kernel", "rows-ed", &format!("previous_hash = \"{previous}\"\n")));
    let world = World::new(&options(""));
    let stream = stream("kernel", "rows-ed");
    // Events before the chain, then the chain, then without its configuration, then with it again.
    let append = |number| {
        let reply = post(&world, "/v1/events", &event(&stream, number), None);
        assert_eq!(reply.status, 201, "{}", reply.body);
        reply.json()
    };
    let mut replies = Vec::new();
    for (number, options) in
        [options(""), configured.clone(), options(""), configured.clone()].iter().enumerate()
    {
        world.write_config(options);
        let daemon = Daemon::start(&world);
        replies.push(append(2 * number));
        replies.push(append(2 * number + 1));
        if number == 3 {
            let (folder, told) = exported(&world, &stream);
            assert_eq!(told["rows"], 6);
            let file = folder.path().join("rows.ndjson");
            let verdict = theirs(&world, "kernel", &file);
            assert!(verdict.status.success(), "{}", String::from_utf8_lossy(&verdict.stderr));
        }
        assert!(daemon.stop().success());
    }
    let link = |reply: &Value| (reply["chain"]["prevHash"].clone(), reply["chain"]["hash"].clone());
    assert!(replies[..2].iter().all(|reply| reply.get("chain").is_none() && reply.get("row").is_none()));
    assert_eq!(replies[2]["chain"]["prevHash"], previous);
    assert!(replies[2..].windows(2).all(|pair| link(&pair[1]).0 == link(&pair[0]).1));
    let rows: Vec<bool> = replies.iter().map(|reply| reply.get("row").is_some()).collect();
    assert_eq!(rows, [false, false, true, true, false, false, true, true]);
    assert_eq!(ledger(&world).0, 0);
    let events = leaves(&world);
    let events: Vec<_> = events.iter().map(|leaf| AuditEvent::parse(leaf).unwrap()).collect();
    let chained: Vec<_> = events.iter().filter(|event| event.chain.is_some()).collect();
    assert!(chained.len() == 6 && chained.windows(2).all(|pair| pair[0].ts < pair[1].ts));

    // Another dialect for a chain that has begun is a mistake of the configuration.
    let stream_line = format!("stream = \"{stream}\"\ndialect = \"kernel\"");
    let other =
        configured.more.replace(&stream_line, &stream_line.replace("\"kernel\"", "\"kernel-server\""));
    world.write_config(&WorldOptions { more: other, ..configured });
    let mut daemon = Daemon::spawn(&world);
    assert_eq!(daemon.wait().code(), Some(2), "{}", daemon.log_tail());
    assert!(daemon.log_tail().contains("keeps its dialect"), "{}", daemon.log_tail());
}

/// Rows that the kernel made itself, signed through its own dialect long after: the ledger knows the time inside.
#[test]
fn a_time_that_no_search_finds_is_the_one_the_ledger_recorded() {
    let grants = "dialects = [\"native\", \"kernel\"]\n";
    let world = World::new(&WorldOptions { grants, ..WorldOptions::default() });
    let daemon = Daemon::start(&world);
    let (mut rows, mut previous) = (String::new(), None);
    for second in 0..3 {
        let ts = format!("2090-11-21T00:00:0{second}.000Z");
        let bound = Bound { event_type: "a", actor: "", payload: "{\"n\":1}", ts: ts.parse().unwrap() };
        let link = Link::new(After { dialect: Dialect::Kernel, previous }, &bound).unwrap();
        // An hour later; a search goes on for five seconds.
        let payload = format!("{{\"data\":\"{}\",\"ts\":\"2090-11-21T01:00:0{second}.007Z\"}}", link.hash);
        let asked = json!({ "payload": payload, "signerId": "ed" });
        let reply = post(&world, "/sign", &asked, None);
        assert_eq!(reply.status, 200, "{}", reply.body);
        let row = json!({
            "id": second.to_string(), "event_type": "a", "payload": { "n": 1 }, "prev_hash": previous.map(|it| it.to_hex()),
            "hash": link.hash.to_hex(), "signature": reply.json()["signature"], "signer_id": reply.json()["signer_id"],
            "ts": ts,
        });
        rows += &format!("{row}\n");
        previous = Some(link.hash);
    }
    assert!(daemon.stop().success());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rows.ndjson");
    std::fs::write(&file, rows).unwrap();
    let (code, report) = ours(&world, &file);
    assert_eq!((code, report.to_string().contains("signature-invalid")), (1, true), "{report:#}");
    let mut command = Command::new(binary("chancery-verify"));
    command.arg("events").arg(&file).arg("--signers").arg(world.path("signers.json")).arg("--json");
    let output = command.arg("--ledger").arg(world.path("archive")).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (output.status.code(), report["checked"]["signatures"].as_u64()),
        (Some(0), Some(3)),
        "{report:#}"
    );
    assert!(!report.to_string().contains("signing-time-searched"), "{report:#}");
}

/// Policies decide where they are configured, but not over a chain's key.
#[test]
fn no_policy_lets_anybody_else_use_the_key_of_a_chain() {
    let more = keys() + &chain("kernel", "rows-ed", "") + "\n[policy]\ndirectory = \"{dir}/policies\"\n";
    let world = World::uninitialised(&WorldOptions { more, ..WorldOptions::default() });
    std::fs::create_dir(world.path("policies")).unwrap();
    std::fs::write(world.path("policies/all.cedar"), "@id(\"all\")\npermit (principal, action, resource);\n")
        .unwrap();
    world.initialise();
    let _daemon = Daemon::start(&world);
    let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let sign = |kid: &str| {
        let asked = json!({ "kid": kid, "digest": digest, "digestAlgorithm": "sha256" });
        post(&world, "/v1/sign", &asked, None)
    };
    // The one key that nobody is granted can be used under this policy, the chain's cannot.
    assert_eq!(sign("rows-rsa").status, 200);
    assert_eq!((sign("rows-ed").status, sign("rows-ed").code().as_str()), (403, "kid-not-granted"));
    let stream = stream("kernel", "rows-ed");
    let reply = post(&world, "/v1/events", &event(&stream, 0), None);
    assert!(reply.status == 201 && reply.json()["row"]["signature"].is_string(), "{}", reply.body);
}
