//! One request and its response: where it goes, over which connection, what if that fails, and what happens next.

mod planning;

use std::pin::pin;
use std::rc::Rc;
use std::time::{Instant, SystemTime};

use futures_lite::future;

use crate::config::Settings;
use crate::flow::{Host, ResponseFlags};
use crate::http::{BodyLength, ClientContext, Method, ReplyOptions, ResponseHead, Version, local_reply_with};
use crate::io;
use crate::policy::{Outcome, PolicyTable};
use crate::proxy::clocks::{Clock, overdue};
use crate::proxy::connection::{Close, Parties};
use crate::proxy::context::Context;
use crate::proxy::failure::Failure;
use crate::proxy::held::Held;
use crate::proxy::http1::{self, Request};
use crate::proxy::opaque::{self, End, RelayClocks};
use crate::proxy::reader::Reader;
use crate::proxy::record::RequestRecord;
use crate::proxy::routing::{Plan, Tries};
use crate::proxy::transfer::{self, Broken, Progress, Received, Reception};
use crate::upstream::{self, Bond, BondEnded, Clocks, ConnectError, Lent, Reserved, Reuse, Security, Stream, Target};

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
    reserved: &mut Reserved,
    parties: Parties,
    request: &Request,
) -> Next {
    let record = RequestRecord::new(parties);
    let (progress, held) = (Progress::new(), Held::new(request, &context.body_room));
    let mut exchange =
        Exchange { context, table, reader, reserved, parties, request, record, progress, held, tunnel_end: None };
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
    /// The route wants another try.
    Again,
}

struct Exchange<'e, 's> {
    context: &'e Rc<Context>,
    table: &'e PolicyTable,
    reader: &'e mut Reader<'s>,
    /// The servers' connections that this connection of the application has for itself.
    reserved: &'e mut Reserved,
    parties: Parties,
    request: &'e Request,
    record: RequestRecord<'e>,
    progress: Progress,
    held: Held<'e>,
    /// How the protocol that was switched to ended.
    tunnel_end: Option<End>,
}

impl Exchange<'_, '_> {
    /// # Errors
    /// What to answer instead of the upstream's response.
    async fn attempt(&mut self) -> Result<Next, Failure> {
        let (head, dialled) = (&self.request.head, Host::Ip(self.parties.destination.ip()));
        let host = match &head.authority {
            // It names where the tunnel leads; the request itself goes where the application connected to.
            Some(authority) if !head.is_connect() => &authority.host,
            _ => &dialled,
        };
        let found;
        let mut plan = if head.is_connect() { self.plan_tunnel(host)? } else { self.plan(host).await? };
        if plan.target.is_by_name() {
            found = Box::pin(self.find(&plan.target, host)).await?;
            plan.target = plan.target.at(&found);
        }
        let rewritten = plan.rewritten_host();
        let security = plan.target.security(rewritten.as_ref().unwrap_or(host));
        let security = security.map_err(|reason| self.refuse_transport(&reason))?;
        let _counted = upstream::begin(&plan.target).map_err(|error| self.note_failure(&error))?;
        let mut tries = plan.tries();
        let authenticates = self.request.head.authenticates_connection || plan.authenticates_connection();
        if !authenticates && tries.want_body() {
            self.held.want(self.request);
        }
        let may_repeat = transfer::is_replayable(self.request) && tries.may_follow_stale();
        let mut reuse = match (authenticates, may_repeat) {
            // Credentials for a connection: from before they are sent, it is one that nobody else has.
            (true, _) => Reuse::Never,
            (false, true) => Reuse::Allowed,
            // What cannot be sent a second time must not meet a connection that its server is just closing.
            (false, false) => Reuse::Recent,
        };
        loop {
            let mut lent = match self.lend(&plan, &security, reuse, tries.begun).await {
                Ok(lent) => lent,
                Err(failure) => {
                    self.after_no_connection(failure, &plan, &mut tries).await?;
                    continue;
                }
            };
            if authenticates {
                let before = lent.bond();
                lent.note_credentials();
                self.note_bond(before, &lent);
            }
            if lent.bond() == Bond::Authenticated {
                tries.tie();
            }
            self.note_connection(&lent);
            match self.carry(lent, &plan, &mut tries).await {
                Tried::Done(next) => {
                    if tries.is_spent() && tries.covers(self.progress.status.get()) {
                        self.record.add_flags(ResponseFlags::RETRY_LIMIT);
                    }
                    self.record.add_flags(tries.flags());
                    return Ok(next);
                }
                Tried::Failed(failure) => {
                    let spent = tries.is_spent() && tries.covers_reset(true);
                    return Err(failure.with(limit_reached(spent) | tries.flags()));
                }
                Tried::Stale => reuse = Reuse::Never,
                Tried::Again => self.back_off(&mut tries).await,
            }
            self.progress = Progress::new();
        }
    }

