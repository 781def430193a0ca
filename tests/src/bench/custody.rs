//! Every backend beside the bare rate of its device, and a broken one beside a good one.

use std::time::{Duration, Instant};

use chancery_format::SignatureAlgorithm;
use chancery_tests::rig::{Daemon, KmsAccount, World, WorldOptions, random_word, wire, write_secret};
use chancery_tests::servers::{Fault, FaultProxy, ObjectStore};
use chancery_yubihsm::testing::{AUTH_KEY_ID, YubiHsmDouble};
use tokio::runtime::Runtime;

use crate::bare;
use crate::load::{Load, drive, drive_beside};
use crate::service::{Bench, options, single};
use crate::table::{Table, median};

/// Callers that keep every session of a device busy.
const SATURATING: u64 = 32;
/// One signature of the YubiHSM's double; the real one takes 70 ms for P-256.
const YUBIHSM_TIME: Duration = Duration::from_millis(20);
const YUBIHSM_SESSIONS: usize = 4;
/// To a region nearby and back, with the signature.
const KMS_DISTANCE: Duration = Duration::from_millis(25);

/// A world with a YubiHSM and the key `yubi` in it.
fn with_yubihsm(intents: &'static str) -> (YubiHsmDouble, World) {
    let password = random_word();
    let double = YubiHsmDouble::start(&password).unwrap();
    let tables = format!(
        "\n[[backends]]\nname = \"yubi\"\nkind = \"yubihsm\"\nconnector = \"http://{}\"\n\
         auth_key_id = {AUTH_KEY_ID}\npassword_file = \"{{dir}}/yubi.password\"\nsessions = {YUBIHSM_SESSIONS}\n\
         timeout_ms = 1000\nforce_audit = \"ignore\"\n\n[[keys]]\nkid = \"yubi\"\nsigner_kid = \"yubi-v1\"\n\
         backend = \"yubi\"\nalgorithm = \"ecdsa-p256-sha256\"\npurpose = \"test\"\n",
        double.address()
    );
    let world = World::with_backend(&options(intents), &["yubi"], &tables);
    write_secret(&world.path("yubi.password"), &password);
    world.initialise();
    double.set_key_use_delay(YUBIHSM_TIME);
    (double, world)
}

/// Whether a device computes elsewhere, or on the CPUs that everything else here needs as well.
#[derive(Clone, Copy, PartialEq)]
enum Computes {
    Elsewhere,
    Here,
}

/// Turns of a device alone and through the daemon; what is told of each is the middle one.
const TURNS: usize = 5;

