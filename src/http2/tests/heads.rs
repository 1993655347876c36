//! Heads: from header blocks to HTTP/1 and back.

use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, Version};

use super::super::*;
use crate::http::{HeadLimits, Parsed, RequestContext, parse_request, parse_response};

const LIMITS: HeadLimits = HeadLimits { max_bytes: 4096, max_fields: 20 };

struct Block<'b> {
    method: &'b str,
    authority: Option<&'b str>,
    path: Option<&'b str>,
    fields: &'b [(&'b str, &'b str)],
    is_over: bool,
}

const GET: Block<'static> =
    Block { method: "GET", authority: Some("a.test"), path: Some("/p?q"), fields: &[], is_over: true };

impl Block<'_> {
    fn parts(&self) -> ::http::request::Parts {
        let mut uri = ::http::uri::Parts::default();
        uri.authority = self.authority.map(|authority| authority.parse().unwrap());
        uri.path_and_query = self.path.map(|path| path.parse().unwrap());
        if uri.authority.is_some() && uri.path_and_query.is_some() {
            uri.scheme = Some(::http::uri::Scheme::HTTP);
        }
        let mut request = Request::new(());
        *request.method_mut() = Method::from_bytes(self.method.as_bytes()).unwrap();
        *request.uri_mut() = Uri::from_parts(uri).unwrap();
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = map(self.fields);
        request.into_parts().0
    }

    fn written(&self) -> Result<String, Unfit> {
        let mut out = Vec::new();
        let beside = Beside { is_over: self.is_over, websocket_key: None };
        write_request_head(&self.parts(), beside, LIMITS, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }
}

fn map(fields: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    map
}

#[test]
fn requests_become_heads() {
    for (block, expected) in [
        (GET, "GET /p?q HTTP/1.1\r\nhost: a.test\r\n\r\n"),
        (
            Block { method: "POST", is_over: false, ..GET },
            "POST /p?q HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n",
        ),
        (
            Block { method: "PUT", is_over: false, fields: &[("content-length", "5")], ..GET },
            "PUT /p?q HTTP/1.1\r\nhost: a.test\r\ncontent-length: 5\r\n\r\n",
        ),
        // RFC 9113 §8.2.3; the first part's place.
        (
            Block { fields: &[("cookie", "a=1"), ("x-a", "1"), ("cookie", "b=2"), ("cookie", "c=3")], ..GET },
            "GET /p?q HTTP/1.1\r\nhost: a.test\r\ncookie: a=1; b=2; c=3\r\nx-a: 1\r\n\r\n",
        ),
        (
            Block { fields: &[("x-a", "1"), ("x-b", "2"), ("x-a", "3")], ..GET },
            "GET /p?q HTTP/1.1\r\nhost: a.test\r\nx-a: 1\r\nx-a: 3\r\nx-b: 2\r\n\r\n",
        ),
        (
            Block { fields: &[("te", "trailers")], ..GET },
            "GET /p?q HTTP/1.1\r\nhost: a.test\r\nte: trailers\r\nconnection: te\r\n\r\n",
        ),
        // A Host that names the same is dropped, in whatever form.
        (Block { fields: &[("host", "a.test")], ..GET }, "GET /p?q HTTP/1.1\r\nhost: a.test\r\n\r\n"),
        (Block { fields: &[("host", "A.TEST")], ..GET }, "GET /p?q HTTP/1.1\r\nhost: a.test\r\n\r\n"),
        (Block { authority: None, fields: &[("host", "b.test")], ..GET }, "GET /p?q HTTP/1.1\r\nhost: b.test\r\n\r\n"),
        (Block { method: "OPTIONS", path: Some("*"), ..GET }, "OPTIONS * HTTP/1.1\r\nhost: a.test\r\n\r\n"),
        (
            Block { method: "CONNECT", authority: Some("a.test:443"), path: None, is_over: false, ..GET },
            "CONNECT a.test:443 HTTP/1.1\r\nhost: a.test:443\r\n\r\n",
        ),
    ] {
        assert_eq!(block.written().as_deref(), Ok(expected));
        let parsed = parse_request(expected.as_bytes(), canonical_limits(LIMITS));
        assert!(matches!(parsed, Ok(Parsed::Complete { length, .. }) if length == expected.len()), "{expected}");
    }
}

