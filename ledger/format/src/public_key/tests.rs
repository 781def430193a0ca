#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed unwrap or index is the test's failure"
)]

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256K1_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING,
    EcdsaKeyPair, KeyPair, ML_DSA_44_SIGNING, ML_DSA_65_SIGNING, PqdsaKeyPair, RSA_PKCS1_SHA256,
    RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding,
    RsaKeyPair,
};

use super::ed25519_batch::tests::batch;
use super::*;

fn sha256(message: &[u8]) -> Digest {
    Digest::Sha256(crate::hash::Hash::of(&[message]).0)
}

#[test]
fn ed25519_signs_the_digest_s_bytes() {
    let (_, raw, items) = batch(2);
    let key = PublicKey::from_ed25519_raw(&raw).unwrap();
    let (digest, signature) = (Digest::Sha256(items[0].0), items[0].1);
    assert!(key.verify(&digest, &signature));
    assert!(!key.verify(&Digest::Sha256(items[1].0), &signature));
    assert!(!key.verify(&digest, &signature[..63]));
    assert!(!key.verify(&digest, &[&signature[..], &[0]].concat()));
    assert!(!key.verify(&digest, &[]));
    assert_eq!((key.ed25519_raw(), key.algorithm()), (Some(raw), SignatureAlgorithm::Ed25519));
    assert_eq!(PublicKey::from_der(SignatureAlgorithm::Ed25519, key.spki_der()), Ok(key));
}

fn p256_pair() -> (EcdsaKeyPair, PublicKey) {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let der = pair.public_key().as_der().unwrap();
    let key = PublicKey::from_der(SignatureAlgorithm::EcdsaP256Sha256, der.as_ref()).unwrap();
    assert_eq!(
        PublicKey::from_point(SignatureAlgorithm::EcdsaP256Sha256, pair.public_key().as_ref()).as_ref(),
        Ok(&key)
    );
    (pair, key)
}

#[test]
fn ecdsa_by_another_library_verifies_with_either_s() {
    let (pair, key) = p256_pair();
    for number in 0..20u8 {
        let signature = pair.sign(&SystemRandom::new(), &[number]).unwrap();
        assert!(key.verify(&sha256(&[number]), signature.as_ref()));
        assert!(!key.verify(&sha256(&[number, 0]), signature.as_ref()));
        let parsed = p256::ecdsa::Signature::from_der(signature.as_ref()).unwrap();
        let (r, s) = parsed.split_scalars();
        let other = p256::ecdsa::Signature::from_scalars(r.to_bytes(), (-*s).to_bytes()).unwrap();
        assert!(key.verify(&sha256(&[number]), other.to_der().as_bytes()));
        assert!(!key.verify(&sha256(&[number]), &parsed.to_bytes()), "raw r ‖ s is not DER");
    }
}

#[test]
fn ecdsa_signatures_have_one_encoding() {
    let (pair, key) = p256_pair();
    let digest = sha256(b"encoding");
    for _ in 0..20 {
        let good = pair.sign(&SystemRandom::new(), b"encoding").unwrap().as_ref().to_vec();
        let mut trailing = good.clone();
        trailing.push(0);
        let mut trailing_inside = trailing.clone();
        trailing_inside[1] += 1;
        let mut padded = good.clone();
        (padded[1], padded[3]) = (padded[1] + 1, padded[3] + 1);
        padded.insert(4, 0);
        let mut long_length = good.clone();
        long_length.insert(1, 0x81);
        let mut indefinite = good.clone();
        indefinite[1] = 0x80;
        indefinite.extend_from_slice(&[0, 0]);
        assert!(key.verify(&digest, &good));
        for bad in [
            &trailing,
            &trailing_inside,
            &padded,
            &long_length,
            &indefinite,
            &good[..good.len() - 1].to_vec(),
            &vec![],
        ] {
            assert!(!key.verify(&digest, bad), "{}", hex::encode(bad));
        }
    }
    let zero = hex::decode("3006020100020100").unwrap();
    assert!(!key.verify(&digest, &zero));
}

fn rsa_pair(algorithm: SignatureAlgorithm, size: KeySize) -> (RsaKeyPair, PublicKey) {
    let pair = RsaKeyPair::generate(size).unwrap();
    let der = pair.public_key().as_der().unwrap();
    let key = PublicKey::from_der(algorithm, der.as_ref()).unwrap();
    (pair, key)
}

