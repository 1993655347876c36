//! Frames and what stands in them (RFC 9113 §3 to §4 and §6).

use super::Expected::*;
use super::{Case, HOST, Step, case, play};
use crate::lab::frames::*;

/// A frame that is larger than egret allows: one byte beyond the least limit that there is (§4.2).
const TOO_LARGE: usize = 16_385;

pub fn post(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &request("POST", path))
}

/// A header block.
pub fn request(method: &str, path: &str) -> Vec<u8> {
    block(&[(":method", method), (":scheme", "http"), (":authority", HOST), (":path", path)])
}

pub fn data(stream: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    frame(DATA, flags, stream, payload)
}

pub fn then(parts: &[Vec<u8>]) -> Vec<u8> {
    parts.concat()
}

pub fn cases() -> Vec<Case> {
    let tables =
        [frames(), sizes(), bodies(), heads(), blocks(), settings_frames(), signals(), priorities(), windows()];
    tables.into_iter().flatten().collect()
}

fn frames() -> Vec<Case> {
    const PONG: [u8; 8] = *b"opaque 8";
    let pong = || Comes(PING, ACK, PONG.to_vec());
    let unknown = |stream, payload: &[u8]| frame(0x16, 0xff, stream, payload);
    let reset = frame(RST_STREAM, 0, 1, &[0, 0, 0, 0xff]);
    vec![
        case("4.1", "a frame of an unknown type", unknown(0, b"anything"), Ignored),
        case("4.1", "a frame of an unknown type on an idle stream", unknown(7, b""), Ignored),
        case("4.1", "flags that have no meaning", frame(PING, 0xfe, 0, &PONG), pong()),
        case("4.1", "the reserved bit", frame(PING, 0, 0x8000_0000, &PONG), pong()),
        case("7", "GOAWAY with a code nobody knows", goaway(0, 0xff), Connection(&[NO_ERROR])),
        case("7", "RST_STREAM with a code nobody knows", then(&[post(1, "/never"), reset]), Ignored),
    ]
}

fn sizes() -> Vec<Case> {
    let whole = then(&[post(1, "/"), data(1, END_STREAM, &[b'x'; TOO_LARGE - 1])]);
    let body = then(&[post(1, "/never"), data(1, END_STREAM, &vec![b'x'; TOO_LARGE])]);
    let block = [request("GET", "/"), block(&[("x", &"y".repeat(TOO_LARGE)[..])])].concat();
    let head = frame(HEADERS, END_HEADERS | END_STREAM, 1, &block);
    let error = || Connection(&[FRAME_SIZE_ERROR]);
    vec![
        case("4.2", "DATA as large as allowed", whole, Served(1, 200)),
        case("4.2", "DATA larger than allowed", body, Either(&[FRAME_SIZE_ERROR])),
        case("4.2", "HEADERS larger than allowed", head, error()),
        case("4.2", "SETTINGS larger than allowed", frame(SETTINGS, 0, 0, &[0; 16_386]), error()),
        case("4.2", "an unknown frame larger than allowed", frame(0x16, 0, 0, &[0; TOO_LARGE]), error()),
    ]
}

fn bodies() -> Vec<Case> {
    // Behind the HEADERS of a request: the length of the padding, and the rest.
    let padded = |path, length: u8, rest: &[u8]| {
        then(&[post(1, path), data(1, END_STREAM | PADDED, &[&[length][..], rest].concat())])
    };
    let none = then(&[post(1, "/never"), data(1, END_STREAM | PADDED, b"")]);
    let empty = then(&[post(1, "/"), data(1, 0, b"x"), data(1, END_STREAM, b"")]);
    let error = || Connection(&[PROTOCOL_ERROR, FRAME_SIZE_ERROR]);
    vec![
        case("6.1", "DATA on stream 0", data(0, END_STREAM, b"x"), Connection(&[PROTOCOL_ERROR])),
        case("6.1", "padding", padded("/", 4, b"x\0\0\0\0"), Served(1, 200)),
        case("6.1", "padding alone", padded("/", 255, &[0; 255]), Served(1, 200)),
        case("6.1", "padding as long as the payload", padded("/never", 5, &[0; 4]), Connection(&[PROTOCOL_ERROR])),
        case("6.1", "no room for the length of the padding", none, error()),
        case("6.1", "an empty DATA that ends the body", empty, Served(1, 200)),
    ]
}

