//! C2SP tlog-witness: how a log asks a witness to cosign, and how a witness decides.
//!
//! `POST …/add-checkpoint` carries the size the witness should have seen last, a consistency proof from
//! there, and the checkpoint. The witness' decision is [`decide`], a function of the request and of what the
//! witness has stored, and nothing else: the caller must hold the stored state still from before the decision
//! until the new head is stored, and must store it before it signs and answers. `POST …/sign-subtree` asks for a
//! cosignature over a part of a tree that was cosigned: [`decide_subtree`] needs nothing stored, since it goes by
//! the witness' own line on the checkpoint.
//!
//! Readers of requests refuse every second spelling. Readers of answers ([`WitnessAnswer::read`]) are as
//! lenient as deployed witnesses make necessary, except where a cosignature is concerned. Answers that are not
//! understood are never taken for a cosignature.

use crate::checkpoint::{Checkpoint, CheckpointError, VerifiedCheckpoint};
use crate::cosignature::{Cosignature, CosignerKey, cosignatures};
use crate::entry::{decode_base64, encode_base64};
use crate::hash::{Hash, TreeHead, TreeSize};
use crate::log_key::LogKey;
use crate::merkle::{TREE_SIZE_MAX, empty_root, verify_consistency};
use crate::names::Origin;
use crate::note::{Note, NoteError};

mod subtree;
#[cfg(test)]
mod tests;

pub use subtree::{SignSubtree, decide_subtree};

/// Most hashes of a consistency proof: one for each level of a tree of 2^63 leaves.
pub const PROOF_HASHES_MAX: usize = 63;
/// Largest request, in bytes: 63 hashes and a checkpoint with sixteen ML-DSA-44 signatures fit four times.
pub const REQUEST_BYTES_MAX: usize = 256 * 1024;
/// Largest answer read, in bytes: sixteen ML-DSA-44 cosignatures fit.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Content type of an answer that tells the size last cosigned.
pub const SIZE_CONTENT_TYPE: &str = "text/x.tlog.size";
/// Content type of all others.
pub const TEXT_CONTENT_TYPE: &str = "text/plain; charset=utf-8";

/// Why a request to cosign could not be made or read. Whoever made it is at fault; retrying cannot help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Larger than [`REQUEST_BYTES_MAX`].
    #[error("request is larger than 256 KiB")]
    TooLarge,
    /// Not an old size, at most 63 hashes, an empty line and a checkpoint, each in its one spelling. A checkpoint
    /// with extension lines is none: some cosignatures do not cover them.
    #[error("not an add-checkpoint request")]
    Malformed,
    /// A proof from the empty tree: there is nothing to prove.
    #[error("consistency proof from size 0 is not empty")]
    ProofFromEmpty,
}

/// A request to cosign a checkpoint; nothing in it is proven until [`decide`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    old: TreeSize,
    proof: Vec<Hash>,
    claimed: Checkpoint,
    note: String,
}

impl AddCheckpoint {
    /// A request for `note`, with the proof from the tree of `old` leaves to the note's.
    pub fn new(old: TreeSize, proof: Vec<Hash>, note: &str) -> Result<Self, RequestError> {
        if old.0 == 0 && !proof.is_empty() {
            return Err(RequestError::ProofFromEmpty);
        }
        let text = Note::parse(note).map_err(|_| RequestError::Malformed)?.text;
        let claimed = Checkpoint::parse(text).ok_or(RequestError::Malformed)?;
        if proof.len() > PROOF_HASHES_MAX || old.0 > TREE_SIZE_MAX {
            return Err(RequestError::Malformed);
        }
        let request = Self { old, proof, claimed, note: note.to_owned() };
        if request.to_body().len() > REQUEST_BYTES_MAX { Err(RequestError::TooLarge) } else { Ok(request) }
    }

