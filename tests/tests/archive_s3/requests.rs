//! What goes over the wire, and that the least policy of `deploy/aws` allows exactly that.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use aws_sdk_s3::types::ObjectLockMode;
use chancery_ledger::Put;
use chancery_tests::servers::{Fault, RequestHead};

use crate::rig::Rig;

on_each!(a_put_is_whole_checked_locked_and_create_only, the_writers_policy_allows_what_is_called_and_no_more);

/// Everything an archive calls in its life.
fn live(rig: &Rig) -> Vec<RequestHead> {
    let proxy = rig.proxy();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    proxy.rule(move |head| {
        sink.lock().unwrap().push(head.clone());
        Fault::Pass
    });
    let archive = rig.archive_behind(&proxy, 1);
    assert_eq!(archive.check_at_start(), Ok(()));
    assert_eq!(archive.put_new("a", b"bytes"), Ok(Put::Stored));
    assert_eq!(archive.put_new("a", b"bytes"), Ok(Put::AlreadyThere));
    assert_eq!(archive.get("a"), Ok(Some(b"bytes".to_vec())));
    assert_eq!(archive.list_after("", None, 10), Ok(vec!["a".to_owned()]));
    let seen = seen.lock().unwrap();
    seen.clone()
}

fn a_put_is_whole_checked_locked_and_create_only(rig: &Rig) {
    let heads = live(rig);
    let puts: Vec<&RequestHead> = heads.iter().filter(|head| head.method != "GET").collect();
    let [put] = puts.as_slice() else {
        panic!("one PutObject, and nothing else that changes anything: {puts:?}")
    };
    assert_eq!(put.method, "PUT");
    assert_eq!(put.header("if-none-match"), Some("*"));
    assert_eq!(put.header("x-amz-object-lock-mode"), Some(ObjectLockMode::Compliance.as_str()));
    assert!(put.header("x-amz-object-lock-retain-until-date").is_some());
    assert_eq!(put.header("content-length"), Some("5"));
    assert_eq!(put.header("content-encoding"), None, "not chunked");
    // Of `bytes`, by md5sum and sha256sum.
    assert_eq!(put.header("content-md5"), Some("SzpiGLs+OnMD6KFxpg/Pkg=="));
    assert_eq!(put.header("x-amz-checksum-sha256"), Some("J3CJ2RwL308uaGK6fkoHYFEZQx9dE/cm3TUrBvGyBqk="));
}

/// The permission a request needs.
fn actions(head: &RequestHead) -> &'static [&'static str] {
    let query = head.target.split_once('?').map_or("", |(_, query)| query);
    let asks = |name: &str| query.split('&').any(|part| part.split('=').next() == Some(name));
    match head.method.as_str() {
        // The lock's headers need a right of their own.
        "PUT" => &["s3:PutObject", "s3:PutObjectRetention"],
        "GET" if asks("versioning") => &["s3:GetBucketVersioning"],
        "GET" if asks("object-lock") => &["s3:GetBucketObjectLockConfiguration"],
        "GET" if asks("versions") => &["s3:ListBucketVersions"],
        "GET" if asks("retention") => &["s3:GetObjectRetention"],
        "GET" if asks("versionId") => &["s3:GetObjectVersion"],
        _ => panic!("{head:?}"),
    }
}

fn the_writers_policy_allows_what_is_called_and_no_more(rig: &Rig) {
    let called: BTreeSet<String> =
        live(rig).iter().flat_map(actions).map(|action| (*action).to_owned()).collect();
    let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/aws/writer-policy.json");
    let policy: serde_json::Value = serde_json::from_slice(&std::fs::read(policy).unwrap()).unwrap();
    let statements = policy.get("Statement").and_then(serde_json::Value::as_array).unwrap();
    let mut allowed = BTreeSet::new();
    for statement in statements {
        assert_eq!(statement.get("Effect").unwrap(), "Allow");
        match statement.get("Action").unwrap() {
            serde_json::Value::Array(many) => {
                allowed.extend(many.iter().map(|one| one.as_str().unwrap().to_owned()))
            }
            one => {
                allowed.insert(one.as_str().unwrap().to_owned());
            }
        }
    }
    assert_eq!(allowed, called);
}
