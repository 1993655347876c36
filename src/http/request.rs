//! One request head: read, refused or understood (RFC 9112 §2, §3, §6).
//!
//! Only what framing, routing, the connection and the access log need is kept, and that as places in the bytes. What
//! goes upstream is made from the same bytes by [`RequestHead::write_to`].

use std::borrow::Cow;

use super::body_length::BodyLength;
use super::error::{HeadError, RequestError};
use super::fields::{Connection, Framing, Name};
use super::grammar::{is_target, is_token_byte, members};
use super::head::{Field, HeadLimits, Line, Lines, Parsed, Span, Version, each_field, fields};
use super::method::Method;
use super::response::RequestContext;
use super::schemes::authenticates_connection;
use super::target::{Target, TargetForm, parse_authority, parse_target};
use super::values::{any_value, joined};
use crate::flow::Authority;

/// A request that is one unambiguous request.
#[allow(clippy::struct_excessive_bools, reason = "independent facts, each read by its name")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    pub method: Method,
    pub method_text: Span,
    pub form: TargetForm,
    /// The whole request target as it was written.
    pub target: Span,
    pub version: Version,
    /// Whom the request is for: named by the target where it names anyone (RFC 9112 §3.2.2), else by Host. `None` only
    /// for HTTP/1.0 without Host.
    pub authority: Option<Authority>,
    /// The authority as it was written, for logs.
    pub authority_text: Option<Span>,
    pub body: BodyLength,
    /// The client will read a further answer on this connection.
    pub keep_alive: bool,
    /// The client waits for 100 (Continue) before it sends the body (RFC 9110 §10.1.1).
    pub expect_continue: bool,
    /// The protocols that the client offers to switch to, when the offer is passed on (RFC 9110 §7.8). Until the
    /// answer is 101, bytes after the request must be held back.
    pub upgrade: Option<Span>,
    pub user_agent: Option<Span>,
    pub request_id: Option<Span>,
    /// The first value of `Content-Type`.
    pub content_type: Option<Span>,
    pub forwarded_for: Option<Span>,
    /// It has credentials that authenticate the connection it is sent over, and with it whatever follows there.
    pub authenticates_connection: bool,
    pub(super) host: Option<Span>,
    pub(super) path: Span,
    /// Offset of the request line, after empty lines.
    pub(super) start: usize,
    /// Offset of the first field line.
    pub(super) fields_at: usize,
    pub(super) length: usize,
    pub(super) keeps_te: bool,
    pub(super) verbatim: bool,
}

impl RequestHead {
    #[must_use]
    pub fn is_connect(&self) -> bool {
        self.method == Method::Connect
    }

    /// Path and query of `raw`, as they go upstream; `None` for CONNECT, which has none.
    #[must_use]
    pub fn path<'r>(&self, raw: &'r [u8]) -> Option<&'r [u8]> {
        match (self.form, self.path.of(raw)) {
            (TargetForm::Authority, _) => None,
            // RFC 9112 §3.2.4: `OPTIONS http://b` asks about the server, which is `*` in the other form.
            (TargetForm::Absolute, b"") if self.method == Method::Options => Some(b"*"),
            (TargetForm::Absolute, b"") => Some(b"/"),
            (_, path) => Some(path),
        }
    }

    /// The value of the fields of this name in `raw`, as one list (RFC 9110 §5.3); `None` when there is none.
    #[must_use]
    pub fn field<'r>(&self, raw: &'r [u8], name: &str) -> Option<Cow<'r, [u8]>> {
        joined(self.lines(raw, name))
    }

    /// Whether `is_wanted` holds for a value of the fields of this name (in lower case) in `raw`, as [`any_value`] has it.
    pub fn any_value(&self, raw: &[u8], name: &str, is_wanted: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        any_value(name, self.lines(raw, name), is_wanted)
    }

    fn lines<'r>(&self, raw: &'r [u8], name: &str) -> impl Iterator<Item = &'r [u8]> {
        let is_target = self.form == TargetForm::Absolute && name.eq_ignore_ascii_case("host");
        // What is judged is what goes on: of a target in absolute form its authority (RFC 9112 §3.2.2).
        let target = self.authority_text.filter(|_| is_target).map(|at| at.of(raw));
        let written = fields(raw, self.fields_at)
            .filter(move |field| !is_target && field.name.eq_ignore_ascii_case(name.as_bytes()))
            .map(|field| field.value);
        target.into_iter().chain(written)
    }

    /// Whether `head` in `raw` asks for the same in the same words as this one in `own`, but for Expect.
    #[must_use]
    pub fn is_repeated_by(&self, own: &[u8], head: &Self, raw: &[u8]) -> bool {
        let unexpecting = |field: &Field<'_>| Name::of(field.name) != Name::Expect;
        let lines = |head: &Self, raw| fields(raw, head.fields_at).filter(unexpecting).map(|field| field.line);
        let line = |head: &Self, raw: &[u8]| raw.get(head.start..head.fields_at).map(<[u8]>::to_vec);
        !head.expect_continue && line(self, own) == line(head, raw) && lines(self, own).eq(lines(head, raw))
    }

    /// What the answer's framing depends on.
    #[must_use]
    pub fn context(&self) -> RequestContext {
        RequestContext { method: self.method, version: self.version, upgrade: self.upgrade.is_some() }
    }
}

