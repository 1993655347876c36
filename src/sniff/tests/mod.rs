//! Every verdict is the same for every split, because it never changes once given.

use std::sync::Arc;

use proptest::prelude::*;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName as TlsName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;
use crate::flow::Hostname;

/// The verdict on `bytes`, having seen that each of their beginnings gets the same or none.
fn detect_every_way(bytes: &[u8]) -> Detection {
    every_way(bytes, detect)
}

fn every_way(bytes: &[u8], detect: impl Fn(&[u8]) -> Detection) -> Detection {
    let verdict = detect(bytes);
    let mut given = None;
    for end in 0..=bytes.len() {
        match (detect(&bytes[..end]), &given) {
            (Detection::NeedMore, None) => {}
            (Detection::NeedMore, Some(_)) => panic!("a verdict was taken back at {end}"),
            (early, _) => {
                assert_eq!(early, verdict, "at {end} of {}", bytes.escape_ascii());
                given = Some(early);
            }
        }
    }
    verdict
}

#[test]
fn http2_has_begun_where_no_request_has() {
    for begun in [&b"PRI "[..], b"PRI * HTTP/2.0\r\n\r\nS", HTTP2_PREFACE, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0"] {
        assert!(begins_http2(begun), "{}", begun.escape_ascii());
    }
    for other in [&b""[..], b"P", b"PRI", b"PRINT ", b"PRI / HTTP/1.1\r\n", b"\x16"] {
        assert!(!begins_http2(other), "{}", other.escape_ascii());
    }
}

#[test]
fn a_request_of_no_http_is_known_by_its_version() {
    for foreign in
        ["INVALID CONNECTION PREFACE\r\n\r\n", "PRI * HTTX/2.0\r\n\r\nSM\r\n\r\n", "INVITE sip:a SIP/2.0\r\nTo: b\r\n"]
    {
        assert!(begins_foreign_request(foreign.as_bytes()), "{foreign:?}");
        assert_eq!(every_way(foreign.as_bytes(), detect_declared), Detection::Opaque, "{foreign:?}");
    }
    for other in [
        "",
        "INVALID CONNECTION PREFACE",
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/9\r\n",
        "get /key 1\r\n",
        "EHLO example.com\r\n",
        "SET /key a b\r\n",
        "SET  1\r\n",
        "A B \r\n",
        " A B\r\n",
        "A\r\nB C D\r\n",
    ] {
        assert!(!begins_foreign_request(other.as_bytes()), "{other:?}");
    }
}

#[test]
fn text_protocols() {
    use Detection::{Http1, Http2, NeedMore, Opaque};
    for (bytes, verdict) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Http1),
        ("PURGE / HTTP/1.1\r\n", Http1),
        ("M-SEARCH * HTTP/1.1\r\n", Http1),
        ("PRINT / HTTP/1.1\r\n", Http1),
        ("PRI / HTTP/1.1\r\n", Http1),
        ("PRI * HTTP/2.0\r\nHost: a\r\n\r\n", Http1),
        ("\r\n\r\nGET / HTTP/1.0\r\n", Http1),
        ("GET http://a/ HTTP/1.1\r\n", Http1),
        ("GET HTTPS://a/ HTTP/1.1\r\n", Http1),
        ("CONNECT a:443 HTTP/1.1\r\n", Http1),
        ("CONNECT [::1]:443 HTTP/1.1\r\n", Http1),
        ("OPTIONS * HTTP/1.1\r\n", Http1),
        // Methods are capitals (RFC 9110 §9.1).
        ("get / http/1.1\r\n", Opaque),
        ("foo1", Opaque),
        ("123", Opaque),
        ("-GET / HTTP/1.1", Opaque),
        // Refused by the parser, but not let through as something else.
        ("GET  /  HTTP/1.1\r\n", Http1),
        ("GET\t/ HTTP/1.1\n", Http1),
        ("GET / HTTP/9.9\r\n", Http1),
        ("GET /\r\n", Http1),
        ("GET /\n", Http1),
        ("\nGET / HTTP/1.1\n", Http1),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Http2),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0", Http2),
        ("", NeedMore),
        ("PRI * HTTP/2.0\r\n\r\n", NeedMore),
        ("G", NeedMore),
        ("GET", NeedMore),
        ("GET ", NeedMore),
        ("GET /", NeedMore),
        ("FOO / HTT", NeedMore),
        ("GET h", NeedMore),
        ("SSH-2.0-OpenSSH_9.9", Opaque),
        ("SSH-2.0-OpenSSH_9.9\r\n", Opaque),
        ("EHLO example.com\r\n", Opaque),
        ("USER guest 0 * :x\r\n", Opaque),
        ("CONNECT {\"verbose\":false}\r\n", Opaque),
        ("*1\r\n$4\r\nPING\r\n", Opaque),
        ("PING\r\n", Opaque),
        ("get key\r\n", Opaque),
        ("SET /key 1\r\n", Opaque),
        ("SET /key\r\n", Opaque),
        ("OPTIONS rtsp://a/ RTSP/1.0\r\n", Opaque),
        ("OPTIONS * RTSP/1.0\r\n", Opaque),
        ("SOURCE /mount ICE/1.0\r\n", Opaque),
        ("INVITE sip:a SIP/2.0\r\n", Opaque),
        (" GET / HTTP/1.1\r\n", Opaque),
        ("GET(x) / HTTP/1.1\r\n", Opaque),
        ("\0\0\0\x08\x04\u{d2}\x16/", Opaque),
    ] {
        assert_eq!(detect_every_way(bytes.as_bytes()), verdict, "{bytes:?}");
    }
}

