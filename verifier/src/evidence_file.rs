//! One `.evidence` file: five ways by which its entry may be believed, and for each whether it held.
//!
//! | way | is believed because of |
//! |---|---|
//! | `log` | the ledger's own signature on a checkpoint that covers the entry |
//! | `cose` | the ledger's signature in another envelope (RFC 9942) |
//! | `signature` | the signature in the entry, by a key that was active there |
//! | `witnesses` | cosignatures that a policy of the verifier's asks for, on the entry's checkpoint or on a renewal's |
//! | `renewals` | later checkpoints that cover the entry and continue each other |
//!
//! All are checked by one registry: the one given, or the newest in the file. A file cannot vouch for its own registry, as
//! anybody can make a ledger of that name; so without a registry or a policy from outside nothing is decided, whatever
//! held. A policy alone suffices if it accepts a checkpoint under which the registry was published: then it is the
//! policy's log and witnesses who vouch for the registry. What the file says of archived objects is told, not checked.

#![expect(
    clippy::indexing_slicing,
    reason = "serde_json's objects insert what is assigned to a missing member"
)]

mod kinds;
mod ways;

use chancery_format::evidence::{Evidence, EvidenceError};
use chancery_format::policy::{Policy, PolicyRefusal, Witnessed};
use chancery_format::receipt::VerifiedReceipt;
use chancery_format::registry::RegistryError;
use chancery_format::{TreeHead, VerifiedCheckpoint};
use serde_json::{Value, json};

use self::kinds::{as_finding, is_of_signature};
use self::ways::{State, Way, Ways};
use crate::findings::{Finding, Findings, Kind};
use crate::receipt::{check_ledger_key, finding, signature_text};
use crate::report::{Report, head_json};
use crate::trust::Trust;

/// Verifies a file. `message` as for a receipt; `policy` says which witnesses must have cosigned some checkpoint over the
/// entry; `trust` is the registry that was given.
pub fn verify(json: &[u8], message: Option<&[u8]>, policy: Option<&Policy>, trust: Option<&Trust>) -> Report {
    let refused = |finding| {
        let mut findings = Findings::default();
        findings.push(finding);
        Report::of(findings, json!({ "entries": 0, "signatures": 0 }), String::new())
    };
    let evidence = match Evidence::parse(json) {
        Ok(evidence) => evidence,
        Err(error) => return refused(as_finding(&error, None)),
    };
    let own = match trust {
        Some(_) => None,
        None => match own_registry(&evidence) {
            Ok(own) => Some(own),
            Err(error) => return refused(Finding::new(Kind::RegistryMismatch, error.to_string())),
        },
    };
    let Some(registry) = trust.or(own.as_ref()) else { return refused(no_anchor()) };
    let mut round = Round::new(&evidence, registry, trust.is_some());
    round.entry(message);
    round.cose();
    round.registry();
    round.renewals();
    round.judge(policy);
    round.report()
}

/// The registry that the file itself holds.
fn own_registry(evidence: &Evidence) -> Result<Trust, RegistryError> {
    Trust::parse(evidence.newest_registry().file().as_bytes())
}

/// One verification, part by part: what does not hold does not keep the rest from being looked at.
struct Round<'a> {
    evidence: &'a Evidence,
    trust: &'a Trust,
    /// Whether the registry was given, and is not the file's own.
    given: bool,
    findings: Findings,
    ways: Ways,
    checked: Value,
    text: String,
    /// The entry's checkpoint, if it verified.
    first: Option<VerifiedCheckpoint>,
    /// The checkpoint of the file's first registry, if it verified.
    published: Option<VerifiedCheckpoint>,
    /// Of each renewal, if it verified.
    renewed: Vec<Option<VerifiedCheckpoint>>,
}

impl<'a> Round<'a> {
    fn new(evidence: &'a Evidence, trust: &'a Trust, given: bool) -> Self {
        let index = evidence.receipt().index().0;
        let checked =
            json!({ "entries": 0, "signatures": 0, "index": index, "origin": trust.origin().as_str() });
        Self {
            evidence,
            trust,
            given,
            findings: Findings::default(),
            ways: Ways::default(),
            checked,
            text: String::new(),
            first: None,
            published: None,
            renewed: Vec::new(),
        }
    }

    fn index(&self) -> u64 {
        self.evidence.receipt().index().0
    }

    fn find(&mut self, error: &EvidenceError) {
        self.findings.push(as_finding(error, Some(self.index())));
    }

