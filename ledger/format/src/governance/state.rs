//! The rules, as a fold over the events: what is open, halted and being rotated, and what may come next.

use std::collections::BTreeMap;

use super::approval::{ApprovalError, Approver, Verdict};
use super::{
    Act, Configured, Continued, Done, Event, Executed, Given, HaltState, KillSwitchChanged, Requested,
    RotationApplied, RotationRequested, Scope, Tested, Testing, continuity_keys,
};
use crate::names::{Kid, Origin};
use crate::timestamp::Timestamp;

/// An event breaks a rule. Before it is enrolled: whoever asked is at fault. On a ledger: a forgery, or a daemon
/// that did not keep its rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No roster yet.
    #[error("nobody may approve: no approvers are configured")]
    NoRoster,
    /// The roster could never reach its own quorum, or names somebody twice.
    #[error("the roster is not usable: {0}")]
    BadRoster(&'static str),
    /// A name that is in use already.
    #[error("{0} exists already")]
    Duplicate(String),
    /// There is no such request, or it is not open any more.
    #[error("request {0} is not open")]
    NotOpen(String),
    /// The hash is not the act's.
    #[error("request {0}: the approved hash is not that of the act")]
    OtherAct(String),
    /// Fewer approvals are asked for than the roster demands, or more than there can be.
    #[error("request {id}: {required} approvals do not fit a roster that wants {wanted}")]
    Required {
        /// The request.
        id: String,
        /// As asked.
        required: u32,
        /// By the roster.
        wanted: u32,
    },
    /// The request would stay open longer than configured.
    #[error("request {0} stays open too long")]
    TooLong(String),
    /// Its time ran out.
    #[error("request {0} has expired")]
    Expired(String),
    /// Not expired yet.
    #[error("request {0} has not expired")]
    NotExpired(String),
    /// Not in the roster.
    #[error("{0} is not an approver")]
    NotAnApprover(String),
    /// Who asks does not approve.
    #[error("{0} asked for it and cannot approve it")]
    SelfApproval(String),
    /// One person, one voice.
    #[error("{0} has spoken already")]
    SpokenAlready(String),
    /// The approver's word is not proven.
    #[error(transparent)]
    Approval(#[from] ApprovalError),
    /// Too few count.
    #[error("request {id} has {have} of {required} approvals")]
    NoQuorum {
        /// The request.
        id: String,
        /// Approvals that count.
        have: usize,
        /// Approvals needed.
        required: u32,
    },
    /// The approvals named are not those that count.
    #[error("request {0}: the approvals named are not those on the ledger")]
    OtherApprovals(String),
    /// An act that needs a quorum has none, or another act's, or one that was used up.
    #[error("{0} needs an executed approval of exactly this act, used once")]
    Unapproved(String),
    /// Resuming what is not halted.
    #[error("{0} is not halted")]
    NotHalted(String),
    /// A compromised key pair never signs again.
    #[error("{0} is compromised and stays halted: rotate its name to another key")]
    Compromised(String),
    /// A step of a rotation out of order.
    #[error("rotation {id}: {what}")]
    Rotation {
        /// The rotation.
        id: String,
        /// The rule.
        what: &'static str,
    },
}

/// Where a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProposalStatus {
    /// Approvals are awaited.
    Open,
    /// So many said no that the quorum cannot be reached.
    Refused,
    /// Its time ran out.
    Expired,
    /// The quorum was complete; the act was begun.
    Executed,
}

impl ProposalStatus {
    /// The word in replies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "pending",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Executed => "executed",
        }
    }
}

/// A request and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// As asked.
    pub requested: Requested,
    /// Where it stands.
    pub index: u64,
    /// When it was asked.
    pub ts: Timestamp,
    /// Approvers who said yes, and where.
    pub approvals: BTreeMap<String, u64>,
    /// Approvers who said no, and where.
    pub refusals: BTreeMap<String, u64>,
    /// Where it is.
    pub status: ProposalStatus,
    /// Where it was executed.
    pub executed_index: Option<u64>,
    /// Whether the act it allows was done.
    pub used: bool,
    /// Where the outcome stands, if the act was a signature.
    pub outcome: Option<u64>,
}

