//! Records as AWS documents them, and files that are none.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::*;

const KEY: &str = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

fn record(event: &str, request: &str, time: &str) -> Value {
    json!({
        "eventVersion": "1.08",
        "userIdentity": {
            "type": "AssumedRole",
            "principalId": "made-up-principal",
            "arn": "arn:aws:sts::111122223333:assumed-role/chancery/i-0abc",
            "accountId": "111122223333",
            "sessionContext": {"attributes": {"mfaAuthenticated": "false"}}
        },
        "eventTime": time,
        "eventSource": "kms.amazonaws.com",
        "eventName": "Sign",
        "awsRegion": "us-east-1",
        "sourceIPAddress": "192.0.2.0",
        "userAgent": "aws-sdk-rust",
        "requestParameters": {
            "messageType": "DIGEST",
            "keyId": KEY,
            "signingAlgorithm": "ECDSA_SHA_256"
        },
        "responseElements": null,
        "requestID": request,
        "eventID": event,
        "readOnly": true,
        "resources": [{"accountId": "111122223333", "type": "AWS::KMS::Key", "ARN": KEY}],
        "eventType": "AwsApiCall",
        "managementEvent": true,
        "recipientAccountId": "111122223333",
        "eventCategory": "Management"
    })
}

fn with(mut record: Value, changes: Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        record[name] = value.clone();
    }
    record
}

