#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

use ed25519_dalek::{Signer, SigningKey};
use ml_dsa::{ExpandedSigningKey, MlDsa44};
use proptest::prelude::*;

use super::*;
use crate::checkpoint::{CheckpointError, VerifiedCheckpoint};
use crate::log_key::LogKey;
use crate::note::NoteVerifier;

/// A log (seed 0x42), a witness (0x43), and the log's ML-DSA-44 key (0x44).
pub(crate) const ORIGIN: &str = "ledger.example/sign-log/1";
pub(crate) const LOG_VKEY: &str =
    "ledger.example/sign-log/1+060f69c8+ASFS+NGbeR0kRTJC4V8uq2y3z/p7al7TAJeWDgaYgdsS";
pub(crate) const WITNESS_VKEY: &str =
    "witness.example/w1+200fb1ab+BCL8KXeS8Lb/wL/P237bDAqhTgJaNl7A40Lobjgpy3S2";
pub(crate) const TEXT: &str = "ledger.example/sign-log/1\n3\nsgbG5Jjy2NPw+6xDsP5UZIjKceiOnsIxHH2iJbNfFYo=\n";
pub(crate) const LOG_LINE: &str = "\u{2014} ledger.example/sign-log/1 Bg9pyNM8D6g+01uj1dWDqKcmgncbev8Pob5TQq/B2Gl7gEj9lvnyZsKi4tey7sUS90e8zrYSzXcYeP7AnlQblfW+wwI=\n";
pub(crate) const WITNESS_LINE: &str = "\u{2014} witness.example/w1 IA+xqwAAAABkGFDLg+nBL6ls+tWRIFlwt+d3cKB4Cg/x3l3QpS1L2BcuSU+kMHVdaPVvlJiFMl/bFupciE/f06KiXuMHRHGWaU9iCQ==\n";
pub(crate) const AT: CosignedAt = CosignedAt(1_679_315_147);

/// Verifier key of an ML-DSA-44 log, and a checkpoint of it, from the tests of FiloSottile/torchwood
/// (`cmd/litewitness/testdata/mldsa.txt`).
const TORCHWOOD: &str = include_str!("torchwood-mldsa.txt");

/// Signs as a cosigner of this seed would.
pub(crate) struct TestCosigner {
    pub(crate) key: CosignerKey,
    seed: [u8; 32],
}

impl TestCosigner {
    pub(crate) fn ed25519(name: &str, seed: u8) -> Self {
        let seed = [seed; 32];
        let raw = SigningKey::from_bytes(&seed).verifying_key().to_bytes();
        Self { key: CosignerKey::new(name, PublicKey::from_ed25519_raw(&raw).unwrap()).unwrap(), seed }
    }

    pub(crate) fn ml_dsa(name: &str, seed: u8) -> Self {
        let seed = [seed; 32];
        let raw = ExpandedSigningKey::<MlDsa44>::from_seed(&seed.into()).verifying_key().encode();
        let key = PublicKey::from_ml_dsa_44_raw(&raw.as_slice().try_into().unwrap()).unwrap();
        Self { key: CosignerKey::new(name, key).unwrap(), seed }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        if self.key.is_ml_dsa() {
            let key = ExpandedSigningKey::<MlDsa44>::from_seed(&self.seed.into());
            return key.sign_deterministic(message, &[]).unwrap().encode().to_vec();
        }
        SigningKey::from_bytes(&self.seed).sign(message).to_bytes().to_vec()
    }

    pub(crate) fn line(&self, checkpoint: &Checkpoint, at: CosignedAt) -> String {
        self.key.line(at, &self.sign(&self.key.message(checkpoint, at))).unwrap()
    }
}

pub(crate) fn origin() -> Origin {
    ORIGIN.parse().unwrap()
}

pub(crate) fn checkpoint() -> Checkpoint {
    Checkpoint::parse(TEXT).unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    Hash::of(&[bytes]).to_hex()
}

/// Who cosigned, reduced to what tests compare.
fn verdict(note: &str, keys: &[CosignerKey]) -> Result<Vec<(String, u64)>, NoteError> {
    let found = cosignatures(&Note::parse(note)?, &checkpoint(), keys)?;
    Ok(found.into_iter().map(|(_, found)| (found.name, found.timestamp.seconds())).collect())
}

