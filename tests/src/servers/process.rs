//! A server process that dies with the test, however the test dies.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::error::ServerError;
use super::install::tail;

/// Runs the server and waits for its own standard input to close, which happens when the test process drops
/// it or ends, even by SIGKILL. Then it kills the server with all it started and removes its folder. The
/// server leads a process group of its own, so its id names the group.
const KEEPER: &str = r#"
dir=$1; log=$2; shift 2
setsid "$@" >"$log" 2>&1 </dev/null &
server=$!
echo "$server"
exec >/dev/null 2>&1
# An interrupt at the terminal ends the test, and the keeper by that.
trap '' INT TERM HUP
cat
kill -9 "-$server"
wait "$server"
rm -rf "$dir"
"#;

/// Time a server has to answer; it may share two cores with a build.
const START_SECONDS: u64 = 120;

/// Ports for servers: all below those that Linux hands out by itself, 32768 and up.
const FIRST_PORT: u16 = 10_000;
const PORTS: u32 = 22_000;

/// A running server. Dropping it stops it and removes its data.
#[derive(Debug)]
pub struct Server {
    name: &'static str,
    address: SocketAddr,
    pid: u32,
    keeper: Child,
    input: Option<ChildStdin>,
    log: PathBuf,
}

/// A port nobody listens on, another one each time. Connections and listeners that ask for any port get
/// none of these, so it is still free when its server starts.
pub fn free_port() -> Result<u16, ServerError> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    // Processes that run beside each other begin at different places.
    let first = std::process::id().wrapping_mul(997);
    for _ in 0..PORTS {
        let nth = first.wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        let port = FIRST_PORT.saturating_add(u16::try_from(nth).unwrap_or(0));
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(ServerError::Missing(format!("no port from {FIRST_PORT} on is free")))
}

/// A new folder for a server's data, removed with the server.
pub(crate) fn data_dir(name: &str) -> Result<PathBuf, ServerError> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("chancery-{name}-{}-{count}", std::process::id()));
    std::fs::create_dir_all(&dir).map_err(ServerError::io(format!("making {}", dir.display())))?;
    Ok(dir)
}

impl Server {
    /// Starts `command` with `dir` as its folder. It is up when a GET of `health` on `port` answers 200.
    pub(crate) fn start(
        name: &'static str,
        dir: &Path,
        port: u16,
        health: &str,
        command: &Command,
    ) -> Result<Self, ServerError> {
        Self::start_until(name, dir, port, command, |address| get_status(address, health) == Some(200))
    }

    /// The same; it is up when `is_up` says so.
    pub(crate) fn start_until(
        name: &'static str,
        dir: &Path,
        port: u16,
        command: &Command,
        is_up: impl Fn(SocketAddr) -> bool,
    ) -> Result<Self, ServerError> {
        let log = dir.join("server.log");
        let mut keeper = Command::new("sh");
        keeper.arg("-c").arg(KEEPER).arg("keeper").arg(dir).arg(&log);
        keeper.arg(command.get_program()).args(command.get_args()).current_dir(dir);
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => keeper.env(key, value),
                None => keeper.env_remove(key),
            };
        }
        let mut keeper = keeper
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(ServerError::io(format!("starting {name}")))?;
        let input = keeper.stdin.take();
        let pid =
            read_pid(&mut keeper).ok_or_else(|| ServerError::Missing(format!("{name} did not start")))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let server = Self { name, address, pid, keeper, input, log };
        server.wait_until(is_up)?;
        Ok(server)
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its process, for tests that stop it on purpose.
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    fn wait_until(&self, is_up: impl Fn(SocketAddr) -> bool) -> Result<(), ServerError> {
        let deadline = Instant::now() + Duration::from_secs(START_SECONDS);
        while Instant::now() < deadline && Path::new(&format!("/proc/{}", self.pid)).exists() {
            if is_up(self.address) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        Err(ServerError::NotReady {
            name: self.name,
            seconds: START_SECONDS,
            log: self.log.clone(),
            tail: tail(&text),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // End of input is the keeper's signal; it needs milliseconds, and a test waits no longer than this.
        self.input.take();
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            if !matches!(self.keeper.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn read_pid(keeper: &mut Child) -> Option<u32> {
    let mut line = String::new();
    BufReader::new(keeper.stdout.take()?).read_line(&mut line).ok()?;
    line.trim().parse().ok()
}

/// The status of a plain HTTP GET; `None` if there was no answer.
fn get_status(address: SocketAddr, path: &str) -> Option<u16> {
    let limit = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&address, limit).ok()?;
    stream.set_read_timeout(Some(limit)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).ok()?;
    let text = std::str::from_utf8(&head).ok()?;
    text.strip_prefix("HTTP/1.1 ").or_else(|| text.strip_prefix("HTTP/1.0 "))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_ends_at_once_is_reported_with_its_log_and_leaves_nothing() {
        let dir = data_dir("broken").unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo the reason; exit 7"]);
        let result = Server::start("broken", &dir, free_port().unwrap(), "/", &command);
        match result {
            Err(ServerError::NotReady { tail, .. }) => assert!(tail.contains("the reason"), "{tail}"),
            other => panic!("{other:?}"),
        }
        assert!(!dir.exists());
    }

    #[test]
    fn dropping_a_server_ends_it_and_what_it_started() {
        let dir = data_dir("python").unwrap();
        let port = free_port().unwrap();
        let mut command = Command::new("sh");
        let script = "sleep 600 & echo $! >child; exec python3 -m http.server --bind 127.0.0.1 $1";
        command.args(["-c", script, "sh", &port.to_string()]);
        let server = Server::start("python", &dir, port, "/", &command).unwrap();
        let child = std::fs::read_to_string(dir.join("child")).unwrap();
        let runs = |pid: &str| {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
            // An orphan may wait a moment for its new parent to collect it.
            !stat.is_empty() && !stat.contains(") Z ")
        };
        let pids = [server.pid().to_string(), child];
        assert!(pids.iter().all(|pid| runs(pid)));
        drop(server);
        assert!(!dir.exists());
        // The keeper waits for the server; what the server started dies by the same signal, in its own time.
        let deadline = Instant::now() + Duration::from_secs(5);
        while pids.iter().any(|pid| runs(pid)) {
            assert!(Instant::now() < deadline, "{pids:?} outlive their server");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
