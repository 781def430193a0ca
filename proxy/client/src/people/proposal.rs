//! A request for approval. What is shown is what is approved: the act is hashed here, not believed.

use std::collections::BTreeMap;

use chancery_format::governance::{Act, Verdict, statement};
use chancery_format::names::Origin;
use serde::Deserialize;

/// A request whose act has the hash it says, and which is the one that was asked for.
#[derive(Debug, Clone)]
pub struct Proposal {
    told: Told,
}

/// Why a request cannot be approved from here. The service, or whoever is between, is at fault; nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum ProposalError {
    /// Not a request, or about an act this client does not know.
    #[error("the request cannot be read, perhaps it needs a newer client: {0}")]
    Unreadable(String),
    /// Another request than the one asked for.
    #[error("asked for request {asked}, got {got}")]
    OtherRequest {
        /// Asked for.
        asked: String,
        /// Got.
        got: String,
    },
    /// The hash to be approved is not that of the act that is shown.
    #[error("the act shown has the SHA-256 {computed}, the service wants {told} approved: do not approve it")]
    OtherAct {
        /// Of the act.
        computed: String,
        /// What the service says.
        told: String,
    },
    /// The text to be signed does not say what was shown.
    #[error("the text to be signed is not the statement of this act: do not sign it")]
    OtherStatement,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    id: String,
    act: Act,
    act_sha256: String,
    by: String,
    reason: String,
    required: u32,
    expires_at: String,
    #[serde(default)]
    emergency: bool,
    status: String,
    #[serde(default)]
    approved_by: BTreeMap<String, u64>,
    #[serde(default)]
    refused_by: BTreeMap<String, u64>,
    statement: Option<Statements>,
}

#[derive(Debug, Clone, Deserialize)]
struct Statements {
    approve: String,
    refuse: String,
}

impl Proposal {
    /// Reads the reply about request `asked`, and checks that act and hash belong together.
    pub fn read(asked: &str, body: &[u8]) -> Result<Self, ProposalError> {
        let told: Told =
            serde_json::from_slice(body).map_err(|error| ProposalError::Unreadable(error.to_string()))?;
        if told.id != asked {
            return Err(ProposalError::OtherRequest { asked: asked.to_owned(), got: told.id });
        }
        let computed = told.act.sha256().to_hex();
        if computed != told.act_sha256 {
            return Err(ProposalError::OtherAct { computed, told: told.act_sha256 });
        }
        Ok(Self { told })
    }

    /// The text an approver signs. Every line but the ledger's name is checked; the name is [`Proposal::origin`],
    /// to be shown.
    pub fn statement(&self, verdict: Verdict) -> Result<String, ProposalError> {
        let text = self.told_statement(verdict).ok_or(ProposalError::OtherStatement)?;
        let origin = origin_of(text).ok_or(ProposalError::OtherStatement)?;
        let wanted = statement(&origin, &self.told.id, &self.told.act_sha256, verdict);
        if wanted == text { Ok(wanted) } else { Err(ProposalError::OtherStatement) }
    }

    /// The ledger's name, as the service tells it.
    pub fn origin(&self) -> Option<Origin> {
        origin_of(self.told_statement(Verdict::Approve)?)
    }

    fn told_statement(&self, verdict: Verdict) -> Option<&str> {
        let texts = self.told.statement.as_ref()?;
        Some(match verdict {
            Verdict::Approve => &texts.approve,
            Verdict::Refuse => &texts.refuse,
        })
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.told.id
    }

    /// What is to be done.
    pub const fn act(&self) -> &Act {
        &self.told.act
    }

    /// The act's hash, lower-case hex.
    pub fn act_sha256(&self) -> &str {
        &self.told.act_sha256
    }

    /// Who asked.
    pub fn by(&self) -> &str {
        &self.told.by
    }

    /// Why, in their words.
    pub fn reason(&self) -> &str {
        &self.told.reason
    }

    /// Approvals needed.
    pub const fn required(&self) -> u32 {
        self.told.required
    }

    /// No approval counts at or after this time.
    pub fn expires_at(&self) -> &str {
        &self.told.expires_at
    }

    /// Whether it is an emergency.
    pub const fn is_emergency(&self) -> bool {
        self.told.emergency
    }

    /// `pending`, `refused`, `expired` or `executed`.
    pub fn status(&self) -> &str {
        &self.told.status
    }

    /// Who said yes.
    pub fn approved_by(&self) -> impl Iterator<Item = &str> {
        self.told.approved_by.keys().map(String::as_str)
    }

    /// Who said no.
    pub fn refused_by(&self) -> impl Iterator<Item = &str> {
        self.told.refused_by.keys().map(String::as_str)
    }
}

/// The second line of a statement.
fn origin_of(text: &str) -> Option<Origin> {
    text.lines().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

    use chancery_format::governance::Scope;
    use serde_json::{Value, json};

    use super::*;

    fn told() -> Value {
        let act = Act::Resume { scope: Scope::Global };
        let sha256 = act.sha256().to_hex();
        let origin: Origin = "sign.example/ledger".parse().unwrap();
        let text = |verdict| statement(&origin, "r-1", &sha256, verdict);
        json!({
            "id": "r-1", "act": act, "actSha256": sha256, "by": "alice", "reason": "fixed", "required": 2,
            "expiresAt": "2027-01-01T00:00:00.000Z", "emergency": false, "status": "pending",
            "approvedBy": {"bob": 9}, "refusedBy": {}, "later": 1,
            "statement": {"approve": text(Verdict::Approve), "refuse": text(Verdict::Refuse)},
        })
    }

    fn read(value: &Value) -> Result<Proposal, ProposalError> {
        Proposal::read("r-1", value.to_string().as_bytes())
    }

    #[test]
    fn a_request_is_read_and_its_statements_are_the_formats() {
        let proposal = read(&told()).unwrap();
        assert_eq!(proposal.origin().unwrap().as_str(), "sign.example/ledger");
        assert_eq!(proposal.approved_by().collect::<Vec<_>>(), ["bob"]);
        assert!(proposal.statement(Verdict::Approve).unwrap().ends_with("\napprove\n"));
        assert!(proposal.statement(Verdict::Refuse).unwrap().ends_with("\nrefuse\n"));
    }

    #[test]
    fn another_act_another_request_and_another_statement_are_refused() {
        let mut other = told();
        *other.pointer_mut("/act/scope").unwrap() = json!("key:orders");
        assert!(matches!(read(&other), Err(ProposalError::OtherAct { .. })));
        // A member this client does not know could change what the act means.
        let mut other = told();
        *other.pointer_mut("/act").unwrap() = json!({"kind": "resume", "scope": "global", "until": "noon"});
        assert!(matches!(read(&other), Err(ProposalError::Unreadable(_))));
        let body = told().to_string();
        assert!(matches!(Proposal::read("r-2", body.as_bytes()), Err(ProposalError::OtherRequest { .. })));
        let good = told().pointer("/statement/approve").unwrap().as_str().unwrap().to_owned();
        for (from, to) in [
            ("approve\n", "refuse\n"),
            ("r-1", "r-2"),
            ("/v1", "/v2"),
            ("approve\n", "approve\n\n"),
            ("sign.example/ledger\n", "\n"),
        ] {
            let mut other = told();
            *other.pointer_mut("/statement/approve").unwrap() = json!(good.replacen(from, to, 1));
            let statement = read(&other).unwrap().statement(Verdict::Approve);
            assert!(matches!(statement, Err(ProposalError::OtherStatement)), "{from:?} to {to:?}");
        }
    }
}
