//! Responses: what is refused, what changes for which client.

use proptest::prelude::*;

use super::*;

const GET: RequestContext = RequestContext { method: Method::Get, version: Version::Http11, upgrade: false };
const STAYING: ClientContext = ClientContext { version: Version::Http11, keep_alive: true };
const LEAVING: ClientContext = ClientContext { version: Version::Http11, keep_alive: false };
const OLD: ClientContext = ClientContext { version: Version::Http10, keep_alive: false };
const OLD_STAYING: ClientContext = ClientContext { version: Version::Http10, keep_alive: true };

/// The verdict on `input`, having seen that no beginning of it gets another.
fn response(input: &[u8], context: RequestContext) -> Result<Parsed<ResponseHead>, ResponseError> {
    let whole = parse_response(input, context, LIMITS);
    for end in 0..input.len() {
        match (parse_response(&input[..end], context, LIMITS), &whole) {
            (Ok(Parsed::Partial), _) | (Err(_), Err(_)) => {}
            (early, late) => assert_eq!(&early, late, "{}", input[..end].escape_ascii()),
        }
    }
    whole
}

fn complete(input: &str, context: RequestContext) -> ResponseHead {
    match response(input.as_bytes(), context) {
        Ok(Parsed::Complete { head, .. }) => head,
        other => panic!("{other:?} for {input:?}"),
    }
}

#[test]
fn ambiguous_responses_are_refused() {
    for input in [
        "ICY 200 OK\r\n\r\n",
        "HTTP/1.1 99 x\r\n\r\n",
        "HTTP/1.1 099 x\r\n\r\n",
        "HTTP/1.1 2000 x\r\n\r\n",
        "HTTP/1.1  200 x\r\n\r\n",
        "HTTP/1.1 20\r\n\r\n",
        "HTTP/1.1\r\n\r\n",
        "HTTP/2.0 200 x\r\n\r\n",
        "HTTP/1.2 200 x\r\n\r\n",
        "http/1.1 200 x\r\n\r\n",
        "\r\nHTTP/1.1 200 x\r\n\r\n",
        "HTTP/1.1 200 x\n\r\n",
        "HTTP/1.1 200 x\0\r\n\r\n",
        "HTTP/1.1 200 x\ry\r\n\r\n",
        "HTTP/1.1 200 x\r\nA: b\rc\r\n\r\n",
        "HTTP/1.1 200 x\r\nA: \0\r\n\r\n",
        "HTTP/1.1 200 x\r\nA : b\r\n\r\n",
        "HTTP/1.1 200 x\r\nA: b\r\n c\r\n\r\n",
        "HTTP/1.1 200 x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 x\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 x\r\nContent-Length: -5\r\n\r\n",
        "HTTP/1.1 200 x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.0 200 x\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        "\u{16}\u{3}\u{3}\u{0}",
    ] {
        assert!(response(input.as_bytes(), GET).is_err(), "{input:?}");
    }
    let large = format!("HTTP/1.1 200 x\r\nX: {}\r\n\r\n", "y".repeat(2048));
    assert_eq!(response(large.as_bytes(), GET), Err(ResponseError::Head(HeadError::TooLarge)));
}

