//! The daemon when its store is away: it goes on signing, catches up, and loses nothing; and it closes
//! when the archive is further behind than the operator allows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chancery_tests::rig::{Daemon, World, evidence, wait_for};
use chancery_tests::servers::{Fault, FaultProxy, RequestHead};

use crate::appliance::{self, Auditor, Callers, EPOCH_MS, Told, sign, stop_archived, wait_for_epochs};
use crate::rig::Rig;

/// Five minutes where an epoch takes ten seconds are thirty epochs.
const OUTAGE: Duration = Duration::from_millis(30 * EPOCH_MS);

on_each!(
    an_outage_delays_the_archive_and_nothing_else,
    a_daemon_stopped_in_an_outage_finishes_its_epoch_later,
    too_many_unarchived_entries_close_admission,
    too_old_unarchived_entries_close_admission,
);

fn failures(daemon: &Daemon) -> u64 {
    daemon.metric("chancery_archive_failures_total")
}

/// Waits until so many further epochs have failed.
fn wait_for_failures(daemon: &Daemon, more: u64) {
    let enough = failures(daemon) + more;
    wait_for("failed epochs", || (failures(daemon) >= enough).then_some(()));
}

/// What `/readyz` says about the archive.
fn archive_check(daemon: &Daemon) -> serde_json::Value {
    let (_, body) = daemon.ops("/readyz").unwrap();
    let report: serde_json::Value = serde_json::from_str(&body).unwrap();
    let checks = report["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == "archive").unwrap().clone()
}

fn an_outage_delays_the_archive_and_nothing_else(rig: &Rig) {
    let mut proxy = rig.proxy();
    let world = Arc::new(appliance::world(rig, &proxy, ""));
    let daemon = Daemon::start(&world);
    let callers = Callers::start(&world);
    wait_for_epochs(&daemon, 2);

    let began = Instant::now();
    proxy.refuse_connections();
    wait_for_failures(&daemon, 1);
    let (epochs, told) = (daemon.metric("chancery_archive_epochs"), callers.told());
    wait_for_failures(&daemon, 1);
    proxy.all(Fault::Reply(503, "SlowDown"));
    proxy.listen().unwrap();
    wait_for_failures(&daemon, 1);
    proxy.all(Fault::Hang);
    wait_for("the end of the outage", || (began.elapsed() >= OUTAGE).then_some(()));
    callers.go_on_for(100);
    let missed = callers.told() - told;
    wait_for("the lag to show", || (daemon.metric("chancery_archive_lag_entries") >= missed).then_some(()));
    assert_eq!(daemon.metric("chancery_archive_epochs"), epochs, "nothing was archived meanwhile");
    let check = archive_check(&daemon);
    assert_eq!(check["ok"], true, "within its bounds: {check}");
    assert!(check["detail"].as_str().unwrap().contains("unavailable"), "{check}");
    // Not at this very moment: a busy machine may be late with a checkpoint, which is no fault of the archive's.
    wait_for("readiness, with the archive away", || (daemon.ops("/readyz").unwrap().0 == 200).then_some(()));

    proxy.all(Fault::Pass);
    wait_for_epochs(&daemon, epochs + 2);
    callers.go_on_for(20);
    let told = callers.stop();
    stop_archived(daemon);
    let (code, report) = Auditor::of(rig, &world).verify();
    assert_eq!((code, &report["valid"]), (0, &true.into()), "{report:#}");
    assert_eq!(report["findings"], serde_json::json!([]));
    let covered = |index: usize| index < report["checked"]["entries"].as_u64().unwrap() as usize;
    assert!(told.iter().all(|told| covered(told.index)), "{report:#}");
    assert_archived(rig, &world, &told);
}

/// Every signature that was handed out is in the bucket, once, where its receipt says.
fn assert_archived(rig: &Rig, world: &World, told: &[Told]) {
    let copy = world.path("mirror");
    appliance::mirror(rig, &copy);
    let leaves = evidence::leaves(&copy, &world.registry());
    for told in told {
        let leaf = String::from_utf8_lossy(&leaves[told.index]);
        let named = |member: &str, value: &str| leaf.contains(&format!("\"{member}\":\"{value}\""));
        assert!(named("id", &told.id) && named("signature", &told.signature), "{told:?} is not in {leaf}");
    }
    let counts = evidence::count_chained(&leaves);
    assert_eq!(counts["signing.signature.issued"], told.len() as u64, "{counts:?}");
}

fn a_daemon_stopped_in_an_outage_finishes_its_epoch_later(rig: &Rig) {
    let mut proxy = rig.proxy();
    let world = appliance::world(rig, &proxy, "");
    let auditor = Auditor::of(rig, &world);
    let mut daemon = Daemon::start(&world);
    wait_for_epochs(&daemon, 1);
    let of_checkpoint = |head: &RequestHead| head.method == "PUT" && head.target.contains("checkpoint/");
    proxy.rule(move |head| if of_checkpoint(head) { Fault::Close } else { Fault::Pass });
    let told: Vec<_> = (0..5).map(|number| Told::by(&sign(&world, number))).collect();
    wait_for_failures(&daemon, 1);
    let found = auditor.finds(3);
    assert!(found.iter().all(|found| found.starts_with("uncovered-file tile/entries/000.p/")), "{found:?}");
    assert!(daemon.stop().success(), "an epoch that is not shipped is no reason to fail");

    proxy.refuse_connections();
    daemon = Daemon::spawn(&world);
    assert_eq!(daemon.wait().code(), Some(4), "waiting may help: {}", daemon.log_tail());
    restore(&mut proxy);
    daemon = Daemon::start(&world);
    stop_archived(daemon);
    assert_eq!(auditor.finds(0), [""; 0]);
    assert_archived(rig, &world, &told);
}

fn too_many_unarchived_entries_close_admission(rig: &Rig) {
    admission_closes_and_opens(rig, "lag_entries_max = 30\n");
}

fn too_old_unarchived_entries_close_admission(rig: &Rig) {
    admission_closes_and_opens(rig, "lag_age_ms_max = 2000\n");
}

fn admission_closes_and_opens(rig: &Rig, bounds: &str) {
    let mut proxy = rig.proxy();
    let world = appliance::world(rig, &proxy, bounds);
    let daemon = Daemon::start(&world);
    wait_for_epochs(&daemon, 1);
    proxy.refuse_connections();
    let mut numbers = 0..;
    let mut sign_next = || sign(&world, numbers.next().unwrap());
    let refused = wait_for("a refusal", || Some(sign_next()).filter(|reply| reply.status != 200));
    assert_eq!((refused.status, refused.code().as_str()), (503, "archive-lag"), "{}", refused.body);
    assert_eq!(refused.header("retry-after"), Some("10"));
    assert_eq!(daemon.ops("/readyz").unwrap().0, 503);
    assert_eq!(archive_check(&daemon)["ok"], false);
    assert_eq!(sign_next().code(), "archive-lag", "as long as the store is away");

    restore(&mut proxy);
    wait_for("a signature", || Some(sign_next()).filter(|reply| reply.status == 200));
    wait_for("readiness", || (daemon.ops("/readyz")?.0 == 200).then_some(()));
    stop_archived(daemon);
    assert_eq!(Auditor::of(rig, &world).finds(0), [""; 0]);
}

fn restore(proxy: &mut FaultProxy) {
    proxy.all(Fault::Pass);
    proxy.listen().unwrap();
}