    /// Reads a request's body.
    pub fn parse(body: &[u8]) -> Result<Self, RequestError> {
        if body.len() > REQUEST_BYTES_MAX {
            return Err(RequestError::TooLarge);
        }
        let bad = RequestError::Malformed;
        let body = std::str::from_utf8(body).map_err(|_| bad)?;
        let (head, note) = body.split_once("\n\n").ok_or(bad)?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| line.strip_prefix("old ")).and_then(decimal).ok_or(bad)?;
        let proof = lines.map(hash_line).take(PROOF_HASHES_MAX + 1).collect::<Option<_>>().ok_or(bad)?;
        Self::new(TreeSize(old), proof, note)
    }

    /// The request's body.
    pub fn to_body(&self) -> String {
        let hashes: String = self.proof.iter().map(|hash| encode_base64(&hash.0) + "\n").collect();
        format!("old {}\n{hashes}\n{}", self.old, self.note)
    }

    /// What the witness should have cosigned last; 0 if nothing.
    pub const fn old(&self) -> TreeSize {
        self.old
    }

    /// The consistency proof.
    pub fn proof(&self) -> &[Hash] {
        &self.proof
    }

    /// The checkpoint's note.
    pub fn note(&self) -> &str {
        &self.note
    }

    /// The origin the checkpoint claims, by which the witness finds what it knows of the log.
    pub const fn origin(&self) -> &Origin {
        self.claimed.origin()
    }
}

/// Decimal digits without leading zeros.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| number.to_string() == text)
}

/// One hash in base64.
pub(crate) fn hash_line(line: &str) -> Option<Hash> {
    Some(Hash(decode_base64(line)?.try_into().ok()?))
}

/// What a witness knows of one log.
#[derive(Debug, Clone)]
pub struct WitnessedLog {
    /// Its name.
    pub origin: Origin,
    /// Keys of that name whose checkpoints are its own.
    pub keys: Vec<LogKey>,
    /// What was cosigned last; `None` if nothing ever was.
    pub latest: Option<TreeHead>,
}

/// Why a witness does not cosign, as it tells the log. Worth another try are [`Refusal::Stale`], with a proof
/// from the size it names, and [`Refusal::TooOften`], later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a request, not a checkpoint, or one with extension lines, which some cosignatures do not cover.
    #[error("malformed request")]
    Malformed,
    /// The old size is above the checkpoint's.
    #[error("old size is above the checkpoint's")]
    OldAboveNew,
    /// No signature by a key of the log, or one by such a key that does not verify.
    #[error("no valid signature of the log")]
    Signature,
    /// A log this witness does not know.
    #[error("unknown log")]
    UnknownLog,
    /// The old size is not the one last cosigned, which this is.
    #[error("last cosigned at size {0}")]
    Stale(TreeSize),
    /// The range is none of a subtree of the checkpoint's tree.
    #[error("not a subtree of the checkpoint")]
    Subtree,
    /// The checkpoint bears no valid cosignature of this witness.
    #[error("no valid cosignature of this witness on the checkpoint")]
    NotCosigned,
    /// Asked more often than the log may. Wait.
    #[error("asked too often")]
    TooOften,
    /// The checkpoint is not shown to continue the one last cosigned: a wrong or superfluous proof, another
    /// root at the same size, a wrong root of the empty tree. A log that can give no right proof has shown two
    /// trees; the request is worth keeping.
    #[error("consistency is not proven")]
    Consistency,
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::TooLarge | RequestError::Malformed => Self::Malformed,
            RequestError::ProofFromEmpty => Self::Consistency,
        }
    }
}

impl Refusal {
    /// HTTP status.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Malformed | Self::OldAboveNew | Self::Subtree => 400,
            Self::Signature | Self::NotCosigned => 403,
            Self::UnknownLog => 404,
            Self::Stale(_) => 409,
            Self::Consistency => 422,
            Self::TooOften => 429,
        }
    }

    /// HTTP content type.
    pub const fn content_type(&self) -> &'static str {
        match self {
            Self::Stale(_) => SIZE_CONTENT_TYPE,
            _ => TEXT_CONTENT_TYPE,
        }
    }

    /// HTTP body.
    pub fn body(&self) -> String {
        match self {
            Self::Stale(size) => format!("{size}\n"),
            other => format!("{other}\n"),
        }
    }
}

