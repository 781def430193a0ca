//! Writes the archive of a year of signing: keys that are rotated, callers with a rhythm, halts, approvals, refusals.
//! For looking at reports and for measuring; the keys are made from their names and protect nothing.
//!
//! `cargo run --release -p chancery-verify --example year -- FOLDER [ENTRIES]` writes `FOLDER/archive` and
//! `FOLDER/signers.json`.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a tool of developers: what fails is told")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use chancery_format::entry::{self, IntentParts, KeyUse, Operation, PolicyRef, Rung, SignatureBytes};
use chancery_format::governance::{
    Act, Approver, Configured, Event, Executed, Given, HaltState, KillSwitchChanged, Requested,
    RotationApplied, RotationRequested, Scope, Tested, Testing,
};
use chancery_format::merkle::{Frontier, leaf_hash};
use chancery_format::{Digest, Hash, Intent, Outcome, SignatureAlgorithm, Timestamp};
use support::Writer;
use support::keys::TestKey;

const YEAR_MS: i64 = 365 * 86_400_000;
/// Name, algorithm, share of signatures in thousandths, and how often it is rotated in the year.
const KEYS: [(&str, SignatureAlgorithm, u64, u64); 7] = [
    ("orders", SignatureAlgorithm::Ed25519, 520, 3),
    ("payments", SignatureAlgorithm::Ed25519, 210, 2),
    ("manifests", SignatureAlgorithm::Ed25519, 140, 1),
    ("releases", SignatureAlgorithm::Ed25519, 60, 0),
    ("tokens", SignatureAlgorithm::HmacSha256, 50, 0),
    ("invoices", SignatureAlgorithm::EcdsaP256Sha256, 18, 1),
    ("legacy", SignatureAlgorithm::RsaPssSha256, 2, 0),
];
const PURPOSES: [&str; 5] = ["invoice", "audit-event", "release", "webhook", "settlement"];

struct Year {
    writer: Writer,
    folder: PathBuf,
    frontier: Frontier,
    hashed: usize,
    pairs: HashMap<&'static str, (TestKey, u64)>,
    seed: u64,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().expect("a folder to write to"));
    let entries = arguments.next().map_or(1_000_000, |text| text.parse().expect("a number of entries"));
    let mut year = Year::begin(folder.join("archive"));
    year.write(entries);
    year.ship();
    std::fs::write(folder.join("signers.json"), year.writer.registry_json()).unwrap();
}

impl Year {
    fn begin(folder: PathBuf) -> Self {
        let mut writer = Writer::unopened();
        writer.clock_ms = 1_763_683_200_000; // 2025-11-21
        writer.add(&entry::ledger_opened(&support::origin()));
        writer.activate_key(writer.ledger_key.clone());
        let mut pairs = HashMap::new();
        for (kid, algorithm, _, _) in KEYS {
            let key = TestKey::new(kid, &format!("{kid}-v1"), algorithm);
            writer.activate_key(key.clone());
            pairs.insert(kid, (key, 1));
        }
        writer.publish();
        let approver = |name: &str| Approver { name: name.to_owned(), public_key: None };
        let roster = Configured {
            approvals_required: 2,
            approval_hours: 24,
            emergency_hours: 24,
            approvers: ["ann", "bob", "cyd"].map(approver).to_vec(),
        };
        writer.add(&Event::Configured(roster).draft());
        let frontier = Frontier::new();
        Self { writer, folder, frontier, hashed: 0, pairs, seed: 11 }
    }

    /// Any number below `limit`, the same in every run.
    fn any(&mut self, limit: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % limit
    }

    fn write(&mut self, entries: u64) {
        let begin_ms = self.writer.clock_ms;
        let rotations: Vec<_> = KEYS
            .iter()
            .flat_map(|(kid, _, _, times)| (1..=*times).map(move |n| (entries * n / (times + 1), *kid)))
            .collect();
        let mut rotations: Vec<_> =
            rotations.into_iter().enumerate().map(|(n, (at, kid))| (at + 900 * n as u64, kid)).collect();
        rotations.sort_unstable();
        let mut next_rotation = rotations.into_iter().peekable();
        let mut halts = vec![entries / 6, entries * 5 / 9, entries * 4 / 5];
        let mut shipped = 0;
        while self.writer.next_index() < entries {
            let at = self.writer.next_index();
            self.move_clock(begin_ms, at, entries);
            if next_rotation.next_if(|(when, _)| *when <= at).map(|(_, kid)| self.rotate(kid)).is_some() {
                continue;
            }
            if halts.first().is_some_and(|when| *when <= at) {
                halts.remove(0);
                self.halt(halts.len());
            }
            self.one();
            if at - shipped >= 8_192 {
                self.ship();
                shipped = at;
            }
        }
    }

