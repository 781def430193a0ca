//! `chanceryd` as a child process.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{STEP_MAX, World, binary, wait_for};

/// A running daemon. Dropping it kills it, by its process id.
pub struct Daemon {
    child: Child,
    ops_port: u16,
    log: PathBuf,
}

impl Daemon {
    /// Starts the daemon and waits until it is ready.
    pub fn start(world: &World) -> Self {
        let mut daemon = Self::spawn(world);
        let ops_port = daemon.ops_port;
        wait_for("daemon ready", || {
            if let Some(status) = daemon.child.try_wait().unwrap() {
                panic!("chanceryd ended with {status}: {}", daemon.log_tail());
            }
            (get(ops_port, "/readyz")?.0 == 200).then_some(())
        });
        daemon
    }

    /// Starts the daemon without waiting.
    pub fn spawn(world: &World) -> Self {
        Self::spawn_with(world, &[])
    }

    /// The same with more variables.
    pub fn spawn_with(world: &World, variables: &[(&str, &str)]) -> Self {
        let log = world.path("daemon.log");
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let child = Command::new(binary("chanceryd"))
            .args(["run", "--config"])
            .arg(world.config_file())
            .envs(world.environment())
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Self { child, ops_port: world.ops_port, log }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The processes it started, whichever of its threads did; proc(5).
    pub fn children(&self) -> Vec<u32> {
        let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", self.pid())) else { return Vec::new() };
        let lists = threads.flatten().map(|thread| std::fs::read_to_string(thread.path().join("children")));
        let lists: Vec<String> = lists.map(Result::unwrap_or_default).collect();
        lists.iter().flat_map(|list| list.split_whitespace()).map(|pid| pid.parse().unwrap()).collect()
    }

    /// Status and body of a GET on the ops listener; `None` if it does not answer.
    pub fn ops(&self, path: &str) -> Option<(u16, String)> {
        get(self.ops_port, path)
    }

    /// A value of `/metrics`; of a metric without labels.
    pub fn metric(&self, name: &str) -> u64 {
        let (_, text) = self.ops("/metrics").expect("the ops listener answers");
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }

    /// SIGKILL, and wait until it is gone.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// SIGTERM, and how it ended.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for it to end by itself, bounded.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + STEP_MAX;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "chanceryd does not end: {}", self.log_tail());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Last lines of its log.
    pub fn log_tail(&self) -> String {
        tail(&self.log)
    }

    /// Highest resident memory since the last call, in KiB.
    pub fn peak_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        // proc(5): 5 starts the peak anew.
        std::fs::write(format!("/proc/{}/clear_refs", self.pid()), "5").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// CPU time used so far, user and system.
    pub fn cpu(&self) -> Duration {
        cpu_of(self.pid())
    }
}

/// CPU time a process used so far, user and system; proc(5).
pub fn cpu_of(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second())
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _gone = self.child.kill();
            let _gone = self.child.wait();
        }
    }
}

/// Last 4 KiB of a file.
pub fn tail(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&text[text.len().saturating_sub(4_096)..]).into_owned()
}

/// Plain HTTP GET on loopback.
pub fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split_whitespace().nth(1)?.parse().ok()?, body.to_owned()))
}