#[test]
fn an_ed25519_witness_makes_the_known_line() {
    let witness = TestCosigner::ed25519("witness.example/w1", 0x43);
    assert_eq!((witness.key.vkey().as_str(), witness.key.key_id()), (WITNESS_VKEY, [0x20, 0x0f, 0xb1, 0xab]));
    let message = witness.key.message(&checkpoint(), AT);
    assert_eq!(message, format!("cosignature/v1\ntime 1679315147\n{TEXT}").into_bytes());
    assert_eq!(witness.line(&checkpoint(), AT), WITNESS_LINE);
    let note = format!("{TEXT}\n{LOG_LINE}{WITNESS_LINE}");
    assert_eq!(sha256(note.as_bytes()), "0e12d33d2b11729f4d22792059ea0bacc13730f957f26a9c0f7ff49e801c7323");
    assert_eq!(verdict(&note, &[witness.key]), Ok(vec![("witness.example/w1".into(), 1_679_315_147)]));
}

#[test]
fn a_log_makes_the_known_ml_dsa_line() {
    let log = TestCosigner::ml_dsa(ORIGIN, 0x44);
    let raw = log.key.public_key().ml_dsa_44_raw().unwrap();
    assert_eq!(sha256(&raw), "a697433bb609d9b503f4c8ae6382c38931d326bf5c2f8f03a332d30fac39048c");
    assert_eq!(hex::encode(log.key.key_id()), "1bc8a740");
    let vkey = log.key.vkey();
    assert_eq!(sha256(vkey.as_bytes()), "563668c43f53f3c58cef2ba60e9bd46c7801eece22aa8732a8bb1e8ec2fff1a6");
    assert_eq!(CosignerKey::parse(&vkey).unwrap(), log.key);
    let message = log.key.message(&checkpoint(), AT);
    assert_eq!(message.len(), 120);
    assert_eq!(sha256(&message), "e26078c83b93254bd44c7ba777465fc8975421ed3428f13a3eadfe5be4be03b9");
    let signature = log.sign(&message);
    assert_eq!(sha256(&signature), "42b88cf4c6b5e6073a9287b47d49baa52dbb096a993ca1629cdc9e41b0005ec5");
    let line = log.line(&checkpoint(), AT);
    assert_eq!(line.len(), 3275);
    assert_eq!(sha256(line.as_bytes()), "0f0ed436dcc696acef2f2f35e610c198eab73e5e5747bb8c63622bf2fd40fc0b");
}

#[test]
fn the_structure_an_ml_dsa_witness_signs_is_the_known_one() {
    let witness = TestCosigner::ml_dsa("witness.example/w1", 0x45);
    let message = witness.key.message(&checkpoint(), AT);
    assert_eq!(
        hex::encode(&message),
        concat!(
            "737562747265652f76310a00127769746e6573732e6578616d706c652f773100000000641850cb196c65646765722e",
            "6578616d706c652f7369676e2d6c6f672f3100000000000000000000000000000003b206c6e498f2d8d3f0fbac43b0",
            "fe546488ca71e88e9ec2311c7da225b35f158a"
        )
    );
    let root = checkpoint().head().root;
    let subtree = witness.key.subtree_message(&origin(), 0, 3, &root).unwrap();
    assert_eq!(subtree, witness.key.message(&checkpoint(), CosignedAt::UNSTATED));
    assert!(witness.key.subtree_message(&origin(), 2, 3, &root).is_some_and(|other| other != subtree));
    assert_eq!(witness.key.subtree_message(&origin(), 3, 3, &root), None);
    let ed25519 = TestCosigner::ed25519("witness.example/w1", 0x43);
    assert_eq!(ed25519.key.subtree_message(&origin(), 0, 3, &root), None);
}

#[test]
fn another_implementation_s_ml_dsa_checkpoint_verifies() {
    let (vkey, note) = TORCHWOOD.split_once('\n').unwrap();
    let key = LogKey::parse(vkey).unwrap();
    assert_eq!(key.vkey(), vkey);
    let origin: Origin = "example.com/mldsa-log".parse().unwrap();
    let verified = Checkpoint::verify_by_any(note, &origin, std::slice::from_ref(&key)).unwrap();
    assert!(verified.is_hybrid());
    let altered = note.replacen("\n1\n", "\n2\n", 1);
    assert_eq!(
        Checkpoint::verify_by_any(&altered, &origin, &[key]),
        Err(CheckpointError::Note(NoteError::BadSignature))
    );
}

