#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};

use super::approval::ApproverKey;
use super::*;
use crate::entry::encode_base64;
use crate::hash::Hash;
use crate::names::Origin;
use crate::public_key::PublicKey;

const HOUR: i64 = 3_600_000;
const NOW: i64 = 1_790_000_000_000;

fn ts(ms: i64) -> Timestamp {
    Timestamp::from_unix_ms(ms).unwrap()
}

fn origin() -> Origin {
    "log.example/test".parse().unwrap()
}

fn roster(required: u32, names: &[&str]) -> Event {
    let approvers = names.iter().map(|name| Approver { name: (*name).to_owned(), public_key: None });
    Event::Configured(Configured {
        approvals_required: required,
        approval_hours: 24 * 14,
        emergency_hours: 48,
        approvers: approvers.collect(),
    })
}

fn resume() -> Act {
    Act::Resume { scope: Scope::Global }
}

fn requested(id: &str, by: &str, act: Act) -> Requested {
    let act_sha256 = act.sha256().to_hex();
    let (expires_ts, reason) = (ts(NOW + HOUR), "drill".to_owned());
    Requested {
        id: id.into(),
        act,
        act_sha256,
        by: by.into(),
        reason,
        required: 3,
        expires_ts,
        emergency: false,
    }
}

fn given(id: &str, by: &str, act: &Act) -> Given {
    let act_sha256 = act.sha256().to_hex();
    Given { id: id.into(), act_sha256, by: by.into(), signature: None, note: None }
}

fn executed(id: &str, act: &Act, approvals: &[u64]) -> Event {
    Event::Executed(Executed {
        id: id.into(),
        act_sha256: act.sha256().to_hex(),
        approvals: approvals.to_vec(),
    })
}

fn switch(state: HaltState, approval: Option<&str>) -> Event {
    Event::KillSwitch(KillSwitchChanged {
        scope: Scope::Global,
        state,
        source: "admin".into(),
        by: Some("eve".into()),
        reason: None,
        approval: approval.map(str::to_owned),
    })
}

/// A fold that counts indices.
struct Roll(State, u64, i64);

impl Roll {
    fn new(required: u32, names: &[&str]) -> Self {
        let mut roll = Self(State::new(origin()), 0, NOW);
        roll.push(&roster(required, names)).unwrap();
        roll
    }

    fn push(&mut self, event: &Event) -> Result<u64, Fault> {
        let (before, index) = (format!("{:?}", self.0), self.1);
        let result = self.0.apply(event, index, ts(self.2));
        if result.is_err() {
            assert_eq!(format!("{:?}", self.0), before, "a fault changes nothing");
        }
        self.1 += 1;
        result.map(|()| index)
    }

    fn approve(&mut self, id: &str, by: &str, act: &Act) -> Result<u64, Fault> {
        self.push(&Event::Given(given(id, by, act)))
    }
}

const FIVE: [&str; 5] = ["ann", "bob", "cyd", "dan", "eve"];

