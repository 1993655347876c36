//! Requests as messages (RFC 9113 §8): what makes one malformed, and what does not.

use super::Expected::*;
use super::framing::{data, post, then};
use super::{Case, Expected, HOST, case};
use crate::lab::frames::*;

type Field<'f> = (&'f str, &'f str);

const PSEUDO: [Field<'static>; 4] = [(":method", "GET"), (":scheme", "http"), (":authority", HOST), (":path", "/")];

pub fn cases() -> Vec<Case> {
    [fields(), values(), pseudo_fields(), connect(), lengths(), trailers()].into_iter().flatten().collect()
}

/// A request whose header block has these fields, in this order.
fn asks<T: AsRef<[u8]>>(fields: &[(T, T)]) -> Vec<u8> {
    headers(1, END_STREAM, fields)
}

fn with(more: &[Field<'_>]) -> Vec<u8> {
    asks(&[&PSEUDO[..], more].concat())
}

fn with_bytes(name: &[u8], value: &[u8]) -> Vec<u8> {
    let bytes = |(name, value): &Field<'static>| (name.as_bytes(), value.as_bytes());
    asks(&[PSEUDO.iter().map(bytes).collect::<Vec<_>>(), vec![(name, value)]].concat())
}

fn without(name: &str) -> Vec<u8> {
    asks(&PSEUDO.iter().filter(|field| field.0 != name).copied().collect::<Vec<_>>())
}

fn instead(name: &str, value: &str) -> Vec<u8> {
    asks(&PSEUDO.map(|field| if field.0 == name { (field.0, value) } else { field }))
}

/// A malformed request is an error of its stream (§8.1.1).
fn malformed() -> Expected {
    Stream(1, &[PROTOCOL_ERROR])
}

/// What the codec cannot even hold as a field is an error of the connection to it, as it may be (§5.4.1).
fn no_field() -> Expected {
    Connection(&[PROTOCOL_ERROR])
}

fn fields() -> Vec<Case> {
    vec![
        case("8.2.1", "a name in upper case", with_bytes(b"X-A", b"1"), no_field()),
        case("8.2.1", "a blank in a name", with_bytes(b"x a", b"1"), no_field()),
        case("8.2.1", "a colon in a name", with_bytes(b"x:a", b"1"), no_field()),
        case("8.2.1", "a name that ends with a colon", with_bytes(b"x-a:", b"1"), no_field()),
        case("8.2.1", "CR LF in a name", with_bytes(b"x\r\ny", b"1"), no_field()),
        case("8.2.1", "NUL in a name", with_bytes(b"x\0", b"1"), no_field()),
        case("8.2.1", "DEL in a name", with_bytes(b"x\x7f", b"1"), no_field()),
        case("8.2.1", "a name beyond ASCII", with_bytes(b"x\xe4", b"1"), no_field()),
        case("8.2.1", "a name without a byte", with_bytes(b"", b"1"), no_field()),
        case("8.2.2", "connection", with(&[("connection", "keep-alive")]), malformed()),
        case("8.2.2", "keep-alive", with(&[("keep-alive", "5")]), malformed()),
        case("8.2.2", "proxy-connection", with(&[("proxy-connection", "close")]), malformed()),
        case("8.2.2", "transfer-encoding", with(&[("transfer-encoding", "chunked")]), malformed()),
        case("8.2.2", "upgrade", with(&[("upgrade", "websocket")]), malformed()),
        case("8.2.2", "te with another value", with(&[("te", "trailers, deflate")]), malformed()),
        case("8.2.2", "te", with(&[("te", "trailers")]), Served(1, 200)),
        case("8.2.3", "cookies in parts", with(&[("cookie", "a=b"), ("cookie", "c=d")]), Served(1, 200)),
        case("8.3", "a field twice", with(&[("x-a", "1"), ("x-a", "2")]), Served(1, 200)),
    ]
}

fn values() -> Vec<Case> {
    vec![
        case("8.2.1", "NUL in a value", with_bytes(b"x", b"a\0b"), no_field()),
        case("8.2.1", "CR in a value", with_bytes(b"x", b"a\rb"), no_field()),
        case("8.2.1", "LF in a value", with_bytes(b"x", b"a\nb"), no_field()),
        case("8.2.1", "a value that begins with a blank", with_bytes(b"x", b" a"), malformed()),
        case("8.2.1", "a value that ends with a blank", with_bytes(b"x", b"a "), malformed()),
        case("8.2.1", "a value that ends with a tab", with_bytes(b"x", b"a\t"), malformed()),
        case("8.2.1", "a value beyond ASCII", with_bytes(b"x", b"\xc3\xa4\xff"), Served(1, 200)),
        case("8.2.1", "a value without a byte", with_bytes(b"x", b""), Served(1, 200)),
        case("8.2.1", "NUL in :path", instead(":path", "/\0"), malformed()),
        case("8.2.1", "CR LF in :path", instead(":path", "/ HTTP/1.1\r\nx: y"), malformed()),
        case("8.2.1", "CR LF in :authority", instead(":authority", "a\r\nx: y"), malformed()),
        case("8.2.1", "CR LF in :method", instead(":method", "GET / HTTP/1.1\r\n"), no_field()),
        case("8.2.1", "a blank in :method", instead(":method", "GET /x"), no_field()),
        case("8.2.1", "a blank in :path", instead(":path", "/a b"), malformed()),
    ]
}

fn pseudo_fields() -> Vec<Case> {
    let late = [&PSEUDO[..3], &[("x-a", "1")], &PSEUDO[3..]].concat();
    vec![
        case("8.3", "a pseudo-field nobody knows", with(&[(":x", "y")]), no_field()),
        case("8.3", ":status in a request", with(&[(":status", "200")]), malformed()),
        case("8.3", "a pseudo-field behind a field", asks(&late), malformed()),
        case("8.3.1", ":method twice", with(&[(":method", "GET")]), malformed()),
        case("8.3.1", ":scheme twice", with(&[(":scheme", "http")]), malformed()),
        case("8.3.1", ":path twice", with(&[(":path", "/")]), malformed()),
        case("8.3.1", ":authority twice", with(&[(":authority", HOST)]), malformed()),
        case("8.3.1", "no :method", without(":method"), malformed()),
        case("8.3.1", "no :scheme", without(":scheme"), malformed()),
        case("8.3.1", "no :path", without(":path"), malformed()),
        case("8.3.1", "an empty :path", instead(":path", ""), malformed()),
        case("8.3.1", "an empty :method", instead(":method", ""), no_field()),
        case("8.3.1", "an empty :authority", instead(":authority", ""), malformed()),
        case("8.3.1", "a :path without a slash", instead(":path", "a"), malformed()),
        case("8.3.1", "a :path that is a URI", instead(":path", "http://other.example/"), malformed()),
        case("8.3.1", "a :path of OPTIONS alone", instead(":path", "*"), malformed()),
        case("8.3.1", "Host that names another", with(&[("host", "other.example")]), malformed()),
        case("8.3.1", "Host that says the same", with(&[("host", HOST)]), Served(1, 200)),
        case("8.3.1", "Host alone", asks(&[PSEUDO[0], PSEUDO[1], PSEUDO[3], ("host", HOST)]), Served(1, 200)),
        case("8.3.1", "userinfo in :authority", instead(":authority", "user@web.example"), Served(1, 400)),
        case("RFC 8441 4", ":protocol without CONNECT", with(&[(":protocol", "websocket")]), malformed()),
    ]
}

fn connect() -> Vec<Case> {
    let to = (":authority", "web.example:80");
    let connect = (":method", "CONNECT");
    vec![
        case("8.5", "CONNECT with :scheme", asks(&[connect, to, (":scheme", "http")]), malformed()),
        case("8.5", "CONNECT with :path", asks(&[connect, to, (":path", "/")]), malformed()),
        case("8.5", "CONNECT without :authority", asks(&[connect]), malformed()),
        case("8.5", "a tunnel that nobody allows", asks(&[connect, to]), Served(1, 405)),
    ]
}

fn lengths() -> Vec<Case> {
    let open = |length: &str| {
        let fields = [(":method", "POST"), PSEUDO[1], PSEUDO[2], (":path", "/never"), ("content-length", length)];
        headers(1, 0, &fields)
    };
    let begun = |length, bytes: &[u8]| then(&[open(length), data(1, 0, bytes)]);
    let whole = |length, bytes: &[u8]| then(&[begun(length, bytes), data(1, END_STREAM, b"y")]);
    vec![
        case("8.1.1", "DATA that is too short", whole("2", b""), malformed()),
        case("8.1.1", "DATA that is too long", begun("1", b"xy"), malformed()),
        case("8.1.1", "two DATA that are too short", whole("9", b"x"), malformed()),
        case("8.1.1", "two DATA that are too long", whole("1", b"x"), malformed()),
        case("8.1.1", "no DATA", with(&[("content-length", "1")]), malformed()),
        case("8.1.1", "no DATA, and a length of 0", with(&[("content-length", "0")]), Served(1, 200)),
        case("8.1.1", "a length that is no number", with(&[("content-length", "+0")]), malformed()),
        case("8.1.1", "two lengths", with(&[("content-length", "0"), ("content-length", "1")]), malformed()),
    ]
}

fn trailers() -> Vec<Case> {
    let last = |fields: &[Field<'_>]| headers(1, END_STREAM, fields);
    let held = |frames: &[Vec<u8>]| then(&[&[post(1, "/never")], frames].concat());
    let whole = then(&[post(1, "/"), data(1, 0, b"x"), last(&[("x-sum", "1")])]);
    let alone = then(&[post(1, "/"), last(&[("x-sum", "1")])]);
    let end = || last(&[("x", "1")]);
    let closed = || Either(&[STREAM_CLOSED, PROTOCOL_ERROR]);
    vec![
        case("8.1", "trailers", whole, Served(1, 200)),
        case("8.1", "trailers without a body", alone, Served(1, 200)),
        case("8.1", "trailers that do not end", held(&[headers(1, 0, &[("x-sum", "1")])]), malformed()),
        // The codec leaves them out, so that nobody is told.
        case("8.1", ":path in trailers", held(&[last(&[(":path", "/")])]), Ignored),
        case("8.1", ":status in trailers", held(&[last(&[(":status", "200")])]), Ignored),
        case("8.1", "a name in upper case in trailers", held(&[last(&[("X-Sum", "1")])]), no_field()),
        case("8.1", "connection in trailers", held(&[last(&[("connection", "close")])]), malformed()),
        case("8.1", "DATA behind trailers", held(&[end(), data(1, 0, b"x")]), closed()),
        case("8.1", "HEADERS behind trailers", held(&[end(), end()]), closed()),
    ]
}
