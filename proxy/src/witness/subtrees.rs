//! `POST /sign-subtree`: parts of a tree that we have cosigned, cosigned with ML-DSA-44.
//!
//! Promises: a line is made only for what our own cosignature and a proof show to be part of a tree we found consistent;
//! each use of the key is an entry of our own ledger before its line leaves. Refuses: logs that are not cosigned now, more
//! than a log's allowance, everything if no key is ML-DSA-44, since only that algorithm can say it. Nothing is stored: the
//! lines made last are kept in memory, so that asking again costs no key.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use chancery_format::Hash;
use chancery_format::cosignature::{CosignedAt, CosignerKey};
use chancery_format::merkle::Subtree;
use chancery_format::witness::{Refusal, SignSubtree, decide_subtree};
use futures_util::future::try_join_all;
use hyper::StatusCode;
use serde_json::json;

use super::{Answer, Witness};
use crate::authenticate::Peer;
use crate::problem::Problem;

/// Lines kept, of all logs together: under 1 MiB with one key.
const KEPT_MAX: usize = 256;

/// The lines made last.
#[derive(Debug, Default)]
pub(super) struct Subtrees(Mutex<VecDeque<Made>>);

#[derive(Debug)]
struct Made {
    origin: String,
    subtree: Subtree,
    root: Hash,
    lines: String,
}

impl Subtrees {
    fn find(&self, origin: &str, subtree: Subtree, root: &Hash) -> Option<String> {
        let made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let it = made.iter().find(|it| it.origin == origin && it.subtree == subtree && it.root == *root);
        it.map(|it| it.lines.clone())
    }

    fn keep(&self, origin: &str, subtree: Subtree, root: &Hash, lines: &str) {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if made.len() == KEPT_MAX {
            made.pop_front();
        }
        made.push_back(Made { origin: origin.to_owned(), subtree, root: *root, lines: lines.to_owned() });
    }
}

impl Witness {
    /// The answer to the body of a request.
    pub(super) async fn sign_subtree(&self, peer: &Peer, body: &[u8]) -> Answer {
        if !self.keys.iter().any(|(_, key)| key.is_ml_dsa()) {
            let why = "this witness has no ML-DSA-44 key, and signs checkpoints only\n";
            return Answer::text(StatusCode::NOT_FOUND, why);
        }
        match self.subtree(peer, body).await {
            Ok(lines) => Answer::text(StatusCode::OK, lines),
            Err(answer) => answer,
        }
    }

    async fn subtree(&self, peer: &Peer, body: &[u8]) -> Result<String, Answer> {
        let refused = |refusal: Refusal| Answer::refusal(&refusal);
        let request = SignSubtree::parse(body).map_err(|error| refused(error.into()))?;
        let origin = request.origin().as_str();
        let log = self.logs.of_origin(origin).ok_or_else(|| refused(Refusal::UnknownLog))?;
        if !log.lock().await.is_cosigned() {
            return Err(refused(Refusal::UnknownLog));
        }
        let keys: Vec<CosignerKey> = self.keys.iter().map(|(_, key)| key.clone()).collect();
        let subtree = decide_subtree(&request, &keys).map_err(refused)?;
        if let Some(lines) = self.subtrees.find(origin, subtree, request.root()) {
            return Ok(lines);
        }
        log.lock().await.allowance().take_subtree(Instant::now()).map_err(Answer::too_often)?;
        let lines = self.subtree_lines(peer, &request, subtree).await;
        let lines = lines.map_err(|problem| Answer::unavailable(&problem))?;
        self.subtrees.keep(origin, subtree, request.root(), &lines);
        Ok(lines)
    }

    /// One line by each key that can.
    async fn subtree_lines(
        &self,
        peer: &Peer,
        request: &SignSubtree,
        subtree: Subtree,
    ) -> Result<String, Problem> {
        let (start, end, root) = (subtree.start(), subtree.end(), request.root());
        let lines = self.keys.iter().filter_map(|(kid, key)| {
            let message = key.subtree_message(request.origin(), start, end, root)?;
            let about =
                json!({ "end": end, "origin": request.origin(), "root": root.to_hex(), "start": start });
            Some(self.line(peer, (kid, key), message, about, CosignedAt::UNSTATED))
        });
        Ok(try_join_all(lines).await?.concat())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    #[test]
    fn the_lines_made_last_are_kept_and_no_more() {
        let (made, root) = (Subtrees::default(), Hash([7; 32]));
        let range = |start| Subtree::new(start, start + 1).unwrap();
        for start in 0..=KEPT_MAX as u64 {
            made.keep("a.example/log", range(start), &root, &format!("{start}\n"));
        }
        let find = |start| made.find("a.example/log", range(start), &root);
        assert_eq!((find(0), find(1)), (None, Some("1\n".to_owned())));
        assert_eq!(find(KEPT_MAX as u64), Some(format!("{KEPT_MAX}\n")));
        assert_eq!(made.find("b.example/log", range(1), &root), None);
        assert_eq!(made.find("a.example/log", range(1), &Hash([8; 32])), None);
        assert_eq!(made.find("a.example/log", Subtree::new(0, 2).unwrap(), &root), None);
    }
}
