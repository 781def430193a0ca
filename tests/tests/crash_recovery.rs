//! Nothing acknowledged is ever lost.
//!
//! The real daemon serves 64 concurrent signers and appenders and is killed with SIGKILL at a random
//! moment, round after round. After each restart every acknowledgement of the round must be on the
//! ledger under a signed checkpoint, and every request whose answer was lost must, asked again with its
//! key, be answered once and for all. At the end the archive is read without our daemon: no stream has a
//! fork or a gap, every root ever signed is the root of those very leaves, no intent is left open, and
//! `chancery-verify` agrees.
//!
//! `CHANCERY_CRASH_ROUNDS` sets the number of rounds (50; `make soak`: 1,000), `CHANCERY_CRASH_SEED`
//! repeats a run. A failure prints both.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use chancery_client::{Client, ClientError, NewEvent, SignRequest, check_receipt};
use chancery_format::names::IdempotencyKey;
use chancery_format::{Digest, LeafIndex, TreeHead};
use chancery_tests::rig::{Daemon, World, WorldOptions, evidence, roll_options, wire};
use serde_json::value::RawValue;

const CALLERS: u64 = 64;
const ROUNDS: u64 = 50;

/// Small, fast, repeatable (SplitMix64); nothing here needs secrecy.
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % below
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// One thing a caller asked for, and what it was told.
#[derive(Clone)]
enum Asked {
    Sign { kid: &'static str, digest: [u8; 32] },
    Append { stream: String, order: u64 },
}

struct Call {
    asked: Asked,
    key: IdempotencyKey,
    /// Index and the words that must stand in that leaf; `None`: the answer was lost.
    told: Option<(LeafIndex, String)>,
}

async fn ask(
    client: &Client,
    asked: &Asked,
    key: &IdempotencyKey,
) -> Result<(LeafIndex, String), ClientError> {
    match asked {
        Asked::Sign { kid, digest } => {
            let request = SignRequest::new(kid.parse().unwrap(), &Digest::Sha256(*digest));
            let reply = client.sign(&request, key).await?.value;
            Ok((reply.index().unwrap(), format!("\"signature\":\"{}\"", reply.signature)))
        }
        Asked::Append { stream, order } => {
            let payload = RawValue::from_string(format!("{{\"order\":{order}}}")).unwrap();
            let event =
                NewEvent::new("order.paid".parse().unwrap(), payload).stream(Some(stream.parse().unwrap()));
            let reply = client.append_event(&event, key).await?.value;
            Ok((reply.index().unwrap(), format!("\"hash\":\"{}\"", reply.hash)))
        }
    }
}

/// One caller: asks until told to stop or until the service is gone.
async fn caller(
    client: Arc<Client>,
    mut dice: Dice,
    name: String,
    stop: Arc<AtomicBool>,
    acks: Arc<AtomicU64>,
) -> Vec<Call> {
    let mut calls = Vec::new();
    for turn in 0u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&dice.roll(u64::MAX).to_be_bytes());
        let asked = match dice.roll(4) {
            0 => Asked::Sign { kid: "ed", digest },
            1 => Asked::Sign { kid: "p256", digest },
            2 => Asked::Append { stream: format!("orders/{}", dice.roll(5)), order: turn },
            _ => Asked::Append { stream: "orders/all".into(), order: turn },
        };
        let key: IdempotencyKey = format!("{name}-{turn}").parse().unwrap();
        let told = match ask(&client, &asked, &key).await {
            Ok(told) => {
                acks.fetch_add(1, Ordering::Relaxed);
                Some(told)
            }
            Err(ClientError::Refused(problem)) => panic!("{name}: refused under load: {problem}"),
            Err(_) => None,
        };
        let lost = told.is_none();
        calls.push(Call { asked, key, told });
        if lost {
            break;
        }
    }
    calls
}

/// One round of load, ended by SIGKILL after `ms`.
async fn load_and_kill(world: &World, daemon: Daemon, dice: &mut Dice, round: u64, ms: u64) -> Vec<Call> {
    let mut options = world.client_options();
    options.attempts_max = 1;
    let stop = Arc::new(AtomicBool::new(false));
    let acks = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..4).map(|_| Arc::new(Client::new(&options).unwrap())).collect();
    let callers: Vec<_> = (0..CALLERS)
        .map(|number| {
            let client = Arc::clone(&clients[usize::try_from(number % 4).unwrap()]);
            let dice = Dice(dice.roll(u64::MAX));
            let task =
                caller(client, dice, format!("r{round}-c{number}"), Arc::clone(&stop), Arc::clone(&acks));
            tokio::spawn(task)
        })
        .collect();
    // A round in which nothing was acknowledged proves nothing: the clock starts at the first.
    for _ in 0..6_000 {
        if acks.load(Ordering::Relaxed) > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(acks.load(Ordering::Relaxed) > 0, "no caller was served: {}", daemon.log_tail());
    tokio::time::sleep(Duration::from_millis(ms)).await;
    daemon.kill();
    stop.store(true, Ordering::Relaxed);
    let mut calls = Vec::new();
    for caller in callers {
        calls.extend(caller.await.unwrap());
    }
    calls
}

