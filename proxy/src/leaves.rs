//! Leaves of a range of the ledger, read bundle by bundle, in order. Changes nothing.

use std::ops::Range;

use chancery_format::tile::{WIDTH, decode_bundle};
use chancery_ledger::{Roll, RollError};

/// Why a leaf was not read.
#[derive(Debug, thiserror::Error)]
pub enum LeavesError {
    /// The ledger did not give it.
    #[error("the ledger: {0}")]
    Roll(#[from] RollError),
    /// It is not there, or not what it should be. Corruption.
    #[error("entry {index}: {cause}")]
    Unreadable {
        /// Which.
        index: u64,
        /// What is wrong.
        cause: String,
    },
}

/// Calls `each` with index and bytes of every leaf of a range that the head covers.
pub async fn each(
    roll: &Roll,
    range: Range<u64>,
    mut each: impl FnMut(u64, &[u8]) -> Result<(), String>,
) -> Result<(), LeavesError> {
    let unreadable = |index, cause| LeavesError::Unreadable { index, cause };
    let mut index = range.start;
    while index < range.end {
        let number = index / WIDTH;
        let width = u8::try_from(range.end - number * WIDTH).ok();
        let bundle = roll.bundle(number, width).await?;
        let bundle = bundle.ok_or_else(|| unreadable(index, "it is not there".to_owned()))?;
        for (at, leaf) in (number * WIDTH..).zip(decode_bundle(&bundle)) {
            if at >= index {
                let leaf = leaf.map_err(|error| unreadable(at, error.to_string()))?;
                each(at, leaf).map_err(|cause| unreadable(at, cause))?;
            }
        }
        index = (number + 1) * WIDTH;
    }
    Ok(())
}
