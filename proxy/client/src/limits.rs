//! Every bound of the client, with unit and reason.

/// Largest reply body read, in bytes: a batch of 1,000 replies with whole receipts fits.
pub const REPLY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// HTTP/1.1 connections kept open while idle. More than this many callers at once is HTTP/2's job.
pub const IDLE_CONNECTIONS_MAX: usize = 64;

/// Time for TCP and TLS together, in milliseconds. A service on the same network answers in a few.
pub const CONNECT_TIMEOUT_MS: u64 = 5_000;

/// Time for a whole call with all its attempts, in milliseconds. Above the service's own deadline for a
/// slow device, so that the service answers first and says why.
pub const CALL_TIMEOUT_MS: u64 = 30_000;

/// Attempts of one call, the first included.
pub const ATTEMPTS_MAX: u32 = 5;

/// First pause between attempts, in milliseconds; doubles each time. Each pause is drawn between half of
/// it and all of it, so that callers who lost the same service do not come back together.
pub const BACKOFF_FIRST_MS: u64 = 50;

/// Longest pause between attempts, in milliseconds.
pub const BACKOFF_MAX_MS: u64 = 2_000;

/// How often an idle HTTP/2 connection is probed, in milliseconds, and how long the probe may take: a
/// peer that vanished is noticed before the next call needs it.
pub const KEEP_ALIVE_INTERVAL_MS: u64 = 15_000;
/// See [`KEEP_ALIVE_INTERVAL_MS`].
pub const KEEP_ALIVE_TIMEOUT_MS: u64 = 10_000;

/// Largest file accepted as a certificate, key or CA bundle, in bytes.
pub const PEM_BYTES_MAX: u64 = 1024 * 1024;

/// Port of the service where a URL names none.
pub const SERVICE_PORT: u16 = 8443;

/// Port of the listener for people where a URL names none.
pub const ADMIN_PORT: u16 = 8444;

/// Pause between questions whether something has happened yet, in milliseconds: a person watches, and the answer
/// costs the service next to nothing.
pub const POLL_MS: u64 = 1_000;

/// How long a rotation is waited for unless told otherwise, in seconds. Approvers may take longer; then ask again.
pub const WAIT_SECONDS: u64 = 900;

/// Most pages of the audit trail one command reads; each has 200 events. The next position is told.
pub const AUDIT_PAGES_MAX: usize = 500;

/// Local connections an agent serves at once.
pub const AGENT_CONNECTIONS_MAX: usize = 1_024;

/// Largest body an agent hands on, in bytes: the service takes no larger batch.
pub const AGENT_BODY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How long a local connection may take for the head of its next request, and for its body, in milliseconds.
pub const AGENT_IDLE_MS: u64 = 60_000;

/// How long an agent tries one request unless told otherwise, in milliseconds: a service restarts within seconds.
pub const AGENT_PATIENCE_MS: u64 = 15_000;

/// Longest pause between two of its attempts, in milliseconds: callers wait meanwhile.
pub const AGENT_BACKOFF_MAX_MS: u64 = 500;

/// How long an agent that was told to stop answers what is under way, in milliseconds.
pub const AGENT_DRAIN_MS: u64 = 10_000;

/// Largest part read of the kernel's table of connections, in bytes: some 50,000 of them.
pub const SOCKET_TABLE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Longest row of an outbox, in bytes: a leaf of 65,535 bytes, escaped and indented, fits many times.
pub const REPLAY_ROW_BYTES_MAX: u64 = 1024 * 1024;

/// Bytes of rows after which a call takes no more; with the last row, below what the service reads.
pub const REPLAY_BATCH_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Refused rows of an outbox that are listed; the rest is counted.
pub const REPLAY_REFUSED_LISTED: usize = 1_000;

/// First and longest pause of a replay whose service takes nothing, in milliseconds; doubles each time.
pub const REPLAY_PAUSE_FIRST_MS: u64 = 200;
/// See [`REPLAY_PAUSE_FIRST_MS`].
pub const REPLAY_PAUSE_MAX_MS: u64 = 10_000;

/// New entries that a monitor proves and tells in one round: they are held until the proof is whole.
pub const MONITOR_ENTRIES_MAX: usize = 100_000;

/// How long the program of a monitor may take for one entry, in milliseconds.
pub const MONITOR_EXEC_MS: u64 = 60_000;

/// Resources of a log that a mirror fetches at once: a log of others is asked politely.
pub const MIRROR_FETCHES_MAX: usize = 8;

/// Largest hash tile of a log, in bytes: 256 hashes.
pub const MIRROR_TILE_BYTES_MAX: usize = 256 * 32;

/// Largest entry bundle of a log, in bytes: 256 entries of 65,535 bytes, each with its length.
pub const MIRROR_BUNDLE_BYTES_MAX: usize = 256 * (2 + 65_535);

/// Longest pause between two tries for one resource of a log, in milliseconds, whatever the log asks for.
pub const MIRROR_PAUSE_MAX_MS: u64 = 10_000;

/// Connections a served mirror holds at once; more wait.
pub const MIRROR_CONNECTIONS_MAX: usize = 256;

/// How long a connection to a served mirror may take for the head of its next request, in milliseconds.
pub const MIRROR_IDLE_MS: u64 = 15_000;

/// How long one connection to a served mirror is kept at all, in milliseconds: whoever reads slowly holds no slot for
/// ever. Clients dial again.
pub const MIRROR_CONNECTION_MS: u64 = 300_000;

/// Findings of a check that are listed; the rest is counted.
pub const MIRROR_FINDINGS_LISTED: usize = 1_000;

/// Bundles of entries that are searched for the one that published a registry: a million entries from the last index the
/// registry names. The ledger publishes at once; who waited longer says where it stands.
pub const REGISTRY_SEARCH_BUNDLES_MAX: u64 = 4_096;
