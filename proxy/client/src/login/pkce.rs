//! Proof that whoever redeems the code is who asked for it (RFC 7636).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::entropy::{EntropyError, random_bytes};

/// A secret of this process, and its hash, which is told first.
pub(crate) struct Pkce {
    verifier: Zeroizing<String>,
}

impl Pkce {
    /// 256 bits, as section 4.1 recommends.
    pub(crate) fn random() -> Result<Self, EntropyError> {
        let bytes = Zeroizing::new(random_bytes::<32>()?);
        Ok(Self { verifier: URL_SAFE_NO_PAD.encode(bytes.as_slice()).into() })
    }

    pub(crate) fn verifier(&self) -> &str {
        &self.verifier
    }

    /// Method `S256`.
    pub(crate) fn challenge(&self) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(self.verifier.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_is_the_one_of_the_standard() {
        // RFC 7636, appendix B.
        let pkce = Pkce { verifier: "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".to_owned().into() };
        assert_eq!(pkce.challenge(), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn verifiers_are_long_and_never_the_same() -> Result<(), EntropyError> {
        let (one, other) = (Pkce::random()?, Pkce::random()?);
        assert_eq!(one.verifier().len(), 43);
        assert_ne!(one.verifier(), other.verifier());
        Ok(())
    }
}
