//! When each key was active, by the ledger's own entries, held against the given registry.

use std::collections::BTreeMap;

use chancery_format::LeafIndex;
use chancery_format::registry::CANARY;
use serde_json::{Value, json};

use super::event::{Attested, Born};
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

/// A key's life, as the entries told it.
#[derive(Debug, Clone)]
pub struct KeyLife {
    pub(crate) signer_kid: String,
    pub(crate) kid: Option<String>,
    pub(crate) algorithm: &'static str,
    pub(crate) activated: u64,
    pub(crate) retired: Option<u64>,
    pub(crate) compromised_since: Option<u64>,
    pub(crate) born: Born,
}

impl KeyLife {
    /// The key pair's name.
    pub(crate) fn signer_kid(&self) -> &str {
        &self.signer_kid
    }

    /// Whether a signature at this index counts.
    pub(crate) fn valid_at(&self, index: u64) -> bool {
        self.activated <= index
            && self.retired.is_none_or(|until| index < until)
            && self.compromised_since.is_none_or(|since| index < since)
    }

    /// For machines.
    pub(crate) fn to_json(&self) -> Value {
        let Born { ts, origin, device, serial, attestation, requested_by } = &self.born;
        json!({
            "signer_kid": self.signer_kid,
            "kid": self.kid,
            "algorithm": self.algorithm,
            "activatedIndex": self.activated,
            "activatedAt": ts,
            "retiredIndex": self.retired,
            "compromisedSince": self.compromised_since,
            "origin": origin,
            "device": device,
            "serial": serial,
            "attestation": attestation.as_str(),
            "requestedBy": requested_by,
        })
    }

    /// One line for people.
    pub(crate) fn to_text(&self) -> String {
        let Born { ts, origin, device, serial, attestation, requested_by } = &self.born;
        let mut line =
            format!("{} {} since entry {} ({ts})", self.signer_kid, self.algorithm, self.activated);
        let place = device.as_deref().unwrap_or("a device that is not named");
        line += &match origin.as_deref() {
            Some("generated") => format!(", born in {place}"),
            Some("imported") => format!(", brought into {place}"),
            _ => format!(", of unknown origin, in {place}"),
        };
        if let Some(serial) = serial {
            line += &format!(" {serial}");
        }
        line += match attestation {
            Attested::No => ", which does not attest it",
            Attested::Unanchored => ", which attests it under a root nobody configured",
            Attested::Anchored => ", which attests it",
        };
        if let Some(person) = requested_by {
            line += &format!(", at the request of {person}");
        }
        if let Some(index) = self.retired {
            line += &format!("; retired at entry {index}");
        }
        if let Some(index) = self.compromised_since {
            line += &format!("; compromised from entry {index} on");
        }
        line
    }
}

/// The life of every signer of the registry, as far as the entries have told.
#[derive(Debug)]
pub(crate) struct Lives {
    lives: Vec<Life>,
    births: BTreeMap<SignerId, Born>,
    /// The ledger key of the first entry, under which it and its own activation stand.
    opening: Option<SignerId>,
    /// Whether entries are missing, which may have told more.
    pub(crate) incomplete: bool,
}

impl Lives {
    pub(crate) fn new(trust: &Trust) -> Self {
        Self {
            lives: vec![Life::default(); trust.signer_count()],
            births: BTreeMap::new(),
            opening: None,
            incomplete: false,
        }
    }

    fn life(&self, id: SignerId) -> Life {
        self.lives.get(id.0).copied().unwrap_or_default()
    }

    /// The ledger key under which the first entry stands.
    pub(crate) const fn open_under(&mut self, id: Option<SignerId>) {
        self.opening = id;
    }

    /// `signer.activated` at an index.
    pub(crate) fn activate(
        &mut self,
        trust: &Trust,
        (id, born): (SignerId, Born),
        index: u64,
        findings: &mut Findings,
    ) {
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
        self.births.insert(id, born);
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
        if signer.record.purpose == CANARY {
            let message = format!("{} is a canary: nobody may use it", signer.name());
            return Err(Finding::entry(Kind::CanarySigned, index, message));
        }
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

    /// What the entries told of every key that was activated.
    pub(crate) fn told(&self, trust: &Trust) -> Vec<KeyLife> {
        let life_of = |(id, born): (&SignerId, &Born)| {
            let (record, life) = (&trust.signer(*id).record, self.life(*id));
            KeyLife {
                signer_kid: record.signer_kid.as_str().to_owned(),
                kid: record.kid.as_ref().map(|kid| kid.as_str().to_owned()),
                algorithm: record.algorithm.as_str(),
                activated: life.activated.unwrap_or_default(),
                retired: life.retired,
                compromised_since: record.compromised_since,
                born: born.clone(),
            }
        };
        self.births.iter().map(life_of).collect()
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