/// Where requests are expected, an odd one is a request, and what is no text still something else.
#[test]
fn openings_on_a_port_of_protocol_http() {
    use Detection::{Http1, Http2, NeedMore, Opaque};
    for (bytes, verdict) in [
        ("GET / HTTP/1.1\r\n", Http1),
        ("GET ", Http1),
        ("GET\r\n", Http1),
        ("GET  HTTP/1.1\r\n\r\n", Http1),
        ("GET nowhere HTTP/1.1\r\n\r\n", Http1),
        ("GE(T) / HTTP/1.1\r\n", Http1),
        ("G\u{1}T / HTTP/1.1\r\n", Http1),
        ("GET/HTTP/1.1\r\n", Http1),
        ("FOO /\u{b}HTTP/1.1\r\n", Http1),
        ("\t\r\n\tFOO / HTTP/1.1\r\n", Http1),
        ("G\0", NeedMore),
        ("G\0\n", Opaque),
        ("\u{e9}GET / HTTP/1.1\r\n", Opaque),
        ("G\u{c9}T / HTTP/1.1\r\n", Http1),
        ("get / http/1.1\r\n", Http1),
        ("  \r\n GET / HTTP/1.1\r\n", Http1),
        ("x y z HTTP/3\n", Http1),
        ("FOO1 /", NeedMore),
        ("foo1", NeedMore),
        ("PRI", NeedMore),
        ("", NeedMore),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Http2),
        ("SSH-2.0-OpenSSH_9.9\r\n", Opaque),
        ("*1\r\n$4\r\nPING\r\n", Opaque),
        ("set /key 1\r\n", Opaque),
        ("\0\x01\x02", Opaque),
        ("a\0 HTTP/1.1\r\n", Http1),
        ("\0a HTTP/1.1\r\n", Opaque),
    ] {
        assert_eq!(every_way(bytes.as_bytes(), detect_declared), verdict, "{bytes:?}");
    }
    let endless = |start: &str| format!("{start}{}", "a".repeat(9000));
    assert_eq!(every_way(endless("PROPFIND /").as_bytes(), detect_declared), Http1);
    assert_eq!(every_way(endless("").as_bytes(), detect_declared), Opaque);
}

#[test]
fn a_line_that_does_not_end_is_judged_by_its_method() {
    for (start, verdict) in
        [("GET /", Detection::Http1), ("\r\nPOST  /", Detection::Http1), ("GETX /", Detection::Opaque)]
    {
        let line = format!("{start}{}", "a".repeat(9000));
        assert_eq!(detect_every_way(line.as_bytes()), verdict, "{start}");
    }
    assert_eq!(detect_every_way("\r\n".repeat(5000).as_bytes()), Detection::Opaque);
    assert_eq!(detect_every_way(&b"a".repeat(33)), Detection::Opaque);
}

/// A length of `size` bytes, then the bytes.
fn vector(size: usize, bytes: &[u8]) -> Vec<u8> {
    [&bytes.len().to_be_bytes()[8 - size..], bytes].concat()
}

fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector(2, data)].concat()
}

fn names(names: &[&[u8]]) -> Vec<u8> {
    let entries: Vec<u8> = names.iter().flat_map(|name| [vec![0], vector(2, name)].concat()).collect();
    extension(0, &vector(2, &entries))
}

/// The body of a ClientHello with these extensions.
fn body(extensions: Option<&[u8]>) -> Vec<u8> {
    let mut body = [3, 3].to_vec();
    body.extend([7; 32]);
    body.extend(vector(1, &[9; 32]));
    body.extend(vector(2, &[0x13, 1, 0x13, 2]));
    body.extend(vector(1, &[0]));
    body.extend(extensions.map(|all| vector(2, all)).unwrap_or_default());
    body
}

