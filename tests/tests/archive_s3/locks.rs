//! What is archived cannot be deleted, shortened or downgraded, and what is not locked so is not accepted.

use std::sync::Arc;

use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{Delete, ObjectIdentifier, ObjectLockRetention, ObjectLockRetentionMode};
use chancery_archive_s3::{ErrorClass, LockState, S3Archive, S3Error};
use chancery_format::Timestamp;
use chancery_ledger::Put;
use chancery_tests::servers::{Fault, ObjectStore};

use crate::rig::{DAY_SECONDS, MovedClock, RETENTION_DAYS, Rig, now_seconds};

on_each!(
    what_is_archived_stays,
    the_lock_is_read_back,
    a_store_that_drops_the_lock_is_found_out,
    a_store_that_weakens_the_lock_is_found_out,
    bytes_put_by_others_without_lock_are_not_accepted,
    a_slow_clock_is_found_out,
);

fn what_is_archived_stays(rig: &Rig) {
    let archive = rig.archive();
    assert_eq!(archive.put_new("a", b"kept"), Ok(Put::Stored));
    let (key, version) = (Rig::key("a"), rig.versions("a").pop().unwrap());
    let delete = || rig.raw.delete_object().bucket(&rig.bucket).key(&key).version_id(&version);
    assert_eq!(rig.wait(delete().send()).unwrap_err().code(), Some("AccessDenied"));
    let bypassing = delete().bypass_governance_retention(true);
    assert_eq!(rig.wait(bypassing.send()).unwrap_err().code(), Some("AccessDenied"));
    let identifier = ObjectIdentifier::builder().key(&key).version_id(&version).build().unwrap();
    let many = Delete::builder().objects(identifier).build().unwrap();
    let reply = rig.wait(rig.raw.delete_objects().bucket(&rig.bucket).delete(many).send()).unwrap();
    assert_eq!(reply.errors().first().and_then(|error| error.code()), Some("AccessDenied"));

    let retain = |mode, days: i64| {
        let until = DateTime::from_secs(now_seconds() + days * DAY_SECONDS);
        let retention = ObjectLockRetention::builder().mode(mode).retain_until_date(until).build();
        let request = rig.raw.put_object_retention().bucket(&rig.bucket).key(&key).version_id(&version);
        rig.wait(request.retention(retention).bypass_governance_retention(true).send()).is_ok()
    };
    let long = i64::from(RETENTION_DAYS) + 100;
    assert!(!retain(ObjectLockRetentionMode::Compliance, 1), "shortened");
    assert!(!retain(ObjectLockRetentionMode::Governance, long), "downgraded");
    assert_eq!(archive.put_new("a", b"kept"), Ok(Put::AlreadyThere), "still there, still locked");
    assert!(retain(ObjectLockRetentionMode::Compliance, long), "longer is allowed");
    assert_eq!(archive.put_new("a", b"kept"), Ok(Put::AlreadyThere));
}

fn the_lock_is_read_back(rig: &Rig) {
    let before = now_seconds();
    assert_eq!(rig.archive().put_new("a", b"1"), Ok(Put::Stored));
    let request = rig.raw.get_object_retention().bucket(&rig.bucket).key(Rig::key("a")).send();
    let retention = rig.wait(request).unwrap().retention.unwrap();
    assert_eq!(retention.mode, Some(ObjectLockRetentionMode::Compliance));
    let least = before + i64::from(RETENTION_DAYS) * DAY_SECONDS;
    let until = retention.retain_until_date.unwrap().secs();
    assert!((least..least + 60).contains(&until), "{until} is not within a minute after {least}");
}

fn wrong_lock(result: Result<Put, S3Error>) -> LockState {
    let error = result.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Permanent);
    let S3Error::WrongLock { found, .. } = error else { panic!("{error}") };
    found
}

fn a_store_that_drops_the_lock_is_found_out(rig: &Rig) {
    let proxy = rig.proxy();
    match rig.store {
        // It refuses requests that were changed on the way, so a lock can only be missing in what it says.
        ObjectStore::CephGateway => proxy.rule(|head| match head.target.contains("retention") {
            true => Fault::Reply(404, "NoSuchObjectLockConfiguration"),
            false => Fault::Pass,
        }),
        _ => proxy.all(Fault::Strip(vec!["x-amz-object-lock-mode", "x-amz-object-lock-retain-until-date"])),
    }
    let archive = rig.archive_behind(&proxy, 3);
    assert_eq!(wrong_lock(archive.put_new("a", b"1")), LockState::None);
    assert_eq!(rig.versions("a").len(), 1, "not put again and again");
    assert_eq!(wrong_lock(archive.put_new("a", b"1")), LockState::None, "nor accepted the second time");
}

fn a_store_that_weakens_the_lock_is_found_out(rig: &Rig) {
    let proxy = rig.proxy();
    let archive = rig.archive_behind(&proxy, 1);
    let lie = |mode: &str, until: &str| {
        let body =
            format!("<Retention><Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>");
        proxy.rule(move |head| match head.method == "GET" && head.target.contains("retention") {
            true => Fault::ReplyXml(body.clone()),
            false => Fault::Pass,
        });
    };
    lie("GOVERNANCE", "2099-01-01T00:00:00Z");
    let weak = LockState::Retained { mode: "GOVERNANCE".to_owned(), until: Some(4_070_908_800) };
    assert_eq!(wrong_lock(archive.put_new("a", b"1")), weak);
    lie("COMPLIANCE", "2026-01-01T00:00:00Z");
    let short = LockState::Retained { mode: "COMPLIANCE".to_owned(), until: Some(1_767_225_600) };
    assert_eq!(wrong_lock(archive.put_new("b", b"1")), short);
    let nearly = now_seconds() + i64::from(RETENTION_DAYS) * DAY_SECONDS - 60;
    lie("COMPLIANCE", &Timestamp::from_unix_ms(nearly * 1000).unwrap().to_string());
    let nearly = LockState::Retained { mode: "COMPLIANCE".to_owned(), until: Some(nearly) };
    assert_eq!(wrong_lock(archive.put_new("c", b"1")), nearly);
}

fn bytes_put_by_others_without_lock_are_not_accepted(rig: &Rig) {
    rig.overwrite("a", b"1");
    assert_eq!(wrong_lock(rig.archive().put_new("a", b"1")), LockState::None);
}

fn a_slow_clock_is_found_out(rig: &Rig) {
    let slow = S3Archive::open(&rig.options(), Arc::new(MovedClock(-2))).unwrap();
    let LockState::Retained { mode, until } = wrong_lock(slow.put_new("a", b"1")) else { panic!("no lock") };
    assert_eq!(mode, "COMPLIANCE");
    assert!(until.unwrap() < now_seconds() + (i64::from(RETENTION_DAYS) - 1) * DAY_SECONDS);
    assert!(
        matches!(rig.archive().put_new("a", b"1"), Err(S3Error::WrongLock { .. })),
        "nor accepted by others"
    );
}
