//! Bodies of old servers: what they become, and what stays refused.

use proptest::prelude::*;

use super::super::BodyScanner as Strict;
use super::*;

/// What goes on for `input`, cut in pieces of `size`, and whether the body is complete and doubtful.
fn pass(input: &[u8], size: usize, lf: bool) -> Result<(Vec<u8>, bool, bool), BodyError> {
    let mut body = AnswerBody::new(BodyLength::Chunked, lf);
    let mut out = Vec::new();
    for piece in input.chunks(size) {
        if body.is_complete() {
            break;
        }
        match body.advance(piece)? {
            Passed::AsWritten(used) => out.extend_from_slice(&piece[..used]),
            Passed::Rewritten { used, bytes } => {
                assert!(used == piece.len() || body.is_complete());
                out.extend(bytes);
            }
        }
    }
    Ok((out, body.is_complete(), body.is_doubtful()))
}

/// The data alone, and the trailers.
fn data(input: &[u8], size: usize, lf: bool) -> Result<(Vec<u8>, Vec<u8>), BodyError> {
    let mut body = AnswerBody::keeping_trailer(BodyLength::Chunked, lf);
    let mut out = Vec::new();
    for piece in input.chunks(size) {
        body.unframe(piece, &mut out)?;
    }
    Ok((out, body.take_trailer()))
}

fn strict(input: &[u8]) -> Result<Vec<u8>, BodyError> {
    let (mut scanner, mut out) = (Strict::new(BodyLength::Chunked), Vec::new());
    scanner.unframe(input, &mut out)?;
    assert!(scanner.is_complete());
    Ok(out)
}

#[test]
fn bodies_of_old_servers_are_written_anew() {
    for (input, expected, lf, doubtful) in [
        ("5 \r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", false, true),
        (" 5\t\r\nhello\r\n0   \r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", false, true),
        ("5 ; a=b\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", false, true),
        ("5; a b=\"c\r\nhello\r\n0;\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", false, true),
        ("5;a=b\r\nhello\r\n0\r\n\r\n", "5;a=b\r\nhello\r\n0\r\n\r\n", false, false),
        (
            "1\r\nx\r\n0\r\nX-Sum: 1\r\nContent-Length: 5\r\nY: 2\r\n\r\n",
            "1\r\nx\r\n0\r\nX-Sum: 1\r\nY: 2\r\n\r\n",
            false,
            false,
        ),
        ("0\r\nSet-Cookie: a\r\n b\r\n\r\n", "0\r\n\r\n", false, false),
        ("0\r\nX: a\r\n b\r\nY : c\r\n\r\n", "0\r\nX: a b\r\nY: c\r\n\r\n", false, false),
        ("5\nhello\n0\nX: 1\n\n", "5\r\nhello\r\n0\r\nX: 1\r\n\r\n", true, true),
        ("5\r\nhello\r\n0\n\n", "5\r\nhello\r\n0\r\n\r\n", true, true),
    ] {
        let behind = format!("{input}HTTP/1.1 200 OK");
        for size in [1, 2, 3, 7, behind.len()] {
            let passed = pass(behind.as_bytes(), size, lf).unwrap();
            let (out, is_complete, is_doubtful) = passed;
            assert_eq!(
                (String::from_utf8(out.clone()).unwrap().as_str(), is_complete),
                (expected, true),
                "{input:?} {size}"
            );
            assert_eq!(is_doubtful, doubtful, "{input:?} {size}");
            let (data, trailer) = data(input.as_bytes(), size, lf).unwrap();
            assert_eq!(data, strict(&out).unwrap());
            assert!(expected.as_bytes().ends_with(&[&trailer[..], b"\r\n"].concat()), "{input:?}: {trailer:?}");
        }
    }
}

#[test]
fn what_is_ambiguous_stays_refused() {
    for (input, lf) in [
        ("5\nhello\r\n0\r\n\r\n", false),
        ("5\r\nhello\n0\r\n\r\n", false),
        ("5;a\nhello\r\n0\r\n\r\n", false),
        ("0\r\n\n", false),
        ("0\r\nX: a\n\r\n", false),
        ("5 5\r\nhello\r\n", false),
        ("0x5\r\nhello\r\n", false),
        ("+5\r\nhello\r\n", false),
        ("\r\nhello\r\n", false),
        (" \r\n", false),
        (";a\r\n", false),
        ("5;a\rb\r\nhello\r\n", false),
        ("5;\0\r\nhello\r\n", false),
        ("00000000000000005\r\nhello\r\n", false),
        ("FFFFFFFFFFFFFFFF \r\n", false),
        ("5\r\nhello!\r\n", false),
        ("0\r\nX\r\n\r\n", false),
        ("0\r\n X: a\r\n\r\n", false),
        ("0\r\nX: a\0\r\n\r\n", false),
        ("0\r\nX: a\rb\r\n\r\n", false),
        ("5\nhello!\n", true),
        ("5;a\rb\nhello\n", true),
    ] {
        for size in [1, 2, input.len()] {
            assert!(pass(input.as_bytes(), size, lf).is_err(), "{input:?} {size}");
            assert!(data(input.as_bytes(), size, lf).is_err(), "{input:?} {size}");
        }
    }
}

#[test]
fn what_is_held_is_bounded() {
    for (input, error) in [
        (format!("5{}", " ".repeat(5000)), BodyError::Overhead),
        (format!("0\r\nX: {}", "a".repeat(20_000)), BodyError::TrailerTooLarge),
        (format!("1{}\r\nx\r\n", " ".repeat(1000)).repeat(100), BodyError::Overhead),
    ] {
        assert_eq!(pass(input.as_bytes(), 100, false).map(drop), Err(error), "{}", &input[..10]);
    }
}

#[test]
fn counted_and_open_bodies_pass_as_they_are() {
    for (length, used) in [(BodyLength::Length(3), 3), (BodyLength::UntilClose, 6), (BodyLength::None, 0)] {
        let mut body = AnswerBody::new(length, false);
        assert_eq!(body.advance(b"abcdef"), Ok(Passed::AsWritten(used)));
    }
}

fn likely_bodies() -> impl Strategy<Value = Vec<u8>> {
    let pieces = vec![
        "0",
        "1",
        "5",
        "hello",
        "x",
        "\r\n",
        "\n",
        " ",
        ";",
        "a=b",
        "\r\n0\r\n",
        "X: 1\r\n",
        "Host: a\r\n",
        "\r\n\r\n",
        "\0",
    ];
    prop::collection::vec(prop::sample::select(pieces), 0..16).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    /// However it is cut, the same goes on, and the strict reader takes it; and it takes all that the strict one takes.
    #[test]
    fn what_is_written_anew_is_unambiguous(input in likely_bodies(), size in 1_usize..9, lf: bool) {
        let whole = pass(&input, input.len().max(1), lf);
        let cut = pass(&input, size, lf);
        match (&whole, &cut) {
            (Ok((out, true, _)), Ok((other, true, _))) => {
                prop_assert_eq!(out, other);
                let plain = strict(out).unwrap();
                prop_assert_eq!(plain, data(&input, size, lf).unwrap().0);
            }
            (Ok((_, false, _)), Ok((_, false, _))) | (Err(_), Err(_)) => {}
            other => return Err(TestCaseError::fail(format!("{other:?}"))),
        }
        let mut scanner = Strict::new(BodyLength::Chunked);
        if let Ok(used) = scanner.advance(&input) && scanner.is_complete() {
            prop_assert_eq!(whole.unwrap().0, &input[..used]);
        }
    }
}
