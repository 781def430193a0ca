//! Every metric of the daemon, in one table, each with its help text.

use std::time::Duration;

use chancery_format::SignatureAlgorithm;
use prometheus::core::Collector;
use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use crate::tls::Tls;

/// Upper bounds in seconds, from a cached answer to a device that struggles.
const REQUEST_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// All metrics, in a registry of their own.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    requests_in_flight: IntGauge,
    refusals: IntCounterVec,
    signature_seconds: HistogramVec,
    signature_failures: IntCounterVec,
    connections: IntGauge,
    connections_refused: IntCounterVec,
    handshakes: IntCounter,
    handshake_failures: IntCounterVec,
    handshake_seconds: Histogram,
    connections_closed: IntCounterVec,
    reloads: IntCounterVec,
    certificate_not_after: Gauge,
    crl_next_update: Gauge,
    ledger_entries: IntGauge,
    ledger_queue: IntGauge,
    ledger_open_intents: IntGauge,
    checkpoint_size: IntGauge,
    checkpoint_age: Gauge,
    checkpoint_failures: IntCounter,
    cose_head_failures: IntCounter,
    witnessed_size: IntGauge,
    witnessing_failures: IntCounter,
    heads_failures: IntCounter,
    witness_answers: IntCounterVec,
    device_operations: IntCounterVec,
    device_surplus: IntCounterVec,
    device_log_failures: IntCounterVec,
    archive_lag_entries: IntGauge,
    archive_lag_age: Gauge,
    archive_epochs: IntGauge,
    archive_failures: IntCounter,
    registry_version: IntGauge,
    backend_up: IntGaugeVec,
    backend_queue: IntGaugeVec,
    key_uses_left: IntGaugeVec,
    backend_in_flight: IntGaugeVec,
    halted: IntGauge,
    log_lines_dropped: IntGauge,
    uptime: Gauge,
    ready: IntGauge,
}

struct Builder(Registry);

