//! One pass over all rows: read on this thread, checked on others, taken in again in order.
//!
//! At most so many batches are under way, so memory is that of the links and no more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::Scope;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::check::{Checked, Checker, Counts, Task};
use super::detect::{Detected, detect};
use super::links::{Link, Links};
use super::rows::{About, Batch, RowsError, Source};
use super::signers::Signers;
use super::{Options, window::Window};
use crate::findings::Findings;
use chancery_format::chain::canonical::Mode;
use chancery_format::chain::dialect::Dialect;

/// What the pass came to.
#[derive(Debug, Default)]
pub(super) struct Passed {
    pub(super) detected: Option<Detected>,
    pub(super) rows: u64,
    pub(super) counts: Counts,
    pub(super) findings: Findings,
    pub(super) links: Links,
    /// What is known of each source besides its rows.
    pub(super) about: Vec<About>,
}

/// Reads and checks all sources.
pub(super) fn pass(sources: &[Source], signers: &Signers, options: &Options) -> Result<Passed, RowsError> {
    let skipped = skipped(sources, options.window)?;
    std::thread::scope(|scope| {
        let passed = Passed::default();
        let mut pass = Pass { scope, signers, options, skipped, workers: None, ordinal: 0, passed };
        for source in sources {
            let about = pass.read(source)?;
            pass.passed.about.push(about);
        }
        Ok(pass.passed)
    })
}

/// The pass as far as it has come.
struct Pass<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    signers: &'env Signers,
    options: &'env Options,
    skipped: u64,
    /// Started when it is known who wrote.
    workers: Option<Workers>,
    /// Rows read.
    ordinal: u64,
    passed: Passed,
}

impl Pass<'_, '_> {
    fn read(&mut self, source: &Source) -> Result<About, RowsError> {
        let file: Arc<str> = source.name().into();
        self.passed.links.begin(&file);
        let mut first = 1;
        let about = source.read(&mut |batch| {
            let rows = batch.len() as u64;
            let ordinal = self.ordinal;
            let (workers, passed) = self.workers_for(&batch);
            workers.give(Task { batch, first, ordinal, file: Arc::clone(&file) }, passed)?;
            first += rows;
            self.ordinal += rows;
            Ok(())
        })?;
        // Rows of the next file are counted from 1 again, so this one's must all be in.
        if let Some(workers) = &mut self.workers {
            workers.finish(&mut self.passed)?;
        }
        Ok(about)
    }

    /// The workers; with the first batch it is found out what they look for.
    fn workers_for(&mut self, batch: &Batch) -> (&mut Workers, &mut Passed) {
        let workers = self.workers.get_or_insert_with(|| {
            let detected = detect(batch, self.options.dialect, self.options.mode);
            let writer = detected.writer;
            self.passed.detected = Some(detected);
            Workers::start(self.scope, writer, self.signers, self.options, self.skipped)
        });
        (workers, &mut self.passed)
    }
}

/// How many rows of files come before the last so many that were asked for. A database finds that out itself.
fn skipped(sources: &[Source], window: Window) -> Result<u64, RowsError> {
    let Some(limit) = window.limit else { return Ok(0) };
    if sources.iter().any(|source| matches!(source, Source::Database(_))) {
        return Ok(0);
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut last = std::collections::VecDeque::new();
    let mut ordinal = 0u64;
    let mut count = |batch: &Batch| {
        for row in batch.rows() {
            if window.holds_row(row) {
                last.push_back(ordinal);
                if last.len() > limit {
                    last.pop_front();
                }
            }
            ordinal += 1;
        }
    };
    for source in sources {
        source.read(&mut |batch| {
            count(&batch);
            Ok(())
        })?;
    }
    Ok(last.front().copied().unwrap_or(ordinal))
}

/// Threads that check, and what they have not told yet.
struct Workers {
    tasks: Sender<(u64, Task)>,
    done: Receiver<Result<(u64, Checked), Crashed>>,
    capacity: u64,
    given: u64,
    /// Batches taken in.
    taken: u64,
    /// Those that were done before their turn.
    early: BTreeMap<u64, Checked>,
}

/// A worker panicked: a defect of this program.
struct Crashed;

impl Workers {
    fn start<'scope, 'env>(
        scope: &'scope Scope<'scope, 'env>,
        writer: (Dialect, Mode),
        signers: &'env Signers,
        options: &'env Options,
        skipped: u64,
    ) -> Self {
        let threads = match options.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let capacity = threads * 2;
        let (tasks, next) = bounded::<(u64, Task)>(capacity);
        let (finished, done) = bounded(capacity + threads);
        for _ in 0..threads {
            let (next, finished) = (next.clone(), finished.clone());
            scope.spawn(move || {
                let note = CrashNote(&finished);
                let mut checker = Checker::new(writer, signers, options, skipped);
                for (order, task) in next {
                    if finished.send(Ok((order, checker.check(&task)))).is_err() {
                        break;
                    }
                }
                drop(note);
            });
        }
        Self { tasks, done, capacity: capacity as u64, given: 0, taken: 0, early: BTreeMap::new() }
    }

    fn give(&mut self, task: Task, passed: &mut Passed) -> Result<(), RowsError> {
        while self.given - self.taken >= self.capacity {
            self.take(passed)?;
        }
        self.tasks.send((self.given, task)).expect("workers live as long as this sender");
        self.given += 1;
        Ok(())
    }

    fn finish(&mut self, passed: &mut Passed) -> Result<(), RowsError> {
        while self.taken < self.given {
            self.take(passed)?;
        }
        Ok(())
    }

    /// Waits for a batch, and takes in those whose turn it is.
    fn take(&mut self, passed: &mut Passed) -> Result<(), RowsError> {
        match self.done.recv().expect("a batch is under way, so a worker lives") {
            Ok((order, checked)) => drop(self.early.insert(order, checked)),
            Err(Crashed) => panic!("a worker thread panicked; see above"),
        }
        while let Some(checked) = self.early.remove(&self.taken) {
            self.taken += 1;
            passed.take(checked)?;
        }
        Ok(())
    }
}

impl Passed {
    fn take(&mut self, checked: Checked) -> Result<(), RowsError> {
        self.rows += checked.rows;
        self.counts.add(checked.counts);
        self.findings.extend(checked.findings);
        let chains: Vec<u32> = checked.chains.iter().map(|name| self.links.chain(name)).collect();
        let chain_of =
            |link: Link| chains.get(link.chain as usize).map(|chain| Link { chain: *chain, ..link });
        checked.links.into_iter().try_for_each(|link| self.links.add(link.and_then(chain_of)))
    }
}

/// Tells the waiting thread when this one unwinds, so that it does not wait for ever.
struct CrashNote<'a>(&'a Sender<Result<(u64, Checked), Crashed>>);

impl Drop for CrashNote<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Nobody left to tell means that nobody waits.
            drop(self.0.send(Err(Crashed)));
        }
    }
}
