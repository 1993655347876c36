//! The proof of WebSocket that a server has read the request (RFC 6455 §4.2.2). HTTP/2 has none (RFC 8441 §5), so that whoever
//! translates between the two makes the key, or the proof.

use data_encoding::BASE64;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A value for `Sec-WebSocket-Key`, of 16 bytes that nobody has to guess.
#[must_use]
pub fn websocket_key(nonce: [u8; 16]) -> String {
    BASE64.encode(&nonce)
}

/// The `Sec-WebSocket-Accept` that answers this `Sec-WebSocket-Key`.
#[must_use]
pub fn websocket_accept(key: &[u8]) -> String {
    BASE64.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat()).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6455 §1.3.
    #[test]
    fn the_proof_of_the_standard() {
        let key = websocket_key(*b"the sample nonce");
        assert_eq!(key, "dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(websocket_accept(key.as_bytes()), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
