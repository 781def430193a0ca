//! C2SP tlog-policy: which logs a verifier trusts, and which witnesses must have cosigned.
//!
//! A policy is a file of lines: `log <vkey> [url]`, `witness <name> <vkey> [url]`, `group <name> <k|any|all>
//! <member>…` and one `quorum <name|none>`. It is read once into a list in the file's order, in which a group
//! names only what stands before it, so that judging a checkpoint is one walk without recursion.
//!
//! Refused, with the line: unknown words, names that are not defined before, are defined twice or belong to two
//! groups, one key in two logs or two witnesses, keys of a type that does not fit, thresholds nobody can reach,
//! none or two quorums, control characters, a last line without its end, more than the limits below. A witness
//! in no group is allowed: its cosignature is reported and counts for nothing.

use std::fmt;

use crate::checkpoint::{Checkpoint, CheckpointError, VerifiedCheckpoint};
use crate::cosignature::{Cosignature, CosignedAt, CosignerKey, cosignatures};
use crate::log_key::LogKey;
use crate::names::Origin;
use crate::note::Note;

mod reader;
#[cfg(test)]
mod tests;

/// Largest policy read, in bytes: 256 logs and 256 witnesses with ML-DSA-44 keys fit.
pub const POLICY_BYTES_MAX: usize = 1024 * 1024 + 256 * 1024;
/// Most logs, most witnesses, and most groups. The format asks for 32 of each.
pub const DEFINITIONS_MAX: usize = 256;

/// Why a policy was refused. Whoever wrote the file is at fault; retrying cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("policy line {line}: {flaw}")]
pub struct PolicyError {
    /// Counted from 1; the line after the last for what the whole file lacks.
    pub line: usize,
    /// What is wrong with it.
    pub flaw: PolicyFlaw,
}

/// What can be wrong with a line of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PolicyFlaw {
    /// The file is larger than [`POLICY_BYTES_MAX`], or has more definitions of a kind than
    /// [`DEFINITIONS_MAX`].
    #[error("too large")]
    TooLarge,
    /// A control character other than tab and newline.
    #[error("control character")]
    Control,
    /// The last line has no newline: the file may be cut short.
    #[error("does not end in a newline")]
    Cut,
    /// Not one of the four words with as many others as it takes.
    #[error("not a log, witness, group or quorum")]
    Shape,
    /// Not a log's vkey (type 0x01 or 0x06, named by an origin), or not a witness' (0x04 or 0x06).
    #[error("not a verifier key for this")]
    Key,
    /// The same public key again, under whatever name.
    #[error("public key is there already")]
    DuplicateKey,
    /// A name that is taken, or `none`.
    #[error("name is taken")]
    DuplicateName,
    /// A name nothing before defines; `none` in a group.
    #[error("name is not defined before")]
    UnknownName,
    /// A member that already belongs to a group.
    #[error("is a member of a group already")]
    DuplicateMember,
    /// Not `any`, `all` or a number from 1 to the number of members.
    #[error("threshold is not any, all or 1 to the number of members")]
    Threshold,
    /// A second quorum.
    #[error("second quorum")]
    SecondQuorum,
    /// No quorum.
    #[error("no quorum")]
    NoQuorum,
}

/// Why a checkpoint is not accepted under a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PolicyRefusal {
    /// It is not a checkpoint, bears no valid signature of the log, or a false one by a known key. Whoever
    /// supplied it is at fault.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The policy has no log of its origin.
    #[error("checkpoint is of a log that the policy does not name")]
    UnknownLog,
    /// Too few witnesses cosigned; ask for a checkpoint with more.
    #[error("too few witnesses cosigned the checkpoint")]
    Quorum,
}

/// A name of a policy: opaque bytes, usually UTF-8.
#[derive(Clone, PartialEq, Eq)]
pub struct PolicyName(Vec<u8>);

impl PolicyName {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// One log of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyLog {
    /// Its key, named by its origin.
    pub key: LogKey,
    /// Where it is, as the file says.
    pub url: Option<Vec<u8>>,
}

