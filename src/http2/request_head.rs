//! A request's header block as the head of HTTP/1 that asks for the same (RFC 9113 §8.3.1, §8.2.3).
//!
//! Everything that judges requests reads that head, with the same strict parser: a request can do nothing in HTTP/2 that its
//! twin in HTTP/1 could not. What has no twin is malformed, and its stream is reset.

use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, header};

use super::field_size::FieldSize;
use crate::flow::Authority;
use crate::http::HeadLimits;

/// Why a header block is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It breaks RFC 9113: the stream is reset with PROTOCOL_ERROR (§8.1.1).
    #[error("malformed HTTP/2 request: {0}")]
    Malformed(&'static str),
    /// It is more than the limits allow: 431.
    #[error("the head is too large")]
    TooLarge,
    /// It has more fields than the limits allow: 431.
    #[error("there are too many fields")]
    TooManyFields,
}

/// What of a request its header block does not say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside<'b> {
    /// No body follows.
    pub is_over: bool,
    /// `Sec-WebSocket-Key`, which HTTP/1 needs and extended CONNECT does not have.
    pub websocket_key: Option<&'b str>,
}

/// Appends the head of HTTP/1.1 that asks for what `parts` ask for.
///
/// The limits count what was received: each part of a cookie, and a Host beside `:authority`, though neither stays.
///
/// # Errors
/// Why it is not served. What was appended is of no use then.
pub fn write_request_head(
    parts: &Parts,
    beside: Beside<'_>,
    limits: HeadLimits,
    out: &mut Vec<u8>,
) -> Result<(), Unfit> {
    check_size(parts, limits)?;
    check_scheme(parts)?;
    check_fields(&parts.headers)?;
    let upgrade = parts.extensions.get::<h2::ext::Protocol>();
    let is_tunnel = parts.method == Method::CONNECT && upgrade.is_none();
    let authority = authority(parts)?;
    // RFC 8441 §5: what is GET with Upgrade in HTTP/1.
    let method = if upgrade.is_some() { "GET" } else { parts.method.as_str() };
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    match (is_tunnel, authority) {
        (true, Some(authority)) => out.extend_from_slice(authority),
        (true, None) => return Err(Unfit::Malformed("CONNECT without :authority")),
        (false, _) => out.extend_from_slice(path(parts)?),
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if let Some(authority) = authority {
        write_field(out, b"host", authority);
    }
    if let Some(protocol) = upgrade {
        write_field(out, b"connection", b"upgrade");
        write_field(out, b"upgrade", protocol.as_str().as_bytes());
    }
    if let Some(key) = beside.websocket_key {
        write_field(out, b"sec-websocket-key", key.as_bytes());
    }
    write_fields(&parts.headers, out);
    if parts.headers.contains_key(header::TE) {
        // RFC 9110 §10.1.4: it speaks of one connection, and says so in HTTP/1.
        write_field(out, b"connection", b"te");
    }
    let has_length = parts.headers.contains_key(header::CONTENT_LENGTH);
    if !beside.is_over && !has_length && !is_tunnel && upgrade.is_none() {
        write_field(out, b"transfer-encoding", b"chunked");
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Whether the request is WebSocket over extended CONNECT, which has no key of its own (RFC 8441 §5).
#[must_use]
pub fn needs_websocket_key(parts: &Parts) -> bool {
    let protocol = parts.extensions.get::<h2::ext::Protocol>();
    let is_websocket = protocol.is_some_and(|protocol| protocol.as_str().eq_ignore_ascii_case("websocket"));
    is_websocket && !parts.headers.contains_key(header::SEC_WEBSOCKET_KEY)
}

/// The limits that the canonical head of a request within `limits` is within: it has some lines of its own.
#[must_use]
pub fn canonical_limits(limits: HeadLimits) -> HeadLimits {
    /// A request line's version and separators, `host`, `connection`, `upgrade`, `transfer-encoding`.
    const OWN_BYTES: usize = 256;
    const OWN_FIELDS: usize = 4;
    HeadLimits { max_bytes: limits.max_bytes + OWN_BYTES, max_fields: limits.max_fields + OWN_FIELDS }
}

fn check_size(parts: &Parts, limits: HeadLimits) -> Result<(), Unfit> {
    let uri = &parts.uri;
    let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
    let authority = uri.authority().map_or(0, |authority| authority.as_str().len());
    let size = FieldSize::of(&parts.headers);
    match size {
        _ if path + authority + size.bytes > limits.max_bytes => Err(Unfit::TooLarge),
        _ if size.fields > limits.max_fields => Err(Unfit::TooManyFields),
        _ => Ok(()),
    }
}

/// Which of the two it says is not believed: it is the application's word about a connection that has no TLS.
fn check_scheme(parts: &Parts) -> Result<(), Unfit> {
    match parts.uri.scheme_str() {
        None | Some("http" | "https") => Ok(()),
        Some(_) => Err(Unfit::Malformed(":scheme is neither http nor https")),
    }
}

/// Fields that the codec lets pass and that no message of HTTP/2 has (RFC 9113 §8.2). It has refused upper-case names,
/// control characters, and most fields that speak of one connection.
fn check_fields(headers: &HeaderMap) -> Result<(), Unfit> {
    for (name, value) in headers {
        if is_of_a_connection(name) {
            return Err(Unfit::Malformed("a field that speaks of one connection"));
        }
        if is_padded(value.as_bytes()) {
            return Err(Unfit::Malformed("a field value that begins or ends with a blank"));
        }
    }
    Ok(())
}

/// Fields of RFC 9113 §8.2.2, which HTTP/2 does not have.
pub(super) fn is_of_a_connection(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade" | "http2-settings"
    )
}

/// RFC 9113 §8.2.1.
pub(super) fn is_padded(value: &[u8]) -> bool {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    is_blank(value.first()) || is_blank(value.last())
}

/// Whom the request is for: `:authority`, or a Host field where there is none. Both must name the same.
fn authority(parts: &Parts) -> Result<Option<&[u8]>, Unfit> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Unfit::Malformed("Host is given twice"));
    }
    match (parts.uri.authority(), host) {
        (Some(authority), Some(host)) if !is_same(authority.as_str(), host.as_bytes()) => {
            Err(Unfit::Malformed("Host names another host than :authority"))
        }
        (Some(authority), _) => Ok(Some(authority.as_str().as_bytes())),
        (None, host) => Ok(host.map(http::HeaderValue::as_bytes)),
    }
}

