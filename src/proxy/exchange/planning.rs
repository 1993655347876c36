//! Where one request goes: what the policy makes of it, and the answers that need no server.
//!
//! Nothing is sent here; only what the policy says of the request is known.

use std::net::IpAddr;

use super::{Connection, Exchange};
use crate::config::{Fault, falls_on};
use crate::flow::{Host, ResponseFlags};
use crate::io;
use crate::policy::{Content, Decision, Flow, PolicyTable, Refusal, Route, TunnelRefusal, Verdict};
use crate::proxy::audit;
use crate::proxy::failure::{self, Failure};
use crate::proxy::routing::{self, Plan};
use crate::tls::AlpnProtocol;
use crate::upstream::{Demand, Reuse, Spoken, Target};

impl<'e> Exchange<'e, '_> {
    /// Where the request goes, and how; faults that a route injects are suffered here.
    pub(super) async fn plan(&mut self, host: &Host) -> Result<Plan<'e>, Failure> {
        let verdict = self.ask(host);
        self.note_route(&verdict);
        if let Some(Route::Http(taken)) = &verdict.route {
            self.suffer(taken.route.fault).await?;
        }
        self.go(host, &verdict)
    }

    /// A request for a tunnel: judged by where the tunnel leads, and passed on to the forward proxy at `host`.
    pub(super) fn plan_tunnel(&mut self, host: &Host) -> Result<Plan<'e>, Failure> {
        let verdict = self.ask(host);
        if !matches!(verdict.decision, Decision::Refuse(Refusal::Tunnel(_)))
            && let Some(authority) = &self.request.head.authority
            && let Err(refusal) = self.context.guard.check_tunnel(authority)
        {
            self.context.counters.refused_policy.increment();
            let failure = Failure::by_policy(&Refusal::Tunnel(TunnelRefusal::NotDialled));
            return Err(Failure { body: refusal.to_string(), ..failure });
        }
        self.note_route(&verdict);
        self.go(host, &verdict)
    }

    fn ask(&self, host: &Host) -> Verdict<'e> {
        let (table, random): (&'e PolicyTable, _) = (self.table, self.context.random.draw());
        self.with_flow(host, |flow| table.decide(flow, random))
    }

    /// Gives `look` the request as a flow.
    fn with_flow<T>(&self, host: &Host, look: impl FnOnce(&Flow<'_>) -> T) -> T {
        let (head, destination) = (&self.request.head, self.peers.destination);
        routing::viewed(host, self.request, |view| {
            let content = match &head.authority {
                Some(end) if head.is_connect() => Content::Connect(end, view),
                _ => Content::Request(view),
            };
            look(&Flow { destination, content })
        })
    }

    fn note_route(&mut self, verdict: &Verdict<'e>) {
        let fields = verdict.log_fields();
        self.record.route(fields.route, fields.cluster);
    }

    fn go(&mut self, host: &Host, verdict: &Verdict<'e>) -> Result<Plan<'e>, Failure> {
        failure::count(verdict, &self.context.counters);
        let plan = Plan::of(verdict, self.peers, self.request)?;
        self.record.authority = plan.authority();
        self.copies = self.with_flow(host, |flow| {
            audit::tell(&self.context.counters, verdict, flow);
            match &verdict.route {
                Some(Route::Http(taken)) => self.table.copies(taken.route, flow, || self.context.random.draw()),
                Some(Route::Bytes(_)) | None => Vec::new(),
            }
        });
        Ok(plan)
    }

    /// The addresses of the target's name.
    pub(super) async fn find(&self, target: &Target<'_>, host: &Host) -> Result<Vec<IpAddr>, Failure> {
        let found = self.context.names.find(target, host, self.table, &self.context.guard).await;
        found.map_err(|unfound| {
            self.context.counters.names_unfound.increment();
            Failure::unfound(&unfound)
        })
    }

    /// What a connection for `named` must be like on which `spoken` is.
    ///
    /// # Errors
    /// TLS is wanted and cannot be had.
    pub(super) fn connection<'n>(
        &self,
        plan: &Plan<'e>,
        named: &'n Host,
        spoken: Spoken,
    ) -> Result<Connection<'n>, Failure>
    where
        'e: 'n,
    {
        let security = plan.target.security(named, spoken).map_err(|reason| {
            self.context.counters.refused_transport.increment();
            Failure::refused(&reason)
        })?;
        Ok(Connection { security, spoken, reuse: Reuse::Allowed })
    }

    /// What the request wants of the version of HTTP that its server is spoken to in.
    pub(super) fn demand(&self, authenticates: bool) -> Demand {
        let head = &self.request.head;
        // In HTTP/2 neither is a matter of a connection; a server that chooses may not know how it is done over a stream.
        let needs_http1 = authenticates || head.is_connect() || head.upgrade.is_some();
        let needs = match needs_http1 {
            true => Some(AlpnProtocol::Http1),
            // Its status stands in trailers, which many servers and proxies of HTTP/1.1 drop.
            false if self.progress.call.is_grpc() => Some(AlpnProtocol::Http2),
            false => None,
        };
        Demand { speaks: self.request.speaks(), needs }
    }

    /// Whether it can be sent again in HTTP/1.1: nothing of its answer has gone to the application.
    pub(super) fn may_go_as_http1(&self) -> bool {
        self.held.is_intact() && !self.progress.answering.get() && !self.progress.call.is_grpc()
    }

    async fn suffer(&mut self, fault: Fault) -> Result<(), Failure> {
        if let Some((delay, share)) = fault.delay
            && falls_on(share, self.context.random.draw())
        {
            self.record.add_flags(ResponseFlags::DELAY_INJECTED);
            io::sleep(delay).await;
        }
        match fault.abort {
            Some((status, share)) if falls_on(share, self.context.random.draw()) => Err(Failure::injected(status)),
            _ => Ok(()),
        }
    }
}