#[test]
fn extended_connect_becomes_an_upgrade() {
    let mut parts =
        Block { method: "CONNECT", is_over: false, fields: &[("sec-websocket-version", "13")], ..GET }.parts();
    parts.extensions.insert(h2::ext::Protocol::from_static("websocket"));
    let mut out = Vec::new();
    assert!(needs_websocket_key(&parts));
    let beside = Beside { is_over: false, websocket_key: Some("a2V5") };
    write_request_head(&parts, beside, LIMITS, &mut out).unwrap();
    let expected = "GET /p?q HTTP/1.1\r\nhost: a.test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                    sec-websocket-key: a2V5\r\nsec-websocket-version: 13\r\n\r\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
    let Ok(Parsed::Complete { head, .. }) = parse_request(expected.as_bytes(), LIMITS) else { panic!("{expected}") };
    assert_eq!(head.upgrade.unwrap().of(expected.as_bytes()), b"websocket");
    // And back, for a server that takes it.
    let back = outgoing_request(expected.as_bytes(), &::http::uri::Scheme::HTTPS).unwrap();
    assert_eq!((back.method(), back.uri().to_string()), (&Method::CONNECT, "https://a.test/p?q".to_owned()));
    assert_eq!(back.extensions().get::<h2::ext::Protocol>().unwrap().as_str(), "websocket");
}

#[test]
fn what_has_no_twin_in_http1_is_malformed() {
    for block in [
        Block { fields: &[("host", "b.test")], ..GET },
        Block { fields: &[("host", "a.test:81")], ..GET },
        Block { fields: &[("host", "a.test"), ("host", "a.test")], ..GET },
        Block { authority: None, fields: &[("host", "a.test"), ("host", "a.test")], ..GET },
        Block { path: Some("*"), ..GET },
        Block { path: Some("?q"), ..GET },
        Block { method: "CONNECT", authority: None, path: None, ..GET },
        Block { fields: &[("connection", "close")], ..GET },
        Block { fields: &[("keep-alive", "1")], ..GET },
        Block { fields: &[("proxy-connection", "close")], ..GET },
        Block { fields: &[("transfer-encoding", "chunked")], ..GET },
        Block { fields: &[("upgrade", "websocket")], ..GET },
        Block { fields: &[("http2-settings", "AAMAAABkAAQAAP__")], ..GET },
        Block { fields: &[("x-a", " 1")], ..GET },
        Block { fields: &[("x-a", "1\t")], ..GET },
    ] {
        let written = block.written();
        assert!(matches!(written, Err(Unfit::Malformed(_))), "{:?} {:?}: {written:?}", block.method, block.fields);
    }
}

/// A request that is one, and that HTTP/1 refuses with a status, gets that status.
#[test]
fn what_http1_refuses_is_refused_alike() {
    for (block, status) in [
        (Block { authority: None, ..GET }, 400),
        (Block { authority: Some("user@a.test"), ..GET }, 400),
        (Block { method: "get", ..GET }, 400),
        (
            Block {
                method: "POST",
                is_over: false,
                fields: &[("content-length", "5"), ("content-length", "5")],
                ..GET
            },
            400,
        ),
        (Block { method: "CONNECT", authority: Some("a.test"), path: None, ..GET }, 400),
    ] {
        let written = block.written().unwrap();
        let parsed = parse_request(written.as_bytes(), LIMITS);
        assert!(parsed.as_ref().is_err_and(|error| error.status() == status), "{written}: {parsed:?}");
    }
}

