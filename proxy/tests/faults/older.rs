//! A ledger of an older daemon: its registry has no policy, and gets one, once.

use std::sync::Arc;

use chancery_format::SignersRegistry;
use chancery_format::cosignature::CosignerKey;
use chancery_format::policy::Policy;
use chancery_ledger::{RegistrySnapshot, Roll};
use chancery_proxy::governance::Succession;
use chancery_proxy::registry_publisher::{last, publish, revise};

use crate::world::{World, keys};

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_without_a_policy_gets_it_once_and_keeps_it() {
    let world = World::new();
    let roll = Roll::open(world.roll_options(Arc::new(|fatal| panic!("{fatal}")))).unwrap().0;
    let keyring = Arc::new(world.keyring(None, false));
    let (succession, file) =
        (Succession { current: keys(false), ..Succession::default() }, world.path("signers.json"));
    let none = Policy::default();
    let start = async |witnesses: &Policy| {
        publish(&roll, &keyring, &succession, witnesses, &file).await.unwrap().version
    };
    assert_eq!(start(&none).await, 1);
    let (first, mut registry) = last(&roll).await.unwrap().unwrap();
    let vkey = registry.ledger.vkeys[0].clone();
    assert_eq!(registry.ledger.policy, Some(format!("log {vkey}\nquorum none\n")));

    registry.ledger.policy = None;
    let json = registry.to_json().unwrap();
    roll.record_registry(RegistrySnapshot { version: 2, json, note: first.note }).await.unwrap();
    for _ in 0..3 {
        assert_eq!(start(&none).await, 3);
    }
    assert_eq!(last(&roll).await.unwrap().unwrap().0.json, first.json, "as if it had never been without");

    // Witnesses come with a start, stay when a key changes, and go with a start.
    let public = registry.signers.iter().find(|it| it.signer_kid.as_str() == "sealed-v1").unwrap();
    let cosigner = CosignerKey::new("witness.example/w1", public.public_key().unwrap().unwrap()).unwrap();
    let witnesses = format!("log {vkey} https://log.example/\nwitness w {}\nquorum w\n", cosigner.vkey());
    let configured = Policy::parse(witnesses.as_bytes()).unwrap();
    assert_eq!((start(&configured).await, start(&configured).await), (4, 4));
    let change = |records: &mut Vec<_>| drop(records.pop());
    let (revised, _) = revise(&roll, &keyring, &file, None, change).await.unwrap();
    assert_eq!((revised.version, revised.registry.policy().unwrap()), (5, configured));
    assert_eq!(start(&none).await, 6);
    let written = SignersRegistry::parse(&std::fs::read(&file).unwrap()).unwrap();
    assert!(written.policy().unwrap().needs_no_witness());
    roll.close().await;
}
