//! Which token and which key: plain labels, or PKCS#11 URIs taken apart.

use chancery_format::SignatureAlgorithm;

use crate::uri::{Uri, UriError};

/// Which token of a module. At least one of `label`, `serial` and `slot_id` must be set; everything that
/// is set must match, and only one token may.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenSelector {
    /// CKA_LABEL of the token, without the blanks at its end.
    pub label: Option<String>,
    /// Its serial number.
    pub serial: Option<String>,
    /// Its manufacturer, only beside one of the others.
    pub manufacturer: Option<String>,
    /// Its model, only beside one of the others.
    pub model: Option<String>,
    /// The number of its slot. Modules may renumber; prefer label or serial.
    pub slot_id: Option<u64>,
}

impl TokenSelector {
    /// The token with this label.
    pub fn labelled(label: &str) -> Self {
        Self { label: Some(label.to_owned()), ..Self::default() }
    }

    /// The token a URI names: by exactly one of `token`, `serial` and `slot-id`.
    pub fn of_uri(uri: &Uri) -> Result<Self, UriError> {
        let named = [uri.token.is_some(), uri.serial.is_some(), uri.slot_id.is_some()];
        if named.into_iter().filter(|it| *it).count() != 1 {
            return Err(UriError::TokenNotNamed);
        }
        Ok(Self {
            label: uri.token.clone(),
            serial: uri.serial.clone(),
            manufacturer: uri.manufacturer.clone(),
            model: uri.model.clone(),
            slot_id: uri.slot_id,
        })
    }

    /// Whether anything picks a token out.
    pub(crate) const fn names_a_token(&self) -> bool {
        self.label.is_some() || self.serial.is_some() || self.slot_id.is_some()
    }
}

impl std::fmt::Display for TokenSelector {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut comma = "";
        let texts = [
            ("labelled", &self.label),
            ("of serial", &self.serial),
            ("by", &self.manufacturer),
            ("of model", &self.model),
        ];
        for (what, text) in texts {
            if let Some(text) = text {
                write!(formatter, "{comma}{what} \"{text}\"")?;
                comma = ", ";
            }
        }
        match self.slot_id {
            Some(slot) => write!(formatter, "{comma}in slot {slot}"),
            None => Ok(()),
        }
    }
}

/// How a key is found again, by whatever session of whatever worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyAddress {
    /// The key's place in every session's cache.
    pub(crate) number: usize,
    /// What the operator called it; for messages.
    pub(crate) label: String,
    /// CKA_LABEL.
    pub(crate) object: Option<String>,
    /// CKA_ID.
    pub(crate) id: Option<Vec<u8>>,
    pub(crate) algorithm: SignatureAlgorithm,
}

impl KeyAddress {
    /// A plain label, or a URI that names an object.
    pub(crate) fn parse(
        number: usize,
        label: &str,
        algorithm: SignatureAlgorithm,
        token: &TokenSelector,
    ) -> Result<Self, UriError> {
        let (object, id) = if label.starts_with(crate::uri::SCHEME) {
            let uri: Uri = label.parse()?;
            uri.check_key(algorithm.is_mac())?;
            if (uri.token.is_some() && uri.token != token.label)
                || (uri.serial.is_some() && uri.serial != token.serial)
                || (uri.slot_id.is_some() && uri.slot_id != token.slot_id)
            {
                return Err(UriError::OtherToken);
            }
            (uri.object, uri.id)
        } else {
            (Some(label.to_owned()), None)
        };
        Ok(Self { number, label: label.to_owned(), object, id, algorithm })
    }
}
