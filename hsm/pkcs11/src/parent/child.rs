//! One worker, from its start to its end, and the requests it has under way.

use std::collections::HashMap;
use std::io::{Error, Result};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chancery_hsm::SignerError;

use super::counters::Counters;
use super::log;
use crate::config::Launch;
use crate::limits::SETUP_TIME;
use crate::message::{PinVersion, Reply, Request, Setup};
use crate::sandbox_report::SandboxReport;
use crate::wire::{bad, read_frame, write_frame};

/// How a request ended that got no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Died {
    /// Whether the worker had said that it uses the key now.
    pub(crate) started: bool,
}

struct Waiting {
    answer: SyncSender<std::result::Result<Reply, Died>>,
    since: Instant,
    limit: Duration,
    started: bool,
    label: Option<String>,
}

/// A running worker.
pub(crate) struct Child {
    pub(crate) pid: u32,
    pub(crate) born: Instant,
    pub(crate) sandbox: SandboxReport,
    writer: Mutex<UnixStream>,
    /// `None` once the worker is gone.
    waiting: Mutex<Option<HashMap<u64, Waiting>>>,
    next_id: AtomicU64,
    gone: AtomicBool,
}

/// What a worker's replies are noted in.
#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) counters: Counters,
    pub(crate) pin_refused: Mutex<Option<PinVersion>>,
}

/// Why a worker did not come up.
pub(crate) fn no_start(error: &Error) -> SignerError {
    SignerError::unavailable(format!("the PKCS#11 worker does not start: {error}"))
}

/// Starts a worker and waits until it has loaded the module. The thread that calls this must outlive the
/// worker: the kernel ends a worker with the thread that started it.
pub(crate) fn start(
    name: &str,
    launch: &Launch,
    setup: &Setup,
) -> std::result::Result<(std::process::Child, Child, UnixStream), SignerError> {
    let (mut process, stream) = spawn(name, launch).map_err(|error| no_start(&error))?;
    match shake_hands(&stream, setup) {
        Ok(Reply::Ready(sandbox)) => match Child::new(process.id(), sandbox, &stream) {
            Ok(child) => Ok((process, child, stream)),
            Err(error) => end(&mut process, no_start(&error)),
        },
        Ok(Reply::Failed(error)) => end(&mut process, error),
        Ok(_) => end(&mut process, no_start(&bad("it gave another answer than was asked for"))),
        Err(error) => end(&mut process, no_start(&error)),
    }
}

fn end<T>(process: &mut std::process::Child, error: SignerError) -> std::result::Result<T, SignerError> {
    let _ = process.kill();
    let _ = process.wait();
    Err(error)
}

fn spawn(name: &str, launch: &Launch) -> Result<(std::process::Child, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    // One pipe for both, because a module that prints must not be able to speak for the worker.
    let (lines, write_lines) = std::io::pipe()?;
    let program = match &launch.program {
        Some(program) => program.clone(),
        None => std::env::current_exe()?,
    };
    let passed =
        std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(|name| launch.passes(name)));
    let mut command = Command::new(program);
    command
        .args(&launch.args)
        .env_clear()
        .envs(passed)
        .envs(launch.environment.iter().map(|(name, value)| (name, value)))
        .current_dir("/")
        // A terminal's Ctrl-C is for the daemon, which lets requests under way end first.
        .process_group(0)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(write_lines.try_clone()?)
        .stderr(write_lines);
    let process = command.spawn()?;
    drop(command); // it holds the other ends
    let backend = name.to_owned();
    std::thread::Builder::new()
        .name(format!("p11-log-{name}"))
        .spawn(move || log::pass_on(&backend, lines))?;
    Ok((process, ours))
}

fn shake_hands(mut stream: &UnixStream, setup: &Setup) -> Result<Reply> {
    stream.set_read_timeout(Some(SETUP_TIME))?;
    let (kind, fields) = Request::Setup(Box::new(setup.clone())).encode();
    write_frame(&mut stream, 0, kind, &fields)?;
    let frame = read_frame(&mut stream)?.ok_or_else(|| bad("it ended before it was ready"))?;
    stream.set_read_timeout(None)?;
    Reply::decode(&frame)
}

