//! Makes one DATA frame of those that follow each other on a stream (RFC 9113 §6.1): they mean the same, for a frame's borders
//! mean nothing.
//!
//! A peer that sends many small messages to a slow reader fills its window with them. The codec keeps each frame by itself,
//! which takes far more than the bytes, and so it ends the connection when there are too many.

use super::frame_walker::HEAD;

/// What every peer must accept, and so nobody's limit is passed.
const MAX_FRAME: usize = 16_384;

const DATA: u8 = 0;
const END_STREAM: u8 = 1;

/// Joins what can be joined of `bytes`, in which a frame begins at `begin`; how many bytes are left. What is not whole stays
/// as it is.
pub(super) fn join_data(bytes: &mut [u8], begin: usize) -> usize {
    let (mut read, mut written) = (begin, begin);
    // Where the head of the last frame was written, if more may be joined to it, and its length.
    let mut last: Option<(usize, usize)> = None;
    while let Some(head) = bytes.get(read..).and_then(|rest| rest.first_chunk::<HEAD>()) {
        let [a, b, c, kind, flags, ..] = *head;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let end = read + HEAD + length;
        if end > bytes.len() {
            break;
        }
        let is_plain = kind == DATA && matches!(flags, 0 | END_STREAM);
        match last {
            Some((at, before)) if is_plain && is_of_stream(bytes, at, read) && before + length <= MAX_FRAME => {
                bytes.copy_within(read + HEAD..end, written);
                let [_, a, b, c] = ((before + length) as u32).to_be_bytes();
                bytes[at..at + 3].copy_from_slice(&[a, b, c]);
                bytes[at + 4] = flags;
                written += length;
                last = (flags == 0).then_some((at, before + length));
            }
            _ => {
                last = (is_plain && flags == 0).then_some((written, length));
                if written != read {
                    bytes.copy_within(read..end, written);
                }
                written += HEAD + length;
            }
        }
        read = end;
    }
    // The frame that is passing may end behind all of this.
    let Some(left) = bytes.len().checked_sub(read) else { return bytes.len() };
    if written != read {
        bytes.copy_within(read.., written);
    }
    written + left
}

/// Whether the frames that begin at these places are of one stream.
fn is_of_stream(bytes: &[u8], one: usize, other: usize) -> bool {
    bytes[one + 5..one + HEAD] == bytes[other + 5..other + HEAD]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
    }

    fn joined(bytes: &[u8], begin: usize) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        let length = join_data(&mut bytes, begin);
        assert!(length <= bytes.len());
        bytes.truncate(length);
        bytes
    }

    #[test]
    fn neighbours_of_a_stream_become_one() {
        let data = |flags, stream, payload: &[u8]| frame(0, flags, stream, payload);
        let padded = frame(0, 8, 1, &[0, b'x']);
        for (frames, expected) in [
            (vec![data(0, 1, b"a"), data(0, 1, b"bc"), data(0, 1, b"")], vec![data(0, 1, b"abc")]),
            (vec![data(0, 1, b"a"), data(1, 1, b"b"), data(0, 1, b"c")], vec![data(1, 1, b"ab"), data(0, 1, b"c")]),
            (vec![data(0, 1, b"a"), data(0, 3, b"b")], vec![data(0, 1, b"a"), data(0, 3, b"b")]),
            (vec![data(0, 1, b"a"), padded.clone()], vec![data(0, 1, b"a"), padded]),
            (
                vec![data(0, 1, &[7; 16_000]), data(0, 1, &[8; 400]), data(0, 1, &[9; 2])],
                vec![data(0, 1, &[7; 16_000]), data(0, 1, &[[8; 400].as_slice(), &[9; 2]].concat())],
            ),
        ] {
            assert_eq!(joined(&frames.concat(), 0), expected.concat());
            let behind = [&b"rest"[..], &frames.concat()].concat();
            assert_eq!(joined(&behind, 4), [&b"rest"[..], &expected.concat()].concat());
        }
        // What is not whole, or does not begin here.
        let part = [data(0, 1, b"a"), data(0, 1, b"b"), data(0, 1, b"cd")].concat();
        assert_eq!(joined(&part[..part.len() - 1], 0), [&data(0, 1, b"ab")[..], &data(0, 1, b"cd")[..10]].concat());
        assert_eq!(joined(b"abc", 3), b"abc");
        assert_eq!(joined(b"abc", 9), b"abc");
    }

    /// All frames that are not DATA, and the data of each stream between them.
    fn meaning(mut bytes: &[u8]) -> Vec<(u8, u8, u8, Vec<u8>)> {
        let mut found: Vec<(u8, u8, u8, Vec<u8>)> = Vec::new();
        while let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() {
            let [_, high, low, kind, flags, .., stream] = *head;
            let length = (usize::from(high) << 8 | usize::from(low)).min(rest.len());
            let (payload, after) = rest.split_at(length);
            match found.last_mut() {
                Some((0, known @ 0, of, data)) if kind == 0 && flags <= 1 && *of == stream => {
                    *known = flags;
                    data.extend_from_slice(payload);
                }
                _ => found.push((kind, flags, stream, payload.to_vec())),
            }
            bytes = after;
        }
        found.push((bytes.len() as u8, 0, 0, bytes.to_vec()));
        found
    }

    proptest! {
        #[test]
        fn nothing_is_lost_nor_moved(
            frames in proptest::collection::vec((0_u8..3, 0_u8..3, 1_u8..3, 0_usize..30), 0..40),
            before in 0_usize..20,
            cut in 0_usize..40,
        ) {
            let all: Vec<u8> = frames
                .iter()
                .enumerate()
                .flat_map(|(at, (kind, flags, stream, length))| frame(*kind, *flags, *stream, &vec![at as u8; *length]))
                .collect();
            let whole = [&vec![0xff; before][..], &all[..all.len().saturating_sub(cut)]].concat();
            let result = joined(&whole, before);
            prop_assert_eq!(&result[..before], &whole[..before]);
            prop_assert_eq!(meaning(&result[before..]), meaning(&whole[before..]));
            prop_assert!(result.len() <= whole.len());
        }
    }
}