    /// Waits for the next try where there is one.
    ///
    /// # Errors
    /// There is none.
    async fn after_no_connection(
        &mut self,
        failure: Failure,
        plan: &Plan<'_>,
        tries: &mut Tries<'_>,
    ) -> Result<(), Failure> {
        if failure.may_pass {
            tries.pass_over(plan.target.address_count().saturating_sub(1));
            if tries.after_connect_failure() {
                self.back_off(tries).await;
                return Ok(());
            }
        }
        let spent = failure.may_pass && tries.is_spent() && tries.covers_connect_failure();
        Err(failure.with(limit_reached(spent) | tries.flags()))
    }

    /// Counts and tells that nobody else gets `lent` any more, if that is new.
    fn note_bond(&self, before: Bond, lent: &Lent) {
        if before == Bond::Free && lent.bond() != Bond::Free {
            let (client, address) = (self.parties.client, lent.address());
            self.context.counters.upstream_reserved.increment();
            tracing::debug!(%client, %address, "connection reserved: NTLM, Negotiate or Kerberos authenticates it");
        }
    }

    /// A connection, had within the route's time where the request is complete already.
    async fn lend(
        &mut self,
        plan: &Plan<'_>,
        security: &Security<'_>,
        reuse: Reuse,
        begun: Instant,
    ) -> Result<Lent, Failure> {
        match self.context.upstreams.lend_reserved(self.reserved, &plan.target, security) {
            Ok(None) => {}
            Ok(Some(lent)) => return Ok(lent),
            Err(BondEnded) => return Err(Failure::bond_ended()),
        }
        let clocks = Clocks::of(self.table.settings());
        let lending = async { Ok(self.context.upstreams.lend(&plan.target, security, &clocks, reuse).await) };
        let waited = interrupted(self.reader.stream(), &self.progress, self.table.settings(), self.request.at);
        let timeout = plan.timeout().filter(|_| transfer::is_over_with_head(self.request));
        let overdue = async {
            self.progress.overdue(timeout, Some(begun)).await;
            Err(Broken::Timeout)
        };
        match future::or(lending, future::or(async { Err(waited.await) }, overdue)).await {
            Ok(lent) => lent.map_err(|error| self.note_failure(&error)),
            Err(broken) => Err(self.failure_of(broken)),
        }
    }

    async fn back_off(&mut self, tries: &mut Tries<'_>) {
        self.context.counters.requests_retried.increment();
        io::sleep(tries.take()).await;
    }

    fn refuse_transport(&self, reason: &str) -> Failure {
        self.context.counters.refused_transport.increment();
        Failure::refused(reason)
    }

