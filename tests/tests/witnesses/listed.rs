//! A witness that takes its logs from a list, as the public witness network keeps them, and cosigns parts of their trees.

use aws_lc_rs::signature::Ed25519KeyPair;
use chancery_format::cosignature::cosignatures;
use chancery_format::log_list::LogList;
use chancery_format::merkle::{
    Frontier, NodeSource, ProofError, Subtree, consistency_proof, leaf_hash, subtree_proof,
};
use chancery_format::note::{Note, NoteVerifier, assemble};
use chancery_format::tile::perfect_root;
use chancery_format::witness::{AddCheckpoint, SignSubtree};
use chancery_format::{Checkpoint, Hash, TreeHead, TreeSize};
use chancery_tests::rig::binary;
use chancery_tests::rig::wire::call_at;
use chancery_tests::servers::NoteKey;
use rustix::process::Signal;

use super::*;

/// A log that somebody else runs: as many entries as it is asked for.
struct Log {
    origin: &'static str,
    seed: u8,
}

impl Log {
    fn vkey(&self) -> String {
        NoteKey::new(self.origin, [self.seed; 32]).vkey
    }

    fn leaves(&self, size: u64) -> Vec<Hash> {
        (0..size).map(|n| leaf_hash(format!("{} {n}", self.origin).as_bytes())).collect()
    }

    fn head(&self, size: u64) -> TreeHead {
        Frontier::new().extend(&self.leaves(size)).head()
    }

    fn checkpoint(&self, size: u64) -> String {
        let text = Checkpoint::new(self.origin.parse().unwrap(), self.head(size)).text();
        let pair = Ed25519KeyPair::from_seed_unchecked(&[self.seed; 32]).unwrap();
        let signature = pair.sign(text.as_bytes()).as_ref().try_into().unwrap();
        assemble(&text, &NoteVerifier::parse(&self.vkey()).unwrap(), &signature).unwrap()
    }

    fn add(&self, old: u64, size: u64) -> String {
        let proof = consistency_proof(&Leaves(self.leaves(size)), TreeSize(old), TreeSize(size)).unwrap();
        AddCheckpoint::new(TreeSize(old), proof, &self.checkpoint(size)).unwrap().to_body()
    }

    /// A request for a part of the tree of `size`, which these lines are below.
    fn part(&self, (start, end): (u64, u64), size: u64, lines: &str) -> (SignSubtree, Hash) {
        let all = self.leaves(size);
        let at = |index: u64| usize::try_from(index).unwrap();
        let root = Frontier::new().extend(&all[at(start)..at(end)]).head().root;
        let subtree = Subtree::new(start, end).unwrap();
        let proof = subtree_proof(&Leaves(all), subtree, TreeSize(size)).unwrap();
        let note = self.checkpoint(size) + lines;
        (SignSubtree::new(subtree, root, proof, &note).unwrap(), root)
    }
}

struct Leaves(Vec<Hash>);

impl NodeSource for Leaves {
    type Error = ProofError;
    fn node(&self, level: u8, index: u64) -> Result<Hash, ProofError> {
        let at = |index: u64| usize::try_from(index << level).unwrap();
        perfect_root(&self.0[at(index)..at(index + 1)]).ok_or(ProofError::OutOfRange)
    }
}

/// A party that cosigns the logs of `{dir}/logs.txt` with these keys.
fn witness(kids: &str) -> Party {
    let mut party = party("w.example/log", "witness.w.example");
    let policy = format!(
        "log {}\nwitness w {} https://localhost:1\nquorum none\n",
        party.vkey(),
        party.cosigners()[0]
    );
    std::fs::write(party.world.path("witnesses.policy"), policy).unwrap();
    std::fs::copy(party.world.path("ca.crt"), party.world.path("witnesses.crt")).unwrap();
    party.options.more += &format!(
        "[witness]\naddress = \"127.0.0.1:{}\"\nname = \"{}\"\nkids = [{kids}]\ndirectory = \"{{dir}}/witness\"\n\
         logs_file = \"{{dir}}/logs.txt\"\n",
        party.port, party.name,
    );
    party.world.write_config(&party.options);
    party
}

