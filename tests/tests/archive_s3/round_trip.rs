//! Writing, finding again, listing.

use chancery_archive_s3::{ErrorClass, S3Error};
use chancery_ledger::{Archive, ArchiveError, Put};
use chancery_tests::servers::Fault;

use crate::rig::Rig;

on_each!(
    what_is_put_is_there_once_and_for_all,
    listing_goes_on_after_a_name,
    a_bundle_of_the_largest_leaves_fits,
    an_empty_object_is_an_object,
    the_ledger_sees_the_same_through_its_trait,
    calls_may_come_from_inside_a_runtime,
);

fn what_is_put_is_there_once_and_for_all(rig: &Rig) {
    let archive = rig.archive();
    let name = "tile/entries/000";
    assert_eq!(archive.get(name), Ok(None));
    assert_eq!(archive.put_new(name, b"first"), Ok(Put::Stored));
    assert_eq!(archive.put_new(name, b"first"), Ok(Put::AlreadyThere));
    for other in [b"other".as_slice(), b"longer than first", b""] {
        let result = archive.put_new(name, other);
        assert!(matches!(&result, Err(S3Error::Conflict { name: of, .. }) if of == name), "{result:?}");
        assert_eq!(result.map_err(|error| error.class()), Err(ErrorClass::Conflict));
    }
    assert_eq!(archive.get(name), Ok(Some(b"first".to_vec())));
    // A longer name with the same beginning is another name.
    assert_eq!(archive.put_new("tile/entries/000.p/17", b"tail"), Ok(Put::Stored));
    assert_eq!(archive.get(name), Ok(Some(b"first".to_vec())));
    assert_eq!(rig.versions(name).len(), 1, "nothing else was written");
    assert_eq!(archive.recent_alarms(), []);
}

fn listing_goes_on_after_a_name(rig: &Rig) {
    let archive = rig.archive();
    let mut names: Vec<String> = (0..7).map(|epoch| format!("checkpoint/{epoch:012}")).collect();
    for name in &names {
        assert_eq!(archive.put_new(name, name.as_bytes()), Ok(Put::Stored));
    }
    assert_eq!(archive.put_new("registry/00000001.json", b"{}"), Ok(Put::Stored));
    let page = |after: Option<&str>, max| archive.list_after("checkpoint/", after, max).unwrap();
    assert_eq!(page(None, 100), names);
    assert_eq!(page(None, 7), names);
    assert_eq!(page(None, 0), Vec::<String>::new());
    let mut all = page(None, 2);
    while let Some(last) = all.last().cloned() {
        let more = page(Some(&last), 2);
        if more.is_empty() {
            break;
        }
        all.extend(more);
    }
    assert_eq!(all, names);
    names.push("registry/00000001.json".to_owned());
    assert_eq!(archive.list_after("", None, 100), Ok(names));
    assert_eq!(archive.list_after("nothing/", None, 100), Ok(Vec::new()));
}

fn a_bundle_of_the_largest_leaves_fits(rig: &Rig) {
    let archive = rig.archive();
    let bundle: Vec<u8> = (0..256 * 65_537_u32).map(|n| (n % 251) as u8).collect();
    assert_eq!(archive.put_new("tile/entries/001", &bundle), Ok(Put::Stored));
    assert_eq!(archive.put_new("tile/entries/001", &bundle), Ok(Put::AlreadyThere));
    assert!(archive.get("tile/entries/001").unwrap().unwrap() == bundle);
    let too_large = vec![0; chancery_archive_s3::limits::OBJECT_BYTES_MAX + 1];
    let refused = S3Error::TooLarge { name: "tile/entries/002".to_owned() };
    assert_eq!(archive.put_new("tile/entries/002", &too_large), Err(refused));
    let long = "x".repeat(1025);
    assert_eq!(archive.put_new(&long, b""), Err(S3Error::TooLarge { name: long.clone() }));
}

fn an_empty_object_is_an_object(rig: &Rig) {
    let archive = rig.archive();
    assert_eq!(archive.put_new("empty", b""), Ok(Put::Stored));
    assert_eq!(archive.put_new("empty", b""), Ok(Put::AlreadyThere));
    assert_eq!(archive.get("empty"), Ok(Some(Vec::new())));
}

fn the_ledger_sees_the_same_through_its_trait(rig: &Rig) {
    let archive: &dyn Archive = &rig.archive();
    assert_eq!(archive.check_at_start(), Ok(()));
    assert_eq!(archive.get("a"), Err(ArchiveError::NotFound("a".to_owned())));
    assert_eq!(archive.put_new("a", b"1"), Ok(Put::Stored));
    assert_eq!(archive.put_new("a", b"2"), Err(ArchiveError::Conflict("a".to_owned())));
    assert_eq!(archive.get("a"), Ok(b"1".to_vec()));
    assert_eq!(archive.list_after("", None, 10), Ok(vec!["a".to_owned()]));
    rig.overwrite("unlocked", b"1");
    assert!(matches!(archive.put_new("unlocked", b"1"), Err(ArchiveError::Refused(_))));
    let proxy = rig.proxy();
    proxy.all(Fault::Close);
    let unreachable: &dyn Archive = &rig.archive_behind(&proxy, 1);
    assert!(matches!(unreachable.get("a"), Err(ArchiveError::Unavailable(_))));
}

fn calls_may_come_from_inside_a_runtime(rig: &Rig) {
    rig.wait(async {
        let archive = rig.archive();
        assert_eq!(archive.put_new("a", b"1"), Ok(Put::Stored));
        drop(archive);
    });
}
