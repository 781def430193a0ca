//! The worker threads, and the jobs they do: everything that does not need what came before it.

use std::thread::Scope;

use chancery_format::policy::Policy;
use chancery_format::tile::{self, FullTile, TilePath};
use crossbeam_channel::{Receiver, Sender, bounded};

use super::bundle::{BundleReport, BundleTask, read_bundle, unread};
use super::notes::{SignedHead, read_checkpoint};
use super::signatures::{self, SignatureJob, SignatureReport};
use super::tree::ImpliedTile;
use super::witnessed::{Cosigned, read_witnessed};
use crate::evidence::Evidence;
use crate::findings::{Finding, Kind};
use crate::trust::Trust;

/// Work for any thread.
#[derive(Debug)]
pub(crate) enum Job {
    /// The number in order, and the epoch.
    Checkpoint(u64, u64),
    /// The number in order, and the epoch beside which a cosigned one is.
    Witnessed(u64, u64),
    /// The number in order, and what to read.
    Bundle(u64, BundleTask),
    Tile(ImpliedTile),
    Signatures(SignatureJob),
}

/// Work done.
#[derive(Debug)]
pub(crate) enum Done {
    Checkpoint(u64, u64, Result<SignedHead, Finding>),
    Witnessed(u64, u64, Result<Cosigned, Finding>),
    Bundle(u64, Box<BundleReport>),
    /// Whether it was a partial one, and what is wrong with it.
    Tile(bool, Option<Finding>),
    Signatures(SignatureReport),
    /// A worker panicked: a defect of this program.
    Crashed,
}

/// Both ends of the workers. Never more than `capacity` jobs are given out, so nobody ever waits to send.
pub(crate) struct Pool {
    jobs: Sender<Job>,
    done: Receiver<Done>,
    capacity: usize,
    running: usize,
}

impl Pool {
    /// Starts the threads; they end when the pool is dropped. `is_seen`: entries are noted for a report; `policy`: whose
    /// cosignatures count.
    pub(crate) fn start<'scope, 'env>(
        scope: &'scope Scope<'scope, 'env>,
        threads: usize,
        evidence: &'env dyn Evidence,
        trust: &'env Trust,
        (is_seen, policy): (bool, Option<&'env Policy>),
    ) -> Self {
        let capacity = threads * 2;
        let (jobs, next) = bounded::<Job>(capacity);
        let (finished, done) = bounded(capacity + threads);
        for _ in 0..threads {
            let (next, finished) = (next.clone(), finished.clone());
            scope.spawn(move || work(evidence, trust, (is_seen, policy), &next, &finished));
        }
        Self { jobs, done, capacity, running: 0 }
    }

    /// Most jobs under way.
    pub(crate) const fn capacity(&self) -> u64 {
        self.capacity as u64
    }

    /// Whether a job can be given out at once.
    pub(crate) const fn has_room(&self) -> bool {
        self.running < self.capacity
    }

    /// Whether nothing is under way.
    pub(crate) const fn is_idle(&self) -> bool {
        self.running == 0
    }

    /// Gives out a job; ask [`Pool::has_room`] before.
    pub(crate) fn give(&mut self, job: Job) {
        self.running += 1;
        self.jobs.send(job).expect("workers live as long as the pool");
    }

    /// Waits for the next finished job.
    pub(crate) fn wait(&mut self) -> Done {
        self.running -= 1;
        match self.done.recv().expect("a job is under way, so a worker lives") {
            Done::Crashed => panic!("a worker thread panicked; see above"),
            done => done,
        }
    }
}

/// Tells the waiting thread when this one unwinds, so that it does not wait for ever.
struct CrashNote<'a>(&'a Sender<Done>);

impl Drop for CrashNote<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Nobody left to tell means that nobody waits.
            drop(self.0.send(Done::Crashed));
        }
    }
}

fn work(
    evidence: &dyn Evidence,
    trust: &Trust,
    (is_seen, policy): (bool, Option<&Policy>),
    jobs: &Receiver<Job>,
    done: &Sender<Done>,
) {
    let note = CrashNote(done);
    for job in jobs {
        let result = match job {
            Job::Checkpoint(order, epoch) => {
                Done::Checkpoint(order, epoch, read_checkpoint(evidence, trust, epoch))
            }
            Job::Witnessed(order, epoch) => {
                Done::Witnessed(order, epoch, read_witnessed(evidence, trust, policy, epoch))
            }
            Job::Bundle(order, task) => {
                Done::Bundle(order, Box::new(read_bundle(evidence, trust, task, is_seen)))
            }
            Job::Tile(implied) => {
                let is_partial = width_of(&implied.tile).is_some();
                Done::Tile(is_partial, compare_tile(evidence, &implied))
            }
            Job::Signatures(job) => Done::Signatures(signatures::verify(trust, &job)),
        };
        if done.send(result).is_err() {
            break;
        }
    }
    drop(note);
}

fn width_of(tile: &FullTile) -> Option<u8> {
    u8::try_from(tile.hashes.len()).ok()
}

/// Holds an archived tile above level 0, or a partial one, against what is below it.
fn compare_tile(evidence: &dyn Evidence, implied: &ImpliedTile) -> Option<Finding> {
    let tile = &implied.tile;
    let path = TilePath { level: Some(tile.level), index: tile.index, width: width_of(tile) };
    let name = path.to_string();
    let bytes = match evidence.open(&name, tile::TILE_BYTES) {
        Ok(bytes) => bytes,
        Err(error) => return Some(unread(&name, &error)),
    };
    if bytes == tile::encode_tile(&tile.hashes)
        || implied.other.as_ref().is_some_and(|other| bytes == tile::encode_tile(other))
    {
        return None;
    }
    let message = match tile::decode_tile(&bytes).filter(|hashes| hashes.len() == tile.hashes.len()) {
        None => format!("has {} bytes instead of {}", bytes.len(), tile.hashes.len() * 32),
        Some(hashes) => {
            let what = if tile.level == 0 { "that of its entry" } else { "the root of the tile below it" };
            let differing = hashes.iter().zip(&tile.hashes).position(|(a, b)| a != b).unwrap_or(0);
            format!("hash {differing} is not {what}")
        }
    };
    Some(Finding::file(Kind::TileMismatch, name, message))
}
