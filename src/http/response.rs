//! One response head: read, refused or understood (RFC 9112 §4, §6.3), and how it reaches a client.

use std::borrow::Cow;

use super::body_length::BodyLength;
use super::error::{HeadError, ResponseError};
use super::fields::{Connection, Framing, Name};
use super::grammar::{is_value, members};
use super::head::{Field, HeadLimits, Line, Lines, Parsed, Version, each_field, fields};
use super::method::Method;
use super::schemes::authenticates_connection;
use super::values::joined;

/// What the framing of a response depends on besides itself (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestContext {
    pub method: Method,
    /// The version that the request went upstream with.
    pub version: Version,
    /// An Upgrade was passed on: 101 is a possible answer.
    pub upgrade: bool,
}

/// What the form of a response depends on at the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientContext {
    pub version: Version,
    /// The client asked to keep its connection, and nothing on this side forbids it.
    pub keep_alive: bool,
}

/// How a response goes to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The client's connection stays open after this response. If not, it must be closed when the body has ended.
    pub keep_alive: bool,
    /// The body must be sent without its chunked framing ([`BodyScanner::next_chunk`](super::BodyScanner::next_chunk))
    /// and ends with the connection, for a client that knows only HTTP/1.0.
    pub dechunk: bool,
}

/// A response that is one unambiguous response.
#[allow(clippy::struct_excessive_bools, reason = "independent facts, each read by its name")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// 100 to 999.
    pub status: u16,
    pub version: Version,
    pub body: BodyLength,
    /// The upstream connection may carry a further request once the body has been read to its end.
    pub keep_alive: bool,
    /// How long the server says that it keeps the connection open without a request: `Keep-Alive: timeout=5`, in seconds
    /// (RFC 2068 §19.7.1, still what servers send).
    pub keeps_for: Option<u32>,
    /// 100 to 199 without 101: a further response to the same request follows. Not for HTTP/1.0 clients
    /// (RFC 9110 §15.2).
    pub is_interim: bool,
    /// 101, or 2xx to CONNECT: what follows, in both directions, is another protocol.
    pub is_upgrade: bool,
    /// 401 or 407 that asks for credentials which authenticate the connection. What follows of that handshake must come over
    /// the same connection.
    pub challenges_connection: bool,
    pub(super) fields_at: usize,
    /// Bytes of the head.
    pub length: usize,
    pub(super) keeps_upgrade: bool,
    /// Transfer-Encoding is there (the body may still be none, as with HEAD).
    pub(super) is_coded: bool,
    /// Content-Length or Transfer-Encoding is there though RFC 9110 §8.6 and RFC 9112 §6.1 forbid it.
    pub(super) drops_framing: bool,
    /// Nothing of it has to change for an HTTP/1.1 client that keeps its connection.
    pub(super) plain: bool,
}

impl ResponseHead {
    /// The body ends where the upstream connection ends: a connection that breaks must not look like an end.
    #[must_use]
    pub fn is_close_delimited(&self) -> bool {
        self.body == BodyLength::UntilClose
    }

    /// The value of the fields of this name in `raw`, as one list (RFC 9110 §5.3); `None` when there is none.
    #[must_use]
    pub fn field<'r>(&self, raw: &'r [u8], name: &str) -> Option<Cow<'r, [u8]>> {
        let named = fields(raw, self.fields_at).filter(|field| field.name.eq_ignore_ascii_case(name.as_bytes()));
        joined(named.map(|field| field.value))
    }

    /// How this response goes to `client`.
    #[must_use]
    pub fn delivery(&self, client: ClientContext) -> Delivery {
        let dechunk = self.body == BodyLength::Chunked && client.version == Version::Http10;
        Delivery { keep_alive: client.keep_alive && !self.is_close_delimited() && !dechunk, dechunk }
    }
}

/// Reads the response head at the beginning of `input`, the answer to `request`.
///
/// # Errors
/// What makes it no acceptable response; the upstream connection must be closed.
pub fn parse_response(
    input: &[u8],
    request: RequestContext,
    limits: HeadLimits,
) -> Result<Parsed<ResponseHead>, ResponseError> {
    let window = &input[..input.len().min(limits.max_bytes)];
    let is_cut = window.len() < input.len();
    let mut lines = Lines::new(window, 0);
    let (version, status) = match lines.next()? {
        Line::Whole(line) => parse_status_line(line)?,
        Line::Part(line) => {
            check_status_line(line)?;
            return if is_cut { Err(HeadError::TooLarge.into()) } else { Ok(Parsed::Partial) };
        }
    };
    if status == 101 && !request.upgrade {
        return Err(ResponseError::UnexpectedUpgrade);
    }
    let fields_at = lines.at();
    let mut fields = ResponseFields::default();
    match each_field(&mut lines, limits.max_fields, |field| fields.add(field, version))? {
        Some(length) => {
            Ok(Parsed::Complete { head: fields.finish(status, version, request, fields_at, length), length })
        }
        None if is_cut => Err(HeadError::TooLarge.into()),
        None => Ok(Parsed::Partial),
    }
}

