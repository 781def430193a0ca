//! Nothing acknowledged is ever lost: every call of store, signer and archive, failing in every way it can,
//! under the whole service, as one table.
//!
//! Each row starts the service over a new ledger, breaks one thing, asks, looks what the caller hears and
//! whether the daemon goes on, and asks again where it does. Then the process is gone and another opens
//! what is left, with everything sound. The ledger must hold exactly what the row says, and the same
//! request under the same Idempotency-Key must get what the row says, and from then on the same bytes.
//!
//! After every row `audit.rs` checks what must hold after all of them: each answer that was given stands
//! where it said, with the same bytes; the tree continues every head ever seen; no intent is open; and
//! `chancery-verify` accepts the archive in full, which says that no stream has a gap or a fork.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

mod audit;
mod broken;
#[path = "../common/mod.rs"]
mod common;
mod older;
mod service;
mod words;
mod world;

use std::sync::Arc;
use std::time::Duration;

use chancery_hsm::testing::Fault::{AwayAfter, AwayBefore, Empty, FlippedBit, Hang, Panic, WrongMessage};
use chancery_proxy::limits::Limits;
use serde_json::json;
use tokio::task::JoinHandle;

use audit::{audit, leaves};
use common::until;
use service::{Answer, Service};
use words::Asked::{Append, Kept, Mac, Recover, Sealed, Sign, Start};
use words::Daemon::{Closes, GoesOn, Stops};
use words::Fails::{Archive, Check, Get, Key, KeyBusy, KeyOnce, LedgerKey, List, Put, Store};
use words::How::{Hangs, Lies, Lost, Refuses};
use words::Left::{Abandoned, Activation, Event, Failed, Issued, Nothing};
use words::Object::{Bundle, Checkpoint, Registry, RegistryNote, Tail, Tile};
use words::Retry::{Anew, Same};
use words::Side::{After, Before};
use words::Told::{Done, NoStart, Problem};
use words::{Asked, Daemon, Fails, Left, Retry, Told, Write, event};
use world::World;

const INTERNAL: Told = Problem(500, "internal");
const FAILED: Told = Problem(500, "signing-failed");
const AWAY: Told = Problem(503, "backend-unavailable");
const BUSY: Told = Problem(503, "overloaded");
const PENDING: Told = Problem(503, "release-pending");
const CLOSED: Told = Problem(503, "archive-lag");

const GONE: Left = Failed("backend-unavailable", "none");
const GONE_AFTER: Left = Failed("backend-unavailable", "unknown");
const LATE: Left = Failed("deadline-exceeded", "");
const WRONG: Left = Failed("bad-signature", "unknown");
const DIED: Left = Failed("backend-panicked", "unknown");

/// How long something is waited for that cannot come.
const SHORT: Duration = Duration::from_millis(200);

type Row = (Asked, Fails, Told, Daemon, Left, Retry);

