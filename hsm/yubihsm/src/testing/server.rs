//! The connector's HTTP, on a port that can be taken away and given back.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::device::Device;
use crate::wire::MESSAGE_BYTES_MAX;

/// Longest body taken; a message cannot be longer.
const BODY_BYTES_MAX: usize = 2 * MESSAGE_BYTES_MAX;
/// Most header lines of a request.
const HEADERS_MAX: usize = 64;

/// A connector in front of one device.
pub(super) struct Server {
    address: SocketAddr,
    device: Arc<Mutex<Device>>,
    running: Mutex<Option<Running>>,
}

struct Running {
    stopping: Arc<AtomicBool>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
    thread: JoinHandle<()>,
}

impl Server {
    pub(super) fn start(device: Arc<Mutex<Device>>) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let running = Mutex::new(Some(Running::start(listener, Arc::clone(&device))?));
        Ok(Self { address, device, running })
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends every connection and gives the port back; returns when that is done.
    pub(super) fn stop(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(running) = running else { return };
        running.stopping.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for connections.
        let _ = TcpStream::connect(self.address);
        let _ = running.thread.join();
        let connections = running.connections.lock().unwrap_or_else(PoisonError::into_inner);
        for connection in connections.iter() {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Listens on the same port again.
    pub(super) fn resume(&self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        // The system may hold the port for a moment, or lend it to somebody.
        for _ in 0..1000 {
            if running.is_some() {
                return;
            }
            *running = TcpListener::bind(self.address)
                .and_then(|listener| Running::start(listener, Arc::clone(&self.device)))
                .ok();
            if running.is_none() {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Running {
    fn start(listener: TcpListener, device: Arc<Mutex<Device>>) -> std::io::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        let connections = Arc::new(Mutex::new(Vec::new()));
        let (stop, streams) = (Arc::clone(&stopping), Arc::clone(&connections));
        let name = "yubihsm-double".to_owned();
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                if let Ok(copy) = stream.try_clone() {
                    streams.lock().unwrap_or_else(PoisonError::into_inner).push(copy);
                    let device = Arc::clone(&device);
                    // Ends when its connection is shut down.
                    std::thread::spawn(move || serve(stream, &device));
                }
            }
        })?;
        Ok(Self { stopping, connections, thread })
    }
}

/// Answers requests until the connection ends or makes no sense.
fn serve(mut stream: TcpStream, device: &Mutex<Device>) {
    let Ok(copy) = stream.try_clone() else { return };
    let _ = stream.set_nodelay(true);
    let mut reader = BufReader::new(copy);
    while let Some((request, body)) = read_request(&mut reader) {
        let (status, answer) = match request.as_str() {
            "GET /connector/status" => ("200 OK", status()),
            "POST /connector/api" => {
                let mut device = device.lock().unwrap_or_else(PoisonError::into_inner);
                let answer = device.message(&body);
                let own = if device.used_key { device.key_use_delay } else { Duration::ZERO };
                let delay = device.delay + own;
                drop(device);
                std::thread::sleep(delay);
                ("200 OK", answer)
            }
            _ => ("404 Not Found", Vec::new()),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
            answer.len()
        );
        if stream.write_all(&[head.as_bytes(), &answer].concat()).is_err() {
            return;
        }
    }
}

fn status() -> Vec<u8> {
    b"status=OK\nserial=*\nversion=3.0.0\npid=1\naddress=127.0.0.1\nport=12345\n".to_vec()
}

/// Method with path, and body.
fn read_request(reader: &mut impl BufRead) -> Option<(String, Vec<u8>)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let request = line.trim_end().strip_suffix(" HTTP/1.1")?.to_owned();
    let mut length = 0;
    for _ in 0..HEADERS_MAX {
        line.clear();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let header = line.trim_end();
        if header.is_empty() {
            let mut body = vec![0; length];
            reader.read_exact(&mut body).ok()?;
            return Some((request, body));
        }
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok().filter(|length| *length <= BODY_BYTES_MAX)?;
        }
    }
    None
}
