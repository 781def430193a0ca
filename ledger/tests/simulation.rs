//! Random histories against a model: events, intents, outcomes, retries, checkpoints, lost writes, crashes.
//!
//! **A failure is:** an acknowledged leaf that is gone or changed; a stream with a gap or a fork; a root that
//! is not the one recomputed from the leaves; a retry answered by another leaf; one key answered by two
//! leaves; an intent without an outcome after reopening; a call that succeeds on a stopped roll.
//! **No failure is:** a write that was lost to its caller and is there after reopening, once.
//!
//! A history is reproduced from the seed proptest prints (`PROPTEST_RNG_SEED`), and shrunk by it.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

mod support;

use std::collections::HashMap;
use std::sync::Arc;

use chancery_format::{DurableIntent, LeafIndex};
use chancery_ledger::{Enrolled, Roll, RollError};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use support::*;

/// One step. Keys, streams and ids come from small sets, so that they meet again.
#[derive(Debug, Clone)]
enum Op {
    Event {
        stream: u8,
        key: Option<u8>,
        request: u8,
        id: Option<u8>,
    },
    Events {
        stream: u8,
        count: u16,
    },
    Intent {
        key: Option<u8>,
        request: u8,
    },
    /// Ends one of the open intents, if there is one.
    Outcome {
        which: u8,
        signed: bool,
    },
    OutcomeWithoutIntent {
        key: Option<u8>,
        request: u8,
        signed: bool,
    },
    Checkpoint,
    /// The next write is lost; the step after it finds out.
    LoseNext {
        after: bool,
    },
    /// The process dies here.
    Crash,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let key = || proptest::option::weighted(0.7, 0..6u8);
    let op = prop_oneof![
        5 => (0..5u8, key(), 0..2u8, proptest::option::weighted(0.3, 0..9u8))
            .prop_map(|(stream, key, request, id)| Op::Event { stream, key, request, id }),
        2 => (0..5u8, 1..300u16).prop_map(|(stream, count)| Op::Events { stream, count }),
        5 => (key(), 0..2u8).prop_map(|(key, request)| Op::Intent { key, request }),
        5 => (any::<u8>(), any::<bool>()).prop_map(|(which, signed)| Op::Outcome { which, signed }),
        3 => (key(), 0..2u8, any::<bool>())
            .prop_map(|(key, request, signed)| Op::OutcomeWithoutIntent { key, request, signed }),
        1 => Just(Op::Checkpoint),
        1 => any::<bool>().prop_map(|after| Op::LoseNext { after }),
        1 => Just(Op::Crash),
    ];
    proptest::collection::vec(op, 1..60)
}

/// What is known about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// This leaf answers every retry of this request; `true` for a signature.
    Answered { request: u8, index: u64, signature: bool },
    /// The last attempt failed: the same request may try again.
    Failed { request: u8 },
    /// An attempt is open.
    Open { request: u8 },
    /// A write was lost: either as before, or as if it had succeeded.
    Unsure,
}

struct World {
    place: Place,
    disk: Arc<FaultyDisk>,
    roll: Option<Roll>,
    /// Acknowledged leaves.
    leaves: HashMap<u64, Arc<[u8]>>,
    keys: HashMap<u8, Known>,
    open: Vec<(DurableIntent, Option<(u8, u8)>)>,
    ids: HashMap<u8, Option<u64>>,
    requests: u64,
}

impl World {
    fn new() -> Self {
        let (place, disk) = (Place::new(), Arc::new(FaultyDisk::default()));
        let mut options = place.options();
        options.disk = disk.clone();
        let roll = Some(Roll::create(options).unwrap());
        let (leaves, keys, open, ids) = Default::default();
        Self { place, disk, roll, leaves, keys, open, ids, requests: 0 }
    }

    fn roll(&self) -> Roll {
        self.roll.clone().unwrap()
    }

    fn acknowledge(&mut self, index: LeafIndex, leaf: &Arc<[u8]>) {
        let before = self.leaves.insert(index.0, Arc::clone(leaf));
        assert!(before.is_none_or(|before| before == *leaf), "leaf {index} changed");
    }

    fn request_id(&mut self) -> String {
        self.requests += 1;
        format!("r-{}", self.requests)
    }

    fn replay(key: Option<u8>, request: u8) -> Option<chancery_format::entry::ReplayKey> {
        key.map(|key| replay(&format!("k-{key}"), request))
    }

