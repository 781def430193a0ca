//! Acts of people in ledgers that a dishonest operator wrote and signed: a quorum that was none, a resumption nobody
//! approved, a signature made while halted. And an honest one, and what it tells.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]
#![allow(dead_code, reason = "the support is shared with other tests")]

mod support;

use chancery_format::governance::{
    Act, Approver, Configured, Done, Event, Executed, Given, HaltState, KillSwitchChanged, Requested, Scope,
};
use chancery_format::{Hash, SignatureAlgorithm, Timestamp};
use chancery_verify::Kind;
use chancery_verify::ledger::Options;
use support::Writer;

const ID: &str = "r-1";

/// A ledger with a key, a roster of two out of three, and a halt of everything.
fn halted() -> Writer {
    let mut writer = Writer::open();
    writer.activate("orders", "orders-v1", SignatureAlgorithm::Ed25519);
    writer.publish();
    writer.sign("orders-v1", "orders", b"before");
    let approvers = ["ann", "bob", "cyd"].map(|name| Approver { name: name.to_owned(), public_key: None });
    writer.add(
        &Event::Configured(Configured {
            approvals_required: 2,
            approval_hours: 24,
            emergency_hours: 24,
            approvers: approvers.to_vec(),
        })
        .draft(),
    );
    writer.add(&switch(HaltState::Halted, None).draft());
    writer
}

fn switch(state: HaltState, approval: Option<&str>) -> Event {
    Event::KillSwitch(KillSwitchChanged {
        scope: Scope::Global,
        state,
        source: "admin".to_owned(),
        by: Some("eve".to_owned()),
        reason: None,
        approval: approval.map(str::to_owned),
    })
}

fn act() -> Act {
    Act::Resume { scope: Scope::Global }
}

fn ask(writer: &mut Writer) {
    ask_for(writer, ID, &act(), "eve");
}

fn ask_for(writer: &mut Writer, id: &str, act: &Act, by: &str) {
    let now = writer.tick();
    let expires_ts = Timestamp::from_unix_ms(now.unix_ms() + 3_600_000).unwrap();
    let requested = Requested {
        id: id.to_owned(),
        act: act.clone(),
        act_sha256: act.sha256().to_hex(),
        by: by.to_owned(),
        reason: "drill".to_owned(),
        required: 2,
        expires_ts,
        emergency: false,
    };
    writer.add(&Event::Requested(requested).draft());
}

fn approve(writer: &mut Writer, by: &str) -> u64 {
    voice(writer, ID, &act(), by)
}

fn voice(writer: &mut Writer, id: &str, act: &Act, by: &str) -> u64 {
    let act_sha256 = act.sha256().to_hex();
    let (id, by) = (id.to_owned(), by.to_owned());
    writer.add(&Event::Given(Given { id, act_sha256, by, signature: None, note: None }).draft())
}

fn execute(writer: &mut Writer, approvals: Vec<u64>) -> u64 {
    finish(writer, ID, &act(), approvals)
}

fn finish(writer: &mut Writer, id: &str, act: &Act, approvals: Vec<u64>) -> u64 {
    let act_sha256 = act.sha256().to_hex();
    writer.add(&Event::Executed(Executed { id: id.to_owned(), act_sha256, approvals }).draft())
}

#[track_caller]
fn expect(writer: &mut Writer, kind: Kind, index: u64) {
    writer.epoch();
    let report = writer.archive().verify_with(&Options::default());
    assert_eq!(report.exit_code(), 1, "{}", report.to_text());
    let found = report.findings().listed().iter().any(|it| it.kind == kind && it.index == Some(index));
    assert!(found, "no {kind} at {index} in\n{}", report.to_text());
}

#[test]
fn a_quorum_that_was_reached_is_valid_and_told() {
    let mut writer = halted();
    ask(&mut writer);
    let approvals = vec![approve(&mut writer, "ann"), approve(&mut writer, "bob")];
    execute(&mut writer, approvals);
    writer.add(&switch(HaltState::Running, Some(ID)).draft());
    writer.sign("orders-v1", "orders", b"after");
    writer.epoch();
    let at = Some(2);
    let report = writer.archive().verify_with(&Options { acts: true, at, ..Options::default() });
    assert_eq!(report.exit_code(), 0, "{}", report.to_text());
    let text = report.to_text();
    for said in
        ["2 of ann, bob, cyd must approve", "approved by ann, bob", "global halted, by eve", "global goes on"]
    {
        assert!(text.contains(said), "no {said:?} in\n{text}");
    }
    assert!(text.contains("valid at entry 2: orders-v1"), "{text}");
    let json = report.checked();
    assert_eq!(json["governance"]["requests"][0]["status"], "executed");
    assert_eq!(json["validAt"]["signer_kids"].as_array().unwrap().len(), 2);
}

