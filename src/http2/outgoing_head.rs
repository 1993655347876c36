//! From the head of an HTTP/1 message, as it would be written to a peer of HTTP/1, to that of HTTP/2 (RFC 9113 §8.3).
//!
//! What speaks of one connection has no place in HTTP/2 and is left out, names go to lower case, Host becomes `:authority`.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use thiserror::Error;

use super::request_head::is_of_a_connection;

/// Why a head cannot be said in HTTP/2.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unsayable {
    #[error("the method cannot be sent in HTTP/2")]
    Method,
    #[error("the request target has a character in it that HTTP/2 does not carry: percent-encode it")]
    Target,
    #[error("the host cannot be sent in HTTP/2")]
    Authority,
    #[error("a field cannot be sent in HTTP/2")]
    Field,
    #[error("the status cannot be sent in HTTP/2")]
    Status,
}

/// The request whose head is `head`: lines that a parser has accepted, as they go to a server. `scheme` is that of the
/// connection. An upgrade is sent as extended CONNECT (RFC 8441), which the server must have allowed.
///
/// # Errors
/// What of it HTTP/2 cannot carry.
pub fn outgoing_request(head: &[u8], scheme: &Scheme) -> Result<Request<()>, Unsayable> {
    let (line, fields) = first_line(head);
    let mut words = line.splitn(3, |&byte| byte == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let method = Method::from_bytes(method).map_err(|_| Unsayable::Method)?;
    let Fields { headers, host, upgrade } = Fields::read(fields)?;
    let mut uri = http::uri::Parts::default();
    let authority = |bytes: &[u8]| Authority::try_from(bytes).map_err(|_| Unsayable::Authority);
    let mut request = Request::new(());
    if method == Method::CONNECT {
        uri.authority = Some(authority(target)?);
    } else {
        uri.scheme = Some(scheme.clone());
        uri.authority = host.map(authority).transpose()?;
        uri.path_and_query = Some(PathAndQuery::try_from(origin_form(target)).map_err(|_| Unsayable::Target)?);
    }
    *request.method_mut() = method;
    if let Some(protocol) = upgrade {
        let protocol = std::str::from_utf8(protocol).map_err(|_| Unsayable::Field)?;
        request.extensions_mut().insert(h2::ext::Protocol::from(protocol));
        *request.method_mut() = Method::CONNECT;
    }
    *request.uri_mut() = Uri::from_parts(uri).map_err(|_| Unsayable::Authority)?;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = headers;
    Ok(request)
}

/// The response whose head is `head`, as it goes to a client.
///
/// # Errors
/// What of it HTTP/2 cannot carry.
pub fn outgoing_response(head: &[u8]) -> Result<Response<()>, Unsayable> {
    let (line, fields) = first_line(head);
    let status = line.get(9..12).ok_or(Unsayable::Status)?;
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_bytes(status).map_err(|_| Unsayable::Status)?;
    *response.version_mut() = Version::HTTP_2;
    *response.headers_mut() = Fields::read(fields)?.headers;
    Ok(response)
}

/// The fields whose lines are `lines`, as trailers.
///
/// # Errors
/// What of them HTTP/2 cannot carry.
pub fn outgoing_trailers(lines: &[u8]) -> Result<HeaderMap, Unsayable> {
    Ok(Fields::read(lines)?.headers)
}

/// `http://host/path` is what a forward proxy is asked for; to others it is the path.
fn origin_form(target: &[u8]) -> &[u8] {
    if let [b'/' | b'*', ..] = target {
        return target;
    }
    let authority = target.windows(3).position(|three| three == b"://").map_or(0, |at| at + 3);
    let path = target[authority..].iter().position(|&byte| byte == b'/');
    path.map_or(b"/", |at| &target[authority + at..])
}

#[derive(Default)]
struct Fields<'h> {
    headers: HeaderMap,
    host: Option<&'h [u8]>,
    upgrade: Option<&'h [u8]>,
}

impl<'h> Fields<'h> {
    fn read(lines: &'h [u8]) -> Result<Self, Unsayable> {
        let offers_upgrade = options(lines).any(|option| option.eq_ignore_ascii_case(b"upgrade"));
        let mut fields = Self { headers: HeaderMap::with_capacity(16), ..Self::default() };
        for (name, value) in each_line(lines) {
            let name = HeaderName::from_bytes(name).map_err(|_| Unsayable::Field)?;
            match name {
                header::UPGRADE if offers_upgrade => fields.upgrade = Some(value),
                header::HOST => fields.host = Some(value),
                // RFC 9113 §8.2.2: the only value that it may have.
                header::TE if value.eq_ignore_ascii_case(b"trailers") => {
                    fields.headers.insert(name, HeaderValue::from_static("trailers"));
                }
                header::TE => {}
                // RFC 8441 §5: an upgrade to WebSocket proves nothing by its key here.
                header::SEC_WEBSOCKET_KEY if offers_upgrade => {}
                _ if is_of_a_connection(&name) => {}
                _ => {
                    let value = HeaderValue::from_bytes(value).map_err(|_| Unsayable::Field)?;
                    fields.headers.try_append(name, value).map_err(|_| Unsayable::Field)?;
                }
            }
        }
        Ok(fields)
    }
}

/// The options of all Connection fields. What they name beside `upgrade` is no longer there: a head that goes to a peer has
/// lost it (RFC 9110 §7.6.1).
fn options(lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    let connections = each_line(lines).filter(|(name, _)| name.eq_ignore_ascii_case(b"connection"));
    connections.flat_map(|(_, value)| value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii))
}

/// The first line of `head`, and what follows it.
fn first_line(head: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr::memchr(b'\n', head).map_or(head.len(), |at| at + 1);
    let (line, rest) = head.split_at(end);
    (line.trim_ascii_end(), rest)
}

/// Names and values, up to the empty line or the end.
fn each_line(lines: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = lines;
    std::iter::from_fn(move || {
        let (line, after) = first_line(rest);
        rest = after;
        let colon = memchr::memchr(b':', line)?;
        Some((&line[..colon], line[colon + 1..].trim_ascii()))
    })
}
