#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]
use super::*;

/// Entries `first..first + count`, chained from a digest of ones.
fn entries(first: u16, count: usize) -> Vec<Entry> {
    let mut digest = [1; 16];
    (0..count)
        .map(|place| {
            let item = first.wrapping_add(place as u16);
            let mut content = [place as u8; 16];
            content[..2].copy_from_slice(&item.to_be_bytes());
            digest = chain(&content, &digest);
            Entry::parse(&[content, digest].concat().try_into().unwrap()).unwrap()
        })
        .collect()
}

fn position(number: u64, entry: &Entry) -> LogPosition {
    LogPosition { number, digest: entry.digest }
}

fn numbers(state: &State, entries: &[Entry]) -> Result<Vec<u64>, String> {
    state.follow(entries).map(|numbered| numbered.into_iter().map(|(number, _)| number).collect())
}

#[test]
fn numbers_go_on_across_the_devices_sixteen_bits() {
    let log = entries(65_534, 4);
    assert_eq!(numbers(&State::default(), &log), Ok(vec![65_534, 65_535, 65_536, 65_537]));
    let consumed = Some(position(3 * 65_536 + 65_535, &log[1]));
    let state = State { consumed, ..State::default() };
    // Whether the device still shows what was consumed or not.
    assert_eq!(numbers(&state, &log), Ok(vec![4 * 65_536, 4 * 65_536 + 1]));
    assert_eq!(numbers(&state, &log[2..]), Ok(vec![4 * 65_536, 4 * 65_536 + 1]));
    assert_eq!(numbers(&state, &[]), Ok(vec![]));
}

#[test]
fn a_missing_entry_is_an_error_wherever_it_is_missing() {
    let log = entries(7, 5);
    let hole = [&log[..2], &log[3..]].concat();
    assert!(numbers(&State::default(), &hole).unwrap_err().contains("missing"));
    let state = State { consumed: Some(position(7, &log[0])), ..State::default() };
    assert!(numbers(&state, &log[2..]).unwrap_err().contains("missing"));
    let read = State { seen: vec![position(7, &log[0])], ..State::default() };
    assert!(numbers(&read, &log[1..]).unwrap_err().contains("gone"));
    assert!(numbers(&read, &[]).unwrap_err().contains("gone"));
}

#[test]
fn an_altered_entry_is_an_error_even_in_a_chain_made_anew() {
    let log = entries(7, 3);
    for byte in 2..32 {
        let mut bytes = log[1].bytes;
        bytes[byte] ^= 1;
        let changed = [log[0], Entry::parse(&bytes).unwrap(), log[2]];
        assert!(numbers(&State::default(), &changed).is_err(), "byte {byte}");
    }
    let anew = entries(6, 4).split_off(1);
    assert!(numbers(&State::default(), &anew).is_ok());
    for state in [
        State { consumed: Some(position(7, &log[0])), ..State::default() },
        State { seen: vec![position(7, &log[0])], ..State::default() },
    ] {
        assert!(numbers(&state, &anew).unwrap_err().contains("not what it was"));
    }
    let follows = State { consumed: Some(position(6, &log[0])), ..State::default() };
    assert!(numbers(&follows, &log).unwrap_err().contains("altered"));
}

#[test]
fn an_answer_must_hold_what_it_counts() {
    let entry = entries(1, 1)[0].bytes;
    let answer = [&[0, 1, 0, 2, 1], entry.as_slice()].concat();
    assert_eq!(Log::parse(&answer).unwrap().unlogged, (1, 2));
    assert!(Log::parse(&answer[..36]).is_none());
    let other_count = [&[0, 0, 0, 0, 2], entry.as_slice()].concat();
    assert!(Log::parse(&other_count).is_none());
}

#[test]
fn a_position_is_of_its_own_number() {
    let evidence = hex::encode(entries(5, 1)[0].bytes);
    assert!(LogPosition::from_evidence(65_536 + 5, &evidence).is_some());
    assert_eq!(LogPosition::from_evidence(6, &evidence), None);
    assert_eq!(LogPosition::from_evidence(5, "00"), None);
}
