//! One request and its response: where it goes, over which connection, what if that fails, and what happens next.

mod planning;

use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;

use futures_lite::future;

use crate::config::Settings;
use crate::flow::{Host, ResponseFlags};
use crate::grpc;
use crate::http2::{self, Reason};
use crate::io;
use crate::policy::{Outcome, PolicyTable};
use crate::proxy::clocks::{Clock, overdue};
use crate::proxy::context::Context;
use crate::proxy::downstream::{Incoming, Reply, RequestBody};
use crate::proxy::exchange_error::ExchangeError;
use crate::proxy::failure::Failure;
use crate::proxy::held::Held;
use crate::proxy::opaque::{self, End, RelayClocks};
use crate::proxy::peers::Peers;
use crate::proxy::progress::Progress;
use crate::proxy::record::RequestRecord;
use crate::proxy::request::{Request, head_limits};
use crate::proxy::routing::{Plan, Tries};
use crate::proxy::transfer::{self, Received, Reception};
use crate::upstream::{
    self, Bond, BondEnded, Carrier, Clocks, ConnectError, Outgoing, Reserved, Reuse, Security, Spoken, Target,
};

/// Carries one request to its end and logs it. What it makes of the application's connection, its reply knows.
pub async fn run(
    context: &Rc<Context>,
    table: &PolicyTable,
    reserved: &mut Reserved,
    peers: Peers,
    incoming: Incoming<'_, '_>,
) {
    let Incoming { request, body, reply } = incoming;
    let record = RequestRecord::new(peers);
    let (progress, held) = (Progress::new(request), Held::new(request, &context.body_room));
    let mut exchange =
        Exchange { context, table, reserved, peers, request, body, reply, record, progress, held, tunnel_end: None };
    if let Err(failure) = exchange.attempt().await {
        exchange.answer(&failure).await;
    }
    exchange.record.take_progress(&exchange.progress, request.at);
    context.counters.requests(exchange.record.status).increment();
    exchange.record.log(context, Some(request));
}

/// What a connection must be like.
#[derive(Clone, Copy)]
struct Connection<'c> {
    security: Security<'c>,
    spoken: Spoken,
    reuse: Reuse,
}

/// What came of one try on one connection.
enum Tried {
    Done,
    Failed(Failure),
    /// A kept connection died before it gave a byte: the request may be sent again on a new one.
    Stale,
    /// The server has not looked at the request: it may be sent again at once.
    Unprocessed,
    /// Nor here: it wants it in HTTP/1.1.
    NeedsHttp1,
    /// The route wants another try.
    Again,
}

struct Exchange<'e, 's> {
    context: &'e Rc<Context>,
    table: &'e PolicyTable,
    /// The servers' connections that this connection of the application has for itself.
    reserved: &'e mut Reserved,
    peers: Peers,
    request: &'e Request,
    body: RequestBody<'e, 's>,
    reply: Reply<'e>,
    record: RequestRecord<'e>,
    progress: Progress,
    held: Held<'e>,
    /// How the protocol that was switched to ended.
    tunnel_end: Option<End>,
}

