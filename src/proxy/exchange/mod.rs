//! One request and its response: where it goes, over which connection, what if that fails, and what happens next.

mod ending;
mod planning;

use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use futures_lite::future;

use crate::config::{RequestIds, Settings};
use crate::flow::{Host, ResponseFlags};
use crate::grpc;
use crate::http::{RequestEdits, RouterEdits};
use crate::io;
use crate::policy::{Cluster, Outcome, PolicyTable};
use crate::proxy::clocks::overdue;
use crate::proxy::context::Context;
use crate::proxy::downstream::{Incoming, Reply, RequestBody};
use crate::proxy::exchange_error::ExchangeError;
use crate::proxy::failure::Failure;
use crate::proxy::formats::{Filled, Way};
use crate::proxy::held::Held;
use crate::proxy::mirror;
use crate::proxy::opaque::{self, End, RelayClocks};
use crate::proxy::peers::Peers;
use crate::proxy::progress::Progress;
use crate::proxy::record::RequestRecord;
use crate::proxy::request::{Request, response_head_limits};
use crate::proxy::request_id::RequestId;
use crate::proxy::routing::{Plan, Tries};
use crate::proxy::transfer::{self, Received, Reception};
use crate::upstream::{
    self, Bond, BondEnded, Carrier, Clocks, ConnectError, Outgoing, Reserved, Reuse, Security, Spoken, Target,
    TunnelEnd,
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
    let mut record = RequestRecord::new(peers);
    if request.head.request_id.is_none() && table.settings().request_id != RequestIds::Off {
        record.id = Some(RequestId::draw(&context.random));
    }
    let (progress, held) = (Progress::new(request), Held::new(request, &context.body_room));
    let mut exchange = Exchange {
        context,
        table,
        reserved,
        peers,
        request,
        body,
        reply,
        record,
        progress,
        complete: None,
        held,
        copies: Vec::new(),
        tunnel_end: None,
    };
    if let Err(failure) = exchange.attempt().await {
        exchange.answer(failure).await;
    }
    exchange.record.take_progress(&exchange.progress, exchange.complete_at());
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
    /// When the request was complete, as far as a try before this one knew.
    complete: Option<Instant>,
    held: Held<'e>,
    /// Where copies of the request are still to go.
    copies: Vec<Arc<Cluster>>,
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
        self.prepare(&tries, authenticates, wanted.spoken);
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
                Tried::Failed(failure) => return Err(failure),
                Tried::Stale => wanted.reuse = Reuse::Never,
                Tried::Unprocessed => {}
                Tried::NeedsHttp1 => {
                    wanted = Connection { reuse: wanted.reuse, ..self.connection(&plan, named, Spoken::Http1)? };
                }
                Tried::Again => self.back_off(&mut tries).await,
            }
            self.complete = self.complete.or(self.progress.uploaded_at.get());
            self.progress = Progress::new(self.request);
        }
    }

    /// Before any of the request has gone; `authenticates`: its connection; `spoken`: to the server.
    fn prepare(&mut self, tries: &Tries<'_>, authenticates: bool, spoken: Spoken) {
        self.complete = self.request.is_over_with_head().then_some(tries.begun);
        if authenticates {
            // They are for one server.
            self.copies.clear();
        } else if tries.want_body(spoken != Spoken::Http1) || !self.copies.is_empty() {
            self.held.want(self.request);
        }
    }

    /// When the whole request was here; never, of one that wants another protocol.
    fn complete_at(&self) -> Option<Instant> {
        let head = &self.request.head;
        let has_end = head.upgrade.is_none() && !head.is_connect();
        self.complete.or(self.progress.uploaded_at.get()).filter(|_| has_end)
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
        Err(failure.after(tries.made()).behind(limit_reached(spent) | tries.flags()))
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
            lent
        };
        let mut lending = pin!(lending);
        // A kept connection is there at once: nothing is prepared to wait for it.
        if let Some(had) = future::poll_once(lending.as_mut()).await {
            return had.map_err(|error| self.note_failure(&error));
        }
        let lending = async { Ok(lending.await) };
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
        let filled = self.fill(plan, carrier.address());
        let reception = Reception {
            request: request.head.context(),
            limits: response_head_limits(settings),
            edits: filled.as_ref().map_or(plan.response_edits(), |filled| &filled.response),
            is_unwanted: &|status, call| held.is_intact() && tries.after_status(status, call),
            // Who is authenticated by a connection must learn that it is over.
            is_bound: carrier.bond() == Bond::Authenticated,
            stamps: settings.envoy_headers && request.head.upgrade.is_none() && !request.head.is_connect(),
            complete: self.complete,
        };
        let first = held.replay(self.body.arrived()?);
        let is_over = self.body.is_complete();
        progress.has_carrier.set(true);
        progress.note_upload(self.body.payload(), is_over);
        progress.call.see_request(self.body.form(), first.as_ref());
        let (id, form) = (self.record.id, self.body.form());
        let router = RouterEdits { request_id: id.as_ref().map(RequestId::as_bytes) };
        let router = Some(router).filter(|_| settings.request_id == RequestIds::Send);
        let edits = request_edits(plan, carrier.address(), filled.as_deref(), router);
        let outgoing = Outgoing { head: &request.head, raw: &request.raw, edits, form, is_over };
        let (uplink, mut downlink, sending) = carrier.begin(outgoing, first.as_ref());
        drop(first);
        let received = {
            let mut download = pin!(transfer::download(reply, &mut downlink, reception, progress));
            let (body, mirrors) = (&mut self.body, &mut self.copies);
            let mut upload = pin!(async {
                let done = transfer::upload(body, uplink, sending, held, progress).await;
                if done.is_ok() && progress.uploaded.get() && !mirrors.is_empty() {
                    let original = (request, edits, form);
                    mirror::send(self.context, settings, original, held, self.peers, std::mem::take(mirrors));
                }
                done
            });
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
            self.relay(far).await;
        }
        Ok(received)
    }

    /// Carries what the protocol says that was switched to.
    async fn relay(&mut self, far: TunnelEnd<'_, '_>) {
        let clocks = RelayClocks { idle: Some(self.table.settings().idle_timeout), duration: None };
        let relayed = opaque::relay(self.body.tunnel(&self.reply), far, clocks).await;
        self.context.counters.count_expiry(&relayed.end);
        self.progress.from_client.set(relayed.sent);
        self.progress.to_client.set(relayed.received);
        self.tunnel_end = Some(relayed.end);
    }

    /// What the route's operators become for this request and `server`; `None` where it has none.
    fn fill(&self, plan: &Plan<'_>, server: SocketAddr) -> Option<Box<Filled>> {
        let formats = plan.formats()?;
        let (route, cluster) = self.record.way();
        let way = Way { peers: self.peers, server: Some(server), route, cluster, id: self.record.id.as_ref() };
        let fields = plan.request_edits(server).fields.unwrap_or(plan.response_edits());
        Some(Box::new(Filled::new(formats, (fields, plan.response_edits()), self.request, way)))
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
}

/// What changes of a request on its way to `server`.
fn request_edits<'r>(
    plan: &'r Plan<'_>,
    server: SocketAddr,
    filled: Option<&'r Filled>,
    router: Option<RouterEdits<'r>>,
) -> RequestEdits<'r> {
    let edits = plan.request_edits(server);
    let fields = filled.map(|filled| &filled.request).or(edits.fields);
    RequestEdits { fields, router, ..edits }
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
