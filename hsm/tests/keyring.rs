//! The keyring's promises: what becomes an outcome, what is never released, what is refused at start.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use chancery_format::committed::{DurableIntent, IssuedPayload};
use chancery_format::cose::VerifiedCoseHead;
use chancery_format::cosignature::CosignedAt;
use chancery_format::entry::KeyUse;
use chancery_format::log_key::LogKey;
use chancery_format::{
    Checkpoint, ConfirmedHead, Digest, DurableHead, Hash, HashAlgorithm, Intent, Origin, SignatureAlgorithm,
    TreeHead, TreeSize,
};
use chancery_hsm::testing::{Fault, FaultyDevice, Renamed};
use chancery_hsm::{Backend, BackendState, Cost, Keyring, KeyringError, MacMessage, Registered, SignerError};
use common::{
    base64, digest, digest_for, ending, faulty_ring, intent, intent_by, intent_of, later, software, spec,
    until, with_all_keys,
};

use SignatureAlgorithm::{EcdsaP256Sha256, Ed25519, HmacSha256, MlDsa65, RsaSha256};

const AT: CosignedAt = CosignedAt::UNSTATED;

fn failed(code: &str, key_use: KeyUse) -> Result<String, (String, KeyUse)> {
    Err((code.to_owned(), key_use))
}

#[tokio::test]
async fn every_algorithm_seals_inline_and_on_threads_and_verifies() {
    for cost in [Cost::Inline, Cost::Blocking] {
        let (ring, _) = faulty_ring(cost, 2, 16);
        for algorithm in SignatureAlgorithm::ALL.into_iter().filter(|algorithm| !algorithm.is_mac()) {
            let kid = algorithm.as_str().parse().unwrap();
            // Several, because of what only some signatures have: leading zeros, the higher `s`.
            for number in 0..8 {
                let asked = digest_for(algorithm, number);
                let sealed = ring.seal(intent(algorithm, asked), None, later()).await;
                let signature = base64(&ending(&sealed).unwrap());
                let key = ring.lookup(&kid).unwrap().public_key.clone().unwrap();
                assert!(key.verify(&asked, &signature), "{algorithm}");
                assert!(ring.verify(&kid, &asked, &signature).unwrap());
                assert!(!ring.verify(&kid, &digest_for(algorithm, number + 1), &signature).unwrap());
            }
            if let Some(wanted) = algorithm.digest() {
                let other = if wanted == HashAlgorithm::Sha384 { digest(1) } else { Digest::Sha384([1; 48]) };
                let refused = ring.seal(intent(algorithm, other), None, later()).await;
                assert_eq!(ending(&refused), failed("algorithm-mismatch", KeyUse::None), "{algorithm}");
            }
        }
    }
}

#[tokio::test]
async fn a_mac_is_over_the_message_recorded_and_is_checked_by_the_device() {
    let (ring, _) = faulty_ring(Cost::Blocking, 1, 4);
    let kid = HmacSha256.as_str().parse().unwrap();
    let message = b"pay 100".to_vec();
    let recorded = chancery_format::Digest::Sha256(Hash::of(&[&message]).0);
    let outcome = ring.seal(intent(HmacSha256, recorded), Some(message.clone()), later()).await;
    let mac = base64(&ending(&outcome).unwrap());
    assert!(ring.mac_verify(&kid, MacMessage::Message(message.clone()), &mac, later()).await.unwrap());
    let forged = [&[mac[0] ^ 1], &mac[1..]].concat();
    assert!(!ring.mac_verify(&kid, MacMessage::Message(message.clone()), &forged, later()).await.unwrap());
    assert!(!ring.mac_verify(&kid, MacMessage::Message(message.clone()), &mac[..31], later()).await.unwrap());

    let other = ring.seal(intent(HmacSha256, digest(1)), Some(message), later()).await;
    assert_eq!(ending(&other), failed("algorithm-mismatch", KeyUse::None));
    let of_digest = base64(&ending(&ring.seal(intent(HmacSha256, recorded), None, later()).await).unwrap());
    assert_ne!(of_digest, mac);
    assert!(ring.mac_verify(&kid, MacMessage::Digest(recorded), &of_digest, later()).await.unwrap());
    assert_eq!(ring.verify(&kid, &recorded, &mac), Err(SignerError::WrongInput));
}

