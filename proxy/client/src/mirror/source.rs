//! Where a log is read from: an HTTP address, a bucket, or a folder that holds a copy of one. Each may be an archive of
//! ours, which has no object `checkpoint`: then `archived.rs` makes what is missing.
//!
//! Each resource has a bound and a deadline that all its tries share. Tried again is what may pass: no connection, a
//! broken one, 429 and 5xx. What the log says for certain, that it has no such thing or will not show it, is not.

use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chancery_format::note::NOTE_BYTES_MAX;
use chancery_format::tile::TilePath;
use tokio::time::Instant;

use super::archived;
use super::error::MirrorError;
use super::http::{Http, HttpError};
use crate::entropy::jittered;
use crate::limits;

/// Where a log shows its checkpoint.
const CHECKPOINT: &str = "checkpoint";

/// How to read a log.
#[derive(Debug, Clone)]
pub struct SourceOptions {
    /// `https://HOST/PREFIX`, `http://…`, `s3://BUCKET/PREFIX` (credentials from the environment), `file:///FOLDER`, or a
    /// folder.
    pub address: String,
    /// PEM file of the authorities that may vouch for the log; the machine's own if there is none.
    pub ca: Option<PathBuf>,
    /// PEM files of our certificate and its key, for logs that ask for one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Time for one resource with all its tries, in milliseconds.
    pub timeout_ms: u64,
}

/// A log to read from.
pub struct Source {
    kind: Kind,
    timeout: Duration,
    /// Whether it was found to be an archive of ours.
    archive: AtomicBool,
}

enum Kind {
    Http(Box<Http>),
    Folder(PathBuf),
}

/// What came of asking.
pub(super) enum Found {
    /// This is it.
    Bytes(Vec<u8>),
    /// There is no such thing.
    Nothing,
}

impl Source {
    /// Reads the files named; asks nobody yet.
    pub fn open(options: &SourceOptions) -> Result<Self, MirrorError> {
        let address = options.address.as_str();
        let kind = match address.split_once("://") {
            Some(("http" | "https", _)) => Kind::Http(Box::new(Http::new(options)?)),
            Some(("s3", _)) => Kind::Http(Box::new(Http::bucket(options)?)),
            Some(("file", folder)) if folder.starts_with('/') => Kind::Folder(folder.into()),
            None if Path::new(address).is_dir() => Kind::Folder(address.into()),
            None => return Err(MirrorError::Usage(format!("{address}: no such folder"))),
            Some(_) => {
                let why = "is not the address of a log; write https://HOST/PREFIX, http://…, s3://BUCKET/PREFIX, file:///… or a folder";
                return Err(MirrorError::Usage(format!("{address:?} {why}")));
            }
        };
        let timeout = Duration::from_millis(options.timeout_ms);
        Ok(Self { kind, timeout, archive: AtomicBool::new(false) })
    }

    /// The log's checkpoint as it is now, unverified.
    pub async fn checkpoint(&self) -> Result<String, MirrorError> {
        let Found::Bytes(bytes) = self.get(CHECKPOINT, NOTE_BYTES_MAX).await? else {
            return Err(MirrorError::Missing(CHECKPOINT.to_owned()));
        };
        String::from_utf8(bytes).map_err(|_| MirrorError::bad(CHECKPOINT, "it is not text"))
    }

    /// An archive of ours in a folder.
    pub(super) fn archive(folder: &Path) -> Self {
        Self {
            kind: Kind::Folder(folder.to_owned()),
            timeout: Duration::ZERO,
            archive: AtomicBool::new(true),
        }
    }

    /// One resource of the log, of at most so many bytes.
    pub(super) async fn get(&self, path: &str, bytes_max: usize) -> Result<Found, MirrorError> {
        let found = self.stored(path, bytes_max).await;
        if path == CHECKPOINT {
            return self.or_newest(found).await;
        }
        let tile = TilePath::parse(path).filter(|path| path.level.is_some() && path.width.is_some());
        match (found?, tile) {
            (Found::Nothing, Some(path)) if self.archive.load(Ordering::Relaxed) => {
                archived::partial_tile(self, path).await
            }
            (found, _) => Ok(found),
        }
    }

