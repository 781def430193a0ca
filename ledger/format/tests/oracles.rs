//! Trees, proofs and notes, held against implementations that are not ours: Cloudflare's `tlog_tiles` and
//! `signed_note`, and the Go team's `golang.org/x/mod/sumdb/{note,tlog}` through the program in `oracle/`.
//! (`ct-merkle` is asked in `src/merkle/tests.rs`.)
//!
//! Every size and index to 300, and seeded ones to 2^40 over a tree that is computed as it is asked for.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed unwrap or index is the test's failure"
)]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use base64::Engine as _;
use chancery_format::cosignature::{CosignedAt, CosignerKey};
use chancery_format::merkle::{
    Frontier, NodeSource, ProofError, consistency_proof, inclusion_proof, leaf_hash, node_hash,
    verify_consistency, verify_inclusion,
};
use chancery_format::note::{Note, NoteVerifier, assemble};
use chancery_format::{Checkpoint, Hash, LeafIndex, PublicKey, TreeHead, TreeSize};
use ed25519_dalek::{Signer as _, SigningKey};
use signed_note::{Note as TheirNote, StandardVerifier, VerifierList};
use tlog_tiles::{HashReader, check_record, check_tree, prove_record, prove_tree, tree_hash};

const SMALL: u64 = 300;
const ORIGIN: &str = "ledger.example/sign-log/1";
const TEXT: &str = "ledger.example/sign-log/1\n3\nsgbG5Jjy2NPw+6xDsP5UZIjKceiOnsIxHH2iJbNfFYo=\n";

/// A tree of any size up to 2^63: all its leaves are alike but those named, which are of their index.
struct Sparse {
    named: BTreeSet<u64>,
    /// Node of each level above leaves that are alike.
    alike: Vec<Hash>,
    /// Nodes above those named, once asked for.
    known: RefCell<HashMap<(u8, u64), Hash>>,
}

impl Sparse {
    fn new(named: impl IntoIterator<Item = u64>) -> Self {
        let mut alike = vec![leaf_hash(b"alike")];
        for _ in 0..63 {
            let below = alike.last().unwrap();
            alike.push(node_hash(below, below));
        }
        Self { named: named.into_iter().collect(), alike, known: RefCell::default() }
    }

    fn complete(&self, level: u8, index: u64) -> Hash {
        let from = index << level;
        if self.named.range(from..from + (1 << level)).next().is_none() {
            return self.alike[usize::from(level)];
        }
        if let Some(known) = self.known.borrow().get(&(level, index)) {
            return *known;
        }
        let node = match level.checked_sub(1) {
            None => leaf_hash(&index.to_be_bytes()),
            Some(below) => node_hash(&self.complete(below, 2 * index), &self.complete(below, 2 * index + 1)),
        };
        self.known.borrow_mut().insert((level, index), node);
        node
    }

    fn head(&self, size: u64) -> TreeHead {
        let levels = (0..64u8).rev().filter(|level| size >> level & 1 == 1);
        let nodes = levels.map(|level| self.complete(level, (size >> level) - 1)).collect();
        Frontier::from_parts(TreeSize(size), nodes).unwrap().head()
    }
}

impl NodeSource for Sparse {
    type Error = ProofError;
    fn node(&self, level: u8, index: u64) -> Result<Hash, ProofError> {
        Ok(self.complete(level, index))
    }
}

/// The same tree for Cloudflare's code, which names nodes by where Go's stores them.
impl HashReader for Sparse {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog_tiles::Hash>, tlog_tiles::Error> {
        let node = |index: &u64| {
            let (level, position) = tlog_tiles::split_stored_hash_index(*index);
            tlog_tiles::Hash(self.complete(level, position).0)
        };
        Ok(indexes.iter().map(node).collect())
    }
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit
    }

    /// A tree of at most 2^40 leaves, an index and an older size; now and then at a power of two.
    fn tree(&mut self) -> (u64, u64, u64) {
        let bits = 1 + self.below(40);
        let size = match self.below(4) {
            0 => 1 << bits,
            1 => (1 << bits) - 1,
            _ => 1 + self.below(1 << bits),
        };
        let index = if self.below(3) == 0 { size - 1 } else { self.below(size) };
        let old = if self.below(3) == 0 { 1 << (63 - size.leading_zeros()) } else { 1 + self.below(size) };
        (size, index, old)
    }
}

fn theirs(hashes: &[Hash]) -> Vec<tlog_tiles::Hash> {
    hashes.iter().map(|hash| tlog_tiles::Hash(hash.0)).collect()
}

