//! When each key was active, by the ledger's own entries, held against the given registry.

use chancery_format::LeafIndex;

use crate::findings::{Finding, Findings, Kind};
use crate::trust::{SignerId, Trust};

#[derive(Debug, Clone, Copy, Default)]
struct Life {
    activated: Option<u64>,
    retired: Option<u64>,
}

impl Life {
    fn is_active_at(self, index: u64) -> bool {
        self.activated.is_some_and(|from| from <= index) && self.retired.is_none_or(|until| index < until)
    }
}

/// The life of every signer of the registry, as far as the entries have told.
#[derive(Debug)]
pub(crate) struct Lives {
    lives: Vec<Life>,
    /// The ledger key of the first entry, under which it and its own activation stand.
    opening: Option<SignerId>,
    /// Whether entries are missing, which may have told more.
    pub(crate) incomplete: bool,
}

impl Lives {
    pub(crate) fn new(trust: &Trust) -> Self {
        Self { lives: vec![Life::default(); trust.signer_count()], opening: None, incomplete: false }
    }

    fn life(&self, id: SignerId) -> Life {
        self.lives.get(id.0).copied().unwrap_or_default()
    }

    /// The ledger key under which the first entry stands.
    pub(crate) const fn open_under(&mut self, id: Option<SignerId>) {
        self.opening = id;
    }

    /// `signer.activated` at an index.
    pub(crate) fn activate(&mut self, trust: &Trust, id: SignerId, index: u64, findings: &mut Findings) {
        let signer = trust.signer(id);
        if self.life(id).activated.is_some() {
            let message = format!("{} is activated a second time", signer.name());
            findings.push(Finding::entry(Kind::SignerState, index, message));
            return;
        }
        if signer.record.activated_index != Some(index) {
            let message = format!("the registry does not have {} activated here", signer.name());
            findings.push(Finding::entry(Kind::SignerState, index, message));
        }
        if let Some(life) = self.lives.get_mut(id.0) {
            life.activated = Some(index);
        }
    }

    /// `signer.retired` at an index.
    pub(crate) fn retire(&mut self, trust: &Trust, id: SignerId, index: u64, findings: &mut Findings) {
        let signer = trust.signer(id);
        if !self.life(id).is_active_at(index) {
            let finding =
                Finding::entry(Kind::SignerState, index, format!("{} retired but not active", signer.name()));
            findings.push(finding.missing_if(self.incomplete && self.life(id).retired.is_none()));
            return;
        }
        match signer.record.retired_index {
            Some(retired) if retired != index => {
                let message = format!("the registry has {} retired at {retired}", signer.name());
                findings.push(Finding::entry(Kind::SignerState, index, message));
            }
            Some(_) => {}
            None => {
                let message = format!("{} retired here, which the registry does not know", signer.name());
                findings.push(Finding::entry(Kind::RegistryOutdated, index, message));
            }
        }
        if let Some(life) = self.lives.get_mut(id.0) {
            life.retired = Some(index);
        }
    }

    /// What is wrong with a signature by this key at this index, whatever its bytes.
    pub(crate) fn may_sign(&self, trust: &Trust, id: SignerId, index: u64) -> Result<(), Finding> {
        let signer = trust.signer(id);
        if !self.life(id).is_active_at(index) {
            let message = format!("{} was not active", signer.name());
            let unknown = self.incomplete && self.life(id).retired.is_none();
            return Err(Finding::entry(Kind::SignerNotActive, index, message).missing_if(unknown));
        }
        if signer.record.compromised_since.is_some_and(|since| since <= index) {
            let message = format!("{} is compromised from an earlier index on", signer.name());
            return Err(Finding::entry(Kind::SignerCompromised, index, message));
        }
        if !signer.record.valid_at(LeafIndex(index)) {
            let message = format!("{} was not active, says the registry", signer.name());
            return Err(Finding::entry(Kind::SignerNotActive, index, message));
        }
        Ok(())
    }

    /// Whether a leaf at `index` may stand under this ledger key. The opening key's first entries come
    /// before its activation is recorded.
    pub(crate) fn ledger_key_stands(&self, id: SignerId, index: u64) -> bool {
        let life = self.life(id);
        let begun = life.activated.is_some() || self.opening == Some(id) || self.incomplete;
        begun && life.retired.is_none_or(|until| index < until)
    }

    /// What the registry claims below `size` and the entries did not tell.
    pub(crate) fn unfulfilled(&self, trust: &Trust, size: u64, findings: &mut Findings) {
        for (id, signer) in trust.signers() {
            let (life, record) = (self.life(id), &signer.record);
            let claims = [
                ("activated", record.activated_index, life.activated),
                ("retired", record.retired_index, life.retired),
            ];
            for (word, claimed, told) in claims {
                if let Some(at) = claimed.filter(|at| *at < size)
                    && told.is_none()
                {
                    let message =
                        format!("the registry has {} {word} here, the ledger does not", signer.name());
                    let finding = Finding::entry(Kind::SignerState, at, message);
                    findings.push(finding.missing_if(self.incomplete));
                }
            }
        }
    }
}
