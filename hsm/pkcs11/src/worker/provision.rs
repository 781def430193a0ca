//! Preparing a token: initialising it and generating keys that never leave it.
//!
//! For set-up and demonstrations. A production token is initialised in a ceremony, often by another
//! user than the one who signs; the daemon itself only ever needs to read it.

use std::path::Path;

use chancery_format::Hash;
use chancery_hsm::KeyShape;
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, KeyType, ObjectClass};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use zeroize::Zeroizing;

use crate::provision::{LABEL_BYTES_MAX, ProvisionError};
use crate::selector::TokenSelector;
use crate::worker::der;
use crate::worker::failure::Failure;
use crate::worker::module::Module;
use crate::worker::token::Token;

impl From<Failure> for ProvisionError {
    fn from(failure: Failure) -> Self {
        Self::Device(failure.when_opening())
    }
}

impl From<Error> for ProvisionError {
    fn from(error: Error) -> Self {
        Failure::from(error).into()
    }
}

/// Initialises the first uninitialised token of a module and gives it a user PIN.
pub(crate) fn init_token(
    module_file: &Path,
    token_label: &str,
    so_pin: Zeroizing<String>,
    user_pin: Zeroizing<String>,
) -> Result<(), ProvisionError> {
    if token_label.is_empty() || token_label.len() > LABEL_BYTES_MAX {
        return Err(ProvisionError::TokenLabel);
    }
    let module = Module::load(module_file)?;
    let driver = module.enter();
    if driver.slot_of(&TokenSelector::labelled(token_label)).is_ok() {
        return Err(ProvisionError::TokenExists(token_label.to_owned()));
    }
    let mut free = None;
    for slot in driver.pkcs11.get_slots_with_token()? {
        if !driver.pkcs11.get_token_info(slot)?.token_initialized() {
            free = Some(slot);
            break;
        }
    }
    let slot = free.ok_or(ProvisionError::NoFreeToken)?;
    let so_pin = AuthPin::new(so_pin.as_str().into());
    driver.pkcs11.init_token(slot, &so_pin, token_label)?;
    let session = driver.pkcs11.open_rw_session(slot)?;
    session.login(UserType::So, Some(&so_pin))?;
    session.init_pin(&AuthPin::new(user_pin.as_str().into()))?;
    session.logout()?;
    Ok(())
}

/// Generates a key inside the token: sensitive, never extractable, able to sign and nothing else.
pub(crate) fn generate_key(token: &Token, label: &str, shape: KeyShape) -> Result<(), ProvisionError> {
    let driver = token.module.enter();
    let session = driver.pkcs11.open_rw_session(driver.slot_of(&token.selector)?)?;
    token.log_in(&session)?;
    let taken =
        session.find_objects(&[Attribute::Label(label.as_bytes().to_vec()), Attribute::Token(true)])?;
    if !taken.is_empty() {
        return Err(ProvisionError::KeyExists(label.to_owned()));
    }
    generate(&session, label, shape)?;
    Ok(())
}

fn generate(session: &Session, label: &str, shape: KeyShape) -> Result<(), Error> {
    let public = |special: Vec<Attribute>| [common(label), special, vec![Attribute::Verify(true)]].concat();
    let private = [common(label), secrecy()].concat();
    match shape {
        KeyShape::Hmac(hash) => {
            let kind = vec![
                Attribute::Class(ObjectClass::SECRET_KEY),
                Attribute::KeyType(KeyType::GENERIC_SECRET),
                Attribute::ValueLen((hash.bytes() as u64).into()),
            ];
            session.generate_key(&Mechanism::GenericSecretKeyGen, &[private, kind].concat())?;
        }
        KeyShape::Rsa(bits) => {
            let size = vec![
                Attribute::ModulusBits(u64::from(bits.bits()).into()),
                Attribute::PublicExponent(vec![1, 0, 1]),
            ];
            session.generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public(size), &private)?;
        }
        KeyShape::P256 => generate_ecdsa(session, &der::P256_PARAMS, &public, &private)?,
        KeyShape::P384 => generate_ecdsa(session, &der::P384_PARAMS, &public, &private)?,
        KeyShape::Secp256k1 => generate_ecdsa(session, &der::SECP256K1_PARAMS, &public, &private)?,
        KeyShape::MlDsa44 | KeyShape::MlDsa65 => {
            return Err(Error::NotSupported);
        }
        KeyShape::Ed25519 => generate_ed25519(session, &public, &private)?,
    }
    Ok(())
}

fn generate_ecdsa(
    session: &Session,
    curve: &[u8],
    public: &dyn Fn(Vec<Attribute>) -> Vec<Attribute>,
    private: &[Attribute],
) -> Result<(), Error> {
    let curve = vec![Attribute::EcParams(curve.to_vec())];
    session.generate_key_pair(&Mechanism::EccKeyPairGen, &public(curve), private).map(|_| ())
}

/// Tokens name the curve by object identifier or, as the standard's first text had it, by a string.
fn generate_ed25519(
    session: &Session,
    public: &dyn Fn(Vec<Attribute>) -> Vec<Attribute>,
    private: &[Attribute],
) -> Result<(), Error> {
    let by_name = [&[0x13, 12][..], b"edwards25519"].concat();
    let mut result = Ok(());
    for params in [der::ED25519_PARAMS.to_vec(), by_name] {
        let curve = vec![Attribute::EcParams(params)];
        let made = session.generate_key_pair(&Mechanism::EccEdwardsKeyPairGen, &public(curve), private);
        result = made.map(|_| ());
        let curve_not_known = |code: &RvError| {
            matches!(
                code,
                RvError::DomainParamsInvalid
                    | RvError::CurveNotSupported
                    | RvError::AttributeValueInvalid
                    | RvError::TemplateInconsistent
                    | RvError::GeneralError
                    | RvError::FunctionFailed
            )
        };
        match &result {
            Err(Error::Pkcs11(code, _)) if curve_not_known(code) => {}
            _ => break,
        }
    }
    result
}

fn common(label: &str) -> Vec<Attribute> {
    // The same id on both halves ties them together for other tools.
    let id = Hash::of(&[label.as_bytes()]).0.iter().take(8).copied().collect();
    vec![Attribute::Token(true), Attribute::Label(label.as_bytes().to_vec()), Attribute::Id(id)]
}

fn secrecy() -> Vec<Attribute> {
    vec![
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
    ]
}
