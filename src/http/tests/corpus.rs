//! Heads that other proxies were fooled by, each with what must become of it; and what must hold for any bytes.

use proptest::prelude::*;

use super::*;

const LIMITS: HeadLimits = HeadLimits { max_bytes: 2048, max_fields: 20 };

fn request(input: &[u8]) -> Result<Parsed<RequestHead>, RequestError> {
    parse_request(input, LIMITS)
}

/// The verdict on `input`, having seen that no beginning of it gets another.
fn request_every_way(input: &[u8]) -> Result<Parsed<RequestHead>, RequestError> {
    let whole = request(input);
    for end in 0..input.len() {
        match (request(&input[..end]), &whole) {
            (Ok(Parsed::Partial), _) => {}
            (Err(early), Err(late)) => assert_eq!(early.status(), late.status(), "{:?}", input[..end].escape_ascii()),
            (early, late) => assert_eq!(&early, late, "{}", input[..end].escape_ascii()),
        }
    }
    whole
}

fn complete(input: &[u8]) -> RequestHead {
    match request_every_way(input) {
        Ok(Parsed::Complete { head, .. }) => head,
        other => panic!("{other:?} for {}", input.escape_ascii()),
    }
}

fn forwarded(input: &[u8]) -> String {
    let mut out = Vec::new();
    complete(input).write_to(input, &mut out);
    String::from_utf8(out).unwrap()
}

fn assert_refused(status: u16, input: &str) {
    match request_every_way(input.as_bytes()) {
        Err(error) => assert_eq!(error.status(), status, "{error} for {input:?}"),
        Ok(parsed) => panic!("{input:?} gave {parsed:?}"),
    }
}

fn get(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n")
}

/// Two lengths, or one that two readers would count differently.
#[test]
fn ambiguous_lengths_are_refused() {
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5\r\nContent-Length: 5",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: \u{b}chunked",
        "Content-Length : 5",
    ] {
        assert_refused(400, &get(fields));
    }
    assert_refused(400, "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n");
    for value in ["+5", "-1", "0x5", "5_0", "5 6", "", "5,5", "18446744073709551616", "10000000000000000000", "\u{661}"]
    {
        assert_refused(400, &get(&format!("Content-Length: {value}")));
    }
    for value in [
        "xchunked",
        ",chunked",
        "chunked,",
        "chunked, identity",
        "chunked, chunked",
        "identity",
        "gzip, chunked",
        "\"chunked\"",
        "chunked;q=1",
        "",
    ] {
        assert_refused(501, &get(&format!("Transfer-Encoding: {value}")));
    }
}

