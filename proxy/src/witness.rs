//! Being a witness of other logs: C2SP tlog-witness.
//!
//! Promises: of each log one history only is ever cosigned. What was accepted is on disk before a key is used, one
//! request at a time for each log; a use of the key is an entry of our own ledger before its line leaves, like every
//! other. A log that can show two trees is refused, and what it showed is kept on our ledger as `witness.conflict`.
//! Refuses: logs that neither the configuration nor its list names (`witness/logs.rs`), checkpoints without their
//! signature, more than a list allows (`witness/rate.rs`), everything while halted. Parts of a tree that was cosigned are
//! cosigned too (`witness/subtrees.rs`).
//!
//! Whoever asks needs no certificate: a checkpoint says by its signature whose it is. A checkpoint that was cosigned
//! is answered with the same lines for a while, so that nobody can wear out a key by asking again.

mod logs;
mod memory;
mod rate;
mod subtrees;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chancery_format::canonical::CanonicalJson;
use chancery_format::checkpoint::VerifiedCheckpoint;
use chancery_format::cosignature::{CosignedAt, CosignerKey};
use chancery_format::note::Note;
use chancery_format::witness::{AddCheckpoint, REQUEST_BYTES_MAX, Refusal, TEXT_CONTENT_TYPE, decide};
use chancery_format::{Checkpoint, EventDraft, Hash, Kid, PrincipalName, StreamName};
use futures_util::future::try_join_all;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::task::block_in_place;

use crate::admission::policy::Grants;
use crate::authenticate::Peer;
use crate::chancery::Chancery;
use crate::config::WitnessConfig;
use crate::listener::Handler;
use crate::problem::{Code, Problem};
use crate::request::read_any;
use crate::signing::{Content, OwnUse, make_in_own_right};
use logs::Logs;
pub use logs::LogsError;
use memory::Log;
pub use memory::MemoryError;
use subtrees::Subtrees;

/// Conflicts of one log that are put on our ledger, since the daemon's start: each is proof enough.
const CONFLICTS_MAX: u32 = 16;

/// Why the daemon cannot be a witness. The operator's to fix.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// A key cannot cosign: it is missing, or its name is none.
    #[error("witness: {kid} cannot cosign as {name}")]
    Key {
        /// The key.
        kid: Kid,
        /// The cosigner's name.
        name: PrincipalName,
    },
    /// The name is none of a stream, in which its key uses would stand.
    #[error("witness: {0} cannot name a stream")]
    Name(PrincipalName),
    /// The list of logs, or what was cosigned before, cannot be read.
    #[error(transparent)]
    Logs(#[from] LogsError),
}

/// The witness, with what it knows of each log.
#[derive(Debug)]
pub struct Witness {
    chancery: Arc<Chancery>,
    name: PrincipalName,
    stream: StreamName,
    keys: Vec<(Kid, CosignerKey)>,
    logs: Logs,
    subtrees: Subtrees,
}

/// Hands requests to the witness.
#[derive(Debug, Clone)]
pub struct WitnessHandler(pub Arc<Witness>);

impl Handler for WitnessHandler {
    async fn handle(&self, peer: Peer, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let answer = self.0.answer(&peer, request).await;
        self.0.chancery.metrics.witness_answered(answer.status.as_u16());
        answer.into_response()
    }
}

/// A status, a body and what it is.
struct Answer {
    status: StatusCode,
    content_type: &'static str,
    body: String,
    /// 0 if asking again is no use, or needs no waiting.
    retry_after_s: u64,
}

impl Answer {
    fn text(status: StatusCode, body: impl Into<String>) -> Self {
        Self { status, content_type: TEXT_CONTENT_TYPE, body: body.into(), retry_after_s: 0 }
    }

    fn refusal(refusal: &Refusal) -> Self {
        let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
        Self { content_type: refusal.content_type(), ..Self::text(status, refusal.body()) }
    }

    /// More than the log's allowance, for that long.
    fn too_often(wait: Duration) -> Self {
        Self { retry_after_s: wait.as_secs().saturating_add(1), ..Self::refusal(&Refusal::TooOften) }
    }

    /// We cannot, now: halted, too busy, a device that is away. The log should ask again.
    fn unavailable(problem: &Problem) -> Self {
        if let Some(cause) = problem.cause() {
            tracing::error!(cause, code = problem.code().as_str(), "nothing could be cosigned");
        }
        let body = format!("{}\n", problem.code().as_str());
        Self { retry_after_s: 1, ..Self::text(StatusCode::SERVICE_UNAVAILABLE, body) }
    }

    fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(self.body)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.retry_after_s > 0 {
            headers.insert(RETRY_AFTER, HeaderValue::from(self.retry_after_s));
        }
        response
    }
}

impl Witness {
    /// Reads what was cosigned before; makes the folder if there is none.
    pub fn open(chancery: Arc<Chancery>, config: &WitnessConfig) -> Result<Self, WitnessError> {
        let name = &config.name;
        let keys = config.kids.iter().map(|kid| {
            let info = chancery.keyring.lookup(kid);
            let public = info.and_then(|info| info.public_key.clone());
            let key = public.and_then(|public| CosignerKey::new(name.as_str(), public).ok());
            let bad = || WitnessError::Key { kid: kid.clone(), name: name.clone() };
            Ok((kid.clone(), key.ok_or_else(bad)?))
        });
        let keys = keys.collect::<Result<Vec<_>, WitnessError>>()?;
        let logs = Logs::open(config)?;
        for (_, key) in &keys {
            tracing::info!(vkey = key.vkey(), logs = logs.count(), "cosigning as a witness");
        }
        Ok(Self {
            chancery,
            name: name.clone(),
            stream: name.as_str().parse().map_err(|_| WitnessError::Name(name.clone()))?,
            keys,
            logs,
            subtrees: Subtrees::default(),
        })
    }

    /// Reads the list of logs again, if there is one and it changed, or in any case. What does not load does not replace
    /// what did.
    pub async fn reload(&self, forced: bool) {
        let Some(read) = self.logs.reload(forced).await else { return };
        self.chancery.metrics.reload("witness_logs", read.is_ok());
        match read {
            Ok(logs) => tracing::info!(logs, "the list of logs to cosign was read again"),
            Err(error) => {
                tracing::error!(%error, "the list of logs to cosign was not read again: the old one stays in force");
            }
        }
    }

    async fn answer(&self, peer: &Peer, request: Request<Incoming>) -> Answer {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path();
        match (&parts.method, path) {
            (&Method::POST, "/add-checkpoint" | "/sign-subtree") => {
                let within = self.chancery.limits.body_timeout;
                match read_any(&parts.headers, body, REQUEST_BYTES_MAX, within).await {
                    Ok(body) if path == "/sign-subtree" => self.sign_subtree(peer, &body).await,
                    Ok(body) => self.add_checkpoint(peer, &body).await,
                    Err(error) => Answer::text(Problem::from(error).status(), "the body cannot be read\n"),
                }
            }
            (&Method::GET, path) => self.newest(path).await,
            _ => Answer::text(
                StatusCode::NOT_FOUND,
                "POST /add-checkpoint or /sign-subtree, or GET /ORIGIN-SHA256/checkpoint\n",
            ),
        }
    }

    /// `GET /<hex SHA-256 of the origin>/checkpoint`: the newest that was cosigned, with our lines.
    async fn newest(&self, path: &str) -> Answer {
        let asked = path.strip_prefix('/').and_then(|path| path.strip_suffix("/checkpoint"));
        let note = match asked.and_then(|asked| self.logs.named(asked)) {
            Some(log) => log.lock().await.note().map(str::to_owned),
            None => None,
        };
        match note {
            Some(note) => Answer::text(StatusCode::OK, note),
            None => Answer::text(StatusCode::NOT_FOUND, "no such log, or nothing of it was cosigned\n"),
        }
    }

    async fn add_checkpoint(&self, peer: &Peer, body: &[u8]) -> Answer {
        let request = match AddCheckpoint::parse(body) {
            Ok(request) => request,
            Err(error) => return Answer::refusal(&error.into()),
        };
        let Some(log) = self.logs.of_origin(request.origin().as_str()) else {
            return Answer::refusal(&Refusal::UnknownLog);
        };
        // Held to the end: what is known, the decision and what is stored are one step.
        let mut log = log.lock().await;
        let accepted = match decide(&request, Some(log.known()).filter(|_| log.is_cosigned())) {
            Ok(accepted) => accepted,
            Err(refusal) => {
                if refusal == Refusal::Consistency {
                    self.tell_conflict(&mut log, &request).await;
                }
                return Answer::refusal(&refusal);
            }
        };
        if let Some(lines) = log.lines_of(accepted.head()) {
            return Answer::text(StatusCode::OK, lines);
        }
        if log.known().latest != Some(accepted.head())
            && let Err(wait) = log.allowance().take_checkpoint(Instant::now())
        {
            return Answer::too_often(wait);
        }
        if let Err(error) = block_in_place(|| log.accept(&accepted)) {
            return Answer::unavailable(&Problem::internal(error));
        }
        match self.cosign(peer, &accepted).await {
            Ok(lines) => {
                // A monitor that asks meanwhile is shown the checkpoint without them; the log gets them in any case.
                if let Err(error) = block_in_place(|| log.cosigned(&accepted, &lines, Instant::now())) {
                    tracing::error!(%error, "cosignatures could not be kept for monitors");
                }
                Answer::text(StatusCode::OK, lines)
            }
            Err(problem) => Answer::unavailable(&problem),
        }
    }

