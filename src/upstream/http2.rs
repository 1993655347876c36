//! One exchange as a stream of a connection that it shares with others.
//!
//! To the rest it looks as one of HTTP/1 does: heads are judged by the same parser, and a body comes in the form that is
//! asked for. What the server does not take waits where it comes from: see [`SentBody`].

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use http::uri::Scheme;

use super::in_use::Active;
use super::message::{CarrierError, Form, Outgoing, Part, Sending};
use super::shared::{SharedConnection, StreamPlace};
use super::tunnel_end::{TunnelEnd, TunnelSink, TunnelSource};
use crate::http::{
    BodyError, BodyLength, BodyScanner, CHUNK_END, HeadLimits, Method, Parsed, RequestContext, RequestHead,
    ResponseHead, chunk_start, last_chunk, parse_response, websocket_accept,
};
use crate::http2::{
    AnswerTo, Answered, ClientResponse, OpenStream, Reason, Received, ResponseParts, SentBody, canonical_limits,
    outgoing_request, outgoing_trailers, trailer_lines, write_response_head,
};
use crate::io::{Lease, SendBuf};

/// The right to one stream, and the stream once it is open. Dropped before both its directions are over, it is cancelled.
pub struct StreamInUse<'u> {
    place: StreamPlace,
    stream: Option<Halves>,
    /// Something of the request may have reached the server.
    was_sent: bool,
    _active: Active<'u>,
}

struct Halves {
    sent: RefCell<SentBody>,
    received: ClientResponse,
    _open: OpenStream,
}

impl<'u> StreamInUse<'u> {
    pub(super) fn new(place: StreamPlace, active: Active<'u>) -> Self {
        Self { place, stream: None, was_sent: false, _active: active }
    }

    pub(super) fn connection(&self) -> &Rc<SharedConnection> {
        self.place.connection()
    }

    pub(super) fn is_reused(&self) -> bool {
        self.place.is_reused()
    }

    pub(super) fn was_sent(&self) -> bool {
        self.was_sent
    }

    /// Sends the head and the first bytes of the body.
    pub(super) fn begin<'c>(
        &'c mut self,
        request: Outgoing<'_>,
        first: &[u8],
    ) -> (Option<Upload<'c>>, Http2Response<'c>, Option<Sending<'c>>) {
        match self.open(request, first) {
            Ok((upload, response, sending)) => (Some(upload), response, sending),
            Err(error) => (None, Http2Response::failed(error), None),
        }
    }

    #[allow(clippy::type_complexity, reason = "the three ends of one stream, as `begin` hands them on")]
    fn open<'c>(
        &'c mut self,
        request: Outgoing<'_>,
        first: &[u8],
    ) -> Result<(Upload<'c>, Http2Response<'c>, Option<Sending<'c>>), CarrierError> {
        let Outgoing { head, raw, form, is_over, .. } = request;
        let has_frames = form == Form::Framed && head.body == BodyLength::Chunked;
        let mut unframer = has_frames.then(|| BodyScanner::keeping_trailer(head.body));
        let (data, trailers) = match &mut unframer {
            Some(scanner) => unframed(scanner, first).map_err(unsayable)?,
            None => (first.to_vec(), Vec::new()),
        };
        let message = write_head(request, self.connection())?;
        let is_tunnel = head.is_connect() || head.upgrade.is_some();
        let ends_with_head = is_over && data.is_empty() && trailers.is_empty() && !is_tunnel;
        let connection = Rc::clone(self.place.connection());
        let stream = connection.open(message, ends_with_head).map_err(|error| connection.error(error))?;
        self.was_sent = true;
        let (sent, received, open) = stream.into_halves();
        let halves = self.stream.insert(Halves { sent: RefCell::new(sent), received, _open: open });
        let upload = Upload { sent: &halves.sent, unframer: RefCell::new(unframer) };
        let needs_none = ends_with_head || is_tunnel;
        let sending = if needs_none { Some(Sending::Done) } else { upload.queue(data, &trailers, is_over) };
        let takes_trailers = head.field(raw, "te").is_some_and(|value| names_trailers(&value));
        let open = OpenResponse { received: &mut halves.received, sent: &halves.sent, connection };
        Ok((upload, Http2Response::new(open, Tunnel::of(head, raw), takes_trailers), sending))
    }
}

