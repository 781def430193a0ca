#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed unwrap or index is the test's failure"
)]

use ed25519_dalek::{Signer, SigningKey};
use proptest::prelude::*;

use super::*;

/// Example of C2SP signed-note.
const VKEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
const NOTE: &str = "This is an example message.\n\n\u{2014} example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

/// A checkpoint by the log key of seed 0x42, and below it a witness' cosignature.
const LOG_VKEY: &str = "ledger.example/sign-log/1+060f69c8+ASFS+NGbeR0kRTJC4V8uq2y3z/p7al7TAJeWDgaYgdsS";
const LOG_TEXT: &str = "ledger.example/sign-log/1\n3\nsgbG5Jjy2NPw+6xDsP5UZIjKceiOnsIxHH2iJbNfFYo=\n";
const LOG_LINE: &str = "\u{2014} ledger.example/sign-log/1 Bg9pyNM8D6g+01uj1dWDqKcmgncbev8Pob5TQq/B2Gl7gEj9lvnyZsKi4tey7sUS90e8zrYSzXcYeP7AnlQblfW+wwI=\n";
const WITNESS_VKEY: &str = "witness.example/w1+200fb1ab+BCL8KXeS8Lb/wL/P237bDAqhTgJaNl7A40Lobjgpy3S2";
const WITNESS_LINE: &str = "\u{2014} witness.example/w1 IA+xqwAAAABkGFDLg+nBL6ls+tWRIFlwt+d3cKB4Cg/x3l3QpS1L2BcuSU+kMHVdaPVvlJiFMl/bFupciE/f06KiXuMHRHGWaU9iCQ==\n";

fn log() -> (SigningKey, NoteVerifier) {
    let signer = SigningKey::from_bytes(&[0x42; 32]);
    let key = NoteVerifier::new("ledger.example/sign-log/1", signer.verifying_key().as_bytes()).unwrap();
    (signer, key)
}

/// Whether the note parses and is signed by these keys, reduced to what tests compare.
fn verdict(note: &str, keys: &[NoteVerifier]) -> Result<usize, NoteError> {
    Note::parse(note)?.verify(keys).map(|signed| signed.len())
}

#[test]
fn the_specification_s_note_verifies_and_no_flipped_bit_of_it_does() {
    let keys = [NoteVerifier::parse(VKEY).unwrap()];
    assert_eq!(verdict(NOTE, &keys), Ok(1));
    for (at, bit) in (0..NOTE.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let mut bytes = NOTE.as_bytes().to_vec();
        bytes[at] ^= 1 << bit;
        let Ok(text) = String::from_utf8(bytes) else { continue };
        assert!(verdict(&text, &keys).is_err(), "byte {at} bit {bit}");
    }
}

#[test]
fn a_known_seed_makes_the_known_note() {
    let (signer, key) = log();
    assert_eq!((key.vkey().as_str(), key.key_id()), (LOG_VKEY, [0x06, 0x0f, 0x69, 0xc8]));
    let note = assemble(LOG_TEXT, &key, &signer.sign(LOG_TEXT.as_bytes()).to_bytes()).unwrap();
    assert_eq!(note, format!("{LOG_TEXT}\n{LOG_LINE}"));
    let cosigned = format!("{note}{WITNESS_LINE}");
    let sha256 = Hash::of(&[cosigned.as_bytes()]).to_hex();
    assert_eq!(sha256, "0e12d33d2b11729f4d22792059ea0bacc13730f957f26a9c0f7ff49e801c7323");
    assert_eq!(verdict(&cosigned, &[key]), Ok(1));
    assert_eq!(
        NoteVerifier::parse(WITNESS_VKEY),
        Err(NoteError::VerifierKey),
        "type 0x04 signs something else"
    );
}

#[test]
fn unknown_signatures_are_ignored_up_to_a_hundred() {
    let (_, key) = log();
    let grease = "\u{2014} grease AAAAAAEC\n";
    let note = |before: usize, after: usize| {
        format!("{LOG_TEXT}\n{}{LOG_LINE}{}", grease.repeat(before), grease.repeat(after))
    };
    for (before, after) in [(0, 0), (15, 0), (0, 15), (50, 49)] {
        assert_eq!(verdict(&note(before, after), std::slice::from_ref(&key)), Ok(1));
    }
    assert_eq!(verdict(&note(50, 50), std::slice::from_ref(&key)), Err(NoteError::Malformed));
    // A signature as long as a post-quantum one, by a key of our own name.
    let long = encode_base64(&[7; 3_300]);
    let note = format!("{LOG_TEXT}\n\u{2014} ledger.example/sign-log/1 {long}\n{LOG_LINE}");
    assert_eq!(verdict(&note, &[key]), Ok(1));
}

