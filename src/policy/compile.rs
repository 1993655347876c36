//! Resources → table. Walks the ServiceEntries that the workload sees, oldest first, and lets each port of each host
//! claim the flows that Istio would give it; a port that wins anything becomes a cluster.
//!
//! What cannot be computed (key material, addresses of names) is asked of [`Materials`]. Whatever a cluster lacks
//! refuses that cluster alone: the table is always made.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ipnet::IpNet;

use crate::config::{
    ByteRoute, ConnectPolicy, DestinationRule, Endpoint, EndpointAddress, HostPattern, LoadBalancer, Location, Meta,
    OutboundPolicy, PortPolicy, PortProtocol, Problem, Resolution, Resources, ServiceEntry, ServicePort, TlsMode,
    TunnelProtocol,
};
use crate::policy::authorized::Authorized;
use crate::policy::endpoints::{endpoints, in_mesh_tls};
use crate::policy::guarded::Guarded;
use crate::policy::imports::imported;
use crate::policy::listed_hosts::is_eligible;
use crate::policy::localities::arrange;
use crate::policy::materials::Materials;
use crate::policy::origination::{Carries, Context, Wanted, wanted};
use crate::policy::policy_table::PolicyTable;
use crate::policy::problems::Problems;
use crate::policy::reach::Reach;
use crate::policy::routed_away::RoutedAway;
use crate::policy::routes::{Claims, PortRoutes, Speaks, everything};
use crate::policy::rules::Rules;
pub(super) use crate::policy::rules::policy_of;
use crate::policy::scope::{Workload, oldest_first, outbound_policy, sidecar};
use crate::policy::short_names::ShortNames;
use crate::policy::sought::Sought;
use crate::policy::splits::{Pending, byte_services};
use crate::policy::table::{Cluster, ClusterProtocol, Endpoints, Origin, Source, Transport};
use crate::policy::traps;
use crate::policy::unlisted_port::UnlistedPort;
use crate::tls::ProfileRequest;

/// The table for one workload, and everything in the resources that will surprise its operator, in file order.
pub fn compile(
    resources: &Resources,
    workload: &Workload,
    materials: &mut dyn Materials,
) -> (PolicyTable, Vec<Problem>) {
    let seen = sidecar(resources, workload).and_then(|sidecar| imported(resources, sidecar, workload));
    Compiler::of(seen.as_ref().unwrap_or(resources), workload, materials).finish()
}

pub(super) struct Compiler<'a> {
    pub(super) workload: &'a Workload,
    materials: &'a mut dyn Materials,
    pub(super) rules: Rules<'a>,
    authorized: Authorized<'a>,
    pub(super) table: PolicyTable,
    pub(super) problems: Problems,
    /// Every host that some entry has, for rules that speak for none.
    pub(super) hosts: HashSet<HostPattern>,
    /// Those of them that plain requests can go to.
    pub(super) hosts_of_requests: HashSet<HostPattern>,
    pub(super) sought: Sought<'a>,
    routed_away: RoutedAway,
    /// Routes for bytes that have claimed something; a claim's split is the position here, and then in the table.
    pub(super) pending: Vec<Pending<'a>>,
    /// Clusters made for such routes, by name and whether they carry the application's TLS.
    pub(super) carrying: HashMap<(String, bool), Arc<Cluster>>,
    /// Routes that have claimed something.
    pub(super) used: HashSet<*const ByteRoute>,
}

/// One port of one host, with the policy that holds for it.
#[derive(Clone, Copy)]
pub(super) struct Service<'a> {
    pub(super) entry: &'a ServiceEntry,
    pub(super) host: &'a HostPattern,
    pub(super) port: &'a ServicePort,
    pub(super) rule: Option<(&'a DestinationRule, &'a str)>,
    pub(super) policy: Option<&'a PortPolicy>,
}

