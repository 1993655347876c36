//! One request and its response: where it goes, over which connection, what if that fails, and what happens next.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use futures_lite::future;

use crate::config::Settings;
use crate::flow::{Host, ResponseFlags};
use crate::http::{BodyLength, ClientContext, Method, ReplyOptions, local_reply};
use crate::policy::{Decision, PolicyTable};
use crate::proxy::clocks::{Clock, overdue};
use crate::proxy::connection::{Close, Parties};
use crate::proxy::context::Context;
use crate::proxy::failure::Failure;
use crate::proxy::http1::{self, Request};
use crate::proxy::opaque::{self, End, RelayClocks};
use crate::proxy::reader::Reader;
use crate::proxy::record::RequestRecord;
use crate::proxy::transfer::{self, Broken, Progress, Received};
use crate::upstream::{Clocks, ConnectError, Lent, Reuse, Stream, Target};

/// What the connection does after an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Reads the next request.
    Request,
    Close(Close),
}

/// Carries one request to its end and logs it.
pub async fn run(
    context: &Rc<Context>,
    table: &PolicyTable,
    reader: &mut Reader<'_>,
    parties: Parties,
    request: &Request,
) -> Next {
    let record = RequestRecord::new(parties);
    let progress = Progress::new();
    let mut exchange = Exchange { context, table, reader, parties, request, record, progress, tunnel_end: None };
    let next = match exchange.attempt().await {
        Ok(next) => next,
        Err(failure) => exchange.answer(&failure).await,
    };
    exchange.record.take_progress(&exchange.progress, request.at);
    context.counters.requests(exchange.record.status).increment();
    exchange.record.log(context, Some(request));
    next
}

/// What came of one try on one connection.
enum Tried {
    Done(Next),
    Failed(Failure),
    /// A kept connection died before it gave a byte: the request may be sent again on a new one.
    Stale,
}

struct Exchange<'e, 's> {
    context: &'e Rc<Context>,
    table: &'e PolicyTable,
    reader: &'e mut Reader<'s>,
    parties: Parties,
    request: &'e Request,
    record: RequestRecord,
    progress: Progress,
    /// How the protocol that was switched to ended.
    tunnel_end: Option<End>,
}

impl Exchange<'_, '_> {
    /// # Errors
    /// What to answer instead of the upstream's response.
    async fn attempt(&mut self) -> Result<Next, Failure> {
        if self.request.head.is_connect() {
            return Err(Failure::request(405, "connect_not_allowed", "CONNECT is not carried"));
        }
        let host = match &self.request.head.authority {
            Some(authority) => authority.host.clone(),
            None => Host::Ip(self.parties.destination.ip()),
        };
        let target = self.route(&host)?;
        let security = target.security(&host).map_err(|reason| self.refuse_transport(&reason))?;
        let clocks = Clocks::of(self.table.settings());
        // What cannot be sent a second time must not meet a connection that its server is just closing.
        let mut reuse = if transfer::is_replayable(self.request) { Reuse::Allowed } else { Reuse::Recent };
        loop {
            let lending = async { Ok(self.context.upstreams.lend(&target, &security, &clocks, reuse).await) };
            let waited = interrupted(self.reader.stream(), &self.progress, self.table.settings(), self.request.at);
            let lent = match future::or(lending, async { Err(waited.await) }).await {
                Ok(lent) => lent.map_err(|error| self.note_failure(&error))?,
                Err(broken) => return Err(self.failure_of(broken)),
            };
            self.note_connection(&lent);
            match self.carry(lent, &target).await {
                Tried::Done(next) => return Ok(next),
                Tried::Failed(failure) => return Err(failure),
                Tried::Stale => reuse = Reuse::Never,
            }
        }
    }

