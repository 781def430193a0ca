//! Where archived objects are read from: a folder or a bucket, behind one small trait.

mod counted;
mod directory;
mod s3;

pub(crate) use counted::Counted;
pub use directory::Directory;
pub use s3::{S3, S3Config, S3ConfigError};

/// One thing a listing shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed {
    /// An object that can be opened by this name, and how many bytes it is said to have.
    Object(String, u64),
    /// Something wrong with this name; where it can be opened too, an [`Listed::Object`] comes as well.
    Odd(String, Oddity),
}

/// What can be wrong with a name before anything is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oddity {
    /// Not a plain file.
    NotAFile,
    /// More than one version, with other bytes.
    Overwritten,
    /// More than one version, all alike.
    Repeated,
    /// A delete marker.
    Deleted,
    /// A version that came by multipart upload.
    Multipart,
}

/// Why an object could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// It is not there (any more). Evidence is missing.
    #[error("not there")]
    NotFound,
    /// It is there and cannot be read; trying again may help.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// It is larger than its name allows. Whoever wrote it is at fault.
    #[error("larger than {0} bytes")]
    TooLarge(usize),
}

/// A write-once archive, read only.
///
/// `Ok` of `list` means that every object under `prefix` was shown, names under `checkpoint/` before all
/// others; of `open`, that these are all bytes of the first version of that object. An `Err` has changed
/// nothing. Any number of threads may call at once. Whoever owns the archive can show other bytes than
/// were written, or hide them: finding that out is what the verifier is for.
pub trait Evidence: Sync {
    /// Shows everything whose name begins with `prefix`.
    fn list(&self, prefix: &str, each: &mut dyn FnMut(Listed)) -> Result<(), EvidenceError>;

    /// All bytes of one object.
    fn open(&self, name: &str, bytes_max: usize) -> Result<Vec<u8>, EvidenceError>;

    /// Whether reading waits for a network, so that more readers than cores make sense.
    fn is_remote(&self) -> bool {
        false
    }
}
