//! The answer to an HTTP/1 request on its way to the application, and what it makes of the connection: whether another
//! request may follow, or how the connection ends.

use std::cell::Cell;
use std::time::SystemTime;

use crate::http::{
    BodyLength, ClientContext, Delivery, FieldEdits, Method, ReplyOptions, ResponseHead, Version, local_reply_with,
};
use crate::io::{Lease, SendBuf};
use crate::proxy::close::Close;
use crate::proxy::drain::Drain;
use crate::proxy::exchange_error::ExchangeError;
use crate::proxy::failure::Failure;
use crate::proxy::request::Request;
use crate::upstream::{Form, Part, Reader, Sending, Stream};

/// What an exchange leaves behind on its connection. Its body and its reply write it, the connection reads it afterwards.
#[derive(Default)]
pub struct Http1State {
    /// All of the request has been taken: what comes next on the connection is another one.
    pub is_read: Cell<bool>,
    /// A byte of its body has been taken, or the application was told to go on with it.
    pub has_begun: Cell<bool>,
    /// It was answered with 417 before that.
    is_unexpected: Cell<bool>,
    stage: Cell<Stage>,
}

/// How far the answer is.
#[derive(Clone, Copy, Debug, Default)]
enum Stage {
    /// No byte of a final response has been sent.
    #[default]
    Silent,
    /// A head has been sent. It says `keep_alive`, and by its framing the application can tell whether it `shows_end`.
    Begun { keep_alive: bool, shows_end: bool },
    /// 101, or 2xx to CONNECT.
    Switched,
    /// All of the answer has been sent.
    Complete { keep_alive: bool },
    /// Nothing more may be sent.
    Over(Close),
}

impl Http1State {
    /// Whether the body will not come: the server cannot fulfil `Expect` (417), and an application that has not begun with
    /// the body repeats the request without it (RFC 9110 §10.1.1), over the same connection.
    #[must_use]
    pub fn awaits_repetition(&self) -> bool {
        self.is_unexpected.get()
    }

    /// How the connection ends after `request`, behind which `rest` has arrived; `None`: the next request is read.
    #[must_use]
    pub fn close_after(&self, request: &Request, rest: &[u8]) -> Option<Close> {
        let head = &request.head;
        let is_last = head.version == Version::Http11 && !head.keep_alive && rest.is_empty();
        match (self.stage.get(), self.is_read.get()) {
            (Stage::Complete { keep_alive: true }, true) => None,
            (Stage::Complete { keep_alive: true }, false) if self.awaits_repetition() => None,
            // The application itself said that it sends nothing more.
            (Stage::Complete { keep_alive: false }, true) if is_last => Some(Close::Orderly),
            // The rest of the request is still coming, or another one; the answer must survive it.
            (Stage::Complete { .. }, _) => Some(Close::Gently),
            (Stage::Over(close), _) => Some(close),
            (Stage::Silent | Stage::Begun { .. } | Stage::Switched, _) => Some(Close::Abort),
        }
    }
}

/// The way back of one request.
pub struct Http1Reply<'i> {
    client: &'i Stream,
    request: &'i Request,
    drain: &'i Drain,
    state: &'i Http1State,
    /// Bytes stand behind a CONNECT that were meant for its tunnel. They must not be read as a request when there is none.
    is_astray: bool,
}

impl<'i> Http1Reply<'i> {
    /// To `request`, which was taken from `reader`.
    #[must_use]
    pub fn new(reader: &Reader<'i>, request: &'i Request, drain: &'i Drain, state: &'i Http1State) -> Self {
        let is_astray = request.head.is_connect() && !reader.bytes().is_empty();
        Self { client: reader.stream(), request, drain, state, is_astray }
    }

    fn context(&self, keep_alive: bool) -> ClientContext {
        ClientContext { version: self.request.head.version, keep_alive }
    }

    pub async fn interim(&self, head: &ResponseHead, raw: &[u8]) -> Result<(), ExchangeError> {
        if self.request.head.version == Version::Http10 {
            return Ok(());
        }
        self.state.has_begun.set(self.state.has_begun.get() || head.status == 100);
        let mut out = Vec::new();
        head.write_to(raw, &mut out, self.context(true));
        self.send(out.into())?.await.map_err(|_| ExchangeError::Client)
    }

    pub fn begin(&self, head: &ResponseHead, ends_bond: bool) -> Form {
        // Only here is it known whether the connection can stay open.
        let asked = &self.request.head;
        let is_unread = !self.state.is_read.get() && !self.state.has_begun.get();
        let is_unexpected = head.status == 417 && asked.expect_continue && is_unread;
        self.state.is_unexpected.set(is_unexpected);
        let is_over = self.state.is_read.get() || is_unexpected;
        let may_stay = is_over && !self.drain.has_begun() && !self.is_astray && !ends_bond;
        let Delivery { keep_alive, dechunk } = head.delivery(self.context(asked.keep_alive && may_stay));
        let shows_end = !head.is_close_delimited() && !dechunk;
        let begun = Stage::Begun { keep_alive, shows_end };
        self.state.stage.set(if head.is_upgrade { Stage::Switched } else { begun });
        if dechunk { Form::Data } else { Form::Framed }
    }