impl Child {
    fn new(pid: u32, sandbox: SandboxReport, stream: &UnixStream) -> Result<Self> {
        Ok(Self {
            pid,
            born: Instant::now(),
            sandbox,
            writer: Mutex::new(stream.try_clone()?),
            waiting: Mutex::new(Some(HashMap::new())),
            next_id: AtomicU64::new(1),
            gone: AtomicBool::new(false),
        })
    }

    /// Asks and waits for the answer, or for the worker's end, whichever comes: a worker that does
    /// neither within `limit` is killed by its supervisor.
    pub(crate) fn ask(
        &self,
        request: &Request,
        label: Option<&str>,
        limit: Duration,
    ) -> std::result::Result<Reply, Died> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = sync_channel(1);
        let waiting =
            Waiting { answer, since: Instant::now(), limit, started: false, label: label.map(str::to_owned) };
        match self.lock().as_mut() {
            Some(all) => drop(all.insert(id, waiting)),
            None => return Err(Died { started: false }),
        }
        let (kind, fields) = request.encode();
        let written = {
            let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
            write_frame(&mut *writer, id, kind, &fields)
        };
        if written.is_err() {
            self.hang_up(Shutdown::Both); // the reader then ends everything that waits, this included
        }
        answered.recv().unwrap_or(Err(Died { started: true }))
    }

    /// Reads replies until the worker ends; what still waits then is told so.
    pub(crate) fn listen(&self, mut stream: UnixStream, notes: &Notes) {
        let end = loop {
            match read_frame(&mut stream)
                .and_then(|frame| frame.map(|it| Ok((it.id, Reply::decode(&it)?))).transpose())
            {
                Ok(Some((id, reply))) => self.hear(id, reply, notes),
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        if let Some(error) = end {
            tracing::debug!(pid = self.pid, %error, "the PKCS#11 worker's last words are incomplete");
        }
        let _ = stream.shutdown(Shutdown::Both);
        self.gone.store(true, Ordering::Release);
        let left = self.lock().take();
        for waiting in left.into_iter().flat_map(HashMap::into_values) {
            let _ = waiting.answer.try_send(Err(Died { started: waiting.started }));
        }
    }

    fn hear(&self, id: u64, reply: Reply, notes: &Notes) {
        let mut all = self.lock();
        let Some(all) = all.as_mut() else { return };
        match reply {
            Reply::Started => {
                if let Some(waiting) = all.get_mut(&id) {
                    waiting.started = true;
                    waiting.label.iter().for_each(|label| notes.counters.started(label));
                }
            }
            Reply::Succeeded => {
                let label = all.get(&id).and_then(|waiting| waiting.label.as_ref());
                label.into_iter().for_each(|label| notes.counters.succeeded(label));
            }
            Reply::PinRefused(version) => {
                *notes.pin_refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(version);
            }
            reply => {
                if let Some(waiting) = all.remove(&id) {
                    let used = waiting.label.as_ref().filter(|_| matches!(reply, Reply::Signed(_)));
                    used.into_iter().for_each(|label| notes.counters.succeeded(label));
                    let _ = waiting.answer.try_send(Ok(reply));
                }
            }
        }
    }

    /// Whether the socket's other end is closed.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Whether a request takes longer than it may.
    pub(crate) fn is_stuck(&self) -> bool {
        let all = self.lock();
        all.iter().flat_map(HashMap::values).any(|waiting| waiting.since.elapsed() > waiting.limit)
    }

    /// Closing the writing side asks the worker to end.
    pub(crate) fn hang_up(&self, how: Shutdown) {
        let _ = self.writer.lock().unwrap_or_else(PoisonError::into_inner).shutdown(how);
    }

    fn lock(&self) -> MutexGuard<'_, Option<HashMap<u64, Waiting>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the thread that listens to a worker and calls `ended` at its end.
pub(crate) fn listen(
    name: &str,
    child: &Arc<Child>,
    stream: UnixStream,
    notes: &Arc<Notes>,
    ended: impl FnOnce() + Send + 'static,
) -> Result<()> {
    let (child, notes) = (Arc::clone(child), Arc::clone(notes));
    let listen = move || {
        child.listen(stream, &notes);
        ended();
    };
    std::thread::Builder::new().name(format!("p11-{name}")).spawn(listen).map(|_| ())
}