    /// Ways 1 and 3.
    fn entry(&mut self, message: Option<&[u8]>) {
        let (evidence, index) = (self.evidence, self.index());
        let verified = match evidence.verify_entry(self.trust.registry(), message) {
            Ok(verified) => verified,
            Err(error) => {
                let of_its_signature = is_of_signature(&error);
                // A signature is looked at last: then the log's part held.
                self.ways.log = match of_its_signature {
                    true => Way::new(State::Held, "under the log's signed checkpoint"),
                    false => Way::new(State::Failed, error.to_string()),
                };
                if of_its_signature {
                    self.ways.signature = Way::new(State::Failed, error.to_string());
                }
                self.findings.push(finding(Some(index), &error));
                return;
            }
        };
        if let Err(finding) = check_ledger_key(&verified.event, index, self.trust) {
            self.ways.log = Way::new(State::Failed, finding.message.clone());
            self.findings.push(finding);
        } else {
            let TreeHead { size, root } = verified.checkpoint.head();
            let word = format!("under the log's signed checkpoint of {size} entries, root {root}");
            self.ways.log = Way::new(State::Held, word);
        }
        self.tell_entry(&verified);
        self.first = Some(verified.checkpoint);
    }

    fn tell_entry(&mut self, verified: &VerifiedReceipt<'_>) {
        let (event, index) = (&verified.event, self.index());
        let TreeHead { size, root } = verified.checkpoint.head();
        let head = head_json(size.0, &root);
        for name in ["treeSize", "root"] {
            self.checked[name] = head[name].clone();
        }
        self.checked["entries"] = 1.into();
        self.checked["id"] = event.id.into();
        self.checked["eventType"] = event.event_type.into();
        self.checked["signatures"] = verified.verified_signers.len().into();
        self.text = format!(
            "entry {index} of {}, {} {}, by {} at {}\n",
            self.trust.origin(),
            event.event_type,
            event.id,
            event.actor,
            event.ts
        );
        let word = signature_text(verified).trim_end().replace('\n', "; ");
        let state = match (&verified.anchors, verified.verified_signers.as_slice()) {
            (Some(_), _) | (None, [_, ..]) => State::Held,
            (None, []) if word.contains("--message") => State::Unchecked,
            (None, []) => State::Absent,
        };
        if let Some(anchored) = &verified.anchors {
            self.checked["anchored"] = anchored.digest.into();
        }
        self.ways.signature = Way::new(state, word);
    }

    /// Way 2.
    fn cose(&mut self) {
        match self.evidence.verify_cose(self.trust.registry()) {
            Ok(None) => {}
            Ok(Some(head)) => {
                let word = format!("the ledger's, over its tree of {} entries", head.size);
                self.ways.cose = Way::new(State::Held, word);
            }
            Err(error) => {
                self.ways.cose = Way::new(State::Failed, error.to_string());
                self.find(&error);
            }
        }
    }

    fn registry(&mut self) {
        let (registry, newest) = (self.evidence.registry(), self.evidence.newest_registry());
        let told = match self.evidence.verify_registry(self.trust.registry()) {
            Ok(checkpoint) => {
                let size = checkpoint.head().size;
                self.checked["registry"] = json!({
                    "version": newest.version(), "index": newest.index().0, "treeSize": size.0,
                });
                self.published = Some(checkpoint);
                format!("published by entry {}, proven under {size} entries", registry.index())
            }
            Err(error) => {
                self.find(&error);
                format!("does not hold: {error}")
            }
        };
        self.text += &format!("registry version {} in the file: {told}\n", registry.version());
    }

    /// Way 5.
    fn renewals(&mut self) {
        let evidence = self.evidence;
        let mut told = Vec::new();
        for number in 0..evidence.renewals().len() {
            match evidence.verify_renewal(number, self.trust.registry()) {
                Ok(checkpoint) => {
                    let TreeHead { size, root } = checkpoint.head();
                    told.push(head_json(size.0, &root));
                    self.renewed.push(Some(checkpoint));
                }
                Err(error) => {
                    self.find(&error);
                    self.ways.renewals = Way::new(State::Failed, error.to_string());
                    self.renewed.push(None);
                }
            }
        }
        if let Err(error) = evidence.verify_one_history() {
            self.ways.log = Way::new(State::Failed, error.to_string());
            self.find(&error);
        }
        let last = self.renewed.last().and_then(Option::as_ref).map(|last| last.head().size);
        if let (Some(size), State::Absent) = (last, self.ways.renewals.state) {
            let word = format!("{}, each continuing the one before; the last has {size} entries", told.len());
            self.ways.renewals = Way::new(State::Held, word);
        }
        self.checked["renewals"] = told.into();
    }