/// A scope that is halted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Halt {
    /// Where it was recorded.
    pub index: u64,
    /// When.
    pub ts: Timestamp,
    /// By what.
    pub source: String,
    /// By whom.
    pub by: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// How far a rotation is. Ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RotationStep {
    /// The new key is to be published as staged.
    Requested,
    /// It made a signature that verifies.
    Tested,
    /// It answers to the name.
    Applied,
}

/// A rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// As asked.
    pub requested: RotationRequested,
    /// How far it is.
    pub step: RotationStep,
    /// Where each step stands, in order.
    pub indices: Vec<u64>,
    /// When the old key is to be retired; set by the switch.
    pub retire_ts: Option<Timestamp>,
    /// Verifier keys, old and new, of the ledger's key that continues under another.
    pub continued: Option<(String, String)>,
}

/// Everything the governance events say, up to one of them.
#[derive(Debug, Clone)]
pub struct State {
    origin: Origin,
    /// Who may approve; `None` before the first `governance.configured`.
    pub roster: Option<Configured>,
    /// Requests by id.
    pub proposals: BTreeMap<String, Proposal>,
    /// What is halted.
    pub halts: BTreeMap<Scope, Halt>,
    /// Rotations by id.
    pub rotations: BTreeMap<String, Rotation>,
    /// Compromised key pairs, and from which index.
    pub compromised: BTreeMap<Kid, u64>,
}

impl State {
    /// Before anything happened on the ledger of this origin.
    pub const fn new(origin: Origin) -> Self {
        Self {
            origin,
            roster: None,
            proposals: BTreeMap::new(),
            halts: BTreeMap::new(),
            rotations: BTreeMap::new(),
            compromised: BTreeMap::new(),
        }
    }

    /// Takes up one event that stands, or is about to stand, at `index` since `ts`. A fault changes nothing.
    pub fn apply(&mut self, event: &Event, index: u64, ts: Timestamp) -> Result<(), Fault> {
        match event {
            Event::Configured(roster) => self.configure(roster),
            Event::Requested(requested) => self.request(requested, index, ts),
            Event::Given(given) => self.speak(given, Verdict::Approve, index, ts),
            Event::Refused(given) => self.speak(given, Verdict::Refuse, index, ts),
            Event::Expired(closed) => self.expire(&closed.id, ts),
            Event::Executed(executed) => self.execute(executed, index, ts),
            Event::Done(done) => self.done(done),
            Event::KillSwitch(change) => self.switch(change, index, ts),
            Event::RotationRequested(requested) => self.begin_rotation(requested, index),
            Event::Testing(testing) => self.trying(testing),
            Event::Tested(tested) => self.test(tested, index),
            Event::Continued(continued) => self.continue_ledger(continued),
            Event::RotationApplied(applied) => self.rotate(applied, index),
            Event::Compromised(compromised) => {
                let since = self.compromised.entry(compromised.signer_kid.clone());
                let since = since.or_insert(compromised.since_index);
                *since = (*since).min(compromised.since_index);
                Ok(())
            }
            Event::Reverified(_) => Ok(()),
        }
    }

    fn configure(&mut self, roster: &Configured) -> Result<(), Fault> {
        let distinct: std::collections::BTreeSet<_> = roster.approvers.iter().map(|it| &it.name).collect();
        if distinct.len() != roster.approvers.len() {
            return Err(Fault::BadRoster("it names somebody twice"));
        }
        if roster.approvals_required == 0 || (roster.approvals_required as usize) > distinct.len() {
            return Err(Fault::BadRoster("its quorum is none, or more than its approvers"));
        }
        self.roster = Some(roster.clone());
        Ok(())
    }