#[test]
fn the_request_decides_whether_there_is_a_body() {
    let head = RequestContext { method: Method::Head, ..GET };
    let connect = RequestContext { method: Method::Connect, ..GET };
    let old = RequestContext { version: Version::Http10, ..GET };
    let upgrade = RequestContext { upgrade: true, ..GET };
    for (input, context, body, keep_alive) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", GET, BodyLength::Length(5), true),
        ("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", GET, BodyLength::Length(0), true),
        ("HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n", GET, BodyLength::Chunked, true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n", GET, BodyLength::Length(5), false),
        ("HTTP/1.1 999 x\r\n\r\n", GET, BodyLength::UntilClose, false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", GET, BodyLength::Length(5), false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n", GET, BodyLength::Length(5), true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", old, BodyLength::Length(5), false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", head, BodyLength::None, true),
        ("HTTP/1.1 200 OK\r\n\r\n", head, BodyLength::None, true),
        ("HTTP/1.1 204 x\r\nContent-Length: 5\r\n\r\n", GET, BodyLength::None, true),
        ("HTTP/1.1 304 x\r\nContent-Length: 5\r\n\r\n", GET, BodyLength::None, true),
        ("HTTP/1.1 103 x\r\nLink: a\r\n\r\n", GET, BodyLength::None, true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", connect, BodyLength::None, false),
        ("HTTP/1.1 407 x\r\nContent-Length: 5\r\n\r\n", connect, BodyLength::Length(5), true),
        ("HTTP/1.1 101 x\r\nUpgrade: a\r\nConnection: upgrade\r\n\r\n", upgrade, BodyLength::None, false),
        ("HTTP/1.1 200 x\r\nContent-Length: 5\r\n\r\n", upgrade, BodyLength::Length(5), true),
    ] {
        let head = complete(input, context);
        assert_eq!((head.body, head.keep_alive), (body, keep_alive), "{input:?}");
        assert_eq!(head.is_interim, head.status == 103, "{input:?}");
        let is_tunnel = context.method == Method::Connect && head.status == 200;
        assert_eq!(head.is_upgrade, head.status == 101 || is_tunnel, "{input:?}");
    }
}

#[test]
fn a_server_says_how_long_it_keeps_its_connection() {
    for (value, seconds) in [
        ("timeout=5", Some(5)),
        ("max=100, Timeout=60", Some(60)),
        ("timeout=0", Some(0)),
        ("timeout = 5", None),
        ("timeout=-1", None),
        ("timeout=99999999999", None),
        ("timeouts=5", None),
        ("", None),
    ] {
        let input = format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nKeep-Alive: {value}\r\n\r\n");
        assert_eq!(complete(&input, GET).keeps_for, seconds, "{value}");
    }
}

#[test]
fn each_client_gets_a_head_in_its_terms() {
    let ok = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}A: 1\r\nSet-Cookie: b\r\nset-cookie: c\r\n\r\n");
    for (sent, client, passed) in [
        ("Content-Length: 5\r\n", STAYING, "Content-Length: 5\r\n"),
        ("Content-Length: 5\r\nConnection: keep-alive\r\n", STAYING, "Content-Length: 5\r\nConnection: keep-alive\r\n"),
        ("Content-Length: 5\r\nConnection: close\r\n", STAYING, "Content-Length: 5\r\n"),
        ("Content-Length: 5\r\nConnection: Content-Length\r\n", STAYING, "Content-Length: 5\r\n"),
        ("Content-Length: 5\r\nConnection: x\r\nX: 1\r\n", STAYING, "Content-Length: 5\r\n"),
        ("Content-Length: 5\r\nKeep-Alive: timeout=5\r\n", STAYING, "Content-Length: 5\r\n"),
        ("Content-Length: 5\r\nUpgrade: h2c\r\nConnection: upgrade\r\n", STAYING, "Content-Length: 5\r\n"),
        ("Content-Length: 5\r\nUpgrade: h2c\r\n", STAYING, "Content-Length: 5\r\n"),
        ("Transfer-Encoding: chunked\r\nTrailer: x\r\n", STAYING, "Transfer-Encoding: chunked\r\nTrailer: x\r\n"),
    ] {
        let (sent, passed) = (ok(sent), ok(passed));
        let head = complete(&sent, GET);
        let mut out = Vec::new();
        head.write_to(sent.as_bytes(), &mut out, client);
        assert_eq!(String::from_utf8(out).unwrap(), passed, "{sent:?}");
        assert_eq!(head.is_verbatim(client), sent == passed, "{sent:?}");
        assert_eq!(head.delivery(client), Delivery { keep_alive: true, dechunk: false });
    }
}