impl Party {
    fn list(&self, logs: &[(&Log, &str)]) {
        let blocks = logs.iter().map(|(log, more)| format!("\nvkey {}\n{more}\n", log.vkey()));
        let list = format!("# ours\nlogs/v0\n{}", blocks.collect::<String>());
        std::fs::write(self.world.path("logs.txt"), list).unwrap();
    }

    /// As whoever, without a certificate.
    fn post(&self, path: &str, body: &str) -> Reply {
        let ask = Ask { method: "POST", path, headers: Vec::new(), body: body.as_bytes().to_vec() };
        call_at(&self.world, self.port, None, &ask).unwrap()
    }

    fn add(&self, body: &str) -> Reply {
        self.post("/add-checkpoint", body)
    }

    fn cosigner(&self, at: usize) -> CosignerKey {
        CosignerKey::parse(&self.cosigners()[at]).unwrap()
    }
}

/// How long to wait before asking again, in seconds.
fn wait(reply: &Reply) -> u64 {
    reply.header("retry-after").unwrap().parse().unwrap()
}

#[test]
fn parts_of_a_tree_that_was_cosigned_are_cosigned_with_ml_dsa_alone() {
    let party = witness("\"cosign\", \"cosign-pq\"");
    let (log, other) = (Log { origin: "c.example/log", seed: 1 }, Log { origin: "d.example/log", seed: 2 });
    party.list(&[(&log, "origin none\nqpd 96\ncontact nobody")]);
    let daemon = Daemon::start(&party.world);
    let cosigned = party.add(&log.add(0, 14));
    assert_eq!((cosigned.status, cosigned.body.lines().count()), (200, 2), "{}", cosigned.body);
    let quantum = party.cosigner(1);

    for own_line in cosigned.body.split_inclusive('\n') {
        let (request, root) = log.part((8, 13), 14, own_line);
        let signed = party.post("/sign-subtree", &request.to_body());
        assert_eq!(
            (signed.status, signed.header("content-type")),
            (200, Some("text/plain; charset=utf-8")),
            "{}",
            signed.body
        );
        // The line is of the ML-DSA-44 key, over the range, without a time.
        let note = format!("any\n\n{}", signed.body);
        let note = Note::parse(&note).unwrap();
        let [line] = note.signatures.as_slice() else { panic!("{}", signed.body) };
        assert!(quantum.is_named_by(line), "{}", signed.body);
        let (time, signature) = line.signature.split_at(8);
        assert_eq!(time, [0; 8]);
        let message = quantum.subtree_message(request.origin(), 8, 13, &root).unwrap();
        assert!(quantum.public_key().verify_message(&message, signature));
        let again = party.post("/sign-subtree", &request.to_body());
        assert_eq!(again.body, signed.body, "the same costs no key again");
        // It is no cosignature of the checkpoint.
        let note = format!("{}{}", log.checkpoint(14), signed.body);
        let checkpoint = Checkpoint::new(log.origin.parse().unwrap(), log.head(14));
        cosignatures(&Note::parse(&note).unwrap(), &checkpoint, std::slice::from_ref(&quantum)).unwrap_err();
    }

    let own = cosigned.body.as_str();
    let body = |range, lines: &str| log.part(range, 14, lines).0.to_body();
    let whole = party.post("/sign-subtree", &body((0, 14), own));
    assert_eq!(whole.status, 200, "{}", whole.body);
    for (status, request) in [
        (403, body((4, 8), "")),
        (403, body((4, 8), &own.replace("witness.w.example", "witness.v.example"))),
        (403, log.part((4, 8), 13, own).0.to_body()),
        (404, other.part((4, 8), 14, own).0.to_body()),
        (400, body((4, 8), own).replace("subtree 4 8", "subtree 4 9")),
        (400, body((4, 8), own).replace("subtree 4 8", "subtree 8 16")),
        (400, "subtree".to_owned()),
        (422, body((4, 8), own).replace("subtree 4 8", "subtree 8 12")),
        (422, body((0, 4), own).replace("subtree 0 4", "subtree 4 8")),
    ] {
        let refused = party.post("/sign-subtree", &request);
        assert_eq!(refused.status, status, "{}{request}", refused.body);
    }
    // A list that says 96 a day leaves four at once.
    let more = [(1, 2), (2, 3), (3, 4)].map(|range| party.post("/sign-subtree", &body(range, own)));
    assert_eq!(more.each_ref().map(|reply| reply.status), [200, 200, 429]);
    assert!((800..=900).contains(&wait(&more[2])), "{:?}", more[2]);
    assert_eq!(party.post("/sign-subtree", &body((8, 13), own)).status, 200, "what is known costs nothing");

    assert!(daemon.stop().success());
    // Every use of the key was on the ledger before its line left.
    let leaves = leaves(&party.world.path("archive"), &party.world.registry());
    let leaves = leaves.iter().map(|leaf| serde_json::from_slice::<Value>(leaf).unwrap());
    let uses: Vec<Value> = leaves
        .filter(|leaf| leaf["stream"] == party.name && !leaf["payload"]["metadata"]["end"].is_null())
        .collect();
    assert_eq!(uses.len(), 4, "8..13 once, the whole, two more");
    let root = log.part((8, 13), 14, own).1.to_hex();
    let about = json!({ "end": 13, "origin": log.origin, "root": root, "start": 8 });
    let first = &uses[0];
    assert_eq!(
        (&first["payload"]["metadata"], &first["eventType"]),
        (&about, &json!("signing.signature.issued"))
    );
    assert_eq!(first["payload"]["kid"], "cosign-pq");
    let archive = party.world.path("archive");
    assert_eq!(party.world.verify(&["ledger", archive.to_str().unwrap()]).status.code(), Some(0));
}