fn rsa_sign(pair: &RsaKeyPair, padding: &'static dyn RsaEncoding, message: &[u8]) -> Vec<u8> {
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(padding, &SystemRandom::new(), message, &mut signature).unwrap();
    signature
}

#[test]
fn rsa_by_another_library_verifies_under_its_own_padding_only() {
    let (pair, plain) = rsa_pair(SignatureAlgorithm::RsaSha256, KeySize::Rsa2048);
    let pss = PublicKey::from_der(SignatureAlgorithm::RsaPssSha256, plain.spki_der()).unwrap();
    assert_ne!(plain, pss);
    for (key, own, other) in
        [(&plain, &RSA_PKCS1_SHA256, &RSA_PSS_SHA256), (&pss, &RSA_PSS_SHA256, &RSA_PKCS1_SHA256)]
    {
        let good = rsa_sign(&pair, own, b"message");
        let digest = sha256(b"message");
        assert!(key.verify(&digest, &good));
        assert!(!key.verify(&sha256(b"other"), &good));
        assert!(!key.verify(&digest, &rsa_sign(&pair, other, b"message")));
        assert!(!key.verify(&digest, &good[..255]));
        assert!(!key.verify(&digest, &[&[0], &good[..]].concat()), "leading zero");
        assert!(!key.verify(&digest, &[&good[..], &[0]].concat()));
        assert!(!key.verify(&digest, &[0xff; 256]), "above the modulus");
        assert!(!key.verify(&digest, &[0; 256]));
        assert!(!key.verify(&digest, &[]));
        for at in [0, 100, 255] {
            let mut altered = good.clone();
            altered[at] ^= 1;
            assert!(!key.verify(&digest, &altered), "byte {at}");
        }
    }
}

#[test]
fn a_pss_salt_has_32_bytes() {
    use rsa::traits::SignatureScheme;
    let (pair, _) = rsa_pair(SignatureAlgorithm::RsaPssSha256, KeySize::Rsa2048);
    let private: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let private =
        <rsa::RsaPrivateKey as rsa::pkcs8::DecodePrivateKey>::from_pkcs8_der(private.as_ref()).unwrap();
    let public = pair.public_key().as_der().unwrap();
    let key = PublicKey::from_der(SignatureAlgorithm::RsaPssSha256, public.as_ref()).unwrap();
    let digest = sha256(b"salt");
    for (salt, good) in [(32, true), (0, false), (20, false), (31, false), (33, false), (64, false)] {
        let mut random = rsa::rand_core::UnwrapErr(getrandom::SysRng);
        let signature =
            Pss::<Sha256>::new_with_salt(salt).sign(Some(&mut random), &private, digest.as_bytes());
        assert_eq!(key.verify(&digest, &signature.unwrap()), good, "salt of {salt}");
    }
}

#[test]
fn the_largest_rsa_key_verifies() {
    let (pair, key) = rsa_pair(SignatureAlgorithm::RsaSha256, KeySize::Rsa4096);
    assert!(key.verify(&sha256(b"m"), &rsa_sign(&pair, &RSA_PKCS1_SHA256, b"m")));
}

/// An odd number of so many bits; whether it is a product of primes, no verifier can know.
fn modulus(bits: usize) -> Vec<u8> {
    let mut bytes = vec![0xff; bits.div_ceil(8)];
    bytes[0] >>= bytes.len() * 8 - bits;
    bytes
}

#[test]
fn weak_and_oversized_rsa_keys_are_refused() {
    let key = |bits, exponent: &[u8]| {
        PublicKey::from_rsa_parts(SignatureAlgorithm::RsaSha256, &modulus(bits), exponent)
    };
    let usual = [1, 0, 1];
    for bits in [2048, 2049, 3072, 4095, 4096] {
        assert!(key(bits, &usual).is_ok(), "{bits}");
    }
    for bits in [512, 1024, 2040, 2047, 4097, 8192, 16_384] {
        assert_eq!(key(bits, &usual), Err(PublicKeyError::Strength), "{bits}");
    }
    for exponent in [
        &[][..],
        &[0],
        &[1],
        &[2],
        &[3],
        &[0xff, 0xff],
        &[1, 0, 0],
        &[1, 0, 2],
        &[2, 0, 0, 0, 1],
        &[0xff; 32],
    ] {
        assert_eq!(key(2048, exponent), Err(PublicKeyError::Strength), "{exponent:?}");
    }
    assert!(key(2048, &[1, 0, 3]).is_ok());
    let mut even = modulus(2048);
    even[255] = 0xfe;
    let even = PublicKey::from_rsa_parts(SignatureAlgorithm::RsaSha256, &even, &usual);
    assert_eq!(even, Err(PublicKeyError::Strength));
    let wrong = PublicKey::from_rsa_parts(SignatureAlgorithm::Ed25519, &modulus(2048), &usual);
    assert_eq!(wrong, Err(PublicKeyError::Encoding));
    // Leading zeros do not make a second key.
    let padded = [&[0][..], &modulus(2048)].concat();
    let padded = PublicKey::from_rsa_parts(SignatureAlgorithm::RsaSha256, &padded, &[0, 1, 0, 1]);
    assert_eq!(padded, key(2048, &usual));
}