fn is_same(authority: &str, host: &[u8]) -> bool {
    if authority.as_bytes() == host {
        return true;
    }
    let host = std::str::from_utf8(host).ok().and_then(|host| Authority::parse(host).ok());
    host.is_some_and(|host| Authority::parse(authority).is_ok_and(|authority| authority == host))
}

fn path(parts: &Parts) -> Result<&[u8], Unfit> {
    let path = parts.uri.path_and_query().map(http::uri::PathAndQuery::as_str).unwrap_or_default();
    match path.as_bytes() {
        [b'/', ..] => Ok(path.as_bytes()),
        b"*" if parts.method == Method::OPTIONS => Ok(b"*"),
        b"" => Err(Unfit::Malformed(":path is missing")),
        // In HTTP/1 an absolute target would name another host than :authority.
        _ => Err(Unfit::Malformed(":path does not begin with a slash")),
    }
}

/// All fields but Host; the parts of a cookie in one, where the first stood (RFC 9113 §8.2.3).
fn write_fields(headers: &HeaderMap, out: &mut Vec<u8>) {
    for name in headers.keys() {
        let values = headers.get_all(name).iter();
        if *name == header::COOKIE {
            let parts: Vec<&[u8]> = values.map(http::HeaderValue::as_bytes).collect();
            write_field(out, b"cookie", &parts.join(&b"; "[..]));
        } else if *name != header::HOST {
            values.for_each(|value| write_field(out, name.as_str().as_bytes(), value.as_bytes()));
        }
    }
}

pub(super) fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}