#[test]
fn three_of_five_others_and_each_cheat_is_refused() {
    let mut roll = Roll::new(3, &FIVE);
    roll.push(&switch(HaltState::Halted, None)).unwrap();
    let act = resume();
    assert_eq!(
        roll.push(&switch(HaltState::Running, None)),
        Err(Fault::Unapproved("resuming global".into()))
    );
    roll.push(&Event::Requested(requested("r1", "eve", resume()))).unwrap();
    let first = roll.approve("r1", "ann", &act).unwrap();
    assert_eq!(roll.approve("r1", "ann", &act), Err(Fault::SpokenAlready("ann".into())));
    assert_eq!(roll.approve("r1", "eve", &act), Err(Fault::SelfApproval("eve".into())));
    assert_eq!(roll.approve("r1", "mallory", &act), Err(Fault::NotAnApprover("mallory".into())));
    assert_eq!(roll.approve("r2", "bob", &act), Err(Fault::NotOpen("r2".into())));
    let other = Act::Resume { scope: "key:orders".parse().unwrap() };
    assert_eq!(roll.approve("r1", "bob", &other), Err(Fault::OtherAct("r1".into())));
    let second = roll.approve("r1", "bob", &act).unwrap();
    let early = roll.push(&executed("r1", &act, &[first, second])).unwrap_err();
    assert!(matches!(early, Fault::NoQuorum { have: 2, required: 3, .. }));
    let third = roll.approve("r1", "cyd", &act).unwrap();
    assert_eq!(roll.push(&executed("r1", &act, &[first, second])), Err(Fault::OtherApprovals("r1".into())));
    roll.push(&executed("r1", &act, &[first, second, third])).unwrap();
    // Once executed it is closed, and allows its act once.
    assert_eq!(roll.approve("r1", "dan", &act), Err(Fault::NotOpen("r1".into())));
    assert!(roll.push(&executed("r1", &act, &[first, second, third])).is_err());
    roll.push(&switch(HaltState::Running, Some("r1"))).unwrap();
    roll.push(&switch(HaltState::Halted, None)).unwrap();
    assert!(matches!(roll.push(&switch(HaltState::Running, Some("r1"))), Err(Fault::Unapproved(_))));
}

#[test]
fn an_approver_removed_meanwhile_does_not_count() {
    let mut roll = Roll::new(3, &FIVE);
    let act = resume();
    roll.push(&Event::Requested(requested("r1", "eve", resume()))).unwrap();
    let given: Vec<u64> = ["ann", "bob", "cyd"].map(|by| roll.approve("r1", by, &act).unwrap()).into();
    roll.push(&roster(3, &["ann", "bob", "dan", "eve"])).unwrap();
    assert!(matches!(roll.push(&executed("r1", &act, &given)), Err(Fault::NoQuorum { have: 2, .. })));
    // A roster that asks for less does not lower what was asked for before.
    roll.push(&roster(1, &["ann", "bob", "dan", "eve"])).unwrap();
    assert!(matches!(roll.push(&executed("r1", &act, &given[..2])), Err(Fault::NoQuorum { .. })));
    let last = roll.approve("r1", "dan", &act).unwrap();
    roll.push(&executed("r1", &act, &[given[0], given[1], last])).unwrap();
}

#[test]
fn time_runs_out_and_not_before() {
    let mut roll = Roll::new(2, &FIVE);
    let act = resume();
    let late = Requested { expires_ts: ts(NOW + 15 * 24 * HOUR), ..requested("r0", "eve", resume()) };
    assert_eq!(roll.push(&Event::Requested(late)), Err(Fault::TooLong("r0".into())));
    let urgent =
        Requested { emergency: true, expires_ts: ts(NOW + 49 * HOUR), ..requested("r0", "eve", resume()) };
    assert_eq!(roll.push(&Event::Requested(urgent)), Err(Fault::TooLong("r0".into())));
    roll.push(&Event::Requested(requested("r1", "eve", resume()))).unwrap();
    let closed = Event::Expired(Closed { id: "r1".into() });
    assert_eq!(roll.push(&closed), Err(Fault::NotExpired("r1".into())));
    let all: Vec<u64> = ["ann", "bob", "cyd"].map(|by| roll.approve("r1", by, &act).unwrap()).into();
    roll.2 = NOW + HOUR;
    assert_eq!(roll.approve("r1", "dan", &act), Err(Fault::Expired("r1".into())));
    assert_eq!(roll.push(&executed("r1", &act, &all)), Err(Fault::Expired("r1".into())));
    roll.push(&closed).unwrap();
    assert_eq!(roll.approve("r1", "dan", &act), Err(Fault::NotOpen("r1".into())));
}