/// The message that `request` is in HTTP/2.
fn write_head(request: Outgoing<'_>, connection: &SharedConnection) -> Result<http::Request<()>, CarrierError> {
    let Outgoing { head, raw, edits, .. } = request;
    if head.upgrade.is_some() && !connection.takes_upgrades() {
        let what =
            "the server takes no WebSocket nor other upgrade over HTTP/2 (RFC 8441): declare the port's protocol HTTP";
        return Err(CarrierError::Unsayable(what.to_owned()));
    }
    let mut rewritten = Vec::new();
    let bytes = if head.is_verbatim() && edits.is_empty() {
        raw
    } else {
        head.write_edited(raw, edits, &mut rewritten);
        &rewritten
    };
    let scheme = if connection.is_secure() { Scheme::HTTPS } else { Scheme::HTTP };
    outgoing_request(bytes, &scheme).map_err(|error| CarrierError::Unsayable(error.to_string()))
}

fn unsayable(error: impl std::fmt::Display) -> CarrierError {
    CarrierError::Unsayable(error.to_string())
}

/// The data in `bytes`, and the trailer's lines where the body ends with it.
fn unframed(scanner: &mut BodyScanner, bytes: &[u8]) -> Result<(Vec<u8>, Vec<u8>), BodyError> {
    let mut data = Vec::with_capacity(bytes.len());
    scanner.unframe(bytes, &mut data)?;
    let trailers = if scanner.is_complete() { scanner.take_trailer() } else { Vec::new() };
    Ok((data, trailers))
}

/// Whether a TE field says that trailers are understood (RFC 9110 §10.1.4).
fn names_trailers(value: &[u8]) -> bool {
    value.split(|&byte| byte == b',').any(|option| option.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// Where the rest of the request goes.
pub struct Upload<'c> {
    sent: &'c RefCell<SentBody>,
    /// The body comes in chunks, as HTTP/1 writes them.
    unframer: RefCell<Option<BodyScanner>>,
}

impl<'c> Upload<'c> {
    pub(super) fn send(&self, part: Part, is_last: bool) -> Option<Sending<'c>> {
        match (part, &mut *self.unframer.borrow_mut()) {
            (Part::Bytes(bytes), None) => self.queue(bytes, &[], is_last),
            (Part::Bytes(bytes), Some(scanner)) => {
                let Ok((data, trailers)) = unframed(scanner, bytes.as_ref()) else { return self.break_off() };
                self.queue(data, &trailers, is_last)
            }
            (Part::Trailers(lines), _) => self.queue(SendBuf::Static(&[]), &lines, true),
        }
    }

    fn queue(&self, data: impl Into<SendBuf>, trailers: &[u8], is_last: bool) -> Option<Sending<'c>> {
        let has_trailers = is_last && !trailers.is_empty();
        self.sent.borrow_mut().send(data, is_last && !has_trailers).ok()?;
        if has_trailers {
            let Ok(fields) = outgoing_trailers(trailers) else { return self.break_off() };
            self.sent.borrow_mut().send_trailers(fields).ok()?;
        }
        Some(Sending::Http2Request(self.sent))
    }

    /// The server must not take what it has for complete.
    fn break_off(&self) -> Option<Sending<'c>> {
        self.sent.borrow_mut().reset(Reason::CANCEL);
        None
    }
}

/// A response as it comes.
#[allow(clippy::struct_excessive_bools, reason = "independent facts, each read by its name")]
pub struct Http2Response<'c> {
    state: ResponseState<'c>,
    /// The head that was read last, as HTTP/1 would have it.
    head: Vec<u8>,
    limits: HeadLimits,
    tunnel: Tunnel,
    /// Trailers may stand behind chunks: the client understands them.
    takes_trailers: bool,
    /// In HTTP/1 its body is chunked.
    is_chunked: bool,
    /// The last chunk has been handed out.
    is_closed: bool,
    heard: bool,
    /// Bytes of the body so far, without framing.
    payload: u64,
}

