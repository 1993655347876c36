//! The character classes and lists of RFC 9110 §5.6, on bytes. Knows no field by name.

use super::scan::{below, equal, none};

/// `tchar` of RFC 9110 §5.6.2, as a table because names are checked byte by byte.
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let marks = b"!#$%&'*+-.^_`|~";
    let mut i = 0;
    while i < marks.len() {
        table[marks[i] as usize] = true;
        i += 1;
    }
    table
};

pub(super) fn is_token_byte(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

/// A non-empty `token`.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&b| is_token_byte(b))
}

/// HTAB, SP, VCHAR and obs-text: what may stand in a field value (RFC 9110 §5.5).
pub(super) fn is_value_byte(byte: u8) -> bool {
    byte >= 0x20 && byte != 0x7f || byte == b'\t'
}

/// Whether every byte may stand in a field value.
pub(super) fn is_value(bytes: &[u8]) -> bool {
    let is_clean = none(bytes, |word| below(word, 0x20) | equal(word, 0x7f));
    is_clean || bytes.iter().all(|&b| is_value_byte(b))
}

/// Whether every byte may stand in a request target. RFC 3986 allows fewer, but applications send `|`, `{`, `"` and
/// raw UTF-8 and servers take them; only what could end or cut a target is refused: CTL, SP, DEL and the fragment's `#`.
pub(super) fn is_target(bytes: &[u8]) -> bool {
    none(bytes, |word| below(word, 0x21) | equal(word, 0x7f) | equal(word, b'#'))
}

/// `bytes` without optional white space around it (RFC 9110 §5.6.3).
pub(super) fn trim(bytes: &[u8]) -> &[u8] {
    let is_blank = |b: &u8| matches!(b, b' ' | b'\t');
    let start = bytes.iter().position(|b| !is_blank(b)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|b| !is_blank(b)).map_or(start, |last| last + 1);
    &bytes[start..end]
}

/// The members of a comma-separated list; empty ones do not count (RFC 9110 §5.6.1.2).
pub(super) fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(trim).filter(|member| !member.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes() {
        for byte in 0..=255_u8 {
            let printable = (0x21..=0x7e).contains(&byte);
            let separator = b"\"(),/:;<=>?@[\\]{}".contains(&byte);
            assert_eq!(is_token_byte(byte), printable && !separator, "{byte:#x}");
            assert_eq!(is_value(&[byte]), printable || byte >= 0x80 || byte == b' ' || byte == b'\t', "{byte:#x}");
        }
        assert!(!is_token(b""));
        assert!(is_target("/a?b|{\u{e9}}".as_bytes()));
        for bad in ["/a b", "/a#b", "/\t", "/\u{7f}", "/\0"] {
            assert!(!is_target(bad.as_bytes()), "{bad:?}");
        }
    }

    #[test]
    fn lists() {
        assert_eq!(trim(b" \t a b\t "), b"a b");
        assert_eq!(trim(b" \t"), b"");
        let all: Vec<_> = members(b" ,close ,\tTE,, x").collect();
        assert_eq!(all, [&b"close"[..], b"TE", b"x"]);
    }
}
