//! Answers that egret gives itself, in the form that users know from Envoy's local replies.

use std::io::Write;
use std::time::SystemTime;

use super::date::CivilTime;
use super::head::Version;

/// What the form of a local reply depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyOptions {
    /// Of the request; [`Version::Http11`] when it could not be read.
    pub version: Version,
    /// Whether the client's connection stays open.
    pub keep_alive: bool,
    /// The request was HEAD: the body is announced and not sent (RFC 9110 §9.3.2).
    pub head_request: bool,
    /// For the Date field.
    pub now: SystemTime,
}

/// A whole response with `status` (200 to 599) and `body` as plain text.
#[must_use]
pub fn local_reply(status: u16, body: &str, options: ReplyOptions) -> Vec<u8> {
    local_reply_with(status, &[], body, options)
}

/// [`local_reply`] with further fields, whose names and values are sound.
#[must_use]
pub fn local_reply_with(status: u16, fields: &[(&str, &[u8])], body: &str, options: ReplyOptions) -> Vec<u8> {
    let length = body.len();
    let reason = reason_phrase(status);
    let mut out = Vec::with_capacity(192 + length);
    write!(out, "HTTP/1.1 {status} {reason}\r\n").expect("writing to a Vec does not fail");
    // RFC 9110 §8.6: these have no content, and must not announce any.
    let has_content = !matches!(status, 204 | 304);
    if has_content {
        write!(out, "content-length: {length}\r\ncontent-type: text/plain\r\n")
            .expect("writing to a Vec does not fail");
    }
    out.extend_from_slice(b"date: ");
    CivilTime::new(options.now).write_http(&mut out);
    out.extend_from_slice(b"\r\nserver: egret\r\n");
    for (name, value) in fields {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    out.extend_from_slice(match (options.keep_alive, options.version) {
        (false, _) => b"connection: close\r\n",
        (true, Version::Http10) => b"connection: keep-alive\r\n",
        (true, Version::Http11) => b"",
    });
    out.extend_from_slice(b"\r\n");
    if has_content && !options.head_request {
        out.extend_from_slice(body.as_bytes());
    }
    out
}

/// The registered phrase for a status that egret gives; `Unknown` for others.
#[must_use]
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        508 => "Loop Detected",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::super::*;
    use super::*;

    fn options(version: Version, keep_alive: bool, head_request: bool) -> ReplyOptions {
        ReplyOptions { version, keep_alive, head_request, now: UNIX_EPOCH + Duration::from_secs(784_111_777) }
    }

    #[test]
    fn a_reply_is_what_envoy_would_say() {
        let reply = local_reply(503, "no healthy upstream", options(Version::Http11, false, false));
        let expected = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 19\r\ncontent-type: text/plain\r\n\
            date: Sun, 06 Nov 1994 08:49:37 GMT\r\nserver: egret\r\nconnection: close\r\n\r\nno healthy upstream";
        assert_eq!(String::from_utf8(reply).unwrap(), expected);
    }

    #[test]
    fn replies_are_responses() {
        for (method, version, keep_alive) in [
            (Method::Get, Version::Http11, true),
            (Method::Get, Version::Http10, true),
            (Method::Head, Version::Http11, true),
            (Method::Head, Version::Http10, false),
        ] {
            let reply = local_reply(404, "no", options(version, keep_alive, method == Method::Head));
            let request = RequestContext { method, version, upgrade: false };
            let Ok(Parsed::Complete { head, length }) = parse_response(&reply, request, HeadLimits::default()) else {
                panic!("{reply:?}");
            };
            assert_eq!((head.status, head.keep_alive), (404, keep_alive));
            assert_eq!(&reply[length..], if method == Method::Head { &b""[..] } else { b"no" });
        }
    }
}