enum ResponseState<'c> {
    Open(OpenResponse<'c>),
    Failed(Option<CarrierError>),
}

struct OpenResponse<'c> {
    received: &'c mut ClientResponse,
    /// The other direction, for a tunnel.
    sent: &'c RefCell<SentBody>,
    connection: Rc<SharedConnection>,
}

/// The tunnel that a request asks for.
enum Tunnel {
    None,
    Connect,
    Upgrade { protocol: Vec<u8>, accept: Option<String> },
}

impl Tunnel {
    fn of(head: &RequestHead, raw: &[u8]) -> Self {
        match head.upgrade {
            Some(protocol) => {
                let key = head.field(raw, "sec-websocket-key");
                Self::Upgrade { protocol: protocol.of(raw).to_vec(), accept: key.map(|key| websocket_accept(&key)) }
            }
            None if head.is_connect() => Self::Connect,
            None => Self::None,
        }
    }

    fn answered(&self, method: Method) -> AnswerTo<'_> {
        match self {
            Self::Upgrade { protocol, accept } => AnswerTo::Upgrade { protocol, accept: accept.as_deref() },
            Self::Connect => AnswerTo::Connect,
            Self::None if method == Method::Head => AnswerTo::Head,
            Self::None => AnswerTo::Other,
        }
    }
}

impl<'c> Http2Response<'c> {
    fn new(open: OpenResponse<'c>, tunnel: Tunnel, takes_trailers: bool) -> Self {
        Self { tunnel, takes_trailers, ..Self::of(ResponseState::Open(open)) }
    }

    /// There is no stream.
    fn failed(error: CarrierError) -> Self {
        Self::of(ResponseState::Failed(Some(error)))
    }

    fn of(state: ResponseState<'c>) -> Self {
        Self {
            state,
            head: Vec::new(),
            limits: HeadLimits::default(),
            tunnel: Tunnel::None,
            takes_trailers: false,
            is_chunked: false,
            is_closed: false,
            heard: false,
            payload: 0,
        }
    }

    pub(super) async fn head(
        &mut self,
        request: RequestContext,
        limits: HeadLimits,
    ) -> Result<ResponseHead, CarrierError> {
        let (received, connection) = match &mut self.state {
            ResponseState::Open(open) => (&mut *open.received, &open.connection),
            ResponseState::Failed(error) => return Err(error.take().unwrap_or(CarrierError::Ended(None))),
        };
        self.limits = limits;
        let (parts, is_final) = match received.head().await.map_err(|error| connection.error(error))? {
            ResponseParts::Interim(parts) => (parts, false),
            ResponseParts::Final(parts) => (parts, true),
        };
        self.heard = true;
        let is_over = is_final && received.body().is_some_and(|body| body.is_over());
        let answered = Answered { to: self.tunnel.answered(request.method), is_over };
        self.head.clear();
        let written = write_response_head(&parts, answered, limits, &mut self.head);
        written.map_err(|what| CarrierError::Protocol(what.to_owned()))?;
        match parse_response(&self.head, request, canonical_limits(limits)) {
            Ok(Parsed::Complete { head, .. }) => {
                self.is_chunked = head.body == BodyLength::Chunked;
                Ok(head)
            }
            Ok(Parsed::Partial) => Err(CarrierError::Protocol("the head of the response has no end".to_owned())),
            Err(error) => Err(CarrierError::Protocol(error.to_string())),
        }
    }

    pub(super) fn head_bytes(&self) -> &[u8] {
        &self.head
    }

    pub(super) fn take_head(&mut self) -> Lease {
        Lease::from_vec(std::mem::take(&mut self.head))
    }

