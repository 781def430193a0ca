//! Every stream's chain: each event has the next `seq` and the `hash` before it.
//!
//! One head per stream is all that is kept. After evidence that cannot be read, a stream may have moved
//! on unseen: it may then jump forward once, but a link that can be checked still is.

use std::collections::HashMap;

use chancery_format::Hash;

use super::event::Link;

#[derive(Debug, Clone, Copy)]
struct Head {
    seq: u64,
    hash: Hash,
    gaps: u64,
}

/// All streams.
#[derive(Debug, Default)]
pub(crate) struct Chains {
    heads: HashMap<Box<str>, Head>,
    gaps: u64,
}

impl Chains {
    /// Some entries could not be read: any stream may have moved.
    pub(crate) const fn gap(&mut self) {
        self.gaps += 1;
    }

    /// How many streams there are.
    pub(crate) fn count(&self) -> u64 {
        self.heads.len() as u64
    }

    /// Follows one event; `Err` says what is wrong with its link. Either way the stream goes on from it.
    pub(crate) fn follow(&mut self, link: &Link) -> Result<(), String> {
        let next = Head { seq: link.seq, hash: link.hash, gaps: self.gaps };
        let Some(head) = self.heads.get_mut(&link.stream) else {
            let fine = link.seq == 0 || self.gaps > 0;
            self.heads.insert(link.stream.clone(), next);
            let message = || format!("stream {} begins with seq {}", link.stream, link.seq);
            return if fine { Ok(()) } else { Err(message()) };
        };
        let last = std::mem::replace(head, next);
        let follows = link.seq == last.seq + 1;
        if follows && link.prev_hash == Some(last.hash) {
            return Ok(());
        }
        if !follows && link.seq > last.seq && last.gaps < self.gaps {
            return Ok(());
        }
        Err(if follows {
            format!("prevHash in stream {} is not the hash of seq {}", link.stream, last.seq)
        } else {
            format!("stream {} has seq {} after seq {}", link.stream, link.seq, last.seq)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(seq: u64, prev: Option<u8>, hash: u8) -> Link {
        let prev_hash = prev.map(|byte| Hash([byte; 32]));
        Link { stream: "s".into(), seq, prev_hash, hash: Hash([hash; 32]), ledger_key: None }
    }

    #[test]
    fn a_chain_goes_on_by_one_from_the_hash_before() {
        for (second, fine) in [
            (link(1, Some(1), 2), true),
            (link(1, Some(9), 2), false),
            (link(2, Some(1), 2), false),
            (link(0, None, 2), false),
        ] {
            let mut chains = Chains::default();
            assert!(chains.follow(&link(0, None, 1)).is_ok());
            assert_eq!(chains.follow(&second).is_ok(), fine, "{second:?}");
        }
        assert!(Chains::default().follow(&link(3, Some(1), 2)).is_err());
    }

    #[test]
    fn after_a_gap_a_stream_may_jump_forward_once_but_not_break() {
        let after_gap = |second: &Link| {
            let mut chains = Chains::default();
            assert!(chains.follow(&link(4, Some(0), 1)).is_err());
            chains.gap();
            chains.follow(second).and_then(|()| chains.follow(&link(9, Some(2), 3)))
        };
        assert!(after_gap(&link(8, Some(7), 2)).is_ok());
        assert!(after_gap(&link(7, Some(7), 2)).is_err());
        assert!(after_gap(&link(5, Some(7), 2)).is_err());
        assert!(after_gap(&link(3, Some(7), 2)).is_err());
    }
}
