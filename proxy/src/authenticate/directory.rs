//! Which configured principal owns a certificate's names.

use std::collections::HashMap;

use chancery_format::{Hash, PrincipalName};

use super::certificate::{CertificateNames, ClientCertificate};
use super::{IdentityError, IdentitySource, Principal};

/// The configured principals, by each way a certificate may name them, and by the tokens that stand for them.
#[derive(Debug, Default)]
pub struct Directory {
    uris: HashMap<String, PrincipalName>,
    dns: HashMap<String, PrincipalName>,
    common_names: HashMap<String, PrincipalName>,
    /// SHA-256 of each token, and for whom it stands.
    tokens: Vec<(Hash, PrincipalName)>,
}

impl Directory {
    /// From the configured principals: name, and common name where one is configured.
    pub fn new<'a>(principals: impl IntoIterator<Item = (&'a PrincipalName, Option<&'a str>)>) -> Self {
        let mut directory = Self::default();
        for (name, common_name) in principals {
            let text = name.as_str().to_owned();
            match NameShape::of(&text) {
                Some(NameShape::Uri) => directory.uris.insert(text, name.clone()),
                Some(NameShape::Dns) => directory.dns.insert(text, name.clone()),
                None => None,
            };
            if let Some(common_name) = common_name {
                directory.common_names.insert(common_name.to_owned(), name.clone());
            }
        }
        directory
    }

    /// The principal that owns `certificate`, by the rules of `authenticate.rs`.
    pub fn resolve(&self, certificate: &ClientCertificate) -> Result<Principal, IdentityError> {
        let names = certificate.names.as_ref().map_err(|error| *error)?;
        let (name, source) = self.find(names)?;
        Ok(Principal { name: name.clone(), certificate: certificate.sha256, source })
    }

    /// Adds tokens, each by its SHA-256. A token is random, so its hash needs no salt.
    #[must_use]
    pub fn with_tokens(mut self, tokens: impl IntoIterator<Item = (Hash, PrincipalName)>) -> Self {
        self.tokens.extend(tokens);
        self
    }

    /// The principal a bearer token stands for. Every hash is compared whole, so that time tells nothing of any.
    pub fn resolve_token(&self, token: &str) -> Result<Principal, IdentityError> {
        let hash = Hash::of(&[token.as_bytes()]);
        let mut found = None;
        for (known, name) in &self.tokens {
            let differs = known.0.iter().zip(hash.0).fold(0, |bits, (a, b)| bits | (a ^ b));
            if std::hint::black_box(differs) == 0 {
                found = Some(name);
            }
        }
        let name = found.ok_or(IdentityError::UnknownToken)?.clone();
        Ok(Principal { name, certificate: hash, source: IdentitySource::BearerToken })
    }

    fn find(&self, names: &CertificateNames) -> Result<(&PrincipalName, IdentitySource), IdentityError> {
        if let Some(uri) = &names.uri {
            if claims_spiffe(uri) && !is_spiffe_id(uri) {
                return Err(IdentityError::InvalidSpiffe);
            }
            let name = self.uris.get(uri).ok_or(IdentityError::Unknown)?;
            return Ok((name, IdentitySource::UriSan));
        }
        let mut owners = names.dns.iter().filter_map(|name| self.dns.get(name));
        if let Some(first) = owners.next() {
            if owners.any(|other| other != first) {
                return Err(IdentityError::ManyPrincipals);
            }
            return Ok((first, IdentitySource::DnsSan));
        }
        let owner = names.common_name.as_ref().and_then(|name| self.common_names.get(name));
        Ok((owner.ok_or(IdentityError::Unknown)?, IdentitySource::CommonName))
    }
}

/// How a configured principal's name can appear in a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameShape {
    /// As URI SAN.
    Uri,
    /// As DNS SAN.
    Dns,
}

impl NameShape {
    /// The shape of `name`; `None` if no SAN can carry it, so that only a common name can match.
    pub fn of(name: &str) -> Option<Self> {
        if claims_spiffe(name) {
            is_spiffe_id(name).then_some(Self::Uri)
        } else if is_uri(name) {
            Some(Self::Uri)
        } else {
            is_dns_name(name).then_some(Self::Dns)
        }
    }
}