#[test]
fn a_witness_with_ed25519_alone_says_that_it_cosigns_no_subtrees() {
    let party = witness("\"cosign\"");
    let log = Log { origin: "c.example/log", seed: 1 };
    party.list(&[(&log, "")]);
    let daemon = Daemon::start(&party.world);
    let cosigned = party.add(&log.add(0, 14));
    assert_eq!((cosigned.status, cosigned.body.lines().count()), (200, 1), "{}", cosigned.body);
    let refused = party.post("/sign-subtree", &log.part((8, 13), 14, &cosigned.body).0.to_body());
    assert_eq!(refused.status, 404);
    assert!(refused.body.contains("no ML-DSA-44 key"), "{}", refused.body);
    assert!(daemon.stop().success());
}

#[test]
fn a_list_of_logs_is_read_again_and_bounds_how_often_they_ask() {
    let party = witness("\"cosign\"");
    let (log, later) = (Log { origin: "c.example/log", seed: 1 }, Log { origin: "d.example/log", seed: 2 });
    // Without its list it does not start.
    let mut refused = Daemon::spawn(&party.world);
    assert_eq!(refused.wait().code(), Some(2), "{}", refused.log_tail());
    party.list(&[(&log, "qpd 24")]);
    let daemon = Daemon::start(&party.world);
    assert_eq!(party.add(&later.add(0, 1)).status, 404);

    let answers: Vec<Reply> = (0..5).map(|size| party.add(&log.add(size, size + 1))).collect();
    let statuses: Vec<u16> = answers.iter().map(|reply| reply.status).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 429], "{:?}", answers[4]);
    assert!((3_500..=3_600).contains(&wait(&answers[4])), "{:?}", answers[4]);
    assert_eq!(party.add(&log.add(4, 4)).body, answers[3].body, "the same again costs nothing");
    let stale = party.add(&log.add(3, 5));
    assert_eq!((stale.status, stale.body.as_str()), (409, "4\n"), "{stale:?}");

    let reloads = |result: &str| {
        let (_, metrics) = daemon.ops("/metrics").unwrap();
        let line = format!("chancery_reloads_total{{result=\"{result}\",what=\"witness_logs\"}} ");
        metrics.lines().find_map(|found| found.strip_prefix(&line)?.parse::<u64>().ok()).unwrap_or(0)
    };
    party.list(&[(&log, "qpd 24"), (&later, "qpd 24")]);
    daemon.signal(Signal::HUP);
    wait_for("the later log", || (party.add(&later.add(0, 1)).status == 200).then_some(()));
    assert_eq!(party.add(&log.add(4, 5)).status, 429, "what was used stays used");
    let errors = reloads("error");
    std::fs::write(party.world.path("logs.txt"), "logs/v9\n").unwrap();
    daemon.signal(Signal::HUP);
    wait_for("the bad list", || (reloads("error") > errors).then_some(()));
    assert_eq!(party.add(&later.add(1, 2)).status, 200, "the old list stays in force");
    // Who is not on the list is not cosigned, and not forgotten.
    let loaded = reloads("ok");
    party.list(&[(&log, "qpd 24")]);
    daemon.signal(Signal::HUP);
    wait_for("the shorter list", || (reloads("ok") > loaded).then_some(()));
    assert_eq!(party.add(&later.add(2, 3)).status, 404);
    let loaded = reloads("ok");
    party.list(&[(&log, "qpd 24"), (&later, "qpd 24")]);
    daemon.signal(Signal::HUP);
    wait_for("the longer list", || (reloads("ok") > loaded).then_some(()));
    assert_eq!(party.add(&later.add(0, 1)).body, "2\n");
    assert!(daemon.stop().success());

    let daemon = Daemon::start(&party.world);
    assert_eq!(party.add(&log.add(0, 1)).body, "4\n");
    assert!(daemon.stop().success());
}

