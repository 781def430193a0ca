//! What happens when a call to the disk, a device or the archive is lost, before or after it took effect:
//! one table per place, over the service as the daemon puts it together.
//!
//! After each row the service is started again from its folder, and must keep the promises: everything
//! acknowledged is on the ledger, no intent is open, no stream has a gap or a fork, the tree is that of its
//! leaves. At the end everything is archived and the auditors' program finds nothing.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

mod appliance;
mod broken;

use std::sync::Arc;
use std::time::Duration;

use appliance::{Appliance, Installation, Reply};
use broken::{BrokenArchive, Call, Lost};
use chancery_hsm::testing::Fault;
use chancery_tests::rig::wait_for;

use Lost::{After, Before};

/// What is asked.
#[derive(Debug, Clone, Copy)]
enum Ask {
    Sign,
    Mac,
    Event,
}

use Ask::{Event, Mac, Sign};

impl Ask {
    /// Asks, under an idempotency key of the row's own.
    async fn of(self, appliance: &Appliance, key: &str) -> Reply {
        let digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        let (path, body) = match self {
            Sign => {
                ("/v1/sign", format!(r#"{{"kid":"orders","digest":"{digest}","digestAlgorithm":"sha256"}}"#))
            }
            Mac => {
                ("/v1/mac", format!(r#"{{"kid":"webhooks","digest":"{digest}","digestAlgorithm":"sha256"}}"#))
            }
            Event => ("/v1/events", format!(r#"{{"eventType":"order.paid","payload":{{"order":"{key}"}}}}"#)),
        };
        appliance.ask(path, key, &body).await
    }
}

/// What a retry with the same idempotency key is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Retry {
    /// What the first attempt left on the ledger, to the byte.
    Same,
    /// A new answer: the first attempt left none.
    New,
}

use Retry::{New, Same};

/// Restarts, checks every promise, asks again; says what the ledger had before that.
async fn restarted(
    installation: &Installation,
    appliance: Appliance,
    (ask, key): (Ask, &str),
    acknowledged: &mut Vec<Reply>,
) -> (Appliance, String, Retry) {
    appliance.end().await;
    let appliance = installation.start().await;
    appliance.check(acknowledged).await;
    let found = appliance.says_of(key).await;
    let size = appliance.chancery.roll.head().head().size;
    let reply = ask.of(&appliance, key).await;
    assert!(reply.is_good(), "the retry of {key}: {}", reply.body);
    let retry = if appliance.chancery.roll.head().head().size == size { Same } else { New };
    let again = ask.of(&appliance, key).await;
    assert_eq!(again, Reply { body: reply.body.clone(), ..again.clone() }, "an answer never changes");
    acknowledged.push(reply);
    appliance.check(acknowledged).await;
    (appliance, found, retry)
}

/// A store that loses a commit is never written to again: the caller learns nothing, the process ends, and
/// recovery finds out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_the_store() {
    #[rustfmt::skip]
    let table = [
        // asked, the lost commit,   status, found after a restart,  a retry
        (Sign,  "intent",  0, Before, 500, "",          New),
        (Sign,  "intent",  0, After,  500, "abandoned", New),
        (Sign,  "outcome", 1, Before, 500, "abandoned", New),
        (Sign,  "outcome", 1, After,  500, "issued",    Same),
        (Mac,   "intent",  0, Before, 500, "",          New),
        (Mac,   "intent",  0, After,  500, "abandoned", New),
        (Mac,   "outcome", 1, Before, 500, "abandoned", New),
        (Mac,   "outcome", 1, After,  500, "issued",    Same),
        (Event, "event",   0, Before, 500, "",          New),
        (Event, "event",   0, After,  500, "paid",      Same),
    ];
    let installation = Installation::new().await;
    let mut acknowledged = Vec::new();
    let mut appliance = installation.start().await;
    for (number, (ask, what, nth, lost, status, found, retry)) in table.into_iter().enumerate() {
        let (row, key) = (format!("{ask:?}, {what} lost {lost:?}"), format!("store-{number}"));
        acknowledged.push(ask.of(&appliance, &format!("before-{key}")).await);
        appliance.disk.lose(nth, lost);
        let reply = ask.of(&appliance, &key).await;
        assert!(appliance.disk.lost_it() && !appliance.goes_on(), "{row}");
        assert_eq!((reply.status, reply.code().as_str()), (status, "internal"), "{row}");
        let after = restarted(&installation, appliance, (ask, &key), &mut acknowledged).await;
        assert_eq!((after.1.as_str(), after.2), (found, retry), "{row}");
        appliance = after.0;
    }
    installation.audit(&appliance).await;
}

/// A device that fails costs the one request; the ledger says how it ended, and the service goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_the_device() {
    #[rustfmt::skip]
    let table = [
        // asked, the device,         status, code
        (Sign, Fault::AwayBefore,   503, "backend-unavailable"),
        (Sign, Fault::AwayAfter,    503, "backend-unavailable"),
        (Sign, Fault::Hang,         503, "backend-unavailable"),
        (Sign, Fault::Panic,        500, "signing-failed"),
        (Sign, Fault::WrongMessage, 500, "signing-failed"),
        (Sign, Fault::FlippedBit,   500, "signing-failed"),
        (Sign, Fault::Empty,        500, "signing-failed"),
        (Mac,  Fault::AwayBefore,   503, "backend-unavailable"),
        (Mac,  Fault::AwayAfter,    503, "backend-unavailable"),
        (Mac,  Fault::Hang,         503, "backend-unavailable"),
        (Mac,  Fault::Panic,        500, "signing-failed"),
        (Mac,  Fault::Empty,        500, "signing-failed"),
    ];
    let installation = Installation::new().await;
    let mut acknowledged = Vec::new();
    let mut appliance = installation.start().await;
    for (number, (ask, fault, status, code)) in table.into_iter().enumerate() {
        let (row, key) = (format!("{ask:?}, {fault:?}"), format!("device-{number}"));
        acknowledged.push(ask.of(&appliance, &format!("before-{key}")).await);
        appliance.faults.set(fault);
        let reply = ask.of(&appliance, &key).await;
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{row}");
        appliance.faults.set(Fault::None);
        // Events need no device, and an outage ends at the next sign of life.
        acknowledged.push(Event.of(&appliance, &format!("beside-{key}")).await);
        appliance.chancery.keyring.probe(Duration::from_secs(5)).await;
        acknowledged.push(ask.of(&appliance, &format!("after-{key}")).await);
        assert!(appliance.goes_on() && acknowledged.iter().all(Reply::is_good), "{row}: {acknowledged:?}");
        let after = restarted(&installation, appliance, (ask, &key), &mut acknowledged).await;
        assert_eq!((after.1.as_str(), after.2), ("failed", New), "{row}");
        appliance = after.0;
    }
    installation.audit(&appliance).await;
}

/// Checkpoints: a lost signature costs a cadence, a lost commit the process; signing has acknowledged
/// nothing that depends on either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_checkpoints() {
    enum What {
        Device(Fault),
        Commit(Lost),
    }
    #[rustfmt::skip]
    let table = [
        // the checkpoint's…            goes on, recorded after a restart
        (What::Device(Fault::AwayBefore), true,  false),
        (What::Device(Fault::AwayAfter),  true,  false),
        (What::Device(Fault::FlippedBit), true,  false),
        (What::Device(Fault::Panic),      true,  false),
        (What::Commit(Before),            false, false),
        (What::Commit(After),             false, true),
    ];
    let installation = Installation::new().await;
    let mut acknowledged = Vec::new();
    let mut appliance = installation.start().await;
    for (number, (what, goes_on, recorded)) in table.into_iter().enumerate() {
        let key = format!("checkpoint-{number}");
        acknowledged.push(Sign.of(&appliance, &key).await);
        let size = appliance.chancery.roll.head().head().size;
        match what {
            What::Device(fault) => appliance.faults.set(fault),
            What::Commit(lost) => appliance.disk.lose(0, lost),
        }
        assert!(appliance.checkpointer.once().await.is_err(), "row {number}");
        assert_eq!(appliance.goes_on(), goes_on, "row {number}");
        appliance.end().await;
        appliance = installation.start().await;
        let known = appliance.chancery.roll.latest_checkpoint().unwrap().size;
        assert_eq!(known == size, recorded, "row {number}");
        appliance.check(&acknowledged).await;
        appliance.checkpointer.once().await.unwrap();
    }
    installation.audit(&appliance).await;
}

/// The archive: every kind of call, on either side. Signing goes on, the shipper tries again, and what is
/// archived in the end is whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_the_archive() {
    #[rustfmt::skip]
    let table = [
        // the lost call,            it happens
        (Call::Put("tile/0"),        While::Shipping),
        (Call::Put("tile/entries"),  While::Shipping),
        (Call::Put("registry"),      While::Shipping),
        (Call::Put("checkpoint"),    While::Shipping),
        (Call::Get,                  While::Shipping),
        (Call::Check,                While::Starting),
        (Call::List,                 While::Starting),
        (Call::Get,                  While::Starting),
    ];
    for (call, when) in table {
        for lost in [Before, After] {
            one_archive_row(call, when, lost).await;
        }
    }
}

/// The plan of an epoch is a commit, too: the service ends, and the next one finishes the epoch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_an_epochs_plan() {
    let installation = Installation::new().await;
    let mut acknowledged = Vec::new();
    let mut appliance = installation.start().await;
    for lost in [Before, After] {
        acknowledged.push(Event.of(&appliance, &format!("plan-{lost:?}")).await);
        appliance.checkpointer.once().await.unwrap();
        appliance.disk.lose(0, lost);
        let shipper = tokio::task::block_in_place(|| appliance.ship(installation.archive())).unwrap();
        tokio::task::block_in_place(|| wait_for("stopped", || (!appliance.goes_on()).then_some(())));
        assert!(appliance.disk.lost_it() && !Sign.of(&appliance, "too-late").await.is_good());
        drop(shipper);
        appliance.end().await;
        appliance = installation.start().await;
        appliance.check(&acknowledged).await;
    }
    installation.audit(&appliance).await;
}