#[tokio::test]
async fn a_signature_that_does_not_verify_is_never_released() {
    for cost in [Cost::Inline, Cost::Blocking] {
        let (ring, faults) = faulty_ring(cost, 1, 4);
        for fault in [Fault::WrongMessage, Fault::FlippedBit, Fault::Empty] {
            faults.set(fault);
            for algorithm in SignatureAlgorithm::ALL.into_iter().filter(|algorithm| !algorithm.is_mac()) {
                let asked = digest_for(algorithm, 1);
                let outcome = ring.seal(intent(algorithm, asked), None, later()).await;
                assert_eq!(
                    ending(&outcome),
                    failed("bad-signature", KeyUse::Unknown),
                    "{fault:?} {algorithm}"
                );
            }
        }
        let health = &ring.health()[0];
        assert_eq!(health.last_error.map(|(code, _)| code), Some("bad-signature"));
        // One wrong signature is an alarm, not an outage: the next may be right.
        faults.set(Fault::None);
        assert!(ending(&ring.seal(intent(Ed25519, digest(1)), None, later()).await).is_ok());
    }
}

#[tokio::test]
async fn an_intent_must_name_a_key_as_the_keyring_knows_it() {
    let (ring, faults) = faulty_ring(Cost::Inline, 1, 4);
    let seal = async |intent| ending(&ring.seal(intent, None, later()).await);
    assert_eq!(seal(intent_of("nobody", Ed25519, digest(1))).await, failed("unknown-kid", KeyUse::None));
    assert_eq!(
        seal(intent_of("ed25519", RsaSha256, digest(1))).await,
        failed("algorithm-mismatch", KeyUse::None)
    );
    assert_eq!(seal(intent_of("ledger", Ed25519, digest(1))).await, failed("ledger-key", KeyUse::None));
    let with_message = ring.seal(intent(Ed25519, digest(1)), Some(vec![1]), later()).await;
    assert_eq!(ending(&with_message), failed("algorithm-mismatch", KeyUse::None));
    assert_eq!(faults.asked(), 0);
}

#[tokio::test]
async fn a_panic_costs_one_request_and_no_thread() {
    for cost in [Cost::Inline, Cost::Blocking] {
        let (ring, faults) = faulty_ring(cost, 2, 4);
        faults.set(Fault::Panic);
        for _ in 0..5 {
            let outcome = ring.seal(intent(Ed25519, digest(1)), None, later()).await;
            assert_eq!(ending(&outcome), failed("backend-panicked", KeyUse::Unknown));
        }
        faults.set(Fault::None);
        assert!(ending(&ring.seal(intent(Ed25519, digest(1)), None, later()).await).is_ok());
    }
}