#[test]
fn pem_has_one_spelling_and_knows_its_algorithm() {
    let (_, raw, _) = batch(0);
    let (_, p256) = p256_pair();
    let rsa =
        PublicKey::from_rsa_parts(SignatureAlgorithm::RsaPssSha256, &modulus(3072), &[1, 0, 1]).unwrap();
    for key in [PublicKey::from_ed25519_raw(&raw).unwrap(), p256, rsa] {
        let pem = key.to_pem();
        let read = |pem: &str| PublicKey::from_pem(key.algorithm(), pem);
        assert_eq!(read(&pem).as_ref(), Ok(&key));
        assert_eq!(read(&format!("\n {pem}\n")).as_ref(), Ok(&key));
        assert_eq!(spki::Document::from_pem(&pem).unwrap().1.as_bytes(), key.spki_der());
        let body = pem.lines().nth(1).unwrap();
        for bad in [
            pem.replace('\n', "\r\n"),
            pem.replace("PUBLIC", "PRIVATE"),
            pem.replace("PUBLIC", "RSA PUBLIC"),
            pem.replace(body, &format!("{}\n{}", &body[..32], &body[32..])),
            pem.replace(body, &format!("{body} ")),
            pem.replace("-----END", "\n-----END"),
            pem.replace(body, ""),
            format!("{pem}{pem}"),
            format!("text before\n{pem}"),
            String::new(),
        ] {
            assert_eq!(read(&bad), Err(PublicKeyError::Encoding), "{bad}");
        }
        for other in SignatureAlgorithm::ALL {
            let fits = other.family() == key.algorithm().family();
            assert_eq!(PublicKey::from_pem(other, &pem).is_ok(), fits, "{other} from {}", key.algorithm());
        }
    }
    let (_, key) = p256_pair();
    assert_eq!(PublicKey::from_pem(SignatureAlgorithm::HmacSha256, &key.to_pem()), Err(PublicKeyError::Mac));
}

#[test]
fn der_has_one_spelling() {
    let (_, raw, _) = batch(0);
    let ed25519 = PublicKey::from_ed25519_raw(&raw).unwrap();
    let (_, p256) = p256_pair();
    let rsa = PublicKey::from_rsa_parts(SignatureAlgorithm::RsaSha256, &modulus(2048), &[1, 0, 1]).unwrap();
    for key in [&ed25519, &p256, &rsa] {
        let der = key.spki_der();
        let trailing = [der, &[0]].concat();
        let short = der[..der.len() - 1].to_vec();
        let unused_bits = {
            let at = der.windows(2).rposition(|pair| pair == [0x03, 0x21] || pair == [0x03, 0x42]);
            at.map(|at| [&der[..at + 2], &[1], &der[at + 3..]].concat())
        };
        for bad in [Some(trailing), Some(short), Some(vec![]), unused_bits].into_iter().flatten() {
            assert_eq!(PublicKey::from_der(key.algorithm(), &bad), Err(PublicKeyError::Encoding));
        }
    }
    // A compressed point is a second encoding of the same key, acceptable only where a device gives it.
    let point = &p256.spki_der()[26..];
    let compressed = [&[2 + (point[64] & 1)], &point[1..33]].concat();
    assert_eq!(PublicKey::from_point(SignatureAlgorithm::EcdsaP256Sha256, &compressed).as_ref(), Ok(&p256));
    let mut der = hex::decode("3039301306072a8648ce3d020106082a8648ce3d030107032200").unwrap();
    der.extend_from_slice(&compressed);
    assert_eq!(PublicKey::from_der(SignatureAlgorithm::EcdsaP256Sha256, &der), Err(PublicKeyError::Encoding));
    // So is id-RSASSA-PSS around an RSA key.
    let encryption = hex::decode("06092a864886f70d0101010500").unwrap();
    let at = rsa.spki_der().windows(13).position(|window| window == encryption).unwrap();
    let mut pss = rsa.spki_der().to_vec();
    pss[at + 10] = 0x0a;
    pss.drain(at + 11..at + 13);
    (pss[3], pss[5]) = (pss[3] - 2, pss[5] - 2);
    assert_eq!(PublicKey::from_der(SignatureAlgorithm::RsaPssSha256, &pss), Err(PublicKeyError::Encoding));
}

