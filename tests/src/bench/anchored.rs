//! Anchored digests under a ledger key whose device takes 80 ms per signature, one at a time: one checkpoint
//! signs whatever came in meanwhile. Every receipt handed out is verified afterwards, as an auditor would.

use std::sync::Arc;
use std::time::Duration;

use chancery_format::{Receipt, SignersRegistry};
use chancery_tests::rig::{Daemon, World, WorldOptions, random_word, wire, write_secret};
use chancery_yubihsm::testing::{AUTH_KEY_ID, YubiHsmDouble};
use tokio::runtime::Runtime;

use crate::load::{Body, drive_keeping};
use crate::service::{digest, options};
use crate::table::Table;

const DEVICE_TIME: Duration = Duration::from_millis(80);
/// Of the configuration below.
const CADENCE_MS: f64 = 200.0;

fn body(items: u64) -> Body {
    Arc::new(move |caller, turn| {
        let item = |number| {
            format!(
                "{{\"kid\":\"dual\",\"mode\":\"anchored\",\"digest\":\"{}\",\"digestAlgorithm\":\"sha256\"}}",
                digest(caller, turn << 16 | number)
            )
        };
        match items {
            1 => item(0),
            _ => format!("{{\"items\":[{}]}}", (0..items).map(item).collect::<Vec<_>>().join(",")),
        }
    })
}

/// Receipts of an answer that do not verify.
fn bad(answer: &[u8], registry: &SignersRegistry) -> usize {
    let answer: serde_json::Value = serde_json::from_slice(answer).unwrap();
    let alone = std::slice::from_ref(&answer);
    let items = answer["items"].as_array().map_or(alone, Vec::as_slice);
    let good = |item: &serde_json::Value| {
        let receipt = Receipt::parse(item["receipt"].to_string().as_bytes());
        receipt.is_ok_and(|receipt| receipt.verify(registry).is_ok())
    };
    items.iter().filter(|item| !good(item)).count()
}

pub(crate) fn anchored(runtime: &Runtime, table: &mut Table, seconds: Duration) {
    let password = random_word();
    let double = YubiHsmDouble::start(&password).unwrap();
    let tables = format!(
        "connections_max = 4096\n\n[[backends]]\nname = \"slow\"\nkind = \"yubihsm\"\nconnector = \"http://{}\"\n\
         auth_key_id = {AUTH_KEY_ID}\npassword_file = \"{{dir}}/yubi.password\"\nsessions = 1\nforce_audit = \"ignore\"\n\n\
         [[keys]]\nkid = \"slow-ledger\"\nsigner_kid = \"slow-ledger-v1\"\nbackend = \"slow\"\n\
         algorithm = \"ed25519\"\npurpose = \"ledger\"\n",
        double.address()
    );
    let options = WorldOptions { signing_key: "slow-ledger", ..options("skip") };
    let options = WorldOptions { ledger: options.ledger.replace("1000\n", "200\n"), ..options };
    let world = World::with_backend(&options, &[], &tables);
    write_secret(&world.path("yubi.password"), &password);
    world.initialise();
    double.set_key_use_delay(DEVICE_TIME);
    let daemon = Daemon::start(&world);
    let registry = world.registry();
    for (name, path, callers, items) in [
        ("alone", "/v1/sign", 1, 1),
        ("one by one", "/v1/sign", 1024, 1),
        ("batches of 16", "/v1/sign/batch", 64, 16),
        ("batches of 256", "/v1/sign/batch", 6, 256),
    ] {
        let tls = wire::tls(&world, Some(&world.orders));
        let before = daemon.cpu();
        let load =
            runtime.block_on(drive_keeping(world.service_port, tls, path, callers, seconds, body(items)));
        let receipts = load.requests * items;
        let cpu = (daemon.cpu() - before).as_secs_f64() * 1e6 / receipts as f64;
        let bad: usize = load.answers.iter().map(|answer| bad(answer, &registry)).sum();
        assert_eq!(bad, 0, "receipts that do not verify");
        table.add(format!("anchored, 80 ms device, {name}, rate"), load.rate() * items as f64, "receipts/s");
        table.add(format!("anchored, 80 ms device, {name}, p50"), load.percentile(0.50), "ms");
        let p99 = load.percentile(0.99);
        table.add(format!("anchored, 80 ms device, {name}, p99"), p99, "ms");
        table.add(
            format!("anchored, 80 ms device, {name}, p99 − cadence"),
            load.percentile(0.99) - CADENCE_MS,
            "ms",
        );
        table.add(format!("anchored, 80 ms device, {name}, server CPU"), cpu, "µs/receipt");
        if callers > 1 {
            let rate = load.rate() * items as f64;
            table.ratio(&format!("anchored, {name}: receipts/s ÷ 5,000"), rate / 5_000.0, "≥ 1");
            table.ratio(
                &format!("anchored, {name}: (p99 − cadence) ÷ 50 ms"),
                (p99 - CADENCE_MS) / 50.0,
                "≤ 1",
            );
        }
    }
    drop(daemon);
    let verified = world.verify(&["ledger", world.path("archive").to_str().unwrap()]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
}
