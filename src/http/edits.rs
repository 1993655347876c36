//! Changes that policy makes to heads on their way: another path, another authority, fields removed, set and added.
//!
//! Whoever makes them sees to it that no name frames a message or names its recipient, and that values are values.

use super::fields::Name;
use super::schemes::authenticates_connection;

/// Changes of fields: first what is removed, then what is set (replacing) and added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldEdits {
    pub remove: Vec<String>,
    pub set: Vec<(String, String)>,
    pub add: Vec<(String, String)>,
}

impl FieldEdits {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// Whether a field of the message goes: removed, or replaced.
    #[must_use]
    pub fn drops(&self, name: &[u8]) -> bool {
        let set = self.set.iter().map(|(name, _)| name);
        self.remove.iter().chain(set).any(|dropped| dropped.as_bytes().eq_ignore_ascii_case(name))
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        for (name, value) in self.set.iter().chain(&self.add) {
            for part in [name.as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
    }

    /// Whether credentials are written that authenticate the connection.
    #[must_use]
    pub fn authenticate_connection(&self) -> bool {
        let is_such = |(name, value): &(String, String)| {
            Name::of(name.as_bytes()) == Name::Credentials && authenticates_connection(value.as_bytes())
        };
        self.set.iter().chain(&self.add).any(is_such)
    }
}

/// What a request is given and loses on its way as at Envoy's router.
#[derive(Clone, Copy, Debug)]
pub struct RouterEdits<'a> {
    /// Goes as `x-request-id`; `None` where the application has sent its own.
    pub request_id: Option<&'a [u8]>,
}

const REQUEST_ID: &[u8] = b"x-request-id";

/// What tells Envoy's own router how to send a request (`docs/root/configuration/http/http_filters/router_filter.rst`). A
/// server has no use for it.
const CONTROLS: [&[u8]; 12] = [
    b"x-envoy-expected-rq-timeout-ms",
    b"x-envoy-hedge-on-per-try-timeout",
    b"x-envoy-max-retries",
    b"x-envoy-retriable-header-names",
    b"x-envoy-retriable-status-codes",
    b"x-envoy-retry-grpc-on",
    b"x-envoy-retry-on",
    b"x-envoy-upstream-alt-stat-name",
    b"x-envoy-upstream-rq-per-try-timeout-ms",
    b"x-envoy-upstream-rq-timeout-alt-response",
    b"x-envoy-upstream-rq-timeout-ms",
    b"x-envoy-upstream-stream-duration-ms",
];

/// What changes of a request's head.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestEdits<'a> {
    /// Path and query that go upstream instead; bytes that may stand in a request line.
    pub path: Option<&'a [u8]>,
    /// Goes upstream as Host instead.
    pub authority: Option<&'a str>,
    pub fields: Option<&'a FieldEdits>,
    /// A target in absolute form stays in it: the request goes to the forward proxy that the application has chosen.
    pub keeps_form: bool,
    pub router: Option<RouterEdits<'a>>,
}