    fn roster(&self) -> Result<&Configured, Fault> {
        self.roster.as_ref().ok_or(Fault::NoRoster)
    }

    fn request(&mut self, requested: &Requested, index: u64, ts: Timestamp) -> Result<(), Fault> {
        let roster = self.roster()?;
        let id = &requested.id;
        if self.proposals.contains_key(id) {
            return Err(Fault::Duplicate(format!("request {id}")));
        }
        if requested.act.sha256().to_hex() != requested.act_sha256 {
            return Err(Fault::OtherAct(id.clone()));
        }
        let others = roster.approvers.iter().filter(|approver| approver.name != requested.by).count();
        let wanted = roster.approvals_required;
        if requested.required < wanted || requested.required as usize > others {
            return Err(Fault::Required { id: id.clone(), required: requested.required, wanted });
        }
        let hours = if requested.emergency { roster.emergency_hours } else { roster.approval_hours };
        let open_ms = requested.expires_ts.unix_ms() - ts.unix_ms();
        if open_ms > i64::from(hours) * 3_600_000 {
            return Err(Fault::TooLong(id.clone()));
        }
        let proposal = Proposal {
            requested: requested.clone(),
            index,
            ts,
            approvals: BTreeMap::new(),
            refusals: BTreeMap::new(),
            status: ProposalStatus::Open,
            executed_index: None,
            used: false,
            outcome: None,
        };
        self.proposals.insert(id.clone(), proposal);
        Ok(())
    }

    fn open(&self, id: &str, act_sha256: &str, ts: Timestamp) -> Result<&Proposal, Fault> {
        let open = self.proposals.get(id).filter(|it| it.status == ProposalStatus::Open);
        let proposal = open.ok_or_else(|| Fault::NotOpen(id.to_owned()))?;
        if proposal.requested.act_sha256 != act_sha256 {
            return Err(Fault::OtherAct(id.to_owned()));
        }
        if ts >= proposal.requested.expires_ts {
            return Err(Fault::Expired(id.to_owned()));
        }
        Ok(proposal)
    }

    fn speak(&mut self, given: &Given, verdict: Verdict, index: u64, ts: Timestamp) -> Result<(), Fault> {
        let proposal = self.open(&given.id, &given.act_sha256, ts)?;
        let by = &given.by;
        let approver = self.approver(by).ok_or_else(|| Fault::NotAnApprover(by.clone()))?;
        if proposal.requested.by == *by {
            return Err(Fault::SelfApproval(by.clone()));
        }
        if proposal.approvals.contains_key(by) || proposal.refusals.contains_key(by) {
            return Err(Fault::SpokenAlready(by.clone()));
        }
        approver.check(&self.origin, given, verdict)?;
        let others = self.others(proposal);
        let Some(proposal) = self.proposals.get_mut(&given.id) else { return Ok(()) };
        match verdict {
            Verdict::Approve => drop(proposal.approvals.insert(by.clone(), index)),
            Verdict::Refuse => {
                proposal.refusals.insert(by.clone(), index);
                if others.saturating_sub(proposal.refusals.len()) < proposal.requested.required as usize {
                    proposal.status = ProposalStatus::Refused;
                }
            }
        }
        Ok(())
    }

    fn approver(&self, name: &str) -> Option<&Approver> {
        self.roster.as_ref()?.approvers.iter().find(|approver| approver.name == name)
    }

    /// Approvers beside who asked.
    fn others(&self, proposal: &Proposal) -> usize {
        let approvers = self.roster.iter().flat_map(|roster| &roster.approvers);
        approvers.filter(|approver| approver.name != proposal.requested.by).count()
    }

    fn expire(&mut self, id: &str, ts: Timestamp) -> Result<(), Fault> {
        let open = self.proposals.get_mut(id).filter(|it| it.status == ProposalStatus::Open);
        let proposal = open.ok_or_else(|| Fault::NotOpen(id.to_owned()))?;
        if ts < proposal.requested.expires_ts {
            return Err(Fault::NotExpired(id.to_owned()));
        }
        proposal.status = ProposalStatus::Expired;
        Ok(())
    }