#[tokio::test]
async fn a_deadline_tells_waiting_from_working() {
    let (ring, faults) = faulty_ring(Cost::Blocking, 1, 4);
    let past = std::time::Instant::now();
    assert_eq!(
        ending(&ring.seal(intent(Ed25519, digest(1)), None, past).await),
        failed("deadline-exceeded", KeyUse::None)
    );
    assert_eq!(faults.asked(), 0);

    faults.set(Fault::Hang);
    let soon = || std::time::Instant::now() + Duration::from_millis(200);
    let working = tokio::spawn({
        let ring = Arc::clone(&ring);
        async move { ending(&ring.seal(intent(Ed25519, digest(1)), None, soon()).await) }
    });
    until("the device hangs", || faults.inside() == 1).await;
    let waiting = ending(&ring.seal(intent(Ed25519, digest(2)), None, soon()).await);
    assert_eq!(waiting, failed("deadline-exceeded", KeyUse::None));
    assert_eq!(working.await.unwrap(), failed("deadline-exceeded", KeyUse::Unknown));

    let health = &ring.health()[0];
    assert_eq!((health.in_flight, health.sessions, health.queue_max), (1, 1, 4));
    faults.set(Fault::None);
    until("the device is free", || ring.health()[0].in_flight == 0).await;
    assert!(ending(&ring.seal(intent(Ed25519, digest(3)), None, later()).await).is_ok());
    assert_eq!(faults.asked(), 2, "the request that gave up in the queue never reached the device");
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_a_caller_who_leaves_takes_its_request_along() {
    let (ring, faults) = faulty_ring(Cost::Blocking, 1, 2);
    faults.set(Fault::Hang);
    let spawn = |number| {
        let ring = Arc::clone(&ring);
        tokio::spawn(async move { ending(&ring.seal(intent(Ed25519, digest(number)), None, later()).await) })
    };
    let first = spawn(1);
    until("the device hangs", || faults.inside() == 1).await;
    let (second, third) = (spawn(2), spawn(3));
    until("the queue is full", || ring.health()[0].queue_depth == 2).await;
    let refused = ring.seal(intent(Ed25519, digest(4)), None, later()).await;
    assert_eq!(ending(&refused), failed("backend-busy", KeyUse::None));
    assert_eq!(ring.available(&"ed25519".parse().unwrap()), Err(SignerError::Busy));

    second.abort();
    assert!(second.await.unwrap_err().is_cancelled());
    faults.set(Fault::None);
    assert!(first.await.unwrap().is_ok() && third.await.unwrap().is_ok());
    assert_eq!(faults.asked(), 2);
}

#[tokio::test]
async fn a_service_that_fills_the_queue_does_not_keep_another_out() {
    let (ring, faults) = faulty_ring(Cost::Blocking, 1, 4);
    faults.set(Fault::Hang);
    let kid = "ed25519".parse().unwrap();
    let may = |principal: &str| ring.available_to(&principal.parse().unwrap(), &kid);
    let spawn = |principal: &'static str, number| {
        let ring = Arc::clone(&ring);
        let intent = intent_by(principal, "ed25519", Ed25519, digest(number));
        tokio::spawn(async move { ending(&ring.seal(intent, None, later()).await) })
    };
    let under_way = spawn("noisy", 1);
    until("the device hangs", || faults.inside() == 1).await;
    let mut waiting: Vec<_> = (2..6).map(|number| spawn("noisy", number)).collect();
    until("the queue is full", || ring.health()[0].queue_depth == 4).await;
    assert_eq!((may("noisy"), may("quiet")), (Err(SignerError::Busy), Ok(())));

    let quiet = spawn("quiet", 10);
    until("one made room", || waiting.iter().any(|noisy| noisy.is_finished())).await;
    let refused = waiting.iter().position(|noisy| noisy.is_finished()).unwrap();
    assert_eq!(waiting.remove(refused).await.unwrap(), failed("backend-busy", KeyUse::None));
    faults.set(Fault::None);
    assert!(quiet.await.unwrap().is_ok() && under_way.await.unwrap().is_ok());
    for noisy in waiting {
        assert!(noisy.await.unwrap().is_ok());
    }
    assert_eq!(faults.asked(), 5, "who made room never reached the device");
}

#[tokio::test]
async fn an_outage_is_refused_at_once_and_ends_by_probe_or_trial() {
    let (ring, faults) = faulty_ring(Cost::Blocking, 1, 4);
    let kid = "ed25519".parse().unwrap();
    for (fault, key_use) in [(Fault::AwayBefore, KeyUse::None), (Fault::AwayAfter, KeyUse::Unknown)] {
        faults.set(fault);
        let outcome = ring.seal(intent(Ed25519, digest(1)), None, later()).await;
        assert_eq!(ending(&outcome), failed("backend-unavailable", key_use));
        assert_eq!(ring.health()[0].state, BackendState::Down);
        let before = faults.asked();
        assert!(matches!(ring.available(&kid), Err(SignerError::Unavailable { .. })));
        let at_once = ring.seal(intent(Ed25519, digest(1)), None, later()).await;
        assert_eq!(ending(&at_once), failed("backend-unavailable", KeyUse::None));
        assert_eq!(faults.asked(), before, "a device known to be away is not asked");

        ring.probe(Duration::from_secs(60)).await;
        assert_eq!(ring.health()[0].state, BackendState::Down);
        faults.set(Fault::None);
        ring.probe(Duration::from_secs(60)).await;
        assert_eq!(ring.health()[0].state, BackendState::Up);
        assert!(ending(&ring.seal(intent(Ed25519, digest(1)), None, later()).await).is_ok());
    }
    // Without a probe, a trial request finds out.
    faults.set(Fault::AwayBefore);
    ring.seal(intent(Ed25519, digest(1)), None, later()).await;
    faults.set(Fault::None);
    until("a trial is due", || ring.available(&kid).is_ok()).await;
    assert!(ending(&ring.seal(intent(Ed25519, digest(1)), None, later()).await).is_ok());
    assert_eq!(ring.health()[0].state, BackendState::Up);
}

