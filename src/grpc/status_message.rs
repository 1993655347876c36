//! The field `grpc-message`: text in UTF-8, percent-encoded where it is not printable ASCII.

/// `text` as it stands in the field: bytes outside of 0x20 to 0x7E, and `%`, become `%XX`.
#[must_use]
pub fn encode_message(text: &str) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = Vec::with_capacity(text.len());
    for &byte in text.as_bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
    // A field's value neither begins nor ends with a blank (RFC 9113 §8.2.1), which gRPC's own rule would let stand.
    for at in [out.len().saturating_sub(1), 0] {
        if out.get(at) == Some(&b' ') {
            out.splice(at..=at, *b"%20");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_printable_is_encoded() {
        for (text, expected) in [
            ("upstream request timeout", "upstream request timeout"),
            ("100% ä\n", "100%25 %C3%A4%0A"),
            ("~\u{7f}", "~%7F"),
            (" a b ", "%20a b%20"),
            (" ", "%20"),
            ("", ""),
        ] {
            assert_eq!(String::from_utf8(encode_message(text)).unwrap(), expected, "{text:?}");
        }
    }
}
