#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed unwrap or index is the test's failure"
)]

use ed25519_dalek::{Signer, SigningKey};
use proptest::prelude::*;

use super::*;
use crate::public_key::{Ed25519Search, PublicKey, PublicKeyError};

pub(crate) type Item = ([u8; 32], [u8; 64]);

/// An Ed25519 key of a fresh seed, with signatures over made-up digests.
pub(crate) fn batch(count: usize) -> (SigningKey, [u8; 32], Vec<Item>) {
    let mut seed = [0; 32];
    aws_lc_rs::rand::fill(&mut seed).unwrap();
    let signer = SigningKey::from_bytes(&seed);
    let digest = |number: usize| crate::hash::Hash::of(&[&number.to_be_bytes()]).0;
    let items = (0..count).map(|number| (digest(number), signer.sign(&digest(number)).to_bytes())).collect();
    let key = signer.verifying_key().to_bytes();
    (signer, key, items)
}

/// What every batch verdict is held against: one by one, by `verify_strict` alone.
fn one_by_one(key: &[u8; 32], items: &[Item]) -> bool {
    ed25519_dalek::VerifyingKey::from_bytes(key).is_ok_and(|key| {
        items.iter().all(|(digest, signature)| key.verify_strict(digest, &(*signature).into()).is_ok())
    })
}

/// The batch and the search, both held against it.
fn assert_agree(key: &[u8; 32], items: &[Item], what: &str) -> bool {
    let verdict = verify_ed25519_batch(key, items);
    assert_eq!(verdict, one_by_one(key, items), "{what}");
    if let Some(search) = Ed25519Search::new(key) {
        // The changed ones are among the first, and a few of the others.
        let some = items.iter().take(3).chain(items.iter().skip(3).step_by(17));
        for item @ (digest, signature) in some {
            let found = search.signature(signature).is_some_and(|tried| tried.is_over(digest));
            assert_eq!(found, one_by_one(key, std::slice::from_ref(item)), "{what}, searched");
        }
    }
    verdict
}

/// Adds the group order to a signature's `s`: the same scalar in a second encoding.
fn second_scalar_encoding(signature: &[u8; 64]) -> [u8; 64] {
    let order = hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010").unwrap();
    let mut altered = *signature;
    let mut carry = 0;
    for at in 0..32 {
        let sum = u16::from(altered[32 + at]) + u16::from(order[at]) + carry;
        altered[32 + at] = (sum & 0xff) as u8;
        carry = sum >> 8;
    }
    altered
}

/// What only the holder of the private key can make: `R` with a small-order part. The cofactored equation
/// holds, the plain one does not.
fn with_torsion(signer: &SigningKey, digest: &[u8; 32], torsion: &EdwardsPoint) -> [u8; 64] {
    with_nonce(signer, digest, torsion, Scalar::from_bytes_mod_order_wide(&Sha512::digest(digest).into()))
}

fn with_nonce(signer: &SigningKey, digest: &[u8; 32], torsion: &EdwardsPoint, nonce: Scalar) -> [u8; 64] {
    let r = (EdwardsPoint::mul_base(&nonce) + torsion).compress().to_bytes();
    let hash =
        Sha512::new().chain_update(r).chain_update(signer.verifying_key().as_bytes()).chain_update(digest);
    let k = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
    let s = nonce + k * signer.to_scalar();
    [r, s.to_bytes()].concat().try_into().unwrap()
}

/// Batches on both sides of the point where subsets take over from one by one.
const SIZES: [usize; 4] = [1, 17, 192, 300];

#[test]
fn good_batches_pass_in_any_order_and_cut() {
    let (_, key, mut items) = batch(700);
    for size in [0, 1, 2, 191, 192, 193, 256, 699, 700] {
        assert!(assert_agree(&key, &items[..size], "good batch"), "{size}");
    }
    items.reverse();
    assert!(assert_agree(&key, &items, "reversed"));
    let twice = [&items[..200], &items[..200]].concat();
    assert!(assert_agree(&key, &twice, "each twice"));
}

#[test]
fn one_bad_signature_anywhere_refuses_the_batch() {
    for size in SIZES {
        let (_, key, items) = batch(size);
        for at in [0, size / 2, size - 1] {
            for bit in [0, 7, 100, 255, 256, 300, 508, 511] {
                let mut altered = items.clone();
                altered[at].1[bit / 8] ^= 1 << (bit % 8);
                assert!(!assert_agree(&key, &altered, "flipped signature bit"), "{at} of {size}, bit {bit}");
            }
            let mut altered = items.clone();
            altered[at].0[31] ^= 1;
            assert!(!assert_agree(&key, &altered, "flipped digest bit"), "{at} of {size}");
        }
    }
}