/// One witness of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyWitness {
    /// Its name in this file; its key has another.
    pub name: PolicyName,
    /// Its key.
    pub key: CosignerKey,
    /// Where it takes requests, as the file says.
    pub url: Option<Vec<u8>>,
}

/// What a group or the quorum can name: a position in the policy's list of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Named(usize);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Member {
    Witness(Box<PolicyWitness>),
    Group { name: PolicyName, threshold: usize, members: Vec<Named> },
}

impl Member {
    const fn name(&self) -> &PolicyName {
        match self {
            Self::Witness(witness) => &witness.name,
            Self::Group { name, .. } => name,
        }
    }
}

/// A policy as read; it is consistent in itself. The default has no log and needs no witness.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    logs: Vec<PolicyLog>,
    /// In the file's order: the members of a group stand before it.
    named: Vec<Member>,
    quorum: Option<Named>,
}

/// What witnesses say of a checkpoint, under one policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witnessed {
    checkpoint: VerifiedCheckpoint,
    counted: Vec<(PolicyName, Cosignature)>,
    of_the_future: Vec<(PolicyName, Cosignature)>,
    quorum_met: bool,
}

impl Witnessed {
    /// Whose cosignatures count, by their names in the policy, whether or not the quorum needs them.
    pub fn counted(&self) -> &[(PolicyName, Cosignature)] {
        &self.counted
    }

    /// Whose cosignatures verify, but say they were made after the time given.
    pub fn of_the_future(&self) -> &[(PolicyName, Cosignature)] {
        &self.of_the_future
    }

    /// Whether those that count are enough.
    pub const fn quorum_met(&self) -> bool {
        self.quorum_met
    }

    /// The checkpoint, whether or not enough witnesses cosigned it.
    pub const fn checkpoint(&self) -> &VerifiedCheckpoint {
        &self.checkpoint
    }

    /// The checkpoint, if enough witnesses cosigned it.
    pub fn into_accepted(self) -> Result<VerifiedCheckpoint, PolicyRefusal> {
        if self.quorum_met { Ok(self.checkpoint) } else { Err(PolicyRefusal::Quorum) }
    }
}

impl Policy {
    /// Reads a policy file.
    pub fn parse(file: &[u8]) -> Result<Self, PolicyError> {
        reader::read(file)
    }

    /// The same witnesses, groups and quorum for exactly these logs, in this order; a log it had keeps its URL.
    /// Fails for a key that is there twice, and for too many.
    pub fn with_logs(&self, keys: &[LogKey]) -> Result<Self, PolicyError> {
        let url = |key: &LogKey| self.logs.iter().find(|log| log.key == *key).and_then(|log| log.url.clone());
        let logs = keys.iter().map(|key| PolicyLog { key: key.clone(), url: url(key) }).collect();
        // Read again, so that it is held to all that a file is held to.
        Self::parse(&Self { logs, ..self.clone() }.to_bytes())
    }