/// Reads the request head at the beginning of `input`.
///
/// The verdict does not depend on how the bytes were cut: while it is [`Parsed::Partial`], call again with more; bytes
/// that can no longer become a valid head are refused at once.
///
/// # Errors
/// What makes it no acceptable request. Nothing after these bytes may be read as a request.
pub fn parse_request(input: &[u8], limits: HeadLimits) -> Result<Parsed<RequestHead>, RequestError> {
    let window = &input[..input.len().min(limits.max_bytes)];
    let is_cut = window.len() < input.len();
    let mut lines = Lines::new(window, 0);
    let Some(line) = request_line(&mut lines)? else {
        return if is_cut { Err(RequestError::TargetTooLong) } else { Ok(Parsed::Partial) };
    };
    let fields_at = lines.at();
    let mut fields = RequestFields::new(line.version);
    match each_field(&mut lines, limits.max_fields, |field| fields.add(field))? {
        Some(length) => Ok(Parsed::Complete { head: fields.finish(line, fields_at, length)?, length }),
        None if is_cut => Err(HeadError::TooLarge.into()),
        None => Ok(Parsed::Partial),
    }
}

/// Method and target of the request at the beginning of `input`, whose first line is a sound one.
#[must_use]
pub fn first_line(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut lines = Lines::new(input, 0);
    let RequestLine { method_text, target_text, .. } = request_line(&mut lines).ok()??;
    Some((method_text.of(input), target_text.of(input)))
}

/// RFC 9112 §2.2: a server should ignore at least one empty line before the request line. A few are ignored.
const MAX_EMPTY_LINES: usize = 4;

/// RFC 9110 sets no limit; the longest registered method has 17 characters.
const MAX_METHOD_BYTES: usize = 32;

struct RequestLine {
    start: usize,
    method: Method,
    method_text: Span,
    target: Target,
    target_text: Span,
    version: Version,
}

/// The request line, after empty lines; `None` when it is not all there yet.
fn request_line(lines: &mut Lines<'_>) -> Result<Option<RequestLine>, RequestError> {
    for _ in 0..=MAX_EMPTY_LINES {
        let start = lines.at();
        match lines.next()? {
            Line::Whole(b"") => {}
            Line::Whole(line) => return parse_request_line(line, start).map(Some),
            Line::Part(line) => return check_request_line(line).map(|()| None),
        }
    }
    Err(RequestError::EmptyLines)
}

