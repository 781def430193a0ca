//! The real daemon under load: software keys, and SoftHSM2 through PKCS#11.

use std::sync::Arc;
use std::time::Duration;

use chancery_tests::rig::{Daemon, World, WorldOptions, wire};
use tokio::runtime::Runtime;

use crate::load::{Body, Load, drive, drive_turns};
use crate::table::Table;

/// Quiet enough that archiving and checkpoints run as in production.
pub(crate) fn options(intents: &'static str) -> WorldOptions {
    WorldOptions {
        ledger: "checkpoint_interval_ms = 1000\nreserve_bytes = 1048576\n".into(),
        archive: "kind = \"directory\"\ndirectory = \"{dir}/archive\"\nepoch_interval_ms = 10000\n\
                  lag_entries_max = 100000000\n"
            .into(),
        intents,
        // One address makes every connection here; the bounds against floods are not what is measured.
        more: "\n[limits]\nhandshakes_per_address_per_second = 100000\nconnections_per_address_max = 4096\n"
            .into(),
        ..WorldOptions::default()
    }
}

pub(crate) fn digest(caller: u64, turn: u64) -> String {
    format!("{caller:032x}{turn:032x}")
}

pub(crate) fn single(kid: &'static str) -> Body {
    Arc::new(move |caller, turn| {
        format!(
            "{{\"kid\":\"{kid}\",\"digest\":\"{}\",\"digestAlgorithm\":\"sha256\"}}",
            digest(caller, turn)
        )
    })
}

fn batch(kid: &'static str) -> Body {
    Arc::new(move |caller, turn| {
        let item = |number| {
            format!(
                "{{\"kid\":\"{kid}\",\"digest\":\"{}\",\"digestAlgorithm\":\"sha256\"}}",
                digest(caller, turn << 16 | number)
            )
        };
        let items: Vec<String> = (0..256).map(item).collect();
        format!("{{\"items\":[{}]}}", items.join(","))
    })
}

/// A daemon and how long to measure it.
pub(crate) struct Bench<'a> {
    pub(crate) runtime: &'a Runtime,
    pub(crate) world: &'a World,
    pub(crate) daemon: &'a Daemon,
    pub(crate) seconds: Duration,
}

impl Bench<'_> {
    pub(crate) fn load(&self, path: &'static str, callers: u64, body: Body) -> Load {
        let tls = wire::tls(self.world, Some(&self.world.orders));
        self.runtime.block_on(drive(self.world.service_port, tls, path, callers, self.seconds, body))
    }

    pub(crate) fn point(&self, table: &mut Table, name: &str, path: &'static str, callers: u64, body: Body) {
        let before = self.daemon.cpu();
        let load = self.load(path, callers, body);
        let cpu = (self.daemon.cpu() - before).as_secs_f64() * 1e6 / load.requests as f64;
        table.add(format!("{name}, {callers} callers, rate"), load.rate(), "requests/s");
        table.add(format!("{name}, {callers} callers, p50"), load.percentile(0.50), "ms");
        table.add(format!("{name}, {callers} callers, p99"), load.percentile(0.99), "ms");
        table.add(format!("{name}, {callers} callers, server CPU"), cpu, "µs/request");
    }
}

/// One point and nothing else, for a profiler: software Ed25519 at this many callers.
pub(crate) fn point(runtime: &Runtime, table: &mut Table, seconds: Duration, callers: u64) {
    let world = World::new(&options("skip"));
    let daemon = Daemon::start(&world);
    let bench = Bench { runtime, world: &world, daemon: &daemon, seconds };
    bench.point(table, "software Ed25519", "/v1/sign", callers, single("ed"));
}

/// Software Ed25519 in every shape: alone, loaded, in batches, with intents, and without a disk.
pub(crate) fn software(runtime: &Runtime, table: &mut Table, seconds: Duration) {
    let world = World::new(&options("skip"));
    let daemon = Daemon::start(&world);
    let bench = Bench { runtime, world: &world, daemon: &daemon, seconds };
    for callers in [1, 16, 64, 128, 256] {
        bench.point(table, "software Ed25519", "/v1/sign", callers, single("ed"));
    }
    let tls = wire::tls(&world, Some(&world.orders));
    let load = runtime.block_on(drive(world.service_port, tls, "/v1/sign/batch", 4, seconds, batch("ed")));
    table.add("software Ed25519, batch of 256, rate", load.rate() * 256.0, "signs/s");
    let event = Arc::new(|caller, turn| {
        format!("{{\"eventType\":\"order.paid\",\"payload\":{{\"order\":{turn},\"caller\":{caller}}}}}")
    });
    bench.point(table, "events", "/v1/events", 64, event);
    bench.point(table, "software P-256", "/v1/sign", 64, single("p256"));
    drop(daemon);

    let world = World::new(&options("always"));
    let daemon = Daemon::start(&world);
    let bench = Bench { runtime, world: &world, daemon: &daemon, seconds };
    for callers in [1, 128] {
        bench.point(table, "software Ed25519 with intents", "/v1/sign", callers, single("ed"));
    }
    drop(daemon);

    // What the disk costs: the same daemon with its ledger in memory, where a sync is free.
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let world =
        World::new(&WorldOptions { ledger_directory: Some(memory.path().join("ledger")), ..options("skip") });
    let daemon = Daemon::start(&world);
    Bench { runtime, world: &world, daemon: &daemon, seconds }.point(
        table,
        "software Ed25519 on tmpfs",
        "/v1/sign",
        128,
        single("ed"),
    );
}

/// Highest resident memory on the way to each size, until the ledger has `entries`: events in batches of
/// 256 from 4 callers.
pub(crate) fn memory(runtime: &Runtime, table: &mut Table, entries: u64) {
    let often = |archive: String| archive.replace("10000\n", "500\n");
    // Archiving takes part from the first hundred thousand entries on.
    let usual = options("skip");
    let world = World::new(&WorldOptions { archive: often(usual.archive.clone()), ..usual });
    let daemon = Daemon::start(&world);
    let mut size = 0u64;
    let (mut lowest, mut highest) = (f64::MAX, 0f64);
    for milestone in [100_000, 200_000, 500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000] {
        if milestone > entries {
            break;
        }
        let batches = (milestone - size).div_ceil(256 * 4);
        let tls = wire::tls(&world, Some(&world.orders));
        runtime.block_on(drive_turns(world.service_port, tls, "/v1/events/batch", 4, batches, events()));
        size += batches * 256 * 4;
        let resident = daemon.peak_kib() as f64 / 1024.0;
        table.add(format!("daemon memory at {milestone} entries"), resident, "MiB");
        (lowest, highest) = (lowest.min(resident), highest.max(resident));
    }
    table.add("daemon memory, highest ÷ lowest", highest / lowest, "");
}

/// A batch of 256 small events.
fn events() -> Body {
    Arc::new(|caller, turn| {
        let item = |number| {
            format!(
                "{{\"eventType\":\"order.paid\",\"payload\":{{\"order\":{}}}}}",
                turn << 16 | caller << 8 | number
            )
        };
        let items: Vec<String> = (0..256).map(item).collect();
        format!("{{\"items\":[{}]}}", items.join(","))
    })
}