    async fn step(&mut self, op: Op) {
        match op {
            Op::Event { stream, key, request, id } => self.event(stream, key, request, id).await,
            Op::Events { stream, count } => {
                let stream = format!("s/{stream}");
                let batch = (0..count).map(|n| (numbered(&stream, n.into()), None)).collect();
                for result in self.roll().enrol_events(batch).await {
                    match result {
                        Ok(committed) => self.acknowledge(committed.index(), committed.leaf()),
                        Err(RollError::Fatal(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            Op::Intent { key, request } => self.intent(key, request).await,
            Op::Outcome { which, signed } => self.outcome(which, signed).await,
            Op::OutcomeWithoutIntent { key, request, signed } => {
                self.outcome_without_intent(key, request, signed).await;
            }
            Op::Checkpoint => {
                match self.roll().record_checkpoint(checkpoint_of(self.roll().head().head())).await {
                    Ok(()) | Err(RollError::Fatal(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            Op::LoseNext { after } => self.disk.lose(0, if after { Lose::After } else { Lose::Before }),
            Op::Crash => self.reopen().await,
        }
        if self.roll().fatal().is_some() {
            let refused = self.roll().enrol_event(numbered("s/0", 0), None).await;
            assert!(matches!(refused, Err(RollError::Fatal(_))));
            self.reopen().await;
        }
    }

    async fn event(&mut self, stream: u8, key: Option<u8>, request: u8, id: Option<u8>) {
        let mut draft = numbered(&format!("s/{stream}"), request.into());
        draft.id = id.map(|id| format!("id-{id}").parse().unwrap());
        let replay = Self::replay(key, request).map(|replay| (principal("writer"), replay));
        // A call that must wait for an attempt this test itself has open would wait for ever.
        let known = key.and_then(|key| self.keys.get(&key).copied());
        if matches!(known, Some(Known::Open { request: asked }) if asked == request) {
            return;
        }
        let result = self.roll().enrol_event(draft, replay).await;
        match result {
            Ok(committed) => {
                let index = committed.index().0;
                match known {
                    Some(Known::Answered { request: asked, index: first, signature }) => {
                        assert_eq!((asked, first, signature), (request, index, false));
                    }
                    Some(Known::Open { .. }) => panic!("another request is in flight"),
                    Some(Known::Failed { request: asked }) => assert_eq!(asked, request),
                    Some(Known::Unsure) | None => {}
                }
                let retried = self.leaves.contains_key(&index) || known == Some(Known::Unsure);
                if let Some(id) = id.filter(|_| !retried) {
                    let taken = self.ids.insert(id, Some(index));
                    assert!(taken.is_none_or(|taken| taken.is_none()), "id-{id} was taken");
                }
                self.acknowledge(committed.index(), committed.leaf());
                key.map(|key| self.keys.insert(key, Known::Answered { request, index, signature: false }));
            }
            Err(RollError::ReplayConflict) => {
                assert!(Self::may_conflict(known, request, false), "{known:?}");
            }
            Err(RollError::IdConflict) => assert!(self.ids.contains_key(&id.unwrap())),
            Err(RollError::Fatal(_)) => {
                key.map(|key| self.keys.insert(key, Known::Unsure));
                id.map(|id| self.ids.entry(id).or_insert(None));
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Whether a conflict is right: another request, or the same one asked of the other kind.
    fn may_conflict(known: Option<Known>, request: u8, signature: bool) -> bool {
        match known {
            None => false,
            Some(Known::Unsure) => true,
            Some(Known::Answered { request: asked, signature: kind, .. }) => {
                asked != request || kind != signature
            }
            Some(Known::Failed { request: asked } | Known::Open { request: asked }) => asked != request,
        }
    }

    async fn intent(&mut self, key: Option<u8>, request: u8) {
        let known = key.and_then(|key| self.keys.get(&key).copied());
        if matches!(known, Some(Known::Open { request: asked }) if asked == request) {
            let mut answers = self.roll().enrol_intents(vec![intent("w", Self::replay(key, request))]).await;
            let refused = answers.remove(0);
            assert!(matches!(refused, Err(RollError::InFlight | RollError::Fatal(_))), "{refused:?}");
            return;
        }
        let request_id = self.request_id();
        match self.roll().enrol_intent(intent(&request_id, Self::replay(key, request))).await {
            Ok(Enrolled::New(durable)) => {
                let free =
                    matches!(known, None | Some(Known::Unsure)) || known == Some(Known::Failed { request });
                assert!(free, "{known:?}");
                self.open.push((durable, key.map(|key| (key, request))));
                key.map(|key| self.keys.insert(key, Known::Open { request }));
            }
            Ok(Enrolled::Already(outcome)) => {
                let index = outcome.index().0;
                assert!(outcome.issued().is_some());
                self.acknowledge(outcome.index(), outcome.leaf());
                let answered = Known::Answered { request, index, signature: true };
                assert!(known == Some(Known::Unsure) || known == Some(answered), "{known:?}");
                key.map(|key| self.keys.insert(key, answered));
            }
            Err(RollError::ReplayConflict) => assert!(Self::may_conflict(known, request, true), "{known:?}"),
            Err(RollError::Fatal(_)) => drop(key.map(|key| self.keys.insert(key, Known::Unsure))),
            Err(error) => panic!("{error}"),
        }
    }

    async fn outcome(&mut self, which: u8, sign: bool) {
        if self.open.is_empty() {
            return;
        }
        let (durable, key) = self.open.swap_remove(usize::from(which) % self.open.len());
        let intent = durable.into_intent();
        let outcome = if sign { signed(intent, which) } else { failed(intent) };
        match self.roll().enrol_outcome(outcome).await {
            Ok(committed) => {
                assert_eq!(committed.issued().is_some(), sign);
                assert!(!self.leaves.contains_key(&committed.index().0), "an outcome is a leaf of its own");
                self.acknowledge(committed.index(), committed.leaf());
                self.ended(key, committed.index(), sign);
            }
            Err(RollError::Fatal(_)) => drop(key.map(|(key, _)| self.keys.insert(key, Known::Unsure))),
            Err(error) => panic!("{error}"),
        }
    }

    fn ended(&mut self, key: Option<(u8, u8)>, index: LeafIndex, sign: bool) {
        let Some((key, request)) = key else { return };
        let known = match sign {
            true => Known::Answered { request, index: index.0, signature: true },
            false => Known::Failed { request },
        };
        self.keys.insert(key, known);
    }

    async fn outcome_without_intent(&mut self, key: Option<u8>, request: u8, sign: bool) {
        let known = key.and_then(|key| self.keys.get(&key).copied());
        if matches!(known, Some(Known::Open { request: asked }) if asked == request) {
            return;
        }
        let request_id = self.request_id();
        let intent = intent(&request_id, Self::replay(key, request));
        let outcome = if sign { signed(intent, 1) } else { failed(intent) };
        match self.roll().enrol_outcome(outcome).await {
            Ok(committed) => {
                if let Some(Known::Answered { index, .. }) = known {
                    assert_eq!((index, committed.issued().is_some()), (committed.index().0, true));
                }
                self.acknowledge(committed.index(), committed.leaf());
                let issued = committed.issued().is_some();
                self.ended(key.map(|key| (key, request)), committed.index(), issued);
            }
            Err(RollError::ReplayConflict) => assert!(Self::may_conflict(known, request, true), "{known:?}"),
            Err(RollError::Fatal(_)) => drop(key.map(|key| self.keys.insert(key, Known::Unsure))),
            Err(error) => panic!("{error}"),
        }
    }

    /// Dies without a word and comes back; then everything acknowledged must be there.
    async fn reopen(&mut self) {
        let open = self.open.len();
        self.open.clear();
        // The image is taken while the roll still runs, as a sudden death would leave it.
        let image = Place::new();
        copy_dir(&self.place.ledger(), &image.ledger());
        self.roll = None;
        self.place = image;
        self.disk = Arc::new(FaultyDisk::default());
        let mut options = self.place.options();
        options.disk = self.disk.clone();
        let (roll, recovered) = Roll::open(options).unwrap();
        assert!(recovered.abandoned.len() <= open + 1, "at most the lost one besides");
        assert_eq!(roll.open_intents(), 0);
        self.roll = Some(roll);
        for known in self.keys.values_mut() {
            if let Known::Open { request } = *known {
                *known = Known::Failed { request };
            }
        }
        self.check().await;
    }

    async fn check(&self) {
        let roll = self.roll();
        let seen = audit(&roll).await;
        for (index, leaf) in &self.leaves {
            let stored = roll.leaf(LeafIndex(*index)).await.unwrap().unwrap();
            assert_eq!(stored.bytes, *leaf, "acknowledged leaf {index}");
        }
        let mut ids: Vec<_> = seen.iter().map(|event| &event.id).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), seen.len(), "ids are unique");
    }
}

#[test]
fn no_history_breaks_a_promise() {
    let seed =
        std::env::var("PROPTEST_RNG_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_121);
    let config =
        Config { cases: 64, rng_seed: RngSeed::Fixed(seed), failure_persistence: None, ..Config::default() };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let result = TestRunner::new(config).run(&ops(), |ops| {
        runtime.block_on(async {
            let mut world = World::new();
            for op in ops {
                world.step(op).await;
            }
            world.check().await;
            world.reopen().await;
        });
        Ok(())
    });
    if let Err(error) = result {
        panic!("seed {seed}: {error}");
    }
}
