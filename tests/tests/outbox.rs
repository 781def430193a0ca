//! `chancery event replay` with the real daemon: whoever is killed, every id is on the ledger once.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use chancery_format::AuditEvent;
use chancery_tests::rig::binary;
use chancery_tests::rig::{Daemon, World, WorldOptions, evidence, wait_for};
use serde_json::{Value, json};

const ROWS: u64 = 1_500;

fn row(n: u64, total: &str) -> String {
    format!(
        "{{\"id\":\"order-{n}\",\"eventType\":\"order.paid\",\"payload\":{{\"total\":{total},\"n\":{n}}},\"stream\":\"orders/all\"}}"
    )
}

fn rows(from: u64, to: u64) -> String {
    (from..to).fold(String::new(), |mut text, n| {
        writeln!(text, "{}", row(n, "12.50")).unwrap();
        text
    })
}

struct Outbox {
    world: World,
    folder: tempfile::TempDir,
}

impl Outbox {
    fn new() -> Self {
        let outbox =
            Self { world: World::new(&WorldOptions::default()), folder: tempfile::tempdir().unwrap() };
        std::fs::write(outbox.file(), rows(0, ROWS)).unwrap();
        outbox
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("outbox.ndjson")
    }

    fn start(&self, arguments: &[&str]) -> Child {
        let mut chancery = Command::new(binary("chancery"));
        chancery
            .args(["event", "replay", "outbox.ndjson", "--json"])
            .args(arguments)
            .current_dir(self.folder.path())
            .env("CHANCERY_URL", self.world.url())
            .env("CHANCERY_CA", self.world.path("ca.crt"))
            .env("CHANCERY_CERT", &self.world.orders.certificate)
            .env("CHANCERY_KEY", &self.world.orders.key)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        chancery.spawn().unwrap()
    }

    fn ended(child: Child) -> (i32, Value) {
        let output: Output = child.wait_with_output().unwrap();
        assert!(output.stderr.is_empty(), "no terminal, no bar: {}", String::from_utf8_lossy(&output.stderr));
        (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap())
    }

    fn run(&self, arguments: &[&str]) -> (i32, Value) {
        Self::ended(self.start(arguments))
    }

    /// Rows that are done with, as the replay kept it.
    fn stands_at(&self) -> Option<u64> {
        let state = std::fs::read(self.folder.path().join("outbox.ndjson.replay.json")).ok()?;
        serde_json::from_slice::<Value>(&state).unwrap()["rows"].as_u64()
    }

    /// Ids on the ledger with the position of each in its stream; each must be there once.
    fn on_the_ledger(&self) -> BTreeMap<String, u64> {
        let leaves = evidence::leaves(&self.world.path("archive"), &self.world.registry());
        evidence::count_chained(&leaves);
        let events = leaves.iter().map(|leaf| AuditEvent::parse(leaf).unwrap());
        let mut found = BTreeMap::new();
        for event in events.filter(|event| event.event_type == "order.paid") {
            assert_eq!(found.insert(event.id.to_owned(), event.seq), None, "{} twice", event.id);
        }
        found
    }
}

fn counts(report: &Value) -> [u64; 4] {
    ["rows", "appended", "alreadyThere", "refused"].map(|name| report[name].as_u64().unwrap())
}

