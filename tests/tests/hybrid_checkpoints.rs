//! Checkpoints that the ledger signed by Ed25519 and by ML-DSA-44, in the archive of a real daemon, before readers that
//! share no code: ours, the reference verifier on OpenSSL, with and without ML-DSA, and the Go program on Go's own. All
//! accept what they should, refuse a false line and the lack of one that is due, and say so where they could not look.
//! Beside the daemon's own signatures there are some that are made here, by AWS-LC.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

use std::path::{Path, PathBuf};
use std::process::Command;

use aws_lc_rs::signature::{KeyPair as _, ML_DSA_44_SIGNING, PqdsaKeyPair};
use chancery_format::cosignature::{CosignedAt, CosignerKey};
use chancery_format::note::Note;
use chancery_format::{Checkpoint, PublicKey, RegistryShape};
use chancery_tests::rig::wire::{Ask, call};
use chancery_tests::rig::{Daemon, World, WorldOptions, binary, wait_for};
use chancery_tests::servers::{go_reference, python_with_cryptography};
use serde_json::Value;

const REFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/reference");
/// The reference verifier where its package has no ML-DSA: the archive, `--signers`, the registry.
const BLIND: &str = "import sys; sys.path.insert(0, sys.argv.pop(1)); import json, verify; \
                     verify.MLDSA44PublicKey = None; \
                     sys.exit(verify.Verifier(sys.argv[1], json.load(open(sys.argv[3]))).run())";
/// Bytes of a line before its signature: key id and time.
const TIME_ENDS: usize = 12;

/// A key of type 0x06 under any name.
struct Cosigner {
    pair: PqdsaKeyPair,
    key: CosignerKey,
}

impl Cosigner {
    fn new(name: &str) -> Self {
        let pair = PqdsaKeyPair::generate(&ML_DSA_44_SIGNING).unwrap();
        let raw = pair.public_key().as_ref().try_into().unwrap();
        let key = CosignerKey::new(name, PublicKey::from_ml_dsa_44_raw(&raw).unwrap()).unwrap();
        Self { pair, key }
    }

    /// What stands in a line over these words: key id, time, signature.
    fn material(&self, text: &str, seconds: u64) -> Vec<u8> {
        let checkpoint = Checkpoint::parse(text).unwrap();
        let mut message = self.key.message(&checkpoint, CosignedAt::new(1).unwrap());
        // Times that the format refuses can be signed, too.
        let at = 12 + 1 + self.key.name().len();
        message.splice(at..at + 8, seconds.to_be_bytes());
        let mut signature = vec![0; ML_DSA_44_SIGNING.signature_len()];
        self.pair.sign(&message, &mut signature).unwrap();
        [&self.key.key_id(), seconds.to_be_bytes().as_slice(), &signature].concat()
    }

    fn line(&self, text: &str) -> String {
        line(self.key.name(), &self.material(text, 1_800_000_000))
    }
}

fn line(name: &str, material: &[u8]) -> String {
    use base64::Engine as _;
    format!("\u{2014} {name} {}\n", base64::engine::general_purpose::STANDARD.encode(material))
}

/// Writes over a file although it is read-only.
fn put(path: &Path, text: &str) {
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, text).unwrap();
}

/// An archive, a registry that has our ML-DSA-44 key for the ledger's, and each checkpoint by Ed25519 alone.
struct Bench {
    world: World,
    signers: PathBuf,
    ledger: Cosigner,
    checkpoints: Vec<(PathBuf, String)>,
}

