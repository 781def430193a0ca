//! Cosigned checkpoints in the archive, `witnessed/…`: signed by the ledger key, of the same tree as everything else, and,
//! where the auditor gives a policy, cosigned by its quorum.

use std::collections::BTreeSet;

use chancery_format::TreeHead;
use chancery_format::archive::witnessed_name;
use chancery_format::note::NOTE_BYTES_MAX;
use chancery_format::policy::{Policy, Witnessed};
use serde_json::{Value, json};

use super::bundle::unread;
use super::notes::verify_head;
use crate::evidence::Evidence;
use crate::findings::{Finding, Kind};
use crate::trust::Trust;

/// One that the ledger key signed. Whether the tree has this root is found when it has this size.
#[derive(Debug)]
pub(crate) struct Cosigned {
    pub(crate) head: TreeHead,
    /// Whose cosignatures count, by their names in the policy, if the quorum holds.
    pub(crate) by: Option<Vec<String>>,
    /// Why it does not.
    pub(crate) refused: Option<Finding>,
}

/// Reads and judges the one beside an epoch.
pub(crate) fn read_witnessed(
    evidence: &dyn Evidence,
    trust: &Trust,
    policy: Option<&Policy>,
    epoch: u64,
) -> Result<Cosigned, Finding> {
    let name = witnessed_name(epoch);
    let bytes = evidence.open(&name, NOTE_BYTES_MAX).map_err(|error| unread(&name, &error))?;
    let invalid = |reason: String| Finding::file(Kind::WitnessedInvalid, name.clone(), reason);
    let head = verify_head(trust, &bytes).map_err(|finding| invalid(finding.message))?.head;
    let Some(policy) = policy else { return Ok(Cosigned { head, by: None, refused: None }) };
    let judged = judge(policy, trust, &bytes).map_err(invalid)?;
    if judged.quorum_met() {
        let names = judged.counted().iter().map(|(name, _)| name.to_string()).collect::<BTreeSet<_>>();
        return Ok(Cosigned { head, by: Some(names.into_iter().collect()), refused: None });
    }
    let message = "too few of the policy's witnesses cosigned it";
    Ok(Cosigned { head, by: None, refused: Some(Finding::file(Kind::NotWitnessed, name, message)) })
}

/// The log is known from the registry; a line that claims to be a witness' and is not refuses the note.
fn judge(policy: &Policy, trust: &Trust, note: &[u8]) -> Result<Witnessed, String> {
    let note = std::str::from_utf8(note).map_err(|error| error.to_string())?;
    let verified = trust.ledger_keys().verify(note).map_err(|error| error.to_string())?;
    policy.judge(verified, None).map_err(|error| error.to_string())
}

/// How far a ledger is witnessed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WitnessedTold {
    /// Whether a policy said whose cosignatures count. Without one only the ledger's own signature was checked.
    pub by_policy: bool,
    /// Notes that are of this tree, and whose quorum holds if there is a policy.
    pub notes: u64,
    /// Entries under the largest of them.
    pub up_to: u64,
    /// Entries of the ledger.
    pub of: u64,
    /// Who cosigned that one, by their names in the policy.
    pub by: Vec<String>,
}

impl WitnessedTold {
    /// Whether there is anything to say.
    pub(crate) const fn is_told(&self) -> bool {
        self.by_policy || self.notes > 0
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut value = json!({
            "notes": self.notes, "upTo": self.up_to, "of": self.of, "byPolicy": self.by_policy,
        });
        if let (true, Value::Object(members)) = (self.by_policy, &mut value) {
            members.insert("by".to_owned(), self.by.clone().into());
        }
        value
    }

    /// One line.
    pub(crate) fn to_text(&self) -> String {
        let Self { notes, up_to, of, by, .. } = self;
        match (self.by_policy, notes) {
            (true, 0) => "not witnessed".to_owned(),
            (true, _) => format!("witnessed up to {up_to} of {of} entries by {}", by.join(", ")),
            (false, _) => format!(
                "{notes} cosigned checkpoints up to {up_to} of {of} entries; whose cosignatures count is for a --policy to say"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_how_far_and_by_whom() {
        let told = WitnessedTold {
            by_policy: true,
            notes: 2,
            up_to: 300,
            of: 700,
            by: vec!["a".into(), "b".into()],
        };
        assert_eq!(told.to_text(), "witnessed up to 300 of 700 entries by a, b");
        assert_eq!(told.to_json().get("by"), Some(&json!(["a", "b"])));
        assert_eq!(WitnessedTold { by_policy: true, ..WitnessedTold::default() }.to_text(), "not witnessed");
        assert!(!WitnessedTold::default().is_told());
        let unjudged = WitnessedTold { by_policy: false, by: Vec::new(), ..told };
        assert!(unjudged.to_text().contains("--policy") && unjudged.to_json().get("by").is_none());
    }
}
