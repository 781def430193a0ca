//! Every bound of this crate, with its unit and reason.

use std::time::Duration;

/// Bytes of one object. A full bundle of the largest leaves is under 17 MB; a single PutObject could carry
/// 5 GB, but objects are compared in memory.
pub const OBJECT_BYTES_MAX: usize = 64 << 20;
/// Bytes of a whole key, prefix included: S3's own limit.
pub const KEY_BYTES_MAX: usize = 1024;
/// Days of retention. AWS accepts up to 100 years.
pub const RETENTION_DAYS_MAX: u32 = 36_500;
/// Versions of the one replaced name that are listed to find the newest: more than markers and uploads of an attacker
/// may stand above it, the whole page of an honest store is one.
pub const LATEST_VERSIONS_READ: i32 = 16;
/// Entries of one page of a version listing: S3's own limit.
pub const PAGE_ENTRIES: i32 = 1000;
/// Pages read to see all versions of one name. More means that someone floods the name.
pub const VERSION_PAGES_MAX: usize = 100;
/// Versions of one name that are compared byte for byte. More than one is already an alarm.
pub const VERSIONS_COMPARED_MAX: usize = 16;
/// Pages one listing of names may read beyond those its names need: room for versions laid on top.
pub const LIST_PAGES_EXTRA: usize = 100;
/// Names of one listing.
pub const LIST_NAMES_MAX: usize = 10_000;
/// By how much a lock may be shorter than the server's time of writing plus the retention. Covers a clock
/// that is a little slow; a slower one gives locks that are too short, which is an error.
pub const CLOCK_SLACK: Duration = Duration::from_secs(3600);
/// Alarms kept for whoever asks; older ones have been logged.
pub const ALARMS_KEPT: usize = 64;
