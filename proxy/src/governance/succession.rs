//! Which key pairs answer to which names: the configuration, and the rotations since. A pure function.
//!
//! The configuration names the first key pair of each name; rotations on the ledger name the later ones, so a
//! restart cannot undo one. An operator may bring the configuration up to date afterwards; both then say the
//! same.

use std::collections::HashSet;

use chancery_format::governance::{Rotation, RotationRequested, RotationStep, State};
use chancery_format::registry::KeyState;
use chancery_format::{Kid, SignersRegistry};

use crate::config::KeyConfig;

/// The key pairs of an appliance, by what they may do.
#[derive(Debug, Clone, Default)]
pub struct Succession {
    /// One for each name: what callers get.
    pub current: Vec<KeyConfig>,
    /// To come: published, not in use.
    pub staged: Vec<KeyConfig>,
    /// Replaced: their signatures still count, no new ones are made.
    pub deprecated: Vec<KeyConfig>,
}

/// The configuration contradicts what was decided. The operator's to fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SuccessionError {
    /// A key was exchanged in the configuration although exchanging one needs a quorum.
    #[error(
        "key \"{kid}\": the configuration changes its signer_kid from \"{known}\" to \"{configured}\"; with \
         approvers configured that takes a rotation: chancery keys rotate {kid} --to {configured}"
    )]
    NeedsRotation {
        /// The name.
        kid: Kid,
        /// As published.
        known: Kid,
        /// As configured.
        configured: Kid,
    },
}

impl Succession {
    /// Puts configuration, decisions and registry together.
    pub fn plan(
        keys: &[KeyConfig],
        state: &State,
        registry: Option<&SignersRegistry>,
    ) -> Result<Self, SuccessionError> {
        let mut plan = Self::default();
        for configured in keys {
            let rotations: Vec<&Rotation> = rotations_of(state, &configured.kid);
            check_exchange(configured, &rotations, state, registry)?;
            let mut current = configured.clone();
            for rotation in rotations {
                if rotation.step < RotationStep::Applied {
                    plan.staged.push(successor(configured, &rotation.requested));
                    continue;
                }
                let before = if current.signer_kid == rotation.requested.from {
                    std::mem::replace(&mut current, successor(configured, &rotation.requested))
                } else {
                    // The configuration is up to date with this rotation already.
                    predecessor(configured, rotation, state)
                };
                if !has_ended(registry, &before.signer_kid) {
                    plan.deprecated.push(before);
                }
            }
            plan.current.push(current);
        }
        Ok(plan)
    }

    /// Every key pair that is not to be retired.
    pub fn kept(&self) -> HashSet<&Kid> {
        [&self.staged, &self.deprecated].into_iter().flatten().map(|key| &key.signer_kid).collect()
    }
}

/// Of one name, in the order they were asked for.
fn rotations_of<'a>(state: &'a State, kid: &Kid) -> Vec<&'a Rotation> {
    let mut rotations: Vec<&Rotation> =
        state.rotations.values().filter(|it| it.requested.kid == *kid).collect();
    rotations.sort_by_key(|it| it.indices.first().copied());
    rotations
}

/// The key pair a rotation brings.
pub(super) fn successor(configured: &KeyConfig, asked: &RotationRequested) -> KeyConfig {
    KeyConfig {
        signer_kid: asked.to.clone(),
        backend: asked.backend.clone(),
        label: asked.label.clone(),
        algorithm: asked.algorithm,
        requested_by: Some(asked.by.clone()),
        ..configured.clone()
    }
}

/// The key pair a rotation replaced, if another rotation brought it; otherwise as configured under its own name.
fn predecessor(configured: &KeyConfig, rotation: &Rotation, state: &State) -> KeyConfig {
    let from = &rotation.requested.from;
    match state.rotations.values().find(|it| it.requested.to == *from) {
        Some(brought) => successor(configured, &brought.requested),
        None => KeyConfig { signer_kid: from.clone(), label: from.as_str().to_owned(), ..configured.clone() },
    }
}

fn has_ended(registry: Option<&SignersRegistry>, signer_kid: &Kid) -> bool {
    let record = registry.and_then(|registry| registry.signer(signer_kid.as_str()));
    record.is_some_and(|record| matches!(record.state, KeyState::Retired | KeyState::Compromised))
}

/// With a quorum in force, a key pair is exchanged by a rotation and not in a file.
fn check_exchange(
    configured: &KeyConfig,
    rotations: &[&Rotation],
    state: &State,
    registry: Option<&SignersRegistry>,
) -> Result<(), SuccessionError> {
    let signers = registry.iter().flat_map(|registry| &registry.signers);
    let mut of_name = signers.filter(|record| record.kid.as_ref() == Some(&configured.kid));
    let known =
        rotations.iter().any(|it| [&it.requested.from, &it.requested.to].contains(&&configured.signer_kid));
    match of_name.next_back() {
        Some(last) if state.roster.is_some() && !known && last.signer_kid != configured.signer_kid => {
            Err(SuccessionError::NeedsRotation {
                kid: configured.kid.clone(),
                known: last.signer_kid.clone(),
                configured: configured.signer_kid.clone(),
            })
        }
        _ => Ok(()),
    }
}
