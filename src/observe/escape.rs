//! Values that a peer chose, made harmless for a log line: no line break, no terminal sequence, no end of a quotation.

use crate::http::scan::{below, equal, from_del, none};

/// Longer values are cut; the cut shows as `...`.
const MAX_BYTES: usize = 4 << 10;

const CUT: &[u8] = b"...";

/// Appends `value` for a quoted place in a line of text: what is not printable ASCII, `"` and `\` as `\xNN`.
pub(super) fn write_text(out: &mut Vec<u8>, value: &[u8]) {
    let (mut kept, cut) = bounded(value);
    // Nearly every value is harmless from end to end, and goes over in one piece.
    let harmful = |word| below(word, 0x20) | from_del(word) | equal(word, b'"') | equal(word, b'\\');
    if none(kept, harmful) {
        out.extend_from_slice(kept);
        return out.extend_from_slice(cut);
    }
    while let Some(at) = kept.iter().position(|byte| is_harmful(*byte)) {
        out.extend_from_slice(&kept[..at]);
        write_hex(out, b"\\x", kept[at]);
        kept = &kept[at + 1..];
    }
    out.extend_from_slice(kept);
    out.extend_from_slice(cut);
}

fn is_harmful(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | 0..=0x1f | 0x7f..)
}

/// Appends `value` for a place without quotes: like [`write_text`], and spaces as `_`, as Envoy does.
pub(super) fn write_word(out: &mut Vec<u8>, value: &[u8]) {
    let from = out.len();
    write_text(out, value);
    if none(value, |word| equal(word, b' ')) {
        return;
    }
    for byte in &mut out[from..] {
        if *byte == b' ' {
            *byte = b'_';
        }
    }
}

/// Appends `value` as a JSON string with its quotes. Bytes that are no UTF-8 appear as `\xNN` in the string's value.
pub(super) fn write_json(out: &mut Vec<u8>, value: &[u8]) {
    let (kept, cut) = bounded(value);
    out.push(b'"');
    for chunk in kept.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' | '\\' => out.extend_from_slice(&[b'\\', character as u8]),
                // C0, DEL and C1; bidirectional marks and line separators, which terminals and viewers obey.
                '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' => write_hex(out, b"\\u00", character as u8),
                '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                    let [high, low] = (character as u16).to_be_bytes();
                    write_hex(out, b"\\u", high);
                    write_hex(out, b"", low);
                }
                _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        for &byte in chunk.invalid() {
            write_hex(out, b"\\\\x", byte);
        }
    }
    out.extend_from_slice(cut);
    out.push(b'"');
}

fn bounded(value: &[u8]) -> (&[u8], &'static [u8]) {
    match value.get(..MAX_BYTES) {
        Some(kept) if value.len() > MAX_BYTES => (kept, CUT),
        _ => (value, b""),
    }
}

fn write_hex(out: &mut Vec<u8>, prefix: &[u8], byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(prefix);
    out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: fn(&mut Vec<u8>, &[u8]), value: &[u8]) -> String {
        let mut out = Vec::new();
        write(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_that_would_do_harm() {
        for (value, text, word, json) in [
            (&b"/a?b=c"[..], "/a?b=c", "/a?b=c", r#""/a?b=c""#),
            (b"a b", "a b", "a_b", r#""a b""#),
            (b"a\r\nb", r"a\x0D\x0Ab", r"a\x0D\x0Ab", r#""a\u000D\u000Ab""#),
            (b"\x1b[31m", r"\x1B[31m", r"\x1B[31m", r#""\u001B[31m""#),
            (br#"" 200 "\"#, r"\x22 200 \x22\x5C", r"\x22_200_\x22\x5C", r#""\" 200 \"\\""#),
            (b"\xff\xc2", r"\xFF\xC2", r"\xFF\xC2", r#""\\xFF\\xC2""#),
            (
                "\u{e9}\u{9b}\u{202e}".as_bytes(),
                r"\xC3\xA9\xC2\x9B\xE2\x80\xAE",
                r"\xC3\xA9\xC2\x9B\xE2\x80\xAE",
                "\"\u{e9}\\u009B\\u202E\"",
            ),
        ] {
            assert_eq!(written(write_text, value), text);
            assert_eq!(written(write_word, value), word);
            assert_eq!(written(write_json, value), json);
        }
        let long = vec![b'a'; 5000];
        assert_eq!(written(write_text, &long).len(), 4096 + 3);
        assert!(written(write_json, &long).ends_with("a...\""));
        assert_eq!(written(write_text, &long[..4096]), "a".repeat(4096));
    }

    proptest! {
        #[test]
        fn text_is_one_printable_line(value: Vec<u8>) {
            prop_assert!(written(write_text, &value).bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'"'));
        }

        #[test]
        fn json_is_json(value: String, bytes: Vec<u8>) {
            let read: String = serde_json::from_str(&written(write_json, value.as_bytes())).unwrap();
            prop_assert_eq!(read, value);
            prop_assert!(serde_json::from_str::<String>(&written(write_json, &bytes)).is_ok());
        }
    }
}