#[test]
fn every_row_is_appended_once_whoever_is_killed() {
    let outbox = Outbox::new();
    let daemon = Daemon::start(&outbox.world);
    // The replay is killed in the middle, and then the daemon.
    let mut killed = outbox.start(&["--batch", "7"]);
    wait_for("some rows", || outbox.stands_at().filter(|rows| *rows >= ROWS / 5));
    killed.kill().unwrap();
    killed.wait().unwrap();
    let before = outbox.stands_at().unwrap();
    assert!(before < ROWS, "it was done before it was killed");
    daemon.kill();
    // A second one waits for a daemon that is not there, and goes on when there is one again.
    let second = outbox.start(&["--batch", "7", "--patience", "120"]);
    let daemon = Daemon::start(&outbox.world);
    wait_for("more rows", || outbox.stands_at().filter(|rows| *rows > before));
    daemon.kill();
    let daemon = Daemon::start(&outbox.world);
    let (code, report) = Outbox::ended(second);
    assert_eq!((code, counts(&report)), (0, [ROWS, ROWS, 0, 0]), "{report:#}");

    // Again, it has nothing to do; with more rows, only these.
    assert_eq!(outbox.run(&[]), (0, report));
    std::fs::write(outbox.file(), rows(0, ROWS + 30)).unwrap();
    let (code, report) = outbox.run(&[]);
    assert_eq!((code, counts(&report)), (0, [ROWS + 30, ROWS + 30, 0, 0]), "{report:#}");
    // With what it kept lost, the ledger knows; calls cut otherwise change nothing.
    let (code, report) = outbox.run(&["--state", "lost.json", "--batch", "400"]);
    assert_eq!((code, counts(&report)), (0, [ROWS + 30, 0, ROWS + 30, 0]), "{report:#}");

    assert!(daemon.stop().success());
    let found = outbox.on_the_ledger();
    assert_eq!(found.len() as u64, ROWS + 30);
    for n in 0..ROWS + 30 {
        assert_eq!(found[&format!("order-{n}")], n, "in the order of the file");
    }
}

#[test]
fn rows_that_cannot_be_are_told_with_their_lines_and_hold_up_no_other() {
    let outbox = Outbox::new();
    let daemon = Daemon::start(&outbox.world);
    let text = [
        row(0, "1"),
        row(1, "1"),
        "not json".to_owned(),
        row(0, "1"), // the same again
        row(1, "2"), // the same id, another payload
        row(2, "1").replace("\"id\":\"order-2\",", ""),
        row(3, "1").replace("orders/all", "chancery"), // the appliance's own
        row(4, "1").replace("order.paid", "signer.activated"),
        row(5, &format!("\"{}\"", "x".repeat(70_000))), // no leaf holds that
        row(6, "1"),
    ];
    std::fs::write(outbox.file(), text.join("\n") + "\n{\"id\":\"half").unwrap();
    let (code, report) = outbox.run(&[]);
    assert_eq!((code, counts(&report)), (1, [10, 3, 1, 6]), "{report:#}");
    let told = report["refusals"].as_array().unwrap().iter();
    let mut told: Vec<(u64, &str)> =
        told.map(|it| (it["line"].as_u64().unwrap(), it["code"].as_str().unwrap())).collect();
    told.sort_unstable();
    let wanted = [
        (3, "invalid-json"),
        (5, "id-conflict"),
        (6, "missing-field"),
        (7, "reserved-name"),
        (8, "reserved-name"),
        (9, "event-too-large"),
    ];
    assert_eq!(told, wanted, "{report:#}");
    // It stays so: the count is of the whole file, and the unfinished line is still not taken.
    assert_eq!(outbox.run(&[]), (1, report));

    // Another file in its place is refused, before anything of it is sent.
    std::fs::write(outbox.file(), rows(100, 200)).unwrap();
    let (code, report) = outbox.run(&[]);
    assert_eq!((code, report["error"]["message"].as_str().unwrap().contains("was changed")), (2, true));
    assert!(daemon.stop().success());
    assert_eq!(outbox.on_the_ledger().keys().collect::<Vec<_>>(), ["order-0", "order-1", "order-6"]);
}

#[test]
fn a_service_that_does_not_come_back_ends_patience_and_nothing_is_lost() {
    let outbox = Outbox::new();
    let (code, report) = outbox.run(&["--patience", "1"]);
    assert_eq!((code, outbox.stands_at()), (4, None), "{report:#}");
    let daemon = Daemon::start(&outbox.world);
    assert_eq!(counts(&outbox.run(&[]).1), [ROWS, ROWS, 0, 0]);
    // Who may not append is told so at once.
    let mut stranger = Outbox::new();
    stranger.world.orders = outbox.world.authority.client(
        stranger.folder.path(),
        "stranger",
        77,
        chancery_tests::rig::world::STRANGER,
    );
    std::fs::copy(outbox.world.path("ca.crt"), stranger.world.path("ca.crt")).unwrap();
    stranger.world.service_port = outbox.world.service_port;
    let (code, report) = stranger.run(&[]);
    assert_eq!((code, &report["error"]["code"]), (1, &json!("unknown-principal")), "{report:#}");
    drop(daemon);
}
