//! A transparency log in memory, and a server that shows it, honestly or not.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed step is a failed test")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chancery_format::Hash;
use chancery_format::merkle::{Frontier, leaf_hash};
use chancery_format::note::{NoteVerifier, assemble};
use chancery_format::tile::{TilePath, TileTail, encode_bundle, encode_tile, full_tiles, partial_width};
use ed25519_dalek::{Signer as _, SigningKey};

pub(crate) const ORIGIN: &str = "log.example/test";

fn signer() -> SigningKey {
    SigningKey::from_bytes(&[0x42; 32])
}

fn key(name: &str) -> NoteVerifier {
    NoteVerifier::new(name, signer().verifying_key().as_bytes()).unwrap()
}

/// The log's verifier key.
pub(crate) fn vkey() -> String {
    key(ORIGIN).vkey()
}

/// Another log's.
pub(crate) fn other_vkey() -> String {
    key("other.example").vkey()
}

/// Entries `seed` 0 … `count` - 1; some are empty, some long. Logs of different seeds begin differently.
pub(crate) fn entries(seed: u8, count: u64) -> Vec<Vec<u8>> {
    let entry = |n: u64| match n % 7 {
        0 if n > 0 => Vec::new(),
        1 => [&[seed], n.to_be_bytes().as_slice(), &[b'x'; 700]].concat(),
        _ => [&[seed], n.to_be_bytes().as_slice()].concat(),
    };
    (0..count).map(entry).collect()
}

/// The files of a log at one size: every full tile and bundle, and the partial ones of this size.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

pub(crate) fn log(entries: &[Vec<u8>]) -> Files {
    log_with(entries, ORIGIN, "")
}

/// The same, with another origin or with lines behind the root.
pub(crate) fn log_with(entries: &[Vec<u8>], origin: &str, extension: &str) -> Files {
    let size = entries.len() as u64;
    let leaves: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry)).collect();
    let batch = Frontier::new().extend(&leaves);
    let (mut files, mut tail) = (Files::new(), TileTail::new());
    for full in tail.extend(&batch) {
        files.insert(TilePath::tile(full.level, full.index).to_string(), encode_tile(&full.hashes));
    }
    for level in (0..8).filter(|level| partial_width(*level, size).is_some()) {
        let path = TilePath {
            level: Some(level),
            index: full_tiles(level, size),
            width: partial_width(level, size),
        };
        files.insert(path.to_string(), encode_tile(tail.partial(level)));
    }
    for (index, bundle) in (0..).zip(entries.chunks(256)) {
        let width = u8::try_from(bundle.len()).ok();
        let bytes = encode_bundle(bundle.iter().map(Vec::as_slice)).unwrap();
        files.insert(TilePath { level: None, index, width }.to_string(), bytes);
    }
    use base64::Engine as _;
    let root = base64::engine::general_purpose::STANDARD.encode(batch.head().root.0);
    files.insert("checkpoint".into(), sign(&format!("{origin}\n{size}\n{root}\n{extension}")).into_bytes());
    files
}

pub(crate) fn sign(text: &str) -> String {
    assemble(text, &key(ORIGIN), &signer().sign(text.as_bytes()).to_bytes()).unwrap()
}

pub(crate) fn write(folder: &Path, files: &Files) {
    for (name, bytes) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

/// What the server does about one path, in place of the plain truth.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Says this.
    Says(Vec<u8>),
    /// Says this, compressed, with the header if so.
    Gzip(Vec<u8>, bool),
    Status(u16),
    /// Says 503 this often, then the truth.
    Busy(u32),
    /// Zeros without end.
    Endless,
    /// Begins, and does not go on.
    Stalls,
    /// Closes the connection after half of it.
    Breaks,
}

#[derive(Default)]
struct State {
    files: Files,
    acts: BTreeMap<String, Act>,
    asked: Vec<String>,
    pause: Duration,
}

/// A log over HTTP. Stops when dropped.
pub(crate) struct LogServer {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
}