#[test]
fn errors_that_cancel_in_a_plain_sum_are_found() {
    let (_, key, mut items) = batch(256);
    let digest = items[0].0;
    items[0].0 = items[1].0;
    items[1].0 = digest;
    assert!(!assert_agree(&key, &items, "two digests swapped"));
    let (_, key, mut items) = batch(256);
    let scalar = |signature: &[u8; 64]| Scalar::from_bytes_mod_order(signature[32..].try_into().unwrap());
    let (more, less) = (scalar(&items[3].1) + Scalar::ONE, scalar(&items[200].1) - Scalar::ONE);
    items[3].1[32..].copy_from_slice(more.as_bytes());
    items[200].1[32..].copy_from_slice(less.as_bytes());
    assert!(!assert_agree(&key, &items, "s + 1 and s − 1"));
}

/// Two errors that cancel wherever both are added up, in subsets chosen by hand: both are in subset `both`,
/// one alone is in subset `alone`, and that one check must refuse.
#[test]
fn each_of_the_128_subsets_is_checked_by_itself() {
    let (_, key, mut items) = batch(2);
    let digest = items[0].0;
    items[1] = (digest, items[0].1);
    let key = ed25519_key(&key).unwrap();
    let mut terms: Vec<Sums> = items.iter().map(|item| Sums::of(&key, &small_ys(), item).unwrap()).collect();
    terms[0].s = (terms[0].s.reduced() + Scalar::ONE).into();
    terms[1].s = (terms[1].s.reduced() - Scalar::ONE).into();
    let bit = |subset: usize| 1u128 << subset;
    for (both, alone) in
        (0..128).flat_map(|both| [1, 7, 64, 121, 127].map(|apart| (both, (both + apart) % 128)))
    {
        let cancelling = [bit(both).to_be_bytes(); 2];
        let telling = [(bit(both) | bit(alone)).to_be_bytes(), bit(both).to_be_bytes()];
        assert!(all_subsets_hold(&key, &terms, &cancelling), "{both}");
        assert!(!all_subsets_hold(&key, &terms, &telling), "{both} and {alone}");
    }
}

#[test]
fn a_signature_is_found_over_its_message_alone() {
    let (signer, key, items) = batch(3);
    let search = Ed25519Search::new(&key).unwrap();
    for length in [0, 1, 32, 111, 112, 300] {
        let message = vec![7; length];
        let signature = signer.sign(&message).to_bytes();
        let tried = search.signature(&signature).unwrap();
        assert!(tried.is_over(&message) && !tried.is_over(&[&message[..], &[0]].concat()));
        assert!(items.iter().all(|(digest, _)| !tried.is_over(digest)));
    }
    for short in [&[][..], &items[0].1[..63], &[&items[0].1[..], &[0]].concat()] {
        assert!(search.signature(short).is_none());
    }
}

#[test]
fn totals_are_sums_of_scalars() {
    let mut total = Total::default();
    let mut sum = Scalar::ZERO;
    assert_eq!(total.reduced(), sum);
    for number in 0u32..300 {
        let scalar = Scalar::from_bytes_mod_order_wide(&Sha512::digest(number.to_be_bytes()).into());
        assert_eq!(Total::from(scalar).reduced(), scalar);
        total.add(&scalar.into());
        sum += scalar;
        assert_eq!(total.reduced(), sum);
    }
    let mut most = Total([u64::MAX, u64::MAX, u64::MAX, u64::MAX, 0]);
    most.add(&Total([1, 0, 0, 0, 0]));
    assert_eq!(most.0, [0, 0, 0, 0, 1]);
}

#[test]
fn points_of_small_order_are_known_by_their_y() {
    let small = small_ys();
    for point in EIGHT_TORSION {
        let encoded = point.compress().to_bytes();
        let mut other = encoded;
        other[31] ^= 0x80;
        assert!(small.contains(&y(&encoded)) && small.contains(&y(&other)));
    }
    let (_, _, items) = batch(50);
    for (_, signature) in items {
        let r: [u8; 32] = signature[..32].try_into().unwrap();
        assert!(!small.contains(&y(&r)) && !CompressedEdwardsY(r).decompress().unwrap().is_small_order());
    }
}

#[test]
fn subsets_depend_on_every_byte_and_are_balanced() {
    let (_, key, items) = batch(301);
    let key = ed25519_key(&key).unwrap();
    let subsets = choose_subsets(&key, &items);
    assert!(subsets.len() >= items.len());
    let members = |subset: usize| {
        subsets[..301].iter().filter(|bits| u128::from_be_bytes(**bits) >> subset & 1 == 1).count()
    };
    // Seven standard deviations around one half.
    assert!((0..128).map(members).all(|count| (90..=211).contains(&count)));
    for (at, part) in [0, 150, 300].into_iter().flat_map(|at| [0, 1].map(|part| (at, part))) {
        let mut altered = items.clone();
        if part == 0 {
            altered[at].0[31] ^= 1
        } else {
            altered[at].1[63] ^= 1
        }
        let others = choose_subsets(&key, &altered);
        let same = subsets.iter().zip(&others).filter(|(a, b)| a == b).count();
        assert_eq!(same, 0, "{at}, {part}");
    }
}