/// CVE-2026-47774 and its kin: what does not stay in the head counts as well.
#[test]
fn limits_count_what_was_received() {
    let crumbs: Vec<(&str, &str)> = std::iter::repeat_n(("cookie", "a"), 21).collect();
    assert_eq!(Block { fields: &crumbs, ..GET }.written(), Err(Unfit::TooManyFields));
    assert!(Block { fields: &crumbs[..20], ..GET }.written().is_ok());
    let long = "x".repeat(4096);
    assert_eq!(Block { fields: &[("x-a", &long)], ..GET }.written(), Err(Unfit::TooLarge));
    let halves = ["y".repeat(2048), "z".repeat(2048)];
    assert_eq!(
        Block { fields: &[("cookie", &halves[0]), ("cookie", &halves[1])], ..GET }.written(),
        Err(Unfit::TooLarge)
    );
    assert_eq!(Block { authority: None, fields: &[("host", &long)], ..GET }.written(), Err(Unfit::TooLarge));
    let path = format!("/{long}");
    assert_eq!(Block { path: Some(&path), ..GET }.written(), Err(Unfit::TooLarge));
}

#[test]
fn heads_become_requests() {
    for (head, method, uri, fields) in [
        (
            "GET /p?q HTTP/1.1\r\nHost: A.test\r\nX-Mine: 1\r\nx-mine:  2 \r\n\r\n",
            "GET",
            "https://A.test/p?q",
            &[("x-mine", "1"), ("x-mine", "2")][..],
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, TE\r\nKeep-Alive: timeout=5\r\nTE: Trailers\r\n\
             Transfer-Encoding: chunked\r\nProxy-Connection: close\r\nUpgrade: h2c\r\n\r\n",
            "POST",
            "https://a/",
            &[("te", "trailers")],
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\nTE: gzip\r\n\r\n", "GET", "https://a/", &[]),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS", "https://a*", &[]),
        ("GET http://b:81/x HTTP/1.1\r\nHost: b:81\r\n\r\n", "GET", "https://b:81/x", &[]),
        ("GET http://b HTTP/1.1\r\nHost: b\r\n\r\n", "GET", "https://b/", &[]),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "CONNECT", "a:443", &[]),
        (
            "PUT /x HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncookie: a=1; b=2\r\n\r\n",
            "PUT",
            "https://a/x",
            &[("content-length", "5"), ("cookie", "a=1; b=2")],
        ),
    ] {
        let request = outgoing_request(head.as_bytes(), &::http::uri::Scheme::HTTPS).unwrap();
        assert_eq!((request.method().as_str(), request.uri().to_string().as_str()), (method, uri), "{head}");
        assert_eq!(request.headers(), &map(fields), "{head}");
    }
    let written = |head: &str| outgoing_request(head.as_bytes(), &::http::uri::Scheme::HTTPS);
    assert_eq!(written("GET /a<b HTTP/1.1\r\nHost: a\r\n\r\n").unwrap_err(), Unsayable::Target);
}