    /// Way 4, and by whose word the registry is believed.
    fn judge(&mut self, policy: Option<&Policy>) {
        if let Some(Err(error)) = self.first.as_ref().map(|first| self.evidence.verify_policy(first)) {
            self.find(&error);
        }
        let inside = self.evidence.policy().is_some()
            || self.evidence.renewals().iter().any(|renewal| renewal.policy().is_some());
        let Some(policy) = policy else {
            if inside {
                let word = "the file has a policy of its own, for which nothing vouches: give --policy";
                self.ways.witnesses = Way::new(State::Unchecked, word);
            }
            if self.given {
                self.checked["trustedBy"] = "signers".into();
                self.text += "believed by the registry that was given\n";
            } else {
                self.findings.push(no_anchor());
                self.checked["trustedBy"] = Value::Null;
            }
            return;
        };
        let accepted = self.accepted(policy);
        if !self.given {
            self.vouch(policy, &accepted);
        } else {
            self.checked["trustedBy"] = "signers".into();
            self.text += "believed by the registry that was given\n";
        }
    }

    /// Which renewals a policy accepts; the entry's own checkpoint is told of with them.
    fn accepted(&mut self, policy: &Policy) -> Vec<bool> {
        let mut names = Vec::new();
        let mut refusals = Vec::new();
        let mut ask = |checkpoint: &VerifiedCheckpoint| match self.ask(policy, checkpoint) {
            Ok(judged) if judged.quorum_met() => {
                names.extend(judged.counted().iter().map(|(name, at)| {
                    let (size, seconds) = (checkpoint.head().size, at.timestamp.seconds());
                    format!("{name} (of {size} entries, at {seconds} s of Unix time)")
                }));
                true
            }
            Ok(_) => {
                refusals.push(PolicyRefusal::Quorum);
                false
            }
            Err(refusal) => {
                refusals.push(refusal);
                false
            }
        };
        let first = self.first.as_ref().is_some_and(&mut ask);
        let renewed: Vec<bool> =
            self.renewed.iter().map(|renewed| renewed.as_ref().is_some_and(&mut ask)).collect();
        self.checked["cosignatures"] = names.len().into();
        // What is false is no mere lack of witnesses, wherever else there are enough.
        let forged = refusals.iter().find(|refusal| matches!(refusal, PolicyRefusal::Checkpoint(_))).copied();
        let met = first || renewed.contains(&true);
        let refusal = forged.or_else(|| if met { None } else { refusals.first().copied() });
        if let Some(refusal) = refusal {
            self.ways.witnesses = Way::new(State::Failed, refusal.to_string());
            self.findings.push(Finding::entry(Kind::NotWitnessed, self.index(), refusal.to_string()));
        } else if policy.needs_no_witness() {
            self.ways.witnesses = Way::new(State::Unchecked, "the policy asks for none");
        } else if met {
            self.ways.witnesses = Way::new(State::Held, format!("cosigned by {}", names.join(", ")));
        }
        renewed
    }

    /// By a given registry the log is known already; without one the policy must name it too.
    fn ask(&self, policy: &Policy, checkpoint: &VerifiedCheckpoint) -> Result<Witnessed, PolicyRefusal> {
        match self.given {
            true => policy.judge(checkpoint.clone(), None),
            false => policy.verify(checkpoint.note(), None),
        }
    }

    /// Whether the policy accepts a checkpoint under which the registry we used was published.
    fn vouch(&mut self, policy: &Policy, renewed: &[bool]) {
        let newer = self.evidence.renewals().iter().rposition(|renewal| renewal.registry().is_some());
        let under_its_own = || {
            let judged = self.published.as_ref().map(|published| self.ask(policy, published));
            matches!(judged, Some(Ok(judged)) if judged.quorum_met())
        };
        let vouched = match newer {
            Some(number) => renewed.get(number) == Some(&true),
            None => renewed.contains(&true) || under_its_own(),
        };
        if vouched {
            self.checked["trustedBy"] = "policy".into();
            self.text += "believed by the policy that was given, which accepts a checkpoint over the file's registry\n";
        } else {
            let message = "the policy accepts no checkpoint over the registry in the file, so nothing vouches for its \
                           keys: give --signers";
            self.findings.push(Finding::new(Kind::NoTrustAnchor, message));
            self.checked["trustedBy"] = Value::Null;
        }
    }

    fn report(mut self) -> Report {
        self.checked["ways"] = self.ways.to_json();
        self.text += &self.ways.to_text();
        if let Some(archive) = self.evidence.archive() {
            let count = archive.objects().len();
            self.checked["archiveObjects"] = count.into();
            self.text += &format!(
                "not checked: {count} versions of archived objects, which the file says are in {}\n",
                archive.location()
            );
        }
        Report::of(self.findings, self.checked, self.text)
    }
}

fn no_anchor() -> Finding {
    let message = "the parts were held against each other and against the registry in the file, and nothing outside the \
                   file says that its keys are the ledger's: anybody can make such a file; give --signers or --policy";
    Finding::new(Kind::NoTrustAnchor, message)
}