#[test]
fn second_encodings_are_refused() {
    for size in SIZES {
        let (_, key, mut items) = batch(size);
        items[size / 2].1 = second_scalar_encoding(&items[size / 2].1);
        assert!(!assert_agree(&key, &items, "s plus the group order"));
        // y = 1 as p + 1, and −0: the identity in its other spellings.
        let mut wide = [0xff; 32];
        (wide[0], wide[31]) = (0xee, 0x7f);
        let mut minus_zero = [0; 32];
        (minus_zero[0], minus_zero[31]) = (1, 0x80);
        for r in [wide, minus_zero] {
            let (_, key, mut items) = batch(size);
            items[0].1[..32].copy_from_slice(&r);
            items[0].1[32..].fill(0);
            assert!(!assert_agree(&key, &items, "R in a second encoding"));
            assert!(!assert_agree(&r, &items, "key in a second encoding"));
        }
    }
    assert!(!is_canonical_y(&[0xff; 32]));
    assert!(is_canonical_y(&[0x7f; 32]));
}

/// `y + p` of small `y`: second spellings of points that are not of small order. `verify_strict` alone
/// takes such a key; nothing here does.
#[test]
fn a_key_has_one_encoding_and_is_in_the_prime_order_group() {
    let mut tried = 0;
    for y in 2..19u8 {
        let mut low = [0; 32];
        low[0] = y;
        if CompressedEdwardsY(low).decompress().is_none_or(|point| point.is_small_order()) {
            continue;
        }
        let mut high = [0xff; 32];
        (high[0], high[31]) = (0xed + y, 0x7f);
        assert!(CompressedEdwardsY(high).decompress().is_some());
        assert_eq!(PublicKey::from_ed25519_raw(&high), Err(PublicKeyError::Encoding));
        assert!(!verify_ed25519_batch(&high, &[]));
        tried += 1;
    }
    assert!(tried > 0);
    let (signer, ..) = batch(0);
    for torsion in EIGHT_TORSION {
        let small = torsion.compress().to_bytes();
        assert!(PublicKey::from_ed25519_raw(&small).is_err());
        assert!(!verify_ed25519_batch(&small, &[]));
        let mixed = (signer.verifying_key().to_edwards() + torsion).compress().to_bytes();
        let good = torsion == EIGHT_TORSION[0];
        assert_eq!(PublicKey::from_ed25519_raw(&mixed).is_ok(), good);
        assert_eq!(verify_ed25519_batch(&mixed, &[]), good);
    }
}

#[test]
fn small_order_points_are_refused() {
    for (size, torsion) in SIZES.into_iter().flat_map(|size| EIGHT_TORSION.map(|torsion| (size, torsion))) {
        let (_, key, mut items) = batch(size);
        let small = torsion.compress().to_bytes();
        items[0].1[..32].copy_from_slice(&small);
        assert!(!assert_agree(&key, &items, "R of small order"));
        // The key's holder can use a nonce of 0: where R is the identity, even the plain equation holds.
        let (signer, key, mut items) = batch(size);
        items[0].1 = with_nonce(&signer, &items[0].0, &torsion, Scalar::ZERO);
        assert!(!assert_agree(&key, &items, "nonce of 0"));
        // Under a small-order key s = 0 and R = the identity hold for every eighth message at least.
        items.iter_mut().for_each(|(_, signature)| *signature = [0; 64]);
        items.iter_mut().for_each(|(_, signature)| signature[0] = 1);
        assert!(!assert_agree(&small, &items, "key of small order"));
    }
}

/// The gap of the weighted equation: two such signatures cancel whenever their weights add up to a
/// multiple of the point's order.
#[test]
fn a_signer_cannot_make_the_batch_say_yes_where_one_by_one_says_no() {
    for size in SIZES {
        let (signer, key, items) = batch(size);
        for (torsion, count) in
            EIGHT_TORSION[1..].iter().flat_map(|torsion| [(torsion, 1), (torsion, 2), (torsion, size)])
        {
            let mut altered = items.clone();
            for (digest, signature) in altered.iter_mut().take(count) {
                *signature = with_torsion(&signer, digest, torsion);
            }
            assert!(!assert_agree(&key, &altered, "R with a small-order part"), "{count} of {size}");
        }
    }
    // The same maker without the torsion makes good signatures.
    let (signer, key, mut items) = batch(200);
    items
        .iter_mut()
        .for_each(|(digest, signature)| *signature = with_torsion(&signer, digest, &EIGHT_TORSION[0]));
    assert!(assert_agree(&key, &items, "own nonces"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_batch_agrees_with_one_by_one_on_any_mixture(
        size in 150usize..260,
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0u8..6, any::<[u8; 32]>()), 0..4),
    ) {
        let (signer, key, mut items) = batch(size);
        for (at, what, random) in changes {
            let (digest, signature) = &mut items[at.index(size)];
            match what {
                0 => *signature = signer.sign(digest).to_bytes(),
                1 => *digest = random,
                2 => signature[..32].copy_from_slice(&random),
                3 => signature[32..].copy_from_slice(&random),
                4 => *signature = second_scalar_encoding(signature),
                _ => *signature = with_torsion(&signer, digest, &EIGHT_TORSION[usize::from(random[0] % 8)]),
            }
        }
        assert_agree(&key, &items, "mixture");
    }
}