#[tokio::test]
async fn the_kill_switch_reaches_requests_that_already_wait() {
    let (ring, faults) = faulty_ring(Cost::Blocking, 1, 4);
    faults.set(Fault::Hang);
    let spawn = |number| {
        let ring = Arc::clone(&ring);
        tokio::spawn(async move { ending(&ring.seal(intent(Ed25519, digest(number)), None, later()).await) })
    };
    let under_way = spawn(1);
    until("the device hangs", || faults.inside() == 1).await;
    let waiting = spawn(2);
    until("one waits", || ring.health()[0].queue_depth == 1).await;

    let report = ring.kill_switch().halt("drill", Duration::from_millis(20)).await;
    assert_eq!(report.still_in_use, 1, "the device call under way is waited for, not denied");
    let refused = ring.seal(intent(Ed25519, digest(3)), None, later()).await;
    assert_eq!(ending(&refused), failed("halted", KeyUse::None));
    assert_eq!(ring.available(&"ed25519".parse().unwrap()), Err(SignerError::Halted));

    let halting = ring.kill_switch().halt("drill", Duration::from_secs(60));
    faults.set(Fault::None);
    assert_eq!(halting.await.still_in_use, 0);
    assert!(under_way.await.unwrap().is_ok());
    assert_eq!(waiting.await.unwrap(), failed("halted", KeyUse::None));
    assert_eq!(faults.asked(), 1);

    // What happened stays provable.
    let origin: Origin = "log.example/test".parse().unwrap();
    let head = confirmed(TreeHead { size: TreeSize(1), root: Hash([1; 32]) });
    assert!(ring.sign_checkpoint(&head, &origin, AT, later()).await.is_ok());
    assert!(ring.sign_cose_head(&head, &origin, later()).await.is_ok());
    assert_eq!(faults.asked(), 3);

    ring.kill_switch().resume();
    assert!(ending(&ring.seal(intent(Ed25519, digest(4)), None, later()).await).is_ok());
}

#[tokio::test]
async fn a_callers_departure_does_not_hide_a_device_call_from_the_kill_switch() {
    let (ring, faults) = faulty_ring(Cost::Blocking, 1, 4);
    faults.set(Fault::Hang);
    let gone = {
        let ring = Arc::clone(&ring);
        tokio::spawn(async move { ring.seal(intent(Ed25519, digest(1)), None, later()).await })
    };
    until("the device hangs", || faults.inside() == 1).await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    assert_eq!(ring.kill_switch().halt("drill", Duration::from_millis(5)).await.still_in_use, 1);
    faults.set(Fault::None);
    assert_eq!(ring.kill_switch().halt("drill", Duration::from_secs(60)).await.still_in_use, 0);
}

fn confirmed(head: TreeHead) -> ConfirmedHead {
    DurableHead::after_sync(head).confirmed_by(head).unwrap()
}

#[tokio::test]
async fn checkpoints_verify_with_the_published_key_and_name() {
    let (ring, faults) = faulty_ring(Cost::Inline, 1, 4);
    let origin: Origin = "log.example/test".parse().unwrap();
    let head = TreeHead { size: TreeSize(7), root: Hash([9; 32]) };
    let note = ring.sign_checkpoint(&confirmed(head), &origin, AT, later()).await.unwrap();
    let keys = [ring.note_verifier(&origin).unwrap()];
    assert_eq!(Checkpoint::verify(&note, &origin, &keys).unwrap().head(), head);
    faults.set(Fault::FlippedBit);
    let bad = ring.sign_checkpoint(&confirmed(head), &origin, AT, later()).await;
    assert_eq!(bad, Err(SignerError::BadSignature));
}

