//! What the device logs: whether it refuses to work unlogged, and which commands it logs at all.
//!
//! Forced auditing alone proves nothing: it makes room for what is logged, and each command's logging is a
//! switch of its own.

use std::collections::BTreeSet;

use crate::config::ForceAudit;
use crate::failure::Failure;
use crate::key::{ALGORITHMS, recipe};
use crate::session::Session;
use crate::wire::{command, option};

const ON: u8 = 1;

/// Checks, or sets, that nothing which uses or changes a key goes unlogged.
pub(crate) fn ensure(session: &mut Session, wanted: ForceAudit) -> Result<(), Failure> {
    let forced = session.command(command::GET_OPTION, &[option::FORCE_AUDIT])?;
    let force_is_on = matches!(forced.as_slice(), [1 | 2]);
    let unlogged = unlogged(&session.command(command::GET_OPTION, &[option::COMMAND_AUDIT])?);
    if force_is_on && unlogged.is_empty() {
        return Ok(());
    }
    if wanted == ForceAudit::Set {
        // The commands first: once auditing is forced, this very change needs room in the log.
        if !unlogged.is_empty() {
            let pairs: Vec<u8> = unlogged.iter().flat_map(|code| [*code, ON]).collect();
            set(session, option::COMMAND_AUDIT, &pairs)?;
        }
        if !force_is_on {
            set(session, option::FORCE_AUDIT, &[ON])?;
        }
        return ensure(session, ForceAudit::Require);
    }
    let mut causes = Vec::new();
    if !force_is_on {
        causes.push("forced auditing is off".to_owned());
    }
    if !unlogged.is_empty() {
        let names: Vec<String> = unlogged.into_iter().map(command::name).collect();
        causes.push(format!("it does not log {}", names.join(", ")));
    }
    Err(Failure::refused(format!("the device's log cannot be relied on: {}", causes.join("; "))))
}

/// Commands that matter and are not logged: switched off, or, if they sign, without a switch.
fn unlogged(pairs: &[u8]) -> Vec<u8> {
    let matters = |code: &u8| command::USING_KEYS.contains(code) || command::CHANGING_KEYS.contains(code);
    let (pairs, _) = pairs.as_chunks::<2>();
    let off = pairs.iter().filter(|[code, state]| *state == 0 && matters(code)).map(|[code, _]| *code);
    let signing = ALGORITHMS.iter().filter_map(|algorithm| recipe(*algorithm)).map(|recipe| recipe.command);
    let absent = signing.filter(|signing| !pairs.iter().any(|[code, _]| code == signing));
    off.chain(absent).collect::<BTreeSet<_>>().into_iter().collect()
}

fn set(session: &mut Session, tag: u8, value: &[u8]) -> Result<(), Failure> {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes();
    let content = [&[tag], length.as_slice(), value].concat();
    session.command(command::SET_OPTION, &content).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_commands_that_matter_must_be_logged() {
        let mut pairs: Vec<u8> = (0x40..0x70).flat_map(|code| [code, ON]).collect();
        pairs.extend([command::ECHO, 0, command::DEVICE_INFO, 0]);
        assert!(unlogged(&pairs).is_empty());
        pairs.extend([command::SIGN_EDDSA, 0, 0x4a, 0]);
        assert_eq!(unlogged(&pairs), [0x4a, command::SIGN_EDDSA]);
        let signing = [command::SIGN_PKCS1, command::SIGN_HMAC, command::SIGN_PSS, command::SIGN_ECDSA];
        assert_eq!(unlogged(&[]), [signing.as_slice(), &[command::SIGN_EDDSA]].concat());
    }
}
