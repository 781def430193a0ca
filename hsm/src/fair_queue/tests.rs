#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;

const NOISY: Flow = Flow::Principal(1);
const QUIET: Flow = Flow::Principal(2);

/// A numbered piece of work.
#[derive(Debug, Clone)]
struct Work(u32, Arc<AtomicBool>);

fn work(number: u32) -> Work {
    Work(number, Arc::default())
}

fn given_up(number: u32) -> Work {
    Work(number, Arc::new(AtomicBool::new(true)))
}

impl Waiter for Work {
    fn is_given_up(&self) -> bool {
        self.1.load(Ordering::Acquire)
    }

    fn take(&self) -> bool {
        !self.is_given_up()
    }
}

impl Lanes<Work> {
    /// Queues; the number of what was pushed out, if something was.
    fn add(&mut self, flow: Flow, item: Work) -> Result<Option<u32>, Full> {
        self.push(flow, item, &mut Vec::new()).map(|out| out.map(|Work(number, _)| number))
    }

    fn next(&mut self) -> Option<u32> {
        self.pop(&mut Vec::new()).map(|Work(number, _)| number)
    }

    fn drain(&mut self) -> Vec<u32> {
        std::iter::from_fn(|| self.next()).collect()
    }

    fn of(&self, flow: Flow) -> usize {
        self.ring.iter().filter(|lane| lane.flow == flow).map(|lane| lane.waiting.len()).sum()
    }
}

/// Turns each request of the quiet flow waited, over a thousand of them, beside a flow that asks `noise`
/// times as often; the device keeps up with the quiet flow alone twice over.
fn turns_waited(noise: u32) -> Vec<u32> {
    let mut lanes = Lanes::new(64);
    let (mut turn, mut asked, mut waited) = (0, BTreeMap::new(), Vec::new());
    for round in 0..1_000 {
        for loud in 0..noise {
            let _ = lanes.add(NOISY, work(1_000_000 + round * noise + loud));
        }
        assert_eq!(lanes.add(QUIET, work(round)).map(|_| ()), Ok(()), "the quiet flow was refused");
        asked.insert(round, turn);
        for _ in 0..2 {
            turn += 1;
            if let Some(since) = lanes.next().and_then(|number| asked.remove(&number)) {
                waited.push(turn - since);
            }
        }
    }
    assert!(asked.len() <= 1, "{} of the quiet flow were never served", asked.len());
    waited
}

#[test]
fn ten_times_the_load_of_another_costs_a_quiet_flow_one_turn() {
    assert!(turns_waited(0).iter().all(|turns| *turns == 1));
    assert!(turns_waited(10).iter().all(|turns| *turns <= 2), "at most one of the noisy flow goes before");
}

#[test]
fn flows_alternate_and_each_keeps_its_order() {
    let mut lanes = Lanes::new(16);
    for number in [10, 11, 12, 13] {
        lanes.add(NOISY, work(number)).unwrap();
    }
    lanes.add(QUIET, work(20)).unwrap();
    lanes.add(Flow::Probe, work(30)).unwrap();
    lanes.add(QUIET, work(21)).unwrap();
    assert_eq!(lanes.drain(), [10, 20, 30, 11, 21, 12, 13]);
}

#[test]
fn the_ledger_goes_first_and_is_never_pushed_out() {
    let mut lanes = Lanes::new(4);
    for number in 10..14 {
        lanes.add(NOISY, work(number)).unwrap();
    }
    assert_eq!(lanes.add(Flow::Ledger, work(1)), Ok(Some(13)), "the newest of the longest lane makes room");
    assert_eq!(lanes.add(Flow::Ledger, work(2)), Ok(Some(12)));
    assert_eq!(lanes.add(Flow::Ledger, work(3)), Err(Full), "more than half beside others");
    assert_eq!(lanes.add(QUIET, work(20)), Ok(Some(11)), "the ledger keeps its places, the noisy does not");
    assert_eq!(lanes.add(Flow::Probe, work(30)), Err(Full), "one behind is not two");
    assert_eq!(lanes.drain(), [1, 2, 10, 20]);
    let mut one = Lanes::new(1);
    one.add(NOISY, work(10)).unwrap();
    assert_eq!(one.add(QUIET, work(20)), Err(Full), "a single place is whoever's has it");
    assert_eq!(one.add(Flow::Ledger, work(1)), Ok(Some(10)));
    assert_eq!(one.add(Flow::Ledger, work(2)), Err(Full));
    assert_eq!(one.drain(), [1]);
}

