//! Every stream's chain: each event has the next `seq` and the `hash` before it. A stream's second chain, in the form
//! of an existing writer, begins once, keeps its dialect, and goes on by hash and in time from then on.
//!
//! One head per stream is all that is kept. After evidence that cannot be read, a stream may have moved
//! on unseen: it may then jump forward once, but a link that can be checked still is.

use std::collections::HashMap;

use chancery_format::{Hash, Timestamp, chain};

use super::event::Link;

#[derive(Debug, Clone, Copy)]
struct Head {
    seq: u64,
    hash: Hash,
    chain: Option<(chain::Link, Timestamp)>,
    gaps: u64,
}

/// The last event of a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Last {
    pub(crate) seq: u64,
    pub(crate) hash: Hash,
    pub(crate) chain: Option<(chain::Link, Timestamp)>,
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

    /// The last event of every stream, while nothing was missing: its `seq`, its hash, and its row in another's chain.
    pub(crate) fn heads(&self) -> impl Iterator<Item = (&str, Last)> {
        self.heads
            .iter()
            .map(|(stream, head)| (&**stream, Last { seq: head.seq, hash: head.hash, chain: head.chain }))
    }

    /// Goes on after the last event of a stream.
    pub(crate) fn resume(&mut self, stream: &str, last: Last) {
        let Last { seq, hash, chain } = last;
        self.heads.insert(stream.into(), Head { seq, hash, chain, gaps: self.gaps });
    }

    /// How many streams there are.
    pub(crate) fn count(&self) -> u64 {
        self.heads.len() as u64
    }

    /// Follows one event; `Err` says what is wrong with its link. Either way the stream goes on from it.
    pub(crate) fn follow(&mut self, link: &Link) -> Result<(), String> {
        let next = Head { seq: link.seq, hash: link.hash, chain: link.chain, gaps: self.gaps };
        let Some(head) = self.heads.get_mut(&link.stream) else {
            let fine = link.seq == 0 || self.gaps > 0;
            self.heads.insert(link.stream.clone(), next);
            let message = || format!("stream {} begins with seq {}", link.stream, link.seq);
            return if fine { Ok(()) } else { Err(message()) };
        };
        let last = std::mem::replace(head, next);
        let follows = link.seq == last.seq + 1;
        if follows && link.prev_hash == Some(last.hash) {
            return match last.chain.is_none_or(|last| is_next_row(last, link.chain)) {
                true => Ok(()),
                false => Err(format!("chain in stream {} does not go on from seq {}", link.stream, last.seq)),
            };
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

/// Whether a row comes after another: in its dialect, by its hash, and later.
fn is_next_row(last: (chain::Link, Timestamp), next: Option<(chain::Link, Timestamp)>) -> bool {
    let (last, before) = last;
    next.is_some_and(|(next, ts)| {
        next.dialect == last.dialect && next.previous == Some(last.hash) && ts > before
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    #[test]
    fn a_dialects_chain_may_begin_late_and_then_goes_on() {
        let chained = |seq, dialect, previous: Option<u8>, hash, ms| {
            let hash_of = |byte: u8| Hash([byte; 32]);
            let row = chain::Link { dialect, hash: hash_of(hash), previous: previous.map(hash_of) };
            let ts = Timestamp::from_unix_ms(ms).unwrap();
            Link { chain: Some((row, ts)), ..link(seq, Some(seq as u8), seq as u8 + 1) }
        };
        let (one, other) = (chain::Dialect::Kernel, chain::Dialect::KernelServer);
        for (third, fine) in [
            (chained(2, one, Some(101), 102, 6), true),
            (chained(2, one, Some(101), 102, 5), false),
            (chained(2, one, Some(100), 102, 6), false),
            (chained(2, one, None, 102, 6), false),
            (chained(2, other, Some(101), 102, 6), false),
            (link(2, Some(2), 3), false),
        ] {
            let mut chains = Chains::default();
            assert!(chains.follow(&link(0, None, 1)).is_ok());
            assert!(chains.follow(&chained(1, one, Some(9), 101, 5)).is_ok());
            assert_eq!(chains.follow(&third).is_ok(), fine, "{third:?}");
        }
    }

    fn link(seq: u64, prev: Option<u8>, hash: u8) -> Link {
        let prev_hash = prev.map(|byte| Hash([byte; 32]));
        Link {
            stream: "s".into(),
            seq,
            prev_hash,
            hash: Hash([hash; 32]),
            chain: None,
            keys: Vec::new(),
            ledger_key: None,
        }
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
