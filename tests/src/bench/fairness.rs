//! One service that asks ten times as often as it may, beside one that asks as it always does.

use std::sync::Arc;
use std::time::Duration;

use chancery_tests::rig::{Daemon, World, WorldOptions, wire};
use tokio::runtime::Runtime;

use crate::load::Paced;
use crate::service::{options, single};
use crate::table::{Table, median};

const NOISY: &str = "spiffe://test.example/service/noisy";
/// What the noisy service may ask for in a second.
const RATE: u64 = 200;
const CALLERS: u64 = 8;
const ROUNDS: usize = 5;

/// The quiet service's p99, the noisy one at its rate and at ten times of it, over the same key.
pub(crate) fn fairness(runtime: &Runtime, table: &mut Table, seconds: Duration) {
    let more = format!(
        "\n[[principals]]\nname = \"{NOISY}\"\nkids = [\"ed\"]\noperations = [\"sign\"]\n\
         rate_per_second = {RATE}\nburst = {RATE}\n"
    );
    let options = WorldOptions { more: options("always").more + &more, ..options("always") };
    let world = World::new(&options);
    let noisy = world.authority.client(world.folder(), "noisy", 77, NOISY);
    let _daemon = Daemon::start(&world);
    let service = |identity, a_second: u64| Paced {
        port: world.service_port,
        tls: wire::tls(&world, Some(identity)),
        path: "/v1/sign",
        callers: CALLERS,
        pace: Duration::from_secs(CALLERS) / u32::try_from(a_second).unwrap(),
        body: Arc::clone(&single("ed")),
    };
    let beside = |times: u64| {
        runtime.block_on(async {
            let noise = tokio::spawn(service(&noisy, RATE * times).run(seconds));
            let quiet = service(&world.orders, RATE).run(seconds).await;
            (quiet.percentile(0.99), noise.await.unwrap().rate())
        })
    };
    let (mut at_rate, mut above, mut served) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        at_rate.push(beside(1).0);
        let (p99, rate) = beside(10);
        above.push(p99);
        served.push(rate);
    }
    let (at_rate, above) = (median(at_rate), median(above));
    table.add("a service beside one at its rate, p99", at_rate, "ms");
    table.add("a service beside one at ten times its rate, p99", above, "ms");
    table.add("the other at ten times its rate, served", median(served), "requests/s");
    table.ratio("p99 beside one at ten times its rate ÷ at its rate", above / at_rate, "≤ 1.2");
}