#[test]
fn a_request_cannot_ask_for_less_than_the_roster_nor_lie_about_its_act() {
    let mut roll = Roll::new(3, &FIVE);
    let ask = |required, by: &str| Event::Requested(Requested { required, ..requested("r1", by, resume()) });
    assert!(matches!(roll.push(&ask(2, "eve")), Err(Fault::Required { .. })));
    assert!(matches!(roll.push(&ask(5, "eve")), Err(Fault::Required { .. })));
    let lie = Requested { act_sha256: Hash([0; 32]).to_hex(), ..requested("r1", "eve", resume()) };
    assert_eq!(roll.push(&Event::Requested(lie)), Err(Fault::OtherAct("r1".into())));
    roll.push(&ask(4, "eve")).unwrap();
    assert!(matches!(roll.push(&ask(4, "eve")), Err(Fault::Duplicate(_))));
    assert!(matches!(Roll::new(1, &["ann"]).push(&roster(2, &["ann"])), Err(Fault::BadRoster(_))));
    assert!(matches!(Roll::new(1, &["ann"]).push(&roster(1, &["ann", "ann"])), Err(Fault::BadRoster(_))));
}

#[test]
fn enough_refusals_end_a_request() {
    let mut roll = Roll::new(3, &FIVE);
    let act = resume();
    roll.push(&Event::Requested(requested("r1", "eve", resume()))).unwrap();
    roll.push(&Event::Refused(given("r1", "ann", &act))).unwrap();
    assert_eq!(roll.approve("r1", "ann", &act), Err(Fault::SpokenAlready("ann".into())));
    roll.push(&Event::Refused(given("r1", "bob", &act))).unwrap();
    assert_eq!(roll.0.proposals["r1"].status, ProposalStatus::Refused);
    assert_eq!(roll.approve("r1", "cyd", &act), Err(Fault::NotOpen("r1".into())));
}