/// No host, two hosts, or what is none.
#[test]
fn ambiguous_hosts_are_refused() {
    for head in [
        "GET / HTTP/1.1\r\nX: y",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a",
        "GET / HTTP/1.1\r\nHost: a\r\nhost: b",
        "GET / HTTP/1.0\r\nHost: a\r\nHost: a",
        "GET / HTTP/1.0\r\nHost:",
        "GET http://b/ HTTP/1.1\r\nX: y",
        "GET http://b/ HTTP/1.1\r\nHost: a\r\nHost: b",
        "CONNECT b:443 HTTP/1.1\r\nHost: a:443",
        "CONNECT a:443 HTTP/1.1\r\nHost: a:444",
        "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nContent-Length: 5",
        "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nTransfer-Encoding: chunked",
    ] {
        assert_refused(400, &format!("{head}\r\n\r\n"));
    }
    for host in
        ["u@a", "a/b", "a,b", "a b", "a\0", "[::1", "a:99999", "", "a:b", "a#", "http://a", "\u{e9}", "%61", ":80"]
    {
        assert_refused(400, &format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    }
}

/// Names and values that end, fold or continue where they should not.
#[test]
fn malformed_fields_are_refused() {
    for field in [
        "X : y",
        "X\t: y",
        " X: y",
        "\tX: y",
        "X: y\r\n z",
        "X: y\r\n\tz",
        ": y",
        "X",
        "X y",
        "X: y\rz",
        "X: y\nZ: z",
        "X: \0",
        "X: \u{1}",
        "X: \u{1f}",
        "X: \u{7f}",
        "X\u{e9}: y",
        "X\0: y",
        "X\": y",
        "(X): y",
        "\rX: y",
        "X: y\r\r",
        "Connection: a b",
        "Connection: \"close\"",
    ] {
        assert_refused(400, &get(field));
    }
    assert_refused(431, &get(&"X: y\r\n".repeat(20)));
    assert_refused(431, &get(&format!("X: {}", "y".repeat(2048))));
}

/// Methods, targets, versions and the spaces between them.
#[test]
fn malformed_request_lines_are_refused() {
    let line = |line: &str| format!("{line}\r\nHost: a\r\n\r\n");
    for start in [
        "G=\":<>(e) / HTTP/1.1",
        "get / HTTP/1.1",
        "Get / HTTP/1.1",
        " GET / HTTP/1.1",
        "GET  / HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET / x HTTP/1.1",
        "GET /\tHTTP/1.1",
        "GET /\r HTTP/1.1",
        "GET /a#b HTTP/1.1",
        "GET /\0 HTTP/1.1",
        "GET / HTTP/1.1x",
        "GET / HTTP/01.1",
        "GET / http/1.1",
        "GET / HTTP/1",
        "GET / HTTP/1,1",
        "GET / ",
        "GET /",
        "GET",
        " / HTTP/1.1",
        "GET * HTTP/1.1",
        "OPTIONS */x HTTP/1.1",
        "GET admin HTTP/1.1",
        "GET b:80 HTTP/1.1",
        "GET https://a/ HTTP/1.1",
        "GET http://u:p@a/ HTTP/1.1",
        "CONNECT a HTTP/1.1",
        "CONNECT / HTTP/1.1",
        "\nGET / HTTP/1.1",
        "\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1",
    ] {
        assert_refused(400, &line(start));
    }
    assert_refused(400, &line(&format!("{} / HTTP/1.1", "G".repeat(10_240))));
    assert_refused(414, &line(&format!("GET /{} HTTP/1.1", "a".repeat(2048))));
    for version in ["HTTP/1.2", "HTTP/2.0", "HTTP/0.9", "HTTP/9.9"] {
        assert_refused(505, &line(&format!("GET / {version}")));
    }
}

/// What is not hop-by-hop passes byte for byte.
#[test]
fn ordinary_requests_pass_as_they_are() {
    for input in [
        &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"GET /x?y=%00&z={|} HTTP/1.1\r\nhOST:\ta:80 \r\nX: \xff\r\nCookie: a\r\ncookie: b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
        b"PURGE / HTTP/1.1\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\nTrailer: x\r\nMax-Forwards: 3\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
        b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
        b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: [::ffff:127.0.0.1]\r\nX-Empty:\r\n\r\n",
    ] {
        let head = complete(input);
        assert!(head.is_verbatim(), "{}", input.escape_ascii());
        let mut out = Vec::new();
        head.write_to(input, &mut out);
        assert_eq!(out, input);
    }
}

/// What changes on the way, and that the rest does not.
#[test]
fn hop_by_hop_fields_stay_behind() {
    let get = |fields: &str| format!("GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\n{fields}a: 2\r\n\r\n");
    for (sent, passed) in [
        ("Connection: close\r\n", ""),
        ("Connection: close, X-Mine\r\nX-mine: 1\r\n", ""),
        ("X-Mine: 1\r\nConnection: X-Mine\r\nX-Mine: 2\r\n", ""),
        ("Connection: keep-alive, X-Mine\r\n", "Connection: keep-alive\r\n"),
        (
            "connection: Host, Authorization, X-Forwarded-For\r\nAuthorization: b\r\nX-Forwarded-For: c\r\n",
            "Authorization: b\r\nX-Forwarded-For: c\r\n",
        ),
        ("Connection: Content-Length\r\nContent-Length: 5\r\n", "Content-Length: 5\r\n"),
        ("Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\n"),
        ("Keep-Alive: timeout=5\r\nConnection: keep-alive\r\n", "Connection: keep-alive\r\n"),
        ("Proxy-Connection: keep-alive\r\n", ""),
        ("TE: gzip\r\nConnection: TE\r\n", ""),
        ("TE: trailers, gzip\r\n", ""),
        ("TE: trailers\r\nConnection: te, close\r\n", "TE: trailers\r\nConnection: te\r\n"),
        ("Connection: TE\r\n", ""),
        ("Upgrade: websocket\r\n", ""),
        ("Connection: upgrade\r\n", ""),
        ("Connection: Upgrade\r\nUpgrade:\r\n", ""),
        ("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\n", ""),
        ("Connection: upgrade\r\nUpgrade: websocket, H2C\r\n", ""),
        ("Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n", ""),
        ("Connection: upgrade\r\nUpgrade: TLS/1.3, HTTP/1.1\r\n", ""),
        ("Connection: close, Upgrade\r\nUpgrade: x\r\n", "Connection: Upgrade\r\nUpgrade: x\r\n"),
    ] {
        assert_eq!(forwarded(get(sent).as_bytes()), get(passed), "{sent:?}");
    }
    for (sent, passed) in [
        ("GET http://b/c?d HTTP/1.1\r\nX: y\r\nhost:  B:80\r\n\r\n", "GET /c?d HTTP/1.1\r\nX: y\r\nhost: b\r\n\r\n"),
        // RFC 9112 §3.2.2: the target wins.
        ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: b\r\n\r\n"),
        ("GET http://a:81/ HTTP/1.1\r\nHost: a:80\r\n\r\n", "GET / HTTP/1.1\r\nHost: a:81\r\n\r\n"),
        ("GET HTTP://B:81 HTTP/1.1\r\nHost: b:81\r\n\r\n", "GET / HTTP/1.1\r\nHost: B:81\r\n\r\n"),
        ("GET http://b?c HTTP/1.0\r\n\r\n", "GET /?c HTTP/1.0\r\nHost: b\r\n\r\n"),
        ("OPTIONS http://b HTTP/1.1\r\nHost: b\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: b\r\n\r\n"),
        ("OPTIONS http://b/ HTTP/1.1\r\nHost: b\r\n\r\n", "OPTIONS / HTTP/1.1\r\nHost: b\r\n\r\n"),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("GET / HTTP/1.0\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"),
    ] {
        assert_eq!(forwarded(sent.as_bytes()), passed, "{sent:?}");
    }
}

#[test]
fn a_head_says_what_the_proxy_needs() {
    let input = b"\r\nPOST /x?y HTTP/1.1\r\nHost: B.example.:8080\r\nUser-Agent: c\r\nx-request-id: d\r\n\
        X-Forwarded-For: e\r\nTransfer-Encoding: Chunked\r\nExpect: 100-Continue\r\nConnection: close\r\n\r\nrest";
    let Ok(Parsed::Complete { head, length }) = request(input) else { panic!("refused") };
    assert_eq!(&input[length..], b"rest");
    assert_eq!(head.method_text.of(input), b"POST");
    assert_eq!(head.path(input), Some(&b"/x?y"[..]));
    assert_eq!(head.authority.as_ref().unwrap().to_string(), "b.example:8080");
    let texts =
        [head.authority_text, head.user_agent, head.request_id, head.forwarded_for].map(|at| at.unwrap().of(input));
    assert_eq!(texts, [&b"B.example.:8080"[..], b"c", b"d", b"e"]);
    assert_eq!((head.body, head.keep_alive, head.expect_continue), (BodyLength::Chunked, false, true));
    for (input, keep_alive, body) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true, BodyLength::None),
        ("GET / HTTP/1.0\r\nHost: a\r\n\r\n", false, BodyLength::None),
        ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true, BodyLength::None),
        ("GET / HTTP/1.0\r\nConnection: Keep-Alive, close\r\n\r\n", false, BodyLength::None),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nConnection: CLOSE\r\n\r\n", false, BodyLength::None),
        ("GET / HTTP/1.1\r\nHost: a\r\nProxy-Connection: close\r\n\r\n", true, BodyLength::None),
        ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 007\r\n\r\n", true, BodyLength::Length(7)),
    ] {
        let head = complete(input.as_bytes());
        assert_eq!((head.keep_alive, head.body), (keep_alive, body), "{input:?}");
    }
}