#[test]
fn unknown_cosigners_are_ignored_and_known_ones_must_verify() {
    let witnesses = [
        TestCosigner::ed25519("witness.example/w1", 0x43),
        TestCosigner::ml_dsa("witness.example/w1", 0x45),
        TestCosigner::ed25519("witness.example/w2", 0x46),
    ];
    let lines: String = witnesses.iter().map(|witness| witness.line(&checkpoint(), AT)).collect();
    let note = format!("{TEXT}\n\u{2014} grease AAAAAAEC\n{lines}{LOG_LINE}");
    let keys: Vec<_> = witnesses.iter().map(|witness| witness.key.clone()).collect();
    assert_eq!(verdict(&note, &keys).unwrap().len(), 3);
    assert_eq!(verdict(&note, keys.split_first().unwrap().1).unwrap().len(), 2);
    assert_eq!(verdict(&note, &[]), Ok(Vec::new()));
    assert_eq!(
        verdict(&format!("{note}{}", witnesses[2].line(&checkpoint(), AT)), &keys),
        Err(NoteError::Malformed)
    );
    for (at, witness) in witnesses.iter().enumerate() {
        let key = std::slice::from_ref(&witness.key);
        let signature = witness.sign(&witness.key.message(&checkpoint(), AT));
        let later = CosignedAt::new(AT.seconds() + 1).unwrap();
        let bad = Err(NoteError::BadSignature);
        let with = |line: &str| format!("{TEXT}\n{line}");
        assert_eq!(
            verdict(&with(&witness.key.line(later, &signature).unwrap()), key),
            bad,
            "{at}: other time"
        );
        let mut flipped = signature.clone();
        *flipped.last_mut().unwrap() ^= 1;
        assert_eq!(verdict(&with(&witness.key.line(AT, &flipped).unwrap()), key), bad, "{at}: flipped bit");
        for length in [0, 7, 8, 9, signature.len(), signature.len() + 7, signature.len() + 9] {
            let mut payload = [&AT.seconds().to_be_bytes(), signature.as_slice(), &[0]].concat();
            payload.truncate(length);
            let line =
                write_line(witness.key.name(), witness.key.key_id(), &[&[0], payload.as_slice()].concat());
            assert_eq!(verdict(&with(&line), key), bad, "{at}: {length} bytes");
        }
        let beyond = [&(1u64 << 63).to_be_bytes(), signature.as_slice()].concat();
        let line = write_line(witness.key.name(), witness.key.key_id(), &beyond);
        assert_eq!(verdict(&with(&line), key), bad, "{at}: time beyond");
        let other = Checkpoint::new("ledger.example/other".parse().unwrap(), checkpoint().head());
        let elsewhere = witness.line(&other, AT);
        assert_eq!(verdict(&with(&elsewhere), key), bad, "{at}: other log");
    }
    let renamed = TestCosigner::ml_dsa("witness.example/w9", 0x45);
    let moved =
        renamed.key.line(AT, &witnesses[1].sign(&witnesses[1].key.message(&checkpoint(), AT))).unwrap();
    assert_eq!(
        verdict(&format!("{TEXT}\n{moved}"), &[renamed.key]),
        Err(NoteError::BadSignature),
        "the name is signed"
    );
}

#[test]
fn a_cosigner_key_has_one_spelling_and_one_purpose() {
    assert_eq!(CosignerKey::parse(LOG_VKEY), Err(CosignatureError::Key), "type 0x01");
    assert_eq!(LogKey::parse(WITNESS_VKEY), Err(NoteError::VerifierKey), "type 0x04");
    assert_eq!(NoteVerifier::parse(WITNESS_VKEY), Err(NoteError::VerifierKey), "type 0x04");
    let ml_dsa = TestCosigner::ml_dsa(ORIGIN, 0x44).key.vkey();
    assert_eq!(NoteVerifier::parse(&ml_dsa), Err(NoteError::VerifierKey), "type 0x06");
    assert_eq!(LogKey::parse(&ml_dsa).unwrap().vkey(), ml_dsa);
    for good in [WITNESS_VKEY, &ml_dsa] {
        assert_eq!(CosignerKey::parse(good).unwrap().vkey(), good);
        let upper = good.replacen("+200f", "+200F", 1).replacen("+1bc8", "+1BC8", 1);
        let other_id = good.replacen("+200fb1ab", "+200fb1ac", 1).replacen("+1bc8a740", "+1bc8a741", 1);
        let shorter = good.get(..good.len() - 4).unwrap();
        for bad in ["", &upper, &other_id, shorter, &format!("{good}\n"), &format!("x{good}")] {
            assert_eq!(CosignerKey::parse(bad), Err(CosignatureError::Key), "{bad:.80}");
        }
    }
    let key = CosignerKey::parse(WITNESS_VKEY).unwrap();
    let named = |name: &str| CosignerKey::new(name, key.public_key().clone()).map(|key| key.vkey().len());
    assert!(named(&"n".repeat(255)).is_ok());
    for bad in ["", "a b", "a+b", &"n".repeat(256)] {
        assert_eq!(named(bad), Err(CosignatureError::Key), "{bad}");
    }
    assert_eq!(key.line(AT, &[0; 63]), Err(CosignatureError::Length));
    assert_eq!(CosignedAt::new(1 << 63), None);
    let time: Timestamp = "2023-03-20T12:25:47.999Z".parse().unwrap();
    assert_eq!(CosignedAt::from(time), AT);
}