    /// Indices of the approvals of a request that count now: of people who are still approvers. Sorted.
    pub fn counting(&self, proposal: &Proposal) -> Vec<u64> {
        let counts = proposal.approvals.iter().filter(|(name, _)| self.approver(name).is_some());
        let mut indices: Vec<u64> = counts.map(|(_, index)| *index).collect();
        indices.sort_unstable();
        indices
    }

    /// Approvals a request needs now.
    fn required(&self, proposal: &Proposal) -> u32 {
        let wanted = self.roster.as_ref().map_or(u32::MAX, |roster| roster.approvals_required);
        proposal.requested.required.max(wanted)
    }

    /// Whether enough approvals of a request count now.
    pub fn has_quorum(&self, proposal: &Proposal) -> bool {
        self.counting(proposal).len() >= self.required(proposal) as usize
    }

    fn execute(&mut self, executed: &Executed, index: u64, ts: Timestamp) -> Result<(), Fault> {
        let id = &executed.id;
        self.roster()?;
        let proposal = self.open(id, &executed.act_sha256, ts)?;
        let counting = self.counting(proposal);
        let required = self.required(proposal);
        if counting.len() < required as usize {
            return Err(Fault::NoQuorum { id: id.clone(), have: counting.len(), required });
        }
        if counting != executed.approvals {
            return Err(Fault::OtherApprovals(id.clone()));
        }
        if let Some(proposal) = self.proposals.get_mut(id) {
            proposal.status = ProposalStatus::Executed;
            proposal.executed_index = Some(index);
        }
        Ok(())
    }

    /// Uses up an executed request for exactly this act.
    fn redeem(&mut self, approval: Option<&String>, act: impl Fn(&Act) -> bool) -> bool {
        let proposal = approval.and_then(|id| self.proposals.get_mut(id));
        let fits =
            |it: &&mut Proposal| it.status == ProposalStatus::Executed && !it.used && act(&it.requested.act);
        proposal.filter(fits).map(|proposal| proposal.used = true).is_some()
    }

    /// A signature was made.
    fn done(&mut self, done: &Done) -> Result<(), Fault> {
        let signs = |act: &Act| matches!(act, Act::Sign { .. });
        if !self.redeem(Some(&done.id), signs) {
            return Err(Fault::Unapproved(format!("request {}", done.id)));
        }
        if let Some(proposal) = self.proposals.get_mut(&done.id) {
            proposal.outcome = Some(done.index);
        }
        Ok(())
    }

    fn switch(&mut self, change: &KillSwitchChanged, index: u64, ts: Timestamp) -> Result<(), Fault> {
        let scope = &change.scope;
        if change.state == HaltState::Halted {
            let (source, by, reason) = (change.source.clone(), change.by.clone(), change.reason.clone());
            self.halts.entry(scope.clone()).or_insert(Halt { index, ts, source, by, reason });
            return Ok(());
        }
        if !self.halts.contains_key(scope) {
            return Err(Fault::NotHalted(scope.to_string()));
        }
        if matches!(scope, Scope::Key(kid) if self.compromised.contains_key(kid)) {
            return Err(Fault::Compromised(scope.to_string()));
        }
        // Without a roster nobody could ever approve: then whoever holds the machine decides.
        let asked = |act: &Act| matches!(act, Act::Resume { scope: asked } if asked == scope);
        if self.roster.is_some() && !self.redeem(change.approval.as_ref(), asked) {
            return Err(Fault::Unapproved(format!("resuming {scope}")));
        }
        self.halts.remove(scope);
        Ok(())
    }

