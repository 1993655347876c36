//! Heads of old servers: what they become, and what stays refused.

use proptest::prelude::*;

use super::super::*;
use super::*;

const GET: RequestContext = RequestContext { method: Method::Get, version: Version::Http11, upgrade: false };
const LIMITS: HeadLimits = HeadLimits { max_bytes: 2048, max_fields: 20 };

/// What became of `input`, having seen that no beginning of it gets another verdict.
fn answer(input: &[u8]) -> Result<Answer, ResponseError> {
    let whole = parse_answer(input, GET, LIMITS);
    for end in 0..input.len() {
        match (parse_answer(&input[..end], GET, LIMITS), &whole) {
            (Ok(Answer::Partial), _) | (Err(_), Err(_)) => {}
            (early, late) => assert_eq!(&early, late, "{}", input[..end].escape_ascii()),
        }
    }
    whole
}

#[test]
fn heads_of_old_servers_are_written_anew() {
    let (sure, crlf, alone) = (
        Doubt::default(),
        Doubt { ends_connection: true, lf_ends_lines: false },
        Doubt { ends_connection: true, lf_ends_lines: true },
    );
    for (input, expected, doubt) in [
        ("HTTP/1.1 200 OK\nA: b\nContent-Length: 2\n\n", "HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 2\r\n\r\n", alone),
        ("HTTP/1.0 200 OK\n\n", "HTTP/1.0 200 OK\r\n\r\n", alone),
        ("HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n", "HTTP/1.1 200 OK\r\nA: b\r\nC: d\r\n\r\n", crlf),
        ("HTTP/1.1 200 OK\r\nA: b\r\n\n", "HTTP/1.1 200 OK\r\nA: b\r\n\r\n", crlf),
        ("HTTP/1.1 200 OK\r\nA: b\r\n\tc\r\n   d\r\n\r\n", "HTTP/1.1 200 OK\r\nA: b c d\r\n\r\n", sure),
        ("HTTP/1.1 200 OK\r\nA:\r\n b\r\n \r\nC: d\r\n\r\n", "HTTP/1.1 200 OK\r\nA: b \r\nC: d\r\n\r\n", sure),
        ("HTTP/1.1 200 OK\nA: b\n c\n\n", "HTTP/1.1 200 OK\r\nA: b c\r\n\r\n", alone),
        ("HTTP/1.1  200\t\tNot  so\r\nA : b\r\n\r\n", "HTTP/1.1 200 Not  so\r\nA: b\r\n\r\n", sure),
        ("HTTP/1.1  200 \r\nA\t : b\r\n\r\n", "HTTP/1.1 200\r\nA: b\r\n\r\n", sure),
        (
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            crlf,
        ),
        (
            "HTTP/1.1 200 OK\r\nConnection: keep-alive; timeout=5, max=7\r\n\r\n",
            "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n",
            sure,
        ),
        (
            "HTTP/1.1 200 OK\r\nConnection: timeout=5; close\r\n\r\n",
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
            sure,
        ),
        ("HTTP/1.1 200 OK\r\nConnection: \"x\"\r\n\r\n", "HTTP/1.1 200 OK\r\nConnection: \r\n\r\n", sure),
    ] {
        let behind = format!("{input}behind");
        match answer(behind.as_bytes()) {
            Ok(Answer::Rewritten { bytes, length, doubt: found, head }) => {
                assert_eq!(
                    (bytes.escape_ascii().to_string(), length),
                    (expected.as_bytes().escape_ascii().to_string(), input.len())
                );
                assert_eq!(found, doubt, "{input:?}");
                assert!(!(doubt.ends_connection && head.keep_alive), "{input:?}");
            }
            other => panic!("{input:?}: {other:?}"),
        }
    }
}

/// Where two readers could see two ends of the body, or what is no HTTP.
#[test]
fn what_is_ambiguous_stays_refused() {
    for input in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n 6\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length:\r\n 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding:\n chunked\n\n",
        "HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding\t: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 5\nTransfer-Encoding: chunked\n\n",
        "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 5\nContent-Length: 5\n\n",
        "HTTP/1.1 200 OK\nContent-Length: 5, 5\n\n",
        "HTTP/1.1 200 OK\nTransfer-Encoding: identity\n\n",
        "HTTP/1.1 200 OK\r\n A: b\r\n\r\n",
        "HTTP/1.1 200 OK\n\tA: b\n\n",
        "HTTP/1.1 200 OK\nA\n\n",
        "HTTP/1.1 200 OK\nA\n b: c\n\n",
        "HTTP/1.1 200 OK\n: b\n\n",
        "HTTP/1.1 200 OK\nA: b\rc\n\n",
        "HTTP/1.1 200 OK\nA: b\r\r\n\n",
        "HTTP/1.1 200 OK\nA: \0\n\n",
        "HTTP/1.1 200OK\n\n",
        "HTTP/1.1200 OK\n\n",
        "HTTP/1.2 200 OK\n\n",
        "HTTP/1.1  20 OK\r\n\r\n",
        "HTTP/1.1  2000 OK\r\n\r\n",
        " HTTP/1.1 200 OK\r\n\r\n",
        "\nHTTP/1.1 200 OK\n\n",
        "ICY 200 OK\n\n",
        "http/1.1 200 OK\n\n",
        "HTTP/1.1 101 x\nConnection: upgrade\nUpgrade: x\n\n",
    ] {
        assert!(answer(input.as_bytes()).is_err(), "{input:?}: {:?}", answer(input.as_bytes()));
    }
    let large = format!("HTTP/1.1 200 OK\nA: {}\n\n", "b".repeat(2048));
    assert_eq!(answer(large.as_bytes()), Err(HeadError::TooLarge.into()));
    let many = format!("HTTP/1.1 200 OK\n{}\n", "A: b\n".repeat(21));
    assert_eq!(answer(many.as_bytes()), Err(HeadError::TooManyFields.into()));
}

#[test]
fn a_good_head_is_taken_as_it_was_written() {
    let input = b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok";
    assert!(matches!(answer(input), Ok(Answer::AsWritten { length, .. }) if length == input.len() - 2));
}

fn likely_heads() -> impl Strategy<Value = Vec<u8>> {
    let pieces = vec![
        "A: b",
        "\r\n",
        "\n",
        " ",
        "\t",
        "\r",
        "Content-Length: 5",
        "Transfer-Encoding: chunked",
        "Connection: ",
        "close",
        "; x=y",
        ",",
        ":",
        "\0",
        "200",
        "HTTP/1.0 ",
    ];
    (any::<bool>(), prop::collection::vec(prop::sample::select(pieces), 0..16)).prop_map(|(old, pieces)| {
        let start = if old { "HTTP/1.0 200 OK" } else { "HTTP/1.1 200" };
        [start, &pieces.concat(), "\n\n"].concat().into_bytes()
    })
}

proptest! {
    /// Whatever comes is refused, or becomes a head that the strict reader understands in the same way.
    #[test]
    fn what_is_written_anew_is_unambiguous(input in likely_heads()) {
        if let Ok(Answer::Rewritten { head, bytes, length, doubt }) = answer(&input) {
            prop_assert!(length <= input.len());
            let again = parse_response(&bytes, GET, LIMITS);
            let Ok(Parsed::Complete { head: again, length }) = again else { panic!("{again:?}") };
            prop_assert_eq!(length, bytes.len());
            prop_assert_eq!((again.body, again.status), (head.body, head.status));
            prop_assert!(!doubt.ends_connection || !head.keep_alive);
        }
    }
}
