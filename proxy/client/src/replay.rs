//! An outbox appended to the ledger: each row once, whatever breaks meanwhile.
//!
//! Rows are sent in order, some hundreds in a call. The call's `Idempotency-Key` is made of the rows themselves, so
//! that the same rows sent again, by this process or a later one, get the same answers. Where the replay stands is kept
//! beside the file after each call. If that is lost, or the calls are cut otherwise, the ledger refuses the ids it has:
//! then its event is fetched and compared with the row. So the ledger decides, and the file beside the input only
//! saves the way.
//!
//! | file | promises |
//! |---|---|
//! | `rows.rs` | rows of a file, bounded, with their lines |
//! | `state.rs` | how far a replay got, kept through a crash |
//! | `compare.rs` | whether an event on the ledger is the row's |

mod compare;
mod rows;
mod state;

use std::path::Path;
use std::time::Duration;

use chancery_format::Hash;
use chancery_format::names::{EventId, IdempotencyKey};
use serde_json::value::RawValue;
use tokio::time::Instant;

pub use self::rows::Row;
use self::rows::{Batch, Rows};
pub use self::state::{Refused, State, write_whole};
use crate::api::EventReply;
use crate::client::Client;
use crate::entropy::jittered;
use crate::error::ClientError;
use crate::limits;
use crate::problem::Problem;

/// How a replay is to be made.
#[derive(Debug, Clone)]
pub struct Options {
    /// Rows of one call, at most.
    pub batch: usize,
    /// How long to go on trying while the service takes nothing.
    pub patience: Duration,
}

/// Why a replay stopped before the end. What it had done is kept, and it can be started again.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The input or the state cannot be read or written. The caller is at fault.
    #[error("{0}")]
    File(String),
    /// The input is not the one that was begun: what was sent already stands there no more.
    #[error(
        "the input was changed before line {0}, where the replay stands; give another --state to begin anew"
    )]
    Changed(u64),
    /// The service took nothing for longer than the caller's patience, or refused the caller as a whole.
    #[error(transparent)]
    Call(#[from] ClientError),
}

/// What is told while a replay runs.
pub trait Watcher {
    /// After each call: how far it is, of so many bytes.
    fn at(&mut self, state: &State, bytes_total: u64);
    /// Before each pause: why, and how long it is.
    fn waits(&mut self, why: &dyn std::fmt::Display, pause: Duration);
}

/// Appends every row of `input` that is not on the ledger yet.
pub async fn replay(
    client: &Client,
    input: &Path,
    state_file: &Path,
    options: &Options,
    watcher: &mut dyn Watcher,
) -> Result<State, ReplayError> {
    let mut state = State::read(state_file)?;
    let (mut rows, bytes_total) = Rows::open(input, &state)?;
    let mut rows_max = options.batch;
    watcher.at(&state, bytes_total);
    while let Some(batch) = rows.next(rows_max)? {
        for refused in &batch.refused {
            state.refuse(refused.clone());
        }
        rows_max = options.batch;
        let mut left: &[Row] = &batch.rows;
        while !left.is_empty() {
            let (now, later) = left.split_at(rows_max.min(left.len()));
            match send(client, now, options, watcher).await? {
                Sent::All(fates) => {
                    for (row, fate) in now.iter().zip(fates) {
                        settle(client, row, fate, options, watcher, &mut state).await?;
                    }
                    left = later;
                }
                // Half as many, until one alone is too large.
                Sent::TooLarge => rows_max = (now.len() / 2).max(1),
            }
        }
        state.advance(&batch);
        state.write(state_file)?;
        watcher.at(&state, bytes_total);
    }
    state.write(state_file)?;
    Ok(state)
}

/// What became of a row in one call.
enum Fate {
    Appended,
    /// An event of this id is there.
    Taken,
    Refused(Problem),
}

enum Sent {
    /// One fate for each row.
    All(Vec<Fate>),
    /// The call as a whole is over a limit.
    TooLarge,
}

/// Sends rows until each is answered for good.
async fn send(
    client: &Client,
    rows: &[Row],
    options: &Options,
    watcher: &mut dyn Watcher,
) -> Result<Sent, ReplayError> {
    let key = key_of(rows)?;
    let items: Vec<&RawValue> = rows.iter().map(|row| &*row.json).collect();
    let mut patience = Patience::new(options);
    loop {
        let why: ClientError = match client.append_batch(&items, &key).await {
            Ok(replies) => match answers(rows, &replies)? {
                Ok(fates) => return Ok(Sent::All(fates)),
                Err(passing) => ClientError::Refused(passing),
            },
            Err(ClientError::Refused(problem)) if problem.status == 413 && rows.len() > 1 => {
                return Ok(Sent::TooLarge);
            }
            // One row that is too large for a call is refused, like one that is too large for the ledger.
            Err(ClientError::Refused(problem)) if problem.status == 413 => {
                return Ok(Sent::All(vec![Fate::Refused(problem)]));
            }
            Err(error) if passes(&error) => error,
            Err(error) => return Err(error.into()),
        };
        patience.wait(why, watcher).await?;
    }
}

