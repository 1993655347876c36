//! A response's header block as the head of HTTP/1 that answers the same (RFC 9113 §8.3.2).

use http::header;
use http::response::Parts;

use super::field_size::FieldSize;
use super::request_head::{is_of_a_connection, is_padded, write_field};
use crate::http::{HeadLimits, reason_phrase};

/// What of the request decides how its answer is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered<'a> {
    pub to: AnswerTo<'a>,
    /// No body follows: END_STREAM came with the head.
    pub is_over: bool,
}

/// A request, as far as its answer depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerTo<'a> {
    /// HEAD: the answer has no body, whatever length it tells.
    Head,
    /// CONNECT: what follows a success is the tunnel.
    Connect,
    /// Extended CONNECT for this protocol (RFC 8441): a success is 101 in HTTP/1. With the proof that a server of HTTP/1
    /// would give of having read the key of WebSocket.
    Upgrade {
        protocol: &'a [u8],
        accept: Option<&'a str>,
    },
    Other,
}

/// Appends the head of HTTP/1.1 that says what `parts` say. A body whose length nobody tells becomes chunked, none at all
/// becomes a length of 0.
///
/// # Errors
/// What makes it no response.
pub fn write_response_head(
    parts: &Parts,
    answered: Answered<'_>,
    limits: HeadLimits,
    out: &mut Vec<u8>,
) -> Result<(), &'static str> {
    let size = FieldSize::of(&parts.headers);
    if size.bytes > limits.max_bytes || size.fields > limits.max_fields {
        return Err("the response's head is larger than the limits allow");
    }
    for (name, value) in &parts.headers {
        if is_of_a_connection(name) {
            return Err("the response has a field that speaks of one connection");
        }
        if is_padded(value.as_bytes()) {
            return Err("the response has a field value that begins or ends with a blank");
        }
    }
    let status = parts.status.as_u16();
    if status == 101 {
        // RFC 9113 §8.6.
        return Err("101 has no meaning in HTTP/2");
    }
    let is_tunnel = parts.status.is_success() && matches!(answered.to, AnswerTo::Connect | AnswerTo::Upgrade { .. });
    if is_tunnel && let AnswerTo::Upgrade { protocol, accept } = answered.to {
        write_switch(parts, protocol, accept, out);
        return Ok(());
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(parts.status.as_str().as_bytes());
    out.push(b' ');
    let reason = reason_phrase(status);
    out.extend_from_slice(if reason == "Unknown" { b"" } else { reason.as_bytes() });
    out.extend_from_slice(b"\r\n");
    for (name, value) in &parts.headers {
        write_field(out, name.as_str().as_bytes(), value.as_bytes());
    }
    if !has_no_body(status)
        && !is_tunnel
        && answered.to != AnswerTo::Head
        && !parts.headers.contains_key(header::CONTENT_LENGTH)
    {
        if answered.is_over {
            write_field(out, b"content-length", b"0");
        } else {
            write_field(out, b"transfer-encoding", b"chunked");
        }
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// The head by which a server of HTTP/1 goes over to `protocol`.
fn write_switch(parts: &Parts, protocol: &[u8], accept: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\n");
    write_field(out, b"connection", b"upgrade");
    write_field(out, b"upgrade", protocol);
    if let Some(accept) = accept {
        write_field(out, b"sec-websocket-accept", accept.as_bytes());
    }
    for (name, value) in parts.headers.iter().filter(|(name, _)| *name != header::CONTENT_LENGTH) {
        write_field(out, name.as_str().as_bytes(), value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether a response of this status never has a body (RFC 9110 §6.4.1).
#[must_use]
pub fn has_no_body(status: u16) -> bool {
    matches!(status, 100..200 | 204 | 304)
}