fn heads() -> Vec<Case> {
    let block = request("GET", "/");
    let head = |flags, payload: &[u8]| frame(HEADERS, END_HEADERS | END_STREAM | flags, 1, payload);
    let padded = |length: u8, rest: &[u8], padding: usize| [&[length][..], rest, &vec![0; padding]].concat();
    let weighed = [&[0, 0, 0, 0, 200][..], &block].concat();
    let error = || Connection(&[PROTOCOL_ERROR]);
    let size = || Connection(&[FRAME_SIZE_ERROR, PROTOCOL_ERROR]);
    let both = head(WITH_PRIORITY | PADDED, &padded(3, &weighed, 3));
    vec![
        case("6.2", "HEADERS on stream 0", frame(HEADERS, END_HEADERS | END_STREAM, 0, &block), error()),
        case("6.2", "padding", head(PADDED, &padded(9, &block, 9)), Served(1, 200)),
        case("6.2", "padding as long as the payload", head(PADDED, &padded(200, &block, 9)), error()),
        case("6.2", "a priority", head(WITH_PRIORITY, &weighed), Served(1, 200)),
        case("6.2", "a priority and padding", both, Served(1, 200)),
        case("6.2", "no room for the priority", head(WITH_PRIORITY, &[0; 4]), size()),
        case("6.2", "no room for the length of the padding", head(PADDED, b""), size()),
    ]
}

/// A request whose header block is cut into so many pieces.
fn cut(pieces: usize) -> Vec<u8> {
    let block = request("GET", "/");
    let size = block.len().div_ceil(pieces);
    let piece = |(at, bytes): (usize, &[u8])| {
        let (kind, flags) = if at == 0 { (HEADERS, END_STREAM) } else { (CONTINUATION, 0) };
        let last = if (at + 1) * size >= block.len() { END_HEADERS } else { 0 };
        frame(kind, flags | last, 1, bytes)
    };
    block.chunks(size).enumerate().flat_map(piece).collect()
}

fn blocks() -> Vec<Case> {
    let block = request("GET", "/");
    let begun = |rest: Vec<u8>| then(&[frame(HEADERS, END_STREAM, 1, &block), rest]);
    let rest = |stream, flags, payload: &[u8]| frame(CONTINUATION, flags, stream, payload);
    let empty_first = then(&[frame(HEADERS, END_STREAM, 1, b""), rest(1, END_HEADERS, &block)]);
    let held = |frames: &[Vec<u8>]| then(&[&[post(1, "/never")], frames].concat());
    let push = frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2][..], &block].concat());
    let late = || rest(1, END_HEADERS, &block);
    let error = || Connection(&[PROTOCOL_ERROR]);
    vec![
        case("6.2", "another stream's HEADERS in a block", begun(get(3, HOST, "/")), error()),
        case("6.2", "PRIORITY in a block", begun(priority(1, 0)), error()),
        case("6.2", "DATA in a block", begun(data(1, 0, b"x")), error()),
        case("6.2", "PING in a block", begun(frame(PING, 0, 0, &[0; 8])), error()),
        case("5.5", "an unknown frame in a block", begun(frame(0x16, 0, 1, b"")), error()),
        case("6.10", "a block in two frames", cut(2), Served(1, 200)),
        case("6.10", "a block in some frames", cut(5), Served(1, 200)),
        case("6.10", "an empty HEADERS, and all of the block behind it", empty_first, Served(1, 200)),
        case("6.10", "CONTINUATION on stream 0", begun(rest(0, END_HEADERS, b"")), error()),
        case("6.10", "CONTINUATION on another stream", begun(rest(3, END_HEADERS, b"")), error()),
        case("6.10", "CONTINUATION behind a whole block", held(&[late()]), error()),
        case("6.10", "CONTINUATION behind the last", then(&[cut(2), late()]), error()),
        case("6.10", "CONTINUATION behind DATA", held(&[data(1, 0, b"x"), late()]), error()),
        case("6.6", "PUSH_PROMISE from a client", held(&[push]), error()),
    ]
}

fn settings_frames() -> Vec<Case> {
    let error = || Connection(&[PROTOCOL_ERROR]);
    let size = || Connection(&[FRAME_SIZE_ERROR]);
    // The codec has one code for what is wrong in SETTINGS.
    let window = || Connection(&[FLOW_CONTROL_ERROR, PROTOCOL_ERROR]);
    let known = || Comes(SETTINGS, ACK, Vec::new());
    let says = |id, value| settings(&[(id, value)]);
    let twice = then(&[settings(&[(INITIAL_WINDOW_SIZE, 100), (INITIAL_WINDOW_SIZE, 1)]), get(1, HOST, "/")]);
    let no_table = then(&[says(HEADER_TABLE_SIZE, 0), get(1, HOST, "/")]);
    vec![
        case("6.5", "SETTINGS", says(MAX_CONCURRENT_STREAMS, 100), known()),
        case("6.5", "empty SETTINGS", settings(&[]), known()),
        case("6.5", "an ACK with a payload", frame(SETTINGS, ACK, 0, &[0; 6]), size()),
        case("6.5", "SETTINGS on a stream", frame(SETTINGS, 0, 1, b""), error()),
        case("6.5", "a length that is no multiple of six", frame(SETTINGS, 0, 0, &[0; 7]), size()),
        case("6.5.2", "ENABLE_PUSH of 2", says(ENABLE_PUSH, 2), error()),
        case("6.5.2", "a window beyond 2^31-1", says(INITIAL_WINDOW_SIZE, 0x8000_0000), window()),
        case("6.5.2", "frames below 2^14", says(MAX_FRAME_SIZE, 16_383), error()),
        case("6.5.2", "frames above 2^24-1", says(MAX_FRAME_SIZE, 16_777_216), error()),
        case("6.5.2", "a setting nobody knows", says(0xff, 1), known()),
        case("6.5.2", "no table of heads", no_table, Served(1, 200)),
        case("6.5.3", "the last of two values counts", twice, Comes(DATA, 0, b"h".to_vec())),
    ]
}

