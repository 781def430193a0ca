//! Every bound of this crate, with its unit and reason.

use std::time::Duration;

/// Bytes of a frame between the daemon and its worker: the longest message of a MAC a caller may send
/// (64 MiB in a batch, 4 MiB alone) with room for names.
pub(crate) const FRAME_BYTES_MAX: usize = 4 * 1024 * 1024 + 64 * 1024;

/// Time the worker may take to sandbox itself and load the module, without touching a token.
pub(crate) const SETUP_TIME: Duration = Duration::from_secs(30);

/// Time opening a token or a key may take.
pub(crate) const OPEN_TIME: Duration = Duration::from_secs(30);

/// Time the worker may take to generate a key: RSA 4096 in a small chip takes minutes.
pub(crate) const GENERATE_TIME: Duration = Duration::from_secs(300);

/// A request the worker has been at for longer than this is stuck, and the worker is killed. Above any
/// honest signature; the keyring refuses new requests of a stuck device before that.
pub(crate) const STUCK_AFTER: Duration = Duration::from_secs(30);

/// How often the worker is looked at for being stuck.
pub(crate) const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// First wait before a worker that ended is started again after the first, immediate start; doubles.
pub(crate) const RESTART_WAIT_MIN: Duration = Duration::from_millis(100);

/// Longest of those waits; service must be back within two seconds of the device's return.
pub(crate) const RESTART_WAIT_MAX: Duration = Duration::from_secs(1);

/// A worker that lived this long was well: the next start after it is immediate again.
pub(crate) const WELL_AFTER: Duration = Duration::from_secs(5);

/// How often one request is handed to a new worker because the last one ended before beginning it.
pub(crate) const HAND_OVERS_MAX: usize = 8;

/// Time a worker that was told to end may take to close its sessions.
pub(crate) const GOODBYE_TIME: Duration = Duration::from_millis(500);

/// The worker's niceness: some nine turns of a processor for one of an ordinary process, so that a module
/// that computes in software is not slowed by the requests that wait for it, nor can it take all.
pub(crate) const NICENESS: i32 = -10;

/// Bytes kept of one line the module or the worker writes; the rest is cut.
pub(crate) const LOG_LINE_BYTES_MAX: usize = 400;

/// Such lines that reach our log per [`LOG_PERIOD`]; the rest are counted.
pub(crate) const LOG_LINES_MAX: usize = 50;

/// See [`LOG_LINES_MAX`].
pub(crate) const LOG_PERIOD: Duration = Duration::from_secs(10);

/// Bytes of a PKCS#11 URI: several times anything an operator would write.
pub(crate) const URI_BYTES_MAX: usize = 2048;