fn message(body: &[u8]) -> Vec<u8> {
    [vec![1], vector(3, body)].concat()
}

/// `message` in records of at most `size` bytes with the version 3.`minor`.
fn records(message: &[u8], size: usize, minor: u8) -> Vec<u8> {
    message.chunks(size).flat_map(|part| [vec![22, 3, minor], vector(2, part)].concat()).collect()
}

fn hello(extensions: &[u8]) -> Vec<u8> {
    records(&message(&body(Some(extensions))), 16_384, 1)
}

fn sni(bytes: &[u8]) -> ServerName {
    match detect_every_way(bytes) {
        Detection::Tls(hello) => hello.sni,
        other => panic!("{other:?}"),
    }
}

fn name(name: &str) -> ServerName {
    ServerName::Name(Hostname::new(name).unwrap())
}

#[test]
fn hellos_of_a_real_client() {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let config = Arc::new(config);
    for (host, expected) in [("Edition.cnn.com", name("edition.cnn.com")), ("192.0.2.1", ServerName::Absent)] {
        let mut client = ClientConnection::new(Arc::clone(&config), TlsName::try_from(host).unwrap()).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        let Detection::Tls(hello) = detect_every_way(&bytes) else { panic!("{host}") };
        assert_eq!(hello.sni, expected);
        assert_eq!(hello.alpn, [b"h2"[..].into(), b"http/1.1"[..].into()] as [Box<[u8]>; 2]);
        assert!(!hello.has_ech);
    }
}

/// As `openssl s_client` 3.0 and curl over it sent them to a local socket.
#[test]
fn hellos_of_openssl() {
    for (bytes, expected, protocols) in [
        (&include_bytes!("hellos/openssl-3.0-tls13.bin")[..], name("edition.cnn.com"), 2),
        (include_bytes!("hellos/openssl-3.0-tls12-no-sni.bin"), ServerName::Absent, 0),
        (include_bytes!("hellos/curl-openssl.bin"), name("www.example.com"), 2),
    ] {
        let Detection::Tls(hello) = detect_every_way(bytes) else { panic!("not found to be TLS") };
        assert_eq!((hello.sni, hello.alpn.len()), (expected, protocols));
    }
}

/// The name is found however the hello is cut into records, whatever version they claim.
#[test]
fn hellos_in_many_records() {
    let message = message(&body(Some(&names(&[b"a.example"]))));
    for minor in 0..=4 {
        for size in [1, 2, 3, 4, 5, 50, message.len() - 1, message.len()] {
            let mut bytes = records(&message, size, minor);
            assert_eq!(sni(&bytes), name("a.example"), "records of {size}");
            bytes.extend_from_slice(b"more");
            assert_eq!(sni(&bytes), name("a.example"));
        }
    }
    for cut in 1..message.len() {
        let bytes = [records(&message[..cut], 16_384, 1), records(&message[cut..], 16_384, 3)].concat();
        assert_eq!(detect(&bytes), detect(&records(&message, 16_384, 1)), "cut at {cut}");
    }
}

/// With post-quantum shares and tickets a hello may be longer than a record.
#[test]
fn long_hellos() {
    let long = [extension(0xfafa, &vec![0; 20_000]), names(&[b"a.example"])].concat();
    let bytes = hello(&long);
    assert!(bytes.len() > 16_384 + 5);
    assert_eq!(detect(&bytes[..bytes.len() - 1]), Detection::NeedMore);
    assert_eq!(detect(&bytes), Detection::Tls(ClientHello { sni: name("a.example"), alpn: vec![], has_ech: false }));
}