impl RequestEdits<'_> {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.path.is_none()
            && self.authority.is_none()
            && self.fields.is_none_or(FieldEdits::is_empty)
            && self.router.is_none()
    }

    /// Whether a field of the request goes.
    pub(super) fn drops(&self, name: &[u8]) -> bool {
        self.fields.is_some_and(|fields| fields.drops(name))
            || self.router.is_some() && CONTROLS.iter().any(|control| control.eq_ignore_ascii_case(name))
    }

    pub(super) fn write_fields(&self, out: &mut Vec<u8>) {
        // As in Envoy, the route's own changes come behind it.
        let id = self.router.and_then(|router| router.request_id);
        if let Some(id) = id.filter(|_| !self.fields.is_some_and(|fields| fields.drops(REQUEST_ID))) {
            for part in [REQUEST_ID, b": ", id, b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
        if let Some(fields) = self.fields {
            fields.write(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;

    fn fields(remove: &[&str], set: &[(&str, &str)], add: &[(&str, &str)]) -> FieldEdits {
        let pairs = |all: &[(&str, &str)]| all.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        FieldEdits { remove: remove.iter().map(|n| (*n).to_owned()).collect(), set: pairs(set), add: pairs(add) }
    }

    #[test]
    fn requests() {
        let fields = fields(&["X-Gone"], &[("x-set", "new")], &[("x-more", "2")]);
        for (raw, path, authority, expected) in [
            (
                "GET /a HTTP/1.1\r\nhost: a\r\nX-SET: old\r\nx-gone: 1\r\nX-Kept: k\r\n\r\n",
                Some("/b?c"),
                Some("b:80"),
                "GET /b?c HTTP/1.1\r\nhost: b:80\r\nX-Kept: k\r\nx-set: new\r\nx-more: 2\r\n\r\n",
            ),
            (
                "POST http://a/x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
                None,
                Some("b"),
                "POST /x HTTP/1.1\r\nHost: b\r\nContent-Length: 0\r\nx-set: new\r\nx-more: 2\r\n\r\n",
            ),
            ("GET / HTTP/1.0\r\n\r\n", Some("/y"), None, "GET /y HTTP/1.0\r\nx-set: new\r\nx-more: 2\r\n\r\n"),
            ("GET / HTTP/1.0\r\n\r\n", None, Some("b"), "GET / HTTP/1.0\r\nHost: b\r\nx-set: new\r\nx-more: 2\r\n\r\n"),
        ] {
            let Ok(Parsed::Complete { head, .. }) = parse_request(raw.as_bytes(), HeadLimits::default()) else {
                panic!("{raw}");
            };
            let mut out = Vec::new();
            let path = path.map(str::as_bytes);
            let edits = RequestEdits { path, authority, fields: Some(&fields), keeps_form: false, router: None };
            head.write_edited(raw.as_bytes(), edits, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn as_at_envoys_router() {
        let raw = b"GET / HTTP/1.1\r\nHost: a\r\nX-Envoy-Max-Retries: 9\r\nx-envoy-other: k\r\n\r\n";
        let Ok(Parsed::Complete { head, .. }) = parse_request(raw, HeadLimits::default()) else { panic!() };
        let (none, sets) = (FieldEdits::default(), fields(&[], &[("X-Request-Id", "r")], &[]));
        for (id, fields, expected) in [
            (Some(&b"1-2"[..]), &none, "x-envoy-other: k\r\nx-request-id: 1-2\r\n\r\n"),
            (Some(b"1-2"), &sets, "x-envoy-other: k\r\nX-Request-Id: r\r\n\r\n"),
            (None, &none, "x-envoy-other: k\r\n\r\n"),
        ] {
            let router = Some(RouterEdits { request_id: id });
            let edits = RequestEdits { fields: Some(fields), router, ..RequestEdits::default() };
            let mut out = Vec::new();
            head.write_edited(raw, edits, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("GET / HTTP/1.1\r\nHost: a\r\n{expected}"));
        }
    }

    /// RFC 9112 §3.2.2: the target names whom the request is for, whatever Host says.
    #[test]
    fn absolute_form_for_a_forward_proxy() {
        for (raw, path, authority, expected) in [
            (
                "GET http://a:81/x?y HTTP/1.1\r\nHost: a:81\r\nProxy-Authorization: Basic eA==\r\n\r\n",
                None,
                None,
                "GET http://a:81/x?y HTTP/1.1\r\nHost: a:81\r\nProxy-Authorization: Basic eA==\r\n\r\n",
            ),
            (
                "GET HTTP://A HTTP/1.1\r\nHost: b\r\nProxy-Connection: close\r\n\r\n",
                None,
                None,
                "GET HTTP://A HTTP/1.1\r\nHost: A\r\n\r\n",
            ),
            ("GET http://a?x HTTP/1.0\r\n\r\n", None, None, "GET http://a?x HTTP/1.0\r\nHost: a\r\n\r\n"),
            (
                "GET http://a/x HTTP/1.1\r\nHost: a\r\n\r\n",
                Some("/y"),
                None,
                "GET http://a/y HTTP/1.1\r\nHost: a\r\n\r\n",
            ),
            (
                "GET http://a/x HTTP/1.1\r\nHost: a\r\n\r\n",
                None,
                Some("b"),
                "GET http://b/x HTTP/1.1\r\nHost: b\r\n\r\n",
            ),
            ("GET /x HTTP/1.1\r\nHost: a\r\n\r\n", None, None, "GET /x HTTP/1.1\r\nHost: a\r\n\r\n"),
        ] {
            let Ok(Parsed::Complete { head, .. }) = parse_request(raw.as_bytes(), HeadLimits::default()) else {
                panic!("{raw}");
            };
            let mut out = Vec::new();
            let path = path.map(str::as_bytes);
            head.write_edited(
                raw.as_bytes(),
                RequestEdits { path, authority, keeps_form: true, ..RequestEdits::default() },
                &mut out,
            );
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn responses() {
        let raw = "HTTP/1.1 200 OK\r\nServer: s\r\nContent-Length: 1\r\nX-A: 1\r\n\r\n";
        let request = RequestContext { method: Method::Get, version: Version::Http11, upgrade: false };
        let Ok(Parsed::Complete { head, .. }) = parse_response(raw.as_bytes(), request, HeadLimits::default()) else {
            panic!("{raw}");
        };
        let client = ClientContext { version: Version::Http11, keep_alive: true };
        let written = |edits: &FieldEdits| {
            let mut out = Vec::new();
            head.write_edited(raw.as_bytes(), edits, &mut out, client);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(&FieldEdits::default()), raw);
        assert_eq!(
            written(&fields(&["server"], &[], &[("x-a", "2")])),
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nX-A: 1\r\nx-a: 2\r\n\r\n"
        );
    }
}