impl Builder {
    fn add<C: Collector + Clone + 'static>(&self, collector: prometheus::Result<C>) -> C {
        let collector = collector.expect("names and labels are literals of this file, valid and distinct");
        self.0
            .register(Box::new(collector.clone()))
            .expect("names are literals of this file, each used once");
        collector
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.add(IntCounter::new(name, help))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.add(IntGauge::new(name, help))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn gauge_seconds(&self, name: &str, help: &str) -> Gauge {
        self.add(Gauge::new(name, help))
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        self.add(HistogramVec::new(HistogramOpts::new(name, help).buckets(REQUEST_BUCKETS.to_vec()), labels))
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics at zero.
    pub fn new() -> Self {
        let make = Builder(Registry::new());
        let metrics = Self {
            requests: make.counters("chancery_requests_total", "Requests answered, by route and status.", &["route", "status"]),
            request_seconds: make.histograms("chancery_request_duration_seconds", "Time from a request's headers to its reply, by route.", &["route"]),
            requests_in_flight: make.gauge("chancery_requests_in_flight", "Requests under way."),
            refusals: make.counters("chancery_refusals_total", "Requests refused, by problem code.", &["code"]),
            signature_seconds: make.histograms("chancery_signature_duration_seconds", "Time of one key use with its two enrolments, by algorithm.", &["algorithm"]),
            signature_failures: make.counters("chancery_signature_failures_total", "Key uses that gave no signature, by failure code.", &["code"]),
            connections: make.gauge("chancery_connections", "Open connections of the service listener."),
            connections_refused: make.counters("chancery_connections_refused_total", "Connections closed before TLS, by reason.", &["reason"]),
            handshakes: make.counter("chancery_tls_handshakes_total", "TLS handshakes that succeeded."),
            handshake_failures: make.counters("chancery_tls_handshake_failures_total", "TLS handshakes that failed, by reason.", &["reason"]),
            handshake_seconds: make.add(Histogram::with_opts(
                HistogramOpts::new("chancery_tls_handshake_duration_seconds", "Time of one TLS handshake.").buckets(REQUEST_BUCKETS.to_vec()),
            )),
            connections_closed: make.counters("chancery_connections_closed_total", "Connections closed by the daemon, by reason.", &["reason"]),
            reloads: make.counters("chancery_reloads_total", "Reloads of files, by what and result.", &["what", "result"]),
            certificate_not_after: make.gauge_seconds("chancery_server_certificate_not_after_timestamp_seconds", "Unix time at which the server certificate expires."),
            crl_next_update: make.gauge_seconds("chancery_crl_next_update_timestamp_seconds", "Unix time at which the first revocation list goes stale and its authority's clients are refused; 0 without lists."),
            ledger_entries: make.gauge("chancery_ledger_entries", "Leaves of the ledger."),
            ledger_queue: make.gauge("chancery_ledger_queue_depth", "Entries waiting for the ledger's writer."),
            ledger_open_intents: make.gauge("chancery_ledger_open_intents", "Key uses announced and not yet concluded."),
            checkpoint_size: make.gauge("chancery_checkpoint_entries", "Leaves under the latest checkpoint."),
            checkpoint_age: make.gauge_seconds("chancery_checkpoint_age_seconds", "Age of the oldest leaf not under a checkpoint; 0 if there is none."),
            checkpoint_failures: make.counter("chancery_checkpoint_failures_total", "Checkpoints that could not be signed or recorded."),
            cose_head_failures: make.counter("chancery_cose_head_failures_total", "Tree heads that could not be signed for COSE receipts."),
            witnessed_size: make.gauge("chancery_witnessed_entries", "Leaves under the latest checkpoint that enough witnesses cosigned; 0 if none did."),
            witnessing_failures: make.counter("chancery_witnessing_failures_total", "Rounds in which too few witnesses cosigned."),
            heads_failures: make.counter("chancery_heads_failures_total", "Times the heads of streams and keys could not be enrolled."),
            witness_answers: make.counters("chancery_witness_answers_total", "Requests of other logs to cosign, by the status they were answered with.", &["status"]),
            device_operations: make.counters("chancery_device_operations_total", "Key uses that devices themselves recorded.", &["backend"]),
            device_surplus: make.counters("chancery_device_surplus_total", "Key uses by devices that the ledger knows nothing of.", &["backend"]),
            device_log_failures: make.counters("chancery_device_log_failures_total", "Attempts to read a device's own record that failed.", &["backend"]),
            archive_lag_entries: make.gauge("chancery_archive_lag_entries", "Leaves not yet archived."),
            archive_lag_age: make.gauge_seconds("chancery_archive_lag_age_seconds", "Age of the oldest leaf not yet archived; 0 if there is none."),
            archive_epochs: make.gauge("chancery_archive_epochs", "Epochs in the archive."),
            archive_failures: make.counter("chancery_archive_failures_total", "Attempts to archive an epoch that failed."),
            registry_version: make.gauge("chancery_registry_version", "Version of the published signers registry."),
            backend_up: make.gauges("chancery_backend_up", "Whether a backend answers: 1 yes, 0 no.", &["backend"]),
            key_uses_left: make.gauges("chancery_key_uses_left", "Uses left in the life of the key pair behind a name, for names with lifetime_uses. At 0 it must be rotated.", &["kid"]),
            backend_queue: make.gauges("chancery_backend_queue_depth", "Key uses waiting for a backend.", &["backend"]),
            backend_in_flight: make.gauges("chancery_backend_in_flight", "Key uses inside a backend.", &["backend"]),
            halted: make.gauge("chancery_halted", "Whether the kill switch is pulled: 1 yes, 0 no."),
            log_lines_dropped: make.gauge("chancery_log_lines_dropped", "Log lines dropped since the start because standard error was slow."),
            uptime: make.gauge_seconds("chancery_uptime_seconds", "Time since the daemon started."),
            ready: make.gauge("chancery_ready", "Whether every readiness check passes: 1 yes, 0 no."),
            registry: make.0,
        };
        metrics.describe_build();
        metrics
    }

    fn describe_build(&self) {
        let make = Builder(self.registry.clone());
        let info = make.gauges("chancery_build_info", "Version of this build; always 1.", &["version"]);
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    }

    /// The text Prometheus scrapes.
    pub fn render(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }

    /// A request was answered. `route` is a literal from the routing table, never the path itself.
    pub fn request(&self, route: &'static str, status: u16, elapsed: Duration) {
        self.requests.with_label_values(&[route, status_label(status)]).inc();
        self.request_seconds.with_label_values(&[route]).observe(elapsed.as_secs_f64());
    }

    /// Counts a request as under way until the guard is dropped.
    pub fn request_started(&self) -> InFlight {
        self.requests_in_flight.inc();
        InFlight(self.requests_in_flight.clone())
    }

    /// A request was refused with this problem code.
    pub fn refusal(&self, code: &'static str) {
        self.refusals.with_label_values(&[code]).inc();
    }

    /// A key use gave a signature or a MAC.
    pub fn signature(&self, algorithm: SignatureAlgorithm, elapsed: Duration) {
        self.signature_seconds.with_label_values(&[algorithm.as_str()]).observe(elapsed.as_secs_f64());
    }

    /// A key use gave none; `code` is the keyring's failure code.
    pub fn signature_failed(&self, code: &str) {
        self.signature_failures.with_label_values(&[code]).inc();
    }

    /// Counts a connection as open until the guard is dropped.
    pub fn connection_opened(&self) -> InFlight {
        self.connections.inc();
        InFlight(self.connections.clone())
    }

    /// A connection was closed before TLS.
    pub fn connection_refused(&self, reason: &'static str) {
        self.connections_refused.with_label_values(&[reason]).inc();
    }

    /// A connection was closed by us after TLS.
    pub fn connection_closed(&self, reason: &'static str) {
        self.connections_closed.with_label_values(&[reason]).inc();
    }

    /// A handshake succeeded.
    pub fn handshake(&self, elapsed: Duration) {
        self.handshakes.inc();
        self.handshake_seconds.observe(elapsed.as_secs_f64());
    }

    /// A handshake failed.
    pub fn handshake_failed(&self, reason: &'static str) {
        self.handshake_failures.with_label_values(&[reason]).inc();
    }

    /// Files were read again: `what` is `tls`, `grants` or `witness_logs`.
    pub fn reload(&self, what: &'static str, ok: bool) {
        self.reloads.with_label_values(&[what, if ok { "ok" } else { "error" }]).inc();
    }

    /// When the server certificate and the revocation lists now in use run out.
    pub fn tls_files(&self, tls: &Tls) {
        self.certificate_not_after.set(tls.server_not_after_unix_s() as f64);
        self.crl_next_update.set(tls.crl_next_update_unix_s().unwrap_or(0) as f64);
    }

    /// State of the ledger's writer.
    pub fn ledger(&self, entries: u64, queue: usize, open_intents: usize) {
        self.ledger_entries.set(signed(entries));
        self.ledger_queue.set(signed(queue as u64));
        self.ledger_open_intents.set(signed(open_intents as u64));
    }

    /// State of the checkpoints.
    pub fn checkpoint(&self, size: u64, age: Duration) {
        self.checkpoint_size.set(signed(size));
        self.checkpoint_age.set(age.as_secs_f64());
    }

    /// A checkpoint could not be made.
    pub fn checkpoint_failed(&self) {
        self.checkpoint_failures.inc();
    }

    /// A head could not be signed for COSE receipts.
    pub fn cose_head_failed(&self) {
        self.cose_head_failures.inc();
    }

    /// So many leaves are under a witnessed checkpoint.
    pub fn witnessed(&self, size: u64) {
        self.witnessed_size.set(i64::try_from(size).unwrap_or(i64::MAX));
    }

    /// Too few witnesses cosigned.
    pub fn witnessing_failed(&self) {
        self.witnessing_failures.inc();
    }

    /// The heads of streams and keys could not be enrolled.
    pub fn heads_failed(&self) {
        self.heads_failures.inc();
    }

    /// A log that wanted to be cosigned was answered.
    pub fn witness_answered(&self, status: u16) {
        self.witness_answers.with_label_values(&[status_label(status)]).inc();
    }

    /// A device's own record was read: so many key uses, of which so many are without an entry.
    pub fn device_log(&self, backend: &str, operations: u64, surplus: u64) {
        self.device_operations.with_label_values(&[backend]).inc_by(operations);
        self.device_surplus.with_label_values(&[backend]).inc_by(surplus);
    }

    /// A device's own record could not be read.
    pub fn device_log_failed(&self, backend: &str) {
        self.device_log_failures.with_label_values(&[backend]).inc();
    }

    /// State of the archive.
    pub fn archive(&self, epochs: u64, lag_entries: u64, lag_age: Duration) {
        self.archive_epochs.set(signed(epochs));
        self.archive_lag_entries.set(signed(lag_entries));
        self.archive_lag_age.set(lag_age.as_secs_f64());
    }

    /// An epoch could not be archived.
    pub fn archive_failed(&self) {
        self.archive_failures.inc();
    }

    /// A version of the registry was published.
    pub fn registry_published(&self, version: u64) {
        self.registry_version.set(signed(version));
    }

    /// How a configured backend is doing. The name is the operator's, so there are few.
    pub fn backend(&self, name: &str, up: bool, queued: usize, in_flight: usize) {
        self.backend_up.with_label_values(&[name]).set(i64::from(up));
        self.backend_queue.with_label_values(&[name]).set(signed(queued as u64));
        self.backend_in_flight.with_label_values(&[name]).set(signed(in_flight as u64));
    }

    /// Uses left of the key pair behind a name the operator limits.
    pub fn key_uses_left(&self, kid: &str, left: u64) {
        self.key_uses_left.with_label_values(&[kid]).set(signed(left));
    }

    /// Whether the kill switch is pulled.
    pub fn halted(&self, halted: bool) {
        self.halted.set(i64::from(halted));
    }

    /// Lines the log dropped so far.
    pub fn log_lines_dropped(&self, lines: usize) {
        self.log_lines_dropped.set(signed(lines as u64));
    }

    /// Time since the daemon started.
    pub fn uptime(&self, uptime: Duration) {
        self.uptime.set(uptime.as_secs_f64());
    }

    /// Whether every readiness check passes.
    pub fn ready(&self, ready: bool) {
        self.ready.set(i64::from(ready));
    }
}

/// Keeps a gauge raised by one while it lives.
#[derive(Debug)]
pub struct InFlight(IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The statuses the daemon uses, as text that need not be allocated.
fn status_label(status: u16) -> &'static str {
    match status {
        200 => "200",
        201 => "201",
        204 => "204",
        304 => "304",
        400 => "400",
        401 => "401",
        403 => "403",
        404 => "404",
        405 => "405",
        406 => "406",
        408 => "408",
        409 => "409",
        413 => "413",
        414 => "414",
        415 => "415",
        422 => "422",
        429 => "429",
        431 => "431",
        500 => "500",
        503 => "503",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_has_help_and_a_unit_and_counters_end_in_total() {
        let metrics = Metrics::new();
        metrics.request("sign", 200, Duration::from_millis(3));
        metrics.refusal("kid-not-granted");
        metrics.signature(SignatureAlgorithm::Ed25519, Duration::from_millis(1));
        metrics.handshake_failed("revoked");
        metrics.backend("softhsm", true, 0, 0);
        let text = metrics.render();
        let mut names = 0;
        for family in metrics.registry.gather() {
            names += 1;
            let name = family.name().to_owned();
            assert!(name.starts_with("chancery_") && !family.help().is_empty(), "{name}");
            let counter = text.contains(&format!("# TYPE {name} counter"));
            assert_eq!(counter, name.ends_with("_total"), "{name}");
            assert!(!name.contains("_ms") && !name.contains("millis"), "{name}");
        }
        assert!(names > 10);
        assert!(text.contains("chancery_requests_total{route=\"sign\",status=\"200\"} 1"), "{text}");
    }

    #[test]
    fn guards_give_back_what_they_took() {
        let metrics = Metrics::new();
        let one = metrics.request_started();
        let two = metrics.request_started();
        assert!(metrics.render().contains("chancery_requests_in_flight 2"));
        drop((one, two));
        assert!(metrics.render().contains("chancery_requests_in_flight 0"));
    }
}
