//! What sticks a request to an endpoint: the number that `consistentHash` makes of it, and the cookie that a client gets
//! so that its next requests have one.
//!
//! Where there is nothing to hash the request has no number, and goes to any endpoint.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use crate::config::{HashCookie, HashKey};
use crate::flow::{ClientAddr, OriginalDst};
use crate::http::query_parameter;
use crate::policy::Cluster;
use crate::proxy::request::Request;
use crate::upstream::hash;

#[derive(Debug, Default)]
pub struct Affinity {
    pub hash: Option<u64>,
    /// The value of a `Set-Cookie` for the response.
    pub cookie: Option<String>,
}

impl Affinity {
    /// Of a request to `cluster`.
    #[must_use]
    pub fn of_request(cluster: &Cluster, request: &Request, client: ClientAddr, destination: OriginalDst) -> Self {
        let Some(wanted) = &cluster.balancing.hash else { return Self::default() };
        let (head, raw) = (&request.head, &request.raw[..]);
        let hash = match &wanted.key {
            HashKey::Header(name) => head.field(raw, name).map(|value| hash(&value)),
            HashKey::SourceIp => Some(by_source(client)),
            HashKey::Query(name) => query_parameter(head.path(raw).unwrap_or_default(), name).map(hash),
            HashKey::Cookie(cookie) => {
                let field = head.field(raw, "cookie").unwrap_or_default();
                match (cookie_value(&field, &cookie.name), cookie.ttl) {
                    (Some(value), _) => Some(hash(value)),
                    (None, Some(ttl)) => return Self::with_new_cookie(cookie, ttl, client, destination),
                    (None, None) => None,
                }
            }
        };
        Self { hash, cookie: None }
    }

    fn with_new_cookie(cookie: &HashCookie, ttl: Duration, client: ClientAddr, destination: OriginalDst) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let value = format!("{:016x}", hash(format!("{client} {destination} {}", now.as_nanos()).as_bytes()));
        Self { hash: Some(hash(value.as_bytes())), cookie: Some(set_cookie(cookie, ttl, &value)) }
    }
}

/// Of a connection whose bytes are not read: only its source is known.
#[must_use]
pub fn of_connection(cluster: &Cluster, client: ClientAddr) -> Option<u64> {
    cluster.balancing.hash.as_ref().filter(|hash| hash.key == HashKey::SourceIp).map(|_| by_source(client))
}

fn by_source(client: ClientAddr) -> u64 {
    hash(client.addr().ip().to_string().as_bytes())
}

/// RFC 6265 §4.2.1. Several fields have been joined by commas, which stand in no cookie.
fn cookie_value<'f>(field: &'f [u8], name: &str) -> Option<&'f [u8]> {
    let pairs = field.split(|&b| matches!(b, b';' | b',')).map(<[u8]>::trim_ascii);
    let value = named(pairs, name)?;
    Some(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value))
}

fn named<'p>(mut pairs: impl Iterator<Item = &'p [u8]>, name: &str) -> Option<&'p [u8]> {
    pairs.find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// RFC 6265 §4.1.1, the value in quotes as in Envoy. A time to live of zero ends with the client's session.
fn set_cookie(cookie: &HashCookie, ttl: Duration, value: &str) -> String {
    let mut text = format!("{}=\"{value}\"", cookie.name);
    let written = (|| {
        if !ttl.is_zero() {
            write!(text, "; Max-Age={}", ttl.as_secs().max(1))?;
        }
        if let Some(path) = &cookie.path {
            write!(text, "; Path={path}")?;
        }
        for (name, value) in &cookie.attributes {
            match value {
                Some(value) => write!(text, "; {name}={value}")?,
                None => write!(text, "; {name}")?,
            }
        }
        write!(text, "; HttpOnly")
    })();
    written.expect("writing to a String does not fail");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_and_parameters_are_found() {
        for (field, expected) in [
            ("sid=1", Some("1")),
            ("a=b; sid=1; sid=2", Some("1")),
            ("a=b,sid=\"x y\"", Some("x y")),
            ("xsid=1; sid2=2", None),
            ("sid", None),
            ("sid=", Some("")),
            ("", None),
        ] {
            assert_eq!(cookie_value(field.as_bytes(), "sid"), expected.map(str::as_bytes), "{field}");
        }
        for (target, expected) in [
            ("/p?user=1", Some("1")),
            ("/p?a=2&user=%31&user=3", Some("%31")),
            ("/p?users=1", None),
            ("/user=1", None),
            ("/p?user", Some("")),
            ("/p", None),
        ] {
            assert_eq!(query_parameter(target.as_bytes(), "user"), expected.map(str::as_bytes), "{target}");
        }
    }

    #[test]
    fn cookies_are_made() {
        let cookie = |path: Option<&str>, attributes: &[(&str, Option<&str>)]| HashCookie {
            name: "sid".to_owned(),
            path: path.map(str::to_owned),
            ttl: None,
            attributes: attributes.iter().map(|(n, v)| ((*n).to_owned(), v.map(str::to_owned))).collect(),
        };
        let seconds = Duration::from_secs;
        for (cookie, ttl, expected) in [
            (cookie(None, &[]), seconds(0), "sid=\"v\"; HttpOnly"),
            (cookie(Some("/a"), &[]), seconds(60), "sid=\"v\"; Max-Age=60; Path=/a; HttpOnly"),
            (
                cookie(None, &[("SameSite", Some("Strict")), ("Secure", None)]),
                Duration::from_millis(1),
                "sid=\"v\"; Max-Age=1; SameSite=Strict; Secure; HttpOnly",
            ),
        ] {
            assert_eq!(set_cookie(&cookie, ttl, "v"), expected);
        }
    }
}
