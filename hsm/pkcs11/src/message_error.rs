//! The failures inside the replies of `message.rs`.

use std::io::Result;

use chancery_format::entry::KeyUse;
use chancery_hsm::SignerError;

use crate::provision::ProvisionError;
use crate::wire::{Fields, Taker, bad};

pub(crate) fn put_error(fields: Fields, error: &SignerError) -> Fields {
    let unknown = |key_use: &KeyUse| (*key_use == KeyUse::Unknown).into();
    match error {
        SignerError::WrongInput => fields.byte(1),
        SignerError::Deadline(key_use) => fields.byte(2).byte(unknown(key_use)),
        SignerError::Unavailable { cause, key_use } => fields.byte(3).text(cause).byte(unknown(key_use)),
        SignerError::KeyMissing { cause } => fields.byte(4).text(cause),
        SignerError::Refused { cause } => fields.byte(5).text(cause),
        // The worker says none of the others; a panic is said in words.
        other => fields.byte(3).text(&other.to_string()).byte(unknown(&other.key_use())),
    }
}

pub(crate) fn take_error(taker: &mut Taker<'_>) -> Result<SignerError> {
    let key_use = |unknown| if unknown { KeyUse::Unknown } else { KeyUse::None };
    Ok(match taker.byte()? {
        1 => SignerError::WrongInput,
        2 => SignerError::Deadline(key_use(taker.flag()?)),
        3 => SignerError::Unavailable { cause: taker.text()?, key_use: key_use(taker.flag()?) },
        4 => SignerError::KeyMissing { cause: taker.text()? },
        5 => SignerError::Refused { cause: taker.text()? },
        _ => return Err(bad("an unknown error")),
    })
}

pub(crate) fn put_provision_error(fields: Fields, error: &ProvisionError) -> Fields {
    match error {
        ProvisionError::TokenExists(label) => fields.byte(1).text(label),
        ProvisionError::TokenLabel => fields.byte(2),
        ProvisionError::NoFreeToken => fields.byte(3),
        ProvisionError::KeyExists(label) => fields.byte(4).text(label),
        ProvisionError::Device(error) => put_error(fields.byte(5), error),
    }
}

pub(crate) fn take_provision_error(taker: &mut Taker<'_>) -> Result<ProvisionError> {
    Ok(match taker.byte()? {
        1 => ProvisionError::TokenExists(taker.text()?),
        2 => ProvisionError::TokenLabel,
        3 => ProvisionError::NoFreeToken,
        4 => ProvisionError::KeyExists(taker.text()?),
        5 => ProvisionError::Device(take_error(taker)?),
        _ => return Err(bad("an unknown error")),
    })
}
