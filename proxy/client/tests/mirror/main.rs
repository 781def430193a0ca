//! `chancery mirror` and `chancery ledger` beside logs that are honest, broken, slow, or lie.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed step is a failed test")]

#[path = "../server/mod.rs"]
mod server;

mod log;
mod single;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use chancery_format::merkle::verify_consistency;
use chancery_format::{Hash, TreeHead, TreeSize};
use log::{
    Act, Files, LogServer, ORIGIN, damaged, differing, entries, log, log_with, other_vkey, read, vkey, write,
};
use serde_json::Value;
use tempfile::TempDir;

fn chancery(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chancery"));
    command.arg("mirror").args(arguments).env_clear().stdin(Stdio::null());
    command
}

struct World {
    server: LogServer,
    folder: TempDir,
}

impl World {
    fn new(files: Files) -> Self {
        Self { server: LogServer::start(files), folder: tempfile::tempdir().unwrap() }
    }

    fn copy(&self) -> PathBuf {
        self.folder.path().join("copy")
    }

    fn command(&self, more: &[&str]) -> Command {
        let (url, vkey, copy) = (self.server.url(), vkey(), self.copy());
        let mut arguments = vec!["follow", &url, "--vkey", &vkey, "--to", copy.to_str().unwrap(), "--json"];
        arguments.extend(more);
        chancery(&arguments)
    }

    fn follow(&self) -> Output {
        self.command(&["--once"]).output().unwrap()
    }

