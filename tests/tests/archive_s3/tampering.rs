//! Someone with write access lays things over the archive: the original is still returned, and it shows.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use chancery_archive_s3::{Alarm, AlarmKind, S3Error};
use chancery_ledger::Put;

use crate::rig::Rig;

on_each!(
    an_overwritten_object_reads_as_it_was,
    a_deleted_object_reads_as_it_was,
    a_marker_before_the_first_version_does_not_stop_it,
    an_upload_begun_early_never_becomes_the_original,
    versions_on_top_do_not_hide_names_from_listings,
);

fn alarm(kind: AlarmKind, name: &str) -> Alarm {
    Alarm { kind, name: name.to_owned() }
}

fn an_overwritten_object_reads_as_it_was(rig: &Rig) {
    let archive = rig.archive();
    assert_eq!(archive.put_new("a", b"original"), Ok(Put::Stored));
    assert_eq!(archive.recent_alarms(), []);
    rig.overwrite("a", b"forgery!");
    rig.overwrite("a", b"another");
    assert_eq!(archive.get("a"), Ok(Some(b"original".to_vec())));
    assert_eq!(archive.recent_alarms(), [alarm(AlarmKind::ExtraVersions, "a")]);
    assert_eq!(archive.alarm_count(AlarmKind::ExtraVersions), 1);
    assert!(matches!(archive.put_new("a", b"original"), Err(S3Error::Conflict { .. })));
    assert!(matches!(archive.put_new("a", b"forgery!"), Err(S3Error::Conflict { .. })));
}

fn a_deleted_object_reads_as_it_was(rig: &Rig) {
    let archive = rig.archive();
    assert_eq!(archive.put_new("a", b"original"), Ok(Put::Stored));
    rig.delete("a");
    let plain = rig.raw.get_object().bucket(&rig.bucket).key(Rig::key("a")).send();
    assert!(rig.wait(plain).is_err(), "a plain reader sees nothing");
    assert_eq!(archive.get("a"), Ok(Some(b"original".to_vec())));
    assert_eq!(archive.list_after("", None, 10), Ok(vec!["a".to_owned()]));
    assert_eq!(archive.put_new("a", b"original"), Ok(Put::AlreadyThere));
    assert!(matches!(archive.put_new("a", b"different"), Err(S3Error::Conflict { .. })));
    assert_eq!(archive.recent_alarms(), [alarm(AlarmKind::DeleteMarker, "a")]);
}

fn a_marker_before_the_first_version_does_not_stop_it(rig: &Rig) {
    let archive = rig.archive();
    rig.delete("a");
    assert_eq!(archive.get("a"), Ok(None));
    assert_eq!(archive.list_after("", None, 10), Ok(Vec::new()));
    assert_eq!(archive.put_new("a", b"1"), Ok(Put::Stored));
    assert_eq!(archive.get("a"), Ok(Some(b"1".to_vec())));
    assert_eq!(archive.recent_alarms(), [alarm(AlarmKind::DeleteMarker, "a")]);
}

fn an_upload_begun_early_never_becomes_the_original(rig: &Rig) {
    let (archive, key) = (rig.archive(), Rig::key("a"));
    let begun = rig.wait(rig.raw.create_multipart_upload().bucket(&rig.bucket).key(&key).send()).unwrap();
    let upload = begun.upload_id().unwrap();
    assert_eq!(archive.put_new("a", b"original"), Ok(Put::Stored));
    let part = rig.raw.upload_part().bucket(&rig.bucket).key(&key).upload_id(upload).part_number(1);
    let part = rig.wait(part.body(ByteStream::from_static(b"forgery!")).send()).unwrap();
    let part = CompletedPart::builder().part_number(1).set_e_tag(part.e_tag).build();
    let parts = CompletedMultipartUpload::builder().parts(part).build();
    let complete = rig.raw.complete_multipart_upload().bucket(&rig.bucket).key(&key).upload_id(upload);
    rig.wait(complete.multipart_upload(parts).send()).unwrap();
    assert_eq!(rig.versions("a").len(), 2);
    assert_eq!(archive.get("a"), Ok(Some(b"original".to_vec())));
    let both = [alarm(AlarmKind::ExtraVersions, "a"), alarm(AlarmKind::MultipartVersion, "a")];
    assert_eq!(archive.recent_alarms(), both);
    assert!(matches!(archive.put_new("a", b"original"), Err(S3Error::Conflict { .. })));
}

fn versions_on_top_do_not_hide_names_from_listings(rig: &Rig) {
    let archive = rig.archive();
    for name in ["a", "b", "c", "d"] {
        assert_eq!(archive.put_new(name, b"1"), Ok(Put::Stored));
    }
    for _ in 0..5 {
        rig.overwrite("b", b"2");
        rig.delete("c");
    }
    let page = |after, max| archive.list_after("", after, max).unwrap();
    assert_eq!(page(None, 1), ["a"]);
    assert_eq!(archive.recent_alarms(), [], "beyond what was asked for");
    assert_eq!(page(Some("a"), 1), ["b"]);
    assert_eq!(page(Some("b"), 1), ["c"]);
    assert_eq!(page(Some("a"), 10), ["b", "c", "d"]);
    assert_eq!(page(Some("d"), 10), Vec::<String>::new());
    let both = [alarm(AlarmKind::ExtraVersions, "b"), alarm(AlarmKind::DeleteMarker, "c")];
    assert_eq!(archive.recent_alarms(), both);
}