#[test]
fn an_approver_with_a_key_must_use_it() {
    let key = |seed: u8| Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    let (own, foreign) = (key(1), key(2));
    let raw: [u8; 32] = own.public_key().as_ref().try_into().unwrap();
    let pem = PublicKey::from_ed25519_raw(&raw).unwrap().to_pem();
    let public_key = Some(ApproverKey { algorithm: SignatureAlgorithm::Ed25519, pem });
    let mut roll = Roll::new(1, &["bob"]);
    let approvers =
        vec![Approver { name: "ann".into(), public_key }, Approver { name: "bob".into(), public_key: None }];
    let roster = Configured { approvals_required: 1, approval_hours: 1, emergency_hours: 1, approvers };
    roll.push(&Event::Configured(roster)).unwrap();
    let act = resume();
    let request = Requested { required: 1, ..requested("r1", "eve", resume()) };
    roll.push(&Event::Requested(request)).unwrap();
    let plain = given("r1", "ann", &act);
    let signed = |key: &Ed25519KeyPair, text: &str| {
        let signature = key.sign(&Hash::of(&[text.as_bytes()]).0);
        Event::Given(Given { signature: Some(encode_base64(signature.as_ref())), ..plain.clone() })
    };
    let text = statement(&origin(), "r1", &plain.act_sha256, Verdict::Approve);
    let refusal = statement(&origin(), "r1", &plain.act_sha256, Verdict::Refuse);
    let elsewhere =
        statement(&"other.example/log".parse().unwrap(), "r1", &plain.act_sha256, Verdict::Approve);
    let fault = |roll: &mut Roll, event| match roll.push(&event) {
        Err(Fault::Approval(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(fault(&mut roll, Event::Given(plain.clone())), ApprovalError::Unsigned);
    assert_eq!(fault(&mut roll, signed(&foreign, &text)), ApprovalError::BadSignature);
    assert_eq!(fault(&mut roll, signed(&own, &refusal)), ApprovalError::BadSignature);
    assert_eq!(fault(&mut roll, signed(&own, &elsewhere)), ApprovalError::BadSignature);
    let keyless = Given { by: "bob".into(), signature: Some("AA==".into()), ..plain.clone() };
    assert_eq!(fault(&mut roll, Event::Given(keyless)), ApprovalError::NoKey);
    roll.push(&signed(&own, &text)).unwrap();
}

fn rotation(id: &str, approval: Option<&str>) -> RotationRequested {
    RotationRequested {
        id: id.into(),
        kid: "orders".parse().unwrap(),
        from: "orders-v1".parse().unwrap(),
        to: "orders-v2".parse().unwrap(),
        algorithm: SignatureAlgorithm::Ed25519,
        public_key_pem: None,
        backend: "hsm".into(),
        label: "orders-v2".into(),
        overlap_hours: 168,
        by: "eve".into(),
        reason: "yearly".into(),
        approval: approval.map(str::to_owned),
    }
}

#[test]
fn a_rotation_goes_step_by_step_once_and_only_as_approved() {
    let mut roll = Roll::new(1, &["ann", "bob"]);
    let asked = rotation("k1", Some("r1"));
    let act = Act::Rotate {
        kid: asked.kid.clone(),
        from: asked.from.clone(),
        to: asked.to.clone(),
        backend: asked.backend.clone(),
        label: asked.label.clone(),
        overlap_hours: asked.overlap_hours,
    };
    assert!(matches!(roll.push(&Event::RotationRequested(rotation("k1", None))), Err(Fault::Unapproved(_))));
    let request = Requested { required: 1, ..requested("r1", "eve", act.clone()) };
    roll.push(&Event::Requested(request)).unwrap();
    let approval = roll.approve("r1", "ann", &act).unwrap();
    roll.push(&executed("r1", &act, &[approval])).unwrap();
    let other = RotationRequested { to: "orders-v3".parse().unwrap(), ..asked.clone() };
    assert!(matches!(roll.push(&Event::RotationRequested(other)), Err(Fault::Unapproved(_))));
    let tested = Event::Tested(Tested {
        rotation: "k1".into(),
        signer_kid: "orders-v2".parse().unwrap(),
        digest: String::new(),
        signature: None,
    });
    let applied = Event::RotationApplied(RotationApplied {
        rotation: "k1".into(),
        kid: "orders".parse().unwrap(),
        from: "orders-v1".parse().unwrap(),
        to: "orders-v2".parse().unwrap(),
        hand_over: None,
        retire_ts: ts(NOW),
    });
    assert!(matches!(roll.push(&tested), Err(Fault::Rotation { .. })));
    roll.push(&Event::RotationRequested(asked)).unwrap();
    assert!(matches!(roll.push(&applied), Err(Fault::Rotation { .. })));
    roll.push(&tested).unwrap();
    assert!(matches!(roll.push(&tested), Err(Fault::Rotation { .. })));
    roll.push(&applied).unwrap();
    assert!(matches!(roll.push(&applied), Err(Fault::Rotation { .. })));
    assert_eq!(roll.0.rotations["k1"].indices.len(), 3);
}

/// A key's note verifier and its signature over a text.
fn note_signature(seed: u8, text: &str) -> (crate::note::NoteVerifier, [u8; 64]) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    let key = pair.public_key().as_ref().try_into().unwrap();
    let verifier = crate::note::NoteVerifier::new("log.example/test", &key).unwrap();
    (verifier, pair.sign(text.as_bytes()).as_ref().try_into().unwrap())
}

#[test]
fn a_ledgers_key_continues_by_the_word_of_both_keys_and_no_other() {
    let verifier = |seed| note_signature(seed, "").0;
    let raw = verifier(2).public_key();
    let asked = RotationRequested {
        public_key_pem: Some(PublicKey::from_ed25519_raw(&raw).unwrap().to_pem()),
        ..rotation("k1", None)
    };
    let mut state = State::new(origin());
    state.apply(&Event::RotationRequested(asked.clone()), 0, ts(NOW)).unwrap();
    let continued = |text: &str, seeds: &[u8]| {
        let signed: Vec<_> = seeds.iter().map(|seed| note_signature(*seed, text)).collect();
        let signed: Vec<_> = signed.iter().map(|(key, signature)| (key, signature)).collect();
        let note = crate::note::assemble_all(text, &signed).unwrap();
        Event::Continued(Continued { rotation: "k1".into(), note })
    };
    let text = continuity_text(&origin(), &asked, &verifier(1), &verifier(2));
    let fits = continued(&text, &[1, 2]);
    assert!(state.apply(&fits, 1, ts(NOW)).is_err(), "before the new key was tried");
    let signer_kid = asked.to.clone();
    let tested = Tested { rotation: "k1".into(), signer_kid, digest: String::new(), signature: None };
    state.apply(&Event::Tested(tested), 1, ts(NOW)).unwrap();
    let other = continuity_text(&"log.example/other".parse().unwrap(), &asked, &verifier(1), &verifier(2));
    let strange = continuity_text(&origin(), &asked, &verifier(1), &verifier(3));
    let bad = [continued(&text, &[1]), continued(&text, &[2]), continued(&text, &[1, 3])];
    for event in bad.iter().chain([&continued(&other, &[1, 2]), &continued(&strange, &[1, 3])]) {
        assert!(matches!(state.apply(event, 2, ts(NOW)), Err(Fault::Rotation { .. })), "{event:?}");
    }
    assert_eq!(state.rotations["k1"].continued, None);
    state.apply(&fits, 2, ts(NOW)).unwrap();
    assert_eq!(state.rotations["k1"].continued, Some((verifier(1).vkey(), verifier(2).vkey())));
}

#[test]
fn a_compromised_pair_stays_halted_whatever_is_approved() {
    let mut state = State::new(origin());
    let scope: Scope = "key:orders-v1".parse().unwrap();
    let change = |state| {
        Event::KillSwitch(KillSwitchChanged {
            scope: scope.clone(),
            state,
            source: "compromise".into(),
            by: None,
            reason: None,
            approval: None,
        })
    };
    state.apply(&change(HaltState::Halted), 1, ts(NOW)).unwrap();
    let compromised = Event::Compromised(Compromised {
        kid: "orders".parse().unwrap(),
        signer_kid: "orders-v1".parse().unwrap(),
        since_index: 5,
        since_ts: None,
        suspect_signatures: 0,
        by: "eve".into(),
        reason: "lost".into(),
    });
    state.apply(&compromised, 2, ts(NOW)).unwrap();
    assert!(matches!(state.apply(&change(HaltState::Running), 3, ts(NOW)), Err(Fault::Compromised(_))));
}

#[test]
fn events_survive_the_way_through_a_leaf() {
    for event in [
        roster(2, &FIVE),
        Event::Requested(requested("r1", "eve", resume())),
        Event::Given(given("r1", "ann", &resume())),
        executed("r1", &resume(), &[1, 2]),
        switch(HaltState::Halted, None),
        Event::RotationRequested(rotation("k1", Some("r1"))),
    ] {
        let draft = event.draft();
        assert!(Event::TYPES.contains(&draft.event_type.as_str()));
        let read = Event::read(draft.event_type.as_str(), draft.payload.as_str()).unwrap().unwrap();
        assert_eq!(read, event);
    }
    assert!(Event::read("order.created", "{}").is_none());
    assert!(Event::read("governance.approved", "{\"more\":1}").unwrap().is_err());
    for scope in ["global", "key:orders", "principal:spiffe://a.example/b", "stream:audit/eu"] {
        assert_eq!(scope.parse::<Scope>().unwrap().to_string(), scope);
    }
    for nothing in ["", "all", "key:", "keys:orders", "key:UPPER CASE"] {
        assert!(nothing.parse::<Scope>().is_err(), "{nothing}");
    }
}