/// Through the daemon, at saturation, and the device alone just before, in turns: a machine that others share
/// is faster at one moment than at another.
fn beside(
    table: &mut Table,
    bench: &Bench<'_>,
    (name, kid): (&str, &'static str),
    computes: Computes,
    bare: impl Fn() -> f64,
) {
    let (mut alone, mut through, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let (bare, reached) = (bare(), bench.load("/v1/sign", SATURATING, single(kid)));
        alone.push(bare);
        ratios.push(reached.rate() / bare);
        through.push(reached);
    }
    table.add(format!("{name}, bare device, rate"), median(alone), "signs/s");
    let of_each = |figure: fn(&Load) -> f64| median(through.iter().map(figure).collect());
    table.add(format!("{name}, {SATURATING} callers, rate"), of_each(Load::rate), "requests/s");
    table.add(format!("{name}, {SATURATING} callers, p50"), of_each(|load| load.percentile(0.50)), "ms");
    table.add(format!("{name}, {SATURATING} callers, p99"), of_each(|load| load.percentile(0.99)), "ms");
    let aim = if computes == Computes::Elsewhere { "≥ 0.9" } else { "- (computes on our CPUs)" };
    table.ratio(&format!("{name} ÷ its bare rate"), median(ratios), aim);
}

/// SoftHSM2 by one session, so that a core is left for the rest, and by as many as there are cores.
fn softhsm(runtime: &Runtime, table: &mut Table, seconds: Duration) {
    let one: &[_] = &[("SoftHSM2 RSA-3072, one session", "hsm-rsa", Computes::Elsewhere)];
    let two: &[_] =
        &[("SoftHSM2 P-256", "hsm-p256", Computes::Here), ("SoftHSM2 Ed25519", "hsm-ed", Computes::Here)];
    for (sessions, rows) in [(1, one), (2, two)] {
        let world = World::with_softhsm(&WorldOptions { softhsm_sessions: sessions, ..options("always") });
        let daemon = Daemon::start(&world);
        let bench = Bench { runtime, world: &world, daemon: &daemon, seconds };
        for (name, kid, computes) in rows {
            let label = format!("{kid}-v1");
            let bare = || bare::softhsm(&world, &label, sessions, seconds);
            beside(table, &bench, (name, kid), *computes, bare);
        }
    }
}

/// A KMS as far away as the nearest region, and on this machine.
fn kms(runtime: &Runtime, table: &mut Table, seconds: Duration) {
    let near = KmsAccount::new(ObjectStore::MiniStack);
    let algorithm = SignatureAlgorithm::EcdsaP256Sha256;
    let arn = near.make_key(algorithm);
    let network = FaultProxy::start(near.address).unwrap();
    network.rule(|_| Fault::Delay(KMS_DISTANCE));
    let far = KmsAccount::at(network.address());
    for (name, account, calls, computes) in [
        ("KMS (MiniStack), 25 ms away, P-256", &far, 4, Computes::Elsewhere),
        ("KMS (MiniStack), here, P-256", &near, 16, Computes::Here),
    ] {
        let tables = account.tables(calls, &[("kms", &arn, algorithm)]);
        let mut world = World::with_backend(&options("always"), &["kms"], &tables);
        account.lend(&mut world);
        world.initialise();
        let daemon = Daemon::start(&world);
        let bench = Bench { runtime, world: &world, daemon: &daemon, seconds };
        let bare = || bare::kms(account, &arn, calls, seconds);
        beside(table, &bench, (name, "kms"), computes, bare);
    }
}

/// A device with time of its own for each signature.
fn yubihsm(runtime: &Runtime, table: &mut Table, seconds: Duration) {
    let (double, world) = with_yubihsm("always");
    // Once, before the daemon: later it would see in the device's log that its keys are used by another, and halt them.
    let bare = bare::yubihsm(&double, &world.path("yubi.password"), "yubi-v1", YUBIHSM_SESSIONS, seconds);
    let daemon = Daemon::start(&world);
    let bench = Bench { runtime, world: &world, daemon: &daemon, seconds };
    let name = ("YubiHSM double, 20 ms, P-256", "yubi");
    beside(table, &bench, name, Computes::Elsewhere, || bare);
}

/// Every backend.
pub(crate) fn backends(runtime: &Runtime, table: &mut Table, seconds: Duration) {
    softhsm(runtime, table, seconds);
    yubihsm(runtime, table, seconds);
    kms(runtime, table, seconds);
}

/// The software key's p99 while another key's device works, is stuck, and is gone. The callers of the other
/// key come at their own pace, the same in all three.
pub(crate) fn isolation(runtime: &Runtime, table: &mut Table, seconds: Duration) {
    const ROUNDS: usize = 5;
    let (double, world) = with_yubihsm("skip");
    double.set_key_use_delay(Duration::from_millis(10));
    let _daemon = Daemon::start(&world);
    let measure = || {
        let tls = wire::tls(&world, Some(&world.orders));
        let load =
            drive_beside(world.service_port, tls, "/v1/sign", 16, seconds, single("ed"), single("yubi"));
        runtime.block_on(load).percentile(0.99)
    };
    let (mut working, mut stuck) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        double.set_delay(Duration::ZERO);
        // The breaker closes again.
        std::thread::sleep(Duration::from_secs(3));
        working.push(measure());
        double.set_delay(Duration::from_secs(3600));
        stuck.push(measure());
    }
    drop(double);
    let gone = (0..ROUNDS).map(|_| measure()).collect();
    let (working, stuck, gone) = (median(working), median(stuck), median(gone));
    table.add("software key beside a working device, p99", working, "ms");
    table.add("software key beside a stuck device, p99", stuck, "ms");
    table.add("software key beside a device that is gone, p99", gone, "ms");
    table.ratio("p99 beside a stuck device ÷ beside a working one", stuck / working, "≤ 1.1");
    table.ratio("p99 beside a device that is gone ÷ beside a working one", gone / working, "≤ 1.1");
    let tls = wire::tls(&world, Some(&world.orders));
    let after = runtime.block_on(drive(world.service_port, tls, "/v1/sign", 16, seconds, single("ed")));
    table.add("software key, nobody beside it, p99", after.percentile(0.99), "ms");
}

/// From the start of the process to its first answer, with ten thousand registered keys.
pub(crate) fn ten_thousand_keys(table: &mut Table) {
    let key = |number: usize| {
        format!(
            "\n[[keys]]\nkid = \"many-{number}\"\nsigner_kid = \"many-{number}-v1\"\nbackend = \"software\"\n\
             algorithm = \"ed25519\"\npurpose = \"test\"\n"
        )
    };
    let tables: String = (0..10_000).map(key).collect();
    let world = World::with_backend(&options("always"), &[], &tables);
    world.initialise();
    for what in ["10,000 keys, first start", "10,000 keys, every later start"] {
        let started = Instant::now();
        let daemon = Daemon::start(&world);
        table.add(what, started.elapsed().as_secs_f64(), "s");
        drop(daemon);
    }
    let later = table.get("10,000 keys, every later start");
    table.ratio("10,000 keys: seconds to readiness ÷ 5", later / 5.0, "≤ 1");
}