    /// Where there is no such object, an archive's newest one.
    async fn or_newest(&self, found: Result<Found, MirrorError>) -> Result<Found, MirrorError> {
        if !matches!(found, Ok(Found::Nothing) | Err(MirrorError::Refused { status: 403, .. })) {
            return found;
        }
        match archived::newest_checkpoint(self).await {
            Ok(Found::Bytes(note)) => {
                self.archive.store(true, Ordering::Relaxed);
                Ok(Found::Bytes(note))
            }
            // It is no archive either: what was said first is the answer.
            Ok(Found::Nothing) | Err(MirrorError::Refused { .. }) => found,
            Err(error) => Err(error),
        }
    }

    /// One object as it is kept.
    pub(super) async fn stored(&self, path: &str, bytes_max: usize) -> Result<Found, MirrorError> {
        match &self.kind {
            Kind::Folder(folder) => read_file(folder, path, bytes_max),
            Kind::Http(http) => {
                let deadline = Instant::now() + self.timeout;
                let tries = self.tries(http, path, bytes_max, deadline);
                let late =
                    || format!("{}: no whole answer within {} ms", http.url(path), self.timeout.as_millis());
                let got = tokio::time::timeout_at(deadline, tries).await;
                got.unwrap_or_else(|_| Err(MirrorError::Unavailable(late())))
            }
        }
    }

    /// Says something to who is there, once: status and body of the answer, of at most so many bytes.
    pub(crate) async fn post(
        &self,
        path: &str,
        body: String,
        bytes_max: usize,
    ) -> Result<(u16, Vec<u8>), MirrorError> {
        let Kind::Http(http) = &self.kind else {
            return Err(MirrorError::Usage("a folder cannot be asked anything".to_owned()));
        };
        let url = http.url(path);
        match tokio::time::timeout(self.timeout, http.post(path, body.into(), bytes_max)).await {
            Ok(Ok(answer)) => Ok((answer.status, answer.body)),
            Ok(Err(HttpError::Passing(why))) => Err(MirrorError::Unavailable(format!("{url}: {why}"))),
            Ok(Err(HttpError::Certain(why))) => Err(MirrorError::bad(url, why)),
            Err(_) => {
                let why = format!("{url}: no whole answer within {} ms", self.timeout.as_millis());
                Err(MirrorError::Unavailable(why))
            }
        }
    }

    async fn tries(
        &self,
        http: &Http,
        path: &str,
        bytes_max: usize,
        deadline: Instant,
    ) -> Result<Found, MirrorError> {
        let mut backoff = Duration::from_millis(limits::BACKOFF_FIRST_MS);
        for left in (0..limits::ATTEMPTS_MAX).rev() {
            let (why, said) = match http.get(path, bytes_max).await {
                Ok(answer) if answer.status == 200 => return Ok(Found::Bytes(answer.body)),
                Ok(answer) if matches!(answer.status, 404 | 410) => return Ok(Found::Nothing),
                Ok(answer) if matches!(answer.status, 408 | 429 | 500..) => {
                    (format!("{}: status {}", http.url(path), answer.status), answer.retry_after)
                }
                Ok(answer) => {
                    return Err(MirrorError::Refused { path: path.to_owned(), status: answer.status });
                }
                Err(HttpError::Passing(why)) => (format!("{}: {why}", http.url(path)), None),
                Err(HttpError::Certain(why)) => return Err(MirrorError::bad(http.url(path), why)),
            };
            let pause = said.unwrap_or(Duration::ZERO).max(jittered(backoff));
            let pause = pause.min(Duration::from_millis(limits::MIRROR_PAUSE_MAX_MS));
            if left == 0 || Instant::now() + pause >= deadline {
                return Err(MirrorError::Unavailable(why));
            }
            tokio::time::sleep(pause).await;
            backoff = (backoff * 2).min(Duration::from_millis(limits::BACKOFF_MAX_MS));
        }
        Err(MirrorError::Unavailable("no attempt was allowed".to_owned()))
    }
}

fn read_file(folder: &Path, path: &str, bytes_max: usize) -> Result<Found, MirrorError> {
    let at = folder.join(path);
    let read = || {
        let mut bytes = Vec::new();
        std::fs::File::open(&at)?.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
        std::io::Result::Ok(bytes)
    };
    match read() {
        Ok(bytes) if bytes.len() > bytes_max => Err(MirrorError::bad(at.display(), too_large(bytes_max))),
        Ok(bytes) => Ok(Found::Bytes(bytes)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::IsADirectory) => {
            Ok(Found::Nothing)
        }
        Err(error) => Err(MirrorError::Unavailable(format!("{}: {error}", at.display()))),
    }
}

pub(super) fn too_large(bytes_max: usize) -> String {
    format!("larger than {bytes_max} bytes")
}