impl<'a> Compiler<'a> {
    /// Everything is added, and nothing finished.
    pub(super) fn of(resources: &'a Resources, workload: &'a Workload, materials: &'a mut dyn Materials) -> Self {
        let mut problems = Problems::new(resources.incomplete);
        let rules = Rules::visible(resources, workload, &mut problems);
        let mut settings = resources.settings.clone();
        settings.outbound_traffic_policy = outbound_policy(resources, workload);
        let mut entries = oldest_first(&resources.service_entries, |entry| &entry.meta);
        entries.retain(|entry| workload.sees(workload.namespace_of(&entry.meta), &entry.export_to));
        let short_names = Arc::new(ShortNames::of(&entries, &resources.virtual_services, workload));
        let authorized = Authorized::visible(resources, workload, &short_names, &mut problems);
        let elsewhere = authorized.everything();
        let automatic = materials.automatic_hosts().into_iter();
        let automatic = automatic.map(|(ip, host)| (ip, UnlistedPort::of(&host))).collect();
        let table = PolicyTable { settings, short_names, automatic, elsewhere, ..PolicyTable::default() };
        let mut compiler = Compiler {
            workload,
            materials,
            rules,
            authorized,
            table,
            problems,
            hosts: HashSet::new(),
            hosts_of_requests: HashSet::new(),
            sought: Sought::new(&entries, byte_services(&resources.virtual_services, workload), workload),
            routed_away: RoutedAway::of(&resources.virtual_services, workload),
            pending: Vec::new(),
            carrying: HashMap::new(),
            used: HashSet::new(),
        };
        for entry in &entries {
            compiler.add_entry(entry);
        }
        compiler.add_splits();
        compiler.add_virtual_services(&resources.virtual_services);
        compiler
    }

    fn finish(mut self) -> (PolicyTable, Vec<Problem>) {
        self.rules.warn_of_the_unused(&self.hosts, &mut self.problems);
        self.authorized.warn_of_the_unused(&mut self.problems);
        self.table.guarded = Guarded::of(&self.table.clusters, &self.table.services, self.materials);
        self.table.tunnel_ends.add_splits(&self.table.splits);
        (self.table, self.problems.into_sorted())
    }

    fn add_entry(&mut self, entry: &'a ServiceEntry) {
        traps::of_entry(entry, &mut self.problems);
        let namespace = self.workload.namespace_of(&entry.meta);
        for host in entry.hosts.iter().filter(|host| **host != HostPattern::Any) {
            self.hosts.insert(host.clone());
            if traps::has_requests(entry) {
                self.hosts_of_requests.insert(host.clone());
            }
            for port in entry.ports.iter().filter(|port| is_served(entry, port)) {
                let rule = self.rules.select(host, namespace, port.number);
                let policy = rule.and_then(|(rule, _)| Some(policy_of(rule.traffic_policy.as_ref()?, port.number)));
                if !self.routed_away.is(host, port.number) {
                    self.rules.warn_of_hidden_tls(host, namespace, port, &mut self.problems);
                }
                self.add_service(&Service { entry, host, port, rule, policy });
            }
        }
    }

    fn add_service(&mut self, service: &Service<'a>) {
        match service.port.protocol {
            PortProtocol::Http => self.add_http(service, Carries::Http1),
            PortProtocol::Http2 | PortProtocol::Grpc | PortProtocol::GrpcWeb => self.add_http(service, Carries::Http2),
            PortProtocol::Https | PortProtocol::Tls => self.add_tls(service),
            PortProtocol::Tcp | PortProtocol::Redis => self.add_bytes(service, Speaks::Either),
            PortProtocol::Mongo | PortProtocol::Mysql => self.add_bytes(service, Speaks::ServerFirst),
            PortProtocol::Auto => self.add_detected(service),
            PortProtocol::Udp => {}
        }
    }

    fn add_http(&mut self, service: &Service<'a>, carries: Carries) {
        let id = self.table.clusters.len();
        let (own, places) = (self.automatic(service), self.places(service));
        let may_be_another = self.table.settings.outbound_traffic_policy != OutboundPolicy::RegistryOnly
            && service.entry.resolution != Resolution::DynamicDns;
        let routes = self.routes(service);
        let claims = routes.claim_http(service.host, &places, id);
        if claims.won && may_be_another {
            routes.claim_unnamed_http(&own, id);
        }
        let protocol = if carries == Carries::Http2 { ClusterProtocol::Http2 } else { ClusterProtocol::Http1 };
        self.settle(service, &claims, protocol, carries);
    }

    fn add_tls(&mut self, service: &Service<'a>) {
        let id = self.table.clusters.len();
        let routed = self.claim_sni_routes(service, id);
        let places = self.places(service);
        let claims = routed.unwrap_or_else(|| self.routes(service).claim_tls(service.host, &places, id));
        self.settle(service, &claims, ClusterProtocol::Opaque, Carries::Tls);
    }

