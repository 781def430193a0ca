//! A place for write-once objects, outside the reach of whoever owns this machine's disk.
//!
//! Names come from `chancery_format::archive`. Nothing is ever overwritten or removed but the one object that says
//! which checkpoint is the newest, where there is one; putting an object again with equal content is not an error, so
//! that shipping can be repeated after any failure.

/// What became of a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The object is new.
    Stored,
    /// It was there, byte for byte.
    AlreadyThere,
}

/// How well an object is kept, as far as the archive can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protection {
    /// This kind of archive cannot tell.
    Unknown,
    /// Nobody can change or remove it before its time.
    Kept,
    /// It can be removed too early; the reason.
    Unlocked(String),
    /// It is there and locked, and something was laid over it; what.
    Overlaid(String),
}

/// Why the archive did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// The archive cannot be reached or failed for now. The put may have happened; retry.
    #[error("the archive is unavailable: {0}")]
    Unavailable(String),
    /// The archive said no: rights, a full disk, or a lock or content that is not the one asked for. Retrying
    /// does not help until the operator acts. The object may be stored, and if its lock is wrong, it is.
    #[error("the archive refused: {0}")]
    Refused(String),
    /// An object of this name has other content. Another ledger writes here, or an older disk was restored;
    /// nothing was stored.
    #[error("the archive holds other content under {0}")]
    Conflict(String),
    /// No object of this name.
    #[error("the archive has no {0}")]
    NotFound(String),
}

/// Write-once object storage.
///
/// *What `Ok` means:* after [`put_new`](Archive::put_new) the object is durable and can no longer be
/// changed through this interface; [`get`](Archive::get) then returns exactly its bytes. *What `Err` may
/// have done:* the object may be stored or not, never in part and never over another. *Who may call:* any
/// thread; calls block for as long as the storage takes, bounded by the implementation. *What its owner
/// could do to us:* withhold or delete everything, and show an old state; it cannot forge a checkpoint, and
/// the shipper reads back what it put.
pub trait Archive: Send + Sync {
    /// Checks that the archive exists and keeps its promises, as far as it can be asked. Creates nothing.
    fn check_at_start(&self) -> Result<(), ArchiveError>;

    /// Stores an object that must not exist with other content.
    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<Put, ArchiveError>;

    /// The whole object.
    fn get(&self, name: &str) -> Result<Vec<u8>, ArchiveError>;

    /// Names that start with `prefix` and sort after `after`, ascending, at most `max`.
    fn list_after(&self, prefix: &str, after: Option<&str>, max: usize) -> Result<Vec<String>, ArchiveError>;

    /// Replaces the newest checkpoint, `chancery_format::archive::LATEST_CHECKPOINT`, if it still is `before` (`None`: if
    /// there is none). *What `Ok` means:* [`get`](Archive::get) of that name returns these bytes until it is replaced
    /// again. *What `Err` may have done:* they may be there or not. An archive that keeps no such object refuses.
    fn put_latest(&self, _before: Option<&[u8]>, _bytes: &[u8]) -> Result<(), ArchiveError> {
        Err(ArchiveError::Refused(
            "nothing can be replaced in it, so it shows no newest checkpoint".to_owned(),
        ))
    }

    /// How well an object is kept that holds these bytes. Changes nothing.
    fn protection(&self, _name: &str, _bytes: &[u8]) -> Result<Protection, ArchiveError> {
        Ok(Protection::Unknown)
    }
}