    pub(super) fn start(&mut self, form: Form) -> Result<Lease, CarrierError> {
        let mut start = std::mem::take(&mut self.head);
        if let ResponseState::Open(OpenResponse { received, connection, .. }) = &mut self.state
            && let Some(body) = received.body()
            && body.has_arrived()
            && let Poll::Ready(piece) = body.poll_piece(&mut Context::from_waker(Waker::noop()))
        {
            // Data has come, so it is none of the trailers.
            if let Some(Received::Data(data)) = piece.map_err(|error| connection.error(error))? {
                let is_last = body.is_over();
                self.frame(&data, is_last, form, &mut start);
            }
        }
        Ok(Lease::from_vec(start))
    }

    pub(super) async fn next(&mut self, form: Form) -> Result<Option<Part>, CarrierError> {
        let ResponseState::Open(OpenResponse { received, connection, .. }) = &mut self.state else { return Ok(None) };
        let Some(body) = received.body() else { return Ok(None) };
        let piece = body.piece().await.map_err(|error| connection.error(error))?;
        let is_last = body.is_over();
        match piece {
            Some(Received::Data(data)) if form == Form::Framed && self.is_chunked => {
                let mut framed = Vec::with_capacity(data.len() + 32);
                self.frame(&data, is_last, form, &mut framed);
                Ok(Some(Part::Bytes(framed.into())))
            }
            Some(Received::Data(data)) => {
                self.payload += data.len() as u64;
                self.is_closed |= is_last;
                Ok(Some(Part::Bytes(data.into())))
            }
            Some(Received::Trailers(fields)) => {
                let lines = trailer_lines(&fields, self.limits);
                let lines = lines.map_err(|what| CarrierError::Protocol(what.to_owned()))?;
                Ok(self.trailers(lines, form))
            }
            None => Ok(self.last_chunk(form, &[]).map(|bytes| Part::Bytes(bytes.into()))),
        }
    }

    /// Whether nothing more of the body comes.
    pub(super) fn is_over(&self) -> bool {
        let ResponseState::Open(open) = &self.state else { return true };
        open.received.is_over() && (!self.is_chunked || self.is_closed)
    }

    pub(super) fn has_spoken(&self) -> bool {
        self.heard
    }

    pub(super) fn payload(&self) -> u64 {
        self.payload
    }

    /// The tunnel, once a head has accepted it.
    pub(super) fn tunnel<'a>(&'a mut self) -> Option<TunnelEnd<'a, 'c>> {
        let ResponseState::Open(OpenResponse { received, sent, .. }) = &mut self.state else { return None };
        Some(TunnelEnd { source: TunnelSource::Stream(received.body()?), sink: TunnelSink::Request(sent) })
    }

    fn trailers(&mut self, lines: Vec<u8>, form: Form) -> Option<Part> {
        if form == Form::Data {
            self.is_closed = true;
            return Some(Part::Trailers(Lease::from_vec(lines)));
        }
        let lines = if self.takes_trailers { lines } else { Vec::new() };
        self.last_chunk(form, &lines).map(|bytes| Part::Bytes(bytes.into()))
    }

    /// The end of the chunks, where there are chunks that have no end yet.
    fn last_chunk(&mut self, form: Form, trailers: &[u8]) -> Option<Vec<u8>> {
        let was_closed = std::mem::replace(&mut self.is_closed, true);
        (form == Form::Framed && self.is_chunked && !was_closed).then(|| last_chunk(trailers))
    }

    /// Appends `data` in `form`; `is_last`: the body ends with it.
    fn frame(&mut self, data: &[u8], is_last: bool, form: Form, out: &mut Vec<u8>) {
        self.payload += data.len() as u64;
        if form == Form::Data || !self.is_chunked {
            self.is_closed |= is_last;
            return out.extend_from_slice(data);
        }
        if !data.is_empty() {
            out.extend_from_slice(&chunk_start(data.len()));
            out.extend_from_slice(data);
            out.extend_from_slice(CHUNK_END);
        }
        if is_last && let Some(end) = self.last_chunk(form, &[]) {
            out.extend_from_slice(&end);
        }
    }
}