#[tokio::test]
async fn a_second_key_signs_checkpoints_beside_the_first_and_nothing_else() {
    let device = Arc::new(FaultyDevice::new(software(), Cost::Inline, 1));
    let faults = device.faults();
    let build = |second: &str| {
        Keyring::builder()
            .backend(Arc::clone(&device) as Arc<dyn Backend>)
            .key(spec("ledger", "ed25519", Ed25519))
            .key(spec("ledger-pq", "ml-dsa-44", SignatureAlgorithm::MlDsa44))
            .ledger_key("ledger".parse().unwrap())
            .second_ledger_key(Some(second.parse().unwrap()))
            .build()
    };
    for wrong in ["ledger", "absent"] {
        let errors = build(wrong).err().unwrap().0;
        assert_eq!(errors, [KeyringError::SecondLedgerKey(wrong.parse().unwrap())]);
    }
    let ring = build("ledger-pq").unwrap();
    let origin: Origin = "log.example/test".parse().unwrap();
    let head = TreeHead { size: TreeSize(7), root: Hash([9; 32]) };
    let note = ring.sign_checkpoint(&confirmed(head), &origin, AT, later()).await.unwrap();
    let keys = ring.ledger_keys(&origin).unwrap();
    let verified = keys.verify(&note).unwrap();
    assert!(verified.is_hybrid());
    assert_eq!((verified.head(), faults.asked()), (head, 2));
    let log_key = ring.log_key_of(&"ledger-pq-v1".parse().unwrap(), &origin).unwrap();
    assert_eq!(keys.log_keys().get(1), Some(&log_key));

    let asked = intent_of("ledger-pq", SignatureAlgorithm::MlDsa44, digest(1));
    let refused = ring.seal(asked, None, later()).await;
    assert_eq!(ending(&refused), failed("ledger-key", KeyUse::None));
    faults.set(Fault::FlippedBit);
    let bad = ring.sign_checkpoint(&confirmed(head), &origin, AT, later()).await;
    assert_eq!(bad, Err(SignerError::BadSignature));
}

#[tokio::test]
async fn heads_for_cose_receipts_are_signed_by_the_key_of_checkpoints() {
    let (ring, faults) = faulty_ring(Cost::Inline, 1, 4);
    let origin: Origin = "log.example/test".parse().unwrap();
    let head = TreeHead { size: TreeSize(7), root: Hash([9; 32]) };
    let signed = ring.sign_cose_head(&confirmed(head), &origin, later()).await.unwrap();
    let keys = [LogKey::Ed25519(ring.note_verifier(&origin).unwrap())];
    assert_eq!(VerifiedCoseHead::verify(signed, &head, &origin, &keys).unwrap().head(), head);
    faults.set(Fault::FlippedBit);
    let bad = ring.sign_cose_head(&confirmed(head), &origin, later()).await;
    assert_eq!(bad, Err(SignerError::BadSignature));
}

#[test]
fn every_configuration_mistake_is_named_at_once() {
    let twice = |kid: &str, signer_kid: &str| chancery_hsm::KeySpec {
        signer_kid: signer_kid.parse().unwrap(),
        ..spec(kid, "ed25519", Ed25519)
    };
    let elsewhere = chancery_hsm::KeySpec { backend: "absent".to_owned(), ..spec("c", "ed25519", Ed25519) };
    let backend = software();
    let result = Keyring::builder()
        .backend(Arc::clone(&backend) as Arc<dyn Backend>)
        .backend(backend)
        .key(twice("a", "a-v1"))
        .key(twice("a", "a-v2"))
        .key(twice("b", "a-v1"))
        .key(elsewhere)
        .key(spec("d", "missing", Ed25519))
        .key(spec("e", "rsa-sha256", Ed25519))
        .key(spec("rsa", "rsa-sha256", RsaSha256))
        .ledger_key("rsa".parse().unwrap())
        .build();
    let errors = result.err().unwrap();
    let [backend, kid, signer_kid, absent, missing, wrong, ledger] = errors.0.as_slice() else {
        panic!("{errors}");
    };
    assert_eq!(*backend, KeyringError::DuplicateBackend("device".to_owned()));
    assert_eq!(*kid, KeyringError::DuplicateKid("a".parse().unwrap()));
    assert_eq!(*signer_kid, KeyringError::DuplicateSignerKid("a-v1".parse().unwrap()));
    assert!(matches!(absent, KeyringError::UnknownBackend { backend, .. } if backend == "absent"));
    assert!(matches!(missing, KeyringError::Open { source: SignerError::KeyMissing { .. }, .. }));
    assert!(matches!(wrong, KeyringError::Open { source: SignerError::Refused { .. }, .. }));
    assert_eq!(*ledger, KeyringError::LedgerKey("rsa".parse().unwrap()));
    assert_eq!(errors.to_string().lines().count(), 7);
}

#[test]
fn a_device_that_holds_another_key_than_the_registered_one_is_refused() {
    let backend = software();
    let key = |label| backend.open_key(label, Ed25519).unwrap().public_key().cloned();
    let build = |registered| {
        let spec = chancery_hsm::KeySpec { registered, ..spec("orders", "ed25519", Ed25519) };
        Keyring::builder().backend(Arc::clone(&backend) as Arc<dyn Backend>).key(spec).build()
    };
    assert!(build(Registered::Yes(key("ed25519").map(Box::new))).is_ok());
    let errors = build(Registered::Yes(key("ledger").map(Box::new))).err().unwrap();
    assert!(matches!(errors.0.as_slice(), [KeyringError::PublicKeyMismatch { .. }]), "{errors}");
}