impl Bench {
    fn new() -> Self {
        let world = World::new(&WorldOptions::default());
        let daemon = Daemon::start(&world);
        for epoch in ["archive/checkpoint/000000000000", "archive/checkpoint/000000000001"] {
            let body =
                serde_json::json!({ "kid": "ed", "digest": "5a".repeat(32), "digestAlgorithm": "sha256" });
            let reply = call(&world, Some(&world.orders), &Ask::post("/v1/sign", body.to_string())).unwrap();
            assert_eq!(reply.status, 200, "{}", reply.body);
            wait_for(epoch, || world.path(epoch).exists().then_some(()));
        }
        assert!(daemon.stop().success());

        let registry = world.registry();
        let ledger = Cosigner::new(registry.ledger.origin.as_str());
        let keys = registry.ledger_keys().unwrap().ed25519().to_vec();
        let mut json: Value = serde_json::to_value(&registry).unwrap();
        let vkeys = keys.iter().map(|key| key.vkey()).chain([ledger.key.vkey()]);
        // With a policy of other keys it would be none.
        json.pointer_mut("/ledger").and_then(Value::as_object_mut).unwrap().remove("policy");
        *json.pointer_mut("/ledger/vkeys").unwrap() = vkeys.collect();
        let signers = world.path("hybrid.json");
        std::fs::write(&signers, json.to_string()).unwrap();

        let files = std::fs::read_dir(world.path("archive/checkpoint")).unwrap();
        let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
        files.sort();
        let bare = files.into_iter().map(|file| {
            let note = std::fs::read_to_string(&file).unwrap();
            let note = Note::parse(&note).unwrap();
            let ours = note.with_lines(|line| keys.iter().any(|key| key.key_id() == line.key_id));
            (file, ours)
        });
        let checkpoints = bare.collect();
        Self { world, signers, ledger, checkpoints }
    }

    /// Gives the last checkpoint these lines, and all others both of theirs.
    fn write(&self, lines: &str) {
        let ((last, note), others) = self.checkpoints.split_last().unwrap();
        for (file, note) in others {
            put(file, &(note.clone() + &self.ledger.line(text_of(note))));
        }
        put(last, &format!("{}\n{lines}", text_of(note)));
    }