/// `method SP target SP version` (RFC 9112 §3), the separators exactly one space each.
fn parse_request_line(line: &[u8], start: usize) -> Result<RequestLine, RequestError> {
    check_request_line(line)?;
    let mut words = line.splitn(3, |&b| b == b' ');
    let (Some(method_text), Some(target_text), Some(version)) = (words.next(), words.next(), words.next()) else {
        return Err(RequestError::RequestLine);
    };
    let version = parse_version(version)?;
    let method = Method::from_token(method_text);
    let target_at = start + method_text.len() + 1;
    Ok(RequestLine {
        start,
        method,
        method_text: Span::new(start, start + method_text.len()),
        target: parse_target(method, target_text, target_at)?,
        target_text: Span::new(target_at, target_at + target_text.len()),
        version,
    })
}

/// Whether `line`, all or the beginning of a request line, has only the bytes that may stand where they stand.
fn check_request_line(line: &[u8]) -> Result<(), RequestError> {
    let mut words = line.splitn(3, |&b| b == b' ');
    let method = words.next().unwrap_or_default();
    // Methods are case-sensitive and registered in capitals; `get` is a mistake that some servers take for GET.
    let is_method_byte = |&b: &u8| is_token_byte(b) && !b.is_ascii_lowercase();
    if method.len() > MAX_METHOD_BYTES || !method.iter().all(is_method_byte) || (method.is_empty() && !line.is_empty())
    {
        return Err(RequestError::Method);
    }
    match (words.next(), words.next()) {
        (Some(target), _) if !is_target(target) => Err(RequestError::TargetByte),
        (Some(b""), Some(_)) => Err(RequestError::TargetForm),
        (_, Some(version)) if version.len() > "HTTP/1.1".len() || version.iter().zip(b"HTTP/").any(|(a, b)| a != b) => {
            Err(RequestError::RequestLine)
        }
        _ => Ok(()),
    }
}

fn parse_version(text: &[u8]) -> Result<Version, RequestError> {
    match text {
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Version::from_bytes(text).ok_or(RequestError::Version)
        }
        _ => Err(RequestError::RequestLine),
    }
}

/// What the field section says, gathered field by field.
#[allow(clippy::struct_excessive_bools, reason = "independent facts, each read by its name")]
struct RequestFields {
    version: Version,
    framing: Framing,
    connection: Connection,
    host: Option<(Span, Authority)>,
    upgrade: Option<Span>,
    upgrade_allowed: bool,
    te: Option<bool>,
    expect_continue: bool,
    user_agent: Option<Span>,
    request_id: Option<Span>,
    content_type: Option<Span>,
    forwarded_for: Option<Span>,
    authenticates_connection: bool,
    hop_by_hop: bool,
}

impl RequestFields {
    fn new(version: Version) -> Self {
        Self {
            version,
            framing: Framing::default(),
            connection: Connection::default(),
            host: None,
            upgrade: None,
            upgrade_allowed: true,
            te: None,
            expect_continue: false,
            user_agent: None,
            request_id: None,
            content_type: None,
            forwarded_for: None,
            authenticates_connection: false,
            hop_by_hop: false,
        }
    }

    fn add(&mut self, field: Field<'_>) -> Result<(), RequestError> {
        let Field { value, at, .. } = field;
        match Name::of(field.name) {
            Name::Connection => self.connection.add(value)?,
            Name::ContentLength => self.framing.content_length(value)?,
            Name::TransferEncoding => self.framing.transfer_encoding(value, self.version)?,
            Name::Host if self.host.is_some() => return Err(RequestError::RepeatedHost),
            Name::Host => self.host = Some((at, parse_authority(value)?)),
            Name::Upgrade => {
                self.upgrade = self.upgrade.or(Some(at));
                self.upgrade_allowed &= members(value).next().is_some() && members(value).all(may_switch_to);
            }
            Name::Te => self.te = Some(self.te.unwrap_or(true) && value.eq_ignore_ascii_case(b"trailers")),
            Name::Expect => self.expect_continue |= members(value).any(|m| m.eq_ignore_ascii_case(b"100-continue")),
            Name::HopByHop | Name::KeepAlive => self.hop_by_hop = true,
            Name::UserAgent => self.user_agent = self.user_agent.or(Some(at)),
            Name::RequestId => self.request_id = self.request_id.or(Some(at)),
            Name::ContentType => self.content_type = self.content_type.or(Some(at)),
            Name::ForwardedFor => self.forwarded_for = self.forwarded_for.or(Some(at)),
            Name::Credentials => self.authenticates_connection |= authenticates_connection(value),
            Name::Challenge | Name::Other => {}
        }
        Ok(())
    }

