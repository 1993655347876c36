//! HTTP/1 from the application: request after request on one connection, each judged on its own. Whether another may follow
//! is known here alone.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant, SystemTime};

use super::http1_body::Http1Body;
use super::http1_reply::{Http1Reply, Http1State};
use super::incoming::{Incoming, Reply, RequestBody};
use crate::config::Settings;
use crate::flow::ResponseFlags;
use crate::http::{
    HeadLimits, Parsed, ReplyOptions, RequestError, RequestHead, Version, first_line, local_reply, parse_request,
};
use crate::io;
use crate::observe::Counter;
use crate::proxy::close::Close;
use crate::proxy::context::Context;
use crate::proxy::exchange;
use crate::proxy::failure::Failure;
use crate::proxy::peers::Peers;
use crate::proxy::record::{RequestRecord, Unread};
use crate::proxy::request::{Protocol, Request, head_limits};
use crate::upstream::{Reader, Reserved, StreamError};

/// How long an idle connection of a draining process may still begin a request: one that is on its way when the drain
/// begins is answered, not lost.
const DRAIN_GRACE: Duration = Duration::from_secs(1);

/// A connection without a request for this long is at rest, and gives back what it had for exchanges. Were it longer, what
/// a burst of connections had for its exchanges would lie between what they keep, as holes that nobody fills.
const PAUSE: Duration = Duration::from_millis(20);

/// Serves requests until the connection ends, and says how it must be closed.
pub async fn serve(context: &Rc<Context>, reader: &mut Reader<'_>, peers: &Peers) -> Close {
    let mut idle_since = io::now();
    // It ends with this connection.
    let mut reserved = Reserved::default();
    let mut awaited = None;
    loop {
        if reader.bytes().is_empty()
            && let Some(close) = rest(context, reader, &mut reserved, idle_since, &context.counters.expired_rest).await
        {
            return close;
        }
        // Boxed, so that a connection at rest does not carry the room that an exchange needs. One that is busy keeps the
        // box from request to request.
        if let Some(close) = Box::pin(serve_while_busy(context, reader, &mut reserved, &mut awaited, *peers)).await {
            return close;
        }
        reader.stream().relax();
        idle_since = io::now().checked_sub(PAUSE).unwrap_or(idle_since);
    }
}

/// Waits for the next request to begin. What ends the connection instead: its peer, idleness since `idle_since`
/// (`expired` counts that), or a drain; or the end of a server's connection that knows the application by its identity,
/// since another one would not. Most connections are here most of the time, so that one future of few fields waits for all
/// of it.
pub fn rest(
    context: &Context,
    reader: &mut Reader<'_>,
    reserved: &mut Reserved,
    idle_since: Instant,
    expired: &Counter,
) -> impl Future<Output = Option<Close>> {
    let idle = context.policy.load().settings().idle_timeout;
    let over = idle_since + idle;
    let mut end = io::sleep_until(reserved.expires().map_or(over, |expires| expires.min(over)));
    let mut drain = Some(context.drain.begun());
    poll_fn(move |task| {
        if let Poll::Ready(filled) = reader.poll_fill(task) {
            return Poll::Ready(after_fill(&filled));
        }
        if reserved.poll_ended(task).is_ready() {
            return Poll::Ready(Some(Close::Orderly));
        }
        if drain.as_mut().is_some_and(|begun| Pin::new(begun).poll(task).is_ready()) {
            drain = None;
            end = io::sleep(DRAIN_GRACE.min(idle));
        }
        ready!(Pin::new(&mut end).poll(task));
        if drain.is_some() {
            expired.increment();
        }
        Poll::Ready(Some(Close::Orderly))
    })
}

/// How a connection is closed on which nothing more comes.
fn after_fill(filled: &Result<bool, StreamError>) -> Option<Close> {
    match filled {
        Ok(true) => None,
        Ok(false) => Some(Close::Orderly),
        Err(_) => Some(Close::Abort),
    }
}

/// Serves the request that has begun, and all that follow without a [`PAUSE`]; `None` at the first pause.
async fn serve_while_busy(
    context: &Rc<Context>,
    reader: &mut Reader<'_>,
    reserved: &mut Reserved,
    awaited: &mut Option<Box<Repetition>>,
    peers: Peers,
) -> Option<Close> {
    context.memory.note_busy();
    loop {
        let bounds = Bounds::of(context.policy.load().settings());
        let read = read_request(context, reader, bounds).await;
        let request = match (read, awaited.take()) {
            (Ok(request), None) => request,
            (Ok(request), Some(awaited)) if awaited.is(&request) => request,
            (Ok(_) | Err(Some(_)), Some(_)) => return Some(end_unrepeated(context, peers)),
            (Err(None), _) => return Some(Close::Abort),
            (Err(Some(failure)), None) => return Some(reject(context, reader, peers, &failure).await),
        };
        // The table of this moment: a new policy applies from the next request on.
        let table = context.policy.table();
        let state = Http1State::default();
        let incoming = Incoming {
            request: &request,
            reply: Reply::Http1(Http1Reply::new(reader, &request, &context.drain, &state)),
            body: RequestBody::Http1(Http1Body::new(reader, request.head.body, &state)),
        };
        exchange::run(context, &table, reserved, peers, incoming).await;
        if let Some(close) = state.close_after(&request, reader.bytes()) {
            return Some(close);
        }
        *awaited = state.awaits_repetition().then(|| Repetition::of(&request));
        drop((request, table));
        if reader.bytes().is_empty() {
            let filled = io::timeout(PAUSE, reader.fill()).await.ok()?;
            if let Some(close) = after_fill(&filled) {
                return Some(close);
            }
        }
    }
}