/// When a call is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum While {
    /// The shipper runs; it tries again by itself.
    Shipping,
    /// The archive is compared with the ledger; the service does not start, and says why.
    Starting,
}

async fn one_archive_row(call: Call, when: While, lost: Lost) {
    let row = format!("{call:?} lost {lost:?}, {when:?}");
    let installation = Installation::new().await;
    let appliance = installation.start().await;
    let archive = Arc::new(BrokenArchive::new(installation.archive()));
    let mut acknowledged = Vec::new();
    // A full tile, so that every kind of object is put.
    for number in 0..260 {
        acknowledged.push(Event.of(&appliance, &format!("event-{number}")).await);
    }
    appliance.checkpointer.once().await.unwrap();
    if when == While::Starting {
        installation.audit(&appliance).await;
    }
    archive.lose(call, lost);
    let started = tokio::task::block_in_place(|| appliance.ship_through(&archive));
    match (when, started) {
        (While::Starting, started) => {
            assert!(archive.lost_it() && started.is_err_and(|error| error.is_transient()), "{row}");
        }
        (While::Shipping, Ok(shipper)) => {
            tokio::task::block_in_place(|| wait_for(&row, || archive.lost_it().then_some(())));
            acknowledged.push(Sign.of(&appliance, "meanwhile").await);
            assert!(appliance.goes_on() && !shipper.status().stopped, "{row}");
            drop(shipper);
        }
        (While::Shipping, Err(error)) => panic!("{row}: {error}"),
    }
    appliance.end().await;
    let appliance = installation.start().await;
    appliance.check(&acknowledged).await;
    installation.audit(&appliance).await;
}