#[rustfmt::skip]
const TABLE: &[Row] = &[
    // asked   what fails                          the caller hears  the daemon  on the ledger  a retry gets
    (Sign,    Store(Write::Intent, Before),        INTERNAL,         Stops,      Nothing,       Anew),
    (Sign,    Store(Write::Intent, After),         INTERNAL,         Stops,      Abandoned,     Anew),
    (Sign,    Store(Write::Outcome, Before),       INTERNAL,         Stops,      Abandoned,     Anew),
    (Sign,    Store(Write::Outcome, After),        INTERNAL,         Stops,      Issued,        Same),
    (Mac,     Store(Write::Intent, Before),        INTERNAL,         Stops,      Nothing,       Anew),
    (Mac,     Store(Write::Intent, After),         INTERNAL,         Stops,      Abandoned,     Anew),
    (Mac,     Store(Write::Outcome, Before),       INTERNAL,         Stops,      Abandoned,     Anew),
    (Mac,     Store(Write::Outcome, After),        INTERNAL,         Stops,      Issued,        Same),
    (Append,  Store(Write::Event, Before),         INTERNAL,         Stops,      Nothing,       Anew),
    (Append,  Store(Write::Event, After),          INTERNAL,         Stops,      Event,         Same),
    (Sealed,  Store(Write::Checkpoint, Before),    PENDING,          Stops,      Issued,        Same),
    (Sealed,  Store(Write::Checkpoint, After),     PENDING,          Stops,      Issued,        Same),
    (Kept,    Store(Write::EpochPlan, Before),     PENDING,          Stops,      Issued,        Same),
    (Kept,    Store(Write::EpochPlan, After),      PENDING,          Stops,      Issued,        Same),
    (Start,   Store(Write::Activation, Before),    NoStart,          Stops,      Nothing,       Anew),
    (Start,   Store(Write::Activation, After),     NoStart,          Stops,      Activation,    Same),
    (Start,   Store(Write::Registry, Before),      NoStart,          Stops,      Activation,    Same),
    (Start,   Store(Write::Registry, After),       NoStart,          Stops,      Activation,    Same),
    (Start,   Store(Write::Publication, Before),   NoStart,          Stops,      Activation,    Same),
    (Start,   Store(Write::Publication, After),    NoStart,          Stops,      Activation,    Same),
    (Recover, Store(Write::Closing, Before),       NoStart,          Stops,      Abandoned,     Anew),
    (Recover, Store(Write::Closing, After),        NoStart,          Stops,      Abandoned,     Anew),

    (Sign,    Key(AwayBefore),                     AWAY,             GoesOn,     GONE,          Anew),
    (Sign,    Key(AwayAfter),                      AWAY,             GoesOn,     GONE_AFTER,    Anew),
    (Sign,    Key(Hang),                           AWAY,             GoesOn,     LATE,          Anew),
    (Sign,    Key(Panic),                          FAILED,           GoesOn,     DIED,          Anew),
    (Sign,    Key(WrongMessage),                   FAILED,           GoesOn,     WRONG,         Anew),
    (Sign,    Key(FlippedBit),                     FAILED,           GoesOn,     WRONG,         Anew),
    (Sign,    Key(Empty),                          FAILED,           GoesOn,     WRONG,         Anew),
    (Sign,    KeyBusy,                             BUSY,             GoesOn,     Nothing,       Anew),
    (Mac,     Key(AwayBefore),                     AWAY,             GoesOn,     GONE,          Anew),
    (Mac,     Key(AwayAfter),                      AWAY,             GoesOn,     GONE_AFTER,    Anew),
    (Mac,     Key(Hang),                           AWAY,             GoesOn,     LATE,          Anew),
    (Mac,     Key(Panic),                          FAILED,           GoesOn,     DIED,          Anew),
    (Mac,     KeyOnce(WrongMessage),               FAILED,           GoesOn,     WRONG,         Anew),
    (Mac,     KeyOnce(FlippedBit),                 FAILED,           GoesOn,     WRONG,         Anew),
    (Mac,     Key(Empty),                          FAILED,           GoesOn,     WRONG,         Anew),
    (Mac,     KeyBusy,                             BUSY,             GoesOn,     Nothing,       Anew),
    (Sealed,  LedgerKey(AwayBefore),               PENDING,          GoesOn,     Issued,        Same),
    (Sealed,  LedgerKey(AwayAfter),                PENDING,          GoesOn,     Issued,        Same),
    (Sealed,  LedgerKey(Hang),                     PENDING,          GoesOn,     Issued,        Same),
    (Sealed,  LedgerKey(Panic),                    PENDING,          GoesOn,     Issued,        Same),
    (Sealed,  LedgerKey(FlippedBit),               PENDING,          GoesOn,     Issued,        Same),
    (Start,   LedgerKey(AwayBefore),               NoStart,          Stops,      Activation,    Same),
    (Start,   LedgerKey(AwayAfter),                NoStart,          Stops,      Activation,    Same),
    (Start,   LedgerKey(FlippedBit),               NoStart,          Stops,      Activation,    Same),

    (Kept,    Put(Tile, Lost(Before)),             Done,             GoesOn,     Issued,        Same),
    (Kept,    Put(Tile, Lost(After)),              Done,             GoesOn,     Issued,        Same),
    (Kept,    Put(Bundle, Lost(Before)),           Done,             GoesOn,     Issued,        Same),
    (Kept,    Put(Bundle, Lost(After)),            Done,             GoesOn,     Issued,        Same),
    (Kept,    Put(Tail, Lost(Before)),             Done,             GoesOn,     Issued,        Same),
    (Kept,    Put(Tail, Lost(After)),              Done,             GoesOn,     Issued,        Same),
    (Kept,    Put(Registry, Lost(Before)),         Done,             GoesOn,     Issued,        Same),
    (Kept,    Put(Registry, Lost(After)),          Done,             GoesOn,     Issued,        Same),
    (Kept,    Put(RegistryNote, Lost(Before)),     Done,             GoesOn,     Issued,        Same),
    (Kept,    Put(RegistryNote, Lost(After)),      Done,             GoesOn,     Issued,        Same),
    (Kept,    Put(Checkpoint, Lost(Before)),       Done,             GoesOn,     Issued,        Same),
    (Kept,    Put(Checkpoint, Lost(After)),        Done,             GoesOn,     Issued,        Same),
    (Kept,    Get(Lost(Before)),                   Done,             GoesOn,     Issued,        Same),
    (Kept,    Archive,                             PENDING,          GoesOn,     Issued,        Same),
    (Kept,    Put(Checkpoint, Hangs),              PENDING,          GoesOn,     Issued,        Same),
    (Kept,    Put(Tail, Refuses),                  PENDING,          Closes,     Issued,        Same),
    (Kept,    Put(Checkpoint, Refuses),            PENDING,          Closes,     Issued,        Same),
    (Kept,    Get(Lies),                           PENDING,          Closes,     Issued,        Same),
    (Start,   Check(Refuses),                      NoStart,          Stops,      Activation,    Same),
    (Start,   List(Lost(Before)),                  NoStart,          Stops,      Activation,    Same),
    (Start,   Get(Lost(Before)),                   NoStart,          Stops,      Activation,    Same),
    (Start,   Get(Lies),                           NoStart,          Stops,      Activation,    Same),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_table_holds() {
    let mut broken = Vec::new();
    // A few at a time, each a task of its own, so that one that does not hold hides no other.
    for rows in TABLE.chunks(4) {
        let tasks: Vec<_> = rows.iter().map(|row| (row, tokio::spawn(holds(*row)))).collect();
        for (row, task) in tasks {
            if task.await.is_err() {
                broken.push(row);
            }
        }
    }
    assert!(broken.is_empty(), "{} of {} rows do not hold: {broken:#?}", broken.len(), TABLE.len());
}

/// One row: break, ask, die, look, ask again.
async fn holds(row: Row) {
    let (asked, fails, _, daemon, left, retry) = row;
    let name = format!("{asked:?}, {fails:?}");
    let world = Arc::new(World::new());
    let first = match asked.is_start() {
        true => broken_start(&world, asked, fails).await,
        false => broken_request(&world, row, &name).await,
    };
    assert!(world.was_met(fails), "{name}: nothing failed");
    world.repair();

    let service = Service::start(&world, asked == Start, Limits::default()).await.unwrap();
    let open = left == Abandoned && fails != Store(Write::Closing, After);
    assert_eq!(service.abandoned.len(), usize::from(open), "{name}: found open");
    let so_far = (daemon == GoesOn || asked == Start).then_some(retry);
    assert_left(&service, row, so_far, &name).await;

    let again = service.ask(asked, 1, "k").await;
    assert!(again.is_done(), "{name}: {again:?}");
    if let Some(first) = first {
        assert_eq!(first, again, "{name}: another answer after the restart");
    }
    if asked != Start {
        assert_left(&service, row, Some(retry), &name).await;
    }
    assert_eq!(service.ask(asked, 1, "k").await, again, "{name}: another answer at the third time");
    audit(&world, &service, &name).await;
    service.die().await;
}

/// The ledger holds exactly this of the request.
async fn assert_left(service: &Service, row: Row, retry: Option<Retry>, name: &str) {
    let (asked, _, _, _, left, _) = row;
    let mark = asked.mark(1);
    let mut found = Vec::new();
    for leaf in leaves(service).await {
        let text = String::from_utf8(leaf).unwrap();
        if text.contains(&mark) {
            found.push(text);
        }
    }
    if let Failed(code, key_use) = left {
        assert!(found[0].contains(&format!(r#""code":"{code}""#)), "{name}: {}", found[0]);
        assert!(found[0].contains(&format!(r#""keyUse":"{key_use}"#)), "{name}: {}", found[0]);
        // Under a short deadline a slow machine may fail more than once.
        found.dedup_by(|a, b| [a, b].iter().all(|leaf| leaf.contains(".failed")));
    }
    let types = left.leaves(retry, asked);
    assert_eq!(found.len(), types.len(), "{name}: {found:?}");
    for (leaf, event_type) in found.iter().zip(types) {
        assert!(
            leaf.contains(&format!(r#""eventType":"{event_type}""#)),
            "{name}: {event_type} in {found:?}"
        );
    }
}

/// A start that fails; what came before it was sound, but for an open intent.
async fn broken_start(world: &Arc<World>, asked: Asked, fails: Fails) -> Option<Answer> {
    let service = Service::start(world, false, Limits::default()).await.unwrap();
    service.settle().await;
    if asked == Recover {
        world.break_it(Store(Write::Intent, After));
        service.ask(asked, 1, "k").await;
    }
    service.die().await;
    world.break_it(fails);
    let refused = Service::start(world, asked == Start, Limits::default()).await;
    assert!(refused.is_err(), "{asked:?}, {fails:?}: the daemon starts");
    None
}

/// A request that meets the fault; gives the answer that must never change, if there is one already.
async fn broken_request(world: &Arc<World>, row: Row, name: &str) -> Option<Answer> {
    let (asked, fails, told, daemon, _, retry) = row;
    let mut service = start_and_break(world, fails, told).await;
    let waiting = if fails == KeyBusy { occupy(&service).await } else { Vec::new() };
    let first = service.ask(asked, 1, "k").await;
    assert_heard(&first, told, name);
    world.repair();
    for waiting in waiting {
        assert!(waiting.await.unwrap().is_done(), "{name}: it waited for nothing");
    }
    let answer = match daemon {
        Stops => {
            let reason = service.stopped().await;
            assert!(reason.contains("told to lose"), "{name}: {reason}");
            assert_heard(&service.ask(asked, 2, "other").await, INTERNAL, name);
            None
        }
        Closes => {
            service.closed().await;
            assert_heard(&service.ask(asked, 2, "other").await, CLOSED, name);
            None
        }
        GoesOn => {
            service.settle().await;
            assert!(service.ask_patiently(asked, 2, "other").await.is_done(), "{name}: does not go on");
            let again = service.ask_patiently(asked, 1, "k").await;
            assert!(service.is_alive() && again.is_done(), "{name}: {again:?}");
            assert!(told != Done || (retry == Same && first == again), "{name}: {first:?} {again:?}");
            Some(again)
        }
    };
    service.die().await;
    answer
}

/// A sound start, and then the fault. Registry versions are shipped from the start on, so their puts break
/// before it; what must be waited for in vain is not waited for long.
async fn start_and_break(world: &Arc<World>, fails: Fails, told: Told) -> Service {
    let mut limits = Limits::default();
    if told == PENDING {
        limits.release_timeout = SHORT;
    }
    if fails == Key(Hang) {
        limits.sign_timeout = SHORT;
    }
    let at_start = matches!(fails, Put(Registry | RegistryNote, _));
    if at_start {
        world.break_it(fails);
    }
    let service = Service::start(world, false, limits).await.unwrap();
    service.settle().await;
    if !at_start {
        world.break_it(fails);
    }
    if matches!(fails, Put(Tile | Bundle, _)) {
        let items: Vec<_> = (1_000..1_260).map(event).collect();
        let filled = service.send("/v1/events/batch", &json!({ "items": items }), "fill").await;
        assert!(filled.is_done(), "{filled:?}");
    }
    service
}

/// Fills the device's session and the one place to wait for it.
async fn occupy(service: &Service) -> Vec<JoinHandle<Answer>> {
    let first = service.begin(Sign, 8);
    until(|| service.device().in_flight == 1).await;
    let second = service.begin(Sign, 9);
    until(|| service.device().queue_depth == 1).await;
    vec![first, second]
}

#[track_caller]
fn assert_heard(answer: &Answer, told: Told, name: &str) {
    match told {
        Done => assert!(answer.is_done(), "{name}: {answer:?}"),
        Problem(status, code) => {
            let problem = answer.json();
            assert_eq!((answer.status, &problem["code"]), (status, &json!(code)), "{name}: {problem}");
        }
        NoStart => panic!("{name}: a request was answered"),
    }
}
