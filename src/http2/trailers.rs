//! Trailers of HTTP/2 as the lines that HTTP/1 would have for them (RFC 9113 §8.1, RFC 9110 §6.5).

use http::HeaderMap;

use super::field_size::FieldSize;
use super::request_head::{is_of_a_connection, is_padded, write_field};
use crate::http::{HeadLimits, is_trailer_field};

/// `name: value` lines of `trailers`, each with its CR LF. Fields that no trailer may have are left out: whoever gets them
/// could take them for fields of the head.
///
/// # Errors
/// What makes them no trailers.
pub fn trailer_lines(trailers: &HeaderMap, limits: HeadLimits) -> Result<Vec<u8>, &'static str> {
    let size = FieldSize::of(trailers);
    if size.bytes > limits.max_bytes || size.fields > limits.max_fields {
        return Err("the trailers are larger than the limits allow");
    }
    let mut out = Vec::with_capacity(size.bytes);
    for (name, value) in trailers {
        if is_of_a_connection(name) {
            return Err("the trailers have a field that speaks of one connection");
        }
        if is_padded(value.as_bytes()) {
            return Err("the trailers have a field value that begins or ends with a blank");
        }
        if !is_trailer_field(name.as_str().as_bytes()) {
            continue;
        }
        write_field(&mut out, name.as_str().as_bytes(), value.as_bytes());
    }
    Ok(out)
}