    /// Follows once, which must end so; what was printed.
    fn expect(&self, exit: i32) -> Value {
        let output = self.follow();
        assert_eq!(output.status.code(), Some(exit), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn message(&self, exit: i32) -> String {
        self.expect(exit)["error"]["message"].as_str().unwrap().to_owned()
    }

    fn evidence(&self) -> Vec<Value> {
        let found = std::fs::read_dir(self.copy().join("evidence")).into_iter().flatten();
        found
            .map(|entry| serde_json::from_slice(&std::fs::read(entry.unwrap().path()).unwrap()).unwrap())
            .collect()
    }
}

fn check(copy: &Path) -> (i32, Value) {
    let output = chancery(&["check", copy.to_str().unwrap(), "--vkey", &vkey(), "--json"]).output().unwrap();
    let json = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    (output.status.code().unwrap(), json)
}

#[test]
fn a_log_is_copied_byte_for_byte_as_it_grows() {
    let all = entries(1, 66_000);
    let world = World::new(log(&all[..0]));
    let mut earlier = Files::new();
    for size in [0, 1, 5, 255, 256, 300, 700, 700, 1_024, 65_535, 65_536, 66_000] {
        let files = log(&all[..size]);
        world.server.show(files.clone());
        world.server.asked();
        let report = world.expect(0);
        assert_eq!(report["size"], size, "{report}");
        assert_eq!(differing(&files, &read(&world.copy())), Vec::<String>::new(), "at {size}");
        let asked = world.server.asked();
        let again: Vec<_> = asked
            .iter()
            .filter(|path| path.starts_with("tile/0/") || path.starts_with("tile/entries/"))
            .filter(|path| earlier.contains_key(*path) && !path.contains(".p/"))
            .collect();
        // The tile that an earlier checkpoint ended in is asked for, to see that the log still begins with it.
        assert!(again.len() <= 1, "{again:?} were there already");
        earlier = files;
    }
    let (exit, report) = check(&world.copy());
    assert_eq!((exit, &report["valid"], &report["checked"]["entries"]), (0, &true.into(), &66_000.into()));
    let partials = read(&world.copy()).keys().filter(|name| name.starts_with("tile/0/000.p/")).count();
    assert_eq!(partials, 0, "partial tiles go when the full one is there");
    assert_eq!(world.evidence().len(), 0);
}

#[test]
fn what_the_log_did_not_sign_is_not_taken() {
    let all = entries(1, 1_000);
    let files = log(&all[..700]);
    let world = World::new(files.clone());
    world.expect(0);
    let before = read(&world.copy());
    let grown = log(&all);
    world.server.show(grown.clone());
    let truncated = grown["tile/entries/002"][..grown["tile/entries/002"].len() - 1].to_vec();
    let swapped = [&grown["tile/entries/003.p/232"][..], &[0, 1, 7]].concat();
    for (path, act, word) in [
        ("tile/0/002", Act::Says(damaged(&grown, "tile/0/002")), "signed root"),
        ("tile/0/003.p/232", Act::Says(damaged(&grown, "tile/0/003.p/232")), "signed root"),
        ("tile/1/000.p/3", Act::Says(damaged(&grown, "tile/1/000.p/3")), "signed root"),
        ("tile/0/002", Act::Says(grown["tile/0/001"].clone()), "signed root"),
        ("tile/0/002", Act::Says(vec![0; 31]), "not a tile"),
        ("tile/entries/002", Act::Says(damaged(&grown, "tile/entries/002")), "entries"),
        ("tile/entries/002", Act::Says(truncated), "entries"),
        ("tile/entries/002", Act::Says(vec![]), "entries"),
        ("checkpoint", Act::Says(damaged(&grown, "checkpoint")), "checkpoint"),
        ("checkpoint", Act::Says(b"hello\n".to_vec()), "not a signed note"),
        ("checkpoint", Act::Says(vec![0xff; 9]), "not text"),
        ("tile/0/003.p/232", Act::Endless, "larger than"),
        ("tile/entries/002", Act::Endless, "larger than"),
        ("checkpoint", Act::Endless, "larger than"),
    ] {
        world.server.act(path, act.clone());
        let message = world.message(1);
        assert!(message.contains(word), "{path} {act:?}: {message}");
        let now = read(&world.copy());
        assert_eq!(differing(&before, &now), Vec::<String>::new(), "{path}");
        assert_eq!(differing(&now, &[before.clone(), grown.clone()].concat_all()), Vec::<String>::new());
        assert_eq!(check(&world.copy()).0, 0, "{path}: the copy is the log it was");
        world.server.honest();
    }
    // More entries than the tile has are left out, not believed.
    world.server.act("tile/entries/003.p/232", Act::Says(swapped));
    world.expect(0);
    assert_eq!(differing(&grown, &read(&world.copy())), Vec::<String>::new());
    assert_eq!(world.evidence().len(), 0, "a wrong tile is nobody's signature");
}

trait ConcatAll {
    fn concat_all(self) -> Files;
}

impl ConcatAll for [Files; 2] {
    /// The second before the first; of the checkpoint, the first's.
    fn concat_all(self) -> Files {
        let [first, second] = self;
        let checkpoint = first["checkpoint"].clone();
        let mut both: Files = first.into_iter().chain(second).collect();
        both.insert("checkpoint".into(), checkpoint);
        both
    }
}

#[test]
fn a_log_that_goes_back_is_not_followed() {
    let all = entries(1, 700);
    let world = World::new(log(&all));
    world.expect(0);
    world.server.show(log(&all[..600]));
    assert!(
        world.message(1).contains("went back: it showed a checkpoint of 700 entries, and now one of 600")
    );
    assert_eq!(world.evidence().len(), 0, "an old checkpoint proves nothing");
    world.server.show(log(&all));
    assert_eq!(world.expect(0)["event"], "unchanged");
}

/// The evidence holds by itself: two signed notes, and the proof that they exclude each other.
fn verify(evidence: &Value) {
    let keys = chancery_client::mirror::LogKeys::parse(&[vkey()], None).unwrap();
    let head = |name: &str| keys.verify(evidence[name]["note"].as_str().unwrap()).unwrap().head();
    let (held, shown) = (head("held"), head("shown"));
    let (smaller, larger) = if held.size <= shown.size { (held, shown) } else { (shown, held) };
    if smaller.size == larger.size {
        assert_ne!(smaller.root, larger.root);
        return;
    }
    let beginning = &evidence["beginningOfLarger"];
    let hash = |value: &Value| Hash::from_hex(value.as_str().unwrap()).unwrap();
    let root = hash(&beginning["root"]);
    let proof: Vec<Hash> = beginning["consistencyProof"].as_array().unwrap().iter().map(hash).collect();
    assert_ne!(root, smaller.root);
    let size = TreeSize(beginning["size"].as_u64().unwrap());
    verify_consistency(&TreeHead { size, root }, &larger, &proof).unwrap();
}

#[test]
fn a_fork_is_proven_told_and_kept() {
    for (held, shown) in [(700, 700), (700, 1_000), (700, 300), (256, 512), (3, 70_000), (66_000, 5)] {
        let world = World::new(log(&entries(1, held)));
        world.expect(0);
        let before = read(&world.copy());
        let other = log(&entries(2, shown));
        world.server.show(other.clone());
        let message = world.message(1);
        for note in [&before["checkpoint"], &other["checkpoint"]] {
            let note = String::from_utf8(note.clone()).unwrap();
            assert!(message.contains(note.trim()), "{held} and {shown}: {message}");
        }
        assert!(message.contains("evidence"), "{message}");
        assert_eq!(read(&world.copy()), before, "nothing of the other branch is taken");
        world.message(1);
        let evidence = world.evidence();
        assert_eq!(evidence.len(), 1, "the same fork is kept once");
        verify(&evidence[0]);
        // The branch that we hold can be followed on; the evidence stays and is told of.
        world.server.show(log(&entries(1, held + 1)));
        assert_eq!(world.expect(0)["evidence"].as_array().unwrap().len(), 1);
        let (exit, report) = check(&world.copy());
        assert_eq!((exit, &report["findings"][0]["severity"]), (0, &"warning".into()));
    }
}

#[test]
fn checkpoints_of_others_are_read() {
    let all = entries(1, 300);
    let world = World::new(log_with(&all, ORIGIN, "Timestamp: 1679315147\nmore\n"));
    assert_eq!(world.expect(0)["size"], 300);
    // The same tree under another note is taken as it is.
    let witnessed = log_with(&all, ORIGIN, "Timestamp: 1679315148\n");
    world.server.show(witnessed.clone());
    assert_eq!(world.expect(0)["event"], "unchanged");
    assert_eq!(differing(&witnessed, &read(&world.copy())), Vec::<String>::new());

    let world = World::new(log_with(&all, "a log - 17", ""));
    assert!(world.message(1).contains("of \"a log - 17\", not of \"log.example/test\""));
    let named = world.command(&["--once", "--origin", "a log - 17"]).output().unwrap();
    assert_eq!(named.status.code(), Some(0), "{named:?}");
}

#[test]
fn what_a_log_may_do_is_put_up_with() {
    let all = entries(1, 700);
    let mut files = log(&all);
    // The log has grown meanwhile: its partial tiles and bundles are gone, the full ones are there.
    let grown = log(&entries(1, 768));
    for path in ["tile/0/002.p/188", "tile/entries/002.p/188"] {
        files.remove(path);
    }
    for path in ["tile/0/002", "tile/entries/002"] {
        files.insert(path.into(), grown[path].clone());
    }
    let world = World::new(files.clone());
    let (first, second) = (files["tile/entries/000"].clone(), files["tile/entries/001"].clone());
    world.server.act("tile/entries/000", Act::Gzip(first, true));
    world.server.act("tile/entries/001", Act::Gzip(second, false));
    world.server.act("tile/0/000", Act::Busy(2));
    world.server.act("checkpoint", Act::Busy(1));
    world.expect(0);
    assert_eq!(differing(&log(&all), &read(&world.copy())), Vec::<String>::new());
    assert_eq!(check(&world.copy()).0, 0);
}

#[test]
fn what_is_missing_late_or_forbidden_is_told_apart() {
    let files = log(&entries(1, 700));
    let world = World::new(files.clone());
    for (path, act, exit) in [
        ("tile/0/001", Act::Status(404), 3),
        ("tile/0/002.p/188", Act::Status(410), 3),
        ("checkpoint", Act::Status(404), 3),
        ("tile/entries/001", Act::Status(403), 1),
        ("tile/entries/001", Act::Status(302), 1),
        ("tile/entries/001", Act::Status(503), 4),
        ("tile/entries/001", Act::Breaks, 4),
    ] {
        world.server.act(path, act.clone());
        world.message(exit);
        assert!(!world.copy().join("checkpoint").exists(), "{path} {act:?}");
        world.server.honest();
    }
    world.server.act("tile/0/002.p/188", Act::Stalls);
    let begun = Instant::now();
    let late = world.command(&["--once", "--timeout-ms", "700"]).output().unwrap();
    assert_eq!(late.status.code(), Some(4), "{late:?}");
    assert!(begun.elapsed() < Duration::from_secs(20));
    world.server.honest();
    world.expect(0);
    drop(world.server);
    let (vkey, copy) = (vkey(), world.folder.path().join("gone"));
    let mut gone =
        chancery(&["follow", "http://127.0.0.1:1", "--vkey", &vkey, "--once", "--timeout-ms", "500"]);
    gone.arg("--to").arg(copy);
    assert_eq!(gone.output().unwrap().status.code(), Some(4));
}

fn wait_for(mut there: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !there() {
        assert!(Instant::now() < deadline, "it does not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn full_tiles_there(copy: &Path) -> usize {
    let there = read_if_there(copy);
    there.keys().filter(|name| name.starts_with("tile/0/") && !name.contains(".p/")).count()
}

fn read_if_there(copy: &Path) -> Files {
    if copy.is_dir() { read(copy) } else { Files::new() }
}

#[test]
fn a_mirror_that_is_killed_goes_on_where_it_stood() {
    let all = entries(1, 40_000);
    let world = World::new(log(&all[..700]));
    world.expect(0);
    world.server.show(log(&all));
    world.server.pause(Duration::from_millis(60));
    for more in [20, 60, 100] {
        let mut child = world.command(&["--once"]).stdout(Stdio::null()).spawn().unwrap();
        wait_for(|| full_tiles_there(&world.copy()) >= more);
        child.kill().unwrap();
        child.wait().unwrap();
        let (exit, report) = check(&world.copy());
        assert_eq!((exit, &report["checked"]["size"]), (0, &700.into()), "it is the log it was: {report}");
    }
    let there = full_tiles_there(&world.copy());
    assert!((100..156).contains(&there), "{there}");
    world.server.pause(Duration::ZERO);
    world.server.asked();
    world.expect(0);
    let tiles = world.server.asked().into_iter().filter(|path| path.starts_with("tile/0/")).count();
    assert!(tiles <= 156 - there + 3, "{tiles} asked for, though {there} were there");
    assert_eq!(differing(&log(&all), &read(&world.copy())), Vec::<String>::new());
    let left: Vec<_> = std::fs::read_dir(world.copy().join(".mirror")).unwrap().collect();
    assert_eq!(left.len(), 1, "only the lock: {left:?}");
}

#[test]
fn a_checkpoint_that_was_seen_and_not_finished_is_remembered() {
    let world = World::new(log(&entries(1, 40_000)));
    world.server.pause(Duration::from_millis(40));
    let mut child = world.command(&["--once"]).stdout(Stdio::null()).spawn().unwrap();
    wait_for(|| full_tiles_there(&world.copy()) >= 5);
    child.kill().unwrap();
    child.wait().unwrap();
    world.server.pause(Duration::ZERO);
    world.server.show(log(&entries(1, 300)));
    assert!(world.message(1).contains("went back"));
    world.server.show(log(&entries(2, 41_000)));
    world.message(1);
    verify(&world.evidence()[0]);
    // What an interrupted round left is believed only if it is the log's.
    world.server.show(log(&entries(1, 40_000)));
    let nonsense = [("tile/0/000", vec![7; 8192]), ("tile/entries/001", b"nonsense".to_vec())];
    write(&world.copy(), &nonsense.map(|(path, bytes)| (path.to_owned(), bytes)).into());
    world.expect(0);
    assert_eq!(differing(&log(&entries(1, 40_000)), &read(&world.copy())), Vec::<String>::new());
}

#[test]
fn one_folder_has_one_follower() {
    let world = World::new(log(&entries(1, 700)));
    world.server.pause(Duration::from_millis(1_000));
    let mut child = world.command(&["--once"]).stdout(Stdio::null()).spawn().unwrap();
    wait_for(|| world.copy().join("tile").exists());
    assert!(world.message(2).contains("another mirror"));
    assert!(child.wait().unwrap().success());
}

/// C2SP tlog-tiles lets a log deny what ends at or below its minimum index. A copy that has it goes on; a new one cannot
/// be whole, and its owner is told which entries are gone.
#[test]
fn a_log_that_prunes_is_told_by_its_range_and_followed_by_who_has_it_already() {
    let world = World::new(log(&entries(1, 600)));
    world.expect(0);
    let grown = log(&entries(1, 900));
    world.server.show(grown.clone());
    for (status, exit) in [(403, 1), (404, 3), (410, 3)] {
        for pruned in ["tile/0/000", "tile/entries/000", "tile/entries/001"] {
            world.server.act(pruned, Act::Status(status));
        }
        let fresh = World { folder: tempfile::tempdir().unwrap(), server: LogServer::start(grown.clone()) };
        fresh.server.act("tile/entries/001", Act::Status(status));
        let told = fresh.message(exit);
        assert!(told.contains("tile/entries/001") && told.contains("entries 256 to 511"), "{told}");
        assert!(told.contains("minimum index is 512"), "{told}");
        assert!(!fresh.copy().join("checkpoint").exists(), "a copy is whole or none");
    }
    world.expect(0);
    assert_eq!(differing(&grown, &read(&world.copy())), Vec::<String>::new());
}

/// A running command, killed with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn serve(copy: &Path) -> (Running, String) {
    let mut command = chancery(&["serve", copy.to_str().unwrap(), "--listen", "127.0.0.1:0"]);
    let mut child = Running(command.stderr(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(child.0.stderr.take().unwrap()).read_line(&mut line).unwrap();
    let url = line.trim().strip_prefix("listening on ").unwrap().to_owned();
    (child, url)
}

/// The whole answer to a request, head and body.
fn ask(url: &str, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).unwrap();
    String::from_utf8_lossy(&reply).into_owned()
}

#[test]
fn a_copy_is_served_as_the_log_itself() {
    let files = log(&entries(1, 700));
    let world = World::new(files.clone());
    world.expect(0);
    let (_child, url) = serve(&world.copy());
    let second = World { folder: tempfile::tempdir().unwrap(), server: LogServer::start(Files::new()) };
    let copy = second.copy();
    let arguments = ["follow", &url, "--vkey", &vkey(), "--to", copy.to_str().unwrap(), "--once"];
    let output = chancery(&arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(read(&copy), files, "a mirror of the mirror");

    let checkpoint = ask(&url, "GET", "/checkpoint");
    assert!(checkpoint.starts_with("HTTP/1.1 200"), "{checkpoint}");
    assert!(checkpoint.contains("content-type: text/plain; charset=utf-8\r\n"), "{checkpoint}");
    assert!(checkpoint.contains("cache-control: public, max-age=1\r\n"), "{checkpoint}");
    assert!(checkpoint.ends_with(std::str::from_utf8(&files["checkpoint"]).unwrap()));
    let tile = ask(&url, "GET", "/tile/0/002.p/188");
    assert!(tile.contains("content-type: application/octet-stream\r\n"), "{tile}");
    assert!(tile.contains("cache-control: public, max-age=31536000, immutable\r\n"), "{tile}");
    let head = ask(&url, "HEAD", "/tile/0/000");
    assert!(head.contains("content-length: 8192\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    for path in [
        "/",
        "/.mirror/lock",
        "/evidence/",
        "/tile/0/0",
        "/tile/0/003",
        "/tile/0/002.p/189",
        "/tile/0/002.p/0",
        "/tile/00/000",
        "/tile/0/../../checkpoint",
        "/tile/0/%2e%2e/000",
        "/checkpoint/",
        "//checkpoint",
        "/tile/2/000.p/1",
    ] {
        assert!(ask(&url, "GET", path).starts_with("HTTP/1.1 404"), "{path}");
    }
    for method in ["POST", "PUT", "DELETE"] {
        assert!(ask(&url, method, "/checkpoint").starts_with("HTTP/1.1 405"), "{method}");
    }
}

#[test]
fn a_damaged_copy_is_found_out() {
    let files = log(&entries(1, 66_000));
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path();
    write(copy, &files);
    assert_eq!(check(copy).0, 0);
    for (path, kind) in [
        ("tile/0/007", "tile-mismatch"),
        ("tile/1/000", "tile-mismatch"),
        ("tile/0/257.p/208", "tile-mismatch"),
        ("tile/2/000.p/1", "tile-mismatch"),
        ("tile/entries/007", "entries-mismatch"),
        ("tile/entries/257.p/208", "entries-mismatch"),
    ] {
        std::fs::write(copy.join(path), damaged(&files, path)).unwrap();
        let (exit, report) = check(copy);
        assert_eq!((exit, &report["findings"][0]["kind"]), (1, &kind.into()), "{path}: {report}");
        std::fs::remove_file(copy.join(path)).unwrap();
        let (exit, report) = check(copy);
        assert_eq!((exit, &report["findings"][0]["kind"]), (3, &"missing".into()), "{path}: {report}");
        std::fs::write(copy.join(path), &files[path]).unwrap();
    }
    std::fs::write(copy.join("checkpoint"), damaged(&files, "checkpoint")).unwrap();
    assert_eq!(check(copy).0, 1);
    std::fs::remove_file(copy.join("checkpoint")).unwrap();
    assert_eq!(check(copy).0, 3);
    assert_eq!(check(Path::new("/nonexistent")).0, 3);
}

#[test]
fn a_bucket_s_copy_is_followed_and_wrong_words_are_refused() {
    let bucket = tempfile::tempdir().unwrap();
    let mut files = log(&entries(1, 700));
    write(bucket.path(), &files);
    // Some buckets hold bundles compressed.
    std::fs::write(bucket.path().join("tile/entries/000"), log::gzip(&files["tile/entries/000"])).unwrap();
    let world = World::new(Files::new());
    let copy = world.copy();
    let to = copy.to_str().unwrap();
    let plain = bucket.path().to_str().unwrap().to_owned();
    let key_file = bucket.path().join("key");
    std::fs::write(&key_file, format!("\n{}\n", vkey())).unwrap();
    for address in [plain.clone(), format!("file://{plain}")] {
        let key = format!("@{}", key_file.display());
        let output = chancery(&["follow", &address, "--vkey", &key, "--to", to, "--once"]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(read(&copy), files);
    }
    let (own, other) = (vkey(), other_vkey());
    for arguments in [
        vec!["follow", &plain, "--vkey", "nonsense", "--to", to, "--once"],
        vec!["follow", &plain, "--vkey", &own, "--vkey", &other, "--to", to, "--once"],
        vec!["follow", &plain, "--vkey", &other, "--to", to, "--once", "--origin", ORIGIN],
        vec!["follow", "ftp://x", "--vkey", &own, "--to", to, "--once"],
        vec!["follow", "/nonexistent", "--vkey", &own, "--to", to, "--once"],
        vec!["follow", "http://u:p@x/", "--vkey", &own, "--to", to, "--once"],
        vec!["follow", &plain, "--vkey", &own, "--to", to, "--once", "--interval", "5"],
        vec!["follow", &plain, "--to", to, "--once"],
    ] {
        let output = chancery(&arguments).output().unwrap();
        let refused = if arguments.contains(&"--origin") { Some(1) } else { Some(2) };
        assert_eq!(output.status.code(), refused, "{arguments:?}: {output:?}");
    }
    // A copy is one log's.
    files = log_with(&entries(3, 10), "other.example", "");
    world.server.show(files);
    let output = chancery(&["follow", &world.server.url(), "--vkey", &other, "--to", to, "--once"]).output();
    assert!(matches!(output.unwrap().status.code(), Some(1 | 2)));
}

#[test]
fn a_log_is_followed_until_it_forks() {
    let all = entries(1, 1_000);
    let world = World::new(log(&all[..300]));
    let mut child = Running(world.command(&["--interval", "1"]).stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(next()["size"], 300);
    world.server.show(log(&all[..700]));
    // At rest nothing is told; what is grown is.
    let grown = next();
    assert_eq!((&grown["size"], &grown["before"]), (&700.into(), &300.into()));
    world.server.act("checkpoint", Act::Says(b"maintenance".to_vec()));
    let told = next();
    assert_eq!(told["event"], "refused", "it goes on: {told}");
    world.server.honest();
    world.server.show(log(&entries(2, 800)));
    let last = next();
    let last = if last["event"] == "unchanged" { next() } else { last };
    assert!(last["error"]["message"].as_str().unwrap().contains("forked"), "{last}");
    assert_eq!(child.0.wait().unwrap().code(), Some(1));
    assert_eq!(world.evidence().len(), 1);
}

#[test]
fn a_follower_stops_when_it_is_told() {
    let world = World::new(log(&entries(1, 300)));
    let mut child = Running(world.command(&[]).stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let status = Command::new("kill").args(["-TERM", &child.0.id().to_string()]).status().unwrap();
    assert!(status.success());
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_log_is_followed_with_a_certificate() {
    let server = server::Server::start().await;
    let checkpoint = String::from_utf8(log(&[])["checkpoint"].clone()).unwrap();
    let reply = server::Act::Reply {
        status: 200,
        content_type: "text/plain; charset=utf-8",
        headers: vec![],
        body: checkpoint.clone(),
    };
    server.script(&[], reply);
    let copy = server.file("copy");
    let (url, vkey, file) = (format!("{}/log", server.url), vkey(), |name: &str| server.file(name));
    let mut follow = chancery(&["follow", &url, "--vkey", &vkey, "--once", "--timeout-ms", "5000", "--to"]);
    follow.arg(&copy).env("CHANCERY_CA", file("ca.crt"));
    follow.env("CHANCERY_CERT", file("client.crt")).env("CHANCERY_KEY", file("client.key"));
    let mut stranger = chancery(&["follow", &url, "--vkey", &vkey, "--once", "--timeout-ms", "2000", "--to"]);
    stranger.arg(file("other")).env("CHANCERY_CA", file("stranger-ca.crt"));
    let (followed, refused) =
        tokio::task::spawn_blocking(move || (follow.output().unwrap(), stranger.output().unwrap()))
            .await
            .unwrap();
    assert!(followed.status.success(), "{followed:?}");
    assert_eq!(std::fs::read_to_string(copy.join("checkpoint")).unwrap(), checkpoint);
    assert_eq!(server.seen()[0].line, "GET /log/checkpoint");
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
}