impl LogServer {
    pub(crate) fn start(files: Files) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::new(Mutex::new(State { files, ..State::default() })),
            stop: Arc::default(),
        };
        let (state, stop) = (Arc::clone(&server.state), Arc::clone(&server.stop));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let state = Arc::clone(&state);
                std::thread::spawn(move || drop(serve(stream, &state)));
            }
        });
        server
    }

    /// Its prefix is not the root, so that clients keep theirs.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/some/log/", self.address)
    }

    pub(crate) fn show(&self, files: Files) {
        self.state.lock().unwrap().files = files;
    }

    pub(crate) fn act(&self, path: &str, act: Act) {
        self.state.lock().unwrap().acts.insert(path.to_owned(), act);
    }

    pub(crate) fn honest(&self) {
        self.state.lock().unwrap().acts.clear();
    }

    /// Takes so long for each answer.
    pub(crate) fn pause(&self, pause: Duration) {
        self.state.lock().unwrap().pause = pause;
    }

    /// What was asked for since the last time.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }
}

impl Drop for LogServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let mut line = String::new();
        while reader.read_line(&mut line)? > 0 && !line.trim().is_empty() {
            line.clear();
        }
        let path = first.split(' ').nth(1).unwrap_or_default().strip_prefix("/some/log/");
        let path = path.unwrap_or("outside").to_owned();
        let (act, truth, pause) = {
            let mut state = state.lock().unwrap();
            state.asked.push(path.clone());
            (next_act(&mut state.acts, &path), state.files.get(&path).cloned(), state.pause)
        };
        std::thread::sleep(pause);
        match (act, truth) {
            (None, Some(bytes)) | (Some(Act::Says(bytes)), _) => reply(&mut writer, 200, "", &bytes)?,
            (None, None) => reply(&mut writer, 404, "", &[b'?'; 20_000])?,
            (Some(Act::Gzip(bytes, said)), _) => {
                let header = if said { "content-encoding: gzip\r\n" } else { "" };
                reply(&mut writer, 200, header, &gzip(&bytes))?;
            }
            (Some(Act::Status(status)), _) => reply(&mut writer, status, "", b"no")?,
            (Some(Act::Busy(_)), _) => reply(&mut writer, 503, "retry-after: 0\r\n", b"busy")?,
            (Some(Act::Endless), _) => {
                writer.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")?;
                loop {
                    writer.write_all(&[0; 4096])?;
                }
            }
            (Some(Act::Stalls), _) => {
                writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")?;
                std::thread::sleep(Duration::from_secs(60));
            }
            (Some(Act::Breaks), _) => {
                return writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
            }
        }
    }
}

fn next_act(acts: &mut BTreeMap<String, Act>, path: &str) -> Option<Act> {
    match acts.get_mut(path) {
        Some(Act::Busy(0)) => None,
        Some(Act::Busy(left)) => {
            *left -= 1;
            Some(Act::Busy(*left))
        }
        act => act.cloned(),
    }
}

fn reply(writer: &mut TcpStream, status: u16, header: &str, body: &[u8]) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 {status} X\r\n{header}content-length: {}\r\n\r\n", body.len());
    writer.write_all(&[head.as_bytes(), body].concat())
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The files of a copy that are the log's: without what the mirror keeps for itself.
pub(crate) fn read(folder: &Path) -> Files {
    let mut files = Files::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            if name.starts_with(".mirror") || name.starts_with("evidence") {
                continue;
            }
            match path.is_dir() {
                true => folders.push(path),
                false => drop(files.insert(name, std::fs::read(path).unwrap())),
            }
        }
    }
    files
}

/// Names of the files that the first log has and the second has otherwise, or not.
pub(crate) fn differing(one: &Files, two: &Files) -> Vec<String> {
    one.iter().filter(|(name, bytes)| two.get(*name) != Some(bytes)).map(|(name, _)| name.clone()).collect()
}

/// The last byte of a file, turned.
pub(crate) fn damaged(files: &Files, path: &str) -> Vec<u8> {
    let mut bytes = files[path].clone();
    *bytes.last_mut().unwrap() ^= 1;
    bytes
}