    fn add_bytes(&mut self, service: &Service<'a>, speaks: Speaks) {
        let id = self.table.clusters.len();
        let claims = self.claim_byte_routes(service, speaks, id);
        self.settle(service, &claims, ClusterProtocol::Opaque, Carries::Bytes);
    }

    /// A port without a declared protocol: requests by host, other bytes by address, and TLS of the application as such
    /// where a rule asks for TLS of ours.
    fn add_detected(&mut self, service: &Service<'a>) {
        let places = self.places(service);
        let id = self.table.clusters.len();
        let claims = self.routes(service).claim_detected_http(service.host, &places, id);
        self.settle(service, &claims, ClusterProtocol::SameAsClient, Carries::Http1);

        let bytes = self.table.clusters.len();
        let claims = self.claim_byte_routes(service, Speaks::Either, bytes);
        self.settle(service, &claims, ClusterProtocol::Opaque, Carries::Bytes);
        if claims.won
            && let Some(claims) = self.claim_detected_tls(service, bytes)
        {
            self.settle(service, &claims, ClusterProtocol::Opaque, Carries::Tls);
        }
    }

    /// Where the connections of a service may be going: to the addresses that its entry lists, else anywhere, and to those
    /// that stand for its host. A longer prefix comes first, so these tell apart what has no name.
    pub(super) fn places(&self, service: &Service<'_>) -> Vec<IpNet> {
        let own = self.automatic(service);
        if own.is_empty() { service.entry.addresses.clone() } else { [&everything()[..], &own].concat() }
    }

    fn automatic(&self, service: &Service<'_>) -> Vec<IpNet> {
        if !is_eligible(service.entry, service.host) {
            return Vec::new();
        }
        self.materials.automatic_addresses(service.host).into_iter().map(IpNet::from).collect()
    }

    pub(super) fn routes(&mut self, service: &Service<'_>) -> &mut PortRoutes {
        self.table.ports.entry(service.port.number).or_default()
    }

    /// Makes the cluster of what was won, and says what was lost.
    fn settle(&mut self, service: &Service<'a>, claims: &Claims, protocol: ClusterProtocol, carries: Carries) {
        for (what, owner) in &claims.lost {
            let owner = &self.table.clusters[*owner].origin.service_entry;
            if owner.at != service.entry.meta.at {
                let port = service.port.number;
                let rest = if self.automatic(service).is_empty() {
                    "this entry gets none of them"
                } else {
                    "this entry gets those alone that go to its automatic address, which applications know where DNS is \
                     captured (egret init --capture-dns)"
                };
                let message = format!("{what} on port {port} stay with the older ServiceEntry {owner}: {rest}");
                self.problems.warn(&service.port.at, message);
            }
        }
        if claims.won {
            let cluster = self.cluster(service, "", protocol, carries);
            self.add_cluster(service.host, cluster);
        }
    }

    pub(super) fn add_cluster(&mut self, host: &HostPattern, cluster: Cluster) -> Arc<Cluster> {
        let cluster = Arc::new(cluster);
        self.sought.remember(&cluster);
        if self.table.settings.connect_policy != ConnectPolicy::Deny {
            self.table.tunnel_ends.add(host, &cluster);
        }
        self.table.clusters.push(Arc::clone(&cluster));
        cluster
    }

