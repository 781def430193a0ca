//! Outages are errors that may pass, and pass; refusals are not tried again.

use std::time::{Duration, Instant};

use chancery_archive_s3::{ErrorClass, Operation, Patience, S3Archive, S3Error, S3Options};
use chancery_ledger::Put;
use chancery_tests::servers::{Fault, FaultProxy};

use crate::rig::{MovedClock, Rig};

on_each!(
    every_outage_is_transient_and_recovery_is_complete,
    a_short_outage_is_not_noticed,
    a_lost_reply_leaves_one_version,
    a_hanging_server_is_given_up,
    a_refusal_is_not_tried_again,
);

fn class<T: std::fmt::Debug>(result: Result<T, S3Error>) -> ErrorClass {
    result.unwrap_err().class()
}

fn fail_all(archive: &S3Archive, fault: &str) {
    assert_eq!(class(archive.put_new("new", b"2")), ErrorClass::Transient, "put, {fault}");
    assert_eq!(class(archive.get("old")), ErrorClass::Transient, "get, {fault}");
    assert_eq!(class(archive.list_after("", None, 10)), ErrorClass::Transient, "list, {fault}");
    assert_eq!(class(archive.check_at_start()), ErrorClass::Transient, "check, {fault}");
}

fn every_outage_is_transient_and_recovery_is_complete(rig: &Rig) {
    let mut proxy = rig.proxy();
    let archive = rig.archive_behind(&proxy, 2);
    assert_eq!(archive.put_new("old", b"1"), Ok(Put::Stored));
    for fault in [
        Fault::Close,
        Fault::Reply(503, "SlowDown"),
        Fault::Reply(500, "InternalError"),
        Fault::Reply(429, "TooManyRequests"),
        Fault::LoseReply,
        Fault::CutReply(20),
    ] {
        proxy.all(fault.clone());
        fail_all(&archive, &format!("{fault:?}"));
    }
    proxy.refuse_connections();
    fail_all(&archive, "refused");
    proxy.all(Fault::Pass);
    proxy.listen().unwrap();
    assert_eq!(archive.put_new("new", b"2"), Ok(Put::Stored), "no outage let a put through");
    assert_eq!(archive.get("old"), Ok(Some(b"1".to_vec())));
    assert_eq!(archive.list_after("", None, 10), Ok(vec!["new".to_owned(), "old".to_owned()]));
    // A reply that ends in the middle of the object.
    let bytes = vec![7; 100_000];
    assert_eq!(archive.put_new("long", &bytes), Ok(Put::Stored));
    proxy.rule(|head| if head.target.contains("versionId=") { Fault::CutReply(50_000) } else { Fault::Pass });
    assert_eq!(class(archive.get("long")), ErrorClass::Transient);
    proxy.all(Fault::Delay(Duration::from_millis(50)));
    assert_eq!(archive.get("long"), Ok(Some(bytes)));
    assert_eq!(archive.recent_alarms(), []);
}

/// Every other request fails.
fn flicker(proxy: &FaultProxy, fault: Fault) {
    let mut count = 0;
    proxy.rule(move |_| {
        count += 1;
        if count % 2 == 1 { fault.clone() } else { Fault::Pass }
    });
}

fn a_short_outage_is_not_noticed(rig: &Rig) {
    let proxy = rig.proxy();
    let archive = rig.archive_behind(&proxy, 4);
    flicker(&proxy, Fault::Reply(503, "SlowDown"));
    assert_eq!(archive.check_at_start(), Ok(()));
    assert_eq!(archive.list_after("", None, 10), Ok(Vec::new()));
    let mut first = true;
    proxy.rule(move |head| match head.method == "PUT" && std::mem::take(&mut first) {
        true => Fault::Close,
        false => Fault::Pass,
    });
    assert_eq!(archive.put_new("a", b"1"), Ok(Put::Stored));
}

fn a_lost_reply_leaves_one_version(rig: &Rig) {
    let proxy = rig.proxy();
    // Create-only would hide a put repeated without looking.
    let (lenient, mut first) = (rig.without_create_only(), true);
    proxy.rule(move |head| match head.method == "PUT" && std::mem::take(&mut first) {
        true => Fault::LoseReply,
        false => lenient.clone(),
    });
    assert_eq!(rig.archive_behind(&proxy, 4).put_new("a", b"1"), Ok(Put::AlreadyThere));
    assert_eq!(rig.versions("a").len(), 1);
}

fn a_hanging_server_is_given_up(rig: &Rig) {
    let proxy = rig.proxy();
    proxy.all(Fault::Hang);
    let options = S3Options {
        endpoint_url: Some(proxy.endpoint_url()),
        patience: Patience {
            request_timeout: Duration::from_millis(300),
            attempts: 2,
            backoff: Duration::from_millis(1),
            ..Patience::default()
        },
        ..rig.options()
    };
    let archive = S3Archive::open(&options, std::sync::Arc::new(MovedClock(0))).unwrap();
    let started = Instant::now();
    assert_eq!(class(archive.get("a")), ErrorClass::Transient);
    assert!(started.elapsed() < Duration::from_secs(10), "two attempts of 0.3 s");
    assert_eq!(proxy.requests(), 2);
}

fn a_refusal_is_not_tried_again(rig: &Rig) {
    let proxy = rig.proxy();
    let archive = rig.archive_behind(&proxy, 4);
    proxy.rule(|head| if head.method == "PUT" { Fault::Reply(403, "AccessDenied") } else { Fault::Pass });
    let error = archive.put_new("a", b"1").unwrap_err();
    assert!(
        matches!(&error, S3Error::Refused { operation: Operation::PutObject, code, .. } if code == "AccessDenied"),
        "{error}"
    );
    assert_eq!(error.class(), ErrorClass::Permanent);
    assert_eq!(proxy.requests(), 2, "one look, one put");
    assert!(rig.versions("a").is_empty());
}
