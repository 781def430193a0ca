#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use chancery_format::{PublicKey, SignatureAlgorithm};
use curve25519_dalek::constants::EIGHT_TORSION;

use super::*;

struct Fixture {
    pair: Ed25519KeyPair,
    alone: SelfCheck,
    together: Together,
}

fn fixture() -> Fixture {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let public: [u8; 32] = pair.public_key().as_ref().try_into().unwrap();
    let key = PublicKey::from_ed25519_raw(&public).unwrap();
    let alone = SelfCheck::new(SignatureAlgorithm::Ed25519, &key).unwrap();
    Fixture { pair, alone, together: Together::new(public).unwrap() }
}

impl Fixture {
    fn signed(&self, number: u8) -> ([u8; 32], [u8; 64]) {
        let message = [number; 32];
        (message, self.pair.sign(&message).as_ref().try_into().unwrap())
    }

    /// The verdict over each, all under way at once.
    fn verdicts(&self, items: &[([u8; 32], [u8; 64])]) -> Vec<bool> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut group = Vec::new();
        let mut told = Vec::new();
        for (message, signature) in items {
            let (verdict, answer) = oneshot::channel();
            group.push(Waiting { message: *message, signature: *signature, verdict });
            told.push(answer);
        }
        self.together.waiting().extend(group);
        self.together.settle(&self.alone);
        runtime.block_on(async {
            let mut verdicts = Vec::new();
            for answer in told {
                verdicts.push(answer.await.unwrap());
            }
            verdicts
        })
    }

    fn equation(&self, items: &[([u8; 32], [u8; 64])]) -> bool {
        let group: Vec<_> = items
            .iter()
            .map(|(message, signature)| Waiting {
                message: *message,
                signature: *signature,
                verdict: oneshot::channel().0,
            })
            .collect();
        self.together.equation_holds(&group)
    }
}

#[test]
fn groups_of_every_size_hold_and_each_broken_one_is_named() {
    let fixture = fixture();
    for size in [1usize, 2, 3, 16, 200] {
        let items: Vec<_> = (0..size).map(|number| fixture.signed(number as u8)).collect();
        assert!(fixture.equation(&items));
        assert!(fixture.verdicts(&items).iter().all(|holds| *holds));
        for broken in [0, size / 2, size - 1] {
            for byte in [0, 31, 32, 63] {
                let mut items = items.clone();
                items[broken].1[byte] ^= 4;
                assert!(!fixture.equation(&items), "{size} {broken} {byte}");
                let verdicts = fixture.verdicts(&items);
                let wrong: Vec<_> = (0..size).filter(|at| !verdicts[*at]).collect();
                assert_eq!(wrong, [broken]);
            }
        }
    }
}

#[test]
fn two_swapped_signatures_do_not_cancel_out() {
    let fixture = fixture();
    let mut items: Vec<_> = (0..4).map(|number| fixture.signed(number)).collect();
    let first = items[0].1;
    items[0].1 = items[1].1;
    items[1].1 = first;
    assert_eq!(fixture.verdicts(&items), [false, false, true, true]);
}

/// What one by one refuses for its encoding, a group refuses too.
#[test]
fn encodings_are_as_strict_as_one_by_one() {
    let fixture = fixture();
    let order: [u8; 32] = [
        0xED, 0xD3, 0xF5, 0x5C, 0x1A, 0x63, 0x12, 0x58, 0xD6, 0x9C, 0xF7, 0xA2, 0xDE, 0xF9, 0xDE, 0x14, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let good: Vec<_> = (0..4).map(|number| fixture.signed(number)).collect();
    let mut large_s = good.clone();
    let mut carry = 0u16;
    for (byte, add) in large_s[0].1[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = sum.to_be_bytes()[1];
        carry = sum >> 8;
    }
    assert!(!fixture.equation(&large_s));
    assert_eq!(fixture.verdicts(&large_s), [false, true, true, true]);
    let mut small_r = good;
    small_r[2].1[..32].copy_from_slice(&EIGHT_TORSION[1].compress().to_bytes());
    assert!(!fixture.equation(&small_r));
    assert_eq!(fixture.verdicts(&small_r), [true, true, false, true]);
}

#[tokio::test]
async fn many_at_once_each_get_their_own_verdict() {
    let fixture = std::sync::Arc::new(fixture());
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..100u8 {
        let fixture = std::sync::Arc::clone(&fixture);
        tasks.spawn(async move {
            let (message, mut signature) = fixture.signed(number);
            let good = number % 7 != 3;
            signature[5] ^= u8::from(!good);
            fixture.together.holds(&fixture.alone, message, &signature).await == good
        });
    }
    assert!(tasks.join_all().await.into_iter().all(|right| right));
    assert!(fixture.together.waiting().is_empty());
    assert!(!fixture.together.holds(&fixture.alone, [0; 32], &[0; 63]).await, "no signature at all");
}
