//! The worker: the process the vendor's module runs in.
//!
//! Started by the daemon with a socket as its standard input, it first puts up the fence of
//! [`sandbox`], then loads the module, then serves requests, one thread per session. It reads the PIN
//! itself. It ends when the socket closes or the daemon dies. What it writes for people goes to standard
//! error, which the daemon passes on to its log.

mod der;
mod failure;
mod key;
mod module;
mod pin;
mod provision;
mod public_key;
mod sandbox;
mod session;
mod token;

use std::fs::File;
use std::io::{Error, Result, Write as _};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use chancery_format::entry::KeyUse;
use chancery_hsm::{SESSIONS_MAX, SignerError};
use crossbeam_channel::{Receiver, bounded};
use rustix::process::{Signal, getpid, kill_process};

use crate::limits::{GOODBYE_TIME, NICENESS, OPEN_TIME};
use crate::message::{Reply, Request, Setup};
use crate::wire::{bad, read_frame, write_frame};
use token::Token;

/// Runs a worker until its daemon closes the socket. Only the daemon starts one.
pub fn run() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("PKCS#11 worker: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// A line for the daemon's log.
fn say(line: &str) {
    // Nobody left to tell if this fails.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The socket's writing side.
struct Output(Mutex<UnixStream>);

impl Output {
    fn tell(&self, id: u64, reply: &Reply) {
        let (kind, fields) = reply.encode();
        let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A daemon that no longer listens closes its side, too, which ends this process.
        let _ = write_frame(&mut *stream, id, kind, &fields);
    }
}

fn serve() -> Result<()> {
    let mut input = take_socket()?;
    let output = Arc::new(Output(Mutex::new(input.try_clone()?)));
    let Some(first) = read_frame(&mut input)? else { return Ok(()) };
    let Request::Setup(setup) = Request::decode(&first)? else {
        return Err(bad("the first request is not a set-up"));
    };
    go_first();
    let report = sandbox::put_up(&setup);
    let token = match load(&setup) {
        Ok(token) => Arc::new(token),
        Err(error) => {
            output.tell(first.id, &Reply::Failed(error));
            return Ok(());
        }
    };
    output.tell(first.id, &Reply::Ready(report));
    let (jobs, queue) = bounded::<Job>(SESSIONS_MAX);
    for number in 0..setup.sessions {
        let (queue, output, token, setup) =
            (Receiver::clone(&queue), Arc::clone(&output), Arc::clone(&token), setup.clone());
        let serve = move || serve_jobs(&queue, &output, &token, &setup);
        std::thread::Builder::new().name(format!("session-{number}")).spawn(serve)?;
    }
    while let Some(frame) = read_frame(&mut input)? {
        let request = Request::decode(&frame)?;
        jobs.send(Job { id: frame.id, request, since: Instant::now() })
            .map_err(|_| bad("no thread is left"))?;
    }
    leave(token);
    Ok(())
}

/// The socket that is our standard input. Afterwards the module finds nothing to read there.
fn take_socket() -> Result<UnixStream> {
    let socket = UnixStream::from(rustix::stdio::stdin().try_clone_to_owned()?);
    socket.peer_addr().map_err(|_| Error::other("is started by chanceryd, not by hand"))?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(socket)
}

/// When processors are short, a device goes first: everything else waits for it anyway. Where the kernel
/// does not let us (see `LimitNICE` in the daemon's unit), all take turns.
fn go_first() {
    let _ = rustix::process::setpriority_process(None, NICENESS);
}

fn load(setup: &Setup) -> std::result::Result<Token, SignerError> {
    catch_unwind(|| Token::new(setup))
        .map_err(|_| SignerError::Panicked)?
        .map_err(|failure| failure.when_opening())
}

/// A request and when it came: its time runs while it waits.
struct Job {
    id: u64,
    request: Request,
    since: Instant,
}

fn serve_jobs(queue: &Receiver<Job>, output: &Output, token: &Token, setup: &Setup) {
    while let Ok(Job { id, request, since }) = queue.recv() {
        let before = token.pin.refused();
        // Nothing of ours is left half changed: a session of a panicked call is never used again.
        let reply = catch_unwind(AssertUnwindSafe(|| answer(id, request, since, output, token, setup)));
        let reply = reply.unwrap_or_else(|_| {
            Reply::Failed(SignerError::Unavailable {
                cause: "the PKCS#11 worker panicked".to_owned(),
                key_use: KeyUse::Unknown,
            })
        });
        if let Some(version) = token.pin.refused().filter(|now| Some(*now) != before) {
            output.tell(id, &Reply::PinRefused(version));
        }
        output.tell(id, &reply);
    }
}

fn answer(id: u64, request: Request, since: Instant, output: &Output, token: &Token, setup: &Setup) -> Reply {
    let failed = Reply::Failed;
    let made =
        |result: std::result::Result<(), _>| result.map_or_else(Reply::NotProvisioned, |()| Reply::Done);
    match request {
        Request::Setup(_) => failed(SignerError::WrongInput),
        Request::WarmUp(time) => {
            token.warm_up(since + time.min(OPEN_TIME)).map_or_else(failed, |()| Reply::Done)
        }
        Request::OpenKey(address) => match token.open_key(&address) {
            Ok(key) => Reply::Key(key.map(|key| key.spki_der().to_vec())),
            Err(error) => failed(error),
        },
        Request::Sign(address, input, time) => {
            let witness = |succeeded| {
                output.tell(id, if succeeded { &Reply::Succeeded } else { &Reply::Started });
            };
            let signed = key::sign(token, &address, input.borrow(), since + time, &witness);
            signed.map_or_else(failed, Reply::Signed)
        }
        Request::Probe(opened, time) => {
            token.probe(&opened, since + time).map_or_else(failed, |()| Reply::Done)
        }
        Request::Generate(label, shape) => made(provision::generate_key(token, &label, shape)),
        Request::InitToken { label, so_pin, user_pin } => {
            made(provision::init_token(&setup.module_file, &label, so_pin, user_pin))
        }
        Request::TryFence(file) => Reply::Fence(sandbox::try_fence(&file)),
    }
}

/// Closes what is open, for devices that count sessions, but not for long. Destructors of a module are
/// not trusted to come to an end.
fn leave(token: Arc<Token>) {
    let (done, finished) = bounded::<()>(1);
    let close = move || {
        token.close();
        drop(done);
    };
    if std::thread::Builder::new().spawn(close).is_ok() {
        let _ = finished.recv_timeout(GOODBYE_TIME);
    }
    let _ = kill_process(getpid(), Signal::KILL);
}