#[test]
fn a_known_key_must_sign_once_and_well() {
    let (signer, key) = log();
    let other = NoteVerifier::parse(VKEY).unwrap();
    let keys = [other.clone(), key.clone()];
    let good = format!("{LOG_TEXT}\n{LOG_LINE}");
    assert_eq!(verdict(&good, std::slice::from_ref(&other)), Err(NoteError::NoKnownSignature));
    assert_eq!(verdict(&good, &[]), Err(NoteError::NoKnownSignature));
    assert_eq!(verdict(&format!("{good}{LOG_LINE}"), &keys), Err(NoteError::Malformed));
    let bad = assemble(LOG_TEXT, &key, &[7; 64]).unwrap();
    assert_eq!(verdict(&bad, &keys), Err(NoteError::BadSignature));
    // One good signature does not outweigh a bad one, in either order.
    let bad_line = assemble(LOG_TEXT, &other, &[7; 64]).unwrap().split_off(LOG_TEXT.len() + 1);
    assert_eq!(verdict(&format!("{good}{bad_line}"), &keys), Err(NoteError::BadSignature));
    assert_eq!(verdict(&format!("{LOG_TEXT}\n{bad_line}{LOG_LINE}"), &keys), Err(NoteError::BadSignature));
    // The right key id with a signature of the wrong length is a bad signature, not an unknown one.
    let mut short = key.key_id().to_vec();
    short.extend_from_slice(&signer.sign(LOG_TEXT.as_bytes()).to_bytes()[..63]);
    let note = format!("{LOG_TEXT}\n\u{2014} {} {}\n", key.name(), encode_base64(&short));
    assert_eq!(verdict(&note, &keys), Err(NoteError::BadSignature));
}

#[test]
fn the_text_ends_at_the_last_blank_line() {
    let (signer, key) = log();
    for text in ["one\n\ntwo\n", "one\n\n", "\n", "\u{2014} ledger.example/sign-log/1 AAAAAAEC\n\nmore\n"] {
        let note = assemble(text, &key, &signer.sign(text.as_bytes()).to_bytes()).unwrap();
        assert_eq!(Note::parse(&note).unwrap().text, text);
        assert_eq!(verdict(&note, std::slice::from_ref(&key)), Ok(1), "{text:?}");
    }
    for text in ["", "no newline", "tab\t\n", "return\r\n", "nul\0\n", "escape\x1b\n"] {
        assert_eq!(assemble(text, &key, &[0; 64]), Err(NoteError::Malformed), "{text:?}");
    }
}

#[test]
fn what_is_not_a_note_is_refused() {
    let good = format!("{LOG_TEXT}\n{LOG_LINE}");
    let line = LOG_LINE.trim_end();
    for bad in [
        String::new(),
        "\n".into(),
        "\n\n".into(),
        LOG_TEXT.into(),
        format!("{LOG_TEXT}\n"),
        good.trim_end().into(),
        format!("{good}\n"),
        format!("{LOG_TEXT}{LOG_LINE}"),
        format!("{LOG_TEXT}\n{line} \n"),
        format!("{LOG_TEXT}\n{line}=\n"),
        format!("{LOG_TEXT}\n{LOG_LINE}text\n"),
        good.replace('\n', "\r\n"),
        good.replace("\u{2014} ", "\u{2014}  "),
        good.replace("\u{2014} ", "- "),
        good.replace("wwI=", "wwJ="),
        good.replace("wwI=", "wwI"),
        format!("{LOG_TEXT}\n\u{2014} a+b AAAAAAEC\n"),
        format!("{LOG_TEXT}\n\u{2014} a\u{a0}b AAAAAAEC\n"),
        format!("{LOG_TEXT}\n\u{2014}  AAAAAAEC\n"),
        format!("{LOG_TEXT}\n\u{2014} short AAAA\n"),
        format!("{LOG_TEXT}\n\u{2014} idonly AAAAAA==\n"),
        format!("{}{good}", "x".repeat(NOTE_BYTES_MAX)),
    ] {
        assert_eq!(Note::parse(&bad), Err(NoteError::Malformed), "{bad:.100?}");
    }
}

#[test]
fn a_verifier_key_has_one_spelling() {
    assert_eq!(NoteVerifier::parse(VKEY).unwrap().vkey(), VKEY);
    let identity = encode_base64(&[&[ED25519, 1][..], &[0; 31]].concat());
    for bad in [
        "",
        "example.com/foo",
        "example.com/foo+530d903a",
        "example.com/foo+530D903A+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530d903b+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/fop+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2",
        "example.com/foo+530d903a+AukyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k\n",
        " example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        &format!(
            "weak+{}+{identity}",
            hex::encode(key_id("weak", ED25519, &{
                let mut key = [0; 32];
                key[0] = 1;
                key
            }))
        ),
    ] {
        assert_eq!(NoteVerifier::parse(bad), Err(NoteError::VerifierKey), "{bad}");
    }
    let key = [0x42; 32];
    let key = *SigningKey::from_bytes(&key).verifying_key().as_bytes();
    for bad in ["", "a b", "a+b", "a\u{2003}b", "a\nb", "a\u{7f}"] {
        assert_eq!(NoteVerifier::new(bad, &key), Err(NoteError::VerifierKey), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn parsing_never_panics_and_loses_nothing(note in "[a-z\u{2014} +/=\n]{0,200}") {
        if let Ok(parsed) = Note::parse(&note) {
            prop_assert!(note.starts_with(parsed.text));
            let signed = note[parsed.text.len()..].starts_with("\n\u{2014} ");
            prop_assert!(signed);
            prop_assert_eq!(parsed.signatures.len(), note[parsed.text.len() + 1..].lines().count());
        }
    }
}