    fn route(&mut self, host: &Host) -> Result<Target, Failure> {
        let original = self.parties.destination;
        match self.table.http(original, host) {
            Decision::Forward(cluster) => {
                self.record.route("default", &cluster.name);
                Ok(Target::Cluster { cluster: Arc::clone(cluster), original })
            }
            Decision::Passthrough => {
                self.record.route("allow_any", "PassthroughCluster");
                Ok(Target::Passthrough(original))
            }
            Decision::Deny(_) => {
                self.context.counters.refused_policy.increment();
                self.record.route("block_all", "BlackHoleCluster");
                Err(Failure::blocked())
            }
        }
    }

    fn refuse_transport(&self, reason: &str) -> Failure {
        self.context.counters.refused_transport.increment();
        Failure::refused(reason)
    }

    fn note_failure(&mut self, error: &ConnectError) -> Failure {
        self.context.count_connect_error(error);
        self.record.upstream = error.address();
        let mut failure = Failure::connect(error);
        if error.address().is_some() {
            failure.flags |= ResponseFlags::RETRY_LIMIT;
        }
        failure
    }

    fn note_connection(&mut self, lent: &Lent) {
        if lent.is_reused() {
            self.context.counters.upstream_reused.increment();
        } else {
            self.context.count_connect(&lent.stream);
        }
        self.record.upstream = Some(lent.address());
        self.record.upstream_local = lent.local;
    }

    async fn carry(&mut self, lent: Lent, target: &Target) -> Tried {
        match self.transfer(&lent).await {
            Ok(received) if received.upgraded => {
                // Whatever it carried, it was not HTTP: it never carries another request.
                let upstream = self.context.upstreams.discard(lent);
                Tried::Done(Next::Close(self.end_tunnel(upstream).await))
            }
            Ok(received) => Tried::Done(self.conclude(received, lent, target)),
            Err(broken) => Box::pin(self.give_up(broken, lent)).await,
        }
    }

    /// Sends the request and passes the response on, both at once: a server may answer before it has read everything,
    /// and a client may wait for the answer before it sends everything.
    async fn transfer(&mut self, lent: &Lent) -> Result<Received, Broken> {
        let (context, request, progress) = (self.context, self.request, &self.progress);
        let client = self.reader.stream();
        let mut back = Reader::new(&lent.stream);
        let to_client = || ClientContext {
            version: request.head.version,
            keep_alive: request.head.keep_alive && progress.uploaded.get() && !context.drain.has_begun(),
        };
        let settings = self.table.settings();
        let waited = interrupted(client, progress, settings, request.at);
        let received = {
            let limits = http1::limits(settings);
            let mut download = pin!(transfer::download(client, &mut back, request, to_client, limits, progress));
            let mut upload = pin!(transfer::upload(request, self.reader, &lent.stream, progress));
            let both = async {
                let first = future::or(async { Err(upload.as_mut().await) }, async { Ok(download.as_mut().await) });
                match first.await {
                    Ok(received) => received,
                    Err(Ok(())) => download.as_mut().await,
                    Err(Err(broken)) => Err(broken),
                }
            };
            future::or(both, async { Err(waited.await) }).await?
        };
        if received.upgraded {
            let clocks = RelayClocks { idle: Some(settings.idle_timeout), duration: None };
            let relayed = opaque::relay(self.reader, &mut back, clocks).await;
            progress.from_client.set(relayed.sent);
            progress.to_client.set(relayed.received);
            self.tunnel_end = Some(relayed.end);
        }
        Ok(received)
    }

    fn conclude(&mut self, received: Received, lent: Lent, target: &Target) -> Next {
        let uploaded = self.progress.uploaded.get();
        if received.upstream_reusable && uploaded {
            self.context.keep(lent, target, received.keeps_for);
        } else {
            self.context.upstreams.discard(lent).close();
        }
        match (received.client_keep_alive, uploaded) {
            (true, true) => Next::Request,
            (false, true) => Next::Close(Close::Orderly),
            // The rest of the request is still coming; the answer must survive it.
            (_, false) => Next::Close(Close::Gently),
        }
    }

