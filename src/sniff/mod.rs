//! First bytes → protocol. Pure: the same bytes give the same verdict, however they were cut into segments.
//!
//! Call [`detect`] with all that has arrived, again with more while it says [`Detection::NeedMore`]. A verdict, once
//! given, would be the same for any longer input. What is not certainly something else counts as what policy can look
//! into: a malformed request line is still HTTP (and then refused with 400), a malformed ClientHello is still TLS (and
//! then has no name). On a port of protocol HTTP [`detect_declared`] takes more for HTTP than [`detect`] does elsewhere,
//! where a word in lower case or with digits is no method. Waiting for a client that says nothing is the caller's affair.

mod client_hello;
mod detection;
mod http;
#[cfg(test)]
mod tests;

pub use detection::{ClientHello, Detection, ServerName};

/// RFC 9113 §3.4.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What `bytes`, the first of a connection, are the beginning of.
#[must_use]
pub fn detect(bytes: &[u8]) -> Detection {
    tls_or_http2(bytes).unwrap_or_else(|| http::detect(bytes))
}

/// The same on a port that is declared HTTP: an opening that is odd is a request to be refused, and nothing that may pass
/// for something else.
#[must_use]
pub fn detect_declared(bytes: &[u8]) -> Detection {
    tls_or_http2(bytes).unwrap_or_else(|| http::detect_declared(bytes))
}

/// Whether `bytes` begin as TLS does.
#[must_use]
pub fn begins_tls(bytes: &[u8]) -> bool {
    bytes.first() == Some(&client_hello::HANDSHAKE)
}

/// Whether `bytes` begin as HTTP/2 does, and as no request does.
#[must_use]
pub fn begins_http2(bytes: &[u8]) -> bool {
    const METHOD: usize = b"PRI ".len();
    bytes.len() >= METHOD && bytes.iter().zip(HTTP2_PREFACE).all(|(byte, expected)| byte == expected)
}

/// Whether `bytes` begin with a line that is a request's but for its version, which is none of HTTP. RFC 9113 §3.4 calls it
/// an invalid preface; whoever sends it would not understand an answer of HTTP/1.
#[must_use]
pub fn begins_foreign_request(bytes: &[u8]) -> bool {
    http::is_foreign_request(bytes)
}

fn tls_or_http2(bytes: &[u8]) -> Option<Detection> {
    if begins_tls(bytes) {
        return Some(client_hello::detect(bytes));
    }
    let common = bytes.len().min(HTTP2_PREFACE.len());
    if bytes[..common] == HTTP2_PREFACE[..common] {
        return Some(if common == HTTP2_PREFACE.len() { Detection::Http2 } else { Detection::NeedMore });
    }
    None
}
