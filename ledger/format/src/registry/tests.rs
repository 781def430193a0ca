#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

use super::*;
use crate::cosignature::tests::{LOG_VKEY, ORIGIN, TestCosigner, WITNESS_VKEY};
use crate::note::NoteVerifier;

fn registry(vkeys: &[&str]) -> Result<SignersRegistry, RegistryError> {
    let vkeys = vkeys.iter().map(|vkey| (*vkey).to_owned()).collect();
    let made = SignersRegistry::new(LedgerSection { origin: ORIGIN.parse().unwrap(), vkeys }, Vec::new())?;
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
