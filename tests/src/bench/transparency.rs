//! What transparency costs the way of a signature: checkpoints with their second opinion, and the heads of all streams and
//! keys, against a daemon that makes none of them while it is measured. One after the other, in turns, and the ratio is that
//! of neighbours: so that a machine that drifts favours nobody.

use std::time::Duration;

use chancery_tests::rig::{Daemon, World, WorldOptions};
use tokio::runtime::Runtime;

use crate::service::{Bench, options, single};
use crate::table::{Table, median};

const CALLERS: u64 = 128;
const TURNS: usize = 9;

/// As fast as it is configured to be: every second a checkpoint, and a map of heads.
const ON: &str = "checkpoint_interval_ms = 1000\nheads_interval_ms = 1000\nreserve_bytes = 1048576\n";
/// The first checkpoint after the start, and none within a measurement.
const OFF: &str = "checkpoint_interval_ms = 60000\nheads_interval_ms = 3600000\nreserve_bytes = 1048576\n";

pub(crate) fn cost(runtime: &Runtime, table: &mut Table, seconds: Duration) {
    let seconds = seconds.max(Duration::from_secs(3));
    let rate = |ledger: &str| {
        let world = World::new(&WorldOptions { ledger: ledger.to_owned(), ..options("skip") });
        let daemon = Daemon::start(&world);
        Bench { runtime, world: &world, daemon: &daemon, seconds }
            .load("/v1/sign", CALLERS, single("ed"))
            .rate()
    };
    let (mut on, mut off, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..TURNS {
        // Whoever comes second finds what the first one left to be written back.
        let (with, without) = if turn % 2 == 0 {
            let with = rate(ON);
            (with, rate(OFF))
        } else {
            let without = rate(OFF);
            (rate(ON), without)
        };
        on.push(with);
        off.push(without);
        ratios.push(with / without);
    }
    table.add("signing, a checkpoint and a map of heads every second", median(on), "requests/s");
    table.add("signing, neither of them", median(off), "requests/s");
    let name = "signing with checkpoints, second opinion and heads ÷ without";
    table.ratio(name, median(ratios), "≥ 0.95");
}