    /// Exit code and output of each reader, with our registry.
    fn read(&self) -> [(&'static str, i32, String); 4] {
        self.read_with(&self.signers)
    }

    fn read_with(&self, signers: &Path) -> [(&'static str, i32, String); 4] {
        read(&self.world.path("archive"), signers)
    }

    /// With these lines below the last checkpoint all that can look say this; gives what each printed.
    #[track_caller]
    fn expect(&self, what: &str, lines: &str, code: i32, blind: i32) -> [String; 4] {
        self.write(lines);
        self.read().map(|(reader, told, said)| {
            let expected = if reader == "blind" { blind } else { code };
            assert_eq!(told, expected, "{what}, {reader}: {said}");
            said
        })
    }
}

/// Exit code and output of each reader.
fn read(archive: &Path, signers: &Path) -> [(&'static str, i32, String); 4] {
    let python = || Command::new(python_with_cryptography().unwrap());
    let mut ours = Command::new(binary("chancery-verify"));
    ours.arg("ledger");
    let mut reference = python();
    reference.arg(Path::new(REFERENCE).join("verify.py"));
    let mut blind = python();
    blind.args(["-B", "-c", BLIND, REFERENCE]);
    let go = Command::new(go_reference().unwrap());
    let readers = [("ours", ours), ("reference", reference), ("blind", blind), ("go", go)];
    readers.map(|(name, mut reader)| {
        let output = reader.arg(archive).arg("--signers").arg(signers).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (name, output.status.code().unwrap(), String::from_utf8(said).unwrap())
    })
}

/// A note's words, up to its empty line.
fn text_of(note: &str) -> &str {
    note.split_inclusive("\n\n").next().unwrap().strip_suffix('\n').unwrap()
}

#[test]
fn every_reader_holds_the_second_signature_against_the_checkpoint() {
    let bench = Bench::new();
    let (ledger, origin) = (&bench.ledger, bench.ledger.key.name());
    let (_, note) = bench.checkpoints.last().unwrap();
    let (text, all) = (text_of(note), bench.checkpoints.len());
    let ed25519 = note.strip_prefix(&format!("{text}\n")).unwrap();
    let good = ledger.line(text);

    let count = |[_, reference, blind, go]: [String; 4], seen: usize| {
        assert!(
            reference.contains(&format!(" {seen} signatures of ML-DSA-44 on them verified, 0 not checked")),
            "{reference}"
        );
        assert!(
            blind.contains(&format!(" 0 signatures of ML-DSA-44 on them verified, {seen} not checked")),
            "{blind}"
        );
        assert!(go.contains(&format!(" {seen} of them signed by ML-DSA-44 too")), "{go}");
    };
    count(bench.expect("both lines", &format!("{ed25519}{good}"), 0, 0), all);
    count(bench.expect("in the other order", &format!("{good}{ed25519}"), 0, 0), all);
    count(bench.expect("by Ed25519 alone", ed25519, 0, 0), all - 1);

    // What only the algorithm tells.
    let material = ledger.material(text, 1_800_000_000);
    let with = |at: usize, bit: u8| {
        let mut other = material.clone();
        *other.get_mut(at).unwrap() ^= bit;
        line(origin, &other)
    };
    let (_, before) = bench.checkpoints.first().unwrap();
    for (what, second) in [
        ("another signature", with(material.len() - 1, 1)),
        ("another beginning", with(TIME_ENDS, 0x80)),
        ("another time", with(TIME_ENDS - 1, 1)),
        ("an older checkpoint's", ledger.line(text_of(before))),
        ("by a key that says it is this one", {
            let mut other = Cosigner::new(origin).material(text, 1_800_000_000);
            other.splice(..4, ledger.key.key_id());
            line(origin, &other)
        }),
    ] {
        bench.expect(what, &format!("{ed25519}{second}"), 1, 0);
        bench.expect(&format!("{what}, first"), &format!("{second}{ed25519}"), 1, 0);
    }

    // What its shape tells, and who signed.
    let cut = line(origin, material.get(..material.len() - 1).unwrap());
    let first = Note::parse(note).unwrap().signatures.remove(0);
    let mut false_one = [first.key_id.as_slice(), &first.signature].concat();
    *false_one.last_mut().unwrap() ^= 1;
    for (what, lines) in [
        ("by ML-DSA-44 alone", good.clone()),
        ("twice", format!("{ed25519}{good}{good}")),
        ("twice by Ed25519", format!("{ed25519}{ed25519}{good}")),
        ("cut short", format!("{ed25519}{cut}")),
        ("longer", format!("{ed25519}{}", line(origin, &[material.as_slice(), &[0]].concat()))),
        ("beyond all times", format!("{ed25519}{}", line(origin, &ledger.material(text, 1 << 63)))),
        ("a stranger's of the ledger's name", format!("{ed25519}{good}{}", Cosigner::new(origin).line(text))),
        (
            "a witness's that nobody names",
            format!("{ed25519}{good}{}", Cosigner::new("witness.example/w").line(text)),
        ),
        ("false by Ed25519", format!("{}{good}", line(origin, &false_one))),
    ] {
        bench.expect(what, &lines, 1, 1);
    }

    // The registry's own note is by Ed25519 alone: a key of type 0x06 signs checkpoints.
    bench.write(&format!("{ed25519}{good}"));
    let file = bench.world.path("archive/registry/00000001.json.sig");
    let kept = std::fs::read_to_string(&file).unwrap();
    put(&file, &(kept.clone() + &good));
    for (reader, told, said) in bench.read().iter().filter(|(reader, ..)| *reader != "go") {
        assert_eq!(*told, 1, "a registry's note by ML-DSA-44, {reader}: {said}");
    }
    put(&file, &kept);
    count(bench.expect("both lines, again", &format!("{ed25519}{good}"), 0, 0), all);
}

/// The daemon's own two signatures, by its own registry: from the key's first entry on there is none without the second.
#[test]
fn a_second_signature_that_is_due_is_missed_by_every_reader() {
    let bench = Bench::new();
    let signers = bench.world.path("signers.json");
    assert_eq!(bench.world.registry().ledger_keys().unwrap().ml_dsa().len(), 1);
    for (reader, told, said) in bench.read_with(&signers) {
        assert_eq!(told, 0, "the daemon's, {reader}: {said}");
    }
    for (file, note) in &bench.checkpoints {
        let whole = std::fs::read_to_string(file).unwrap();
        assert_ne!(&whole, note);
        put(file, note);
        for (reader, told, said) in bench.read_with(&signers) {
            assert!(told == 1 && said.contains("lacks the"), "{}, {reader}: {said}", file.display());
        }
        // Nor does a line by a key that signs for no signer take its place.
        put(file, &(note.clone() + &bench.ledger.line(text_of(note))));
        for (reader, told, said) in bench.read_with(&signers) {
            assert_eq!(told, 1, "{}, {reader}: {said}", file.display());
        }
        put(file, &whole);
    }
    for (reader, told, said) in bench.read_with(&signers) {
        assert_eq!(told, 0, "restored, {reader}: {said}");
    }
}

/// Ledgers that none of ours wrote: the second signature is due from the entry that activates its key to the one that
/// retires it, to the very entry, for every reader.
#[test]
fn every_reader_counts_the_same_entries_as_due() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Command::new(python_with_cryptography().unwrap());
    writer.arg(Path::new(REFERENCE).join("../writers/second_key.py")).arg(REFERENCE).arg(folder.path());
    let output = writer.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (mut valid, mut bad) = (0, 0);
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let archive = entry.unwrap().path();
        let name = archive.file_name().unwrap().to_string_lossy().into_owned();
        let code = match name.split_once('-').map(|(verdict, _)| verdict) {
            Some("valid") => 0,
            Some("bad") => 1,
            _ => continue,
        };
        *if code == 0 { &mut valid } else { &mut bad } += 1;
        for (reader, told, said) in read(&archive, &folder.path().join("signers.json")) {
            assert_eq!(told, code, "{name}, {reader}: {said}");
        }
    }
    assert_eq!((valid, bad), (4, 4));
}

/// A registry that has no key for it makes a stranger of the signature, to all of them.
#[test]
fn a_second_signature_by_a_key_that_is_not_in_the_registry_is_nobodys() {
    let bench = Bench::new();
    let bare = bench.world.registry();
    let keys: Vec<String> = bare.ledger_keys().unwrap().ed25519().iter().map(|key| key.vkey()).collect();
    let mut json = serde_json::to_value(&bare).unwrap();
    json.pointer_mut("/ledger").and_then(Value::as_object_mut).unwrap().remove("policy");
    *json.pointer_mut("/ledger/vkeys").unwrap() = keys.into();
    std::fs::write(&bench.signers, json.to_string()).unwrap();
    for (file, note) in &bench.checkpoints {
        put(file, note);
    }
    let first = bench.checkpoints.first().unwrap();
    for (reader, told, said) in bench.read() {
        assert_eq!(told, 0, "by Ed25519 alone, {reader}: {said}");
    }
    put(&first.0, &(first.1.clone() + &bench.ledger.line(text_of(&first.1))));
    for (reader, told, said) in bench.read() {
        assert_eq!(told, 1, "a stranger's, {reader}: {said}");
    }
}

/// Those who read keys in other shapes than ours get the same, and who can take one kind alone says so of the other.
#[test]
fn other_readers_never_meet_the_second_key_unawares() {
    let bench = Bench::new();
    let export = |signers: &Path, shape: RegistryShape| {
        let mut chancery = Command::new(binary("chancery"));
        chancery.args(["signers", "export", "--format", shape.as_str(), "--signers"]).arg(signers);
        let output = chancery.env_clear().output().unwrap();
        assert!(output.status.success(), "{shape}: {output:?}");
        output.stdout
    };
    use RegistryShape::{KernelKeys, Pem, PemMap, RawIds, SecurityStatus, SignerIds, Signers, SpkiMap};
    for shape in [Signers, SignerIds, RawIds, PemMap, SpkiMap, KernelKeys, SecurityStatus, Pem] {
        let (bare, hybrid) =
            (export(&bench.world.path("signers.json"), shape), export(&bench.signers, shape));
        assert!(!bare.is_empty() && bare == hybrid, "{shape}");
    }
    let mut cose = Command::new("node");
    cose.arg(Path::new(REFERENCE).join("../readers/cose.mjs"))
        .arg(bench.ledger.key.vkey())
        .arg(&bench.signers);
    let output = cose.output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("the vkey is not of Ed25519"), "{output:?}");
}

#[test]
fn the_reference_verifier_executes_the_vectors_of_the_format() {
    let mut python = Command::new(python_with_cryptography().unwrap());
    python.arg(Path::new(REFERENCE).join("vectors.py"));
    let output = python.arg(Path::new(REFERENCE).join("../../ledger/format/FORMAT.md")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "2 leaf, 1 tree, 1 note, 1 ml-dsa\n");
}