#[test]
fn responses_become_heads() {
    let answered = |to_head, is_over| {
        let to = if to_head { AnswerTo::Head } else { AnswerTo::Other };
        Answered { to, is_over }
    };
    for (status, fields, answered, expected) in [
        (
            200,
            &[("x-a", "1")][..],
            answered(false, false),
            "HTTP/1.1 200 OK\r\nx-a: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        ),
        (200, &[], answered(false, true), "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
        (200, &[("content-length", "3")], answered(false, false), "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n"),
        (200, &[("content-length", "3")], answered(true, true), "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n"),
        (200, &[], answered(true, true), "HTTP/1.1 200 OK\r\n\r\n"),
        (204, &[], answered(false, true), "HTTP/1.1 204 No Content\r\n\r\n"),
        (304, &[("etag", "\"1\"")], answered(false, true), "HTTP/1.1 304 \r\netag: \"1\"\r\n\r\n"),
        (103, &[("link", "</a>")], answered(false, false), "HTTP/1.1 103 \r\nlink: </a>\r\n\r\n"),
        (799, &[], answered(false, true), "HTTP/1.1 799 \r\ncontent-length: 0\r\n\r\n"),
    ] {
        let mut response = Response::builder().status(status).body(()).unwrap();
        *response.headers_mut() = map(fields);
        let (parts, ()) = response.into_parts();
        let mut out = Vec::new();
        write_response_head(&parts, answered, LIMITS, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        let method = if answered.to == AnswerTo::Head { crate::http::Method::Head } else { crate::http::Method::Get };
        let context = RequestContext { method, version: crate::http::Version::Http11, upgrade: false };
        let parsed = parse_response(expected.as_bytes(), context, LIMITS);
        let Ok(Parsed::Complete { head, length }) = parsed else { panic!("{expected}: {parsed:?}") };
        assert_eq!((head.status, length), (status, expected.len()));
        assert!(head.is_interim || !head.is_close_delimited(), "its end shows: {expected}");
        let back = outgoing_response(expected.as_bytes()).unwrap();
        assert_eq!(back.status().as_u16(), status);
        assert!(!back.headers().contains_key("transfer-encoding"));
    }
}

/// A success of CONNECT is what HTTP/1 has for it, a refusal is an answer like others.
#[test]
fn tunnels_become_switches() {
    let upgrade = AnswerTo::Upgrade { protocol: b"websocket", accept: Some("proof") };
    let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                  sec-websocket-accept: proof\r\nsec-websocket-protocol: chat\r\n\r\n";
    for (status, to, expected) in [
        (200, upgrade, switch),
        (200, AnswerTo::Connect, "HTTP/1.1 200 OK\r\nsec-websocket-protocol: chat\r\n\r\n"),
        (403, upgrade, "HTTP/1.1 403 Forbidden\r\nsec-websocket-protocol: chat\r\ntransfer-encoding: chunked\r\n\r\n"),
    ] {
        let mut response = Response::builder().status(status).body(()).unwrap();
        *response.headers_mut() = map(&[("sec-websocket-protocol", "chat")]);
        let mut out = Vec::new();
        write_response_head(&response.into_parts().0, Answered { to, is_over: false }, LIMITS, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        let (method, upgrade) = match to {
            AnswerTo::Connect => (crate::http::Method::Connect, false),
            _ => (crate::http::Method::Get, true),
        };
        let context = RequestContext { method, version: crate::http::Version::Http11, upgrade };
        let parsed = parse_response(expected.as_bytes(), context, LIMITS);
        assert!(
            matches!(parsed, Ok(Parsed::Complete { head, .. }) if head.is_upgrade == (status == 200)),
            "{expected}"
        );
    }
}

#[test]
fn what_is_no_response() {
    for (status, fields) in [
        (101, &[][..]),
        (200, &[("connection", "close")]),
        (200, &[("transfer-encoding", "chunked")]),
        (200, &[("x-a", "1 ")]),
    ] {
        let mut response = Response::builder().status(status).body(()).unwrap();
        *response.headers_mut() = map(fields);
        let answered = Answered { to: AnswerTo::Other, is_over: true };
        assert!(
            write_response_head(&response.into_parts().0, answered, LIMITS, &mut Vec::new()).is_err(),
            "{fields:?}"
        );
    }
    let many = map(&[("x", "y"); 21]);
    assert!(trailer_lines(&many, LIMITS).is_err());
    assert!(trailer_lines(&map(&[("connection", "x")]), LIMITS).is_err());
    let trailers =
        map(&[("grpc-status", "0"), ("x-a", "1"), ("x-a", "2"), ("content-length", "5"), ("host", "a.test")]);
    let lines = trailer_lines(&trailers, LIMITS).unwrap();
    assert_eq!(lines, b"grpc-status: 0\r\nx-a: 1\r\nx-a: 2\r\n");
    assert_eq!(outgoing_trailers(&lines).unwrap().len(), 3);
}