/// Every ECDSA curve against aws-lc-rs, whose signatures have either `s`.
#[test]
fn ecdsa_on_the_other_curves_by_another_library() {
    let curves = [
        (SignatureAlgorithm::EcdsaP384Sha384, &ECDSA_P384_SHA384_ASN1_SIGNING),
        (SignatureAlgorithm::EcdsaSecp256k1Sha256, &ECDSA_P256K1_SHA256_ASN1_SIGNING),
    ];
    for (algorithm, curve) in curves {
        let pair = EcdsaKeyPair::generate(curve).unwrap();
        let der = pair.public_key().as_der().unwrap();
        let key = PublicKey::from_der(algorithm, der.as_ref()).unwrap();
        assert_eq!(PublicKey::from_point(algorithm, pair.public_key().as_ref()).as_ref(), Ok(&key));
        let (mut lower, mut higher) = (0, 0);
        for number in 0..40u8 {
            let digest = match algorithm {
                SignatureAlgorithm::EcdsaP384Sha384 => Digest::Sha384(Sha384::digest([number]).into()),
                _ => sha256(&[number]),
            };
            let signature = pair.sign(&SystemRandom::new(), &[number]).unwrap().as_ref().to_vec();
            if algorithm == SignatureAlgorithm::EcdsaSecp256k1Sha256 {
                let low = lower_s_secp256k1(&signature).unwrap();
                assert_eq!(key.verify(&digest, &signature), low == signature, "only the lower s verifies");
                (lower, higher) =
                    (lower + usize::from(low == signature), higher + usize::from(low != signature));
                assert_eq!(lower_s_secp256k1(&low).as_ref(), Some(&low));
                assert!(key.verify(&digest, &low));
            } else {
                assert!(key.verify(&digest, &signature));
            }
            assert!(!key.verify(&sha256(b"other"), &signature));
            assert!(!key.verify(&digest, &signature[1..]));
        }
        assert!(algorithm == SignatureAlgorithm::EcdsaP384Sha384 || (lower > 0 && higher > 0));
    }
    assert_eq!(lower_s_secp256k1(b"no signature"), None);
}

