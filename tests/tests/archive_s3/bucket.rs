//! Start-up refuses a bucket that cannot keep the promise, and names each reason.

use std::sync::Arc;

use aws_sdk_s3::types::BucketVersioningStatus;
use chancery_archive_s3::{BucketFault, ErrorClass, Operation, S3Archive, S3Error, S3Options};
use chancery_tests::servers::Fault;

use crate::rig::{MovedClock, Rig};

fn faults_of(rig: &Rig, bucket: &str) -> Vec<BucketFault> {
    let options = S3Options { bucket: bucket.to_owned(), ..rig.options() };
    let result = S3Archive::open(&options, Arc::new(MovedClock(0))).unwrap().check_at_start();
    match result {
        Ok(()) => Vec::new(),
        Err(error @ S3Error::Bucket { .. }) => {
            assert_eq!(error.class(), ErrorClass::Permanent);
            let S3Error::Bucket { bucket: named, faults } = error else { unreachable!() };
            assert_eq!(named, bucket);
            faults
        }
        Err(other) => panic!("{other}"),
    }
}

on_each!(each_mistake_is_named, a_refusal_is_a_fault_and_an_outage_is_not);

fn each_mistake_is_named(rig: &Rig) {
    assert_eq!(faults_of(rig, &rig.bucket), []);
    assert_eq!(faults_of(rig, &format!("{}-missing", rig.bucket)), [BucketFault::Missing]);
    let plain = format!("{}-plain", rig.bucket);
    rig.make_bucket(&plain, false);
    assert_eq!(faults_of(rig, &plain), [BucketFault::VersioningOff, BucketFault::ObjectLockOff]);
    rig.set_versioning(&plain, BucketVersioningStatus::Enabled);
    assert_eq!(faults_of(rig, &plain), [BucketFault::ObjectLockOff]);
    rig.set_versioning(&plain, BucketVersioningStatus::Suspended);
    assert_eq!(faults_of(rig, &plain), [BucketFault::VersioningSuspended, BucketFault::ObjectLockOff]);
}

fn a_refusal_is_a_fault_and_an_outage_is_not(rig: &Rig) {
    let proxy = rig.proxy();
    let archive = rig.archive_behind(&proxy, 2);
    proxy.rule(|head| match head.target.contains("object-lock") {
        true => Fault::Reply(403, "AccessDenied"),
        false => Fault::Pass,
    });
    let refused = BucketFault::Refused {
        operation: Operation::GetObjectLockConfiguration,
        code: "AccessDenied".to_owned(),
    };
    assert_eq!(
        archive.check_at_start(),
        Err(S3Error::Bucket { bucket: rig.bucket.clone(), faults: vec![refused] })
    );
    proxy.all(Fault::Reply(503, "SlowDown"));
    assert_eq!(archive.check_at_start().map_err(|error| error.class()), Err(ErrorClass::Transient));
    proxy.all(Fault::Pass);
    assert_eq!(archive.check_at_start(), Ok(()));
}