/// A request whose body will not come, since its server cannot fulfil `Expect` (417).
///
/// Only the same request without `Expect` may follow. Anything else could be its body, sent in spite of the answer: whoever
/// chose the contents of a file that is uploaded must not choose a request with them.
struct Repetition {
    raw: Vec<u8>,
    head: RequestHead,
}

impl Repetition {
    fn of(request: &Request) -> Box<Self> {
        Box::new(Self { raw: request.raw.to_vec(), head: request.head.clone() })
    }

    fn is(&self, request: &Request) -> bool {
        self.head.is_repeated_by(&self.raw, &request.head, &request.raw)
    }
}

/// Ends a connection on which something else came.
fn end_unrepeated(context: &Rc<Context>, peers: Peers) -> Close {
    let mut record = RequestRecord::new(peers);
    record.fail(&Failure::unrepeated());
    context.counters.requests_malformed.increment();
    record.log(context, None);
    Close::Gently
}

/// What bounds a request's head. Copied out of the settings: a connection that waits must not keep an old table alive.
#[derive(Clone, Copy)]
struct Bounds {
    head: HeadLimits,
    time: Duration,
}

impl Bounds {
    fn of(settings: &Settings) -> Self {
        Self { head: head_limits(settings), time: settings.request_headers_timeout }
    }
}

/// The request that has begun.
///
/// # Errors
/// `Some` what is wrong with the request; `None` when the connection itself failed.
async fn read_request(context: &Context, reader: &mut Reader<'_>, bounds: Bounds) -> Result<Request, Option<Failure>> {
    let (at, since) = (io::now(), SystemTime::now());
    let (head, length) = if let Some(complete) = parse(reader, bounds.head)? {
        complete
    } else {
        let rest = io::timeout(bounds.time, read_on(reader, bounds.head)).await;
        let Ok(complete) = rest else {
            context.counters.timeouts_head.increment();
            return Err(Some(late()));
        };
        complete?
    };
    let protocol = Protocol::of(head.version);
    Ok(Request { raw: reader.take(length), head, protocol, at, since })
}

async fn read_on(reader: &mut Reader<'_>, limits: HeadLimits) -> Result<(RequestHead, usize), Option<Failure>> {
    loop {
        match reader.fill().await {
            Ok(true) => {}
            Ok(false) => return Err(Some(Failure::client_gone())),
            Err(_) => return Err(None),
        }
        if let Some(complete) = parse(reader, limits)? {
            return Ok(complete);
        }
    }
}

fn parse(reader: &Reader<'_>, limits: HeadLimits) -> Result<Option<(RequestHead, usize)>, Option<Failure>> {
    match parse_request(reader.bytes(), limits) {
        Ok(Parsed::Complete { head, length }) => Ok(Some((head, length))),
        Ok(Parsed::Partial) => Ok(None),
        Err(error @ RequestError::HostMissing) => {
            Err(Some(Failure::hostless(error.status(), error.detail(), error.to_string())))
        }
        Err(error) => Err(Some(Failure::request(error.status(), error.detail(), error.to_string()))),
    }
}

/// Answers an application that has begun what may have become a request, and did not go on in time.
pub async fn reject_unfinished(context: &Rc<Context>, reader: &mut Reader<'_>, peers: Peers) -> Close {
    context.counters.timeouts_head.increment();
    reject(context, reader, peers, &late()).await
}

fn late() -> Failure {
    Failure::request(408, "request_header_timeout", "the request head took too long")
}

/// Answers bytes that are no acceptable request. Nothing after them can be read as one, so the connection ends.
async fn reject(context: &Rc<Context>, reader: &mut Reader<'_>, peers: Peers, failure: &Failure) -> Close {
    let mut record = RequestRecord::new(peers);
    record.fail(failure);
    let is_hostless = failure.details == RequestError::HostMissing.detail();
    if is_hostless || failure.flags.contains(ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR) {
        context.counters.requests_malformed.increment();
        // As Envoy logs it: of a request that is none its line is none either.
        let line = first_line(reader.bytes()).filter(|_| is_hostless);
        record.unread = Unread { protocol: Some(Protocol::Http11), line };
    }
    record.log(context, None);
    if failure.status == 0 {
        return Close::Orderly;
    }
    let options =
        ReplyOptions { version: Version::Http11, keep_alive: false, head_request: false, now: SystemTime::now() };
    let reply = local_reply(failure.status, &failure.body, options);
    if let Ok(sending) = reader.stream().send(reply) {
        let _ = sending.await;
    }
    Close::Gently
}
