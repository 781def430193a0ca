//! A process that is killed while it writes, again and again, on the same ledger.
//!
//! Each child enrols as fast as it can and prints an index once it is acknowledged; it is killed with
//! SIGKILL at some moment. Whatever was printed must be there, and the next child must open what was left.
//! Not the usual harness, because the children are this same program.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use chancery_format::LeafIndex;
use chancery_ledger::{Enrolled, Roll};
use support::*;

const CHILD: &str = "CHANCERY_TEST_KILL_NINE_LEDGER";
const ROUNDS: usize = 8;

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    match std::env::var_os(CHILD) {
        Some(dir) => runtime.block_on(write_until_killed(Path::new(&dir))),
        None => {
            runtime.block_on(kill_again_and_again());
            println!("kill_nine: {ROUNDS} kills, nothing lost");
        }
    }
}

/// Four tasks: events, and signatures with intents; one line per acknowledged leaf.
async fn write_until_killed(dir: &Path) {
    let (roll, _) = Roll::open(options(dir)).unwrap();
    let tasks = (0..4).map(|task| {
        let roll = roll.clone();
        tokio::spawn(async move {
            for number in 0u64.. {
                let index = if task == 0 {
                    let request = format!("r-{number}");
                    let Enrolled::New(durable) = roll.enrol_intent(intent(&request, None)).await.unwrap()
                    else {
                        panic!("there is no key to answer by")
                    };
                    roll.enrol_outcome(signed(durable.into_intent(), 1)).await.unwrap().index()
                } else {
                    let text = format!("{{\"x\":\"{}\"}}", "x".repeat(number as usize % 4000));
                    roll.enrol_event(draft(&format!("s/{task}"), &text), None).await.unwrap().index()
                };
                let mut out = std::io::stdout().lock();
                writeln!(out, "{index}").unwrap();
                out.flush().unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

async fn kill_again_and_again() {
    let place = Place::new();
    drop(Roll::create(place.options()).unwrap());
    for round in 0..ROUNDS {
        // Dies after a different number of acknowledged leaves each time.
        let acknowledged = run_and_kill(&place.ledger(), 40 + round * 173);
        let (roll, recovered) = Roll::open(place.options()).unwrap();
        let seen = audit(&roll).await;
        for index in &acknowledged {
            assert!(roll.leaf(LeafIndex(*index)).await.unwrap().is_some(), "round {round}: {index} is lost");
        }
        assert!(recovered.abandoned.len() <= 1, "one task signs, one key use at a time");
        let abandoned = seen.iter().filter(|event| event.event_type == "signing.signature.abandoned");
        assert!(abandoned.count() <= round + 1);
        assert_eq!(roll.open_intents(), 0);
    }
}

/// Starts a child, lets it acknowledge `count` leaves, kills it; gives all it had printed.
fn run_and_kill(dir: &Path, count: usize) -> Vec<u64> {
    let program = std::env::current_exe().unwrap();
    let mut child = Command::new(program).env(CHILD, dir).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged: Vec<u64> =
        lines.by_ref().take(count).map(|line| line.unwrap().parse().unwrap()).collect();
    child.kill().unwrap();
    // What was already in the pipe was acknowledged too; a torn last line was not.
    acknowledged.extend(lines.map_while(Result::ok).filter_map(|line| line.parse::<u64>().ok()));
    child.wait().unwrap();
    assert!(acknowledged.len() >= count, "the child died early");
    acknowledged
}
