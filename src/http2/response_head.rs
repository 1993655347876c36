//! A response's header block as the head of HTTP/1 that answers the same (RFC 9113 §8.3.2).

use http::header;
use http::response::Parts;

use super::field_size::FieldSize;
use super::request_head::{is_of_a_connection, is_padded, write_field};
use crate::http::{HeadLimits, reason_phrase};

/// What of the request decides how its answer is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The request was HEAD: its answer has no body, whatever length it tells.
    pub to_head: bool,
    /// No body follows: END_STREAM came with the head.
    pub is_over: bool,
}

/// Appends the head of HTTP/1.1 that says what `parts` say. A body whose length nobody tells becomes chunked, none at all
/// becomes a length of 0.
///
/// # Errors
/// What makes it no response.
pub fn write_response_head(
    parts: &Parts,
    answered: Answered,
    limits: HeadLimits,
    out: &mut Vec<u8>,
) -> Result<(), &'static str> {
    let size = FieldSize::of(&parts.headers);
    if size.bytes > limits.max_bytes || size.fields > limits.max_fields {
        return Err("the response's head is larger than the limits allow");
    }
    let status = parts.status.as_u16();
    if status == 101 {
        // RFC 9113 §8.6.
        return Err("101 has no meaning in HTTP/2");
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(parts.status.as_str().as_bytes());
    out.push(b' ');
    let reason = reason_phrase(status);
    out.extend_from_slice(if reason == "Unknown" { b"" } else { reason.as_bytes() });
    out.extend_from_slice(b"\r\n");
    for (name, value) in &parts.headers {
        if is_of_a_connection(name) {
            return Err("the response has a field that speaks of one connection");
        }
        if is_padded(value.as_bytes()) {
            return Err("the response has a field value that begins or ends with a blank");
        }
        write_field(out, name.as_str().as_bytes(), value.as_bytes());
    }
    if !has_no_body(status) && !answered.to_head && !parts.headers.contains_key(header::CONTENT_LENGTH) {
        if answered.is_over {
            write_field(out, b"content-length", b"0");
        } else {
            write_field(out, b"transfer-encoding", b"chunked");
        }
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Whether a response of this status never has a body (RFC 9110 §6.4.1).
#[must_use]
pub fn has_no_body(status: u16) -> bool {
    matches!(status, 100..200 | 204 | 304)
}
