//! Acts of people, held against their rules: who approved what, what was halted, which key replaced which.
//!
//! The rules are [`chancery_format::governance::State`]'s. An act that breaks one is a finding, and so is a
//! signature that stands between a halt of its scope and the entry that ends it.

use std::collections::BTreeSet;

use chancery_format::Timestamp;
use chancery_format::governance::{
    Act, Event, Fault, HaltState, Proposal, ProposalStatus, RotationApplied, Scope, State,
};
use serde_json::{Value, json};

use super::event::Asked;
use crate::findings::{Finding, Findings, Kind};
use crate::trust::Trust;

/// Acts that are told one by one; the rest are only counted.
const TOLD_MAX: usize = 10_000;

/// One act, as it is told.
#[derive(Debug, Clone)]
struct Told {
    index: u64,
    ts: Timestamp,
    kind: &'static str,
    text: String,
}

/// Everything people did, up to the present entry.
#[derive(Debug)]
pub(crate) struct Acts {
    state: State,
    told: Vec<Told>,
    count: u64,
    /// Requests whose signature was seen.
    redeemed: BTreeSet<Box<str>>,
    /// Whether entries are missing, which may have told more.
    pub(crate) incomplete: bool,
}

impl Acts {
    pub(crate) fn new(trust: &Trust) -> Self {
        let state = State::new(trust.origin().clone());
        Self { state, told: Vec::new(), count: 0, redeemed: BTreeSet::new(), incomplete: false }
    }

    /// Takes up one act.
    pub(crate) fn take(
        &mut self,
        event: &Event,
        (index, ts): (u64, Timestamp),
        trust: &Trust,
        findings: &mut Findings,
    ) {
        self.count += 1;
        if self.told.len() < TOLD_MAX {
            let text = self.describe(event);
            self.told.push(Told { index, ts, kind: event.event_type(), text });
        }
        if let Err(fault) = self.state.apply(event, index, ts) {
            let finding = Finding::entry(kind(&fault), index, fault.to_string());
            findings.push(finding.missing_if(self.incomplete));
        } else if let Event::RotationApplied(applied) = event
            && let Err(message) = self.continues(applied, trust)
        {
            let finding = Finding::entry(Kind::GovernanceInvalid, index, message);
            findings.push(finding.missing_if(self.incomplete));
        }
    }

    /// The ledger's key follows another only with the word of both, and both are keys of the registry.
    fn continues(&self, applied: &RotationApplied, trust: &Trust) -> Result<(), String> {
        let is_ledger_key = |name: &str| trust.find(name).is_some_and(|id| trust.signer(id).is_ledger_key);
        if !is_ledger_key(applied.to.as_str()) {
            return Ok(());
        }
        let rotation = self.state.rotations.get(&applied.rotation);
        let Some((old, new)) = rotation.and_then(|it| it.continued.as_ref()) else {
            return Err(format!("{} signs checkpoints without a continuity note", applied.to));
        };
        match [old, new].into_iter().find(|vkey| !trust.has_vkey(vkey)) {
            None => Ok(()),
            Some(vkey) => Err(format!("its continuity note is by {vkey}, which is no key of the registry")),
        }
    }

    /// What is wrong with a signature at this place, whatever its bytes.
    pub(crate) fn may_sign(
        &self,
        index: u64,
        signer_kid: &str,
        stream: &str,
        asked: &Asked,
    ) -> Result<(), Finding> {
        let halts = |scope: &Scope| match scope {
            Scope::Global => true,
            Scope::Key(name) => name.as_str() == &*asked.kid || name.as_str() == signer_kid,
            Scope::Principal(name) => name.as_str() == &*asked.actor,
            Scope::Stream(name) => name.as_str() == stream,
        };
        match self.state.halts.iter().find(|(scope, _)| halts(scope)) {
            None => Ok(()),
            Some((scope, halt)) => {
                let message = format!("signed while {scope} was halted, since entry {}", halt.index);
                Err(Finding::entry(Kind::SignedWhileHalted, index, message).missing_if(self.incomplete))
            }
        }
    }

    /// Whether the request that a signature names was executed for exactly this signature, and for no other.
    pub(crate) fn redeem(&mut self, index: u64, asked: &Asked) -> Result<(), Finding> {
        let Some((id, digest)) = &asked.approval else { return Ok(()) };
        let fits = |act: &Act| {
            matches!(act, Act::Sign { kid, principal, digest: approved, .. }
                if kid.as_str() == &*asked.kid && principal.as_str() == &*asked.actor && **approved == **digest)
        };
        let proposal = self.state.proposals.get(&**id);
        let executed = proposal.filter(|it| it.status == ProposalStatus::Executed);
        if executed.is_some_and(|it| fits(&it.requested.act)) && self.redeemed.insert(id.clone()) {
            return Ok(());
        }
        let message = format!("names the request {id}, which does not allow this signature");
        Err(Finding::entry(Kind::QuorumInvalid, index, message).missing_if(self.incomplete))
    }

    /// What the acts come to.
    pub(crate) fn finish(self) -> ActsTold {
        let Self { state, told, count, .. } = self;
        ActsTold { state, told, count }
    }

