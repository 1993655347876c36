//! The ClientHello (RFC 8446 §4.1.2) as far as policy needs it: whom it names, what it wants to speak.
//!
//! A hello may be cut into records of any size (RFC 8446 §5.1) and records into segments of any size. Whatever is not
//! exactly well formed yields [`ServerName::Unusable`], never a guess: another reader might find another name in it.

use std::borrow::Cow;

use super::detection::{ClientHello, Detection, ServerName};
use crate::flow::Hostname;

/// ContentType `handshake` (RFC 8446 §5.1).
pub(super) const HANDSHAKE: u8 = 22;

const CLIENT_HELLO: u8 = 1;

/// How far is read. A hello with post-quantum shares, tickets and ECH has about 2 to 20 KiB.
const MAX_BYTES: usize = 64 << 10;

/// How many offered protocols are kept.
const MAX_ALPN: usize = 8;

impl ClientHello {
    fn unusable() -> Self {
        Self { sni: ServerName::Unusable, alpn: Vec::new(), has_ech: false }
    }
}

pub(super) fn detect(bytes: &[u8]) -> Detection {
    let window = &bytes[..bytes.len().min(MAX_BYTES)];
    // Versions 3.0 to 3.4 stand in record headers (RFC 8446 §5.1 says to ignore them); a first byte of 22 alone is
    // not enough to take a connection for TLS.
    match window {
        [_, major, ..] if *major != 3 => return Detection::Opaque,
        [_, _, minor, ..] if *minor > 4 => return Detection::Opaque,
        [_, _, _, high, low, first, ..] if *first != CLIENT_HELLO && payload_length(*high, *low).is_some() => {
            return Detection::Opaque;
        }

        _ => {}
    }
    match handshake_message(window) {
        Message::Whole(body) => Detection::Tls(parse(&body).unwrap_or_else(ClientHello::unusable)),
        Message::Partial if window.len() < MAX_BYTES => Detection::NeedMore,
        Message::Partial | Message::Malformed => Detection::Tls(ClientHello::unusable()),
    }
}

enum Message<'a> {
    Partial,
    /// The body of the first handshake message, joined from its records.
    Whole(Cow<'a, [u8]>),
    Malformed,
}

/// Header of a handshake message: type and 24-bit length.
const MESSAGE_HEADER: usize = 4;

fn handshake_message(bytes: &[u8]) -> Message<'_> {
    let mut joined: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    let mut rest = bytes;
    loop {
        if let [CLIENT_HELLO, high, middle, low, ..] = *joined {
            let end = MESSAGE_HEADER + usize::from(high) * 65_536 + usize::from(middle) * 256 + usize::from(low);
            if end > MAX_BYTES {
                return Message::Malformed;
            }
            if joined.len() >= end {
                return Message::Whole(body(joined, end));
            }
        }
        match record(rest) {
            Record::Partial => return Message::Partial,
            Record::Malformed => return Message::Malformed,
            Record::Whole { payload, after } => {
                rest = after;
                if joined.is_empty() { joined = Cow::Borrowed(payload) } else { joined.to_mut().extend(payload) }
            }
        }
    }
}

fn body(message: Cow<'_, [u8]>, end: usize) -> Cow<'_, [u8]> {
    match message {
        Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[MESSAGE_HEADER..end]),
        Cow::Owned(bytes) => Cow::Owned(bytes[MESSAGE_HEADER..end].to_vec()),
    }
}

enum Record<'a> {
    Partial,
    Whole { payload: &'a [u8], after: &'a [u8] },
    Malformed,
}

/// 1 to 2^14 (RFC 8446 §5.1).
fn payload_length(high: u8, low: u8) -> Option<usize> {
    let length = usize::from(high) * 256 + usize::from(low);
    (1..=1 << 14).contains(&length).then_some(length)
}

/// One plaintext record: type, version, length, payload.
fn record(bytes: &[u8]) -> Record<'_> {
    let mut expected = [HANDSHAKE, 3].iter();
    if bytes.iter().zip(expected.by_ref()).any(|(a, b)| a != b) || bytes.get(2).is_some_and(|minor| *minor > 4) {
        return Record::Malformed;
    }
    let [_, _, _, high, low, rest @ ..] = bytes else {
        return Record::Partial;
    };
    let Some(length) = payload_length(*high, *low) else {
        return Record::Malformed;
    };
    match rest.split_at_checked(length) {
        Some((payload, after)) => Record::Whole { payload, after },
        None => Record::Partial,
    }
}

/// Reads what stands before a cursor; every read fails when too little is there.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A big-endian number of `size` bytes.
    fn number(&mut self, size: usize) -> Option<usize> {
        Some(self.take(size)?.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    }

    /// A vector whose length stands before it in `size` bytes.
    fn vector(&mut self, size: usize) -> Option<Self> {
        let length = self.number(size)?;
        self.take(length).map(Reader)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

const SERVER_NAME: usize = 0;
const ALPN: usize = 16;
const ENCRYPTED_CLIENT_HELLO: usize = 0xfe0d;

/// The body of a ClientHello; `None` when it is malformed.
fn parse(body: &[u8]) -> Option<ClientHello> {
    let mut reader = Reader(body);
    reader.take(2 + 32)?; // legacy_version, random
    reader.vector(1)?; // legacy_session_id
    reader.vector(2)?; // cipher_suites
    reader.vector(1)?; // legacy_compression_methods
    let mut hello = ClientHello { sni: ServerName::Absent, alpn: Vec::new(), has_ech: false };
    if reader.is_empty() {
        return Some(hello); // TLS 1.2 and before: the extensions may be left out.
    }
    let mut extensions = reader.vector(2)?;
    let (mut has_sni, mut has_alpn) = (false, false);
    while !extensions.is_empty() {
        let kind = extensions.number(2)?;
        let data = extensions.vector(2)?;
        match kind {
            // RFC 8446 §4.2: no extension twice.
            SERVER_NAME if has_sni => return None,
            ALPN if has_alpn => return None,
            SERVER_NAME => {
                has_sni = true;
                hello.sni = server_name(data).map_or(ServerName::Unusable, ServerName::Name);
            }
            ALPN => {
                has_alpn = true;
                hello.alpn = protocols(data)?;
            }
            ENCRYPTED_CLIENT_HELLO => hello.has_ech = true,
            _ => {}
        }
    }
    reader.is_empty().then_some(hello)
}

/// A list of exactly one entry, of type host_name (0): RFC 6066 §3 forbids a second, and defines no other type.
fn server_name(mut extension: Reader<'_>) -> Option<Hostname> {
    let mut list = extension.vector(2)?;
    let kind = list.number(1)?;
    let name = list.vector(2)?;
    if kind != 0 || !list.is_empty() || !extension.is_empty() {
        return None;
    }
    Hostname::new(std::str::from_utf8(name.0).ok()?).ok()
}

fn protocols(mut extension: Reader<'_>) -> Option<Vec<Box<[u8]>>> {
    let mut list = extension.vector(2)?;
    let mut protocols = Vec::new();
    while !list.is_empty() {
        let protocol = list.vector(1)?;
        if protocols.len() < MAX_ALPN {
            protocols.push(protocol.0.into());
        }
    }
    extension.is_empty().then_some(protocols)
}
