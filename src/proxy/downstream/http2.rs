//! HTTP/2 from the application: many requests at once on one connection, each a stream and a task of its own.
//!
//! Each is judged and carried as a request of HTTP/1 would be that asks for the same. A stream that is refused gets its own
//! answer; the connection and the other streams stay.

use std::rc::Rc;
use std::time::{Duration, SystemTime};

use super::http2_answer;
use super::http2_body::Http2Body;
use super::http2_reply::Http2Reply;
use super::incoming::{Incoming, Reply, RequestBody};
use crate::config::Settings;
use crate::flow::ResponseFlags;
use crate::http2::{self, Limits, Reason, ServerClocks, ServerEnd, Unfit, Unserved};
use crate::io::{self, Lease};
use crate::observe::{Http2Listed, Http2Side};
use crate::proxy::close::Close;
use crate::proxy::context::Context;
use crate::proxy::exchange;
use crate::proxy::failure::Failure;
use crate::proxy::peers::Peers;
use crate::proxy::record::RequestRecord;
use crate::proxy::request::{Protocol, Request, head_limits};
use crate::upstream::{Duplex, Reader, Reserved};

/// The least time that a connection's end may take, however short the drain is.
const LEAST_DRAIN: Duration = Duration::from_secs(1);

/// Serves streams until the connection ends, and says how it must be closed.
pub async fn serve(context: &Rc<Context>, reader: &mut Reader<'_>, peers: Peers) -> Close {
    let (limits, clocks) = bounds(context.policy.load().settings());
    let io = Duplex::new(reader.stream(), Some(reader.take_all()));
    let (drain, counters) = (context.drain.begun(), &context.counters);
    let listed = Rc::new(counters.http2.list(Http2Side::Downstream, peers.client.addr(), None));
    let end = http2::serve(io, &limits, clocks, drain, |stream| {
        let (context, open) = (Rc::clone(context), OpenStream::begin(&listed));
        async move {
            serve_stream(context, peers, stream).await;
            drop(open);
        }
    })
    .await;
    match &end {
        ServerEnd::Orderly => Close::Orderly,
        ServerEnd::Idle => {
            counters.expired_rest.increment();
            Close::Orderly
        }
        ServerEnd::Overdue => Close::Abort,
        ServerEnd::Flooded | ServerEnd::Failed(_) => {
            counters.requests_malformed.increment();
            tracing::debug!(client = %peers.client, ?end, "an application's HTTP/2 connection has ended");
            // Its GOAWAY is to be read.
            Close::Gently
        }
    }
}

/// One stream on the list, for as long as it is served.
struct OpenStream(Rc<Http2Listed>);

impl OpenStream {
    fn begin(listed: &Rc<Http2Listed>) -> Self {
        listed.stream_begins();
        Self(Rc::clone(listed))
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.stream_ends();
    }
}

fn bounds(settings: &Settings) -> (Limits, ServerClocks) {
    let clocks = ServerClocks { idle: settings.idle_timeout, drain: settings.drain_duration.max(LEAST_DRAIN) };
    (Limits::of(settings), clocks)
}

async fn serve_stream(context: Rc<Context>, peers: Peers, stream: http2::Incoming) {
    let (at, since) = (io::now(), SystemTime::now());
    context.memory.note_busy();
    // The table of this moment: a new policy applies from the next stream on.
    let table = context.policy.table();
    let limits = head_limits(table.settings());
    let nonce = || (u128::from(context.random.draw()) << 64 | u128::from(context.random.draw())).to_be_bytes();
    let (raw, head) = match stream.head(limits, nonce) {
        Ok(complete) => complete,
        Err(why) => return refuse(&context, peers, &stream, &why),
    };
    let http2::Incoming { body, responder, .. } = stream;
    let request = Request { raw: Lease::from_vec(raw), head, protocol: Protocol::Http2, at, since };
    let incoming = Incoming {
        request: &request,
        body: RequestBody::Http2(Http2Body::new(body, limits, &request.head)),
        reply: Reply::Http2(Http2Reply::new(&responder, &request)),
    };
    exchange::run(&context, &table, &mut Reserved::default(), peers, incoming).await;
}

/// Answers a stream that holds no acceptable request.
fn refuse(context: &Rc<Context>, peers: Peers, stream: &http2::Incoming, why: &Unserved) {
    let (status, details) = match why {
        Unserved::Block(Unfit::Malformed(_)) => (400, "http2.violation.of.messaging.rule"),
        Unserved::Block(Unfit::TooLarge) => (431, "http2.headers_too_large"),
        Unserved::Block(Unfit::TooManyFields) => (431, "http2.too_many_headers"),
        Unserved::Request(error) => (error.status(), error.detail()),
    };
    let failure = Failure::request(status, details, why.to_string());
    let mut record = RequestRecord::new(peers);
    record.unread.protocol = Some(Protocol::Http2);
    record.fail(&failure);
    if failure.flags.contains(ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR) {
        context.counters.requests_malformed.increment();
    }
    context.counters.requests(status).increment();
    if let Unserved::Block(Unfit::Malformed(_)) = why {
        stream.responder.reset(Reason::PROTOCOL_ERROR);
    } else {
        let call = stream.parts.headers.get(::http::header::CONTENT_TYPE);
        let is_call = call.is_some_and(|kind| crate::grpc::is_grpc(kind.as_bytes()));
        let is_head = stream.parts.method == ::http::Method::HEAD;
        record.note_answer(http2_answer::send(&stream.responder, &failure, is_call, is_head), !is_head);
    }
    record.log(context, None);
}
