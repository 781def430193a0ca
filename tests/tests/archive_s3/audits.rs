//! `chancery-verify` on a bucket that the daemon filled: it accepts what is good, is patient with a store
//! that stumbles, and finds what an attacker with write access did to it, or what the store hides.

use chancery_tests::rig::wire::{Ask, call};
use chancery_tests::rig::{Daemon, World, WorldOptions};
use chancery_tests::servers::Fault;

use crate::appliance::{self, Auditor, stop_archived};
use crate::rig::Rig;

on_each!(
    a_good_bucket_is_valid_and_a_foreign_registry_refused,
    a_store_that_stumbles_hides_or_lies_is_told,
    what_is_laid_over_the_bucket_is_found,
    a_listing_of_many_pages_is_read_to_its_end,
);

const BUNDLE: &str = "tile/entries/000";

/// A ledger with a full tile and a full bundle, archived.
fn archived(rig: &Rig) -> World {
    let proxy = rig.proxy();
    let world = appliance::world(rig, &proxy, "");
    let daemon = Daemon::start(&world);
    let item = |order: u32| format!("{{\"eventType\":\"order.paid\",\"payload\":{{\"order\":{order}}}}}");
    let items = (0..300).map(item).collect::<Vec<_>>().join(",");
    let ask = Ask::post("/v1/events/batch", format!("{{\"items\":[{items}]}}"));
    assert_eq!(call(&world, Some(&world.orders), &ask).unwrap().status, 201);
    assert_eq!(appliance::sign(&world, 1).status, 200);
    stop_archived(daemon);
    world
}

fn a_good_bucket_is_valid_and_a_foreign_registry_refused(rig: &Rig) {
    let world = archived(rig);
    let auditor = Auditor::of(rig, &world);
    let (code, report) = auditor.verify();
    assert_eq!((code, &report["findings"]), (0, &serde_json::json!([])), "{report:#}");
    assert!(report["checked"]["entries"].as_u64() > Some(301), "{report:#}");
    assert_eq!((&report["checked"]["bundles"], &report["checked"]["tiles"]), (&1.into(), &1.into()));

    let other = World::new(&WorldOptions::default());
    assert!(Daemon::start(&other).stop().success());
    let foreign = Auditor { signers: other.path("signers.json"), ..Auditor::of(rig, &world) };
    assert!(foreign.finds(1).iter().any(|found| found.starts_with("checkpoint-invalid ")));

    let elsewhere = Auditor { location: format!("s3://{}/ledger/two", rig.bucket), ..auditor };
    assert_eq!(elsewhere.finds(3), ["no-checkpoint -"]);
    let nowhere = Auditor { location: format!("s3://{}-missing", rig.bucket), ..elsewhere };
    assert!(!nowhere.finds(3).is_empty());
}

fn a_store_that_stumbles_hides_or_lies_is_told(rig: &Rig) {
    let world = archived(rig);
    let mut proxy = rig.proxy();
    let auditor = Auditor { endpoint_url: proxy.endpoint_url(), ..Auditor::of(rig, &world) };
    let mut requests = 0;
    proxy.rule(move |_| {
        requests += 1;
        if requests % 3 == 1 { Fault::Reply(503, "SlowDown") } else { Fault::Pass }
    });
    assert_eq!(auditor.finds(0), [""; 0], "what passes is tried again");

    for (fault, code, kind) in [
        (Fault::Reply(404, "NoSuchKey"), 3, "missing-file"),
        (Fault::CutReply(500), 3, "unreadable-file"),
        (Fault::ReplyXml("forged".into()), 1, "bundle-malformed"),
    ] {
        proxy.rule(move |head| if head.target.contains(BUNDLE) { fault.clone() } else { Fault::Pass });
        let found = auditor.finds(code);
        assert!(found.contains(&format!("{kind} {BUNDLE}")), "{found:?}");
    }

    proxy.refuse_connections();
    assert!(!auditor.finds(3).is_empty(), "a store that is away proves nothing");
}

fn what_is_laid_over_the_bucket_is_found(rig: &Rig) {
    let world = archived(rig);
    let auditor = Auditor::of(rig, &world);
    // The first version is locked: an attacker can only lay something over it.
    let archive = rig.archive();
    let mut forged = archive.get(BUNDLE).unwrap().unwrap();
    forged[100] ^= 1;
    rig.overwrite(BUNDLE, forged);
    assert_eq!(auditor.finds(1), [format!("overwritten-object {BUNDLE}")], "the first version was read");
    rig.delete("tile/0/000");
    rig.overwrite("checkpoint/000000000000", archive.get("checkpoint/000000000000").unwrap().unwrap());
    rig.overwrite("tile/entries/777", b"stray");
    let mut found = auditor.finds(1);
    found.sort();
    assert_eq!(
        found,
        [
            "deleted-object tile/0/000",
            "overwritten-object tile/entries/000",
            "repeated-object checkpoint/000000000000",
            "uncovered-file tile/entries/777",
        ]
    );
}

fn a_listing_of_many_pages_is_read_to_its_end(rig: &Rig) {
    let world = archived(rig);
    let auditor = Auditor::of(rig, &world);
    let first = "checkpoint/000000000000";
    // A page holds 1,000 versions: all other names are beyond it, and so is the version to read.
    rig.flood(first, &rig.archive().get(first).unwrap().unwrap(), 1_100);
    assert_eq!(auditor.finds(0), [format!("repeated-object {first}")]);
    rig.overwrite(first, b"forged");
    assert_eq!(auditor.finds(1), [format!("overwritten-object {first}")]);
}