/// Whether a witness that knows `log` (of the request's origin; `None` if it knows none) cosigns. If it does,
/// the caller stores the checkpoint's head as the log's latest, and only then signs and answers 200 with the
/// lines of its cosignatures.
pub fn decide(request: &AddCheckpoint, log: Option<&WitnessedLog>) -> Result<VerifiedCheckpoint, Refusal> {
    let log = log.filter(|log| *request.origin() == log.origin).ok_or(Refusal::UnknownLog)?;
    let checkpoint =
        Checkpoint::verify_by_any(&request.note, &log.origin, &log.keys).map_err(|error| match error {
            CheckpointError::Note(NoteError::NoKnownSignature | NoteError::BadSignature) => {
                Refusal::Signature
            }
            _ => Refusal::Malformed,
        })?;
    let head = checkpoint.head();
    if request.old > head.size {
        return Err(Refusal::OldAboveNew);
    }
    let latest = log.latest.unwrap_or_else(|| TreeHead { size: TreeSize(0), root: empty_root() });
    if request.old != latest.size {
        return Err(Refusal::Stale(latest.size));
    }
    verify_consistency(&latest, &head, &request.proof).map_err(|_| Refusal::Consistency)?;
    Ok(checkpoint)
}

/// What a witness answered, as the log takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WitnessAnswer {
    /// Cosignatures by known keys, at least one, each with its line as it stands below the note.
    Cosigned(Vec<(Cosignature, String)>),
    /// It cosigned this size last: below, equal to or above ours. Ask again with a proof from there; if it is
    /// above what we have signed, we lost our memory or somebody else has our key.
    Stale(TreeSize),
    /// It holds another tree than ours at that size, or says nothing more: OmniWitness answers so for another
    /// root at the same size. A proof will not help; tell an operator.
    Conflict,
    /// It does not know our log (litewitness says so by [`WitnessAnswer::Refused`] with 403).
    UnknownLog,
    /// It does not accept the proof.
    Inconsistent,
    /// It refuses the request: 400 for its shape, 403 for its signature.
    Refused(u16),
    /// It is asked too often: wait before the next request, of whatever kind.
    SlowDown,
    /// Any other status: it is away or not a witness. Retry later.
    Unavailable(u16),
}

/// Why an answer is none. The witness is at fault; the request may be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// Larger than [`ANSWER_BYTES_MAX`], or not signature lines.
    #[error("witness' answer is not signature lines")]
    Malformed,
    /// None of the given keys cosigned.
    #[error("witness' answer has no cosignature by a known key")]
    NoKnownKey,
    /// A given key's cosignature does not verify.
    #[error("witness' cosignature does not verify")]
    BadSignature,
}

impl WitnessAnswer {
    /// Reads an answer to a request for `checkpoint` from the witness with these keys. Content types are not
    /// looked at: not every witness sets them.
    pub fn read(
        status: u16,
        body: &[u8],
        checkpoint: &Checkpoint,
        keys: &[CosignerKey],
    ) -> Result<Self, AnswerError> {
        Ok(match status {
            200 => Self::Cosigned(read_lines(body, checkpoint, keys)?),
            404 => Self::UnknownLog,
            409 => std::str::from_utf8(body)
                .ok()
                .and_then(|body| decimal(body.trim_ascii()))
                .map_or(Self::Conflict, |size| Self::Stale(TreeSize(size))),
            422 => Self::Inconsistent,
            400 | 403 => Self::Refused(status),
            429 => Self::SlowDown,
            _ => Self::Unavailable(status),
        })
    }
}

/// The lines by known keys. Their order is kept; lines by others are left out.
fn read_lines(
    body: &[u8],
    checkpoint: &Checkpoint,
    keys: &[CosignerKey],
) -> Result<Vec<(Cosignature, String)>, AnswerError> {
    let bad = AnswerError::Malformed;
    let lines = std::str::from_utf8(body).ok().filter(|body| body.len() <= ANSWER_BYTES_MAX).ok_or(bad)?;
    // A note read this way ends its text where the answer begins, if the answer has no empty line.
    let note = format!("{}\n{lines}", checkpoint.text());
    let parsed = Note::parse(&note).ok().filter(|note| note.text == checkpoint.text()).ok_or(bad)?;
    let found = cosignatures(&parsed, checkpoint, keys).map_err(|error| match error {
        NoteError::BadSignature => AnswerError::BadSignature,
        _ => bad,
    })?;
    if found.is_empty() {
        return Err(AnswerError::NoKnownKey);
    }
    let line_of = |key: &CosignerKey| {
        let at = parsed.signatures.iter().position(|line| key.is_named_by(line))?;
        lines.split_inclusive('\n').nth(at).map(str::to_owned)
    };
    found.into_iter().map(|(key, found)| Some((found, line_of(key)?))).collect::<Option<_>>().ok_or(bad)
}