#[test]
fn a_full_queue_refuses_the_noisy_first() {
    let mut lanes = Lanes::new(8);
    for number in 10..18 {
        assert_eq!(lanes.add(NOISY, work(number)), Ok(None), "alone, it may have every place");
    }
    assert_eq!(lanes.add(NOISY, work(18)), Err(Full));
    let pushed_out: Vec<_> = (20..24).map(|number| lanes.add(QUIET, work(number)).unwrap()).collect();
    assert_eq!(
        pushed_out,
        [Some(17), Some(16), Some(15), Some(14)],
        "its newest make room, to half and half"
    );
    assert_eq!((lanes.add(NOISY, work(19)), lanes.add(QUIET, work(24))), (Err(Full), Err(Full)));
    assert_eq!(
        lanes.add(Flow::Probe, work(30)).map(|out| out.is_some()),
        Ok(true),
        "a third has its share too"
    );
    // Beside another, half is the most even while places are free.
    let mut lanes = Lanes::new(8);
    lanes.add(QUIET, work(20)).unwrap();
    assert_eq!((10..18).filter(|number| lanes.add(NOISY, work(*number)).is_ok()).count(), 4);
}

#[test]
fn what_was_given_up_costs_neither_a_turn_nor_a_place() {
    let mut lanes = Lanes::new(4);
    lanes.add(NOISY, given_up(10)).unwrap();
    lanes.add(QUIET, given_up(20)).unwrap();
    lanes.add(NOISY, work(11)).unwrap();
    lanes.add(QUIET, work(21)).unwrap();
    assert_eq!(lanes.len, 4);
    assert_eq!(lanes.add(Flow::Probe, work(30)), Ok(None), "nobody had to make room but who had left");
    assert_eq!(lanes.len, 3);
    assert_eq!(lanes.drain(), [11, 21, 30]);
    lanes.add(NOISY, given_up(12)).unwrap();
    lanes.add(NOISY, work(13)).unwrap();
    lanes.add(QUIET, work(22)).unwrap();
    let mut gone = Vec::new();
    assert_eq!(lanes.pop(&mut gone).unwrap().0, 13, "the turn is for who still waits");
    assert_eq!((gone.len(), lanes.next(), lanes.len), (1, Some(22), 0));
}

#[test]
fn threads_sleep_until_there_is_work_and_end_with_the_sender() {
    let (sender, receiver) = bounded::<Work>(4);
    let threads: Vec<_> = (0..3)
        .map(|_| receiver.clone())
        .map(|mine| std::thread::spawn(move || std::iter::from_fn(|| mine.recv()).map(|w| w.0).collect()))
        .collect();
    drop(receiver);
    let mut sent = 0;
    while sent < 1_000 {
        match sender.try_send(Flow::Principal(u64::from(sent % 7)), work(sent)) {
            Ok(None) => sent += 1,
            Ok(Some(Work(out, _))) => panic!("{out} was pushed out between equals"),
            Err(error) => {
                assert_eq!(error, SendError::Full);
                std::thread::yield_now();
            }
        }
    }
    drop(sender);
    let taken: Vec<Vec<u32>> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(taken.concat().into_iter().collect::<BTreeSet<_>>(), (0..1_000).collect());
}

#[test]
fn without_threads_nothing_is_queued_and_what_waited_is_dropped() {
    let (sender, receiver) = bounded(4);
    let waiting = work(1);
    sender.try_send(NOISY, waiting.clone()).unwrap();
    assert_eq!(Arc::strong_count(&waiting.1), 2);
    drop(receiver);
    assert_eq!(Arc::strong_count(&waiting.1), 1);
    assert_eq!((sender.len(), sender.is_full()), (0, false));
    assert_eq!(sender.try_send(NOISY, work(2)).map(|_| ()), Err(SendError::NoReceiver));
}