/// The answer to each row; the first one that may be another later, if there is one.
fn answers(rows: &[Row], replies: &[Reply]) -> Result<Result<Vec<Fate>, Problem>, ClientError> {
    if replies.len() != rows.len() {
        return Err(ClientError::Reply("its items answer other rows".to_owned()));
    }
    let mut fates = Vec::with_capacity(rows.len());
    for (row, reply) in rows.iter().zip(replies) {
        fates.push(match reply {
            Reply::Appended(id) if *id == row.id => Fate::Appended,
            Reply::Appended(_) => return Err(ClientError::Reply("an item answers another row".to_owned())),
            Reply::Refused(problem) if problem.code == "id-conflict" => Fate::Taken,
            // The rows are those under the key: another request under it cannot be.
            Reply::Refused(problem) if passes_later(problem) => return Ok(Err(problem.clone())),
            Reply::Refused(problem) => Fate::Refused(problem.clone()),
        });
    }
    Ok(Ok(fates))
}

/// One item of a batch's reply.
pub(crate) enum Reply {
    Appended(EventId),
    Refused(Problem),
}

impl<'de> serde::Deserialize<'de> for Reply {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let item = Box::<RawValue>::deserialize(deserializer)?;
        if let Ok(EventReply { id, .. }) = serde_json::from_str(item.get()) {
            return Ok(Self::Appended(id));
        }
        serde_json::from_str(item.get()).map(Self::Refused).map_err(serde::de::Error::custom)
    }
}

async fn settle(
    client: &Client,
    row: &Row,
    fate: Fate,
    options: &Options,
    watcher: &mut dyn Watcher,
    state: &mut State,
) -> Result<(), ReplayError> {
    match fate {
        Fate::Appended => state.appended += 1,
        Fate::Refused(problem) => state.refuse(Refused::by_service(row, &problem)),
        Fate::Taken => match compare_with_ledger(client, row, options, watcher).await? {
            None => state.already_there += 1,
            Some(refused) => state.refuse(refused),
        },
    }
    Ok(())
}

/// Fetches the event of the row's id. `None` if it is the row's.
async fn compare_with_ledger(
    client: &Client,
    row: &Row,
    options: &Options,
    watcher: &mut dyn Watcher,
) -> Result<Option<Refused>, ReplayError> {
    let mut patience = Patience::new(options);
    loop {
        match client.event(&row.id).await {
            Ok(event) => return Ok(compare::differs(row, &event).map(|why| Refused::conflict(row, why))),
            Err(error) if passes(&error) => patience.wait(error, watcher).await?,
            Err(ClientError::Refused(problem)) => {
                let why = format!("the id is on the ledger, and its event cannot be read: {problem}");
                return Ok(Some(Refused::conflict(row, why)));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The same for the same rows, and for no others.
fn key_of(rows: &[Row]) -> Result<IdempotencyKey, ReplayError> {
    let mut parts: Vec<&[u8]> = vec![b"chancery/replay\0"];
    for row in rows {
        parts.extend([row.json.get().as_bytes(), b"\n".as_slice()]);
    }
    let key = format!("replay-{}", Hash::of(&parts)).parse();
    key.map_err(|error| ClientError::Request(format!("{error}")).into())
}

/// Whether the same call may get another answer later.
fn passes(error: &ClientError) -> bool {
    match error {
        ClientError::Unavailable(_) | ClientError::Interrupted(_) | ClientError::Deadline(_) => true,
        ClientError::Refused(problem) => passes_later(problem),
        ClientError::Tls(_) | ClientError::Reply(_) | ClientError::Request(_) => false,
    }
}

fn passes_later(problem: &Problem) -> bool {
    matches!(problem.status, 408 | 429 | 500 | 502 | 503 | 504)
}

/// Waits longer each time, but not for ever.
struct Patience {
    until: Instant,
    pause: Duration,
}

impl Patience {
    fn new(options: &Options) -> Self {
        Self {
            until: Instant::now() + options.patience,
            pause: Duration::from_millis(limits::REPLAY_PAUSE_FIRST_MS),
        }
    }

    /// Pauses, as long as the service says at least; gives `why` back when patience ends.
    async fn wait(&mut self, why: ClientError, watcher: &mut dyn Watcher) -> Result<(), ReplayError> {
        let said = match &why {
            ClientError::Refused(problem) => problem.retry_after_s.map(Duration::from_secs),
            _ => None,
        };
        let pause = jittered(self.pause).max(said.unwrap_or(Duration::ZERO));
        if Instant::now() + pause > self.until {
            return Err(why.into());
        }
        watcher.waits(&why, pause);
        tokio::time::sleep(pause).await;
        self.pause = (self.pause * 2).min(Duration::from_millis(limits::REPLAY_PAUSE_MAX_MS));
        Ok(())
    }
}

impl State {
    fn advance(&mut self, batch: &Batch) {
        self.rows += (batch.rows.len() + batch.refused.len()) as u64;
        self.line = batch.line;
        self.offset = batch.offset;
        self.prefix_sha256 = batch.prefix_sha256.to_hex();
    }
}