impl<'e> Exchange<'e, '_> {
    /// # Errors
    /// What to answer instead of the upstream's response.
    async fn attempt(&mut self) -> Result<(), Failure> {
        let (head, dialled) = (&self.request.head, Host::Ip(self.peers.destination.ip()));
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
        let named = rewritten.as_ref().unwrap_or(host);
        let authenticates = self.request.head.authenticates_connection || plan.authenticates_connection();
        let mut wanted = self.connection(&plan, named, plan.target.spoken(self.demand(authenticates)))?;
        let _counted = upstream::begin(&plan.target).map_err(|error| self.note_failure(&error))?;
        let mut tries = plan.tries(self.request);
        if !authenticates && tries.want_body() {
            self.held.want(self.request);
        }
        let may_repeat = self.request.is_replayable() && tries.may_follow_stale();
        wanted.reuse = match (authenticates, may_repeat) {
            // Credentials for a connection: from before they are sent, it is one that nobody else has.
            (true, _) => Reuse::Never,
            (false, true) => Reuse::Allowed,
            // What cannot be sent a second time must not meet a connection that its server is just closing.
            (false, false) => Reuse::Recent,
        };
        loop {
            let mut carrier = match self.lend(&plan, &wanted, tries.begun).await {
                Ok(carrier) => carrier,
                Err(failure) => {
                    self.after_no_connection(failure, &plan, &mut tries).await?;
                    continue;
                }
            };
            if authenticates {
                let before = carrier.bond();
                carrier.note_credentials();
                self.note_bond(before, &carrier);
            }
            if carrier.bond() == Bond::Authenticated {
                tries.tie();
            }
            self.note_connection(&carrier);
            match self.carry(carrier, &plan, &mut tries).await {
                Tried::Done => {
                    if tries.is_spent() && tries.covers(self.progress.status.get(), self.progress.call.status()) {
                        self.record.add_flags(ResponseFlags::RETRY_LIMIT);
                    }
                    self.record.add_flags(tries.flags());
                    return Ok(());
                }
                Tried::Failed(failure) => {
                    let spent = tries.is_spent() && tries.covers_reset(true);
                    return Err(failure.with(limit_reached(spent) | tries.flags()));
                }
                Tried::Stale => wanted.reuse = Reuse::Never,
                Tried::Unprocessed => {}
                Tried::NeedsHttp1 => {
                    wanted = Connection { reuse: wanted.reuse, ..self.connection(&plan, named, Spoken::Http1)? };
                }
                Tried::Again => self.back_off(&mut tries).await,
            }
            self.progress = Progress::new(self.request);
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

    /// Counts and tells that nobody else gets `carrier`'s connection any more, if that is new.
    fn note_bond(&self, before: Bond, carrier: &Carrier<'_>) {
        if before == Bond::Free && carrier.bond() != Bond::Free {
            let (client, address) = (self.peers.client, carrier.address());
            self.context.counters.upstream_reserved.increment();
            tracing::debug!(%client, %address, "connection reserved: NTLM, Negotiate or Kerberos authenticates it");
        }
    }

    /// A connection, had within the route's time where the request is complete already.
    async fn lend(
        &mut self,
        plan: &Plan<'_>,
        connection: &Connection<'_>,
        begun: Instant,
    ) -> Result<Carrier<'e>, Failure> {
        let Connection { security, spoken, reuse } = connection;
        let upstreams = &self.context.upstreams;
        match upstreams.lend_reserved(self.reserved, &plan.target, security) {
            Ok(None) => {}
            Ok(Some(carrier)) => return Ok(carrier),
            Err(BondEnded) => return Err(Failure::bond_ended()),
        }
        let clocks = Clocks::of(self.table.settings());
        let lending = async {
            let lent = upstreams.lend(&plan.target, security, &clocks, *reuse, *spoken).await;
            if let Ok(carrier) = &lent
                && self.request.head.upgrade.is_some()
            {
                carrier.settled().await;
            }
            Ok(lent)
        };
        let waited = interrupted(&self.reply, &self.progress, self.table.settings(), self.request.at);
        let timeout = plan.timeout(self.request).filter(|_| self.request.is_over_with_head());
        let overdue = async {
            self.progress.overdue(timeout, Some(begun)).await;
            Err(ExchangeError::Timeout)
        };
        match future::or(lending, future::or(async { Err(waited.await) }, overdue)).await {
            Ok(had) => had.map_err(|error| self.note_failure(&error)),
            Err(error) => Err(self.failure_of(error)),
        }
    }

    async fn back_off(&mut self, tries: &mut Tries<'_>) {
        self.context.counters.requests_retried.increment();
        io::sleep(tries.take()).await;
    }

    fn note_failure(&mut self, error: &ConnectError) -> Failure {
        self.context.counters.count_connect_error(error);
        self.record.upstream = error.address();
        let mut failure = Failure::connect(error);
        failure.may_pass = error.may_pass();
        failure
    }

    fn note_connection(&mut self, carrier: &Carrier<'_>) {
        if carrier.is_reused() {
            self.context.counters.upstream_reused.increment();
        } else {
            self.context.counters.count_connect(carrier.negotiated());
        }
        self.record.upstream = Some(carrier.address());
        self.record.upstream_local = carrier.local();
    }

    async fn carry(&mut self, mut carrier: Carrier<'e>, plan: &Plan<'_>, tries: &mut Tries<'_>) -> Tried {
        match self.transfer(&mut carrier, plan, tries).await {
            Ok(received) if received.upgraded => {
                upstream::note(&plan.target, carrier.address(), Outcome::Answered(101));
                self.end_tunnel(carrier).await;
                Tried::Done
            }
            Ok(received) => {
                self.conclude(received, carrier, &plan.target);
                Tried::Done
            }
            Err(error) => Box::pin(self.give_up(error, carrier, &plan.target, tries)).await,
        }
    }

    /// Sends the request and passes the response on, both at once: a server may answer before it has read everything,
    /// and a client may wait for the answer before it sends everything.
    async fn transfer(
        &mut self,
        carrier: &mut Carrier<'_>,
        plan: &Plan<'_>,
        tries: &Tries<'_>,
    ) -> Result<Received, ExchangeError> {
        let (request, reply, progress, held) = (self.request, &self.reply, &self.progress, &self.held);
        let settings = self.table.settings();
        let reception = Reception {
            request: request.head.context(),
            limits: head_limits(settings),
            edits: plan.response_edits(),
            is_unwanted: &|status, call| held.is_intact() && tries.after_status(status, call),
            // Who is authenticated by a connection must learn that it is over.
            is_bound: carrier.bond() == Bond::Authenticated,
        };
        let first = held.replay(self.body.arrived()?);
        let is_over = self.body.is_complete();
        progress.has_carrier.set(true);
        progress.note_upload(first.len(), is_over);
        progress.call.see_request(self.body.form(), first.as_ref());
        let (edits, form) = (plan.request_edits(carrier.address()), self.body.form());
        let outgoing = Outgoing { head: &request.head, raw: &request.raw, edits, form, is_over };
        let (uplink, mut downlink, sending) = carrier.begin(outgoing, first.as_ref());
        drop(first);
        let received = {
            let mut download = pin!(transfer::download(reply, &mut downlink, reception, progress));
            let mut upload = pin!(transfer::upload(&mut self.body, uplink, sending, held, progress));
            let both = async {
                let first = future::or(async { Err(upload.as_mut().await) }, async { Ok(download.as_mut().await) });
                match first.await {
                    Ok(received) => received,
                    Err(Ok(())) => download.as_mut().await,
                    Err(Err(error)) => Err(error),
                }
            };
            let overdue = async {
                progress.overdue(plan.timeout(request), request.is_over_with_head().then_some(tries.begun)).await;
                Err(ExchangeError::Timeout)
            };
            let too_slow = async {
                progress.overdue(tries.timeout, None).await;
                Err(ExchangeError::TryTimeout)
            };
            let waited = interrupted(reply, progress, settings, request.at);
            let too_late = future::or(async { Err(waited.await) }, future::or(overdue, too_slow));
            future::or(both, too_late).await?
        };
        if received.upgraded
            && let Some(far) = downlink.tunnel()
        {
            let clocks = RelayClocks { idle: Some(settings.idle_timeout), duration: None };
            let relayed = opaque::relay(self.body.tunnel(&self.reply), far, clocks).await;
            self.context.counters.count_expiry(&relayed.end);
            progress.from_client.set(relayed.sent);
            progress.to_client.set(relayed.received);
            self.tunnel_end = Some(relayed.end);
        }
        Ok(received)
    }

    fn conclude(&mut self, received: Received, mut carrier: Carrier<'_>, target: &Target<'_>) {
        // A call's own status counts where there is one, as in Envoy.
        let answered = self.progress.call.status().map_or(self.progress.status.get(), grpc::Status::as_http);
        upstream::note(target, carrier.address(), Outcome::Answered(answered));
        let before = carrier.bond();
        carrier.note_answer(received.challenges_connection);
        self.note_bond(before, &carrier);
        let bond = carrier.bond();
        let is_kept = match bond {
            _ if !received.upstream_reusable || !self.progress.uploaded.get() => {
                carrier.close();
                false
            }
            Bond::Free => {
                self.context.upstreams.give_back(carrier, target, received.keeps_for);
                true
            }
            Bond::Challenged | Bond::Authenticated => {
                self.context.upstreams.reserve(carrier, target, received.keeps_for, self.reserved)
            }
        };
        if bond == Bond::Authenticated && !is_kept {
            self.reply.end_with_bond();
        } else {
            self.reply.end();
        }
    }

    /// Ends the upstream connection and decides between another try, an answer of egret's own, and a broken connection.
    async fn give_up(
        &mut self,
        error: ExchangeError,
        carrier: Carrier<'_>,
        target: &Target<'_>,
        tries: &mut Tries<'_>,
    ) -> Tried {
        let (address, bond, heard) = (carrier.address(), carrier.bond(), self.progress.heard.get());
        let (was_sent, is_stream) = (carrier.was_sent(), matches!(carrier, Carrier::Http2(_)));
        let stale = matches!(error, ExchangeError::Upstream(_)) && carrier.is_reused() && !heard;
        if stale {
            self.context.upstreams.note_closed(&carrier);
        }
        carrier.abort().await;
        if stale && self.request.is_replayable() && tries.after_stale(was_sent) {
            self.context.counters.requests_retried.increment();
            // At once: the connection was over before the request, and says nothing of the server.
            tries.take();
            return if is_stream { Tried::Unprocessed } else { Tried::Stale };
        }
        if matches!(error, ExchangeError::Refused(_)) && self.held.is_intact() && tries.after_refusal() {
            self.context.counters.requests_retried.increment();
            // At once: it says nothing of the server, but that this connection takes no more.
            tries.take();
            return Tried::Unprocessed;
        }
        if matches!(error, ExchangeError::Reset(Reason::HTTP_1_1_REQUIRED))
            && target.may_speak_http1()
            && self.may_go_as_http1()
            && tries.after_refusal()
        {
            self.context.counters.requests_retried.increment();
            tries.take();
            return Tried::NeedsHttp1;
        }
        if stale && bond == Bond::Authenticated {
            return Tried::Failed(Failure::bond_ended());
        }
        if let Some(outcome) = error.outcome() {
            upstream::note(target, address, outcome);
        }
        let again = match error {
            ExchangeError::Unwanted(_) => true,
            ExchangeError::Upstream(_) | ExchangeError::Reset(_) | ExchangeError::TryTimeout => {
                tries.after_reset(was_sent)
            }
            ExchangeError::Refused(_) => tries.after_reset(false),
            _ => false,
        };
        if again && self.held.is_intact() && !self.progress.answering.get() {
            return Tried::Again;
        }
        Tried::Failed(self.failure_of(error))
    }

    fn failure_of(&self, error: ExchangeError) -> Failure {
        let counters = &self.context.counters;
        if let ExchangeError::Upstream(Some(error)) = &error {
            self.context.counters.count_broken(error);
        }
        match error {
            ExchangeError::Client => Failure::client_gone(),
            ExchangeError::RequestBody(error) => Failure::request(400, "http1.codec_error", error.to_string()),
            ExchangeError::Upstream(error) if self.progress.answering.get() => {
                Failure::upstream_broke_off(error.as_ref())
            }
            ExchangeError::Upstream(error) => Failure::upstream_gone(error.as_ref()),
            ExchangeError::Response(what) => Failure::upstream_protocol(&what),
            ExchangeError::Unsayable(what) => Failure::unsayable(&what),
            ExchangeError::Refused(why) => Failure::upstream_reset("remote refused stream reset", &why),
            ExchangeError::Reset(reason) if self.progress.answering.get() => {
                Failure::upstream_reset_late(http2::reason_name(reason))
            }
            ExchangeError::Reset(reason) => Failure::upstream_reset("remote reset", http2::reason_name(reason)),
            ExchangeError::Timeout => Failure::timeout(),
            ExchangeError::TryTimeout | ExchangeError::Unwanted(_) => Failure::per_try_timeout(),
            ExchangeError::Overdue(clock) => {
                let counter = match clock {
                    Clock::Idle => &counters.timeouts_idle,
                    Clock::RequestBody => &counters.timeouts_body,
                    Clock::Response => &counters.timeouts_response,
                };
                counter.increment();
                // Before there is a connection nobody waits for the application.
                let is_complete = !self.progress.has_carrier.get() || self.body.has_come();
                Failure::overdue(clock, is_complete)
            }
        }
    }

    /// Ends a tunnel's upstream side as the application's ended, and then the application's.
    async fn end_tunnel(&mut self, upstream: Carrier<'_>) {
        let (flags, is_orderly) = match self.tunnel_end.take() {
            None | Some(End::Complete) => (ResponseFlags::default(), true),
            Some(End::Idle) => {
                self.record.end_tunnel("stream_idle_timeout");
                (ResponseFlags::STREAM_IDLE_TIMEOUT, true)
            }
            Some(End::Duration) => (ResponseFlags::DURATION_TIMEOUT, true),
            Some(End::Client(_)) => (ResponseFlags::DOWNSTREAM_CLOSED, false),
            Some(End::Upstream(_)) => (ResponseFlags::UPSTREAM_CLOSED, false),
        };
        self.record.add_flags(flags);
        if is_orderly {
            upstream.close();
            self.reply.end();
        } else {
            upstream.abort().await;
            self.reply.reset();
        }
    }

    /// Answers in the upstream's stead, or breaks off an answer that has begun.
    async fn answer(&mut self, failure: &Failure) {
        self.record.fail(failure);
        if self.progress.answering.get() || failure.status == 0 {
            self.reply.reset();
        } else {
            let answered = self.reply.answer(failure).await;
            self.record.note_answer(answered);
        }
    }
}

/// Resolves when nobody waits for the answer any more, or it has taken too long. An application that has only finished
/// sending (FIN) still waits.
async fn interrupted(reply: &Reply<'_>, progress: &Progress, settings: &Settings, since: Instant) -> ExchangeError {
    let gone = async {
        reply.lost().await;
        ExchangeError::Client
    };
    future::or(gone, async { ExchangeError::Overdue(overdue(progress, settings, since).await) }).await
}

fn limit_reached(reached: bool) -> ResponseFlags {
    if reached { ResponseFlags::RETRY_LIMIT } else { ResponseFlags::default() }
}