/// What may happen to a queue.
#[derive(Debug, Clone)]
enum Step {
    Push(u64),
    Pop,
    /// The caller of the n-th that waits, in order of arrival, goes away.
    GiveUp(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..4u64).prop_map(Step::Push),
        3 => Just(Step::Pop),
        1 => (0..16usize).prop_map(Step::GiveUp),
    ]
}

fn flow_of(number: u64) -> Flow {
    if number == 0 { Flow::Ledger } else { Flow::Principal(number) }
}

proptest! {
    #[test]
    fn whatever_happens_bounds_order_and_turns_hold(max in 1..12usize, steps in prop::collection::vec(step(), 1..200)) {
        let mut lanes = Lanes::new(max);
        // What must still be inside, per flow in order of arrival.
        let mut model: BTreeMap<u64, VecDeque<Work>> = (0..4).map(|flow| (flow, VecDeque::new())).collect();
        // Turns others had while this flow had somebody waiting.
        let mut passed_over: BTreeMap<u64, usize> = BTreeMap::new();
        for (number, step) in (0..).zip(steps) {
            match step {
                Step::Push(flow) => {
                    let (mine, len) = (lanes.of(flow_of(flow)), lanes.len);
                    let longest = (1..4).map(|flow| lanes.of(flow_of(flow))).max().unwrap_or(0);
                    let item = work(number);
                    match lanes.add(flow_of(flow), item.clone()) {
                        Ok(out) => {
                            for waiting in model.values_mut() {
                                waiting.retain(|work| Some(work.0) != out);
                            }
                            model.entry(flow).or_default().push_back(item);
                        }
                        Err(Full) => prop_assert!(len >= max || mine >= (max / 2).max(1)),
                    }
                    let refused = model[&flow].back().is_none_or(|work| work.0 != number);
                    if refused && mine < (max / 2).max(1) {
                        prop_assert!(flow != 0 || longest == 0, "the ledger gives way to nobody");
                        prop_assert!(longest < mine + 2, "refused while another has more than its share");
                    }
                }
                Step::Pop => {
                    let alive = |waiting: &VecDeque<Work>| waiting.iter().any(|work| !work.is_given_up());
                    let waiting: Vec<u64> = model.iter().filter(|(_, w)| alive(w)).map(|(flow, _)| *flow).collect();
                    let Some(taken) = lanes.next() else {
                        prop_assert!(waiting.is_empty(), "somebody waits, and nobody was served");
                        continue;
                    };
                    let of = *model.iter().find(|(_, w)| w.iter().any(|work| work.0 == taken)).unwrap().0;
                    prop_assert!(of == 0 || !waiting.contains(&0), "the ledger goes first");
                    let lane = model.entry(of).or_default();
                    let first = lane.iter().find(|work| !work.is_given_up()).unwrap();
                    prop_assert_eq!(first.0, taken, "first come, first served");
                    lane.retain(|work| work.0 > taken);
                    passed_over.insert(of, 0);
                    for flow in waiting.into_iter().filter(|flow| *flow != of && of != 0) {
                        let turns = passed_over.entry(flow).or_default();
                        *turns += 1;
                        prop_assert!(*turns <= 3, "flow {} was passed over {} times", flow, turns);
                    }
                }
                Step::GiveUp(nth) => {
                    let mut all: Vec<&Work> = model.values().flatten().collect();
                    all.sort_by_key(|work| work.0);
                    if let Some(work) = all.get(nth) {
                        work.1.store(true, Ordering::Release);
                    }
                }
            }
            for flow in model.iter().filter(|(_, w)| w.iter().all(Waiter::is_given_up)).map(|(flow, _)| flow) {
                passed_over.remove(flow);
            }
            prop_assert!(lanes.len <= max);
            prop_assert_eq!(lanes.len, lanes.ring.iter().map(|lane| lane.waiting.len()).sum::<usize>());
            prop_assert!(lanes.ring.iter().all(|lane| !lane.waiting.is_empty()));
            prop_assert!(lanes.ring.iter().skip(1).all(|lane| lane.flow != Flow::Ledger));
        }
        let left: BTreeSet<u32> = lanes.drain().into_iter().collect();
        let expected = model.values().flatten().filter(|work| !work.is_given_up()).map(|work| work.0).collect();
        prop_assert_eq!(left, expected, "nothing is lost and nothing comes twice");
    }
}