    /// Entries come by day more than by night, hardly on weekends, more and more over the year.
    fn move_clock(&mut self, begin_ms: i64, at: u64, entries: u64) {
        let share = at as f64 / entries as f64;
        let target = begin_ms + (YEAR_MS as f64 * (share * 0.35 + 0.65 * share.sqrt())) as i64;
        let day = target / 86_400_000;
        // Day 0 was a Thursday.
        let to_monday = match (day + 4) % 7 {
            6 => 2,
            0 => 1,
            _ => 0,
        };
        let target = if at.is_multiple_of(9) { target } else { target + to_monday * 86_400_000 };
        self.writer.clock_ms = self.writer.clock_ms.max(target);
    }

    fn one(&mut self) {
        match self.any(10_000) {
            0..2_200 => {
                let stream = format!("orders/{}", self.any(12));
                self.writer.event(&stream);
            }
            2_200..2_204 => {
                self.refuse();
            }
            2_204..2_206 => self.fail(),
            2_206..2_230 => {
                self.writer.anchor("orders");
            }
            _ => self.sign(),
        }
    }

    fn intent(&mut self, kid: &str, message: &[u8]) -> Intent {
        let key = self.pairs[kid].0.clone();
        let caller = self.any(9) * self.any(9) / 6;
        let purpose = PURPOSES[usize::try_from(self.any(5)).unwrap()];
        let is_mac = key.algorithm.is_mac();
        Intent::new(IntentParts {
            co_signer: None,
            kid: key.kid.clone(),
            signer_kid: key.signer_kid.clone(),
            algorithm: key.algorithm,
            asked: None,
            operation: if is_mac { Operation::Mac } else { Operation::Sign },
            digest: Digest::Sha256(Hash::of(&[message]).0),
            principal: format!("spiffe://prod.example/service/{kid}-{caller}").parse().unwrap(),
            request_id: format!("r-{}", self.writer.next_index()).parse().unwrap(),
            stream: format!("{kid}/{caller}").parse().unwrap(),
            purpose: Some(purpose.parse().unwrap()),
            metadata: None,
            policy: PolicyRef { rule: format!("grant/{kid}"), sha256: Hash([1; 32]) },
            release: Rung::Durable,
            replay: None,
        })
    }

