//! `chanceryd check-ledger` on a bucket: what is sound, what was laid over it, what is not locked; and a bucket that lost
//! everything is filled again from the store, as far as signed checkpoints prove it.

use chancery_ledger::Protection;
use chancery_tests::rig::wire::{Ask, call};
use chancery_tests::rig::{Daemon, World, binary};

use crate::appliance::{self, Auditor, stop_archived, wait_for_epochs};
use crate::rig::Rig;

on_each!(
    an_object_is_kept_unlocked_or_overlaid,
    a_bucket_is_held_against_the_store,
    an_empty_bucket_is_filled_again,
    a_bucket_is_followed_as_a_log
);

fn an_object_is_kept_unlocked_or_overlaid(rig: &Rig) {
    let archive = rig.archive();
    archive.put_new("kept", b"1").unwrap();
    assert_eq!(archive.protection("kept", b"1"), Ok(Protection::Kept));
    rig.overwrite("kept", b"1");
    assert_eq!(archive.protection("kept", b"1"), Ok(Protection::Kept), "the same bytes twice change nothing");
    rig.overwrite("kept", b"2");
    assert!(matches!(archive.protection("kept", b"1"), Ok(Protection::Overlaid(_))));
    archive.put_new("hidden", b"1").unwrap();
    rig.delete("hidden");
    assert!(matches!(archive.protection("hidden", b"1"), Ok(Protection::Overlaid(_))));
    rig.overwrite("loose", b"1");
    assert!(matches!(archive.protection("loose", b"1"), Ok(Protection::Unlocked(_))));
}

/// A ledger with a full tile in two epochs at least; the daemon is stopped.
fn archived(rig: &Rig) -> World {
    let proxy = rig.proxy();
    let world = appliance::world(rig, &proxy, "");
    let daemon = Daemon::start(&world);
    wait_for_epochs(&daemon, 1);
    let item = |order: u32| format!("{{\"eventType\":\"order.paid\",\"payload\":{{\"order\":{order}}}}}");
    let items = (0..300).map(item).collect::<Vec<_>>().join(",");
    let ask = Ask::post("/v1/events/batch", format!("{{\"items\":[{items}]}}"));
    assert_eq!(call(&world, Some(&world.orders), &ask).unwrap().status, 201);
    wait_for_epochs(&daemon, 2);
    stop_archived(daemon);
    // The way there ends with this function.
    edit(&world, &proxy.endpoint_url(), &format!("http://{}", rig.address));
    world
}

pub(crate) fn edit(world: &World, from: &str, to: &str) {
    let text = std::fs::read_to_string(world.config_file()).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(world.config_file(), text.replace(from, to)).unwrap();
}

/// Exit code, report, and `kind object` of each finding.
pub(crate) fn check(world: &World, more: &[&str]) -> (i32, serde_json::Value, Vec<String>) {
    let output = world.chanceryd(&[&["check-ledger", "--json"], more, &["--config"]].concat());
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let text = |finding: &serde_json::Value, name: &str| finding[name].as_str().unwrap_or("-").to_owned();
    let findings = report["findings"].as_array().unwrap().iter();
    let found = findings.map(|it| format!("{} {}", text(it, "kind"), text(it, "object"))).collect();
    (output.status.code().unwrap(), report, found)
}

fn a_bucket_is_held_against_the_store(rig: &Rig) {
    let world = archived(rig);
    let (code, report, found) = check(&world, &[]);
    assert_eq!((code, found), (0, Vec::new()), "{report:#}");
    assert!(report["checked"]["objects"].as_u64() > Some(6), "{report:#}");
    assert_eq!(report["checked"]["entries"], report["checked"]["size"]);

    rig.overwrite("tile/entries/000", b"forged");
    rig.delete("tile/0/000");
    rig.overwrite("notes.txt", b"x");
    let (code, _, mut found) = check(&world, &["--repair"]);
    found.sort();
    let expected =
        ["object-foreign notes.txt", "object-overlaid tile/0/000", "object-overlaid tile/entries/000"];
    assert_eq!((code, found.as_slice()), (1, expected.map(str::to_owned).as_slice()));
    assert_eq!(rig.versions("tile/entries/000").len(), 2, "nothing is put over it once more");
}

fn an_empty_bucket_is_filled_again(rig: &Rig) {
    let world = archived(rig);
    edit(&world, "ledger/one/", "ledger/two/");
    let (code, report, found) = check(&world, &[]);
    assert_eq!(code, 1, "{report:#}");
    assert!(!found.is_empty() && found.iter().all(|found| found.starts_with("object-missing ")), "{found:?}");
    let (code, repaired, _) = check(&world, &["--repair"]);
    assert_eq!((code, &repaired["repaired"]), (0, &report["wrong"]), "{repaired:#}");
    assert_eq!(check(&world, &[]).0, 0);
    let auditor = Auditor { location: format!("s3://{}/ledger/two", rig.bucket), ..Auditor::of(rig, &world) };
    assert_eq!(auditor.finds(0), [""; 0], "locked, whole, and signed");
}

/// Straight from the bucket, by plain GETs of what is there; nothing was put for it.
fn a_bucket_is_followed_as_a_log(rig: &Rig) {
    let world = archived(rig);
    let vkey = world.registry().ledger.vkeys.first().unwrap().clone();
    let log = format!("http://{}/{}/ledger/one", rig.address, rig.bucket);
    let copy = world.path("copy");
    let output = std::process::Command::new(binary("chancery"))
        .args(["mirror", "follow", &log, "--vkey", &vkey, "--once", "--json", "--to"])
        .arg(&copy)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let followed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(followed["size"].as_u64() > Some(300), "{followed}");

    // The same by its name, with requests that are signed.
    let auditor = Auditor::of(rig, &world);
    let output = std::process::Command::new(binary("chancery"))
        .args(["mirror", "follow", &auditor.location, "--vkey", &vkey, "--once", "--json", "--to"])
        .arg(world.path("second"))
        .envs(auditor.environment())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let again: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(again["size"], followed["size"]);
}