    /// One line by each key.
    async fn cosign(&self, peer: &Peer, checkpoint: &VerifiedCheckpoint) -> Result<String, Problem> {
        let at = CosignedAt::from(self.chancery.now());
        let head = checkpoint.head();
        let lines = self.keys.iter().map(|(kid, key)| {
            let message = key.message(checkpoint.checkpoint(), at);
            let about =
                json!({ "origin": checkpoint.origin(), "root": head.root.to_hex(), "size": head.size.0 });
            self.line(peer, (kid, key), message, about, at)
        });
        Ok(try_join_all(lines).await?.concat())
    }

    /// A line over this message; `about` stands in the entry of the key's use.
    async fn line(
        &self,
        peer: &Peer,
        (kid, cosigner): (&Kid, &CosignerKey),
        message: Vec<u8>,
        about: Value,
        at: CosignedAt,
    ) -> Result<String, Problem> {
        let chancery = &self.chancery;
        let key = chancery.key(kid).ok_or_else(|| Problem::internal("a witness without its key"))?;
        let policy = chancery.admission.policy().sha256();
        let rule = format!("witness {}", self.name);
        let own = OwnUse {
            grants: Grants::of_one_act(self.name.clone(), kid, rule, policy).map_err(Problem::internal)?,
            request_id: chancery.new_request_id(),
            idempotency_key: None,
            slot: chancery.slot().ok_or_else(|| Problem::plain(Code::Overloaded))?,
            source: peer.remote().ip(),
        };
        let made = make_in_own_right(chancery, own, key, Content::Message(message), &about).await?;
        let signature = chancery_format::entry::decode_base64(&made.signature);
        let signature = signature.ok_or_else(|| Problem::internal("a signature that is no base64"))?;
        cosigner.line(at, &signature).map_err(Problem::internal)
    }

    /// Keeps what is not shown to continue what the log had shown before. Another root of the same size is proof against
    /// the log, whoever brought it; a larger tree with a proof that fails may be somebody else's mischief with the log's
    /// own checkpoint.
    async fn tell_conflict(&self, log: &mut Log, request: &AddCheckpoint) {
        let known = log.known().latest;
        let shown = Note::parse(request.note()).ok().and_then(|note| Checkpoint::parse(note.text));
        let Some(shown) = shown.map(|shown| shown.head()).filter(|shown| known != Some(*shown)) else {
            return;
        };
        tracing::error!(
            origin = log.origin(),
            "a log gave a checkpoint that is not proven to continue the last one"
        );
        if !log.counts_conflict(CONFLICTS_MAX) {
            return;
        }
        let payload = json!({
            "certain": known.is_some_and(|known| known.size == shown.size),
            "note": request.note(),
            "noteSha256": Hash::of(&[request.note().as_bytes()]).to_hex(),
            "old": request.old().0,
            "origin": log.origin(),
            "proof": request.proof().iter().map(Hash::to_hex).collect::<Vec<_>>(),
            "knownRoot": known.map(|head| head.root.to_hex()),
            "knownSize": known.map_or(0, |head| head.size.0),
        });
        let draft = CanonicalJson::parse(payload.to_string().as_bytes()).ok().and_then(|payload| {
            Some(EventDraft {
                event_type: "witness.conflict".parse().ok()?,
                actor: self.name.clone(),
                stream: self.stream.clone(),
                payload,
                id: None,
                ts: None,
                manifest_signature_id: None,
                metadata: None,
            })
        });
        let Some(draft) = draft else { return };
        if let Err(error) = self.chancery.roll.enrol_event(draft, None).await {
            tracing::error!(%error, "the conflict could not be put on the ledger");
        }
    }
}
