//! Every route: one row each, from which dispatch, `Allow`, metrics and the OpenAPI document are made.

use std::borrow::Cow;

use hyper::Method;

use crate::admission::Needs;
use crate::admission::policy::Operation;

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody, without a certificate: health checks, and the page that verifies receipts.
    Open,
    /// Any principal the operator wrote down.
    Known,
    /// A principal that was granted what the call needs.
    Granted(Needs),
}

/// Which body a route takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// None.
    Nothing,
    /// One item.
    One,
    /// Many items.
    Many,
}

/// One route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// What is called.
    pub call: Call,
    /// Label of metrics and log lines, `operationId` of the OpenAPI document.
    pub name: &'static str,
    /// The path, with `{…}` for its parameter.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
    /// Which body it takes.
    pub takes: Takes,
    /// One line for the documentation.
    pub summary: &'static str,
}

macro_rules! routes {
    ($($call:ident $path:literal $name:literal $access:expr, $takes:ident, $summary:literal;)*) => {
        /// What can be called.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Call { $(#[doc = $summary] $call,)* }

        /// Every route, in the order of the documentation.
        pub const ROUTES: &[Route] = &[$(Route {
            call: Call::$call, name: $name, path: $path, access: $access, takes: Takes::$takes, summary: $summary,
        },)*];

        impl Call {
            /// Its row.
            pub const fn route(self) -> &'static Route {
                match self { $(Self::$call => {
                    const ROW: &Route = &Route {
                        call: Call::$call, name: $name, path: $path, access: $access, takes: Takes::$takes,
                        summary: $summary,
                    };
                    ROW
                })* }
            }
        }
    };
}

const SIGN: Access = Access::Granted(Needs::key_use(Operation::Sign));
const MAC: Access = Access::Granted(Needs::key_use(Operation::Mac));
const MAC_VERIFY: Access = Access::Granted(Needs::key_read(Operation::Mac));
const VERIFY: Access = Access::Granted(Needs::read(Operation::Verify));
const EVENTS: Access = Access::Granted(Needs::write(Operation::Events));
const READ: Access = Access::Granted(Needs::read(Operation::Read));
const KEYS: Access = Access::Granted(Needs::read(Operation::Keys));

routes! {
    Index "/" "index" Access::Open, Nothing, "Name and version.";
    Health "/health" "health" Access::Open, Nothing, "Whether this instance answers.";
    Ping "/ping" "ping" Access::Open, Nothing, "The same, shorter.";
    VerifyPage "/verify" "verify_page" Access::Open, Nothing, "The page that verifies receipts in a browser; it makes no request.";
    OpenApi "/openapi.json" "openapi" Access::Known, Nothing, "This document.";
    Sign "/v1/sign" "sign" SIGN, One, "Sign one digest.";
    SignBatch "/v1/sign/batch" "sign_batch" SIGN, Many, "Sign many digests; each item has a result or a problem.";
    Verify "/v1/verify" "verify" VERIFY, One, "Check a signature. One that does not verify is an answer, not an error.";
    Mac "/v1/mac" "mac" MAC, One, "Make a message authentication code.";
    MacVerify "/v1/mac/verify" "mac_verify" MAC_VERIFY, One, "Check a message authentication code.";
    Events "/v1/events" "events" EVENTS, One, "Append one event.";
    EventsBatch "/v1/events/batch" "events_batch" EVENTS, Many, "Append many events; each item has a result or a problem.";
    Rows "/v1/rows" "rows" EVENTS, One, "Rows of a stream that is set to an existing writer's dialect, signed.";
    Event "/v1/events/{id}" "event" READ, Nothing, "Read one event.";
    Stream "/v1/streams/{stream}" "stream" READ, Nothing, "Read a stream, page by page.";
    Pending "/v1/pending/{id}" "pending" READ, Nothing, "A signature that waits for approval, and what became of it.";
    Receipt "/v1/receipts/{index}" "receipt" READ, Nothing, "Fetch the receipt of one entry, as JSON, as C2SP tlog-proof or as COSE receipt (RFC 9942).";
    Completeness "/v1/completeness/{name}" "completeness" READ, Nothing, "The proof of how many entries a stream or a key has; with a query, the entries.";
    Keys "/v1/keys" "keys" KEYS, Nothing, "List the keys.";
    Key "/v1/keys/{kid}" "key" KEYS, Nothing, "State, algorithm, purpose and validity of one key.";
    KeyPublic "/v1/keys/{kid}/public" "key_public" KEYS, Nothing, "The public half of one key, as PEM.";
    Registry "/v1/signers.json" "signers" KEYS, Nothing, "The published signers registry.";
    RegistryNote "/v1/signers.json.sig" "signers_note" KEYS, Nothing, "The signed note over the published registry.";
    Checkpoint "/log/checkpoint" "log_checkpoint" READ, Nothing, "The latest checkpoint (C2SP tlog-tiles).";
    Tile "/log/tile/{path}" "log_tile" READ, Nothing, "A hash tile or an entry bundle (C2SP tlog-tiles).";
}