    fn begin_rotation(&mut self, requested: &RotationRequested, index: u64) -> Result<(), Fault> {
        let id = &requested.id;
        if self.rotations.contains_key(id) {
            return Err(Fault::Duplicate(format!("rotation {id}")));
        }
        let busy = |it: &&Rotation| it.requested.kid == requested.kid && it.step < RotationStep::Applied;
        if self.rotations.values().any(|it| busy(&it)) {
            return Err(Fault::Rotation { id: id.clone(), what: "another one of this key is under way" });
        }
        if requested.from == requested.to || self.compromised.contains_key(&requested.to) {
            return Err(Fault::Rotation { id: id.clone(), what: "the new key pair is not a new one" });
        }
        let asked = |act: &Act| {
            matches!(act, Act::Rotate { kid, from, to, backend, label, overlap_hours }
                if *kid == requested.kid && *from == requested.from && *to == requested.to
                    && *backend == requested.backend && *label == requested.label
                    && *overlap_hours == requested.overlap_hours)
        };
        if self.roster.is_some() && !self.redeem(requested.approval.as_ref(), asked) {
            return Err(Fault::Unapproved(format!("rotation {id}")));
        }
        let rotation = Rotation {
            requested: requested.clone(),
            step: RotationStep::Requested,
            indices: vec![index],
            retire_ts: None,
            continued: None,
        };
        self.rotations.insert(id.clone(), rotation);
        Ok(())
    }

    fn advance(
        &mut self,
        id: &str,
        from: RotationStep,
        to: RotationStep,
        fits: impl Fn(&RotationRequested) -> bool,
        index: u64,
    ) -> Result<&mut Rotation, Fault> {
        let fault = |what| Fault::Rotation { id: id.to_owned(), what };
        let rotation = self.rotations.get_mut(id).ok_or_else(|| fault("there is none"))?;
        if rotation.step != from {
            return Err(fault("its steps are out of order"));
        }
        if !fits(&rotation.requested) {
            return Err(fault("this step is about another key"));
        }
        rotation.step = to;
        rotation.indices.push(index);
        Ok(rotation)
    }

    fn trying(&self, testing: &Testing) -> Result<(), Fault> {
        let fault = |what| Fault::Rotation { id: testing.rotation.clone(), what };
        let rotation = self.rotations.get(&testing.rotation).ok_or_else(|| fault("there is none"))?;
        if rotation.step == RotationStep::Requested && rotation.requested.to == testing.signer_kid {
            return Ok(());
        }
        Err(fault("its steps are out of order"))
    }

    fn test(&mut self, tested: &Tested, index: u64) -> Result<(), Fault> {
        let fits = |it: &RotationRequested| it.to == tested.signer_kid;
        let steps = (RotationStep::Requested, RotationStep::Tested);
        self.advance(&tested.rotation, steps.0, steps.1, fits, index).map(|_| ())
    }

    fn continue_ledger(&mut self, continued: &Continued) -> Result<(), Fault> {
        let fault = |what| Fault::Rotation { id: continued.rotation.clone(), what };
        let rotation = self.rotations.get_mut(&continued.rotation).ok_or_else(|| fault("there is none"))?;
        if rotation.step != RotationStep::Tested {
            return Err(fault("its steps are out of order"));
        }
        let keys = continuity_keys(&self.origin, &rotation.requested, &continued.note);
        let (old, new) = keys.ok_or_else(|| fault("its continuity note is not one of both keys"))?;
        rotation.continued = Some((old.vkey(), new.vkey()));
        Ok(())
    }

    fn rotate(&mut self, applied: &RotationApplied, index: u64) -> Result<(), Fault> {
        let fits =
            |it: &RotationRequested| it.kid == applied.kid && it.from == applied.from && it.to == applied.to;
        let steps = (RotationStep::Tested, RotationStep::Applied);
        let rotation = self.advance(&applied.rotation, steps.0, steps.1, fits, index)?;
        rotation.retire_ts = Some(applied.retire_ts);
        Ok(())
    }
}
