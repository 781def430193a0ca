//! One JSON object per line on standard error, written by a thread of its own.

use std::io::{BufWriter, Write};
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Layer as _, fmt};

use crate::config::LogLevel;

/// Keeps the log's thread alive; what is queued is written when this is dropped.
#[derive(Debug)]
pub struct LogGuard {
    dropped: ErrorCounter,
    _worker: WorkerGuard,
}

impl LogGuard {
    /// Lines lost so far because standard error was slower than we were.
    pub fn dropped_lines(&self) -> usize {
        self.dropped.dropped_lines()
    }
}

/// Lines that waited together are written together, up to so many bytes; the log's thread flushes as soon
/// as its queue is empty.
const WRITE_BYTES: usize = 64 << 10;

/// Sends every line of this process to standard error. At most `lines_max` lines wait; further ones are
/// dropped and counted, so that a stuck log pipe cannot stop signing.
///
/// A second call in one process changes nothing but returns a guard of its own.
pub fn start(level: LogLevel, lines_max: usize) -> LogGuard {
    let (guard, subscriber) = subscriber(std::io::stderr(), level, lines_max);
    // Fails only if a subscriber is installed already, which then goes on.
    let _ = tracing::subscriber::set_global_default(subscriber);
    guard
}

fn subscriber<W: Write + Send + 'static>(
    sink: W,
    level: LogLevel,
    lines_max: usize,
) -> (LogGuard, impl tracing::Subscriber + Send + Sync) {
    let builder =
        NonBlockingBuilder::default().buffered_lines_limit(lines_max).lossy(true).thread_name("log");
    let (writer, worker) = builder.finish(BufWriter::with_capacity(WRITE_BYTES, sink));
    let guard = LogGuard { dropped: writer.error_counter(), _worker: worker };
    let lines = fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_writer(writer)
        .with_filter(filter(level));
    (guard, tracing_subscriber::registry().with(lines))
}

/// Ours at the level asked for; libraries only when something is wrong, and the TLS and HTTP libraries,
/// whose lines may quote what a peer sent, never.
fn filter(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    let quiet = ["rustls", "tokio_rustls", "hyper", "hyper_util", "h2"];
    Targets::new()
        .with_default(LevelFilter::WARN.min(level))
        .with_targets(quiet.map(|library| (library, LevelFilter::OFF)))
        .with_target("chancery", level)
}

/// What is said of a request, once, when it was answered. There is no field for a digest, a payload or a
/// signature: who asked and what was asked never stand in one line.
#[derive(Debug, Clone, Copy)]
pub struct RequestLine<'a> {
    /// Correlates with the reply's `x-request-id` and with leaves.
    pub request_id: &'a str,
    /// Route, from the routing table.
    pub route: &'static str,
    /// HTTP status.
    pub status: u16,
    /// Time from the headers to the reply.
    pub elapsed: Duration,
    /// Problem code, if refused.
    pub code: Option<&'static str>,
    /// Who asked, if known.
    pub principal: Option<&'a str>,
    /// The key asked for, if granted.
    pub kid: Option<&'a str>,
}

impl RequestLine<'_> {
    /// Writes the line.
    pub fn write(&self) {
        let ms = self.elapsed.as_secs_f64() * 1_000.0;
        tracing::info!(
            target: "chancery::request",
            request_id = self.request_id,
            route = self.route,
            status = self.status,
            ms = (ms * 1_000.0).round() / 1_000.0,
            code = self.code,
            principal = self.principal,
            kid = self.kid,
            "request"
        );
    }
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a failed unwrap is the test's failure"
    )]
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn lines(level: LogLevel, write: impl FnOnce()) -> Vec<serde_json::Value> {
        let sink = Sink::default();
        let (guard, subscriber) = subscriber(sink.clone(), level, 128);
        tracing::subscriber::with_default(subscriber, write);
        drop(guard);
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_request_is_one_flat_object() {
        let lines = lines(LogLevel::Info, || {
            RequestLine {
                request_id: "r-1",
                route: "sign",
                status: 403,
                elapsed: Duration::from_micros(1500),
                code: Some("kid-not-granted"),
                principal: Some("spiffe://demo.example/service/orders"),
                kid: None,
            }
            .write();
        });
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["status"], 403);
        assert_eq!(lines[0]["ms"], 1.5);
        assert_eq!(lines[0]["code"], "kid-not-granted");
        assert_eq!(lines[0]["level"], "INFO");
        assert!(lines[0].get("kid").is_none());
    }

    #[test]
    fn libraries_that_quote_peers_are_silent_and_levels_hold() {
        let lines = lines(LogLevel::Warn, || {
            tracing::error!(target: "rustls::conn", "peer said something");
            tracing::info!(target: "chancery::request", "too quiet");
            tracing::warn!(target: "chancery_proxy::tls", "heard");
        });
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["message"], "heard");
    }
}