    /// The file with single spaces and without comments: logs, then witnesses and groups, then the quorum.
    /// Thresholds of all and of one member are written as words.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut file = Vec::new();
        let mut line = |words: &[&[u8]]| {
            file.extend_from_slice(&words.join(&b' '));
            file.push(b'\n');
        };
        for log in &self.logs {
            let vkey = log.key.vkey();
            let words = [b"log".as_slice(), vkey.as_bytes()];
            line(&words.into_iter().chain(log.url.as_deref()).collect::<Vec<_>>());
        }
        for member in &self.named {
            match member {
                Member::Witness(witness) => {
                    let vkey = witness.key.vkey();
                    let words = [b"witness".as_slice(), &witness.name.0, vkey.as_bytes()];
                    line(&words.into_iter().chain(witness.url.as_deref()).collect::<Vec<_>>());
                }
                Member::Group { name, threshold, members } => {
                    let number = threshold.to_string();
                    let threshold = match threshold {
                        all if *all == members.len() => b"all".as_slice(),
                        1 => b"any".as_slice(),
                        _ => number.as_bytes(),
                    };
                    let names = members.iter().filter_map(|named| self.name_of(*named));
                    line(
                        &[b"group".as_slice(), &name.0, threshold]
                            .into_iter()
                            .chain(names)
                            .collect::<Vec<_>>(),
                    );
                }
            }
        }
        let quorum = self.quorum.and_then(|named| self.name_of(named)).unwrap_or(reader::NONE);
        line(&[b"quorum".as_slice(), quorum]);
        file
    }

    fn name_of(&self, named: Named) -> Option<&[u8]> {
        self.named.get(named.0).map(|member| member.name().as_bytes())
    }

    /// The logs, in the file's order.
    pub fn logs(&self) -> &[PolicyLog] {
        &self.logs
    }

    /// The witnesses, in the file's order.
    pub fn witnesses(&self) -> impl Iterator<Item = &PolicyWitness> {
        self.named.iter().filter_map(|member| match member {
            Member::Witness(witness) => Some(&**witness),
            Member::Group { .. } => None,
        })
    }

    /// Whether the policy needs no witness (`quorum none`).
    pub const fn needs_no_witness(&self) -> bool {
        self.quorum.is_none()
    }

    /// Judges a note by this policy: a log of its signed it, and which witnesses cosigned. `now`, if given,
    /// keeps cosignatures of the future from counting.
    pub fn verify(&self, note: &str, now: Option<CosignedAt>) -> Result<Witnessed, PolicyRefusal> {
        let text = Note::parse(note).map_err(CheckpointError::from)?.text;
        let claimed = Checkpoint::parse(text).ok_or(CheckpointError::Malformed)?;
        let keys = self.log_keys(claimed.origin());
        if keys.is_empty() {
            return Err(PolicyRefusal::UnknownLog);
        }
        self.judge(Checkpoint::verify_by_any(note, claimed.origin(), &keys)?, now)
    }

    /// Judges a checkpoint whose log is known from elsewhere, such as from the registry of signers.
    pub fn judge(
        &self,
        checkpoint: VerifiedCheckpoint,
        now: Option<CosignedAt>,
    ) -> Result<Witnessed, PolicyRefusal> {
        let keys: Vec<_> = self.witnesses().map(|witness| witness.key.clone()).collect();
        let note = Note::parse(checkpoint.note()).map_err(CheckpointError::from)?;
        let found = cosignatures(&note, checkpoint.checkpoint(), &keys).map_err(CheckpointError::from)?;
        let (mut counted, mut of_the_future) = (Vec::new(), Vec::new());
        for (key, cosignature) in found {
            let Some(witness) = self.witnesses().find(|witness| witness.key == *key) else { continue };
            let late = now.is_some_and(|now| cosignature.timestamp > now);
            let list = if late { &mut of_the_future } else { &mut counted };
            list.push((witness.name.clone(), cosignature));
        }
        let quorum_met = self.is_met_by(|name| counted.iter().any(|(known, _)| known == name));
        Ok(Witnessed { checkpoint, counted, of_the_future, quorum_met })
    }

    fn log_keys(&self, origin: &Origin) -> Vec<LogKey> {
        let named = self.logs.iter().filter(|log| log.key.name() == origin.as_str());
        named.map(|log| log.key.clone()).collect()
    }

    /// Whether the quorum is reached if these witnesses cosigned.
    fn is_met_by(&self, cosigned: impl Fn(&PolicyName) -> bool) -> bool {
        let mut met: Vec<bool> = Vec::with_capacity(self.named.len());
        for member in &self.named {
            met.push(match member {
                Member::Witness(witness) => cosigned(&witness.name),
                Member::Group { threshold, members, .. } => {
                    let reached = members.iter().filter(|named| met.get(named.0) == Some(&true));
                    reached.count() >= *threshold
                }
            });
        }
        self.quorum.is_none_or(|quorum| met.get(quorum.0) == Some(&true))
    }
}