/// Of two pipelined requests the first is found alike wherever the bytes are cut.
#[test]
fn pipelined_requests_are_told_apart() {
    let first = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n";
    let both = [&first[..], b"GET /2 HTTP/1.1\r\nHost: b\r\n\r\n"].concat();
    let expected = request(first);
    for end in first.len()..both.len() {
        assert_eq!(request(&both[..end]), expected);
    }
}

fn likely_requests() -> impl Strategy<Value = Vec<u8>> {
    let pieces = vec![
        "GET ",
        "POST ",
        "CONNECT ",
        "/",
        "http://a",
        "a:80",
        " ",
        "HTTP/1.1",
        "HTTP/1.0",
        "\r\n",
        "\r\n",
        "\r\n\r\n",
        "\n",
        "\r",
        "Host: a\r\n",
        "Host",
        ":",
        "Content-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Connection: ",
        "close",
        "upgrade",
        "Upgrade: x\r\n",
        ",",
        "x",
        "TE: trailers\r\n",
        "\t",
        "\0",
        "X: y\r\n",
    ];
    let request =
        prop::collection::vec(prop::sample::select(pieces), 0..16).prop_map(|pieces| pieces.concat().into_bytes());
    (any::<bool>(), request, prop::option::of((any::<prop::sample::Index>(), any::<u8>()))).prop_map(
        |(valid_start, mut bytes, fault)| {
            if valid_start {
                bytes.splice(0..0, *b"GET / HTTP/1.1\r\nHost: a\r\n");
                bytes.extend_from_slice(b"\r\n\r\n");
            }
            if let Some((at, byte)) = fault.filter(|_| !bytes.is_empty()) {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes
        },
    )
}

proptest! {
    #[test]
    fn any_bytes_get_one_verdict(input in likely_requests()) {
        let _ = request_every_way(&input);
    }

    /// What goes upstream is one request again, the same, with nothing left to take out.
    #[test]
    fn what_is_forwarded_is_unambiguous(input in likely_requests()) {
        if let Ok(Parsed::Complete { head, length }) = request(&input) {
            let mut out = Vec::new();
            head.write_to(&input, &mut out);
            let again = request(&out);
            let Ok(Parsed::Complete { head: again, length: used }) = again else {
                return Err(TestCaseError::fail(format!("{again:?} for {}", out.escape_ascii())));
            };
            prop_assert_eq!(used, out.len());
            prop_assert!(again.is_verbatim(), "{}", out.escape_ascii());
            prop_assert_eq!((&again.authority, again.body, again.version), (&head.authority, head.body, head.version));
            prop_assert_eq!(again.path(&out), head.path(&input));
            prop_assert_eq!(head.is_verbatim(), out == input[..length]);
        }
    }

    /// A second opinion: another parser finds the same fields in what this one lets through.
    #[test]
    fn httparse_reads_the_same(input in likely_requests()) {
        if let Ok(Parsed::Complete { head, length }) = request(&input) {
            let mut fields = [httparse::EMPTY_HEADER; 64];
            let mut other = httparse::Request::new(&mut fields);
            prop_assert_eq!(other.parse(&input), Ok(httparse::Status::Complete(length)));
            prop_assert_eq!(other.method.map(str::as_bytes), Some(head.method_text.of(&input)));
            prop_assert_eq!(other.path.map(str::as_bytes), Some(head.target.of(&input)));
            let hosts = other.headers.iter().filter(|field| field.name.eq_ignore_ascii_case("host")).count();
            prop_assert!(hosts == 1 || head.version == Version::Http10 && hosts == 0);
        }
    }
}

#[path = "corpus_responses.rs"]
mod responses;
