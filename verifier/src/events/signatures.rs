//! Signatures of rows, gathered by key: Ed25519 over hashes together, all others one by one.
//!
//! A batch that does not hold is taken apart until each bad signature stands alone, and only the single check calls a
//! signature bad. Where a row does not say who signed it, the key that signed the row before is tried first; of each
//! signature that is not its, all other keys are asked.

use chancery_format::{Digest, Hash, Timestamp};

use super::check::Counts;
use super::signers::{Signer, Signers};
use super::signing_time::{RecordedTimes, SigningTimes};
use crate::findings::{Finding, Kind};
use crate::ledger::find_bad;
use chancery_format::chain::dialect::Dialect;

/// A row's signature.
#[derive(Debug)]
pub(super) struct Signed {
    pub(super) number: u64,
    pub(super) hash: Hash,
    pub(super) signature: Vec<u8>,
    /// When the row says it was written.
    pub(super) written: Option<Timestamp>,
    pub(super) of: Candidates,
}

/// Whose signature it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Candidates {
    /// Of the name that the key at this position has.
    Named(usize),
    /// Of a key that the file does not name.
    Unnamed,
    /// The row names nobody.
    Every,
}

impl Candidates {
    /// Of keys that a name stands for.
    pub(super) fn of(positions: &[usize], signers: &Signers) -> Self {
        match positions.first() {
            Some(at) if signers.get(*at).is_some_and(|signer| signer.is_named) => Self::Named(*at),
            _ => Self::Unnamed,
        }
    }
}

/// Signatures that wait for their key.
#[derive(Debug, Default)]
struct Waiting {
    numbers: Vec<u64>,
    items: Vec<([u8; 32], [u8; 64])>,
    rest: Vec<(Option<Timestamp>, Candidates)>,
}

/// Checks one batch after the other.
#[derive(Debug)]
pub(super) struct Signatures<'a> {
    dialect: Dialect,
    signers: &'a Signers,
    by_key: Vec<Waiting>,
    /// The key that signed the last row of those that name nobody.
    guess: usize,
    times: SigningTimes<'a>,
}

impl<'a> Signatures<'a> {
    pub(super) fn new(dialect: Dialect, signers: &'a Signers, recorded: &'a RecordedTimes) -> Self {
        let by_key = signers.all().iter().map(|_| Waiting::default()).collect();
        Self { dialect, signers, by_key, guess: 0, times: SigningTimes::new(recorded) }
    }

    /// Takes one in; what cannot wait is checked at once.
    pub(super) fn add(&mut self, signed: Signed, counts: &mut Counts, findings: &mut Vec<Finding>) {
        let candidates = self.positions(signed.of);
        let at = match candidates {
            [one] => *one,
            _ if candidates.contains(&self.guess) => self.guess,
            _ => candidates.first().copied().unwrap_or_default(),
        };
        let is_ed25519 = self
            .signers
            .get(at)
            .is_some_and(|it| it.key.as_ref().is_some_and(|it| it.ed25519_raw().is_some()));
        let together = <[u8; 64]>::try_from(signed.signature.as_slice())
            .ok()
            .filter(|_| is_ed25519 && self.dialect != Dialect::Kernel);
        match (together, self.by_key.get_mut(at)) {
            (Some(signature), Some(waiting)) => {
                waiting.numbers.push(signed.number);
                waiting.items.push((signed.hash.0, signature));
                waiting.rest.push((signed.written, signed.of));
            }
            _ => self.alone(&signed, at, counts, findings),
        }
    }

    /// Checks all that wait.
    pub(super) fn finish(&mut self, counts: &mut Counts, findings: &mut Vec<Finding>) {
        for at in 0..self.by_key.len() {
            let Some(place) = self.by_key.get_mut(at) else { continue };
            let mut waiting = std::mem::take(place);
            let mut bad = Vec::new();
            if let Some(key) = self.signers.get(at).and_then(|signer| signer.key.as_ref()) {
                find_bad(key, false, &waiting.numbers, &waiting.items, &mut bad);
            }
            let mut bad = bad.into_iter().peekable();
            let rows = waiting.numbers.iter().zip(&waiting.items).zip(&waiting.rest);
            for ((number, (hash, signature)), (written, of)) in rows {
                let (number, written, of) = (*number, *written, *of);
                if bad.next_if_eq(&number).is_none() {
                    self.good(at, number, written, of, counts, findings);
                    continue;
                }
                let signed = Signed { number, hash: Hash(*hash), signature: signature.to_vec(), written, of };
                self.alone(&signed, at, counts, findings);
            }
            waiting.numbers.clear();
            waiting.items.clear();
            waiting.rest.clear();
            if let Some(place) = self.by_key.get_mut(at) {
                *place = waiting;
            }
        }
    }

    fn positions(&self, of: Candidates) -> &'a [usize] {
        match of {
            Candidates::Named(at) => {
                self.signers.candidates(self.signers.get(at).map(|signer| signer.name.as_str()))
            }
            Candidates::Unnamed => self.signers.unnamed(),
            Candidates::Every => self.signers.candidates(None),
        }
    }

    /// One signature, held against each key it may be of.
    fn alone(&mut self, signed: &Signed, likely: usize, counts: &mut Counts, findings: &mut Vec<Finding>) {
        let rest = self.positions(signed.of).iter().copied().filter(|at| *at != likely);
        for at in std::iter::once(likely).chain(rest) {
            let Some(signer) = self.signers.get(at) else { continue };
            if self.holds(signer, signed, counts) {
                self.guess = at;
                return self.good(at, signed.number, signed.written, signed.of, counts, findings);
            }
        }
        let message = match (signed.of, self.signers.get(likely)) {
            (Candidates::Named(_), Some(signer)) => format!("its signature is not {}'s over it", signer.name),
            _ => "its signature is of none of the given keys".to_owned(),
        };
        findings.push(Finding::entry(Kind::SignatureInvalid, signed.number, message));
    }

    fn holds(&mut self, signer: &Signer, signed: &Signed, counts: &mut Counts) -> bool {
        let Some(key) = &signer.key else { return false };
        if self.dialect != Dialect::Kernel {
            return key.verify(&Digest::Sha256(signed.hash.0), &signed.signature);
        }
        if self.times.is_recorded(key, signed.hash, &signed.signature) {
            return true;
        }
        let Some(written) = signed.written else { return false };
        let Some(later) = self.times.search(key, signed.hash, written, &signed.signature) else {
            return false;
        };
        counts.searched += 1;
        counts.searched_ms = counts.searched_ms.max(later);
        true
    }

    /// A signature that verifies counts if its key was in use then.
    fn good(
        &self,
        at: usize,
        number: u64,
        written: Option<Timestamp>,
        of: Candidates,
        counts: &mut Counts,
        findings: &mut Vec<Finding>,
    ) {
        let late = written.zip(self.signers.get(at)).and_then(|(moment, signer)| out_of_time(signer, moment));
        if let Some(message) = late {
            return findings.push(Finding::entry(Kind::KeyNotValidThen, number, message));
        }
        counts.verified += 1;
        if !matches!(of, Candidates::Named(_)) {
            counts.resolved += 1;
            counts.resolved_to.insert(at);
        }
    }
}

fn out_of_time(signer: &Signer, moment: Timestamp) -> Option<String> {
    let Signer { name, from, until, .. } = signer;
    if let Some(from) = from.filter(|from| moment < *from) {
        return Some(format!("{name} was not deployed before {from}, and the row says {moment}"));
    }
    until
        .filter(|until| moment >= *until)
        .map(|until| format!("{name} was retired {until}, and the row says {moment}"))
}