fn file(records: &[Value]) -> Vec<u8> {
    serde_json::to_vec(&json!({"Records": records})).unwrap()
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn read(files: &[Vec<u8>]) -> Result<Vec<KeyUseRecord>, TrailError> {
    let mut reader = TrailReader::new();
    files.iter().try_for_each(|bytes| reader.read_bytes("f", bytes))?;
    Ok(reader.finish(|arn| (arn == KEY).then(|| "orders".to_owned())))
}

#[test]
fn key_uses_come_in_order_of_time_and_once_each() {
    let mac = with(
        record("e3", "r3", "2026-11-21T10:00:02Z"),
        json!({
            "eventName": "GenerateMac",
            "requestParameters": {"keyId": "alias/mac", "macAlgorithm": "HMAC_SHA_256"},
            "resources": [{"accountId": "1", "type": "AWS::KMS::Key", "ARN": "arn:aws:kms:us-east-1:1:key/mac"}]
        }),
    );
    let other_service =
        json!({"eventVersion": "1.08", "eventSource": "s3.amazonaws.com", "eventName": "Sign"});
    let other_call = with(record("e9", "r9", "2026-11-21T10:00:09Z"), json!({"eventName": "GetPublicKey"}));
    let first = file(&[mac, other_service, record("e2", "r2", "2026-11-21T10:00:01Z"), other_call]);
    let second =
        file(&[record("e1", "r1", "2026-11-21T10:00:00Z"), record("e2", "r2", "2026-11-21T10:00:01Z")]);
    let records = read(&[first, packed(&second)]).unwrap();

    let ids: Vec<_> = records.iter().map(|record| record.request_id.as_str()).collect();
    assert_eq!(ids, ["r1", "r2", "r3"]);
    let numbers: Vec<_> = records.iter().map(|record| record.operation.number).collect();
    assert_eq!(numbers, [1, 2, 3]);
    let first = &records[0];
    assert_eq!(first.time.to_string(), "2026-11-21T10:00:00.000Z");
    assert_eq!((first.key_arn.as_deref(), first.operation.label.as_deref()), (Some(KEY), Some("orders")));
    assert_eq!(
        first.principal_arn.as_deref(),
        Some("arn:aws:sts::111122223333:assumed-role/chancery/i-0abc")
    );
    assert_eq!(
        (first.operation.command.as_str(), first.algorithm.as_deref()),
        ("Sign", Some("ECDSA_SHA_256"))
    );
    assert!(first.operation.uses_key && first.operation.succeeded && first.error_code.is_none());
    assert_eq!(
        serde_json::from_str::<Value>(&first.operation.evidence).unwrap(),
        record("e1", "r1", "2026-11-21T10:00:00Z")
    );
    let mac = &records[2];
    assert_eq!(mac.operation.command, "GenerateMac");
    assert_eq!(
        (mac.key_arn.as_deref(), &mac.operation.label),
        (Some("arn:aws:kms:us-east-1:1:key/mac"), &None)
    );
    assert_eq!(mac.algorithm.as_deref(), Some("HMAC_SHA_256"));
}

#[test]
fn failures_are_told_from_uses() {
    let records = read(&[file(&[
        with(
            record("e1", "r1", "2026-11-21T10:00:00Z"),
            json!({"errorCode": "AccessDenied", "errorMessage": "no", "requestParameters": null, "resources": null}),
        ),
        with(record("e2", "r2", "2026-11-21T10:00:01Z"), json!({"errorCode": "DryRunOperationException"})),
        with(record("e3", "r3", "2026-11-21T10:00:02Z"), json!({"errorCode": "DisabledException"})),
    ])])
    .unwrap();
    let told: Vec<_> =
        records.iter().map(|record| (record.operation.succeeded, record.operation.uses_key)).collect();
    assert_eq!(told, [(false, true), (false, false), (false, true)]);
    assert_eq!(records[0].key_arn, None);
    assert_eq!(records[2].error_code.as_deref(), Some("DisabledException"));
}

#[test]
fn what_is_no_trail_is_refused() {
    let good = record("e1", "r1", "2026-11-21T10:00:00Z");
    let without = |name: &str| {
        let mut record = good.clone();
        record.as_object_mut().unwrap().remove(name);
        file(&[record])
    };
    let cut = file(std::slice::from_ref(&good));
    let repeated =
        String::from_utf8(cut.clone()).unwrap().replace("\"eventID\"", "\"eventID\":\"x\",\"eventID\"");
    for (what, bytes) in [
        ("nothing", Vec::new()),
        ("cut", cut[..cut.len() - 1].to_vec()),
        ("packed and cut", packed(&cut)[..60].to_vec()),
        ("more behind it", [cut.clone(), b"x".to_vec()].concat()),
        ("more behind the packing", [packed(&cut), b"x".to_vec()].concat()),
        ("no list", b"{\"Records\":{}}".to_vec()),
        ("a digest file", b"{\"awsAccountId\":\"1\",\"logFiles\":[]}".to_vec()),
        ("more than records", b"{\"Records\":[],\"more\":1}".to_vec()),
        ("a record that is none", b"{\"Records\":[7]}".to_vec()),
        ("a name given twice", repeated.into_bytes()),
        ("no version", without("eventVersion")),
        ("no source", without("eventSource")),
        ("no name", without("eventName")),
        ("no time", without("eventTime")),
        ("no event", without("eventID")),
        ("no request", without("requestID")),
        ("no caller", without("userIdentity")),
        ("an empty request", file(&[with(good.clone(), json!({"requestID": ""}))])),
        ("a time that is none", file(&[with(good.clone(), json!({"eventTime": "2026-13-21T10:00:00Z"}))])),
        (
            "a use of no key",
            file(&[with(good.clone(), json!({"resources": [], "requestParameters": {"keyId": "alias/a"}}))]),
        ),
    ] {
        assert!(matches!(read(&[bytes]), Err(TrailError::Malformed { .. })), "{what}");
    }
}

#[test]
fn one_event_cannot_say_two_things() {
    let good = record("e1", "r1", "2026-11-21T10:00:00Z");
    let other = with(good.clone(), json!({"requestID": "r2"}));
    let result = read(&[file(&[good]), file(&[other])]);
    assert!(matches!(result, Err(TrailError::Contradiction(event)) if event == "e1"));
}

#[test]
fn files_are_bounded() {
    let large = with(
        record("e1", "r1", "2026-11-21T10:00:00Z"),
        json!({"errorMessage": "x".repeat(TRAIL_RECORD_BYTES_MAX)}),
    );
    assert!(matches!(read(&[file(&[large])]), Err(TrailError::TooLarge { .. })));
    let source = std::io::repeat(b' ');
    assert!(matches!(bounded(source, 1000, "f"), Err(TrailError::TooLarge { max: 1000, .. })));
}

#[test]
fn files_are_read_from_disk_whatever_their_name() {
    let dir = tempfile::tempdir().unwrap();
    let json = file(&[record("e1", "r1", "2026-11-21T10:00:00Z")]);
    let mut reader = TrailReader::new();
    for (name, bytes) in [("plain.json", json.clone()), ("packed.json.gz", packed(&json))] {
        std::fs::write(dir.path().join(name), bytes).unwrap();
        reader.read_file(&dir.path().join(name)).unwrap();
    }
    assert_eq!(reader.finish(|_| None).len(), 1);
    let missing = TrailReader::new().read_file(&dir.path().join("none"));
    assert!(matches!(missing, Err(TrailError::Io { .. })));
}
