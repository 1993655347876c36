//! A cluster from all that documents say of one port of one host.
//!
//! Whatever it lacks refuses this cluster alone.

use crate::config::{
    Endpoint, EndpointAddress, HostPattern, LoadBalancer, Location, Meta, PortPolicy, PortProtocol, Resolution,
    TlsMode, TunnelProtocol,
};
use crate::policy::compile::cluster::endpoints::{endpoints, in_mesh_tls};
use crate::policy::compile::cluster::localities::arrange;
use crate::policy::compile::cluster::origination::{Wanted, wanted_by};
use crate::policy::compile::compiler::Compiler;
use crate::policy::compile::select::rules::Rules;
use crate::policy::lint;
use crate::policy::service::{PayloadKind, Service};
use crate::policy::table::cluster::{Cluster, ClusterProtocol, Endpoints, Origin, Source, Transport};
use crate::policy::table::destination_guard::DestinationGuard;
use crate::tls::ProfileRequest;

impl Compiler<'_> {
    pub(in crate::policy) fn cluster(
        &mut self,
        service: &Service<'_>,
        subset: &str,
        protocol: ClusterProtocol,
        payload: PayloadKind,
    ) -> Cluster {
        let Service { entry, host, port, policy, .. } = *service;
        let balancing = policy.and_then(|policy| policy.load_balancer.clone());
        // The addresses of one name are no endpoints that could be told apart for long.
        let balancing = balancing.filter(|_| entry.resolution != Resolution::DynamicDns).unwrap_or_default();
        let mut found = endpoints(entry, host, port, balancing.by, self.materials, &mut self.problems);
        if let Ok(Endpoints::Resolved(sources)) = &mut found {
            let watched = policy.is_some_and(|policy| policy.outlier_detection.is_some());
            let setting = balancing.locality.as_ref();
            if let (Err(message), Some(setting)) = (arrange(sources, entry, setting, watched, self.workload), setting) {
                self.problems.warn(&setting.at, format!("localityLbSetting {message}"));
            }
            if sources.is_empty() {
                found = Err("localityLbSetting leaves none of its endpoints".to_owned());
            }
        }
        let (endpoints, (transport, tls_request)) = match found {
            Ok(endpoints) => {
                let transport = match self.tunnel_refusal(service, &endpoints, payload) {
                    None => self.transport(service, subset, payload),
                    Some(reason) => self.refused(service, &reason),
                };
                (endpoints, transport)
            }
            Err(reason) => (Endpoints::Resolved(Vec::new()), self.refused(service, &reason)),
        };
        let is_silent = matches!(transport, Transport::Refused(_)) || self.is_routed_away(service, subset, payload);
        let requests = if is_silent { lint::Requests::Never } else { lint::Requests::Leave };
        lint::of_service(service, &endpoints, payload, requests, &mut self.problems);
        lint::of_version(service, protocol, payload, &mut self.problems);
        let name = format!("outbound|{}|{subset}|{host}", port.number);
        Cluster {
            occupancy: self.materials.occupancy(&name),
            outlier_detection: policy
                .and_then(|policy| policy.outlier_detection.clone())
                .filter(|_| endpoints.can_choose()),
            health: self.materials.health(&name),
            name,
            host: host.to_string(),
            protocol,
            endpoints,
            transport,
            tls_request,
            balancing,
            tunnel: policy.and_then(|policy| policy.tunnel.clone()),
            proxy_protocol: policy.and_then(|policy| policy.proxy_protocol),
            limits: PortPolicy::limits(policy),
            close_notify: service
                .rule
                .and_then(|(rule, _)| rule.meta.close_notify())
                .or(service.entry.meta.close_notify())
                .unwrap_or(self.table.settings.close_notify),
            index: self.table.clusters.len(),
            destination_guard: self.destination_guard(service, protocol),
            listed: entry.addresses.clone(),
            authorization: self.authorization_policies.of_entry(service.entry, &mut self.problems),
            origin: self.origin(service),
        }
    }

    /// Whether all requests to the port go elsewhere, by routes.
    fn is_routed_away(&self, service: &Service<'_>, subset: &str, payload: PayloadKind) -> bool {
        // A cluster of a subset is there because a route leads to it.
        matches!(payload, PayloadKind::Http1 | PayloadKind::Http2)
            && subset.is_empty()
            && self.routed_away.to_subsets(service.host, service.port.number)
    }

    fn destination_guard(&mut self, service: &Service<'_>, protocol: ClusterProtocol) -> DestinationGuard {
        // Bytes that no name led here may be of any of the entry's hosts.
        let by_name = matches!(service.port.protocol, PortProtocol::Https | PortProtocol::Tls);
        let hosts = match protocol {
            ClusterProtocol::Opaque if !by_name => &service.entry.hosts[..],
            _ => std::slice::from_ref(service.host),
        };
        let names = hosts.iter().filter_map(|host| match host {
            HostPattern::Exact(name) => Some(name),
            HostPattern::Wildcard(_) | HostPattern::PartialWildcard(_) | HostPattern::Any => None,
        });
        let follows = service.entry.resolution == Resolution::None
            || service
                .policy
                .and_then(|policy| policy.load_balancer.as_ref())
                .is_some_and(|balancing| balancing.by == LoadBalancer::Passthrough);
        let strict = self.table.settings.strict && follows;
        DestinationGuard {
            listed: if follows { service.entry.addresses.clone() } else { Vec::new() },
            bound: strict.then(|| names.map(|name| self.materials.bound_addresses(name)).collect()),
        }
    }

    fn refused(&mut self, service: &Service<'_>, reason: &str) -> (Transport, Option<ProfileRequest>) {
        let (host, port) = (service.host, service.port.number);
        self.problems.warn(&service.entry.meta.at, format!("{host} is refused on port {port}: {reason}"));
        (Transport::Refused(reason.into()), None)
    }

    /// Why a tunnel cannot be had that the policy asks for.
    fn tunnel_refusal(&mut self, service: &Service<'_>, endpoints: &Endpoints, payload: PayloadKind) -> Option<String> {
        let tunnel = service.policy?.tunnel.as_ref()?;
        if tunnel.protocol == TunnelProtocol::Post {
            return Some("tunnel protocol POST is not supported: use CONNECT".to_owned());
        }
        let (PayloadKind::Http1 | PayloadKind::Http2, Endpoints::Resolved(sources)) = (payload, endpoints) else {
            return None;
        };
        // The connection to the proxy is plain here, where its own rule might want another.
        let wants_tls = |proxy: &HostPattern, port: u16, rules: &mut Rules<'_>| {
            let (rule, _) = rules.select(proxy, self.workload.namespace_of(&service.entry.meta), port)?;
            let tls = rule.traffic_policy.as_ref()?.of_port(port).tls.as_ref()?;
            (tls.mode != TlsMode::Disable).then_some(())
        };
        sources.iter().find_map(|source| {
            let EndpointAddress::Name(name) = &source.configured else { return None };
            let proxy = HostPattern::Exact(name.clone());
            if proxy == *service.host {
                return None;
            }
            wants_tls(&proxy, source.port, &mut self.rules)?;
            Some(format!(
                "its requests go through the forward proxy {name}, whose DestinationRule wants TLS: that is supported \
                 for ports of protocol TLS, HTTPS and TCP only"
            ))
        })
    }

    fn transport(
        &mut self,
        service: &Service<'_>,
        subset: &str,
        payload: PayloadKind,
    ) -> (Transport, Option<ProfileRequest>) {
        if let Some(endpoint) = in_mesh_tls(service.entry, service.policy) {
            let of_requests = matches!(payload, PayloadKind::Http1 | PayloadKind::Http2);
            // Where every route goes to a subset, what the subsets' own policies say is all that counts.
            let is_silent =
                of_requests && subset.is_empty() && self.routed_away.to_subsets(service.host, service.port.number);
            return self.refused_in_mesh_tls(service, endpoint, is_silent);
        }
        let at = service.policy.and_then(|policy| policy.tls.as_ref()).map(|tls| &tls.at);
        let (refusal, request) = match wanted_by(service, payload) {
            Wanted::Plaintext => return (Transport::Plaintext, None),
            Wanted::Refused(reason) => (reason, None),
            Wanted::Tls(request) => match self.materials.profile(&request) {
                Ok(profile) => return (Transport::Tls(profile), Some(request)),
                Err(reason) => (reason, Some(request)),
            },
        };
        // On an undeclared port this is one of three ways to use it, and no reason to warn.
        if payload != PayloadKind::Tls || service.port.protocol != PortProtocol::Auto {
            let at: &Location = at.unwrap_or(&service.entry.meta.at);
            self.problems.warn(at, format!("{} is refused on port {}: {refusal}", service.host, service.port.number));
        }
        (Transport::Refused(refusal.into()), request)
    }

    fn refused_in_mesh_tls(
        &mut self,
        service: &Service<'_>,
        endpoint: &Endpoint,
        is_silent: bool,
    ) -> (Transport, Option<ProfileRequest>) {
        let (host, port, address) = (service.host, service.port.number, &endpoint.address);
        let reason = format!(
            "the endpoint {address} is in the mesh and expects its mutual TLS (serviceAccount or the label \
             security.istio.io/tlsMode), which needs certificates from Istio's control plane; set tls mode MUTUAL, SIMPLE or \
             DISABLE in a DestinationRule for {host}, or label the endpoint security.istio.io/tlsMode: disabled"
        );
        if !is_silent {
            self.problems.warn(&endpoint.at, format!("{host} is refused on port {port}: {reason}"));
        }
        (Transport::Refused(reason.into()), None)
    }

    fn origin(&self, service: &Service<'_>) -> Origin {
        let source = |meta: &Meta, namespace: &str| Source {
            namespace: namespace.to_owned(),
            name: meta.name.clone(),
            at: meta.at.clone(),
        };
        let entry = &service.entry.meta;
        Origin {
            service_entry: source(entry, self.workload.namespace_of(entry)),
            port: service.port.number,
            declared: service.port.protocol,
            location: service.entry.location,
            destination_rule: service.rule.map(|(rule, namespace)| source(&rule.meta, namespace)),
        }
    }
}
