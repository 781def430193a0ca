//! A retry with the same `Idempotency-Key` gets the same bytes; another request under that key is refused.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

use chancery_tests::rig::wire::{Ask, Reply, call};
use chancery_tests::rig::{Daemon, World, WorldOptions, evidence};

const DIGEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn sign(world: &World, kid: &str, digest: &str, key: &str) -> Reply {
    let body = format!("{{\"kid\":\"{kid}\",\"digest\":\"{digest}\",\"digestAlgorithm\":\"sha256\"}}");
    call(world, Some(&world.orders), &Ask::post("/v1/sign", body).header("idempotency-key", key)).unwrap()
}

#[test]
fn a_retry_gets_the_same_bytes_also_for_randomised_algorithms_and_across_a_restart() {
    let world = World::new(&WorldOptions::default());
    let daemon = Daemon::start(&world);
    let kids = ["ed", "p256", "rsa", "pss"];
    let first: Vec<Reply> = kids.iter().map(|kid| sign(&world, kid, DIGEST, &format!("k-{kid}"))).collect();
    for (kid, reply) in kids.iter().zip(&first) {
        assert_eq!(reply.status, 200, "{kid}: {}", reply.body);
        assert_eq!(sign(&world, kid, DIGEST, &format!("k-{kid}")).body, reply.body, "{kid}");
        let other = sign(&world, kid, &DIGEST.replace('9', "8"), &format!("k-{kid}"));
        assert_eq!((other.status, other.code().as_str()), (409, "idempotency-conflict"), "{kid}");
    }
    daemon.kill();
    let daemon = Daemon::start(&world);
    for (kid, reply) in kids.iter().zip(&first) {
        assert_eq!(sign(&world, kid, DIGEST, &format!("k-{kid}")).body, reply.body, "{kid} after a crash");
        assert_ne!(
            sign(&world, kid, DIGEST, &format!("k2-{kid}")).body,
            reply.body,
            "{kid}: another key, another leaf"
        );
    }
    assert!(daemon.stop().success());
    let counts = evidence::count_chained(&evidence::leaves(&world.path("archive"), &world.registry()));
    assert_eq!(counts["signing.signature.issued"], 8, "{counts:?}");
}

#[test]
fn a_retry_while_the_first_attempt_runs_waits_for_its_answer() {
    let world = World::new(&WorldOptions::default());
    let daemon = Daemon::start(&world);
    for round in 0..5 {
        let key = format!("same-{round}");
        let bodies: Vec<String> = std::thread::scope(|scope| {
            let calls: Vec<_> = (0..8).map(|_| scope.spawn(|| sign(&world, "pss", DIGEST, &key))).collect();
            let replies = calls.into_iter().map(|call| call.join().unwrap());
            replies
                .map(|reply| {
                    assert_eq!(reply.status, 200, "{}", reply.body);
                    reply.body
                })
                .collect()
        });
        assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]), "round {round}");
    }
    assert!(daemon.stop().success());
    let counts = evidence::count_chained(&evidence::leaves(&world.path("archive"), &world.registry()));
    assert_eq!(counts["signing.signature.issued"], 5, "{counts:?}");
}

#[test]
fn an_event_retried_is_the_same_event() {
    let world = World::new(&WorldOptions::default());
    let daemon = Daemon::start(&world);
    let append = |order: u32| {
        let body = format!("{{\"eventType\":\"order.paid\",\"payload\":{{\"order\":{order}}}}}");
        call(&world, Some(&world.orders), &Ask::post("/v1/events", body).header("idempotency-key", "e-1"))
            .unwrap()
    };
    let first = append(1);
    assert_eq!(first.status, 201, "{}", first.body);
    assert_eq!(append(1).body, first.body);
    assert_eq!(append(2).code(), "idempotency-conflict");
    drop(daemon);
}
