//! A fork: two checkpoints, both signed, that cannot be of one growing log.
//!
//! With sizes alike the two notes are the proof. Otherwise the larger tree has, at the smaller size, another root than
//! the smaller checkpoint signs; that it has that root is proven by an RFC 6962 consistency proof to the larger
//! checkpoint's root, so anybody with the log's key can check the evidence without asking us or the log.

use std::fmt;

use chancery_format::merkle::verify_consistency;
use chancery_format::{Hash, TreeHead};
use serde_json::json;

use super::head::SignedHead;

/// Both notes, and why they exclude each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    /// The checkpoint seen before.
    pub held: SignedHead,
    /// The checkpoint shown now.
    pub shown: SignedHead,
    /// The root of the larger tree at the smaller size, and the proof that it is; `None` if the sizes are alike.
    pub beginning: Option<(Hash, Vec<Hash>)>,
}

impl Fork {
    /// Whether the notes exclude each other, given that both signatures were checked.
    pub fn is_proven(&self) -> bool {
        let (held, shown) = (self.held.head(), self.shown.head());
        let (smaller, larger) = if held.size <= shown.size { (held, shown) } else { (shown, held) };
        match &self.beginning {
            None => held.size == shown.size && held.root != shown.root,
            Some((root, proof)) => {
                let beginning = TreeHead { size: smaller.size, root: *root };
                *root != smaller.root && verify_consistency(&beginning, &larger, proof).is_ok()
            }
        }
    }

    /// The evidence, as it is kept.
    pub fn to_json(&self) -> String {
        let note = |head: &SignedHead| {
            let root = head.head().root.to_hex();
            json!({ "size": head.size(), "root": root, "note": head.note() })
        };
        let mut json = json!({
            "version": 1, "kind": "fork", "held": note(&self.held), "shown": note(&self.shown),
        });
        if let (Some((root, proof)), Some(members)) = (&self.beginning, json.as_object_mut()) {
            let hashes: Vec<_> = proof.iter().map(Hash::to_hex).collect();
            let smaller = self.held.size().min(self.shown.size());
            let beginning = json!({ "size": smaller, "root": root.to_hex(), "consistencyProof": hashes });
            members.insert("beginningOfLarger".into(), beginning);
        }
        format!("{json}\n")
    }
}

impl fmt::Display for Fork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { held, shown, .. } = self;
        write!(f, "the log forked: it signed two checkpoints that exclude each other")?;
        write!(f, "\n\nseen before:\n\n{}\nshown now:\n\n{}", held.note(), shown.note().trim_end())
    }
}
