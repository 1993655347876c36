//! Where one request goes: what the policy makes of it, and the answers that need no server.
//!
//! Nothing is sent here; only what the policy says of the request is known.

use std::net::IpAddr;

use super::Exchange;
use crate::config::Fault;
use crate::flow::{Host, ResponseFlags};
use crate::http::AmbiguousPath;
use crate::io;
use crate::policy::{Cluster, Decision, Denial, Facts, PolicyTable, Routed, TunnelRefusal};
use crate::proxy::failure::Failure;
use crate::proxy::routing::{self, Plan};
use crate::upstream::Target;

impl<'e> Exchange<'e, '_> {
    /// Where the request goes, and how; faults that a route injects are suffered here.
    pub(super) async fn plan(&mut self, host: &Host) -> Result<Plan<'e>, Failure> {
        let original = self.parties.destination;
        let table: &'e PolicyTable = self.table;
        match routing::viewed(host, self.request, |view| table.http_request(original, view)) {
            Routed::Unrouted(decision) => {
                let decision = self.fallen(host, decision);
                self.has_host_where_it_matters(&decision)?;
                let plan = self.plan_unrouted(&decision)?;
                self.audit(host, plan.target.cluster());
                Ok(plan)
            }
            Routed::Route(route, taken) => {
                self.record.route(&route.name, None);
                self.suffer(route.fault).await?;
                let plan = Plan::routed(route, taken, self.parties, self.request, self.context.random.draw())?;
                self.record.route(&route.name, Some(plan.target.name()));
                self.admit(host, &plan)?;
                Ok(plan)
            }
            Routed::NoRoute(_) => Err(Failure::no_route()),
            Routed::AmbiguousPath => Err(Failure::request(400, "path_normalization_failed", AmbiguousPath.to_string())),
        }
    }

    /// HTTP/1.0 without Host names nobody, like bytes that cannot be read: it does not pass where those would not.
    fn has_host_where_it_matters(&self, decision: &Decision<'_>) -> Result<(), Failure> {
        let dialled = self.parties.destination;
        if self.request.head.authority.is_some() || !matches!(decision, Decision::Passthrough) {
            return Ok(());
        }
        let Some(why) = self.table.must_be_read(dialled) else { return Ok(()) };
        self.context.counters.refused_protocol.increment();
        let message = format!(
            "a request without Host to {dialled}, which may be a host whose requests leave as TLS or are judged ({why}); \
             send Host"
        );
        Err(Failure::request(400, "missing_host_header", message))
    }

    /// # Errors
    /// The request may not go where its route sends it.
    fn admit(&self, host: &Host, plan: &Plan<'_>) -> Result<(), Failure> {
        let Some(cluster) = plan.target.cluster() else { return Ok(()) };
        let original = self.parties.destination;
        routing::viewed(host, self.request, |view| {
            self.table.admit_routed(cluster, original, view).map_err(|denial| {
                self.context.counters.refused_policy.increment();
                Failure::denied(&denial)
            })
        })?;
        self.audit(host, Some(cluster));
        Ok(())
    }

    fn audit(&self, host: &Host, cluster: Option<&Cluster>) {
        routing::viewed(host, self.request, |view| {
            self.context.audit(self.table, cluster, &Facts::of_request(self.parties.destination, view));
        });
    }

    /// The addresses of the target's name.
    pub(super) async fn find(&self, target: &Target<'_>, host: &Host) -> Result<Vec<IpAddr>, Failure> {
        let found = self.context.names.find(target, host, self.table, &self.context.guard).await;
        found.map_err(|unfound| {
            self.context.counters.names_unfound.increment();
            Failure::unfound(&unfound)
        })
    }

    /// Of bytes that happen to be a request, and that a `tcp` route splits.
    fn fallen(&self, host: &Host, decision: Decision<'e>) -> Decision<'e> {
        let table: &'e PolicyTable = self.table;
        if !matches!(decision, Decision::Split(_)) {
            return decision;
        }
        routing::viewed(host, self.request, |view| {
            table.fallen(decision, &Facts::of_request(self.parties.destination, view), self.context.random.draw())
        })
    }

    fn plan_unrouted(&mut self, decision: &Decision<'e>) -> Result<Plan<'e>, Failure> {
        let (name, cluster) = match decision {
            Decision::Forward(cluster) => ("default", cluster.name.as_str()),
            Decision::Split(split) => ("default", split.source.name.as_str()),
            Decision::ByName => ("allow_any", "AllowAnyDynamicDNSCluster"),
            Decision::Passthrough => ("allow_any", "PassthroughCluster"),
            Decision::Deny(denial) => {
                self.context.counters.refused_policy.increment();
                (if matches!(denial, Denial::BlackHole) { "block_all" } else { "default" }, denial.cluster())
            }
        };
        self.record.route(name, Some(cluster));
        Plan::unrouted(decision, self.parties, self.request)
    }

    /// A request for a tunnel: judged by where the tunnel leads, and passed on to the forward proxy at `host`.
    pub(super) fn plan_tunnel(&mut self, host: &Host) -> Result<Plan<'e>, Failure> {
        let table: &'e PolicyTable = self.table;
        let Some(authority) = &self.request.head.authority else { return Err(Failure::no_route()) };
        let refused = match (table.tunnel(authority), self.context.guard.check_tunnel(authority)) {
            (Ok(()), Ok(())) => {
                return self.plan_unrouted(&self.fallen(host, table.carrier(self.parties.destination, host)));
            }
            (Err(off @ TunnelRefusal::Off), _) => Failure::request(405, "connect_not_allowed", off.to_string()),
            (Err(refusal), _) => Failure::no_tunnel(403, "connect_denied", &refusal.to_string()),
            (_, Err(refusal)) => Failure::no_tunnel(403, "connect_denied", &refusal.to_string()),
        };
        self.context.counters.refused_policy.increment();
        Err(refused)
    }

    async fn suffer(&mut self, fault: Fault) -> Result<(), Failure> {
        let falls_on = |share: u32, dice: u64| dice % 1_000_000 < u64::from(share);
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