    pub(super) fn cluster(
        &mut self,
        service: &Service<'_>,
        subset: &str,
        protocol: ClusterProtocol,
        carries: Carries,
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
                let transport = match self.tunnel_refusal(service, &endpoints, carries) {
                    None => self.transport(service, subset, carries),
                    Some(reason) => self.refused(service, &reason),
                };
                (endpoints, transport)
            }
            Err(reason) => (Endpoints::Resolved(Vec::new()), self.refused(service, &reason)),
        };
        let is_silent = matches!(transport, Transport::Refused(_)) || self.is_routed_away(service, carries);
        let requests = if is_silent { traps::Requests::Never } else { traps::Requests::Leave };
        traps::of_service(service, &endpoints, carries, requests, &mut self.problems);
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
            index: self.table.clusters.len(),
            reach: self.reach(service, protocol),
            listed: entry.addresses.clone(),
            authorization: self.authorized.of_entry(service.entry, &mut self.problems),
            origin: self.origin(service),
        }
    }

    /// Whether all requests to the port go elsewhere, by routes.
    fn is_routed_away(&self, service: &Service<'_>, carries: Carries) -> bool {
        matches!(carries, Carries::Http1 | Carries::Http2) && self.routed_away.is(service.host, service.port.number)
    }

    fn reach(&mut self, service: &Service<'_>, protocol: ClusterProtocol) -> Reach {
        // Bytes that no name led here may be of any of the entry's hosts.
        let by_name = matches!(service.port.protocol, PortProtocol::Https | PortProtocol::Tls);
        let hosts = match protocol {
            ClusterProtocol::Opaque if !by_name => &service.entry.hosts[..],
            _ => std::slice::from_ref(service.host),
        };
        let names = hosts.iter().filter_map(|host| match host {
            HostPattern::Exact(name) => Some(name),
            HostPattern::Wildcard(_) | HostPattern::Any => None,
        });
        let follows = service.entry.resolution == Resolution::None
            || service
                .policy
                .and_then(|policy| policy.load_balancer.as_ref())
                .is_some_and(|balancing| balancing.by == LoadBalancer::Passthrough);
        let strict = self.table.settings.strict && follows;
        Reach {
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
    fn tunnel_refusal(&mut self, service: &Service<'_>, endpoints: &Endpoints, carries: Carries) -> Option<String> {
        let tunnel = service.policy?.tunnel.as_ref()?;
        if tunnel.protocol == TunnelProtocol::Post {
            return Some("tunnel protocol POST is not supported: use CONNECT".to_owned());
        }
        let (Carries::Http1 | Carries::Http2, Endpoints::Resolved(sources)) = (carries, endpoints) else { return None };
        // The connection to the proxy is plain here, where its own rule might want another.
        let wants_tls = |proxy: &HostPattern, port: u16, rules: &mut Rules<'_>| {
            let (rule, _) = rules.select(proxy, self.workload.namespace_of(&service.entry.meta), port)?;
            let tls = policy_of(rule.traffic_policy.as_ref()?, port).tls.as_ref()?;
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
        carries: Carries,
    ) -> (Transport, Option<ProfileRequest>) {
        if let Some(endpoint) = in_mesh_tls(service.entry, service.policy) {
            let of_requests = matches!(carries, Carries::Http1 | Carries::Http2);
            // Where every route goes to a subset, what the subsets' own policies say is all that counts.
            let is_silent =
                of_requests && subset.is_empty() && self.routed_away.to_subsets(service.host, service.port.number);
            return self.refused_in_mesh_tls(service, endpoint, is_silent);
        }
        let at = service.policy.and_then(|policy| policy.tls.as_ref()).map(|tls| &tls.at);
        let (refusal, request) = match wanted_by(service, carries) {
            Wanted::Plaintext => return (Transport::Plaintext, None),
            Wanted::Refused(reason) => (reason, None),
            Wanted::Tls(request) => match self.materials.profile(&request) {
                Ok(profile) => return (Transport::Tls(profile), Some(request)),
                Err(reason) => (reason, Some(request)),
            },
        };
        // On an undeclared port this is one of three ways to use it, and no reason to warn.
        if carries != Carries::Tls || service.port.protocol != PortProtocol::Auto {
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
            destination_rule: service.rule.map(|(rule, namespace)| source(&rule.meta, namespace)),
        }
    }
}

/// Whether a port has clusters at all. DYNAMIC_DNS needs a name in what is said first; HTTPS would have one, but in Istio
/// that has no cluster either.
pub(super) fn is_served(entry: &ServiceEntry, port: &ServicePort) -> bool {
    use PortProtocol::{Grpc, GrpcWeb, Http, Http2, Tls, Udp};
    match entry.resolution {
        Resolution::DynamicDns => matches!(port.protocol, Http | Http2 | Grpc | GrpcWeb | Tls),
        _ => port.protocol != Udp,
    }
}

pub(super) fn wanted_by(service: &Service<'_>, carries: Carries) -> Wanted {
    // The application's own TLS goes through a tunnel, and ours ends at the forward proxy: no TLS in TLS for a server.
    let is_tunnelled = service.policy.is_some_and(|policy| policy.tunnel.is_some());
    let carries = if is_tunnelled && carries == Carries::Tls { Carries::Bytes } else { carries };
    let context = Context {
        port: service.port.number,
        carries,
        selects_workload: service.rule.is_some_and(|(rule, _)| rule.workload_selector.is_some()),
        entry_names: &service.entry.subject_alt_names,
        resolution: service.entry.resolution,
    };
    wanted(service.policy.and_then(|policy| policy.tls.as_ref()), &context)
}