/// A registered key whose device is away at start is opened when the device is back, and compared then.
#[tokio::test]
async fn a_registered_key_is_opened_late_if_its_device_is_away_and_compared_all_the_same() {
    for (label, expected) in [("ed25519", Ok(())), ("ledger", Err(failed("backend-refused", KeyUse::None)))] {
        let keys = software();
        let registered = keys.open_key("ed25519", Ed25519).unwrap().public_key().cloned();
        let device = FaultyDevice::new(keys, Cost::Blocking, 2);
        let faults = device.faults();
        faults.set(Fault::Absent);
        let new = Keyring::builder().backend(Arc::new(device) as Arc<dyn Backend>);
        let spec = chancery_hsm::KeySpec {
            registered: Registered::Yes(registered.map(Box::new)),
            ..spec("ed25519", label, Ed25519)
        };
        let ring = new.key(spec).build().unwrap();
        let seal = || async { ending(&ring.seal(intent(Ed25519, digest(1)), None, later()).await) };
        assert_eq!(seal().await, failed("backend-unavailable", KeyUse::None));
        faults.set(Fault::None);
        ring.probe(Duration::from_secs(5)).await;
        match expected {
            Ok(()) => assert!(seal().await.is_ok()),
            Err(refused) => assert_eq!(seal().await, refused),
        }
    }
}

/// Both signatures or neither, whichever of the two devices fails.
#[tokio::test]
async fn a_co_signer_signs_the_same_digest_and_both_or_neither_is_sealed() {
    let (classical, quantum) = (software(), FaultyDevice::new(software(), Cost::Blocking, 1));
    let faults = quantum.faults();
    let renamed = Renamed("quantum", Arc::new(quantum));
    let pq = chancery_hsm::KeySpec { backend: "quantum".to_owned(), ..spec("pq", "ml-dsa-65", MlDsa65) };
    let ring = Keyring::builder()
        .backend(classical as Arc<dyn Backend>)
        .backend(Arc::new(renamed))
        .key(spec("ecdsa-p256-sha256", "ecdsa-p256-sha256", EcdsaP256Sha256))
        .key(pq)
        .build()
        .unwrap();
    let asked = || {
        let mut parts = intent(EcdsaP256Sha256, digest(1)).into_intent().parts().clone();
        parts.co_signer = Some(chancery_format::entry::CoSigner {
            kid: "pq".parse().unwrap(),
            signer_kid: "pq-v1".parse().unwrap(),
            algorithm: MlDsa65,
        });
        DurableIntent::after_sync(Intent::new(parts))
    };
    let sealed = ring.seal(asked(), None, later()).await;
    let payload = sealed.draft().payload;
    let payload = IssuedPayload::parse(payload.as_str()).unwrap();
    let second = payload.co_signer.as_ref().unwrap();
    let public = |kid: &str| ring.lookup(&kid.parse().unwrap()).unwrap().public_key.clone().unwrap();
    assert!(public("ecdsa-p256-sha256").verify(&digest(1), &payload.signature_bytes().unwrap()));
    assert!(public("pq").verify(&digest(1), &second.signature_bytes().unwrap()));
    for (fault, code) in [(Fault::WrongMessage, "bad-signature"), (Fault::AwayBefore, "backend-unavailable")]
    {
        faults.set(fault);
        // The first key was used, and its signature dies with the outcome.
        assert_eq!(ending(&ring.seal(asked(), None, later()).await), failed(code, KeyUse::Unknown));
    }
}

#[test]
fn keys_are_found_by_either_name() {
    let ring = with_all_keys(Keyring::builder().backend(software())).build().unwrap();
    let by_kid = ring.lookup(&"rsa-sha256".parse().unwrap()).unwrap();
    let by_signer = ring.lookup_signer(&"rsa-sha256-v1".parse().unwrap()).unwrap();
    assert_eq!((by_kid.signer_kid.as_str(), by_signer.kid.as_str()), ("rsa-sha256-v1", "rsa-sha256"));
    assert!(ring.lookup(&"rsa-sha256-v1".parse().unwrap()).is_none());
    assert_eq!(ring.keys().len(), SignatureAlgorithm::ALL.len() + 1);
    assert_eq!(ring.ledger_key().unwrap().kid.as_str(), "ledger");
}