    fn note_failure(&mut self, error: &ConnectError) -> Failure {
        self.context.count_connect_error(error);
        self.record.upstream = error.address();
        let mut failure = Failure::connect(error);
        failure.may_pass = error.address().is_some();
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

    async fn carry(&mut self, lent: Lent, plan: &Plan<'_>, tries: &mut Tries<'_>) -> Tried {
        let sent_before = lent.stream.socket().bytes_sent();
        match self.transfer(&lent, plan, tries).await {
            Ok(received) if received.upgraded => {
                upstream::note(&plan.target, lent.address(), Outcome::Answered(101));
                // Whatever it carried, it was not HTTP: it never carries another request.
                let upstream = self.context.upstreams.discard(lent);
                Tried::Done(Next::Close(self.end_tunnel(upstream).await))
            }
            Ok(received) => Tried::Done(self.conclude(received, lent, &plan.target)),
            Err(broken) => {
                let was_sent = lent.stream.socket().bytes_sent() > sent_before;
                Box::pin(self.give_up(broken, lent, &plan.target, tries, was_sent)).await
            }
        }
    }

    /// Sends the request and passes the response on, both at once: a server may answer before it has read everything,
    /// and a client may wait for the answer before it sends everything.
    async fn transfer(&mut self, lent: &Lent, plan: &Plan<'_>, tries: &Tries<'_>) -> Result<Received, Broken> {
        let (context, request, progress, held) = (self.context, self.request, &self.progress, &self.held);
        let client = self.reader.stream();
        let mut back = Reader::new(&lent.stream);
        // Bytes that were meant for a tunnel must not be read as a request when there will be none.
        let is_astray = request.head.is_connect() && !self.reader.bytes().is_empty();
        // Who is authenticated by a connection must learn that it is over.
        let ends_with_upstream = lent.bond() == Bond::Authenticated;
        let to_client = |answer: &ResponseHead| ClientContext {
            version: request.head.version,
            keep_alive: request.head.keep_alive
                && progress.uploaded.get()
                && !context.drain.has_begun()
                && !is_astray
                && (answer.keep_alive || !ends_with_upstream),
        };
        let settings = self.table.settings();
        let is_over = transfer::is_over_with_head(request);
        let waited = interrupted(client, progress, settings, request.at);
        let received = {
            let reception = Reception {
                limits: http1::limits(settings),
                edits: plan.response_edits(),
                is_unwanted: &|status| held.is_intact() && tries.after_status(status),
            };
            let edits = plan.request_edits(lent.address());
            let mut download = pin!(transfer::download(client, &mut back, request, to_client, reception, progress));
            let mut upload = pin!(transfer::upload(request, self.reader, &lent.stream, edits, held, progress));
            let both = async {
                let first = future::or(async { Err(upload.as_mut().await) }, async { Ok(download.as_mut().await) });
                match first.await {
                    Ok(received) => received,
                    Err(Ok(())) => download.as_mut().await,
                    Err(Err(broken)) => Err(broken),
                }
            };
            let overdue = async {
                progress.overdue(plan.timeout(), is_over.then_some(tries.begun)).await;
                Err(Broken::Timeout)
            };
            let too_slow = async {
                progress.overdue(tries.timeout, None).await;
                Err(Broken::TryTimeout)
            };
            let too_late = future::or(async { Err(waited.await) }, future::or(overdue, too_slow));
            future::or(both, too_late).await?
        };
        if received.upgraded {
            let clocks = RelayClocks { idle: Some(settings.idle_timeout), duration: None };
            let relayed = opaque::relay(self.reader, &mut back, clocks).await;
            self.context.count_expiry(&relayed.end);
            progress.from_client.set(relayed.sent);
            progress.to_client.set(relayed.received);
            self.tunnel_end = Some(relayed.end);
        }
        Ok(received)
    }

    fn conclude(&mut self, received: Received, mut lent: Lent, target: &Target<'_>) -> Next {
        let uploaded = self.progress.uploaded.get();
        upstream::note(target, lent.address(), Outcome::Answered(self.progress.status.get()));
        let before = lent.bond();
        lent.note_answer(received.challenges_connection);
        self.note_bond(before, &lent);
        let bond = lent.bond();
        let is_kept = match bond {
            _ if !received.upstream_reusable || !uploaded => {
                self.context.upstreams.discard(lent).close();
                false
            }
            Bond::Free => {
                self.context.keep(lent, target, received.keeps_for);
                true
            }
            Bond::Challenged | Bond::Authenticated => {
                self.context.upstreams.reserve(lent, target, received.keeps_for, self.reserved)
            }
        };
        if bond == Bond::Authenticated && !is_kept {
            return Next::Close(Close::Gently);
        }
        let head = &self.request.head;
        let is_last = head.version == Version::Http11 && !head.keep_alive && self.reader.bytes().is_empty();
        match (received.client_keep_alive, uploaded) {
            (true, true) => Next::Request,
            // The application itself said that it sends nothing more.
            (false, true) if is_last => Next::Close(Close::Orderly),
            // The rest of the request is still coming, or another one; the answer must survive it.
            _ => Next::Close(Close::Gently),
        }
    }

    /// Ends the upstream connection and decides between another try, an answer of egret's own, and a broken connection.
    async fn give_up(
        &mut self,
        broken: Broken,
        lent: Lent,
        target: &Target<'_>,
        tries: &mut Tries<'_>,
        was_sent: bool,
    ) -> Tried {
        let (address, bond, heard) = (lent.address(), lent.bond(), self.progress.heard.get());
        let stale = matches!(broken, Broken::Upstream(_)) && lent.is_reused() && !heard;
        if stale {
            self.context.upstreams.note_closed(&lent);
        }
        self.context.upstreams.discard(lent).abort().await;
        if stale && transfer::is_replayable(self.request) && tries.after_stale(was_sent) {
            self.context.counters.requests_retried.increment();
            // At once: the connection was over before the request, and says nothing of the server.
            tries.take();
            return Tried::Stale;
        }
        if stale && bond == Bond::Authenticated {
            return Tried::Failed(Failure::bond_ended());
        }
        if let Some(outcome) = broken.outcome() {
            upstream::note(target, address, outcome);
        }
        let again = match broken {
            Broken::Unwanted(_) => true,
            Broken::Upstream(_) | Broken::TryTimeout => tries.after_reset(was_sent),
            _ => false,
        };
        if again && self.held.is_intact() && !self.progress.answering.get() {
            return Tried::Again;
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
            Broken::Timeout => Failure::timeout(),
            Broken::TryTimeout | Broken::Unwanted(_) => Failure::per_try_timeout(),
            Broken::Overdue(clock) => {
                let counter = match clock {
                    Clock::Idle => &counters.timeouts_idle,
                    Clock::RequestBody => &counters.timeouts_body,
                    Clock::Response => &counters.timeouts_response,
                };
                counter.increment();
                Failure::overdue(clock, self.progress.uploaded.get() || transfer::is_over_with_head(self.request))
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
        if self.progress.answering.get() {
            // What came is delivered. Its framing shows what is missing; where it cannot, the end must not look like one.
            return Next::Close(if self.progress.shows_end.get() { Close::Gently } else { Close::Abort });
        }
        if failure.status == 0 {
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
        let fields = failure.fields.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let reply = local_reply_with(failure.status, &fields.collect::<Vec<_>>(), &failure.body, options);
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
        client.lost().await;
        Broken::Client
    };
    future::or(gone, async { Broken::Overdue(overdue(progress, settings, since).await) }).await
}

fn limit_reached(reached: bool) -> ResponseFlags {
    if reached { ResponseFlags::RETRY_LIMIT } else { ResponseFlags::default() }
}