    /// Ends the upstream connection and decides between another try, an answer of egret's own, and a broken connection.
    async fn give_up(&mut self, broken: Broken, lent: Lent) -> Tried {
        let reused = lent.is_reused();
        self.context.upstreams.discard(lent).abort().await;
        let stale = matches!(broken, Broken::Upstream(_)) && reused && !self.progress.heard.get();
        if stale && transfer::is_replayable(self.request) {
            self.context.counters.requests_retried.increment();
            return Tried::Stale;
        }
        Tried::Failed(self.failure_of(broken))
    }

    fn failure_of(&self, broken: Broken) -> Failure {
        let counters = &self.context.counters;
        if let Broken::Upstream(Some(error)) = &broken {
            self.context.count_broken(error);
        }
        match broken {
            Broken::Client => Failure::client_gone(),
            Broken::RequestBody(error) => Failure::request(400, "http1.codec_error", error.to_string()),
            Broken::Upstream(error) if self.progress.answering.get() => Failure::upstream_broke_off(error.as_ref()),
            Broken::Upstream(error) => Failure::upstream_gone(error.as_ref()),
            Broken::Response(what) => Failure::upstream_protocol(&what),
            Broken::Overdue(clock) => {
                let counter = match clock {
                    Clock::Idle => &counters.timeouts_idle,
                    Clock::RequestBody => &counters.timeouts_body,
                    Clock::Response => &counters.timeouts_response,
                };
                counter.increment();
                Failure::overdue(clock)
            }
        }
    }

    /// Ends a tunnel's upstream side as the application's ended, and says how to end the application's.
    async fn end_tunnel(&mut self, upstream: Stream) -> Close {
        let (flags, close) = match self.tunnel_end.take() {
            None | Some(End::Complete) => (ResponseFlags::default(), Close::Orderly),
            Some(End::Idle) => (ResponseFlags::STREAM_IDLE_TIMEOUT, Close::Orderly),
            Some(End::Duration) => (ResponseFlags::DURATION_TIMEOUT, Close::Orderly),
            Some(End::Client(_)) => (ResponseFlags::DOWNSTREAM_CLOSED, Close::Abort),
            Some(End::Upstream(_)) => (ResponseFlags::UPSTREAM_CLOSED, Close::Abort),
        };
        self.record.add_flags(flags);
        match close {
            Close::Abort => upstream.abort().await,
            Close::Orderly | Close::Gently => upstream.close(),
        }
        close
    }

    /// Answers in the upstream's stead, or breaks the connection where an answer has begun.
    async fn answer(&mut self, failure: &Failure) -> Next {
        self.record.fail(failure);
        if self.progress.answering.get() || failure.status == 0 {
            return Next::Close(Close::Abort);
        }
        // Only behind a request that is known to be over can another one begin.
        let is_read = self.progress.uploaded.get() || self.request.head.body == BodyLength::None;
        // What follows a CONNECT was meant for the tunnel.
        let over = is_read && !self.request.head.is_connect();
        let keep_alive = over && self.request.head.keep_alive && !self.context.drain.has_begun();
        let options = ReplyOptions {
            version: self.request.head.version,
            keep_alive,
            head_request: self.request.head.method == Method::Head,
            now: SystemTime::now(),
        };
        let reply = local_reply(failure.status, &failure.body, options);
        let sent = match self.reader.stream().send(reply) {
            Ok(sending) => sending.await.is_ok(),
            Err(_) => false,
        };
        match (sent, keep_alive) {
            (false, _) => Next::Close(Close::Abort),
            (true, true) => Next::Request,
            (true, false) => Next::Close(Close::Gently),
        }
    }
}

/// Resolves when nobody waits for the answer any more, or it has taken too long. An application that has only finished
/// sending (FIN) still waits.
async fn interrupted(client: &Stream, progress: &Progress, settings: &Settings, since: Instant) -> Broken {
    let gone = async {
        client.socket().failed().await;
        Broken::Client
    };
    future::or(gone, async { Broken::Overdue(overdue(progress, settings, since).await) }).await
}
