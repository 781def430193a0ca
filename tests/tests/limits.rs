//! How much keys may be used: a key's rate, a day's quota, a key pair's life. Counted on the ledger, so that neither
//! a crash nor a reload gives anybody more.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

use chancery_tests::rig::wire::{Ask, Reply, call};
use chancery_tests::rig::{Daemon, World, WorldOptions, wait_for};

const LIMITS: &str = "
[[key_limits]]
kid = \"ed\"
lifetime_uses = 4

[[key_limits]]
kid = \"p256\"
daily_quota = 3

[[key_limits]]
kid = \"rsa\"
rate_per_second = 1
burst = 2
";

/// A digest of its own for each number.
fn body(kid: &str, number: usize) -> String {
    format!("{{\"kid\":\"{kid}\",\"digest\":\"{number:064x}\",\"digestAlgorithm\":\"sha256\"}}")
}

fn sign(world: &World, kid: &str, number: usize) -> Reply {
    call(world, Some(&world.orders), &Ask::post("/v1/sign", body(kid, number))).unwrap()
}

#[track_caller]
fn refused(reply: &Reply, status: u16, code: &str) {
    assert_eq!((reply.status, reply.code().as_str()), (status, code), "{}", reply.body);
    assert_eq!(reply.header("retry-after").is_some(), status == 429, "{:?}", reply.headers);
}

#[test]
fn a_key_pair_is_used_so_often_and_no_more_across_crashes() {
    let world = World::new(&WorldOptions { more: LIMITS.to_owned(), ..WorldOptions::default() });
    let daemon = Daemon::start(&world);
    let first = sign(&world, "ed", 1);
    assert_eq!(first.status, 200, "{}", first.body);
    // The same request again under its key is no second use; a dry run is none at all; nor is what was refused.
    let keyed = || {
        let ask = Ask::post("/v1/sign", body("ed", 2)).header("idempotency-key", "once");
        call(&world, Some(&world.orders), &ask).unwrap()
    };
    assert_eq!((keyed().status, keyed().status), (200, 200));
    let dry = body("ed", 3).replace('}', ",\"dryRun\":true}");
    assert_eq!(call(&world, Some(&world.orders), &Ask::post("/v1/sign", dry.clone())).unwrap().status, 200);
    let wrong = body("ed", 3).replace("sha256", "md5");
    assert_eq!(call(&world, Some(&world.orders), &Ask::post("/v1/sign", wrong)).unwrap().status, 400);
    daemon.kill();
    let daemon = Daemon::start(&world);
    assert!(daemon.ops("/metrics").unwrap().1.contains("chancery_key_uses_left{kid=\"ed\"} 2"));
    // Items of a batch are uses, each by itself.
    let items: Vec<String> = (4..8).map(|number| body("ed", number)).collect();
    let batch = format!("{{\"items\":[{}]}}", items.join(","));
    let reply = call(&world, Some(&world.orders), &Ask::post("/v1/sign/batch", batch)).unwrap();
    let results = reply.json()["items"].as_array().unwrap().clone();
    let codes: Vec<_> = results.iter().map(|item| item["code"].as_str().unwrap_or("signed")).collect();
    assert_eq!(codes, ["signed", "signed", "key-exhausted", "key-exhausted"], "{}", reply.body);
    refused(&sign(&world, "ed", 8), 403, "key-exhausted");
    let dry = call(&world, Some(&world.orders), &Ask::post("/v1/sign", dry)).unwrap();
    refused(&dry, 403, "key-exhausted");
    // Other keys go on; so does verifying.
    assert_eq!(sign(&world, "k1", 9).status, 200);
    daemon.kill();
    let daemon = Daemon::start(&world);
    refused(&sign(&world, "ed", 10), 403, "key-exhausted");
    assert!(daemon.metric("chancery_key_uses_left{kid=\"ed\"}") == 0);
    assert!(daemon.stop().success());
}

#[test]
fn quotas_of_the_day_and_rates_of_keys_are_held_and_reloaded() {
    let world = World::new(&WorldOptions { more: LIMITS.to_owned(), ..WorldOptions::default() });
    let daemon = Daemon::start(&world);
    for number in 0..3 {
        assert_eq!(sign(&world, "p256", number).status, 200);
    }
    let over = sign(&world, "p256", 3);
    refused(&over, 429, "quota-exceeded");
    let wait: u64 = over.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=86_400).contains(&wait), "until midnight: {wait}");
    assert_eq!(sign(&world, "k1", 3).status, 200, "another key's quota is its own");
    let replies: Vec<Reply> = (0..5).map(|number| sign(&world, "rsa", number)).collect();
    assert!((2..5).contains(&replies.iter().filter(|reply| reply.status == 200).count()));
    refused(replies.iter().find(|reply| reply.status != 200).unwrap(), 429, "rate-limited");
    daemon.kill();
    // What was used before counts after, also for a quota that is new.
    let daemon = Daemon::start(&world);
    refused(&sign(&world, "p256", 4), 429, "quota-exceeded");
    let file = world.config_file();
    let text = std::fs::read_to_string(&file).unwrap();
    let changed = text.replace("daily_quota = 3", "daily_quota = 4");
    let principal = "rate_per_second = ";
    let at = changed.find(principal).unwrap();
    let changed = format!("{}daily_quota = 9\n{}", &changed[..at], &changed[at..]);
    std::fs::write(&file, changed).unwrap();
    let one_more =
        wait_for("the reload", || Some(sign(&world, "p256", 4)).filter(|reply| reply.status == 200));
    assert_eq!(one_more.status, 200);
    refused(&sign(&world, "p256", 5), 429, "quota-exceeded");
    // Three, one, two or more, and one: whoever asks has so many a day in all.
    let mine = (0..9).map(|number| sign(&world, "k1", number)).find(|reply| reply.status != 200).unwrap();
    refused(&mine, 429, "quota-exceeded");
    assert!(mine.body.contains("this principal"), "{}", mine.body);
    assert!(daemon.stop().success());
}