/// Makes every proof twice and lets each side check it.
fn agree_with_tlog_tiles(tree: &Sparse, size: u64, index: u64, old: u64) -> (Vec<Hash>, Vec<Hash>) {
    let head = tree.head(size);
    let root = tlog_tiles::Hash(head.root.0);
    assert_eq!(tree_hash(size, tree).unwrap(), root, "size {size}");
    let leaf = tree.complete(0, index);
    let inclusion = inclusion_proof(tree, LeafIndex(index), TreeSize(size)).unwrap();
    assert_eq!(prove_record(size, index, tree).unwrap(), theirs(&inclusion), "{index} of {size}");
    assert_eq!(verify_inclusion(&leaf, LeafIndex(index), &inclusion, &head), Ok(()));
    check_record(&theirs(&inclusion), size, root, index, tlog_tiles::Hash(leaf.0)).unwrap();
    let consistency = consistency_proof(tree, TreeSize(old), TreeSize(size)).unwrap();
    assert_eq!(prove_tree(size, old, tree).unwrap(), theirs(&consistency), "{old} to {size}");
    let older = tree.head(old);
    assert_eq!(verify_consistency(&older, &head, &consistency), Ok(()));
    check_tree(&theirs(&consistency), size, root, old, tlog_tiles::Hash(older.root.0)).unwrap();
    (inclusion, consistency)
}

#[test]
fn tlog_tiles_agrees_on_every_small_tree() {
    let tree = Sparse::new(0..SMALL);
    for size in 1..=SMALL {
        for index in 0..size {
            agree_with_tlog_tiles(&tree, size, index, index + 1);
        }
    }
}

#[test]
fn tlog_tiles_agrees_on_large_trees() {
    let mut dice = Dice(1);
    for _ in 0..500 {
        let (size, index, old) = dice.tree();
        let tree = Sparse::new([index, index ^ 1, size / 2, old, dice.below(size)]);
        agree_with_tlog_tiles(&tree, size, index, old);
    }
}

/// Where tlog_tiles accepts a proof in another place or for another leaf, so do we, and the reverse.
#[test]
fn tlog_tiles_refuses_what_we_refuse() {
    let mut dice = Dice(2);
    for _ in 0..500 {
        let (size, index, old) = dice.tree();
        let tree = Sparse::new([index, index ^ 1, old]);
        let (mut inclusion, mut consistency) = agree_with_tlog_tiles(&tree, size, index, old);
        let (leaf, head, older) = (tree.complete(0, index), tree.head(size), tree.head(old));
        let root = tlog_tiles::Hash(head.root.0);
        for (moved, resized) in [(index ^ 1, size), (index, size + 1), (index / 2, size), (index, size / 2)] {
            let other = TreeHead { size: TreeSize(resized), ..head };
            let ours = verify_inclusion(&leaf, LeafIndex(moved), &inclusion, &other);
            let check = check_record(&theirs(&inclusion), resized, root, moved, tlog_tiles::Hash(leaf.0));
            assert_eq!(ours.is_ok(), check.is_ok(), "{index} of {size} as {moved} of {resized}");
        }
        for proof in [&mut inclusion, &mut consistency] {
            match dice.below(3) {
                0 => proof.push(head.root),
                1 => drop(proof.pop()),
                _ => proof.reverse(),
            }
        }
        let ours = verify_inclusion(&leaf, LeafIndex(index), &inclusion, &head);
        let check = check_record(&theirs(&inclusion), size, root, index, tlog_tiles::Hash(leaf.0));
        assert_eq!(ours.is_ok(), check.is_ok(), "changed proof of {index} of {size}");
        let ours = verify_consistency(&older, &head, &consistency);
        let old_root = tlog_tiles::Hash(older.root.0);
        let check = check_tree(&theirs(&consistency), size, root, old, old_root);
        assert_eq!(ours.is_ok(), check.is_ok(), "changed proof of {old} to {size}");
    }
}

fn key() -> (SigningKey, NoteVerifier) {
    let signer = SigningKey::from_bytes(&[0x42; 32]);
    let key = NoteVerifier::new(ORIGIN, signer.verifying_key().as_bytes()).unwrap();
    (signer, key)
}

/// A log's note with a witness' line and one by nobody.
fn cosigned_note() -> (String, NoteVerifier, CosignerKey) {
    let (signer, key) = key();
    let note = assemble(TEXT, &key, &signer.sign(TEXT.as_bytes()).to_bytes()).unwrap();
    let signer = SigningKey::from_bytes(&[0x43; 32]);
    let raw = PublicKey::from_ed25519_raw(signer.verifying_key().as_bytes()).unwrap();
    let witness = CosignerKey::new("witness.example/w1", raw).unwrap();
    let at = CosignedAt::new(1_679_315_147).unwrap();
    let message = witness.message(&Checkpoint::parse(TEXT).unwrap(), at);
    let line = witness.line(at, &signer.sign(&message).to_bytes()).unwrap();
    (format!("{note}{line}\u{2014} grease AAAAAAEC\n"), key, witness)
}

#[test]
fn signed_note_opens_our_notes() {
    let (note, key, _) = cosigned_note();
    let known = VerifierList::new(vec![Box::new(StandardVerifier::new(&key.vkey()).unwrap())]);
    let parsed = TheirNote::from_bytes(note.as_bytes()).unwrap();
    let (verified, others) = parsed.verify(&known).unwrap();
    assert_eq!((verified.len(), others.len()), (1, 2));
    assert_eq!(parsed.text(), TEXT.as_bytes());
    assert_eq!(parsed.to_bytes(), note.as_bytes());
    for at in 0..note.len() {
        let mut bytes = note.clone().into_bytes();
        bytes[at] ^= 1;
        let Ok(altered) = String::from_utf8(bytes) else { continue };
        let ours = Note::parse(&altered).is_ok_and(|note| note.verify(std::slice::from_ref(&key)).is_ok());
        let check = TheirNote::from_bytes(altered.as_bytes()).is_ok_and(|note| note.verify(&known).is_ok());
        // We refuse more: base64 with set bits after its last byte, and a second line of a known key.
        assert!(check || !ours, "byte {at}");
    }
}

