//! Bytes judged eight at a time. Values are short, so the compiler's own vectors of 16 and more rarely get to work.

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGH: u64 = ONES << 7;

/// Not 0 if a byte of `word` is below `limit`, which is at most 128.
pub(crate) fn below(word: u64, limit: u8) -> u64 {
    // A borrow begins at a byte that is below, so none is seen where there is none.
    word.wrapping_sub(ONES * u64::from(limit)) & !word & HIGH
}

/// Not 0 if a byte of `word` is `byte`.
pub(crate) fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ (ONES * u64::from(byte)), 1)
}

/// Not 0 if a byte of `word` is DEL or above: no ASCII that could be printed.
pub(crate) fn from_del(word: u64) -> u64 {
    (((word & !HIGH) + ONES) | word) & HIGH
}

/// Whether `is_suspicious` is 0 for every eight bytes of `bytes`. Where there are fewer, or they overlap, bytes are
/// repeated.
pub(crate) fn none(bytes: &[u8], is_suspicious: impl Fn(u64) -> u64) -> bool {
    let Some(last) = bytes.last_chunk() else {
        // A word of fewer bytes, filled up with the first of them.
        let Some(first) = bytes.first() else { return true };
        let fill = (ONES * u64::from(*first)).wrapping_shl(8 * bytes.len() as u32);
        let rest = bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
        return is_suspicious(fill | rest) == 0;
    };
    let (words, _) = bytes.as_chunks();
    let seen = words.iter().fold(0, |seen, word| seen | is_suspicious(u64::from_le_bytes(*word)));
    seen | is_suspicious(u64::from_le_bytes(*last)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_byte_by_byte() {
        for length in 0..30 {
            for place in 0..length {
                for byte in 0..=255_u8 {
                    let mut bytes = vec![b'x'; length];
                    bytes[place] = byte;
                    for limit in [1, 0x20, 0x21, 0x78, 128] {
                        assert_eq!(none(&bytes, |word| below(word, limit)), bytes.iter().all(|b| *b >= limit));
                    }
                    assert_eq!(none(&bytes, |word| equal(word, b'"')), byte != b'"', "{bytes:?}");
                    assert_eq!(none(&bytes, from_del), byte < 0x7f, "{bytes:?}");
                }
            }
        }
        assert!(none(b"", |_| 1));
    }
}