#[test]
fn rsa_with_the_longer_hashes_by_another_library() {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let der = pair.public_key().as_der().unwrap();
    let (sha384, sha512) = (Sha384::digest(b"m").into(), Sha512::digest(b"m").into());
    let cases: [(_, &'static dyn RsaEncoding, _); 4] = [
        (SignatureAlgorithm::RsaSha384, &RSA_PKCS1_SHA384, Digest::Sha384(sha384)),
        (SignatureAlgorithm::RsaSha512, &RSA_PKCS1_SHA512, Digest::Sha512(sha512)),
        (SignatureAlgorithm::RsaPssSha384, &RSA_PSS_SHA384, Digest::Sha384(sha384)),
        (SignatureAlgorithm::RsaPssSha512, &RSA_PSS_SHA512, Digest::Sha512(sha512)),
    ];
    for (algorithm, padding, digest) in cases {
        let key = PublicKey::from_der(algorithm, der.as_ref()).unwrap();
        let good = rsa_sign(&pair, padding, b"m");
        assert!(key.verify(&digest, &good), "{algorithm}");
        assert!(!key.verify(&sha256(b"m"), &good), "{algorithm} takes one kind of digest");
        for other in SignatureAlgorithm::ALL.into_iter().filter(|other| *other != algorithm) {
            let other = PublicKey::from_der(other, der.as_ref());
            assert!(other.is_err() || !other.unwrap().verify(&digest, &good), "{algorithm}");
        }
    }
}

/// FIPS 204 by another library: pure, empty context.
#[test]
fn ml_dsa_by_another_library() {
    for (algorithm, parameters) in
        [(SignatureAlgorithm::MlDsa44, &ML_DSA_44_SIGNING), (SignatureAlgorithm::MlDsa65, &ML_DSA_65_SIGNING)]
    {
        let pair = PqdsaKeyPair::generate(parameters).unwrap();
        let der = pair.public_key().as_der().unwrap();
        let key = PublicKey::from_der(algorithm, der.as_ref()).unwrap();
        let mut signature = vec![0; parameters.signature_len()];
        pair.sign(&[7; 32], &mut signature).unwrap();
        assert_eq!(Some(signature.len()), algorithm.signature_bytes());
        assert!(key.verify(&Digest::Sha256([7; 32]), &signature));
        assert!(!key.verify(&Digest::Sha256([8; 32]), &signature));
        assert!(!key.verify(&Digest::Sha384([7; 48]), &signature));
        assert!(!key.verify(&Digest::Sha256([7; 32]), &signature[1..]));
        for at in [0, 40, signature.len() - 1] {
            let mut altered = signature.clone();
            altered[at] ^= 1;
            assert!(!key.verify(&Digest::Sha256([7; 32]), &altered), "byte {at}");
        }
        assert_eq!(PublicKey::from_pem(algorithm, &key.to_pem()), Ok(key));
    }
}

/// RFC 8032 §7.3, the test vector of Ed25519ph: its message is what we call the digest's bytes; ours are
/// longer, so the rule is tried on the vector and the length on a key of our own.
#[test]
fn ed25519ph_is_the_standard_s() {
    let key = hex::decode("ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf").unwrap();
    let signature = hex::decode(
        "98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae4131f85042463c2a355a2003d062adf5aa\
         a10b8c61e636062aaad11c2a26083406",
    )
    .unwrap();
    let key = ed25519_key(key.as_slice().try_into().unwrap()).unwrap();
    assert!(verify_ed25519ph(&key, b"abc", &signature));
    assert!(!verify_ed25519ph(&key, b"abd", &signature));
    assert!(!verify_ed25519ph(&key, b"abc", &signature[..63]));

    let signing = ed25519_dalek::SigningKey::from_bytes(&[5; 32]);
    let key =
        PublicKey::from_point(SignatureAlgorithm::Ed25519ph, signing.verifying_key().as_bytes()).unwrap();
    let signature = signing.sign_prehashed(Sha512::new_with_prefix([9; 64]), None).unwrap().to_bytes();
    assert!(key.verify(&Digest::Sha512([9; 64]), &signature));
    assert!(!key.verify(&Digest::Sha256([9; 32]), &signature));
    let pure = PublicKey::from_ed25519_raw(signing.verifying_key().as_bytes()).unwrap();
    assert!(!pure.verify(&Digest::Sha512([9; 64]), &signature));
    assert_eq!(key.ed25519_raw(), None, "no note and no batch is made of it");
}

#[test]
fn a_signature_over_mu_is_one_over_its_message() {
    use ml_dsa::SigningKey;
    use ml_dsa::signature::Keypair as _;
    let signing = SigningKey::<MlDsa65>::from_seed(&[7; 32].into());
    let der = signing.verifying_key().to_public_key_der().unwrap();
    let key = PublicKey::from_der(SignatureAlgorithm::MlDsa65, der.as_bytes()).unwrap();
    let mu = key.mu(b"a message").unwrap();
    let Digest::Mu(bytes) = mu else { panic!("not a digest") };
    let signature = signing.expanded_key().sign_mu_deterministic(&bytes.into()).encode().to_vec();
    assert!(key.verify(&mu, &signature) && key.verify_message(b"a message", &signature));
    assert!(!key.verify(&Digest::Sha512(bytes), &signature), "µ is no message");
    assert!(!key.verify(&key.mu(b"another").unwrap(), &signature));

    // Only ML-DSA makes one, and leaves alone name one.
    let ed25519 = PublicKey::from_ed25519_raw(
        ed25519_dalek::SigningKey::from_bytes(&[5; 32]).verifying_key().as_bytes(),
    );
    assert!(ed25519.unwrap().mu(b"a message").is_none());
    assert_eq!(Digest::recorded("ml-dsa-mu", &mu.to_hex()), Some(mu));
    assert!(Digest::parse("ml-dsa-mu", &mu.to_hex()).is_err());
    assert!(SignatureAlgorithm::ALL.into_iter().filter(|algorithm| algorithm.takes(&mu)).count() == 2);
}