    fn any_kid(&mut self) -> &'static str {
        let mut rest = self.any(1_000);
        for (kid, _, share, _) in KEYS {
            match rest.checked_sub(share) {
                Some(less) => rest = less,
                None => return kid,
            }
        }
        KEYS[0].0
    }

    fn sign(&mut self) {
        let kid = self.any_kid();
        let message = self.writer.next_index().to_be_bytes();
        let signature = SignatureBytes::new(self.pairs[kid].0.sign_message(&message));
        let intent = self.intent(kid, &message);
        self.writer.add(&Outcome::signed(intent, signature, None).draft());
    }

    fn fail(&mut self) {
        let kid = self.any_kid();
        let intent = self.intent(kid, b"failed");
        let code = "backend-unavailable".parse().unwrap();
        self.writer.add(&Outcome::failed(intent, code, KeyUse::Unknown).draft());
    }

    fn refuse(&mut self) {
        let now = self.writer.tick();
        let principal = format!("spiffe://prod.example/service/stranger-{}", self.any(4)).parse().unwrap();
        let code = ["kid-not-granted", "halted", "rate-limited"][usize::try_from(self.any(3)).unwrap()];
        let count = 1 + self.any(90);
        self.writer.add(&entry::request_refused(code, Some(&principal), count, now, now));
    }

    fn approved(&mut self, id: &str, act: &Act, reason: &str) {
        let now = self.writer.tick().unix_ms();
        let sha256 = act.sha256().to_hex();
        let requested = Requested {
            id: id.to_owned(),
            act: act.clone(),
            act_sha256: sha256.clone(),
            by: "eve".to_owned(),
            reason: reason.to_owned(),
            required: 2,
            expires_ts: Timestamp::from_unix_ms(now + 3_600_000).unwrap(),
            emergency: false,
        };
        self.writer.add(&Event::Requested(requested).draft());
        let approvals = ["ann", "bob"].map(|by| {
            self.writer.clock_ms += 240_000;
            let (id, by, act_sha256) = (id.to_owned(), by.to_owned(), sha256.clone());
            self.writer.add(&Event::Given(Given { id, act_sha256, by, signature: None, note: None }).draft())
        });
        let (id, approvals) = (id.to_owned(), approvals.to_vec());
        self.writer.add(&Event::Executed(Executed { id, act_sha256: sha256, approvals }).draft());
    }

    fn halt(&mut self, left: usize) {
        let scope = [Scope::Global, Scope::Key("payments".parse().unwrap()), Scope::Global][left].clone();
        let switch = |state, by: &str, reason: &str, approval: Option<String>| {
            Event::KillSwitch(KillSwitchChanged {
                scope: scope.clone(),
                state,
                source: "admin".to_owned(),
                by: Some(by.to_owned()),
                reason: Some(reason.to_owned()),
                approval,
            })
            .draft()
        };
        self.writer.add(&switch(HaltState::Halted, "cyd", "alarm of the fraud team", None));
        self.writer.clock_ms += [9, 41, 3][left] * 3_600_000;
        let id = format!("resume-{left}");
        self.approved(&id, &Act::Resume { scope: scope.clone() }, "cause found and removed");
        self.writer.add(&switch(HaltState::Running, "eve", "cause found and removed", Some(id)));
    }

    fn rotate(&mut self, kid: &'static str) {
        let (old, version) = self.pairs[kid].clone();
        let new = TestKey::new(kid, &format!("{kid}-v{}", version + 1), old.algorithm);
        let id = format!("rotate-{kid}-{}", version + 1);
        let (backend, label) = ("hsm-1".to_owned(), new.signer_kid.as_str().to_owned());
        let (from, to) = (old.signer_kid.clone(), new.signer_kid.clone());
        let act = Act::Rotate {
            kid: new.kid.clone(),
            from: from.clone(),
            to: to.clone(),
            backend: backend.clone(),
            label: label.clone(),
            overlap_hours: 48,
        };
        self.approved(&id, &act, "yearly plan");
        let requested = RotationRequested {
            id: id.clone(),
            kid: new.kid.clone(),
            from: from.clone(),
            to: to.clone(),
            algorithm: new.algorithm,
            public_key_pem: new.public_key_pem(),
            backend,
            label,
            overlap_hours: 48,
            by: "eve".to_owned(),
            reason: "yearly plan".to_owned(),
            approval: Some(id.clone()),
        };
        self.writer.add(&Event::RotationRequested(requested).draft());
        let testing = Testing { rotation: id.clone(), signer_kid: to.clone(), algorithm: new.algorithm };
        self.writer.add(&Event::Testing(testing).draft());
        let text = format!("chancery-key-test/v1\n{}\n{id}\n{to}\n", support::ORIGIN);
        let signature = chancery_format::governance::test_text(&support::origin(), &id, &to);
        assert_eq!(text, signature);
        let tested = Tested {
            rotation: id.clone(),
            signer_kid: to.clone(),
            digest: Hash::of(&[text.as_bytes()]).to_hex(),
            signature: Some(base64(&new.sign_message(text.as_bytes()))),
        };
        self.writer.add(&Event::Tested(tested).draft());
        self.writer.activate_key(new.clone());
        let retire_ts = Timestamp::from_unix_ms(self.writer.clock_ms + 172_800_000).unwrap();
        let applied =
            RotationApplied { rotation: id, kid: new.kid.clone(), from, to, hand_over: None, retire_ts };
        self.writer.add(&Event::RotationApplied(applied).draft());
        self.writer.retire(old.signer_kid.as_str());
        self.writer.publish();
        self.pairs.insert(kid, (new, version + 1));
    }

    /// Closes an epoch and keeps nothing in memory that is on disk.
    fn ship(&mut self) {
        for leaf in &self.writer.leaves[self.hashed..] {
            self.frontier.push(leaf_hash(leaf));
        }
        self.hashed = self.writer.leaves.len();
        self.writer.epoch_under(self.frontier.head());
        for (name, bytes) in std::mem::take(&mut self.writer.files) {
            write(&self.folder.join(name), &bytes);
        }
        for leaf in &mut self.writer.leaves[..self.hashed / 256 * 256] {
            *leaf = Vec::new();
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}