impl Route {
    /// The one method it has; `GET` includes `HEAD`.
    pub const fn method(&self) -> Method {
        if matches!(self.takes, Takes::Nothing) { Method::GET } else { Method::POST }
    }

    /// Value of `Allow`.
    pub const fn allow(&self) -> &'static str {
        if matches!(self.takes, Takes::Nothing) { "GET, HEAD" } else { "POST" }
    }

    /// Whether it answers this method.
    pub fn answers(&self, method: &Method) -> bool {
        *method == self.method() || (*method == Method::HEAD && matches!(self.takes, Takes::Nothing))
    }
}

/// The route of a path and the text of its parameter, percent-decoded. Streams and event ids may hold
/// slashes, escaped or not: what follows the prefix is theirs.
pub fn find(path: &str) -> Option<(&'static Route, Cow<'_, str>)> {
    if let Some(route) = ROUTES.iter().find(|route| route.path == path) {
        return Some((route, Cow::Borrowed("")));
    }
    let (call, text) = if let Some(rest) = path.strip_prefix("/v1/keys/") {
        match rest.strip_suffix("/public") {
            Some(kid) => (Call::KeyPublic, kid),
            None => (Call::Key, rest),
        }
    } else if let Some(rest) = path.strip_prefix("/v1/events/") {
        (Call::Event, rest)
    } else if let Some(rest) = path.strip_prefix("/v1/streams/") {
        (Call::Stream, rest)
    } else if let Some(rest) = path.strip_prefix("/v1/completeness/") {
        (Call::Completeness, rest)
    } else if let Some(rest) = path.strip_prefix("/v1/pending/") {
        (Call::Pending, rest)
    } else if let Some(rest) = path.strip_prefix("/v1/receipts/") {
        (Call::Receipt, rest)
    } else {
        path.starts_with("/log/tile/")
            .then(|| (Call::Tile, path.strip_prefix("/log/").unwrap_or_default()))?
    };
    let text = percent_decode(text)?;
    (!text.is_empty()).then(|| (call.route(), text))
}

/// Strict: a `%` without two hexadecimal digits, or bytes that are not UTF-8, are no path of ours.
pub(crate) fn percent_decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => (hex_digit(bytes.next()?)? << 4) | hex_digit(bytes.next()?)?,
            other => other,
        });
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}

const fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    #[test]
    fn every_row_is_found_by_its_path_and_by_its_call() {
        for route in ROUTES {
            let path = route.path.replace("{path}", "0/000").replace("{index}", "7");
            let path = path
                .replace("{kid}", "orders")
                .replace("{id}", "x")
                .replace("{stream}", "s")
                .replace("{name}", "key:k");
            assert_eq!(find(&path).unwrap().0, route, "{path}");
            assert_eq!(route.call.route(), route);
            assert!(route.answers(&route.method()));
            assert_eq!(route.answers(&Method::HEAD), route.method() == Method::GET);
        }
    }

    #[test]
    fn parameters_are_decoded_once_and_strictly() {
        let parameter = |path| find(path).map(|(route, text)| (route.call, text.into_owned()));
        let spiffe = (Call::Stream, "spiffe://demo.example/svc".to_owned());
        assert_eq!(parameter("/v1/streams/spiffe%3A%2F%2Fdemo.example%2fsvc"), Some(spiffe.clone()));
        assert_eq!(parameter("/v1/streams/spiffe://demo.example/svc"), Some(spiffe));
        assert_eq!(parameter("/v1/events/a%2541"), Some((Call::Event, "a%41".to_owned())));
        assert_eq!(
            parameter("/log/tile/entries/000.p/5"),
            Some((Call::Tile, "tile/entries/000.p/5".to_owned()))
        );
        for nothing in [
            "/v1/streams/",
            "/v1/streams/%",
            "/v1/streams/%4",
            "/v1/streams/%zz",
            "/v1/streams/%ff",
            "/v1/sign/",
            "/v2/sign",
            "",
            "//",
            "/v1/keys//public",
            "/log/tile",
            "/v1",
        ] {
            assert_eq!(parameter(nothing), None, "{nothing}");
        }
    }
}
