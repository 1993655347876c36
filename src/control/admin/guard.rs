//! Who may use the admin port from inside a browser: nobody but pages of the port itself.
//!
//! The port listens on loopback, yet a browser on the same host (a developer's `kubectl port-forward`) will send it
//! requests for any page that it shows: directly (CSRF), or under a name that the page's owner points at 127.0.0.1
//! (DNS rebinding). Programs send neither `Origin` nor foreign names and pass.

use hyper::header::{HOST, HeaderMap, HeaderName, ORIGIN};
use hyper::{Method, Request};

use crate::flow::{Authority, Host};

/// Why a request may not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// the name under which the port was reached is not this host's
    #[error("the Host header must name localhost, 127.0.0.1 or [::1]")]
    ForeignHost,
    /// a page from elsewhere asks for a change
    #[error("a page of another origin may not change anything here")]
    ForeignOrigin,
}

/// Judges a request to the admin port.
pub fn check<B>(request: &Request<B>) -> Result<(), Refusal> {
    let authority = authority(request).ok_or(Refusal::ForeignHost)?;
    if !is_local(&authority.host) {
        return Err(Refusal::ForeignHost);
    }
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if reads || is_same_origin(request.headers(), &authority) { Ok(()) } else { Err(Refusal::ForeignOrigin) }
}

/// The one name that the request is for: `Host` exactly once, and an absolute target that says the same (RFC 9112 §3.2).
fn authority<B>(request: &Request<B>) -> Option<Authority> {
    let authority = Authority::parse(only(request.headers(), &HOST)?).ok()?;
    match request.uri().authority() {
        Some(target) => (Authority::parse(target.as_str()).ok()? == authority).then_some(authority),
        None => Some(authority),
    }
}

fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    if values.next().is_some() { None } else { first.to_str().ok() }
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Name(name) => name.as_str() == "localhost",
        Host::Ip(ip) => ip.is_loopback(),
    }
}

/// No `Origin`, or the one of a page that this very port served; and not marked as coming from another site
/// (Fetch Metadata).
fn is_same_origin(headers: &HeaderMap, authority: &Authority) -> bool {
    let site =
        headers.get("sec-fetch-site").map(|site| site.as_bytes() == b"same-origin" || site.as_bytes() == b"none");
    if site == Some(false) {
        return false;
    }
    if !headers.contains_key(ORIGIN) {
        return true;
    }
    let origin = only(headers, &ORIGIN).and_then(|origin| origin.strip_prefix("http://"));
    origin.is_some_and(|origin| Authority::parse(origin).as_ref() == Ok(authority))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(method: &str, target: &str, headers: &[(&str, &str)]) -> Result<(), Refusal> {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check(&request.body(()).unwrap())
    }

    #[test]
    fn only_this_hosts_own_names_pass() {
        for (target, hosts, expected) in [
            ("/", &["127.0.0.1:15000"][..], Ok(())),
            ("/", &["localhost"], Ok(())),
            ("/", &["LOCALHOST:8001"], Ok(())),
            ("/", &["[::1]:15000"], Ok(())),
            ("/", &["127.0.0.2"], Ok(())),
            ("http://localhost:15000/", &["localhost:15000"], Ok(())),
            ("/", &[], Err(Refusal::ForeignHost)),
            ("/", &["evil.example"], Err(Refusal::ForeignHost)),
            ("/", &["localhost.evil.example"], Err(Refusal::ForeignHost)),
            ("/", &["127.0.0.1.evil.example"], Err(Refusal::ForeignHost)),
            ("/", &["10.0.0.7:15000"], Err(Refusal::ForeignHost)),
            ("/", &["localhost", "evil.example"], Err(Refusal::ForeignHost)),
            ("/", &["localhost@evil.example"], Err(Refusal::ForeignHost)),
            ("http://evil.example/", &["localhost"], Err(Refusal::ForeignHost)),
        ] {
            let headers: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
            for method in ["GET", "POST"] {
                assert_eq!(verdict(method, target, &headers), expected, "{method} {target} {hosts:?}");
            }
        }
    }

    #[test]
    fn only_the_ports_own_pages_change_things() {
        let host = ("host", "localhost:15000");
        for (origin, site, expected) in [
            (None, None, Ok(())),
            (Some("http://localhost:15000"), Some("same-origin"), Ok(())),
            (None, Some("none"), Ok(())),
            (Some("http://localhost:3000"), Some("same-site"), Err(Refusal::ForeignOrigin)),
            (Some("http://localhost:3000"), None, Err(Refusal::ForeignOrigin)),
            (Some("https://evil.example"), None, Err(Refusal::ForeignOrigin)),
            (Some("null"), None, Err(Refusal::ForeignOrigin)),
            (None, Some("cross-site"), Err(Refusal::ForeignOrigin)),
        ] {
            let mut headers = vec![host];
            headers.extend(origin.map(|origin| ("origin", origin)));
            headers.extend(site.map(|site| ("sec-fetch-site", site)));
            assert_eq!(verdict("POST", "/drain", &headers), expected, "{origin:?} {site:?}");
            assert_eq!(verdict("GET", "/ready", &headers), Ok(()), "{origin:?} {site:?}");
        }
    }
}
