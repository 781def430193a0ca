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

/// One entry as the vendor prints it.
type Written = (u16, u8, u16, [u16; 3], u8, u32, &'static str);

/// Six consecutive entries a real device wrote, from the vendor's description of GET LOG ENTRIES: number,
/// command, length, session key, target, second key, result, tick, digest.
const VENDORS_EXAMPLE: [Written; 6] = [
    (46, 0x4b, 234, [0x0001, 0xcf94, 0x997e], 0xcb, 335_725, "415f51f1f035a1b713e730e4464e4033"),
    (47, 0x4c, 77, [0x0001, 0xaff7, 0xffff], 0xcc, 351_714, "5496a60d478c2b9c801d8d32ca66b554"),
    (48, 0x00, 0, [0xffff, 0x0000, 0x0000], 0x00, 0, "14ac7747ba9bbb243cfc70befeb5349b"),
    (49, 0x03, 10, [0xffff, 0x0001, 0xffff], 0x83, 139, "b20a8f25c025e693a8e869b433294a20"),
    (50, 0x04, 17, [0xffff, 0x0001, 0xffff], 0x84, 139, "ebfae425c319ac7a0afbb8b92597de7c"),
    (51, 0x67, 2, [0x0001, 0xffff, 0xffff], 0xe7, 697, "2e395d1b706668737e1d2215813db47e"),
];

#[test]
fn the_log_of_a_real_device_chains() {
    let entry = |(item, command, length, keys, result, tick, digest): Written| {
        let mut bytes = item.to_be_bytes().to_vec();
        bytes.push(command);
        bytes.extend(length.to_be_bytes());
        bytes.extend(keys.map(u16::to_be_bytes).concat());
        bytes.push(result);
        bytes.extend(tick.to_be_bytes());
        bytes.extend(hex::decode(digest).unwrap());
        Entry::parse(&bytes.try_into().unwrap()).unwrap()
    };
    let log: Vec<Entry> = VENDORS_EXAMPLE.into_iter().map(entry).collect();
    assert_eq!(numbers(&State::default(), &log), Ok((46..52).collect()));
}
