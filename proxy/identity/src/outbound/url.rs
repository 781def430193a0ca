//! Where a call goes: `https` anywhere, `http` on this machine alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use hyper::Uri;
use hyper::header::HeaderValue;
use rustls_pki_types::ServerName;

use crate::limits;

/// The URL cannot be called. Whoever configured or published it is at fault; nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not an absolute URL without user, password and fragment, or too long.
    #[error("{0:?} is not a plain https URL")]
    NotPlain(String),
    /// `http` to another machine: anybody on the way could answer.
    #[error("{0:?} is not https, and http is for this machine alone")]
    NotSecure(String),
}

/// A URL that may be called.
#[derive(Clone, PartialEq, Eq)]
pub struct RemoteUrl {
    text: String,
    target: Target,
    host_header: HeaderValue,
    path_and_query: Uri,
}

/// Who is at the other end: calls to the same one share connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Tls { name: ServerName<'static>, host: String, port: u16 },
    ThisMachine(Vec<SocketAddr>),
}

impl RemoteUrl {
    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether what it says can be trusted to come from its host.
    pub const fn is_https(&self) -> bool {
        matches!(self.target, Target::Tls { .. })
    }

    pub(crate) const fn target(&self) -> &Target {
        &self.target
    }

    pub(crate) const fn host_header(&self) -> &HeaderValue {
        &self.host_header
    }

    pub(crate) const fn path_and_query(&self) -> &Uri {
        &self.path_and_query
    }
}

impl FromStr for RemoteUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let not_plain = || UrlError::NotPlain(text.chars().take(limits::URL_BYTES_MAX).collect());
        if text.len() > limits::URL_BYTES_MAX || text.contains('#') {
            return Err(not_plain());
        }
        let uri: Uri = text.parse().map_err(|_| not_plain())?;
        let authority = uri.authority().filter(|it| !it.as_str().contains('@')).ok_or_else(not_plain)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let target = match uri.scheme_str() {
            Some("https") => {
                let name = ServerName::try_from(host.clone()).map_err(|_| not_plain())?;
                Target::Tls { name, host, port: authority.port_u16().unwrap_or(443) }
            }
            Some("http") => {
                let port = authority.port_u16().unwrap_or(80);
                let addresses = this_machine(&host).ok_or_else(|| UrlError::NotSecure(text.to_owned()))?;
                Target::ThisMachine(addresses.into_iter().map(|ip| (ip, port).into()).collect())
            }
            _ => return Err(not_plain()),
        };
        let host_header = HeaderValue::from_str(authority.as_str()).map_err(|_| not_plain())?;
        let path_and_query = uri.path_and_query().cloned().ok_or_else(not_plain)?.into();
        Ok(Self { text: text.to_owned(), target, host_header, path_and_query })
    }
}

impl std::fmt::Debug for RemoteUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

/// Loopback addresses that `host` means; nobody is asked what `localhost` is.
fn this_machine(host: &str) -> Option<Vec<IpAddr>> {
    if host == "localhost" {
        return Some(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    host.parse().ok().filter(IpAddr::is_loopback).map(|ip| vec![ip])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn https_goes_anywhere_and_http_stays_here() {
        for text in [
            "https://login.example",
            "https://login.example:8443/realms/a?x=1",
            "https://[2001:db8::1]/",
            "http://127.0.0.1:9000/a",
            "http://127.9.9.9/",
            "http://[::1]:80/",
            "http://localhost:80",
        ] {
            assert_eq!(text.parse::<RemoteUrl>().map(|url| url.text), Ok(text.to_owned()));
        }
        for text in [
            "http://login.example",
            "http://127.0.0.1.example/",
            "http://localhost.example/",
            "http://10.0.0.1/",
            "http://[::ffff:127.0.0.1]/",
            "http://0.0.0.0/",
        ] {
            assert_eq!(text.parse::<RemoteUrl>(), Err(UrlError::NotSecure(text.to_owned())));
        }
        for text in [
            "",
            "/path",
            "login.example",
            "https://",
            "https://a@b/",
            "https://a/#b",
            "ftp://a/",
            "file:///etc/passwd",
        ] {
            assert_eq!(text.parse::<RemoteUrl>(), Err(UrlError::NotPlain(text.to_owned())));
        }
    }

    #[test]
    fn the_request_names_host_and_path() -> Result<(), UrlError> {
        let url: RemoteUrl = "https://login.example:444/a/b?c=d".parse()?;
        assert_eq!(url.host_header(), "login.example:444");
        assert_eq!(url.path_and_query().to_string(), "/a/b?c=d");
        let url: RemoteUrl = "https://login.example".parse()?;
        assert_eq!(url.path_and_query().to_string(), "/");
        assert!(url.is_https());
        Ok(())
    }
}
