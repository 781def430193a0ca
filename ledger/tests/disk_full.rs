//! A disk that fills: refused in time while there is a reserve, fatal but lossless without one.
//!
//! Uses a real file system of a few MiB, mounted for the test.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use chancery_ledger::{Disk, Enrolled, RealDisk, Roll, RollError, RollOptions};
use support::*;

/// A small file system of its own, unmounted at the end.
struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(mib: u32) -> Self {
        let disk = Self { dir: tempfile::tempdir().unwrap() };
        disk.run_mount(&["-t", "tmpfs", "-o", &format!("size={mib}m"), "chancery-test"]);
        disk
    }

    fn grow(&self, mib: u32) {
        self.run_mount(&["-o", &format!("remount,size={mib}m")]);
    }

    fn run_mount(&self, arguments: &[&str]) {
        let done = Command::new("mount").args(arguments).arg(self.dir.path()).status().unwrap();
        assert!(done.success(), "this test mounts a small file system and needs the right to");
    }

    fn ledger(&self) -> PathBuf {
        self.dir.path().join("ledger")
    }

    fn free(&self) -> u64 {
        RealDisk.free_bytes(self.dir.path()).unwrap()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("--lazy").arg(self.dir.path()).status();
        assert!(done.unwrap().success() || std::thread::panicking());
    }
}

fn small(dir: &Path) -> RollOptions {
    let mut options = options(dir);
    options.limits.write_buffer_bytes = 1 << 20;
    options
}

fn bulky(number: u64) -> chancery_format::EventDraft {
    draft("s", &format!("{{\"n\":{number},\"x\":\"{}\"}}", "x".repeat(20_000)))
}

#[tokio::test(flavor = "multi_thread")]
async fn below_the_reserve_new_work_is_refused_and_open_work_ends() {
    let disk = SmallDisk::mount(32);
    let mut options = small(&disk.ledger());
    options.limits.reserve_bytes = 14 << 20;
    let roll = Roll::create(options.clone()).unwrap();
    let mut open = Vec::new();
    for number in 0..20 {
        let intent = intent(&format!("r-{number}"), Some(replay(&format!("k-{number}"), 1)));
        let Enrolled::New(durable) = roll.enrol_intent(intent).await.unwrap() else { panic!() };
        open.push(durable);
    }
    let mut enrolled = 0;
    let refused = loop {
        match roll.enrol_event(bulky(enrolled), None).await {
            Ok(_) => enrolled += 1,
            Err(error) => break error,
        }
        assert!(enrolled < 2000, "a disk of 32 MiB cannot hold this");
    };
    assert!(matches!(refused, RollError::Full), "{refused}");
    assert!(roll.disk_is_low() && enrolled > 50);
    assert!(matches!(roll.enrol_intent(intent("new", None)).await, Err(RollError::Full)));
    let skipped = roll.enrol_outcome(signed(intent("no-intent", None), 1)).await;
    assert!(matches!(skipped, Err(RollError::Full)), "its key use has no durable record to end");
    let waiting = open.split_off(10);
    for durable in open {
        let outcome = roll.enrol_outcome(signed(durable.into_intent(), 1)).await.unwrap();
        assert!(outcome.issued().is_some());
    }
    // Reading, answering retries and signing checkpoints go on.
    let retry = roll.enrol_intent(intent("retry", Some(replay("k-0", 1)))).await.unwrap();
    assert!(matches!(retry, Enrolled::Already(_)));
    checkpoint(&roll).await;
    drop((waiting, roll));

    // A start with a full disk still closes what was open. (Opening may free some log files.)
    options.limits.reserve_bytes = 64 << 20;
    let (roll, recovered) = Roll::open(options).unwrap();
    assert_eq!(recovered.abandoned.len(), 10);
    assert_eq!(audit(&roll).await.len() as u64, 1 + enrolled + 20);
    assert!(matches!(roll.enrol_event(numbered("s", 0), None).await, Err(RollError::Full)));
    disk.grow(160);
    roll.enrol_event(numbered("s", 0), None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_really_full_stops_the_roll_and_loses_nothing_acknowledged() {
    let disk = SmallDisk::mount(24);
    let roll = Roll::create(small(&disk.ledger())).unwrap();
    let mut acknowledged = Vec::new();
    let error = loop {
        match roll.enrol_event(bulky(acknowledged.len() as u64), None).await {
            Ok(committed) => acknowledged.push(committed),
            Err(error) => break error,
        }
        assert!(acknowledged.len() < 2000, "a disk of 24 MiB cannot hold this");
    };
    assert!(matches!(error, RollError::Fatal(_)), "{error}");
    assert!(matches!(roll.enrol_event(numbered("s", 0), None).await, Err(RollError::Fatal(_))));
    assert!(acknowledged.len() > 100);
    drop(roll);

    disk.grow(128);
    assert!(disk.free() > 64 << 20);
    let (roll, _) = Roll::open(small(&disk.ledger())).unwrap();
    let seen = audit(&roll).await;
    let lost = seen.len() - 1 - acknowledged.len();
    assert!(lost <= 1, "at most the entry whose write failed may be there besides");
    for committed in acknowledged {
        let leaf = roll.leaf(committed.index()).await.unwrap().unwrap();
        assert_eq!(leaf.bytes, *committed.leaf());
    }
    roll.enrol_event(numbered("s", 0), None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_cannot_say_how_full_it_is_counts_as_full() {
    struct Mute;
    impl Disk for Mute {
        fn commit(
            &self,
            write: &mut dyn FnMut() -> Result<(), chancery_ledger::DiskError>,
        ) -> Result<(), chancery_ledger::DiskError> {
            write()
        }
        fn free_bytes(&self, _: &Path) -> Result<u64, chancery_ledger::DiskError> {
            Err(chancery_ledger::DiskError("no answer".into()))
        }
    }
    let place = Place::new();
    let mut options = place.options();
    options.disk = Arc::new(Mute);
    let roll = Roll::create(options).unwrap();
    assert!(matches!(roll.enrol_event(numbered("s", 0), None).await, Err(RollError::Full)));
}