#[test]
fn a_forged_quorum_is_found_where_it_stands() {
    // One voice of two.
    let mut writer = halted();
    ask(&mut writer);
    let one = approve(&mut writer, "ann");
    let at = execute(&mut writer, vec![one]);
    expect(&mut writer, Kind::QuorumInvalid, at);
    // The same person twice, who asked, and a stranger.
    for (first, second) in [("ann", "ann"), ("ann", "eve"), ("ann", "mallory")] {
        let mut writer = halted();
        ask(&mut writer);
        let one = approve(&mut writer, first);
        let two = approve(&mut writer, second);
        execute(&mut writer, vec![one, two]);
        expect(&mut writer, Kind::QuorumInvalid, two);
    }
    // Two voices that are others than those named.
    let mut writer = halted();
    ask(&mut writer);
    let one = approve(&mut writer, "ann");
    approve(&mut writer, "bob");
    let at = execute(&mut writer, vec![one, one + 9]);
    expect(&mut writer, Kind::QuorumInvalid, at);
}

#[test]
fn resuming_without_approval_and_signing_while_halted_are_found() {
    let mut writer = halted();
    let at = writer.add(&switch(HaltState::Running, None).draft());
    expect(&mut writer, Kind::QuorumInvalid, at);
    let mut writer = halted();
    let at = writer.sign("orders-v1", "orders", b"meanwhile");
    expect(&mut writer, Kind::SignedWhileHalted, at);
    // Resumed once, halted again: the old approval is used up.
    let mut writer = halted();
    ask(&mut writer);
    let approvals = vec![approve(&mut writer, "ann"), approve(&mut writer, "bob")];
    execute(&mut writer, approvals);
    writer.add(&switch(HaltState::Running, Some(ID)).draft());
    writer.add(&switch(HaltState::Halted, None).draft());
    let at = writer.add(&switch(HaltState::Running, Some(ID)).draft());
    expect(&mut writer, Kind::QuorumInvalid, at);
}

#[test]
fn a_signature_that_people_allowed_is_that_one_and_there_is_one() {
    let user = "spiffe://demo.example/service/orders";
    let sign = |message: &[u8]| Act::Sign {
        kid: "orders".parse().unwrap(),
        principal: user.parse().unwrap(),
        digest_algorithm: "sha256".to_owned(),
        digest: Hash::of(&[message]).to_hex(),
        request_sha256: String::new(),
        purpose: None,
        metadata: None,
        policy: "payments".to_owned(),
    };
    let allowed = || {
        let mut writer = halted();
        let act = Act::Resume { scope: Scope::Global };
        ask_for(&mut writer, ID, &act, "eve");
        let voices = ["ann", "bob"].map(|by| voice(&mut writer, ID, &act, by));
        finish(&mut writer, ID, &act, voices.to_vec());
        writer.add(&switch(HaltState::Running, Some(ID)).draft());
        let act = sign(b"payout");
        ask_for(&mut writer, "s-1", &act, user);
        let voices = ["ann", "bob"].map(|by| voice(&mut writer, "s-1", &act, by));
        finish(&mut writer, "s-1", &act, voices.to_vec());
        writer
    };
    let mut writer = allowed();
    let index = writer.sign_under("approval/s-1", "orders-v1", b"payout");
    writer.add(&Event::Done(Done { id: "s-1".to_owned(), index }).draft());
    writer.epoch();
    let report = writer.archive().verify_with(&Options::default());
    assert_eq!(report.exit_code(), 0, "{}", report.to_text());
    // Another digest, a request that does not exist, and the same one twice.
    let mut writer = allowed();
    let at = writer.sign_under("approval/s-1", "orders-v1", b"another payout");
    expect(&mut writer, Kind::QuorumInvalid, at);
    let mut writer = allowed();
    let at = writer.sign_under("approval/s-2", "orders-v1", b"payout");
    expect(&mut writer, Kind::QuorumInvalid, at);
    let mut writer = allowed();
    writer.sign_under("approval/s-1", "orders-v1", b"payout");
    let at = writer.sign_under("approval/s-1", "orders-v1", b"payout");
    expect(&mut writer, Kind::QuorumInvalid, at);
}

#[test]
fn an_act_in_another_stream_or_by_somebody_else_is_out_of_place() {
    let mut writer = halted();
    let mut draft = switch(HaltState::Halted, None).draft();
    draft.stream = "chancery".parse().unwrap();
    let at = writer.add(&draft);
    expect(&mut writer, Kind::ReservedEvent, at);
    let mut writer = halted();
    let mut draft = switch(HaltState::Running, None).draft();
    draft.actor = "spiffe://demo.example/service/orders".parse().unwrap();
    let at = writer.add(&draft);
    expect(&mut writer, Kind::ReservedEvent, at);
}