#[test]
fn the_connection_is_named_where_the_client_must_know() {
    let both = |keep_alive, dechunk| Delivery { keep_alive, dechunk };
    for (sent, client, passed, delivery) in [
        (
            "200 x\r\nContent-Length: 5\r\n",
            LEAVING,
            "200 x\r\nContent-Length: 5\r\nConnection: close\r\n",
            both(false, false),
        ),
        (
            "200 x\r\nContent-Length: 5\r\n",
            OLD,
            "200 x\r\nContent-Length: 5\r\nConnection: close\r\n",
            both(false, false),
        ),
        (
            "200 x\r\nContent-Length: 5\r\n",
            OLD_STAYING,
            "200 x\r\nContent-Length: 5\r\nConnection: keep-alive\r\n",
            both(true, false),
        ),
        ("200 x\r\nTransfer-Encoding: chunked\r\n", OLD_STAYING, "200 x\r\nConnection: close\r\n", both(false, true)),
        ("200 x\r\nA: b\r\n", STAYING, "200 x\r\nA: b\r\nConnection: close\r\n", both(false, false)),
        ("204 x\r\nTransfer-Encoding: chunked\r\n", STAYING, "204 x\r\n", both(true, false)),
        ("204 x\r\nContent-Length: 5\r\n", STAYING, "204 x\r\n", both(true, false)),
        ("204 x\r\nContent-Length: 0\r\n", STAYING, "204 x\r\nContent-Length: 0\r\n", both(true, false)),
        ("304 x\r\nContent-Length: 5\r\n", STAYING, "304 x\r\nContent-Length: 5\r\n", both(true, false)),
        ("100 x\r\n", LEAVING, "100 x\r\n", both(false, false)),
        ("103 x\r\nLink: a\r\nConnection: close\r\n", STAYING, "103 x\r\nLink: a\r\n", both(true, false)),
        (
            "426 x\r\nContent-Length: 0\r\nUpgrade: TLS/1.2\r\nConnection: Upgrade, close\r\n",
            STAYING,
            "426 x\r\nContent-Length: 0\r\nUpgrade: TLS/1.2\r\nConnection: Upgrade\r\n",
            both(true, false),
        ),
    ] {
        let sent = format!("HTTP/1.1 {sent}\r\n");
        let head = complete(&sent, GET);
        let mut out = Vec::new();
        head.write_to(sent.as_bytes(), &mut out, client);
        assert_eq!(String::from_utf8(out).unwrap(), format!("HTTP/1.1 {passed}\r\n"), "{sent:?}");
        assert_eq!(head.delivery(client), delivery, "{sent:?}");
    }
    let sent = "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n";
    let mut out = Vec::new();
    complete(sent, GET).write_to(sent.as_bytes(), &mut out, STAYING);
    assert_eq!(String::from_utf8(out).unwrap(), "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    let sent = "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let head = complete(sent, RequestContext { upgrade: true, ..GET });
    assert!(head.is_verbatim(STAYING) && head.is_verbatim(LEAVING));
}

fn likely_responses() -> impl Strategy<Value = Vec<u8>> {
    let pieces = vec![
        "HTTP/1.1 ",
        "200",
        "204",
        "101",
        "x",
        "\r\n",
        "\r\n",
        "\n",
        "\r",
        "Content-Length: 5\r\n",
        "Upgrade: x\r\n",
        ": ",
        "\0",
        "Transfer-Encoding: chunked\r\n",
        "Connection: ",
        "close\r\n",
        "upgrade\r\n",
        "keep-alive\r\n",
        "X: y\r\n",
    ];
    (any::<bool>(), prop::collection::vec(prop::sample::select(pieces), 0..12)).prop_map(|(valid_start, pieces)| {
        let start = if valid_start { "HTTP/1.1 200 OK\r\n" } else { "" };
        [start, &pieces.concat(), "\r\n\r\n"].concat().into_bytes()
    })
}

proptest! {
    #[test]
    fn any_bytes_get_one_verdict(input in likely_responses(), bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = response(&input, GET);
        let _ = response(&bytes, GET);
    }

    /// What a client gets is one response again, with the same body and no doubt about the connection.
    #[test]
    fn what_is_delivered_is_unambiguous(input in likely_responses(), version10: bool, keep_alive: bool) {
        let version = if version10 { Version::Http10 } else { Version::Http11 };
        let client = ClientContext { version, keep_alive };
        if let Ok(Parsed::Complete { head, .. }) = response(&input, GET) {
            let mut out = Vec::new();
            head.write_to(&input, &mut out, client);
            let Ok(Parsed::Complete { head: again, length }) = response(&out, RequestContext { version, ..GET }) else {
                return Err(TestCaseError::fail(out.escape_ascii().to_string()));
            };
            let delivery = head.delivery(client);
            prop_assert_eq!(length, out.len());
            prop_assert_eq!(again.body, if delivery.dechunk { BodyLength::UntilClose } else { head.body });
            if !again.is_interim {
                prop_assert_eq!(again.keep_alive, delivery.keep_alive, "{}", out.escape_ascii());
            }
        }
    }
}