/// The built program.
fn oracle() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let program = folder.join("go-oracle");
        let output = Command::new("go")
            .args(["build", "-o"])
            .arg(&program)
            .arg(".")
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle"))
            .env("GOCACHE", folder.join("go-build"))
            .env("GOMODCACHE", folder.join("go-modules"))
            // Modules are written so that deleting them is possible for whoever owns them.
            .env("GOFLAGS", "-mod=readonly -modcacherw -buildvcs=false")
            .env("GOTOOLCHAIN", "local")
            .env("GOWORK", "off")
            .env("CGO_ENABLED", "0")
            .output()
            .unwrap_or_else(|error| panic!("no go on the PATH: run .ci/install, or install Go ({error})"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        program
    })
}

/// What the program answers, or its complaint.
fn ask(arguments: &[&str], input: &str) -> Result<String, String> {
    let mut child = Command::new(oracle())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    drop(writer.join().unwrap());
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

#[test]
fn go_makes_the_same_roots_and_proofs_of_every_small_tree() {
    let tree = Sparse::new(0..SMALL);
    let answer = ask(&["small", &SMALL.to_string()], "").unwrap();
    let lines: BTreeMap<u64, &str> = (1..).zip(answer.lines()).collect();
    assert_eq!(lines.len() as u64, SMALL);
    for (size, line) in lines {
        let of = |proofs: &mut dyn Iterator<Item = Vec<Hash>>| {
            let hashes: Vec<u8> = proofs.flatten().flat_map(|hash| hash.0).collect();
            Hash::of(&[&hashes])
        };
        let inclusion =
            of(&mut (0..size).map(|at| inclusion_proof(&tree, LeafIndex(at), TreeSize(size)).unwrap()));
        let consistency =
            of(&mut (1..=size).map(|old| consistency_proof(&tree, TreeSize(old), TreeSize(size)).unwrap()));
        assert_eq!(line, format!("{} {inclusion} {consistency}", tree.head(size).root), "size {size}");
    }
}

#[test]
fn go_checks_proofs_of_large_trees() {
    let base64 = |hash: &Hash| base64::engine::general_purpose::STANDARD.encode(hash.0);
    let joined = |proof: &[Hash]| proof.iter().map(base64).collect::<Vec<_>>().join(",");
    let mut dice = Dice(3);
    let (mut questions, mut expected) = (String::new(), String::new());
    for _ in 0..500 {
        let (size, index, old) = dice.tree();
        let tree = Sparse::new([index, index ^ 1, old]);
        let (head, leaf) = (tree.head(size), tree.complete(0, index));
        let inclusion = joined(&inclusion_proof(&tree, LeafIndex(index), TreeSize(size)).unwrap());
        let consistency = joined(&consistency_proof(&tree, TreeSize(old), TreeSize(size)).unwrap());
        let (root, old_root) = (base64(&head.root), base64(&tree.head(old).root));
        questions += &format!("record {size} {root} {index} {} {inclusion}\n", base64(&leaf));
        questions += &format!("tree {size} {root} {old} {old_root} {consistency}\n");
        questions += &format!("record {size} {root} {index} {} {inclusion}\n", base64(&head.root));
        let wrong_leaf = if size == 1 { "ok" } else { "malformed or failed record inclusion proof" };
        expected += &format!("ok\nok\n{wrong_leaf}\n");
    }
    let answer = ask(&["check"], &questions).unwrap();
    for (question, (answer, expected)) in questions.lines().zip(answer.lines().zip(expected.lines())) {
        assert_eq!(answer == "ok", expected == "ok", "{question}: {answer}");
    }
    assert_eq!(answer.lines().count(), expected.lines().count());
}

#[test]
fn go_opens_our_notes_and_cosignatures_and_we_open_go_s() {
    let (note, key, witness) = cosigned_note();
    let (log, witness) = (key.vkey(), witness.vkey());
    assert_eq!(ask(&["open", &log], &note).unwrap(), "1 2\n");
    assert_eq!(ask(&["open", &log, &witness], &note).unwrap(), "2 1\n");
    assert_eq!(ask(&["open", &witness], &note).unwrap(), "1 2\n");
    let altered = note.replacen("\n3\n", "\n4\n", 1);
    assert!(ask(&["open", &witness], &altered).unwrap_err().contains("invalid signature"));
    let made = ask(&["sign", ORIGIN, &"42".repeat(32)], TEXT).unwrap();
    assert!(note.starts_with(&made));
    assert_eq!(Note::parse(&made).unwrap().verify(&[key]).unwrap().len(), 1);
}
