//! Of two writers of different bytes at most one is told that it succeeded.

use std::sync::Barrier;

use aws_sdk_s3::primitives::ByteStream;
use chancery_archive_s3::S3Error;
use chancery_ledger::Put;
use chancery_tests::servers::{Fault, RequestHead};

use crate::rig::Rig;

on_each!(
    two_writers_never_both_win,
    a_writer_in_between_is_found_without_create_only,
    a_writer_just_after_is_found_without_create_only,
    the_same_bytes_from_two_writers_are_no_conflict,
);

fn two_writers_never_both_win(rig: &Rig) {
    for (round, fault) in [Fault::Pass, rig.without_create_only()].into_iter().enumerate() {
        let proxy = rig.proxy();
        proxy.all(fault);
        let archives = [rig.archive_behind(&proxy, 4), rig.archive_behind(&proxy, 4)];
        let contents = [b"from one".as_slice(), b"from two"];
        for n in 0..10 {
            let (name, together) = (format!("checkpoint/{round}{n:011}"), Barrier::new(2));
            let put = |writer: usize| {
                together.wait();
                let (archive, content) = (archives.get(writer).unwrap(), contents.get(writer).unwrap());
                archive.put_new(&name, content)
            };
            let (one, two) = std::thread::scope(|scope| {
                let one = scope.spawn(|| put(0));
                (put(1), one.join().unwrap())
            });
            let results = [one, two];
            let won = results.iter().filter(|result| **result == Ok(Put::Stored)).count();
            let lost =
                results.iter().filter(|result| matches!(result, Err(S3Error::Conflict { .. }))).count();
            assert!(won <= 1 && won + lost == 2, "{results:?}");
        }
    }
}

/// Other bytes arrive through `rig` when the archive makes the call that `at` picks.
fn interfere(rig: &Rig, at: fn(&RequestHead) -> bool, bytes: &'static [u8]) -> Result<Put, S3Error> {
    let proxy = rig.proxy();
    let archive = rig.archive_behind(&proxy, 4);
    let (raw, bucket, handle) = (rig.raw.clone(), rig.bucket.clone(), rig.runtime.handle().clone());
    let (lenient, mut done) = (rig.without_create_only(), false);
    proxy.rule(move |head| {
        if at(head) && !done {
            done = true;
            let put =
                raw.put_object().bucket(&bucket).key(Rig::key("a")).body(ByteStream::from_static(bytes));
            handle.block_on(put.send()).unwrap();
        }
        lenient.clone()
    });
    archive.put_new("a", b"ours")
}

fn a_writer_in_between_is_found_without_create_only(rig: &Rig) {
    let result = interfere(rig, |head| head.method == "PUT", b"theirs");
    assert!(matches!(result, Err(S3Error::Conflict { .. })), "{result:?}");
    assert_eq!(rig.versions("a").len(), 2, "both were stored");
}

fn a_writer_just_after_is_found_without_create_only(rig: &Rig) {
    let result = interfere(rig, |head| head.target.contains("retention"), b"theirs");
    assert!(matches!(result, Err(S3Error::Conflict { .. })), "{result:?}");
    assert_eq!(rig.versions("a").len(), 2, "both were stored");
}

fn the_same_bytes_from_two_writers_are_no_conflict(rig: &Rig) {
    assert_eq!(interfere(rig, |head| head.method == "PUT", b"ours"), Ok(Put::Stored));
    assert_eq!(rig.versions("a").len(), 2);
}