/// What one ledger says of itself is what the other's list has.
#[test]
fn our_own_entry_of_a_list_lets_another_party_witness_us() {
    let entry = |party: &Party, more: &[&str]| {
        let mut chancery = Command::new(binary("chancery"));
        chancery.args(["witness", "entry", "--signers"]).arg(party.world.path("signers.json")).args(more);
        chancery.env_clear().output().unwrap()
    };
    let (mut a, mut b) =
        (party("a.example/log", "witness.a.example"), party("b.example/log", "witness.b.example"));
    a.meet(&b);
    b.meet(&a);
    let told = entry(&a, &["--contact", "ops@a.example", "--qpd", "86400"]);
    let list = String::from_utf8(told.stdout).unwrap();
    let expected =
        format!("logs/v0\n\nvkey {}\norigin a.example/log\nqpd 86400\ncontact ops@a.example\n", a.vkey());
    assert_eq!((told.status.code(), list.as_str()), (Some(0), expected.as_str()));
    assert_eq!(LogList::parse(list.as_bytes()).unwrap().logs[0].requests_per_day, Some(86_400));
    let told: Value = serde_json::from_slice(&entry(&a, &["--contact", "x", "--json"]).stdout).unwrap();
    assert_eq!((&told["requestsPerDay"], &told["origin"]), (&json!(8_640), &json!("a.example/log")));
    for bad in [["--contact", "two\nlines"], ["--contact", ""], ["--qpd", "9"]] {
        assert_eq!(entry(&a, &bad).status.code(), Some(2), "{bad:?}");
    }

    std::fs::write(b.world.path("logs.txt"), list).unwrap();
    b.options.more =
        b.options.more.replace(&format!("logs = [\"{}\"]", a.vkey()), "logs_file = \"{dir}/logs.txt\"");
    b.world.write_config(&b.options);
    let effective = b.world.chanceryd(&["check", "--config"]);
    let effective = String::from_utf8(effective.stdout).unwrap();
    assert!(effective.contains("logs_file = ") && effective.contains("logs.txt"), "{effective}");
    let (one, two) = (Daemon::start(&a.world), Daemon::start(&b.world));
    let reply = a.sign("seen", 7);
    assert_eq!((reply.status, reply.json()["rung"].as_str()), (200, Some("witnessed")), "{}", reply.body);
    assert!(one.stop().success() && two.stop().success());
}