fn signals() -> Vec<Case> {
    let error = || Connection(&[PROTOCOL_ERROR]);
    let size = || Connection(&[FRAME_SIZE_ERROR]);
    let short_reset = then(&[post(1, "/never"), frame(RST_STREAM, 0, 1, &[0; 3])]);
    vec![
        case("6.4", "RST_STREAM on stream 0", frame(RST_STREAM, 0, 0, &[0; 4]), error()),
        case("6.4", "RST_STREAM of 3 bytes", short_reset, size()),
        case("6.7", "PING of 6 bytes", frame(PING, 0, 0, &[0; 6]), size()),
        case("6.7", "PING on a stream", frame(PING, 0, 1, &[0; 8]), error()),
        case("6.7", "an answer to a PING nobody sent", frame(PING, ACK, 0, b"unasked!"), Ignored),
        case("6.8", "GOAWAY on a stream", frame(GOAWAY, 0, 1, &[0; 8]), error()),
        case("6.8", "GOAWAY of 7 bytes", frame(GOAWAY, 0, 0, &[0; 7]), Connection(&[FRAME_SIZE_ERROR])),
    ]
}

fn priorities() -> Vec<Case> {
    let on_itself = [&[0, 0, 0, 1, 16][..], &request("GET", "/never")].concat();
    let asked = frame(HEADERS, END_HEADERS | END_STREAM | WITH_PRIORITY, 1, &on_itself);
    let held = |bytes| then(&[post(1, "/never"), bytes]);
    vec![
        case("6.3", "PRIORITY on stream 0", priority(0, 1), Connection(&[PROTOCOL_ERROR])),
        case("6.3", "PRIORITY of 4 bytes", held(frame(PRIORITY, 0, 1, &[0; 4])), Either(&[FRAME_SIZE_ERROR])),
        case("6.3", "PRIORITY on an idle stream", priority(9, 1), Ignored),
        case("RFC 7540 5.3.1", "a stream that depends on itself", held(priority(1, 1)), Either(&[PROTOCOL_ERROR])),
        case("RFC 7540 5.3.1", "HEADERS that depend on themselves", asked, Either(&[PROTOCOL_ERROR])),
    ]
}

fn windows() -> Vec<Case> {
    let error = || Connection(&[FLOW_CONTROL_ERROR]);
    let either = || Either(&[FLOW_CONTROL_ERROR]);
    let held = || post(1, "/never");
    let flood = then(&[post(1, "/stalled"), data(1, 0, &[0; 16_384]).repeat(1200)]);
    let increment = |stream| window_update(stream, 0x7fff_ffff);
    let window = |size| settings(&[(INITIAL_WINDOW_SIZE, size)]);
    let asked = || get(1, HOST, "/");
    let shrunk = vec![Step::Send(asked()), Step::Came(DATA), Step::Send(then(&[window(2), window_update(1, 2)]))];
    vec![
        case("6.9", "3 bytes", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1]), Connection(&[FRAME_SIZE_ERROR])),
        case("6.9", "an increment of 0", window_update(0, 0), Connection(&[PROTOCOL_ERROR])),
        case("6.9", "0 on a stream", then(&[held(), window_update(1, 0)]), Either(&[PROTOCOL_ERROR])),
        case("6.9.1", "the connection's beyond 2^31-1", increment(0).repeat(2), error()),
        case("6.9.1", "a stream's beyond 2^31-1", then(&[held(), increment(1).repeat(2)]), either()),
        case("6.9.2", "beyond 2^31-1 by SETTINGS", then(&[held(), increment(1), window(70_000)]), either()),
        case("6.9.1", "more than a stream's", flood, either()),
        case("6.9.1", "one byte", asked(), Comes(DATA, 0, b"h".to_vec())).after(&[(INITIAL_WINDOW_SIZE, 1)]),
        case("6.9.1", "widened", then(&[asked(), window_update(1, 9)]), Served(1, 200))
            .after(&[(INITIAL_WINDOW_SIZE, 0)]),
        case("6.9.2", "widened by SETTINGS", then(&[asked(), window(1)]), Comes(DATA, 0, b"h".to_vec()))
            .after(&[(INITIAL_WINDOW_SIZE, 0)]),
        play("6.9.2", "below zero by SETTINGS", shrunk, Comes(DATA, 0, b"l".to_vec()))
            .after(&[(INITIAL_WINDOW_SIZE, 3)]),
    ]
}
