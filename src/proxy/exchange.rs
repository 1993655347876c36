//! One request and its response: where it goes, over which connection, what if that fails, and what happens next.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use futures_lite::future;

use crate::flow::{Host, ResponseFlags};
use crate::http::{ClientContext, Method, ReplyOptions, local_reply};
use crate::policy::{Decision, PolicyTable};
use crate::proxy::connection::{Close, Parties};
use crate::proxy::context::Context;
use crate::proxy::failure::Failure;
use crate::proxy::http1::{self, Request};
use crate::proxy::opaque::{self, RelayClocks};
use crate::proxy::reader::Reader;
use crate::proxy::record::RequestRecord;
use crate::proxy::transfer::{self, Broken, Progress, Received};
use crate::upstream::{Clocks, ConnectError, Lent, Reuse, Target};

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
    let mut exchange = Exchange { context, table, reader, parties, request, record, progress: Progress::new() };
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
        let mut reuse = Reuse::Allowed;
        loop {
            let lent = self.context.upstreams.lend(&target, &security, &clocks, reuse).await;
            let lent = lent.map_err(|error| self.note_failure(&error))?;
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
        self.record.upstream_local = lent.stream.socket().local_addr().ok();
    }

    async fn carry(&mut self, lent: Lent, target: &Target) -> Tried {
        match self.transfer(&lent).await {
            Ok(received) if received.upgraded => {
                self.context.upstreams.discard(lent).close();
                Tried::Done(Next::Close(Close::Orderly))
            }
            Ok(received) => Tried::Done(self.conclude(received, lent, target)),
            Err(broken) => self.give_up(broken, lent).await,
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
            keep_alive: request.head.keep_alive && progress.uploaded.get() && !context.draining.get(),
        };
        let settings = self.table.settings();
        let idle = RelayClocks { idle: Some(settings.idle_timeout), duration: None };
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
            let stalled = async {
                opaque::expire(&progress.moved, idle).await;
                Err(Broken::Idle)
            };
            future::or(both, stalled).await?
        };
        if received.upgraded {
            let relayed = opaque::relay(self.reader, &mut back, idle).await;
            progress.from_client.set(relayed.sent);
            progress.to_client.set(relayed.received);
        }
        Ok(received)
    }

    fn conclude(&mut self, received: Received, lent: Lent, target: &Target) -> Next {
        let uploaded = self.progress.uploaded.get();
        if received.upstream_reusable && uploaded {
            self.context.keep(lent, target);
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
        if let Broken::Upstream(Some(error)) = &broken {
            self.context.count_broken(error);
        }
        let failure = match broken {
            Broken::Client => Failure::client_gone(),
            Broken::RequestBody(error) => Failure::request(400, "http1.codec_error", error.to_string()),
            Broken::Upstream(error) if self.progress.answering.get() => Failure::upstream_broke_off(error.as_ref()),
            Broken::Upstream(error) => Failure::upstream_gone(error.as_ref()),
            Broken::Response(what) => Failure::upstream_protocol(&what),
            Broken::Idle => Failure::idle(),
        };
        Tried::Failed(failure)
    }

    /// Answers in the upstream's stead, or breaks the connection where an answer has begun.
    async fn answer(&mut self, failure: &Failure) -> Next {
        self.record.fail(failure);
        if self.progress.answering.get() || failure.status == 0 {
            return Next::Close(Close::Abort);
        }
        // Only behind a request that is known to be over can another one begin.
        let over = self.progress.uploaded.get() || self.request.head.body == crate::http::BodyLength::None;
        let keep_alive = over && self.request.head.keep_alive && !self.context.draining.get();
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
