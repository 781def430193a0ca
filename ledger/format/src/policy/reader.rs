//! Reads a policy file line by line; the first flaw ends it.

use super::{
    DEFINITIONS_MAX, Member, Named, POLICY_BYTES_MAX, Policy, PolicyError, PolicyFlaw, PolicyLog, PolicyName,
    PolicyWitness,
};
use crate::cosignature::CosignerKey;
use crate::log_key::LogKey;
use crate::names::Origin;
use crate::witness::decimal;

/// The quorum that needs nobody; no other thing has this name.
pub(super) const NONE: &[u8] = b"none";

/// The file so far.
#[derive(Default)]
struct Reader {
    logs: Vec<PolicyLog>,
    named: Vec<Member>,
    /// Parallel to `named`: whether a group has it as a member.
    taken: Vec<bool>,
    /// `Some(None)` is `quorum none`.
    quorum: Option<Option<Named>>,
}

pub(super) fn read(file: &[u8]) -> Result<Policy, PolicyError> {
    if file.len() > POLICY_BYTES_MAX {
        return Err(PolicyError { line: 1, flaw: PolicyFlaw::TooLarge });
    }
    let mut reader = Reader::default();
    let mut count = 0;
    for (line, number) in file.split_inclusive(|byte| *byte == b'\n').zip(1..) {
        count = number;
        reader.line(line).map_err(|flaw| PolicyError { line: number, flaw })?;
    }
    let quorum = reader.quorum.ok_or(PolicyError { line: count + 1, flaw: PolicyFlaw::NoQuorum })?;
    Ok(Policy { logs: reader.logs, named: reader.named, quorum })
}

impl Reader {
    fn line(&mut self, line: &[u8]) -> Result<(), PolicyFlaw> {
        let line = line.strip_suffix(b"\n").ok_or(PolicyFlaw::Cut)?;
        if line.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f) {
            return Err(PolicyFlaw::Control);
        }
        let words = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
        let words: Vec<&[u8]> = words.collect();
        match words.as_slice() {
            [] => Ok(()),
            [first, ..] if first.starts_with(b"#") => Ok(()),
            [b"log", vkey] => self.log(vkey, None),
            [b"log", vkey, url] => self.log(vkey, Some(url)),
            [b"witness", name, vkey] => self.witness(name, vkey, None),
            [b"witness", name, vkey, url] => self.witness(name, vkey, Some(url)),
            [b"group", name, threshold, members @ ..] if !members.is_empty() => {
                self.group(name, threshold, members)
            }
            [b"quorum", name] => self.quorum(name),
            _ => Err(PolicyFlaw::Shape),
        }
    }

    fn log(&mut self, vkey: &[u8], url: Option<&[u8]>) -> Result<(), PolicyFlaw> {
        let key = text(vkey).and_then(|vkey| LogKey::parse(vkey).ok()).ok_or(PolicyFlaw::Key)?;
        Origin::check(key.name()).map_err(|_| PolicyFlaw::Key)?;
        if self.logs.len() == DEFINITIONS_MAX {
            return Err(PolicyFlaw::TooLarge);
        }
        if self.logs.iter().any(|log| log.key.public_key() == key.public_key()) {
            return Err(PolicyFlaw::DuplicateKey);
        }
        self.logs.push(PolicyLog { key, url: url.map(<[u8]>::to_vec) });
        Ok(())
    }

    fn witness(&mut self, name: &[u8], vkey: &[u8], url: Option<&[u8]>) -> Result<(), PolicyFlaw> {
        let key = text(vkey).and_then(|vkey| CosignerKey::parse(vkey).ok()).ok_or(PolicyFlaw::Key)?;
        let name = self.new_name(name, |member| matches!(member, Member::Witness(_)))?;
        let same = |member: &Member| match member {
            Member::Witness(known) => known.key.public_key() == key.public_key(),
            Member::Group { .. } => false,
        };
        if self.named.iter().any(same) {
            return Err(PolicyFlaw::DuplicateKey);
        }
        let url = url.map(<[u8]>::to_vec);
        self.add(Member::Witness(Box::new(PolicyWitness { name, key, url })));
        Ok(())
    }

    fn group(&mut self, name: &[u8], threshold: &[u8], members: &[&[u8]]) -> Result<(), PolicyFlaw> {
        let name = self.new_name(name, |member| matches!(member, Member::Group { .. }))?;
        let threshold = match threshold {
            b"any" => 1,
            b"all" => members.len(),
            number => text(number)
                .and_then(decimal)
                .and_then(|number| usize::try_from(number).ok())
                .filter(|number| (1..=members.len()).contains(number))
                .ok_or(PolicyFlaw::Threshold)?,
        };
        let mut found = Vec::with_capacity(members.len());
        for member in members {
            let named = self.find(member)?;
            let taken = self.taken.get_mut(named.0).ok_or(PolicyFlaw::UnknownName)?;
            if std::mem::replace(taken, true) {
                return Err(PolicyFlaw::DuplicateMember);
            }
            found.push(named);
        }
        self.add(Member::Group { name, threshold, members: found });
        Ok(())
    }

    fn quorum(&mut self, name: &[u8]) -> Result<(), PolicyFlaw> {
        if self.quorum.is_some() {
            return Err(PolicyFlaw::SecondQuorum);
        }
        self.quorum = Some(if name == NONE { None } else { Some(self.find(name)?) });
        Ok(())
    }

    fn find(&self, name: &[u8]) -> Result<Named, PolicyFlaw> {
        let at = self.named.iter().position(|member| member.name().as_bytes() == name);
        at.map(Named).ok_or(PolicyFlaw::UnknownName)
    }

    /// A name nothing has yet, if there is room for another of this kind.
    fn new_name(&self, name: &[u8], kind: impl Fn(&Member) -> bool) -> Result<PolicyName, PolicyFlaw> {
        if name == NONE || self.find(name).is_ok() {
            return Err(PolicyFlaw::DuplicateName);
        }
        if self.named.iter().filter(|member| kind(member)).count() == DEFINITIONS_MAX {
            return Err(PolicyFlaw::TooLarge);
        }
        Ok(PolicyName(name.to_vec()))
    }

    fn add(&mut self, member: Member) {
        self.named.push(member);
        self.taken.push(false);
    }
}

fn text(word: &[u8]) -> Option<&str> {
    std::str::from_utf8(word).ok()
}
