//! Bodies as tables: what passes, what is refused, and that neither depends on how the bytes are cut.

use proptest::prelude::*;

use super::*;

/// Scans `input` in pieces of the given sizes (the rest in one): bytes consumed, data, the verdict.
fn scan(length: BodyLength, input: &[u8], cuts: &[usize]) -> Result<(usize, Vec<u8>, bool), BodyError> {
    let (mut scanner, mut chunks) = (BodyScanner::new(length), BodyScanner::new(length));
    let (mut at, mut data, mut verdict) = (0, Vec::new(), Ok(()));
    for size in cuts.iter().copied().chain([usize::MAX]) {
        let piece = &input[at..at + size.min(input.len() - at)];
        match scanner.advance(piece) {
            Ok(consumed) => {
                data.extend(dechunk(&mut chunks, &piece[..consumed])?);
                at += consumed;
                assert!(consumed == piece.len() || scanner.is_complete());
            }
            Err(error) => {
                assert_eq!(dechunk(&mut chunks, piece), Err(error), "both ways refuse alike");
                assert_eq!(scanner.advance(b"0"), Err(error), "a failure stays");
                verdict = Err(error);
                break;
            }
        }
    }
    assert_eq!(scanner.is_complete(), scanner.remaining() == Some(0));
    verdict.map(|()| (at, data, scanner.is_complete()))
}

fn dechunk(scanner: &mut BodyScanner, mut input: &[u8]) -> Result<Vec<u8>, BodyError> {
    let mut data = Vec::new();
    while !input.is_empty() {
        let chunk = scanner.next_chunk(input)?;
        data.extend_from_slice(&input[chunk.data.clone()]);
        input = &input[chunk.consumed..];
    }
    Ok(data)
}

/// The verdict, having seen that it is the same in one piece, byte by byte, and cut in two anywhere.
fn scan_every_way(length: BodyLength, input: &[u8]) -> Result<(usize, Vec<u8>, bool), BodyError> {
    let whole = scan(length, input, &[]);
    assert_eq!(scan(length, input, &vec![1; input.len()]), whole);
    for cut in 0..input.len() {
        assert_eq!(scan(length, input, &[cut]), whole, "cut at {cut}");
    }
    whole
}