    fn describe(&self, event: &Event) -> String {
        match event {
            Event::Configured(roster) => {
                let names: Vec<_> = roster.approvers.iter().map(|it| it.name.as_str()).collect();
                format!("{} of {} must approve", roster.approvals_required, names.join(", "))
            }
            Event::Requested(it) => {
                let act = it.act.canonical();
                format!("{}: {} asks for {} ({})", it.id, it.by, act.as_str(), it.reason)
            }
            Event::Given(it) => {
                let how = if it.signature.is_some() { "with an own key" } else { "in a session" };
                format!("{}: {} approves {how}", it.id, it.by)
            }
            Event::Refused(it) => format!("{}: {} refuses", it.id, it.by),
            Event::Expired(it) => format!("{}: expired", it.id),
            Event::Executed(it) => {
                let proposal = self.state.proposals.get(&it.id);
                let names: Vec<_> =
                    proposal.iter().flat_map(|it| it.approvals.keys()).map(String::as_str).collect();
                format!("{}: done, approved by {}", it.id, names.join(", "))
            }
            Event::Done(it) => format!("{}: its outcome is entry {}", it.id, it.index),
            Event::Continued(it) => {
                format!("{}: the old and the new ledger key say so together", it.rotation)
            }
            Event::KillSwitch(it) => {
                let word = if it.state == HaltState::Halted { "halted" } else { "goes on" };
                let by = it.by.as_deref().unwrap_or(&it.source);
                let reason = it.reason.as_deref().map(|text| format!(" ({text})")).unwrap_or_default();
                let approval = it.approval.as_deref().map(|id| format!(", by {id}")).unwrap_or_default();
                format!("{} {word}, by {by}{reason}{approval}", it.scope)
            }
            Event::RotationRequested(it) => {
                let approval = it.approval.as_deref().unwrap_or("nobody's approval");
                format!(
                    "{}: {} from {} to {}, by {}, under {approval}",
                    it.id,
                    it.kid.as_str(),
                    it.from.as_str(),
                    it.to.as_str(),
                    it.by
                )
            }
            Event::Testing(it) => format!("{}: {} is about to be tried", it.rotation, it.signer_kid.as_str()),
            Event::Tested(it) => format!("{}: {} was tried", it.rotation, it.signer_kid.as_str()),
            Event::RotationApplied(it) => {
                let hand = if it.hand_over.is_some() { "handed over by" } else { "without a word of" };
                format!(
                    "{}: {} is {} from here on, {hand} {}",
                    it.rotation,
                    it.kid.as_str(),
                    it.to.as_str(),
                    it.from.as_str()
                )
            }
            Event::Compromised(it) => {
                format!(
                    "{} is compromised from entry {} on, says {} ({})",
                    it.signer_kid.as_str(),
                    it.since_index,
                    it.by,
                    it.reason
                )
            }
            Event::Reverified(it) => {
                let verdict = if it.valid { "holds" } else { "DOES NOT HOLD" };
                format!("{} entries were verified again because of {}: the root {verdict}", it.size, it.cause)
            }
        }
    }
}

/// Faults of a quorum have a kind of their own.
const fn kind(fault: &Fault) -> Kind {
    match fault {
        Fault::NotHalted(_) | Fault::Rotation { .. } | Fault::Duplicate(_) | Fault::Compromised(_) => {
            Kind::GovernanceInvalid
        }
        _ => Kind::QuorumInvalid,
    }
}

/// The acts of a verified ledger.
#[derive(Debug, Clone)]
pub struct ActsTold {
    state: State,
    told: Vec<Told>,
    count: u64,
}

impl ActsTold {
    /// Acts below an index, in order: where, when, of which type, and in words.
    pub(crate) fn told_below(
        &self,
        until: u64,
    ) -> impl Iterator<Item = (u64, Timestamp, &'static str, &str)> {
        let told = self.told.iter().take_while(move |it| it.index < until);
        told.map(|it| (it.index, it.ts, it.kind, it.text.as_str()))
    }

    /// Whether there were more acts than are told one by one.
    pub(crate) fn is_cut(&self) -> bool {
        self.count > self.told.len() as u64
    }

    /// Requests for approval by their ids.
    pub(crate) fn requests(&self) -> impl Iterator<Item = (&String, &Proposal)> {
        self.state.proposals.iter()
    }

    /// For machines.
    pub(crate) fn to_json(&self) -> Value {
        let acts = self.told.iter().map(
            |it| json!({ "index": it.index, "ts": it.ts.to_string(), "eventType": it.kind, "text": it.text }),
        );
        let halted = self.state.halts.iter().map(|(scope, halt)| {
            json!({
                "scope": scope.to_string(), "index": halt.index, "ts": halt.ts.to_string(),
                "source": halt.source, "by": halt.by, "reason": halt.reason,
            })
        });
        let requests = self.state.proposals.iter().map(|(id, it)| {
            json!({
                "id": id, "act": it.requested.act, "by": it.requested.by, "status": it.status.as_str(),
                "approvedBy": it.approvals, "refusedBy": it.refusals, "executedIndex": it.executed_index,
            })
        });
        json!({
            "count": self.count,
            "acts": acts.collect::<Vec<_>>(),
            "halted": halted.collect::<Vec<_>>(),
            "requests": requests.collect::<Vec<_>>(),
        })
    }

    /// One line for each act, for people.
    pub(crate) fn to_text(&self) -> String {
        let mut text: String = self
            .told
            .iter()
            .map(|it| format!("entry {} ({}) {}: {}\n", it.index, it.ts, it.kind, it.text))
            .collect();
        if self.count > self.told.len() as u64 {
            text += &format!("and {} more\n", self.count - self.told.len() as u64);
        }
        let open = self.state.proposals.values().filter(|it| it.status == ProposalStatus::Open).count();
        if open > 0 {
            text += &format!("{open} requests are open\n");
        }
        text
    }
}
