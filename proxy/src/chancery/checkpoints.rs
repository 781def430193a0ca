//! The last checkpoints, verified once, for the receipts that stand under them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use chancery_format::LeafIndex;
use chancery_format::checkpoint::VerifiedCheckpoint;

/// Checkpoints remembered: waiters collect their receipts within moments.
const REMEMBERED_MAX: usize = 16;

/// See the module. They follow each other on the ledger with none between them.
#[derive(Debug, Default)]
pub struct RecentCheckpoints(Mutex<VecDeque<Arc<VerifiedCheckpoint>>>);

impl RecentCheckpoints {
    /// The next one was recorded.
    pub fn recorded(&self, checkpoint: VerifiedCheckpoint) {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() >= REMEMBERED_MAX {
            recent.pop_front();
        }
        recent.push_back(Arc::new(checkpoint));
    }

    /// Somebody else recorded one: what is known here may have gaps from now on.
    pub fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The first recorded checkpoint that covers `index`, if it is surely among those remembered: the one
    /// before it is remembered too, and does not cover it.
    pub fn first_covering(&self, index: LeafIndex) -> Option<Arc<VerifiedCheckpoint>> {
        let recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = recent.partition_point(|checkpoint| !checkpoint.head().size.covers(index));
        recent.get(at).filter(|_| at > 0).map(Arc::clone)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    use chancery_format::note::{NoteVerifier, assemble};
    use chancery_format::{Checkpoint, Hash, TreeHead, TreeSize};

    use super::*;

    fn checkpoint(size: u64) -> VerifiedCheckpoint {
        let key = Ed25519KeyPair::generate().unwrap();
        let origin = "log.example/test".parse().unwrap();
        let head = TreeHead { size: TreeSize(size), root: Hash([7; 32]) };
        let text = Checkpoint::new(origin, head).text();
        let public: [u8; 32] = key.public_key().as_ref().try_into().unwrap();
        let verifier = NoteVerifier::new("log.example/test", &public).unwrap();
        let signature: [u8; 64] = key.sign(text.as_bytes()).as_ref().try_into().unwrap();
        let note = assemble(&text, &verifier, &signature).unwrap();
        Checkpoint::verify(&note, &"log.example/test".parse().unwrap(), &[verifier]).unwrap()
    }

    #[test]
    fn only_what_is_surely_the_first_is_told() {
        let recent = RecentCheckpoints::default();
        let first = |index| recent.first_covering(LeafIndex(index)).map(|found| found.head().size.0);
        recent.recorded(checkpoint(4));
        assert_eq!(first(3), None, "what came before is not known");
        recent.recorded(checkpoint(9));
        recent.recorded(checkpoint(10));
        assert_eq!([3, 4, 8, 9, 10].map(first), [None, Some(9), Some(9), Some(10), None]);
        recent.forget();
        recent.recorded(checkpoint(12));
        assert_eq!(first(10), None, "nor is it after a gap");
        for size in 13..100 {
            recent.recorded(checkpoint(size));
        }
        assert_eq!([12, 60, 98].map(first), [None, None, Some(99)], "and not for ever");
    }
}