/// Every acknowledgement has a receipt that verifies; every lost answer is settled by asking again.
async fn settle(world: &World, calls: &mut [Call]) -> (u64, u64) {
    let client = world.client();
    let registry = world.registry();
    let (mut kept, mut settled) = (0, 0);
    for call in calls {
        let again = ask(&client, &call.asked, &call.key).await.unwrap();
        match &call.told {
            Some(told) => {
                assert_eq!(*told, again, "an acknowledged answer changed");
                kept += 1;
            }
            None => settled += 1,
        }
        if (kept + settled) % 8 == 1 {
            let receipt = client.receipt(again.0).await.unwrap();
            let checked = check_receipt(&receipt, &registry).unwrap();
            assert_eq!(checked.index, again.0);
        }
        call.told = Some(again);
    }
    (kept, settled)
}

/// The last word: the archive alone.
fn audit(world: &World, calls: &[Call], heads: &[TreeHead]) -> BTreeMap<String, u64> {
    let registry = world.registry();
    let leaves = evidence::leaves(&world.path("archive"), &registry);
    let counts = evidence::count_chained(&leaves);
    let mut owners: BTreeMap<LeafIndex, &IdempotencyKey> = BTreeMap::new();
    for call in calls {
        let (index, words) = call.told.as_ref().unwrap();
        let leaf = std::str::from_utf8(&leaves[usize::try_from(index.0).unwrap()]).unwrap();
        assert!(leaf.contains(words.as_str()), "leaf {index} is not what was acknowledged");
        assert!(owners.insert(*index, &call.key).is_none(), "leaf {index} answered two requests");
    }
    let sizes: Vec<u64> = heads.iter().map(|head| head.size.0).collect();
    let roots = evidence::roots(&leaves, &sizes);
    for head in heads {
        assert_eq!(roots[&head.size.0], head.root, "the root at size {} changed", head.size);
    }
    counts
}

fn head(world: &World) -> TreeHead {
    let reply = wire::call(world, Some(&world.orders), &wire::Ask::get("/log/checkpoint")).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.body);
    let registry = world.registry();
    registry.ledger_keys().unwrap().verify(&reply.body).unwrap().head()
}

fn open_intents(world: &World) -> usize {
    let origin = world.registry().ledger.origin;
    let ledger = chancery_ledger::Roll::open(roll_options(world.path("ledger"), origin, "ledger-ed25519-v1"));
    let (_roll, recovered) = ledger.unwrap();
    recovered.abandoned.len()
}

#[test]
fn nothing_acknowledged_is_ever_lost() {
    let rounds = number("CHANCERY_CRASH_ROUNDS", ROUNDS);
    let seed = number("CHANCERY_CRASH_SEED", u64::from(std::process::id()));
    println!("CHANCERY_CRASH_ROUNDS={rounds} CHANCERY_CRASH_SEED={seed}");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let world = World::new(&WorldOptions::default());
    let mut dice = Dice(seed);
    let (mut calls, mut heads) = (Vec::new(), Vec::new());
    let (mut kept, mut settled) = (0, 0);
    for round in 0..rounds {
        let daemon = Daemon::start(&world);
        let ms = dice.roll(120);
        let mut made = runtime.block_on(load_and_kill(&world, daemon, &mut dice, round, ms));
        let daemon = Daemon::start(&world);
        let (k, s) = runtime.block_on(settle(&world, &mut made));
        heads.push(head(&world));
        (kept, settled) = (kept + k, settled + s);
        calls.append(&mut made);
        if round % 2 == 0 {
            daemon.kill();
        } else {
            assert!(daemon.stop().success());
        }
    }
    assert!(Daemon::start(&world).stop().success());
    let counts = audit(&world, &calls, &heads);
    assert_eq!(open_intents(&world), 0);
    let verdict = world.verify(&["ledger", world.path("archive").to_str().unwrap()]);
    assert!(verdict.status.success(), "{}", String::from_utf8_lossy(&verdict.stdout));
    println!(
        "{rounds} kills: {kept} acknowledged and kept, {settled} lost answers settled; leaves {counts:?}"
    );
    assert!(kept > rounds && settled > 0, "the load was too light to prove anything");
}
