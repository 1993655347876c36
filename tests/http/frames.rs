//! Frames of HTTP/2 as bytes (RFC 9113 §4), so that a test can say what no library would. Peers in namespaces and peers over pipes
//! write and read them.

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const WITH_PRIORITY: u8 = 0x20;

/// Settings (§6.5.2, RFC 8441).
pub const HEADER_TABLE_SIZE: u16 = 1;
pub const ENABLE_PUSH: u16 = 2;
pub const MAX_CONCURRENT_STREAMS: u16 = 3;
pub const INITIAL_WINDOW_SIZE: u16 = 4;
pub const MAX_FRAME_SIZE: u16 = 5;
pub const MAX_HEADER_LIST_SIZE: u16 = 6;

/// Bytes that a frame may have as long as nobody has said otherwise.
const MAX_FRAME: usize = 16_384;

/// Error codes (§7).
pub const NO_ERROR: u32 = 0;
pub const PROTOCOL_ERROR: u32 = 1;
pub const INTERNAL_ERROR: u32 = 2;
pub const FLOW_CONTROL_ERROR: u32 = 3;
pub const STREAM_CLOSED: u32 = 5;
pub const FRAME_SIZE_ERROR: u32 = 6;
pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;
pub const COMPRESSION_ERROR: u32 = 9;
pub const ENHANCE_YOUR_CALM: u32 = 11;

#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error code of RST_STREAM or GOAWAY.
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(*self.payload[at..].first_chunk().expect("four bytes"))
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(payload.len()).expect("a frame's length").to_be_bytes();
    [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header block, each field a literal that is not indexed (RFC 7541 §6.2.2).
pub fn block<T: AsRef<[u8]>>(fields: &[(T, T)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name.as_ref(), value.as_ref()] {
            put_length(&mut out, text.len());
            out.extend_from_slice(text);
        }
    }
    out
}

/// An integer of a prefix of 7 bits (RFC 7541 §5.1).
fn put_length(out: &mut Vec<u8>, length: usize) {
    let Some(mut rest) = length.checked_sub(0x7f) else {
        return out.push(length.to_le_bytes()[0]);
    };
    out.push(0x7f);
    while rest >= 0x80 {
        out.push(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    out.push(rest.to_le_bytes()[0]);
}

/// HEADERS and as many CONTINUATION frames as the fields need.
pub fn headers<T: AsRef<[u8]>>(stream: u32, flags: u8, fields: &[(T, T)]) -> Vec<u8> {
    let block = block(fields);
    let pieces = block.len().div_ceil(MAX_FRAME).max(1);
    let piece = |at: usize| {
        let (kind, flags) = if at == 0 { (HEADERS, flags) } else { (CONTINUATION, 0) };
        let end = if at + 1 == pieces { END_HEADERS } else { 0 };
        let payload = block.chunks(MAX_FRAME).nth(at).unwrap_or_default();
        frame(kind, flags | end, stream, payload)
    };
    (0..pieces).flat_map(piece).collect()
}

/// The status that a header block begins with: in the static table, or three digits (RFC 7541 §6, Appendices A and B).
pub fn status(block: &[u8]) -> Option<u16> {
    const STATUS: u8 = 8;
    const KNOWN: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    // A table that has shrunk to nothing comes first.
    let (&first, rest) = block.strip_prefix(&[0x20]).unwrap_or(block).split_first()?;
    if let Some(known) = first.checked_sub(0x80 | STATUS) {
        return KNOWN.get(usize::from(known)).copied();
    }
    // A literal whose name is in the table, added to it or not.
    if first & 0xc0 != 0x40 && first & 0xf0 > 0x10 || first & 0x0f != STATUS {
        return None;
    }
    match *rest {
        [3, a, b, c, ..] => std::str::from_utf8(&[a, b, c]).ok()?.parse().ok(),
        [0x82, a, b, ..] => digits(u64::from(u16::from_be_bytes([a, b])) << 48),
        [0x83, a, b, c, ..] => digits(u64::from(u32::from_be_bytes([a, b, c, 0xff])) << 32),
        _ => None,
    }
}

/// Three digits in the Huffman code: 0 to 2 have five bits, the others six.
fn digits(mut bits: u64) -> Option<u16> {
    let mut number = 0;
    for _ in 0..3 {
        let (digit, length) = match bits >> 59 {
            five @ 0..=2 => (five, 5),
            _ => ((bits >> 58).checked_sub(0x16).filter(|digit| *digit <= 9)?, 6),
        };
        number = number * 10 + u16::try_from(digit).ok()?;
        bits <<= length;
    }
    Some(number)
}

/// GET of `path`.
pub fn get(stream: u32, host: &str, path: &str) -> Vec<u8> {
    let fields = [(":method", "GET"), (":scheme", "http"), (":authority", host), (":path", path)];
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &block(&fields))
}

pub fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
}

pub fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let pair = |(id, value): &(u16, u32)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
    frame(SETTINGS, 0, 0, &settings.iter().flat_map(pair).collect::<Vec<_>>())
}

/// `stream` 0 is the connection.
pub fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

/// PRIORITY (§6.3): `stream` depends on `parent`.
pub fn priority(stream: u32, parent: u32) -> Vec<u8> {
    frame(PRIORITY, 0, stream, &[&parent.to_be_bytes()[..], &[16]].concat())
}

pub fn goaway(last_stream: u32, code: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last_stream.to_be_bytes(), code.to_be_bytes()].concat())
}

/// What a client's side begins with (§3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
