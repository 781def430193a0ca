//! Asks the witnesses of a policy to cosign a checkpoint (C2SP tlog-witness), as the log itself would.
//!
//! Whoever holds a checkpoint that the log signed, and its tiles, can ask: the log and its keys are not needed. A witness
//! that has seen nothing of the log yet takes it from the start; one that has seen a smaller tree gets the proof from there.
//! One that has seen a larger tree signs no older one: ask with a newer checkpoint.

use chancery_format::checkpoint::VerifiedCheckpoint;
use chancery_format::cosignature::CosignerKey;
use chancery_format::note::Note;
use chancery_format::policy::{Policy, PolicyWitness};
use chancery_format::witness::{ANSWER_BYTES_MAX, AddCheckpoint, WitnessAnswer};
use chancery_format::{Hash, TreeSize};
use serde::Serialize;

use crate::mirror::{MirrorError, Prover, Source, SourceOptions};

/// Times one witness is asked: what it has seen, with the proof from there, and once more if somebody came between.
const ATTEMPTS_MAX: usize = 3;

/// What one witness said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AskedWitness {
    /// Its address.
    pub url: String,
    /// `cosigned`, or why not.
    pub answer: String,
}

/// The checkpoint's note with the lines of all witnesses that cosigned, each verified, and what every witness said.
/// `dial` is how they are reached, whatever its address. One that does not answer does not keep the others from it.
pub(super) async fn ask(
    prover: &mut Prover,
    checkpoint: &VerifiedCheckpoint,
    policy: &Policy,
    dial: &SourceOptions,
) -> Result<(String, Vec<AskedWitness>), MirrorError> {
    let (mut note, mut answers) = (checkpoint.note().to_owned(), Vec::new());
    for (url, keys) in unheard(policy, &note) {
        let answer = match one(prover, checkpoint, &url, &keys, dial).await {
            Ok(lines) => {
                note.extend(lines);
                "cosigned".to_owned()
            }
            Err(Silence::Witness(why)) => why,
            Err(Silence::Log(error)) => return Err(error),
        };
        answers.push(AskedWitness { url, answer });
    }
    Ok((note, answers))
}

/// Addresses with the keys behind them, of witnesses whose line the note does not have. One witness may have several.
fn unheard(policy: &Policy, note: &str) -> Vec<(String, Vec<CosignerKey>)> {
    let lines = Note::parse(note).map(|note| note.signatures).unwrap_or_default();
    let missing = |witness: &&PolicyWitness| !lines.iter().any(|line| witness.key.is_named_by(line));
    let mut found: Vec<(String, Vec<CosignerKey>)> = Vec::new();
    for witness in policy.witnesses().filter(missing) {
        let Some(url) = witness.url.as_deref().and_then(|url| std::str::from_utf8(url).ok()) else {
            continue;
        };
        match found.iter_mut().find(|(known, _)| known == url) {
            Some((_, keys)) => keys.push(witness.key.clone()),
            None => found.push((url.to_owned(), vec![witness.key.clone()])),
        }
    }
    found
}

/// Why there is no cosignature.
enum Silence {
    /// The witness did not give one.
    Witness(String),
    /// The log's tiles could not be read for the proof.
    Log(MirrorError),
}

async fn one(
    prover: &mut Prover,
    checkpoint: &VerifiedCheckpoint,
    url: &str,
    keys: &[CosignerKey],
    dial: &SourceOptions,
) -> Result<Vec<String>, Silence> {
    let says = |why: &dyn std::fmt::Display| Silence::Witness(why.to_string());
    let secure = url.starts_with("https://");
    let options = SourceOptions {
        address: url.trim_end_matches('/').to_owned(),
        ca: dial.ca.clone().filter(|_| secure),
        identity: dial.identity.clone().filter(|_| secure),
        timeout_ms: dial.timeout_ms,
    };
    let witness = Source::open(&options).map_err(|error| says(&error))?;
    let size = checkpoint.head().size;
    let (mut old, mut proof): (TreeSize, Vec<Hash>) = (size, Vec::new());
    for _ in 0..ATTEMPTS_MAX {
        let request = AddCheckpoint::new(old, proof, checkpoint.note()).map_err(|error| says(&error))?;
        let answered = witness.post("add-checkpoint", request.to_body(), ANSWER_BYTES_MAX).await;
        let (status, body) = answered.map_err(|error| says(&error))?;
        let answer = WitnessAnswer::read(status, &body, checkpoint.checkpoint(), keys);
        match answer.map_err(|error| says(&error))? {
            WitnessAnswer::Cosigned(lines) => return Ok(lines.into_iter().map(|(_, line)| line).collect()),
            WitnessAnswer::Stale(seen) if seen < size => {
                proof = prover.consistency(seen, size).await.map_err(Silence::Log)?;
                old = seen;
            }
            WitnessAnswer::Stale(seen) => {
                return Err(says(&format!("it has seen {seen} entries, and signs no older checkpoint")));
            }
            WitnessAnswer::Conflict => return Err(says(&"it has seen another tree of this size")),
            WitnessAnswer::UnknownLog => return Err(says(&"it does not know this log")),
            WitnessAnswer::Inconsistent => return Err(says(&"it has seen another tree")),
            WitnessAnswer::Refused(status) => return Err(says(&format!("it refuses, with status {status}"))),
            WitnessAnswer::SlowDown => return Err(says(&"it is asked too often")),
            WitnessAnswer::Unavailable(status) => return Err(says(&format!("it is away: status {status}"))),
        }
    }
    Err(says(&"others ask it at the same time; ask again"))
}
