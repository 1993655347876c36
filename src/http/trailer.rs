//! The trailer section of a chunked body (RFC 9112 §7.1.2), byte by byte.
//!
//! A request's trailer passes as it was written, and some receivers merge it into the head. So a field that would mean
//! something there (framing, routing, identity, what the content is) is refused (RFC 9110 §6.5.1): nobody sends such a field
//! by mistake. Servers do; from their trailers it is dropped (`lenient_body`).

use super::error::BodyError;
use super::fields::is_end_to_end;
use super::grammar::{is_token_byte, is_value_byte};

pub(super) const MAX_BYTES: u32 = 16 << 10;

/// As much of a name as is needed to tell it from every forbidden one.
const NAME_BYTES: usize = 32;

/// Progress through a trailer section.
#[derive(Clone, Debug, Default)]
pub(super) struct Trailer {
    state: TrailerState,
    bytes: u32,
    name: [u8; NAME_BYTES],
    name_length: usize,
}

#[derive(Clone, Copy, Debug, Default)]
enum TrailerState {
    #[default]
    Name,
    Value,
    ValueLf,
    LastLf,
}

impl Trailer {
    /// Whether a byte has been taken.
    pub(super) fn has_begun(&self) -> bool {
        self.bytes > 0
    }

    /// Takes the next byte; true when it was the last.
    pub(super) fn push(&mut self, byte: u8) -> Result<bool, BodyError> {
        self.bytes += 1;
        if self.bytes > MAX_BYTES {
            return Err(BodyError::TrailerTooLarge);
        }
        self.state = match (self.state, byte) {
            (TrailerState::Name, b'\r') if self.name_length == 0 => TrailerState::LastLf,
            (TrailerState::Name, b':') if self.name_length > 0 => self.end_name()?,
            (TrailerState::Name, _) if is_token_byte(byte) => self.name_byte(byte),
            (TrailerState::Value, b'\r') => TrailerState::ValueLf,
            (TrailerState::Value, _) if is_value_byte(byte) => TrailerState::Value,
            (TrailerState::ValueLf, b'\n') => TrailerState::Name,
            (TrailerState::LastLf, b'\n') => return Ok(true),
            (TrailerState::Name | TrailerState::Value | TrailerState::ValueLf | TrailerState::LastLf, _) => {
                return Err(BodyError::TrailerField);
            }
        };
        Ok(false)
    }

    fn name_byte(&mut self, byte: u8) -> TrailerState {
        if let Some(slot) = self.name.get_mut(self.name_length) {
            *slot = byte;
        }
        self.name_length += 1;
        TrailerState::Name
    }

    fn end_name(&mut self) -> Result<TrailerState, BodyError> {
        let name = &self.name[..self.name_length.min(NAME_BYTES)];
        if self.name_length <= NAME_BYTES && is_forbidden(name) {
            return Err(BodyError::TrailerForbidden);
        }
        self.name_length = 0;
        Ok(TrailerState::Value)
    }
}

/// Fields that no trailer may have, besides those that are always end-to-end.
const FORBIDDEN: [&str; 11] = [
    "connection",
    "http2-settings",
    "if-modified-since",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "max-forwards",
    "proxy-connection",
    "te",
    "upgrade",
    "proxy-authenticate",
];

/// Whether a trailer may have a field of this name (RFC 9110 §6.5.1).
#[must_use]
pub fn is_trailer_field(name: &[u8]) -> bool {
    !is_forbidden(name)
}

fn is_forbidden(name: &[u8]) -> bool {
    // Dates are known when the body ends at the latest, and only describe it.
    let describes = name.eq_ignore_ascii_case(b"date") || name.eq_ignore_ascii_case(b"expires");
    let listed = FORBIDDEN.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()));
    listed || is_end_to_end(name) && !describes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(input: &[u8]) -> Result<Option<usize>, BodyError> {
        let mut trailer = Trailer::default();
        for (at, byte) in input.iter().enumerate() {
            if trailer.push(*byte)? {
                return Ok(Some(at + 1));
            }
        }
        Ok(None)
    }

    #[test]
    fn trailers() {
        let long_name = format!("{}: x\r\n\r\n", "n".repeat(200));
        for good in ["\r\n", "grpc-status: 0\r\n\r\n", "a:\r\nb: \u{e9}\t\r\n\r\n", "Date: x\r\n\r\n", &long_name] {
            assert_eq!(scan(good.as_bytes()), Ok(Some(good.len())), "{good:?}");
        }
        for bad in
            [" a: b\r\n", "a : b\r\n", ": b\r\n", "a\r\n", "a: b\n", "a: b\r\r", "\n", "\rx", "a: \0", "a: b\r\n c"]
        {
            assert_eq!(scan(bad.as_bytes()), Err(BodyError::TrailerField), "{bad:?}");
        }
        for name in ["Content-Length", "transfer-encoding", "HOST", "Authorization", "Set-Cookie", "Connection", "Te"] {
            let trailer = format!("ok: 1\r\n{name}: 1\r\n\r\n");
            assert_eq!(scan(trailer.as_bytes()), Err(BodyError::TrailerForbidden), "{name}");
        }
        assert_eq!(scan(&b"a: b\r\n".repeat(3000)), Err(BodyError::TrailerTooLarge));
    }

    #[test]
    fn no_forbidden_name_is_longer_than_what_is_kept_of_a_name() {
        assert!(FORBIDDEN.iter().all(|name| name.len() < NAME_BYTES));
    }
}