/// `version SP 3DIGIT [SP reason]`: some servers leave out the last space too, and every client takes it.
fn parse_status_line(line: &[u8]) -> Result<(Version, u16), ResponseError> {
    check_status_line(line)?;
    let version = line.get(..8).and_then(Version::from_bytes).ok_or(ResponseError::StatusLine)?;
    let digits = line.get(9..12).ok_or(ResponseError::StatusLine)?;
    let status = digits.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    if status < 100 { Err(ResponseError::StatusLine) } else { Ok((version, status)) }
}

/// The seconds of `timeout=5`. What is no such number says nothing.
fn timeout(member: &[u8]) -> Option<u32> {
    let (name, value) = member.split_at_checked("timeout=".len())?;
    let digits = str::from_utf8(value).ok().filter(|_| name.eq_ignore_ascii_case(b"timeout="))?;
    digits.parse().ok()
}

/// Whether `line`, all or the beginning of a status line, has only the bytes that may stand where they stand.
fn check_status_line(line: &[u8]) -> Result<(), ResponseError> {
    let fits = |(at, &byte): (usize, &u8)| match at {
        0..7 => byte == b"HTTP/1."[at],
        7 => matches!(byte, b'0' | b'1'),
        8 | 12 => byte == b' ',
        _ => byte.is_ascii_digit(),
    };
    let reason = line.get(13..).unwrap_or_default();
    if line.iter().take(13).enumerate().all(fits) && is_value(reason) { Ok(()) } else { Err(ResponseError::StatusLine) }
}

#[derive(Default)]
struct ResponseFields {
    framing: Framing,
    connection: Connection,
    hop_by_hop: bool,
    keeps_for: Option<u32>,
    upgrade: bool,
    challenges_connection: bool,
}

impl ResponseFields {
    fn add(&mut self, field: Field<'_>, version: Version) -> Result<(), ResponseError> {
        match Name::of(field.name) {
            Name::Connection => self.connection.add(field.value)?,
            Name::ContentLength => self.framing.content_length(field.value)?,
            Name::TransferEncoding => self.framing.transfer_encoding(field.value, version)?,
            Name::HopByHop => self.hop_by_hop = true,
            Name::KeepAlive => {
                self.hop_by_hop = true;
                self.keeps_for = members(field.value).find_map(timeout).or(self.keeps_for);
            }
            Name::Upgrade => self.upgrade = true,
            Name::Challenge => self.challenges_connection |= authenticates_connection(field.value),
            _ => {}
        }
        Ok(())
    }

    fn finish(
        self,
        status: u16,
        version: Version,
        request: RequestContext,
        fields_at: usize,
        length: usize,
    ) -> ResponseHead {
        let is_tunnel = request.method == Method::Connect && (200..300).contains(&status);
        let never_framed = status < 200 || status == 204 || is_tunnel;
        // RFC 9112 §6.3, rules 1, 2, 4, 6 and 8.
        let body = if never_framed || status == 304 || request.method == Method::Head {
            BodyLength::None
        } else {
            self.framing.body(BodyLength::UntilClose)
        };
        // 426 says what to upgrade to (RFC 9110 §15.5.22); elsewhere Upgrade only advertises what does not pass egret.
        let keeps_upgrade = matches!(status, 101 | 426);
        let is_framed = self.framing.chunked || self.framing.length.is_some_and(|length| length > 0);
        let drops_framing = never_framed && is_framed;
        ResponseHead {
            status,
            version,
            body,
            // A server that was asked in HTTP/1.0 closes unless it says that it does not (RFC 9112 §9.3).
            keep_alive: self.connection.persists(version.min(request.version))
                && body != BodyLength::UntilClose
                && status != 101
                && !is_tunnel,
            keeps_for: self.keeps_for,
            is_interim: status < 200 && status != 101,
            is_upgrade: status == 101 || is_tunnel,
            challenges_connection: self.challenges_connection && matches!(status, 401 | 407),
            fields_at,
            length,
            keeps_upgrade,
            is_coded: self.framing.chunked,
            drops_framing,
            plain: version == Version::Http11
                && !self.hop_by_hop
                && !(self.connection.close || self.connection.te || self.connection.others)
                && (keeps_upgrade || !(self.upgrade || self.connection.upgrade))
                && !drops_framing,
        }
    }
}