/// Whatever is not exactly one host name is no name.
#[test]
fn names_and_what_is_none() {
    let ech = extension(0xfe0d, b"\0\0\x01");
    let long = format!("{}.example", "a.".repeat(130));
    for (extensions, expected) in [
        (vec![], ServerName::Absent),
        (names(&[b"A.Example"]), name("a.example")),
        (names(&[b"a.example."]), name("a.example")),
        (names(&[b"_a.example"]), name("_a.example")),
        ([ech.clone(), names(&[b"outer.example"])].concat(), name("outer.example")),
        (names(&[b"192.0.2.1"]), ServerName::Unusable),
        (names(&[b"2001:db8::1"]), ServerName::Unusable),
        (names(&[b"a.example\0"]), ServerName::Unusable),
        (names(&[b"a.example\0.b"]), ServerName::Unusable),
        (names(&["\u{e9}.example".as_bytes()]), ServerName::Unusable),
        (names(&[b"\xff"]), ServerName::Unusable),
        (names(&[b""]), ServerName::Unusable),
        (names(&[long.as_bytes()]), ServerName::Unusable),
        (names(&[b"a.example", b"b.example"]), ServerName::Unusable),
        (names(&[]), ServerName::Unusable),
        ([names(&[b"a.example"]), names(&[b"a.example"])].concat(), ServerName::Unusable),
        (extension(0, &vector(2, &[&[1], &vector(2, b"a.example")[..]].concat())), ServerName::Unusable),
        (extension(0, b""), ServerName::Unusable),
        (
            extension(0, &[&vector(2, &[&[0], &vector(2, b"a.example")[..]].concat())[..], b"x"].concat()),
            ServerName::Unusable,
        ),
        ([names(&[b"a.example"]), b"\0".to_vec()].concat(), ServerName::Unusable),
        ([names(&[b"a.example"]), extension(16, b"\0\x03\x05h2")].concat(), ServerName::Unusable),
    ] {
        assert_eq!(sni(&hello(&extensions)), expected, "{}", extensions.escape_ascii());
    }
    assert_eq!(sni(&records(&message(&body(None)), 16_384, 1)), ServerName::Absent);
    let Detection::Tls(found) = detect(&hello(&ech)) else { panic!("no TLS") };
    assert!(found.has_ech);
    let many: Vec<u8> = (0..20).flat_map(|_| vector(1, b"h2")).collect();
    let Detection::Tls(found) = detect(&hello(&extension(16, &vector(2, &many)))) else { panic!("no TLS") };
    assert_eq!(found.alpn.len(), 8);
}

/// What is not a hello, and hellos that lie about their lengths.
#[test]
fn lookalikes_and_lies() {
    let good = hello(&names(&[b"a.example"]));
    let at = |index: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[index] = value;
        bytes
    };
    // An SSLv2 hello; wrong major or minor version; another handshake message.
    for bytes in [vec![0x80, 0x2e, 1, 3, 1, 0, 3, 0, 0, 0], at(1, 2), at(2, 5), at(5, 2), vec![22, b'x']] {
        assert_eq!(detect_every_way(&bytes), Detection::Opaque, "{}", bytes.escape_ascii());
    }
    // Lengths: of the record, of the message (2^24, one less), of the session id, of the extensions.
    for bytes in
        [at(3, 0xff), [&[22, 3, 1, 0, 0], &good[..]].concat(), at(6, 0xff), at(8, good[8] - 1), at(43, 33), at(85, 0)]
    {
        assert_eq!(sni(&bytes), ServerName::Unusable, "{}", bytes.escape_ascii());
    }
    for end in 0..good.len() {
        assert_eq!(detect(&good[..end]), Detection::NeedMore);
    }
    // Another record type, or a record without payload, within the hello.
    let message = message(&body(Some(&names(&[b"a.example"]))));
    for between in [&[23, 3, 3, 0, 1, 0][..], &[22, 3, 3, 0, 0], &[22, 2], &[22, 3, 9]] {
        let bytes = [&records(&message[..20], 20, 1), between, &records(&message[20..], 16_384, 1)].concat();
        assert_eq!(sni(&bytes), ServerName::Unusable, "{between:?}");
    }
}

#[test]
fn a_hello_that_does_not_end_has_no_name() {
    let endless = message(&body(Some(&extension(0xfafa, &vec![0; 65_000]))));
    for size in [1, 100] {
        let bytes = records(&endless, size, 1);
        assert_eq!(detect(&bytes[..65_535]), Detection::NeedMore);
        for bytes in [&bytes[..65_536], &bytes[..]] {
            assert_eq!(
                detect(bytes),
                Detection::Tls(ClientHello { sni: ServerName::Unusable, alpn: vec![], has_ech: false })
            );
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_get_one_verdict(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        detect_every_way(&bytes);
        every_way(&bytes, detect_declared);
        detect_every_way(&[&[22, 3, 1, 0, 70, 1, 0, 0, 66, 3, 3], &bytes[..]].concat());
    }

    #[test]
    fn a_changed_byte_gets_one_verdict(at: prop::sample::Index, value: u8, size in 1..200_usize) {
        let message = message(&body(Some(&[names(&[b"a.example"]), extension(16, b"\0\x03\x02h2")].concat())));
        let mut bytes = records(&message, size, 1);
        let at = at.index(bytes.len());
        bytes[at] = value;
        detect_every_way(&bytes);
    }

    #[test]
    fn any_text_gets_one_verdict(
        pieces in prop::collection::vec(
            prop::sample::select(vec![
                "GET", "PRI", "X", " ", "\t", "/", "*", "http://", "a", "HTTP/", "1.1", "\r", "\n", "\r\n", "CONNECT", ":",
            ]),
            0..10,
        )
    ) {
        detect_every_way(pieces.concat().as_bytes());
        every_way(pieces.concat().as_bytes(), detect_declared);
    }
}