fn claims_spiffe(name: &str) -> bool {
    name.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("spiffe:"))
}

/// `scheme:rest`, the scheme as RFC 3986 has it, without fragment and wildcard.
fn is_uri(name: &str) -> bool {
    let Some((scheme, rest)) = name.split_once(':') else { return false };
    scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b))
        && !rest.is_empty()
        && !rest.contains(['*', '#'])
}

/// A workload id of the SPIFFE standard: trust domain of `a-z 0-9 . - _`, one or more path segments of
/// `A-Z a-z 0-9 . - _`, none of them empty, `.` or `..`; nothing else.
pub fn is_spiffe_id(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("spiffe://") else { return false };
    let Some((domain, path)) = rest.split_once('/') else { return false };
    let in_domain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_".contains(&b);
    let in_path = |b: u8| b.is_ascii_alphanumeric() || b".-_".contains(&b);
    !domain.is_empty()
        && domain.len() <= 255
        && domain.bytes().all(in_domain)
        && path.split('/').all(|segment| {
            !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(in_path)
        })
}

fn is_dns_name(name: &str) -> bool {
    let in_label = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(in_label)
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use rcgen::string::Ia5String;
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair, SanType};

    use super::*;

    const ORDERS: &str = "spiffe://demo.example/service/orders";

    fn directory() -> Directory {
        let names: Vec<PrincipalName> =
            [ORDERS, "billing.example", "payroll.example", "legacy", "urn:service:pay", "kernel"]
                .iter()
                .map(|name| name.parse().unwrap())
                .collect();
        let with = |name: &PrincipalName| match name.as_str() {
            "legacy" => Some("Legacy Batch 7"),
            "kernel" => Some("kernel"),
            _ => None,
        };
        Directory::new(names.iter().map(|name| (name, with(name))))
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(Ia5String::try_from(text).unwrap())
    }

    fn dns(text: &str) -> SanType {
        SanType::DnsName(Ia5String::try_from(text).unwrap())
    }

    fn subject(names: &[&str]) -> DistinguishedName {
        let mut subject = DistinguishedName::new();
        for (at, name) in names.iter().enumerate() {
            // A second common name under the same identifier, which the builder would otherwise replace.
            let kind = if at == 0 { DnType::CommonName } else { DnType::CustomDnType(vec![2, 5, 4, 3]) };
            subject.push(kind, DnValue::Utf8String((*name).to_owned()));
        }
        subject
    }

    fn resolve(sans: Vec<SanType>, common_names: &[&str]) -> Result<(String, IdentitySource), IdentityError> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = sans;
        params.distinguished_name = subject(common_names);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let read = ClientCertificate::read(certificate.der());
        directory().resolve(&read).map(|principal| (principal.name().as_str().to_owned(), principal.source()))
    }

    #[test]
    fn each_kind_of_name_finds_its_principal() {
        use IdentitySource::{CommonName, DnsSan, UriSan};
        for (sans, common, expected) in [
            (vec![uri(ORDERS)], vec![], (ORDERS, UriSan)),
            (vec![uri("urn:service:pay")], vec![], ("urn:service:pay", UriSan)),
            (vec![uri(ORDERS), dns("billing.example")], vec!["kernel"], (ORDERS, UriSan)),
            (vec![dns("billing.example")], vec![], ("billing.example", DnsSan)),
            (vec![dns("other.example"), dns("billing.example")], vec![], ("billing.example", DnsSan)),
            (vec![dns("billing.example"), dns("billing.example")], vec![], ("billing.example", DnsSan)),
            (vec![], vec!["Legacy Batch 7"], ("legacy", CommonName)),
            (vec![dns("other.example")], vec!["kernel"], ("kernel", CommonName)),
        ] {
            let found = resolve(sans, &common);
            assert_eq!(found, Ok((expected.0.to_owned(), expected.1)), "{common:?}");
        }
    }

    #[test]
    fn traps() {
        use IdentityError as E;
        for (what, sans, common, expected) in [
            ("nothing", vec![], vec![], E::Unknown),
            ("strange URI", vec![uri("spiffe://demo.example/service/other")], vec![], E::Unknown),
            ("prefix", vec![uri("spiffe://demo.example/service/orders/x")], vec![], E::Unknown),
            ("other case", vec![uri("spiffe://demo.example/service/Orders")], vec![], E::Unknown),
            ("two URIs", vec![uri(ORDERS), uri(ORDERS)], vec![], E::ManyUris),
            ("two URIs, one strange", vec![uri("urn:x:y"), uri(ORDERS)], vec![], E::ManyUris),
            ("URI decides: no fall to DNS", vec![uri("urn:x:y"), dns("billing.example")], vec![], E::Unknown),
            ("URI decides: no fall to CN", vec![uri("urn:x:y")], vec!["kernel"], E::Unknown),
            (
                "scheme in capitals",
                vec![uri("SPIFFE://demo.example/service/orders")],
                vec![],
                E::InvalidSpiffe,
            ),
            ("trailing slash", vec![uri("spiffe://demo.example/service/orders/")], vec![], E::InvalidSpiffe),
            ("dots", vec![uri("spiffe://demo.example/service/x/../orders")], vec![], E::InvalidSpiffe),
            ("percent", vec![uri("spiffe://demo.example/service/%6frders")], vec![], E::InvalidSpiffe),
            ("query", vec![uri("spiffe://demo.example/service/orders?x")], vec![], E::InvalidSpiffe),
            ("port", vec![uri("spiffe://demo.example:443/service/orders")], vec![], E::InvalidSpiffe),
            ("user", vec![uri("spiffe://a@demo.example/service/orders")], vec![], E::InvalidSpiffe),
            ("trust domain only", vec![uri("spiffe://demo.example")], vec![], E::InvalidSpiffe),
            ("URI in a DNS name", vec![dns(ORDERS)], vec![], E::Unknown),
            ("DNS name in a URI", vec![uri("billing.example")], vec![], E::Unknown),
            ("wildcard", vec![dns("*.example")], vec![], E::Wildcard),
            ("wildcard beside", vec![dns("billing.example"), dns("*.example")], vec![], E::Wildcard),
            ("DNS case", vec![dns("Billing.example")], vec![], E::Unknown),
            ("DNS dot", vec![dns("billing.example.")], vec![], E::Unknown),
            (
                "two principals",
                vec![dns("billing.example"), dns("payroll.example")],
                vec![],
                E::ManyPrincipals,
            ),
            ("NUL in DNS", vec![dns("billing.example\0.evil.example")], vec![], E::Malformed),
            ("space in URI", vec![uri("spiffe://demo.example/service/orders ")], vec![], E::Malformed),
            ("NUL in CN", vec![], vec!["kernel\0.evil"], E::Malformed),
            ("NUL in CN beside a good URI", vec![uri(ORDERS)], vec!["kernel\0"], E::Malformed),
            ("two CNs", vec![], vec!["other", "kernel"], E::ManyCommonNames),
            ("two CNs beside a good URI", vec![uri(ORDERS)], vec!["a", "b"], E::ManyCommonNames),
            ("a SAN name as CN", vec![], vec!["billing.example"], E::Unknown),
            ("a URI as CN", vec![], vec![ORDERS], E::Unknown),
            ("CN case", vec![], vec!["Kernel"], E::Unknown),
            ("principal of a CN as CN", vec![], vec!["legacy"], E::Unknown),
        ] {
            assert_eq!(resolve(sans, &common), Err(expected), "{what}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_nobody() {
        let read = ClientCertificate::read(&rustls_pki_types::CertificateDer::from(vec![0x30, 0x00]));
        assert_eq!(directory().resolve(&read), Err(IdentityError::Malformed));
        assert!(read.expired_at(1));
    }

    #[test]
    fn an_empty_directory_knows_nobody() {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![uri(ORDERS)];
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let read = ClientCertificate::read(certificate.der());
        assert_eq!(Directory::default().resolve(&read), Err(IdentityError::Unknown));
    }
}