    pub fn start(&self, head: &ResponseHead, bytes: Lease, edits: &FieldEdits) -> Result<Sending<'_>, ExchangeError> {
        let context = self.context(matches!(self.state.stage.get(), Stage::Begun { keep_alive: true, .. }));
        let is_untouched = head.is_verbatim(context) && edits.is_empty() && !head.is_upgrade;
        if is_untouched && !head.delivery(context).dechunk {
            return self.send(bytes.into());
        }
        let mut out = Vec::with_capacity(bytes.len() + 64);
        head.write_edited(&bytes[..head.length], edits, &mut out, context);
        out.extend_from_slice(&bytes[head.length..]);
        self.send(out.into())
    }

    /// Trailers that come by themselves are not for a client of HTTP/1.0, which is the only one that gets data alone.
    pub fn part(&self, part: Part) -> Result<Sending<'_>, ExchangeError> {
        match part {
            Part::Bytes(bytes) => self.send(bytes),
            Part::Trailers(_) => Ok(Sending::Done),
        }
    }

    fn send(&self, bytes: SendBuf) -> Result<Sending<'_>, ExchangeError> {
        self.client.send(bytes).map(Sending::Http1).map_err(|_| ExchangeError::Client)
    }

    pub fn end(&self) {
        self.state.stage.set(match self.state.stage.get() {
            Stage::Begun { keep_alive, .. } => Stage::Complete { keep_alive },
            Stage::Switched => Stage::Over(Close::Orderly),
            other => other,
        });
    }

    pub fn end_with_bond(&self) {
        self.state.stage.set(Stage::Over(Close::Gently));
    }

    pub fn reset(&self) {
        self.state.stage.set(Stage::Over(match self.state.stage.get() {
            // What came is delivered. Its framing shows what is missing; where it cannot, the end must not look like one.
            Stage::Begun { shows_end: true, .. } => Close::Gently,
            _ => Close::Abort,
        }));
    }

    pub async fn answer(&self, failure: &Failure) {
        let head = &self.request.head;
        // Only behind a request that is known to be over can another one begin.
        let is_read = self.state.is_read.get() || head.body == BodyLength::None;
        // What follows a CONNECT was meant for the tunnel.
        let over = is_read && !head.is_connect();
        let keep_alive = over && head.keep_alive && !self.drain.has_begun();
        let options = ReplyOptions {
            version: head.version,
            keep_alive,
            head_request: head.method == Method::Head,
            now: SystemTime::now(),
        };
        let fields = failure.fields.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let reply = local_reply_with(failure.status, &fields.collect::<Vec<_>>(), &failure.body, options);
        let sent = match self.send(reply.into()) {
            Ok(sending) => sending.await.is_ok(),
            Err(_) => false,
        };
        self.state.is_read.set(is_read);
        self.state.stage.set(match (sent, keep_alive) {
            (false, _) => Stage::Over(Close::Abort),
            (true, true) => Stage::Complete { keep_alive },
            (true, false) => Stage::Over(Close::Gently),
        });
    }

    pub async fn lost(&self) {
        self.client.lost().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::http::{HeadLimits, Parsed, parse_request};
    use crate::proxy::request::Protocol;

    fn request(text: &str) -> Request {
        let raw = Lease::from_vec(text.as_bytes().to_vec());
        let Ok(Parsed::Complete { head, .. }) = parse_request(&raw, HeadLimits::default()) else { panic!("{text}") };
        let protocol = Protocol::of(head.version);
        Request { raw, head, protocol, at: Instant::now(), since: SystemTime::now() }
    }

    #[test]
    fn how_a_connection_goes_on() {
        let stays = request("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let leaves = request("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let old = request("GET / HTTP/1.0\r\n\r\n");
        let complete = |keep_alive| Stage::Complete { keep_alive };
        let (orderly, gently, abort) = (Some(Close::Orderly), Some(Close::Gently), Some(Close::Abort));
        for (stage, is_read, request, rest, expected) in [
            (complete(true), true, &stays, "", None),
            (complete(true), true, &stays, "GET", None),
            // Its body is still coming.
            (complete(true), false, &stays, "", gently),
            (complete(false), true, &stays, "", gently),
            (complete(false), true, &leaves, "", orderly),
            (complete(false), true, &leaves, "GET", gently),
            (complete(false), false, &leaves, "", gently),
            (complete(false), true, &old, "", gently),
            (Stage::Over(Close::Orderly), false, &stays, "x", orderly),
            // The exchange ended without a word.
            (Stage::Silent, true, &stays, "", abort),
            (Stage::Begun { keep_alive: true, shows_end: true }, true, &stays, "", abort),
            (Stage::Switched, true, &stays, "", abort),
        ] {
            let state = Http1State { is_read: Cell::new(is_read), stage: Cell::new(stage), ..Http1State::default() };
            assert_eq!(state.close_after(request, rest.as_bytes()), expected, "{stage:?} {is_read} {rest:?}");
        }
    }
}