#[test]
fn chunked_bodies_end_where_they_end() {
    for (input, data) in [
        ("0\r\n\r\n", ""),
        ("000\r\n\r\n", ""),
        ("5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("0000000000000005\r\nhello\r\n0\r\n\r\n", "hello"),
        ("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789"),
        ("2;a\r\nxy\r\n0;b=c;d=\"e \\\" \\\\f;\";g\r\n\r\n", "xy"),
        ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n"),
        ("1\r\nx\r\n0\r\ngrpc-status: 0\r\nX-Sum:\r\n\r\n", "x"),
    ] {
        let length = input.len();
        let expected = Ok((length, data.as_bytes().to_vec(), true));
        assert_eq!(scan_every_way(BodyLength::Chunked, input.as_bytes()), expected, "{input:?}");
        let pipelined = format!("{input}GET / HTTP/1.1\r\n");
        assert_eq!(scan_every_way(BodyLength::Chunked, pipelined.as_bytes()), expected, "{input:?}");
        for end in 0..length {
            let mut scanner = BodyScanner::new(BodyLength::Chunked);
            assert_eq!(scanner.advance(&input.as_bytes()[..end]), Ok(end));
            assert!(!scanner.is_complete(), "{input:?} up to {end}");
        }
    }
}

#[test]
fn malformed_chunks_are_refused() {
    use BodyError::{ChunkEnd, ChunkExtension, ChunkSize, TrailerField, TrailerForbidden};
    for (input, error) in [
        // Sizes.
        ("0x5\r\n", ChunkSize),
        ("+5\r\n", ChunkSize),
        ("-0\r\n", ChunkSize),
        (" 5\r\n", ChunkSize),
        ("5 \r\n", ChunkSize),
        ("5\t;a\r\n", ChunkSize),
        ("1_0\r\n", ChunkSize),
        ("\r\n", ChunkSize),
        (";a\r\n", ChunkSize),
        ("5\n", ChunkSize),
        ("g\r\n", ChunkSize),
        ("00000000000000005\r\n", ChunkSize),
        ("FFFFFFFFFFFFFFFF\r\n", ChunkSize),
        ("8000000000000000\r\n", ChunkSize),
        ("8000000000000000;a\r\n", ChunkSize),
        // Extensions.
        ("5;\r\n", ChunkExtension),
        ("5;a\0\r\n", ChunkExtension),
        ("5;\n", ChunkExtension),
        ("5;a\n", ChunkExtension),
        ("5;a=\r\n", ChunkExtension),
        ("5; a\r\n", ChunkExtension),
        ("5;a=\"b\r\n", ChunkExtension),
        ("5;a=\"b\"c\r\n", ChunkExtension),
        ("5;a=\"\\\r\n", ChunkExtension),
        ("5;a;\r\n", ChunkExtension),
        ("5;=a\r\n", ChunkExtension),
        // Line ends.
        ("5\r\r;", ChunkEnd),
        ("5\rX", ChunkEnd),
        ("5;a\rX", ChunkEnd),
        ("5\r\nhellos\r\n", ChunkEnd),
        ("5\r\nhell\r\n0\r\n\r\n", ChunkEnd),
        ("5\r\nhello\n0\r\n", ChunkEnd),
        ("5\r\nhello\rX", ChunkEnd),
        ("5\r\nhello0\r\n\r\n", ChunkEnd),
        // Trailers.
        ("0\r\nx\r\n\r\n", TrailerField),
        ("0\r\n\n", TrailerField),
        ("0\r\nx: a\n\r\n", TrailerField),
        ("0\r\nx : a\r\n\r\n", TrailerField),
        ("0\r\nContent-Length: 5\r\n\r\n", TrailerForbidden),
        ("0\r\nx: a\r\ntransfer-encoding: chunked\r\n\r\n", TrailerForbidden),
    ] {
        assert_eq!(scan_every_way(BodyLength::Chunked, input.as_bytes()), Err(error), "{input:?}");
    }
}

#[test]
fn overhead_is_bounded_and_small_chunks_are_not_overhead() {
    let extension = format!("1;{}\r\n", "a".repeat(64 << 10));
    assert_eq!(scan(BodyLength::Chunked, extension.as_bytes(), &[]), Err(BodyError::Overhead));
    let many = format!("1;{}\r\nx\r\n", "a".repeat(100)).repeat(300);
    assert_eq!(scan(BodyLength::Chunked, many.as_bytes(), &[]), Err(BodyError::Overhead));
    let small = "1\r\nx\r\n".repeat(100_000);
    assert_eq!(scan(BodyLength::Chunked, small.as_bytes(), &[]).map(|(_, data, _)| data.len()), Ok(100_000));
    let proportionate = format!("1000;{}\r\n{}\r\n", "a".repeat(1000), "x".repeat(4096)).repeat(100);
    assert!(scan(BodyLength::Chunked, proportionate.as_bytes(), &[]).is_ok());
}

/// One that never ends is refused while it comes: nobody waits for its end.
#[test]
fn an_endless_extension_is_refused_while_it_comes() {
    let mut scanner = BodyScanner::new(BodyLength::Chunked);
    assert_eq!(scanner.advance(b"1;"), Ok(2));
    let piece = [b'a'; 1000];
    let taken = (0..1000).take_while(|_| scanner.advance(&piece).is_ok()).count();
    assert_eq!((taken, scanner.advance(b"a")), (4, Err(BodyError::Overhead)));
}

#[test]
fn counted_and_open_bodies() {
    assert_eq!(scan_every_way(BodyLength::None, b"GET"), Ok((0, vec![], true)));
    assert_eq!(scan_every_way(BodyLength::Length(0), b"GET"), Ok((0, vec![], true)));
    assert_eq!(scan_every_way(BodyLength::Length(3), b"abcGET"), Ok((3, b"abc".to_vec(), true)));
    assert_eq!(scan_every_way(BodyLength::Length(4), b"abc"), Ok((3, b"abc".to_vec(), false)));
    assert_eq!(scan_every_way(BodyLength::UntilClose, b"abc"), Ok((3, b"abc".to_vec(), false)));
    let mut huge = BodyScanner::new(BodyLength::Length(999_999_999_999_999_999));
    assert_eq!(huge.advance(&[0; 99]), Ok(99));
    assert_eq!(huge.remaining(), Some(999_999_999_999_999_900));
    assert!(!huge.is_complete());
    assert!(!BodyScanner::new(BodyLength::UntilClose).is_complete());
    assert!(BodyScanner::new(BodyLength::None).is_complete());
}

/// Bytes that get further into the state machine than random ones.
fn likely_bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec!["0", "1", "5", "a", "\r\n", "\r", "\n", ";", "=", "\"", "\\", ":", "x", " ", "\r\n\r\n"])
            .prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_bytes_get_one_verdict(input in likely_bytes(), sizes in prop::collection::vec(0..8_usize, 0..24)) {
        let whole = scan(BodyLength::Chunked, &input, &[]);
        prop_assert_eq!(scan(BodyLength::Chunked, &input, &sizes), whole);
    }

    #[test]
    fn what_was_chunked_is_found_again(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8)) {
        let mut input = Vec::new();
        for chunk in &chunks {
            input.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            input.extend_from_slice(chunk);
            input.extend_from_slice(b"\r\n");
        }
        input.extend_from_slice(b"0\r\n\r\n");
        let length = input.len();
        input.extend_from_slice(b"0\r\n\r\n");
        prop_assert_eq!(scan_every_way(BodyLength::Chunked, &input), Ok((length, chunks.concat(), true)));
    }
}
