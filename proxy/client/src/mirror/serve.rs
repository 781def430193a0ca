//! Serves a copy as a tlog-tiles log. It reads and never writes; what it serves was verified when it was taken. An archive
//! of ours in a folder is served too, with the partial tiles and the checkpoint that it lacks (`archived.rs`); its objects
//! are served as they are, and clients hold them against the signed root.
//!
//! Known are `/checkpoint` and the tiles and bundles that the checkpoint covers, in their one spelling; everything else
//! is 404, whatever lies in the folder. The copy may be followed into meanwhile.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chancery_format::note::NOTE_BYTES_MAX;
use chancery_format::tile::{TilePath, WIDTH};
use http_body_util::Full;
use hyper::header::{self, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::error::MirrorError;
use super::replica::{Replica, size_of_note};
use super::source::{Found, Source};
use crate::limits;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");
/// The checkpoint moves on by itself.
const BRIEFLY: HeaderValue = HeaderValue::from_static("public, max-age=1");
/// A tile never changes.
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const NOT_KEPT: HeaderValue = HeaderValue::from_static("no-store");

/// Why a copy is not served. Something else has the address, or it is not ours to listen on.
#[derive(Debug, thiserror::Error)]
#[error("{address}: {cause}")]
pub struct ServeError {
    /// Where it was to listen.
    pub address: SocketAddr,
    /// What the system said.
    pub cause: std::io::Error,
}

/// A copy that is listened for, and not served yet.
pub struct MirrorServer {
    listener: TcpListener,
    address: SocketAddr,
    replica: Arc<Replica>,
}

impl MirrorServer {
    /// Listens; port 0 takes any.
    pub async fn open(replica: Replica, address: SocketAddr) -> Result<Self, ServeError> {
        let failed = |cause| ServeError { address, cause };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, replica: Arc::new(replica) })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until it is dropped.
    pub async fn serve(self) {
        let slots = Arc::new(Semaphore::new(limits::MIRROR_CONNECTIONS_MAX));
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let Ok((stream, _)) = self.listener.accept().await else {
                // No descriptors left, most often: the next connection may have more luck.
                tokio::time::sleep(Duration::from_millis(limits::BACKOFF_FIRST_MS)).await;
                continue;
            };
            let replica = Arc::clone(&self.replica);
            tokio::spawn(async move {
                let whole = Duration::from_millis(limits::MIRROR_CONNECTION_MS);
                // A broken or lasting connection is its client's affair.
                drop(tokio::time::timeout(whole, connection(stream, replica)).await);
                drop(slot);
            });
        }
    }
}

async fn connection(stream: TcpStream, replica: Arc<Replica>) -> hyper::Result<()> {
    let service = service_fn(move |request: Request<_>| {
        let replica = Arc::clone(&replica);
        async move { Ok::<_, Infallible>(answer(replica, request).await) }
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(limits::MIRROR_IDLE_MS))
        .serve_connection(TokioIo::new(stream), service)
        .await
}

async fn answer(replica: Arc<Replica>, request: Request<hyper::body::Incoming>) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "read only\n");
        refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    let path = request.uri().path().strip_prefix('/').unwrap_or_default().to_owned();
    let read = match replica.is_archive() {
        true => Ok(find_archived(&replica, &path).await),
        false => tokio::task::spawn_blocking(move || find(&replica, &path)).await,
    };
    match read {
        Ok(Ok(Some(Resource { bytes, media_type, caching }))) => {
            let mut response = Response::new(Full::new(Bytes::from(bytes)));
            response.headers_mut().insert(header::CONTENT_TYPE, media_type);
            response.headers_mut().insert(header::CACHE_CONTROL, caching);
            let anybody = HeaderValue::from_static("*");
            response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, anybody);
            response
        }
        Ok(Ok(None)) => plain(StatusCode::NOT_FOUND, "not found\n"),
        // What is wrong with the folder is not for strangers.
        Ok(Err(_)) | Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the copy cannot be read\n"),
    }
}

struct Resource {
    bytes: Vec<u8>,
    media_type: HeaderValue,
    caching: HeaderValue,
}

fn find(replica: &Replica, path: &str) -> Result<Option<Resource>, MirrorError> {
    let Some((note, size)) = replica.checkpoint()? else { return Ok(None) };
    if path == "checkpoint" {
        return Ok(Some(Resource { bytes: note.into_bytes(), media_type: TEXT, caching: BRIEFLY }));
    }
    let Some(tile) = TilePath::parse(path).filter(|tile| is_covered(tile, size)) else { return Ok(None) };
    let bytes = replica.bytes(&tile.to_string(), bytes_max(&tile))?;
    Ok(bytes.map(|bytes| Resource { bytes, media_type: BYTES, caching: FOR_EVER }))
}

/// The same in an archive. Disk reads wait here: an archive in a folder is for small installations.
async fn find_archived(replica: &Replica, path: &str) -> Result<Option<Resource>, MirrorError> {
    let source = Source::archive(replica.folder());
    let Found::Bytes(note) = source.get("checkpoint", NOTE_BYTES_MAX).await? else { return Ok(None) };
    if path == "checkpoint" {
        return Ok(Some(Resource { bytes: note, media_type: TEXT, caching: BRIEFLY }));
    }
    let size = std::str::from_utf8(&note).ok().and_then(size_of_note).unwrap_or(0);
    let Some(tile) = TilePath::parse(path).filter(|tile| is_covered(tile, size)) else { return Ok(None) };
    Ok(match source.get(path, bytes_max(&tile)).await? {
        Found::Bytes(bytes) => Some(Resource { bytes, media_type: BYTES, caching: FOR_EVER }),
        Found::Nothing => None,
    })
}

const fn bytes_max(tile: &TilePath) -> usize {
    match tile.level {
        Some(_) => limits::MIRROR_TILE_BYTES_MAX,
        None => limits::MIRROR_BUNDLE_BYTES_MAX,
    }
}

/// Whether a tree of `size` has all that the tile or bundle holds.
fn is_covered(tile: &TilePath, size: u64) -> bool {
    let nodes = size.checked_shr(8 * u32::from(tile.level.unwrap_or(0))).unwrap_or(0);
    let width = tile.width.map_or(WIDTH, u64::from);
    let end = tile.index.checked_mul(WIDTH).and_then(|first| first.checked_add(width));
    end.is_some_and(|end| end <= nodes)
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, TEXT);
    response.headers_mut().insert(header::CACHE_CONTROL, NOT_KEPT);
    response
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    #[test]
    fn only_what_the_checkpoint_covers_is_there() {
        let covered = |path: &str, size| is_covered(&TilePath::parse(path).unwrap(), size);
        for path in ["tile/0/000", "tile/entries/000", "tile/0/001.p/44", "tile/0/001.p/1", "tile/1/000.p/1"]
        {
            assert!(covered(path, 300), "{path}");
        }
        for path in ["tile/0/001", "tile/0/001.p/45", "tile/1/000", "tile/1/000.p/2", "tile/2/000.p/1"] {
            assert!(!covered(path, 300), "{path}");
        }
        assert!(!covered("tile/0/x999/x999/x999/x999/x999/999", u64::MAX));
        assert!(!covered("tile/63/000.p/1", u64::MAX));
    }
}
