//! Compression of heads (RFC 7541, RFC 9113 §4.3): an error there is one of the connection, for both sides share its state.

use super::Expected::*;
use super::framing::{post, request, then};
use super::{Case, Expected, HOST, case};
use crate::lab::frames::*;

pub fn cases() -> Vec<Case> {
    [indexes(), strings(), tables(), kept_in_step()].into_iter().flatten().collect()
}

/// A request whose header block is `GET /` and then `more`.
fn with(more: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &[&request("GET", "/")[..], more].concat())
}

/// A request whose header block begins with `first`.
fn behind(first: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &[first, &request("GET", "/")[..]].concat())
}

/// The codec says PROTOCOL_ERROR where COMPRESSION_ERROR is asked for; the connection ends all the same.
fn error() -> Expected {
    Connection(&[COMPRESSION_ERROR, PROTOCOL_ERROR])
}

fn served() -> Expected {
    Served(1, 200)
}

fn indexes() -> Vec<Case> {
    // A block by indexes of the static table: GET, http, /, and an authority by its name there.
    let indexed = [&[0x82, 0x86, 0x84, 0x01, HOST.len() as u8][..], HOST.as_bytes()].concat();
    let endless = with(&[&[0xff][..], &[0x80; 7]].concat());
    let huge = with(&[&[0xff; 8][..], &[0x7f]].concat());
    vec![
        case("RFC 7541 6.1", "fields of the static table", frame(HEADERS, 5, 1, &indexed), served()),
        case("RFC 7541 6.1", "index 0", with(&[0x80]), error()),
        case("RFC 7541 2.3.3", "an index beyond both tables", with(&[0xc6]), error()),
        case("RFC 7541 2.3.3", "a name's index beyond both tables", with(&[0x7f, 0x00, 1, b'x']), error()),
        case("RFC 7541 2.3.3", "the same, not to be kept", with(&[0x0f, 0x30, 1, b'x']), error()),
        case("RFC 7541 2.3.3", "the same, never to be kept", with(&[0x1f, 0x30, 1, b'x']), error()),
        case("RFC 7541 5.1", "a number that does not end", endless, error()),
        case("RFC 7541 5.1", "a number beyond all bounds", huge, error()),
        case("RFC 7541 6.2.1", "a field that is kept, and its index", with(&[0x40, 1, b'x', 1, b'y', 0xbe]), served()),
        case("RFC 7541 6.2.3", "a field that is never kept", with(&[0x10, 1, b'x', 1, b'y']), served()),
        case("RFC 7541 6.2.3", "its index", with(&[0x10, 1, b'x', 1, b'y', 0xbe]), error()),
    ]
}

fn strings() -> Vec<Case> {
    vec![
        case("RFC 7541 5.2", "Huffman code", with(&[0x00, 0x81, 0xf3, 0x81, 0x1f]), served()),
        case("RFC 7541 5.2", "padding of more than 7 bits", with(&[0x00, 1, b'x', 0x82, 0x1f, 0xff]), error()),
        case("RFC 7541 5.2", "padding of zeros", with(&[0x00, 1, b'x', 0x81, 0x18]), error()),
        case("RFC 7541 5.2", "EOS", with(&[0x00, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff]), error()),
        case("RFC 7541 5.2", "a string longer than the block", with(&[0x00, 1, b'x', 5, b'y']), error()),
        case("RFC 7541 5.2", "a name without a value", with(&[0x00, 1, b'x']), error()),
        case("RFC 7541 5.2", "a length that is cut off", with(&[0x00, 0x7f]), error()),
        case("4.3", "a block that is cut off", frame(HEADERS, 5, 1, &request("GET", "/")[..20]), error()),
    ]
}

fn tables() -> Vec<Case> {
    let kept = [0x40, 1, b'x', 1, b'y'];
    vec![
        case("RFC 7541 6.3", "a table larger than allowed", behind(&[0x3f, 0xe2, 0x1f]), error()),
        case("RFC 7541 6.3", "a table as large as allowed", behind(&[0x3f, 0xe1, 0x1f]), served()),
        case("RFC 7541 4.2", "two sizes at the beginning", behind(&[0x20, 0x3f, 0xe1, 0x1f]), served()),
        case("RFC 7541 4.2", "a size at the end", with(&[0x20]), error()),
        case("RFC 7541 4.2", "a size in the middle", with(&[&[0x20][..], &block(&[("x", "y")])].concat()), error()),
        case("RFC 7541 4.3", "a size of 0 empties the table", then(&[with(&kept), later(&[0x20], &[0xbe])]), error()),
        case(
            "RFC 7541 4.4",
            "a field larger than the table",
            then(&[behind(&[0x20]), later(&[], &kept)]),
            Served(3, 200),
        ),
    ]
}

/// A request on the next stream: `first`, `GET /` and `more`.
fn later(first: &[u8], more: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 3, &[first, &request("GET", "/")[..], more].concat())
}

/// A block that is refused is read all the same, or the tables would no longer agree.
fn kept_in_step() -> Vec<Case> {
    const KEPT: [u8; 5] = [0x40, 1, b'x', 1, b'y'];
    let keeps = [&block(&[("connection", "close")])[..], &KEPT].concat();
    let end = frame(HEADERS, END_HEADERS | END_STREAM, 1, &KEPT);
    let used = || later(&[], &[0xbe]);
    let trailers = then(&[post(1, "/never"), end, reset(1), used()]);
    vec![
        case("4.3", "of a malformed request", then(&[with(&keeps), used()]), Served(3, 200)),
        case("4.3", "of a stream that is reset", trailers, Served(3, 200)),
        case("4.3", "of another stream", then(&[with(&KEPT), used()]), Served(3, 200)),
    ]
}