/// A log that signs with both keys, and its checkpoint.
fn hybrid() -> (String, NoteVerifier, CosignerKey) {
    let log = TestCosigner::ml_dsa(ORIGIN, 0x44);
    let line = log.line(&checkpoint(), AT);
    (format!("{TEXT}\n{LOG_LINE}{line}"), NoteVerifier::parse(LOG_VKEY).unwrap(), log.key)
}

#[test]
fn a_checkpoint_needs_the_ed25519_signature_and_no_bad_one() {
    let (note, ed25519, ml_dsa) = hybrid();
    let check = |note: &str, keys: &[NoteVerifier], ml_dsa: &[CosignerKey]| {
        Checkpoint::verify_hybrid(note, &origin(), keys, ml_dsa)
            .map(|verified: VerifiedCheckpoint| verified.is_hybrid())
    };
    let (ed25519, ml_dsa) = ([ed25519], [ml_dsa]);
    assert_eq!(check(&note, &ed25519, &ml_dsa), Ok(true));
    assert_eq!(check(&note, &ed25519, &[]), Ok(false));
    assert_eq!(check(&format!("{TEXT}\n{LOG_LINE}"), &ed25519, &ml_dsa), Ok(false));
    let none = Err(CheckpointError::Note(NoteError::NoKnownSignature));
    let only_ml_dsa = note.replacen(LOG_LINE, "", 1);
    assert_eq!(check(&only_ml_dsa, &ed25519, &ml_dsa), none);
    assert_eq!(check(&note, &[], &ml_dsa), none);
    let bad = Err(CheckpointError::Note(NoteError::BadSignature));
    let late = TestCosigner::ml_dsa(ORIGIN, 0x44);
    let signature = late.sign(&late.key.message(&checkpoint(), CosignedAt::UNSTATED));
    let broken = format!("{TEXT}\n{LOG_LINE}{}", late.key.line(AT, &signature).unwrap());
    assert_eq!(check(&broken, &ed25519, &ml_dsa), bad);
    assert_eq!(check(&broken, &ed25519, &[]), Ok(false), "an unknown line");
    let any = |note: &str, keys: &[LogKey]| Checkpoint::verify_by_any(note, &origin(), keys).map(|_| ());
    let [ed25519, ml_dsa] = [LogKey::parse(LOG_VKEY).unwrap(), LogKey::MlDsa44(ml_dsa[0].clone())];
    assert_eq!(any(&only_ml_dsa, std::slice::from_ref(&ml_dsa)), Ok(()));
    assert_eq!(any(&only_ml_dsa, std::slice::from_ref(&ed25519)), none.map(drop));
    assert_eq!(any(&note, &[ml_dsa, ed25519]), Ok(()));
    let witness = TestCosigner::ml_dsa("witness.example/w1", 0x45);
    let cosigned = format!("{TEXT}\n{}", witness.line(&checkpoint(), AT));
    assert_eq!(any(&cosigned, &[LogKey::MlDsa44(witness.key)]), none.map(drop), "not the log's name");
}

proptest! {
    #[test]
    fn reading_a_key_never_panics_and_takes_only_what_is_written(
        name in "[a-z+ ]{0,4}",
        id in "[0-9a-f]{8}",
        kind in 0u8..8,
        key in proptest::collection::vec(any::<u8>(), 30..34),
    ) {
        for vkey in [write_vkey(&name, kind, &key), format!("{name}+{id}+{}", crate::entry::encode_base64(&key))] {
            if let Ok(parsed) = CosignerKey::parse(&vkey) {
                prop_assert_eq!(parsed.vkey(), vkey);
            }
        }
    }
}
