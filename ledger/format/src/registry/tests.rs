#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

use super::*;
use crate::cosignature::tests::{LOG_VKEY, ORIGIN, TestCosigner, WITNESS_VKEY};
use crate::note::NoteVerifier;

fn registry(vkeys: &[&str]) -> Result<SignersRegistry, RegistryError> {
    with_policy(vkeys, None)
}

fn with_policy(vkeys: &[&str], policy: Option<&str>) -> Result<SignersRegistry, RegistryError> {
    let vkeys = vkeys.iter().map(|vkey| (*vkey).to_owned()).collect();
    let policy = policy.map(str::to_owned);
    let made =
        SignersRegistry::new(LedgerSection { origin: ORIGIN.parse().unwrap(), vkeys, policy }, Vec::new())?;
    let read = SignersRegistry::parse(&made.to_json()?)?;
    assert_eq!(read, made);
    Ok(read)
}

#[test]
fn the_ledger_s_keys_are_told_apart_by_their_types() {
    let ml_dsa = TestCosigner::ml_dsa(ORIGIN, 0x44).key;
    let both = registry(&[&ml_dsa.vkey(), LOG_VKEY]).unwrap();
    let keys = both.ledger_keys().unwrap();
    assert_eq!(keys.ed25519(), [NoteVerifier::parse(LOG_VKEY).unwrap()]);
    assert_eq!(keys.ml_dsa(), std::slice::from_ref(&ml_dsa));
    assert_eq!(both.log_keys().unwrap().len(), 2);
    let ed25519 = registry(&[LOG_VKEY]).unwrap();
    assert!(ed25519.ledger_keys().unwrap().ml_dsa().is_empty());
    let elsewhere = TestCosigner::ml_dsa("ledger.example/other", 0x44).key.vkey();
    for bad in
        [vec![], vec![ml_dsa.vkey().as_str()], vec![LOG_VKEY, &elsewhere], vec![LOG_VKEY, WITNESS_VKEY]]
    {
        assert!(matches!(registry(&bad), Err(RegistryError::LedgerKey)), "{bad:.200?}");
    }
}

#[test]
fn the_policy_has_the_ledger_s_keys_for_its_logs_and_no_others() {
    let quantum = TestCosigner::ml_dsa(ORIGIN, 0x44).key.vkey();
    let vkeys = [LOG_VKEY, quantum.as_str()];
    // Older registries have none; what they mean by that has no witness.
    let older = registry(&vkeys).unwrap();
    assert!(!String::from_utf8(older.to_json().unwrap()).unwrap().contains("policy"));
    let meant = format!("log {LOG_VKEY}\nlog {quantum}\nquorum none\n");
    assert_eq!(String::from_utf8(older.policy().unwrap().to_bytes()).unwrap(), meant);
    assert!(older.policy().unwrap().needs_no_witness());
    // The order and where a log is are free.
    let witnessed = format!(
        "# ours\nlog {quantum} https://log.example/\nlog {LOG_VKEY}\nwitness w {WITNESS_VKEY}\nquorum w\n"
    );
    let newer = with_policy(&vkeys, Some(&witnessed)).unwrap();
    assert_eq!(newer.policy().unwrap().witnesses().count(), 1);
    assert_eq!(newer.ledger.policy.as_deref(), Some(witnessed.as_str()), "it is kept as it is");
    let exported = newer.export(crate::RegistryShape::Policy).unwrap();
    assert_eq!(exported.bytes, newer.policy().unwrap().to_bytes());
    assert_eq!((exported.signers, exported.left_out.len()), (0, 0));
    let of =
        |logs: &[&str]| logs.iter().map(|vkey| format!("log {vkey}\n")).collect::<String>() + "quorum none\n";
    let stranger = TestCosigner::ml_dsa("ledger.example/other", 0x45).key.vkey();
    for logs in [vec![LOG_VKEY], vec![], vec![LOG_VKEY, &quantum, &stranger], vec![LOG_VKEY, &stranger]] {
        let refused = with_policy(&vkeys, Some(&of(&logs)));
        assert!(matches!(refused, Err(RegistryError::PolicyLogs)), "{logs:.60?}");
    }
    for bad in ["", "quorum none", "log x\nquorum none\n", &of(&[LOG_VKEY, LOG_VKEY])] {
        let refused = with_policy(&vkeys, Some(bad)).unwrap_err();
        assert!(refused.to_string().starts_with("signers registry: the ledger's policy line "), "{refused}");
    }
}

#[test]
fn a_registry_with_another_member_beside_the_policy_is_refused() {
    let json = registry(&[LOG_VKEY]).unwrap().to_json().unwrap();
    let json = String::from_utf8(json).unwrap();
    let other = json.replacen("\"origin\"", "\"colour\": \"blue\", \"origin\"", 1);
    assert!(matches!(SignersRegistry::parse(other.as_bytes()), Err(RegistryError::Shape(_))));
}
