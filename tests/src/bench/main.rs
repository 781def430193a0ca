//! `make bench`: what the real thing reaches, beside ceilings measured in the same run.
//!
//! Rates of one machine drift by a factor of two within the hour, so everything that matters is a ratio
//! within one run. Prints one table and leaves the same figures in `target/bench.json`.
//! `CHANCERY_BENCH_SECONDS` sets the length of one point (2), `CHANCERY_BENCH_ENTRIES` the size of the
//! verified ledger (1,000,000), `CHANCERY_BENCH_ROWS` that of the verified chain of another writer (1,000,000),
//! `CHANCERY_BENCH_GROWTH` that of the ledger whose daemon's memory is watched
//! (10,000,000; it takes 8 GB of disk for some minutes). Arguments name the parts to run, all without:
//! `cryptography`, `ledger`, `echo`, `device`, `software`, `transparency`, `anchored`, `backends`, `isolation`, `keys`,
//! `verification`, `events`, `memory`; `point` alone is one point at `CHANCERY_BENCH_CALLERS` (128), for a profiler.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a benchmark reports by panicking; figures are shown, not computed with"
)]

mod anchored;
mod bare;
mod ceilings;
mod custody;
mod events;
mod fairness;
mod load;
mod policies;
mod report;
mod service;
mod table;
mod transparency;
mod verification;

use std::time::Duration;

use table::Table;

const PARTS: [&str; 15] = [
    "cryptography",
    "ledger",
    "echo",
    "device",
    "software",
    "transparency",
    "anchored",
    "backends",
    "isolation",
    "fairness",
    "policies",
    "keys",
    "verification",
    "events",
    "memory",
];

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() {
    let seconds = Duration::from_secs(number("CHANCERY_BENCH_SECONDS", 2));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    std::fs::create_dir_all("target").unwrap();
    let mut table = Table::new();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [part, rest @ ..] = arguments.as_slice()
        && part == "bare-pkcs11"
    {
        return bare::pkcs11(rest);
    }
    let chosen = arguments;
    if chosen == ["point"] {
        return service::point(&runtime, &mut table, seconds, number("CHANCERY_BENCH_CALLERS", 128));
    }
    for part in PARTS {
        if !chosen.is_empty() && !chosen.iter().any(|name| name == part) {
            continue;
        }
        match part {
            "cryptography" => ceilings::primitives(&mut table),
            "ledger" => runtime.block_on(ceilings::ledger_alone(&mut table, seconds)),
            "echo" => runtime.block_on(ceilings::echo(&mut table, seconds)),
            "device" => runtime.block_on(ceilings::slow_device(&mut table, seconds)),
            "software" => service::software(&runtime, &mut table, seconds),
            "transparency" => transparency::cost(&runtime, &mut table, seconds),
            "anchored" => anchored::anchored(&runtime, &mut table, seconds),
            "backends" => custody::backends(&runtime, &mut table, seconds),
            "isolation" => custody::isolation(&runtime, &mut table, seconds),
            "fairness" => fairness::fairness(&runtime, &mut table, seconds),
            "policies" => policies::policies(&mut table),
            "keys" => custody::ten_thousand_keys(&mut table),
            "verification" => {
                verification::million(&runtime, &mut table, number("CHANCERY_BENCH_ENTRIES", 1_000_000));
            }
            "events" => events::chain(&mut table, number("CHANCERY_BENCH_ROWS", 1_000_000)),
            // Last: gigabytes are written back for a while.
            _ => service::memory(&runtime, &mut table, number("CHANCERY_BENCH_GROWTH", 10_000_000)),
        }
    }
    table.ratios();
    table.finish();
}
