//! Asks the ops listener whether the service is ready. Plain HTTP on the operator's own host.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header;
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::error::ClientError;
use crate::limits;

/// What `GET /readyz` said.
#[derive(Debug, Clone)]
pub struct Readiness {
    /// Whether the service takes requests.
    pub ready: bool,
    /// Each check, as JSON.
    pub body: Bytes,
}

/// Asks `http://HOST:PORT/readyz`, once.
pub async fn readiness(ops_url: &str, timeout_ms: u64) -> Result<Readiness, ClientError> {
    let uri: Uri = ops_url.parse().map_err(|_| not_an_address(ops_url))?;
    let authority = match (uri.scheme_str(), uri.authority()) {
        (Some("http"), Some(authority)) if matches!(uri.path(), "" | "/") => authority.clone(),
        _ => return Err(not_an_address(ops_url)),
    };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let asked = ask(&host, authority.port_u16().unwrap_or(9464), authority.as_str());
    match tokio::time::timeout(Duration::from_millis(timeout_ms), asked).await {
        Ok(asked) => asked.map_err(|error| ClientError::Unavailable(format!("{ops_url}: {error}"))),
        Err(_) => Err(ClientError::Deadline(timeout_ms)),
    }
}

fn not_an_address(url: &str) -> ClientError {
    ClientError::Request(format!("{url:?} is not an ops address; write http://HOST:PORT"))
}

async fn ask(
    host: &str,
    port: u16,
    authority: &str,
) -> Result<Readiness, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect((host, port)).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get("/readyz").header(header::HOST, authority).body(Empty::<Bytes>::new())?;
    let (parts, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, limits::REPLY_BYTES_MAX).collect().await?.to_bytes();
    Ok(Readiness { ready: parts.status.is_success(), body })
}
