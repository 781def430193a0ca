//! Grease (the word is RFC 8701's): lines that nobody knows, in what clients read, so that they go on ignoring them.
//!
//! For test environments; production refuses to start with it. Whoever verifies a note must skip signature lines by
//! unknown keys, and must not count on an order, or a new witness or algorithm breaks it years later. With grease each
//! checkpoint that is served, alone or in a receipt, bears a line that looks like a signature by nobody, among the
//! others in an order that differs from note to note. What is stored, archived or sent to witnesses has none.
//!
//! It is a function of the note: the same note is served in the same bytes again, as replays ask for.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chancery_format::Hash;
use chancery_format::note::Note;

/// Bytes of the line behind the name: a key id and what could be an Ed25519 cosignature.
const LINE_BYTES: usize = 4 + 8 + 64;

/// The note with its lines mixed and one more. What is no note is left as it is.
pub(crate) fn greased(note: &str) -> String {
    let Ok(parsed) = Note::parse(note) else { return note.to_owned() };
    let Some(lines) = note.get(parsed.text.len() + 1..) else { return note.to_owned() };
    let seed = |part: &[u8]| Hash::of(&[b"grease", part, note.as_bytes()]).0;
    let bytes: Vec<u8> = (0u8..).flat_map(|part| seed(&[part])).take(LINE_BYTES).collect();
    let one = format!("\u{2014} grease.invalid {}", STANDARD.encode(bytes));
    let mut lines: Vec<&str> = lines.lines().chain([one.as_str()]).collect();
    lines.sort_by_key(|line| seed(line.as_bytes()));
    format!("{}\n{}\n", parsed.text, lines.join("\n"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use std::collections::HashSet;

    use super::*;

    fn note(size: usize) -> String {
        let line = |name: &str| format!("\u{2014} {name} {}\n", STANDARD.encode([7; 68]));
        format!("log.example/a\n{size}\nroot\n\n{}{}", line("log.example/a"), line("witness.example/w"))
    }

    #[test]
    fn one_line_is_added_and_none_is_lost() {
        let (plain, greased) = (note(1), greased(&note(1)));
        let (plain, parsed) = (Note::parse(&plain).unwrap(), Note::parse(&greased).unwrap());
        assert_eq!(parsed.text, plain.text);
        assert_eq!(parsed.signatures.len(), 3);
        assert!(plain.signatures.iter().all(|line| parsed.signatures.contains(line)));
        let added = parsed.signatures.iter().find(|line| line.name == "grease.invalid").unwrap();
        assert_eq!(added.signature.len(), 72);
        assert_eq!(super::greased(&note(1)), greased, "the same note, the same bytes");
    }

    #[test]
    fn the_line_stands_anywhere_and_never_comes_again() {
        let mut places = HashSet::new();
        let mut ids = HashSet::new();
        for size in 0..64 {
            let greased = greased(&note(size));
            let signatures = Note::parse(&greased).unwrap().signatures;
            let at = signatures.iter().position(|line| line.name == "grease.invalid").unwrap();
            places.insert(at);
            ids.insert(signatures.get(at).unwrap().key_id);
        }
        assert_eq!((places.len(), ids.len()), (3, 64));
    }

    #[test]
    fn what_is_no_note_stays_as_it_is() {
        assert_eq!(greased("no note"), "no note");
    }
}