    fn finish(self, line: RequestLine, fields_at: usize, length: usize) -> Result<RequestHead, RequestError> {
        // RFC 9112 §3.2: exactly one Host in HTTP/1.1, whatever the form of the target.
        if self.host.is_none() && self.version == Version::Http11 {
            return Err(RequestError::HostMissing);
        }
        // RFC 9110 §9.3.6: a CONNECT request has no content.
        let body = self.framing.body(BodyLength::None);
        if line.method == Method::Connect && !matches!(body, BodyLength::None | BodyLength::Length(0)) {
            return Err(RequestError::ConnectBody);
        }
        let upgrade = self.upgrade.filter(|_| self.passes_upgrade(line.method));
        let verbatim = line.start == 0
            && line.target.form != TargetForm::Absolute
            && !self.hop_by_hop
            && !(self.connection.close || self.connection.others)
            && self.te != Some(false)
            && (!self.connection.te || self.te.is_some())
            && self.connection.upgrade == upgrade.is_some()
            && self.upgrade.is_some() == upgrade.is_some();
        let host = self.host.as_ref().map(|(at, _)| *at);
        let named = authority(line.target.form, line.target.authority, self.host)?;
        Ok(RequestHead {
            method: line.method,
            method_text: line.method_text,
            form: line.target.form,
            target: line.target_text,
            version: self.version,
            authority_text: named.as_ref().map(|(_, at)| *at),
            authority: named.map(|(authority, _)| authority),
            body,
            keep_alive: self.connection.persists(self.version),
            // RFC 9110 §10.1.1: ignored in HTTP/1.0.
            expect_continue: self.expect_continue && self.version == Version::Http11,
            upgrade,
            user_agent: self.user_agent,
            request_id: self.request_id,
            content_type: self.content_type,
            forwarded_for: self.forwarded_for,
            authenticates_connection: self.authenticates_connection,
            host,
            path: line.target.path,
            start: line.start,
            fields_at,
            length,
            keeps_te: self.te == Some(true),
            verbatim,
        })
    }

    /// RFC 9110 §7.8: only with `Connection: upgrade` and never in HTTP/1.0.
    fn passes_upgrade(&self, method: Method) -> bool {
        self.connection.upgrade && self.upgrade_allowed && self.version == Version::Http11 && method != Method::Connect
    }
}

/// Whether an offer to switch to `protocol` is passed on: not to HTTP itself, where further requests would pass unseen
/// (`h2c` is obsolete, RFC 9113 §3.1), and not to TLS, which egret originates itself (RFC 2817).
fn may_switch_to(protocol: &[u8]) -> bool {
    let name = protocol.split(|&b| b == b'/').next().unwrap_or_default();
    !["h2c", "h2", "http", "tls"].iter().any(|refused| name.eq_ignore_ascii_case(refused.as_bytes()))
}

/// Whom a request is for. In absolute form the target says it, whatever Host says, which is replaced (RFC 9112 §3.2.2). A
/// CONNECT goes on as it was written, so that a Host field which names another would make two requests of it.
fn authority(
    form: TargetForm,
    target: Option<(Authority, Span)>,
    host: Option<(Span, Authority)>,
) -> Result<Option<(Authority, Span)>, RequestError> {
    match (target, host) {
        (Some(target), _) if form == TargetForm::Absolute => Ok(Some(target)),
        (Some((target, at)), Some((_, host))) => {
            // CONNECT always has a port in its target.
            let port = |authority: &Authority| authority.port.unwrap_or(80);
            let same_port = port(&target) == port(&host) || host.port.is_none();
            if target.host == host.host && same_port { Ok(Some((target, at))) } else { Err(RequestError::HostsDiffer) }
        }
        (Some(target), None) => Ok(Some(target)),
        (None, host) => Ok(host.map(|(at, authority)| (authority, at))),
    }
}
