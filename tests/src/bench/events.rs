//! A chain of a million rows as one of the platform's writers makes them, verified by us and by a verifier in Node.js
//! that does for each row what the platform's own tool does. Neither's code is used to make the rows.

use std::fmt::Write as _;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chancery_format::{Hash, PublicKey, Timestamp};
use chancery_tests::rig::binary;

use crate::table::Table;
use crate::verification::used_by;

/// Rows that Node.js verifies, of the same file from its beginning: it does the same for each.
const ROWS_OF_NODE: u64 = 50_000;
const ACTORS: u64 = 3;
const KID: &str = "bench-signer-v1";
/// 2026-01-15T12:00:00Z
const START_MS: i64 = 1_768_478_400_000;

pub(crate) fn chain(table: &mut Table, rows: u64) {
    let folder = tempfile::tempdir_in("target").unwrap();
    let (file, signers) = (folder.path().join("rows.ndjson"), folder.path().join("signers.json"));
    write(&file, &signers, rows);
    let bytes = std::fs::metadata(&file).unwrap().len();
    table.add("events: rows of dialect `shared`", rows as f64, "rows");
    table.add("events: their file", bytes as f64 / 1e6, "MB");
    // Node before and after, so that a machine that slows down meanwhile favours nobody.
    let mut of_node = [Vec::new(), Vec::new()];
    let node = |of_node: &mut [Vec<Rates>; 2]| {
        for (rates, keys) in of_node.iter_mut().zip(["pem", "key"]) {
            rates.push(by_node(&file, &signers, rows.min(ROWS_OF_NODE), keys));
        }
    };
    node(&mut of_node);
    let started = Instant::now();
    let mut command = Command::new(binary("chancery-verify"));
    command.arg("events").arg(&file).arg("--signers").arg(&signers).arg("--json");
    let used = used_by(&mut command);
    let seconds = started.elapsed().as_secs_f64();
    node(&mut of_node);
    let told: serde_json::Value = serde_json::from_str(&used.output).unwrap();
    assert!(told["valid"] == true && told["checked"]["signatures"] == rows, "{told:#}");
    let rate = rows as f64 / seconds;
    let cpu_us = used.cpu.as_secs_f64() * 1e6 / rows as f64;
    table.add("events: verified", seconds, "s");
    table.add("events: rate", rate, "rows/s");
    table.add("events: CPU per row", cpu_us, "µs");
    table.add("events: peak memory", used.peak_kib as f64 / 1024.0, "MiB");
    let cores = std::thread::available_parallelism().unwrap().get() as f64;
    for (rates, keys) in of_node.iter().zip(["key read from PEM for each row", "key read once"]) {
        let mean = |of: fn(&Rates) -> f64| rates.iter().map(of).sum::<f64>() / rates.len() as f64;
        let (node_rate, node_us) = (mean(|it| it.per_second), mean(|it| it.cpu_us));
        let part = format!("first {} rows", rows.min(ROWS_OF_NODE));
        table.add(format!("events: Node.js, {keys}, {part}"), node_rate, "rows/s");
        table.add(format!("events: Node.js, {keys}, CPU per row"), node_us, "µs");
        table.ratio(&format!("events: our rate ÷ Node.js, {keys}"), rate / node_rate, "≥ 20");
        let idle = node_us * cores / cpu_us;
        table.ratio(&format!("events: by CPU on {cores} idle cores, {keys}"), idle, "≥ 20");
    }
}

/// What Node.js came to in one run.
struct Rates {
    per_second: f64,
    /// CPU per row in µs, its start included.
    cpu_us: f64,
}

fn by_node(file: &Path, signers: &Path, rows: u64, keys: &str) -> Rates {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/writers/verify.mjs");
    let mut node = Command::new("node");
    node.args([script, "shared"]).arg(file).arg(signers).args([&rows.to_string(), keys]);
    let output = node.stderr(Stdio::inherit()).output().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["rows"], rows);
    let number = |name: &str| told[name].as_f64().unwrap();
    Rates { per_second: rows as f64 / number("seconds"), cpu_us: number("cpu") * 1e6 / rows as f64 }
}

/// Canonical members are put down in the order in which that writer hashes them: array indices first.
fn write(file: &Path, signers: &Path, rows: u64) {
    let key = Ed25519KeyPair::generate().unwrap();
    let raw = <[u8; 32]>::try_from(key.public_key().as_ref()).unwrap();
    let pem = PublicKey::from_ed25519_raw(&raw).unwrap().to_pem();
    let entry = serde_json::json!({ "signer_kid": KID, "algorithm": "ed25519", "public_key_pem": pem });
    std::fs::write(signers, serde_json::json!({ "signers": [entry] }).to_string()).unwrap();
    let mut out = BufWriter::with_capacity(1 << 20, std::fs::File::create(file).unwrap());
    let mut previous = vec!["null".to_owned(); usize::try_from(ACTORS).unwrap()];
    let (mut canonical, mut row) = (String::new(), String::new());
    for number in 0..rows {
        let actor = number % ACTORS;
        let before = &mut previous[usize::try_from(actor).unwrap()];
        let ts = Timestamp::from_unix_ms(START_MS + i64::try_from(number).unwrap() * 100).unwrap();
        let amount = number as f64 / 8.0;
        canonical.clear();
        write!(
            canonical,
            "{{\"actor_id\":\"actor-{actor}\",\"created_at\":\"{ts}\",\"event_type\":\"order.paid\",\"payload\":\
             {{\"9\":\"nine\",\"10\":\"ten\",\"amount\":{amount},\"nested\":{{\"a\":\"row {number}\",\
             \"b\":[true,null,\"é\",\"<&>\"]}},\"order\":{number}}},\"prev_hash\":{before}}}"
        )
        .unwrap();
        let hash = Hash::of(&[canonical.as_bytes()]);
        let signature = STANDARD.encode(key.sign(&hash.0));
        row.clear();
        // As a row of the table is exported: other order, other white space.
        writeln!(
            row,
            "{{\"id\":\"00000000-0000-4000-8000-{number:012x}\",\"event_type\":\"order.paid\",\"payload\":{{\"order\":\
             {number},\"10\":\"ten\",\"9\":\"nine\",\"amount\":{amount},\"nested\":{{\"b\":[true, null, \"é\", \"<&>\"],\
             \"a\":\"row {number}\"}}}},\"prev_hash\":{before},\"actor_id\":\"actor-{actor}\",\"hash\":\"{hash}\",\
             \"created_at\":\"{ts}\",\"signature\":\"{signature}\",\"signer_kid\":\"{KID}\"}}"
        )
        .unwrap();
        out.write_all(row.as_bytes()).unwrap();
        *before = format!("\"{hash}\"");
    }
    out.flush().unwrap();
}
