//! The chunked form (RFC 9112 §7.1), written for bodies that came without it.

use super::trailer::is_trailer_field;

/// The line before a chunk of `length` bytes, which is not 0. Behind its data comes [`CHUNK_END`].
#[must_use]
pub fn chunk_start(length: usize) -> Vec<u8> {
    format!("{length:x}\r\n").into_bytes()
}

/// What stands behind the data of each chunk.
pub const CHUNK_END: &[u8] = b"\r\n";

/// The last chunk with the trailer section whose field lines are `trailers`, each with its CR LF. Fields that no trailer
/// may have are left out (RFC 9110 §6.5.1): a receiver could take them for fields of the head.
#[must_use]
pub fn last_chunk(trailers: &[u8]) -> Vec<u8> {
    let mut out = b"0\r\n".to_vec();
    for line in trailers.split_inclusive(|&byte| byte == b'\n') {
        let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
        if is_trailer_field(name) {
            out.extend_from_slice(line);
        }
    }
    out.extend_from_slice(b"\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::super::{BodyLength, BodyScanner};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_no_trailer_may_have_is_left_out() {
        let lines = b"grpc-status: 0\r\ncontent-length: 5\r\nHost: a\r\nx-sum: 1\r\n";
        assert_eq!(last_chunk(lines), b"0\r\ngrpc-status: 0\r\nx-sum: 1\r\n\r\n");
        assert_eq!(last_chunk(b""), b"0\r\n\r\n");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..8),
            values in proptest::collection::vec("[a-z]{1,8}", 0..4),
            cut in 1_usize..30,
        ) {
            let lines: Vec<String> = values.iter().map(|value| format!("x-{value}: {value}\r\n")).collect();
            let trailers = lines.concat();
            let mut wire = Vec::new();
            for piece in &pieces {
                wire.extend([&chunk_start(piece.len()), &piece[..], CHUNK_END].concat());
            }
            wire.extend(last_chunk(trailers.as_bytes()));
            let mut scanner = BodyScanner::keeping_trailer(BodyLength::Chunked);
            let mut data = Vec::new();
            for bytes in wire.chunks(cut) {
                let mut at = 0;
                while at < bytes.len() {
                    let chunk = scanner.next_chunk(&bytes[at..]).unwrap();
                    data.extend_from_slice(&bytes[at..][chunk.data]);
                    at += chunk.consumed;
                }
            }
            prop_assert!(scanner.is_complete());
            prop_assert_eq!(data, pieces.concat());
            prop_assert_eq!(scanner.take_trailer(), trailers.as_bytes());
        }
    }
}
