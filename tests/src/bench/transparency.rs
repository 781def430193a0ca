//! What transparency costs the way of a signature: checkpoints with their second opinion, and the heads of all streams and
//! keys, against a daemon that makes none of them while it is measured. Turns, so that a drifting machine favours nobody.

use std::time::Duration;

use chancery_tests::rig::{Daemon, World, WorldOptions};
use tokio::runtime::Runtime;

use crate::service::{Bench, options, single};
use crate::table::Table;

const CALLERS: u64 = 128;
const TURNS: usize = 5;

/// As fast as it is configured to be: every second a checkpoint, and a map of heads.
const ON: &str = "checkpoint_interval_ms = 1000\nheads_interval_ms = 1000\nreserve_bytes = 1048576\n";
/// The first checkpoint after the start, and none within a measurement.
const OFF: &str = "checkpoint_interval_ms = 60000\nheads_interval_ms = 3600000\nreserve_bytes = 1048576\n";

pub(crate) fn cost(runtime: &Runtime, table: &mut Table, seconds: Duration) {
    let seconds = seconds.max(Duration::from_secs(3));
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..TURNS {
        for (rates, ledger) in rates.iter_mut().zip([ON, OFF]) {
            let world = World::new(&WorldOptions { ledger: ledger.to_owned(), ..options("skip") });
            let daemon = Daemon::start(&world);
            let bench = Bench { runtime, world: &world, daemon: &daemon, seconds };
            rates.push(bench.load("/v1/sign", CALLERS, single("ed")).rate());
        }
    }
    let [on, off] = rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    });
    table.add("signing, a checkpoint and a map of heads every second", on, "requests/s");
    table.add("signing, neither of them", off, "requests/s");
    table.ratio("signing with checkpoints, second opinion and heads ÷ without", on / off, "≥ 0.95");
}
